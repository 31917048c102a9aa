/* test_log.c - what lines say and hide, which there are, and the queue: order, drops, files, a
 * crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log_int.h"
#include "base/mem.h"
#include "base/os.h"

static char dir[64], path[96], other[96];

/* ---- text ---------------------------------------------------------------------------------- */

static void expect_line(sl_log_format format, bool colour, const log_record *r, const char *want)
{
    sl_buf b;

    sl_buf_init(&b, LOG_LINE_BYTES_MAX);
    log_put_line(&b, &(log_style){ format, colour }, r);
    assert_string_equal(sl_buf_str(&b), want);
    sl_buf_deinit(&b);
}

static void test_formats(void **state)
{
    const sl_log_field fields[] = { SL_F_STR("s", "two words"),      SL_F_STR("q", "a\"\n\x1b[2J"),
                                    SL_F_NUM("n", -1234567890123.0), SL_F_NUM("ms", 12.3456),
                                    SL_F_NUM("half", -2.5),          SL_F_NUM("round", 1.9999),
                                    SL_F_NUM("tiny", 0.00012345),    SL_F_NUM("zero", 0),
                                    SL_F_NUM("nan", 0.0 / 0.0) };
    const log_record r = { SL_LOG_WARN, "a.b", 1795677669123, fields, 9, NULL };

    expect_line(SL_LOG_JSON, false, &r,
                "{\"time\":\"2026-11-26T07:21:09.123Z\",\"level\":\"warn\",\"event\":\"a.b\","
                "\"s\":\"two words\",\"q\":\"a\\\"\\n\\u001b[2J\",\"n\":-1234567890123,"
                "\"ms\":12.346,\"half\":-2.5,\"round\":2,\"tiny\":0.00012345,\"zero\":0,"
                "\"nan\":null}\n");
    expect_line(SL_LOG_TEXT, false, &r,
                "2026-11-26T07:21:09.123Z warn  a.b s=\"two words\" q=\"a\\\"\\n\\u001b[2J\" "
                "n=-1234567890123 ms=12.346 half=-2.5 round=2 tiny=0.00012345 zero=0 nan=null\n");
    expect_line(SL_LOG_PLAIN, false, &(log_record){ SL_LOG_WARN, "a.b", 0, fields, 1, NULL },
                "warn: a.b s=two words\n");
    expect_line(SL_LOG_TEXT, true,
                &(log_record){ SL_LOG_INFO, "a.b", 951782400000, fields, 0, NULL },
                "\x1b[2m2000-02-29T00:00:00.000Z\x1b[0m \x1b[32minfo \x1b[0m \x1b[1ma.b\x1b[0m\n");
}

/* Times against the C library's, over leap years and the ends of months. */
static void test_time(void **state)
{
    char got[25] = "", want[64];

    for (int64_t ms = 0; ms < 5000000000000; ms += 86399999 * 13LL) {
        time_t s = (time_t)(ms / 1000);
        struct tm tm;
        size_t n;

        gmtime_r(&s, &tm);
        n = strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(want + n, sizeof want - n, ".%03dZ", (int)(ms % 1000));
        log_put_time(got, ms);
        assert_string_equal(got, want);
    }
}

static void check_value(const char *key, const char *value, const char *want)
{
    const sl_log_field f = { .key = key, .str = value };
    sl_buf b;

    sl_buf_init(&b, LOG_LINE_BYTES_MAX);
    log_put_line(&b, &(log_style){ SL_LOG_JSON, false },
                 &(log_record){ SL_LOG_INFO, "e", 0, &f, 1, NULL });
    if (!strstr(sl_buf_str(&b), want))
        fail_msg("%s: no %s", sl_buf_str(&b), want);
    sl_buf_deinit(&b);
}

#define JWT "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ"

static void test_secrets(void **state)
{
    check_value("authorization", "anything", ":\"[redacted]\"");
    check_value("Password", "hunter2", ":\"[redacted]\"");
    check_value("error", "got Bearer abcd1234-x here", ":\"got Bearer [redacted] here\"");
    check_value("error", "Authorization: basic dXNlcjpwYXNzMQ==", ":\"Authorization: basic [red");
    check_value("error", "token=" JWT "!", ":\"token=[redacted]!\"");
    check_value("error", "keys sk-sluice-0123456789abcdef, sk-proj-0123456789abcdef",
                ":\"keys sk-[redacted], sk-[redacted]\"");
    /* What only looks alike stays. */
    check_value("error", "basic knowledge, risk-management-officers", "\"basic knowledge, risk-m");
    check_value("key", "key_1a2b3c4d", "\"key_1a2b3c4d\"");
    check_value("prompt_tokens", "12", "\"12\"");
    check_value("error", "eyJ is how they begin", "\"eyJ is how");
}

static void test_long_values_are_cut(void **state)
{
    char *text = sl_malloc(LOG_VALUE_BYTES_MAX + 101);

    for (size_t i = 0; i < LOG_VALUE_BYTES_MAX + 100; i += 2)
        memcpy(text + i, "\xc3\xa4", 2);
    text[LOG_VALUE_BYTES_MAX + 100] = '\0';
    check_value("prompt", text, "\xc3\xa4... (100 bytes more)\"");
    sl_free(text);
}

/* ---- which lines --------------------------------------------------------------------------- */

static char *file_text(const char *name)
{
    static sl_buf b;

    sl_buf_deinit(&b);
    sl_buf_init(&b, 64 * SL_MIB);
    assert_int_equal(sl_file_read(name, 64 * SL_MIB, &b, NULL), SL_OK);
    return b.ptr ? b.ptr : (char *)(uintptr_t) "";
}

static int lines_with(const char *name, const char *what)
{
    int n = 0;

    for (const char *p = file_text(name); (p = strstr(p, what)); p += strlen(what))
        n++;
    return n;
}

static void start(const sl_log_options *given)
{
    sl_log_options o = *given;
    sl_err err;

    o.path = o.path ? o.path : path;
    unlink(o.path);
    if (sl_log_start(&o, &err) != SL_OK)
        fail_msg("%s", err.text);
}

static void test_levels(void **state)
{
    sl_log_level level;
    sl_err err;

    start(&(sl_log_options){ 0 });
    sl_log_set_level(SL_LOG_WARN);
    assert_int_equal(sl_log_set_room("http", SL_LOG_DEBUG, &err), SL_OK);
    assert_int_equal(sl_log_set_room("http.noise", SL_LOG_ERROR, &err), SL_OK);
    SL_LOG(SL_LOG_DEBUG, "http.yes", SL_F_NUM("a", 1));
    SL_LOG(SL_LOG_DEBUG, "http", SL_F_NUM("a", 2));
    SL_LOG(SL_LOG_WARN, "http.noise", SL_F_NUM("no", 1));
    SL_LOG(SL_LOG_WARN, "http.noise.more", SL_F_NUM("no", 1));
    SL_LOG(SL_LOG_INFO, "httpd.other", SL_F_NUM("no", 1));
    SL_LOG(SL_LOG_INFO, "server.x", SL_F_NUM("no", 1));
    SL_LOG(SL_LOG_WARN, "server.x", SL_F_NUM("a", 3));
    sl_log_clear_rooms();
    SL_LOG(SL_LOG_INFO, "http.yes", SL_F_NUM("no", 1));
    sl_log_set_level(SL_LOG_INFO);
    sl_log_stop();
    assert_int_equal(lines_with(path, "\"a\":"), 3);
    assert_int_equal(lines_with(path, "\"no\":"), 0);
    assert_true(sl_log_level_of("debug", &level) && level == SL_LOG_DEBUG);
    assert_false(sl_log_level_of("loud", &level));
    assert_int_equal(sl_log_set_room("", SL_LOG_INFO, &err), SL_ELIMIT);
}

static void test_context(void **state)
{
    const sl_log_field outer[] = { SL_F_STR("request_id", "r1"), SL_F_STR("key", "k") };
    const sl_log_field inner[] = { SL_F_STR("request_id", "r1"), SL_F_STR("model", "m") };
    sl_log_scope a, b;

    start(&(sl_log_options){ 0 });
    sl_log_push(&a, outer, 2);
    sl_log_push(&b, inner, 2);
    SL_LOG(SL_LOG_INFO, "c.both", SL_F_STR("model", "own"));
    sl_log_pop(&b);
    SL_LOG(SL_LOG_INFO, "c.outer", SL_F_NUM("n", 1));
    sl_log_pop(&a);
    SL_LOG(SL_LOG_INFO, "c.none", SL_F_NUM("n", 1));
    sl_log_stop();
    assert_non_null(strstr(file_text(path), "\"event\":\"c.both\",\"model\":\"own\","
                                            "\"request_id\":\"r1\",\"key\":\"k\"}\n"));
    assert_non_null(strstr(file_text(path), "\"event\":\"c.outer\",\"n\":1,\"request_id\":\"r1\","
                                            "\"key\":\"k\"}\n"));
    assert_non_null(strstr(file_text(path), "\"event\":\"c.none\",\"n\":1}\n"));
}

/* Within one second of the wall clock: a storm that crosses into the next is tried again. */
static void test_repeats(void **state)
{
    sl_log_counts before, after;
    int64_t second;

    do {
        while (sl_clock_wall_ms() % 1000 > 300)
            usleep(1000);
        start(&(sl_log_options){ .repeats_max = 5 });
        sl_log_read_counts(&before);
        second = sl_clock_wall_ms() / 1000;
        for (int i = 0; i < 40; i++)
            sl_log_write_each(SL_LOG_INFO, "r.storm", &SL_F_NUM("each", i), 1);
        SL_LOG(SL_LOG_INFO, "r.calm", SL_F_NUM("n", 1));
        for (int i = 0; i < 40; i++) {
            SL_LOG(SL_LOG_INFO, "r.storm", SL_F_NUM("n", i));
            SL_LOG(SL_LOG_WARN, "r.storm", SL_F_NUM("n", i));
            if (i == 4) { /* the writer sleeps, and no other line wakes it */
                sl_log_flush();
                usleep(20000);
            }
        }
        sl_log_read_counts(&after);
        if (second == sl_clock_wall_ms() / 1000)
            break;
        sl_log_stop();
    } while (true);
    assert_int_equal(after.suppressed - before.suppressed, 2 * 35);
    assert_int_equal(after.lines[SL_LOG_INFO] - before.lines[SL_LOG_INFO], 5 + 40 + 1);
    while (lines_with(path, "log.suppressed") < 2) /* the writer tells when the second is over */
        usleep(10000);
    sl_log_stop();
    assert_int_equal(lines_with(path, "\"n\":"), 5 + 5 + 1);
    assert_int_equal(lines_with(path, "\"each\":"), 40);
    assert_int_equal(lines_with(path, "\"event\":\"log.suppressed\",\"of\":\"r.storm\","
                                      "\"lines\":35}"),
                     2);
    log_set_repeats(-1);
}

/* ---- the queue ----------------------------------------------------------------------------- */

#define THREADS 4
#define EACH    3000

static void *producer(void *ctx)
{
    const sl_log_field mine = SL_F_NUM("thread", (double)(intptr_t)ctx);
    sl_log_scope scope;

    sl_log_push(&scope, &mine, 1);
    for (int i = 0; i < EACH; i++)
        SL_LOG(SL_LOG_INFO, "q.line", SL_F_NUM("n", i), SL_F_STR("text", "some more words of it"));
    sl_log_pop(&scope);
    return NULL;
}

/* Nothing is lost, and each thread's lines keep their order. */
static void test_threads(void **state)
{
    int next[THREADS] = { 0 }, thread, n;
    pthread_t threads[THREADS];
    char *save = NULL;

    start(&(sl_log_options){ .repeats_max = -1, .queue_bytes_max = 64 * SL_MIB });
    for (intptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, producer, (void *)i);
    for (int i = 0; i < 20; i++) {
        sl_log_reopen();
        sl_log_flush();
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    sl_log_flush();
    assert_int_equal(lines_with(path, "\"event\":\"q.line\""), THREADS * EACH);
    sl_log_stop();
    for (char *line = strtok_r(file_text(path), "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        assert_int_equal(line[strlen(line) - 1], '}');
        if (!strstr(line, "q.line"))
            continue;
        assert_int_equal(sscanf(strstr(line, "\"n\":"), "\"n\":%d,", &n), 1);
        assert_int_equal(sscanf(strstr(line, "\"thread\":"), "\"thread\":%d}", &thread), 1);
        assert_int_equal(n, next[thread]++);
    }
}

/* Sum of the lines that whole lines "log.dropped" tell of. */
static int64_t told_dropped(const char *text)
{
    int64_t sum = 0;

    for (const char *p = text; (p = strstr(p, "\"event\":\"log.dropped\",\"lines\":"));) {
        p = strstr(p, "\"lines\":") + 8;
        sum += strchr(p, '\n') ? atoi(p) : 0;
    }
    return sum;
}

/* A pipe that nobody reads: the writer is stuck, callers are not; afterwards lines say how many
 * were dropped. */
static void test_drops(void **state)
{
    sl_log_counts before, after;
    int64_t dropped;
    char chunk[65536];
    sl_buf got;
    int fd;

    unlink(other);
    assert_int_equal(mkfifo(other, 0600), 0);
    fd = open(other, O_RDWR | O_NONBLOCK);
    sl_log_read_counts(&before);
    assert_int_equal(
        sl_log_start(
            &(sl_log_options){ .path = other, .repeats_max = -1, .queue_bytes_max = 32 * SL_KIB },
            NULL),
        SL_OK);
    for (int i = 0; i < 4000; i++)
        SL_LOG(SL_LOG_INFO, "d.line", SL_F_NUM("n", i), SL_F_STR("text", "words, and more words"));
    sl_log_read_counts(&after);
    dropped = after.dropped - before.dropped;
    assert_true(dropped > 1000);
    sl_buf_init(&got, 64 * SL_MIB);
    while (told_dropped(sl_buf_str(&got)) < dropped) {
        ssize_t n = read(fd, chunk, sizeof chunk);

        if (n > 0)
            sl_buf_put(&got, chunk, (size_t)n);
        else
            usleep(1000);
    }
    assert_int_equal(told_dropped(sl_buf_str(&got)), dropped);
    sl_log_stop();
    sl_buf_deinit(&got);
    close(fd);
}

/* Stopping does not wait for ever for a reader that is stuck. */
static void test_stop_gives_up(void **state)
{
    int fd = open(other, O_RDWR | O_NONBLOCK);
    sl_log_counts before, after;

    assert_int_equal(sl_log_start(&(sl_log_options){ .path = other, .repeats_max = -1 }, NULL),
                     SL_OK);
    sl_log_read_counts(&before);
    for (int i = 0; i < 2000; i++)
        SL_LOG(SL_LOG_INFO, "d.line", SL_F_NUM("n", i), SL_F_STR("text", "words, and more words"));
    sl_log_stop();
    sl_log_read_counts(&after);
    assert_true(after.dropped > before.dropped);
    close(fd);
    unlink(other);
}

static void test_reopen(void **state)
{
    sl_log_options bad = { .path = "/nowhere/at/all.log" };
    sl_err err;

    start(&(sl_log_options){ 0 });
    SL_LOG(SL_LOG_INFO, "f.first", SL_F_NUM("n", 1));
    sl_log_flush();
    assert_int_equal(rename(path, other), 0);
    SL_LOG(SL_LOG_INFO, "f.second", SL_F_NUM("n", 2));
    sl_log_flush();
    sl_log_reopen();
    while (access(path, F_OK) != 0)
        usleep(1000);
    SL_LOG(SL_LOG_INFO, "f.third", SL_F_NUM("n", 3));
    sl_log_stop();
    assert_int_equal(lines_with(other, "f."), 2);
    assert_int_equal(lines_with(path, "f.third"), 1);
    assert_int_equal(lines_with(path, "log.reopened"), 1);
    unlink(other);
    assert_int_equal(sl_log_start(&bad, &err), SL_EIO);
    assert_non_null(strstr(err.text, "/nowhere/at/all.log"));
    SL_LOG(SL_LOG_DEBUG, "f.still_works", SL_F_NUM("n", 3));
}

/* What a process logged right before it crashed is in the file, and that it crashed. */
static void test_crash(void **state)
{
    static const int signals[] = { SIGSEGV, SIGABRT };

    for (size_t i = 0; i < SL_COUNT_OF(signals); i++) {
        char crashed[40];
        int status = 0;
        pid_t pid = fork();

        if (pid == 0) {
            const struct rlimit none = { 0, 0 };

            setrlimit(RLIMIT_CORE, &none);
            signal(signals[i], SIG_DFL);
            start(&(sl_log_options){ .repeats_max = -1 });
            for (int n = 0; n < 500; n++)
                SL_LOG(SL_LOG_INFO, "x.last", SL_F_NUM("n", n));
            raise(signals[i]);
            _exit(3);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == signals[i]);
        assert_int_equal(lines_with(path, "x.last"), 500);
        snprintf(crashed, sizeof crashed, "\"process.crashed\",\"signal\":%d}\n", signals[i]);
        assert_non_null(strstr(file_text(path), crashed));
    }
}

/* Out of memory: lines are lost and counted, nothing else. */
static void test_out_of_memory(void **state)
{
    sl_log_counts before, after;

    start(&(sl_log_options){ .repeats_max = -1 });
    sl_log_flush();
    sl_log_read_counts(&before);
    sl_mem_fail_at(1);
    SL_LOG(SL_LOG_INFO, "m.line", SL_F_NUM("n", 1));
    sl_mem_fail_at(0);
    sl_log_read_counts(&after);
    SL_LOG(SL_LOG_INFO, "m.line", SL_F_NUM("n", 2));
    sl_log_stop();
    assert_int_equal(after.dropped - before.dropped, 1);
    assert_int_equal(lines_with(path, "m.line"), 1);
    assert_int_equal(lines_with(path, "log.dropped"), 1);
}

static int make_dir(void **state)
{
    snprintf(dir, sizeof dir, "/tmp/test_log.XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/a.log", dir);
    snprintf(other, sizeof other, "%s/b.log", dir);
    return 0;
}

static int drop_dir(void **state)
{
    unlink(path);
    unlink(other);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),       cmocka_unit_test(test_time),
        cmocka_unit_test(test_secrets),       cmocka_unit_test(test_long_values_are_cut),
        cmocka_unit_test(test_levels),        cmocka_unit_test(test_context),
        cmocka_unit_test(test_repeats),       cmocka_unit_test(test_threads),
        cmocka_unit_test(test_drops),         cmocka_unit_test(test_stop_gives_up),
        cmocka_unit_test(test_reopen),        cmocka_unit_test(test_crash),
        cmocka_unit_test(test_out_of_memory),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
