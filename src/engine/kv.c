/* kv.c - the block pool and the names of its blocks. */
#include "engine/kv.h"

#include <string.h>

#include "base/mem.h"

#define NONE            (-1)
#define NAMES_PER_LOCAL 16
#define ROOTS_MAX       4096 /* tenants with a cache of their own; each is looked at per request */

/* ---- sizes ----------------------------------------------------------------------------------- */

static size_t local_layers(const kv_shape *s)
{
    return s->window > 0 ? (size_t)(s->layers - s->layers / s->pattern) : 0;
}

/* Bytes of a block in `layers` layers. */
static size_t block_bytes(const kv_shape *s, size_t layers)
{
    return layers * (size_t)s->kv_heads * kernels_kv_bytes(s->type, (size_t)s->head_dim);
}

int kv_local_max(kv_shape s, int seqs, int step_tokens)
{
    /* The window begins and ends in the middle of a block, and is kept from its group on. */
    return seqs * (s.window / SL_KV_BLOCK_TOKENS + 2 + KERNELS_KV_GROUP) +
           step_tokens / SL_KV_BLOCK_TOKENS + 1;
}

size_t kv_bytes(kv_shape s, size_t blocks, int local_max)
{
    size_t local = local_layers(&s);

    return blocks * block_bytes(&s, (size_t)s.layers - local) +
           SL_MIN(blocks, (size_t)local_max) * block_bytes(&s, local);
}

size_t kv_blocks_in(kv_shape s, size_t bytes, int local_max)
{
    size_t local = local_layers(&s), full = block_bytes(&s, (size_t)s.layers - local);
    size_t both = block_bytes(&s, (size_t)s.layers), count = bytes / both;

    if (local > 0 && count >= (size_t)local_max)
        /* Where all layers are local the others' blocks are mere names. */
        count = full ? (bytes - (size_t)local_max * (both - full)) / full
                     : (size_t)local_max * NAMES_PER_LOCAL;
    return SL_MIN(SL_MAX(count, 1), (size_t)INT32_MAX / 2);
}

/* ---- the free list --------------------------------------------------------------------------- */

static void free_remove(kv_blocks *p, int32_t i)
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
static void free_add(kv_blocks *p, int32_t i)
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

static int32_t *bucket_of(const kv_blocks *p, uint64_t parent, const int32_t *tokens)
{
    uint64_t h = parent * 0x9e3779b97f4a7c15ULL;

    for (int i = 0; i < SL_KV_BLOCK_TOKENS; i++)
        h = (h ^ (uint32_t)tokens[i]) * 0xff51afd7ed558ccdULL;
    return &p->buckets[(h ^ h >> 32) & (p->bucket_count - 1)];
}

/* The published block of that name, or NONE. */
static int32_t find(const kv_blocks *p, uint64_t parent, const int32_t *tokens)
{
    int32_t i = *bucket_of(p, parent, tokens);

    while (i != NONE && (p->blocks[i].parent != parent ||
                         memcmp(p->blocks[i].tokens, tokens, sizeof p->blocks[i].tokens) != 0))
        i = p->blocks[i].chain;
    return i;
}

static void unpublish(kv_blocks *p, int32_t i)
{
    kv_block *b = &p->blocks[i];
    int32_t *at = bucket_of(p, b->parent, b->tokens);

    while (*at != i)
        at = &p->blocks[*at].chain;
    *at = b->chain;
    b->id = 0;
}

/* The place for one more root: a new one, or that of the root used longest ago. Sequences that
 * still use it keep its id; nobody new will find its blocks. NULL when out of memory. */
static kv_root *root_place(kv_pool *p)
{
    kv_root *oldest = p->roots;

    if (p->root_count < ROOTS_MAX &&
        sl_grow((void **)&p->roots, &p->root_cap, p->root_count + 1, sizeof *p->roots, ROOTS_MAX)) {
        p->roots[p->root_count] = (kv_root){ 0 };
        return &p->roots[p->root_count++];
    }
    for (size_t i = 0; i < p->root_count; i++)
        if (p->roots[i].used < oldest->used)
            oldest = &p->roots[i];
    return oldest;
}

uint64_t kv_pool_root(kv_pool *p, const char *salt)
{
    kv_root *root = NULL;
    char *copy;

    p->root_calls++;
    for (size_t i = 0; i < p->root_count && !root; i++)
        if (strcmp(p->roots[i].salt, salt) == 0)
            root = &p->roots[i];
    if (!root) {
        copy = sl_strdup(salt);
        root = copy ? root_place(p) : NULL;
        if (!root) {
            sl_free(copy);
            return 0;
        }
        sl_free(root->salt);
        *root = (kv_root){ .salt = copy, .id = ++p->next_id };
    }
    root->used = p->root_calls;
    return root->id;
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool store_init(kv_blocks *p, size_t count, size_t block_bytes)
{
    p->count = (int)count;
    p->free_first = p->free_last = NONE;
    p->bytes = count * block_bytes;
    for (p->bucket_count = 64; p->bucket_count < 2 * count;)
        p->bucket_count *= 2;
    p->blocks = sl_calloc(SL_MAX(count, 1), sizeof *p->blocks);
    p->buckets = sl_malloc(p->bucket_count * sizeof *p->buckets);
    p->data = sl_aligned_alloc(p->bytes);
    if (!p->blocks || !p->buckets || !p->data)
        return false;
    memset(p->buckets, 0xff, p->bucket_count * sizeof *p->buckets);
    for (size_t i = count; i-- > 0;)
        free_add(p, (int32_t)i);
    return true;
}

static void store_deinit(kv_blocks *p)
{
    sl_free(p->blocks);
    sl_free(p->buckets);
    sl_aligned_free(p->data, p->bytes);
}

sl_status kv_pool_create(kv_shape s, size_t bytes, int local_max, kv_pool **ret, sl_err *err)
{
    size_t count = kv_blocks_in(s, bytes, local_max), local = local_layers(&s);
    kv_pool *p = sl_calloc(1, sizeof *p);

    if (!p)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    p->shape = s;
    p->head_bytes = kernels_kv_bytes(s.type, (size_t)s.head_dim);
    if (!store_init(&p->full, count, block_bytes(&s, (size_t)s.layers - local)) ||
        !store_init(&p->local, local ? SL_MIN(count, (size_t)local_max) : 0,
                    block_bytes(&s, local))) {
        kv_pool_destroy(p);
        return sl_fail(err, SL_ENOMEM, "out of memory: the KV cache needs %zu MiB; lower kv.memory",
                       kv_bytes(s, count, local_max) / SL_MIB);
    }
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
    store_deinit(&p->full);
    store_deinit(&p->local);
    sl_free(p);
}

sl_status kv_seq_init(kv_seq *s, int len_max, uint64_t root, sl_err *err)
{
    int cap = (len_max + SL_KV_BLOCK_TOKENS - 1) / SL_KV_BLOCK_TOKENS;

    *s = (kv_seq){ .block_cap = cap, .root = root, .tail = root };
    s->blocks = sl_calloc((size_t)cap * 2, sizeof *s->blocks);
    s->local = s->blocks + cap;
    return s->blocks ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");
}

void kv_seq_deinit(kv_pool *p, kv_seq *s)
{
    kv_seq_clear(p, s);
    sl_free(s->blocks);
    *s = (kv_seq){ 0 };
}

/* ---- what a sequence holds ------------------------------------------------------------------- */

/* A free block, for one holder. */
static int32_t take(kv_blocks *p)
{
    int32_t b = p->free_first;

    SL_ASSERT(b != NONE);
    free_remove(p, b);
    if (p->blocks[b].id)
        unpublish(p, b);
    p->blocks[b].holders = 1;
    return b;
}

static void take_published(kv_blocks *p, int32_t b)
{
    if (p->blocks[b].holders++ == 0)
        free_remove(p, b);
}

static void give_back(kv_blocks *p, int32_t b)
{
    SL_ASSERT(p->blocks[b].holders > 0);
    if (--p->blocks[b].holders == 0)
        free_add(p, b);
}

/* The first block that a local layer reads for a query at position len: attention takes blocks in
 * groups. */
static int window_first(const kv_pool *p, int len)
{
    int first = SL_MAX(len - p->shape.window + 1, 0) / SL_KV_BLOCK_TOKENS;

    return first / KERNELS_KV_GROUP * KERNELS_KV_GROUP;
}

static void slide_window(kv_pool *p, kv_seq *s)
{
    int first = SL_MIN(window_first(p, s->len), s->block_count);

    for (; p->local.count > 0 && s->local_first < first; s->local_first++)
        give_back(&p->local, s->local[s->local_first]);
}

bool kv_seq_reserve(kv_pool *p, kv_seq *s, int len)
{
    int missing = kv_seq_missing(s, len);

    if (missing > p->full.free_count)
        return false;
    SL_ASSERT(s->block_count + missing <= s->block_cap);
    slide_window(p, s);
    for (int i = 0; i < missing; i++, s->block_count++) {
        s->blocks[s->block_count] = take(&p->full);
        if (p->local.count > 0)
            s->local[s->block_count] = take(&p->local);
    }
    return true;
}

void kv_seq_clear(kv_pool *p, kv_seq *s)
{
    while (s->block_count > 0) { /* the end first: it is taken before the beginning is */
        give_back(&p->full, s->blocks[--s->block_count]);
        if (p->local.count > 0 && s->block_count >= s->local_first)
            give_back(&p->local, s->local[s->block_count]);
    }
    s->len = s->named = s->local_first = 0;
    s->tail = s->root;
}

void kv_seq_truncate(kv_seq *s, int len)
{
    SL_ASSERT(len <= s->len);
    SL_ASSERT(len >= s->named * SL_KV_BLOCK_TOKENS);
    s->len = len;
}

/* ---- the prefix cache ------------------------------------------------------------------------ */

int kv_seq_peek(const kv_pool *p, const kv_seq *s, const int32_t *tokens, int count, int *ret_free)
{
    uint64_t parent = s->root;
    int best = 0, unheld = 0, run = 0; /* run: local blocks that are there, one behind another */

    *ret_free = 0;
    for (int n = 1; parent && n * SL_KV_BLOCK_TOKENS < count; n++) {
        const int32_t *own = tokens + (n - 1) * SL_KV_BLOCK_TOKENS;
        int32_t b = find(&p->full, parent, own);

        if (b == NONE)
            break;
        unheld += p->full.blocks[b].holders == 0;
        if (p->local.count > 0)
            run = find(&p->local, parent, own) == NONE ? 0 : run + 1;
        parent = p->full.blocks[b].id;
        if (p->local.count > 0 && run < n - window_first(p, n * SL_KV_BLOCK_TOKENS))
            continue;
        best = n * SL_KV_BLOCK_TOKENS;
        *ret_free = unheld;
    }
    return best;
}

int kv_seq_match(kv_pool *p, kv_seq *s, const int32_t *tokens, int count)
{
    int unheld, hit = kv_seq_peek(p, s, tokens, count, &unheld);

    SL_ASSERT(s->block_count == 0);
    s->local_first = p->local.count > 0 ? window_first(p, hit) : 0;
    for (; s->len < hit; s->len += SL_KV_BLOCK_TOKENS, s->block_count++) {
        int32_t b = find(&p->full, s->tail, tokens + s->len);

        if (p->local.count > 0 && s->block_count >= s->local_first) {
            s->local[s->block_count] = find(&p->local, s->tail, tokens + s->len);
            take_published(&p->local, s->local[s->block_count]);
        }
        take_published(&p->full, b);
        s->blocks[s->block_count] = b;
        s->tail = p->full.blocks[b].id;
        s->named++;
    }
    return hit;
}

static void publish(kv_blocks *p, int32_t i, uint64_t id, uint64_t parent, const int32_t *tokens)
{
    kv_block *b = &p->blocks[i];
    int32_t *bucket = bucket_of(p, parent, tokens);

    b->id = id;
    b->parent = parent;
    memcpy(b->tokens, tokens, sizeof b->tokens);
    b->chain = *bucket;
    *bucket = i;
}

/* The same for the local block; is_new: the full one has just got the name. Then whoever matches it
 * must get this local block too, and not one that was left of an earlier full block: so no full
 * block is ever held with two different local ones, and these cannot run out before those. */
static void publish_local(kv_pool *p, const kv_seq *s, bool is_new, uint64_t id, const int32_t *own)
{
    int32_t old = find(&p->local, s->tail, own);

    if (old != NONE && is_new)
        unpublish(&p->local, old);
    if (old == NONE || is_new)
        publish(&p->local, s->local[s->named], id, s->tail, own);
}

void kv_seq_publish(kv_pool *p, kv_seq *s, const int32_t *tokens)
{
    for (; s->tail && s->named < s->len / SL_KV_BLOCK_TOKENS; s->named++) {
        const int32_t *own = tokens + s->named * SL_KV_BLOCK_TOKENS;
        int32_t twin = find(&p->full, s->tail, own);
        /* Where somebody was faster, this one stays private. */
        uint64_t id = twin == NONE ? ++p->next_id : p->full.blocks[twin].id;

        if (twin == NONE)
            publish(&p->full, s->blocks[s->named], id, s->tail, own);
        if (p->local.count > 0)
            publish_local(p, s, twin == NONE, id, own);
        s->tail = id;
    }
    slide_window(p, s);
}

int kv_seq_own(const kv_pool *p, const kv_seq *s)
{
    int own = 0;

    for (int i = 0; i < s->block_count; i++)
        own += p->full.blocks[s->blocks[i]].holders == 1;
    return own;
}

static void check_store(const kv_blocks *p, int listed)
{
    int held = 0, free_blocks = 0;

    for (int32_t i = p->free_first; i != NONE; i = p->blocks[i].next, free_blocks++)
        SL_ASSERT(p->blocks[i].holders == 0);
    SL_ASSERT(free_blocks == p->free_count);
    for (int i = 0; i < p->count; i++) {
        held += p->blocks[i].holders;
        if (p->blocks[i].id)
            SL_ASSERT(find(p, p->blocks[i].parent, p->blocks[i].tokens) == i);
    }
    SL_ASSERT(held == listed);
}

void kv_pool_check(const kv_pool *p, const kv_seq *const *seqs, int count)
{
    int full = 0, local = 0;

    for (int i = 0; i < count; i++) {
        const kv_seq *s = seqs[i];

        SL_ASSERT(kv_seq_missing(s, s->len) == 0);
        for (int j = 0; j < s->block_count; j++)
            SL_ASSERT(p->full.blocks[s->blocks[j]].holders > 0);
        full += s->block_count;
        if (p->local.count == 0 || s->block_count == 0)
            continue;
        SL_ASSERT(s->local_first <= window_first(p, s->len));
        for (int j = s->local_first; j < s->block_count; j++)
            SL_ASSERT(p->local.blocks[s->local[j]].holders > 0);
        local += s->block_count - s->local_first;
    }
    check_store(&p->full, full);
    check_store(&p->local, local);
}
