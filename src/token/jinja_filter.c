/* jinja_filter.c - filters, tests, methods and globals. */
#include <stdlib.h>
#include <time.h>

#include "token/jinja_int.h"

jval j_arg(const jargs *a, size_t at, const char *name, jval fallback)
{
    for (size_t i = 0; i < a->kw_count; i++)
        if (j_is(a->kw[i].key, name))
            return a->kw[i].value;
    return at < a->count ? a->pos[at] : fallback;
}

bool j_is_global(jval n)
{
    return j_is(n, "raise_exception") || j_is(n, "strftime_now") || j_is(n, "namespace") || j_is(n, "dict") || j_is(n, "range");
}

jval j_global(jctx *c, jval name, const jargs *a)
{
    if (j_is(name, "raise_exception")) {
        jval m = j_tostr(c, j_arg(a, 0, "message", j_strz("")));
        j_fail(c, SL_EINVAL, "%.*s", (int)SL_MIN(m.len, 380), m.s);
    }
    if (j_is(name, "range")) {
        int64_t x = a->count > 0 ? a->pos[0].i : 0, y = a->count > 1 ? a->pos[1].i : x, s = a->count > 2 ? a->pos[2].i : 1;
        jval l = j_list(c, J_LIST);
        for (size_t i = 0; i < a->count; i++)
            if (a->pos[i].type != J_INT)
                j_fail(c, SL_EINVAL, "range() wants integers");
        if (!s || !a->count)
            j_fail(c, SL_EINVAL, "bad range");
        for (int64_t i = a->count > 1 ? x : 0; s > 0 ? i < y : i > y;) {
            j_push(c, l, j_int(i));
            if (__builtin_add_overflow(i, s, &i))
                break;
        }
        return l;
    }
    if (j_is(name, "strftime_now")) {
        jval f = j_tostr(c, j_arg(a, 0, "format", j_strz("")));
        char *b = j_alloc(c, 512), *z = j_alloc(c, f.len + 1);
        struct tm tm;
        time_t t = c->now_s;
        memcpy(z, f.s, f.len);
        gmtime_r(&t, &tm);
        return j_str(b, strftime(b, 512, z, &tm));
    }
    jval d = j_dict(c);
    if (a->count && a->pos[0].type == J_DICT)
        for (size_t i = 0; i < a->pos[0].dict->count; i++)
            j_put(c, d.dict, a->pos[0].dict->items[i].key, a->pos[0].dict->items[i].value);
    for (size_t i = 0; i < a->kw_count; i++)
        j_put(c, d.dict, a->kw[i].key, a->kw[i].value);
    if (j_is(name, "namespace"))
        d.type = J_NS;
    return d;
}

static bool one_of(jval n, const char *names)
{
    char key[40] = " ";

    if (n.len > 30)
        return false;
    memcpy(key + 1, n.s, n.len);
    key[n.len + 1] = ' ';
    return strstr(names, key) != NULL;
}

bool j_has_method(jval v, jval n)
{
    if (v.type == J_STR)
        return one_of(n, " strip lstrip rstrip split startswith endswith upper lower title capitalize replace join find ");
    return v.type == J_DICT && one_of(n, " items keys values get ");
}

static jval strip(jval s, jval chars, int sides)
{
    const char *set = " \n\t\r\v\f";
    size_t n = 6, from = 0, to = s.len;

    if (chars.type == J_STR)
        set = chars.s, n = chars.len;
    while ((sides & 1) && from < to && memchr(set, s.s[from], n))
        from++;
    while ((sides & 2) && to > from && memchr(set, s.s[to - 1], n))
        to--;
    return j_str(s.s + from, to - from);
}

static jval replace(jctx *c, jval s, jval a, jval b)
{
    jtext t = { 0 };

    for (size_t i = 0; i < s.len;) {
        if (a.len && i + a.len <= s.len && !memcmp(s.s + i, a.s, a.len)) {
            jt_put(c, &t, b.s, b.len);
            i += a.len;
        } else {
            jt_put(c, &t, s.s + i++, 1);
        }
    }
    return jt_val(c, &t);
}

static jval split(jctx *c, jval s, jval sep, jval max)
{
    jval l = j_list(c, J_LIST);
    int64_t left = max.type == J_INT && max.i >= 0 ? max.i : INT64_MAX;
    size_t from = 0;

    if (sep.type != J_STR || !sep.len) {
        for (s = strip(s, j_none(), 1); s.len; s = strip(j_str(s.s + from, s.len - from), j_none(), 1)) {
            for (from = 0; from < s.len && (left == 0 || !strchr(" \n\t\r\v\f", s.s[from]));)
                from++;
            left--;
            j_push(c, l, j_str(s.s, from));
        }
        return l;
    }
    for (size_t i = 0; i + sep.len <= s.len && left;) {
        if (memcmp(s.s + i, sep.s, sep.len)) {
            i++;
            continue;
        }
        j_push(c, l, j_str(s.s + from, i - from));
        from = i += sep.len;
        left--;
    }
    j_push(c, l, j_str(s.s + from, s.len - from));
    return l;
}

static jval recase(jctx *c, jval s, int how)
{
    char *p = j_alloc(c, s.len);
    bool word = false;

    for (size_t i = 0; i < s.len; i++) {
        char ch = s.s[i], low = (char)(ch >= 'A' && ch <= 'Z' ? ch + 32 : ch), up = (char)(ch >= 'a' && ch <= 'z' ? ch - 32 : ch);
        p[i] = how == 0 ? low : how == 1 ? up : word ? low : up;
        word = how == 3 || low != up;
    }
    return j_str(p, s.len);
}

jval j_method(jctx *c, jval s, jval n, const jargs *a)
{
    jval x = j_arg(a, 0, "", j_none()), l = j_list(c, J_LIST);

    if (s.type == J_DICT && j_is(n, "get")) {
        jval *p = j_get(s.dict, x);
        return p ? *p : j_arg(a, 1, "default", j_none());
    }
    if (s.type == J_DICT) {
        for (size_t i = 0; i < s.dict->count; i++) {
            jval t = j_list(c, J_TUPLE);
            j_push(c, t, s.dict->items[i].key);
            j_push(c, t, s.dict->items[i].value);
            j_push(c, l, j_is(n, "items") ? t : t.list->items[j_is(n, "values")]);
        }
        return l;
    }
    if (j_is(n, "strip")) return strip(s, x, 3);
    if (j_is(n, "lstrip")) return strip(s, x, 1);
    if (j_is(n, "rstrip")) return strip(s, x, 2);
    if (j_is(n, "lower")) return recase(c, s, 0);
    if (j_is(n, "upper")) return recase(c, s, 1);
    if (j_is(n, "title")) return recase(c, s, 2);
    if (j_is(n, "capitalize")) return recase(c, s, 3);
    if (j_is(n, "split")) return split(c, s, x, j_arg(a, 1, "maxsplit", j_none()));
    if (j_is(n, "join")) return j_filter(c, n, x, &(jargs){ .pos = &s, .count = 1 });
    jval many = x;
    if (x.type != J_TUPLE) {
        many = l;
        j_push(c, l, x);
    }
    for (size_t i = 0; i < many.list->count; i++)
        if (many.list->items[i].type != J_STR)
            j_fail(c, SL_EINVAL, "a string is required");
    if (j_is(n, "replace")) return replace(c, s, x, j_tostr(c, j_arg(a, 1, "new", j_strz(""))));
    if (j_is(n, "find")) { char *p = memmem(s.s, s.len, x.s, x.len); return j_int(p ? p - s.s : -1); }
    for (size_t i = 0; i < many.list->count; i++) {
        jval y = many.list->items[i];
        if (y.len <= s.len && !memcmp(j_is(n, "startswith") ? s.s : s.s + s.len - y.len, y.s, y.len))
            return j_bool(true);
    }
    return j_bool(false);
}

bool j_test(jctx *c, jval n, jval v, const jargs *a)
{
    jval x = j_arg(a, 0, "", j_none());

    if (j_is(n, "defined")) return v.type != J_UNDEF;
    if (j_is(n, "undefined")) return v.type == J_UNDEF;
    if (j_is(n, "none")) return v.type == J_NONE;
    if (j_is(n, "string")) return v.type == J_STR;
    if (j_is(n, "mapping")) return v.type == J_DICT;
    if (j_is(n, "sequence") || j_is(n, "iterable")) return v.type == J_STR || v.type == J_LIST || v.type == J_TUPLE || v.type == J_DICT || v.type == J_UNDEF;
    if (j_is(n, "number")) return v.type == J_INT || v.type == J_FLOAT || v.type == J_BOOL;
    if (j_is(n, "integer")) return v.type == J_INT;
    if (j_is(n, "float")) return v.type == J_FLOAT;
    if (j_is(n, "boolean")) return v.type == J_BOOL;
    if (j_is(n, "true")) return v.type == J_BOOL && v.b;
    if (j_is(n, "false")) return v.type == J_BOOL && !v.b;
    if (j_is(n, "odd")) return v.type == J_INT && v.i % 2;
    if (j_is(n, "even")) return v.type == J_INT && v.i % 2 == 0;
    if (j_is(n, "callable")) return v.type == J_MACRO || v.type == J_METHOD || v.type == J_GLOBAL;
    if (j_is(n, "in")) return j_in(c, v, x);
    if (j_is(n, "divisibleby")) return x.type == J_INT && x.i && v.type == J_INT && v.i % x.i == 0;
    if (one_of(n, " eq equalto sameas ")) return j_eq(c, v, x);
    if (j_is(n, "ne")) return !j_eq(c, v, x);
    if (one_of(n, " gt greaterthan ")) return j_cmp(c, v, x, ">") > 0;
    if (one_of(n, " lt lessthan ")) return j_cmp(c, v, x, "<") < 0;
    j_fail(c, SL_EINVAL, "no test named '%.*s'", (int)SL_MIN(n.len, 60), n.s);
}

void j_sort(jctx *c, jval l, jval attr, bool reverse, bool fold)
{
    (void)attr, (void)fold;
    for (size_t i = 1; i < l.list->count; i++)
        for (size_t k = i; k > 0; k--) {
            int r = j_cmp(c, l.list->items[k - 1], l.list->items[k], "<");
            j_step(c);
            if (reverse ? r >= 0 : r <= 0)
                break;
            jval t = l.list->items[k];
            l.list->items[k] = l.list->items[k - 1];
            l.list->items[k - 1] = t;
        }
}

static jval select_items(jctx *c, jval n, jval v, const jargs *a)
{
    bool attr = n.len > 6, keep = n.s[0] == 's';
    jval l = j_list(c, J_LIST), it = j_items(c, v);
    size_t used = attr ? 1 : 0;

    for (size_t i = 0; i < it.list->count; i++) {
        jval x = it.list->items[i], y = attr && a->count ? j_item(c, x, a->pos[0]) : x;
        jargs rest = { a->pos + used + 1, a->count > used + 1 ? a->count - used - 1 : 0, NULL, 0 };
        bool ok = a->count > used ? j_test(c, a->pos[used], y, &rest) : j_true(y);
        if (ok == keep)
            j_push(c, l, x);
    }
    return l;
}

static jval str_int(jval v)
{
    char b[32] = { 0 };

    memcpy(b, v.s, SL_MIN(v.len, sizeof b - 1));
    return j_int(strtoll(b, NULL, 10));
}

static jval tojson(jctx *c, jval v, const jargs *a)
{
    jtext t = { 0 };
    jval indent = j_arg(a, 1, "indent", j_none()), seps = j_arg(a, 2, "separators", j_none());
    bool pair = (seps.type == J_TUPLE || seps.type == J_LIST) && seps.list->count == 2;

    j_json(c, &t, v, indent, pair ? seps.list->items[0] : j_strz(indent.type == J_NONE ? ", " : ","), pair ? seps.list->items[1] : j_strz(": "), j_true(j_arg(a, 3, "sort_keys", j_bool(false))), false, 0);
    return jt_val(c, &t);
}

static jval join(jctx *c, jval v, jval sep, jval attr)
{
    jval it = j_items(c, v);
    jtext t = { 0 };

    for (size_t i = 0; i < it.list->count; i++) {
        if (i)
            j_print(c, &t, sep);
        j_print(c, &t, attr.type == J_STR ? j_item(c, it.list->items[i], attr) : it.list->items[i]);
    }
    return jt_val(c, &t);
}

jval j_filter(jctx *c, jval n, jval v, const jargs *a)
{
    jval l = j_list(c, J_LIST), it;

    if (j_is(n, "tojson")) return tojson(c, v, a);
    if (j_is(n, "trim")) return strip(j_tostr(c, v), j_arg(a, 0, "chars", j_none()), 3);
    if (one_of(n, " length count ")) return j_int(j_len(c, v));
    if (j_is(n, "join")) return join(c, v, j_arg(a, 0, "d", j_strz("")), j_arg(a, 1, "attribute", j_none()));
    if (one_of(n, " default d ")) return v.type == J_UNDEF || (j_true(j_arg(a, 1, "boolean", j_bool(false))) && !j_true(v)) ? j_arg(a, 0, "default_value", j_strz("")) : v;
    if (one_of(n, " string ")) return j_tostr(c, v);
    if (j_is(n, "safe")) return v;
    if (j_is(n, "items")) return v.type == J_DICT ? j_method(c, v, n, a) : l;
    if (one_of(n, " lower upper title capitalize ")) return j_method(c, j_tostr(c, v), n, a);
    if (j_is(n, "replace")) return j_method(c, j_tostr(c, v), n, a);
    if (j_is(n, "int")) return v.type == J_STR ? str_int(v) : v.type == J_FLOAT ? j_int((int64_t)v.f) : v.type == J_BOOL ? j_int(v.b) : v;
    if (one_of(n, " select reject selectattr rejectattr ")) return select_items(c, n, v, a);
    if (one_of(n, " list first last reverse sort map ")) {
        it = j_items(c, v);
        size_t k = it.list->count;
        if (j_is(n, "first")) return k ? it.list->items[0] : j_undef("first", 5);
        if (j_is(n, "last")) return k ? it.list->items[k - 1] : j_undef("last", 4);
        jval attr = j_arg(a, 99, "attribute", j_none());
        for (size_t i = 0; i < k; i++) {
            jval x = it.list->items[j_is(n, "reverse") ? k - 1 - i : i];
            if (j_is(n, "map"))
                x = attr.type == J_STR ? j_item(c, x, attr) : j_filter(c, j_tostr(c, j_arg(a, 0, "", j_none())), x, &(jargs){ a->pos + 1, a->count ? a->count - 1 : 0, NULL, 0 });
            j_push(c, l, x);
        }
        if (j_is(n, "sort"))
            j_sort(c, l, attr, j_true(j_arg(a, 0, "reverse", j_bool(false))), true);
        return l;
    }
    j_fail(c, SL_EINVAL, "no filter named '%.*s'", (int)SL_MIN(n.len, 60), n.s);
}
