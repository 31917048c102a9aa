/* simd_body.h - the float kernels, written once for vectors of any width.
 *
 * Included by the file of each instruction set, which defines before:
 *
 *   VF_N                  floats in a vector
 *   vf, vi                GCC vector types of VF_N floats and int32s
 *   vf_load_f16(p)        VF_N halves to floats
 *   vf_store_f16(p, v)    and back, to nearest even
 *   vf_fma(a, b, c)       a * b + c, rounded once
 *   SIMD_NAME(x)          x with the instruction set's suffix
 *
 * Every query, row and token is computed by the same operations in the same order whatever
 * surrounds it: tiles only interleave independent chains. */

#include <math.h>

#define VF_TILE  4                          /* queries that share a loaded key or value */
#define VF_BLOCK (KERNELS_KV_TOKENS / VF_N) /* vectors in 16 floats */

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

static inline float vf_sum(vf v)
{
    float sum = 0;

    for (int i = 0; i < VF_N / 2; i++)
        sum += v[i] + v[i + VF_N / 2];
    return sum;
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

static void SIMD_NAME(rmsnorm)(float *y, const float *x, const float *w, size_t n, float eps)
{
    vf acc = { 0 };
    float sum, scale;
    size_t i = 0;

    for (; i + VF_N <= n; i += VF_N) {
        vf v = vf_load(x + i);

        acc = vf_fma(v, v, acc);
    }
    sum = vf_sum(acc);
    for (size_t j = i; j < n; j++)
        sum += x[j] * x[j];
    scale = 1.0f / sqrtf(sum / (float)n + eps);
    for (i = 0; i + VF_N <= n; i += VF_N)
        vf_store(y + i, vf_load(x + i) * vf_set(scale) * vf_load(w + i));
    for (; i < n; i++)
        y[i] = x[i] * scale * w[i];
}

static void SIMD_NAME(layernorm)(float *y, const float *x, const float *w, const float *b, size_t n,
                                 float eps)
{
    vf acc = { 0 };
    float mean, var, scale;
    size_t i = 0;

    for (; i + VF_N <= n; i += VF_N)
        acc += vf_load(x + i);
    mean = vf_sum(acc);
    for (size_t j = i; j < n; j++)
        mean += x[j];
    mean /= (float)n;
    acc = (vf){ 0 };
    for (i = 0; i + VF_N <= n; i += VF_N) {
        vf v = vf_load(x + i) - vf_set(mean);

        acc = vf_fma(v, v, acc);
    }
    var = vf_sum(acc);
    for (size_t j = i; j < n; j++)
        var += (x[j] - mean) * (x[j] - mean);
    scale = 1.0f / sqrtf(var / (float)n + eps);
    for (i = 0; i + VF_N <= n; i += VF_N)
        vf_store(y + i, vf_fma((vf_load(x + i) - vf_set(mean)) * vf_set(scale), vf_load(w + i),
                               vf_load(b + i)));
    for (; i < n; i++)
        y[i] = (x[i] - mean) * scale * w[i] + b[i];
}

/* erf(x) to 1.5e-7: Abramowitz and Stegun 7.1.26. */
static inline vf vf_erf(vf x)
{
    vi sign = (vi)x & (vi)vf_set(-0.0f);
    vf a = (vf)((vi)x & ~(vi)vf_set(-0.0f));
    vf t = vf_set(1.0f) / vf_fma(vf_set(0.3275911f), a, vf_set(1.0f));
    vf p = vf_fma(vf_set(1.061405429f), t, vf_set(-1.453152027f));

    p = vf_fma(p, t, vf_set(1.421413741f));
    p = vf_fma(p, t, vf_set(-0.284496736f));
    p = vf_fma(p, t, vf_set(0.254829592f)) * t;
    p = vf_set(1.0f) - p * vf_exp(-a * a);
    return (vf)((vi)p | sign);
}

/* The tails of the activations go through the same vector code on a padded copy. */
#define SIMD_ACT(name, expr)                                                                       \
    static void SIMD_NAME(name)(float *gate, const float *up, size_t n)                            \
    {                                                                                              \
        for (size_t i = 0; i < n; i += VF_N) {                                                     \
            size_t len = n - i < VF_N ? n - i : VF_N;                                              \
            float g[VF_N] = { 0 }, u[VF_N] = { 0 };                                                \
            vf x, r;                                                                               \
                                                                                                   \
            if (len == VF_N) {                                                                     \
                x = vf_load(gate + i);                                                             \
                r = (expr);                                                                        \
                vf_store(gate + i, up ? r * vf_load(up + i) : r);                                  \
                continue;                                                                          \
            }                                                                                      \
            memcpy(g, gate + i, len * sizeof *g);                                                  \
            if (up)                                                                                \
                memcpy(u, up + i, len * sizeof *u);                                                \
            x = vf_load(g);                                                                        \
            r = (expr);                                                                            \
            vf_store(g, up ? r *vf_load(u) : r);                                                   \
            memcpy(gate + i, g, len * sizeof *g);                                                  \
        }                                                                                          \
    }

SIMD_ACT(silu_mul, x / (vf_set(1.0f) + vf_exp(-x)))
/* x * sigmoid(2 z) is 0.5 x (1 + tanh z). */
SIMD_ACT(gelu_tanh_mul, x / (vf_set(1.0f) + vf_exp(vf_set(-1.595769121605731f) *
                                                   vf_fma(vf_set(0.044715f) * x * x, x, x))))

SIMD_ACT(gelu_erf_mul, vf_set(0.5f) * x * (vf_set(1.0f) + vf_erf(x * vf_set(0.70710678118f))))

static void SIMD_NAME(f32_to_f16)(const float *x, size_t n, uint16_t *out)
{
    size_t i = 0;

    for (; i + VF_N <= n; i += VF_N)
        vf_store_f16(out + i, vf_load(x + i));
    for (; i < n; i++)
        out[i] = f32_f16(x[i]);
}

/* ---- attention ------------------------------------------------------------------------------ */

/* scores[i][0..15] = q[i] . keys, for `tile` queries. keys: [head_dim, 16] f16. */
static inline __attribute__((always_inline)) void SIMD_NAME(attn_scores)(const float *q, size_t hd,
                                                                         const uint16_t *keys,
                                                                         float *scores,
                                                                         const int tile)
{
    vf acc[VF_TILE][VF_BLOCK];

    for (int i = 0; i < tile; i++)
        for (int j = 0; j < VF_BLOCK; j++)
            acc[i][j] = (vf){ 0 };
    for (size_t d = 0; d < hd; d++) {
        vf k[VF_BLOCK];

        for (int j = 0; j < VF_BLOCK; j++)
            k[j] = vf_load_f16(keys + d * KERNELS_KV_TOKENS + j * VF_N);
        for (int i = 0; i < tile; i++)
            for (int j = 0; j < VF_BLOCK; j++)
                acc[i][j] = vf_fma(vf_set(q[(size_t)i * hd + d]), k[j], acc[i][j]);
    }
    for (int i = 0; i < tile; i++)
        for (int j = 0; j < VF_BLOCK; j++)
            vf_store(scores + i * KERNELS_KV_TOKENS + j * VF_N, acc[i][j]);
}

/* out[i] += p[i][0..15] . values, for `tile` queries. values: [16, head_dim] f16. */
static inline __attribute__((always_inline)) void SIMD_NAME(attn_values)(float *out, size_t hd,
                                                                         const uint16_t *values,
                                                                         const float *p,
                                                                         const int tile)
{
    for (size_t d = 0; d < hd; d += KERNELS_KV_TOKENS) {
        vf acc[VF_TILE][VF_BLOCK];

        for (int i = 0; i < tile; i++)
            for (int j = 0; j < VF_BLOCK; j++)
                acc[i][j] = vf_load(out + (size_t)i * hd + d + j * VF_N);
        for (size_t t = 0; t < KERNELS_KV_TOKENS; t++)
            for (int j = 0; j < VF_BLOCK; j++) {
                vf v = vf_load_f16(values + t * hd + d + j * VF_N);

                for (int i = 0; i < tile; i++)
                    acc[i][j] = vf_fma(vf_set(p[(size_t)i * KERNELS_KV_TOKENS + t]), v, acc[i][j]);
            }
        for (int i = 0; i < tile; i++)
            for (int j = 0; j < VF_BLOCK; j++)
                vf_store(out + (size_t)i * hd + d + j * VF_N, acc[i][j]);
    }
}

/* Turns one query's 16 scores into weights against the running maximum; rescales what was summed
 * under the old one. */
static inline void SIMD_NAME(attn_softmax)(const kernels_attn *a, size_t i, int32_t base, float *s,
                                           float *max, float *sum)
{
    vf score[VF_BLOCK], total = { 0 };
    float top = *max;
    vi iota;

    for (int l = 0; l < VF_N; l++)
        iota[l] = l;
    for (int j = 0; j < VF_BLOCK; j++) {
        vi at = iota + (base + j * VF_N);
        vi seen = (at >= a->first[i]) & (at <= a->pos[i]);

        score[j] = vf_load(s + j * VF_N);
        if (a->softcap > 0) {
            for (int l = 0; l < VF_N; l++)
                score[j][l] = a->softcap * tanhf(score[j][l] / a->softcap);
        }
        score[j] = vf_select(seen, score[j], vf_set(KERNELS_MASKED));
        for (int l = 0; l < VF_N; l++)
            top = score[j][l] > top ? score[j][l] : top;
    }
    if (top > *max) {
        float shrink = vf_exp(vf_set(*max - top))[0];

        for (size_t d = 0; d < a->head_dim; d += VF_N)
            vf_store(a->out + i * a->head_dim + d,
                     vf_load(a->out + i * a->head_dim + d) * vf_set(shrink));
        *sum *= shrink;
        *max = top;
    }
    for (int j = 0; j < VF_BLOCK; j++) {
        vf p = vf_exp(score[j] - vf_set(top));

        vf_store(s + j * VF_N, p);
        total += p;
    }
    *sum += vf_sum(total);
}

static void SIMD_NAME(attn)(const kernels_attn *a)
{
    size_t hd = a->head_dim, n = a->query_count;
    float *scores = a->scratch, *max = scores + n * KERNELS_KV_TOKENS, *sum = max + n;

    memset(a->out, 0, n * hd * sizeof *a->out);
    for (size_t i = 0; i < n; i++) {
        max[i] = KERNELS_MASKED;
        sum[i] = 0;
    }
    for (int32_t b = 0; b < a->block_count; b++) {
        const uint16_t *keys = a->blocks[b], *values = keys + hd * KERNELS_KV_TOKENS;
        size_t i = 0;

        for (; i + VF_TILE <= n; i += VF_TILE)
            SIMD_NAME(attn_scores)
        (a->q + i * hd, hd, keys, scores + i * KERNELS_KV_TOKENS, VF_TILE);
        for (; i < n; i++)
            SIMD_NAME(attn_scores)(a->q + i * hd, hd, keys, scores + i * KERNELS_KV_TOKENS, 1);
        for (i = 0; i < n; i++)
            SIMD_NAME(attn_softmax)
        (a, i, (a->block_first + b) * KERNELS_KV_TOKENS, scores + i * KERNELS_KV_TOKENS, &max[i],
         &sum[i]);
        for (i = 0; i + VF_TILE <= n; i += VF_TILE)
            SIMD_NAME(attn_values)
        (a->out + i * hd, hd, values, scores + i * KERNELS_KV_TOKENS, VF_TILE);
        for (; i < n; i++)
            SIMD_NAME(attn_values)(a->out + i * hd, hd, values, scores + i * KERNELS_KV_TOKENS, 1);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < hd; d += VF_N)
            vf_store(a->out + i * hd + d, vf_load(a->out + i * hd + d) * vf_set(1.0f / sum[i]));
}
