/* avx2.c - kernels for AVX2 with FMA and F16C.
 *
 * A panel's 16 rows are two registers of 8 rows. Integer products go through vpmaddubsw (unsigned
 * weights times signed activations, pairs summed to int16); how many of those sums fit int16 before
 * they must widen is what tells the formats apart. */
#include <immintrin.h>

#include "kernels/kernels_int.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define TILE_TOKENS   4

typedef float vf __attribute__((vector_size(32)));
typedef int32_t vi __attribute__((vector_size(32)));
#define VF_N         8
#define SIMD_NAME(x) x##_avx2

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
        out[i].h[0] = out[i].d * (float)lo;
        out[i].h[1] = out[i].d * (float)hi;
    }
}

/* Four activations in every lane. */
static ALWAYS_INLINE __m256i bcast4(const int8_t *q)
{
    int32_t v;

    memcpy(&v, q, sizeof v);
    return _mm256_set1_epi32(v);
}

static ALWAYS_INLINE __m256 load_scale(const uint8_t *p, size_t half, bool wide)
{
    if (wide)
        return _mm256_loadu_ps((const float *)(const void *)p + half * 8);
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + half));
}

/* The 8 registers of one block and one half of the rows: chunk j holds columns 4j..4j+3. */
static ALWAYS_INLINE void load_quants(const uint8_t *p, size_t half, bool four_bits, __m256i w[8])
{
    const __m256i low = _mm256_set1_epi8(15);

    for (size_t j = 0; j < (four_bits ? 4 : 8); j++) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(p + j * 64 + half * 32));

        if (four_bits) {
            w[j] = _mm256_and_si256(v, low);
            w[j + 4] = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
        } else {
            w[j] = v;
        }
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

/* One block of 32 columns for `tile` tokens and 8 rows. */
static ALWAYS_INLINE void block_avx2(kernels_fmt fmt, const uint8_t *p, size_t half,
                                     const kernels_q8 *const *a, size_t i, __m256 *acc, int tile)
{
    const bool wide = fmt != KERNELS_U4 && fmt != KERNELS_S8;
    const size_t step = wide ? 64 : 32;
    __m256i w[8];

    if (fmt == KERNELS_U8H) {
        __m256 d0 = load_scale(p, half, true), d1 = load_scale(p + step, half, true);
        __m256 m0 = load_scale(p + step * 2, half, true), m1 = load_scale(p + step * 3, half, true);

        load_quants(p + step * 4, half, false, w);
        for (int t = 0; t < tile; t++) {
            const kernels_q8 *b = &a[t][i];
            __m256 ad = _mm256_set1_ps(b->d);
            __m256 x0 = _mm256_cvtepi32_ps(dot_u8_half(w, b->q));
            __m256 x1 = _mm256_cvtepi32_ps(dot_u8_half(w + 4, b->q + 16));

            acc[t] = _mm256_fmadd_ps(_mm256_mul_ps(d0, ad), x0, acc[t]);
            acc[t] = _mm256_fmadd_ps(_mm256_mul_ps(d1, ad), x1, acc[t]);
            acc[t] = _mm256_fmadd_ps(m0, _mm256_set1_ps(b->h[0]), acc[t]);
            acc[t] = _mm256_fmadd_ps(m1, _mm256_set1_ps(b->h[1]), acc[t]);
        }
        return;
    }
    __m256 d = load_scale(p, half, wide);
    __m256 m = fmt == KERNELS_S8 ? d : load_scale(p + step, half, wide);

    load_quants(p + step * (fmt == KERNELS_S8 ? 1 : 2), half,
                fmt == KERNELS_U4 || fmt == KERNELS_U4W, w);
    for (int t = 0; t < tile; t++) {
        const kernels_q8 *b = &a[t][i];
        __m256i dot = fmt == KERNELS_S8 ? dot_s8(w, b->q)
                      : fmt == KERNELS_U8
                          ? _mm256_add_epi32(dot_u8_half(w, b->q), dot_u8_half(w + 4, b->q + 16))
                          : dot_u4(w, b->q);

        acc[t] = _mm256_fmadd_ps(_mm256_mul_ps(d, _mm256_set1_ps(b->d)), _mm256_cvtepi32_ps(dot),
                                 acc[t]);
        if (fmt != KERNELS_S8)
            acc[t] = _mm256_fmadd_ps(m, _mm256_set1_ps(b->s), acc[t]);
    }
}

static ALWAYS_INLINE void tile_quant(kernels_fmt fmt, size_t block_bytes, const uint8_t *panel,
                                     size_t blocks, const char *x, size_t x_stride, float *y,
                                     size_t y_stride, const int tile)
{
    const kernels_q8 *a[TILE_TOKENS];
    __m256 acc[2][TILE_TOKENS];

    for (int t = 0; t < tile; t++) {
        a[t] = (const kernels_q8 *)(const void *)(x + (size_t)t * x_stride);
        acc[0][t] = acc[1][t] = _mm256_setzero_ps();
    }
    for (size_t i = 0; i < blocks; i++, panel += block_bytes) {
        if (tile == 1)
            for (size_t c = 0; c < block_bytes; c += 64)
                _mm_prefetch((const char *)panel + KERNELS_PREFETCH_BYTES + c, _MM_HINT_T0);
        block_avx2(fmt, panel, 0, a, i, acc[0], tile);
        block_avx2(fmt, panel, 1, a, i, acc[1], tile);
    }
    for (int t = 0; t < tile; t++) {
        _mm256_storeu_ps(y + (size_t)t * y_stride, acc[0][t]);
        _mm256_storeu_ps(y + (size_t)t * y_stride + 8, acc[1][t]);
    }
}

static ALWAYS_INLINE __m256 load_weight(kernels_fmt fmt, const void *panel, size_t i)
{
    if (fmt == KERNELS_F32)
        return _mm256_loadu_ps((const float *)panel + i);
    if (fmt == KERNELS_F16)
        return _mm256_cvtph_ps(
            _mm_loadu_si128((const __m128i *)(const void *)((const uint16_t *)panel + i)));
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(
                              (const __m128i *)(const void *)((const uint16_t *)panel + i))),
                          16));
}

static ALWAYS_INLINE void tile_float(kernels_fmt fmt, const void *panel, size_t cols, const char *x,
                                     size_t x_stride, float *y, size_t y_stride, const int tile)
{
    const float *a[TILE_TOKENS];
    __m256 acc[2][TILE_TOKENS];

    for (int t = 0; t < tile; t++) {
        a[t] = (const float *)(const void *)(x + (size_t)t * x_stride);
        acc[0][t] = acc[1][t] = _mm256_setzero_ps();
    }
    for (size_t c = 0; c < cols; c++) {
        __m256 w0 = load_weight(fmt, panel, c * KERNELS_ROWS);
        __m256 w1 = load_weight(fmt, panel, c * KERNELS_ROWS + 8);

        for (int t = 0; t < tile; t++) {
            __m256 v = _mm256_set1_ps(a[t][c]);

            acc[0][t] = _mm256_fmadd_ps(w0, v, acc[0][t]);
            acc[1][t] = _mm256_fmadd_ps(w1, v, acc[1][t]);
        }
    }
    for (int t = 0; t < tile; t++) {
        _mm256_storeu_ps(y + (size_t)t * y_stride, acc[0][t]);
        _mm256_storeu_ps(y + (size_t)t * y_stride + 8, acc[1][t]);
    }
}

#include "kernels/tiles.h"

GEMM_QUANT(gemm_u4_avx2, KERNELS_U4, 320)
GEMM_QUANT(gemm_u4w_avx2, KERNELS_U4W, 384)
GEMM_QUANT(gemm_u8_avx2, KERNELS_U8, 640)
GEMM_QUANT(gemm_u8h_avx2, KERNELS_U8H, 768)
GEMM_QUANT(gemm_s8_avx2, KERNELS_S8, 544)
GEMM_FLOAT(gemm_f32_avx2, KERNELS_F32)
GEMM_FLOAT(gemm_f16_avx2, KERNELS_F16)
GEMM_FLOAT(gemm_bf16_avx2, KERNELS_BF16)

void kernels_init_avx2(kernels *k)
{
    *k = (kernels){
        .isa = "avx2",
        .quantize_q8 = quantize_q8_avx2,
        .gemm = { gemm_f32_avx2, gemm_f16_avx2, gemm_bf16_avx2, gemm_u4_avx2, gemm_u4w_avx2,
                  gemm_u8_avx2, gemm_u8h_avx2, gemm_s8_avx2 },
        .rmsnorm = rmsnorm_avx2,
        .layernorm = layernorm_avx2,
        .silu_mul = silu_mul_avx2,
        .gelu_tanh_mul = gelu_tanh_mul_avx2,
        .gelu_erf_mul = gelu_erf_mul_avx2,
        .f32_to_f16 = f32_to_f16_avx2,
        .attn = attn_avx2,
    };
}
