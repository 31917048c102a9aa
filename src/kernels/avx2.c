/* avx2.c - kernels for AVX2 with FMA and F16C.
 *
 * A panel's 32 rows are four registers of 8 rows. Integer products go through vpmaddubsw (unsigned
 * weights times signed activations, pairs summed to int16); how many of those sums fit int16 before
 * they must widen is what tells the formats apart. */
#include <immintrin.h>

#include "kernels/packed.h"

#define TILE_TOKENS 4
#define FLOAT_TILE  4
#define QUARTERS    (KERNELS_ROWS / 8)

typedef float vf __attribute__((vector_size(32)));
typedef int32_t vi __attribute__((vector_size(32)));
#define VF_N         8
#define SIMD_NAME(x) x##_avx2
#define ATTN_TILE    4
#define ATTN_CASES   TILE_CASES_4
#define ATTN_PAIR    1

static ALWAYS_INLINE vf vf_load_f16(const uint16_t *p)
{
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

static ALWAYS_INLINE void vf_store_f16(uint16_t *p, vf v)
{
    _mm_storeu_si128((__m128i *)p,
                     _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

static ALWAYS_INLINE vf vf_fma(vf a, vf b, vf c)
{
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}

static ALWAYS_INLINE vf vf_load_i8(const int8_t *p)
{
    return (vf)_mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}

static ALWAYS_INLINE float vf_max_of(vf v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));

    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

static ALWAYS_INLINE float vf_sum(vf v)
{
    __m128 m = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));

    m = _mm_add_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_add_ss(m, _mm_movehdup_ps(m)));
}

static ALWAYS_INLINE vf vf_scale2(vf v, vf n)
{
    return v * (vf)((__builtin_convertvector(n, vi) + 127) << 23);
}

/* Bit i: v[i] >= floor. */
static ALWAYS_INLINE uint32_t vf_at_least(vf v, float floor)
{
    return (uint32_t)_mm256_movemask_ps(
        _mm256_cmp_ps((__m256)v, _mm256_set1_ps(floor), _CMP_GE_OQ));
}

#include "kernels/simd_body.h"

static void quantize_q8_avx2(const float *x, size_t blocks, kernels_q8 *out)
{
    const __m256 abs_mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    const __m256i ones = _mm256_set1_epi8(1), order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);

    for (size_t i = 0; i < blocks; i++, x += KERNELS_BLOCK) {
        __m256 v0 = _mm256_loadu_ps(x), v1 = _mm256_loadu_ps(x + 8);
        __m256 v2 = _mm256_loadu_ps(x + 16), v3 = _mm256_loadu_ps(x + 24);
        __m256 m =
            _mm256_max_ps(_mm256_max_ps(_mm256_and_ps(v0, abs_mask), _mm256_and_ps(v1, abs_mask)),
                          _mm256_max_ps(_mm256_and_ps(v2, abs_mask), _mm256_and_ps(v3, abs_mask)));
        __m128 h = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
        float amax, d;
        __m256 inv;
        __m256i q, sums;
        int32_t sum[8], lo, hi;

        h = _mm_max_ps(h, _mm_movehl_ps(h, h));
        h = _mm_max_ss(h, _mm_movehdup_ps(h));
        amax = _mm_cvtss_f32(h);
        inv = _mm256_set1_ps(amax > 0 ? 127.0f / amax : 0);
        q = _mm256_packs_epi16(_mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(v0, inv)),
                                                  _mm256_cvtps_epi32(_mm256_mul_ps(v1, inv))),
                               _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(v2, inv)),
                                                  _mm256_cvtps_epi32(_mm256_mul_ps(v3, inv))));
        q = _mm256_permutevar8x32_epi32(q, order);
        _mm256_storeu_si256((__m256i *)out[i].q, q);
        sums = _mm256_madd_epi16(_mm256_maddubs_epi16(ones, q), _mm256_set1_epi16(1));
        _mm256_storeu_si256((__m256i *)sum, sums);
        d = amax / 127.0f;
        lo = sum[0] + sum[1] + sum[2] + sum[3];
        hi = sum[4] + sum[5] + sum[6] + sum[7];
        out[i].d = round_f16(d);
        out[i].s = round_f16(d * (float)(lo + hi));
        out[i].n = -(lo + hi);
        out[i].n0 = -lo;
    }
}

/* Four activations in every lane. */
static ALWAYS_INLINE __m256i bcast4(const int8_t *q)
{
    int32_t v;

    memcpy(&v, q, sizeof v);
    return _mm256_set1_epi32(v);
}

static ALWAYS_INLINE __m256 half_row(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

static ALWAYS_INLINE __m256i load_u8(const uint8_t *p)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

/* Scales and minima of 8 rows, by half of the block where the format has two. */
typedef struct scales {
    __m256 d[2], m[2];
} scales;

static ALWAYS_INLINE scales load_scales(kernels_fmt f, const uint8_t *head, size_t b, size_t g)
{
    __m256 d = half_row(head + g * 16), m = _mm256_setzero_ps();
    scales s;

    if (packed_has_min(f))
        m = half_row(head + PACKED_VEC + g * 16);
    s.d[0] = s.d[1] = d;
    s.m[0] = s.m[1] = m;
    for (size_t h = 0; packed_is_k(f) && h < (packed_has_halves(f) ? 2 : 1); h++) {
        const uint8_t *p = packed_k_scales(f, head, b, h) + g * 8;
        __m256i sc = load_u8(p), mn = sc;

        if (f == KERNELS_Q2_K) {
            sc = _mm256_and_si256(sc, _mm256_set1_epi32(15));
            mn = _mm256_srli_epi32(mn, 4);
        } else if (packed_has_min(f)) {
            mn = load_u8(packed_k_mins(head, b) + g * 8);
        } else {
            sc = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
        }
        s.d[h] = _mm256_mul_ps(d, _mm256_cvtepi32_ps(sc));
        if (packed_has_min(f))
            s.m[h] =
                _mm256_mul_ps(m, _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_setzero_si256(), mn)));
    }
    return s;
}

/* 32 bits to the bytes 0 and `value`. */
static ALWAYS_INLINE __m256i spread_bits(const uint8_t *p, char value)
{
    const __m256i order = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                                           2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201ULL);
    int32_t bits;

    memcpy(&bits, p, sizeof bits);
    return _mm256_and_si256(
        _mm256_cmpeq_epi8(
            _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), order), bit), bit),
        _mm256_set1_epi8(value));
}

/* Quants of 8 rows (quarter g of the panel): w[j] holds columns 4j..4j+3. */
static ALWAYS_INLINE void load_quants(kernels_fmt f, const uint8_t *p, size_t g, __m256i w[8])
{
    const __m256i low = _mm256_set1_epi8(15);

    p += g * 32;
    for (size_t j = 0; f == KERNELS_Q8_0 && j < 8; j++)
        w[j] = _mm256_loadu_si256((const __m256i *)(const void *)(p + j * PACKED_CHUNK));
    for (size_t j = 0; f != KERNELS_Q8_0 && packed_has_nibbles(f) && j < 4; j++) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(p + j * PACKED_CHUNK));

        w[j] = _mm256_and_si256(v, low);
        w[j + 4] = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
    }
    UNROLL for (size_t j = 0; j < 8; j++)
    {
        if (packed_has_pairs(f)) {
            const int up = packed_has_nibbles(f) ? 4 : 0, shift = (int)(j % 4) * 2 - up;
            __m256i v = _mm256_loadu_si256(
                (const __m256i *)(const void *)(p + packed_pairs_at(f) + j / 4 * PACKED_CHUNK));

            v = shift >= 0 ? _mm256_srli_epi16(v, shift) : _mm256_slli_epi16(v, -shift);
            v = _mm256_and_si256(v, _mm256_set1_epi8((char)(3 << up)));
            w[j] = up ? _mm256_or_si256(w[j], v) : v;
        }
        if (packed_has_bits(f))
            w[j] =
                _mm256_or_si256(w[j], spread_bits(p - g * 32 + packed_bits_at(f) + j * 16 + g * 4,
                                                  f == KERNELS_Q3_K ? 4 : 16));
    }
}

/* Integer dot of 8 rows with 32 activations, weights at most 15: all eight products fit int16. */
static ALWAYS_INLINE __m256i dot_u4(const __m256i w[8], const int8_t *q)
{
    __m256i s0 = _mm256_maddubs_epi16(w[0], bcast4(q));
    __m256i s1 = _mm256_maddubs_epi16(w[1], bcast4(q + 4));

    for (int j = 2; j < 8; j += 2) {
        s0 = _mm256_add_epi16(s0, _mm256_maddubs_epi16(w[j], bcast4(q + j * 4)));
        s1 = _mm256_add_epi16(s1, _mm256_maddubs_epi16(w[j + 1], bcast4(q + j * 4 + 4)));
    }
    return _mm256_madd_epi16(_mm256_add_epi16(s0, s1), _mm256_set1_epi16(1));
}

/* The same for weights at most 63, over four chunks (16 columns): two products fit int16. */
static ALWAYS_INLINE __m256i dot_u8_half(const __m256i w[4], const int8_t *q)
{
    const __m256i one = _mm256_set1_epi16(1);
    __m256i a = _mm256_add_epi16(_mm256_maddubs_epi16(w[0], bcast4(q)),
                                 _mm256_maddubs_epi16(w[1], bcast4(q + 4)));
    __m256i b = _mm256_add_epi16(_mm256_maddubs_epi16(w[2], bcast4(q + 8)),
                                 _mm256_maddubs_epi16(w[3], bcast4(q + 12)));

    return _mm256_add_epi32(_mm256_madd_epi16(a, one), _mm256_madd_epi16(b, one));
}

/* Signed weights: |w| times the activation with w's sign; one product fits int16. */
static ALWAYS_INLINE __m256i dot_s8(const __m256i w[8], const int8_t *q)
{
    const __m256i one = _mm256_set1_epi16(1);
    __m256i sum = _mm256_setzero_si256();

    for (int j = 0; j < 8; j++) {
        __m256i p =
            _mm256_maddubs_epi16(_mm256_abs_epi8(w[j]), _mm256_sign_epi8(bcast4(q + j * 4), w[j]));

        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(p, one));
    }
    return sum;
}

/* The offset of the weights, times the sum of the activations, taken off a dot. */
static ALWAYS_INLINE __m256i less_offset(kernels_fmt f, __m256i dot, int32_t n)
{
    if (packed_has_min(f) || f == KERNELS_Q8_0)
        return dot;
    return _mm256_add_epi32(dot, _mm256_slli_epi32(_mm256_set1_epi32(n), packed_offset_shift(f)));
}

/* The one float step: what half h (or all) of a block adds to the sums of 8 rows. */
static ALWAYS_INLINE __m256 add_block(kernels_fmt f, __m256 acc, __m256i dot, const scales *s,
                                      const kernels_q8 *a, int h)
{
    acc =
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(s->d[h], _mm256_set1_ps(a->d)), acc);
    if (packed_has_min(f)) {
        float sum = !packed_has_halves(f) ? a->s : a->d * (float)(h == 0 ? -a->n0 : a->n0 - a->n);

        acc = _mm256_fmadd_ps(s->m[h], _mm256_set1_ps(sum), acc);
    }
    return acc;
}

/* One block of 32 columns for `tile` tokens and 8 rows. */
static ALWAYS_INLINE void block_avx2(kernels_fmt f, const uint8_t *head, const uint8_t *quants,
                                     size_t b, size_t g, const kernels_q8 *const *a, size_t i,
                                     __m256 *acc, int tile)
{
    scales s = load_scales(f, head, b, g);
    __m256i w[8];

    load_quants(f, quants, g, w);
    for (int t = 0; t < tile; t++) {
        const kernels_q8 *x = &a[t][i];

        if (packed_has_halves(f)) {
            acc[t] = add_block(f, acc[t], less_offset(f, dot_u8_half(w, x->q), x->n0), &s, x, 0);
            acc[t] = add_block(
                f, acc[t], less_offset(f, dot_u8_half(w + 4, x->q + 16), x->n - x->n0), &s, x, 1);
            continue;
        }
        __m256i dot = f == KERNELS_Q8_0 ? dot_s8(w, x->q)
                      : packed_has_bits(f)
                          ? _mm256_add_epi32(dot_u8_half(w, x->q), dot_u8_half(w + 4, x->q + 16))
                          : dot_u4(w, x->q);

        acc[t] = add_block(f, acc[t], less_offset(f, dot, x->n), &s, x, 0);
    }
}

static ALWAYS_INLINE void tile_quant(kernels_fmt f, const uint8_t *panel, size_t blocks,
                                     const char *x, size_t x_stride, float *y, size_t y_stride,
                                     const int tile)
{
    const kernels_q8 *a[TILE_TOKENS];
    __m256 acc[QUARTERS][TILE_TOKENS];

    for (int t = 0; t < tile; t++) {
        a[t] = (const kernels_q8 *)(const void *)(x + (size_t)t * x_stride);
        for (int g = 0; g < QUARTERS; g++)
            acc[g][t] = _mm256_setzero_ps();
    }
    for (size_t i = 0; i < blocks;) {
        const uint8_t *quants = panel + packed_head_bytes(f);

        for (size_t c = 0; tile == 1 && c < packed_unit_bytes(f); c += 64)
            _mm_prefetch((const char *)panel + KERNELS_PREFETCH_BYTES + c, _MM_HINT_T1);
        for (size_t b = 0; b < packed_blocks(f); b++, i++, quants += packed_quant_bytes(f))
            for (size_t g = 0; g < QUARTERS; g++)
                block_avx2(f, panel, quants, b, g, a, i, acc[g], tile);
        panel += packed_unit_bytes(f);
    }
    for (int t = 0; t < tile; t++)
        for (int g = 0; g < QUARTERS; g++)
            _mm256_storeu_ps(y + (size_t)t * y_stride + g * 8, acc[g][t]);
}

static ALWAYS_INLINE void gemm(kernels_fmt f, const uint8_t *panel, size_t cols, const char *x,
                               size_t x_stride, size_t tokens, float *y, size_t y_stride,
                               void *scratch)
{
    size_t blocks = cols / KERNELS_BLOCK, t = 0;

    (void)scratch;
    for (; t + TILE_TOKENS <= tokens; t += TILE_TOKENS)
        tile_quant(f, panel, blocks, x + t * x_stride, x_stride, y + t * y_stride, y_stride,
                   TILE_TOKENS);
    for (; t < tokens; t++)
        tile_quant(f, panel, blocks, x + t * x_stride, x_stride, y + t * y_stride, y_stride, 1);
}

/* 8 weights of column c, quarter g of the panel. */
static ALWAYS_INLINE __m256 load_weight(kernels_fmt fmt, const void *panel, size_t c, size_t g)
{
    size_t i = c * KERNELS_ROWS + g * 8;

    if (fmt == KERNELS_F32)
        return _mm256_loadu_ps((const float *)panel + i);
    if (fmt == KERNELS_F16)
        return half_row((const uint8_t *)panel + i * 2);
    __m256i v = _mm256_loadu_si256(
        (const __m256i *)(const void *)((const uint32_t *)panel + c / 2 * KERNELS_ROWS + g * 8));

    return _mm256_castsi256_ps(c % 2 ? _mm256_and_si256(v, _mm256_set1_epi32((int)0xffff0000U))
                                     : _mm256_slli_epi32(v, 16));
}

static ALWAYS_INLINE void tile_float(kernels_fmt fmt, const void *panel, size_t cols, const char *x,
                                     size_t x_stride, float *y, size_t y_stride, const int tile)
{
    const float *a[FLOAT_TILE];

    for (int t = 0; t < tile; t++)
        a[t] = (const float *)(const void *)(x + (size_t)t * x_stride);
    for (size_t g = 0; g < QUARTERS; g += 2) {
        __m256 acc[2][FLOAT_TILE];

        for (int t = 0; t < tile; t++)
            acc[0][t] = acc[1][t] = _mm256_setzero_ps();
        for (size_t c = 0; c < cols; c++) {
            __m256 w0 = load_weight(fmt, panel, c, g), w1 = load_weight(fmt, panel, c, g + 1);

            for (int t = 0; t < tile; t++) {
                __m256 v = _mm256_set1_ps(a[t][c]);

                acc[0][t] = _mm256_fmadd_ps(w0, v, acc[0][t]);
                acc[1][t] = _mm256_fmadd_ps(w1, v, acc[1][t]);
            }
        }
        for (int t = 0; t < tile; t++) {
            _mm256_storeu_ps(y + (size_t)t * y_stride + g * 8, acc[0][t]);
            _mm256_storeu_ps(y + (size_t)t * y_stride + g * 8 + 8, acc[1][t]);
        }
    }
}

#include "kernels/tiles.h"

GEMM_QUANT(gemm_q4_0_avx2, KERNELS_Q4_0)
GEMM_QUANT(gemm_q4_1_avx2, KERNELS_Q4_1)
GEMM_QUANT(gemm_q5_0_avx2, KERNELS_Q5_0)
GEMM_QUANT(gemm_q5_1_avx2, KERNELS_Q5_1)
GEMM_QUANT(gemm_q8_0_avx2, KERNELS_Q8_0)
GEMM_QUANT(gemm_q2_k_avx2, KERNELS_Q2_K)
GEMM_QUANT(gemm_q3_k_avx2, KERNELS_Q3_K)
GEMM_QUANT(gemm_q4_k_avx2, KERNELS_Q4_K)
GEMM_QUANT(gemm_q5_k_avx2, KERNELS_Q5_K)
GEMM_QUANT(gemm_q6_k_avx2, KERNELS_Q6_K)
GEMM_FLOAT(gemm_f32_avx2, KERNELS_F32)
GEMM_FLOAT(gemm_f16_avx2, KERNELS_F16)
GEMM_FLOAT(gemm_bf16_avx2, KERNELS_BF16)

/* Unsigned times signed pairs would saturate at 255 * 127 * 2: the bytes are widened. */
static void scan_u8_avx2(const uint8_t *rows, size_t cols, size_t count, const int8_t *q,
                         int32_t *out)
{
    const __m128i flip = _mm_set1_epi8((char)0x80);

    for (size_t i = 0; i < count; i++, rows += cols) {
        __m256i sum = _mm256_setzero_si256();
        __m128i s;

        for (size_t c = 0; c < cols; c += 16) {
            __m128i r = _mm_loadu_si128((const __m128i *)(rows + c));
            __m128i v = _mm_loadu_si128((const __m128i *)(q + c));

            sum = _mm256_add_epi32(sum,
                                   _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_xor_si128(r, flip)),
                                                     _mm256_cvtepi8_epi16(v)));
        }
        s = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
        s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
        s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
        out[i] = _mm_cvtsi128_si32(s);
    }
}

void kernels_init_avx2(kernels *k)
{
    static const kernels_gemm_fn gemms[KERNELS_FMT_COUNT] = {
        gemm_f32_avx2,  gemm_f16_avx2,  gemm_bf16_avx2, gemm_q4_0_avx2, gemm_q4_1_avx2,
        gemm_q5_0_avx2, gemm_q5_1_avx2, gemm_q8_0_avx2, gemm_q2_k_avx2, gemm_q3_k_avx2,
        gemm_q4_k_avx2, gemm_q5_k_avx2, gemm_q6_k_avx2,
    };

    k->isa = "avx2";
    memcpy(k->gemm, gemms, sizeof gemms);
    k->quantize_q8 = quantize_q8_avx2;
    k->scan_u8 = scan_u8_avx2;
    simd_init_avx2(k);
}
