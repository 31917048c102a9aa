/* shelf.c - reads a collection into memory, keeps it up to date, and says who may see what.
 *
 * Invariants:
 * 1. Ids of passages only grow, and a document's passages are written in one transaction, so that
 *    rows are sorted by id and a document's rows lie together.
 * 2. Every change of a document left a line in `changes` under a new generation. A shelf at
 *    generation g that finds all lines behind g knows what to read; one that does not (they are
 * kept for a while only) reads everything.
 * 3. A document that changed and kept its first passage kept all of them. */
#include "rag/shelf.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/mem.h"

#define ROWS_MAX      ((size_t)1 << 28)
#define DOCUMENTS_MAX ((size_t)1 << 28)
#define DEAD_MIN      1024 /* fewer rows of removed passages are not worth moving the others */

static void document_deinit(shelf_document *d)
{
    sl_free(d->attributes);
    sl_free(d->principals);
    d->attributes = NULL;
    d->principals = NULL;
}

/* ---- lists of words ------------------------------------------------------------------------ */

static void list_drop(shelf *s, shelf_list *l)
{
    sl_free(l->token);
    sl_free(l->items);
    s->list_rows -= l->count;
    *l = (shelf_list){ 0 };
}

static void lists_clear(shelf *s)
{
    for (size_t i = 0; i < SHELF_LISTS; i++)
        list_drop(s, &s->lists[i]);
}

const shelf_list *shelf_recall(shelf *s, const char *token)
{
    for (size_t i = 0; i < SHELF_LISTS; i++)
        if (s->lists[i].token && strcmp(s->lists[i].token, token) == 0) {
            s->lists[i].used = ++s->list_tick;
            return &s->lists[i];
        }
    return NULL;
}

/* The one not asked for longest; a free place comes first. */
static shelf_list *oldest_list(shelf *s, bool taken)
{
    shelf_list *oldest = NULL;

    for (size_t i = 0; i < SHELF_LISTS; i++)
        if ((s->lists[i].token || !taken) && (!oldest || s->lists[i].used < oldest->used))
            oldest = &s->lists[i];
    return oldest;
}

void shelf_keep(shelf *s, const char *token, shelf_posting *items, size_t count)
{
    char *name = count <= SHELF_LIST_ROWS ? sl_strdup(token) : NULL;
    shelf_list *l;

    if (!name) {
        sl_free(items);
        return;
    }
    while (s->list_rows + count > SHELF_LIST_ROWS)
        list_drop(s, oldest_list(s, true));
    l = oldest_list(s, false);
    list_drop(s, l);
    *l = (shelf_list){ name, items, count, ++s->list_tick };
    s->list_rows += count;
}

/* ---- lifetime ------------------------------------------------------------------------------ */

void shelf_clear(shelf *s)
{
    lists_clear(s);
    for (size_t i = 0; i < s->document_count; i++)
        document_deinit(&s->documents[i]);
    sl_free(s->documents);
    sl_free(s->ids);
    sl_free(s->owners);
    sl_free(s->lengths);
    vectors_destroy(&s->v);
    *s = (shelf){ 0 };
}

size_t shelf_find(const shelf *s, int64_t id, size_t from)
{
    size_t low = from, high, step = 1;

    /* Lists of rows are in order: the next one is near. */
    for (high = from; high < s->row_count && s->ids[high] < id; high += step, step *= 2)
        low = high + 1;
    high = SL_MIN(high, s->row_count);
    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (s->ids[mid] < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low < s->row_count && s->ids[low] == id ? low : s->row_count;
}

/* The index of a document by its id; document_count when there is none. */
static size_t find_document(const shelf *s, int64_t id)
{
    size_t low = 0, high = s->document_count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (s->documents[mid].id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low < s->document_count && s->documents[low].id == id ? low : s->document_count;
}

/* ---- one document -------------------------------------------------------------------------- */

static void bury(shelf *s, shelf_document *d)
{
    for (size_t i = d->first; i < d->first + d->count; i++)
        s->owners[i] = SHELF_NO_DOCUMENT;
    s->dead_count += d->count;
    d->count = 0;
    d->length = 0;
}

/* Appends a passage of document number `owner`. */
static sl_status push_row(shelf *s, size_t owner, int64_t id, int64_t length, sl_span blob,
                          sl_err *err)
{
    shelf_document *d = &s->documents[owner];

    if (blob.len != s->dim * sizeof(float))
        return sl_fail(err, SL_EFORMAT, "a stored vector has %zu bytes instead of %zu", blob.len,
                       s->dim * sizeof(float));
    if (s->row_count && id <= s->ids[s->row_count - 1])
        return sl_fail(err, SL_EFORMAT, "the passages of a document are out of order");
    if (!sl_grow((void **)&s->ids, &s->id_cap, s->row_count + 1, sizeof *s->ids, ROWS_MAX) ||
        !sl_grow((void **)&s->owners, &s->owner_cap, s->row_count + 1, sizeof *s->owners,
                 ROWS_MAX) ||
        !sl_grow((void **)&s->lengths, &s->length_cap, s->row_count + 1, sizeof *s->lengths,
                 ROWS_MAX))
        return sl_fail(err, SL_ENOMEM, "%zu passages need too much memory", s->row_count);
    SL_TRY(s->v.ops->put(s->v.ctx, s->row_count, (const float *)(const void *)blob.ptr, err));
    s->ids[s->row_count] = id;
    s->owners[s->row_count] = (uint32_t)owner;
    s->lengths[s->row_count] = (uint32_t)SL_MAX(length, 1);
    d->first = d->count ? d->first : s->row_count;
    d->length += s->lengths[s->row_count];
    d->count++;
    s->row_count++;
    return SL_OK;
}

/* Takes over what stands in the columns restricted, attributes, principals behind `col`. */
static sl_status set_document(shelf *s, shelf_document *d, store_stmt *st, int col, sl_err *err)
{
    const char *attributes = store_text(st, col + 1);
    sl_span principals = store_bytes(st, col + 2);
    sl_status status = SL_OK;
    json_t *json;

    document_deinit(d);
    s->restricted_count -= d->is_restricted;
    d->is_restricted = store_int(st, col) != 0;
    s->restricted_count += d->is_restricted;
    if (strcmp(attributes, "{}") != 0) {
        json = json_loads(attributes, 0, NULL);
        status = attribute_list_create(json, &d->attributes, err);
        json_decref(json);
    }
    if (status != SL_OK || principals.len == 0)
        return status;
    d->principals = sl_malloc(principals.len + 2);
    if (!d->principals)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    memcpy(d->principals, principals.ptr, principals.len);
    memset(d->principals + principals.len, 0, 2);
    for (size_t i = 0; i < principals.len; i++)
        if (d->principals[i] == '\n') /* names have no control characters */
            d->principals[i] = '\0';
    return SL_OK;
}

#define DOCUMENT_COLUMNS                                                                           \
    "restricted, attributes, CASE WHEN restricted THEN (SELECT group_concat(principal, char(10))"  \
    " FROM grants WHERE document = documents.id) END"

static sl_status push_document(shelf *s, int64_t id, store_stmt *st, int col, sl_err *err)
{
    SL_ASSERT(s->document_count == 0 || s->documents[s->document_count - 1].id < id);
    if (!sl_grow((void **)&s->documents, &s->document_cap, s->document_count + 1,
                 sizeof *s->documents, DOCUMENTS_MAX))
        return sl_fail(err, SL_ENOMEM, "%zu documents need too much memory", s->document_count);
    s->documents[s->document_count] = (shelf_document){ .id = id };
    return set_document(s, &s->documents[s->document_count++], st, col, err);
}

/* ---- everything ---------------------------------------------------------------------------- */

static sl_status read_documents(shelf *s, store *db, sl_err *err)
{
    store_stmt *st;
    bool row = false;
    sl_status status;

    SL_TRY(store_prepare(
        db, "SELECT id, " DOCUMENT_COLUMNS " FROM documents WHERE collection = ?1 ORDER BY id", &st,
        err));
    store_bind_int(st, 1, s->collection);
    while ((status = store_step(st, &row, err)) == SL_OK && row)
        if ((status = push_document(s, store_int(st, 0), st, 1, err)) != SL_OK)
            break;
    store_finish(st);
    return status;
}

static sl_status read_rows(shelf *s, store *db, sl_err *err)
{
    store_stmt *st;
    bool row = false;
    sl_status status;

    SL_TRY(store_prepare(db,
                         "SELECT id, document, length, embedding FROM chunks WHERE collection = ?1"
                         " ORDER BY id",
                         &st, err));
    store_bind_int(st, 1, s->collection);
    while ((status = store_step(st, &row, err)) == SL_OK && row) {
        size_t owner = find_document(s, store_int(st, 1));

        if (owner == s->document_count)
            status = sl_fail(err, SL_EFORMAT, "a passage has no document");
        else
            status =
                push_row(s, owner, store_int(st, 0), store_int(st, 2), store_bytes(st, 3), err);
        if (status != SL_OK)
            break;
    }
    store_finish(st);
    return status;
}

static sl_status read_all(shelf *s, store *db, int64_t collection, size_t dim, sl_err *err)
{
    shelf_clear(s);
    s->collection = collection;
    s->dim = dim;
    SL_TRY(vectors_memory(dim, &s->v, err));
    SL_TRY(read_documents(s, db, err));
    return read_rows(s, db, err);
}

/* ---- what changed -------------------------------------------------------------------------- */

typedef struct change {
    int64_t document, first; /* its first passage now; 0: none */
} change;

typedef struct change_list {
    change *items;
    size_t count, cap;
} change_list;

/* Ids of passages grow: documents in the order of their passages keep the rows in order. */
static int by_first(const void *a, const void *b)
{
    const change *x = a, *y = b;

    return (x->first > y->first) - (x->first < y->first);
}

/* *ret_complete: whether the lines behind the shelf's generation are all there. */
static sl_status read_changes(const shelf *s, store *db, int64_t generation, change_list *ret,
                              bool *ret_complete, sl_err *err)
{
    store_stmt *st;
    bool row = false;
    int64_t lines = 0;
    sl_status status;

    SL_TRY(store_prepare(db,
                         "SELECT document, count(*), coalesce((SELECT min(id) FROM chunks WHERE"
                         " document = changes.document), 0) FROM changes"
                         " WHERE collection = ?1 AND generation > ?2 GROUP BY document",
                         &st, err));
    store_bind_int(st, 1, s->collection);
    store_bind_int(st, 2, s->generation);
    while ((status = store_step(st, &row, err)) == SL_OK && row) {
        if (!sl_grow((void **)&ret->items, &ret->cap, ret->count + 1, sizeof *ret->items,
                     DOCUMENTS_MAX)) {
            status = sl_fail(err, SL_ENOMEM, "out of memory");
            break;
        }
        ret->items[ret->count++] = (change){ store_int(st, 0), store_int(st, 2) };
        lines += store_int(st, 1);
    }
    store_finish(st);
    *ret_complete = lines == generation - s->generation;
    if (ret->count)
        qsort(ret->items, ret->count, sizeof *ret->items, by_first);
    return status;
}

static sl_status read_document_rows(shelf *s, store *db, size_t owner, sl_err *err)
{
    store_stmt *st;
    bool row = false;
    sl_status status;

    SL_TRY(store_prepare(
        db, "SELECT id, length, embedding FROM chunks WHERE document = ?1 ORDER BY id", &st, err));
    store_bind_int(st, 1, s->documents[owner].id);
    while ((status = store_step(st, &row, err)) == SL_OK && row)
        if ((status = push_row(s, owner, store_int(st, 0), store_int(st, 1), store_bytes(st, 2),
                               err)) != SL_OK)
            break;
    store_finish(st);
    return status;
}

/* st has the document's row when `found`. */
static sl_status apply(shelf *s, store *db, const change *c, store_stmt *st, bool found,
                       sl_err *err)
{
    size_t at = find_document(s, c->document);
    shelf_document *d;

    if (at == s->document_count) {
        if (!found)
            return SL_OK; /* came and went */
        SL_TRY(push_document(s, c->document, st, 0, err));
    } else if (found) {
        SL_TRY(set_document(s, &s->documents[at], st, 0, err));
    }
    d = &s->documents[at];
    if (found && d->count && s->ids[d->first] == c->first)
        return SL_OK; /* the same passages */
    bury(s, d);
    if (!found) {
        document_deinit(d);
        s->restricted_count -= d->is_restricted;
        d->is_restricted = false;
        return SL_OK;
    }
    return read_document_rows(s, db, at, err);
}

/* New documents get growing ids too: first all of them in that order, then their passages. */
static int by_document(const void *a, const void *b)
{
    const change *x = a, *y = b;

    return (x->document > y->document) - (x->document < y->document);
}

static sl_status apply_changes(shelf *s, store *db, change_list *l, sl_err *err)
{
    store_stmt *st;
    sl_status status = SL_OK;

    SL_TRY(store_prepare(db, "SELECT " DOCUMENT_COLUMNS " FROM documents WHERE id = ?1", &st, err));
    for (int pass = 0; pass < 2 && status == SL_OK && l->count; pass++) {
        qsort(l->items, l->count, sizeof *l->items, pass ? by_first : by_document);
        for (size_t i = 0; i < l->count && status == SL_OK; i++) {
            bool found = false;

            if (pass == 0 && find_document(s, l->items[i].document) < s->document_count)
                continue;
            store_bind_int(st, 1, l->items[i].document);
            status = store_step(st, &found, err);
            if (status == SL_OK && pass == 1)
                status = apply(s, db, &l->items[i], st, found, err);
            else if (status == SL_OK && found)
                status = push_document(s, l->items[i].document, st, 0, err);
            store_reset(st);
        }
    }
    store_finish(st);
    return status;
}

/* Moves the rows that live together. */
static sl_status compact(shelf *s, sl_err *err)
{
    size_t to = 0;

    for (size_t i = 0; i < s->document_count; i++)
        s->documents[i].first = s->documents[i].count ? s->documents[i].first : 0;
    for (size_t from = 0; from < s->row_count; from++) {
        uint32_t owner = s->owners[from];

        if (owner == SHELF_NO_DOCUMENT)
            continue;
        if (s->documents[owner].first == from)
            s->documents[owner].first = to;
        SL_TRY(s->v.ops->move(s->v.ctx, from, to, err));
        s->ids[to] = s->ids[from];
        s->lengths[to] = s->lengths[from];
        s->owners[to++] = owner;
    }
    s->row_count = to;
    s->dead_count = 0;
    s->v.ops->truncate(s->v.ctx, to);
    return SL_OK;
}

static sl_status catch_up(shelf *s, store *db, int64_t generation, bool *ret_done, sl_err *err)
{
    change_list l = { 0 };
    sl_status status = read_changes(s, db, generation, &l, ret_done, err);

    if (status == SL_OK && *ret_done)
        status = apply_changes(s, db, &l, err);
    sl_free(l.items);
    if (status == SL_OK && *ret_done && s->dead_count > DEAD_MIN &&
        s->dead_count * 4 > s->row_count)
        status = compact(s, err);
    return status;
}

sl_status shelf_update(shelf *s, store *db, int64_t collection, int64_t generation, size_t dim,
                       sl_err *err)
{
    bool is_done = s->collection == collection && s->dim == dim && s->generation == generation;
    sl_status status = SL_OK;

    if (is_done)
        return SL_OK;
    lists_clear(s);
    if (s->collection == collection && s->dim == dim && s->generation < generation)
        status = catch_up(s, db, generation, &is_done, err);
    if (status == SL_OK && !is_done)
        status = read_all(s, db, collection, dim, err);
    if (status == SL_OK)
        s->generation = generation;
    else
        shelf_clear(s);
    return status;
}

/* ---- who sees what ------------------------------------------------------------------------- */

static bool is_principal(const char *text, const char *kind, const char *name)
{
    size_t n = strlen(kind);

    return name[0] && strncmp(text, kind, n) == 0 && strcmp(text + n, name) == 0;
}

static bool may_read(const shelf_document *d, const llm_caller *c)
{
    if (!d->is_restricted)
        return true;
    for (const char *p = d->principals; p && *p; p += strlen(p) + 1)
        if (is_principal(p, "user:", c->user) || is_principal(p, "team:", c->team) ||
            is_principal(p, "role:", c->role))
            return true;
    return false;
}

sl_status shelf_look(const shelf *s, const llm_caller *caller, const filter *f, shelf_view *ret,
                     sl_err *err)
{
    bool all = llm_caller_may(caller, LLM_MAY_ADMIN);

    *ret = (shelf_view){ .allowed = sl_calloc(s->row_count / 64 + 1, sizeof *ret->allowed) };
    if (!ret->allowed)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    for (size_t i = 0; i < s->document_count; i++) {
        const shelf_document *d = &s->documents[i];

        if (d->count == 0 || !(all || may_read(d, caller)) || !filter_matches(f, d->attributes))
            continue;
        for (size_t row = d->first; row < d->first + d->count; row++)
            ret->allowed[row / 64] |= (uint64_t)1 << (row % 64);
        ret->rows += d->count;
        ret->documents++;
        ret->words += d->length;
    }
    return SL_OK;
}

void shelf_view_deinit(shelf_view *v)
{
    sl_free(v->allowed);
    *v = (shelf_view){ 0 };
}
