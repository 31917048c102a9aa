/* watch.c - the thread beside the gate: sees what other processes changed, writes last uses,
 * forgets old sessions. It is the only one that does so without being asked. */
#include "access/access_int.h"

#include "base/log.h"
#include "base/thread.h"

#define USES_MS  5000
#define PRUNE_MS (3600 * 1000)

/* PRAGMA data_version changes when another connection wrote; the generation when what it wrote
 * concerns the gate. */
static sl_status look(access_control *a, sl_err *err)
{
    access_index *ix = index_ref(a);
    int64_t version = a->data_version, generation = ix ? ix->generation : 0, now = generation;
    sl_status status = db_int(a->db, err, "PRAGMA data_version", NULL, &version);

    index_unref(ix);
    if (status != SL_OK || version == a->data_version)
        return status;
    SL_TRY(db_int(a->db, err, "SELECT value FROM meta WHERE name = ?", "generation", &now));
    if (now != generation)
        SL_TRY(index_reload(a, err));
    a->data_version = version;
    return SL_OK;
}

sl_status watch_once(access_control *a, sl_err *err)
{
    sl_status status;

    store_lock(a->db);
    status = look(a, err);
    store_unlock(a->db);
    return status;
}

static void do_locked(access_control *a, sl_status (*fn)(access_control *a, sl_err *err),
                      const char *what)
{
    sl_err err = { 0 };
    sl_status status;

    store_lock(a->db);
    status = fn(a, &err);
    store_unlock(a->db);
    if (status != SL_OK)
        SL_LOG(SL_LOG_WARN, "access.watch", SL_F_STR("doing", what), SL_F_STR("error", err.text));
}

/* Waits for the next round. False: it is time to end. */
static bool wait_round(access_control *a)
{
    int64_t until_ns = sl_clock_mono_ns() + (int64_t)a->poll_ms * 1000000;
    bool stop;

    pthread_mutex_lock(&a->wake_lock);
    while (!a->stop && sl_cond_wait_until(&a->wake, &a->wake_lock, until_ns))
        continue;
    stop = a->stop;
    pthread_mutex_unlock(&a->wake_lock);
    return !stop;
}

static void *run(void *ctx)
{
    access_control *a = ctx;
    int64_t uses_ms = 0, prune_ms = PRUNE_MS; /* the first prune comes at once */

    while (wait_round(a)) {
        do_locked(a, look, "look");
        uses_ms += a->poll_ms;
        prune_ms += a->poll_ms;
        if (uses_ms >= USES_MS) {
            uses_ms = 0;
            do_locked(a, index_write_uses, "write uses");
        }
        if (prune_ms >= PRUNE_MS) {
            prune_ms = 0;
            do_locked(a, session_prune, "prune");
        }
    }
    do_locked(a, index_write_uses, "write uses");
    return NULL;
}

sl_status watch_start(access_control *a, sl_err *err)
{
    if (pthread_create(&a->watcher, NULL, run, a) != 0)
        return sl_fail(err, SL_ENOMEM, "cannot start a thread for access");
    a->has_watcher = true;
    return SL_OK;
}

void watch_stop(access_control *a)
{
    if (!a->has_watcher)
        return;
    pthread_mutex_lock(&a->wake_lock);
    a->stop = true;
    pthread_cond_broadcast(&a->wake);
    pthread_mutex_unlock(&a->wake_lock);
    pthread_join(a->watcher, NULL);
    a->has_watcher = false;
}
