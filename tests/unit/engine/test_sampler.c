/* test_sampler.c - penalties, seeds, and every truncation against a plain reference. */
#include <math.h>

#include "tests_engine.h"

#define VOCAB 1000

static kernels test_kernels;

static int32_t pick(sampler *s, const float *logits, llm_sampling o, uint64_t *r)
{
    static const int32_t none[1];
    float copy[VOCAB];

    memcpy(copy, logits, sizeof copy);
    return sampler_pick(s, copy, &o, &(sampler_history){ none, 0, 0 }, r);
}

/* ---- distributions --------------------------------------------------------------------------- */

#define VOCAB_MAX 3000
#define GROUPS    16 /* of tokens, whose frequencies are compared */

typedef struct entry {
    double p, key; /* sorted by key, then id */
    int id;
} entry;

static int by_key(const void *a, const void *b)
{
    const entry *x = a, *y = b;

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->id - y->id;
}

static double mass_of(const entry *e, int n)
{
    double mass = 0;

    for (int i = 0; i < n; i++)
        mass += e[i].p;
    return mass;
}

/* The first entries in the order of their keys whose mass reaches `part` of all; at least one. */
static int keep_mass(entry *e, int n, double part)
{
    double mass = mass_of(e, n), sum = 0;
    int kept = 0;

    qsort(e, (size_t)n, sizeof *e, by_key);
    while (kept < n && (kept == 0 || sum < part * mass))
        sum += e[kept++].p;
    return kept;
}

/* What sampler.h says, with sorting: fills p [vocab] with the probabilities. */
static void reference(const float *logits, int vocab, const llm_sampling *o, double *p)
{
    static entry e[VOCAB_MAX];
    double best = -INFINITY, entropy = 0, mass, most = 0;
    int n = vocab;

    for (int i = 0; i < n; i++)
        best = fmax(best, (double)(logits[i] * (1.0f / o->temperature)));
    for (int i = 0; i < n; i++)
        e[i] = (entry){ exp((double)(logits[i] * (1.0f / o->temperature)) - best),
                        -(double)logits[i], i };
    qsort(e, (size_t)n, sizeof *e, by_key);
    if (o->top_k > 0 && o->top_k < n)
        n = o->top_k;
    if (o->typical_p > 0 && o->typical_p < 1.0f) {
        mass = mass_of(e, n);
        for (int i = 0; i < n; i++)
            entropy -= e[i].p > 0 ? e[i].p / mass * log(e[i].p / mass) : 0;
        for (int i = 0; i < n; i++) /* to float, so that equals are equal */
            e[i].key = (double)(float)fabs(-log(fmax(e[i].p / mass, 1e-300)) - entropy);
        n = keep_mass(e, n, (double)o->typical_p);
    }
    for (int i = 0; i < n; i++) {
        e[i].key = -e[i].p;
        most = fmax(most, e[i].p);
    }
    if (o->top_p < 1.0f)
        n = keep_mass(e, n, (double)o->top_p);
    mass = 0;
    for (int i = 0; i < n; i++)
        mass += e[i].p >= (double)o->min_p * most ? e[i].p : 0;
    memset(p, 0, (size_t)vocab * sizeof *p);
    for (int i = 0; i < n; i++)
        if (e[i].p >= (double)o->min_p * most)
            p[e[i].id] = e[i].p / mass;
}

static void compare(const char *what, const float *logits, int vocab, const llm_sampling *o,
                    int draws)
{
    static double p[VOCAB_MAX];
    static const int32_t none[1];
    int counts[GROUPS] = { 0 };
    double want[GROUPS] = { 0 };
    uint64_t r = sampler_seed(rng(1000000), 0);
    sampler s;
    sl_err err;

    assert_int_equal(sampler_init(&s, &test_kernels, vocab, &err), SL_OK);
    reference(logits, vocab, o, p);
    for (int i = 0; i < vocab; i++)
        want[i % GROUPS] += p[i];
    for (int i = 0; i < draws; i++) {
        float copy[VOCAB_MAX];
        int32_t t;

        memcpy(copy, logits, (size_t)vocab * sizeof *copy);
        t = sampler_pick(&s, copy, o, &(sampler_history){ none, 0, 0 }, &r);
        if (t < 0 || t >= vocab || p[t] == 0)
            fail_msg("%s, vocabulary %d, k %d, p %g, min %g, typical %g: token %d is cut off", what,
                     vocab, o->top_k, (double)o->top_p, (double)o->min_p, (double)o->typical_p, t);
        counts[t % GROUPS]++;
    }
    for (int g = 0; g < GROUPS; g++)
        if (fabs(counts[g] - want[g] * draws) > 5 * sqrt(want[g] * (1 - want[g]) * draws) + 1)
            fail_msg("%s, vocabulary %d, k %d, p %g, min %g, typical %g: group %d has %d, not %g",
                     what, vocab, o->top_k, (double)o->top_p, (double)o->min_p,
                     (double)o->typical_p, g, counts[g], want[g] * draws);
    sampler_deinit(&s);
}

static void fill_logits(int kind, float *logits, int vocab)
{
    for (int i = 0; i < vocab; i++) {
        float u = (float)rng(1000001) / 1e6f, v = (float)rng(1000001) / 1e6f;

        switch (kind) {
        case 0: /* all equal */
            logits[i] = 1.5f;
            break;
        case 1: /* nearly flat */
            logits[i] = u * 0.1f;
            break;
        case 2: /* as models do: some far above the rest */
            logits[i] = 4 * sqrtf(-2 * logf(u + 1e-9f)) * cosf(6.2831853f * v);
            break;
        case 3: /* one takes all */
            logits[i] = u + (i == vocab / 3 ? 50.0f : 0.0f);
            break;
        case 4: /* ties at every edge */
            logits[i] = (float)rng(5);
            break;
        default: /* some are forbidden */
            logits[i] = rng(3) ? u * 6 : -INFINITY;
        }
    }
    if (kind == 5)
        logits[vocab - 1] = 3;
}

static void test_distributions(void **state)
{
    static const char *const kinds[] = { "flat",   "nearly flat", "a model's",
                                         "peaked", "ties",        "forbidden" };
    static const int vocabs[] = { 5, 300, VOCAB_MAX };
    /* top_k, top_p, min_p, typical_p, temperature; -1: the vocabulary, -2: more */
    static const float settings[][5] = {
        { 0, 1, 0, 1, 1 },           { 0, 1, 0, 1, 0.5f },
        { 2, 1, 0, 1, 1 },           { 40, 1, 0, 1, 2 },
        { -1, 1, 0, 1, 1 },          { -2, 0.9f, 0, 1, 1 },
        { 0, 0, 0, 1, 1 },           { 0, 0.1f, 0, 1, 1 },
        { 0, 0.5f, 0, 1, 1.5f },     { 0, 0.95f, 0, 1, 1 },
        { 0, 1, 0.05f, 1, 1 },       { 0, 1, 0.5f, 1, 1 },
        { 0, 1, 1, 1, 1 },           { 0, 1, 0, 0.2f, 1 },
        { 0, 1, 0, 0.9f, 1 },        { 40, 0.9f, 0.05f, 1, 1 },
        { 0, 0.8f, 0.1f, 1, 0.7f },  { 40, 1, 0, 0.5f, 1 },
        { 0, 0.7f, 0, 0.9f, 1 },     { 0, 1, 0.3f, 0.6f, 1 },
        { 20, 0.5f, 0.1f, 0.8f, 1 }, { 3, 0.99f, 0.01f, 1, 1.2f },
    };

    (void)state;
    for (size_t n = 0; n < SL_COUNT_OF(vocabs); n++)
        for (int kind = 0; kind < (int)SL_COUNT_OF(kinds); kind++)
            for (size_t i = 0; i < SL_COUNT_OF(settings); i++) {
                static float logits[VOCAB_MAX];
                const float *set = settings[i];
                llm_sampling o = llm_sampling_default();
                int k = (int)set[0];

                o.top_k = k < 0 ? vocabs[n] - (k + 1) * 7 : k;
                o.top_p = set[1];
                o.min_p = set[2];
                o.typical_p = set[3];
                o.temperature = set[4];
                fill_logits(kind, logits, vocabs[n]);
                compare(kinds[kind], logits, vocabs[n], &o, vocabs[n] > 1000 ? 150 : 3000);
            }
}

/* Temperature 0 and top_k 1 take the best and no random number. */
static void test_greedy(void **state)
{
    float logits[VOCAB] = { 0 };
    sampler s;
    sl_err err;
    uint64_t r = 77;
    llm_sampling o = llm_sampling_default();

    (void)state;
    assert_int_equal(sampler_init(&s, &test_kernels, VOCAB, &err), SL_OK);
    logits[700] = logits[500] = 1;
    o.temperature = 0;
    assert_int_equal(pick(&s, logits, o, &r), 500);
    o.temperature = 1;
    o.top_k = 1;
    assert_int_equal(pick(&s, logits, o, &r), 500);
    assert_true(r == 77);
    sampler_deinit(&s);
}

/* ---- what may be said ------------------------------------------------------------------------ */

static llm_sampling random_sampling(void)
{
    llm_sampling o = llm_sampling_default();

    o.temperature = one_in(3) ? 0 : 0.5f + (float)rng(100) / 50.0f;
    o.top_k = one_in(2) ? 0 : 1 + (int32_t)rng(60);
    o.top_p = one_in(2) ? 1 : (float)rng(100) / 100.0f;
    o.min_p = one_in(3) ? 0.1f : 0;
    o.typical_p = one_in(4) ? 0.5f : 1;
    o.repetition_penalty = one_in(4) ? 1.3f : 1;
    return o;
}

/* Whatever the settings: only allowed tokens come, and no banned run is ever completed. */
static void test_forbidden_tokens(void **state)
{
    sampler s;
    sl_err err;
    uint64_t r = 5;

    (void)state;
    assert_int_equal(sampler_init(&s, &test_kernels, VOCAB, &err), SL_OK);
    for (int round = 0; round < 4000; round++) {
        int32_t allowed[8], runs[4][3], tokens[40] = { 1, 2 };
        llm_token_run banned[4];
        llm_sampling o = random_sampling();

        o.allowed = allowed;
        o.allowed_count = one_in(2) ? 1 + rng(8) : 0;
        for (size_t i = 0; i < SL_COUNT_OF(allowed); i++)
            allowed[i] = (int32_t)rng(one_in(2) ? 12 : VOCAB);
        o.banned = banned;
        o.banned_count = rng(5);
        for (int i = 0; i < 4; i++) {
            for (int k = 0; k < 3; k++)
                runs[i][k] = one_in(2) ? allowed[rng(8)] : (int32_t)rng(12);
            banned[i] = (llm_token_run){ runs[i], 1 + rng(3) };
        }
        for (int n = 2; n < 40; n++) {
            float logits[VOCAB];
            bool is_allowed = o.allowed_count == 0;

            for (int i = 0; i < VOCAB; i++)
                logits[i] = (float)rng(1000) / 100.0f + (i < 12 ? 20.0f : 0);
            tokens[n] = sampler_pick(&s, logits, &o, &(sampler_history){ tokens, 2, n }, &r);
            if (tokens[n] < 0)
                break; /* nothing is left; seen below that it is so */
            for (size_t i = 0; i < o.allowed_count; i++)
                is_allowed = is_allowed || allowed[i] == tokens[n];
            assert_true(is_allowed);
            for (size_t i = 0; i < o.banned_count; i++)
                assert_true(n - 2 + 1 < (int)banned[i].count ||
                            memcmp(tokens + n + 1 - banned[i].count, banned[i].ids,
                                   banned[i].count * sizeof(int32_t)) != 0);
        }
        for (int i = 0; i < VOCAB; i++)
            assert_int_equal(s.counts[i], 0);
    }
    sampler_deinit(&s);
}

static void test_nothing_is_left(void **state)
{
    const int32_t seven = 7, history[] = { 3, 7 };
    llm_token_run ban = { &seven, 1 };
    float logits[VOCAB] = { 0 };
    llm_sampling o = llm_sampling_default();
    uint64_t r = 5;
    sampler s;
    sl_err err;

    (void)state;
    assert_int_equal(sampler_init(&s, &test_kernels, VOCAB, &err), SL_OK);
    o.allowed = &seven;
    o.allowed_count = 1;
    assert_int_equal(pick(&s, logits, o, &r), 7);
    o.banned = &ban;
    o.banned_count = 1;
    for (int greedy = 0; greedy < 2; greedy++) {
        o.temperature = greedy ? 0 : 1;
        assert_int_equal(pick(&s, logits, o, &r), -1);
    }
    /* A run is looked for in what was generated, not in the prompt. */
    o.allowed_count = 0;
    o.temperature = 0;
    ban = (llm_token_run){ history, 2 };
    logits[7] = 1;
    assert_int_equal(sampler_pick(&s, logits, &o, &(sampler_history){ history, 1, 1 }, &r), 7);
    logits[7] = 1;
    assert_true(sampler_pick(&s, logits, &o, &(sampler_history){ history, 0, 1 }, &r) != 7);
    memset(logits, 0, sizeof logits);
    logits[4] = 2;
    logits[9] = 3;
    assert_int_equal(sampler_rank(&s, logits, 9), 1);
    assert_int_equal(sampler_rank(&s, logits, 4), 2);
    assert_int_equal(sampler_rank(&s, logits, 5), VOCAB);
    sampler_deinit(&s);
}

/* ---- the rest -------------------------------------------------------------------------------- */

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
    sampler_top(logits, VOCAB, 0, NULL); /* logprobs without alternatives */
    sampler_top(logits, VOCAB, 5, top);
    assert_int_equal(top[0], 2);
    assert_int_equal(top[1], 33); /* ties: the lower id first */
    assert_int_equal(top[2], 44);
    assert_true(fabsf(sampler_log_sum(&test_kernels, logits, VOCAB) - 60.0f) < 0.01f);
    sampler_deinit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distributions),     cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_forbidden_tokens),  cmocka_unit_test(test_nothing_is_left),
        cmocka_unit_test(test_sampler_penalties), cmocka_unit_test(test_sampler_seed_and_top),
    };

    kernels_init(&test_kernels, kernels_cpu());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
