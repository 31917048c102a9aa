/* text.c - plain text: the text is the file decoded, paragraphs are what blank lines part. */
#include "reader/reader_int.h"

/* Length of the mark of a list item at p ("- ", "12. "), or 0. */
static size_t item_mark(const char *p, size_t len)
{
    size_t n = 0;

    if (len >= 2 && strchr("-*+", p[0]))
        n = 1;
    else if (len >= 4 && memcmp(p, "\xe2\x80\xa2", 3) == 0)
        n = 3;
    else {
        while (n < len && n < 4 && p[n] >= '0' && p[n] <= '9')
            n++;
        n = n > 0 && n < len && (p[n] == '.' || p[n] == ')') ? n + 1 : 0;
    }
    return n && n < len && (p[n] == ' ' || p[n] == '\t') ? n : 0;
}

sl_status reader_text(sl_span bytes, reader_out *out, sl_err *err)
{
    size_t begin = 0, end = 0, at = 0, len;
    const char *text;
    reader_kind kind = READER_PARAGRAPH;

    SL_TRY(reader_decode(bytes, NULL, &out->text, err));
    text = sl_buf_str(&out->text);
    len = out->text.len;
    while (at < len) {
        const char *nl = memchr(text + at, '\n', len - at);
        size_t stop = nl ? (size_t)(nl - text) : len;
        size_t first = at + strspn(text + at, " \t\r\f\v");
        bool is_blank = first >= stop, is_item = !is_blank && item_mark(text + first, stop - first);

        if (is_blank || is_item) {
            reader_span_put(out, kind, kind == READER_LIST_ITEM, begin, end);
            begin = end = is_blank ? stop : first;
            kind = is_item ? READER_LIST_ITEM : READER_PARAGRAPH;
        }
        if (!is_blank) {
            begin = begin == end ? first : begin;
            end = stop;
        }
        at = nl ? stop + 1 : len;
    }
    reader_span_put(out, kind, kind == READER_LIST_ITEM, begin, end);
    return SL_OK;
}
