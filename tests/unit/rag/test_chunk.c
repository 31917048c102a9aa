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
        cmocka_unit_test(test_wall),     cmocka_unit_test(test_linear),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
