/* test_load.c - the load meter under a clock of its own: a model that begins one request every 100
 * ms is offered ten times that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engine/load.h"

#define MS 1000000LL

static load_meter make(int slots, int queue_max, int64_t wait_ms)
{
    load_meter m;

    load_init(&m);
    m.slots = slots;
    m.queue_max = queue_max;
    m.wait_ns = wait_ms * MS;
    return m;
}

static void test_queue(void **state)
{
    load_meter m = make(2, 3, 0);
    int64_t retry = 0;
    sl_err err;

    for (int i = 0; i < 3; i++)
        assert_int_equal(load_enter(&m, &retry, &err), SL_OK);
    assert_int_equal(load_enter(&m, &retry, &err), SL_EBUSY);
    assert_true(retry >= 100);
    load_leave(&m);
    assert_int_equal(load_enter(&m, &retry, &err), SL_OK);
    load_deinit(&m);
}

/* Slots free themselves every 100 ms; a request takes `slots` times that. Returns the longest queue
 * after the meter has learnt. */
static int offer(load_meter *m, int per_slot, int rounds, int64_t *ret_retry)
{
    int longest = 0, begun = 0;
    int64_t now = 1;

    for (int i = 0; i < rounds; i++, now += 100 * MS) {
        sl_err err;

        for (int k = 0; k < per_slot; k++)
            if (load_enter(m, ret_retry, &err) != SL_OK)
                assert_true(*ret_retry > 0);
        if (m->running == m->slots)
            load_end(m, m->slots * 100 * MS);
        if (m->waiting > 0) {
            load_begin(m, now);
            begun++;
        }
        if (i > rounds / 2 && m->waiting > longest)
            longest = m->waiting;
    }
    assert_in_range(begun, rounds - 2, rounds);
    return longest;
}

static void test_overload(void **state)
{
    load_meter m = make(8, 512, 0);
    int64_t retry = 0;

    /* A request takes 800 ms, so 500 ms of waiting are allowed: five or six requests. */
    assert_in_range(offer(&m, 10, 400, &retry), 4, 7);
    assert_in_range(retry, 100, 400);
    load_deinit(&m);
    m = make(40, 512, 0); /* 4 s each: half of that */
    assert_in_range(offer(&m, 10, 800, &retry), 17, 22);
    load_deinit(&m);
    m = make(8, 512, 1000);
    assert_in_range(offer(&m, 10, 400, &retry), 9, 12);
    load_deinit(&m);
}

/* Below what the model can do, nobody is ever refused. */
static void test_calm(void **state)
{
    load_meter m = make(8, 512, 0);
    int64_t retry = 0;

    assert_in_range(offer(&m, 1, 300, &retry), 0, 1);
    assert_int_equal(retry, 0);
    load_deinit(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_queue),
        cmocka_unit_test(test_overload),
        cmocka_unit_test(test_calm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
