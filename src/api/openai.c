/* openai.c - the OpenAI handlers. */
#include "api/api_int.h"

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

static void handle(api *a, http_exchange *x, llm_task task)
{
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
    if (!check_model(&call, &info, &error)) {
        llm_request_destroy(call.req);
        api_respond_error(a, x, &error);
        return;
    }
    answer_begin(a, x, call.req, openai_encoder_create(&call, model, sl_clock_wall_ms() / 1000),
                 model);
}

void openai_chat(api *a, http_exchange *x)
{
    handle(a, x, LLM_CHAT);
}

void openai_completions(api *a, http_exchange *x)
{
    handle(a, x, LLM_COMPLETE);
}

void openai_embeddings(api *a, http_exchange *x)
{
    handle(a, x, LLM_EMBED);
}
