/* buf.c - growing buffers and UTF-8. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"

void sl_buf_init(sl_buf *b, size_t max_bytes)
{
    *b = (sl_buf){ .max = max_bytes };
}

void sl_buf_deinit(sl_buf *b)
{
    sl_free(b->ptr);
    *b = (sl_buf){ .max = b->max };
}

void sl_buf_clear(sl_buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->ptr)
        b->ptr[0] = '\0';
}

#define FIRST_BYTES                                                                                \
    ((size_t)128) /* of a buffer: most hold a line or more, and growing by steps is slow */

#define SHORT_BYTES ((size_t)96) /* of a text that printf makes, as a rule */

/* Makes room for len more bytes and the terminator. */
static bool reserve(sl_buf *b, size_t len)
{
    size_t need, want;

    if (b->failed)
        return false;
    if (!sl_add(b->len, len, &need) || need > b->max || need == SIZE_MAX) {
        b->failed = true;
        return false;
    }
    want = b->ptr ? need + 1 : SL_MAX(need + 1, SL_MIN(FIRST_BYTES, b->max));
    if (!sl_grow((void **)&b->ptr, &b->cap, want, 1, b->max == SIZE_MAX ? SIZE_MAX : b->max + 1)) {
        b->failed = true;
        return false;
    }
    return true;
}

void sl_buf_put(sl_buf *b, const void *bytes, size_t len)
{
    /* As a rule there is room: len < cap - len and its terminator fit, and cap is within max + 1.
     */
    if (SL_UNLIKELY(b->failed || len >= b->cap - b->len) && !reserve(b, len))
        return;
    if (len)
        memcpy(b->ptr + b->len, bytes, len);
    b->len += len;
    b->ptr[b->len] = '\0';
}

void sl_buf_puts(sl_buf *b, const char *text)
{
    sl_buf_put(b, text, strlen(text));
}

void sl_buf_putc(sl_buf *b, char c)
{
    sl_buf_put(b, &c, 1);
}

static void put_digits(sl_buf *b, uint64_t v, bool is_negative)
{
    char text[24], *p = text + sizeof text;

    do {
        *--p = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    if (is_negative)
        *--p = '-';
    sl_buf_put(b, p, (size_t)(text + sizeof text - p));
}

void sl_buf_put_int(sl_buf *b, int64_t v)
{
    put_digits(b, v < 0 ? -(uint64_t)v : (uint64_t)v, v < 0);
}

/* Puts what printf makes of fmt. */
static void put_formatted(sl_buf *b, const char *fmt, va_list ap)
{
    va_list again;
    size_t room;
    int len;

    /* Short texts fit at once. */
    if (!reserve(b, b->max - SL_MIN(b->len, b->max) >= SHORT_BYTES ? SHORT_BYTES : 0))
        return;
    room = b->cap - b->len;
    va_copy(again, ap);
    len = vsnprintf(b->ptr + b->len, room, fmt, ap);
    SL_ASSERT(len >= 0);
    if ((size_t)len >= room) {
        b->ptr[b->len] = '\0';
        if (!reserve(b, (size_t)len))
            len = 0;
        else
            vsnprintf(b->ptr + b->len, (size_t)len + 1, fmt, again);
    }
    b->len += (size_t)len;
    va_end(again);
}

/* What answers are made of, without printf: strings and whole numbers as they are. */
typedef struct directive {
    const char *text;
    enum { STRING, INT, LONG_LONG, UNSIGNED, SIZE } kind;
} directive;

static const directive directives[] = {
    { "s", STRING }, { "d", INT }, { "lld", LONG_LONG }, { "u", UNSIGNED }, { "zu", SIZE },
};

void sl_buf_printf(sl_buf *b, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    for (;;) {
        const char *at = strchrnul(fmt, '%'), *s;
        size_t i = 0;

        sl_buf_put(b, fmt, (size_t)(at - fmt));
        if (!*at)
            break;
        while (i < SL_COUNT_OF(directives) &&
               strncmp(at + 1, directives[i].text, strlen(directives[i].text)) != 0)
            i++;
        if (i == SL_COUNT_OF(directives)) {
            put_formatted(b, at, ap);
            break;
        }
        switch (directives[i].kind) {
        case STRING:
            s = va_arg(ap, const char *);
            sl_buf_puts(b, s ? s : "(null)");
            break;
        case INT:
            sl_buf_put_int(b, va_arg(ap, int));
            break;
        case LONG_LONG:
            sl_buf_put_int(b, va_arg(ap, long long));
            break;
        case UNSIGNED:
            put_digits(b, va_arg(ap, unsigned), false);
            break;
        case SIZE:
            put_digits(b, va_arg(ap, size_t), false);
            break;
        }
        fmt = at + 1 + strlen(directives[i].text);
    }
    va_end(ap);
}

void sl_buf_put_utf8(sl_buf *b, uint32_t cp)
{
    char out[4];

    sl_buf_put(b, out, sl_utf8_encode(cp, out));
}

void sl_buf_put_json(sl_buf *b, const char *text, size_t len)
{
    size_t plain = 0; /* start of the run that needs no escape */

    sl_buf_putc(b, '"');
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)text[i];
        uint32_t cp;
        size_t n;

        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            i++;
            continue;
        }
        n = sl_utf8_decode(text + i, len - i, &cp);
        if (n && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            i += n;
            continue;
        }
        sl_buf_put(b, text + plain, i - plain);
        if (!n)
            sl_buf_puts(b, "\xef\xbf\xbd");
        else if (c == '"' || c == '\\')
            sl_buf_printf(b, "\\%c", c);
        else if (c == '\n')
            sl_buf_puts(b, "\\n");
        else
            sl_buf_printf(b, "\\u%04x", c);
        i += n ? n : 1;
        plain = i;
    }
    sl_buf_put(b, text + plain, len - plain);
    sl_buf_putc(b, '"');
}

sl_status sl_buf_ok(const sl_buf *b, const char *what, sl_err *err)
{
    if (!b->failed)
        return SL_OK;
    return sl_fail(err, SL_ELIMIT, "%s: more than %zu bytes, or out of memory", what, b->max);
}

char *sl_buf_steal(sl_buf *b)
{
    char *p = b->failed ? NULL : b->ptr;

    if (!p)
        sl_free(b->ptr);
    *b = (sl_buf){ .max = b->max };
    return p;
}

size_t sl_utf8_decode(const char *text, size_t len, uint32_t *ret_cp)
{
    const unsigned char *s = (const unsigned char *)text;
    uint32_t cp, min;
    size_t n;

    if (len == 0)
        return 0;
    if (s[0] < 0x80) {
        *ret_cp = s[0];
        return 1;
    }
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        n = 2, cp = s[0] & 0x1f, min = 0x80;
    else if ((s[0] & 0xf0) == 0xe0)
        n = 3, cp = s[0] & 0x0f, min = 0x800;
    else if (s[0] >= 0xf0 && s[0] <= 0xf4)
        n = 4, cp = s[0] & 0x07, min = 0x10000;
    else
        return 0;
    if (len < n)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        cp = cp << 6 | (s[i] & 0x3f);
    }
    if (cp < min || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
        return 0;
    *ret_cp = cp;
    return n;
}

size_t sl_utf8_encode(uint32_t cp, char out[4])
{
    if (cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
        cp = 0xfffd;
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

bool sl_utf8_valid(const char *text, size_t len)
{
    uint32_t cp;

    for (size_t i = 0; i < len;) {
        size_t n = sl_utf8_decode(text + i, len - i, &cp);

        if (!n)
            return false;
        i += n;
    }
    return true;
}

size_t sl_utf8_complete(const char *text, size_t len)
{
    /* Only the last three bytes can begin a code point that lacks its end. */
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        unsigned char c = (unsigned char)text[len - back];

        if ((c & 0xc0) == 0x80)
            continue;
        if ((c >= 0xc2 && c <= 0xdf && back < 2) || ((c & 0xf0) == 0xe0 && back < 3) ||
            (c >= 0xf0 && c <= 0xf4 && back < 4))
            return len - back;
        break;
    }
    return len;
}
