/* ref.c - the specification: every kernel in plain C with double accumulation, never tuned. The
 * vector kernels are tested against it, and it runs where there are none. */
#include <math.h>

#include "kernels/kernels_int.h"

static void quantize_q8_ref(const float *x, size_t blocks, kernels_q8 *out)
{
    for (size_t i = 0; i < blocks; i++, x += KERNELS_BLOCK) {
        float amax = 0, inv, d;
        int sum[2] = { 0, 0 };

        for (int j = 0; j < KERNELS_BLOCK; j++)
            amax = fmaxf(amax, fabsf(x[j]));
        inv = amax > 0 ? 127.0f / amax : 0;
        d = amax / 127.0f;
        out[i].d = round_f16(d);
        for (int j = 0; j < KERNELS_BLOCK; j++) {
            long q = lrintf(x[j] * inv);

            out[i].q[j] = (int8_t)(q > 127 ? 127 : q < -127 ? -127 : q);
            sum[j / 16] += out[i].q[j];
        }
        out[i].s = round_f16(d * (float)(sum[0] + sum[1]));
        out[i].h[0] = out[i].d * (float)sum[0];
        out[i].h[1] = out[i].d * (float)sum[1];
    }
}

/* Float weights, any of three types. */
static void gemm_float(kernels_fmt fmt, const void *panel, size_t cols, const void *x,
                       size_t x_stride, size_t tokens, float *y, size_t y_stride)
{
    for (size_t t = 0; t < tokens; t++) {
        const float *xt = (const float *)((const char *)x + t * x_stride);

        for (size_t r = 0; r < KERNELS_ROWS; r++) {
            double sum = 0;

            for (size_t c = 0; c < cols; c++) {
                size_t i = c * KERNELS_ROWS + r;
                float w = fmt == KERNELS_F32 ? ((const float *)panel)[i]
                          : fmt == KERNELS_F16
                              ? f16_f32(((const uint16_t *)panel)[i])
                              : bits_f32((uint32_t)((const uint16_t *)panel)[i] << 16);

                sum += (double)w * (double)xt[c];
            }
            y[t * y_stride + r] = (float)sum;
        }
    }
}

/* A view of one packed block. */
typedef struct packed {
    float d[2], m[2];
    const uint8_t *quants;
} packed;

static float scale_at(const uint8_t *p, size_t r, bool wide)
{
    uint16_t h;
    float f;

    if (!wide) {
        memcpy(&h, p + r * 2, sizeof h);
        return f16_f32(h);
    }
    memcpy(&f, p + r * 4, sizeof f);
    return f;
}

static packed view(kernels_fmt fmt, const uint8_t *block, size_t r)
{
    bool wide = fmt != KERNELS_U4 && fmt != KERNELS_S8;
    size_t step = KERNELS_ROWS * (wide ? 4 : 2);
    size_t halves = fmt == KERNELS_U8H ? 2 : 1;
    packed v = { .quants = block + step * halves * (fmt == KERNELS_S8 ? 1 : 2) };

    for (size_t h = 0; h < 2; h++) {
        size_t part = halves == 2 ? h : 0;

        v.d[h] = scale_at(block + part * step, r, wide);
        v.m[h] = fmt == KERNELS_S8 ? 0 : scale_at(block + (halves + part) * step, r, wide);
    }
    return v;
}

static int quant_at(kernels_fmt fmt, const packed *v, size_t r, size_t c)
{
    if (fmt == KERNELS_U4 || fmt == KERNELS_U4W) {
        uint8_t b = v->quants[(c % 16 / 4 * KERNELS_ROWS + r) * 4 + c % 4];

        return c < 16 ? b & 15 : b >> 4;
    }
    if (fmt == KERNELS_S8)
        return (int8_t)v->quants[(c / 4 * KERNELS_ROWS + r) * 4 + c % 4];
    return v->quants[(c / 4 * KERNELS_ROWS + r) * 4 + c % 4];
}

static void gemm_quant(kernels_fmt fmt, const void *panel, size_t cols, const void *x,
                       size_t x_stride, size_t tokens, float *y, size_t y_stride)
{
    size_t block_bytes = kernels_panel_bytes(fmt, KERNELS_BLOCK);

    for (size_t t = 0; t < tokens; t++) {
        const kernels_q8 *a = (const kernels_q8 *)((const char *)x + t * x_stride);

        for (size_t r = 0; r < KERNELS_ROWS; r++) {
            double sum = 0;

            for (size_t i = 0; i < cols / KERNELS_BLOCK; i++) {
                packed v = view(fmt, (const uint8_t *)panel + i * block_bytes, r);

                for (size_t h = 0; h < 2; h++) {
                    int dot = 0;

                    for (size_t c = h * 16; c < h * 16 + 16; c++)
                        dot += quant_at(fmt, &v, r, c) * a[i].q[c];
                    sum += (double)v.d[h] * (double)a[i].d * dot;
                    if (fmt == KERNELS_U8H)
                        sum += (double)v.m[h] * (double)a[i].h[h];
                }
                if (fmt != KERNELS_U8H)
                    sum += (double)v.m[0] * (double)a[i].s;
            }
            y[t * y_stride + r] = (float)sum;
        }
    }
}

#define GEMM_REF(name, fmt, body)                                                                  \
    static void name(const void *panel, size_t cols, const void *x, size_t x_stride,               \
                     size_t tokens, float *y, size_t y_stride)                                     \
    {                                                                                              \
        body(fmt, panel, cols, x, x_stride, tokens, y, y_stride);                                  \
    }
GEMM_REF(gemm_f32_ref, KERNELS_F32, gemm_float)
GEMM_REF(gemm_f16_ref, KERNELS_F16, gemm_float)
GEMM_REF(gemm_bf16_ref, KERNELS_BF16, gemm_float)
GEMM_REF(gemm_u4_ref, KERNELS_U4, gemm_quant)
GEMM_REF(gemm_u4w_ref, KERNELS_U4W, gemm_quant)
GEMM_REF(gemm_u8_ref, KERNELS_U8, gemm_quant)
GEMM_REF(gemm_u8h_ref, KERNELS_U8H, gemm_quant)
GEMM_REF(gemm_s8_ref, KERNELS_S8, gemm_quant)

static void rmsnorm_ref(float *y, const float *x, const float *w, size_t n, float eps)
{
    double sum = 0;
    float scale;

    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    scale = (float)(1.0 / sqrt(sum / (double)n + (double)eps));
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * scale * w[i];
}

static void layernorm_ref(float *y, const float *x, const float *w, const float *b, size_t n,
                          float eps)
{
    double mean = 0, var = 0;
    float scale;

    for (size_t i = 0; i < n; i++)
        mean += (double)x[i];
    mean /= (double)n;
    for (size_t i = 0; i < n; i++)
        var += ((double)x[i] - mean) * ((double)x[i] - mean);
    scale = (float)(1.0 / sqrt(var / (double)n + (double)eps));
    for (size_t i = 0; i < n; i++)
        y[i] = (float)((double)x[i] - mean) * scale * w[i] + b[i];
}

static void silu_mul_ref(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gate[i] = gate[i] / (1.0f + expf(-gate[i])) * (up ? up[i] : 1.0f);
}

static void gelu_tanh_mul_ref(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float x = gate[i];
        float inner = 0.797884560802865f * (x + 0.044715f * x * x * x);

        gate[i] = 0.5f * x * (1.0f + tanhf(inner)) * (up ? up[i] : 1.0f);
    }
}

static void gelu_erf_mul_ref(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gate[i] = 0.5f * gate[i] * (1.0f + erff(gate[i] * 0.70710678118f)) * (up ? up[i] : 1.0f);
}

static void f32_to_f16_ref(const float *x, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = f32_f16(x[i]);
}

static void attn_ref(const kernels_attn *a)
{
    size_t hd = a->head_dim;

    for (size_t i = 0; i < a->query_count; i++) {
        const float *q = a->q + i * hd;
        float *out = a->out + i * hd;
        double max = -INFINITY, sum = 0;

        for (int pass = 0; pass < 2; pass++) {
            if (pass == 1)
                memset(out, 0, hd * sizeof *out);
            for (int32_t p = a->first[i]; p <= a->pos[i]; p++) {
                const uint16_t *k = a->blocks[p / KERNELS_KV_TOKENS - a->block_first];
                const uint16_t *v = k + hd * KERNELS_KV_TOKENS;
                size_t slot = (size_t)p % KERNELS_KV_TOKENS;
                double score = 0, e;

                for (size_t d = 0; d < hd; d++)
                    score += (double)q[d] * (double)f16_f32(k[d * KERNELS_KV_TOKENS + slot]);
                if (a->softcap > 0)
                    score = (double)a->softcap * tanh(score / (double)a->softcap);
                if (pass == 0) {
                    max = fmax(max, score);
                    continue;
                }
                e = exp(score - max);
                sum += e;
                for (size_t d = 0; d < hd; d++)
                    out[d] += (float)(e * (double)f16_f32(v[slot * hd + d]));
            }
        }
        for (size_t d = 0; d < hd; d++)
            out[d] = (float)((double)out[d] / sum);
    }
}

void kernels_init_ref(kernels *k)
{
    *k = (kernels){
        .isa = "scalar",
        .quantize_q8 = quantize_q8_ref,
        .gemm = { gemm_f32_ref, gemm_f16_ref, gemm_bf16_ref, gemm_u4_ref, gemm_u4w_ref, gemm_u8_ref,
                  gemm_u8h_ref, gemm_s8_ref },
        .rmsnorm = rmsnorm_ref,
        .layernorm = layernorm_ref,
        .silu_mul = silu_mul_ref,
        .gelu_tanh_mul = gelu_tanh_mul_ref,
        .gelu_erf_mul = gelu_erf_mul_ref,
        .f32_to_f16 = f32_to_f16_ref,
        .attn = attn_ref,
    };
}
