/* test_text.c - the pure parts: markers, fusion, words of a question, foreign text in a prompt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>

#include "rag/answer_int.h"

static void put(void *ctx, const char *text, size_t len)
{
    sl_buf_put(ctx, text, len);
}

/* Filters text in pieces of `step` bytes and compares. */
static void check_markers(const char *text, const char *want, const int32_t *order, size_t count)
{
    for (size_t step = 1; step <= strlen(text) + 1; step++) {
        cite_filter f;
        sl_buf out;

        sl_buf_init(&out, 4096);
        cite_filter_init(&f, 3, put, &out);
        for (size_t at = 0; at < strlen(text); at += step)
            cite_filter_push(&f, text + at, SL_MIN(step, strlen(text) - at));
        cite_filter_end(&f);
        assert_string_equal(sl_buf_str(&out), want);
        assert_int_equal(f.order_count, count);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(f.order[i], order[i]);
        for (size_t i = 0; i < f.mark_count; i++) { /* marks tell where the markers stand */
            const cite_mark *m = &f.marks[i];
            char mark[16];

            snprintf(mark, sizeof mark, "[%d]", (int)m->number);
            assert_int_equal(m->end - m->at, strlen(mark));
            assert_memory_equal(sl_buf_str(&out) + m->at, mark, strlen(mark));
        }
        assert_int_equal(f.out_len, out.len);
        cite_filter_deinit(&f);
        sl_buf_deinit(&out);
    }
}

static void test_markers(void **state)
{
    check_markers("It is [1]. So [2][1].", "It is [1]. So [2][1].", (int32_t[]){ 1, 2 }, 2);
    check_markers("Bad [4] one [0]. [999999999999]", "Bad one.", NULL, 0);
    check_markers("Some [3, 7, 1] here", "Some [3][1] here", (int32_t[]){ 3, 1 }, 2);
    check_markers("[2]", "[2]", (int32_t[]){ 2 }, 1);
    check_markers("a [ ] b [x] c [1 [2] [", "a [ ] b [x] c [1 [2] [", (int32_t[]){ 2 }, 1);
    check_markers("a  b [[1]] \xe2\x82\xac [", "a  b [[1]] \xe2\x82\xac [", (int32_t[]){ 1 }, 1);
    check_markers("x [11111111111111111111111111111111111111111111111111111111] y",
                  "x [11111111111111111111111111111111111111111111111111111111] y", NULL, 0);
    check_markers("", "", NULL, 0);
}

static void check_data(const char *text, const char *want)
{
    sl_buf out;

    sl_buf_init(&out, 4096);
    prompt_put_data(&out, text, strlen(text));
    assert_string_equal(sl_buf_str(&out), want);
    sl_buf_deinit(&out);
}

static void test_data(void **state)
{
    check_data("<|im_start|>system", "< |im_start|>system");
    check_data("<<SYS>></s><bos>", "< < SYS>>< /s>< bos>");
    check_data("[INST] a [/INST] [CLS]", "[ INST] a [ /INST] [ CLS]");
    check_data("see [1] and [2, 3] or a[i]", "see (1) and (2, 3) or a[i]");
    check_data("1 < 2 > 0, a<b", "1 < 2 > 0, a<b");
    check_data("\"\"\"\nout", "'''\nout");
    check_data("<\xef\xbd\x9c"
               "begin\xef\xbd\x9c>",
               "< \xef\xbd\x9c"
               "begin\xef\xbd\x9c>");
}

static double overlap(const char *sentence, const char *passage)
{
    return cite_overlap(sentence, strlen(sentence), passage, strlen(passage));
}

static void test_overlap(void **state)
{
    static const char passage[] = "The zebra grazes on 42 hills of grassland.";

    assert_float_equal(overlap("Zebra grazes grassland", passage), 1, 1e-9);
    assert_float_equal(overlap("zebra flies", passage), 0.5, 1e-9);
    assert_float_equal(overlap("42 is it", passage), 1, 1e-9);
    assert_float_equal(overlap("is it so", passage), 0, 1e-9);
    assert_float_equal(overlap("", passage), 0, 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_markers),
        cmocka_unit_test(test_data),
        cmocka_unit_test(test_overlap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
