/* fuzz_api_openai.c - request bodies. The first byte picks the task; an accepted request must keep
 * the bounds that the engine relies on. */
#include "api/openai.h"
#include "fuzz_api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    openai_error err = { 0 };
    openai_call call;

    if (size == 0)
        return 0;
    if (openai_parse((llm_task)(data[0] % LLM_TASK_COUNT), (const char *)data + 1, size - 1, &call,
                     &err) != SL_OK) {
        check_refusal_of(&openai_dialect, &err);
        return 0;
    }
    SL_ASSERT(call.req->n >= 1);
    SL_ASSERT(call.req->n <= SL_CHOICES_MAX);
    SL_ASSERT(call.req->prompt_count <= SL_PROMPTS_MAX);
    SL_ASSERT(call.req->stop_count <= SL_STOPS_MAX);
    SL_ASSERT(call.req->top_logprobs <= SL_TOP_LOGPROBS_MAX);
    SL_ASSERT(call.req->task != LLM_CHAT || json_array_size(call.req->messages) > 0);
    SL_ASSERT(call.req->task == LLM_CHAT || call.req->prompt_count > 0);
    llm_request_destroy(call.req);
    return 0;
}
