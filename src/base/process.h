/* process.h - what the system says of this process, under the names every Prometheus client uses.
 */
#ifndef SL_BASE_PROCESS_H
#define SL_BASE_PROCESS_H

#include "base/metric.h"

typedef struct sl_process {
    double cpu_seconds; /* user and system, of all threads */
    double resident_bytes, virtual_bytes;
    double open_fds, max_fds;
    double threads;
    double start_seconds; /* since 1970 */
} sl_process;

/* Reads /proc; what cannot be read is 0. */
void sl_process_read(sl_process *ret);
/* Adds process_cpu_seconds_total and its companions, read at each rendering. */
void sl_process_metrics(metric_registry *r);

#endif
