/* write.c - takes a backup beside running servers.
 *
 * The order makes it whole without stopping anybody:
 *
 * 1. Files first, among them the ledger's journals. A record that was acknowledged is in the
 * journal, or has gone from it into the database, which is copied later. It may be in both: a
 * server that reads a journal again doubles nothing.
 * 2. Databases, each as one state.
 * 3. Files that came meanwhile: what a row of a database names was on the disk before the row was,
 *    and either is found now or was copied in the first round. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "backup/backup_int.h"
#include "base/hold.h"
#include "base/os.h"
#include "store/store.h"

#define CONFIG_BYTES_MAX (16 * SL_MIB)

typedef struct writer {
    const backup_options *o;
    sink *sink;
    char scratch[4096]; /* a directory for copies of databases; "" before it is made */
    members done;
    backup_report *report;
} writer;

static sl_status look_for_cancel(const atomic_bool *cancelled, sl_err *err)
{
    return cancelled && atomic_load(cancelled) ? sl_fail(err, SL_ECANCELLED, "interrupted") : SL_OK;
}

static void note(writer *w, const member *m)
{
    w->report->members++;
    w->report->bytes += m->bytes;
    w->report->databases += m->kind == MEMBER_DATABASE;
}

/* A file that has gone since it was seen is left out. */
static sl_status put_path(writer *w, const member *m, const char *path, sl_err *err)
{
    member *copy;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    sl_status status;

    if (fd < 0 && errno == ENOENT)
        return SL_OK;
    if (fd < 0)
        return sl_fail(err, SL_EIO, "cannot open %.300s: %s", path, strerror(errno));
    status = members_add(&w->done, m->path, m->kind, NULL, &copy, err);
    if (status == SL_OK)
        status = sink_put_file(w->sink, copy, fd, err);
    close(fd);
    if (status == SL_OK)
        note(w, copy);
    return status;
}

static sl_status put_database(writer *w, const member *m, const char *path, sl_err *err)
{
    sl_buf copy;
    sl_status status;

    sl_buf_init(&copy, 8192);
    sl_buf_printf(&copy, "%s/copy.db", w->scratch);
    status = sl_buf_ok(&copy, "path", err);
    if (status == SL_OK)
        status = store_copy(path, copy.ptr, err);
    if (status == SL_OK)
        status = store_check(copy.ptr, err);
    if (status != SL_OK)
        status = sl_err_prefix(err, status, "%.300s cannot be backed up", path);
    if (status == SL_OK)
        status = put_path(w, m, copy.ptr, err);
    (void)unlink(sl_buf_str(&copy));
    sl_buf_deinit(&copy);
    return status;
}

static sl_status put_member(writer *w, const member *m, sl_err *err)
{
    sl_buf path;
    sl_status status;

    SL_TRY(look_for_cancel(w->o->cancelled, err));
    if (m->kind == MEMBER_LINK)
        return members_add(&w->done, m->path, MEMBER_LINK, m->blob, NULL, err);
    sl_buf_init(&path, 16384);
    sl_buf_printf(&path, "%s/%s", w->o->data, m->path + strlen(BACKUP_DATA));
    status = sl_buf_ok(&path, "path", err);
    if (status == SL_OK)
        status = m->kind == MEMBER_DATABASE ? put_database(w, m, path.ptr, err)
                                            : put_path(w, m, path.ptr, err);
    sl_buf_deinit(&path);
    return status;
}

/* Members of the plan of one sort that were not seen before. */
static sl_status put_all(writer *w, const members *plan, const members *before, bool databases,
                         sl_err *err)
{
    for (size_t i = 0; i < plan->count; i++) {
        const member *m = &plan->items[i];

        if ((m->kind == MEMBER_DATABASE) != databases || (before && members_find(before, m->path)))
            continue;
        SL_TRY(put_member(w, m, err));
    }
    return SL_OK;
}

static sl_status put_data(writer *w, sl_err *err)
{
    members first = { 0 }, second = { 0 };
    sl_status status = plan_make(w->o->data, w->o->with_models, &first, err);

    if (status == SL_OK)
        status = put_all(w, &first, NULL, false, err);
    if (status == SL_OK)
        status = put_all(w, &first, NULL, true, err);
    if (status == SL_OK)
        status = plan_make(w->o->data, w->o->with_models, &second, err);
    if (status == SL_OK)
        status = put_all(w, &second, &first, true, err);
    if (status == SL_OK)
        status = put_all(w, &second, &first, false, err);
    members_free(&first);
    members_free(&second);
    return status;
}

static sl_status put_config(writer *w, sl_err *err)
{
    member *m;
    sl_buf text;
    sl_status status;

    sl_buf_init(&text, CONFIG_BYTES_MAX);
    status = sl_file_read(w->o->config, CONFIG_BYTES_MAX, &text, err);
    if (status == SL_OK)
        status = members_add(&w->done, BACKUP_CONFIG, MEMBER_FILE, NULL, &m, err);
    if (status == SL_OK)
        status = sink_put_bytes(w->sink, m, sl_span_of(text.ptr, text.len), err);
    if (status == SL_OK)
        note(w, m);
    sl_buf_deinit(&text);
    return status;
}

static sl_status put_manifest(writer *w, sl_err *err)
{
    member m = { .path = (char *)(uintptr_t)BACKUP_MANIFEST };
    sl_buf text;
    sl_status status;

    sl_buf_init(&text, SL_BACKUP_MANIFEST_BYTES_MAX);
    status = manifest_write(&w->done, w->report->created, &text, err);
    if (status == SL_OK)
        status = sink_put_bytes(w->sink, &m, sl_span_of(text.ptr, text.len), err);
    sl_buf_deinit(&text);
    return status;
}

static sl_status make_scratch(writer *w, sl_err *err)
{
    bool beside = strcmp(w->o->to, "-") != 0;
    char path[sizeof w->scratch];
    size_t len = strlen(w->o->to);

    while (len > 1 && w->o->to[len - 1] == '/')
        len--;
    if ((size_t)snprintf(path, sizeof path, beside ? "%.*s.scratch-XXXXXX" : "%.*s/.backup-XXXXXX",
                         beside ? (int)len : (int)strlen(w->o->data),
                         beside ? w->o->to : w->o->data) >= sizeof path)
        return sl_fail(err, SL_EINVAL, "the backup's name is too long");
    if (!mkdtemp(path))
        return sl_fail(err, SL_EIO, "cannot create %.300s: %s", path, strerror(errno));
    memcpy(w->scratch, path, sizeof path);
    return SL_OK;
}

static void stamp(char ret[32])
{
    time_t now = time(NULL);
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

sl_status backup_write(const backup_options *o, backup_report *ret, sl_err *err)
{
    backup_report report = { 0 };
    writer w = { .o = o, .report = &report };
    sl_status status;
    int hold = -1;

    if (!sl_file_exists(o->data))
        return sl_fail(err, SL_ENOTFOUND, "there is no data directory %.300s", o->data);
    SL_TRY(sl_dir_hold(o->data, false, &hold, err));
    stamp(report.created);
    status = sink_open(o->to, &w.sink, err);
    if (status == SL_OK)
        status = make_scratch(&w, err);
    if (status == SL_OK)
        status = put_data(&w, err);
    if (status == SL_OK && o->config)
        status = put_config(&w, err);
    if (status == SL_OK)
        status = put_manifest(&w, err);
    if (status == SL_OK)
        status = sink_finish(w.sink, err);
    sink_close(w.sink);
    if (w.scratch[0])
        tree_remove(w.scratch);
    members_free(&w.done);
    close(hold);
    if (status == SL_OK)
        *ret = report;
    return status;
}
