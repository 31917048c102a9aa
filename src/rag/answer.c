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
    bool stopped; /* the answer began to repeat itself */
    cite_filter filter;
    sl_buf answer;   /* all of it */
    size_t sent;     /* bytes of it that the reader has */
    size_t sentence; /* where its last sentence begins */
} run;

static llm_passage passage_of(const rag_hits *hits, size_t i)
{
    const rag_hit *h = &hits->items[i];

    return search_passage(h, (int32_t)i + 1);
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

    sl_buf_put(&a->answer, text, len);
}

static void deliver(run *a, size_t end)
{
    if (end > a->sent && a->sink->on_delta)
        a->sink->on_delta(a->sink->ctx, a->answer.ptr + a->sent, end - a->sent);
    a->sent = SL_MAX(a->sent, end);
}

static size_t skip_space(const char *text, size_t at, size_t end)
{
    while (at < end && strchr(" \t\r\n", text[at]))
        at++;
    return at;
}

/* Whether answer[begin..end) begins an earlier sentence, or (is_whole) is one. */
static bool is_said(const run *a, size_t begin, size_t end, bool is_whole)
{
    const char *text = a->answer.ptr;

    begin = skip_space(text, begin, end);
    if (is_whole && end - begin < SENTENCE_MIN)
        return false;
    for (size_t at = 0, stop; at < a->sentence; at = stop) {
        size_t from = skip_space(text, at, a->sentence);

        stop = chunk_sentence_end(text, a->sentence, at);
        if (stop >= from && (is_whole ? stop - from == end - begin : stop - from >= end - begin) &&
            memcmp(text + from, text + begin, end - begin) == 0)
            return true;
    }
    return false;
}

/* Delivers what may be delivered. Small models repeat a sentence for ever: the beginning of what
 * may be a repetition is held back, and a whole one ends the answer in front of it. */
static void flush(run *a, bool is_end)
{
    size_t len = a->answer.len, end;

    while (a->sentence < len) {
        end = chunk_sentence_end(a->answer.ptr, len, a->sentence);
        if (end == len && !is_end) {
            if (!is_said(a, a->sentence, len, false))
                deliver(a, len);
            return;
        }
        if (is_said(a, a->sentence, end, true)) {
            a->stopped = true;
            a->answer.len = SL_MAX(a->sent, a->sentence);
            return;
        }
        deliver(a, end);
        a->sentence = end;
    }
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
    if (ev->kind != LLM_EV_DELTA || ev->choice != 0 || a->stopped)
        return;
    cite_filter_push(&a->filter, ev->text, ev->text_len);
    flush(a, false);
    if (a->stopped)
        llm_cancel(req);
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
    bool has_vectors = false;

    split(sl_buf_str(&a->answer), a->answer.len, &s);
    if (s.count && rag_embed_model(a->r, &m, &ignored) == SL_OK && m.dim == a->hits->dim)
        vectors = sl_calloc(s.count, m.dim * sizeof *vectors);
    if (vectors)
        has_vectors = rag_embed(a->r, &m, s.items, s.count, cancelled, vectors, &ignored) == SL_OK;
    for (size_t i = 0; i < s.count; i++) {
        int32_t n = supporter(a, &s.items[i], has_vectors ? vectors + i * a->hits->dim : NULL);

        if (n)
            (void)cite_note(&a->filter, n);
    }
    sl_free(vectors); /* the sentences point into the answer: no append before this */
    for (size_t i = 0; i < a->filter.order_count; i++)
        sl_buf_printf(&a->answer, " [%d]", (int)a->filter.order[i]);
}

/* The model said nothing: the sentence of the best passage that has most words of the question. */
static void quote_best(run *a, const char *question)
{
    const char *text = a->hits->items[0].text;
    size_t len = strlen(text), begin = 0, size = 0;
    double best = -1;
    cite_filter plain;

    for (size_t at = 0, end; at < len; at = end) {
        char *sentence;
        double share;

        end = chunk_sentence_end(text, len, at);
        at = skip_space(text, at, end);
        sentence = sl_strndup(text + at, end - at);
        share = sentence ? cite_overlap(question, strlen(question), sentence) : 0;
        sl_free(sentence);
        if (share > best) {
            best = share;
            begin = at;
            size = end - at;
        }
    }
    cite_filter_init(&plain, 0, put, a); /* numbers in brackets there are no markers of ours */
    cite_filter_push(&plain, text + begin, size);
    cite_filter_end(&plain);
    (void)cite_note(&a->filter, 1);
    sl_buf_puts(&a->answer, " [1]");
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
    if (!a->stopped) {
        cite_filter_end(&a->filter);
        while (a->answer.len > a->sent && strchr(" \t\r\n", a->answer.ptr[a->answer.len - 1]))
            a->answer.len--; /* models like to end with empty lines */
        flush(a, true);
    }
    if (is_blank(&a->answer))
        quote_best(a, q->question);
    else if (a->filter.order_count == 0)
        attach_support(a, q->cancelled);
    deliver(a, a->answer.len);
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
    SL_TRY(search_run(r,
                      &(llm_docs_search){ .collection = q.collection,
                                          .question = q.question,
                                          .top_k = q.top_k,
                                          .mode = q.mode,
                                          .filters = q.filters,
                                          .threshold = -1,
                                          .caller = q.caller,
                                          .cancelled = q.cancelled },
                      &hits, err));
    if (q.search_only || hits.count == 0)
        answer_plain(&q, &hits, sink);
    else
        status = ask_model(r, b, &q, &hits, sink, err);
    rag_hits_deinit(&hits);
    return status;
}
