/* limit_sqlite.c - the store of counters that is a file: one row for each subject and meter. */
#include "access/limit_store.h"

#include <stdatomic.h>

#include "base/mem.h"
#include "store/store.h"

#define COMMITS_MAX 200 /* a few hundred pages, before they go from the log into the file */

typedef struct file {
    store *db;
    /* A connection of its own that brings the write-ahead log into the file, which waits for the
     * disk: on the first one it would happen within a take, and all requests would wait for it. */
    store *tidier;
    atomic_int commits; /* since then */
    store_stmt *save, *load;
    bool is_batch; /* between begin and end: the database is locked, in a transaction */
    bool is_open;  /* the batch's transaction could be begun */
} file;

static const char *const migrations[] = {
    "CREATE TABLE counters (subject TEXT NOT NULL, meter INTEGER NOT NULL, win INTEGER NOT NULL,"
    " mark INTEGER NOT NULL, PRIMARY KEY (subject, meter)) WITHOUT ROWID",
};

/* The database is locked. */
static sl_status read_totals(file *f, const char *subject, limit_total *ret, size_t *ret_count,
                             sl_err *err)
{
    bool row = false;
    size_t count = 0;
    sl_status status;

    store_bind_str(f->load, 1, subject);
    while ((status = store_step(f->load, &row, err)) == SL_OK && row && count < LIMIT_METERS_MAX) {
        ret[count++] = (limit_total){ .meter = (int)store_int(f->load, 0),
                                      .window = store_int(f->load, 1),
                                      .total = store_int(f->load, 2) };
    }
    store_reset(f->load);
    if (status == SL_OK)
        *ret_count = count;
    return status;
}

static sl_status file_load(void *ctx, const char *subject, limit_total *ret, size_t *ret_count,
                           sl_err *err)
{
    file *f = ctx;
    sl_status status;

    store_lock(f->db);
    status = read_totals(f, subject, ret, ret_count, err);
    store_unlock(f->db);
    return status;
}

static int64_t total_of(const limit_total *have, size_t count, const limit_take *t)
{
    for (size_t i = 0; i < count; i++)
        if (have[i].meter == t->meter && have[i].window == t->window)
            return have[i].total;
    return 0;
}

static sl_status write_takes(file *f, const char *subject, limit_take *takes, size_t count,
                             sl_err *err)
{
    limit_total have[LIMIT_METERS_MAX];
    size_t have_count = 0;

    SL_TRY(read_totals(f, subject, have, &have_count, err));
    for (size_t i = 0; i < count; i++) {
        limit_take *t = &takes[i];
        int64_t before = total_of(have, have_count, t), room = SL_MAX(t->limit - before, 0);

        t->granted = t->amount < 0 ? -SL_MIN(-t->amount, before) : SL_MIN(t->amount, room);
        t->total = before + t->granted;
        store_bind_str(f->save, 1, subject);
        store_bind_int(f->save, 2, t->meter);
        store_bind_int(f->save, 3, t->window);
        store_bind_int(f->save, 4, t->total);
        SL_TRY(store_run(f->save, err));
    }
    return SL_OK;
}

static sl_status file_take(void *ctx, const char *subject, limit_take *takes, size_t count,
                           sl_err *err)
{
    file *f = ctx;
    sl_status status;

    if (f->is_batch)
        return f->is_open ? write_takes(f, subject, takes, count, err)
                          : sl_fail(err, SL_EBUSY, "the counters are locked");
    store_lock(f->db);
    status = store_begin(f->db, err);
    if (status == SL_OK)
        status = write_takes(f, subject, takes, count, err);
    if (status == SL_OK)
        status = store_commit(f->db, err);
    else
        store_rollback(f->db);
    store_unlock(f->db);
    atomic_fetch_add(&f->commits, 1);
    return status;
}

static void file_begin(void *ctx)
{
    file *f = ctx;
    sl_err ignored;

    store_lock(f->db);
    f->is_batch = true;
    f->is_open = store_begin(f->db, &ignored) == SL_OK;
}

static sl_status file_end(void *ctx, sl_err *err)
{
    file *f = ctx;
    sl_status status = f->is_open ? store_commit(f->db, err) : SL_OK; /* takes said so */

    f->is_batch = f->is_open = false;
    store_unlock(f->db);
    atomic_fetch_add(&f->commits, 1);
    return status;
}

static void file_tidy(void *ctx)
{
    file *f = ctx;
    sl_err ignored; /* it is tried again, and the log only grows meanwhile */

    if (atomic_load(&f->commits) < COMMITS_MAX)
        return;
    store_lock(f->tidier);
    if (store_exec(f->tidier, "PRAGMA wal_checkpoint(PASSIVE)", &ignored) == SL_OK)
        atomic_store(&f->commits, 0);
    store_unlock(f->tidier);
}

static void file_close(void *ctx)
{
    file *f = ctx;

    if (f->db) {
        store_lock(f->db);
        store_finish(f->save);
        store_finish(f->load);
        store_unlock(f->db);
    }
    store_close(f->tidier);
    store_close(f->db);
    sl_free(f);
}

static sl_status prepare(file *f, sl_err *err)
{
    /* A killed process loses nothing that was committed; a power cut may take the last second. */
    SL_TRY(store_exec(f->db, "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0", err));
    SL_TRY(store_prepare(f->db,
                         "INSERT INTO counters VALUES (?, ?, ?, ?) ON CONFLICT (subject, "
                         "meter) DO UPDATE SET win = excluded.win, mark = excluded.mark",
                         &f->save, err));
    return store_prepare(f->db, "SELECT meter, win, mark FROM counters WHERE subject = ?", &f->load,
                         err);
}

sl_status limit_sqlite_open(const char *path, limit_store *ret, sl_err *err)
{
    static const limit_store_ops ops = { .name = "sqlite",
                                         .load = file_load,
                                         .take = file_take,
                                         .begin = file_begin,
                                         .end = file_end,
                                         .tidy = file_tidy,
                                         .close = file_close };
    file *f = sl_calloc(1, sizeof *f);
    sl_status status;

    if (!f)
        return sl_fail(err, SL_ENOMEM, "limits");
    status = store_open(path, migrations, SL_COUNT_OF(migrations), &f->db, err);
    if (status == SL_OK)
        status = store_open(path, migrations, SL_COUNT_OF(migrations), &f->tidier, err);
    if (status == SL_OK) {
        store_lock(f->db);
        status = prepare(f, err);
        store_unlock(f->db);
    }
    if (status != SL_OK) {
        file_close(f);
        return status;
    }
    *ret = (limit_store){ &ops, f };
    return SL_OK;
}
