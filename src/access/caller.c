/* caller.c - callers in one block of memory: the struct, its list of models, its texts. */
#include "access/access_int.h"

#include "base/mem.h"

static void caller_destroy(llm_caller *c)
{
    sl_free(c);
}

static const char *put(char **at, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = memcpy(*at, text, bytes);

    *at += bytes;
    return copy;
}

llm_caller *caller_create(const caller_parts *p)
{
    const char *texts[] = { p->id, p->name, p->user, p->team, p->role };
    size_t models = json_array_size(p->models), bytes = sizeof(llm_caller), i;
    const char **list;
    llm_caller *c;
    json_t *v;
    char *at;

    bytes += models * sizeof *list;
    for (i = 0; i < SL_COUNT_OF(texts); i++)
        bytes += strlen(texts[i]) + 1;
    json_array_foreach(p->models, i, v) bytes += json_string_length(v) + 1;
    c = sl_calloc(1, bytes);
    if (!c)
        return NULL;
    list = (const char **)(c + 1);
    at = (char *)(list + models);
    atomic_init(&c->refs, 1);
    c->destroy = caller_destroy;
    c->id = put(&at, p->id);
    c->name = put(&at, p->name);
    c->user = put(&at, p->user);
    c->team = put(&at, p->team);
    c->role = put(&at, p->role);
    c->permissions = p->permissions;
    json_array_foreach(p->models, i, v) list[i] = put(&at, json_string_value(v));
    c->models = list;
    c->model_count = models;
    memcpy(c->limits, p->limits, sizeof c->limits);
    SL_ASSERT(at == (char *)c + bytes);
    return c;
}
