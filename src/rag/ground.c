/* ground.c - a chat request answered over documents.
 *
 * Its last user message is the question. Passages go into that message, and between the backend and
 * the caller's sink stands a filter that checks the markers of each choice. The request stays the
 * caller's: its sampling, its limits, its other messages.
 *
 * A ground lives from the submission to the sink's last event. */
#include <stdio.h>

#include "base/os.h"
#include "rag/answer_int.h"
#include "rag/lang.h"

#define MARKS_MAX 4096

typedef struct ground {
    evidence e;
    llm_sink sink;
    llm_docs_query q;
    char *collection, *question; /* owned */
    bool no_markers;
    size_t choice_count;
    reply *replies; /* [choice_count] */
    llm_request *req;
    const llm_event *event; /* in hand, while a reply delivers */
    bool told;              /* the event in hand went on with its tokens */
} ground;

static void ground_destroy(ground *g)
{
    if (!g)
        return;
    for (size_t i = 0; g->replies && i < g->choice_count; i++)
        reply_deinit(&g->replies[i]);
    sl_free(g->replies);
    evidence_deinit(&g->e);
    sl_free(g->collection);
    sl_free(g->question);
    sl_free(g);
}

/* ---- events --------------------------------------------------------------------------------- */

/* A piece of checked text: the first of an event takes the tokens along. */
static void deliver(void *ctx, const char *text, size_t len)
{
    ground *g = ctx;
    llm_event ev = {
        .kind = LLM_EV_DELTA, .choice = g->event->choice, .text = text, .text_len = len
    };

    if (g->event->kind == LLM_EV_DELTA && !g->told) {
        ev = *g->event;
        ev.text = text;
        ev.text_len = len;
    }
    g->told = true;
    g->sink.fn(g->sink.ctx, g->req, &ev);
}

static void pass_delta(ground *g, const llm_event *ev)
{
    llm_event bare = *ev;

    g->event = ev;
    g->told = false;
    reply_push(&g->replies[ev->choice], ev->text ? ev->text : "", ev->text_len);
    if (g->told || ev->token_count == 0)
        return;
    bare.text = ""; /* its text is held back; its tokens are counted */
    bare.text_len = 0;
    g->sink.fn(g->sink.ctx, g->req, &bare);
}

static int64_t count_chars(const char *text, size_t begin, size_t end)
{
    int64_t count = 0;

    for (size_t i = begin; i < end; i++)
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

static size_t list_marks(const reply *p, llm_docs_mark *out)
{
    int64_t chars = 0;
    size_t at = 0, count = SL_MIN(p->filter.mark_count, (size_t)MARKS_MAX);

    for (size_t i = 0; i < count; i++) {
        const cite_mark *m = &p->filter.marks[i];

        chars += count_chars(p->answer.ptr, at, m->at);
        at = m->at;
        out[i] = (llm_docs_mark){ .number = m->number,
                                  .begin = chars,
                                  .end = chars + (int64_t)(m->end - m->at),
                                  .byte = (int64_t)m->at,
                                  .bytes = (int64_t)(m->end - m->at) };
    }
    return count;
}

/* The end of a choice, with what it rests on. */
static void pass_finish(ground *g, const llm_event *ev)
{
    llm_passage passages[RAG_TOP_K_MAX], citations[RAG_TOP_K_MAX], left_out[RAG_TOP_K_MAX];
    char *quotes[RAG_TOP_K_MAX] = { 0 };
    reply *p = &g->replies[ev->choice];
    llm_docs_report report = g->e.report;
    llm_docs_mark *marks;
    llm_event with = *ev;
    llm_grounds grounds = { .collection = g->collection,
                            .report = &report,
                            .passages = passages,
                            .citations = citations,
                            .left_out = left_out };

    g->event = ev;
    g->told = true;
    reply_end(p, &g->q, false);
    report.removed_markers = p->filter.removed;
    grounds.passage_count = evidence_passages(&g->e, passages);
    grounds.left_out_count = evidence_left_out(&g->e, left_out);
    grounds.citation_count = reply_citations(p, citations, quotes);
    marks = sl_calloc(p->filter.mark_count + 1, sizeof *marks);
    grounds.marks = marks;
    grounds.mark_count = marks ? list_marks(p, marks) : 0;
    with.grounds = &grounds;
    g->sink.fn(g->sink.ctx, g->req, &with);
    for (size_t i = 0; i < grounds.citation_count; i++)
        sl_free(quotes[i]);
    sl_free(marks);
}

static void on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    ground *g = ctx;
    const llm_sink sink = g->sink;

    g->req = req;
    if (ev->kind == LLM_EV_DELTA && ev->choice < g->choice_count &&
        !(ev->token_count > 0 && ev->tokens && ev->tokens[0].is_prompt)) {
        pass_delta(g, ev);
        return;
    }
    if (ev->kind == LLM_EV_FINISH && ev->choice < g->choice_count) {
        pass_finish(g, ev);
        return;
    }
    if (ev->kind == LLM_EV_DONE)
        ground_destroy(g); /* nothing of it is in this event */
    sink.fn(sink.ctx, req, ev);
}

/* ---- nothing found -------------------------------------------------------------------------- */

/* The whole answer where no model is asked. */
static void say_nothing(ground *g, llm_request *req)
{
    const char *text = lang_nothing(g->e.report.language);
    const llm_sink sink = g->sink;

    sink.fn(sink.ctx, req, &(llm_event){ .kind = LLM_EV_START });
    for (uint32_t i = 0; i < g->choice_count; i++) {
        llm_event delta = {
            .kind = LLM_EV_DELTA, .choice = i, .text = text, .text_len = strlen(text)
        };
        llm_event end = { .kind = LLM_EV_FINISH, .choice = i, .finish = LLM_FINISH_STOP };
        llm_grounds grounds = { .collection = g->collection, .report = &g->e.report };

        sink.fn(sink.ctx, req, &delta);
        end.grounds = &grounds;
        sink.fn(sink.ctx, req, &end);
    }
    ground_destroy(g);
    sink.fn(sink.ctx, req, &(llm_event){ .kind = LLM_EV_DONE });
}

/* ---- the request ----------------------------------------------------------------------------- */

/* The last message is the question; those before it become *ret_before, the caller's. */
static sl_status take_question(const llm_request *req, char **ret_question, json_t **ret_before,
                               sl_err *err)
{
    size_t count = json_array_size(req->messages);
    const json_t *last = count ? json_array_get(req->messages, count - 1) : NULL;
    const char *role = json_string_value(json_object_get(last, "role"));
    const json_t *content = json_object_get(last, "content");
    size_t len = json_string_length(content);

    if (!role || strcmp(role, "user") != 0 || len == 0)
        return sl_fail(err, SL_EINVAL,
                       "an answer over documents needs a question: the last message must be the "
                       "user's, with a text");
    if (len > RAG_QUESTION_BYTES_MAX)
        return sl_fail(err, SL_ELIMIT, "the question has %zu bytes; %zu are allowed", len,
                       RAG_QUESTION_BYTES_MAX);
    *ret_question = sl_strndup(json_string_value(content), len);
    *ret_before = json_copy(req->messages);
    if (!*ret_question || !*ret_before || json_array_remove(*ret_before, count - 1) != 0)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    return SL_OK;
}

static sl_status prepare(ground *g, const llm_docs_query *q, const llm_backend *b, llm_request *req,
                         json_t **before, sl_err *err)
{
    rag *r = g->e.r;
    sl_status status;

    g->q = *q;
    g->q.model = req->model[0] ? req->model : NULL;
    g->q.top_k = q->top_k > 0 ? SL_MIN(q->top_k, RAG_TOP_K_MAX) : r->o.top_k;
    g->q.cancelled = &req->cancelled;
    g->collection = sl_strdup(q->collection ? q->collection : "default");
    g->q.collection = g->collection;
    g->choice_count = req->n;
    g->replies = sl_calloc(req->n, sizeof *g->replies);
    if (!g->collection || !g->replies)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    SL_TRY(take_question(req, &g->question, before, err));
    g->q.question = g->question;
    g->q.messages = *before;
    SL_TRY(evidence_find(r, &g->q, b, &g->e, err));
    if (g->e.hits.count == 0)
        return SL_OK;
    status = evidence_write(&g->e, &g->q, b, g->no_markers, req, err);
    g->q.messages = NULL; /* they go now; and what was asked of them */
    g->q.filters = NULL;
    g->q.cancelled = NULL;
    return status;
}

static sl_status submit(ground *g, llm_request *req, sl_err *err)
{
    for (size_t i = 0; i < g->choice_count; i++) {
        reply_init(&g->replies[i], &g->e, g->no_markers, deliver, g);
        g->replies[i].may_repeat = true;
    }
    return llm_chain_submit(g->e.r->o.chain, req, (llm_sink){ on_event, g }, err);
}

sl_status ground_submit(rag *r, const llm_docs_query *q, llm_request *req, const llm_sink *sink,
                        sl_err *err)
{
    const llm_backend *b = llm_chain_find(r->o.chain, req->model, LLM_CHAT);
    ground *g = sl_calloc(1, sizeof *g);
    json_t *before = NULL;
    sl_status status;

    if (!g || !b) {
        sl_free(g);
        return !b ? sl_fail(err, SL_ENOTFOUND, "The model '%s' does not exist", req->model)
                  : sl_fail(err, SL_ENOMEM, "out of memory");
    }
    g->e.r = r;
    g->sink = *sink;
    g->no_markers = q->no_citations;
    status = prepare(g, q, b, req, &before, err);
    json_decref(before);
    if (status == SL_OK && g->e.hits.count == 0) {
        say_nothing(g, req);
        return SL_OK;
    }
    if (status == SL_OK)
        status = submit(g, req, err);
    if (status != SL_OK)
        ground_destroy(g);
    return status;
}
