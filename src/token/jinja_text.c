/* jinja_text.c - strings by character: case, classes, white space, lines. */
#include <utf8proc.h>

#include "token/jinja_int.h"

size_t jx_next(const char *s, size_t len, uint32_t *ret_cp)
{
    size_t n;

    if (len && (uint8_t)*s < 128) {
        *ret_cp = (uint8_t)*s;
        return 1;
    }
    n = sl_utf8_decode(s, len, ret_cp);
    if (!n)
        *ret_cp = 0xfffd;
    return n ? n : 1;
}

size_t jx_count(jval s)
{
    size_t count = 0;

    for (size_t i = 0; i < s.len; i++)
        count += ((uint8_t)s.s[i] & 0xc0) != 0x80;
    return count;
}

size_t jx_offset(jval s, int64_t chars)
{
    size_t i = 0;
    uint32_t cp;

    while (chars-- > 0 && i < s.len)
        i += jx_next(s.s + i, s.len - i, &cp);
    return i;
}

bool jx_space(uint32_t cp)
{
    return cp == ' ' || (cp >= 9 && cp <= 13) || (cp >= 28 && cp <= 31) || cp == 0x85 ||
           cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 ||
           cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

static bool is_letter(uint32_t cp)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)cp);

    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

static bool is_upper(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_LU;
}

static bool is_lower(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_LL || cp == 0xaa ||
           cp == 0xba;
}

static bool is_digit(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_ND || cp == 0xb2 ||
           cp == 0xb3 || cp == 0xb9 || cp == 0x2070 || (cp >= 0x2074 && cp <= 0x2079) ||
           (cp >= 0x2080 && cp <= 0x2089);
}

static bool is_numeric(uint32_t cp)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)cp);

    return is_digit(cp) || (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}

static bool is_title_word(jval s)
{
    bool cased = false, any = false;
    uint32_t cp;

    for (size_t i = 0, n; i < s.len; i += n) {
        n = jx_next(s.s + i, s.len - i, &cp);
        if (is_upper(cp) ? cased : is_lower(cp) ? !cased : false)
            return false;
        cased = is_upper(cp) || is_lower(cp);
        any = any || cased;
    }
    return any;
}

bool jx_is(jval s, const char *how)
{
    bool cased = false, wants_case = how[2] == 'u' || (how[2] == 'l' && how[3] == 'o');
    bool upper = how[2] == 'u';
    uint32_t cp;

    if (!strcmp(how, "istitle"))
        return is_title_word(s);
    if (!s.len)
        return !strcmp(how, "isascii");
    for (size_t i = 0, n; i < s.len; i += n) {
        n = jx_next(s.s + i, s.len - i, &cp);
        bool ok = true;
        if (wants_case) {
            ok = upper ? !is_lower(cp) : !is_upper(cp);
            cased = cased || is_upper(cp) || is_lower(cp);
        } else if (!strcmp(how, "isascii")) {
            ok = cp < 128;
        } else if (!strcmp(how, "isspace")) {
            ok = jx_space(cp);
        } else if (!strcmp(how, "isalpha")) {
            ok = is_letter(cp);
        } else if (!strcmp(how, "isalnum")) {
            ok = is_letter(cp) || is_numeric(cp);
        } else if (!strcmp(how, "isdigit")) {
            ok = is_digit(cp);
        } else if (!strcmp(how, "isnumeric")) {
            ok = is_numeric(cp);
        } else if (!strcmp(how, "isdecimal")) {
            ok = utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_ND;
        }
        if (!ok)
            return false;
    }
    return !wants_case || cased;
}

static void put_cp(jctx *c, jtext *t, uint32_t cp)
{
    char b[4];

    jt_put(c, t, b, sl_utf8_encode(cp, b));
}

/* The letters whose upper case is more than one character and that occur in real text. */
static void put_upper(jctx *c, jtext *t, uint32_t cp, bool title)
{
    static const char *const ligatures[] = { "FF", "FI", "FL", "FFI", "FFL", "ST", "ST" };
    static const char *const titled[] = { "Ff", "Fi", "Fl", "Ffi", "Ffl", "St", "St" };

    if (cp == 0xdf)
        jt_puts(c, t, title ? "Ss" : "SS");
    else if (cp >= 0xfb00 && cp <= 0xfb06)
        jt_puts(c, t, title ? titled[cp - 0xfb00] : ligatures[cp - 0xfb00]);
    else
        put_cp(c, t,
               (uint32_t)(title ? utf8proc_totitle((utf8proc_int32_t)cp)
                                : utf8proc_toupper((utf8proc_int32_t)cp)));
}

static void put_lower(jctx *c, jtext *t, jval s, size_t at, size_t n, uint32_t cp, bool after)
{
    uint32_t next = 0;

    if (cp == 0x130) { /* capital I with a dot */
        jt_puts(c, t, "i\xcc\x87");
        return;
    }
    if (cp == 0x3a3) { /* a sigma at the end of a word */
        if (at + n < s.len)
            jx_next(s.s + at + n, s.len - at - n, &next);
        put_cp(c, t, after && !is_upper(next) && !is_lower(next) ? 0x3c2 : 0x3c3);
        return;
    }
    put_cp(c, t, (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp));
}

jval jx_case(jctx *c, jval s, const char *how)
{
    bool word = false, first = true;
    jtext t = { 0 };
    uint32_t cp;

    j_work(c, s.len * 4);
    for (size_t i = 0, n; i < s.len; i += n) {
        bool up;

        n = jx_next(s.s + i, s.len - i, &cp);
        switch (how[0]) {
        case 'u':
            up = true;
            break;
        case 'l':
            up = false;
            break;
        case 't':
            up = !word;
            break;
        case 's':
            up = is_lower(cp);
            break;
        default:
            up = first;
            break;
        }
        if (up)
            put_upper(c, &t, cp, how[0] == 't' || how[0] == 'c');
        else
            put_lower(c, &t, s, i, n, cp, word);
        word = is_upper(cp) || is_lower(cp) ||
               utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_LT;
        first = false;
    }
    s.s = jt_val(&t).s;
    s.len = t.len;
    return s;
}

static bool in_set(jval chars, const char *s, size_t n, uint32_t cp)
{
    return chars.type == J_STR ? memmem(chars.s, chars.len, s, n) != NULL : jx_space(cp);
}

jval jx_strip(jctx *c, jval s, jval chars, int sides)
{
    uint32_t cp;

    if (chars.type != J_STR && chars.type != J_NONE)
        j_fail(c, SL_EINVAL, "strip arg must be None or str");
    if (c)
        j_work(c, s.len);
    while ((sides & 1) && s.len) {
        size_t n = jx_next(s.s, s.len, &cp);
        if (!in_set(chars, s.s, n, cp))
            break;
        s.s += n;
        s.len -= n;
    }
    while ((sides & 2) && s.len) {
        size_t at = s.len - 1;
        while (at && ((uint8_t)s.s[at] & 0xc0) == 0x80)
            at--;
        size_t n = jx_next(s.s + at, s.len - at, &cp);
        if (n != s.len - at || !in_set(chars, s.s + at, n, cp))
            break;
        s.len = at;
    }
    return s;
}

jval jx_lines(jctx *c, jval s, bool keep)
{
    jval l = j_list(c, J_LIST);
    size_t from = 0, n;
    uint32_t cp;

    for (size_t i = 0; i < s.len; i += n) {
        n = jx_next(s.s + i, s.len - i, &cp);
        if (!((cp >= 10 && cp <= 13) || (cp >= 28 && cp <= 30) || cp == 0x85 || cp == 0x2028 ||
              cp == 0x2029))
            continue;
        if (cp == '\r' && i + 1 < s.len && s.s[i + 1] == '\n')
            n = 2;
        j_push(c, l, j_str(s.s + from, i + (keep ? n : 0) - from));
        from = i + n;
    }
    if (from < s.len)
        j_push(c, l, j_str(s.s + from, s.len - from));
    return l;
}

jval jx_escape(jctx *c, jval s)
{
    static const char *const names[] = { "&amp;", "&lt;", "&gt;", "&#39;", "&#34;" };
    static const char keys[] = "&<>'\"";
    jtext t = { 0 };
    jval v;

    for (size_t i = 0; i < s.len; i++) {
        const char *k = s.s[i] ? strchr(keys, s.s[i]) : NULL;
        if (k)
            jt_puts(c, &t, names[k - keys]);
        else
            jt_put(c, &t, s.s + i, 1);
    }
    v = jt_val(&t);
    v.safe = true;
    return v;
}
