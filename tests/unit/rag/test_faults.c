/* test_faults.c - ingestion that is killed, and disks that are full: every collection is consistent
 * afterwards, old versions are whole, and what was taken comes in in the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"
#include "fake.h"
#include "rag/ingest.h"

#define DOCS 9

static fake_place place;
static fake f;

static int set_up(void **state)
{
    /* In memory where there is such a place: a killed process needs no disk that keeps its word. */
    if (!fake_place_make(&place, access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", "rag.db"))
        return -1;
    fake_init(&f);
    return 0;
}

static int tear_down(void **state)
{
    fake_deinit(&f);
    return fake_place_remove(&place);
}

static rag *must_open(int workers)
{
    return fake_open(&f, place.path, workers);
}

/* The database as begin_base left it. */
static void begin_again(void)
{
    char command[512];

    snprintf(command, sizeof command, "rm -f '%s'* && cp '%s/base.db' '%s'", place.path, place.dir,
             place.path);
    assert_int_equal(system(command), 0);
}

static int64_t number(rag *r, const char *sql)
{
    store_stmt *st = NULL;
    int64_t n = -1;

    store_lock(r->db);
    assert_int_equal(rag_db_first(r, NULL, &st, NULL, sql, ""), SL_OK);
    if (st)
        n = store_int(st, 0);
    store_finish(st);
    store_unlock(r->db);
    return n;
}

static void settle(rag *r)
{
    sl_err err = { 0 };
    int64_t id;

    while ((id = number(r, "SELECT min(id) FROM queue HAVING count(*) > 0")) >= 0)
        if (ingest_wait(r, id, &err) != SL_OK)
            fail_msg("%s", err.text);
}

/* Version v of a document: three passages that say which they are. */
static void text_of(char *ret, size_t bytes, int doc, int v)
{
    snprintf(ret, bytes,
             "# Doc %d\n\n## A\n\nversion%d alpha of it.\n\n## B\n\nversion%d beta of it.\n\n"
             "## C\n\nversion%d gamma of it.\n",
             doc, v, v, v);
}

static sl_status submit(rag *r, int doc, int v, sl_err *err)
{
    char name[32], text[512];
    json_t *d = NULL;
    sl_status status;

    snprintf(name, sizeof name, "%d.md", doc);
    text_of(text, sizeof text, doc, v);
    status = document_submit(r, &(llm_document_spec){ .name = name, .bytes = sl_span_str(text) },
                             NULL, &d, err);
    json_decref(d);
    return status;
}

static void must_submit(rag *r, int doc, int v)
{
    sl_err err = { 0 };

    if (submit(r, doc, v, &err) != SL_OK)
        fail_msg("document %d, version %d: %s", doc, v, err.text);
}

/* Each document is one version as a whole, of those up to `most`, with its words in the index, and
 * whatever is promised is in the queue. Returns how many are of the newest version. */
static int check_whole(rag *r, int most)
{
    int newest = 0;

    for (int doc = 0; doc < DOCS; doc++) {
        char sql[256], text[512];
        int is = -1;

        for (int v = 0; v <= most; v++) {
            text_of(text, sizeof text, doc, v);
            snprintf(sql, sizeof sql,
                     "SELECT chunks = 3 AND 3 = (SELECT count(*) FROM chunks WHERE document = d.id"
                     " AND text LIKE 'version%d %%') AND length(text) = %zu"
                     " FROM documents d WHERE name = '%d.md'",
                     v, strlen(text), doc);
            if (number(r, sql) == 1)
                is = v;
        }
        snprintf(sql, sizeof sql,
                 "SELECT count(*) FROM documents WHERE name = '%d.md' AND chunks"
                 " > 0",
                 doc);
        if (number(r, sql) == 1)
            assert_in_range(is, 0, most);
        newest += is == most;
    }
    assert_int_equal(number(r, "SELECT count(*) FROM chunks c WHERE NOT EXISTS (SELECT 1 FROM"
                               " documents WHERE id = c.document)"),
                     0);
    assert_int_equal(number(r, "SELECT count(*) FROM documents d WHERE (status = 'in_progress') !="
                               " EXISTS (SELECT 1 FROM queue WHERE document = d.id)"),
                     0);
    assert_int_equal(number(r, "SELECT count(*) FROM documents WHERE status = 'failed'"), 0);
    assert_int_equal(
        store_exec(r->db, "INSERT INTO chunk_words (chunk_words) VALUES ('integrity-check')", NULL),
        SL_OK);
    assert_int_equal(number(r, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check"
                               " != 'ok'"),
                     0);
    return newest;
}

/* ---- kill -9 -------------------------------------------------------------------------------- */

static int steps_left;

static void count_down(void *ctx, int step)
{
    if (--steps_left == 0)
        kill(getpid(), SIGKILL);
}

/* Bytes that this thread keeps ready would be given by parent and child. */
static void part_ways(void)
{
    char bytes[64];

    for (int i = 0; i < 4; i++)
        sl_random_bytes(bytes, sizeof bytes);
}

/* Replaces half of the documents and adds the others, killed at step n. */
static void run_child(int n)
{
    rag *r;

    part_ways();
    r = must_open(0);
    steps_left = n;
    r->on_write = count_down;
    for (int doc = 0; doc < DOCS; doc++)
        if (submit(r, doc, 1, NULL) != SL_OK)
            _exit(2);
    settle(r);
    _exit(0);
}

static void begin_base(void)
{
    char command[512];
    rag *r = must_open(0);

    for (int doc = 0; doc < DOCS / 2; doc++)
        must_submit(r, doc, 0);
    settle(r);
    assert_int_equal(check_whole(r, 0), DOCS / 2);
    rag_close(r);
    snprintf(command, sizeof command, "cp '%s' '%s/base.db'", place.path, place.dir);
    assert_int_equal(system(command), 0);
    fake_join(&f); /* no thread is lost in the fork */
}

static void test_killed_at_every_step(void **state)
{
    int points = 0, status = 0;
    bool ended = false;

    begin_base();
    for (int n = 1; !ended; n++) {
        rag *r;
        pid_t pid;

        begin_again();
        pid = fork();
        if (pid == 0)
            run_child(n);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        ended = WIFEXITED(status);
        if (ended)
            assert_int_equal(WEXITSTATUS(status), 0);
        points += !ended;
        r = must_open(0);
        (void)check_whole(r, 1);
        settle(r); /* what was taken comes in */
        (void)check_whole(r, 1);
        for (int doc = 0; doc < DOCS; doc++)
            must_submit(r, doc, 1);
        settle(r);
        assert_int_equal(check_whole(r, 1), DOCS);
        rag_close(r);
        fake_join(&f);
    }
    assert_in_range(points, 100, 1000);
}

/* With threads at work, at moments that nobody chose. */
static void test_killed_at_random(void **state)
{
    begin_base();
    for (int i = 0; i < 40; i++) {
        uint32_t random;
        rag *r;
        pid_t pid;
        int status;

        sl_random_bytes(&random, sizeof random);
        pid = fork();
        if (pid == 0) {
            part_ways();
            r = must_open(2);
            for (int v = i * 5;; v++)
                for (int doc = 0; doc < DOCS; doc++)
                    (void)!submit(r, doc, v % 1000, NULL);
        }
        nanosleep(&(struct timespec){ 0, random % 30000000 }, NULL);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        r = must_open(0);
        (void)check_whole(r, 999);
        settle(r);
        (void)check_whole(r, 999);
        rag_close(r);
        fake_join(&f);
    }
}

/* ---- a full disk ---------------------------------------------------------------------------- */

/* Files may not grow past a bound: within submitting, within storing, or not at all. */
static void run_limited(int kib)
{
    struct rlimit all, little;
    sl_err err = { 0 };
    json_t *d = NULL;
    char *text = malloc(200000);
    sl_status status;
    rag *r;

    part_ways();
    r = must_open(0);
    for (int i = 0; i < 200000 - 1; i++)
        text[i] = i % 2000 == 1999 ? '\n' : i % 10 == 9 ? ' ' : (char)('a' + i % 7);
    text[200000 - 1] = '\0';
    getrlimit(RLIMIT_FSIZE, &all);
    little = (struct rlimit){ (rlim_t)kib * 1024, all.rlim_max };
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &little);
    status = document_add(r, &(llm_document_spec){ .name = "big.txt", .bytes = sl_span_str(text) },
                          &d, &err);
    if (status != SL_OK && status != SL_EIO)
        _exit(2);
    if (status == SL_EIO && !err.text[0])
        _exit(3);
    (void)check_whole(r, 0); /* readable while the disk is full; exits by a failed assertion */
    setrlimit(RLIMIT_FSIZE, &all);
    settle(r); /* if it was taken, it comes in now */
    if (check_whole(r, 0) != DOCS / 2)
        _exit(4);
    status = document_add(r, &(llm_document_spec){ .name = "big.txt", .bytes = sl_span_str(text) },
                          &d, &err);
    _exit(status == SL_OK &&
                  strcmp(json_string_value(json_object_get(d, "status")), "completed") == 0
              ? 0
              : 5);
}

static void test_disk_full(void **state)
{
    begin_base();
    for (int kib = 64; kib <= 2048; kib += kib / 3) {
        int status;
        rag *r;
        pid_t pid;

        begin_again();
        pid = fork();
        if (pid == 0)
            run_limited(kib);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
        r = must_open(0);
        assert_int_equal(check_whole(r, 0), DOCS / 2);
        rag_close(r);
        fake_join(&f);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_killed_at_every_step),
        CASE(test_killed_at_random),
        CASE(test_disk_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
