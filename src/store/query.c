/* query.c - the few forms that questions to a database have, each in one call. */
#include <stdarg.h>

#include "store/store.h"

void store_bind_all(store_stmt *st, const char *types, va_list args)
{
    for (int i = 0; types[i]; i++) {
        if (types[i] == 'i') {
            store_bind_int(st, i + 1, va_arg(args, int64_t));
        } else if (types[i] == 'b') {
            sl_span bytes = va_arg(args, sl_span);

            store_bind_blob(st, i + 1, bytes.ptr, bytes.len);
        } else {
            SL_ASSERT(types[i] == 's');
            store_bind_str(st, i + 1, va_arg(args, const char *));
        }
    }
}

sl_status store_prepare_with(store *s, store_stmt **ret, sl_err *err, const char *sql,
                             const char *types, ...)
{
    va_list args;

    SL_TRY(store_prepare(s, sql, ret, err));
    va_start(args, types);
    store_bind_all(*ret, types, args);
    va_end(args);
    return SL_OK;
}

sl_status store_run_with(store *s, sl_err *err, const char *sql, const char *types, ...)
{
    store_stmt *st = NULL;
    sl_status status;
    va_list args;

    SL_TRY(store_prepare(s, sql, &st, err));
    va_start(args, types);
    store_bind_all(st, types, args);
    va_end(args);
    status = store_run(st, err);
    store_finish(st);
    return status;
}

sl_status store_first(store_stmt *st, store_stmt **ret, sl_err *err)
{
    bool has_row = false;
    sl_status status = store_step(st, &has_row, err);

    *ret = status == SL_OK && has_row ? st : NULL;
    if (!*ret)
        store_finish(st);
    return status;
}

sl_status store_first_with(store *s, store_stmt **ret, sl_err *err, const char *sql,
                           const char *types, ...)
{
    store_stmt *st = NULL;
    va_list args;

    *ret = NULL;
    SL_TRY(store_prepare(s, sql, &st, err));
    va_start(args, types);
    store_bind_all(st, types, args);
    va_end(args);
    return store_first(st, ret, err);
}
