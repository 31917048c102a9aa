/* test_guard.c - what a JSON body may hold, counted before it is parsed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "api/fields.h"
#include "base/limits.h"

static sl_buf body;

static void repeat(const char *text, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sl_buf_puts(&body, text);
}

static void check(bool is_taken, const char *word)
{
    openai_error err = { .http = 0 };
    sl_status status = json_guard(sl_buf_str(&body), body.len, &err);

    if ((status == SL_OK) != is_taken)
        fail_msg("%.60s: %s", sl_buf_str(&body), err.message);
    if (!is_taken) {
        assert_int_equal(err.http, 400);
        assert_string_equal(err.code, "json_too_large");
        assert_non_null(strstr(err.message, word));
    }
    sl_buf_clear(&body);
}

static void test_depth(void **state)
{
    repeat("[", SL_JSON_DEPTH_MAX);
    repeat("]", SL_JSON_DEPTH_MAX);
    check(true, "");
    repeat("[", SL_JSON_DEPTH_MAX + 1);
    check(false, "nesting");
    repeat("{\"a\":", SL_JSON_DEPTH_MAX + 1);
    check(false, "nesting");
    repeat("[],", 10 * SL_JSON_DEPTH_MAX); /* beside each other is not within */
    check(true, "");
    /* Brackets within strings are text. */
    sl_buf_puts(&body, "[\"");
    repeat("[{\\\"", 10 * SL_JSON_DEPTH_MAX);
    sl_buf_puts(&body, "\"]");
    check(true, "");
    repeat("]", 10);
    repeat("[", SL_JSON_DEPTH_MAX + 1);
    check(false, "nesting");
}

static void test_values(void **state)
{
    sl_buf_puts(&body, "[");
    repeat("1,", SL_JSON_VALUES_MAX - 2);
    sl_buf_puts(&body, "1]");
    check(true, "");
    sl_buf_puts(&body, "[");
    repeat("1,", SL_JSON_VALUES_MAX);
    check(false, "values");
    repeat("{\"a\":{},", SL_JSON_VALUES_MAX / 2);
    check(false, "nesting");
    sl_buf_puts(&body, "{");
    repeat("\"a\":{},", SL_JSON_VALUES_MAX / 2 + 1);
    check(false, "values");
}

static void test_strings(void **state)
{
    sl_buf_puts(&body, "[\"");
    repeat("0123456789abcdef", SL_JSON_STRING_BYTES_MAX / 16);
    sl_buf_puts(&body, "\"]");
    check(false, "string");
    sl_buf_puts(&body, "[\"");
    repeat("0123456789abcdef", SL_JSON_STRING_BYTES_MAX / 16 - 1);
    sl_buf_puts(&body, "\"]");
    check(true, "");
    sl_buf_puts(&body, "[\"never ends \\\"]");
    check(true, "");
    sl_buf_puts(&body, "\"\\");
    check(true, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_strings),
    };
    int failed;

    sl_buf_init(&body, 64 * SL_MIB);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    sl_buf_deinit(&body);
    return failed;
}
