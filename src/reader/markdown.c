/* markdown.c - Markdown by cmark: the text is the file, blocks are where cmark found them.
 *
 * cmark gives lines and columns; what lies in between stays as it was written, marks and all, so
 * that a citation is the document's own words. Tables are GitHub's, which cmark does not know: a
 * paragraph whose second line is dashes between bars. */
#include <cmark.h>

#include "reader/reader_int.h"

typedef struct markdown {
    reader_out *out;
    size_t *lines; /* [line_count + 1]: where each line begins, from `front` on; the end */
    size_t line_count, line_cap;
    size_t front; /* bytes of front matter, which cmark does not see */
} markdown;

static bool index_lines(markdown *m)
{
    const char *text = sl_buf_str(&m->out->text);

    for (size_t at = m->front;;) {
        if (!sl_grow((void **)&m->lines, &m->line_cap, m->line_count + 2, sizeof *m->lines,
                     SIZE_MAX / sizeof *m->lines))
            return false;
        m->lines[m->line_count++] = at;
        at += strcspn(text + at, "\r\n");
        if (at == m->out->text.len)
            break;
        at += text[at] == '\r' && text[at + 1] == '\n' ? 2 : 1;
    }
    m->lines[m->line_count] = m->out->text.len;
    return true;
}

/* Where line (from 1) begins; the end of the text for lines past it. */
static size_t line_at(const markdown *m, int line)
{
    return m->lines[SL_MIN((size_t)SL_MAX(line - 1, 0), m->line_count)];
}

/* The bytes of a node, whole lines less what stands in front of its first column. */
static void node_span(const markdown *m, cmark_node *node, size_t *ret_begin, size_t *ret_end)
{
    int first = cmark_node_get_start_line(node), last = cmark_node_get_end_line(node);
    size_t begin = line_at(m, first) + (size_t)SL_MAX(cmark_node_get_start_column(node) - 1, 0);

    *ret_end = line_at(m, SL_MAX(last, first) + 1);
    *ret_begin = SL_MIN(begin, *ret_end);
    while (*ret_begin < *ret_end &&
           (m->out->text.ptr[*ret_begin] & 0xc0) == 0x80) /* a column inside a character */
        (*ret_begin)++;
}

/* YAML between lines of "---" at the very start: for machines, not for readers. */
static size_t front_matter(const char *text, size_t len)
{
    const char *end;

    if (len < 8 || (strncmp(text, "---\n", 4) != 0 && strncmp(text, "---\r\n", 5) != 0))
        return 0;
    end = strstr(text + 3, "\n---");
    while (end && end[4] != '\n' && end[4] != '\r' && end[4] != '\0')
        end = strstr(end + 4, "\n---");
    if (!end)
        return 0;
    end += 4;
    end += strspn(end, "\r");
    return (size_t)(end - text) + (*end == '\n');
}

/* "title: Words" of the front matter. */
static void front_title(reader_out *out, size_t front)
{
    const char *text = sl_buf_str(&out->text);
    const char *p = memmem(text, front, "\ntitle:", 7);
    size_t len;

    if (!p)
        return;
    p += 7 + strspn(p + 7, " \t");
    len = strcspn(p, "\r\n");
    if (len >= 2 && (p[0] == '"' || p[0] == '\'') && p[len - 1] == p[0]) {
        p++;
        len -= 2;
    }
    reader_title(out, p, len);
}

/* ---- headings ------------------------------------------------------------------------------- */

/* The words of a heading, without the marks around them, to be the title. */
static void title_from(markdown *m, cmark_node *heading)
{
    cmark_iter *it = cmark_iter_new(heading);
    cmark_event_type event;
    sl_buf words;

    sl_buf_init(&words, 4096);
    while ((event = cmark_iter_next(it)) != CMARK_EVENT_DONE) {
        cmark_node *n = cmark_iter_get_node(it);
        const char *text = cmark_node_get_literal(n);

        if (event != CMARK_EVENT_ENTER)
            continue;
        if (text && cmark_node_get_type(n) != CMARK_NODE_HTML_INLINE)
            sl_buf_puts(&words, text);
        else if (cmark_node_get_type(n) == CMARK_NODE_SOFTBREAK)
            sl_buf_putc(&words, ' ');
    }
    cmark_iter_free(it);
    reader_title(m->out, sl_buf_str(&words), words.len);
    sl_buf_deinit(&words);
}

/* Where the words of a heading end that has a line of = or - under it. cmark may say that it goes
 * on behind that line. */
static size_t setext_end(const markdown *m, cmark_node *node, size_t begin, size_t end)
{
    const char *text = sl_buf_str(&m->out->text);

    for (int line = cmark_node_get_start_line(node) + 1; line_at(m, line) < end; line++) {
        size_t at = line_at(m, line), n;

        if (at < begin)
            continue;
        n = strspn(text + at, " \t>");
        n += strspn(text + at + n, text[at + n] == '=' ? "=" : "-");
        n += strspn(text + at + n, " \t\r\n");
        if (at + n >= line_at(m, line + 1))
            return at;
    }
    return end;
}

/* A heading's block is its words: without #, and without the line under them. */
static void put_heading(markdown *m, cmark_node *node)
{
    const char *text = sl_buf_str(&m->out->text);
    int level = cmark_node_get_heading_level(node);
    size_t begin, end, hashes;

    node_span(m, node, &begin, &end);
    if (level == 1)
        title_from(m, node);
    hashes = strspn(text + begin, "#");
    if (hashes > 0 && hashes <= 6 && strchr(" \t\r\n", text[begin + hashes])) {
        begin += hashes;
        while (end > begin && strchr(" \t\r\n", text[end - 1]))
            end--;
        hashes = end;
        while (hashes > begin && text[hashes - 1] == '#')
            hashes--;
        if (hashes == begin || text[hashes - 1] == ' ' || text[hashes - 1] == '\t')
            end = hashes;
    } else {
        end = setext_end(m, node, begin, end);
    }
    reader_span_put(m->out, READER_HEADING, level, begin, end);
}

/* ---- tables --------------------------------------------------------------------------------- */

/* True when the line is "| --- | :-: |": dashes, colons and at least one bar. */
static bool is_delimiter_row(const char *p, size_t len)
{
    bool bar = false, dash = false;

    for (size_t i = 0; i < len; i++) {
        bar = bar || p[i] == '|';
        dash = dash || p[i] == '-';
        if (!strchr("|-: \t\r\n", p[i]))
            return false;
    }
    return bar && dash;
}

/* Rows of a paragraph that is a table; false when it is none. Lines of text may stand before it. */
static bool put_table(markdown *m, cmark_node *node, reader_kind kind, int level)
{
    const char *text = sl_buf_str(&m->out->text);
    int first = cmark_node_get_start_line(node), last = cmark_node_get_end_line(node), at;
    size_t begin, end, before;

    for (at = first + 1; at <= last; at++)
        if (is_delimiter_row(text + line_at(m, at), line_at(m, at + 1) - line_at(m, at)) &&
            memchr(text + line_at(m, at - 1), '|', line_at(m, at) - line_at(m, at - 1)))
            break;
    if (at > last)
        return false;
    node_span(m, node, &begin, &end);
    if (at - 1 > first) {
        reader_span_put(m->out, kind, level, begin, line_at(m, at - 1));
        begin = line_at(m, at - 1);
    }
    reader_table(m->out);
    before = m->out->count;
    reader_span_put(m->out, READER_TABLE_ROW, 0, begin, line_at(m, at));
    m->out->header = m->out->count > before ? (uint32_t)m->out->count : 0;
    for (int line = at + 1; line <= last; line++)
        reader_span_put(m->out, READER_TABLE_ROW, 0, line_at(m, line), line_at(m, line + 1));
    return true;
}

/* ---- the tree ------------------------------------------------------------------------------- */

/* The item a paragraph is the first part of begins with its mark; the kind of others is theirs. */
static void put_paragraph(markdown *m, cmark_node *node)
{
    int level = 0;
    size_t begin, end;
    cmark_node *parent = cmark_node_parent(node);
    reader_kind kind = READER_PARAGRAPH;

    for (cmark_node *n = parent; n; n = cmark_node_parent(n))
        level += cmark_node_get_type(n) == CMARK_NODE_ITEM;
    if (level > 0)
        kind = READER_LIST_ITEM;
    level = SL_MIN(level, 255);
    if (put_table(m, node, kind, level))
        return;
    node_span(m, node, &begin, &end);
    if (parent && cmark_node_get_type(parent) == CMARK_NODE_ITEM && !cmark_node_previous(node) &&
        cmark_node_get_start_line(parent) == cmark_node_get_start_line(node)) {
        size_t item = begin, unused;

        node_span(m, parent, &item, &unused);
        begin = SL_MIN(begin, item);
    }
    reader_span_put(m->out, kind, level, begin, end);
}

/* Comments and tags alone say nothing; HTML with words in it is a paragraph. */
static void put_html(markdown *m, cmark_node *node)
{
    const char *html = cmark_node_get_literal(node);
    bool in_tag = false, has_words = false;
    size_t begin, end;

    if (!html || strncmp(html + strspn(html, " "), "<!--", 4) == 0)
        return;
    for (const char *p = html; *p && !has_words; p++) {
        in_tag = *p == '<' || (in_tag && *p != '>');
        has_words = !in_tag && *p != '>' && !strchr(" \t\r\n", *p);
    }
    node_span(m, node, &begin, &end);
    if (has_words)
        reader_span_put(m->out, READER_PARAGRAPH, 0, begin, end);
}

static void put_code(markdown *m, cmark_node *node)
{
    size_t begin, end;

    node_span(m, node, &begin, &end);
    reader_span_put(m->out, READER_CODE, 0, begin, end);
}

static void walk(markdown *m, cmark_node *root)
{
    cmark_iter *it = cmark_iter_new(root);

    while (cmark_iter_next(it) != CMARK_EVENT_DONE) {
        cmark_node *n = cmark_iter_get_node(it);

        switch (cmark_node_get_type(n)) {
        case CMARK_NODE_HEADING:
            if (cmark_iter_get_event_type(it) == CMARK_EVENT_ENTER)
                put_heading(m, n);
            break;
        case CMARK_NODE_PARAGRAPH:
            if (cmark_iter_get_event_type(it) == CMARK_EVENT_ENTER)
                put_paragraph(m, n);
            break;
        case CMARK_NODE_CODE_BLOCK:
            put_code(m, n);
            break;
        case CMARK_NODE_HTML_BLOCK:
            put_html(m, n);
            break;
        default:
            break;
        }
    }
    cmark_iter_free(it);
}

sl_status reader_markdown(sl_span bytes, reader_out *out, sl_err *err)
{
    markdown m = { .out = out };
    cmark_node *root;
    bool ok;

    SL_TRY(reader_decode(bytes, NULL, &out->text, err));
    m.front = front_matter(sl_buf_str(&out->text), out->text.len);
    front_title(out, m.front);
    ok = index_lines(&m);
    if (ok) {
        root = cmark_parse_document(sl_buf_str(&out->text) + m.front, out->text.len - m.front,
                                    CMARK_OPT_DEFAULT);
        walk(&m, root);
        cmark_node_free(root);
    }
    sl_free(m.lines);
    return ok ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");
}
