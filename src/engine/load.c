/* load.c - the load meter. Means are exponential ones, over about the last sixteen events. */
#include "engine/load.h"

#include "base/attr.h"

#define SHARE           (1.0 / 16)
#define WAIT_NS_MIN     5e8 /* bursts this short are always welcome */
#define WAIT_OF_SERVICE 0.5
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

sl_status load_enter(load_meter *m, int64_t *ret_retry_ms, sl_err *err)
{
    sl_status status = SL_OK;
    double wait;

    pthread_mutex_lock(&m->lock);
    wait = (double)m->waiting * next_ns(m);
    if (m->waiting + m->running >= m->queue_max) {
        *ret_retry_ms = retry_ms(next_ns(m));
        status = sl_fail(err, SL_EBUSY, "the queue is full (%d requests); try again in %.1f s",
                         m->queue_max, (double)*ret_retry_ms / 1e3);
    } else if (m->waiting + m->running >= m->slots && wait > bound_ns(m)) {
        *ret_retry_ms = retry_ms(wait - bound_ns(m) + next_ns(m));
        status = sl_fail(err, SL_EBUSY,
                         "%d requests wait already, for about %.1f s; try again in %.1f s",
                         m->waiting, wait / 1e9, (double)*ret_retry_ms / 1e3);
    } else {
        m->waiting++;
    }
    pthread_mutex_unlock(&m->lock);
    return status;
}

void load_leave(load_meter *m)
{
    pthread_mutex_lock(&m->lock);
    m->waiting--;
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

void load_end(load_meter *m, int64_t service_ns)
{
    pthread_mutex_lock(&m->lock);
    m->running--;
    mean_add(&m->service_ns, (double)service_ns);
    pthread_mutex_unlock(&m->lock);
}
