/* sampler.c - penalties, truncation and the draw. */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>

#define WINDOW_START 1.0f /* logits this far below the best are looked at first */
#define DRAW_BLOCK   1024 /* of a draw from the whole vocabulary */
#define REDRAWS_MAX  200

sl_status sampler_init(sampler *s, const kernels *k, int vocab, sl_err *err)
{
    *s = (sampler){ .k = k, .vocab = vocab };
    s->candidates = sl_calloc((size_t)vocab, sizeof *s->candidates);
    s->ids = sl_calloc((size_t)vocab, sizeof *s->ids);
    s->counts = sl_calloc((size_t)vocab, sizeof *s->counts);
    s->block_mass = sl_calloc((size_t)vocab / DRAW_BLOCK + 1, sizeof *s->block_mass);
    if (s->candidates && s->ids && s->counts && s->block_mass)
        return SL_OK;
    sampler_deinit(s);
    return sl_fail(err, SL_ENOMEM, "out of memory");
}

void sampler_deinit(sampler *s)
{
    sl_free(s->candidates);
    sl_free(s->ids);
    sl_free(s->counts);
    sl_free(s->block_mass);
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

/* Forbids all tokens but the allowed ones. */
static void apply_allowed(sampler *s, float *logits, const llm_sampling *o)
{
    for (size_t i = 0; i < o->allowed_count; i++)
        s->counts[o->allowed[i]] = 1;
    for (int i = 0; i < s->vocab; i++)
        if (s->counts[i] == 0)
            logits[i] = -INFINITY;
    for (size_t i = 0; i < o->allowed_count; i++)
        s->counts[o->allowed[i]] = 0;
}

/* Forbids the tokens that would complete a banned run with what was written before. */
static void apply_banned(float *logits, const llm_sampling *o, const sampler_history *h)
{
    for (size_t i = 0; i < o->banned_count; i++) {
        const llm_token_run *run = &o->banned[i];
        size_t before = run->count - 1;

        if (before <= (size_t)(h->count - h->prompt_count) &&
            memcmp(h->tokens + h->count - before, run->ids, before * sizeof *run->ids) == 0)
            logits[run->ids[before]] = -INFINITY;
    }
}

/* Order of candidates: the likelier first, of equals the lower id. */
static bool comes_before(const sampler_candidate *a, const sampler_candidate *b)
{
    return a->logit != b->logit ? a->logit > b->logit : a->id < b->id;
}

static void swap(sampler_candidate *a, sampler_candidate *b)
{
    sampler_candidate t = *a;

    *a = *b;
    *b = t;
}

/* Moves what comes before a pivot to the front of c[lo, hi); returns the pivot's place. */
static int partition(sampler_candidate *c, int lo, int hi)
{
    int at = lo;

    swap(&c[lo + (hi - lo) / 2], &c[hi - 1]);
    for (int i = lo; i < hi - 1; i++)
        if (comes_before(&c[i], &c[hi - 1]))
            swap(&c[i], &c[at++]);
    swap(&c[at], &c[hi - 1]);
    return at;
}

/* The first k of n candidates, in any order, to the front (Hoare's selection). */
static void select_top(sampler_candidate *c, int n, int k)
{
    int lo = 0, hi = n;

    while (hi - lo > 1) {
        int at = partition(c, lo, hi);

        if (at == k || at + 1 == k)
            return;
        if (at > k)
            hi = at;
        else
            lo = at + 1;
    }
}

static int by_logit(const void *a, const void *b)
{
    return comes_before(a, b) ? -1 : comes_before(b, a);
}

/* Fills candidates with the logits within `window` of the best; p relative to it. */
static int gather(sampler *s, const float *logits, float best, float window, double *ret_mass)
{
    int n = (int)s->k->above(logits, (size_t)s->vocab, best - window, s->ids);

    *ret_mass = 0;
    for (int i = 0; i < n; i++) {
        float p = expf(logits[s->ids[i]] - best);

        s->candidates[i] = (sampler_candidate){ logits[s->ids[i]], p, s->ids[i] };
        *ret_mass += (double)p;
    }
    return n;
}

/* The candidates that top-k may keep, or all. */
static int shortlist(sampler *s, const float *logits, const llm_sampling *o, float best,
                     double *ret_mass)
{
    bool by_k = o->top_k > 0 && o->top_k < s->vocab;
    float window = by_k ? WINDOW_START : INFINITY;
    int n = gather(s, logits, best, window, ret_mass);

    while (by_k && n < o->top_k && n < s->vocab)
        n = gather(s, logits, best, window *= 2, ret_mass);
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

static double random_part(uint64_t *rng)
{
    return (double)(next_random(rng) >> 11) * 0x1p-53;
}

static int32_t draw(const sampler *s, int n, uint64_t *rng)
{
    double r = random_part(rng) * mass_of(s, n);

    for (int i = 0; i < n; i++) {
        r -= (double)s->candidates[i].p;
        if (r < 0)
            return s->candidates[i].id;
    }
    while (n > 1 && s->candidates[n - 1].p == 0) /* rounding */
        n--;
    return s->candidates[n - 1].id;
}

/* From all tokens with logits from floor on: first a block of tokens by its mass, then one of its
 * tokens. */
static int32_t draw_above(sampler *s, const float *logits, float best, float floor, uint64_t *rng)
{
    int blocks = (s->vocab + DRAW_BLOCK - 1) / DRAW_BLOCK, b = 0, last = 0, from, to;
    double total = 0, r;

    for (int i = 0; i < blocks; i++) {
        from = i * DRAW_BLOCK;
        s->block_mass[i] =
            s->k->sum_exp(logits + from, (size_t)SL_MIN(DRAW_BLOCK, s->vocab - from), best, floor);
        total += s->block_mass[i];
        last = s->block_mass[i] > 0 ? i : last;
    }
    for (r = random_part(rng) * total; b < last && r >= s->block_mass[b]; b++)
        r -= s->block_mass[b];
    from = b * DRAW_BLOCK;
    to = SL_MIN(from + DRAW_BLOCK, s->vocab);
    for (int i = from; i < to; i++) {
        r -= logits[i] >= floor ? (double)expf(logits[i] - best) : 0;
        if (r < 0)
            return i;
    }
    return from + (int32_t)s->k->argmax(logits + from, (size_t)(to - from)); /* rounding */
}

/* Whether the tokens before t (likelier, or as likely and of a lower id) leave room for it in the
 * mass of top-p. */
static bool in_nucleus(const sampler *s, const float *logits, float best, int32_t t, double mass)
{
    float above = nextafterf(logits[t], INFINITY);
    size_t rest = (size_t)(s->vocab - t - 1);
    double before = s->k->sum_exp(logits, (size_t)t, best, logits[t]) +
                    s->k->sum_exp(logits + t + 1, rest, best, above);

    return before == 0 || before < mass;
}

/* Top-p and min-p over the whole vocabulary without sorting it: a token is drawn from what min-p
 * keeps, and drawn again while it is outside the nucleus (Holtzman et al. 2020), 1/p times in the
 * mean. */
static int32_t draw_nucleus(sampler *s, const float *logits, const llm_sampling *o, float best,
                            uint64_t *rng)
{
    float floor = o->min_p > 0 ? best + logf(o->min_p) : -INFINITY;
    double mass;

    if (o->top_p >= 1.0f)
        return draw_above(s, logits, best, floor, rng);
    mass = (double)o->top_p * s->k->sum_exp(logits, (size_t)s->vocab, best, -INFINITY);
    for (int i = 0; i < REDRAWS_MAX; i++) {
        int32_t t = draw_above(s, logits, best, floor, rng);

        if (in_nucleus(s, logits, best, t, mass))
            return t;
    }
    return (int32_t)s->k->argmax(logits, (size_t)s->vocab); /* a nucleus next to nothing */
}

/* Top-k, typical, top-p, min-p, in this order; returns how many candidates are left. */
static int truncate(sampler *s, const float *logits, const llm_sampling *o, float best)
{
    double mass, sum = 0;
    int n = shortlist(s, logits, o, best, &mass), kept = 0;

    if (o->top_k > 0 && o->top_k < n) {
        select_top(s->candidates, n, o->top_k);
        n = o->top_k;
        mass = mass_of(s, n);
    }
    qsort(s->candidates, (size_t)n, sizeof *s->candidates, by_logit);
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
    return n;
}

int32_t sampler_pick(sampler *s, float *logits, const llm_sampling *o, const sampler_history *h,
                     uint64_t *rng)
{
    size_t vocab = (size_t)s->vocab, at;
    float best;

    if (o->allowed_count > 0)
        apply_allowed(s, logits, o);
    if (o->banned_count > 0)
        apply_banned(logits, o, h);
    for (size_t i = 0; i < o->bias_count; i++)
        logits[o->bias[i].token] += o->bias[i].bias;
    if (o->repetition_penalty != 1.0f || o->presence_penalty != 0 || o->frequency_penalty != 0)
        apply_penalties(s, logits, o, h);
    at = s->k->argmax(logits, vocab);
    if (logits[at] == -INFINITY)
        return -1;
    if (o->temperature <= 0 || o->top_k == 1)
        return (int32_t)at;
    if (o->temperature != 1.0f)
        s->k->scale(logits, 1.0f / o->temperature, vocab);
    best = logits[at]; /* the largest after scaling too */
    if ((o->top_k <= 0 || o->top_k >= s->vocab) && (o->typical_p <= 0 || o->typical_p >= 1.0f))
        return draw_nucleus(s, logits, o, best, rng);
    return draw(s, truncate(s, logits, o, best), rng);
}

int32_t sampler_rank(sampler *s, const float *logits, int32_t id)
{
    return (int32_t)s->k->above(logits, (size_t)s->vocab, logits[id], s->ids);
}

float sampler_log_sum(const kernels *k, const float *logits, int vocab)
{
    float best = logits[k->argmax(logits, (size_t)vocab)];

    return best + (float)log(k->sum_exp(logits, (size_t)vocab, best, -INFINITY));
}

void sampler_top(const float *logits, int vocab, int count, int32_t *ret_ids)
{
    int n = 0;

    for (int32_t i = 0; count > 0 && i < vocab; i++) {
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
