/* blocks.c - the structure of a text in memory, line by line: headings, paragraphs, list items,
 * fences.
 *
 * One pass over the lines with one open block. Only what decides where a passage may be cut is
 * understood of Markdown; everything else is text of a paragraph. */
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "rag/chunk_int.h"

#define LEVELS 6

typedef struct line {
    size_t begin, end, next; /* text without the line end, where the next line begins */
    size_t indent;           /* spaces in front; a tab counts to the next multiple of 4 */
    size_t first;            /* the first byte that is no space */
} line;

typedef struct lines {
    const char *text;
    size_t len;
    bool is_plain;
    reader_document *out;
    size_t cap;
    size_t block, block_end; /* the open block; block == block_end for none */
    size_t block_lines;
    bool block_is_item;
    char fence; /* '`' or '~' inside a fence, else 0 */
    size_t fence_len;
    bool failed;
} lines;

static line read_line(const lines *r, size_t at)
{
    const char *nl = memchr(r->text + at, '\n', r->len - at);
    line l = { .begin = at, .end = nl ? (size_t)(nl - r->text) : r->len };

    l.next = nl ? l.end + 1 : r->len;
    while (l.end > l.begin &&
           (r->text[l.end - 1] == '\r' || r->text[l.end - 1] == ' ' || r->text[l.end - 1] == '\t'))
        l.end--;
    l.first = l.begin;
    while (l.first < l.end && (r->text[l.first] == ' ' || r->text[l.first] == '\t')) {
        l.indent += r->text[l.first] == '\t' ? 4 - l.indent % 4 : 1;
        l.first++;
    }
    return l;
}

static void push_block(lines *r, size_t begin, size_t end, reader_kind kind, int level)
{
    reader_document *out = r->out;

    if (begin >= end || r->failed)
        return;
    if (!sl_grow((void **)&out->blocks, &r->cap, out->count + 1, sizeof *out->blocks,
                 SL_HTTP_BODY_BYTES_MAX)) {
        r->failed = true;
        return;
    }
    out->blocks[out->count++] = (reader_block){
        .begin = begin, .end = end, .kind = (uint8_t)kind, .level = (uint8_t)level
    };
}

static void close_block(lines *r)
{
    push_block(r, r->block, r->block_end, r->block_is_item ? READER_LIST_ITEM : READER_PARAGRAPH,
               r->block_is_item);
    r->block = r->block_end = 0;
    r->block_lines = 0;
    r->block_is_item = false;
}

/* ---- headings ------------------------------------------------------------------------------ */

/* "## Title ##": true when the line was one. */
static bool take_atx(lines *r, const line *l)
{
    size_t at = l->first;
    int level = 0;

    while (at < l->end && r->text[at] == '#' && level <= LEVELS) {
        at++;
        level++;
    }
    if (l->indent > 3 || level == 0 || level > LEVELS)
        return false;
    if (at < l->end && r->text[at] != ' ' && r->text[at] != '\t')
        return false;
    close_block(r);
    push_block(r, l->first, l->end, READER_HEADING, level);
    return true;
}

/* A line of = or - under one line of text makes that line a heading. */
static bool take_setext(lines *r, const line *l)
{
    char c = l->first < l->end ? r->text[l->first] : '\0';
    size_t at = l->first, begin = r->block;

    if ((c != '=' && c != '-') || l->indent > 3 || r->block_lines != 1)
        return false;
    while (at < l->end && r->text[at] == c)
        at++;
    if (at < l->end)
        return false;
    r->block = r->block_end = 0;
    r->block_lines = 0;
    r->block_is_item = false;
    push_block(r, begin, l->end, READER_HEADING, c == '=' ? 1 : 2);
    return true;
}

/* ---- fences and items ---------------------------------------------------------------------- */

static size_t fence_run(const lines *r, const line *l, char *ret_c)
{
    char c = l->first < l->end ? r->text[l->first] : '\0';
    size_t n = 0;

    if ((c != '`' && c != '~') || l->indent > 3)
        return 0;
    while (l->first + n < l->end && r->text[l->first + n] == c)
        n++;
    *ret_c = c;
    /* ```x``` on one line is inline code */
    if (c == '`' && memchr(r->text + l->first + n, '`', l->end - l->first - n))
        return 0;
    return n >= 3 ? n : 0;
}

static void end_fence(lines *r)
{
    push_block(r, r->block, r->block_end, READER_CODE, 0);
    r->block = r->block_end = 0;
    r->fence = 0;
}

/* True when the line opens, fills or closes a fence. */
static bool take_fence(lines *r, const line *l)
{
    char c = 0;
    size_t n = fence_run(r, l, &c);

    if (r->fence) {
        r->block_end = l->end > r->block ? l->end : r->block_end;
        if (c == r->fence && n >= r->fence_len && l->first + n == l->end)
            end_fence(r);
        return true;
    }
    if (n == 0)
        return false;
    close_block(r);
    r->fence = c;
    r->fence_len = n;
    r->block = l->first;
    r->block_end = l->end;
    return true;
}

static bool begins_item(const lines *r, const line *l)
{
    size_t at = l->first;

    if (at < l->end && strchr("-*+", r->text[at])) {
        at++;
    } else {
        while (at < l->end && at - l->first < 9 && r->text[at] >= '0' && r->text[at] <= '9')
            at++;
        if (at == l->first || at == l->end || (r->text[at] != '.' && r->text[at] != ')'))
            return false;
        at++;
    }
    return at < l->end && (r->text[at] == ' ' || r->text[at] == '\t');
}

static void take_line(lines *r, const line *l)
{
    if (!r->is_plain && take_fence(r, l))
        return;
    if (l->first == l->end) {
        close_block(r);
        return;
    }
    if (!r->is_plain && (take_atx(r, l) || take_setext(r, l)))
        return;
    if (begins_item(r, l)) {
        close_block(r);
        r->block_is_item = true;
    }
    if (r->block == r->block_end)
        r->block = l->first;
    r->block_end = l->end;
    r->block_lines++;
}

sl_status blocks_read(bool is_plain, reader_document *ret, sl_err *err)
{
    lines r = { .text = ret->text, .len = ret->len, .is_plain = is_plain, .out = ret };

    for (size_t at = 0; at < r.len && !r.failed;) {
        line l = read_line(&r, at);

        take_line(&r, &l);
        at = l.next;
    }
    if (r.fence)
        end_fence(&r);
    close_block(&r);
    return r.failed ? sl_fail(err, SL_ELIMIT, "the document has too many blocks") : SL_OK;
}
