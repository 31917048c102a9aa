/* test_hostile.c - documents that mean harm: bombs, lies, and 200 random changes of each type. None
 * may crash this process, hang, or come out as an unsound document. */
#include "reader_test.h"

#include "samples.h"

#define CHANGES 200

/* ---- what samples are when nobody changes them ---------------------------------------------- */

static void check_zip(const sample_part *parts, size_t count, reader_type type, const char *want)
{
    sl_buf b;

    make_zip(parts, count, &b);
    expect_bytes(b.ptr, b.len, NULL, reader_type_name(type), want);
    sl_buf_deinit(&b);
}

static void test_samples(void **state)
{
    sl_buf b;

    check_zip(docx_parts, SL_COUNT_OF(docx_parts), READER_DOCX, docx_want);
    check_zip(pptx_parts, SL_COUNT_OF(pptx_parts), READER_PPTX, pptx_want);
    check_zip(xlsx_parts, SL_COUNT_OF(xlsx_parts), READER_XLSX, xlsx_want);
    check_zip(epub_parts, SL_COUNT_OF(epub_parts), READER_EPUB, epub_want);
    make_pdf("Hello world", 2, &b);
    expect_bytes(b.ptr, b.len, "x.txt", "application/pdf", "p@1: Hello world Hello world\n");
    sl_buf_deinit(&b);
}

/* ---- bombs ---------------------------------------------------------------------------------- */

static void fail_zip(const sample_part *parts, size_t count, sl_status status, const char *words)
{
    sl_buf b;

    make_zip(parts, count, &b);
    expect_failure(b.ptr, b.len, "x.docx", status, words);
    sl_buf_deinit(&b);
}

static void test_zip_bombs(void **state)
{
    size_t len = 32 * SL_MIB;
    char *spaces = sl_malloc(len);
    sample_part bomb[] = { { "word/document.xml", spaces, len } };
    sample_part plain[] = { PART("a.txt", "x"), PART("b.zip", "y") };
    sample_part odf[] = { PART("mimetype", "application/vnd.oasis.opendocument.text"),
                          PART("content.xml", "<x/>") };

    memset(spaces, ' ', len);
    memcpy(spaces, docx_document, sizeof docx_document - 1);
    fail_zip(bomb, 1, SL_ELIMIT, "bomb");
    sl_free(spaces);
    fail_zip(plain, 2, SL_ENOTSUP, "ZIP archive");
    fail_zip(odf, 2, SL_ENOTSUP, "OpenDocument");
}

/* One chapter again and again: each small enough, all together not. */
static void test_repeated(void **state)
{
    size_t len = 7 * SL_MIB;
    char *chapter = sl_malloc(len);
    sl_buf opf;
    sample_part parts[] = { PART("META-INF/container.xml", epub_container),
                            { "O/x.opf", NULL, 0 },
                            { "O/b.html", chapter, len } };

    memset(chapter, ' ', len);
    memcpy(chapter, "<html><p>words", 14);
    sl_buf_init(&opf, SL_MIB);
    sl_buf_puts(&opf, "<package><manifest><item id=\"b\" href=\"b.html\" media-type=\"text/html\"/>"
                      "</manifest><spine>");
    for (int i = 0; i < 1000; i++)
        sl_buf_puts(&opf, "<itemref idref=\"b\"/>");
    sl_buf_puts(&opf, "</spine></package>");
    parts[1] = (sample_part){ "O/x.opf", opf.ptr, opf.len };
    fail_zip(parts, 3, SL_ELIMIT, ""); /* of size; of time where the machine is slow */
    sl_buf_deinit(&opf);
    sl_free(chapter);
}

static void fail_document(const char *xml, size_t len, sl_status status, const char *words)
{
    sample_part parts[] = { { "word/document.xml", xml, len } };

    fail_zip(parts, 1, status, words);
}

static void test_xml_bombs(void **state)
{
    static const char laughs[] =
        "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">"
        "<!ENTITY c \"&b;&b;&b;&b;&b;&b;\"><!ENTITY d \"&c;&c;&c;&c;&c;&c;\">]>"
        "<w:document " W ">" P("&d;") "</w:document>";
    static const char outside[] =
        "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>"
        "<w:document " W ">" P("&a;") "</w:document>";
    static const char attribute[] =
        "<!DOCTYPE x [<!ENTITY a \"0123456789\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\">]>"
        "<w:document " W " x=\"&b;&b;&b;\">" P("t") "</w:document>";
    sl_buf deep;

    fail_document(laughs, sizeof laughs - 1, SL_EFORMAT, "entities");
    fail_document(outside, sizeof outside - 1, SL_EFORMAT, "entities");
    fail_document(attribute, sizeof attribute - 1, SL_EFORMAT, "entities");
    fail_document("<w:document " W "><w:p>", strlen("<w:document " W "><w:p>"), SL_EFORMAT, "XML");
    sl_buf_init(&deep, 16 * SL_MIB);
    for (int i = 0; i < 100000; i++)
        sl_buf_puts(&deep, "<w:p>");
    fail_document(deep.ptr, deep.len, SL_EFORMAT, "XML");
    sl_buf_deinit(&deep);
}

/* ---- depth and width ------------------------------------------------------------------------ */

/* Reads bytes that may come out as anything sound. Returns the status. */
static sl_status read_any(const void *bytes, size_t len, const char *name)
{
    reader_options o = test_options();
    reader_document d;
    sl_err err = { 0 };
    sl_status status;

    o.time_ms = 10000;
    o.text_bytes = 16 * SL_MIB;
    status = reader_read(&o, sl_span_of(bytes, len), name, &d, &err);
    if (status == SL_OK) {
        check_document(&d);
    } else {
        assert_true(status == SL_EINVAL || status == SL_EFORMAT || status == SL_ELIMIT ||
                    status == SL_ENOTSUP);
        assert_true(err.text[0] != '\0');
        assert_null(d.text);
    }
    reader_document_deinit(&d);
    return status;
}

static void repeat(sl_buf *b, const char *text, size_t times)
{
    while (times--)
        sl_buf_puts(b, text);
}

static void test_depth(void **state)
{
    static const struct {
        const char *name, *begin, *each, *end;
        size_t times;
    } cases[] = {
        { "x.html", "<html>", "<div>", "words", 300000 },
        { "x.html", "<html>", "<table><tr><td>x<td>", "words", 30000 },
        { "x.html", "<html>", "<ul><li>", "words", 100000 },
        { "x.html", "<html>", "<b><i>", "words", 100000 },
        { "x.md", "", "> ", "words", 20000 },
        { "x.md", "", "- ", "words", 20000 },
        { "x.md", "", "[", "words", 50000 },
        { "x.md", "", "*a **b ", "", 20000 },
        { "x.json", "", "[", "1", 100000 },
        { "x.json", "", "{\"a\":", "1", 100000 },
    };

    for (size_t i = 0; i < SL_COUNT_OF(cases); i++) {
        sl_buf b;

        sl_buf_init(&b, 64 * SL_MIB);
        sl_buf_puts(&b, cases[i].begin);
        repeat(&b, cases[i].each, cases[i].times);
        sl_buf_puts(&b, cases[i].end);
        (void)read_any(b.ptr, b.len, cases[i].name);
        sl_buf_deinit(&b);
    }
}

static void test_tables(void **state)
{
    static const char wide[] =
        "<html><table><tr><th colspan=1000000000>a<th>b<tr><td>1<td>2</table>";
    static const char far[] =
        "<worksheet><sheetData><row r=\"1048576\"><c r=\"XFD1048576\"><v>7</v></c><c "
        "r=\"ZZZZZZZZZ1\"><v>8"
        "</v></c><c r=\"\" t=\"s\"><v>99999999999</v></c></row></sheetData></worksheet>";
    sample_part parts[SL_COUNT_OF(xlsx_parts)];
    sl_buf b;

    assert_int_equal(read_any(wide, sizeof wide - 1, NULL), SL_OK);
    memcpy(parts, xlsx_parts, sizeof parts);
    parts[4] = (sample_part)PART("xl/sheets/one.xml", far);
    make_zip(parts, SL_COUNT_OF(parts), &b);
    assert_int_equal(read_any(b.ptr, b.len, NULL), SL_OK);
    sl_buf_deinit(&b);
    sl_buf_init(&b, 64 * SL_MIB);
    repeat(&b, "a,", 200000);
    assert_int_equal(read_any(b.ptr, b.len, "x.csv"), SL_OK);
    sl_buf_clear(&b);
    repeat(&b, "a,b\n", 3000000); /* more text than is allowed here */
    assert_int_equal(read_any(b.ptr, b.len, "x.csv"), SL_ELIMIT);
    sl_buf_deinit(&b);
}

static void test_nested_mail(void **state)
{
    reader_options o = test_options();
    reader_document d;
    sl_err err = { 0 };
    sl_buf b;

    sl_buf_init(&b, 64 * SL_MIB);
    for (int i = 0; i < 100; i++)
        sl_buf_printf(&b,
                      "From: a\nSubject: level %d\nTo: b\nContent-Type: multipart/mixed; "
                      "boundary=B%d\n\n--B%d\n\ntext %d\n--B%d\nContent-Type: message/rfc822\n\n",
                      i, i, i, i, i);
    sl_buf_puts(&b, "From: a\nSubject: last\n\nlast\n");
    if (reader_read(&o, sl_span_of(b.ptr, b.len), "x.eml", &d, &err) != SL_OK)
        fail_msg("%s", err.text);
    check_document(&d);
    assert_non_null(strstr(d.text, "level 4"));
    assert_null(strstr(d.text, "level 5"));
    assert_non_null(strstr(d.text, "nested too deep"));
    reader_document_deinit(&d);
    sl_buf_clear(&b);
    sl_buf_puts(&b, "From: a\nSubject: s\nTo: b\nContent-Type: multipart/mixed; boundary=B\n\n");
    repeat(&b, "--B\nContent-Disposition: attachment\n\nx\n", 3000);
    assert_int_equal(read_any(b.ptr, b.len, NULL), SL_ELIMIT);
    sl_buf_deinit(&b);
}

static void test_pdf(void **state)
{
    static const char cycle[] =
        "%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Count "
        "3/Kids[2 "
        "0 R 2 0 R 2 0 R]/Parent 2 0 R>>\nendobj\ntrailer\n<</Root 1 0 R>>\n%%EOF\n";
    sl_buf b;

    (void)read_any(cycle, sizeof cycle - 1, NULL);
    assert_int_equal(read_any("%PDF-1.7\nnothing", 16, NULL), SL_EFORMAT);
    make_pdf("", 3, &b);
    expect_failure(b.ptr, b.len, NULL, SL_EFORMAT, "OCR");
    sl_buf_deinit(&b);
}

/* ---- random changes ------------------------------------------------------------------------- */

static uint64_t seed = 20260101;

static uint32_t next_random(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

/* Changes, cuts, repeats or removes a few bytes. */
static void change(sl_buf *b)
{
    for (uint32_t n = 1 + next_random() % 4; n > 0 && b->len > 8; n--) {
        size_t at = next_random() % b->len, len = 1 + next_random() % 8;

        len = SL_MIN(len, b->len - at);
        switch (next_random() % 5) {
        case 0:
            b->ptr[at] = (char)(b->ptr[at] ^ 1 << next_random() % 8);
            break;
        case 1:
            b->ptr[at] = (char)next_random();
            break;
        case 2:
            memmove(b->ptr + at, b->ptr + at + len, b->len - at - len);
            b->len -= len;
            break;
        case 3:
            memmove(b->ptr + at, b->ptr + next_random() % (b->len - len + 1), len);
            break;
        default:
            if (next_random() % 8 == 0)
                b->len = at + 1;
        }
    }
}

static void change_text(const char *text, const char *name)
{
    for (int i = 0; i < CHANGES; i++) {
        sl_buf b;

        sl_buf_init(&b, 64 * SL_MIB);
        sl_buf_puts(&b, text);
        change(&b);
        (void)read_any(b.ptr, b.len, name);
        sl_buf_deinit(&b);
    }
}

/* Half of the changes hit the archive, half the XML in it, which checksums would hide. */
static void change_zip(const sample_part *parts, size_t count)
{
    for (int i = 0; i < CHANGES; i++) {
        sample_part changed[8];
        sl_buf b, part;
        size_t which = next_random() % count;

        memcpy(changed, parts, count * sizeof *parts);
        sl_buf_init(&part, SL_MIB);
        sl_buf_put(&part, parts[which].bytes, parts[which].len);
        if (i & 1)
            change(&part);
        changed[which] = (sample_part){ parts[which].name, part.ptr, part.len };
        make_zip(changed, count, &b);
        if (!(i & 1))
            change(&b);
        (void)read_any(b.ptr, b.len, NULL);
        sl_buf_deinit(&b);
        sl_buf_deinit(&part);
    }
}

static void test_changed_text(void **state)
{
    print_message("seed %llu\n", (unsigned long long)seed);
    change_text("Words, and\n\n- more\n\nwords \xe4\xb8\xad\xe6\x96\x87.\n", "x.txt");
    change_text("# A\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- x\n  - y\n\n```\nz\n```\n", "x.md");
    change_text("a,b,c\n\"1\",\"2\n3\",4\n5,6,7\n8,9,0\n", "x.csv");
    change_text("{\"a\": [1, 2.5, {\"b\": \"text \\u00e9\"}], \"c\": "
                "[{\"x\":1,\"y\":2},{\"x\":3,\"y\":4}]}",
                "x.json");
    change_text("{\"a\": 1}\n{\"a\": [2, null]}\n", "x.jsonl");
}

static void test_changed_html(void **state)
{
    change_text(
        "<!doctype html><html><head><meta charset=utf-8><title>T</title></head><body><nav>n</nav>"
        "<h1>H</h1><ul><li>a<ol><li>b</ol></ul><table><tr><th>a<th>b<tr><td>1<td>2</table>"
        "<pre>x\n</pre><p>w\xc3\xb6rds</p></body></html>",
        "x.html");
}

static void test_changed_mail(void **state)
{
    change_text(
        "From: =?UTF-8?Q?J=C3=B6rg?= <j@x>\nSubject: =?gb2312?B?1tDOxA==?=\nTo: b\nContent-Type: "
        "multipart/mixed; boundary=\"X\"\n\n--X\nContent-Type: text/plain; charset=gbk\n"
        "Content-Transfer-Encoding: quoted-printable\n\n=D6=D0 text\n--X\nContent-Type: "
        "text/html; name*=utf-8''%C3%A4.html\nContent-Disposition: attachment\n"
        "Content-Transfer-Encoding: base64\n\nPGgxPkhlbGxvPC9oMT4=\n--X--\n",
        "x.eml");
}

static void test_changed_pdf(void **state)
{
    for (int i = 0; i < CHANGES; i++) {
        sl_buf b;

        make_pdf("Some words of a page", 3, &b);
        change(&b);
        (void)read_any(b.ptr, b.len, NULL);
        sl_buf_deinit(&b);
    }
}

static void test_changed_office(void **state)
{
    change_zip(docx_parts, SL_COUNT_OF(docx_parts));
    change_zip(pptx_parts, SL_COUNT_OF(pptx_parts));
    change_zip(xlsx_parts, SL_COUNT_OF(xlsx_parts));
    change_zip(epub_parts, SL_COUNT_OF(epub_parts));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples),        cmocka_unit_test(test_zip_bombs),
        cmocka_unit_test(test_repeated),       cmocka_unit_test(test_xml_bombs),
        cmocka_unit_test(test_depth),          cmocka_unit_test(test_tables),
        cmocka_unit_test(test_nested_mail),    cmocka_unit_test(test_pdf),
        cmocka_unit_test(test_changed_text),   cmocka_unit_test(test_changed_html),
        cmocka_unit_test(test_changed_mail),   cmocka_unit_test(test_changed_pdf),
        cmocka_unit_test(test_changed_office),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
