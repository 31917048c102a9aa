/* reader_int.h - what the readers of the formats share: the writer of a document, limits, and who
 * reads what.
 *
 * A reader of a format gets bytes and writes blocks in reading order; it knows nothing of processes
 * or of the wire. */
#ifndef SL_READER_READER_INT_H
#define SL_READER_READER_INT_H

#include "base/limits.h"
#include "base/mem.h"
#include "reader/reader.h"

#define READER_BLOCKS_MAX   ((size_t)4 * 1024 * 1024) /* 64 MiB of text in blocks of 16 bytes */
#define READER_PAGES_MAX    100000                    /* ten times the longest books */
#define READER_DEPTH_MAX    4    /* attachments in attachments; a forwarded forward has 3 */
#define READER_PARTS_MAX    1000 /* of one e-mail, attachments included */
#define READER_CELL_BYTES   (32 * SL_KIB)  /* a cell of Excel holds 32,767 characters */
#define READER_COLUMNS_MAX  1024           /* of a table; wider ones lose the rest of a row */
#define READER_PART_BYTES   (256 * SL_MIB) /* one file of an archive, expanded */
#define READER_EXPANDED_MAX (512 * SL_MIB) /* all that is read of an archive, expanded */
#define READER_RATIO_MAX    200            /* expanded / packed; office documents reach 50 ... */
#define READER_RATIO_FREE   (8 * SL_MIB)   /* ... and below this size nobody minds */
#define READER_ENTRIES_MAX  65535          /* files of an archive */
#define READER_INSIDE_BYTES (64 * SL_KIB)  /* Markdown and JSON up to this are read in process */

typedef enum reader_type {
    READER_TEXT,
    READER_MARKDOWN,
    READER_CSV,
    READER_TSV,
    READER_JSON,
    READER_JSONL,
    READER_HTML,
    READER_MAIL,
    READER_PDF,
    READER_ZIP, /* DOCX, PPTX, XLSX, EPUB or just an archive: its directory tells */
    READER_DOCX,
    READER_PPTX,
    READER_XLSX,
    READER_EPUB,
    READER_REFUSED, /* known, and not read */
    READER_TYPE_COUNT
} reader_type;

/* Looks at the content; name (or NULL) decides where that is not enough. READER_REFUSED comes with
 * SL_ENOTSUP or SL_EFORMAT and says what the bytes are and what to do. Callable from any thread. */
SL_NODISCARD sl_status reader_detect(sl_span bytes, const char *name, reader_type *ret,
                                     sl_err *err);
/* "application/pdf". */
const char *reader_type_name(reader_type type);
/* True when name ends in .suffix, in any case. name may be NULL. */
bool reader_name_is(const char *name, const char *suffix);
/* True when bytes hold what (compared by byte) in their first limit bytes. */
bool reader_holds(sl_span bytes, size_t limit, const char *what);

/* Decodes to UTF-8 into ret (initialised by the caller). charset: what the format declares, or
 * NULL; a byte order mark and valid UTF-8 win against it. The text has no byte order mark. */
SL_NODISCARD sl_status reader_decode(sl_span bytes, const char *charset, sl_buf *ret, sl_err *err);

/* ---- the writer ----------------------------------------------------------------------------- */

typedef struct reader_out {
    sl_buf text;
    reader_block *blocks;
    size_t count, cap;
    reader_block open; /* the open block; begin is where it starts */
    size_t before;     /* text.len before the open block and what parts it from the last one */
    bool is_open, needs_space, failed;
    uint32_t page;   /* of the blocks that are written now */
    uint32_t pages;  /* of the document */
    uint32_t header; /* of the rows that are written now: 1 + index, or 0 */
    char title[256];
    reader_type type;
    int depth;    /* of attachments */
    size_t parts; /* of the e-mail so far */
} reader_out;

void reader_out_init(reader_out *o, size_t text_bytes);
void reader_out_deinit(reader_out *o);
/* SL_ELIMIT when the text or the blocks were too many, SL_EINVAL when there are none. */
SL_NODISCARD sl_status reader_out_check(const reader_out *o, sl_err *err);
/* Moves the text and blocks into *ret. Only after reader_out_check. */
void reader_out_move(reader_out *o, reader_document *ret);

/* Opens a block (and closes the one before). mark ("- ") stands in front of it and is no part. */
void reader_begin(reader_out *o, reader_kind kind, int level, const char *mark);
/* Appends to the open block; runs of white space become one space, controls are dropped, what is
 * not UTF-8 becomes U+FFFD. Opens a paragraph when nothing is open. */
void reader_put(reader_out *o, const char *text, size_t len);
void reader_puts(reader_out *o, const char *text);
/* A line break inside the open block, if it has any text. */
void reader_put_break(reader_out *o);
/* As reader_put, but white space stays as it is: code. */
void reader_put_code(reader_out *o, const char *text, size_t len);
/* Closes the open block; one without text leaves no trace. Returns true when it left one. */
bool reader_end(reader_out *o);
/* A whole block. */
void reader_block_put(reader_out *o, reader_kind kind, int level, const char *text, size_t len);
/* A block over text that is already there: text[begin..end). For formats whose text is the file. */
void reader_span_put(reader_out *o, reader_kind kind, int level, size_t begin, size_t end);
/* The title, when there is none yet. */
void reader_title(reader_out *o, const char *text, size_t len);
/* Until the next call blocks are of this page, counted from 1. */
void reader_page(reader_out *o, size_t page);

/* The cells of one row of a table, filled in order. */
typedef struct reader_row {
    sl_buf text;
    size_t *ends; /* [count]: where each cell ends in text */
    size_t count, cap;
} reader_row;

void reader_row_init(reader_row *r);
void reader_row_deinit(reader_row *r);
void reader_row_clear(reader_row *r);
/* Appends to the cell that is being filled. */
void reader_cell_put(reader_row *r, const char *text, size_t len);
/* Ends it; span > 1 adds empty cells behind it. */
void reader_cell_end(reader_row *r, size_t span);
/* True when no cell has text. */
bool reader_row_empty(const reader_row *r);
/* Writes the row, "a | b", and clears it. is_header: rows behind it belong to it. A row of one cell
 * is a paragraph unless keep. */
void reader_row_put(reader_out *o, reader_row *r, bool is_header, bool keep);
/* A table begins: rows have no header until one comes. */
void reader_table(reader_out *o);

/* ---- the formats ---------------------------------------------------------------------------- */

/* Reads by type; inside a sandbox unless the type is one of our own. Title, pages and blocks go to
 * out. name may be NULL. */
SL_NODISCARD sl_status reader_run(sl_span bytes, const char *name, reader_out *out, sl_err *err);
/* True when bytes of this type may be read in this process: see README. */
bool reader_is_inside(reader_type type, size_t len);

SL_NODISCARD sl_status reader_text(sl_span bytes, reader_out *out, sl_err *err);
SL_NODISCARD sl_status reader_markdown(sl_span bytes, reader_out *out, sl_err *err);
SL_NODISCARD sl_status reader_csv(sl_span bytes, char delimiter, reader_out *out, sl_err *err);
SL_NODISCARD sl_status reader_json(sl_span bytes, bool is_lines, reader_out *out, sl_err *err);
/* charset: what the e-mail says, or NULL. is_page: of the web, with navigation and the like around
 * the document, which is left out. */
SL_NODISCARD sl_status reader_html(sl_span bytes, const char *charset, bool is_page,
                                   reader_out *out, sl_err *err);
SL_NODISCARD sl_status reader_mail(sl_span bytes, reader_out *out, sl_err *err);
SL_NODISCARD sl_status reader_pdf(sl_span bytes, reader_out *out, sl_err *err);
SL_NODISCARD sl_status reader_zip(sl_span bytes, reader_out *out, sl_err *err);

/* ---- the process ---------------------------------------------------------------------------- */

/* Limits and the system call filter, for good. What the libraries must open was opened before.
 * readable: a directory whose files may still be read, where the kernel can see to that; or NULL.
 */
SL_NODISCARD sl_status reader_sandbox(size_t memory_bytes, int64_t time_ms, const char *readable,
                                      sl_err *err);
/* Makes the libraries open what they need of the file system. */
void reader_warm(reader_type type);

/* An answer of the child: its bytes, whatever they are, to a document or its error. */
SL_NODISCARD sl_status reader_answer_decode(sl_span bytes, size_t text_bytes, reader_document *ret,
                                            sl_err *err);
/* document NULL: a failure, which err has. */
void reader_answer_encode(const reader_document *document, const sl_err *err, sl_buf *ret);

/* Runs program over bytes in a process of its own. o has no zeros. */
SL_NODISCARD sl_status reader_child_run(const reader_options *o, sl_span bytes, const char *name,
                                        reader_document *ret, sl_err *err);

#endif
