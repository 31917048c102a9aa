/* schedule.c - the pure half of the scheduler. */
#include "engine/schedule.h"

#include "base/status.h"

typedef struct planner {
    sched_seq *seqs;
    int count, free_blocks;
    const sched_limits *l;
    int tokens, rows, holders; /* planned so far; sequences with blocks */
    int prefill[2];            /* of the tokens, those of prompts: long ones, brief ones */
    bool preempted;            /* somebody gave his blocks back */
} planner;

static int blocks_for(const planner *p, const sched_seq *s, int tokens)
{
    int need = (s->len + tokens + p->l->block_tokens - 1) / p->l->block_tokens;

    return need > s->blocks ? need - s->blocks : 0;
}

static int rows_of(const sched_seq *s)
{
    return s->all_rows || s->decoding ? s->count : s->count > 0 && s->count == s->pending;
}

/* Takes the blocks of a holder. */
static void preempt(planner *p, sched_seq *s)
{
    p->tokens -= s->count;
    p->prefill[s->brief] -= s->decoding ? 0 : s->count;
    p->rows -= rows_of(s);
    p->free_blocks += s->own;
    p->holders--;
    s->pending += s->len;
    s->len = s->blocks = s->own = s->count = s->draft = 0;
    s->decoding = false;
    s->preempt = p->preempted = true;
}

/* Takes the blocks of the last holder; returns its index, or -1 when nobody holds any. */
static int preempt_last(planner *p)
{
    for (int i = p->count - 1; i >= 0; i--)
        if (p->seqs[i].blocks > 0) {
            preempt(p, &p->seqs[i]);
            return i;
        }
    return -1;
}

/* Plans tokens more for s. */
static void take(planner *p, sched_seq *s, int tokens)
{
    int blocks = blocks_for(p, s, s->count + tokens);

    p->rows -= rows_of(s);
    p->holders += s->blocks == 0;
    p->free_blocks -= blocks;
    s->blocks += blocks;
    s->own += blocks;
    s->count += tokens;
    p->tokens += tokens;
    p->prefill[s->brief] += s->decoding ? 0 : tokens;
    p->rows += rows_of(s);
}

static void plan_decodes(planner *p)
{
    for (int i = 0; i < p->count && p->tokens < p->l->step_tokens && p->rows < p->l->rows_max;
         i++) {
        sched_seq *s = &p->seqs[i];

        if (s->idle)
            continue;
        while (s->decoding && blocks_for(p, s, 1) > p->free_blocks)
            if (preempt_last(p) == i)
                break;
        if (s->decoding)
            take(p, s, 1);
    }
}

/* Takes the cached beginning of a sequence that holds nothing. */
static void take_hit(planner *p, sched_seq *s)
{
    if (s->hit == 0)
        return;
    s->len = s->hit;
    s->pending -= s->hit;
    s->blocks = s->hit / p->l->block_tokens;
    s->own = s->hit_free;
    p->free_blocks -= s->hit_free;
    p->holders++;
}

/* Whether s, which holds nothing, may begin: its whole prompt and a token must fit, unless it has
 * the pool for itself. */
static bool may_begin(const planner *p, const sched_seq *s)
{
    int need = blocks_for(p, s, s->pending + 1) - s->hit / p->l->block_tokens + s->hit_free;

    return p->holders < p->l->seqs_max && (p->holders == 0 || need <= p->free_blocks);
}

/* Takes the blocks of idle ones, the last first, until s may begin or none is left. */
static void make_room(planner *p, const sched_seq *s)
{
    for (int i = p->count - 1; i >= 0 && !may_begin(p, s); i--) {
        if (!p->seqs[i].idle || p->seqs[i].blocks == 0)
            continue;
        preempt(p, &p->seqs[i]);
    }
}

static void plan_prefills(planner *p)
{
    bool mixed = p->tokens > p->prefill[false] + p->prefill[true];

    for (int i = 0; i < p->count && p->tokens < p->l->step_tokens && p->rows < p->l->rows_max;
         i++) {
        sched_seq *s = &p->seqs[i];
        int budget = !mixed     ? p->l->step_tokens
                     : s->brief ? p->l->mixed_brief
                                : p->l->mixed_prefill;
        int tokens, room;

        if (s->decoding || s->preempt || s->idle || s->count > 0 || p->prefill[s->brief] >= budget)
            continue;
        if (s->blocks == 0) {
            if (s->leader >= 0)
                continue;
            if (!p->preempted)
                make_room(p, s);
            /* Nobody overtakes for blocks. And after a preemption the hits of those that wait are
             * not what they were: what somebody held may be free now, and counted already. */
            if (p->preempted || !may_begin(p, s))
                return;
            take_hit(p, s);
        }
        /* Who began goes on before those who came later. */
        while (s->blocks > 0 && blocks_for(p, s, 1) > p->free_blocks && preempt_last(p) > i)
            continue;
        if (s->preempt)
            continue;
        room = (s->blocks + p->free_blocks) * p->l->block_tokens - s->len;
        tokens = SL_MIN(s->pending,
                        SL_MIN(budget - p->prefill[s->brief], p->l->step_tokens - p->tokens));
        tokens = SL_MIN(tokens, room);
        if (s->all_rows)
            tokens = SL_MIN(tokens, p->l->rows_max - p->rows);
        if (tokens > 0)
            take(p, s, tokens);
    }
}

/* Guesses are computed only with what is left over: blocks, rows, and a small step. */
static void plan_drafts(planner *p)
{
    for (int i = 0; i < p->count; i++) {
        sched_seq *s = &p->seqs[i];
        int n = SL_MIN(s->draft, SL_MIN(p->l->draft_tokens, p->l->step_tokens) - p->tokens);

        n = SL_MIN(n, p->l->rows_max - p->rows);
        if (s->count == 1 && s->decoding && n > 0 && blocks_for(p, s, 1 + n) <= p->free_blocks)
            take(p, s, n);
    }
}

int sched_plan(sched_seq *seqs, int count, int free_blocks, const sched_limits *l)
{
    planner p = { .seqs = seqs, .count = count, .free_blocks = free_blocks, .l = l };

    for (int i = 0; i < count; i++) {
        SL_ASSERT(seqs[i].pending >= 1);
        SL_ASSERT(seqs[i].leader < i);
        seqs[i].count = 0;
        seqs[i].preempt = false;
        p.holders += seqs[i].blocks > 0;
    }
    plan_decodes(&p);
    plan_prefills(&p);
    plan_drafts(&p);
    /* Half-computed prompts may hold all blocks between them: the last gives way. */
    while (p.tokens == 0 && count > 0 && preempt_last(&p) > 0)
        plan_prefills(&p);
    return p.tokens;
}

/* Moves waits[from] to place `to` before it; the others keep their order. */
static void move_up(sched_wait *waits, int from, int to)
{
    sched_wait w = waits[from];

    for (int i = from; i > to; i--)
        waits[i] = waits[i - 1];
    waits[to] = w;
}

static bool goes_before(const sched_wait *a, const sched_wait *b)
{
    return a->begun != b->begun ? a->begun : !a->begun && a->priority < b->priority;
}

/* Those that began, then priority by priority. */
static void order_classes(sched_wait *waits, int count)
{
    for (int i = 1; i < count; i++) {
        int to = i;

        while (to > 0 && goes_before(&waits[i], &waits[to - 1]))
            to--;
        move_up(waits, i, to);
    }
}

void sched_order(sched_wait *waits, int count, double *served, int tenant_count)
{
    order_classes(waits, count);
    for (int at = 0; at < count && tenant_count > 1; at++) {
        int best = at;

        for (int i = at + 1; i < count && !goes_before(&waits[at], &waits[i]); i++)
            if (!waits[i].begun && served[waits[i].tenant] < served[waits[best].tenant])
                best = i;
        move_up(waits, best, at);
        if (!waits[at].begun)
            served[waits[at].tenant] += waits[at].tokens;
    }
}
