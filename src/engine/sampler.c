/* sampler.c - penalties, truncation and the draw. */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>

#define WINDOW_START 8.0f /* logits this far below the best are looked at first */

sl_status sampler_init(sampler *s, int vocab, sl_err *err)
{
    *s = (sampler){ .vocab = vocab };
    s->candidates = sl_calloc((size_t)vocab, sizeof *s->candidates);
    s->counts = sl_calloc((size_t)vocab, sizeof *s->counts);
    if (s->candidates && s->counts)
        return SL_OK;
    sampler_deinit(s);
    return sl_fail(err, SL_ENOMEM, "out of memory");
}

void sampler_deinit(sampler *s)
{
    sl_free(s->candidates);
    sl_free(s->counts);
    *s = (sampler){ 0 };
}

/* SplitMix64 (Steele et al. 2014). */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ULL;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

uint64_t sampler_seed(uint64_t seed, uint32_t choice)
{
    uint64_t state = seed + (uint64_t)choice * 0xd1342543de82ef95ULL;

    return next_random(&state);
}

static void apply_penalties(sampler *s, float *logits, const llm_sampling *o,
                            const sampler_history *h)
{
    int from = o->penalty_last_n < 0 ? 0 : SL_MAX(0, h->count - o->penalty_last_n);

    if (o->repetition_penalty != 1.0f)
        for (int i = from; i < h->count; i++) {
            int32_t t = h->tokens[i];

            if (s->counts[t]++ == 0)
                logits[t] = logits[t] > 0 ? logits[t] / o->repetition_penalty
                                          : logits[t] * o->repetition_penalty;
        }
    for (int i = from; i < h->count; i++)
        s->counts[h->tokens[i]] = 0;
    if (o->presence_penalty == 0 && o->frequency_penalty == 0)
        return;
    from = SL_MAX(from, h->prompt_count); /* what the model wrote, not what it was given */
    for (int i = from; i < h->count; i++) {
        int32_t t = h->tokens[i];

        logits[t] -= o->frequency_penalty + (s->counts[t]++ == 0 ? o->presence_penalty : 0);
    }
    for (int i = from; i < h->count; i++)
        s->counts[h->tokens[i]] = 0;
}

static int32_t argmax(const float *logits, int vocab)
{
    int32_t best = 0;

    for (int32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

static int by_logit(const void *a, const void *b)
{
    const sampler_candidate *x = a, *y = b;

    if (x->logit != y->logit)
        return x->logit < y->logit ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Fills candidates with the logits within `window` of the best; p relative to it. */
static int gather(sampler *s, const float *logits, float best, float window, double *ret_mass)
{
    int n = 0;

    *ret_mass = 0;
    for (int32_t i = 0; i < s->vocab; i++)
        if (logits[i] >= best - window) {
            float p = expf(logits[i] - best);

            s->candidates[n++] = (sampler_candidate){ logits[i], p, i };
            *ret_mass += (double)p;
        }
    return n;
}

/* The candidates that can matter, sorted: at least top_k, and top_p of the mass. Most of the
 * vocabulary is far below the best and is neither sorted nor kept. */
static int shortlist(sampler *s, const float *logits, const llm_sampling *o, float best,
                     double *ret_mass)
{
    double total = 0, mass;
    int n, all = s->vocab;

    for (int i = 0; i < s->vocab; i++)
        total += (double)expf(logits[i] - best);
    for (float window = WINDOW_START;; window *= 2) {
        bool enough_p, enough_k;

        n = gather(s, logits, best, window, &mass);
        enough_p = o->top_p < 1.0f && mass >= (double)o->top_p * total;
        enough_k = o->top_k > 0 && n >= o->top_k;
        if (n == all || window > 1e30f || enough_k || (o->top_k <= 0 && enough_p) ||
            (o->top_k <= 0 && o->top_p >= 1.0f && o->min_p > 0 && expf(-window) < o->min_p))
            break;
    }
    qsort(s->candidates, (size_t)n, sizeof *s->candidates, by_logit);
    *ret_mass = total;
    return n;
}

static double mass_of(const sampler *s, int n)
{
    double mass = 0;

    for (int i = 0; i < n; i++)
        mass += (double)s->candidates[i].p;
    return mass;
}

static int by_surprise(const void *a, const void *b)
{
    const sampler_candidate *x = a, *y = b;

    /* logit was replaced by the distance from the entropy */
    if (x->logit != y->logit)
        return x->logit > y->logit ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Locally typical sampling (Meister et al. 2022): keeps the tokens whose surprise is nearest to
 * the entropy, up to typical_p of the mass. */
static int keep_typical(sampler *s, int n, double mass, float typical_p)
{
    double entropy = 0, sum = 0;
    int kept = 0;

    for (int i = 0; i < n; i++) {
        double p = (double)s->candidates[i].p / mass;

        entropy -= p > 0 ? p * log(p) : 0;
    }
    for (int i = 0; i < n; i++) {
        double p = (double)s->candidates[i].p / mass;

        s->candidates[i].logit = (float)fabs(-log(p > 1e-300 ? p : 1e-300) - entropy);
    }
    qsort(s->candidates, (size_t)n, sizeof *s->candidates, by_surprise);
    while (kept < n && (sum += (double)s->candidates[kept++].p / mass) < (double)typical_p)
        continue;
    for (int i = 0; i < kept; i++)
        s->candidates[i].logit = logf(s->candidates[i].p);
    qsort(s->candidates, (size_t)kept, sizeof *s->candidates, by_logit);
    return kept;
}

static int32_t draw(const sampler *s, int n, uint64_t *rng)
{
    double r = (double)(next_random(rng) >> 11) * 0x1p-53 * mass_of(s, n);

    for (int i = 0; i < n; i++) {
        r -= (double)s->candidates[i].p;
        if (r < 0)
            return s->candidates[i].id;
    }
    return s->candidates[n - 1].id;
}

int32_t sampler_pick(sampler *s, float *logits, const llm_sampling *o, const sampler_history *h,
                     uint64_t *rng)
{
    double mass, sum = 0;
    int n, kept = 0;
    float best;

    for (size_t i = 0; i < o->bias_count; i++)
        logits[o->bias[i].token] += o->bias[i].bias;
    if (o->repetition_penalty != 1.0f || o->presence_penalty != 0 || o->frequency_penalty != 0)
        apply_penalties(s, logits, o, h);
    if (o->temperature <= 0 || o->top_k == 1)
        return argmax(logits, s->vocab);
    for (int i = 0; i < s->vocab; i++)
        logits[i] /= o->temperature;
    best = logits[argmax(logits, s->vocab)];
    n = shortlist(s, logits, o, best, &mass);
    if (o->top_k > 0 && o->top_k < n) {
        n = o->top_k;
        mass = mass_of(s, n);
    }
    if (o->typical_p > 0 && o->typical_p < 1.0f) {
        n = keep_typical(s, n, mass, o->typical_p);
        mass = mass_of(s, n);
    }
    if (o->top_p < 1.0f) {
        while (kept < n && (sum += (double)s->candidates[kept++].p) < (double)o->top_p * mass)
            continue;
        n = SL_MAX(kept, 1);
    }
    if (o->min_p > 0) {
        float floor = o->min_p * s->candidates[0].p;

        for (kept = 1; kept < n && s->candidates[kept].p >= floor; kept++)
            continue;
        n = kept;
    }
    return draw(s, n, rng);
}

float sampler_log_sum(const float *logits, int vocab)
{
    float best = logits[argmax(logits, vocab)];
    double sum = 0;

    for (int i = 0; i < vocab; i++)
        sum += (double)expf(logits[i] - best);
    return best + (float)log(sum);
}

void sampler_top(const float *logits, int vocab, int count, int32_t *ret_ids)
{
    int n = 0;

    for (int32_t i = 0; i < vocab; i++) {
        int at = n;

        if (n == count && !(logits[i] > logits[ret_ids[n - 1]]))
            continue;
        while (at > 0 && logits[i] > logits[ret_ids[at - 1]])
            at--;
        if (n < count)
            n++;
        for (int j = n - 1; j > at; j--)
            ret_ids[j] = ret_ids[j - 1];
        ret_ids[at] = i;
    }
}
