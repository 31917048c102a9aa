/* stmt.c - prepared statements: bind, step, read. */
#include "base/mem.h"
#include "store/store_int.h"

sl_status store_prepare(store *s, const char *sql, store_stmt **ret, sl_err *err)
{
    store_stmt *st = sl_calloc(1, sizeof *st);
    int rc;

    if (!st)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    st->s = s;
    rc = sqlite3_prepare_v2(s->db, sql, -1, &st->raw, NULL);
    if (rc != SQLITE_OK) {
        sl_free(st);
        return store_fail(s, rc, err);
    }
    SL_ASSERT(st->raw); /* empty SQL is our mistake */
    *ret = st;
    return SL_OK;
}

void store_finish(store_stmt *st)
{
    if (!st)
        return;
    sqlite3_finalize(st->raw); /* its failure was reported by the step */
    sl_free(st);
}

static void note_bind(store_stmt *st, int rc)
{
    if (st->bind_rc == SQLITE_OK)
        st->bind_rc = rc;
}

void store_bind_int(store_stmt *st, int i, int64_t value)
{
    note_bind(st, sqlite3_bind_int64(st->raw, i, value));
}

void store_bind_text(store_stmt *st, int i, const char *text, size_t len)
{
    note_bind(st, sqlite3_bind_text64(st->raw, i, text, len, SQLITE_STATIC, SQLITE_UTF8));
}

void store_bind_str(store_stmt *st, int i, const char *text)
{
    store_bind_text(st, i, text, text ? strlen(text) : 0);
}

void store_bind_blob(store_stmt *st, int i, const void *bytes, size_t len)
{
    note_bind(st, sqlite3_bind_blob64(st->raw, i, bytes, len, SQLITE_STATIC));
}

sl_status store_step(store_stmt *st, bool *ret_row, sl_err *err)
{
    int rc = st->bind_rc;

    if (rc == SQLITE_OK)
        rc = sqlite3_step(st->raw);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return store_fail(st->s, rc, err);
    *ret_row = rc == SQLITE_ROW;
    return SL_OK;
}

sl_status store_run(store_stmt *st, sl_err *err)
{
    bool row;
    sl_status status = store_step(st, &row, err);

    store_reset(st);
    return status;
}

void store_reset(store_stmt *st)
{
    sqlite3_reset(st->raw);
    sqlite3_clear_bindings(st->raw);
    st->bind_rc = SQLITE_OK;
}

int64_t store_int(store_stmt *st, int col)
{
    return sqlite3_column_int64(st->raw, col);
}

double store_double(store_stmt *st, int col)
{
    return sqlite3_column_double(st->raw, col);
}

const char *store_text(store_stmt *st, int col)
{
    const unsigned char *text = sqlite3_column_text(st->raw, col);

    return text ? (const char *)text : "";
}

sl_span store_bytes(store_stmt *st, int col)
{
    const void *bytes = sqlite3_column_blob(st->raw, col); /* before the length: it may convert */

    return sl_span_of(bytes, (size_t)sqlite3_column_bytes(st->raw, col));
}

int64_t store_last_id(store *s)
{
    return sqlite3_last_insert_rowid(s->db);
}

int64_t store_changes(store *s)
{
    return sqlite3_changes64(s->db);
}
