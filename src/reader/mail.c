/* mail.c - an e-mail as one document: subject, who and when, the text, then each attachment under a
 * heading of its own, read by whatever reads its kind.
 *
 * Of alternatives the plain text is taken where it says something, else the HTML. Attachments that
 * cannot be read are named with the reason; they do not fail the message. */
#include <stdio.h>
#include <strings.h>

#include "reader/mime.h"

/* The blocks of one document behind those of another, headings below level `under`. */
static void append(reader_out *out, reader_out *inner, int under)
{
    size_t begin, skip, first = out->count;

    reader_end(out);
    if (inner->count == 0)
        return;
    sl_buf_puts(&out->text, out->text.len ? "\n\n" : "");
    skip = inner->blocks[0].begin;
    begin = out->text.len - skip; /* may wrap; the sums below do not */
    sl_buf_put(&out->text, inner->text.ptr + skip, inner->blocks[inner->count - 1].end - skip);
    for (size_t i = 0; i < inner->count && !out->text.failed; i++) {
        reader_block b = inner->blocks[i];
        int level = b.kind == READER_HEADING ? SL_MIN(b.level + under, 6) : b.level;

        reader_span_put(out, b.kind, level, begin + b.begin, begin + b.end);
        if (b.header && out->count > 0)
            out->blocks[out->count - 1].header = (uint32_t)first + b.header;
    }
    out->header = 0;
}

static void put_note(reader_out *out, const char *why)
{
    reader_begin(out, READER_PARAGRAPH, 0, NULL);
    reader_puts(out, "(not read: ");
    reader_puts(out, why);
    reader_puts(out, ")");
    reader_end(out);
}

static void inner_init(const reader_out *out, reader_out *inner)
{
    reader_out_init(inner, out->text.max - SL_MIN(out->text.max, out->text.len));
    inner->depth = out->depth + 1;
    inner->parts = out->parts;
}

/* ---- text ----------------------------------------------------------------------------------- */

static sl_status put_text(sl_span bytes, const char *charset, reader_out *out, sl_err *err)
{
    sl_buf text;
    reader_out inner;
    sl_status status;

    sl_buf_init(&text, READER_PART_BYTES);
    inner_init(out, &inner);
    status = reader_decode(bytes, charset, &text, err);
    if (status == SL_OK)
        status = reader_text(sl_span_of(sl_buf_str(&text), text.len), &inner, err);
    if (status == SL_OK)
        append(out, &inner, 0);
    reader_out_deinit(&inner);
    sl_buf_deinit(&text);
    return status;
}

static bool is_blank(const sl_buf *b)
{
    for (size_t i = 0; i < b->len; i++)
        if ((uint8_t)b->ptr[i] > ' ')
            return false;
    return true;
}

/* Text of the message itself. */
static sl_status put_body(const mime_part *part, reader_out *out, sl_err *err)
{
    sl_buf bytes;
    sl_status status = SL_OK;
    sl_span span;

    sl_buf_init(&bytes, READER_PART_BYTES);
    mime_body(part, &bytes);
    span = sl_span_of(sl_buf_str(&bytes), bytes.len);
    if (is_blank(&bytes))
        status = SL_OK;
    else if (strcmp(part->type, "text/html") == 0)
        status = reader_html(span, part->charset, false, out, err);
    else
        status = put_text(span, part->charset, out, err);
    sl_buf_deinit(&bytes);
    return status;
}

/* ---- attachments ---------------------------------------------------------------------------- */

/* Reads a file in the message into out. What goes wrong with it is a note. */
static sl_status put_attachment(const mime_part *part, reader_out *out)
{
    sl_buf bytes;
    reader_out inner;
    sl_err err = { 0 };
    sl_status status = SL_OK;
    bool is_message = strcmp(part->type, "message/rfc822") == 0;

    reader_begin(out, READER_HEADING, 2, NULL);
    reader_puts(out, is_message ? "Attached message" : "Attachment: ");
    reader_puts(out, is_message ? "" : part->name[0] ? part->name : part->type);
    reader_end(out);
    if (out->depth + 1 > READER_DEPTH_MAX) {
        put_note(out, "attachments are nested too deep");
        return SL_OK;
    }
    sl_buf_init(&bytes, READER_PART_BYTES);
    inner_init(out, &inner);
    mime_body(part, &bytes);
    if (bytes.len == 0)
        status = sl_fail(&err, SL_EINVAL, "it is empty");
    else if (is_message)
        status = reader_mail(sl_span_of(bytes.ptr, bytes.len), &inner, &err);
    else
        status = reader_run(sl_span_of(bytes.ptr, bytes.len), part->name, &inner, &err);
    if (status == SL_OK)
        status = reader_out_check(&inner, &err);
    out->parts = inner.parts;
    if (status == SL_OK)
        append(out, &inner, 2);
    else
        put_note(out, err.text);
    reader_out_deinit(&inner);
    sl_buf_deinit(&bytes);
    return SL_OK;
}

/* ---- the tree of parts ---------------------------------------------------------------------- */

static sl_status put_part(const mime_part *part, int depth, bool attachments, reader_out *out,
                          sl_err *err);

static bool is_multipart(const mime_part *part)
{
    return strncmp(part->type, "multipart/", 10) == 0 && part->boundary[0];
}

/* Text of the message, not a file in it. */
static bool is_text(const mime_part *part)
{
    return !part->is_attachment &&
           (strcmp(part->type, "text/plain") == 0 || strcmp(part->type, "text/html") == 0);
}

/* Of alternatives the first one that leaves text: plain before others. */
static sl_status put_alternative(const mime_part *whole, int depth, reader_out *out, sl_err *err)
{
    for (int want_plain = 1; want_plain >= 0; want_plain--) {
        size_t at = 0, before = out->count;
        sl_span span;

        while (mime_next(whole, &at, &span) && out->count == before) {
            mime_part part;

            mime_parse(span, &part);
            if ((strcmp(part.type, "text/plain") == 0) == (want_plain == 1))
                SL_TRY(put_part(&part, depth + 1, false, out, err));
        }
        if (out->count > before)
            break;
    }
    return SL_OK;
}

/* The text first (attachments false), what is attached second. */
static sl_status put_part(const mime_part *part, int depth, bool attachments, reader_out *out,
                          sl_err *err)
{
    size_t at = 0;
    sl_span span;

    if (out->text.failed || out->failed || depth > 3 * READER_DEPTH_MAX)
        return SL_OK;
    if (!is_multipart(part)) {
        if (is_text(part))
            return attachments ? SL_OK : put_body(part, out, err);
        if (!attachments || strncmp(part->type, "multipart/", 10) == 0 ||
            strncmp(part->type, "image/", 6) == 0 ||
            strcmp(part->type, "application/pgp-signature") == 0 ||
            strcmp(part->type, "application/pkcs7-signature") == 0)
            return SL_OK;
        return put_attachment(part, out);
    }
    if (strcmp(part->type, "multipart/alternative") == 0 && !attachments)
        return put_alternative(part, depth, out, err);
    while (mime_next(part, &at, &span)) {
        mime_part inner;

        if (attachments && ++out->parts > READER_PARTS_MAX)
            return sl_fail(err, SL_ELIMIT, "the e-mail has more than the %d parts allowed",
                           READER_PARTS_MAX);
        mime_parse(span, &inner);
        SL_TRY(put_part(&inner, depth + 1, attachments, out, err));
    }
    return SL_OK;
}

static void put_headers(const mime_part *part, reader_out *out)
{
    static const char *const names[] = { "From", "To", "Cc", "Date" };
    char value[MIME_VALUE_BYTES];

    mime_header(part, "Subject", value);
    reader_title(out, value, strlen(value));
    reader_block_put(out, READER_HEADING, 1, value, strlen(value));
    reader_begin(out, READER_PARAGRAPH, 0, NULL);
    for (size_t i = 0; i < SL_COUNT_OF(names); i++) {
        mime_header(part, names[i], value);
        if (!value[0])
            continue;
        reader_put_break(out);
        reader_puts(out, names[i]);
        reader_puts(out, ": ");
        reader_puts(out, value);
    }
    reader_end(out);
}

static sl_status put_message(sl_span bytes, reader_out *out, sl_err *err)
{
    mime_part part;

    mime_parse(bytes, &part);
    put_headers(&part, out);
    SL_TRY(put_part(&part, 0, false, out, err));
    return put_part(&part, 0, true, out, err);
}

/* A mailbox is messages behind lines "From ..."; a message alone has no such line. */
sl_status reader_mail(sl_span bytes, reader_out *out, sl_err *err)
{
    while (bytes.len > 0 && (bytes.ptr[0] == '\n' || bytes.ptr[0] == '\r' || bytes.ptr[0] == ' '))
        bytes = sl_span_of(bytes.ptr + 1, bytes.len - 1);
    if (bytes.len < 5 || memcmp(bytes.ptr, "From ", 5) != 0)
        return put_message(bytes, out, err);
    while (bytes.len > 0 && !out->text.failed && !out->failed) {
        const uint8_t *line = memchr(bytes.ptr, '\n', bytes.len);
        size_t skip = line ? (size_t)(line - bytes.ptr) + 1 : bytes.len;
        const uint8_t *next = memmem(bytes.ptr + skip, bytes.len - skip, "\n\nFrom ", 7);
        size_t end = next ? (size_t)(next - bytes.ptr) + 2 : bytes.len;

        if (++out->parts > READER_PARTS_MAX)
            return sl_fail(err, SL_ELIMIT,
                           "the mailbox has more than the %d messages allowed; "
                           "divide it",
                           READER_PARTS_MAX);
        SL_TRY(put_message(sl_span_of(bytes.ptr + skip, end - skip), out, err));
        bytes = sl_span_of(bytes.ptr + end, bytes.len - end);
    }
    return SL_OK;
}
