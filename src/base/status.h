/* status.h - how functions fail.
 *
 * Three kinds of failure, never mixed: the caller's and the world's travel as an sl_status with an
 * optional sl_err that says what, where and what to do; ours is an SL_ASSERT, which ends the
 * process. Bytes from outside never reach an assert. */
#ifndef SL_BASE_STATUS_H
#define SL_BASE_STATUS_H

#include "base/attr.h"

/* name, value, HTTP code, text: the enum, sl_status_text() and sl_status_http() come from here. */
#define SL_STATUS_MAP(X)                                                                           \
    X(EINVAL, -1, 400, "invalid argument or request")                                              \
    X(EFORMAT, -2, 422, "malformed file or message")                                               \
    X(ELIMIT, -3, 413, "a configured limit was exceeded")                                          \
    X(EBUSY, -4, 503, "no capacity right now")                                                     \
    X(ENOMEM, -5, 503, "memory budget exhausted")                                                  \
    X(EIO, -6, 500, "input or output failed")                                                      \
    X(ENOTFOUND, -7, 404, "not found")                                                             \
    X(ENOTSUP, -8, 400, "not supported")                                                           \
    X(ECONTEXT, -9, 400, "the prompt does not fit the model's context")                            \
    X(EAUTH, -10, 401, "authentication required")                                                  \
    X(EFORBIDDEN, -11, 403, "not allowed")                                                         \
    X(ECONFLICT, -12, 409, "conflicts with the current state")                                     \
    X(ERATE, -13, 429, "rate limit exceeded")                                                      \
    X(ECANCELLED, -14, 499, "cancelled by the caller")                                             \
    X(ETIMEOUT, -15, 504, "timed out")                                                             \
    X(EUPSTREAM, -16, 502, "an upstream service failed")                                           \
    X(EINTERNAL, -17, 500, "internal error")

#define SL_STATUS_ENUM(name, value, http, text) SL_##name = (value),
typedef enum sl_status { SL_OK = 0, SL_STATUS_MAP(SL_STATUS_ENUM) } sl_status;
#undef SL_STATUS_ENUM

#define SL_ERR_TEXT_BYTES 512

/* What went wrong, for a person. Filled by sl_fail(); stays untouched on success. */
typedef struct sl_err {
    sl_status status;
    char text[SL_ERR_TEXT_BYTES];
} sl_err;

/* Short English text of a status; never NULL. */
const char *sl_status_text(sl_status status);

/* HTTP status code that answers a request which ended so. */
int sl_status_http(sl_status status);

/* Records a failure and returns its status. err may be NULL. */
sl_status sl_fail(sl_err *err, sl_status status, const char *fmt, ...) SL_PRINTF(3, 4);

/* Puts "context: " in front of the text already in err, keeping its status. Returns that status. */
sl_status sl_err_prefix(sl_err *err, sl_status status, const char *fmt, ...) SL_PRINTF(3, 4);

/* Returns from the calling function on failure. For functions that own nothing yet. */
#define SL_TRY(expr)                                                                               \
    do {                                                                                           \
        sl_status sl_try_status_ = (expr);                                                         \
        if (SL_UNLIKELY(sl_try_status_ != SL_OK))                                                  \
            return sl_try_status_;                                                                 \
    } while (0)

SL_NORETURN void sl_assert_fail(const char *expr, const char *file, int line);

/* On in every build. One condition per assert. */
#define SL_ASSERT(cond) (SL_LIKELY(cond) ? (void)0 : sl_assert_fail(#cond, __FILE__, __LINE__))

#ifdef SL_SLOW_CHECKS
#define SL_ASSERT_SLOW(cond) SL_ASSERT(cond)
#else
#define SL_ASSERT_SLOW(cond) ((void)0)
#endif

#endif
