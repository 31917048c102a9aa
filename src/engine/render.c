/* render.c - a model's vocabulary and chat template, and messages through it. */
#include <stdio.h>

#include "base/log.h"
#include "base/os.h"
#include "engine/engine_int.h"

sl_status engine_load_vocab(const model_file *m, token_vocab **ret, sl_err *err)
{
    const gguf_dir *dir = model_file_gguf(m);

    if (dir)
        return token_vocab_from_gguf(dir, ret, err);
    if (!model_file_tokenizer(m).ptr)
        return sl_fail(err, SL_ENOTFOUND, "tokenizer.json is missing beside config.json");
    return token_vocab_from_json(model_file_tokenizer(m), model_file_tokenizer_config(m), ret, err);
}

/* What models without a template are given: ChatML, which most were trained on. */
static const char chatml[] = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + "
                             "'\\n' + message['content'] + "
                             "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
                             "'<|im_start|>assistant\\n' }}"
                             "{% endif %}";

static char *spelling(const token_vocab *v, int32_t id)
{
    sl_span s = id >= 0 ? token_spelling(v, id) : sl_span_of("", 0);

    return sl_strndup((const char *)s.ptr, s.len);
}

sl_status engine_chat_template(const model_file *m, sl_buf *out, sl_err *err)
{
    const gguf_dir *dir = model_file_gguf(m);
    sl_span config = model_file_tokenizer_config(m), text = { 0 };
    json_t *root = NULL, *t;

    if (dir) {
        text = gguf_get_str(dir, "tokenizer.chat_template");
    } else if (config.ptr) {
        root = json_loadb((const char *)config.ptr, config.len, 0, NULL);
        t = json_object_get(root, "chat_template");
        if (json_is_array(t)) /* named templates: the default one */
            for (size_t i = 0; i < json_array_size(t); i++) {
                json_t *item = json_array_get(t, i);
                const char *name = json_string_value(json_object_get(item, "name"));

                if (name && strcmp(name, "default") == 0) {
                    t = json_object_get(item, "template");
                    break;
                }
            }
        if (json_is_string(t))
            text = sl_span_str(json_string_value(t));
    }
    if (!text.ptr)
        text = sl_span_str(chatml);
    sl_buf_put(out, text.ptr, text.len);
    json_decref(root);
    return sl_buf_ok(out, "chat template", err);
}

sl_status engine_load_template(engine *e, sl_err *err)
{
    sl_buf text;
    sl_status status;

    e->bos = spelling(e->vocab, token_bos(e->vocab));
    e->eos = spelling(e->vocab, token_eos(e->vocab));
    e->templates = template_cache_create();
    if (!e->bos || !e->eos || !e->templates)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    sl_buf_init(&text, SL_TEMPLATE_BYTES_MAX);
    status = engine_chat_template(e->file, &text, err);
    if (status == SL_OK)
        status = token_template_parse(sl_buf_str(&text), text.len, &e->chat, err);
    sl_buf_deinit(&text);
    if (status != SL_OK) { /* completions still work */
        SL_LOG(SL_LOG_WARN, "model.chat_template_refused", SL_F_STR("model", e->name),
               SL_F_STR("error", err ? err->text : ""));
        e->chat = NULL;
    }
    return SL_OK;
}

/* ask: with the generation prompt. */
static sl_status render_messages(const engine *e, const token_template *chat,
                                 const llm_request *req, json_t *messages, bool ask, sl_buf *out,
                                 sl_err *err)
{
    json_t *vars = req->template_vars ? json_copy(req->template_vars) : json_object();
    sl_status status;

    if (!vars || json_object_set(vars, "messages", messages) != 0 ||
        json_object_set_new(vars, "add_generation_prompt", json_boolean(ask)) ||
        json_object_set_new(vars, "bos_token", json_string(e->bos)) != 0 ||
        json_object_set_new(vars, "eos_token", json_string(e->eos)) != 0 ||
        (req->tools && json_object_set(vars, "tools", req->tools) != 0)) {
        json_decref(vars);
        return sl_fail(err, SL_ENOMEM, "out of memory");
    }
    status = token_template_render(chat, vars, sl_clock_wall_ms() / 1000, out, err);
    json_decref(vars);
    if (status == SL_ELIMIT && chat != e->chat) /* of steps or memory: the caller's doing */
        status = SL_EINVAL;
    if (status == SL_EINVAL)
        return sl_err_prefix(err, status, "%s",
                             chat != e->chat ? "chat_template"
                                             : "the model's chat template refuses the messages");
    return status;
}

/* Stands behind the text that the model is to go on with; whether its space survives tells whether
 * the template keeps space there. */
#define CONTINUE_MARK "<|sluice-continue|> "

/* The messages with the mark behind the last one's text; the caller's. NULL: out of memory. */
static json_t *mark_final(const json_t *messages, const char *text)
{
    json_t *marked = json_copy((json_t *)(uintptr_t)messages);
    size_t last = json_array_size(messages) - 1;
    json_t *msg = json_copy(json_array_get(messages, last));

    if (!marked || !msg ||
        json_object_set_new(msg, "content", json_sprintf("%s" CONTINUE_MARK, text)) != 0 ||
        json_array_set(marked, last, msg) != 0) {
        json_decref(marked);
        marked = NULL;
    }
    json_decref(msg);
    return marked;
}

/* Cuts what was rendered from byte `from` on right before the mark. */
static sl_status cut_at_mark(sl_buf *out, size_t from, sl_err *err)
{
    size_t mark = sizeof CONTINUE_MARK - 2; /* without its space */
    const char *text = sl_buf_str(out), *at = NULL, *next = text + from;

    while ((next = memmem(next, out->len - (size_t)(next - text), CONTINUE_MARK, mark)))
        at = next++;
    if (!at)
        return sl_fail(err, SL_EINVAL,
                       "the model's chat template leaves out the text that is to be continued");
    if (at[mark] != ' ') /* it strips space, so the mark kept some in that would be gone */
        while (at > text + from && strchr(" \t\r\n", at[-1]))
            at--;
    out->len = (size_t)(at - text);
    out->ptr[out->len] = '\0';
    return SL_OK;
}

/* As render_messages, up to the end of the last message's text. */
static sl_status render_continued(const engine *e, const token_template *chat,
                                  const llm_request *req, sl_buf *out, sl_err *err)
{
    const json_t *last = json_array_get(req->messages, json_array_size(req->messages) - 1);
    const char *text = json_string_value(json_object_get(last, "content"));
    size_t from = out->len;
    json_t *marked;
    sl_status status;

    if (!text)
        return sl_fail(err, SL_EINVAL, "the last message has no text to continue");
    marked = mark_final(req->messages, text);
    if (!marked)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    status = render_messages(e, chat, req, marked, false, out, err);
    json_decref(marked);
    return status == SL_OK ? cut_at_mark(out, from, err) : status;
}

static sl_status render_with(const engine *e, const token_template *chat, const llm_request *req,
                             sl_buf *out, sl_err *err)
{
    if (req->continue_final)
        return render_continued(e, chat, req, out, err);
    return render_messages(e, chat, req, req->messages, !req->no_generation_prompt, out, err);
}

sl_status engine_render(const engine *e, const llm_request *req, sl_buf *out, sl_err *err)
{
    kept_template *own = NULL;
    sl_status status;

    if (!req->chat_template)
        return e->chat ? render_with(e, e->chat, req, out, err)
                       : sl_fail(err, SL_ENOTSUP, "the model '%s' has no usable chat template",
                                 e->name);
    SL_TRY(template_acquire(e->templates, req->chat_template, &own, err));
    status = render_with(e, template_of(own), req, out, err);
    template_release(e->templates, own);
    return status;
}
