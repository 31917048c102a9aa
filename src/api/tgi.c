/* tgi.c - the handlers of TGI's routes. */
#include "api/tgi.h"

#include <stdio.h>

#include "api/api_int.h"
#include "api/fields.h"
#include "api/tokenize.h"

#define ANSWER_MAX (256 * SL_MIB)

static void respond_error(const api *a, http_exchange *x, const openai_error *e)
{
    api_respond_error_as(a, x, e, &tgi_dialect);
}

static void respond_status(const api *a, http_exchange *x, const sl_err *err)
{
    openai_error e = { 0 };

    openai_error_from(err, LLM_COMPLETE, &e);
    respond_error(a, x, &e);
}

/* ---- generation ---------------------------------------------------------------------------- */

static void generate_as(api *a, http_exchange *x, tgi_form form)
{
    sl_span body = http_body(x);
    openai_error error = { 0 };
    llm_model_info info;
    tgi_call call;
    const char *model;

    if (tgi_parse(form, (const char *)body.ptr, body.len, &call, &error) != SL_OK) {
        respond_error(a, x, &error);
        return;
    }
    model = answer_model(a, call.req, &info);
    answer_begin(a, x, call.req, tgi_encoder_create(&call, http_started_ns(x)), model);
}

static void generate(api *a, http_exchange *x)
{
    generate_as(a, x, TGI_GENERATE);
}

static void generate_stream(api *a, http_exchange *x)
{
    generate_as(a, x, TGI_STREAM);
}

static void compat(api *a, http_exchange *x)
{
    generate_as(a, x, TGI_COMPAT);
}

static void vertex(api *a, http_exchange *x)
{
    generate_as(a, x, TGI_VERTEX);
}

/* SageMaker's one path: the body's fields say which dialect it is. */
static void invocations(api *a, http_exchange *x)
{
    sl_span body = http_body(x);
    openai_error error = { 0 };
    json_t *root = NULL;
    bool is_chat, is_completion;

    if (parse_object((const char *)body.ptr, body.len, &root, &error) != SL_OK) {
        respond_error(a, x, &error);
        return;
    }
    is_chat = field(root, "messages") && !field(root, "inputs");
    is_completion = field(root, "prompt") && !field(root, "inputs");
    json_decref(root);
    if (is_chat)
        openai_handle(a, x, LLM_CHAT);
    else if (is_completion)
        openai_handle(a, x, LLM_COMPLETE);
    else
        generate_as(a, x, TGI_COMPAT);
}

/* ---- tokens -------------------------------------------------------------------------------- */

static sl_status put_chat_tokens(const api *a, const http_exchange *x, const llm_request *req,
                                 sl_buf *out, sl_err *err)
{
    const llm_backend *b = tokens_backend(a, x, req->model, req->task, err);
    int32_t *ids = NULL;
    size_t count = 0;
    sl_status status;
    sl_buf text;

    if (!b)
        return err->status;
    if (!b->ops->render)
        return sl_fail(err, SL_ENOTSUP, "This model has no chat template");
    sl_buf_init(&text, SL_TEMPLATE_OUTPUT_BYTES_MAX);
    status = b->ops->render(b->ctx, req, &text, err);
    if (status == SL_OK)
        status = tokens_of_request(a, x, req, &ids, &count, err);
    sl_buf_puts(out, "{\"tokenize_response\":");
    if (status == SL_OK)
        status = tokens_put_spans(b, ids, count, sl_buf_str(&text), text.len, out, err);
    sl_buf_puts(out, ",\"templated_text\":");
    sl_buf_put_json(out, sl_buf_str(&text), text.len);
    sl_buf_putc(out, '}');
    sl_buf_deinit(&text);
    sl_free(ids);
    return status == SL_OK ? sl_buf_ok(out, "answer", err) : status;
}

/* The body is a chat request's: what /v1/chat/completions refuses is refused here too. */
static void chat_tokenize(api *a, http_exchange *x)
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
    sl_buf_init(&out, ANSWER_MAX);
    err.status = put_chat_tokens(a, x, call.req, &out, &err);
    if (err.status == SL_OK)
        http_respond(x, 200, "application/json", sl_buf_str(&out), out.len);
    else
        respond_status(a, x, &err);
    sl_buf_deinit(&out);
    llm_request_destroy(call.req);
}

/* ---- what there is ------------------------------------------------------------------------- */

static void info(api *a, http_exchange *x)
{
    const llm_backend *b = llm_chain_find(a->options.chain, http_query(x, "model"), LLM_COMPLETE);
    llm_model_info about = { 0 };
    sl_err err = { 0 };
    sl_buf out;

    if (!b) {
        err.status = sl_fail(&err, SL_ENOTFOUND, "There is no such model that generates text");
        respond_status(a, x, &err);
        return;
    }
    b->ops->info(b->ctx, &about);
    sl_buf_init(&out, 16 * SL_KIB);
    sl_buf_puts(&out, "{\"model_id\":");
    sl_buf_put_json(&out, about.name, strlen(about.name));
    sl_buf_puts(&out, ",\"model_sha\":null,\"model_pipeline_tag\":\"text-generation\"");
    sl_buf_printf(&out,
                  ",\"max_concurrent_requests\":%d,\"max_best_of\":%d,\"max_stop_sequences\""
                  ":%d,\"max_top_n_tokens\":%d",
                  SL_MAX(about.seqs_max, 1), TGI_BEST_OF_MAX, SL_STOPS_MAX, SL_TOP_LOGPROBS_MAX);
    sl_buf_printf(&out, ",\"max_input_tokens\":%lld,\"max_total_tokens\":%lld",
                  (long long)SL_MAX(about.context_tokens - 1, 0), (long long)about.context_tokens);
    sl_buf_printf(&out, ",\"validation_workers\":1,\"max_client_batch_size\":%d", SL_PROMPTS_MAX);
    sl_buf_puts(&out, ",\"router\":\"sluice\",\"version\":\"" SLUICE_VERSION
                      "\",\"sha\":null,\"docker_label\":null}");
    http_respond_buf(x, 200, "application/json", &out);
}

static void ping(api *a, http_exchange *x)
{
    static const char no[] = "{\"error\":\"unhealthy\",\"error_type\":\"healthcheck\"}";

    if (atomic_load(&a->ready))
        http_respond(x, 200, "application/json", "{}", 2);
    else
        http_respond(x, 503, "application/json", no, sizeof no - 1);
}

static const api_endpoint list[] = {
    { "POST", "/generate", generate, LLM_MAY_GENERATE, "Continue a text, TGI's way",
      &tgi_generate_body },
    { "POST", "/generate_stream", generate_stream, LLM_MAY_GENERATE, "The same as a stream",
      &tgi_generate_body, .answer = "text/event-stream" },
    { "POST", "/", compat, LLM_MAY_GENERATE, "Either of the two, as 'stream' says",
      &tgi_compat_body, .streams = true },
    { "POST", "/invocations", invocations, LLM_MAY_GENERATE,
      "SageMaker's path: TGI's or OpenAI's body", &tgi_compat_body, .streams = true },
    { "POST", "/vertex", vertex, LLM_MAY_GENERATE, "Vertex AI's path: several inputs",
      &tgi_vertex_body },
    { "POST", "/chat_tokenize", chat_tokenize, LLM_MAY_GENERATE,
      "The tokens of a conversation's prompt", &openai_chat_body },
    { "GET", "/info", info, LLM_MAY_MODELS_READ, "The model and its limits" },
    { "GET", "/ping", ping, 0, "200 when requests are served, 503 otherwise" },
    { "POST", "/ping", ping, 0, "The same, as vLLM has it" },
};
const api_endpoints tgi_endpoints = { &tgi_dialect, "TGI", list, SL_COUNT_OF(list) };
