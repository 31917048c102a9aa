/* html.c - HTML by libxml2: blocks of what a reader of the page would read.
 *
 * The parser repairs what is broken and gives a tree; one walk over it writes blocks. Text opens a
 * block of the kind of its surroundings when none is open, and block elements close it, so broken
 * nesting cannot break the order. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "reader/html.h"

typedef struct walker {
    reader_out *out;
    bool all; /* nothing is noise */
    int list_depth;
    int heading; /* level of the heading we are in, or 0 */
    bool in_code;
    char mark[24];  /* of the item that begins: "- ", "3. " */
    bool is_marked; /* mark waits for the item's first text */
    bool is_in_item;
    bool joins_term; /* text that comes goes on with the open term of a list of definitions */
} walker;

static void walk(walker *w, xmlNode *n, int depth);

static void walk_children(walker *w, xmlNode *n, int depth)
{
    for (xmlNode *c = n->children; c; c = c->next)
        walk(w, c, depth + 1);
}

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n\f")] == '\0';
}

/* Text where no block is open begins one. */
static void put_text(walker *w, const char *text)
{
    if ((!w->out->is_open || w->joins_term) && is_blank(text))
        return;
    if (w->out->is_open && w->joins_term)
        reader_put_break(w->out);
    w->joins_term = false;
    if (!w->out->is_open) {
        if (w->in_code) {
            reader_begin(w->out, READER_CODE, 0, NULL);
        } else if (w->heading) {
            reader_begin(w->out, READER_HEADING, w->heading, NULL);
        } else if (w->is_in_item) {
            bool is_number = w->is_marked && w->mark[0] != '-';

            reader_begin(w->out, READER_LIST_ITEM, SL_MIN(SL_MAX(w->list_depth, 1), 255),
                         w->is_marked && !is_number ? w->mark : NULL);
            if (is_number)
                reader_puts(w->out, w->mark);
            w->is_marked = false;
        } else {
            reader_begin(w->out, READER_PARAGRAPH, 0, NULL);
        }
    }
    if (w->in_code)
        reader_put_code(w->out, text, strlen(text));
    else
        reader_put(w->out, text, strlen(text));
}

/* ---- lists ---------------------------------------------------------------------------------- */

static void walk_list(walker *w, xmlNode *list, int depth)
{
    long number = html_attr(list, "start")[0] ? strtol(html_attr(list, "start"), NULL, 10) : 1;
    walker saved = *w;

    reader_end(w->out);
    w->list_depth++;
    for (xmlNode *c = list->children; c; c = c->next) {
        if (!html_is(c, "li")) {
            walk(w, c, depth + 1);
            continue;
        }
        if (!w->all && html_is_noise(c))
            continue;
        reader_end(w->out);
        if (html_is(list, "ol"))
            snprintf(w->mark, sizeof w->mark, "%ld. ", number++);
        else
            snprintf(w->mark, sizeof w->mark, "- ");
        w->is_in_item = w->is_marked = true;
        walk_children(w, c, depth + 1);
        reader_end(w->out);
        w->is_in_item = w->is_marked = false;
    }
    w->list_depth = saved.list_depth;
    w->is_in_item = saved.is_in_item;
    w->is_marked = false;
}

/* A term and what is said of it are one block: alone, neither can be found nor understood. */
static void walk_definition(walker *w, xmlNode *n, int depth)
{
    bool is_term = html_is(n, "dt");

    /* libxml2 puts a term into the term before it when that is not closed */
    w->joins_term = w->joins_term || (w->out->is_open && html_is(n->parent, "dt"));
    if (!w->joins_term)
        reader_end(w->out);
    walk_children(w, n, depth);
    if (is_term && w->out->is_open)
        w->joins_term = true;
    else if (!w->joins_term)
        reader_end(w->out);
}

/* ---- tables --------------------------------------------------------------------------------- */

/* The next tr of this table, not of one inside it. */
static xmlNode *next_row(const xmlNode *table, xmlNode *row)
{
    xmlNode *n = row ? row->next : table->children;
    const xmlNode *part = row && row->parent != table ? row->parent : NULL;

    for (;;) {
        while (!n && part) {
            n = part->next;
            part = NULL;
        }
        if (!n)
            return NULL;
        if (html_is(n, "tr"))
            return n;
        if (!part && (html_is(n, "thead") || html_is(n, "tbody") || html_is(n, "tfoot"))) {
            part = n;
            n = n->children;
            continue;
        }
        n = n->next;
    }
}

/* The node behind n in the document's order, below root; with what is in n or past it. */
static xmlNode *next_node(const xmlNode *root, xmlNode *n, bool goes_in)
{
    if (goes_in && n->children && n->type == XML_ELEMENT_NODE)
        return n->children;
    while (n && n != root && !n->next)
        n = n->parent;
    return n && n != root ? n->next : NULL;
}

static bool is_cell(const xmlNode *n)
{
    return html_is(n, "td") || html_is(n, "th");
}

static bool holds(xmlNode *root, const char *const *names, size_t count)
{
    for (xmlNode *n = root->children; n; n = next_node(root, n, true)) {
        for (size_t i = 0; i < count; i++)
            if (html_is(n, names[i]))
                return true;
    }
    return false;
}

/* Tables that only place things: one column, or whole parts of a page in the cells. */
static bool is_layout(xmlNode *table)
{
    static const char *const parts[] = { "table", "h1",  "h2",  "h3",      "ul",
                                         "ol",    "pre", "div", "article", "section" };
    static const char *const inner[] = { "table" };
    bool has_columns = false, has_th = false;

    for (xmlNode *row = next_row(table, NULL); row; row = next_row(table, row)) {
        size_t cells = 0;

        for (xmlNode *c = row->children; c; c = c->next) {
            cells += is_cell(c);
            has_th = has_th || html_is(c, "th");
        }
        has_columns = has_columns || cells > 1;
    }
    if (strcasecmp(html_attr(table, "role"), "presentation") == 0 || !has_columns)
        return true;
    return has_th ? holds(table, inner, SL_COUNT_OF(inner))
                  : holds(table, parts, SL_COUNT_OF(parts));
}

static void cell_text(const walker *w, reader_row *row, xmlNode *cell)
{
    xmlNode *n = cell->children;

    while (n) {
        bool skip = html_is_silent(n) || (!w->all && html_is_noise(n));

        if (n->type == XML_TEXT_NODE)
            reader_cell_put(row, (const char *)n->content, strlen((const char *)n->content));
        else if (html_is(n, "br") || html_is(n, "p") || html_is(n, "div") || html_is(n, "li"))
            reader_cell_put(row, " ", 1);
        n = next_node(cell, n, !skip);
    }
}

static void walk_table(walker *w, xmlNode *table, int depth)
{
    reader_row row;
    bool is_first = true;

    for (xmlNode *c = table->children; c; c = c->next)
        if (html_is(c, "caption"))
            walk_children(w, c, depth + 1);
    reader_table(w->out);
    reader_row_init(&row);
    for (xmlNode *tr = next_row(table, NULL); tr; tr = next_row(table, tr)) {
        bool is_header = is_first;

        for (xmlNode *c = tr->children; c; c = c->next) {
            long span;

            if (!is_cell(c))
                continue;
            is_header = is_header && html_is(c, "th");
            span = strtol(html_attr(c, "colspan"), NULL, 10);
            cell_text(w, &row, c);
            reader_cell_end(&row, (size_t)SL_MIN(SL_MAX(span, 1), 100));
        }
        is_header = is_header || (is_first && html_is(tr->parent, "thead"));
        if (row.count > 0) {
            is_first = false;
            reader_row_put(w->out, &row, is_header, true);
        }
    }
    reader_row_deinit(&row);
}

/* ---- the tree ------------------------------------------------------------------------------- */

static bool is_block(const xmlNode *n)
{
    static const char *const names[] = {
        "p",       "div",     "section",    "article", "main",       "header", "footer",
        "aside",   "address", "blockquote", "figure",  "figcaption", "dl",     "dt",
        "dd",      "form",    "table",      "tr",      "td",         "th",     "thead",
        "tbody",   "tfoot",   "caption",    "hr",      "fieldset",   "legend", "details",
        "summary", "center",  "body",       "html",    "nav",        "li",     "label",
    };

    for (size_t i = 0; i < SL_COUNT_OF(names); i++)
        if (html_is(n, names[i]))
            return true;
    return false;
}

static int heading_level(const xmlNode *n)
{
    const char *name = (const char *)n->name;

    return (name[0] == 'h' || name[0] == 'H') && name[1] >= '1' && name[1] <= '6' && !name[2]
               ? name[1] - '0'
               : 0;
}

static void walk_element(walker *w, xmlNode *n, int depth)
{
    int level = heading_level(n);
    walker saved = *w;

    if (html_is(n, "br")) {
        reader_put_break(w->out);
    } else if (html_is(n, "ul") || html_is(n, "ol") || html_is(n, "menu")) {
        walk_list(w, n, depth);
    } else if (html_is(n, "table") && !is_layout(n)) {
        walk_table(w, n, depth);
    } else if (level || html_is(n, "pre")) {
        reader_end(w->out);
        w->heading = level ? level : w->heading;
        w->in_code = w->in_code || !level;
        walk_children(w, n, depth);
        reader_end(w->out);
        w->heading = saved.heading;
        w->in_code = saved.in_code;
    } else if (html_is(n, "dt") || html_is(n, "dd")) {
        walk_definition(w, n, depth);
    } else if (is_block(n)) {
        if (!(w->is_in_item && w->is_marked) && !w->joins_term)
            reader_end(w->out);
        walk_children(w, n, depth);
        if (!w->joins_term || html_is(n, "dl")) {
            reader_end(w->out);
            w->joins_term = false;
        }
    } else {
        walk_children(w, n, depth);
    }
}

static void walk(walker *w, xmlNode *n, int depth)
{
    if (n->type == XML_TEXT_NODE || n->type == XML_CDATA_SECTION_NODE) {
        if (n->content)
            put_text(w, (const char *)n->content);
        return;
    }
    if (html_is_silent(n) || (!w->all && html_is_noise(n)))
        return;
    if (depth > HTML_DEPTH_MAX) {
        xmlChar *text = xmlNodeGetContent(n);

        if (text)
            put_text(w, (const char *)text);
        xmlFree(text);
        return;
    }
    walk_element(w, n, depth);
}

/* ---- the page ------------------------------------------------------------------------------- */

static xmlNode *find(xmlNode *root, const char *name)
{
    for (xmlNode *n = root; n; n = next_node(root, n, true))
        if (html_is(n, name))
            return n;
    return NULL;
}

static size_t count_nodes(xmlNode *root)
{
    size_t count = 0;

    for (xmlNode *n = root; n; n = next_node(root, n, true))
        count++;
    return count;
}

static void take_title(xmlNode *root, reader_out *out)
{
    xmlNode *title = find(root, "title");
    xmlChar *text;

    if (!title || !title->children)
        title = find(root, "h1");
    text = title ? xmlNodeGetContent(title) : NULL;
    if (text)
        reader_title(out, (const char *)text, strlen((const char *)text));
    xmlFree(text);
}

/* "charset=" of a meta element, or the encoding of an XML declaration, copied to ret. */
static void declared_charset(sl_span b, char ret[64])
{
    static const char *const signs[] = { "charset=", "encoding=" };
    size_t head = SL_MIN(b.len, (size_t)4096), n = 0;

    ret[0] = '\0';
    for (size_t i = 0; i < SL_COUNT_OF(signs); i++) {
        const char *p = memmem(b.ptr, head, signs[i], strlen(signs[i]));
        const char *end = (const char *)b.ptr + head;

        if (!p)
            continue;
        for (p += strlen(signs[i]); p < end && (*p == '"' || *p == '\'' || *p == ' '); p++)
            ;
        while (p < end && n < 63 &&
               (*p == '-' || *p == '_' || (*p >= '0' && *p <= '9') || (*p >= 'A' && *p <= 'Z') ||
                (*p >= 'a' && *p <= 'z')))
            ret[n++] = *p++;
        ret[n] = '\0';
        return;
    }
}

static void write_page(xmlNode *root, bool is_page, reader_out *out)
{
    walker w = { .out = out };
    xmlNode *body = find(root, "body");
    size_t before = out->count, left = 0;
    void *marks;

    body = body ? body : root;
    marks = is_page ? html_mark_noise(body, count_nodes(body), &left) : NULL;
    w.all = left == 0;
    walk(&w, body, 0);
    reader_end(out);
    if (out->count == before &&
        !w.all) { /* all of it looked like noise: better that than nothing */
        w = (walker){ .out = out, .all = true };
        walk(&w, body, 0);
        reader_end(out);
    }
    sl_free(marks);
}

/* libxml2 stops at a depth of its own, and gives what it has: that must not pass for the page. */
static bool is_too_deep(void)
{
    const xmlError *e = xmlGetLastError();

    return e && e->level == XML_ERR_FATAL && e->message && strstr(e->message, "depth");
}

sl_status reader_html(sl_span bytes, const char *charset, bool is_page, reader_out *out,
                      sl_err *err)
{
    char declared[64];
    sl_buf text;
    htmlDocPtr doc;
    sl_status status;

    sl_buf_init(&text, READER_PART_BYTES);
    declared_charset(bytes, declared);
    status = reader_decode(bytes, charset && charset[0] ? charset : declared, &text, err);
    if (status != SL_OK) {
        sl_buf_deinit(&text);
        return status;
    }
    xmlResetLastError();
    doc = htmlReadMemory(sl_buf_str(&text), (int)SL_MIN(text.len, (size_t)INT32_MAX), NULL, "UTF-8",
                         HTML_PARSE_RECOVER | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING |
                             HTML_PARSE_NONET);
    sl_buf_deinit(&text);
    if (is_too_deep()) {
        xmlFreeDoc(doc);
        return sl_fail(err, SL_ELIMIT, "the elements of the page are nested too deep");
    }
    if (!doc || !xmlDocGetRootElement(doc)) {
        xmlFreeDoc(doc);
        return sl_fail(err, SL_EINVAL, "the page is empty");
    }
    take_title(xmlDocGetRootElement(doc), out);
    write_page(xmlDocGetRootElement(doc), is_page, out);
    xmlFreeDoc(doc);
    return SL_OK;
}
