/* xlsx.c - XLSX: each sheet a page, its name a heading, its rows as a reader sees them.
 *
 * The first row with two cells is the header of the rows behind it. Numbers are written as they are
 * shown where that is simple: dates, times and percentages; everything else in full. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "reader/package.h"

#define STYLES_MAX  65536
#define STRINGS_MAX ((size_t)4 * 1024 * 1024)
#define SHEETS_MAX  1000

typedef enum shown { SHOWN_PLAIN, SHOWN_DATE, SHOWN_TIME, SHOWN_DATE_TIME, SHOWN_PERCENT } shown;

typedef struct number_format {
    long id;
    shown how;
} number_format;

typedef struct book {
    sl_buf strings; /* all shared ones behind each other */
    size_t *ends;   /* [string_count] */
    size_t string_count, string_cap;
    number_format *formats; /* the book's own */
    size_t format_count, format_cap;
    uint8_t *styles; /* [style_count]: shown, per style of a cell */
    size_t style_count, style_cap;
    bool is_1904; /* days count from then: books of old Macs */
} book;

/* ---- numbers -------------------------------------------------------------------------------- */

/* What a format code shows, by the letters outside quotes and brackets. */
static shown read_format(const char *code)
{
    bool date = false, time = false;

    for (const char *p = code; *p && *p != ';'; p++) {
        if (*p == '"') {
            p += 1 + strcspn(p + 1, "\"");
            if (!*p)
                break;
        } else if (*p == '[') {
            p += strcspn(p, "]");
            if (!*p)
                break;
        } else if (*p == '\\') {
            if (!*++p)
                break;
        } else if (*p == '%') {
            return SHOWN_PERCENT;
        } else {
            date = date || strchr("yYdD", *p);
            time = time || strchr("hHsS", *p);
            if (strncmp(p, "General", 7) == 0)
                return SHOWN_PLAIN;
        }
    }
    return date && time ? SHOWN_DATE_TIME : date ? SHOWN_DATE : time ? SHOWN_TIME : SHOWN_PLAIN;
}

static shown format_of(const book *b, long id)
{
    if (id == 9 || id == 10)
        return SHOWN_PERCENT;
    if ((id >= 14 && id <= 17) || (id >= 27 && id <= 31) || (id >= 50 && id <= 58))
        return SHOWN_DATE;
    if ((id >= 18 && id <= 21) || (id >= 32 && id <= 35) || (id >= 45 && id <= 47))
        return SHOWN_TIME;
    if (id == 22)
        return SHOWN_DATE_TIME;
    for (size_t i = 0; i < b->format_count; i++)
        if (b->formats[i].id == id)
            return b->formats[i].how;
    return SHOWN_PLAIN;
}

/* Days since 1899-12-30 as "2024-02-29", by the calendar of eras of 400 years. */
static int put_date(char *ret, size_t room, long serial)
{
    long z = serial - 25569 + 719468; /* days since 0000-03-01 */
    long era = z / 146097, doe = z - era * 146097;
    long yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    long doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    long day = doy - (153 * mp + 2) / 5 + 1, month = mp < 10 ? mp + 3 : mp - 9;

    return snprintf(ret, room, "%04ld-%02ld-%02ld", yoe + era * 400 + (month <= 2), month, day);
}

static void show_number(const book *b, const char *text, shown how, char *ret, size_t room)
{
    char *end;
    double v = strtod(text, &end);
    long days, seconds;
    int n = 0;

    if (end == text || *end || !isfinite(v)) {
        snprintf(ret, room, "%.60s", text);
        return;
    }
    if (how == SHOWN_PERCENT) {
        snprintf(ret, room, "%.10g%%", v * 100);
        return;
    }
    if (how == SHOWN_PLAIN || v < 0 || v > 2958465) { /* the year 9999 */
        snprintf(ret, room, "%.15g", v);
        return;
    }
    days = (long)v;
    seconds = lround((v - (double)days) * 86400);
    days += seconds / 86400;
    seconds %= 86400;
    if (how != SHOWN_TIME && days >= 1)
        n = put_date(ret, room, days + (b->is_1904 ? 1462 : 0));
    if (how == SHOWN_DATE && n)
        return;
    snprintf(ret + n, room - (size_t)n, seconds % 60 ? "%s%02ld:%02ld:%02ld" : "%s%02ld:%02ld",
             n ? " " : "", seconds / 3600 + (how == SHOWN_TIME ? days * 24 : 0), seconds / 60 % 60,
             seconds % 60);
}

/* ---- the book ------------------------------------------------------------------------------- */

static sl_status read_strings(package *p, const char *part, book *b, sl_err *err)
{
    bool in_text = false, in_phonetic = false, ok = true;
    xml x;
    sl_status status;

    if (!package_has(p, part))
        return SL_OK;
    status = xml_open(&x, p, part, err);
    while (status == SL_OK && ok && xml_next(&x)) {
        if (x.event == XML_TEXT) {
            if (in_text && !in_phonetic)
                sl_buf_puts(&b->strings, x.text);
            continue;
        }
        in_text = xml_opens(&x, "t");
        if (xml_is(&x, "rPh"))
            in_phonetic = x.event == XML_OPEN;
        if (xml_closes(&x, "si")) {
            ok = sl_grow((void **)&b->ends, &b->string_cap, b->string_count + 1, sizeof *b->ends,
                         STRINGS_MAX);
            if (ok)
                b->ends[b->string_count++] = b->strings.len;
        }
    }
    if (status == SL_OK && !ok)
        status = sl_fail(err, SL_ELIMIT, "it has more than %zu different texts", STRINGS_MAX);
    if (status == SL_OK)
        status = xml_check(&x, part, err);
    if (status == SL_OK)
        status = sl_buf_ok(&b->strings, "the texts of the sheets", err);
    xml_close(&x);
    return status;
}

static sl_status read_styles(package *p, const char *part, book *b, sl_err *err)
{
    bool in_cells = false;
    xml x;
    sl_status status;

    if (!package_has(p, part))
        return SL_OK;
    status = xml_open(&x, p, part, err);
    while (status == SL_OK && xml_next(&x)) {
        if (xml_is(&x, "cellXfs"))
            in_cells = x.event == XML_OPEN;
        if (xml_opens(&x, "numFmt") &&
            sl_grow((void **)&b->formats, &b->format_cap, b->format_count + 1, sizeof *b->formats,
                    STYLES_MAX)) {
            long id = xml_attr_number(&x, "numFmtId", -1);

            b->formats[b->format_count++] =
                (number_format){ id, read_format(xml_attr(&x, "formatCode")) };
        }
        if (in_cells && xml_opens(&x, "xf") &&
            sl_grow((void **)&b->styles, &b->style_cap, b->style_count + 1, 1, STYLES_MAX))
            b->styles[b->style_count++] = (uint8_t)format_of(b, xml_attr_number(&x, "numFmtId", 0));
    }
    if (status == SL_OK)
        status = xml_check(&x, part, err);
    xml_close(&x);
    return status;
}

/* ---- a sheet -------------------------------------------------------------------------------- */

typedef struct sheet {
    const book *b;
    xml *x;
    reader_out *out;
    reader_row row;
    size_t filled; /* cells of the row with text */
    char type[12];
    long style;
    bool in_value, in_cell;
    sl_buf value;
} sheet;

/* The column of "BC12", from 0. */
static size_t column_of(const char *name)
{
    size_t n = 0;

    for (; *name >= 'A' && *name <= 'Z' && n < 100000; name++)
        n = n * 26 + (size_t)(*name - 'A') + 1;
    return n ? n - 1 : 0;
}

static void begin_cell(sheet *s)
{
    const char *name = xml_attr(s->x, "r");
    size_t column = name[0] ? column_of(name) : s->row.count;

    while (s->row.count < SL_MIN(column, (size_t)READER_COLUMNS_MAX))
        reader_cell_end(&s->row, 1);
    snprintf(s->type, sizeof s->type, "%s", xml_attr(s->x, "t"));
    s->style = xml_attr_number(s->x, "s", 0);
    s->in_cell = true;
    sl_buf_clear(&s->value);
}

static void end_cell(sheet *s)
{
    const book *b = s->b;
    const char *v = sl_buf_str(&s->value);
    size_t len = s->value.len, index;
    char number[80];

    s->in_cell = false;
    if (strcmp(s->type, "s") == 0) {
        index = len ? (size_t)strtoul(v, NULL, 10) : b->string_count;
        len = 0;
        if (index < b->string_count) {
            size_t begin = index ? b->ends[index - 1] : 0;

            v = sl_buf_str(&b->strings) + begin;
            len = b->ends[index] - begin;
        }
    } else if (len && (!s->type[0] || strcmp(s->type, "n") == 0)) {
        bool has_style = s->style >= 0 && (size_t)s->style < b->style_count;

        show_number(b, v, has_style ? (shown)b->styles[s->style] : SHOWN_PLAIN, number,
                    sizeof number);
        v = number;
        len = strlen(v);
    } else if (strcmp(s->type, "b") == 0) {
        v = v[0] == '1' ? "TRUE" : "FALSE";
        len = strlen(v);
    }
    s->filled += len > 0;
    reader_cell_put(&s->row, v, len);
    reader_cell_end(&s->row, 1);
}

static void end_row(sheet *s)
{
    bool is_header = s->out->header == 0 && s->filled > 1;

    reader_row_put(s->out, &s->row, is_header, is_header || s->out->header != 0);
    s->filled = 0;
}

static void take_event(sheet *s)
{
    xml *x = s->x;

    if (x->event == XML_TEXT) {
        if (s->in_value && s->in_cell)
            sl_buf_puts(&s->value, x->text);
        return;
    }
    s->in_value = xml_opens(x, "v") || xml_opens(x, "t");
    if (xml_opens(x, "row")) {
        reader_row_clear(&s->row);
        s->filled = 0;
    } else if (xml_opens(x, "c")) {
        begin_cell(s);
    } else if (xml_closes(x, "c")) {
        end_cell(s);
    } else if (xml_closes(x, "row")) {
        end_row(s);
    }
}

static sl_status read_sheet(package *p, const char *part, const book *b, reader_out *out,
                            sl_err *err)
{
    xml x;
    sheet s = { .b = b, .x = &x, .out = out };
    sl_status status = xml_open(&x, p, part, err);

    reader_row_init(&s.row);
    sl_buf_init(&s.value, 4 * READER_CELL_BYTES);
    reader_table(out);
    while (status == SL_OK && xml_next(&x) && !out->text.failed && !out->failed)
        take_event(&s);
    if (status == SL_OK)
        status = xml_check(&x, part, err);
    sl_buf_deinit(&s.value);
    reader_row_deinit(&s.row);
    xml_close(&x);
    return status;
}

/* ---- all sheets ----------------------------------------------------------------------------- */

typedef struct sheet_name {
    char name[128], id[64];
} sheet_name;

static sl_status read_workbook(package *p, book *b, sheet_name *names, size_t *ret_count,
                               sl_err *err)
{
    xml x;
    sl_status status = xml_open(&x, p, "xl/workbook.xml", err);

    *ret_count = 0;
    while (status == SL_OK && xml_next(&x)) {
        if (xml_opens(&x, "workbookPr"))
            b->is_1904 = strcmp(xml_attr(&x, "date1904"), "1") == 0 ||
                         strcmp(xml_attr(&x, "date1904"), "true") == 0;
        if (xml_opens(&x, "sheet") && *ret_count < SHEETS_MAX &&
            strstr(xml_attr(&x, "state"), "idden") == NULL) {
            sheet_name *n = &names[(*ret_count)++];

            snprintf(n->name, sizeof n->name, "%s", xml_attr(&x, "name"));
            snprintf(n->id, sizeof n->id, "%s", xml_attr(&x, "r:id"));
        }
    }
    if (status == SL_OK)
        status = xml_check(&x, "xl/workbook.xml", err);
    xml_close(&x);
    return status;
}

static sl_status read_sheets(package *p, book *b, const relation_list *rels, sheet_name *names,
                             reader_out *out, sl_err *err)
{
    const relation *strings = relations_find(rels, NULL, "sharedStrings");
    const relation *styles = relations_find(rels, NULL, "styles");
    size_t count;

    SL_TRY(read_workbook(p, b, names, &count, err));
    SL_TRY(read_strings(p, strings ? strings->target : "xl/sharedStrings.xml", b, err));
    SL_TRY(read_styles(p, styles ? styles->target : "xl/styles.xml", b, err));
    for (size_t i = 0; i < count && !out->text.failed && !out->failed; i++) {
        const relation *r = relations_find(rels, names[i].id, NULL);

        if (!r || strcmp(r->type, "worksheet") != 0 || !package_has(p, r->target))
            continue; /* a sheet that is only a chart */
        reader_page(out, i + 1);
        reader_block_put(out, READER_HEADING, 1, names[i].name, strlen(names[i].name));
        SL_TRY(read_sheet(p, r->target, b, out, err));
    }
    return SL_OK;
}

sl_status reader_xlsx(package *p, reader_out *out, sl_err *err)
{
    sheet_name *names = sl_calloc(SHEETS_MAX, sizeof *names);
    relation_list rels = { 0 };
    book b = { 0 };
    sl_status status;

    sl_buf_init(&b.strings, READER_PART_BYTES);
    status = names ? relations_read(p, "xl/workbook.xml", &rels, err)
                   : sl_fail(err, SL_ENOMEM, "out of memory");
    if (status == SL_OK)
        status = read_sheets(p, &b, &rels, names, out, err);
    relations_free(&rels);
    sl_buf_deinit(&b.strings);
    sl_free(b.ends);
    sl_free(b.formats);
    sl_free(b.styles);
    sl_free(names);
    return status;
}
