/* admin.c - /admin: keys, users, teams and the audit log; /auth: users sign in and out.
 *
 * All of it blocks in the access room, so it runs on pools: logins, whose password hashes are slow
 * on purpose, on one of their own, so that a storm of them delays nobody but themselves. */
#include "api/admin.h"

#include <stdlib.h>

#include "api/api_int.h"
#include "api/fields.h"

#define ARENA_MAX     (256 * SL_KIB)
#define BODY_MAX      (64 * SL_KIB)
#define NOT_HERE      "This server keeps no keys and users"
#define AUDIT_DEFAULT 100

/* ---- answers ------------------------------------------------------------------------------- */

/* Answers with the object, which it releases. */
static void answer_json(http_exchange *x, json_t *object)
{
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;

    http_set_header(x, "Cache-Control", "no-store");
    if (text)
        http_respond(x, 200, "application/json", text, strlen(text));
    else
        http_respond_error(x, 503, "server_error", NULL, NULL, "Out of memory");
    free(text);
    json_decref(object);
}

/* With what was made, or with why not. */
static void answer(api *a, http_exchange *x, sl_status status, json_t *object, sl_err *err)
{
    if (status == SL_OK) {
        answer_json(x, object);
        return;
    }
    err->status = status;
    api_respond_status(a, x, err);
}

static json_t *list_of(json_t *data)
{
    return json_pack("{s:s, s:o}", "object", "list", "data", data);
}

/* ---- bodies -------------------------------------------------------------------------------- */

typedef struct visit_body {
    json_t *root;
    sl_arena arena;
    admin_call call;
} visit_body;

static void body_close(visit_body *b)
{
    json_decref(b->root);
    sl_arena_deinit(&b->arena);
}

/* Only JSON that says it is: a browser asks first before it sends that to another site, so no page
 * can make keys on a server that trusts its own machine. */
static sl_status check_type(const http_exchange *x, openai_error *err)
{
    const char *type = http_header(x, "content-type");
    static const char json[] = "application/json";

    if (type && strncasecmp(type, json, sizeof json - 1) == 0 &&
        (type[sizeof json - 1] == '\0' || strchr("; \t", type[sizeof json - 1])))
        return SL_OK;
    return openai_refuse(err, NULL, "unsupported_media_type",
                         "Send the body as Content-Type: application/json");
}

/* Reads the body; on failure it is answered. An absent one is {} when none is required. */
static bool body_open(api *a, http_exchange *x, const body_schema *schema, visit_body *ret)
{
    sl_span body = http_body(x);
    openai_error e = { 0 };
    sl_status status;

    *ret = (visit_body){ 0 };
    sl_arena_init(&ret->arena, ARENA_MAX);
    status = check_type(x, &e);
    if (status == SL_OK && body.len > BODY_MAX)
        status = openai_refuse(&e, NULL, "invalid_value", "The body is larger than 64 KiB");
    if (status == SL_OK)
        status = parse_object(body.len ? (const char *)body.ptr : "{}", body.len ? body.len : 2,
                              &ret->root, &e);
    if (status == SL_OK)
        status = admin_read(schema, ret->root, &ret->arena, &ret->call, &e);
    if (status == SL_OK)
        return true;
    body_close(ret);
    api_respond_error(a, x, &e);
    return false;
}

static llm_actor actor_of(const http_exchange *x)
{
    const llm_caller *c = api_caller(x);

    return (llm_actor){ .caller = c, .name = c ? c->id : "anonymous", .address = http_remote(x) };
}

/* ---- accounts ------------------------------------------------------------------------------ */

static void create(api *a, http_exchange *x, llm_account_kind kind, const body_schema *schema)
{
    const llm_accounts *acc = &a->options.accounts;
    const llm_actor who = actor_of(x);
    json_t *out = NULL;
    visit_body b;
    sl_err err = { 0 };
    sl_status status;

    if (!body_open(a, x, schema, &b))
        return;
    status = acc->ops->create(acc->ctx, kind, &b.call.spec, &who, &out, &err);
    answer(a, x, status, out, &err);
    body_close(&b);
}

static void list(api *a, http_exchange *x, llm_account_kind kind)
{
    const llm_accounts *acc = &a->options.accounts;
    json_t *out = NULL;
    sl_err err = { 0 };
    sl_status status = acc->ops->list(acc->ctx, kind, &out, &err);

    answer(a, x, status, status == SL_OK ? list_of(out) : NULL, &err);
}

static void get(api *a, http_exchange *x, llm_account_kind kind)
{
    const llm_accounts *acc = &a->options.accounts;
    json_t *out = NULL;
    sl_err err = { 0 };
    sl_status status = acc->ops->get(acc->ctx, kind, http_param(x, "name"), &out, &err);

    answer(a, x, status, out, &err);
}

static void update(api *a, http_exchange *x, llm_account_kind kind, const body_schema *schema)
{
    const llm_accounts *acc = &a->options.accounts;
    const llm_actor who = actor_of(x);
    json_t *out = NULL;
    visit_body b;
    sl_err err = { 0 };
    sl_status status;

    if (!body_open(a, x, schema, &b))
        return;
    status =
        acc->ops->update(acc->ctx, kind, http_param(x, "name"), &b.call.spec, &who, &out, &err);
    answer(a, x, status, out, &err);
    body_close(&b);
}

static void remove_account(api *a, http_exchange *x, llm_account_kind kind)
{
    const llm_accounts *acc = &a->options.accounts;
    const llm_actor who = actor_of(x);
    json_t *out = NULL;
    sl_err err = { 0 };
    sl_status status = acc->ops->remove(acc->ctx, kind, http_param(x, "name"), &who, &out, &err);

    answer(a, x, status, out, &err);
}

static void run_rotate(api *a, http_exchange *x)
{
    const llm_accounts *acc = &a->options.accounts;
    const llm_actor who = actor_of(x);
    json_t *out = NULL;
    visit_body b;
    sl_err err = { 0 };
    sl_status status;

    if (!body_open(a, x, &admin_key_rotate, &b))
        return;
    status =
        acc->ops->rotate(acc->ctx, http_param(x, "name"), b.call.overlap_seconds, &who, &out, &err);
    answer(a, x, status, out, &err);
    body_close(&b);
}

/* ---- audit --------------------------------------------------------------------------------- */

/* A number of the query; false (answered) when it is none. */
static bool query_int(api *a, http_exchange *x, const char *name, int64_t *ret)
{
    const char *text = http_query(x, name);
    openai_error e = { 0 };

    if (!text)
        return true;
    if (text[0] && strlen(text) < 18 && text[strspn(text, "0123456789")] == '\0') {
        *ret = strtoll(text, NULL, 10);
        return true;
    }
    (void)openai_refuse(&e, name, "invalid_value", "Invalid '%s': expected a number", name);
    api_respond_error(a, x, &e);
    return false;
}

static void run_audit(api *a, http_exchange *x)
{
    const llm_accounts *acc = &a->options.accounts;
    int64_t after = 0, limit = AUDIT_DEFAULT;
    json_t *out = NULL;
    sl_err err = { 0 };
    sl_status status;

    if (!query_int(a, x, "after", &after) || !query_int(a, x, "limit", &limit))
        return;
    status = acc->ops->audit_list(acc->ctx, after, limit, &out, &err);
    answer(a, x, status, status == SL_OK ? list_of(out) : NULL, &err);
}

static void run_verify(api *a, http_exchange *x)
{
    const llm_accounts *acc = &a->options.accounts;
    json_t *out = NULL;
    sl_err err = { 0 };
    sl_status status = acc->ops->audit_verify(acc->ctx, &out, &err);

    answer(a, x, status, out, &err);
}

/* ---- sessions ------------------------------------------------------------------------------ */

static void answer_refused(api *a, http_exchange *x, sl_status status, sl_err *err, int64_t retry_s)
{
    openai_error e;

    err->status = status;
    openai_error_from(err, LLM_CHAT, &e);
    e.retry_after_ms = retry_s * 1000;
    if (status == SL_EAUTH)
        e.code = "invalid_credentials";
    api_respond_error(a, x, &e);
}

static void run_login(api *a, http_exchange *x)
{
    const llm_accounts *acc = &a->options.accounts;
    int64_t retry_s = 0;
    json_t *out = NULL;
    visit_body b;
    sl_err err = { 0 };
    sl_status status;

    if (!body_open(a, x, &auth_login_body, &b))
        return;
    sl_thread_yield_to_others(); /* the pool is for logins only */
    status = acc->ops->login(acc->ctx,
                             &(llm_login){ .name = b.call.username,
                                           .password = b.call.spec.password,
                                           .address = http_remote(x) },
                             &out, &retry_s, &err);
    if (status == SL_OK)
        answer_json(x, out);
    else
        answer_refused(a, x, status, &err, retry_s);
    body_close(&b);
}

static void run_refresh(api *a, http_exchange *x)
{
    const llm_accounts *acc = &a->options.accounts;
    json_t *out = NULL;
    visit_body b;
    sl_err err = { 0 };
    sl_status status;

    if (!body_open(a, x, &auth_refresh_body, &b))
        return;
    status = acc->ops->refresh(acc->ctx, b.call.refresh_token, http_remote(x), &out, &err);
    if (status == SL_OK)
        answer_json(x, out);
    else
        answer_refused(a, x, status, &err, 0);
    body_close(&b);
}

static void run_logout(api *a, http_exchange *x)
{
    const llm_accounts *acc = &a->options.accounts;
    visit_body b;
    sl_err err = { 0 };
    sl_status status;

    if (!body_open(a, x, &auth_logout_body, &b))
        return;
    status = acc->ops->logout(acc->ctx, b.call.refresh_token, b.call.all, http_remote(x), &err);
    if (status == SL_OK)
        answer_json(x, json_pack("{s:b}", "logged_out", 1));
    else
        answer_refused(a, x, status, &err, 0);
    body_close(&b);
}

/* ---- routes -------------------------------------------------------------------------------- */

static void on_pool(api *a, http_exchange *x, api_pool *pool, api_task_fn fn)
{
    if (!a->options.accounts.ops)
        http_respond_error(x, 501, "invalid_request_error", NULL, "not_implemented", NOT_HERE);
    else if (!api_pool_push(pool, fn, x))
        api_respond_status(
            a, x,
            &(sl_err){ .status = SL_EBUSY, .text = "Too many requests of this kind; try again" });
}

/* A route of one account kind: what runs on the pool, and what puts it there. */
#define ON_ADMIN(name, ...)                                                                        \
    static void name##_now(api *a, http_exchange *x)                                               \
    {                                                                                              \
        __VA_ARGS__;                                                                               \
    }                                                                                              \
    static void name(api *a, http_exchange *x)                                                     \
    {                                                                                              \
        on_pool(a, x, a->admin_pool, name##_now);                                                  \
    }

ON_ADMIN(key_create, create(a, x, LLM_ACCOUNT_KEY, &admin_key_create))
ON_ADMIN(key_list, list(a, x, LLM_ACCOUNT_KEY))
ON_ADMIN(key_get, get(a, x, LLM_ACCOUNT_KEY))
ON_ADMIN(key_update, update(a, x, LLM_ACCOUNT_KEY, &admin_key_update))
ON_ADMIN(key_revoke, remove_account(a, x, LLM_ACCOUNT_KEY))
ON_ADMIN(key_rotate, run_rotate(a, x))
ON_ADMIN(user_create, create(a, x, LLM_ACCOUNT_USER, &admin_user_create))
ON_ADMIN(user_list, list(a, x, LLM_ACCOUNT_USER))
ON_ADMIN(user_get, get(a, x, LLM_ACCOUNT_USER))
ON_ADMIN(user_update, update(a, x, LLM_ACCOUNT_USER, &admin_user_update))
ON_ADMIN(user_remove, remove_account(a, x, LLM_ACCOUNT_USER))
ON_ADMIN(team_create, create(a, x, LLM_ACCOUNT_TEAM, &admin_team_create))
ON_ADMIN(team_list, list(a, x, LLM_ACCOUNT_TEAM))
ON_ADMIN(team_get, get(a, x, LLM_ACCOUNT_TEAM))
ON_ADMIN(team_update, update(a, x, LLM_ACCOUNT_TEAM, &admin_team_update))
ON_ADMIN(team_remove, remove_account(a, x, LLM_ACCOUNT_TEAM))
ON_ADMIN(audit_read, run_audit(a, x))
ON_ADMIN(audit_check, run_verify(a, x))

static void on_login(api *a, http_exchange *x)
{
    on_pool(a, x, a->login_pool, run_login);
}

static void on_refresh(api *a, http_exchange *x)
{
    on_pool(a, x, a->login_pool, run_refresh);
}

static void on_logout(api *a, http_exchange *x)
{
    on_pool(a, x, a->login_pool, run_logout);
}

static const api_endpoint admin_list[] = {
    { "POST", "/admin/keys", key_create, LLM_MAY_KEYS_MANAGE, "Make a key; shown this once",
      &admin_key_create },
    { "GET", "/admin/keys", key_list, LLM_MAY_KEYS_MANAGE, "The keys, also revoked ones" },
    { "GET", "/admin/keys/{name}", key_get, LLM_MAY_KEYS_MANAGE, "One key, by name or id" },
    { "POST", "/admin/keys/{name}", key_update, LLM_MAY_KEYS_MANAGE, "Change a key",
      &admin_key_update },
    { "DELETE", "/admin/keys/{name}", key_revoke, LLM_MAY_KEYS_MANAGE, "Revoke a key" },
    { "POST", "/admin/keys/{name}/rotate", key_rotate, LLM_MAY_KEYS_MANAGE,
      "A new text for a key; the old one works on for a while", &admin_key_rotate },
    { "POST", "/admin/users", user_create, LLM_MAY_USERS_MANAGE, "Add a user", &admin_user_create },
    { "GET", "/admin/users", user_list, LLM_MAY_USERS_MANAGE, "The users" },
    { "GET", "/admin/users/{name}", user_get, LLM_MAY_USERS_MANAGE, "One user" },
    { "POST", "/admin/users/{name}", user_update, LLM_MAY_USERS_MANAGE, "Change a user",
      &admin_user_update },
    { "DELETE", "/admin/users/{name}", user_remove, LLM_MAY_USERS_MANAGE,
      "Remove a user; its keys and sessions end" },
    { "POST", "/admin/teams", team_create, LLM_MAY_USERS_MANAGE, "Add a team", &admin_team_create },
    { "GET", "/admin/teams", team_list, LLM_MAY_USERS_MANAGE, "The teams" },
    { "GET", "/admin/teams/{name}", team_get, LLM_MAY_USERS_MANAGE, "One team" },
    { "POST", "/admin/teams/{name}", team_update, LLM_MAY_USERS_MANAGE, "Change a team",
      &admin_team_update },
    { "DELETE", "/admin/teams/{name}", team_remove, LLM_MAY_USERS_MANAGE,
      "Remove a team that nobody is in" },
    { "GET", "/admin/audit", audit_read, LLM_MAY_AUDIT_READ,
      "What was changed, oldest first; ?after=ID&limit=N" },
    { "GET", "/admin/audit/verify", audit_check, LLM_MAY_AUDIT_READ,
      "Whether the audit log is whole" },
    { "POST", "/auth/login", on_login, 0, "A password for an access and a refresh token",
      &auth_login_body },
    { "POST", "/auth/refresh", on_refresh, 0, "A refresh token for the next pair of tokens",
      &auth_refresh_body },
    { "POST", "/auth/logout", on_logout, 0, "End a session", &auth_logout_body },
};
const api_endpoints admin_endpoints = { &openai_dialect, "Access", admin_list,
                                        SL_COUNT_OF(admin_list) };
