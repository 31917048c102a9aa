/* test_store.c - schema versions, transactions, binding, and a process killed in the middle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/attr.h"
#include "store/store.h"

static const char *const schema[] = { "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b BLOB)",
                                      "ALTER TABLE t ADD COLUMN c INTEGER NOT NULL DEFAULT 7",
                                      "CREATE TABLE u (t INTEGER REFERENCES t(id))" };

static char dir[64], path[128];

static int set_up(void **state)
{
    snprintf(dir, sizeof dir, "/tmp/sluice-store-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/made/for/it/x.db", dir);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static store *must_open(int versions)
{
    store *s = NULL;
    sl_err err = { 0 };

    if (store_open(path, schema, versions, &s, &err) != SL_OK)
        fail_msg("%s", err.text);
    return s;
}

static int64_t ask(store *s, const char *sql)
{
    store_stmt *st;
    bool row = false;
    int64_t ret;

    assert_int_equal(store_prepare(s, sql, &st, NULL), SL_OK);
    assert_int_equal(store_step(st, &row, NULL), SL_OK);
    ret = row ? store_int(st, 0) : -1;
    store_finish(st);
    return ret;
}

static void test_migrations(void **state)
{
    store *s = must_open(1);
    sl_err err = { 0 };

    assert_int_equal(store_exec(s, "INSERT INTO t (a) VALUES ('x')", NULL), SL_OK);
    store_close(s);
    s = must_open(3);
    assert_int_equal(ask(s, "PRAGMA user_version"), 3);
    assert_int_equal(ask(s, "SELECT c FROM t"), 7);
    assert_int_equal(ask(s, "PRAGMA foreign_keys"), 1);
    assert_int_equal(ask(s, "PRAGMA synchronous"), 2);
    store_close(s);
    s = NULL;
    assert_int_equal(store_open(path, schema, 2, &s, &err), SL_ECONFLICT);
    assert_non_null(strstr(err.text, "newer"));
    assert_null(s);
}

/* A migration that fails leaves the version before it. */
static void test_bad_migration(void **state)
{
    static const char *const bad[] = { "CREATE TABLE t (a)", "CREATE TABLE v (a); nonsense" };
    sl_err err = { 0 };
    store *s = NULL;

    assert_int_equal(store_open(path, bad, 2, &s, &err), SL_EIO);
    assert_int_equal(store_open(path, bad, 1, &s, &err), SL_OK);
    assert_int_equal(ask(s, "SELECT count(*) FROM sqlite_master WHERE name = 'v'"), 0);
    store_close(s);
}

static void test_binding(void **state)
{
    store *s = must_open(3);
    store_stmt *st;
    sl_err err = { 0 };
    bool row;

    assert_int_equal(store_prepare(s, "INSERT INTO t (id, a, b) VALUES (?, ?, ?)", &st, NULL),
                     SL_OK);
    store_bind_int(st, 1, 5);
    store_bind_str(st, 2, "it's \"x\"");
    store_bind_blob(st, 3, "\0\1\2", 3);
    assert_int_equal(store_run(st, NULL), SL_OK);
    assert_int_equal(store_last_id(s), 5);
    assert_int_equal(store_changes(s), 1);
    store_bind_int(st, 1, 5); /* the key is taken */
    assert_int_equal(store_run(st, &err), SL_ECONFLICT);
    store_bind_int(st, 9, 5); /* no such parameter */
    assert_int_not_equal(store_run(st, &err), SL_OK);
    store_finish(st);
    assert_int_equal(store_prepare(s, "SELECT a, b, NULL FROM t", &st, NULL), SL_OK);
    assert_int_equal(store_step(st, &row, NULL), SL_OK);
    assert_true(row);
    assert_string_equal(store_text(st, 0), "it's \"x\"");
    assert_int_equal(store_bytes(st, 1).len, 3);
    assert_string_equal(store_text(st, 2), "");
    assert_int_equal(store_step(st, &row, NULL), SL_OK);
    assert_false(row);
    store_finish(st);
    assert_int_equal(store_prepare(s, "SELEKT", &st, &err), SL_EIO);
    store_close(s);
}

static void test_transactions(void **state)
{
    store *s = must_open(3), *other = must_open(3);

    store_lock(s);
    assert_int_equal(store_begin(s, NULL), SL_OK);
    assert_int_equal(store_exec(s, "INSERT INTO t (id) VALUES (1)", NULL), SL_OK);
    assert_int_equal(ask(other, "SELECT count(*) FROM t"), 0);
    store_rollback(s);
    store_rollback(s);
    assert_int_equal(ask(s, "SELECT count(*) FROM t"), 0);
    assert_int_equal(store_begin(s, NULL), SL_OK);
    assert_int_equal(store_exec(s, "INSERT INTO t (id) VALUES (1)", NULL), SL_OK);
    assert_int_equal(store_exec(s, "INSERT INTO u VALUES (2)", NULL), SL_ECONFLICT);
    assert_int_equal(store_commit(s, NULL), SL_OK);
    store_unlock(s);
    assert_int_equal(ask(other, "SELECT count(*) FROM t"), 1);
    store_close(other);
    store_close(s);
}

static void test_killed(void **state)
{
    store *s = must_open(3);
    int status;
    pid_t pid;

    assert_int_equal(store_exec(s, "INSERT INTO t (id, a) VALUES (1, 'old')", NULL), SL_OK);
    store_close(s);
    pid = fork();
    if (pid == 0) {
        s = must_open(3);
        /* Enough bytes that pages spill to the log before the commit. */
        if (store_begin(s, NULL) == SL_OK &&
            store_exec(s,
                       "PRAGMA cache_size = 1; UPDATE t SET a = 'new';"
                       "INSERT INTO t (b) VALUES (randomblob(1000000))",
                       NULL) == SL_OK)
            kill(getpid(), SIGKILL);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    s = must_open(3);
    assert_int_equal(ask(s, "SELECT count(*) FROM t WHERE a = 'old'"), 1);
    assert_int_equal(ask(s, "SELECT count(*) FROM t"), 1);
    store_close(s);
}

static void test_not_a_database(void **state)
{
    sl_err err = { 0 };
    store *s = NULL;
    FILE *f;

    store_close(must_open(3));
    f = fopen(path, "wb");
    for (int i = 0; i < 2000; i++)
        fputs("this is no database ", f);
    fclose(f);
    assert_int_equal(store_open(path, schema, 3, &s, &err), SL_EFORMAT);
    assert_int_not_equal(store_open("/dev/null/x.db", schema, 3, &s, &err), SL_OK);
    assert_int_equal(store_open(":memory:", schema, 3, &s, &err), SL_OK);
    store_close(s);
    store_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_migrations, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_migration, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_binding, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_transactions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_killed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_a_database, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
