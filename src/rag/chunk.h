/* chunk.h - cuts a document into passages along its structure.
 *
 * Every chunk is a byte span of the text as it came; nothing is rewritten, so that a citation
 * points at the document itself. Small chunks are found, the section around them (the parent) is
 * read. Pure but for the token counter; callable from any thread. */
#ifndef SL_RAG_CHUNK_H
#define SL_RAG_CHUNK_H

#include "base/buf.h"
#include "reader/reader.h"

#define CHUNK_HEADING_BYTES 256     /* a heading path; longer ones lose their outermost part */
#define CHUNKS_MAX          1000000 /* 16 MiB in the smallest chunks */
#define CHUNK_SECTIONS_MAX  100000  /* headings of one document; 25 MiB of paths */

typedef struct chunk {
    size_t begin, end;               /* text[begin..end): never empty, whole UTF-8 characters */
    size_t tokens;                   /* an estimate */
    uint32_t section;                /* sections[section] is the heading path, "A > B" or "" */
    uint32_t page;                   /* where it begins, from 1; 0: the format has no pages */
    size_t parent_begin, parent_end; /* what is read with it: its section, or as much of that around
                                        it as parent_tokens allow; covers the chunk */
    size_t header_begin, header_end; /* it begins with rows of a table whose header row is outside:
                                        that row. Equal: none. Part of what is embedded and
                                        searched, not of the passage */
} chunk;

typedef struct chunk_list {
    chunk *items;
    size_t count, cap;
    char (*sections)[CHUNK_HEADING_BYTES];
    size_t section_count;
    char title[CHUNK_HEADING_BYTES]; /* the document's own, else its first heading of the first
                                        level, or "" */
} chunk_list;

typedef struct chunk_options {
    bool is_plain;         /* chunk_text: no Markdown, paragraphs only */
    size_t target_tokens;  /* chunks grow up to this; at least 1 */
    size_t overlap_tokens; /* repeated from the chunk before, in whole sentences */
    size_t parent_tokens;  /* parents grow up to this; 0: a chunk is its own parent */
    size_t tokens_max;     /* of a chunk with its heading and header row: never exceeded */
    /* The number of tokens of a text; called on every byte a few times in all. */
    sl_status (*count)(void *ctx, const char *text, size_t len, size_t *ret, sl_err *err);
    void *ctx;
} chunk_options;

/* Cuts at headings, then between blocks, sentences, lines, words, characters, in this order of
 * preference. Refuses a text that is not UTF-8 or holds a NUL byte and blocks outside of it or out
 * of order (SL_EFORMAT), and one without anything but blanks (SL_EINVAL). On failure *ret is empty.
 * Release with chunk_list_deinit. */
SL_NODISCARD sl_status chunk_document(const reader_document *d, const chunk_options *o,
                                      chunk_list *ret, sl_err *err);
/* The same for a text in memory, read as Markdown or as plain paragraphs. */
SL_NODISCARD sl_status chunk_text(sl_span text, const chunk_options *o, chunk_list *ret,
                                  sl_err *err);
void chunk_list_deinit(chunk_list *list);

/* Appends what a chunk is embedded and searched with besides its own text: heading path and header
 * row, each with a line end behind it; nothing when it has neither. text: the document's. */
void chunk_put_context(const chunk_list *list, const chunk *c, const char *text, sl_buf *out);

/* The end of the sentence that begins at text[begin]: behind its closing mark and the quotes that
 * belong to it, or at a blank line; len when there is no end. All scripts that mark their
 * sentences; short forms ("e.g.", "Dr."), numbers and list numbers end none. */
size_t chunk_sentence_end(const char *text, size_t len, size_t begin);

#endif
