/* accounts.c - what administrators do: create, list, change, revoke, rotate.
 *
 * Every change is one transaction: the row, the audit record and the raised generation. After the
 * commit the index is read anew before the answer is given, so that the change holds from then on.
 */
#include "access/spec.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

#define ROW_BYTES_MAX    (256 * SL_KIB)
#define OVERLAP_S_MAX    (90 * 24 * 3600)
#define NAME_PLACE_CHARS 6 /* of a key's random part that its prefix shows */

/* One change under way. */
typedef struct change {
    access_control *a;
    const llm_actor *who;
    sl_arena arena;
    access_account row;
    json_t *before; /* of the row, when there was one */
    int64_t now_s;
} change;

static void change_init(change *c, access_control *a, llm_account_kind kind, const llm_actor *who)
{
    *c = (change){ .a = a, .who = who, .now_s = access_now_s() };
    sl_arena_init(&c->arena, ROW_BYTES_MAX);
    c->row = (access_account){ .kind = kind,
                               .id = "",
                               .name = "",
                               .owner = "",
                               .owner_name = "",
                               .team = "",
                               .role = "",
                               .scopes = "[]",
                               .models = "[]",
                               .networks = "[]",
                               .metadata = "{}",
                               .created_s = c->now_s,
                               .prefix = "",
                               .password = "" };
}

static void change_deinit(change *c)
{
    json_decref(c->before);
    sl_arena_deinit(&c->arena);
}

static sl_status no_memory(sl_err *err)
{
    return sl_fail(err, SL_ENOMEM, "Out of memory");
}

/* Nobody gives, takes or changes rights that it does not have. */
static sl_status check_bound(const change *c, sl_err *err)
{
    uint32_t beyond;

    if (!c->who->caller || c->row.kind == LLM_ACCOUNT_TEAM)
        return SL_OK;
    beyond = account_permissions(&c->row) & ~c->who->caller->permissions &
             ((1u << LLM_PERMISSION_COUNT) - 1);
    if (!beyond)
        return SL_OK;
    return sl_fail(err, SL_EFORBIDDEN, "The %s has the permission '%s', which you lack",
                   account_kind_name(c->row.kind), llm_permission_name(__builtin_ctz(beyond)));
}

/* What differs, as {"field": {"from":..., "to":...}}. */
static json_t *difference(const json_t *before, const json_t *after)
{
    json_t *out = json_object(), *v;
    const char *name;

    json_object_foreach((json_t *)(uintptr_t)after, name, v)
    {
        json_t *old = json_object_get(before, name);

        if (!json_equal(old, v))
            json_object_set_new(out, name, json_pack("{s:O?, s:O}", "from", old, "to", v));
    }
    return out;
}

/* Takes the lock and begins; on failure nothing is held. */
static sl_status change_begin(change *c, sl_err *err)
{
    sl_status status;

    store_lock(c->a->db);
    status = store_begin(c->a->db, err);
    if (status != SL_OK)
        store_unlock(c->a->db);
    return status;
}

/* Ends what change_begin began: audit, commit and reload when status is SL_OK. */
static sl_status change_end(change *c, sl_status status, const char *action, const json_t *detail,
                            sl_err *err)
{
    store *db = c->a->db;

    if (status == SL_OK)
        status = audit_add(c->a, c->who, action, c->row.id, detail, err);
    if (status == SL_OK)
        status = db_note_change(db, err);
    if (status == SL_OK)
        status = store_commit(db, err);
    else
        store_rollback(db);
    if (status == SL_OK && !c->a->is_offline)
        status = index_reload(c->a, err);
    store_unlock(db);
    return status;
}

/* ---- parts of rows ------------------------------------------------------------------------- */

static sl_status keep_text(change *c, const char *text, const char **ret, sl_err *err)
{
    *ret = sl_arena_strndup(&c->arena, text, strlen(text));
    return *ret ? SL_OK : no_memory(err);
}

/* A new text for the key in row; its digest and prefix go to the row. */
static sl_status give_key(change *c, char ret_text[ACCESS_TOKEN_BYTES], sl_err *err)
{
    unsigned char *digest = sl_arena_alloc(&c->arena, ACCESS_DIGEST_BYTES);
    size_t shown = strlen(ACCESS_KEY_PREFIX) + NAME_PLACE_CHARS;
    char *prefix;

    secret_make_token(ACCESS_KEY_PREFIX, ret_text);
    prefix = sl_arena_strndup(&c->arena, ret_text, shown);
    if (!digest || !prefix)
        return no_memory(err);
    secret_hmac(c->a->secret.keys, ret_text, strlen(ret_text), digest);
    c->row.digest = sl_span_of(digest, ACCESS_DIGEST_BYTES);
    c->row.prefix = prefix;
    return SL_OK;
}

static sl_status give_id(change *c, sl_err *err)
{
    char prefix[8], id[ACCESS_ID_BYTES];

    snprintf(prefix, sizeof prefix, "%s_", account_kind_name(c->row.kind));
    sl_random_id(id, sizeof id, prefix, ACCESS_ID_RANDOM);
    return keep_text(c, id, &c->row.id, err);
}

static sl_status give_password(change *c, const char *password, sl_err *err)
{
    char *hash = NULL;
    sl_status status;

    SL_TRY(spec_check_password(password, err));
    SL_TRY(password_hash(password, &hash, err));
    status = keep_text(c, hash, &c->row.password, err);
    sl_free(hash);
    return status;
}

/* The owner of a key; it must be a user. */
static sl_status give_owner(change *c, const char *user, sl_err *err)
{
    access_account owner;

    if (!user)
        return SL_OK;
    c->row.owner = c->row.owner_name = "";
    if (!user[0])
        return SL_OK;
    SL_TRY(account_find(c->a, LLM_ACCOUNT_USER, user, &c->arena, &owner, err));
    c->row.owner = owner.id;
    c->row.owner_name = owner.name;
    return SL_OK;
}

/* A team that is named comes to be, without limits. Inside the transaction. */
static sl_status make_team(change *c, sl_err *err)
{
    int64_t there = 0;
    change t;
    sl_status status;

    if (!c->row.team[0])
        return SL_OK;
    SL_TRY(db_int(c->a->db, err, "SELECT 1 FROM accounts WHERE kind = 2 AND ended = 0 AND name = ?",
                  c->row.team, &there));
    if (there)
        return SL_OK;
    change_init(&t, c->a, LLM_ACCOUNT_TEAM, c->who);
    t.row.name = c->row.team;
    status = give_id(&t, err);
    if (status == SL_OK)
        status = account_insert(c->a, &t.row, err);
    if (status == SL_OK) {
        json_t *detail = account_json(&t.row, t.now_s);

        status = audit_add(c->a, c->who, "team.create", t.row.id, detail, err);
        json_decref(detail);
    }
    change_deinit(&t);
    return status;
}

static sl_status check_count(access_control *a, sl_err *err)
{
    int64_t count = 0;

    SL_TRY(db_int(a->db, err, "SELECT COUNT(*) FROM accounts WHERE ended = 0", NULL, &count));
    if (count >= SL_ACCESS_ACCOUNTS_MAX)
        return sl_fail(err, SL_ELIMIT, "There are %lld keys, users and teams already",
                       (long long)count);
    return SL_OK;
}

/* ---- create -------------------------------------------------------------------------------- */

static sl_status insert_row(change *c, const char *user, sl_err *err)
{
    SL_TRY(check_count(c->a, err));
    SL_TRY(give_owner(c, user, err));
    SL_TRY(make_team(c, err));
    SL_TRY(account_insert(c->a, &c->row, err));
    /* From now on callers must say who they are. */
    if (c->row.kind != LLM_ACCOUNT_TEAM)
        return store_exec(c->a->db, "UPDATE meta SET value = 1 WHERE name = 'closed'", err);
    return SL_OK;
}

static sl_status create_row(change *c, const llm_account_spec *spec, char *key, sl_err *err)
{
    const char *action[] = { "key.create", "user.create", "team.create" };
    json_t *shown;
    sl_status status;

    SL_TRY(spec_lay(spec, c->now_s, &c->arena, &c->row, err));
    SL_TRY(check_bound(c, err));
    SL_TRY(give_id(c, err));
    if (c->row.kind == LLM_ACCOUNT_KEY)
        SL_TRY(give_key(c, key, err));
    if (spec->password)
        SL_TRY(give_password(c, spec->password, err));
    SL_TRY(change_begin(c, err));
    status = insert_row(c, spec->user, err);
    shown = account_json(&c->row, c->now_s);
    status = change_end(c, status, action[c->row.kind], shown, err);
    json_decref(shown);
    return status;
}

/* The row as an answer, with the text of a key when there is a new one. */
static sl_status answer(const change *c, const char *key, json_t **ret, sl_err *err)
{
    json_t *out = account_json(&c->row, c->now_s);

    if (!out)
        return no_memory(err);
    if (key && key[0])
        json_object_set_new(out, "key", json_string(key));
    *ret = out;
    return SL_OK;
}

static sl_status op_create(void *ctx, llm_account_kind kind, const llm_account_spec *spec,
                           const llm_actor *who, json_t **ret, sl_err *err)
{
    char key[ACCESS_TOKEN_BYTES] = "";
    sl_status status;
    change c;

    change_init(&c, ctx, kind, who);
    status = create_row(&c, spec, key, err);
    if (status == SL_OK)
        status = answer(&c, key, ret, err);
    change_deinit(&c);
    return status;
}

/* ---- list and get -------------------------------------------------------------------------- */

static sl_status add_shown(store_stmt *st, json_t *list, int64_t now_s)
{
    sl_arena arena;
    access_account row;
    bool ok;

    sl_arena_init(&arena, ROW_BYTES_MAX);
    ok = account_read(st, &arena, &row) &&
         json_array_append_new(list, account_json(&row, now_s)) == 0;
    sl_arena_deinit(&arena);
    return ok ? SL_OK : SL_ENOMEM;
}

static sl_status op_list(void *ctx, llm_account_kind kind, json_t **ret, sl_err *err)
{
    access_control *a = ctx;
    json_t *list = json_array();
    store_stmt *st = NULL;
    bool row = true;
    sl_status status;

    store_lock(a->db);
    status = a->is_offline ? SL_OK : index_write_uses(a, err);
    if (status == SL_OK)
        status = store_prepare(a->db,
                               ACCOUNT_SELECT
                               "WHERE kind = ? AND (kind = 0 OR ended = 0) ORDER BY created, name",
                               &st, err);
    if (status == SL_OK)
        store_bind_int(st, 1, kind);
    while (status == SL_OK && (status = store_step(st, &row, err)) == SL_OK && row)
        if (add_shown(st, list, access_now_s()) != SL_OK)
            status = no_memory(err);
    store_finish(st);
    store_unlock(a->db);
    if (status == SL_OK)
        *ret = list;
    else
        json_decref(list);
    return status;
}

static sl_status op_get(void *ctx, llm_account_kind kind, const char *name, json_t **ret,
                        sl_err *err)
{
    access_control *a = ctx;
    const llm_actor nobody = { 0 };
    sl_status status;
    change c;

    change_init(&c, a, kind, &nobody);
    store_lock(a->db);
    status = a->is_offline ? SL_OK : index_write_uses(a, err);
    if (status == SL_OK)
        status = account_find(a, kind, name, &c.arena, &c.row, err);
    store_unlock(a->db);
    if (status == SL_OK)
        status = answer(&c, NULL, ret, err);
    change_deinit(&c);
    return status;
}

/* ---- update -------------------------------------------------------------------------------- */

/* Reads the row to change; the actor must have the rights it has now. */
static sl_status load_row(change *c, const char *name, sl_err *err)
{
    llm_account_kind kind = c->row.kind;

    SL_TRY(account_find(c->a, kind, name, &c->arena, &c->row, err));
    if (c->row.ended_s > 0)
        return sl_fail(err, SL_ECONFLICT, "The key '%.100s' was revoked", c->row.name);
    c->before = account_json(&c->row, c->now_s);
    return c->before ? check_bound(c, err) : no_memory(err);
}

static sl_status update_row(change *c, const char *name, const llm_account_spec *spec,
                            const char *password, sl_err *err)
{
    bool was_disabled;

    SL_TRY(load_row(c, name, err));
    was_disabled = c->row.disabled;
    SL_TRY(spec_lay(spec, c->now_s, &c->arena, &c->row, err));
    SL_TRY(check_bound(c, err));
    SL_TRY(give_owner(c, spec->user, err));
    SL_TRY(make_team(c, err));
    if (password)
        c->row.password = password;
    if (c->row.kind == LLM_ACCOUNT_USER && (password || (c->row.disabled && !was_disabled)))
        SL_TRY(session_end_all(c->a, c->row.id, err));
    return account_update(c->a, &c->row, err);
}

static sl_status op_update(void *ctx, llm_account_kind kind, const char *name,
                           const llm_account_spec *spec, const llm_actor *who, json_t **ret,
                           sl_err *err)
{
    static const char *const action[] = { "key.update", "user.update", "team.update" };
    json_t *after = NULL, *detail = NULL;
    const char *hash = NULL;
    sl_status status = SL_OK;
    change c;

    change_init(&c, ctx, kind, who);
    if (spec->password) { /* slow, so before the lock */
        status = give_password(&c, spec->password, err);
        hash = c.row.password;
    }
    if (status == SL_OK)
        status = change_begin(&c, err);
    if (status == SL_OK) {
        status = update_row(&c, name, spec, hash, err);
        after = account_json(&c.row, c.now_s);
        detail = difference(c.before, after);
        if (hash)
            json_object_set_new(detail, "password", json_string("changed"));
        status = change_end(&c, status, action[kind], detail, err);
    }
    if (status == SL_OK)
        status = answer(&c, NULL, ret, err);
    json_decref(after);
    json_decref(detail);
    change_deinit(&c);
    return status;
}

/* ---- remove -------------------------------------------------------------------------------- */

static sl_status check_empty(change *c, sl_err *err)
{
    int64_t members = 0;

    SL_TRY(db_int(c->a->db, err, "SELECT COUNT(*) FROM accounts WHERE ended = 0 AND team = ?",
                  c->row.name, &members));
    if (members > 0)
        return sl_fail(err, SL_ECONFLICT, "The team '%.100s' still has %lld keys and users",
                       c->row.name, (long long)members);
    return SL_OK;
}

static sl_status end_row(change *c, const char *name, sl_err *err)
{
    SL_TRY(load_row(c, name, err));
    c->row.ended_s = c->now_s;
    if (c->row.kind == LLM_ACCOUNT_TEAM)
        SL_TRY(check_empty(c, err));
    if (c->row.kind == LLM_ACCOUNT_USER) {
        SL_TRY(session_end_all(c->a, c->row.id, err));
        SL_TRY(db_run(c->a->db, err, "UPDATE accounts SET ended = ? WHERE ended = 0 AND owner = ?",
                      "is", c->now_s, c->row.id));
    }
    return account_update(c->a, &c->row, err);
}

static sl_status op_remove(void *ctx, llm_account_kind kind, const char *name, const llm_actor *who,
                           json_t **ret, sl_err *err)
{
    static const char *const action[] = { "key.revoke", "user.remove", "team.remove" };
    sl_status status;
    change c;

    change_init(&c, ctx, kind, who);
    status = change_begin(&c, err);
    if (status == SL_OK) {
        json_t *detail;

        status = end_row(&c, name, err);
        detail = json_pack("{s:s}", "name", c.row.name);
        status = change_end(&c, status, action[kind], detail, err);
        json_decref(detail);
    }
    if (status == SL_OK)
        status = answer(&c, NULL, ret, err);
    change_deinit(&c);
    return status;
}

/* ---- rotate -------------------------------------------------------------------------------- */

static sl_status rotate_row(change *c, const char *name, int64_t overlap_s, char *key, sl_err *err)
{
    SL_TRY(load_row(c, name, err));
    c->row.old_digest = overlap_s > 0 ? c->row.digest : (sl_span){ 0 };
    c->row.old_until_s = overlap_s > 0 ? c->now_s + overlap_s : 0;
    SL_TRY(give_key(c, key, err));
    return account_update(c->a, &c->row, err);
}

static sl_status op_rotate(void *ctx, const char *name, int64_t overlap_s, const llm_actor *who,
                           json_t **ret, sl_err *err)
{
    char key[ACCESS_TOKEN_BYTES] = "";
    sl_status status;
    change c;

    if (overlap_s < 0 || overlap_s > OVERLAP_S_MAX)
        return sl_fail(err, SL_EINVAL, "Invalid 'overlap': 0 seconds to 90 days");
    change_init(&c, ctx, LLM_ACCOUNT_KEY, who);
    status = change_begin(&c, err);
    if (status == SL_OK) {
        json_t *detail;

        status = rotate_row(&c, name, overlap_s, key, err);
        detail = json_pack("{s:s, s:s, s:I}", "name", c.row.name, "prefix", c.row.prefix,
                           "overlap_seconds", (json_int_t)overlap_s);
        status = change_end(&c, status, "key.rotate", detail, err);
        json_decref(detail);
    }
    if (status == SL_OK)
        status = answer(&c, key, ret, err);
    change_deinit(&c);
    return status;
}

const llm_accounts_ops access_accounts_ops = {
    .create = op_create,
    .list = op_list,
    .get = op_get,
    .update = op_update,
    .remove = op_remove,
    .rotate = op_rotate,
    .audit_list = audit_list,
    .audit_verify = audit_verify,
    .login = session_login,
    .refresh = session_refresh,
    .logout = session_logout,
};
