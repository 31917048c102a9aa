/* kv.c - the block pool. */
#include "engine/kv.h"

#include "base/mem.h"

size_t kv_block_bytes(kv_shape s)
{
    return (size_t)s.layers * (size_t)s.kv_heads * 2 * (size_t)s.head_dim * SL_KV_BLOCK_TOKENS *
           sizeof(uint16_t);
}

sl_status kv_pool_create(kv_shape shape, size_t bytes, kv_pool **ret, sl_err *err)
{
    size_t per_block = kv_block_bytes(shape), count = bytes / per_block;
    kv_pool *p = sl_calloc(1, sizeof *p);

    if (!p)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    count = SL_MIN(SL_MAX(count, 1), (size_t)INT32_MAX / 2);
    p->shape = shape;
    p->block_count = p->free_count = (int)count;
    p->head_elems = 2 * (size_t)shape.head_dim * SL_KV_BLOCK_TOKENS;
    p->bytes = count * per_block;
    p->free_list = sl_calloc(count, sizeof *p->free_list);
    p->data = sl_aligned_alloc(p->bytes);
    if (!p->free_list || !p->data) {
        kv_pool_destroy(p);
        return sl_fail(err, SL_ENOMEM, "out of memory: the KV cache needs %zu MiB; lower kv.memory",
                       count * per_block / SL_MIB);
    }
    for (size_t i = 0; i < count; i++)
        p->free_list[i] = (int32_t)(count - 1 - i);
    *ret = p;
    return SL_OK;
}

void kv_pool_destroy(kv_pool *p)
{
    if (!p)
        return;
    sl_free(p->free_list);
    sl_aligned_free(p->data, p->bytes);
    sl_free(p);
}

sl_status kv_seq_init(kv_seq *s, int len_max, sl_err *err)
{
    int cap = (len_max + SL_KV_BLOCK_TOKENS - 1) / SL_KV_BLOCK_TOKENS;

    *s = (kv_seq){ .block_cap = cap };
    s->blocks = sl_calloc((size_t)cap, sizeof *s->blocks);
    return s->blocks ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");
}

void kv_seq_deinit(kv_pool *p, kv_seq *s)
{
    kv_seq_clear(p, s);
    sl_free(s->blocks);
    *s = (kv_seq){ 0 };
}

bool kv_seq_reserve(kv_pool *p, kv_seq *s, int len)
{
    int missing = kv_seq_missing(s, len);

    if (missing > p->free_count)
        return false;
    SL_ASSERT(s->block_count + missing <= s->block_cap);
    for (int i = 0; i < missing; i++)
        s->blocks[s->block_count++] = p->free_list[--p->free_count];
    return true;
}

void kv_seq_clear(kv_pool *p, kv_seq *s)
{
    while (s->block_count > 0) {
        SL_ASSERT(p->free_count < p->block_count);
        p->free_list[p->free_count++] = s->blocks[--s->block_count];
    }
    s->len = 0;
}

void kv_pool_check(const kv_pool *p, const kv_seq *const *seqs, int count)
{
    int owned = 0;

    for (int i = 0; i < count; i++) {
        SL_ASSERT(kv_seq_missing(seqs[i], seqs[i]->len) == 0);
        owned += seqs[i]->block_count;
    }
    SL_ASSERT(owned + p->free_count == p->block_count);
}
