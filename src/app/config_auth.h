/* config_auth.h - the part `auth` of the configuration. Included by config.h. */
#ifndef SL_APP_CONFIG_AUTH_H
#define SL_APP_CONFIG_AUTH_H

/* Names of claims; members in the order of access_claims. */
typedef struct config_claims {
    char *name, *role, *team, *scopes, *models;
    char *rpm, *rpd, *tpm, *tpd, *concurrency, *request_tokens, *budget_usd;
} config_claims;

typedef struct config_role {
    char *value, *role;
} config_role;

typedef struct config_issuer {
    char *issuer, *audience;
    char **algorithms;
    unsigned algorithms_count;
    char *jwks_url, *jwks_file, *secret; /* one of them */
    int leeway, refresh, refresh_floor;  /* seconds */
    char *role;
    config_claims claims;
    config_role *roles;
    unsigned roles_count;
} config_issuer;

typedef struct config_session {
    char *access_ttl, *refresh_ttl; /* "15m", "30d" */
} config_session;

typedef struct config_lockout {
    int failures, address_failures;
    char *base, *max; /* "1s", "15m" */
} config_lockout;

typedef struct config_auth {
    char *secret; /* NULL: <data>/access.secret */
    config_session session;
    config_lockout lockout;
    config_issuer *jwt;
    unsigned jwt_count;
} config_auth;

#endif
