/* filter.c - attributes and filters: both are compiled, since a filter is asked about every
 * document of a collection. */
#include "rag/filter.h"

#include <string.h>

#include "base/limits.h"
#include "base/mem.h"

typedef enum value_kind { VALUE_NUMBER, VALUE_TEXT, VALUE_BOOL, VALUE_OTHER } value_kind;

typedef struct value {
    value_kind kind;
    double number; /* of booleans too */
    const char *text;
} value;

typedef struct attribute {
    const char *key;
    value value;
} attribute;

struct attribute_list {
    size_t count;
    attribute items[]; /* the texts are behind them */
};

typedef enum filter_op {
    OP_EQ,
    OP_NE,
    OP_GT,
    OP_GTE,
    OP_LT,
    OP_LTE,
    OP_IN,
    OP_NIN,
    OP_AND,
    OP_OR,
    OP_COUNT
} filter_op;

static const char *const op_names[OP_COUNT] = { "eq",  "ne", "gt",  "gte", "lt",
                                                "lte", "in", "nin", "and", "or" };

typedef struct node {
    filter_op op;
    size_t end; /* behind its last descendant; they come right after it */
    const char *key;
    value value;
    const json_t *values; /* OP_IN, OP_NIN */
} node;

struct filter {
    size_t count;
    node nodes[FILTER_NODES_MAX];
};

static value value_of(const json_t *json)
{
    if (json_is_string(json))
        return (value){ VALUE_TEXT, 0, json_string_value(json) };
    if (json_is_number(json))
        return (value){ VALUE_NUMBER, json_number_value(json), NULL };
    if (json_is_boolean(json))
        return (value){ VALUE_BOOL, json_is_true(json), NULL };
    return (value){ VALUE_OTHER, 0, NULL };
}

/* ---- attributes ---------------------------------------------------------------------------- */

static const char *put_text(char **at, const char *text)
{
    size_t n = strlen(text) + 1;
    char *to = *at;

    memcpy(to, text, n);
    *at += n;
    return to;
}

sl_status attribute_list_create(const json_t *object, attribute_list **ret, sl_err *err)
{
    size_t count = 0, bytes = 0;
    const char *key;
    json_t *item;
    attribute_list *l;
    char *text;

    json_object_foreach((json_t *)object, key, item)
    {
        value v = value_of(item);

        count += v.kind != VALUE_OTHER;
        bytes += strlen(key) + 1 + (v.text ? strlen(v.text) + 1 : 0);
    }
    *ret = NULL;
    if (count == 0)
        return SL_OK;
    l = sl_malloc(sizeof *l + count * sizeof *l->items + bytes);
    if (!l)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    l->count = 0;
    text = (char *)&l->items[count];
    json_object_foreach((json_t *)object, key, item)
    {
        value v = value_of(item);

        if (v.kind == VALUE_OTHER)
            continue;
        v.text = v.text ? put_text(&text, v.text) : NULL;
        l->items[l->count++] = (attribute){ put_text(&text, key), v };
    }
    *ret = l;
    return SL_OK;
}

static const value *find(const attribute_list *l, const char *key)
{
    for (size_t i = 0; l && i < l->count; i++)
        if (strcmp(l->items[i].key, key) == 0)
            return &l->items[i].value;
    return NULL;
}

/* ---- compiling ----------------------------------------------------------------------------- */

static sl_status compile(filter *f, const json_t *json, int depth, sl_err *err);

static sl_status compile_group(filter *f, node *n, const json_t *json, int depth, sl_err *err)
{
    const json_t *list = json_object_get(json, "filters"), *item;
    size_t i;

    if (!json_is_array(list) || json_array_size(list) == 0)
        return sl_fail(err, SL_EINVAL, "a filter of type '%s' needs an array 'filters'",
                       op_names[n->op]);
    json_array_foreach((json_t *)list, i, item) SL_TRY(compile(f, item, depth + 1, err));
    return SL_OK;
}

static sl_status compile_comparison(node *n, const json_t *json, sl_err *err)
{
    const json_t *v = json_object_get(json, "value"), *item;
    size_t i;

    n->key = json_string_value(json_object_get(json, "key"));
    if (!n->key)
        return sl_fail(err, SL_EINVAL, "a filter of type '%s' needs a text 'key'", op_names[n->op]);
    if (n->op != OP_IN && n->op != OP_NIN) {
        n->value = value_of(v);
        return n->value.kind == VALUE_OTHER
                   ? sl_fail(err, SL_EINVAL,
                             "the value of the filter over '%s' is no text, number or boolean",
                             n->key)
                   : SL_OK;
    }
    if (!json_is_array(v))
        return sl_fail(err, SL_EINVAL, "the value of the filter over '%s' is no array", n->key);
    json_array_foreach((json_t *)v, i, item) if (value_of(item).kind == VALUE_OTHER) return sl_fail(
        err, SL_EINVAL, "value %zu of the filter over '%s' is no text, number or boolean", i,
        n->key);
    n->values = v;
    return SL_OK;
}

static sl_status compile(filter *f, const json_t *json, int depth, sl_err *err)
{
    const char *type = json_string_value(json_object_get(json, "type"));
    size_t op = 0, at = f->count;
    node *n = &f->nodes[at];
    sl_status status;

    if (!json_is_object(json) || !type)
        return sl_fail(err, SL_EINVAL, "a filter is an object with a text 'type'");
    while (op < OP_COUNT && strcmp(op_names[op], type) != 0)
        op++;
    if (op == OP_COUNT)
        return sl_fail(err, SL_EINVAL,
                       "filters have the types eq, ne, gt, gte, lt, lte, in, nin, and, or");
    if (at == FILTER_NODES_MAX || depth > FILTER_DEPTH_MAX)
        return sl_fail(err, SL_ELIMIT, "the filter is larger than %d parts or deeper than %d",
                       FILTER_NODES_MAX, FILTER_DEPTH_MAX);
    f->count++;
    *n = (node){ .op = (filter_op)op };
    status = op == OP_AND || op == OP_OR ? compile_group(f, n, json, depth, err)
                                         : compile_comparison(n, json, err);
    n->end = f->count;
    return status;
}

sl_status filter_compile(const json_t *json, filter **ret, sl_err *err)
{
    filter *f;
    sl_status status;

    *ret = NULL;
    if (!json || json_is_null(json))
        return SL_OK;
    f = sl_calloc(1, sizeof *f);
    if (!f)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    status = compile(f, json, 0, err);
    if (status == SL_OK)
        *ret = f;
    else
        sl_free(f);
    return status;
}

void filter_destroy(filter *f)
{
    sl_free(f);
}

/* ---- matching ------------------------------------------------------------------------------ */

/* -1, 0, 1; 2 when they cannot be compared. */
static int compare(const value *a, const value *b)
{
    if (!a || a->kind != b->kind)
        return 2;
    if (a->kind == VALUE_TEXT) {
        int c = strcmp(a->text, b->text);

        return (c > 0) - (c < 0);
    }
    return (a->number > b->number) - (a->number < b->number);
}

static bool is_in(const value *v, const json_t *values)
{
    const json_t *item;
    size_t i;

    json_array_foreach((json_t *)values, i, item)
    {
        value w = value_of(item);

        if (compare(v, &w) == 0)
            return true;
    }
    return false;
}

static bool matches_one(const node *n, const attribute_list *l)
{
    const value *v = find(l, n->key);
    int c = n->values ? 2 : compare(v, &n->value);
    bool has_order = v && v->kind != VALUE_BOOL && c != 2;

    switch (n->op) {
    case OP_EQ:
        return c == 0;
    case OP_NE:
        return c != 0;
    case OP_GT:
        return has_order && c > 0;
    case OP_GTE:
        return has_order && c >= 0;
    case OP_LT:
        return has_order && c < 0;
    case OP_LTE:
        return has_order && c <= 0;
    case OP_IN:
        return is_in(v, n->values);
    default:
        return !is_in(v, n->values);
    }
}

static bool matches(const filter *f, size_t at, const attribute_list *l)
{
    const node *n = &f->nodes[at];
    bool is_or = n->op == OP_OR;

    if (n->op != OP_AND && !is_or)
        return matches_one(n, l);
    for (size_t i = at + 1; i < n->end; i = f->nodes[i].end)
        if (matches(f, i, l) == is_or)
            return is_or;
    return !is_or;
}

bool filter_matches(const filter *f, const attribute_list *attributes)
{
    return !f || matches(f, 0, attributes);
}
