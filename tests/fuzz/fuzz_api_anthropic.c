/* fuzz_api_anthropic.c - bodies of Anthropic's /v1/messages and count_tokens. An accepted request
 * must keep the bounds that the engine relies on, and its answer must be JSON. */
#include "api/anthropic.h"
#include "fuzz_api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_answer(const anthropic_call *call)
{
    const llm_event events[] = {
        { .kind = LLM_EV_START, .usage = { .prompt_tokens = 1 } },
        { .kind = LLM_EV_DELTA, .text = "a", .text_len = 1 },
        { .kind = LLM_EV_FINISH, .finish = LLM_FINISH_LENGTH },
        { .kind = LLM_EV_DONE },
    };
    anthropic_encoder e;
    sl_buf b;

    anthropic_encoder_init(&e, call, "m", "req_1");
    sl_buf_init(&b, OPENAI_ANSWER_MAX);
    for (size_t i = 0; i < SL_COUNT_OF(events); i++)
        anthropic_encode(&e, &events[i], &b);
    SL_ASSERT(!b.failed);
    if (!call->stream)
        check_json(&b);
    sl_buf_deinit(&b);
    anthropic_encoder_deinit(&e);
}

static void check_request(const anthropic_call *call)
{
    const llm_request *req = call->req;
    size_t count = json_array_size(req->messages);

    SL_ASSERT(count >= 1);
    SL_ASSERT(req->stop_count <= SL_STOPS_MAX);
    SL_ASSERT(call->cache_marks <= ANTHROPIC_CACHE_MARKS_MAX);
    SL_ASSERT(req->sampling.temperature >= 0 && req->sampling.temperature <= 1);
    SL_ASSERT(req->max_tokens >= -1);
    SL_ASSERT(req->n == 1);
    for (size_t i = 0; i < count; i++) {
        const json_t *msg = json_array_get(req->messages, i);

        SL_ASSERT(json_is_string(json_object_get(msg, "role")));
        SL_ASSERT(json_string_length(json_object_get(msg, "content")) > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int count_only = 0; count_only < 2; count_only++) {
        openai_error err = { 0 };
        anthropic_call call;

        if (anthropic_parse(count_only, (const char *)data, size, &call, &err) != SL_OK) {
            check_refusal_of(&anthropic_dialect, &err);
            continue;
        }
        check_request(&call);
        check_answer(&call);
        llm_request_destroy(call.req);
    }
    return 0;
}
