/* log.h - one event per line: JSON, or text for people.
 *
 * The place that decides an outcome logs it, once. Library rooms return statuses instead.
 *
 * A server calls sl_log_start: from then on a line costs its caller the writing of the text and one
 * exchange of a pointer; a thread of its own writes to the file. The queue between them is bounded,
 * and nobody waits for it: what does not fit is dropped and counted. Without sl_log_start
 * (commands, tests) lines are written at once, with one write(2) each.
 *
 * Secrets never reach a line: values of fields with names such as "authorization", and whatever
 * looks like a bearer token, an API key or a JWT in any other, are replaced. */
#ifndef SL_BASE_LOG_H
#define SL_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/status.h"

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

static inline sl_log_field sl_f_str(const char *key, const char *text)
{
    return (sl_log_field){ .key = key, .str = text ? text : "" };
}

#define SL_F_STR(k, v) sl_f_str(k, v)
#define SL_F_NUM(k, v) ((sl_log_field){ .key = (k), .num = (double)(v) })

/* event: a short dotted name such as "server.ready", a string that lives for ever; what stands
 * before the dot is its room. More than some lines (sl_log_options.repeats_max) of one event and
 * level in a second are not written but counted, and one line says how many there were. */
void sl_log_write(sl_log_level level, const char *event, const sl_log_field *fields, int count);
/* The same for lines of which each is about something else: none is a repeat. */
void sl_log_write_each(sl_log_level level, const char *event, const sl_log_field *fields,
                       int count);

#define SL_LOG(level, event, ...)                                                                  \
    sl_log_write((level), (event), (const sl_log_field[]){ __VA_ARGS__ },                          \
                 (int)(sizeof((const sl_log_field[]){ __VA_ARGS__ }) / sizeof(sl_log_field)))

/* ---- levels -------------------------------------------------------------------------------- */

/* Lines below this level are dropped. Default SL_LOG_INFO. */
void sl_log_set_level(sl_log_level level);
/* The level of events that begin with this prefix ("http", "http.request"); the longest that fits
 * counts. SL_ELIMIT: more than 64 of them, or longer than 31 bytes. */
SL_NODISCARD sl_status sl_log_set_room(const char *prefix, sl_log_level level, sl_err *err);
/* Forgets them. */
void sl_log_clear_rooms(void);
/* "debug", "info", "warn", "error". False: none of them. */
bool sl_log_level_of(const char *name, sl_log_level *ret);

/* ---- context ------------------------------------------------------------------------------- */

/* Fields that every line of this thread gets while the scope is pushed, unless the line or an inner
 * scope has the key itself. Lives on the caller's stack. */
typedef struct sl_log_scope {
    const sl_log_field *fields;
    int count;
    struct sl_log_scope *outer;
} sl_log_scope;

/* fields are borrowed until the scope, which must be the innermost, is popped. */
void sl_log_push(sl_log_scope *scope, const sl_log_field *fields, int count);
void sl_log_pop(sl_log_scope *scope);

/* ---- where lines go ------------------------------------------------------------------------ */

typedef enum sl_log_format {
    SL_LOG_AUTO,  /* text on a terminal, else JSON */
    SL_LOG_JSON,  /* an object per line */
    SL_LOG_TEXT,  /* time, level, event, key=value; in colour on a terminal, unless NO_COLOR is set
                   */
    SL_LOG_PLAIN, /* for commands: "warn: event key=value" */
    SL_LOG_FORMAT_COUNT
} sl_log_format;

/* Of lines written at once, before sl_log_start and after sl_log_stop. Default SL_LOG_JSON. */
void sl_log_set_format(sl_log_format format);

typedef struct sl_log_options {
    sl_log_format format;
    const char *path;       /* appended to; NULL: standard error. Copied */
    int repeats_max;        /* per event, level and second; 0: 100, -1: no bound */
    size_t queue_bytes_max; /* 0: 4 MiB */
    bool keep_crash;        /* leave the signals of a crash as they are */
} sl_log_options;

/* Starts the writer. A process that crashes from then on first writes what waits, and a line
 * "process.crashed". SL_EIO: the file cannot be opened. */
SL_NODISCARD sl_status sl_log_start(const sl_log_options *options, sl_err *err);
/* Writes what waits and ends the writer; gives up after 2 s if the other end does not read.
 * Harmless when not started. */
void sl_log_stop(void);
/* Waits until everything logged so far is written. */
void sl_log_flush(void);
/* Opens the file anew, soon, for who rotates files. When that fails the old one stays. */
void sl_log_reopen(void);

typedef struct sl_log_counts {
    int64_t lines[SL_LOG_LEVEL_COUNT]; /* accepted */
    int64_t dropped;                   /* the queue was full, or writing failed */
    int64_t suppressed;                /* repeats */
} sl_log_counts;

void sl_log_read_counts(sl_log_counts *ret);

#endif
