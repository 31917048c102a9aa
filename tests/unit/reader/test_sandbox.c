/* test_sandbox.c - what a process cannot do any more once it is shut in. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "reader_test.h"

enum { DID_IT = 0, REFUSED = 10, NOT_SHUT_IN = 20 };

/* Runs what in a process that is shut in; returns how it ended. */
static int shut_in_with(int (*what)(void), const char *readable)
{
    int how = 0;
    pid_t pid = fork();

    if (pid == 0) {
        sl_err err;

        reader_warm(READER_PDF);
        if (reader_sandbox(512 * SL_MIB, 5000, readable, &err) != SL_OK)
            _exit(NOT_SHUT_IN);
        _exit(what());
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &how, 0), pid);
    return how;
}

static int shut_in(int (*what)(void))
{
    return shut_in_with(what, NULL);
}

static int make_socket(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) < 0 ? REFUSED : DID_IT;
}

static int start_process(void)
{
    return fork() < 0 ? REFUSED : DID_IT;
}

static int run_program(void)
{
    execl("/bin/true", "true", (char *)NULL);
    return REFUSED;
}

static int kill_parent(void)
{
    return kill(getppid(), 0) < 0 ? REFUSED : DID_IT;
}

static int open_file(void)
{
    return open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES ? REFUSED : DID_IT;
}

static int make_file(void)
{
    return open("/tmp/reader-was-here", O_WRONLY | O_CREAT, 0600) < 0 ? REFUSED : DID_IT;
}

static int map_code(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
               ? REFUSED
               : DID_IT;
}

static int take_memory(void)
{
    return mmap(NULL, SL_GIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                   MAP_FAILED
               ? REFUSED
               : DID_IT;
}

static int compute(void)
{
    char *p = malloc(50 << 20);

    if (!p)
        return REFUSED;
    memset(p, 1, 50 << 20);
    return p[12345] == 1 ? DID_IT : REFUSED;
}

static void test_killed(void **state)
{
    int (*const deeds[])(void) = { make_socket, run_program, kill_parent };

    for (size_t i = 0; i < SL_COUNT_OF(deeds); i++) {
        int how = shut_in(deeds[i]);

        if (!WIFSIGNALED(how) || WTERMSIG(how) != SIGSYS)
            fail_msg("deed %zu ended with %#x", i, how);
    }
}

static void test_refused(void **state)
{
    int (*const deeds[])(void) = { open_file, make_file, start_process, map_code };

    for (size_t i = 0; i < SL_COUNT_OF(deeds); i++) {
        int how = shut_in(deeds[i]);

        assert_true(WIFEXITED(how));
        assert_int_equal(WEXITSTATUS(how), REFUSED);
    }
}

static int read_one_directory(void)
{
    bool can = open("/usr/include/stdio.h", O_RDONLY) >= 0;
    bool cannot =
        open("/etc/passwd", O_RDONLY) < 0 && open("/usr/include/../../etc/passwd", O_RDONLY) < 0;

    return !cannot ? NOT_SHUT_IN : can ? DID_IT : REFUSED;
}

/* One directory can be left to read; kernels without Landlock leave none. */
static void test_readable(void **state)
{
    int how = shut_in_with(read_one_directory, "/usr/include");

    assert_true(WIFEXITED(how));
    if (WEXITSTATUS(how) == REFUSED)
        skip();
    assert_int_equal(WEXITSTATUS(how), DID_IT);
    how = shut_in_with(make_file, "/tmp"); /* nothing can be written where reading is allowed */
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), REFUSED);
    how = shut_in_with(open_file, "/no/such/directory");
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), REFUSED);
}

static void test_memory(void **state)
{
    int how;

    if (SL_SANITIZED)
        skip();
    how = shut_in(take_memory);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), REFUSED);
}

static void test_allowed(void **state)
{
    int how = shut_in(compute);

    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), DID_IT);
}

/* The hidden command does nothing for anybody but reader_read. */
static void test_command(void **state)
{
    assert_int_equal(reader_child(), 2);
}

/* A program that is not sluice, and one that is not there. */
static void test_programs(void **state)
{
    reader_options o = { .program = "/bin/true" };
    reader_document d;
    sl_err err = { 0 };

    assert_int_equal(reader_read(&o, sl_span_str("<html>x"), NULL, &d, &err), SL_EFORMAT);
    o.program = "/no/such/program";
    assert_int_equal(reader_read(&o, sl_span_str("<html>x"), NULL, &d, &err), SL_EIO);
    assert_non_null(strstr(err.text, "/no/such/program"));
}

/* A reader is ended when its time is over; no process starts and answers within a millisecond. */
static void test_time(void **state)
{
    reader_options o = { .program = getenv("SLUICE_BIN"), .time_ms = 1 };
    reader_document d;
    sl_err err = { 0 };
    sl_buf html;

    sl_buf_init(&html, 64 * SL_MIB);
    for (int i = 0; i < 200000; i++)
        sl_buf_puts(&html, "<p>words <b>and</b> words</p>");
    assert_int_equal(reader_read(&o, sl_span_of(html.ptr, html.len), NULL, &d, &err), SL_ELIMIT);
    assert_non_null(strstr(err.text, "seconds"));
    sl_buf_deinit(&html);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_memory),   cmocka_unit_test(test_allowed),
        cmocka_unit_test(test_programs), cmocka_unit_test(test_time),
        cmocka_unit_test(test_command),  cmocka_unit_test(test_readable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
