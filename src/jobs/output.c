/* output.c - what a batch gives: rows of ended lines, made durable before anything else is told,
 * and the two files made of them at the end. */
#include "jobs/jobs_int.h"

#include <stdio.h>

#include "base/log.h"

#define LINE_BYTES_MAX (300 * SL_MIB)
#define RETRY_MS       1000
#define ROWS_AT_ONCE   256 /* read under one lock */

/* ---- lines ---------------------------------------------------------------------------------- */

static void put_str(sl_buf *out, const char *text)
{
    sl_buf_put_json(out, text, strlen(text));
}

static void put_head(sl_buf *out, const char *custom_id)
{
    char id[ID_BYTES];

    jobs_make_id(id, "batch_req_");
    sl_buf_printf(out, "{\"id\":\"%s\",\"custom_id\":", id);
    put_str(out, custom_id);
}

void output_line(sl_buf *out, const char *custom_id, const flight *f)
{
    size_t from;

    put_head(out, custom_id);
    sl_buf_printf(out, ",\"response\":{\"status_code\":%d,\"request_id\":", f->status);
    put_str(out, f->request_id);
    sl_buf_puts(out, ",\"body\":");
    from = out->len;
    sl_buf_put(out, sl_buf_str(&f->body), f->body.len);
    /* In JSON a raw line end is only ever space between tokens. */
    for (size_t i = from; i < out->len; i++)
        if (out->ptr[i] == '\n' || out->ptr[i] == '\r')
            out->ptr[i] = ' ';
    sl_buf_puts(out, "},\"error\":null}");
}

/* Of a line that never ran. */
static void put_unfinished(sl_buf *out, const char *custom_id, bool is_cancelled)
{
    put_head(out, custom_id);
    sl_buf_puts(out, ",\"response\":null,\"error\":{\"code\":");
    sl_buf_puts(out, is_cancelled
                         ? "\"batch_cancelled\",\"message\":\"This request was not run before the "
                           "batch was cancelled.\"}}"
                         : "\"batch_expired\",\"message\":\"This request could not be executed "
                           "before the completion window expired.\"}}");
}

/* ---- saving --------------------------------------------------------------------------------- */

static sl_status save_line(jobs *j, const flight *f, sl_buf *text, sl_err *err)
{
    batch_run *r = f->owner;
    const input_line *line = &r->in.lines[f->line];
    int64_t bad = f->status != 200;

    sl_buf_clear(text);
    output_line(text, line->custom_id, f);
    SL_TRY(sl_buf_ok(text, "answer", err));
    SL_TRY(store_run_with(
        j->db, err, "INSERT OR IGNORE INTO line (batch, number, bad, text) VALUES (?,?,?,?)",
        "iiib", r->seq, (int64_t)line->number, bad, sl_span_of(text->ptr, text->len)));
    if (store_changes(j->db) == 0)
        return SL_OK; /* it has an answer already */
    return store_run_with(
        j->db, err,
        "UPDATE batch SET good = good + ?, bad = bad + ?, prompt_tokens = prompt_tokens +"
        " ?, cached_tokens = cached_tokens + ?, output_tokens = output_tokens + ? WHERE"
        " seq = ?",
        "iiiiii", 1 - bad, bad, f->prompt_tokens, f->cached_tokens, f->output_tokens, r->seq);
}

static sl_status save_all(jobs *j, sl_err *err)
{
    sl_buf text;
    sl_status status;

    sl_buf_init(&text, LINE_BYTES_MAX);
    store_lock(j->db);
    status = store_begin(j->db, err);
    for (const flight *f = j->unsaved; f && status == SL_OK; f = f->next_finished)
        status = save_line(j, f, &text, err);
    if (status == SL_OK)
        status = store_commit(j->db, err);
    else
        store_rollback(j->db);
    store_unlock(j->db);
    sl_buf_deinit(&text);
    return status;
}

bool output_save(jobs *j)
{
    sl_err err = { 0 };

    if (!j->unsaved)
        return true;
    if (jobs_now_ms(j) < j->retry_ms)
        return false;
    if (save_all(j, &err) != SL_OK) {
        SL_LOG(SL_LOG_ERROR, "batch.not_saved", SL_F_STR("error", err.text),
               SL_F_STR("effect", "no new lines are started until it works again"));
        j->retry_ms = jobs_now_ms(j) + RETRY_MS;
        return false;
    }
    while (j->unsaved) {
        flight *next = j->unsaved->next_finished;
        batch_run *r = j->unsaved->owner;

        r->in.lines[j->unsaved->line].is_done = true;
        r->in_flight--;
        flight_free(j->unsaved);
        j->unsaved = next;
    }
    return true;
}

/* ---- the files ------------------------------------------------------------------------------ */

/* Appends the next rows to the draft, from *number on; *ret_count: how many. */
static sl_status copy_rows(jobs *j, const batch_run *r, bool bad, int64_t *number, llm_draft *d,
                           int *ret_count, sl_err *err)
{
    store_stmt *st = NULL;
    bool has_row = true;
    sl_status status;

    *ret_count = 0;
    store_lock(j->db);
    status = store_prepare_with(
        j->db, &st, err,
        "SELECT number, text FROM line WHERE batch = ? AND number > ? AND bad = ?"
        " ORDER BY number LIMIT ?",
        "iiii", r->seq, *number, (int64_t)bad, (int64_t)ROWS_AT_ONCE);
    while (status == SL_OK && (status = store_step(st, &has_row, err)) == SL_OK && has_row) {
        sl_span text = store_bytes(st, 1);

        *number = store_int(st, 0);
        status = draft_write(d, text.ptr, text.len, err);
        if (status == SL_OK)
            status = draft_write(d, "\n", 1, err);
        ++*ret_count;
    }
    store_finish(st);
    store_unlock(j->db);
    return status;
}

static sl_status write_unfinished(const batch_run *r, llm_draft *d, sl_err *err)
{
    sl_buf text;
    sl_status status = SL_OK;

    sl_buf_init(&text, SL_MIB);
    for (size_t i = 0; i < r->in.count && status == SL_OK; i++) {
        if (r->in.lines[i].is_done)
            continue;
        sl_buf_clear(&text);
        put_unfinished(&text, r->in.lines[i].custom_id, r->is_cancelling);
        sl_buf_putc(&text, '\n');
        status = sl_buf_ok(&text, "line", err);
        if (status == SL_OK)
            status = draft_write(d, text.ptr, text.len, err);
    }
    sl_buf_deinit(&text);
    return status;
}

/* Makes a blob of the good or the bad lines; ret_id "" when there are none. */
static sl_status write_blob(jobs *j, const batch_run *r, bool bad, char ret_id[ID_BYTES],
                            int64_t *ret_bytes, sl_err *err)
{
    int64_t number = 0;
    llm_draft *d = NULL;
    int count = ROWS_AT_ONCE;
    sl_status status;

    ret_id[0] = '\0';
    SL_TRY(draft_open(j, INT64_MAX, &d, err));
    status = SL_OK;
    while (status == SL_OK && count == ROWS_AT_ONCE)
        status = copy_rows(j, r, bad, &number, d, &count, err);
    if (status == SL_OK && bad)
        status = write_unfinished(r, d, err);
    *ret_bytes = d->bytes;
    if (status != SL_OK || d->bytes == 0) {
        draft_drop(d);
        return status;
    }
    jobs_make_id(ret_id, "file-");
    status = draft_publish(d, ret_id, err);
    if (status != SL_OK)
        ret_id[0] = '\0';
    return status;
}

static sl_status insert_output(jobs *j, const batch_run *r, const char *id, int64_t bytes,
                               const char *kind, sl_err *err)
{
    char name[ID_BYTES + 32];
    const llm_file_spec spec = { .filename = name,
                                 .purpose = "batch_output",
                                 .expires_after_s = r->keep_s };

    snprintf(name, sizeof name, "%s_%s.jsonl", r->id, kind);
    return id[0] ? file_insert(j, r->owner, id, &spec, bytes, err) : SL_OK;
}

static size_t count_unfinished(const batch_run *r)
{
    size_t count = 0;

    for (size_t i = 0; i < r->in.count; i++)
        count += !r->in.lines[i].is_done;
    return count;
}

/* Files, batch and lines in one transaction: nobody sees an end without its files, and a crash
 * leaves all to be done again. */
static sl_status record_end(jobs *j, const batch_run *r, char ids[2][ID_BYTES],
                            const int64_t bytes[2], sl_err *err)
{
    int64_t left = (int64_t)count_unfinished(r);
    const char *status_text = r->is_cancelling ? "cancelled" : left ? "expired" : "completed";
    char sql[200];
    sl_status status;

    snprintf(sql, sizeof sql,
             "UPDATE batch SET status = '%s', %s = ?, output = ?, error = ?, bad = bad + ? WHERE"
             " seq = ?",
             status_text, status_text);
    store_lock(j->db);
    status = store_begin(j->db, err);
    if (status == SL_OK)
        status = insert_output(j, r, ids[0], bytes[0], "output", err);
    if (status == SL_OK)
        status = insert_output(j, r, ids[1], bytes[1], "error", err);
    if (status == SL_OK)
        status =
            store_run_with(j->db, err, sql, "issii", jobs_now_s(j), ids[0], ids[1], left, r->seq);
    if (status == SL_OK)
        status = store_run_with(j->db, err, "DELETE FROM line WHERE batch = ?", "i", r->seq);
    if (status == SL_OK)
        status = store_commit(j->db, err);
    else
        store_rollback(j->db);
    store_unlock(j->db);
    if (status == SL_OK)
        SL_LOG(SL_LOG_INFO, "batch.ended", SL_F_STR("batch", r->id),
               SL_F_STR("status", status_text), SL_F_NUM("lines", r->in.count),
               SL_F_NUM("unfinished", left));
    return status;
}

sl_status output_end(jobs *j, batch_run *r, sl_err *err)
{
    char ids[2][ID_BYTES] = { "", "" };
    int64_t bytes[2] = { 0, 0 };
    sl_status status = write_blob(j, r, false, ids[0], &bytes[0], err);

    if (status == SL_OK)
        status = write_blob(j, r, true, ids[1], &bytes[1], err);
    if (status == SL_OK)
        status = record_end(j, r, ids, bytes, err);
    for (int i = 0; i < 2 && status != SL_OK; i++)
        if (ids[i][0])
            blob_remove(j, ids[i]);
    return status;
}
