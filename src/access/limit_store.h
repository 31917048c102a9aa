/* limit_store.h - where a limiter's counters outlive it, and where several limiters would share
 * them.
 *
 * For each subject, meter and window a store has one total: what limiters took of the limit. A
 * limiter takes ahead of need, charges requests against what it took without asking anybody, and
 * gives back what it does not use. So a total is never below what was charged, whoever is killed,
 * and takes never carry it above the limit, however many limiters take.
 *
 * The embedded store is SQLite. One that servers share, as Redis, is another table of these
 * functions; they are called under the limiter's lock, a few times a second for a busy subject, and
 * have to answer or fail within milliseconds. */
#ifndef SL_ACCESS_LIMIT_STORE_H
#define SL_ACCESS_LIMIT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define LIMIT_METERS_MAX 8

typedef struct limit_take {
    int meter;      /* below LIMIT_METERS_MAX */
    int64_t window; /* another one than the store's begins at 0 */
    int64_t limit;  /* taking does not carry the total above it */
    int64_t amount; /* wanted; below 0: given back */
    /* Set by the store: */
    int64_t granted; /* of the amount; less where the limit is near */
    int64_t total;   /* afterwards, of all limiters */
} limit_take;

typedef struct limit_total {
    int meter;
    int64_t window, total;
} limit_total;

typedef struct limit_store_ops {
    const char *name;
    bool is_shared; /* others take, too: totals are asked for again each second */
    /* What there is of a subject into ret[LIMIT_METERS_MAX], in any order. */
    sl_status (*load)(void *ctx, const char *subject, limit_total *ret, size_t *ret_count,
                      sl_err *err);
    /* All takes of one subject or none of them, in one step. */
    sl_status (*take)(void *ctx, const char *subject, limit_take *takes, size_t count, sl_err *err);
    /* Takes between these may be written together, with end; a failure of end leaves totals too
     * high, never too low, for between them is only given back. */
    void (*begin)(void *ctx);
    sl_status (*end)(void *ctx, sl_err *err);
    /* Once a second, without the limiter's lock: the place for what may take long. NULL: nothing.
     */
    void (*tidy)(void *ctx);
    void (*close)(void *ctx);
} limit_store_ops;

typedef struct limit_store {
    const limit_store_ops *ops; /* NULL: none */
    void *ctx;
} limit_store;

SL_NODISCARD sl_status limit_sqlite_open(const char *path, limit_store *ret, sl_err *err);

#endif
