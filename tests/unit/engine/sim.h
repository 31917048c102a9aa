/* sim.h - the engine's rounds without a model: the real scheduler, KV pool, views, sampler and
 * deliveries on a fake clock, around a decoder that is a line of arithmetic.
 *
 * The fake decoder keeps in each KV slot a hash of all tokens up to it, reads its input from there
 * and nowhere else, and checks every slot of every sequence it computes: a block that was shared,
 * evicted or truncated wrongly shows at once. What a request must answer is known without any
 * scheduling, and is compared token by token. */
#ifndef TESTS_ENGINE_SIM_H
#define TESTS_ENGINE_SIM_H

#include "engine/engine_int.h"

#define SIM_VOCAB    16
#define SIM_TOKENS   192 /* in a sequence */
#define SIM_LIVE_MAX 256
#define SIM_CHOICES  2

typedef struct sim_options {
    int blocks, seqs_max, step_tokens;
    int mixed_prefill; /* 0: by the fake clock */
    int spec_tokens;
    int window;       /* of the model's first layer; 0: none */
    int64_t token_ns; /* a token's time on the fake clock; a step has that of ten more; 0: 0.1 ms */
} sim_options;

typedef struct sim_request {
    llm_request req; /* prompt and settings are the caller's to fill in */
    llm_prompt prompt;
    int32_t ids[SIM_TOKENS];
    char user[8];
    /* filled in by the simulation */
    int32_t got[SIM_CHOICES][SIM_TOKENS];
    int got_count[SIM_CHOICES], echoed[SIM_CHOICES], finishes[SIM_CHOICES], starts, dones;
    int told;     /* prompt tokens whose logprobs came */
    int told_ids; /* times that its ids came */
    llm_usage usage;
    long arrived, began, ended; /* steps; 0: not yet */
    int64_t arrived_ns, ended_ns;
    bool refused;
} sim_request;

typedef struct sim {
    engine e;
    weights w;
    int64_t now_ns, token_ns;
    long steps;
    int stuck;                          /* steps in which the first in order was given nothing */
    int empty;                          /* rounds in which nothing was computed */
    int stuck_worst;                    /* since sim_open */
    long prefill_tokens, decode_tokens; /* computed; decodes with their guesses */
    int64_t arrival_ns; /* of who comes next, to give up background work for; 0: nobody */
    long given_up;      /* steps */
    float logits[SIM_LIVE_MAX][SIM_VOCAB];
} sim;

void sim_open(sim *s, const sim_options *o);
void sim_close(sim *s);

/* A request with neutral settings for user. */
void sim_request_init(sim_request *r, const char *user);
/* False when the load meter refuses it; it is not touched then, but for `refused`. */
bool sim_submit(sim *s, sim_request *r);
/* One turn of the engine's loop: drops what was cancelled and what is to be refused, then a round.
 */
void sim_step(sim *s);
/* The pool's invariants against the live sequences. */
void sim_check(const sim *s);
/* Asserts that the request ended once, and said exactly what it says alone. */
void sim_check_answer(sim *s, const sim_request *r);

#endif
