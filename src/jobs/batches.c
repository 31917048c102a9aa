/* batches.c - batch jobs as their owners see them: rows, made, listed, and asked to end. What moves
 * them on is in runs.c. */
#include "jobs/jobs_int.h"

#include <stdio.h>
#include <stdlib.h>

#define WINDOW "24h"

#define METADATA_MAX       16
#define METADATA_KEY_MAX   64
#define METADATA_VALUE_MAX 512

/* The order of the columns, as batch_json reads them. */
enum {
    COL_SEQ,
    COL_OWNER,
    COL_ID,
    COL_ENDPOINT,
    COL_MODEL,
    COL_ERRORS,
    COL_INPUT,
    COL_WINDOW,
    COL_STATUS,
    COL_OUTPUT,
    COL_ERROR,
    COL_CREATED,
    COL_STARTED,
    COL_EXPIRES,
    COL_FINALIZING,
    COL_COMPLETED,
    COL_FAILED,
    COL_EXPIRED,
    COL_CANCELLING,
    COL_CANCELLED,
    COL_TOTAL,
    COL_GOOD,
    COL_BAD,
    COL_PROMPT,
    COL_CACHED,
    COL_OUTPUT_TOKENS,
    COL_METADATA,
};

static const char columns[] =
    "seq, owner, id, endpoint, model, errors, input, window, status, output, error, created,"
    " started, expires, finalizing, completed, failed, expired, cancelling, cancelled, total, good,"
    " bad, prompt_tokens, cached_tokens, output_tokens, metadata";

static json_t *time_or_null(store_stmt *st, int col)
{
    return store_int(st, col) ? json_integer(store_int(st, col)) : json_null();
}

static json_t *text_or_null(store_stmt *st, int col)
{
    return store_text(st, col)[0] ? json_string(store_text(st, col)) : json_null();
}

/* JSON that is kept as text. */
static json_t *parsed_or_null(store_stmt *st, int col)
{
    json_t *v = store_text(st, col)[0] ? json_loads(store_text(st, col), 0, NULL) : NULL;

    return v ? v : json_null();
}

static json_t *usage_json(store_stmt *st)
{
    int64_t prompt = store_int(st, COL_PROMPT), output = store_int(st, COL_OUTPUT_TOKENS);

    return json_pack("{s:I,s:{s:I},s:I,s:{s:i},s:I}", "input_tokens", (json_int_t)prompt,
                     "input_tokens_details", "cached_tokens", (json_int_t)store_int(st, COL_CACHED),
                     "output_tokens", (json_int_t)output, "output_tokens_details",
                     "reasoning_tokens", 0, "total_tokens", (json_int_t)(prompt + output));
}

static json_t *batch_json(store_stmt *st)
{
    static const struct {
        const char *name;
        int col;
    } times[] = {
        { "in_progress_at", COL_STARTED },   { "expires_at", COL_EXPIRES },
        { "finalizing_at", COL_FINALIZING }, { "completed_at", COL_COMPLETED },
        { "failed_at", COL_FAILED },         { "expired_at", COL_EXPIRED },
        { "cancelling_at", COL_CANCELLING }, { "cancelled_at", COL_CANCELLED },
    };
    json_t *errors = parsed_or_null(st, COL_ERRORS);
    json_t *b = json_pack(
        "{s:s,s:s,s:s,s:o,s:o,s:s,s:s,s:s,s:o,s:o,s:I}", "id", store_text(st, COL_ID), "object",
        "batch", "endpoint", store_text(st, COL_ENDPOINT), "model", text_or_null(st, COL_MODEL),
        "errors",
        json_is_array(errors) ? json_pack("{s:s,s:o}", "object", "list", "data", errors) : errors,
        "input_file_id", store_text(st, COL_INPUT), "completion_window", store_text(st, COL_WINDOW),
        "status", store_text(st, COL_STATUS), "output_file_id", text_or_null(st, COL_OUTPUT),
        "error_file_id", text_or_null(st, COL_ERROR), "created_at",
        (json_int_t)store_int(st, COL_CREATED));

    for (size_t i = 0; i < SL_COUNT_OF(times); i++)
        json_object_set_new(b, times[i].name, time_or_null(st, times[i].col));
    json_object_set_new(b, "request_counts",
                        json_pack("{s:I,s:I,s:I}", "total", (json_int_t)store_int(st, COL_TOTAL),
                                  "completed", (json_int_t)store_int(st, COL_GOOD), "failed",
                                  (json_int_t)store_int(st, COL_BAD)));
    json_object_set_new(b, "usage", usage_json(st));
    json_object_set_new(b, "metadata", parsed_or_null(st, COL_METADATA));
    return b;
}

/* The lock is held. */
static sl_status find_row(jobs *j, const llm_caller *who, const char *id, store_stmt **ret,
                          sl_err *err)
{
    char sql[600];
    store_stmt *st;

    snprintf(sql, sizeof sql, "SELECT %s FROM batch WHERE id = ?", columns);
    SL_TRY(store_first_with(j->db, &st, err, sql, "s", id));
    if (!st || !owner_seen_by(store_text(st, COL_OWNER), who)) {
        store_finish(st);
        return sl_fail(err, SL_ENOTFOUND, "No batch found with id '%.60s'", id);
    }
    *ret = st;
    return SL_OK;
}

/* ---- creation ------------------------------------------------------------------------------- */

static sl_status check_metadata(const json_t *metadata, sl_err *err)
{
    const char *key;
    json_t *value;

    if (!metadata)
        return SL_OK;
    if (!json_is_object(metadata) || json_object_size(metadata) > METADATA_MAX)
        return sl_fail(err, SL_EINVAL, "Invalid 'metadata': expected an object of at most %d texts",
                       METADATA_MAX);
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value)
    {
        if (!json_is_string(value) || strlen(key) > METADATA_KEY_MAX ||
            json_string_length(value) > METADATA_VALUE_MAX)
            return sl_fail(err, SL_EINVAL,
                           "Invalid 'metadata': '%.64s' is no text, or too long (%d bytes for "
                           "keys, %d for values)",
                           key, METADATA_KEY_MAX, METADATA_VALUE_MAX);
    }
    return SL_OK;
}

static sl_status check_spec(jobs *j, const llm_caller *who, const llm_batch_spec *spec, sl_err *err)
{
    json_t *file = NULL;
    const char *purpose;
    bool ok;

    if (!j->o.runner.ops)
        return sl_fail(err, SL_ENOTSUP, "This server runs no batches");
    if (!spec->completion_window || strcmp(spec->completion_window, WINDOW) != 0)
        return sl_fail(err, SL_EINVAL, "Invalid 'completion_window': expected '%s'", WINDOW);
    SL_TRY(j->o.runner.ops->check(j->o.runner.ctx, spec->endpoint, NULL, who, err));
    SL_TRY(check_metadata(spec->metadata, err));
    SL_TRY(file_get(j, who, spec->input_file_id, &file, err));
    purpose = json_string_value(json_object_get(file, "purpose"));
    ok = purpose && strcmp(purpose, "batch") == 0;
    json_decref(file);
    return ok ? SL_OK
              : sl_fail(err, SL_EINVAL,
                        "Invalid 'input_file_id': the file's purpose must be 'batch'");
}

static sl_status insert(jobs *j, const llm_caller *who, const llm_batch_spec *spec, const char *id,
                        const char *caller, sl_err *err)
{
    char *metadata = spec->metadata ? json_dumps(spec->metadata, JSON_COMPACT) : NULL;
    char owner[OWNER_BYTES];
    int64_t now = jobs_now_s(j);
    sl_status status = owner_of(who, owner, err);

    store_lock(j->db);
    if (status == SL_OK)
        status = store_run_with(
            j->db, err,
            "INSERT INTO batch (owner, id, caller, endpoint, input, window, metadata,"
            " keep, status, created, expires) VALUES (?,?,?,?,?,?,?,?,'validating',?,?)",
            "sssssssiii", owner, id, caller, spec->endpoint, spec->input_file_id, WINDOW,
            metadata ? metadata : "", spec->output_expires_after_s, now, now + BATCH_LIFE_S);
    store_unlock(j->db);
    free(metadata);
    return status;
}

static void wake(jobs *j)
{
    atomic_store(&j->has_changed, true);
    flights_nudge(&j->under_way);
}

sl_status batch_create(void *ctx, const llm_caller *who, const llm_batch_spec *spec, json_t **ret,
                       sl_err *err)
{
    jobs *j = ctx;
    char id[ID_BYTES];
    char *caller;
    sl_status status;

    SL_TRY(check_spec(j, who, spec, err));
    caller = caller_to_text(who);
    if (!caller)
        return sl_fail(err, SL_ENOMEM, "out of memory for a batch");
    jobs_make_id(id, "batch_");
    status = insert(j, who, spec, id, caller, err);
    sl_free(caller);
    if (status != SL_OK)
        return status;
    wake(j);
    return batch_get(j, who, id, ret, err);
}

/* ---- the rest ------------------------------------------------------------------------------- */

sl_status batch_list(void *ctx, const llm_caller *who, const llm_page *page, json_t **ret,
                     sl_err *err)
{
    return jobs_db_list(ctx, who, page, "batch", columns, batch_json, ret, err);
}

sl_status batch_get(void *ctx, const llm_caller *who, const char *id, json_t **ret, sl_err *err)
{
    jobs *j = ctx;
    store_stmt *st = NULL;
    sl_status status;

    store_lock(j->db);
    status = find_row(j, who, id, &st, err);
    if (status == SL_OK && !(*ret = batch_json(st)))
        status = sl_fail(err, SL_ENOMEM, "out of memory for a batch");
    store_finish(st);
    store_unlock(j->db);
    return status;
}

static sl_status ask_to_end(jobs *j, const llm_caller *who, const char *id, sl_err *err)
{
    store_stmt *st = NULL;
    sl_status status;

    SL_TRY(find_row(j, who, id, &st, err));
    status =
        store_run_with(j->db, err,
                       "UPDATE batch SET status = 'cancelling', cancelling = ? WHERE seq = ? AND"
                       " status IN ('validating', 'in_progress')",
                       "ii", jobs_now_s(j), store_int(st, COL_SEQ));
    if (status == SL_OK && store_changes(j->db) == 0 &&
        strcmp(store_text(st, COL_STATUS), "cancelling") != 0)
        status = sl_fail(err, SL_ECONFLICT, "Cannot cancel a batch with status '%s'.",
                         store_text(st, COL_STATUS));
    store_finish(st);
    return status;
}

sl_status batch_cancel(void *ctx, const llm_caller *who, const char *id, json_t **ret, sl_err *err)
{
    jobs *j = ctx;
    sl_status status;

    store_lock(j->db);
    status = ask_to_end(j, who, id, err);
    store_unlock(j->db);
    if (status != SL_OK)
        return status;
    wake(j);
    return batch_get(j, who, id, ret, err);
}
