/* chunk.h - cuts a document into passages along its structure.
 *
 * Every chunk is a byte span of the text as it came; nothing is rewritten, so that a citation
 * points at the document itself. Pure but for the token counter; callable from any thread. */
#ifndef SL_RAG_CHUNK_H
#define SL_RAG_CHUNK_H

#include "base/buf.h"

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
} chunk;

typedef struct chunk_list {
    chunk *items;
    size_t count, cap;
    char (*sections)[CHUNK_HEADING_BYTES];
    size_t section_count;
    char title[CHUNK_HEADING_BYTES]; /* the first heading of the first level, or "" */
} chunk_list;

typedef struct chunk_options {
    bool is_plain;         /* no Markdown: paragraphs only */
    size_t target_tokens;  /* chunks grow up to this */
    size_t overlap_tokens; /* repeated from the chunk before, in whole sentences */
    size_t tokens_max;     /* of a chunk together with its heading: never exceeded */
    /* The number of tokens of a text; called on every byte a few times in all. */
    sl_status (*count)(void *ctx, const char *text, size_t len, size_t *ret, sl_err *err);
    void *ctx;
} chunk_options;

/* Refuses text that is not UTF-8 or holds a NUL byte, naming the offset (SL_EFORMAT), and text of
 * spaces alone (SL_EINVAL). On failure *ret is empty. Release with chunk_list_deinit. */
SL_NODISCARD sl_status chunk_text(sl_span text, const chunk_options *o, chunk_list *ret,
                                  sl_err *err);
void chunk_list_deinit(chunk_list *list);

/* The end of the sentence that begins at text[begin]: behind its closing mark and the quotes that
 * belong to it; len when there is no mark. Latin and CJK punctuation. */
size_t chunk_sentence_end(const char *text, size_t len, size_t begin);

#endif
