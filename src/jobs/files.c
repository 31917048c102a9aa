/* files.c - stored files: rows whose bytes are blobs. */
#include "jobs/jobs_int.h"

#include <stdio.h>
#include <unistd.h>

#define FILENAME_BYTES_MAX 512

const char file_columns[] = "seq, owner, id, purpose, filename, bytes, created, expires";

json_t *file_json(store_stmt *st)
{
    int64_t expires = store_int(st, 7);

    return json_pack("{s:s,s:s,s:I,s:I,s:o,s:s,s:s,s:s,s:n}", "id", store_text(st, 2), "object",
                     "file", "bytes", (json_int_t)store_int(st, 5), "created_at",
                     (json_int_t)store_int(st, 6), "expires_at",
                     expires ? json_integer(expires) : json_null(), "filename", store_text(st, 4),
                     "purpose", store_text(st, 3), "status", "processed", "status_details");
}

/* The row of a file that who may see; the lock is held. */
static sl_status find_row(jobs *j, const llm_caller *who, const char *id, store_stmt **ret,
                          sl_err *err)
{
    char sql[160];
    store_stmt *st;

    snprintf(sql, sizeof sql, "SELECT %s FROM file WHERE id = ? AND (expires = 0 OR expires > ?)",
             file_columns);
    SL_TRY(store_first_with(j->db, &st, err, sql, "si", id, jobs_now_s(j)));
    if (!st || !owner_seen_by(store_text(st, 1), who)) {
        store_finish(st);
        return sl_fail(err, SL_ENOTFOUND, "No such File object: %.60s", id);
    }
    *ret = st;
    return SL_OK;
}

sl_status file_check_spec(const llm_file_spec *spec, sl_err *err)
{
    static const char *const purposes[] = { "assistants", "batch",     "fine-tune",
                                            "vision",     "user_data", "evals" };
    const char *name = spec->filename ? spec->filename : "";
    size_t i = 0;

    while (i < SL_COUNT_OF(purposes) && (!spec->purpose || strcmp(purposes[i], spec->purpose) != 0))
        i++;
    if (i == SL_COUNT_OF(purposes))
        return sl_fail(err, SL_EINVAL,
                       "Invalid 'purpose': expected assistants, batch, fine-tune, vision, "
                       "user_data or evals");
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < ' ')
            return sl_fail(err, SL_EINVAL, "Invalid 'filename': it has control characters");
    if (!name[0] || strlen(name) > FILENAME_BYTES_MAX || !sl_utf8_valid(name, strlen(name)))
        return sl_fail(err, SL_EINVAL, "Invalid 'filename': expected 1 to %d bytes of UTF-8",
                       FILENAME_BYTES_MAX);
    return SL_OK;
}

sl_status file_insert(jobs *j, const char *owner, const char *id, const llm_file_spec *spec,
                      int64_t bytes, sl_err *err)
{
    int64_t now = jobs_now_s(j);
    int64_t expires = spec->expires_after_s ? now + spec->expires_after_s : 0;

    return store_run_with(j->db, err,
                          "INSERT INTO file (owner, id, purpose, filename, bytes, created, expires)"
                          " VALUES (?,?,?,?,?,?,?)",
                          "ssssiii", owner, id, spec->purpose, spec->filename, bytes, now, expires);
}

sl_status file_create(void *ctx, const llm_caller *who, const llm_file_spec *spec, llm_draft *d,
                      json_t **ret, sl_err *err)
{
    char owner[OWNER_BYTES], id[ID_BYTES];
    jobs *j = ctx;
    int64_t bytes = d->bytes;
    sl_status status = file_check_spec(spec, err);

    if (status == SL_OK)
        status = owner_of(who, owner, err);
    if (status != SL_OK) {
        draft_drop(d);
        return status;
    }
    jobs_make_id(id, "file-");
    SL_TRY(draft_publish(d, id, err));
    store_lock(j->db);
    status = file_insert(j, owner, id, spec, bytes, err);
    store_unlock(j->db);
    if (status == SL_OK)
        return file_get(j, who, id, ret, err);
    blob_remove(j, id);
    return status;
}

sl_status file_list(void *ctx, const llm_caller *who, const llm_page *page, json_t **ret,
                    sl_err *err)
{
    return jobs_db_list(ctx, who, page, "file", file_columns, file_json, ret, err);
}

sl_status file_get(void *ctx, const llm_caller *who, const char *id, json_t **ret, sl_err *err)
{
    jobs *j = ctx;
    store_stmt *st = NULL;
    sl_status status;

    store_lock(j->db);
    status = find_row(j, who, id, &st, err);
    if (status == SL_OK && !(*ret = file_json(st)))
        status = sl_fail(err, SL_ENOMEM, "out of memory for a file");
    store_finish(st);
    store_unlock(j->db);
    return status;
}

sl_status file_open(void *ctx, const llm_caller *who, const char *id, int *ret_fd, json_t **ret,
                    sl_err *err)
{
    json_t *file = NULL;
    sl_status status;

    SL_TRY(file_get(ctx, who, id, &file, err));
    status = blob_open(ctx, id, ret_fd, err);
    if (status == SL_OK)
        *ret = file;
    else
        json_decref(file);
    return status;
}

/* SQL that is true of a file that a batch still reads. */
#define IN_USE                                                                                     \
    "EXISTS (SELECT 1 FROM batch WHERE input = file.id AND status IN ('validating',"               \
    " 'in_progress', 'cancelling', 'finalizing'))"

/* The row goes first: a blob without one is nobody's. */
static sl_status delete_row(jobs *j, const char *id, sl_err *err)
{
    SL_TRY(store_run_with(j->db, err, "DELETE FROM file WHERE id = ? AND NOT " IN_USE, "s", id));
    if (store_changes(j->db) == 0)
        return sl_fail(err, SL_ECONFLICT,
                       "File %.60s is the input of a batch that runs; cancel that first", id);
    return SL_OK;
}

sl_status file_delete(void *ctx, const llm_caller *who, const char *id, sl_err *err)
{
    jobs *j = ctx;
    store_stmt *st = NULL;
    sl_status status;

    store_lock(j->db);
    status = find_row(j, who, id, &st, err);
    store_finish(st);
    if (status == SL_OK)
        status = delete_row(j, id, err);
    store_unlock(j->db);
    if (status == SL_OK)
        blob_remove(j, id);
    return status;
}

/* One file that expired; false: there is none. */
static bool expire_one(jobs *j)
{
    char id[ID_BYTES] = "";
    store_stmt *st = NULL;
    bool ok;

    store_lock(j->db);
    ok = store_first_with(j->db, &st, NULL,
                          "SELECT id FROM file WHERE expires > 0 AND expires <= ? AND NOT " IN_USE
                          " LIMIT 1",
                          "i", jobs_now_s(j)) == SL_OK &&
         st;
    if (ok)
        snprintf(id, sizeof id, "%s", store_text(st, 0));
    store_finish(st);
    ok = ok && delete_row(j, id, NULL) == SL_OK;
    store_unlock(j->db);
    if (ok)
        blob_remove(j, id);
    return ok;
}

void files_expire(jobs *j)
{
    while (expire_one(j))
        continue;
}
