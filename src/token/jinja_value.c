/* jinja_value.c - values of templates: making, comparing and printing them as Python does. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

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

    if (!p)
        j_fail(c, SL_ELIMIT, "the template needs too much memory");
    return p;
}

void j_step(jctx *c)
{
    if (++c->steps > SL_TEMPLATE_STEPS_MAX)
        j_fail(c, SL_ELIMIT, "the template takes too many steps");
}

void jt_put(jctx *c, jtext *t, const char *s, size_t len)
{
    if (t->len + len > SL_TEMPLATE_OUTPUT_BYTES_MAX)
        j_fail(c, SL_ELIMIT, "the template writes too much");
    if (t->len + len > t->cap) {
        size_t cap = SL_MAX(t->cap * 2, t->len + len + 64);
        char *p = j_alloc(c, cap);
        if (t->len)
            memcpy(p, t->p, t->len);
        t->p = p;
        t->cap = cap;
    }
    if (len)
        memcpy(t->p + t->len, s, len);
    t->len += len;
}

void jt_puts(jctx *c, jtext *t, const char *s) { jt_put(c, t, s, strlen(s)); }
jval jt_val(jctx *c, jtext *t) { (void)c; return j_str(t->p ? t->p : "", t->len); }
jval j_str(const char *s, size_t len) { jval v = { .type = J_STR }; v.s = s; v.len = len; return v; }
jval j_strz(const char *s) { return j_str(s, strlen(s)); }
jval j_int(int64_t i) { return (jval){ .type = J_INT, .i = i }; }
jval j_bool(bool b) { return (jval){ .type = J_BOOL, .b = b }; }
jval j_float(double f) { return (jval){ .type = J_FLOAT, .f = f }; }
jval j_none(void) { return (jval){ .type = J_NONE }; }
jval j_undef(const char *n, size_t len) { jval v = j_str(n, len); v.type = J_UNDEF; return v; }
bool j_is(jval v, const char *t) { return v.len == strlen(t) && !memcmp(v.s, t, v.len); }

jval j_list(jctx *c, jtype type)
{
    jval v = { .type = type };

    v.list = j_alloc(c, sizeof(jlist));
    return v;
}

void j_push(jctx *c, jval v, jval item)
{
    jlist *l = v.list;

    j_step(c);
    if (l->count == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 8;
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

jval *j_get(const jdict *d, jval key)
{
    for (size_t i = 0; i < d->count; i++) {
        jval k = d->items[i].key;
        if (k.type == key.type && (k.type == J_STR ? k.len == key.len && !memcmp(k.s, key.s, k.len)
                                   : k.type == J_INT ? k.i == key.i
                                   : k.type == J_BOOL ? k.b == key.b : k.type == J_NONE))
            return &d->items[i].value;
    }
    return NULL;
}

void j_put(jctx *c, jdict *d, jval key, jval value)
{
    jval *old = j_get(d, key);

    c->steps += (int64_t)d->count / 8;
    j_step(c);
    if (old) {
        *old = value;
        return;
    }
    if (d->count == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 8;
        jpair *p = j_alloc(c, cap * sizeof *p);
        if (d->count)
            memcpy(p, d->items, d->count * sizeof *p);
        d->items = p;
        d->cap = cap;
    }
    d->items[d->count++] = (jpair){ key, value };
}

jval j_from_json(jctx *c, const json_t *j)
{
    const char *k;
    json_t *e;
    size_t i;
    jval v;

    if (++c->depth > SL_TEMPLATE_DEPTH_MAX)
        j_fail(c, SL_ELIMIT, "values nested too deep");
    switch (j ? json_typeof(j) : JSON_NULL) {
    case JSON_OBJECT:
        v = j_dict(c);
        json_object_foreach((json_t *)j, k, e)
            j_put(c, v.dict, j_strz(k), j_from_json(c, e));
        break;
    case JSON_ARRAY:
        v = j_list(c, J_LIST);
        json_array_foreach(j, i, e)
            j_push(c, v, j_from_json(c, e));
        break;
    case JSON_STRING: v = j_str(json_string_value(j), json_string_length(j)); break;
    case JSON_INTEGER: v = j_int(json_integer_value(j)); break;
    case JSON_REAL: v = j_float(json_real_value(j)); break;
    case JSON_TRUE: v = j_bool(true); break;
    case JSON_FALSE: v = j_bool(false); break;
    default: v = j_none(); break;
    }
    c->depth--;
    return v;
}

bool j_true(jval v)
{
    switch (v.type) {
    case J_UNDEF: case J_NONE: return false;
    case J_BOOL: return v.b;
    case J_INT: return v.i != 0;
    case J_FLOAT: return v.f != 0;
    case J_STR: return v.len != 0;
    case J_LIST: case J_TUPLE: return v.list->count != 0;
    case J_DICT: return v.dict->count != 0;
    default: return true;
    }
}

static bool is_num(jval v) { return v.type == J_INT || v.type == J_FLOAT || v.type == J_BOOL; }
static double num(jval v) { return v.type == J_FLOAT ? v.f : v.type == J_BOOL ? v.b : (double)v.i; }

bool j_eq(jctx *c, jval a, jval b)
{
    j_step(c);
    if (is_num(a) && is_num(b))
        return a.type == J_INT && b.type == J_INT ? a.i == b.i : num(a) == num(b);
    if (a.type != b.type)
        return false;
    switch (a.type) {
    case J_STR: return a.len == b.len && !memcmp(a.s, b.s, a.len);
    case J_LIST: case J_TUPLE:
        if (a.list->count != b.list->count)
            return false;
        for (size_t i = 0; i < a.list->count; i++)
            if (!j_eq(c, a.list->items[i], b.list->items[i]))
                return false;
        return true;
    case J_DICT:
        if (a.dict->count != b.dict->count)
            return false;
        for (size_t i = 0; i < a.dict->count; i++) {
            jval *v = j_get(b.dict, a.dict->items[i].key);
            if (!v || !j_eq(c, a.dict->items[i].value, *v))
                return false;
        }
        return true;
    case J_UNDEF: case J_NONE: return true;
    default: return a.dict == b.dict;
    }
}

int j_cmp(jctx *c, jval a, jval b, const char *op)
{
    if (is_num(a) && is_num(b)) {
        double x = num(a), y = num(b);
        if (a.type == J_INT && b.type == J_INT)
            return a.i < b.i ? -1 : a.i > b.i;
        return x < y ? -1 : x > y;
    }
    if (a.type == J_STR && b.type == J_STR) {
        int r = memcmp(a.s, b.s, SL_MIN(a.len, b.len));
        return r ? r : a.len < b.len ? -1 : a.len > b.len;
    }
    if (a.type == b.type && (a.type == J_LIST || a.type == J_TUPLE)) {
        for (size_t i = 0; i < a.list->count && i < b.list->count; i++)
            if (!j_eq(c, a.list->items[i], b.list->items[i]))
                return j_cmp(c, a.list->items[i], b.list->items[i], op);
        return a.list->count < b.list->count ? -1 : a.list->count > b.list->count;
    }
    j_fail(c, SL_EINVAL, "'%s' not supported between '%s' and '%s'", op, j_type_name(a), j_type_name(b));
}

const char *j_type_name(jval v)
{
    static const char *const n[] = { "Undefined", "NoneType", "bool", "int", "float", "str", "list", "tuple", "dict", "Namespace", "Macro", "method", "function", "LoopContext" };
    return n[v.type];
}

static void put_float(jctx *c, jtext *t, double f)
{
    char b[64];

    if (isnan(f) || isinf(f)) {
        jt_puts(c, t, isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    for (int p = 1; p <= 17; p++) {
        snprintf(b, sizeof b, "%.*e", p - 1, f);
        if (strtod(b, NULL) == f) {
            int e = atoi(strchr(b, 'e') + 1);
            if (e >= -4 && e < 16)
                snprintf(b, sizeof b, "%.*f", SL_MAX(p - 1 - e, 1), f);
            else
                snprintf(b, sizeof b, "%.*e", p - 1, f);
            break;
        }
    }
    jt_puts(c, t, b);
}

static void put_quoted(jctx *c, jtext *t, jval v)
{
    char q = memchr(v.s, '\'', v.len) && !memchr(v.s, '"', v.len) ? '"' : '\'';

    jt_put(c, t, &q, 1);
    for (size_t i = 0; i < v.len; i++) {
        char ch = v.s[i], b[8];
        if (ch == q || ch == '\\') {
            jt_puts(c, t, "\\");
            jt_put(c, t, &ch, 1);
        } else if (ch == '\n' || ch == '\r' || ch == '\t') {
            jt_puts(c, t, ch == '\n' ? "\\n" : ch == '\r' ? "\\r" : "\\t");
        } else if ((uint8_t)ch < 32 || ch == 127) {
            snprintf(b, sizeof b, "\\x%02x", ch);
            jt_puts(c, t, b);
        } else {
            jt_put(c, t, &ch, 1);
        }
    }
    jt_put(c, t, &q, 1);
}

void j_repr(jctx *c, jtext *t, jval v)
{
    j_step(c);
    if (v.type == J_STR) {
        put_quoted(c, t, v);
        return;
    }
    if (++c->depth > SL_TEMPLATE_DEPTH_MAX)
        j_fail(c, SL_ELIMIT, "values nested too deep");
    if (v.type == J_LIST || v.type == J_TUPLE) {
        jt_puts(c, t, v.type == J_LIST ? "[" : "(");
        for (size_t i = 0; i < v.list->count; i++) {
            if (i)
                jt_puts(c, t, ", ");
            j_repr(c, t, v.list->items[i]);
        }
        jt_puts(c, t, v.type == J_LIST ? "]" : v.list->count == 1 ? ",)" : ")");
    } else if (v.type == J_DICT) {
        jt_puts(c, t, "{");
        for (size_t i = 0; i < v.dict->count; i++) {
            if (i)
                jt_puts(c, t, ", ");
            j_repr(c, t, v.dict->items[i].key);
            jt_puts(c, t, ": ");
            j_repr(c, t, v.dict->items[i].value);
        }
        jt_puts(c, t, "}");
    } else if (v.type == J_UNDEF) {
        jt_puts(c, t, "Undefined");
    } else {
        j_print(c, t, v);
    }
    c->depth--;
}

void j_print(jctx *c, jtext *t, jval v)
{
    char b[32];

    switch (v.type) {
    case J_UNDEF: return;
    case J_NONE: jt_puts(c, t, "None"); return;
    case J_BOOL: jt_puts(c, t, v.b ? "True" : "False"); return;
    case J_INT: snprintf(b, sizeof b, "%lld", (long long)v.i); jt_puts(c, t, b); return;
    case J_FLOAT: put_float(c, t, v.f); return;
    case J_STR: jt_put(c, t, v.s, v.len); return;
    case J_LIST: case J_TUPLE: case J_DICT: j_repr(c, t, v); return;
    default: jt_puts(c, t, "<"); jt_puts(c, t, j_type_name(v)); jt_puts(c, t, ">");
    }
}

jval j_tostr(jctx *c, jval v)
{
    jtext t = { 0 };

    if (v.type == J_STR)
        return v;
    j_print(c, &t, v);
    return jt_val(c, &t);
}

static void json_str(jctx *c, jtext *t, jval v)
{
    char b[8];

    jt_puts(c, t, "\"");
    for (size_t i = 0; i < v.len; i++) {
        uint8_t ch = (uint8_t)v.s[i];
        const char *k = ch ? strchr("\"\\\n\r\t\b\f", ch) : NULL;
        if (k) {
            b[0] = '\\';
            b[1] = ch == '"' ? '"' : ch == '\\' ? '\\' : ch == '\n' ? 'n' : ch == '\r' ? 'r' : ch == '\t' ? 't' : ch == '\b' ? 'b' : 'f';
            jt_put(c, t, b, 2);
        } else if (ch < 32) {
            snprintf(b, sizeof b, "\\u%04x", ch);
            jt_puts(c, t, b);
        } else {
            jt_put(c, t, v.s + i, 1);
        }
    }
    jt_puts(c, t, "\"");
}

static void json_gap(jctx *c, jtext *t, jval indent, int level)
{
    if (indent.type == J_NONE || indent.type == J_UNDEF)
        return;
    jt_puts(c, t, "\n");
    for (int64_t i = 0; i < (int64_t)level * (indent.type == J_INT ? SL_MIN(indent.i, 64) : 1); i++)
        jt_puts(c, t, indent.type == J_STR ? "\t" : " ");
}

void j_json(jctx *c, jtext *t, jval v, jval indent, jval is, jval ks, bool sort, bool ascii, int level)
{
    j_step(c);
    if (level > SL_TEMPLATE_DEPTH_MAX)
        j_fail(c, SL_ELIMIT, "values nested too deep");
    if (v.type == J_LIST || v.type == J_TUPLE || v.type == J_DICT) {
        bool d = v.type == J_DICT;
        size_t n = d ? v.dict->count : v.list->count;
        jval keys = j_list(c, J_LIST);
        for (size_t i = 0; d && i < n; i++)
            j_push(c, keys, v.dict->items[i].key);
        if (d && sort)
            j_sort(c, keys, j_none(), false, false);
        jt_puts(c, t, d ? "{" : "[");
        for (size_t i = 0; i < n; i++) {
            if (i)
                j_print(c, t, is);
            json_gap(c, t, indent, level + 1);
            if (d) {
                json_str(c, t, j_tostr(c, keys.list->items[i]));
                j_print(c, t, ks);
            }
            j_json(c, t, d ? *j_get(v.dict, keys.list->items[i]) : v.list->items[i], indent, is, ks, sort, ascii, level + 1);
        }
        if (n)
            json_gap(c, t, indent, level);
        jt_puts(c, t, d ? "}" : "]");
    } else if (v.type == J_STR) {
        json_str(c, t, v);
    } else if (v.type == J_NONE) {
        jt_puts(c, t, "null");
    } else if (v.type == J_BOOL) {
        jt_puts(c, t, v.b ? "true" : "false");
    } else if (v.type == J_INT || v.type == J_FLOAT) {
        j_print(c, t, v);
    } else {
        j_fail(c, SL_EINVAL, "Object of type %s is not JSON serializable", j_type_name(v));
    }
}

jval j_chars(jctx *c, jval s)
{
    jval l = j_list(c, J_LIST);
    uint32_t cp;

    for (size_t i = 0, n; i < s.len; i += n) {
        n = sl_utf8_decode(s.s + i, s.len - i, &cp);
        n = n ? n : 1;
        j_push(c, l, j_str(s.s + i, n));
    }
    return l;
}

jval j_items(jctx *c, jval v)
{
    jval l;

    switch (v.type) {
    case J_LIST: case J_TUPLE: return v;
    case J_LOOP: return v.loop->items;
    case J_STR: return j_chars(c, v);
    case J_UNDEF: return j_list(c, J_LIST);
    case J_DICT:
        l = j_list(c, J_LIST);
        for (size_t i = 0; i < v.dict->count; i++)
            j_push(c, l, v.dict->items[i].key);
        return l;
    default: j_fail(c, SL_EINVAL, "'%s' object is not iterable", j_type_name(v));
    }
}

int64_t j_len(jctx *c, jval v)
{
    if (v.type == J_DICT)
        return (int64_t)v.dict->count;
    return (int64_t)j_items(c, v).list->count;
}

bool j_in(jctx *c, jval item, jval box)
{
    if (box.type == J_STR) {
        if (item.type != J_STR)
            j_fail(c, SL_EINVAL, "'in <string>' requires string as left operand, not %s", j_type_name(item));
        return !item.len || memmem(box.s, box.len, item.s, item.len);
    }
    if (box.type == J_DICT)
        return j_get(box.dict, item) != NULL;
    box = j_items(c, box);
    for (size_t i = 0; i < box.list->count; i++)
        if (j_eq(c, box.list->items[i], item))
            return true;
    return false;
}

jval j_binary(jctx *c, int op, jval a, jval b)
{
    if (op == O_CAT) {
        jtext t = { 0 };
        j_print(c, &t, a);
        j_print(c, &t, b);
        return jt_val(c, &t);
    }
    if (op == O_ADD && a.type == J_STR && b.type == J_STR) {
        jtext t = { 0 };
        jt_put(c, &t, a.s, a.len);
        jt_put(c, &t, b.s, b.len);
        return jt_val(c, &t);
    }
    if (op == O_ADD && a.type == b.type && (a.type == J_LIST || a.type == J_TUPLE)) {
        jval l = j_list(c, a.type);
        for (size_t i = 0; i < a.list->count; i++)
            j_push(c, l, a.list->items[i]);
        for (size_t i = 0; i < b.list->count; i++)
            j_push(c, l, b.list->items[i]);
        return l;
    }
    if (op == O_MUL && b.type == J_STR && a.type == J_INT)
        return j_binary(c, op, b, a);
    if (op == O_MUL && a.type == J_STR && b.type == J_INT) {
        jtext t = { 0 };
        for (int64_t i = 0; i < b.i && a.len; i++) {
            j_step(c);
            jt_put(c, &t, a.s, a.len);
        }
        return jt_val(c, &t);
    }
    if (op == O_MOD && a.type == J_STR)
        return j_filter(c, j_strz("format"), a, &(jargs){ .pos = b.type == J_TUPLE ? b.list->items : &b, .count = b.type == J_TUPLE ? b.list->count : 1 });
    if (!is_num(a) || !is_num(b))
        j_fail(c, SL_EINVAL, "unsupported operand types: '%s' and '%s'", j_type_name(a), j_type_name(b));
    double x = num(a), y = num(b);
    if ((op == O_DIV || op == O_FDIV || op == O_MOD) && y == 0)
        j_fail(c, SL_EINVAL, "division by zero");
    if (a.type == J_FLOAT || b.type == J_FLOAT || op == O_DIV || (op == O_POW && y < 0)) {
        return j_float(op == O_ADD ? x + y : op == O_SUB ? x - y : op == O_MUL ? x * y : op == O_DIV ? x / y : op == O_FDIV ? floor(x / y) : op == O_MOD ? x - y * floor(x / y) : pow(x, y));
    }
    int64_t p = a.type == J_BOOL ? a.b : a.i, q = b.type == J_BOOL ? b.b : b.i, r = 1;
    bool over = false;
    if (op == O_ADD) over = __builtin_add_overflow(p, q, &r);
    else if (op == O_SUB) over = __builtin_sub_overflow(p, q, &r);
    else if (op == O_MUL) over = __builtin_mul_overflow(p, q, &r);
    else if (op == O_POW) for (int64_t i = 0; i < q && !over && i < 64; i++) over = __builtin_mul_overflow(r, p, &r);
    else if (q == -1) { over = op == O_FDIV && __builtin_sub_overflow((int64_t)0, p, &r); if (op == O_MOD) r = 0; }
    else { int64_t m = p % q; if (m && (m < 0) != (q < 0)) m += q; r = op == O_MOD ? m : (p - m) / q; }
    if (over)
        j_fail(c, SL_EINVAL, "integer overflow");
    return j_int(r);
}
