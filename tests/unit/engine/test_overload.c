/* test_overload.c - what ten times the load does to those who are let in: the engine's rounds and
 * its load meter on the clock of sim.h, so that the times are exact. */
#include "sim.h"

#include <math.h>
#include <stdlib.h>

#include "tests_engine.h"

#define SLOTS    64
#define SECOND   1000000000LL
#define SECONDS  60
#define CALM_S   300 /* so that chance decides little */
#define RATIO    1.5
#define ANSWERED 4096

static sim s;
static sim_request requests[SIM_LIVE_MAX];

/* Work of one kind: tokens of a prompt and of an answer, and the time of a token. A step has a part
 * of ten tokens' time that is always the same. */
typedef struct work {
    int prompt, output;
    int64_t token_ns;
} work;

typedef struct outcome {
    double took_s[ANSWERED]; /* of those that were answered */
    int answered, refused;
} outcome;

static void open_engine(const work *w)
{
    const sim_options o = {
        .blocks = 800, .seqs_max = SLOTS, .step_tokens = 512, .token_ns = w->token_ns
    };

    sim_open(&s, &o);
    s.now_ns = SECOND; /* 0 says that a request is not under way */
    s.e.load.queue_max = 512;
    s.e.load.wait_ns = 0;
}

static void prepare(sim_request *r, const work *w, llm_caller *caller)
{
    sim_request_init(r, caller->id);
    r->req.caller = caller;
    for (int i = 0; i < w->prompt; i++)
        r->ids[i] = (int32_t)rng(SIM_VOCAB);
    r->prompt.id_count = (size_t)w->prompt;
    r->req.max_tokens = w->output;
}

/* A request of the pool that is not under way. */
static sim_request *idle_request(void)
{
    for (int i = 0; i < SIM_LIVE_MAX; i++)
        if (requests[i].arrived_ns == 0)
            return &requests[i];
    return NULL;
}

static llm_caller somebody = { .id = "a" };

static void submit(const work *w, llm_caller *caller, outcome *out)
{
    sim_request *r = idle_request();

    assert_non_null(r);
    prepare(r, w, caller);
    if (sim_submit(&s, r))
        return;
    out->refused++;
    assert_true(r->req.quota.retry_after_ms >= 100);
}

/* Takes note of what ended of a caller; returns how many that were. */
static int collect(llm_caller *caller, outcome *out)
{
    int count = 0;

    for (int i = 0; i < SIM_LIVE_MAX; i++) {
        sim_request *r = &requests[i];

        if (r->arrived_ns == 0 || r->dones == 0 || r->req.caller != caller)
            continue;
        if (r->refused) {
            out->refused++;
        } else {
            sim_check_answer(&s, r);
            assert_true(out->answered < ANSWERED);
            out->took_s[out->answered++] = (double)(r->ended_ns - r->arrived_ns) / 1e9;
        }
        r->arrived_ns = 0;
        count++;
    }
    return count;
}

/* Clients that ask again when they are answered, until each has asked `times` times. Returns
 * answers per second. */
static double closed_loop(const work *w, int clients, int times)
{
    outcome *out = calloc(1, sizeof *out);
    int64_t begin = s.now_ns;
    int left = clients * (times - 1);
    double rate;

    for (int i = 0; i < clients; i++)
        submit(w, &somebody, out);
    while (s.e.live_count > 0) {
        sim_step(&s);
        for (int n = collect(&somebody, out); n > 0 && left > 0; n--, left--)
            submit(w, &somebody, out);
    }
    assert_int_equal(out->refused, 0);
    assert_int_equal(out->answered, clients * times);
    rate = out->answered / ((double)(s.now_ns - begin) / 1e9);
    free(out);
    return rate;
}

/* Requests of a caller at random times, so many a second. */
typedef struct arrivals {
    llm_caller *caller;
    double rate;
    outcome *out;
    int64_t next_ns;
} arrivals;

static void submit_due(const work *w, arrivals *a, int64_t end_ns)
{
    while (a->next_ns <= s.now_ns && a->next_ns < end_ns) {
        double u = (1 + rng(1 << 20)) / (double)(1 << 20);

        submit(w, a->caller, a->out);
        a->next_ns += (int64_t)(-log(u) / a->rate * 1e9);
    }
}

static void run_arrivals(const work *w, int seconds, arrivals *a, size_t count)
{
    int64_t end_ns = s.now_ns + seconds * SECOND, next_ns = 0;

    for (size_t i = 0; i < count; i++) {
        memset(a[i].out, 0, sizeof *a[i].out);
        a[i].next_ns = s.now_ns;
    }
    while (next_ns < end_ns || s.e.live_count > 0) {
        if (s.e.live_count == 0)
            s.now_ns = SL_MAX(s.now_ns, next_ns);
        next_ns = INT64_MAX;
        for (size_t i = 0; i < count; i++) {
            submit_due(w, &a[i], end_ns);
            next_ns = SL_MIN(next_ns, a[i].next_ns);
        }
        sim_step(&s);
        for (size_t i = 0; i < count; i++)
            collect(a[i].caller, a[i].out);
    }
}

static void open_loop(const work *w, int seconds, double rate, outcome *out)
{
    run_arrivals(w, seconds, &(arrivals){ &somebody, rate, out }, 1);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double p99(outcome *out)
{
    qsort(out->took_s, (size_t)out->answered, sizeof *out->took_s, compare);
    return out->took_s[(int)(out->answered * 0.99)];
}

/* Short and long prompts and answers. Every answer counts, from the first on, on an engine that
 * knows nothing of its load yet and on one that does. */
static void test_tenfold(void **state)
{
    const work works[] = { { 64, 64, 600000 }, { 160, 16, 1500000 }, { 32, 128, 600000 } };
    outcome *low = calloc(1, sizeof *low), *high = calloc(1, sizeof *high);

    (void)state;
    for (size_t i = 0; i < 2 * SL_COUNT_OF(works); i++) {
        const work *w = &works[i / 2];
        bool is_cold = i % 2;
        double rate, ratio;

        open_engine(w);
        rate = closed_loop(w, SLOTS, 4);
        open_loop(w, CALM_S, 0.9 * rate, low);
        if (is_cold) {
            sim_close(&s);
            open_engine(w);
        }
        open_loop(w, SECONDS, 10 * rate, high);
        ratio = p99(high) / p99(low);
        printf(
            "%3d %3d %s: %.2f/s; 0.9x: %d answered, %d refused, p99 %.2f s; 10x: %d answered, %d "
            "refused, p99 %.2f s, ratio %.2f\n",
            w->prompt, w->output, is_cold ? "cold" : "warm", rate, low->answered, low->refused,
            p99(low), high->answered, high->refused, p99(high), ratio);
        assert_true(ratio <= RATIO);
        assert_int_equal(low->refused, 0);
        assert_true(high->answered >= 0.8 * rate * SECONDS); /* the machine stays busy */
        sim_close(&s);
    }
    free(low);
    free(high);
}

/* Right after it, no more than the sustainable load is refused nothing for long. */
static void test_recovery(void **state)
{
    const work w = { 64, 64, 600000 };
    outcome *out = calloc(1, sizeof *out);
    double rate;

    (void)state;
    open_engine(&w);
    rate = closed_loop(&w, SLOTS, 4);
    open_loop(&w, SECONDS, 10 * rate, out);
    open_loop(&w, SECONDS, 0.8 * rate, out);
    assert_in_range(out->refused, 0, out->answered / 50);
    sim_close(&s);
    free(out);
}

/* One who asks now and then is not refused because of another who asks for ten times of what there
 * is, and waits hardly longer than below overload. */
static void test_callers(void **state)
{
    static llm_caller flood = { .id = "flood" }, light = { .id = "light" };
    const work w = { 64, 64, 600000 };
    outcome *low = calloc(1, sizeof *low), *outs = calloc(2, sizeof *outs);
    double rate;

    (void)state;
    open_engine(&w);
    rate = closed_loop(&w, SLOTS, 4);
    open_loop(&w, CALM_S, 0.9 * rate, low);
    run_arrivals(&w, SECONDS,
                 (arrivals[]){ { &flood, 10 * rate, &outs[0] }, { &light, rate / 10, &outs[1] } },
                 2);
    printf(
        "flood: %d answered, %d refused, p99 %.2f s; light: %d answered, %d refused, p99 %.2f s\n",
        outs[0].answered, outs[0].refused, p99(&outs[0]), outs[1].answered, outs[1].refused,
        p99(&outs[1]));
    assert_true(outs[1].answered > 40);
    assert_int_equal(outs[1].refused, 0);
    assert_true(p99(&outs[1]) <= RATIO * p99(low));
    assert_true(outs[0].refused > outs[0].answered);
    sim_close(&s);
    free(low);
    free(outs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tenfold),
        cmocka_unit_test(test_recovery),
        cmocka_unit_test(test_callers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
