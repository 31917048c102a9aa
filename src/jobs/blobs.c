/* blobs.c - the bytes of files: a draft is written, synced, and renamed to its id before a row
 * names it, so that what is listed is whole whatever happened. What a crash leaves has no row, and
 * is removed an hour later. */
#include "jobs/jobs_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

static sl_status fail_io(sl_err *err, const char *what)
{
    return sl_fail(err, SL_EIO, "cannot %s a file: %s", what, strerror(errno));
}

sl_status draft_open(jobs *j, int64_t bytes_max, llm_draft **ret, sl_err *err)
{
    llm_draft *d = sl_calloc(1, sizeof *d);
    char id[ID_BYTES];
    sl_status status;

    if (!d)
        return sl_fail(err, SL_ENOMEM, "out of memory for a file");
    jobs_make_id(id, "tmp-");
    d->j = j;
    d->bytes_max = bytes_max;
    blob_path(j, id, d->path);
    d->fd = open(d->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (d->fd < 0) {
        status = fail_io(err, "create");
        sl_free(d);
        return status;
    }
    *ret = d;
    return SL_OK;
}

sl_status draft_write(llm_draft *d, const void *bytes, size_t len, sl_err *err)
{
    const char *p = bytes;

    if ((int64_t)len > d->bytes_max - d->bytes)
        return sl_fail(err, SL_ELIMIT, "The file is larger than %lld bytes",
                       (long long)d->bytes_max);
    while (len > 0) {
        ssize_t n = write(d->fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail_io(err, "write");
        p += n;
        len -= (size_t)n;
        d->bytes += n;
    }
    return SL_OK;
}

void draft_drop(llm_draft *d)
{
    if (!d)
        return;
    if (d->fd >= 0)
        close(d->fd);
    unlink(d->path);
    sl_free(d);
}

sl_status draft_publish(llm_draft *d, const char *id, sl_err *err)
{
    char path[PATH_BYTES + 64];
    sl_status status = SL_OK;

    blob_path(d->j, id, path);
    if (fsync(d->fd) != 0)
        status = fail_io(err, "write");
    if (close(d->fd) != 0 && status == SL_OK)
        status = fail_io(err, "write");
    d->fd = -1;
    if (status == SL_OK && rename(d->path, path) != 0)
        status = fail_io(err, "rename");
    if (status == SL_OK) {
        status = sl_dir_sync(path, err);
        sl_free(d);
    } else {
        draft_drop(d);
    }
    return status;
}

void blob_path(const jobs *j, const char *id, char ret[PATH_BYTES + 64])
{
    snprintf(ret, PATH_BYTES + 64, "%s/%s", j->dir, id);
}

sl_status blob_open(const jobs *j, const char *id, int *ret_fd, sl_err *err)
{
    char path[PATH_BYTES + 64];
    int fd;

    blob_path(j, id, path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? sl_fail(err, SL_ENOTFOUND, "The bytes of %s are gone", id)
                               : fail_io(err, "open");
    *ret_fd = fd;
    return SL_OK;
}

void blob_remove(const jobs *j, const char *id)
{
    char path[PATH_BYTES + 64];

    blob_path(j, id, path);
    unlink(path);
}

static bool has_row(jobs *j, const char *id)
{
    store_stmt *st = NULL;
    bool found = true; /* when in doubt, it stays */

    store_lock(j->db);
    if (store_first_with(j->db, &st, NULL,
                         "SELECT 1 FROM file WHERE id = ?1 UNION SELECT 1 FROM part WHERE id"
                         " = ?1",
                         "s", id) == SL_OK)
        found = st != NULL;
    store_finish(st);
    store_unlock(j->db);
    return found;
}

void blobs_sweep(jobs *j)
{
    DIR *dir = opendir(j->dir);
    const struct dirent *e;
    int64_t now_s = sl_clock_wall_ms() / 1000; /* as the file system's, also in tests */

    while (dir && (e = readdir(dir))) {
        bool is_draft = strncmp(e->d_name, "tmp-", 4) == 0;
        bool is_blob = strncmp(e->d_name, "file-", 5) == 0 || strncmp(e->d_name, "part_", 5) == 0;
        struct stat st;

        if ((!is_draft && !is_blob) || fstatat(dirfd(dir), e->d_name, &st, 0) != 0 ||
            st.st_mtime > now_s - HOUR_S || (is_blob && has_row(j, e->d_name)))
            continue;
        SL_LOG(SL_LOG_INFO, "files.orphan_removed", SL_F_STR("name", e->d_name));
        unlinkat(dirfd(dir), e->d_name, 0);
    }
    if (dir)
        closedir(dir);
}
