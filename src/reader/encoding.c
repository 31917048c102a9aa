/* encoding.c - bytes of any encoding to UTF-8.
 *
 * In this order: a byte order mark, valid UTF-8, what the format declares (where the bytes are
 * that), UTF-16 by its pattern, and ICU's guess among the encodings people still have files in. */
#include <strings.h>
#include <unicode/ucnv.h>
#include <unicode/ucsdet.h>

#include "reader/reader_int.h"

#define GUESS_BYTES ((size_t)256 * 1024)

/* What ICU may answer, and what it is decoded as: supersets, as browsers do. */
static const struct {
    const char *guess, *decode;
    bool is_single; /* one byte per character */
} known[] = {
    { "GB18030", "GB18030", false },
    { "Big5", "windows-950", false },
    { "Shift_JIS", "windows-31j", false },
    { "EUC-JP", "EUC-JP", false },
    { "EUC-KR", "windows-949", false },
    { "ISO-2022-JP", "ISO-2022-JP", false },
    { "ISO-8859-1", "windows-1252", true },
    { "windows-1252", "windows-1252", true },
    { "ISO-8859-2", "ISO-8859-2", true },
    { "windows-1250", "windows-1250", true },
    { "ISO-8859-5", "ISO-8859-5", true },
    { "windows-1251", "windows-1251", true },
    { "KOI8-R", "KOI8-R", true },
    { "ISO-8859-7", "ISO-8859-7", true },
    { "windows-1253", "windows-1253", true },
    { "ISO-8859-9", "windows-1254", true },
    { "windows-1254", "windows-1254", true },
    { "windows-1255", "windows-1255", true },
    { "windows-1256", "windows-1256", true },
};

/* Declared names that mean more than they say. */
static const char *decoded_as(const char *charset)
{
    if (strcasecmp(charset, "gb2312") == 0 || strcasecmp(charset, "gbk") == 0)
        return "GB18030";
    if (strcasecmp(charset, "iso-8859-1") == 0 || strcasecmp(charset, "us-ascii") == 0 ||
        strcasecmp(charset, "latin1") == 0 || strcasecmp(charset, "ascii") == 0)
        return "windows-1252";
    for (size_t i = 0; i < SL_COUNT_OF(known); i++)
        if (strcasecmp(charset, known[i].guess) == 0)
            return known[i].decode;
    return charset;
}

/* Decodes as charset. Returns the number of U+FFFD, or -1 when there is no such charset; *ret_len
 * is the length of the text in *ret (sl_free), which is NULL without memory. */
static long convert(sl_span bytes, const char *charset, char **ret, size_t *ret_len)
{
    UErrorCode code = U_ZERO_ERROR;
    UConverter *c = ucnv_open(charset, &code);
    int32_t need, cap = (int32_t)SL_MIN(bytes.len + bytes.len / 2 + 64, (size_t)INT32_MAX);
    long bad = 0;

    *ret = NULL;
    *ret_len = 0;
    if (U_FAILURE(code) || bytes.len > INT32_MAX / 4) {
        ucnv_close(c);
        return -1;
    }
    for (int attempt = 0; attempt < 2; attempt++) {
        sl_free(*ret);
        *ret = sl_malloc((size_t)cap + 1);
        if (!*ret)
            break;
        code = U_ZERO_ERROR;
        need = ucnv_toAlgorithmic(UCNV_UTF8, c, *ret, cap, (const char *)bytes.ptr,
                                  (int32_t)bytes.len, &code);
        if (code != U_BUFFER_OVERFLOW_ERROR) {
            *ret_len = U_FAILURE(code) ? 0 : (size_t)need;
            break;
        }
        cap = need + 1;
    }
    ucnv_close(c);
    for (size_t i = 0; *ret && i + 2 < *ret_len; i++)
        if (memcmp(*ret + i, "\xef\xbf\xbd", 3) == 0 || (*ret)[i] == 0x1a)
            bad++;
    return bad;
}

/* Takes a conversion when few characters are lost: one in a thousand, or a cut one at the end. */
static bool convert_into(sl_span bytes, const char *charset, bool any, sl_buf *ret)
{
    char *text;
    size_t len;
    long bad = convert(bytes, charset, &text, &len);
    bool ok = bad >= 0 && text && (any || bad <= 1 + (long)(len / 3000));

    if (ok) {
        size_t mark = len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;

        sl_buf_put(ret, text + mark, len - mark);
    }
    sl_free(text);
    return ok;
}

static const char *marked_charset(sl_span b, size_t *ret_skip)
{
    static const struct {
        const char *mark, *charset;
        size_t len;
    } marks[] = {
        { "\xef\xbb\xbf", "UTF-8", 3 },    { "\xff\xfe\0\0", "UTF-32LE", 4 },
        { "\0\0\xfe\xff", "UTF-32BE", 4 }, { "\xff\xfe", "UTF-16LE", 2 },
        { "\xfe\xff", "UTF-16BE", 2 },
    };

    for (size_t i = 0; i < SL_COUNT_OF(marks); i++)
        if (b.len >= marks[i].len && memcmp(b.ptr, marks[i].mark, marks[i].len) == 0) {
            *ret_skip = marks[i].len;
            return marks[i].charset;
        }
    return NULL;
}

/* UTF-16 without a mark: every second byte of Latin text is zero; Han and kana lie in few blocks.
 */
static const char *unmarked_utf16(sl_span b)
{
    size_t n = SL_MIN(b.len, (size_t)4096) / 2, zero[2] = { 0 }, common[2] = { 0 };

    if (n < 4 || b.len % 2)
        return NULL;
    for (size_t i = 0; i < n; i++)
        for (int is_le = 0; is_le < 2; is_le++) {
            uint8_t high = b.ptr[2 * i + (size_t)is_le], low = b.ptr[2 * i + 1 - (size_t)is_le];

            zero[is_le] += high == 0 && low != 0;
            common[is_le] += (high == 0 && (low >= ' ' || low == '\n' || low == '\r')) ||
                             high == 0x30 || high == 0xff || (high >= 0x4e && high <= 0x9f);
        }
    for (int is_le = 0; is_le < 2; is_le++)
        if (common[is_le] * 100 >= n * 97 && common[!is_le] * 100 < n * 90 &&
            (zero[is_le] * 2 > n || zero[is_le] > 0))
            return is_le ? "UTF-16LE" : "UTF-16BE";
    return NULL;
}

/* True when bytes above 0x7f stand alone between letters, as accents do; in pairs they are of a
 * multi-byte encoding. */
static bool looks_single(sl_span b)
{
    size_t high = 0, lone = 0;

    for (size_t i = 0; i < SL_MIN(b.len, GUESS_BYTES); i++) {
        bool left = i > 0 && b.ptr[i - 1] >= 0x80, right = i + 1 < b.len && b.ptr[i + 1] >= 0x80;

        high += b.ptr[i] >= 0x80;
        lone += b.ptr[i] >= 0x80 && !left && !right;
    }
    return lone * 4 > high * 3;
}

static bool guess_into(sl_span bytes, sl_buf *ret)
{
    UErrorCode code = U_ZERO_ERROR;
    UCharsetDetector *d = ucsdet_open(&code);
    const UCharsetMatch **matches;
    int32_t count = 0;
    bool ok = false, is_single = looks_single(bytes);

    ucsdet_setText(d, (const char *)bytes.ptr, (int32_t)SL_MIN(bytes.len, GUESS_BYTES), &code);
    matches = ucsdet_detectAll(d, &count, &code);
    for (int32_t i = 0; U_SUCCESS(code) && i < count && !ok; i++) {
        const char *name = ucsdet_getName(matches[i], &code);

        for (size_t k = 0; k < SL_COUNT_OF(known) && !ok; k++)
            if (strcmp(name, known[k].guess) == 0 && (known[k].is_single || !is_single))
                ok = convert_into(bytes, known[k].decode, false, ret);
    }
    ucsdet_close(d);
    return ok || convert_into(bytes, "windows-1252", true, ret);
}

/* Japanese mail of old: ASCII with escapes that switch to JIS. */
static bool is_iso2022(sl_span b)
{
    return reader_holds(b, b.len, "\x1b$B") || reader_holds(b, b.len, "\x1b$@");
}

/* Bytes that no text has: more than one control in a hundred. */
static bool is_binary(const char *text, size_t len)
{
    size_t controls = 0, n = SL_MIN(len, (size_t)65536);

    for (size_t i = 0; i < n; i++)
        controls += (uint8_t)text[i] < 0x20 && (!text[i] || !strchr("\t\r\n\f\v\b\x1b", text[i]));
    return controls * 100 > n;
}

sl_status reader_decode(sl_span bytes, const char *charset, sl_buf *ret, sl_err *err)
{
    size_t skip = 0;
    const char *marked = marked_charset(bytes, &skip);
    sl_span rest = sl_span_of(bytes.ptr + skip, bytes.len - skip);
    const char *nul;

    if (marked && strcmp(marked, "UTF-8") != 0) {
        if (!convert_into(rest, marked, false, ret))
            return sl_fail(err, SL_EFORMAT, "it begins as %s and is not: it is damaged", marked);
    } else if (is_iso2022(rest) && convert_into(rest, "ISO-2022-JP", false, ret)) {
        /* done */
    } else if (sl_utf8_valid((const char *)rest.ptr, rest.len) && !unmarked_utf16(rest)) {
        sl_buf_put(ret, rest.ptr, rest.len);
    } else if (!(charset && charset[0] && convert_into(rest, decoded_as(charset), false, ret))) {
        marked = unmarked_utf16(rest);
        if (!(marked && convert_into(rest, marked, false, ret)))
            (void)guess_into(rest, ret);
    }
    SL_TRY(sl_buf_ok(ret, "its text", err));
    if (is_binary(sl_buf_str(ret), ret->len))
        return sl_fail(err, SL_ENOTSUP,
                       "it is binary data of no known type; give a document or text");
    nul = memchr(sl_buf_str(ret), '\0', ret->len);
    if (nul)
        return sl_fail(err, SL_EFORMAT, "it is not text: byte %zu of it is NUL",
                       (size_t)(nul - sl_buf_str(ret)));
    return SL_OK;
}
