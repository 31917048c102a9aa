/* issuer.c - the issuers whose tokens are believed: their settings, their key sets, and the thread
 * that fetches those. The gate only looks at the key set there is; when a token names a key that is
 * not in it, it asks the thread and answers "try again" until the set was fetched. */
#include "access/issuer.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"

#define LEEWAY_DEFAULT_S  30
#define REFRESH_DEFAULT_S 3600
#define FLOOR_DEFAULT_S   30
#define FETCH_STALL_S     10
#define SETTINGS_MAX      (256 * SL_KIB)

/* ---- settings ------------------------------------------------------------------------------ */

static bool keep(issuer *i, const char *from, const char **ret)
{
    if (!from || !from[0])
        return true;
    *ret = sl_arena_strndup(&i->arena, from, strlen(from));
    return *ret != NULL;
}

static bool keep_claims(issuer *i, const access_claims *from)
{
    const char *const *in = (const char *const *)from;
    const char **out = (const char **)&i->claims;
    bool ok = true;

    _Static_assert(sizeof *from % sizeof *in == 0, "all members are names");
    for (size_t n = 0; n < sizeof *from / sizeof *in; n++)
        ok = ok && keep(i, in[n], &out[n]);
    return ok;
}

static sl_status take_algorithms(const access_issuer *o, issuer *i, sl_err *err)
{
    static const char *const plain[] = { "RS256" }, *const keyed[] = { "HS256" };
    const char *const *names = o->algorithm_count ? o->algorithms : o->secret ? keyed : plain;
    size_t count = o->algorithm_count ? o->algorithm_count : 1;

    for (size_t n = 0; n < count; n++) {
        const jwt_algorithm *alg = jwt_algorithm_of(names[n]);

        if (!alg || i->algorithm_count == ISSUER_ALGORITHMS_MAX)
            return sl_fail(err, SL_EINVAL,
                           "algorithms: '%.20s' is not one of HS, RS, PS, ES "
                           "256/384/512 and EdDSA",
                           names[n] ? names[n] : "");
        /* Whoever holds the public keys must not be able to sign with them. */
        if ((alg->family == JWT_HMAC) != (o->secret != NULL))
            return sl_fail(err, SL_EINVAL, "algorithms: %s %s", alg->name,
                           o->secret ? "needs a key set, not a secret" : "needs a secret");
        if (o->secret && strlen(o->secret) < alg->signature_bytes)
            return sl_fail(err, SL_EINVAL, "secret: %zu bytes, %s needs at least %zu",
                           strlen(o->secret), alg->name, alg->signature_bytes);
        i->algorithms[i->algorithm_count++] = alg;
    }
    return SL_OK;
}

static sl_status take_roles(const access_issuer *o, issuer *i, sl_err *err)
{
    if (o->role && !role_permissions(o->role))
        return sl_fail(err, SL_EINVAL, "role: '%.40s' is not " ROLE_NAMES, o->role);
    i->roles = sl_arena_alloc(&i->arena, (o->role_count + 1) * sizeof *i->roles);
    if (!i->roles)
        return sl_fail(err, SL_ENOMEM, "Out of memory");
    for (size_t n = 0; n < o->role_count; n++) {
        if (!o->roles[n].value || !role_permissions(o->roles[n].role))
            return sl_fail(err, SL_EINVAL, "roles: each needs a value and a role (" ROLE_NAMES ")");
        if (!keep(i, o->roles[n].value, &i->roles[n].value) ||
            !keep(i, o->roles[n].role, &i->roles[n].role))
            return sl_fail(err, SL_ENOMEM, "Out of memory");
    }
    i->role_count = o->role_count;
    return SL_OK;
}

static bool is_fetchable(const char *url)
{
    static const char plain[] = "http://";

    if (strncmp(url, "https://", 8) == 0)
        return true;
    if (strncmp(url, plain, sizeof plain - 1) != 0)
        return false;
    url += sizeof plain - 1;
    return !memchr(url, '@', strcspn(url, "/?#")) &&
           (strncmp(url, "127.0.0.1", 9) == 0   ? strchr(":/", url[9]) != NULL
            : strncmp(url, "[::1]", 5) == 0     ? strchr(":/", url[5]) != NULL
            : strncmp(url, "localhost", 9) == 0 ? strchr(":/", url[9]) != NULL
                                                : false);
}

static sl_status check_source(const access_issuer *o, sl_err *err)
{
    int sources = (o->jwks_url != NULL) + (o->jwks_file != NULL) + (o->secret != NULL);

    if (!o->issuer || !o->issuer[0] || !o->audience || !o->audience[0])
        return sl_fail(err, SL_EINVAL, "issuer and audience are both needed");
    if (strcmp(o->issuer, ACCESS_SELF) == 0)
        return sl_fail(err, SL_EINVAL, "'" ACCESS_SELF "' is the name of our own tokens' issuer");
    if (sources != 1)
        return sl_fail(err, SL_EINVAL, "give one of jwks_url, jwks_file and secret");
    if (o->jwks_url && !is_fetchable(o->jwks_url))
        return sl_fail(err, SL_EINVAL,
                       "jwks_url must begin with https:// (http:// only to this "
                       "machine)");
    return SL_OK;
}

static sl_status read_keys(const issuer *i, keyset **ret, const atomic_bool *stop, sl_err *err)
{
    sl_buf text;
    sl_status status;

    sl_buf_init(&text, SL_JWKS_BYTES_MAX);
    status = i->file ? sl_file_read(i->file, SL_JWKS_BYTES_MAX, &text, err)
                     : http_fetch(&(http_client_options){ .url = i->url,
                                                          .connect_timeout_s = FETCH_STALL_S,
                                                          .stall_timeout_s = FETCH_STALL_S,
                                                          .max_bytes = SL_JWKS_BYTES_MAX,
                                                          .no_redirects = true,
                                                          .cancelled = stop },
                                  &text, NULL, err);
    if (status == SL_OK)
        status = keyset_parse(sl_buf_str(&text), text.len, ret, err);
    sl_buf_deinit(&text);
    return status;
}

static sl_status fill(const access_issuer *o, issuer *i, sl_err *err)
{
    SL_TRY(check_source(o, err));
    SL_TRY(take_algorithms(o, i, err));
    SL_TRY(take_roles(o, i, err));
    if (!keep(i, o->issuer, &i->name) || !keep(i, o->audience, &i->audience) ||
        !keep(i, o->jwks_url, &i->url) || !keep(i, o->jwks_file, &i->file) ||
        !keep(i, o->role, &i->role) || !keep_claims(i, &o->claims))
        return sl_fail(err, SL_ENOMEM, "Out of memory");
    i->leeway_s = o->leeway_s < 0 ? 0 : o->leeway_s ? o->leeway_s : LEEWAY_DEFAULT_S;
    i->refresh_s = o->refresh_s > 0 ? o->refresh_s : REFRESH_DEFAULT_S;
    i->floor_s = o->refresh_floor_s > 0 ? o->refresh_floor_s : FLOOR_DEFAULT_S;
    if (o->secret)
        return keyset_of_secret(o->secret, strlen(o->secret), &i->keys, err);
    return i->file ? read_keys(i, &i->keys, NULL, err) : SL_OK;
}

static issuer *issuer_new(void)
{
    issuer *i = sl_calloc(1, sizeof *i);

    if (!i)
        return NULL;
    sl_arena_init(&i->arena, SETTINGS_MAX);
    pthread_mutex_init(&i->mutex, NULL);
    return i;
}

sl_status issuer_create(const access_issuer *o, issuer **ret, sl_err *err)
{
    issuer *i = issuer_new();
    sl_status status = i ? fill(o, i, err) : sl_fail(err, SL_ENOMEM, "Out of memory");

    if (status != SL_OK) {
        issuer_destroy(i);
        return sl_err_prefix(err, status, "issuer %.100s", o->issuer ? o->issuer : "without name");
    }
    if (i->file)
        i->tried_ms = sl_clock_mono_ns() / 1000000;
    *ret = i;
    return SL_OK;
}

sl_status issuer_create_self(const access_secret *secret, issuer **ret, sl_err *err)
{
    issuer *i = issuer_new();
    sl_status status;

    if (!i)
        return sl_fail(err, SL_ENOMEM, "Out of memory");
    i->is_self = true;
    i->name = i->audience = ACCESS_SELF;
    i->algorithms[i->algorithm_count++] = jwt_algorithm_of("HS256");
    status = keyset_of_secret(secret->tokens, sizeof secret->tokens, &i->keys, err);
    if (status == SL_OK)
        *ret = i;
    else
        issuer_destroy(i);
    return status;
}

void issuer_destroy(issuer *i)
{
    if (!i)
        return;
    keyset_unref(i->keys);
    pthread_mutex_destroy(&i->mutex);
    sl_arena_deinit(&i->arena);
    sl_free(i);
}

/* ---- key sets ------------------------------------------------------------------------------ */

keyset *issuer_keys(issuer *i, int64_t *ret_generation)
{
    keyset *k;

    pthread_mutex_lock(&i->mutex);
    k = keyset_ref(i->keys);
    *ret_generation = i->generation;
    pthread_mutex_unlock(&i->mutex);
    return k;
}

bool issuer_want_keys(access_control *a, issuer *i)
{
    int64_t now_ms = sl_clock_mono_ns() / 1000000;
    bool coming, due;

    if (!i->url && !i->file)
        return false;
    pthread_mutex_lock(&i->mutex);
    due =
        !i->wanted && !i->fetching && (!i->tried_ms || now_ms - i->tried_ms >= i->floor_s * 1000LL);
    i->wanted = i->wanted || due;
    coming = i->wanted || i->fetching || !i->keys;
    pthread_mutex_unlock(&i->mutex);
    if (due) {
        pthread_mutex_lock(&a->wake_lock);
        a->want_fetch = true;
        pthread_cond_broadcast(&a->fetch);
        pthread_mutex_unlock(&a->wake_lock);
    }
    return coming;
}

/* Whether to fetch now; marks it as being fetched. */
static bool begin_fetch(issuer *i, int64_t now_ms)
{
    int64_t age = now_ms - i->tried_ms;
    bool go;

    pthread_mutex_lock(&i->mutex);
    go = i->wanted || !i->tried_ms || (age >= i->floor_s * 1000LL && !i->keys) ||
         age >= i->refresh_s * 1000LL;
    if (go) {
        i->wanted = false;
        i->fetching = true;
    }
    pthread_mutex_unlock(&i->mutex);
    return go;
}

static void fetch(access_control *a, issuer *i)
{
    keyset *fresh = NULL, *old = NULL;
    sl_err err = { 0 };
    sl_status status = read_keys(i, &fresh, &a->stopping, &err);

    pthread_mutex_lock(&i->mutex);
    i->fetching = false;
    i->tried_ms = sl_clock_mono_ns() / 1000000;
    if (status == SL_OK) {
        old = i->keys;
        i->keys = fresh;
        i->generation++;
    }
    pthread_mutex_unlock(&i->mutex);
    keyset_unref(old); /* who verifies right now holds its own reference */
    if (status == SL_OK)
        SL_LOG(SL_LOG_INFO, "access.jwks", SL_F_STR("issuer", i->name));
    else if (status != SL_ECANCELLED)
        SL_LOG(SL_LOG_WARN, "access.jwks_failed", SL_F_STR("issuer", i->name),
               SL_F_STR("error", err.text));
}

/* Waits until somebody wants keys, or a second. False: it is time to end. */
static bool wait_for_want(access_control *a)
{
    int64_t until_ns = sl_clock_mono_ns() + 1000000000;
    bool stop;

    pthread_mutex_lock(&a->wake_lock);
    while (!a->stop && !a->want_fetch && sl_cond_wait_until(&a->fetch, &a->wake_lock, until_ns))
        continue;
    a->want_fetch = false;
    stop = a->stop;
    pthread_mutex_unlock(&a->wake_lock);
    return !stop;
}

static void *run(void *ctx)
{
    access_control *a = ctx;

    do {
        for (size_t n = 0; n < a->issuer_count; n++) {
            issuer *i = a->issuers[n];

            if ((i->url || i->file) && begin_fetch(i, sl_clock_mono_ns() / 1000000))
                fetch(a, i);
        }
    } while (wait_for_want(a));
    return NULL;
}

sl_status issuer_start_fetching(access_control *a, sl_err *err)
{
    if (a->issuer_configured == 0)
        return SL_OK;
    if (pthread_create(&a->fetcher, NULL, run, a) != 0)
        return sl_fail(err, SL_ENOMEM, "cannot start a thread for key sets");
    a->has_fetcher = true;
    return SL_OK;
}

void issuer_stop_fetching(access_control *a)
{
    if (!a->has_fetcher)
        return;
    atomic_store(&a->stopping, true);
    pthread_mutex_lock(&a->wake_lock);
    a->stop = true;
    pthread_cond_broadcast(&a->fetch);
    pthread_mutex_unlock(&a->wake_lock);
    pthread_join(a->fetcher, NULL);
    a->has_fetcher = false;
}
