/* models_load.c - the two threads of the manager. The loader opens and closes engines, one at a
 * time, and finds the room for them. The keeper ends keep-alives, hands waiting requests to engines
 * that are ready, drops those whose clients left, and looks at the store.
 *
 * Room: loaded engines and the one being loaded together stay within the budget. The least recently
 * used model goes first, those that the configuration keeps never. One that is serving is not
 * interrupted: it takes no new requests until it has ended those it has (they wait), then it goes;
 * so nobody waits for ever, and nobody is cut off. */
#include <stdio.h>

#include "app/models_int.h"
#include "base/log.h"
#include "base/os.h"
#include "base/thread.h"

#define LOOK_FOR_LEAVERS_NS ((int64_t)50 * 1000000)
#define LOOK_AT_STORE_NS    ((int64_t)1000 * 1000000)

/* ---- states -------------------------------------------------------------------------------- */

void managed_want(managed *s)
{
    models *m = s->m;

    SL_ASSERT(s->state == MANAGED_COLD);
    SL_ASSERT(m->load_count < LLM_MODELS_MAX);
    s->state = MANAGED_QUEUED;
    m->load_queue[m->load_count++] = s;
    pthread_cond_signal(&m->to_loader);
}

void managed_leave(managed *s)
{
    SL_ASSERT(s->state == MANAGED_READY || s->state == MANAGED_DRAINING);
    SL_ASSERT(s->users == 0);
    s->state = MANAGED_LEAVING;
    pthread_cond_signal(&s->m->to_loader);
}

void managed_idle(managed *s)
{
    models *m = s->m;
    int64_t now_ns = sl_clock_mono_ns();

    SL_ASSERT(s->users == 0);
    s->used_ns = now_ns;
    if (s->state == MANAGED_DRAINING || s->stale || s->gone || s->keep_ns == 0) {
        managed_leave(s);
        return;
    }
    s->expires_ns = s->keep_ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + s->keep_ns;
    pthread_cond_signal(&m->to_keeper);
    if (m->load_count > 0)
        pthread_cond_signal(&m->to_loader); /* it may be waiting for this one */
}

/* ---- loading ------------------------------------------------------------------------------- */

/* Opens the engine of a model in MANAGED_LOADING. With m->lock, which is let go meanwhile. */
static sl_status open_engine(managed *s, sl_err *err)
{
    models *m = s->m;
    uint64_t need = s->need_bytes;
    int64_t start_ns = sl_clock_mono_ns();
    char *path = sl_strdup(s->path);
    engine_options o;
    engine *e = NULL;
    sl_status status;

    SL_ASSERT(s->state == MANAGED_LOADING);
    m->used_bytes += need;
    pthread_mutex_unlock(&m->lock);
    status = path ? models_options(m, s->name, &o, err) : sl_fail(err, SL_ENOMEM, "out of memory");
    if (status == SL_OK)
        status = engine_open(path, &o, &e, err);
    if (status == SL_OK)
        SL_LOG(SL_LOG_INFO, "model.loaded", SL_F_STR("model", s->name), SL_F_STR("path", path),
               SL_F_NUM("bytes", engine_bytes(e)),
               SL_F_NUM("ms", (double)(sl_clock_mono_ns() - start_ns) / 1e6));
    sl_free(path);
    pthread_mutex_lock(&m->lock);
    m->used_bytes -= need;
    s->state = status == SL_OK ? MANAGED_READY : MANAGED_COLD;
    if (status != SL_OK)
        return status;
    s->e = e;
    s->expires_ns = INT64_MAX;
    s->used_bytes = engine_bytes(e);
    m->used_bytes += s->used_bytes;
    return SL_OK;
}

sl_status managed_load_now(managed *s, sl_err *err)
{
    models *m = s->m;
    sl_status status;

    pthread_mutex_lock(&m->lock);
    SL_ASSERT(s->state == MANAGED_COLD);
    s->state = MANAGED_LOADING;
    status = open_engine(s, err);
    if (status == SL_OK)
        managed_idle(s);
    if (m->used_bytes > m->budget_bytes)
        SL_LOG(SL_LOG_WARN, "models.over_budget", SL_F_NUM("bytes", m->used_bytes),
               SL_F_NUM("budget", m->budget_bytes));
    pthread_mutex_unlock(&m->lock);
    return status;
}

/* Fails all that wait for s. With m->lock, which is let go meanwhile. */
static void fail_waiting(managed *s, const sl_err *why)
{
    waiter_list failed = s->waiting;
    waiter *w;

    s->waiting = (waiter_list){ 0 };
    pthread_mutex_unlock(&s->m->lock);
    while ((w = waiters_pop(&failed)) != NULL)
        waiter_fail(w, why);
    pthread_mutex_lock(&s->m->lock);
}

/* Closes the engine of a model in MANAGED_LEAVING. With m->lock, which is let go meanwhile. */
static void close_engine(managed *s)
{
    models *m = s->m;
    engine *e = s->e;
    models_stats stats = { 0 };

    s->e = NULL; /* state and bytes stay: nobody loads it, and the room is not free yet */
    pthread_mutex_unlock(&m->lock);
    engine_stop(e);
    models_add_stats(&stats, e);
    engine_close(e);
    SL_LOG(SL_LOG_INFO, "model.unloaded", SL_F_STR("model", s->name));
    pthread_mutex_lock(&m->lock);
    s->past.steps += stats.steps;
    s->past.preemptions += stats.preemptions;
    s->past.prefix_hits += stats.prefix_hits;
    s->past.prefix_queries += stats.prefix_queries;
    s->past.draft_tokens += stats.draft_tokens;
    s->past.draft_accepted += stats.draft_accepted;
    m->used_bytes -= s->used_bytes;
    s->used_bytes = 0;
    s->state = MANAGED_COLD;
    s->stale = false;
    s->keep_ns = s->keep_first;
    if (s->waiting.first)
        managed_want(s);
}

static managed *find_leaving(models *m)
{
    for (size_t i = 0; i < m->count; i++)
        if (m->list[i]->state == MANAGED_LEAVING)
            return m->list[i];
    return NULL;
}

static bool is_pinned(const managed *s)
{
    return s->configured && s->keep_ns == KEEP_FOREVER;
}

/* The least recently used model that may go; idle ones before those that serve. One that has not
 * been given its requests yet is no victim: it would never come to serve. */
static managed *find_victim(models *m)
{
    managed *best = NULL;

    for (size_t i = 0; i < m->count; i++) {
        managed *s = m->list[i];
        bool busy = s->users > 0, best_busy = best && best->users > 0;

        if (s->state != MANAGED_READY || is_pinned(s) || s->waiting.first)
            continue;
        if (!best || (best_busy && !busy) || (best_busy == busy && s->used_ns < best->used_ns))
            best = s;
    }
    return best;
}

/* Some model is about to go, or about to be a victim. */
static bool is_draining(const models *m)
{
    for (size_t i = 0; i < m->count; i++) {
        const managed *s = m->list[i];

        if (s->state == MANAGED_DRAINING ||
            (s->state == MANAGED_READY && s->waiting.first && !is_pinned(s)))
            return true;
    }
    return false;
}

typedef enum room { ROOM_THERE, ROOM_LATER, ROOM_NEVER } room;

/* Whether s may be loaded now; if not, sees to it that there will be room. */
static room make_room(managed *s, sl_err *err)
{
    models *m = s->m;
    managed *victim;

    if (m->used_bytes + s->need_bytes <= m->budget_bytes)
        return ROOM_THERE;
    if (s->need_bytes > m->budget_bytes) {
        (void)sl_fail(err, SL_ENOMEM,
                      "the model '%s' needs %llu MiB; loading.memory allows %llu MiB", s->name,
                      (unsigned long long)(s->need_bytes / SL_MIB),
                      (unsigned long long)(m->budget_bytes / SL_MIB));
        return ROOM_NEVER;
    }
    if (is_draining(m))
        return ROOM_LATER;
    victim = find_victim(m);
    if (!victim) {
        (void)sl_fail(
            err, SL_ENOMEM,
            "the model '%s' needs %llu MiB; the configured models leave %llu MiB of "
            "loading.memory",
            s->name, (unsigned long long)(s->need_bytes / SL_MIB),
            (unsigned long long)((m->budget_bytes - SL_MIN(m->used_bytes, m->budget_bytes)) /
                                 SL_MIB));
        return ROOM_NEVER;
    }
    victim->state = MANAGED_DRAINING;
    if (victim->users == 0)
        managed_leave(victim);
    return ROOM_LATER;
}

static void pop_load_queue(models *m)
{
    m->load_count--;
    memmove(m->load_queue, m->load_queue + 1, m->load_count * sizeof m->load_queue[0]);
}

/* The first of the queue is loaded, or fails, or waits for room: false. With m->lock. */
static bool load_first(models *m)
{
    managed *s = m->load_queue[0];
    sl_err err = { 0 };
    room r = make_room(s, &err);

    if (r == ROOM_LATER)
        return find_leaving(m) != NULL;
    pop_load_queue(m);
    s->state = r == ROOM_THERE ? MANAGED_LOADING : MANAGED_COLD;
    err.status = r == ROOM_THERE ? open_engine(s, &err) : SL_ENOMEM;
    if (err.status != SL_OK) {
        SL_LOG(SL_LOG_WARN, "model.load_failed", SL_F_STR("model", s->name),
               SL_F_STR("error", err.text));
        fail_waiting(s, &err);
        if (s->waiting.first && s->state == MANAGED_COLD) /* who came meanwhile tries again */
            managed_want(s);
        return true;
    }
    if (s->stale)
        managed_leave(s);
    else if (!s->waiting.first)
        managed_idle(s); /* whoever wanted it left */
    pthread_cond_signal(&m->to_keeper);
    return true;
}

void *models_loader(void *arg)
{
    models *m = arg;

    pthread_mutex_lock(&m->lock);
    while (!m->stop) {
        managed *leaving = find_leaving(m);

        if (leaving)
            close_engine(leaving);
        else if (m->load_count == 0 || !load_first(m))
            pthread_cond_wait(&m->to_loader, &m->lock);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* ---- keeping ------------------------------------------------------------------------------- */

/* Answers a request that wanted nothing but the loading. */
static void answer_quick(waiter *w)
{
    llm_request *req = w->req;
    llm_sink sink = w->sink;
    llm_event done = { .kind = LLM_EV_DONE };
    sl_err why = { 0 };

    done.usage.load_ns = sl_clock_mono_ns() - w->since_ns;
    why.status = llm_admit(req, &(llm_demand){ 0 }, &why);
    if (why.status != SL_OK) {
        waiter_fail(w, &why);
        return;
    }
    sink.fn(sink.ctx, req, &(llm_event){ .kind = LLM_EV_START });
    sink.fn(sink.ctx, req, &done);
}

/* Takes the first waiting request whose client left. */
static waiter *take_cancelled(waiter_list *l)
{
    waiter_list kept = { 0 };
    waiter *found = NULL, *w;

    while ((w = waiters_pop(l)) != NULL) {
        if (!found && atomic_load_explicit(&w->req->cancelled, memory_order_relaxed))
            found = w;
        else
            waiters_push(&kept, w);
    }
    *l = kept;
    return found;
}

/* One thing that can be done for the requests that wait for s; false: there is none. With m->lock,
 * which is let go meanwhile. */
static bool serve_waiting(managed *s)
{
    static const sl_err left = { SL_ECANCELLED, "cancelled by the caller" };
    models *m = s->m;
    waiter *w = s->waiting.first ? take_cancelled(&s->waiting) : NULL;
    engine *e;

    if (w) {
        pthread_mutex_unlock(&m->lock);
        waiter_fail(w, &left);
        pthread_mutex_lock(&m->lock);
        if (s->state == MANAGED_READY && s->users == 0 && !s->waiting.first)
            managed_idle(s);
        return true;
    }
    if (s->state != MANAGED_READY || s->stale || !(w = waiters_pop(&s->waiting)))
        return false;
    s->users++; /* before the lock goes: the engine stays */
    if (w->req->load_only) {
        waiters_push(&m->quick, w);
        if (--s->users == 0)
            managed_idle(s);
        return true;
    }
    if (m->load_count > 0)
        pthread_cond_signal(&m->to_loader); /* it does not make room of those that wait */
    e = s->e;
    pthread_mutex_unlock(&m->lock);
    managed_forward(s, e, w);
    pthread_mutex_lock(&m->lock);
    return true;
}

/* Does one thing that is due; false: nothing is. With m->lock, which may be let go meanwhile. */
static bool keep_one(models *m)
{
    int64_t now_ns = sl_clock_mono_ns();
    waiter *w = waiters_pop(&m->quick);

    if (w) {
        pthread_mutex_unlock(&m->lock);
        answer_quick(w);
        pthread_mutex_lock(&m->lock);
        return true;
    }
    for (size_t i = 0; i < m->count; i++) {
        managed *s = m->list[i];

        if (serve_waiting(s))
            return true;
        if (s->state == MANAGED_READY && s->users == 0 && s->expires_ns <= now_ns)
            managed_leave(s);
    }
    return false;
}

/* When the next thing may be due by itself. */
static int64_t next_due(const models *m)
{
    int64_t now_ns = sl_clock_mono_ns();
    int64_t due = m->watching ? now_ns + LOOK_AT_STORE_NS : INT64_MAX;

    for (size_t i = 0; i < m->count; i++) {
        const managed *s = m->list[i];

        if (s->waiting.first)
            due = SL_MIN(due, now_ns + LOOK_FOR_LEAVERS_NS);
        if (s->state == MANAGED_READY && s->users == 0)
            due = SL_MIN(due, s->expires_ns);
    }
    return due;
}

/* True when it was read. With m->lock, which is let go then. */
static bool look_at_store(models *m)
{
    sl_err err = { 0 };

    if (!m->watching || model_store_stamp(m->store) == m->stamp)
        return false;
    pthread_mutex_unlock(&m->lock);
    if (models_scan(m, &err) != SL_OK)
        SL_LOG(SL_LOG_WARN, "models.store_unreadable", SL_F_STR("error", err.text));
    pthread_mutex_lock(&m->lock);
    return true;
}

void *models_keeper(void *arg)
{
    static const sl_err ending = { SL_EBUSY, "The server is shutting down" };
    models *m = arg;
    waiter *w;

    pthread_mutex_lock(&m->lock);
    while (!m->stop) {
        if (!keep_one(m) && !look_at_store(m))
            (void)sl_cond_wait_until(&m->to_keeper, &m->lock, next_due(m));
    }
    for (size_t i = 0; i < m->count; i++)
        fail_waiting(m->list[i], &ending);
    while ((w = waiters_pop(&m->quick)) != NULL) {
        pthread_mutex_unlock(&m->lock);
        waiter_fail(w, &ending);
        pthread_mutex_lock(&m->lock);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}
