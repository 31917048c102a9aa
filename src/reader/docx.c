/* docx.c - the body of a DOCX: paragraphs with what their styles make of them, and tables.
 *
 * A paragraph's properties come before its text, but text boxes hold paragraphs inside paragraphs;
 * so paragraphs are collected on a small stack and written when they end. */
#include <stdio.h>

#include "reader/docx.h"

#define NESTING_MAX 6   /* text boxes in text boxes; deeper ones run into their surroundings */
#define NOTES_OPEN  256 /* referred to in one paragraph */

typedef struct paragraph {
    sl_buf text; /* '\n' is a line break */
    char style[64];
    long num, num_level; /* num -1: the style's */
    long outline;        /* 0 to 8, or 9: none, -1: the style's */
} paragraph;

typedef struct body {
    reader_out *out;
    docx_book *book;
    xml *x;
    paragraph stack[NESTING_MAX];
    int depth;       /* open paragraphs */
    int table_depth; /* open tables */
    reader_row row;
    size_t row_index; /* in the table */
    long span;
    bool is_header, in_text, is_deleted;
    int fallback; /* depth of the element that repeats its sibling for older programs; -1: none */
    const docx_note *notes[NOTES_OPEN];
    size_t note_count, note_number;
} body;

static paragraph *top(body *b)
{
    return b->depth > 0 ? &b->stack[SL_MIN(b->depth, NESTING_MAX) - 1] : NULL;
}

static void put(body *b, const char *text)
{
    paragraph *p = top(b);

    if (p)
        sl_buf_puts(&p->text, text);
}

/* ---- paragraphs ----------------------------------------------------------------------------- */

static void begin_paragraph(body *b)
{
    paragraph *p;

    if (++b->depth > NESTING_MAX) {
        put(b, " ");
        return;
    }
    p = top(b);
    sl_buf_clear(&p->text);
    p->style[0] = '\0';
    p->num = p->outline = -1;
    p->num_level = 0;
}

/* Text with its line breaks into the open block. */
static void put_lines(reader_out *out, const sl_buf *text)
{
    const char *at = sl_buf_str(text);

    for (;;) {
        size_t n = strcspn(at, "\n");

        reader_put(out, at, n);
        if (!at[n])
            break;
        reader_put_break(out);
        at += n + 1;
    }
}

/* The notes a paragraph refers to stand behind it. */
static void write_notes(body *b)
{
    for (size_t i = 0; i < b->note_count; i++) {
        char label[32];

        snprintf(label, sizeof label, "[%zu] ", ++b->note_number);
        reader_begin(b->out, READER_PARAGRAPH, 0, label);
        reader_put(b->out, sl_buf_str(&b->book->note_text) + b->notes[i]->begin,
                   b->notes[i]->end - b->notes[i]->begin);
        reader_end(b->out);
    }
    b->note_count = 0;
}

static bool is_blank(const sl_buf *text)
{
    const char *t = sl_buf_str(text);

    return t[strspn(t, " \t\n\r")] == '\0';
}

/* Writes a paragraph as what its style and its own properties make of it. */
static void write_paragraph(body *b, paragraph *p)
{
    const docx_style *style = docx_style_find(b->book, p->style);
    int level = docx_style_heading(b->book, style);
    char label[64] = "";
    bool is_item;

    if (is_blank(&p->text) || (style && style->is_contents))
        return;
    if (p->outline >= 0)
        level = p->outline < 9 ? (int)SL_MIN(p->outline + 1, 6) : 0;
    is_item = p->num >= 0 ? p->num > 0 : docx_style_list(b->book, style, &p->num, &p->num_level);
    if (is_item)
        docx_label(b->book, p->num, p->num_level, label, sizeof label);
    if (level)
        reader_begin(b->out, READER_HEADING, level, NULL);
    else if (is_item)
        reader_begin(b->out, READER_LIST_ITEM, (int)SL_MIN(SL_MAX(p->num_level, 0) + 1, 9),
                     label[0] == '-' ? "- " : NULL);
    else
        reader_begin(b->out, READER_PARAGRAPH, 0, NULL);
    if (label[0] && label[0] != '-') {
        reader_puts(b->out, label);
        reader_puts(b->out, " ");
    }
    put_lines(b->out, &p->text);
    reader_end(b->out);
    if (level)
        reader_title(b->out, sl_buf_str(&p->text), p->text.len);
    write_notes(b);
}

static void end_paragraph(body *b)
{
    paragraph *p = top(b);

    if (b->depth == 0)
        return;
    if (b->depth <= NESTING_MAX) {
        if (b->table_depth > 0) {
            reader_cell_put(&b->row, sl_buf_str(&p->text), p->text.len);
            reader_cell_put(&b->row, " ", 1);
        } else {
            write_paragraph(b, p);
        }
    }
    b->depth--;
}

/* ---- tables --------------------------------------------------------------------------------- */

static void open_table_part(body *b)
{
    xml *x = b->x;

    if (xml_opens(x, "tbl")) {
        if (b->table_depth++ == 0) {
            reader_table(b->out);
            b->row_index = 0;
        }
    } else if (b->table_depth == 1) {
        if (xml_opens(x, "tr")) {
            reader_row_clear(&b->row);
            b->is_header = b->row_index == 0;
        } else if (xml_opens(x, "tc")) {
            b->span = 1;
        } else if (xml_opens(x, "gridSpan")) {
            b->span = SL_MIN(SL_MAX(xml_attr_number(x, "val", 1), 1), 64);
        }
    }
}

static void close_table_part(body *b)
{
    xml *x = b->x;

    if (xml_closes(x, "tbl") && b->table_depth > 0) {
        if (--b->table_depth == 0) {
            reader_table(b->out);
            write_notes(b);
        }
    } else if (b->table_depth == 1 && xml_closes(x, "tc")) {
        reader_cell_end(&b->row, (size_t)b->span);
    } else if (b->table_depth == 1 && xml_closes(x, "tr")) {
        if (!reader_row_empty(&b->row))
            b->row_index++;
        reader_row_put(b->out, &b->row, b->is_header, false);
    }
}

/* ---- events --------------------------------------------------------------------------------- */

static void take_note(body *b, bool is_end)
{
    const docx_note *note = docx_note_find(b->book, xml_attr_number(b->x, "id", -1), is_end);

    if (note && b->note_count < NOTES_OPEN)
        b->notes[b->note_count++] = note;
}

static void open_properties(body *b)
{
    paragraph *p = top(b);
    xml *x = b->x;

    if (!p)
        return;
    if (xml_opens(x, "pStyle"))
        snprintf(p->style, sizeof p->style, "%s", xml_attr(x, "val"));
    else if (xml_opens(x, "numId"))
        p->num = xml_attr_number(x, "val", 0);
    else if (xml_opens(x, "ilvl"))
        p->num_level = xml_attr_number(x, "val", 0);
    else if (xml_opens(x, "outlineLvl"))
        p->outline = xml_attr_number(x, "val", 9);
}

static void open_element(body *b)
{
    xml *x = b->x;

    b->in_text = xml_opens(x, "t");
    if (b->in_text)
        return;
    if (xml_opens(x, "Fallback")) {
        b->fallback = x->depth;
    } else if (xml_opens(x, "p")) {
        begin_paragraph(b);
    } else if (xml_opens(x, "tab") || xml_opens(x, "ptab")) {
        put(b, " ");
    } else if (xml_opens(x, "br") || xml_opens(x, "cr")) {
        put(b, "\n");
    } else if (xml_opens(x, "noBreakHyphen")) {
        put(b, "-");
    } else if (xml_opens(x, "footnoteReference") || xml_opens(x, "endnoteReference")) {
        take_note(b, x->name[0] == 'e');
    } else {
        open_properties(b);
        open_table_part(b);
    }
}

static void take_event(body *b)
{
    xml *x = b->x;

    if (b->fallback >= 0) {
        if (xml_closes(x, "Fallback") && x->depth == b->fallback)
            b->fallback = -1;
        return;
    }
    if (x->event == XML_OPEN) {
        open_element(b);
    } else if (x->event == XML_TEXT) {
        if (b->in_text)
            put(b, x->text);
    } else {
        b->in_text = false;
        if (xml_closes(x, "p"))
            end_paragraph(b);
        else
            close_table_part(b);
    }
}

sl_status reader_docx(package *p, reader_out *out, sl_err *err)
{
    docx_book book;
    xml x;
    body b = { .out = out, .book = &book, .x = &x, .fallback = -1 };
    sl_status status = docx_book_read(p, &book, err);

    reader_row_init(&b.row);
    for (int i = 0; i < NESTING_MAX; i++)
        sl_buf_init(&b.stack[i].text, 16 * SL_MIB);
    if (status == SL_OK) {
        status = xml_open(&x, p, "word/document.xml", err);
        while (status == SL_OK && xml_next(&x) && !out->text.failed && !out->failed)
            take_event(&b);
        if (status == SL_OK)
            status = xml_check(&x, "word/document.xml", err);
        xml_close(&x);
    }
    for (int i = 0; i < NESTING_MAX; i++)
        sl_buf_deinit(&b.stack[i].text);
    reader_row_deinit(&b.row);
    docx_book_free(&book);
    return status;
}
