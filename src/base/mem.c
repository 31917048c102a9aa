/* mem.c - allocation with a fault switch, aligned blocks, arenas. */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/limits.h"
#include "base/status.h"

/* The first; as much again each time. With its head it is small enough for the allocator to keep
 * at hand for the next request. */
#define ARENA_CHUNK_BYTES_MIN ((size_t)960)
#define ARENA_CHUNK_BYTES     (16 * SL_KIB)
#define HUGE_PAGE_BYTES       (2 * SL_MIB)

/* How many allocations are left until the one that must fail; 0: the fault switch is off. */
static atomic_long fail_in;

static bool must_fail(void)
{
    /* Off: only a read, since all threads share the counter. */
    return SL_UNLIKELY(atomic_load_explicit(&fail_in, memory_order_relaxed) > 0) &&
           atomic_fetch_sub(&fail_in, 1) == 1;
}

void sl_mem_fail_at(unsigned long n)
{
    atomic_store(&fail_in, (long)n);
}

void *sl_malloc(size_t bytes)
{
    return must_fail() ? NULL : malloc(bytes ? bytes : 1);
}

void *sl_calloc(size_t count, size_t bytes)
{
    return must_fail() ? NULL : calloc(count ? count : 1, bytes ? bytes : 1);
}

void *sl_realloc(void *ptr, size_t bytes)
{
    return must_fail() ? NULL : realloc(ptr, bytes ? bytes : 1);
}

char *sl_strndup(const char *text, size_t len)
{
    char *copy = sl_malloc(len + 1);

    if (copy) {
        memcpy(copy, text, len);
        copy[len] = '\0';
    }
    return copy;
}

char *sl_strdup(const char *text)
{
    return sl_strndup(text, strlen(text));
}

void sl_free(void *ptr)
{
    free(ptr);
}

void *sl_aligned_alloc(size_t bytes)
{
    void *p;

    if (must_fail() || bytes > SIZE_MAX - HUGE_PAGE_BYTES)
        return NULL;
    if (bytes >= HUGE_PAGE_BYTES) {
        p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            return NULL;
        (void)madvise(p, bytes, MADV_HUGEPAGE); /* a hint: failure costs only speed */
        return p;
    }
    bytes = (bytes + SL_CACHE_LINE - 1) / SL_CACHE_LINE * SL_CACHE_LINE;
    p = aligned_alloc(SL_CACHE_LINE, bytes ? bytes : SL_CACHE_LINE);
    if (p)
        memset(p, 0, bytes);
    return p;
}

void sl_aligned_free(void *ptr, size_t bytes)
{
    if (ptr && bytes >= HUGE_PAGE_BYTES)
        munmap(ptr, bytes);
    else
        free(ptr);
}

bool sl_grow(void **items, size_t *cap, size_t need, size_t item_bytes, size_t max)
{
    size_t new_cap = *cap ? *cap : 8;
    size_t bytes;
    void *p;

    if (need <= *cap)
        return true;
    if (need > max)
        return false;
    while (new_cap < need)
        new_cap = new_cap > max / 2 ? max : new_cap * 2;
    if (!sl_mul(new_cap, item_bytes, &bytes))
        return false;
    p = sl_realloc(*items, bytes);
    if (!p)
        return false;
    *items = p;
    *cap = new_cap;
    return true;
}

struct sl_arena_chunk {
    sl_arena_chunk *next;
    size_t used, cap;
    SL_ALIGNED(16) unsigned char bytes[];
};

void sl_arena_init(sl_arena *a, size_t max_bytes)
{
    *a = (sl_arena){ .max_bytes = max_bytes };
}

void sl_arena_deinit(sl_arena *a)
{
    while (a->head) {
        sl_arena_chunk *next = a->head->next;

        sl_free(a->head);
        a->head = next;
    }
    a->used_bytes = 0;
}

void *sl_arena_alloc(sl_arena *a, size_t bytes)
{
    sl_arena_chunk *c = a->head;
    void *p;

    if (bytes > a->max_bytes)
        return NULL;
    bytes = (bytes + 15) / 16 * 16;
    if (bytes > a->max_bytes || a->used_bytes > a->max_bytes - bytes)
        return NULL;
    if (!c || c->cap - c->used < bytes) {
        size_t cap = SL_MIN(SL_MAX(a->used_bytes, ARENA_CHUNK_BYTES_MIN), ARENA_CHUNK_BYTES);

        cap = SL_MAX(bytes, cap);

        c = sl_malloc(sizeof *c + cap);
        if (!c)
            return NULL;
        c->next = a->head;
        c->used = 0;
        c->cap = cap;
        a->head = c;
    }
    p = c->bytes + c->used;
    c->used += bytes;
    a->used_bytes += bytes;
    memset(p, 0, bytes);
    return p;
}

char *sl_arena_strndup(sl_arena *a, const char *text, size_t len)
{
    char *copy = sl_arena_alloc(a, len + 1);

    if (copy)
        memcpy(copy, text, len);
    return copy;
}
