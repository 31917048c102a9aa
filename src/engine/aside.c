/* aside.c - the engine beside an encoder's, and who waits for whom. */
#include "engine/aside.h"

#include "base/os.h"
#include "base/thread.h"
#include "engine/engine_int.h"

#define PAUSE_NS    100000000LL /* between steps while others have work: ten a second at most */
#define STEP_TOKENS 1024        /* whoever waits for nothing gets the larger batches */
#define QUEUE_MAX   512

/* One for the process: processors are shared by all models. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards waiting only */
static pthread_cond_t changed;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static atomic_int others;

static void init(void)
{
    sl_cond_init(&changed);
}

void aside_wake(void)
{
    pthread_once(&once, init);
    pthread_mutex_lock(&lock);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

void aside_others_begin(void)
{
    atomic_fetch_add(&others, 1);
}

void aside_others_end(void)
{
    int before = atomic_fetch_sub(&others, 1);

    SL_ASSERT(before > 0);
    aside_wake(); /* its own model's work may be over while another's is not */
}

bool aside_others(void)
{
    return atomic_load(&others) > 0;
}

bool aside_wait(engine *e, bool idle)
{
    int64_t until_ns = sl_clock_mono_ns() + PAUSE_NS;
    bool in_time = true, rests;

    pthread_once(&once, init);
    pthread_mutex_lock(&lock);
    while (in_time && aside_others() && !atomic_load(&e->stopping))
        in_time = sl_cond_wait_until(&changed, &lock, until_ns);
    rests = idle && atomic_load(&e->owner->is_busy);
    pthread_mutex_unlock(&lock);
    return !rests;
}

/* ---- the thread that computes --------------------------------------------------------------- */

/* Member 0 of the team. Its lock is held by it and the engine thread only, and briefly. */
struct aside_runner {
    engine *e;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool ready, stop, has_work;
    sl_status status;
    sl_err err;
    const encoder_text *texts;
    int count;
};

static sl_status make_tools(engine *e, sl_err *err)
{
    SL_TRY(team_create(e->o.threads, &e->team, err)); /* its threads inherit how this one runs */
    return encoder_create(e->w, e->team, &e->k, e->o.step_tokens, &e->enc, err);
}

static void *runner_main(void *arg)
{
    aside_runner *r = arg;

    sl_thread_run_idle();
    r->status = make_tools(r->e, &r->err);
    pthread_mutex_lock(&r->lock);
    r->ready = true;
    pthread_cond_broadcast(&r->cond);
    for (;;) {
        while (!r->has_work && !r->stop)
            pthread_cond_wait(&r->cond, &r->lock);
        if (r->stop)
            break;
        pthread_mutex_unlock(&r->lock);
        encoder_run(r->e->enc, r->texts, r->count);
        pthread_mutex_lock(&r->lock);
        r->has_work = false;
        pthread_cond_broadcast(&r->cond);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

sl_status aside_start(engine *e, sl_err *err)
{
    aside_runner *r = sl_calloc(1, sizeof *r);

    if (!r)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    r->e = e;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->cond, NULL);
    if (pthread_create(&r->thread, NULL, runner_main, r) != 0) {
        pthread_cond_destroy(&r->cond);
        pthread_mutex_destroy(&r->lock);
        sl_free(r);
        return sl_fail(err, SL_EIO, "cannot start a compute thread");
    }
    e->runner = r;
    pthread_mutex_lock(&r->lock);
    while (!r->ready)
        pthread_cond_wait(&r->cond, &r->lock);
    pthread_mutex_unlock(&r->lock);
    return r->status == SL_OK ? SL_OK : sl_fail(err, r->status, "%s", r->err.text);
}

void aside_run(engine *e, const encoder_text *texts, int count)
{
    aside_runner *r = e->runner;

    pthread_mutex_lock(&r->lock);
    r->texts = texts;
    r->count = count;
    r->has_work = true;
    pthread_cond_broadcast(&r->cond);
    while (r->has_work)
        pthread_cond_wait(&r->cond, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

void aside_stop(engine *e)
{
    aside_runner *r = e->runner;

    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_broadcast(&r->cond);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    pthread_cond_destroy(&r->cond);
    pthread_mutex_destroy(&r->lock);
    sl_free(r);
    e->runner = NULL;
}

/* ---- the engine ------------------------------------------------------------------------------ */

static sl_status create(engine *owner, engine **ret, sl_err *err)
{
    engine *e = sl_calloc(1, sizeof *e);

    if (!e)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->wake, NULL);
    load_init(&e->load);
    memcpy(e->name, owner->name, sizeof e->name);
    e->owner = owner;
    e->w = owner->w;
    e->k = owner->k;
    e->o = owner->o;
    e->o.name = e->name;
    e->o.step_tokens = SL_MAX(e->o.step_tokens, STEP_TOKENS);
    e->limits.step_tokens = e->o.step_tokens;
    e->load.slots = owner->load.slots;
    e->load.queue_max = SL_MAX(owner->load.queue_max, QUEUE_MAX);
    e->load.wait_ns = INT64_MAX; /* nobody waits for it */
    if (pthread_create(&e->thread, NULL, engine_main, e) != 0) {
        aside_close(e);
        return sl_fail(err, SL_EIO, "cannot start the engine thread");
    }
    e->thread_started = true;
    *ret = e;
    return SL_OK;
}

sl_status aside_of(engine *e, engine **ret, sl_err *err)
{
    sl_status status = SL_OK;
    engine *found;

    pthread_mutex_lock(&e->lock);
    found = atomic_load(&e->aside);
    if (!found && e->stop)
        status = sl_fail(err, SL_EBUSY, "The model '%s' is being unloaded", e->name);
    else if (!found)
        status = create(e, &found, err);
    atomic_store(&e->aside, found);
    pthread_mutex_unlock(&e->lock);
    *ret = found;
    return status;
}

void aside_close(engine *e)
{
    if (!e)
        return;
    engine_stop(e);
    e->w = NULL; /* the owner's */
    engine_close(e);
}
