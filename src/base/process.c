/* process.c - /proc/self in numbers. */
#include "base/process.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/os.h"

#define PROC_BYTES_MAX 65536

static int64_t boot_seconds(void)
{
    sl_buf b;
    const char *line;
    int64_t at = 0;

    sl_buf_init(&b, 4 * PROC_BYTES_MAX); /* a line per interrupt */
    if (sl_file_read("/proc/stat", 4 * PROC_BYTES_MAX, &b, NULL) == SL_OK &&
        (line = strstr(sl_buf_str(&b), "\nbtime ")))
        at = strtoll(line + 7, NULL, 10);
    sl_buf_deinit(&b);
    return at;
}

static double count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    double count = -3; /* ".", ".." and the directory itself */

    if (!dir)
        return 0;
    while (readdir(dir))
        count++;
    closedir(dir);
    return SL_MAX(count, 0);
}

/* Fields 14 to 24 of stat(5), which follow the last parenthesis. start_seconds is since boot. */
static void read_stat(sl_process *ret)
{
    unsigned long long user, system, start, size;
    double tick = (double)sysconf(_SC_CLK_TCK);
    long threads, pages;
    const char *p;
    sl_buf b;

    sl_buf_init(&b, PROC_BYTES_MAX);
    if (sl_file_read("/proc/self/stat", PROC_BYTES_MAX, &b, NULL) == SL_OK &&
        (p = strrchr(sl_buf_str(&b), ')')) &&
        sscanf(p + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %ld "
               "%*d %llu %llu %ld",
               &user, &system, &threads, &start, &size, &pages) == 6) {
        ret->cpu_seconds = (double)(user + system) / tick;
        ret->threads = (double)threads;
        ret->start_seconds = (double)start / tick;
        ret->virtual_bytes = (double)size;
        ret->resident_bytes = (double)pages * (double)sysconf(_SC_PAGESIZE);
    }
    sl_buf_deinit(&b);
}

static void read_fds(sl_process *ret)
{
    struct rlimit limit;

    ret->open_fds = count_fds();
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        ret->max_fds = (double)limit.rlim_cur;
}

static void read_start(sl_process *ret)
{
    read_stat(ret);
    ret->start_seconds += (double)boot_seconds();
}

void sl_process_read(sl_process *ret)
{
    *ret = (sl_process){ 0 };
    read_start(ret);
    read_fds(ret);
}

#define PROCESS_FN(field, read)                                                                    \
    static double fn_##field(void *ctx)                                                            \
    {                                                                                              \
        sl_process p = { 0 };                                                                      \
        read(&p);                                                                                  \
        return p.field;                                                                            \
    }
PROCESS_FN(cpu_seconds, read_stat)
PROCESS_FN(resident_bytes, read_stat)
PROCESS_FN(virtual_bytes, read_stat)
PROCESS_FN(threads, read_stat)
PROCESS_FN(open_fds, read_fds)
PROCESS_FN(max_fds, read_fds)
PROCESS_FN(start_seconds, read_start)

void sl_process_metrics(metric_registry *r)
{
    metric_counter_fn(r, "process_cpu_seconds_total", "User and system time spent, in seconds.",
                      fn_cpu_seconds, NULL);
    metric_gauge_fn(r, "process_resident_memory_bytes", "Memory in RAM.", fn_resident_bytes, NULL);
    metric_gauge_fn(r, "process_virtual_memory_bytes", "Memory in the address space.",
                    fn_virtual_bytes, NULL);
    metric_gauge_fn(r, "process_open_fds", "Open file descriptors.", fn_open_fds, NULL);
    metric_gauge_fn(r, "process_max_fds", "File descriptors there may be.", fn_max_fds, NULL);
    metric_gauge_fn(r, "process_threads", "Threads.", fn_threads, NULL);
    metric_gauge_fn(r, "process_start_time_seconds", "When it started, in seconds since 1970.",
                    fn_start_seconds, NULL);
}
