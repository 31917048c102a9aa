/* account.c - rows of the accounts table: read, written, shown. */
#include "access/access_int.h"

#include <stdio.h>
#include <stdlib.h>

#define NUSD 1e9

const char *account_kind_name(llm_account_kind kind)
{
    static const char *const names[LLM_ACCOUNT_COUNT] = { "key", "user", "team" };

    return names[kind];
}

/* ---- reading ------------------------------------------------------------------------------- */

static const char *take_text(store_stmt *st, int col, sl_arena *arena, bool *ok)
{
    const char *text = store_text(st, col);
    char *copy = sl_arena_strndup(arena, text, strlen(text));

    *ok = *ok && copy;
    return copy ? copy : "";
}

static sl_span take_blob(store_stmt *st, int col, sl_arena *arena, bool *ok)
{
    sl_span bytes = store_bytes(st, col);
    void *copy = bytes.len ? sl_arena_alloc(arena, bytes.len) : NULL;

    if (bytes.len == 0)
        return (sl_span){ 0 };
    *ok = *ok && copy;
    if (copy)
        memcpy(copy, bytes.ptr, bytes.len);
    return sl_span_of(copy, copy ? bytes.len : 0);
}

bool account_read(store_stmt *st, sl_arena *arena, access_account *ret)
{
    bool ok = true;

    *ret = (access_account){
        .id = take_text(st, 0, arena, &ok),
        .kind = (llm_account_kind)store_int(st, 1),
        .name = take_text(st, 2, arena, &ok),
        .owner = take_text(st, 3, arena, &ok),
        .team = take_text(st, 4, arena, &ok),
        .role = take_text(st, 5, arena, &ok),
        .scopes = take_text(st, 6, arena, &ok),
        .models = take_text(st, 7, arena, &ok),
        .networks = take_text(st, 8, arena, &ok),
        .metadata = take_text(st, 9, arena, &ok),
        .limits = { .rpm = store_int(st, 10),
                    .rpd = store_int(st, 11),
                    .tpm = store_int(st, 12),
                    .tpd = store_int(st, 13),
                    .concurrency = store_int(st, 14),
                    .request_tokens = store_int(st, 15),
                    .budget_nusd = store_int(st, 16),
                    .budget_days = store_int(st, 17) },
        .created_s = store_int(st, 18),
        .expires_s = store_int(st, 19),
        .used_s = store_int(st, 20),
        .ended_s = store_int(st, 21),
        .disabled = store_int(st, 22) != 0,
        .prefix = take_text(st, 23, arena, &ok),
        .digest = take_blob(st, 24, arena, &ok),
        .old_digest = take_blob(st, 25, arena, &ok),
        .old_until_s = store_int(st, 26),
        .password = take_text(st, 27, arena, &ok),
        .owner_name = take_text(st, 28, arena, &ok),
    };
    return ok && ret->kind >= 0 && ret->kind < LLM_ACCOUNT_COUNT;
}

sl_status account_find(access_control *a, llm_account_kind kind, const char *name, sl_arena *arena,
                       access_account *ret, sl_err *err)
{
    store_stmt *st;
    bool row = false;
    sl_status status;

    SL_TRY(store_prepare(a->db,
                         ACCOUNT_SELECT
                         "WHERE kind = ?1 AND ((name = ?2 AND ended = 0) OR id = ?2) AND"
                         " (kind = 0 OR ended = 0) ORDER BY id = ?2 DESC LIMIT 1",
                         &st, err));
    store_bind_int(st, 1, kind);
    store_bind_str(st, 2, name);
    status = store_step(st, &row, err);
    if (status == SL_OK && !row)
        status =
            sl_fail(err, SL_ENOTFOUND, "There is no %s '%.100s'", account_kind_name(kind), name);
    if (status == SL_OK && !account_read(st, arena, ret))
        status = sl_fail(err, SL_ENOMEM, "Out of memory");
    store_finish(st);
    return status;
}

/* ---- writing ------------------------------------------------------------------------------- */

/* Binds all columns in the table's order. */
static sl_status write_row(access_control *a, const char *sql, const access_account *r, sl_err *err)
{
    const llm_limits *l = &r->limits;

    return db_run(a->db, err, sql,
                  "sissssssss"
                  "iiiiiiii"
                  "iiiii"
                  "sbbi"
                  "s",
                  r->id, (int64_t)r->kind, r->name, r->owner, r->team, r->role, r->scopes,
                  r->models, r->networks, r->metadata, l->rpm, l->rpd, l->tpm, l->tpd,
                  l->concurrency, l->request_tokens, l->budget_nusd, l->budget_days, r->created_s,
                  r->expires_s, r->used_s, r->ended_s, (int64_t)r->disabled, r->prefix, r->digest,
                  r->old_digest, r->old_until_s, r->password);
}

sl_status account_insert(access_control *a, const access_account *row, sl_err *err)
{
    sl_err inner = { 0 };
    sl_status status = write_row(a,
                                 "INSERT INTO accounts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,"
                                 " ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22,"
                                 " ?23, ?24, ?25, ?26, ?27, ?28)",
                                 row, &inner);

    if (status == SL_ECONFLICT)
        return sl_fail(err, status, "There is already a %s '%s'", account_kind_name(row->kind),
                       row->name);
    return status == SL_OK ? SL_OK : sl_fail(err, status, "%s", inner.text);
}

sl_status account_update(access_control *a, const access_account *row, sl_err *err)
{
    sl_err inner = { 0 };
    sl_status status = write_row(
        a,
        "UPDATE accounts SET kind = ?2, name = ?3, owner = ?4, team = ?5, role = ?6, scopes = ?7,"
        " models = ?8, networks = ?9, metadata = ?10, rpm = ?11, rpd = ?12, tpm = ?13, tpd = ?14,"
        " concurrency = ?15, request_tokens = ?16, budget_nusd = ?17, budget_days = ?18,"
        " created = ?19, expires = ?20, used = ?21, ended = ?22, disabled = ?23, prefix = ?24,"
        " digest = ?25, old_digest = ?26, old_until = ?27, password = ?28 WHERE id = ?1",
        row, &inner);

    if (status == SL_ECONFLICT)
        return sl_fail(err, status, "There is already a %s '%s'", account_kind_name(row->kind),
                       row->name);
    return status == SL_OK ? SL_OK : sl_fail(err, status, "%s", inner.text);
}

/* ---- showing ------------------------------------------------------------------------------- */

uint32_t account_permissions(const access_account *row)
{
    json_t *scopes = json_loads(row->scopes, 0, NULL), *v;
    uint32_t role = row->role[0] ? role_permissions(row->role) : ~0u, some = 0;
    bool all = json_array_size(scopes) == 0;
    size_t i;

    json_array_foreach(scopes, i, v) some |=
        json_is_string(v) ? llm_permission_of(json_string_value(v)) : 0;
    json_decref(scopes);
    if (all)
        return row->role[0] ? role : 0;
    return role & some;
}

static void put_time(json_t *out, const char *name, int64_t s)
{
    json_object_set_new(out, name, s > 0 ? json_integer(s) : json_null());
}

static void put_text(json_t *out, const char *name, const char *text)
{
    json_object_set_new(out, name, text[0] ? json_string(text) : json_null());
}

static void put_json(json_t *out, const char *name, const char *json)
{
    json_object_set_new(out, name, json_loads(json, 0, NULL));
}

static void put_limits(json_t *out, const llm_limits *l)
{
    json_t *limits = json_object();
    const struct {
        const char *name;
        int64_t v;
    } table[] = { { "rpm", l->rpm },
                  { "rpd", l->rpd },
                  { "tpm", l->tpm },
                  { "tpd", l->tpd },
                  { "concurrency", l->concurrency },
                  { "request_tokens", l->request_tokens } };

    for (size_t i = 0; i < SL_COUNT_OF(table); i++)
        json_object_set_new(limits, table[i].name,
                            table[i].v > 0 ? json_integer(table[i].v) : json_null());
    json_object_set_new(out, "limits", limits);
    json_object_set_new(out, "budget_usd",
                        l->budget_nusd > 0 ? json_real((double)l->budget_nusd / NUSD)
                                           : json_null());
    json_object_set_new(out, "budget_days",
                        l->budget_days > 0 ? json_integer(l->budget_days) : json_null());
}

static void put_permissions(json_t *out, uint32_t permissions)
{
    json_t *list = json_array();

    for (int i = 0; i < LLM_PERMISSION_COUNT; i++)
        if (permissions >> i & 1)
            json_array_append_new(list, json_string(llm_permission_name(i)));
    json_object_set_new(out, "permissions", list);
}

static const char *status_of(const access_account *r, int64_t now_s)
{
    if (r->ended_s > 0)
        return r->kind == LLM_ACCOUNT_KEY ? "revoked" : "removed";
    if (r->disabled)
        return "disabled";
    return r->expires_s > 0 && r->expires_s <= now_s ? "expired" : "active";
}

static void put_key(json_t *out, const access_account *r, int64_t now_s)
{
    put_text(out, "prefix", r->prefix);
    put_text(out, "user", r->owner_name);
    put_json(out, "scopes", r->scopes);
    put_json(out, "networks", r->networks);
    put_time(out, "expires_at", r->expires_s);
    put_time(out, "last_used_at", r->used_s);
    put_time(out, "revoked_at", r->ended_s);
    put_time(out, "old_key_until", r->old_until_s > now_s ? r->old_until_s : 0);
}

json_t *account_json(const access_account *r, int64_t now_s)
{
    json_t *out = json_object();

    if (!out)
        return NULL;
    json_object_set_new(out, "object", json_string(account_kind_name(r->kind)));
    json_object_set_new(out, "id", json_string(r->id));
    json_object_set_new(out, "name", json_string(r->name));
    json_object_set_new(out, "status", json_string(status_of(r, now_s)));
    if (r->kind != LLM_ACCOUNT_TEAM) {
        put_text(out, "team", r->team);
        put_text(out, "role", r->role);
        put_permissions(out, account_permissions(r));
    }
    if (r->kind == LLM_ACCOUNT_KEY)
        put_key(out, r, now_s);
    put_json(out, "models", r->models);
    put_limits(out, &r->limits);
    put_json(out, "metadata", r->metadata);
    put_time(out, "created_at", r->created_s);
    return out;
}
