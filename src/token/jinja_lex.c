/* jinja_lex.c - template text to tokens; white space control is settled here. */
#include <ctype.h>
#include <stdlib.h>

#include "token/jinja_int.h"

typedef struct lexer {
    sl_arena *a;
    const char *s;
    size_t len, at;
    jtok *toks;
    size_t count, cap;
    sl_err *err;
    jtok spare;
    bool failed;
} lexer;

static void where(const lexer *l, size_t at, int *line, int *col)
{
    *line = 1, *col = 1;
    for (size_t i = 0; i < at && i < l->len; i++) {
        ++*col;
        if (l->s[i] == '\n')
            ++*line, *col = 1;
    }
}

static sl_status lex_fail(lexer *l, size_t at, const char *what)
{
    int line, col;

    where(l, at, &line, &col);
    return sl_fail(l->err, SL_EINVAL, "template line %d column %d: %s", line, col, what);
}

static jtok *add(lexer *l, jtok_kind kind, const char *s, size_t len)
{
    if (l->count == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 256;
        jtok *n = sl_arena_alloc(l->a, cap * sizeof *n);
        if (!n) {
            l->failed = true;
            l->count = 0;
            return &l->spare;
        }
        if (l->count)
            memcpy(n, l->toks, l->count * sizeof *n);
        l->toks = n;
        l->cap = cap;
    }
    jtok *t = &l->toks[l->count++];
    *t = (jtok){ .kind = kind, .s = s, .len = len };
    return t;
}

static bool blank(char c)
{
    return c == ' ' || (c >= 9 && c <= 13) || (c >= 28 && c <= 31);
}

static size_t find(const lexer *l, size_t from, const char *what)
{
    const char *p = from <= l->len ? memmem(l->s + from, l->len - from, what, strlen(what)) : NULL;

    return p ? (size_t)(p - l->s) : SIZE_MAX;
}

static void lex_string(lexer *l, char quote)
{
    size_t from = l->at, n = 0;
    char *out;

    while (l->at < l->len && l->s[l->at] != quote)
        l->at += l->s[l->at] == '\\' ? 2 : 1;
    if (l->at >= l->len) {
        l->at = l->len + 1;
        return;
    }
    out = sl_arena_alloc(l->a, (l->at - from) * 2 + 8);
    if (!out) {
        l->failed = true;
        return;
    }
    for (size_t i = from; i < l->at; i++) {
        char c = l->s[i];
        if (c != '\\') {
            out[n++] = c;
            continue;
        }
        c = l->s[++i];
        static const char names[] = "nrtbfav", values[] = "\n\r\t\b\f\a\v";
        const char *k = c ? strchr(names, c) : NULL;
        size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
        if (digits && i + digits < l->at) {
            char hex[9] = { 0 };
            memcpy(hex, l->s + i + 1, digits);
            n += sl_utf8_encode((uint32_t)strtoul(hex, NULL, 16), out + n);
            i += digits;
        } else if (k) {
            out[n++] = values[k - names];
        } else if (c == '0') {
            out[n++] = 0;
        } else if (c == '\\' || c == '\'' || c == '"') {
            out[n++] = c;
        } else if (c != '\n') {
            out[n++] = '\\';
            out[n++] = c;
        }
    }
    l->at++;
    add(l, T_STR, out, n);
}

/* 0x, 0o and 0b; false when the number is decimal. */
static bool lex_based(lexer *l)
{
    size_t from = l->at;
    char k = from + 1 < l->len && l->s[from] == '0' ? (char)(l->s[from + 1] | 32) : 0;
    int base = k == 'x' ? 16 : k == 'o' ? 8 : k == 'b' ? 2 : 0;
    char buf[32], *end;
    size_t n = 0;

    if (!base)
        return false;
    for (l->at += 2; l->at < l->len && n < sizeof buf - 1; l->at++) {
        if (l->s[l->at] != '_' && !isxdigit((uint8_t)l->s[l->at]))
            break;
        if (l->s[l->at] != '_')
            buf[n++] = l->s[l->at];
    }
    buf[n] = 0;
    int64_t i = strtoll(buf, &end, base);
    if (!n || *end) {
        l->at = from;
        return false;
    }
    add(l, T_INT, l->s + from, l->at - from)->i = i;
    return true;
}

static void lex_number(lexer *l)
{
    char buf[64];
    size_t n = 0, from = l->at;
    bool is_float = l->count && l->toks[l->count - 1].kind == T_OP &&
                    *l->toks[l->count - 1].s == '.' && l->toks[l->count - 1].len == 1;

    if (!is_float && lex_based(l))
        return;
    while (l->at < l->len && n < sizeof buf - 1) {
        char c = l->s[l->at];
        if (c == '.' && (is_float || l->at + 1 >= l->len || !isdigit((uint8_t)l->s[l->at + 1])))
            break;
        if (!(isdigit((uint8_t)c) || c == '_' || c == '.' ||
              ((c == 'e' || c == 'E') && l->at > from && l->at + 1 < l->len &&
               (isdigit((uint8_t)l->s[l->at + 1]) || l->s[l->at + 1] == '-'))))
            break;
        if (c == '.' || c == 'e' || c == 'E')
            is_float = true;
        if (c != '_')
            buf[n++] = c;
        l->at++;
        if ((c == 'e' || c == 'E') && l->s[l->at] == '-')
            buf[n++] = l->s[l->at++];
    }
    buf[n] = 0;
    is_float = memchr(buf, '.', n) || memchr(buf, 'e', n) || memchr(buf, 'E', n);
    jtok *t = add(l, is_float ? T_FLOAT : T_INT, l->s + from, l->at - from);
    t->i = strtoll(buf, NULL, 10);
    t->f = strtod(buf, NULL);
}

/* Tokens of one tag up to its end; the closing delimiter is left to the caller. */
static sl_status lex_inside(lexer *l, const char *close)
{
    static const char *const ops[] = { "//", "**", "==", "!=", "<=", ">=" };
    char stack[128];
    int depth = 0;

    while (l->at < l->len) {
        const char *p = l->s + l->at;
        size_t left = l->len - l->at, before = l->count, start = l->at;

        if (blank(*p)) {
            l->at++;
            continue;
        }
        if (!depth && left >= 2 &&
            (!memcmp(p, close, 2) ||
             (left >= 3 && (*p == '-' || *p == '+') && !memcmp(p + 1, close, 2))))
            return SL_OK;
        if (*p == '"' || *p == '\'') {
            l->at++;
            lex_string(l, *p);
            if (l->at > l->len)
                return lex_fail(l, start, "unterminated string");
        } else if (isdigit((uint8_t)*p)) {
            lex_number(l);
        } else if (isalpha((uint8_t)*p) || *p == '_' || (uint8_t)*p >= 128) {
            while (l->at < l->len && (isalnum((uint8_t)l->s[l->at]) || l->s[l->at] == '_' ||
                                      (uint8_t)l->s[l->at] >= 128))
                l->at++;
            add(l, T_NAME, p, l->at - start);
        } else {
            size_t n = 1;
            for (size_t i = 0; i < SL_COUNT_OF(ops); i++)
                if (left >= 2 && !memcmp(p, ops[i], 2))
                    n = 2;
            if (!strchr("+-*/%~<>=!.,:|()[]{}", *p) || !*p || (*p == '!' && n == 1))
                return lex_fail(l, start, "unexpected character");
            if (strchr("([{", *p)) {
                if (depth == 127)
                    return lex_fail(l, start, "nested too deep");
                stack[depth++] = *p == '(' ? ')' : *p == '[' ? ']' : '}';
            } else if (strchr(")]}", *p) && (!depth || stack[--depth] != *p)) {
                return lex_fail(l, start, "unbalanced bracket");
            }
            l->at += n;
            add(l, T_OP, p, n);
        }
        if (l->failed)
            return sl_fail(l->err, SL_ENOMEM, "template");
        if (l->count > before)
            l->toks[before].line = (int)start; /* the offset; turned into a line at the end */
    }
    return lex_fail(l, l->len, "unexpected end of template");
}

static sl_status lex_raw(lexer *l, size_t from, size_t *ret_end, size_t *ret_after)
{
    for (size_t at = from; (at = find(l, at, "{%")) != SIZE_MAX; at += 2) {
        size_t i = at + 2, end = at;
        bool strip = l->s[i] == '-';

        if (strip || l->s[i] == '+')
            i++;
        while (i < l->len && blank(l->s[i]))
            i++;
        if (i + 6 > l->len || memcmp(l->s + i, "endraw", 6) != 0)
            continue;
        for (i += 6; i < l->len && blank(l->s[i]);)
            i++;
        while (strip && end > from && blank(l->s[end - 1]))
            end--;
        if (!strip) {
            size_t k = end;
            while (k > from && (l->s[k - 1] == ' ' || l->s[k - 1] == '\t'))
                k--;
            if (k == from || l->s[k - 1] == '\n')
                end = k;
        }
        *ret_end = end;
        *ret_after = i;
        return SL_OK;
    }
    return lex_fail(l, from, "raw block has no end");
}

/* After a tag: skips its closing delimiter with what - and trim_blocks swallow. */
static bool skip_close(lexer *l, bool trims)
{
    bool strip = l->at < l->len && l->s[l->at] == '-', keep = l->at < l->len && l->s[l->at] == '+';

    l->at = SL_MIN(l->at + 2 + (strip || keep), l->len);
    if (strip) {
        while (l->at < l->len && blank(l->s[l->at]))
            l->at++;
        return l->at && l->s[l->at - 1] == '\n';
    }
    if (trims && !keep && l->at < l->len && l->s[l->at] == '\n') {
        l->at++;
        return true;
    }
    return false;
}

static sl_status lex_tag(lexer *l, size_t tag, bool *line_start)
{
    char kind = l->s[tag + 1];
    size_t end = 0, after = 0;

    l->at = tag + 2;
    if (kind == '#') {
        if ((end = find(l, l->at, "#}")) == SIZE_MAX)
            return lex_fail(l, tag, "comment has no end");
        l->at = end;
        if (end > tag + 2 && (l->s[end - 1] == '-' || l->s[end - 1] == '+'))
            l->at--;
        *line_start = skip_close(l, true);
        return SL_OK;
    }
    if (l->at < l->len && (l->s[l->at] == '-' || l->s[l->at] == '+'))
        l->at++;
    add(l, kind == '{' ? T_VBEG : T_BBEG, l->s + tag, 2)->line = (int)tag;
    size_t before = l->count;
    SL_TRY(lex_inside(l, kind == '{' ? "}}" : "%}"));
    if (kind == '%' && l->count == before + 1 && l->toks[before].len == 3 &&
        !memcmp(l->toks[before].s, "raw", 3)) {
        l->count = before - 1;
        skip_close(l, false);
        size_t from = l->at;
        SL_TRY(lex_raw(l, from, &end, &after));
        add(l, T_TEXT, l->s + from, end - from);
        l->at = after;
        *line_start = skip_close(l, true);
        return SL_OK;
    }
    add(l, kind == '{' ? T_VEND : T_BEND, l->s + l->at, 2)->line = (int)l->at;
    *line_start = skip_close(l, kind == '%');
    return SL_OK;
}

static void number_lines(lexer *l)
{
    int line = 1, col = 1;
    size_t at = 0;

    for (size_t i = 0; i < l->count; i++) {
        for (; at < (size_t)l->toks[i].line && at < l->len; at++) {
            col++;
            if (l->s[at] == '\n')
                line++, col = 1;
        }
        l->toks[i].line = line;
        l->toks[i].col = col;
    }
}

sl_status jinja_lex(sl_arena *a, const char *text, size_t len, jtok **ret, size_t *ret_count,
                    sl_err *err)
{
    char *copy = sl_arena_alloc(a, len + 4);
    lexer l = { .a = a, .s = copy, .err = err };
    bool line_start = true;

    if (!copy)
        return sl_fail(err, SL_ENOMEM, "template");
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\r' && i + 1 < len && text[i + 1] == '\n')
            continue;
        copy[l.len++] = text[i] == '\r' ? '\n' : text[i];
    }
    if (l.len && copy[l.len - 1] == '\n')
        l.len--;
    copy[l.len] = 0;
    while (l.at < l.len) {
        size_t from = l.at, tag = from, end;

        while (tag + 1 < l.len && !(l.s[tag] == '{' && strchr("{%#", l.s[tag + 1]) && l.s[tag + 1]))
            tag++;
        if (tag + 1 >= l.len)
            tag = l.len;
        end = tag;
        if (tag < l.len && l.s[tag + 2] == '-') {
            while (end > from && blank(l.s[end - 1]))
                end--;
        } else if (tag < l.len && l.s[tag + 2] != '+' && l.s[tag + 1] != '{') {
            size_t k = tag;
            while (k > from && blank(l.s[k - 1]) && l.s[k - 1] != '\n')
                k--;
            if (k > from ? l.s[k - 1] == '\n' : line_start)
                end = k;
        }
        if (end > from)
            add(&l, T_TEXT, l.s + from, end - from)->line = (int)from;
        if (tag >= l.len)
            break;
        SL_TRY(lex_tag(&l, tag, &line_start));
        if (l.failed)
            break;
    }
    add(&l, T_EOF, "", 0)->line = (int)l.len;
    if (l.failed)
        return sl_fail(err, SL_ENOMEM, "template");
    number_lines(&l);
    *ret = l.toks;
    *ret_count = l.count;
    return SL_OK;
}
