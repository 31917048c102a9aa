/* rag.h - documents in, cited answers out: the room's door.
 *
 * Retrieval and answers use models through the chain alone, so that any backend serves. All
 * functions may be called from any thread. */
#ifndef SL_RAG_RAG_H
#define SL_RAG_RAG_H

#include "llm/llm.h"
#include "reader/reader.h"

typedef struct rag rag;

/* Zero and NULL mean the default. */
typedef struct rag_options {
    const char *db_path;      /* SQLite file; made if missing */
    llm_chain *chain;         /* borrowed */
    const char *embed_model;  /* default: the first model that embeds */
    const char *chat_model;   /* default: the first model that generates */
    const char *rerank_model; /* orders what was found; default: none */
    int chunk_tokens;         /* target, in tokens of the embedding model; default 180 */
    int overlap_tokens;       /* default 30 */
    int top_k;                /* passages given to the model; default 4 */
    int64_t answer_tokens;    /* default 256 */
    int ingest_workers;       /* threads that read what comes in; 0: whoever waits for a document
                                 takes it in, and nobody what was only submitted */
    reader_options reader;    /* its program is borrowed */
} rag_options;

SL_NODISCARD sl_status rag_open(const rag_options *o, rag **ret, sl_err *err);
void rag_close(rag *r); /* accepts NULL */
/* The threads of ingest_workers, later: whoever opened without them starts them once requests may
 * go through the chain, since there may be documents left from before. Once. */
SL_NODISCARD sl_status rag_start_ingest(rag *r, int workers, sl_err *err);

/* The vtable that the API and the CLI use. Valid until rag_close. */
llm_docs rag_docs(rag *r);

#endif
