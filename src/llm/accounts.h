/* accounts.h - keys, users and teams as the dialects and the commands see them; the access room
 * keeps them. Included by llm.h.
 *
 * All calls block (SQLite, and a slow password hash in create, update and login), so they are made
 * from a worker or a command, never from an io thread. Answers are JSON objects that the caller
 * releases; their shape is that of the admin API (docs/access.md). */
#ifndef SL_LLM_ACCOUNTS_H
#define SL_LLM_ACCOUNTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "llm/caller.h"

typedef enum llm_account_kind {
    LLM_ACCOUNT_KEY,
    LLM_ACCOUNT_USER,
    LLM_ACCOUNT_TEAM,
    LLM_ACCOUNT_COUNT
} llm_account_kind;

typedef struct llm_texts {
    const char *const *list; /* [count] */
    size_t count;
    bool is_set; /* false: leave as it is */
} llm_texts;

/* What an account is to be. What is unset keeps its default (create) or its value (update). */
typedef struct llm_account_spec {
    const char *name, *user, *team, *role, *password; /* NULL: unset; "" clears user, team, role */
    llm_texts scopes, models, networks;
    llm_limits limits;      /* members -1: unset */
    int64_t expires_s;      /* seconds since 1970; 0: never; -1: unset */
    int64_t disabled;       /* 1, 0; -1: unset */
    const json_t *metadata; /* an object; NULL: unset */
} llm_account_spec;

#define LLM_ACCOUNT_SPEC_NONE                                                                      \
    ((llm_account_spec){                                                                           \
        .limits = { -1, -1, -1, -1, -1, -1, -1, -1 }, .expires_s = -1, .disabled = -1 })

/* Who changes something, for the audit log. */
typedef struct llm_actor {
    const llm_caller *caller; /* nobody gives, sees or takes more than it may itself; NULL: all */
    const char *name;         /* "key_1a2b3c4d", "cli:root" */
    const char *address;      /* "" when none */
} llm_actor;

typedef struct llm_login {
    const char *name, *password, *address;
} llm_login;

typedef struct llm_accounts_ops {
    /* Accounts are named by id or by name. SL_ENOTFOUND: there is none; SL_ECONFLICT: the name is
     * taken; SL_EFORBIDDEN: more than `who` may do; SL_EINVAL names the field. A new key's text is
     * in the answer's "key", there and never again. */
    sl_status (*create)(void *ctx, llm_account_kind kind, const llm_account_spec *spec,
                        const llm_actor *who, json_t **ret, sl_err *err);
    sl_status (*list)(void *ctx, llm_account_kind kind, json_t **ret, sl_err *err); /* an array */
    sl_status (*get)(void *ctx, llm_account_kind kind, const char *name, json_t **ret, sl_err *err);
    sl_status (*update)(void *ctx, llm_account_kind kind, const char *name,
                        const llm_account_spec *spec, const llm_actor *who, json_t **ret,
                        sl_err *err);
    /* Revokes a key, removes a user with its keys and sessions, removes an empty team. */
    sl_status (*remove)(void *ctx, llm_account_kind kind, const char *name, const llm_actor *who,
                        json_t **ret, sl_err *err);
    /* A new text for a key; the old one works for overlap_s more seconds. */
    sl_status (*rotate)(void *ctx, const char *name, int64_t overlap_s, const llm_actor *who,
                        json_t **ret, sl_err *err);
    /* Records after id `after`, oldest first, at most limit. */
    sl_status (*audit_list)(void *ctx, int64_t after, int64_t limit, json_t **ret, sl_err *err);
    /* {"valid","records",...}: SL_OK also when the chain is broken, which "valid" tells. */
    sl_status (*audit_verify)(void *ctx, json_t **ret, sl_err *err);
    /* SL_EAUTH: no such user or a wrong password, which look the same and take the same time.
     * SL_ERATE: too many failures, try again in *ret_retry_s. */
    sl_status (*login)(void *ctx, const llm_login *login, json_t **ret, int64_t *ret_retry_s,
                       sl_err *err);
    sl_status (*refresh)(void *ctx, const char *token, const char *address, json_t **ret,
                         sl_err *err);
    /* Ends the session of a refresh token; all: every session of its user. */
    sl_status (*logout)(void *ctx, const char *token, bool all, const char *address, sl_err *err);
} llm_accounts_ops;

typedef struct llm_accounts {
    const llm_accounts_ops *ops; /* NULL: nobody keeps accounts */
    void *ctx;
} llm_accounts;

#endif
