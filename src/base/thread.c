/* thread.c - see the header. */
#include "base/thread.h"

#include <time.h>

void sl_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

bool sl_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until_ns)
{
    const struct timespec until = { until_ns / 1000000000, until_ns % 1000000000 };

    if (until_ns != INT64_MAX)
        return pthread_cond_timedwait(cond, mutex, &until) == 0;
    pthread_cond_wait(cond, mutex);
    return true;
}
