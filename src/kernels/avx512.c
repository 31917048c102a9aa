/* avx512.c - kernels for AVX-512 with VNNI.
 *
 * One register holds the 16 rows of a panel; vpdpbusd multiplies four columns of each with four
 * activations and adds to int32, so that nothing can overflow. Signed weights are made unsigned by
 * adding 128, and 128 times the sum of the activations is taken off again. */
#ifndef SL_SIMDE /* tests build this file on any machine, over emulated intrinsics */
#include <immintrin.h>
#endif

#include "kernels/kernels_int.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define TILE_TOKENS   8

typedef float vf __attribute__((vector_size(64)));
typedef int32_t vi __attribute__((vector_size(64)));
#define VF_N         16
#define SIMD_NAME(x) x##_avx512

#ifdef SL_SIMDE
static ALWAYS_INLINE __m512 cvt_f16(const uint16_t *p)
{
    float f[16];

    for (int i = 0; i < 16; i++)
        f[i] = f16_f32(p[i]);
    return _mm512_loadu_ps(f);
}
#else
static ALWAYS_INLINE __m512 cvt_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
#endif

static ALWAYS_INLINE vf vf_load_f16(const uint16_t *p)
{
    __m512 v = cvt_f16(p);
    vf r;

    memcpy(&r, &v, sizeof r);
    return r;
}

static ALWAYS_INLINE void vf_store_f16(uint16_t *p, vf v)
{
#ifdef SL_SIMDE
    for (int i = 0; i < VF_N; i++)
        p[i] = f32_f16(v[i]);
#else
    _mm256_storeu_si256((__m256i *)(void *)p,
                        _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#endif
}

static ALWAYS_INLINE vf vf_fma(vf a, vf b, vf c)
{
#ifdef SL_SIMDE
    for (int i = 0; i < VF_N; i++)
        c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
#else
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#endif
}

#include "kernels/simd_body.h"

/* Four activations in every lane. */
static ALWAYS_INLINE __m512i bcast4(const int8_t *q)
{
    int32_t v;

    memcpy(&v, q, sizeof v);
    return _mm512_set1_epi32(v);
}

static ALWAYS_INLINE __m512 load_scale(const uint8_t *p, bool wide)
{
    if (wide)
        return _mm512_loadu_ps((const float *)(const void *)p);
    return cvt_f16((const uint16_t *)(const void *)p);
}

static ALWAYS_INLINE void load_quants(const uint8_t *p, kernels_fmt fmt, __m512i w[8])
{
    const bool four_bits = fmt == KERNELS_U4 || fmt == KERNELS_U4W;

    for (size_t j = 0; j < (four_bits ? 4 : 8); j++) {
        __m512i v = _mm512_loadu_si512((const void *)(p + j * 64));

        if (four_bits) {
            w[j] = _mm512_and_si512(v, _mm512_set1_epi8(15));
            w[j + 4] = _mm512_and_si512(_mm512_srli_epi16(v, 4), _mm512_set1_epi8(15));
        } else if (fmt == KERNELS_S8) {
            w[j] = _mm512_xor_si512(v, _mm512_set1_epi8((char)0x80)); /* w + 128 */
        } else {
            w[j] = v;
        }
    }
}

/* Dot of 16 rows with 16 activations. */
static ALWAYS_INLINE __m512i dot_half(const __m512i w[4], const int8_t *q)
{
    __m512i s = _mm512_setzero_si512();

    for (int j = 0; j < 4; j++)
        s = _mm512_dpbusd_epi32(s, w[j], bcast4(q + j * 4));
    return s;
}

/* One block of 32 columns for `tile` tokens and 16 rows. */
static ALWAYS_INLINE void block_avx512(kernels_fmt fmt, const uint8_t *p,
                                       const kernels_q8 *const *a, size_t i, __m512 *acc, int tile)
{
    const bool wide = fmt != KERNELS_U4 && fmt != KERNELS_S8;
    const size_t step = wide ? 64 : 32;
    __m512i w[8];

    if (fmt == KERNELS_U8H) {
        __m512 d0 = load_scale(p, true), d1 = load_scale(p + step, true);
        __m512 m0 = load_scale(p + step * 2, true), m1 = load_scale(p + step * 3, true);

        load_quants(p + step * 4, fmt, w);
        for (int t = 0; t < tile; t++) {
            const kernels_q8 *b = &a[t][i];
            __m512 ad = _mm512_set1_ps(b->d);
            __m512 x0 = _mm512_cvtepi32_ps(dot_half(w, b->q));
            __m512 x1 = _mm512_cvtepi32_ps(dot_half(w + 4, b->q + 16));

            acc[t] = _mm512_fmadd_ps(_mm512_mul_ps(d0, ad), x0, acc[t]);
            acc[t] = _mm512_fmadd_ps(_mm512_mul_ps(d1, ad), x1, acc[t]);
            acc[t] = _mm512_fmadd_ps(m0, _mm512_set1_ps(b->h[0]), acc[t]);
            acc[t] = _mm512_fmadd_ps(m1, _mm512_set1_ps(b->h[1]), acc[t]);
        }
        return;
    }
    __m512 d = load_scale(p, wide);
    __m512 m =
        fmt == KERNELS_S8 ? _mm512_mul_ps(d, _mm512_set1_ps(-128.0f)) : load_scale(p + step, wide);

    load_quants(p + step * (fmt == KERNELS_S8 ? 1 : 2), fmt, w);
    for (int t = 0; t < tile; t++) {
        const kernels_q8 *b = &a[t][i];
        __m512i dot = _mm512_add_epi32(dot_half(w, b->q), dot_half(w + 4, b->q + 16));

        acc[t] = _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(b->d)), _mm512_cvtepi32_ps(dot),
                                 acc[t]);
        acc[t] = _mm512_fmadd_ps(m, _mm512_set1_ps(b->s), acc[t]);
    }
}

static ALWAYS_INLINE void tile_quant(kernels_fmt fmt, size_t block_bytes, const uint8_t *panel,
                                     size_t blocks, const char *x, size_t x_stride, float *y,
                                     size_t y_stride, const int tile)
{
    const kernels_q8 *a[TILE_TOKENS];
    __m512 acc[TILE_TOKENS];

    for (int t = 0; t < tile; t++) {
        a[t] = (const kernels_q8 *)(const void *)(x + (size_t)t * x_stride);
        acc[t] = _mm512_setzero_ps();
    }
    for (size_t i = 0; i < blocks; i++, panel += block_bytes) {
        if (tile == 1)
            for (size_t c = 0; c < block_bytes; c += 64)
                __builtin_prefetch(panel + KERNELS_PREFETCH_BYTES + c, 0, 3);
        block_avx512(fmt, panel, a, i, acc, tile);
    }
    for (int t = 0; t < tile; t++)
        _mm512_storeu_ps(y + (size_t)t * y_stride, acc[t]);
}

static ALWAYS_INLINE __m512 load_weight(kernels_fmt fmt, const void *panel, size_t i)
{
    if (fmt == KERNELS_F32)
        return _mm512_loadu_ps((const float *)panel + i);
    if (fmt == KERNELS_F16)
        return cvt_f16((const uint16_t *)panel + i);
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(
                              (const __m256i *)(const void *)((const uint16_t *)panel + i))),
                          16));
}

static ALWAYS_INLINE void tile_float(kernels_fmt fmt, const void *panel, size_t cols, const char *x,
                                     size_t x_stride, float *y, size_t y_stride, const int tile)
{
    const float *a[TILE_TOKENS];
    __m512 acc[TILE_TOKENS];

    for (int t = 0; t < tile; t++) {
        a[t] = (const float *)(const void *)(x + (size_t)t * x_stride);
        acc[t] = _mm512_setzero_ps();
    }
    for (size_t c = 0; c < cols; c++) {
        __m512 w = load_weight(fmt, panel, c * KERNELS_ROWS);

        for (int t = 0; t < tile; t++)
            acc[t] = _mm512_fmadd_ps(w, _mm512_set1_ps(a[t][c]), acc[t]);
    }
    for (int t = 0; t < tile; t++)
        _mm512_storeu_ps(y + (size_t)t * y_stride, acc[t]);
}

#include "kernels/tiles.h"

GEMM_QUANT(gemm_u4_avx512, KERNELS_U4, 320)
GEMM_QUANT(gemm_u4w_avx512, KERNELS_U4W, 384)
GEMM_QUANT(gemm_u8_avx512, KERNELS_U8, 640)
GEMM_QUANT(gemm_u8h_avx512, KERNELS_U8H, 768)
GEMM_QUANT(gemm_s8_avx512, KERNELS_S8, 544)
GEMM_FLOAT(gemm_f32_avx512, KERNELS_F32)
GEMM_FLOAT(gemm_f16_avx512, KERNELS_F16)
GEMM_FLOAT(gemm_bf16_avx512, KERNELS_BF16)

/* The quantizer of the AVX2 table stays: it is never the bottleneck. */
void kernels_init_avx512(kernels *k)
{
    static const kernels_gemm_fn gemm[KERNELS_FMT_COUNT] = {
        gemm_f32_avx512, gemm_f16_avx512, gemm_bf16_avx512, gemm_u4_avx512,
        gemm_u4w_avx512, gemm_u8_avx512,  gemm_u8h_avx512,  gemm_s8_avx512,
    };

    k->isa = "avx512";
    memcpy(k->gemm, gemm, sizeof gemm);
    k->rmsnorm = rmsnorm_avx512;
    k->layernorm = layernorm_avx512;
    k->silu_mul = silu_mul_avx512;
    k->gelu_tanh_mul = gelu_tanh_mul_avx512;
    k->gelu_erf_mul = gelu_erf_mul_avx512;
    k->f32_to_f16 = f32_to_f16_avx512;
    k->attn = attn_avx512;
}
