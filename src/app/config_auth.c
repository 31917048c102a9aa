/* config_auth.c - the schema of `auth`, and durations. */
#include "app/config_schema.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const cyaml_schema_value_t name_schema = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, CYAML_UNLIMITED),
};
static const cyaml_schema_field_t claims_fields[] = {
    STR("name", config_claims, name),
    STR("role", config_claims, role),
    STR("team", config_claims, team),
    STR("scopes", config_claims, scopes),
    STR("models", config_claims, models),
    STR("rpm", config_claims, rpm),
    STR("rpd", config_claims, rpd),
    STR("tpm", config_claims, tpm),
    STR("tpd", config_claims, tpd),
    STR("concurrency", config_claims, concurrency),
    STR("request_tokens", config_claims, request_tokens),
    STR("budget_usd", config_claims, budget_usd),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t role_fields[] = {
    CYAML_FIELD_STRING_PTR("value", CYAML_FLAG_POINTER, config_role, value, 1, CYAML_UNLIMITED),
    CYAML_FIELD_STRING_PTR("role", CYAML_FLAG_POINTER, config_role, role, 1, CYAML_UNLIMITED),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t role_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, config_role, role_fields),
};
static const cyaml_schema_field_t issuer_fields[] = {
    CYAML_FIELD_STRING_PTR("issuer", CYAML_FLAG_POINTER, config_issuer, issuer, 1, CYAML_UNLIMITED),
    CYAML_FIELD_STRING_PTR("audience", CYAML_FLAG_POINTER, config_issuer, audience, 1,
                           CYAML_UNLIMITED),
    CYAML_FIELD_SEQUENCE("algorithms", CYAML_FLAG_POINTER | OPT, config_issuer, algorithms,
                         &name_schema, 0, 16),
    STR("jwks_url", config_issuer, jwks_url),
    STR("jwks_file", config_issuer, jwks_file),
    STR("secret", config_issuer, secret),
    CYAML_FIELD_INT("leeway", OPT, config_issuer, leeway),
    CYAML_FIELD_INT("refresh", OPT, config_issuer, refresh),
    CYAML_FIELD_INT("refresh_floor", OPT, config_issuer, refresh_floor),
    STR("role", config_issuer, role),
    CYAML_FIELD_MAPPING("claims", OPT, config_issuer, claims, claims_fields),
    CYAML_FIELD_SEQUENCE("roles", CYAML_FLAG_POINTER | OPT, config_issuer, roles, &role_schema, 0,
                         64),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t issuer_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, config_issuer, issuer_fields),
};
static const cyaml_schema_field_t session_fields[] = {
    STR("access_ttl", config_session, access_ttl),
    STR("refresh_ttl", config_session, refresh_ttl),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t lockout_fields[] = {
    CYAML_FIELD_INT("failures", OPT, config_lockout, failures),
    CYAML_FIELD_INT("address_failures", OPT, config_lockout, address_failures),
    STR("base", config_lockout, base),
    STR("max", config_lockout, max),
    CYAML_FIELD_END,
};
const cyaml_schema_field_t config_auth_fields[] = {
    STR("secret", config_auth, secret),
    CYAML_FIELD_MAPPING("session", OPT, config_auth, session, session_fields),
    CYAML_FIELD_MAPPING("lockout", OPT, config_auth, lockout, lockout_fields),
    CYAML_FIELD_SEQUENCE("jwt", CYAML_FLAG_POINTER | OPT, config_auth, jwt, &issuer_schema, 0, 32),
    CYAML_FIELD_END,
};

sl_status config_duration(const char *text, int64_t *ret, sl_err *err)
{
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 7 * 86400 } };
    size_t digits = strspn(text, "0123456789");
    int64_t unit = text[digits] ? 0 : 1;
    long long n;

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (text[digits] == units[i].unit && !text[digits + 1])
            unit = units[i].seconds;
    n = digits > 0 && digits < 10 ? strtoll(text, NULL, 10) : -1;
    if (n < 0 || unit == 0)
        return sl_fail(err, SL_EINVAL, "'%.60s' is not a duration; write 90s, 15m, 12h or 30d",
                       text);
    *ret = n * unit;
    return SL_OK;
}
