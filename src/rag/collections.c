/* collections.c - what collections there are, how each cuts and ranks, and when it goes. */
#include <stdlib.h>

#include "base/log.h"
#include "base/os.h"
#include "rag/ingest.h"
#include "rag/words.h"

#define METADATA_MAX     16 /* OpenAI's bounds */
#define METADATA_KEY     64
#define METADATA_VALUE   512
#define USE_S            60 /* how often a use is noted */
#define EXPIRES_S_MAX    ((int64_t)10 * 366 * 86400)
#define CHUNK_TOKENS_MAX 8192

int64_t rag_now_s(const rag *r)
{
    return r->clock_s ? r->clock_s() : sl_clock_wall_ms() / 1000;
}

/* ---- settings ------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    double min, max;
    bool is_int;
} known_settings[] = {
    { "chunk_tokens", 1, CHUNK_TOKENS_MAX, true },
    { "overlap_tokens", 0, CHUNK_TOKENS_MAX, true },
    { "weight_lexical", 0, 100, false },
    { "weight_dense", 0, 100, false },
    { "threshold", 0, 1, false },
    { "mmr", 0, 1, false },
};

cut_settings cut_settings_of(const rag *r, const char *settings, int own_tokens, int own_overlap)
{
    json_t *root = json_loads(settings, 0, NULL);
    const json_t *tokens = json_object_get(root, "chunk_tokens");
    const json_t *overlap = json_object_get(root, "overlap_tokens");
    cut_settings ret = { r->o.chunk_tokens, r->o.overlap_tokens };

    if (json_is_integer(tokens))
        ret.tokens = (int)json_integer_value(tokens);
    if (json_is_integer(overlap))
        ret.overlap = (int)json_integer_value(overlap);
    if (own_tokens > 0)
        ret = (cut_settings){ own_tokens, own_overlap };
    ret.overlap = SL_MIN(ret.overlap, ret.tokens / 2);
    json_decref(root);
    return ret;
}

void cut_settings_text(const cut_settings *c, char ret[64])
{
    snprintf(ret, 64, "v2 %d %d", c->tokens, c->overlap);
}

static sl_status check_setting(const char *key, const json_t *v, sl_err *err)
{
    if (strcmp(key, "language") == 0)
        return json_is_null(v) || (json_is_string(v) && words_has_language(json_string_value(v)))
                   ? SL_OK
                   : sl_fail(err, SL_EINVAL,
                             "Invalid 'settings.language': expected \"english\", \"german\" or "
                             "another of Snowball's, or \"none\"");
    for (size_t i = 0; i < SL_COUNT_OF(known_settings); i++) {
        double n = json_number_value(v);
        bool is_kind = known_settings[i].is_int ? json_is_integer(v) : json_is_number(v);

        if (strcmp(key, known_settings[i].name) != 0)
            continue;
        if (json_is_null(v) ||
            (is_kind && n >= known_settings[i].min && n <= known_settings[i].max))
            return SL_OK;
        return sl_fail(err, SL_EINVAL, "Invalid 'settings.%s': expected %s of %g to %g", key,
                       known_settings[i].is_int ? "a whole number" : "a number",
                       known_settings[i].min, known_settings[i].max);
    }
    return sl_fail(err, SL_EINVAL,
                   "Invalid 'settings': there is no '%.60s'; there are chunk_tokens, "
                   "overlap_tokens, weight_lexical, weight_dense, threshold, mmr and language",
                   key);
}

static sl_status check_metadata(const json_t *metadata, sl_err *err)
{
    const char *key;
    json_t *v;

    if (!metadata)
        return SL_OK;
    if (!json_is_object(metadata) || json_object_size(metadata) > METADATA_MAX)
        return sl_fail(err, SL_EINVAL, "Invalid 'metadata': expected an object of at most %d texts",
                       METADATA_MAX);
    json_object_foreach((json_t *)(uintptr_t)metadata, key, v) if (
        !json_is_string(v) || strlen(key) > METADATA_KEY ||
        json_string_length(v) >
            METADATA_VALUE) return sl_fail(err, SL_EINVAL,
                                           "Invalid 'metadata': '%.64s' must be a text of at most "
                                           "%d bytes with a name of at most %d",
                                           key, METADATA_VALUE, METADATA_KEY);
    return SL_OK;
}

static sl_status check_spec(const llm_collection_spec *s, sl_err *err)
{
    const char *key;
    json_t *v;

    if (s->name)
        SL_TRY(rag_check_name("collection", s->name, err));
    if (s->name && strncmp(s->name, "vs_", 3) == 0)
        return sl_fail(err, SL_EINVAL, "Invalid 'name': names that begin with vs_ are ids");
    if (s->description && (strlen(s->description) > COLLECTION_BYTES_MAX ||
                           !sl_utf8_valid(s->description, strlen(s->description))))
        return sl_fail(err, SL_EINVAL, "Invalid 'description': expected at most %d bytes of UTF-8",
                       COLLECTION_BYTES_MAX);
    if (s->expires_after_s > EXPIRES_S_MAX)
        return sl_fail(err, SL_EINVAL, "Invalid 'expires_after': expected at most ten years");
    SL_TRY(check_metadata(s->metadata, err));
    if (s->settings && !json_is_object(s->settings))
        return sl_fail(err, SL_EINVAL, "Invalid 'settings': expected an object");
    json_object_foreach((json_t *)(uintptr_t)s->settings, key, v)
        SL_TRY(check_setting(key, v, err));
    return SL_OK;
}

/* ---- objects -------------------------------------------------------------------------------- */

/* Columns of read_sql. Counts are of what the caller may see. */
enum {
    COL_ID,
    COL_NAME,
    COL_DESCRIPTION,
    COL_CREATED,
    COL_ACTIVE,
    COL_EXPIRES,
    COL_METADATA,
    COL_SETTINGS,
    COL_MODEL,
    COL_DIM,
    COL_ROW,
};

#define COLLECTION_COLUMNS                                                                         \
    "SELECT c.public_id, " DB_SHOWN(                                                               \
        "c") ", c.description, c.created, c.last_active,"                                          \
             " c.expires_after, c.metadata, c.settings, c.model, c.dim, c.id FROM collections c"

static const char count_sql[] =
    "SELECT count(*), coalesce(sum(chunks), 0), coalesce(sum(bytes), 0),"
    " coalesce(sum(status = 'in_progress'), 0), coalesce(sum(status = 'completed'), 0),"
    " coalesce(sum(status = 'failed'), 0), coalesce(sum(status = 'cancelled'), 0)"
    " FROM documents d WHERE collection = ?1 AND " INDEX_MAY_READ("d");

static void set_int(json_t *root, const char *key, int64_t value)
{
    json_object_set_new(root, key, json_integer((json_int_t)value));
}

static sl_status add_counts(rag *r, const llm_caller *who, int64_t id, json_t *root, sl_err *err)
{
    store_stmt *st;
    json_t *counts;

    SL_TRY(rag_db_first(r, who, &st, err, count_sql, "i", id));
    SL_ASSERT(st); /* aggregates always have a row */
    set_int(root, "documents", store_int(st, 0));
    set_int(root, "chunks", store_int(st, 1));
    set_int(root, "bytes", store_int(st, 2));
    counts =
        json_pack("{s:I,s:I,s:I,s:I,s:I}", "in_progress", (json_int_t)store_int(st, 3), "completed",
                  (json_int_t)store_int(st, 4), "failed", (json_int_t)store_int(st, 5), "cancelled",
                  (json_int_t)store_int(st, 6), "total", (json_int_t)store_int(st, 0));
    store_finish(st);
    return json_object_set_new(root, "file_counts", counts) == 0
               ? SL_OK
               : sl_fail(err, SL_ENOMEM, "out of memory for a collection");
}

static json_t *object_of(const char *text)
{
    json_t *root = json_loads(text, 0, NULL);

    return root ? root : json_object();
}

static json_t *row_json(store_stmt *st)
{
    int64_t keep = store_int(st, COL_EXPIRES);
    json_t *root = json_pack(
        "{s:s,s:s,s:s,s:I,s:I,s:I,s:o,s:o,s:o,s:s?,s:I}", "id", store_text(st, COL_ID), "name",
        store_text(st, COL_NAME), "description", store_text(st, COL_DESCRIPTION), "created_at",
        (json_int_t)store_int(st, COL_CREATED), "last_active_at",
        (json_int_t)store_int(st, COL_ACTIVE), "expires_after_s", (json_int_t)keep, "expires_at",
        keep > 0 ? json_integer(store_int(st, COL_ACTIVE) + keep) : json_null(), "metadata",
        object_of(store_text(st, COL_METADATA)), "settings",
        object_of(store_text(st, COL_SETTINGS)), "model",
        store_int(st, COL_DIM) ? store_text(st, COL_MODEL) : NULL, "dim",
        (json_int_t)store_int(st, COL_DIM));

    return root;
}

static sl_status read_collection(rag *r, const llm_caller *who, int64_t id, json_t **ret,
                                 sl_err *err)
{
    json_t *root = NULL;
    store_stmt *st;
    sl_status status;

    SL_TRY(rag_db_first(r, NULL, &st, err, COLLECTION_COLUMNS " WHERE c.id = ?1", "i", id));
    if (!st)
        return sl_fail(err, SL_ENOTFOUND, "the collection is gone");
    root = row_json(st);
    store_finish(st);
    if (!root)
        return sl_fail(err, SL_ENOMEM, "out of memory for a collection");
    status = add_counts(r, who, id, root, err);
    if (status == SL_OK)
        *ret = root;
    else
        json_decref(root);
    return status;
}

/* ---- finding -------------------------------------------------------------------------------- */

sl_status collection_find(rag *r, const char *name, int64_t *ret_id, sl_err *err)
{
    int64_t generation;

    name = name ? name : "default";
    SL_TRY(index_collection(r, name, NULL, ret_id, &generation, err));
    return *ret_id ? SL_OK : sl_fail(err, SL_ENOTFOUND, "there is no collection '%.200s'", name);
}

static sl_status use(rag *r, const char *name, sl_err *err)
{
    int64_t id = 0, generation, active, keep, now = rag_now_s(r);
    store_stmt *st;

    SL_TRY(index_collection(r, name, NULL, &id, &generation, err));
    if (!id && strncmp(name, "vs_", 3) == 0)
        return sl_fail(err, SL_ENOTFOUND, "there is no collection '%.60s'", name);
    if (!id)
        return SL_OK; /* whoever asks it finds nothing */
    SL_TRY(rag_db_first(r, NULL, &st, err,
                        "SELECT last_active, expires_after FROM collections WHERE id = ?1", "i",
                        id));
    SL_ASSERT(st); /* it was there under the same lock */
    active = store_int(st, 0);
    keep = store_int(st, 1);
    store_finish(st);
    if (keep > 0 && active + keep <= now)
        return sl_fail(err, SL_ENOTFOUND, "collection '%.200s' has expired", name);
    if (active + USE_S > now && active + keep / 2 > now)
        return SL_OK;
    return store_run_with(r->db, err, "UPDATE collections SET last_active = ?2 WHERE id = ?1", "ii",
                          id, now);
}

sl_status collection_use(rag *r, const char *name, sl_err *err)
{
    sl_status status;

    store_lock(r->db);
    status = use(r, name ? name : "default", err);
    store_unlock(r->db);
    return status;
}

/* ---- operations ----------------------------------------------------------------------------- */

typedef struct change {
    const llm_collection_spec *spec;
    const char *collection; /* to change */
    int64_t id;
    char *metadata, *settings; /* jansson's; NULL: the same */
} change;

static sl_status dump(const json_t *v, char **ret, sl_err *err)
{
    *ret = v ? json_dumps(v, JSON_COMPACT) : NULL;
    return v && !*ret ? sl_fail(err, SL_ENOMEM, "out of memory for a collection") : SL_OK;
}

/* Names may be given twice, as OpenAI's may: the later one is found by its id. */
static sl_status name_it(rag *r, int64_t id, const char *name, sl_err *err)
{
    bool is_taken;

    SL_TRY(rag_db_exists(r, NULL, &is_taken, err,
                         "SELECT 1 FROM collections WHERE name = ?1 AND id != ?2", "si", name, id));
    if (!is_taken)
        return store_run_with(r->db, err,
                              "UPDATE collections SET name = ?2, label = '' WHERE id = ?1", "is",
                              id, name);
    return store_run_with(r->db, err,
                          "UPDATE collections SET name = ?2 || ' (' || public_id || ')', label = ?2"
                          " WHERE id = ?1",
                          "is", id, name);
}

static sl_status write_spec(rag *r, const change *w, sl_err *err)
{
    const llm_collection_spec *s = w->spec;

    if (s->name)
        SL_TRY(name_it(r, w->id, s->name, err));
    return store_run_with(
        r->db, err,
        "UPDATE collections SET description = coalesce(?2, description), metadata ="
        " coalesce(?3, metadata), settings = json_patch(settings, coalesce(?4, '{}')),"
        " expires_after = CASE WHEN ?5 < 0 THEN expires_after ELSE ?5 END, last_active ="
        " ?6 WHERE id = ?1",
        "isssii", w->id, s->description, w->metadata, w->settings, s->expires_after_s,
        rag_now_s(r));
}

static sl_status create_in(rag *r, void *ctx, sl_err *err)
{
    change *w = ctx;

    SL_TRY(store_run_with(
        r->db, err,
        "INSERT INTO collections (name, model, dim, public_id, created, last_active)"
        " VALUES (hex(randomblob(16)), '', 0, 'vs_' || lower(hex(randomblob(12))), ?1,"
        " ?1)",
        "i", rag_now_s(r)));
    w->id = store_last_id(r->db);
    if (!w->spec->name)
        SL_TRY(store_run_with(r->db, err, "UPDATE collections SET name = public_id WHERE id = ?1",
                              "i", w->id));
    return write_spec(r, w, err);
}

/* What passages and their words depend on. */
typedef struct reading {
    cut_settings cut;
    char language[32];
} reading;

static sl_status read_reading(rag *r, int64_t id, reading *ret, sl_err *err)
{
    store_stmt *st;

    SL_TRY(rag_db_first(r, NULL, &st, err,
                        "SELECT settings, coalesce(json_extract(settings, '$.language'), '') FROM"
                        " collections WHERE id = ?1",
                        "i", id));
    SL_ASSERT(st); /* it was there in the same transaction */
    ret->cut = cut_settings_of(r, store_text(st, 0), 0, 0);
    snprintf(ret->language, sizeof ret->language, "%s", store_text(st, 1));
    store_finish(st);
    return SL_OK;
}

static sl_status update_in(rag *r, void *ctx, sl_err *err)
{
    reading before, after;
    change *w = ctx;
    bool other_words;

    SL_TRY(collection_find(r, w->collection, &w->id, err));
    SL_TRY(read_reading(r, w->id, &before, err));
    SL_TRY(write_spec(r, w, err));
    SL_TRY(read_reading(r, w->id, &after, err));
    other_words = strcmp(before.language, after.language) != 0;
    if (before.cut.tokens == after.cut.tokens && before.cut.overlap == after.cut.overlap &&
        !other_words)
        return SL_OK;
    return queue_cut_again(r, w->id, other_words, err);
}

static sl_status change_it(rag *r, const llm_caller *who, change *w,
                           sl_status (*fn)(rag *r, void *ctx, sl_err *err), json_t **ret,
                           sl_err *err)
{
    sl_status status;

    SL_TRY(check_spec(w->spec, err));
    status = dump(w->spec->metadata, &w->metadata, err);
    if (status == SL_OK)
        status = dump(w->spec->settings, &w->settings, err);
    if (status == SL_OK)
        status = rag_db_write(r, fn, w, err);
    free(w->metadata);
    free(w->settings);
    if (status != SL_OK)
        return status;
    ingest_wake(r);
    store_lock(r->db);
    status = read_collection(r, who, w->id, ret, err);
    store_unlock(r->db);
    return status;
}

sl_status collection_create(void *ctx, const llm_caller *who, const llm_collection_spec *spec,
                            json_t **ret, sl_err *err)
{
    return change_it(ctx, who, &(change){ .spec = spec }, create_in, ret, err);
}

sl_status collection_update(void *ctx, const llm_caller *who, const char *collection,
                            const llm_collection_spec *spec, json_t **ret, sl_err *err)
{
    return change_it(ctx, who, &(change){ .spec = spec, .collection = collection }, update_in, ret,
                     err);
}

sl_status collection_get(void *ctx, const llm_caller *who, const char *collection, json_t **ret,
                         sl_err *err)
{
    rag *r = ctx;
    int64_t id = 0;
    sl_status status;

    store_lock(r->db);
    status = collection_find(r, collection, &id, err);
    if (status == SL_OK)
        status = read_collection(r, who, id, ret, err);
    store_unlock(r->db);
    return status;
}

typedef struct listing {
    rag *r;
    const llm_caller *who;
    sl_status status; /* of a row that could not be read */
} listing;

static void bind_nothing(store_stmt *st, void *ctx)
{
}

static json_t *list_row(store_stmt *st, void *ctx)
{
    listing *l = ctx;
    json_t *root = row_json(st);

    if (root && l->status == SL_OK)
        l->status = add_counts(l->r, l->who, store_int(st, COL_ROW), root, NULL);
    return root;
}

static sl_status list_place(rag *r, void *ctx, const char *id, int64_t *ret, sl_err *err)
{
    int64_t generation;

    SL_TRY(index_collection(r, id, NULL, ret, &generation, err));
    return *ret ? SL_OK
                : sl_fail(err, SL_EINVAL, "Invalid 'after': there is no collection '%.60s'", id);
}

sl_status collection_list(void *ctx, const llm_caller *who, const llm_docs_page *page, json_t **ret,
                          sl_err *err)
{
    rag *r = ctx;
    listing l = { .r = r, .who = who };
    const rag_db_list form = { .sql = COLLECTION_COLUMNS " WHERE 1",
                               .key = "c.id",
                               .bind = bind_nothing,
                               .row = list_row,
                               .place = list_place,
                               .ctx = &l };
    sl_status status;

    store_lock(r->db);
    status = rag_db_page(r, page, &form, ret, err);
    store_unlock(r->db);
    if (status == SL_OK && l.status != SL_OK) {
        json_decref(*ret);
        status = sl_fail(err, l.status, "the documents of a collection cannot be counted");
    }
    return status;
}

/* ---- the end -------------------------------------------------------------------------------- */

/* Documents that the caller may not see stand in his way without being named. */
static sl_status check_removal(rag *r, const llm_caller *who, int64_t id, sl_err *err)
{
    bool found;

    SL_TRY(rag_db_exists(
        r, who, &found, err,
        "SELECT 1 FROM documents d WHERE collection = ?1 AND NOT (" INDEX_MAY_READ("d") ") LIMIT 1",
        "i", id));
    return found
               ? sl_fail(err, SL_EFORBIDDEN,
                         "the collection can be removed by an admin only: it is shared with others")
               : SL_OK;
}

static sl_status empty(rag *r, int64_t id, sl_err *err)
{
    SL_TRY(store_run_with(r->db, err, "DELETE FROM chunks WHERE collection = ?1", "i", id));
    return store_run_with(r->db, err, "DELETE FROM documents WHERE collection = ?1", "i", id);
}

typedef struct removal {
    const llm_caller *who;
    const char *collection;
} removal;

static sl_status remove_in(rag *r, void *ctx, sl_err *err)
{
    const removal *w = ctx;
    int64_t id = 0;

    SL_TRY(collection_find(r, w->collection, &id, err));
    SL_TRY(check_removal(r, w->who, id, err));
    SL_TRY(empty(r, id, err));
    return store_run_with(r->db, err, "DELETE FROM collections WHERE id = ?1", "i", id);
}

sl_status collection_remove(void *ctx, const llm_caller *who, const char *collection, sl_err *err)
{
    return rag_db_write(ctx, remove_in, &(removal){ who, collection }, err);
}

/* One collection that has expired and still holds something; *(bool *)ctx: there was one. */
static sl_status expire_in(rag *r, void *ctx, sl_err *err)
{
    store_stmt *st;
    int64_t id;

    SL_TRY(
        rag_db_first(r, NULL, &st, err,
                     "SELECT id FROM collections c WHERE expires_after > 0 AND last_active +"
                     " expires_after <= ?1 AND EXISTS (SELECT 1 FROM documents WHERE collection ="
                     " c.id) LIMIT 1",
                     "i", rag_now_s(r)));
    id = st ? store_int(st, 0) : 0;
    store_finish(st);
    *(bool *)ctx = id != 0;
    return id ? empty(r, id, err) : SL_OK;
}

void collections_expire(rag *r)
{
    bool more = true;
    sl_err err = { 0 };
    sl_status status = SL_OK;

    while (more && status == SL_OK)
        status = rag_db_write(r, expire_in, &more, &err);
    if (status != SL_OK)
        SL_LOG(SL_LOG_WARN, "rag.not_expired", SL_F_STR("error", err.text));
}
