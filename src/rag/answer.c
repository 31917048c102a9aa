/* answer.c - a question from search to the last citation.
 *
 * Passages are announced when the model has taken the request, so that a refusal (queue full, no
 * such model) is still a plain failure. Everything the reader sees of the answer goes through the
 * reply's filter. */
#include <stdio.h>

#include "base/os.h"
#include "rag/answer_int.h"
#include "rag/lang.h"

#define ARENA_BYTES       (4 * SL_MIB)
#define FREQUENCY_PENALTY 0.2f /* greedy small models repeat themselves for ever without */

typedef struct run {
    const llm_docs_query *q;
    const llm_docs_sink *sink;
    evidence e;
    reply reply;
    int64_t begin_ns;
    bool announced;
} run;

static void announce(run *a)
{
    llm_passage passages[RAG_TOP_K_MAX];
    const llm_docs_sink *sink = a->sink;
    size_t count;

    if (a->announced)
        return;
    a->announced = true;
    if (a->e.rewritten && sink->on_rewrite)
        sink->on_rewrite(sink->ctx, a->e.rewritten);
    count = evidence_left_out(&a->e, passages);
    if (count > 0 && sink->on_left_out)
        sink->on_left_out(sink->ctx, passages, count);
    count = evidence_passages(&a->e, passages);
    if (sink->on_passages)
        sink->on_passages(sink->ctx, passages, count);
}

static void report(run *a)
{
    llm_docs_report *r = &a->e.report;

    r->total_ns = sl_clock_mono_ns() - a->begin_ns;
    r->removed_markers = a->reply.filter.removed;
    if (a->sink->on_report)
        a->sink->on_report(a->sink->ctx, r);
}

static void finish(const llm_docs_sink *sink, sl_status status, const sl_err *err,
                   const llm_usage *usage)
{
    if (sink->on_done)
        sink->on_done(sink->ctx, status, err, usage);
}

static void deliver(void *ctx, const char *text, size_t len)
{
    run *a = ctx;

    if (a->e.report.first_token_ns == 0)
        a->e.report.first_token_ns = sl_clock_mono_ns() - a->begin_ns;
    if (a->sink->on_delta)
        a->sink->on_delta(a->sink->ctx, text, len);
}

static void on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    run *a = ctx;

    announce(a);
    if (ev->kind != LLM_EV_DELTA || ev->choice != 0 || a->reply.stopped)
        return;
    reply_push(&a->reply, ev->text, ev->text_len);
    if (a->reply.stopped)
        llm_cancel(req);
}

/* The answer is complete: what is held, support, citations. */
static void complete(run *a)
{
    llm_passage citations[RAG_TOP_K_MAX];
    char *quotes[RAG_TOP_K_MAX];
    size_t count;

    announce(a);
    reply_end(&a->reply, a->q, true);
    count = reply_citations(&a->reply, citations, quotes);
    for (size_t i = 0; i < count; i++) {
        if (a->sink->on_citation)
            a->sink->on_citation(a->sink->ctx, &citations[i]);
        sl_free(quotes[i]);
    }
}

/* ---- the request ---------------------------------------------------------------------------- */

static sl_status make_request(const llm_docs_query *q, llm_request **ret, sl_err *err)
{
    llm_request *req = llm_request_create(LLM_CHAT, ARENA_BYTES);

    if (req && q->model)
        req->model = sl_arena_strndup(&req->arena, q->model, strlen(q->model));
    if (!req || !req->model) {
        llm_request_destroy(req);
        return sl_fail(err, SL_ENOMEM, "out of memory for the prompt");
    }
    req->caller = llm_caller_ref(q->caller);
    req->trace = q->trace;
    req->route = q->route ? q->route : "";
    if (q->request_id)
        snprintf(req->id, sizeof req->id, "%s", q->request_id);
    req->max_tokens = q->max_tokens;
    req->sampling.temperature = q->temperature;
    req->sampling.frequency_penalty = FREQUENCY_PENALTY;
    req->stops = prompt_stops;
    req->stop_count = prompt_stop_count;
    *ret = req;
    return SL_OK;
}

/* A question that was made to stand alone needs the conversation no more. */
static sl_status write_request(run *a, const llm_backend *b, llm_request *req, sl_err *err)
{
    llm_docs_query q = *a->q;

    if (a->e.rewritten)
        q.messages = NULL;
    return evidence_write(&a->e, &q, b, false, req, err);
}

static sl_status ask_model(run *a, const llm_backend *b, sl_err *err)
{
    llm_request *req = NULL;
    llm_usage usage = { 0 };
    sl_err failure = { 0 };
    sl_status status;

    SL_TRY(make_request(a->q, &req, err));
    status = write_request(a, b, req, err);
    if (status != SL_OK) {
        llm_request_destroy(req);
        return status;
    }
    reply_init(&a->reply, &a->e, false, deliver, a);
    status = rag_run(a->e.r, req, on_event, a, a->q->cancelled, &usage, &failure);
    if (status == SL_OK) {
        complete(a);
        report(a);
        finish(a->sink, SL_OK, NULL, &usage);
    } else if (a->announced) {
        finish(a->sink, status, &failure, &usage);
        status = SL_OK; /* on_done told it */
    } else {
        status = sl_fail(err, status, "%s", failure.text);
    }
    reply_deinit(&a->reply);
    return status;
}

/* Answers that need no model. */
static void answer_plain(run *a)
{
    llm_usage none = { 0 };

    announce(a);
    if (!a->q->search_only) {
        const char *text = lang_nothing(a->e.report.language);

        deliver(a, text, strlen(text));
    }
    report(a);
    finish(a->sink, SL_OK, NULL, &none);
}

sl_status answer_query(rag *r, const llm_docs_query *query, const llm_docs_sink *sink, sl_err *err)
{
    llm_docs_query q = *query;
    run a = { .q = &q, .sink = sink, .begin_ns = sl_clock_mono_ns() };
    const llm_backend *b = NULL;
    llm_model_info info = { 0 };
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
            return q.model ? sl_fail(err, SL_ENOTFOUND,
                                     "no model '%s' that generates text is loaded", q.model)
                           : sl_fail(err, SL_ENOTSUP,
                                     "answers need a model that generates text, and there is none; "
                                     "bring one with: sluice pull smollm2");
    }
    SL_TRY(evidence_find(r, &q, b, &a.e, err));
    if (q.search_only || a.e.hits.count == 0)
        answer_plain(&a);
    else
        status = ask_model(&a, b, err);
    evidence_deinit(&a.e);
    return status;
}
