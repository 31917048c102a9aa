/* test_backup.c - names, what is kept, the way there and back, failing allocations. What a server
 * does meanwhile and what hostile archives hold: tests/api/test_backup.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/backup_int.h"
#include "base/hold.h"
#include "base/os.h"
#include "store/store.h"

static char dir[64];

static int set_up(void **state)
{
    snprintf(dir, sizeof dir, "/tmp/sluice-backup-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    tree_remove(dir);
    return 0;
}

static const char *in(const char *name)
{
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static void put(const char *name, const char *text)
{
    sl_err err = { 0 };
    int fd = -1;

    if (tree_file(in(name), &fd, &err) != SL_OK)
        fail_msg("%s", err.text);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static bool holds(const char *name, const char *text)
{
    sl_buf b;
    bool same;

    sl_buf_init(&b, 1000);
    same = sl_file_read(in(name), 1000, &b, NULL) == SL_OK && strcmp(sl_buf_str(&b), text) == 0;
    sl_buf_deinit(&b);
    return same;
}

static void make_database(const char *name)
{
    static const char *const schema[] = { "CREATE TABLE t (a TEXT)" };
    store *s = NULL;

    assert_int_equal(store_open(in(name), schema, 1, &s, NULL), SL_OK);
    store_lock(s);
    assert_int_equal(store_exec(s, "INSERT INTO t VALUES ('kept')", NULL), SL_OK);
    store_unlock(s);
    store_close(s);
}

static void test_names(void **state)
{
    static const char *const good[] = {
        "a", "data/a b", "data/..a/b..", "data/.hidden", "data/\xc3\xa4", "data/a:b"
    };
    static const char *const bad[] = { "",       "/",    "/a",    "a/",           "a//b",
                                       ".",      "..",   "a/..",  "../a",         "a/./b",
                                       "a/../b", "a\nb", "a\x7f", "data/\xff\xfe" };
    char deep[200] = "d", name[300];

    for (size_t i = 0; i < SL_COUNT_OF(good); i++)
        assert_true(backup_name_ok(good[i]));
    for (size_t i = 0; i < SL_COUNT_OF(bad); i++)
        assert_false(backup_name_ok(bad[i]));
    memset(name, 'n', 256);
    name[256] = '\0';
    assert_false(backup_name_ok(name));
    name[255] = '\0';
    assert_true(backup_name_ok(name));
    for (int i = 1; i < SL_BACKUP_DEPTH_MAX; i++)
        strcat(deep, "/d");
    assert_true(backup_name_ok(deep));
    assert_false(backup_name_ok(strcat(deep, "/d")));
}

static void make_data(void)
{
    static const char *const kept[] = { "d/access.secret", "d/files/file-1", "d/new/kind",
                                        "d/usage-0a.journal", "d/fake.db" };
    static const char *const passing[] = { "d/sluice.lock",    "d/files/lock",
                                           "d/files/tmp-1",    "d/real.db-wal",
                                           "d/x.tmp.123",      "d/.backup-x/copy.db",
                                           "d/models/blobs/b", "d/models/partial/p" };

    for (size_t i = 0; i < SL_COUNT_OF(kept); i++)
        put(kept[i], kept[i]);
    make_database("d/real.db");
    for (size_t i = 0; i < SL_COUNT_OF(passing); i++)
        put(passing[i], "passing");
}

static void test_plan(void **state)
{
    members plan = { 0 };
    const member *m;

    make_data();
    assert_int_equal(plan_make(in("d"), false, &plan, NULL), SL_OK);
    assert_int_equal(plan.count, 6);
    assert_non_null(members_find(&plan, "data/new/kind"));
    m = members_find(&plan, "data/real.db");
    assert_non_null(m);
    assert_int_equal(m->kind, MEMBER_DATABASE);
    assert_int_equal(members_find(&plan, "data/fake.db")->kind, MEMBER_FILE);
    members_free(&plan);
    assert_int_equal(plan_make(in("d"), true, &plan, NULL), SL_OK);
    assert_int_equal(plan.count, 7); /* the blob, not the partial download */
    members_free(&plan);
}

static sl_status round_trip(const char *to, const char *back, sl_err *err)
{
    const backup_options b = { .data = in("d"), .to = to };
    const restore_options r = { .from = to, .data = back };
    backup_report report;

    SL_TRY(backup_write(&b, &report, err));
    return backup_restore(&r, &report, err);
}

static void test_round_trip(void **state)
{
    sl_err err = { 0 };

    make_data();
    unlink(in("d/real.db-wal")); /* it was no such thing */
    if (round_trip(in("b.tar.zst"), in("back"), &err) != SL_OK)
        fail_msg("%s", err.text);
    assert_true(holds("back/new/kind", "d/new/kind"));
    assert_true(holds("back/fake.db", "d/fake.db"));
    assert_false(sl_file_exists(in("back/files/lock")));
    assert_int_equal(store_check(in("back/real.db"), NULL), SL_OK);
    /* Again to the same place: refused, and nothing is left over. */
    assert_int_equal(round_trip(in("b.tar.zst"), in("back"), &err), SL_ECONFLICT);
}

static void test_held(void **state)
{
    char data[256], file[256];
    const restore_options r = { .from = file, .data = data, .force = true };
    const backup_options b = { .data = data, .to = file };
    backup_report report;
    sl_err err = { 0 };
    int shared, alone;

    snprintf(data, sizeof data, "%s", in("d"));
    snprintf(file, sizeof file, "%s", in("b.tar.zst"));
    put("d/x", "x");
    assert_int_equal(sl_dir_hold(in("d"), false, &shared, NULL), SL_OK);
    assert_int_equal(backup_write(&b, &report, NULL), SL_OK); /* beside others */
    assert_int_equal(backup_restore(&r, &report, &err), SL_EBUSY);
    assert_int_equal(sl_dir_hold(in("d"), true, &alone, NULL), SL_EBUSY);
    close(shared);
    assert_int_equal(sl_dir_hold(in("d"), true, &alone, NULL), SL_OK);
    assert_int_equal(sl_dir_hold(in("d"), false, &shared, &err), SL_EBUSY);
    assert_non_null(strstr(err.text, "restored"));
    close(alone);
    assert_int_equal(backup_restore(&r, &report, &err), SL_OK);
}

/* Every allocation of a backup and a restore fails once: a status, and nothing is half there. */
static void test_out_of_memory(void **state)
{
    char to[256], back[256];
    bool done = false;

    make_data();
    for (unsigned long n = 1; !done; n++) {
        sl_err err = { 0 };

        snprintf(to, sizeof to, "%s/n%lu.tar.zst", dir, n);
        snprintf(back, sizeof back, "%s/back%lu", dir, n);
        sl_mem_fail_at(n);
        done = round_trip(to, back, &err) == SL_OK;
        sl_mem_fail_at(0);
        assert_true(done || err.text[0]);
        assert_int_equal(sl_file_exists(back), done);
        assert_true(n < 5000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test_setup_teardown(test_plan, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_held, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_out_of_memory, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
