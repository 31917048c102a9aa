/* limit.c - counters under one lock, and a store that is never behind them (limit_store.h).
 *
 * A subject's meters count what is charged in the present window. A meter's `mark` is the store's
 * total: up to it requests are charged without asking. A charge that would pass the mark first
 * takes more, ahead of need (some charges at once, so that few of them ask); once a second the
 * flusher gives back what is above what is used and what the last second suggests for the next.
 * After a crash the total counts as used: nothing charged is forgotten, at most what was taken
 * ahead is lost.
 *
 * Invariants, under the lock: used <= mark <= limit for each meter with a limit, while the store
 * works; a hold's subjects stay in the table until it is settled. When it fails, requests are
 * charged all the same, in memory. */
#include "access/limit.h"

#include <pthread.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/os.h"
#include "base/thread.h"

#define BUCKETS       4096
#define SUBJECTS_MAX  (LLM_SUBJECT_COUNT + 1) /* and the model */
#define NAME_BYTES    200
#define FLUSH_NS      1000000000LL
#define FLUSH_CHUNK   16 /* subjects written under one lock */
#define CHARGES_AHEAD 8
#define SECOND_PART   4 /* or what a quarter of a second may bring: what a crash may overcount */

typedef enum meter_kind {
    METER_RPM,
    METER_RPD,
    METER_TPM,
    METER_TPD,
    METER_MONEY,
    METER_COUNT
} meter_kind;

typedef struct meter {
    int64_t window; /* number of the window that `used` counts */
    int64_t used, mark;
    int64_t recent; /* charged since the last flush, */
    int64_t before; /* and in the second before it */
} meter;

typedef struct subject {
    struct subject *next; /* in its bucket */
    char name[NAME_BYTES];
    meter meters[METER_COUNT];
    int64_t running;
    int refs; /* holds */
} subject;

struct limiter {
    limit_options o;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t flusher;
    bool has_flusher, stop;
    bool is_failing; /* the last write failed, which was logged */
    subject *buckets[BUCKETS];
    limit_store store;
};

/* A limit as it applies to one request. */
typedef struct rule {
    subject *s;
    const llm_limits *limits;
    const char *whom; /* "key", for messages */
} rule;

struct limit_hold {
    subject *subjects[SUBJECTS_MAX];
    int64_t windows[SUBJECTS_MAX][METER_COUNT]; /* -1: not charged */
    int count;
    int64_t tokens, cost_nusd;
    bool failed; /* the stage saw an error */
};

/* ---- windows ------------------------------------------------------------------------------- */

#define MINUTE_MS ((int64_t)60000)
#define DAY_MS    ((int64_t)86400000)

static int64_t window_ms(meter_kind kind, const llm_limits *limits)
{
    switch (kind) {
    case METER_RPM:
    case METER_TPM:
        return MINUTE_MS;
    case METER_MONEY:
        return limits->budget_days * DAY_MS;
    default:
        return DAY_MS;
    }
}

static int64_t limit_of(meter_kind kind, const llm_limits *limits)
{
    const int64_t all[METER_COUNT] = { limits->rpm, limits->rpd, limits->tpm, limits->tpd,
                                       limits->budget_nusd };

    return all[kind];
}

static int64_t amount_of(meter_kind kind, const limit_claim *c)
{
    const int64_t all[METER_COUNT] = { 1, 1, c->tokens, c->tokens, c->cost_nusd };

    return all[kind];
}

static int64_t now_ms(const limiter *l)
{
    return l->o.now_ms ? l->o.now_ms() : sl_clock_wall_ms();
}

/* Brings the meter into the present window. Returns the milliseconds until the next; 0: never. */
static int64_t meter_enter(meter *m, meter_kind kind, const llm_limits *limits, int64_t now)
{
    int64_t length = window_ms(kind, limits);
    int64_t window = length ? now / length : 0;

    if (m->window != window)
        *m = (meter){ .window = window };
    return length ? length - now % length : 0;
}

/* ---- subjects ------------------------------------------------------------------------------ */

static size_t bucket_of(const char *name)
{
    return sl_hash(SL_HASH_START, name, strlen(name)) % BUCKETS;
}

static void load_totals(limiter *l, subject *s)
{
    limit_total have[LIMIT_METERS_MAX];
    size_t count = 0;
    sl_err err;

    if (!l->store.ops || l->store.ops->load(l->store.ctx, s->name, have, &count, &err) != SL_OK)
        return;
    for (size_t i = 0; i < count; i++)
        if (have[i].meter >= 0 && have[i].meter < METER_COUNT)
            s->meters[have[i].meter] =
                (meter){ .window = have[i].window, .used = have[i].total, .mark = have[i].total };
}

/* The subject, made and read from the database when it is new. NULL: out of memory. */
static subject *find_subject(limiter *l, const char *name)
{
    subject **at = &l->buckets[bucket_of(name)];
    subject *s;

    for (s = *at; s; s = s->next)
        if (strcmp(s->name, name) == 0)
            return s;
    s = sl_calloc(1, sizeof *s);
    if (!s)
        return NULL;
    snprintf(s->name, sizeof s->name, "%s", name);
    for (int k = 0; k < METER_COUNT; k++)
        s->meters[k].window = -1;
    load_totals(l, s);
    s->next = *at;
    *at = s;
    return s;
}

static bool has_limits(const llm_limits *limits)
{
    static const llm_limits none;

    return memcmp(limits, &none, sizeof none) != 0;
}

static bool add_rule(limiter *l, rule *rules, int *count, const char *whom, const char *name,
                     const llm_limits *limits)
{
    char full[NAME_BYTES];
    subject *s;

    if (!name || !name[0] || !has_limits(limits))
        return true;
    snprintf(full, sizeof full, "%s:%s", whom, name);
    s = find_subject(l, full);
    if (!s)
        return false;
    rules[(*count)++] = (rule){ s, limits, whom };
    return true;
}

/* The limits that a claim falls under, at most SUBJECTS_MAX. False: out of memory. */
static bool find_rules(limiter *l, const llm_caller *c, const char *model, rule *rules, int *count)
{
    *count = 0;
    if (c && (!add_rule(l, rules, count, "key", c->id, &c->limits[LLM_SUBJECT_KEY]) ||
              !add_rule(l, rules, count, "user", c->user, &c->limits[LLM_SUBJECT_USER]) ||
              !add_rule(l, rules, count, "team", c->team, &c->limits[LLM_SUBJECT_TEAM])))
        return false;
    for (size_t i = 0; i < l->o.model_count; i++)
        if (strcmp(l->o.models[i].model, model) == 0)
            return add_rule(l, rules, count, "model", model, &l->o.models[i].limits);
    return true;
}

/* ---- the store ----------------------------------------------------------------------------- */

/* What is left of what was taken stays, and what is used is the rest of the total: others may have
 * taken, too. */
static void apply(meter *m, const limit_take *t)
{
    int64_t left = m->mark - m->used + t->granted;

    m->mark = t->total;
    m->used = t->total - left;
}

static void take(limiter *l, subject *s, limit_take *takes, size_t count)
{
    sl_err err;

    if (count == 0)
        return;
    if (l->store.ops->take(l->store.ctx, s->name, takes, count, &err) == SL_OK) {
        for (size_t i = 0; i < count; i++)
            apply(&s->meters[takes[i].meter], &takes[i]);
        l->is_failing = false;
        return;
    }
    if (!l->is_failing)
        SL_LOG(SL_LOG_ERROR, "limits.not_saved", SL_F_STR("error", err.text),
               SL_F_STR("effect", "a restart forgets what is charged meanwhile"));
    l->is_failing = true;
}

/* Takes ahead of a charge that is about to be made: for all of the subject's meters when one of
 * them has too little, since asking costs more than what is asked for. */
static void take_ahead(limiter *l, const rule *r, const limit_claim *c)
{
    limit_take takes[METER_COUNT];
    bool is_due = false;
    size_t count = 0;

    for (int k = 0; l->store.ops && k < METER_COUNT; k++) {
        const meter *m = &r->s->meters[k];
        int64_t amount = amount_of(k, c), limit = limit_of(k, r->limits);
        int64_t ahead = SL_MAX(amount * CHARGES_AHEAD, SL_MAX(m->recent, m->before) / SECOND_PART);
        int64_t wanted = SL_MIN(limit, m->used + ahead) - m->mark;

        if (!limit || wanted <= 0)
            continue;
        is_due = is_due || m->used + amount > m->mark;
        takes[count++] = (limit_take){ k, m->window, limit, wanted, 0, 0 };
    }
    if (is_due)
        take(l, r->s, takes, count);
}

/* Gives back what neither is used nor the next second may need. */
static void flush_subject(limiter *l, subject *s, bool last)
{
    limit_take takes[METER_COUNT];
    size_t count = 0;

    for (int k = 0; l->store.ops && k < METER_COUNT; k++) {
        meter *m = &s->meters[k];
        int64_t mark = last ? m->used : SL_MIN(m->mark, m->used + 2 * m->recent);

        m->before = m->recent;
        m->recent = 0;
        if (m->window >= 0 && (mark != m->mark || l->store.ops->is_shared))
            takes[count++] = (limit_take){ k, m->window, INT64_MAX, mark - m->mark, 0, 0 };
    }
    take(l, s, takes, count);
}

static bool is_past(const subject *s, int64_t now)
{
    const meter *m = s->meters;

    return m[METER_RPM].window < now / MINUTE_MS && m[METER_TPM].window < now / MINUTE_MS &&
           m[METER_RPD].window < now / DAY_MS && m[METER_TPD].window < now / DAY_MS;
}

/* One bucket: writes it, and forgets who has nothing in a present window; the database keeps money.
 */
static int flush_bucket(limiter *l, subject **at, bool last)
{
    int64_t now = now_ms(l);
    int count = 0;

    while (*at) {
        subject *s = *at;

        flush_subject(l, s, last);
        count++;
        if (last || (s->refs == 0 && l->store.ops && is_past(s, now))) {
            flush_subject(l, s, true);
            *at = s->next;
            sl_free(s);
        } else {
            at = &s->next;
        }
    }
    return count;
}

/* The lock is held, and let go between chunks. */
static void flush_all(limiter *l, bool last)
{
    sl_err err;

    for (int b = 0; b < BUCKETS;) {
        int count = 0;

        while (b < BUCKETS && !l->buckets[b])
            b++;
        if (b == BUCKETS)
            break;
        if (l->store.ops)
            l->store.ops->begin(l->store.ctx);
        for (; b < BUCKETS && count < FLUSH_CHUNK; b++)
            count += flush_bucket(l, &l->buckets[b], last);
        if (l->store.ops && l->store.ops->end(l->store.ctx, &err) != SL_OK)
            SL_LOG(SL_LOG_ERROR, "limits.not_saved", SL_F_STR("error", err.text));
        pthread_mutex_unlock(&l->lock);
        pthread_mutex_lock(&l->lock);
    }
}

static void *flusher_main(void *arg)
{
    limiter *l = arg;

    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        (void)sl_cond_wait_until(&l->wake, &l->lock, sl_clock_mono_ns() + FLUSH_NS);
        if (l->stop)
            break;
        flush_all(l, false);
        if (!l->store.ops || !l->store.ops->tidy)
            continue;
        pthread_mutex_unlock(&l->lock);
        l->store.ops->tidy(l->store.ctx);
        pthread_mutex_lock(&l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- reserve and settle -------------------------------------------------------------------- */

static const char *const meter_units[METER_COUNT] = { "requests", "requests", "tokens", "tokens",
                                                      "budget" };

static sl_status refuse_meter(limiter *l, const rule *r, int kind, const limit_claim *c,
                              int64_t reset_ms, llm_quota *quota, sl_err *err)
{
    static const char *const names[METER_COUNT] = { "requests per minute (RPM)",
                                                    "requests per day (RPD)",
                                                    "tokens per minute (TPM)",
                                                    "tokens per day (TPD)", "budget" };
    int64_t limit = limit_of(kind, r->limits), used = r->s->meters[kind].used;
    int64_t amount = amount_of(kind, c);

    quota->retry_after_ms = amount > limit ? 0 : reset_ms;
    quota->what = meter_units[kind];
    if (l->o.on_refusal)
        l->o.on_refusal(l->o.refusal_ctx, meter_units[kind], c->model);
    if (kind == METER_MONEY)
        return sl_fail(
            err, SL_ERATE,
            "The budget of this %s is used up: limit $%.4f, used $%.4f, this request may "
            "cost $%.6f",
            r->whom, (double)limit / 1e9, (double)used / 1e9, (double)amount / 1e9);
    if (amount > limit)
        return sl_fail(
            err, SL_ELIMIT,
            "This request may use %lld tokens, the %s's limit on %s is %lld: shorten the "
            "prompt or lower max_tokens",
            (long long)amount, r->whom, names[kind], (long long)limit);
    return sl_fail(err, SL_ERATE,
                   "Rate limit reached for this %s on %s: Limit %lld, Used %lld, Requested %lld. "
                   "Please try again in %.3gs.",
                   r->whom, names[kind], (long long)limit, (long long)used, (long long)amount,
                   (double)reset_ms / 1e3);
}

static sl_status check_single(limiter *l, const rule *r, const limit_claim *c, llm_quota *quota,
                              sl_err *err)
{
    const llm_limits *lim = r->limits;
    bool too_large = lim->request_tokens && c->tokens > lim->request_tokens;
    bool too_many = lim->concurrency && r->s->running >= lim->concurrency;

    if (too_large || too_many)
        quota->what = too_large ? "request_tokens" : "concurrency";
    if (quota->what && l->o.on_refusal)
        l->o.on_refusal(l->o.refusal_ctx, quota->what, c->model);
    if (too_large)
        return sl_fail(err, SL_ELIMIT,
                       "This request may use %lld tokens, the %s's limit for one request is %lld: "
                       "shorten the prompt or lower max_tokens",
                       (long long)c->tokens, r->whom, (long long)lim->request_tokens);
    if (!too_many)
        return SL_OK;
    quota->retry_after_ms = 1000;
    return sl_fail(
        err, SL_ERATE,
        "Rate limit reached for this %s on concurrent requests: Limit %lld. Wait for one "
        "to end.",
        r->whom, (long long)lim->concurrency);
}

static sl_status check_rule(limiter *l, const rule *r, const limit_claim *c, int64_t now,
                            llm_quota *quota, sl_err *err)
{
    SL_TRY(check_single(l, r, c, quota, err));
    for (int k = 0; k < METER_COUNT; k++) {
        int64_t limit = limit_of(k, r->limits), reset;

        if (!limit)
            continue;
        reset = meter_enter(&r->s->meters[k], k, r->limits, now);
        if (amount_of(k, c) > limit - r->s->meters[k].used)
            return refuse_meter(l, r, k, c, reset, quota, err);
    }
    return SL_OK;
}

/* Takes from the store what a charge needs. Refuses when others have used the limit up meanwhile.
 */
static sl_status take_for(limiter *l, const rule *r, const limit_claim *c, int64_t now,
                          llm_quota *quota, sl_err *err)
{
    take_ahead(l, r, c);
    for (int k = 0; l->store.ops && !l->is_failing && k < METER_COUNT; k++) {
        meter *m = &r->s->meters[k];

        if (limit_of(k, r->limits) && m->used + amount_of(k, c) > m->mark)
            return refuse_meter(l, r, k, c, meter_enter(m, k, r->limits, now), quota, err);
    }
    return SL_OK;
}

/* The tightest limit is what a caller is told. */
static void tell(llm_quota_part *part, int64_t limit, int64_t used, int64_t reset_ms)
{
    int64_t remaining = SL_MAX(limit - used, 0);

    if (!part->limit || remaining < part->remaining)
        *part = (llm_quota_part){ limit, remaining, reset_ms };
}

static void tell_all(const rule *rules, int count, int64_t now, llm_quota *quota)
{
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < METER_MONEY; k++) {
            int64_t limit = limit_of(k, rules[i].limits);
            meter *m = &rules[i].s->meters[k];

            if (limit)
                tell(k < METER_TPM ? &quota->requests : &quota->tokens, limit, m->used,
                     meter_enter(m, k, rules[i].limits, now));
        }
    }
}

static void charge(const rule *r, const limit_claim *c, limit_hold *hold, int i)
{
    subject *s = r->s;

    hold->subjects[i] = s;
    s->refs++;
    s->running++;
    for (int k = 0; k < METER_COUNT; k++) {
        int64_t amount = amount_of(k, c);

        hold->windows[i][k] = -1;
        if (!limit_of(k, r->limits))
            continue;
        s->meters[k].used += amount;
        s->meters[k].recent += amount;
        hold->windows[i][k] = s->meters[k].window;
    }
}

/* hold NULL: only looks. */
static sl_status reserve(limiter *l, const limit_claim *c, limit_hold *hold, llm_quota *quota,
                         sl_err *err)
{
    int64_t now = now_ms(l);
    rule rules[SUBJECTS_MAX];
    sl_status status = SL_OK;
    int count;

    *quota = (llm_quota){ 0 };
    pthread_mutex_lock(&l->lock);
    if (!find_rules(l, c->caller, c->model, rules, &count))
        status = sl_fail(err, SL_ENOMEM, "out of memory for the limits");
    for (int i = 0; i < count && status == SL_OK; i++)
        status = check_rule(l, &rules[i], c, now, quota, err);
    for (int i = 0; hold && i < count && status == SL_OK; i++)
        status = take_for(l, &rules[i], c, now, quota, err);
    if (status == SL_OK && hold) {
        *hold = (limit_hold){ .count = count, .tokens = c->tokens, .cost_nusd = c->cost_nusd };
        for (int i = 0; i < count; i++)
            charge(&rules[i], c, hold, i);
    }
    if (status != SL_ENOMEM)
        tell_all(rules, count, now, quota);
    pthread_mutex_unlock(&l->lock);
    return status;
}

size_t limit_hold_bytes(void)
{
    return sizeof(limit_hold);
}

sl_status limit_reserve(limiter *l, const limit_claim *claim, limit_hold *hold,
                        llm_quota *ret_quota, sl_err *err)
{
    return reserve(l, claim, hold, ret_quota, err);
}

void limit_settle(limiter *l, limit_hold *hold, int64_t tokens, int64_t cost_nusd, bool was_run)
{
    const limit_claim unused = { .tokens = hold->tokens - tokens,
                                 .cost_nusd = hold->cost_nusd - cost_nusd };

    pthread_mutex_lock(&l->lock);
    for (int i = 0; i < hold->count; i++) {
        subject *s = hold->subjects[i];

        s->running--;
        s->refs--;
        for (int k = 0; k < METER_COUNT; k++) {
            bool is_request = k == METER_RPM || k == METER_RPD;

            if (hold->windows[i][k] >= 0 && s->meters[k].window == hold->windows[i][k] &&
                !(is_request && was_run))
                s->meters[k].used -= amount_of(k, &unused);
        }
    }
    hold->count = 0;
    pthread_mutex_unlock(&l->lock);
}

void limit_read_usage(limiter *l, const char *name, limit_usage *ret)
{
    subject *s;

    *ret = (limit_usage){ 0 };
    pthread_mutex_lock(&l->lock);
    s = find_subject(l, name);
    if (s)
        *ret = (limit_usage){ .requests_minute = s->meters[METER_RPM].used,
                              .requests_day = s->meters[METER_RPD].used,
                              .tokens_minute = s->meters[METER_TPM].used,
                              .tokens_day = s->meters[METER_TPD].used,
                              .cost_nusd = s->meters[METER_MONEY].used,
                              .running = s->running };
    pthread_mutex_unlock(&l->lock);
}

/* ---- the stage ----------------------------------------------------------------------------- */

static int64_t cost_of(const limiter *l, const char *model, int64_t fresh, int64_t cached,
                       int64_t output)
{
    const llm_tokens t = { .fresh = fresh, .cached = cached, .output = output };

    return l->o.cost_nusd ? l->o.cost_nusd(l->o.cost_ctx, model, &t) : 0;
}

static bool counts_tokens(const llm_limits *lim)
{
    return lim->tpm || lim->tpd || lim->request_tokens || lim->budget_nusd;
}

/* Output reserved for a request that does not say how much; -1: no limit asks for one. */
static int64_t output_default(limiter *l, const llm_request *req)
{
    bool counts = false;
    int64_t ret;

    for (int i = 0; req->caller && i < LLM_SUBJECT_COUNT; i++)
        counts = counts || counts_tokens(&req->caller->limits[i]);
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < l->o.model_count; i++)
        if (strcmp(l->o.models[i].model, req->model) == 0)
            counts = counts || counts_tokens(&l->o.models[i].limits);
    ret = counts ? l->o.output_default : -1;
    pthread_mutex_unlock(&l->lock);
    return ret;
}

/* Before the prompt is tokenized: refuses what cannot pass, and bounds the output of who did not.
 */
static llm_verdict on_request(void *ctx, llm_request *req, sl_err *err)
{
    limiter *l = ctx;
    const limit_claim look = { .caller = req->caller, .model = req->model };

    if (req->max_tokens < 0 && req->task != LLM_EMBED && req->task != LLM_RERANK)
        req->max_tokens = output_default(l, req);
    return reserve(l, &look, NULL, &req->quota, err) == SL_OK ? LLM_PASS : LLM_REFUSE;
}

static llm_verdict on_admit(void *ctx, llm_request *req, const llm_demand *demand, sl_err *err)
{
    limiter *l = ctx;
    limit_hold *hold = sl_arena_alloc(&req->arena, sizeof *hold);
    const limit_claim claim = { .caller = req->caller,
                                .model = req->model,
                                .tokens = demand->prompt_tokens + demand->output_max,
                                .cost_nusd = cost_of(l, req->model, demand->prompt_tokens, 0,
                                                     demand->output_max) };

    if (!hold) {
        err->status = sl_fail(err, SL_ENOMEM, "out of memory for the limits");
        return LLM_REFUSE;
    }
    if (reserve(l, &claim, hold, &req->quota, err) != SL_OK)
        return LLM_REFUSE;
    req->hold = hold;
    return LLM_PASS;
}

static void on_refused(void *ctx, llm_request *req, const sl_err *err)
{
    if (req->hold)
        limit_settle(ctx, req->hold, 0, 0, false);
    req->hold = NULL;
}

static llm_verdict on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    if (ev->kind == LLM_EV_ERROR && req->hold)
        ((limit_hold *)req->hold)->failed = true;
    return LLM_PASS;
}

static void on_done(void *ctx, const llm_request *req, const llm_usage *u)
{
    limiter *l = ctx;
    limit_hold *hold = req->hold;

    if (!hold)
        return;
    if (hold->failed) /* is not the caller's to pay */
        limit_settle(l, hold, 0, 0, false);
    else
        limit_settle(l, hold, u->prompt_tokens + u->output_tokens,
                     cost_of(l, req->model, u->prompt_tokens - u->cached_tokens, u->cached_tokens,
                             u->output_tokens),
                     true);
}

const llm_stage_ops limit_stage = { .name = "limits",
                                    .on_request = on_request,
                                    .on_admit = on_admit,
                                    .on_refused = on_refused,
                                    .on_event = on_event,
                                    .on_done = on_done };

/* ---- life ---------------------------------------------------------------------------------- */

sl_status limit_open(const limit_options *options, limiter **ret, sl_err *err)
{
    limiter *l = sl_calloc(1, sizeof *l);
    sl_status status = SL_OK;

    if (!l)
        return sl_fail(err, SL_ENOMEM, "limits");
    l->o = *options;
    if (l->o.output_default <= 0)
        l->o.output_default = LIMIT_OUTPUT_DEFAULT;
    pthread_mutex_init(&l->lock, NULL);
    sl_cond_init(&l->wake);
    l->store = l->o.store;
    if (l->o.path && !l->store.ops)
        status = limit_sqlite_open(l->o.path, &l->store, err);
    if (status == SL_OK && pthread_create(&l->flusher, NULL, flusher_main, l) != 0)
        status = sl_fail(err, SL_ENOMEM, "cannot start the limits' thread");
    l->has_flusher = status == SL_OK;
    if (status != SL_OK) {
        limit_close(l);
        return status;
    }
    *ret = l;
    return SL_OK;
}

void limit_set_models(limiter *l, const limit_model *models, size_t model_count,
                      int64_t out_default)
{
    pthread_mutex_lock(&l->lock);
    l->o.models = models;
    l->o.model_count = model_count;
    l->o.output_default = out_default > 0 ? out_default : LIMIT_OUTPUT_DEFAULT;
    pthread_mutex_unlock(&l->lock);
}

void limit_close(limiter *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->lock);
    if (l->has_flusher)
        pthread_join(l->flusher, NULL);
    pthread_mutex_lock(&l->lock);
    flush_all(l, true);
    pthread_mutex_unlock(&l->lock);
    if (l->store.ops)
        l->store.ops->close(l->store.ctx);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->lock);
    sl_free(l);
}
