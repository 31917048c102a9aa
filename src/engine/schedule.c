/* schedule.c - the pure half of the scheduler. */
#include "engine/schedule.h"

#include "base/status.h"

typedef struct planner {
    sched_seq *seqs;
    int count, free_blocks;
    const sched_limits *l;
    int tokens, rows, holders; /* planned so far; sequences with blocks */
} planner;

static int blocks_for(const planner *p, const sched_seq *s, int tokens)
{
    int need = (s->len + tokens + p->l->block_tokens - 1) / p->l->block_tokens;

    return need > s->blocks ? need - s->blocks : 0;
}

/* Takes the blocks of the youngest holder; returns its index, or -1 when nobody holds any. */
static int preempt_youngest(planner *p)
{
    for (int i = p->count - 1; i >= 0; i--) {
        sched_seq *s = &p->seqs[i];

        if (s->blocks == 0)
            continue;
        p->tokens -= s->count;
        p->rows -= s->all_rows ? s->count : s->count > 0;
        p->free_blocks += s->blocks;
        p->holders--;
        s->pending += s->len;
        s->len = s->blocks = s->count = 0;
        s->decoding = false;
        s->preempt = true;
        return i;
    }
    return -1;
}

static void take(planner *p, sched_seq *s, int tokens)
{
    int blocks = blocks_for(p, s, tokens);

    if (s->blocks == 0 && blocks > 0)
        p->holders++;
    p->free_blocks -= blocks;
    s->blocks += blocks;
    s->count = tokens;
    p->tokens += tokens;
    p->rows += s->all_rows ? tokens : tokens == s->pending;
}

static void plan_decodes(planner *p)
{
    for (int i = 0; i < p->count && p->tokens < p->l->step_tokens && p->rows < p->l->rows_max;
         i++) {
        sched_seq *s = &p->seqs[i];

        while (s->decoding && blocks_for(p, s, 1) > p->free_blocks)
            if (preempt_youngest(p) == i)
                break;
        if (s->decoding)
            take(p, s, 1);
    }
}

static void plan_prefills(planner *p)
{
    int budget = p->tokens > 0 ? p->l->mixed_step_tokens : p->l->step_tokens;

    for (int i = 0; i < p->count && p->tokens < budget && p->rows < p->l->rows_max; i++) {
        sched_seq *s = &p->seqs[i];
        int tokens = s->pending, room;

        if (s->decoding || s->preempt)
            continue;
        if (s->blocks == 0 &&
            (p->holders >= p->l->seqs_max ||
             (p->holders > 0 && blocks_for(p, s, s->pending + 1) > p->free_blocks)))
            return; /* nobody overtakes */
        /* Who began goes on before those who came later. */
        while (s->blocks > 0 && blocks_for(p, s, 1) > p->free_blocks && preempt_youngest(p) > i)
            continue;
        if (s->preempt)
            continue;
        room = (s->blocks + p->free_blocks) * p->l->block_tokens - s->len;
        tokens = SL_MIN(tokens, s->pending);
        tokens = SL_MIN(SL_MIN(tokens, budget - p->tokens), room);
        if (s->all_rows)
            tokens = SL_MIN(tokens, p->l->rows_max - p->rows);
        if (tokens > 0)
            take(p, s, tokens);
    }
}

int sched_plan(sched_seq *seqs, int count, int free_blocks, const sched_limits *l)
{
    planner p = { .seqs = seqs, .count = count, .free_blocks = free_blocks, .l = l };

    for (int i = 0; i < count; i++) {
        SL_ASSERT(seqs[i].pending >= 1);
        seqs[i].count = 0;
        seqs[i].preempt = false;
        p.holders += seqs[i].blocks > 0;
    }
    plan_decodes(&p);
    plan_prefills(&p);
    /* Half-computed prompts may hold all blocks between them: the youngest gives way. */
    while (p.tokens == 0 && count > 0 && preempt_youngest(&p) > 0)
        plan_prefills(&p);
    return p.tokens;
}
