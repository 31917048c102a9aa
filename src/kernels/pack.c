/* pack.c - the file's block formats, and the way from them to panels.
 *
 * unpack32() is the one place that knows the layouts of GGUF's quantized types; packing and
 * dequantization are both built on it. Layouts: ggml's ggml-common.h, as published. */
#include <math.h>

#include "kernels/packed.h"

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

/* 32 weights: w = d[half] * q + m[half]. q is signed for Q8_0, unsigned otherwise. The raw parts
 * are those of the file, for packing: f16 scale and minimum, and a K-quant's integers by half. */
typedef struct block32 {
    float d[2], m[2];
    uint8_t q[32];
    uint16_t raw_d, raw_m;
    uint8_t sc[2], mn[2];
} block32;

static uint16_t half_bits(const uint8_t *p)
{
    uint16_t h;

    memcpy(&h, p, sizeof h);
    return h;
}

/* w = d * q + (m less offset * d); m may be NULL. */
static void set_scale(block32 *b, const uint8_t *d, const uint8_t *m, float offset)
{
    b->raw_d = half_bits(d);
    b->raw_m = m ? half_bits(m) : 0;
    b->d[0] = b->d[1] = f16_f32(b->raw_d);
    b->m[0] = b->m[1] = m ? f16_f32(b->raw_m) : -offset * b->d[0];
}

/* w = d * sc * q - m * mn (or less offset * d * sc) in half h. */
static void set_k_scale(block32 *b, int h, int sc, int mn, float offset)
{
    b->sc[h] = (uint8_t)sc;
    b->mn[h] = (uint8_t)mn;
    b->d[h] = f16_f32(b->raw_d) * (float)sc;
    b->m[h] = offset > 0 ? -offset * b->d[h] : -f16_f32(b->raw_m) * (float)mn;
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
    const uint8_t *qs = p + 16 + i / 4 * 32;
    int shift = i % 4 * 2;

    b->raw_d = half_bits(p + 80);
    b->raw_m = half_bits(p + 82);
    for (int h = 0; h < 2; h++)
        set_k_scale(b, h, p[i * 2 + h] & 15, p[i * 2 + h] >> 4, 0);
    for (int j = 0; j < 32; j++)
        b->q[j] = qs[j] >> shift & 3;
}

static void unpack_q3_k(const uint8_t *p, int i, block32 *b)
{
    const uint8_t *hmask = p, *qs = p + 32 + i / 4 * 32, *scales = p + 96;
    int shift = i % 4 * 2;

    b->raw_d = half_bits(p + 108);
    for (int h = 0; h < 2; h++) {
        int s = i * 2 + h;
        int lo = s < 8 ? scales[s] & 15 : scales[s - 8] >> 4;
        int hi = scales[8 + s % 4] >> (2 * (s / 4)) & 3;

        set_k_scale(b, h, (lo | hi << 4) - 32, 0, 4);
    }
    for (int j = 0; j < 32; j++)
        b->q[j] = (uint8_t)((qs[j] >> shift & 3) | (hmask[j] >> i & 1) << 2);
}

static void k_scale_pair(const uint8_t *p, int i, block32 *b)
{
    int sc, mn;

    b->raw_d = half_bits(p);
    b->raw_m = half_bits(p + 2);
    k_scale_min(p + 4, i, &sc, &mn);
    for (int h = 0; h < 2; h++)
        set_k_scale(b, h, sc, mn, 0);
}

static void unpack_q4_k(const uint8_t *p, int i, block32 *b)
{
    const uint8_t *qs = p + 16 + i / 2 * 32;

    k_scale_pair(p, i, b);
    for (int j = 0; j < 32; j++)
        b->q[j] = i % 2 ? qs[j] >> 4 : qs[j] & 15;
}

static void unpack_q5_k(const uint8_t *p, int i, block32 *b)
{
    const uint8_t *qh = p + 16, *qs = p + 48 + i / 2 * 32;

    k_scale_pair(p, i, b);
    for (int j = 0; j < 32; j++)
        b->q[j] = (uint8_t)((i % 2 ? qs[j] >> 4 : qs[j] & 15) | (qh[j] >> i & 1) << 4);
}

static void unpack_q6_k(const uint8_t *p, int i, block32 *b)
{
    int half = i / 4, part = i % 4; /* 128 elements each half, 4 parts of 32 */
    const uint8_t *ql = p + half * 64 + (part & 1) * 32, *qh = p + 128 + half * 32;
    const int8_t *scales = (const int8_t *)p + 192 + half * 8 + part * 2;

    b->raw_d = half_bits(p + 208);
    for (int h = 0; h < 2; h++)
        set_k_scale(b, h, scales[h], 0, 32);
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
        set_scale(b, p, NULL, 8);
        nibbles(p + 2, b->q);
        break;
    case T_Q4_1:
        p = row + i * 20;
        set_scale(b, p, p + 2, 0);
        nibbles(p + 4, b->q);
        break;
    case T_Q5_0:
        p = row + i * 22;
        set_scale(b, p, NULL, 16);
        nibbles(p + 6, b->q);
        fifth_bits(p + 2, b->q);
        break;
    case T_Q5_1:
        p = row + i * 24;
        set_scale(b, p, p + 2, 0);
        nibbles(p + 8, b->q);
        fifth_bits(p + 4, b->q);
        break;
    case T_Q8_0:
        p = row + i * 34;
        set_scale(b, p, NULL, 0);
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
    static const struct {
        uint32_t type;
        kernels_fmt fmt;
    } map[] = {
        { T_F32, KERNELS_F32 },   { T_F16, KERNELS_F16 },   { T_BF16, KERNELS_BF16 },
        { T_Q4_0, KERNELS_Q4_0 }, { T_Q4_1, KERNELS_Q4_1 }, { T_Q5_0, KERNELS_Q5_0 },
        { T_Q5_1, KERNELS_Q5_1 }, { T_Q8_0, KERNELS_Q8_0 }, { T_Q2_K, KERNELS_Q2_K },
        { T_Q3_K, KERNELS_Q3_K }, { T_Q4_K, KERNELS_Q4_K }, { T_Q5_K, KERNELS_Q5_K },
        { T_Q6_K, KERNELS_Q6_K },
    };

    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
        if (map[i].type == tensor_type)
            return (int)map[i].fmt;
    return -1;
}

size_t kernels_panel_bytes(kernels_fmt f, size_t cols)
{
    if (f == KERNELS_F32)
        return cols * KERNELS_ROWS * 4;
    if (f == KERNELS_F16 || f == KERNELS_BF16)
        return (cols + 1) / 2 * 2 * KERNELS_ROWS * 2;
    return cols / KERNELS_BLOCK / packed_blocks(f) * packed_unit_bytes(f);
}

/* Unpacked bytes and f32 scales: the wide blocks of avx512.c. */
size_t kernels_scratch_bytes(size_t cols)
{
    return (kernels_chunk_cols(cols) / KERNELS_BLOCK + 1) * KERNELS_WIDE_BYTES;
}

size_t kernels_chunk_cols(size_t cols)
{
    return cols < KERNELS_CHUNK_COLS ? cols : KERNELS_CHUNK_COLS;
}

size_t kernels_kv_bytes(kernels_kv kv, size_t head_dim)
{
    if (kv == KERNELS_KV_Q8_0)
        return 2 * head_dim / KV_Q8_GROUP * KV_Q8_BYTES;
    return 2 * head_dim * KERNELS_KV_TOKENS * sizeof(uint16_t);
}

size_t kernels_attn_scratch(size_t query_count, size_t head_dim)
{
    const size_t group = KERNELS_KV_TOKENS * KERNELS_KV_GROUP;

    /* Scores; over BF16, queries in pairs and sums in vectors. */
    return query_count * (group + head_dim / 2);
}

static void put_u32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}

static uint32_t get_u32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

/* The quants of row r into a block. */
static void put_quants(kernels_fmt f, uint8_t *block, size_t r, const uint8_t *q)
{
    uint8_t *lane = block + r * 4;

    if (f == KERNELS_Q8_0)
        for (size_t j = 0; j < 8; j++)
            put_u32(lane + j * PACKED_CHUNK, get_u32(q + j * 4));
    if (packed_has_nibbles(f))
        for (size_t j = 0; j < 4; j++)
            put_u32(lane + j * PACKED_CHUNK, (get_u32(q + j * 4) & 0x0f0f0f0f) |
                                                 (get_u32(q + 16 + j * 4) & 0x0f0f0f0f) << 4);
    if (packed_has_pairs(f)) {
        int shift = packed_has_nibbles(f) ? 4 : 0;

        for (size_t h = 0; h < 2; h++) {
            uint32_t v = 0;

            for (size_t i = 0; i < 4; i++)
                v |= (get_u32(q + h * 16 + i * 4) >> shift & 0x03030303) << (2 * i);
            put_u32(lane + packed_pairs_at(f) + h * PACKED_CHUNK, v);
        }
    }
    if (packed_has_bits(f)) {
        int shift = f == KERNELS_Q3_K ? 2 : 4;

        for (size_t j = 0; j < 8; j++) {
            /* One bit of each of four bytes, gathered into a nibble by a multiplication. */
            uint32_t four = (get_u32(q + j * 4) >> shift & 0x01010101) * 0x10204080U >> 28;
            uint8_t *at = block + packed_bits_at(f) + (j * 2 + r / 16) * 8 + r % 16 / 2;

            *at = (uint8_t)(r % 2 ? (*at & 15) | four << 4 : (*at & 0xf0) | four);
        }
    }
}

/* What the head says of row r; a K-quant's is written with its first block, then its scales. */
static void put_head(kernels_fmt f, uint8_t *head, size_t b, size_t r, const block32 *w)
{
    if (b == 0) {
        memcpy(head + r * 2, &w->raw_d, 2);
        if (packed_has_min(f))
            memcpy(head + PACKED_VEC + r * 2, &w->raw_m, 2);
    }
    if (!packed_is_k(f))
        return;
    for (size_t h = 0; h < (packed_has_halves(f) ? 2 : 1); h++)
        ((uint8_t *)packed_k_scales(f, head, b, h))[r] =
            (uint8_t)(w->sc[h] | (f == KERNELS_Q2_K ? w->mn[h] << 4 : 0));
    if (packed_has_min(f) && !packed_has_halves(f))
        ((uint8_t *)packed_k_mins(head, b))[r] = w->mn[0];
}

/* Moves 32 rows of units (columns, or pairs of them) of `size` bytes, a few at a time so that both
 * sides stay in the cache. */
static ALWAYS_INLINE void transpose(const uint8_t *rows, size_t row_bytes, size_t row_count,
                                    size_t units, const size_t size, uint8_t *panel)
{
    for (size_t from = 0; from < units; from += 16) {
        size_t to = from + 16 < units ? from + 16 : units;

        for (size_t r = 0; r < row_count; r++)
            for (size_t u = from; u < to; u++)
                memcpy(panel + (u * KERNELS_ROWS + r) * size, rows + r * row_bytes + u * size,
                       size);
    }
}

/* Float panels. */
static void pack_float(kernels_fmt f, const uint8_t *rows, size_t row_bytes, size_t row_count,
                       size_t cols, uint8_t *panel)
{
    if (row_count < KERNELS_ROWS || cols % 2)
        memset(panel, 0, kernels_panel_bytes(f, cols));
    if (f == KERNELS_F16) {
        transpose(rows, row_bytes, row_count, cols, 2, panel);
    } else if (f == KERNELS_F32) {
        transpose(rows, row_bytes, row_count, cols, 4, panel);
    } else {
        transpose(rows, row_bytes, row_count, cols / 2, 4, panel);
        for (size_t r = 0; cols % 2 && r < row_count; r++) /* the last column has no partner */
            memcpy(panel + (cols / 2 * KERNELS_ROWS + r) * 4, rows + r * row_bytes + (cols - 1) * 2,
                   2);
    }
}

void kernels_pack_panel(uint32_t tensor_type, const uint8_t *rows, size_t row_bytes,
                        size_t row_count, size_t cols, void *panel)
{
    kernels_fmt f = (kernels_fmt)kernels_fmt_of(tensor_type);
    size_t blocks = packed_blocks(f);

    if (f <= KERNELS_BF16) {
        pack_float(f, rows, row_bytes, row_count, cols, panel);
        return;
    }
    if (row_count < KERNELS_ROWS)
        memset(panel, 0, kernels_panel_bytes(f, cols));
    for (size_t i = 0; i < cols / KERNELS_BLOCK; i++) {
        uint8_t *head = (uint8_t *)panel + i / blocks * packed_unit_bytes(f);
        uint8_t *block = head + packed_head_bytes(f) + i % blocks * packed_quant_bytes(f);

        for (size_t r = 0; r < row_count; r++) {
            block32 w;

            unpack32(tensor_type, rows + r * row_bytes, i, &w);
            put_head(f, head, i % blocks, r, &w);
            put_quants(f, block, r, w.q);
        }
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
