/* team.c - compute threads with a spinning barrier. */
#include "engine/team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/limits.h"
#include "base/mem.h"

#define SPIN_ROUNDS 4000  /* about 20 us: longer than most phases, shorter than a time slice */
#define PARK_ROUNDS 20000 /* between steps, before a member sleeps */

struct team {
    int count;
    pthread_t threads[SL_THREADS_MAX];
    int started;

    SL_ALIGNED(SL_CACHE_LINE) atomic_uint barrier_gen;
    SL_ALIGNED(SL_CACHE_LINE) atomic_int barrier_waiting;
    SL_ALIGNED(SL_CACHE_LINE) atomic_uint run_gen; /* grows by one for each run */

    /* written before run_gen, read after it */
    team_fn fn;
    void *ctx;
    atomic_bool stop;

    pthread_mutex_t lock; /* guards parking only */
    pthread_cond_t wake;
    atomic_int parked;
};

typedef struct member_start {
    team *t;
    int member;
} member_start;

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* Waits until *gen differs from old: spinning, then yielding. */
static void spin_until_changed(atomic_uint *gen, unsigned old)
{
    int rounds = 0;

    while (atomic_load_explicit(gen, memory_order_acquire) == old) {
        if (++rounds < SPIN_ROUNDS)
            cpu_relax();
        else
            sched_yield();
    }
}

void team_barrier(team *t)
{
    unsigned gen = atomic_load_explicit(&t->barrier_gen, memory_order_relaxed);

    if (t->count == 1)
        return;
    if (atomic_fetch_add_explicit(&t->barrier_waiting, 1, memory_order_acq_rel) == t->count - 1) {
        atomic_store_explicit(&t->barrier_waiting, 0, memory_order_relaxed);
        atomic_store_explicit(&t->barrier_gen, gen + 1, memory_order_release);
    } else {
        spin_until_changed(&t->barrier_gen, gen);
    }
}

/* Waits for run number old + 1: spinning first, then asleep. */
static void wait_for_run(team *t, unsigned old)
{
    for (int i = 0; i < PARK_ROUNDS; i++) {
        if (atomic_load_explicit(&t->run_gen, memory_order_acquire) != old)
            return;
        cpu_relax();
    }
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add(&t->parked, 1);
    while (atomic_load_explicit(&t->run_gen, memory_order_acquire) == old)
        pthread_cond_wait(&t->wake, &t->lock);
    atomic_fetch_sub(&t->parked, 1);
    pthread_mutex_unlock(&t->lock);
}

static void announce_run(team *t)
{
    atomic_fetch_add(&t->run_gen, 1);
    if (atomic_load(&t->parked) > 0) {
        pthread_mutex_lock(&t->lock);
        pthread_cond_broadcast(&t->wake);
        pthread_mutex_unlock(&t->lock);
    }
}

static void *member_main(void *arg)
{
    member_start start = *(member_start *)arg;
    team *t = start.t;
    unsigned seen = 0;

    sl_free(arg);
    for (;;) {
        wait_for_run(t, seen);
        seen++;
        if (atomic_load(&t->stop))
            return NULL;
        t->fn(t->ctx, start.member, t->count);
        team_barrier(t);
    }
}

void team_run(team *t, team_fn fn, void *ctx)
{
    t->fn = fn;
    t->ctx = ctx;
    if (t->count > 1)
        announce_run(t);
    fn(ctx, 0, t->count);
    team_barrier(t);
}

int team_count(const team *t)
{
    return t->count;
}

sl_status team_create(int count, team **ret, sl_err *err)
{
    team *t;

    if (count < 1 || count > SL_THREADS_MAX)
        return sl_fail(err, SL_EINVAL, "threads must be 1 to %d, not %d", SL_THREADS_MAX, count);
    t = sl_aligned_alloc(sizeof *t);
    if (!t)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    t->count = count;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    for (int i = 1; i < count; i++) {
        member_start *start = sl_malloc(sizeof *start);

        if (start)
            *start = (member_start){ t, i };
        if (!start || pthread_create(&t->threads[i], NULL, member_main, start) != 0) {
            sl_free(start);
            team_destroy(t);
            return sl_fail(err, SL_EIO, "cannot start compute thread %d of %d", i + 1, count);
        }
        t->started = i;
    }
    *ret = t;
    return SL_OK;
}

void team_destroy(team *t)
{
    if (!t)
        return;
    atomic_store(&t->stop, true);
    announce_run(t);
    for (int i = 1; i <= t->started; i++)
        pthread_join(t->threads[i], NULL);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->wake);
    sl_aligned_free(t, sizeof *t);
}
