/* hold.c - flock on a file in the directory. A lock on a directory that was renamed meanwhile holds
 * nothing, so what was locked is compared with what the path now names. */
#include "base/hold.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/os.h"

#define TRIES 16 /* renames within one call */

/* *ret_fd stays -1 when the path names another file by now. */
static sl_status try_hold(const char *dir, const char *path, bool alone, int *ret_fd, sl_err *err)
{
    struct stat have, now;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return sl_fail(err, SL_EIO, "cannot open %s: %s", path, strerror(errno));
    if (flock(fd, (alone ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0) {
        int e = errno;

        close(fd);
        if (e != EWOULDBLOCK)
            return sl_fail(err, SL_EIO, "cannot lock %s: %s", path, strerror(e));
        return alone
                   ? sl_fail(err, SL_EBUSY,
                             "a running sluice uses %s; stop it first (its lock is %s)", dir, path)
                   : sl_fail(err, SL_EBUSY, "%s is being restored; try again when that is done",
                             dir);
    }
    if (fstat(fd, &have) != 0 || stat(path, &now) != 0 || have.st_ino != now.st_ino ||
        have.st_dev != now.st_dev) {
        close(fd);
        return SL_OK;
    }
    *ret_fd = fd;
    return SL_OK;
}

sl_status sl_dir_hold(const char *dir, bool alone, int *ret_fd, sl_err *err)
{
    sl_buf path;
    sl_status status;
    int fd = -1;

    sl_buf_init(&path, 8192);
    sl_buf_printf(&path, "%s/" SL_HOLD_FILE, dir);
    status = sl_buf_ok(&path, "path", err);
    for (int i = 0; i < TRIES && status == SL_OK && fd < 0; i++) {
        if (!alone)
            status = sl_mkdirs(dir, err);
        if (status == SL_OK)
            status = try_hold(dir, path.ptr, alone, &fd, err);
    }
    sl_buf_deinit(&path);
    if (status == SL_OK && fd < 0)
        status = sl_fail(err, SL_EBUSY, "%s changes all the time", dir);
    if (status == SL_OK)
        *ret_fd = fd;
    return status;
}
