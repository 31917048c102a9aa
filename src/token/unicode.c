/* unicode.c - what the room asks of Unicode, answered by utf8proc; ASCII by a table. */
#include "token/token_int.h"

#include <stdlib.h>
#include <utf8proc.h>

#define O UC_OTHER
#define L UC_LETTER
#define N UC_NUMBER
#define S UC_SPACE
/* clang-format off */
const uint8_t uc_ascii[128] = {
    O, O, O, O, O, O, O, O, O, S, S, S, S, S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
    S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, N, N, N, N, N, N, N, N, N, N, O, O, O, O, O, O,
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O,
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O,
};
/* clang-format on */
#undef O
#undef L
#undef N
#undef S

/* Unicode's White_Space. */
bool uc_is_space(uint32_t cp)
{
    if (cp < 0x85)
        return cp == ' ' || (cp >= 9 && cp <= 13);
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

uc_class uc_class_slow(const char *p, size_t len, size_t *ret_len)
{
    uint32_t cp;
    size_t n = sl_utf8_decode(p, len, &cp);

    *ret_len = n ? n : 1;
    if (!n)
        return UC_OTHER;
    if (uc_is_space(cp))
        return UC_SPACE;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return UC_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return UC_NUMBER;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return UC_MARK;
    default:
        return UC_OTHER;
    }
}

static bool in_categories(uint32_t cp, int first, int last)
{
    int c = utf8proc_category((utf8proc_int32_t)cp);

    return c >= first && c <= last;
}

bool uc_is_punct(uint32_t cp)
{
    return in_categories(cp, UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO);
}

bool uc_is_control(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_CN ||
           in_categories(cp, UTF8PROC_CATEGORY_CC, UTF8PROC_CATEGORY_CO);
}

bool uc_is_mark(uint32_t cp)
{
    return in_categories(cp, UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_ME);
}

bool uc_is_mn(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_MN;
}

bool uc_is_word(uint32_t cp)
{
    return in_categories(cp, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_ND) || uc_is_mark(cp) ||
           cp == 0x200c || cp == 0x200d ||
           utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_PC;
}

uint32_t uc_lower(uint32_t cp)
{
    return cp < 128 ? (cp >= 'A' && cp <= 'Z' ? cp + 32 : cp)
                    : (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}

static const utf8proc_option_t form_options[] = {
    [UC_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
    [UC_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
    [UC_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
    [UC_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
};

/* A run of valid UTF-8. */
static sl_status normalize_valid(const char *text, size_t len, uc_form form, sl_buf *out,
                                 sl_err *err)
{
    utf8proc_uint8_t *form_text = NULL;
    utf8proc_ssize_t n;

    if (len > INT32_MAX / 8)
        return sl_fail(err, SL_ELIMIT, "%zu bytes to normalise", len);
    n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)len, &form_text,
                     form_options[form]);
    if (n < 0)
        return sl_fail(err, n == UTF8PROC_ERROR_NOMEM ? SL_ENOMEM : SL_EINVAL, "normalising: %s",
                       utf8proc_errmsg(n));
    sl_buf_put(out, form_text, (size_t)n);
    free(form_text); /* utf8proc's own malloc */
    return SL_OK;
}

sl_status uc_normalize(const char *text, size_t len, uc_form form, sl_buf *out, sl_err *err)
{
    size_t start = 0, i = 0;

    while (i < len) {
        uint32_t cp;
        size_t n = sl_utf8_decode(text + i, len - i, &cp);

        if (n) {
            i += n;
            continue;
        }
        SL_TRY(normalize_valid(text + start, i - start, form, out, err));
        sl_buf_putc(out, text[i++]);
        start = i;
    }
    if (start < len)
        SL_TRY(normalize_valid(text + start, len - start, form, out, err));
    return sl_buf_ok(out, "normalised text", err);
}
