/* llamacpp.c - the routes of llama.cpp's own server: completion, and its small ones about templates
 * and properties; those about tokens are in tokenize.c.
 *
 * "model" picks among several models; without it the first that generates answers, or, about
 * tokens, the first there is. */
#include "api/llamacpp.h"

#include <stdio.h>

#include "api/api_int.h"

#define TOKENS_ANSWER_MAX (256 * SL_MIB)

static void respond_error(const api *a, http_exchange *x, const openai_error *e)
{
    api_respond_error_as(a, x, e, &llamacpp_dialect);
}

static void respond_status(const api *a, http_exchange *x, const sl_err *err)
{
    openai_error e = { 0 };

    openai_error_from(err, LLM_COMPLETE, &e);
    respond_error(a, x, &e);
}

/* Answers with the buffer, or with 503 when it failed. */
static void respond_buf(const api *a, http_exchange *x, const sl_buf *b)
{
    sl_err err = { 0 };

    err.status = sl_buf_ok(b, "answer", &err);
    if (err.status == SL_OK)
        http_respond(x, 200, "application/json", sl_buf_str(b), b->len);
    else
        respond_status(a, x, &err);
}

/* The model for questions about tokens: encoders have them too. */
static const llm_backend *find_backend(const api *a, const char *model, sl_err *err)
{
    const llm_backend *b = llm_chain_find(a->options.chain, model, LLM_COMPLETE);

    if (!b)
        b = llm_chain_find(a->options.chain, model, LLM_EMBED);
    if (!b)
        err->status = sl_fail(err, SL_ENOTFOUND, "The model '%s' does not exist", model);
    return b;
}

static sl_status tokenize(void *ctx, const char *model, const char *text, size_t len,
                          unsigned flags, int32_t *ids, size_t cap, size_t *ret_count, sl_err *err)
{
    const llm_backend *b = find_backend(ctx, model, err);

    if (!b)
        return SL_ENOTFOUND;
    if (!b->ops->tokenize)
        return sl_fail(err, SL_ENOTSUP, "This model does not tell its tokens");
    return b->ops->tokenize(b->ctx, text, len, flags, ids, cap, ret_count, err);
}

/* ---- completion ---------------------------------------------------------------------------- */

/* Answers repeat the prompt as text. Prompts of ids are put into words; where that is not possible
 * they stay empty, and the engine refuses the ids when it gets them. */
static void describe_prompts(const api *a, const llamacpp_call *call)
{
    llm_request *req = call->req;
    const llm_backend *b = llm_chain_find(a->options.chain, req->model, LLM_COMPLETE);
    sl_err err;
    sl_buf text;

    if (!b || !b->ops->detokenize)
        return;
    sl_buf_init(&text, OPENAI_ARENA_MAX);
    for (size_t i = 0; i < req->prompt_count; i++) {
        const llm_prompt *p = &req->prompts[i];
        char *copy = NULL;

        if (!p->ids)
            continue;
        sl_buf_clear(&text);
        if (b->ops->detokenize(b->ctx, p->ids, p->id_count, &text, &err) == SL_OK)
            copy = sl_arena_strndup(&req->arena, sl_buf_str(&text), text.len);
        if (copy)
            call->prompts[i] = sl_span_of(copy, text.len);
    }
    sl_buf_deinit(&text);
}

static void on_completion(api *a, http_exchange *x)
{
    sl_span body = http_body(x);
    openai_error error = { 0 };
    llm_model_info info;
    llamacpp_call call;
    const char *model;

    if (llamacpp_parse((const char *)body.ptr, body.len, (llamacpp_tokenizer){ tokenize, a }, &call,
                       &error) != SL_OK) {
        respond_error(a, x, &error);
        return;
    }
    describe_prompts(a, &call);
    model = answer_model(a, call.req, &info);
    answer_begin(a, x, call.req, llamacpp_encoder_create(&call, model), model);
}

/* ---- templates and properties -------------------------------------------------------------- */

static sl_status put_prompt(const api *a, const llm_request *req, sl_buf *out, sl_err *err)
{
    const llm_backend *b = llm_chain_find(a->options.chain, req->model, LLM_CHAT);
    sl_status status;
    sl_buf text;

    if (!b)
        return sl_fail(err, SL_ENOTFOUND, "The model '%s' does not exist", req->model);
    if (!b->ops->render)
        return sl_fail(err, SL_ENOTSUP, "This model has no chat template");
    sl_buf_init(&text, SL_TEMPLATE_OUTPUT_BYTES_MAX);
    status = b->ops->render(b->ctx, req, &text, err);
    sl_buf_puts(out, "{\"prompt\":");
    sl_buf_put_json(out, sl_buf_str(&text), text.len);
    sl_buf_puts(out, "}");
    sl_buf_deinit(&text);
    return status;
}

/* The body is a chat request's: what /v1/chat/completions refuses is refused here too. */
static void on_apply_template(api *a, http_exchange *x)
{
    sl_span body = http_body(x);
    openai_error error = { 0 };
    openai_call call;
    sl_err err = { 0 };
    sl_buf out;

    if (openai_parse(LLM_CHAT, (const char *)body.ptr, body.len, &call, &error) != SL_OK) {
        respond_error(a, x, &error);
        return;
    }
    sl_buf_init(&out, TOKENS_ANSWER_MAX);
    err.status = put_prompt(a, call.req, &out, &err);
    if (err.status == SL_OK)
        respond_buf(a, x, &out);
    else
        respond_status(a, x, &err);
    sl_buf_deinit(&out);
    llm_request_destroy(call.req);
}

static void put_props(const api *a, const llm_backend *b, const llm_request *req, sl_buf *out)
{
    llamacpp_call call = llamacpp_call_default();
    llm_model_info info = { 0 };
    sl_err err;
    sl_buf text;

    b->ops->info(b->ctx, &info);
    sl_buf_puts(out, "{\"default_generation_settings\":{\"params\":");
    llamacpp_put_settings(out, req, &call);
    sl_buf_printf(out, ",\"n_ctx\":%lld},\"total_slots\":%d,\"model_alias\":",
                  (long long)info.context_tokens, SL_MAX(info.seqs_max, 1));
    sl_buf_put_json(out, info.name, strlen(info.name));
    sl_buf_puts(out, ",\"model_path\":");
    sl_buf_put_json(out, info.name, strlen(info.name)); /* paths are nobody's business */
    sl_buf_puts(out, ",\"modalities\":{\"vision\":false,\"audio\":false},\"chat_template\":");
    sl_buf_init(&text, SL_TEMPLATE_BYTES_MAX);
    if (b->ops->chat_template && b->ops->chat_template(b->ctx, &text, &err) != SL_OK)
        sl_buf_clear(&text);
    sl_buf_put_json(out, sl_buf_str(&text), text.len);
    sl_buf_deinit(&text);
    sl_buf_puts(out, ",\"build_info\":\"sluice-");
    sl_buf_puts(out, SLUICE_VERSION "\",\"is_sleeping\":false}");
}

static void on_props(api *a, http_exchange *x)
{
    const char *model = http_query(x, "model");
    llm_request *req = llm_request_create(LLM_COMPLETE, SL_MIB);
    const llm_backend *b;
    sl_err err = { 0 };
    sl_buf out;

    sl_buf_init(&out, 16 * SL_MIB);
    if (!req) {
        err.status = sl_fail(&err, SL_ENOMEM, "out of memory");
        respond_status(a, x, &err);
    } else if (!(b = find_backend(a, model ? model : "", &err))) {
        respond_status(a, x, &err);
    } else {
        req->sampling = llamacpp_sampling_default();
        put_props(a, b, req, &out);
        respond_buf(a, x, &out);
    }
    sl_buf_deinit(&out);
    llm_request_destroy(req);
}

static void on_slots(api *a, http_exchange *x)
{
    static const openai_error e = {
        .http = 501,
        .type = "server_error",
        .message = "This server has no slots: sequences share one cache. See /props and /metrics",
    };

    respond_error(a, x, &e);
}

static const api_endpoint list[] = {
    { "POST", "/completion", on_completion, LLM_MAY_GENERATE, "Continue a text, llama.cpp's way",
      &llamacpp_completion_body, .streams = true },
    { "POST", "/completions", on_completion, LLM_MAY_GENERATE, "The same",
      &llamacpp_completion_body, .streams = true },
    { "POST", "/apply-template", on_apply_template, LLM_MAY_GENERATE,
      "Messages as the model reads them" },
    { "GET", "/props", on_props, LLM_MAY_MODELS_READ, "What the server was started with" },
    { "GET", "/slots", on_slots, LLM_MAY_MODELS_READ, "What is computed now" },
};
const api_endpoints llamacpp_endpoints = { &llamacpp_dialect, "llama.cpp", list,
                                           SL_COUNT_OF(list) };
