/* tests_engine.h - random numbers for the engine's tests: the same in every run. */
#ifndef TESTS_ENGINE_H
#define TESTS_ENGINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"

static uint64_t rng_state = 0x2f96af9a3eULL;

static inline uint32_t rng(uint32_t below)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return (uint32_t)(rng_state >> 33) % below;
}

/* True once in n times. */
static inline bool one_in(uint32_t n)
{
    return rng(n) == 0;
}

#endif
