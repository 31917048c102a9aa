/* copy.c - a database's file as a whole: copied while others write, and checked. */
#include <stdio.h>

#include "base/mem.h"
#include "store/store_int.h"

#define COPY_BUSY_MS 30000

static bool is_busy(int rc)
{
    return (rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_LOCKED;
}

/* All pages in one step: one state of the source, for which writers need not wait. */
static int copy_pages(sqlite3 *to, sqlite3 *from)
{
    sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");
    int rc = SQLITE_OK;

    if (!b)
        return sqlite3_errcode(to);
    for (int waited = 0; waited < COPY_BUSY_MS; waited += 100) {
        rc = sqlite3_backup_step(b, -1);
        if (!is_busy(rc))
            break;
        sqlite3_sleep(100);
    }
    if (rc == SQLITE_DONE)
        rc = SQLITE_OK;
    return sqlite3_backup_finish(b) == SQLITE_OK || rc != SQLITE_OK ? rc : SQLITE_IOERR;
}

sl_status store_copy(const char *path, const char *to, sl_err *err)
{
    store from = { .path = (char *)(uintptr_t)path }, copy = { .path = (char *)(uintptr_t)to };
    sl_status status = SL_OK;
    int rc = sqlite3_open_v2(path, &from.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);

    if (rc != SQLITE_OK)
        status = store_fail(&from, rc, err);
    if (status == SL_OK) {
        sqlite3_busy_timeout(from.db, COPY_BUSY_MS);
        rc = sqlite3_open_v2(
            to, &copy.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
        if (rc != SQLITE_OK)
            status = store_fail(&copy, rc, err);
    }
    if (status == SL_OK && (rc = copy_pages(copy.db, from.db)) != SQLITE_OK)
        status = store_fail(&copy, rc, err);
    /* One file, without companions. */
    if (status == SL_OK)
        status = store_exec(&copy, "PRAGMA journal_mode = DELETE", err);
    sqlite3_close(copy.db);
    sqlite3_close(from.db);
    return status;
}

/* The first row's first column. */
static sl_status ask(store *s, const char *sql, char *ret, size_t cap, sl_err *err)
{
    store_stmt *st = NULL;
    bool row = false;
    sl_status status = store_prepare(s, sql, &st, err);

    if (status == SL_OK)
        status = store_step(st, &row, err);
    if (status == SL_OK)
        snprintf(ret, cap, "%s", row ? store_text(st, 0) : "no answer");
    store_finish(st);
    return status;
}

sl_status store_check(const char *path, sl_err *err)
{
    store s = { .path = (char *)(uintptr_t)path };
    char pages[32] = "", text[200] = "";
    sl_status status = SL_OK;
    int rc = sqlite3_open_v2(path, &s.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);

    if (rc != SQLITE_OK)
        status = store_fail(&s, rc, err);
    if (status == SL_OK)
        status = ask(&s, "PRAGMA page_count", pages, sizeof pages, err);
    if (status == SL_OK)
        status = ask(&s, "PRAGMA integrity_check(1)", text, sizeof text, err);
    /* SQLite takes a few bytes of anything for a database that is still empty. */
    if (status == SL_OK && (strcmp(pages, "0") == 0 || strcmp(text, "ok") != 0))
        status = sl_fail(err, SL_EFORMAT, "database %s is damaged: %s", path,
                         strcmp(text, "ok") == 0 ? "it has no pages" : text);
    sqlite3_close(s.db);
    return status;
}
