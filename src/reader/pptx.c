/* pptx.c - PPTX: each slide a page: its title a heading, its points list items, then its notes.
 *
 * Shapes come in the order of the file, which is the order they are read aloud in. Dates, footers
 * and numbers of slides are left out, and so are hidden slides. */
#include <stdio.h>

#include "reader/package.h"

#define SLIDES_MAX 10000

typedef enum place { PLACE_BOX, PLACE_TITLE, PLACE_BODY, PLACE_SUBTITLE, PLACE_NOTHING } place;

typedef struct slide {
    reader_out *out;
    xml *x;
    reader_row row;
    place place;
    bool is_notes, is_hidden, in_text, in_table, no_bullet;
    bool is_first_row, is_first_note;
    long level, span;
    int fallback; /* depth of the element that repeats its sibling; -1: none */
    bool has_paragraph;
} slide;

static place place_of(const char *type, bool is_notes)
{
    static const struct {
        const char *type;
        place place;
    } places[] = {
        { "title", PLACE_TITLE },    { "ctrTitle", PLACE_TITLE }, { "subTitle", PLACE_SUBTITLE },
        { "body", PLACE_BODY },      { "obj", PLACE_BODY },       { "", PLACE_BODY },
        { "dt", PLACE_NOTHING },     { "ftr", PLACE_NOTHING },    { "hdr", PLACE_NOTHING },
        { "sldNum", PLACE_NOTHING }, { "sldImg", PLACE_NOTHING },
    };

    for (size_t i = 0; i < SL_COUNT_OF(places); i++)
        if (strcmp(type, places[i].type) == 0)
            return is_notes && places[i].place != PLACE_BODY ? PLACE_NOTHING : places[i].place;
    return PLACE_BOX;
}

/* Opens the block of a paragraph when its first text comes. */
static void begin_block(slide *s)
{
    if (s->is_notes) {
        reader_begin(s->out, READER_PARAGRAPH, 0, s->is_first_note ? "Notes: " : NULL);
        s->is_first_note = false;
    } else if (s->place == PLACE_TITLE) {
        reader_begin(s->out, READER_HEADING, 1, NULL);
    } else if (s->place == PLACE_BODY && !s->no_bullet) {
        reader_begin(s->out, READER_LIST_ITEM, (int)SL_MIN(SL_MAX(s->level, 0), 8) + 1, "- ");
    } else {
        reader_begin(s->out, READER_PARAGRAPH, 0, NULL);
    }
}

static void put(slide *s, const char *text)
{
    if (s->place == PLACE_NOTHING)
        return;
    if (s->in_table) {
        reader_cell_put(&s->row, text, strlen(text));
        return;
    }
    if (!s->out->is_open) {
        if (text[strspn(text, " \t\r\n")] == '\0')
            return;
        begin_block(s);
    }
    reader_put(s->out, text, strlen(text));
}

/* In a title lines are one; elsewhere the break stays. */
static void put_break(slide *s)
{
    if (s->place == PLACE_TITLE || s->in_table)
        put(s, " ");
    else if (s->place != PLACE_NOTHING)
        reader_put_break(s->out);
}

static void open_element(slide *s)
{
    xml *x = s->x;

    s->in_text = xml_opens(x, "t");
    if (xml_opens(x, "Fallback")) {
        s->fallback = x->depth;
    } else if (xml_opens(x, "sld")) {
        s->is_hidden = strcmp(xml_attr(x, "show"), "0") == 0;
    } else if (xml_opens(x, "sp") || xml_opens(x, "graphicFrame")) {
        s->place = s->is_notes ? PLACE_NOTHING : PLACE_BOX;
    } else if (xml_opens(x, "ph")) {
        s->place = place_of(xml_attr(x, "type"), s->is_notes);
    } else if (xml_opens(x, "p")) {
        reader_end(s->out);
        s->level = 0;
        s->no_bullet = false;
    } else if (xml_opens(x, "pPr")) {
        s->level = xml_attr_number(x, "lvl", 0);
    } else if (xml_opens(x, "buNone")) {
        s->no_bullet = true;
    } else if (xml_opens(x, "br")) {
        put_break(s);
    } else if (xml_opens(x, "tbl")) {
        reader_table(s->out);
        s->in_table = s->is_first_row = true;
    } else if (xml_opens(x, "tr")) {
        reader_row_clear(&s->row);
    } else if (xml_opens(x, "tc")) {
        s->span = SL_MIN(SL_MAX(xml_attr_number(x, "gridSpan", 1), 1), 64);
    }
}

static void close_element(slide *s)
{
    xml *x = s->x;

    s->in_text = false;
    if (xml_closes(x, "p")) {
        if (s->in_table)
            reader_cell_put(&s->row, " ", 1);
        else
            reader_end(s->out);
    } else if (xml_closes(x, "tc") && s->in_table) {
        /* cells that another one covers are in the file, empty */
        reader_cell_end(&s->row, 1);
    } else if (xml_closes(x, "tr") && s->in_table) {
        reader_row_put(s->out, &s->row, s->is_first_row, false);
        s->is_first_row = false;
    } else if (xml_closes(x, "tbl")) {
        s->in_table = false;
        reader_table(s->out);
    }
}

static void take_event(slide *s)
{
    xml *x = s->x;

    if (s->fallback >= 0) {
        if (xml_closes(x, "Fallback") && x->depth == s->fallback)
            s->fallback = -1;
    } else if (x->event == XML_OPEN) {
        open_element(s);
    } else if (x->event == XML_CLOSE) {
        close_element(s);
    } else if (s->in_text) {
        put(s, x->text);
    }
}

static sl_status read_slide(package *p, const char *part, bool is_notes, reader_out *out,
                            bool *ret_hidden, sl_err *err)
{
    xml x;
    slide s = { .out = out, .x = &x, .is_notes = is_notes, .is_first_note = true, .fallback = -1 };
    sl_status status = xml_open(&x, p, part, err);

    s.place = is_notes ? PLACE_NOTHING : PLACE_BOX;
    reader_row_init(&s.row);
    while (status == SL_OK && !s.is_hidden && xml_next(&x) && !out->text.failed && !out->failed)
        take_event(&s);
    if (status == SL_OK)
        status = xml_check(&x, part, err);
    reader_end(out);
    reader_row_deinit(&s.row);
    xml_close(&x);
    *ret_hidden = s.is_hidden;
    return status;
}

/* A slide and, behind it, its notes. */
static sl_status read_page(package *p, const char *part, reader_out *out, sl_err *err)
{
    relation_list rels;
    const relation *notes;
    bool is_hidden, unused;
    sl_status status;

    SL_TRY(read_slide(p, part, false, out, &is_hidden, err));
    SL_TRY(relations_read(p, part, &rels, err));
    notes = relations_find(&rels, NULL, "notesSlide");
    status = !is_hidden && notes && package_has(p, notes->target)
                 ? read_slide(p, notes->target, true, out, &unused, err)
                 : SL_OK;
    relations_free(&rels);
    return status;
}

/* The title of the first slide is the document's, when it has no other. */
static void title_from(reader_out *out, size_t block)
{
    if (block < out->count && out->blocks[block].kind == READER_HEADING)
        reader_title(out, out->text.ptr + out->blocks[block].begin,
                     out->blocks[block].end - out->blocks[block].begin);
}

sl_status reader_pptx(package *p, reader_out *out, sl_err *err)
{
    relation_list rels;
    size_t page = 0, first = out->count;
    xml x;
    sl_status status;

    SL_TRY(relations_read(p, "ppt/presentation.xml", &rels, err));
    status = xml_open(&x, p, "ppt/presentation.xml", err);
    while (status == SL_OK && xml_next(&x) && !out->text.failed && !out->failed) {
        const relation *r;

        if (!xml_opens(&x, "sldId"))
            continue;
        if (page >= SLIDES_MAX) {
            status = sl_fail(err, SL_ELIMIT, "it has more than the %d slides allowed", SLIDES_MAX);
            break;
        }
        reader_page(out, ++page);
        r = relations_find(&rels, xml_attr(&x, "r:id"), NULL);
        if (r && package_has(p, r->target))
            status = read_page(p, r->target, out, err);
    }
    if (status == SL_OK)
        status = xml_check(&x, "ppt/presentation.xml", err);
    title_from(out, first);
    xml_close(&x);
    relations_free(&rels);
    return status;
}
