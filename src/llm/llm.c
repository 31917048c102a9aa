/* llm.c - request lifetime and the walk through the chain. */
#include "llm/llm.h"

#include <stdio.h>

#include "base/os.h"

llm_sampling llm_sampling_default(void)
{
    return (llm_sampling){
        .temperature = 1.0f,
        .top_p = 1.0f,
        .typical_p = 1.0f,
        .repetition_penalty = 1.0f,
        .penalty_last_n = -1,
    };
}

llm_request *llm_request_create(llm_task task, size_t arena_bytes_max)
{
    llm_request *req = sl_calloc(1, sizeof *req);
    unsigned char raw[12];
    int len;

    if (!req)
        return NULL;
    sl_arena_init(&req->arena, arena_bytes_max);
    req->task = task;
    req->model = "";
    req->route = "";
    req->n = 1;
    req->max_tokens = -1;
    req->sampling = llm_sampling_default();
    req->created_ns = sl_clock_mono_ns();
    sl_random_bytes(raw, sizeof raw);
    len = snprintf(req->id, sizeof req->id, "req_");
    for (size_t i = 0; i < sizeof raw; i++)
        len += snprintf(req->id + len, sizeof req->id - (size_t)len, "%02x", raw[i]);
    return req;
}

void llm_request_destroy(llm_request *req)
{
    if (!req)
        return;
    llm_caller_unref(req->caller);
    json_decref(req->messages);
    json_decref(req->tools);
    json_decref(req->template_vars);
    sl_arena_deinit(&req->arena);
    sl_free(req);
}

void llm_cancel(llm_request *req)
{
    atomic_store_explicit(&req->cancelled, true, memory_order_relaxed);
}

const char *llm_tenant(const llm_request *req)
{
    if (req->tenant)
        return req->tenant;
    return req->caller ? req->caller->id : "";
}

static bool can_do(const llm_backend *b, llm_task task)
{
    llm_model_info info;

    b->ops->info(b->ctx, &info);
    return task == LLM_EMBED ? info.can_embed : info.can_generate;
}

const llm_backend *llm_chain_find(const llm_chain *chain, const char *model, llm_task task)
{
    for (size_t i = 0; i < chain->route_count; i++) {
        const llm_route *r = &chain->routes[i];

        if (model && model[0] ? strcmp(r->name, model) == 0 : can_do(&r->backend, task))
            return &r->backend;
    }
    return NULL;
}

const char *llm_chain_name(const llm_chain *chain, const llm_backend *b)
{
    for (size_t i = 0; i < chain->route_count; i++)
        if (chain->routes[i].backend.ctx == b->ctx && !chain->routes[i].is_alias)
            return chain->routes[i].name;
    return "";
}

/* Tells the stages before `end` that a request they admitted goes no further. */
static void refuse_admitted(llm_chain *chain, llm_request *req, size_t end, const sl_err *err)
{
    for (size_t i = end; i-- > 0;)
        if (chain->stages[i].ops->on_refused)
            chain->stages[i].ops->on_refused(chain->stages[i].ctx, req, err);
}

sl_status llm_admit(llm_request *req, const llm_demand *demand, sl_err *err)
{
    llm_chain *chain = req->chain;
    sl_err local = { .status = SL_EFORBIDDEN };

    for (size_t i = 0; chain && i < chain->stage_count; i++) {
        const llm_stage *s = &chain->stages[i];

        if (!s->ops->on_admit || s->ops->on_admit(s->ctx, req, demand, &local) == LLM_PASS)
            continue;
        refuse_admitted(chain, req, i, &local);
        return sl_fail(err, local.status, "%s", local.text);
    }
    req->admitted = true;
    return SL_OK;
}

/* What stands between the backend and the caller's sink while a request runs. */
typedef struct chain_run {
    llm_chain *chain;
    llm_sink sink;
} chain_run;

static void chain_on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    chain_run *run = ctx;
    const llm_chain *chain = run->chain;

    for (size_t i = chain->stage_count; i-- > 0;) {
        const llm_stage *s = &chain->stages[i];

        if (s->ops->on_event && s->ops->on_event(s->ctx, req, ev) == LLM_REFUSE)
            return;
    }
    if (ev->kind == LLM_EV_DONE) {
        for (size_t i = chain->stage_count; i-- > 0;)
            if (chain->stages[i].ops->on_done)
                chain->stages[i].ops->on_done(chain->stages[i].ctx, req, &ev->usage);
    }
    run->sink.fn(run->sink.ctx, req, ev); /* after DONE the sink may have destroyed req and run */
}

sl_status llm_chain_submit(llm_chain *chain, llm_request *req, llm_sink sink, sl_err *err)
{
    const llm_backend *b = llm_chain_find(chain, req->model, req->task);
    chain_run *run = sl_arena_alloc(&req->arena, sizeof *run);
    sl_err local = { .status = SL_OK };
    sl_status status;

    if (!b)
        return sl_fail(err, SL_ENOTFOUND,
                       "The model '%s' does not exist; GET /v1/models lists the models that do",
                       req->model ? req->model : "");
    if (!can_do(b, req->task))
        return sl_fail(err, SL_EINVAL, "The model '%s' cannot %s", req->model ? req->model : "",
                       req->task == LLM_EMBED ? "make embeddings" : "generate text");
    if (!llm_caller_may_use(req->caller, llm_chain_name(chain, b)))
        return sl_fail(err, SL_EFORBIDDEN, "This key may not use the model '%s'",
                       llm_chain_name(chain, b));
    if (!run)
        return sl_fail(err, SL_ENOMEM, "request too large");
    *run = (chain_run){ chain, sink };
    req->chain = chain;
    if (!req->model[0])
        req->model = llm_chain_name(chain, b);
    for (size_t i = 0; i < chain->stage_count; i++) {
        const llm_stage *s = &chain->stages[i];

        if (s->ops->on_request && s->ops->on_request(s->ctx, req, err) != LLM_PASS)
            return err ? err->status : SL_EFORBIDDEN;
    }
    status = b->ops->submit(b->ctx, req, (llm_sink){ chain_on_event, run }, &local);
    if (status == SL_OK)
        return SL_OK;
    if (req->admitted)
        refuse_admitted(chain, req, chain->stage_count, &local);
    return sl_fail(err, status, "%s", local.text);
}
