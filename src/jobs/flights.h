/* flights.h - lines under way: started by one thread, ended by those of the backends.
 *
 * Everything but the sink belongs to the thread that starts lines; finished ones reach it through a
 * queue. */
#ifndef SL_JOBS_FLIGHTS_H
#define SL_JOBS_FLIGHTS_H

#include <pthread.h>

#include "llm/llm.h"

typedef struct flights flights;

typedef struct flight {
    flights *set;
    void *owner;
    size_t line; /* the owner's */
    void *handle;
    struct flight *prev, *next; /* among those under way */

    /* The answer. */
    struct flight *next_finished;
    int status;
    char request_id[64];
    sl_buf body;
    bool again, is_cancelled;
    int64_t again_ms;
    int64_t prompt_tokens, cached_tokens, output_tokens;
} flight;

struct flights {
    llm_line_runner runner;
    flight *first; /* under way */
    int count;     /* of those */

    pthread_mutex_t lock; /* the fields below */
    pthread_cond_t wake;
    flight *finished, **finished_tail;
    bool nudged;
};

void flights_init(flights *s, llm_line_runner runner);
void flights_deinit(flights *s); /* nothing may be under way */
/* False: out of memory. */
bool flights_start(flights *s, void *owner, size_t line, const llm_line *what);
/* Finished ones, chained by next_finished; they are the caller's. NULL: none. */
flight *flights_take(flights *s);
/* Until one finished, flights_nudge was called, or ms went by. */
void flights_wait(flights *s, int64_t ms);
void flights_nudge(flights *s); /* any thread */
/* Those of an owner; NULL: all. */
void flights_cancel(flights *s, const void *owner);
void flight_free(flight *f);

#endif
