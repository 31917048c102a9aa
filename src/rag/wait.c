/* wait.c - runs one request to its end on behalf of a blocked caller.
 *
 * The backend's thread delivers events; the caller sleeps on a condition. Only a caller that may be
 * cancelled wakes now and then, to look at its flag. */
#include "rag/rag_int.h"

#include "base/os.h"
#include "base/thread.h"

#define CANCEL_POLL_NS 50000000 /* how late a cancel may be seen */

static void on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    rag_flight *w = ctx;

    if (ev->kind == LLM_EV_ERROR || ev->kind == LLM_EV_DONE) {
        pthread_mutex_lock(&w->lock);
        if (ev->kind == LLM_EV_ERROR) {
            w->error = ev->error;
            if (w->error.status == SL_OK)
                w->error.status = SL_EINTERNAL;
        } else {
            w->usage = ev->usage;
            w->done = true;
            pthread_cond_signal(&w->cond);
        }
        pthread_mutex_unlock(&w->lock);
    } else if (w->fn) {
        w->fn(w->ctx, req, ev);
    }
}

sl_status rag_start(const rag *r, llm_request *req, rag_flight *w, sl_err *err)
{
    sl_status status;

    w->req = req;
    w->done = false;
    w->error.status = SL_OK;
    pthread_mutex_init(&w->lock, NULL);
    sl_cond_init(&w->cond);
    status = llm_chain_submit(r->o.chain, req, (llm_sink){ on_event, w }, err);
    if (status == SL_OK)
        return SL_OK;
    llm_request_destroy(req);
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->lock);
    return status;
}

static void wait_done(rag_flight *w, atomic_bool *cancelled)
{
    pthread_mutex_lock(&w->lock);
    while (!w->done) {
        if (!cancelled) {
            pthread_cond_wait(&w->cond, &w->lock);
            continue;
        }
        if (atomic_load(cancelled))
            llm_cancel(w->req);
        (void)sl_cond_wait_until(&w->cond, &w->lock, sl_clock_mono_ns() + CANCEL_POLL_NS);
    }
    pthread_mutex_unlock(&w->lock);
}

sl_status rag_finish(rag_flight *w, atomic_bool *cancelled, llm_usage *ret_usage, sl_err *err)
{
    sl_status status = SL_OK;

    wait_done(w, cancelled);
    if (ret_usage)
        *ret_usage = w->usage;
    if (w->error.status != SL_OK)
        status = sl_fail(err, w->error.status, "%s", w->error.text);
    else if (cancelled && atomic_load(cancelled))
        status = sl_fail(err, SL_ECANCELLED, "cancelled by the caller");
    llm_request_destroy(w->req);
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->lock);
    return status;
}

sl_status rag_run(const rag *r, llm_request *req, llm_sink_fn fn, void *ctx, atomic_bool *cancelled,
                  llm_usage *ret_usage, sl_err *err)
{
    rag_flight w = { .fn = fn, .ctx = ctx };

    if (cancelled && atomic_load(cancelled)) {
        llm_request_destroy(req);
        return sl_fail(err, SL_ECANCELLED, "cancelled by the caller");
    }
    SL_TRY(rag_start(r, req, &w, err));
    return rag_finish(&w, cancelled, ret_usage, err);
}
