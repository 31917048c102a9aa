/* jobs.c - the room's life, and the thread that runs batches between the requests of others.
 *
 * How lines give way: none is started while a request of somebody else is under way, and those
 * already under way have LLM_PRIORITY_IDLE: the engine lets them rest meanwhile. A batch that has
 * used most of its 24 hours may have one line under way whatever happens, at LLM_PRIORITY_BATCH, so
 * that steady traffic does not starve it. */
#include "jobs/jobs_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/log.h"

#define FILE_BYTES_MAX_DEFAULT ((int64_t)512 << 20) /* OpenAI's */
#define CONCURRENCY_DEFAULT    8
#define LOOK_MS                2000 /* for batches that other processes made */
#define SWEEP_MS               60000
#define PAUSE_MS_MIN           50 /* after a refusal, doubled by each further one */
#define PAUSE_MS_MAX           5000
#define URGENT_PART            4 /* the last quarter of the time */

int64_t jobs_now_ms(const jobs *j)
{
    return j->o.clock_ms ? j->o.clock_ms() : sl_clock_wall_ms();
}

int64_t jobs_now_s(const jobs *j)
{
    return jobs_now_ms(j) / 1000;
}

void jobs_make_id(char ret[ID_BYTES], const char *prefix)
{
    sl_random_id(ret, ID_BYTES, prefix, 12);
}

/* ---- lines ---------------------------------------------------------------------------------- */

/* A line that found no room waits, and with it its batch. */
static void put_back(jobs *j, flight *f)
{
    batch_run *r = f->owner;

    r->in_flight--;
    if (!f->is_cancelled) {
        r->pause_ms = SL_MIN(SL_MAX(r->pause_ms * 2, PAUSE_MS_MIN), PAUSE_MS_MAX);
        r->not_before_ms = jobs_now_ms(j) + SL_MAX(f->again_ms, r->pause_ms);
    }
    if (sl_grow((void **)&r->again, &r->again_cap, r->again_count + 1, sizeof *r->again,
                SL_BATCH_LINES_MAX + 1))
        r->again[r->again_count++] = f->line;
    else
        r->has_failed = true; /* read anew from the database */
    flight_free(f);
}

static void take_finished(jobs *j)
{
    flight *f = flights_take(&j->under_way);
    flight **tail = &j->unsaved;

    while (*tail)
        tail = &(*tail)->next_finished;
    while (f) {
        flight *next = f->next_finished;

        f->next_finished = NULL;
        if (f->again || f->is_cancelled) {
            put_back(j, f);
        } else {
            ((batch_run *)f->owner)->pause_ms = 0;
            *tail = f;
            tail = &f->next_finished;
        }
        f = next;
    }
}

static bool is_urgent(const jobs *j, const batch_run *r)
{
    int64_t window = r->expires_s - r->created_s;

    return jobs_now_s(j) >= r->expires_s - window / URGENT_PART;
}

static bool may_start(const jobs *j, const batch_run *r)
{
    bool has_line = r->again_count > 0 || r->next_line < r->in.count;
    int room = atomic_load(&j->live) == 0 ? j->o.concurrency : is_urgent(j, r);

    return has_line && r->is_checked && !r->is_cancelling && !r->is_ending && !r->has_failed &&
           j->under_way.count < room && jobs_now_ms(j) >= r->not_before_ms;
}

/* The body of a line that cannot be read back is answered as a failure of ours. */
static bool start_line(jobs *j, batch_run *r)
{
    size_t at = r->again_count > 0 ? r->again[--r->again_count] : r->next_line++;
    llm_line line = { .url = r->endpoint,
                      .caller = r->caller,
                      .priority = is_urgent(j, r) ? LLM_PRIORITY_BATCH : LLM_PRIORITY_IDLE };
    sl_err err = { 0 };
    sl_buf body;
    bool ok;

    sl_buf_init(&body, SL_HTTP_BODY_BYTES_MAX);
    ok = input_body(r->map.bytes, &r->in.lines[at], &body, &err) == SL_OK;
    line.body = sl_span_of(sl_buf_str(&body), body.len);
    ok = ok && flights_start(&j->under_way, r, at, &line);
    sl_buf_deinit(&body);
    if (ok)
        r->in_flight++;
    else
        r->has_failed = true;
    return ok;
}

/* One line of each batch in turn, so that a long one does not hold up the others. */
static void start_lines(jobs *j)
{
    bool started = true;

    atomic_store(&j->has_runs, j->runs != NULL); /* before `live` is looked at: see left() */
    while (started) {
        started = false;
        for (batch_run *r = j->runs; r; r = r->next) {
            while (r->next_line < r->in.count && r->in.lines[r->next_line].is_done)
                r->next_line++;
            if (may_start(j, r))
                started = start_line(j, r) || started;
        }
    }
}

/* ---- the round ------------------------------------------------------------------------------ */

/* One process of those that share the directory runs the batches. */
static bool is_leader(jobs *j)
{
    char path[PATH_BYTES + 64];
    int fd;

    if (j->lock_fd >= 0)
        return true;
    blob_path(j, "lock", path);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    j->lock_fd = fd;
    blobs_sweep(j);
    return true;
}

static void sweep(jobs *j)
{
    if (jobs_now_ms(j) < j->sweep_ms)
        return;
    j->sweep_ms = jobs_now_ms(j) + SWEEP_MS;
    runs_review(j);
    uploads_expire(j);
    files_expire(j);
}

static void advance_all(jobs *j)
{
    for (batch_run *r = j->runs, *next; r; r = next) {
        next = r->next;
        if (!r->has_failed)
            run_advance(j, r);
        else if (r->in_flight == 0)
            run_forget(j, r);
    }
}

/* When there is something to do without being told. */
static int64_t next_round(const jobs *j)
{
    int64_t now = jobs_now_ms(j), next = j->look_ms;

    for (const batch_run *r = j->runs; r; r = r->next) {
        if (r->not_before_ms > now)
            next = SL_MIN(next, r->not_before_ms);
        if (r->expires_s * 1000 > now)
            next = SL_MIN(next, r->expires_s * 1000);
    }
    if (j->unsaved)
        next = SL_MIN(next, j->retry_ms);
    return SL_MAX(next - now, 1);
}

int64_t jobs_tick(jobs *j)
{
    if (!is_leader(j))
        return LOOK_MS;
    take_finished(j);
    if (!output_save(j))
        return next_round(j);
    if (atomic_exchange(&j->has_changed, false) || jobs_now_ms(j) >= j->look_ms) {
        j->look_ms = jobs_now_ms(j) + LOOK_MS;
        runs_look(j);
    }
    sweep(j);
    advance_all(j);
    start_lines(j);
    return next_round(j);
}

void jobs_wait(jobs *j, int64_t ms)
{
    flights_wait(&j->under_way, ms);
}

static void *thread_main(void *ctx)
{
    jobs *j = ctx;

    while (!atomic_load(&j->stop))
        jobs_wait(j, jobs_tick(j));
    return NULL;
}

/* ---- others --------------------------------------------------------------------------------- */

static llm_verdict on_admit(void *ctx, llm_request *req, const llm_demand *demand, sl_err *err)
{
    jobs *j = ctx;

    if (req->priority < LLM_PRIORITY_BATCH)
        atomic_fetch_add(&j->live, 1);
    return LLM_PASS;
}

/* Whoever makes `live` 0 wakes the thread if it has runs; it says so before it looks at `live`, so
 * that one of the two sees the other. Without batches nobody is woken for a request. */
static void left(jobs *j, const llm_request *req)
{
    if (req->priority < LLM_PRIORITY_BATCH && atomic_fetch_sub(&j->live, 1) == 1 &&
        atomic_load(&j->has_runs))
        flights_nudge(&j->under_way);
}

static void on_refused(void *ctx, llm_request *req, const sl_err *err)
{
    left(ctx, req);
}

static void on_done(void *ctx, const llm_request *req, const llm_usage *usage)
{
    left(ctx, req);
}

const llm_stage_ops jobs_stage = {
    .name = "jobs", .on_admit = on_admit, .on_refused = on_refused, .on_done = on_done
};

/* ---- life ----------------------------------------------------------------------------------- */

sl_status jobs_open(const jobs_options *options, jobs **ret, sl_err *err)
{
    jobs *j = sl_calloc(1, sizeof *j);
    sl_status status;

    if (!j)
        return sl_fail(err, SL_ENOMEM, "out of memory for files");
    j->o = *options;
    j->lock_fd = -1;
    if (j->o.file_bytes_max <= 0)
        j->o.file_bytes_max = FILE_BYTES_MAX_DEFAULT;
    if (j->o.concurrency <= 0)
        j->o.concurrency = CONCURRENCY_DEFAULT;
    flights_init(&j->under_way, options->runner);
    if ((size_t)snprintf(j->dir, sizeof j->dir, "%s/files", options->dir) >= sizeof j->dir)
        status = sl_fail(err, SL_EINVAL, "the data directory's name is too long");
    else
        status = sl_mkdirs(j->dir, err);
    if (status == SL_OK)
        status = jobs_db_open(j, err);
    if (status == SL_OK)
        *ret = j;
    else
        jobs_close(j);
    return status;
}

sl_status jobs_start(jobs *j, sl_err *err)
{
    SL_ASSERT(!j->has_thread);
    if (j->o.is_manual)
        return SL_OK;
    if (pthread_create(&j->thread, NULL, thread_main, j) != 0)
        return sl_fail(err, SL_EIO, "cannot start a thread");
    j->has_thread = true;
    return SL_OK;
}

void jobs_stop(jobs *j)
{
    if (!j)
        return;
    atomic_store(&j->stop, true);
    flights_nudge(&j->under_way);
    if (j->has_thread)
        pthread_join(j->thread, NULL);
    j->has_thread = false;
    flights_cancel(&j->under_way, NULL);
    while (j->under_way.count > 0) {
        take_finished(j);
        if (j->under_way.count > 0)
            jobs_wait(j, LOOK_MS);
    }
    j->retry_ms = 0;
    if (!output_save(j))
        SL_LOG(SL_LOG_ERROR, "batch.lines_lost", SL_F_STR("effect", "they run again"));
}

void jobs_close(jobs *j)
{
    if (!j)
        return;
    jobs_stop(j);
    while (j->unsaved) {
        flight *next = j->unsaved->next_finished;

        ((batch_run *)j->unsaved->owner)->in_flight--;
        flight_free(j->unsaved);
        j->unsaved = next;
    }
    while (j->runs)
        run_forget(j, j->runs);
    flights_deinit(&j->under_way);
    store_close(j->db);
    if (j->lock_fd >= 0)
        close(j->lock_fd);
    sl_free(j);
}

/* ---- the door ------------------------------------------------------------------------------- */

static sl_status open_draft(void *ctx, llm_draft **ret, sl_err *err)
{
    jobs *j = ctx;

    return draft_open(j, j->o.file_bytes_max, ret, err);
}

llm_jobs jobs_service(jobs *j)
{
    static const llm_jobs_ops ops = {
        .draft_open = open_draft,
        .draft_write = draft_write,
        .draft_drop = draft_drop,
        .file_create = file_create,
        .file_list = file_list,
        .file_get = file_get,
        .file_open = file_open,
        .file_delete = file_delete,
        .upload_create = upload_create,
        .upload_part = upload_part,
        .upload_complete = upload_complete,
        .upload_cancel = upload_cancel,
        .batch_create = batch_create,
        .batch_list = batch_list,
        .batch_get = batch_get,
        .batch_cancel = batch_cancel,
    };

    return (llm_jobs){ &ops, j, j->o.file_bytes_max };
}
