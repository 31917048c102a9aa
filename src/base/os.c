/* os.c - files, clocks and randomness on POSIX and Linux. */
#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/mem.h"

/* The status that fits errno after a failed call on path. */
static sl_status fail_errno(sl_err *err, const char *verb, const char *path)
{
    int e = errno;
    sl_status status = e == ENOENT ? SL_ENOTFOUND : e == ENOMEM ? SL_ENOMEM : SL_EIO;

    return sl_fail(err, status, "cannot %s %s: %s", verb, path, strerror(e));
}

sl_status sl_file_map_open(const char *path, sl_file_map *ret, sl_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    void *p;

    if (fd < 0)
        return fail_errno(err, "open", path);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return sl_fail(err, SL_EINVAL, "%s is not a regular file", path);
    }
    if (st.st_size == 0) {
        close(fd);
        *ret = (sl_file_map){ .bytes = { NULL, 0 } };
        return SL_OK;
    }
    p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        return fail_errno(err, "map", path);
    ret->bytes = sl_span_of(p, (size_t)st.st_size);
    return SL_OK;
}

void sl_file_map_close(sl_file_map *map)
{
    if (map->bytes.ptr)
        munmap((void *)(uintptr_t)map->bytes.ptr, map->bytes.len);
    map->bytes = sl_span_of(NULL, 0);
}

sl_status sl_file_read(const char *path, size_t max_bytes, sl_buf *out, sl_err *err)
{
    FILE *f = fopen(path, "rbe");
    char chunk[16384];
    size_t n;
    bool bad;

    if (!f)
        return fail_errno(err, "open", path);
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0 && out->len + n <= max_bytes)
        sl_buf_put(out, chunk, n);
    bad = ferror(f);
    fclose(f);
    if (bad)
        return sl_fail(err, SL_EIO, "cannot read %s", path);
    if (n > 0)
        return sl_fail(err, SL_ELIMIT, "%s is larger than %zu bytes", path, max_bytes);
    return sl_buf_ok(out, path, err);
}

bool sl_write_all(int fd, const void *bytes, size_t len)
{
    const char *p = bytes;

    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

sl_status sl_file_write_atomic(const char *path, sl_span bytes, sl_err *err)
{
    sl_buf tmp;
    sl_status status = SL_OK;
    int fd;

    sl_buf_init(&tmp, 8192);
    sl_buf_printf(&tmp, "%s.tmp.%d", path, (int)getpid());
    if ((status = sl_buf_ok(&tmp, "path", err)) != SL_OK)
        goto done;
    fd = open(tmp.ptr, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        status = fail_errno(err, "create", tmp.ptr);
        goto done;
    }
    if (!sl_write_all(fd, bytes.ptr, bytes.len) || fsync(fd) != 0)
        status = fail_errno(err, "write", tmp.ptr);
    if (close(fd) != 0 && status == SL_OK)
        status = fail_errno(err, "close", tmp.ptr);
    if (status == SL_OK && rename(tmp.ptr, path) != 0)
        status = fail_errno(err, "rename to", path);
    if (status == SL_OK)
        status = sl_dir_sync(path, err);
    else
        unlink(tmp.ptr);
done:
    sl_buf_deinit(&tmp);
    return status;
}

sl_status sl_dir_sync(const char *path, sl_err *err)
{
    const char *slash = strrchr(path, '/');
    char *dir =
        slash ? sl_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : sl_strdup(".");
    sl_status status = SL_OK;
    int fd;

    if (!dir)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        status = fail_errno(err, "sync directory", dir);
    if (fd >= 0)
        close(fd);
    sl_free(dir);
    return status;
}

sl_status sl_mkdirs(const char *path, sl_err *err)
{
    char *p = sl_strdup(path);
    sl_status status = SL_OK;

    if (!p)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    for (char *s = p + 1; status == SL_OK; s++) {
        char c = *s;

        if (c != '/' && c != '\0')
            continue;
        *s = '\0';
        if (mkdir(p, 0700) != 0 && errno != EEXIST)
            status = fail_errno(err, "create directory", p);
        *s = c;
        if (c == '\0')
            break;
    }
    sl_free(p);
    return status;
}

bool sl_file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

int64_t sl_clock_mono_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t sl_clock_wall_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t sl_clock_wall_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void read_random(char *p, size_t len)
{
    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);

        if (n < 0) {
            SL_ASSERT(errno == EINTR);
            continue;
        }
        p += n;
        len -= (size_t)n;
    }
}

/* Small requests share a system call: each thread keeps some bytes ready, and no byte it gave. */
void sl_random_bytes(void *out, size_t len)
{
    static _Thread_local char ready[256];
    static _Thread_local size_t left;

    if (len > sizeof ready / 4) {
        read_random(out, len);
        return;
    }
    if (left < len) {
        read_random(ready, sizeof ready);
        left = sizeof ready;
    }
    left -= len;
    memcpy(out, ready + left, len);
    memset(ready + left, 0, len);
}

void sl_hex(const void *bytes, size_t len, char *ret)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *p = bytes;

    for (size_t i = 0; i < len; i++) {
        *ret++ = digits[p[i] >> 4];
        *ret++ = digits[p[i] & 15];
    }
    *ret = '\0';
}

void sl_random_id(char *out, size_t out_bytes, const char *prefix, size_t random_bytes)
{
    unsigned char raw[32];
    size_t len = strlen(prefix);

    SL_ASSERT(random_bytes <= sizeof raw);
    SL_ASSERT(len + 2 * random_bytes < out_bytes);
    memcpy(out, prefix, len);
    sl_random_bytes(raw, random_bytes);
    sl_hex(raw, random_bytes, out + len);
}

#define NICE_BEHIND 10
#define SLICE_NS    100000

void sl_thread_yield_to_others(void)
{
    /* A slice of its own (Linux 6.12): otherwise a thread that waited long keeps the processor for
     * milliseconds, niceness or not. Older kernels take the niceness alone. */
    const struct { /* sched_setattr(2); the kernel's header and glibc's define the same names */
        uint32_t size, sched_policy;
        uint64_t sched_flags;
        int32_t sched_nice;
        uint32_t sched_priority;
        uint64_t sched_runtime, sched_deadline, sched_period;
    } a = { .size = sizeof a,
            .sched_policy = SCHED_OTHER,
            .sched_nice = NICE_BEHIND,
            .sched_runtime = SLICE_NS };

    if (syscall(SYS_sched_setattr, 0, &a, 0) != 0) /* this thread */
        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE_BEHIND);
}

int sl_cpu_count(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    return 1;
}

/* The number in a file; UINT64_MAX when there is none, as "max". */
static uint64_t read_number(const char *path)
{
    unsigned long long v = UINT64_MAX;
    FILE *f = fopen(path, "re");

    if (f && fscanf(f, "%llu", &v) != 1)
        v = UINT64_MAX;
    if (f)
        fclose(f);
    return v;
}

uint64_t sl_memory_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t all = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : SL_GIB;
    uint64_t group = read_number("/sys/fs/cgroup/memory.max");
    uint64_t old_group = read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes");

    return SL_MIN(all, SL_MIN(group, old_group));
}

size_t sl_cache2_bytes(void)
{
    long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);

    return bytes > 0 ? (size_t)bytes : 512 * SL_KIB;
}

int sl_open_files_raise(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return 256;
    if (r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &r) != 0)
            getrlimit(RLIMIT_NOFILE, &r);
    }
    return (int)SL_MIN(r.rlim_cur, (rlim_t)INT32_MAX);
}
