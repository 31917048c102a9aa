/* sandbox.c - what the process that reads a document may still do: compute, and write to its pipe.
 *
 * The filter lists the system calls that allocating, reading the clock and answering need. All
 * others fail with an error, so that libraries that look for fonts or settings go on without; those
 * that only an intruder would try end the process. PDF has one exception, where the kernel knows
 * Landlock: the tables of poppler-data may be read, without which old Chinese and Japanese files
 * are no text. */
#include <errno.h>
#include <fcntl.h>
#include <libxml/parser.h>
#include <linux/landlock.h>
#include <poppler.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <unicode/ucnv.h>

#include "reader/reader_int.h"

static const int allowed[] = {
    SCMP_SYS(read),          SCMP_SYS(write),
    SCMP_SYS(close),         SCMP_SYS(fstat),
    SCMP_SYS(lseek),         SCMP_SYS(munmap),
    SCMP_SYS(mremap),        SCMP_SYS(brk),
    SCMP_SYS(madvise),       SCMP_SYS(futex),
    SCMP_SYS(rt_sigaction),  SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),  SCMP_SYS(sigaltstack),
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres),
    SCMP_SYS(gettimeofday),  SCMP_SYS(getrandom),
    SCMP_SYS(getpid),        SCMP_SYS(gettid),
    SCMP_SYS(sched_yield),   SCMP_SYS(exit),
    SCMP_SYS(exit_group),    SCMP_SYS(restart_syscall),
    SCMP_SYS(getrusage),     SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sysinfo),
};

/* What no reader of documents has a reason to try. */
static const int crimes[] = {
    SCMP_SYS(socket),         SCMP_SYS(connect),  SCMP_SYS(bind),   SCMP_SYS(sendto),
    SCMP_SYS(execve),         SCMP_SYS(execveat), SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv),
    SCMP_SYS(kill),           SCMP_SYS(tkill),    SCMP_SYS(bpf),    SCMP_SYS(process_vm_writev),
    SCMP_SYS(io_uring_setup), SCMP_SYS(mount),    SCMP_SYS(keyctl), SCMP_SYS(userfaultfd),
};

/* Reading files that Landlock lets it see; each way to write one has a bit. */
static int allow_reading(scmp_filter_ctx f)
{
    return seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
                            SCMP_A2(SCMP_CMP_MASKED_EQ,
                                    O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY),
                                    O_RDONLY));
}

static int fill_filter(scmp_filter_ctx f, bool can_read)
{
    /* raise() and abort() must work on this process, and on no other. */
    int rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                              SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));

    for (size_t i = 0; i < SL_COUNT_OF(allowed) && rc == 0; i++)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, allowed[i], 0);
    for (size_t i = 0; i < SL_COUNT_OF(crimes) && rc == 0; i++)
        rc = seccomp_rule_add(f, SCMP_ACT_KILL_PROCESS, crimes[i], 0);
    if (rc == 0 && can_read)
        rc = allow_reading(f);
    /* Memory, but none that can be run. */
    if (rc == 0)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (rc == 0)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    return rc;
}

/* Leaves this process one directory to read, and nothing else of the file system. False: the kernel
 * is older, or there is no such directory. */
static bool keep_readable(const char *dir)
{
    struct landlock_ruleset_attr all = { .handled_access_fs =
                                             ((__u64)LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1 };
    struct landlock_path_beneath_attr one = {
        .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
        .parent_fd = open(dir, O_PATH | O_CLOEXEC | O_DIRECTORY),
    };
    int rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
    bool ok = rules >= 0 && one.parent_fd >= 0 &&
              syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &one, 0) == 0 &&
              syscall(SYS_landlock_restrict_self, rules, 0) == 0;

    if (rules >= 0)
        close(rules);
    if (one.parent_fd >= 0)
        close(one.parent_fd);
    return ok;
}

static bool limit(int what, rlim_t value)
{
    struct rlimit l = { value, value }, now;

    if (getrlimit((__rlimit_resource_t)what, &now) == 0 && now.rlim_max < value)
        return true; /* tighter already */
    return setrlimit((__rlimit_resource_t)what, &l) == 0;
}

sl_status reader_sandbox(size_t memory_bytes, int64_t time_ms, const char *readable, sl_err *err)
{
    scmp_filter_ctx f;
    bool can_read = false;
    int rc;

    if (!(SL_SANITIZED || limit(RLIMIT_AS, memory_bytes)) ||
        !limit(RLIMIT_CPU, (rlim_t)(time_ms + 999) / 1000 + 1) || !limit(RLIMIT_FSIZE, 0) ||
        !limit(RLIMIT_NOFILE, 16) || !limit(RLIMIT_CORE, 0) || !limit(RLIMIT_NPROC, 0))
        return sl_fail(err, SL_ENOTSUP, "cannot limit the reader's process: %s", strerror(errno));
    rc = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : -errno;
    if (rc == 0 && readable)
        can_read = keep_readable(readable);
    f = seccomp_init(SCMP_ACT_ERRNO(EACCES));
    if (rc == 0)
        rc = f ? fill_filter(f, can_read) : -ENOMEM;
    if (rc == 0)
        rc = seccomp_load(f);
    seccomp_release(f);
    if (rc != 0)
        return sl_fail(err, SL_ENOTSUP, "cannot shut the reader's process in (seccomp): %s",
                       strerror(-rc));
    return SL_OK;
}

/* What is loaded on first use must be loaded before the door closes. */
void reader_warm(reader_type type)
{
    static const char *const charsets[] = { "GB18030", "windows-950", "windows-31j",
                                            "EUC-JP",  "windows-949", "windows-1252" };
    UErrorCode code = U_ZERO_ERROR;

    for (size_t i = 0; i < SL_COUNT_OF(charsets); i++)
        ucnv_close(ucnv_open(charsets[i], &code));
    xmlInitParser();
    if (type == READER_PDF || type == READER_MAIL) {
        /* What poppler finds out at its first document lasts as long as one is open: this one is,
         * for good. */
        static PopplerDocument *kept;
        static const char least[] = "%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n"
                                    "2 0 obj\n<</Type/Pages/Count 0/Kids[]>>\nendobj\n"
                                    "trailer\n<</Root 1 0 R>>\n%%EOF\n";
        GBytes *data = g_bytes_new_static(least, sizeof least - 1);

        /* Titles are UTF-16, and the C library loads its converters when they are first asked for.
         */
        static GIConv converters[2];

        for (size_t i = 0; i < SL_COUNT_OF(converters) && !kept; i++)
            converters[i] = g_iconv_open("UTF-8", i ? "UTF-16LE" : "UTF-16BE");
        if (!kept)
            kept = poppler_document_new_from_bytes(data, NULL, NULL);
        g_bytes_unref(data);
    }
}
