/* fuzz_reader_layout.c - pages of a PDF with lines anywhere: 12 bytes each say where a line is, how
 * large its letters are, on which page, and what it says. */
#include "fuzz_reader.h"
#include "reader/pdf.h"

#define LINE_BYTES 12

static const char *const words[] = {
    "Word and words", "12",      "- item",  "1. item",
    "A sentence.",    "hyphen-", "ated",    "\xe4\xb8\xad\xe6\x96\x87",
    "Page 3 of 9",    "x",       "(a) b",   "....... 7",
    "\xe2\x80\xa2",   "int x;",  "HEADING", "\xe2\x80\xa2 bullet",
};

static void push(pdf_lines *l, const uint8_t *d)
{
    const char *text = words[d[0] % SL_COUNT_OF(words)];
    pdf_piece p = { .begin = l->text.len, .page = 1 + d[1] % 4 };

    if (l->count > 0) /* pages come in order */
        p.page = SL_MAX(p.page, l->pieces[l->count - 1].page);
    sl_buf_puts(&l->text, text);
    p.end = l->text.len;
    p.x0 = (float)(d[2] | d[3] << 8) / 64;
    p.x1 = p.x0 + (float)d[4] * 2;
    p.y0 = (float)(d[5] | d[6] << 8) / 64;
    p.y1 = p.y0 + (float)d[7] / 8;
    p.size = 0.6f + (float)d[8] / 4;
    p.is_bold = d[9] & 1;
    p.is_mono = (d[9] & 6) == 6;
    SL_ASSERT(
        sl_grow((void **)&l->pieces, &l->cap, l->count + 1, sizeof *l->pieces, PDF_LINES_MAX));
    l->pieces[l->count++] = p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    float heights[5] = { 792, 792, 1, 800, 0 };
    pdf_lines l = { .heights = heights, .page_count = 5 };
    reader_out out;
    sl_err err = { 0 };
    sl_status status = SL_OK;

    sl_buf_init(&l.text, SL_MIB);
    reader_out_init(&out, SL_MIB);
    for (size_t at = 0; at + LINE_BYTES <= size && l.count < 2000; at += LINE_BYTES)
        push(&l, data + at);
    for (size_t i = 0; i < l.count && status == SL_OK;) {
        size_t n = 1;

        while (i + n < l.count && l.pieces[i + n].page == l.pieces[i].page)
            n++;
        status = pdf_order(l.pieces + i, n, &err);
        i += n;
    }
    if (status == SL_OK && l.count > 0)
        status = pdf_mark_running(&l, &err);
    if (status == SL_OK && l.count > 0)
        pdf_write(&l, &out);
    out.pages = (uint32_t)l.page_count;
    finish(&out, status, &err);
    sl_free(l.pieces);
    sl_buf_deinit(&l.text);
    return 0;
}
