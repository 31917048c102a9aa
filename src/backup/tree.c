/* tree.c - files and trees of them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/backup_int.h"
#include "base/os.h"

#define WALK_FDS 16

sl_status tree_file(const char *path, int *ret_fd, sl_err *err)
{
    char *dir = sl_strdup(path), *slash = dir ? strrchr(dir, '/') : NULL;
    sl_status status = dir ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");
    int fd = -1;

    if (slash && slash != dir) {
        *slash = '\0';
        status = sl_mkdirs(dir, err);
    }
    sl_free(dir);
    if (status != SL_OK)
        return status;
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return sl_fail(err, errno == EEXIST ? SL_EFORMAT : SL_EIO, "cannot create %.300s: %s", path,
                       strerror(errno));
    *ret_fd = fd;
    return SL_OK;
}

sl_status tree_write(int fd, const void *bytes, size_t len, const char *path, sl_err *err)
{
    if (!sl_write_all(fd, bytes, len))
        return sl_fail(err, SL_EIO, "cannot write %.300s: %s", path, strerror(errno));
    return SL_OK;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    (void)remove(path);
    return 0;
}

void tree_remove(const char *path)
{
    (void)nftw(path, remove_one, WALK_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* nftw has no context; one call at a time per thread. */
static _Thread_local uint64_t bytes_seen;
static _Thread_local uid_t owner;
static _Thread_local gid_t group;

static int count_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)path;
    (void)ftw;
    bytes_seen += type == FTW_F ? (uint64_t)st->st_size : 0;
    return 0;
}

uint64_t tree_bytes(const char *path)
{
    bytes_seen = 0;
    (void)nftw(path, count_one, WALK_FDS, FTW_PHYS);
    return bytes_seen;
}

bool tree_is_empty(const char *path, const char *but)
{
    const struct dirent *e;
    bool empty = true;
    DIR *dir = opendir(path);

    if (!dir)
        return false;
    while (empty && (e = readdir(dir)))
        empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
                (but && strcmp(e->d_name, but) == 0);
    closedir(dir);
    return empty;
}

static int settle_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    int fd, bad;

    (void)ftw;
    if ((st->st_uid != owner || st->st_gid != group) && lchown(path, owner, group) != 0)
        return -1;
    if (type != FTW_DP && type != FTW_D)
        return 0;
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    bad = fsync(fd);
    close(fd);
    return bad ? -1 : 0;
}

sl_status tree_settle(const char *path, unsigned uid, unsigned gid, sl_err *err)
{
    owner = uid;
    group = gid;
    if (nftw(path, settle_one, WALK_FDS, FTW_DEPTH | FTW_PHYS) != 0)
        return sl_fail(err, SL_EIO, "cannot settle %.300s: %s", path, strerror(errno));
    return SL_OK;
}

static sl_status link_link(const char *from, const char *to, sl_err *err)
{
    char target[4096];
    ssize_t n = readlink(from, target, sizeof target - 1);

    if (n <= 0)
        return sl_fail(err, SL_EIO, "cannot read the link %.300s: %s", from, strerror(errno));
    target[n] = '\0';
    if (symlink(target, to) != 0)
        return sl_fail(err, SL_EIO, "cannot link %.300s: %s", to, strerror(errno));
    return SL_OK;
}

static sl_status link_directory(const char *from, const char *to, sl_err *err)
{
    char a[8192], b[8192];
    const struct dirent *e;
    sl_status status = SL_OK;
    DIR *dir = opendir(from);

    if (!dir)
        return sl_fail(err, SL_EIO, "cannot read %.300s: %s", from, strerror(errno));
    if (mkdir(to, 0700) != 0)
        status = sl_fail(err, SL_EIO, "cannot create %.300s: %s", to, strerror(errno));
    while (status == SL_OK && (e = readdir(dir))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if ((size_t)snprintf(a, sizeof a, "%s/%s", from, e->d_name) >= sizeof a ||
            (size_t)snprintf(b, sizeof b, "%s/%s", to, e->d_name) >= sizeof b)
            status = sl_fail(err, SL_ELIMIT, "a path below %.300s is too long", from);
        else
            status = tree_link(a, b, err);
    }
    closedir(dir);
    return status;
}

sl_status tree_link(const char *from, const char *to, sl_err *err)
{
    struct stat st;

    if (lstat(from, &st) != 0)
        return sl_fail(err, SL_EIO, "cannot look at %.300s: %s", from, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return link_directory(from, to, err);
    if (S_ISLNK(st.st_mode))
        return link_link(from, to, err);
    if (S_ISREG(st.st_mode) && linkat(AT_FDCWD, from, AT_FDCWD, to, 0) != 0)
        return sl_fail(err, SL_EIO, "cannot link %.200s to %.200s: %s", from, to, strerror(errno));
    return SL_OK;
}
