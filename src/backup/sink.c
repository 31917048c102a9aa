/* sink.c - a tar archive compressed with zstd, or a directory with the same members. Either grows
 * beside its place, under a name of its own. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backup/backup_int.h"
#include "base/os.h"

/* Files up to here are read before their length is written: they may change under our hands. */
#define WHOLE_BYTES (16 * SL_MIB)

struct sink {
    char *to, *partial; /* partial NULL: standard output */
    bool is_directory, is_finished;
    struct archive *a; /* of an archive */
    int fd;            /* what it is written to */
};

static sl_status fail_archive(sink *s, sl_err *err)
{
    const char *text = archive_error_string(s->a);

    return sl_fail(err, SL_EIO, "cannot write %.300s: %s", s->partial ? s->partial : "the backup",
                   text ? text : "no reason given");
}

static sl_status start_archive(sink *s, sl_err *err)
{
    s->a = archive_write_new();
    if (!s->a)
        return sl_fail(err, SL_ENOMEM, "out of memory for the backup");
    if (archive_write_set_format_pax_restricted(s->a) != ARCHIVE_OK ||
        archive_write_add_filter_zstd(s->a) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(s->a, 1) != ARCHIVE_OK ||
        archive_write_open_fd(s->a, s->fd) != ARCHIVE_OK)
        return fail_archive(s, err);
    return SL_OK;
}

static sl_status make_partial(sink *s, sl_err *err)
{
    sl_buf b;
    sl_status status;

    sl_buf_init(&b, 8192);
    sl_buf_printf(&b, "%s.partial-XXXXXX", s->to);
    status = sl_buf_ok(&b, "path", err);
    if (status == SL_OK && !(s->partial = sl_strdup(b.ptr)))
        status = sl_fail(err, SL_ENOMEM, "out of memory for the backup");
    sl_buf_deinit(&b);
    if (status != SL_OK)
        return status;
    if (s->is_directory ? mkdtemp(s->partial) == NULL
                        : (s->fd = mkostemp(s->partial, O_CLOEXEC)) < 0) {
        status = sl_fail(err, SL_EIO, "cannot create %.300s: %s", s->partial, strerror(errno));
        sl_free(s->partial);
        s->partial = NULL;
    }
    return status;
}

static bool ends(const char *text, const char *with)
{
    size_t len = strlen(text), tail = strlen(with);

    return len > tail && strcmp(text + len - tail, with) == 0;
}

static sl_status set_up(sink *s, const char *to, sl_err *err)
{
    if (strcmp(to, "-") == 0) {
        s->fd = STDOUT_FILENO;
        return start_archive(s, err);
    }
    s->to = sl_strdup(to);
    if (!s->to)
        return sl_fail(err, SL_ENOMEM, "out of memory for the backup");
    for (size_t len = strlen(s->to); len > 1 && s->to[len - 1] == '/';)
        s->to[--len] = '\0';
    s->is_directory = !ends(s->to, ".tar.zst");
    /* An empty directory is taken: rename replaces it. */
    if (sl_file_exists(s->to) && !(s->is_directory && tree_is_empty(s->to, NULL)))
        return sl_fail(err, SL_ECONFLICT, "%.300s exists; choose another name", s->to);
    SL_TRY(make_partial(s, err));
    return s->is_directory ? SL_OK : start_archive(s, err);
}

sl_status sink_open(const char *to, sink **ret, sl_err *err)
{
    sink *s = sl_calloc(1, sizeof *s);
    sl_status status;

    if (!s)
        return sl_fail(err, SL_ENOMEM, "out of memory for the backup");
    s->fd = -1;
    status = set_up(s, to, err);
    if (status == SL_OK)
        *ret = s;
    else
        sink_close(s);
    return status;
}

/* ---- a member ------------------------------------------------------------------------------ */

/* *ret_fd: where a directory's file is written; -1 in an archive. */
static sl_status begin(sink *s, const member *m, int *ret_fd, sl_err *err)
{
    struct archive_entry *e;
    sl_buf path;
    sl_status status;
    int rc;

    *ret_fd = -1;
    if (s->is_directory) {
        sl_buf_init(&path, 16384);
        sl_buf_printf(&path, "%s/%s", s->partial, m->path);
        status = sl_buf_ok(&path, "path", err);
        if (status == SL_OK)
            status = tree_file(path.ptr, ret_fd, err);
        sl_buf_deinit(&path);
        return status;
    }
    e = archive_entry_new();
    if (!e)
        return sl_fail(err, SL_ENOMEM, "out of memory for the backup");
    archive_entry_set_pathname(e, m->path);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, 0600);
    archive_entry_set_mtime(e, time(NULL), 0);
    archive_entry_set_size(e, (la_int64_t)m->bytes);
    rc = archive_write_header(s->a, e);
    archive_entry_free(e);
    return rc == ARCHIVE_OK ? SL_OK : fail_archive(s, err);
}

static sl_status put(sink *s, const member *m, int fd, const void *bytes, size_t len, sl_err *err)
{
    if (s->is_directory)
        return tree_write(fd, bytes, len, m->path, err);
    return archive_write_data(s->a, bytes, len) == (la_ssize_t)len ? SL_OK : fail_archive(s, err);
}

static sl_status end(sink *s, const member *m, int fd, sl_status status, sl_err *err)
{
    if (fd >= 0 && status == SL_OK && fsync(fd) != 0)
        status = sl_fail(err, SL_EIO, "cannot write %.300s: %s", m->path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return status;
}

sl_status sink_put_bytes(sink *s, member *m, sl_span bytes, sl_err *err)
{
    sum *digest;
    sl_status status;
    int fd;

    SL_TRY(sum_begin(&digest, err));
    sum_add(digest, bytes.ptr, bytes.len);
    sum_end(digest, m->sha256);
    m->bytes = bytes.len;
    SL_TRY(begin(s, m, &fd, err));
    status = bytes.len ? put(s, m, fd, bytes.ptr, bytes.len, err) : SL_OK;
    return end(s, m, fd, status, err);
}

/* *ret_len 0 only at the end of the file. */
static sl_status read_some(int fd, const member *m, void *bytes, size_t cap, size_t *ret_len,
                           sl_err *err)
{
    ssize_t n;

    do
        n = read(fd, bytes, cap);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return sl_fail(err, SL_EIO, "cannot read %.300s: %s", m->path, strerror(errno));
    *ret_len = (size_t)n;
    return SL_OK;
}

static sl_status put_whole(sink *s, member *m, int fd, char *chunk, sl_err *err)
{
    size_t n = 1;
    sl_buf b;
    sl_status status = SL_OK;

    sl_buf_init(&b, 2 * WHOLE_BYTES);
    while (n > 0 && status == SL_OK) {
        status = read_some(fd, m, chunk, CHUNK_BYTES, &n, err);
        if (status == SL_OK)
            sl_buf_put(&b, chunk, n);
    }
    if (status == SL_OK)
        status = sl_buf_ok(&b, m->path, err);
    if (status == SL_OK)
        status = sink_put_bytes(s, m, sl_span_of(b.ptr, b.len), err);
    sl_buf_deinit(&b);
    return status;
}

static sl_status put_long(sink *s, member *m, int fd, char *chunk, sl_err *err)
{
    uint64_t left = m->bytes;
    sum *digest;
    sl_status status;
    int out;

    SL_TRY(begin(s, m, &out, err));
    status = sum_begin(&digest, err);
    if (status != SL_OK)
        return end(s, m, out, status, err);
    while (left > 0 && status == SL_OK) {
        size_t n = 0;

        status = read_some(fd, m, chunk, (size_t)SL_MIN(left, (uint64_t)CHUNK_BYTES), &n, err);
        if (status == SL_OK && n == 0)
            status = sl_fail(err, SL_EIO, "%.300s became shorter while it was copied; try again",
                             m->path);
        if (status == SL_OK)
            status = put(s, m, out, chunk, n, err);
        if (status == SL_OK)
            sum_add(digest, chunk, n);
        left -= n;
    }
    sum_end(digest, m->sha256);
    return end(s, m, out, status, err);
}

sl_status sink_put_file(sink *s, member *m, int fd, sl_err *err)
{
    struct stat st;
    char *chunk;
    sl_status status;

    if (fstat(fd, &st) != 0)
        return sl_fail(err, SL_EIO, "cannot look at %.300s: %s", m->path, strerror(errno));
    chunk = sl_malloc(CHUNK_BYTES);
    if (!chunk)
        return sl_fail(err, SL_ENOMEM, "out of memory for the backup");
    m->bytes = (uint64_t)st.st_size;
    status =
        m->bytes <= WHOLE_BYTES ? put_whole(s, m, fd, chunk, err) : put_long(s, m, fd, chunk, err);
    sl_free(chunk);
    return status;
}

/* ---- its end ------------------------------------------------------------------------------- */

static sl_status close_archive(sink *s, sl_err *err)
{
    sl_status status = archive_write_close(s->a) == ARCHIVE_OK ? SL_OK : fail_archive(s, err);

    archive_write_free(s->a);
    s->a = NULL;
    if (status == SL_OK && s->partial && fsync(s->fd) != 0)
        status = sl_fail(err, SL_EIO, "cannot write %.300s: %s", s->partial, strerror(errno));
    return status;
}

sl_status sink_finish(sink *s, sl_err *err)
{
    sl_status status = s->is_directory ? tree_settle(s->partial, geteuid(), getegid(), err)
                                       : close_archive(s, err);

    if (status != SL_OK || !s->partial)
        return status;
    /* A directory in the way that is not empty makes rename fail; a file must not be lost. */
    if (s->is_directory ? rename(s->partial, s->to) != 0
                        : renameat2(AT_FDCWD, s->partial, AT_FDCWD, s->to, RENAME_NOREPLACE) != 0)
        return sl_fail(err, errno == EEXIST || errno == ENOTEMPTY ? SL_ECONFLICT : SL_EIO,
                       "cannot give the backup its name %.300s: %s", s->to, strerror(errno));
    s->is_finished = true;
    status = sl_dir_sync(s->to, err);
    if (status != SL_OK)
        tree_remove(s->to);
    return status;
}

void sink_close(sink *s)
{
    if (!s)
        return;
    if (s->a)
        archive_write_free(s->a);
    if (s->partial && s->fd >= 0)
        close(s->fd);
    if (s->partial && !s->is_finished)
        tree_remove(s->partial);
    sl_free(s->partial);
    sl_free(s->to);
    sl_free(s);
}
