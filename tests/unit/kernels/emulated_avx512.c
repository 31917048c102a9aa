/* emulated_avx512.c - the AVX-512 kernels on any machine: SIMDe emulates the intrinsics, and the
 * few that Debian's version lacks are spelled out here. */
#define SL_SIMDE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

static inline __m512 emulated_cvtepi32_ps(__m512i v)
{
    int32_t in[16];
    float out[16];

    memcpy(in, &v, sizeof in);
    for (int i = 0; i < 16; i++)
        out[i] = (float)in[i];
    return _mm512_loadu_ps(out);
}

static inline __m512i emulated_cvtepu16_epi32(__m256i v)
{
    uint16_t in[16];
    uint32_t out[16];

    memcpy(in, &v, sizeof in);
    for (int i = 0; i < 16; i++)
        out[i] = in[i];
    return _mm512_loadu_si512(out);
}

static inline int emulated_reduce_add_epi32(__m512i v)
{
    int32_t in[16], sum = 0;

    memcpy(in, &v, sizeof in);
    for (int i = 0; i < 16; i++)
        sum += in[i];
    return sum;
}

#define _mm512_reduce_add_epi32 emulated_reduce_add_epi32
#define _mm512_cvtepi32_ps      emulated_cvtepi32_ps
#define _mm512_cvtepu16_epi32   emulated_cvtepu16_epi32

#include "kernels/avx512.c"
