/* fuzz_api_rerank.c - bodies of the routes that score documents; the first byte picks the form. An
 * accepted request must hold a query and documents as texts, and its answer must be JSON. */
#include "api/rerank.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_json(sl_buf *b)
{
    json_t *root;

    SL_ASSERT(!b->failed);
    root = json_loadb(sl_buf_str(b), b->len, 0, NULL);
    SL_ASSERT(root);
    json_decref(root);
    sl_buf_deinit(b);
}

static void check_answer(const rerank_call *call)
{
    const llm_event start = { .kind = LLM_EV_START }, done = { .kind = LLM_EV_DONE };
    encoder *e = rerank_encoder_create(call, "m", 1);
    sl_buf b;

    SL_ASSERT(e && e->choice_count > 0);
    sl_buf_init(&b, OPENAI_ANSWER_MAX);
    e->ops->encode(e, &start, &b);
    for (uint32_t i = e->choice_count; i-- > 0;)
        e->ops->encode(
            e,
            &(llm_event){
                .kind = LLM_EV_SCORE, .choice = i, .score = 0.5f, .logit = (float)(i % 3) },
            &b);
    e->ops->encode(e, &done, &b);
    SL_ASSERT(!e->failed);
    check_json(&b);
    e->ops->destroy(e);
}

static void check_error(const openai_error *err)
{
    sl_buf b;

    SL_ASSERT(err->http >= 400);
    sl_buf_init(&b, 64 * SL_KIB);
    rerank_tei_dialect.put_error(&b, err);
    check_json(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned form = size ? data[0] % (RERANK_FORM_COUNT + 1u) : 0;
    const char *body = size ? (const char *)data + 1 : "";
    openai_error err = { 0 };
    rerank_call call;

    size = size ? size - 1 : 0;
    if (form == RERANK_FORM_COUNT)
        form = rerank_form_of(body, size);
    if (rerank_parse((rerank_form)form, body, size, &call, &err) != SL_OK) {
        check_error(&err);
        return 0;
    }
    SL_ASSERT(call.req->prompt_count >= 2 && call.req->prompt_count <= 2 * SL_PROMPTS_MAX);
    SL_ASSERT(!call.req->paired || call.req->prompt_count % 2 == 0);
    SL_ASSERT(call.req->context_max >= 0 && call.top_n >= 0);
    for (size_t i = 0; i < call.req->prompt_count; i++)
        SL_ASSERT(call.req->prompts[i].text);
    check_answer(&call);
    llm_request_destroy(call.req);
    return 0;
}
