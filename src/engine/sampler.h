/* sampler.h - from a row of logits to a token.
 *
 * Order, as in vLLM: what is allowed, bias and penalties, temperature, top-k, typical, top-p,
 * min-p, draw. A choice has a random generator of its own, so a seed gives the same tokens whatever
 * else runs. Work over the whole vocabulary is vectorized, and nothing sorts it: 0.2 ms at most for
 * 151,936 tokens. */
#ifndef SL_ENGINE_SAMPLER_H
#define SL_ENGINE_SAMPLER_H

#include "kernels/kernels.h"
#include "llm/llm.h"

typedef struct sampler_candidate {
    float logit, p;
    int32_t id;
} sampler_candidate;

/* Scratch of one engine; never shared between threads. */
typedef struct sampler {
    const kernels *k;
    int vocab;
    sampler_candidate *candidates; /* [vocab] */
    int32_t *ids;                  /* [vocab] */
    int32_t *counts;               /* [vocab], zero between calls */
    double *block_mass;            /* [vocab / 1024 + 1] */
} sampler;

typedef struct sampler_history {
    const int32_t *tokens; /* prompt, then output */
    int prompt_count, count;
} sampler_history;

/* k is borrowed. */
SL_NODISCARD sl_status sampler_init(sampler *s, const kernels *k, int vocab, sl_err *err);
void sampler_deinit(sampler *s);

/* Picks a token, or -1 when none is possible: all are forbidden. logits [vocab] is changed. rng:
 * state of the choice's generator, advanced unless the pick is greedy. */
int32_t sampler_pick(sampler *s, float *logits, const llm_sampling *o, const sampler_history *h,
                     uint64_t *rng);

/* Starting state for choice number `choice` of a request. */
uint64_t sampler_seed(uint64_t seed, uint32_t choice);

/* How many tokens are at least as likely as id, itself among them. */
int32_t sampler_rank(sampler *s, const float *logits, int32_t id);

/* log(sum(exp(logits))), so that a token's log-probability is its logit less this. */
float sampler_log_sum(const kernels *k, const float *logits, int vocab);

/* The `count` likeliest tokens, best first (ties: lower id first). */
void sampler_top(const float *logits, int vocab, int count, int32_t *ret_ids);

#endif
