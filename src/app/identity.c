/* identity.c - keys, issuers and sessions as configured. */
#include "app/identity.h"

#include <string.h>

#include "app/app.h"
#include "app/serving.h"
#include "base/mem.h"
#include "base/os.h"

/* What access_open is told; secrets resolved. */
typedef struct settings {
    access_options o;
    char **keys;             /* [key_count] */
    char *secret;            /* of the server */
    access_issuer *issuers;  /* [issuer_count] */
    char **issuer_secrets;   /* [issuer_count] */
    access_role_map **roles; /* [issuer_count] */
    unsigned key_count, issuer_count;
} settings;

static void settings_deinit(settings *s)
{
    for (unsigned i = 0; s->keys && i < s->key_count; i++)
        sl_free(s->keys[i]);
    for (unsigned i = 0; s->issuer_secrets && i < s->issuer_count; i++)
        sl_free(s->issuer_secrets[i]);
    for (unsigned i = 0; s->roles && i < s->issuer_count; i++)
        sl_free(s->roles[i]);
    sl_free(s->keys);
    sl_free(s->secret);
    sl_free(s->issuers);
    sl_free(s->issuer_secrets);
    sl_free(s->roles);
}

static sl_status take_keys(const config *c, settings *s, sl_err *err)
{
    s->key_count = c->api_keys_count;
    s->keys = sl_calloc(s->key_count + 1, sizeof *s->keys);
    if (!s->keys)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    for (unsigned i = 0; i < s->key_count; i++)
        SL_TRY(config_secret(c->api_keys[i], &s->keys[i], err));
    s->o.keys = (const char *const *)s->keys;
    s->o.key_count = s->key_count;
    return SL_OK;
}

static access_claims claims_of(const config_claims *c)
{
    return (access_claims){ .name = c->name,
                            .role = c->role,
                            .team = c->team,
                            .scopes = c->scopes,
                            .models = c->models,
                            .rpm = c->rpm,
                            .rpd = c->rpd,
                            .tpm = c->tpm,
                            .tpd = c->tpd,
                            .concurrency = c->concurrency,
                            .request_tokens = c->request_tokens,
                            .budget_usd = c->budget_usd };
}

static sl_status take_issuer(const config_issuer *c, settings *s, unsigned at, sl_err *err)
{
    access_role_map *roles = sl_calloc(c->roles_count + 1u, sizeof *roles);

    s->roles[at] = roles;
    if (!roles)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    for (unsigned i = 0; i < c->roles_count; i++)
        roles[i] = (access_role_map){ c->roles[i].value, c->roles[i].role };
    if (c->secret)
        SL_TRY(config_secret(c->secret, &s->issuer_secrets[at], err));
    s->issuers[at] = (access_issuer){ .issuer = c->issuer,
                                      .audience = c->audience,
                                      .algorithms = (const char *const *)c->algorithms,
                                      .algorithm_count = c->algorithms_count,
                                      .jwks_url = c->jwks_url,
                                      .jwks_file = c->jwks_file,
                                      .secret = s->issuer_secrets[at],
                                      .leeway_s = c->leeway,
                                      .refresh_s = c->refresh,
                                      .refresh_floor_s = c->refresh_floor,
                                      .role = c->role,
                                      .claims = claims_of(&c->claims),
                                      .roles = roles,
                                      .role_count = c->roles_count };
    return SL_OK;
}

static sl_status take_issuers(const config_auth *c, settings *s, sl_err *err)
{
    s->issuer_count = c->jwt_count;
    s->issuers = sl_calloc(s->issuer_count + 1, sizeof *s->issuers);
    s->issuer_secrets = sl_calloc(s->issuer_count + 1, sizeof *s->issuer_secrets);
    s->roles = sl_calloc(s->issuer_count + 1, sizeof(access_role_map *));
    if (!s->issuers || !s->issuer_secrets || !s->roles)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    for (unsigned i = 0; i < s->issuer_count; i++)
        SL_TRY(take_issuer(&c->jwt[i], s, i, err));
    s->o.issuers = s->issuers;
    s->o.issuer_count = s->issuer_count;
    return SL_OK;
}

/* An optional duration of the configuration; 0: the default. */
static sl_status take_duration(const char *key, const char *text, int *ret, sl_err *err)
{
    int64_t s = 0;

    if (!text || !text[0])
        return SL_OK;
    if (config_duration(text, &s, err) != SL_OK || s < 1 || s > INT32_MAX)
        return sl_fail(err, SL_EINVAL, "%s: '%.60s' is not a duration; write 15m or 30d", key,
                       text);
    *ret = (int)s;
    return SL_OK;
}

static sl_status take_times(const config_auth *c, access_options *o, sl_err *err)
{
    SL_TRY(take_duration("auth.session.access_ttl", c->session.access_ttl, &o->access_ttl_s, err));
    SL_TRY(
        take_duration("auth.session.refresh_ttl", c->session.refresh_ttl, &o->refresh_ttl_s, err));
    SL_TRY(take_duration("auth.lockout.base", c->lockout.base, &o->lockout_base_s, err));
    SL_TRY(take_duration("auth.lockout.max", c->lockout.max, &o->lockout_max_s, err));
    if (c->lockout.failures < 0 || c->lockout.address_failures < 0)
        return sl_fail(err, SL_EINVAL, "auth.lockout: failures are counted from 1");
    o->lockout_failures = c->lockout.failures;
    o->lockout_address_failures = c->lockout.address_failures;
    return SL_OK;
}

static sl_status take_all(const config *c, settings *s, sl_err *err)
{
    SL_TRY(take_keys(c, s, err));
    SL_TRY(take_issuers(&c->auth, s, err));
    SL_TRY(take_times(&c->auth, &s->o, err));
    if (c->auth.secret)
        SL_TRY(config_secret(c->auth.secret, &s->secret, err));
    s->o.secret = s->secret;
    return SL_OK;
}

static sl_status open_with(const config *c, const char *data_dir, bool offline,
                           access_control **ret, sl_err *err)
{
    settings s = { .o = { .data_dir = data_dir, .is_offline = offline } };
    sl_status status = take_all(c, &s, err);

    if (status == SL_OK)
        status = access_open(&s.o, ret, err);
    settings_deinit(&s);
    return status;
}

sl_status identity_open(const config *c, bool offline, access_control **ret, sl_err *err)
{
    return open_with(c, c->data, offline, ret, err);
}

sl_status app_check_auth(const config *c, sl_err *err)
{
    access_control *a = NULL;

    SL_TRY(open_with(c, NULL, true, &a, err));
    access_destroy(a);
    return SL_OK;
}

/* Whether callers of this data directory must say who they are. Makes no file. */
static sl_status is_closed(const config *c, bool *ret, sl_err *err)
{
    access_control *a = NULL;
    sl_buf path;
    sl_status status;
    bool there;

    *ret = c->api_keys_count > 0 || c->auth.jwt_count > 0;
    if (*ret)
        return SL_OK;
    sl_buf_init(&path, 8192);
    sl_buf_printf(&path, "%s/access.db", c->data);
    there = sl_file_exists(sl_buf_str(&path));
    sl_buf_deinit(&path);
    if (!there)
        return SL_OK;
    status = identity_open(c, true, &a, err);
    *ret = access_is_closed(a);
    access_destroy(a);
    return status;
}

sl_status app_check_listen(const config *c, sl_err *err)
{
    serving_plan plan;
    bool closed = false;
    sl_status status;

    SL_TRY(serving_init(&plan, c, err));
    status = serving_check(&plan, 0, err); /* if nobody else can come, accounts do not matter */
    if (status != SL_OK) {
        status = is_closed(c, &closed, err);
        if (status == SL_OK)
            status = serving_check(&plan, closed ? 1 : 0, err);
    }
    serving_deinit(&plan);
    return status;
}

sl_status app_open_accounts(const config *c, llm_accounts *ret, sl_err *err)
{
    access_control *a = NULL;

    SL_TRY(identity_open(c, true, &a, err));
    *ret = access_accounts(a);
    return SL_OK;
}

void app_close_accounts(llm_accounts *accounts)
{
    access_destroy(accounts->ctx);
    *accounts = (llm_accounts){ 0 };
}
