/* session.c - users sign in: a password for a short-lived access token and a refresh token.
 *
 * A session is a chain of refresh tokens, each good once. One that comes twice was stolen or lost
 * its answer; nobody can tell which, so the whole session ends. */
#include "access/access_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

#define SESSIONS_PER_USER_MAX 100
#define ROW_BYTES_MAX         (64 * SL_KIB)
#define KEPT_S                (24 * 3600) /* after its end, for the records */

static const char wrong[] = "Wrong user name or password";
static const char bad_token[] = "The refresh token is not valid; log in again";

/* ---- tokens -------------------------------------------------------------------------------- */

/* An access token, signed by us. False: out of memory. */
static bool sign(const access_control *a, const access_account *user, const char *session,
                 int64_t now_s, sl_buf *out)
{
    static const char head[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
    json_t *claims = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I}", "iss", ACCESS_SELF,
                               "aud", ACCESS_SELF, "sub", user->id, "sid", session, "name",
                               user->name, "role", user->role, "iat", (json_int_t)now_s, "exp",
                               (json_int_t)(now_s + a->access_ttl_s));
    char *text = claims ? json_dumps(claims, JSON_COMPACT) : NULL;
    unsigned char mac[ACCESS_DIGEST_BYTES];

    json_decref(claims);
    if (!text)
        return false;
    base64url_put(out, head, sizeof head - 1);
    sl_buf_putc(out, '.');
    base64url_put(out, text, strlen(text));
    free(text);
    if (out->failed)
        return false;
    secret_hmac(a->secret.tokens, out->ptr, out->len, mac);
    sl_buf_putc(out, '.');
    base64url_put(out, mac, sizeof mac);
    return !out->failed;
}

static sl_status answer(const access_control *a, const access_account *user, const char *session,
                        const char *refresh, int64_t expires_s, json_t **ret, sl_err *err)
{
    int64_t now_s = access_now_s();
    json_t *out = NULL;
    sl_buf token;

    sl_buf_init(&token, SL_JWT_BYTES_MAX);
    if (sign(a, user, session, now_s, &token))
        out = json_pack("{s:s, s:s, s:I, s:s, s:I, s:{s:s, s:s, s:s, s:s}}", "access_token",
                        token.ptr, "token_type", "Bearer", "expires_in",
                        (json_int_t)a->access_ttl_s, "refresh_token", refresh, "refresh_expires_in",
                        (json_int_t)(expires_s - now_s), "user", "id", user->id, "name", user->name,
                        "role", user->role, "team", user->team);
    sl_buf_deinit(&token);
    if (!out)
        return sl_fail(err, SL_ENOMEM, "Out of memory");
    *ret = out;
    return SL_OK;
}

/* Inside a transaction: the next refresh token of a session. */
static sl_status give_refresh(access_control *a, const char *session, int64_t now_s,
                              char ret[ACCESS_TOKEN_BYTES], sl_err *err)
{
    unsigned char digest[ACCESS_DIGEST_BYTES];

    secret_make_token(ACCESS_RT_PREFIX, ret);
    secret_hmac(a->secret.refresh, ret, strlen(ret), digest);
    return db_run(a->db, err, "INSERT INTO refresh_tokens VALUES (?, ?, ?, 0)", "bsi",
                  sl_span_of(digest, sizeof digest), session, now_s);
}

/* ---- log in -------------------------------------------------------------------------------- */

/* A user's row by its name; *ret_found false when there is none. */
static sl_status find_user(access_control *a, const char *name, sl_arena *arena,
                           access_account *ret, bool *ret_found, sl_err *err)
{
    sl_err inner = { 0 };
    sl_status status;

    store_lock(a->db);
    status = account_find(a, LLM_ACCOUNT_USER, name, arena, ret, &inner);
    store_unlock(a->db);
    *ret_found = status == SL_OK && strcmp(ret->name, name) == 0 && !ret->disabled;
    if (status == SL_OK || status == SL_ENOTFOUND)
        return SL_OK;
    return sl_fail(err, status, "%s", inner.text);
}

static sl_status insert_session(access_control *a, const access_account *user, const char *address,
                                const char *id, int64_t now_s, char *refresh, sl_err *err)
{
    SL_TRY(db_run(a->db, err, "INSERT INTO sessions VALUES (?, ?, ?, ?, 0, ?)", "ssiis", id,
                  user->id, now_s, now_s + a->refresh_ttl_s, address ? address : ""));
    SL_TRY(db_run(a->db, err,
                  "UPDATE sessions SET ended = ? WHERE id IN (SELECT id FROM sessions WHERE"
                  " user = ? AND ended = 0 ORDER BY created DESC, id LIMIT -1 OFFSET ?)",
                  "isi", now_s, user->id, (int64_t)SESSIONS_PER_USER_MAX));
    return give_refresh(a, id, now_s, refresh, err);
}

static sl_status open_session(access_control *a, const access_account *user, const char *address,
                              json_t **ret, sl_err *err)
{
    char id[ACCESS_ID_BYTES], refresh[ACCESS_TOKEN_BYTES];
    int64_t now_s = access_now_s();
    sl_status status;

    sl_random_id(id, sizeof id, "sess_", ACCESS_ID_RANDOM);
    store_lock(a->db);
    status = store_begin(a->db, err);
    if (status == SL_OK)
        status = insert_session(a, user, address, id, now_s, refresh, err);
    if (status == SL_OK)
        status = store_commit(a->db, err);
    else
        store_rollback(a->db);
    store_unlock(a->db);
    return status == SL_OK ? answer(a, user, id, refresh, now_s + a->refresh_ttl_s, ret, err)
                           : status;
}

/* Counts the attempt, or says how long to wait. The name's wait is the same whether or not there is
 * such a user. */
static sl_status take_attempt(access_control *a, const llm_login *l, int64_t *ret_retry_s,
                              sl_err *err)
{
    int64_t now_ms = sl_clock_wall_ms(), wait = 0;

    if (l->address && l->address[0])
        wait = lockout_begin(a->addresses, l->address, now_ms);
    if (wait == 0)
        wait = lockout_begin(a->names, l->name, now_ms);
    *ret_retry_s = wait;
    if (wait == 0)
        return SL_OK;
    return sl_fail(err, SL_ERATE, "Too many failed logins; try again in %lld seconds",
                   (long long)wait);
}

sl_status session_login(void *ctx, const llm_login *l, json_t **ret, int64_t *ret_retry_s,
                        sl_err *err)
{
    access_control *a = ctx;
    access_account user = { 0 };
    bool found = false, good;
    sl_arena arena;
    sl_status status;

    SL_TRY(take_attempt(a, l, ret_retry_s, err));
    sl_arena_init(&arena, ROW_BYTES_MAX);
    status = find_user(a, l->name, &arena, &user, &found, err);
    if (status == SL_OK) {
        good = password_is(l->password, found ? user.password : NULL);
        if (good) {
            lockout_forgive(a->names, l->name, true);
            if (l->address && l->address[0])
                lockout_forgive(a->addresses, l->address, false);
            status = open_session(a, &user, l->address, ret, err);
        } else {
            status = sl_fail(err, SL_EAUTH, "%s", wrong);
        }
    }
    sl_arena_deinit(&arena);
    return status;
}

/* ---- refresh ------------------------------------------------------------------------------- */

typedef struct found_token {
    unsigned char digest[ACCESS_DIGEST_BYTES];
    char session[ACCESS_ID_BYTES], user[ACCESS_ID_BYTES];
    int64_t used_s, expires_s, ended_s;
    bool is_there;
} found_token;

static sl_status find_token(access_control *a, const char *token, found_token *ret, sl_err *err)
{
    store_stmt *st;
    sl_status status;

    *ret = (found_token){ 0 };
    if (!secret_is_token(ACCESS_RT_PREFIX, token))
        return SL_OK;
    secret_hmac(a->secret.refresh, token, strlen(token), ret->digest);
    SL_TRY(store_prepare(a->db,
                         "SELECT s.id, s.user, t.used, s.expires, s.ended FROM refresh_tokens t"
                         " JOIN sessions s ON s.id = t.session WHERE t.digest = ?",
                         &st, err));
    store_bind_blob(st, 1, ret->digest, sizeof ret->digest);
    status = store_step(st, &ret->is_there, err);
    if (status == SL_OK && ret->is_there) {
        snprintf(ret->session, sizeof ret->session, "%s", store_text(st, 0));
        snprintf(ret->user, sizeof ret->user, "%s", store_text(st, 1));
        ret->used_s = store_int(st, 2);
        ret->expires_s = store_int(st, 3);
        ret->ended_s = store_int(st, 4);
    }
    store_finish(st);
    return status;
}

static sl_status end_session(access_control *a, const char *session, sl_err *err)
{
    SL_TRY(db_run(a->db, err, "UPDATE sessions SET ended = ? WHERE id = ? AND ended = 0", "is",
                  access_now_s(), session));
    return db_note_change(a->db, err);
}

sl_status session_end_all(access_control *a, const char *user_id, sl_err *err)
{
    SL_TRY(db_run(a->db, err, "UPDATE sessions SET ended = ? WHERE user = ? AND ended = 0", "is",
                  access_now_s(), user_id));
    return db_note_change(a->db, err);
}

/* A token that was used before. */
static sl_status end_reused(access_control *a, const found_token *t, const char *address,
                            sl_err *err)
{
    const llm_actor who = { .name = t->user, .address = address };

    SL_TRY(end_session(a, t->session, err));
    return audit_add(a, &who, "session.reuse", t->session, NULL, err);
}

/* Judges the token and, if it is good, uses it up. *ret_reload: a session was ended. */
static sl_status use_token(access_control *a, found_token *t, const char *address, sl_arena *arena,
                           access_account *ret_user, char *next, bool *ret_reload, sl_err *err)
{
    int64_t now_s = access_now_s();

    if (!t->is_there || t->ended_s > 0 || t->expires_s <= now_s)
        return sl_fail(err, SL_EAUTH, "%s", bad_token);
    if (t->used_s > 0) {
        SL_TRY(end_reused(a, t, address, err));
        *ret_reload = true;
        return sl_fail(err, SL_EAUTH,
                       "The refresh token was used before, so its session was ended; log in again");
    }
    if (account_find(a, LLM_ACCOUNT_USER, t->user, arena, ret_user, NULL) != SL_OK ||
        ret_user->disabled)
        return sl_fail(err, SL_EAUTH, "%s", bad_token);
    SL_TRY(db_run(a->db, err, "UPDATE refresh_tokens SET used = ? WHERE digest = ?", "ib", now_s,
                  sl_span_of(t->digest, sizeof t->digest)));
    return give_refresh(a, t->session, now_s, next, err);
}

sl_status session_refresh(void *ctx, const char *token, const char *address, json_t **ret,
                          sl_err *err)
{
    access_control *a = ctx;
    char next[ACCESS_TOKEN_BYTES];
    access_account user = { 0 };
    bool reload = false;
    found_token t;
    sl_arena arena;
    sl_err ignored;
    sl_status status;

    sl_arena_init(&arena, ROW_BYTES_MAX);
    store_lock(a->db);
    status = store_begin(a->db, err);
    if (status == SL_OK)
        status = find_token(a, token, &t, err);
    if (status == SL_OK)
        status = use_token(a, &t, address, &arena, &user, next, &reload, err);
    if (status == SL_OK)
        status = store_commit(a->db, err);
    else if (reload && store_commit(a->db, &ignored) == SL_OK && !a->is_offline)
        (void)(index_reload(a, &ignored) == SL_OK); /* else the watcher does it */
    store_rollback(a->db);
    store_unlock(a->db);
    if (status == SL_OK)
        status = answer(a, &user, t.session, next, t.expires_s, ret, err);
    sl_arena_deinit(&arena);
    return status;
}

/* ---- log out ------------------------------------------------------------------------------- */

sl_status session_logout(void *ctx, const char *token, bool all, const char *address, sl_err *err)
{
    access_control *a = ctx;
    found_token t = { 0 };
    sl_status status;

    (void)address;
    store_lock(a->db);
    status = store_begin(a->db, err);
    if (status == SL_OK)
        status = find_token(a, token, &t, err);
    /* A token nobody knows is as good as logged out. */
    if (status == SL_OK && t.is_there)
        status = all ? session_end_all(a, t.user, err) : end_session(a, t.session, err);
    if (status == SL_OK)
        status = store_commit(a->db, err);
    else
        store_rollback(a->db);
    if (status == SL_OK && t.is_there && !a->is_offline)
        status = index_reload(a, err);
    store_unlock(a->db);
    return status;
}

sl_status session_prune(access_control *a, sl_err *err)
{
    int64_t before = access_now_s() - a->access_ttl_s - KEPT_S;

    return db_run(a->db, err,
                  "DELETE FROM sessions WHERE (ended > 0 AND ended < ?1) OR expires < ?1", "i",
                  before);
}
