/* ref.c - the specification: every kernel in plain C with double accumulation, never tuned. The
 * vector kernels are tested against it, and it runs where there are none. */
#include <math.h>

#include "kernels/packed.h"

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
        out[i].n = -(sum[0] + sum[1]);
        out[i].n0 = -sum[0];
    }
}

static void f32_to_bf16_ref(const float *x, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = f32_bf16(x[i]);
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
                size_t i = fmt == KERNELS_BF16 ? (c / 2 * KERNELS_ROWS + r) * 2 + c % 2
                                               : c * KERNELS_ROWS + r;
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

static float half_of(const uint8_t *p, size_t r)
{
    uint16_t h;

    memcpy(&h, p + r * 2, sizeof h);
    return f16_f32(h);
}

/* Scale and minimum of row r in half h of block b of a unit. */
static void scales_of(kernels_fmt f, const uint8_t *head, size_t b, size_t h, size_t r, float *d,
                      float *m)
{
    *d = half_of(head, r);
    *m = packed_has_min(f) ? half_of(head + PACKED_VEC, r) : 0;
    if (!packed_is_k(f))
        return;
    const uint8_t *sc = packed_k_scales(f, head, b, h);

    if (f == KERNELS_Q2_K) {
        *d *= (float)(sc[r] & 15);
        *m *= -(float)(sc[r] >> 4);
    } else if (packed_has_min(f)) {
        *d *= (float)sc[r];
        *m *= -(float)packed_k_mins(head, b)[r];
    } else {
        *d *= (float)(int8_t)sc[r];
    }
}

/* Quant of row r, column c of a block, less its offset. */
static int quant_of(kernels_fmt f, const uint8_t *block, size_t r, size_t c)
{
    size_t lane = r * 4 + c % 4;
    int q = 0;

    if (f == KERNELS_Q8_0)
        return (int8_t)block[c / 4 * PACKED_CHUNK + lane];
    if (packed_has_nibbles(f)) {
        uint8_t b = block[c % 16 / 4 * PACKED_CHUNK + lane];

        q = c < 16 ? b & 15 : b >> 4;
    }
    if (packed_has_pairs(f)) {
        uint8_t b = block[packed_pairs_at(f) + c / 16 * PACKED_CHUNK + lane];

        q |= (b >> (c % 16 / 4 * 2) & 3) << (packed_has_nibbles(f) ? 4 : 0);
    }
    if (packed_has_bits(f)) {
        uint64_t bits;

        memcpy(&bits, block + packed_bits_at(f) + (c / 4 * 2 + r / 16) * 8, sizeof bits);
        q |= (int)(bits >> (r % 16 * 4 + c % 4) & 1) << (f == KERNELS_Q3_K ? 2 : 4);
    }
    return packed_has_min(f) ? q : q - (1 << packed_offset_shift(f));
}

static void gemm_quant(kernels_fmt f, const void *panel, size_t cols, const void *x,
                       size_t x_stride, size_t tokens, float *y, size_t y_stride)
{
    for (size_t t = 0; t < tokens; t++) {
        const kernels_q8 *a = (const kernels_q8 *)((const char *)x + t * x_stride);

        for (size_t r = 0; r < KERNELS_ROWS; r++) {
            double sum = 0;

            for (size_t i = 0; i < cols / KERNELS_BLOCK; i++) {
                size_t in_unit = i % packed_blocks(f);
                const uint8_t *head =
                    (const uint8_t *)panel + i / packed_blocks(f) * packed_unit_bytes(f);
                const uint8_t *block =
                    head + packed_head_bytes(f) + in_unit * packed_quant_bytes(f);
                float d, m;

                for (size_t h = 0; h < 2; h++) {
                    int n = h == 0 ? a[i].n0 : a[i].n - a[i].n0, dot = 0;

                    scales_of(f, head, in_unit, h, r, &d, &m);
                    for (size_t c = h * 16; c < h * 16 + 16; c++)
                        dot += quant_of(f, block, r, c) * a[i].q[c];
                    sum += (double)d * (double)a[i].d * dot;
                    if (packed_has_halves(f))
                        sum += (double)m * (double)a[i].d * -n;
                }
                if (!packed_has_halves(f))
                    sum += (double)m * (double)a[i].s;
            }
            y[t * y_stride + r] = (float)sum;
        }
    }
}

#define GEMM_REF(name, fmt, body)                                                                  \
    static void name(const void *panel, size_t cols, const void *x, size_t x_stride,               \
                     size_t tokens, float *y, size_t y_stride, void *scratch)                      \
    {                                                                                              \
        (void)scratch;                                                                             \
        body(fmt, panel, cols, x, x_stride, tokens, y, y_stride);                                  \
    }
GEMM_REF(gemm_f32_ref, KERNELS_F32, gemm_float)
GEMM_REF(gemm_f16_ref, KERNELS_F16, gemm_float)
GEMM_REF(gemm_bf16_ref, KERNELS_BF16, gemm_float)
GEMM_REF(gemm_q4_0_ref, KERNELS_Q4_0, gemm_quant)
GEMM_REF(gemm_q4_1_ref, KERNELS_Q4_1, gemm_quant)
GEMM_REF(gemm_q5_0_ref, KERNELS_Q5_0, gemm_quant)
GEMM_REF(gemm_q5_1_ref, KERNELS_Q5_1, gemm_quant)
GEMM_REF(gemm_q8_0_ref, KERNELS_Q8_0, gemm_quant)
GEMM_REF(gemm_q2_k_ref, KERNELS_Q2_K, gemm_quant)
GEMM_REF(gemm_q3_k_ref, KERNELS_Q3_K, gemm_quant)
GEMM_REF(gemm_q4_k_ref, KERNELS_Q4_K, gemm_quant)
GEMM_REF(gemm_q5_k_ref, KERNELS_Q5_K, gemm_quant)
GEMM_REF(gemm_q6_k_ref, KERNELS_Q6_K, gemm_quant)

static void add_ref(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void scale_ref(float *y, float by, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] *= by;
}

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

/* Element d of the key or value of a slot of a KV block. */
static double kv_elem(kernels_kv kv, size_t hd, const void *block, bool value, size_t slot,
                      size_t d)
{
    const uint16_t *p = block;

    if (kv == KERNELS_KV_F16)
        return (double)f16_f32(value ? p[(KERNELS_KV_TOKENS + slot) * hd + d]
                                     : p[d * KERNELS_KV_TOKENS + slot]);
    if (kv == KERNELS_KV_BF16)
        return (double)bf16_f32(p[value ? KV_BF16_VALUE(hd, slot, d) : KV_BF16_KEY(hd, slot, d)]);
    const uint8_t *group =
        (const uint8_t *)block + ((value ? hd / KV_Q8_GROUP : 0) + d / KV_Q8_GROUP) * KV_Q8_BYTES;
    const int8_t *q = (const int8_t *)group + 2 * KERNELS_KV_TOKENS;
    size_t e = d % KV_Q8_GROUP;

    return (double)half_of(group, slot) *
           q[value ? slot * KV_Q8_GROUP + e : e * KERNELS_KV_TOKENS + slot];
}

static void attn_ref(const kernels_attn *a, kernels_kv kv)
{
    size_t hd = a->head_dim;
    int32_t end = (a->block_first + a->block_count) * KERNELS_KV_TOKENS - 1;

    for (size_t i = 0; i < a->query_count; i++) {
        float *out = a->out + i * hd;
        int32_t from = a->first[i], to = a->pos[i] < end ? a->pos[i] : end;
        double max = (double)KERNELS_MASKED, sum = 0;

        from =
            from > a->block_first * KERNELS_KV_TOKENS ? from : a->block_first * KERNELS_KV_TOKENS;
        memset(out, 0, hd * sizeof *out);
        for (int pass = 0; pass < 2; pass++)
            for (int32_t p = from; p <= to; p++) {
                const void *block = a->blocks[p / KERNELS_KV_TOKENS - a->block_first];
                size_t slot = (size_t)p % KERNELS_KV_TOKENS;
                double score = 0, e;

                for (size_t d = 0; d < hd; d++)
                    score += (double)a->q[i * hd + d] * kv_elem(kv, hd, block, false, slot, d);
                if (a->softcap > 0)
                    score = (double)a->softcap * tanh(score / (double)a->softcap);
                if (pass == 0) {
                    max = fmax(max, score);
                    continue;
                }
                e = exp(score - (double)(float)max);
                sum += e;
                for (size_t d = 0; d < hd; d++)
                    out[d] += (float)(e * kv_elem(kv, hd, block, true, slot, d));
            }
        a->max[i] = (float)max;
        a->sum[i] = (float)sum;
    }
}

static void attn_f16_ref(const kernels_attn *a)
{
    attn_ref(a, KERNELS_KV_F16);
}

static void attn_q8_0_ref(const kernels_attn *a)
{
    attn_ref(a, KERNELS_KV_Q8_0);
}

static void attn_bf16_ref(const kernels_attn *a)
{
    attn_ref(a, KERNELS_KV_BF16);
}

static void attn_merge_ref(float *out, float *max, float *sum, const float *part, float part_max,
                           float part_sum, size_t hd)
{
    float top = fmaxf(*max, part_max);
    float a = expf(*max - top), b = expf(part_max - top);

    for (size_t d = 0; d < hd; d++)
        out[d] = out[d] * a + part[d] * b;
    *sum = *sum * a + part_sum * b;
    *max = top;
}

/* Quantizes 32 elements of a key or value into its group of a KV block. */
static void kv_store_q8(uint8_t *group, bool value, size_t slot, const float *x)
{
    int8_t *q = (int8_t *)group + 2 * KERNELS_KV_TOKENS;
    kernels_q8 block;
    uint16_t d;

    quantize_q8_ref(x, 1, &block);
    d = f32_f16(block.d);
    memcpy(group + slot * 2, &d, sizeof d);
    for (size_t e = 0; e < KV_Q8_GROUP; e++)
        q[value ? slot * KV_Q8_GROUP + e : e * KERNELS_KV_TOKENS + slot] = block.q[e];
}

static void kv_store_q8_0_ref(void *block, size_t hd, size_t slot, const float *key,
                              const float *value)
{
    uint8_t *q8 = block;

    for (size_t g = 0; g < hd / KV_Q8_GROUP; g++) {
        kv_store_q8(q8 + g * KV_Q8_BYTES, false, slot, key + g * KV_Q8_GROUP);
        kv_store_q8(q8 + (hd / KV_Q8_GROUP + g) * KV_Q8_BYTES, true, slot, value + g * KV_Q8_GROUP);
    }
}

static void kv_store_f16_ref(void *block, size_t hd, size_t slot, const float *key,
                             const float *value)
{
    uint16_t *f16 = block;

    for (size_t d = 0; d < hd; d++) {
        f16[d * KERNELS_KV_TOKENS + slot] = f32_f16(key[d]);
        f16[(KERNELS_KV_TOKENS + slot) * hd + d] = f32_f16(value[d]);
    }
}

static void kv_store_bf16_ref(void *block, size_t hd, size_t slot, const float *key,
                              const float *value)
{
    uint16_t *bf16 = block;

    for (size_t d = 0; d < hd; d++) {
        bf16[KV_BF16_KEY(hd, slot, d)] = f32_bf16(key[d]);
        bf16[KV_BF16_VALUE(hd, slot, d)] = f32_bf16(value[d]);
    }
}

static size_t argmax_ref(const float *x, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

static double sum_exp_ref(const float *x, size_t n, float max, float floor)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        if (x[i] >= floor)
            sum += exp((double)(x[i] - max));
    return sum;
}

static size_t above_ref(const float *x, size_t n, float floor, int32_t *ret_idx)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++)
        if (x[i] >= floor)
            ret_idx[count++] = (int32_t)i;
    return count;
}

static void scan_u8_ref(const uint8_t *rows, size_t cols, size_t count, const int8_t *q,
                        int32_t *out)
{
    for (size_t i = 0; i < count; i++) {
        int32_t sum = 0;

        for (size_t c = 0; c < cols; c++)
            sum += ((int32_t)rows[i * cols + c] - 128) * q[c];
        out[i] = sum;
    }
}

void kernels_init_ref(kernels *k)
{
    *k = (kernels){
        .isa = "scalar",
        .quantize_q8 = quantize_q8_ref,
        .f32_to_bf16 = f32_to_bf16_ref,
        .gemm = { gemm_f32_ref, gemm_f16_ref, gemm_bf16_ref, gemm_q4_0_ref, gemm_q4_1_ref,
                  gemm_q5_0_ref, gemm_q5_1_ref, gemm_q8_0_ref, gemm_q2_k_ref, gemm_q3_k_ref,
                  gemm_q4_k_ref, gemm_q5_k_ref, gemm_q6_k_ref },
        .add = add_ref,
        .scale = scale_ref,
        .rmsnorm = rmsnorm_ref,
        .layernorm = layernorm_ref,
        .silu_mul = silu_mul_ref,
        .gelu_tanh_mul = gelu_tanh_mul_ref,
        .gelu_erf_mul = gelu_erf_mul_ref,
        .f32_to_f16 = f32_to_f16_ref,
        .attn = { attn_f16_ref, attn_q8_0_ref, attn_bf16_ref },
        .attn_merge = attn_merge_ref,
        .kv_store = { kv_store_f16_ref, kv_store_q8_0_ref, kv_store_bf16_ref },
        .argmax = argmax_ref,
        .sum_exp = sum_exp_ref,
        .above = above_ref,
        .scan_u8 = scan_u8_ref,
    };
    for (int f = 0; f < KERNELS_FMT_COUNT; f++)
        k->act[f] = f <= KERNELS_BF16 ? KERNELS_ACT_F32 : KERNELS_ACT_Q8;
}
