/* source.c - the members of an archive or of a directory, one after the other. What an archive says
 * is foreign: of its entries only regular files with harmless names are taken. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/backup_int.h"
#include "base/os.h"

struct source {
    struct archive *a; /* of an archive */
    char *dir;         /* of a directory: its members are those of its manifest */
    members list;
    size_t next;
    int fd; /* the present file in it */
};

static sl_status fail_archive(source *s, sl_err *err)
{
    const char *text = archive_error_string(s->a);

    return sl_fail(err, SL_EFORMAT, "the backup cannot be read: %.300s",
                   text ? text : "no reason given");
}

static sl_status open_archive(source *s, const char *from, sl_err *err)
{
    const char *path = strcmp(from, "-") == 0 ? NULL : from; /* NULL: standard input */

    s->a = archive_read_new();
    if (!s->a)
        return sl_fail(err, SL_ENOMEM, "out of memory for the backup");
    if (archive_read_support_filter_zstd(s->a) != ARCHIVE_OK ||
        archive_read_support_format_tar(s->a) != ARCHIVE_OK ||
        archive_read_open_filename(s->a, path, CHUNK_BYTES) != ARCHIVE_OK)
        return fail_archive(s, err);
    return SL_OK;
}

static sl_status open_directory(source *s, const char *from, sl_err *err)
{
    char created[32];
    sl_buf path, text;
    sl_status status;

    sl_buf_init(&path, 16384);
    sl_buf_init(&text, SL_BACKUP_MANIFEST_BYTES_MAX);
    sl_buf_printf(&path, "%s/" BACKUP_MANIFEST, from);
    status = sl_buf_ok(&path, "path", err);
    if (status == SL_OK && !(s->dir = sl_strdup(from)))
        status = sl_fail(err, SL_ENOMEM, "out of memory for the backup");
    if (status == SL_OK)
        status = sl_file_read(path.ptr, SL_BACKUP_MANIFEST_BYTES_MAX, &text, err);
    if (status == SL_ENOTFOUND)
        status = sl_fail(err, SL_EFORMAT, "%.300s is no backup: it has no " BACKUP_MANIFEST, from);
    if (status == SL_OK)
        status = manifest_parse(sl_span_of(text.ptr, text.len), &s->list, created, err);
    if (status == SL_OK)
        status = members_add(&s->list, BACKUP_MANIFEST, MEMBER_FILE, NULL, NULL, err);
    sl_buf_deinit(&text);
    sl_buf_deinit(&path);
    return status;
}

sl_status source_open(const char *from, source **ret, sl_err *err)
{
    source *s = sl_calloc(1, sizeof *s);
    struct stat st;
    sl_status status = SL_OK;
    bool is_input = strcmp(from, "-") == 0;

    if (!s)
        return sl_fail(err, SL_ENOMEM, "out of memory for the backup");
    s->fd = -1;
    if (!is_input && stat(from, &st) != 0)
        status = sl_fail(err, errno == ENOENT ? SL_ENOTFOUND : SL_EIO, "cannot open %.300s: %s",
                         from, strerror(errno));
    else if (!is_input && S_ISDIR(st.st_mode))
        status = open_directory(s, from, err);
    else
        status = open_archive(s, from, err);
    if (status == SL_OK)
        *ret = s;
    else
        source_close(s);
    return status;
}

void source_close(source *s)
{
    if (!s)
        return;
    if (s->a)
        archive_read_free(s->a);
    if (s->fd >= 0)
        close(s->fd);
    members_free(&s->list);
    sl_free(s->dir);
    sl_free(s);
}

/* ---- members ------------------------------------------------------------------------------- */

static sl_status next_entry(source *s, const char **ret_name, sl_err *err)
{
    struct archive_entry *e;
    const char *name;
    int rc = archive_read_next_header(s->a, &e);

    *ret_name = NULL;
    if (rc == ARCHIVE_EOF)
        return SL_OK;
    if (rc != ARCHIVE_OK)
        return fail_archive(s, err);
    name = archive_entry_pathname(e);
    if (!name || !backup_name_ok(name))
        return sl_fail(err, SL_EFORMAT, "the backup has a member of a forbidden name: '%.200s'",
                       name ? name : "");
    if (archive_entry_filetype(e) != AE_IFREG || archive_entry_hardlink(e) ||
        archive_entry_symlink(e))
        return sl_fail(err, SL_EFORMAT, "the backup's member %.200s is not a regular file", name);
    *ret_name = name;
    return SL_OK;
}

static sl_status next_file(source *s, const char **ret_name, sl_err *err)
{
    struct stat st;
    sl_buf path;
    sl_status status;

    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    *ret_name = NULL;
    while (s->next < s->list.count && s->list.items[s->next].kind == MEMBER_LINK)
        s->next++;
    if (s->next == s->list.count)
        return SL_OK;
    sl_buf_init(&path, 16384);
    sl_buf_printf(&path, "%s/%s", s->dir, s->list.items[s->next].path);
    status = sl_buf_ok(&path, "path", err);
    if (status == SL_OK) {
        s->fd = open(path.ptr, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        if (s->fd < 0 || fstat(s->fd, &st) != 0 || !S_ISREG(st.st_mode))
            status = sl_fail(err, SL_EFORMAT, "the backup lacks its member %.300s", path.ptr);
    }
    sl_buf_deinit(&path);
    if (status == SL_OK)
        *ret_name = s->list.items[s->next++].path;
    return status;
}

sl_status source_next(source *s, const char **ret_name, sl_err *err)
{
    return s->a ? next_entry(s, ret_name, err) : next_file(s, ret_name, err);
}

sl_status source_read(source *s, void *bytes, size_t cap, size_t *ret_len, sl_err *err)
{
    la_ssize_t n;

    if (s->a) {
        n = archive_read_data(s->a, bytes, cap);
        if (n < 0)
            return fail_archive(s, err);
    } else {
        n = read(s->fd, bytes, cap);
        if (n < 0)
            return sl_fail(err, SL_EIO, "the backup cannot be read: %s", strerror(errno));
    }
    *ret_len = (size_t)n;
    return SL_OK;
}
