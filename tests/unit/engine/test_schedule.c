/* test_schedule.c - the scheduler in random weather: see sim.h. */
#include "sim.h"

#include <math.h>

#include "tests_engine.h"

/* Fewer under sanitizers, which are ten times as slow. */
#ifdef SL_SLOW_CHECKS
#define PATTERNS 12000
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

static const int32_t allowed[] = { 11, 2, 3, 2, 15 };

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
    r->req.priority = one_in(6) ? LLM_PRIORITY_IDLE : 0;
    r->req.sampling.seed = rng(1000);
    r->req.sampling.temperature = one_in(3) ? 0.8f : 0;
    r->req.prompt_ids = one_in(10);
    r->req.prompt_probs = one_in(10);
    r->req.prompt_top = (int32_t)rng(4);
    r->req.priority = one_in(4) ? (int32_t)rng(3) - 1 : 0;
    if (one_in(8)) {
        r->req.sampling.allowed = allowed;
        r->req.sampling.allowed_count = SL_COUNT_OF(allowed);
    }
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
        assert_true(s.steps - first_step <= 2 * asked + 10);
    }
    sim_check(&s);
    assert_int_equal(s.e.pool->full.free_count, s.e.pool->full.count);
    for (int i = 0; i < count; i++) {
        sim_check_answer(&s, &requests[i]);
        assert_true(requests[i].began - requests[i].arrived <= 2 * asked);
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
                                .spec_tokens = (int)rng(8),
                                .window = one_in(2) ? 0 : 1 + (int)rng(80),
                                .token_ns = one_in(2) ? 0 : 10000000 }; /* brief: up to 50 */
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
    assert_true(sum.preemptions > PATTERNS / 2 && sum.hits > PATTERNS * 4L);
    assert_true(sum.accepted > PATTERNS && sum.accepted < sum.drafts);
    assert_int_equal(sum.stuck_worst, 0); /* who came first goes on in every step */
}

/* ---- sharing --------------------------------------------------------------------------------- */

/* Tokens of prompt i in full blocks that a prompt before it has, too; one is left to compute. */
static int shared_tokens(int i)
{
    const sim_request *r = &requests[i];
    int most = 0;

    for (int j = 0; j < i; j++) {
        const sim_request *other = &requests[j];
        size_t n = 0, max = SL_MIN(r->prompt.id_count - 1, other->prompt.id_count);

        if (strcmp(r->user, other->user) != 0)
            continue;
        while (n < max && r->ids[n] == other->ids[n])
            n++;
        most = SL_MAX(most, (int)n / SL_KV_BLOCK_TOKENS * SL_KV_BLOCK_TOKENS);
    }
    return most;
}

/* Whatever arrives together, each block of a tenant's prompts is computed once. */
static void test_shared_prefixes_are_computed_once(void **state)
{
    static const int step_tokens[] = { 8, 16, 50, 64, 512 };

    (void)state;
    for (int round = 0; round < 400; round++) {
        const sim_options o = { .blocks = 400,
                                .seqs_max = 2 + (int)rng(12),
                                .step_tokens = step_tokens[round % 5],
                                .mixed_prefill = one_in(2) ? 0 : 3 + (int)rng(30),
                                .spec_tokens = (int)rng(8) };
        int count = 2 + (int)rng(12), users = 1 + (int)rng(2);
        long want = 0, hits = 0, queries = 0;

        sim_open(&s, &o);
        make_docs();
        for (int i = 0; i < count; i++) {
            char user[] = { (char)('a' + rng((uint32_t)users)), '\0' };
            /* Ends of their own, so that no answer goes on as another prompt does. */
            int shared = 4 + (int)rng(100), prompt = shared + SL_KV_BLOCK_TOKENS + (int)rng(40);

            sim_request_init(&requests[i], user);
            make_prompt(&requests[i], (int)rng(2) * 3, shared, prompt);
            requests[i].req.max_tokens = 1 + (int64_t)rng(20);
            requests[i].req.n = one_in(4) ? 2 : 1;
            sim_submit(&s, &requests[i]);
        }
        while (s.e.live_count > 0)
            sim_step(&s);
        for (int i = 0; i < count; i++) {
            int shared = shared_tokens(i), prompt = (int)requests[i].prompt.id_count;

            sim_check_answer(&s, &requests[i]);
            assert_int_equal(requests[i].usage.cached_tokens, shared);
            assert_int_equal(requests[i].usage.prompt_tokens, prompt);
            want += prompt - shared;
            if (requests[i].req.n == 2) /* shares all but what is left to compute */
                want += prompt - (prompt - 1) / SL_KV_BLOCK_TOKENS * SL_KV_BLOCK_TOKENS;
            hits += shared;
            queries += prompt;
        }
        assert_int_equal(s.prefill_tokens, want);
        assert_int_equal(atomic_load(&s.e.prompt_tokens), want);
        assert_int_equal(atomic_load(&s.e.prefix_hits), hits);
        assert_int_equal(atomic_load(&s.e.prefix_queries), queries);
        assert_int_equal(atomic_load(&s.e.preemptions), 0);
        sim_close(&s);
    }
}

/* ---- fairness -------------------------------------------------------------------------------- */

#define FAIR_SEQS 4

static const sim_options fair = {
    .blocks = 40, .seqs_max = FAIR_SEQS, .step_tokens = 64, .mixed_prefill = 16
};

/* Requests [from, to) of a user, each its own text. */
static void submit_all(int from, int to, const char *user, int prompt, int output)
{
    for (int i = from; i < to; i++) {
        sim_request_init(&requests[i], user);
        make_prompt(&requests[i], 0, 0, prompt);
        requests[i].req.max_tokens = output;
        sim_submit(&s, &requests[i]);
    }
}

static int count_ended(int from, int to)
{
    int n = 0;

    for (int i = from; i < to; i++)
        n += requests[i].dones;
    return n;
}

static double served(const char *user)
{
    for (int i = 0; i < s.e.tenant_count; i++)
        if (strcmp(s.e.tenants[i].name, user) == 0)
            return s.e.tenants[i].served;
    return 0;
}

static bool has_waiting(const char *user)
{
    for (size_t i = 0; i < s.e.live_count; i++)
        if (strcmp(s.e.live[i]->job->req->tenant, user) == 0 && !s.e.live[i]->begun)
            return true;
    return false;
}

/* Steps until one of the two has nothing waiting; from now on neither may get `bound` more. */
static void run_both(double bound)
{
    double a = served("a"), b = served("b");
    int steps = 0;

    for (; has_waiting("a") && has_waiting("b"); steps++) {
        sim_step(&s);
        double lead = (served("a") - a) - (served("b") - b);

        if (fabs(lead) > bound)
            fail_msg("after %d steps a is %g ahead, bound %g", steps, lead, bound);
    }
    assert_true(steps > 20);
}

static void run_rest(int count)
{
    while (s.e.live_count > 0)
        sim_step(&s);
    for (int i = 0; i < count; i++)
        sim_check_answer(&s, &requests[i]);
    sim_close(&s);
}

/* Cost of a request, as it is charged. */
#define COST(prompt, output) ((prompt) + 2.0 * (output))

static void test_equal_costs_get_equal_service(void **state)
{
    (void)state;
    sim_open(&s, &fair);
    submit_all(0, 60, "a", 40, 12); /* all of a's stand before b's */
    submit_all(60, 120, "b", 40, 12);
    run_both(2 * COST(40, 12));
    assert_true(abs(count_ended(0, 60) - count_ended(60, 120)) <= FAIR_SEQS);
    run_rest(120);
}

/* Who asks for four times as much a request is served a fourth as many. */
static void test_service_is_by_tokens(void **state)
{
    (void)state;
    sim_open(&s, &fair);
    submit_all(0, 40, "a", 80, 40);
    submit_all(40, 240, "b", 20, 10);
    run_both(2 * COST(80, 40));
    assert_true(count_ended(40, 240) >= 3 * count_ended(0, 40));
    run_rest(240);
}

/* One who comes late begins at once, beside a long queue, and gets half from then on. */
static void test_who_comes_late_is_not_repaid(void **state)
{
    (void)state;
    sim_open(&s, &fair);
    submit_all(0, 100, "a", 40, 12);
    while (count_ended(0, 100) < 40)
        sim_step(&s);
    long now = s.steps;

    submit_all(100, 140, "b", 40, 12);
    run_both((FAIR_SEQS + 1) * COST(40, 12));
    assert_true(requests[100].began - now < 40);
    run_rest(140);
}

/* One who worked alone for long, left, and returns while another is here, starts level with him. */
static void test_who_returns_owes_nothing(void **state)
{
    (void)state;
    sim_open(&s, &fair);
    submit_all(0, 100, "a", 40, 12);
    while (s.e.live_count > 0)
        sim_step(&s);
    submit_all(100, 160, "b", 40, 12);
    while (count_ended(100, 160) < 10)
        sim_step(&s);
    submit_all(160, 210, "a", 40, 12);
    run_both((FAIR_SEQS + 1) * COST(40, 12));
    run_rest(210);
}

/* ---- priority -------------------------------------------------------------------------------- */

/* What is urgent begins before what came long before it; equals keep their order. */
static void test_the_urgent_begin_first(void **state)
{
    (void)state;
    sim_open(&s, &fair);
    submit_all(0, 40, "a", 40, 12);
    for (int i = 20; i < 40; i++)
        requests[i].req.priority = 5;
    submit_all(40, 60, "a", 40, 12);
    for (int i = 40; i < 60; i++)
        requests[i].req.priority = -1;
    run_rest(60);
    for (int i = 40; i < 60; i++)
        assert_true(requests[i].began <= requests[0].began);
    for (int i = 0; i < 59; i++)
        if (i != 19 && i != 39)
            assert_true(requests[i].began <= requests[i + 1].began);
    assert_true(requests[19].began <= requests[20].began);
}

/* However many urgent ones keep coming, one that waited long is let in, one in a while. */
static void test_nobody_waits_for_ever(void **state)
{
    const sim_options slow = { .blocks = 40,
                               .seqs_max = FAIR_SEQS,
                               .step_tokens = 64,
                               .mixed_prefill = 16,
                               .token_ns = 10000000 };
    int next = 2;

    (void)state;
    sim_open(&s, &slow);
    submit_all(0, 2, "a", 40, 12);
    requests[0].req.priority = requests[1].req.priority = 9;
    while (requests[1].began == 0) {
        for (; s.e.live_count < 3 * FAIR_SEQS; next = next + 1 < 100 ? next + 1 : 2)
            submit_all(next, next + 1, "b", 40, 12); /* the one of that number ended long ago */
        assert_true(s.now_ns < 60 * 1000000000LL);
        sim_step(&s);
    }
    assert_true(s.now_ns > 30 * 1000000000LL);
    assert_true(requests[0].began < requests[1].began);
    while (s.e.live_count > 0)
        sim_step(&s);
    sim_check_answer(&s, &requests[0]);
    sim_check_answer(&s, &requests[1]);
    sim_close(&s);
}

static void test_order_of_waits(void **state)
{
    sched_wait w[] = {
        { .priority = 0, .tenant = 0, .tokens = 10, .idx = 0 },
        { .priority = 0, .tenant = 0, .tokens = 10, .idx = 1 },
        { .priority = -3, .tenant = 0, .tokens = 10, .idx = 2 },
        { .priority = 0, .tenant = 1, .tokens = 10, .idx = 3 },
        { .begun = true, .priority = 9, .tenant = 1, .tokens = 10, .idx = 4 },
        { .priority = -3, .tenant = 1, .tokens = 10, .idx = 5 },
    };
    double served[] = { 0, 5 };
    const int want[] = { 4, 2, 5, 0, 3, 1 };

    (void)state;
    sched_order(w, 6, served, 2);
    for (int i = 0; i < 6; i++)
        assert_int_equal(w[i].idx, want[i]);
}

/* ---- single plans ---------------------------------------------------------------------------- */

static const sched_limits limits = { .step_tokens = 64,
                                     .mixed_prefill = 8,
                                     .draft_tokens = 24,
                                     .seqs_max = 8,
                                     .rows_max = 32,
                                     .block_tokens = 16 };

static void test_decodes_go_first_and_prompts_share_the_rest(void **state)
{
    sched_seq seqs[] = {
        { .len = 20, .pending = 100, .blocks = 2, .own = 2, .leader = -1 },
        { .len = 30,
          .pending = 1,
          .blocks = 2,
          .own = 2,
          .decoding = true,
          .draft = 5,
          .leader = -1 },
        { .pending = 50, .leader = -1 },
    };

    (void)state;
    assert_int_equal(sched_plan(seqs, 3, 100, &limits), 1 + 5 + 8);
    assert_int_equal(seqs[0].count, 8);
    assert_int_equal(seqs[1].count, 6);
    assert_int_equal(seqs[2].count, 0);
    seqs[1] = (sched_seq){ .pending = 50, .leader = 0 }; /* waits for the first one's block */
    seqs[0] = (sched_seq){ .len = 20, .pending = 10, .blocks = 2, .own = 2, .leader = -1 };
    seqs[2] = (sched_seq){ .pending = 50, .hit = 32, .hit_free = 2, .leader = -1 };
    assert_int_equal(sched_plan(seqs, 3, 100, &limits), 10 + 18);
    assert_int_equal(seqs[1].count, 0);
    assert_int_equal(seqs[2].count, 18); /* beside its hit */
}

/* Guesses are for steps that are small anyway. */
static void test_guesses_fill_small_steps_only(void **state)
{
    sched_seq seqs[20];

    (void)state;
    for (int i = 0; i < 20; i++)
        seqs[i] = (sched_seq){ .len = 20,
                               .pending = 1,
                               .blocks = 2,
                               .own = 2,
                               .decoding = true,
                               .draft = 3,
                               .leader = -1 };
    assert_int_equal(sched_plan(seqs, 20, 100, &limits), 24);
    assert_int_equal(seqs[0].count, 4);
    assert_int_equal(seqs[1].count, 2);
    assert_int_equal(seqs[2].count, 1);
    seqs[0].len = 30; /* guesses that need a block go without when there is none */
    assert_int_equal(sched_plan(seqs, 1, 0, &limits), 1);
}

/* The last gives his blocks back; then nobody begins, though there would be room: what he held may
 * be the hit of another, and would be counted twice. */
static void test_nobody_begins_in_the_place_of_a_preempted(void **state)
{
    sched_seq seqs[] = {
        { .len = 32, .pending = 1, .blocks = 2, .own = 2, .decoding = true, .leader = -1 },
        { .len = 40, .pending = 1, .blocks = 3, .own = 3, .decoding = true, .leader = -1 },
        { .pending = 40, .hit = 32, .leader = -1 },
    };

    (void)state;
    assert_int_equal(sched_plan(seqs, 3, 0, &limits), 1);
    assert_int_equal(seqs[0].count, 1);
    assert_true(seqs[1].preempt && seqs[1].count == 0);
    assert_int_equal(seqs[2].count, 0);
}

/* ---- background work ----------------------------------------------------------------------- */

static void test_idle_ones_rest(void **state)
{
    sched_seq seqs[] = {
        { .len = 32, .pending = 1, .blocks = 3, .own = 3, .decoding = true, .leader = -1 },
        { .len = 20,
          .pending = 1,
          .blocks = 2,
          .own = 2,
          .decoding = true,
          .idle = true,
          .leader = -1 },
        { .len = 16, .pending = 9, .blocks = 1, .own = 1, .idle = true, .leader = -1 },
        { .pending = 9, .idle = true, .leader = -1 },
    };

    (void)state;
    assert_int_equal(sched_plan(seqs, 4, 100, &limits), 1);
    assert_int_equal(seqs[0].count, 1);
    for (int i = 1; i < 4; i++)
        assert_true(seqs[i].count == 0 && !seqs[i].preempt);
}

/* Who waits to begin gets the room of idle ones, the last first, and no more than he needs. */
static void test_idle_ones_make_room(void **state)
{
    sched_seq seqs[] = {
        { .len = 32, .pending = 1, .blocks = 3, .own = 3, .decoding = true, .leader = -1 },
        { .len = 20,
          .pending = 1,
          .blocks = 2,
          .own = 2,
          .decoding = true,
          .idle = true,
          .leader = -1 },
        { .len = 60,
          .pending = 1,
          .blocks = 4,
          .own = 4,
          .decoding = true,
          .idle = true,
          .leader = -1 },
        { .pending = 40, .leader = -1 },
    };

    (void)state;
    assert_int_equal(sched_plan(seqs, 4, 0, &limits), 1);
    assert_true(!seqs[1].preempt && seqs[2].preempt && seqs[3].count == 0);
    seqs[2] = (sched_seq){ .pending = 61, .idle = true, .leader = -1 }; /* the next step */
    assert_true(sched_plan(seqs, 4, 4, &limits) > 1);
    assert_true(!seqs[1].preempt && seqs[3].count > 0);
}

#define LIVE 300

/* Times of LIVE requests that come one after another, to their first token, in the fake clock's
 * nanoseconds; beside as many background requests as there always are. */
static void run_live(double *ttft, int background)
{
    static sim_request live[LIVE], back[8];
    bool started[8] = { false };

    sim_open(&s, &(sim_options){ .blocks = 200, .seqs_max = 16, .step_tokens = 128 });
    for (int i = 0; i < LIVE; i++) {
        int64_t at = s.now_ns + (int64_t)rng(100) * 1000000;
        sim_request *r = &live[i];

        sim_request_init(r, "live");
        make_prompt(r, 0, 0, 40 + (int)rng(40));
        r->req.max_tokens = 6;
        s.arrival_ns = at;
        while (s.now_ns < at) {
            for (int b = 0; b < background; b++) {
                if (started[b] && !back[b].dones)
                    continue;
                sim_request_init(&back[b], "back");
                make_prompt(&back[b], 1, 20, 60);
                back[b].req.max_tokens = 40;
                back[b].req.priority = LLM_PRIORITY_IDLE;
                sim_submit(&s, &back[b]);
                started[b] = true;
            }
            if (background == 0)
                s.now_ns = at;
            sim_step(&s);
        }
        s.arrival_ns = 0;
        sim_submit(&s, r);
        while (r->got_count[0] == 0)
            sim_step(&s);
        ttft[i] = (double)(s.now_ns - at);
        while (!r->dones)
            sim_step(&s);
        sim_check_answer(&s, r);
    }
    while (s.e.live_count > 0)
        sim_step(&s);
    for (int b = 0; b < background; b++)
        sim_check_answer(&s, &back[b]);
    sim_close(&s);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The 99th percentile of the time to the first token worsens by less than a tenth. */
static void test_live_requests_hardly_feel_background(void **state)
{
    static double alone[LIVE], beside[LIVE];
    uint64_t start = rng_state;

    (void)state;
    make_docs();
    run_live(alone, 0);
    rng_state = start;
    make_docs();
    run_live(beside, 8);
    qsort(alone, LIVE, sizeof *alone, by_value);
    qsort(beside, LIVE, sizeof *beside, by_value);
    printf("# first token after %.2f ms alone, %.2f ms beside background work (p99), %.2f and %.2f "
           "(p50)\n",
           alone[LIVE * 99 / 100] / 1e6, beside[LIVE * 99 / 100] / 1e6, alone[LIVE / 2] / 1e6,
           beside[LIVE / 2] / 1e6);
    assert_true(beside[LIVE * 99 / 100] < 1.1 * alone[LIVE * 99 / 100]);
    assert_true(beside[LIVE / 2] < 1.1 * alone[LIVE / 2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_arrivals),
        cmocka_unit_test(test_shared_prefixes_are_computed_once),
        cmocka_unit_test(test_equal_costs_get_equal_service),
        cmocka_unit_test(test_service_is_by_tokens),
        cmocka_unit_test(test_who_comes_late_is_not_repaid),
        cmocka_unit_test(test_who_returns_owes_nothing),
        cmocka_unit_test(test_the_urgent_begin_first),
        cmocka_unit_test(test_nobody_waits_for_ever),
        cmocka_unit_test(test_order_of_waits),
        cmocka_unit_test(test_decodes_go_first_and_prompts_share_the_rest),
        cmocka_unit_test(test_guesses_fill_small_steps_only),
        cmocka_unit_test(test_nobody_begins_in_the_place_of_a_preempted),
        cmocka_unit_test(test_idle_ones_rest),
        cmocka_unit_test(test_idle_ones_make_room),
        cmocka_unit_test(test_live_requests_hardly_feel_background),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
