/* test_json.c - our reader of bodies makes what jansson's makes, and leaves to it what is odd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/fields.h"
#include "base/limits.h"

static void check(const char *body, size_t len, bool is_taken)
{
    json_t *mine = json_read(body, len), *theirs = json_loadb(body, len, 0, NULL);

    if (is_taken != (mine != NULL))
        fail_msg("%.*s: %s", (int)SL_MIN(len, 80U), body, mine ? "taken" : "not taken");
    if (mine && !json_equal(mine, theirs))
        fail_msg("%.*s: not what jansson says", (int)SL_MIN(len, 80U), body);
    json_decref(mine);
    json_decref(theirs);
}

/* What is taken is equal; what is not sure may be right or wrong. */
static void test_cases(void **state)
{
    static const struct {
        const char *body;
        bool is_taken;
    } cases[] = {
        { "{}", true },
        { " {\n\t\"a\" : 1 ,\r\"b\":[ ] } \n", true },
        { "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello, \\\"you\\\"\"}],"
          "\"temperature\":0.7,\"stream\":true,\"stop\":null,\"seed\":-3,\"echo\":false}",
          true },
        { "{\"a\":\"\\u00e9\\u4e2d\\ud83d\\ude00\\/\\b\\f\\n\\r\\t\\\\\"}", true },
        { "{\"a\":\"caf\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x98\x80 and more text\"}", true },
        { "{\"a\":[0,-0,12,1.5,-1e3,2E-2,0.0,123456789012345678,1e-400]}", true },
        { "{\"a\":1,\"b\":2,\"a\":{\"c\":3}}", true },
        { "{\"\":\"\",\"a b\":\"\x7f\"}", true },
        { "{\"a\":1234567890123456789}", false }, /* jansson takes it */
        { "{\"\\u0061\":1}", false },             /* this, too */
        { "[1]", false },                         /* and this */
        { "{\"a\":99999999999999999999}", false },
        { "{\"a\":1e400}", false },
        { "{\"a\":01}", false },
        { "{\"a\":-}", false },
        { "{\"a\":1.}", false },
        { "{\"a\":.5}", false },
        { "{\"a\":1e}", false },
        { "{\"a\":+1}", false },
        { "{\"a\":\"\\u0000\"}", false },
        { "{\"a\":\"\\ud800\"}", false },
        { "{\"a\":\"\\ud800\\u0041\"}", false },
        { "{\"a\":\"\\udc00\"}", false },
        { "{\"a\":\"\\x\"}", false },
        { "{\"a\":\"line\nend\"}", false },
        { "{\"a\":\"\xed\xa0\x80\"}", false },
        { "{\"a\":\"\xc3\"}", false },
        { "{\"a\":1,}", false },
        { "{\"a\":[1,]}", false },
        { "{\"a\" 1}", false },
        { "{a:1}", false },
        { "{\"a\":tru}", false },
        { "{\"a\":truex}", false },
        { "{\"a\":1} 2", false },
        { "{\"a\":1", false },
        { "{\"a\":\"", false },
        { "{\"a\":\"\\", false },
        { "", false },
    };

    for (size_t i = 0; i < SL_COUNT_OF(cases); i++)
        check(cases[i].body, strlen(cases[i].body), cases[i].is_taken);
    check("{\"a\":\"b\0c\"}", 11, false);
}

/* Each length of plain text before what ends it, so that all eight places are met. */
static void test_lengths(void **state)
{
    static const char *const ends[] = { "\"}", "\\n\"}", "\xc3\xa9\"}" };
    char body[80];

    for (size_t len = 0; len < 40; len++) {
        for (size_t i = 0; i < SL_COUNT_OF(ends); i++) {
            int n = snprintf(body, sizeof body, "{\"a\":\"%.*s%s", (int)len,
                             "the quick brown fox jumps over the lazy dog", ends[i]);

            check(body, (size_t)n, true);
            for (int cut = 0; cut < n; cut++)
                check(body, (size_t)cut, false);
        }
    }
}

static void test_depth(void **state)
{
    sl_buf b;

    sl_buf_init(&b, SL_MIB);
    for (size_t depth = SL_JSON_DEPTH_MAX - 1; depth <= SL_JSON_DEPTH_MAX; depth++) {
        sl_buf_clear(&b);
        sl_buf_puts(&b, "{\"a\":");
        for (size_t i = 0; i < depth; i++)
            sl_buf_putc(&b, '[');
        for (size_t i = 0; i < depth; i++)
            sl_buf_putc(&b, ']');
        sl_buf_putc(&b, '}');
        check(sl_buf_str(&b), b.len, depth < SL_JSON_DEPTH_MAX);
    }
    sl_buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_depth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
