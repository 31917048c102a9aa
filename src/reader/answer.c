/* answer.c - what the child sends back, and how the parent reads it.
 *
 * The child may have been taken over by the document it read, so the parent believes nothing:
 * lengths, order, kinds, whole characters and UTF-8 are checked before anything is used. */
#include <stdio.h>

#include "reader/reader_int.h"

#define MAGIC "SLREAD1\n"

/* Both ends are the same program on the same machine. */
typedef struct head {
    char magic[8];
    int32_t status; /* sl_status; not SL_OK: err, and nothing follows */
    uint32_t pages;
    uint64_t len, count; /* of the text; of the blocks behind it */
    char title[256], type[96];
    char err[SL_ERR_TEXT_BYTES];
} head;

void reader_answer_encode(const reader_document *d, const sl_err *err, sl_buf *ret)
{
    head h = { .magic = MAGIC };

    if (d) {
        h.pages = d->pages;
        h.len = d->len;
        h.count = d->count;
        memcpy(h.title, d->title, sizeof h.title);
        memcpy(h.type, d->type, sizeof h.type);
    } else {
        h.status = err->status;
        memcpy(h.err, err->text, sizeof h.err);
    }
    sl_buf_put(ret, &h, sizeof h);
    if (d) {
        sl_buf_put(ret, d->text, d->len);
        sl_buf_put(ret, d->blocks, d->count * sizeof *d->blocks);
    }
}

static bool is_text(const char *text, size_t room)
{
    size_t len = strnlen(text, room);

    return len < room && sl_utf8_valid(text, len);
}

static bool is_boundary(const char *text, size_t at)
{
    return ((uint8_t)text[at] & 0xc0) != 0x80; /* the NUL behind the text is one */
}

static bool blocks_are_good(const reader_document *d)
{
    size_t at = 0;

    for (size_t i = 0; i < d->count; i++) {
        const reader_block *b = &d->blocks[i];

        if (b->begin < at || b->begin >= b->end || b->end > d->len || b->kind >= READER_KIND_COUNT)
            return false;
        if (!is_boundary(d->text, b->begin) || !is_boundary(d->text, b->end))
            return false;
        if (b->level > (b->kind == READER_HEADING ? 6 : 255) || b->page > d->pages)
            return false;
        if ((b->kind == READER_HEADING || b->kind == READER_LIST_ITEM) != (b->level > 0))
            return false;
        if (b->header > i || (b->header && (b->kind != READER_TABLE_ROW ||
                                            d->blocks[b->header - 1].kind != READER_TABLE_ROW)))
            return false;
        at = b->end;
    }
    return d->count > 0;
}

/* A failure the child reports: one of the statuses that a document can cause. */
static sl_status take_failure(const head *h, sl_err *err)
{
    static const sl_status allowed[] = { SL_EINVAL, SL_EFORMAT, SL_ELIMIT, SL_ENOTSUP, SL_ENOMEM };

    for (size_t i = 0; i < SL_COUNT_OF(allowed); i++)
        if (h->status == allowed[i] && is_text(h->err, sizeof h->err) && h->err[0])
            return sl_fail(err, allowed[i], "%s", h->err);
    return sl_fail(err, SL_EFORMAT, "its reader failed and gave no reason");
}

static sl_status broken(sl_err *err)
{
    return sl_fail(err, SL_EFORMAT,
                   "its reader gave an answer that is wrong in itself; the "
                   "document is damaged or hostile");
}

sl_status reader_answer_decode(sl_span bytes, size_t text_bytes, reader_document *ret, sl_err *err)
{
    head h;
    reader_document d = { 0 };
    const uint8_t *body = bytes.ptr + sizeof h;

    if (bytes.len < sizeof h)
        return broken(err);
    memcpy(&h, bytes.ptr, sizeof h);
    if (memcmp(h.magic, MAGIC, sizeof h.magic) != 0)
        return broken(err);
    if (h.status != SL_OK)
        return take_failure(&h, err);
    if (h.len == 0 || h.len > text_bytes || h.count > READER_BLOCKS_MAX ||
        h.pages > READER_PAGES_MAX || bytes.len != sizeof h + h.len + h.count * sizeof *d.blocks)
        return broken(err);
    if (!sl_utf8_valid((const char *)body, h.len) || memchr(body, '\0', h.len) ||
        !is_text(h.title, sizeof h.title) || !is_text(h.type, sizeof h.type))
        return broken(err);
    d = (reader_document){ .len = h.len, .count = h.count, .pages = h.pages };
    memcpy(d.title, h.title, sizeof d.title);
    memcpy(d.type, h.type, sizeof d.type);
    d.text = sl_strndup((const char *)body, h.len);
    d.blocks = sl_calloc(h.count, sizeof *d.blocks);
    if (!d.text || !d.blocks) {
        reader_document_deinit(&d);
        return sl_fail(err, SL_ENOMEM, "out of memory");
    }
    memcpy(d.blocks, body + h.len, h.count * sizeof *d.blocks);
    if (!blocks_are_good(&d)) {
        reader_document_deinit(&d);
        return broken(err);
    }
    *ret = d;
    return SL_OK;
}
