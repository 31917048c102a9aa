/* test_token_json.c - vocabularies from tokenizer.json texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests_token.h"

static const char bpe_json[] =
    "{\"added_tokens\":[{\"id\":5,\"content\":\"<end>\",\"special\":true,\"rstrip\":true},"
    "{\"id\":6,\"content\":\"<u>\",\"special\":false,\"normalized\":false}],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},"
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\"z\"},\"content\":\"a\"}]},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
    "{\"Regex\":\"\\\\p{N}\"},\"behavior\":\"Isolated\",\"invert\":false},"
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}]},"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\"}},"
    "{\"SpecialToken\":{\"id\":\"<end>\"}}],\"special_tokens\":{\"<end>\":{\"ids\":[5]}}},"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"\\u0120\":3,\"\\u0120ab\":4}"
    ","
    "\"merges\":[\"a b\",[\"\\u0120\",\"ab\"]]}}";

void test_json_bpe(void **state)
{
    static const char config[] = "{\"eos_token\":{\"content\":\"<end>\"}}";
    token_vocab *v = NULL;
    sl_err err = { 0 };

    assert_int_equal(token_vocab_from_json(sl_span_str(bpe_json), sl_span_str(config), &v, &err),
                     SL_OK);
    expect_ids(v, "ab zb", TOKEN_ADD_SPECIAL, "2 4 5");
    expect_ids(v, "<end>  a<u>b", TOKEN_PARSE_SPECIAL, "5 0 6 1");
    assert_int_equal(token_eos(v), 5);
    assert_true(token_is_eog(v, 5));
    assert_int_equal(token_bos(v), -1);
    token_vocab_destroy(v);
}

void test_json_wordpiece(void **state)
{
    static const char json[] =
        "{\"truncation\":{\"max_length\":2},\"padding\":{\"length\":9},"
        "\"added_tokens\":[{\"id\":0,\"content\":\"[UNK]\",\"special\":true},"
        "{\"id\":1,\"content\":\"[CLS]\",\"special\":true},"
        "{\"id\":2,\"content\":\"[SEP]\",\"special\":true}],"
        "\"normalizer\":{\"type\":\"BertNormalizer\"},"
        "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
        "\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",2],"
        "\"cls\":[\"[CLS]\",1]},"
        "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"max_input_chars_per_word\":8,"
        "\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"un\":3,\"##able\":4,\"!\":5,\"e\":6}}}";
    token_vocab *v = NULL;
    sl_err err = { 0 };

    assert_int_equal(token_vocab_from_json(sl_span_str(json), (sl_span){ 0 }, &v, &err), SL_OK);
    expect_ids(v, "UNable!\xc3\xa9 able unableable", TOKEN_ADD_SPECIAL, "1 3 4 5 6 0 0 2");
    assert_true(sl_span_eq(token_bytes(v, 4, false), sl_span_str("able")));
    assert_true(sl_span_eq(token_bytes(v, 3, false), sl_span_str(" un")));
    token_vocab_destroy(v);
}

void test_json_unigram(void **state)
{
    static const char json[] =
        "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true}],"
        "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
        "{\"type\":\"WhitespaceSplit\"},{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\"}]},"
        "\"model\":{\"type\":\"Unigram\",\"unk_id\":1,\"vocab\":[[\"<s>\",0],[\"<unk>\",0],"
        "[\"\\u2581\",-3],[\"a\",-2],[\"b\",-2],[\"ab\",-3.5],[\"\\u2581ab\",-9],[\"ba\",-3.9]]}}";
    token_vocab *v = NULL;
    sl_err err = { 0 };

    assert_int_equal(token_vocab_from_json(sl_span_str(json), (sl_span){ 0 }, &v, &err), SL_OK);
    assert_string_equal(token_kind(v), "unigram");
    expect_ids(v, "ab", 0, "2 5"); /* -6.5 beats the whole word's -9 */
    expect_ids(v, " ab\n ba ", 0, "2 5 2 7");
    expect_ids(v, "aba", 0, "2 5 3");    /* ab a: -5.5; a ba: -5.9 */
    expect_ids(v, "axyb", 0, "2 3 1 4"); /* neighbours that are unknown are one */
    expect_ids(v, "<s>a", TOKEN_PARSE_SPECIAL, "0 2 3");
    expect_ids(v, "", 0, "");
    assert_true(sl_span_eq(token_bytes(v, 6, false), sl_span_str(" ab")));
    token_vocab_destroy(v);
}

void test_json_refusals(void **state)
{
    static const struct {
        const char *json;
        sl_status status;
    } cases[] = {
        { "", SL_EFORMAT },
        { "[]", SL_EFORMAT },
        { "{}", SL_EFORMAT },
        { "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}}}", SL_ENOTSUP },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", SL_EFORMAT },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":{\"a\":0}}}", SL_EFORMAT },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",\"b\"]]}}", SL_EFORMAT },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1]]},\"normalizer\":"
          "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"?\"}}",
          SL_EFORMAT },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1]]},\"normalizer\":"
          "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////wAA\"}}",
          SL_EFORMAT },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", SL_EFORMAT },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":99999999999},\"merges\":[]}}",
          SL_EFORMAT },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[7]}}", SL_EFORMAT },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},"
          "\"pre_tokenizer\":{\"type\":\"Nope\"}}",
          SL_ENOTSUP },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":"
          "{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":\"(\"}}}",
          SL_EFORMAT },
    };

    for (size_t i = 0; i < SL_COUNT_OF(cases); i++) {
        token_vocab *v = NULL;
        sl_err err = { 0 };

        assert_int_equal(
            token_vocab_from_json(sl_span_str(cases[i].json), (sl_span){ 0 }, &v, &err),
            cases[i].status);
        assert_true(strlen(err.text) > 0);
        assert_null(v);
    }
}

void test_json_no_memory(void **state)
{
    for (unsigned long n = 1; n < 1000; n++) {
        token_vocab *v = NULL;
        sl_err err = { 0 };
        sl_status status;

        sl_mem_fail_at(n);
        status = token_vocab_from_json(sl_span_str(bpe_json), (sl_span){ 0 }, &v, &err);
        sl_mem_fail_at(0);
        token_vocab_destroy(v);
        if (status == SL_OK)
            break;
        assert_true(status == SL_ENOMEM || status == SL_ELIMIT);
    }
}
