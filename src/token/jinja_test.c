/* jinja_test.c - "is" tests, and the functions every template finds. */
#include <math.h>
#include <time.h>

#include "token/jinja_int.h"

jval j_arg(const jargs *a, size_t at, const char *name, jval fallback)
{
    for (size_t i = 0; i < a->kw_count; i++)
        if (j_is(a->kw[i].key, name))
            return a->kw[i].value;
    return at < a->count ? a->pos[at] : fallback;
}

int64_t j_want_int(jctx *c, jval v, const char *what)
{
    if (!j_is_int(v))
        j_fail(c, SL_EINVAL, "%s: '%s' object cannot be interpreted as an integer", what,
               j_type_name(v));
    return j_intval(v);
}

bool j_is_global(jval n)
{
    return j_one_of(n, " raise_exception strftime_now namespace dict range cycler joiner ");
}

static jval make_range(jctx *c, const jargs *a)
{
    int64_t x = 0, y, step = 1;
    unsigned __int128 span;
    jval v = { .type = J_RANGE };

    if (!a->count || a->count > 3 || a->kw_count)
        j_fail(c, SL_EINVAL, "range expected 1 to 3 arguments, got %zu", a->count);
    y = j_want_int(c, a->pos[a->count > 1], "range");
    if (a->count > 1)
        x = j_want_int(c, a->pos[0], "range");
    if (a->count > 2)
        step = j_want_int(c, a->pos[2], "range");
    if (!step)
        j_fail(c, SL_EINVAL, "range() arg 3 must not be zero");
    v.range = j_alloc(c, sizeof *v.range);
    *v.range = (jrange){ x, step, 0 };
    if (step > 0 ? x >= y : x <= y)
        return v;
    span = step > 0 ? (unsigned __int128)((__int128)y - x) : (unsigned __int128)((__int128)x - y);
    unsigned __int128 width =
        step > 0 ? (unsigned __int128)step : (unsigned __int128)(-(__int128)step);
    span = (span + width - 1) / width;
    if (span > JINJA_RANGE_MAX)
        j_fail(c, SL_EINVAL, "Range too big. The sandbox blocks ranges larger than %d.",
               JINJA_RANGE_MAX);
    v.range->count = (int64_t)span;
    return v;
}

static jval strftime_now(jctx *c, const jargs *a)
{
    jval f = j_arg(a, 0, "format", j_none());
    time_t now = (time_t)c->now_s;
    struct tm tm;
    char *b, *z;
    size_t n, bytes;
    jtext t = { 0 };

    if (f.type != J_STR)
        j_fail(c, SL_EINVAL, "strftime_now wants a format");
    localtime_r(&now, &tm);
    for (size_t i = 0; i < f.len; i++) { /* what only Python knows, and NUL */
        if (f.s[i] == '%' && i + 1 < f.len && strchr("fzZ", f.s[i + 1]) && f.s[i + 1])
            jt_puts(c, &t, f.s[++i] == 'f' ? "000000" : "");
        else if (f.s[i] == '%' && i + 1 < f.len)
            jt_put(c, &t, f.s + i++, 2);
        else if (f.s[i])
            jt_put(c, &t, f.s + i, 1);
    }
    bytes = SL_MIN(t.len, (size_t)4096) * 32 + 64;
    z = j_alloc(c, SL_MIN(t.len, (size_t)4096) + 1);
    b = j_alloc(c, bytes);
    if (t.len)
        memcpy(z, t.p, SL_MIN(t.len, (size_t)4096));
    n = strftime(b, bytes, z, &tm);
    return j_str(b, n);
}

static jval make_dict(jctx *c, const jargs *a)
{
    jval d = j_dict(c), from = j_arg(a, 0, "", d);

    if (a->count > 1)
        j_fail(c, SL_EINVAL, "dict expected at most 1 argument, got %zu", a->count);
    if (from.type == J_DICT) {
        for (size_t i = 0; i < from.dict->count; i++)
            j_put(c, d.dict, from.dict->items[i].key, from.dict->items[i].value);
    } else {
        from = j_items(c, from);
        for (size_t i = 0; i < from.list->count; i++) {
            jval p = j_items(c, from.list->items[i]);
            if (p.list->count != 2)
                j_fail(c, SL_EINVAL, "dictionary update sequence element has not 2 items");
            j_put(c, d.dict, p.list->items[0], p.list->items[1]);
        }
    }
    for (size_t i = 0; i < a->kw_count; i++)
        j_put(c, d.dict, a->kw[i].key, a->kw[i].value);
    return d;
}

jval j_global(jctx *c, jval name, const jargs *a)
{
    jval v = { 0 };

    if (j_is(name, "raise_exception")) {
        jval m = j_tostr(c, j_arg(a, 0, "message", j_strz("")));
        j_fail(c, SL_EINVAL, "%.*s", (int)SL_MIN(m.len, 380u), m.s);
    }
    if (j_is(name, "range"))
        return make_range(c, a);
    if (j_is(name, "strftime_now"))
        return strftime_now(c, a);
    if (j_is(name, "cycler")) {
        if (!a->count)
            j_fail(c, SL_EINVAL, "at least one item has to be provided");
        jval l = j_list(c, J_LIST);
        for (size_t i = 0; i < a->count; i++)
            j_push(c, l, a->pos[i]);
        v = j_iter(c, l, NULL);
        v.type = J_CYCLER;
        return v;
    }
    if (j_is(name, "joiner")) {
        jval l = j_list(c, J_LIST);
        j_push(c, l, j_arg(a, 0, "sep", j_strz(", ")));
        v = j_iter(c, l, NULL);
        v.type = J_JOINER;
        return v;
    }
    v = make_dict(c, a);
    if (j_is(name, "namespace"))
        v.type = J_NS;
    return v;
}

bool j_test_known(jval n)
{
    return j_one_of(n, " defined undefined none string mapping sequence iterable number integer "
                       "float boolean true false odd even callable in divisibleby sameas escaped "
                       "upper lower filter test ") ||
           j_one_of(n, " eq equalto == ne != gt greaterthan > ge >= lt lessthan < le <= ");
}

static bool is_same(jctx *c, jval a, jval b)
{
    if (a.type != b.type)
        return false;
    if (a.type == J_LIST || a.type == J_TUPLE || a.type == J_DICT)
        return a.dict == b.dict;
    return j_eq(c, a, b);
}

static bool remainder_is(jctx *c, jval v, jval by, int64_t want)
{
    return j_eq(c, j_binary(c, O_MOD, v, by), j_int(want));
}

/* The tests that look at the type alone. 1, 0, or -1 when n is none of them. */
static int type_test(jval n, jval v)
{
    if (j_is(n, "defined"))
        return v.type != J_UNDEF;
    if (j_is(n, "undefined"))
        return v.type == J_UNDEF;
    if (j_is(n, "none"))
        return v.type == J_NONE;
    if (j_is(n, "string"))
        return v.type == J_STR;
    if (j_is(n, "mapping"))
        return v.type == J_DICT;
    if (j_is(n, "sequence"))
        return v.type == J_STR || v.type == J_LIST || v.type == J_TUPLE || v.type == J_DICT ||
               v.type == J_UNDEF || v.type == J_RANGE;
    if (j_is(n, "iterable"))
        return j_iterable(v);
    if (j_is(n, "number"))
        return j_is_num(v);
    if (j_is(n, "integer"))
        return v.type == J_INT;
    if (j_is(n, "float"))
        return v.type == J_FLOAT;
    if (j_is(n, "boolean"))
        return v.type == J_BOOL;
    if (j_is(n, "true"))
        return v.type == J_BOOL && v.b;
    if (j_is(n, "false"))
        return v.type == J_BOOL && !v.b;
    if (j_is(n, "escaped"))
        return v.type == J_STR && v.safe;
    if (j_is(n, "callable"))
        return v.type == J_MACRO || v.type == J_METHOD || v.type == J_GLOBAL || v.type == J_UNDEF ||
               v.type == J_JOINER || v.type == J_LOOP;
    return -1;
}

static int op_of(jval n)
{
    if (j_one_of(n, " eq equalto == "))
        return O_EQ;
    if (j_one_of(n, " ne != "))
        return O_NE;
    if (j_one_of(n, " gt greaterthan > "))
        return O_GT;
    if (j_one_of(n, " ge >= "))
        return O_GE;
    if (j_one_of(n, " lt lessthan < "))
        return O_LT;
    return j_one_of(n, " le <= ") ? O_LE : j_is(n, "in") ? O_IN : -1;
}

bool j_test(jctx *c, jval n, jval v, const jargs *a)
{
    jval x = j_arg(a, 0, j_is(n, "divisibleby") ? "num" : "other", j_none());
    int r = type_test(n, v);
    bool has = a->count + a->kw_count == 1;

    j_step(c);
    if (!j_test_known(n))
        j_fail(c, SL_EINVAL, "No test named '%.*s'.", (int)SL_MIN(n.len, 60u), n.s);
    if (j_is(n, "in"))
        x = j_arg(a, 0, "seq", j_none());
    if (has != (op_of(n) >= 0 || j_one_of(n, " divisibleby sameas ")) || a->count > 1)
        j_fail(c, SL_EINVAL, "test '%.*s' got %zu arguments", (int)n.len, n.s, a->count);
    if (r >= 0)
        return r;
    if (op_of(n) >= 0)
        return j_compare(c, op_of(n), v, x);
    if (j_is(n, "odd"))
        return remainder_is(c, v, j_int(2), 1);
    if (j_is(n, "even"))
        return remainder_is(c, v, j_int(2), 0);
    if (j_is(n, "divisibleby"))
        return remainder_is(c, v, x, 0);
    if (j_is(n, "sameas"))
        return is_same(c, v, x);
    if (j_is(n, "upper"))
        return jx_is(j_tostr(c, v), "isupper");
    if (j_is(n, "lower"))
        return jx_is(j_tostr(c, v), "islower");
    if (j_is(n, "filter"))
        return v.type == J_STR && j_filter_known(v);
    return v.type == J_STR && j_test_known(v);
}
