/* pretok.c - cuts text into pieces, stage by stage.
 *
 * A stage is a regular expression or a hand-written splitter. Each sees only the piece that the
 * stage before handed it, so that look-around ends at its edges. Expressions run in PCRE2 (JIT
 * where it can); bytes that are not UTF-8 become pieces of their own before any expression. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "token/token_int.h"

#define STAGES_MAX        16
#define PATTERN_BYTES_MAX (256 * SL_KIB)

typedef struct stage {
    split_fn fn; /* else code */
    pcre2_code *code;
    split_mode mode;
    bool invert;
} stage;

struct pretok {
    stage stages[STAGES_MAX];
    size_t count;
    bool has_regex;
};

/* One pretok_run. */
typedef struct run {
    const pretok *p;
    pcre2_match_data *match[STAGES_MAX];
    piece_fn fn;
    void *ctx;
    sl_err *err;
} run;

pretok *pretok_new(void)
{
    return sl_calloc(1, sizeof(pretok));
}

void pretok_destroy(pretok *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->count; i++)
        pcre2_code_free(p->stages[i].code);
    sl_free(p);
}

bool pretok_is_empty(const pretok *p)
{
    return !p->count;
}

/* PCRE2's \s also takes U+180E, which is no space to Unicode; so \s is spelled out. */
#define SPACES                                                                                     \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"    \
    "\\x{205f}\\x{3000}"

static void spell_spaces(const char *pattern, size_t len, sl_buf *out)
{
    size_t class_at = SIZE_MAX; /* where the open bracket stands */

    for (size_t i = 0; i < len; i++) {
        char c = pattern[i];

        if (c == '\\' && i + 1 < len) {
            char d = pattern[++i];

            if (d == 's')
                sl_buf_puts(out, class_at == SIZE_MAX ? "[" SPACES "]" : SPACES);
            else if (d == 'S' && class_at == SIZE_MAX)
                sl_buf_puts(out, "[^" SPACES "]");
            else
                sl_buf_put(out, pattern + i - 1, 2);
            continue;
        }
        if (c == '[' && class_at == SIZE_MAX)
            class_at = i;
        else if (c == ']' && class_at != SIZE_MAX && i > class_at + 1 &&
                 !(i == class_at + 2 && pattern[i - 1] == '^'))
            class_at = SIZE_MAX;
        sl_buf_putc(out, c);
    }
}

sl_status pattern_compile(const char *pattern, size_t len, void **ret, sl_err *err)
{
    pcre2_code *c;
    PCRE2_SIZE at = 0;
    PCRE2_UCHAR text[128] = "";
    int code = 0;
    sl_status status;
    sl_buf buf;

    sl_buf_init(&buf, 16 * PATTERN_BYTES_MAX);
    spell_spaces(pattern, len, &buf);
    status = sl_buf_ok(&buf, "pre-tokenizer pattern", err);
    if (status != SL_OK) {
        sl_buf_deinit(&buf);
        return status;
    }
    c = pcre2_compile((PCRE2_SPTR)sl_buf_str(&buf), buf.len,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
    sl_buf_deinit(&buf);
    if (!c) {
        pcre2_get_error_message(code, text, sizeof text);
        return sl_fail(err, SL_EFORMAT, "pre-tokenizer pattern: %s at byte %zu", (char *)text,
                       (size_t)at);
    }
    (void)pcre2_jit_compile(c, PCRE2_JIT_COMPLETE); /* without JIT it is only slower */
    *ret = c;
    return SL_OK;
}

sl_status pretok_add_regex(pretok *p, const char *pattern, size_t len, split_mode mode, bool invert,
                           sl_err *err)
{
    pcre2_code *code = NULL;

    if (p->count == STAGES_MAX)
        return sl_fail(err, SL_ELIMIT, "more than %d pre-tokenizer stages", STAGES_MAX);
    if (len > PATTERN_BYTES_MAX)
        return sl_fail(err, SL_ELIMIT, "a pre-tokenizer pattern of %zu bytes", len);
    SL_TRY(pattern_compile(pattern, len, (void **)&code, err));
    p->stages[p->count++] = (stage){ .code = code, .mode = mode, .invert = invert };
    p->has_regex = true;
    return SL_OK;
}

sl_status pretok_add_split(pretok *p, split_fn fn, sl_err *err)
{
    if (p->count == STAGES_MAX)
        return sl_fail(err, SL_ELIMIT, "more than %d pre-tokenizer stages", STAGES_MAX);
    p->stages[p->count++] = (stage){ .fn = fn };
    return SL_OK;
}

static sl_status run_stage(run *r, size_t i, const char *text, size_t len);

/* Pieces of one regex stage wait here for what the mode may still append. */
typedef struct pending {
    const char *ptr;
    size_t len;
    bool is_match;
} pending;

static sl_status flush(run *r, size_t i, pending *p)
{
    pending q = *p;

    *p = (pending){ 0 };
    if (!q.len || (r->p->stages[i].mode == SPLIT_REMOVED && q.is_match))
        return SL_OK;
    return run_stage(r, i + 1, q.ptr, q.len);
}

static sl_status put_segment(run *r, size_t i, pending *p, const char *text, size_t len,
                             bool is_match)
{
    split_mode mode = r->p->stages[i].mode;
    bool join;

    if (!len)
        return SL_OK;
    is_match ^= r->p->stages[i].invert;
    join = p->len && ((mode == SPLIT_MERGED_PREVIOUS && is_match && !p->is_match) ||
                      (mode == SPLIT_MERGED_NEXT && !is_match && p->is_match) ||
                      (mode == SPLIT_CONTIGUOUS && is_match == p->is_match));
    if (join) {
        p->len += len;
        p->is_match = is_match;
        return SL_OK;
    }
    SL_TRY(flush(r, i, p));
    *p = (pending){ text, len, is_match };
    return SL_OK;
}

static int match_at(const stage *s, pcre2_match_data *m, const char *text, size_t len, size_t at,
                    uint32_t options)
{
    int rc;

    options |= PCRE2_NO_UTF_CHECK;
    rc = pcre2_match(s->code, (PCRE2_SPTR)text, len, at, options, m, NULL);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(s->code, (PCRE2_SPTR)text, len, at, options | PCRE2_NO_JIT, m, NULL);
    return rc;
}

static sl_status run_regex(run *r, size_t i, const char *text, size_t len)
{
    const PCRE2_SIZE *o = pcre2_get_ovector_pointer(r->match[i]);
    size_t start = 0;
    uint32_t options = 0;
    pending p = { 0 };

    while (start < len) {
        size_t from, to;
        int rc = match_at(&r->p->stages[i], r->match[i], text, len, start, options);

        if (rc == PCRE2_ERROR_NOMATCH)
            break;
        if (rc < 0)
            return sl_fail(r->err, SL_ELIMIT, "pre-tokenizer gave up on a text (PCRE2 error %d)",
                           rc);
        from = SL_MAX(o[0], start); /* \K may move a start */
        to = SL_MAX(o[1], from);
        SL_TRY(put_segment(r, i, &p, text + start, from - start, false));
        if (to == from)
            SL_TRY(flush(r, i, &p)); /* an empty match is a cut */
        SL_TRY(put_segment(r, i, &p, text + from, to - from, true));
        options = to == from ? PCRE2_NOTEMPTY_ATSTART : 0;
        start = to;
    }
    SL_TRY(put_segment(r, i, &p, text + start, len - start, false));
    return flush(r, i, &p);
}

static sl_status run_stage(run *r, size_t i, const char *text, size_t len)
{
    split_fn fn;

    if (i == r->p->count)
        return r->fn(r->ctx, text, len);
    fn = r->p->stages[i].fn;
    if (!fn)
        return run_regex(r, i, text, len);
    while (len) {
        size_t n = fn(text, len);

        SL_ASSERT_SLOW(n > 0 && n <= len);
        SL_TRY(i + 1 == r->p->count ? r->fn(r->ctx, text, n) : run_stage(r, i + 1, text, n));
        text += n;
        len -= n;
    }
    return SL_OK;
}

/* Runs of valid UTF-8 pass the stages, runs of other bytes are pieces. */
static sl_status run_valid(run *r, const char *text, size_t len)
{
    while (len) {
        uint32_t cp;
        size_t good = 0, bad = 0, n;

        while (good < len &&
               ((uint8_t)text[good] < 128 ? (n = 1)
                                          : (n = sl_utf8_decode(text + good, len - good, &cp))))
            good += n;
        if (good)
            SL_TRY(run_stage(r, 0, text, good));
        while (good + bad < len && !sl_utf8_decode(text + good + bad, len - good - bad, &cp))
            bad++;
        if (bad)
            SL_TRY(r->fn(r->ctx, text + good, bad));
        text += good + bad;
        len -= good + bad;
    }
    return SL_OK;
}

sl_status pretok_run(const pretok *p, const char *text, size_t len, piece_fn fn, void *ctx,
                     sl_err *err)
{
    run r = { .p = p, .fn = fn, .ctx = ctx, .err = err };
    sl_status status = SL_OK;

    for (size_t i = 0; i < p->count; i++) {
        if (!p->stages[i].code)
            continue;
        r.match[i] = pcre2_match_data_create(1, NULL);
        if (!r.match[i])
            status = sl_fail(err, SL_ENOMEM, "pre-tokenizer");
    }
    if (status == SL_OK)
        status = p->has_regex ? run_valid(&r, text, len) : run_stage(&r, 0, text, len);
    for (size_t i = 0; i < p->count; i++)
        pcre2_match_data_free(r.match[i]);
    return status;
}
