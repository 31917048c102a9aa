/* packed.h - where the parts of a packed panel stand. Shared by the packer and every level.
 *
 * A panel is a sequence of units; a unit is a block of 32 columns, or of 256 for K-quants, of all
 * 32 rows r: a head with scales, then the quants of each block of 32 columns.
 *
 *   type        head                                                      quants of a block
 *   Q4_0        d f16[r]                                                  nibbles
 *   Q4_1        d f16[r], m f16[r]                                        nibbles
 *   Q5_0        d f16[r]                                                  nibbles, fifth bits
 *   Q5_1        d f16[r], m f16[r]                                        nibbles, fifth bits
 *   Q8_0        d f16[r]                                                  bytes
 *   Q2_K        d f16[r], m f16[r], then u8[16][r]: scale | min << 4      pairs
 *   Q3_K        d f16[r], then scale i8[16][r]                            pairs, third bits
 *   Q4_K, Q5_K  d f16[r], m f16[r], scale u8[8][r], min u8[8][r]          as Q4_0, Q5_0
 *   Q6_K        d f16[r], then scale i8[16][r]                            nibbles, pairs
 *
 *   bytes    8 chunks of [32 rows][4 bytes]; chunk j holds columns 4j..4j+3
 *   nibbles  4 chunks; j has columns 4j.. in the low halves and 16+4j.. in the high ones
 *   pairs    2 chunks of two bits; h has columns 16h+4i.. at bit 2i of its bytes, i < 4
 *   Nth bits [8 chunks][2 halves of the rows] u64, a bit for each of their 64 bytes
 *
 * w = d * scale * (q - offset), or d * scale * q + m, with m = -m * min for K-quants. The float
 * formats are [columns][32 rows]; BF16 is [columns / 2][32 rows][2], as vdpbf16ps wants it. */
#ifndef SL_KERNELS_PACKED_H
#define SL_KERNELS_PACKED_H

#include "kernels/kernels_int.h"

static ALWAYS_INLINE bool packed_is_k(kernels_fmt f)
{
    return f >= KERNELS_Q2_K;
}

/* Scales per 16 columns, not per 32. */
static ALWAYS_INLINE bool packed_has_halves(kernels_fmt f)
{
    return f == KERNELS_Q2_K || f == KERNELS_Q3_K || f == KERNELS_Q6_K;
}

/* An offset m of its own, not a multiple of d. */
static ALWAYS_INLINE bool packed_has_min(kernels_fmt f)
{
    return f == KERNELS_Q4_1 || f == KERNELS_Q5_1 || f == KERNELS_Q2_K || f == KERNELS_Q4_K ||
           f == KERNELS_Q5_K;
}

static ALWAYS_INLINE bool packed_has_nibbles(kernels_fmt f)
{
    return f != KERNELS_Q8_0 && f != KERNELS_Q2_K && f != KERNELS_Q3_K;
}

static ALWAYS_INLINE bool packed_has_bits(kernels_fmt f)
{
    return f == KERNELS_Q5_0 || f == KERNELS_Q5_1 || f == KERNELS_Q5_K || f == KERNELS_Q3_K;
}

static ALWAYS_INLINE bool packed_has_pairs(kernels_fmt f)
{
    return packed_has_halves(f);
}

/* log2 of the offset of formats without a minimum. */
static ALWAYS_INLINE int packed_offset_shift(kernels_fmt f)
{
    return f == KERNELS_Q4_0   ? 3
           : f == KERNELS_Q5_0 ? 4
           : f == KERNELS_Q8_0 ? 7
           : f == KERNELS_Q3_K ? 2
                               : 5; /* Q6_K */
}

#define PACKED_VEC    (KERNELS_ROWS * 2) /* one f16 for each row */
#define PACKED_CHUNK  (KERNELS_ROWS * 4)
#define PACKED_BITS   128
#define PACKED_BLOCKS 8 /* in a unit of a K-quant */

static ALWAYS_INLINE size_t packed_blocks(kernels_fmt f)
{
    return packed_is_k(f) ? PACKED_BLOCKS : 1;
}

static ALWAYS_INLINE size_t packed_head_bytes(kernels_fmt f)
{
    size_t bytes = packed_has_min(f) ? 2 * PACKED_VEC : PACKED_VEC;

    return bytes + (packed_is_k(f) ? 2 * PACKED_BLOCKS * KERNELS_ROWS : 0);
}

static ALWAYS_INLINE size_t packed_pairs_at(kernels_fmt f)
{
    return packed_has_nibbles(f) ? 4 * PACKED_CHUNK : 0;
}

static ALWAYS_INLINE size_t packed_bits_at(kernels_fmt f)
{
    return packed_pairs_at(f) + (packed_has_pairs(f) ? 2 * PACKED_CHUNK : 0);
}

static ALWAYS_INLINE size_t packed_quant_bytes(kernels_fmt f)
{
    if (f == KERNELS_Q8_0)
        return 8 * PACKED_CHUNK;
    return packed_bits_at(f) + (packed_has_bits(f) ? PACKED_BITS : 0);
}

static ALWAYS_INLINE size_t packed_unit_bytes(kernels_fmt f)
{
    return packed_head_bytes(f) + packed_blocks(f) * packed_quant_bytes(f);
}

/* Scales of a K-quant's head: of block b and half h; Q2_K keeps the minimum in the same byte. */
static ALWAYS_INLINE const uint8_t *packed_k_scales(kernels_fmt f, const uint8_t *head, size_t b,
                                                    size_t h)
{
    size_t i = packed_has_halves(f) ? b * 2 + h : b;

    return head + (packed_has_min(f) ? 2 : 1) * PACKED_VEC + i * KERNELS_ROWS;
}

/* Minima of Q4_K and Q5_K. */
static ALWAYS_INLINE const uint8_t *packed_k_mins(const uint8_t *head, size_t b)
{
    return head + 2 * PACKED_VEC + (PACKED_BLOCKS + b) * KERNELS_ROWS;
}

/* A KV block of int8: for each 32 of the head's elements, keys as f16 scale[16 tokens] then
 * [32 elements][16 tokens]; then, the same way, values as scale[16] then [16 tokens][32]. */
#define KV_Q8_GROUP 32
#define KV_Q8_BYTES (2 * KERNELS_KV_TOKENS + KV_Q8_GROUP * KERNELS_KV_TOKENS)

/* A KV block of f16: keys [head_dim][16 tokens], values [16 tokens][head_dim]. One of BF16 has two
 * elements in a word, the first in its lower half: keys [head_dim / 2][16 tokens], each a pair of
 * elements, values [8 pairs of tokens][head_dim]. */
#define KV_BF16_KEY(hd, slot, d) (((d) / 2 * KERNELS_KV_TOKENS + (slot)) * 2 + (d) % 2)
#define KV_BF16_VALUE(hd, slot, d)                                                                 \
    ((hd)*KERNELS_KV_TOKENS + ((slot) / 2 * (hd) + (d)) * 2 + (slot) % 2)

#endif
