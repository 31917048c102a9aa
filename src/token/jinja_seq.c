/* jinja_seq.c - filters on sequences. What is lazy in Jinja comes back as a generator, so that
 * it prints, counts and runs out as there. */
#include "token/jinja_int.h"

/* Stable merge of [from, to) of items and their keys. */
static void merge(jctx *c, jval *items, jval *keys, jval *tmp, size_t from, size_t to, bool down)
{
    size_t mid = from + (to - from) / 2, i = from, k = mid, n = to - from;

    if (n < 2)
        return;
    merge(c, items, keys, tmp, from, mid, down);
    merge(c, items, keys, tmp, mid, to, down);
    for (size_t out = 0; out < n; out++) {
        bool left = k == to;

        if (!left && i < mid)
            left = down ? j_cmp(c, keys[i], keys[k], "<") != -1
                        : j_cmp(c, keys[k], keys[i], "<") != -1;
        size_t at = left ? i++ : k++;
        tmp[2 * out] = items[at];
        tmp[2 * out + 1] = keys[at];
    }
    for (size_t out = 0; out < n; out++) {
        items[from + out] = tmp[2 * out];
        keys[from + out] = tmp[2 * out + 1];
    }
}

void j_sort(jctx *c, jval *items, jval *keys, size_t count, bool reverse)
{
    merge(c, items, keys, j_alloc(c, 2 * count * sizeof *items), 0, count, reverse);
}

static jval fold(jctx *c, jval v, bool exact)
{
    return v.type == J_STR && !exact ? jx_case(c, v, "lower") : v;
}

/* "a,b.c" gives a list of two keys, as sort takes it. */
static jval sort_key(jctx *c, jval v, jval attr, bool exact)
{
    jval l, comma = j_strz(","), parts;

    if (attr.type != J_STR || !memchr(attr.s, ',', attr.len))
        return fold(c, attr.type == J_NONE ? v : j_path(c, v, attr, j_none()), exact);
    l = j_list(c, J_LIST);
    parts = j_str_method(c, attr, j_strz("split"), &(jargs){ .pos = &comma, .count = 1 });
    for (size_t i = 0; i < parts.list->count; i++)
        j_push(c, l, fold(c, j_path(c, v, parts.list->items[i], j_none()), exact));
    return l;
}

static jval copy(jctx *c, jval v)
{
    jval l = j_list(c, J_LIST);

    v = j_items(c, v);
    for (size_t i = 0; i < v.list->count; i++)
        j_push(c, l, v.list->items[i]);
    return l;
}

static jval sort(jctx *c, jval v, jval attr, bool exact, bool reverse)
{
    jval l = copy(c, v);
    jval *keys = j_alloc(c, l.list->count * sizeof *keys);

    for (size_t i = 0; i < l.list->count; i++)
        keys[i] = sort_key(c, l.list->items[i], attr, exact);
    j_sort(c, l.list->items, keys, l.list->count, reverse);
    return l;
}

static jval dictsort(jctx *c, jval v, const jargs *a)
{
    bool exact = j_true(j_arg(a, 0, "case_sensitive", j_bool(false)));
    jval by = j_arg(a, 1, "by", j_strz("key")), none = { 0 };

    if (by.type != J_STR || !j_one_of(by, " key value "))
        j_fail(c, SL_EINVAL, "You can only sort by either \"key\" or \"value\"");
    if (v.type == J_UNDEF || v.type != J_DICT)
        j_fail(c, SL_EINVAL, "dictsort wants a dict, not '%s'", j_type_name(v));
    v = j_method(c, v, j_strz("items"), &(jargs){ .pos = &none });
    return sort(c, v, j_int(j_is(by, "value")), exact,
                j_true(j_arg(a, 2, "reverse", j_bool(false))));
}

static jval groupby(jctx *c, jval v, const jargs *a)
{
    jval attr = j_arg(a, 0, "attribute", j_none()), fallback = j_arg(a, 1, "default", j_none());
    bool exact = j_true(j_arg(a, 2, "case_sensitive", j_bool(false)));
    jval l = copy(c, v), out = j_list(c, J_LIST), group = { 0 };
    jval *keys = j_alloc(c, l.list->count * sizeof *keys);

    if (attr.type == J_NONE)
        j_fail(c, SL_EINVAL, "groupby wants an attribute");
    for (size_t i = 0; i < l.list->count; i++)
        keys[i] = fold(c, j_path(c, l.list->items[i], attr, fallback), exact);
    j_sort(c, l.list->items, keys, l.list->count, false);
    for (size_t i = 0; i < l.list->count; i++) {
        if (!i || !j_eq(c, keys[i], keys[i - 1])) {
            jval members = j_list(c, J_LIST);
            group = j_pair(c, j_path(c, l.list->items[i], attr, fallback), members);
            group.safe = true;
            j_push(c, out, group);
        }
        j_push(c, group.list->items[1], l.list->items[i]);
    }
    return out;
}

static jval unique(jctx *c, jval v, const jargs *a)
{
    bool exact = j_true(j_arg(a, 0, "case_sensitive", j_bool(false)));
    jval attr = j_arg(a, 1, "attribute", j_none()), seen = j_dict(c), l = j_list(c, J_LIST);

    v = j_items(c, v);
    for (size_t i = 0; i < v.list->count; i++) {
        jval key = sort_key(c, v.list->items[i], attr, exact);
        size_t before = seen.dict->count;
        j_put(c, seen.dict, key, j_none());
        if (seen.dict->count > before)
            j_push(c, l, v.list->items[i]);
    }
    return j_iter(c, l, NULL);
}

static jval extreme(jctx *c, jval v, const jargs *a, bool max)
{
    bool exact = j_true(j_arg(a, 0, "case_sensitive", j_bool(false)));
    jval attr = j_arg(a, 1, "attribute", j_none()), best = { 0 }, best_key = { 0 };

    v = j_items(c, v);
    for (size_t i = 0; i < v.list->count; i++) {
        jval key = fold(
            c, attr.type == J_NONE ? v.list->items[i] : j_path(c, v.list->items[i], attr, j_none()),
            exact);
        if (!i || j_cmp(c, key, best_key, max ? ">" : "<") == (max ? 1 : -1)) {
            best = v.list->items[i];
            best_key = key;
        }
    }
    return v.list->count ? best : j_undef("No aggregated item, sequence was empty.", 39);
}

static jval sum(jctx *c, jval v, const jargs *a)
{
    jval attr = j_arg(a, 0, "attribute", j_none()), total = j_arg(a, 1, "start", j_int(0));

    v = j_items(c, v);
    if (total.type == J_STR)
        j_fail(c, SL_EINVAL, "sum() can't sum strings [use ''.join(seq) instead]");
    for (size_t i = 0; i < v.list->count; i++)
        total = j_binary(c, O_ADD, total,
                         attr.type == J_NONE ? v.list->items[i]
                                             : j_path(c, v.list->items[i], attr, j_none()));
    return total;
}

static jval batch(jctx *c, jval v, const jargs *a)
{
    int64_t n = j_want_int(c, j_arg(a, 0, "linecount", j_none()), "linecount");
    jval fill = j_arg(a, 1, "fill_with", j_none()), out = j_list(c, J_LIST), row = { 0 };

    v = j_items(c, v);
    for (size_t i = 0; i < v.list->count; i++) {
        if (!i || (int64_t)row.list->count == n) {
            row = j_list(c, J_LIST);
            j_push(c, out, row);
        }
        j_push(c, row, v.list->items[i]);
    }
    if (v.list->count && fill.type != J_NONE)
        while ((int64_t)row.list->count < n)
            j_push(c, row, fill);
    return j_iter(c, out, NULL);
}

static jval slices(jctx *c, jval v, const jargs *a)
{
    int64_t n = j_want_int(c, j_arg(a, 0, "slices", j_none()), "slices"), count, each, extra;
    jval fill = j_arg(a, 1, "fill_with", j_none()), out = j_list(c, J_LIST);
    int64_t at = 0;

    v = j_items(c, v);
    count = (int64_t)v.list->count;
    if (!n)
        j_fail(c, SL_EINVAL, "integer division or modulo by zero");
    each = n > 0 ? count / n : 0;
    extra = n > 0 ? count % n : 0;
    for (int64_t i = 0; i < n; i++) {
        jval row = j_list(c, J_LIST);
        for (int64_t k = 0; k < each + (i < extra); k++)
            j_push(c, row, v.list->items[at++]);
        if (fill.type != J_NONE && i >= extra)
            j_push(c, row, fill);
        j_push(c, out, row);
    }
    return j_iter(c, out, NULL);
}

static jval select_items(jctx *c, jval n, jval v, const jargs *a)
{
    bool by_attr = n.len > 6, keep = n.s[0] == 's';
    size_t used = by_attr ? 1 : 0;
    jval l = j_list(c, J_LIST);

    if (a->count < used)
        j_fail(c, SL_EINVAL, "Missing parameter for attribute name");
    v = j_items(c, v);
    for (size_t i = 0; i < v.list->count; i++) {
        jval x = v.list->items[i], y = by_attr ? j_path(c, x, a->pos[0], j_none()) : x;
        jargs rest = { a->count > used ? a->pos + used + 1 : NULL,
                       a->count > used ? a->count - used - 1 : 0, a->kw, a->kw_count };
        bool ok = a->count > used ? j_test(c, j_tostr(c, a->pos[used]), y, &rest) : j_true(y);
        if (ok == keep)
            j_push(c, l, x);
    }
    return j_iter(c, l, NULL);
}

static jval map(jctx *c, jval v, const jargs *a)
{
    jval attr = j_arg(a, SIZE_MAX, "attribute", j_none()), l = j_list(c, J_LIST);
    jval fallback = j_arg(a, SIZE_MAX, "default", j_none());
    bool by_attr = !a->count && attr.type != J_NONE;
    jargs rest = { a->pos + 1, a->count ? a->count - 1 : 0, a->kw, a->kw_count };

    if (!a->count && !by_attr)
        j_fail(c, SL_EINVAL, "map requires a filter argument");
    v = j_items(c, v);
    for (size_t i = 0; i < v.list->count; i++)
        j_push(c, l,
               by_attr ? j_path(c, v.list->items[i], attr, fallback)
                       : j_filter(c, j_tostr(c, a->pos[0]), v.list->items[i], &rest));
    return j_iter(c, l, NULL);
}

static jval join(jctx *c, jval v, jval sep, jval attr)
{
    jtext t = { 0 };

    v = j_items(c, v);
    sep = j_tostr(c, sep);
    for (size_t i = 0; i < v.list->count; i++) {
        if (i)
            jt_put(c, &t, sep.s, sep.len);
        j_print(c, &t,
                attr.type == J_NONE ? v.list->items[i]
                                    : j_path(c, v.list->items[i], attr, j_none()));
    }
    return jt_val(&t);
}

static jval first(jctx *c, jval v)
{
    if (v.type == J_ITER && v.iter->at < v.iter->list->count)
        return v.iter->list->items[v.iter->at++];
    v = j_items(c, v);
    return v.list->count ? v.list->items[0] : j_undef("No first item, sequence was empty.", 34);
}

static jval reversed(jctx *c, jval v, bool back)
{
    jval l = j_list(c, J_LIST), items = j_items(c, v);
    jtext t = { 0 };
    size_t n = items.list->count;

    if (v.type == J_STR && back) {
        for (size_t i = n; i-- > 0;)
            jt_put(c, &t, items.list->items[i].s, items.list->items[i].len);
        return jt_val(&t);
    }
    for (size_t i = n; i-- > 0;)
        j_push(c, l, items.list->items[i]);
    return j_iter(c, l, NULL);
}

static jval last(jctx *c, jval v)
{
    if (v.type == J_ITER)
        j_fail(c, SL_EINVAL, "'generator' object is not reversible");
    v = j_items(c, v);
    return v.list->count ? v.list->items[v.list->count - 1]
                         : j_undef("No last item, sequence was empty.", 33);
}

jval j_filter_seq(jctx *c, jval n, jval v, const jargs *a)
{
    if (j_is(n, "join"))
        return join(c, v, j_arg(a, 0, "d", j_strz("")), j_arg(a, 1, "attribute", j_none()));
    if (j_is(n, "list"))
        return copy(c, v);
    if (j_is(n, "first"))
        return first(c, v);
    if (j_is(n, "last"))
        return last(c, v);
    if (j_is(n, "map"))
        return map(c, v, a);
    if (j_one_of(n, " select reject selectattr rejectattr "))
        return select_items(c, n, v, a);
    if (j_is(n, "items")) {
        if (v.type != J_DICT && v.type != J_UNDEF)
            j_fail(c, SL_EINVAL, "Can only get item pairs from a mapping.");
        if (v.type == J_DICT)
            v = j_method(c, v, n, &(jargs){ 0 });
        return j_iter(c, copy(c, v), NULL);
    }
    if (j_is(n, "sort"))
        return sort(c, v, j_arg(a, 2, "attribute", j_none()),
                    j_true(j_arg(a, 1, "case_sensitive", j_bool(false))),
                    j_true(j_arg(a, 0, "reverse", j_bool(false))));
    if (j_is(n, "reverse"))
        return reversed(c, v, true);
    if (j_one_of(n, " min max "))
        return extreme(c, v, a, n.s[1] == 'a');
    if (j_is(n, "sum"))
        return sum(c, v, a);
    if (j_is(n, "unique"))
        return unique(c, v, a);
    if (j_is(n, "dictsort"))
        return dictsort(c, v, a);
    if (j_is(n, "groupby"))
        return groupby(c, v, a);
    return j_is(n, "batch") ? batch(c, v, a) : slices(c, v, a);
}
