/* test_ledger.c - records, sums, prices; kill -9 at random points. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "observe/observe.h"
#include "store/store.h"

#define DAY_MS  ((int64_t)86400000)
#define NOW_MS  ((int64_t)1700000000000)
#define KILLS   50
#define PER_RUN 4000

static void make_dir(char *dir)
{
    strcpy(dir, "/tmp/sluice-ledger-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

static void remove_dir(const char *dir)
{
    char cmd[80];

    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    assert_int_equal(system(cmd), 0);
}

static ledger *open_in(const char *dir, int keep_days)
{
    ledger *l = NULL;
    sl_err err = { 0 };

    if (ledger_open(&(ledger_options){ .dir = dir, .keep_days = keep_days }, &l, &err) != SL_OK)
        fail_msg("%s", err.text);
    return l;
}

static void add(ledger *l, const char *id, const char *key, const char *model, int64_t at_ms)
{
    ledger_add(l, &(ledger_record){ .id = id,
                                    .end_ms = at_ms,
                                    .columns = { key, "", "red", model, "/v1/completions", "stop" },
                                    .tokens = { 10, 3, 5, 1 },
                                    .queue_us = 2000,
                                    .cost_nusd = 7 });
}

typedef struct sums {
    int rows;
    llm_usage_row row[16];
    char text[16][64];
} sums;

static void on_row(void *ctx, const llm_usage_row *row)
{
    sums *s = ctx;

    assert_in_range(s->rows, 0, 15);
    snprintf(s->text[s->rows], sizeof s->text[0], "%s/%s", row->columns[LLM_USAGE_KEY],
             row->columns[LLM_USAGE_MODEL]);
    s->row[s->rows++] = *row;
}

static sums ask(ledger *l, const llm_usage_query *q)
{
    llm_usage_source source = ledger_source(l);
    sums s = { 0 };
    sl_err err = { 0 };

    if (source.ops->query(source.ctx, q, on_row, &s, &err) != SL_OK)
        fail_msg("%s", err.text);
    return s;
}

static void test_sums(void **state)
{
    llm_usage_query q = { .begin_ms = NOW_MS - 10 * DAY_MS, .end_ms = NOW_MS + 1 };
    char dir[64], id[16];
    ledger *l;
    sums s;

    make_dir(dir);
    l = open_in(dir, 0);
    for (int i = 0; i < 12; i++) {
        snprintf(id, sizeof id, "r%d", i);
        add(l, id, i % 3 ? "a'b" : "c", i % 2 ? "m" : "n", NOW_MS - i * DAY_MS / 2);
    }
    s = ask(l, &q);
    assert_int_equal(s.rows, 1);
    assert_int_equal(s.row[0].requests, 12);
    assert_int_equal(s.row[0].fresh, 120);
    assert_int_equal(s.row[0].cached, 36);
    assert_int_equal(s.row[0].output, 60);
    assert_int_equal(s.row[0].reasoning, 12);
    assert_int_equal(s.row[0].cost_nusd, 84);
    assert_int_equal(s.row[0].queue_ms, 24);
    q.by[LLM_USAGE_KEY] = q.by[LLM_USAGE_MODEL] = true;
    s = ask(l, &q);
    assert_int_equal(s.rows, 4);
    assert_string_equal(s.text[0], "a'b/m");
    assert_int_equal(s.row[0].requests + s.row[1].requests, 8);
    q.only[LLM_USAGE_KEY][0] = "a'b";
    q.only_count[LLM_USAGE_KEY] = 1;
    s = ask(l, &q);
    assert_int_equal(s.rows, 2);
    /* Old records become sums of days, and the sums stay the same. */
    assert_int_equal(ledger_roll_up(l, NOW_MS + 88 * DAY_MS, &(sl_err){ 0 }), SL_OK);
    q.only_count[LLM_USAGE_KEY] = 0;
    q.by[LLM_USAGE_KEY] = q.by[LLM_USAGE_MODEL] = false;
    q.bucket_ms = DAY_MS;
    s = ask(l, &q);
    assert_in_range(s.rows, 6, 7);
    q.bucket_ms = 0;
    s = ask(l, &q);
    assert_int_equal(s.row[0].requests, 12);
    assert_int_equal(s.row[0].cost_nusd, 84);
    ledger_close(l);
    /* Everything again after a restart. */
    l = open_in(dir, 0);
    s = ask(l, &q);
    assert_int_equal(s.row[0].requests, 12);
    ledger_close(l);
    remove_dir(dir);
}

/* A database as the first release made it keeps its records. */
static void test_old_database(void **state)
{
    static const char *const first[] = {
        "CREATE TABLE usage (id TEXT PRIMARY KEY, at INTEGER NOT NULL, key TEXT NOT NULL,"
        " user TEXT NOT NULL, team TEXT NOT NULL, model TEXT NOT NULL, route TEXT NOT NULL,"
        " outcome TEXT NOT NULL, embedding INTEGER NOT NULL, fresh INTEGER NOT NULL,"
        " cached INTEGER NOT NULL, output INTEGER NOT NULL, reasoning INTEGER NOT NULL,"
        " queue INTEGER NOT NULL, prefill INTEGER NOT NULL, decode INTEGER NOT NULL,"
        " cost INTEGER NOT NULL) WITHOUT ROWID;"
        "CREATE INDEX usage_at ON usage (at);"
        "INSERT INTO usage VALUES ('b', 1700000000000, 'k', 'u', 't', 'm', 'r', 'stop', 0,"
        " 1, 2, 3, 4, 5000, 6000, 7000, 8), ('a', 1700000000000, 'k', 'u', 't', 'm', 'r', 'stop',"
        " 0, 10, 20, 30, 40, 50000, 60000, 70000, 80);"
        "CREATE TABLE usage_daily (at INTEGER NOT NULL, key TEXT NOT NULL, user TEXT NOT NULL,"
        " team TEXT NOT NULL, model TEXT NOT NULL, route TEXT NOT NULL, outcome TEXT NOT NULL,"
        " embedding INTEGER NOT NULL, requests INTEGER NOT NULL, fresh INTEGER NOT NULL,"
        " cached INTEGER NOT NULL, output INTEGER NOT NULL, reasoning INTEGER NOT NULL,"
        " queue INTEGER NOT NULL, prefill INTEGER NOT NULL, decode INTEGER NOT NULL,"
        " cost INTEGER NOT NULL,"
        " PRIMARY KEY (at, key, user, team, model, route, outcome, embedding)) WITHOUT ROWID;",
    };
    llm_usage_query q = { .begin_ms = 0, .end_ms = INT64_MAX };
    char dir[64], path[80];
    store *db = NULL;
    sl_err err = { 0 };
    ledger *l;
    sums s;

    make_dir(dir);
    snprintf(path, sizeof path, "%s/usage.db", dir);
    assert_int_equal(store_open(path, first, 1, &db, &err), SL_OK);
    store_close(db);
    l = open_in(dir, 0);
    add(l, "c", "k", "m", NOW_MS);
    s = ask(l, &q);
    assert_int_equal(s.row[0].requests, 3);
    assert_int_equal(s.row[0].fresh, 21);
    assert_int_equal(s.row[0].cost_nusd, 95);
    assert_int_equal(s.row[0].decode_ms, 77);
    ledger_close(l);
    remove_dir(dir);
}

/* More records than a journal file has room for, while somebody else has the database. */
static void test_full_journal(void **state)
{
    enum { COUNT = 12000 };
    llm_usage_query q = { .begin_ms = 0, .end_ms = INT64_MAX };
    char dir[64], path[80], id[16];
    sqlite3 *other = NULL;
    ledger *l;
    sums s;

    make_dir(dir);
    l = open_in(dir, 0);
    snprintf(path, sizeof path, "%s/usage.db", dir);
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
    sqlite3_busy_timeout(other, 30000); /* the ledger begins by looking for what is old */
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    for (int i = 0; i < COUNT; i++) {
        snprintf(id, sizeof id, "r%d", i);
        add(l, id, "k", "m", NOW_MS);
    }
    ledger_close(l);
    sqlite3_close(other);
    l = open_in(dir, 0);
    s = ask(l, &q);
    assert_int_equal(s.row[0].requests, COUNT);
    ledger_close(l);
    remove_dir(dir);
}

/* ---- kill -9 ------------------------------------------------------------------------------- */

/* Adds records and tells each one's number after it was added. */
static void child(const char *dir, int run, int fd)
{
    ledger *l = open_in(dir, 0);
    char id[32];

    for (int i = 0; i < PER_RUN; i++) {
        snprintf(id, sizeof id, "%d-%d", run, i);
        add(l, id, "k", "m", sl_clock_wall_ms());
        if (write(fd, &i, sizeof i) != sizeof i)
            _exit(1);
    }
    pause();
}

static void test_kill(void **state)
{
    llm_usage_query q = { .begin_ms = 0, .end_ms = INT64_MAX };
    int64_t told = 0, sent = 0;
    char dir[64];
    ledger *l;
    sums s;

    srand(1);
    make_dir(dir);
    for (int run = 0; run < KILLS; run++) {
        int stop_at = rand() % PER_RUN, pipe_fds[2], i = -1, last = -1;
        pid_t pid;

        assert_int_equal(pipe(pipe_fds), 0);
        pid = fork();
        if (pid == 0)
            child(dir, run, pipe_fds[1]);
        close(pipe_fds[1]);
        while (i < stop_at && read(pipe_fds[0], &i, sizeof i) == sizeof i)
            last = i;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        while (read(pipe_fds[0], &i, sizeof i) == sizeof i)
            last = i;
        close(pipe_fds[0]);
        told += last + 1;
        sent += SL_MIN(last + 2, PER_RUN); /* one more may have been written and not told */
    }
    l = open_in(dir, 0);
    s = ask(l, &q);
    assert_int_equal(s.rows, 1);
    assert_in_range(s.row[0].requests, told, sent);
    assert_int_equal(s.row[0].fresh, s.row[0].requests * 10);
    ledger_close(l);
    remove_dir(dir);
}

/* ---- prices -------------------------------------------------------------------------------- */

static void test_prices(void **state)
{
    int64_t day = 0;
    sl_err err;

    assert_int_equal(price_day("2026-02-01", &day, &err), SL_OK);
    assert_int_equal(price_day("2026-02-30", &day, &err), SL_EINVAL);
    assert_int_equal(price_day("soon", &day, &err), SL_EINVAL);
    assert_int_equal(day, 20485);
    price rows[] = { { "gpt-*", 1, 0.1, 4, 0, day }, { "gpt-4", 2, 0.2, 8, day, 0 } };
    const price_table t = { rows, 2 };
    const llm_tokens tokens = { 1000, 100, 10, 5 };

    assert_int_equal(price_cost_nusd(&t, "gpt-4", &tokens, day * DAY_MS - 1),
                     1000 * 1000 + 100 * 100 + 15 * 4000);
    assert_int_equal(price_cost_nusd(&t, "gpt-4", &tokens, day * DAY_MS),
                     2 * (1000 * 1000 + 100 * 100 + 15 * 4000));
    assert_int_equal(price_cost_nusd(&t, "gpt-3", &tokens, day * DAY_MS), 0);
    assert_int_equal(price_cost_nusd(&t, "other", &tokens, 0), 0);
}

/* ---- the stage ----------------------------------------------------------------------------- */

static void test_stage(void **state)
{
    llm_usage_query q = { .begin_ms = 0,
                          .end_ms = INT64_MAX,
                          .by = { [LLM_USAGE_OUTCOME] = true } };
    char dir[64];
    ledger *l;
    sums s;

    make_dir(dir);
    l = open_in(dir, 0);
    for (int i = 0; i < 4; i++) {
        llm_request *req = llm_request_create(i == 3 ? LLM_EMBED : LLM_CHAT, SL_MIB);

        snprintf(req->id, sizeof req->id, "the-same"); /* callers may say so */
        req->model = "m";
        assert_int_equal(ledger_stage.on_admit(l, req, NULL, NULL), LLM_PASS);
        if (i == 1)
            ledger_stage.on_event(l, req, &(llm_event){ .kind = LLM_EV_ERROR });
        if (i == 2)
            llm_cancel(req);
        if (req->task == LLM_CHAT)
            ledger_stage.on_event(
                l, req, &(llm_event){ .kind = LLM_EV_FINISH, .finish = LLM_FINISH_LENGTH });
        ledger_stage.on_done(
            l, req,
            &(llm_usage){
                .prompt_tokens = 7, .cached_tokens = 3, .output_tokens = 2, .ttft_ns = 3000000 });
        llm_request_destroy(req);
    }
    s = ask(l, &q);
    assert_int_equal(s.rows, 4);
    assert_int_equal(s.row[0].fresh, 4);
    q.embeddings = true;
    assert_int_equal(ask(l, &q).rows, 1);
    ledger_close(l);
    remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),  cmocka_unit_test(test_old_database),
        cmocka_unit_test(test_full_journal),
        cmocka_unit_test(test_kill),  cmocka_unit_test(test_prices),
        cmocka_unit_test(test_stage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
