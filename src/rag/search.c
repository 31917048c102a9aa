/* search.c - finds passages: words and vectors propose, fusion orders, and what repeats is left
 * out.
 *
 * All reads of one search see one state of the database, over a connection of its own, so that
 * searches do not wait for writers. What the caller may not read is out before anything is ranked
 * or counted (shelf_look). Vectors in memory are bytes; the best passages are scored again with the
 * floats in the database. */
#include "rag/ingest.h"

#include <math.h>
#include <stdlib.h>

#include "base/os.h"
#include "kernels/kernels.h"
#include "rag/lexicon.h"

#define CANDIDATES_MIN 100  /* of each ranking */
#define POOL_EXTRA     16   /* passages that are read beyond twice those asked for */
#define SCORE_MIN      0.25 /* of what is about the question: a quarter of its words' weight */
#define COSINE_MIN     0.25 /* the same by vectors alone */
#define ACTIVE_S       60   /* how exactly the last use of a collection is kept */

/* What a collection's settings say about searching. */
typedef struct search_settings {
    double weight_lexical, weight_dense;
    double threshold; /* < 0: none */
    double mmr;       /* 0: only relevance counts; 1: only being different */
    char language[16];
} search_settings;

typedef struct finding {
    rag *r;
    const llm_docs_search *s;
    store *db;
    size_t top_k;
    bool has_model;
    rag_model model;
    float *q; /* the question's vector */
    double unknown;
    filter *filter;
    search_settings set;
    shelf *shelf;
    shelf_view view;
    lexicon_scores words;
    fuse_scale scale;
    fuse_item *items;
    size_t count, cap;
    bool is_active; /* the collection's last use is on record */
    rag_hits *hits;
} finding;

/* ---- hits ---------------------------------------------------------------------------------- */

void rag_hit_deinit(rag_hit *h)
{
    sl_free(h->document);
    sl_free(h->public_id);
    sl_free(h->title);
    sl_free(h->source);
    sl_free(h->heading);
    sl_free(h->text);
    sl_free(h->trust);
    json_decref(h->attributes);
    sl_free(h->vector);
    *h = (rag_hit){ 0 };
}

void rag_hits_deinit(rag_hits *hits)
{
    for (size_t i = 0; i < hits->count; i++)
        rag_hit_deinit(&hits->items[i]);
    sl_free(hits->items);
    *hits = (rag_hits){ 0 };
}

llm_passage search_passage(const rag_hit *h, int32_t number)
{
    return (llm_passage){ .number = number,
                          .document = h->document,
                          .document_id = h->public_id,
                          .title = h->title,
                          .source = h->source,
                          .text = h->text,
                          .begin = h->begin,
                          .end = h->end,
                          .page = h->page,
                          .heading = h->heading,
                          .trust = h->trust,
                          .attributes = h->attributes,
                          .score = h->score,
                          .lexical = h->lexical,
                          .dense = h->dense,
                          .rerank = h->rerank };
}

#define HIT_COLUMNS                                                                                \
    "d.id, " DB_SHOWN(                                                                             \
        "d") ", d.title, c.heading, c.text, c.begin, c.end, c.page, c.parent_begin,"               \
             " c.parent_end, d.public_id, d.source, d.trust, d.attributes, c.embedding"

/* From a row of HIT_COLUMNS; *ret owns what it has also on failure. */
static sl_status read_hit(finding *f, store_stmt *st, rag_hit *ret, sl_err *err)
{
    sl_span blob = store_bytes(st, 14);
    size_t dim = f->shelf->dim;

    *ret = (rag_hit){ .document_id = store_int(st, 0),
                      .document = sl_strdup(store_text(st, 1)),
                      .title = sl_strdup(store_text(st, 2)),
                      .heading = sl_strdup(store_text(st, 3)),
                      .text = sl_strdup(store_text(st, 4)),
                      .begin = store_int(st, 5),
                      .end = store_int(st, 6),
                      .page = store_int(st, 7),
                      .parent_begin = store_int(st, 8),
                      .parent_end = store_int(st, 9),
                      .public_id = sl_strdup(store_text(st, 10)),
                      .source = sl_strdup(store_text(st, 11)),
                      .trust = sl_strdup(store_text(st, 12)),
                      .attributes = json_loads(store_text(st, 13), 0, NULL),
                      .lexical = NAN,
                      .dense = NAN,
                      .rerank = NAN,
                      .vector = sl_calloc(dim, sizeof(float)) };
    if (!ret->document || !ret->title || !ret->heading || !ret->text || !ret->vector ||
        !ret->public_id || !ret->source || !ret->trust || !ret->attributes)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    memcpy(ret->vector, blob.ptr, SL_MIN(blob.len, dim * sizeof(float)));
    return SL_OK;
}

/* Reads one item's passage, scores it again with its exact vector and appends it. */
static sl_status push_hit(finding *f, store_stmt *st, const fuse_item *item, double weight,
                          sl_err *err)
{
    rag_hit h = { 0 };
    fuse_item exact = *item;
    bool row = false;
    sl_status status;

    store_bind_int(st, 1, f->shelf->ids[item->row]);
    status = store_step(st, &row, err);
    if (status == SL_OK && row)
        status = read_hit(f, st, &h, err);
    store_reset(st);
    if (status != SL_OK || !row) {
        rag_hit_deinit(&h);
        return status;
    }
    h.id = f->shelf->ids[item->row];
    if (f->q)
        exact.dense = h.dense = kernels_dot_f32(f->q, h.vector, f->shelf->dim);
    if (item->lexical > 0)
        h.lexical = item->lexical;
    h.score = fuse_score(&exact, &f->scale, weight);
    f->hits->items[f->hits->count++] = h;
    return SL_OK;
}

int rag_hit_by_score(const void *a, const void *b)
{
    const rag_hit *x = a, *y = b;

    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Reads the best `pool` items (one of each document when each counts once). */
static sl_status read_hits(finding *f, size_t pool, sl_err *err)
{
    double weight = fuse_weight(f->items, f->count, &f->scale);
    uint8_t *seen = sl_calloc(f->shelf->document_count + 1, 1);
    store_stmt *st = NULL;
    sl_status status = SL_OK;

    f->hits->dim = f->shelf->dim;
    f->hits->items = sl_calloc(pool + 1, sizeof *f->hits->items);
    if (!seen || !f->hits->items)
        status = sl_fail(err, SL_ENOMEM, "out of memory");
    if (status == SL_OK)
        status = store_prepare(f->db,
                               "SELECT " HIT_COLUMNS " FROM chunks c JOIN documents d"
                               " ON d.id = c.document WHERE c.id = ?1",
                               &st, err);
    for (size_t i = 0; i < f->count && f->hits->count < pool && status == SL_OK; i++) {
        uint32_t owner = f->items[i].owner;

        if (!f->s->all || !seen[owner])
            status = push_hit(f, st, &f->items[i], weight, err);
        seen[owner] = 1;
    }
    store_finish(st);
    sl_free(seen);
    if (status == SL_OK && f->hits->count)
        qsort(f->hits->items, f->hits->count, sizeof *f->hits->items, rag_hit_by_score);
    return status;
}

/* ---- candidates ---------------------------------------------------------------------------- */

static sl_status push_item(finding *f, size_t row, double dense, sl_err *err)
{
    if (!sl_grow((void **)&f->items, &f->cap, f->count + 1, sizeof *f->items, (size_t)1 << 24))
        return sl_fail(err, SL_ENOMEM, "out of memory");
    f->items[f->count++] = (fuse_item){ .row = row,
                                        .owner = f->shelf->owners[row],
                                        .lexical = f->words.scores ? f->words.scores[row] : 0,
                                        .dense = dense };
    return SL_OK;
}

/* The rows with the best scores by words, to the front of words.rows; returns how many. */
static size_t select_words(lexicon_scores *w, size_t k)
{
    size_t low = 0, high = w->count;

    if (w->count <= k)
        return w->count;
    while (high - low > 1) { /* quickselect: [0, low) are in, [high, count) are out */
        float pivot = w->scores[w->rows[low + (high - low) / 2]];
        size_t i = low, lt = low, gt = high;

        while (i < gt) {
            uint32_t row = w->rows[i];

            if (w->scores[row] > pivot) {
                w->rows[i++] = w->rows[lt];
                w->rows[lt++] = row;
            } else if (w->scores[row] < pivot) {
                w->rows[i] = w->rows[--gt];
                w->rows[gt] = row;
            } else {
                i++;
            }
        }
        if (k <= lt)
            high = lt;
        else if (k >= gt)
            low = gt;
        else
            break;
        if (k == low || k == high)
            break;
    }
    return k;
}

static int by_row(const void *a, const void *b)
{
    const fuse_item *x = a, *y = b;

    return (x->row > y->row) - (x->row < y->row);
}

/* Adds the best by words that the vectors did not propose, with their cosines. */
static sl_status add_words(finding *f, size_t k, sl_err *err)
{
    size_t near_count = f->count, n = select_words(&f->words, k), count = 0;
    size_t *rows = sl_calloc(n + 1, sizeof *rows);
    float *cosines = sl_calloc(n + 1, sizeof *cosines);
    sl_status status = rows && cosines ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");

    if (near_count)
        qsort(f->items, near_count, sizeof *f->items, by_row);
    for (size_t i = 0; i < n && status == SL_OK; i++) {
        fuse_item key = { .row = f->words.rows[i] };

        if (!near_count || !bsearch(&key, f->items, near_count, sizeof *f->items, by_row))
            rows[count++] = key.row;
    }
    if (status == SL_OK && f->q)
        status = f->shelf->v.ops->score(f->shelf->v.ctx, f->q, rows, count, cosines, err);
    for (size_t i = 0; i < count && status == SL_OK; i++)
        status = push_item(f, rows[i], cosines[i], err);
    sl_free(rows);
    sl_free(cosines);
    return status;
}

static sl_status add_near(finding *f, size_t k, sl_err *err)
{
    vector_hit *near = sl_calloc(k + 1, sizeof *near);
    size_t count = 0;
    sl_status status = near ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");

    if (status == SL_OK)
        status = f->shelf->v.ops->search(f->shelf->v.ctx, f->q, f->view.allowed, k, near, &count,
                                         &f->scale.dense_mean, err);
    for (size_t i = 0; i < count && status == SL_OK; i++)
        status = push_item(f, near[i].row, near[i].score, err);
    f->scale.dense_best = status == SL_OK && count ? near[0].score : 0;
    sl_free(near);
    return status;
}

static sl_status score_words(finding *f, sl_err *err)
{
    lexicon_query q;
    sl_status status;

    SL_TRY(lexicon_parse(f->shelf->collection, f->set.language, f->s->question, &q, err));
    status = lexicon_score(f->db, f->shelf, &f->view, &q, &f->words, err);
    lexicon_query_deinit(&q);
    f->scale.lexical_best = f->words.best;
    f->scale.lexical_bound = f->words.bound;
    return status;
}

/* ---- one search ---------------------------------------------------------------------------- */

static double number_of(const json_t *settings, const char *key, double otherwise)
{
    const json_t *v = json_object_get(settings, key);

    return json_is_number(v) ? json_number_value(v) : otherwise;
}

static void parse_settings(const char *text, search_settings *ret)
{
    json_t *json = json_loads(text, 0, NULL);
    const char *language = json_string_value(json_object_get(json, "language"));

    *ret = (search_settings){ .weight_lexical = SL_MAX(number_of(json, "weight_lexical", 1), 0.0),
                              .weight_dense = SL_MAX(number_of(json, "weight_dense", 1), 0.0),
                              .threshold = number_of(json, "threshold", -1),
                              .mmr = SL_MIN(SL_MAX(number_of(json, "mmr", 0), 0.0), 1.0),
                              .language = "english" };
    if (language && strlen(language) < sizeof ret->language && words_has_language(language))
        memcpy(ret->language, language, strlen(language) + 1);
    json_decref(json);
}

static shelf *find_shelf(rag *r, int64_t collection)
{
    shelf *oldest = &r->shelves[0];

    for (size_t i = 0; i < RAG_SHELVES; i++) {
        if (r->shelves[i].collection == collection)
            return &r->shelves[i];
        if (r->shelves[i].used < oldest->used)
            oldest = &r->shelves[i];
    }
    return oldest;
}

/* The shelf of the collection, up to date, in f->shelf; NULL when there are no passages. */
static sl_status open_shelf(finding *f, int64_t id, int64_t generation, sl_err *err)
{
    store_stmt *st;
    bool row = false;
    int64_t dim = 0;
    sl_status status;

    SL_TRY(store_prepare(f->db,
                         "SELECT dim, settings, last_active > unixepoch() - ?2 FROM collections"
                         " WHERE id = ?1",
                         &st, err));
    store_bind_int(st, 1, id);
    store_bind_int(st, 2, ACTIVE_S);
    status = store_step(st, &row, err);
    if (status == SL_OK && row) {
        dim = store_int(st, 0);
        parse_settings(store_text(st, 1), &f->set);
        f->is_active = store_int(st, 2) != 0;
    }
    store_finish(st);
    if (status != SL_OK || dim == 0)
        return status;
    f->shelf = find_shelf(f->r, id);
    SL_TRY(shelf_update(f->shelf, f->db, id, generation, (size_t)dim, err));
    f->shelf->used = ++f->r->tick;
    return SL_OK;
}

static sl_status find_locked(finding *f, sl_err *err)
{
    const char *name = f->s->collection ? f->s->collection : "default";
    size_t k = SL_MAX(f->top_k * (f->s->all ? 4 : 3), (size_t)CANDIDATES_MIN);
    int64_t id = 0, generation = 0;

    SL_TRY(
        index_collection_on(f->db, name, f->has_model ? &f->model : NULL, &id, &generation, err));
    f->is_active = true;
    if (id)
        SL_TRY(open_shelf(f, id, generation, err));
    if (!f->shelf)
        return SL_OK;
    SL_TRY(shelf_look(f->shelf, f->s->caller, f->filter, &f->view, err));
    f->scale.weight_lexical = f->set.weight_lexical;
    f->scale.weight_dense = f->set.weight_dense;
    f->scale.unknown = f->unknown;
    if (f->s->mode != LLM_DOCS_DENSE)
        SL_TRY(score_words(f, err));
    if (f->q)
        SL_TRY(add_near(f, k, err));
    if (f->s->mode != LLM_DOCS_DENSE)
        SL_TRY(add_words(f, k, err));
    fuse_items(f->items, f->count, &f->scale);
    return read_hits(f, f->s->all ? f->top_k : 2 * f->top_k + POOL_EXTRA, err);
}

static sl_status find_in_transaction(finding *f, sl_err *err)
{
    sl_status status;

    store_lock(f->db);
    status = store_begin_read(f->db, err);
    if (status == SL_OK)
        status = find_locked(f, err);
    store_rollback(f->db); /* nothing was written */
    store_unlock(f->db);
    return status;
}

/* The vector of the question, of as much of it as the model can read. */
static sl_status embed_question(finding *f, sl_err *err)
{
    const rag_model *m = &f->model;
    rag_text t = { "", f->s->question, strlen(f->s->question) };
    size_t tokens = 0, room = m->context_tokens > 8 ? m->context_tokens - 8 : 1;

    f->q = sl_calloc(m->dim, sizeof *f->q);
    if (!f->q)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    for (;;) {
        SL_TRY(rag_count_tokens(m->backend, t.text, t.len, &tokens, err));
        if (tokens <= room || t.len < 8)
            break;
        t.len = sl_utf8_complete(t.text, t.len * 3 / 4);
    }
    f->unknown = rag_unknown_share(m, t.text, t.len);
    return rag_embed(f->r, m, &t, 1, f->s->cancelled, f->q, err);
}

static sl_status embed_timed(finding *f, sl_err *err)
{
    int64_t begin = sl_clock_mono_ns();
    sl_status status = embed_question(f, err);

    f->hits->embed_ns = sl_clock_mono_ns() - begin;
    return status;
}

/* Once in a while the collection notes that it is in use. It is no failure when it cannot. */
static void note_use(rag *r, const char *collection)
{
    store_stmt *st = NULL;
    bool row;
    sl_status status;

    store_lock(r->db);
    status = store_prepare(r->db,
                           "UPDATE collections SET last_active = unixepoch() WHERE name = ?1 OR"
                           " public_id = ?1",
                           &st, NULL);
    if (status == SL_OK) {
        store_bind_str(st, 1, collection ? collection : "default");
        status = store_step(st, &row, NULL);
    }
    (void)status;
    store_finish(st);
    store_unlock(r->db);
}

/* Without being asked for it a reranker only helps: where it fails the order stays. */
static sl_status rerank(finding *f, sl_err *err)
{
    sl_err failure = { 0 };
    sl_status status;

    if (f->s->mode == LLM_DOCS_RERANKED)
        return rerank_hits(f->r, f->s, f->hits, err);
    if (f->s->mode != LLM_DOCS_BEST || !f->r->o.rerank_model || !rerank_is_there(f->r))
        return SL_OK;
    status = rerank_hits(f->r, f->s, f->hits, &failure);
    return status == SL_ECANCELLED ? sl_fail(err, status, "%s", failure.text) : SL_OK;
}

/* Where the vectors' model does not know the question's words, they tell nothing, and of words
 * alone less is asked. */
static double score_min(const finding *f)
{
    return SCORE_MIN * (f->has_model ? SL_MAX(1 - f->unknown, 0.5) : 0.5);
}

static double cosine_min(const finding *f)
{
    return COSINE_MIN + f->unknown * (1 - COSINE_MIN);
}

static sl_status find(finding *f, sl_err *err)
{
    SL_TRY(filter_compile(f->s->filters, &f->filter, err));
    if (f->s->mode != LLM_DOCS_LEXICAL) {
        SL_TRY(rag_embed_model(f->r, &f->model, err));
        f->has_model = true;
        SL_TRY(embed_timed(f, err));
    }
    SL_TRY(find_in_transaction(f, err));
    SL_TRY(rerank(f, err));
    if (!f->s->all)
        pick_hits(
            f->hits, f->top_k,
            &(pick_rules){ .threshold = f->s->threshold >= 0 ? f->s->threshold : f->set.threshold,
                           .score_min = score_min(f),
                           .cosine_min = cosine_min(f),
                           .mmr = f->set.mmr,
                           .language = f->set.language });
    return SL_OK;
}

sl_status search_run(rag *r, const llm_docs_search *s, rag_hits *ret, sl_err *err)
{
    finding f = { .r = r, .s = s, .db = r->finder ? r->finder : r->db, .hits = ret };
    sl_status status;

    *ret = (rag_hits){ 0 };
    if (s->mode == LLM_DOCS_RERANKED && !rerank_is_there(r))
        return sl_fail(err, SL_ENOTSUP,
                       "no model that reranks is there; fetch one and name it in "
                       "rag.rerank_model");
    f.top_k = s->top_k > 0 ? (size_t)SL_MIN(s->top_k, RAG_SEARCH_MAX) : (size_t)r->o.top_k;
    f.scale.mode = s->mode;
    f.set = (search_settings){ .threshold = -1, .language = "english" };
    status = find(&f, err);
    if (status == SL_OK && !f.is_active)
        note_use(r, s->collection);
    if (status != SL_OK)
        rag_hits_deinit(ret);
    filter_destroy(f.filter);
    shelf_view_deinit(&f.view);
    lexicon_scores_deinit(&f.words);
    sl_free(f.items);
    sl_free(f.q);
    return status;
}

sl_status search_docs(rag *r, const llm_docs_search *s,
                      void (*fn)(void *fn_ctx, const llm_passage *passages, size_t count),
                      void *fn_ctx, sl_err *err)
{
    rag_hits hits;
    llm_passage *passages;

    SL_TRY(search_run(r, s, &hits, err));
    passages = sl_calloc(hits.count + 1, sizeof *passages);
    for (size_t i = 0; i < hits.count && passages; i++)
        passages[i] = search_passage(&hits.items[i], (int32_t)i + 1);
    if (passages)
        fn(fn_ctx, passages, hits.count);
    sl_free(passages);
    rag_hits_deinit(&hits);
    return passages ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");
}
