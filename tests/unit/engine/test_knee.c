/* test_knee.c - the knee of a machine whose costs are known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engine/knee.h"

#define FIXED_NS  8e6
#define DECODE_NS 1e6
#define PROMPT_NS 0.5e6

/* What a machine learns from steps of one decode and of `several`, and from requests. */
static knee learned(int several, double prompt, double output)
{
    knee k = { 0 };

    for (int i = 0; i < 50; i++) {
        knee_add_step(&k, 1, FIXED_NS + DECODE_NS);
        if (several > 0)
            knee_add_step(&k, several, FIXED_NS + several * DECODE_NS);
        knee_add_request(&k, prompt, output, PROMPT_NS);
    }
    return k;
}

/* The share of the fixed part where so many requests run at once. */
static double fixed_share(int requests, double prompt, double output)
{
    double fixed = output * FIXED_NS, own = prompt * PROMPT_NS + output * DECODE_NS;

    return fixed / (fixed + requests * own);
}

static void test_share(void **state)
{
    const double works[][2] = { { 64, 64 }, { 0.1, 200 }, { 500, 20 }, { 30, 300 } };

    for (size_t w = 0; w < sizeof works / sizeof *works; w++)
        for (int several = 8; several <= 64; several *= 2) {
            knee k = learned(several, works[w][0], works[w][1]);
            int n = knee_requests(&k);

            assert_true(fixed_share(n + 1, works[w][0], works[w][1]) < KNEE_FIXED);
            assert_true(n == 1 || fixed_share(n - 1, works[w][0], works[w][1]) > KNEE_FIXED);
        }
}

/* Prompts alone bound the knee where steps of several decodes were never seen without one. */
static void test_no_steps_of_several(void **state)
{
    knee k = learned(0, 500, 20), known = learned(16, 500, 20);

    assert_in_range(knee_requests(&k), knee_requests(&known), knee_requests(&known) + 2);
}

static void test_not_known(void **state)
{
    knee k = { 0 };

    assert_int_equal(knee_requests(&k), 0);
    knee_add_step(&k, 8, FIXED_NS);
    knee_add_request(&k, 10, 10, PROMPT_NS);
    assert_int_equal(knee_requests(&k), 0);
    knee_add_step(&k, 1, FIXED_NS);
    assert_true(knee_requests(&k) > 0);
    /* Nothing is generated: nothing to share. */
    k = learned(8, 100, 0);
    assert_int_equal(knee_requests(&k), 0);
}

/* A step of one is wanted when there was none, and after many of several. */
static void test_wants_single(void **state)
{
    knee k = { 0 };
    int steps = 0;

    assert_false(knee_wants_single(&k, 4));
    assert_true(knee_wants_single(&k, 8));
    knee_add_step(&k, 1, FIXED_NS);
    for (; !knee_wants_single(&k, 8); steps++)
        knee_add_step(&k, 8, 2 * FIXED_NS);
    assert_in_range(steps, 30, 300);
    knee_add_step(&k, 1, FIXED_NS);
    assert_false(knee_wants_single(&k, 8));
}

/* A machine that becomes twice as slow for good has the same knee, once it is measured. */
static void test_slower_machine(void **state)
{
    knee k = learned(16, 64, 64);
    int before = knee_requests(&k);

    for (int i = 0; i < 100; i++) {
        knee_add_request(&k, 64, 64, 2 * PROMPT_NS);
        knee_add_step(&k, 1, 2 * (FIXED_NS + DECODE_NS));
        knee_add_step(&k, 16, 2 * (FIXED_NS + 16 * DECODE_NS));
    }
    assert_in_range(knee_requests(&k), before - 1, before + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share),          cmocka_unit_test(test_no_steps_of_several),
        cmocka_unit_test(test_not_known),      cmocka_unit_test(test_wants_single),
        cmocka_unit_test(test_slower_machine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
