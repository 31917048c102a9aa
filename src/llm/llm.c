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

    if (!req)
        return NULL;
    sl_arena_init(&req->arena, arena_bytes_max);
    req->task = task;
    req->model = "";
    req->route = "";
    req->n = 1;
    req->max_tokens = -1;
    req->sampling = req->dialect = llm_sampling_default();
    req->keep_alive_ns = LLM_KEEP_DEFAULT;
    req->created_ns = sl_clock_mono_ns();
    sl_random_id(req->id, sizeof req->id, "req_", 12);
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
    if (req->docs)
        json_decref(req->docs->filters);
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

uint32_t llm_given_at(size_t offset)
{
    static const struct {
        size_t at;
        uint32_t flag;
    } table[] = {
        { offsetof(llm_request, sampling.temperature), LLM_GIVEN_TEMPERATURE },
        { offsetof(llm_request, sampling.top_k), LLM_GIVEN_TOP_K },
        { offsetof(llm_request, sampling.top_p), LLM_GIVEN_TOP_P },
        { offsetof(llm_request, sampling.min_p), LLM_GIVEN_MIN_P },
        { offsetof(llm_request, sampling.typical_p), LLM_GIVEN_TYPICAL_P },
        { offsetof(llm_request, sampling.repetition_penalty), LLM_GIVEN_REPETITION },
        { offsetof(llm_request, sampling.presence_penalty), LLM_GIVEN_PRESENCE },
        { offsetof(llm_request, sampling.frequency_penalty), LLM_GIVEN_FREQUENCY },
        { offsetof(llm_request, sampling.penalty_last_n), LLM_GIVEN_LAST_N },
        { offsetof(llm_request, max_tokens), LLM_GIVEN_MAX_TOKENS },
        { offsetof(llm_request, context_max), LLM_GIVEN_CONTEXT },
    };

    for (size_t i = 0; i < SL_COUNT_OF(table); i++)
        if (table[i].at == offset)
            return table[i].flag;
    return 0;
}

/* ---- routes -------------------------------------------------------------------------------- */

/* named: the caller asked for this very model. */
static bool can_do(const llm_backend *b, llm_task task, bool named)
{
    llm_model_info info;

    b->ops->info(b->ctx, &info);
    if (task == LLM_RERANK)
        return info.can_rerank || (named && info.can_judge);
    return task == LLM_EMBED ? info.can_embed : info.can_generate;
}

static const char *task_words(llm_task task)
{
    if (task == LLM_RERANK)
        return "score documents";
    return task == LLM_EMBED ? "make embeddings" : "generate text";
}

/* Length of a name without the tag that everybody may leave out. */
static size_t bare_len(const char *name)
{
    size_t len = strlen(name);

    return len > 7 && memcmp(name + len - 7, ":latest", 7) == 0 ? len - 7 : len;
}

llm_route *llm_chain_route(llm_chain *chain, const char *name)
{
    size_t count = atomic_load_explicit(&chain->route_count, memory_order_acquire);
    size_t len = bare_len(name);

    for (size_t i = 0; i < count; i++) {
        const char *have = chain->routes[i].name;

        if (bare_len(have) == len && memcmp(have, name, len) == 0)
            return &chain->routes[i];
    }
    return NULL;
}

sl_status llm_chain_add(llm_chain *chain, const char *name, llm_backend b, sl_err *err)
{
    size_t count = atomic_load(&chain->route_count);
    llm_route *r = &chain->routes[count];

    if (llm_chain_route(chain, name))
        return sl_fail(err, SL_ECONFLICT, "two models are called '%s'; give one another name",
                       name);
    if (count == LLM_MODELS_MAX)
        return sl_fail(err, SL_ELIMIT, "more than %d models", LLM_MODELS_MAX);
    snprintf(r->name, sizeof r->name, "%s", name);
    r->backend = b;
    atomic_store_explicit(&chain->route_count, count + 1, memory_order_release);
    return SL_OK;
}

const llm_backend *llm_chain_find(const llm_chain *chain, const char *model, llm_task task)
{
    size_t count = atomic_load_explicit(&chain->route_count, memory_order_acquire);

    if (model && model[0]) {
        const llm_route *r = llm_chain_route((llm_chain *)(uintptr_t)chain, model);

        return r && !atomic_load(&r->hidden) ? &r->backend : NULL;
    }
    for (size_t i = 0; i < count; i++)
        if (!atomic_load(&chain->routes[i].hidden) &&
            can_do(&chain->routes[i].backend, task, false))
            return &chain->routes[i].backend;
    return NULL;
}

const char *llm_chain_name(const llm_chain *chain, const llm_backend *b)
{
    size_t count = atomic_load_explicit(&chain->route_count, memory_order_acquire);

    for (size_t i = 0; i < count; i++)
        if (chain->routes[i].backend.ctx == b->ctx && chain->routes[i].backend.ops == b->ops &&
            !chain->routes[i].is_alias)
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

void llm_refuse(llm_request *req, llm_sink sink, const sl_err *why)
{
    llm_event error = { .kind = LLM_EV_ERROR, .error = *why };

    if (req->admitted)
        refuse_admitted(req->chain, req, req->chain->stage_count, why);
    req->admitted = false;
    sink.fn(sink.ctx, req, &error);
    sink.fn(sink.ctx, req, &(llm_event){ .kind = LLM_EV_DONE });
}

/* What stands between the backend and the caller's sink while a request runs. */
typedef struct chain_run {
    llm_chain *chain;
    llm_sink sink;
    sl_log_field fields[LLM_CALLER_FIELDS + 3]; /* context of log lines; strings of the request */
    int field_count;
} chain_run;

static void set_context(chain_run *run, const llm_request *req)
{
    sl_log_field *f = run->fields;
    int n = 0;

    f[n++] = SL_F_STR("request_id", req->id);
    n += llm_caller_fields(req->caller, f + n);
    f[n++] = SL_F_STR("model", req->model);
    if (req->trace.id[0])
        f[n++] = SL_F_STR("trace_id", req->trace.id);
    run->field_count = n;
}

/* False: a stage dropped the event. */
static bool pass_stages(const llm_chain *chain, llm_request *req, const llm_event *ev)
{
    for (size_t i = chain->stage_count; i-- > 0;) {
        const llm_stage *s = &chain->stages[i];

        if (s->ops->on_event && s->ops->on_event(s->ctx, req, ev) == LLM_REFUSE)
            return false;
    }
    if (ev->kind == LLM_EV_DONE && req->admitted) {
        for (size_t i = chain->stage_count; i-- > 0;)
            if (chain->stages[i].ops->on_done)
                chain->stages[i].ops->on_done(chain->stages[i].ctx, req, &ev->usage);
    }
    return true;
}

static void chain_on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    chain_run *run = ctx;
    const llm_sink sink = run->sink;
    bool is_last = ev->kind == LLM_EV_DONE; /* the sink may destroy req, and run with it */
    sl_log_scope scope;
    bool pass;

    sl_log_push(&scope, run->fields, run->field_count);
    pass = pass_stages(run->chain, req, ev);
    if (pass && !is_last)
        sink.fn(sink.ctx, req, ev);
    sl_log_pop(&scope);
    if (pass && is_last)
        sink.fn(sink.ctx, req, ev);
}

sl_status llm_chain_submit(llm_chain *chain, llm_request *req, llm_sink sink, sl_err *err)
{
    const llm_backend *b = llm_chain_find(chain, req->model, req->task);
    chain_run *run = sl_arena_alloc(&req->arena, sizeof *run);
    sl_err local = { .status = SL_OK };
    const llm_route *route;
    bool is_unnamed = !req->model || !req->model[0];
    sl_status status;

    if (!b && is_unnamed && req->task == LLM_RERANK)
        return sl_fail(err, SL_ENOTFOUND,
                       "No model that scores documents is installed; pull a cross-encoder, or name "
                       "a chat model to judge them");
    if (!b && is_unnamed)
        return sl_fail(err, SL_ENOTFOUND,
                       "There is no model that can %s; bring one with: sluice pull %s",
                       req->task == LLM_EMBED ? "make embeddings" : "generate text",
                       req->task == LLM_EMBED ? "minilm" : "smollm2");
    if (!b)
        return sl_fail(err, SL_ENOTFOUND,
                       "The model '%s' does not exist; GET /v1/models lists the models that do",
                       req->model ? req->model : "");
    if (!can_do(b, req->task, req->model && req->model[0]))
        return sl_fail(err, SL_EINVAL, "The model '%s' cannot %s", req->model ? req->model : "",
                       task_words(req->task));
    if (!llm_caller_may_use(req->caller, llm_chain_name(chain, b)))
        return sl_fail(err, SL_EFORBIDDEN, "This key may not use the model '%s'",
                       llm_chain_name(chain, b));
    if (!run)
        return sl_fail(err, SL_ENOMEM, "request too large");
    *run = (chain_run){ .chain = chain, .sink = sink };
    req->chain = chain;
    route = llm_chain_route(chain, req->model);
    req->model = route ? route->name : llm_chain_name(chain, b); /* the tag says nothing */
    set_context(run, req);
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
