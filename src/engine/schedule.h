/* schedule.h - what the next step computes.
 *
 * sched_plan() is pure: it sees numbers and gives numbers, so that a simulation can drive it.
 * Rules: (1) running decodes go first; (2) prompts take what is left of the step's budget, in
 * chunks, in order of arrival; while others decode the budget is small, so that a long prompt never
 * freezes their streams; (3) out of blocks, the youngest sequence gives its blocks back and is
 * computed again later; (4) a step never plans nothing while some sequence waits, because each
 * sequence fits the pool alone. */
#ifndef SL_ENGINE_SCHED_H
#define SL_ENGINE_SCHED_H

#include <stdbool.h>

/* One sequence, in order of arrival. */
typedef struct sched_seq {
    int len;       /* tokens in the cache */
    int pending;   /* tokens not in the cache yet, at least 1 */
    int blocks;    /* blocks owned */
    bool decoding; /* pending is the one token just sampled */
    bool all_rows; /* wants logits of every token, not only of the last */
    /* the plan */
    int count;    /* tokens to compute in this step */
    bool preempt; /* give the blocks back first; count is 0 */
} sched_seq;

typedef struct sched_limits {
    int step_tokens;       /* budget of a step */
    int mixed_step_tokens; /* the same while something decodes */
    int seqs_max;          /* sequences that hold blocks at once */
    int rows_max;          /* logit rows in a step */
    int block_tokens;
} sched_limits;

/* Fills count and preempt of seqs[count]; free_blocks is what the pool has. Returns the tokens
 * planned. */
int sched_plan(sched_seq *seqs, int count, int free_blocks, const sched_limits *l);

#endif
