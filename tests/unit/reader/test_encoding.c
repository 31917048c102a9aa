/* test_encoding.c - the same words in many encodings become the same text. The C library encodes.
 */
#include <iconv.h>

#include "reader_test.h"

static const char chinese[] =
    "第一章 总则\n\n为了保护公民、法人和其他组织的合法权益，维护社会秩序和经济秩序，制定本办法。"
    "本办法所称的服务，是指通过互联网向公众提供信息的活动。\n";
static const char traditional[] =
    "第一章 總則\n\n為了保護公民、法人和其他組織的合法權益，維護社會秩序和經濟秩序，制定本辦法。"
    "本辦法所稱的服務，是指透過網際網路向公眾提供資訊的活動。\n";
static const char japanese[] =
    "第一章 総則\n\nこの法律は、日本国民の権利を守り、社会の秩序を維持することを目的とする。"
    "コンピュータのサービスについても同じである。\n";
static const char korean[] =
    "제1장 총칙\n\n이 법은 국민의 권리를 보호하고 사회의 질서를 유지하는 것을 목적으로 한다. "
    "컴퓨터 서비스에 대해서도 같다.\n";
static const char french[] =
    "L'été dernier, à la fenêtre du château, le garçon reçut une lettre très étrange.\n\n"
    "« Où êtes-vous ? » demanda-t-il, déçu. Ça coûte 5 francs.\n";
static const char german[] = "Die Straße ist für Fußgänger gesperrt.\n\nÜber die Brücke käme man "
                             "schneller, aber sie ist größtenteils zerstört.\n";
static const char russian[] =
    "Глава первая\n\nЭтот закон защищает права граждан и поддерживает порядок в обществе. "
    "То же относится к услугам связи.\n";

static size_t encode(const char *text, const char *charset, char *ret, size_t room)
{
    iconv_t c = iconv_open(charset, "UTF-8");
    char *in = (char *)text, *out = ret;
    size_t left = strlen(text), space = room;

    assert_true(c != (iconv_t)-1);
    assert_int_equal(iconv(c, &in, &left, &out, &space), 0);
    assert_int_equal(left, 0);
    iconv_close(c);
    return room - space;
}

static void check(const char *text, const char *charset, const char *mark, size_t mark_len)
{
    char bytes[4096];
    size_t len;
    reader_document d;
    sl_err err = { 0 };

    memcpy(bytes, mark, mark_len);
    len = mark_len + encode(text, charset, bytes + mark_len, sizeof bytes - mark_len);
    if (reader_read(NULL, sl_span_of(bytes, len), "x.txt", &d, &err) != SL_OK)
        fail_msg("%s: %s", charset, err.text);
    if (strcmp(d.text, text) != 0)
        fail_msg("%s: %s", charset, d.text);
    check_document(&d);
    reader_document_deinit(&d);
}

static void test_guessed(void **state)
{
    static const struct {
        const char *text, *charset;
    } cases[] = {
        { chinese, "GB18030" },    { chinese, "GBK" },          { traditional, "BIG5" },
        { japanese, "SHIFT_JIS" }, { japanese, "EUC-JP" },      { japanese, "ISO-2022-JP" },
        { korean, "EUC-KR" },      { french, "ISO-8859-1" },    { french, "WINDOWS-1252" },
        { german, "ISO-8859-1" },  { russian, "WINDOWS-1251" }, { russian, "KOI8-R" },
    };

    for (size_t i = 0; i < SL_COUNT_OF(cases); i++)
        check(cases[i].text, cases[i].charset, "", 0);
}

static void test_unicode(void **state)
{
    static const char *const texts[] = { chinese, french, korean, russian,
                                         "Plain words.\nMore.\n" };

    for (size_t i = 0; i < SL_COUNT_OF(texts); i++) {
        check(texts[i], "UTF-8", "", 0);
        check(texts[i], "UTF-8", "\xef\xbb\xbf", 3);
        check(texts[i], "UTF-16LE", "\xff\xfe", 2);
        check(texts[i], "UTF-16BE", "\xfe\xff", 2);
        check(texts[i], "UTF-32LE", "\xff\xfe\0\0", 4);
        check(texts[i], "UTF-32BE", "\0\0\xfe\xff", 4);
    }
    check(chinese, "UTF-16LE", "", 0);
    check(chinese, "UTF-16BE", "", 0);
    check(french, "UTF-16LE", "", 0);
    check("Plain words.\nMore.\n", "UTF-16BE", "", 0);
}

/* Words whose encoding cannot be guessed from so few bytes, with the name that comes along. */
static void test_declared(void **state)
{
    char bytes[256];
    size_t len = encode("中文 和", "GBK", bytes, sizeof bytes);
    sl_buf text;
    sl_err err = { 0 };

    sl_buf_init(&text, 1 << 20);
    assert_int_equal(reader_decode(sl_span_of(bytes, len), "gb2312", &text, &err), SL_OK);
    assert_string_equal(sl_buf_str(&text), "中文 和");
    sl_buf_clear(&text);
    /* a lie: valid UTF-8 wins */
    assert_int_equal(reader_decode(sl_span_str("é"), "iso-8859-1", &text, &err), SL_OK);
    assert_string_equal(sl_buf_str(&text), "é");
    sl_buf_clear(&text);
    /* no such thing: guessed */
    assert_int_equal(reader_decode(sl_span_str("caf\xe9"), "x-no-such", &text, &err), SL_OK);
    assert_string_equal(sl_buf_str(&text), "café");
    sl_buf_deinit(&text);
}

static void test_broken(void **state)
{
    expect_failure("\xff\xfe\0\xd8\0\xd8\0\xd8\0\xd8\0\xd8\0\xd8", 14, "x.txt", SL_EFORMAT,
                   "UTF-16LE");
    /* one wrong byte does not make a text another encoding's */
    expect("One\n\nA line with \xff in it.\n", "x.txt", "text/plain",
           "p: One\np: A line with ÿ in it.\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guessed),
        cmocka_unit_test(test_unicode),
        cmocka_unit_test(test_declared),
        cmocka_unit_test(test_broken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
