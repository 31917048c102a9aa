/* caller.h - who asks: made by the access room, read by every other. Included by llm.h.
 *
 * A caller is immutable and reference counted: the exchange holds one, each of its requests
 * another, and whoever charges it after the request a third. */
#ifndef SL_LLM_CALLER_H
#define SL_LLM_CALLER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

/* What a caller may do. Scopes of keys and tokens carry these names (llm_permission_name); roles
 * are sets of them. */
#define LLM_PERMISSION_MAP(X)                                                                      \
    X(GENERATE, "generate", "chat, completions, messages, tokenizing")                             \
    X(EMBED, "embed", "embeddings")                                                                \
    X(MODELS_READ, "models.read", "list and show models")                                          \
    X(MODELS_MANAGE, "models.manage", "pull, create, copy, delete, load and unload models")        \
    X(DOCS_READ, "docs.read", "ask and list documents")                                            \
    X(DOCS_WRITE, "docs.write", "add, replace and remove documents")                               \
    X(FILES, "files", "files, uploads and batch jobs of one's own")                                \
    X(USAGE_OWN, "usage.own", "see one's own usage")                                               \
    X(USAGE_ALL, "usage.all", "see everybody's usage and costs")                                   \
    X(METRICS, "metrics", "scrape metrics")                                                        \
    X(KEYS_MANAGE, "keys.manage", "create, list, revoke and rotate keys")                          \
    X(USERS_MANAGE, "users.manage", "create, list and remove users and teams")                     \
    X(AUDIT_READ, "audit.read", "read the audit log")                                              \
    X(ADMIN, "admin", "reload the configuration, see the server's state")

#define LLM_PERMISSION_BIT(name, text, help) LLM_MAY_BIT_##name,
enum { LLM_PERMISSION_MAP(LLM_PERMISSION_BIT) LLM_PERMISSION_COUNT };
#undef LLM_PERMISSION_BIT
#define LLM_PERMISSION_FLAG(name, text, help) LLM_MAY_##name = 1 << LLM_MAY_BIT_##name,
enum { LLM_PERMISSION_MAP(LLM_PERMISSION_FLAG) };
#undef LLM_PERMISSION_FLAG

/* Limits of one subject; 0: none. Windows of minutes and days are fixed ones in UTC. */
typedef struct llm_limits {
    int64_t rpm, rpd; /* requests per minute, per day */
    int64_t tpm, tpd; /* tokens, prompt and output together, per minute, per day */
    int64_t concurrency;
    int64_t request_tokens; /* prompt and allowed output of one request */
    int64_t budget_nusd;    /* money in billionths of a dollar */
    int64_t budget_days;    /* window of the budget; 0: for ever */
} llm_limits;

/* Whom limits are counted for. */
typedef enum llm_subject {
    LLM_SUBJECT_KEY, /* the key, or the token's subject */
    LLM_SUBJECT_USER,
    LLM_SUBJECT_TEAM,
    LLM_SUBJECT_COUNT
} llm_subject;

typedef struct llm_caller llm_caller;

struct llm_caller {
    atomic_int refs;
    void (*destroy)(llm_caller *c);
    const char *id;   /* stable: "key_1a2b3c4d", "jwt_...", "user_..."; "" where keys are off */
    const char *name; /* for people and logs */
    const char *user, *team, *role; /* "" when none */
    uint32_t permissions;           /* LLM_MAY_* */
    const char *const *models; /* [model_count] that it may use; a trailing * matches any rest */
    size_t model_count;        /* 0: all */
    llm_limits limits[LLM_SUBJECT_COUNT];
};

llm_caller *llm_caller_ref(llm_caller *c); /* accepts and returns NULL */
void llm_caller_unref(llm_caller *c);      /* accepts NULL */
/* Who it is, for lines of the log, into fields[LLM_CALLER_FIELDS]; how many. Accepts NULL. */
#define LLM_CALLER_FIELDS 2
int llm_caller_fields(const llm_caller *c, sl_log_field *fields);
/* NULL is everybody where keys are off: may do all. */
bool llm_caller_may(const llm_caller *c, uint32_t permission);
bool llm_caller_may_use(const llm_caller *c, const char *model);
const char *llm_permission_name(int bit);
/* The flag of a name, 0 when there is none. */
uint32_t llm_permission_of(const char *name);

#endif
