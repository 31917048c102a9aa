/* load.h - how busy a model is, and whether one more request would wait too long.
 *
 * The meter sees when requests are taken, begin and end. From these it knows how many wait, how
 * fast they begin (the drain rate, while any wait) and how long one takes. A request that finds all
 * slots taken and whose expected wait is more than the bound is refused, and told when to come
 * back.
 *
 * More sequences at once hardly make more tokens once the machine is busy, but each then takes
 * longer. So under overload, when in the last seconds far more requests came than ended, only half
 * of the slots are filled: those admitted are answered nearly as quickly as below it. Clients that
 * wait for their answers before they ask again never bring this about: no more of their requests
 * come than end, but for the first ones.
 *
 * Any thread may ask and tell. */
#ifndef SL_ENGINE_LOAD_H
#define SL_ENGINE_LOAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define LOAD_TICKS   8
#define LOAD_TICK_NS 500000000LL

typedef struct load_meter {
    pthread_mutex_t lock;
    int slots;       /* requests computed at once */
    int queue_max;   /* requests waiting or running */
    int64_t wait_ns; /* bound on the expected wait; 0: by the measured service time */
    int waiting, running;
    double service_ns;     /* mean time of a request from its begin to its end; 0: not known */
    double interval_ns;    /* mean time between two begins while others waited; 0: not known */
    int64_t last_begin_ns; /* 0: nobody waited since */
    struct {
        int came, ended;
    } ticks[LOAD_TICKS]; /* the last seconds, as a ring */
    int64_t tick;        /* number of the present one */
} load_meter;

/* slots, queue_max and wait_ns are the caller's to set, before the first request. */
void load_init(load_meter *m);
void load_deinit(load_meter *m);

/* Takes a request in. SL_EBUSY: the queue is full, or the wait would be too long; *ret_retry_ms is
 * when there should be room. */
SL_NODISCARD sl_status load_enter(load_meter *m, int64_t now_ns, int64_t *ret_retry_ms,
                                  sl_err *err);
/* When there should be room for one more. */
int64_t load_retry_ms(load_meter *m);
/* Gives back what load_enter took, of a request that did not begin. */
void load_leave(load_meter *m);
void load_begin(load_meter *m, int64_t now_ns);
/* A request that began ended, after service_ns; 0: its time says nothing, it rested. */
void load_end(load_meter *m, int64_t now_ns, int64_t service_ns);

#endif
