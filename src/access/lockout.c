/* lockout.c - who guessed wrong too often waits. Pure but for its lock: time is an argument.
 *
 * An attempt is counted before it is judged, so that many at once are not free; a good one takes
 * that back: for an account all failures go, for an address only its own.
 * The table is bounded: a new name takes the place of the one whose wait ended longest ago. */
#include "access/access_int.h"

#include "base/mem.h"

#define FORGET_MS (24 * 3600 * 1000LL) /* a name that stayed away so long starts anew */

typedef struct entry {
    char name[SL_ACCESS_NAME_BYTES_MAX + 1];
    int64_t failures;
    int64_t until_ms, last_ms;
} entry;

struct lockout {
    pthread_mutex_t mutex; /* all fields below */
    lockout_rules rules;
    size_t count;
    entry *entries; /* [SL_ACCESS_LOCKOUTS_MAX], count of them used */
};

lockout *lockout_create(lockout_rules rules)
{
    lockout *l = sl_calloc(1, sizeof *l);

    if (!l)
        return NULL;
    l->rules = rules;
    l->entries = sl_calloc(SL_ACCESS_LOCKOUTS_MAX, sizeof *l->entries);
    pthread_mutex_init(&l->mutex, NULL);
    if (!l->entries) {
        lockout_destroy(l);
        return NULL;
    }
    return l;
}

void lockout_destroy(lockout *l)
{
    if (!l)
        return;
    pthread_mutex_destroy(&l->mutex);
    sl_free(l->entries);
    sl_free(l);
}

static entry *find(lockout *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (strncmp(l->entries[i].name, name, SL_ACCESS_NAME_BYTES_MAX) == 0)
            return &l->entries[i];
    return NULL;
}

static entry *take(lockout *l, const char *name)
{
    entry *e = find(l, name);

    if (e)
        return e;
    if (l->count < SL_ACCESS_LOCKOUTS_MAX) {
        e = &l->entries[l->count++];
    } else {
        e = &l->entries[0];
        for (size_t i = 1; i < l->count; i++)
            if (l->entries[i].until_ms < e->until_ms)
                e = &l->entries[i];
    }
    *e = (entry){ 0 };
    memcpy(e->name, name, strnlen(name, SL_ACCESS_NAME_BYTES_MAX));
    return e;
}

/* The wait after so many failures, in seconds. */
static int64_t wait_s(const lockout_rules *r, int64_t failures)
{
    int64_t s = r->base_s;

    if (failures < r->failures)
        return 0;
    for (int64_t i = r->failures; i < failures && s < r->max_s; i++)
        s *= 2;
    return s < r->max_s ? s : r->max_s;
}

int64_t lockout_begin(lockout *l, const char *name, int64_t now_ms)
{
    int64_t left = 0;
    entry *e;

    pthread_mutex_lock(&l->mutex);
    e = take(l, name);
    if (e->last_ms && now_ms - e->last_ms > FORGET_MS)
        e->failures = 0;
    if (now_ms < e->until_ms) {
        left = (e->until_ms - now_ms + 999) / 1000;
    } else {
        e->failures++;
        e->last_ms = now_ms;
        e->until_ms = now_ms + wait_s(&l->rules, e->failures) * 1000;
    }
    pthread_mutex_unlock(&l->mutex);
    return left;
}

void lockout_forgive(lockout *l, const char *name, bool all)
{
    entry *e;

    pthread_mutex_lock(&l->mutex);
    e = find(l, name);
    if (e && (all || e->failures <= 1)) {
        *e = l->entries[--l->count];
    } else if (e) {
        e->failures--;
        e->until_ms = 0;
    }
    pthread_mutex_unlock(&l->mutex);
}
