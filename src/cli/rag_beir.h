/* rag_beir.h - collections with judgements in BEIR's layout, and trec_eval's measures. Internal to
 * the room. */
#ifndef SL_CLI_RAG_BEIR_H
#define SL_CLI_RAG_BEIR_H

#include <jansson.h>

#include "base/buf.h"

#define BEIR_DEPTH 100 /* documents that are looked at for a query */

typedef struct beir_item {
    char *id, *title, *text; /* title NULL: none */
} beir_item;

typedef struct beir_judgement {
    size_t query, document; /* indexes; document SIZE_MAX: not in the corpus */
    double gain;
} beir_judgement;

typedef struct beir {
    beir_item *documents, *queries;
    size_t document_count, query_count, document_cap, query_cap;
    json_t *document_index, *query_index; /* id to index */
    beir_judgement *judgements;           /* sorted by query */
    size_t judgement_count, judgement_cap;
    size_t unknown_documents; /* judgements of documents that the corpus lacks */
} beir;

/* Reads DIR/corpus.jsonl, DIR/queries.jsonl and DIR/qrels/test.tsv. Errors name file and line. */
SL_NODISCARD sl_status beir_read(const char *dir, beir *ret, sl_err *err);
void beir_deinit(beir *b);

/* Sums over queries until beir_finish divides. */
typedef struct beir_measures {
    double ndcg_10, recall_1, recall_5, recall_10, recall_100, mrr_10;
    size_t count;
} beir_measures;

/* Whether the query has judgements. */
bool beir_has(const beir *b, size_t query);
/* The gain that the query's judgements give a document; 0 when it has none. */
double beir_gain(const beir *b, size_t query, size_t document);
/* Adds one query's result: documents, best first, each once. */
void beir_measure(const beir *b, size_t query, const size_t *documents, size_t count,
                  beir_measures *sums);
void beir_finish(beir_measures *sums);

#endif
