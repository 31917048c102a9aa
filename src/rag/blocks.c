/* blocks.c - the structure of a document, line by line: headings, paragraphs, list items, fences.
 *
 * One pass over the lines with one open block. Only what decides where a passage may be cut is
 * understood of Markdown; everything else is text of a paragraph. */
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "rag/chunk_int.h"

#define LEVELS     6
#define LEVEL_TEXT 120 /* bytes of one heading in the path */

typedef struct line {
    size_t begin, end, next; /* text without the line end, where the next line begins */
    size_t indent;           /* spaces in front; a tab counts to the next multiple of 4 */
    size_t first;            /* the first byte that is no space */
} line;

typedef struct reader {
    const char *text;
    size_t len;
    bool is_plain;
    unit_list *out;
    char headings[LEVELS][LEVEL_TEXT]; /* the open heading of each level, "" for none */
    size_t block, block_end;           /* the open block; block == block_end for none */
    size_t block_lines;
    char fence; /* '`' or '~' inside a fence, else 0 */
    size_t fence_len;
    size_t heading, heading_end; /* a heading that has no text yet; equal for none */
    int heading_level;
    bool failed;
} reader;

static line read_line(const reader *r, size_t at)
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

static void push_unit(reader *r, size_t begin, size_t end, bool is_block, bool is_fence)
{
    unit_list *out = r->out;

    if (begin >= end)
        return;
    if (!sl_grow((void **)&out->items, &out->cap, out->count + 1, sizeof *out->items,
                 SL_HTTP_BODY_BYTES_MAX)) {
        r->failed = true;
        return;
    }
    out->items[out->count++] = (unit){ .begin = begin,
                                       .end = end,
                                       .section = (uint32_t)out->section_count - 1,
                                       .is_block = is_block,
                                       .is_fence = is_fence };
}

/* Ends the open paragraph: its sentences become units. */
static void close_block(reader *r)
{
    size_t at = r->block, end = r->block_end;
    bool is_first = true;

    if (at == end)
        return;
    while (at < end) {
        size_t stop = chunk_sentence_end(r->text, end, at);
        size_t next = stop;

        while (next < end && strchr(" \t\r\n", r->text[next]))
            next++;
        push_unit(r, at, stop, is_first, false);
        is_first = false;
        at = next;
    }
    r->block = r->block_end = 0;
    r->block_lines = 0;
    r->heading = r->heading_end = 0; /* it has a body now */
}

/* ---- headings ------------------------------------------------------------------------------ */

/* Opens a section whose path is the headings open now, the innermost parts first to stay. */
static void push_section(reader *r)
{
    unit_list *out = r->out;
    char *path;
    size_t len = 0, first = LEVELS;

    if (!sl_grow((void **)&out->sections, &out->section_cap, out->section_count + 1,
                 sizeof *out->sections, CHUNK_SECTIONS_MAX)) {
        r->failed = true;
        return;
    }
    path = out->sections[out->section_count++];
    memset(path, 0, CHUNK_HEADING_BYTES);
    for (size_t sum = 0; first > 0; first--) {
        size_t n = strlen(r->headings[first - 1]);

        sum += n ? n + 3 : 0;
        if (sum > CHUNK_HEADING_BYTES)
            break;
    }
    for (size_t i = first; i < LEVELS; i++) {
        size_t n = strlen(r->headings[i]);

        if (n && len) {
            memcpy(path + len, " > ", 3);
            len += 3;
        }
        memcpy(path + len, r->headings[i], n);
        len += n;
    }
}

/* A heading nobody wrote a text under is a passage of its own, unless a deeper one follows. */
static void flush_heading(reader *r, int next_level)
{
    if (r->heading < r->heading_end && next_level <= r->heading_level)
        push_unit(r, r->heading, r->heading_end, true, false);
    r->heading = r->heading_end = 0;
}

static void open_heading(reader *r, int level, size_t begin, size_t end, size_t text, size_t stop)
{
    char *slot = r->headings[level - 1];
    size_t n = SL_MIN(stop - text, LEVEL_TEXT - 1);

    flush_heading(r, level);
    n = n < stop - text ? sl_utf8_complete(r->text + text, n) : n;
    for (int i = level - 1; i < LEVELS; i++)
        r->headings[i][0] = '\0';
    memcpy(slot, r->text + text, n);
    slot[n] = '\0';
    for (size_t i = 0; i < n; i++)
        if (strchr("\t\r\n", slot[i]))
            slot[i] = ' ';
    if (level == 1 && !r->out->title[0])
        memcpy(r->out->title, slot, n + 1);
    push_section(r);
    r->heading = begin;
    r->heading_end = end;
    r->heading_level = level;
}

/* "## Title ##": true when the line was one. */
static bool take_atx(reader *r, const line *l)
{
    size_t at = l->first, stop = l->end;
    int level = 0;

    while (at < l->end && r->text[at] == '#' && level <= LEVELS) {
        at++;
        level++;
    }
    if (l->indent > 3 || level == 0 || level > LEVELS)
        return false;
    if (at < l->end && r->text[at] != ' ' && r->text[at] != '\t')
        return false;
    while (at < stop && (r->text[at] == ' ' || r->text[at] == '\t'))
        at++;
    while (stop > at && r->text[stop - 1] == '#')
        stop--;
    while (stop > at && (r->text[stop - 1] == ' ' || r->text[stop - 1] == '\t'))
        stop--;
    close_block(r);
    open_heading(r, level, l->first, l->end, at, stop);
    return true;
}

/* A line of = or - under one line of text makes that line a heading. */
static bool take_setext(reader *r, const line *l)
{
    char c = l->first < l->end ? r->text[l->first] : '\0';
    size_t at = l->first, begin = r->block, end = r->block_end;

    if ((c != '=' && c != '-') || l->indent > 3 || r->block_lines != 1)
        return false;
    while (at < l->end && r->text[at] == c)
        at++;
    if (at < l->end)
        return false;
    r->block = r->block_end = 0;
    r->block_lines = 0;
    open_heading(r, c == '=' ? 1 : 2, begin, l->end, begin, end);
    return true;
}

/* ---- fences and items ---------------------------------------------------------------------- */

static size_t fence_run(const reader *r, const line *l, char *ret_c)
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

static void end_fence(reader *r)
{
    push_unit(r, r->block, r->block_end, true, true);
    r->block = r->block_end = 0;
    r->fence = 0;
    r->heading = r->heading_end = 0;
}

/* True when the line opens, fills or closes a fence. */
static bool take_fence(reader *r, const line *l)
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

static bool begins_item(const reader *r, const line *l)
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

static void take_line(reader *r, const line *l)
{
    if (!r->is_plain && take_fence(r, l))
        return;
    if (l->first == l->end) {
        close_block(r);
        return;
    }
    if (!r->is_plain && (take_atx(r, l) || take_setext(r, l)))
        return;
    if (begins_item(r, l))
        close_block(r);
    if (r->block == r->block_end)
        r->block = l->first;
    r->block_end = l->end;
    r->block_lines++;
}

sl_status units_read(const char *text, size_t len, bool is_plain, unit_list *ret, sl_err *err)
{
    reader r = { .text = text, .len = len, .is_plain = is_plain, .out = ret };

    push_section(&r);
    for (size_t at = 0; at < len && !r.failed;) {
        line l = read_line(&r, at);

        take_line(&r, &l);
        at = l.next;
    }
    if (r.fence)
        end_fence(&r);
    close_block(&r);
    flush_heading(&r, 0);
    return r.failed ? sl_fail(err, SL_ELIMIT, "the document has too many headings or sentences")
                    : SL_OK;
}

void unit_list_deinit(unit_list *list)
{
    sl_free(list->items);
    sl_free(list->sections);
    *list = (unit_list){ 0 };
}
