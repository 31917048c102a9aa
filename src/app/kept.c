/* kept.c - see the header.
 *
 * Invariants: an answer is in `waiting` or `writing` until its transaction was committed, so that
 * get finds it in one of the three places at any time. A removed one is marked, and the writer
 * looks at the mark while it holds the database: it is not written after its removal. Lock order:
 * the database, then `lock`. */
#include "app/kept.h"

#include <pthread.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/os.h"
#include "store/store.h"

#define DAY_MS (24 * 3600 * 1000LL)

typedef struct entry entry;

struct entry {
    entry *next;
    char *owner, *id;
    char *bytes; /* [len] */
    size_t len;
    int64_t created_ms;
    bool removed;
};

struct kept {
    store *db;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    entry *waiting, *waiting_last; /* in order of arrival */
    entry *writing;                /* the writer's: others read it and set `removed` */
    size_t bytes;                  /* of both */
    bool stop, started;
};

static const char *const migrations[] = {
    "CREATE TABLE kept (seq INTEGER PRIMARY KEY, owner TEXT NOT NULL, id TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL, len INTEGER NOT NULL, bytes BLOB NOT NULL,"
    " UNIQUE (owner, id));"
    "CREATE INDEX kept_sizes ON kept (owner, seq, len);" /* all that trim looks at */
    "CREATE INDEX kept_created ON kept (created_ms);",
};

static void entry_destroy(entry *e)
{
    if (!e)
        return;
    sl_free(e->owner);
    sl_free(e->id);
    sl_free(e->bytes);
    sl_free(e);
}

static entry *find(entry *list, const char *owner, const char *id)
{
    for (; list; list = list->next)
        if (strcmp(list->id, id) == 0 && strcmp(list->owner, owner) == 0)
            return list;
    return NULL;
}

/* ---- writing ------------------------------------------------------------------------------- */

/* Forgets what an owner has too much of: the oldest. */
static sl_status trim(store *db, const char *owner, sl_err *err)
{
    store_stmt *st = NULL;
    sl_status status;

    SL_TRY(store_prepare(db,
                         "DELETE FROM kept WHERE owner = ?1 AND seq IN (SELECT seq FROM (SELECT"
                         " seq, count(*) OVER w AS n, sum(len) OVER w AS total FROM kept"
                         " WHERE owner = ?1 WINDOW w AS (ORDER BY seq DESC))"
                         " WHERE n > ?2 OR total > ?3)",
                         &st, err));
    store_bind_str(st, 1, owner);
    store_bind_int(st, 2, SL_RESPONSES_MAX);
    store_bind_int(st, 3, (int64_t)SL_RESPONSES_BYTES_MAX);
    status = store_run(st, err);
    store_finish(st);
    return status;
}

static sl_status forget_old(store *db, int64_t now_ms, sl_err *err)
{
    store_stmt *st = NULL;
    sl_status status;

    SL_TRY(store_prepare(db, "DELETE FROM kept WHERE created_ms < ?", &st, err));
    store_bind_int(st, 1, now_ms - SL_RESPONSE_DAYS * DAY_MS);
    status = store_run(st, err);
    store_finish(st);
    return status;
}

static sl_status insert(store_stmt *st, const entry *e, sl_err *err)
{
    store_bind_str(st, 1, e->owner);
    store_bind_str(st, 2, e->id);
    store_bind_int(st, 3, e->created_ms);
    store_bind_int(st, 4, (int64_t)e->len);
    store_bind_blob(st, 5, e->bytes, e->len);
    return store_run(st, err);
}

static bool is_removed(kept *k, const entry *e)
{
    bool removed;

    pthread_mutex_lock(&k->lock);
    removed = e->removed;
    pthread_mutex_unlock(&k->lock);
    return removed;
}

/* With the database locked. */
static sl_status write_list(kept *k, const entry *list, sl_err *err)
{
    store_stmt *st = NULL;
    sl_status status = store_begin(k->db, err);

    if (status == SL_OK)
        status = store_prepare(k->db,
                               "INSERT OR REPLACE INTO kept (owner, id, created_ms, len, bytes)"
                               " VALUES (?, ?, ?, ?, ?)",
                               &st, err);
    for (const entry *e = list; e && status == SL_OK; e = e->next) {
        if (is_removed(k, e))
            continue;
        status = insert(st, e, err);
        if (status == SL_OK && (!e->next || strcmp(e->next->owner, e->owner) != 0))
            status = trim(k->db, e->owner, err);
    }
    store_finish(st);
    if (status == SL_OK)
        status = forget_old(k->db, sl_clock_wall_ms(), err);
    if (status == SL_OK)
        return store_commit(k->db, err);
    store_rollback(k->db);
    return status;
}

/* Takes all that waits; false when there is nothing and the end was asked for. */
static bool take_waiting(kept *k)
{
    pthread_mutex_lock(&k->lock);
    while (!k->waiting && !k->stop)
        pthread_cond_wait(&k->wake, &k->lock);
    k->writing = k->waiting;
    k->waiting = k->waiting_last = NULL;
    pthread_mutex_unlock(&k->lock);
    return k->writing != NULL;
}

static void drop_written(kept *k)
{
    entry *list;

    pthread_mutex_lock(&k->lock);
    list = k->writing;
    k->writing = NULL;
    for (const entry *e = list; e; e = e->next)
        k->bytes -= e->len;
    pthread_mutex_unlock(&k->lock);
    while (list) {
        entry *next = list->next;

        entry_destroy(list);
        list = next;
    }
}

static void *write_main(void *ctx)
{
    kept *k = ctx;

    while (take_waiting(k)) {
        sl_err err = { 0 };
        sl_status status;

        store_lock(k->db);
        status = write_list(k, k->writing, &err);
        store_unlock(k->db);
        if (status != SL_OK) /* those answers cannot be continued */
            SL_LOG(SL_LOG_ERROR, "responses.not_written", SL_F_STR("error", err.text));
        drop_written(k);
    }
    return NULL;
}

/* ---- what others call ---------------------------------------------------------------------- */

static sl_status put(void *ctx, const char *owner, const char *id, sl_span bytes, sl_err *err)
{
    kept *k = ctx;
    entry *e = sl_calloc(1, sizeof *e);
    bool full = false;

    if (!e || !(e->owner = sl_strdup(owner)) || !(e->id = sl_strdup(id)) ||
        !(e->bytes = sl_strndup((const char *)bytes.ptr, bytes.len))) {
        entry_destroy(e);
        return sl_fail(err, SL_ENOMEM, "out of memory");
    }
    e->len = bytes.len;
    e->created_ms = sl_clock_wall_ms();
    pthread_mutex_lock(&k->lock);
    full = k->stop || k->bytes + e->len > SL_RESPONSES_UNWRITTEN_MAX;
    if (!full) {
        if (k->waiting_last)
            k->waiting_last->next = e;
        else
            k->waiting = e;
        k->waiting_last = e;
        k->bytes += e->len;
        pthread_cond_signal(&k->wake);
    }
    pthread_mutex_unlock(&k->lock);
    if (!full)
        return SL_OK;
    entry_destroy(e);
    return sl_fail(err, SL_EBUSY, "the disk does not keep up");
}

static entry *find_unwritten(kept *k, const char *owner, const char *id)
{
    entry *e = find(k->waiting, owner, id);

    return e ? e : find(k->writing, owner, id);
}

static sl_status read_row(store *db, const char *owner, const char *id, sl_buf *out, sl_err *err)
{
    store_stmt *st = NULL;
    bool row = false;
    sl_status status;

    SL_TRY(store_prepare(db, "SELECT bytes FROM kept WHERE owner = ? AND id = ?", &st, err));
    store_bind_str(st, 1, owner);
    store_bind_str(st, 2, id);
    status = store_step(st, &row, err);
    if (status == SL_OK && !row)
        status = sl_fail(err, SL_ENOTFOUND, "nothing is kept as '%.64s'", id);
    if (status == SL_OK) {
        sl_span bytes = store_bytes(st, 0);

        sl_buf_put(out, bytes.ptr, bytes.len);
        status = sl_buf_ok(out, "kept response", err);
    }
    store_finish(st);
    return status;
}

static sl_status get(void *ctx, const char *owner, const char *id, sl_buf *out, sl_err *err)
{
    kept *k = ctx;
    sl_status status = SL_OK;
    const entry *e;

    pthread_mutex_lock(&k->lock);
    e = find_unwritten(k, owner, id);
    if (e && e->removed)
        status = sl_fail(err, SL_ENOTFOUND, "nothing is kept as '%.64s'", id);
    else if (e)
        sl_buf_put(out, e->bytes, e->len);
    pthread_mutex_unlock(&k->lock);
    if (e)
        return status == SL_OK ? sl_buf_ok(out, "kept response", err) : status;
    store_lock(k->db);
    status = read_row(k->db, owner, id, out, err);
    store_unlock(k->db);
    return status;
}

static sl_status remove_row(store *db, const char *owner, const char *id, int64_t *ret_count,
                            sl_err *err)
{
    store_stmt *st = NULL;
    sl_status status;

    SL_TRY(store_prepare(db, "DELETE FROM kept WHERE owner = ? AND id = ?", &st, err));
    store_bind_str(st, 1, owner);
    store_bind_str(st, 2, id);
    status = store_run(st, err);
    *ret_count = store_changes(db);
    store_finish(st);
    return status;
}

static sl_status remove_entry(void *ctx, const char *owner, const char *id, sl_err *err)
{
    kept *k = ctx;
    bool found = false;
    int64_t rows = 0;
    sl_status status;
    entry *e;

    pthread_mutex_lock(&k->lock);
    e = find_unwritten(k, owner, id);
    if (e) {
        found = !e->removed;
        e->removed = true;
    }
    pthread_mutex_unlock(&k->lock);
    store_lock(k->db);
    status = remove_row(k->db, owner, id, &rows, err);
    store_unlock(k->db);
    if (status == SL_OK && !found && rows == 0)
        status = sl_fail(err, SL_ENOTFOUND, "nothing is kept as '%.64s'", id);
    return status;
}

api_kept kept_responses(kept *k)
{
    static const api_kept_ops ops = { put, get, remove_entry };

    return (api_kept){ &ops, k };
}

/* ---- life ---------------------------------------------------------------------------------- */

sl_status kept_open(const char *path, kept **ret, sl_err *err)
{
    kept *k = sl_calloc(1, sizeof *k);
    sl_status status;

    if (!k)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    pthread_mutex_init(&k->lock, NULL);
    pthread_cond_init(&k->wake, NULL);
    status = store_open(path, migrations, SL_COUNT_OF(migrations), &k->db, err);
    if (status == SL_OK && pthread_create(&k->thread, NULL, write_main, k) != 0)
        status = sl_fail(err, SL_ENOMEM, "a thread for responses");
    k->started = status == SL_OK;
    if (status == SL_OK)
        *ret = k;
    else
        kept_close(k);
    return status;
}

void kept_close(kept *k)
{
    if (!k)
        return;
    if (k->started) {
        pthread_mutex_lock(&k->lock);
        k->stop = true;
        pthread_cond_signal(&k->wake);
        pthread_mutex_unlock(&k->lock);
        pthread_join(k->thread, NULL);
    }
    store_close(k->db);
    pthread_cond_destroy(&k->wake);
    pthread_mutex_destroy(&k->lock);
    sl_free(k);
}
