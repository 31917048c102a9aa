/* test_base.c - buffers, UTF-8, arenas, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <limits.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/mem.h"

static void test_buf(void **state)
{
    sl_buf b;
    sl_err err;

    (void)state;
    sl_buf_init(&b, 10);
    sl_buf_printf(&b, "%d", 12345);
    sl_buf_puts(&b, "67890");
    assert_string_equal(sl_buf_str(&b), "1234567890");
    assert_int_equal(sl_buf_ok(&b, "b", &err), SL_OK);
    sl_buf_putc(&b, 'x');
    assert_int_equal(sl_buf_ok(&b, "b", &err), SL_ELIMIT);
    assert_string_equal(sl_buf_str(&b), "1234567890"); /* nothing is lost */
    sl_buf_deinit(&b);
    sl_buf_init(&b, 100);
    sl_buf_put_json(&b, "a\"\\\n\x01\xff\xc3\xa4", 8);
    assert_string_equal(sl_buf_str(&b), "\"a\\\"\\\\\\n\\u0001\xef\xbf\xbd\xc3\xa4\"");
    sl_buf_deinit(&b);
}

/* The same text as printf's, whichever of its directives we know ourselves. */
static void test_buf_printf(void **state)
{
    const char *volatile none = NULL;
    char want[600], longer[300];
    sl_buf b;

    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    sl_buf_init(&b, sizeof want);
    sl_buf_printf(&b, "%d|%u|%lld|%zu|%s|%%|%5.2f|%s|%-4d|%02x|%s.", INT_MIN, UINT_MAX, LLONG_MIN,
                  SIZE_MAX, "text", 2.5, "after", 7, 10, longer);
    snprintf(want, sizeof want, "%d|%u|%lld|%zu|%s|%%|%5.2f|%s|%-4d|%02x|%s.", INT_MIN, UINT_MAX,
             LLONG_MIN, SIZE_MAX, "text", 2.5, "after", 7, 10, longer);
    assert_string_equal(sl_buf_str(&b), want);
    sl_buf_clear(&b);
    sl_buf_printf(&b, "no directive");
    sl_buf_printf(&b, ", %s", none);
    assert_string_equal(sl_buf_str(&b), "no directive, (null)");
    sl_buf_deinit(&b);
    sl_buf_init(&b, 8);
    sl_buf_printf(&b, "%.3f%s", 1.0, longer);
    assert_true(b.failed);
    sl_buf_deinit(&b);
}

static void test_utf8(void **state)
{
    uint32_t cp = 0, back;
    char out[4];

    (void)state;
    for (cp = 0; cp <= 0x10ffff; cp += cp < 0x3000 ? 1 : 97) {
        size_t n = sl_utf8_encode(cp, out);

        if (cp >= 0xd800 && cp <= 0xdfff)
            continue;
        assert_int_equal(sl_utf8_decode(out, n, &back), n);
        assert_int_equal(back, cp);
        assert_int_equal(sl_utf8_decode(out, n - 1, &back), 0);
        assert_int_equal(sl_utf8_complete(out, n), n);
        if (n > 1)
            assert_int_equal(sl_utf8_complete(out, n - 1), 0);
    }
    assert_false(sl_utf8_valid("\xc0\x80", 2));     /* overlong */
    assert_false(sl_utf8_valid("\xed\xa0\x80", 3)); /* surrogate */
    assert_false(sl_utf8_valid("\xf4\x90\x80\x80", 4));
}

static void test_arena(void **state)
{
    sl_arena a;
    size_t total = 0;

    (void)state;
    sl_arena_init(&a, 100000);
    for (size_t i = 1; i < 200; i++) {
        char *p = sl_arena_alloc(&a, i);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t k = 0; k < i; k++)
            assert_int_equal(p[k], 0);
        memset(p, 7, i);
        total += i;
    }
    assert_true(a.used_bytes >= total);
    assert_null(sl_arena_alloc(&a, 100000));
    assert_null(sl_arena_alloc(&a, SIZE_MAX));
    sl_arena_deinit(&a);
}

static void test_err(void **state)
{
    sl_err err = { 0 };

    (void)state;
    assert_int_equal(sl_fail(&err, SL_EFORMAT, "at %d", 5), SL_EFORMAT);
    assert_int_equal(sl_err_prefix(&err, err.status, "file %s", "x"), SL_EFORMAT);
    assert_string_equal(err.text, "file x: at 5");
    assert_int_equal(sl_status_http(SL_ENOTFOUND), 404);
    assert_int_equal(sl_status_http(SL_EBUSY), 503);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_buf),
                                        cmocka_unit_test(test_buf_printf),
                                        cmocka_unit_test(test_utf8), cmocka_unit_test(test_arena),
                                        cmocka_unit_test(test_err) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
