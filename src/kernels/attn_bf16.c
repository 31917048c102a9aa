/* attn_bf16.c - attention over keys and values in BF16, on processors with vdpbf16ps.
 *
 * Queries and weights are rounded to BF16 too, and all is multiplied in pairs, at twice the rate of
 * float; the softmax and all sums are float. The cache keeps keys as pairs of elements and values
 * as pairs of tokens (packed.h), so that they are multiplied where they lie. Every query sees the
 * same operations in the same order whatever shares its tile. */
#include <math.h>

#include "kernels/avx512.h"
#include "kernels/simd_exp.h"

#define TILE       6 /* queries that share a loaded pair, with up to WIDE vectors of sums each */
#define WIDE       KERNELS_KV_GROUP
#define GROUP_KEYS (KERNELS_KV_TOKENS * KERNELS_KV_GROUP)
#define PAIRS      (GROUP_KEYS / 2)

/* One call. Pairs are uint32_t, the first of two in the lower half. */
typedef struct attn_call {
    const kernels_attn *a;
    uint32_t *q; /* [queries, head_dim / 2] */
    float *sums; /* [queries, VF_N]: of weights, lane by lane */
    /* the group at hand */
    const uint32_t *blocks[KERNELS_KV_GROUP];
    const uint32_t
        *next[KERNELS_KV_GROUP]; /* of the group behind it; its own where there is none */
    int32_t base;                /* position of its first key */
    int count;                   /* blocks */
    /* the tile at hand: scores, which become weights, and these in pairs */
    float s[TILE][GROUP_KEYS];
    uint32_t p[TILE][PAIRS];
} attn_call;

/* out[i] = (x[2 i], x[2 i + 1]), for 16 floats. */
static ALWAYS_INLINE void store_pairs(void *out, vf x)
{
    _mm256_storeu_si256(out, (__m256i)_mm512_cvtneps_pbh((__m512)x));
}

/* s[i][16 b + 0..15] = q[i] . keys of block b, for `wide` blocks from number b0 on. Calls the next
 * group's keys, which lie anywhere, into the cache. */
static ALWAYS_INLINE void tile_score(attn_call *c, size_t first, int b0, const int tile,
                                     const int wide)
{
    const size_t pairs = c->a->head_dim / 2;
    const uint32_t *q = c->q + first * pairs, *keys[WIDE], *next[WIDE];
    __m512 acc[TILE][WIDE];

    UNROLL for (int j = 0; j < wide; j++)
    {
        keys[j] = c->blocks[b0 + j];
        next[j] = c->next[b0 + j];
    }
    UNROLL for (int i = 0; i < tile; i++) UNROLL for (int j = 0; j < wide; j++) acc[i][j] =
        _mm512_setzero_ps();
    for (size_t d = 0; d < pairs; d++) {
        __m512i k[WIDE];

        UNROLL for (int j = 0; j < wide; j++)
        {
            __builtin_prefetch(next[j] + d * VF_N, 0, 2);
            k[j] = _mm512_loadu_si512(keys[j] + d * VF_N);
        }
        UNROLL for (int i = 0; i < tile; i++)
        {
            __m512i x = _mm512_set1_epi32((int)q[(size_t)i * pairs + d]);

            UNROLL for (int j = 0; j < wide; j++) acc[i][j] =
                _mm512_dpbf16_ps(acc[i][j], (__m512bh)x, (__m512bh)k[j]);
        }
    }
    UNROLL for (int i = 0; i < tile; i++) UNROLL for (int j = 0; j < wide; j++)
        _mm512_storeu_ps(&c->s[i][(b0 + j) * VF_N], acc[i][j]);
}

/* Turns query i's scores into weights, in pairs, against its running maximum; rescales what was
 * summed under the old one. */
static ALWAYS_INLINE void soften(const attn_call *c, size_t i, const float *s, uint32_t *p)
{
    const kernels_attn *a = c->a;
    const int vectors = c->count;
    const int32_t last = c->base + vectors * VF_N - 1;
    const __m512i iota = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    vf score[KERNELS_KV_GROUP], best = vf_set(a->max[i]), total = vf_load(c->sums + i * VF_N);
    __mmask16 seen[KERNELS_KV_GROUP];
    float top = a->max[i];

    for (int j = 0; j < vectors; j++) {
        score[j] = vf_load(s + j * VF_N);
        if (a->softcap > 0)
            for (int l = 0; l < VF_N; l++)
                score[j][l] = a->softcap * tanhf(score[j][l] / a->softcap);
        seen[j] = 0xffff;
        if (c->base < a->first[i] || last > a->pos[i]) {
            __m512i at = _mm512_add_epi32(iota, _mm512_set1_epi32(c->base + j * VF_N));

            seen[j] = _mm512_cmpge_epi32_mask(at, _mm512_set1_epi32(a->first[i])) &
                      _mm512_cmple_epi32_mask(at, _mm512_set1_epi32(a->pos[i]));
        }
        best = (vf)_mm512_mask_max_ps((__m512)best, seen[j], (__m512)best, (__m512)score[j]);
    }
    if (_mm512_cmp_ps_mask((__m512)best, _mm512_set1_ps(top), _CMP_GT_OQ)) {
        float *out = a->out + i * a->head_dim;
        vf shrink;

        top = vf_max_of(best);
        shrink = vf_exp(vf_set(a->max[i] - top));
        for (size_t d = 0; d < a->head_dim; d += VF_N)
            vf_store(out + d, vf_load(out + d) * shrink);
        total *= shrink;
        a->max[i] = top;
    }
    for (int j = 0; j < vectors; j++) {
        vf w = vf_exp_weight(score[j] - vf_set(top));

        w = (vf)_mm512_maskz_mov_ps(seen[j], (__m512)w);
        store_pairs(p + j * VF_N / 2, w);
        total += w;
    }
    vf_store(c->sums + i * VF_N, total);
}

/* out[i][0..] += weights . values, for `wide` vectors of a head from element d on, over the keys
 * that anybody sees: what is behind them may be anything. */
static ALWAYS_INLINE void tile_value(const attn_call *c, size_t first, size_t d, size_t keys,
                                     const int tile, const int wide)
{
    const size_t hd = c->a->head_dim, from = hd / 2 * KERNELS_KV_TOKENS + d;
    float *out = c->a->out + first * hd + d;
    __m512 acc[TILE][WIDE];

    UNROLL for (int i = 0; i < tile; i++) UNROLL for (int j = 0; j < wide; j++) acc[i][j] =
        _mm512_loadu_ps(out + (size_t)i * hd + (size_t)j * VF_N);
    for (size_t t = 0; t < keys; t += 2) {
        const size_t row = from + t % KERNELS_KV_TOKENS / 2 * hd;
        const uint32_t *values = c->blocks[t / KERNELS_KV_TOKENS] + row;
        const uint32_t *next = c->next[t / KERNELS_KV_TOKENS] + row;
        const __m512i seen = _mm512_set1_epi32(t + 1 < keys ? -1 : 0xffff);
        __m512i v[WIDE];

        UNROLL for (int j = 0; j < wide; j++)
        {
            __builtin_prefetch(next + (size_t)j * VF_N, 0, 2);
            v[j] = _mm512_and_si512(_mm512_loadu_si512(values + (size_t)j * VF_N), seen);
        }
        UNROLL for (int i = 0; i < tile; i++)
        {
            __m512i w = _mm512_set1_epi32((int)c->p[i][t / 2]);

            UNROLL for (int j = 0; j < wide; j++) acc[i][j] =
                _mm512_dpbf16_ps(acc[i][j], (__m512bh)w, (__m512bh)v[j]);
        }
    }
    UNROLL for (int i = 0; i < tile; i++) UNROLL for (int j = 0; j < wide; j++)
        _mm512_storeu_ps(out + (size_t)i * hd + (size_t)j * VF_N, acc[i][j]);
}

/* The group at hand for `tile` queries, from number first on. */
static ALWAYS_INLINE void attn_tile(attn_call *c, size_t first, const int tile)
{
    const size_t hd = c->a->head_dim;
    int32_t last = c->base - 1, end = c->base + c->count * VF_N - 1;
    size_t keys, d = 0;

    for (size_t i = first; i < first + (size_t)tile; i++)
        last = c->a->pos[i] > last ? c->a->pos[i] : last;
    keys = (size_t)((last < end ? last : end) - c->base + 1);
    if (keys == 0)
        return;
    if (c->count == WIDE)
        tile_score(c, first, 0, tile, WIDE);
    else
        for (int b = 0; b < c->count; b++)
            tile_score(c, first, b, tile, 1);
    for (int i = 0; i < tile; i++)
        soften(c, first + (size_t)i, c->s[i], c->p[i]);
    for (; d + WIDE * VF_N <= hd; d += WIDE * VF_N)
        tile_value(c, first, d, keys, tile, WIDE);
    for (; d < hd; d += VF_N)
        tile_value(c, first, d, keys, tile, 1);
}

static ALWAYS_INLINE void attn_group(attn_call *c)
{
    size_t i = 0;

    for (size_t tiles = (c->a->query_count + TILE - 1) / TILE; tiles > 0; tiles--) {
        size_t n = (c->a->query_count - i + tiles - 1) / tiles; /* as equal as can be */

#define ATTN(size) attn_tile(c, i, size)
        switch (n) {
            TILE_CASES_6(ATTN)
        }
#undef ATTN
        i += n;
    }
}

/* Points c at the group of blocks from number b on. */
static void set_group(attn_call *c, int32_t b)
{
    const kernels_attn *a = c->a;
    int left = a->block_count - b;

    c->base = (a->block_first + b) * KERNELS_KV_TOKENS;
    c->count = left < KERNELS_KV_GROUP ? left : KERNELS_KV_GROUP;
    for (int i = 0; i < c->count; i++) {
        int32_t next = b + i + KERNELS_KV_GROUP;

        c->blocks[i] = a->blocks[b + i];
        c->next[i] = a->blocks[next < a->block_count ? next : b + i];
    }
}

static void attn_bf16(const kernels_attn *a)
{
    const size_t hd = a->head_dim, n = a->query_count;
    attn_call c = { .a = a, .q = (uint32_t *)(void *)a->scratch };

    c.sums = a->scratch + n * hd / 2;
    memset(a->out, 0, n * hd * sizeof *a->out);
    memset(c.sums, 0, n * VF_N * sizeof *c.sums);
    for (size_t i = 0; i < n * hd; i += VF_N)
        store_pairs(c.q + i / 2, vf_load(a->q + i));
    for (size_t i = 0; i < n; i++)
        a->max[i] = KERNELS_MASKED;
    for (int32_t b = 0; b < a->block_count; b += KERNELS_KV_GROUP) {
        set_group(&c, b);
        attn_group(&c);
    }
    for (size_t i = 0; i < n; i++)
        a->sum[i] = vf_sum(vf_load(c.sums + i * VF_N));
}

/* Writes nothing but the token's own halves of a pair. */
static void kv_store_bf16(void *block, size_t hd, size_t slot, const float *key, const float *value)
{
    uint32_t *keys = block, *values = keys + hd / 2 * KERNELS_KV_TOKENS + slot / 2 * hd;
    const __mmask32 half = slot % 2 ? 0xaaaaaaaa : 0x55555555;

    for (size_t d = 0; d < hd; d += VF_N) {
        uint32_t pairs[VF_N / 2];
        __m512i v = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(value + d)));

        _mm512_mask_storeu_epi16(values + d, half, slot % 2 ? _mm512_slli_epi32(v, 16) : v);
        store_pairs(pairs, vf_load(key + d));
        for (size_t i = 0; i < VF_N / 2; i++)
            keys[(d / 2 + i) * KERNELS_KV_TOKENS + slot] = pairs[i];
    }
}

void kernels_init_attn_bf16(kernels *k)
{
    k->attn[KERNELS_KV_BF16] = attn_bf16;
    k->kv_store[KERNELS_KV_BF16] = kv_store_bf16;
    k->has_bf16_pairs = true;
}
