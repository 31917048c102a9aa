/* models_backend.c - the backend that others see: it hands requests to the engine when there is
 * one, and keeps them until there is. */
#include <stdio.h>

#include "app/models_int.h"
#include "base/os.h"

/* ---- waiting ------------------------------------------------------------------------------- */

void waiters_push(waiter_list *l, waiter *w)
{
    w->next = NULL;
    if (l->last)
        l->last->next = w;
    else
        l->first = w;
    l->last = w;
    l->count++;
}

waiter *waiters_pop(waiter_list *l)
{
    waiter *w = l->first;

    if (!w)
        return NULL;
    l->first = w->next;
    if (!l->first)
        l->last = NULL;
    l->count--;
    return w;
}

void waiter_fail(waiter *w, const sl_err *why)
{
    llm_refuse(w->req, w->sink, why); /* the request, and w with it, may be gone afterwards */
}

/* ---- what a request is while the engine has it ------------------------------------------------
 */

typedef struct run {
    managed *s;
    llm_sink sink;
    int64_t load_ns;
} run;

static void on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    const run *r = ctx;
    llm_event last;

    if (ev->kind != LLM_EV_DONE) {
        r->sink.fn(r->sink.ctx, req, ev);
        return;
    }
    last = *ev;
    last.usage.load_ns = r->load_ns;
    /* First: whoever hears of the end may ask at once what is loaded. The engine is closed by
     * another thread, which waits for this one. */
    managed_release(r->s);
    r->sink.fn(r->sink.ctx, req, &last);
}

static sl_status hand_over(managed *s, engine *e, llm_request *req, llm_sink sink, int64_t load_ns,
                           sl_err *err)
{
    run *r = sl_arena_alloc(&req->arena, sizeof *r);
    llm_backend b = engine_backend(e);
    sl_status status;

    if (r)
        *r = (run){ s, sink, load_ns };
    status = r ? b.ops->submit(b.ctx, req, (llm_sink){ on_event, r }, err)
               : sl_fail(err, SL_ENOMEM, "request too large");
    if (status != SL_OK)
        managed_release(s);
    return status;
}

void managed_forward(managed *s, engine *e, waiter *w)
{
    sl_err why = { 0 };

    why.status = hand_over(s, e, w->req, w->sink, sl_clock_mono_ns() - w->since_ns, &why);
    if (why.status != SL_OK)
        waiter_fail(w, &why);
}

void managed_release(managed *s)
{
    models *m = s->m;

    pthread_mutex_lock(&m->lock);
    SL_ASSERT(s->users > 0);
    if (--s->users == 0)
        managed_idle(s);
    pthread_mutex_unlock(&m->lock);
}

/* ---- submitting ---------------------------------------------------------------------------- */

/* What a request asks for holds until the model is unloaded. */
static void take_keep_alive(managed *s, const llm_request *req)
{
    bool is_down = s->state == MANAGED_COLD || s->state == MANAGED_LEAVING;

    if (req->keep_alive_ns == LLM_KEEP_DEFAULT ||
        (is_down && req->load_only && !req->keep_alive_ns))
        return;
    s->keep_ns = req->keep_alive_ns < 0 ? KEEP_FOREVER : req->keep_alive_ns;
}

/* Tells a model to go, or a loaded one to stay; answered by the keeper. With m->lock. */
static void submit_quick(managed *s, waiter *w)
{
    if (s->state == MANAGED_READY && s->users == 0)
        managed_idle(s);
    waiters_push(&s->m->quick, w);
    pthread_cond_signal(&s->m->to_keeper);
}

/* Decides what becomes of a request. *ret_engine: it may go on at once, with one user counted. */
static sl_status place(managed *s, llm_request *req, waiter *w, engine **ret_engine, sl_err *err)
{
    models *m = s->m;
    bool is_ready = s->state == MANAGED_READY && !s->gone && !s->stale;

    if (m->stop)
        return sl_fail(err, SL_EBUSY, "The server is shutting down");
    if (s->gone)
        return sl_fail(err, SL_ENOTFOUND, "The model '%s' does not exist any more", s->name);
    s->used_ns = w->since_ns;
    take_keep_alive(s, req);
    if (req->load_only && (req->keep_alive_ns == 0 || is_ready)) {
        submit_quick(s, w);
        return SL_OK;
    }
    if (is_ready) {
        s->users++;
        *ret_engine = s->e;
        return SL_OK;
    }
    if (s->waiting.count >= m->queue_max)
        return sl_fail(err, SL_EBUSY, "%d requests wait for the model '%s'; try again shortly",
                       s->waiting.count, s->name);
    waiters_push(&s->waiting, w);
    if (s->state == MANAGED_COLD)
        managed_want(s);
    pthread_cond_signal(&m->to_keeper); /* it looks for clients that left */
    return SL_OK;
}

managed *managed_owner(managed *s)
{
    const models *m = s->m;

    for (size_t i = 0; i < m->count && !s->gone; i++)
        if (!m->list[i]->gone && strcmp(m->list[i]->path, s->path) == 0)
            return m->list[i];
    return s;
}

/* A reference, or NULL. */
static model_defaults *defaults_of(managed *s)
{
    model_defaults *d;

    pthread_mutex_lock(&s->m->lock);
    d = model_defaults_ref(s->defaults);
    pthread_mutex_unlock(&s->m->lock);
    return d;
}

static sl_status backend_submit(void *ctx, llm_request *req, llm_sink sink, sl_err *err)
{
    managed *s = ctx, *owner;
    models *m = s->m;
    waiter *w = sl_arena_alloc(&req->arena, sizeof *w);
    model_defaults *defaults;
    engine *e = NULL;
    sl_status status;

    if (!w)
        return sl_fail(err, SL_ENOMEM, "request too large");
    defaults = defaults_of(s);
    status = req->load_only ? SL_OK : model_defaults_apply(defaults, req, err);
    model_defaults_unref(defaults);
    if (status != SL_OK)
        return status;
    *w = (waiter){ .req = req, .sink = sink, .since_ns = sl_clock_mono_ns() };
    pthread_mutex_lock(&m->lock);
    owner = managed_owner(s);
    owner->shown = s;
    status = place(owner, req, w, &e, err);
    pthread_mutex_unlock(&m->lock);
    return status == SL_OK && e ? hand_over(owner, e, req, sink, 0, err) : status;
}

/* ---- questions ----------------------------------------------------------------------------- */

static void backend_info(void *ctx, llm_model_info *ret)
{
    managed *s = ctx;

    pthread_mutex_lock(&s->m->lock);
    *ret = s->info;
    pthread_mutex_unlock(&s->m->lock);
    snprintf(ret->name, sizeof ret->name, "%s", s->name);
}

/* The vocabulary and template of a model that is not loaded; opened once. */
static sl_status open_text(managed *s, engine **ret, sl_err *err)
{
    models *m = s->m;
    engine_options o = { .name = s->name, .text_only = true };
    engine *e = NULL;
    char *path = NULL;
    sl_status status = SL_OK;

    pthread_mutex_lock(&m->text_lock);
    pthread_mutex_lock(&m->lock);
    e = s->text;
    path = sl_strdup(s->path);
    pthread_mutex_unlock(&m->lock);
    if (!e)
        status = path ? engine_open(path, &o, &e, err) : sl_fail(err, SL_ENOMEM, "out of memory");
    if (status == SL_OK) {
        pthread_mutex_lock(&m->lock);
        s->text = e;
        pthread_mutex_unlock(&m->lock);
        *ret = e;
    }
    sl_free(path);
    pthread_mutex_unlock(&m->text_lock);
    return status;
}

/* An engine to ask about text. *ret_used, when not NULL: managed_release it afterwards. */
static sl_status borrow(managed *s, engine **ret, managed **ret_used, sl_err *err)
{
    managed *owner;

    *ret_used = NULL;
    pthread_mutex_lock(&s->m->lock);
    owner = managed_owner(s);
    if (owner->state == MANAGED_READY) {
        owner->users++;
        *ret = owner->e;
        *ret_used = owner;
    }
    pthread_mutex_unlock(&s->m->lock);
    return *ret_used ? SL_OK : open_text(owner, ret, err);
}

static sl_status backend_tokenize(void *ctx, const char *text, size_t len, unsigned flags,
                                  int32_t *ids, size_t cap, size_t *ret_count, sl_err *err)
{
    managed *s = ctx;
    managed *used;
    engine *e;
    sl_status status;

    SL_TRY(borrow(s, &e, &used, err));
    status = engine_backend(e).ops->tokenize(e, text, len, flags, ids, cap, ret_count, err);
    if (used)
        managed_release(used);
    return status;
}

static sl_status backend_detokenize(void *ctx, const int32_t *ids, size_t count, sl_buf *out,
                                    sl_err *err)
{
    managed *s = ctx;
    managed *used;
    engine *e;
    sl_status status;

    SL_TRY(borrow(s, &e, &used, err));
    status = engine_backend(e).ops->detokenize(e, ids, count, out, err);
    if (used)
        managed_release(used);
    return status;
}

/* As the request would be once it was submitted: with the model's defaults; the caller's. */
static llm_request *filled_of(const model_defaults *d, const llm_request *req, sl_err *err)
{
    llm_request *filled = llm_request_create(req->task, SL_HTTP_BODY_BYTES_MAX);

    if (!filled) {
        (void)sl_fail(err, SL_ENOMEM, "out of memory");
        return NULL;
    }
    filled->messages = json_copy(req->messages);
    filled->tools = json_incref(req->tools);
    filled->template_vars = json_incref(req->template_vars);
    filled->no_generation_prompt = req->no_generation_prompt;
    filled->continue_final = req->continue_final;
    filled->chat_template = req->chat_template;
    filled->truncate_prompt_tokens = req->truncate_prompt_tokens;
    filled->max_tokens = req->max_tokens;
    filled->given = req->given;
    if (model_defaults_apply(d, filled, err) == SL_OK)
        return filled;
    llm_request_destroy(filled);
    return NULL;
}

static sl_status render_one(managed *s, const llm_request *req, sl_buf *out, sl_err *err)
{
    managed *used;
    engine *e;
    sl_status status;

    SL_TRY(borrow(s, &e, &used, err));
    status = engine_backend(e).ops->render(e, req, out, err);
    if (used)
        managed_release(used);
    return status;
}

static sl_status backend_render(void *ctx, const llm_request *req, sl_buf *out, sl_err *err)
{
    model_defaults *d = defaults_of(ctx);
    llm_request *filled = d ? filled_of(d, req, err) : NULL;
    sl_status status;

    if (d && !filled)
        status = err ? err->status : SL_EINVAL;
    else
        status = render_one(ctx, filled ? filled : req, out, err);
    llm_request_destroy(filled);
    model_defaults_unref(d);
    return status;
}

static sl_status tokenize_one(managed *s, const llm_request *req, size_t prompt, int32_t *ids,
                              size_t cap, size_t *ret_count, sl_err *err)
{
    managed *used;
    engine *e;
    sl_status status;

    SL_TRY(borrow(s, &e, &used, err));
    status = engine_backend(e).ops->tokenize_request(e, req, prompt, ids, cap, ret_count, err);
    if (used)
        managed_release(used);
    return status;
}

static sl_status backend_tokenize_request(void *ctx, const llm_request *req, size_t prompt,
                                          int32_t *ids, size_t cap, size_t *ret_count, sl_err *err)
{
    model_defaults *d = req->task == LLM_CHAT ? defaults_of(ctx) : NULL;
    llm_request *filled = d ? filled_of(d, req, err) : NULL;
    sl_status status;

    if (d && !filled)
        status = err ? err->status : SL_EINVAL;
    else
        status = tokenize_one(ctx, filled ? filled : req, prompt, ids, cap, ret_count, err);
    llm_request_destroy(filled);
    model_defaults_unref(d);
    return status;
}

static sl_status backend_chat_template(void *ctx, sl_buf *out, sl_err *err)
{
    managed *s = ctx;
    const char *own;
    managed *used;
    bool has_own;
    engine *e;
    sl_status status;

    pthread_mutex_lock(&s->m->lock);
    own = json_string_value(json_object_get(s->manifest, "template"));
    has_own = own != NULL;
    if (own)
        sl_buf_puts(out, own);
    pthread_mutex_unlock(&s->m->lock);
    if (has_own)
        return sl_buf_ok(out, "chat template", err);
    SL_TRY(borrow(s, &e, &used, err));
    status = engine_backend(e).ops->chat_template(e, out, err);
    if (used)
        managed_release(used);
    return status;
}

const llm_backend_ops managed_ops = {
    .submit = backend_submit,
    .info = backend_info,
    .tokenize = backend_tokenize,
    .render = backend_render,
    .detokenize = backend_detokenize,
    .tokenize_request = backend_tokenize_request,
    .chat_template = backend_chat_template,
};
