/* tokenize.c - /tokenize and /detokenize, which three dialects share: the body's fields say whose
 * it is, and the answer and errors are in that dialect's shape.
 *
 *   content             llama.cpp  {"tokens":[...]}
 *   inputs              TGI        [{"id","text","start","stop"},...]
 *   prompt or messages  vLLM       {"count","max_model_len","tokens","token_strs"} */
#include "api/tokenize.h"

#include <strings.h>

#include "api/fields.h"
#include "api/llamacpp.h"
#include "api/tgi.h"

#define ANSWER_MAX (256 * SL_MIB)
#define IDS_FIRST  4096 /* most prompts have fewer */

/* ---- models -------------------------------------------------------------------------------- */

const llm_backend *tokens_backend(const api *a, const http_exchange *x, const char *model,
                                  llm_task task, sl_err *err)
{
    const llm_chain *chain = a->options.chain;
    const llm_backend *b = llm_chain_find(chain, model, task);

    if (!b && task == LLM_COMPLETE)
        b = llm_chain_find(chain, model, LLM_EMBED);
    if (!b) {
        err->status = sl_fail(err, SL_ENOTFOUND, "The model '%s' does not exist", model);
    } else if (!llm_caller_may_use(api_caller(x), llm_chain_name(chain, b))) {
        err->status = sl_fail(err, SL_EFORBIDDEN, "This key may not use the model '%s'",
                              llm_chain_name(chain, b));
        b = NULL;
    } else if (!b->ops->tokenize || !b->ops->detokenize) {
        err->status = sl_fail(err, SL_ENOTSUP, "This model does not tell its tokens");
        b = NULL;
    }
    return b;
}

/* Makes room for count ids. */
static bool grow(int32_t **ids, size_t *cap, size_t count)
{
    return sl_grow((void **)ids, cap, count, sizeof **ids, SL_HTTP_BODY_BYTES_MAX);
}

sl_status tokens_of_request(const api *a, const http_exchange *x, const llm_request *req,
                            int32_t **ret_ids, size_t *ret_count, sl_err *err)
{
    const llm_backend *b = tokens_backend(a, x, req->model, req->task, err);
    size_t cap = 0, count = ret_ids ? IDS_FIRST : 0;
    sl_status status = SL_OK;
    int32_t *ids = NULL;

    if (!b)
        return err->status;
    if (!b->ops->tokenize_request)
        return sl_fail(err, SL_ENOTSUP, "This model does not tell its tokens");
    do {
        if (ret_ids && !grow(&ids, &cap, count))
            status = sl_fail(err, SL_ENOMEM, "out of memory");
        else
            status = b->ops->tokenize_request(b->ctx, req, 0, ids, cap, &count, err);
    } while (status == SL_OK && ret_ids && count > cap);
    if (status != SL_OK) {
        sl_free(ids);
        return status;
    }
    if (ret_ids)
        *ret_ids = ids;
    *ret_count = count;
    return SL_OK;
}

/* As llamacpp_tokenizer wants it: the model is found already. */
static sl_status ids_of_text(void *ctx, const char *model, const char *text, size_t len,
                             unsigned flags, int32_t *ids, size_t cap, size_t *ret_count,
                             sl_err *err)
{
    const llm_backend *b = ctx;

    (void)model;
    return b->ops->tokenize(b->ctx, text, len, flags, ids, cap, ret_count, err);
}

/* ---- spans --------------------------------------------------------------------------------- */

/* A walk along the text, token by token. */
typedef struct span_walk {
    const char *text;
    size_t len, at; /* bytes */
    size_t chars;   /* code points that begin before `at` */
} span_walk;

static bool is_lead(char c)
{
    return ((unsigned char)c & 0xc0) != 0x80;
}

/* True when the token's bytes stand at byte `at`; vocabularies may have changed the case. */
static bool stands(const span_walk *w, size_t at, const char *token, size_t len)
{
    return at + len <= w->len && strncasecmp(w->text + at, token, len) == 0;
}

/* Finds the token at the walk's place or right behind white space; tokens may bring a space that
 * the text has not. *ret_from is where it begins, *ret_len its bytes there. */
static bool find(const span_walk *w, const char *token, size_t len, size_t *ret_from,
                 size_t *ret_len)
{
    size_t at = w->at;

    if (stands(w, at, token, len)) {
        *ret_from = at;
        *ret_len = len;
        return len > 0;
    }
    if (len > 1 && token[0] == ' ') {
        token++;
        len--;
    }
    while (at < w->len && strchr(" \t\r\n", w->text[at]))
        at++;
    *ret_from = at;
    *ret_len = len;
    return len > 0 && stands(w, at, token, len);
}

static void walk_to(span_walk *w, size_t to)
{
    for (; w->at < to; w->at++)
        w->chars += is_lead(w->text[w->at]);
}

static void put_span(span_walk *w, int32_t id, const sl_buf *token, sl_buf *out)
{
    size_t from, len, start, begin, end;

    if (!find(w, sl_buf_str(token), token->len, &from, &len)) {
        sl_buf_printf(out, "{\"id\":%d,\"text\":\"\",\"start\":0,\"stop\":0}", id);
        return;
    }
    walk_to(w, from);
    start = w->chars;
    begin = from;
    if (!is_lead(w->text[from])) { /* a piece of a character stands for all of it */
        start--;
        while (begin > 0 && !is_lead(w->text[begin]))
            begin--;
    }
    walk_to(w, from + len);
    for (end = w->at; end < w->len && !is_lead(w->text[end]);)
        end++;
    sl_buf_printf(out, "{\"id\":%d,\"text\":", id);
    sl_buf_put_json(out, w->text + begin, end - begin);
    sl_buf_printf(out, ",\"start\":%zu,\"stop\":%zu}", start, w->chars);
}

sl_status tokens_put_spans(const llm_backend *b, const int32_t *ids, size_t count, const char *text,
                           size_t len, sl_buf *out, sl_err *err)
{
    span_walk w = { .text = text, .len = len };
    sl_status status = SL_OK;
    sl_buf token;

    sl_buf_init(&token, SL_MIB);
    sl_buf_putc(out, '[');
    for (size_t i = 0; i < count && status == SL_OK; i++) {
        if (i > 0)
            sl_buf_putc(out, ',');
        sl_buf_clear(&token);
        status = b->ops->detokenize(b->ctx, &ids[i], 1, &token, err);
        put_span(&w, ids[i], &token, out);
    }
    sl_buf_putc(out, ']');
    sl_buf_deinit(&token);
    return status;
}

/* ---- bodies -------------------------------------------------------------------------------- */

typedef struct tokenize_call {
    llm_request *req; /* holds the model's name and vLLM's messages */
    const json_t *content;
    const char *inputs, *prompt; /* NULL: not given */
    bool add_special, parse_special, with_pieces;
    bool add_special_tokens, return_token_strs;
    bool add_generation_prompt, continue_final;
} tokenize_call;

static sl_status take_content(const json_t *v, const field_rule *rule, const field_target *to,
                              openai_error *err)
{
    tokenize_call *call = to->call;

    (void)rule;
    (void)err;
    call->content = v;
    return SL_OK;
}

static sl_status take_messages(const json_t *v, const field_rule *rule, const field_target *to,
                               openai_error *err)
{
    (void)rule;
    return openai_take_messages(v, to->req, err);
}

static sl_status take_vars(const json_t *v, const field_rule *rule, const field_target *to,
                           openai_error *err)
{
    if (!json_is_object(v))
        return openai_refuse(err, rule->name, "invalid_type", "'%s' must be an object", rule->name);
    to->req->template_vars = json_incref((json_t *)(uintptr_t)v);
    return SL_OK;
}

#define MODEL                                                                                      \
    {                                                                                              \
        .name = "model", .kind = FIELD_OTHER, .take = take_model_name,                             \
        .json_schema = "{\"type\":\"string\"}", .help = "missing: the first that generates text"   \
    }
#define FLAG(field_name, member, text)                                                             \
    {                                                                                              \
        .name = field_name, .kind = FIELD_BOOL, IN_CALL(tokenize_call, member), .help = text       \
    }

static const field_rule tokenize_rules[] = {
    MODEL,
    { .name = "content",
      .kind = FIELD_OTHER,
      .take = take_content,
      .json_schema = "{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":{\"oneOf\":"
                     "[{\"type\":\"string\"},{\"type\":\"integer\"}]}}]}",
      .help = "llama.cpp: text, or texts and token ids" },
    FLAG("add_special", add_special, "llama.cpp: BOS and the like; default false"),
    FLAG("parse_special", parse_special, "llama.cpp: spelled control tokens; default true"),
    FLAG("with_pieces", with_pieces, "llama.cpp: the tokens' texts too"),
    { .name = "inputs",
      .kind = FIELD_STR,
      IN_CALL(tokenize_call, inputs),
      .help = "TGI: text; the answer is an array with places" },
    { .name = "prompt", .kind = FIELD_STR, IN_CALL(tokenize_call, prompt), .help = "vLLM: text" },
    { .name = "messages",
      .kind = FIELD_OTHER,
      .take = take_messages,
      .json_schema = "{\"type\":\"array\",\"items\":{\"type\":\"object\"}}",
      .help = "vLLM: a conversation, through the chat template" },
    FLAG("add_special_tokens", add_special_tokens,
         "vLLM, TGI: BOS and the like; default true; templates bring their own"),
    FLAG("return_token_strs", return_token_strs, "vLLM: the tokens' texts too"),
    FLAG("add_generation_prompt", add_generation_prompt, "vLLM: default true"),
    FLAG("continue_final_message", continue_final, "vLLM: the last message stays open"),
    { .name = "chat_template_kwargs",
      .kind = FIELD_OTHER,
      .take = take_vars,
      .json_schema = "{\"type\":\"object\"}",
      .help = "vLLM: variables of the chat template" },
    { .name = "chat_template", .kind = FIELD_OTHER, .support = FIELD_REFUSED },
    { .name = "tools", .kind = FIELD_OTHER, .support = FIELD_REFUSED_TRUE },
    { .name = "mm_processor_kwargs", .kind = FIELD_OTHER, .support = FIELD_REFUSED_TRUE },
};
const body_schema tokenize_body = { .name = "TokenizeRequest",
                                    .rules = tokenize_rules,
                                    .count = SL_COUNT_OF(tokenize_rules) };

/* Whose body it is. */
static const api_dialect *dialect_of(const json_t *root)
{
    if (field(root, "content"))
        return &llamacpp_dialect;
    if (field(root, "inputs"))
        return &tgi_dialect;
    return field(root, "prompt") || field(root, "messages") ? &openai_dialect : &llamacpp_dialect;
}

static sl_status parse_tokenize(const json_t *root, tokenize_call *call, openai_error *err)
{
    const field_target to = { .req = call->req, .call = call };

    SL_TRY(body_read(&tokenize_body, root, &to, err));
    if (!call->req->messages)
        return SL_OK;
    if (call->continue_final && call->add_generation_prompt)
        return openai_refuse(err, "continue_final_message", "invalid_value",
                             "'continue_final_message' needs 'add_generation_prompt' set to false");
    call->req->task = LLM_CHAT;
    call->req->continue_final = call->continue_final;
    call->req->no_generation_prompt = !call->add_generation_prompt;
    return SL_OK;
}

/* ---- llama.cpp's answer -------------------------------------------------------------------- */

/* A piece is a string, or an array of bytes when it is no UTF-8. */
static void put_piece(sl_buf *out, int32_t id, const sl_buf *piece)
{
    sl_buf_printf(out, "{\"id\":%d,\"piece\":", id);
    if (sl_utf8_valid(sl_buf_str(piece), piece->len)) {
        sl_buf_put_json(out, sl_buf_str(piece), piece->len);
    } else {
        for (size_t i = 0; i < piece->len; i++)
            sl_buf_printf(out, "%s%d", i ? "," : "[", (unsigned char)piece->ptr[i]);
        sl_buf_putc(out, ']');
    }
    sl_buf_putc(out, '}');
}

/* The ids, each as itself, as its piece, or as a string. */
typedef enum id_shape {
    ID_NUMBER,
    ID_PIECE,
    ID_STRING,
} id_shape;

static sl_status put_ids(const llm_backend *b, const llamacpp_ids *ids, id_shape shape, sl_buf *out,
                         sl_err *err)
{
    sl_status status = SL_OK;
    sl_buf piece;

    sl_buf_init(&piece, SL_MIB);
    sl_buf_putc(out, '[');
    for (size_t i = 0; i < ids->count && status == SL_OK; i++) {
        if (i > 0)
            sl_buf_putc(out, ',');
        if (shape == ID_NUMBER) {
            sl_buf_printf(out, "%d", ids->ids[i]);
            continue;
        }
        sl_buf_clear(&piece);
        status = b->ops->detokenize(b->ctx, &ids->ids[i], 1, &piece, err);
        if (shape == ID_PIECE)
            put_piece(out, ids->ids[i], &piece);
        else
            sl_buf_put_json(out, sl_buf_str(&piece), piece.len);
    }
    sl_buf_putc(out, ']');
    sl_buf_deinit(&piece);
    return status;
}

/* ---- all answers --------------------------------------------------------------------------- */

static sl_status put_llamacpp(const llm_backend *b, const tokenize_call *call,
                              const llamacpp_ids *ids, sl_buf *out, sl_err *err)
{
    sl_status status;

    sl_buf_puts(out, "{\"tokens\":");
    status = put_ids(b, ids, call->with_pieces ? ID_PIECE : ID_NUMBER, out, err);
    sl_buf_putc(out, '}');
    return status;
}

static sl_status put_vllm(const llm_backend *b, const tokenize_call *call, const llamacpp_ids *ids,
                          sl_buf *out, sl_err *err)
{
    llm_model_info info = { 0 };

    b->ops->info(b->ctx, &info);
    sl_buf_printf(out, "{\"count\":%zu,\"max_model_len\":%lld,\"tokens\":", ids->count,
                  (long long)info.context_tokens);
    SL_TRY(put_ids(b, ids, ID_NUMBER, out, err));
    sl_buf_puts(out, ",\"token_strs\":");
    if (call->return_token_strs)
        SL_TRY(put_ids(b, ids, ID_STRING, out, err));
    else
        sl_buf_puts(out, "null");
    sl_buf_putc(out, '}');
    return SL_OK;
}

/* The ids that the body asks for. */
static sl_status find_ids(const api *a, const http_exchange *x, const llm_backend *b,
                          const tokenize_call *call, llamacpp_ids *ret, openai_error *error)
{
    const llamacpp_tokenizer tokenizer = { ids_of_text, (void *)(uintptr_t)b };
    const char *text = call->inputs ? call->inputs : call->prompt;
    unsigned parse = call->parse_special ? LLM_PARSE_SPECIAL : 0;
    unsigned add = call->add_special ? LLM_ADD_SPECIAL : 0;
    sl_status status = SL_OK;
    sl_err err = { 0 };
    json_t *copy;

    if (call->content)
        return llamacpp_take_ids(call->content, "content", "", parse | add, tokenizer, ret, error);
    if (text) {
        copy = json_string(text);
        if (!copy)
            return refuse_size(error);
        add = call->add_special_tokens ? LLM_ADD_SPECIAL : 0;
        status = llamacpp_take_ids(copy, call->inputs ? "inputs" : "prompt", "",
                                   LLM_PARSE_SPECIAL | add, tokenizer, ret, error);
        json_decref(copy);
    } else if (call->req->messages) {
        err.status = tokens_of_request(a, x, call->req, &ret->ids, &ret->count, &err);
        status = err.status;
        if (status != SL_OK)
            openai_error_from(&err, LLM_CHAT, error);
    }
    return status; /* nothing given: no tokens, as llama.cpp answers */
}

static sl_status put_tokens(const api *a, const http_exchange *x, const tokenize_call *call,
                            sl_buf *out, openai_error *error)
{
    llamacpp_ids ids = { 0 };
    sl_err err = { 0 };
    const llm_backend *b = tokens_backend(a, x, call->req->model, call->req->task, &err);
    sl_status status = b ? find_ids(a, x, b, call, &ids, error) : err.status;

    if (b && status != SL_OK) { /* error is set */
        sl_free(ids.ids);
        return status;
    }
    if (b && call->inputs && !call->content)
        status =
            tokens_put_spans(b, ids.ids, ids.count, call->inputs, strlen(call->inputs), out, &err);
    else if (b && !call->content && (call->prompt || call->req->messages))
        status = put_vllm(b, call, &ids, out, &err);
    else if (b)
        status = put_llamacpp(b, call, &ids, out, &err);
    if (status == SL_OK)
        status = sl_buf_ok(out, "answer", &err);
    if (status != SL_OK)
        openai_error_from(&err, call->req->task, error);
    sl_free(ids.ids);
    return status;
}

static sl_status answer_tokenize(const api *a, const http_exchange *x, const json_t *root,
                                 sl_buf *out, openai_error *error)
{
    tokenize_call call = { .parse_special = true,
                           .add_special_tokens = true,
                           .add_generation_prompt = true };
    sl_status status;

    call.req = llm_request_create(LLM_COMPLETE, OPENAI_ARENA_MAX);
    if (!call.req)
        return refuse_size(error);
    status = parse_tokenize(root, &call, error);
    if (status == SL_OK)
        status = put_tokens(a, x, &call, out, error);
    llm_request_destroy(call.req);
    return status;
}

static void on_tokenize(api *a, http_exchange *x)
{
    sl_span body = http_body(x);
    openai_error error = { 0 };
    json_t *root = NULL;
    sl_status status;
    sl_buf out;

    sl_buf_init(&out, ANSWER_MAX);
    status = parse_object((const char *)body.ptr, body.len, &root, &error);
    if (status == SL_OK)
        status = answer_tokenize(a, x, root, &out, &error);
    if (status == SL_OK)
        http_respond(x, 200, "application/json", sl_buf_str(&out), out.len);
    else
        api_respond_error_as(a, x, &error, dialect_of(root));
    json_decref(root);
    sl_buf_deinit(&out);
}

/* ---- and back ------------------------------------------------------------------------------ */

typedef struct detokenize_call {
    llm_request *req; /* holds the model's name */
    llamacpp_ids ids;
} detokenize_call;

static sl_status take_tokens(const json_t *v, const field_rule *rule, const field_target *to,
                             openai_error *err)
{
    detokenize_call *call = to->call;
    size_t count = json_array_size(v);

    if (!json_is_array(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "'tokens' must be an array of token ids, but is %s", json_kind(v));
    if (!grow(&call->ids.ids, &call->ids.cap, count + 1))
        return refuse_size(err);
    for (size_t i = 0; i < count; i++) {
        if (!field_is_token(json_array_get(v, i)))
            return openai_refuse(err, rule->name, "invalid_value", "'tokens[%zu]' is no token id",
                                 i);
        call->ids.ids[call->ids.count++] = (int32_t)json_integer_value(json_array_get(v, i));
    }
    return SL_OK;
}

static const field_rule detokenize_rules[] = {
    MODEL,
    { .name = "tokens",
      .kind = FIELD_OTHER,
      .take = take_tokens,
      .json_schema = "{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"minimum\":0}}" },
};
const body_schema detokenize_body = { .name = "DetokenizeRequest",
                                      .rules = detokenize_rules,
                                      .count = SL_COUNT_OF(detokenize_rules) };

/* The text under the names that llama.cpp and vLLM have for it. */
static sl_status put_content(const llm_backend *b, const llamacpp_ids *ids, sl_buf *out,
                             sl_err *err)
{
    sl_status status;
    sl_buf text;

    sl_buf_init(&text, ANSWER_MAX);
    status = b->ops->detokenize(b->ctx, ids->ids, ids->count, &text, err);
    sl_buf_puts(out, "{\"content\":");
    sl_buf_put_json(out, sl_buf_str(&text), text.len);
    sl_buf_puts(out, ",\"prompt\":");
    sl_buf_put_json(out, sl_buf_str(&text), text.len);
    sl_buf_putc(out, '}');
    sl_buf_deinit(&text);
    return status == SL_OK ? sl_buf_ok(out, "answer", err) : status;
}

static sl_status answer_detokenize(const api *a, const http_exchange *x, const json_t *root,
                                   detokenize_call *call, sl_buf *out, openai_error *error)
{
    const field_target to = { .req = call->req, .call = call };
    const llm_backend *b;
    sl_err err = { 0 };

    if (!call->req)
        return refuse_size(error);
    SL_TRY(body_read(&detokenize_body, root, &to, error));
    b = tokens_backend(a, x, call->req->model, LLM_COMPLETE, &err);
    if (b)
        err.status = put_content(b, &call->ids, out, &err);
    if (err.status != SL_OK)
        openai_error_from(&err, LLM_COMPLETE, error);
    return err.status;
}

static void on_detokenize(api *a, http_exchange *x)
{
    detokenize_call call = { .req = llm_request_create(LLM_COMPLETE, SL_MIB) };
    sl_span body = http_body(x);
    openai_error error = { 0 };
    json_t *root = NULL;
    sl_status status;
    sl_buf out;

    sl_buf_init(&out, ANSWER_MAX);
    status = parse_object((const char *)body.ptr, body.len, &root, &error);
    if (status == SL_OK)
        status = answer_detokenize(a, x, root, &call, &out, &error);
    if (status == SL_OK)
        http_respond(x, 200, "application/json", sl_buf_str(&out), out.len);
    else
        api_respond_error_as(a, x, &error, &llamacpp_dialect);
    json_decref(root);
    llm_request_destroy(call.req);
    sl_free(call.ids.ids);
    sl_buf_deinit(&out);
}

static const api_endpoint list[] = {
    { "POST", "/tokenize", on_tokenize, LLM_MAY_GENERATE,
      "The tokens of a text: llama.cpp's, TGI's and vLLM's", &tokenize_body },
    { "POST", "/detokenize", on_detokenize, LLM_MAY_GENERATE,
      "The text of tokens: llama.cpp's and vLLM's", &detokenize_body },
};
const api_endpoints tokenize_endpoints = { &llamacpp_dialect, "Tokens", list, SL_COUNT_OF(list) };
