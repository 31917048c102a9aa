/* test_markdown.c - blocks of Markdown are spans of the file, marks and all. */
#include "reader_test.h"

static void md(const char *text, const char *want)
{
    expect(text, "x.md", "text/markdown", want);
}

static void test_headings(void **state)
{
    md("# One\nText.\n## Two ##\n###### Six #\n#no heading\n####### seven\n",
       "h1: One\np: Text.\nh2: Two\nh6: Six\np: #no heading/####### seven\n");
    md("One\n===\n\nTwo\nlines\n---\n\ntext\n", "h1: One\nh2: Two/lines\np: text\n");
    md("One\n=\n1| a | b |\n-|-|-\n2| c\n", "h1: One\nt: 1| a | b |\nt^1: 2| c\n");
    md("> Quoted\n> ---\n> text\n", "h2: Quoted\np: text\n");
    md("# C# #\n# a#\n", "h1: C#\nh1: a#\n");
    md("#\n\nx\n", "p: x\n"); /* a heading without words leaves no trace */
}

static void test_lists(void **state)
{
    md("- a\n- b\n  - c\n    more\n\n1. one\n2. two\n\n   second part\n",
       "l1: - a\nl1: - b\nl2: - c/    more\nl1: 1. one\nl1: 2. two\nl1: second part\n");
    md("* a\n\n  ```\n  code\n  ```\n* b\n", "l1: * a\nc: ```/  code/  ```\nl1: * b\n");
}

static void test_code(void **state)
{
    md("a\n\n```c\nint x;\n\n# y\n```\n\n    indented\n\n~~~\nopen\n",
       "p: a\nc: ```c/int x;//# y/```\nc: indented\nc: ~~~/open\n");
}

static void test_tables(void **state)
{
    md("| a | b |\n|---|:-:|\n| 1 | 2 |\n| 3 | 4 |\n\ntext\n",
       "t: | a | b |\nt^0: | 1 | 2 |\nt^0: | 3 | 4 |\np: text\n");
    md("Words before\na | b\n--- | ---\n1 | 2\n", "p: Words before\nt: a | b\nt^1: 1 | 2\n");
    md("a | b\nc | d\n", "p: a | b/c | d\n"); /* no line of dashes: no table */
    md("x | y\n-- | --\n1 | 2\n\nx | y\n-- | --\n3 | 4\n",
       "t: x | y\nt^0: 1 | 2\nt: x | y\nt^2: 3 | 4\n");
}

static void test_front_matter(void **state)
{
    reader_document d;
    sl_err err = { 0 };
    static const char text[] = "---\ntitle: \"The words\"\ntags: [a]\n---\n\n# Other\n\nText.\n";

    md(text, "h1: Other\np: Text.\n");
    assert_int_equal(reader_read(NULL, sl_span_str(text), "x.md", &d, &err), SL_OK);
    assert_string_equal(d.title, "The words");
    assert_string_equal(d.text, text);
    reader_document_deinit(&d);
    md("---\n\nnot closed\n", "p: not closed\n");
}

static void test_quotes_and_html(void **state)
{
    md("> quoted\n> words\n\n<!-- remark -->\n\n<div>\nText <b>in</b> "
       "tags\n</div>\n\n<br>\n\n***\n\nend\n",
       "p: quoted/> words\np: <div>/Text <b>in</b> tags/</div>\np: end\n");
}

static void test_title(void **state)
{
    reader_document d;
    sl_err err = { 0 };

    assert_int_equal(
        reader_read(NULL, sl_span_str("## Sub\n# The *real* `one`\n"), "x.md", &d, &err), SL_OK);
    assert_string_equal(d.title, "The real one");
    reader_document_deinit(&d);
}

/* Line ends of all systems, tabs, characters of several bytes: spans stay whole. */
static void test_line_ends(void **state)
{
    md("# A\r\n\r\nb\r\nc\r\n", "h1: A\np: b\r/c\n");
    md("# A\r\rb\r", "h1: A\np: b\n");
    md("-\t中文\n-\t日本\n\n\té code\n", "l1: -\t中文\nl1: -\t日本\nl1: é code\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headings),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_code),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_front_matter),
        cmocka_unit_test(test_title),
        cmocka_unit_test(test_quotes_and_html),
        cmocka_unit_test(test_line_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
