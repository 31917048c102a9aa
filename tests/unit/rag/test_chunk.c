/* test_chunk.c - passages are exact spans of the document, cut where its structure allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>

#include "base/mem.h"
#include "rag/chunk.h"

/* One token for each four bytes begun, so that long words and CJK text are long too. */
static sl_status count_bytes(void *ctx, const char *text, size_t len, size_t *ret, sl_err *err)
{
    *(size_t *)ctx += len;
    *ret = (len + 3) / 4;
    return SL_OK;
}

static size_t counted;

static chunk_list cut(const char *text, size_t len, size_t target, size_t overlap, bool is_plain)
{
    chunk_options o = { .is_plain = is_plain,
                        .target_tokens = target,
                        .overlap_tokens = overlap,
                        .tokens_max = 4 * target,
                        .count = count_bytes,
                        .ctx = &counted };
    chunk_list l;
    sl_err err = { 0 };
    size_t end = 0;

    counted = 0;
    if (chunk_text(sl_span_of(text, len), &o, &l, &err) != SL_OK)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < l.count; i++) {
        const chunk *c = &l.items[i];
        size_t tokens = (c->end - c->begin + 3) / 4;

        assert_true(c->begin < c->end && c->end <= len);
        assert_true(sl_utf8_valid(text + c->begin, c->end - c->begin));
        assert_true(tokens + (strlen(l.sections[c->section]) + 3) / 4 <= 4 * target);
        assert_true(c->end > end); /* forward, nothing twice but the overlap */
        end = c->end;
    }
    return l;
}

static void check(const chunk_list *l, const char *text, size_t i, const char *want,
                  const char *heading)
{
    assert_true(i < l->count);
    assert_int_equal(l->items[i].end - l->items[i].begin, strlen(want));
    assert_memory_equal(text + l->items[i].begin, want, strlen(want));
    assert_string_equal(l->sections[l->items[i].section], heading);
}

static void test_headings(void **state)
{
    static const char text[] = "Before.\r\n\r\n# A #\r\n\r\nIn A.\r\n## B\r\nIn B,\r\nstill.\r\n"
                               "Title\r\n---\r\n\r\nIn C. #no\r\n#hash\r\n\r\nTop\r\n===\r\n"
                               "# Empty\n## Also empty\n# Last";
    chunk_list l = cut(text, sizeof text - 1, 50, 0, false);

    check(&l, text, 0, "Before.", "");
    check(&l, text, 1, "In A.", "A");
    check(&l, text, 2, "In B,\r\nstill.\r\nTitle\r\n---\r\n\r\nIn C. #no\r\n#hash", "A > B");
    check(&l, text, 3, "Top\r\n===", "Top");
    check(&l, text, 4, "## Also empty", "Empty > Also empty");
    check(&l, text, 5, "# Last", "Last");
    assert_int_equal(l.count, 6);
    assert_string_equal(l.title, "A");
    chunk_list_deinit(&l);
}

static void test_setext(void **state)
{
    static const char text[] = "Big\n===\n\none\n\nSmall\n-----\n\ntwo\n\n---\n\nthree\n";
    chunk_list l = cut(text, sizeof text - 1, 50, 0, false);

    check(&l, text, 0, "one", "Big");
    check(&l, text, 1, "two\n\n---\n\nthree", "Big > Small");
    assert_int_equal(l.count, 2);
    chunk_list_deinit(&l);
    l = cut(text, sizeof text - 1, 50, 0, true);
    assert_int_equal(l.count, 1); /* plain text has no headings */
    assert_string_equal(l.sections[0], "");
    chunk_list_deinit(&l);
}

static void test_fences(void **state)
{
    static const char text[] = "Intro words here.\n\n```c\n# no heading\n\nint x; int y; int z;\n"
                               "~~~\n```\n\nAfter it. ```inline``` too.\n\n~~~\nopen to the end";
    chunk_list l = cut(text, sizeof text - 1, 8, 0, false);

    check(&l, text, 0, "Intro words here.", "");
    check(&l, text, 1, "```c\n# no heading\n\nint x; int y; int z;\n~~~\n```", "");
    check(&l, text, 2, "After it. ```inline``` too.", "");
    check(&l, text, 3, "~~~\nopen to the end", "");
    assert_int_equal(l.count, 4);
    chunk_list_deinit(&l);
}

/* ---- documents of readers ------------------------------------------------------------------ */

/* A document whose blocks are the lines of a text; the kind of each is a character of kinds: h, H
 * (levels 1 and 2), p, l, r (row), t (header row), c. */
static reader_document make_document(char *text, const char *kinds, const uint32_t *pages,
                                     reader_block *blocks)
{
    reader_document d = { .text = text, .len = strlen(text), .blocks = blocks };
    uint32_t header = 0;

    for (size_t at = 0; kinds[d.count]; d.count++) {
        char k = kinds[d.count];
        size_t n = strcspn(text + at, "\n");
        reader_block *b = &blocks[d.count];

        *b = (reader_block){ .begin = at, .end = at + n, .page = pages ? pages[d.count] : 0 };
        b->kind = k == 'h' || k == 'H'   ? READER_HEADING
                  : k == 'l'             ? READER_LIST_ITEM
                  : k == 'r' || k == 't' ? READER_TABLE_ROW
                  : k == 'c'             ? READER_CODE
                                         : READER_PARAGRAPH;
        b->level = k == 'h' ? 1 : k == 'H' ? 2 : k == 'l';
        if (k == 't')
            header = (uint32_t)d.count + 1;
        b->header = k == 'r' ? header : 0;
        at += n + (text[at + n] == '\n');
    }
    return d;
}

static chunk_list cut_document(const reader_document *d, size_t target, size_t parent)
{
    chunk_options o = { .target_tokens = target,
                        .parent_tokens = parent,
                        .tokens_max = 4 * target,
                        .count = count_bytes,
                        .ctx = &counted };
    chunk_list l;
    sl_err err = { 0 };

    if (chunk_document(d, &o, &l, &err) != SL_OK)
        fail_msg("%s", err.text);
    return l;
}

static void check_context(const chunk_list *l, const char *text, size_t i, const char *want)
{
    sl_buf b;

    sl_buf_init(&b, 1000);
    chunk_put_context(l, &l->items[i], text, &b);
    assert_string_equal(sl_buf_str(&b), want);
    sl_buf_deinit(&b);
}

/* Rows carry their table's header row, but the chunk that holds it does not. */
static void test_tables(void **state)
{
    char text[] = "Prices\nmodel price\nsmall 10 euros\nmedium 20 euros\nlarge 30 euros\n"
                  "city people\nBern 134,000\nAfter the table.";
    reader_block blocks[16];
    reader_document d = make_document(text, "htrrrtrp", NULL, blocks);
    chunk_list l = cut_document(&d, 8, 0);

    check(&l, text, 0, "model price\nsmall 10 euros", "Prices");
    check_context(&l, text, 0, "Prices\n");
    check(&l, text, 1, "medium 20 euros\nlarge 30 euros", "Prices");
    check_context(&l, text, 1, "Prices\nmodel price\n");
    check(&l, text, 2, "city people\nBern 134,000", "Prices");
    check_context(&l, text, 2, "Prices\n");
    check(&l, text, 3, "After the table.", "Prices");
    assert_int_equal(l.count, 4);
    chunk_list_deinit(&l);
    l = cut_document(&d, 4, 0);
    check(&l, text, 5, "Bern 134,000", "Prices");
    check_context(&l, text, 5, "Prices\ncity people\n");
    chunk_list_deinit(&l);
    l = cut_document(&d, 50, 0); /* small enough: one passage with its header inside */
    assert_int_equal(l.count, 1);
    check_context(&l, text, 0, "Prices\n");
    chunk_list_deinit(&l);
}

static void test_pages(void **state)
{
    static const uint32_t pages[] = { 1, 1, 2, 2, 4 };
    char text[] = "Title here\nOn the first page.\nOn the second page.\nEven more of it.\nLast.";
    reader_block blocks[8];
    reader_document d = make_document(text, "hpppp", pages, blocks);
    chunk_list l;

    snprintf(d.title, sizeof d.title, "Own title");
    l = cut_document(&d, 5, 0);
    assert_int_equal(l.count, 4);
    assert_int_equal(l.items[0].page, 1);
    assert_int_equal(l.items[1].page, 2);
    assert_int_equal(l.items[2].page, 2);
    assert_int_equal(l.items[3].page, 4);
    assert_string_equal(l.title, "Own title");
    chunk_list_deinit(&l);
}

static void check_parent(const chunk_list *l, const char *text, size_t i, const char *want)
{
    const chunk *c = &l->items[i];

    assert_int_equal(c->parent_end - c->parent_begin, strlen(want));
    assert_memory_equal(text + c->parent_begin, want, strlen(want));
}

/* A parent is the whole section if it fits, else what is around the chunk, in whole sentences. */
static void test_parents(void **state)
{
    char text[] = "One\nAaa bbb ccc. Ddd eee fff.\nGgg hhh iii. Jjj kkk lll.\nTwo\nMmm nnn ooo.";
    reader_block blocks[8];
    reader_document d = make_document(text, "hpphp", NULL, blocks);
    chunk_list l = cut_document(&d, 3, 20);

    assert_int_equal(l.count, 5);
    check(&l, text, 1, "Ddd eee fff.", "One");
    for (size_t i = 0; i < 4; i++)
        check_parent(&l, text, i, "Aaa bbb ccc. Ddd eee fff.\nGgg hhh iii. Jjj kkk lll.");
    check_parent(&l, text, 4, "Mmm nnn ooo.");
    chunk_list_deinit(&l);
    l = cut_document(&d, 3, 9); /* three sentences */
    check_parent(&l, text, 0, "Aaa bbb ccc. Ddd eee fff.\nGgg hhh iii.");
    check_parent(&l, text, 1, "Aaa bbb ccc. Ddd eee fff.\nGgg hhh iii.");
    check_parent(&l, text, 3, "Ddd eee fff.\nGgg hhh iii. Jjj kkk lll.");
    chunk_list_deinit(&l);
    l = cut_document(&d, 3, 0);
    check_parent(&l, text, 1, "Ddd eee fff.");
    chunk_list_deinit(&l);
}

/* Chinese: sentences end without spaces behind their marks. */
static void test_cjk(void **state)
{
    char text[] = "\xe6\xa0\x87\xe9\xa2\x98\n"
                  "\xe7\xac\xac\xe4\xb8\x80\xe5\x8f\xa5\xe3\x80\x82"
                  "\xe7\xac\xac\xe4\xba\x8c\xe5\x8f\xa5\xef\xbc\x81\xe3\x80\x8d"
                  "\xe7\xac\xac\xe4\xb8\x89\xe5\x8f\xa5\xef\xbc\x9f";
    reader_block blocks[8];
    reader_document d = make_document(text, "hp", NULL, blocks);
    chunk_list l = cut_document(&d, 4, 0);

    assert_int_equal(l.count, 3);
    check(&l, text, 0, "\xe7\xac\xac\xe4\xb8\x80\xe5\x8f\xa5\xe3\x80\x82",
          "\xe6\xa0\x87\xe9\xa2\x98");
    check(&l, text, 1, "\xe7\xac\xac\xe4\xba\x8c\xe5\x8f\xa5\xef\xbc\x81\xe3\x80\x8d",
          "\xe6\xa0\x87\xe9\xa2\x98");
    chunk_list_deinit(&l);
}

/* What a reader process says is checked before it is believed. */
static void test_unsound(void **state)
{
    char text[] = "One two.\n\xc3\xa4 three.";
    reader_block good[] = { { .begin = 0, .end = 8 }, { .begin = 9, .end = 18 } };
    chunk_options o = {
        .target_tokens = 8, .tokens_max = 32, .count = count_bytes, .ctx = &counted
    };

    for (int i = 0; i < 8; i++) {
        reader_block b[2];
        reader_document d = { .text = text, .len = strlen(text), .blocks = b, .count = 2 };
        chunk_list l;
        sl_err err = { 0 };

        memcpy(b, good, sizeof b);
        b[1].end += i == 1;           /* past the text */
        b[1].begin += i == 2;         /* inside a character */
        b[0].end = i == 3 ? 10 : 8;   /* overlap */
        b[1].header = i == 4 ? 2 : 0; /* itself */
        b[1].kind = i == 5 ? READER_KIND_COUNT : READER_PARAGRAPH;
        b[1].end = i == 6 ? 9 : b[1].end; /* empty */
        b[0].end = i == 7 ? SIZE_MAX : b[0].end;
        assert_int_equal(chunk_document(&d, &o, &l, &err), i ? SL_EFORMAT : SL_OK);
        assert_true(i == 0 || strstr(err.text, "block"));
        chunk_list_deinit(&l);
    }
}

static void test_overlap(void **state)
{
    static const char text[] = "One is here. Two is here. Three is here. Four is here. Five is it.";
    chunk_list l = cut(text, sizeof text - 1, 11, 4, false);

    check(&l, text, 0, "One is here. Two is here. Three is here.", "");
    check(&l, text, 1, "Three is here. Four is here. Five is it.", "");
    assert_int_equal(l.count, 2);
    chunk_list_deinit(&l);
}

static void test_items(void **state)
{
    static const char text[] =
        "- first thing of all\n  goes on\n- second thing\n1. third\n2) fourth";
    chunk_list l = cut(text, sizeof text - 1, 8, 0, false);

    check(&l, text, 0, "- first thing of all\n  goes on", "");
    check(&l, text, 1, "- second thing\n1. third", "");
    check(&l, text, 2, "2) fourth", "");
    chunk_list_deinit(&l);
}

static void test_sentences(void **state)
{
    static const char text[] = "Dr. J. Roe, e.g. Ann, came at 3.5 pm. \"Is it so?\" No! ok. "
                               "\xe6\x97\xa5\xe6\x9c\xac\xe3\x80\x82\xe8\xaa\x9e\xe3\x80\x82";
    size_t len = sizeof text - 1, at;

    at = chunk_sentence_end(text, len, 0);
    assert_memory_equal(text + at - 7, "3.5 pm.", 7);
    at = chunk_sentence_end(text, len, at);
    assert_memory_equal(text + at - 4, "so?\"", 4);
    at = chunk_sentence_end(text, len, at); /* "No! ok." goes on in lower case */
    assert_memory_equal(text + at - 3, "ok.", 3);
    at = chunk_sentence_end(text, len, at);
    assert_memory_equal(text + at - 3, "\xe3\x80\x82", 3);
    assert_int_equal(len - at, 6);
    assert_int_equal(chunk_sentence_end(text, len, at), len);
    assert_int_equal(chunk_sentence_end("no end", 6, 0), 6);
}

/* Each text is two sentences; the first ends where the bar stands. */
static void test_sentence_forms(void **state)
{
    static const char *const texts[] = {
        "Prof. Dr. Maier kam am 3. Mai.| Er ging.",
        "It costs 3.50 euros, i.e. Much less than 4.|\nNext.",
        "1. Open the lid.| 2. Close it.",
        "In the year 1999.| The end.",
        "A heading without a mark|\n\nIts text.",
        "\n\n  A heading|\n \t\nIts text.",
        "\xd0\xaf \xd0\xb7\xd0\xb4\xd0\xb5\xd1\x81\xd1\x8c.| \xd0\x94\xd0\xb0.",
        "\xe0\xa4\x95\xe0\xa4\x96\xe0\xa5\xa4| \xe0\xa4\x97",
        "\xd9\x85\xd8\xa7\xd8\x9f| \xd9\x84\xd8\xa7",
        "He waits\xe2\x80\xa6 and waits\xe2\x80\xa6| Then he goes.",
        "Say \xe2\x80\x9eJa.\xe2\x80\x9c| Gut.",
        "www.example.org/a.b?c=d is the place.| Go.",
    };

    for (size_t i = 0; i < SL_COUNT_OF(texts); i++) {
        char text[200];
        size_t bar = strcspn(texts[i], "|"), len;

        len = (size_t)snprintf(text, sizeof text, "%.*s%s", (int)bar, texts[i], texts[i] + bar + 1);
        if (chunk_sentence_end(text, len, 0) != bar)
            fail_msg("'%s' ends at %zu", text, chunk_sentence_end(text, len, 0));
    }
}

/* Text without spaces or marks is cut between characters; every byte is in some passage. */
static void test_wall(void **state)
{
    char text[30000];
    chunk_list l;
    size_t end = 0;

    for (size_t i = 0; i < sizeof text; i += 3)
        memcpy(text + i, "\xe6\x97\xa5", 3);
    l = cut(text, sizeof text, 20, 5, false);
    for (size_t i = 0; i < l.count; i++) {
        assert_true(l.items[i].begin <= end);
        end = l.items[i].end;
    }
    assert_int_equal(end, sizeof text);
    assert_true(counted < 40 * sizeof text);
    chunk_list_deinit(&l);
}

/* The tokenizer's work grows with the text, not with its square. */
static void test_linear(void **state)
{
    size_t len = 2000000, at = 0;
    char *text = sl_malloc(len + 100);
    chunk_list l;

    while (at < len)
        at += (size_t)snprintf(text + at, 100, "%sSentence number %zu is here.%s",
                               at % 7 ? "" : "# Head\n", at, at % 5 ? " " : "\n\n");
    l = cut(text, at, 60, 10, false);
    assert_true(l.count > 5000);
    assert_true(counted < 5 * at);
    chunk_list_deinit(&l);
    sl_free(text);
}

static void test_refused(void **state)
{
    chunk_options o = {
        .target_tokens = 8, .tokens_max = 32, .count = count_bytes, .ctx = &counted
    };
    chunk_list l;
    sl_err err = { 0 };

    assert_int_equal(chunk_text(sl_span_of("ok \xe2\x82", 5), &o, &l, &err), SL_EFORMAT);
    assert_non_null(strstr(err.text, "byte 3"));
    assert_int_equal(chunk_text(sl_span_of("\xef\xbb\xbf \n", 5), &o, &l, &err), SL_EINVAL);
    assert_int_equal(chunk_text(sl_span_of(NULL, 0), &o, &l, &err), SL_EINVAL);
}

static void test_no_memory(void **state)
{
    static const char text[] = "# A\n\nOne is here. Two.\n\n- three\n\n```\nfour\n```\n";
    chunk_options o = {
        .target_tokens = 2, .tokens_max = 8, .count = count_bytes, .ctx = &counted
    };
    bool done = false;

    for (unsigned long n = 1; !done && n < 100; n++) {
        chunk_list l;

        (void)sl_mem_fail_at(n);
        done = chunk_text(sl_span_of(text, sizeof text - 1), &o, &l, NULL) == SL_OK;
        (void)sl_mem_fail_at(0);
        assert_true(done || l.items == NULL);
        chunk_list_deinit(&l);
    }
    assert_true(done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headings), cmocka_unit_test(test_setext),
        cmocka_unit_test(test_fences),   cmocka_unit_test(test_overlap),
        cmocka_unit_test(test_items),    cmocka_unit_test(test_sentences),
        cmocka_unit_test(test_tables),   cmocka_unit_test(test_pages),
        cmocka_unit_test(test_parents),  cmocka_unit_test(test_cjk),
        cmocka_unit_test(test_unsound),  cmocka_unit_test(test_sentence_forms),
        cmocka_unit_test(test_wall),     cmocka_unit_test(test_linear),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
