/* sentence.c - where sentences end, in Latin and in CJK text. */
#include "rag/chunk.h"

#include <strings.h>

/* 。！？｡ and the full-width full stop end a sentence wherever they stand. */
static bool is_cjk_end(uint32_t cp)
{
    return cp == 0x3002 || cp == 0xff01 || cp == 0xff1f || cp == 0xff61 || cp == 0xff0e;
}

/* Quotes and brackets that may follow the mark and belong to the sentence. */
static bool is_closer(uint32_t cp)
{
    return cp == '"' || cp == '\'' || cp == ')' || cp == ']' || cp == 0x2019 || cp == 0x201d ||
           cp == 0xbb || cp == 0x300d || cp == 0x300f || cp == 0xff09 || cp == 0x3011;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* "e.g.", "J.", "Dr.": the full stop at text[at] ends a short form, not a sentence. */
static bool is_short_form(const char *text, size_t begin, size_t at)
{
    static const char *const forms[] = { "dr", "mr", "mrs", "ms", "prof", "st",
                                         "vs", "no", "fig", "cf", "etc",  "approx" };
    size_t start = at;

    while (start > begin && is_letter(text[start - 1]))
        start--;
    if (at - start == 1) /* an initial; also the last letter of "e.g." */
        return text[start] != 'I';
    for (size_t i = 0; i < SL_COUNT_OF(forms); i++)
        if (strlen(forms[i]) == at - start && strncasecmp(forms[i], text + start, at - start) == 0)
            return true;
    return false;
}

static size_t skip_closers(const char *text, size_t len, size_t at)
{
    uint32_t cp;
    size_t n;

    while (at < len && (n = sl_utf8_decode(text + at, len - at, &cp)) > 0 && is_closer(cp))
        at += n;
    return at;
}

size_t chunk_sentence_end(const char *text, size_t len, size_t begin)
{
    uint32_t cp = 0;

    for (size_t at = begin, n; at < len; at += n) {
        size_t stop;

        n = sl_utf8_decode(text + at, len - at, &cp);
        n = n ? n : 1;
        if (is_cjk_end(cp))
            return skip_closers(text, len, at + n);
        if (cp != '.' && cp != '!' && cp != '?')
            continue;
        stop = skip_closers(text, len, at + n);
        if (stop < len && !is_space(text[stop]))
            continue;
        while (stop < len && is_space(text[stop]))
            stop++;
        /* What goes on in lower case goes on. */
        if (stop < len && ((text[stop] >= 'a' && text[stop] <= 'z') ||
                           (cp == '.' && is_short_form(text, begin, at))))
            continue;
        return skip_closers(text, len, at + n);
    }
    return len;
}
