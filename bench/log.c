/* log.c - what a log line costs its caller: a request's line of 14 fields, from 1 and 2 threads.
 *
 * bench_log [FILE]: writes to FILE, default /dev/null. In bursts of 1,000 with pauses, as the queue
 * is bounded and the writer shares the processors; only the bursts are timed. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/os.h"

#define BURST  1000
#define BURSTS 200

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void one_line(int i)
{
    const sl_log_field f[] = {
        SL_F_STR("request_id", "req_0123456789abcdef01234567"),
        SL_F_STR("remote", "10.0.0.7"),
        SL_F_STR("method", "POST"),
        SL_F_STR("path", "/v1/chat/completions"),
        SL_F_NUM("status", 200),
        SL_F_NUM("total_ms", 1234.567 + i),
        SL_F_STR("model", "smollm2"),
        SL_F_NUM("prompt_tokens", 512),
        SL_F_NUM("output_tokens", 128),
        SL_F_NUM("ttft_ms", 45.678),
    };

    sl_log_write_each(SL_LOG_INFO, "http.request", f, 10);
}

static void *run(void *ctx)
{
    const sl_log_field context[] = { SL_F_STR("request_id", "req_0123456789abcdef01234567"),
                                     SL_F_STR("key", "key_1a2b3c4d"), SL_F_STR("key_name", "ci"),
                                     SL_F_STR("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736") };
    int64_t *each = ctx;
    sl_log_scope scope;

    sl_log_push(&scope, context, 4);
    for (int b = 0; b < BURSTS; b++) {
        for (int i = 0; i < BURST; i++) {
            int64_t start = sl_clock_mono_ns();

            one_line(i);
            each[b * BURST + i] = sl_clock_mono_ns() - start;
        }
        sl_log_flush();
    }
    sl_log_pop(&scope);
    return NULL;
}

int main(int argc, char **argv)
{
    static int64_t each[2][BURST * BURSTS];
    sl_err err;

    if (sl_log_start(&(sl_log_options){ .path = argc > 1 ? argv[1] : "/dev/null",
                                        .queue_bytes_max = 64 * SL_MIB },
                     &err) != SL_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    for (int threads = 1; threads <= 2; threads++) {
        sl_log_counts counts;
        pthread_t other;
        int64_t sum = 0;

        if (threads == 2)
            pthread_create(&other, NULL, run, each[1]);
        run(each[0]);
        if (threads == 2)
            pthread_join(other, NULL);
        sl_log_read_counts(&counts);
        for (int i = 0; i < BURST * BURSTS; i++)
            sum += each[0][i];
        qsort(each[0], BURST * BURSTS, sizeof each[0][0], compare);
        printf("threads %d  mean %lld ns  p50 %lld ns  p99 %lld ns  dropped %lld\n", threads,
               (long long)(sum / (BURST * BURSTS)), (long long)each[0][BURST * BURSTS / 2],
               (long long)each[0][BURST * BURSTS * 99 / 100], (long long)counts.dropped);
    }
    sl_log_stop();
    return 0;
}
