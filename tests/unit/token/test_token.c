/* test_token.c - pre-tokenizers against golden cuts, and tiny vocabularies made here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests_token.h"
#include "pretok_golden.h"

/* --- a GGUF writer --------------------------------------------------------------------------- */

typedef struct gguf_writer {
    sl_buf kvs;
    uint64_t count;
} gguf_writer;

static void put_u32(sl_buf *b, uint32_t v)
{
    sl_buf_put(b, &v, 4);
}

static void put_u64(sl_buf *b, uint64_t v)
{
    sl_buf_put(b, &v, 8);
}

static void put_text(sl_buf *b, const char *s)
{
    put_u64(b, strlen(s));
    sl_buf_puts(b, s);
}

static void put_key(gguf_writer *w, const char *key, gguf_type type)
{
    put_text(&w->kvs, key);
    put_u32(&w->kvs, type);
    w->count++;
}

static void put_str(gguf_writer *w, const char *key, const char *value)
{
    put_key(w, key, GGUF_STRING);
    put_text(&w->kvs, value);
}

static void put_num(gguf_writer *w, const char *key, uint32_t value)
{
    put_key(w, key, GGUF_U32);
    put_u32(&w->kvs, value);
}

static void put_strs(gguf_writer *w, const char *key, const char *const *items, size_t count)
{
    put_key(w, key, GGUF_ARRAY);
    put_u32(&w->kvs, GGUF_STRING);
    put_u64(&w->kvs, count);
    for (size_t i = 0; i < count; i++)
        put_text(&w->kvs, items[i]);
}

static void put_nums(gguf_writer *w, const char *key, gguf_type type, const void *items,
                     size_t count)
{
    put_key(w, key, GGUF_ARRAY);
    put_u32(&w->kvs, type);
    put_u64(&w->kvs, count);
    sl_buf_put(&w->kvs, items, count * 4);
}

static sl_status finish(gguf_writer *w, token_vocab **ret, sl_err *err)
{
    sl_buf image;
    gguf_dir dir;
    sl_status status;

    sl_buf_init(&image, 1 << 20);
    sl_buf_puts(&image, "GGUF");
    put_u32(&image, 3);
    put_u64(&image, 0);
    put_u64(&image, w->count);
    sl_buf_put(&image, w->kvs.ptr, w->kvs.len);
    while (image.len % 32)
        sl_buf_putc(&image, 0);
    assert_int_equal(gguf_parse(sl_span_of(image.ptr, image.len), &dir, err), SL_OK);
    status = token_vocab_from_gguf(&dir, ret, err);
    gguf_deinit(&dir);
    sl_buf_deinit(&image);
    sl_buf_deinit(&w->kvs);
    return status;
}

void expect_ids(const token_vocab *v, const char *text, unsigned flags, const char *ids)
{
    token_ids out = { 0 };
    sl_buf b;
    sl_err err = { 0 };

    sl_buf_init(&b, 1 << 16);
    assert_int_equal(token_encode(v, text, strlen(text), flags, &out, &err), SL_OK);
    for (size_t i = 0; i < out.count; i++)
        sl_buf_printf(&b, i ? " %d" : "%d", out.ids[i]);
    assert_string_equal(sl_buf_str(&b), ids);
    sl_buf_deinit(&b);
    token_ids_deinit(&out);
}

/* --- pre-tokenizers -------------------------------------------------------------------------- */

typedef struct cuts {
    const char *text;
    sl_buf out;
} cuts;

static sl_status note_cut(void *ctx, const char *text, size_t len)
{
    cuts *c = ctx;

    sl_buf_printf(&c->out, c->out.len ? " %zu" : "%zu", (size_t)(text + len - c->text));
    return SL_OK;
}

static void check_row(const pre_rule *rule, bool fast, size_t row)
{
    pretok *p = NULL;
    sl_err err = { 0 };

    assert_int_equal(pre_rule_build(rule, fast, &p, &err), SL_OK);
    for (size_t i = 0; i < SL_COUNT_OF(golden_texts); i++) {
        cuts c = { .text = golden_texts[i] };

        sl_buf_init(&c.out, 1 << 16);
        assert_int_equal(pretok_run(p, c.text, strlen(c.text), note_cut, &c, &err), SL_OK);
        if (strcmp(sl_buf_str(&c.out), golden_rows[row].cuts[i]) != 0)
            print_error("%s, text %zu, fast %d\n", golden_rows[row].name, i, fast);
        assert_string_equal(sl_buf_str(&c.out), golden_rows[row].cuts[i]);
        sl_buf_deinit(&c.out);
    }
    pretok_destroy(p);
}

static void test_pretok_golden(void **state)
{
    for (size_t i = 0; i < SL_COUNT_OF(golden_rows); i++) {
        const pre_rule *rule = pre_rule_at(i);

        assert_non_null(rule);
        assert_memory_equal(rule->names, golden_rows[i].name, strlen(golden_rows[i].name));
        check_row(rule, false, i);
        check_row(rule, true, i);
    }
    assert_null(pre_rule_at(SL_COUNT_OF(golden_rows)));
}

/* Random texts from awkward characters: splitters cut as their expressions. */
static void test_fast_equals_regex(void **state)
{
    static const char *const parts[] = { "a",
                                         "B",
                                         " ",
                                         "  ",
                                         "\n",
                                         "\r",
                                         "\t",
                                         "1",
                                         "23",
                                         "'",
                                         "'s",
                                         "'LL",
                                         ".",
                                         "!?",
                                         "\xc3\xa9",
                                         "\xc2\xa0",
                                         "\xe3\x80\x80",
                                         "\xcc\x81",
                                         "\xe4\xbd\xa0",
                                         "\xd9\xa3",
                                         "\xf0\x9f\x98\x80",
                                         "_",
                                         "\xe1\xa0\x8e" };
    uint32_t rng = 12345;
    sl_err err = { 0 };

    for (size_t row = 0; pre_rule_at(row); row++) {
        pretok *a = NULL, *b = NULL;

        if (!pre_rule_at(row)->fast[0])
            continue;
        assert_int_equal(pre_rule_build(pre_rule_at(row), true, &a, &err), SL_OK);
        assert_int_equal(pre_rule_build(pre_rule_at(row), false, &b, &err), SL_OK);
        for (int round = 0; round < 3000; round++) {
            char text[128] = "";
            cuts ca = { .text = text }, cb = { .text = text };

            for (int n = 0; n < 14; n++) {
                rng = rng * 1664525 + 1013904223;
                strcat(text, parts[(rng >> 8) % SL_COUNT_OF(parts)]);
            }
            sl_buf_init(&ca.out, 4096);
            sl_buf_init(&cb.out, 4096);
            assert_int_equal(pretok_run(a, text, strlen(text), note_cut, &ca, &err), SL_OK);
            assert_int_equal(pretok_run(b, text, strlen(text), note_cut, &cb, &err), SL_OK);
            assert_string_equal(sl_buf_str(&ca.out), sl_buf_str(&cb.out));
            sl_buf_deinit(&ca.out);
            sl_buf_deinit(&cb.out);
        }
        pretok_destroy(a);
        pretok_destroy(b);
    }
}

/* --- tiny vocabularies ----------------------------------------------------------------------- */

static token_vocab *tiny_bpe(void)
{
    /* U+0120 is the alphabet's space. "abc" is a token that merging cannot reach. */
    static const char *const tokens[] = { "a",
                                          "b",
                                          "c",
                                          "\xc4\xa0",
                                          "ab",
                                          "\xc4\xa0"
                                          "ab",
                                          "abc",
                                          "<|im_end|>",
                                          "<user>",
                                          "cc",
                                          "<|im" };
    static const char *const merges[] = { "a b", "\xc4\xa0 ab", "c c", "x y" };
    static const int32_t types[] = { 1, 1, 1, 1, 1, 1, 1, 3, 4, 1, 4 };
    gguf_writer w = { 0 };
    token_vocab *v = NULL;
    sl_err err = { 0 };

    sl_buf_init(&w.kvs, 1 << 16);
    put_str(&w, "tokenizer.ggml.model", "gpt2");
    put_str(&w, "tokenizer.ggml.pre", "gpt-2");
    put_strs(&w, "tokenizer.ggml.tokens", tokens, SL_COUNT_OF(tokens));
    put_strs(&w, "tokenizer.ggml.merges", merges, SL_COUNT_OF(merges));
    put_nums(&w, "tokenizer.ggml.token_type", GGUF_I32, types, SL_COUNT_OF(types));
    put_num(&w, "tokenizer.ggml.bos_token_id", 8);
    put_num(&w, "tokenizer.ggml.eos_token_id", 7);
    assert_int_equal(finish(&w, &v, &err), SL_OK);
    return v;
}

static void test_bpe(void **state)
{
    token_vocab *v = tiny_bpe();

    expect_ids(v, "", 3, "");
    expect_ids(v, "ab ab", 0, "4 5");
    expect_ids(v, "abc", 0, "4 2");
    expect_ids(v, "ccc", 0, "9 2");
    expect_ids(v, "a<user>b", 0, "0 8 1");
    expect_ids(v, "a<|im_end|>", TOKEN_PARSE_SPECIAL, "0 7");
    expect_ids(v, "a<|im_end|>", 0, "0 10");
    assert_int_equal(token_find(v, "ab", 2), 4);
    assert_int_equal(token_find(v, "nope", 4), -1);
    assert_true(token_is_eog(v, 7));
    assert_false(token_is_eog(v, 99));
    assert_int_equal(token_bytes(v, 7, false).len, 0);
    assert_int_equal(token_bytes(v, 7, true).len, 10);
    assert_true(sl_span_eq(token_bytes(v, 5, false), sl_span_str(" ab")));
    assert_int_equal(token_bytes(v, -1, true).len, 0);
    assert_string_equal(token_kind(v), "bpe");
    token_vocab_destroy(v);
    token_vocab_destroy(NULL);
}

static token_vocab *tiny_spm(void)
{
    static const char *const tokens[] = { "<unk>",  "<s>",    "</s>",  "\xe2\x96\x81",
                                          "h",      "i",      "hi",    "\xe2\x96\x81hi",
                                          "<0xC3>", "<0xA9>", "<0x0A>" };
    static const float scores[] = { 0, 0, 0, -1, -2, -3, -4, -5, 0, 0, 0 };
    static const int32_t types[] = { 2, 3, 3, 1, 1, 1, 1, 1, 6, 6, 6 };
    gguf_writer w = { 0 };
    token_vocab *v = NULL;
    sl_err err = { 0 };

    sl_buf_init(&w.kvs, 1 << 16);
    put_str(&w, "tokenizer.ggml.model", "llama");
    put_strs(&w, "tokenizer.ggml.tokens", tokens, SL_COUNT_OF(tokens));
    put_nums(&w, "tokenizer.ggml.scores", GGUF_F32, scores, SL_COUNT_OF(scores));
    put_nums(&w, "tokenizer.ggml.token_type", GGUF_I32, types, SL_COUNT_OF(types));
    assert_int_equal(finish(&w, &v, &err), SL_OK);
    return v;
}

static void test_spm_and_decoder(void **state)
{
    token_vocab *v = tiny_spm();
    token_decoder d;
    sl_buf out;

    expect_ids(v, "hi hi", TOKEN_ADD_SPECIAL, "1 7 7");
    expect_ids(v, "h\xc3\xa9", 0, "3 4 8 9");
    expect_ids(v, "hi</s>hi", TOKEN_PARSE_SPECIAL, "7 2 7");
    sl_buf_init(&out, 1 << 16);
    token_decoder_init(&d, v, true, false);
    token_decoder_push(&d, 7, &out);
    token_decoder_push(&d, 8, &out); /* half a character */
    assert_string_equal(sl_buf_str(&out), "hi");
    token_decoder_push(&d, 9, &out);
    assert_string_equal(sl_buf_str(&out), "hi\xc3\xa9");
    token_decoder_push(&d, 8, &out);
    token_decoder_push(&d, 7, &out);
    token_decoder_push(&d, 8, &out);
    token_decoder_finish(&d, &out);
    assert_string_equal(sl_buf_str(&out), "hi\xc3\xa9\xef\xbf\xbd hi\xef\xbf\xbd");
    sl_buf_deinit(&out);
    token_vocab_destroy(v);
}

static void test_wpm(void **state)
{
    static const char *const tokens[] = { "[UNK]",
                                          "[CLS]",
                                          "[SEP]",
                                          "\xe2\x96\x81un",
                                          "able",
                                          "\xe2\x96\x81!",
                                          "\xe2\x96\x81"
                                          "e" };
    gguf_writer w = { 0 };
    token_vocab *v = NULL;
    sl_err err = { 0 };

    sl_buf_init(&w.kvs, 1 << 16);
    put_str(&w, "tokenizer.ggml.model", "bert");
    put_strs(&w, "tokenizer.ggml.tokens", tokens, SL_COUNT_OF(tokens));
    put_num(&w, "tokenizer.ggml.bos_token_id", 1);
    put_num(&w, "tokenizer.ggml.unknown_token_id", 0);
    put_num(&w, "tokenizer.ggml.seperator_token_id", 2);
    assert_int_equal(finish(&w, &v, &err), SL_OK);
    expect_ids(v, "UNable! \xc3\xa9 zz", TOKEN_ADD_SPECIAL, "1 3 4 5 6 0 2");
    token_vocab_destroy(v);
}

static void test_hostile_gguf(void **state)
{
    static const char *const models[] = { "gpt2", "llama", "bert", "t5", "" };
    static const char *const tokens[] = { "", "a", "a" };
    static const int32_t types[] = { -5, 99, 3 };

    for (size_t i = 0; i < SL_COUNT_OF(models); i++) {
        gguf_writer w = { 0 };
        token_vocab *v = NULL;
        sl_err err = { 0 };

        sl_buf_init(&w.kvs, 1 << 16);
        put_str(&w, "tokenizer.ggml.model", models[i]);
        put_str(&w, "tokenizer.ggml.pre", "no such rule");
        put_strs(&w, "tokenizer.ggml.tokens", tokens, SL_COUNT_OF(tokens));
        put_nums(&w, "tokenizer.ggml.token_type", GGUF_I32, types, SL_COUNT_OF(types));
        put_num(&w, "tokenizer.ggml.bos_token_id", 4000000000u);
        if (finish(&w, &v, &err) == SL_OK)
            expect_ids(v, "", 0, "");
        else
            assert_true(strlen(err.text) > 0);
        token_vocab_destroy(v);
    }
}

/* A long piece takes the heap, a short one scans; both give the same. */
static void test_long_piece(void **state)
{
    token_vocab *v = tiny_bpe();
    token_ids ids = { 0 };
    sl_err err = { 0 };
    char text[2001];

    for (size_t i = 0; i < 2000; i++)
        text[i] = "ab"[i % 2];
    text[2000] = 0;
    assert_int_equal(token_encode(v, text, 2000, 0, &ids, &err), SL_OK);
    assert_int_equal(ids.count, 1000);
    for (size_t i = 0; i < ids.count; i++)
        assert_int_equal(ids.ids[i], 4);
    token_ids_deinit(&ids);
    token_vocab_destroy(v);
}

/* Every allocation of load and encode fails once; nothing leaks or crashes. */
static void test_no_memory(void **state)
{
    for (unsigned long n = 1; n < 400; n++) {
        token_vocab *v = tiny_spm();
        token_ids ids = { 0 };
        sl_err err = { 0 };
        sl_status status;

        sl_mem_fail_at(n);
        status = token_encode(v, "hi hi</s>hi", 11, 3, &ids, &err);
        sl_mem_fail_at(0);
        assert_true(status == SL_OK || (status == SL_ENOMEM && ids.count == 0) ||
                    status == SL_ELIMIT);
        token_ids_deinit(&ids);
        token_vocab_destroy(v);
        if (status == SL_OK)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pretok_golden),
        cmocka_unit_test(test_fast_equals_regex),
        cmocka_unit_test(test_bpe),
        cmocka_unit_test(test_spm_and_decoder),
        cmocka_unit_test(test_wpm),
        cmocka_unit_test(test_hostile_gguf),
        cmocka_unit_test(test_long_piece),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_json_bpe),
        cmocka_unit_test(test_json_wordpiece),
        cmocka_unit_test(test_json_unigram),
        cmocka_unit_test(test_json_refusals),
        cmocka_unit_test(test_json_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
