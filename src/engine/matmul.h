/* matmul.h - matrix products of one step, shared out among the team's members. */
#ifndef SL_ENGINE_MATMUL_H
#define SL_ENGINE_MATMUL_H

#include "engine/weights.h"

#define MATMUL_TOKENS 64 /* activations of this many tokens stay in the second-level cache */

/* Activations of a step: floats, and their quantized form where some weight wants it. */
typedef struct activations {
    float *f; /* [tokens, stride] */
    size_t stride;
    kernels_q8 *q; /* [tokens, stride / 32] */
} activations;

static inline size_t pad_to(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* count rows of width floats; NULL-able and released with sl_free. False: out of memory. */
bool floats_alloc(float **p, size_t count, size_t width) SL_NODISCARD;
/* Room for tokens rows of cols columns, quantized form included; release f and q with sl_free. */
bool activations_alloc(activations *x, size_t tokens, size_t cols) SL_NODISCARD;

/* One product: out[t][0..rows) = w . x[t] + bias. out rows are out_stride floats apart and have
 * room for whole panels. */
typedef struct matmul_job {
    const weight *w;
    float *out;
    size_t out_stride;
} matmul_job;

/* The member's share of some products over the same activations. */
void matmul_share(const kernels *k, const matmul_job *jobs, int job_count, const activations *x,
                  int tokens, int member, int count);

/* Panel p of w over tokens [begin, end): out[t] for t from begin, at out + (t - begin) * stride. */
void matmul_panel(const kernels *k, const weight *w, int p, const activations *x, int begin,
                  int end, float *out, size_t out_stride);

/* Quantizes row t of x where wanted; cols is a multiple of 32 then. */
static inline void activations_quantize(const kernels *k, const activations *x, int t, int cols)
{
    k->quantize_q8(x->f + (size_t)t * x->stride, (size_t)cols / KERNELS_BLOCK,
                   x->q + (size_t)t * (x->stride / KERNELS_BLOCK));
}

#endif
