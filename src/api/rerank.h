/* rerank.h - scoring documents for a query without HTTP: bodies to requests, events to bytes.
 * Internal to the room.
 *
 * Three shapes: that of Jina, Cohere and vLLM (/v1/rerank), that of Hugging Face's Text Embeddings
 * Inference (/rerank with "texts"), and vLLM's /score. docs/rerank.md describes them. */
#ifndef SL_API_RERANK_H
#define SL_API_RERANK_H

#include "api/openai.h"

typedef enum rerank_form {
    RERANK_LIST,  /* {"results":[{"index","document","relevance_score"}]}, best first */
    RERANK_TEI,   /* [{"index","score","text"}], best first */
    RERANK_SCORE, /* {"data":[{"index","object","score"}]}, in the order of the texts */
    RERANK_FORM_COUNT
} rerank_form;

/* A parsed body and how its answer is to be written. */
typedef struct rerank_call {
    llm_request *req; /* owned until handed on */
    rerank_form form;
    const json_t *first, *second; /* query and documents; borrowed from the body while it is read */
    int64_t top_n;                /* 0: all */
    bool texts;                   /* are told with the scores */
    bool raw;                     /* logits instead of scores */
} rerank_call;

/* Whose shape a body of /rerank has. */
rerank_form rerank_form_of(const char *body, size_t len);
/* Parses and checks a body. Same contract as openai_parse. */
SL_NODISCARD sl_status rerank_parse(rerank_form form, const char *body, size_t len,
                                    rerank_call *ret, openai_error *err);
extern const body_schema rerank_body, rerank_tei_body, rerank_score_body;
/* {"error":"...","error_type":"Validation"} */
extern const api_dialect rerank_tei_dialect;

/* Takes no part of call; call->req must outlive the encoder's last event. NULL: out of memory. */
encoder *rerank_encoder_create(const rerank_call *call, const char *model, int64_t created_s);

#endif
