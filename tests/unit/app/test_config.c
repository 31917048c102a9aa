/* test_config.c - the configuration: schema and words agree, environment, ${...}, mistakes,
 * changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/config_tree.h"
#include "base/limits.h"
#include "base/mem.h"

static config *load_text(const char *text, sl_err *err)
{
    char path[] = "/tmp/sluice-config-XXXXXX";
    int fd = mkstemp(path);
    config *c = NULL;
    sl_status status;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    *err = (sl_err){ 0 };
    status = config_load(path, &c, err);
    unlink(path);
    assert_true((status == SL_OK) == (c != NULL));
    return c;
}

/* Walks the schema without a configuration. */
static int check_words(const cyaml_schema_field_t *f, const char *path)
{
    int count = 0;

    for (; f->key; f++) {
        const cyaml_schema_value_t *v = &f->value;
        char inner[256];

        snprintf(inner, sizeof inner, "%.200s%s%.40s", path, *path ? "." : "", f->key);
        if (v->type == CYAML_SEQUENCE) {
            strcat(inner, "[]");
            v = v->sequence.entry;
        }
        if (v->type == CYAML_MAPPING) {
            count += check_words(v->mapping.fields, inner);
            continue;
        }
        if (!config_key_find(inner))
            fail_msg("config_keys.c has no words for '%s'", inner);
        count++;
    }
    return count;
}

static void test_words(void **state)
{
    sl_buf b;

    assert_int_equal(check_words(config_root_fields, ""), config_key_count());
    sl_buf_init(&b, SL_MIB);
    config_schema(&b);
    assert_false(b.failed);
    assert_non_null(strstr(sl_buf_str(&b), "\"budget_days\""));
    sl_buf_deinit(&b);
}

static void test_mistakes(void **state)
{
    static const struct {
        const char *text, *says[2];
    } cases[] = {
        { "kv:\n  memroy: 1GiB\n", { ":2:3:", "did you mean 'kv.memory'" } },
        { "modles: []\n", { ":1:1:", "did you mean 'models'" } },
        { "zzzzzzzz: 1\n", { "unknown key 'zzzzzzzz'", "config schema" } },
        { "models:\n  - path: a\n  - nam: b\n", { ":3:5:", "did you mean 'models.name'" } },
        { "models:\n  - name: a\n", { "models[0] ('a') lacks 'path'", "upstream.url" } },
        { "engine:\n  context: abc\n", { "engine.context", "'abc'" } },
        { "engine: 5\n", { "engine", "MAPPING" } },
        { "engine: {context: 5\n", { "engine", "," } },
        { "data: ${env:SLUICE_TEST_NOT_SET}\n", { "data", "SLUICE_TEST_NOT_SET" } },
        { "data: ${nope:x}\n", { "data", "${env:NAME}" } },
        { "data: ${env:x\n", { "data", "'}'" } },
        { "data: ${file:/no/such/file}\n", { "data", "/no/such/file" } },
    };

    for (size_t i = 0; i < SL_COUNT_OF(cases); i++) {
        sl_err err;

        assert_null(load_text(cases[i].text, &err));
        for (int k = 0; k < 2; k++)
            if (!strstr(err.text, cases[i].says[k]))
                fail_msg("'%s' does not say '%s'", err.text, cases[i].says[k]);
    }
}

static void test_environment(void **state)
{
    sl_err err;
    config *c;

    setenv("SLUICE_KV_MEMORY", "7MiB", 1);
    setenv("SLUICE_LIMITS_OUTPUT_DEFAULT", "77", 1);
    setenv("SLUICE_TEST_DIR", "somewhere", 1);
    c = load_text("data: /a/${env:SLUICE_TEST_DIR}/b\nkv: {memory: 1GiB}\n", &err);
    assert_non_null(c);
    assert_string_equal(c->data, "/a/somewhere/b");
    assert_string_equal(c->kv.memory, "7MiB");
    assert_int_equal(c->limits.output_default, 77);
    config_destroy(c);
    setenv("SLUICE_LIMITS_OUTPUT_DEFAULT", "many", 1);
    assert_null(load_text("", &err));
    assert_non_null(strstr(err.text, "SLUICE_LIMITS_OUTPUT_DEFAULT"));
    unsetenv("SLUICE_LIMITS_OUTPUT_DEFAULT");
    unsetenv("SLUICE_KV_MEMORY");
}

static void on_change(void *ctx, const char *path, bool reloads)
{
    sl_buf_printf(ctx, "%s%s;", path, reloads ? "" : "!");
}

static void test_changes(void **state)
{
    sl_err err;
    config *a = load_text("api_keys: [s3cret]\nprices:\n  - {model: m, input: 1}\n", &err);
    config *b = load_text("api_keys: [s3cret]\nlog_level: debug\nkv: {type: f16}\nprices:\n"
                          "  - {model: m, input: 2}\n",
                          &err);
    sl_buf said;

    assert_non_null(a);
    assert_non_null(b);
    sl_buf_init(&said, 4096);
    assert_int_equal(config_compare(a, a, on_change, &said, &err), SL_OK);
    assert_int_equal(said.len, 0);
    assert_int_equal(config_compare(a, b, on_change, &said, &err), SL_OK);
    assert_non_null(strstr(sl_buf_str(&said), "log_level;"));
    assert_non_null(strstr(sl_buf_str(&said), "kv.type!;"));
    assert_non_null(strstr(sl_buf_str(&said), "prices[].input;"));
    assert_null(strstr(sl_buf_str(&said), "api_keys"));
    sl_buf_clear(&said);
    config_show(b, &said);
    assert_non_null(strstr(sl_buf_str(&said), "prices[0].input: 2"));
    assert_non_null(strstr(sl_buf_str(&said), "api_keys[0]: \"***\""));
    assert_null(strstr(sl_buf_str(&said), "s3cret"));
    sl_buf_deinit(&said);
    config_destroy(a);
    config_destroy(b);
}

int main(void)
{
    /* What this process was started with must not override what the tests write. */
    unsetenv("SLUICE_DATA");
    unsetenv("SLUICE_LISTEN");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
