/* test_race.c - callers at the gate while the index is replaced under them, by this process and by
 * another connection. Under TSan it finds races; everywhere it checks what callers see. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "access/access_int.h"

#define THREADS 4
#define CHANGES 60

static const llm_actor root = { .name = "test", .address = "" };

typedef struct race {
    access_control *a;
    char key[ACCESS_TOKEN_BYTES];
    atomic_bool stop;
    atomic_int wrong, seen;
} race;

static void *knock(void *ctx)
{
    race *r = ctx;
    int64_t last = 0;

    while (!atomic_load(&r->stop)) {
        const access_request q = { .x_api_key = r->key, .remote = "10.0.0.1" };
        llm_caller *c = NULL;
        sl_err err;

        if (access_judge(r->a, &q, &c, &err) != SL_OK || !c) {
            atomic_fetch_add(&r->wrong, 1);
            continue;
        }
        /* Team and key change together or not at all, and never back. */
        if (c->limits[LLM_SUBJECT_KEY].rpm < last || strcmp(c->team, "red") != 0)
            atomic_fetch_add(&r->wrong, 1);
        last = c->limits[LLM_SUBJECT_KEY].rpm;
        llm_caller_unref(c);
        atomic_fetch_add(&r->seen, 1);
    }
    return NULL;
}

static void change(llm_accounts acc, llm_account_kind kind, const char *name, int64_t rpm)
{
    llm_account_spec spec = LLM_ACCOUNT_SPEC_NONE;
    json_t *out = NULL;
    sl_err err = { 0 };

    spec.limits.rpm = rpm;
    if (acc.ops->update(acc.ctx, kind, name, &spec, &root, &out, &err) != SL_OK)
        fail_msg("%s", err.text);
    json_decref(out);
}

static void make_key(race *r)
{
    llm_accounts acc = access_accounts(r->a);
    llm_account_spec spec = LLM_ACCOUNT_SPEC_NONE;
    json_t *out = NULL;
    sl_err err = { 0 };

    spec.name = "app";
    spec.team = "red";
    spec.limits.rpm = 1;
    if (acc.ops->create(acc.ctx, LLM_ACCOUNT_KEY, &spec, &root, &out, &err) != SL_OK)
        fail_msg("%s", err.text);
    snprintf(r->key, sizeof r->key, "%s", json_string_value(json_object_get(out, "key")));
    json_decref(out);
}

static void test_race(void **state)
{
    char dir[] = "/tmp/sluice-race-XXXXXX", command[64];
    race r = { 0 };
    access_options o = { .data_dir = mkdtemp(dir), .poll_ms = 1 };
    access_control *other = NULL;
    pthread_t threads[THREADS];
    json_t *out = NULL;
    sl_err err = { 0 };

    assert_int_equal(access_open(&o, &r.a, &err), SL_OK);
    make_key(&r);
    o.is_offline = true;
    assert_int_equal(access_open(&o, &other, &err), SL_OK);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, knock, &r), 0);
    for (int i = 2; i < CHANGES; i++)
        change(access_accounts(i % 3 ? r.a : other), i % 2 ? LLM_ACCOUNT_KEY : LLM_ACCOUNT_TEAM,
               i % 2 ? "app" : "red", i);
    assert_int_equal(access_accounts(r.a).ops->list(r.a, LLM_ACCOUNT_KEY, &out, &err), SL_OK);
    json_decref(out);
    while (atomic_load(&r.seen) < 1000) /* the others are at work too */
        sched_yield();
    atomic_store(&r.stop, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&r.wrong), 0);
    access_destroy(other);
    access_destroy(r.a);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_race) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
