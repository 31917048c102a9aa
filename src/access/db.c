/* db.c - access.db: accounts, sessions, audit. Its own file beside sluice.db, so that a copy of the
 * documents holds no password hash. */
#include "access/access_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

/* tidy: long: the schema is one text */
static const char *const migrations[] = {
    "CREATE TABLE accounts ("
    "  id TEXT PRIMARY KEY, kind INTEGER NOT NULL, name TEXT NOT NULL,"
    "  owner TEXT NOT NULL, team TEXT NOT NULL, role TEXT NOT NULL,"
    "  scopes TEXT NOT NULL, models TEXT NOT NULL, networks TEXT NOT NULL, metadata TEXT NOT NULL,"
    "  rpm INTEGER NOT NULL, rpd INTEGER NOT NULL, tpm INTEGER NOT NULL, tpd INTEGER NOT NULL,"
    "  concurrency INTEGER NOT NULL, request_tokens INTEGER NOT NULL,"
    "  budget_nusd INTEGER NOT NULL, budget_days INTEGER NOT NULL,"
    "  created INTEGER NOT NULL, expires INTEGER NOT NULL, used INTEGER NOT NULL,"
    "  ended INTEGER NOT NULL, disabled INTEGER NOT NULL,"
    "  prefix TEXT NOT NULL, digest BLOB, old_digest BLOB, old_until INTEGER NOT NULL,"
    "  password TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE UNIQUE INDEX account_names ON accounts (kind, name) WHERE ended = 0;"
    "CREATE UNIQUE INDEX account_digests ON accounts (digest) WHERE digest IS NOT NULL;"
    "CREATE TABLE sessions ("
    "  id TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES accounts(id),"
    "  created INTEGER NOT NULL, expires INTEGER NOT NULL, ended INTEGER NOT NULL DEFAULT 0,"
    "  address TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX session_users ON sessions (user);"
    "CREATE INDEX session_ends ON sessions (ended);"
    "CREATE TABLE refresh_tokens ("
    "  digest BLOB PRIMARY KEY, session TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,"
    "  issued INTEGER NOT NULL, used INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;"
    "CREATE INDEX refresh_sessions ON refresh_tokens (session);"
    "CREATE TABLE audit ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, actor TEXT NOT NULL,"
    "  address TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL, detail TEXT NOT NULL,"
    "  hash BLOB NOT NULL);"
    "CREATE TRIGGER audit_kept BEFORE UPDATE ON audit BEGIN"
    "  SELECT RAISE(ABORT, 'the audit log is append-only'); END;"
    "CREATE TRIGGER audit_whole BEFORE DELETE ON audit BEGIN"
    "  SELECT RAISE(ABORT, 'the audit log is append-only'); END;"
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "INSERT INTO meta VALUES ('generation', 1), ('closed', 0);",
};

sl_status db_open(const char *dir, store **ret, sl_err *err)
{
    sl_buf path;
    sl_status status;
    int fd;

    SL_TRY(sl_mkdirs(dir, err));
    sl_buf_init(&path, 8192);
    sl_buf_printf(&path, "%s/access.db", dir);
    status = sl_buf_ok(&path, "path of access.db", err);
    if (status == SL_OK) {
        /* SQLite gives its other files the mode of this one. */
        fd = open(path.ptr, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
            status = sl_fail(err, SL_EIO, "cannot open %s: %s", path.ptr, strerror(errno));
        else
            close(fd);
    }
    if (status == SL_OK)
        status = store_open(path.ptr, migrations, SL_COUNT_OF(migrations), ret, err);
    sl_buf_deinit(&path);
    return status;
}

sl_status db_run(store *s, sl_err *err, const char *sql, const char *types, ...)
{
    store_stmt *st;
    sl_status status;
    va_list ap;

    SL_TRY(store_prepare(s, sql, &st, err));
    va_start(ap, types);
    for (int i = 0; types[i]; i++) {
        if (types[i] == 'i') {
            store_bind_int(st, i + 1, va_arg(ap, int64_t));
        } else if (types[i] == 's') {
            store_bind_str(st, i + 1, va_arg(ap, const char *));
        } else {
            sl_span bytes = va_arg(ap, sl_span);

            store_bind_blob(st, i + 1, bytes.ptr, bytes.len);
        }
    }
    va_end(ap);
    status = store_run(st, err);
    store_finish(st);
    return status;
}

sl_status db_int(store *s, sl_err *err, const char *sql, const char *arg, int64_t *ret)
{
    store_stmt *st;
    bool row = false;
    sl_status status;

    SL_TRY(store_prepare(s, sql, &st, err));
    if (arg)
        store_bind_str(st, 1, arg);
    status = store_step(st, &row, err);
    if (status == SL_OK && row)
        *ret = store_int(st, 0);
    store_finish(st);
    return status;
}

sl_status db_note_change(store *s, sl_err *err)
{
    return store_exec(s, "UPDATE meta SET value = value + 1 WHERE name = 'generation'", err);
}
