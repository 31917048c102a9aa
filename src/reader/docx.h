/* docx.h - what the two halves of the DOCX reader share: docx_styles.c knows what styles, numbers
 * and notes are, docx.c reads the body. */
#ifndef SL_READER_DOCX_H
#define SL_READER_DOCX_H

#include "reader/package.h"

#define DOCX_STYLES_MAX 4096
#define DOCX_LISTS_MAX  4096
#define DOCX_NOTES_MAX  65536
#define DOCX_LEVELS     9 /* of lists; the format's own */

typedef struct docx_style {
    char id[64], based[64];
    int heading; /* 1 to 6; 0: none, or that of the style it is based on; -1: body by will */
    long num, num_level; /* the list its paragraphs belong to; num 0: none */
    bool is_contents;    /* of a table of contents: repeats headings */
} docx_style;

typedef struct docx_list {
    long id; /* of a num, or of the abstract it uses */
    long abstract;
    struct {
        char format; /* '-' bullet, '1', 'a', 'A', 'i', 'I', or 0: no mark */
        long start;
        char text[32]; /* "%1.%2" */
    } levels[DOCX_LEVELS];
    long counts[DOCX_LEVELS]; /* where the numbering stands */
} docx_list;

typedef struct docx_note {
    long id;
    bool is_end;
    size_t begin, end; /* of book->note_text */
} docx_note;

/* The parts around the body. */
typedef struct docx_book {
    docx_style *styles;
    size_t style_count, style_cap;
    docx_list *abstracts, *nums;
    size_t abstract_count, abstract_cap, num_count, num_cap;
    docx_note *notes;
    size_t note_count, note_cap;
    sl_buf note_text;
} docx_book;

SL_NODISCARD sl_status docx_book_read(package *p, docx_book *ret, sl_err *err);
void docx_book_free(docx_book *b);

/* NULL: no such style. */
const docx_style *docx_style_find(const docx_book *b, const char *id);
/* The heading level of a style, 0: none. */
int docx_style_heading(const docx_book *b, const docx_style *s);
/* The list a style puts its paragraphs in: its num and level, or false. */
bool docx_style_list(const docx_book *b, const docx_style *s, long *ret_num, long *ret_level);
/* Counts one item and writes its label ("2.1.") to ret; "-" for a bullet, "" for none. */
void docx_label(docx_book *b, long num, long level, char *ret, size_t ret_bytes);
/* NULL: no such note. */
const docx_note *docx_note_find(const docx_book *b, long id, bool is_end);

#endif
