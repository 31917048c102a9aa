/* test_template.c - chat templates: errors, bounds and exhausted memory. What templates mean is
 * compared with Python's jinja2 by template_vs_jinja2.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/limits.h"
#include "base/mem.h"
#include "token/token.h"

static char text_out[4096];
static sl_err err;

static sl_status render(const char *text, size_t len)
{
    json_t *vars = json_pack("{s:s,s:[i,i],s:{s:s}}", "a", "x", "l", 2, 1, "d", "k", "v");
    token_template *t = NULL;
    sl_status st;
    sl_buf out;

    err = (sl_err){ 0 };
    sl_buf_init(&out, SL_TEMPLATE_OUTPUT_BYTES_MAX);
    st = token_template_parse(text, len, &t, &err);
    if (st == SL_OK)
        st = token_template_render(t, vars, 0, &out, &err);
    snprintf(text_out, sizeof text_out, "%s", sl_buf_str(&out));
    token_template_destroy(t);
    sl_buf_deinit(&out);
    json_decref(vars);
    return st;
}

static void expect(const char *text, const char *want)
{
    assert_int_equal(render(text, strlen(text)), SL_OK);
    assert_string_equal(text_out, want);
}

static void expect_error(const char *text, sl_status st, const char *part)
{
    assert_int_equal(render(text, strlen(text)), st);
    if (!strstr(err.text, part))
        fail_msg("'%s' lacks '%s'", err.text, part);
}

static void test_meaning(void **state)
{
    expect("{% for i in l|sort %}{{ i }}{{ ',' if not loop.last }}{% endfor %}", "1,2");
    expect("{{ d }}{{ -7 // 2 }}{{ 1e16 }}{{ 'a'.upper()|tojson }}", "{'k': 'v'}-41e+16\"A\"");
    expect("{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}", "11");
    expect("a\n  {% if a %}\nb\n  {%- endif %}\nc", "a\nbc");
    expect("{% generation %}{{ a }}{% endgeneration %}", "x");
}

static void test_errors(void **state)
{
    expect_error("a\n {{ 'b }}", SL_EINVAL, "line 2 column 5");
    expect_error("{% if a %}", SL_EINVAL, "line 1 column");
    expect_error("\n\n{{ q.r.s }}", SL_EINVAL, "line 3");
    expect_error("{{ raise_exception('roles must alternate') }}", SL_EINVAL,
                 "roles must alternate");
    expect_error("{{ a|nofilter }}", SL_EINVAL, "filter");
    expect_error("{{ l.append(1) }}", SL_EINVAL, "undefined");
}

/* head, then unit many times, then tail. */
static sl_status repeated(const char *head, const char *unit, size_t times, const char *tail)
{
    size_t n = strlen(unit), len = strlen(head) + n * times + strlen(tail);
    char *s = sl_malloc(len + 1), *p;
    sl_status st;

    assert_non_null(s);
    p = stpcpy(s, head);
    for (size_t i = 0; i < times; i++)
        p = stpcpy(p, unit);
    stpcpy(p, tail);
    st = render(s, len);
    sl_free(s);
    return st;
}

static void test_depth(void **state)
{
    assert_int_equal(repeated("{{ ", "-", 500000, "1 }}"), SL_ELIMIT);
    assert_int_equal(repeated("{{ ", "1+", 300000, "1 }}"), SL_OK);
    assert_int_equal(repeated("{% if q %}", "{% elif q %}", 50000, "{% endif %}"), SL_OK);
    assert_int_equal(repeated("{{ a", ".b", 200000, " }}"), SL_ELIMIT);
    assert_int_equal(repeated("{{ a", "|trim", 150000, " }}"), SL_ELIMIT);
    assert_int_equal(repeated("{{ a", "[0]", 200000, " }}"), SL_ELIMIT);
    assert_int_equal(repeated("{{ ", "not ", 200000, "a }}"), SL_ELIMIT);
    assert_int_equal(repeated("{{ ", "a and ", 100000, "a }}"), SL_ELIMIT);
    assert_int_equal(repeated("{% for i in l %}", "{% if a %}", 50000, ""), SL_ELIMIT);
    assert_int_equal(repeated("", "x", SL_TEMPLATE_BYTES_MAX + 1, ""), SL_ELIMIT);
}

static void test_bounds(void **state)
{
    static const char *const hostile[] = {
        "{{ 'a' * 1000000000 }}",
        "{{ [0] * 1000000000 }}",
        "{{ ('a' * 1000000).replace('', 'b' * 1000000) }}",
        "{{ '%1000000000d' % 1 }}{{ '{:1000000000}'.format(1) }}",
        "{{ 'a'.zfill(10000000000) }}",
        "{{ [1]|batch(1000000000, 0)|list }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% set n = namespace() %}{% for i in range(999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x "
        "}}",
    };

    for (size_t i = 0; i < SL_COUNT_OF(hostile); i++)
        expect_error(hostile[i], SL_ELIMIT, "template");
    expect_error("{{ range(200000) }}", SL_EINVAL, "Range too big");
    expect_error("{{ range('a') }}", SL_EINVAL, "integer");
}

/* Every allocation of parsing and rendering fails once. */
static void test_memory(void **state)
{
    static const char text[] = "{% for i in range(3000) %}{% set q = [i] %}{{ a }}{% endfor %}";
    json_t *vars = json_pack("{s:s}", "a", "x");
    sl_status st = SL_ENOMEM;

    for (unsigned long n = 1; st != SL_OK; n++) {
        token_template *t = NULL;
        sl_buf out;

        assert_true(n < 1000);
        sl_buf_init(&out, SL_MIB);
        sl_mem_fail_at(n);
        st = token_template_parse(text, sizeof text - 1, &t, NULL);
        if (st == SL_OK)
            st = token_template_render(t, vars, 0, &out, NULL);
        sl_mem_fail_at(0);
        assert_true(st == SL_OK || st == SL_ENOMEM);
        token_template_destroy(t);
        sl_buf_deinit(&out);
    }
    json_decref(vars);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_meaning), cmocka_unit_test(test_errors), cmocka_unit_test(test_depth),
        cmocka_unit_test(test_bounds),  cmocka_unit_test(test_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
