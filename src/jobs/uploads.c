/* uploads.c - big files in parts: parts are blobs of their own until the upload is completed in the
 * order that the caller names. */
#include "jobs/jobs_int.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#define UPLOAD_BYTES_MAX ((int64_t)8 << 30) /* OpenAI's */
#define PART_BYTES_MAX   ((int64_t)64 << 20)
#define COPY_BYTES       (256 * SL_KIB)
#define COLUMNS                                                                                    \
    "seq, owner, id, purpose, filename, bytes, created, expires,"                                  \
    " status, keep, file"

/* A row, for what goes on without the lock. */
typedef struct upload {
    int64_t seq, bytes, keep_s;
    char owner[OWNER_BYTES], purpose[32], *filename;
} upload;

/* file: the object of the finished file, borrowed, or NULL. */
static json_t *upload_json(store_stmt *st, json_t *file)
{
    return json_pack("{s:s,s:s,s:I,s:I,s:I,s:s,s:s,s:s,s:O?}", "id", store_text(st, 2), "object",
                     "upload", "bytes", (json_int_t)store_int(st, 5), "created_at",
                     (json_int_t)store_int(st, 6), "expires_at", (json_int_t)store_int(st, 7),
                     "filename", store_text(st, 4), "purpose", store_text(st, 3), "status",
                     store_text(st, 8), "file", file);
}

/* The lock is held. */
static sl_status find_row(jobs *j, const llm_caller *who, const char *id, store_stmt **ret,
                          sl_err *err)
{
    store_stmt *st;

    SL_TRY(
        store_first_with(j->db, &st, err, "SELECT " COLUMNS " FROM upload WHERE id = ?", "s", id));
    if (!st || !owner_seen_by(store_text(st, 1), who)) {
        store_finish(st);
        return sl_fail(err, SL_ENOTFOUND, "No such Upload object: %.60s", id);
    }
    *ret = st;
    return SL_OK;
}

/* The same of one that still takes parts. */
static sl_status find_pending(jobs *j, const llm_caller *who, const char *id, store_stmt **ret,
                              sl_err *err)
{
    store_stmt *st = NULL;
    const char *state;

    SL_TRY(find_row(j, who, id, &st, err));
    state = store_text(st, 8);
    if (strcmp(state, "pending") == 0 && store_int(st, 7) <= jobs_now_s(j))
        state = "expired";
    if (strcmp(state, "pending") != 0) {
        sl_fail(err, SL_ECONFLICT, "Upload %.60s is %s, no longer pending", id, state);
        store_finish(st);
        return SL_ECONFLICT;
    }
    *ret = st;
    return SL_OK;
}

static sl_status read_file_id(jobs *j, const llm_caller *who, const char *id, char ret[ID_BYTES],
                              sl_err *err)
{
    store_stmt *st = NULL;

    SL_TRY(find_row(j, who, id, &st, err));
    snprintf(ret, ID_BYTES, "%s", store_text(st, 10));
    store_finish(st);
    return SL_OK;
}

static sl_status answer(jobs *j, const llm_caller *who, const char *id, json_t **ret, sl_err *err)
{
    char file_id[ID_BYTES] = "";
    json_t *file = NULL;
    store_stmt *st = NULL;
    sl_status status;

    store_lock(j->db);
    status = read_file_id(j, who, id, file_id, err);
    store_unlock(j->db);
    if (status == SL_OK && file_id[0] && file_get(j, who, file_id, &file, err) != SL_OK)
        file = NULL; /* deleted since */
    if (status != SL_OK)
        return status;
    store_lock(j->db);
    status = find_row(j, who, id, &st, err);
    if (status == SL_OK && !(*ret = upload_json(st, file)))
        status = sl_fail(err, SL_ENOMEM, "out of memory for an upload");
    store_finish(st);
    store_unlock(j->db);
    json_decref(file);
    return status;
}

sl_status upload_create(void *ctx, const llm_caller *who, const llm_file_spec *spec, json_t **ret,
                        sl_err *err)
{
    char owner[OWNER_BYTES], id[ID_BYTES];
    jobs *j = ctx;
    int64_t now = jobs_now_s(j);
    sl_status status;

    SL_TRY(file_check_spec(spec, err));
    SL_TRY(owner_of(who, owner, err));
    if (spec->bytes < 1 || spec->bytes > UPLOAD_BYTES_MAX)
        return sl_fail(err, SL_EINVAL, "Invalid 'bytes': expected 1 to %lld",
                       (long long)UPLOAD_BYTES_MAX);
    jobs_make_id(id, "upload_");
    store_lock(j->db);
    status =
        store_run_with(j->db, err,
                       "INSERT INTO upload (owner, id, purpose, filename, bytes, created, expires,"
                       " keep, status) VALUES (?,?,?,?,?,?,?,?,'pending')",
                       "ssssiiii", owner, id, spec->purpose, spec->filename, spec->bytes, now,
                       now + UPLOAD_LIFE_S, spec->expires_after_s);
    store_unlock(j->db);
    return status == SL_OK ? answer(j, who, id, ret, err) : status;
}

/* ---- parts ---------------------------------------------------------------------------------- */

static sl_status insert_part(jobs *j, const llm_caller *who, const char *id, const char *part,
                             int64_t bytes, sl_err *err)
{
    store_stmt *st = NULL, *sum = NULL;
    int64_t seq = 0, whole = 0;
    sl_status status = find_pending(j, who, id, &st, err);

    if (status == SL_OK) {
        seq = store_int(st, 0);
        whole = store_int(st, 5);
        status = store_first_with(
            j->db, &sum, err, "SELECT count(*), coalesce(sum(bytes), 0) FROM part WHERE upload = ?",
            "i", seq);
    }
    /* Parts may be sent twice, but not without end. */
    if (status == SL_OK &&
        (store_int(sum, 0) >= SL_PARTS_MAX || store_int(sum, 1) + bytes > 2 * whole))
        status = sl_fail(err, SL_ELIMIT, "The parts hold more than the upload's %lld bytes",
                         (long long)whole);
    store_finish(st);
    store_finish(sum);
    if (status == SL_OK)
        status = store_run_with(j->db, err, "INSERT INTO part (upload, id, bytes) VALUES (?,?,?)",
                                "isi", seq, part, bytes);
    return status;
}

sl_status upload_part(void *ctx, const llm_caller *who, const char *id, llm_draft *d, json_t **ret,
                      sl_err *err)
{
    char part[ID_BYTES];
    jobs *j = ctx;
    int64_t bytes = d->bytes;
    sl_status status;

    if (bytes < 1 || bytes > PART_BYTES_MAX) {
        draft_drop(d);
        return sl_fail(err, SL_EINVAL, "A part has 1 to %lld bytes", (long long)PART_BYTES_MAX);
    }
    jobs_make_id(part, "part_");
    SL_TRY(draft_publish(d, part, err));
    store_lock(j->db);
    status = insert_part(j, who, id, part, bytes, err);
    store_unlock(j->db);
    if (status != SL_OK) {
        blob_remove(j, part);
        return status;
    }
    *ret = json_pack("{s:s,s:s,s:I,s:s}", "id", part, "object", "upload.part", "created_at",
                     (json_int_t)jobs_now_s(j), "upload_id", id);
    return *ret ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory for a part");
}

/* Removes the parts of an upload: rows, then blobs. The lock is not held. False: some stay. */
static bool drop_parts(jobs *j, int64_t seq)
{
    for (;;) {
        char part[ID_BYTES] = "";
        store_stmt *st = NULL;
        sl_status status;

        store_lock(j->db);
        status = store_first_with(j->db, &st, NULL, "SELECT id FROM part WHERE upload = ? LIMIT 1",
                                  "i", seq);
        if (st)
            snprintf(part, sizeof part, "%s", store_text(st, 0));
        store_finish(st);
        if (status == SL_OK && part[0])
            status = store_run_with(j->db, NULL, "DELETE FROM part WHERE id = ?", "s", part);
        store_unlock(j->db);
        if (status != SL_OK || !part[0])
            return status == SL_OK;
        blob_remove(j, part);
    }
}

/* ---- completion ----------------------------------------------------------------------------- */

static sl_status copy_part(jobs *j, const char *part, llm_draft *to, EVP_MD_CTX *md5, sl_err *err)
{
    char *block = sl_malloc(COPY_BYTES);
    sl_status status = block ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory for a part");
    ssize_t n = 0;
    int fd = -1;

    if (status == SL_OK)
        status = blob_open(j, part, &fd, err);
    while (status == SL_OK && (n = read(fd, block, COPY_BYTES)) > 0) {
        if (md5)
            EVP_DigestUpdate(md5, block, (size_t)n);
        status = draft_write(to, block, (size_t)n, err);
    }
    if (n < 0)
        status = sl_fail(err, SL_EIO, "cannot read a part");
    if (fd >= 0)
        close(fd);
    sl_free(block);
    return status;
}

/* All parts are the upload's, each is named once, and together they have its bytes. */
static sl_status check_parts(jobs *j, const upload *u, const json_t *ids, sl_err *err)
{
    int64_t sum = 0;

    if (json_array_size(ids) == 0 || json_array_size(ids) > SL_PARTS_MAX)
        return sl_fail(err, SL_EINVAL, "Invalid 'part_ids': expected 1 to %d ids", SL_PARTS_MAX);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const char *id = json_string_value(json_array_get(ids, i));
        store_stmt *st = NULL;

        for (size_t k = 0; id && k < i; k++)
            if (strcmp(id, json_string_value(json_array_get(ids, k))) == 0)
                return sl_fail(err, SL_EINVAL, "Invalid 'part_ids': %.60s is there twice", id);
        if (id)
            SL_TRY(store_first_with(j->db, &st, err,
                                    "SELECT bytes FROM part WHERE id = ? AND upload = ?", "si", id,
                                    u->seq));
        if (!st)
            return sl_fail(err, SL_EINVAL, "Invalid 'part_ids': the upload has no part %.60s",
                           id ? id : "of that kind");
        sum += store_int(st, 0);
        store_finish(st);
    }
    if (sum != u->bytes)
        return sl_fail(err, SL_EINVAL, "The parts have %lld bytes together, the upload said %lld",
                       (long long)sum, (long long)u->bytes);
    return SL_OK;
}

/* Copies the parts behind each other and compares the sum. */
static sl_status join_parts(jobs *j, const json_t *ids, const char *md5, llm_draft *d, sl_err *err)
{
    EVP_MD_CTX *sum = md5 && md5[0] ? EVP_MD_CTX_new() : NULL;
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    char text[2 * EVP_MAX_MD_SIZE + 1] = "";
    sl_status status = SL_OK;

    if (md5 && md5[0] && (!sum || EVP_DigestInit_ex(sum, EVP_md5(), NULL) != 1))
        status = sl_fail(err, SL_EINTERNAL, "MD5 is not available on this machine");
    for (size_t i = 0; i < json_array_size(ids) && status == SL_OK; i++)
        status = copy_part(j, json_string_value(json_array_get(ids, i)), d, sum, err);
    if (status == SL_OK && sum) {
        EVP_DigestFinal_ex(sum, raw, &len);
        sl_hex(raw, len, text);
        if (strcasecmp(text, md5) != 0)
            status =
                sl_fail(err, SL_EINVAL, "The MD5 sum of the parts is %s, not %.64s", text, md5);
    }
    EVP_MD_CTX_free(sum);
    return status;
}

/* Reads the row; the lock is held. */
static sl_status read_upload(jobs *j, const llm_caller *who, const char *id, upload *ret,
                             sl_err *err)
{
    store_stmt *st = NULL;

    SL_TRY(find_pending(j, who, id, &st, err));
    ret->seq = store_int(st, 0);
    ret->bytes = store_int(st, 5);
    ret->keep_s = store_int(st, 9);
    snprintf(ret->owner, sizeof ret->owner, "%s", store_text(st, 1));
    snprintf(ret->purpose, sizeof ret->purpose, "%s", store_text(st, 3));
    ret->filename = sl_strdup(store_text(st, 4));
    store_finish(st);
    return ret->filename ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory for an upload");
}

/* The file's row and the upload's end, both or none. */
static sl_status record_file(jobs *j, const upload *u, const char *file_id, sl_err *err)
{
    const llm_file_spec spec = { .filename = u->filename,
                                 .purpose = u->purpose,
                                 .expires_after_s = u->keep_s };
    sl_status status;

    store_lock(j->db);
    status = store_begin(j->db, err);
    if (status == SL_OK)
        status = store_run_with(
            j->db, err,
            "UPDATE upload SET status = 'completed', file = ? WHERE seq = ? AND status"
            " = 'pending'",
            "si", file_id, u->seq);
    if (status == SL_OK && store_changes(j->db) == 0)
        status = sl_fail(err, SL_ECONFLICT, "The upload is no longer pending");
    if (status == SL_OK)
        status = file_insert(j, u->owner, file_id, &spec, u->bytes, err);
    if (status == SL_OK)
        status = store_commit(j->db, err);
    else
        store_rollback(j->db);
    store_unlock(j->db);
    return status;
}

sl_status upload_complete(void *ctx, const llm_caller *who, const char *id, const json_t *part_ids,
                          const char *md5, json_t **ret, sl_err *err)
{
    jobs *j = ctx;
    upload u = { 0 };
    llm_draft *d = NULL;
    char file_id[ID_BYTES];
    sl_status status;

    store_lock(j->db);
    status = read_upload(j, who, id, &u, err);
    if (status == SL_OK)
        status = check_parts(j, &u, part_ids, err);
    store_unlock(j->db);
    jobs_make_id(file_id, "file-");
    if (status == SL_OK)
        status = draft_open(j, u.bytes, &d, err);
    if (status == SL_OK)
        status = join_parts(j, part_ids, md5, d, err);
    if (status == SL_OK) {
        status = draft_publish(d, file_id, err);
        d = NULL;
    }
    if (status == SL_OK && (status = record_file(j, &u, file_id, err)) != SL_OK)
        blob_remove(j, file_id);
    draft_drop(d);
    sl_free(u.filename);
    if (status != SL_OK)
        return status;
    drop_parts(j, u.seq);
    return answer(j, who, id, ret, err);
}

/* ---- the other ends ------------------------------------------------------------------------- */

sl_status upload_cancel(void *ctx, const llm_caller *who, const char *id, json_t **ret, sl_err *err)
{
    jobs *j = ctx;
    store_stmt *st = NULL;
    int64_t seq = 0;
    sl_status status;

    store_lock(j->db);
    status = find_pending(j, who, id, &st, err);
    if (status == SL_OK)
        seq = store_int(st, 0);
    store_finish(st);
    if (status == SL_OK)
        status = store_run_with(j->db, err, "UPDATE upload SET status = 'cancelled' WHERE seq = ?",
                                "i", seq);
    store_unlock(j->db);
    if (status != SL_OK)
        return status;
    drop_parts(j, seq);
    return answer(j, who, id, ret, err);
}

void uploads_expire(jobs *j)
{
    for (;;) {
        store_stmt *st = NULL;
        int64_t seq = 0;

        store_lock(j->db);
        /* Those that ended, too: a crash may have left their parts. */
        if (store_first_with(j->db, &st, NULL,
                             "SELECT seq FROM upload WHERE (status = 'pending' AND expires <= ?) OR"
                             " (status <> 'pending' AND EXISTS (SELECT 1 FROM part WHERE upload ="
                             " upload.seq)) LIMIT 1",
                             "i", jobs_now_s(j)) == SL_OK &&
            st)
            seq = store_int(st, 0);
        store_finish(st);
        if (seq && store_run_with(j->db, NULL,
                                  "UPDATE upload SET status = 'expired' WHERE seq = ? AND status ="
                                  " 'pending'",
                                  "i", seq) != SL_OK)
            seq = 0;
        store_unlock(j->db);
        if (!seq || !drop_parts(j, seq))
            return;
    }
}
