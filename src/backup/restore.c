/* restore.c - a backup becomes the data directory.
 *
 * 1. Everything is unpacked into DATA.restore-XXXXXX, a new directory that nobody else writes; a
 * name cannot lead out of it, and no link is made before all files are there.
 * 2. Names, lengths and sums are held against the manifest, both ways, and every database against
 *    itself. Up to here DATA was only looked at.
 * 3. The new directory and DATA change places in one step. What was there becomes DATA.old, and
 * goes when the new one is on the disk. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "backup/backup_int.h"
#include "base/hold.h"
#include "base/os.h"
#include "store/store.h"

#define RESTORED_CONFIG                                                                            \
    "restored-config.yaml" /* in the data directory: where else it was, who knows */

typedef struct restorer {
    const restore_options *o;
    char data[4096];  /* without links */
    char old[4200];   /* data.old */
    char stage[4200]; /* "" before it is made */
    bool had_data;
    int hold, parent;  /* the lock; the directory that holds data */
    unsigned uid, gid; /* whose the data directory is to be */
    uint64_t bytes_max;
    members seen, said; /* what was unpacked, what the manifest says */
    sl_buf manifest;
    backup_report *report;
} restorer;

static sl_status too_long(sl_err *err)
{
    return sl_fail(err, SL_EINVAL, "the data directory's name is too long");
}

/* ---- before -------------------------------------------------------------------------------- */

/* DATA without links and "..": what is renamed later. Its parent is made. */
static sl_status resolve(restorer *r, sl_err *err)
{
    char dir[4096], *real, *slash;
    const char *name;
    size_t len = strlen(r->o->data);

    if (len >= sizeof dir)
        return too_long(err);
    if ((real = realpath(r->o->data, NULL))) {
        bool fits = (size_t)snprintf(r->data, sizeof r->data, "%s", real) < sizeof r->data;

        free(real);
        return fits ? SL_OK : too_long(err);
    }
    memcpy(dir, r->o->data, len + 1);
    while (len > 1 && dir[len - 1] == '/')
        dir[--len] = '\0';
    slash = strrchr(dir, '/');
    name = slash ? slash + 1 : r->o->data;
    if (slash)
        *slash = '\0';
    if (slash && slash != dir)
        SL_TRY(sl_mkdirs(dir, err));
    real = realpath(slash ? (slash == dir ? "/" : dir) : ".", NULL);
    if (!real)
        return sl_fail(err, SL_EIO, "cannot use %.300s: %s", r->o->data, strerror(errno));
    len = (size_t)snprintf(r->data, sizeof r->data, "%s/%.*s", real, (int)strcspn(name, "/"), name);
    free(real);
    return len < sizeof r->data ? SL_OK : too_long(err);
}

static sl_status look_at_old(restorer *r, const struct stat *st, sl_err *err)
{
    char parent[4200];
    struct stat above;

    r->had_data = true;
    r->uid = st->st_uid;
    r->gid = st->st_gid;
    snprintf(parent, sizeof parent, "%s/..", r->data);
    if (stat(parent, &above) != 0 || above.st_dev != st->st_dev)
        return sl_fail(err, SL_ENOTSUP,
                       "%.300s is a mount point and cannot be exchanged in one step; give --data a "
                       "directory in it",
                       r->data);
    SL_TRY(sl_dir_hold(r->data, true, &r->hold, err));
    if (!r->o->force && !tree_is_empty(r->data, SL_HOLD_FILE))
        return sl_fail(err, SL_ECONFLICT, "%.300s is not empty; --force replaces it", r->data);
    return SL_OK;
}

static sl_status look_around(restorer *r, sl_err *err)
{
    char parent[4200];
    struct stat st;
    struct statvfs disk;

    SL_TRY(resolve(r, err));
    snprintf(r->old, sizeof r->old, "%s.old", r->data);
    if (lstat(r->old, &st) == 0)
        return sl_fail(err, SL_ECONFLICT,
                       "%.300s is there, from an earlier restore; look into it, then remove it",
                       r->old);
    r->uid = geteuid();
    r->gid = getegid();
    if (stat(r->data, &st) == 0) {
        if (!S_ISDIR(st.st_mode))
            return sl_fail(err, SL_EINVAL, "%.300s is not a directory", r->data);
        SL_TRY(look_at_old(r, &st, err));
    }
    snprintf(parent, sizeof parent, "%s", r->data);
    *strrchr(parent, '/') = '\0';
    /* Made by root in somebody's directory, it is for that somebody. */
    if (!r->had_data && geteuid() == 0 && stat(parent[0] ? parent : "/", &st) == 0) {
        r->uid = st.st_uid;
        r->gid = st.st_gid;
    }
    r->bytes_max = r->o->bytes_max;
    if (!r->bytes_max) {
        if (statvfs(parent[0] ? parent : "/", &disk) != 0)
            return sl_fail(err, SL_EIO, "cannot look at the disk of %.300s: %s", r->data,
                           strerror(errno));
        r->bytes_max = (uint64_t)disk.f_bavail * disk.f_frsize;
    }
    r->parent = open(parent[0] ? parent : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(r->stage, sizeof r->stage, "%s.restore-XXXXXX", r->data);
    if (r->parent < 0 || !mkdtemp(r->stage)) {
        r->stage[0] = '\0';
        return sl_fail(err, SL_EIO, "cannot create a directory beside %.300s: %s", r->data,
                       strerror(errno));
    }
    return SL_OK;
}

/* ---- unpacking ----------------------------------------------------------------------------- */

/* stage/name, or where this member goes. */
static sl_status place_of(const restorer *r, const char *name, sl_buf *ret, sl_err *err)
{
    sl_buf_clear(ret);
    if (strcmp(name, BACKUP_CONFIG) == 0)
        name = BACKUP_DATA RESTORED_CONFIG;
    sl_buf_printf(ret, "%s/%s", r->stage, name);
    return sl_buf_ok(ret, "path", err);
}

/* The member's bytes into the file, or, of the manifest, into memory. */
static sl_status unpack_bytes(restorer *r, source *s, member *m, int fd, char *chunk, sl_err *err)
{
    sum *digest;
    size_t n = 1;
    sl_status status;

    SL_TRY(sum_begin(&digest, err));
    status = SL_OK;
    while (status == SL_OK && n > 0) {
        status = source_read(s, chunk, CHUNK_BYTES, &n, err);
        if (status != SL_OK || n == 0)
            break;
        m->bytes += n;
        r->report->bytes += n;
        if (r->report->bytes > r->bytes_max)
            status = sl_fail(err, SL_ELIMIT,
                             "the backup holds more than the %llu bytes that there is room for",
                             (unsigned long long)r->bytes_max);
        else if (r->o->cancelled && atomic_load(r->o->cancelled))
            status = sl_fail(err, SL_ECANCELLED, "interrupted; nothing was changed");
        else if (fd >= 0)
            status = tree_write(fd, chunk, n, m->path, err);
        else
            sl_buf_put(&r->manifest, chunk, n);
        sum_add(digest, chunk, n);
    }
    sum_end(digest, m->sha256);
    if (status == SL_OK && fd >= 0 && fsync(fd) != 0)
        status = sl_fail(err, SL_EIO, "cannot write %.300s: %s", m->path, strerror(errno));
    return status == SL_OK ? sl_buf_ok(&r->manifest, "manifest", err) : status;
}

static sl_status unpack_one(restorer *r, source *s, const char *name, char *chunk, sl_err *err)
{
    bool is_manifest = strcmp(name, BACKUP_MANIFEST) == 0;
    member *m;
    sl_buf path;
    sl_status status = SL_OK;
    int fd = -1;

    if (!is_manifest && strcmp(name, BACKUP_CONFIG) != 0 &&
        strncmp(name, BACKUP_DATA, strlen(BACKUP_DATA)) != 0)
        return sl_fail(err, SL_EFORMAT, "the backup has a member that belongs nowhere: %.200s",
                       name);
    if (is_manifest && r->manifest.len > 0)
        return sl_fail(err, SL_EFORMAT, "the backup has two manifests");
    SL_TRY(members_add(&r->seen, name, MEMBER_FILE, NULL, &m, err));
    sl_buf_init(&path, 16384);
    if (!is_manifest)
        status = place_of(r, name, &path, err);
    if (status == SL_OK && !is_manifest)
        status = tree_file(path.ptr, &fd, err);
    if (status == SL_OK)
        status = unpack_bytes(r, s, m, fd, chunk, err);
    if (fd >= 0)
        close(fd);
    sl_buf_deinit(&path);
    return status;
}

static sl_status unpack(restorer *r, sl_err *err)
{
    source *s = NULL;
    const char *name;
    char *chunk = sl_malloc(CHUNK_BYTES);
    sl_status status =
        chunk ? source_open(r->o->from, &s, err) : sl_fail(err, SL_ENOMEM, "out of memory");

    while (status == SL_OK) {
        status = source_next(s, &name, err);
        if (status != SL_OK || !name)
            break;
        status = unpack_one(r, s, name, chunk, err);
    }
    source_close(s);
    sl_free(chunk);
    members_sort(&r->seen);
    return status;
}

/* ---- checking ------------------------------------------------------------------------------ */

static sl_status compare(const restorer *r, sl_err *err)
{
    size_t said_files = 0;

    for (size_t i = 0; i < r->said.count; i++) {
        const member *said = &r->said.items[i];
        const member *seen = members_find(&r->seen, said->path);

        if (said->kind == MEMBER_LINK && !seen)
            continue;
        said_files++;
        if (!seen)
            return sl_fail(err, SL_EFORMAT, "the backup lacks its member %.300s", said->path);
        if (said->kind == MEMBER_LINK || seen->bytes != said->bytes ||
            memcmp(seen->sha256, said->sha256, BACKUP_HEX_BYTES) != 0)
            return sl_fail(err, SL_EFORMAT, "the backup's member %.300s is not what was kept",
                           said->path);
    }
    /* Names are unique on both sides: seen by tree_file, said by the parser. */
    if (r->seen.count != said_files + 1)
        return sl_fail(err, SL_EFORMAT, "the backup has members that its manifest does not name");
    return SL_OK;
}

/* "../../../blobs/sha256-..." from the depth where the link is. */
static sl_status make_link(const restorer *r, const member *m, sl_err *err)
{
    sl_buf path, target;
    char *slash;
    sl_status status;

    sl_buf_init(&path, 16384);
    sl_buf_init(&target, 8192);
    for (const char *p = m->path + strlen(BACKUP_DATA "models/"); (p = strchr(p, '/')); p++)
        sl_buf_puts(&target, "../");
    sl_buf_printf(&target, "blobs/%s", m->blob);
    status = place_of(r, m->path, &path, err);
    if (status == SL_OK)
        status = sl_buf_ok(&target, "path", err);
    if (status == SL_OK) {
        slash = strrchr(path.ptr, '/');
        *slash = '\0';
        status = sl_mkdirs(path.ptr, err);
        *slash = '/';
    }
    if (status == SL_OK && symlink(target.ptr, path.ptr) != 0)
        status = sl_fail(err, SL_EFORMAT, "cannot link %.300s: %s", m->path, strerror(errno));
    sl_buf_deinit(&target);
    sl_buf_deinit(&path);
    return status;
}

static sl_status check_database(const restorer *r, const member *m, sl_err *err)
{
    sl_buf path;
    sl_status status;

    sl_buf_init(&path, 16384);
    status = place_of(r, m->path, &path, err);
    if (status == SL_OK)
        status = store_check(path.ptr, err);
    sl_buf_deinit(&path);
    return status;
}

static sl_status check(restorer *r, sl_err *err)
{
    if (r->manifest.len == 0)
        return sl_fail(err, SL_EFORMAT, "the backup has no " BACKUP_MANIFEST);
    SL_TRY(manifest_parse(sl_span_of(r->manifest.ptr, r->manifest.len), &r->said,
                          r->report->created, err));
    SL_TRY(compare(r, err));
    for (size_t i = 0; i < r->said.count; i++) {
        const member *m = &r->said.items[i];

        if (m->kind == MEMBER_DATABASE)
            SL_TRY(check_database(r, m, err));
        r->report->databases += m->kind == MEMBER_DATABASE;
        r->report->members += m->kind != MEMBER_LINK;
    }
    for (size_t i = 0; i < r->said.count; i++)
        if (r->said.items[i].kind == MEMBER_LINK)
            SL_TRY(make_link(r, &r->said.items[i], err));
    r->report->bytes -= r->manifest.len;
    return SL_OK;
}

/* ---- the exchange -------------------------------------------------------------------------- */

/* The models that are there: linked, so that one rename moves all. */
static sl_status keep_models(const restorer *r, const char *fresh, sl_err *err)
{
    char from[4400], to[4400];

    snprintf(from, sizeof from, "%s/models", r->data);
    snprintf(to, sizeof to, "%s/models", fresh);
    if (!r->had_data || !sl_file_exists(from) || sl_file_exists(to))
        return SL_OK;
    return tree_link(from, to, err);
}

static sl_status fail_exchange(const restorer *r, sl_err *err)
{
    return sl_fail(err, SL_EIO, "cannot put the restored directory in the place of %.300s: %s",
                   r->data, strerror(errno));
}

/* Where the file system knows no exchange there is a moment without a data directory. */
static sl_status exchange(const restorer *r, const char *fresh, sl_err *err)
{
    if (!r->had_data)
        return rename(fresh, r->data) == 0 ? SL_OK : fail_exchange(r, err);
    if (renameat2(AT_FDCWD, fresh, AT_FDCWD, r->data, RENAME_EXCHANGE) == 0)
        return rename(fresh, r->old) == 0 ? SL_OK : fail_exchange(r, err);
    if (errno != EINVAL && errno != ENOSYS)
        return fail_exchange(r, err);
    if (rename(r->data, r->old) != 0)
        return fail_exchange(r, err);
    if (rename(fresh, r->data) == 0)
        return SL_OK;
    (void)fail_exchange(r, err);
    (void)rename(r->old, r->data);
    return SL_EIO;
}

static sl_status put_in_place(restorer *r, sl_err *err)
{
    char fresh[4300];

    snprintf(fresh, sizeof fresh, "%s/data", r->stage);
    SL_TRY(sl_mkdirs(fresh, err)); /* of a backup of nothing */
    SL_TRY(keep_models(r, fresh, err));
    SL_TRY(tree_settle(fresh, r->uid, r->gid, err));
    r->report->had_bytes = r->had_data ? tree_bytes(r->data) : 0;
    SL_TRY(exchange(r, fresh, err));
    if (fsync(r->parent) != 0)
        return sl_fail(err, SL_EIO, "%.300s is restored, but the disk does not confirm it: %s",
                       r->data, strerror(errno));
    if (r->had_data && !r->o->keep_old)
        tree_remove(r->old);
    return SL_OK;
}

sl_status backup_restore(const restore_options *o, backup_report *ret, sl_err *err)
{
    backup_report report = { 0 };
    restorer r = { .o = o, .hold = -1, .parent = -1, .report = &report };
    sl_status status;

    sl_buf_init(&r.manifest, SL_BACKUP_MANIFEST_BYTES_MAX);
    status = look_around(&r, err);
    if (status == SL_OK)
        status = unpack(&r, err);
    if (status == SL_OK)
        status = check(&r, err);
    if (status == SL_OK)
        status = put_in_place(&r, err);
    if (r.stage[0])
        tree_remove(r.stage);
    if (r.hold >= 0)
        close(r.hold);
    if (r.parent >= 0)
        close(r.parent);
    members_free(&r.seen);
    members_free(&r.said);
    sl_buf_deinit(&r.manifest);
    if (status == SL_OK)
        *ret = report;
    return status;
}
