/* openai.c - the OpenAI handlers: body to request, request to chain, events to exchange.
 *
 * A job is one request under way. It hangs on its exchange and dies with it; the sink holds a
 * reference to the exchange until LLM_EV_DONE, so that the job outlives the client.
 *
 * Invariant: job.req is non-NULL, under job.mutex, exactly while the chain owns the request; only
 * then may it be cancelled. */
#include "api/api_int.h"

#include <stdio.h>

typedef struct job {
    api_note note; /* first: api_request_done reads it */
    api *a;
    http_exchange *x;
    openai_encoder enc;
    sl_buf out; /* bytes of the event in hand */
    bool streaming, writable;

    pthread_mutex_t mutex;
    llm_request *req;

    int64_t *last_ns; /* [choice_count] when the choice's last token came; 0: none */
    metric_series *inter_token, *ttft;
} job;

static void job_destroy(void *user)
{
    job *j = user;

    openai_encoder_deinit(&j->enc);
    sl_buf_deinit(&j->out);
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
        metric_observe(j->ttft, j->note.ttft_ms / 1e3);
    }
    if (*last)
        metric_observe(j->inter_token, (double)(now_ns - *last) / 1e9);
    *last = now_ns;
}

static void settle(job *j, const llm_usage *u)
{
    const api_metrics *m = &j->a->m;
    const char *model = j->note.model;

    j->note.prompt_tokens = u->prompt_tokens;
    j->note.output_tokens = u->output_tokens;
    metric_add(metric_with1(m->prompt_tokens, model), (double)u->prompt_tokens);
    metric_add(metric_with1(m->cached_tokens, model), (double)u->cached_tokens);
    metric_add(metric_with1(m->output_tokens, model), (double)u->output_tokens);
    metric_observe(metric_with1(m->queue_wait, model), (double)u->queue_ns / 1e9);
    metric_observe(metric_with1(m->e2e, model),
                   (double)(sl_clock_mono_ns() - http_started_ns(j->x)) / 1e9);
}

/* The stream begins with the first bytes, so that an error before them is a plain HTTP error. */
static void write_out(job *j, llm_request *req)
{
    if (j->out.len == 0)
        return;
    if (!j->streaming) {
        j->streaming = true;
        http_stream_begin(j->x, 200, "text/event-stream; charset=utf-8");
    }
    if (j->writable && (j->out.failed || !http_stream_write(j->x, j->out.ptr, j->out.len))) {
        j->writable = false;
        llm_cancel(req);
    }
    sl_buf_clear(&j->out);
}

static void finish_answer(job *j, llm_request *req)
{
    if (j->enc.stream && j->enc.started) {
        write_out(j, req);
        http_stream_end(j->x);
    } else if (j->enc.failed) {
        api_respond_error(j->a, j->x, &j->enc.error);
    } else if (j->out.failed) {
        http_respond_error(j->x, 500, "server_error", NULL, NULL, "The answer is too large");
    } else {
        http_respond(j->x, 200, "application/json", sl_buf_str(&j->out), j->out.len);
    }
}

static void count_finish(job *j, const llm_event *ev)
{
    static const char *const reasons[LLM_FINISH_COUNT] = { "none", "stop", "length", "abort" };

    metric_add(metric_with2(j->a->m.finished, j->note.model, reasons[ev->finish]), 1);
}

static void on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    job *j = ctx;

    openai_encode(&j->enc, ev, &j->out);
    if (ev->kind == LLM_EV_DELTA)
        count_token(j, ev);
    if (ev->kind == LLM_EV_FINISH)
        count_finish(j, ev);
    if (ev->kind != LLM_EV_DONE) {
        if (j->enc.stream)
            write_out(j, req);
        return;
    }
    settle(j, &ev->usage);
    if (j->enc.failed)
        j->note.error_code = j->enc.error.code ? j->enc.error.code : j->enc.error.type;
    pthread_mutex_lock(&j->mutex);
    j->req = NULL;
    pthread_mutex_unlock(&j->mutex);
    finish_answer(j, req);
    llm_request_destroy(req);
    http_unref(j->x); /* may end j */
}

/* ---- handlers ------------------------------------------------------------------------------ */

/* The name that answers carry: what the caller said, or the name of the default model. */
static const char *resolve_model(const api *a, const llm_request *req, llm_model_info *ret_info)
{
    const llm_backend *b = llm_chain_find(a->options.chain, req->model, req->task);

    *ret_info = (llm_model_info){ 0 };
    if (b)
        b->ops->info(b->ctx, ret_info);
    return req->model && req->model[0] ? req->model : ret_info->name;
}

static job *job_create(api *a, http_exchange *x, const openai_call *call, const char *model)
{
    job *j = sl_calloc(1, sizeof *j);

    if (!j)
        return NULL;
    j->a = a;
    j->x = x;
    j->req = call->req;
    j->writable = true;
    j->note.ttft_ms = -1;
    snprintf(j->note.model, sizeof j->note.model, "%s", model);
    api_user_of(a, x, j->note.user);
    call->req->user = sl_arena_strndup(&call->req->arena, j->note.user, strlen(j->note.user));
    sl_buf_init(&j->out, OPENAI_ANSWER_MAX);
    pthread_mutex_init(&j->mutex, NULL);
    j->ttft = metric_with1(a->m.ttft, model);
    j->inter_token = metric_with1(a->m.inter_token, model);
    if (openai_encoder_init(&j->enc, call, model, sl_clock_wall_ms() / 1000) != SL_OK ||
        !(j->last_ns = sl_calloc(j->enc.choice_count, sizeof *j->last_ns))) {
        job_destroy(j);
        return NULL;
    }
    return j;
}

/* Hands the request to the chain; on failure answers and ends it. */
static void submit(api *a, http_exchange *x, job *j, llm_request *req)
{
    sl_err err = { .status = SL_EINTERNAL };
    llm_task task = req->task;
    sl_status status;

    http_ref(x); /* the sink's */
    status = llm_chain_submit(a->options.chain, req, (llm_sink){ on_event, j }, &err);
    if (status == SL_OK) {
        http_on_close(x, on_close, j);
        return;
    }
    err.status = status;
    pthread_mutex_lock(&j->mutex);
    j->req = NULL;
    pthread_mutex_unlock(&j->mutex);
    llm_request_destroy(req);
    j->enc.failed = true;
    openai_error_from(&err, task, &j->enc.error);
    j->note.error_code = j->enc.error.code ? j->enc.error.code : j->enc.error.type;
    api_respond_error(a, x, &j->enc.error);
    http_unref(x);
}

static bool check_model(const openai_call *call, const llm_model_info *info, openai_error *e)
{
    if (call->dimensions > 0 && info->embedding_dim > 0 && call->dimensions > info->embedding_dim) {
        openai_refuse(e, "dimensions", "invalid_value",
                      "Invalid 'dimensions': the model makes vectors of %lld values",
                      (long long)info->embedding_dim);
        return false;
    }
    return true;
}

static void handle(api *a, http_exchange *x, llm_task task)
{
    sl_span body = http_body(x);
    openai_error error = { 0 };
    openai_call call;
    llm_model_info info;
    const char *model;
    job *j;

    if (openai_parse(task, (const char *)body.ptr, body.len, &call, &error) != SL_OK) {
        api_respond_error(a, x, &error);
        return;
    }
    model = resolve_model(a, call.req, &info);
    if (!check_model(&call, &info, &error)) {
        llm_request_destroy(call.req);
        api_respond_error(a, x, &error);
        return;
    }
    j = info.name[0] ? job_create(a, x, &call, model) : job_create(a, x, &call, "unknown");
    if (!j) {
        llm_request_destroy(call.req);
        http_respond_error(x, 503, "server_error", NULL, "engine_overloaded", "Out of memory");
        return;
    }
    snprintf(call.req->id, sizeof call.req->id, "%s", http_request_id(x));
    call.req->created_ns = http_started_ns(x);
    http_set_user(x, j, job_destroy);
    submit(a, x, j, call.req);
}

void openai_chat(api *a, http_exchange *x)
{
    handle(a, x, LLM_CHAT);
}

void openai_completions(api *a, http_exchange *x)
{
    handle(a, x, LLM_COMPLETE);
}

void openai_embeddings(api *a, http_exchange *x)
{
    handle(a, x, LLM_EMBED);
}
