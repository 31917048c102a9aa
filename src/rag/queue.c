/* queue.c - documents between the queue and their collections.
 *
 * A line is taken by reading it; it goes away in the transaction that stores its result. Whoever is
 * killed in between has done nothing. */
#include <stdlib.h>

#include "rag/ingest.h"

/* A block as the database keeps it: little-endian, as all machines we run on. */
typedef struct kept_block {
    uint32_t begin, end, page, header;
    uint8_t kind, level;
    uint16_t zero;
} kept_block;

_Static_assert(sizeof(kept_block) == 20, "no padding");

void ingest_job_destroy(ingest_job *j)
{
    if (!j)
        return;
    sl_free(j->collection);
    sl_free(j->name);
    sl_free(j->shown);
    json_decref(j->spec);
    sl_free(j->bytes);
    if (j->is_again) { /* ours, not the reader's */
        sl_free(j->text.text);
        sl_free(j->text.blocks);
    } else if (j->has_text) {
        reader_document_deinit(&j->text);
    }
    chunk_list_deinit(&j->chunks);
    sl_free(j->vectors);
    sl_free(j);
}

/* ---- taking --------------------------------------------------------------------------------- */

/* The first id that sql gives from `from` on and that is not held. */
static sl_status first_free(rag *r, const char *sql, int64_t from, const int64_t *held,
                            size_t count, int64_t *ret, sl_err *err)
{
    store_stmt *st;
    bool row = false;
    sl_status status;

    *ret = 0;
    SL_TRY(store_prepare(r->db, sql, &st, err));
    store_bind_int(st, 1, from);
    while ((status = store_step(st, &row, err)) == SL_OK && row && !*ret) {
        int64_t id = store_int(st, 0);
        bool is_held = false;

        for (size_t i = 0; i < count; i++)
            is_held = is_held || held[i] == id;
        *ret = is_held ? 0 : id;
    }
    store_finish(st);
    return status;
}

/* Most lines are taken in the order they came, so that what is behind all that is held is looked at
 * before the rest. */
static sl_status next_id(rag *r, const int64_t *held, size_t count, int64_t *ret, sl_err *err)
{
    int64_t last = 0;

    for (size_t i = 0; i < count; i++)
        last = SL_MAX(last, held[i]);
    SL_TRY(first_free(r, "SELECT id FROM queue WHERE urgent = 1 AND id > ?1 ORDER BY id", 0, held,
                      count, ret, err));
    if (*ret == 0)
        SL_TRY(first_free(r,
                          "SELECT id FROM queue WHERE urgent = 0 AND id > ?1 ORDER BY id LIMIT 1",
                          last, held, count, ret, err));
    if (*ret == 0)
        SL_TRY(first_free(r, "SELECT id FROM queue WHERE urgent = 0 AND id > ?1 ORDER BY id", 0,
                          held, count, ret, err));
    return SL_OK;
}

static sl_status copy_line(const rag *r, store_stmt *st, ingest_job *j, sl_err *err)
{
    sl_span sha256 = store_bytes(st, 2), bytes = store_bytes(st, 4);

    j->id = store_int(st, 0);
    j->document = store_int(st, 1);
    if (sha256.len == sizeof j->sha256)
        memcpy(j->sha256, sha256.ptr, sha256.len);
    j->spec = json_loads(store_text(st, 3), 0, NULL);
    j->is_again = store_int(st, 5);
    j->name = sl_strdup(store_text(st, 6));
    j->shown = sl_strdup(store_text(st, 7));
    j->collection = sl_strdup(store_text(st, 8));
    j->cut = cut_settings_of(r, store_text(st, 9), (int)store_int(st, 10), (int)store_int(st, 11));
    j->size = j->is_again ? (size_t)store_int(st, 12) : bytes.len;
    if (!j->is_again) {
        j->bytes = sl_malloc(bytes.len + 1);
        j->len = bytes.len;
        if (j->bytes && bytes.len)
            memcpy(j->bytes, bytes.ptr, bytes.len);
    }
    if (!j->spec || !j->name || !j->shown || !j->collection || (!j->is_again && !j->bytes))
        return sl_fail(err, SL_ENOMEM, "out of memory for a document of %zu bytes", bytes.len);
    return SL_OK;
}

static sl_status copy_text(store_stmt *st, ingest_job *j, sl_err *err)
{
    sl_span text = store_bytes(st, 0), blocks = store_bytes(st, 1);
    reader_document *d = &j->text;
    size_t count = blocks.len / sizeof(kept_block);

    d->text = sl_strndup((const char *)text.ptr, text.len);
    d->len = text.len;
    d->blocks = sl_calloc(count + 1, sizeof *d->blocks);
    if (!d->text || !d->blocks)
        return sl_fail(err, SL_ENOMEM, "out of memory for a document");
    for (size_t i = 0; i < count; i++) {
        kept_block k;

        memcpy(&k, blocks.ptr + i * sizeof k, sizeof k);
        d->blocks[i] = (reader_block){ .begin = k.begin,
                                       .end = k.end,
                                       .kind = k.kind,
                                       .level = k.level,
                                       .page = k.page,
                                       .header = k.header };
    }
    d->count = count;
    d->pages = (uint32_t)store_int(st, 2);
    snprintf(d->type, sizeof d->type, "%s", store_text(st, 3));
    snprintf(d->title, sizeof d->title, "%s", store_text(st, 4));
    j->has_text = true;
    return SL_OK;
}

static sl_status load(rag *r, int64_t id, ingest_job *j, sl_err *err)
{
    store_stmt *st = NULL;
    sl_status status;

    SL_TRY(rag_db_first(
        r, NULL, &st, err,
        "SELECT q.id, q.document, q.sha256, q.spec, q.bytes, q.bytes IS NULL, d.name,"
        " " DB_SHOWN(
            "d") ", c.public_id, c.settings, d.chunk_tokens, d.overlap_tokens,"
                 " d.bytes FROM queue q JOIN documents d ON d.id = q.document JOIN collections c"
                 " ON c.id = d.collection WHERE q.id = ?1",
        "i", id));
    if (!st)
        return sl_fail(err, SL_ENOTFOUND, "a line of the queue is gone");
    status = copy_line(r, st, j, err);
    store_finish(st);
    if (status != SL_OK || !j->is_again)
        return status;
    SL_TRY(
        rag_db_first(r, NULL, &st, err,
                     "SELECT d.text, b.blocks, d.pages, d.type, d.title FROM documents d LEFT JOIN"
                     " blocks b ON b.document = d.id WHERE d.id = ?1",
                     "i", j->document));
    status = st ? copy_text(st, j, err) : sl_fail(err, SL_ENOTFOUND, "a document is gone");
    store_finish(st);
    return status;
}

sl_status queue_take(rag *r, const int64_t *held, size_t count, ingest_job **ret, sl_err *err)
{
    ingest_job *j = NULL;
    int64_t id = 0;
    sl_status status;

    store_lock(r->db);
    status = store_begin_read(r->db, err);
    if (status == SL_OK)
        status = next_id(r, held, count, &id, err);
    if (status == SL_OK && id && !(j = sl_calloc(1, sizeof *j)))
        status = sl_fail(err, SL_ENOMEM, "out of memory for a document");
    if (status == SL_OK && j)
        status = load(r, id, j, err);
    store_rollback(r->db); /* nothing was written */
    store_unlock(r->db);
    if (status != SL_OK) {
        ingest_job_destroy(j);
        j = NULL;
    }
    *ret = j;
    return status;
}

sl_status queue_has(rag *r, int64_t id, bool *ret, sl_err *err)
{
    store_stmt *st = NULL;
    sl_status status;

    store_lock(r->db);
    status = rag_db_first(r, NULL, &st, err, "SELECT 1 FROM queue WHERE id = ?1", "i", id);
    *ret = st != NULL;
    store_finish(st);
    store_unlock(r->db);
    return status;
}

/* ---- results -------------------------------------------------------------------------------- */

typedef struct finishing {
    const rag_model *model;
    ingest_job *jobs;
} finishing;

static sl_status put_blocks(rag *r, const ingest_job *j, sl_err *err)
{
    const reader_document *d = &j->text;
    kept_block *kept = sl_calloc(d->count + 1, sizeof *kept);
    sl_status status;

    if (!kept)
        return sl_fail(err, SL_ENOMEM, "out of memory for a document");
    for (size_t i = 0; i < d->count; i++)
        kept[i] = (kept_block){ .begin = (uint32_t)d->blocks[i].begin,
                                .end = (uint32_t)d->blocks[i].end,
                                .page = d->blocks[i].page,
                                .header = d->blocks[i].header,
                                .kind = d->blocks[i].kind,
                                .level = d->blocks[i].level };
    status = store_run_with(r->db, err,
                            "INSERT OR REPLACE INTO blocks (document, blocks) VALUES (?1, ?2)",
                            "ib", j->document, sl_span_of(kept, d->count * sizeof *kept));
    sl_free(kept);
    return status;
}

static sl_status put_failure(rag *r, const ingest_job *j, sl_err *err)
{
    return store_run_with(
        r->db, err,
        "UPDATE documents SET status = 'failed', error_status = ?2, error = ?3, updated ="
        " ?4 WHERE id = ?1",
        "iisi", j->document, (int64_t)j->failure.status, j->failure.text, rag_now_s(r));
}

/* What was said about the document; NULL: nothing, it keeps what it has. */
static const json_t *said(const ingest_job *j, const char *key)
{
    const json_t *v = json_object_get(j->spec, key);

    return json_is_null(v) ? NULL : v;
}

static const char *said_text(const ingest_job *j, const char *key)
{
    return json_string_value(json_object_get(j->spec, key));
}

static sl_status put_result(rag *r, const rag_model *m, ingest_job *j, sl_err *err)
{
    index_document d = { .collection = j->collection,
                         .name = j->name,
                         .title = j->chunks.title[0] ? j->chunks.title : j->shown,
                         .source = said_text(j, "source"),
                         .trust = said_text(j, "trust"),
                         .type = j->text.type,
                         .pages = j->text.pages,
                         .bytes = (int64_t)j->size,
                         .attributes = said(j, "attributes"),
                         .access = said(j, "access"),
                         .text = sl_span_of(j->text.text, j->text.len),
                         .model = m,
                         .chunks = &j->chunks,
                         .vectors = j->vectors };
    int64_t id, generation, document = 0;

    memcpy(d.sha256, j->sha256, sizeof d.sha256);
    cut_settings_text(&j->cut, d.settings);
    if (index_collection(r, j->collection, m, &id, &generation, &j->failure) != SL_OK) {
        j->failure.status = SL_ECONFLICT;
        return put_failure(r, j, err); /* another model came first */
    }
    SL_TRY(index_put(r, &d, &document, err));
    SL_ASSERT(document == j->document);
    SL_TRY(put_blocks(r, j, err));
    return store_run_with(
        r->db, err,
        "UPDATE documents SET status = 'completed', error_status = 0, error = '', chunks ="
        " ?2 WHERE id = ?1",
        "ii", j->document, (int64_t)j->chunks.count);
}

static sl_status finish_in(rag *r, void *ctx, sl_err *err)
{
    const finishing *f = ctx;

    for (ingest_job *j = f->jobs; j; j = j->next) {
        SL_TRY(store_run_with(r->db, err, "DELETE FROM queue WHERE id = ?1", "i", j->id));
        if (store_changes(r->db) == 0)
            continue; /* replaced, removed or cancelled meanwhile */
        ingest_step(r, 15);
        if (j->failure.status != SL_OK)
            SL_TRY(put_failure(r, j, err));
        else
            SL_TRY(put_result(r, f->model, j, err));
    }
    ingest_step(r, 16);
    return SL_OK;
}

sl_status queue_finish(rag *r, const rag_model *m, ingest_job *jobs, sl_err *err)
{
    finishing f = { m, jobs };

    return rag_db_write(r, finish_in, &f, err);
}

sl_status queue_cut_again(rag *r, int64_t collection, bool all, sl_err *err)
{
    SL_TRY(store_run_with(
        r->db, err,
        "INSERT INTO queue (document, urgent, sha256, spec, bytes)"
        " SELECT id, 0, sha256, json_object('source', source, 'trust', trust), NULL FROM"
        " documents d WHERE collection = ?1 AND"
        " chunks > 0 AND (?2 OR chunk_tokens = 0) AND NOT EXISTS (SELECT 1 FROM queue WHERE"
        " document = d.id)",
        "ii", collection, (int64_t)all));
    return store_run_with(
        r->db, err,
        "UPDATE documents SET status = 'in_progress', error_status = 0, error = '' WHERE"
        " collection = ?1 AND id IN (SELECT document FROM queue)",
        "i", collection);
}
