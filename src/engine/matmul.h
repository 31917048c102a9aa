/* matmul.h - matrix products of one step, shared out among the team's members.
 *
 * Work is a list of panels, taken by whoever is free (guided self-scheduling: large shares first,
 * small ones at the end), so that a member that loses its processor for a while delays nobody for
 * long. A panel's values do not depend on who computes it. */
#ifndef SL_ENGINE_MATMUL_H
#define SL_ENGINE_MATMUL_H

#include <stdatomic.h>

#include "engine/weights.h"

/* Activations of a step: floats, and the forms that weights want them in. A buffer that nobody
 * wants is NULL. */
typedef struct activations {
    float *f; /* [tokens, stride] */
    size_t stride;
    kernels_q8 *q; /* [tokens, stride / 32] */
    uint16_t *b;   /* [tokens, stride] bf16 */
} activations;

static inline size_t pad_to(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* count rows of width floats; NULL-able and released with sl_free. False: out of memory. */
bool floats_alloc(float **p, size_t count, size_t width) SL_NODISCARD;

/* A set of kinds of activations: bit i is kernels_act i. */
static inline unsigned act_bit(const kernels *k, const weight *w)
{
    return w->data ? 1u << k->act[w->fmt] : 0;
}

/* Room for tokens rows of cols columns of the kinds; floats always with `floats`. Release with
 * activations_free. */
bool activations_alloc(activations *x, size_t tokens, size_t cols, unsigned kinds,
                       bool floats) SL_NODISCARD;
void activations_free(activations *x);

/* Makes the other kinds of row t from its floats f [cols], which need not be x->f. cols is a
 * multiple of 32 where a weight wants int8. */
void activations_convert(const kernels *k, const activations *x, int t, const float *f, int col,
                         int cols, unsigned kinds);

/* What members share while they go through a list of items. */
typedef struct work {
    atomic_int next;
} work;

/* Takes the next items of `total`, at least min (the end excepted): [*begin, *end). False when
 * none is left. */
static inline bool work_take(work *w, int total, int min, int members, int *begin, int *end)
{
    int at = atomic_load_explicit(&w->next, memory_order_relaxed), count;

    do {
        if (at >= total)
            return false;
        count = (total - at) / (2 * members);
        count = count > min ? count : min;
        count = count < total - at ? count : total - at;
    } while (!atomic_compare_exchange_weak_explicit(&w->next, &at, at + count, memory_order_relaxed,
                                                    memory_order_relaxed));
    *begin = at;
    *end = at + count;
    return true;
}

/* One product: out[t][0..rows) = w . x[t] + bias. out rows are out_stride floats apart and have
 * room for whole panels. */
typedef struct matmul_job {
    const weight *w;
    float *out;
    size_t out_stride;
} matmul_job;

/* What a member brings along. */
typedef struct matmul_ctx {
    const kernels *k;
    void *scratch; /* kernels_scratch_bytes() of the widest weight */
    int members;
} matmul_ctx;

/* The member's share of some products over the same activations. */
void matmul_share(const matmul_ctx *m, work *next, const matmul_job *jobs, int job_count,
                  const activations *x, int tokens);

/* Panel p of w over tokens [begin, end): out[t] for t from begin, at out + (t - begin) * stride. */
void matmul_panel(const matmul_ctx *m, const weight *w, int p, const activations *x, int begin,
                  int end, float *out, size_t out_stride);

/* Tokens whose activations of cols columns fill half the second-level cache. */
int matmul_token_block(const kernels *k, const weight *w, int tokens);
/* Panels that are worth taking at once. */
int matmul_chunk(const weight *w);

#endif
