/* jinja_format.c - "..." % args and "...".format(). */
#include <ctype.h>
#include <stdio.h>

#include "token/jinja_int.h"

/* One conversion: both syntaxes end here. */
typedef struct spec {
    char fill[4];
    size_t fill_len;
    char align, sign, type;
    bool alt, zero, comma;
    int64_t width, precision; /* precision -1: none */
} spec;

static int64_t digits(jctx *c, jval s, size_t *at)
{
    int64_t n = 0;

    while (*at < s.len && isdigit((uint8_t)s.s[*at]))
        if ((n = n * 10 + s.s[(*at)++] - '0') > (int64_t)SL_TEMPLATE_OUTPUT_BYTES_MAX)
            j_fail(c, SL_ELIMIT, "the template writes too much");
    return n;
}

/* sign, digits: written with padding between them when the spec says zero or '='. */
static void put_padded(jctx *c, jtext *t, const spec *sp, jval sign, jval body)
{
    int64_t gap = sp->width - (int64_t)jx_count(sign) - (int64_t)jx_count(body);
    int64_t left = sp->align == '>' ? gap : sp->align == '^' ? gap / 2 : 0;

    jt_fill(c, t, sp->fill, sp->fill_len, left);
    jt_put(c, t, sign.s, sign.len);
    if (sp->align == '=')
        jt_fill(c, t, sp->fill, sp->fill_len, gap);
    jt_put(c, t, body.s, body.len);
    if (sp->align == '<' || sp->align == '^')
        jt_fill(c, t, sp->fill, sp->fill_len, gap - left);
}

static jval with_commas(jctx *c, jval body)
{
    size_t whole = 0;
    jtext t = { 0 };

    while (whole < body.len && isdigit((uint8_t)body.s[whole]))
        whole++;
    for (size_t i = 0; i < whole; i++) {
        if (i && (whole - i) % 3 == 0)
            jt_puts(c, &t, ",");
        jt_put(c, &t, body.s + i, 1);
    }
    jt_put(c, &t, body.s + whole, body.len - whole);
    return jt_val(&t);
}

static void put_int(jctx *c, jtext *t, const spec *sp, int64_t i)
{
    uint64_t u = i < 0 ? -(uint64_t)i : (uint64_t)i;
    char b[80];
    size_t at = sizeof b;
    unsigned base = sp->type == 'x' || sp->type == 'X' ? 16
                    : sp->type == 'o'                  ? 8
                    : sp->type == 'b'                  ? 2
                                                       : 10;
    char head[4] = { 0 };
    size_t n = 0;
    jtext padded = { 0 };
    jval body;

    do {
        b[--at] = (sp->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[u % base];
        u /= base;
    } while (u);
    body = j_str(b + at, sizeof b - at);
    if (sp->precision > (int64_t)body.len) {
        jt_fill(c, &padded, "0", 1, sp->precision - (int64_t)body.len);
        jt_put(c, &padded, body.s, body.len);
        body = jt_val(&padded);
    }
    if (i < 0 || sp->sign == '+' || sp->sign == ' ')
        head[n++] = i < 0 ? '-' : sp->sign;
    if (sp->alt && base != 10) {
        head[n++] = '0';
        head[n++] = sp->type;
    }
    put_padded(c, t, sp, j_str(head, n), sp->comma ? with_commas(c, body) : body);
}

static void put_real(jctx *c, jtext *t, const spec *sp, double f)
{
    int precision = sp->precision < 0 ? 6 : (int)SL_MIN(sp->precision, (int64_t)1000);
    char format[8] = { '%', '.', '*', sp->type == '%' ? 'f' : sp->type, 0 }, b[1400];
    bool minus = f < 0 || (f == 0 && 1 / f < 0);
    jtext text = { 0 };
    jval body;

    if (sp->precision > 1000)
        j_fail(c, SL_ELIMIT, "more than 1000 digits");
    if (sp->alt) {
        memmove(format + 2, format + 1, 4);
        format[1] = '#';
    }
    if (sp->type == 0 && sp->precision < 0) {
        j_put_float(c, &text, minus ? -f : f);
        body = jt_val(&text);
    } else {
        if (sp->type == 0 || sp->type == 'n')
            format[sp->alt ? 4 : 3] = 'g';
        snprintf(b, sizeof b, format, precision, (minus ? -f : f) * (sp->type == '%' ? 100 : 1));
        body = j_strz(b);
        if (sp->type == '%') {
            jt_puts(c, &text, b);
            jt_puts(c, &text, "%");
            body = jt_val(&text);
        }
    }
    char sign = minus ? '-' : sp->sign == '+' || sp->sign == ' ' ? sp->sign : 0;
    put_padded(c, t, sp, j_str(&sign, sign != 0), sp->comma ? with_commas(c, body) : body);
}

static void put_text(jctx *c, jtext *t, const spec *sp, jval s)
{
    if (sp->precision >= 0)
        s.len = jx_offset(s, sp->precision);
    put_padded(c, t, sp, j_str("", 0), s);
}

static jval repr_of(jctx *c, jval v)
{
    jtext t = { 0 };

    j_repr(c, &t, v);
    return jt_val(&t);
}

static void percent_one(jctx *c, jtext *t, spec *sp, jval v)
{
    char b[4];

    switch (sp->type) {
    case 's':
        put_text(c, t, sp, j_tostr(c, v));
        return;
    case 'r':
    case 'a':
        put_text(c, t, sp, repr_of(c, v));
        return;
    case 'c':
        if (v.type == J_STR && jx_count(v) == 1)
            put_text(c, t, sp, v);
        else if (j_is_int(v))
            put_text(c, t, sp, j_str(b, sl_utf8_encode((uint32_t)j_intval(v), b)));
        else
            j_fail(c, SL_EINVAL, "%%c requires int or char");
        return;
    default:
        break;
    }
    if (sp->zero && sp->align != '<') {
        sp->align = '=';
        sp->fill[0] = '0';
    }
    if (!j_is_num(v))
        j_fail(c, SL_EINVAL, "%%%c format: a real number is required, not %s", sp->type,
               j_type_name(v));
    if (strchr("diu", sp->type)) {
        if (v.type == J_FLOAT && !(v.f > -9e18 && v.f < 9e18))
            j_fail(c, SL_EINVAL, "cannot convert float to integer");
        sp->type = 'd';
        put_int(c, t, sp, v.type == J_FLOAT ? (int64_t)v.f : j_intval(v));
    } else if (strchr("xXo", sp->type)) {
        if (v.type == J_FLOAT)
            j_fail(c, SL_EINVAL, "%%%c format: an integer is required, not float", sp->type);
        put_int(c, t, sp, j_intval(v));
    } else {
        put_real(c, t, sp, j_num(v));
    }
}

static int64_t star_or_digits(jctx *c, jval f, size_t *i, jval args, size_t *used)
{
    if (*i >= f.len || f.s[*i] != '*')
        return digits(c, f, i);
    ++*i;
    if (args.type != J_TUPLE || *used >= args.list->count || !j_is_int(args.list->items[*used]))
        j_fail(c, SL_EINVAL, "* wants int");
    int64_t n = j_intval(args.list->items[(*used)++]);
    return SL_MIN(n, (int64_t)SL_TEMPLATE_OUTPUT_BYTES_MAX + 1);
}

/* Reads flags, width, precision and type behind a '%'. */
static spec percent_spec(jctx *c, jval f, size_t *i, jval args, size_t *used)
{
    spec sp = { .fill = " ", .fill_len = 1, .align = '>', .precision = -1 };

    for (; *i < f.len && f.s[*i] && strchr("#0- +", f.s[*i]); ++*i) {
        switch (f.s[*i]) {
        case '#':
            sp.alt = true;
            break;
        case '0':
            sp.zero = true;
            break;
        case '-':
            sp.align = '<';
            break;
        default:
            sp.sign = sp.sign == '+' ? '+' : f.s[*i];
        }
    }
    sp.width = star_or_digits(c, f, i, args, used);
    if (*i < f.len && f.s[*i] == '.') {
        ++*i;
        sp.precision = star_or_digits(c, f, i, args, used);
        sp.precision = SL_MAX(sp.precision, (int64_t)0);
    }
    while (*i < f.len && f.s[*i] && strchr("hlL", f.s[*i]))
        ++*i;
    if (*i >= f.len)
        j_fail(c, SL_EINVAL, "incomplete format");
    sp.type = f.s[(*i)++];
    return sp;
}

jval j_percent(jctx *c, jval f, jval args, const jdict *named)
{
    size_t used = 0, have = args.type == J_TUPLE ? args.list->count : 1;
    bool by_name = false;
    jtext t = { 0 };

    for (size_t i = 0; i < f.len;) {
        const char *p = memchr(f.s + i, '%', f.len - i);
        size_t n = p ? (size_t)(p - f.s) - i : f.len - i;
        jval v = args;

        jt_put(c, &t, f.s + i, n);
        i += n + 1;
        if (!p)
            break;
        bool key = i < f.len && f.s[i] == '(';
        if (key) {
            const char *end = memchr(f.s + i, ')', f.len - i);
            if (!end || !named)
                j_fail(c, SL_EINVAL, "format requires a mapping");
            const jval *m = j_get(named, j_str(f.s + i + 1, (size_t)(end - f.s) - i - 1));
            if (!m)
                j_fail(c, SL_EINVAL, "format key is missing");
            v = *m;
            by_name = true;
            i = (size_t)(end - f.s) + 1;
        }
        spec sp = percent_spec(c, f, &i, args, &used);
        if (sp.type == '%') {
            jt_puts(c, &t, "%");
            continue;
        }
        if (!sp.type || !strchr("sracdiuxXofFeEgG", sp.type))
            j_fail(c, SL_EINVAL, "unsupported format character");
        if (!key) {
            if (used >= have)
                j_fail(c, SL_EINVAL, "not enough arguments for format string");
            v = args.type == J_TUPLE ? args.list->items[used] : args;
            used++;
        }
        percent_one(c, &t, &sp, v);
    }
    if (used < have && !named && !by_name)
        j_fail(c, SL_EINVAL, "not all arguments converted during string formatting");
    return jt_val(&t);
}

static spec format_spec(jctx *c, jval s)
{
    spec sp = { .fill = " ", .fill_len = 1, .precision = -1 };
    size_t i = 0, first = s.len ? jx_offset(s, 1) : 0;

    if (first < s.len && strchr("<>=^", s.s[first]) && first <= 4) {
        memcpy(sp.fill, s.s, first);
        sp.fill_len = first;
        sp.align = s.s[first];
        i = first + 1;
    } else if (s.len && s.s[0] && strchr("<>=^", s.s[0])) {
        sp.align = s.s[i++];
    }
    if (i < s.len && s.s[i] && strchr("+- ", s.s[i]))
        sp.sign = s.s[i++];
    if (i < s.len && s.s[i] == '#') {
        sp.alt = true;
        i++;
    }
    if (i < s.len && s.s[i] == '0') {
        sp.zero = true;
        if (!sp.align) {
            sp.align = '=';
            sp.fill[0] = '0';
        }
        i++;
    }
    sp.width = digits(c, s, &i);
    if (i < s.len && (s.s[i] == ',' || s.s[i] == '_')) {
        if (s.s[i] == '_')
            j_fail(c, SL_EINVAL, "the _ option is not supported");
        sp.comma = true;
        i++;
    }
    if (i < s.len && s.s[i] == '.') {
        i++;
        sp.precision = digits(c, s, &i);
    }
    if (i < s.len)
        sp.type = s.s[i++];
    if (i < s.len || (sp.type && !strchr("sdxXobcneEfFgG%", sp.type)))
        j_fail(c, SL_EINVAL, "Invalid format specifier");
    return sp;
}

static void format_value(jctx *c, jtext *t, jval v, jval text)
{
    spec sp = format_spec(c, text);
    bool number = j_is_num(v) && !(v.type == J_BOOL && !text.len);
    char b[4];

    if (!number) {
        if (text.len && v.type != J_STR)
            j_fail(c, SL_EINVAL, "unsupported format string passed to %s.__format__",
                   j_type_name(v));
        if ((sp.type && sp.type != 's') || sp.align == '=' || sp.comma || sp.sign)
            j_fail(c, SL_EINVAL, "Unknown format code for object of type 'str'");
        if (!sp.align)
            sp.align = '<';
        put_text(c, t, &sp, j_tostr(c, v));
        return;
    }
    if (!sp.align)
        sp.align = '>';
    if (sp.type == 's' || (v.type == J_FLOAT && sp.type && strchr("dxXobc", sp.type)))
        j_fail(c, SL_EINVAL, "Unknown format code '%c' for object of type '%s'", sp.type,
               j_type_name(v));
    if (sp.type == 'c') {
        put_text(c, t, &sp, j_str(b, sl_utf8_encode((uint32_t)j_intval(v), b)));
    } else if (v.type != J_FLOAT && (!sp.type || strchr("dxXobn", sp.type))) {
        if (sp.precision >= 0)
            j_fail(c, SL_EINVAL, "Precision not allowed in integer format specifier");
        put_int(c, t, &sp, j_intval(v));
    } else {
        put_real(c, t, &sp, j_num(v));
    }
}

/* name, then .attr and [item] links. */
static jval format_field(jctx *c, jval f, const jargs *a, size_t *next)
{
    size_t i = 0;
    jval v, key;

    while (i < f.len && f.s[i] != '.' && f.s[i] != '[')
        i++;
    key = j_str(f.s, i);
    if (!i || isdigit((uint8_t)f.s[0])) {
        size_t at = 0, n = i ? (size_t)digits(c, key, &at) : (*next)++;
        if (n >= a->count)
            j_fail(c, SL_EINVAL, "Replacement index %zu out of range", n);
        v = a->pos[n];
    } else {
        size_t k = 0;
        while (k < a->kw_count && !(a->kw[k].key.len == i && !memcmp(a->kw[k].key.s, f.s, i)))
            k++;
        if (k == a->kw_count)
            j_fail(c, SL_EINVAL, "format() has no argument of that name");
        v = a->kw[k].value;
    }
    while (i < f.len) {
        bool item = f.s[i] == '[';
        size_t from = ++i, at = 0;

        while (i < f.len && (item ? f.s[i] != ']' : f.s[i] != '.' && f.s[i] != '['))
            i++;
        key = j_str(f.s + from, i - from);
        if (item && key.len && isdigit((uint8_t)key.s[0]))
            key = j_int(digits(c, key, &at));
        v = item ? j_item(c, v, key) : j_attr(c, v, key);
        i += item;
    }
    return v;
}

jval j_format(jctx *c, jval f, const jargs *a)
{
    size_t next = 0;
    jtext t = { 0 };

    for (size_t i = 0; i < f.len; i++) {
        size_t end, to, at;
        char ch = f.s[i], conversion = 0;

        if (ch != '{' && ch != '}') {
            jt_put(c, &t, &ch, 1);
            continue;
        }
        if (i + 1 < f.len && f.s[i + 1] == ch) {
            jt_put(c, &t, &ch, 1);
            i++;
            continue;
        }
        const char *p = ch == '{' ? memchr(f.s + i, '}', f.len - i) : NULL;
        if (!p)
            j_fail(c, SL_EINVAL, "Single '%c' encountered in format string", ch);
        end = (size_t)(p - f.s);
        for (at = i + 1; at < end && f.s[at] != ':' && f.s[at] != '!'; at++)
            ;
        to = at;
        if (memchr(f.s + i + 1, '{', end - i - 1))
            j_fail(c, SL_EINVAL, "nested format fields are not supported");
        if (at < end && f.s[at] == '!') {
            conversion = f.s[at + 1];
            at += 2;
        }
        if (at > end || (at < end && f.s[at] != ':') || (conversion && !strchr("sra", conversion)))
            j_fail(c, SL_EINVAL, "bad conversion in format string");
        jval v = format_field(c, j_str(f.s + i + 1, to - i - 1), a, &next);
        if (conversion)
            v = conversion == 's' ? j_tostr(c, v) : repr_of(c, v);
        format_value(c, &t, v, at < end ? j_str(f.s + at + 1, end - at - 1) : j_strz(""));
        i = end;
    }
    return jt_val(&t);
}
