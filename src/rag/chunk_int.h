/* chunk_int.h - what the parts of the chunker share: units.c makes units of a document's blocks,
 * chunk.c packs units into chunks, blocks.c reads the blocks of a text in memory. */
#ifndef SL_RAG_CHUNK_INT_H
#define SL_RAG_CHUNK_INT_H

#include "rag/chunk.h"

/* The smallest thing that is kept together: a sentence, a table row, a code block, a heading
 * without a body. */
typedef struct unit {
    size_t begin, end;
    size_t tokens;
    uint32_t section; /* index into sections: units of different sections never share a chunk */
    uint32_t page;
    uint32_t header; /* 1 + index into headers; 0: none */
    bool is_block;   /* first unit of a paragraph, list item, row or code block */
    bool is_code;
} unit;

/* A table's header row. */
typedef struct unit_header {
    size_t begin, end;
    size_t tokens;
} unit_header;

typedef struct unit_list {
    unit *items;
    size_t count, cap;
    unit_header *headers;
    size_t header_count, header_cap;
    char (*sections)[CHUNK_HEADING_BYTES];
    size_t section_count, section_cap;
    char title[CHUNK_HEADING_BYTES];
} unit_list;

/* The units of a document, its text and blocks checked before. All tokens stay 0. */
SL_NODISCARD sl_status units_read(const reader_document *d, unit_list *ret, sl_err *err);
void unit_list_deinit(unit_list *list);

/* The blocks of a text in memory into ret->blocks and ret->count, which become the caller's; the
 * text is borrowed. It is valid UTF-8. */
SL_NODISCARD sl_status blocks_read(bool is_plain, reader_document *ret, sl_err *err);

#endif
