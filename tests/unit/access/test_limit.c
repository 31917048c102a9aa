/* test_limit.c - the limiter: windows, refunds, races, and what a crash leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "access/limit.h"
#include "base/mem.h"

#define START_MS ((int64_t)1700000040000) /* a full minute */

static atomic_llong clock_ms;

static int64_t test_now(void)
{
    return atomic_load(&clock_ms);
}

static void stays(llm_caller *c)
{
    (void)c;
}

static llm_caller caller_of(const char *id, llm_limits key, const char *team, llm_limits shared)
{
    llm_caller c = { .destroy = stays, .id = id, .name = id, .user = "", .team = team, .role = "" };

    atomic_init(&c.refs, 1);
    c.limits[LLM_SUBJECT_KEY] = key;
    c.limits[LLM_SUBJECT_TEAM] = shared;
    return c;
}

static limiter *open_at(const char *path)
{
    limiter *l = NULL;
    sl_err err;

    atomic_store(&clock_ms, START_MS);
    assert_int_equal(limit_open(&(limit_options){ .path = path, .now_ms = test_now }, &l, &err),
                     SL_OK);
    return l;
}

static sl_status take(limiter *l, const llm_caller *c, int64_t tokens, limit_hold *hold,
                      llm_quota *quota)
{
    const limit_claim claim = { .caller = c, .model = "m", .tokens = tokens };
    sl_err err;

    return limit_reserve(l, &claim, hold, quota, &err);
}

static void test_windows(void **state)
{
    llm_caller c = caller_of("k", (llm_limits){ .rpm = 2, .rpd = 3 }, "", (llm_limits){ 0 });
    limit_hold *hold = malloc(limit_hold_bytes());
    limiter *l = open_at(NULL);
    llm_quota q;

    assert_int_equal(take(l, &c, 10, hold, &q), SL_OK);
    assert_int_equal(q.requests.limit, 2);
    assert_int_equal(q.requests.remaining, 1);
    assert_int_equal(q.requests.reset_ms, 60000);
    limit_settle(l, hold, 10, 0, true);
    assert_int_equal(take(l, &c, 10, hold, &q), SL_OK);
    limit_settle(l, hold, 10, 0, true);
    atomic_fetch_add(&clock_ms, 20000);
    assert_int_equal(take(l, &c, 10, hold, &q), SL_ERATE);
    assert_int_equal(q.retry_after_ms, 40000);
    assert_string_equal(q.what, "requests");
    atomic_fetch_add(&clock_ms, 40000);
    assert_int_equal(take(l, &c, 10, hold, &q), SL_OK);
    limit_settle(l, hold, 10, 0, true);
    assert_int_equal(take(l, &c, 10, hold, &q), SL_ERATE); /* the day's third is used */
    assert_true(q.retry_after_ms > 3600000);
    limit_close(l);
    free(hold);
}

static void test_refunds(void **state)
{
    llm_caller c = caller_of("k", (llm_limits){ .tpm = 100, .rpm = 9 }, "red",
                             (llm_limits){ .tpd = 150, .concurrency = 1 });
    limit_hold *hold = malloc(limit_hold_bytes()), *other = malloc(limit_hold_bytes());
    limiter *l = open_at(NULL);
    limit_usage u;
    llm_quota q;

    assert_int_equal(take(l, &c, 101, hold, &q), SL_ELIMIT); /* never */
    assert_int_equal(q.retry_after_ms, 0);
    assert_int_equal(take(l, &c, 80, hold, &q), SL_OK);
    assert_int_equal(q.tokens.remaining, 20);
    assert_int_equal(take(l, &c, 10, other, &q), SL_ERATE); /* one at a time in the team */
    assert_string_equal(q.what, "concurrency");
    limit_settle(l, hold, 30, 0, true);
    limit_read_usage(l, "key:k", &u);
    assert_int_equal(u.tokens_minute, 30);
    assert_int_equal(u.requests_minute, 1);
    limit_read_usage(l, "team:red", &u);
    assert_int_equal(u.tokens_day, 30);
    assert_int_equal(u.running, 0);
    assert_int_equal(take(l, &c, 70, hold, &q), SL_OK);
    limit_settle(l, hold, 0, 0, false); /* as if it had never been */
    limit_read_usage(l, "key:k", &u);
    assert_int_equal(u.tokens_minute, 30);
    assert_int_equal(u.requests_minute, 1);
    /* What was reserved in one minute is not given back to the next. */
    assert_int_equal(take(l, &c, 70, hold, &q), SL_OK);
    atomic_fetch_add(&clock_ms, 60000);
    assert_int_equal(take(l, &c, 20, other, &q), SL_ERATE);
    limit_settle(l, hold, 1, 0, true);
    assert_int_equal(take(l, &c, 20, other, &q), SL_OK);
    limit_read_usage(l, "key:k", &u);
    assert_int_equal(u.tokens_minute, 20);
    limit_read_usage(l, "team:red", &u);
    assert_int_equal(u.tokens_day, 51);
    limit_settle(l, other, 20, 0, true);
    limit_close(l);
    free(hold);
    free(other);
}

/* ---- races --------------------------------------------------------------------------------- */

#define RACERS 1000

typedef struct racer {
    limiter *l;
    const llm_caller *c;
    pthread_barrier_t *line;
    atomic_int *won;
} racer;

static void *race(void *arg)
{
    racer *r = arg;
    limit_hold *hold = malloc(limit_hold_bytes());
    llm_quota q;

    pthread_barrier_wait(r->line);
    if (take(r->l, r->c, 10, hold, &q) == SL_OK) {
        atomic_fetch_add(r->won, 1);
        limit_settle(r->l, hold, 10, 0, true);
    }
    free(hold);
    return NULL;
}

static void test_race(void **state)
{
    llm_caller c = caller_of("k", (llm_limits){ .tpm = 1234 }, "", (llm_limits){ 0 });
    limiter *l = open_at(NULL);
    pthread_barrier_t line;
    pthread_t threads[RACERS];
    pthread_attr_t attr;
    atomic_int won = 0;
    racer r = { l, &c, &line, &won };
    limit_usage u;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 * 1024);
    pthread_barrier_init(&line, NULL, RACERS);
    for (int i = 0; i < RACERS; i++)
        assert_int_equal(pthread_create(&threads[i], &attr, race, &r), 0);
    for (int i = 0; i < RACERS; i++)
        pthread_join(threads[i], NULL);
    limit_read_usage(l, "key:k", &u);
    assert_int_equal(atomic_load(&won), 123);
    assert_int_equal(u.tokens_minute, 1230);
    assert_int_equal(u.running, 0);
    pthread_barrier_destroy(&line);
    pthread_attr_destroy(&attr);
    limit_close(l);
}

/* ---- restarts ------------------------------------------------------------------------------ */

static void remove_database(const char *path)
{
    char name[256];

    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", path, i == 0 ? "" : (i == 1 ? "-wal" : "-shm"));
        unlink(name);
    }
}

static void test_restart(void **state)
{
    llm_caller c = caller_of("k", (llm_limits){ .tpd = 1000, .rpd = 100 }, "", (llm_limits){ 0 });
    limit_hold *hold = malloc(limit_hold_bytes());
    char path[] = "/tmp/sluice-limit-XXXXXX";
    limiter *l, *second;
    limit_usage u;
    llm_quota q;

    close(mkstemp(path));
    l = open_at(path);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(take(l, &c, 50, hold, &q), SL_OK);
        if (i < 5)
            limit_settle(l, hold, 20, 0, true);
    }
    /* The first process is killed here, as far as the database knows. */
    second = open_at(path);
    limit_read_usage(second, "key:k", &u);
    assert_in_range(u.tokens_day, 200, 1000); /* never less than what was charged */
    assert_in_range(u.requests_day, 7, 100);
    limit_close(second);
    limit_close(l); /* writes exactly what it charged */
    second = open_at(path);
    limit_read_usage(second, "key:k", &u);
    assert_int_equal(u.tokens_day, 200);
    assert_int_equal(u.requests_day, 7);
    assert_int_equal(take(second, &c, 801, hold, &q), SL_ERATE);
    assert_int_equal(take(second, &c, 800, hold, &q), SL_OK);
    limit_settle(second, hold, 0, 0, true);
    limit_close(second);
    remove_database(path);
    free(hold);
}

/* ---- stores -------------------------------------------------------------------------------- */

#define SHARED_RPD 300

/* A store in memory that limiters share, in which asking can be made to fail. */
static struct {
    pthread_mutex_t lock;
    limit_total totals[LIMIT_METERS_MAX];
    bool fails;
} shared = { .lock = PTHREAD_MUTEX_INITIALIZER };

static sl_status shared_load(void *ctx, const char *subject, limit_total *ret, size_t *ret_count,
                             sl_err *err)
{
    pthread_mutex_lock(&shared.lock);
    memcpy(ret, shared.totals, sizeof shared.totals);
    pthread_mutex_unlock(&shared.lock);
    for (int i = 0; i < LIMIT_METERS_MAX; i++)
        ret[i].meter = i;
    *ret_count = LIMIT_METERS_MAX;
    return SL_OK;
}

static sl_status shared_take(void *ctx, const char *subject, limit_take *takes, size_t count,
                             sl_err *err)
{
    sl_status status = SL_OK;

    pthread_mutex_lock(&shared.lock);
    if (shared.fails)
        status = sl_fail(err, SL_EIO, "gone");
    for (size_t i = 0; status == SL_OK && i < count; i++) {
        limit_take *t = &takes[i];
        limit_total *all = &shared.totals[t->meter];

        if (all->window != t->window)
            *all = (limit_total){ .window = t->window };
        t->granted = SL_MIN(t->amount, SL_MAX(t->limit - all->total, 0));
        t->total = all->total += t->granted;
        assert_true(all->total >= 0);
    }
    pthread_mutex_unlock(&shared.lock);
    return status;
}

static void shared_begin(void *ctx)
{
    (void)ctx;
}

static sl_status shared_end(void *ctx, sl_err *err)
{
    (void)ctx;
    return SL_OK;
}

static const limit_store_ops shared_ops = {
    "shared",     true,       shared_load, shared_take,
    shared_begin, shared_end, NULL,        shared_begin /* close */
};

static limiter *open_shared(const char *path)
{
    limiter *l = NULL;
    sl_err err;

    if (path)
        return open_at(path);
    atomic_store(&clock_ms, START_MS);
    assert_int_equal(
        limit_open(&(limit_options){ .store = { &shared_ops, NULL }, .now_ms = test_now }, &l,
                   &err),
        SL_OK);
    return l;
}

static void *charge_all(void *arg)
{
    llm_caller c = caller_of("k", (llm_limits){ .rpd = SHARED_RPD }, "", (llm_limits){ 0 });
    limit_hold *hold = malloc(limit_hold_bytes());
    intptr_t count = 0;
    llm_quota q;

    while (count <= SHARED_RPD && take(arg, &c, 1, hold, &q) == SL_OK) {
        limit_settle(arg, hold, 1, 0, true);
        count++;
    }
    free(hold);
    return (void *)count;
}

/* Limiters that share a store never pass the limit together, and use it up once what one of them
 * took in vain is given back. */
static void check_shared(const char *path)
{
    limiter *l[3];
    pthread_t threads[3];
    intptr_t sum = 0;
    void *count;

    for (int i = 0; i < 3; i++)
        l[i] = open_shared(path);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, charge_all, l[i]), 0);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], &count);
        sum += (intptr_t)count;
    }
    assert_in_range(sum, SHARED_RPD / 2, SHARED_RPD);
    limit_close(l[0]);
    limit_close(l[1]);
    sum += (intptr_t)charge_all(l[2]);
    limit_close(l[2]);
    l[0] = open_shared(path); /* knows what all have charged */
    sum += (intptr_t)charge_all(l[0]);
    assert_int_equal(sum, SHARED_RPD);
    limit_close(l[0]);
}

static void test_shared(void **state)
{
    char path[] = "/tmp/sluice-limit-XXXXXX";

    check_shared(NULL);
    close(mkstemp(path));
    check_shared(path);
    remove_database(path);
}

/* A store that fails stops nobody; what was charged meanwhile is made up for. */
static void test_failing_store(void **state)
{
    llm_caller c = caller_of("k", (llm_limits){ .rpd = 50 }, "", (llm_limits){ 0 });
    limit_hold *hold = malloc(limit_hold_bytes());
    limiter *l;
    llm_quota q;

    memset(shared.totals, 0, sizeof shared.totals);
    l = open_shared(NULL);
    for (int i = 0; i < 50; i++) {
        shared.fails = i >= 10 && i < 40;
        assert_int_equal(take(l, &c, 1, hold, &q), SL_OK);
        limit_settle(l, hold, 1, 0, true);
    }
    assert_int_equal(take(l, &c, 1, hold, &q), SL_ERATE);
    limit_close(l);
    assert_int_equal(shared.totals[1].total, 50); /* the meter of requests of a day */
    free(hold);
}

/* ---- money, models, the stage -------------------------------------------------------------- */

static int64_t price(void *ctx, const char *model, const llm_tokens *t)
{
    return t->fresh * 1000 + t->cached * 100 + t->output * 5000;
}

static void test_stage(void **state)
{
    static const limit_model models[] = { { "m", { .request_tokens = 500 } } };
    llm_caller c = caller_of("k", (llm_limits){ .budget_nusd = 1000000 }, "", (llm_limits){ 0 });
    limiter *l = NULL;
    limit_usage u;
    sl_err err;

    atomic_store(&clock_ms, START_MS);
    assert_int_equal(limit_open(&(limit_options){ .models = models,
                                                  .model_count = 1,
                                                  .output_default = 100,
                                                  .cost_nusd = price,
                                                  .now_ms = test_now },
                                &l, &err),
                     SL_OK);
    for (int i = 0; i < 2; i++) {
        llm_request *req = llm_request_create(LLM_CHAT, SL_MIB);
        const llm_demand demand = { .prompt_tokens = i ? 401 : 50, .output_max = 100 };

        req->caller = llm_caller_ref(&c);
        req->model = "m";
        assert_int_equal(limit_stage.on_request(l, req, &err), LLM_PASS);
        assert_int_equal(req->max_tokens, 100); /* bounded, because it said nothing */
        if (i == 0) {
            assert_int_equal(limit_stage.on_admit(l, req, &demand, &err), LLM_PASS);
            limit_read_usage(l, "key:k", &u);
            assert_int_equal(u.cost_nusd, 50 * 1000 + 100 * 5000);
            limit_stage.on_done(
                l, req,
                &(llm_usage){
                    .prompt_tokens = 50, .cached_tokens = 40, .output_tokens = 3, .ttft_ns = 1 });
            limit_read_usage(l, "key:k", &u);
            assert_int_equal(u.cost_nusd, 10 * 1000 + 40 * 100 + 3 * 5000);
        } else {
            assert_int_equal(limit_stage.on_admit(l, req, &demand, &err), LLM_REFUSE);
            assert_int_equal(err.status, SL_ELIMIT);
            assert_non_null(strstr(err.text, "501"));
        }
        llm_request_destroy(req);
    }
    limit_close(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows),       cmocka_unit_test(test_refunds),
        cmocka_unit_test(test_race),          cmocka_unit_test(test_restart),
        cmocka_unit_test(test_stage),         cmocka_unit_test(test_shared),
        cmocka_unit_test(test_failing_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
