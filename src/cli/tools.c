/* tools.c - sluice tokenize, template and embed: the inside of a model, checkable from a shell. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "cli/cli.h"
#include "engine/engine.h"

#define INPUT_BYTES_MAX ((size_t)1 << 30)

static sl_status read_stdin(sl_buf *out, sl_err *err)
{
    char chunk[65536];
    size_t n;

    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0)
        sl_buf_put(out, chunk, n);
    if (ferror(stdin))
        return sl_fail(err, SL_EIO, "cannot read standard input: %s", strerror(errno));
    return sl_buf_ok(out, "standard input", err);
}

static sl_status open_vocab(const config *c, const char *model, model_file **ret_file,
                            token_vocab **ret_vocab, sl_err *err)
{
    SL_TRY(app_open_model(c, model, ret_file, err));
    return engine_load_vocab(*ret_file, ret_vocab, err);
}

/* ---- tokenize ----------------------------------------------------------------------------------
 */

/* printf would take longer than the tokenizer. */
static void put_id(sl_buf *b, int32_t id)
{
    char digits[12];
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + id % 10);
        id /= 10;
    } while (id > 0);
    sl_buf_put(b, digits + at, sizeof digits - at);
}

static sl_status print_ids(const token_vocab *v, const sl_buf *in, bool special, sl_err *err)
{
    token_ids ids = { 0 };
    sl_buf line;
    sl_status status =
        token_encode(v, sl_buf_str(in), in->len,
                     special ? TOKEN_ADD_SPECIAL | TOKEN_PARSE_SPECIAL : 0, &ids, err);

    sl_buf_init(&line, INPUT_BYTES_MAX);
    for (size_t i = 0; i < ids.count && status == SL_OK; i++) {
        if (i)
            sl_buf_putc(&line, ' ');
        put_id(&line, ids.ids[i]);
    }
    if (status == SL_OK)
        status = sl_buf_ok(&line, "token ids", err);
    if (status == SL_OK)
        printf("%s\n", sl_buf_str(&line));
    sl_buf_deinit(&line);
    token_ids_deinit(&ids);
    return status;
}

static sl_status print_text(const token_vocab *v, const sl_buf *in, bool special, sl_err *err)
{
    const char *p = sl_buf_str(in);
    token_decoder d;
    sl_buf out;

    sl_buf_init(&out, INPUT_BYTES_MAX);
    token_decoder_init(&d, v, true, special);
    for (;;) {
        char *end;
        long id;

        p += strspn(p, " \t\r\n,[]");
        if (!*p)
            break;
        id = strtol(p, &end, 10);
        if (end == p || id < 0 || (size_t)id >= token_count(v)) {
            sl_buf_deinit(&out);
            return sl_fail(err, SL_EFORMAT, "'%.20s' is not a token id below %zu", p,
                           token_count(v));
        }
        token_decoder_push(&d, (int32_t)id, &out);
        p = end;
    }
    token_decoder_finish(&d, &out);
    fwrite(sl_buf_str(&out), 1, out.len, stdout);
    sl_buf_deinit(&out);
    return SL_OK;
}

int cmd_tokenize(int argc, char **argv)
{
    cli_common common = { 0 };
    const char *model = NULL;
    bool no_special = false, decode = false;
    const cli_option options[] = {
        { "--model", 'm', CLI_TEXT, &model, "MODEL",
          "model or vocabulary: store name, file or directory" },
        { "--no-special", 0, CLI_FLAG, &no_special, NULL,
          "no BOS and the like; control tokens are plain text" },
        { "--decode", 0, CLI_FLAG, &decode, NULL, "ids on standard input, text out" },
        CLI_COMMON_OPTIONS(common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice tokenize -m MODEL [--no-special] [--decode]",
        "Text on standard input to token ids on one line, or the way back. Works on\n"
        "vocabulary-only GGUF files too.",
        options, NULL
    };
    config *c = NULL;
    model_file *file = NULL;
    token_vocab *v = NULL;
    sl_buf in;
    sl_err err = { 0 };
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    sl_buf_init(&in, INPUT_BYTES_MAX);
    status = cli_config(&common, true, &c, &err);
    if (status == SL_OK)
        status = open_vocab(c, model, &file, &v, &err);
    if (status == SL_OK)
        status = read_stdin(&in, &err);
    if (status == SL_OK)
        status =
            decode ? print_text(v, &in, !no_special, &err) : print_ids(v, &in, !no_special, &err);
    sl_buf_deinit(&in);
    token_vocab_destroy(v);
    model_file_close(file);
    config_destroy(c);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}

/* ---- template ----------------------------------------------------------------------------------
 */

/* The template's text: of a file, or of a model, whose BOS and EOS spellings come along. */
static sl_status template_text(const config *c, const char *model, const char *path, sl_buf *ret,
                               json_t *vars, sl_err *err)
{
    model_file *file = NULL;
    token_vocab *v = NULL;
    sl_span bos = { 0 }, eos = { 0 };
    sl_status status;

    if (path)
        return sl_file_read(path, SL_TEMPLATE_BYTES_MAX, ret, err);
    status = open_vocab(c, model, &file, &v, err);
    if (status == SL_OK)
        status = engine_chat_template(file, ret, err);
    if (status == SL_OK && token_bos(v) >= 0)
        bos = token_spelling(v, token_bos(v));
    if (status == SL_OK && token_eos(v) >= 0)
        eos = token_spelling(v, token_eos(v));
    if (bos.ptr && !json_object_get(vars, "bos_token"))
        json_object_set_new(vars, "bos_token", json_stringn((const char *)bos.ptr, bos.len));
    if (eos.ptr && !json_object_get(vars, "eos_token"))
        json_object_set_new(vars, "eos_token", json_stringn((const char *)eos.ptr, eos.len));
    token_vocab_destroy(v);
    model_file_close(file);
    return status;
}

static sl_status load_chat(const char *path, json_t **ret, sl_err *err)
{
    json_error_t jerr;

    if (!path)
        return sl_fail(err, SL_EINVAL, "which chat? Give --input CHAT.json");
    *ret = strcmp(path, "-") == 0 ? json_loadf(stdin, JSON_ALLOW_NUL, &jerr)
                                  : json_load_file(path, JSON_ALLOW_NUL, &jerr);
    if (!*ret)
        return sl_fail(err, SL_EINVAL, "%s: line %d: %s", path, jerr.line, jerr.text);
    if (!json_is_object(*ret))
        return sl_fail(err, SL_EINVAL, "%s: an object with \"messages\" is expected", path);
    return SL_OK;
}

int cmd_template(int argc, char **argv)
{
    cli_common common = { 0 };
    const char *model = NULL, *path = NULL, *input = NULL;
    const cli_option options[] = {
        { "--model", 'm', CLI_TEXT, &model, "MODEL", "take the template of this model" },
        { "--file", 0, CLI_TEXT, &path, "T.jinja", "take this template" },
        { "--input", 'i', CLI_TEXT, &input, "CHAT.json",
          "object with messages and other variables; - is standard input" },
        CLI_COMMON_OPTIONS(common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice template (-m MODEL | --file T.jinja) --input CHAT.json",
        "Renders a chat template with the variables of the input and prints the prompt.", options,
        NULL
    };
    config *c = NULL;
    json_t *vars = NULL;
    token_template *t = NULL;
    sl_buf text, out;
    sl_err err = { 0 };
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    if (!model == !path)
        return cli_usage("template takes either -m MODEL or --file T.jinja");
    sl_buf_init(&text, SL_TEMPLATE_BYTES_MAX);
    sl_buf_init(&out, SL_TEMPLATE_OUTPUT_BYTES_MAX);
    status = cli_config(&common, true, &c, &err);
    if (status == SL_OK)
        status = load_chat(input, &vars, &err);
    if (status == SL_OK)
        status = template_text(c, model, path, &text, vars, &err);
    if (status == SL_OK) {
        status = token_template_parse(sl_buf_str(&text), text.len, &t, &err);
        if (status == SL_OK)
            status = token_template_render(t, vars, sl_clock_wall_ms() / 1000, &out, &err);
        if (status != SL_OK) /* what the template says is no wrong use of the command */
            err.status = SL_EFORMAT;
    }
    if (status == SL_OK)
        fwrite(sl_buf_str(&out), 1, out.len, stdout);
    token_template_destroy(t);
    sl_buf_deinit(&text);
    sl_buf_deinit(&out);
    json_decref(vars);
    config_destroy(c);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}

/* ---- embed -------------------------------------------------------------------------------------
 */

/* Waits for one embedding request on the engine's thread. */
typedef struct embed_wait {
    pthread_mutex_t lock;
    pthread_cond_t done_cond;
    bool done;
    float **vectors; /* [count] */
    size_t dim;
    sl_err error;
} embed_wait;

static void on_embed(void *ctx, llm_request *req, const llm_event *ev)
{
    embed_wait *w = ctx;

    (void)req;
    if (ev->kind == LLM_EV_EMBEDDING) {
        w->dim = ev->vector_len;
        w->vectors[ev->choice] = sl_malloc(ev->vector_len * sizeof(float));
        if (w->vectors[ev->choice])
            memcpy(w->vectors[ev->choice], ev->vector, ev->vector_len * sizeof(float));
    }
    if (ev->kind == LLM_EV_ERROR)
        w->error = ev->error;
    if (ev->kind != LLM_EV_DONE)
        return;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->done_cond);
    pthread_mutex_unlock(&w->lock);
}

static void print_vector(const float *v, size_t dim)
{
    putchar('[');
    for (size_t i = 0; i < dim; i++)
        printf("%s%.9g", i ? "," : "", (double)v[i]);
    printf("]\n");
}

/* Lines [0, count) as one request; prints a vector per line. */
static sl_status embed_lines(llm_chain *chain, char **lines, size_t count, sl_err *err)
{
    llm_request *req = llm_request_create(LLM_EMBED, SL_HTTP_BODY_BYTES_MAX);
    embed_wait w = { .lock = PTHREAD_MUTEX_INITIALIZER, .done_cond = PTHREAD_COND_INITIALIZER };
    sl_status status = SL_ENOMEM;

    w.vectors = sl_calloc(count, sizeof *w.vectors);
    if (!req || !w.vectors ||
        !(req->prompts = sl_arena_alloc(&req->arena, count * sizeof *req->prompts)))
        status = sl_fail(err, SL_ENOMEM, "out of memory");
    else {
        req->prompt_count = count;
        for (size_t i = 0; i < count; i++)
            req->prompts[i] = (llm_prompt){ .text = lines[i], .text_len = strlen(lines[i]) };
        status = llm_chain_submit(chain, req, (llm_sink){ on_embed, &w }, err);
        pthread_mutex_lock(&w.lock);
        while (status == SL_OK && !w.done)
            pthread_cond_wait(&w.done_cond, &w.lock);
        pthread_mutex_unlock(&w.lock);
        if (status == SL_OK && w.error.status != SL_OK)
            status = sl_fail(err, w.error.status, "%s", w.error.text);
    }
    for (size_t i = 0; w.vectors && i < count; i++) {
        if (status == SL_OK && w.vectors[i])
            print_vector(w.vectors[i], w.dim);
        sl_free(w.vectors[i]);
    }
    sl_free(w.vectors);
    llm_request_destroy(req);
    return status;
}

static sl_status embed_input(llm_chain *chain, sl_buf *in, sl_err *err)
{
    char *lines[256], *p = in->ptr, *end = in->ptr + in->len;
    size_t count = 0;
    sl_status status = SL_OK;

    while (p && p < end && status == SL_OK) {
        char *nl = memchr(p, '\n', (size_t)(end - p));

        if (nl)
            *nl = '\0';
        lines[count++] = p;
        p = nl ? nl + 1 : end;
        if (count == SL_COUNT_OF(lines) || p >= end) {
            status = embed_lines(chain, lines, count, err);
            count = 0;
        }
    }
    return status;
}

int cmd_embed(int argc, char **argv)
{
    cli_common common = { 0 };
    const char *model = NULL;
    const cli_option options[] = {
        { "--model", 'm', CLI_TEXT, &model, "MODEL", "embedding model (default: minilm)" },
        CLI_COMMON_OPTIONS(common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice embed [-m MODEL]",
        "Embeds texts: one a line on standard input, a JSON array a line out.", options, NULL
    };
    config *c = NULL;
    app *a = NULL;
    sl_buf in;
    sl_err err = { 0 };
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    sl_buf_init(&in, INPUT_BYTES_MAX);
    status = cli_config(&common, true, &c, &err);
    if (status == SL_OK) {
        config_clear_models(c);
        status = config_add_model(c, model ? model : "minilm", &err);
    }
    if (status == SL_OK)
        status = app_create(c, APP_EMBED, &a, &err);
    if (status == SL_OK)
        status = read_stdin(&in, &err);
    if (status == SL_OK)
        status = embed_input(app_chain(a), &in, &err);
    sl_buf_deinit(&in);
    app_destroy(a);
    config_destroy(c);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}
