/* load.h - how busy a model is, and whether one more request would wait too long.
 *
 * The meter sees when requests are taken, begin and end. From these it knows how many wait, how
 * fast they begin (the drain rate, while any wait) and how long one takes. A request that finds all
 * slots taken and whose expected wait is more than the bound is refused, and told when to come
 * back.
 *
 * More sequences at once hardly make more tokens once the machine is busy, but each then takes
 * longer. So under overload, when far more requests come than end, only as many are let in as keep
 * the machine busy (load_knee), and of those that wait already the others are refused: who is let
 * in is answered about as quickly as below overload. Two kinds of crowds do not bring this about:
 * as many clients as there are slots, who wait for their answers before they ask again, because no
 * more of their requests come than end, but for the first ones; and a burst, because it is over
 * before it counts. What rests while there is other work is no load.
 *
 * Callers are treated alike: who has less than his share inside is not refused because of others,
 * as the scheduler lets him go before them.
 *
 * Any thread may ask and tell. */
#ifndef SL_ENGINE_LOAD_H
#define SL_ENGINE_LOAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define LOAD_CALLERS 256 /* told apart; more share places */

typedef struct load_meter {
    pthread_mutex_t lock;
    int slots;       /* requests computed at once */
    int queue_max;   /* requests waiting or running */
    int64_t wait_ns; /* bound on the expected wait; 0: by the measured service time */
    int waiting, running;
    int of[LOAD_CALLERS];  /* of those, each caller's */
    int callers;           /* who have any */
    double service_ns;     /* mean time of a request from its begin to its end; 0: not known */
    double interval_ns;    /* mean time between two begins while others waited; 0: not known */
    int64_t last_begin_ns; /* 0: nobody waited since */
    int idle;              /* requests that rest while there are others */
    int knee;              /* see load_knee; 0: not known */
    double surplus;        /* requests that came beyond what ended; see load.c */
    double level;          /* of the surplus; above it overload is looked for */
    int64_t half_ns;       /* when the surplus passed half of level */
    int64_t hold_until_ns; /* until then it may become overload: no more run than are enough */
    bool is_overloaded;
    bool sheds; /* overload began, and load_shed was not asked since */
} load_meter;

/* slots, queue_max and wait_ns are the caller's to set, before the first request. */
void load_init(load_meter *m);
void load_deinit(load_meter *m);

/* The number that stands for a caller, below LOAD_CALLERS. */
unsigned load_caller(const char *id);

/* Takes a request of a caller in. SL_EBUSY: the queue is full, or the wait would be too long;
 * *ret_retry_ms is when there should be room. */
SL_NODISCARD sl_status load_enter(load_meter *m, unsigned caller, int64_t now_ns,
                                  int64_t *ret_retry_ms, sl_err *err);
/* Gives back what load_enter took, of a request that was not let on: it was no load. */
void load_leave(load_meter *m, unsigned caller);
/* The same of one that is refused because its turn does not come; when there should be room. */
int64_t load_refuse(load_meter *m, unsigned caller);
void load_begin(load_meter *m, int64_t now_ns);
/* A request that began ended, service_ns after it began. */
void load_end(load_meter *m, unsigned caller, int64_t now_ns, int64_t service_ns);

/* The same door for requests that rest while there are others: only their number is bounded, by
 * queue_max of their own. */
SL_NODISCARD sl_status load_enter_idle(load_meter *m, sl_err *err);
void load_leave_idle(load_meter *m);

/* Tells how many requests at once are enough: with more, each takes longer and hardly more are
 * answered. */
void load_knee(load_meter *m, int knee);
/* Whether there is overload. */
bool load_is_overloaded(load_meter *m);
/* How many may run now: the slots, or what is enough, under overload and while a crowd may
 * become it. Those that run already stay. */
int load_running_max(load_meter *m, int64_t now_ns);
/* How many of those that wait are to be refused, because overload began since this was asked last.
 */
int load_shed(load_meter *m);

#endif
