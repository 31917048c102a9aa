/* caller.c - callers as text, for jobs that outlive the process: who made a batch is charged for
 * its lines, with the limits he had then, for as long as his key is in force. */
#include "jobs/jobs_int.h"

#include <stdlib.h>

#define LIMIT_NUMBERS 8

_Static_assert(sizeof(llm_limits) == LIMIT_NUMBERS * sizeof(int64_t),
               "llm_limits has other members");

typedef struct kept_caller {
    llm_caller base;
    json_t *text; /* owns the strings */
    const char **models;
} kept_caller;

static json_t *limits_json(const llm_limits *l)
{
    int64_t numbers[LIMIT_NUMBERS];
    json_t *list = json_array();

    memcpy(numbers, l, sizeof numbers);
    for (int i = 0; i < LIMIT_NUMBERS; i++)
        json_array_append_new(list, json_integer(numbers[i]));
    return list;
}

static json_t *caller_json(const llm_caller *c)
{
    json_t *models = json_array(), *limits = json_array();

    for (size_t i = 0; i < c->model_count; i++)
        json_array_append_new(models, json_string(c->models[i]));
    for (int i = 0; i < LLM_SUBJECT_COUNT; i++)
        json_array_append_new(limits, limits_json(&c->limits[i]));
    return json_pack("{s:s,s:s?,s:s?,s:s?,s:s?,s:I,s:o,s:o}", "id", c->id, "name", c->name, "user",
                     c->user, "team", c->team, "role", c->role, "permissions",
                     (json_int_t)c->permissions, "models", models, "limits", limits);
}

char *caller_to_text(const llm_caller *c)
{
    json_t *root = c ? caller_json(c) : json_null();
    char *dumped = root ? json_dumps(root, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    char *text = dumped ? sl_strdup(dumped) : NULL;

    free(dumped);
    json_decref(root);
    return text;
}

static void kept_destroy(llm_caller *c)
{
    kept_caller *k = (kept_caller *)c;

    json_decref(k->text);
    sl_free(k->models);
    sl_free(k);
}

static const char *text_of(const json_t *root, const char *key)
{
    const char *text = json_string_value(json_object_get(root, key));

    return text ? text : "";
}

static void read_limits(const json_t *list, llm_limits *ret)
{
    int64_t numbers[LIMIT_NUMBERS];

    for (int i = 0; i < LIMIT_NUMBERS; i++)
        numbers[i] = json_integer_value(json_array_get(list, (size_t)i));
    memcpy(ret, numbers, sizeof *ret);
}

/* Takes root. */
static kept_caller *kept_create(json_t *root)
{
    const json_t *models = json_object_get(root, "models");
    kept_caller *k = sl_calloc(1, sizeof *k);

    if (k)
        k->models = sl_calloc(json_array_size(models) + 1, sizeof *k->models);
    if (!k || !k->models) {
        json_decref(root);
        sl_free(k);
        return NULL;
    }
    k->text = root;
    for (size_t i = 0; i < json_array_size(models); i++)
        if (json_is_string(json_array_get(models, i)))
            k->models[k->base.model_count++] = json_string_value(json_array_get(models, i));
    k->base.destroy = kept_destroy;
    k->base.id = text_of(root, "id");
    k->base.name = text_of(root, "name");
    k->base.user = text_of(root, "user");
    k->base.team = text_of(root, "team");
    k->base.role = text_of(root, "role");
    k->base.permissions = (uint32_t)json_integer_value(json_object_get(root, "permissions"));
    k->base.models = k->models;
    for (int i = 0; i < LLM_SUBJECT_COUNT; i++)
        read_limits(json_array_get(json_object_get(root, "limits"), (size_t)i), &k->base.limits[i]);
    atomic_init(&k->base.refs, 1);
    return k;
}

sl_status caller_from_text(const char *text, llm_caller **ret, sl_err *err)
{
    json_t *root = json_loads(text, JSON_DECODE_ANY, NULL);
    kept_caller *k;

    *ret = NULL;
    if (json_is_null(root))
        return SL_OK;
    if (!json_is_object(root)) {
        json_decref(root);
        return sl_fail(err, SL_EFORMAT, "the batch's owner cannot be read");
    }
    k = kept_create(root);
    if (!k)
        return sl_fail(err, SL_ENOMEM, "out of memory for a batch");
    *ret = &k->base;
    return SL_OK;
}

/* SL_ENOTFOUND: there is no such account. */
static sl_status account_status(const llm_accounts *accounts, llm_account_kind kind,
                                const char *name, bool *ret_active)
{
    json_t *account = NULL;
    const char *state;

    SL_TRY(accounts->ops->get(accounts->ctx, kind, name, &account, NULL));
    state = json_string_value(json_object_get(account, "status"));
    *ret_active = state && strcmp(state, "active") == 0;
    json_decref(account);
    return SL_OK;
}

bool caller_in_force(const llm_accounts *accounts, const llm_caller *c)
{
    bool active = true;

    if (!accounts->ops || !c || account_status(accounts, LLM_ACCOUNT_KEY, c->id, &active) != SL_OK)
        return true; /* of the configuration or of an issuer, or nobody can say */
    if (active && c->user[0])
        (void)account_status(accounts, LLM_ACCOUNT_USER, c->user, &active);
    return active;
}
