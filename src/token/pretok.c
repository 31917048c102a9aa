/* pretok.c - cuts text into pieces.
 *
 * The hot families have a hand-written splitter with a table of classes for ASCII; all others run
 * their expressions in PCRE2. Both treat a byte that is no UTF-8 as a character of its own. */
#include <utf8proc.h>

#include "token/token_int.h"

enum { CH_OTHER, CH_LETTER, CH_NUMBER, CH_SPACE, CH_NEWLINE };

static int class_of(uint32_t cp)
{
    if (cp < 128) {
        if ((cp | 32) - 'a' < 26)
            return CH_LETTER;
        if (cp - '0' < 10)
            return CH_NUMBER;
        if (cp == '\n' || cp == '\r')
            return CH_NEWLINE;
        return cp == ' ' || (cp >= 9 && cp <= 13) ? CH_SPACE : CH_OTHER;
    }
    if (cp == 0x85)
        return CH_SPACE;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return CH_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return CH_NUMBER;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return CH_SPACE;
    default:
        return CH_OTHER;
    }
}

/* Class and byte length of the character at p. */
static inline int class_at(const char *p, const char *end, size_t *n)
{
    uint8_t c = (uint8_t)*p;
    uint32_t cp;

    if (SL_LIKELY(c < 128)) {
        *n = 1;
        return class_of(c);
    }
    *n = sl_utf8_decode(p, (size_t)(end - p), &cp);
    if (*n)
        return class_of(cp);
    *n = 1;
    return CH_OTHER;
}

static const char *run_of(const char *p, const char *end, int want)
{
    size_t n;

    while (p < end && class_at(p, end, &n) == want)
        p += n;
    return p;
}

/* Length of 's 't 're 've 'm 'll 'd at p, or 0. */
static size_t contraction(const char *p, const char *end, bool any_case)
{
    if (end - p < 2 || *p != '\'')
        return 0;
    char a = p[1], b = end - p > 2 ? p[2] : 0;
    if (any_case) {
        a = (char)(a >= 'A' && a <= 'Z' ? a | 32 : a);
        b = (char)(b >= 'A' && b <= 'Z' ? b | 32 : b);
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
        return 3;
    return 0;
}

/* End of a run of white space: all of it at the end of text, else all but the last character,
 * and that one alone when it is the only one. nl: where the last newline of the run ends. */
static const char *space_run(const char *p, const char *end, const char **ret_nl)
{
    const char *last = p, *q = p, *nl = NULL;
    size_t n;

    while (q < end) {
        int c = class_at(q, end, &n);
        if (c != CH_SPACE && c != CH_NEWLINE)
            break;
        last = q;
        q += n;
        if (c == CH_NEWLINE)
            nl = q;
    }
    *ret_nl = nl;
    return q == end || last == p ? q : last;
}

static const char *next_gpt2(const char *p, const char *end)
{
    size_t n = contraction(p, end, false), k;
    const char *q = p, *nl;
    int c;

    if (n)
        return p + n;
    c = class_at(p, end, &n);
    if (*p == ' ' && p + 1 < end) {
        int d = class_at(p + 1, end, &k);
        if (d != CH_SPACE && d != CH_NEWLINE) {
            c = d;
            q = p + 1;
        }
    }
    if (c == CH_SPACE || c == CH_NEWLINE)
        return space_run(p, end, &nl);
    return run_of(q, end, c);
}

static const char *next_llama3(const char *p, const char *end, int digits)
{
    size_t n = contraction(p, end, true), k;
    const char *q, *nl;
    int c, d;

    if (n)
        return p + n;
    c = class_at(p, end, &n);
    if (c == CH_LETTER)
        return run_of(p, end, CH_LETTER);
    if ((c == CH_OTHER || c == CH_SPACE) && p + n < end && class_at(p + n, end, &k) == CH_LETTER)
        return run_of(p + n, end, CH_LETTER);
    if (c == CH_NUMBER) {
        for (q = p + n; --digits > 0 && q < end && class_at(q, end, &k) == CH_NUMBER;)
            q += k;
        return q;
    }
    q = p;
    if (*p == ' ' && p + 1 < end && (d = class_at(p + 1, end, &k)) == CH_OTHER) {
        c = d;
        q = p + 1;
    }
    if (c == CH_OTHER) {
        q = run_of(q, end, CH_OTHER);
        while (q < end && (*q == '\r' || *q == '\n'))
            q++;
        return q;
    }
    q = space_run(p, end, &nl);
    return nl ? nl : q;
}

static sl_status split_digits(const char *p, const char *end, piece_fn fn, void *ctx)
{
    while (p < end) {
        const char *stop = p;
        size_t n = 0;

        while (stop < end && class_at(stop, end, &n) != CH_NUMBER)
            stop += n;
        while (p < stop) {
            const char *q = next_gpt2(p, stop);
            SL_TRY(fn(ctx, p, (size_t)(q - p)));
            p = q;
        }
        if (stop < end) {
            SL_TRY(fn(ctx, stop, n));
            p = stop + n;
        }
    }
    return SL_OK;
}

static sl_status split_fast(int fast, const char *p, const char *end, piece_fn fn, void *ctx)
{
    if (fast == SPLIT_DIGITS_GPT2)
        return split_digits(p, end, fn, ctx);
    while (p < end) {
        const char *q = fast == SPLIT_GPT2 ? next_gpt2(p, end)
                                           : next_llama3(p, end, fast == SPLIT_LLAMA3 ? 3 : 1);
        SL_TRY(fn(ctx, p, (size_t)(q - p)));
        p = q;
    }
    return SL_OK;
}

typedef struct regex_run {
    const pretok *p;
    pcre2_match_data *md;
    piece_fn fn;
    void *ctx;
} regex_run;

static sl_status split_step(const regex_run *r, int step, const char *text, size_t len)
{
    size_t at = 0, done = 0;

    if (!len)
        return SL_OK;
    if (step == r->p->count)
        return r->fn(r->ctx, text, len);
    while (at < len) {
        int rc = pcre2_match(r->p->code[step], (PCRE2_SPTR)text, len, at, PCRE2_NO_UTF_CHECK, r->md,
                             NULL);
        if (rc < 0)
            break;
        size_t from = pcre2_get_ovector_pointer(r->md)[0];
        size_t to = pcre2_get_ovector_pointer(r->md)[1];
        if (to <= from) { /* an empty match cuts nothing here */
            at = to + 1;
            while (at < len && ((uint8_t)text[at] & 0xC0) == 0x80)
                at++;
            continue;
        }
        SL_TRY(split_step(r, step + 1, text + done, from - done));
        SL_TRY(split_step(r, step + 1, text + from, to - from));
        at = done = to;
    }
    return split_step(r, step + 1, text + done, len - done);
}

sl_status pretok_split(const pretok *p, const char *text, size_t len, piece_fn fn, void *ctx)
{
    sl_status st = SL_OK;

    if (p->fast != SPLIT_REGEX)
        return split_fast(p->fast, text, text + len, fn, ctx);
    if (!p->count)
        return fn(ctx, text, len);
    regex_run r = { p, pcre2_match_data_create(2, NULL), fn, ctx };
    if (!r.md)
        return SL_ENOMEM;
    /* Stretches of valid UTF-8 go through the expressions; bytes that are none stand alone. */
    for (size_t at = 0, n; at < len && st == SL_OK; at += n) {
        uint32_t cp;
        size_t k;

        for (n = 0; at + n < len && (k = sl_utf8_decode(text + at + n, len - at - n, &cp)); n += k)
            ;
        if (n)
            st = split_step(&r, 0, text + at, n);
        else
            st = fn(ctx, text + at, n = 1);
    }
    pcre2_match_data_free(r.md);
    return st;
}

sl_status pretok_init(pretok *p, const pretok_rule *rule, sl_err *err)
{
    *p = (pretok){ .rule = rule, .fast = rule->fast };
    if (rule->fast != SPLIT_REGEX)
        return SL_OK;
    for (; p->count < PRETOK_STEPS_MAX && rule->regex[p->count]; p->count++) {
        int code;
        PCRE2_SIZE at;
        pcre2_code *re = pcre2_compile((PCRE2_SPTR)rule->regex[p->count], PCRE2_ZERO_TERMINATED,
                                       PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);

        if (!re)
            return sl_fail(err, SL_EFORMAT, "pre-tokenizer expression %d: error %d at %zu",
                           p->count, code, (size_t)at);
        (void)pcre2_jit_compile(re, PCRE2_JIT_COMPLETE);
        p->code[p->count] = re;
    }
    return SL_OK;
}

void pretok_deinit(pretok *p)
{
    for (int i = 0; i < p->count; i++)
        pcre2_code_free(p->code[i]);
    p->count = 0;
}
