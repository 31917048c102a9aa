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

sl_status openai_prepare(const llm_chain *chain, const llm_caller *caller, llm_task task,
                         sl_span body, openai_call *ret, const char **ret_model, openai_error *err)
{
    llm_model_info info;

    SL_TRY(openai_parse(task, (const char *)body.ptr, body.len, ret, err));
    *ret_model = chain_model(chain, ret->req, &info);
    if (check_model(ret, &info, err) && openai_settle(ret, caller ? caller->id : "", err) == SL_OK)
        return SL_OK;
    llm_request_destroy(ret->req);
    return SL_EINVAL;
}

void openai_handle(api *a, http_exchange *x, llm_task task)
{
    openai_error error = { 0 };
    const char *model = NULL;
    openai_call call;

    if (openai_prepare(a->options.chain, api_caller(x), task, http_body(x), &call, &model,
                       &error) != SL_OK) {
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
