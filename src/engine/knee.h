/* knee.h - how many requests at once are enough, from what steps and requests of late cost.
 *
 * A step has a part that is always the same, most of it for reading the weights, and a part for
 * each sequence in it. Of the time that n requests take together, the first is O * a, the steps of
 * one answer, and the second n * (P * c + O * b): a is the fixed part of a step, b what a decode
 * adds to it, c what a token of a prompt adds, P the tokens of a prompt that the prefix cache has
 * not, and O those of an answer. With more requests the fixed part is shared by more, but once it
 * is small, all that grows is how long each of them takes. The knee is where it is KNEE_FIXED of
 * the whole. */
#ifndef SL_ENGINE_KNEE_H
#define SL_ENGINE_KNEE_H

#include <stdbool.h>

#define KNEE_FIXED (1.0 / 5)

/* Means; 0: not known. */
typedef struct knee {
    double single_ns;      /* a step of one decode */
    int single_age;        /* steps of several since one was measured */
    double some_ns, some;  /* a step of several, and how many they were */
    double prompt, output; /* tokens of a request */
    double prompt_ns;      /* what a token of a prompt adds to a step */
} knee;

/* Whether the next step, which would have so many decodes, should have only one, to measure it. */
bool knee_wants_single(const knee *k, int decodes);
/* A step of nothing but decodes. */
void knee_add_step(knee *k, int decodes, double ns);
/* A request that ended: tokens of its prompt that had to be computed, those of its answers, and
 * what one of the former adds to a step. */
void knee_add_request(knee *k, double prompt, double output, double prompt_ns);
/* Requests at once, at least 1; 0: not known. */
int knee_requests(const knee *k);

#endif
