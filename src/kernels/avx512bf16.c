/* avx512bf16.c - products of BF16 weights on processors with vdpbf16ps: pairs of columns, twice the
 * rate of float. Activations are rounded to BF16 too; sums are float. */
#include <immintrin.h>

#include "kernels/kernels_int.h"

#define TILE_TOKENS 12

/* 32 rows by `tile` tokens over a chunk of columns; go_on: y holds the sums so far. */
static ALWAYS_INLINE void tile_bf16(const uint16_t *panel, size_t pairs, const char *x,
                                    size_t x_stride, float *y, size_t y_stride, bool go_on,
                                    const int tile)
{
    __m512 acc[TILE_TOKENS][2];

    UNROLL for (int t = 0; t < tile; t++) acc[t][0] = acc[t][1] = _mm512_setzero_ps();
    if (go_on) {
        UNROLL for (int t = 0; t < tile; t++)
        {
            acc[t][0] = _mm512_loadu_ps(y + (size_t)t * y_stride);
            acc[t][1] = _mm512_loadu_ps(y + (size_t)t * y_stride + 16);
        }
    }
    for (size_t i = 0; i < pairs; i++, panel += 2 * KERNELS_ROWS, x += 4) {
        __m512bh w0 = (__m512bh)_mm512_loadu_si512((const void *)panel);
        __m512bh w1 = (__m512bh)_mm512_loadu_si512((const void *)(panel + KERNELS_ROWS));

        __builtin_prefetch(panel + KERNELS_PREFETCH_BYTES / 2, 0, 2);
        __builtin_prefetch(panel + KERNELS_PREFETCH_BYTES / 2 + KERNELS_ROWS, 0, 2);
        UNROLL for (int t = 0; t < tile; t++)
        {
            int32_t pair;

            memcpy(&pair, x + (size_t)t * x_stride, sizeof pair);
            __m512bh v = (__m512bh)_mm512_set1_epi32(pair);

            acc[t][0] = _mm512_dpbf16_ps(acc[t][0], w0, v);
            acc[t][1] = _mm512_dpbf16_ps(acc[t][1], w1, v);
        }
    }
    UNROLL for (int t = 0; t < tile; t++)
    {
        _mm512_storeu_ps(y + (size_t)t * y_stride, acc[t][0]);
        _mm512_storeu_ps(y + (size_t)t * y_stride + 16, acc[t][1]);
    }
}

static void tiles_bf16(const uint16_t *panel, size_t pairs, const char *x, size_t x_stride,
                       size_t tokens, float *y, size_t y_stride, bool go_on)
{
    for (size_t tiles = (tokens + TILE_TOKENS - 1) / TILE_TOKENS; tiles > 0; tiles--) {
        size_t n = (tokens + tiles - 1) / tiles; /* as equal as can be */

#define GEMM(size) tile_bf16(panel, pairs, x, x_stride, y, y_stride, go_on, size)
        switch (n) {
            TILE_CASES_12(GEMM)
        }
#undef GEMM
        x += n * x_stride;
        y += n * y_stride;
        tokens -= n;
    }
}

static void gemm_bf16(const void *panel, size_t cols, const void *x, size_t x_stride, size_t tokens,
                      float *y, size_t y_stride, void *scratch)
{
    const size_t chunk = KERNELS_CHUNK_COLS / 2;
    size_t pairs = (cols + 1) / 2;

    (void)scratch;
    for (size_t from = 0; from < pairs; from += chunk)
        tiles_bf16((const uint16_t *)panel + from * 2 * KERNELS_ROWS,
                   pairs - from < chunk ? pairs - from : chunk, (const char *)x + from * 4,
                   x_stride, tokens, y, y_stride, from > 0);
}

/* To nearest even, as vcvtneps2bf16 does; it makes denormals zero, as vdpbf16ps does. */
static void f32_to_bf16_avx512(const float *x, size_t n, uint16_t *out)
{
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256((__m256i *)(void *)(out + i),
                            (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x + i)));
    for (; i < n; i++)
        out[i] = f32_bf16(x[i]);
}

void kernels_init_avx512bf16(kernels *k)
{
    k->isa = "avx512bf16";
    k->act[KERNELS_BF16] = KERNELS_ACT_BF16;
    k->gemm[KERNELS_BF16] = gemm_bf16;
    k->f32_to_bf16 = f32_to_bf16_avx512;
    kernels_init_attn_bf16(k);
}
