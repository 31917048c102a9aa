/* kv.c - the block pool and the names of its blocks. */
#include "engine/kv.h"

#include <string.h>

#include "base/mem.h"

#define NONE      (-1)
#define ROOTS_MAX 65536 /* tenants with a cache of their own; a salt is some 20 bytes */

size_t kv_block_bytes(kv_shape s)
{
    return (size_t)s.layers * (size_t)s.kv_heads * kernels_kv_bytes(s.type, (size_t)s.head_dim);
}

/* ---- the free list --------------------------------------------------------------------------- */

static void free_remove(kv_pool *p, int32_t i)
{
    kv_block *b = &p->blocks[i];

    if (b->prev == NONE)
        p->free_first = b->next;
    else
        p->blocks[b->prev].next = b->next;
    if (b->next == NONE)
        p->free_last = b->prev;
    else
        p->blocks[b->next].prev = b->prev;
    p->free_count--;
}

/* Blocks that can be matched go to the end, others are taken first. */
static void free_add(kv_pool *p, int32_t i)
{
    kv_block *b = &p->blocks[i];

    if (b->id) {
        b->prev = p->free_last;
        b->next = NONE;
    } else {
        b->prev = NONE;
        b->next = p->free_first;
    }
    if (b->prev == NONE)
        p->free_first = i;
    else
        p->blocks[b->prev].next = i;
    if (b->next == NONE)
        p->free_last = i;
    else
        p->blocks[b->next].prev = i;
    p->free_count++;
}

/* ---- names ----------------------------------------------------------------------------------- */

static int32_t *bucket_of(const kv_pool *p, uint64_t parent, const int32_t *tokens)
{
    uint64_t h = parent * 0x9e3779b97f4a7c15ULL;

    for (int i = 0; i < SL_KV_BLOCK_TOKENS; i++)
        h = (h ^ (uint32_t)tokens[i]) * 0xff51afd7ed558ccdULL;
    return &p->buckets[(h ^ h >> 32) & (p->bucket_count - 1)];
}

/* The published block of that name, or NONE. */
static int32_t find(const kv_pool *p, uint64_t parent, const int32_t *tokens)
{
    int32_t i = *bucket_of(p, parent, tokens);

    while (i != NONE && (p->blocks[i].parent != parent ||
                         memcmp(p->blocks[i].tokens, tokens, sizeof p->blocks[i].tokens) != 0))
        i = p->blocks[i].chain;
    return i;
}

static void unpublish(kv_pool *p, int32_t i)
{
    kv_block *b = &p->blocks[i];
    int32_t *at = bucket_of(p, b->parent, b->tokens);

    while (*at != i)
        at = &p->blocks[*at].chain;
    *at = b->chain;
    b->id = 0;
}

uint64_t kv_pool_root(kv_pool *p, const char *salt)
{
    for (size_t i = 0; i < p->root_count; i++)
        if (strcmp(p->roots[i].salt, salt) == 0)
            return p->roots[i].id;
    if (!sl_grow((void **)&p->roots, &p->root_cap, p->root_count + 1, sizeof *p->roots, ROOTS_MAX))
        return 0;
    char *copy = sl_strdup(salt);

    if (!copy)
        return 0;
    p->roots[p->root_count++] = (kv_root){ copy, ++p->next_id };
    return p->next_id;
}

/* ---- life ------------------------------------------------------------------------------------ */

sl_status kv_pool_create(kv_shape shape, size_t bytes, kv_pool **ret, sl_err *err)
{
    size_t per_block = kv_block_bytes(shape), count = bytes / per_block;
    kv_pool *p = sl_calloc(1, sizeof *p);

    if (!p)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    count = SL_MIN(SL_MAX(count, 1), (size_t)INT32_MAX / 2);
    p->shape = shape;
    p->block_count = (int)count;
    p->free_first = p->free_last = NONE;
    p->head_bytes = kernels_kv_bytes(shape.type, (size_t)shape.head_dim);
    p->bytes = count * per_block;
    for (p->bucket_count = 64; p->bucket_count < 2 * count;)
        p->bucket_count *= 2;
    p->blocks = sl_calloc(count, sizeof *p->blocks);
    p->buckets = sl_malloc(p->bucket_count * sizeof *p->buckets);
    p->data = sl_aligned_alloc(p->bytes);
    if (!p->blocks || !p->buckets || !p->data) {
        kv_pool_destroy(p);
        return sl_fail(err, SL_ENOMEM, "out of memory: the KV cache needs %zu MiB; lower kv.memory",
                       count * per_block / SL_MIB);
    }
    memset(p->buckets, 0xff, p->bucket_count * sizeof *p->buckets);
    for (size_t i = count; i-- > 0;)
        free_add(p, (int32_t)i);
    *ret = p;
    return SL_OK;
}

void kv_pool_destroy(kv_pool *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->root_count; i++)
        sl_free(p->roots[i].salt);
    sl_free(p->roots);
    sl_free(p->blocks);
    sl_free(p->buckets);
    sl_aligned_free(p->data, p->bytes);
    sl_free(p);
}

sl_status kv_seq_init(kv_seq *s, int len_max, uint64_t root, sl_err *err)
{
    int cap = (len_max + SL_KV_BLOCK_TOKENS - 1) / SL_KV_BLOCK_TOKENS;

    *s = (kv_seq){ .block_cap = cap, .root = root, .tail = root };
    s->blocks = sl_calloc((size_t)cap, sizeof *s->blocks);
    return s->blocks ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");
}

void kv_seq_deinit(kv_pool *p, kv_seq *s)
{
    kv_seq_clear(p, s);
    sl_free(s->blocks);
    *s = (kv_seq){ 0 };
}

/* ---- what a sequence holds ------------------------------------------------------------------- */

bool kv_seq_reserve(kv_pool *p, kv_seq *s, int len)
{
    int missing = kv_seq_missing(s, len);

    if (missing > p->free_count)
        return false;
    SL_ASSERT(s->block_count + missing <= s->block_cap);
    for (int i = 0; i < missing; i++) {
        int32_t b = p->free_first;

        free_remove(p, b);
        if (p->blocks[b].id)
            unpublish(p, b);
        p->blocks[b].holders = 1;
        s->blocks[s->block_count++] = b;
    }
    return true;
}

void kv_seq_clear(kv_pool *p, kv_seq *s)
{
    while (s->block_count > 0) { /* the end first: it is taken before the beginning is */
        int32_t b = s->blocks[--s->block_count];

        SL_ASSERT(p->blocks[b].holders > 0);
        if (--p->blocks[b].holders == 0)
            free_add(p, b);
    }
    s->len = s->named = 0;
    s->tail = s->root;
}

void kv_seq_truncate(kv_seq *s, int len)
{
    SL_ASSERT(len <= s->len);
    SL_ASSERT(len >= s->named * SL_KV_BLOCK_TOKENS);
    s->len = len;
}

int kv_seq_peek(const kv_pool *p, const kv_seq *s, const int32_t *tokens, int count, int *ret_free)
{
    uint64_t parent = s->root;
    int at = 0;

    *ret_free = 0;
    while (parent && at + SL_KV_BLOCK_TOKENS < count) {
        int32_t b = find(p, parent, tokens + at);

        if (b == NONE)
            break;
        *ret_free += p->blocks[b].holders == 0;
        parent = p->blocks[b].id;
        at += SL_KV_BLOCK_TOKENS;
    }
    return at;
}

int kv_seq_match(kv_pool *p, kv_seq *s, const int32_t *tokens, int count)
{
    SL_ASSERT(s->block_count == 0);
    while (s->tail && s->len + SL_KV_BLOCK_TOKENS < count) {
        int32_t b = find(p, s->tail, tokens + s->len);

        if (b == NONE)
            break;
        if (p->blocks[b].holders++ == 0)
            free_remove(p, b);
        s->blocks[s->block_count++] = b;
        s->tail = p->blocks[b].id;
        s->len += SL_KV_BLOCK_TOKENS;
        s->named++;
    }
    return s->len;
}

void kv_seq_publish(kv_pool *p, kv_seq *s, const int32_t *tokens)
{
    for (; s->tail && s->named < s->len / SL_KV_BLOCK_TOKENS; s->named++) {
        const int32_t *own = tokens + s->named * SL_KV_BLOCK_TOKENS;
        int32_t twin = find(p, s->tail, own);
        kv_block *b = &p->blocks[s->blocks[s->named]];

        if (twin != NONE) { /* somebody was faster: this one stays private */
            s->tail = p->blocks[twin].id;
            continue;
        }
        int32_t *bucket = bucket_of(p, s->tail, own);

        b->id = ++p->next_id;
        b->parent = s->tail;
        memcpy(b->tokens, own, sizeof b->tokens);
        b->chain = *bucket;
        *bucket = s->blocks[s->named];
        s->tail = b->id;
    }
}

int kv_seq_own(const kv_pool *p, const kv_seq *s)
{
    int own = 0;

    for (int i = 0; i < s->block_count; i++)
        own += p->blocks[s->blocks[i]].holders == 1;
    return own;
}

void kv_pool_check(const kv_pool *p, const kv_seq *const *seqs, int count)
{
    int held = 0, listed = 0, free_blocks = 0;

    for (int i = 0; i < count; i++) {
        SL_ASSERT(kv_seq_missing(seqs[i], seqs[i]->len) == 0);
        for (int j = 0; j < seqs[i]->block_count; j++)
            SL_ASSERT(p->blocks[seqs[i]->blocks[j]].holders > 0);
        listed += seqs[i]->block_count;
    }
    for (int32_t i = p->free_first; i != NONE; i = p->blocks[i].next, free_blocks++)
        SL_ASSERT(p->blocks[i].holders == 0);
    SL_ASSERT(free_blocks == p->free_count);
    for (int i = 0; i < p->block_count; i++) {
        held += p->blocks[i].holders;
        if (p->blocks[i].id)
            SL_ASSERT(find(p, p->blocks[i].parent, p->blocks[i].tokens) == i);
    }
    SL_ASSERT(held == listed);
}
