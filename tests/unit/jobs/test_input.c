/* test_input.c - what a batch's input may be, what is said of one that is wrong, and its order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>

#include "jobs/input.h"
#include "jobs/jobs_int.h"

#define URL "/v1/chat/completions"
#define LINE(id, body)                                                                             \
    "{\"custom_id\":\"" id "\",\"method\":\"POST\",\"url\":\"" URL "\",\"body\":" body "}"

static input in;

static void scan(const char *text)
{
    assert_int_equal(input_scan(sl_span_str(text), URL, &in, NULL), SL_OK);
}

static const char *error_text(size_t i, const char *key)
{
    return json_string_value(json_object_get(json_array_get(in.errors, i), key));
}

/* The text has this one error; line 0: none is named. */
static void is_wrong(const char *text, const char *code, int line)
{
    scan(text);
    assert_int_equal(json_array_size(in.errors), 1);
    assert_string_equal(error_text(0, "code"), code);
    assert_non_null(error_text(0, "message"));
    assert_int_equal(json_integer_value(json_object_get(json_array_get(in.errors, 0), "line")),
                     line);
    input_deinit(&in);
}

static void test_good_ones(void **state)
{
    scan("\xef\xbb\xbf" LINE("a", "{\"model\":\"m\"}") "\r\n\n  \t\n" LINE("b \\u00e9\\n",
                                                                           "{\"model\":\"m\"}"));
    assert_int_equal(json_array_size(in.errors), 0);
    assert_int_equal(in.count, 2);
    assert_string_equal(in.model, "m");
    assert_int_equal(in.lines[0].number, 1);
    assert_int_equal(in.lines[1].number, 4);
    assert_ptr_equal(input_find(&in, "b \xc3\xa9\n"), &in.lines[1]);
    assert_null(input_find(&in, "c"));
    input_deinit(&in);
    scan(LINE("a", "{}") "\n" LINE("b", "{\"model\":null}"));
    assert_int_equal(json_array_size(in.errors), 0);
    assert_string_equal(in.model, "");
    input_deinit(&in);
}

static void test_the_first_says_where(void **state)
{
    const char *text = LINE("a", "{}");

    assert_int_equal(input_scan(sl_span_str(text), NULL, &in, NULL), SL_OK);
    assert_string_equal(in.url, URL);
    assert_int_equal(in.count, 1);
    input_deinit(&in);
}

static void test_wrong_ones(void **state)
{
    is_wrong("", "empty_file", 0);
    is_wrong("\n \r\n", "empty_file", 0);
    is_wrong("{", "invalid_json_line", 1);
    is_wrong("\n[]", "invalid_json_line", 2);
    is_wrong(LINE("a", "{}") " x", "invalid_json_line", 1);
    is_wrong("{\"custom_id\":\"a\",\"url\":\"" URL "\"}", "missing_required_parameter", 1);
    is_wrong("{\"custom_id\":\"a\",\"body\":{}}", "missing_required_parameter", 1);
    is_wrong("{\"url\":\"" URL "\",\"body\":{}}", "missing_required_parameter", 1);
    is_wrong(LINE("", "{}"), "invalid_value", 1);
    is_wrong(LINE("a", "[]"), "missing_required_parameter", 1);
    is_wrong(LINE("a", "{\"model\":5}"), "invalid_value", 1);
    is_wrong("{\"custom_id\":\"a\",\"method\":\"PUT\",\"url\":\"" URL "\",\"body\":{}}",
             "invalid_method", 1);
    is_wrong("{\"custom_id\":\"a\",\"method\":7,\"url\":\"" URL "\",\"body\":{}}", "invalid_method",
             1);
    is_wrong("{\"custom_id\":\"a\",\"url\":\"/v1/embeddings\",\"body\":{}}", "invalid_url", 1);
    is_wrong(LINE("a", "{}") "\n" LINE("b", "{}") "\n" LINE("a", "{}"), "duplicate_custom_id", 3);
    is_wrong(LINE("a", "{\"model\":\"m\"}") "\n" LINE("b", "{\"model\":\"n\"}"), "mismatched_model",
             2);
}

static void test_many_lines(void **state)
{
    sl_buf text;

    sl_buf_init(&text, 64 * SL_MIB);
    for (int i = 0; i < SL_BATCH_LINES_MAX; i++)
        sl_buf_printf(&text, "{\"custom_id\":\"line %d\",\"url\":\"" URL "\",\"body\":{}}\n", i);
    scan(text.ptr);
    assert_int_equal(json_array_size(in.errors), 0);
    assert_int_equal(in.count, SL_BATCH_LINES_MAX);
    assert_int_equal(input_find(&in, "line 49999")->number, SL_BATCH_LINES_MAX);
    input_deinit(&in);
    sl_buf_puts(&text, LINE("one more", "{}"));
    is_wrong(text.ptr, "too_many_requests", 0);
    sl_buf_clear(&text);
    for (int i = 0; i < 1000; i++)
        sl_buf_puts(&text, "not json\n");
    scan(text.ptr);
    assert_int_equal(json_array_size(in.errors), SL_BATCH_ERRORS_MAX);
    input_deinit(&in);
    sl_buf_deinit(&text);
}

static void test_embeddings_are_counted(void **state)
{
    sl_buf text;

    sl_buf_init(&text, 64 * SL_MIB);
    for (int i = 0; i < 26; i++) {
        sl_buf_printf(
            &text, "{\"custom_id\":\"%d\",\"url\":\"/v1/embeddings\",\"body\":{\"input\":[\"\"", i);
        for (int k = 1; k < 2000; k++)
            sl_buf_puts(&text, ",\"\"");
        sl_buf_puts(&text, "]}}\n");
    }
    assert_int_equal(input_scan(sl_span_str(text.ptr), "/v1/embeddings", &in, NULL), SL_OK);
    assert_int_equal(json_array_size(in.errors), 1);
    assert_string_equal(error_text(0, "code"), "too_many_requests");
    input_deinit(&in);
    sl_buf_deinit(&text);
}

/* Prompts that begin alike come behind each other, whatever their order was. */
static void test_order(void **state)
{
    char system[3][200];
    sl_buf text;
    int changes = 0;

    sl_buf_init(&text, SL_MIB);
    for (int s = 0; s < 3; s++)
        snprintf(system[s], sizeof system[s], "%c%0100d", 'a' + s, 0);
    for (int i = 0; i < 60; i++)
        sl_buf_printf(&text,
                      "{\"custom_id\":\"%d\",\"url\":\"" URL
                      "\",\"body\":{\"temperature\":%d,\"messages\":[{\"content\":\"%s\",\"role\":"
                      "\"system\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
                      "\"question %d\"}]}]}}\n",
                      i, i % 2, system[i % 3], i);
    scan(text.ptr);
    assert_int_equal(in.count, 60);
    input_order(&in);
    for (size_t i = 1; i < in.count; i++)
        changes += in.lines[i].number % 3 != in.lines[i - 1].number % 3;
    assert_int_equal(changes, 2);
    input_deinit(&in);
    sl_buf_deinit(&text);
}

static void test_bodies(void **state)
{
    const char *text = LINE(
        "a", "{ \"model\" : \"m\", \"x\":[1, 0.1,\"\\u00e9\\n\"], \"big\":12345678901234567 }");
    sl_buf body;
    sl_err err;

    sl_buf_init(&body, SL_MIB);
    scan(text);
    assert_int_equal(input_body(sl_span_str(text), &in.lines[0], &body, &err), SL_OK);
    assert_string_equal(body.ptr, "{\"model\":\"m\",\"x\":[1,0.10000000000000001,\"\xc3\xa9\\n\"],"
                                  "\"big\":12345678901234567}");
    input_deinit(&in);
    sl_buf_deinit(&body);
}

static void test_memory_runs_out(void **state)
{
    sl_status status = SL_ENOMEM;

    for (unsigned long n = 1; status != SL_OK; n++) {
        sl_mem_fail_at(n);
        status = input_scan(sl_span_str(LINE("a", "{}") "\n" LINE("b", "{}")), URL, &in, NULL);
        sl_mem_fail_at(0);
        assert_true(status == SL_OK || status == SL_ENOMEM);
        input_deinit(&in);
        assert_true(n < 100);
    }
}

/* ---- callers -------------------------------------------------------------------------------- */

static void test_callers_survive(void **state)
{
    static const char *const models[] = { "smollm2", "qwen*" };
    const llm_caller c = {
        .id = "key_1",
        .name = "nightly \"job\"",
        .user = "ann",
        .team = "research",
        .role = "member",
        .permissions = 0x80000007u,
        .models = models,
        .model_count = 2,
        .limits = { { .rpm = 1, .budget_days = 30 }, { .tpm = INT64_MAX }, { .concurrency = 5 } }
    };
    char *text = caller_to_text(&c);
    llm_caller *back = NULL;
    sl_err err;

    assert_int_equal(caller_from_text(text, &back, &err), SL_OK);
    assert_string_equal(back->id, "key_1");
    assert_string_equal(back->name, "nightly \"job\"");
    assert_string_equal(back->user, "ann");
    assert_string_equal(back->team, "research");
    assert_string_equal(back->role, "member");
    assert_true(back->permissions == c.permissions);
    assert_int_equal(back->model_count, 2);
    assert_true(llm_caller_may_use(back, "qwen3") && !llm_caller_may_use(back, "llama"));
    assert_memory_equal(back->limits, c.limits, sizeof c.limits);
    llm_caller_unref(back);
    sl_free(text);
    text = caller_to_text(NULL);
    assert_int_equal(caller_from_text(text, &back, &err), SL_OK);
    assert_null(back);
    sl_free(text);
    assert_int_equal(caller_from_text("{", &back, &err), SL_EFORMAT);
}

static void test_owners(void **state)
{
    llm_caller c = { .id = "k", .user = "u", .team = "t", .permissions = LLM_MAY_FILES };
    llm_caller admin = { .id = "a", .permissions = LLM_MAY_ADMIN };
    char owner[OWNER_BYTES], longer[OWNER_BYTES + 1];
    sl_err err;

    assert_int_equal(owner_of(&c, owner, &err), SL_OK);
    assert_string_equal(owner, "team:t");
    c.team = "";
    assert_int_equal(owner_of(&c, owner, &err), SL_OK);
    assert_string_equal(owner, "user:u");
    c.user = NULL;
    assert_int_equal(owner_of(&c, owner, &err), SL_OK);
    assert_string_equal(owner, "key:k");
    assert_true(owner_seen_by("key:k", &c) && owner_seen_by("key:k", &admin));
    assert_true(owner_seen_by("key:k", NULL)); /* keys are off */
    assert_false(owner_seen_by("key:other", &c) || owner_seen_by("user:k", &c) ||
                 owner_seen_by("", &c));
    memset(longer, 'x', OWNER_BYTES);
    longer[OWNER_BYTES] = '\0';
    c.id = longer;
    assert_int_equal(owner_of(&c, owner, &err), SL_EINVAL);
    assert_false(owner_seen_by(owner, &c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_ones),
        cmocka_unit_test(test_the_first_says_where),
        cmocka_unit_test(test_wrong_ones),
        cmocka_unit_test(test_many_lines),
        cmocka_unit_test(test_embeddings_are_counted),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_memory_runs_out),
        cmocka_unit_test(test_callers_survive),
        cmocka_unit_test(test_owners),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
