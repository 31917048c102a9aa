/* answer.c - one request under way, whatever its dialect: request to chain, events to exchange. A
 * chat over documents goes by the worker pool, since finding passages blocks.
 *
 * A job hangs on its exchange and dies with it; the sink holds a reference to the exchange until
 * LLM_EV_DONE, so that the job outlives the client.
 *
 * Invariant: job.req is non-NULL, under job.mutex, exactly while the chain owns the request; only
 * then may it be cancelled. */
#include "api/api_int.h"

#include <stdio.h>

typedef struct job {
    api_note note; /* first: api_request_done reads it */
    api *a;
    http_exchange *x;
    encoder *enc;
    sl_buf out; /* bytes of the event in hand */
    bool streaming, writable;
    sl_status status; /* of the failure, when there was one */

    pthread_mutex_t mutex;
    llm_request *req;

    llm_docs_ask ask; /* collection NULL: not over documents */

    int64_t *last_ns; /* [choice_count] when the choice's last token came; 0: none */
    const api_meter *meter;
} job;

static void job_destroy(void *user)
{
    job *j = user;

    atomic_fetch_sub(&j->a->load, 1);
    j->enc->ops->destroy(j->enc);
    sl_buf_deinit(&j->out);
    api_content_destroy(j->note.content);
    sl_free(j->last_ns);
    pthread_mutex_destroy(&j->mutex);
    sl_free(j);
}

static void on_close(void *ctx)
{
    job *j = ctx;

    pthread_mutex_lock(&j->mutex);
    if (j->req)
        llm_cancel(j->req);
    pthread_mutex_unlock(&j->mutex);
}

/* ---- events -------------------------------------------------------------------------------- */

static void count_token(job *j, const llm_event *ev)
{
    int64_t now_ns = sl_clock_mono_ns();
    int64_t *last = &j->last_ns[ev->choice];

    if (ev->token_count > 0 && ev->tokens && ev->tokens[0].is_prompt)
        return;
    if (j->note.ttft_ms < 0) {
        j->note.ttft_ms = (double)(now_ns - http_started_ns(j->x)) / 1e6;
        api_meter_first_token(j->meter, j->note.ttft_ms / 1e3);
    }
    if (*last)
        api_meter_inter_token(j->meter, (double)(now_ns - *last) / 1e9);
    *last = now_ns;
}

static void settle(job *j, const llm_request *req, const llm_usage *u)
{
    bool is_refused = j->enc->failed && !j->enc->started; /* after it waited in a backend */
    api_outcome outcome = is_refused                     ? API_OUTCOME_REFUSED
                          : j->enc->failed               ? API_OUTCOME_FAILED
                          : atomic_load(&req->cancelled) ? API_OUTCOME_CANCELLED
                                                         : API_OUTCOME_OK;

    j->note.prompt_tokens = u->prompt_tokens;
    j->note.output_tokens = u->output_tokens;
    api_meter_done(j->meter, outcome, is_refused ? NULL : u, j->enc->choice_count,
                   (double)(sl_clock_mono_ns() - http_started_ns(j->x)) / 1e9);
}

static void put_header(void *ctx, const char *name, const char *value)
{
    http_set_header(ctx, name, value);
}

static void put_quota(http_exchange *x, const api_dialect *d, const llm_quota *q)
{
    (d->put_quota ? d->put_quota : openai_put_quota)(q, put_header, x);
}

static void put_headers(const job *j, const llm_request *req)
{
    put_quota(j->x, j->enc->ops->dialect, &req->quota);
    if (j->enc->ops->headers)
        j->enc->ops->headers(j->enc, put_header, j->x);
}

/* The stream begins with the first bytes, so that an error before them is a plain HTTP error. */
static void write_out(job *j, llm_request *req)
{
    if (j->out.len == 0)
        return;
    if (!j->streaming) {
        const char *type = j->enc->ops->stream_type;

        j->streaming = true;
        put_headers(j, req);
        http_stream_begin(j->x, 200, type ? type : "text/event-stream; charset=utf-8");
    }
    if (j->writable && (j->out.failed || !http_stream_write(j->x, j->out.ptr, j->out.len))) {
        j->writable = false;
        llm_cancel(req);
    }
    sl_buf_clear(&j->out);
}

/* A request that failed before its answer began: refused at once, or after it waited in a backend.
 */
static void respond_failed(job *j, const llm_request *req)
{
    const llm_quota *q = &req->quota;

    openai_error_quota(&j->enc->error, j->status, q);
    put_quota(j->x, j->enc->ops->dialect, q);
    if (q->what && q->retry_after_ms == 0)
        http_set_header(j->x, "x-should-retry", "false"); /* clients would wait in vain */
    api_respond_error_as(j->a, j->x, &j->enc->error, j->enc->ops->dialect);
}

static void finish_answer(job *j, llm_request *req)
{
    static const openai_error too_large = { .http = 500,
                                            .type = "server_error",
                                            .message = "The answer is too large" };

    if (j->enc->stream && j->enc->started) {
        write_out(j, req);
        http_stream_end(j->x);
    } else if (j->enc->failed) {
        respond_failed(j, req);
    } else if (j->out.failed) {
        api_respond_error_as(j->a, j->x, &too_large, j->enc->ops->dialect);
    } else {
        put_headers(j, req);
        http_respond_buf(j->x, 200, "application/json", &j->out);
    }
}

static void on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    job *j = ctx;

    j->enc->ops->encode(j->enc, ev, &j->out);
    if (ev->kind == LLM_EV_DELTA)
        count_token(j, ev);
    if (ev->kind == LLM_EV_DELTA && ev->choice == 0)
        api_content_answer(j->note.content, ev->text, ev->text_len);
    if (ev->kind == LLM_EV_FINISH)
        api_count_finish(j->a, j->note.model, ev->finish);
    if (ev->kind == LLM_EV_FINISH && ev->grounds)
        api_count_grounds(j->a, j->note.model, ev->grounds->report);
    if (ev->kind == LLM_EV_ERROR)
        j->status = ev->error.status;
    if (ev->kind != LLM_EV_DONE) {
        if (j->enc->stream)
            write_out(j, req);
        return;
    }
    settle(j, req, &ev->usage);
    if (j->enc->failed)
        j->note.error_code = j->enc->error.code ? j->enc->error.code : j->enc->error.type;
    pthread_mutex_lock(&j->mutex);
    j->req = NULL;
    pthread_mutex_unlock(&j->mutex);
    finish_answer(j, req);
    llm_request_destroy(req);
    http_unref(j->x); /* may end j */
}

/* ---- start --------------------------------------------------------------------------------- */

const char *answer_model(const api *a, const llm_request *req, llm_model_info *ret_info)
{
    return chain_model(a->options.chain, req, ret_info);
}

const char *chain_model(const llm_chain *chain, const llm_request *req, llm_model_info *ret_info)
{
    const llm_backend *b = llm_chain_find(chain, req->model, req->task);

    *ret_info = (llm_model_info){ 0 };
    if (!b)
        return "unknown"; /* labels of metrics must not come from callers */
    b->ops->info(b->ctx, ret_info);
    return req->model[0] ? req->model : llm_chain_name(chain, b);
}

/* The model's name for log and metrics, as the ledger has it: without the tag that says nothing. */
static const char *model_label(const api *a, const llm_request *req, const char *model)
{
    const llm_route *r = llm_chain_route(a->options.chain, req->model);

    return r && llm_chain_find(a->options.chain, req->model, req->task) ? r->name : model;
}

/* Takes enc on success. */
static job *job_create(api *a, http_exchange *x, llm_request *req, encoder *enc, const char *model)
{
    job *j = sl_calloc(1, sizeof *j);

    if (!j)
        return NULL;
    j->last_ns = sl_calloc(enc->choice_count, sizeof *j->last_ns);
    if (!j->last_ns) {
        sl_free(j);
        return NULL;
    }
    j->a = a;
    j->x = x;
    j->req = req;
    j->enc = enc;
    j->writable = true;
    atomic_fetch_add(&a->load, 1);
    j->note.ttft_ms = -1;
    model = model_label(a, req, model);
    snprintf(j->note.model, sizeof j->note.model, "%s", model);
    req->caller = llm_caller_ref(api_caller(x));
    sl_buf_init(&j->out, OPENAI_ANSWER_MAX);
    pthread_mutex_init(&j->mutex, NULL);
    j->meter = api_meter_of(a, model, http_route(x));
    api_meter_begin(j->meter, req);
    j->note.content = api_content_create(a->options.log_content);
    api_content_ask(j->note.content, req);
    return j;
}

/* The request goes no further: answers with the reason and ends it. */
static void refuse(job *j, llm_request *req, const sl_err *err)
{
    pthread_mutex_lock(&j->mutex);
    j->req = NULL;
    pthread_mutex_unlock(&j->mutex);
    j->enc->failed = true;
    j->status = err->status;
    api_meter_done(j->meter, API_OUTCOME_REFUSED, NULL, 0, 0);
    openai_error_from(err, req->task, &j->enc->error);
    if (err->status == SL_ENOTFOUND && j->ask.collection &&
        llm_chain_find(j->a->options.chain, req->model, req->task))
        snprintf(j->enc->error.param, sizeof j->enc->error.param, "rag.collection");
    respond_failed(j, req);
    j->note.error_code = j->enc->error.code ? j->enc->error.code : j->enc->error.type;
    llm_request_destroy(req);
}

/* Hands the request to the chain; on failure answers and ends it. */
static void submit(api *a, http_exchange *x, job *j, llm_request *req)
{
    sl_err err = { .status = SL_EINTERNAL };

    http_ref(x); /* the sink's */
    err.status = llm_chain_submit(a->options.chain, req, (llm_sink){ on_event, j }, &err);
    if (err.status == SL_OK) {
        http_on_close(x, on_close, j);
        return;
    }
    refuse(j, req, &err);
    http_unref(x);
}

/* ---- over documents -------------------------------------------------------------------------- */

/* What the request or its model's name says about documents; collection NULL: nothing. */
static llm_docs_ask ask_of(const api *a, const llm_request *req)
{
    const llm_route *r = llm_chain_route(a->options.chain, req->model);

    if (req->docs)
        return *req->docs;
    if (r && r->collection[0] && !req->load_only && !req->no_generation_prompt &&
        req->task != LLM_EMBED)
        return (llm_docs_ask){ .collection = r->collection };
    return (llm_docs_ask){ 0 };
}

static sl_status check_ask(const api *a, const llm_request *req, sl_err *err)
{
    if (!a->options.docs.ops || !a->options.docs.ops->submit)
        return sl_fail(err, SL_ENOTSUP, "This server runs without a document service");
    if (req->task != LLM_CHAT)
        return sl_fail(err, SL_EINVAL,
                       "The model '%.100s' answers over documents, in chats: use a chat route",
                       req->model);
    if (!llm_caller_may(req->caller, LLM_MAY_DOCS_READ))
        return sl_fail(err, SL_EFORBIDDEN,
                       "This key lacks the permission '%s', which an answer over documents needs",
                       llm_permission_name(__builtin_ctz(LLM_MAY_DOCS_READ)));
    return SL_OK;
}

/* On a thread of the pool. */
static void submit_grounded(api *a, http_exchange *x)
{
    const llm_docs *docs = &a->options.docs;
    job *j = http_user(x);
    llm_request *req = j->req;
    llm_sink sink = { on_event, j };
    sl_err err = { .status = SL_EINTERNAL };
    llm_docs_query q = { .collection = j->ask.collection,
                         .top_k = j->ask.top_k,
                         .filters = j->ask.filters,
                         .mode = j->ask.mode,
                         .rewrite = !j->ask.no_rewrite,
                         .no_citations = j->ask.no_citations,
                         .caller = req->caller,
                         .request_id = req->id,
                         .route = req->route,
                         .trace = req->trace };

    http_ref(x); /* the sink's */
    http_on_close(x, on_close, j);
    err.status = docs->ops->submit(docs->ctx, &q, req, &sink, &err);
    if (err.status == SL_OK)
        return;
    refuse(j, req, &err);
    http_unref(x);
}

static void begin_grounded(api *a, http_exchange *x, job *j, llm_request *req)
{
    sl_err err = { .status = SL_OK };

    err.status = check_ask(a, req, &err);
    if (err.status == SL_OK && !api_pool_push(a->pool, submit_grounded, x))
        err.status = sl_fail(&err, SL_EBUSY, "Too many requests of this kind; try again");
    if (err.status != SL_OK)
        refuse(j, req, &err);
}

void answer_begin(api *a, http_exchange *x, llm_request *req, encoder *enc, const char *model)
{
    job *j = enc ? job_create(a, x, req, enc, model) : NULL;

    if (!j) {
        if (enc)
            enc->ops->destroy(enc);
        llm_request_destroy(req);
        http_respond_error(x, 503, "server_error", NULL, "engine_overloaded", "Out of memory");
        return;
    }
    snprintf(req->id, sizeof req->id, "%s", http_request_id(x));
    req->created_ns = http_started_ns(x);
    req->route = http_route(x);
    req->trace = *api_trace(x);
    http_set_user(x, j, job_destroy);
    j->ask = ask_of(a, req);
    if (j->ask.collection)
        begin_grounded(a, x, j, req);
    else
        submit(a, x, j, req);
}
