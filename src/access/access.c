/* access.c - the gate: who is it that calls? Static keys first, then tokens, then stored keys.
 * Every comparison looks at whole digests, so that the time taken says nothing about how near a
 * guess was. Nothing here waits: see access_int.h for the few short locks. */
#include "access/access_int.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/mem.h"
#include "base/thread.h"

#define DAY_S 86400

/* ---- static keys --------------------------------------------------------------------------- */

static bool is_sane_key(const char *key)
{
    size_t len = strlen(key);

    if (len == 0 || len > ACCESS_KEY_BYTES_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (key[i] <= ' ' || key[i] > '~')
            return false;
    return true;
}

/* Callers of static keys live as long as the access_control. */
static void caller_stays(llm_caller *c)
{
    (void)c;
}

static void key_init(static_key *k, const char *text)
{
    SHA256((const unsigned char *)text, strlen(text), k->digest);
    memcpy(k->id, "key_", 4);
    sl_hex(k->digest, 4, k->id + 4);
    k->caller = (llm_caller){ .destroy = caller_stays,
                              .id = k->id,
                              .name = k->id,
                              .user = "",
                              .team = "",
                              .role = "admin",
                              .permissions = ~0u };
    atomic_init(&k->caller.refs, 1);
}

static sl_status take_statics(access_control *a, const access_options *o, sl_err *err)
{
    if (o->key_count > ACCESS_KEYS_MAX)
        return sl_fail(err, SL_ELIMIT, "%zu API keys, at most %d", o->key_count, ACCESS_KEYS_MAX);
    for (size_t i = 0; i < o->key_count; i++)
        if (!o->keys[i] || !is_sane_key(o->keys[i]))
            return sl_fail(err, SL_EINVAL,
                           "API key number %zu: a key is 1 to %d printable ASCII characters "
                           "without spaces",
                           i + 1, ACCESS_KEY_BYTES_MAX);
    a->statics = sl_calloc(o->key_count + 1, sizeof *a->statics);
    if (!a->statics)
        return sl_fail(err, SL_ENOMEM, "API keys");
    for (size_t i = 0; i < o->key_count; i++)
        key_init(&a->statics[i], o->keys[i]);
    a->static_count = o->key_count;
    return SL_OK;
}

/* ---- life ---------------------------------------------------------------------------------- */

static int or_default(int v, int standard)
{
    return v > 0 ? v : standard;
}

static access_control *control_new(const access_options *o)
{
    access_control *a = sl_calloc(1, sizeof *a);

    if (!a)
        return NULL;
    a->access_ttl_s = or_default(o->access_ttl_s, 900);
    a->refresh_ttl_s = or_default(o->refresh_ttl_s, 30 * DAY_S);
    a->poll_ms = or_default(o->poll_ms, 500);
    a->is_offline = o->is_offline;
    atomic_init(&a->stopping, false);
    pthread_mutex_init(&a->index_lock, NULL);
    pthread_mutex_init(&a->wake_lock, NULL);
    sl_cond_init(&a->wake);
    sl_cond_init(&a->fetch);
    return a;
}

static sl_status take_issuers(access_control *a, const access_options *o, sl_err *err)
{
    if (o->issuer_count > SL_JWT_ISSUERS_MAX)
        return sl_fail(err, SL_ELIMIT, "more than %d token issuers", SL_JWT_ISSUERS_MAX);
    for (size_t i = 0; i < o->issuer_count; i++) {
        SL_TRY(issuer_create(&o->issuers[i], &a->issuers[a->issuer_count], err));
        a->issuer_count++;
        for (size_t n = 0; n < i; n++)
            if (strcmp(o->issuers[n].issuer, o->issuers[i].issuer) == 0)
                return sl_fail(err, SL_EINVAL, "the issuer %.100s is there twice",
                               o->issuers[i].issuer);
    }
    a->issuer_configured = a->issuer_count;
    if (a->db) {
        SL_TRY(issuer_create_self(&a->secret, &a->issuers[a->issuer_count], err));
        a->issuer_count++;
    }
    a->cache = token_cache_create();
    return a->cache ? SL_OK : sl_fail(err, SL_ENOMEM, "tokens");
}

/* Stored digests were made with one secret; another would make every key wrong. */
static sl_status check_secret(access_control *a, const char *dir, sl_err *err)
{
    sl_span mine = sl_span_of(a->secret.check, sizeof a->secret.check);
    store_stmt *st = NULL;
    bool row = false, same = true;
    sl_status status = store_begin(a->db, err);

    if (status == SL_OK)
        status = store_prepare(a->db, "SELECT value FROM meta WHERE name = 'secret'", &st, err);
    if (status == SL_OK)
        status = store_step(st, &row, err);
    if (status == SL_OK && row)
        same = sl_span_eq(store_bytes(st, 0), mine);
    store_finish(st);
    if (status == SL_OK && !same)
        status = sl_fail(err, SL_ECONFLICT,
                         "%s/access.db was made with another secret; bring back its access.secret "
                         "(or auth.secret), or move access.db away",
                         dir);
    if (status == SL_OK && !row)
        status = db_run(a->db, err, "INSERT INTO meta VALUES ('secret', ?)", "b", mine);
    if (status == SL_OK)
        return store_commit(a->db, err);
    store_rollback(a->db);
    return status;
}

static sl_status open_store(access_control *a, const access_options *o, sl_err *err)
{
    lockout_rules rules = { .failures = or_default(o->lockout_failures, 5),
                            .base_s = or_default(o->lockout_base_s, 1),
                            .max_s = or_default(o->lockout_max_s, 900) };
    sl_status status;

    SL_TRY(db_open(o->data_dir, &a->db, err));
    SL_TRY(secret_load(o->data_dir, o->secret, &a->secret, err));
    a->names = lockout_create(rules);
    rules.failures = or_default(o->lockout_address_failures, 20);
    a->addresses = lockout_create(rules);
    if (!a->names || !a->addresses)
        return sl_fail(err, SL_ENOMEM, "lockouts");
    store_lock(a->db);
    status = check_secret(a, o->data_dir, err);
    if (status == SL_OK)
        status = db_int(a->db, err, "PRAGMA data_version", NULL, &a->data_version);
    store_unlock(a->db);
    return status;
}

static sl_status start(access_control *a, sl_err *err)
{
    sl_status status = SL_OK;

    if (a->db) {
        store_lock(a->db);
        status = index_reload(a, err);
        store_unlock(a->db);
    }
    if (status == SL_OK && a->db && !a->is_offline)
        status = watch_start(a, err);
    if (status == SL_OK && !a->is_offline)
        status = issuer_start_fetching(a, err);
    return status;
}

sl_status access_open(const access_options *o, access_control **ret, sl_err *err)
{
    access_control *a = control_new(o);
    sl_status status = a ? take_statics(a, o, err) : sl_fail(err, SL_ENOMEM, "access");

    if (status == SL_OK && o->data_dir)
        status = open_store(a, o, err);
    if (status == SL_OK)
        status = take_issuers(a, o, err);
    if (status == SL_OK)
        status = start(a, err);
    if (status == SL_OK)
        *ret = a;
    else
        access_destroy(a);
    return status;
}

sl_status access_create(const char *const *keys, size_t key_count, access_control **ret_access,
                        sl_err *err)
{
    return access_open(&(access_options){ .keys = keys, .key_count = key_count }, ret_access, err);
}

void access_destroy(access_control *a)
{
    if (!a)
        return;
    issuer_stop_fetching(a);
    watch_stop(a);
    for (size_t i = 0; i < SL_COUNT_OF(a->issuers); i++)
        issuer_destroy(a->issuers[i]);
    token_cache_destroy(a->cache);
    lockout_destroy(a->names);
    lockout_destroy(a->addresses);
    index_unref(a->index);
    sl_free(a->ended);
    store_close(a->db);
    if (a->statics)
        OPENSSL_cleanse(a->statics, a->static_count * sizeof *a->statics);
    sl_free(a->statics);
    pthread_cond_destroy(&a->wake);
    pthread_cond_destroy(&a->fetch);
    pthread_mutex_destroy(&a->wake_lock);
    pthread_mutex_destroy(&a->index_lock);
    OPENSSL_cleanse(&a->secret, sizeof a->secret);
    sl_free(a);
}

size_t access_key_count(const access_control *a)
{
    return a ? a->static_count : 0;
}

bool access_is_closed(access_control *a)
{
    access_index *ix;
    bool closed;

    if (!a)
        return false;
    ix = index_ref(a);
    closed = a->static_count > 0 || a->issuer_configured > 0 || (ix && ix->closed);
    index_unref(ix);
    return closed;
}

llm_accounts access_accounts(access_control *a)
{
    return (llm_accounts){ a && a->db ? &access_accounts_ops : NULL, a };
}

/* ---- judging ------------------------------------------------------------------------------- */

/* The key a request carries, or NULL. */
static const char *key_of(const char *authorization, const char *x_api_key)
{
    if (authorization && strncasecmp(authorization, "Bearer", 6) == 0 &&
        (authorization[6] == ' ' || authorization[6] == '\t' || !authorization[6])) {
        const char *key = authorization + 6;

        key += strspn(key, " \t");
        if (*key)
            return key;
    }
    return x_api_key && *x_api_key ? x_api_key : NULL;
}

/* The caller behind a static key; NULL when there is none. Looks at every key, whichever fits. */
static llm_caller *find_static(access_control *a, const char *key)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    llm_caller *found = NULL;

    if (a->static_count == 0)
        return NULL;
    secret_sha256(key, strlen(key), digest);
    for (size_t i = 0; i < a->static_count; i++)
        if (CRYPTO_memcmp(digest, a->statics[i].digest, sizeof digest) == 0)
            found = &a->statics[i].caller;
    return found;
}

static void note_use(index_key *k, int64_t now_s)
{
    if (atomic_load_explicit(&k->use->used_s, memory_order_relaxed) < now_s)
        atomic_store_explicit(&k->use->used_s, now_s, memory_order_relaxed);
}

static sl_status judge_key(access_control *a, const char *key, const char *remote, int64_t now_s,
                           llm_caller **ret, sl_err *err)
{
    unsigned char digest[ACCESS_DIGEST_BYTES];
    access_index *ix = index_ref(a);
    bool is_old = false;
    index_key *k = NULL;
    sl_status status = SL_OK;

    if (ix && secret_is_token(ACCESS_KEY_PREFIX, key)) {
        secret_hmac(a->secret.keys, key, strlen(key), digest);
        k = index_find_key(ix, digest, &is_old);
    }
    if (!k || (is_old && k->old_until_s <= now_s)) {
        status = sl_fail(err, SL_EAUTH, "Incorrect API key provided");
    } else if (k->expires_s > 0 && k->expires_s <= now_s) {
        status = sl_fail(err, SL_EAUTH, "The API key has expired");
    } else if (k->network_count > 0 && !network_has(k->networks, k->network_count, remote)) {
        status = sl_fail(err, SL_EFORBIDDEN, "The API key may not be used from this address");
    } else {
        note_use(k, now_s);
        *ret = llm_caller_ref(k->caller);
    }
    index_unref(ix);
    return status;
}

static bool looks_like_token(const char *key)
{
    const char *dot = strchr(key, '.');

    return strncmp(key, "ey", 2) == 0 && dot && strchr(dot + 1, '.');
}

sl_status access_judge(access_control *a, const access_request *r, llm_caller **ret, sl_err *err)
{
    const char *key = key_of(r->authorization, r->x_api_key);
    int64_t now_s;
    llm_caller *c;

    *ret = NULL;
    if (!access_is_closed(a))
        return SL_OK;
    if (!key)
        return sl_fail(err, SL_EAUTH,
                       "You didn't provide an API key. Send it in an Authorization header: "
                       "Authorization: Bearer YOUR_KEY");
    now_s = (r->now_ms ? r->now_ms : sl_clock_wall_ms()) / 1000;
    c = find_static(a, key);
    if (c) {
        *ret = llm_caller_ref(c);
        return SL_OK;
    }
    if (a->issuer_count > 0 && looks_like_token(key))
        return issuer_judge(a, key, now_s, ret, err);
    return judge_key(a, key, r->remote, now_s, ret, err);
}

sl_status access_check(access_control *a, const char *authorization, const char *x_api_key,
                       llm_caller **ret, sl_err *err)
{
    const access_request r = { .authorization = authorization, .x_api_key = x_api_key };

    return access_judge(a, &r, ret, err);
}

sl_status access_enter(void *ctx, const http_exchange *x, llm_caller **ret, sl_err *err)
{
    const access_request r = { .authorization = http_header(x, "authorization"),
                               .x_api_key = http_header(x, "x-api-key"),
                               .remote = http_remote(x) };

    return access_judge(ctx, &r, ret, err);
}

/* ---- addresses ----------------------------------------------------------------------------- */

static bool is_ipv4_loopback(const char *host, size_t len)
{
    unsigned a, b, c, d;
    char text[16];
    int end = 0;

    if (len >= sizeof text)
        return false;
    memcpy(text, host, len);
    text[len] = '\0';
    return sscanf(text, "%3u.%3u.%3u.%3u%n", &a, &b, &c, &d, &end) == 4 && (size_t)end == len &&
           a == 127 && b < 256 && c < 256 && d < 256;
}

bool access_is_loopback(const char *address)
{
    const char *end;
    size_t len;

    if (strncmp(address, "unix:", 5) == 0)
        return true;
    if (strncmp(address, "http://", 7) == 0)
        address += 7;
    else if (strncmp(address, "https://", 8) == 0)
        address += 8;
    if (address[0] == '[') {
        end = strchr(address, ']');
        return end && end - address == 4 && memcmp(address, "[::1", 4) == 0;
    }
    if (strcmp(address, "::1") == 0)
        return true;
    end = strchr(address, ':');
    len = end ? (size_t)(end - address) : strlen(address);
    if (len == 9 && strncasecmp(address, "localhost", 9) == 0)
        return true;
    return is_ipv4_loopback(address, len);
}

sl_status access_check_bind(const char *address, size_t key_count, sl_err *err)
{
    if (key_count > 0 || access_is_loopback(address))
        return SL_OK;
    return sl_fail(err, SL_EINVAL,
                   "refusing to listen on %s without an API key: other machines could use this "
                   "server. Make a key with sluice key create NAME, set one with --api-key KEY or "
                   "SLUICE_API_KEY=KEY, or listen on 127.0.0.1 only",
                   address);
}
