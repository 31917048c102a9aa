/* lexicon.h - finding passages by words: the tokenizer of the full-text index, and BM25 over it. */
#ifndef SL_RAG_LEXICON_H
#define SL_RAG_LEXICON_H

#include "rag/shelf.h"
#include "rag/words.h"

#define LEXICON_TOKENIZER "sluice"
#define LEXICON_WORDS_MAX 64 /* of a question; more find nothing better */

/* For store_open_words. A text begins with "\1COLLECTION LANGUAGE\2"; its tokens become
 * "COLLECTION:token", so that one table serves all collections and their lists stay apart. */
extern const store_tokenizer lexicon_tokenizer;

/* The length of a passage as it is stored, at least 1. */
int64_t lexicon_length(words *w, const char *language, const char *heading, const char *text,
                       size_t len);

/* The words of a question as the index has them, each once. */
typedef struct lexicon_query {
    char *tokens[LEXICON_WORDS_MAX]; /* "COLLECTION:token", owned */
    double weights[LEXICON_WORDS_MAX];
    size_t count;
} lexicon_query;

/* Without stop words and what every question says, unless there is nothing else. */
SL_NODISCARD sl_status lexicon_parse(int64_t collection, const char *language, const char *question,
                                     lexicon_query *ret, sl_err *err);
void lexicon_query_deinit(lexicon_query *q);

/* BM25 of the passages that have words of the question. */
typedef struct lexicon_scores {
    float *scores;  /* [rows]; 0: has none of them */
    uint32_t *rows; /* [count] those that have some, in no order */
    size_t count, cap;
    double best;  /* the highest */
    double bound; /* above what any passage can reach: 0 when the question has no words */
} lexicon_scores;

/* Statistics are of the rows in the view alone: what the caller may not read changes no score. Long
 * lists are kept on the shelf. */
SL_NODISCARD sl_status lexicon_score(store *db, shelf *s, const shelf_view *v,
                                     const lexicon_query *q, lexicon_scores *ret, sl_err *err);
void lexicon_scores_deinit(lexicon_scores *s);

#endif
