/* jinja_filter.c - filters on single values; those on sequences are in jinja_seq.c. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "token/jinja_int.h"

bool j_filter_known(jval n)
{
    return j_one_of(n, " abs attr batch capitalize center count d default dictsort e escape float "
                       "first format forceescape groupby indent int items join last length list "
                       "lower map ") ||
           j_one_of(n, " max min pprint reject rejectattr replace reverse round safe select "
                       "selectattr slice sort string striptags sum title tojson trim truncate ") ||
           j_one_of(n, " unique upper urlencode wordcount xmlattr random filesizeformat urlize "
                       "wordwrap ");
}

/* The number a Python literal of that base spells; false when it spells none. */
static bool parse_int(jval s, int64_t base, int64_t *ret)
{
    char b[80], *end;
    size_t n = 0;

    s = jx_strip(NULL, s, j_none(), 3);
    if (!s.len || s.len >= sizeof b || isspace((uint8_t)s.s[0]))
        return false;
    for (size_t i = 0; i < s.len; i++) {
        bool inner =
            i && i + 1 < s.len && isalnum((uint8_t)s.s[i - 1]) && isalnum((uint8_t)s.s[i + 1]);
        if (s.s[i] == '_' && inner)
            continue;
        if (!isalnum((uint8_t)s.s[i]) && !(i == 0 && strchr("+-", s.s[0])))
            return false;
        b[n++] = s.s[i];
    }
    b[n] = 0;
    size_t sign = b[0] == '-' || b[0] == '+';
    const char *prefix = base == 2 ? "bB" : base == 8 ? "oO" : NULL;
    if (prefix && b[sign] == '0' && b[sign + 1] && strchr(prefix, b[sign + 1]))
        memmove(b + sign, b + sign + 2, n - sign - 1);
    if (b[sign] == 0 || isspace((uint8_t)b[sign]))
        return false;
    *ret = strtoll(b, &end, (int)base);
    return *end == 0;
}

static bool parse_float(jval s, double *ret)
{
    char b[400], *end;
    size_t n = 0;

    s = jx_strip(NULL, s, j_none(), 3);
    if (!s.len || s.len >= sizeof b)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (!s.s[i] || s.s[i] == 'x' || s.s[i] == 'X' || s.s[i] == '(')
            return false;
        if (s.s[i] == '_' && i && i + 1 < s.len && isdigit((uint8_t)s.s[i - 1]) &&
            isdigit((uint8_t)s.s[i + 1]))
            continue;
        b[n++] = s.s[i];
    }
    b[n] = 0;
    *ret = strtod(b, &end);
    return *end == 0;
}

static bool to_float(jctx *c, jval v, double *ret)
{
    if (v.type == J_UNDEF)
        j_fail(c, SL_EINVAL, "'%.*s' is undefined", (int)SL_MIN(v.len, 80u), v.s);
    if (j_is_num(v)) {
        *ret = j_num(v);
        return true;
    }
    return v.type == J_STR && parse_float(v, ret);
}

static jval to_int(jctx *c, jval v, const jargs *a)
{
    int64_t base = j_want_int(c, j_arg(a, 1, "base", j_int(10)), "base"), i;
    jval fallback = j_arg(a, 0, "default", j_int(0));
    double f;

    if (base != 0 && (base < 2 || base > 36))
        return fallback;
    if (j_is_int(v))
        return j_int(j_intval(v));
    if (v.type == J_STR && parse_int(v, base, &i))
        return j_int(i);
    if (!to_float(c, v, &f) || !(f > -9.2e18 && f < 9.2e18))
        return fallback;
    return j_int((int64_t)f);
}

static jval to_round(jctx *c, jval v, const jargs *a)
{
    int64_t digits = j_want_int(c, j_arg(a, 0, "precision", j_int(0)), "precision");
    jval method = j_arg(a, 1, "method", j_strz("common"));
    char b[700];
    double f, p;

    if (!j_one_of(method, " common ceil floor "))
        j_fail(c, SL_EINVAL, "method must be common, ceil or floor");
    if (!j_is_num(v))
        j_fail(c, SL_EINVAL, "type %s doesn't define __round__ method", j_type_name(v));
    f = j_num(v);
    digits = SL_MAX(SL_MIN(digits, (int64_t)320), (int64_t)-320);
    p = pow(10, (double)digits);
    if (!j_is(method, "common")) {
        f = method.s[0] == 'c' ? ceil(f * p) / p : floor(f * p) / p;
        return j_float(f);
    }
    if (j_is_int(v) && digits >= 0)
        return j_int(j_intval(v));
    if (j_is_int(v))
        return digits < -18 ? j_int(0) : j_int((int64_t)(rint(f * p) / p));
    if (digits < 0)
        return j_float(rint(f * p) / p);
    if (isnan(f) || isinf(f))
        return v;
    snprintf(b, sizeof b, "%.*f", (int)digits, f);
    return j_float(strtod(b, NULL));
}

static jval indent(jctx *c, jval s, const jargs *a)
{
    jval width = j_arg(a, 0, "width", j_int(4)), lines;
    bool first = j_true(j_arg(a, 1, "first", j_bool(false)));
    bool blank = j_true(j_arg(a, 2, "blank", j_bool(false)));
    jtext pad = { 0 }, t = { 0 }, s2 = { 0 };

    if (s.type != J_STR)
        j_fail(c, SL_EINVAL, "indent wants a string, not '%s'", j_type_name(s));
    if (width.type == J_STR)
        jt_put(c, &pad, width.s, width.len);
    else
        jt_fill(c, &pad, " ", 1, j_want_int(c, width, "width"));
    jt_put(c, &s2, s.s, s.len);
    jt_puts(c, &s2, "\n");
    lines = jx_lines(c, jt_val(&s2), false);
    for (size_t i = 0; i < lines.list->count; i++) {
        jval line = lines.list->items[i];
        if (i)
            jt_puts(c, &t, "\n");
        if (i ? line.len || blank : first)
            jt_put(c, &t, pad.p, pad.len);
        jt_put(c, &t, line.s, line.len);
    }
    return jt_val(&t);
}

static jval truncate(jctx *c, jval s, const jargs *a)
{
    int64_t length = j_want_int(c, j_arg(a, 0, "length", j_int(255)), "length");
    bool kill = j_true(j_arg(a, 1, "killwords", j_bool(false)));
    jval end = j_arg(a, 2, "end", j_strz("...")), leeway = j_arg(a, 3, "leeway", j_none());
    int64_t slack = leeway.type == J_NONE ? 5 : j_want_int(c, leeway, "leeway");

    if (s.type != J_STR || end.type != J_STR)
        j_fail(c, SL_EINVAL, "truncate wants a string");
    if (length < (int64_t)jx_count(end) || slack < 0)
        j_fail(c, SL_EINVAL, "expected length >= %zu, got %lld", jx_count(end), (long long)length);
    if ((int64_t)jx_count(s) <= length || (int64_t)jx_count(s) - length <= slack)
        return s;
    s.len = jx_offset(s, length - (int64_t)jx_count(end));
    const char *cut = kill || !s.len ? NULL : memrchr(s.s, ' ', s.len);
    if (cut)
        s.len = (size_t)(cut - s.s);
    return j_binary(c, O_ADD, s, end);
}

/* The filter, unlike the method, starts a word behind a space, a hyphen or an opening bracket. */
static jval title(jctx *c, jval s)
{
    bool start = true;
    jtext t = { 0 };
    uint32_t cp;

    for (size_t i = 0, n; i < s.len; i += n) {
        n = jx_next(s.s + i, s.len - i, &cp);
        jval ch = jx_case(c, j_str(s.s + i, n), start ? "upper" : "lower");
        jt_put(c, &t, ch.s, ch.len);
        start = jx_space(cp) || (cp < 128 && cp && strchr("-({[<", (int)cp));
    }
    return jt_val(&t);
}

static jval wordcount(jctx *c, jval s)
{
    int64_t words = 0;
    bool in = false;
    uint32_t cp;

    j_work(c, s.len);
    for (size_t i = 0, n; i < s.len; i += n) {
        n = jx_next(s.s + i, s.len - i, &cp);
        jval ch = j_str(s.s + i, n);
        bool word = cp == '_' || jx_is(ch, "isalnum");
        words += word && !in;
        in = word;
    }
    return j_int(words);
}

static void quote(jctx *c, jtext *t, jval s, bool query)
{
    char b[4];

    for (size_t i = 0; i < s.len; i++) {
        uint8_t ch = (uint8_t)s.s[i];
        if ((ch < 128 && isalnum(ch)) || (ch && strchr("_.-~", ch)) || (!query && ch == '/')) {
            jt_put(c, t, s.s + i, 1);
        } else if (query && ch == ' ') {
            jt_puts(c, t, "+");
        } else {
            snprintf(b, sizeof b, "%%%02X", ch);
            jt_puts(c, t, b);
        }
    }
}

static jval urlencode(jctx *c, jval v)
{
    jtext t = { 0 };

    if (v.type == J_STR || !j_iterable(v)) {
        quote(c, &t, j_tostr(c, v), false);
        return jt_val(&t);
    }
    if (v.type == J_DICT)
        v = j_method(c, v, j_strz("items"), &(jargs){ 0 });
    v = j_items(c, v);
    for (size_t i = 0; i < v.list->count; i++) {
        jval p = j_items(c, v.list->items[i]);
        if (p.list->count != 2)
            j_fail(c, SL_EINVAL, "urlencode wants pairs");
        if (i)
            jt_puts(c, &t, "&");
        quote(c, &t, j_tostr(c, p.list->items[0]), true);
        jt_puts(c, &t, "=");
        quote(c, &t, j_tostr(c, p.list->items[1]), true);
    }
    return jt_val(&t);
}

static jval striptags(jctx *c, jval s)
{
    static const char *const entities[] = { "&lt;",  "<",  "&gt;",   ">",  "&#39;", "'",
                                            "&#34;", "\"", "&quot;", "\"", "&amp;", "&" };
    jtext t = { 0 }, out = { 0 };
    jval words;

    for (size_t i = 0; i < s.len; i++) {
        bool comment = s.len - i >= 4 && !memcmp(s.s + i, "<!--", 4);
        const char *p = s.s[i] != '<' ? NULL
                        : comment     ? memmem(s.s + i, s.len - i, "-->", 3)
                                      : memchr(s.s + i, '>', s.len - i);
        j_work(c, p ? 0 : 256);
        if (p)
            i = (size_t)(p - s.s) + (comment ? 2 : 0);
        else
            jt_put(c, &t, s.s + i, 1);
    }
    words = j_str_method(c, jt_val(&t), j_strz("split"), &(jargs){ 0 });
    for (size_t i = 0; i < words.list->count; i++) {
        if (i)
            jt_puts(c, &out, " ");
        jt_put(c, &out, words.list->items[i].s, words.list->items[i].len);
    }
    s = jt_val(&out);
    for (size_t i = 0; i < SL_COUNT_OF(entities); i += 2) {
        jval pair[2] = { j_strz(entities[i]), j_strz(entities[i + 1]) };
        s = j_str_method(c, s, j_strz("replace"), &(jargs){ .pos = pair, .count = 2 });
    }
    return s;
}

static jval xmlattr(jctx *c, jval v, const jargs *a)
{
    bool space = j_true(j_arg(a, 0, "autospace", j_bool(true)));
    jtext t = { 0 };

    if (v.type != J_DICT)
        j_fail(c, SL_EINVAL, "xmlattr wants a dict");
    for (size_t i = 0; i < v.dict->count; i++) {
        jval k = jx_escape(c, j_tostr(c, v.dict->items[i].key)), x = v.dict->items[i].value;
        if (x.type == J_NONE || x.type == J_UNDEF)
            continue;
        if (t.len || space)
            jt_puts(c, &t, " ");
        x = jx_escape(c, j_tostr(c, x));
        jt_put(c, &t, k.s, k.len);
        jt_puts(c, &t, "=\"");
        jt_put(c, &t, x.s, x.len);
        jt_puts(c, &t, "\"");
    }
    return jt_val(&t);
}

static jval format(jctx *c, jval s, const jargs *a)
{
    jval t = j_list(c, J_TUPLE), d = j_dict(c);

    if (a->count && a->kw_count)
        j_fail(c, SL_EINVAL, "can't handle positional and keyword arguments at the same time");
    for (size_t i = 0; i < a->count; i++)
        j_push(c, t, a->pos[i]);
    for (size_t i = 0; i < a->kw_count; i++)
        j_put(c, d.dict, a->kw[i].key, a->kw[i].value);
    return j_percent(c, s, t, a->kw_count ? d.dict : NULL);
}

static jval text_filter(jctx *c, jval n, jval v, const jargs *a)
{
    jval s = j_tostr(c, v), args[3];

    if (j_is(n, "trim"))
        return jx_strip(c, s, j_arg(a, 0, "chars", j_none()), 3);
    if (j_one_of(n, " lower upper capitalize "))
        return jx_case(c, s, n.s);
    if (j_is(n, "title"))
        return title(c, s);
    if (j_is(n, "string"))
        return s;
    if (j_is(n, "wordcount"))
        return wordcount(c, s);
    if (j_is(n, "striptags"))
        return striptags(c, s);
    if (j_is(n, "format"))
        return format(c, s, a);
    if (j_is(n, "center")) {
        args[0] = j_arg(a, 0, "width", j_int(80));
        return j_str_method(c, s, n, &(jargs){ .pos = args, .count = 1 });
    }
    args[0] = j_tostr(c, j_arg(a, 0, "old", j_none()));
    args[1] = j_tostr(c, j_arg(a, 1, "new", j_none()));
    args[2] = j_arg(a, 2, "count", j_none());
    if (a->count + a->kw_count < 2)
        j_fail(c, SL_EINVAL, "replace wants two arguments");
    return j_str_method(c, s, j_strz("replace"), &(jargs){ .pos = args, .count = 3 });
}

static jval value_filter(jctx *c, jval n, jval v, const jargs *a)
{
    double f;

    if (j_one_of(n, " default d "))
        return v.type == J_UNDEF || (j_true(j_arg(a, 1, "boolean", j_bool(false))) && !j_true(v))
                   ? j_arg(a, 0, "default_value", j_strz(""))
                   : v;
    if (j_is(n, "tojson"))
        return j_tojson(c, v, a);
    if (j_is(n, "int"))
        return to_int(c, v, a);
    if (j_is(n, "float"))
        return to_float(c, v, &f) ? j_float(f) : j_arg(a, 0, "default", j_float(0));
    if (j_is(n, "abs")) {
        if (!j_is_num(v))
            j_fail(c, SL_EINVAL, "bad operand type for abs(): '%s'", j_type_name(v));
        return j_num(v) < 0 ? j_negate(c, O_NEG, v) : j_negate(c, O_POS, v);
    }
    if (j_is(n, "round"))
        return to_round(c, v, a);
    if (j_one_of(n, " length count "))
        return j_int(j_len(c, v));
    if (j_is(n, "indent"))
        return indent(c, v, a);
    if (j_is(n, "truncate"))
        return truncate(c, v, a);
    if (j_is(n, "urlencode"))
        return urlencode(c, v);
    if (j_is(n, "attr"))
        return v.type == J_DICT || v.type == J_NS
                   ? (j_has_method(v, j_arg(a, 0, "name", j_strz("")))
                          ? j_attr(c, v, j_arg(a, 0, "name", j_strz("")))
                          : j_undef("attr", 4))
                   : j_attr(c, v, j_tostr(c, j_arg(a, 0, "name", j_strz(""))));
    j_fail(c, SL_EINVAL, "filter '%.*s' is not supported", (int)n.len, n.s);
}

jval j_filter(jctx *c, jval n, jval v, const jargs *a)
{
    jtext t = { 0 };

    j_step(c);
    if (!j_filter_known(n))
        j_fail(c, SL_EINVAL, "No filter named '%.*s'.", (int)SL_MIN(n.len, 60u), n.s);
    if (j_one_of(n, " trim lower upper capitalize title string wordcount striptags format center "
                    "replace "))
        return text_filter(c, n, v, a);
    if (j_one_of(n, " e escape ") && v.type == J_STR && v.safe)
        return v;
    if (j_one_of(n, " e escape forceescape "))
        return jx_escape(c, j_tostr(c, v));
    if (j_is(n, "safe")) {
        v = j_tostr(c, v);
        v.safe = true;
        return v;
    }
    if (j_is(n, "xmlattr"))
        return xmlattr(c, v, a);
    if (j_is(n, "pprint")) {
        j_repr(c, &t, v);
        return jt_val(&t);
    }
    if (j_one_of(n, " batch dictsort first groupby items join last list map max min reject "
                    "rejectattr reverse select selectattr slice sort sum unique "))
        return j_filter_seq(c, n, v, a);
    return value_filter(c, n, v, a);
}
