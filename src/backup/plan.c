/* plan.c - walks a data directory.
 *
 * Everything in it belongs into a backup but: locks, drafts and other passing things; companions of
 * databases, which the copy of the database contains; and models, unless they are asked for. So new
 * kinds of files are kept without a word here. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/backup_int.h"
#include "base/hold.h"

typedef struct walk {
    const char *data;
    bool with_models;
    members *list;
    sl_err *err;
} walk;

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool ends(const char *text, const char *with)
{
    size_t len = strlen(text), tail = strlen(with);

    return len > tail && strcmp(text + len - tail, with) == 0;
}

/* path: below the data directory. */
static bool is_passing(const char *path)
{
    static const char *const companions[] = { ".db-wal", ".db-shm", ".db-journal" };
    const char *tmp = strstr(path, ".tmp.");

    for (size_t i = 0; i < SL_COUNT_OF(companions); i++)
        if (ends(path, companions[i]))
            return true;
    if (tmp && tmp[5] && strspn(tmp + 5, "0123456789") == strlen(tmp + 5))
        return true; /* of sl_file_write_atomic */
    return strcmp(path, SL_HOLD_FILE) == 0 || strcmp(path, "files/lock") == 0 ||
           starts(path, "files/tmp-") || starts(path, ".backup-") ||
           strcmp(path, "models/partial") == 0;
}

/* By name and content: a file that somebody uploaded is kept byte for byte whatever it is. */
static bool is_database(const char *full)
{
    char magic[16];
    int fd;
    bool is;

    if (!ends(full, ".db"))
        return false;
    fd = open(full, O_RDONLY | O_CLOEXEC);
    is = fd >= 0 && read(fd, magic, sizeof magic) == (ssize_t)sizeof magic &&
         memcmp(magic, "SQLite format 3", sizeof magic) == 0;
    if (fd >= 0)
        close(fd);
    return is;
}

/* A model's tree is made of links to blobs; in a backup they lead to the blob of the same name. */
static sl_status add_link(walk *w, const char *name, const char *full)
{
    char target[4096];
    ssize_t n = readlink(full, target, sizeof target - 1);
    const char *blob;

    if (n <= 0)
        return SL_OK; /* gone meanwhile */
    target[n] = '\0';
    blob = strrchr(target, '/');
    if (!blob || !starts(blob, "/sha256-"))
        return sl_fail(w->err, SL_EFORMAT, "%s is a link, and not to a model's blob", full);
    return members_add(w->list, name, MEMBER_LINK, blob + 1, NULL, w->err);
}

static sl_status visit(walk *w, const char *path, int depth);

static sl_status visit_one(walk *w, const char *path, int depth)
{
    char full[8192], name[SL_BACKUP_NAME_BYTES_MAX + 16];
    struct stat st;

    if (is_passing(path) || (strcmp(path, "models") == 0 && !w->with_models))
        return SL_OK;
    if ((size_t)snprintf(full, sizeof full, "%s/%s", w->data, path) >= sizeof full ||
        (size_t)snprintf(name, sizeof name, BACKUP_DATA "%s", path) >= sizeof name ||
        !backup_name_ok(name))
        return sl_fail(w->err, SL_EINVAL, "%.300s/%.100s: no backup can hold a file of that name",
                       w->data, path);
    if (lstat(full, &st) != 0)
        return errno == ENOENT
                   ? SL_OK
                   : sl_fail(w->err, SL_EIO, "cannot look at %.300s: %s", full, strerror(errno));
    if (S_ISLNK(st.st_mode) && starts(path, "models/trees/"))
        return add_link(w, name, full);
    if (S_ISLNK(st.st_mode) && stat(full, &st) != 0)
        return sl_fail(w->err, SL_EIO, "%.300s leads nowhere", full);
    if (S_ISDIR(st.st_mode))
        return visit(w, path, depth + 1);
    if (!S_ISREG(st.st_mode))
        return SL_OK; /* sockets */
    return members_add(w->list, name, is_database(full) ? MEMBER_DATABASE : MEMBER_FILE, NULL, NULL,
                       w->err);
}

static sl_status visit(walk *w, const char *path, int depth)
{
    char full[8192], below[8192];
    const struct dirent *e;
    sl_status status = SL_OK;
    DIR *dir;

    snprintf(full, sizeof full, "%s/%s", w->data, path);
    if (depth > SL_BACKUP_DEPTH_MAX - 2)
        return sl_fail(w->err, SL_ELIMIT, "%.400s is too deep for a backup", full);
    dir = opendir(full);
    if (!dir)
        return sl_fail(w->err, errno == ENOENT ? SL_ENOTFOUND : SL_EIO, "cannot read %.300s: %s",
                       full, strerror(errno));
    while (status == SL_OK && (e = readdir(dir))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if ((size_t)snprintf(below, sizeof below, "%s%s%s", path, path[0] ? "/" : "", e->d_name) >=
            sizeof below)
            status = sl_fail(w->err, SL_ELIMIT, "a path below %.300s is too long", full);
        else
            status = visit_one(w, below, depth);
    }
    closedir(dir);
    return status;
}

sl_status plan_make(const char *data, bool with_models, members *ret, sl_err *err)
{
    members list = { 0 };
    walk w = { data, with_models, &list, err };
    sl_status status = visit(&w, "", 0);

    if (status != SL_OK) {
        members_free(&list);
        return status;
    }
    members_sort(&list);
    *ret = list;
    return SL_OK;
}
