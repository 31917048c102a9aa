/* attn_bf16.c - attention on processors with vdpbf16ps.
 *
 * Queries, keys, weights and values are rounded to BF16 and multiplied in pairs, at twice the rate
 * of float; the softmax and all sums are float. A group of 64 keys is brought into pairs once for
 * all queries of the call: keys as [pair of elements][key], values as [pair of keys][element].
 * Every query sees the same operations in the same order whatever shares its tile. */
#include <float.h>
#include <math.h>

#include "kernels/avx512.h"
#include "kernels/simd_exp.h"

#define TILE       6 /* queries that share a loaded pair, with up to WIDE vectors of sums each */
#define WIDE       KERNELS_KV_GROUP
#define GROUP_KEYS (KERNELS_KV_TOKENS * KERNELS_KV_GROUP)
#define PAIRS      (GROUP_KEYS / 2)

/* One call: its work space lies in a->scratch. A pair is a uint32_t, its first in the lower half. */
typedef struct attn_call {
    const kernels_attn *a;
    uint32_t *keys;   /* [head_dim / 2, GROUP_KEYS] */
    uint32_t *values; /* [PAIRS, head_dim] */
    uint32_t *q;      /* [queries, head_dim / 2] */
    float *sums;      /* [queries, VF_N]: of weights, lane by lane */
    /* the group at hand */
    const void *const *blocks;
    int32_t base; /* position of its first key */
    int count;    /* blocks */
    /* the tile at hand: scores, which become weights, and these in pairs */
    float s[TILE][GROUP_KEYS];
    uint32_t p[TILE][PAIRS];
} attn_call;

/* ---- a group of keys and values in pairs ------------------------------------------------------ */

/* out[i] = (lo[i], hi[i]). */
static ALWAYS_INLINE void store_pairs(uint32_t *out, vf lo, vf hi)
{
    const vi zip = { 0x100000, 0x110001, 0x120002, 0x130003, 0x140004, 0x150005,
                     0x160006, 0x170007, 0x180008, 0x190009, 0x1a000a, 0x1b000b,
                     0x1c000c, 0x1d000d, 0x1e000e, 0x1f000f };
    __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)hi, (__m512)lo);

    _mm512_storeu_si512(out, _mm512_permutexvar_epi16((__m512i)zip, halves));
}

/* out[i] = (x[2 i], x[2 i + 1]), for 16 floats. */
static ALWAYS_INLINE void store_halves(uint32_t *out, vf x)
{
    _mm256_storeu_si256((__m256i *)(void *)out, (__m256i)_mm512_cvtneps_pbh((__m512)x));
}

/* The int8 group of a block that holds element d of its keys (0 <= d < head_dim) or values
 * (head_dim <= d): scales of 16 tokens, then quants. */
static ALWAYS_INLINE const uint8_t *q8_group(const void *block, size_t d)
{
    return (const uint8_t *)block + d / KV_Q8_GROUP * KV_Q8_BYTES;
}

static ALWAYS_INLINE vf q8_scales(const void *block, size_t d)
{
    return vf_load_f16((const uint16_t *)(const void *)q8_group(block, d));
}

/* Element d of a block's 16 keys; int8 without the scales. */
static ALWAYS_INLINE vf load_key(kernels_kv kv, const void *block, size_t d)
{
    if (kv == KERNELS_KV_F16)
        return vf_load_f16((const uint16_t *)block + d * KERNELS_KV_TOKENS);
    return vf_load_i8((const int8_t *)q8_group(block, d) + 2 * KERNELS_KV_TOKENS +
                      d % KV_Q8_GROUP * KERNELS_KV_TOKENS);
}

/* 16 elements of token t's value from d on; int8 without the scale. */
static ALWAYS_INLINE vf load_value(kernels_kv kv, const void *block, size_t hd, size_t t, size_t d)
{
    if (kv == KERNELS_KV_F16)
        return vf_load_f16((const uint16_t *)block + (hd * KERNELS_KV_TOKENS + t * hd + d));
    return vf_load_i8((const int8_t *)q8_group(block, hd + d) + 2 * KERNELS_KV_TOKENS +
                      t * KV_Q8_GROUP + d % KV_Q8_GROUP);
}

/* keys: how many of the group anybody sees; what is behind them may be anything. */
static ALWAYS_INLINE void convert_group(const attn_call *c, kernels_kv kv, size_t keys)
{
    const size_t hd = c->a->head_dim;

    for (size_t b = 0; b < (size_t)c->count; b++)
        for (size_t d = 0; d < hd; d += 2)
            store_pairs(c->keys + d / 2 * GROUP_KEYS + b * KERNELS_KV_TOKENS,
                        load_key(kv, c->blocks[b], d), load_key(kv, c->blocks[b], d + 1));
    for (size_t t = 0; t < keys; t += 2) {
        const void *block = c->blocks[t / KERNELS_KV_TOKENS];
        size_t slot = t % KERNELS_KV_TOKENS;

        for (size_t d = 0; d < hd; d += VF_N)
            store_pairs(c->values + t / 2 * hd + d, load_value(kv, block, hd, slot, d),
                        t + 1 < keys ? load_value(kv, block, hd, slot + 1, d) : vf_set(0));
    }
}

/* ---- a tile of queries ------------------------------------------------------------------------ */

/* s[i][16 b + 0..15] = q[i] . keys of block b, for `wide` blocks from number b0 on. */
static ALWAYS_INLINE void tile_score(attn_call *c, kernels_kv kv, size_t first, size_t b0,
                                     const int tile, const int wide)
{
    const size_t pairs = c->a->head_dim / 2;
    const size_t span = kv == KERNELS_KV_F16 ? pairs : KV_Q8_GROUP / 2;

    for (size_t from = 0; from < pairs; from += span) {
        const uint32_t *keys = c->keys + from * GROUP_KEYS + b0 * KERNELS_KV_TOKENS;
        const uint32_t *q = c->q + first * pairs + from;
        __m512 acc[TILE][WIDE];

        UNROLL for (int i = 0; i < tile; i++) UNROLL for (int j = 0; j < wide; j++)
            acc[i][j] = _mm512_setzero_ps();
        for (size_t d = 0; d < span; d++) {
            __m512i k[WIDE];

            UNROLL for (int j = 0; j < wide; j++) k[j] =
                _mm512_loadu_si512(keys + d * GROUP_KEYS + j * VF_N);
            UNROLL for (int i = 0; i < tile; i++)
            {
                __m512i x = _mm512_set1_epi32((int)q[(size_t)i * pairs + d]);

                UNROLL for (int j = 0; j < wide; j++) acc[i][j] =
                    _mm512_dpbf16_ps(acc[i][j], (__m512bh)x, (__m512bh)k[j]);
            }
        }
        UNROLL for (int j = 0; j < wide; j++)
        {
            vf scale = vf_set(1.0f);

            if (kv == KERNELS_KV_Q8_0)
                scale = q8_scales(c->blocks[b0 + (size_t)j], 2 * from);
            UNROLL for (int i = 0; i < tile; i++)
            {
                float *at = &c->s[i][(b0 + (size_t)j) * KERNELS_KV_TOKENS];

                if (kv == KERNELS_KV_F16)
                    vf_store(at, (vf)acc[i][j]);
                else
                    vf_store(at, vf_fma((vf)acc[i][j], scale, from ? vf_load(at) : vf_set(0)));
            }
        }
    }
}

/* Turns query i's scores into weights against its running maximum; rescales what was summed under
 * the old one. */
static ALWAYS_INLINE void soften(attn_call *c, size_t i, float *s)
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
        vf p = vf_exp_weight(score[j] - vf_set(top));

        p = (vf)_mm512_maskz_mov_ps(seen[j], (__m512)p);
        vf_store(s + j * VF_N, p);
        total += p;
    }
    vf_store(c->sums + i * VF_N, total);
}

/* The weights of `tile` queries in pairs; for int8 times the scales of the values' group at d. */
static ALWAYS_INLINE void pair_weights(attn_call *c, kernels_kv kv, size_t d, const int tile)
{
    for (int b = 0; b < c->count; b++) {
        vf scale = vf_set(1.0f);

        if (kv == KERNELS_KV_Q8_0)
            scale = q8_scales(c->blocks[b], c->a->head_dim + d);
        for (int i = 0; i < tile; i++) {
            vf w = vf_load(&c->s[i][b * VF_N]);

            if (kv == KERNELS_KV_Q8_0) /* an unseen key's scale may be anything */
                w = (vf)_mm512_maskz_mul_ps(vf_at_least(w, FLT_MIN), (__m512)w, (__m512)scale);
            store_halves(&c->p[i][b * VF_N / 2], w);
        }
    }
}

/* out[i][0..] += weights . values, for `wide` vectors of a head from element d on. */
static ALWAYS_INLINE void tile_value(const attn_call *c, size_t first, size_t d, size_t pairs,
                                     const int tile, const int wide)
{
    const size_t hd = c->a->head_dim;
    const uint32_t *values = c->values + d;
    float *out = c->a->out + first * hd + d;
    __m512 acc[TILE][WIDE];

    UNROLL for (int i = 0; i < tile; i++) UNROLL for (int j = 0; j < wide; j++) acc[i][j] =
        _mm512_loadu_ps(out + (size_t)i * hd + (size_t)j * VF_N);
    for (size_t t = 0; t < pairs; t++) {
        __m512i v[WIDE];

        UNROLL for (int j = 0; j < wide; j++) v[j] =
            _mm512_loadu_si512(values + t * hd + (size_t)j * VF_N);
        UNROLL for (int i = 0; i < tile; i++)
        {
            __m512i w = _mm512_set1_epi32((int)c->p[i][t]);

            UNROLL for (int j = 0; j < wide; j++) acc[i][j] =
                _mm512_dpbf16_ps(acc[i][j], (__m512bh)w, (__m512bh)v[j]);
        }
    }
    UNROLL for (int i = 0; i < tile; i++) UNROLL for (int j = 0; j < wide; j++)
        _mm512_storeu_ps(out + (size_t)i * hd + (size_t)j * VF_N, acc[i][j]);
}

/* The group at hand for `tile` queries, from number first on. */
static ALWAYS_INLINE void attn_tile(attn_call *c, kernels_kv kv, size_t first, const int tile)
{
    const size_t hd = c->a->head_dim, step = kv == KERNELS_KV_F16 ? WIDE * VF_N : KV_Q8_GROUP;
    int32_t last = c->base - 1, end = c->base + c->count * VF_N - 1;
    size_t pairs, d = 0;

    for (size_t i = first; i < first + (size_t)tile; i++)
        last = c->a->pos[i] > last ? c->a->pos[i] : last;
    last = last < end ? last : end;
    pairs = (size_t)(last - c->base + 2) / 2;
    if (pairs == 0)
        return;
    if (c->count == WIDE)
        tile_score(c, kv, first, 0, tile, WIDE);
    else
        for (size_t b = 0; b < (size_t)c->count; b++)
            tile_score(c, kv, first, b, tile, 1);
    for (int i = 0; i < tile; i++)
        soften(c, first + (size_t)i, c->s[i]);
    for (; d + step <= hd; d += step) {
        if (d == 0 || kv == KERNELS_KV_Q8_0)
            pair_weights(c, kv, d, tile);
        tile_value(c, first, d, pairs, tile, kv == KERNELS_KV_F16 ? WIDE : KV_Q8_GROUP / VF_N);
    }
    if (d == 0 && d < hd)
        pair_weights(c, kv, d, tile);
    for (; d < hd; d += VF_N) /* f16 only */
        tile_value(c, first, d, pairs, tile, 1);
}

static ALWAYS_INLINE void attn_group(attn_call *c, kernels_kv kv)
{
    size_t i = 0;

    for (size_t tiles = (c->a->query_count + TILE - 1) / TILE; tiles > 0; tiles--) {
        size_t n = (c->a->query_count - i + tiles - 1) / tiles; /* as equal as can be */

#define TILE_CASE(size)                                                                            \
    case size:                                                                                     \
        attn_tile(c, kv, i, size);                                                                 \
        break
        switch (n) {
            TILE_CASE(1);
            TILE_CASE(2);
            TILE_CASE(3);
            TILE_CASE(4);
            TILE_CASE(5);
            TILE_CASE(6);
        }
#undef TILE_CASE
        i += n;
    }
}

void kernels_attn_bf16(const kernels_attn *a)
{
    const size_t hd = a->head_dim, n = a->query_count;
    attn_call c = { .a = a, .keys = (uint32_t *)(((uintptr_t)a->scratch + 63) / 64 * 64) };
    int32_t most = a->pos[0];

    c.values = c.keys + hd / 2 * GROUP_KEYS;
    c.q = c.values + PAIRS * hd;
    c.sums = (float *)(void *)(c.q + n * hd / 2);
    memset(a->out, 0, n * hd * sizeof *a->out);
    memset(c.sums, 0, n * VF_N * sizeof *c.sums);
    for (size_t i = 0; i < n * hd; i += VF_N)
        store_halves(c.q + i / 2, vf_load(a->q + i));
    for (size_t i = 0; i < n; i++) {
        a->max[i] = KERNELS_MASKED;
        most = a->pos[i] > most ? a->pos[i] : most;
    }
    for (int32_t b = 0; b < a->block_count; b += KERNELS_KV_GROUP) {
        c.blocks = a->blocks + b;
        c.count = a->block_count - b < KERNELS_KV_GROUP ? a->block_count - b : KERNELS_KV_GROUP;
        c.base = (a->block_first + b) * KERNELS_KV_TOKENS;

        int32_t keys = most - c.base + 1, all = c.count * KERNELS_KV_TOKENS;

        if (keys <= 0)
            break;
        keys = keys < all ? keys : all;
        if (a->kv == KERNELS_KV_F16) {
            convert_group(&c, KERNELS_KV_F16, (size_t)keys);
            attn_group(&c, KERNELS_KV_F16);
        } else {
            convert_group(&c, KERNELS_KV_Q8_0, (size_t)keys);
            attn_group(&c, KERNELS_KV_Q8_0);
        }
    }
    for (size_t i = 0; i < n; i++)
        a->sum[i] = vf_sum(vf_load(c.sums + i * VF_N));
}
