/* log_int.h - what log.c (which lines), log_line.c (their text) and log_queue.c (their way to the
 * file) share. */
#ifndef SL_BASE_LOG_INT_H
#define SL_BASE_LOG_INT_H

#include <stdatomic.h>

#include "base/buf.h"
#include "base/log.h"

#define LOG_LINE_BYTES_MAX  (256 * 1024)
#define LOG_VALUE_BYTES_MAX (16 * 1024) /* of one value; the rest is cut and counted */

extern const char *const log_level_names[SL_LOG_LEVEL_COUNT];

/* How a line looks. */
typedef struct log_style {
    sl_log_format format; /* not SL_LOG_AUTO */
    bool colour;
} log_style;

/* log_line.c */
typedef struct log_record {
    sl_log_level level;
    const char *event;
    int64_t time_ms; /* wall clock */
    const sl_log_field *fields;
    int count;
    const sl_log_scope *scope; /* or NULL */
} log_record;

/* Appends the line and its newline. */
void log_put_line(sl_buf *out, const log_style *style, const log_record *r);
/* "2026-01-31T12:00:00.000Z" and no NUL: 24 bytes. Safe in a signal handler. */
void log_put_time(char out[24], int64_t ms);

/* log_queue.c */
/* The line is written, or waits, or is dropped and counted. */
void log_submit(const log_record *r);
/* Wakes the writer if there is one and it sleeps. */
void log_wake(void);

/* log.c */
extern atomic_llong log_dropped;
/* Whether lines were suppressed that no "log.suppressed" told of yet. */
bool log_is_suppressing(void);
/* Writes those that are due: of seconds that are over. */
void log_tell_suppressed(int64_t now_ms, void (*emit)(const log_record *r));
void log_set_repeats(int max);

#endif
