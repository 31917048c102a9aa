/* jinja_value.c - values of templates: making, comparing and printing them as Python does. */
#include <stdarg.h>
#include <stdio.h>

#include "token/jinja_int.h"

void j_fail(jctx *c, sl_status st, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->status = sl_fail(c->err, st, "%s (template line %d)", text, c->line);
    longjmp(c->out_of, 1);
}

void *j_alloc(jctx *c, size_t n)
{
    void *p = sl_arena_alloc(&c->arena, n ? n : 1);

    if (!p && (n > c->arena.max_bytes || c->arena.used_bytes > c->arena.max_bytes - n - 16))
        j_fail(c, SL_ELIMIT, "the template needs too much memory");
    if (!p)
        j_fail(c, SL_ENOMEM, "no memory to render the template");
    return p;
}

void j_step(jctx *c)
{
    if (++c->steps > c->steps_max)
        j_fail(c, SL_ELIMIT, "the template takes too many steps");
}

void j_work(jctx *c, size_t bytes)
{
    c->steps += (int64_t)(bytes / 256);
    j_step(c);
}

/* Makes room for len more bytes. A text that ends at the tail of the arena grows in place. */
static void room(jctx *c, jtext *t, size_t len)
{
    size_t cap;
    char *p;

    if (len > SL_TEMPLATE_OUTPUT_BYTES_MAX || t->len + len > SL_TEMPLATE_OUTPUT_BYTES_MAX)
        j_fail(c, SL_ELIMIT, "the template writes too much");
    if (t->len + len <= t->cap)
        return;
    cap = SL_MAX(t->cap * 2, t->len + len + 32);
    p = j_alloc(c, cap);
    if (t->len)
        memcpy(p, t->p, t->len);
    t->p = p;
    t->cap = cap;
}

void jt_put(jctx *c, jtext *t, const char *s, size_t len)
{
    room(c, t, len);
    if (len)
        memcpy(t->p + t->len, s, len);
    t->len += len;
}

void jt_puts(jctx *c, jtext *t, const char *s)
{
    jt_put(c, t, s, strlen(s));
}

void jt_fill(jctx *c, jtext *t, const char *s, size_t len, int64_t times)
{
    size_t bytes;

    if (times <= 0 || !len)
        return;
    if (!sl_mul(len, (size_t)times, &bytes))
        bytes = SIZE_MAX;
    room(c, t, bytes);
    j_work(c, bytes);
    for (int64_t i = 0; i < times; i++)
        jt_put(c, t, s, len);
}

jval jt_val(jtext *t)
{
    return j_str(t->p ? t->p : "", t->len);
}

jval j_str(const char *s, size_t len)
{
    jval v = { .type = J_STR };

    v.s = s;
    v.len = len;
    return v;
}

jval j_strz(const char *s)
{
    return j_str(s, strlen(s));
}

jval j_int(int64_t i)
{
    return (jval){ .type = J_INT, .i = i };
}

jval j_bool(bool b)
{
    return (jval){ .type = J_BOOL, .b = b };
}

jval j_float(double f)
{
    return (jval){ .type = J_FLOAT, .f = f };
}

jval j_none(void)
{
    return (jval){ .type = J_NONE };
}

jval j_undef(const char *n, size_t len)
{
    jval v = j_str(n, len);

    v.type = J_UNDEF;
    return v;
}

bool j_is(jval v, const char *t)
{
    return v.len == strlen(t) && !memcmp(v.s, t, v.len);
}

bool j_one_of(jval n, const char *names)
{
    char key[40] = " ";

    if (n.len > 30 || !n.len || memchr(n.s, ' ', n.len))
        return false;
    memcpy(key + 1, n.s, n.len);
    key[n.len + 1] = ' ';
    return strstr(names, key) != NULL;
}

jval j_list(jctx *c, jtype type)
{
    jval v = { .type = type };

    v.list = j_alloc(c, sizeof(jlist));
    return v;
}

jval j_iter(jctx *c, jval list, const char *kind)
{
    jval v = { .type = kind ? J_VIEW : J_ITER };

    v.iter = j_alloc(c, sizeof(jiter));
    *v.iter = (jiter){ .list = list.list, .kind = kind };
    return v;
}

jval j_pair(jctx *c, jval a, jval b)
{
    jval v = j_list(c, J_TUPLE);

    j_push(c, v, a);
    j_push(c, v, b);
    return v;
}

void j_push(jctx *c, jval v, jval item)
{
    jlist *l = v.list;

    j_step(c);
    if (l->count == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 4;
        jval *p = j_alloc(c, cap * sizeof *p);
        if (l->count)
            memcpy(p, l->items, l->count * sizeof *p);
        l->items = p;
        l->cap = cap;
    }
    l->items[l->count++] = item;
}

jval j_dict(jctx *c)
{
    jval v = { .type = J_DICT };

    v.dict = j_alloc(c, sizeof(jdict));
    return v;
}

static bool key_eq(jval a, jval b, int depth)
{
    if (j_is_num(a) && j_is_num(b))
        return j_is_int(a) && j_is_int(b) ? j_intval(a) == j_intval(b) : j_num(a) == j_num(b);
    if (a.type != b.type)
        return false;
    if (a.type == J_STR)
        return a.len == b.len && !memcmp(a.s, b.s, a.len);
    if (a.type == J_TUPLE && depth < 8) {
        bool same = a.list->count == b.list->count;
        for (size_t i = 0; same && i < a.list->count; i++)
            same = key_eq(a.list->items[i], b.list->items[i], depth + 1);
        return same;
    }
    return a.type == J_NONE || a.type == J_UNDEF || a.dict == b.dict;
}

bool j_hashable(jval v)
{
    bool ok = v.type != J_LIST && v.type != J_DICT && v.type != J_VIEW;

    for (size_t i = 0; v.type == J_TUPLE && ok && i < v.list->count; i++)
        ok = v.list->items[i].type != J_LIST && v.list->items[i].type != J_DICT;
    return ok;
}

jval *j_get(const jdict *d, jval key)
{
    for (size_t i = 0; i < d->count; i++)
        if (key_eq(d->items[i].key, key, 0))
            return &d->items[i].value;
    return NULL;
}

void j_put(jctx *c, jdict *d, jval key, jval value)
{
    jval *old = j_get(d, key);

    c->steps += (int64_t)d->count / 8;
    j_step(c);
    if (!j_hashable(key))
        j_fail(c, SL_EINVAL, "unhashable type: '%s'", j_type_name(key));
    if (old) {
        *old = value;
        return;
    }
    if (d->count == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 4;
        jpair *p = j_alloc(c, cap * sizeof *p);
        if (d->count)
            memcpy(p, d->items, d->count * sizeof *p);
        d->items = p;
        d->cap = cap;
    }
    d->items[d->count++] = (jpair){ key, value };
}

/* A member of a JSON object: names are unique there, so nothing is looked up. */
static void put_member(jctx *c, jdict *d, size_t count, const char *key, jval value)
{
    if (!d->items) {
        d->items = j_alloc(c, count * sizeof *d->items);
        d->cap = count;
    }
    d->items[d->count++] = (jpair){ j_strz(key), value };
}

jval j_from_json(jctx *c, const json_t *j)
{
    const char *k;
    json_t *e;
    size_t i;
    jval v;

    if (++c->depth > SL_TEMPLATE_DEPTH_MAX)
        j_fail(c, SL_ELIMIT, "values nested too deep");
    j_step(c);
    switch (j ? json_typeof(j) : JSON_NULL) {
    case JSON_OBJECT:
        v = j_dict(c);
        json_object_foreach((json_t *)j, k, e)
            put_member(c, v.dict, json_object_size(j), k, j_from_json(c, e));
        break;
    case JSON_ARRAY:
        v = j_list(c, J_LIST);
        json_array_foreach(j, i, e) j_push(c, v, j_from_json(c, e));
        break;
    case JSON_STRING:
        v = j_str(json_string_value(j), json_string_length(j));
        break;
    case JSON_INTEGER:
        v = j_int(json_integer_value(j));
        break;
    case JSON_REAL:
        v = j_float(json_real_value(j));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        v = j_bool(json_is_true(j));
        break;
    case JSON_NULL:
    default:
        v = j_none();
        break;
    }
    c->depth--;
    return v;
}

bool j_true(jval v)
{
    switch (v.type) {
    case J_UNDEF:
    case J_NONE:
        return false;
    case J_BOOL:
        return v.b;
    case J_INT:
        return v.i != 0;
    case J_FLOAT:
        return v.f != 0;
    case J_STR:
        return v.len != 0;
    case J_LIST:
    case J_TUPLE:
        return v.list->count != 0;
    case J_DICT:
        return v.dict->count != 0;
    case J_RANGE:
        return v.range->count != 0;
    case J_VIEW:
        return v.iter->list->count != 0;
    default:
        return true;
    }
}

bool j_is_num(jval v)
{
    return v.type == J_INT || v.type == J_FLOAT || v.type == J_BOOL;
}

bool j_is_int(jval v)
{
    return v.type == J_INT || v.type == J_BOOL;
}

int64_t j_intval(jval v)
{
    return v.type == J_BOOL ? v.b : v.i;
}

double j_num(jval v)
{
    return v.type == J_FLOAT ? v.f : (double)j_intval(v);
}

static bool eq_lists(jctx *c, const jlist *a, const jlist *b)
{
    bool same = a->count == b->count;

    for (size_t i = 0; same && i < a->count; i++)
        same = j_eq(c, a->items[i], b->items[i]);
    return same;
}

static bool eq_dicts(jctx *c, const jdict *a, const jdict *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const jval *v = j_get(b, a->items[i].key);

        c->steps += (int64_t)i / 8;
        if (!v || !j_eq(c, a->items[i].value, *v))
            return false;
    }
    return true;
}

bool j_eq(jctx *c, jval a, jval b)
{
    bool same;

    j_step(c);
    if (j_is_num(a) && j_is_num(b))
        return key_eq(a, b, 0);
    if (a.type != b.type)
        return false;
    if (++c->depth > SL_TEMPLATE_DEPTH_MAX)
        j_fail(c, SL_ELIMIT, "values nested too deep");
    switch (a.type) {
    case J_STR:
        j_work(c, a.len);
        same = a.len == b.len && !memcmp(a.s, b.s, a.len);
        break;
    case J_LIST:
    case J_TUPLE:
        same = eq_lists(c, a.list, b.list);
        break;
    case J_DICT:
        same = eq_dicts(c, a.dict, b.dict);
        break;
    case J_RANGE:
        same = a.range->count == b.range->count &&
               (!a.range->count || (a.range->start == b.range->start &&
                                    (a.range->count == 1 || a.range->step == b.range->step)));
        break;
    case J_VIEW:
        same = eq_lists(c, a.iter->list, b.iter->list);
        break;
    case J_UNDEF:
    case J_NONE:
        same = true;
        break;
    case J_GLOBAL:
        same = a.len == b.len && !memcmp(a.s, b.s, a.len);
        break;
    default:
        same = a.dict == b.dict;
        break;
    }
    c->depth--;
    return same;
}

int j_cmp(jctx *c, jval a, jval b, const char *op)
{
    j_step(c);
    if (j_is_num(a) && j_is_num(b)) {
        double x = j_num(a), y = j_num(b);
        if (j_is_int(a) && j_is_int(b))
            return j_intval(a) < j_intval(b) ? -1 : j_intval(a) > j_intval(b);
        if (x != x || y != y)
            return 2; /* not a number: no relation holds */
        return x < y ? -1 : x > y;
    }
    if (a.type == J_STR && b.type == J_STR) {
        int r = memcmp(a.s, b.s, SL_MIN(a.len, b.len));
        j_work(c, a.len);
        return r ? (r < 0 ? -1 : 1) : a.len < b.len ? -1 : a.len > b.len;
    }
    if (a.type == b.type && (a.type == J_LIST || a.type == J_TUPLE)) {
        for (size_t i = 0; i < a.list->count && i < b.list->count; i++) {
            if (j_eq(c, a.list->items[i], b.list->items[i]))
                continue;
            if (++c->depth > SL_TEMPLATE_DEPTH_MAX)
                j_fail(c, SL_ELIMIT, "values nested too deep");
            int r = j_cmp(c, a.list->items[i], b.list->items[i], op);
            c->depth--;
            return r;
        }
        return a.list->count < b.list->count ? -1 : a.list->count > b.list->count;
    }
    if (a.type == J_UNDEF || b.type == J_UNDEF)
        j_fail(c, SL_EINVAL, "'%.*s' is undefined",
               (int)SL_MIN((a.type == J_UNDEF ? a : b).len, 80u), (a.type == J_UNDEF ? a : b).s);
    j_fail(c, SL_EINVAL, "'%s' not supported between instances of '%s' and '%s'", op,
           j_type_name(a), j_type_name(b));
}

const char *j_type_name(jval v)
{
    static const char *const n[] = { "Undefined", "NoneType",    "bool",      "int",   "float",
                                     "str",       "list",        "tuple",     "dict",  "range",
                                     "dict view", "generator",   "Namespace", "Macro", "method",
                                     "function",  "LoopContext", "Cycler",    "Joiner" };
    return n[v.type];
}

jval j_chars(jctx *c, jval s)
{
    jval l = j_list(c, J_LIST);
    uint32_t cp;

    for (size_t i = 0, n; i < s.len; i += n) {
        n = jx_next(s.s + i, s.len - i, &cp);
        j_push(c, l, j_str(s.s + i, n));
    }
    return l;
}

bool j_iterable(jval v)
{
    switch (v.type) {
    case J_STR:
    case J_LIST:
    case J_TUPLE:
    case J_DICT:
    case J_RANGE:
    case J_VIEW:
    case J_ITER:
    case J_UNDEF:
    case J_LOOP:
        return true;
    default:
        return false;
    }
}

jval j_nth(jval v, size_t at)
{
    if (v.type == J_RANGE)
        return j_int(v.range->start + (int64_t)at * v.range->step);
    return v.list->items[at];
}

jval j_seq(jctx *c, jval v, size_t *ret_count)
{
    if (v.type != J_RANGE)
        v = j_items(c, v);
    *ret_count = v.type == J_RANGE ? (size_t)v.range->count : v.list->count;
    return v;
}

jval j_items(jctx *c, jval v)
{
    jval l;

    switch (v.type) {
    case J_LIST:
    case J_TUPLE:
        return v;
    case J_LOOP:
        l = j_list(c, J_LIST);
        for (size_t i = v.loop->at + 1; i < v.loop->count; i++)
            j_push(c, l, j_nth(v.loop->items, i));
        return l;
    case J_STR:
        return j_chars(c, v);
    case J_UNDEF:
        return j_list(c, J_LIST);
    case J_DICT:
        l = j_list(c, J_LIST);
        for (size_t i = 0; i < v.dict->count; i++)
            j_push(c, l, v.dict->items[i].key);
        return l;
    case J_RANGE:
        l = j_list(c, J_LIST);
        for (int64_t i = 0; i < v.range->count; i++)
            j_push(c, l, j_nth(v, (size_t)i));
        return l;
    case J_VIEW:
    case J_ITER:
        l = j_list(c, J_LIST);
        for (size_t i = v.iter->at; i < v.iter->list->count; i++)
            j_push(c, l, v.iter->list->items[i]);
        if (v.type == J_ITER)
            v.iter->at = v.iter->list->count;
        return l;
    default:
        j_fail(c, SL_EINVAL, "'%s' object is not iterable", j_type_name(v));
    }
}

int64_t j_len(jctx *c, jval v)
{
    switch (v.type) {
    case J_DICT:
        return (int64_t)v.dict->count;
    case J_STR:
        j_work(c, v.len);
        return (int64_t)jx_count(v);
    case J_RANGE:
        return v.range->count;
    case J_VIEW:
        return (int64_t)v.iter->list->count;
    case J_LIST:
    case J_TUPLE:
        return (int64_t)v.list->count;
    case J_UNDEF:
        return 0;
    case J_LOOP:
        return (int64_t)v.loop->count;
    default:
        j_fail(c, SL_EINVAL, "object of type '%s' has no len()", j_type_name(v));
    }
}

bool j_in(jctx *c, jval item, jval box)
{
    size_t count;

    if (box.type == J_STR) {
        if (item.type != J_STR)
            j_fail(c, SL_EINVAL, "'in <string>' requires string as left operand, not %s",
                   j_type_name(item));
        j_work(c, box.len);
        return !item.len || memmem(box.s, box.len, item.s, item.len);
    }
    if (box.type == J_DICT) {
        c->steps += (int64_t)box.dict->count / 8;
        if (!j_hashable(item))
            j_fail(c, SL_EINVAL, "unhashable type: '%s'", j_type_name(item));
        return j_get(box.dict, item) != NULL;
    }
    box = j_seq(c, box, &count);
    for (size_t i = 0; i < count; i++)
        if (j_eq(c, j_nth(box, i), item))
            return true;
    return false;
}
