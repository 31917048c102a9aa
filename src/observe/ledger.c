/* ledger.c - records into the journal and the database.
 *
 * Invariant, under the lock: `waiting[f]` counts the records of journal file f that are not in the
 * database; a file is cleared only at 0, and only while it is not appended to. */
#include "observe/ledger_int.h"

#include <stdio.h>
#include <time.h>

#include "base/log.h"
#include "base/os.h"
#include "base/thread.h"

#define ENTRIES_MAX 100000 /* waiting in memory, while the database is slow or failing */
#define DAY_MS      ((int64_t)86400000)
#define KEEP_DAYS   90
#define HOUR_S      3600
#define RETRY_MS    1000
#define GATHER_MS   200  /* records of so long share a transaction */
#define GATHER_MAX  2000 /* or so many */
#define STRIDE      16   /* records between two breaths of the writer */
#define BREATH_NS   50000

static const char *const migrations[] = {
    "CREATE TABLE usage (id TEXT PRIMARY KEY, at INTEGER NOT NULL, key TEXT NOT NULL,"
    " user TEXT NOT NULL, team TEXT NOT NULL, model TEXT NOT NULL, route TEXT NOT NULL,"
    " outcome TEXT NOT NULL, embedding INTEGER NOT NULL, fresh INTEGER NOT NULL,"
    " cached INTEGER NOT NULL, output INTEGER NOT NULL, reasoning INTEGER NOT NULL,"
    " queue INTEGER NOT NULL, prefill INTEGER NOT NULL, decode INTEGER NOT NULL,"
    " cost INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX usage_at ON usage (at);"
    "CREATE TABLE usage_daily (at INTEGER NOT NULL, key TEXT NOT NULL, user TEXT NOT NULL,"
    " team TEXT NOT NULL, model TEXT NOT NULL, route TEXT NOT NULL, outcome TEXT NOT NULL,"
    " embedding INTEGER NOT NULL, requests INTEGER NOT NULL, fresh INTEGER NOT NULL,"
    " cached INTEGER NOT NULL, output INTEGER NOT NULL, reasoning INTEGER NOT NULL,"
    " queue INTEGER NOT NULL, prefill INTEGER NOT NULL, decode INTEGER NOT NULL,"
    " cost INTEGER NOT NULL,"
    " PRIMARY KEY (at, key, user, team, model, route, outcome, embedding)) WITHOUT ROWID;",
    /* One tree instead of two: by time, which is how records come and how they are asked for. */
    "CREATE TABLE usage_by_time (id TEXT NOT NULL, at INTEGER NOT NULL, key TEXT NOT NULL,"
    " user TEXT NOT NULL, team TEXT NOT NULL, model TEXT NOT NULL, route TEXT NOT NULL,"
    " outcome TEXT NOT NULL, embedding INTEGER NOT NULL, fresh INTEGER NOT NULL,"
    " cached INTEGER NOT NULL, output INTEGER NOT NULL, reasoning INTEGER NOT NULL,"
    " queue INTEGER NOT NULL, prefill INTEGER NOT NULL, decode INTEGER NOT NULL,"
    " cost INTEGER NOT NULL, PRIMARY KEY (at, id)) WITHOUT ROWID;"
    "INSERT INTO usage_by_time SELECT * FROM usage ORDER BY at, id;"
    "DROP TABLE usage;"
    "ALTER TABLE usage_by_time RENAME TO usage;",
};

/* ---- the database -------------------------------------------------------------------------- */

static sl_status insert(store_stmt *st, const ledger_record *r, sl_err *err)
{
    const int64_t numbers[] = { r->is_embedding,  r->tokens.fresh,     r->tokens.cached,
                                r->tokens.output, r->tokens.reasoning, r->queue_us,
                                r->prefill_us,    r->decode_us,        r->cost_nusd };
    int at = 1;

    store_bind_str(st, at++, r->id);
    store_bind_int(st, at++, r->end_ms);
    for (int i = 0; i < LLM_USAGE_COLUMN_COUNT; i++)
        store_bind_str(st, at++, r->columns[i]);
    for (size_t i = 0; i < SL_COUNT_OF(numbers); i++)
        store_bind_int(st, at++, numbers[i]);
    return store_run(st, err);
}

#define INSERT "INSERT OR IGNORE INTO usage VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"

/* Lets go of the processor. A niced thread that is not interrupted keeps it for milliseconds while
 * threads that answer requests wait, since the kernel owes it the time it did not get before. */
static void breathe(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = BREATH_NS }, NULL);
}

/* All of them or none. Not brisk: behind everybody else. */
static sl_status write_batch(ledger *l, const entry *first, bool is_brisk, sl_err *err)
{
    store_stmt *st = NULL;
    sl_status status;
    size_t count = 0;

    store_lock(l->db);
    status = store_begin(l->db, err);
    if (status == SL_OK)
        status = store_prepare(l->db, INSERT, &st, err);
    for (const entry *e = first; e && status == SL_OK; e = e->next) {
        if (!is_brisk && ++count % STRIDE == 0)
            breathe();
        status = insert(st, &e->r, err);
    }
    store_finish(st);
    if (status == SL_OK)
        status = store_commit(l->db, err);
    else
        store_rollback(l->db);
    store_unlock(l->db);
    return status;
}

sl_status ledger_roll_up(ledger *l, int64_t now_ms, sl_err *err)
{
    int64_t before = (now_ms / DAY_MS - (l->o.keep_days > 0 ? l->o.keep_days : KEEP_DAYS)) * DAY_MS;
    char sum[700], forget[80];
    sl_status status;

    snprintf(
        sum, sizeof sum,
        "INSERT INTO usage_daily SELECT at / %lld * %lld AS day, key, user, team, model, route,"
        " outcome, embedding, count(*), sum(fresh), sum(cached), sum(output), sum(reasoning),"
        " sum(queue), sum(prefill), sum(decode), sum(cost) FROM usage WHERE at < %lld"
        " GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ON CONFLICT DO UPDATE SET requests = requests +"
        " excluded.requests, fresh = fresh + excluded.fresh, cached = cached + excluded.cached,"
        " output = output + excluded.output, reasoning = reasoning + excluded.reasoning,"
        " queue = queue + excluded.queue, prefill = prefill + excluded.prefill,"
        " decode = decode + excluded.decode, cost = cost + excluded.cost",
        (long long)DAY_MS, (long long)DAY_MS, (long long)before);
    snprintf(forget, sizeof forget, "DELETE FROM usage WHERE at < %lld", (long long)before);
    store_lock(l->db);
    status = store_begin(l->db, err);
    if (status == SL_OK)
        status = store_exec(l->db, sum, err);
    if (status == SL_OK)
        status = store_exec(l->db, forget, err);
    if (status == SL_OK)
        status = store_commit(l->db, err);
    else
        store_rollback(l->db);
    store_unlock(l->db);
    return status;
}

/* ---- the writer's thread ------------------------------------------------------------------- */

/* Frees what was written; how many of it each journal file has. */
static void free_entries(entry *e, int64_t ret_count[2])
{
    while (e) {
        entry *next = e->next;

        ret_count[e->journal]++;
        sl_free(e);
        e = next;
    }
}

/* Files whose records have all arrived are forgotten. The lock is held, and let go meanwhile: a
 * file that is being cleared is not the active one and does not count as empty, so that nobody
 * appends to it, and requests do not wait for the file system. */
static void clear_files(ledger *l)
{
    journal *j = &l->journal;

    for (int f = 0; f < 2; f++) {
        if (l->waiting[f] > 0 || j->bytes[f] == 0 || l->overflow[f])
            continue;
        if (j->active == f && j->bytes[!f] > 0)
            continue;
        j->active = !f;
        pthread_mutex_unlock(&l->lock);
        journal_clear(j, f);
        pthread_mutex_lock(&l->lock);
        j->bytes[f] = 0;
    }
}

/* Waits for records, for the end, or for `ms`. The lock is held. */
static void wait_for_work(ledger *l, int64_t ms)
{
    (void)sl_cond_wait_until(&l->wake, &l->lock, sl_clock_mono_ns() + ms * 1000000);
}

/* Lets more records come while one transaction follows the other, since each costs as much as many
 * records; the journal has them already. The lock is held. */
static void gather(ledger *l)
{
    int64_t until_ns = l->wrote_ns + (int64_t)GATHER_MS * 1000000;

    while (!l->stop && !l->hurry && l->waiting[0] + l->waiting[1] < GATHER_MAX &&
           sl_cond_wait_until(&l->wake, &l->lock, until_ns)) {
    }
}

/* The lock is held, and let go meanwhile. False: the records stay first in the queue. */
static bool write_waiting(ledger *l, bool was_failing)
{
    entry *batch = l->first, *last = l->last;
    /* Somebody waits for it, or there is time enough: the batch did not fill. */
    bool is_brisk = l->hurry || l->stop || l->waiting[0] + l->waiting[1] < GATHER_MAX;
    int64_t count[2] = { 0 };
    sl_status status;
    sl_err err;

    l->first = l->last = NULL;
    pthread_mutex_unlock(&l->lock);
    status = write_batch(l, batch, is_brisk, &err);
    if (status != SL_OK && !was_failing)
        SL_LOG(SL_LOG_ERROR, "usage.not_written", SL_F_STR("error", err.text),
               SL_F_STR("effect", "records stay in the journal until it works again"));
    if (status == SL_OK)
        free_entries(batch, count);
    pthread_mutex_lock(&l->lock);
    l->is_failing = status != SL_OK;
    for (int f = 0; f < 2; f++) {
        l->waiting[f] -= count[f];
        l->written += count[f];
    }
    pthread_cond_broadcast(&l->settled);
    if (status == SL_OK) {
        clear_files(l);
        return true;
    }
    last->next = l->first;
    l->first = batch;
    if (!l->last)
        l->last = last;
    return false;
}

static void *writer_main(void *arg)
{
    ledger *l = arg;
    time_t rolled = 0;
    bool ok = true;

    sl_thread_yield_to_others(); /* nobody waits for it but reports */
    pthread_mutex_lock(&l->lock);
    while (!l->stop || (l->first && ok)) {
        if (l->first && (ok || !l->stop)) {
            gather(l);
            ok = write_waiting(l, !ok);
            l->wrote_ns = sl_clock_mono_ns();
        }
        if (!l->stop && time(NULL) - rolled >= HOUR_S) {
            sl_err err;

            rolled = time(NULL);
            pthread_mutex_unlock(&l->lock);
            if (ledger_roll_up(l, sl_clock_wall_ms(), &err) != SL_OK)
                SL_LOG(SL_LOG_ERROR, "usage.not_rolled_up", SL_F_STR("error", err.text));
            pthread_mutex_lock(&l->lock);
        }
        if (!l->stop && (!l->first || !ok))
            wait_for_work(l, ok ? HOUR_S * 1000 : RETRY_MS);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- adding -------------------------------------------------------------------------------- */

static const char *keep(char **at, const char *text)
{
    char *start = *at;
    size_t bytes = strlen(text) + 1;

    memcpy(start, text, bytes);
    *at += bytes;
    return start;
}

/* A copy with its strings behind it; NULL: out of memory. */
static entry *entry_create(const ledger_record *r)
{
    size_t bytes = strlen(r->id) + 1;
    entry *e;
    char *at;

    for (int i = 0; i < LLM_USAGE_COLUMN_COUNT; i++)
        bytes += strlen(r->columns[i]) + 1;
    e = sl_malloc(sizeof *e + bytes);
    if (!e)
        return NULL;
    *e = (entry){ .r = *r };
    at = (char *)(e + 1);
    e->r.id = keep(&at, r->id);
    for (int i = 0; i < LLM_USAGE_COLUMN_COUNT; i++)
        e->r.columns[i] = keep(&at, r->columns[i]);
    return e;
}

void ledger_add(ledger *l, const ledger_record *r)
{
    entry *e = entry_create(r);
    bool is_kept;

    pthread_mutex_lock(&l->lock);
    is_kept = journal_append(&l->journal, r);
    if (e && l->waiting[0] + l->waiting[1] < ENTRIES_MAX) {
        e->journal = l->journal.active;
        l->waiting[e->journal]++;
        if (!l->first || l->waiting[0] + l->waiting[1] == GATHER_MAX)
            pthread_cond_signal(&l->wake);
        if (l->last)
            l->last->next = e;
        else
            l->first = e;
        l->last = e;
        l->added++;
        e = NULL;
    } else {
        l->overflow[l->journal.active] = true; /* the next start reads it from the journal */
        atomic_fetch_add(&l->unwritten, 1);
    }
    pthread_mutex_unlock(&l->lock);
    if (!is_kept)
        SL_LOG(SL_LOG_ERROR, "usage.not_journaled", SL_F_STR("request_id", r->id));
    sl_free(e);
}

void ledger_settle(ledger *l)
{
    int64_t until;

    pthread_mutex_lock(&l->lock);
    until = l->added;
    l->hurry++;
    pthread_cond_signal(&l->wake);
    while (l->written < until && !l->is_failing)
        pthread_cond_wait(&l->settled, &l->lock);
    l->hurry--;
    pthread_mutex_unlock(&l->lock);
}

int64_t ledger_unwritten(const ledger *l)
{
    return atomic_load(&l->unwritten);
}

/* ---- the stage ----------------------------------------------------------------------------- */

typedef struct note {
    char id[80]; /* what makes it unique, and the request's id, which its caller may have chosen */
    llm_finish finish;
    bool failed;
} note;

static llm_verdict on_admit(void *ctx, llm_request *req, const llm_demand *demand, sl_err *err)
{
    note *n = sl_arena_alloc(&req->arena, sizeof *n);
    unsigned char unique[8];

    req->record = n;
    if (!n) {
        err->status = sl_fail(err, SL_ENOMEM, "out of memory for the usage record");
        return LLM_REFUSE;
    }
    sl_random_bytes(unique, sizeof unique);
    sl_hex(unique, sizeof unique, n->id);
    snprintf(n->id + 2 * sizeof unique, sizeof n->id - 2 * sizeof unique, "#%s", req->id);
    return LLM_PASS;
}

static llm_verdict on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    note *n = req->record;

    if (n && ev->kind == LLM_EV_ERROR)
        n->failed = true;
    if (n && ev->kind == LLM_EV_FINISH && n->finish == LLM_FINISH_NONE)
        n->finish = ev->finish;
    return LLM_PASS;
}

static const char *outcome_of(const llm_request *req)
{
    const note *n = req->record;

    if (n->failed)
        return "error";
    if (atomic_load(&req->cancelled) || n->finish == LLM_FINISH_CANCELLED)
        return "cancelled";
    return n->finish == LLM_FINISH_LENGTH ? "length" : "stop";
}

static void on_done(void *ctx, const llm_request *req, const llm_usage *u)
{
    ledger *l = ctx;
    const llm_caller *c = req->caller;
    const note *n = req->record;
    ledger_record r = {
        .id = n->id,
        .end_ms = sl_clock_wall_ms(),
        .columns = { c ? c->id : "", c ? c->user : "", c ? c->team : "", req->model, req->route,
                     outcome_of(req) },
        .is_embedding = req->task == LLM_EMBED || req->task == LLM_RERANK,
        .tokens = { .fresh = u->prompt_tokens - u->cached_tokens,
                    .cached = u->cached_tokens,
                    .output = u->output_tokens },
        .queue_us = u->queue_ns / 1000,
    };

    if (u->ttft_ns > 0) {
        r.prefill_us = (u->ttft_ns - u->queue_ns) / 1000;
        r.decode_us = (u->total_ns - u->ttft_ns) / 1000;
    }
    if (l->o.cost_nusd)
        r.cost_nusd = l->o.cost_nusd(l->o.cost_ctx, req->model, &r.tokens);
    ledger_add(l, &r);
    if (l->o.on_record)
        l->o.on_record(l->o.record_ctx, &r);
}

const llm_stage_ops ledger_stage = {
    .name = "ledger", .on_admit = on_admit, .on_event = on_event, .on_done = on_done
};

llm_usage_source ledger_source(ledger *l)
{
    return (llm_usage_source){ l ? &ledger_usage_ops : NULL, l };
}

/* ---- life ---------------------------------------------------------------------------------- */

typedef struct replay {
    ledger *l;
    entry *first;
    bool failed;
} replay;

static void on_replayed(void *ctx, const ledger_record *r)
{
    replay *p = ctx;
    entry *e = entry_create(r);

    if (!e) {
        p->failed = true;
        return;
    }
    e->next = p->first;
    p->first = e;
}

static bool on_replay_end(void *ctx)
{
    replay *p = ctx;
    sl_err err;
    bool ok = !p->failed && (!p->first || write_batch(p->l, p->first, true, &err) == SL_OK);

    while (p->first) {
        entry *next = p->first->next;

        sl_free(p->first);
        p->first = next;
    }
    return ok;
}

static sl_status open_database(ledger *l, sl_err *err)
{
    sl_buf path;
    sl_status status;

    sl_buf_init(&path, 8192);
    sl_buf_printf(&path, "%s/usage.db", l->o.dir);
    status = sl_buf_ok(&path, "path", err);
    if (status == SL_OK)
        status = store_open(path.ptr, migrations, SL_COUNT_OF(migrations), &l->db, err);
    sl_buf_deinit(&path);
    if (status != SL_OK)
        return status;
    /* The journal keeps what a killed process had; a power cut may take the last second. */
    store_lock(l->db);
    status = store_exec(l->db, "PRAGMA synchronous = NORMAL", err);
    store_unlock(l->db);
    return status;
}

static sl_status set_up(ledger *l, sl_err *err)
{
    replay p = { .l = l };
    const journal_reader reader = { on_replayed, on_replay_end, &p };

    SL_TRY(open_database(l, err));
    if (l->o.only_read)
        return SL_OK;
    SL_TRY(journal_open(&l->journal, l->o.dir, &reader, err));
    if (pthread_create(&l->writer, NULL, writer_main, l) != 0)
        return sl_fail(err, SL_ENOMEM, "cannot start the ledger's thread");
    l->has_writer = true;
    return SL_OK;
}

sl_status ledger_open(const ledger_options *options, ledger **ret, sl_err *err)
{
    ledger *l = sl_calloc(1, sizeof *l);
    sl_status status;

    if (!l)
        return sl_fail(err, SL_ENOMEM, "ledger");
    l->o = *options;
    l->journal.fds[0] = l->journal.fds[1] = -1;
    pthread_mutex_init(&l->lock, NULL);
    sl_cond_init(&l->wake);
    sl_cond_init(&l->settled);
    status = set_up(l, err);
    if (status != SL_OK) {
        ledger_close(l);
        return status;
    }
    *ret = l;
    return SL_OK;
}

void ledger_close(ledger *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->lock);
    if (l->has_writer)
        pthread_join(l->writer, NULL);
    while (l->first) { /* the database failed: the journal has them */
        entry *next = l->first->next;

        sl_free(l->first);
        l->first = next;
    }
    journal_close(&l->journal);
    store_close(l->db);
    pthread_cond_destroy(&l->wake);
    pthread_cond_destroy(&l->settled);
    pthread_mutex_destroy(&l->lock);
    sl_free(l);
}
