/* attention.h - attention of a step over a paged cache, cut into tasks.
 *
 * A sequence's keys are taken in segments of ATTN_SEGMENT positions; the partial results of a
 * query's segments are merged in order. So a decode step over a long context can compute them at
 * once, and gets the bits that a prefill, which walks them one by one, would get. */
#ifndef SL_ENGINE_ATTENTION_H
#define SL_ENGINE_ATTENTION_H

#include "engine/kv.h"
#include "kernels/kernels.h"

#define ATTN_SEGMENT 512 /* positions; a multiple of the keys in a group of KV blocks */
#define ATTN_QUERIES 64  /* in a task */

/* What one member needs. */
typedef struct attn_scratch {
    float *q, *out, *part; /* [ATTN_QUERIES, head_pad] */
    float *scores;
    float max[ATTN_QUERIES], sum[ATTN_QUERIES], part_max[ATTN_QUERIES], part_sum[ATTN_QUERIES];
    int32_t pos[ATTN_QUERIES], first[ATTN_QUERIES];
    const void *blocks[ATTN_SEGMENT / SL_KV_BLOCK_TOKENS];
} attn_scratch;

bool attn_scratch_init(attn_scratch *s, size_t head_pad) SL_NODISCARD;
void attn_scratch_deinit(attn_scratch *s);

/* Queries in s->q, pos, first: n of them in order of position. The blocks' addresses come from
 * block_of, for absolute block numbers. Leaves the normalized result in s->out. */
typedef struct attn_view {
    const kernels *k;
    size_t head_pad;
    float softcap;
    kernels_kv kv;
    const void *(*block_of)(const void *ctx, int32_t block);
    const void *ctx;
} attn_view;

/* Segments that queries with these positions look at: [*from, *to). */
static inline void attn_segments(int32_t first, int32_t last, int *from, int *to)
{
    *from = first / ATTN_SEGMENT;
    *to = last / ATTN_SEGMENT + 1;
}

/* One segment: (out, max, sum) [n] become its partial result. */
void attn_segment(const attn_view *v, attn_scratch *s, int n, int segment, float *out, float *max,
                  float *sum);
/* All segments, merged and normalized, into s->out. */
void attn_whole(const attn_view *v, attn_scratch *s, int n);

#endif
