/* test_answer.c - the parent believes nothing: every changed answer is refused or still sound. */
#include "reader_test.h"

static reader_block blocks[] = {
    { .begin = 0, .end = 5, .kind = READER_HEADING, .level = 1, .page = 1 },
    { .begin = 7, .end = 12, .kind = READER_TABLE_ROW, .page = 1 },
    { .begin = 13, .end = 18, .kind = READER_TABLE_ROW, .page = 2, .header = 2 },
    { .begin = 20, .end = 23, .kind = READER_LIST_ITEM, .page = 2, .level = 3 },
};

static reader_document sample(void)
{
    return (reader_document){ .text = "Title\n\na | b\n1 | 2\n\n\xe4\xb8\xad",
                              .len = 23,
                              .blocks = blocks,
                              .count = SL_COUNT_OF(blocks),
                              .title = "Title",
                              .type = "application/pdf",
                              .pages = 2 };
}

static void test_both_ways(void **state)
{
    reader_document d = sample(), got;
    sl_buf b;
    sl_err err = { 0 };

    sl_buf_init(&b, 1 << 20);
    reader_answer_encode(&d, NULL, &b);
    assert_int_equal(reader_answer_decode(sl_span_of(b.ptr, b.len), 100, &got, &err), SL_OK);
    check_document(&got);
    assert_string_equal(got.text, d.text);
    assert_int_equal(got.count, d.count);
    assert_memory_equal(got.blocks, d.blocks, sizeof blocks);
    assert_string_equal(got.title, "Title");
    assert_int_equal(got.pages, 2);
    reader_document_deinit(&got);
    assert_int_equal(reader_answer_decode(sl_span_of(b.ptr, b.len), 22, &got, &err), SL_EFORMAT);
    sl_buf_deinit(&b);
}

static void test_failures(void **state)
{
    sl_err told = { 0 }, err = { 0 };
    reader_document got;
    sl_buf b;
    sl_status allowed = sl_fail(&told, SL_ELIMIT, "too much");

    sl_buf_init(&b, 1 << 20);
    reader_answer_encode(NULL, &told, &b);
    assert_int_equal(reader_answer_decode(sl_span_of(b.ptr, b.len), 100, &got, &err), allowed);
    assert_string_equal(err.text, "too much");
    sl_buf_clear(&b);
    told.status = SL_EAUTH; /* nothing a document can cause */
    reader_answer_encode(NULL, &told, &b);
    assert_int_equal(reader_answer_decode(sl_span_of(b.ptr, b.len), 100, &got, &err), SL_EFORMAT);
    sl_buf_deinit(&b);
}

static void refuse(const reader_document *d)
{
    reader_document got = { 0 };
    sl_buf b;

    sl_buf_init(&b, 1 << 20);
    reader_answer_encode(d, NULL, &b);
    assert_int_equal(reader_answer_decode(sl_span_of(b.ptr, b.len), 100, &got, NULL), SL_EFORMAT);
    assert_null(got.text);
    sl_buf_deinit(&b);
}

static void test_lies(void **state)
{
    reader_block kept[SL_COUNT_OF(blocks)];
    reader_document d;

    memcpy(kept, blocks, sizeof blocks);
#define LIE(change)                                                                                \
    d = sample();                                                                                  \
    change;                                                                                        \
    refuse(&d);                                                                                    \
    memcpy(blocks, kept, sizeof blocks)
    LIE(blocks[3].begin = 21); /* inside a character */
    LIE(blocks[3].end = 22);
    LIE(blocks[3].end = 24);
    LIE(blocks[1].begin = 4); /* overlap */
    LIE(blocks[1].end = 7);   /* empty */
    LIE(blocks[0].kind = READER_KIND_COUNT);
    LIE(blocks[0].level = 7);
    LIE(blocks[0].level = 0);
    LIE(blocks[1].level = 1);
    LIE(blocks[2].page = 3);
    LIE(blocks[2].header = 3); /* itself */
    LIE(blocks[2].header = 1); /* a heading */
    LIE(blocks[3].header = 2); /* no row */
    LIE(d.count = 0);
    LIE(d.len = 0);
    LIE(d.text = "Title\n\na | b\n1 | 2\n\n\xff\xb8\xad");
    LIE(d.pages = READER_PAGES_MAX + 1);
    LIE(memset(d.title, 'x', sizeof d.title));
#undef LIE
}

/* Any one byte changed, any length: refused, or a document that is sound. */
static void test_mutations(void **state)
{
    reader_document d = sample();
    sl_buf b;
    size_t sound = 0;

    sl_buf_init(&b, 1 << 20);
    reader_answer_encode(&d, NULL, &b);
    for (size_t i = 0; i < b.len; i++)
        for (int bit = 0; bit < 8; bit++) {
            reader_document got = { 0 };

            b.ptr[i] = (char)(b.ptr[i] ^ 1 << bit);
            if (reader_answer_decode(sl_span_of(b.ptr, b.len), 100, &got, NULL) == SL_OK) {
                size_t at = 0;

                for (size_t k = 0; k < got.count; k++) {
                    assert_true(got.blocks[k].begin >= at && got.blocks[k].end <= got.len);
                    at = got.blocks[k].end;
                }
                sound++;
            }
            reader_document_deinit(&got);
            b.ptr[i] = (char)(b.ptr[i] ^ 1 << bit);
        }
    assert_true(sound > 0);
    for (size_t len = 0; len < b.len; len++) {
        char *exact = sl_malloc(len + 1);
        reader_document got = { 0 };

        memcpy(exact, b.ptr, len);
        assert_int_equal(reader_answer_decode(sl_span_of(exact, len), 100, &got, NULL), SL_EFORMAT);
        sl_free(exact);
    }
    sl_buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_mutations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
