/* answer.c - a question from search to the last citation.
 *
 * Passages are announced when the model has taken the request, so that a refusal (queue full, no
 * such model) is still a plain failure. Everything the reader sees of the answer goes through the
 * citation filter. */
#include "rag/rag_int.h"

#include <stdio.h>

#include "kernels/kernels.h"

#define ANSWER_BYTES_MAX (1 * SL_MIB) /* of an answer kept for finding its support */
#define SENTENCES_MAX    32           /* of an answer that are checked for support */
#define SUPPORT_COSINE   0.5
#define SUPPORT_WORDS    0.6
#define SENTENCE_MIN     12 /* bytes; shorter ones ("Yes.") look like anything */

typedef struct run {
    rag *r;
    const llm_docs_sink *sink;
    const rag_hits *hits;
    size_t used; /* passages in the prompt */
    bool announced;
    cite_filter filter;
    sl_buf piece;  /* what one event delivers */
    sl_buf answer; /* all of it */
} run;

static llm_passage passage_of(const rag_hits *hits, size_t i)
{
    const rag_hit *h = &hits->items[i];

    return (llm_passage){ .number = (int32_t)i + 1,
                          .document = h->document,
                          .title = h->title,
                          .text = h->text,
                          .begin = h->begin,
                          .end = h->end,
                          .score = h->score,
                          .heading = h->heading };
}

static void announce(const llm_docs_sink *sink, const rag_hits *hits, size_t count)
{
    llm_passage passages[RAG_TOP_K_MAX];

    SL_ASSERT(count <= RAG_TOP_K_MAX);
    for (size_t i = 0; i < count; i++)
        passages[i] = passage_of(hits, i);
    if (sink->on_passages)
        sink->on_passages(sink->ctx, passages, count);
}

static void finish(const llm_docs_sink *sink, sl_status status, const sl_err *err,
                   const llm_usage *usage)
{
    if (sink->on_done)
        sink->on_done(sink->ctx, status, err, usage);
}

/* ---- the stream ---------------------------------------------------------------------------- */

static void put(void *ctx, const char *text, size_t len)
{
    run *a = ctx;

    sl_buf_put(&a->piece, text, len);
    sl_buf_put(&a->answer, text, len);
}

static void flush(run *a)
{
    if (a->piece.len && a->sink->on_delta)
        a->sink->on_delta(a->sink->ctx, sl_buf_str(&a->piece), a->piece.len);
    sl_buf_clear(&a->piece);
}

static void announce_once(run *a)
{
    if (!a->announced)
        announce(a->sink, a->hits, a->used);
    a->announced = true;
}

static void on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    run *a = ctx;

    announce_once(a);
    if (ev->kind != LLM_EV_DELTA || ev->choice != 0)
        return;
    cite_filter_push(&a->filter, ev->text, ev->text_len);
    flush(a);
}

/* ---- support ------------------------------------------------------------------------------- */

typedef struct sentences {
    rag_text items[SENTENCES_MAX];
    size_t count;
} sentences;

static void split(const char *text, size_t len, sentences *ret)
{
    ret->count = 0;
    for (size_t at = 0; at < len && ret->count < SENTENCES_MAX;) {
        size_t end = chunk_sentence_end(text, len, at);

        while (at < end && strchr(" \t\r\n", text[at]))
            at++;
        if (end - at >= SENTENCE_MIN)
            ret->items[ret->count++] = (rag_text){ "", text + at, end - at };
        at = end;
    }
}

/* The passage (from 1) that supports a sentence best; 0 when none does. vector may be NULL. */
static int32_t supporter(const run *a, const rag_text *s, const float *vector)
{
    double best = 0;
    int32_t number = 0;

    for (size_t i = 0; i < a->used; i++) {
        const rag_hit *h = &a->hits->items[i];
        double cosine = vector ? kernels_dot_f32(vector, h->vector, a->hits->dim) : 0;
        double words = cite_overlap(s->text, s->len, h->text);

        if ((cosine >= SUPPORT_COSINE || words >= SUPPORT_WORDS) && cosine + words > best) {
            best = cosine + words;
            number = (int32_t)i + 1;
        }
    }
    return number;
}

/* Finds the passages behind an answer that names none, and appends their markers. Without vectors
 * (the embedding model is busy) words alone decide. */
static void attach_support(run *a, atomic_bool *cancelled)
{
    sentences s;
    rag_model m;
    sl_err ignored = { 0 };
    float *vectors = NULL;
    sl_buf text = a->answer; /* the markers are appended to a->answer meanwhile */
    bool has_vectors = false;

    split(sl_buf_str(&text), text.len, &s);
    if (s.count && rag_embed_model(a->r, &m, &ignored) == SL_OK && m.dim == a->hits->dim)
        vectors = sl_calloc(s.count, m.dim * sizeof *vectors);
    if (vectors)
        has_vectors = rag_embed(a->r, &m, s.items, s.count, cancelled, vectors, &ignored) == SL_OK;
    for (size_t i = 0; i < s.count; i++) {
        int32_t n = supporter(a, &s.items[i], has_vectors ? vectors + i * a->hits->dim : NULL);

        if (n)
            (void)cite_note(&a->filter, n);
    }
    for (size_t i = 0; i < a->filter.order_count; i++) {
        char marker[16];

        sl_buf_put(&a->piece, marker,
                   (size_t)snprintf(marker, sizeof marker, " [%d]", (int)a->filter.order[i]));
    }
    sl_free(vectors);
}

/* The model said nothing: the sentence of the best passage that has most words of the question. */
static void quote_best(run *a, const char *question)
{
    const char *text = a->hits->items[0].text;
    size_t len = strlen(text), begin = 0, size = 0;
    double best = -1;
    cite_filter plain;

    for (size_t at = 0, end; at < len; at = end) {
        double share;

        end = chunk_sentence_end(text, len, at);
        a->piece.failed = false;
        sl_buf_clear(&a->piece);
        sl_buf_put(&a->piece, text + at, end - at);
        share = cite_overlap(question, strlen(question), sl_buf_str(&a->piece));
        if (share > best) {
            best = share;
            begin = at;
            size = end - at;
        }
    }
    sl_buf_clear(&a->piece);
    cite_filter_init(&plain, 0, put, a); /* numbers in brackets there are no markers of ours */
    while (size && strchr(" \t\r\n", text[begin])) {
        begin++;
        size--;
    }
    cite_filter_push(&plain, text + begin, size);
    cite_filter_end(&plain);
    (void)cite_note(&a->filter, 1);
    sl_buf_puts(&a->piece, " [1]");
}

static bool is_blank(const sl_buf *b)
{
    for (size_t i = 0; i < b->len; i++)
        if (!strchr(" \t\r\n", b->ptr[i]))
            return false;
    return true;
}

/* The answer is complete: what is held, support, citations. */
static void complete(run *a, const llm_docs_query *q)
{
    announce_once(a);
    cite_filter_end(&a->filter);
    if (is_blank(&a->answer))
        quote_best(a, q->question);
    else if (a->filter.order_count == 0)
        attach_support(a, q->cancelled);
    flush(a);
    for (size_t i = 0; i < a->filter.order_count && a->sink->on_citation; i++) {
        llm_passage p = passage_of(a->hits, (size_t)a->filter.order[i] - 1);

        a->sink->on_citation(a->sink->ctx, &p);
    }
}

/* ---- the whole ----------------------------------------------------------------------------- */

static sl_status ask_model(rag *r, const llm_backend *b, const llm_docs_query *q,
                           const rag_hits *hits, const llm_docs_sink *sink, sl_err *err)
{
    run a = { .r = r, .sink = sink, .hits = hits };
    llm_request *req = NULL;
    llm_usage usage = { 0 };
    sl_err failure = { 0 };
    sl_status status;

    SL_TRY(prompt_build(b, q, hits, &req, &a.used, err));
    sl_buf_init(&a.piece, ANSWER_BYTES_MAX);
    sl_buf_init(&a.answer, ANSWER_BYTES_MAX);
    cite_filter_init(&a.filter, (int32_t)a.used, put, &a);
    status = rag_run(r, req, on_event, &a, q->cancelled, &usage, &failure);
    if (status == SL_OK) {
        complete(&a, q);
        finish(sink, SL_OK, NULL, &usage);
    } else if (a.announced) {
        finish(sink, status, &failure, &usage);
        status = SL_OK; /* on_done told it */
    } else {
        status = sl_fail(err, status, "%s", failure.text);
    }
    sl_buf_deinit(&a.piece);
    sl_buf_deinit(&a.answer);
    return status;
}

/* Answers that need no model. */
static void answer_plain(const llm_docs_query *q, const rag_hits *hits, const llm_docs_sink *sink)
{
    llm_usage none = { 0 };

    announce(sink, hits, hits->count);
    if (!q->search_only && sink->on_delta)
        sink->on_delta(sink->ctx, RAG_NOTHING, strlen(RAG_NOTHING));
    finish(sink, SL_OK, NULL, &none);
}

sl_status answer_query(rag *r, const llm_docs_query *query, const llm_docs_sink *sink, sl_err *err)
{
    llm_docs_query q = *query;
    const llm_backend *b = NULL;
    llm_model_info info = { 0 };
    rag_hits hits;
    sl_status status = SL_OK;

    q.collection = q.collection ? q.collection : "default";
    q.model = q.model && q.model[0] ? q.model : r->o.chat_model;
    q.max_tokens = q.max_tokens > 0 ? q.max_tokens : r->o.answer_tokens;
    q.top_k = q.top_k > 0 ? SL_MIN(q.top_k, RAG_TOP_K_MAX) : r->o.top_k;
    if (!q.search_only) {
        b = llm_chain_find(r->o.chain, q.model, LLM_CHAT);
        if (b)
            b->ops->info(b->ctx, &info);
        if (!info.can_generate)
            return sl_fail(err, q.model ? SL_ENOTFOUND : SL_ENOTSUP,
                           "no model '%s' that generates text is loaded", q.model ? q.model : "");
    }
    SL_TRY(search_run(r, q.collection, q.question, (size_t)q.top_k, q.cancelled, &hits, err));
    if (q.search_only || hits.count == 0)
        answer_plain(&q, &hits, sink);
    else
        status = ask_model(r, b, &q, &hits, sink, err);
    rag_hits_deinit(&hits);
    return status;
}
