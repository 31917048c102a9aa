/* line.c - one line of a batch: the same parser, chain and encoder as its HTTP route, without HTTP.
 *
 * Invariant: job.req is non-NULL, under job.mutex, exactly while the chain owns the request; only
 * then may it be cancelled. A job has two owners, whoever asked and the chain. */
#include <stdio.h>

#include "api/api_int.h"
#include "api/responses.h"

typedef struct line_job {
    atomic_int refs;
    encoder *enc; /* NULL: it was refused before */
    sl_buf out;
    api *front; /* whose metrics count it, or NULL */
    llm_line_fn fn;
    void *ctx;
    llm_line_answer answer;
    char request_id[48];
    sl_status error;

    pthread_mutex_t mutex;
    llm_request *req;
} line_job;

static const struct line_route {
    const char *url;
    const char *route; /* as the ledger names it */
    llm_task task;
    uint32_t permission;
    bool is_response;
} line_routes[] = {
    { "/v1/chat/completions", "batch:/v1/chat/completions", LLM_CHAT, LLM_MAY_GENERATE, false },
    { "/v1/completions", "batch:/v1/completions", LLM_COMPLETE, LLM_MAY_GENERATE, false },
    { "/v1/embeddings", "batch:/v1/embeddings", LLM_EMBED, LLM_MAY_EMBED, false },
    { "/v1/responses", "batch:/v1/responses", LLM_CHAT, LLM_MAY_GENERATE, true },
};

static const struct line_route *find_route(const char *url)
{
    for (size_t i = 0; i < SL_COUNT_OF(line_routes); i++)
        if (strcmp(line_routes[i].url, url) == 0)
            return &line_routes[i];
    return NULL;
}

static sl_status line_check(void *ctx, const char *url, const char *model, const llm_caller *caller,
                            sl_err *err)
{
    const api_lines *lines = ctx;
    const struct line_route *r = find_route(url);
    const llm_backend *b;
    llm_model_info info;

    if (!r)
        return sl_fail(err, SL_EINVAL,
                       "Invalid 'endpoint': expected /v1/chat/completions, /v1/completions, "
                       "/v1/embeddings or /v1/responses");
    if (!llm_caller_may(caller, r->permission))
        return sl_fail(err, SL_EFORBIDDEN, "This key lacks the permission '%s', which %s needs",
                       llm_permission_name(__builtin_ctz(r->permission)), url);
    if (!model)
        return SL_OK;
    b = llm_chain_find(lines->chain, model, r->task);
    if (!b)
        return sl_fail(err, SL_ENOTFOUND, "The model '%.100s' does not exist", model);
    b->ops->info(b->ctx, &info);
    if (r->task == LLM_EMBED ? !info.can_embed : !info.can_generate)
        return sl_fail(err, SL_EINVAL, "The model '%.100s' cannot %s", model,
                       r->task == LLM_EMBED ? "make embeddings" : "generate text");
    return SL_OK;
}

static void job_unref(line_job *j)
{
    if (atomic_fetch_sub(&j->refs, 1) != 1)
        return;
    if (j->enc)
        j->enc->ops->destroy(j->enc);
    sl_buf_deinit(&j->out);
    pthread_mutex_destroy(&j->mutex);
    sl_free(j);
}

/* ---- the answer ----------------------------------------------------------------------------- */

static void tell(line_job *j)
{
    j->answer.request_id = j->request_id;
    j->answer.body = sl_span_of(sl_buf_str(&j->out), j->out.len);
    j->fn(j->ctx, &j->answer);
    job_unref(j); /* the chain's, or that of who would have been it */
}

static void tell_error(line_job *j, const openai_error *e)
{
    j->answer.status = e->http;
    sl_buf_clear(&j->out);
    openai_put_error(&j->out, e);
    tell(j);
}

/* As answer.c counts requests. Lines that run again are counted each time they ran. */
static void count(const line_job *j, const llm_request *req, const llm_usage *u)
{
    bool is_refused = j->enc->failed && !j->enc->started;
    api_outcome outcome = is_refused                     ? API_OUTCOME_REFUSED
                          : j->enc->failed               ? API_OUTCOME_FAILED
                          : atomic_load(&req->cancelled) ? API_OUTCOME_CANCELLED
                                                         : API_OUTCOME_OK;

    api_count_line(j->front, req->model, req->route, outcome, is_refused ? NULL : u);
}

static void on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    static const openai_error too_large = { .http = 500,
                                            .type = "server_error",
                                            .message = "The answer is too large" };
    line_job *j = ctx;

    j->enc->ops->encode(j->enc, ev, &j->out);
    if (ev->kind == LLM_EV_ERROR)
        j->error = ev->error.status;
    if (ev->kind == LLM_EV_FINISH && ev->finish == LLM_FINISH_CANCELLED)
        j->answer.is_cancelled = true;
    if (ev->kind == LLM_EV_FINISH)
        api_count_finish(j->front, req->model, ev->finish);
    if (ev->kind != LLM_EV_DONE)
        return;
    count(j, req, &ev->usage);
    pthread_mutex_lock(&j->mutex);
    j->req = NULL;
    pthread_mutex_unlock(&j->mutex);
    llm_request_destroy(req);
    j->answer.prompt_tokens = ev->usage.prompt_tokens;
    j->answer.cached_tokens = ev->usage.cached_tokens;
    j->answer.output_tokens = ev->usage.output_tokens;
    j->answer.is_cancelled = j->answer.is_cancelled || j->error == SL_ECANCELLED;
    j->answer.again = j->error == SL_EBUSY && !j->enc->started;
    j->answer.status = 200;
    if (j->enc->failed || j->out.failed)
        tell_error(j, j->enc->failed ? &j->enc->error : &too_large);
    else
        tell(j);
}

/* ---- the question --------------------------------------------------------------------------- */

/* Hands the request to the chain, or tells why not. */
static void submit(llm_chain *chain, line_job *j, llm_request *req)
{
    sl_err err = { .status = SL_EINTERNAL };
    llm_task task = req->task;
    llm_model_info info;
    openai_error e;

    err.status = llm_chain_submit(chain, req, (llm_sink){ on_event, j }, &err);
    if (err.status == SL_OK)
        return;
    pthread_mutex_lock(&j->mutex);
    j->req = NULL;
    pthread_mutex_unlock(&j->mutex);
    openai_error_from(&err, task, &e);
    openai_error_quota(&e, err.status, &req->quota);
    /* A budget that is spent does not come back by waiting. */
    j->answer.again =
        err.status == SL_EBUSY || (err.status == SL_ERATE && req->quota.retry_after_ms > 0 &&
                                   req->quota.what && strcmp(req->quota.what, "budget") != 0);
    j->answer.again_ms = req->quota.retry_after_ms;
    if (!j->answer.again)
        api_count_line(j->front, chain_model(chain, req, &info), req->route, API_OUTCOME_REFUSED,
                       NULL);
    llm_request_destroy(req);
    tell_error(j, &e);
}

/* The encoder of a parsed line. A call that is not kept goes with its request. */
static sl_status take_call(line_job *j, openai_call *call, encoder *enc, openai_error *e)
{
    if (call->stream) {
        if (enc)
            enc->ops->destroy(enc);
        return openai_refuse(e, "stream", "unsupported_value",
                             "Invalid 'stream': the lines of a batch are not streamed");
    }
    if (!enc) {
        openai_error_from(&(sl_err){ .status = SL_ENOMEM }, LLM_CHAT, e);
        return SL_ENOMEM;
    }
    j->enc = enc;
    return SL_OK;
}

static sl_status parse_response(const api_lines *lines, const llm_line *line, line_job *j,
                                llm_request **ret, openai_error *e)
{
    const char *owner = line->caller ? line->caller->id : "", *model = NULL;
    responses_call call;
    sl_status status;

    SL_TRY(responses_parse((const char *)line->body.ptr, line->body.len, &call, e));
    status = responses_prepare(lines->chain, &lines->responses, owner, &call, &model, e);
    if (status == SL_OK)
        status = take_call(j, &call.base,
                           responses_encoder_create(&call, model, sl_clock_wall_ms() / 1000,
                                                    lines->responses, owner),
                           e);
    if (status == SL_OK) {
        *ret = call.base.req;
        call.base.req = NULL;
    }
    responses_call_deinit(&call);
    return status;
}

static sl_status parse(const api_lines *lines, const llm_line *line, const struct line_route *r,
                       line_job *j, llm_request **ret, openai_error *e)
{
    const char *model = NULL;
    openai_call call;
    sl_status status;

    if (r->is_response)
        return parse_response(lines, line, j, ret, e);
    SL_TRY(openai_prepare(lines->chain, line->caller, r->task, line->body, &call, &model, e));
    status = take_call(j, &call, openai_encoder_create(&call, model, sl_clock_wall_ms() / 1000), e);
    if (status == SL_OK)
        *ret = call.req;
    else
        llm_request_destroy(call.req);
    return status;
}

/* Finding passages blocks, and a batch has no thread for that. */
static sl_status check_documents(llm_chain *chain, llm_request *req, openai_error *e)
{
    const llm_route *route = llm_chain_route(chain, req->model);

    if (!req->docs && !(route && route->collection[0] && req->task != LLM_EMBED))
        return SL_OK;
    llm_request_destroy(req);
    return openai_refuse(e, "rag", "unsupported_value",
                         "The lines of a batch are not answered over documents");
}

static void *line_run(void *ctx, const llm_line *line, llm_line_fn fn, void *fn_ctx)
{
    const api_lines *lines = ctx;
    const struct line_route *r = find_route(line->url);
    line_job *j = sl_calloc(1, sizeof *j);
    llm_request *req = NULL;
    openai_error e = { 0 };
    sl_err err = { 0 };

    if (!j) {
        fn(fn_ctx, &(llm_line_answer){ .status = 503, .request_id = "", .again = true });
        return NULL;
    }
    atomic_init(&j->refs, 2);
    pthread_mutex_init(&j->mutex, NULL);
    sl_buf_init(&j->out, OPENAI_ANSWER_MAX);
    j->fn = fn;
    j->ctx = fn_ctx;
    j->front = lines->front;
    if (!r) {
        (void)line_check(ctx, line->url, NULL, NULL, &err);
        openai_refuse(&e, "url", "invalid_value", "%s", err.text);
    } else if (parse(lines, line, r, j, &req, &e) == SL_OK &&
               check_documents(lines->chain, req, &e) == SL_OK) {
        req->caller = llm_caller_ref(line->caller);
        req->priority = line->priority;
        req->route = r->route;
        snprintf(j->request_id, sizeof j->request_id, "%s", req->id);
        j->req = req;
        submit(lines->chain, j, req);
        return j;
    }
    tell_error(j, &e);
    return j;
}

static void line_cancel(void *handle)
{
    line_job *j = handle;

    pthread_mutex_lock(&j->mutex);
    if (j->req)
        llm_cancel(j->req);
    pthread_mutex_unlock(&j->mutex);
}

static void line_release(void *handle)
{
    if (handle)
        job_unref(handle);
}

llm_line_runner api_line_runner(api_lines *lines)
{
    static const llm_line_ops ops = { line_check, line_run, line_cancel, line_release };

    return (llm_line_runner){ &ops, lines };
}
