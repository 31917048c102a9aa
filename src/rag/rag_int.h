/* rag_int.h - what the files of this room share.
 *
 * rag.c opens and adds, schema.c and index.c are the database, embed.c talks to the embedding
 * model, search.c finds passages. How passages become answers is in answer_int.h. */
#ifndef SL_RAG_RAG_INT_H
#define SL_RAG_RAG_INT_H

#include <pthread.h>

#include "rag/chunk.h"
#include "rag/rag.h"
#include "rag/shelf.h"
#include "store/store.h"

#define RAG_DOCUMENT_BYTES_MAX (16 * SL_MIB) /* a long book has 2 MiB */
#define RAG_QUESTION_BYTES_MAX (32 * SL_KIB) /* more is no question */
#define RAG_NAME_BYTES_MAX     512
#define RAG_TOP_K_MAX          64   /* passages for an answer */
#define RAG_SEARCH_MAX         1000 /* passages of a search */
#define RAG_DIM_MAX            65536

/* An embedding model: what a collection is bound to. */
typedef struct rag_model {
    const llm_backend *backend;
    char name[128];
    size_t dim, context_tokens;
} rag_model;

#define RAG_SHELVES 8 /* collections in memory at once */

struct rag {
    rag_options o; /* texts are owned */
    store *db;     /* for writing and for managing */
    store *finder; /* the same file, for searching: searches do not wait for writers. NULL: db */
    /* Under the finder's lock: */
    shelf shelves[RAG_SHELVES];
    uint64_t tick;
    struct ingest *ingest; /* what comes in */
    /* For tests: called between the statements of the transaction that replaces a document (steps
     * below 10), and between the stages that a document passes. */
    void (*on_write)(void *ctx, int step);
    void *on_write_ctx;
    int64_t (*clock_s)(void); /* Unix seconds */
};

/* ---- embed.c ------------------------------------------------------------------------------- */

/* The embedding model of this room; SL_ENOTSUP when the chain has none. */
SL_NODISCARD sl_status rag_embed_model(const rag *r, rag_model *ret, sl_err *err);

typedef struct rag_text {
    const char *heading; /* "" for none */
    const char *text;
    size_t len;
} rag_text;

/* Vectors of length 1 into out[count, m->dim]. cancelled may be NULL. */
SL_NODISCARD sl_status rag_embed(const rag *r, const rag_model *m, const rag_text *texts,
                                 size_t count, atomic_bool *cancelled, float *out, sl_err *err);
/* The same for many passages in the background: in order of length, a few requests under way at
 * once, behind all whom somebody waits for. */
SL_NODISCARD sl_status rag_embed_many(const rag *r, const rag_model *m, const rag_text *texts,
                                      size_t count, atomic_bool *cancelled, float *out,
                                      sl_err *err);

/* The share, 0..1, of the text's tokens that the model does not know; 0 when it cannot tell. */
double rag_unknown_share(const rag_model *m, const char *text, size_t len);

/* Tokens of a text for a backend; an estimate when it cannot tell. */
SL_NODISCARD sl_status rag_count_tokens(const llm_backend *b, const char *text, size_t len,
                                        size_t *ret, sl_err *err);

/* ---- wait.c -------------------------------------------------------------------------------- */

/* A request under way. Set fn and ctx, then start it; what was started must be finished. */
typedef struct rag_flight {
    llm_sink_fn fn;
    void *ctx;
    llm_request *req;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    /* Under lock: */
    bool done;
    llm_usage usage;
    sl_err error; /* status SL_OK: none */
} rag_flight;

/* Takes req; on failure it is gone and nothing is under way. */
SL_NODISCARD sl_status rag_start(const rag *r, llm_request *req, rag_flight *w, sl_err *err);
/* Waits for the end, which a true *cancelled brings near. */
SL_NODISCARD sl_status rag_finish(rag_flight *w, atomic_bool *cancelled, llm_usage *ret_usage,
                                  sl_err *err);
/* Submits req, waits for its end and destroys it in any case. Events go to fn, on the backend's
 * thread, except ERROR, which becomes the result. SL_ECANCELLED when *cancelled turned true. */
SL_NODISCARD sl_status rag_run(const rag *r, llm_request *req, llm_sink_fn fn, void *ctx,
                               atomic_bool *cancelled, llm_usage *ret_usage, sl_err *err);

/* ---- schema.c ------------------------------------------------------------------------------ */

SL_NODISCARD sl_status index_open(rag *r, sl_err *err);

/* ---- index.c ------------------------------------------------------------------------------- */

/* What is stored of a document. NULL texts are "". */
typedef struct index_document {
    const char *collection, *name, *title;
    const char *file_id; /* "file-...", its public id from now on; NULL: it keeps its "doc_..." */
    const char *source;  /* path or URL to show to people */
    const char *type;    /* MIME; NULL: "text/plain" */
    const char *trust;   /* "trusted"; NULL: "untrusted" */
    int64_t pages;       /* 0: the format has none */
    int64_t bytes;       /* of the file as it came; 0: of the text */
    /* As index_update: NULL keeps what the document has, so that none becomes readable for all by
     * being added again; a new one has no attributes and no list. */
    const json_t *attributes, *access;
    sl_span text;
    uint8_t sha256[32];
    char settings[64]; /* chunking; another one cuts anew */
    const rag_model *model;
    const chunk_list *chunks;
    const float *vectors; /* [chunks->count, model->dim] */
} index_document;

/* The collection's id and generation, by its name or "vs_..."; 0 when there is none. SL_ECONFLICT:
 * its vectors are of another model than m (NULL: any). Under the lock. */
SL_NODISCARD sl_status index_collection(rag *r, const char *name, const rag_model *m,
                                        int64_t *ret_id, int64_t *ret_generation, sl_err *err);
/* The same over another connection. */
SL_NODISCARD sl_status index_collection_on(store *db, const char *name, const rag_model *m,
                                           int64_t *ret_id, int64_t *ret_generation, sl_err *err);
/* Makes the collection if there is none, and binds it to m if it has no passages (m NULL: leaves
 * that open). Inside a write transaction. */
SL_NODISCARD sl_status index_make_collection(rag *r, const char *name, const rag_model *m,
                                             int64_t *ret_id, sl_err *err);
/* The document's id by its name or public id; 0 when there is none. Under the lock. */
SL_NODISCARD sl_status index_find(rag *r, int64_t collection, const char *document, int64_t *ret_id,
                                  sl_err *err);
/* Adds the document, or replaces the one of its name (which keeps its id and its time of creation)
 * in one transaction. Takes the lock. */
SL_NODISCARD sl_status index_replace(rag *r, const index_document *d, sl_err *err);
/* The same inside a write transaction of the caller's. */
SL_NODISCARD sl_status index_put(rag *r, const index_document *d, int64_t *ret_document,
                                 sl_err *err);
/* New attributes (object) or a new access list, an array of "user:NAME", "team:NAME", "role:NAME";
 * JSON null: no list, everybody may read it. NULL: the same. Inside a write transaction. */
SL_NODISCARD sl_status index_update(rag *r, int64_t document, const json_t *attributes,
                                    const json_t *access, sl_err *err);
SL_NODISCARD sl_status index_remove(rag *r, const char *collection, const char *name, sl_err *err);
/* With its passages, words and grants; the collection forgets its model with the last one. Inside
 * a write transaction. */
SL_NODISCARD sl_status index_remove_document(rag *r, int64_t collection, int64_t document,
                                             sl_err *err);
/* The text [begin, end) of a stored document; *ret NULL when it has no such place any more. The
 * caller's to sl_free. Takes the lock. */
SL_NODISCARD sl_status index_text(rag *r, int64_t document, int64_t begin, int64_t end, char **ret,
                                  sl_err *err);
SL_NODISCARD sl_status index_list(rag *r, const char *collection, json_t **ret, sl_err *err);

/* SQL: whether the caller may read document `d`, an alias of documents. Parameters 90 to 93 are
 * bound by index_bind_caller; write all others with numbers below them ("?1"), since a plain "?"
 * counts on from the highest. */
#define INDEX_MAY_READ(d)                                                                          \
    "(" d ".restricted = 0 OR ?90 OR EXISTS (SELECT 1 FROM grants WHERE document = " d ".id AND"   \
    " principal IN ('user:' || ?91, 'team:' || ?92, 'role:' || ?93)))"
void index_bind_caller(store_stmt *st, const llm_caller *caller);
/* Whether access is NULL, JSON null or an array of well-formed principals; SL_EINVAL names the
 * first that is not. */
SL_NODISCARD sl_status index_check_access(const json_t *access, sl_err *err);

/* ---- search.c ------------------------------------------------------------------------------ */

typedef struct rag_hit {
    int64_t id, document_id;                     /* of the chunk, of the document */
    char *document, *public_id, *title, *source; /* owned, as all texts */
    char *heading, *text, *trust;
    json_t *attributes; /* object, owned */
    int64_t begin, end, page;
    int64_t parent_begin, parent_end; /* what is read with it */
    double score;                     /* 0..1 */
    double lexical, dense, rerank;    /* BM25, cosine, reranker; NAN: not found by it */
    float *vector;                    /* [dim], owned */
} rag_hit;

typedef struct rag_hits {
    rag_hit *items;
    size_t count;
    size_t dim;
    int64_t embed_ns; /* of the search, for the question's vector */
} rag_hits;

/* The best passages that the caller may read, best first; none when nothing in the collection is
 * about the question. */
SL_NODISCARD sl_status search_run(rag *r, const llm_docs_search *s, rag_hits *ret, sl_err *err);
/* The same for llm_docs_ops.search. */
SL_NODISCARD sl_status search_docs(rag *r, const llm_docs_search *s,
                                   void (*fn)(void *fn_ctx, const llm_passage *passages,
                                              size_t count),
                                   void *fn_ctx, sl_err *err);
void rag_hits_deinit(rag_hits *hits);
/* For qsort: the best first; equal ones by their age. */
int rag_hit_by_score(const void *a, const void *b);
void rag_hit_deinit(rag_hit *h);
/* The hit as the API sees it, borrowed. */
llm_passage search_passage(const rag_hit *h, int32_t number);

/* ---- rerank.c ------------------------------------------------------------------------------ */

/* Whether there is a model that reranks: the one of the configuration, else the first. */
bool rerank_is_there(const rag *r);
/* Gives the first hits, best first, the scores of the reranker and sorts; those beyond its depth
 * stay behind them in their order. Asks the model: under no lock. */
SL_NODISCARD sl_status rerank_hits(const rag *r, const llm_docs_search *s, rag_hits *hits,
                                   sl_err *err);

/* ---- pick.c -------------------------------------------------------------------------------- */

typedef struct pick_rules {
    double threshold; /* least score; < 0: one of the two below is enough */
    double score_min, cosine_min;
    double mmr; /* 0..1: how much being different counts against the score */
    const char *language;
} pick_rules;

/* Leaves the best top_k that are relevant and say something new. hits: best first. */
void pick_hits(rag_hits *hits, size_t top_k, const pick_rules *rules);

/* ---- fuse.c -------------------------------------------------------------------------------- */

typedef struct fuse_item {
    size_t row;
    uint32_t owner; /* its document */
    double lexical; /* BM25; 0: none of the words */
    double dense;   /* cosine */
    double score;   /* 0..1 */
} fuse_item;

/* What the scores of one question are measured by. */
typedef struct fuse_scale {
    llm_docs_mode mode;
    double lexical_best, lexical_bound; /* the highest there is; what no passage reaches */
    double dense_best, dense_mean;      /* over all passages */
    double weight_lexical, weight_dense;
    double unknown; /* share of the question that the embedding model does not know */
} fuse_scale;

/* Scores the items and sorts them, best first; equal scores keep the smaller row first. */
void fuse_items(fuse_item *items, size_t count, const fuse_scale *scale);
/* The weight, 0..1, that vectors have beside words for this question. */
double fuse_weight(const fuse_item *items, size_t count, const fuse_scale *scale);
double fuse_score(const fuse_item *item, const fuse_scale *scale, double weight);

/* ---- answer.c ------------------------------------------------------------------------------ */

SL_NODISCARD sl_status answer_query(rag *r, const llm_docs_query *q, const llm_docs_sink *sink,
                                    sl_err *err);

/* ---- ground.c ------------------------------------------------------------------------------ */

/* llm_docs_ops.submit */
SL_NODISCARD sl_status ground_submit(rag *r, const llm_docs_query *q, llm_request *req,
                                     const llm_sink *sink, sl_err *err);

#endif
