/* fuzz_api_tgi.c - bodies of TGI's routes; the first byte picks one. An accepted request must keep
 * the bounds that the engine relies on, and its answer must be JSON. */
#include "api/tgi.h"
#include "fuzz_api.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_answer(const tgi_call *call)
{
    llm_token token = { .chosen = { 1, -1, "a", 1 }, .is_last = true };
    llm_token prompt = { .chosen = { 2, NAN, "<s>", 3, true }, .is_prompt = true };
    llm_event events[] = {
        { .kind = LLM_EV_START, .usage = { .prompt_tokens = 1 } },
        { .kind = LLM_EV_DELTA, .tokens = &prompt, .token_count = 1 },
        { .kind = LLM_EV_DELTA, .text = "a", .text_len = 1, .tokens = &token, .token_count = 1 },
        { .kind = LLM_EV_FINISH, .finish = LLM_FINISH_LENGTH },
        { .kind = LLM_EV_DONE },
    };
    tgi_encoder e;
    sl_buf b;

    SL_ASSERT(tgi_encoder_init(&e, call, 0) == SL_OK);
    sl_buf_init(&b, OPENAI_ANSWER_MAX);
    for (size_t i = 0; i < SL_COUNT_OF(events); i++)
        tgi_encode(&e, &events[i], (int64_t)i, &b);
    SL_ASSERT(!b.failed);
    if (!call->stream)
        check_json(&b);
    sl_buf_deinit(&b);
    tgi_encoder_deinit(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const llm_request *req;
    openai_error err = { 0 };
    tgi_call call;

    if (size == 0)
        return 0;
    if (tgi_parse((tgi_form)(data[0] % 4), (const char *)data + 1, size - 1, &call, &err) !=
        SL_OK) {
        check_refusal_of(&tgi_dialect, &err);
        return 0;
    }
    req = call.req;
    SL_ASSERT(req->prompt_count >= 1 && req->prompt_count * req->n <= SL_PROMPTS_MAX);
    SL_ASSERT(req->n >= 1 && req->n <= TGI_BEST_OF_MAX);
    SL_ASSERT(req->stop_count <= SL_STOPS_MAX);
    SL_ASSERT(req->top_logprobs >= 0 && req->top_logprobs <= SL_TOP_LOGPROBS_MAX);
    SL_ASSERT(req->sampling.temperature >= 0 && req->sampling.top_p > 0);
    SL_ASSERT(req->sampling.repetition_penalty > 0);
    SL_ASSERT(req->max_tokens == -1 || req->max_tokens > 0);
    SL_ASSERT(req->truncate_prompt_tokens >= 0);
    for (size_t i = 0; i < req->prompt_count; i++)
        SL_ASSERT(req->prompts[i].text_len > 0);
    check_answer(&call);
    llm_request_destroy(call.req);
    return 0;
}
