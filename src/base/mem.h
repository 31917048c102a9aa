/* mem.h - the only doors to the heap.
 *
 * Rooms call these instead of malloc, so that tests can make allocation number n fail and watch
 * every path clean up. Sizes that come from outside go through the checked arithmetic below. */
#ifndef SL_BASE_MEM_H
#define SL_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

/* As malloc, calloc, realloc, strdup: NULL when memory is exhausted. A size of 0 gives a block that
 * must be freed too. Release with sl_free. */
void *sl_malloc(size_t bytes) SL_NODISCARD;
void *sl_calloc(size_t count, size_t bytes) SL_NODISCARD;
void *sl_realloc(void *ptr, size_t bytes) SL_NODISCARD;
char *sl_strdup(const char *text) SL_NODISCARD;
char *sl_strndup(const char *text, size_t len) SL_NODISCARD;
void sl_free(void *ptr);

/* Zeroed memory aligned to 64 bytes; blocks of 2 MiB and more ask for huge pages. Release with
 * sl_aligned_free and the same size. */
void *sl_aligned_alloc(size_t bytes) SL_NODISCARD;
void sl_aligned_free(void *ptr, size_t bytes);

/* Grows *items to hold at least need elements of item_bytes, doubling; *cap is updated.
 * False, with everything unchanged, when memory or max (elements) is exhausted. */
bool sl_grow(void **items, size_t *cap, size_t need, size_t item_bytes, size_t max) SL_NODISCARD;

/* a * b and a + b; false on overflow. */
static inline bool sl_mul(size_t a, size_t b, size_t *ret)
{
    return !__builtin_mul_overflow(a, b, ret);
}

static inline bool sl_add(size_t a, size_t b, size_t *ret)
{
    return !__builtin_add_overflow(a, b, ret);
}

/* Makes the n-th allocation from now on fail (1 is the next one); 0 switches the fault off. For
 * tests: process-wide. */
void sl_mem_fail_at(unsigned long n);

/* An arena: many small objects with one lifetime, released together. Not for sharing between
 * threads. Grows in chunks up to max_bytes, then returns NULL. */
typedef struct sl_arena_chunk sl_arena_chunk;
typedef struct sl_arena {
    sl_arena_chunk *head;
    size_t used_bytes; /* over all chunks */
    size_t max_bytes;
} sl_arena;

void sl_arena_init(sl_arena *a, size_t max_bytes);
void sl_arena_deinit(sl_arena *a);
void *sl_arena_alloc(sl_arena *a, size_t bytes) SL_NODISCARD; /* zeroed, 16-byte aligned */
char *sl_arena_strndup(sl_arena *a, const char *text, size_t len) SL_NODISCARD;

#endif
