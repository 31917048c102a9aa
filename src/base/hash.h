/* hash.h - FNV-1a of 64 bits (Fowler, Noll, Vo), for tables in memory: fast for short names, and no
 * defence against somebody who chooses them. */
#ifndef SL_BASE_HASH_H
#define SL_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define SL_HASH_START 0xcbf29ce484222325u

/* The hash of what h stands for and len bytes more; h: SL_HASH_START at first. */
static inline uint64_t sl_hash(uint64_t h, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;

    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

#endif
