/* ollama.c - Ollama's routes that ask a model, and the table of all of them. What manages models is
 * in ollama_models.c. */
#include "api/ollama.h"

#include <stdio.h>

#include "api/api_int.h"
#include "api/ollama_int.h"
#include "base/log.h"

static void respond_error(const api *a, http_exchange *x, const openai_error *e)
{
    api_respond_error_as(a, x, e, &ollama_dialect);
}

void ollama_not_found(const api *a, http_exchange *x, const char *model)
{
    openai_error e = { .http = 404, .type = "invalid_request_error", .code = "model_not_found" };

    snprintf(e.message, sizeof e.message, "model '%.200s' not found", model);
    respond_error(a, x, &e);
}

/* Answers when the model does not exist or cannot do what is asked. */
static bool check_model(const api *a, http_exchange *x, const ollama_call *call)
{
    static const char *const verbs[OLLAMA_KIND_COUNT] = { "generate", "chat", "embeddings",
                                                          "embeddings" };
    const llm_request *req = call->req;
    const llm_backend *b = llm_chain_find(a->options.chain, req->model, req->task);
    llm_model_info info;
    openai_error e = { 0 };

    if (!b || !req->model[0]) {
        ollama_not_found(a, x, req->model);
        return false;
    }
    b->ops->info(b->ctx, &info);
    if (req->task == LLM_EMBED ? info.can_embed : info.can_generate)
        return true;
    openai_refuse(&e, "model", "invalid_value", "\"%s\" does not support %s", req->model,
                  verbs[call->kind]);
    respond_error(a, x, &e);
    return false;
}

static void warn_unknown(const http_exchange *x, const ollama_call *call)
{
    if (call->unknown_count > 0)
        SL_LOG(SL_LOG_WARN, "ollama.options_ignored", SL_F_STR("request_id", http_request_id(x)),
               SL_F_STR("first", call->unknown), SL_F_NUM("count", call->unknown_count));
}

static void handle(api *a, http_exchange *x, ollama_kind kind)
{
    sl_span body = http_body(x);
    openai_error error = { 0 };
    const llm_route *route;
    ollama_call call;

    if (ollama_parse(kind, (const char *)body.ptr, body.len, &call, &error) != SL_OK) {
        respond_error(a, x, &error);
        return;
    }
    warn_unknown(x, &call);
    if (!check_model(a, x, &call)) {
        llm_request_destroy(call.req);
        return;
    }
    route = llm_chain_route(a->options.chain, call.req->model); /* labels of metrics have no tag */
    answer_begin(a, x, call.req, ollama_encoder_create(&call), route->name);
}

static void on_generate(api *a, http_exchange *x)
{
    handle(a, x, OLLAMA_GENERATE);
}

static void on_chat(api *a, http_exchange *x)
{
    handle(a, x, OLLAMA_CHAT);
}

static void on_embed(api *a, http_exchange *x)
{
    handle(a, x, OLLAMA_EMBED);
}

static void on_embeddings(api *a, http_exchange *x)
{
    handle(a, x, OLLAMA_EMBEDDINGS);
}

static void on_version(api *a, http_exchange *x)
{
    sl_buf b;

    sl_buf_init(&b, 4 * SL_KIB);
    sl_buf_puts(&b, "{\"version\":");
    sl_buf_put_json(&b, a->options.version, strlen(a->options.version));
    sl_buf_puts(&b, "}");
    http_respond_buf(x, 200, "application/json", &b);
}

static void on_push(api *a, http_exchange *x)
{
    openai_error e = { .http = 501, .type = "invalid_request_error" };

    snprintf(e.message, sizeof e.message, "push is not supported: there is no registry to push to");
    respond_error(a, x, &e);
}

#define NDJSON "application/x-ndjson"

static const api_endpoint list[] = {
    { "POST", "/api/generate", on_generate, LLM_MAY_GENERATE, "Answer a prompt",
      &ollama_generate_body, .streams = true },
    { "POST", "/api/chat", on_chat, LLM_MAY_GENERATE, "Answer a conversation", &ollama_chat_body,
      .streams = true },
    { "POST", "/api/embed", on_embed, LLM_MAY_EMBED, "Texts to vectors", &ollama_embed_body },
    { "POST", "/api/embeddings", on_embeddings, LLM_MAY_EMBED, "A text to a vector, the old way",
      &ollama_embeddings_body },
    { "GET", "/api/version", on_version, 0, "The version of the server" },
    { "GET", "/api/tags", ollama_tags, LLM_MAY_MODELS_READ, "The models there are" },
    { "GET", "/api/ps", ollama_ps, LLM_MAY_MODELS_READ, "The models that are loaded" },
    { "POST", "/api/show", ollama_show, LLM_MAY_MODELS_READ, "What a model is", &ollama_show_body },
    { "POST", "/api/pull", ollama_pull, LLM_MAY_MODELS_MANAGE, "Fetch a model", &ollama_pull_body,
      NDJSON, .streams = true },
    { "POST", "/api/create", ollama_create, LLM_MAY_MODELS_MANAGE, "Make a model from another",
      &ollama_create_body, NDJSON, .streams = true },
    { "POST", "/api/copy", ollama_copy, LLM_MAY_MODELS_MANAGE, "Give a model another name",
      &ollama_copy_body },
    { "DELETE", "/api/delete", ollama_delete, LLM_MAY_MODELS_MANAGE, "Remove a model",
      &ollama_delete_body },
    { "POST", "/api/push", on_push, LLM_MAY_MODELS_MANAGE, "Not supported: 501" },
    { "HEAD", "/api/blobs/{digest}", ollama_blob_head, LLM_MAY_MODELS_MANAGE,
      "Whether a blob is there" },
    { "POST", "/api/blobs/{digest}", ollama_blob_put, LLM_MAY_MODELS_MANAGE,
      "Upload a blob for create", .begin = ollama_blob_begin, .write = ollama_blob_write },
};
const api_endpoints ollama_endpoints = { &ollama_dialect, "Ollama", list, SL_COUNT_OF(list) };
