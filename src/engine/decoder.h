/* decoder.h - the decoder forward pass over a paged KV cache.
 *
 * One step takes any mixture of prefill chunks and single decode tokens from many sequences. Not
 * thread-safe: one caller at a time (the engine thread), which becomes member 0 of the team.
 *
 * Batch invariance: the logits of a token depend on its sequence alone - not on what else is in the
 * step, how the prompt was chunked, or how many threads compute. */
#ifndef SL_ENGINE_DECODER_H
#define SL_ENGINE_DECODER_H

#include <stdatomic.h>

#include "engine/kv.h"
#include "engine/weights.h"

typedef struct decoder decoder;

typedef struct decoder_options {
    int tokens_max;     /* in one step */
    int logit_rows_max; /* in one step */
    int context_max;    /* longest sequence */
} decoder_options;

/* A part of one sequence: count tokens that follow the seq->len tokens in the cache. */
typedef struct decoder_run {
    kv_seq *seq; /* has room reserved for len + count; len grows by count */
    const int32_t *tokens;
    int count;
    int logits_from; /* tokens from this index on get a row of logits; count: none */
} decoder_run;

/* w, t and k are borrowed. */
SL_NODISCARD sl_status decoder_create(const weights *w, team *t, const kernels *k,
                                      const decoder_options *o, decoder **ret, sl_err *err);
void decoder_destroy(decoder *d); /* accepts NULL */

/* The shape of the KV pool this model needs. */
kv_shape decoder_kv_shape(const model_params *p, kernels_kv type);

/* Runs one step. Token ids must be below the vocabulary size, the sum of counts at most tokens_max,
 * the logit rows at most logit_rows_max. */
void decoder_step(decoder *d, kv_pool *pool, decoder_run *runs, int run_count);
/* The same, but false as soon as a layer ends and *give_up is true: then nothing was computed. */
bool decoder_try_step(decoder *d, kv_pool *pool, decoder_run *runs, int run_count,
                      const atomic_bool *give_up);

/* The final states, [dim], of the tokens that asked for rows; those of models that embed have no
 * logits. */
const float *decoder_state(const decoder *d, int i);
/* Row i of the last step's logits, [vocab]; rows follow the order of the tokens that asked. */
float *decoder_logits(decoder *d, int i);

#endif
