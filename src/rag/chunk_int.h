/* chunk_int.h - what the two halves of the chunker share: blocks.c reads lines into units, chunk.c
 * packs units into chunks. */
#ifndef SL_RAG_CHUNK_INT_H
#define SL_RAG_CHUNK_INT_H

#include "rag/chunk.h"

/* The smallest thing that is kept together: a sentence, a code fence, a heading without a body. */
typedef struct unit {
    size_t begin, end;
    size_t tokens;
    uint32_t section; /* index into sections: units of different sections never share a chunk */
    bool is_block;    /* first unit of a paragraph, list item or fence */
    bool is_fence;
} unit;

typedef struct unit_list {
    unit *items;
    size_t count, cap;
    char (*sections)[CHUNK_HEADING_BYTES];
    size_t section_count, section_cap;
    char title[CHUNK_HEADING_BYTES];
} unit_list;

/* Reads the structure. tokens stay 0. text is valid UTF-8. */
SL_NODISCARD sl_status units_read(const char *text, size_t len, bool is_plain, unit_list *ret,
                                  sl_err *err);
void unit_list_deinit(unit_list *list);

#endif
