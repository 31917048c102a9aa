/* simd_exp.h - loads, and e^x, for vectors of any width: vf, vi, VF_N, vf_fma and vf_scale2 are the
 * includer's (simd_body.h says what they do). */
#ifndef SL_KERNELS_SIMD_EXP_H
#define SL_KERNELS_SIMD_EXP_H

typedef vf vf_u __attribute__((aligned(4), may_alias));

static inline vf vf_load(const float *p)
{
    return *(const vf_u *)p;
}

static inline void vf_store(float *p, vf v)
{
    *(vf_u *)p = v;
}

static inline vf vf_set(float x)
{
    return x - (vf){ 0 };
}

static inline vf vf_select(vi mask, vf a, vf b)
{
    return (vf)((mask & (vi)a) | (~mask & (vi)b));
}

/* e^x to about 2 ulp; exactly 1 at 0, exactly 0 below -87, saturating above 88. */
static inline vf vf_exp(vf x)
{
    const vf low = vf_set(-87.0f), high = vf_set(88.0f), magic = vf_set(12582912.0f);
    vi tiny = x < low;
    vf n, r, p;
    vi e;

    x = vf_select(x > high, high, vf_select(tiny, low, x));
    n = vf_fma(x, vf_set(1.44269504f), magic) - magic;
    r = vf_fma(n, vf_set(-0.693359375f), x);
    r = vf_fma(n, vf_set(2.12194440e-4f), r);
    p = vf_set(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set(5.0000001201e-1f));
    p = vf_fma(p, r * r, r) + vf_set(1.0f);
    e = (__builtin_convertvector(n, vi) + 127) << 23;
    return vf_select(tiny, (vf){ 0 }, p * (vf)e);
}

/* e^x for x <= 0, to 3e-7 of 1 and coarser towards e^-87, where it stays: for weights that are
 * summed beside a 1. Exactly 1 at 0. */
static ALWAYS_INLINE vf vf_exp_weight(vf x)
{
    const vf low = vf_set(-87.0f), magic = vf_set(12582912.0f);
    vf n, r, p;

    x = vf_select(x > low, x, low);
    n = vf_fma(x, vf_set(1.44269504f), magic) - magic;
    r = vf_fma(n, vf_set(-0.69314718f), x);
    p = vf_set(8.3334519073e-3f);
    p = vf_fma(p, r, vf_set(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set(5.0000001201e-1f));
    p = vf_fma(p, r * r, r) + vf_set(1.0f);
    return vf_scale2(p, n);
}

#endif
