/* roles.c - the roles as a table of permissions. Each holds what the one before it does. */
#include "access/access_int.h"

#define VIEWER (LLM_MAY_MODELS_READ | LLM_MAY_USAGE_OWN | LLM_MAY_METRICS)
#define MEMBER (VIEWER | LLM_MAY_GENERATE | LLM_MAY_EMBED | LLM_MAY_DOCS_READ | LLM_MAY_FILES)
#define OPERATOR                                                                                   \
    (MEMBER | LLM_MAY_DOCS_WRITE | LLM_MAY_MODELS_MANAGE | LLM_MAY_USAGE_ALL |                     \
     LLM_MAY_KEYS_MANAGE | LLM_MAY_AUDIT_READ)

static const struct {
    const char *name;
    uint32_t permissions;
} roles[] = {
    { "viewer", VIEWER },     /* sees what there is, spends nothing */
    { "member", MEMBER },     /* uses the models */
    { "operator", OPERATOR }, /* runs the service; makes keys with at most its own rights */
    { "admin", ~0u },
};

static int role_index(const char *role)
{
    for (size_t i = 0; role && i < SL_COUNT_OF(roles); i++)
        if (strcmp(roles[i].name, role) == 0)
            return (int)i;
    return -1;
}

uint32_t role_permissions(const char *role)
{
    int i = role_index(role);

    return i < 0 ? 0 : roles[i].permissions;
}

const char *role_higher(const char *a, const char *b)
{
    return role_index(b) > role_index(a) ? b : a;
}
