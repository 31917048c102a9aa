/* multipart.c - multipart/form-data (RFC 7578) over a body that is in memory whole. Parts are
 * spans of the body; only their headers are copied. */
#include "http/http.h"

#include <ctype.h>
#include <strings.h>

#define BOUNDARY_BYTES_MAX 200 /* RFC 2046 says 70 */
#define FIELD_BYTES_MAX    1024
#define PARTS_MAX          256

/* Finds key="value" or key=value among the parameters of a header value. */
static bool find_param(const char *text, size_t len, const char *key, char *out, size_t out_bytes)
{
    size_t key_len = strlen(key);
    const char *end = text + len;

    for (const char *p = text; p < end; p++) {
        size_t n = 0;

        if (*p != ';')
            continue;
        do
            p++;
        while (p < end && (*p == ' ' || *p == '\t'));
        if ((size_t)(end - p) <= key_len || strncasecmp(p, key, key_len) != 0 ||
            p[key_len] != '=') {
            p--;
            continue;
        }
        p += key_len + 1;
        if (p < end && *p == '"') {
            for (p++; p < end && *p != '"'; p++) {
                if (*p == '\\' && p + 1 < end && (p[1] == '"' || p[1] == '\\'))
                    p++;
                if (n + 1 >= out_bytes)
                    return false;
                out[n++] = *p;
            }
        } else {
            for (; p < end && *p != ';' && *p != ' '; p++) {
                if (n + 1 >= out_bytes)
                    return false;
                out[n++] = *p;
            }
        }
        out[n] = '\0';
        return true;
    }
    return false;
}

static bool header_is(const uint8_t *line, size_t len, const char *name)
{
    size_t n = strlen(name);

    return len > n && strncasecmp((const char *)line, name, n) == 0 && line[n] == ':';
}

typedef struct part_head {
    char name[FIELD_BYTES_MAX], filename[FIELD_BYTES_MAX], type[256];
} part_head;

static void read_line(const uint8_t *line, size_t len, part_head *h)
{
    if (header_is(line, len, "content-disposition")) {
        find_param((const char *)line, len, "name", h->name, sizeof h->name);
        find_param((const char *)line, len, "filename", h->filename, sizeof h->filename);
    } else if (header_is(line, len, "content-type")) {
        size_t from = strlen("content-type:");
        size_t n;

        while (from < len && line[from] == ' ')
            from++;
        n = SL_MIN(len - from, sizeof h->type - 1);
        memcpy(h->type, line + from, n);
        h->type[n] = '\0';
    }
}

/* Reads the head of a part at *pos; false when it never ends. */
static bool read_head(sl_span body, size_t *pos, part_head *h)
{
    memset(h, 0, sizeof *h);
    for (;;) {
        const uint8_t *line = body.ptr + *pos;
        const uint8_t *end = memmem(line, body.len - *pos, "\r\n", 2);

        if (!end)
            return false;
        *pos += (size_t)(end - line) + 2;
        if (end == line)
            return true;
        read_line(line, (size_t)(end - line), h);
    }
}

sl_status http_multipart(const char *content_type, sl_span body,
                         sl_status (*fn)(void *ctx, const http_part *part, sl_err *err), void *ctx,
                         sl_err *err)
{
    char mark[BOUNDARY_BYTES_MAX + 5] = "\r\n--";
    size_t mark_len, pos;
    part_head head;

    if (!content_type || strncasecmp(content_type, "multipart/form-data", 19) != 0 ||
        !find_param(content_type, strlen(content_type), "boundary", mark + 4, BOUNDARY_BYTES_MAX) ||
        !mark[4])
        return sl_fail(err, SL_EFORMAT, "multipart/form-data without a boundary");
    mark_len = strlen(mark);
    if (body.len < mark_len - 2 || memcmp(body.ptr, mark + 2, mark_len - 2) != 0)
        return sl_fail(err, SL_EFORMAT, "multipart body does not begin with its boundary");
    pos = mark_len - 2;
    for (int count = 0;; count++) {
        const uint8_t *end;
        http_part part;

        if (body.len - pos >= 2 && memcmp(body.ptr + pos, "--", 2) == 0)
            return SL_OK;
        if (count == PARTS_MAX)
            return sl_fail(err, SL_ELIMIT, "more than %d parts", PARTS_MAX);
        if (body.len - pos < 2 || memcmp(body.ptr + pos, "\r\n", 2) != 0)
            return sl_fail(err, SL_EFORMAT, "malformed multipart boundary at byte %zu", pos);
        pos += 2;
        if (!read_head(body, &pos, &head))
            return sl_fail(err, SL_EFORMAT, "multipart part %d has no end of headers", count + 1);
        /* An empty part's boundary may share the CRLF that ended its head. */
        end = memmem(body.ptr + pos, body.len - pos, mark, mark_len);
        if (body.len - pos >= mark_len - 2 && memcmp(body.ptr + pos, mark + 2, mark_len - 2) == 0) {
            part.body = sl_span_of(body.ptr + pos, 0);
            pos += mark_len - 2;
        } else if (end) {
            part.body = sl_span_of(body.ptr + pos, (size_t)(end - (body.ptr + pos)));
            pos += part.body.len + mark_len;
        } else {
            return sl_fail(err, SL_EFORMAT, "multipart part %d never ends", count + 1);
        }
        part.name = head.name;
        part.filename = head.filename;
        part.content_type = head.type;
        SL_TRY(fn(ctx, &part, err));
    }
}
