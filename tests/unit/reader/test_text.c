/* test_text.c - formats read in this process: text, tables, JSON. */
#include "reader_test.h"

static void test_text(void **state)
{
    expect("One line\nand another.\n\n  Indented.\n\n- a\n- b\n  more of b\n12) c\n", "x.txt",
           "text/plain",
           "p: One line/and another.\np: Indented.\nl1: - a\nl1: - b/  more of b\nl1: 12) c\n");
    expect("\xef\xbb\xbfWith a mark\r\n\r\nCRLF", "x.log", "text/plain",
           "p: With a mark\np: CRLF\n");
    /* Markdown only where the name allows it */
    expect("# not a heading\n", "x.txt", "text/plain", "p: # not a heading\n");
    expect("# a heading\n", "x.md", "text/markdown", "h1: a heading\n");
    expect("# a heading\n", NULL, "text/markdown", "h1: a heading\n");
    expect("# not a heading\n", "x.rst", "text/plain", "p: # not a heading\n");
}

/* The text of a text file is the file: every byte of it. */
static void test_text_is_the_file(void **state)
{
    static const char text[] = "\n\n  a  b \r\n\tc\n\n\n";
    reader_document d;
    sl_err err = { 0 };

    assert_int_equal(reader_read(NULL, sl_span_of(text, sizeof text - 1), "x.txt", &d, &err),
                     SL_OK);
    assert_string_equal(d.text, text);
    reader_document_deinit(&d);
    assert_int_equal(reader_read(NULL, sl_span_of(text, sizeof text - 1), "x.md", &d, &err), SL_OK);
    assert_string_equal(d.text, text);
    reader_document_deinit(&d);
}

static void test_csv(void **state)
{
    expect("name,age,city\n\"Ann, Jr\",31,Oslo\r\nBob,,\"Ro\nme \"\"x\"\"\"\n\n", "x.csv",
           "text/csv",
           "t: name | age | city\nt^0: Ann, Jr | 31 | Oslo\nt^0: Bob | | Ro me \"x\"\n");
    expect("a;b\n1,5;2\n", "x.csv", "text/csv", "t: a | b\nt^0: 1,5 | 2\n");
    expect("a\tb\nc d\te\n", "x.tsv", "text/tab-separated-values", "t: a | b\nt^0: c d | e\n");
    expect("one\ntwo\n", "x.csv", "text/csv", "t: one\nt^0: two\n");
    /* by content alone, where it is sure */
    expect("a,b,c\n1,2,3\n4,5,6\n7,8,9\n", NULL, "text/csv",
           "t: a | b | c\nt^0: 1 | 2 | 3\nt^0: 4 | 5 | 6\nt^0: 7 | 8 | 9\n");
    expect("Dear Ann, dear Bob,\nthis is prose, with commas.\nAnd, on, and, on.\nBye,\n", NULL,
           "text/markdown",
           "p: Dear Ann, dear Bob,/this is prose, with commas./And, on, and, on./Bye,\n");
    expect(",,x\n,\"open", "x.csv", "text/csv", "t: | | x\nt^0: | open\n");
}

static void test_json(void **state)
{
    expect("{\"title\": \"T\", \"n\": 1, \"who\": {\"name\": \"Ann\", \"tags\": [\"a\", \"b\"]},"
           " \"none\": null, \"yes\": true, \"x\": 1.5}",
           "x.json", "application/json",
           "p: title: T/n: 1/who.name: Ann/who.tags: a, b/yes: true/x: 1.5\n");
    expect("[{\"a\":1,\"b\":\"x\"},{\"b\":\"y\",\"a\":null}]", NULL, "application/json",
           "t: a | b\nt^0: 1 | x\nt^0: | y\n");
    expect("{\"_id\": \"1\", \"title\": \"First\", \"text\": \"A text that is long enough to stand "
           "alone "
           "as a paragraph of its own.\"}\n{\"_id\": \"2\", \"text\": \"short\"}\n",
           "corpus.jsonl", "application/jsonl",
           "p: _id: 1/title: First\n"
           "p: A text that is long enough to stand alone as a paragraph of its own.\n"
           "p: _id: 2/text: short\n");
    expect("[1, 2, \"three\"]", NULL, "application/json", "p: 1, 2, three\n");
    expect_failure("{\"a\": [1,}", 10, "x.json", SL_EFORMAT, "line 1, column");
    /* what only looks like JSON is text where nothing says it is JSON */
    expect("[1] A footnote.\n\nText.", "x.txt", "text/plain", "p: [1] A footnote.\np: Text.\n");
}

static void test_refused(void **state)
{
    static const char ole[] =
        "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1....W\0o\0r\0d\0D\0o\0c\0u\0m\0e\0n\0t\0";
    static const char lock[] =
        "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1..E\0n\0c\0r\0y\0p\0t\0e\0d\0P\0a\0c\0k\0";
    char noise[4096];

    expect_failure("", 0, "x.txt", SL_EINVAL, "empty");
    expect_failure(" \n\t\r\n", 5, "x.txt", SL_EINVAL, "no text");
    expect_failure(" \n\n", 3, "x.md", SL_EINVAL, "no text");
    expect_failure(ole, sizeof ole, "x.doc", SL_ENOTSUP, "DOCX");
    expect_failure(lock, sizeof lock, "x.docx", SL_EFORMAT, "encrypted");
    expect_failure("{\\rtf1 x}", 9, "x.doc", SL_ENOTSUP, "RTF");
    expect_failure("\x89PNG\r\n\x1a\n", 8, "x.pdf", SL_ENOTSUP, "OCR");
    expect_failure("\x1f\x8b\x08zzz", 6, "x.txt", SL_ENOTSUP, "unpack");
    expect_failure("a\0b", 3, "x.txt", SL_ENOTSUP, "binary");
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (char)(i * 7919 >> 3);
    expect_failure(noise, sizeof noise, "x", SL_ENOTSUP, "binary");
}

static void test_limits(void **state)
{
    reader_options o = { .text_bytes = 100 };
    reader_document d;
    sl_err err = { 0 };
    char text[200];

    memset(text, 'x', sizeof text);
    assert_int_equal(reader_read(&o, sl_span_of(text, 200), "x.txt", &d, &err), SL_ELIMIT);
    assert_null(d.text);
    assert_int_equal(reader_read(&o, sl_span_of(text, 100), "x.txt", &d, &err), SL_OK);
    reader_document_deinit(&d);
    memset(text, ',', sizeof text);
    assert_int_equal(reader_read(&o, sl_span_of(text, 200), "x.csv", &d, &err), SL_EINVAL);
}

static void test_no_memory(void **state)
{
    static const char *const texts[] = { "# A\n\n- b\n\n|a|b|\n|-|-|\n|1|2|\n", "a,b\n1,2\n",
                                         "{\"a\": [1, {\"b\": 2}]}", "x\n\ny" };
    static const char *const names[] = { "x.md", "x.csv", "x.json", "x.txt" };

    for (size_t i = 0; i < SL_COUNT_OF(texts); i++) {
        bool done = false;

        for (unsigned long n = 1; !done && n < 200; n++) {
            reader_document d;

            (void)sl_mem_fail_at(n);
            done = reader_read(NULL, sl_span_str(texts[i]), names[i], &d, NULL) == SL_OK;
            (void)sl_mem_fail_at(0);
            assert_true(done || (!d.text && !d.blocks));
            reader_document_deinit(&d);
        }
        assert_true(done);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),      cmocka_unit_test(test_text_is_the_file),
        cmocka_unit_test(test_csv),       cmocka_unit_test(test_json),
        cmocka_unit_test(test_refused),   cmocka_unit_test(test_limits),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
