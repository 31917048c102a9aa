/* store.c - connection, schema versions and transactions. See the header. */
#include "store/store_int.h"

#include <pthread.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/os.h"

#define BUSY_MS 5000 /* as long as another process may hold the write lock */

sl_status store_fail(store *s, int rc, sl_err *err)
{
    const char *text = s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc);

    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return sl_fail(err, SL_EBUSY, "database %s: %s", s->path, text);
    case SQLITE_NOMEM:
        return sl_fail(err, SL_ENOMEM, "database %s: %s", s->path, text);
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return sl_fail(err, SL_EFORMAT, "database %s: %s", s->path, text);
    case SQLITE_TOOBIG:
        return sl_fail(err, SL_ELIMIT, "database %s: %s", s->path, text);
    case SQLITE_CONSTRAINT:
        return sl_fail(err, SL_ECONFLICT, "database %s: %s", s->path, text);
    default:
        return sl_fail(err, SL_EIO, "database %s: %s", s->path, text);
    }
}

sl_status store_exec(store *s, const char *sql, sl_err *err)
{
    int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? SL_OK : store_fail(s, rc, err);
}

sl_status store_begin(store *s, sl_err *err)
{
    return store_exec(s, "BEGIN IMMEDIATE", err);
}

sl_status store_begin_read(store *s, sl_err *err)
{
    return store_exec(s, "BEGIN", err);
}

sl_status store_commit(store *s, sl_err *err)
{
    sl_status status = store_exec(s, "COMMIT", err);

    if (status != SL_OK)
        store_rollback(s);
    return status;
}

void store_rollback(store *s)
{
    if (!sqlite3_get_autocommit(s->db))
        (void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
}

static sl_status read_version(store *s, int64_t *ret, sl_err *err)
{
    store_stmt *st;
    bool row = false;
    sl_status status;

    SL_TRY(store_prepare(s, "PRAGMA user_version", &st, err));
    status = store_step(st, &row, err);
    *ret = row ? store_int(st, 0) : 0;
    store_finish(st);
    return status;
}

/* One step of the schema. The version is read again inside the write lock: another process may have
 * migrated meanwhile. */
static sl_status migrate_one(store *s, const char *const *migrations, int count, bool *ret_done,
                             sl_err *err)
{
    int64_t version = 0;
    char sql[64];
    sl_status status;

    SL_TRY(store_begin(s, err));
    status = read_version(s, &version, err);
    if (status == SL_OK && version > count)
        status = sl_fail(err, SL_ECONFLICT,
                         "database %s has schema %lld, this program knows %d; use a newer program",
                         s->path, (long long)version, count);
    *ret_done = version >= count;
    if (status == SL_OK && !*ret_done) {
        snprintf(sql, sizeof sql, "PRAGMA user_version = %lld", (long long)version + 1);
        status = store_exec(s, migrations[version], err);
        if (status == SL_OK)
            status = store_exec(s, sql, err);
    }
    if (status != SL_OK) {
        store_rollback(s);
        return status;
    }
    return store_commit(s, err);
}

static sl_status make_directory(const char *path, sl_err *err)
{
    const char *slash = strrchr(path, '/');
    char *dir;
    sl_status status;

    if (!slash || slash == path)
        return SL_OK;
    dir = sl_strndup(path, (size_t)(slash - path));
    if (!dir)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    status = sl_mkdirs(dir, err);
    sl_free(dir);
    return status;
}

static sl_status set_up(store *s, const char *const *migrations, int count,
                        const store_tokenizer *t, sl_err *err)
{
    bool done = false;
    int rc = sqlite3_open_v2(
        s->path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);

    if (rc != SQLITE_OK)
        return store_fail(s, rc, err);
    sqlite3_busy_timeout(s->db, BUSY_MS);
    sqlite3_extended_result_codes(s->db, 1);
    SL_TRY(store_exec(s,
                      "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                      "PRAGMA foreign_keys = ON",
                      err));
    if (t)
        SL_TRY(store_add_tokenizer(s, t, err));
    while (!done)
        SL_TRY(migrate_one(s, migrations, count, &done, err));
    return SL_OK;
}

sl_status store_open(const char *path, const char *const *migrations, int migration_count,
                     store **ret, sl_err *err)
{
    return store_open_words(path, migrations, migration_count, NULL, ret, err);
}

sl_status store_open_words(const char *path, const char *const *migrations, int migration_count,
                           const store_tokenizer *t, store **ret, sl_err *err)
{
    store *s;
    sl_status status;

    if (strcmp(path, ":memory:") != 0)
        SL_TRY(make_directory(path, err));
    s = sl_calloc(1, sizeof *s);
    if (!s)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    pthread_mutex_init(&s->lock, NULL);
    s->path = sl_strdup(path);
    status = s->path ? set_up(s, migrations, migration_count, t, err)
                     : sl_fail(err, SL_ENOMEM, "out of memory");
    if (status != SL_OK) {
        store_close(s);
        return status;
    }
    *ret = s;
    return SL_OK;
}

/* After many writers a statement without a text may be left, which is none of ours: a blob handle,
 * as FTS5 (SQLite 3.40) opens to read its index. How it loses it is not known. Its tables are
 * disconnected by now, so that nobody uses it any more. */
static void finish_lost_readers(sqlite3 *db)
{
    sqlite3_stmt *st = sqlite3_next_stmt(db, NULL);

    while (st) {
        sqlite3_stmt *next = sqlite3_next_stmt(db, st);

        SL_ASSERT(!sqlite3_sql(st)); /* a statement of ours was left open */
        sqlite3_finalize(st);
        st = next;
    }
}

void store_close(store *s)
{
    int rc;

    if (!s)
        return;
    rc = sqlite3_close(s->db);
    if (rc == SQLITE_BUSY) {
        finish_lost_readers(s->db);
        rc = sqlite3_close(s->db);
    }
    SL_ASSERT(rc == SQLITE_OK);
    pthread_mutex_destroy(&s->lock);
    sl_free(s->path);
    sl_free(s);
}

void store_lock(store *s)
{
    pthread_mutex_lock(&s->lock);
}

void store_unlock(store *s)
{
    SL_ASSERT_SLOW(sqlite3_get_autocommit(s->db)); /* no transaction outlives the lock */
    pthread_mutex_unlock(&s->lock);
}
