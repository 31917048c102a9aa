/* openai.c - the OpenAI handlers. */
#include "api/api_int.h"

#include <stdio.h>

static bool check_model(const openai_call *call, const llm_model_info *info, openai_error *e)
{
    if (call->dimensions > 0 && info->embedding_dim > 0 && call->dimensions > info->embedding_dim) {
        openai_refuse(e, "dimensions", "invalid_value",
                      "Invalid 'dimensions': the model makes vectors of %lld values",
                      (long long)info->embedding_dim);
        return false;
    }
    return true;
}

void openai_handle(api *a, http_exchange *x, llm_task task)
{
    const llm_caller *caller = api_caller(x);
    sl_span body = http_body(x);
    openai_error error = { 0 };
    openai_call call;
    llm_model_info info;
    const char *model;

    if (openai_parse(task, (const char *)body.ptr, body.len, &call, &error) != SL_OK) {
        api_respond_error(a, x, &error);
        return;
    }
    model = answer_model(a, call.req, &info);
    if (!check_model(&call, &info, &error) ||
        openai_settle(&call, caller ? caller->id : "", &error) != SL_OK) {
        llm_request_destroy(call.req);
        api_respond_error(a, x, &error);
        return;
    }
    answer_begin(a, x, call.req, openai_encoder_create(&call, model, sl_clock_wall_ms() / 1000),
                 model);
}

static void chat(api *a, http_exchange *x)
{
    openai_handle(a, x, LLM_CHAT);
}

static void completions(api *a, http_exchange *x)
{
    openai_handle(a, x, LLM_COMPLETE);
}

static void embeddings(api *a, http_exchange *x)
{
    openai_handle(a, x, LLM_EMBED);
}

/* ---- vLLM's small ones ---------------------------------------------------------------------- */

static void load(api *a, http_exchange *x)
{
    char text[48];
    int len = snprintf(text, sizeof text, "{\"server_load\":%d}", atomic_load(&a->load));

    http_respond(x, 200, "application/json", text, (size_t)len);
}

static const api_endpoint list[] = {
    { "POST", "/v1/chat/completions", chat, LLM_MAY_GENERATE, "Answer a conversation",
      &openai_chat_body, .streams = true },
    { "POST", "/v1/completions", completions, LLM_MAY_GENERATE, "Continue a text",
      &openai_completion_body, .streams = true },
    { "POST", "/v1/embeddings", embeddings, LLM_MAY_EMBED, "Texts to vectors",
      &openai_embedding_body },
    { "GET", "/v1/models", models_list, LLM_MAY_MODELS_READ, "The models there are" },
    { "GET", "/v1/models/{model...}", models_get, LLM_MAY_MODELS_READ, "One model" },
    { "GET", "/load", load, LLM_MAY_MODELS_READ, "Model requests under way" },
};
const api_endpoints openai_endpoints = { &openai_dialect, "OpenAI", list, SL_COUNT_OF(list) };
