/* avx512.c - kernels for AVX-512 with VNNI.
 *
 * A register holds four columns of 16 rows; vpdpbusd multiplies them with four activations and adds
 * to int32, so that nothing can overflow. Weights with an offset enter unsigned, and the offset
 * times the sum of the activations is the value that the sum starts with.
 *
 * Products go in tiles of 32 rows by up to 6 tokens, where one broadcast of activations feeds two
 * dot products; the quants are unpacked in registers on the way, or, for many tokens and formats
 * that take more work, once into bytes ("wide" blocks, in the second-level cache). Formats with
 * scales per 16 columns take more registers than there are: few tokens take them one by one, many
 * go the wide way. Either way a row and a token see the same float operations in the same order. */
#include "kernels/avx512.h"

#define TILE_TOKENS 6
#define FLOAT_TILE  8

#define SIMD_NAME(x) x##_avx512
#define ATTN_TILE    8
#define ATTN_CASES   TILE_CASES_8
#define ATTN_PAIR    2
#include "kernels/simd_body.h"

#ifndef SL_SIMDE
/* d rounded to f16 as round_f16 does, and as f16_f32(f32_f16(d)) where f16 has it. */
static ALWAYS_INLINE float round_half(float f)
{
    float mag = fabsf(f);

    return mag >= 0x1p-14f && mag <= 65504.0f
               ? _cvtsh_ss(_cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))
               : f;
}

static void quantize_q8_avx512(const float *x, size_t blocks, kernels_q8 *out)
{
    for (size_t i = 0; i < blocks; i++, x += KERNELS_BLOCK) {
        __m512 v0 = _mm512_loadu_ps(x), v1 = _mm512_loadu_ps(x + 16), inv;
        float amax = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(v0), _mm512_abs_ps(v1)));
        float d = amax / 127.0f;
        __m128i q0, q1, zero = _mm_setzero_si128(), flip = _mm_set1_epi8((char)0x80), s0, s1;
        int32_t lo, hi;

        inv = _mm512_set1_ps(amax > 0 ? 127.0f / amax : 0);
        q0 = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(v0, inv)));
        q1 = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(v1, inv)));
        _mm_storeu_si128((__m128i *)(void *)out[i].q, q0);
        _mm_storeu_si128((__m128i *)(void *)(out[i].q + 16), q1);
        /* Sums of bytes made unsigned by 128: eight at a time. */
        s0 = _mm_sad_epu8(_mm_xor_si128(q0, flip), zero);
        s1 = _mm_sad_epu8(_mm_xor_si128(q1, flip), zero);
        lo = _mm_cvtsi128_si32(s0) + _mm_extract_epi32(s0, 2) - 16 * 128;
        hi = _mm_cvtsi128_si32(s1) + _mm_extract_epi32(s1, 2) - 16 * 128;
        out[i].d = round_half(d);
        out[i].s = round_half(d * (float)(lo + hi));
        out[i].n = -(lo + hi);
        out[i].n0 = -lo;
    }
}
#endif

/* Four activations in every lane. */
static ALWAYS_INLINE __m512i bcast4(const int8_t *q)
{
    int32_t v;

    memcpy(&v, q, sizeof v);
    return _mm512_set1_epi32(v);
}

static ALWAYS_INLINE __m512i load_u8(const uint8_t *p)
{
#ifdef SL_SIMDE
    int32_t v[16];

    for (int i = 0; i < 16; i++)
        v[i] = p[i];
    return _mm512_loadu_si512((const void *)v);
#else
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
#endif
}

static ALWAYS_INLINE __m512 half_row(const uint8_t *p)
{
    return cvt_f16((const uint16_t *)(const void *)p);
}

/* Scales and minima of 16 rows, by half of the block where the format has two. */
typedef struct scales {
    __m512 d[2], m[2];
} scales;

static ALWAYS_INLINE scales load_scales(kernels_fmt f, const uint8_t *head, size_t b, size_t g)
{
    const __m512i nibble = _mm512_set1_epi32(15), low_byte = _mm512_set1_epi32(0xff);
    __m512 d = half_row(head + g * 32), m = _mm512_setzero_ps();
    scales s;

    if (packed_has_min(f))
        m = half_row(head + PACKED_VEC + g * 32);
    s.d[0] = s.d[1] = d;
    s.m[0] = s.m[1] = m;
    for (size_t h = 0; packed_is_k(f) && h < (packed_has_halves(f) ? 2 : 1); h++) {
        __m512i sc = load_u8(packed_k_scales(f, head, b, h) + g * 16), mn = sc;

        if (f == KERNELS_Q2_K) {
            sc = _mm512_and_si512(sc, nibble);
            mn = _mm512_srli_epi32(mn, 4);
        } else if (packed_has_min(f)) {
            mn = load_u8(packed_k_mins(head, b) + g * 16);
        } else { /* signed */
            sc = _mm512_sub_epi32(
                _mm512_and_si512(_mm512_add_epi32(sc, _mm512_set1_epi32(128)), low_byte),
                _mm512_set1_epi32(128));
        }
        s.d[h] = _mm512_mul_ps(d, _mm512_cvtepi32_ps(sc));
        if (packed_has_min(f))
            s.m[h] =
                _mm512_mul_ps(m, _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_setzero_si512(), mn)));
    }
    return s;
}

/* Quants of 16 rows (half g of the panel) as unsigned bytes: w[j] holds columns 4j..4j+3. */
static ALWAYS_INLINE void load_quants(kernels_fmt f, const uint8_t *p, size_t g, __m512i w[8])
{
    const __m512i low = _mm512_set1_epi8(15);

    p += g * 64;
    if (f == KERNELS_Q8_0) {
        UNROLL for (size_t j = 0; j < 8; j++) w[j] = _mm512_xor_si512(
            _mm512_loadu_si512((const void *)(p + j * PACKED_CHUNK)), _mm512_set1_epi8((char)0x80));
        return;
    }
    if (packed_has_nibbles(f)) {
        UNROLL for (size_t j = 0; j < 4; j++)
        {
            __m512i v = _mm512_loadu_si512((const void *)(p + j * PACKED_CHUNK));

            w[j] = _mm512_and_si512(v, low);
            w[j + 4] = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
        }
    }
    if (packed_has_pairs(f)) {
        const int up = packed_has_nibbles(f) ? 4 : 0; /* where the two bits go */
        const __m512i mask = _mm512_set1_epi8((char)(3 << up));

        UNROLL for (size_t j = 0; j < 8; j++)
        {
            const int shift = (int)(j % 4) * 2 - up;
            __m512i v =
                _mm512_loadu_si512((const void *)(p + packed_pairs_at(f) + j / 4 * PACKED_CHUNK));

            v = shift >= 0 ? _mm512_srli_epi16(v, (unsigned)shift)
                           : _mm512_slli_epi16(v, (unsigned)-shift);
            v = _mm512_and_si512(v, mask);
            w[j] = up ? _mm512_or_si512(w[j], v) : v;
        }
    }
    if (packed_has_bits(f)) {
        const __m512i bit = _mm512_set1_epi8(f == KERNELS_Q3_K ? 4 : 16);

        p += packed_bits_at(f) - g * 64 + g * 8;
        UNROLL for (size_t j = 0; j < 8; j++)
        {
            uint64_t bits;

            memcpy(&bits, p + j * 16, sizeof bits);
            w[j] = _mm512_mask_add_epi8(w[j], bits, w[j], bit);
        }
    }
}

/* What an integer sum starts with, so that it is the dot with the offset taken off: half h of a
 * block, or all of it. */
static ALWAYS_INLINE __m512i dot_start(kernels_fmt f, const kernels_q8 *a, int h)
{
    __m512i n;

    if (packed_has_min(f))
        return _mm512_setzero_si512();
    n = _mm512_set1_epi32(!packed_has_halves(f) ? a->n : h == 0 ? a->n0 : a->n - a->n0);
    return _mm512_slli_epi32(n, (unsigned)packed_offset_shift(f));
}

/* The one float step: what half h (or all) of a block adds to a row's sum. */
static ALWAYS_INLINE __m512 add_block(kernels_fmt f, __m512 acc, __m512i dot, __m512 d, __m512 m,
                                      const kernels_q8 *a, int h)
{
    acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(d, _mm512_set1_ps(a->d)), acc);
    if (packed_has_min(f)) {
        float s = !packed_has_halves(f) ? a->s : a->d * (float)(h == 0 ? -a->n0 : a->n0 - a->n);

        acc = _mm512_fmadd_ps(m, _mm512_set1_ps(s), acc);
    }
    return acc;
}

/* One token, straight from the packed form; for formats with scales per 16 columns. */
static ALWAYS_INLINE void gemv(kernels_fmt f, const uint8_t *panel, size_t blocks,
                               const kernels_q8 *a, float *y)
{
    __m512 acc[2] = { _mm512_setzero_ps(), _mm512_setzero_ps() };

    for (size_t i = 0; i < blocks; i += packed_blocks(f), panel += packed_unit_bytes(f)) {
        const uint8_t *quants = panel + packed_head_bytes(f);

        for (size_t c = 0; c < packed_head_bytes(f); c += 64)
            __builtin_prefetch(panel + KERNELS_PREFETCH_BYTES + c, 0, 2);
        for (size_t b = 0; b < packed_blocks(f); b++, a++, quants += packed_quant_bytes(f)) {
            for (size_t c = 0; c < packed_quant_bytes(f); c += 64)
                __builtin_prefetch(quants + KERNELS_PREFETCH_BYTES + c, 0, 2);
            UNROLL for (size_t g = 0; g < 2; g++)
            {
                scales s = load_scales(f, panel, b, g);
                __m512i w[8];

                load_quants(f, quants, g, w);
                UNROLL for (int h = 0; h < 2; h++)
                {
                    __m512i dot = dot_start(f, a, h);

                    UNROLL for (int j = h * 4; j < h * 4 + 4; j++) dot =
                        _mm512_dpbusd_epi32(dot, w[j], bcast4(a->q + j * 4));
                    acc[g] = add_block(f, acc[g], dot, s.d[h], s.m[h], a, h);
                }
            }
        }
    }
    _mm512_storeu_ps(y, acc[0]);
    _mm512_storeu_ps(y + 16, acc[1]);
}

/* A wide block: quants [8 chunks][32 rows][4], then d and m f32[2 halves][32]. */
#define WIDE_D (KERNELS_ROWS * KERNELS_BLOCK)
#define WIDE_M (WIDE_D + 2 * KERNELS_ROWS * 4)

static ALWAYS_INLINE void unpack(kernels_fmt f, const uint8_t *panel, size_t blocks, uint8_t *wide)
{
    for (size_t i = 0; i < blocks; i += packed_blocks(f), panel += packed_unit_bytes(f)) {
        const uint8_t *quants = panel + packed_head_bytes(f);

        for (size_t b = 0; b < packed_blocks(f);
             b++, quants += packed_quant_bytes(f), wide += KERNELS_WIDE_BYTES) {
            UNROLL for (size_t g = 0; g < 2; g++)
            {
                scales s = load_scales(f, panel, b, g);
                __m512i w[8];

                load_quants(f, quants, g, w);
                UNROLL for (size_t j = 0; j < 8; j++)
                    _mm512_storeu_si512((void *)(wide + j * PACKED_CHUNK + g * 64), w[j]);
                for (size_t h = 0; h < (packed_has_halves(f) ? 2 : 1); h++) {
                    uint8_t *d = wide + WIDE_D + h * KERNELS_ROWS * 4 + g * 64;

                    _mm512_storeu_ps((float *)(void *)d, s.d[h]);
                    if (packed_has_min(f))
                        _mm512_storeu_ps((float *)(void *)(d + WIDE_M - WIDE_D), s.m[h]);
                }
            }
        }
    }
}

/* The sums so far: what the chunks of columns before this one left in y, or zeros. */
static ALWAYS_INLINE void load_sums(const float *y, size_t y_stride, bool go_on, __m512 (*acc)[2],
                                    const int tile)
{
    UNROLL for (int t = 0; t < tile; t++) acc[t][0] = acc[t][1] = _mm512_setzero_ps();
    if (!go_on)
        return;
    UNROLL for (int t = 0; t < tile; t++)
    {
        acc[t][0] = _mm512_loadu_ps(y + (size_t)t * y_stride);
        acc[t][1] = _mm512_loadu_ps(y + (size_t)t * y_stride + 16);
    }
}

/* Chunks j and j + 4 of a block, of half g of the rows, as unsigned bytes. Not of formats with
 * scales per 16 columns. */
static ALWAYS_INLINE void load_chunks(kernels_fmt f, const uint8_t *p, size_t g, size_t j,
                                      __m512i *lo, __m512i *hi)
{
    __m512i v = _mm512_loadu_si512((const void *)(p + j * PACKED_CHUNK + g * 64));
    uint64_t bits;

    if (f == KERNELS_Q8_0) {
        const __m512i flip = _mm512_set1_epi8((char)0x80);

        *lo = _mm512_xor_si512(v, flip);
        *hi = _mm512_xor_si512(
            _mm512_loadu_si512((const void *)(p + (j + 4) * PACKED_CHUNK + g * 64)), flip);
        return;
    }
    *lo = _mm512_and_si512(v, _mm512_set1_epi8(15));
    *hi = _mm512_and_si512(_mm512_srli_epi16(v, 4), _mm512_set1_epi8(15));
    if (!packed_has_bits(f))
        return;
    memcpy(&bits, p + packed_bits_at(f) + j * 16 + g * 8, sizeof bits);
    *lo = _mm512_mask_add_epi8(*lo, bits, *lo, _mm512_set1_epi8(16));
    memcpy(&bits, p + packed_bits_at(f) + (j + 4) * 16 + g * 8, sizeof bits);
    *hi = _mm512_mask_add_epi8(*hi, bits, *hi, _mm512_set1_epi8(16));
}

/* What a tile works on: tokens from x on, sums in y; go_on: y holds those of the columns before.
 * Meanwhile step bytes from next on are called in at each block. */
typedef struct tile_job {
    const char *x;
    size_t x_stride;
    float *y;
    size_t y_stride;
    bool go_on;
    const uint8_t *next;
    size_t step;
} tile_job;

static ALWAYS_INLINE const kernels_q8 *q8_of(const tile_job *o, size_t block, int t)
{
    return (const kernels_q8 *)(const void *)(o->x + (size_t)t * o->x_stride) + block;
}

static ALWAYS_INLINE void store_sums(const tile_job *o, __m512 (*acc)[2], const int tile)
{
    UNROLL for (int t = 0; t < tile; t++)
    {
        _mm512_storeu_ps(o->y + (size_t)t * o->y_stride, acc[t][0]);
        _mm512_storeu_ps(o->y + (size_t)t * o->y_stride + 16, acc[t][1]);
    }
}

/* 32 rows by `tile` tokens, quants unpacked in registers. */
static ALWAYS_INLINE void tile_packed(kernels_fmt f, const uint8_t *panel, size_t blocks,
                                      const tile_job *o, const int tile)
{
    const uint8_t *next = o->next;
    __m512 acc[TILE_TOKENS][2];
    size_t i = 0;

    load_sums(o->y, o->y_stride, o->go_on, acc, tile);
    for (; i < blocks; panel += packed_unit_bytes(f)) {
        const uint8_t *quants = panel + packed_head_bytes(f);

        for (size_t b = 0; b < packed_blocks(f); b++, i++, quants += packed_quant_bytes(f)) {
            __m512i dot[TILE_TOKENS][2];

            for (size_t c = 0; c < o->step; c += 64, next += 64)
                __builtin_prefetch(next, 0, 2);
            UNROLL for (int t = 0; t < tile; t++) dot[t][0] = dot[t][1] =
                dot_start(f, q8_of(o, i, t), 0);
            UNROLL for (int j = 0; j < 4; j++)
            {
                __m512i lo[2], hi[2];

                load_chunks(f, quants, 0, (size_t)j, &lo[0], &hi[0]);
                load_chunks(f, quants, 1, (size_t)j, &lo[1], &hi[1]);
                UNROLL for (int t = 0; t < tile; t++)
                {
                    const int8_t *q = q8_of(o, i, t)->q;
                    __m512i v = bcast4(q + j * 4);

                    dot[t][0] = _mm512_dpbusd_epi32(dot[t][0], lo[0], v);
                    dot[t][1] = _mm512_dpbusd_epi32(dot[t][1], lo[1], v);
                    v = bcast4(q + 16 + j * 4);
                    dot[t][0] = _mm512_dpbusd_epi32(dot[t][0], hi[0], v);
                    dot[t][1] = _mm512_dpbusd_epi32(dot[t][1], hi[1], v);
                }
            }
            UNROLL for (size_t g = 0; g < 2; g++)
            {
                scales s = load_scales(f, panel, b, g);

                UNROLL for (int t = 0; t < tile; t++) acc[t][g] =
                    add_block(f, acc[t][g], dot[t][g], s.d[0], s.m[0], q8_of(o, i, t), 0);
            }
        }
    }
    store_sums(o, acc, tile);
}

/* The same over wide blocks. */
static ALWAYS_INLINE void tile_wide(kernels_fmt f, const uint8_t *wide, size_t blocks,
                                    const tile_job *o, const int tile)
{
    const int halves = packed_has_halves(f) ? 2 : 1;
    const uint8_t *next = o->next;
    __m512 acc[TILE_TOKENS][2];

    load_sums(o->y, o->y_stride, o->go_on, acc, tile);
    for (size_t i = 0; i < blocks; i++, wide += KERNELS_WIDE_BYTES) {
        for (size_t c = 0; c < o->step; c += 64, next += 64)
            __builtin_prefetch(next, 0, 2);
        UNROLL for (int h = 0; h < halves; h++)
        {
            const float *d = (const float *)(const void *)(wide + WIDE_D) + h * KERNELS_ROWS;
            __m512i dot[TILE_TOKENS][2];

            UNROLL for (int t = 0; t < tile; t++) dot[t][0] = dot[t][1] =
                dot_start(f, q8_of(o, i, t), h);
            UNROLL for (int j = h * 4; j < h * 4 + 8 / halves; j++)
            {
                __m512i w0 = _mm512_loadu_si512((const void *)(wide + j * PACKED_CHUNK));
                __m512i w1 = _mm512_loadu_si512((const void *)(wide + j * PACKED_CHUNK + 64));

                UNROLL for (int t = 0; t < tile; t++)
                {
                    __m512i v = bcast4(q8_of(o, i, t)->q + j * 4);

                    dot[t][0] = _mm512_dpbusd_epi32(dot[t][0], w0, v);
                    dot[t][1] = _mm512_dpbusd_epi32(dot[t][1], w1, v);
                }
            }
            UNROLL for (int g = 0; g < 2; g++)
            {
                __m512 dv = _mm512_loadu_ps(d + g * 16), mv = dv;

                if (packed_has_min(f))
                    mv = _mm512_loadu_ps(d + 2 * KERNELS_ROWS + g * 16);
                UNROLL for (int t = 0; t < tile; t++) acc[t][g] =
                    add_block(f, acc[t][g], dot[t][g], dv, mv, q8_of(o, i, t), h);
            }
        }
    }
    store_sums(o, acc, tile);
}

/* Whether a panel is worth unpacking into scratch: always where registers do not suffice, and for
 * many tokens where unpacking costs more than a mask and a shift. */
static ALWAYS_INLINE bool wants_wide(kernels_fmt f, size_t tokens)
{
    return packed_has_halves(f) ||
           ((packed_has_bits(f) || packed_is_k(f)) && tokens > 4 * TILE_TOKENS);
}

/* All tokens over one chunk of columns. next: as much of the next panel is read ahead, a part with
 * each tile, so that its bytes come while this one is computed. */
static ALWAYS_INLINE void tiles(kernels_fmt f, const uint8_t *weights, size_t blocks, size_t tokens,
                                tile_job o, const bool wide)
{
    size_t count = (tokens + TILE_TOKENS - 1) / TILE_TOKENS;
    size_t block_bytes = packed_unit_bytes(f) / packed_blocks(f);
    const uint8_t *end = o.next + blocks * block_bytes;

    o.step = (block_bytes / count + 63) / 64 * 64;
    for (; count > 0; count--) {
        size_t n = (tokens + count - 1) / count; /* as equal as can be */

#define GEMM(size)                                                                                 \
    if (wide)                                                                                      \
        tile_wide(f, weights, blocks, &o, size);                                                   \
    else                                                                                           \
        tile_packed(f, weights, blocks, &o, size)
        switch (n) {
            TILE_CASES_6(GEMM)
        }
#undef GEMM
        o.next += blocks * o.step;
        o.step = o.next < end ? o.step : 0;
        o.x += n * o.x_stride;
        o.y += n * o.y_stride;
        tokens -= n;
    }
}

static ALWAYS_INLINE void gemm(kernels_fmt f, const uint8_t *panel, size_t cols, const char *x,
                               size_t x_stride, size_t tokens, float *y, size_t y_stride,
                               void *scratch)
{
    const size_t chunk = KERNELS_CHUNK_COLS / KERNELS_BLOCK;
    size_t blocks = cols / KERNELS_BLOCK;
    tile_job o = { .x = x, .x_stride = x_stride, .y = y, .y_stride = y_stride };

    if (packed_has_halves(f) && tokens < KERNELS_SCRATCH_TOKENS) {
        for (size_t t = 0; t < tokens; t++)
            gemv(f, panel, blocks, (const kernels_q8 *)(const void *)(x + t * x_stride),
                 y + t * y_stride);
        return;
    }
    if (tokens == 1) { /* one stream of bytes: no stops */
        o.next = panel + KERNELS_PREFETCH_BYTES;
        o.step = (packed_unit_bytes(f) / packed_blocks(f) + 63) / 64 * 64;
        tile_packed(f, panel, blocks, &o, 1);
        return;
    }
    for (size_t from = 0; from < blocks; from += chunk) {
        size_t n = blocks - from < chunk ? blocks - from : chunk;
        size_t at = from / packed_blocks(f) * packed_unit_bytes(f);
        const uint8_t *weights = panel + at;

        o.x = x + from * sizeof(kernels_q8);
        o.go_on = from > 0;
        o.next = panel + kernels_panel_bytes(f, cols) + at;
        if (wants_wide(f, tokens)) {
            unpack(f, weights, n, scratch);
            tiles(f, scratch, n, tokens, o, true);
        } else if (!packed_has_halves(f)) {
            tiles(f, weights, n, tokens, o, false);
        }
    }
}

static ALWAYS_INLINE __m512 load_weight(kernels_fmt fmt, const void *panel, size_t i)
{
    if (fmt == KERNELS_F32)
        return _mm512_loadu_ps((const float *)panel + i);
    return cvt_f16((const uint16_t *)panel + i);
}

/* BF16 weights stand in pairs of columns: half `odd` of 16 pairs. */
static ALWAYS_INLINE __m512 load_pair(const void *panel, size_t i, size_t odd)
{
    __m512i v = _mm512_loadu_si512((const void *)((const uint16_t *)panel + i));

    return _mm512_castsi512_ps(odd ? _mm512_and_si512(v, _mm512_set1_epi32((int)0xffff0000U))
                                   : _mm512_slli_epi32(v, 16));
}

static ALWAYS_INLINE void tile_float(kernels_fmt f, const void *panel, size_t cols, const char *x,
                                     size_t x_stride, float *y, size_t y_stride, const int tile)
{
    __m512 acc[FLOAT_TILE][2];

    load_sums(y, y_stride, false, acc, tile);
    for (size_t c = 0; c < cols; c++) {
        __m512 w[2];

        if (f == KERNELS_BF16) {
            w[0] = load_pair(panel, c / 2 * 2 * KERNELS_ROWS, c % 2);
            w[1] = load_pair(panel, c / 2 * 2 * KERNELS_ROWS + KERNELS_ROWS, c % 2);
        } else {
            w[0] = load_weight(f, panel, c * KERNELS_ROWS);
            w[1] = load_weight(f, panel, c * KERNELS_ROWS + 16);
        }
        UNROLL for (int t = 0; t < tile; t++)
        {
            __m512 v = _mm512_set1_ps(((const float *)(const void *)(x + (size_t)t * x_stride))[c]);

            acc[t][0] = _mm512_fmadd_ps(w[0], v, acc[t][0]);
            acc[t][1] = _mm512_fmadd_ps(w[1], v, acc[t][1]);
        }
    }
    UNROLL for (int t = 0; t < tile; t++)
    {
        _mm512_storeu_ps(y + (size_t)t * y_stride, acc[t][0]);
        _mm512_storeu_ps(y + (size_t)t * y_stride + 16, acc[t][1]);
    }
}

#include "kernels/tiles.h"

GEMM_QUANT(gemm_q4_0_avx512, KERNELS_Q4_0)
GEMM_QUANT(gemm_q4_1_avx512, KERNELS_Q4_1)
GEMM_QUANT(gemm_q5_0_avx512, KERNELS_Q5_0)
GEMM_QUANT(gemm_q5_1_avx512, KERNELS_Q5_1)
GEMM_QUANT(gemm_q8_0_avx512, KERNELS_Q8_0)
GEMM_QUANT(gemm_q2_k_avx512, KERNELS_Q2_K)
GEMM_QUANT(gemm_q3_k_avx512, KERNELS_Q3_K)
GEMM_QUANT(gemm_q4_k_avx512, KERNELS_Q4_K)
GEMM_QUANT(gemm_q5_k_avx512, KERNELS_Q5_K)
GEMM_QUANT(gemm_q6_k_avx512, KERNELS_Q6_K)
GEMM_FLOAT(gemm_f32_avx512, KERNELS_F32)
GEMM_FLOAT(gemm_f16_avx512, KERNELS_F16)
GEMM_FLOAT(gemm_bf16_avx512, KERNELS_BF16)

/* 128 times the sum of the query is the same for all rows. Two sums, so that a row does not wait
 * for its own additions. */
static void scan_u8_avx512(const uint8_t *rows, size_t cols, size_t count, const int8_t *q,
                           int32_t *out)
{
    int32_t offset = 0;

    for (size_t c = 0; c < cols; c++)
        offset += q[c];
    offset *= 128;
    for (size_t i = 0; i < count; i++, rows += cols) {
        __m512i a = _mm512_setzero_si512(), b = _mm512_setzero_si512();
        size_t c = 0;

        for (; c + 128 <= cols; c += 128) {
            a = _mm512_dpbusd_epi32(a, _mm512_loadu_si512(rows + c), _mm512_loadu_si512(q + c));
            b = _mm512_dpbusd_epi32(b, _mm512_loadu_si512(rows + c + 64),
                                    _mm512_loadu_si512(q + c + 64));
        }
        if (c < cols)
            a = _mm512_dpbusd_epi32(a, _mm512_loadu_si512(rows + c), _mm512_loadu_si512(q + c));
        out[i] = _mm512_reduce_add_epi32(_mm512_add_epi32(a, b)) - offset;
    }
}

void kernels_init_avx512(kernels *k)
{
    static const kernels_gemm_fn gemms[KERNELS_FMT_COUNT] = {
        gemm_f32_avx512,  gemm_f16_avx512,  gemm_bf16_avx512, gemm_q4_0_avx512, gemm_q4_1_avx512,
        gemm_q5_0_avx512, gemm_q5_1_avx512, gemm_q8_0_avx512, gemm_q2_k_avx512, gemm_q3_k_avx512,
        gemm_q4_k_avx512, gemm_q5_k_avx512, gemm_q6_k_avx512,
    };

    k->isa = "avx512";
    memcpy(k->gemm, gemms, sizeof gemms);
    k->scan_u8 = scan_u8_avx512;
#ifndef SL_SIMDE
    k->quantize_q8 = quantize_q8_avx512;
#endif
    simd_init_avx512(k);
}
