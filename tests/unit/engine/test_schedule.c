/* test_schedule.c - the scheduler in random weather: see sim.h. */
#include "sim.h"

#include "tests_engine.h"

/* Fewer under sanitizers, which are ten times as slow. */
#ifdef SL_SLOW_CHECKS
#define PATTERNS 3000
#else
#define PATTERNS 100000
#endif
#define REQUESTS_MAX 24
#define DOCS         4 /* texts that prompts begin with */

static sim s;
static sim_request requests[SIM_LIVE_MAX];
static int32_t docs[DOCS][SIM_TOKENS];

static void make_docs(void)
{
    for (int d = 0; d < DOCS; d++)
        for (int i = 0; i < SIM_TOKENS; i++)
            /* Documents begin alike, too. */
            docs[d][i] = d > 0 && i < 24 * d ? docs[d - 1][i] : (int32_t)rng(SIM_VOCAB);
}

/* A prompt of count tokens, the first `shared` of them a document's. */
static void make_prompt(sim_request *r, int doc, int shared, int count)
{
    memcpy(r->ids, docs[doc], (size_t)SL_MIN(shared, count) * sizeof *r->ids);
    for (int i = shared; i < count; i++)
        r->ids[i] = (int32_t)rng(SIM_VOCAB);
    r->prompt.id_count = (size_t)count;
}

static void random_request(sim_request *r, int tokens_max)
{
    int total = 2 + (int)rng((uint32_t)tokens_max - 1), prompt = 1 + (int)rng((uint32_t)total - 1);
    char user[] = { (char)('a' + rng(3)), '\0' };

    sim_request_init(r, user);
    make_prompt(r, (int)rng(DOCS), (int)rng((uint32_t)prompt + 1), prompt);
    r->req.max_tokens = total - prompt;
    r->req.n = one_in(8) ? 2 : 1;
    r->req.echo = one_in(10);
    r->req.logprobs = r->req.echo && one_in(2);
    r->req.no_prefix_cache = one_in(10);
    r->req.spec_tokens = one_in(4) ? -1 : (int32_t)rng(12);
    r->req.sampling.seed = rng(1000);
    r->req.sampling.temperature = one_in(3) ? 0.8f : 0;
}

typedef struct weather {
    long steps, requests, preemptions, hits, drafts, accepted;
    int stuck_worst;
    double wait_worst, steps_worst; /* in parts of the tokens that were asked for */
} weather;

/* One pattern of arrivals on an empty engine, until all have ended. */
static void run_pattern(weather *sum, int count, int tokens_max)
{
    int arrived = 0;
    long first_step = s.steps, asked = 0, worst = 0;

    for (int i = 0; i < count; i++) {
        random_request(&requests[i], tokens_max);
        asked += (long)requests[i].req.n *
                 ((long)requests[i].prompt.id_count + (long)requests[i].req.max_tokens);
    }
    while (arrived < count || s.e.live_count > 0) {
        while (arrived < count && (s.e.live_count == 0 || one_in(3)))
            sim_submit(&s, &requests[arrived++]);
        if (one_in(50))
            llm_cancel(&requests[rng((uint32_t)arrived)].req);
        sim_step(&s);
        if (s.steps % 8 == 0)
            sim_check(&s);
        assert_true(s.steps - first_step <= 3 * asked + 10);
    }
    sim_check(&s);
    assert_int_equal(s.e.pool->free_count, s.e.pool->block_count);
    for (int i = 0; i < count; i++) {
        sim_check_answer(&s, &requests[i]);
        worst = SL_MAX(worst, requests[i].began - requests[i].arrived);
    }
    sum->requests += count;
    sum->wait_worst = SL_MAX(sum->wait_worst, (double)worst / (double)asked);
    sum->steps_worst = SL_MAX(sum->steps_worst, (double)(s.steps - first_step) / (double)asked);
}

/* Pools of all sizes, mostly an eighth of what the requests would like to hold. */
static void test_random_arrivals(void **state)
{
    weather sum = { 0 };

    (void)state;
    for (long p = 0; p < PATTERNS;) {
        bool large = one_in(16);
        int seqs = 1 + (int)rng(8), blocks = large ? 24 + (int)rng(40) : 4 + (int)rng(5);
        const sim_options o = { .blocks = blocks,
                                .seqs_max = seqs,
                                .step_tokens = 1 + (int)rng(64),
                                .mixed_prefill = one_in(4) ? 0 : 1 + (int)rng(12),
                                .spec_tokens = (int)rng(8) };
        int tokens_max = SL_MIN(blocks * SL_KV_BLOCK_TOKENS, large ? SIM_TOKENS : 72);

        make_docs();
        sim_open(&s, &o);
        for (int i = 0; i < 50; i++, p++)
            run_pattern(&sum, 1 + (int)rng(large || i % 16 == 0 ? REQUESTS_MAX : 8), tokens_max);
        sum.steps += s.steps;
        sum.preemptions += (long)atomic_load(&s.e.preemptions);
        sum.hits += (long)atomic_load(&s.e.prefix_hits);
        sum.drafts += (long)atomic_load(&s.e.draft_tokens);
        sum.accepted += (long)atomic_load(&s.e.draft_accepted);
        sum.stuck_worst = SL_MAX(sum.stuck_worst, s.stuck_worst);
        sim_close(&s);
    }
    printf(
        "# %ld requests, %ld steps, %ld preemptions, %ld tokens cached, %ld of %ld guesses right, "
        "stuck %d, waited %.3f, took %.3f\n",
        sum.requests, sum.steps, sum.preemptions, sum.hits, sum.accepted, sum.drafts,
        sum.stuck_worst, sum.wait_worst, sum.steps_worst);
    /* The weather was what it should be. */
    assert_true(sum.preemptions > PATTERNS && sum.hits > PATTERNS * 16L);
    assert_true(sum.accepted > PATTERNS && sum.accepted < sum.drafts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_arrivals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
