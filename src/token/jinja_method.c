/* jinja_method.c - the methods of strings, lists, dicts and of Jinja's own objects. */
#include "token/jinja_int.h"

bool j_has_method(jval v, jval n)
{
    switch (v.type) {
    case J_STR:
        return j_one_of(n, " strip lstrip rstrip split rsplit splitlines startswith endswith upper "
                           "lower title capitalize swapcase casefold replace join find rfind index "
                           "rindex count format ") ||
               j_one_of(n, " isdigit isalpha isalnum isspace isupper islower istitle isascii "
                           "isdecimal isnumeric partition rpartition removeprefix removesuffix "
                           "zfill ljust rjust center expandtabs encode ");
    case J_DICT:
        return j_one_of(n, " items keys values get copy ");
    case J_LIST:
        return j_one_of(n, " index count copy ");
    case J_TUPLE:
        return j_one_of(n, " index count ");
    case J_LOOP:
        return j_one_of(n, " cycle changed ");
    case J_CYCLER:
        return j_one_of(n, " next reset ");
    default:
        return false;
    }
}

static jval want_str(jctx *c, jval v, const char *what)
{
    if (v.type != J_STR)
        j_fail(c, SL_EINVAL, "%s must be str, not %s", what, j_type_name(v));
    return v;
}

static jval replace(jctx *c, jval s, jval a, jval b, jval max)
{
    int64_t left = max.type == J_NONE ? -1 : j_want_int(c, max, "count");
    jtext t = { 0 };
    uint32_t cp;
    size_t at = 0;

    want_str(c, a, "replace() argument 1");
    want_str(c, b, "replace() argument 2");
    j_work(c, s.len);
    for (; left != 0; left--) {
        const char *p = a.len ? memmem(s.s + at, s.len - at, a.s, a.len) : s.s + at;
        size_t n = p ? (size_t)(p - s.s) - at : 0;

        if (!p)
            break;
        j_step(c);
        jt_put(c, &t, s.s + at, n);
        jt_put(c, &t, b.s, b.len);
        at += n + a.len;
        if (a.len)
            continue;
        if (at >= s.len)
            return jt_val(&t);
        n = jx_next(s.s + at, s.len - at, &cp);
        jt_put(c, &t, s.s + at, n);
        at += n;
    }
    jt_put(c, &t, s.s + at, s.len - at);
    return jt_val(&t);
}

static void reverse(jlist *l)
{
    for (size_t i = 0; i < l->count / 2; i++) {
        jval x = l->items[i];
        l->items[i] = l->items[l->count - 1 - i];
        l->items[l->count - 1 - i] = x;
    }
}

static jval split_space(jctx *c, jval s, int64_t left)
{
    jval l = j_list(c, J_LIST);
    uint32_t cp;

    for (s = jx_strip(c, s, j_none(), 1); s.len; s = jx_strip(c, s, j_none(), 1)) {
        size_t end = 0, n;

        for (; end < s.len; end += n) {
            n = jx_next(s.s + end, s.len - end, &cp);
            if (jx_space(cp) && left != 0)
                break;
        }
        if (left == 0)
            end = s.len;
        left--;
        j_push(c, l, j_str(s.s, end));
        s = j_str(s.s + end, s.len - end);
    }
    return l;
}

static jval rsplit_space(jctx *c, jval s, int64_t left)
{
    jval l = j_list(c, J_LIST);
    uint32_t cp;

    for (s = jx_strip(c, s, j_none(), 2); s.len; s = jx_strip(c, s, j_none(), 2)) {
        size_t from = s.len;

        while (from && left != 0) {
            size_t k = from - 1;
            while (k && ((uint8_t)s.s[k] & 0xc0) == 0x80)
                k--;
            jx_next(s.s + k, s.len - k, &cp);
            if (jx_space(cp))
                break;
            from = k;
        }
        if (left == 0)
            from = 0;
        left--;
        j_push(c, l, j_str(s.s + from, s.len - from));
        s.len = from;
    }
    reverse(l.list);
    return l;
}

static jval split(jctx *c, jval s, const jargs *a, bool right)
{
    jval sep = j_arg(a, 0, "sep", j_none()), l;
    int64_t left = j_want_int(c, j_arg(a, 1, "maxsplit", j_int(-1)), "maxsplit");
    size_t from = 0, to = s.len;

    j_work(c, s.len);
    if (sep.type == J_NONE)
        return right ? rsplit_space(c, s, left) : split_space(c, s, left);
    want_str(c, sep, "separator");
    if (!sep.len)
        j_fail(c, SL_EINVAL, "empty separator");
    l = j_list(c, J_LIST);
    for (; !right && left != 0; left--) {
        const char *p = memmem(s.s + from, s.len - from, sep.s, sep.len);
        if (!p)
            break;
        j_push(c, l, j_str(s.s + from, (size_t)(p - s.s) - from));
        from = (size_t)(p - s.s) + sep.len;
    }
    for (size_t i = to; right && left != 0 && i >= sep.len;) {
        if (memcmp(s.s + i - sep.len, sep.s, sep.len) != 0) {
            i--;
            continue;
        }
        j_push(c, l, j_str(s.s + i, to - i));
        to = i -= sep.len;
        left--;
    }
    j_push(c, l, j_str(s.s + from, to - from));
    if (right)
        reverse(l.list);
    return l;
}

static bool affix(jctx *c, jval s, jval x, bool start)
{
    if (x.type == J_TUPLE) {
        for (size_t i = 0; i < x.list->count; i++)
            if (affix(c, s, want_str(c, x.list->items[i], "affix"), start))
                return true;
        return false;
    }
    want_str(c, x, start ? "startswith first arg" : "endswith first arg");
    return x.len <= s.len && !memcmp(start ? s.s : s.s + s.len - x.len, x.s, x.len);
}

/* find, rfind, index, rindex, count: all look at the characters start..end of the string. */
static jval search(jctx *c, jval s, jval n, const jargs *a)
{
    jval x = want_str(c, j_arg(a, 0, "", j_none()), "argument 1");
    jval part = j_slice(c, s, j_arg(a, 1, "", j_none()), j_arg(a, 2, "", j_none()), j_none());
    bool back = n.s[0] == 'r', found = false;
    size_t at = 0, count = 0;

    j_work(c, s.len);
    if (j_is(n, "count") && !x.len)
        return j_int((int64_t)jx_count(part) + 1);
    for (size_t i = 0; i + x.len <= part.len;) {
        const char *p = memmem(part.s + i, part.len - i, x.s, x.len);
        if (!p)
            break;
        found = true;
        at = (size_t)(p - part.s);
        count++;
        if (j_is(n, "count"))
            i = at + x.len;
        else if (back)
            i = at + 1;
        else
            break;
        j_step(c);
    }
    if (j_is(n, "count"))
        return j_int((int64_t)count);
    if (!found && j_one_of(n, " index rindex "))
        j_fail(c, SL_EINVAL, "substring not found");
    return j_int(!found ? -1 : (int64_t)jx_count(j_str(s.s, (size_t)(part.s - s.s) + at)));
}

static jval pad(jctx *c, jval s, jval n, const jargs *a)
{
    int64_t width = j_want_int(c, j_arg(a, 0, "", j_none()), "width");
    int64_t gap = width - (int64_t)jx_count(s), left;
    jval fill = j_arg(a, 1, "", j_strz(" "));
    jtext t = { 0 };

    if (fill.type != J_STR || jx_count(fill) != 1)
        j_fail(c, SL_EINVAL, "The fill character must be exactly one character long");
    gap = SL_MAX(gap, (int64_t)0);
    if (j_is(n, "zfill")) {
        size_t sign = s.len && (s.s[0] == '+' || s.s[0] == '-');
        jt_put(c, &t, s.s, sign);
        jt_fill(c, &t, "0", 1, gap);
        jt_put(c, &t, s.s + sign, s.len - sign);
        return jt_val(&t);
    }
    left = j_is(n, "ljust") ? 0 : j_is(n, "rjust") ? gap : gap / 2 + (gap & width & 1);
    jt_fill(c, &t, fill.s, fill.len, left);
    jt_put(c, &t, s.s, s.len);
    jt_fill(c, &t, fill.s, fill.len, gap - left);
    return jt_val(&t);
}

static jval partition(jctx *c, jval s, jval sep, bool right)
{
    jval t = j_list(c, J_TUPLE);
    size_t at = SIZE_MAX;

    if (!want_str(c, sep, "separator").len)
        j_fail(c, SL_EINVAL, "empty separator");
    for (size_t i = 0; i + sep.len <= s.len && (right || at == SIZE_MAX); i++)
        if (!memcmp(s.s + i, sep.s, sep.len))
            at = i;
    if (at == SIZE_MAX) {
        j_push(c, t, right ? j_strz("") : s);
        j_push(c, t, j_strz(""));
        j_push(c, t, right ? s : j_strz(""));
        return t;
    }
    j_push(c, t, j_str(s.s, at));
    j_push(c, t, sep);
    j_push(c, t, j_str(s.s + at + sep.len, s.len - at - sep.len));
    return t;
}

static jval join(jctx *c, jval sep, jval v)
{
    jtext t = { 0 };

    v = j_items(c, v);
    for (size_t i = 0; i < v.list->count; i++) {
        if (v.list->items[i].type != J_STR)
            j_fail(c, SL_EINVAL, "sequence item %zu: expected str instance, %s found", i,
                   j_type_name(v.list->items[i]));
        if (i)
            jt_put(c, &t, sep.s, sep.len);
        jt_put(c, &t, v.list->items[i].s, v.list->items[i].len);
    }
    return jt_val(&t);
}

static jval expandtabs(jctx *c, jval s, int64_t size)
{
    int64_t col = 0;
    jtext t = { 0 };
    uint32_t cp;

    for (size_t i = 0, n; i < s.len; i += n) {
        n = jx_next(s.s + i, s.len - i, &cp);
        if (cp == '\t') {
            int64_t gap = size > 0 ? size - col % size : 0;
            jt_fill(c, &t, " ", 1, gap);
            col += gap;
            continue;
        }
        jt_put(c, &t, s.s + i, n);
        col = cp == '\n' || cp == '\r' ? 0 : col + 1;
    }
    return jt_val(&t);
}

jval j_str_method(jctx *c, jval s, jval n, const jargs *a)
{
    jval x = j_arg(a, 0, "", j_none());

    if (n.len > 5 && j_one_of(n, " strip lstrip rstrip "))
        return jx_strip(c, s, x, n.s[0] == 'l' ? 1 : 2);
    if (j_is(n, "strip"))
        return jx_strip(c, s, x, 3);
    if (j_one_of(n, " upper lower title capitalize swapcase "))
        return jx_case(c, s, n.s);
    if (j_is(n, "casefold"))
        return jx_case(c, s, "lower");
    if (j_one_of(n, " split rsplit "))
        return split(c, s, a, n.s[0] == 'r');
    if (j_is(n, "splitlines"))
        return jx_lines(c, s, j_true(j_arg(a, 0, "keepends", j_bool(false))));
    if (j_one_of(n, " startswith endswith "))
        return j_bool(
            affix(c, j_slice(c, s, j_arg(a, 1, "", j_none()), j_arg(a, 2, "", j_none()), j_none()),
                  x, n.s[0] == 's'));
    if (j_is(n, "replace"))
        return replace(c, s, j_arg(a, 0, "old", j_none()), j_arg(a, 1, "new", j_none()),
                       j_arg(a, 2, "count", j_none()));
    if (j_is(n, "join"))
        return join(c, s, x);
    if (j_one_of(n, " find rfind index rindex count "))
        return search(c, s, n, a);
    if (j_is(n, "format"))
        return j_format(c, s, a);
    if (n.len > 3 && n.s[0] == 'i' && n.s[1] == 's') {
        char name[16] = { 0 };
        memcpy(name, n.s, SL_MIN(n.len, sizeof name - 1));
        return j_bool(jx_is(s, name));
    }
    if (j_one_of(n, " partition rpartition "))
        return partition(c, s, x, n.s[0] == 'r');
    if (j_is(n, "removeprefix"))
        return affix(c, s, want_str(c, x, "argument"), true) ? j_str(s.s + x.len, s.len - x.len)
                                                             : s;
    if (j_is(n, "removesuffix"))
        return affix(c, s, want_str(c, x, "argument"), false) ? j_str(s.s, s.len - x.len) : s;
    if (j_one_of(n, " zfill ljust rjust center "))
        return pad(c, s, n, a);
    if (j_is(n, "expandtabs"))
        return expandtabs(c, s, j_want_int(c, j_arg(a, 0, "tabsize", j_int(8)), "tabsize"));
    j_fail(c, SL_EINVAL, "str.%.*s is not supported", (int)SL_MIN(n.len, 40u), n.s);
}

static jval dict_method(jctx *c, jval s, jval n, const jargs *a)
{
    jval l = j_list(c, J_LIST), x = j_arg(a, 0, "", j_none()), d;

    if (j_is(n, "get")) {
        if (!a->count)
            j_fail(c, SL_EINVAL, "get expected at least 1 argument, got 0");
        if (!j_hashable(x))
            j_fail(c, SL_EINVAL, "unhashable type: '%s'", j_type_name(x));
        const jval *p = j_get(s.dict, x);
        if (a->kw_count)
            j_fail(c, SL_EINVAL, "dict.get() takes no keyword arguments");
        return p ? *p : j_arg(a, 1, "", j_none());
    }
    if (a->count || a->kw_count)
        j_fail(c, SL_EINVAL, "dict.%.*s() takes no arguments", (int)n.len, n.s);
    if (j_is(n, "copy")) {
        d = j_dict(c);
        for (size_t i = 0; i < s.dict->count; i++)
            j_put(c, d.dict, s.dict->items[i].key, s.dict->items[i].value);
        return d;
    }
    for (size_t i = 0; i < s.dict->count; i++) {
        const jpair *p = &s.dict->items[i];
        j_push(c, l,
               j_is(n, "items")  ? j_pair(c, p->key, p->value)
               : j_is(n, "keys") ? p->key
                                 : p->value);
    }
    return j_iter(c, l,
                  j_is(n, "items")  ? "dict_items"
                  : j_is(n, "keys") ? "dict_keys"
                                    : "dict_values");
}

static jval list_method(jctx *c, jval s, jval n, const jargs *a)
{
    int64_t count = 0;
    jval l;

    if (j_is(n, "copy")) {
        l = j_list(c, J_LIST);
        for (size_t i = 0; i < s.list->count; i++)
            j_push(c, l, s.list->items[i]);
        return l;
    }
    if (!a->count)
        j_fail(c, SL_EINVAL, "%.*s expected at least 1 argument, got 0", (int)n.len, n.s);
    for (size_t i = 0; i < s.list->count; i++) {
        bool same = j_eq(c, s.list->items[i], a->pos[0]);
        if (same && j_is(n, "index"))
            return j_int((int64_t)i);
        count += same;
    }
    if (j_is(n, "index"))
        j_fail(c, SL_EINVAL, "value is not in list");
    return j_int(count);
}

static jval loop_method(jctx *c, jval v, jval n, const jargs *a)
{
    jloop *l = v.loop;
    jval now = j_list(c, J_TUPLE);
    bool same;

    if (j_is(n, "cycle")) {
        if (!a->count)
            j_fail(c, SL_EINVAL, "no items for cycling given");
        return a->pos[l->at % a->count];
    }
    for (size_t i = 0; i < a->count; i++)
        j_push(c, now, a->pos[i]);
    same = l->has_changed && j_eq(c, l->changed, now);
    l->has_changed = true;
    l->changed = now;
    return j_bool(!same);
}

jval j_method(jctx *c, jval s, jval n, const jargs *a)
{
    jval r;

    j_step(c);
    switch (s.type) {
    case J_STR:
        r = j_str_method(c, s, n, a);
        r.safe = r.type == J_STR ? s.safe : r.safe;
        return r;
    case J_DICT:
        return dict_method(c, s, n, a);
    case J_LOOP:
        return loop_method(c, s, n, a);
    case J_CYCLER:
        r = s.iter->list->items[s.iter->at];
        s.iter->at = j_is(n, "next") ? (s.iter->at + 1) % s.iter->list->count : 0;
        return j_is(n, "next") ? r : j_none();
    default:
        return list_method(c, s, n, a);
    }
}
