/* words_fold.c - characters: folding, what they are, and the script they belong to. */
#include <utf8proc.h>

#include "base/attr.h"
#include "rag/words_int.h"

typedef struct range {
    uint32_t first, last;
} range;

static bool is_in(const range *r, size_t count, uint32_t cp)
{
    for (size_t i = 0; i < count; i++)
        if (cp >= r[i].first && cp <= r[i].last)
            return true;
    return false;
}

/* Accents, and the vowel points of Hebrew and Arabic: readers leave them out, writers too. */
static bool is_dropped_mark(uint32_t cp)
{
    static const range marks[] = { { 0x300, 0x36f }, { 0x591, 0x5c7 }, { 0x610, 0x61a },
                                   { 0x640, 0x640 }, { 0x64b, 0x65f }, { 0x670, 0x670 } };

    return is_in(marks, SL_COUNT_OF(marks), cp);
}

/* Characters that fold to themselves and must not be taken apart. */
static bool is_whole(uint32_t cp)
{
    static const range whole[] = {
        { 0x900, 0x109f },  /* Indic scripts, Thai, Lao, Burmese: signs are letters there */
        { 0x1780, 0x17ff }, /* Khmer */
        { 0x3041, 0x3096 }, { 0x309d, 0x309e }, { 0x30a1, 0x30fe },   /* kana */
        { 0x3400, 0x9fff }, { 0xac00, 0xd7a3 }, { 0x20000, 0x3134f }, /* Chinese, Korean */
    };

    return is_in(whole, SL_COUNT_OF(whole), cp);
}

size_t words_fold(uint32_t cp, uint32_t out[WORDS_FOLDED_MAX])
{
    utf8proc_int32_t parts[WORDS_FOLDED_MAX];
    utf8proc_ssize_t n;
    int boundary = 0;
    size_t count = 0;

    if (cp < 0x80 || is_whole(cp)) {
        out[0] = cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
        return 1;
    }
    if (cp >= 0x400 && cp <= 0x52f) { /* Cyrillic: the marks are parts of letters, all but one */
        cp = (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
        out[0] = cp == 0x451 ? 0x435 : cp;
        return 1;
    }
    n = utf8proc_decompose_char(
        (utf8proc_int32_t)cp, parts, WORDS_FOLDED_MAX,
        UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE, &boundary);
    for (utf8proc_ssize_t i = 0; i < n && i < WORDS_FOLDED_MAX; i++)
        if (!is_dropped_mark((uint32_t)parts[i]))
            out[count++] = (uint32_t)parts[i];
    return count;
}

static words_kind unspaced_kind(uint32_t cp)
{
    static const range han[] = {
        { 0x3005, 0x3007 }, { 0x3400, 0x9fff }, { 0xf900, 0xfaff }, { 0x20000, 0x3134f }
    };
    static const range clusters[] = { { 0xe01, 0xe2e },   { 0xe2f, 0xe30 },   { 0xe32, 0xe33 },
                                      { 0xe40, 0xe46 },   { 0xe81, 0xeb0 },   { 0xeb2, 0xeb3 },
                                      { 0xebd, 0xec6 },   { 0xedc, 0xedf },   { 0x1000, 0x102a },
                                      { 0x103f, 0x103f }, { 0x1050, 0x1055 }, { 0x1780, 0x17b3 } };

    if (is_in(han, SL_COUNT_OF(han), cp))
        return WORDS_HAN;
    if ((cp >= 0x3041 && cp <= 0x3096) || (cp >= 0x309d && cp <= 0x309e) ||
        (cp >= 0x30a1 && cp <= 0x30fa) || (cp >= 0x30fc && cp <= 0x30fe))
        return WORDS_KANA;
    if (cp >= 0xac00 && cp <= 0xd7a3)
        return WORDS_HANGUL;
    return is_in(clusters, SL_COUNT_OF(clusters), cp) ? WORDS_CLUSTER : WORDS_SPACE;
}

words_kind words_kind_of(uint32_t cp)
{
    words_kind k;

    if (cp < 0x80)
        return (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z') ? WORDS_LETTER
               : cp >= '0' && cp <= '9'                             ? WORDS_DIGIT
                                                                    : WORDS_SPACE;
    k = unspaced_kind(cp);
    if (k != WORDS_SPACE)
        return k;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return WORDS_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return WORDS_DIGIT;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
        return WORDS_MARK;
    default:
        return WORDS_SPACE;
    }
}

words_script words_script_of(uint32_t cp)
{
    if (cp < 0x250 || (cp >= 0x1e00 && cp <= 0x1eff))
        return WORDS_LATIN;
    if (cp >= 0x370 && cp <= 0x3ff)
        return WORDS_GREEK;
    if (cp >= 0x400 && cp <= 0x52f)
        return WORDS_CYRILLIC;
    if (cp >= 0x620 && cp <= 0x6ff)
        return WORDS_ARABIC;
    if (cp >= 0x900 && cp <= 0x97f)
        return WORDS_DEVANAGARI;
    return WORDS_OTHER;
}
