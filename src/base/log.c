/* log.c - which lines there are: levels, context, repeats.
 *
 * Repeats are counted in a table of events that only grows; an event that finds no place in it is
 * never suppressed. Counts are approximate when two threads begin a second together, by as many
 * lines as there are threads. */
#include "base/log_int.h"

#include <pthread.h>

#include "base/hash.h"
#include "base/os.h"

#define ROOMS_MAX       64
#define ROOM_BYTES      32
#define REPEAT_SLOTS    256 /* a power of two, more than there are events */
#define REPEAT_PROBES   8
#define REPEATS_DEFAULT 100

const char *const log_level_names[SL_LOG_LEVEL_COUNT] = { "debug", "info", "warn", "error" };

atomic_llong log_dropped;
static atomic_llong accepted[SL_LOG_LEVEL_COUNT], suppressed;

/* ---- levels -------------------------------------------------------------------------------- */

typedef struct room {
    char prefix[ROOM_BYTES]; /* written before room_count covers it, never changed */
    size_t len;
    atomic_int level; /* -1: none */
} room;

static room rooms[ROOMS_MAX];
static atomic_size_t room_count;
static pthread_mutex_t rooms_mutex = PTHREAD_MUTEX_INITIALIZER; /* for who adds; rank: leaf */
static atomic_int level_min = SL_LOG_INFO;

void sl_log_set_level(sl_log_level level)
{
    atomic_store(&level_min, (int)level);
}

bool sl_log_level_of(const char *name, sl_log_level *ret)
{
    for (int i = 0; i < SL_LOG_LEVEL_COUNT; i++)
        if (strcmp(log_level_names[i], name) == 0) {
            *ret = (sl_log_level)i;
            return true;
        }
    return false;
}

sl_status sl_log_set_room(const char *prefix, sl_log_level level, sl_err *err)
{
    size_t len = strlen(prefix), count, i = 0;
    sl_status status = SL_OK;

    if (len == 0 || len >= ROOM_BYTES)
        return sl_fail(err, SL_ELIMIT, "'%.40s' is no room of the log", prefix);
    pthread_mutex_lock(&rooms_mutex);
    count = atomic_load(&room_count);
    while (i < count && strcmp(rooms[i].prefix, prefix) != 0)
        i++;
    if (i == ROOMS_MAX) {
        status = sl_fail(err, SL_ELIMIT, "more than %d rooms of the log", ROOMS_MAX);
    } else {
        if (i == count) {
            memcpy(rooms[i].prefix, prefix, len + 1);
            rooms[i].len = len;
        }
        atomic_store(&rooms[i].level, (int)level);
        if (i == count)
            atomic_store_explicit(&room_count, count + 1, memory_order_release);
    }
    pthread_mutex_unlock(&rooms_mutex);
    return status;
}

void sl_log_clear_rooms(void)
{
    size_t count = atomic_load(&room_count);

    for (size_t i = 0; i < count; i++)
        atomic_store(&rooms[i].level, -1);
}

static bool is_wanted(sl_log_level level, const char *event)
{
    size_t count = atomic_load_explicit(&room_count, memory_order_acquire), best = 0;
    int least = atomic_load_explicit(&level_min, memory_order_relaxed);

    for (size_t i = 0; i < count; i++) {
        const room *r = &rooms[i];
        int own = atomic_load_explicit(&r->level, memory_order_relaxed);

        if (own >= 0 && r->len > best && strncmp(event, r->prefix, r->len) == 0 &&
            (event[r->len] == '\0' || event[r->len] == '.')) {
            best = r->len;
            least = own;
        }
    }
    return (int)level >= least;
}

/* ---- context ------------------------------------------------------------------------------- */

static _Thread_local sl_log_scope *innermost;

void sl_log_push(sl_log_scope *scope, const sl_log_field *fields, int count)
{
    *scope = (sl_log_scope){ fields, count, innermost };
    innermost = scope;
}

void sl_log_pop(sl_log_scope *scope)
{
    SL_ASSERT(innermost == scope);
    innermost = scope->outer;
}

/* ---- repeats ------------------------------------------------------------------------------- */

typedef struct repeat {
    atomic_llong second;     /* of the lines counted */
    atomic_int lines;        /* in it */
    atomic_llong suppressed; /* not told yet */
} repeat;

static struct {
    const char *_Atomic event; /* NULL: free */
    repeat levels[SL_LOG_LEVEL_COUNT];
} repeats[REPEAT_SLOTS];
static atomic_int repeats_max = REPEATS_DEFAULT;
static atomic_bool is_suppressing;

void log_set_repeats(int max)
{
    atomic_store(&repeats_max, max == 0 ? REPEATS_DEFAULT : max);
}

static repeat *repeat_of(sl_log_level level, const char *event)
{
    uint32_t h = (uint32_t)sl_hash(SL_HASH_START, event, strlen(event));

    for (uint32_t i = 0; i < REPEAT_PROBES; i++) {
        uint32_t at = (h + i) & (REPEAT_SLOTS - 1);
        const char *have = atomic_load_explicit(&repeats[at].event, memory_order_acquire);

        if (!have && atomic_compare_exchange_strong(&repeats[at].event, &have, event))
            have = event;
        if (have == event || strcmp(have, event) == 0)
            return &repeats[at].levels[level];
    }
    return NULL;
}

/* True when the line is one too many in its second. */
static bool is_repeat(const log_record *r)
{
    int max = atomic_load_explicit(&repeats_max, memory_order_relaxed);
    long long now = r->time_ms / 1000, was;
    repeat *p = max < 0 ? NULL : repeat_of(r->level, r->event);

    if (!p)
        return false;
    was = atomic_load_explicit(&p->second, memory_order_relaxed);
    if (was != now && atomic_compare_exchange_strong(&p->second, &was, now))
        atomic_store(&p->lines, 0);
    if (atomic_fetch_add_explicit(&p->lines, 1, memory_order_relaxed) < max)
        return false;
    atomic_fetch_add(&p->suppressed, 1);
    atomic_fetch_add_explicit(&suppressed, 1, memory_order_relaxed);
    if (!atomic_exchange(&is_suppressing, true))
        log_wake(); /* to tell, even if no other line comes */
    return true;
}

bool log_is_suppressing(void)
{
    return atomic_load(&is_suppressing);
}

void log_tell_suppressed(int64_t now_ms, void (*emit)(const log_record *r))
{
    bool more = false;

    if (!atomic_exchange(&is_suppressing, false))
        return;
    for (size_t i = 0; i < REPEAT_SLOTS; i++) {
        const char *event = atomic_load_explicit(&repeats[i].event, memory_order_acquire);

        for (int level = 0; event && level < SL_LOG_LEVEL_COUNT; level++) {
            repeat *p = &repeats[i].levels[level];
            bool is_over = atomic_load(&p->second) != now_ms / 1000;
            long long n = is_over ? atomic_exchange(&p->suppressed, 0) : 0;
            const sl_log_field fields[] = { SL_F_STR("of", event), SL_F_NUM("lines", n) };

            if (n > 0)
                emit(&(log_record){ (sl_log_level)level, "log.suppressed", now_ms, fields, 2,
                                    NULL });
            more = more || atomic_load(&p->suppressed) > 0;
        }
    }
    if (more)
        atomic_store(&is_suppressing, true);
}

/* ---- lines --------------------------------------------------------------------------------- */

static void write_line(sl_log_level level, const char *event, const sl_log_field *fields, int count,
                       bool repeats_too)
{
    log_record r = { level, event, 0, fields, count, innermost };

    if (!is_wanted(level, event))
        return;
    r.time_ms = sl_clock_wall_ms();
    if (!repeats_too && is_repeat(&r))
        return;
    atomic_fetch_add_explicit(&accepted[level], 1, memory_order_relaxed);
    log_submit(&r);
}

void sl_log_write(sl_log_level level, const char *event, const sl_log_field *fields, int count)
{
    write_line(level, event, fields, count, false);
}

void sl_log_write_each(sl_log_level level, const char *event, const sl_log_field *fields, int count)
{
    write_line(level, event, fields, count, true);
}

void sl_log_read_counts(sl_log_counts *ret)
{
    for (int i = 0; i < SL_LOG_LEVEL_COUNT; i++)
        ret->lines[i] = atomic_load(&accepted[i]);
    ret->dropped = atomic_load(&log_dropped);
    ret->suppressed = atomic_load(&suppressed);
}
