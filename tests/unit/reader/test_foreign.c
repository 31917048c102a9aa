/* test_foreign.c - HTML and e-mail, read by the real binary in a process of its own. */
#include <pthread.h>

#include "reader_test.h"

#define HTML "text/html"
#define MAIL "message/rfc822"

static void html(const char *body, const char *want)
{
    char page[8192];

    snprintf(page, sizeof page,
             "<!doctype html><html><head><title>T</title></head><body>%s</body></html>", body);
    expect(page, "x.html", HTML, want);
}

static void test_blocks(void **state)
{
    html("<h1>One &amp; two</h1><p>Some <b>bold</b>\n  words<br>and a line.</p><h3>Three</h3>text",
         "h1: One & two\np: Some bold words/and a line.\nh3: Three\np: text\n");
    html("<ul><li>a<li>b<ol start=4><li><p>c</p><p>d</p></ol></ul><dl><dt>term<dd><p>its "
         "meaning</p><p>more</p><dt>two<dt>three</dl>end",
         "l1: a\nl1: b\nl2: 4. c\nl2: d\np: term/its meaning\np: more\np: two/three\np: end\n");
    html("<h2>Head<a class=headerlink href=#x>\xc2\xb6</a></h2><pre><b></b>\n  int x;\n  "
         "y();\n</pre><blockquote><p>Quoted</p></blockquote>",
         "h2: Head\nc: int x;/  y();\np: Quoted\n");
    html("<p>a&nbsp;b&shy;c&#8203;d <!-- no --> <span>e</span></p>", "p: a bcd e\n");
}

static void test_tables(void **state)
{
    html("<table><caption>Fish</caption><thead><tr><th>Name<th>Price</thead><tbody><tr><td>Cod"
         "<td>3<tr><td>Eel<td></table>",
         "p: Fish\nt: Name | Price\nt^1: Cod | 3\nt^1: Eel\n");
    html("<table><tr><td>a<td>b<tr><td>c<td>d</table>", "t: a | b\nt: c | d\n");
    html("<table><tr><th colspan=2>x<th>y<tr><td>1<td>2<td>3</table>",
         "t: x | | y\nt^0: 1 | 2 | 3\n");
    /* tables that only place things */
    html("<table><tr><td><h2>Left</h2><p>words</p><td><table><tr><td>in<td>side</table></table>",
         "h2: Left\np: words\nt: in | side\n");
    html("<table><tr><td>only<tr><td>one</table>", "p: only\np: one\n");
}

static const char page[] =
    "<header><a href=/>Home</a></header><nav><ul><li><a href=1>One</a></ul></nav>"
    "<div class='cookie-banner'>We use cookies.</div>"
    "<aside>Other news</aside>"
    "<div id=main><h1>The story</h1><p>Once upon a time there was a long text about fish, with "
    "<a href=x>one link</a> in it, and it went on for a while.</p>"
    "<form><input value=x><button>Go</button> Search this site</form>"
    "<p hidden>Not shown</p><script>var x = '<p>no</p>';</script><style>p{}</style>"
    "<header><h2>A part's header</h2></header></div>"
    "<div><a href=1>aaaa bbbb</a> <a href=2>cccc dddd</a> <a href=3>eeee</a> <a "
    "href=4>ffff</a></div>"
    "<footer>Copyright</footer>";

static void test_noise(void **state)
{
    html(page,
         "h1: The story\np: Once upon a time there was a long text about fish, with one link in "
         "it, and it went on for a while.\n");
    /* where all is noise, all of it is the document */
    html("<nav>Only this</nav>", "p: Only this\n");
    html("<div class=menu><h1>Menu</h1><p>Soup, bread, and a glass of water for three.</p></div>",
         "h1: Menu\np: Soup, bread, and a glass of water for three.\n");
    /* a header inside an article is its own */
    html("<article><header><h1>Title</h1></header><p>Text.</p><footer>By Ann</footer></article>",
         "h1: Title\np: Text.\np: By Ann\n");
}

static void test_charset(void **state)
{
    expect("<html><head><meta charset=gb2312></head><body><p>\xd6\xd0\xce\xc4</body></html>", NULL,
           HTML, "p: 中文\n");
    expect("<?xml version='1.0' encoding='Shift_JIS'?><html><body>\x93\xfa\x96\x7b</body></html>",
           NULL, HTML, "p: 日本\n");
    expect("<html><body>caf\xe9 cr\xe8me</body></html>", NULL, HTML, "p: café crème\n");
}

static void test_mail(void **state)
{
    expect("From: =?UTF-8?Q?J=C3=B6rg?= <j@x.org>\r\nTo: a@b.c\r\nSubject: "
           "=?iso-8859-1?B?R3L832U=?=\r\n"
           " =?utf-8?q?_und_mehr?=\r\nDate: Mon, 1 Jan 2024 10:00:00 "
           "+0000\r\n\r\nHello,\r\n\r\ntext.\r\n",
           "x.eml", MAIL,
           "h1: Grüße und mehr\n"
           "p: From: Jörg <j@x.org>/To: a@b.c/Date: Mon, 1 Jan 2024 10:00:00 +0000\n"
           "p: Hello,\np: text.\n");
    expect("Subject: x\nFrom: a\nMIME-Version: 1.0\nContent-Type: text/plain; "
           "charset=\"iso-8859-15\"\n"
           "Content-Transfer-Encoding: quoted-printable\n\n10 =A4 for=\n you, a=3Db\n",
           NULL, MAIL, "h1: x\np: From: a\np: 10 € for you, a=b\n");
}

static void test_parts(void **state)
{
    expect("From: a\nSubject: s\nTo: b\nContent-Type: multipart/mixed; boundary=\"XX\"\n\n"
           "not shown\n--XX\nContent-Type: multipart/alternative; boundary=YY\n\n"
           "--YY\nContent-Type: text/html\n\n<p>As HTML</p>\n--YY\n\nAs text\n--YY--\n"
           "--XX\nContent-Type: application/octet-stream; name=\"n.csv\"\n"
           "Content-Disposition: attachment; filename*=UTF-8''%C3%A4.csv\n"
           "Content-Transfer-Encoding: base64\n\nYSxiCjEsMgo=\n"
           "--XX\nContent-Type: text/markdown; name=x.md\nContent-Disposition: attachment\n\n# "
           "H\n\nt\n"
           "--XX\nContent-Type: message/rfc822\n\nFrom: c\nSubject: inner\n\ninside\n--XX--\nend\n",
           NULL, MAIL,
           "h1: s\np: From: a/To: b\np: As text\nh2: Attachment: ä.csv\nt: a | b\nt^4: 1 | 2\n"
           "h2: Attachment: x.md\nh3: H\np: t\n"
           "h2: Attached message\nh3: inner\np: From: c\np: inside\n");
    /* only HTML; an attachment that cannot be read is named */
    expect("From: a\nSubject: s\nTo: b\nContent-Type: multipart/mixed; boundary=X\n\n"
           "--X\nContent-Type: text/html; charset=utf-8\n\n<div>As <b>HTML</b></div>\n"
           "--X\nContent-Type: application/x-tar; name=a.gz\n\n\x1f\x8b zzz\n--X--\n",
           NULL, MAIL,
           "h1: s\np: From: a/To: b\np: As HTML\nh2: Attachment: a.gz\n"
           "p: (not read: it is a gzip archive; unpack it and give the files in it)\n");
}

static void test_mailbox(void **state)
{
    expect("From a@b Mon Jan  1 10:00:00 2024\nFrom: a\nSubject: one\nTo: x\n\nfirst\n\n"
           "From c@d Mon Jan  1 11:00:00 2024\nFrom: c\nSubject: two\n\nsecond\n",
           "x.mbox", MAIL, "h1: one\np: From: a/To: x\np: first\nh1: two\np: From: c\np: second\n");
}

/* ---- many at once --------------------------------------------------------------------------- */

static void *read_many(void *arg)
{
    for (int i = 0; i < 10; i++) {
        reader_options o = test_options();
        reader_document d;
        sl_err err = { 0 };
        char text[64];

        snprintf(text, sizeof text, "<html><p>Thread %d, page %d</html>", *(int *)arg, i);
        if (reader_read(&o, sl_span_str(text), NULL, &d, &err) != SL_OK)
            return arg;
        text[strlen(text) - 7] = '\0';
        if (strcmp(d.text, text + 9) != 0)
            return arg;
        reader_document_deinit(&d);
    }
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t threads[4];
    int numbers[4];

    for (int i = 0; i < 4; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, read_many, &numbers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *failed;

        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),  cmocka_unit_test(test_tables),
        cmocka_unit_test(test_noise),   cmocka_unit_test(test_charset),
        cmocka_unit_test(test_mail),    cmocka_unit_test(test_parts),
        cmocka_unit_test(test_mailbox), cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
