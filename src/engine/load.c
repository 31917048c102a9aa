/* load.c - the load meter. Means are exponential ones, over about the last sixteen events. */
#include "engine/load.h"

#include "base/attr.h"

#define SHARE           (1.0 / 16)
#define WAIT_NS_MIN     5e8 /* bursts this short are always welcome */
#define WAIT_OF_SERVICE 0.5
#define OVERLOAD        1.25 /* came to ended */
#define FIRST_MIN       32   /* so many at once are no overload, however few the slots */
#define RETRY_MS_MIN    100
#define RETRY_MS_MAX    60000

void load_init(load_meter *m)
{
    *m = (load_meter){ .slots = 1, .queue_max = 1 };
    pthread_mutex_init(&m->lock, NULL);
}

void load_deinit(load_meter *m)
{
    pthread_mutex_destroy(&m->lock);
}

static double bound_ns(const load_meter *m)
{
    if (m->wait_ns > 0)
        return (double)m->wait_ns;
    return SL_MAX(WAIT_NS_MIN, WAIT_OF_SERVICE * m->service_ns);
}

/* Time until the next waiting request begins. When all slots are taken, one must end first. */
static double next_ns(const load_meter *m)
{
    double by_slots = m->running >= m->slots ? m->service_ns / m->slots : 0;

    return SL_MAX(m->interval_ns, by_slots);
}

static int64_t retry_ms(double ns)
{
    return (int64_t)SL_MAX(SL_MIN(ns / 1e6, RETRY_MS_MAX), RETRY_MS_MIN);
}

/* Moves the ring on to the present tick. */
static void turn(load_meter *m, int64_t now_ns)
{
    int64_t tick = now_ns / LOAD_TICK_NS;

    if (tick - m->tick >= LOAD_TICKS)
        m->tick = tick - LOAD_TICKS;
    while (m->tick < tick) {
        m->tick++;
        m->ticks[m->tick % LOAD_TICKS].came = m->ticks[m->tick % LOAD_TICKS].ended = 0;
    }
}

/* Whether far more came in the last seconds than ended, beyond what fills the slots. That more
 * ended before, when a crowd of earlier ones left, is no room for a new crowd. */
static bool is_overloaded(const load_meter *m)
{
    double excess = 0;

    for (int64_t tick = m->tick - LOAD_TICKS + 1; tick <= m->tick; tick++) {
        int at = (int)((tick + LOAD_TICKS) % LOAD_TICKS);

        excess = SL_MAX(excess + m->ticks[at].came - OVERLOAD * m->ticks[at].ended, 0);
    }
    return excess > SL_MAX(m->slots, FIRST_MIN);
}

/* SL_OK, or why not and until when, in nanoseconds. */
static sl_status judge(const load_meter *m, double *ret_room_ns, sl_err *err)
{
    double next = next_ns(m), wait = (double)m->waiting * next, bound = bound_ns(m);
    int inside = m->waiting + m->running;

    *ret_room_ns = next;
    if (inside >= m->queue_max)
        return sl_fail(err, SL_EBUSY, "the queue is full (%d requests)", m->queue_max);
    if (inside >= (m->slots + 1) / 2 && m->wait_ns == 0 && is_overloaded(m))
        return sl_fail(err, SL_EBUSY, "%d requests are under way and far more come than end",
                       inside);
    if (inside < m->slots || wait <= bound)
        return SL_OK;
    *ret_room_ns = wait - bound + next;
    return sl_fail(err, SL_EBUSY, "%d requests wait already, for about %.1f s", m->waiting,
                   wait / 1e9);
}

sl_status load_enter(load_meter *m, int64_t now_ns, int64_t *ret_retry_ms, sl_err *err)
{
    double room_ns = 0;
    sl_status status;

    pthread_mutex_lock(&m->lock);
    turn(m, now_ns);
    m->ticks[m->tick % LOAD_TICKS].came++;
    status = judge(m, &room_ns, err);
    if (status == SL_OK)
        m->waiting++;
    else
        *ret_retry_ms = retry_ms(room_ns);
    pthread_mutex_unlock(&m->lock);
    return status;
}

int64_t load_retry_ms(load_meter *m)
{
    int64_t ms;

    pthread_mutex_lock(&m->lock);
    ms = retry_ms((double)m->waiting * next_ns(m));
    pthread_mutex_unlock(&m->lock);
    return ms;
}

void load_leave(load_meter *m)
{
    int *came;

    pthread_mutex_lock(&m->lock);
    m->waiting--;
    came = &m->ticks[m->tick % LOAD_TICKS].came;
    *came = SL_MAX(*came - 1, 0); /* what a limit refused is no load */
    pthread_mutex_unlock(&m->lock);
}

static void mean_add(double *mean, double value)
{
    *mean = *mean > 0 ? *mean + (value - *mean) * SHARE : value;
}

void load_begin(load_meter *m, int64_t now_ns)
{
    pthread_mutex_lock(&m->lock);
    m->waiting--;
    m->running++;
    /* The time since the last begin tells the drain rate only if this one could have begun then. */
    if (m->last_begin_ns)
        mean_add(&m->interval_ns, (double)(now_ns - m->last_begin_ns));
    m->last_begin_ns = m->waiting > 0 ? now_ns : 0;
    pthread_mutex_unlock(&m->lock);
}

void load_end(load_meter *m, int64_t now_ns, int64_t service_ns)
{
    pthread_mutex_lock(&m->lock);
    turn(m, now_ns);
    m->ticks[m->tick % LOAD_TICKS].ended++;
    m->running--;
    if (service_ns > 0)
        mean_add(&m->service_ns, (double)service_ns);
    pthread_mutex_unlock(&m->lock);
}
