/* reader.h - documents of any format to text with structure: the room's door.
 *
 * The text is the document from here on: passages and citations are byte spans of it. For text and
 * Markdown it is the file itself, decoded to UTF-8; for every other format it is what a person
 * would read, in reading order. All functions may be called from any thread. */
#ifndef SL_READER_READER_H
#define SL_READER_READER_H

#include "base/buf.h"
#include "base/status.h"

typedef enum reader_kind {
    READER_PARAGRAPH,
    READER_HEADING,
    READER_LIST_ITEM,
    READER_TABLE_ROW,
    READER_CODE,
    READER_KIND_COUNT
} reader_kind;

/* A run of the text that belongs together. Blocks come in the order of the text and do not overlap;
 * what lies between them is blank or markup. */
typedef struct reader_block {
    size_t begin, end; /* text[begin..end): whole characters, never empty */
    uint8_t kind;      /* reader_kind */
    uint8_t level;     /* HEADING: 1 to 6; LIST_ITEM: nesting from 1; else 0 */
    uint32_t page;     /* from 1 (of a PDF; slide; sheet); 0: the format has none */
    uint32_t header;   /* TABLE_ROW: 1 + the index of the block that is its table's header row; 0:
                          it has none, or is it */
} reader_block;

typedef struct reader_document {
    char *text; /* [len], UTF-8 without NUL bytes, and a NUL behind it */
    size_t len;
    reader_block *blocks; /* [count] */
    size_t count;
    char title[256]; /* the document's own, or "" */
    char type[96];   /* by content: "application/pdf" */
    uint32_t pages;  /* 0: the format has none */
} reader_document;

void reader_document_deinit(reader_document *d);

/* Zero: the default. */
typedef struct reader_options {
    const char *program; /* the sluice binary that is run as the sandboxed reader; NULL:
                            /proc/self/exe */
    int64_t time_ms;     /* of one document; default 60,000 */
    size_t memory_bytes; /* of the reader's process; default 1 GiB */
    size_t text_bytes;   /* of the text it may give; default 64 MiB */
} reader_options;

/* Reads bytes by their content; name ("report.pdf") only decides between what content cannot tell
 * apart (Markdown and plain text). Formats with parsers of others run in a process of their own
 * without network, files or new processes.
 *
 * SL_ENOTSUP: no reader for this type, named; SL_EFORMAT: damaged, encrypted or no text in it;
 * SL_ELIMIT: too much time, memory or expansion; SL_EINVAL: nothing but blanks. The server is never
 * harmed. On failure *ret is empty. */
SL_NODISCARD sl_status reader_read(const reader_options *o, sl_span bytes, const char *name,
                                   reader_document *ret, sl_err *err);

/* The body of the hidden command "read-document": reads the document that reader_read gave to this
 * process on standard input, shut in, and answers on standard output. Returns the exit code, or
 * does not return. */
int reader_child(void);

/* "heading", "list_item". */
const char *reader_kind_name(int kind);

#endif
