/* db.c - the schema, and the few forms that questions to the database have. */
#include "jobs/jobs_int.h"

#include <stdio.h>

/* seq gives the order of creation; times are seconds since 1970, 0: none. A line's row is there
 * once it has ended. */
static const char *const migrations[] = {
    "CREATE TABLE file (seq INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL,"
    " id TEXT NOT NULL UNIQUE, purpose TEXT NOT NULL, filename TEXT NOT NULL,"
    " bytes INTEGER NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL);"
    "CREATE INDEX file_owner ON file (owner, seq);"
    "CREATE TABLE upload (seq INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL,"
    " id TEXT NOT NULL UNIQUE, purpose TEXT NOT NULL, filename TEXT NOT NULL,"
    " bytes INTEGER NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,"
    " keep INTEGER NOT NULL, status TEXT NOT NULL, file TEXT NOT NULL DEFAULT '');"
    "CREATE TABLE part (seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    " upload INTEGER NOT NULL REFERENCES upload(seq) ON DELETE CASCADE,"
    " id TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL);"
    "CREATE INDEX part_upload ON part (upload);"
    "CREATE TABLE batch (seq INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL,"
    " id TEXT NOT NULL UNIQUE, caller TEXT NOT NULL, endpoint TEXT NOT NULL, input TEXT NOT NULL,"
    " window TEXT NOT NULL, metadata TEXT NOT NULL, keep INTEGER NOT NULL, status TEXT NOT NULL,"
    " model TEXT NOT NULL DEFAULT '', errors TEXT NOT NULL DEFAULT '',"
    " output TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '',"
    " created INTEGER NOT NULL, expires INTEGER NOT NULL, started INTEGER NOT NULL DEFAULT 0,"
    " finalizing INTEGER NOT NULL DEFAULT 0, completed INTEGER NOT NULL DEFAULT 0,"
    " failed INTEGER NOT NULL DEFAULT 0, expired INTEGER NOT NULL DEFAULT 0,"
    " cancelling INTEGER NOT NULL DEFAULT 0, cancelled INTEGER NOT NULL DEFAULT 0,"
    " total INTEGER NOT NULL DEFAULT 0, good INTEGER NOT NULL DEFAULT 0,"
    " bad INTEGER NOT NULL DEFAULT 0, prompt_tokens INTEGER NOT NULL DEFAULT 0,"
    " cached_tokens INTEGER NOT NULL DEFAULT 0, output_tokens INTEGER NOT NULL DEFAULT 0);"
    "CREATE INDEX batch_owner ON batch (owner, seq);"
    "CREATE INDEX batch_status ON batch (status);"
    "CREATE TABLE line (id INTEGER PRIMARY KEY, batch INTEGER NOT NULL, number INTEGER NOT NULL,"
    " bad INTEGER NOT NULL, text BLOB NOT NULL, UNIQUE (batch, number));",
};

sl_status jobs_db_open(jobs *j, sl_err *err)
{
    char path[PATH_BYTES + 32];

    snprintf(path, sizeof path, "%s/files.db", j->o.dir);
    return store_open(path, migrations, SL_COUNT_OF(migrations), &j->db, err);
}

/* ---- owners --------------------------------------------------------------------------------- */

sl_status owner_of(const llm_caller *who, char ret[OWNER_BYTES], sl_err *err)
{
    const char *kind = "", *name = "";
    int len;

    if (who && who->team && who->team[0]) {
        kind = "team:";
        name = who->team;
    } else if (who && who->user && who->user[0]) {
        kind = "user:";
        name = who->user;
    } else if (who) {
        kind = "key:";
        name = who->id;
    }
    len = snprintf(ret, OWNER_BYTES, "%s%s", kind, name);
    if (len >= OWNER_BYTES)
        return sl_fail(err, SL_EINVAL, "The name of the key's owner is too long to keep files");
    return SL_OK;
}

bool owner_seen_by(const char *owner, const llm_caller *who)
{
    char own[OWNER_BYTES];

    return llm_caller_may(who, LLM_MAY_ADMIN) ||
           (owner_of(who, own, NULL) == SL_OK && strcmp(own, owner) == 0);
}

/* ---- lists ---------------------------------------------------------------------------------- */

/* The place of the id that a page begins after; 0: from the beginning. */
static sl_status find_after(jobs *j, const llm_caller *who, const llm_page *page, const char *table,
                            int64_t *ret, sl_err *err)
{
    char sql[96];
    store_stmt *st;

    *ret = 0;
    if (!page->after)
        return SL_OK;
    snprintf(sql, sizeof sql, "SELECT seq, owner FROM %s WHERE id = ?", table);
    SL_TRY(store_first_with(j->db, &st, err, sql, "s", page->after));
    if (st && owner_seen_by(store_text(st, 1), who))
        *ret = store_int(st, 0);
    store_finish(st);
    return *ret ? SL_OK
                : sl_fail(err, SL_EINVAL, "Invalid 'after': there is no '%.60s'", page->after);
}

static sl_status read_rows(store_stmt *st, int limit, jobs_db_row_fn row, json_t *data,
                           bool *ret_more, sl_err *err)
{
    bool has_row = false;

    *ret_more = false;
    for (;;) {
        SL_TRY(store_step(st, &has_row, err));
        if (!has_row)
            return SL_OK;
        if ((int)json_array_size(data) == limit) {
            *ret_more = true;
            return SL_OK;
        }
        if (json_array_append_new(data, row(st)) != 0)
            return sl_fail(err, SL_ENOMEM, "out of memory for the list");
    }
}

static json_t *list_json(json_t *data, bool has_more)
{
    size_t count = json_array_size(data);
    json_t *first = json_object_get(json_array_get(data, 0), "id");
    json_t *last = json_object_get(json_array_get(data, count ? count - 1 : 0), "id");

    return json_pack("{s:s,s:O,s:O?,s:O?,s:b}", "object", "list", "data", data, "first_id", first,
                     "last_id", last, "has_more", has_more);
}

sl_status jobs_db_list(jobs *j, const llm_caller *who, const llm_page *page, const char *table,
                       const char *columns, jobs_db_row_fn row, json_t **ret, sl_err *err)
{
    bool is_file = strcmp(table, "file") == 0, has_more = false;
    char own[OWNER_BYTES], sql[700];
    bool all = page->everybody && llm_caller_may(who, LLM_MAY_ADMIN);
    json_t *data = json_array();
    store_stmt *st = NULL;
    int64_t after = 0;
    sl_status status = owner_of(who, own, err);

    /* Of the caller's text, only parameters reach the SQL. */
    snprintf(sql, sizeof sql,
             "SELECT %s FROM %s WHERE (?1 OR owner = ?2) AND (?3 = 0 OR seq %c ?3)"
             " AND (?4 = '' OR %s = ?4) AND (%s) ORDER BY seq %s LIMIT ?6",
             columns, table, page->ascending ? '>' : '<', is_file ? "purpose" : "id",
             is_file ? "expires = 0 OR expires > ?5" : "?5", page->ascending ? "ASC" : "DESC");
    store_lock(j->db);
    if (status == SL_OK)
        status = find_after(j, who, page, table, &after, err);
    if (status == SL_OK)
        status = store_prepare_with(j->db, &st, err, sql, "isisii", (int64_t)all, own, after,
                                    page->purpose ? page->purpose : "", jobs_now_s(j),
                                    (int64_t)page->limit + 1);
    if (status == SL_OK)
        status = read_rows(st, page->limit, row, data, &has_more, err);
    store_finish(st);
    store_unlock(j->db);
    if (status == SL_OK && !(*ret = list_json(data, has_more)))
        status = sl_fail(err, SL_ENOMEM, "out of memory for the list");
    json_decref(data);
    return status;
}
