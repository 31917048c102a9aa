/* test_responses.c - the Responses dialect without HTTP: parsing, conversations, and the record
 * that is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>

#include "api/responses.h"

static responses_call parse(const char *body)
{
    openai_error err = { 0 };
    responses_call call = { 0 };

    if (responses_parse(body, strlen(body), &call, &err) != SL_OK)
        fail_msg("%s: %s", body, err.message);
    return call;
}

static const char *content(const json_t *messages, size_t i)
{
    return json_string_value(json_object_get(json_array_get(messages, i), "content"));
}

static const char *role(const json_t *messages, size_t i)
{
    return json_string_value(json_object_get(json_array_get(messages, i), "role"));
}

static void test_input(void **state)
{
    responses_call c = parse("{\"input\":[{\"role\":\"developer\",\"content\":\"d\"},"
                             "{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":"
                             "\"a\"},{\"type\":\"input_text\",\"text\":\"b\"}]}],"
                             "\"instructions\":\"i\",\"max_output_tokens\":9,\"top_k\":3}");
    const json_t *m = c.base.req->messages;

    (void)state;
    assert_int_equal(json_array_size(m), 3);
    assert_string_equal(content(m, 0), "i");
    assert_string_equal(role(m, 1), "system");
    assert_string_equal(content(m, 2), "ab");
    assert_int_equal(c.base.req->max_tokens, 9);
    assert_int_equal(c.base.req->sampling.top_k, 3);
    assert_true(c.store);
    /* Items are listed as they came, instructions are none. */
    assert_int_equal(json_array_size(c.input), 2);
    assert_string_equal(role(c.input, 0), "developer");
    responses_call_deinit(&c);
}

static void test_conversation(void **state)
{
    responses_call c = parse("{\"input\":\"z\",\"instructions\":\"i\"}");
    json_t *record = json_loads(
        "{\"response\":{\"output\":[{\"content\":[{\"text\":\"y\"}]}]},\"input\":[],"
        "\"context\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"x\"}"
        "]}",
        0, NULL);
    const char *const want[] = { "i", "s", "x", "y", "z" };
    openai_error err = { 0 };

    (void)state;
    assert_int_equal(responses_continue(&c, record, &err), SL_OK);
    assert_int_equal(json_array_size(c.base.req->messages), 5);
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(content(c.base.req->messages, i), want[i]);
    assert_string_equal(role(c.base.req->messages, 3), "assistant");
    assert_int_equal(json_array_size(json_object_get(record, "context")), 2); /* untouched */
    json_object_del(record, "response");
    assert_int_equal(responses_continue(&c, record, &err), SL_EINVAL);
    json_decref(record);
    responses_call_deinit(&c);
}

static void test_out_of_memory(void **state)
{
    const char *body = "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\","
                       "\"text\":\"a\"}]}],\"instructions\":\"i\",\"metadata\":{\"k\":\"v\"},"
                       "\"previous_response_id\":\"resp_1\",\"cache_salt\":\"s\"}";
    openai_error err = { 0 };
    responses_call call = { 0 };
    sl_status status = SL_ENOMEM;

    (void)state;
    for (unsigned long n = 1; status != SL_OK; n++) {
        assert_true(n < 1000);
        sl_mem_fail_at(n);
        status = responses_parse(body, strlen(body), &call, &err);
        sl_mem_fail_at(0);
    }
    responses_call_deinit(&call);
}

/* ---- what is kept -------------------------------------------------------------------------- */

typedef struct keeper {
    sl_status answer;
    char owner[32], id[64];
    sl_buf bytes;
} keeper;

static sl_status put(void *ctx, const char *owner, const char *id, sl_span bytes, sl_err *err)
{
    keeper *k = ctx;

    if (k->answer != SL_OK)
        return sl_fail(err, k->answer, "no");
    snprintf(k->owner, sizeof k->owner, "%s", owner);
    snprintf(k->id, sizeof k->id, "%s", id);
    sl_buf_put(&k->bytes, bytes.ptr, bytes.len);
    return SL_OK;
}

static const api_kept_ops ops = { .put = put };

/* Says "hi" and ends as told; the whole answer, the caller's. */
static json_t *answer(const responses_call *c, keeper *k, llm_finish finish)
{
    encoder *e = responses_encoder_create(c, "m", 5, (api_kept){ &ops, k }, "me");
    const llm_event events[] = {
        { .kind = LLM_EV_START, .usage = { .prompt_tokens = 4 } },
        { .kind = LLM_EV_DELTA, .text = "h\"", .text_len = 2 },
        { .kind = LLM_EV_FINISH, .finish = finish },
        { .kind = LLM_EV_DONE, .usage = { .prompt_tokens = 4, .output_tokens = 2 } },
    };
    json_t *root;
    sl_buf b;

    sl_buf_init(&b, 1 << 20);
    for (size_t i = 0; i < SL_COUNT_OF(events); i++)
        e->ops->encode(e, &events[i], &b);
    root = json_loadb(sl_buf_str(&b), b.len, 0, NULL);
    assert_non_null(root);
    e->ops->destroy(e);
    sl_buf_deinit(&b);
    return root;
}

static void test_record(void **state)
{
    responses_call c = parse("{\"input\":\"x\",\"instructions\":\"i\"}"), next;
    keeper k = { SL_OK };
    json_t *said, *record;
    openai_error err;

    (void)state;
    sl_buf_init(&k.bytes, 1 << 20);
    said = answer(&c, &k, LLM_FINISH_STOP);
    record = json_loadb(k.bytes.ptr, k.bytes.len, 0, NULL);
    assert_string_equal(k.owner, "me");
    assert_string_equal(k.id, json_string_value(json_object_get(said, "id")));
    assert_true(json_equal(json_object_get(record, "response"), said));
    assert_true(json_is_true(json_object_get(said, "store")));
    next = parse("{\"input\":\"y\"}");
    assert_int_equal(responses_continue(&next, record, &err), SL_OK);
    assert_int_equal(json_array_size(next.base.req->messages), 3); /* no instructions */
    assert_string_equal(content(next.base.req->messages, 1), "h\"");
    responses_call_deinit(&next);
    json_decref(record);
    json_decref(said);
    k.answer = SL_EBUSY; /* says so when it could not be kept */
    said = answer(&c, &k, LLM_FINISH_LENGTH);
    assert_true(json_is_false(json_object_get(said, "store")));
    assert_string_equal(json_string_value(json_object_get(said, "status")), "incomplete");
    json_decref(said);
    sl_buf_deinit(&k.bytes);
    responses_call_deinit(&c);
}

static void test_cancelled(void **state)
{
    responses_call c = parse("{\"input\":\"x\"}");
    keeper k = { SL_OK };
    json_t *said;

    (void)state;
    sl_buf_init(&k.bytes, 1 << 20);
    said = answer(&c, &k, LLM_FINISH_CANCELLED);
    assert_non_null(json_object_get(said, "error"));
    assert_int_equal(k.bytes.len, 0); /* not kept */
    json_decref(said);
    responses_call_deinit(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_input),         cmocka_unit_test(test_conversation),
        cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_record),
        cmocka_unit_test(test_cancelled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
