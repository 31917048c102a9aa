/* index.c - the database of documents: collections, replace, change, remove, list. */
#include "rag/rag_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "rag/ingest.h"
#include "rag/lexicon.h"

/* ---- collections --------------------------------------------------------------------------- */

sl_status index_collection(rag *r, const char *name, const rag_model *m, int64_t *ret_id,
                           int64_t *ret_generation, sl_err *err)
{
    return index_collection_on(r->db, name, m, ret_id, ret_generation, err);
}

sl_status index_collection_on(store *db, const char *name, const rag_model *m, int64_t *ret_id,
                              int64_t *ret_generation, sl_err *err)
{
    store_stmt *st;
    bool row = false;
    sl_status status;

    SL_TRY(store_prepare(db,
                         "SELECT id, generation, model, dim FROM collections"
                         " WHERE name = ?1 OR public_id = ?1 ORDER BY public_id = ?1 DESC LIMIT 1",
                         &st, err));
    store_bind_str(st, 1, name);
    status = store_step(st, &row, err);
    if (status == SL_OK && row && m && store_int(st, 3) != 0 &&
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

static sl_status insert_collection(rag *r, const char *name, int64_t *ret_id, sl_err *err)
{
    store_stmt *st;
    sl_status status;

    SL_TRY(store_prepare(r->db,
                         "INSERT INTO collections (name, model, dim, public_id, created,"
                         " last_active) VALUES (?1, '', 0, 'vs_' || lower(hex(randomblob(12))),"
                         " unixepoch(), unixepoch())",
                         &st, err));
    store_bind_str(st, 1, name);
    status = store_run(st, err);
    store_finish(st);
    *ret_id = store_last_id(r->db);
    return status;
}

sl_status index_make_collection(rag *r, const char *name, const rag_model *m, int64_t *ret_id,
                                sl_err *err)
{
    int64_t generation;
    store_stmt *st;
    sl_status status;

    SL_TRY(index_collection(r, name, m, ret_id, &generation, err));
    if (*ret_id == 0)
        SL_TRY(insert_collection(r, name, ret_id, err));
    if (!m)
        return SL_OK;
    SL_TRY(store_prepare(
        r->db, "UPDATE collections SET model = ?1, dim = ?2 WHERE id = ?3 AND dim = 0", &st, err));
    store_bind_str(st, 1, m->name);
    store_bind_int(st, 2, (int64_t)m->dim);
    store_bind_int(st, 3, *ret_id);
    status = store_run(st, err);
    store_finish(st);
    return status;
}

/* ---- documents ----------------------------------------------------------------------------- */

sl_status index_find(rag *r, int64_t collection, const char *document, int64_t *ret_id, sl_err *err)
{
    store_stmt *st;
    bool row = false;
    sl_status status;

    SL_TRY(store_prepare(r->db,
                         "SELECT id FROM documents WHERE collection = ?1 AND"
                         " (name = ?2 OR public_id = ?2) ORDER BY public_id = ?2 DESC LIMIT 1",
                         &st, err));
    store_bind_int(st, 1, collection);
    store_bind_str(st, 2, document);
    status = store_step(st, &row, err);
    if (status == SL_OK)
        *ret_id = row ? store_int(st, 0) : 0;
    store_finish(st);
    return status;
}

/* ---- who may read -------------------------------------------------------------------------- */

void index_bind_caller(store_stmt *st, const llm_caller *caller)
{
    store_bind_int(st, 90, llm_caller_may(caller, LLM_MAY_ADMIN));
    store_bind_str(st, 91, caller ? caller->user : "");
    store_bind_str(st, 92, caller ? caller->team : "");
    store_bind_str(st, 93, caller ? caller->role : "");
}

static bool is_principal(const char *text)
{
    static const char *const kinds[] = { "user:", "team:", "role:" };

    for (const char *p = text; p && *p; p++)
        if ((unsigned char)*p < 0x20)
            return false;
    for (size_t i = 0; text && i < SL_COUNT_OF(kinds); i++)
        if (strncmp(text, kinds[i], strlen(kinds[i])) == 0)
            return text[strlen(kinds[i])] != '\0'; /* nobody has no name */
    return false;
}

sl_status index_check_access(const json_t *access, sl_err *err)
{
    size_t i;
    const json_t *item;

    if (!access || json_is_null(access))
        return SL_OK;
    if (!json_is_array(access))
        return sl_fail(err, SL_EINVAL,
                       "access is a list of \"user:NAME\", \"team:NAME\" or "
                       "\"role:NAME\"");
    json_array_foreach((json_t *)access, i, item) if (
        !is_principal(
            json_string_value(item))) return sl_fail(err, SL_EINVAL,
                                                     "access[%zu] is neither \"user:NAME\", "
                                                     "\"team:NAME\" nor \"role:NAME\"",
                                                     i);
    return SL_OK;
}

static sl_status set_access(rag *r, int64_t document, const json_t *access, sl_err *err)
{
    store_stmt *st;
    size_t i;
    const json_t *item;
    sl_status status = SL_OK;

    SL_TRY(index_check_access(access, err));
    SL_TRY(store_run_with(r->db, err, "DELETE FROM grants WHERE document = ?1", "i", document));
    SL_TRY(store_run_with(r->db, err,
                          json_is_array(access)
                              ? "UPDATE documents SET restricted = 1 WHERE id = ?1"
                              : "UPDATE documents SET restricted = 0 WHERE id = ?1",
                          "i", document));
    SL_TRY(store_prepare(
        r->db, "INSERT OR IGNORE INTO grants (document, principal) VALUES (?1, ?2)", &st, err));
    json_array_foreach((json_t *)access, i, item)
    {
        store_bind_int(st, 1, document);
        store_bind_str(st, 2, json_string_value(item));
        if ((status = store_run(st, err)) != SL_OK)
            break;
    }
    store_finish(st);
    return status;
}

static sl_status set_attributes(rag *r, int64_t document, const json_t *attributes, sl_err *err)
{
    char *text = json_is_object(attributes) ? json_dumps(attributes, JSON_COMPACT) : NULL;
    store_stmt *st = NULL;
    sl_status status = store_prepare(
        r->db, "UPDATE documents SET attributes = coalesce(?2, '{}') WHERE id = ?1", &st, err);

    if (status == SL_OK) {
        store_bind_int(st, 1, document);
        store_bind_str(st, 2, text);
        status = store_run(st, err);
    }
    store_finish(st);
    free(text); /* jansson's */
    return status;
}

sl_status index_update(rag *r, int64_t document, const json_t *attributes, const json_t *access,
                       sl_err *err)
{
    if (attributes)
        SL_TRY(set_attributes(r, document, attributes, err));
    if (access)
        SL_TRY(set_access(r, document, access, err));
    return SL_OK;
}

/* ---- replace ------------------------------------------------------------------------------- */

static void at_step(rag *r, int step)
{
    if (r->on_write)
        r->on_write(r->on_write_ctx, step);
}

/* The row of the document, new or old. */
static sl_status put_document(rag *r, int64_t collection, const index_document *d, int64_t *ret_id,
                              sl_err *err)
{
    store_stmt *st;
    bool row = false;
    sl_status status;

    SL_TRY(store_prepare(
        r->db,
        "INSERT INTO documents (collection, name, sha256, settings, bytes, title, updated, text,"
        " public_id, type, pages, source, trust, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,"
        " coalesce(?9, 'doc_' || lower(hex(randomblob(12)))), coalesce(?10, 'text/plain'), ?11,"
        " coalesce(?12, ''), coalesce(?13, 'untrusted'), ?7) ON CONFLICT (collection, name) DO"
        " UPDATE SET sha256 = excluded.sha256, settings = excluded.settings, bytes ="
        " excluded.bytes, title = excluded.title, updated = excluded.updated, text ="
        " excluded.text, public_id = coalesce(?9, public_id), type = excluded.type, pages ="
        " excluded.pages, source = excluded.source, trust = excluded.trust RETURNING id",
        &st, err));
    store_bind_int(st, 1, collection);
    store_bind_str(st, 2, d->name);
    store_bind_blob(st, 3, d->sha256, sizeof d->sha256);
    store_bind_str(st, 4, d->settings);
    store_bind_int(st, 5, d->bytes ? d->bytes : (int64_t)d->text.len);
    store_bind_str(st, 6, d->title);
    store_bind_int(st, 7, sl_clock_wall_ms() / 1000);
    store_bind_text(st, 8, (const char *)d->text.ptr, d->text.len);
    store_bind_str(st, 9, d->file_id);
    store_bind_str(st, 10, d->type);
    store_bind_int(st, 11, d->pages);
    store_bind_str(st, 12, d->source);
    store_bind_str(st, 13, d->trust);
    status = store_step(st, &row, err);
    *ret_id = row ? store_int(st, 0) : 0;
    store_finish(st);
    return status;
}

/* The stemmer of a collection's words, into language[16]. */
static sl_status read_language(rag *r, int64_t collection, char *language, sl_err *err)
{
    store_stmt *st;
    bool row = false;
    sl_status status;

    SL_TRY(store_prepare(r->db,
                         "SELECT json_extract(settings, '$.language') FROM collections"
                         " WHERE id = ?1",
                         &st, err));
    store_bind_int(st, 1, collection);
    status = store_step(st, &row, err);
    snprintf(language, 16, "%s",
             row && words_has_language(store_text(st, 0)) ? store_text(st, 0) : "english");
    store_finish(st);
    return status;
}

static sl_status insert_chunk(rag *r, store_stmt *st, words *w, const char *language,
                              const index_document *d, size_t i, sl_err *err)
{
    const chunk *c = &d->chunks->items[i];
    const char *heading = d->chunks->sections[c->section];
    const char *text = (const char *)d->text.ptr + c->begin;
    const char *header = (const char *)d->text.ptr + c->header_begin;
    size_t dim = d->model->dim, header_len = c->header_end - c->header_begin;

    store_bind_int(st, 2, (int64_t)i);
    store_bind_int(st, 3, (int64_t)c->begin);
    store_bind_int(st, 4, (int64_t)c->end);
    store_bind_str(st, 5, heading);
    store_bind_text(st, 6, text, c->end - c->begin);
    store_bind_blob(st, 7, d->vectors + i * dim, dim * sizeof(float));
    store_bind_int(st, 9, c->page);
    store_bind_int(st, 10, (int64_t)SL_MIN(c->parent_begin, c->begin));
    store_bind_int(st, 11, (int64_t)SL_MAX(c->parent_end, c->end));
    store_bind_int(st, 13,
                   lexicon_length(w, language, heading, text, c->end - c->begin) +
                       (int64_t)words_count(w, language, header, header_len));
    store_bind_text(st, 14, header, header_len);
    SL_TRY(store_run(st, err));
    at_step(r, 3);
    return SL_OK;
}

static sl_status insert_chunks(rag *r, int64_t collection, int64_t document,
                               const index_document *d, sl_err *err)
{
    char language[16];
    words *w;
    store_stmt *st;
    sl_status status;

    SL_TRY(read_language(r, collection, language, err));
    SL_TRY(store_prepare(r->db,
                         "INSERT INTO chunks (document, ordinal, begin, end, heading, text,"
                         " embedding, collection, page, parent_begin, parent_end, language, length,"
                         " header) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12,"
                         " ?13, ?14)",
                         &st, err));
    w = words_create();
    status = w ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");
    for (size_t i = 0; i < d->chunks->count && status == SL_OK; i++) {
        store_bind_int(st, 1, document);
        store_bind_int(st, 8, collection);
        store_bind_str(st, 12, language);
        status = insert_chunk(r, st, w, language, d, i, err);
    }
    words_destroy(w);
    store_finish(st);
    return status;
}

sl_status index_put(rag *r, const index_document *d, int64_t *ret_document, sl_err *err)
{
    int64_t collection = 0, document = 0;

    SL_TRY(index_make_collection(r, d->collection, d->model, &collection, err));
    at_step(r, 0);
    SL_TRY(put_document(r, collection, d, &document, err));
    at_step(r, 1);
    SL_TRY(store_run_with(r->db, err, "DELETE FROM chunks WHERE document = ?1", "i", document));
    SL_TRY(index_update(r, document, d->attributes, d->access, err));
    at_step(r, 2);
    SL_TRY(insert_chunks(r, collection, document, d, err));
    SL_TRY(store_run_with(r->db, err,
                          "UPDATE collections SET last_active = unixepoch() WHERE id = ?1", "i",
                          collection));
    at_step(r, 4);
    *ret_document = document;
    return SL_OK;
}

static sl_status replace_in(rag *r, void *ctx, sl_err *err)
{
    int64_t document = 0;

    return index_put(r, ctx, &document, err);
}

sl_status index_replace(rag *r, const index_document *d, sl_err *err)
{
    return rag_db_write(r, replace_in, (void *)d, err);
}

/* ---- remove and list ----------------------------------------------------------------------- */

sl_status index_remove_document(rag *r, int64_t collection, int64_t document, sl_err *err)
{
    SL_TRY(store_run_with(r->db, err, "DELETE FROM chunks WHERE document = ?1", "i", document));
    SL_TRY(store_run_with(r->db, err, "DELETE FROM documents WHERE id = ?1", "i", document));
    /* Without passages another model may begin it anew. */
    return store_run_with(r->db, err,
                          "UPDATE collections SET model = '', dim = 0 WHERE id = ?1 AND NOT EXISTS"
                          " (SELECT 1 FROM chunks WHERE collection = ?1)",
                          "i", collection);
}

typedef struct place {
    const char *collection, *name;
} place;

static sl_status remove_in(rag *r, void *ctx, sl_err *err)
{
    const place *p = ctx;
    int64_t id, generation, document = 0;

    SL_TRY(index_collection(r, p->collection, NULL, &id, &generation, err));
    SL_TRY(index_find(r, id, p->name, &document, err));
    if (!document)
        return sl_fail(err, SL_ENOTFOUND, "no document '%s' in collection '%s'", p->name,
                       p->collection);
    return index_remove_document(r, id, document, err);
}

sl_status index_remove(rag *r, const char *collection, const char *name, sl_err *err)
{
    return rag_db_write(r, remove_in, &(place){ collection, name }, err);
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
