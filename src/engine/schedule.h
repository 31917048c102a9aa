/* schedule.h - what the next step computes.
 *
 * Both functions are pure: they see numbers and give numbers, so that a simulation can drive them.
 * Rules: (1) running decodes go first, and guesses of their next tokens last, where room is left;
 * (2) prompts take what is left of the step's budget, in chunks, in order; while others decode the
 * budget is small, so that a long prompt never freezes their streams; brief prompts have a larger
 * one of their own, for their first token is worth a gap that nobody feels; (3) a prompt whose next
 * block somebody before it is about to compute waits for that block instead of computing it twice;
 * (4) out of blocks, the last sequence in order gives its blocks back and is computed again later;
 * (5) somebody always goes on, because each sequence fits the pool alone; (6) idle ones rest while
 * there are others, and give their blocks back for one that waits to begin. */
#ifndef SL_ENGINE_SCHED_H
#define SL_ENGINE_SCHED_H

#include <stdbool.h>

/* One sequence, in order: those that hold blocks, then those that wait (sched_order). */
typedef struct sched_seq {
    int len;       /* tokens in the cache */
    int pending;   /* tokens not in the cache yet, at least 1 */
    int blocks;    /* blocks held */
    int own;       /* of those, held by nobody else */
    bool decoding; /* pending is the one token just sampled */
    int draft;     /* decoding: guessed tokens that may be computed with it */
    bool brief;    /* a prompt that is soon computed */
    bool idle;     /* gives way: not computed in this step; what it holds is for the others */
    bool all_rows; /* wants logits of every token, not only of the last */
    int hit;       /* holding nothing: tokens found in the prefix cache, a multiple of a block */
    int hit_free;  /* blocks of those that nobody holds */
    int leader;    /* sequence before it that is about to compute its next block, or -1 */
    /* the plan */
    int count;    /* tokens to compute in this step, after the hit */
    bool preempt; /* give the blocks back first; count is 0 */
} sched_seq;

typedef struct sched_limits {
    int step_tokens;   /* budget of a step */
    int mixed_prefill; /* tokens of long prompts beside decodes */
    int mixed_brief;   /* tokens of brief prompts beside decodes */
    int draft_tokens;  /* guesses are made up to so many tokens in a step */
    int seqs_max;      /* sequences that hold blocks at once */
    int rows_max;      /* logit rows in a step */
    int block_tokens;
} sched_limits;

/* Fills count and preempt of seqs[count]; free_blocks is what the pool has. Returns the tokens
 * planned; 0 only when something is preempted or nothing is there. */
int sched_plan(sched_seq *seqs, int count, int free_blocks, const sched_limits *l);

/* A sequence that waits. */
typedef struct sched_wait {
    bool begun;    /* was preempted: goes before those that never ran */
    int priority;  /* lower goes first */
    int tenant;    /* who asks, below tenant_count */
    double tokens; /* prompt tokens it will cost */
    int idx;       /* the caller's */
} sched_wait;

/* Orders waits[count], given in order of arrival: by priority, and within one priority each next
 * place goes to the tenant that was served least, counting what it was given here (virtual token
 * counters, Sheng et al. 2024). served[tenant_count] is changed. */
void sched_order(sched_wait *waits, int count, double *served, int tenant_count);

#endif
