/* aside.c - the engine beside an encoder's, and who waits for whom.
 *
 * One turn is lent at a time. Invariants, under the lock: has_turn only while a lender waits in
 * aside_lend; whoever takes the turn gives it back before it waits again or ends its step. */
#include "engine/aside.h"

#include "base/os.h"
#include "base/thread.h"
#include "engine/engine_int.h"

#define PAUSE_NS    100000000LL /* before a step, while others only embed */
#define STEP_TOKENS 1024        /* whoever waits for nothing gets the larger batches */
#define QUEUE_MAX   512

/* One for the process: processors are shared by all models. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_cond_t changed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the following */
static int waiting;                                      /* engines aside that want a turn */
static bool offered, has_turn;                           /* a turn: to be taken, taken */
static int64_t turn_ends_ns;
static double unit_ns; /* of the longer units in a turn; 0: not known */

static atomic_int others, lenders, wanted; /* wanted: as waiting, for a look without the lock */

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

void aside_others_begin(bool generates)
{
    if (generates)
        atomic_fetch_add(&lenders, 1);
    atomic_fetch_add(&others, 1);
}

void aside_others_end(bool generates)
{
    int before = atomic_fetch_sub(&others, 1);

    SL_ASSERT(before > 0);
    if (generates)
        atomic_fetch_sub(&lenders, 1);
    aside_wake(); /* its own model's work may be over while another's is not */
}

bool aside_others(void)
{
    return atomic_load(&others) > 0;
}

bool aside_waits(void)
{
    return atomic_load(&wanted) > 0;
}

/* ---- turns ----------------------------------------------------------------------------------- */

/* How long a turn may be now; 0: there is none. */
static int64_t turn_ns(int64_t step_ns, int steps)
{
    if (unit_ns > 0 && unit_ns <= (double)step_ns / 5)
        return step_ns / 5;
    return steps >= ASIDE_RARE ? ASIDE_RARE_NS : 0;
}

bool aside_lend(int64_t step_ns, int *steps)
{
    int64_t ns;

    (*steps)++;
    if (!aside_waits())
        return false;
    pthread_once(&once, init);
    pthread_mutex_lock(&lock);
    ns = waiting > 0 && !offered && !has_turn ? turn_ns(step_ns, *steps) : 0;
    if (ns > 0) {
        *steps = 0;
        offered = true;
        turn_ends_ns = sl_clock_mono_ns() + ns;
        pthread_cond_broadcast(&changed);
        while (has_turn || (offered && waiting > 0))
            pthread_cond_wait(&changed, &lock);
        offered = false;
    }
    pthread_mutex_unlock(&lock);
    return ns > 0;
}

typedef struct turn {
    engine *e;
    bool mine;        /* the turn that was lent */
    int64_t start_ns; /* of the unit under way; 0: none */
} turn;

/* With the lock. */
static void give_back(turn *t)
{
    if (!t->mine)
        return;
    t->mine = has_turn = false;
    pthread_cond_broadcast(&changed);
}

/* With the lock: learns how long units take, in turns, where nothing disturbs them. Units differ:
 * what counts is how long one may be. */
static void learn_unit(const turn *t, int64_t now_ns)
{
    double ns = (double)(now_ns - t->start_ns);

    if (t->mine && t->start_ns)
        unit_ns = ns > unit_ns ? ns : unit_ns + 0.02 * (ns - unit_ns);
}

/* Before each unit: goes on at once where nobody generates or the turn is not over. */
static void pace(void *ctx)
{
    turn *t = ctx;

    if (!t->mine && atomic_load(&lenders) == 0)
        return;
    pthread_mutex_lock(&lock);
    learn_unit(t, sl_clock_mono_ns());
    if (!t->mine || (double)sl_clock_mono_ns() + unit_ns > (double)turn_ends_ns) {
        give_back(t);
        waiting++;
        atomic_store(&wanted, waiting);
        while (!offered && atomic_load(&lenders) > 0 && !atomic_load(&t->e->stopping))
            pthread_cond_wait(&changed, &lock);
        waiting--;
        atomic_store(&wanted, waiting);
        if (offered) {
            offered = false;
            t->mine = has_turn = true;
        }
        pthread_cond_broadcast(&changed); /* a lender whose offer nobody takes goes on */
    }
    t->start_ns = sl_clock_mono_ns();
    pthread_mutex_unlock(&lock);
}

void aside_run(engine *e, const encoder_text *texts, int count)
{
    turn t = { .e = e };

    pthread_once(&once, init);
    encoder_run_paced(e->enc, texts, count, pace, &t);
    pthread_mutex_lock(&lock);
    learn_unit(&t, sl_clock_mono_ns());
    give_back(&t);
    pthread_mutex_unlock(&lock);
}

bool aside_wait(engine *e, bool idle)
{
    int64_t until_ns = sl_clock_mono_ns() + PAUSE_NS;
    bool in_time = true, rests;

    pthread_once(&once, init);
    pthread_mutex_lock(&lock);
    while (in_time && aside_others() && (idle || atomic_load(&lenders) == 0) &&
           !atomic_load(&e->stopping))
        in_time = sl_cond_wait_until(&changed, &lock, until_ns);
    rests = idle && atomic_load(&e->owner->is_busy);
    pthread_mutex_unlock(&lock);
    return !rests;
}

/* ---- the engine ------------------------------------------------------------------------------ */

sl_status aside_start(engine *e, sl_err *err)
{
    SL_TRY(team_create(e->o.threads, &e->team, err));
    return encoder_create(e->w, e->team, &e->k, e->o.step_tokens, &e->enc, err);
}

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
