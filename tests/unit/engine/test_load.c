/* test_load.c - the load meter under a clock of its own. */
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
        assert_int_equal(load_enter(&m, 1, &retry, &err), SL_OK);
    assert_int_equal(load_enter(&m, 1, &retry, &err), SL_EBUSY);
    assert_true(retry >= 100);
    load_leave(&m);
    assert_int_equal(load_enter(&m, 1, &retry, &err), SL_OK);
    load_deinit(&m);
}

/* A machine that ends one request every 100 ms, whichever they are. */
typedef struct machine {
    load_meter *m;
    int64_t now, began[64];
    int first, count; /* of began, a ring */
    int64_t longest_ns, refused;
} machine;

static void run_100_ms(machine *x)
{
    load_meter *m = x->m;

    x->now += 100 * MS;
    if (x->count > 0) {
        int64_t service = x->now - x->began[x->first % 64];

        x->longest_ns = service > x->longest_ns ? service : x->longest_ns;
        load_end(m, x->now, service);
        x->first++;
        x->count--;
    }
    while (m->waiting > 0 && x->count < m->slots) {
        load_begin(m, x->now);
        x->began[(x->first + x->count++) % 64] = x->now;
    }
}

static void offer(machine *x, int count)
{
    for (int i = 0; i < count; i++) {
        int64_t retry = 0;
        sl_err err;

        if (load_enter(x->m, x->now, &retry, &err) != SL_OK) {
            assert_true(retry >= 100);
            x->refused++;
        }
    }
}

/* Ten times of what the machine can do: it stays busy, half of the slots are filled, and nobody
 * waits much longer than that takes. */
static void test_overload(void **state)
{
    load_meter m = make(40, 512, 0);
    machine x = { .m = &m, .now = 1 };
    int idle = 0;

    for (int i = 0; i < 600; i++) {
        offer(&x, 10);
        run_100_ms(&x);
        idle += x.count == 0;
        if (i == 300)
            x.longest_ns = 0;
        if (i > 300)
            assert_in_range(m.waiting + m.running, 19, 21);
    }
    assert_int_equal(idle, 0);
    assert_in_range(x.longest_ns, 1500 * MS, 2300 * MS);
    /* When it is over, all slots serve again. */
    for (int i = 0; i < 60; i++)
        run_100_ms(&x);
    x.refused = 0;
    offer(&x, 30);
    assert_int_equal(x.refused, 0);
    load_deinit(&m);
}

/* A crowd that ends makes no room for ten times of what the machine can do. */
static void test_crowd_after_crowd(void **state)
{
    load_meter m = make(40, 512, 0);
    machine x = { .m = &m, .now = 1 };

    for (int i = 0; i < 100; i++) {
        offer(&x, 1);
        run_100_ms(&x);
    }
    offer(&x, 38);
    for (int i = 0; i < 38; i++)
        run_100_ms(&x);
    x.refused = 0;
    for (int i = 0; i < 10; i++) {
        offer(&x, 10);
        run_100_ms(&x);
        assert_in_range(m.waiting + m.running, 0, 48);
    }
    assert_in_range(x.refused, 40, 60);
    load_deinit(&m);
}

/* As many clients as there are slots, each asking again when it is answered: none is refused. */
static void test_closed_loop(void **state)
{
    load_meter m = make(40, 512, 0);
    machine x = { .m = &m, .now = 1 };

    offer(&x, 40);
    for (int i = 0; i < 600; i++) {
        int before = m.running + m.waiting;

        run_100_ms(&x);
        offer(&x, before - m.running - m.waiting);
    }
    assert_int_equal(x.refused, 0);
    load_deinit(&m);
}

/* Requests that are slower to come than to be answered. */
static void test_calm(void **state)
{
    load_meter m = make(8, 512, 0);
    machine x = { .m = &m, .now = 1 };

    for (int i = 0; i < 1000; i++) {
        offer(&x, i % 10 == 0 ? 8 : 0);
        run_100_ms(&x);
    }
    assert_int_equal(x.refused, 0);
    load_deinit(&m);
}

/* A bound of one's own counts instead of the measured one. */
static void test_bound(void **state)
{
    load_meter m = make(4, 512, 1000);
    machine x = { .m = &m, .now = 1 };

    for (int i = 0; i < 300; i++) {
        offer(&x, 5);
        run_100_ms(&x);
    }
    assert_in_range(m.waiting, 8, 14);
    load_deinit(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_queue),
        cmocka_unit_test(test_overload),
        cmocka_unit_test(test_crowd_after_crowd),
        cmocka_unit_test(test_closed_loop),
        cmocka_unit_test(test_calm),
        cmocka_unit_test(test_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
