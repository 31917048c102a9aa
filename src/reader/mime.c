/* mime.c - RFC 5322 and MIME, read leniently: what is wrong is taken as it stands. */
#include <stdio.h>
#include <strings.h>

#include "reader/mime.h"

/* ---- headers -------------------------------------------------------------------------------- */

/* The line at `at`, without its end. Returns where the next one begins. */
static size_t next_line(sl_span b, size_t at, sl_span *ret)
{
    const uint8_t *nl = memchr(b.ptr + at, '\n', b.len - at);
    size_t end = nl ? (size_t)(nl - b.ptr) : b.len, next = nl ? end + 1 : b.len;

    if (end > at && b.ptr[end - 1] == '\r')
        end--;
    *ret = sl_span_of(b.ptr + at, end - at);
    return next;
}

/* The raw value of a header, its folded lines joined, cut at room. */
static size_t raw_header(sl_span headers, const char *name, char *ret, size_t room)
{
    size_t at = 0, len = strlen(name), n = 0;
    bool found = false;

    while (at < headers.len) {
        sl_span line;
        size_t skip = 0;

        at = next_line(headers, at, &line);
        if (line.len > 0 && (line.ptr[0] == ' ' || line.ptr[0] == '\t')) {
            if (!found)
                continue;
        } else if (found) {
            break;
        } else if (line.len > len && line.ptr[len] == ':' &&
                   strncasecmp((const char *)line.ptr, name, len) == 0) {
            found = true;
            skip = len + 1;
        } else {
            continue;
        }
        while (skip < line.len && (line.ptr[skip] == ' ' || line.ptr[skip] == '\t'))
            skip++;
        if (n && n + 1 < room)
            ret[n++] = ' ';
        len = SL_MIN(line.len - skip, room - 1 - n);
        memcpy(ret + n, line.ptr + skip, len);
        n += len;
    }
    ret[n] = '\0';
    return n;
}

static int base64_digit(uint8_t c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+' || c == '-' ? 62
           : c == '/' || c == '_' ? 63
                                  : -1;
}

static void decode_base64(sl_span in, sl_buf *ret)
{
    uint32_t bits = 0;
    int have = 0;

    for (size_t i = 0; i < in.len && in.ptr[i] != '='; i++) {
        int d = base64_digit(in.ptr[i]);

        if (d < 0)
            continue;
        bits = bits << 6 | (uint32_t)d;
        have += 6;
        if (have >= 8) {
            have -= 8;
            sl_buf_putc(ret, (char)(bits >> have));
        }
    }
}

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* is_word: of a header, where "_" is a space. */
static void decode_quoted(sl_span in, bool is_word, sl_buf *ret)
{
    for (size_t i = 0; i < in.len; i++) {
        uint8_t c = in.ptr[i];
        int high = c == '=' && i + 2 < in.len ? hex_digit(in.ptr[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(in.ptr[i + 2]) : -1;

        if (low >= 0) {
            sl_buf_putc(ret, (char)(high * 16 + low));
            i += 2;
        } else if (c == '=' && !is_word) { /* the line goes on */
            size_t k = i + 1;

            while (k < in.len && (in.ptr[k] == ' ' || in.ptr[k] == '\t' || in.ptr[k] == '\r'))
                k++;
            if (k < in.len && in.ptr[k] == '\n')
                i = k;
            else if (k < in.len)
                sl_buf_putc(ret, '=');
            else
                i = k;
        } else {
            sl_buf_putc(ret, is_word && c == '_' ? ' ' : (char)c);
        }
    }
}

/* Appends bytes of a charset as UTF-8. */
static void put_decoded(sl_span bytes, const char *charset, sl_buf *ret)
{
    sl_buf text;

    sl_buf_init(&text, 64 * SL_KIB);
    if (bytes.len && reader_decode(bytes, charset, &text, NULL) == SL_OK)
        sl_buf_put(ret, sl_buf_str(&text), text.len);
    sl_buf_deinit(&text);
}

/* "=?charset?B?text?=" at p: appends what it says and returns its length, or 0. */
static size_t put_word(const char *p, sl_buf *ret)
{
    const char *charset = p + 2, *how, *text, *end;
    char name[64];
    sl_buf bytes;

    how = strncmp(p, "=?", 2) == 0 ? strchr(charset, '?') : NULL;
    if (!how || !how[1] || how[2] != '?' || !strchr("bBqQ", how[1]))
        return 0;
    text = how + 3;
    end = strstr(text, "?=");
    if (!end)
        return 0;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(charset, "?*"), charset);
    sl_buf_init(&bytes, 64 * SL_KIB);
    if (how[1] == 'b' || how[1] == 'B')
        decode_base64(sl_span_of(text, (size_t)(end - text)), &bytes);
    else
        decode_quoted(sl_span_of(text, (size_t)(end - text)), true, &bytes);
    put_decoded(sl_span_of(sl_buf_str(&bytes), bytes.len), name, ret);
    sl_buf_deinit(&bytes);
    return (size_t)(end - p) + 2;
}

/* A raw value with its encoded words decoded; space between two of them is none. */
static void decode_value(const char *raw, char *ret, size_t room)
{
    sl_buf out;
    bool after_word = false;
    size_t len;

    sl_buf_init(&out, 64 * SL_KIB);
    while (*raw) {
        size_t blank = strspn(raw, " \t"), n = put_word(raw + (after_word ? blank : 0), &out);

        if (n) {
            raw += n + (after_word ? blank : 0);
            after_word = true;
            continue;
        }
        n = 1 + strcspn(raw + 1, "= \t");
        put_decoded(sl_span_of(raw, n), NULL, &out);
        after_word = false;
        raw += n;
    }
    len = SL_MIN(out.len, room - 1);
    if (len < out.len)
        len = sl_utf8_complete(sl_buf_str(&out), len);
    memcpy(ret, sl_buf_str(&out), len);
    ret[len] = '\0';
    sl_buf_deinit(&out);
}

void mime_header(const mime_part *part, const char *name, char ret[MIME_VALUE_BYTES])
{
    char raw[MIME_VALUE_BYTES];

    raw_header(part->headers, name, raw, sizeof raw);
    decode_value(raw, ret, MIME_VALUE_BYTES);
}

/* ---- parameters ----------------------------------------------------------------------------- */

/* Percent-encoded "UTF-8''na%20me" of RFC 2231. */
static void decode_extended(const char *in, char *ret, size_t room)
{
    const char *text = strchr(in, '\'');
    char charset[64];
    sl_buf bytes, out;

    text = text ? strchr(text + 1, '\'') : NULL;
    snprintf(charset, sizeof charset, "%.*s", (int)(text ? strcspn(in, "'") : 0), in);
    sl_buf_init(&bytes, 4096);
    sl_buf_init(&out, 4096);
    for (const char *p = text ? text + 1 : in; *p; p++) {
        int high = *p == '%' ? hex_digit((uint8_t)p[1]) : -1;
        int low = high >= 0 ? hex_digit((uint8_t)p[2]) : -1;

        sl_buf_putc(&bytes, low >= 0 ? (char)(high * 16 + low) : *p);
        p += low >= 0 ? 2 : 0;
    }
    put_decoded(sl_span_of(sl_buf_str(&bytes), bytes.len), charset, &out);
    snprintf(ret, room, "%.*s", (int)sl_utf8_complete(sl_buf_str(&out), SL_MIN(out.len, room - 1)),
             sl_buf_str(&out));
    sl_buf_deinit(&bytes);
    sl_buf_deinit(&out);
}

/* The parameter "name" of a header's value: ; name="..." or ; name*=... */
static void parameter(const char *value, const char *name, char *ret, size_t room)
{
    size_t len = strlen(name), n = 0;
    bool quoted = false;

    ret[0] = '\0';
    for (const char *p = value; *p; p++) {
        bool is_extended;
        char text[1024];

        quoted = quoted != (*p == '"');
        if (quoted || *p != ';')
            continue;
        p += 1 + strspn(p + 1, " \t");
        if (strncasecmp(p, name, len) != 0 || (p[len] != '=' && p[len] != '*')) {
            p--;
            continue;
        }
        is_extended = p[len] == '*';
        p += len;
        p += strcspn(p, "=");
        if (!*p)
            return;
        p++;
        quoted = *p == '"';
        for (p += quoted; *p && n + 1 < sizeof text; p++) {
            if (quoted ? *p == '"' : strchr("; \t", *p) != NULL)
                break;
            if (quoted && *p == '\\' && p[1])
                p++;
            text[n++] = *p;
        }
        text[n] = '\0';
        if (is_extended)
            decode_extended(text, ret, room);
        else
            decode_value(text, ret, room);
        return;
    }
}

/* ---- entities ------------------------------------------------------------------------------- */

void mime_parse(sl_span bytes, mime_part *ret)
{
    char value[MIME_VALUE_BYTES];
    size_t at = 0, next = 0, n;
    sl_span line;

    *ret = (mime_part){ 0 };
    while (at < bytes.len) {
        next = next_line(bytes, at, &line);
        if (line.len == 0)
            break;
        at = next;
    }
    ret->headers = sl_span_of(bytes.ptr, at);
    next = at < bytes.len ? next : bytes.len;
    ret->body = sl_span_of(bytes.ptr + next, bytes.len - next);
    raw_header(ret->headers, "content-type", value, sizeof value);
    n = SL_MIN(strcspn(value, "; \t"), sizeof ret->type - 1);
    for (size_t i = 0; i < n; i++)
        ret->type[i] = (char)(value[i] >= 'A' && value[i] <= 'Z' ? value[i] + 32 : value[i]);
    if (!strchr(ret->type, '/'))
        snprintf(ret->type, sizeof ret->type, "text/plain");
    parameter(value, "charset", ret->charset, sizeof ret->charset);
    parameter(value, "boundary", ret->boundary, sizeof ret->boundary);
    parameter(value, "name", ret->name, sizeof ret->name);
    raw_header(ret->headers, "content-disposition", value, sizeof value);
    ret->is_attachment = strncasecmp(value, "attachment", 10) == 0;
    if (strstr(value, "filename"))
        parameter(value, "filename", ret->name, sizeof ret->name);
}

bool mime_next(const mime_part *whole, size_t *at, sl_span *ret)
{
    sl_span b = whole->body, line;
    size_t len = strlen(whole->boundary), begin = SIZE_MAX, next;

    for (size_t i = *at; i < b.len && len > 0; i = next) {
        bool is_mark;

        next = next_line(b, i, &line);
        is_mark = line.len >= len + 2 && line.ptr[0] == '-' && line.ptr[1] == '-' &&
                  memcmp(line.ptr + 2, whole->boundary, len) == 0;
        if (!is_mark)
            continue;
        if (begin != SIZE_MAX) {
            *ret = sl_span_of(b.ptr + begin, i - begin);
            *at = i;
            return true;
        }
        if (line.len >= len + 4 && line.ptr[len + 2] == '-' && line.ptr[len + 3] == '-')
            break; /* the last one */
        begin = next;
    }
    *at = b.len;
    if (begin == SIZE_MAX || begin >= b.len)
        return false;
    *ret = sl_span_of(b.ptr + begin, b.len - begin); /* cut short */
    return true;
}

void mime_body(const mime_part *part, sl_buf *ret)
{
    char how[MIME_VALUE_BYTES];

    raw_header(part->headers, "content-transfer-encoding", how, sizeof how);
    if (strncasecmp(how, "base64", 6) == 0)
        decode_base64(part->body, ret);
    else if (strncasecmp(how, "quoted-printable", 16) == 0)
        decode_quoted(part->body, false, ret);
    else
        sl_buf_put(ret, part->body.ptr, part->body.len);
}
