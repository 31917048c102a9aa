/* test_engine.c - the team of compute threads. */
#include "tests_engine.h"

typedef struct counting {
    team *t;
    int phase[8];
} counting;

static void count_phases(void *ctx, int member, int count)
{
    counting *c = ctx;

    for (int p = 0; p < 50; p++) {
        c->phase[member] = p;
        team_barrier(c->t);
        for (int m = 0; m < count; m++)
            assert_int_equal(c->phase[m], p);
        team_barrier(c->t);
    }
}

static void test_team(void **state)
{
    sl_err err;

    (void)state;
    for (int count = 1; count <= 5; count += 2) {
        counting c = { 0 };

        assert_int_equal(team_create(count, &c.t, &err), SL_OK);
        for (int i = 0; i < 20; i++)
            team_run(c.t, count_phases, &c);
        team_destroy(c.t);
    }
    assert_int_equal(team_create(0, NULL, &err), SL_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_team) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
