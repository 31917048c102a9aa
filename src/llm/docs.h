/* docs.h - the document service (RAG), as the API and the commands see it. Included by llm.h.
 *
 * A collection holds documents; a document is a text with passages. Objects for management come and
 * go as JSON; what is searched and answered comes as structs. Every question names who asks: a
 * caller learns of a document only if its access list names his user, his team or his role, or if
 * it has none; an admin sees all. caller NULL is everybody, where keys are off. */
#ifndef SL_LLM_DOCS_H
#define SL_LLM_DOCS_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "llm/caller.h"
#include "llm/trace.h"

struct llm_usage;
struct llm_request;
struct llm_sink;

/* ---- collections ----------------------------------------------------------------------------- */

/* A collection is named by its name or by its id ("vs_..."); NULL: "default", which is made when
 * the first document comes. */
typedef struct llm_collection_spec {
    const char *name; /* NULL: its id; when it is changed: the same */
    const char *description;
    const json_t *metadata;  /* object of texts; NULL: none, or the same */
    int64_t expires_after_s; /* after its last use; 0: never, -1: the same */
    const json_t *settings;  /* what differs from the defaults, or NULL: {"chunk_tokens",
        "overlap_tokens","weight_lexical","weight_dense","threshold","mmr","language"}, null: the
        default again; chunking or a language that changes cuts and embeds the documents anew, the
        old passages answer until then */
} llm_collection_spec;

/* One page of a list; the newest first unless ascending. */
typedef struct llm_docs_page {
    const char *after, *before; /* ids, or NULL */
    int limit;                  /* 0: 20 */
    bool ascending;
    const char
        *status;       /* of documents: "in_progress", "completed", "failed", "cancelled"; NULL: all
                        */
    const char *batch; /* of documents: those of a batch; NULL: all */
} llm_docs_page;

/* ---- documents ------------------------------------------------------------------------------- */

typedef struct llm_document_spec {
    const char *collection;
    const char *name;         /* "handbook.pdf"; the one of this name is replaced */
    const char *file_id;      /* "file-...", where it comes from the file store, or NULL */
    const char *source;       /* path or URL to show to people, or NULL */
    sl_span bytes;            /* the file as it came, in any format that there is a reader for */
    const json_t *attributes; /* object of at most 16 texts, numbers and booleans, or NULL */
    const json_t *access;     /* array of "user:NAME", "team:NAME", "role:NAME"; NULL: none, or the
                                 one it has */
    const char *trust;        /* "trusted" or "untrusted" (NULL): shown beside it in prompts */
    int chunk_tokens, overlap_tokens; /* 0: the collection's */
    llm_caller *caller;               /* who adds it, borrowed; or NULL */
} llm_document_spec;

/* ---- finding --------------------------------------------------------------------------------- */

typedef enum llm_docs_mode {
    LLM_DOCS_BEST,    /* reranked where a reranker is configured, else fused */
    LLM_DOCS_LEXICAL, /* words (BM25) */
    LLM_DOCS_DENSE,   /* vectors */
    LLM_DOCS_FUSED,
    LLM_DOCS_RERANKED, /* SL_ENOTSUP without a reranker */
    LLM_DOCS_MODE_COUNT
} llm_docs_mode;

typedef struct llm_docs_search {
    const char *collection;
    const char *question;
    int32_t top_k; /* 0: the default */
    llm_docs_mode mode;
    const json_t *filters;  /* OpenAI's comparison and compound filters over attributes, or NULL */
    double threshold;       /* least score, 0..1, of what is relevant; < 0: the collection's */
    bool all;               /* give the best top_k, also when nothing is relevant, and near
                               duplicates too: for measuring */
    llm_caller *caller;     /* who asks, borrowed; or NULL */
    atomic_bool *cancelled; /* or NULL; polled */
} llm_docs_search;

/* One retrieved passage. Everything is valid during the callback only. */
typedef struct llm_passage {
    int32_t number;          /* the marker [number] in the answer, from 1 */
    const char *document;    /* its name */
    const char *document_id; /* "file-..." or "doc_..." */
    const char *title, *source;
    const char *text;    /* the passage */
    int64_t begin, end;  /* byte span in the document's text */
    int64_t page;        /* from 1; 0: the format has no pages */
    const char *heading; /* heading path, "A > B", or "" */
    const char *trust;   /* "trusted", "untrusted" */
    const char *quote;   /* citations: the sentence of the passage that supports the answer, or
                            NULL */
    int64_t quote_begin, quote_end; /* byte span of quote in the document's text */
    const json_t *attributes;       /* object */
    double score;                   /* 0..1, higher is better */
    double lexical, dense, rerank;  /* BM25, cosine, reranker; NAN: not found by it */
} llm_passage;

/* ---- answering ------------------------------------------------------------------------------- */

/* How an answer came about. */
typedef struct llm_docs_report {
    const char *question;                    /* that was searched for */
    bool is_rewritten;                       /* it is not the caller's */
    bool found_nothing;                      /* nothing relevant: the model was not asked */
    const char *language;                    /* of the question, "en" */
    int64_t rewrite_ns, embed_ns, search_ns; /* 0: not done */
    int64_t first_token_ns, total_ns;        /* from the beginning; 0: no token */
    int64_t removed_markers;                 /* pointed to no passage */
} llm_docs_report;

/* Receives an answer over documents: first all passages, then the text as it is generated, then
 * the citations that the text really made (passages by number), then done. Any may be NULL. */
typedef struct llm_docs_sink {
    void (*on_passages)(void *ctx, const llm_passage *passages, size_t count);
    void (*on_delta)(void *ctx, const char *text, size_t len);
    void (*on_citation)(void *ctx, const llm_passage *passage);
    void (*on_done)(void *ctx, sl_status status, const sl_err *err, const struct llm_usage *usage);
    void *ctx;
    /* Before on_passages: what is really searched for, where a follow-up was rewritten. */
    void (*on_rewrite)(void *ctx, const char *question);
    /* Before on_passages: found, but left out of the prompt for want of room. */
    void (*on_left_out)(void *ctx, const llm_passage *passages, size_t count);
    /* Right before on_done of a good answer. */
    void (*on_report)(void *ctx, const llm_docs_report *report);
} llm_docs_sink;

typedef struct llm_docs_query {
    const char *collection;
    const char *question;
    const char *model;  /* NULL: the default chat model */
    int32_t top_k;      /* 0: the default */
    int64_t max_tokens; /* 0: the default */
    float temperature;
    bool search_only;       /* no answer, only passages */
    llm_caller *caller;     /* who asks, borrowed; or NULL */
    const char *request_id; /* for logs and the ledger; NULL: a fresh one */
    const char *route;      /* it came by, for the ledger; static, or NULL */
    llm_trace trace;
    atomic_bool *cancelled; /* or NULL; polled */
    llm_docs_mode mode;
    const json_t *filters;  /* as llm_docs_search */
    const json_t *messages; /* the conversation before the question, OpenAI-shaped, or NULL */
    bool rewrite;           /* make a follow-up stand alone, with messages */
    double threshold;       /* as llm_docs_search; 0 is the collection's too */
    bool no_citations;      /* submit: the answer has no markers */
} llm_docs_query;

/* A marker in an answer. */
typedef struct llm_docs_mark {
    int32_t number;      /* of the passage */
    int64_t begin, end;  /* characters of the answer */
    int64_t byte, bytes; /* the same in bytes: where, and how many */
} llm_docs_mark;

/* What an answer within a chat rests on; comes with its LLM_EV_FINISH. */
typedef struct llm_grounds {
    const char *collection;
    const llm_docs_report *report; /* first_token_ns and total_ns are 0 */
    const llm_passage *passages;   /* that the model read */
    size_t passage_count;
    const llm_passage *citations; /* of those, what the answer cites; with quotes */
    size_t citation_count;
    const llm_passage *left_out; /* found, but there was no room */
    size_t left_out_count;
    const llm_docs_mark *marks; /* in order */
    size_t mark_count;
} llm_grounds;

/* What a chat request says about documents; in the request's arena. */
typedef struct llm_docs_ask {
    const char *collection;
    int32_t top_k;   /* 0: the default */
    json_t *filters; /* owned by the request, or NULL */
    llm_docs_mode mode;
    bool no_citations, no_rewrite;
} llm_docs_ask;

/* ---- the service ----------------------------------------------------------------------------- */

/* All block; any thread. *ret is the caller's. SL_ENOTFOUND: there is no such thing, or it is not
 * for this caller. A member may be NULL: SL_ENOTSUP to whoever asks. */
typedef struct llm_docs_ops {
    /* Adds or replaces one document (text or Markdown). Atomic: on failure the old version stays.
     * Blocks until it is searchable. *ret_chunks: passages it was cut into. */
    sl_status (*add)(void *ctx, const char *collection, const char *name, sl_span text,
                     int64_t *ret_chunks, sl_err *err);
    sl_status (*remove)(void *ctx, const char *collection, const char *name, sl_err *err);
    /* JSON array of {"name","bytes","chunks","updated"}; *ret is the caller's. */
    sl_status (*list)(void *ctx, const char *collection, json_t **ret, sl_err *err);
    /* Answers. Retrieval runs on the calling thread; deltas come from the backend's thread; returns
     * after on_done was called (SL_OK), or without any callback (failure). */
    sl_status (*query)(void *ctx, const llm_docs_query *q, const llm_docs_sink *sink, sl_err *err);

    /* The best passages, best first, in one call of fn (also with none). */
    sl_status (*search)(void *ctx, const llm_docs_search *s,
                        void (*fn)(void *fn_ctx, const llm_passage *passages, size_t count),
                        void *fn_ctx, sl_err *err);

    /* Collections: {"id","name","description","created_at","last_active_at","expires_after_s",
     * "expires_at","metadata","settings","model","dim","documents","chunks","bytes",
     * "file_counts":{"in_progress","completed","failed","cancelled","total"}}; counts are of what
     * the caller may see. */
    sl_status (*collection_create)(void *ctx, const llm_caller *who,
                                   const llm_collection_spec *spec, json_t **ret, sl_err *err);
    sl_status (*collection_update)(void *ctx, const llm_caller *who, const char *collection,
                                   const llm_collection_spec *spec, json_t **ret, sl_err *err);
    sl_status (*collection_get)(void *ctx, const llm_caller *who, const char *collection,
                                json_t **ret, sl_err *err);
    /* {"data":[...],"has_more"} */
    sl_status (*collection_list)(void *ctx, const llm_caller *who, const llm_docs_page *page,
                                 json_t **ret, sl_err *err);
    sl_status (*collection_remove)(void *ctx, const llm_caller *who, const char *collection,
                                   sl_err *err);

    /* Documents: {"id","name","collection_id","status","error":null|{"code","message"},"bytes",
     * "chunks","type","pages","title","source","trust","attributes","access","created_at",
     * "updated_at","batch_id"}. A document is named by its id or its name. */
    /* Takes the bytes and reads, cuts and embeds them in the background: kept over a restart once
     * this has returned. While that goes on the old version answers. batch: the document joins it;
     * NULL: none. */
    sl_status (*document_submit)(void *ctx, const llm_document_spec *spec, const char *batch,
                                 json_t **ret, sl_err *err);
    /* The same, and waits for its end; a document that cannot be read is SL_OK with status
     * "failed". */
    sl_status (*document_add)(void *ctx, const llm_document_spec *spec, json_t **ret, sl_err *err);
    sl_status (*document_get)(void *ctx, const llm_caller *who, const char *collection,
                              const char *document, json_t **ret, sl_err *err);
    sl_status (*document_list)(void *ctx, const llm_caller *who, const char *collection,
                               const llm_docs_page *page, json_t **ret, sl_err *err);
    /* Appends the text that passages are spans of. */
    sl_status (*document_text)(void *ctx, const llm_caller *who, const char *collection,
                               const char *document, sl_buf *out, sl_err *err);
    /* JSON array of {"number" (from 1),"begin","end","page","heading","text"}, in the order of the
     * document. */
    sl_status (*document_passages)(void *ctx, const llm_caller *who, const char *collection,
                                   const char *document, json_t **ret, sl_err *err);
    /* attributes, access: NULL: the same. */
    sl_status (*document_update)(void *ctx, const llm_caller *who, const char *collection,
                                 const char *document, const json_t *attributes,
                                 const json_t *access, json_t **ret, sl_err *err);
    sl_status (*document_remove)(void *ctx, const llm_caller *who, const char *collection,
                                 const char *document, sl_err *err);

    /* Batches: {"id":"vsfb_...","collection_id","created_at","status":"in_progress"|"completed"|
     * "cancelled"|"failed","file_counts":{...}} */
    sl_status (*batch_create)(void *ctx, const llm_caller *who, const char *collection,
                              json_t **ret, sl_err *err);
    sl_status (*batch_get)(void *ctx, const llm_caller *who, const char *collection,
                           const char *batch, json_t **ret, sl_err *err);
    sl_status (*batch_cancel)(void *ctx, const llm_caller *who, const char *collection,
                              const char *batch, json_t **ret, sl_err *err);

    /* Submits a chat request, as llm_chain_submit would, whose last user message is the question:
     * passages are found on the calling thread, put into its messages, and the markers in what the
     * model says are checked. Of q: collection, top_k, mode, filters, rewrite, threshold,
     * no_citations, caller. Where nothing relevant is found the sink gets the whole answer before
     * this returns. */
    sl_status (*submit)(void *ctx, const llm_docs_query *q, struct llm_request *req,
                        const struct llm_sink *sink, sl_err *err);
} llm_docs_ops;

typedef struct llm_docs {
    const llm_docs_ops *ops; /* NULL: no document service */
    void *ctx;
} llm_docs;

#endif
