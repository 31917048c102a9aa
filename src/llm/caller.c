/* caller.c - references and questions of callers. */
#include "llm/caller.h"

#include <string.h>

llm_caller *llm_caller_ref(llm_caller *c)
{
    if (c)
        atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void llm_caller_unref(llm_caller *c)
{
    if (c && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
        c->destroy(c);
}

bool llm_caller_may(const llm_caller *c, uint32_t permission)
{
    return !c || (c->permissions & permission) == permission;
}

bool llm_caller_may_use(const llm_caller *c, const char *model)
{
    if (!c || c->model_count == 0)
        return true;
    for (size_t i = 0; i < c->model_count; i++) {
        size_t len = strlen(c->models[i]);

        if (len > 0 && c->models[i][len - 1] == '*' ? strncmp(c->models[i], model, len - 1) == 0
                                                    : strcmp(c->models[i], model) == 0)
            return true;
    }
    return false;
}

static const char *const permission_names[] = {
#define LLM_PERMISSION_TEXT(name, text, help) text,
    LLM_PERMISSION_MAP(LLM_PERMISSION_TEXT)
#undef LLM_PERMISSION_TEXT
};

const char *llm_permission_name(int bit)
{
    return permission_names[bit];
}

uint32_t llm_permission_of(const char *name)
{
    for (int i = 0; i < LLM_PERMISSION_COUNT; i++)
        if (strcmp(permission_names[i], name) == 0)
            return 1u << i;
    return 0;
}

int llm_caller_fields(const llm_caller *c, sl_log_field *fields)
{
    int n = 0;

    if (c && c->id[0])
        fields[n++] = SL_F_STR("key", c->id);
    if (c && c->name && c->name[0] && strcmp(c->name, c->id) != 0)
        fields[n++] = SL_F_STR("key_name", c->name);
    return n;
}
