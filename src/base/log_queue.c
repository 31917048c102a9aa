/* log_queue.c - the way of lines to the file: a bounded queue, a writer, what happens at a crash.
 *
 * A line is a block of memory on a stack that producers push with one compare-and-swap and the
 * writer takes whole, so that nobody waits for anybody. The writer turns it over, writes the lines
 * in the order in which they were pushed, many in one write(2), and frees them.
 *
 * Invariants
 * 1. waiting_bytes is the sum over all lines pushed and not freed; a producer adds before it pushes
 *    and takes back what does not fit.
 * 2. Whoever pushes while the writer sleeps wakes it: the writer says that it sleeps before it
 * looks at the stack for the last time, producers push before they look whether it sleeps. Awake,
 * it gathers lines for a moment, unless one is a warning or they have become many. */
#include "base/log_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/os.h"

#define QUEUE_BYTES_DEFAULT ((size_t)4 * 1024 * 1024)
#define LINE_START_BYTES    1024
#define BATCH_BYTES         (64 * 1024)
#define CHUNK_BYTES         4096 /* PIPE_BUF: fits whenever poll says that a pipe takes more */
#define LINGER_MS           100  /* after waking: more lines come, and are written together */
#define TELL_MS             250  /* how often it is looked for repeats to tell */
#define STOP_MS             2000
#define CRASH_MS            500

typedef struct log_line {
    struct log_line *next;
    size_t len;   /* of the text */
    size_t bytes; /* of the block */
    char text[];
} log_line;

static struct {
    /* set before the writer starts */
    log_style style;
    char *path;
    size_t bytes_max;
    pthread_t thread;
    int wake_fd;

    _Atomic(log_line *) stack;
    atomic_size_t waiting_bytes;
    atomic_llong pushed; /* lines, counted before they are pushed */
    atomic_bool is_running, is_asleep, must_reopen, must_stop;
    atomic_llong stop_ns; /* when writing gives up; 0: never */

    /* the writer's */
    int fd;
    bool is_file;
    char batch[BATCH_BYTES];
    size_t batch_len;
    long long batch_lines, told_dropped;

    pthread_mutex_t mutex; /* for sl_log_flush; rank: leaf */
    pthread_cond_t done;
    atomic_llong written; /* of `pushed`: written or lost */
} q = { .fd = STDERR_FILENO,
        .style = { .format = SL_LOG_JSON },
        .mutex = PTHREAD_MUTEX_INITIALIZER,
        .done = PTHREAD_COND_INITIALIZER };

static _Thread_local bool is_writer;

/* ---- writing ------------------------------------------------------------------------------- */

/* Waits until the file takes bytes. False: it is time to give up. */
static bool wait_writable(void)
{
    struct pollfd p = { .fd = q.fd, .events = POLLOUT };

    while (poll(&p, 1, 50) == 0 || !(p.revents & (POLLOUT | POLLERR | POLLHUP | POLLNVAL))) {
        long long stop_ns = atomic_load(&q.stop_ns);

        if (stop_ns && sl_clock_mono_ns() > stop_ns)
            return false;
    }
    return true;
}

static bool write_all(const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n;

        if (!q.is_file && !wait_writable())
            return false;
        n = write(q.fd, bytes, q.is_file ? len : SL_MIN(len, (size_t)CHUNK_BYTES));
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

static void flush_batch(void)
{
    if (q.batch_len > 0 && !write_all(q.batch, q.batch_len))
        atomic_fetch_add(&log_dropped, q.batch_lines);
    q.batch_len = 0;
    q.batch_lines = 0;
}

static void put_text(const char *text, size_t len)
{
    if (q.batch_len + len > BATCH_BYTES)
        flush_batch();
    if (len > BATCH_BYTES) {
        if (!write_all(text, len))
            atomic_fetch_add(&log_dropped, 1);
        return;
    }
    memcpy(q.batch + q.batch_len, text, len);
    q.batch_len += len;
    q.batch_lines++;
}

/* Lines of the log about itself. */
static void emit(const log_record *r)
{
    sl_buf b;

    sl_buf_init(&b, LOG_LINE_BYTES_MAX);
    log_put_line(&b, &q.style, r);
    put_text(sl_buf_str(&b), b.len);
    sl_buf_deinit(&b);
}

static sl_status open_file(sl_err *err)
{
    int fd = open(q.path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    struct stat st;

    if (fd < 0)
        return sl_fail(err, SL_EIO, "log.file: cannot open %.200s: %s", q.path, strerror(errno));
    if (q.fd != STDERR_FILENO)
        close(q.fd);
    q.fd = fd;
    q.is_file = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    return SL_OK;
}

static void reopen(void)
{
    sl_log_field why;
    sl_err err;

    flush_batch();
    if (!q.path)
        return;
    if (open_file(&err) == SL_OK) {
        emit(&(log_record){ SL_LOG_INFO, "log.reopened", sl_clock_wall_ms(), NULL, 0, NULL });
        return;
    }
    why = SL_F_STR("error", err.text);
    emit(&(log_record){ SL_LOG_ERROR, "log.not_reopened", sl_clock_wall_ms(), &why, 1, NULL });
}

/* ---- the writer ---------------------------------------------------------------------------- */

/* All lines that wait, first pushed first. */
static log_line *take_lines(void)
{
    log_line *l = atomic_exchange(&q.stack, NULL), *first = NULL;

    while (l) {
        log_line *next = l->next;

        l->next = first;
        first = l;
        l = next;
    }
    return first;
}

static void write_lines(log_line *l)
{
    long long count = 0;

    for (; l; count++) {
        log_line *next = l->next;

        put_text(l->text, l->len);
        atomic_fetch_sub(&q.waiting_bytes, l->bytes);
        sl_free(l);
        l = next;
    }
    flush_batch();
    pthread_mutex_lock(&q.mutex);
    atomic_fetch_add(&q.written, count);
    pthread_cond_broadcast(&q.done);
    pthread_mutex_unlock(&q.mutex);
}

/* Says how many lines were dropped, once there is room again. */
static void tell_dropped(void)
{
    long long dropped = atomic_load(&log_dropped), since = dropped - q.told_dropped;

    if (since <= 0)
        return;
    emit(&(log_record){ SL_LOG_WARN, "log.dropped", sl_clock_wall_ms(), &SL_F_NUM("lines", since),
                        1, NULL });
    flush_batch();
    q.told_dropped = dropped;
}

static void doze(int timeout_ms)
{
    struct pollfd p = { .fd = q.wake_fd, .events = POLLIN };
    uint64_t n;

    if (poll(&p, 1, timeout_ms) > 0 && read(q.wake_fd, &n, sizeof n) < 0) {
        /* Another wake-up will come. */
    }
}

/* Sleeps until there is something to do. */
static void sleep_writer(void)
{
    atomic_store(&q.is_asleep, true);
    if (!atomic_load(&q.stack) && !atomic_load(&q.must_stop) && !atomic_load(&q.must_reopen))
        doze(log_is_suppressing() ? TELL_MS : -1);
    atomic_store(&q.is_asleep, false);
    if (!atomic_load(&q.must_stop))
        doze(LINGER_MS);
}

static void *writer_main(void *ctx)
{
    is_writer = true;
    for (;;) {
        bool is_last = atomic_load(&q.must_stop);
        log_line *l = take_lines();

        if (atomic_exchange(&q.must_reopen, false))
            reopen();
        if (l)
            write_lines(l);
        log_tell_suppressed(sl_clock_wall_ms(), emit);
        flush_batch();
        if (!atomic_load(&q.stack))
            tell_dropped();
        if (is_last && !atomic_load(&q.stack))
            return NULL;
        if (!is_last)
            sleep_writer();
    }
}

static void wake(void)
{
    uint64_t one = 1;

    if (write(q.wake_fd, &one, sizeof one) < 0) {
        /* It is awake already. */
    }
}

/* ---- producers ----------------------------------------------------------------------------- */

void log_wake(void)
{
    if (atomic_load(&q.is_asleep) && atomic_exchange(&q.is_asleep, false))
        wake();
}

/* is_urgent: the writer does not wait for more. */
static void push(log_line *l, bool is_urgent)
{
    log_line *head = atomic_load_explicit(&q.stack, memory_order_relaxed);

    atomic_fetch_add(&q.pushed, 1);
    do
        l->next = head;
    while (!atomic_compare_exchange_weak(&q.stack, &head, l));
    if (is_urgent)
        wake();
    else
        log_wake();
}

static void write_now(const log_record *r)
{
    log_style style = { .format = q.style.format };
    sl_buf b;

    sl_buf_init(&b, LOG_LINE_BYTES_MAX);
    log_put_line(&b, &style, r);
    if (b.failed || write(q.fd, b.ptr, b.len) < 0)
        atomic_fetch_add(&log_dropped, 1);
    sl_buf_deinit(&b);
}

/* The text is written behind room for the line's head, so that the block becomes the line. */
static void enqueue(const log_record *r)
{
    sl_buf b = { .max = LOG_LINE_BYTES_MAX, .cap = LINE_START_BYTES };
    size_t before = 0, much = q.bytes_max / 4;
    log_line *l;

    b.ptr = sl_malloc(LINE_START_BYTES);
    b.failed = !b.ptr;
    b.len = sizeof *l;
    log_put_line(&b, &q.style, r);
    if (b.failed || (before = atomic_fetch_add(&q.waiting_bytes, b.cap)) + b.cap > q.bytes_max) {
        if (!b.failed)
            atomic_fetch_sub(&q.waiting_bytes, b.cap);
        sl_free(b.ptr);
        atomic_fetch_add(&log_dropped, 1);
        return;
    }
    l = (log_line *)(void *)b.ptr;
    l->len = b.len - sizeof *l;
    l->bytes = b.cap;
    push(l, r->level >= SL_LOG_WARN || (before < much && before + b.cap >= much));
}

void log_submit(const log_record *r)
{
    if (atomic_load_explicit(&q.is_running, memory_order_acquire)) {
        enqueue(r);
        return;
    }
    write_now(r);
    log_tell_suppressed(r->time_ms, write_now);
}

/* ---- a crash ------------------------------------------------------------------------------- */

static const int crash_signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
static atomic_bool is_crashing;

static void put_crash_line(int sig)
{
    static const char begin[] = "{\"time\":\"", middle[] = "\",\"level\":\"error\",\"event\":"
                                                           "\"process.crashed\",\"signal\":";
    char text[128], *p = text;
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    memcpy(p, begin, sizeof begin - 1);
    p += sizeof begin - 1;
    log_put_time(p, (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
    p += 24;
    memcpy(p, middle, sizeof middle - 1);
    p += sizeof middle - 1;
    if (sig >= 10)
        *p++ = (char)('0' + sig / 10);
    *p++ = (char)('0' + sig % 10);
    *p++ = '}';
    *p++ = '\n';
    (void)write_all(text, (size_t)(p - text));
}

/* Nothing here takes a lock or memory. The other threads still run: the writer is given time to
 * write what waits; if it is the writer that crashed, what waits is written here. */
static void on_crash(int sig)
{
    const struct timespec ms = { 0, 1000000 };
    long long until = atomic_load(&q.pushed);

    if (!atomic_exchange(&is_crashing, true)) {
        atomic_store(&q.stop_ns, sl_clock_mono_ns() + (long long)CRASH_MS * 1000000);
        wake();
        for (int i = 0; i < CRASH_MS && !is_writer && atomic_load(&q.written) < until; i++)
            nanosleep(&ms, NULL);
        if (is_writer)
            (void)write_all(q.batch, q.batch_len);
        for (log_line *l = take_lines(); l; l = l->next)
            (void)write_all(l->text, l->len);
        put_crash_line(sig);
    }
    signal(sig, SIG_DFL);
    raise(sig);
}

/* Leaves alone what somebody else, a sanitizer say, handles. */
static void catch_crashes(void)
{
    for (size_t i = 0; i < SL_COUNT_OF(crash_signals); i++) {
        struct sigaction now, ours = { .sa_handler = on_crash };

        if (sigaction(crash_signals[i], NULL, &now) == 0 && now.sa_handler == SIG_DFL)
            sigaction(crash_signals[i], &ours, NULL);
    }
}

static void release_crashes(void)
{
    for (size_t i = 0; i < SL_COUNT_OF(crash_signals); i++) {
        struct sigaction now;

        if (sigaction(crash_signals[i], NULL, &now) == 0 && now.sa_handler == on_crash)
            signal(crash_signals[i], SIG_DFL);
    }
}

/* ---- life ---------------------------------------------------------------------------------- */

static void choose_style(sl_log_format format)
{
    bool terminal = isatty(q.fd);

    q.style.format = format != SL_LOG_AUTO ? format : terminal ? SL_LOG_TEXT : SL_LOG_JSON;
    q.style.colour = terminal && q.style.format == SL_LOG_TEXT && !getenv("NO_COLOR");
}

void sl_log_set_format(sl_log_format format)
{
    choose_style(format);
}

/* The writer gets no signal that is meant for others. */
static bool start_thread(void)
{
    sigset_t all, old;
    bool ok;

    sigfillset(&all);
    for (size_t i = 0; i < SL_COUNT_OF(crash_signals); i++)
        sigdelset(&all, crash_signals[i]);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    ok = pthread_create(&q.thread, NULL, writer_main, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return ok;
}

static void close_file(void)
{
    if (q.fd != STDERR_FILENO)
        close(q.fd);
    q.fd = STDERR_FILENO;
    q.is_file = false;
    sl_free(q.path);
    q.path = NULL;
}

sl_status sl_log_start(const sl_log_options *o, sl_err *err)
{
    struct stat st;
    sl_status status = SL_OK;

    SL_ASSERT(!atomic_load(&q.is_running));
    q.bytes_max = o->queue_bytes_max ? o->queue_bytes_max : QUEUE_BYTES_DEFAULT;
    log_set_repeats(o->repeats_max);
    q.is_file = fstat(q.fd, &st) == 0 && S_ISREG(st.st_mode);
    if (o->path && !(q.path = sl_strdup(o->path)))
        return sl_fail(err, SL_ENOMEM, "out of memory");
    if (q.path)
        status = open_file(err);
    q.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (status == SL_OK && q.wake_fd < 0)
        status = sl_fail(err, SL_EIO, "cannot start the log: %s", strerror(errno));
    choose_style(o->format);
    atomic_store(&q.must_stop, false);
    atomic_store(&q.stop_ns, 0);
    if (status == SL_OK && !start_thread())
        status = sl_fail(err, SL_ENOMEM, "cannot start the log's thread");
    if (status != SL_OK) {
        if (q.wake_fd >= 0)
            close(q.wake_fd);
        close_file();
        return status;
    }
    if (!o->keep_crash)
        catch_crashes();
    atomic_store_explicit(&q.is_running, true, memory_order_release);
    return SL_OK;
}

void sl_log_stop(void)
{
    if (!atomic_exchange(&q.is_running, false))
        return;
    atomic_store(&q.stop_ns, sl_clock_mono_ns() + (long long)STOP_MS * 1000000);
    atomic_store(&q.must_stop, true);
    wake();
    pthread_join(q.thread, NULL);
    release_crashes();
    write_lines(take_lines()); /* of who looked before is_running changed */
    close(q.wake_fd);
    close_file();
    choose_style(q.style.format == SL_LOG_TEXT ? SL_LOG_AUTO : q.style.format);
}

void sl_log_flush(void)
{
    long long until = atomic_load(&q.pushed);

    if (!atomic_load(&q.is_running))
        return;
    wake();
    pthread_mutex_lock(&q.mutex);
    while (atomic_load(&q.written) < until)
        pthread_cond_wait(&q.done, &q.mutex);
    pthread_mutex_unlock(&q.mutex);
}

void sl_log_reopen(void)
{
    if (!atomic_load(&q.is_running))
        return;
    atomic_store(&q.must_reopen, true);
    wake();
}
