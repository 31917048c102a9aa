/* jinja_op.c - operators, attributes, items and slices, with Python's meaning. */
#include <math.h>

#include "token/jinja_int.h"

SL_NORETURN static void bad_operands(jctx *c, const char *op, jval a, jval b)
{
    jval u = a.type == J_UNDEF ? a : b;

    if (u.type == J_UNDEF)
        j_fail(c, SL_EINVAL, "'%.*s' is undefined", (int)SL_MIN(u.len, 80u), u.s);
    j_fail(c, SL_EINVAL, "unsupported operand type(s) for %s: '%s' and '%s'", op, j_type_name(a),
           j_type_name(b));
}

/* a with b behind it. A string that ends where the last one made here ended grows in place, so
 * that building a text piece by piece costs what its length costs. */
static jval join2(jctx *c, jval a, jval b)
{
    size_t len = a.len + b.len, cap;
    char *p;

    if (len > SL_TEMPLATE_OUTPUT_BYTES_MAX)
        j_fail(c, SL_ELIMIT, "the template writes too much");
    j_work(c, b.len);
    if (!c->tail || a.s + a.len != c->tail || (size_t)(c->tail_end - c->tail) < b.len) {
        cap = len + len / 2 + 64;
        p = j_alloc(c, cap);
        j_work(c, a.len);
        memcpy(p, a.s, a.len);
        a.s = p;
        c->tail = p + a.len;
        c->tail_end = p + cap;
    }
    memcpy(c->tail, b.s, b.len);
    c->tail += b.len;
    return j_str(a.s, len);
}

static jval repeat(jctx *c, jval v, int64_t times)
{
    jtext t = { 0 };
    jval l;

    if (v.type == J_STR) {
        jt_fill(c, &t, v.s, v.len, times);
        return jt_val(&t);
    }
    l = j_list(c, v.type);
    for (int64_t k = 0; k < times && v.list->count; k++)
        for (size_t i = 0; i < v.list->count; i++)
            j_push(c, l, v.list->items[i]);
    return l;
}

static bool is_seq(jval v)
{
    return v.type == J_STR || v.type == J_LIST || v.type == J_TUPLE;
}

static jval add_seq(jctx *c, jval a, jval b)
{
    jval l;

    if (a.type == J_STR) {
        bool safe = a.safe || b.safe;
        if (safe && !a.safe)
            a = jx_escape(c, a);
        if (safe && !b.safe)
            b = jx_escape(c, b);
        l = join2(c, a, b);
        l.safe = safe;
        return l;
    }
    l = j_list(c, a.type);
    for (size_t i = 0; i < a.list->count; i++)
        j_push(c, l, a.list->items[i]);
    for (size_t i = 0; i < b.list->count; i++)
        j_push(c, l, b.list->items[i]);
    return l;
}

static jval float_op(jctx *c, int op, double x, double y)
{
    double m;

    switch (op) {
    case O_ADD:
        return j_float(x + y);
    case O_SUB:
        return j_float(x - y);
    case O_MUL:
        return j_float(x * y);
    case O_POW:
        if (x == 0 && y < 0)
            j_fail(c, SL_EINVAL, "0.0 cannot be raised to a negative power");
        m = pow(x, y);
        if (isinf(m) && !isinf(x) && !isinf(y))
            j_fail(c, SL_EINVAL, "Numerical result out of range");
        return j_float(m);
    default:
        break;
    }
    if (y == 0)
        j_fail(c, SL_EINVAL, "division by zero");
    if (op == O_DIV)
        return j_float(x / y);
    m = fmod(x, y);
    if (m != 0 ? (m < 0) != (y < 0) : 0)
        m += y;
    else if (m == 0)
        m = copysign(0, y);
    if (op == O_MOD)
        return j_float(m);
    double q = (x - m) / y, f = floor(q);
    return j_float(q - f > 0.5 ? f + 1 : q == 0 ? copysign(0, x / y) : f);
}

static bool power(int64_t base, int64_t exp, int64_t *ret)
{
    *ret = 1;
    if (base == 0 || base == 1 || base == -1) {
        *ret = exp == 0 ? 1 : base == -1 && exp % 2 == 0 ? 1 : base;
        return true;
    }
    for (int64_t i = 0; i < exp; i++)
        if (__builtin_mul_overflow(*ret, base, ret))
            return false;
    return true;
}

static jval int_op(jctx *c, int op, int64_t p, int64_t q)
{
    int64_t r = 0, m;
    bool ok = true;

    switch (op) {
    case O_ADD:
        ok = !__builtin_add_overflow(p, q, &r);
        break;
    case O_SUB:
        ok = !__builtin_sub_overflow(p, q, &r);
        break;
    case O_MUL:
        ok = !__builtin_mul_overflow(p, q, &r);
        break;
    case O_POW:
        ok = power(p, q, &r);
        break;
    default:
        if (q == 0)
            j_fail(c, SL_EINVAL, "integer division or modulo by zero");
        if (q == -1) {
            ok = op == O_MOD || !__builtin_sub_overflow((int64_t)0, p, &r);
            break;
        }
        m = p % q;
        r = p / q;
        if (m && (m < 0) != (q < 0)) {
            m += q;
            r--;
        }
        r = op == O_MOD ? m : r;
    }
    if (!ok)
        j_fail(c, SL_EINVAL, "integers of more than 64 bits are not supported");
    return j_int(r);
}

jval j_binary(jctx *c, int op, jval a, jval b)
{
    static const char *const names[] = { "+", "-", "*", "/", "//", "%", "**" };

    j_step(c);
    if (op == O_CAT)
        return join2(c, j_tostr(c, a), j_tostr(c, b));
    if (op == O_ADD && a.type == b.type && is_seq(a))
        return add_seq(c, a, b);
    if (op == O_MUL && is_seq(a) && j_is_int(b))
        return repeat(c, a, j_intval(b));
    if (op == O_MUL && is_seq(b) && j_is_int(a))
        return repeat(c, b, j_intval(a));
    if (op == O_MOD && a.type == J_STR)
        return j_percent(c, a, b, b.type == J_DICT ? b.dict : NULL);
    if (!j_is_num(a) || !j_is_num(b))
        bad_operands(c, names[op], a, b);
    if (a.type == J_FLOAT || b.type == J_FLOAT || op == O_DIV || (op == O_POW && j_num(b) < 0))
        return float_op(c, op, j_num(a), j_num(b));
    return int_op(c, op, j_intval(a), j_intval(b));
}

jval j_negate(jctx *c, int op, jval a)
{
    if (a.type == J_FLOAT)
        return j_float(op == O_NEG ? -a.f : a.f);
    if (!j_is_int(a))
        bad_operands(c, op == O_NEG ? "unary -" : "unary +", a, a);
    return op == O_NEG ? int_op(c, O_SUB, 0, j_intval(a)) : j_int(j_intval(a));
}

bool j_compare(jctx *c, int op, jval a, jval b)
{
    int r;

    switch (op) {
    case O_EQ:
        return j_eq(c, a, b);
    case O_NE:
        return !j_eq(c, a, b);
    case O_LT:
        return j_cmp(c, a, b, "<") == -1;
    case O_LE:
        r = j_cmp(c, a, b, "<=");
        return r == -1 || r == 0;
    case O_GT:
        return j_cmp(c, a, b, ">") == 1;
    case O_GE:
        r = j_cmp(c, a, b, ">=");
        return r == 1 || r == 0;
    default:
        return j_in(c, a, b) == (op == O_IN);
    }
}

static jval loop_attr(jctx *c, jval v, jval name)
{
    const jloop *l = v.loop;
    int64_t n = (int64_t)l->count, i = (int64_t)l->at;

    (void)c;
    if (j_is(name, "index"))
        return j_int(i + 1);
    if (j_is(name, "index0"))
        return j_int(i);
    if (j_is(name, "revindex"))
        return j_int(n - i);
    if (j_is(name, "revindex0"))
        return j_int(n - i - 1);
    if (j_is(name, "first"))
        return j_bool(i == 0);
    if (j_is(name, "last"))
        return j_bool(i == n - 1);
    if (j_is(name, "length"))
        return j_int(n);
    if (j_is(name, "depth"))
        return j_int((int64_t)l->depth + 1);
    if (j_is(name, "depth0"))
        return j_int((int64_t)l->depth);
    if (j_is(name, "previtem") && i > 0)
        return j_nth(l->items, l->at - 1);
    if (j_is(name, "nextitem") && i + 1 < n)
        return j_nth(l->items, l->at + 1);
    return j_undef(name.s, name.len);
}

static jval macro_attr(jctx *c, const jmacro *m, jval name)
{
    jval l;

    if (j_is(name, "name"))
        return m->node->value;
    if (j_is(name, "arguments")) {
        l = j_list(c, J_TUPLE);
        for (size_t i = 0; i < m->node->count; i++)
            j_push(c, l, m->node->kids[i]->value);
        return l;
    }
    if (j_is(name, "catch_varargs"))
        return j_bool(m->node->op & JM_VARARGS);
    if (j_is(name, "catch_kwargs"))
        return j_bool(m->node->op & JM_KWARGS);
    if (j_is(name, "caller"))
        return j_bool(m->node->op & JM_CALLER);
    return j_undef(name.s, name.len);
}

/* The attribute of an object, as getattr; false when it has none. */
static bool own_attr(jctx *c, jval v, jval name, jval *ret)
{
    if (v.type == J_UNDEF)
        j_fail(c, SL_EINVAL, "'%.*s' is undefined", (int)SL_MIN(v.len, 80u), v.s);
    if (j_has_method(v, name)) {
        ret->type = J_METHOD;
        ret->method = j_alloc(c, sizeof *ret->method);
        *ret->method = (jmethod){ v, name.s, name.len };
        return true;
    }
    if (v.type == J_LOOP)
        *ret = loop_attr(c, v, name);
    else if (v.type == J_MACRO)
        *ret = macro_attr(c, v.macro, name);
    else if (v.type == J_TUPLE && v.safe && j_one_of(name, " grouper list "))
        *ret = v.list->items[j_is(name, "list")];
    else if (v.type == J_CYCLER && j_is(name, "current"))
        *ret = v.iter->list->items[v.iter->at];
    else if (v.type == J_RANGE && j_is(name, "start"))
        *ret = j_int(v.range->start);
    else
        return false;
    return ret->type != J_UNDEF;
}

jval j_attr(jctx *c, jval v, jval name)
{
    jval r = { 0 };
    const jval *p;

    j_step(c);
    if (own_attr(c, v, name, &r))
        return r;
    if ((v.type == J_DICT || v.type == J_NS) && (p = j_get(v.dict, name)))
        return *p;
    return j_undef(name.s, name.len);
}

jval j_item(jctx *c, jval v, jval key)
{
    jval r = { 0 };
    const jval *p;
    int64_t n;

    j_step(c);
    if (v.type == J_UNDEF)
        j_fail(c, SL_EINVAL, "'%.*s' is undefined", (int)SL_MIN(v.len, 80u), v.s);
    if (v.type == J_DICT && j_hashable(key) && (p = j_get(v.dict, key)))
        return *p;
    if ((is_seq(v) || v.type == J_RANGE) && j_is_int(key)) {
        n = j_len(c, v);
        int64_t i = j_intval(key) < 0 ? j_intval(key) + n : j_intval(key);
        if (i < 0 || i >= n)
            return j_undef("item", 4);
        if (v.type != J_STR)
            return j_nth(v, (size_t)i);
        size_t from = jx_offset(v, i);
        return j_str(v.s + from, jx_offset(j_str(v.s + from, v.len - from), 1));
    }
    if (key.type == J_STR && (own_attr(c, v, key, &r)))
        return r;
    if (v.type == J_NS && key.type == J_STR && (p = j_get(v.dict, key)))
        return *p;
    return key.type == J_STR ? j_undef(key.s, key.len) : j_undef("item", 4);
}

jval j_path(jctx *c, jval v, jval path, jval fallback)
{
    jval part;

    if (path.type != J_STR)
        return path.type == J_NONE ? v : j_item(c, v, path);
    for (size_t from = 0, to; from <= path.len; from = to + 1) {
        bool digits = true;

        for (to = from; to < path.len && path.s[to] != '.'; to++)
            digits = digits && path.s[to] >= '0' && path.s[to] <= '9';
        part = j_str(path.s + from, to - from);
        if (digits && part.len && part.len < 18) {
            int64_t n = 0;
            for (size_t i = 0; i < part.len; i++)
                n = n * 10 + part.s[i] - '0';
            part = j_int(n);
        }
        v = j_item(c, v, part);
        if (v.type == J_UNDEF && fallback.type != J_NONE)
            v = fallback;
    }
    return v;
}

static int64_t bound(jctx *c, jval v, int64_t len, int64_t low, int64_t high, int64_t fallback)
{
    int64_t i;

    if (v.type == J_NONE)
        return fallback;
    if (v.type == J_UNDEF)
        bad_operands(c, "slice", v, v);
    if (!j_is_int(v))
        j_fail(c, SL_EINVAL, "slice indices must be integers or None");
    i = j_intval(v);
    if (i < 0)
        i = i < -len ? low : i + len;
    return SL_MIN(SL_MAX(i, low), high);
}

jval j_slice(jctx *c, jval v, jval a, jval b, jval s)
{
    int64_t len, step = 1, from, to;
    jval l, out;
    jtext t = { 0 };

    if (v.type == J_UNDEF)
        bad_operands(c, "slice", v, v);
    if (!is_seq(v) && v.type != J_RANGE)
        j_fail(c, SL_EINVAL, "'%s' object is not subscriptable", j_type_name(v));
    len = j_len(c, v);
    if (s.type != J_NONE)
        step = bound(c, s, 0, -len - 1, len + 1, 1);
    if (s.type != J_NONE && j_is_int(s) && j_intval(s) < 0)
        step = SL_MAX(j_intval(s), -len - 1);
    if (!step)
        j_fail(c, SL_EINVAL, "slice step cannot be zero");
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? len - 1 : len;
    from = bound(c, a, len, low, high, step < 0 ? high : low);
    to = bound(c, b, len, low, high, step < 0 ? low : high);
    if (v.type == J_STR && step == 1) {
        size_t x = jx_offset(v, from), y = from < to ? jx_offset(v, to) : x;
        j_work(c, v.len);
        out = j_str(v.s + x, y - x);
        out.safe = v.safe;
        return out;
    }
    l = j_items(c, v);
    out = j_list(c, v.type == J_TUPLE ? J_TUPLE : J_LIST);
    for (int64_t i = from; step > 0 ? i < to : i > to; i += step)
        j_push(c, out, l.list->items[i]);
    if (v.type != J_STR)
        return out;
    for (size_t i = 0; i < out.list->count; i++)
        jt_put(c, &t, out.list->items[i].s, out.list->items[i].len);
    return jt_val(&t);
}
