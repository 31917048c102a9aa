/* team.h - the compute threads of one engine.
 *
 * A step runs one function on every member at once; phases inside it are separated by barriers.
 * Waiting members spin briefly, then yield, and park between steps. The caller is member 0. */
#ifndef SL_ENGINE_TEAM_H
#define SL_ENGINE_TEAM_H

#include "base/status.h"

typedef struct team team;
typedef void (*team_fn)(void *ctx, int member, int count);

SL_NODISCARD sl_status team_create(int count, team **ret, sl_err *err);
void team_destroy(team *t); /* accepts NULL */
int team_count(const team *t);

/* Runs fn on all members; returns when all have returned. One caller at a time. */
void team_run(team *t, team_fn fn, void *ctx);
/* Called by every member inside fn: nobody passes before all have come. */
void team_barrier(team *t);

/* The share of member `member` in `items`: [*begin, *end). */
static inline void team_share(int items, int member, int count, int *begin, int *end)
{
    *begin = (int)((long long)items * member / count);
    *end = (int)((long long)items * (member + 1) / count);
}

#endif
