/* log.c - JSON lines on standard error. */
#include "base/log.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/os.h"

#define LINE_BYTES_MAX 65536

static atomic_int level_min = SL_LOG_INFO;
static atomic_int plain_text;

static const char *const level_names[SL_LOG_LEVEL_COUNT] = { "debug", "info", "warn", "error" };

void sl_log_set_level(sl_log_level level)
{
    atomic_store(&level_min, (int)level);
}

void sl_log_set_plain(int plain)
{
    atomic_store(&plain_text, plain);
}

/* v with leading zeros, and what follows it. */
static void put_digits(sl_buf *b, int width, int v, char next)
{
    char text[8];

    text[width] = next;
    for (int i = width; i-- > 0; v /= 10)
        text[i] = (char)('0' + v % 10);
    sl_buf_put(b, text, (size_t)width + 1);
}

static void put_time(sl_buf *b)
{
    int64_t ms = sl_clock_wall_ms();
    time_t sec = (time_t)(ms / 1000);
    struct tm tm;

    gmtime_r(&sec, &tm);
    put_digits(b, 4, tm.tm_year + 1900, '-');
    put_digits(b, 2, tm.tm_mon + 1, '-');
    put_digits(b, 2, tm.tm_mday, 'T');
    put_digits(b, 2, tm.tm_hour, ':');
    put_digits(b, 2, tm.tm_min, ':');
    put_digits(b, 2, tm.tm_sec, '.');
    put_digits(b, 3, (int)(ms % 1000), 'Z');
}

static void put_num(sl_buf *b, double num)
{
    if (!isfinite(num))
        sl_buf_puts(b, "null");
    else if (num == rint(num) && fabs(num) < 1e15)
        sl_buf_put_int(b, (int64_t)num);
    else
        sl_buf_printf(b, "%.6g", num);
}

void sl_log_write(sl_log_level level, const char *event, const sl_log_field *fields, int count)
{
    int plain = atomic_load(&plain_text);
    sl_buf b;

    if ((int)level < atomic_load(&level_min))
        return;
    sl_buf_init(&b, LINE_BYTES_MAX);
    if (plain) {
        sl_buf_printf(&b, "%s: %s", level_names[level], event);
    } else {
        sl_buf_puts(&b, "{\"time\":\"");
        put_time(&b);
        sl_buf_printf(&b, "\",\"level\":\"%s\",\"event\":", level_names[level]);
        sl_buf_put_json(&b, event, strlen(event));
    }
    for (int i = 0; i < count; i++) {
        sl_buf_puts(&b, plain ? " " : ",\"");
        sl_buf_puts(&b, fields[i].key);
        sl_buf_puts(&b, plain ? "=" : "\":");
        if (fields[i].str && plain)
            sl_buf_puts(&b, fields[i].str);
        else if (fields[i].str)
            sl_buf_put_json(&b, fields[i].str, strlen(fields[i].str));
        else
            put_num(&b, fields[i].num);
    }
    sl_buf_puts(&b, plain ? "\n" : "}\n");
    if (!b.failed && write(STDERR_FILENO, b.ptr, b.len) < 0) {
        /* Nobody can be told that standard error is gone. */
    }
    sl_buf_deinit(&b);
}
