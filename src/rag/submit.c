/* submit.c - takes a document: its row and its bytes are in the database when this has returned,
 * and nothing else has happened. Reading it is the queue's work. */
#include <openssl/evp.h>
#include <stdlib.h>

#include "base/os.h"
#include "rag/ingest.h"

/* ---- checks --------------------------------------------------------------------------------- */

sl_status rag_check_name(const char *what, const char *name, sl_err *err)
{
    size_t len = name ? strlen(name) : 0;

    if (len == 0)
        return sl_fail(err, SL_EINVAL, "the %s has no name", what);
    if (len > RAG_NAME_BYTES_MAX)
        return sl_fail(err, SL_EINVAL, "the name of the %s has %zu bytes; %d are allowed", what,
                       len, RAG_NAME_BYTES_MAX);
    if (!sl_utf8_valid(name, len))
        return sl_fail(err, SL_EINVAL, "the name of the %s is not UTF-8", what);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return sl_fail(err, SL_EINVAL, "the name of the %s has a control character", what);
    return SL_OK;
}

sl_status rag_check_attributes(const json_t *attributes, sl_err *err)
{
    const char *key;
    json_t *v;

    if (!attributes)
        return SL_OK;
    if (!json_is_object(attributes) || json_object_size(attributes) > INGEST_ATTRIBUTES)
        return sl_fail(err, SL_EINVAL, "Invalid 'attributes': expected an object of at most %d",
                       INGEST_ATTRIBUTES);
    json_object_foreach((json_t *)(uintptr_t)attributes, key, v)
    {
        bool is_value = json_is_string(v) ? json_string_length(v) <= INGEST_VALUE_BYTES
                                          : json_is_number(v) || json_is_boolean(v);

        if (strlen(key) > INGEST_KEY_BYTES || !is_value)
            return sl_fail(err, SL_EINVAL,
                           "Invalid 'attributes': '%.64s' must have a name of at most %d bytes and "
                           "a text of at most %d, a number or a boolean",
                           key, INGEST_KEY_BYTES, INGEST_VALUE_BYTES);
    }
    return SL_OK;
}

static sl_status check_spec(const llm_document_spec *s, sl_err *err)
{
    SL_TRY(rag_check_name("collection", s->collection ? s->collection : "default", err));
    SL_TRY(rag_check_name("document", s->name, err));
    if (s->file_id && (strncmp(s->file_id, "file-", 5) != 0 || strlen(s->file_id) > 64))
        return sl_fail(err, SL_EINVAL, "Invalid 'file_id': '%.60s' is no id of a file", s->file_id);
    if (s->bytes.len > INGEST_BYTES_MAX)
        return sl_fail(err, SL_ELIMIT, "the document has %zu bytes; %zu are allowed", s->bytes.len,
                       INGEST_BYTES_MAX);
    SL_TRY(rag_check_attributes(s->attributes, err));
    SL_TRY(index_check_access(s->access, err));
    if (s->source && (strlen(s->source) > 4096 || !sl_utf8_valid(s->source, strlen(s->source))))
        return sl_fail(err, SL_EINVAL, "Invalid 'source': expected at most 4096 bytes of UTF-8");
    if (s->trust && strcmp(s->trust, "trusted") != 0 && strcmp(s->trust, "untrusted") != 0)
        return sl_fail(err, SL_EINVAL, "Invalid 'trust': expected trusted or untrusted");
    if (s->chunk_tokens < 0 || s->overlap_tokens < 0 ||
        (s->chunk_tokens && s->overlap_tokens * 2 > s->chunk_tokens))
        return sl_fail(err, SL_EINVAL,
                       "Invalid 'chunk_tokens': the overlap may be half of it at most");
    return SL_OK;
}

/* ---- the transaction ------------------------------------------------------------------------ */

typedef struct submission {
    const llm_document_spec *s;
    const char *batch;
    const rag_model *model;
    bool is_urgent;
    uint8_t sha256[32];
    char *kept; /* what the queue keeps of s, as JSON */
    int64_t collection, document;
    int64_t id; /* of the queue's line; 0: there is nothing to do */
    char old_status[16], old_settings[64];
    uint8_t old_sha256[32];
} submission;

static sl_status find_collection(rag *r, submission *w, sl_err *err)
{
    const char *name = w->s->collection ? w->s->collection : "default";
    int64_t generation;
    bool found;

    SL_TRY(index_collection(r, name, w->model, &w->collection, &generation, err));
    if (!w->collection && strncmp(name, "vs_", 3) == 0)
        return sl_fail(err, SL_ENOTFOUND, "there is no collection '%s'", name);
    if (!w->collection)
        SL_TRY(index_make_collection(r, name, NULL, &w->collection, err));
    SL_TRY(rag_db_exists(r, NULL, &found, err,
                         "SELECT 1 FROM collections WHERE id = ?1 AND expires_after > 0 AND"
                         " last_active + expires_after <= ?2",
                         "ii", w->collection, rag_now_s(r)));
    if (found)
        return sl_fail(err, SL_ECONFLICT, "collection '%s' has expired; make a new one", name);
    if (!w->batch)
        return SL_OK;
    SL_TRY(rag_db_exists(r, NULL, &found, err,
                         "SELECT 1 FROM batches WHERE public_id = ?1 AND collection = ?2 AND NOT"
                         " cancelled",
                         "si", w->batch, w->collection));
    return found ? SL_OK
                 : sl_fail(err, SL_ECONFLICT, "batch '%s' takes no files any more", w->batch);
}

/* The document that is replaced: that of the file, or that of the name as far as the caller may
 * know of it. */
static sl_status find_old(rag *r, submission *w, sl_err *err)
{
    const char *sql = w->s->file_id
                          ? "SELECT id, status, sha256, settings FROM documents d WHERE collection"
                            " = ?1 AND public_id = ?2"
                          : "SELECT id, status, sha256, settings FROM documents d WHERE collection"
                            " = ?1 AND (name = ?2 OR label = ?2) AND " INDEX_MAY_READ(
                                "d") " ORDER BY name = ?2 DESC LIMIT 1";
    store_stmt *st;
    sl_span sha256;

    SL_TRY(rag_db_first(r, w->s->caller, &st, err, sql, "is", w->collection,
                        w->s->file_id ? w->s->file_id : w->s->name));
    if (!st)
        return SL_OK;
    w->document = store_int(st, 0);
    snprintf(w->old_status, sizeof w->old_status, "%s", store_text(st, 1));
    sha256 = store_bytes(st, 2);
    if (sha256.len == sizeof w->old_sha256)
        memcpy(w->old_sha256, sha256.ptr, sha256.len);
    snprintf(w->old_settings, sizeof w->old_settings, "%s", store_text(st, 3));
    store_finish(st);
    return SL_OK;
}

/* The row of a document that nobody has read yet. */
static sl_status insert_row(rag *r, submission *w, sl_err *err)
{
    const llm_document_spec *s = w->s;
    char made[48], key[RAG_NAME_BYTES_MAX + 80];
    const char *id = s->file_id ? s->file_id : made;
    bool is_taken;

    sl_random_id(made, sizeof made, "doc_", 12);
    SL_TRY(rag_db_exists(r, NULL, &is_taken, err,
                         "SELECT 1 FROM documents WHERE collection = ?1 AND name = ?2", "is",
                         w->collection, s->name));
    if (is_taken)
        snprintf(key, sizeof key, "%s (%s)", s->name, id);
    SL_TRY(store_run_with(
        r->db, err,
        "INSERT INTO documents (collection, name, label, sha256, settings, bytes, title,"
        " updated, text, public_id, type, source, trust, created, status)"
        " VALUES (?1, ?2, ?3, x'', '', ?4, '', ?5, '', ?6, '', coalesce(?7, ''),"
        " coalesce(?8, 'untrusted'), ?5, 'in_progress')",
        "issiisss", w->collection, is_taken ? key : s->name, is_taken ? s->name : "",
        (int64_t)s->bytes.len, rag_now_s(r), id, s->source, s->trust));
    w->document = store_last_id(r->db);
    return index_update(r, w->document, s->attributes, s->access, err);
}

static sl_status is_same(rag *r, const submission *w, bool *ret, sl_err *err)
{
    char settings[64];
    cut_settings cut;
    store_stmt *st;

    *ret = false;
    if (strcmp(w->old_status, "completed") != 0 || memcmp(w->old_sha256, w->sha256, 32) != 0)
        return SL_OK;
    SL_TRY(rag_db_first(r, NULL, &st, err, "SELECT settings FROM collections WHERE id = ?1", "i",
                        w->collection));
    cut = cut_settings_of(r, store_text(st, 0), w->s->chunk_tokens, w->s->overlap_tokens);
    store_finish(st);
    cut_settings_text(&cut, settings);
    *ret = strcmp(settings, w->old_settings) == 0;
    return SL_OK;
}

/* The same bytes, cut the same way: only what is said about them is new. */
static sl_status update_only(rag *r, submission *w, sl_err *err)
{
    SL_TRY(index_update(r, w->document, w->s->attributes, w->s->access, err));
    return store_run_with(
        r->db, err,
        "UPDATE documents SET source = coalesce(?2, source), trust = coalesce(?3, trust),"
        " batch = coalesce(?4, '') WHERE id = ?1",
        "isss", w->document, w->s->source, w->s->trust, w->batch);
}

static sl_status submit_in(rag *r, void *ctx, sl_err *err)
{
    submission *w = ctx;
    bool same = false;

    SL_TRY(find_collection(r, w, err));
    SL_TRY(find_old(r, w, err));
    if (!w->document)
        SL_TRY(insert_row(r, w, err));
    else
        SL_TRY(is_same(r, w, &same, err));
    if (same)
        return update_only(r, w, err);
    SL_TRY(store_run_with(
        r->db, err,
        "UPDATE documents SET status = 'in_progress', error_status = 0, error = '', batch"
        " = coalesce(?2, ''), chunk_tokens = ?3, overlap_tokens = ?4 WHERE id = ?1",
        "isii", w->document, w->batch, (int64_t)w->s->chunk_tokens, (int64_t)w->s->overlap_tokens));
    ingest_step(r, 10);
    SL_TRY(store_run_with(r->db, err, "DELETE FROM queue WHERE document = ?1", "i", w->document));
    SL_TRY(store_run_with(
        r->db, err,
        "INSERT INTO queue (document, urgent, sha256, spec, bytes) VALUES (?1, ?2, ?3,"
        " ?4, ?5)",
        "iibsb", w->document, (int64_t)w->is_urgent, sl_span_of(w->sha256, 32), w->kept,
        sl_span_of(w->s->bytes.ptr ? (const void *)w->s->bytes.ptr : "", w->s->bytes.len)));
    w->id = store_last_id(r->db);
    ingest_step(r, 11);
    return store_run_with(r->db, err, "UPDATE collections SET last_active = ?2 WHERE id = ?1", "ii",
                          w->collection, rag_now_s(r));
}

/* ---- the door ------------------------------------------------------------------------------- */

static char *keep_spec(const llm_document_spec *s)
{
    json_t *root = json_pack("{s:s?,s:s?,s:O?,s:O?}", "source", s->source, "trust", s->trust,
                             "attributes", s->attributes, "access", s->access);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

    json_decref(root);
    return text;
}

static sl_status submit(rag *r, submission *w, sl_err *err)
{
    rag_model model;
    sl_status status;

    SL_TRY(check_spec(w->s, err));
    SL_TRY(rag_embed_model(r, &model, err));
    w->model = &model;
    if (EVP_Digest(w->s->bytes.ptr ? (const void *)w->s->bytes.ptr : "", w->s->bytes.len, w->sha256,
                   NULL, EVP_sha256(), NULL) != 1)
        return sl_fail(err, SL_EINTERNAL, "SHA-256 failed");
    w->kept = keep_spec(w->s);
    if (!w->kept)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    status = rag_db_write(r, submit_in, w, err);
    free(w->kept); /* jansson's */
    if (status == SL_OK)
        ingest_wake(r);
    ingest_step(r, 12);
    return status;
}

static sl_status read_back(rag *r, const submission *w, json_t **ret, sl_err *err)
{
    sl_status status;

    store_lock(r->db); /* of one's own, whatever its list says */
    status = document_read(r, NULL, w->document, ret, err);
    store_unlock(r->db);
    return status;
}

sl_status document_submit(void *ctx, const llm_document_spec *spec, const char *batch, json_t **ret,
                          sl_err *err)
{
    submission w = { .s = spec, .batch = batch };

    SL_TRY(submit(ctx, &w, err));
    return read_back(ctx, &w, ret, err);
}

sl_status document_add(void *ctx, const llm_document_spec *spec, json_t **ret, sl_err *err)
{
    submission w = { .s = spec, .is_urgent = true };

    SL_TRY(submit(ctx, &w, err));
    if (w.id)
        SL_TRY(ingest_wait(ctx, w.id, err));
    return read_back(ctx, &w, ret, err);
}
