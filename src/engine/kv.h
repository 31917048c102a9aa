/* kv.h - the paged KV cache: blocks of 16 tokens from one pool.
 *
 * A block holds keys and values of 16 positions for every layer and KV head. Sequences own blocks
 * by number. The engine thread alone takes and gives back; compute threads only read tables.
 *
 * Invariants: (1) every block is free or owned by exactly one sequence; (2) a sequence of len
 * tokens owns at least ceil(len / 16) blocks. kv_pool_check() verifies the first by count. */
#ifndef SL_ENGINE_KV_H
#define SL_ENGINE_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"

typedef struct kv_shape {
    int layers, kv_heads;
    int head_dim; /* padded to a multiple of 16 */
} kv_shape;

typedef struct kv_pool {
    kv_shape shape;
    int block_count;
    int free_count;
    int32_t *free_list; /* [free_count] */
    size_t head_elems;  /* f16 per block, layer and head: 2 * head_dim * 16 */
    uint16_t *data;     /* [layers, block_count, kv_heads, head_elems] */
    size_t bytes;
} kv_pool;

typedef struct kv_seq {
    int32_t *blocks; /* [block_cap] */
    int block_count, block_cap;
    int len; /* tokens whose keys and values are in the cache */
} kv_seq;

/* A pool of as many blocks as fit into bytes (at least one). */
SL_NODISCARD sl_status kv_pool_create(kv_shape shape, size_t bytes, kv_pool **ret, sl_err *err);
void kv_pool_destroy(kv_pool *p); /* accepts NULL */
size_t kv_block_bytes(kv_shape shape);

/* A sequence of up to len_max tokens; owns no block yet. */
SL_NODISCARD sl_status kv_seq_init(kv_seq *s, int len_max, sl_err *err);
void kv_seq_deinit(kv_pool *p, kv_seq *s); /* gives the blocks back */

/* Makes room for tokens up to position len - 1. False, with nothing changed, when the pool is
 * empty. */
bool kv_seq_reserve(kv_pool *p, kv_seq *s, int len) SL_NODISCARD;
/* Gives all blocks back and forgets the tokens. */
void kv_seq_clear(kv_pool *p, kv_seq *s);

/* Blocks a reserve to len would take. */
static inline int kv_seq_missing(const kv_seq *s, int len)
{
    int need = (len + SL_KV_BLOCK_TOKENS - 1) / SL_KV_BLOCK_TOKENS;

    return need > s->block_count ? need - s->block_count : 0;
}

/* Keys [head_dim, 16] then values [16, head_dim] of one block, layer and head. */
static inline uint16_t *kv_head_ptr(const kv_pool *p, int layer, int32_t block, int head)
{
    size_t i = ((size_t)layer * (size_t)p->block_count + (size_t)block) * (size_t)p->shape.kv_heads;

    return p->data + (i + (size_t)head) * p->head_elems;
}

/* Asserts the invariants against the sequences that exist. */
void kv_pool_check(const kv_pool *p, const kv_seq *const *seqs, int count);

#endif
