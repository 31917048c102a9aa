/* views.c - what the scheduler is told: the live sequences in order, their hits in the prefix
 * cache, who waits for whom, and guesses of next tokens. */
#include "engine/engine_int.h"

#include <limits.h>

#include "base/os.h"

#define WAITS_LOOKED_AT  64 /* of the waiting sequences, as many as could begin in a step or two */
#define WAIT_NS_MAX      (30 * 1000000000LL) /* who waits longer behind others is let in */
#define PROMOTE_EVERY_NS 1000000000LL        /* one of them in so long */
#define OUTPUT_WEIGHT    2.0 /* an output token costs about two of a prompt (Sheng et al. 2024) */

/* ---- tenants --------------------------------------------------------------------------------- */

/* Who has requests here; one who comes back from a pause starts level with the least served, or,
 * where nobody is, with who left last: else that one would owe him all he ever got. */
int tenant_enter(engine *e, const char *name)
{
    double least = -1;
    int at = -1;

    for (int i = 0; i < e->tenant_count; i++) {
        tenant *t = &e->tenants[i];

        if (t->live > 0 && (least < 0 || t->served < least))
            least = t->served;
        if (strcmp(t->name, name) == 0)
            at = i;
    }
    for (int i = 0; at < 0 && e->tenant_count == SL_TENANTS_MAX && i < SL_TENANTS_MAX; i++)
        if (e->tenants[i].live == 0)
            at = i; /* forgets one who is away */
    if (at < 0) {
        size_t cap = (size_t)e->tenant_cap;

        if (e->tenant_count == SL_TENANTS_MAX ||
            !sl_grow((void **)&e->tenants, &cap, (size_t)e->tenant_count + 1, sizeof *e->tenants,
                     SL_TENANTS_MAX))
            at = 0; /* shares the first one's place */
        else
            e->tenants[at = e->tenant_count++] = (tenant){ 0 };
        e->tenant_cap = (int)cap;
    }
    tenant *t = &e->tenants[at];

    if (least < 0)
        least = e->served_last;
    if (strcmp(t->name, name) != 0 && t->live == 0) {
        *t = (tenant){ 0 };
        snprintf(t->name, sizeof t->name, "%s", name);
    }
    if (t->live++ == 0 && t->served < least)
        t->served = least;
    return at;
}

void tenant_leave(engine *e, int at)
{
    if (--e->tenants[at].live == 0)
        e->served_last = e->tenants[at].served;
}

void tenant_charge(engine *e, int at, int prompt_tokens, int output_tokens)
{
    e->tenants[at].served += prompt_tokens + OUTPUT_WEIGHT * output_tokens;
}

/* Nobody starves: of those that have waited long, the first to come is let in front once in a
 * while, whatever its priority, and stays there until it begins. */
static void promote_forgotten(engine *e, size_t waits)
{
    int64_t now_ns = sl_clock_mono_ns(), since = now_ns - WAIT_NS_MAX;
    sched_wait *first = NULL;

    for (size_t i = 0; i < waits; i++) {
        const seq *s = e->live[e->waits[i].idx];

        if (seq_is_background(s)) /* it may */
            continue;
        if (s->promoted) {
            e->waits[i].priority = INT_MIN;
            return;
        }
        if (!s->begun && s->job->submitted_ns < since) {
            since = s->job->submitted_ns;
            first = &e->waits[i];
        }
    }
    if (!first || now_ns - e->promoted_ns < PROMOTE_EVERY_NS)
        return;
    e->live[first->idx]->promoted = true;
    e->promoted_ns = now_ns;
    first->priority = INT_MIN;
}

/* Sorts those that wait, in e->waits. */
static void order_waits(engine *e, size_t waits, bool by_priority)
{
    if (waits < 2 || (e->tenant_count < 2 && !by_priority))
        return;
    if (by_priority)
        promote_forgotten(e, waits);
    for (int i = 0; i < e->tenant_count; i++)
        e->served[i] = e->tenants[i].served;
    sched_order(e->waits, (int)waits, e->served, e->tenant_count);
}

/* Sorts the live sequences: holders of blocks stay in front, in the order in which they began; then
 * those that wait. */
void order_live(engine *e)
{
    size_t holders = 0, waits = 0;
    bool by_priority = false;

    for (size_t i = 0; i < e->live_count; i++) {
        seq *s = e->live[i];
        int priority = s->job->req->priority;

        if (s->kv.block_count > 0) {
            e->order[holders++] = s;
            continue;
        }
        by_priority = by_priority || (waits > 0 && priority != e->waits[0].priority);
        e->waits[waits++] = (sched_wait){ s->begun, priority, s->tenant, s->prompt_count, (int)i };
    }
    order_waits(e, waits, by_priority);
    for (size_t i = 0; i < waits; i++)
        e->order[holders + i] = e->live[e->waits[i].idx];
    memcpy(e->live, e->order, e->live_count * sizeof *e->live);
}

/* Moves the background behind the others, among the holders of blocks and among those that wait. */
static void put_background_back(engine *e)
{
    size_t count = 0;

    for (int holds = 1; holds >= 0; holds--)
        for (int back = 0; back <= 1; back++)
            for (size_t i = 0; i < e->live_count; i++)
                if ((e->live[i]->kv.block_count > 0) == holds &&
                    seq_is_background(e->live[i]) == back)
                    e->order[count++] = e->live[i];
    memcpy(e->live, e->order, e->live_count * sizeof *e->live);
}

/* ---- prefix cache ---------------------------------------------------------------------------- */

/* The sequence before number i that is about to compute the block that i needs next, or -1. Hashes
 * of beginnings may collide: then somebody waits for nothing, a step or two. */
static int find_leader(const engine *e, size_t i)
{
    const seq *s = e->live[i];
    int block = e->views[i].hit / SL_KV_BLOCK_TOKENS;

    if (!s->kv.root || (block + 1) * SL_KV_BLOCK_TOKENS >= s->prompt_count)
        return -1;
    for (size_t j = 0; j < i; j++) {
        const seq *other = e->live[j];

        if (!e->views[j].idle && other->kv.root == s->kv.root &&
            other->kv.len < (block + 1) * SL_KV_BLOCK_TOKENS &&
            (block + 1) * SL_KV_BLOCK_TOKENS <= other->prompt_count &&
            other->block_hashes[block] == s->block_hashes[block])
            return (int)j;
    }
    return -1;
}

/* ---- guesses (prompt lookup, Saxena 2023) ---------------------------------------------------- */

#define DRAFT_MAX  15 /* tokens guessed in a step: more are seldom all right */
#define DRAFT_MIN  2  /* tokens guessed after a first match */
#define NGRAM_MAX  5  /* tokens that must have stood before the guess; longer are tried first */
#define NGRAM_MIN  3
#define PAUSE_BASE 8 /* tokens without guesses after a wrong one; doubles up to PAUSE_MAX */
#define PAUSE_MAX  256

static int spec_limit(const engine *e, const seq *s)
{
    int32_t asked = s->job->req->spec_tokens;

    if (asked < 0 || s->job->req->logprobs)
        return 0;
    return SL_MIN(asked > 0 ? asked : e->o.spec_tokens, DRAFT_MAX);
}

/* Where the last n tokens stood before: index of the token that followed, or -1. */
static int find_ngram(const int32_t *tokens, int count, int n)
{
    const int32_t *tail = tokens + count - n;

    for (int i = count - n - 1; i >= 0; i--)
        if (tokens[i] == tail[0] && memcmp(tokens + i, tail, (size_t)n * sizeof *tail) == 0)
            return i + n;
    return -1;
}

/* Writes guesses of the tokens after the last one behind it; returns how many. */
static int guess(const engine *e, seq *s)
{
    int most = SL_MIN(spec_limit(e, s), SL_MIN(s->draft_size, s->cap - s->count)), at = -1, n = 0;

    if (most <= 0)
        return 0;
    if (s->draft_pause > 0) {
        s->draft_pause--;
        return 0;
    }
    for (int len = NGRAM_MAX; len >= NGRAM_MIN && at < 0; len--)
        if (s->count > len)
            at = find_ngram(s->tokens, s->count, len);
    for (; at >= 0 && n < most && at + n < s->count; n++)
        s->tokens[s->count + n] = s->tokens[at + n];
    return n;
}

void guess_result(seq *s, int guessed, int right)
{
    if (guessed == 0)
        return;
    if (right == guessed) {
        s->draft_size = SL_MIN(s->draft_size * 2, DRAFT_MAX);
    } else {
        s->draft_size = SL_MAX(right + 1, DRAFT_MIN);
    }
    if (right > 0) {
        s->draft_wrong = 0;
    } else {
        s->draft_pause = SL_MIN(PAUSE_BASE << s->draft_wrong, PAUSE_MAX);
        s->draft_wrong = SL_MIN(s->draft_wrong + 1, 8);
    }
}

/* ---- views ----------------------------------------------------------------------------------- */

void fill_views(engine *e)
{
    int looked_at = 0;
    bool has_live = false;

    order_live(e);
    put_background_back(e);
    for (size_t i = 0; i < e->live_count && !has_live; i++)
        has_live = !seq_is_background(e->live[i]);
    e->only_background = !has_live;
    for (size_t i = 0; i < e->live_count; i++) {
        seq *s = e->live[i];
        sched_seq *v = &e->views[i];

        *v = (sched_seq){
            .len = s->kv.len,
            .pending = s->count - s->kv.len,
            .blocks = s->kv.block_count,
            .own = kv_seq_own(e->pool, &s->kv),
            .decoding = s->sampled && s->count - s->kv.len == 1 && s->kv.block_count > 0,
            .all_rows = seq_wants_rows(s),
            .brief = s->brief,
            .idle = has_live && seq_is_background(s),
            .leader = -1,
        };
        if (v->decoding && !v->idle)
            v->draft = guess(e, s);
        if (v->blocks > 0)
            continue;
        if (!s->needs_echo && looked_at++ < WAITS_LOOKED_AT) {
            v->hit = kv_seq_peek(e->pool, &s->kv, s->tokens, s->count, &v->hit_free);
            v->leader = find_leader(e, i);
        }
        if (!s->begun)
            v->brief = s->prompt_count - v->hit <= e->brief_tokens;
    }
}
