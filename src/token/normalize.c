/* normalize.c - the normalizer of a tokenizer.json: a short list of steps, each from one buffer to
 * the next. The parts of pre-tokenizers that change text (metaspace, byte level's prefix space)
 * are steps here too, behind the real ones. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "token/token_int.h"

#define STEPS_MAX       32
#define STEP_TEXT_MAX   4096
#define GROWTH_MAX      64 /* times the input; a real normalizer stays under 4 */
#define STEP_ROOM_BYTES (64 * SL_KIB)

typedef struct step {
    norm_kind kind;
    unsigned flags;
    char *from, *to; /* owned */
    size_t from_len, to_len;
    pcre2_code *code;
    charsmap *map;
} step;

struct normalizer {
    step steps[STEPS_MAX];
    size_t count;
};

normalizer *normalizer_new(void)
{
    return sl_calloc(1, sizeof(normalizer));
}

void normalizer_destroy(normalizer *n)
{
    if (!n)
        return;
    for (size_t i = 0; i < n->count; i++) {
        sl_free(n->steps[i].from);
        sl_free(n->steps[i].to);
        pcre2_code_free(n->steps[i].code);
        charsmap_destroy(n->steps[i].map);
    }
    sl_free(n);
}

bool normalizer_is_empty(const normalizer *n)
{
    return !n->count;
}

sl_status normalizer_add(normalizer *n, norm_kind kind, unsigned flags, sl_span from, sl_span to,
                         sl_err *err)
{
    step *s = &n->steps[n->count];

    if (kind == NORM_CHARSMAP && n->count < STEPS_MAX) {
        *s = (step){ .kind = kind, .flags = flags };
        SL_TRY(charsmap_parse(from, &s->map, err));
        n->count++;
        return SL_OK;
    }
    if (n->count == STEPS_MAX || from.len > STEP_TEXT_MAX || to.len > STEP_TEXT_MAX)
        return sl_fail(err, SL_ELIMIT, "normalizer: too many steps or too long a text");
    n->count++;
    *s = (step){ .kind = kind, .flags = flags, .from_len = from.len, .to_len = to.len };
    s->from = sl_strndup(from.ptr ? (const char *)from.ptr : "", from.len);
    s->to = sl_strndup(to.ptr ? (const char *)to.ptr : "", to.len);
    if (!s->from || !s->to)
        return sl_fail(err, SL_ENOMEM, "normalizer");
    if (kind == NORM_REPLACE && !from.len)
        return sl_fail(err, SL_EFORMAT, "normalizer: Replace of an empty text");
    if (kind != NORM_REPLACE_REGEX)
        return SL_OK;
    SL_TRY(pattern_compile((const char *)from.ptr, from.len, (void **)&s->code, err));
    return SL_OK;
}

static bool is_cjk(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
           (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
           (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static void put_lower(uint32_t cp, sl_buf *out)
{
    if (cp == 0x130) /* the only letter whose lower case is two characters */
        sl_buf_puts(out, "i\xcc\x87");
    else
        sl_buf_put_utf8(out, uc_lower(cp));
}

/* One character through the character-wise kinds. */
static void map_char(unsigned flags, uint32_t cp, sl_buf *out)
{
    if (flags & NORM_CLEAN) {
        if (cp == 0 || cp == 0xfffd ||
            (uc_is_control(cp) && cp != '\t' && cp != '\n' && cp != '\r'))
            return;
        if (uc_is_space(cp))
            cp = ' ';
    }
    if ((flags & NORM_STRIP_MARKS) && (flags & NORM_ALL_MARKS ? uc_is_mark(cp) : uc_is_mn(cp)))
        return;
    if ((flags & NORM_CJK) && is_cjk(cp)) {
        sl_buf_putc(out, ' ');
        sl_buf_put_utf8(out, cp);
        sl_buf_putc(out, ' ');
    } else if (flags & NORM_LOWER) {
        put_lower(cp, out);
    } else {
        sl_buf_put_utf8(out, cp);
    }
}

static void map_chars(unsigned flags, const char *text, size_t len, sl_buf *out)
{
    for (size_t i = 0; i < len;) {
        uint32_t cp = 0xfffd;
        size_t n = sl_utf8_decode(text + i, len - i, &cp);

        if (n || (flags & NORM_CLEAN))
            map_char(flags, cp, out);
        else
            sl_buf_putc(out, text[i]);
        i += n ? n : 1;
    }
}

static void replace_text(const step *s, const char *text, size_t len, sl_buf *out)
{
    const char *end = text + len, *hit;

    while (text < end && (hit = memmem(text, (size_t)(end - text), s->from, s->from_len))) {
        sl_buf_put(out, text, (size_t)(hit - text));
        sl_buf_put(out, s->to, s->to_len);
        text = hit + s->from_len;
    }
    sl_buf_put(out, text, (size_t)(end - text));
}

static sl_status replace_regex(const step *s, const char *text, size_t len, sl_buf *out,
                               sl_err *err)
{
    pcre2_match_data *m;
    size_t start = 0;
    int rc = 0;

    if (!sl_utf8_valid(text, len)) { /* no expression matches such bytes reliably */
        sl_buf_put(out, text, len);
        return SL_OK;
    }
    if (!(m = pcre2_match_data_create(1, NULL)))
        return sl_fail(err, SL_ENOMEM, "normalizer");
    while (start < len) {
        const PCRE2_SIZE *o = pcre2_get_ovector_pointer(m);
        size_t from, to;

        rc = pcre2_match(s->code, (PCRE2_SPTR)text, len, start, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY,
                         m, NULL);
        if (rc < 0)
            break;
        from = SL_MAX(o[0], start);
        to = SL_MAX(o[1], from);
        sl_buf_put(out, text + start, from - start);
        sl_buf_put(out, s->to, s->to_len);
        if (to == start) /* \K: move on */
            break;
        start = to;
    }
    sl_buf_put(out, text + start, len - start);
    pcre2_match_data_free(m);
    return rc < 0 && rc != PCRE2_ERROR_NOMATCH
               ? sl_fail(err, SL_ELIMIT, "normalizer gave up on a text (PCRE2 error %d)", rc)
               : SL_OK;
}

static void strip_ends(unsigned flags, const char *text, size_t len, sl_buf *out)
{
    uint32_t cp;
    size_t n;

    while ((flags & NORM_LEFT) && len && (n = sl_utf8_decode(text, len, &cp)) && uc_is_space(cp)) {
        text += n;
        len -= n;
    }
    while ((flags & NORM_RIGHT) && len) {
        for (n = 1; n < 4 && n < len && ((uint8_t)text[len - n] & 0xc0) == 0x80;)
            n++;
        if (sl_utf8_decode(text + len - n, n, &cp) != n || !uc_is_space(cp))
            break;
        len -= n;
    }
    sl_buf_put(out, text, len);
}

static sl_status run_step(const step *s, const char *text, size_t len, bool first, sl_buf *out,
                          sl_err *err)
{
    switch (s->kind) {
    case NORM_FORM:
        return uc_normalize(text, len, (uc_form)s->flags, out, err);
    case NORM_CHARS:
        map_chars(s->flags, text, len, out);
        break;
    case NORM_REPLACE:
        replace_text(s, text, len, out);
        break;
    case NORM_REPLACE_REGEX:
        return replace_regex(s, text, len, out, err);
    case NORM_STRIP:
        strip_ends(s->flags, text, len, out);
        break;
    case NORM_CHARSMAP:
        (s->flags & NORM_LONGEST ? charsmap_longest : charsmap_graphemes)(s->map, text, len, out);
        break;
    case NORM_PREPEND:
        if (len && !((s->flags & NORM_FIRST_ONLY) && !first) &&
            !((s->flags & NORM_UNLESS_THERE) && len >= s->to_len &&
              memcmp(text, s->to, s->to_len) == 0))
            sl_buf_put(out, s->to, s->to_len);
        sl_buf_put(out, text, len);
        break;
    }
    return SL_OK;
}

sl_status normalizer_run(const normalizer *n, const char *text, size_t len, bool first, sl_buf *out,
                         sl_err *err)
{
    size_t max =
        len < SIZE_MAX / GROWTH_MAX / 2 ? len * GROWTH_MAX + STEP_ROOM_BYTES : SIZE_MAX / 2;
    sl_buf a, b;
    sl_status status = SL_OK;

    sl_buf_init(&a, max);
    sl_buf_init(&b, max);
    for (size_t i = 0; i < n->count && status == SL_OK; i++) {
        sl_buf t;

        sl_buf_clear(&b);
        status = run_step(&n->steps[i], text, len, first, &b, err);
        if (status == SL_OK)
            status = sl_buf_ok(&b, "normalised text", err);
        t = a;
        a = b;
        b = t;
        text = sl_buf_str(&a);
        len = a.len;
    }
    if (status == SL_OK)
        sl_buf_put(out, text, len);
    sl_buf_deinit(&a);
    sl_buf_deinit(&b);
    return status == SL_OK ? sl_buf_ok(out, "normalised text", err) : status;
}
