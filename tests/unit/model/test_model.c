/* test_model.c - model files that are right, files that are broken, and the store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/os.h"
#include "model/model.h"

static char dir[] = "/tmp/sluice-model-XXXXXX";

/* ---- a GGUF writer of a few lines --------------------------------------------------------------
 */

static void put_u32(sl_buf *b, uint32_t v)
{
    sl_buf_put(b, &v, sizeof v);
}

static void put_u64(sl_buf *b, uint64_t v)
{
    sl_buf_put(b, &v, sizeof v);
}

static void put_text(sl_buf *b, const char *s)
{
    put_u64(b, strlen(s));
    sl_buf_puts(b, s);
}

static void put_header(sl_buf *b, uint64_t tensors, uint64_t kvs)
{
    sl_buf_init(b, 1 << 20);
    sl_buf_puts(b, "GGUF");
    put_u32(b, 3);
    put_u64(b, tensors);
    put_u64(b, kvs);
}

/* One F32 tensor of 8 values, some keys. */
static void build(sl_buf *b)
{
    put_header(b, 1, 3);
    put_text(b, "general.architecture");
    put_u32(b, GGUF_STRING);
    put_text(b, "llama");
    put_text(b, "numbers");
    put_u32(b, GGUF_ARRAY);
    put_u32(b, GGUF_I16);
    put_u64(b, 3);
    sl_buf_put(b, (const int16_t[]){ -1, 2, 300 }, 6);
    put_text(b, "pi");
    put_u32(b, GGUF_F32);
    sl_buf_put(b, &(float){ 3.25f }, 4);
    put_text(b, "w");
    put_u32(b, 2);
    put_u64(b, 4);
    put_u64(b, 2);
    put_u32(b, TENSOR_F32);
    put_u64(b, 0);
    while (b->len % 32)
        sl_buf_putc(b, 0);
    for (int i = 0; i < 8; i++)
        sl_buf_put(b, &(float){ (float)i }, 4);
}

static void test_gguf_reads(void **state)
{
    sl_buf b;
    gguf_dir d;
    sl_err err;
    const tensor_info *t;
    const gguf_kv *kv;

    (void)state;
    build(&b);
    assert_int_equal(gguf_parse(sl_span_of(b.ptr, b.len), &d, &err), SL_OK);
    assert_true(sl_span_eq(gguf_get_str(&d, "general.architecture"), sl_span_str("llama")));
    assert_true(gguf_get_float(&d, "pi", 0) == 3.25);
    assert_int_equal(gguf_get_int(&d, "pi", -7), -7); /* no integer */
    assert_int_equal(gguf_get_int(&d, "absent", 5), 5);
    kv = gguf_find(&d, "numbers");
    assert_non_null(kv);
    assert_int_equal(gguf_array_int(kv, 0), -1);
    assert_int_equal(gguf_array_int(kv, 2), 300);
    t = gguf_tensor(&d, "w");
    assert_non_null(t);
    assert_int_equal(t->dims[0], 4);
    assert_int_equal(t->data.len, 32);
    assert_true(((const float *)(const void *)t->data.ptr)[7] == 7.0f);
    assert_null(gguf_tensor(&d, "v"));
    gguf_deinit(&d);
    sl_buf_deinit(&b);
}

/* Every prefix and every flipped byte of a good file: parsed or refused with a text, never worse.
 * The copy has its exact size, so that sanitizers see a read past its end. */
static void test_gguf_survives(void **state)
{
    sl_buf b;
    gguf_dir d;
    sl_err err;

    (void)state;
    build(&b);
    for (size_t len = 0; len < b.len; len++) {
        uint8_t *copy = malloc(len ? len : 1);

        memcpy(copy, b.ptr, len);
        err.text[0] = '\0';
        assert_int_not_equal(gguf_parse(sl_span_of(copy, len), &d, &err), SL_OK);
        assert_true(err.text[0] != '\0');
        free(copy);
    }
    for (size_t at = 0; at < b.len - 32; at++)
        for (int bit = 0; bit < 8; bit++) {
            b.ptr[at] = (char)(b.ptr[at] ^ (1 << bit));
            if (gguf_parse(sl_span_of(b.ptr, b.len), &d, &err) == SL_OK)
                gguf_deinit(&d);
            b.ptr[at] = (char)(b.ptr[at] ^ (1 << bit));
        }
    sl_buf_deinit(&b);
}

static void test_gguf_out_of_memory(void **state)
{
    sl_buf b;
    gguf_dir d;
    sl_err err;
    sl_status status;

    (void)state;
    build(&b);
    for (unsigned long n = 1;; n++) {
        sl_mem_fail_at(n);
        status = gguf_parse(sl_span_of(b.ptr, b.len), &d, &err);
        sl_mem_fail_at(0);
        if (status == SL_OK)
            break;
        assert_int_equal(status, SL_ENOMEM);
        assert_true(n < 100);
    }
    gguf_deinit(&d);
    sl_buf_deinit(&b);
}

static sl_status parse_safe(const char *json, size_t data, sl_err *err)
{
    sl_buf b;
    safetensors_dir d;
    sl_status status;

    sl_buf_init(&b, 1 << 20);
    put_u64(&b, strlen(json));
    sl_buf_puts(&b, json);
    for (size_t i = 0; i < data; i++)
        sl_buf_putc(&b, 1);
    status = safetensors_parse(sl_span_of(b.ptr, b.len), &d, err);
    if (status == SL_OK)
        safetensors_deinit(&d);
    sl_buf_deinit(&b);
    return status;
}

static void test_safetensors(void **state)
{
    static const char *const bad[] = {
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9]}}",
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}",
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}",
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[2]}}",
        "{\"w\":{\"shape\":[2],\"data_offsets\":[0,8]}}",
        "{\"w\":[]}",
        "[]",
        "{",
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
        "\"v\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}",
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}",
    };
    sl_err err;

    (void)state;
    assert_int_equal(
        parse_safe("{\"__metadata__\":{\"a\":\"b\"},\"w\":{\"dtype\":\"BF16\",\"shape\":[2,2],"
                   "\"data_offsets\":[0,8]}}",
                   8, &err),
        SL_OK);
    assert_int_equal(
        parse_safe("{\"w\":{\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8, &err),
        SL_ENOTSUP);
    for (size_t i = 0; i < SL_COUNT_OF(bad); i++) {
        err.text[0] = '\0';
        assert_int_not_equal(parse_safe(bad[i], 8, &err), SL_OK);
        assert_true(strstr(err.text, "safetensors") != NULL);
    }
}

/* ---- store -------------------------------------------------------------------------------------
 */

static void write_partial(const model_store *s, const char *key, const char *text, sl_buf *path)
{
    sl_err err;

    assert_int_equal(model_store_partial(s, key, path, &err), SL_OK);
    assert_int_equal(sl_file_write_atomic(path->ptr, sl_span_str(text), &err), SL_OK);
}

static void test_store(void **state)
{
    /* SHA-256 of "abc", from FIPS 180-2 */
    static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    model_store_file files[2] = { { .path = "config.json" }, { .path = "1_Pooling/config.json" } };
    model_store *s = NULL;
    json_t *list = NULL;
    sl_buf path;
    sl_err err;

    (void)state;
    sl_buf_init(&path, 8192);
    assert_int_equal(model_store_open(dir, &s, &err), SL_OK);
    write_partial(s, "a", "abc", &path);
    assert_int_equal(model_store_add_blob(s, path.ptr, abc, files[0].sha256, &files[0].bytes, &err),
                     SL_OK);
    assert_string_equal(files[0].sha256, abc);
    assert_int_equal(files[0].bytes, 3);
    assert_false(sl_file_exists(path.ptr));
    write_partial(s, "b", "abd", &path);
    assert_int_equal(model_store_add_blob(s, path.ptr, abc, files[1].sha256, &files[1].bytes, &err),
                     SL_EFORMAT);
    assert_false(sl_file_exists(path.ptr)); /* a wrong file does not stay to be resumed */
    write_partial(s, "b", "abd", &path);
    assert_int_equal(
        model_store_add_blob(s, path.ptr, NULL, files[1].sha256, &files[1].bytes, &err), SL_OK);

    assert_int_equal(model_store_put(s, "tree", "here", files, 2, &err), SL_OK);
    assert_int_equal(model_store_put(s, "other", "here", files, 1, &err), SL_OK);
    assert_int_equal(model_store_resolve(s, "tree", &path, &err), SL_OK);
    sl_buf_puts(&path, "/1_Pooling/config.json");
    assert_true(sl_file_exists(path.ptr));
    assert_int_equal(model_store_list(s, &list, &err), SL_OK);
    assert_int_equal(json_array_size(list), 2);
    json_decref(list);

    assert_int_equal(model_store_remove(s, "tree", &err), SL_OK);
    assert_true(model_store_has_blob(s, abc)); /* "other" still names it */
    assert_false(model_store_has_blob(s, files[1].sha256));
    assert_int_equal(model_store_remove(s, "other", &err), SL_OK);
    assert_false(model_store_has_blob(s, abc));
    assert_int_equal(model_store_remove(s, "other", &err), SL_ENOTFOUND);
    assert_int_equal(model_store_put(s, "../evil", "x", files, 1, &err), SL_EINVAL);
    files[0].path = "../../etc/passwd";
    assert_int_equal(model_store_put(s, "evil", "x", files, 1, &err), SL_EINVAL);
    model_store_close(s);
    sl_buf_deinit(&path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gguf_reads),
        cmocka_unit_test(test_gguf_survives),
        cmocka_unit_test(test_gguf_out_of_memory),
        cmocka_unit_test(test_safetensors),
        cmocka_unit_test(test_store),
    };
    char command[128];
    int failed;

    if (!mkdtemp(dir))
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command) != 0 || failed;
}
