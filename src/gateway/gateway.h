/* gateway.h - models that run elsewhere, as backends of the chain: the room's door.
 *
 * So far one kind: a server with OpenAI's /v1/embeddings as an embedding model. */
#ifndef SL_GATEWAY_GATEWAY_H
#define SL_GATEWAY_GATEWAY_H

#include "llm/llm.h"

typedef struct upstream upstream;

/* Copied. */
typedef struct upstream_options {
    const char *name;  /* as callers say it */
    const char *url;   /* "https://api.example.com/v1"; /embeddings is added */
    const char *key;   /* sent as a bearer token; NULL: none */
    const char *model; /* as the upstream calls it; NULL: name */
    int dim;           /* numbers in a vector; another count in an answer is an error */
    int context;       /* tokens it reads of a text; 0: 8,192 */
    const char *query_prefix, *passage_prefix; /* NULL: none */
    int64_t retry_ms; /* pause before the second attempt, doubled before each later one; 0: 500 */
} upstream_options;

/* Starts its threads; nothing is asked of the upstream yet. SL_EINVAL: url or dim. */
SL_NODISCARD sl_status upstream_open(const upstream_options *o, upstream **ret, sl_err *err);
/* Cancels what runs, fails what waits, waits for the threads. Harmless when repeated. */
void upstream_stop(upstream *u);
void upstream_close(upstream *u); /* accepts NULL */
/* Embeds texts and token ids; valid until upstream_close. */
llm_backend upstream_backend(upstream *u);

/* Reads an answer's vectors into out [count, dim] and its count of tokens (0: it does not say).
 * SL_EUPSTREAM: no such answer, or not one vector of dim finite numbers for each text. */
SL_NODISCARD sl_status upstream_read_vectors(sl_span body, size_t count, size_t dim, float *out,
                                             int64_t *ret_tokens, sl_err *err);

#endif
