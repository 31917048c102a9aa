/* attention.c - segments, and their merging. */
#include "engine/attention.h"

#include "base/mem.h"
#include "engine/matmul.h"

bool attn_scratch_init(attn_scratch *s, size_t head_pad)
{
    return floats_alloc(&s->q, ATTN_QUERIES, head_pad) &&
           floats_alloc(&s->out, ATTN_QUERIES, head_pad) &&
           floats_alloc(&s->part, ATTN_QUERIES, head_pad) &&
           floats_alloc(&s->scores, kernels_attn_scratch(ATTN_QUERIES, head_pad), 1);
}

void attn_scratch_deinit(attn_scratch *s)
{
    sl_free(s->q);
    sl_free(s->out);
    sl_free(s->part);
    sl_free(s->scores);
}

void attn_segment(const attn_view *v, attn_scratch *s, int n, int segment, float *out, float *max,
                  float *sum)
{
    const int group = KERNELS_KV_GROUP * KERNELS_KV_TOKENS;
    int begin = segment * ATTN_SEGMENT, last = begin + ATTN_SEGMENT - 1, from = begin, count;
    int32_t least = s->first[0], most = s->pos[0];

    for (int i = 1; i < n; i++) {
        least = SL_MIN(least, s->first[i]);
        most = SL_MAX(most, s->pos[i]);
    }
    from = SL_MAX(from, least / group * group);
    last = SL_MIN(last, most);
    count = last < from ? 0 : last / KERNELS_KV_TOKENS - from / KERNELS_KV_TOKENS + 1;
    for (int b = 0; b < count; b++)
        s->blocks[b] = v->block_of(v->ctx, from / KERNELS_KV_TOKENS + b);
    v->k->attn[v->kv](&(kernels_attn){ .q = s->q,
                                       .out = out,
                                       .max = max,
                                       .sum = sum,
                                       .pos = s->pos,
                                       .first = s->first,
                                       .query_count = (size_t)n,
                                       .head_dim = v->head_pad,
                                       .blocks = s->blocks,
                                       .block_first = from / KERNELS_KV_TOKENS,
                                       .block_count = count,
                                       .softcap = v->softcap,
                                       .scratch = s->scores });
}

void attn_whole(const attn_view *v, attn_scratch *s, int n)
{
    int32_t least = s->first[0];
    int from, to;

    for (int i = 1; i < n; i++)
        least = SL_MIN(least, s->first[i]);
    attn_segments(least, s->pos[n - 1], &from, &to);
    attn_segment(v, s, n, from, s->out, s->max, s->sum);
    for (int seg = from + 1; seg < to; seg++) {
        attn_segment(v, s, n, seg, s->part, s->part_max, s->part_sum);
        for (int i = 0; i < n; i++)
            v->k->attn_merge(s->out + (size_t)i * v->head_pad, &s->max[i], &s->sum[i],
                             s->part + (size_t)i * v->head_pad, s->part_max[i], s->part_sum[i],
                             v->head_pad);
    }
    for (int i = 0; i < n; i++)
        v->k->scale(s->out + (size_t)i * v->head_pad, 1.0f / s->sum[i], v->head_pad);
}
