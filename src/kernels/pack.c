/* pack.c - the file's block formats, and the way from them to panels.
 *
 * unpack32() is the one place that knows the layouts of GGUF's quantized types; packing and
 * dequantization are both built on it. Layouts: ggml's ggml-common.h, as published. */
#include <math.h>

#include "kernels/kernels_int.h"

/* GGUF type ids this room understands. Kept as numbers: kernels know nothing of files. */
enum {
    T_F32 = 0,
    T_F16 = 1,
    T_Q4_0 = 2,
    T_Q4_1 = 3,
    T_Q5_0 = 6,
    T_Q5_1 = 7,
    T_Q8_0 = 8,
    T_Q2_K = 10,
    T_Q3_K = 11,
    T_Q4_K = 12,
    T_Q5_K = 13,
    T_Q6_K = 14,
    T_BF16 = 30,
};

/* 32 weights: w = d[half] * q + m[half]. q is signed for Q8_0, unsigned otherwise. */
typedef struct block32 {
    float d[2], m[2];
    uint8_t q[32];
} block32;

static float half_at(const uint8_t *p)
{
    uint16_t h;

    memcpy(&h, p, sizeof h);
    return f16_f32(h);
}

static void set_scale(block32 *b, float d, float m)
{
    b->d[0] = b->d[1] = d;
    b->m[0] = b->m[1] = m;
}

static void nibbles(const uint8_t *qs, uint8_t *q)
{
    for (int j = 0; j < 16; j++) {
        q[j] = qs[j] & 15;
        q[j + 16] = qs[j] >> 4;
    }
}

static void fifth_bits(const uint8_t *qh_bytes, uint8_t *q)
{
    uint32_t qh;

    memcpy(&qh, qh_bytes, sizeof qh);
    for (int j = 0; j < 32; j++)
        q[j] |= (uint8_t)((qh >> j & 1) << 4);
}

/* Six-bit scale and min number j of the 12 packed bytes of Q4_K and Q5_K. */
static void k_scale_min(const uint8_t *b, int j, int *sc, int *mn)
{
    if (j < 4) {
        *sc = b[j] & 63;
        *mn = b[j + 4] & 63;
    } else {
        *sc = (b[j + 4] & 15) | (b[j - 4] >> 6) << 4;
        *mn = (b[j + 4] >> 4) | (b[j] >> 6) << 4;
    }
}

static void unpack_q2_k(const uint8_t *p, int i, block32 *b)
{
    float d = half_at(p + 80), dmin = half_at(p + 82);
    const uint8_t *qs = p + 16 + i / 4 * 32;
    int shift = i % 4 * 2;

    for (int h = 0; h < 2; h++) {
        uint8_t sc = p[i * 2 + h];

        b->d[h] = d * (float)(sc & 15);
        b->m[h] = -dmin * (float)(sc >> 4);
    }
    for (int j = 0; j < 32; j++)
        b->q[j] = qs[j] >> shift & 3;
}

static void unpack_q3_k(const uint8_t *p, int i, block32 *b)
{
    const uint8_t *hmask = p, *qs = p + 32 + i / 4 * 32, *scales = p + 96;
    float d = half_at(p + 108);
    int shift = i % 4 * 2;

    for (int h = 0; h < 2; h++) {
        int s = i * 2 + h;
        int lo = s < 8 ? scales[s] & 15 : scales[s - 8] >> 4;
        int hi = scales[8 + s % 4] >> (2 * (s / 4)) & 3;

        b->d[h] = d * (float)((lo | hi << 4) - 32);
        b->m[h] = -4.0f * b->d[h];
    }
    for (int j = 0; j < 32; j++)
        b->q[j] = (uint8_t)((qs[j] >> shift & 3) | (hmask[j] >> i & 1) << 2);
}

static void unpack_q4_k(const uint8_t *p, int i, block32 *b)
{
    const uint8_t *qs = p + 16 + i / 2 * 32;
    int sc, mn;

    k_scale_min(p + 4, i, &sc, &mn);
    set_scale(b, half_at(p) * (float)sc, -half_at(p + 2) * (float)mn);
    for (int j = 0; j < 32; j++)
        b->q[j] = i % 2 ? qs[j] >> 4 : qs[j] & 15;
}

static void unpack_q5_k(const uint8_t *p, int i, block32 *b)
{
    const uint8_t *qh = p + 16, *qs = p + 48 + i / 2 * 32;
    int sc, mn;

    k_scale_min(p + 4, i, &sc, &mn);
    set_scale(b, half_at(p) * (float)sc, -half_at(p + 2) * (float)mn);
    for (int j = 0; j < 32; j++)
        b->q[j] = (uint8_t)((i % 2 ? qs[j] >> 4 : qs[j] & 15) | (qh[j] >> i & 1) << 4);
}

static void unpack_q6_k(const uint8_t *p, int i, block32 *b)
{
    int half = i / 4, part = i % 4; /* 128 elements each half, 4 parts of 32 */
    const uint8_t *ql = p + half * 64 + (part & 1) * 32, *qh = p + 128 + half * 32;
    const int8_t *scales = (const int8_t *)p + 192 + half * 8 + part * 2;
    float d = half_at(p + 208);

    for (int h = 0; h < 2; h++) {
        b->d[h] = d * (float)scales[h];
        b->m[h] = -32.0f * b->d[h];
    }
    for (int j = 0; j < 32; j++) {
        int lo = part < 2 ? ql[j] & 15 : ql[j] >> 4;

        b->q[j] = (uint8_t)(lo | (qh[j] >> (part * 2) & 3) << 4);
    }
}

/* Block number i (of 32 elements) of a row. */
static void unpack32(uint32_t type, const uint8_t *row, size_t i, block32 *b)
{
    const uint8_t *p;

    switch (type) {
    case T_Q4_0:
        p = row + i * 18;
        set_scale(b, half_at(p), -8.0f * half_at(p));
        nibbles(p + 2, b->q);
        break;
    case T_Q4_1:
        p = row + i * 20;
        set_scale(b, half_at(p), half_at(p + 2));
        nibbles(p + 4, b->q);
        break;
    case T_Q5_0:
        p = row + i * 22;
        set_scale(b, half_at(p), -16.0f * half_at(p));
        nibbles(p + 6, b->q);
        fifth_bits(p + 2, b->q);
        break;
    case T_Q5_1:
        p = row + i * 24;
        set_scale(b, half_at(p), half_at(p + 2));
        nibbles(p + 8, b->q);
        fifth_bits(p + 4, b->q);
        break;
    case T_Q8_0:
        p = row + i * 34;
        set_scale(b, half_at(p), 0);
        memcpy(b->q, p + 2, 32);
        break;
    case T_Q2_K:
        unpack_q2_k(row + i / 8 * 84, (int)(i % 8), b);
        break;
    case T_Q3_K:
        unpack_q3_k(row + i / 8 * 110, (int)(i % 8), b);
        break;
    case T_Q4_K:
        unpack_q4_k(row + i / 8 * 144, (int)(i % 8), b);
        break;
    case T_Q5_K:
        unpack_q5_k(row + i / 8 * 176, (int)(i % 8), b);
        break;
    case T_Q6_K:
        unpack_q6_k(row + i / 8 * 210, (int)(i % 8), b);
        break;
    default:
        memset(b, 0, sizeof *b);
    }
}

int kernels_fmt_of(uint32_t tensor_type)
{
    switch (tensor_type) {
    case T_F32:
        return KERNELS_F32;
    case T_F16:
        return KERNELS_F16;
    case T_BF16:
        return KERNELS_BF16;
    case T_Q4_0:
    case T_Q4_1:
        return KERNELS_U4;
    case T_Q4_K:
        return KERNELS_U4W;
    case T_Q5_0:
    case T_Q5_1:
    case T_Q5_K:
        return KERNELS_U8;
    case T_Q2_K:
    case T_Q3_K:
    case T_Q6_K:
        return KERNELS_U8H;
    case T_Q8_0:
        return KERNELS_S8;
    default:
        return -1;
    }
}

static size_t block_bytes(kernels_fmt fmt)
{
    switch (fmt) {
    case KERNELS_U4:
        return 2 * 32 + 256;
    case KERNELS_U4W:
        return 2 * 64 + 256;
    case KERNELS_U8:
        return 2 * 64 + 512;
    case KERNELS_U8H:
        return 4 * 64 + 512;
    default:
        return 32 + 512; /* S8 */
    }
}

size_t kernels_panel_bytes(kernels_fmt fmt, size_t cols)
{
    if (fmt == KERNELS_F32)
        return cols * KERNELS_ROWS * 4;
    if (fmt == KERNELS_F16 || fmt == KERNELS_BF16)
        return cols * KERNELS_ROWS * 2;
    return cols / KERNELS_BLOCK * block_bytes(fmt);
}

/* Writes scale (or offset) of one row into its place, as f16 or f32. */
static uint8_t *put_scales(uint8_t *p, const block32 *rows, int half, bool offset, bool wide)
{
    for (int r = 0; r < KERNELS_ROWS; r++) {
        float v = offset ? rows[r].m[half] : rows[r].d[half];
        uint16_t h = f32_f16(v);

        if (wide)
            memcpy(p + r * 4, &v, sizeof v);
        else
            memcpy(p + r * 2, &h, sizeof h);
    }
    return p + KERNELS_ROWS * (wide ? 4 : 2);
}

static void put_quants(uint8_t *p, const block32 *rows, bool four_bits)
{
    for (int j = 0; j < (four_bits ? 4 : 8); j++)
        for (int r = 0; r < KERNELS_ROWS; r++)
            for (int c = 0; c < 4; c++) {
                uint8_t lo = rows[r].q[j * 4 + c];

                *p++ = four_bits ? (uint8_t)(lo | rows[r].q[16 + j * 4 + c] << 4) : lo;
            }
}

static void pack_block(kernels_fmt fmt, const block32 *rows, uint8_t *p)
{
    bool wide = fmt != KERNELS_U4 && fmt != KERNELS_S8;

    p = put_scales(p, rows, 0, false, wide);
    if (fmt == KERNELS_U8H)
        p = put_scales(p, rows, 1, false, wide);
    if (fmt != KERNELS_S8)
        p = put_scales(p, rows, 0, true, wide);
    if (fmt == KERNELS_U8H)
        p = put_scales(p, rows, 1, true, wide);
    put_quants(p, rows, fmt == KERNELS_U4 || fmt == KERNELS_U4W);
}

/* Float panels: a transposition. */
static void pack_float(size_t elem_bytes, const uint8_t *rows, size_t row_bytes, size_t row_count,
                       size_t cols, uint8_t *panel)
{
    memset(panel, 0, cols * KERNELS_ROWS * elem_bytes);
    for (size_t r = 0; r < row_count; r++)
        for (size_t c = 0; c < cols; c++)
            memcpy(panel + (c * KERNELS_ROWS + r) * elem_bytes,
                   rows + r * row_bytes + c * elem_bytes, elem_bytes);
}

void kernels_pack_panel(uint32_t tensor_type, const uint8_t *rows, size_t row_bytes,
                        size_t row_count, size_t cols, void *panel)
{
    kernels_fmt fmt = (kernels_fmt)kernels_fmt_of(tensor_type);
    block32 blocks[KERNELS_ROWS];
    uint8_t *p = panel;

    if (fmt <= KERNELS_BF16) {
        pack_float(fmt == KERNELS_F32 ? 4 : 2, rows, row_bytes, row_count, cols, panel);
        return;
    }
    memset(blocks, 0, sizeof blocks);
    for (size_t i = 0; i < cols / KERNELS_BLOCK; i++, p += block_bytes(fmt)) {
        for (size_t r = 0; r < row_count; r++)
            unpack32(tensor_type, rows + r * row_bytes, i, &blocks[r]);
        pack_block(fmt, blocks, p);
    }
}

void kernels_dequant(uint32_t tensor_type, const uint8_t *data, size_t n, float *out)
{
    if (tensor_type == T_F32) {
        memcpy(out, data, n * sizeof *out);
        return;
    }
    if (tensor_type == T_F16 || tensor_type == T_BF16) {
        for (size_t i = 0; i < n; i++) {
            uint16_t h;

            memcpy(&h, data + i * 2, sizeof h);
            out[i] = tensor_type == T_F16 ? f16_f32(h) : bits_f32((uint32_t)h << 16);
        }
        return;
    }
    for (size_t i = 0; i < n / KERNELS_BLOCK; i++) {
        block32 b;

        unpack32(tensor_type, data, i, &b);
        for (int j = 0; j < KERNELS_BLOCK; j++) {
            float q = tensor_type == T_Q8_0 ? (float)(int8_t)b.q[j] : (float)b.q[j];

            out[i * KERNELS_BLOCK + (size_t)j] = b.d[j / 16] * q + b.m[j / 16];
        }
    }
}

float kernels_f16_to_f32(uint16_t h)
{
    return f16_f32(h);
}

uint16_t kernels_f32_to_f16(float f)
{
    return f32_f16(f);
}

float kernels_dot_f32(const float *a, const float *b, size_t n)
{
    float lanes[8] = { 0 };
    float sum = 0;
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++)
            lanes[j] += a[i + (size_t)j] * b[i + (size_t)j];
    for (; i < n; i++)
        sum += a[i] * b[i];
    for (int j = 0; j < 8; j++)
        sum += lanes[j];
    return sum;
}
