/* kernels_int.h - what the kernel files share: tables, and inline conversions. */
#ifndef SL_KERNELS_INT_H
#define SL_KERNELS_INT_H

#include <string.h>

#include "kernels/kernels.h"

void kernels_init_ref(kernels *k);
void kernels_init_avx2(kernels *k);
void kernels_init_avx512(kernels *k);

#define KERNELS_PREFETCH_BYTES 1024
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

/* f rounded to f16 where f16 has it as a normal number; f itself elsewhere, so that no activation
 * is too large or too small. */
static inline float round_f16(float f)
{
    float mag = f < 0 ? -f : f;

    return mag >= 0x1p-14f && mag <= 65504.0f ? f16_f32(f32_f16(f)) : f;
}

#endif
