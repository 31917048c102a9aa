/* db.c - the few forms that questions to the database have. */
#include <stdarg.h>
#include <stdio.h>

#include "rag/ingest.h"

static sl_status first(rag *r, const llm_caller *who, store_stmt **ret, sl_err *err,
                       const char *sql, const char *types, va_list args)
{
    store_stmt *st = NULL;

    *ret = NULL;
    SL_TRY(store_prepare(r->db, sql, &st, err));
    store_bind_all(st, types, args);
    if (strstr(sql, "?90"))
        index_bind_caller(st, who);
    return store_first(st, ret, err);
}

sl_status rag_db_first(rag *r, const llm_caller *who, store_stmt **ret, sl_err *err,
                       const char *sql, const char *types, ...)
{
    sl_status status;
    va_list args;

    va_start(args, types);
    status = first(r, who, ret, err, sql, types, args);
    va_end(args);
    return status;
}

sl_status rag_db_exists(rag *r, const llm_caller *who, bool *ret, sl_err *err, const char *sql,
                        const char *types, ...)
{
    store_stmt *st = NULL;
    sl_status status;
    va_list args;

    va_start(args, types);
    status = first(r, who, &st, err, sql, types, args);
    va_end(args);
    *ret = st != NULL;
    store_finish(st);
    return status;
}

sl_status rag_db_write(rag *r, sl_status (*fn)(rag *r, void *ctx, sl_err *err), void *ctx,
                       sl_err *err)
{
    sl_status status;

    store_lock(r->db);
    status = store_begin(r->db, err);
    if (status == SL_OK) {
        status = fn(r, ctx, err);
        if (status == SL_OK)
            status = store_commit(r->db, err);
        else
            store_rollback(r->db);
    }
    store_unlock(r->db);
    return status;
}

/* ---- pages ---------------------------------------------------------------------------------- */

sl_status rag_db_page(rag *r, const llm_docs_page *page, const rag_db_list *l, json_t **ret,
                      sl_err *err)
{
    int limit = page->limit > 0 ? SL_MIN(page->limit, DB_PAGE_MAX) : DB_PAGE_DEFAULT;
    bool backwards = page->before && !page->after, up = page->ascending != backwards;
    int64_t after = 0, before = 0, low, high;
    json_t *data = json_array(), *object;
    bool has_row = true, more = false;
    store_stmt *st = NULL;
    sl_status status = SL_OK;
    char sql[2048];

    if (page->after)
        status = l->place(r, l->ctx, page->after, &after, err);
    if (status == SL_OK && page->before)
        status = l->place(r, l->ctx, page->before, &before, err);
    low = page->ascending ? after : before;
    high = page->ascending ? before : after;
    snprintf(sql, sizeof sql, "%s AND %s > ?80 AND %s < ?81 ORDER BY %s %s LIMIT ?82", l->sql,
             l->key, l->key, l->key, up ? "ASC" : "DESC");
    if (status == SL_OK)
        status = store_prepare(r->db, sql, &st, err);
    if (status == SL_OK) {
        store_bind_int(st, 80, low);
        store_bind_int(st, 81, high ? high : INT64_MAX);
        store_bind_int(st, 82, limit + 1);
        l->bind(st, l->ctx);
    }
    while (status == SL_OK && (status = store_step(st, &has_row, err)) == SL_OK && has_row) {
        if ((more = (int)json_array_size(data) == limit))
            break;
        object = l->row(st, l->ctx);
        if ((backwards ? json_array_insert_new(data, 0, object)
                       : json_array_append_new(data, object)) != 0)
            status = sl_fail(err, SL_ENOMEM, "out of memory for the list");
    }
    store_finish(st);
    if (status == SL_OK && !(*ret = json_pack("{s:O,s:b}", "data", data, "has_more", more)))
        status = sl_fail(err, SL_ENOMEM, "out of memory for the list");
    json_decref(data);
    return status;
}
