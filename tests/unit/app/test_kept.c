/* test_kept.c - kept responses: each owner's own, removal against the writer, bounds, a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/kept.h"
#include "base/mem.h"

static char dir[64], path[96];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/sluice-kept-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/responses.db", dir);
    return 0;
}

static int remove_dir(void **state)
{
    static const char *const ends[] = { "", "-wal", "-shm" };
    char file[128];

    (void)state;
    for (size_t i = 0; i < SL_COUNT_OF(ends); i++) {
        snprintf(file, sizeof file, "%s%s", path, ends[i]);
        unlink(file);
    }
    return rmdir(dir);
}

static kept *open_it(void)
{
    sl_err err = { 0 };
    kept *k = NULL;

    if (kept_open(path, &k, &err) != SL_OK)
        fail_msg("%s", err.text);
    return k;
}

static sl_status put(kept *k, const char *owner, const char *id, const char *text)
{
    const api_kept a = kept_responses(k);
    sl_err err;

    return a.ops->put(a.ctx, owner, id, sl_span_str(text), &err);
}

static sl_status drop(kept *k, const char *owner, const char *id)
{
    const api_kept a = kept_responses(k);
    sl_err err;

    return a.ops->remove(a.ctx, owner, id, &err);
}

/* want NULL: nothing is kept. */
static void expect(kept *k, const char *owner, const char *id, const char *want)
{
    const api_kept a = kept_responses(k);
    sl_err err;
    sl_buf b;

    sl_buf_init(&b, SL_RESPONSE_BYTES_MAX);
    assert_int_equal(a.ops->get(a.ctx, owner, id, &b, &err), want ? SL_OK : SL_ENOTFOUND);
    if (want)
        assert_string_equal(sl_buf_str(&b), want);
    sl_buf_deinit(&b);
}

static void test_owners(void **state)
{
    kept *k = open_it();

    (void)state;
    assert_int_equal(put(k, "a", "1", "mine"), SL_OK);
    expect(k, "a", "1", "mine"); /* at once */
    expect(k, "b", "1", NULL);
    assert_int_equal(drop(k, "b", "1"), SL_ENOTFOUND);
    kept_close(k);
    k = open_it(); /* and after a restart */
    expect(k, "a", "1", "mine");
    expect(k, "b", "1", NULL);
    assert_int_equal(drop(k, "a", "1"), SL_OK);
    expect(k, "a", "1", NULL);
    assert_int_equal(drop(k, "a", "1"), SL_ENOTFOUND);
    kept_close(k);
}

/* What was removed stays away, wherever the writer was. */
static void *put_and_drop(void *ctx)
{
    kept *k = ctx;
    char owner[32], id[32];

    snprintf(owner, sizeof owner, "%lx", (unsigned long)pthread_self());
    for (int i = 0; i < 200; i++) {
        snprintf(id, sizeof id, "r%d", i);
        assert_int_equal(put(k, owner, id, "x"), SL_OK);
        if (i % 2 == 0)
            assert_int_equal(drop(k, owner, id), SL_OK);
        expect(k, owner, id, i % 2 ? "x" : NULL);
    }
    for (int i = 0; i < 200; i++) {
        snprintf(id, sizeof id, "r%d", i);
        expect(k, owner, id, i % 2 ? "x" : NULL);
    }
    return NULL;
}

static void test_removal_against_the_writer(void **state)
{
    kept *k = open_it();
    pthread_t threads[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, put_and_drop, k), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    kept_close(k);
}

/* An owner keeps his newest; nobody else's are touched. */
static void test_bounds(void **state)
{
    const size_t len = 6 * SL_MIB, most = SL_RESPONSES_BYTES_MAX / len;
    char *big = sl_malloc(len + 1), id[32];
    kept *k;

    (void)state;
    memset(big, 'x', len);
    big[len] = '\0';
    for (size_t i = 0; i < most + 2; i += 4) { /* closed now and then: no more than 64 MiB wait */
        k = open_it();
        for (size_t n = i; n < i + 4; n++) {
            snprintf(id, sizeof id, "%zu", n);
            assert_int_equal(put(k, "a", id, big), SL_OK);
        }
        assert_int_equal(put(k, "b", id, "small"), SL_OK);
        kept_close(k);
    }
    k = open_it();
    expect(k, "a", "0", NULL);
    expect(k, "a", id, big);
    expect(k, "b", id, "small");
    expect(k, "b", "3", "small");
    kept_close(k);
    sl_free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_owners, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_removal_against_the_writer, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_bounds, make_dir, remove_dir),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
