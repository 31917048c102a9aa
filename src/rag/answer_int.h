/* answer_int.h - from found passages to a checked answer: what the answering files share.
 *
 * evidence.c rewrites, searches and packs; pack.c chooses what of the documents is read; prompt.c
 * writes it for the model; reply.c passes on what the model says, with cite.c's filter over its
 * markers; answer.c answers a question, ground.c a chat request. */
#ifndef SL_RAG_ANSWER_INT_H
#define SL_RAG_ANSWER_INT_H

#include "rag/rag_int.h"

/* ---- pack.c -------------------------------------------------------------------------------- */

/* What the model reads of one document in one piece: a section, or a part of one. */
typedef struct pack_block {
    size_t hit;         /* the best one in it */
    int64_t begin, end; /* in the document's text */
    char *text;         /* [end - begin], and a NUL behind it */
    size_t tokens;
} pack_block;

typedef struct pack {
    pack_block items[RAG_TOP_K_MAX]; /* best first: the marker [n] is items[n - 1] */
    size_t count;
    size_t left_out[RAG_TOP_K_MAX]; /* hits for which there was no room, best first */
    size_t left_count;
} pack;

typedef struct pack_options {
    size_t budget;              /* tokens of all blocks together */
    size_t block_tokens;        /* what a block costs besides its text */
    const char *const *parents; /* [hits->count] text of each hit's parent span; NULL: none */
    sl_status (*count)(void *ctx, const char *text, size_t len, size_t *ret, sl_err *err);
    void *ctx;
} pack_options;

/* Packs whole sections while they fit and fragments after that; hits that overlap share a block.
 * The best hit always gets a place: cut behind a sentence if it must. Release with pack_deinit. */
SL_NODISCARD sl_status pack_build(const rag_hits *hits, const pack_options *o, pack *ret,
                                  sl_err *err);
/* Takes the last block out, or cuts the only one behind a sentence; false when that is not worth
 * a prompt any more. */
bool pack_shrink(const rag_hits *hits, pack *p);
void pack_deinit(pack *p);

/* ---- prompt.c ------------------------------------------------------------------------------ */

/* Appends foreign text as data: without control tokens or role labels of any template, delimiters,
 * markers such as [1], or characters that nobody sees. */
void prompt_put_data(sl_buf *out, const char *text, size_t len);

typedef struct prompt_parts {
    const llm_backend *backend;
    const json_t *before; /* the messages before the question, or NULL; a first system message is
                             kept */
    const char *question;
    const rag_hits *hits;
    bool no_markers; /* do not ask for them */
} prompt_parts;

/* Writes req->messages so that they fit in room tokens, by shrinking p as far as needed.
 * SL_ECONTEXT when that does not help. */
SL_NODISCARD sl_status prompt_fit(const prompt_parts *parts, size_t room, pack *p, llm_request *req,
                                  sl_err *err);
/* Tokens that a prompt without passages has. */
SL_NODISCARD sl_status prompt_empty_tokens(const prompt_parts *parts, llm_request *req, size_t *ret,
                                           sl_err *err);
/* A model that goes on with a question or a passage of its own has ended its answer. */
extern const char *prompt_stops[];
extern const size_t prompt_stop_count;

/* ---- cite.c -------------------------------------------------------------------------------- */

/* A marker in what was passed on. */
typedef struct cite_mark {
    int32_t number;
    size_t at, end; /* bytes of the output */
} cite_mark;

/* Passes text on without the markers that name no passage. */
typedef struct cite_filter {
    void (*put)(void *ctx, const char *text, size_t len);
    void *ctx;
    int32_t passage_count; /* 0: no marker is good */
    char held[48];         /* what may become a marker: a space, then "[1, 2" */
    size_t held_len;
    int32_t order[RAG_TOP_K_MAX]; /* passages in the order of their first use, from 1 */
    size_t order_count;
    cite_mark *marks; /* the first SL_CITE_MARKS_MAX; owned */
    size_t mark_count, mark_cap;
    size_t out_len;
    int64_t removed; /* markers that pointed nowhere */
} cite_filter;

void cite_filter_init(cite_filter *f, int32_t passage_count,
                      void (*put)(void *ctx, const char *text, size_t len), void *ctx);
void cite_filter_deinit(cite_filter *f);
void cite_filter_push(cite_filter *f, const char *text, size_t len);
/* Delivers what is held: the text is at its end. */
void cite_filter_end(cite_filter *f);
/* Appends a marker of our own. */
void cite_filter_add(cite_filter *f, int32_t number);

/* The share, 0..1, of the sentence's telling words that the passage has too. */
double cite_overlap(const char *sentence, size_t len, const char *passage, size_t passage_len);
/* The sentence of the answer that a marker at text[at] belongs to: the one it stands in, or the one
 * before when it follows a full stop. */
sl_span cite_statement(const char *text, size_t at);
/* The sentence of the passage that shares most words with the statement; its first when none does.
 * *ret_share: how many, 0..1. */
sl_span cite_quote(sl_span statement, const char *passage, size_t len, double *ret_share);

/* ---- evidence.c ---------------------------------------------------------------------------- */

/* What there is to answer a question from. */
typedef struct evidence {
    rag *r;
    rag_hits hits;
    pack packed;
    char *rewritten; /* the question that was searched for, where it is another; or NULL */
    llm_docs_report report;
} evidence;

/* Rewrites if asked to, and searches. q is complete: no value in it means a default any more.
 * b: the chat model; NULL: it is not asked, nor will it be. */
SL_NODISCARD sl_status evidence_find(rag *r, const llm_docs_query *q, const llm_backend *b,
                                     evidence *ret, sl_err *err);
/* Chooses what is read and writes it into req, whose other members are complete. */
SL_NODISCARD sl_status evidence_write(evidence *e, const llm_docs_query *q, const llm_backend *b,
                                      bool no_markers, llm_request *req, sl_err *err);
void evidence_deinit(evidence *e);
/* The question as it was searched for. */
const char *evidence_question(const evidence *e, const llm_docs_query *q);
/* Block number n, from 1, as the API sees it, borrowed. */
llm_passage evidence_passage(const evidence *e, int32_t n);
/* Passages (after evidence_write: blocks) into out[RAG_TOP_K_MAX]; returns how many. */
size_t evidence_passages(const evidence *e, llm_passage *out);
size_t evidence_left_out(const evidence *e, llm_passage *out);

/* ---- rewrite.c ----------------------------------------------------------------------------- */

/* Whether a question leans on what was said before: short, or with words that point back. */
bool rewrite_is_needed(const char *question);
/* Has the chat model write the question so that it stands alone; *ret is NULL when it did no better
 * than the caller. */
SL_NODISCARD sl_status rewrite_question(const rag *r, const llm_docs_query *q, char **ret,
                                        sl_err *err);

/* ---- reply.c ------------------------------------------------------------------------------- */

/* What one choice says, on its way to the reader. */
typedef struct reply {
    const evidence *e;
    cite_filter filter;
    void (*deliver)(void *ctx, const char *text, size_t len);
    void *ctx;
    sl_buf answer;   /* all of it */
    size_t sent;     /* bytes of it that the reader has */
    size_t sentence; /* where its last sentence begins */
    bool stopped;    /* it began to repeat itself */
    bool may_repeat; /* that is the caller's affair */
    bool attached;   /* its markers are ours: they stand behind the whole answer */
} reply;

void reply_init(reply *p, const evidence *e, bool no_markers,
                void (*deliver)(void *ctx, const char *text, size_t len), void *ctx);
void reply_deinit(reply *p);
/* More text of the model; stopped may be true after it. */
void reply_push(reply *p, const char *text, size_t len);
/* The text is at its end: what is held goes out. An answer without a good marker gets those of the
 * passages that support it; a blank one becomes a quotation. with_vectors: also by likeness of
 * meaning, which asks the embedding model and blocks. */
void reply_end(reply *p, const llm_docs_query *q, bool with_vectors);
/* The citations in the order of their first use, with quotes, into out[RAG_TOP_K_MAX]; borrowed.
 * quotes[RAG_TOP_K_MAX] are the caller's to free with sl_free. */
size_t reply_citations(const reply *p, llm_passage *out, char **quotes);

#endif
