/* fuzz_api_responses.c - bodies of /v1/responses, and kept records that a conversation goes on
 * from. Up to the first NUL the body, behind it the record. */
#include "api/responses.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void go_on(responses_call *call, const char *record, size_t len)
{
    json_t *root = json_loadb(record, len, 0, NULL);
    openai_error err = { 0 };

    if (root && responses_continue(call, root, &err) != SL_OK)
        SL_ASSERT(err.http >= 400);
    SL_ASSERT(json_array_size(call->base.req->messages) >= json_array_size(call->context));
    SL_ASSERT(json_array_size(call->context) > 0);
    json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = memchr(data, 0, size);
    size_t len = end ? (size_t)(end - data) : size;
    openai_error err = { 0 };
    responses_call call;

    if (responses_parse((const char *)data, len, &call, &err) != SL_OK) {
        SL_ASSERT(err.http >= 400);
        return 0;
    }
    SL_ASSERT(json_array_size(call.input) == json_array_size(call.context));
    SL_ASSERT(call.base.req->n == 1);
    SL_ASSERT(call.base.req->top_logprobs <= SL_TOP_LOGPROBS_MAX);
    if (end)
        go_on(&call, (const char *)end + 1, size - len - 1);
    responses_call_deinit(&call);
    return 0;
}
