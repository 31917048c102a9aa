/* documents.c - what documents and batches there are, as far as the caller may know of them. */
#include <stdlib.h>

#include "base/os.h"
#include "rag/ingest.h"

/* ---- objects -------------------------------------------------------------------------------- */

enum {
    COL_ID,
    COL_NAME,
    COL_COLLECTION,
    COL_STATUS,
    COL_ERROR_STATUS,
    COL_ERROR,
    COL_BYTES,
    COL_CHUNKS,
    COL_TYPE,
    COL_PAGES,
    COL_TITLE,
    COL_SOURCE,
    COL_TRUST,
    COL_ATTRIBUTES,
    COL_ACCESS,
    COL_CREATED,
    COL_UPDATED,
    COL_BATCH,
    COL_CHUNK_TOKENS,
    COL_OVERLAP_TOKENS,
    COL_SETTINGS,
};

#define DOCUMENT_COLUMNS                                                                           \
    "SELECT d.public_id, " DB_SHOWN(                                                               \
        "d") ", c.public_id, d.status, d.error_status, d.error,"                                   \
             " d.bytes, d.chunks, d.type, d.pages, d.title, d.source, d.trust, d.attributes,"      \
             " CASE d.restricted WHEN 0 THEN 'null' ELSE (SELECT json_group_array(principal) "     \
             "FROM grants"                                                                         \
             " WHERE document = d.id) END, d.created, d.updated, d.batch, d.chunk_tokens,"         \
             " d.overlap_tokens, c.settings FROM documents d JOIN collections c ON c.id = "        \
             "d.collection"

/* OpenAI's words for why a document was not taken in. */
static const char *code_of(int64_t status)
{
    switch (status) {
    case SL_ENOTSUP:
        return "unsupported_file";
    case SL_EFORMAT:
    case SL_ELIMIT:
    case SL_EINVAL:
    case SL_ECONTEXT:
        return "invalid_file";
    default:
        return "server_error";
    }
}

static json_t *json_of(const char *text, int flags)
{
    json_t *v = json_loads(text, flags, NULL);

    return v ? v : json_null();
}

static const char *text_or_null(const char *text)
{
    return text[0] ? text : NULL;
}

static json_t *row_json(const rag *r, store_stmt *st)
{
    bool has_failed = strcmp(store_text(st, COL_STATUS), "failed") == 0;
    cut_settings cut =
        cut_settings_of(r, store_text(st, COL_SETTINGS), (int)store_int(st, COL_CHUNK_TOKENS),
                        (int)store_int(st, COL_OVERLAP_TOKENS));
    json_t *error = has_failed
                        ? json_pack("{s:s,s:s}", "code", code_of(store_int(st, COL_ERROR_STATUS)),
                                    "message", store_text(st, COL_ERROR))
                        : json_null();

    return json_pack(
        "{s:s,s:s,s:s,s:s,s:o,s:I,s:I,s:s?,s:I,s:s?,s:s?,s:s,s:o,s:o,s:I,s:I,s:s?,s:i,s:i}", "id",
        store_text(st, COL_ID), "name", store_text(st, COL_NAME), "collection_id",
        store_text(st, COL_COLLECTION), "status", store_text(st, COL_STATUS), "error", error,
        "bytes", (json_int_t)store_int(st, COL_BYTES), "chunks",
        (json_int_t)store_int(st, COL_CHUNKS), "type", text_or_null(store_text(st, COL_TYPE)),
        "pages", (json_int_t)store_int(st, COL_PAGES), "title",
        text_or_null(store_text(st, COL_TITLE)), "source", text_or_null(store_text(st, COL_SOURCE)),
        "trust", store_text(st, COL_TRUST), "attributes",
        json_of(store_text(st, COL_ATTRIBUTES), 0), "access",
        json_of(store_text(st, COL_ACCESS), JSON_DECODE_ANY), "created_at",
        (json_int_t)store_int(st, COL_CREATED), "updated_at",
        (json_int_t)store_int(st, COL_UPDATED), "batch_id", text_or_null(store_text(st, COL_BATCH)),
        "chunk_tokens", cut.tokens, "overlap_tokens", cut.overlap);
}

sl_status document_read(rag *r, const llm_caller *who, int64_t document, json_t **ret, sl_err *err)
{
    store_stmt *st;

    SL_TRY(rag_db_first(r, who, &st, err,
                        DOCUMENT_COLUMNS " WHERE d.id = ?1 AND " INDEX_MAY_READ("d"), "i",
                        document));
    if (!st)
        return sl_fail(err, SL_ENOTFOUND, "the document is gone");
    *ret = row_json(r, st);
    store_finish(st);
    return *ret ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory for a document");
}

sl_status document_find(rag *r, const llm_caller *who, int64_t collection, const char *document,
                        int64_t *ret_id, sl_err *err)
{
    store_stmt *st;

    SL_TRY(rag_db_first(
        r, who, &st, err,
        "SELECT id FROM documents d WHERE collection = ?1 AND (public_id = ?2 OR name ="
        " ?2 OR label = ?2) AND " INDEX_MAY_READ(
            "d") " ORDER BY public_id = ?2 DESC, name = ?2 DESC, id DESC LIMIT 1",
        "is", collection, document));
    *ret_id = st ? store_int(st, 0) : 0;
    store_finish(st);
    return *ret_id ? SL_OK : sl_fail(err, SL_ENOTFOUND, "there is no document '%.200s'", document);
}

static sl_status find(rag *r, const llm_caller *who, const char *collection, const char *document,
                      int64_t *ret_collection, int64_t *ret_document, sl_err *err)
{
    SL_TRY(collection_find(r, collection, ret_collection, err));
    return document_find(r, who, *ret_collection, document, ret_document, err);
}

/* ---- reading -------------------------------------------------------------------------------- */

sl_status document_get(void *ctx, const llm_caller *who, const char *collection,
                       const char *document, json_t **ret, sl_err *err)
{
    rag *r = ctx;
    int64_t in, id;
    sl_status status;

    store_lock(r->db);
    status = find(r, who, collection, document, &in, &id, err);
    if (status == SL_OK)
        status = document_read(r, who, id, ret, err);
    store_unlock(r->db);
    return status;
}

typedef struct listing {
    rag *r;
    const llm_caller *who;
    int64_t collection;
    const llm_docs_page *page;
} listing;

static void bind_list(store_stmt *st, void *ctx)
{
    const listing *l = ctx;

    store_bind_int(st, 1, l->collection);
    store_bind_str(st, 2, l->page->status);
    store_bind_str(st, 3, l->page->batch);
    index_bind_caller(st, l->who);
}

static json_t *list_row(store_stmt *st, void *ctx)
{
    return row_json(((const listing *)ctx)->r, st);
}

static sl_status list_place(rag *r, void *ctx, const char *id, int64_t *ret, sl_err *err)
{
    const listing *l = ctx;

    if (document_find(r, l->who, l->collection, id, ret, NULL) == SL_OK)
        return SL_OK;
    return sl_fail(err, SL_EINVAL, "Invalid 'after': there is no document '%.60s'", id);
}

static sl_status check_batch(rag *r, int64_t collection, const char *batch, sl_err *err)
{
    bool found = true;

    if (batch)
        SL_TRY(rag_db_exists(r, NULL, &found, err,
                             "SELECT 1 FROM batches WHERE public_id = ?1 AND collection = ?2", "si",
                             batch, collection));
    return found ? SL_OK : sl_fail(err, SL_ENOTFOUND, "there is no batch '%.60s'", batch);
}

sl_status document_list(void *ctx, const llm_caller *who, const char *collection,
                        const llm_docs_page *page, json_t **ret, sl_err *err)
{
    rag *r = ctx;
    listing l = { .r = r, .who = who, .page = page };
    const rag_db_list form = { .sql = DOCUMENT_COLUMNS
                               " WHERE d.collection = ?1 AND (?2 IS NULL OR d.status = ?2) AND"
                               " (?3 IS NULL OR d.batch = ?3) AND " INDEX_MAY_READ("d"),
                               .key = "d.id",
                               .bind = bind_list,
                               .row = list_row,
                               .place = list_place,
                               .ctx = &l };
    sl_status status;

    store_lock(r->db);
    status = collection_find(r, collection, &l.collection, err);
    if (status == SL_OK)
        status = check_batch(r, l.collection, page->batch, err);
    if (status == SL_OK)
        status = rag_db_page(r, page, &form, ret, err);
    store_unlock(r->db);
    return status;
}

static sl_status put_text(rag *r, int64_t document, sl_buf *out, sl_err *err)
{
    store_stmt *st;
    sl_span text;

    SL_TRY(
        rag_db_first(r, NULL, &st, err, "SELECT text FROM documents WHERE id = ?1", "i", document));
    SL_ASSERT(st); /* it was there under the same lock */
    text = store_bytes(st, 0);
    sl_buf_put(out, text.ptr, text.len);
    store_finish(st);
    return sl_buf_ok(out, "the text of a document", err);
}

sl_status document_text(void *ctx, const llm_caller *who, const char *collection,
                        const char *document, sl_buf *out, sl_err *err)
{
    rag *r = ctx;
    int64_t in, id;
    sl_status status;

    store_lock(r->db);
    status = find(r, who, collection, document, &in, &id, err);
    if (status == SL_OK)
        status = put_text(r, id, out, err);
    store_unlock(r->db);
    return status;
}

static sl_status list_passages(rag *r, int64_t document, json_t *list, sl_err *err)
{
    store_stmt *st = NULL;
    bool row = false;
    sl_status status =
        store_prepare(r->db,
                      "SELECT ordinal + 1, begin, end, page, heading, text FROM chunks WHERE"
                      " document = ?1 ORDER BY ordinal",
                      &st, err);

    if (status == SL_OK)
        store_bind_int(st, 1, document);
    while (status == SL_OK && (status = store_step(st, &row, err)) == SL_OK && row)
        if (json_array_append_new(
                list, json_pack("{s:I,s:I,s:I,s:I,s:s,s:s}", "number", (json_int_t)store_int(st, 0),
                                "begin", (json_int_t)store_int(st, 1), "end",
                                (json_int_t)store_int(st, 2), "page", (json_int_t)store_int(st, 3),
                                "heading", store_text(st, 4), "text", store_text(st, 5))) != 0)
            status = sl_fail(err, SL_ENOMEM, "out of memory for the passages");
    store_finish(st);
    return status;
}

sl_status document_passages(void *ctx, const llm_caller *who, const char *collection,
                            const char *document, json_t **ret, sl_err *err)
{
    json_t *list = json_array();
    rag *r = ctx;
    int64_t in, id;
    sl_status status;

    store_lock(r->db);
    status = find(r, who, collection, document, &in, &id, err);
    if (status == SL_OK)
        status = list_passages(r, id, list, err);
    store_unlock(r->db);
    if (status == SL_OK)
        *ret = list;
    else
        json_decref(list);
    return status;
}

/* ---- changing ------------------------------------------------------------------------------- */

typedef struct change {
    const llm_caller *who;
    const char *collection, *document;
    const json_t *attributes, *access;
    int64_t id;
} change;

/* What waits in the queue is told too, so that it does not undo the change. */
static sl_status update_queued(rag *r, const change *w, const char *key, const json_t *value,
                               sl_err *err)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    sl_status status;

    if (!value)
        return SL_OK;
    if (!text)
        return sl_fail(err, SL_ENOMEM, "out of memory for a document");
    status = store_run_with(
        r->db, err, "UPDATE queue SET spec = json_set(spec, ?2, json(?3)) WHERE document = ?1",
        "iss", w->id, key, text);
    free(text);
    return status;
}

static sl_status update_in(rag *r, void *ctx, sl_err *err)
{
    change *w = ctx;
    int64_t in;

    SL_TRY(find(r, w->who, w->collection, w->document, &in, &w->id, err));
    SL_TRY(index_update(r, w->id, w->attributes, w->access, err));
    SL_TRY(update_queued(r, w, "$.attributes", w->attributes, err));
    return update_queued(r, w, "$.access", w->access, err);
}

sl_status document_update(void *ctx, const llm_caller *who, const char *collection,
                          const char *document, const json_t *attributes, const json_t *access,
                          json_t **ret, sl_err *err)
{
    change w = { who, collection, document, attributes, access, 0 };
    rag *r = ctx;
    sl_status status;

    SL_TRY(rag_check_attributes(attributes, err));
    SL_TRY(index_check_access(access, err));
    SL_TRY(rag_db_write(r, update_in, &w, err));
    store_lock(r->db); /* also when he may not see it any more */
    status = document_read(r, NULL, w.id, ret, err);
    store_unlock(r->db);
    return status;
}

static sl_status remove_in(rag *r, void *ctx, sl_err *err)
{
    change *w = ctx;
    int64_t in;

    SL_TRY(find(r, w->who, w->collection, w->document, &in, &w->id, err));
    return index_remove_document(r, in, w->id, err);
}

sl_status document_remove(void *ctx, const llm_caller *who, const char *collection,
                          const char *document, sl_err *err)
{
    change w = { .who = who, .collection = collection, .document = document };

    return rag_db_write(ctx, remove_in, &w, err);
}

/* ---- batches -------------------------------------------------------------------------------- */

typedef struct batch_call {
    const llm_caller *who;
    const char *collection, *batch;
    char id[48];
    json_t *ret;
} batch_call;

static const char batch_sql[] =
    "SELECT b.public_id, c.public_id, b.created, b.cancelled,"
    " coalesce(sum(d.status = 'in_progress'), 0), coalesce(sum(d.status = 'completed'), 0),"
    " coalesce(sum(d.status = 'failed'), 0), coalesce(sum(d.status = 'cancelled'), 0), count(d.id)"
    " FROM batches b JOIN collections c ON c.id = b.collection LEFT JOIN documents d ON d.batch ="
    " b.public_id AND d.collection = b.collection AND " INDEX_MAY_READ(
        "d") " WHERE b.public_id = ?1 AND b.collection = ?2 GROUP BY b.id";

static const char *batch_status(store_stmt *st)
{
    bool all_failed = store_int(st, 6) > 0 && store_int(st, 6) == store_int(st, 8);

    if (store_int(st, 3))
        return "cancelled";
    if (store_int(st, 4) > 0)
        return "in_progress";
    return all_failed ? "failed" : "completed";
}

static sl_status read_batch(rag *r, batch_call *w, sl_err *err)
{
    int64_t collection = 0;
    store_stmt *st;

    SL_TRY(collection_find(r, w->collection, &collection, err));
    SL_TRY(rag_db_first(r, w->who, &st, err, batch_sql, "si", w->batch, collection));
    if (!st)
        return sl_fail(err, SL_ENOTFOUND, "there is no batch '%.60s'", w->batch);
    w->ret = json_pack(
        "{s:s,s:s,s:I,s:s,s:{s:I,s:I,s:I,s:I,s:I}}", "id", store_text(st, 0), "collection_id",
        store_text(st, 1), "created_at", (json_int_t)store_int(st, 2), "status", batch_status(st),
        "file_counts", "in_progress", (json_int_t)store_int(st, 4), "completed",
        (json_int_t)store_int(st, 5), "failed", (json_int_t)store_int(st, 6), "cancelled",
        (json_int_t)store_int(st, 7), "total", (json_int_t)store_int(st, 8));
    store_finish(st);
    return w->ret ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory for a batch");
}

static sl_status create_in(rag *r, void *ctx, sl_err *err)
{
    batch_call *w = ctx;
    int64_t collection = 0;

    SL_TRY(collection_find(r, w->collection, &collection, err));
    SL_TRY(store_run_with(
        r->db, err, "INSERT INTO batches (public_id, collection, created) VALUES (?1, ?2, ?3)",
        "sii", w->id, collection, rag_now_s(r)));
    w->batch = w->id;
    return read_batch(r, w, err);
}

sl_status docs_batch_create(void *ctx, const llm_caller *who, const char *collection, json_t **ret,
                            sl_err *err)
{
    batch_call w = { .who = who, .collection = collection };
    sl_status status;

    sl_random_id(w.id, sizeof w.id, "vsfb_", 12);
    status = rag_db_write(ctx, create_in, &w, err);
    if (status == SL_OK)
        *ret = w.ret;
    else
        json_decref(w.ret);
    return status;
}

sl_status docs_batch_get(void *ctx, const llm_caller *who, const char *collection,
                         const char *batch, json_t **ret, sl_err *err)
{
    batch_call w = { .who = who, .collection = collection, .batch = batch };
    rag *r = ctx;
    sl_status status;

    store_lock(r->db);
    status = read_batch(r, &w, err);
    store_unlock(r->db);
    if (status == SL_OK)
        *ret = w.ret;
    return status;
}

static sl_status cancel_in(rag *r, void *ctx, sl_err *err)
{
    batch_call *w = ctx;

    SL_TRY(read_batch(r, w, err)); /* is it there? */
    json_decref(w->ret);
    w->ret = NULL;
    SL_TRY(store_run_with(
        r->db, err,
        "UPDATE batches SET cancelled = 1 WHERE public_id = ?1 AND EXISTS (SELECT 1 FROM"
        " documents WHERE batch = ?1 AND status = 'in_progress')",
        "s", w->batch));
    SL_TRY(store_run_with(
        r->db, err,
        "DELETE FROM queue WHERE document IN (SELECT id FROM documents WHERE batch = ?1)", "s",
        w->batch));
    SL_TRY(store_run_with(r->db, err,
                          "UPDATE documents SET status = 'cancelled' WHERE batch = ?1 AND status ="
                          " 'in_progress'",
                          "s", w->batch));
    return read_batch(r, w, err);
}

sl_status docs_batch_cancel(void *ctx, const llm_caller *who, const char *collection,
                            const char *batch, json_t **ret, sl_err *err)
{
    batch_call w = { .who = who, .collection = collection, .batch = batch };
    sl_status status = rag_db_write(ctx, cancel_in, &w, err);

    if (status == SL_OK)
        *ret = w.ret;
    else
        json_decref(w.ret);
    return status;
}
