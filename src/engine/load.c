/* load.c - the load meter. Means are exponential ones, over about the last sixteen events. */
#include "engine/load.h"

#include <string.h>

#include "base/attr.h"
#include "base/hash.h"
#include "engine/mean.h"

#define SHARE           (1.0 / 16)
#define WAIT_NS_MIN     5e8 /* bursts this short are always welcome */
#define WAIT_OF_SERVICE 0.5
#define ENDED_WEIGHT    1.25        /* so many may come for each that ends */
#define LEVEL_MIN       32          /* so many at once are no overload, however few the slots */
#define BURST_NS        250000000LL /* half of a burst comes in this time */
#define HOLD_NS         (5 * BURST_NS / 2) /* the next half takes twice as long, and some end */
#define ENOUGH_MIN      8 /* requests inside under overload, where there are as many slots */
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

/* ---- overload ---------------------------------------------------------------------------------
 *
 * The surplus is a running sum of what came less ENDED_WEIGHT times what ended, never below 0
 * (a CUSUM, Page 1954). As long as nobody is refused it is at most the number of requests inside,
 * so that as many clients as there are slots, who wait for their answers, never bring it above the
 * first level, the number of slots. Overload is when it takes longer than a burst to go from half
 * of the level to the level. A surplus that grows more quickly is a burst so far, and the level is
 * doubled: if they go on coming, the next half takes twice as long, so that ten times of what the
 * machine can do is known within a second. Meanwhile no more run than are enough: what then has not
 * begun can be refused.
 *
 * Under overload the surplus is bounded, so that it sinks to 0, which is the end of overload, soon
 * after no more come than end. */

static double first_level(const load_meter *m)
{
    return SL_MAX(m->slots, LEVEL_MIN);
}

/* Requests inside under overload: up to half of the slots; the least while the knee is not known.
 */
static int enough(const load_meter *m)
{
    int least = SL_MIN(ENOUGH_MIN, m->slots);

    return SL_MAX(SL_MIN(m->knee, (m->slots + 1) / 2), least);
}

/* The surplus passed half of the level. */
static void watch(load_meter *m, int64_t now_ns)
{
    m->half_ns = now_ns;
    m->hold_until_ns = now_ns + HOLD_NS;
}

static void count_came(load_meter *m, int64_t now_ns)
{
    double before = m->surplus, most = first_level(m) / 8;

    m->surplus++;
    if (m->is_overloaded) {
        m->surplus = SL_MIN(m->surplus, most);
        return;
    }
    if (m->level == 0)
        m->level = first_level(m);
    if (before <= m->level / 2 && m->surplus > m->level / 2)
        watch(m, now_ns);
    if (m->surplus <= m->level)
        return;
    if (now_ns - m->half_ns >= BURST_NS) {
        m->is_overloaded = m->sheds = true;
        m->surplus = most;
    } else {
        m->level *= 2;
        watch(m, now_ns);
    }
}

static void lower_level(load_meter *m, int64_t now_ns)
{
    while (m->level > first_level(m) && m->surplus <= m->level / 2) {
        m->level /= 2;
        m->half_ns = now_ns;
    }
}

static void count_ended(load_meter *m, int64_t now_ns)
{
    int inside = m->waiting + m->running;

    m->surplus = SL_MAX(m->surplus - ENDED_WEIGHT, 0);
    if (inside == 0)
        m->surplus = 0;
    else if (!m->is_overloaded && m->surplus > inside)
        mean_add(&m->surplus, inside, SHARE); /* who was refused is forgotten by and by */
    if (m->is_overloaded && m->surplus == 0) {
        m->is_overloaded = m->sheds = false;
        m->surplus = inside;
        m->level = 0;
        m->half_ns = now_ns;
    }
    if (m->level > 0)
        lower_level(m, now_ns);
}

/* ---- the door -------------------------------------------------------------------------------- */

unsigned load_caller(const char *id)
{
    return sl_hash(SL_HASH_START, id, strlen(id)) % LOAD_CALLERS;
}

static void add(load_meter *m, unsigned caller)
{
    m->waiting++;
    m->callers += m->of[caller]++ == 0;
}

static void take_off(load_meter *m, unsigned caller)
{
    m->callers -= --m->of[caller] == 0;
}

/* Requests inside under overload that this caller must find fewer of: who has less than his share
 * may go half beyond what is enough. */
static int enough_for(const load_meter *m, unsigned caller)
{
    int all = enough(m), callers = m->callers + (m->of[caller] == 0);

    return m->of[caller] < SL_MAX(all / callers, 1) ? all + all / 2 : all;
}

/* SL_OK, or why not and until when, in nanoseconds. */
static sl_status judge(const load_meter *m, unsigned caller, double *ret_room_ns, sl_err *err)
{
    /* The scheduler gives callers their turns alike: of each no more go before his. */
    int ahead = SL_MIN(m->waiting, (m->of[caller] + 1) * SL_MAX(m->callers, 1));
    double next = next_ns(m), wait = ahead * next, bound = bound_ns(m);
    int inside = m->waiting + m->running;

    *ret_room_ns = next;
    if (inside >= m->queue_max)
        return sl_fail(err, SL_EBUSY, "the queue is full (%d requests)", m->queue_max);
    if (m->is_overloaded && m->wait_ns == 0 && inside >= enough_for(m, caller)) {
        *ret_room_ns = SL_MAX(next, m->service_ns);
        return sl_fail(err, SL_EBUSY, "%d requests are under way and far more come than end",
                       inside);
    }
    if (inside < m->slots || wait <= bound)
        return SL_OK;
    *ret_room_ns = wait - bound + next;
    return sl_fail(err, SL_EBUSY, "%d requests wait already, for about %.1f s", ahead, wait / 1e9);
}

sl_status load_enter(load_meter *m, unsigned caller, int64_t now_ns, int64_t *ret_retry_ms,
                     sl_err *err)
{
    double room_ns = 0;
    sl_status status;

    pthread_mutex_lock(&m->lock);
    count_came(m, now_ns);
    status = judge(m, caller, &room_ns, err);
    if (status == SL_OK)
        add(m, caller);
    else
        *ret_retry_ms = retry_ms(room_ns);
    pthread_mutex_unlock(&m->lock);
    return status;
}

void load_leave(load_meter *m, unsigned caller)
{
    pthread_mutex_lock(&m->lock);
    m->waiting--;
    take_off(m, caller);
    m->surplus = SL_MAX(m->surplus - 1, 0); /* what a limit refused is no load */
    pthread_mutex_unlock(&m->lock);
}

int64_t load_refuse(load_meter *m, unsigned caller)
{
    int64_t ms;

    pthread_mutex_lock(&m->lock);
    m->waiting--;
    take_off(m, caller);
    ms = retry_ms(SL_MAX((double)m->waiting * next_ns(m), m->is_overloaded ? m->service_ns : 0));
    pthread_mutex_unlock(&m->lock);
    return ms;
}

void load_begin(load_meter *m, int64_t now_ns)
{
    pthread_mutex_lock(&m->lock);
    m->waiting--;
    m->running++;
    /* The time since the last begin tells the drain rate only if this one could have begun then. */
    if (m->last_begin_ns)
        mean_add(&m->interval_ns, (double)(now_ns - m->last_begin_ns), SHARE);
    m->last_begin_ns = m->waiting > 0 ? now_ns : 0;
    pthread_mutex_unlock(&m->lock);
}

void load_end(load_meter *m, unsigned caller, int64_t now_ns, int64_t service_ns)
{
    pthread_mutex_lock(&m->lock);
    m->running--;
    take_off(m, caller);
    count_ended(m, now_ns);
    mean_add(&m->service_ns, (double)service_ns, SHARE);
    pthread_mutex_unlock(&m->lock);
}

sl_status load_enter_idle(load_meter *m, sl_err *err)
{
    sl_status status = SL_OK;

    pthread_mutex_lock(&m->lock);
    if (m->idle >= m->queue_max)
        status = sl_fail(err, SL_EBUSY, "the queue is full (%d requests)", m->queue_max);
    else
        m->idle++;
    pthread_mutex_unlock(&m->lock);
    return status;
}

void load_leave_idle(load_meter *m)
{
    pthread_mutex_lock(&m->lock);
    m->idle--;
    pthread_mutex_unlock(&m->lock);
}

void load_knee(load_meter *m, int knee)
{
    pthread_mutex_lock(&m->lock);
    m->knee = knee;
    pthread_mutex_unlock(&m->lock);
}

bool load_is_overloaded(load_meter *m)
{
    bool is;

    pthread_mutex_lock(&m->lock);
    is = m->is_overloaded && m->wait_ns == 0;
    pthread_mutex_unlock(&m->lock);
    return is;
}

int load_running_max(load_meter *m, int64_t now_ns)
{
    bool holds;
    int max;

    pthread_mutex_lock(&m->lock);
    holds = m->wait_ns == 0 && (m->is_overloaded || now_ns < m->hold_until_ns);
    max = holds ? enough(m) : m->slots;
    pthread_mutex_unlock(&m->lock);
    return max;
}

int load_shed(load_meter *m)
{
    int over;

    pthread_mutex_lock(&m->lock);
    over = m->sheds && m->wait_ns == 0 ? m->waiting + m->running - enough(m) : 0;
    m->sheds = false;
    pthread_mutex_unlock(&m->lock);
    return SL_MAX(SL_MIN(over, m->waiting), 0);
}
