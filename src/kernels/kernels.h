/* kernels.h - the numbers: packed weights, quantized activations, matrix products, attention.
 *
 * Weights are kept in panels of 32 rows, interleaved so that one vector register holds the same
 * four columns of many rows: a matrix product then accumulates whole rows without horizontal sums.
 * One layout serves every instruction set. All functions are pure; the table is read-only.
 *
 * Batch invariance: the value of y[t][r] depends on row r and activation t only, never on how many
 * tokens or rows share a call. */
#ifndef SL_KERNELS_KERNELS_H
#define SL_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KERNELS_ROWS      32 /* rows in a panel */
#define KERNELS_BLOCK     32 /* columns in a quantized block */
#define KERNELS_KV_TOKENS 16 /* tokens in a KV block */
#define KERNELS_KV_GROUP  4  /* KV blocks that one step of the online softmax takes */

/* Packed weight formats, one for each type of file: the same numbers in as many bytes (K-quants of
 * six-bit scales 3 % more), in another order. packed.h has the layouts. */
typedef enum kernels_fmt {
    KERNELS_F32,
    KERNELS_F16,
    KERNELS_BF16,
    KERNELS_Q4_0,
    KERNELS_Q4_1,
    KERNELS_Q5_0,
    KERNELS_Q5_1,
    KERNELS_Q8_0,
    KERNELS_Q2_K,
    KERNELS_Q3_K,
    KERNELS_Q4_K,
    KERNELS_Q5_K,
    KERNELS_Q6_K,
    KERNELS_FMT_COUNT
} kernels_fmt;

/* What a matrix product takes as activations. */
typedef enum kernels_act {
    KERNELS_ACT_F32,  /* float[cols] */
    KERNELS_ACT_BF16, /* uint16_t[cols], cols rounded up to even, zero behind the end */
    KERNELS_ACT_Q8,   /* kernels_q8[cols / 32] */
    KERNELS_ACT_COUNT
} kernels_act;

/* 32 activations: x = d * q. n is minus the sum of q, n0 that of the first 16; s = d * sum. d and s
 * are rounded to f16, as in GGUF's Q8_0 and Q8_1, so that results compare with other engines' to
 * the last few bits. */
typedef struct kernels_q8 {
    float d, s;
    int32_t n, n0;
    int8_t q[KERNELS_BLOCK];
} kernels_q8;

/* y[t][r] = sum over k of w[r][k] * x[t][k], for the 32 rows of one panel.
 *
 * panel:   cols columns in the format of the table's index
 * x:       [tokens] rows x_stride bytes apart, of the kind that act[] names
 * y:       [tokens] rows y_stride floats apart, 32 written in each
 * scratch: kernels_scratch_bytes(cols), 64-byte aligned; left dirty */
typedef void (*kernels_gemm_fn)(const void *panel, size_t cols, const void *x, size_t x_stride,
                                size_t tokens, float *y, size_t y_stride, void *scratch);

/* How keys and values are kept: f16; int8 with an f16 scale per token and 32 elements; or BF16 in
 * pairs, which attention then multiplies as BF16 (queries and weights too), at up to twice the rate
 * of float. */
typedef enum kernels_kv {
    KERNELS_KV_F16,
    KERNELS_KV_Q8_0,
    KERNELS_KV_BF16,
    KERNELS_KV_COUNT
} kernels_kv;

/* Attention of some queries of one sequence over a run of its KV blocks, for one KV head, by the
 * online softmax of FlashAttention (Dao et al. 2022). The result is partial: out is the weighted
 * sum of values, sum the sum of weights, both relative to e^max. attn_merge() puts the parts of a
 * long sequence together, so that they may be computed apart. */
typedef struct kernels_attn {
    const float *q;     /* [query_count, head_dim], scaled */
    float *out;         /* [query_count, head_dim] */
    float *max, *sum;   /* [query_count] */
    const int32_t *pos; /* [query_count]: a query sees keys first[i] <= p <= pos[i] */
    const int32_t *first;
    size_t query_count;
    size_t head_dim; /* multiple of 16; of 32 for KERNELS_KV_Q8_0 */
    /* KV blocks of this head, kernels_kv_bytes() each, from block number block_first, a multiple
     * of KERNELS_KV_GROUP. Blocks up to the next multiple are read only if they are listed. */
    const void *const *blocks;
    int32_t block_first, block_count;
    float softcap;  /* 0: none; else scores become softcap * tanh(score / softcap) */
    float *scratch; /* kernels_attn_scratch(query_count, head_dim) floats */
} kernels_attn;

typedef void (*kernels_attn_fn)(const kernels_attn *a);

typedef struct kernels {
    const char *isa;
    void (*quantize_q8)(const float *x, size_t blocks, kernels_q8 *out);
    void (*f32_to_bf16)(const float *x, size_t n, uint16_t *out); /* to nearest even */
    kernels_act act[KERNELS_FMT_COUNT];
    kernels_gemm_fn gemm[KERNELS_FMT_COUNT];
    void (*add)(float *y, const float *x, size_t n);
    void (*scale)(float *y, float by, size_t n);
    /* y may be x. rmsnorm: y = x / rms(x) * w. layernorm: y = (x - mean) / std * w + b. */
    void (*rmsnorm)(float *y, const float *x, const float *w, size_t n, float eps);
    void (*layernorm)(float *y, const float *x, const float *w, const float *b, size_t n,
                      float eps);
    /* gate = act(gate) * up; up may be NULL: gate = act(gate). */
    void (*silu_mul)(float *gate, const float *up, size_t n);
    void (*gelu_tanh_mul)(float *gate, const float *up, size_t n);
    void (*gelu_erf_mul)(float *gate, const float *up, size_t n);
    void (*f32_to_f16)(const float *x, size_t n, uint16_t *out);
    kernels_attn_fn attn[KERNELS_KV_COUNT];
    bool has_bf16_pairs; /* attention over BF16 is the fastest; elsewhere it is slow */
    /* (out, max, sum) of one query takes in (part, part_max, part_sum) of its next blocks. */
    void (*attn_merge)(float *out, float *max, float *sum, const float *part, float part_max,
                       float part_sum, size_t head_dim);
    /* Puts one token's key and value of head_dim floats into a KV block of its head. Threads may
     * put different tokens of a block at once. */
    void (*kv_store[KERNELS_KV_COUNT])(void *block, size_t head_dim, size_t slot, const float *key,
                                       const float *value);
    /* Of logits: index of the largest (the first of equals); sum of e^(x - max) where x >= floor;
     * the indices with x >= floor, at most n of them, in order: returns how many. */
    size_t (*argmax)(const float *x, size_t n);
    double (*sum_exp)(const float *x, size_t n, float max, float floor);
    size_t (*above)(const float *x, size_t n, float floor, int32_t *ret_idx);
    /* Exact dots of one query with many rows of bytes: out[i] = sum over c of (rows[i * cols + c] -
     * 128) * q[c], for i < count. cols: a multiple of 64, at most 65,536 (no sum overflows). */
    void (*scan_u8)(const uint8_t *rows, size_t cols, size_t count, const int8_t *q, int32_t *out);
} kernels;

/* Instruction sets this program knows; a mask is an OR of them. */
enum {
    KERNELS_CPU_AVX2 = 1,   /* AVX2, FMA, F16C */
    KERNELS_CPU_AVX512 = 2, /* AVX-512 F, BW, DQ, VL and VNNI */
    KERNELS_CPU_BF16 = 4,   /* AVX-512 BF16 */
};

/* What this processor has. */
unsigned kernels_cpu(void);
/* Fills the table with the best kernels for the mask; 0 gives the scalar reference. */
void kernels_init(kernels *k, unsigned cpu_mask);

/* ---- storage formats (file side) ------------------------------------------------------------ */

/* The packed format for a file's tensor type (GGUF id); -1 when it has none. */
int kernels_fmt_of(uint32_t tensor_type);
/* Bytes of one panel of cols columns. */
size_t kernels_panel_bytes(kernels_fmt fmt, size_t cols);

/* Bytes of scratch for products over cols columns. */
size_t kernels_scratch_bytes(size_t cols);
/* Columns of activations that a product works on at a time. */
size_t kernels_chunk_cols(size_t cols);
/* Bytes of one KV block of one head: keys and values of 16 tokens. */
size_t kernels_kv_bytes(kernels_kv kv, size_t head_dim);
/* Floats of scratch for attention of that many queries. */
size_t kernels_attn_scratch(size_t query_count, size_t head_dim);

/* Packs up to 32 rows (missing ones become zeros) of file data into a panel.
 * rows: the first row; row_bytes apart. cols must be a multiple of the type's block. */
void kernels_pack_panel(uint32_t tensor_type, const uint8_t *rows, size_t row_bytes,
                        size_t row_count, size_t cols, void *panel);

/* Expands n elements of file data (n a multiple of the type's block) to floats. */
void kernels_dequant(uint32_t tensor_type, const uint8_t *data, size_t n, float *out);

float kernels_f16_to_f32(uint16_t h);
uint16_t kernels_f32_to_f16(float f); /* round to nearest even */

/* The dot of two float vectors, for searching embeddings. */
float kernels_dot_f32(const float *a, const float *b, size_t n);

#endif
