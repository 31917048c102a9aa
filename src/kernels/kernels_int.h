/* kernels_int.h - what the kernel files share: tables, and inline conversions. */
#ifndef SL_KERNELS_INT_H
#define SL_KERNELS_INT_H

#include <string.h>

#include "kernels/kernels.h"

/* Loops over registers must not stay loops. Emulated registers (tests) are memory: there neither
 * matters, and unrolling would take the compiler minutes. Nor does speed under sanitizers, whose
 * checks keep gcc from unrolling. */
#if defined(SL_SIMDE)
#define ALWAYS_INLINE inline
#define UNROLL
#else
#define ALWAYS_INLINE inline __attribute__((always_inline))
#if defined(__SANITIZE_ADDRESS__)
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#endif

/* The cases of a switch over a tile's size: tile(size) with a constant, for loops over registers.
 */
#define TILE_CASE(tile, size)                                                                      \
    case size:                                                                                     \
        tile(size);                                                                                \
        break;
#define TILE_CASES_4(tile)                                                                         \
    TILE_CASE(tile, 1) TILE_CASE(tile, 2) TILE_CASE(tile, 3) TILE_CASE(tile, 4)
#define TILE_CASES_6(tile) TILE_CASES_4(tile) TILE_CASE(tile, 5) TILE_CASE(tile, 6)
#define TILE_CASES_8(tile) TILE_CASES_6(tile) TILE_CASE(tile, 7) TILE_CASE(tile, 8)
#define TILE_CASES_12(tile)                                                                        \
    TILE_CASES_8(tile)                                                                             \
    TILE_CASE(tile, 9) TILE_CASE(tile, 10) TILE_CASE(tile, 11) TILE_CASE(tile, 12)

void kernels_init_ref(kernels *k);
void kernels_init_avx2(kernels *k);
void kernels_init_avx512(kernels *k);
void kernels_init_avx512bf16(kernels *k);
void kernels_init_attn_bf16(kernels *k);

/* Formats with scales per 16 columns: below this many tokens a panel is unpacked in registers for
 * each; from it on, once into scratch for all. */
#define KERNELS_SCRATCH_TOKENS 4
/* How far ahead a stream of weights is called into the second-level cache. More, or into the
 * first level, measured slower. */
#define KERNELS_PREFETCH_BYTES 1536
/* Products over more columns go chunk by chunk, the sums waiting in y, so that a chunk of a panel
 * and of many tokens' activations fit the second-level cache together. Whole units of K-quants. */
#define KERNELS_CHUNK_COLS 2048
/* A block of 32 x 32 quants in bytes, and scale and offset in f32 for either half. */
#define KERNELS_WIDE_BYTES (KERNELS_ROWS * (KERNELS_BLOCK + 4 * sizeof(float)))
/* Where masked scores stand: far below any real one, yet finite. */
#define KERNELS_MASKED (-1e30f)

static inline float bits_f32(uint32_t u)
{
    float f;

    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t f32_bits(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float f16_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, mag = h & 0x7fff;

    if (mag >= 0x7c00) /* infinity, NaN */
        return bits_f32(sign | 0x7f800000 | (mag & 0x3ff) << 13);
    if (mag >= 0x400)
        return bits_f32(sign | ((mag << 13) + 0x38000000));
    return bits_f32(sign | f32_bits((float)mag * 0x1p-24f));
}

static inline uint16_t f32_f16(float f)
{
    uint32_t u = f32_bits(f), sign = u >> 16 & 0x8000, mag = u & 0x7fffffff;

    if (mag > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (mag >= 0x47800000) /* 65536 and above, infinity */
        return (uint16_t)(sign | 0x7c00);
    if (mag < 0x38800000) { /* subnormal: let the adder round */
        float r = bits_f32(mag) + 0.5f;

        return (uint16_t)(sign | (f32_bits(r) - 0x3f000000));
    }
    mag += 0xfff + (mag >> 13 & 1);
    return (uint16_t)(sign | ((mag - 0x38000000) >> 13));
}

/* To nearest even; NaN stays one. */
static inline float bf16_f32(uint16_t h)
{
    return bits_f32((uint32_t)h << 16);
}

static inline uint16_t f32_bf16(float f)
{
    uint32_t u = f32_bits(f);

    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* f rounded to f16 where f16 has it as a normal number; f itself elsewhere, so that no activation
 * is too large or too small. */
static inline float round_f16(float f)
{
    float mag = f < 0 ? -f : f;

    return mag >= 0x1p-14f && mag <= 65504.0f ? f16_f32(f32_f16(f)) : f;
}

#endif
