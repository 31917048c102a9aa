/* json_read.c - JSON of request bodies, read in one pass over the bytes.
 *
 * jansson looks at each byte of a string several times, which is what a request with a long prompt
 * costs most of on the threads of the server. This reader takes what is plainly right and makes the
 * same values of it, by jansson's own functions; whenever it is not sure (an error, a number of
 * many digits, NUL in a string, an escape in a key) it gives up, and the caller asks jansson, whose
 * word and message count. */
#include "api/fields.h"

#include <math.h>
#include <stdlib.h>

#include "base/limits.h"

#define NUMBER_BYTES_MAX 40
#define INT_DIGITS_MAX   18 /* fits whatever the digits are */

typedef struct reader {
    const char *p, *end;
    int depth;
    sl_buf text; /* of a string with escapes */
} reader;

static void skip_space(reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r'))
        r->p++;
}

/* Behind white space: the next byte when it is c. */
static bool take(reader *r, char c)
{
    skip_space(r);
    if (r->p == r->end || *r->p != c)
        return false;
    r->p++;
    return true;
}

/* ---- strings ------------------------------------------------------------------------------- */

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/* The first byte that is not plain. Eight at once: a byte's high bit is set in the sum if it is not
 * plain; a borrow can only set those of bytes behind such a one. */
static const char *skip_plain(const char *p, const char *end)
{
    const uint64_t each = 0x0101010101010101;

    while (end - p >= 8) {
        uint64_t w, quote, slash;

        memcpy(&w, p, sizeof w);
        quote = w ^ (each * '"');
        slash = w ^ (each * '\\');
        if ((w | (w - each * 0x20) | (quote - each) | (slash - each)) & (each * 0x80))
            break;
        p += 8;
    }
    while (p < end && is_plain((unsigned char)*p))
        p++;
    return p;
}

/* Past well-formed text up to a quote, an escape, or what is neither. */
static const char *skip_text(const char *p, const char *end)
{
    uint32_t cp;
    size_t n;

    for (;;) {
        p = skip_plain(p, end);
        if (p == end || (unsigned char)*p < 0x80)
            return p;
        n = sl_utf8_decode(p, (size_t)(end - p), &cp);
        if (!n)
            return p;
        p += n;
    }
}

static bool read_hex4(reader *r, uint32_t *ret)
{
    uint32_t v = 0;

    if (r->end - r->p < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        char c = *r->p++;
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;

        if (digit < 0)
            return false;
        v = v << 4 | (uint32_t)digit;
    }
    *ret = v;
    return true;
}

/* Behind "\u". */
static bool read_code_point(reader *r)
{
    uint32_t cp, low;

    if (!read_hex4(r, &cp) || cp == 0 || (cp >= 0xdc00 && cp <= 0xdfff))
        return false;
    if (cp >= 0xd800 && cp <= 0xdbff) {
        if (r->end - r->p < 2 || r->p[0] != '\\' || r->p[1] != 'u')
            return false;
        r->p += 2;
        if (!read_hex4(r, &low) || low < 0xdc00 || low > 0xdfff)
            return false;
        cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
    }
    sl_buf_put_utf8(&r->text, cp);
    return true;
}

/* Behind a backslash. */
static bool read_escape(reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *at;

    if (r->p == r->end)
        return false;
    if (*r->p == 'u') {
        r->p++;
        return read_code_point(r);
    }
    at = *r->p ? strchr(from, *r->p) : NULL;
    if (!at)
        return false;
    r->p++;
    sl_buf_putc(&r->text, to[at - from]);
    return true;
}

/* Behind the first quote of a string: its text, in the body or in r->text. */
static bool read_string(reader *r, const char **ret, size_t *ret_len)
{
    const char *begin = r->p;

    r->p = skip_text(begin, r->end);
    if (r->p < r->end && *r->p == '"') {
        *ret = begin;
        *ret_len = (size_t)(r->p++ - begin);
        return true;
    }
    sl_buf_clear(&r->text);
    while (r->p < r->end && *r->p == '\\') {
        sl_buf_put(&r->text, begin, (size_t)(r->p++ - begin));
        if (!read_escape(r))
            return false;
        begin = r->p;
        r->p = skip_text(begin, r->end);
    }
    if (r->p == r->end || *r->p != '"')
        return false;
    sl_buf_put(&r->text, begin, (size_t)(r->p++ - begin));
    *ret = sl_buf_str(&r->text);
    *ret_len = r->text.len;
    return !r->text.failed;
}

/* ---- numbers ------------------------------------------------------------------------------- */

static size_t skip_digits(reader *r)
{
    const char *begin = r->p;

    while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
        r->p++;
    return (size_t)(r->p - begin);
}

/* Behind the digits of the whole part; true: a fraction or an exponent follows, and was read. */
static bool read_fraction(reader *r, bool *ret_ok)
{
    bool is_real = false;

    *ret_ok = true;
    if (r->p < r->end && *r->p == '.') {
        r->p++;
        is_real = true;
        *ret_ok = skip_digits(r) > 0;
    }
    if (*ret_ok && r->p < r->end && (*r->p == 'e' || *r->p == 'E')) {
        r->p++;
        is_real = true;
        if (r->p < r->end && (*r->p == '+' || *r->p == '-'))
            r->p++;
        *ret_ok = skip_digits(r) > 0;
    }
    return is_real;
}

static json_t *read_number(reader *r)
{
    const char *begin = r->p;
    char text[NUMBER_BYTES_MAX + 1];
    size_t len, digits;
    bool is_real, ok;
    double v;

    r->p += *begin == '-';
    digits = skip_digits(r);
    if (digits == 0 || (digits > 1 && r->p[-(ptrdiff_t)digits] == '0'))
        return NULL;
    is_real = read_fraction(r, &ok);
    len = (size_t)(r->p - begin);
    if (!ok || len > NUMBER_BYTES_MAX)
        return NULL;
    memcpy(text, begin, len);
    text[len] = '\0';
    if (!is_real)
        return digits <= INT_DIGITS_MAX ? json_integer(strtoll(text, NULL, 10)) : NULL;
    v = strtod(text, NULL);
    return isfinite(v) ? json_real(v) : NULL;
}

/* ---- values -------------------------------------------------------------------------------- */

static json_t *read_value(reader *r);

static bool read_members(reader *r, json_t *object)
{
    if (take(r, '}'))
        return true;
    do {
        const char *key;
        size_t len;
        json_t *value;

        if (!take(r, '"') || !read_string(r, &key, &len) || key == r->text.ptr || !take(r, ':'))
            return false;
        value = read_value(r);
        if (!value || json_object_setn_new_nocheck(object, key, len, value) != 0)
            return false;
    } while (take(r, ','));
    return take(r, '}');
}

static bool read_items(reader *r, json_t *array)
{
    if (take(r, ']'))
        return true;
    do {
        json_t *value = read_value(r);

        if (!value || json_array_append_new(array, value) != 0)
            return false;
    } while (take(r, ','));
    return take(r, ']');
}

static json_t *read_nested(reader *r, bool is_object)
{
    json_t *v = is_object ? json_object() : json_array();
    bool ok;

    r->depth++;
    ok = v && r->depth <= SL_JSON_DEPTH_MAX && (is_object ? read_members(r, v) : read_items(r, v));
    r->depth--;
    if (ok)
        return v;
    json_decref(v);
    return NULL;
}

static bool take_word(reader *r, const char *word, size_t len)
{
    bool is_it = (size_t)(r->end - r->p) >= len && memcmp(r->p, word, len) == 0;

    r->p += is_it ? len : 0;
    return is_it;
}

static json_t *read_value(reader *r)
{
    const char *text;
    size_t len;

    skip_space(r);
    if (r->p == r->end)
        return NULL;
    switch (*r->p) {
    case '{':
    case '[':
        return read_nested(r, *r->p++ == '{');
    case '"':
        r->p++;
        return read_string(r, &text, &len) ? json_stringn_nocheck(text, len) : NULL;
    case 't':
        return take_word(r, "true", 4) ? json_true() : NULL;
    case 'f':
        return take_word(r, "false", 5) ? json_false() : NULL;
    case 'n':
        return take_word(r, "null", 4) ? json_null() : NULL;
    default:
        return read_number(r);
    }
}

json_t *json_read(const char *body, size_t len)
{
    reader r = { .p = body, .end = body + len };
    json_t *root = NULL;

    sl_buf_init(&r.text, len);
    skip_space(&r);
    if (r.p < r.end && *r.p == '{')
        root = read_value(&r);
    skip_space(&r);
    if (r.p < r.end) {
        json_decref(root);
        root = NULL;
    }
    sl_buf_deinit(&r.text);
    return root;
}
