/* schema.c - bodies by their tables. */
#include "api/schema.h"

#include <math.h>
#include <stdio.h>

#include "api/fields.h"

static sl_status refuse_support(const field_rule *r, openai_error *err)
{
    return openai_refuse(err, r->name, "unsupported_parameter",
                         "Unsupported parameter: '%s' is not supported by this server%s%s", r->name,
                         r->help ? ": " : "", r->help ? r->help : "");
}

static bool is_empty(const json_t *v)
{
    return json_is_false(v) || (json_is_number(v) && json_number_value(v) == 0) ||
           (json_is_string(v) && json_string_length(v) == 0) ||
           (json_is_array(v) && json_array_size(v) == 0) ||
           (json_is_object(v) && json_object_size(v) == 0);
}

static int64_t bound_of(double bound)
{
    if (bound >= 9.2e18)
        return INT64_MAX;
    return bound <= -9.2e18 ? INT64_MIN : (int64_t)bound;
}

static sl_status read_int(const field_rule *r, const json_t *root, void *at, openai_error *err)
{
    int64_t v = 0;

    SL_TRY(take_int(root, r->name, bound_of(r->min), bound_of(r->max), &v, err));
    if (r->width == sizeof(int64_t))
        memcpy(at, &v, sizeof v);
    else
        memcpy(at, &(int32_t){ (int32_t)v }, sizeof(int32_t));
    return SL_OK;
}

static sl_status read_num(const field_rule *r, const json_t *root, void *at, openai_error *err)
{
    float v = 0;

    SL_TRY(take_num(root, r->name, r->min, r->max, &v, err));
    if (r->width == sizeof(double))
        memcpy(at, &(double){ json_number_value(json_object_get(root, r->name)) }, sizeof(double));
    else
        memcpy(at, &v, sizeof v);
    return SL_OK;
}

static sl_status read_str(const field_rule *r, const json_t *root, const field_target *to, void *at,
                          openai_error *err)
{
    sl_arena *arena = to->arena ? to->arena : &to->req->arena;
    const char *text = NULL;
    char *copy;

    SL_TRY(take_str(root, r->name, &text, err));
    if (r->max > 0 && (double)strlen(text) > r->max)
        return openai_refuse(err, r->name, "string_above_max_length",
                             "Invalid '%s': it has %zu bytes, at most %.0f are allowed", r->name,
                             strlen(text), r->max);
    copy = sl_arena_strndup(arena, text, strlen(text));
    if (!copy)
        return refuse_size(err);
    memcpy(at, &copy, sizeof copy);
    return SL_OK;
}

static sl_status read_field(const field_rule *r, const json_t *root, const field_target *to,
                            openai_error *err)
{
    const json_t *v = field(root, r->name);
    char *base = r->in_request ? (char *)to->req : to->call;

    if (!v)
        return r->required ? openai_refuse(err, r->name, "missing_required_parameter",
                                           "Missing required parameter: '%s'", r->name)
                           : SL_OK;
    if (r->support == FIELD_REFUSED || (r->support == FIELD_REFUSED_TRUE && !is_empty(v)))
        return refuse_support(r, err);
    if (r->support != FIELD_WORKS)
        return SL_OK;
    if (to->req)
        to->req->given |= r->in_request ? r->gives | llm_given_at(r->at) : r->gives;
    switch (r->kind) {
    case FIELD_BOOL:
        return take_bool(root, r->name, (bool *)(base + r->at), err);
    case FIELD_INT:
        return read_int(r, root, base + r->at, err);
    case FIELD_NUM:
        return read_num(r, root, base + r->at, err);
    case FIELD_STR:
        return read_str(r, root, to, base + r->at, err);
    default:
        return r->take(v, r, to, err);
    }
}

static const field_rule *find_rule(const body_schema *s, const char *name)
{
    for (; s; s = s->base)
        for (size_t i = 0; i < s->count; i++)
            if (strcmp(s->rules[i].name, name) == 0)
                return &s->rules[i];
    return NULL;
}

static sl_status refuse_unknown(const body_schema *s, const json_t *root, openai_error *err)
{
    const char *key;
    json_t *value;

    json_object_foreach(
        (json_t *)(uintptr_t)root, key,
        value) if (!find_rule(s, key)) return openai_refuse(err, key, "unknown_parameter",
                                                            "Unknown parameter: '%.100s'", key);
    return SL_OK;
}

/* One of 64 bits for a name: most of a table's fields are not in a body, and this says so for
 * less than a lookup. */
static uint64_t name_bit(const char *name)
{
    size_t len = strlen(name);

    return (uint64_t)1 << ((len * 5 + (unsigned char)name[0] + (unsigned char)name[len / 2]) % 64);
}

static uint64_t name_bits(const json_t *root)
{
    uint64_t bits = 0;
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)root, key, value) bits |= name_bit(key);
    return bits;
}

sl_status body_read(const body_schema *s, const json_t *root, const field_target *to,
                    openai_error *err)
{
    uint64_t present = name_bits(root);

    if (s->is_closed)
        SL_TRY(refuse_unknown(s, root, err));
    if (s->base)
        SL_TRY(body_read(s->base, root, to, err));
    for (size_t i = 0; i < s->count; i++)
        if (s->rules[i].required || (present & name_bit(s->rules[i].name)))
            SL_TRY(read_field(&s->rules[i], root, to, err));
    return SL_OK;
}

sl_status body_nest(sl_status status, const char *outer, openai_error *err)
{
    char inner[OPENAI_PARAM_BYTES];

    if (status != SL_OK && err->param[0]) {
        memcpy(inner, err->param, sizeof inner);
        snprintf(err->param, sizeof err->param, "%.40s.%.80s", outer, inner);
    }
    return status;
}
