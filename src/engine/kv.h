/* kv.h - the paged KV cache: blocks of 16 tokens from one pool, shared by sequences that begin
 * alike.
 *
 * A block holds keys and values of 16 positions for every KV head and layer that sees everything.
 * Sequences hold blocks by number. A block that is full may be published: its name is then (name of
 * the block before it, its 16 tokens), and names are unique numbers, so that a match is exact: no
 * two different beginnings can be taken for each other. The first parent is a root, one per salt
 * (tenant), so that nobody shares with strangers. A block that nobody holds stays published until
 * it is taken for something else, least recently used first, ends of sequences before their
 * beginnings.
 *
 * Layers that see only a window of tokens have blocks of their own, under the same names. A
 * sequence gives them back as they leave its window, so that there are never more in use than
 * kv_local_max() says: they cannot run out, and whoever plans counts the full blocks only. A
 * beginning is matched only as far as the window behind its end is still there.
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
    int window;  /* tokens that local layers see; 0: no layer is local */
    int pattern; /* of so many layers all but the last are local */
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
    uint64_t used; /* when it was asked for last, in calls */
} kv_root;

/* Blocks of some of the layers. */
typedef struct kv_blocks {
    int count, free_count;
    int32_t free_first, free_last; /* -1: none; first is taken first */
    kv_block *blocks;
    int32_t *buckets; /* [bucket_count] first block of each chain, or -1 */
    size_t bucket_count;
    uint8_t *data; /* [layers, count, kv_heads, head_bytes] */
    size_t bytes;
} kv_blocks;

typedef struct kv_pool {
    kv_shape shape;
    kv_blocks full;  /* of layers that see everything */
    kv_blocks local; /* of layers with a window; count 0: there are none */
    uint64_t next_id;
    kv_root *roots;
    size_t root_count, root_cap;
    uint64_t root_calls;
    size_t head_bytes; /* of one block, layer and head */
} kv_pool;

typedef struct kv_seq {
    int32_t *blocks; /* [block_cap] in full */
    int32_t *local;  /* [block_cap] in local, from number local_first on */
    int block_count, block_cap, local_first;
    int len;       /* tokens whose keys and values are in the cache */
    int named;     /* full blocks whose name is known: published, or a twin's */
    uint64_t root; /* 0: publishes and matches nothing */
    uint64_t tail; /* name of block named - 1, or root */
} kv_seq;

/* Local blocks that suffice for so many sequences and tokens in a step. */
int kv_local_max(kv_shape shape, int seqs, int step_tokens);
/* What `blocks` full blocks, and local ones to go with them, take; local_max: more never used. */
size_t kv_bytes(kv_shape shape, size_t blocks, int local_max);
/* How many full blocks fit, at least one. */
size_t kv_blocks_in(kv_shape shape, size_t bytes, int local_max);

SL_NODISCARD sl_status kv_pool_create(kv_shape shape, size_t bytes, int local_max, kv_pool **ret,
                                      sl_err *err);
void kv_pool_destroy(kv_pool *p); /* accepts NULL */

/* The root of a salt; 0, which shares nothing, when out of memory. Of very many salts the one used
 * longest ago is forgotten. */
uint64_t kv_pool_root(kv_pool *p, const char *salt);

/* A sequence of up to len_max tokens; holds no block yet. */
SL_NODISCARD sl_status kv_seq_init(kv_seq *s, int len_max, uint64_t root, sl_err *err);
void kv_seq_deinit(kv_pool *p, kv_seq *s); /* gives the blocks back */

/* Makes room for tokens up to position len - 1; gives back what left the window. False, with
 * nothing changed, when the pool has too few free blocks. */
bool kv_seq_reserve(kv_pool *p, kv_seq *s, int len) SL_NODISCARD;
/* Gives all blocks back and forgets the tokens. */
void kv_seq_clear(kv_pool *p, kv_seq *s);
/* Forgets the tokens from len on; keeps the room. Not after they were published: what left their
 * window is gone. */
void kv_seq_truncate(kv_seq *s, int len);

/* How many of the first tokens are in published blocks: a multiple of 16 below count, so that one
 * token is left to compute. ret_free: how many of those blocks nobody holds. */
int kv_seq_peek(const kv_pool *p, const kv_seq *s, const int32_t *tokens, int count, int *ret_free);
/* Takes those blocks for an empty sequence. Returns what kv_seq_peek would. */
int kv_seq_match(kv_pool *p, kv_seq *s, const int32_t *tokens, int count);
/* Publishes the blocks that became full; gives back what left the window. tokens: the sequence's.
 */
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
static inline bool kv_layer_is_local(const kv_shape *s, int layer)
{
    return s->window > 0 && (layer + 1) % s->pattern != 0;
}

/* A head's keys and values in a layer, of the sequence's block of that number. Where the layer is
 * local, the block must be in the window, or in the group of KERNELS_KV_GROUP where that begins. */
static inline void *kv_head_ptr(const kv_pool *p, const kv_seq *s, int layer, int block, int head)
{
    const kv_blocks *store = &p->full;
    const int32_t *blocks = s->blocks;
    size_t row = (size_t)layer;

    if (p->shape.window > 0) {
        row = (size_t)(layer / p->shape.pattern);
        if (kv_layer_is_local(&p->shape, layer)) {
            row = (size_t)layer - row;
            store = &p->local;
            blocks = s->local;
        }
    }
    row = (row * (size_t)store->count + (size_t)blocks[block]) * (size_t)p->shape.kv_heads;
    return store->data + (row + (size_t)head) * p->head_bytes;
}

/* Asserts the invariants against the sequences that exist. */
void kv_pool_check(const kv_pool *p, const kv_seq *const *seqs, int count);

#endif
