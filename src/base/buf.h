/* buf.h - spans of foreign bytes, growing buffers with a maximum, and UTF-8. */
#ifndef SL_BASE_BUF_H
#define SL_BASE_BUF_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/status.h"

/* Bytes that somebody else owns. */
typedef struct sl_span {
    const uint8_t *ptr;
    size_t len;
} sl_span;

static inline sl_span sl_span_of(const void *ptr, size_t len)
{
    return (sl_span){ (const uint8_t *)ptr, len };
}

static inline sl_span sl_span_str(const char *text)
{
    return (sl_span){ (const uint8_t *)text, strlen(text) };
}

static inline bool sl_span_eq(sl_span a, sl_span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* A growing byte buffer. Always NUL-terminated behind len once anything was appended. After the
 * first failed append the buffer keeps what it has and `failed` stays set until sl_buf_clear, so a
 * writer may append freely and check once at the end with sl_buf_ok. */
typedef struct sl_buf {
    char *ptr;
    size_t len, cap;
    size_t max; /* bytes; appending past it fails */
    bool failed;
} sl_buf;

void sl_buf_init(sl_buf *b, size_t max_bytes);
void sl_buf_deinit(sl_buf *b);
void sl_buf_clear(sl_buf *b);
void sl_buf_put(sl_buf *b, const void *bytes, size_t len);
void sl_buf_puts(sl_buf *b, const char *text);
void sl_buf_putc(sl_buf *b, char c);
void sl_buf_put_int(sl_buf *b, int64_t v); /* decimal; many times faster than printf */
void sl_buf_printf(sl_buf *b, const char *fmt, ...) SL_PRINTF(2, 3);
/* Appends text as a JSON string with its quotes; invalid UTF-8 becomes U+FFFD. */
void sl_buf_put_json(sl_buf *b, const char *text, size_t len);
/* Appends a Unicode scalar value as UTF-8. */
void sl_buf_put_utf8(sl_buf *b, uint32_t cp);
/* SL_OK, or SL_ELIMIT / SL_ENOMEM when some append failed. */
SL_NODISCARD sl_status sl_buf_ok(const sl_buf *b, const char *what, sl_err *err);
/* The text so far, never NULL. Valid until the next append. */
static inline const char *sl_buf_str(const sl_buf *b)
{
    return b->ptr ? b->ptr : "";
}
/* Hands the bytes over to the caller (release with sl_free); NULL when empty or failed. */
char *sl_buf_steal(sl_buf *b);

/* Decodes one code point at text[0..len). Returns its length in bytes, or 0 when the bytes are no
 * complete, shortest-form scalar value (*ret_cp is then untouched). */
size_t sl_utf8_decode(const char *text, size_t len, uint32_t *ret_cp);
/* Encodes cp into out[4]; returns the bytes written (3, as U+FFFD, for an invalid cp). */
size_t sl_utf8_encode(uint32_t cp, char out[4]);
/* True when all bytes are valid UTF-8. */
bool sl_utf8_valid(const char *text, size_t len);
/* Length of the longest prefix that does not end inside a possibly unfinished code point. */
size_t sl_utf8_complete(const char *text, size_t len);

#endif
