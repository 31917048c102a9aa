/* vectors.h - a set of vectors that can be searched: the narrow door that other stores of vectors
 * come through.
 *
 * Rows are numbered by the caller. Writers have the set alone; any number of searches may go on at
 * once while nobody writes. */
#ifndef SL_RAG_VECTORS_H
#define SL_RAG_VECTORS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct vector_hit {
    size_t row;
    float score; /* cosine, perhaps not exact */
} vector_hit;

typedef struct vectors_ops {
    const char *name;
    void (*destroy)(void *ctx);
    /* Puts a vector of length 1 into a row: one there is, or the next one. */
    sl_status (*put)(void *ctx, size_t row, const float *v, sl_err *err);
    /* Row `to` gets what row `from` has; to <= from. */
    sl_status (*move)(void *ctx, size_t from, size_t to, sl_err *err);
    /* Forgets the rows from `count` on. */
    void (*truncate)(void *ctx, size_t count);
    /* The best k of the rows whose bit is set in allowed, best first, into out[k]. *ret_mean: the
     * mean score of all of them. */
    sl_status (*search)(void *ctx, const float *q, const uint64_t *allowed, size_t k,
                        vector_hit *out, size_t *ret_count, double *ret_mean, sl_err *err);
    /* Scores of some rows. */
    sl_status (*score)(void *ctx, const float *q, const size_t *rows, size_t count, float *out,
                       sl_err *err);
} vectors_ops;

typedef struct vector_set {
    const vectors_ops *ops; /* NULL: none */
    void *ctx;
} vector_set;

/* In memory, as bytes with a factor for each row, scanned exactly. Threads are started for large
 * scans only. */
SL_NODISCARD sl_status vectors_memory(size_t dim, vector_set *ret, sl_err *err);
void vectors_destroy(vector_set *v); /* accepts none */

static inline bool vectors_allowed(const uint64_t *allowed, size_t row)
{
    return allowed[row / 64] >> (row % 64) & 1;
}

#endif
