/* avx512.h - vectors of 16 floats: what simd_body.h and simd_exp.h are written in. */
#ifndef SL_KERNELS_AVX512_H
#define SL_KERNELS_AVX512_H

#ifndef SL_SIMDE /* tests build avx512.c on any machine, over emulated intrinsics */
#include <immintrin.h>
#endif

#include "kernels/packed.h"

typedef float vf __attribute__((vector_size(64)));
typedef int32_t vi __attribute__((vector_size(64)));
#define VF_N 16

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

static ALWAYS_INLINE vf vf_load_i8(const int8_t *p)
{
#ifdef SL_SIMDE
    vf r;

    for (int i = 0; i < VF_N; i++)
        r[i] = p[i];
    return r;
#else
    return (vf)_mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
#endif
}

static ALWAYS_INLINE float vf_max_of(vf v)
{
#ifdef SL_SIMDE
    float max = v[0];

    for (int i = 1; i < VF_N; i++)
        max = v[i] > max ? v[i] : max;
    return max;
#else
    return _mm512_reduce_max_ps((__m512)v);
#endif
}

static ALWAYS_INLINE float vf_sum(vf v)
{
#ifdef SL_SIMDE
    float sum = 0;

    for (int i = 0; i < VF_N / 2; i++)
        sum += v[i] + v[i + VF_N / 2];
    return sum;
#else
    return _mm512_reduce_add_ps((__m512)v);
#endif
}

static ALWAYS_INLINE vf vf_scale2(vf v, vf n)
{
#ifdef SL_SIMDE
    return v * (vf)((__builtin_convertvector(n, vi) + 127) << 23);
#else
    return (vf)_mm512_scalef_ps((__m512)v, (__m512)n);
#endif
}

/* Bit i: v[i] >= floor. */
static ALWAYS_INLINE uint32_t vf_at_least(vf v, float floor)
{
#ifdef SL_SIMDE
    uint32_t bits = 0;

    for (int i = 0; i < VF_N; i++)
        bits |= (uint32_t)(v[i] >= floor) << i;
    return bits;
#else
    return _mm512_cmp_ps_mask((__m512)v, _mm512_set1_ps(floor), _CMP_GE_OQ);
#endif
}

#endif
