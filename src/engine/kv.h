/* kv.h - the paged KV cache: blocks of 16 tokens from one pool, shared by sequences that begin
 * alike.
 *
 * A block holds keys and values of 16 positions for every layer and KV head. Sequences hold blocks
 * by number. A full block may be published: its name is then (name of the block before it, its 16
 * tokens), and names are unique numbers, so that a match is exact: no two different beginnings can
 * be taken for each other. The first parent is a root, one per salt (tenant), so that nobody shares
 * with strangers. A block that nobody holds stays published until it is taken for something else,
 * least recently used first, ends of sequences before their beginnings.
 *
 * The engine thread alone calls anything here; compute threads only read tables.
 *
 * Invariants: (1) a block is in the free list if and only if no sequence holds it; (2) its count is
 * that of the sequences that list it; (3) a sequence of len tokens lists at least ceil(len / 16)
 * blocks; (4) only full blocks are published, each name once. kv_pool_check() verifies them. */
#ifndef SL_ENGINE_KV_H
#define SL_ENGINE_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"
#include "kernels/kernels.h"

typedef struct kv_shape {
    int layers, kv_heads;
    int head_dim; /* padded to a multiple of 16 */
    kernels_kv type;
} kv_shape;

typedef struct kv_block {
    int32_t holders;
    int32_t prev, next; /* neighbours in the free list; -1 at its ends */
    int32_t chain;      /* next in its bucket, or -1 */
    uint64_t id;        /* its name; 0: not published */
    uint64_t parent;
    int32_t tokens[SL_KV_BLOCK_TOKENS];
} kv_block;

typedef struct kv_root {
    char *salt;
    uint64_t id;
} kv_root;

typedef struct kv_pool {
    kv_shape shape;
    int block_count, free_count;
    int32_t free_first, free_last; /* -1: none; first is taken first */
    kv_block *blocks;
    int32_t *buckets; /* [bucket_count] first block of each chain, or -1 */
    size_t bucket_count;
    uint64_t next_id;
    kv_root *roots;
    size_t root_count, root_cap;
    size_t head_bytes; /* of one block, layer and head */
    uint8_t *data;     /* [layers, block_count, kv_heads, head_bytes] */
    size_t bytes;
} kv_pool;

typedef struct kv_seq {
    int32_t *blocks; /* [block_cap] */
    int block_count, block_cap;
    int len;       /* tokens whose keys and values are in the cache */
    int named;     /* full blocks whose name is known: published, or a twin's */
    uint64_t root; /* 0: publishes and matches nothing */
    uint64_t tail; /* name of block named - 1, or root */
} kv_seq;

/* A pool of as many blocks as fit into bytes (at least one). */
SL_NODISCARD sl_status kv_pool_create(kv_shape shape, size_t bytes, kv_pool **ret, sl_err *err);
void kv_pool_destroy(kv_pool *p); /* accepts NULL */
size_t kv_block_bytes(kv_shape shape);

/* The root of a salt; 0, which shares nothing, when there are too many salts. */
uint64_t kv_pool_root(kv_pool *p, const char *salt);

/* A sequence of up to len_max tokens; holds no block yet. */
SL_NODISCARD sl_status kv_seq_init(kv_seq *s, int len_max, uint64_t root, sl_err *err);
void kv_seq_deinit(kv_pool *p, kv_seq *s); /* gives the blocks back */

/* Makes room for tokens up to position len - 1. False, with nothing changed, when the pool has too
 * few free blocks. */
bool kv_seq_reserve(kv_pool *p, kv_seq *s, int len) SL_NODISCARD;
/* Gives all blocks back and forgets the tokens. */
void kv_seq_clear(kv_pool *p, kv_seq *s);
/* Forgets the tokens from len on; keeps the room. */
void kv_seq_truncate(kv_seq *s, int len);

/* How many of the first tokens are in published blocks: a multiple of 16 below count, so that one
 * token is left to compute. ret_free: how many of those blocks nobody holds. */
int kv_seq_peek(const kv_pool *p, const kv_seq *s, const int32_t *tokens, int count, int *ret_free);
/* Takes those blocks for an empty sequence. Returns what kv_seq_peek would. */
int kv_seq_match(kv_pool *p, kv_seq *s, const int32_t *tokens, int count);
/* Publishes the blocks that became full. tokens: the sequence's. */
void kv_seq_publish(kv_pool *p, kv_seq *s, const int32_t *tokens);
/* Blocks that only this sequence holds. */
int kv_seq_own(const kv_pool *p, const kv_seq *s);

/* Blocks a reserve to len would take. */
static inline int kv_seq_missing(const kv_seq *s, int len)
{
    int need = (len + SL_KV_BLOCK_TOKENS - 1) / SL_KV_BLOCK_TOKENS;

    return need > s->block_count ? need - s->block_count : 0;
}

/* Keys and values of one block, layer and head: kernels_kv_bytes(). */
static inline void *kv_head_ptr(const kv_pool *p, int layer, int32_t block, int head)
{
    size_t i = ((size_t)layer * (size_t)p->block_count + (size_t)block) * (size_t)p->shape.kv_heads;

    return p->data + (i + (size_t)head) * p->head_bytes;
}

/* Asserts the invariants against the sequences that exist. */
void kv_pool_check(const kv_pool *p, const kv_seq *const *seqs, int count);

#endif
