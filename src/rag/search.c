/* search.c - finds passages: BM25 and cosine, fused by rank.
 *
 * The two rankings have scores that cannot be compared, so only ranks are added up (reciprocal rank
 * fusion, Cormack et al. 2009). The vectors of a collection are scanned exactly: a million floats
 * are about a millisecond, and nothing is missed. All reads of one search see one state. */
#include "rag/rag_int.h"

#include <math.h>
#include <stdlib.h>

#include "kernels/kernels.h"

#define CANDIDATES 50   /* of each ranking */
#define COSINE_MIN 0.25 /* below: not about the question, unless words match */

/* ---- vectors in memory --------------------------------------------------------------------- */

void rag_cache_clear(rag_cache *c)
{
    sl_free(c->ids);
    sl_free(c->vectors);
    *c = (rag_cache){ 0 };
}

#define OF_COLLECTION " FROM chunks c JOIN documents d ON d.id = c.document WHERE d.collection = ?"

static sl_status count_chunks(rag *r, int64_t collection, size_t *ret, sl_err *err)
{
    store_stmt *st;
    bool row = false;
    sl_status status;

    SL_TRY(store_prepare(r->db, "SELECT count(*)" OF_COLLECTION, &st, err));
    store_bind_int(st, 1, collection);
    status = store_step(st, &row, err);
    *ret = row ? (size_t)store_int(st, 0) : 0;
    store_finish(st);
    return status;
}

static sl_status read_vectors(rag *r, rag_cache *c, size_t count, sl_err *err)
{
    store_stmt *st;
    bool row = true;
    sl_status status;

    SL_TRY(
        store_prepare(r->db, "SELECT c.id, c.embedding" OF_COLLECTION " ORDER BY c.id", &st, err));
    store_bind_int(st, 1, c->collection);
    while ((status = store_step(st, &row, err)) == SL_OK && row && c->count < count) {
        sl_span blob = store_bytes(st, 1);

        if (blob.len != c->dim * sizeof(float)) {
            status = sl_fail(err, SL_EFORMAT, "a stored vector has %zu bytes instead of %zu",
                             blob.len, c->dim * sizeof(float));
            break;
        }
        c->ids[c->count] = store_int(st, 0);
        memcpy(c->vectors + c->count * c->dim, blob.ptr, blob.len);
        c->count++;
    }
    store_finish(st);
    return status;
}

static rag_cache *find_cache(rag *r, int64_t collection)
{
    rag_cache *oldest = &r->caches[0];

    for (size_t i = 0; i < RAG_CACHES; i++) {
        if (r->caches[i].collection == collection)
            return &r->caches[i];
        if (r->caches[i].used < oldest->used)
            oldest = &r->caches[i];
    }
    return oldest;
}

/* The vectors of a collection as the present read transaction sees it. */
static sl_status load_cache(rag *r, int64_t collection, int64_t generation, size_t dim,
                            rag_cache **ret, sl_err *err)
{
    rag_cache *c = find_cache(r, collection);
    size_t count = 0, floats;
    sl_status status;

    if (c->collection != collection || c->generation != generation || c->dim != dim) {
        rag_cache_clear(c);
        SL_TRY(count_chunks(r, collection, &count, err));
        if (!sl_mul(count, dim, &floats))
            return sl_fail(err, SL_ELIMIT, "the collection is too large");
        c->ids = sl_calloc(count + 1, sizeof *c->ids);
        c->vectors = sl_calloc(floats + 1, sizeof *c->vectors);
        c->dim = dim;
        c->collection = collection;
        c->generation = generation;
        status = c->ids && c->vectors
                     ? read_vectors(r, c, count, err)
                     : sl_fail(err, SL_ENOMEM, "%zu vectors need too much memory", count);
        if (status != SL_OK) {
            rag_cache_clear(c);
            return status;
        }
    }
    c->used = ++r->tick;
    *ret = c;
    return SL_OK;
}

static const float *vector_of(const rag_cache *c, int64_t id)
{
    size_t low = 0, high = c->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (c->ids[mid] < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low < c->count && c->ids[low] == id ? c->vectors + low * c->dim : NULL;
}

/* The nearest chunks, nearest first, into out[CANDIDATES]; returns how many. */
static size_t nearest(const rag_cache *c, const float *q, fusion_item *out)
{
    size_t count = 0;

    for (size_t i = 0; i < c->count; i++) {
        double cosine = kernels_dot_f32(q, c->vectors + i * c->dim, c->dim);
        size_t at = count;

        if (count == CANDIDATES && cosine <= out[count - 1].cosine)
            continue;
        count = SL_MIN(count + 1, (size_t)CANDIDATES);
        at = SL_MIN(at, count - 1);
        for (; at > 0 && out[at - 1].cosine < cosine; at--)
            out[at] = out[at - 1];
        out[at] = (fusion_item){ .id = c->ids[i], .cosine = cosine };
    }
    return count;
}

/* ---- words --------------------------------------------------------------------------------- */

/* The chunks with words of the question, best first; none for an empty match. */
static sl_status by_words(rag *r, int64_t collection, const char *match, const rag_cache *c,
                          const float *q, fusion_item *out, size_t *ret_count, sl_err *err)
{
    store_stmt *st;
    bool row = false;
    sl_status status;

    *ret_count = 0;
    if (!match[0])
        return SL_OK;
    SL_TRY(store_prepare(r->db,
                         "SELECT chunk_words.rowid FROM chunk_words"
                         " JOIN chunks c ON c.id = chunk_words.rowid"
                         " JOIN documents d ON d.id = c.document"
                         " WHERE chunk_words MATCH ? AND d.collection = ?"
                         " ORDER BY bm25(chunk_words, 2.0, 1.0), c.id LIMIT ?",
                         &st, err));
    store_bind_str(st, 1, match);
    store_bind_int(st, 2, collection);
    store_bind_int(st, 3, CANDIDATES);
    while ((status = store_step(st, &row, err)) == SL_OK && row) {
        const float *v = vector_of(c, store_int(st, 0));

        if (v)
            out[(*ret_count)++] = (fusion_item){ .id = store_int(st, 0),
                                                 .is_lexical = true,
                                                 .cosine = kernels_dot_f32(q, v, c->dim) };
    }
    store_finish(st);
    return status;
}

/* ---- passages ------------------------------------------------------------------------------ */

static void hit_deinit(rag_hit *h)
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
        hit_deinit(&hits->items[i]);
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

/* True when h says mostly what one of the hits says: the same text, or half of either span. */
static bool is_repeated(const rag_hits *hits, const rag_hit *h)
{
    for (size_t i = 0; i < hits->count; i++) {
        const rag_hit *o = &hits->items[i];
        int64_t shared = SL_MIN(o->end, h->end) - SL_MAX(o->begin, h->begin);
        int64_t shorter = SL_MIN(o->end - o->begin, h->end - h->begin);

        if (strcmp(o->text, h->text) == 0)
            return true;
        if (o->document_id == h->document_id && shared * 2 >= shorter)
            return true;
    }
    return false;
}

static sl_status copy_row(store_stmt *st, const rag_cache *c, const fusion_item *f, rag_hit *ret,
                          sl_err *err)
{
    const float *v = vector_of(c, f->id);

    SL_ASSERT(v); /* candidates come from the cache */
    *ret = (rag_hit){ .id = f->id,
                      .document_id = store_int(st, 0),
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
                      .score = f->score,
                      .lexical = NAN,
                      .dense = f->cosine,
                      .rerank = NAN,
                      .vector = sl_malloc(c->dim * sizeof(float)) };
    if (!ret->document || !ret->title || !ret->heading || !ret->text || !ret->vector ||
        !ret->public_id || !ret->source || !ret->trust || !ret->attributes)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    memcpy(ret->vector, v, c->dim * sizeof(float));
    return SL_OK;
}

static sl_status load_hits(rag *r, const rag_cache *c, const fusion_item *items, size_t count,
                           size_t top_k, rag_hits *ret, sl_err *err)
{
    store_stmt *st;
    sl_status status = SL_OK;

    ret->dim = c->dim;
    ret->items = sl_calloc(top_k, sizeof *ret->items);
    if (!ret->items)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    SL_TRY(store_prepare(
        r->db,
        "SELECT d.id, d.name, d.title, c.heading, c.text, c.begin, c.end,"
        " c.page, c.parent_begin, c.parent_end, d.public_id, d.source, d.trust,"
        " d.attributes FROM chunks c JOIN documents d ON d.id = c.document WHERE c.id = ?",
        &st, err));
    for (size_t i = 0; i < count && ret->count < top_k && status == SL_OK; i++) {
        rag_hit h = { 0 };
        bool row = false;

        if (!items[i].is_lexical && items[i].cosine < COSINE_MIN)
            continue;
        store_bind_int(st, 1, items[i].id);
        status = store_step(st, &row, err);
        if (status == SL_OK && row)
            status = copy_row(st, c, &items[i], &h, err);
        if (status == SL_OK && row && !is_repeated(ret, &h))
            ret->items[ret->count++] = h;
        else
            hit_deinit(&h);
        store_reset(st);
    }
    store_finish(st);
    return status;
}

static sl_status search_locked(rag *r, const char *collection, const rag_model *m,
                               const char *match, const float *q, size_t top_k, rag_hits *ret,
                               sl_err *err)
{
    fusion_item near[CANDIDATES], words[CANDIDATES], fused[2 * CANDIDATES];
    size_t near_count, word_count, count;
    int64_t id = 0, generation = 0;
    rag_cache *c = NULL;

    SL_TRY(index_collection(r, collection, m, &id, &generation, err));
    if (id == 0)
        return SL_OK;
    SL_TRY(load_cache(r, id, generation, m->dim, &c, err));
    SL_TRY(by_words(r, id, match, c, q, words, &word_count, err));
    near_count = nearest(c, q, near);
    count = search_fuse(words, word_count, near, near_count, fused);
    return load_hits(r, c, fused, count, top_k, ret, err);
}

/* The vector of the question, of as much of it as the model can read. */
static sl_status embed_question(rag *r, const rag_model *m, const char *question,
                                atomic_bool *cancelled, float *out, sl_err *err)
{
    rag_text t = { "", question, strlen(question) };
    size_t tokens = 0, room = m->context_tokens > 8 ? m->context_tokens - 8 : 1;

    for (;;) {
        SL_TRY(rag_count_tokens(m->backend, t.text, t.len, &tokens, err));
        if (tokens <= room || t.len < 8)
            break;
        t.len = sl_utf8_complete(t.text, t.len * 3 / 4);
    }
    return rag_embed(r, m, &t, 1, cancelled, out, err);
}

static sl_status search_with(rag *r, const char *collection, const rag_model *m, const char *match,
                             const float *q, size_t top_k, rag_hits *ret, sl_err *err)
{
    sl_status status;

    store_lock(r->db);
    status = store_begin_read(r->db, err);
    if (status == SL_OK)
        status = search_locked(r, collection, m, match, q, top_k, ret, err);
    store_rollback(r->db); /* nothing was written */
    store_unlock(r->db);
    if (status != SL_OK)
        rag_hits_deinit(ret);
    return status;
}

sl_status search_run(rag *r, const llm_docs_search *s, rag_hits *ret, sl_err *err)
{
    const char *collection = s->collection ? s->collection : "default", *question = s->question;
    size_t top_k = s->top_k > 0 ? (size_t)SL_MIN(s->top_k, RAG_TOP_K_MAX) : (size_t)r->o.top_k;
    atomic_bool *cancelled = s->cancelled;
    rag_model m;
    sl_buf match;
    float *q;
    sl_status status;

    *ret = (rag_hits){ 0 };
    SL_TRY(rag_embed_model(r, &m, err));
    q = sl_calloc(m.dim, sizeof *q);
    if (!q)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    sl_buf_init(&match, 4 * RAG_QUESTION_BYTES_MAX);
    search_match(question, &match);
    status = sl_buf_ok(&match, "query", err);
    if (status == SL_OK)
        status = embed_question(r, &m, question, cancelled, q, err);
    if (status == SL_OK)
        status = search_with(r, collection, &m, sl_buf_str(&match), q, top_k, ret, err);
    sl_buf_deinit(&match);
    sl_free(q);
    return status;
}

sl_status search_docs(rag *r, const llm_docs_search *s,
                      void (*fn)(void *fn_ctx, const llm_passage *passages, size_t count),
                      void *fn_ctx, sl_err *err)
{
    rag_hits hits;
    llm_passage passages[RAG_TOP_K_MAX];

    SL_TRY(search_run(r, s, &hits, err));
    for (size_t i = 0; i < hits.count; i++)
        passages[i] = search_passage(&hits.items[i], (int32_t)i + 1);
    fn(fn_ctx, passages, hits.count);
    rag_hits_deinit(&hits);
    return SL_OK;
}
