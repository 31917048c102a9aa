/* test_match.c - what finding is made of, without a database: words, filters, vectors, fusion. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "fake.h"
#include "rag/rag_int.h"
#include "rag/words.h"

/* ---- words --------------------------------------------------------------------------------- */

static bool put_word(void *ctx, const char *token, size_t len, unsigned flags)
{
    sl_buf *out = ctx;

    sl_buf_puts(out, out->len ? " " : "");
    sl_buf_put(out, token, len);
    sl_buf_puts(out, flags & WORDS_STOP ? "/s" : "");
    sl_buf_puts(out, flags & WORDS_EXTRA ? "/e" : "");
    sl_buf_puts(out, flags & WORDS_PART ? "/p" : "");
    return true;
}

static void check_words(const char *language, const char *text, const char *want)
{
    words *w = words_create();
    sl_buf out;

    sl_buf_init(&out, 65536);
    assert_non_null(w);
    assert_true(words_split(w, language, text, strlen(text), put_word, &out));
    assert_string_equal(sl_buf_str(&out), want);
    sl_buf_deinit(&out);
    words_destroy(w);
}

static void test_words(void **state)
{
    check_words("english", "The quick foxes' jumping", "the/s quick fox jump");
    check_words("none", "The quick foxes", "the quick foxes");
    check_words("german", "Häuser der Straße", "haus der strass");
    check_words("english", "it's we’ll don't", "it/s s/s we/s ll/s don t/s");
    check_words("english", "e-mail x-15 well-known-thing",
                "e mail email/e x 15 x15/e well known thing");
    check_words("english", "3.14 1,000,000 12:30 1,2 2026-11-26",
                "3.14 1000000 12:30 1 2 2026 11 26 20261126/e");
    check_words("english", "snake_case getUserName U.S.A. www.example.org C++ c#",
                "snake case snake_case/e get user name getusername/e usa www exampl org "
                "www.example.org/e c++ c#");
    check_words("english", "naïve ＡＢＣ１２３ ﬁsh x² co\xc2\xadoperate",
                "naiv abc123 fish x2 cooper");
    check_words("english", "战国无双 3", "战/p 战国 国/p 国无 无/p 无双 双/p 3");
    check_words("english", "猫。", "猫");
    check_words("english", "東京タワー ﾊﾟ", "東/p 東京 京/p 京タ タワ ワー パ");
    check_words("english", "한국어", "한국 국어");
    check_words("english", "ไทยดี", "ไท ทย ยดี");
    check_words("english", "Привет ЁЛКА أَحْمَد", "привет елк احمد");
    check_words("english",
                "a\xff\xfe"
                "b \xf0\x9f\x98\x80 x",
                "a/s b x");
    check_words("english", " -_. '' ,", "");
}

/* Whatever comes: no token is empty or too long, and as many bytes as there are make an end. */
static bool check_token(void *ctx, const char *token, size_t len, unsigned flags)
{
    SL_ASSERT(len > 0 && len <= WORDS_TOKEN_BYTES);
    return --*(int *)ctx > 0;
}

static void test_words_random(void **state)
{
    words *w = words_create();
    char text[600];

    for (int round = 0; round < 3000; round++) {
        size_t len = fake_random() % sizeof text;
        int left = round % 3 ? 1 << 30 : 3; /* also stopped in the middle */

        for (size_t i = 0; i < len; i++)
            text[i] =
                (char)(round % 2
                           ? fake_random()
                           : (uint32_t) "aA1-_.:,' \xe4\xbd\xa0\xe0\xb8\xb5"[fake_random() % 17]);
        (void)words_split(w, "english", text, len, check_token, &left);
    }
    words_destroy(w);
    check_words("english", "fine again", "fine again");
}

/* ---- filters ------------------------------------------------------------------------------- */

static sl_status compile(const char *text, json_t **ret_json, filter **ret, sl_err *err)
{
    *ret_json = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(*ret_json);
    return filter_compile(*ret_json, ret, err);
}

static void check_filter(const char *text, const char *attributes, bool want)
{
    json_t *json = NULL, *object = json_loads(attributes, 0, NULL);
    filter *c = NULL;
    attribute_list *l = NULL;
    sl_err err = { 0 };

    if (compile(text, &json, &c, &err) != SL_OK)
        fail_msg("%s: %s", text, err.text);
    assert_int_equal(attribute_list_create(object, &l, NULL), SL_OK);
    if (filter_matches(c, l) != want)
        fail_msg("%s on %s", text, attributes);
    filter_destroy(c);
    sl_free(l);
    json_decref(json);
    json_decref(object);
}

static void test_filter(void **state)
{
    static const char year[] = "{\"year\": 2020, \"kind\": \"b\", \"open\": true}";

    check_filter("null", year, true);
    check_filter("{\"type\":\"eq\",\"key\":\"year\",\"value\":2020}", year, true);
    check_filter("{\"type\":\"eq\",\"key\":\"year\",\"value\":2020.0}", year, true);
    check_filter("{\"type\":\"eq\",\"key\":\"year\",\"value\":\"2020\"}", year, false);
    check_filter("{\"type\":\"ne\",\"key\":\"year\",\"value\":\"2020\"}", year, true);
    check_filter("{\"type\":\"ne\",\"key\":\"none\",\"value\":1}", year, true);
    check_filter("{\"type\":\"gt\",\"key\":\"year\",\"value\":2019}", year, true);
    check_filter("{\"type\":\"gt\",\"key\":\"year\",\"value\":2020}", year, false);
    check_filter("{\"type\":\"gte\",\"key\":\"year\",\"value\":2020}", year, true);
    check_filter("{\"type\":\"lt\",\"key\":\"year\",\"value\":2020}", year, false);
    check_filter("{\"type\":\"lte\",\"key\":\"kind\",\"value\":\"b\"}", year, true);
    check_filter("{\"type\":\"lt\",\"key\":\"kind\",\"value\":\"a\"}", year, false);
    check_filter("{\"type\":\"gt\",\"key\":\"none\",\"value\":0}", year, false);
    check_filter("{\"type\":\"gte\",\"key\":\"open\",\"value\":false}", year, false);
    check_filter("{\"type\":\"eq\",\"key\":\"open\",\"value\":true}", year, true);
    check_filter("{\"type\":\"eq\",\"key\":\"open\",\"value\":1}", year, false);
    check_filter("{\"type\":\"in\",\"key\":\"kind\",\"value\":[1,\"b\"]}", year, true);
    check_filter("{\"type\":\"in\",\"key\":\"kind\",\"value\":[]}", year, false);
    check_filter("{\"type\":\"nin\",\"key\":\"kind\",\"value\":[\"b\"]}", year, false);
    check_filter("{\"type\":\"nin\",\"key\":\"none\",\"value\":[\"b\"]}", "{}", true);
    check_filter(
        "{\"type\":\"and\",\"filters\":[{\"type\":\"eq\",\"key\":\"kind\",\"value\":\"b\"},"
        "{\"type\":\"or\",\"filters\":[{\"type\":\"lt\",\"key\":\"year\",\"value\":1},"
        "{\"type\":\"eq\",\"key\":\"open\",\"value\":true}]}]}",
        year, true);
    check_filter(
        "{\"type\":\"or\",\"filters\":[{\"type\":\"and\",\"filters\":[{\"type\":\"eq\","
        "\"key\":\"kind\",\"value\":\"b\"},{\"type\":\"lt\",\"key\":\"year\",\"value\":1}]},"
        "{\"type\":\"eq\",\"key\":\"kind\",\"value\":\"x\"}]}",
        year, false);
}

static void test_bad_filters(void **state)
{
    static const char *const bad[] = {
        "1",
        "[]",
        "{}",
        "{\"type\":\"like\",\"key\":\"a\",\"value\":1}",
        "{\"type\":\"eq\",\"value\":1}",
        "{\"type\":\"eq\",\"key\":\"a\"}",
        "{\"type\":\"eq\",\"key\":\"a\",\"value\":[1]}",
        "{\"type\":\"in\",\"key\":\"a\",\"value\":1}",
        "{\"type\":\"in\",\"key\":\"a\",\"value\":[{}]}",
        "{\"type\":\"and\",\"filters\":[]}",
        "{\"type\":\"or\",\"filters\":[1]}",
    };
    json_t *deep = json_loads("{\"type\":\"eq\",\"key\":\"a\",\"value\":1}", 0, NULL), *json;
    filter *c = NULL;
    sl_err err;

    for (size_t i = 0; i < SL_COUNT_OF(bad); i++) {
        assert_int_equal(compile(bad[i], &json, &c, &err), SL_EINVAL);
        assert_null(c);
        json_decref(json);
    }
    for (int i = 0; i < FILTER_DEPTH_MAX + 1; i++)
        deep = json_pack("{s:s,s:[o]}", "type", "and", "filters", deep);
    assert_int_equal(filter_compile(deep, &c, &err), SL_ELIMIT);
    json_decref(deep);
}

/* ---- vectors ------------------------------------------------------------------------------- */

#define DIM 100

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

/* Every hit has its score, and no row that was left out is better. */
static void check_nearest(vector_set *v, const float *all, size_t rows, const uint64_t *allowed)
{
    float q[DIM];
    vector_hit hits[10];
    double mean = 0, sum = 0, worst;
    size_t count = 0, want = 0;

    fake_random_vector(q, DIM);
    assert_int_equal(v->ops->search(v->ctx, q, allowed, 10, hits, &count, &mean, NULL), SL_OK);
    for (size_t i = 0; i < rows; i++)
        if (vectors_allowed(allowed, i)) {
            want++;
            sum += dot(q, all + i * DIM, DIM);
        }
    assert_int_equal(count, SL_MIN(want, (size_t)10));
    assert_true(want == 0 || fabs(mean - sum / (double)want) < 2e-3);
    worst = count ? hits[count - 1].score : 1;
    for (size_t i = 0; i < count; i++) {
        assert_true(vectors_allowed(allowed, hits[i].row));
        assert_true(fabs(hits[i].score - dot(q, all + hits[i].row * DIM, DIM)) < 5e-3);
        assert_true(i == 0 || hits[i].score <= hits[i - 1].score);
    }
    for (size_t i = 0; i < rows; i++) {
        bool is_hit = false;

        for (size_t k = 0; k < count; k++)
            is_hit |= hits[k].row == i;
        assert_true(is_hit || !vectors_allowed(allowed, i) ||
                    dot(q, all + i * DIM, DIM) <= worst + 1e-2);
    }
}

static void test_vectors(void **state)
{
    enum { ROWS = 5000 };
    float *all = sl_calloc(ROWS, DIM * sizeof *all);
    uint64_t allowed[ROWS / 64 + 1];
    vector_set v = { 0 };

    assert_int_equal(vectors_memory(DIM, &v, NULL), SL_OK);
    for (size_t i = 0; i < ROWS; i++) {
        fake_random_vector(all + i * DIM, DIM);
        assert_int_equal(v.ops->put(v.ctx, i, all + i * DIM, NULL), SL_OK);
    }
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < SL_COUNT_OF(allowed); i++)
            allowed[i] = round == 0          ? UINT64_MAX
                         : round < 8         ? (uint64_t)fake_random() << 32 | fake_random()
                         : fake_random() % 9 ? 0
                                             : (uint64_t)1 << fake_random() % 64;
        check_nearest(&v, all, ROWS, allowed);
    }
    for (size_t i = 0; i < 1000; i++) { /* the second half to the front */
        assert_int_equal(v.ops->move(v.ctx, 4000 + i, i, NULL), SL_OK);
        memcpy(all + i * DIM, all + (4000 + i) * DIM, DIM * sizeof *all);
    }
    v.ops->truncate(v.ctx, 1000);
    memset(allowed, 0xff, sizeof allowed);
    memset(allowed + 16, 0, sizeof allowed - 16 * sizeof *allowed);
    allowed[15] &= ((uint64_t)1 << 40) - 1;
    check_nearest(&v, all, 1000, allowed);
    vectors_destroy(&v);
    sl_free(all);
}

/* ---- fusion -------------------------------------------------------------------------------- */

static void test_fuse(void **state)
{
    fuse_item items[] = { { .row = 1, .owner = 1, .lexical = 10, .dense = 0.3 },
                          { .row = 2, .owner = 2, .lexical = 9, .dense = 0.8 },
                          { .row = 3, .owner = 3, .lexical = 0, .dense = 0.7 } };
    fuse_scale s = { .mode = LLM_DOCS_FUSED,
                     .lexical_best = 10,
                     .lexical_bound = 20,
                     .dense_best = 0.8,
                     .dense_mean = 0.2,
                     .weight_lexical = 1,
                     .weight_dense = 1 };
    double weight = fuse_weight(items, 3, &s);

    /* The best by words is hardly ahead: its low cosine tells little against the vectors. */
    assert_true(weight > 0.3 && weight < 0.5);
    fuse_items(items, 3, &s);
    assert_int_equal(items[0].row, 2);
    assert_int_equal(items[1].row, 1);
    assert_int_equal(items[2].row, 3);
    assert_true(items[0].score <= 1 && items[2].score >= 0);
    /* Words single one out, and the vectors see nothing in it: they do not count. */
    items[0].lexical = 1;
    items[1].dense = 0.2;
    assert_float_equal(fuse_weight(items, 3, &s), 0, 1e-9);
    items[1].dense = 0.8;
    assert_float_equal(fuse_weight(items, 3, &s), 0.5, 1e-9);
    /* A question that the model cannot read. */
    s.unknown = 1;
    assert_float_equal(fuse_weight(items, 3, &s), 0, 1e-9);
    s.unknown = 0;
    s.weight_dense = 3;
    assert_float_equal(fuse_weight(items, 3, &s), 0.75, 1e-9);
    s.weight_dense = s.weight_lexical = 0;
    assert_float_equal(fuse_weight(items, 3, &s), 0, 1e-9);
    s.lexical_best = 0; /* no word is found anywhere */
    assert_float_equal(fuse_weight(items, 3, &s), 1, 1e-9);
    s.lexical_best = 10;
    s.mode = LLM_DOCS_DENSE;
    assert_float_equal(fuse_score(&items[1], &s, 1), 0.8, 1e-9);
    s.mode = LLM_DOCS_LEXICAL;
    assert_float_equal(fuse_score(&items[1], &s, 0), items[1].lexical / 20, 1e-9);
    fuse_items(items, 0, &s);
}

/* A model of ASCII: a token a character, 7 for all others. */
static sl_status ascii_tokenize(void *ctx, const char *text, size_t len, unsigned flags,
                                int32_t *ids, size_t cap, size_t *ret_count, sl_err *err)
{
    *ret_count = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c >= 0x80 && c < 0xc0)
            continue;
        if (*ret_count < cap)
            ids[*ret_count] = c < 0x80 ? 1 : 7;
        ++*ret_count;
    }
    return SL_OK;
}

static const char *unknown_name;

static sl_status ascii_detokenize(void *ctx, const int32_t *ids, size_t count, sl_buf *out,
                                  sl_err *err)
{
    sl_buf_puts(out, ids[0] == 7 ? unknown_name : "a");
    return SL_OK;
}

static void test_unknown(void **state)
{
    llm_backend_ops ops = { .tokenize = ascii_tokenize, .detokenize = ascii_detokenize };
    llm_backend backend = { .ops = &ops };
    rag_model m = { .backend = &backend };

    unknown_name = "[UNK]";
    assert_float_equal(rag_unknown_share(&m, "ab\xe4\xb8\xad", 5), 1.0 / 3, 1e-9);
    assert_float_equal(rag_unknown_share(&m, "abc", 3), 0, 1e-9);
    assert_float_equal(rag_unknown_share(&m, "", 0), 0, 1e-9);
    unknown_name = "<0xF0>"; /* it knows all bytes */
    assert_float_equal(rag_unknown_share(&m, "ab\xe4\xb8\xad", 5), 0, 1e-9);
    ops.detokenize = NULL;
    assert_float_equal(rag_unknown_share(&m, "ab\xe4\xb8\xad", 5), 0, 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),   cmocka_unit_test(test_words_random),
        cmocka_unit_test(test_filter),  cmocka_unit_test(test_bad_filters),
        cmocka_unit_test(test_vectors), cmocka_unit_test(test_fuse),
        cmocka_unit_test(test_unknown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
