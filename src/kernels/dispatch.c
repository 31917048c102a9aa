/* dispatch.c - which kernels this processor gets. */
#include "kernels/kernels_int.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* __builtin_cpu_supports does not know F16C in every compiler. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;

    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

unsigned kernels_cpu(void)
{
    unsigned mask = 0;

#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c())
        mask |= KERNELS_CPU_AVX2;
    if ((mask & KERNELS_CPU_AVX2) && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
        mask |= KERNELS_CPU_AVX512;
    if ((mask & KERNELS_CPU_AVX512) && __builtin_cpu_supports("avx512bf16"))
        mask |= KERNELS_CPU_BF16;
#endif
    return mask;
}

void kernels_init(kernels *k, unsigned cpu_mask)
{
    kernels_init_ref(k); /* the scalar table is complete */
    (void)cpu_mask;
#if defined(__x86_64__)
    if (!(cpu_mask & KERNELS_CPU_AVX2))
        return;
    kernels_init_avx2(k);
    if (!(cpu_mask & KERNELS_CPU_AVX512))
        return;
    kernels_init_avx512(k);
    if (!(cpu_mask & KERNELS_CPU_BF16))
        return;
    kernels_init_avx512bf16(k);
#endif
}
