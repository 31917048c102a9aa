/* test_accounts.c - stored keys, users, sessions and the audit log, through the room's door and,
 * for time and damage, from inside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/access_int.h"

static const llm_actor root = { .name = "test", .address = "127.0.0.1" };

typedef struct place {
    char dir[64];
    access_control *a;
    llm_accounts acc;
} place;

static access_options options_of(const place *p)
{
    /* The watcher sleeps through the test; watch_once does its work. */
    return (access_options){ .data_dir = p->dir, .poll_ms = 3600 * 1000, .lockout_base_s = 600 };
}

static void open_place(place *p)
{
    access_options o = options_of(p);
    sl_err err = { 0 };

    if (access_open(&o, &p->a, &err) != SL_OK)
        fail_msg("%s", err.text);
    p->acc = access_accounts(p->a);
    assert_non_null(p->acc.ops);
}

static int setup(void **state)
{
    place *p = calloc(1, sizeof *p);

    snprintf(p->dir, sizeof p->dir, "/tmp/sluice-access-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    open_place(p);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    place *p = *state;
    char command[128];

    access_destroy(p->a);
    snprintf(command, sizeof command, "rm -r %s", p->dir);
    assert_int_equal(system(command), 0);
    free(p);
    return 0;
}

static llm_texts texts(const char *const *list, size_t count)
{
    return (llm_texts){ list, count, true };
}

static json_t *create(place *p, llm_account_kind kind, const llm_account_spec *spec)
{
    sl_err err = { 0 };
    json_t *out = NULL;

    if (p->acc.ops->create(p->acc.ctx, kind, spec, &root, &out, &err) != SL_OK)
        fail_msg("%s", err.text);
    return out;
}

/* A key's text; freed by the caller. */
static char *create_key(place *p, const llm_account_spec *spec)
{
    json_t *out = create(p, LLM_ACCOUNT_KEY, spec);
    char *text = sl_strdup(json_string_value(json_object_get(out, "key")));

    json_decref(out);
    return text;
}

static sl_status judge(access_control *a, const char *key, const char *remote, int64_t now_ms,
                       llm_caller **ret, sl_err *err)
{
    const access_request r = { .x_api_key = key, .remote = remote, .now_ms = now_ms };

    *ret = NULL;
    return access_judge(a, &r, ret, err);
}

static void check_refused(place *p, const char *key, sl_status want)
{
    llm_caller *c;
    sl_err err;

    assert_int_equal(judge(p->a, key, NULL, 0, &c, &err), want);
    assert_null(c);
}

static llm_caller *check_let_in(place *p, const char *key)
{
    llm_caller *c;
    sl_err err = { 0 };

    if (judge(p->a, key, "10.1.2.3", 0, &c, &err) != SL_OK)
        fail_msg("%s", err.text);
    assert_non_null(c);
    return c;
}

static void let_in(place *p, const char *key)
{
    llm_caller_unref(check_let_in(p, key));
}

/* ---- keys ---------------------------------------------------------------------------------- */

static void test_door(void **state)
{
    place *p = *state;
    llm_account_spec spec = LLM_ACCOUNT_SPEC_NONE;
    llm_caller *c;
    char *key;
    json_t *gone = NULL;
    sl_err err;

    assert_false(access_is_closed(p->a));
    assert_int_equal(judge(p->a, NULL, NULL, 0, &c, &err), SL_OK);
    assert_null(c);
    spec.name = "first";
    key = create_key(p, &spec);
    assert_true(access_is_closed(p->a));
    check_refused(p, NULL, SL_EAUTH);
    check_refused(p, "sk-sluice-", SL_EAUTH);
    let_in(p, key);
    key[20] ^= 1;
    check_refused(p, key, SL_EAUTH);
    key[20] ^= 1;
    assert_int_equal(p->acc.ops->remove(p->acc.ctx, LLM_ACCOUNT_KEY, "first", &root, &gone, &err),
                     SL_OK);
    assert_string_equal(json_string_value(json_object_get(gone, "status")), "revoked");
    json_decref(gone);
    check_refused(p, key, SL_EAUTH);
    assert_true(access_is_closed(p->a)); /* the last key's end does not open the door */
    access_destroy(p->a);
    open_place(p);
    assert_true(access_is_closed(p->a));
    sl_free(key);
}

static void test_key_carries(void **state)
{
    place *p = *state;
    static const char *const models[] = { "small", "big-*" }, *const scopes[] = { "generate" };
    llm_account_spec spec = LLM_ACCOUNT_SPEC_NONE;
    llm_caller *c;
    char *key;

    spec.name = "app";
    spec.team = "red";
    spec.role = "member";
    spec.models = texts(models, 2);
    spec.scopes = texts(scopes, 1);
    spec.limits.rpm = 7;
    spec.limits.budget_nusd = 2500000000;
    key = create_key(p, &spec);
    c = check_let_in(p, key);
    assert_memory_equal(c->id, "key_", 4);
    assert_string_equal(c->name, "app");
    assert_string_equal(c->team, "red");
    assert_string_equal(c->role, "member");
    assert_int_equal(c->permissions, LLM_MAY_GENERATE);
    assert_true(llm_caller_may_use(c, "small"));
    assert_true(llm_caller_may_use(c, "big-one"));
    assert_false(llm_caller_may_use(c, "other"));
    assert_int_equal(c->limits[LLM_SUBJECT_KEY].rpm, 7);
    assert_int_equal(c->limits[LLM_SUBJECT_KEY].budget_nusd, 2500000000);
    assert_int_equal(c->limits[LLM_SUBJECT_TEAM].rpm, 0);
    llm_caller_unref(c);
    sl_free(key);
}

/* A change makes a new caller; who came before keeps the old one. */
static void test_update(void **state)
{
    place *p = *state;
    llm_account_spec spec = LLM_ACCOUNT_SPEC_NONE;
    llm_caller *before, *after;
    json_t *out = NULL;
    sl_err err;
    char *key;

    spec.name = "app";
    spec.team = "red";
    key = create_key(p, &spec);
    before = check_let_in(p, key);
    spec = LLM_ACCOUNT_SPEC_NONE;
    spec.limits.tpm = 1000;
    assert_int_equal(
        p->acc.ops->update(p->acc.ctx, LLM_ACCOUNT_TEAM, "red", &spec, &root, &out, &err), SL_OK);
    json_decref(out);
    after = check_let_in(p, key);
    assert_ptr_not_equal(before, after);
    assert_int_equal(before->limits[LLM_SUBJECT_TEAM].tpm, 0);
    assert_int_equal(after->limits[LLM_SUBJECT_TEAM].tpm, 1000);
    assert_string_equal(before->id, after->id);
    llm_caller_unref(before);
    llm_caller_unref(after);
    assert_int_equal(p->acc.ops->remove(p->acc.ctx, LLM_ACCOUNT_TEAM, "red", &root, &out, &err),
                     SL_ECONFLICT);
    spec = LLM_ACCOUNT_SPEC_NONE;
    spec.disabled = 1;
    assert_int_equal(
        p->acc.ops->update(p->acc.ctx, LLM_ACCOUNT_KEY, "app", &spec, &root, &out, &err), SL_OK);
    json_decref(out);
    check_refused(p, key, SL_EAUTH);
    sl_free(key);
}

static void test_expiry_and_networks(void **state)
{
    place *p = *state;
    static const char *const nets[] = { "10.0.0.0/8", "2001:db8::/33" };
    llm_account_spec spec = LLM_ACCOUNT_SPEC_NONE;
    int64_t now_ms = sl_clock_wall_ms();
    llm_caller *c;
    sl_err err;
    char *key;

    spec.name = "app";
    spec.networks = texts(nets, 2);
    spec.expires_s = now_ms / 1000 + 60;
    key = create_key(p, &spec);
    assert_int_equal(judge(p->a, key, "10.255.0.1", now_ms, &c, &err), SL_OK);
    llm_caller_unref(c);
    assert_int_equal(judge(p->a, key, "::ffff:10.0.0.9", now_ms, &c, &err), SL_OK);
    llm_caller_unref(c);
    assert_int_equal(judge(p->a, key, "2001:db8:7fff::1", now_ms, &c, &err), SL_OK);
    llm_caller_unref(c);
    assert_int_equal(judge(p->a, key, "2001:db8:8000::1", now_ms, &c, &err), SL_EFORBIDDEN);
    assert_int_equal(judge(p->a, key, "11.0.0.1", now_ms, &c, &err), SL_EFORBIDDEN);
    assert_int_equal(judge(p->a, key, NULL, now_ms, &c, &err), SL_EFORBIDDEN);
    assert_int_equal(judge(p->a, key, "", now_ms, &c, &err), SL_EFORBIDDEN);
    assert_int_equal(judge(p->a, key, "10.0.0.1", now_ms + 61000, &c, &err), SL_EAUTH);
    assert_non_null(strstr(err.text, "expired"));
    sl_free(key);
}

static void test_rotate(void **state)
{
    place *p = *state;
    llm_account_spec spec = LLM_ACCOUNT_SPEC_NONE;
    int64_t now_ms = sl_clock_wall_ms();
    json_t *out = NULL;
    llm_caller *c;
    sl_err err;
    char *old, *fresh;

    spec.name = "app";
    old = create_key(p, &spec);
    assert_int_equal(p->acc.ops->rotate(p->acc.ctx, "app", 100, &root, &out, &err), SL_OK);
    fresh = sl_strdup(json_string_value(json_object_get(out, "key")));
    json_decref(out);
    assert_string_not_equal(old, fresh);
    let_in(p, old);
    let_in(p, fresh);
    assert_int_equal(judge(p->a, old, NULL, now_ms + 102000, &c, &err), SL_EAUTH);
    assert_int_equal(judge(p->a, fresh, NULL, now_ms + 102000, &c, &err), SL_OK);
    llm_caller_unref(c);
    sl_free(old);
    old = fresh;
    assert_int_equal(p->acc.ops->rotate(p->acc.ctx, "app", 0, &root, &out, &err), SL_OK);
    json_decref(out);
    check_refused(p, old, SL_EAUTH);
    sl_free(old);
}

static void check_bad(place *p, llm_account_kind kind, const llm_account_spec *spec,
                      const char *field)
{
    json_t *out = NULL;
    sl_err err = { 0 };

    assert_int_equal(p->acc.ops->create(p->acc.ctx, kind, spec, &root, &out, &err), SL_EINVAL);
    assert_null(out);
    if (!strstr(err.text, field))
        fail_msg("%s does not name %s", err.text, field);
}

static void test_bad_specs(void **state)
{
    place *p = *state;
    static const char *const bad_net[] = { "10.0.0.1/8" }, *const bad_scope[] = { "all" };
    static const char *const nets[] = { "",          "10.0.0.0/33", "10.0.0.0/", "1.2.3",
                                        "::/129",    "10.0.0.0/8 ", "/8",        "10.0.0.0/08x",
                                        "localhost", "::1/0" };
    const llm_account_spec none = LLM_ACCOUNT_SPEC_NONE;
    llm_account_spec s;
    access_network n;
    json_t *out = NULL;
    sl_err err;

    s = none, s.name = "";
    check_bad(p, LLM_ACCOUNT_KEY, &s, "name");
    check_bad(p, LLM_ACCOUNT_KEY, &none, "name");
    s = none, s.name = "key_1";
    check_bad(p, LLM_ACCOUNT_KEY, &s, "name");
    s = none, s.name = "a/b";
    check_bad(p, LLM_ACCOUNT_USER, &s, "name");
    s = none, s.name = "a", s.role = "root";
    check_bad(p, LLM_ACCOUNT_KEY, &s, "role");
    s = none, s.name = "a", s.networks = texts(bad_net, 1);
    check_bad(p, LLM_ACCOUNT_KEY, &s, "networks");
    s = none, s.name = "a", s.scopes = texts(bad_scope, 1);
    check_bad(p, LLM_ACCOUNT_KEY, &s, "scopes");
    s = none, s.name = "a", s.expires_s = 5;
    check_bad(p, LLM_ACCOUNT_KEY, &s, "expires_at");
    s = none, s.name = "a", s.password = "short";
    check_bad(p, LLM_ACCOUNT_USER, &s, "password");
    s = none, s.name = "a", s.password = "long enough";
    check_bad(p, LLM_ACCOUNT_KEY, &s, "password");
    s = none, s.name = "a", s.role = "admin";
    check_bad(p, LLM_ACCOUNT_TEAM, &s, "role");
    s = none, s.name = "a", s.user = "nobody";
    assert_int_equal(p->acc.ops->create(p->acc.ctx, LLM_ACCOUNT_KEY, &s, &root, &out, &err),
                     SL_ENOTFOUND);
    for (size_t i = 0; i < SL_COUNT_OF(nets); i++)
        assert_false(network_parse(nets[i], &n));
    assert_false(access_is_closed(p->a));
    s = none, s.name = "twice";
    json_decref(create(p, LLM_ACCOUNT_KEY, &s));
    assert_int_equal(p->acc.ops->create(p->acc.ctx, LLM_ACCOUNT_KEY, &s, &root, &out, &err),
                     SL_ECONFLICT);
}

/* An operator makes no admin, touches none, and cannot get one's key by rotating it. */
static void test_no_escalation(void **state)
{
    place *p = *state;
    llm_account_spec spec = LLM_ACCOUNT_SPEC_NONE;
    llm_actor operator= root;
    json_t *out = NULL;
    char *key, *admin;
    sl_err err;

    spec.name = "admin";
    spec.role = "admin";
    admin = create_key(p, &spec);
    spec.name = "op";
    spec.role = "operator";
    key = create_key(p, &spec);
    operator.caller = check_let_in(p, key);
    spec.name = "mine";
    spec.role = "admin";
    assert_int_equal(p->acc.ops->create(p->acc.ctx, LLM_ACCOUNT_KEY, &spec, &operator, & out, &err),
                     SL_EFORBIDDEN);
    assert_int_equal(p->acc.ops->rotate(p->acc.ctx, "admin", 0, &operator, & out, &err),
                     SL_EFORBIDDEN);
    assert_int_equal(
        p->acc.ops->remove(p->acc.ctx, LLM_ACCOUNT_KEY, "admin", &operator, & out, &err),
        SL_EFORBIDDEN);
    spec = LLM_ACCOUNT_SPEC_NONE;
    spec.role = "admin";
    assert_int_equal(
        p->acc.ops->update(p->acc.ctx, LLM_ACCOUNT_KEY, "op", &spec, &operator, & out, &err),
        SL_EFORBIDDEN);
    let_in(p, admin);
    spec.name = "lesser";
    spec.role = "member";
    assert_int_equal(p->acc.ops->create(p->acc.ctx, LLM_ACCOUNT_KEY, &spec, &operator, & out, &err),
                     SL_OK);
    json_decref(out);
    llm_caller_unref((llm_caller *)(uintptr_t) operator.caller);
    sl_free(key);
    sl_free(admin);
}

/* Nothing of a key but its prefix is on disk. */
static void test_at_rest(void **state)
{
    place *p = *state;
    llm_account_spec spec = LLM_ACCOUNT_SPEC_NONE;
    char path[128], key[ACCESS_TOKEN_BYTES], *made;
    struct stat st;
    sl_buf file;
    sl_err err;

    spec.name = "app";
    made = create_key(p, &spec);
    snprintf(key, sizeof key, "%s", made);
    sl_free(made);
    access_destroy(p->a);
    snprintf(path, sizeof path, "%s/access.db", p->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    sl_buf_init(&file, 1 << 24);
    assert_int_equal(sl_file_read(path, 1 << 24, &file, &err), SL_OK);
    assert_non_null(memmem(file.ptr, file.len, key, 16));
    assert_null(memmem(file.ptr, file.len, key + 16, strlen(key) - 16));
    sl_buf_deinit(&file);
    snprintf(path, sizeof path, "%s/access.secret", p->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    open_place(p);
    let_in(p, key);
}

static void test_secret(void **state)
{
    place *p = *state;
    access_options o = options_of(p);
    access_control *b = NULL;
    char path[128];
    sl_err err;

    o.secret = "another secret, long enough to be one";
    assert_int_equal(access_open(&o, &b, &err), SL_ECONFLICT);
    o.secret = "short";
    assert_int_equal(access_open(&o, &b, &err), SL_EINVAL);
    o.secret = NULL;
    snprintf(path, sizeof path, "%s/access.secret", p->dir);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(access_open(&o, &b, &err), SL_EFORBIDDEN);
    assert_non_null(strstr(err.text, "chmod 600"));
    assert_null(b);
}

/* What another process changes is seen by the watcher's next round. */
static void test_other_process(void **state)
{
    place *p = *state;
    llm_account_spec spec = LLM_ACCOUNT_SPEC_NONE;
    access_options o = options_of(p);
    access_control *b = NULL;
    llm_accounts other;
    json_t *out = NULL;
    sl_err err;
    char *key;

    o.is_offline = true;
    assert_int_equal(access_open(&o, &b, &err), SL_OK);
    other = access_accounts(b);
    spec.name = "far";
    assert_int_equal(other.ops->create(other.ctx, LLM_ACCOUNT_KEY, &spec, &root, &out, &err),
                     SL_OK);
    key = sl_strdup(json_string_value(json_object_get(out, "key")));
    json_decref(out);
    assert_int_equal(watch_once(p->a, &err), SL_OK);
    let_in(p, key);
    assert_int_equal(other.ops->remove(other.ctx, LLM_ACCOUNT_KEY, "far", &root, &out, &err),
                     SL_OK);
    json_decref(out);
    let_in(p, key);
    assert_int_equal(watch_once(p->a, &err), SL_OK);
    check_refused(p, key, SL_EAUTH);
    access_destroy(b);
    sl_free(key);
}

static void test_last_use(void **state)
{
    place *p = *state;
    llm_account_spec spec = LLM_ACCOUNT_SPEC_NONE;
    int64_t now_ms = sl_clock_wall_ms();
    json_t *out = NULL;
    llm_caller *c;
    sl_err err;
    char *key;

    spec.name = "app";
    key = create_key(p, &spec);
    assert_int_equal(judge(p->a, key, NULL, now_ms + 5000, &c, &err), SL_OK);
    llm_caller_unref(c);
    /* A new index knows it too, and it reaches the disk with the last round. */
    spec.name = "other";
    sl_free(create_key(p, &spec));
    access_destroy(p->a);
    open_place(p);
    assert_int_equal(p->acc.ops->get(p->acc.ctx, LLM_ACCOUNT_KEY, "app", &out, &err), SL_OK);
    assert_int_equal(json_integer_value(json_object_get(out, "last_used_at")),
                     (now_ms + 5000) / 1000);
    assert_null(json_object_get(out, "key"));
    assert_null(json_object_get(out, "digest"));
    json_decref(out);
    sl_free(key);
}

static void test_key_texts(void **state)
{
    char a[ACCESS_TOKEN_BYTES], b[ACCESS_TOKEN_BYTES];

    secret_make_token(ACCESS_KEY_PREFIX, a);
    secret_make_token(ACCESS_KEY_PREFIX, b);
    assert_string_not_equal(a, b);
    assert_true(secret_is_token(ACCESS_KEY_PREFIX, a));
    assert_false(secret_is_token(ACCESS_RT_PREFIX, a));
    for (size_t i = strlen(ACCESS_KEY_PREFIX); a[i]; i++) {
        char was = a[i];

        a[i] = was == 'x' ? 'y' : 'x';
        assert_false(secret_is_token(ACCESS_KEY_PREFIX, a));
        a[i] = was;
    }
    a[strlen(a) - 1] = '\0';
    assert_false(secret_is_token(ACCESS_KEY_PREFIX, a));
}

/* ---- audit --------------------------------------------------------------------------------- */

static void check_audit(place *p, bool valid, int64_t records)
{
    json_t *out = NULL;
    sl_err err;

    assert_int_equal(p->acc.ops->audit_verify(p->acc.ctx, &out, &err), SL_OK);
    assert_int_equal(json_is_true(json_object_get(out, "valid")), valid);
    if (valid)
        assert_int_equal(json_integer_value(json_object_get(out, "records")), records);
    json_decref(out);
}

static void tamper(place *p, const char *sql)
{
    sl_err err = { 0 };

    store_lock(p->a->db);
    if (store_exec(p->a->db, sql, &err) != SL_OK)
        fail_msg("%s", err.text);
    store_unlock(p->a->db);
}

static void test_audit(void **state)
{
    place *p = *state;
    llm_account_spec spec = LLM_ACCOUNT_SPEC_NONE;
    json_t *out = NULL;
    sl_err err;

    check_audit(p, true, 0);
    spec.name = "app";
    spec.team = "red";
    sl_free(create_key(p, &spec)); /* team.create, key.create */
    assert_int_equal(p->acc.ops->rotate(p->acc.ctx, "app", 9, &root, &out, &err), SL_OK);
    json_decref(out);
    check_audit(p, true, 3);
    assert_int_equal(p->acc.ops->audit_list(p->acc.ctx, 1, 1, &out, &err), SL_OK);
    assert_int_equal(json_array_size(out), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(out, 0), "action")),
                        "key.create");
    json_decref(out);
    store_lock(p->a->db); /* the database itself refuses */
    assert_int_not_equal(store_exec(p->a->db, "DELETE FROM audit", &err), SL_OK);
    assert_int_not_equal(store_exec(p->a->db, "UPDATE audit SET actor = 'x'", &err), SL_OK);
    store_unlock(p->a->db);
    tamper(p, "DROP TRIGGER audit_kept; DROP TRIGGER audit_whole");
    tamper(p, "UPDATE audit SET actor = 'x' WHERE id = 2");
    check_audit(p, false, 0);
    tamper(p, "UPDATE audit SET actor = 'test' WHERE id = 2");
    check_audit(p, true, 3);
    tamper(p, "DELETE FROM audit WHERE id = 3"); /* the end cut off */
    check_audit(p, false, 0);
    spec.name = "next"; /* and not mended by the next record */
    sl_free(create_key(p, &spec));
    check_audit(p, false, 0);
}

/* ---- users --------------------------------------------------------------------------------- */

static void add_user(place *p, const char *name, const char *password)
{
    llm_account_spec spec = LLM_ACCOUNT_SPEC_NONE;

    spec.name = name;
    spec.password = password;
    spec.limits.rpm = 3;
    json_decref(create(p, LLM_ACCOUNT_USER, &spec));
}

static sl_status login(place *p, const char *name, const char *password, json_t **ret,
                       int64_t *ret_retry_s)
{
    const llm_login l = { name, password, "10.0.0.1" };
    sl_err err;

    *ret = NULL;
    return p->acc.ops->login(p->acc.ctx, &l, ret, ret_retry_s, &err);
}

static char *take(const json_t *answer, const char *name)
{
    return sl_strdup(json_string_value(json_object_get(answer, name)));
}

static void test_login(void **state)
{
    place *p = *state;
    json_t *out;
    int64_t retry;
    llm_caller *c;
    char *access, *refresh, *second;
    sl_err err;

    add_user(p, "ada", "correct horse");
    assert_int_equal(login(p, "ada", "wrong horse", &out, &retry), SL_EAUTH);
    assert_int_equal(login(p, "bob", "correct horse", &out, &retry), SL_EAUTH);
    assert_int_equal(login(p, "ada", "correct horse", &out, &retry), SL_OK);
    access = take(out, "access_token");
    refresh = take(out, "refresh_token");
    json_decref(out);
    c = check_let_in(p, access);
    assert_string_equal(c->name, "ada");
    assert_string_equal(c->role, "member");
    assert_int_equal(c->limits[LLM_SUBJECT_USER].rpm, 3);
    llm_caller_unref(c);
    assert_int_equal(judge(p->a, access, NULL, sl_clock_wall_ms() + 1000000, &c, &err), SL_EAUTH);
    check_refused(p, refresh, SL_EAUTH); /* a refresh token opens no door */
    assert_int_equal(p->acc.ops->refresh(p->acc.ctx, refresh, "", &out, &err), SL_OK);
    second = take(out, "refresh_token");
    json_decref(out);
    let_in(p, access);
    /* The first once more: stolen, or its answer lost. All ends. */
    assert_int_equal(p->acc.ops->refresh(p->acc.ctx, refresh, "", &out, &err), SL_EAUTH);
    assert_int_equal(p->acc.ops->refresh(p->acc.ctx, second, "", &out, &err), SL_EAUTH);
    check_refused(p, access, SL_EAUTH);
    check_audit(p, true, 2); /* user.create, session.reuse */
    sl_free(access);
    sl_free(refresh);
    sl_free(second);
}

static void test_sessions_end(void **state)
{
    place *p = *state;
    llm_account_spec spec = LLM_ACCOUNT_SPEC_NONE;
    char *access, *refresh, *key;
    int64_t retry;
    json_t *out;
    sl_err err;

    add_user(p, "ada", "correct horse");
    assert_int_equal(login(p, "ada", "correct horse", &out, &retry), SL_OK);
    access = take(out, "access_token");
    refresh = take(out, "refresh_token");
    json_decref(out);
    assert_int_equal(p->acc.ops->logout(p->acc.ctx, refresh, false, "", &err), SL_OK);
    check_refused(p, access, SL_EAUTH);
    sl_free(access);
    sl_free(refresh);
    assert_int_equal(login(p, "ada", "correct horse", &out, &retry), SL_OK);
    access = take(out, "access_token");
    json_decref(out);
    spec.password = "better horse";
    assert_int_equal(
        p->acc.ops->update(p->acc.ctx, LLM_ACCOUNT_USER, "ada", &spec, &root, &out, &err), SL_OK);
    json_decref(out);
    check_refused(p, access, SL_EAUTH);
    sl_free(access);
    assert_int_equal(login(p, "ada", "correct horse", &out, &retry), SL_EAUTH);
    spec = LLM_ACCOUNT_SPEC_NONE;
    spec.name = "hers";
    spec.user = "ada";
    key = create_key(p, &spec);
    let_in(p, key);
    assert_int_equal(p->acc.ops->remove(p->acc.ctx, LLM_ACCOUNT_USER, "ada", &root, &out, &err),
                     SL_OK);
    json_decref(out);
    check_refused(p, key, SL_EAUTH);
    assert_int_equal(login(p, "ada", "better horse", &out, &retry), SL_EAUTH);
    sl_free(key);
}

/* Names wait alike, whether or not there is such a user. */
static void test_login_lockout(void **state)
{
    place *p = *state;
    static const char *const names[] = { "ada", "nobody" };
    json_t *out;
    int64_t retry;

    add_user(p, "ada", "correct horse");
    for (size_t i = 0; i < SL_COUNT_OF(names); i++) {
        for (int n = 0; n < 5; n++)
            assert_int_equal(login(p, names[i], "wrong horse", &out, &retry), SL_EAUTH);
        assert_int_equal(login(p, names[i], "correct horse", &out, &retry), SL_ERATE);
        assert_in_range(retry, 1, 600);
    }
}

static void test_lockout(void **state)
{
    lockout *l = lockout_create((lockout_rules){ .failures = 3, .base_s = 2, .max_s = 7 });
    int64_t now = 1000000;

    assert_int_equal(lockout_begin(l, "a", now), 0);
    assert_int_equal(lockout_begin(l, "a", now), 0);
    assert_int_equal(lockout_begin(l, "b", now), 0);
    assert_int_equal(lockout_begin(l, "a", now), 0);
    assert_int_equal(lockout_begin(l, "a", now), 2);
    assert_int_equal(lockout_begin(l, "b", now), 0);
    now += 1999;
    assert_int_equal(lockout_begin(l, "a", now), 1);
    now += 1;
    assert_int_equal(lockout_begin(l, "a", now), 0);
    assert_int_equal(lockout_begin(l, "a", now), 4);
    now += 4000;
    assert_int_equal(lockout_begin(l, "a", now), 0);
    assert_int_equal(lockout_begin(l, "a", now), 7);
    lockout_forgive(l, "a", true);
    assert_int_equal(lockout_begin(l, "a", now), 0);
    /* A good one from an address takes back its own attempt only. */
    lockout_forgive(l, "b", false);
    assert_int_equal(lockout_begin(l, "b", now), 0);
    assert_int_equal(lockout_begin(l, "b", now), 0);
    assert_int_equal(lockout_begin(l, "b", now), 2);
    for (int i = 0; i < SL_ACCESS_LOCKOUTS_MAX + 10; i++) { /* bounded */
        char name[16];

        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(lockout_begin(l, name, now), 0);
    }
    lockout_destroy(l);
}

static void test_roles(void **state)
{
    assert_int_equal(role_permissions("root"), 0);
    assert_int_equal(role_permissions(NULL), 0);
    assert_int_equal(role_permissions("viewer") & LLM_MAY_GENERATE, 0);
    assert_int_not_equal(role_permissions("member") & LLM_MAY_GENERATE, 0);
    assert_int_equal(role_permissions("member") & LLM_MAY_KEYS_MANAGE, 0);
    assert_int_equal(role_permissions("operator") & (LLM_MAY_USERS_MANAGE | LLM_MAY_ADMIN), 0);
    assert_int_not_equal(role_permissions("admin") & LLM_MAY_ADMIN, 0);
    assert_string_equal(role_higher("viewer", "operator"), "operator");
    assert_string_equal(role_higher(NULL, "viewer"), "viewer");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_door),
        TEST(test_key_carries),
        TEST(test_update),
        TEST(test_rotate),
        TEST(test_expiry_and_networks),
        TEST(test_bad_specs),
        TEST(test_no_escalation),
        TEST(test_at_rest),
        TEST(test_secret),
        TEST(test_other_process),
        TEST(test_last_use),
        TEST(test_audit),
        TEST(test_login),
        TEST(test_sessions_end),
        TEST(test_login_lockout),
        cmocka_unit_test(test_key_texts),
        cmocka_unit_test(test_lockout),
        cmocka_unit_test(test_roles),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
