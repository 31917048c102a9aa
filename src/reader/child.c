/* child.c - the process a document is read in, seen from both ends.
 *
 * The parent puts the document into a memory file and starts the program with it as standard input
 * and a pipe as standard output; the child reads, answers once and ends. The child gets an empty
 * environment and no other descriptor. It is killed when its time is over, and by the system when
 * the thread that waits for it is gone. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "reader/reader_int.h"

#define MARK       "SLUICE_READER" /* set in the child's environment: no child of a child */
#define NAME_BYTES 256
/* Debian's poppler-data: what characters the codes of fonts mean that are not in the file. */
#define FONT_TABLES "/usr/share/poppler"

/* In front of the document in the memory file. */
typedef struct order {
    uint64_t len, memory_bytes, text_bytes;
    int64_t time_ms;
    int32_t parent;
    char name[NAME_BYTES];
} order;

/* ---- the child ------------------------------------------------------------------------------ */

static void write_all(const sl_buf *b)
{
    size_t at = 0;

    while (at < b->len) {
        ssize_t n = write(STDOUT_FILENO, b->ptr + at, b->len - at);

        if (n <= 0 && errno != EINTR)
            _exit(3);
        at += n > 0 ? (size_t)n : 0;
    }
}

/* The document and what is asked of it. False: nobody of ours started this process. */
static bool take_order(order *ret, sl_span *ret_bytes)
{
    struct stat st;
    const uint8_t *map;

    if (fstat(STDIN_FILENO, &st) != 0 || st.st_size < (off_t)sizeof *ret)
        return false;
    map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, STDIN_FILENO, 0);
    if (map == MAP_FAILED)
        return false;
    memcpy(ret, map, sizeof *ret);
    *ret_bytes = sl_span_of(map + sizeof *ret, (size_t)st.st_size - sizeof *ret);
    return ret->len == ret_bytes->len && memchr(ret->name, '\0', sizeof ret->name);
}

int reader_child(void)
{
    order o;
    sl_span bytes;
    reader_out out;
    reader_document d = { 0 };
    reader_type type = READER_TEXT;
    sl_buf answer;
    sl_err err = { 0 };
    sl_status status;

    if (!getenv(MARK) || !take_order(&o, &bytes))
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != o.parent) /* gone before it could be said */
        return 3;
    reader_out_init(&out, o.text_bytes);
    status = reader_detect(bytes, o.name, &type, &err);
    reader_warm(type);
    if (status == SL_OK)
        status =
            reader_sandbox(o.memory_bytes, o.time_ms,
                           type == READER_PDF || type == READER_MAIL ? FONT_TABLES : NULL, &err);
    if (status == SL_OK)
        status = reader_run(bytes, o.name, &out, &err);
    if (status == SL_OK)
        status = reader_out_check(&out, &err);
    if (status == SL_OK)
        reader_out_move(&out, &d);
    sl_buf_init(&answer, SIZE_MAX / 2);
    reader_answer_encode(status == SL_OK ? &d : NULL, &err, &answer);
    write_all(&answer);
    _exit(0); /* the system takes the memory back faster */
}

/* ---- the parent ----------------------------------------------------------------------------- */

static sl_status os_fail(const char *what, sl_err *err)
{
    return sl_fail(err, SL_EIO, "cannot start the reader's process: %s: %s", what, strerror(errno));
}

static sl_status make_order(const reader_options *o, sl_span bytes, const char *name, int *ret_fd,
                            sl_err *err)
{
    order head = { .len = bytes.len,
                   .memory_bytes = o->memory_bytes,
                   .text_bytes = o->text_bytes,
                   .time_ms = o->time_ms,
                   .parent = getpid() };
    const char *base = name ? strrchr(name, '/') : NULL;
    int fd = memfd_create("document", MFD_CLOEXEC);

    name = base ? base + 1 : name ? name : "";
    /* The end of a long name is what tells. */
    if (strlen(name) >= sizeof head.name)
        name += strlen(name) - sizeof head.name + 1;
    snprintf(head.name, sizeof head.name, "%s", name);
    if (fd < 0)
        return os_fail("memfd_create", err);
    if (!sl_write_all(fd, &head, sizeof head) || !sl_write_all(fd, bytes.ptr, bytes.len) ||
        lseek(fd, 0, SEEK_SET) != 0) {
        sl_status status = os_fail("memory file", err);

        close(fd);
        return status;
    }
    *ret_fd = fd;
    return SL_OK;
}

static sl_status start(const char *program, int input, int output, pid_t *ret, sl_err *err)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    /* Nothing of the server's environment reaches the child. */
    char *const argv[] = { "sluice", "read-document", NULL };
    char *const env[] = { MARK "=1", "LC_ALL=C.UTF-8", "MALLOC_ARENA_MAX=1", NULL };
    int rc;

    sigemptyset(&none);
    sigfillset(&all);
    sigdelset(&all, SIGKILL);
    sigdelset(&all, SIGSTOP);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
    rc = posix_spawn(ret, program, &actions, &attr, argv, env);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    if (rc != 0) {
        errno = rc;
        return os_fail(program, err);
    }
    return SL_OK;
}

/* Reads until the child closes its end. SL_ELIMIT: its time is over or it says too much. */
static sl_status collect(int fd, const reader_options *o, sl_buf *answer, sl_err *err)
{
    int64_t until = sl_clock_mono_ns() + o->time_ms * 1000000;
    char chunk[65536];

    for (;;) {
        int64_t left_ms = (until - sl_clock_mono_ns() + 999999) / 1000000;
        struct pollfd p = { .fd = fd, .events = POLLIN };
        ssize_t n;

        if (left_ms <= 0)
            return sl_fail(err, SL_ELIMIT, "reading it takes more than %lld seconds; divide it",
                           (long long)(o->time_ms + 999) / 1000);
        if (poll(&p, 1, (int)SL_MIN(left_ms, (int64_t)INT32_MAX)) <= 0)
            continue;
        n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return os_fail("pipe", err);
        if (n == 0)
            return SL_OK;
        sl_buf_put(answer, chunk, (size_t)n);
        SL_TRY(sl_buf_ok(answer, "the reader's answer", err));
    }
}

/* How a process that did not answer ended, in words. */
static sl_status explain(int how, const reader_options *o, sl_err *err)
{
    int sig = WIFSIGNALED(how) ? WTERMSIG(how) : 0;

    if (sig == SIGXCPU)
        return sl_fail(err, SL_ELIMIT, "reading it takes more than %lld seconds; divide it",
                       (long long)(o->time_ms + 999) / 1000);
    if (sig == SIGABRT || sig == SIGKILL || sig == SIGTRAP)
        return sl_fail(err, SL_ELIMIT,
                       "reading it takes more than %zu MiB of memory, or it is damaged",
                       o->memory_bytes / SL_MIB);
    if (sig)
        return sl_fail(err, SL_EFORMAT, "its reader broke down (%s): it is damaged or hostile",
                       strsignal(sig));
    return sl_fail(err, SL_EFORMAT, "its reader ended without an answer (exit code %d)",
                   WIFEXITED(how) ? WEXITSTATUS(how) : -1);
}

sl_status reader_child_run(const reader_options *o, sl_span bytes, const char *name,
                           reader_document *ret, sl_err *err)
{
    int input = -1, ends[2] = { -1, -1 }, how = 0;
    pid_t pid = 0;
    sl_buf answer;
    sl_status status;

    if (getenv(MARK)) /* a program that does not know the command would start itself for ever */
        return sl_fail(err, SL_EINTERNAL, "%s is not sluice: it has no reader", o->program);
    SL_TRY(make_order(o, bytes, name, &input, err));
    sl_buf_init(&answer, o->text_bytes + READER_BLOCKS_MAX * sizeof(reader_block) + 4096);
    status = pipe2(ends, O_CLOEXEC) == 0 ? SL_OK : os_fail("pipe", err);
    if (status == SL_OK)
        status = start(o->program, input, ends[1], &pid, err);
    close(input);
    close(ends[1]);
    if (status == SL_OK) {
        status = collect(ends[0], o, &answer, err);
        if (status != SL_OK)
            kill(pid, SIGKILL);
        while (waitpid(pid, &how, 0) < 0 && errno == EINTR)
            ;
    }
    close(ends[0]);
    if (status == SL_OK && !(WIFEXITED(how) && WEXITSTATUS(how) == 0))
        status = explain(how, o, err);
    else if (status == SL_OK)
        status = reader_answer_decode(sl_span_of(answer.ptr, answer.len), o->text_bytes, ret, err);
    sl_buf_deinit(&answer);
    return status;
}
