/* index.c - the database of documents: schema, replace, remove, list.
 *
 * A write to a collection raises its generation inside the same transaction, so that every process
 * that keeps its vectors in memory sees that they are old by reading one row. */
#include "rag/rag_int.h"

#include <stdio.h>

#include "base/os.h"

/* tidy: long: the schema is one text */
static const char *const migrations[] = {
    "CREATE TABLE collections ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,"
    "  model TEXT NOT NULL, dim INTEGER NOT NULL, generation INTEGER NOT NULL DEFAULT 0);"
    "CREATE TABLE documents ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  collection INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,"
    "  name TEXT NOT NULL, sha256 BLOB NOT NULL, settings TEXT NOT NULL, bytes INTEGER NOT NULL,"
    "  title TEXT NOT NULL, updated INTEGER NOT NULL, text TEXT NOT NULL,"
    "  UNIQUE (collection, name));"
    "CREATE TABLE chunks ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT," /* ids are never used twice */
    "  document INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,"
    "  ordinal INTEGER NOT NULL, begin INTEGER NOT NULL, end INTEGER NOT NULL,"
    "  heading TEXT NOT NULL, text TEXT NOT NULL, embedding BLOB NOT NULL,"
    "  UNIQUE (document, ordinal));"
    "CREATE VIRTUAL TABLE chunk_words USING fts5(heading, text, content='chunks',"
    "  content_rowid='id', tokenize='porter unicode61 remove_diacritics 2');"
    "CREATE TRIGGER chunk_added AFTER INSERT ON chunks BEGIN"
    "  INSERT INTO chunk_words (rowid, heading, text) VALUES (new.id, new.heading, new.text); END;"
    "CREATE TRIGGER chunk_removed AFTER DELETE ON chunks BEGIN"
    "  INSERT INTO chunk_words (chunk_words, rowid, heading, text)"
    "  VALUES ('delete', old.id, old.heading, old.text); END;",
};

sl_status index_open(rag *r, sl_err *err)
{
    return store_open(r->o.db_path, migrations, SL_COUNT_OF(migrations), &r->db, err);
}

sl_status index_collection(rag *r, const char *name, const rag_model *m, int64_t *ret_id,
                           int64_t *ret_generation, sl_err *err)
{
    store_stmt *st;
    bool row = false;
    sl_status status;

    SL_TRY(store_prepare(r->db, "SELECT id, generation, model, dim FROM collections WHERE name = ?",
                         &st, err));
    store_bind_str(st, 1, name);
    status = store_step(st, &row, err);
    if (status == SL_OK && row && m &&
        (strcmp(m->name, store_text(st, 2)) != 0 || (int64_t)m->dim != store_int(st, 3)))
        status = sl_fail(err, SL_ECONFLICT,
                         "collection '%s' was embedded by '%s' (%lld dimensions), the model now is "
                         "'%s' (%zu); use that model or add the documents to a new collection",
                         name, store_text(st, 2), (long long)store_int(st, 3), m->name, m->dim);
    if (status == SL_OK) {
        *ret_id = row ? store_int(st, 0) : 0;
        *ret_generation = row ? store_int(st, 1) : 0;
    }
    store_finish(st);
    return status;
}

/* Runs sql with one or two parameters: an id and a text, or NULL for one. */
static sl_status run_with(rag *r, const char *sql, int64_t id, const char *text, sl_err *err)
{
    store_stmt *st;
    sl_status status;

    SL_TRY(store_prepare(r->db, sql, &st, err));
    store_bind_int(st, 1, id);
    if (text)
        store_bind_str(st, 2, text);
    status = store_run(st, err);
    store_finish(st);
    return status;
}

static sl_status find_same(rag *r, const index_document *d, int64_t *ret_chunks, sl_err *err)
{
    int64_t collection, generation;
    store_stmt *st;
    bool row = false;
    sl_status status;

    SL_TRY(index_collection(r, d->collection, d->model, &collection, &generation, err));
    SL_TRY(store_prepare(r->db,
                         "SELECT (SELECT count(*) FROM chunks WHERE document = d.id)"
                         " FROM documents d"
                         " WHERE collection = ? AND name = ? AND sha256 = ? AND settings = ?",
                         &st, err));
    store_bind_int(st, 1, collection);
    store_bind_str(st, 2, d->name);
    store_bind_blob(st, 3, d->sha256, sizeof d->sha256);
    store_bind_str(st, 4, d->settings);
    status = store_step(st, &row, err);
    if (status == SL_OK)
        *ret_chunks = row ? store_int(st, 0) : -1;
    store_finish(st);
    return status;
}

sl_status index_same(rag *r, const index_document *d, int64_t *ret_chunks, sl_err *err)
{
    sl_status status;

    store_lock(r->db);
    status = find_same(r, d, ret_chunks, err);
    store_unlock(r->db);
    return status;
}

/* ---- replace ------------------------------------------------------------------------------- */

static void at_step(rag *r, int step)
{
    if (r->on_write)
        r->on_write(r->on_write_ctx, step);
}

static sl_status make_collection(rag *r, const index_document *d, int64_t *ret_id, sl_err *err)
{
    int64_t generation;
    store_stmt *st;
    sl_status status;

    SL_TRY(index_collection(r, d->collection, d->model, ret_id, &generation, err));
    if (*ret_id)
        return SL_OK;
    SL_TRY(store_prepare(r->db, "INSERT INTO collections (name, model, dim) VALUES (?, ?, ?)", &st,
                         err));
    store_bind_str(st, 1, d->collection);
    store_bind_str(st, 2, d->model->name);
    store_bind_int(st, 3, (int64_t)d->model->dim);
    status = store_run(st, err);
    store_finish(st);
    *ret_id = store_last_id(r->db);
    return status;
}

/* Deletes a document and its passages; *ret_found tells whether it was there. */
static sl_status delete_document(rag *r, int64_t collection, const char *name, bool *ret_found,
                                 sl_err *err)
{
    SL_TRY(run_with(r,
                    "DELETE FROM chunks WHERE document IN"
                    " (SELECT id FROM documents WHERE collection = ? AND name = ?)",
                    collection, name, err));
    SL_TRY(run_with(r, "DELETE FROM documents WHERE collection = ? AND name = ?", collection, name,
                    err));
    *ret_found = store_changes(r->db) > 0;
    return SL_OK;
}

static sl_status insert_document(rag *r, int64_t collection, const index_document *d,
                                 int64_t *ret_id, sl_err *err)
{
    store_stmt *st;
    sl_status status;

    SL_TRY(store_prepare(r->db,
                         "INSERT INTO documents"
                         " (collection, name, sha256, settings, bytes, title, updated, text)"
                         " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                         &st, err));
    store_bind_int(st, 1, collection);
    store_bind_str(st, 2, d->name);
    store_bind_blob(st, 3, d->sha256, sizeof d->sha256);
    store_bind_str(st, 4, d->settings);
    store_bind_int(st, 5, (int64_t)d->text.len);
    store_bind_str(st, 6, d->title);
    store_bind_int(st, 7, sl_clock_wall_ms() / 1000);
    store_bind_text(st, 8, (const char *)d->text.ptr, d->text.len);
    status = store_run(st, err);
    store_finish(st);
    *ret_id = store_last_id(r->db);
    return status;
}

static sl_status insert_chunks(rag *r, int64_t document, const index_document *d, sl_err *err)
{
    size_t dim = d->model->dim;
    store_stmt *st;
    sl_status status = SL_OK;

    SL_TRY(store_prepare(r->db,
                         "INSERT INTO chunks (document, ordinal, begin, end, heading, text,"
                         " embedding) VALUES (?, ?, ?, ?, ?, ?, ?)",
                         &st, err));
    for (size_t i = 0; i < d->chunks->count && status == SL_OK; i++) {
        const chunk *c = &d->chunks->items[i];

        store_bind_int(st, 1, document);
        store_bind_int(st, 2, (int64_t)i);
        store_bind_int(st, 3, (int64_t)c->begin);
        store_bind_int(st, 4, (int64_t)c->end);
        store_bind_str(st, 5, d->chunks->sections[c->section]);
        store_bind_text(st, 6, (const char *)d->text.ptr + c->begin, c->end - c->begin);
        store_bind_blob(st, 7, d->vectors + i * dim, dim * sizeof(float));
        status = store_run(st, err);
        at_step(r, 3);
    }
    store_finish(st);
    return status;
}

static sl_status bump(rag *r, int64_t collection, sl_err *err)
{
    return run_with(r, "UPDATE collections SET generation = generation + 1 WHERE id = ?",
                    collection, NULL, err);
}

static sl_status replace(rag *r, const index_document *d, sl_err *err)
{
    int64_t collection = 0, document = 0;
    bool found;

    SL_TRY(make_collection(r, d, &collection, err));
    at_step(r, 0);
    SL_TRY(delete_document(r, collection, d->name, &found, err));
    at_step(r, 1);
    SL_TRY(insert_document(r, collection, d, &document, err));
    at_step(r, 2);
    SL_TRY(insert_chunks(r, document, d, err));
    SL_TRY(bump(r, collection, err));
    at_step(r, 4);
    return SL_OK;
}

sl_status index_replace(rag *r, const index_document *d, sl_err *err)
{
    sl_status status;

    store_lock(r->db);
    status = store_begin(r->db, err);
    if (status == SL_OK) {
        status = replace(r, d, err);
        if (status == SL_OK)
            status = store_commit(r->db, err);
        else
            store_rollback(r->db);
    }
    store_unlock(r->db);
    return status;
}

/* ---- remove and list ----------------------------------------------------------------------- */

static sl_status remove_one(rag *r, const char *collection, const char *name, sl_err *err)
{
    int64_t id, generation;
    bool found = false;

    SL_TRY(index_collection(r, collection, NULL, &id, &generation, err));
    SL_TRY(delete_document(r, id, name, &found, err));
    if (!found)
        return sl_fail(err, SL_ENOTFOUND, "no document '%s' in collection '%s'", name, collection);
    return bump(r, id, err);
}

/* A collection without documents is forgotten, so that another model may begin it anew. */
static sl_status forget_empty(rag *r, sl_err *err)
{
    return store_exec(
        r->db, "DELETE FROM collections WHERE id NOT IN (SELECT collection FROM documents)", err);
}

sl_status index_remove(rag *r, const char *collection, const char *name, sl_err *err)
{
    sl_status status;

    store_lock(r->db);
    status = store_begin(r->db, err);
    if (status == SL_OK) {
        status = remove_one(r, collection, name, err);
        if (status == SL_OK)
            status = forget_empty(r, err);
        if (status == SL_OK)
            status = store_commit(r->db, err);
        else
            store_rollback(r->db);
    }
    store_unlock(r->db);
    return status;
}

static sl_status list_rows(store_stmt *st, json_t *list, sl_err *err)
{
    bool row = false;

    for (;;) {
        json_t *item;

        SL_TRY(store_step(st, &row, err));
        if (!row)
            return SL_OK;
        item = json_pack("{s:s, s:I, s:I, s:I}", "name", store_text(st, 0), "bytes",
                         (json_int_t)store_int(st, 1), "chunks", (json_int_t)store_int(st, 2),
                         "updated", (json_int_t)store_int(st, 3));
        if (!item || json_array_append_new(list, item) != 0)
            return sl_fail(err, SL_ENOMEM, "out of memory");
    }
}

sl_status index_list(rag *r, const char *collection, json_t **ret, sl_err *err)
{
    json_t *list = json_array();
    store_stmt *st = NULL;
    sl_status status = list ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");

    store_lock(r->db);
    if (status == SL_OK)
        status = store_prepare(r->db,
                               "SELECT d.name, d.bytes,"
                               " (SELECT count(*) FROM chunks WHERE document = d.id), d.updated"
                               " FROM documents d JOIN collections c ON c.id = d.collection"
                               " WHERE c.name = ? ORDER BY d.name",
                               &st, err);
    if (status == SL_OK) {
        store_bind_str(st, 1, collection);
        status = list_rows(st, list, err);
    }
    store_finish(st);
    store_unlock(r->db);
    if (status == SL_OK)
        *ret = list;
    else
        json_decref(list);
    return status;
}
