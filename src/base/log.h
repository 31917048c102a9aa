/* log.h - one JSON object per line on standard error.
 *
 * The place that decides an outcome logs it, once. Library rooms return statuses instead. Lines
 * are written with one write(2) each, so that threads never interleave. */
#ifndef SL_BASE_LOG_H
#define SL_BASE_LOG_H

#include <stdint.h>

#include "base/attr.h"

typedef enum sl_log_level {
    SL_LOG_DEBUG,
    SL_LOG_INFO,
    SL_LOG_WARN,
    SL_LOG_ERROR,
    SL_LOG_LEVEL_COUNT
} sl_log_level;

/* One key and value of a line. Build with the macros below. */
typedef struct sl_log_field {
    const char *key;
    const char *str; /* NULL: a number */
    double num;
} sl_log_field;

#define SL_F_STR(k, v) ((sl_log_field){ .key = (k), .str = (v) ? (v) : "" })
#define SL_F_NUM(k, v) ((sl_log_field){ .key = (k), .num = (double)(v) })

/* Lines below this level are dropped. Default SL_LOG_INFO. */
void sl_log_set_level(sl_log_level level);
/* When on (a terminal), lines are short text instead of JSON. Default off. */
void sl_log_set_plain(int plain);

/* event: a short dotted name such as "server.ready". */
void sl_log_write(sl_log_level level, const char *event, const sl_log_field *fields, int count);

#define SL_LOG(level, event, ...)                                                                  \
    sl_log_write((level), (event), (const sl_log_field[]){ __VA_ARGS__ },                          \
                 (int)(sizeof((const sl_log_field[]){ __VA_ARGS__ }) / sizeof(sl_log_field)))

#endif
