/* jinja_print.c - values as text: Python's str() and repr(), and JSON as json.dumps writes it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "token/jinja_int.h"

typedef struct json_style {
    jval item_sep, key_sep, indent; /* indent: a string, or none */
    bool sort, ascii;
} json_style;

void j_put_float(jctx *c, jtext *t, double f)
{
    char b[64];

    if (isnan(f) || isinf(f)) {
        jt_puts(c, t, isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    /* The shortest digits that read back as the same number. */
    for (int p = 1; p <= 17; p++) {
        snprintf(b, sizeof b, "%.*e", p - 1, f);
        if (strtod(b, NULL) != f)
            continue;
        int e = atoi(strchr(b, 'e') + 1);
        if (e >= -4 && e < 16)
            snprintf(b, sizeof b, "%.*f", SL_MAX(p - 1 - e, 1), f);
        break;
    }
    jt_puts(c, t, b);
}

static bool printable(uint32_t cp)
{
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return cp == ' ';
    default:
        return true;
    }
}

static void put_quoted(jctx *c, jtext *t, jval v)
{
    bool twin = memchr(v.s, '\'', v.len) && !memchr(v.s, '"', v.len);
    char q = twin ? '"' : '\'', b[16];
    uint32_t cp;

    jt_put(c, t, &q, 1);
    for (size_t i = 0, n; i < v.len; i += n) {
        n = jx_next(v.s + i, v.len - i, &cp);
        if (cp == (uint32_t)q || cp == '\\')
            snprintf(b, sizeof b, "\\%c", (int)cp);
        else if (cp == '\n' || cp == '\r' || cp == '\t')
            snprintf(b, sizeof b, "\\%c", cp == '\n' ? 'n' : cp == '\r' ? 'r' : 't');
        else if (printable(cp))
            b[0] = 0;
        else
            snprintf(b, sizeof b, cp < 256 ? "\\x%02x" : cp < 65536 ? "\\u%04x" : "\\U%08x", cp);
        if (b[0])
            jt_puts(c, t, b);
        else
            jt_put(c, t, v.s + i, n);
    }
    jt_put(c, t, &q, 1);
}

static void repr_list(jctx *c, jtext *t, const jlist *l, const char *open, const char *close)
{
    jt_puts(c, t, open);
    for (size_t i = 0; i < l->count; i++) {
        if (i)
            jt_puts(c, t, ", ");
        j_repr(c, t, l->items[i]);
    }
    jt_puts(c, t, close);
}

static void repr_dict(jctx *c, jtext *t, const jdict *d)
{
    jt_puts(c, t, "{");
    for (size_t i = 0; i < d->count; i++) {
        if (i)
            jt_puts(c, t, ", ");
        j_repr(c, t, d->items[i].key);
        jt_puts(c, t, ": ");
        j_repr(c, t, d->items[i].value);
    }
    jt_puts(c, t, "}");
}

void j_repr(jctx *c, jtext *t, jval v)
{
    j_step(c);
    if (++c->depth > SL_TEMPLATE_DEPTH_MAX)
        j_fail(c, SL_ELIMIT, "values nested too deep");
    switch (v.type) {
    case J_STR:
        if (v.safe)
            jt_puts(c, t, "Markup(");
        put_quoted(c, t, v);
        if (v.safe)
            jt_puts(c, t, ")");
        break;
    case J_LIST:
        repr_list(c, t, v.list, "[", "]");
        break;
    case J_TUPLE:
        repr_list(c, t, v.list, "(", v.list->count == 1 ? ",)" : ")");
        break;
    case J_VIEW:
        jt_puts(c, t, v.iter->kind);
        repr_list(c, t, v.iter->list, "([", "])");
        break;
    case J_DICT:
        repr_dict(c, t, v.dict);
        break;
    case J_NS:
        jt_puts(c, t, "<Namespace ");
        repr_dict(c, t, v.dict);
        jt_puts(c, t, ">");
        break;
    case J_UNDEF:
        jt_puts(c, t, "Undefined");
        break;
    default:
        j_print(c, t, v);
    }
    c->depth--;
}

static void print_range(jctx *c, jtext *t, const jrange *r)
{
    char b[96];
    int64_t end = r->start + r->count * r->step;

    if (r->step == 1)
        snprintf(b, sizeof b, "range(%lld, %lld)", (long long)r->start, (long long)end);
    else
        snprintf(b, sizeof b, "range(%lld, %lld, %lld)", (long long)r->start, (long long)end,
                 (long long)r->step);
    jt_puts(c, t, b);
}

void j_print(jctx *c, jtext *t, jval v)
{
    char b[96];

    switch (v.type) {
    case J_UNDEF:
        return;
    case J_NONE:
        jt_puts(c, t, "None");
        return;
    case J_BOOL:
        jt_puts(c, t, v.b ? "True" : "False");
        return;
    case J_INT:
        snprintf(b, sizeof b, "%lld", (long long)v.i);
        jt_puts(c, t, b);
        return;
    case J_FLOAT:
        j_put_float(c, t, v.f);
        return;
    case J_STR:
        j_work(c, v.len);
        jt_put(c, t, v.s, v.len);
        return;
    case J_LIST:
    case J_TUPLE:
    case J_DICT:
    case J_VIEW:
    case J_NS:
        j_repr(c, t, v);
        return;
    case J_RANGE:
        print_range(c, t, v.range);
        return;
    case J_LOOP:
        snprintf(b, sizeof b, "<LoopContext %zu/%zu>", v.loop->at + 1, v.loop->count);
        jt_puts(c, t, b);
        return;
    case J_MACRO:
        jt_puts(c, t, "<Macro '");
        jt_put(c, t, v.macro->node->value.s, v.macro->node->value.len);
        jt_puts(c, t, "'>");
        return;
    default:
        jt_puts(c, t, "<");
        jt_puts(c, t, j_type_name(v));
        jt_puts(c, t, ">");
    }
}

jval j_tostr(jctx *c, jval v)
{
    jtext t = { 0 };

    if (v.type == J_STR)
        return v;
    j_print(c, &t, v);
    return jt_val(&t);
}

static void json_char(jctx *c, jtext *t, uint32_t cp)
{
    const char *k = cp && cp < 128 ? strchr("\"\\\n\r\t\b\f", (int)cp) : NULL;
    static const char shorts[] = "\"\\nrtbf", *const keys = "\"\\\n\r\t\b\f";
    char b[16];

    if (k)
        snprintf(b, sizeof b, "\\%c", shorts[strchr(keys, (int)cp) - keys]);
    else if (cp < 0x10000)
        snprintf(b, sizeof b, "\\u%04x", cp);
    else
        snprintf(b, sizeof b, "\\u%04x\\u%04x", 0xd800 + ((cp - 0x10000) >> 10),
                 0xdc00 + ((cp - 0x10000) & 0x3ff));
    jt_puts(c, t, b);
}

static void json_str(jctx *c, jtext *t, jval v, bool ascii)
{
    size_t from = 0, n;
    uint32_t cp;

    j_work(c, v.len);
    jt_puts(c, t, "\"");
    for (size_t i = 0; i < v.len; i += n) {
        n = jx_next(v.s + i, v.len - i, &cp);
        if (cp >= 32 && cp != '"' && cp != '\\' && (!ascii || cp < 127))
            continue;
        jt_put(c, t, v.s + from, i - from);
        json_char(c, t, cp);
        from = i + n;
    }
    jt_put(c, t, v.s + from, v.len - from);
    jt_puts(c, t, "\"");
}

static void json_gap(jctx *c, jtext *t, const json_style *st, int level)
{
    if (st->indent.type != J_STR)
        return;
    jt_puts(c, t, "\n");
    jt_fill(c, t, st->indent.s, st->indent.len, level);
}

static void json_num(jctx *c, jtext *t, jval v)
{
    if (v.type == J_FLOAT && (isnan(v.f) || isinf(v.f)))
        jt_puts(c, t, isnan(v.f) ? "NaN" : v.f > 0 ? "Infinity" : "-Infinity");
    else if (v.type == J_BOOL)
        jt_puts(c, t, v.b ? "true" : "false");
    else if (v.type == J_NONE)
        jt_puts(c, t, "null");
    else
        j_print(c, t, v);
}

static void json_key(jctx *c, jtext *t, jval key, const json_style *st)
{
    jtext k = { 0 };

    if (key.type == J_STR) {
        json_str(c, t, key, st->ascii);
    } else if (j_is_num(key) || key.type == J_NONE) {
        json_num(c, &k, key);
        json_str(c, t, jt_val(&k), st->ascii);
    } else {
        j_fail(c, SL_EINVAL, "keys must be str, int, float, bool or None, not %s",
               j_type_name(key));
    }
    j_print(c, t, st->key_sep);
}

static void json_put(jctx *c, jtext *t, jval v, const json_style *st, int level);

static void json_dict(jctx *c, jtext *t, jval v, const json_style *st, int level)
{
    size_t n = v.dict->count;
    jval *keys = j_alloc(c, n * sizeof *keys), *at = j_alloc(c, n * sizeof *at);

    for (size_t i = 0; i < n; i++) {
        keys[i] = v.dict->items[i].key;
        at[i] = j_int((int64_t)i);
    }
    if (st->sort)
        j_sort(c, at, keys, n, false);
    jt_puts(c, t, "{");
    for (size_t i = 0; i < n; i++) {
        const jpair *p = &v.dict->items[at[i].i];

        if (i)
            j_print(c, t, st->item_sep);
        json_gap(c, t, st, level + 1);
        json_key(c, t, p->key, st);
        json_put(c, t, p->value, st, level + 1);
    }
    if (n)
        json_gap(c, t, st, level);
    jt_puts(c, t, "}");
}

static void json_put(jctx *c, jtext *t, jval v, const json_style *st, int level)
{
    j_step(c);
    if (level > SL_TEMPLATE_DEPTH_MAX)
        j_fail(c, SL_ELIMIT, "values nested too deep");
    if (v.type == J_LIST || v.type == J_TUPLE) {
        jt_puts(c, t, "[");
        for (size_t i = 0; i < v.list->count; i++) {
            if (i)
                j_print(c, t, st->item_sep);
            json_gap(c, t, st, level + 1);
            json_put(c, t, v.list->items[i], st, level + 1);
        }
        if (v.list->count)
            json_gap(c, t, st, level);
        jt_puts(c, t, "]");
    } else if (v.type == J_DICT) {
        json_dict(c, t, v, st, level);
    } else if (v.type == J_STR) {
        json_str(c, t, v, st->ascii);
    } else if (v.type == J_NONE || j_is_num(v)) {
        json_num(c, t, v);
    } else {
        j_fail(c, SL_EINVAL, "Object of type %s is not JSON serializable", j_type_name(v));
    }
}

jval j_tojson(jctx *c, jval v, const jargs *a)
{
    jval indent = j_arg(a, 1, "indent", j_none()), seps = j_arg(a, 2, "separators", j_none());
    json_style st = { .ascii = j_true(j_arg(a, 0, "ensure_ascii", j_bool(false))),
                      .sort = j_true(j_arg(a, 3, "sort_keys", j_bool(false))) };
    jtext t = { 0 }, pad = { 0 };

    if (j_is_int(indent)) {
        jt_fill(c, &pad, " ", 1, j_intval(indent));
        indent = jt_val(&pad);
    } else if (indent.type != J_NONE && indent.type != J_STR) {
        j_fail(c, SL_EINVAL, "indent is '%s'", j_type_name(indent));
    }
    st.indent = indent;
    st.item_sep = j_strz(indent.type == J_NONE ? ", " : ",");
    st.key_sep = j_strz(": ");
    if (seps.type != J_NONE) {
        seps = j_items(c, seps);
        if (seps.list->count != 2 || seps.list->items[0].type != J_STR ||
            seps.list->items[1].type != J_STR)
            j_fail(c, SL_EINVAL, "separators must be two strings");
        st.item_sep = seps.list->items[0];
        st.key_sep = seps.list->items[1];
    }
    json_put(c, &t, v, &st, 0);
    return jt_val(&t);
}
