/* pdf.h - what the three parts of the PDF reader share: pdf.c asks poppler for lines, pdf_order.c
 * puts those of a page in reading order, pdf_flow.c makes paragraphs of all of them. */
#ifndef SL_READER_PDF_H
#define SL_READER_PDF_H

#include "reader/reader_int.h"

#define PDF_GAP            1.0f /* letters M: as wide as what parts two cells */
#define PDF_LINES_MAX      ((size_t)8 * 1024 * 1024)
#define PDF_PAGE_LINES_MAX 20000 /* real pages have under 200, drawings full of labels 5,000 */

/* A piece of a line: what stands together without a wide gap. Points, y downwards. */
typedef struct pdf_piece {
    size_t begin, end; /* of pdf_lines.text */
    float x0, y0, x1, y1;
    float size;    /* of most of its letters */
    uint32_t page; /* from 1 */
    bool is_bold, is_mono;
    bool joins;      /* stands in the same line as the piece before it ... */
    bool is_near;    /* ... and so close that it is in the same cell */
    bool is_running; /* header, footer or page number */
} pdf_piece;

typedef struct pdf_lines {
    sl_buf text;
    pdf_piece *pieces;
    size_t count, cap;
    float *heights; /* [page_count]: of the pages */
    size_t page_count;
} pdf_lines;

/* Puts the pieces of one page in reading order, columns one after the other, and marks those that
 * share a line. */
SL_NODISCARD sl_status pdf_order(pdf_piece *pieces, size_t count, sl_err *err);
/* Marks what repeats at the edges of pages. */
SL_NODISCARD sl_status pdf_mark_running(pdf_lines *l, sl_err *err);
/* Writes headings, paragraphs, list items, code and table rows. */
void pdf_write(pdf_lines *l, reader_out *out);

#endif
