/* csv.c - tables of text: RFC 4180, with any of , ; tab | between the cells.
 *
 * The text is rows "a | b", the first one being the header of the others. */
#include "reader/reader_int.h"

/* The delimiter that the first lines have most of, outside quotes. */
static char find_delimiter(const char *text)
{
    static const char delimiters[] = ",;\t|";
    size_t counts[4] = { 0 }, best = 0, lines = 0;
    bool quoted = false;

    for (const char *p = text; *p && lines < 20; p++) {
        const char *d = quoted ? NULL : strchr(delimiters, *p);

        quoted = quoted != (*p == '"');
        lines += !quoted && *p == '\n';
        if (d)
            counts[d - delimiters]++;
    }
    for (size_t i = 1; i < 4; i++)
        best = counts[i] > counts[best] ? i : best;
    return delimiters[best];
}

/* Reads one record from p; returns where the next one begins. */
static const char *read_record(const char *p, char delimiter, reader_row *row)
{
    for (;;) {
        if (*p == '"') {
            p++;
            while (*p && !(*p == '"' && p[1] != '"')) {
                size_t n = strcspn(p, "\"");

                n = n ? n : 1; /* the first of two quotes */
                reader_cell_put(row, p, n);
                p += n + (p[0] == '"' && n == 1);
            }
            p += *p == '"';
        }
        for (size_t n = 0; *p && *p != delimiter && *p != '\n' && *p != '\r'; p += n) {
            const char stops[] = { delimiter, '\r', '\n', '\0' };

            n = strcspn(p, stops);
            reader_cell_put(row, p, n);
        }
        reader_cell_end(row, 1);
        if (*p != delimiter)
            break;
        p++;
    }
    p += *p == '\r';
    return p + (*p == '\n');
}

sl_status reader_csv(sl_span bytes, char delimiter, reader_out *out, sl_err *err)
{
    sl_buf text;
    reader_row row;
    sl_status status;
    const char *p, *end;

    sl_buf_init(&text, READER_PART_BYTES);
    reader_row_init(&row);
    status = reader_decode(bytes, NULL, &text, err);
    if (status == SL_OK) {
        p = sl_buf_str(&text);
        end = p + text.len;
        delimiter = delimiter ? delimiter : find_delimiter(p);
        reader_table(out);
        while (p < end && !out->text.failed && !out->failed) {
            p = read_record(p, delimiter, &row);
            reader_row_put(out, &row, out->header == 0, true);
        }
    }
    reader_row_deinit(&row);
    sl_buf_deinit(&text);
    return status;
}
