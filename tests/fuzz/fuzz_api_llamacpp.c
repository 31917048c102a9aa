/* fuzz_api_llamacpp.c - bodies of llama.cpp's /completion. An accepted request must keep the bounds
 * that the engine relies on, and its answer must be JSON. */
#include "api/llamacpp.h"
#include "fuzz_api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static sl_status tokenize(void *ctx, const char *model, const char *text, size_t len,
                          unsigned flags, int32_t *ids, size_t cap, size_t *ret_count, sl_err *err)
{
    size_t count = len * (model[0] == '2' ? 2 : 1); /* more than there is room for, at times */

    for (size_t i = 0; i < count && i < cap; i++)
        ids[i] = (unsigned char)text[i % len];
    *ret_count = count;
    return model[0] == '0' ? sl_fail(err, SL_ENOTFOUND, "no model") : SL_OK;
}

static void check_answer(const llamacpp_call *call)
{
    llm_token token = { .chosen = { 1, -1, "a", 1 } };
    llm_event events[] = {
        { .kind = LLM_EV_START, .usage = { .prompt_tokens = 1 } },
        { .kind = LLM_EV_DELTA, .text = "a", .text_len = 1, .tokens = &token, .token_count = 1 },
        { .kind = LLM_EV_FINISH, .finish = LLM_FINISH_LENGTH },
        { .kind = LLM_EV_DONE },
    };
    llamacpp_encoder e;
    sl_buf b;

    SL_ASSERT(llamacpp_encoder_init(&e, call, "m") == SL_OK);
    sl_buf_init(&b, OPENAI_ANSWER_MAX);
    for (size_t i = 0; i < SL_COUNT_OF(events); i++)
        llamacpp_encode(&e, &events[i], (int64_t)i, &b);
    SL_ASSERT(!b.failed);
    if (!call->stream)
        check_json(&b);
    sl_buf_deinit(&b);
    llamacpp_encoder_deinit(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const llamacpp_tokenizer tokenizer = { tokenize, NULL };
    openai_error err = { 0 };
    llamacpp_call call;

    if (llamacpp_parse((const char *)data, size, tokenizer, &call, &err) != SL_OK) {
        check_refusal_of(&llamacpp_dialect, &err);
        return 0;
    }
    SL_ASSERT(call.req->prompt_count >= 1);
    SL_ASSERT(call.req->prompt_count <= SL_PROMPTS_MAX);
    SL_ASSERT(call.req->stop_count <= SL_STOPS_MAX);
    SL_ASSERT(call.req->top_logprobs <= SL_TOP_LOGPROBS_MAX);
    SL_ASSERT(call.req->sampling.bias_count <= SL_LOGIT_BIAS_MAX);
    SL_ASSERT(call.req->sampling.temperature >= 0);
    SL_ASSERT(call.req->max_tokens >= -1);
    SL_ASSERT(call.req->spec_tokens >= -1);
    for (size_t i = 0; i < call.req->prompt_count; i++)
        SL_ASSERT(call.req->prompts[i].text || call.req->prompts[i].id_count > 0);
    check_answer(&call);
    llm_request_destroy(call.req);
    return 0;
}
