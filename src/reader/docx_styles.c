/* docx_styles.c - the parts around a DOCX body: styles, numbering, footnotes. */
#include <stdio.h>
#include <strings.h>

#include "reader/docx.h"

/* ---- styles --------------------------------------------------------------------------------- */

static void name_style(docx_style *s, const char *name)
{
    if (strncasecmp(name, "heading ", 8) == 0 && name[8] >= '1' && name[8] <= '9')
        s->heading = SL_MIN(name[8] - '0', 6);
    else if (strcasecmp(name, "title") == 0)
        s->heading = 1;
    else if (strncasecmp(name, "toc ", 4) == 0 || strcasecmp(name, "table of figures") == 0)
        s->is_contents = true;
}

static void take_style(xml *x, docx_style *s)
{
    if (xml_opens(x, "name"))
        name_style(s, xml_attr(x, "val"));
    else if (xml_opens(x, "basedOn"))
        snprintf(s->based, sizeof s->based, "%s", xml_attr(x, "val"));
    else if (xml_opens(x, "numId"))
        s->num = xml_attr_number(x, "val", 0);
    else if (xml_opens(x, "ilvl"))
        s->num_level = xml_attr_number(x, "val", 0);
    else if (xml_opens(x, "outlineLvl") && s->heading == 0) {
        long level = xml_attr_number(x, "val", 9);

        s->heading = level >= 0 && level < 9 ? (int)SL_MIN(level + 1, 6) : -1;
    }
}

static sl_status read_styles(package *p, docx_book *b, sl_err *err)
{
    docx_style *s = NULL;
    xml x;
    sl_status status;

    if (!package_has(p, "word/styles.xml"))
        return SL_OK;
    status = xml_open(&x, p, "word/styles.xml", err);
    while (status == SL_OK && xml_next(&x)) {
        if (xml_opens(&x, "style")) {
            s = NULL;
            if (strcmp(xml_attr(&x, "type"), "paragraph") == 0 &&
                sl_grow((void **)&b->styles, &b->style_cap, b->style_count + 1, sizeof *b->styles,
                        DOCX_STYLES_MAX)) {
                s = &b->styles[b->style_count++];
                *s = (docx_style){ 0 };
                snprintf(s->id, sizeof s->id, "%s", xml_attr(&x, "styleId"));
            }
        } else if (xml_closes(&x, "style")) {
            s = NULL;
        } else if (s) {
            take_style(&x, s);
        }
    }
    if (status == SL_OK)
        status = xml_check(&x, "word/styles.xml", err);
    xml_close(&x);
    return status;
}

const docx_style *docx_style_find(const docx_book *b, const char *id)
{
    for (size_t i = 0; id[0] && i < b->style_count; i++)
        if (strcmp(b->styles[i].id, id) == 0)
            return &b->styles[i];
    return NULL;
}

int docx_style_heading(const docx_book *b, const docx_style *s)
{
    for (int hops = 0; s && hops < 10; hops++) {
        if (s->heading)
            return SL_MAX(s->heading, 0);
        s = docx_style_find(b, s->based);
    }
    return 0;
}

bool docx_style_list(const docx_book *b, const docx_style *s, long *ret_num, long *ret_level)
{
    for (int hops = 0; s && hops < 10; hops++) {
        if (s->num) {
            *ret_num = s->num;
            *ret_level = s->num_level;
            return true;
        }
        s = docx_style_find(b, s->based);
    }
    return false;
}

/* ---- lists ---------------------------------------------------------------------------------- */

static char format_of(const char *name)
{
    static const struct {
        const char *name;
        char format;
    } formats[] = {
        { "bullet", '-' },      { "none", 0 },         { "lowerLetter", 'a' },
        { "upperLetter", 'A' }, { "lowerRoman", 'i' }, { "upperRoman", 'I' },
    };

    for (size_t i = 0; i < SL_COUNT_OF(formats); i++)
        if (strcmp(name, formats[i].name) == 0)
            return formats[i].format;
    return '1';
}

static docx_list *push_list(docx_list **items, size_t *count, size_t *cap, long id)
{
    docx_list *l;

    if (!sl_grow((void **)items, cap, *count + 1, sizeof **items, DOCX_LISTS_MAX))
        return NULL;
    l = &(*items)[(*count)++];
    *l = (docx_list){ .id = id };
    return l;
}

static void take_level(xml *x, docx_list *l, long level)
{
    if (xml_opens(x, "numFmt"))
        l->levels[level].format = format_of(xml_attr(x, "val"));
    else if (xml_opens(x, "start"))
        l->levels[level].start = xml_attr_number(x, "val", 1);
    else if (xml_opens(x, "lvlText"))
        snprintf(l->levels[level].text, sizeof l->levels[level].text, "%s", xml_attr(x, "val"));
}

static sl_status read_lists(package *p, docx_book *b, sl_err *err)
{
    docx_list *abstract = NULL, *num = NULL;
    long level = -1;
    xml x;
    sl_status status;

    if (!package_has(p, "word/numbering.xml"))
        return SL_OK;
    status = xml_open(&x, p, "word/numbering.xml", err);
    while (status == SL_OK && xml_next(&x)) {
        if (xml_opens(&x, "abstractNum")) {
            abstract = push_list(&b->abstracts, &b->abstract_count, &b->abstract_cap,
                                 xml_attr_number(&x, "abstractNumId", -1));
        } else if (xml_closes(&x, "abstractNum")) {
            abstract = NULL;
        } else if (xml_opens(&x, "num")) {
            num = push_list(&b->nums, &b->num_count, &b->num_cap, xml_attr_number(&x, "numId", 0));
        } else if (xml_opens(&x, "abstractNumId") && num) {
            num->abstract = xml_attr_number(&x, "val", -1);
        } else if (xml_opens(&x, "lvl")) {
            level = xml_attr_number(&x, "ilvl", -1);
            if (level < 0 || level >= DOCX_LEVELS)
                level = -1;
            else if (abstract)
                abstract->levels[level].start = 1;
        } else if (abstract && level >= 0) {
            take_level(&x, abstract, level);
        }
    }
    if (status == SL_OK)
        status = xml_check(&x, "word/numbering.xml", err);
    xml_close(&x);
    return status;
}

static docx_list *list_find(docx_list *items, size_t count, long id)
{
    for (size_t i = 0; i < count; i++)
        if (items[i].id == id)
            return &items[i];
    return NULL;
}

/* 3 as "c", "C", "iii", "III" or "3". */
static void write_number(char format, long n, char *ret, size_t ret_bytes)
{
    static const struct {
        long value;
        const char *lower;
    } romans[] = { { 1000, "m" }, { 900, "cm" }, { 500, "d" }, { 400, "cd" }, { 100, "c" },
                   { 90, "xc" },  { 50, "l" },   { 40, "xl" }, { 10, "x" },   { 9, "ix" },
                   { 5, "v" },    { 4, "iv" },   { 1, "i" } };
    size_t len = 0;

    ret[0] = '\0';
    if ((format == 'a' || format == 'A') && n >= 1 && n <= 26) {
        snprintf(ret, ret_bytes, "%c", (char)(format + n - 1));
    } else if ((format == 'i' || format == 'I') && n >= 1 && n < 200) {
        for (size_t i = 0; i < SL_COUNT_OF(romans) && n > 0; i++)
            for (; n >= romans[i].value; n -= romans[i].value)
                len += (size_t)snprintf(ret + len, ret_bytes - len, "%s", romans[i].lower);
        for (size_t i = 0; format == 'I' && i < len; i++)
            ret[i] = (char)(ret[i] - 32);
    } else {
        snprintf(ret, ret_bytes, "%ld", n);
    }
}

void docx_label(docx_book *b, long num, long level, char *ret, size_t ret_bytes)
{
    docx_list *n = list_find(b->nums, b->num_count, num);
    docx_list *a = n ? list_find(b->abstracts, b->abstract_count, n->abstract) : NULL;
    size_t len = 0;

    ret[0] = '\0';
    if (level < 0 || level >= DOCX_LEVELS || !a) {
        snprintf(ret, ret_bytes, "-");
        return;
    }
    if (a->levels[level].format == '-' || a->levels[level].format == 0) {
        snprintf(ret, ret_bytes, "%s", a->levels[level].format ? "-" : "");
        return;
    }
    a->counts[level]++;
    for (long deeper = level + 1; deeper < DOCX_LEVELS; deeper++)
        a->counts[deeper] = 0;
    for (const char *p = a->levels[level].text; *p && len + 24 < ret_bytes; p++) {
        long at = p[0] == '%' && p[1] >= '1' && p[1] <= '9' ? p[1] - '1' : -1;

        if (at < 0) {
            ret[len++] = *p;
            ret[len] = '\0';
            continue;
        }
        write_number(a->levels[at].format, a->levels[at].start + SL_MAX(a->counts[at], 1) - 1,
                     ret + len, ret_bytes - len);
        len += strlen(ret + len);
        p++;
    }
}

/* ---- notes ---------------------------------------------------------------------------------- */

static sl_status read_notes(package *p, docx_book *b, const char *part, bool is_end, sl_err *err)
{
    docx_note *note = NULL;
    bool in_text = false;
    xml x;
    sl_status status;

    if (!package_has(p, part))
        return SL_OK;
    status = xml_open(&x, p, part, err);
    while (status == SL_OK && xml_next(&x)) {
        if (xml_opens(&x, "footnote") || xml_opens(&x, "endnote")) {
            note = NULL;
            if (!xml_attr(&x, "type")[0] &&
                sl_grow((void **)&b->notes, &b->note_cap, b->note_count + 1, sizeof *b->notes,
                        DOCX_NOTES_MAX)) {
                note = &b->notes[b->note_count++];
                *note = (docx_note){ xml_attr_number(&x, "id", -1), is_end, b->note_text.len,
                                     b->note_text.len };
            }
        }
        if (x.event != XML_TEXT)
            in_text = xml_opens(&x, "t");
        if (note && x.event == XML_TEXT && in_text)
            sl_buf_puts(&b->note_text, x.text);
        if (note && (xml_closes(&x, "p") || xml_opens(&x, "tab")))
            sl_buf_putc(&b->note_text, ' ');
        if (note)
            note->end = b->note_text.len;
    }
    if (status == SL_OK)
        status = xml_check(&x, part, err);
    if (status == SL_OK)
        status = sl_buf_ok(&b->note_text, "its footnotes", err);
    xml_close(&x);
    return status;
}

const docx_note *docx_note_find(const docx_book *b, long id, bool is_end)
{
    for (size_t i = 0; i < b->note_count; i++)
        if (b->notes[i].id == id && b->notes[i].is_end == is_end)
            return &b->notes[i];
    return NULL;
}

sl_status docx_book_read(package *p, docx_book *ret, sl_err *err)
{
    *ret = (docx_book){ 0 };
    sl_buf_init(&ret->note_text, 16 * SL_MIB);
    SL_TRY(read_styles(p, ret, err));
    SL_TRY(read_lists(p, ret, err));
    SL_TRY(read_notes(p, ret, "word/footnotes.xml", false, err));
    return read_notes(p, ret, "word/endnotes.xml", true, err);
}

void docx_book_free(docx_book *b)
{
    sl_free(b->styles);
    sl_free(b->abstracts);
    sl_free(b->nums);
    sl_free(b->notes);
    sl_buf_deinit(&b->note_text);
    *b = (docx_book){ 0 };
}
