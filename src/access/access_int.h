/* access_int.h - what the files of this room share.
 *
 * Locks, in their order: the store's, index_lock, issuer.mutex, cache.mutex, lockout.mutex. The
 * last four are held for a few loads and stores only, so the gate may take them on an io thread. */
#ifndef SL_ACCESS_ACCESS_INT_H
#define SL_ACCESS_ACCESS_INT_H

#include <pthread.h>
#include <time.h>

#include "access/access.h"
#include "base/os.h"
#include "store/store.h"

#define ACCESS_DIGEST_BYTES 32
#define ACCESS_KEY_PREFIX   "sk-sluice-"
#define ACCESS_RT_PREFIX    "rt-sluice-"
#define ACCESS_ID_BYTES     32       /* "key_", "user_", "sess_" and 16 hex digits */
#define ACCESS_ID_RANDOM    8        /* bytes behind them */
#define ACCESS_TOKEN_BYTES  80       /* a key or refresh token with its NUL */
#define ACCESS_SELF         "sluice" /* issuer and audience of our own tokens */

/* ---- secret.c: the server's secret and what is made with it --------------------------------- */

/* One key per purpose, derived from the server's secret. */
typedef struct access_secret {
    unsigned char keys[ACCESS_DIGEST_BYTES], refresh[ACCESS_DIGEST_BYTES];
    unsigned char tokens[ACCESS_DIGEST_BYTES], audit[ACCESS_DIGEST_BYTES];
    unsigned char check[ACCESS_DIGEST_BYTES]; /* stored, to notice another secret */
} access_secret;

/* text NULL: read or make <dir>/access.secret. */
sl_status secret_load(const char *dir, const char *text, access_secret *ret, sl_err *err);
void secret_hmac(const unsigned char key[ACCESS_DIGEST_BYTES], const void *bytes, size_t len,
                 unsigned char ret[ACCESS_DIGEST_BYTES]);
void secret_sha256(const void *bytes, size_t len, unsigned char ret[ACCESS_DIGEST_BYTES]);
/* prefix, 40 random characters and 6 that check them. */
void secret_make_token(const char *prefix, char ret[ACCESS_TOKEN_BYTES]);
/* Whether text has the shape of a token of that prefix, its check characters right. */
bool secret_is_token(const char *prefix, const char *text);

/* Strict base64url: no padding, no spaces, unused bits zero. ret holds at least len bytes. */
bool base64url_decode(const char *text, size_t len, unsigned char *ret, size_t *ret_len);
void base64url_put(sl_buf *out, const void *bytes, size_t len);

/* ---- network.c ------------------------------------------------------------------------------ */

typedef struct access_network {
    unsigned char bytes[16]; /* IPv4 as ::ffff:a.b.c.d */
    int bits;                /* 0..128 */
} access_network;

/* "10.0.0.0/8", "2001:db8::/32", "192.0.2.7"; false: not one, or bits set behind the prefix. */
bool network_parse(const char *text, access_network *ret);
bool network_has(const access_network *n, size_t count, const char *address);

/* ---- roles.c -------------------------------------------------------------------------------- */

/* The permissions of a role; 0 when there is no such role. */
uint32_t role_permissions(const char *role);
/* The one of more permissions; either may be NULL. */
const char *role_higher(const char *a, const char *b);
#define ROLE_NAMES "admin, operator, member or viewer"

/* ---- account.c: rows ------------------------------------------------------------------------ */

typedef struct access_account {
    llm_account_kind kind;
    const char *id, *name, *owner, *owner_name, *team, *role;
    const char *scopes, *models, *networks, *metadata; /* JSON */
    llm_limits limits;
    int64_t created_s, expires_s, used_s, ended_s, old_until_s;
    bool disabled;
    const char *prefix;
    sl_span digest, old_digest; /* empty: none */
    const char *password;       /* a crypt(3) string; "" for none */
} access_account;

#define ACCOUNT_SELECT                                                                             \
    "SELECT id, kind, name, owner, team, role, scopes, models, networks, metadata, rpm, rpd, tpm," \
    " tpd, concurrency, request_tokens, budget_nusd, budget_days, created, expires, used, ended,"  \
    " disabled, prefix, digest, old_digest, old_until, password,"                                  \
    " COALESCE((SELECT u.name FROM accounts u WHERE u.id = a.owner), '') FROM accounts a "

/* Reads the present row; the texts go to arena. False: out of memory. */
bool account_read(store_stmt *st, sl_arena *arena, access_account *ret);
/* Of an id or a live name; SL_ENOTFOUND when there is none. Keys also when they were revoked. */
sl_status account_find(access_control *a, llm_account_kind kind, const char *name, sl_arena *arena,
                       access_account *ret, sl_err *err);
sl_status account_insert(access_control *a, const access_account *row, sl_err *err);
sl_status account_update(access_control *a, const access_account *row, sl_err *err);
/* As the admin API shows it; NULL: out of memory. */
json_t *account_json(const access_account *row, int64_t now_s);
uint32_t account_permissions(const access_account *row);
const char *account_kind_name(llm_account_kind kind); /* "key" */

/* ---- db.c ----------------------------------------------------------------------------------- */

sl_status db_open(const char *dir, store **ret, sl_err *err);
/* Runs one statement. types: a letter per parameter, i (int64_t), s (const char *), b (sl_span). */
sl_status db_run(store *s, sl_err *err, const char *sql, const char *types, ...);
/* One integer of one row; *ret stays when there is no row. */
sl_status db_int(store *s, sl_err *err, const char *sql, const char *arg, int64_t *ret);
/* Inside a transaction: tells all processes that accounts or sessions changed. */
sl_status db_note_change(store *s, sl_err *err);

/* ---- index.c: what the gate knows ----------------------------------------------------------- */

/* When a key was last used; shared by all indexes that know the key. */
typedef struct access_use {
    atomic_int refs;
    atomic_llong used_s;
    int64_t written_s; /* the store's lock */
} access_use;

typedef struct index_key {
    llm_caller *caller;
    access_network *networks; /* [network_count] */
    size_t network_count;
    int64_t expires_s, old_until_s;
    unsigned char digest[ACCESS_DIGEST_BYTES], old_digest[ACCESS_DIGEST_BYTES];
    bool has_old;
    access_use *use;
} index_key;

typedef struct index_user {
    llm_caller *caller; /* as its tokens call */
    json_t *models;     /* NULL: all */
} index_user;

typedef struct index_team {
    char *name;
    llm_limits limits;
    json_t *models; /* NULL: all */
} index_team;

typedef struct access_index {
    atomic_int refs;
    bool closed;
    int64_t generation;
    index_key *keys; /* [key_count] */
    size_t key_count, key_cap;
    index_user *users; /* [user_count] by id */
    size_t user_count, user_cap;
    index_team *teams; /* [team_count] by name */
    size_t team_count, team_cap;
    uint32_t *slots; /* [slot_mask + 1] by digest: 0 or 1 + 2 * key + (1: the old digest) */
    size_t slot_mask;
} access_index;

/* With the store locked: reads everything anew and puts it in place. */
sl_status index_reload(access_control *a, sl_err *err);
access_index *index_ref(access_control *a); /* the present one */
void index_unref(access_index *ix);         /* accepts NULL */
/* NULL when there is none. *ret_old: matched by a rotated digest. */
index_key *index_find_key(access_index *ix, const unsigned char digest[ACCESS_DIGEST_BYTES],
                          bool *ret_old);
index_user *index_find_user(access_index *ix, const char *id);
const index_team *index_find_team(const access_index *ix, const char *name);
/* With the store locked: writes what was used since the last time. */
sl_status index_write_uses(access_control *a, sl_err *err);
/* Whether a session was ended while its access tokens may still be valid. */
bool session_is_ended(access_control *a, const char *id);

/* What a caller is made of. */
typedef struct caller_parts {
    const char *id, *name, *user, *team, *role;
    uint32_t permissions;
    json_t *models; /* array of texts, or NULL: all */
    llm_limits limits[LLM_SUBJECT_COUNT];
} caller_parts;

llm_caller *caller_create(const caller_parts *p); /* NULL: out of memory */

/* ---- audit.c -------------------------------------------------------------------------------- */

/* Inside a transaction. detail is borrowed, may be NULL. */
sl_status audit_add(access_control *a, const llm_actor *who, const char *action, const char *target,
                    const json_t *detail, sl_err *err);
sl_status audit_list(void *ctx, int64_t after, int64_t limit, json_t **ret, sl_err *err);
sl_status audit_verify(void *ctx, json_t **ret, sl_err *err);

/* ---- password.c, lockout.c ------------------------------------------------------------------ */

/* ret: the crypt(3) string; the caller's. Slow. */
sl_status password_hash(const char *password, char **ret, sl_err *err);
/* hash NULL or "": takes as long and is false. */
bool password_is(const char *password, const char *hash);

typedef struct lockout_rules {
    int failures, base_s, max_s;
} lockout_rules;

/* Failures per name; each attempt counts as one until it succeeds. */
typedef struct lockout lockout;
lockout *lockout_create(lockout_rules rules);
void lockout_destroy(lockout *l); /* accepts NULL */
/* Seconds to wait; 0: go on, and the attempt was counted. */
int64_t lockout_begin(lockout *l, const char *name, int64_t now_ms);
/* After a good one. all: forgets the name; else only this attempt. */
void lockout_forgive(lockout *l, const char *name, bool all);

/* ---- session.c ------------------------------------------------------------------------------ */

sl_status session_login(void *ctx, const llm_login *login, json_t **ret, int64_t *ret_retry_s,
                        sl_err *err);
sl_status session_refresh(void *ctx, const char *token, const char *address, json_t **ret,
                          sl_err *err);
sl_status session_logout(void *ctx, const char *token, bool all, const char *address, sl_err *err);
/* Inside a transaction: ends all sessions of a user. */
sl_status session_end_all(access_control *a, const char *user_id, sl_err *err);
/* With the store locked: forgets what ended long ago. */
sl_status session_prune(access_control *a, sl_err *err);

/* ---- jwt.c, keyset.c ------------------------------------------------------------------------ */

typedef enum jwt_family { JWT_HMAC, JWT_RSA, JWT_PSS, JWT_EC, JWT_ED, JWT_FAMILY_COUNT } jwt_family;

typedef struct jwt_algorithm {
    const char *name;
    jwt_family family;
    size_t signature_bytes; /* 0: the RSA modulus'; HMAC: also the shortest secret */
    const char *curve;      /* EC, Ed */
} jwt_algorithm;

const jwt_algorithm *jwt_algorithm_of(const char *name); /* NULL: unknown, or "none" */

/* A token that is well-formed, not yet believed. */
typedef struct jwt_token {
    json_t *header, *claims;
    const jwt_algorithm *algorithm;
    const char *kid; /* NULL when absent */
    unsigned char signature[1024];
    size_t signature_len, signed_len; /* signed_len: bytes of text that are signed */
} jwt_token;

/* Takes a compact token apart. SL_EAUTH when it is not one that could be believed. */
sl_status jwt_parse(const char *text, size_t len, jwt_token *ret, sl_err *err);
void jwt_deinit(jwt_token *t);
/* iss is not checked here. now_s and leeway in seconds. */
sl_status jwt_check_claims(const jwt_token *t, const char *audience, int64_t now_s, int leeway_s,
                           sl_err *err);

typedef struct keyset keyset;
/* A JSON Web Key Set; keys that cannot verify are passed over. SL_EFORMAT: not a set, or no key of
 * use in it. */
sl_status keyset_parse(const char *json, size_t len, keyset **ret, sl_err *err);
sl_status keyset_of_secret(const void *bytes, size_t len, keyset **ret, sl_err *err);
keyset *keyset_ref(keyset *k); /* accepts and returns NULL */
void keyset_unref(keyset *k);  /* accepts NULL */
/* *ret_known: a key fits the token's kid and algorithm. True when the signature is right. */
bool keyset_verify(keyset *k, const jwt_token *t, const char *text, bool *ret_known);

/* ---- issuer.c: configured issuers ----------------------------------------------------------- */

typedef struct issuer issuer;
sl_status issuer_create(const access_issuer *o, issuer **ret, sl_err *err);
/* Our own: tokens made by login. */
sl_status issuer_create_self(const access_secret *secret, issuer **ret, sl_err *err);
void issuer_destroy(issuer *i); /* accepts NULL */
/* The caller of a token: the gate's way. */
sl_status issuer_judge(access_control *a, const char *text, int64_t now_s, llm_caller **ret,
                       sl_err *err);
/* Starts and ends the thread that fetches key sets. */
sl_status issuer_start_fetching(access_control *a, sl_err *err);
void issuer_stop_fetching(access_control *a);

/* Tokens that were verified lately. */
typedef struct token_cache token_cache;
token_cache *token_cache_create(void);
void token_cache_destroy(token_cache *c); /* accepts NULL */

/* ---- the whole ------------------------------------------------------------------------------ */

typedef struct static_key {
    llm_caller caller;
    char id[ACCESS_NAME_BYTES];
    unsigned char digest[ACCESS_DIGEST_BYTES];
} static_key;

struct access_control {
    size_t static_count;
    static_key *statics; /* [static_count] */
    int access_ttl_s, refresh_ttl_s, poll_ms;
    bool is_offline;
    access_secret secret;
    store *db;            /* NULL: static keys only */
    int64_t data_version; /* the store's lock */

    pthread_mutex_t index_lock; /* index, ended */
    access_index *index;
    char (*ended)[ACCESS_ID_BYTES]; /* [ended_count] sessions, sorted */
    size_t ended_count;

    issuer *issuers[SL_JWT_ISSUERS_MAX + 1];
    size_t issuer_count;
    size_t issuer_configured; /* without our own */
    token_cache *cache;
    lockout *names, *addresses;

    pthread_mutex_t wake_lock; /* stop, want_fetch */
    pthread_cond_t wake, fetch;
    bool stop, want_fetch;
    atomic_bool stopping; /* interrupts a fetch */
    bool has_watcher, has_fetcher;
    pthread_t watcher, fetcher;
};

static inline int64_t access_now_s(void)
{
    return sl_clock_wall_ms() / 1000;
}

/* watch.c: the thread that looks for changes and writes last uses. */
sl_status watch_start(access_control *a, sl_err *err);
void watch_stop(access_control *a);
/* One round, as the thread does it. */
sl_status watch_once(access_control *a, sl_err *err);

extern const llm_accounts_ops access_accounts_ops; /* accounts.c */

#endif
