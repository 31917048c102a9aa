/* simd_body.h - the float kernels, written once for vectors of any width.
 *
 * Included by the file of each instruction set, which defines before:
 *
 *   VF_N                  floats in a vector
 *   vf, vi                GCC vector types of VF_N floats and int32s
 *   ATTN_TILE             queries that share a loaded key or value; ATTN_CASES: TILE_CASES of it
 *   ATTN_PAIR             KV blocks whose scores are computed together
 *   vf_load_f16(p)        VF_N halves to floats
 *   vf_store_f16(p, v)    and back, to nearest even
 *   vf_load_i8(p)         VF_N bytes to floats
 *   vf_fma(a, b, c)       a * b + c, rounded once
 *   vf_max_of(v)          the largest lane
 *   vf_sum(v)             the sum of the lanes, always in the same order
 *   vf_scale2(v, n)       v * 2^n for whole n from -126 to 0
 *   vf_at_least(v, x)     bit i: v[i] >= x
 *   SIMD_NAME(x)          x with the instruction set's suffix
 *
 * Every query, row and token is computed by the same operations in the same order whatever
 * surrounds it: tiles only interleave independent chains. */

#include <math.h>

#include "kernels/simd_exp.h"

#define VF_BLOCK   (KERNELS_KV_TOKENS / VF_N) /* vectors in 16 floats */
#define GROUP_KEYS (KERNELS_KV_TOKENS * KERNELS_KV_GROUP)

static void SIMD_NAME(add)(float *y, const float *x, size_t n)
{
    size_t i = 0;

    for (; i + VF_N <= n; i += VF_N)
        vf_store(y + i, vf_load(y + i) + vf_load(x + i));
    for (; i < n; i++)
        y[i] += x[i];
}

static void SIMD_NAME(scale)(float *y, float by, size_t n)
{
    size_t i = 0;

    for (; i + VF_N <= n; i += VF_N)
        vf_store(y + i, vf_load(y + i) * vf_set(by));
    for (; i < n; i++)
        y[i] *= by;
}

static void SIMD_NAME(rmsnorm)(float *y, const float *x, const float *w, size_t n, float eps)
{
    vf acc = { 0 };
    float sum, scale;
    size_t i = 0;

    for (; i + VF_N <= n; i += VF_N) {
        vf v = vf_load(x + i);

        acc = vf_fma(v, v, acc);
    }
    sum = vf_sum(acc);
    for (size_t j = i; j < n; j++)
        sum += x[j] * x[j];
    scale = 1.0f / sqrtf(sum / (float)n + eps);
    for (i = 0; i + VF_N <= n; i += VF_N)
        vf_store(y + i, vf_load(x + i) * vf_set(scale) * vf_load(w + i));
    for (; i < n; i++)
        y[i] = x[i] * scale * w[i];
}

static void SIMD_NAME(layernorm)(float *y, const float *x, const float *w, const float *b, size_t n,
                                 float eps)
{
    vf acc = { 0 };
    float mean, var, scale;
    size_t i = 0;

    for (; i + VF_N <= n; i += VF_N)
        acc += vf_load(x + i);
    mean = vf_sum(acc);
    for (size_t j = i; j < n; j++)
        mean += x[j];
    mean /= (float)n;
    acc = (vf){ 0 };
    for (i = 0; i + VF_N <= n; i += VF_N) {
        vf v = vf_load(x + i) - vf_set(mean);

        acc = vf_fma(v, v, acc);
    }
    var = vf_sum(acc);
    for (size_t j = i; j < n; j++)
        var += (x[j] - mean) * (x[j] - mean);
    scale = 1.0f / sqrtf(var / (float)n + eps);
    for (i = 0; i + VF_N <= n; i += VF_N)
        vf_store(y + i, vf_fma((vf_load(x + i) - vf_set(mean)) * vf_set(scale), vf_load(w + i),
                               vf_load(b + i)));
    for (; i < n; i++)
        y[i] = (x[i] - mean) * scale * w[i] + b[i];
}

/* erf(x) to 1.5e-7: Abramowitz and Stegun 7.1.26. */
static inline vf vf_erf(vf x)
{
    vi sign = (vi)x & (vi)vf_set(-0.0f);
    vf a = (vf)((vi)x & ~(vi)vf_set(-0.0f));
    vf t = vf_set(1.0f) / vf_fma(vf_set(0.3275911f), a, vf_set(1.0f));
    vf p = vf_fma(vf_set(1.061405429f), t, vf_set(-1.453152027f));

    p = vf_fma(p, t, vf_set(1.421413741f));
    p = vf_fma(p, t, vf_set(-0.284496736f));
    p = vf_fma(p, t, vf_set(0.254829592f)) * t;
    p = vf_set(1.0f) - p * vf_exp(-a * a);
    return (vf)((vi)p | sign);
}

/* The tails of the activations go through the same vector code on a padded copy. */
#define SIMD_ACT(name, expr)                                                                       \
    static void SIMD_NAME(name)(float *gate, const float *up, size_t n)                            \
    {                                                                                              \
        for (size_t i = 0; i < n; i += VF_N) {                                                     \
            size_t len = n - i < VF_N ? n - i : VF_N;                                              \
            float g[VF_N] = { 0 }, u[VF_N] = { 0 };                                                \
            vf x, r;                                                                               \
                                                                                                   \
            if (len == VF_N) {                                                                     \
                x = vf_load(gate + i);                                                             \
                r = (expr);                                                                        \
                vf_store(gate + i, up ? r * vf_load(up + i) : r);                                  \
                continue;                                                                          \
            }                                                                                      \
            memcpy(g, gate + i, len * sizeof *g);                                                  \
            if (up)                                                                                \
                memcpy(u, up + i, len * sizeof *u);                                                \
            x = vf_load(g);                                                                        \
            r = (expr);                                                                            \
            vf_store(g, up ? r *vf_load(u) : r);                                                   \
            memcpy(gate + i, g, len * sizeof *g);                                                  \
        }                                                                                          \
    }

SIMD_ACT(silu_mul, x / (vf_set(1.0f) + vf_exp(-x)))
/* x * sigmoid(2 z) is 0.5 x (1 + tanh z). */
SIMD_ACT(gelu_tanh_mul, x / (vf_set(1.0f) + vf_exp(vf_set(-1.595769121605731f) *
                                                   vf_fma(vf_set(0.044715f) * x * x, x, x))))

SIMD_ACT(gelu_erf_mul, vf_set(0.5f) * x * (vf_set(1.0f) + vf_erf(x * vf_set(0.70710678118f))))

static void SIMD_NAME(f32_to_f16)(const float *x, size_t n, uint16_t *out)
{
    size_t i = 0;

    for (; i + VF_N <= n; i += VF_N)
        vf_store_f16(out + i, vf_load(x + i));
    for (; i < n; i++)
        out[i] = f32_f16(x[i]);
}

static void SIMD_NAME(f32_to_bf16)(const float *x, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = f32_bf16(x[i]);
}

/* ---- logits --------------------------------------------------------------------------------- */

static size_t SIMD_NAME(argmax)(const float *x, size_t n)
{
    float best = x[0];
    size_t i = 0;

    if (n >= VF_N) {
        vf top = vf_load(x);

        for (; i + VF_N <= n; i += VF_N) {
            vf v = vf_load(x + i);

            top = vf_select(v > top, v, top);
        }
        best = vf_max_of(top);
    }
    for (; i < n; i++)
        best = x[i] > best ? x[i] : best;
    for (i = 0; i + VF_N <= n; i += VF_N)
        if (vf_at_least(vf_load(x + i), best))
            break;
    while (i + 1 < n && x[i] < best)
        i++;
    return i;
}

/* Floats within runs of 4096, doubles across them. */
static double SIMD_NAME(sum_exp)(const float *x, size_t n, float max, float floor)
{
    double total = 0;
    size_t i = 0;

    while (i + VF_N <= n) {
        size_t end = n - i < 4096 ? n : i + 4096;
        vf sum = { 0 };

        for (; i + VF_N <= end; i += VF_N) {
            vf v = vf_load(x + i);

            sum += vf_select(v >= vf_set(floor), vf_exp(v - vf_set(max)), (vf){ 0 });
        }
        total += (double)vf_sum(sum);
    }
    for (; i < n; i++)
        if (x[i] >= floor)
            total += (double)vf_exp(vf_set(x[i] - max))[0];
    return total;
}

static size_t SIMD_NAME(above)(const float *x, size_t n, float floor, int32_t *ret_idx)
{
    size_t count = 0, i = 0;

    for (; i + VF_N <= n; i += VF_N)
        for (uint32_t bits = vf_at_least(vf_load(x + i), floor); bits; bits &= bits - 1)
            ret_idx[count++] = (int32_t)(i + (size_t)__builtin_ctz(bits));
    for (; i < n; i++)
        if (x[i] >= floor)
            ret_idx[count++] = (int32_t)i;
    return count;
}

/* ---- attention ------------------------------------------------------------------------------
 *
 * Keys are taken in groups of 64 at absolute positions, so that a query meets the same groups in
 * the same order whatever shares its tile; masked keys weigh exactly 0. */

static inline const uint8_t *SIMD_NAME(kv_group)(const void *block, size_t group)
{
    return (const uint8_t *)block + group * KV_Q8_BYTES;
}

/* scores[i][16 b + 0..15] = q[i] . keys of block b, for `tile` queries and `pair` blocks. */
static ALWAYS_INLINE void SIMD_NAME(attn_scores)(const float *q, size_t hd,
                                                 const void *const *blocks, kernels_kv kv,
                                                 float *scores, const int tile, const int pair)
{
    const size_t span = kv == KERNELS_KV_F16 ? hd : KV_Q8_GROUP;

    for (size_t from = 0; from < hd; from += span) {
        const int8_t *bytes[ATTN_PAIR];
        const uint16_t *halves[ATTN_PAIR];
        vf acc[ATTN_TILE][ATTN_PAIR * VF_BLOCK];

        UNROLL for (int b = 0; b < pair; b++)
        {
            const uint8_t *group = SIMD_NAME(kv_group)(blocks[b], from / KV_Q8_GROUP);

            halves[b] = kv == KERNELS_KV_F16 ? blocks[b] : (const void *)group;
            bytes[b] = (const int8_t *)group + 2 * KERNELS_KV_TOKENS;
        }
        UNROLL for (int i = 0; i < tile; i++) UNROLL for (int j = 0; j < pair * VF_BLOCK; j++)
            acc[i][j] = (vf){ 0 };
        for (size_t d = 0; d < span; d++) {
            vf k[ATTN_PAIR * VF_BLOCK];

            UNROLL for (int j = 0; j < pair * VF_BLOCK; j++)
            {
                size_t at = d * KERNELS_KV_TOKENS + (size_t)(j % VF_BLOCK) * VF_N;

                k[j] = kv == KERNELS_KV_F16 ? vf_load_f16(halves[j / VF_BLOCK] + at)
                                            : vf_load_i8(bytes[j / VF_BLOCK] + at);
            }
            UNROLL for (int i = 0; i < tile; i++)
            {
                vf x = vf_set(q[(size_t)i * hd + from + d]);

                UNROLL for (int j = 0; j < pair * VF_BLOCK; j++) acc[i][j] =
                    vf_fma(x, k[j], acc[i][j]);
            }
        }
        UNROLL for (int j = 0; j < pair * VF_BLOCK; j++)
        {
            vf scale = vf_set(1.0f);

            if (kv == KERNELS_KV_Q8_0)
                scale = vf_load_f16(halves[j / VF_BLOCK] + j % VF_BLOCK * VF_N);
            UNROLL for (int i = 0; i < tile; i++)
            {
                float *s = scores + i * GROUP_KEYS + j * VF_N;

                if (kv == KERNELS_KV_F16)
                    vf_store(s, acc[i][j]);
                else
                    vf_store(s,
                             from == 0 ? acc[i][j] * scale : vf_fma(acc[i][j], scale, vf_load(s)));
            }
        }
    }
}

/* Turns one query's scores into weights against the running maximum; rescales what was summed under
 * the old one. base: position of the first key. */
static inline void SIMD_NAME(attn_softmax)(const kernels_attn *a, size_t i, int32_t base,
                                           int blocks, float *s)
{
    const int vectors = blocks * VF_BLOCK;
    const bool whole = base >= a->first[i] && base + vectors * VF_N - 1 <= a->pos[i];
    vf score[KERNELS_KV_GROUP * VF_BLOCK], best = vf_set(a->max[i]), total = { 0 };
    float top;
    vi iota;

    for (int l = 0; l < VF_N; l++)
        iota[l] = l;
    for (int j = 0; j < vectors; j++) {
        score[j] = vf_load(s + j * VF_N);
        if (a->softcap > 0)
            for (int l = 0; l < VF_N; l++)
                score[j][l] = a->softcap * tanhf(score[j][l] / a->softcap);
        if (!whole) {
            vi at = iota + (base + j * VF_N);
            vi seen = (at >= a->first[i]) & (at <= a->pos[i]);

            score[j] = vf_select(seen, score[j], vf_set(KERNELS_MASKED));
        }
        best = vf_select(score[j] > best, score[j], best);
    }
    top = vf_max_of(best);
    if (top > a->max[i]) {
        float shrink = vf_exp(vf_set(a->max[i] - top))[0];

        for (size_t d = 0; d < a->head_dim; d += VF_N)
            vf_store(a->out + i * a->head_dim + d,
                     vf_load(a->out + i * a->head_dim + d) * vf_set(shrink));
        a->sum[i] *= shrink;
        a->max[i] = top;
    }
    for (int j = 0; j < vectors; j++) {
        vf p = vf_exp_weight(score[j] - vf_set(top));

        if (!whole)
            p = vf_select(score[j] == vf_set(KERNELS_MASKED), (vf){ 0 }, p);
        vf_store(s + j * VF_N, p);
        total += p;
    }
    a->sum[i] += vf_sum(total);
}

/* out[i][d..] += weights . values of the group, for `tile` queries and `wide` vectors of a head.
 * p: [tile][GROUP_KEYS]. keys: how many anybody sees; what is behind them may be anything. */
static ALWAYS_INLINE void SIMD_NAME(attn_values)(float *out, size_t hd, const void *const *blocks,
                                                 kernels_kv kv, size_t d, const float *p,
                                                 size_t keys, const int tile, const int wide)
{
    const size_t stride = kv == KERNELS_KV_F16 ? hd : KV_Q8_GROUP;
    vf acc[ATTN_TILE][2];

    UNROLL for (int i = 0; i < tile; i++) UNROLL for (int j = 0; j < wide; j++) acc[i][j] =
        vf_load(out + (size_t)i * hd + d + (size_t)j * VF_N);
    for (size_t b = 0; b * KERNELS_KV_TOKENS < keys; b++) {
        const uint16_t *halves = (const uint16_t *)blocks[b] + hd * KERNELS_KV_TOKENS + d;
        const int8_t *bytes =
            (const int8_t *)SIMD_NAME(kv_group)(blocks[b], (hd + d) / KV_Q8_GROUP) +
            2 * KERNELS_KV_TOKENS + d % KV_Q8_GROUP;
        size_t end = keys - b * KERNELS_KV_TOKENS;

        end = end < KERNELS_KV_TOKENS ? end : KERNELS_KV_TOKENS;
        for (size_t t = 0; t < end; t++) {
            vf v[2];

            UNROLL for (int j = 0; j < wide; j++) v[j] =
                kv == KERNELS_KV_F16 ? vf_load_f16(halves + t * stride + (size_t)j * VF_N)
                                     : vf_load_i8(bytes + t * stride + (size_t)j * VF_N);
            UNROLL for (int i = 0; i < tile; i++)
            {
                vf w = vf_set(p[(size_t)i * GROUP_KEYS + b * KERNELS_KV_TOKENS + t]);

                UNROLL for (int j = 0; j < wide; j++) acc[i][j] = vf_fma(w, v[j], acc[i][j]);
            }
        }
    }
    UNROLL for (int i = 0; i < tile; i++) UNROLL for (int j = 0; j < wide; j++)
        vf_store(out + (size_t)i * hd + d + (size_t)j * VF_N, acc[i][j]);
}

/* Weights times the scales of the values' group that holds element d. */
static inline void SIMD_NAME(scale_weights)(const void *const *blocks, size_t hd, size_t d,
                                            size_t keys, const float *p, int tile, float *out)
{
    for (size_t b = 0; b * KERNELS_KV_TOKENS < keys; b++)
        for (size_t j = 0; j < VF_BLOCK; j++) {
            size_t at = b * KERNELS_KV_TOKENS + j * VF_N;
            vf scale = vf_load_f16((const uint16_t *)(const void *)SIMD_NAME(kv_group)(
                                       blocks[b], (hd + d) / KV_Q8_GROUP) +
                                   j * VF_N);

            for (int i = 0; i < tile; i++)
                vf_store(out + i * GROUP_KEYS + at, vf_load(p + i * GROUP_KEYS + at) * scale);
        }
}

/* One group of keys for `tile` queries, from query i on. */
static ALWAYS_INLINE void SIMD_NAME(attn_tile)(const kernels_attn *a, kernels_kv kv, size_t i,
                                               const void *const *blocks, int32_t base, int count,
                                               const int tile)
{
    size_t hd = a->head_dim, keys, d = 0;
    const float *q = a->q + i * hd;
    float *out = a->out + i * hd, *p = a->scratch + i * GROUP_KEYS;
    float scaled[ATTN_TILE * GROUP_KEYS];
    int32_t last = a->pos[i];
    int b = 0;

    for (; b + ATTN_PAIR <= count; b += ATTN_PAIR)
        SIMD_NAME(attn_scores)
    (q, hd, blocks + b, kv, p + b * KERNELS_KV_TOKENS, tile, ATTN_PAIR);
    for (; b < count; b++)
        SIMD_NAME(attn_scores)(q, hd, blocks + b, kv, p + b * KERNELS_KV_TOKENS, tile, 1);
    for (int t = 0; t < tile; t++) {
        SIMD_NAME(attn_softmax)(a, i + (size_t)t, base, count, p + t * GROUP_KEYS);
        last = a->pos[i + (size_t)t] > last ? a->pos[i + (size_t)t] : last;
    }
    if (last < base)
        return;
    keys = (size_t)(last - base) + 1;
    keys = keys < (size_t)count * KERNELS_KV_TOKENS ? keys : (size_t)count * KERNELS_KV_TOKENS;
    for (; d + 2 * VF_N <= hd; d += 2 * VF_N) {
        if (kv == KERNELS_KV_Q8_0 && d % KV_Q8_GROUP == 0)
            SIMD_NAME(scale_weights)(blocks, hd, d, keys, p, tile, scaled);
        SIMD_NAME(attn_values)
        (out, hd, blocks, kv, d, kv == KERNELS_KV_F16 ? p : scaled, keys, tile, 2);
    }
    if (d < hd) /* 16 elements are left, in f16 only */
        SIMD_NAME(attn_values)(out, hd, blocks, kv, d, p, keys, tile, 1);
}

static ALWAYS_INLINE void SIMD_NAME(attn_group)(const kernels_attn *a, kernels_kv kv,
                                                const void *const *blocks, int32_t base, int count)
{
    size_t i = 0;

    for (size_t tiles = (a->query_count + ATTN_TILE - 1) / ATTN_TILE; tiles > 0; tiles--) {
        size_t n = (a->query_count - i + tiles - 1) / tiles;

#define ATTN(size) SIMD_NAME(attn_tile)(a, kv, i, blocks, base, count, size)
        switch (n) {
            ATTN_CASES(ATTN)
        }
#undef ATTN
        i += n;
    }
}

static ALWAYS_INLINE void SIMD_NAME(attn)(const kernels_attn *a, kernels_kv kv)
{
    memset(a->out, 0, a->query_count * a->head_dim * sizeof *a->out);
    for (size_t i = 0; i < a->query_count; i++) {
        a->max[i] = KERNELS_MASKED;
        a->sum[i] = 0;
    }
    for (int32_t b = 0; b < a->block_count; b += KERNELS_KV_GROUP) {
        int left = a->block_count - b, count = left < KERNELS_KV_GROUP ? left : KERNELS_KV_GROUP;
        int32_t base = (a->block_first + b) * KERNELS_KV_TOKENS;

        SIMD_NAME(attn_group)(a, kv, a->blocks + b, base, count);
    }
}

static void SIMD_NAME(attn_f16)(const kernels_attn *a)
{
    SIMD_NAME(attn)(a, KERNELS_KV_F16);
}

static void SIMD_NAME(attn_q8_0)(const kernels_attn *a)
{
    SIMD_NAME(attn)(a, KERNELS_KV_Q8_0);
}

static void SIMD_NAME(attn_merge)(float *out, float *max, float *sum, const float *part,
                                  float part_max, float part_sum, size_t hd)
{
    float top = *max > part_max ? *max : part_max;
    vf a = vf_exp(vf_set(*max - top)), b = vf_exp(vf_set(part_max - top));

    for (size_t d = 0; d < hd; d += VF_N)
        vf_store(out + d, vf_fma(vf_load(part + d), b, vf_load(out + d) * a));
    *sum = *sum * a[0] + part_sum * b[0];
    *max = top;
}

static void SIMD_NAME(kv_store_f16)(void *block, size_t hd, size_t slot, const float *key,
                                    const float *value)
{
    uint16_t *f16 = block, half[VF_N];

    for (size_t d = 0; d < hd; d += VF_N) {
        vf_store_f16(half, vf_load(key + d));
        for (size_t i = 0; i < VF_N; i++)
            f16[(d + i) * KERNELS_KV_TOKENS + slot] = half[i];
        vf_store_f16(f16 + (KERNELS_KV_TOKENS + slot) * hd + d, vf_load(value + d));
    }
}

static void SIMD_NAME(simd_init)(kernels *k)
{
    k->f32_to_bf16 = SIMD_NAME(f32_to_bf16);
    k->add = SIMD_NAME(add);
    k->scale = SIMD_NAME(scale);
    k->rmsnorm = SIMD_NAME(rmsnorm);
    k->layernorm = SIMD_NAME(layernorm);
    k->silu_mul = SIMD_NAME(silu_mul);
    k->gelu_tanh_mul = SIMD_NAME(gelu_tanh_mul);
    k->gelu_erf_mul = SIMD_NAME(gelu_erf_mul);
    k->f32_to_f16 = SIMD_NAME(f32_to_f16);
    k->attn[KERNELS_KV_F16] = SIMD_NAME(attn_f16);
    k->attn[KERNELS_KV_Q8_0] = SIMD_NAME(attn_q8_0);
    k->attn_merge = SIMD_NAME(attn_merge);
    k->kv_store[KERNELS_KV_F16] = SIMD_NAME(kv_store_f16);
    k->argmax = SIMD_NAME(argmax);
    k->sum_exp = SIMD_NAME(sum_exp);
    k->above = SIMD_NAME(above);
}
