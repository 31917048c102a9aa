/* kernels.h - the numbers: packed weights, quantized activations, matrix products, attention.
 *
 * Weights are kept in panels of 16 rows, interleaved so that one vector register holds the same
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

#define KERNELS_ROWS      16 /* rows in a panel */
#define KERNELS_BLOCK     32 /* columns in a quantized block */
#define KERNELS_KV_TOKENS 16 /* tokens in a KV block */

/* Packed weight formats. In the integer ones w = d * q + m. A panel is a sequence of blocks of 32
 * columns; the parts of a block follow each other in this order:
 *
 *   U4   d f16[16], m f16[16], then 4 x [16 rows][4 bytes]: chunk j holds columns 4j..4j+3 in the
 *        low nibbles and columns 16+4j..16+4j+3 in the high ones        (Q4_0, Q4_1)
 *   U4W  the same with d and m in f32                                   (Q4_K)
 *   U8   d f32[16], m f32[16], then 8 x [16 rows][4 bytes], q <= 63     (Q5_0, Q5_1, Q5_K)
 *   U8H  d f32[2][16], m f32[2][16] for the two halves of 16 columns, then as U8
 *                                                                       (Q2_K, Q3_K, Q6_K)
 *   S8   d f16[16], then 8 x [16 rows][4 bytes] signed                  (Q8_0)
 *
 * The float formats are [columns][16 rows], without padding of the columns. */
typedef enum kernels_fmt {
    KERNELS_F32,
    KERNELS_F16,
    KERNELS_BF16,
    KERNELS_U4,
    KERNELS_U4W,
    KERNELS_U8,
    KERNELS_U8H,
    KERNELS_S8,
    KERNELS_FMT_COUNT
} kernels_fmt;

/* 32 activations: x = d * q; s = d * sum(q) and h the same for either half, for the weights'
 * offsets. d and s are rounded to f16, as in GGUF's Q8_0 and Q8_1, so that results compare with
 * other engines' to the last few bits. */
typedef struct kernels_q8 {
    float d, s;
    float h[2];
    int8_t q[KERNELS_BLOCK];
} kernels_q8;

/* y[t][r] = sum over k of w[r][k] * x[t][k], for the 16 rows of one panel.
 *
 * panel:   cols columns in the format of the table's index
 * x:       [tokens] rows x_stride bytes apart: float[cols] for the float formats, otherwise
 *          kernels_q8[cols / 32]
 * y:       [tokens] rows y_stride floats apart, 16 written in each */
typedef void (*kernels_gemm_fn)(const void *panel, size_t cols, const void *x, size_t x_stride,
                                size_t tokens, float *y, size_t y_stride);

/* Attention of some queries of one sequence over one KV head, by the online softmax of
 * FlashAttention (Dao et al. 2022) over KV blocks. */
typedef struct kernels_attn {
    const float *q;     /* [query_count, head_dim], scaled */
    float *out;         /* [query_count, head_dim] */
    const int32_t *pos; /* [query_count]: a query sees keys first[i] <= p <= pos[i] */
    const int32_t *first;
    size_t query_count;
    size_t head_dim; /* multiple of 16 */
    /* KV blocks of this head, from the block that holds position block_first * 16:
     * keys [head_dim, 16] f16 (transposed), then values [16, head_dim] f16. */
    const uint16_t *const *blocks;
    int32_t block_first, block_count;
    float softcap;  /* 0: none; else scores become softcap * tanh(score / softcap) */
    float *scratch; /* [query_count * (16 + 2)] */
} kernels_attn;

typedef struct kernels {
    const char *isa;
    void (*quantize_q8)(const float *x, size_t blocks, kernels_q8 *out);
    kernels_gemm_fn gemm[KERNELS_FMT_COUNT];
    /* y may be x. rmsnorm: y = x / rms(x) * w. layernorm: y = (x - mean) / std * w + b. */
    void (*rmsnorm)(float *y, const float *x, const float *w, size_t n, float eps);
    void (*layernorm)(float *y, const float *x, const float *w, const float *b, size_t n,
                      float eps);
    /* gate = act(gate) * up; up may be NULL: gate = act(gate). */
    void (*silu_mul)(float *gate, const float *up, size_t n);
    void (*gelu_tanh_mul)(float *gate, const float *up, size_t n);
    void (*gelu_erf_mul)(float *gate, const float *up, size_t n);
    void (*f32_to_f16)(const float *x, size_t n, uint16_t *out);
    void (*attn)(const kernels_attn *a);
} kernels;

/* Instruction sets this program knows; a mask is an OR of them. */
enum {
    KERNELS_CPU_AVX2 = 1,   /* AVX2, FMA, F16C */
    KERNELS_CPU_AVX512 = 2, /* AVX-512 F, BW, DQ, VL and VNNI */
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

/* Packs up to 16 rows (missing ones become zeros) of file data into a panel.
 * rows: the first row; row_bytes apart. cols must be a multiple of the type's block. */
void kernels_pack_panel(uint32_t tensor_type, const uint8_t *rows, size_t row_bytes,
                        size_t row_count, size_t cols, void *panel);

/* Expands n elements of file data (n a multiple of the type's block) to floats. */
void kernels_dequant(uint32_t tensor_type, const uint8_t *data, size_t n, float *out);

float kernels_f16_to_f32(uint16_t h);
uint16_t kernels_f32_to_f16(float f); /* round to nearest even */

/* Dots of two float vectors, for searching embeddings. */
float kernels_dot_f32(const float *a, const float *b, size_t n);

#endif
