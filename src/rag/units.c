/* units.c - blocks of a document to units: sections by headings, sentences in paragraphs. */
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "rag/chunk_int.h"

#define LEVELS     6
#define LEVEL_TEXT 120 /* bytes of one heading in the path */

typedef struct builder {
    const reader_document *d;
    unit_list *out;
    char headings[LEVELS][LEVEL_TEXT]; /* the open heading of each level, "" for none */
    const reader_block *heading;       /* the last one while it has no text yet, or NULL */
    unsigned heading_level;
    uint32_t header_block; /* that the last of headers was made of; 0: none */
    bool failed;
} builder;

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool has_header(const reader_block *block)
{
    return block->kind == READER_TABLE_ROW && block->header > 0;
}

static void push_unit(builder *b, const reader_block *block, size_t begin, size_t end,
                      bool is_block)
{
    unit_list *out = b->out;

    if (begin >= end || b->failed)
        return;
    if (!sl_grow((void **)&out->items, &out->cap, out->count + 1, sizeof *out->items,
                 SL_HTTP_BODY_BYTES_MAX)) {
        b->failed = true;
        return;
    }
    out->items[out->count++] =
        (unit){ .begin = begin,
                .end = end,
                .section = (uint32_t)out->section_count - 1,
                .page = block->page,
                .header = has_header(block) ? (uint32_t)out->header_count : 0,
                .is_block = is_block,
                .is_code = block->kind == READER_CODE };
}

/* ---- headings ------------------------------------------------------------------------------ */

/* Opens a section whose path is the headings open now, the innermost parts first to stay. */
static void push_section(builder *b)
{
    unit_list *out = b->out;
    char *path;
    size_t len = 0, first = LEVELS;

    if (!sl_grow((void **)&out->sections, &out->section_cap, out->section_count + 1,
                 sizeof *out->sections, CHUNK_SECTIONS_MAX)) {
        b->failed = true;
        return;
    }
    path = out->sections[out->section_count++];
    memset(path, 0, CHUNK_HEADING_BYTES);
    for (size_t sum = 0; first > 0; first--) {
        size_t n = strlen(b->headings[first - 1]);

        sum += n ? n + 3 : 0;
        if (sum > CHUNK_HEADING_BYTES)
            break;
    }
    for (size_t i = first; i < LEVELS; i++) {
        size_t n = strlen(b->headings[i]);

        if (n && len) {
            memcpy(path + len, " > ", 3);
            len += 3;
        }
        memcpy(path + len, b->headings[i], n);
        len += n;
    }
}

/* A heading nobody wrote a text under is a passage of its own, unless a deeper one follows. */
static void flush_heading(builder *b, unsigned next_level)
{
    const reader_block *h = b->heading;

    if (h && next_level <= b->heading_level)
        push_unit(b, h, h->begin, h->end, true);
    b->heading = NULL;
}

static bool is_underline(const char *text, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++)
        if (text[i] != text[begin] || (text[i] != '=' && text[i] != '-'))
            return false;
    return begin < end;
}

/* The words of a heading: Markdown's marks stand around them where the text is the file itself. */
static void strip_marks(const char *text, size_t *begin, size_t *end)
{
    size_t at = *begin, stop = *end, line;

    while (stop > at && is_space(text[stop - 1]))
        stop--;
    for (line = stop; line > at && text[line - 1] != '\n';)
        line--;
    if (line > at && is_underline(text, line, stop))
        stop = line - 1;
    for (line = at; line < stop && text[line] == '#';)
        line++;
    if (line > at && line - at <= LEVELS && (line == stop || is_space(text[line]))) {
        at = line;
        while (stop > at && text[stop - 1] == '#')
            stop--;
    }
    while (at < stop && is_space(text[at]))
        at++;
    while (stop > at && is_space(text[stop - 1]))
        stop--;
    *begin = at;
    *end = stop;
}

static void open_heading(builder *b, const reader_block *h)
{
    unsigned level = SL_MIN(SL_MAX(h->level, 1U), (unsigned)LEVELS);
    char *slot = b->headings[level - 1];
    size_t begin = h->begin, end = h->end, n;

    flush_heading(b, level);
    strip_marks(b->d->text, &begin, &end);
    n = SL_MIN(end - begin, (size_t)LEVEL_TEXT - 1);
    n = n < end - begin ? sl_utf8_complete(b->d->text + begin, n) : n;
    for (unsigned i = level - 1; i < LEVELS; i++)
        b->headings[i][0] = '\0';
    memcpy(slot, b->d->text + begin, n);
    slot[n] = '\0';
    for (size_t i = 0; i < n; i++)
        if (is_space(slot[i]))
            slot[i] = ' ';
    if (level == 1 && !b->out->title[0])
        memcpy(b->out->title, slot, n + 1);
    push_section(b);
    b->heading = h;
    b->heading_level = level;
}

/* ---- the other blocks ---------------------------------------------------------------------- */

static void push_sentences(builder *b, const reader_block *block)
{
    const char *text = b->d->text;

    for (size_t at = block->begin; at < block->end;) {
        size_t stop = chunk_sentence_end(text, block->end, at);

        push_unit(b, block, at, stop, at == block->begin);
        for (at = stop; at < block->end && is_space(text[at]);)
            at++;
    }
}

static bool is_blank(const char *text, size_t begin, size_t end)
{
    while (begin < end && is_space(text[begin]))
        begin++;
    return begin == end;
}

/* Makes the header row of a table the last of headers. */
static void open_table(builder *b, uint32_t header_block)
{
    unit_list *out = b->out;
    const reader_block *row = &b->d->blocks[header_block - 1];

    if (b->header_block == header_block)
        return;
    if (!sl_grow((void **)&out->headers, &out->header_cap, out->header_count + 1,
                 sizeof *out->headers, SL_HTTP_BODY_BYTES_MAX)) {
        b->failed = true;
        return;
    }
    out->headers[out->header_count++] = (unit_header){ .begin = row->begin, .end = row->end };
    b->header_block = header_block;
}

static void take_block(builder *b, const reader_block *block)
{
    if (block->kind == READER_HEADING) {
        open_heading(b, block);
        return;
    }
    if (is_blank(b->d->text, block->begin, block->end))
        return;
    b->heading = NULL; /* it has a body now */
    if (has_header(block))
        open_table(b, block->header);
    if (block->kind == READER_CODE || block->kind == READER_TABLE_ROW)
        push_unit(b, block, block->begin, block->end, true);
    else
        push_sentences(b, block);
}

sl_status units_read(const reader_document *d, unit_list *ret, sl_err *err)
{
    builder b = { .d = d, .out = ret };

    push_section(&b);
    memcpy(ret->title, d->title, SL_MIN(sizeof ret->title, sizeof d->title));
    ret->title[sizeof ret->title - 1] = '\0';
    for (size_t i = 0; i < d->count && !b.failed; i++)
        take_block(&b, &d->blocks[i]);
    flush_heading(&b, 0);
    return b.failed ? sl_fail(err, SL_ELIMIT, "the document has too many headings or sentences")
                    : SL_OK;
}

void unit_list_deinit(unit_list *list)
{
    sl_free(list->items);
    sl_free(list->headers);
    sl_free(list->sections);
    *list = (unit_list){ 0 };
}
