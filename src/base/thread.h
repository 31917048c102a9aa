/* thread.h - waiting on conditions by the clock of sl_clock_mono_ns, so that nobody sleeps longer
 * or shorter when the wall clock is set. */
#ifndef SL_BASE_THREAD_H
#define SL_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* For conditions that sl_cond_wait_until waits on; pthread_cond_destroy ends them. */
void sl_cond_init(pthread_cond_t *cond);
/* As pthread_cond_wait, until the time until_ns at most; INT64_MAX: without bound. False: that time
 * has come. May return true for no reason, as all conditions do. */
bool sl_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until_ns);

#endif
