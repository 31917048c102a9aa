/* test_load.c - the load meter under a clock of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/attr.h"
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
        assert_int_equal(load_enter(&m, 0, 1, &retry, &err), SL_OK);
    assert_int_equal(load_enter(&m, 0, 1, &retry, &err), SL_EBUSY);
    assert_true(retry >= 100);
    load_leave(&m, 0);
    assert_int_equal(load_enter(&m, 0, 1, &retry, &err), SL_OK);
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
        load_end(m, 0, x->now, service);
        x->first++;
        x->count--;
    }
    while (m->waiting > 0 && x->count < load_running_max(m, x->now)) {
        load_begin(m, x->now);
        x->began[(x->first + x->count++) % 64] = x->now;
    }
}

static void offer(machine *x, int count)
{
    for (int i = 0; i < count; i++) {
        int64_t retry = 0;
        sl_err err;

        if (load_enter(x->m, 0, x->now, &retry, &err) != SL_OK) {
            assert_true(retry >= 100);
            x->refused++;
        }
    }
}

/* Refuses of those that wait as many as overload asks for; returns how many. */
static int shed(machine *x)
{
    int count = load_shed(x->m);

    for (int i = 0; i < count; i++)
        assert_true(load_refuse(x->m, 0) >= 100);
    return count;
}

/* Ten times of what the machine can do: within a second those that wait are refused, from then
 * on it is just busy, and nobody waits much longer than that takes. */
static void test_overload(void **state)
{
    load_meter m = make(40, 512, 0);
    machine x = { .m = &m, .now = 1 };
    int idle = 0;

    load_knee(&m, 15);
    for (int i = 0; i < 600; i++) {
        offer(&x, 10);
        shed(&x);
        run_100_ms(&x);
        idle += x.count == 0;
        if (i == 300)
            x.longest_ns = 0;
        if (i > 300)
            assert_in_range(m.waiting + m.running, 14, 15);
    }
    assert_int_equal(idle, 0);
    assert_in_range(x.longest_ns, 1300 * MS, 1600 * MS);
    /* When it is over, all slots serve again. */
    for (int i = 0; i < 60; i++)
        run_100_ms(&x);
    x.refused = 0;
    offer(&x, 30);
    assert_int_equal(x.refused, 0);
    load_deinit(&m);
}

/* Of those that wait, the ones beyond what keeps the machine busy are refused, once. What began
 * goes on, however many they are. */
static void test_shed(void **state)
{
    for (int begun = 5; begun <= 25; begun += 10) {
        load_meter m = make(40, 512, 0);
        machine x = { .m = &m, .now = 1 };

        load_knee(&m, 15);
        for (int i = 0; i < 41; i++) {
            assert_int_equal(load_shed(&m), 0);
            x.now += 15 * MS;
            offer(&x, 1);
            if (i < begun)
                load_begin(&m, x.now);
        }
        assert_int_equal(x.refused, 1); /* the last, which began it */
        assert_int_equal(shed(&x), 40 - SL_MAX(begun, 15));
        assert_int_equal(m.running, begun);
        assert_int_equal(load_shed(&m), 0);
        offer(&x, 1);
        assert_int_equal(x.refused, 2);
        load_deinit(&m);
    }
}

/* What the knee says is enough, within bounds. */
static void test_enough(void **state)
{
    const struct {
        int slots, knee, inside;
    } cases[] = { { 64, 0, 8 },   { 64, 20, 20 }, { 64, 3, 8 },
                  { 64, 99, 32 }, { 8, 0, 8 },    { 4, 99, 4 } };

    for (size_t c = 0; c < SL_COUNT_OF(cases); c++) {
        load_meter m = make(cases[c].slots, 512, 0);
        machine x = { .m = &m, .now = 1 };

        load_knee(&m, cases[c].knee);
        for (int i = 0; i < 80; i++) {
            x.now += 15 * MS;
            offer(&x, 1);
        }
        shed(&x);
        assert_int_equal(m.waiting, cases[c].inside);
        load_deinit(&m);
    }
}

/* A crowd that comes at one moment is a burst, however large, and is let in; so is who comes later,
 * as long as no more come than end. */
static void test_burst(void **state)
{
    load_meter m = make(40, 512, 0);
    machine x = { .m = &m, .now = 1 };

    for (int i = 0; i < 200; i++) {
        x.now += MS / 2;
        offer(&x, 1);
    }
    assert_int_equal(x.refused, 0);
    for (int i = 0; i < 40; i++) {
        run_100_ms(&x);
        assert_int_equal(load_shed(&m), 0);
        assert_false(m.is_overloaded);
        if (i % 2)
            offer(&x, 1);
    }
    load_deinit(&m);
}

/* Of a burst most of which was refused, nothing is held against those who come later, whether all
 * of it ended before or somebody is always under way. */
static void test_refused_are_forgotten(void **state)
{
    for (int always = 0; always <= 1; always++) {
        load_meter m = make(40, 60, 0);
        machine x = { .m = &m, .now = 1 };

        offer(&x, 318);
        assert_int_equal(x.refused, 258);
        for (int i = 0; i < 100; i++) {
            run_100_ms(&x);
            offer(&x, always && m.waiting + m.running < 3);
        }
        offer(&x, 120);
        assert_false(m.is_overloaded);
        load_deinit(&m);
    }
}

/* While a crowd may become overload, and under it, no more run than are enough. */
static void test_running_max(void **state)
{
    load_meter m = make(40, 512, 0);
    machine x = { .m = &m, .now = 1 };

    load_knee(&m, 15);
    for (int i = 0; i < 20; i++)
        offer(&x, 1);
    assert_int_equal(load_running_max(&m, x.now), 40);
    offer(&x, 10);
    assert_int_equal(load_running_max(&m, x.now), 15);
    assert_int_equal(load_running_max(&m, x.now + 625 * MS), 40);
    for (int i = 0; i < 20; i++) {
        x.now += 100 * MS;
        offer(&x, 10);
    }
    assert_int_equal(load_running_max(&m, x.now + 1000000 * MS), 15);
    m.wait_ns = 1000 * MS;
    assert_int_equal(load_running_max(&m, x.now), 40);
    load_deinit(&m);
}

/* The end of overload: soon after requests come no faster than they end. */
static void test_recovery(void **state)
{
    load_meter m = make(40, 512, 0);
    machine x = { .m = &m, .now = 1 };
    int ticks = 0;

    for (int i = 0; i < 100; i++) {
        offer(&x, 10);
        shed(&x);
        run_100_ms(&x);
    }
    assert_true(m.is_overloaded);
    for (; m.is_overloaded; ticks++) {
        offer(&x, ticks % 10 != 0);
        run_100_ms(&x);
    }
    assert_in_range(ticks, 5, 30);
    x.refused = 0;
    offer(&x, 25);
    assert_int_equal(x.refused, 0);
    load_deinit(&m);
}

/* A crowd that ended makes no room for ten times of what the machine can do. */
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
    for (int i = 0; i < 20; i++) {
        offer(&x, 10);
        shed(&x);
        run_100_ms(&x);
        assert_in_range(m.waiting + m.running, 0, 90);
        assert_true(i < 10 || m.is_overloaded);
    }
    assert_in_range(m.waiting + m.running, 7, 8);
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

/* Who has less than his share inside is let in where one who has more is refused. */
static void test_callers(void **state)
{
    load_meter m = make(64, 512, 0);
    machine x = { .m = &m, .now = 1 };
    unsigned other = load_caller("key-b");
    int64_t retry = 0;
    sl_err err;

    assert_in_range(other, 1, LOAD_CALLERS - 1);
    load_knee(&m, 16);
    for (int i = 0; i < 80; i++) {
        x.now += 15 * MS;
        offer(&x, 1);
    }
    shed(&x);
    for (int i = 0; i < 8; i++)
        assert_int_equal(load_enter(&m, other, x.now, &retry, &err), SL_OK);
    assert_int_equal(load_enter(&m, other, x.now, &retry, &err), SL_EBUSY);
    assert_int_equal(m.callers, 2);
    /* As long as both have their share, one of the first who leaves makes no room for another. */
    for (int i = 0; i < 8; i++) {
        assert_int_equal(load_enter(&m, 0, x.now, &retry, &err), SL_EBUSY);
        assert_true(load_refuse(&m, 0) >= 100);
    }
    load_refuse(&m, 0);
    assert_int_equal(load_enter(&m, 0, x.now, &retry, &err), SL_OK);
    for (int i = 0; i < 8; i++)
        load_refuse(&m, other);
    assert_int_equal(m.callers, 1);
    load_deinit(&m);
}

/* Four run for ten seconds each, and three wait, of one caller or of three: another caller waits
 * for one of them, or for all. */
static void test_wait_among_callers(void **state)
{
    for (int alike = 0; alike <= 1; alike++) {
        load_meter m = make(4, 512, 0);
        int64_t retry = 0;
        sl_err err;

        for (int i = 0; i < 4; i++) {
            assert_int_equal(load_enter(&m, 0, MS, &retry, &err), SL_OK);
            load_begin(&m, MS);
        }
        m.service_ns = 10e9;
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(load_enter(&m, alike ? 0 : i + 1, MS, &retry, &err), SL_OK);
        assert_int_equal(load_enter(&m, 9, MS, &retry, &err), alike ? SL_OK : SL_EBUSY);
        load_deinit(&m);
    }
}

/* What rests while there is other work is counted apart. */
static void test_idle(void **state)
{
    load_meter m = make(4, 3, 0);
    int64_t retry = 0;
    sl_err err;

    for (int i = 0; i < 3; i++)
        assert_int_equal(load_enter_idle(&m, &err), SL_OK);
    assert_int_equal(load_enter_idle(&m, &err), SL_EBUSY);
    for (int i = 0; i < 3; i++)
        assert_int_equal(load_enter(&m, 0, 1, &retry, &err), SL_OK);
    load_leave_idle(&m);
    assert_int_equal(load_enter_idle(&m, &err), SL_OK);
    load_deinit(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_queue),
        cmocka_unit_test(test_overload),
        cmocka_unit_test(test_shed),
        cmocka_unit_test(test_enough),
        cmocka_unit_test(test_burst),
        cmocka_unit_test(test_refused_are_forgotten),
        cmocka_unit_test(test_running_max),
        cmocka_unit_test(test_recovery),
        cmocka_unit_test(test_crowd_after_crowd),
        cmocka_unit_test(test_closed_loop),
        cmocka_unit_test(test_calm),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_callers),
        cmocka_unit_test(test_wait_among_callers),
        cmocka_unit_test(test_idle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
