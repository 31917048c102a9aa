/* access.h - who may call: API keys, tokens of configured issuers, users with passwords.
 *
 * The gate (access_enter) answers from memory and never waits for a database, a network or a
 * password hash. What it knows is one immutable index that is replaced as a whole when an account
 * changes, here or in another process. Accounts are changed through access_accounts. */
#ifndef SL_ACCESS_ACCESS_H
#define SL_ACCESS_ACCESS_H

#include <stdbool.h>
#include <stddef.h>

#include "access/limit.h"
#include "base/status.h"
#include "http/http.h"
#include "llm/llm.h"

#define ACCESS_KEYS_MAX      1024
#define ACCESS_KEY_BYTES_MAX 512
#define ACCESS_NAME_BYTES    16

typedef struct access_control access_control;

/* Which claims of a token say what. A name may be a path, "realm_access.roles"; NULL: not read. */
typedef struct access_claims {
    const char *name, *role, *team, *scopes, *models;
    const char *rpm, *rpd, *tpm, *tpd, *concurrency, *request_tokens, *budget_usd;
} access_claims;

/* A value of the role claim and the role it means here. */
typedef struct access_role_map {
    const char *value, *role;
} access_role_map;

/* Somebody whose JSON Web Tokens are believed. Exactly one of jwks_url, jwks_file and secret. */
typedef struct access_issuer {
    const char *issuer, *audience; /* must be in the token as they are here; both required */
    const char *const *algorithms; /* [algorithm_count] "RS256", "ES256", "EdDSA", ... */
    size_t algorithm_count;        /* 0: RS256, or HS256 with a secret */
    const char *jwks_url;          /* https; http only to this machine */
    const char *jwks_file;
    const char *secret;  /* for HS*: as long as the digest or longer */
    int leeway_s;        /* 0: 30; -1: none */
    int refresh_s;       /* 0: 3600; age at which the key set is fetched again */
    int refresh_floor_s; /* 0: 30; shortest time between two tries */
    const char *role;    /* of tokens that say none; NULL: member */
    access_claims claims;
    const access_role_map *roles; /* [role_count]; none: claim values are role names */
    size_t role_count;
} access_issuer;

/* Zero means the default. Everything is copied. */
typedef struct access_options {
    const char *const *keys; /* [key_count] static keys: role admin */
    size_t key_count;
    const char *data_dir; /* holds access.db and access.secret; NULL: static keys only */
    const char *secret;   /* NULL: <data_dir>/access.secret, made if missing */
    const access_issuer *issuers;
    size_t issuer_count;
    int access_ttl_s;             /* 900; life of an access token from a login */
    int refresh_ttl_s;            /* 30 days; life of a session */
    int lockout_failures;         /* 5; wrong passwords for one name before it has to wait */
    int lockout_address_failures; /* 20; the same for one address */
    int lockout_base_s;           /* 1; the first wait, doubled by each further failure */
    int lockout_max_s;            /* 900 */
    int poll_ms;                  /* 500; how often changes of other processes are looked for */
    bool is_offline;              /* a command: no threads, no gate, only accounts */
} access_options;

/* Opens the accounts, loads the index and starts the threads. SL_EINVAL: a bad key, issuer or
 * secret, named; SL_EFORBIDDEN: others may read the secret; SL_ECONFLICT: it is not the secret that
 * the stored keys were made with. */
SL_NODISCARD sl_status access_open(const access_options *o, access_control **ret, sl_err *err);
/* keys: [key_count] key texts, copied as digests; 0 keys lets everybody in. Empty keys, keys longer
 * than ACCESS_KEY_BYTES_MAX or with bytes outside printable ASCII are SL_EINVAL. */
SL_NODISCARD sl_status access_create(const char *const *keys, size_t key_count,
                                     access_control **ret_access, sl_err *err);
/* Writes what is not yet written and ends the threads. Accepts NULL. Callers that were handed out
 * stay valid, except those of static keys, which live as long as the access_control. */
void access_destroy(access_control *a);
size_t access_key_count(const access_control *a); /* static ones; a may be NULL: 0 */
/* True once callers must say who they are: a static key or an issuer is configured, or a key or
 * user was ever created. Never becomes false again. */
bool access_is_closed(access_control *a);

/* What the gate looks at. */
typedef struct access_request {
    const char *authorization, *x_api_key; /* headers; NULL when absent */
    const char *remote;                    /* "10.0.0.7"; NULL or "": not known */
    int64_t now_ms;                        /* wall clock; 0: now */
} access_request;

/* Judges a request: `Authorization: Bearer <key or token>` first, then `x-api-key`. *ret is a
 * reference to the caller, NULL while the door is open (a may be NULL). Does not block.
 * SL_EAUTH: no key, or a wrong one; SL_EFORBIDDEN: not from this address; SL_EBUSY: the issuer's
 * keys are being fetched, try again. */
SL_NODISCARD sl_status access_judge(access_control *a, const access_request *r, llm_caller **ret,
                                    sl_err *err);
SL_NODISCARD sl_status access_check(access_control *a, const char *authorization,
                                    const char *x_api_key, llm_caller **ret, sl_err *err);
/* The same as an api_gate_fn: ctx is the access_control. */
sl_status access_enter(void *ctx, const http_exchange *x, llm_caller **ret, sl_err *err);

/* The accounts; ops NULL without a data directory. Valid until access_destroy. */
llm_accounts access_accounts(access_control *a);

/* True when only this machine can reach the address ("127.0.0.1:8080", "[::1]:0", "localhost",
 * "https://127.0.0.1:443", "unix:/run/x.sock"). */
bool access_is_loopback(const char *address);

/* Refuses to serve others without a key: SL_EINVAL with what to do when address is not loopback
 * and key_count is 0. */
SL_NODISCARD sl_status access_check_bind(const char *address, size_t key_count, sl_err *err);

#endif
