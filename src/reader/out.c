/* out.c - writes a document: text and the blocks over it.
 *
 * White space between blocks is made here and nowhere else: a blank line, or a line end between
 * items of a list and rows of a table. A block that got no text leaves no trace. */
#include <stdio.h>

#include "reader/reader_int.h"

void reader_out_init(reader_out *o, size_t text_bytes)
{
    *o = (reader_out){ 0 };
    sl_buf_init(&o->text, text_bytes);
}

void reader_out_deinit(reader_out *o)
{
    sl_buf_deinit(&o->text);
    sl_free(o->blocks);
    *o = (reader_out){ 0 };
}

sl_status reader_out_check(const reader_out *o, sl_err *err)
{
    if (o->text.failed)
        return sl_fail(err, SL_ELIMIT, "its text is longer than the %zu MiB allowed",
                       o->text.max / SL_MIB);
    if (o->failed)
        return sl_fail(err, SL_ELIMIT, "it has more than the %zu paragraphs and rows allowed",
                       READER_BLOCKS_MAX);
    if (o->count == 0)
        return sl_fail(err, SL_EINVAL, "there is no text in it");
    return SL_OK;
}

void reader_out_move(reader_out *o, reader_document *ret)
{
    *ret = (reader_document){ .len = o->text.len, .blocks = o->blocks, .count = o->count };
    ret->text = sl_buf_steal(&o->text);
    ret->pages = o->pages;
    memcpy(ret->title, o->title, sizeof ret->title);
    snprintf(ret->type, sizeof ret->type, "%s", reader_type_name(o->type));
    o->blocks = NULL;
    o->count = o->cap = 0;
}

static void push_block(reader_out *o, reader_block b)
{
    if (!sl_grow((void **)&o->blocks, &o->cap, o->count + 1, sizeof *o->blocks,
                 READER_BLOCKS_MAX)) {
        o->failed = true;
        return;
    }
    o->blocks[o->count++] = b;
}

static bool is_close_kind(reader_kind kind)
{
    return kind == READER_LIST_ITEM || kind == READER_TABLE_ROW;
}

void reader_begin(reader_out *o, reader_kind kind, int level, const char *mark)
{
    reader_end(o);
    o->before = o->text.len;
    if (o->text.len > 0) {
        bool is_close = o->count > 0 && is_close_kind(kind) && o->blocks[o->count - 1].kind == kind;

        sl_buf_puts(&o->text, is_close ? "\n" : "\n\n");
    }
    sl_buf_puts(&o->text, mark ? mark : "");
    o->open = (reader_block){
        .begin = o->text.len, .kind = (uint8_t)kind, .level = (uint8_t)level, .page = o->page
    };
    o->is_open = true;
    o->needs_space = false;
}

/* A byte that stands for a space, or the length of a longer one: no-break, figure, ideographic. */
static size_t space_len(const char *p, size_t len)
{
    const uint8_t *b = (const uint8_t *)p;

    if (b[0] == ' ' || (b[0] >= '\t' && b[0] <= '\r'))
        return 1;
    if (len >= 2 && b[0] == 0xc2 && (b[1] == 0xa0 || b[1] == 0x85))
        return 2;
    if (len >= 3 && b[0] == 0xe2 && b[1] == 0x80 &&
        (b[2] <= 0x8a || b[2] == 0xa8 || b[2] == 0xa9 || b[2] == 0xaf))
        return 3;
    return len >= 3 && b[0] == 0xe3 && b[1] == 0x80 && b[2] == 0x80 ? 3 : 0;
}

/* Characters that nobody sees: controls, soft hyphen, zero-width space, byte order mark. */
static bool is_unseen(uint32_t cp)
{
    return cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || cp == 0xad || cp == 0x200b || cp == 0x2060 ||
           cp == 0xfeff || (cp >= 0xfff0 && cp <= 0xfffb);
}

/* Appends one character; white space has been dealt with. Returns the bytes it took. */
static size_t put_char(sl_buf *b, const char *p, size_t len)
{
    uint32_t cp = 0xfffd;
    size_t n = (uint8_t)*p < 0x80 ? 1 : sl_utf8_decode(p, len, &cp);

    if (n == 1) {
        if (!is_unseen((uint8_t)*p))
            sl_buf_putc(b, *p);
        return 1;
    }
    if (n == 0)
        sl_buf_put_utf8(b, 0xfffd);
    else if (!is_unseen(cp))
        sl_buf_put(b, p, n);
    return n ? n : 1;
}

/* The run of plain letters at p: the fast way for most text. */
static size_t plain_len(const char *p, size_t len)
{
    size_t n = 0;

    while (n < len && p[n] > ' ' && p[n] < 0x7f)
        n++;
    return n;
}

void reader_put(reader_out *o, const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = space_len(text + i, len - i);

        if (n) {
            o->needs_space = o->is_open;
            i += n;
            continue;
        }
        if (!o->is_open)
            reader_begin(o, READER_PARAGRAPH, 0, NULL);
        if (o->needs_space && o->text.len > o->open.begin && o->text.ptr[o->text.len - 1] != '\n')
            sl_buf_putc(&o->text, ' ');
        o->needs_space = false;
        n = plain_len(text + i, len - i);
        if (n)
            sl_buf_put(&o->text, text + i, n);
        else
            n = put_char(&o->text, text + i, len - i);
        i += n;
    }
}

void reader_puts(reader_out *o, const char *text)
{
    reader_put(o, text, strlen(text));
}

void reader_put_break(reader_out *o)
{
    if (o->is_open && o->text.len > o->open.begin) {
        sl_buf_putc(&o->text, '\n');
        o->needs_space = false;
    }
}

void reader_put_code(reader_out *o, const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = plain_len(text + i, len - i);

        if (n)
            sl_buf_put(&o->text, text + i, n);
        else if (text[i] == ' ' || text[i] == '\t' || text[i] == '\n')
            sl_buf_putc(&o->text, text[i]);
        else
            n = put_char(&o->text, text + i, len - i);
        i += n ? n : 1;
    }
}

bool reader_end(reader_out *o)
{
    size_t end = o->text.len;

    if (!o->is_open)
        return false;
    o->is_open = false;
    o->needs_space = false;
    if (o->text.failed)
        return false;
    while (end > o->open.begin && strchr(" \t\n", o->text.ptr[end - 1]))
        end--;
    while (o->open.begin < end && strchr(" \t\n", o->text.ptr[o->open.begin])) /* code */
        o->open.begin++;
    if (end == o->open.begin) {
        end = o->before;
    } else {
        o->open.end = end;
        push_block(o, o->open);
    }
    o->text.len = end;
    if (o->text.ptr)
        o->text.ptr[end] = '\0';
    return end != o->before;
}

void reader_block_put(reader_out *o, reader_kind kind, int level, const char *text, size_t len)
{
    reader_begin(o, kind, level, NULL);
    if (kind == READER_CODE)
        reader_put_code(o, text, len);
    else
        reader_put(o, text, len);
    reader_end(o);
}

void reader_span_put(reader_out *o, reader_kind kind, int level, size_t begin, size_t end)
{
    const char *text = sl_buf_str(&o->text);

    if (o->count > 0) /* blocks never overlap, whatever their finder says */
        begin = SL_MAX(begin, o->blocks[o->count - 1].end);
    while (begin < end && strchr(" \t\r\n", text[begin]))
        begin++;
    while (end > begin && strchr(" \t\r\n", text[end - 1]))
        end--;
    if (begin < end)
        push_block(o, (reader_block){ .begin = begin,
                                      .end = end,
                                      .kind = (uint8_t)kind,
                                      .level = (uint8_t)level,
                                      .header = kind == READER_TABLE_ROW ? o->header : 0 });
}

void reader_title(reader_out *o, const char *text, size_t len)
{
    reader_out t;

    if (o->title[0] || o->depth > 0)
        return;
    reader_out_init(&t, sizeof o->title * 4);
    reader_put(&t, text, SL_MIN(len, sizeof o->title * 2));
    len = t.text.len;
    if (len >= sizeof o->title)
        len = sl_utf8_complete(sl_buf_str(&t.text), sizeof o->title - 1);
    memcpy(o->title, sl_buf_str(&t.text), len);
    o->title[len] = '\0';
    reader_out_deinit(&t);
}

void reader_page(reader_out *o, size_t page)
{
    reader_end(o);
    if (o->depth > 0)
        return;
    o->page = (uint32_t)page;
    o->pages = SL_MAX(o->pages, o->page);
}

/* ---- tables --------------------------------------------------------------------------------- */

void reader_row_init(reader_row *r)
{
    *r = (reader_row){ 0 };
    sl_buf_init(&r->text, 4 * SL_MIB);
}

void reader_row_deinit(reader_row *r)
{
    sl_buf_deinit(&r->text);
    sl_free(r->ends);
    *r = (reader_row){ 0 };
}

void reader_row_clear(reader_row *r)
{
    sl_buf_clear(&r->text);
    r->count = 0;
}

void reader_cell_put(reader_row *r, const char *text, size_t len)
{
    size_t begin = r->count ? r->ends[r->count - 1] : 0;
    size_t room =
        r->text.len - begin < READER_CELL_BYTES ? READER_CELL_BYTES - (r->text.len - begin) : 0;

    if (len > room)
        len = sl_utf8_complete(text, room);
    sl_buf_put(&r->text, text, len);
}

void reader_cell_end(reader_row *r, size_t span)
{
    for (size_t i = 0; i < SL_MAX(span, (size_t)1); i++) {
        if (!sl_grow((void **)&r->ends, &r->cap, r->count + 1, sizeof *r->ends,
                     READER_COLUMNS_MAX)) {
            r->text.len = r->count ? r->ends[r->count - 1] : 0;
            return;
        }
        r->ends[r->count++] = r->text.len;
    }
}

static bool is_blank(const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = space_len(text + i, len - i);

        if (!n)
            return false;
        i += n;
    }
    return true;
}

bool reader_row_empty(const reader_row *r)
{
    return is_blank(sl_buf_str(&r->text), r->text.len);
}

void reader_table(reader_out *o)
{
    reader_end(o);
    o->header = 0;
}

static bool last_is_space(const reader_out *o)
{
    return o->text.len > 0 && o->text.ptr && o->text.ptr[o->text.len - 1] == ' ';
}

/* Trailing cells without text are left out, others keep their place. */
void reader_row_put(reader_out *o, reader_row *r, bool is_header, bool keep)
{
    const char *text = sl_buf_str(&r->text);
    size_t count = r->count, at = 0;
    bool is_row = keep || r->count > 1;

    while (count > 0 && is_blank(text + (count > 1 ? r->ends[count - 2] : 0),
                                 r->ends[count - 1] - (count > 1 ? r->ends[count - 2] : 0)))
        count--;
    if (count > 0) {
        reader_begin(o, is_row ? READER_TABLE_ROW : READER_PARAGRAPH, 0, NULL);
        o->open.header = is_row && !is_header ? o->header : 0;
        for (size_t i = 0; i < count; i++) {
            size_t begin = at;

            if (i > 0)
                sl_buf_puts(&o->text,
                            o->text.len == o->open.begin || last_is_space(o) ? "| " : " | ");
            o->needs_space = false;
            at = r->ends[i];
            while (begin < at && space_len(text + begin, at - begin))
                begin += space_len(text + begin, at - begin);
            reader_put(o, text + begin, at - begin);
        }
        if (reader_end(o) && is_row && is_header)
            o->header = (uint32_t)o->count;
    }
    reader_row_clear(r);
}
