/* ingest.h - how documents come in, and how they are managed. Internal to the room.
 *
 * submit.c takes bytes into the queue, queue.c reads the queue and writes results, ingest.c does
 * the work between them, collections.c and documents.c answer for what is there, db.c has the forms
 * of SQL. */
#ifndef SL_RAG_INGEST_H
#define SL_RAG_INGEST_H

#include <stdio.h>

#include "rag/rag_int.h"
#include "reader/reader.h"

#define DB_PAGE_DEFAULT      20
#define DB_PAGE_MAX          10000
#define INGEST_BYTES_MAX     (64 * SL_MIB) /* of a document as it comes; a request's most */
#define INGEST_READERS_MAX   16
#define INGEST_ATTRIBUTES    16 /* OpenAI's bounds */
#define INGEST_KEY_BYTES     64
#define INGEST_VALUE_BYTES   512
#define COLLECTION_BYTES_MAX 8192 /* of a description */

/* What people see where a name was taken already. */
#define DB_SHOWN(t) "CASE " t ".label WHEN '' THEN " t ".name ELSE " t ".label END"

int64_t rag_now_s(const rag *r);

extern const char schema_queue[]; /* SQL, a migration of schema.c */

/* ---- db.c ------------------------------------------------------------------------------------ */

/* The first row, or *ret NULL. who: for statements with INDEX_MAY_READ. The lock is held. */
SL_NODISCARD sl_status rag_db_first(rag *r, const llm_caller *who, store_stmt **ret, sl_err *err,
                                    const char *sql, const char *types, ...);
/* Whether there is a row. */
SL_NODISCARD sl_status rag_db_exists(rag *r, const llm_caller *who, bool *ret, sl_err *err,
                                     const char *sql, const char *types, ...);
/* fn in a write transaction, which it ends well with SL_OK. Takes the lock. */
SL_NODISCARD sl_status rag_db_write(rag *r, sl_status (*fn)(rag *r, void *ctx, sl_err *err),
                                    void *ctx, sl_err *err);

typedef struct rag_db_list {
    const char *sql; /* "SELECT ... WHERE ..."; parameters 80 to 82 are the page's */
    const char *key; /* the column that gives the order: "d.id" */
    void (*bind)(store_stmt *st, void *ctx);
    json_t *(*row)(store_stmt *st, void *ctx);
    /* The key of the object that a page begins behind; SL_EINVAL. */
    sl_status (*place)(rag *r, void *ctx, const char *id, int64_t *ret, sl_err *err);
    void *ctx;
} rag_db_list;

/* {"data","has_more"}. The lock is held. */
SL_NODISCARD sl_status rag_db_page(rag *r, const llm_docs_page *page, const rag_db_list *l,
                                   json_t **ret, sl_err *err);

/* ---- collections.c --------------------------------------------------------------------------- */

/* How a collection cuts. */
typedef struct cut_settings {
    int tokens, overlap;
} cut_settings;

/* settings: a collection's JSON; own_tokens, own_overlap: a document's, 0: none. */
cut_settings cut_settings_of(const rag *r, const char *settings, int own_tokens, int own_overlap);
/* As documents keep it, into ret[64]. */
void cut_settings_text(const cut_settings *c, char ret[64]);

/* Checks that a collection that is asked has not expired and notes its use. name NULL: default. */
SL_NODISCARD sl_status collection_use(rag *r, const char *name, sl_err *err);
/* The row of a collection that is there; SL_ENOTFOUND. The lock is held. */
SL_NODISCARD sl_status collection_find(rag *r, const char *name, int64_t *ret_id, sl_err *err);
/* Empties those that have expired. Takes the lock. */
void collections_expire(rag *r);

SL_NODISCARD sl_status rag_check_name(const char *what, const char *name, sl_err *err);

sl_status collection_create(void *ctx, const llm_caller *who, const llm_collection_spec *spec,
                            json_t **ret, sl_err *err);
sl_status collection_update(void *ctx, const llm_caller *who, const char *collection,
                            const llm_collection_spec *spec, json_t **ret, sl_err *err);
sl_status collection_get(void *ctx, const llm_caller *who, const char *collection, json_t **ret,
                         sl_err *err);
sl_status collection_list(void *ctx, const llm_caller *who, const llm_docs_page *page, json_t **ret,
                          sl_err *err);
sl_status collection_remove(void *ctx, const llm_caller *who, const char *collection, sl_err *err);

/* ---- documents.c ----------------------------------------------------------------------------- */

/* A document that the caller may see, as JSON. The lock is held. */
SL_NODISCARD sl_status document_read(rag *r, const llm_caller *who, int64_t document, json_t **ret,
                                     sl_err *err);
/* The row of a document that the caller may see; SL_ENOTFOUND. The lock is held. */
SL_NODISCARD sl_status document_find(rag *r, const llm_caller *who, int64_t collection,
                                     const char *document, int64_t *ret_id, sl_err *err);

sl_status document_get(void *ctx, const llm_caller *who, const char *collection,
                       const char *document, json_t **ret, sl_err *err);
sl_status document_list(void *ctx, const llm_caller *who, const char *collection,
                        const llm_docs_page *page, json_t **ret, sl_err *err);
sl_status document_text(void *ctx, const llm_caller *who, const char *collection,
                        const char *document, sl_buf *out, sl_err *err);
sl_status document_passages(void *ctx, const llm_caller *who, const char *collection,
                            const char *document, json_t **ret, sl_err *err);
sl_status document_update(void *ctx, const llm_caller *who, const char *collection,
                          const char *document, const json_t *attributes, const json_t *access,
                          json_t **ret, sl_err *err);
sl_status document_remove(void *ctx, const llm_caller *who, const char *collection,
                          const char *document, sl_err *err);
sl_status docs_batch_create(void *ctx, const llm_caller *who, const char *collection, json_t **ret,
                            sl_err *err);
sl_status docs_batch_get(void *ctx, const llm_caller *who, const char *collection,
                         const char *batch, json_t **ret, sl_err *err);
sl_status docs_batch_cancel(void *ctx, const llm_caller *who, const char *collection,
                            const char *batch, json_t **ret, sl_err *err);

/* ---- submit.c -------------------------------------------------------------------------------- */

SL_NODISCARD sl_status rag_check_attributes(const json_t *attributes, sl_err *err);

sl_status document_submit(void *ctx, const llm_document_spec *spec, const char *batch, json_t **ret,
                          sl_err *err);
sl_status document_add(void *ctx, const llm_document_spec *spec, json_t **ret, sl_err *err);

/* ---- queue.c --------------------------------------------------------------------------------- */

/* A document on its way from the queue into the collection. */
typedef struct ingest_job {
    struct ingest_job *next;
    int64_t id, document; /* its line of the queue, its row */
    char *collection;     /* public id */
    char *name, *shown;
    json_t *spec;
    uint8_t sha256[32];
    cut_settings cut;
    bool is_again; /* the stored text is cut anew: */
    bool has_text; /* text is there */
    char *bytes;   /* [len] the file as it came */
    size_t len;
    size_t size; /* of the file */
    reader_document text;
    chunk_list chunks;
    float *vectors; /* [chunks.count, dim] */
    sl_err failure; /* status SL_OK: none */
} ingest_job;

void ingest_job_destroy(ingest_job *j); /* accepts NULL */

/* The next line that is none of held[count]; *ret NULL: there is none. Takes the lock. */
SL_NODISCARD sl_status queue_take(rag *r, const int64_t *held, size_t count, ingest_job **ret,
                                  sl_err *err);
/* Whether a line is still there. Takes the lock. */
SL_NODISCARD sl_status queue_has(rag *r, int64_t id, bool *ret, sl_err *err);
/* Puts the results of jobs into their collections, in one transaction; those that were replaced,
 * removed or cancelled meanwhile are left out. Takes the lock. */
SL_NODISCARD sl_status queue_finish(rag *r, const rag_model *m, ingest_job *jobs, sl_err *err);
/* Lines for the documents of a collection that are cut as it says, or for all. Inside a write
 * transaction. */
SL_NODISCARD sl_status queue_cut_again(rag *r, int64_t collection, bool all, sl_err *err);

/* ---- ingest.c -------------------------------------------------------------------------------- */

SL_NODISCARD sl_status ingest_open(rag *r, sl_err *err);
SL_NODISCARD sl_status ingest_start(rag *r, int workers, sl_err *err);
void ingest_close(rag *r); /* what is under way stays in the queue */
/* The queue has something new. */
void ingest_wake(rag *r);
/* Waits until a line has left the queue; where nobody else works on it, does so itself. */
SL_NODISCARD sl_status ingest_wait(rag *r, int64_t id, sl_err *err);
/* For tests: between the stages that a document passes. */
void ingest_step(rag *r, int step);

#endif
