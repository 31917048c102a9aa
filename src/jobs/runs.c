/* runs.c - a batch from its row to its end.
 *
 *   validating --input is wrong--> failed
 *       |
 *   in_progress --all lines ended, or 24 hours over--> finalizing --> completed | expired
 *       |
 *   cancelling (also from validating) --lines under way ended--> cancelled
 *
 * The row is the truth: whatever is in memory can be made from it and from the input file again.
 * All of this belongs to the batches' thread; others only make rows and set `cancelling`. */
#include "jobs/jobs_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

/* ---- into memory and out -------------------------------------------------------------------- */

void run_forget(jobs *j, batch_run *r)
{
    batch_run **at = &j->runs;

    while (*at && *at != r)
        at = &(*at)->next;
    if (*at)
        *at = r->next;
    SL_ASSERT(r->in_flight == 0);
    input_deinit(&r->in);
    sl_file_map_close(&r->map);
    llm_caller_unref(r->caller);
    sl_free(r->again);
    sl_free(r);
}

static batch_run *find_run(const jobs *j, int64_t seq)
{
    for (batch_run *r = j->runs; r; r = r->next)
        if (r->seq == seq)
            return r;
    return NULL;
}

static void append_run(jobs *j, batch_run *r)
{
    batch_run **at = &j->runs;

    while (*at)
        at = &(*at)->next;
    *at = r;
}

/* Columns of look_sql. */
enum {
    COL_SEQ,
    COL_ID,
    COL_OWNER,
    COL_CALLER,
    COL_ENDPOINT,
    COL_INPUT,
    COL_STATUS,
    COL_CREATED,
    COL_EXPIRES,
    COL_KEEP,
    COL_STARTED,
};

static const char look_sql[] =
    "SELECT seq, id, owner, caller, endpoint, input, status, created, expires, keep, started FROM"
    " batch WHERE status IN ('validating', 'in_progress', 'cancelling', 'finalizing') ORDER BY seq"
    " LIMIT ?";

static batch_run *run_create(store_stmt *st)
{
    batch_run *r = sl_calloc(1, sizeof *r);

    if (!r)
        return NULL;
    if (caller_from_text(store_text(st, COL_CALLER), &r->caller, NULL) != SL_OK) {
        sl_free(r);
        return NULL;
    }
    r->seq = store_int(st, COL_SEQ);
    snprintf(r->id, sizeof r->id, "%s", store_text(st, COL_ID));
    snprintf(r->owner, sizeof r->owner, "%s", store_text(st, COL_OWNER));
    snprintf(r->endpoint, sizeof r->endpoint, "%s", store_text(st, COL_ENDPOINT));
    snprintf(r->input_id, sizeof r->input_id, "%s", store_text(st, COL_INPUT));
    r->created_s = store_int(st, COL_CREATED);
    r->expires_s = store_int(st, COL_EXPIRES);
    r->keep_s = store_int(st, COL_KEEP);
    r->is_checked = store_int(st, COL_STARTED) > 0;
    return r;
}

void runs_look(jobs *j)
{
    store_stmt *st = NULL;
    bool has_row = false;
    sl_err err = { 0 };
    sl_status status;

    store_lock(j->db);
    status = store_prepare_with(j->db, &st, &err, look_sql, "i", (int64_t)SL_BATCHES_LOADED);
    while (status == SL_OK && (status = store_step(st, &has_row, &err)) == SL_OK && has_row) {
        batch_run *r = find_run(j, store_int(st, COL_SEQ));

        if (!r && (r = run_create(st)))
            append_run(j, r);
        if (r && strcmp(store_text(st, COL_STATUS), "cancelling") == 0)
            r->is_cancelling = true;
        if (r && strcmp(store_text(st, COL_STATUS), "finalizing") == 0)
            r->is_ending = true;
    }
    store_finish(st);
    store_unlock(j->db);
    if (status != SL_OK)
        SL_LOG(SL_LOG_ERROR, "batch.not_read", SL_F_STR("error", err.text));
}

void runs_review(jobs *j)
{
    for (batch_run *r = j->runs; r; r = r->next) {
        sl_err err = { 0 };
        sl_status status;

        if (r->is_cancelling || caller_in_force(&j->o.accounts, r->caller))
            continue;
        store_lock(j->db);
        status =
            store_run_with(j->db, &err,
                           "UPDATE batch SET status = 'cancelling', cancelling = ? WHERE seq = ?"
                           " AND status IN ('validating', 'in_progress')",
                           "ii", jobs_now_s(j), r->seq);
        r->is_cancelling = status == SL_OK && store_changes(j->db) > 0;
        store_unlock(j->db);
        SL_LOG(SL_LOG_WARN, "batch.owner_gone", SL_F_STR("batch", r->id),
               SL_F_STR("caller", r->caller->id), SL_F_STR("error", err.text));
    }
}

/* ---- the input ------------------------------------------------------------------------------ */

static sl_status add_input_error(batch_run *r, const char *code, const char *message, sl_err *err)
{
    json_t *e = json_pack("{s:s,s:s,s:n,s:n}", "code", code, "message", message, "param", "line");

    if (json_array_append_new(r->in.errors, e) != 0)
        return sl_fail(err, SL_ENOMEM, "out of memory for a batch");
    return SL_OK;
}

/* Maps and reads the input; what is wrong with it is in r->in.errors. */
static sl_status read_input(jobs *j, batch_run *r, sl_err *err)
{
    char path[PATH_BYTES + 64];
    sl_err why = { 0 };
    sl_status status;

    blob_path(j, r->input_id, path);
    if (sl_file_map_open(path, &r->map, &why) != SL_OK) {
        SL_TRY(input_scan(sl_span_of("", 0), r->endpoint, &r->in, err));
        json_array_clear(r->in.errors);
        return add_input_error(r, "input_not_readable", "The input file cannot be read.", err);
    }
    SL_TRY(input_scan(r->map.bytes, r->endpoint, &r->in, err));
    if (json_array_size(r->in.errors) > 0)
        return SL_OK;
    status = j->o.runner.ops->check(j->o.runner.ctx, r->endpoint, r->in.model, r->caller, &why);
    if (status != SL_OK && !r->is_checked)
        return add_input_error(r, status == SL_ENOTFOUND ? "model_not_found" : "invalid_request",
                               why.text, err);
    input_order(&r->in);
    return SL_OK;
}

/* Marks the lines that have an answer. */
static sl_status read_done(jobs *j, batch_run *r, sl_err *err)
{
    uint32_t last = 0;
    bool *done, has_row = false;
    store_stmt *st = NULL;
    sl_status status;

    for (size_t i = 0; i < r->in.count; i++)
        last = SL_MAX(last, r->in.lines[i].number);
    done = sl_calloc(last + 1u, sizeof *done);
    if (!done)
        return sl_fail(err, SL_ENOMEM, "out of memory for a batch");
    store_lock(j->db);
    status =
        store_prepare_with(j->db, &st, err, "SELECT number FROM line WHERE batch = ?", "i", r->seq);
    while (status == SL_OK && (status = store_step(st, &has_row, err)) == SL_OK && has_row)
        if (store_int(st, 0) <= last)
            done[store_int(st, 0)] = true;
    store_finish(st);
    store_unlock(j->db);
    for (size_t i = 0; i < r->in.count; i++)
        r->in.lines[i].is_done = done[r->in.lines[i].number];
    sl_free(done);
    return status;
}

/* Runs an UPDATE of one batch; *ret_changed: whether its condition held. */
static sl_status update(jobs *j, bool *ret_changed, sl_err *err, const char *sql, const char *text,
                        int64_t a, int64_t b, int64_t seq)
{
    sl_status status;

    store_lock(j->db);
    status = store_run_with(j->db, err, sql, "siii", text, a, b, seq);
    *ret_changed = status == SL_OK && store_changes(j->db) > 0;
    store_unlock(j->db);
    return status;
}

static sl_status tell_failed(jobs *j, batch_run *r, sl_err *err)
{
    char *text = json_dumps(r->in.errors, JSON_COMPACT);
    bool changed;
    sl_status status =
        text ? update(j, &changed, err,
                      "UPDATE batch SET errors = ?1, status = 'failed', failed = ?2, total = ?3"
                      " WHERE seq = ?4 AND status IN ('validating', 'in_progress')",
                      text, jobs_now_s(j), 0, r->seq)
             : sl_fail(err, SL_ENOMEM, "out of memory for a batch");

    free(text);
    if (status == SL_OK)
        SL_LOG(SL_LOG_INFO, "batch.failed", SL_F_STR("batch", r->id),
               SL_F_NUM("errors", json_array_size(r->in.errors)));
    return status;
}

/* Once: reads the input and moves the row on. *ret_failed: the input is wrong, and the row says so.
 * A failure here is the machine's: the batch is tried again at the next look. */
static sl_status prepare(jobs *j, batch_run *r, bool *ret_failed, sl_err *err)
{
    bool changed = true;

    *ret_failed = false;
    if (r->is_cancelling && !r->is_checked) /* nothing ran */
        return input_scan(sl_span_of("", 0), r->endpoint, &r->in, err);
    SL_TRY(read_input(j, r, err));
    *ret_failed = json_array_size(r->in.errors) > 0 && !r->is_cancelling;
    if (*ret_failed)
        return tell_failed(j, r, err);
    if (r->is_checked)
        SL_TRY(read_done(j, r, err));
    else
        SL_TRY(update(j, &changed, err,
                      "UPDATE batch SET model = ?1, status = 'in_progress', started = ?2,"
                      " total = ?3 WHERE seq = ?4 AND status = 'validating'",
                      r->in.model, jobs_now_s(j), (int64_t)r->in.count, r->seq));
    r->is_checked = r->is_checked || changed;
    if (!changed) { /* cancelled meanwhile: its lines do not count */
        r->is_cancelling = true;
        r->in.count = 0;
    }
    return SL_OK;
}

/* ---- to the end ----------------------------------------------------------------------------- */

static bool has_lines_left(const batch_run *r)
{
    return r->again_count > 0 || r->next_line < r->in.count;
}

static sl_status end(jobs *j, batch_run *r, sl_err *err)
{
    bool changed;

    if (!r->is_cancelling) {
        SL_TRY(update(j, &changed, err,
                      "UPDATE batch SET status = ?1, finalizing = ?2 WHERE ?3 = 0 AND seq = ?4 AND"
                      " status IN ('in_progress', 'finalizing')",
                      "finalizing", jobs_now_s(j), 0, r->seq));
        r->is_cancelling = !changed; /* asked for just now */
    }
    return output_end(j, r, err);
}

void run_advance(jobs *j, batch_run *r)
{
    bool failed = false;
    sl_err err = { 0 };
    sl_status status = r->in.errors ? SL_OK : prepare(j, r, &failed, &err);

    if (status == SL_OK && !failed) {
        while (r->next_line < r->in.count && r->in.lines[r->next_line].is_done)
            r->next_line++;
        if (jobs_now_s(j) >= r->expires_s || (!has_lines_left(r) && r->in_flight == 0))
            r->is_ending = true;
        if (!r->is_ending && !r->is_cancelling)
            return;
        flights_cancel(&j->under_way, r);
        if (r->in_flight > 0)
            return;
        status = end(j, r, &err);
    }
    if (status != SL_OK) {
        SL_LOG(SL_LOG_ERROR, "batch.not_moved", SL_F_STR("batch", r->id),
               SL_F_STR("error", err.text));
        r->has_failed = true;
        return;
    }
    run_forget(j, r);
}
