/* test_engine.c - the engine's parts that need no model: scheduler (simulated), KV pool, sampler,
 * team. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"

static uint64_t rng_state = 0x9e3779b97f4a7c15ULL;

static uint32_t rng(uint32_t below)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return (uint32_t)(rng_state >> 33) % below;
}

/* ---- scheduler ------------------------------------------------------------------------------- */

#define SIM_SEQS   12
#define SIM_BLOCKS 24

typedef struct sim_seq {
    int prompt, output, len, count; /* count: tokens that exist; len: of those in the cache */
    int blocks;
    bool sampled;
} sim_seq;

/* One step of the plan, applied to the simulated state. Returns tokens computed. */
static int sim_step(sim_seq *seqs, int *count, const sched_limits *l, int *free_blocks)
{
    sched_seq views[SIM_SEQS];
    int planned, used = 0, decodes = 0, decodes_run = 0;

    for (int i = 0; i < *count; i++) {
        views[i] = (sched_seq){ .len = seqs[i].len,
                                .pending = seqs[i].count - seqs[i].len,
                                .blocks = seqs[i].blocks,
                                .own = seqs[i].blocks,
                                .leader = -1,
                                .decoding = seqs[i].sampled && seqs[i].count - seqs[i].len == 1 };
        decodes += views[i].decoding;
    }
    planned = sched_plan(views, *count, *free_blocks, l);
    for (int i = 0; i < *count; i++) {
        if (views[i].preempt) {
            *free_blocks += seqs[i].blocks;
            seqs[i].blocks = seqs[i].len = 0;
            assert_int_equal(views[i].count, 0);
        }
        decodes_run += views[i].count == 1 && seqs[i].sampled;
    }
    for (int i = 0; i < *count; i++) {
        sim_seq *s = &seqs[i];
        int need = (s->len + views[i].count + l->block_tokens - 1) / l->block_tokens - s->blocks;

        assert_true(views[i].count >= 0 && views[i].count <= s->count - s->len);
        if (need > 0) {
            *free_blocks -= need;
            s->blocks += need;
        }
        assert_true(*free_blocks >= 0);
        s->len += views[i].count;
        used += views[i].count;
        if (s->len == s->count && views[i].count > 0) {
            s->count++;
            s->sampled = true;
        }
    }
    assert_int_equal(used, planned);
    assert_true(used <= l->step_tokens);
    if (decodes > 0 && decodes_run > 0 && used > decodes_run)
        assert_true(used <= SL_MAX(l->mixed_prefill + decodes_run, decodes_run));
    return used;
}

/* Random arrivals on a pool an eighth of what they need: everything ends, nothing leaks, somebody
 * always goes on, and the oldest is never the one that waits. */
static void test_scheduler_simulation(void **state)
{
    const sched_limits l = {
        .step_tokens = 32, .mixed_prefill = 8, .seqs_max = 6, .rows_max = 6, .block_tokens = 4
    };
    long steps = 0, done = 0, patterns = 100000;

    (void)state;
    for (long p = 0; p < patterns; p++) {
        sim_seq seqs[SIM_SEQS];
        int count = 0, free_blocks = SIM_BLOCKS, arrivals = 1 + (int)rng(SIM_SEQS * 2),
            oldest_wait = 0;

        while (arrivals > 0 || count > 0) {
            while (arrivals > 0 && count < SIM_SEQS && (count == 0 || rng(3) == 0)) {
                int total = 2 + (int)rng(SIM_BLOCKS * 4 - 2);
                int prompt = 1 + (int)rng((uint32_t)total - 1);

                seqs[count++] =
                    (sim_seq){ .prompt = prompt, .output = total - prompt, .count = prompt };
                arrivals--;
            }
            int before = seqs[0].len;

            assert_true(sim_step(seqs, &count, &l, &free_blocks) > 0);
            oldest_wait = seqs[0].len > before || seqs[0].blocks == 0 ? 0 : oldest_wait + 1;
            assert_true(oldest_wait < 3);
            assert_true(++steps < 100000000);
            for (int i = count - 1; i >= 0; i--)
                if (seqs[i].count - seqs[i].prompt >= seqs[i].output) {
                    free_blocks += seqs[i].blocks;
                    memmove(seqs + i, seqs + i + 1, (size_t)(count - i - 1) * sizeof *seqs);
                    count--;
                    done++;
                    oldest_wait = 0;
                }
        }
        assert_int_equal(free_blocks, SIM_BLOCKS);
    }
    assert_true(done > patterns);
}

/* ---- KV pool --------------------------------------------------------------------------------- */

static void test_kv_pool(void **state)
{
    const kv_shape shape = { .layers = 2, .kv_heads = 3, .head_dim = 16 };
    kv_pool *pool = NULL;
    kv_seq seqs[5];
    const kv_seq *list[5];
    sl_err err;

    (void)state;
    assert_int_equal(kv_pool_create(shape, kv_block_bytes(shape) * 20, &pool, &err), SL_OK);
    assert_int_equal(pool->block_count, 20);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(kv_seq_init(&seqs[i], 400, 0, &err), SL_OK);
        list[i] = &seqs[i];
    }
    for (int round = 0; round < 5000; round++) {
        kv_seq *s = &seqs[rng(5)];

        if (rng(4) == 0) {
            kv_seq_clear(pool, s);
        } else {
            int want = s->len + 1 + (int)rng(60), missing = kv_seq_missing(s, want);
            int had = s->block_count, left = pool->free_count;

            if (want <= 400 && kv_seq_reserve(pool, s, want)) {
                assert_true(missing <= left);
                s->len = want;
            } else if (want <= 400) {
                assert_true(missing > left && s->block_count == had);
            }
        }
        kv_pool_check(pool, list, 5);
    }
    for (int i = 0; i < 5; i++)
        kv_seq_deinit(pool, &seqs[i]);
    assert_int_equal(pool->free_count, 20);
    kv_pool_destroy(pool);
}

/* ---- sampler --------------------------------------------------------------------------------- */

#define VOCAB 1000

static kernels test_kernels;

static int32_t pick(sampler *s, const float *logits, llm_sampling o, uint64_t *r)
{
    static const int32_t none[1];
    float copy[VOCAB];

    memcpy(copy, logits, sizeof copy);
    return sampler_pick(s, copy, &o, &(sampler_history){ none, 0, 0 }, r);
}

/* Frequencies of many draws against the distribution that the settings describe. */
static void test_sampler_distributions(void **state)
{
    float logits[VOCAB];
    sampler s;
    sl_err err;
    uint64_t r = sampler_seed(42, 0);
    int counts[VOCAB] = { 0 };
    llm_sampling o = llm_sampling_default();

    (void)state;
    assert_int_equal(sampler_init(&s, &test_kernels, VOCAB, &err), SL_OK);
    for (int i = 0; i < VOCAB; i++)
        logits[i] = -40;
    /* p = 0.5, 0.25, 0.15, 0.1 */
    logits[10] = logf(0.5f);
    logits[700] = logf(0.25f);
    logits[3] = logf(0.15f);
    logits[999] = logf(0.1f);
    for (int i = 0; i < 40000; i++)
        counts[pick(&s, logits, o, &r)]++;
    assert_true(abs(counts[10] - 20000) < 600 && abs(counts[700] - 10000) < 600);
    assert_true(abs(counts[3] - 6000) < 500 && abs(counts[999] - 4000) < 400);
    o.top_p = 0.7f; /* the two best reach 0.75 */
    for (int i = 0; i < 2000; i++) {
        int32_t t = pick(&s, logits, o, &r);

        assert_true(t == 10 || t == 700);
    }
    o.top_p = 1;
    o.top_k = 3;
    for (int i = 0; i < 2000; i++)
        assert_true(pick(&s, logits, o, &r) != 999);
    o.top_k = 0;
    o.min_p = 0.4f; /* of the best: 0.2 and more */
    for (int i = 0; i < 2000; i++) {
        int32_t t = pick(&s, logits, o, &r);

        assert_true(t == 10 || t == 700);
    }
    o = llm_sampling_default();
    o.temperature = 0;
    for (int i = 0; i < 10; i++)
        assert_int_equal(pick(&s, logits, o, &r), 10);
    sampler_deinit(&s);
}

static void test_sampler_penalties(void **state)
{
    const int32_t history[] = { 5, 6, 6, 7 };
    float logits[VOCAB] = { 0 };
    sampler s;
    sl_err err;
    uint64_t r = 1;
    llm_sampling o = llm_sampling_default();
    llm_logit_bias bias[] = { { 9, 3.0f }, { 8, -100 } };

    (void)state;
    assert_int_equal(sampler_init(&s, &test_kernels, VOCAB, &err), SL_OK);
    o.temperature = 0;
    o.frequency_penalty = 1.0f;
    o.presence_penalty = 0.5f;
    o.bias = bias;
    o.bias_count = 2;
    logits[5] = logits[6] = logits[7] = 4;
    /* 5 was in the prompt and is not penalised by presence or frequency */
    assert_int_equal(sampler_pick(&s, logits, &o, &(sampler_history){ history, 1, 4 }, &r), 5);
    assert_true(fabsf(logits[6] - (4 - 2 - 0.5f)) < 1e-6f);
    assert_true(fabsf(logits[7] - (4 - 1 - 0.5f)) < 1e-6f);
    assert_true(logits[9] == 3.0f && logits[8] == -100.0f);
    memset(logits, 0, sizeof logits);
    logits[5] = 4;
    logits[6] = -1;
    logits[1] = 3;
    o = llm_sampling_default();
    o.temperature = 0;
    o.repetition_penalty = 2.0f; /* prompt too */
    assert_int_equal(sampler_pick(&s, logits, &o, &(sampler_history){ history, 1, 4 }, &r), 1);
    assert_true(logits[5] == 2.0f && logits[6] == -2.0f);
    for (int i = 0; i < VOCAB; i++)
        assert_int_equal(s.counts[i], 0);
    sampler_deinit(&s);
}

static void test_sampler_seed_and_top(void **state)
{
    float logits[VOCAB];
    int32_t top[5], first[20];
    sampler s;
    sl_err err;

    (void)state;
    assert_int_equal(sampler_init(&s, &test_kernels, VOCAB, &err), SL_OK);
    for (int i = 0; i < VOCAB; i++)
        logits[i] = (float)rng(1000) / 300.0f;
    for (int round = 0; round < 2; round++) {
        uint64_t r = sampler_seed(7, 3);

        for (int i = 0; i < 20; i++) {
            int32_t t = pick(&s, logits, llm_sampling_default(), &r);

            if (round == 0)
                first[i] = t;
            else
                assert_int_equal(t, first[i]);
        }
    }
    assert_true(sampler_seed(7, 3) != sampler_seed(7, 4));
    logits[44] = logits[33] = 50;
    logits[2] = 60;
    sampler_top(logits, VOCAB, 5, top);
    assert_int_equal(top[0], 2);
    assert_int_equal(top[1], 33); /* ties: the lower id first */
    assert_int_equal(top[2], 44);
    assert_true(fabsf(sampler_log_sum(&test_kernels, logits, VOCAB) - 60.0f) < 0.01f);
    sampler_deinit(&s);
}

/* ---- team ------------------------------------------------------------------------------------ */

typedef struct counting {
    team *t;
    int phase[8];
} counting;

static void count_phases(void *ctx, int member, int count)
{
    counting *c = ctx;

    for (int p = 0; p < 50; p++) {
        c->phase[member] = p;
        team_barrier(c->t);
        for (int m = 0; m < count; m++)
            assert_int_equal(c->phase[m], p);
        team_barrier(c->t);
    }
}

static void test_team(void **state)
{
    sl_err err;

    (void)state;
    for (int count = 1; count <= 5; count += 2) {
        counting c = { 0 };

        assert_int_equal(team_create(count, &c.t, &err), SL_OK);
        for (int i = 0; i < 20; i++)
            team_run(c.t, count_phases, &c);
        team_destroy(c.t);
    }
    assert_int_equal(team_create(0, NULL, &err), SL_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scheduler_simulation),  cmocka_unit_test(test_kv_pool),
        cmocka_unit_test(test_sampler_distributions), cmocka_unit_test(test_sampler_penalties),
        cmocka_unit_test(test_sampler_seed_and_top),  cmocka_unit_test(test_team),
    };

    kernels_init(&test_kernels, kernels_cpu());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
