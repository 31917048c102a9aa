/* status.c - texts and HTTP codes of statuses, and the one way an assertion ends the process. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *sl_status_text(sl_status status)
{
    switch (status) {
    case SL_OK:
        return "ok";
#define STATUS_TEXT(name, value, http, text)                                                       \
    case SL_##name:                                                                                \
        return text;
        SL_STATUS_MAP(STATUS_TEXT)
#undef STATUS_TEXT
    }
    return "unknown status";
}

int sl_status_http(sl_status status)
{
    switch (status) {
    case SL_OK:
        return 200;
#define STATUS_HTTP(name, value, http, text)                                                       \
    case SL_##name:                                                                                \
        return http;
        SL_STATUS_MAP(STATUS_HTTP)
#undef STATUS_HTTP
    }
    return 500;
}

sl_status sl_fail(sl_err *err, sl_status status, const char *fmt, ...)
{
    SL_ASSERT(status != SL_OK);
    if (err) {
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
        err->status = status;
    }
    return status;
}

sl_status sl_err_prefix(sl_err *err, sl_status status, const char *fmt, ...)
{
    if (err) {
        char old[SL_ERR_TEXT_BYTES];
        va_list ap;
        int len;

        memcpy(old, err->text, sizeof old);
        va_start(ap, fmt);
        len = vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
        if (len >= 0 && (size_t)len < sizeof err->text)
            snprintf(err->text + len, sizeof err->text - (size_t)len, ": %s", old);
        err->status = status;
    }
    return status;
}

void sl_assert_fail(const char *expr, const char *file, int line)
{
    fprintf(stderr, "sluice: assertion failed: %s (%s:%d); this is a bug, please report it\n", expr,
            file, line);
    abort();
}
