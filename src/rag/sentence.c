/* sentence.c - where sentences end, in all scripts that mark it.
 *
 * Marks of East and South Asian scripts end a sentence wherever they stand. The full stop of Latin,
 * Cyrillic and Greek also abbreviates, counts and separates decimals: it ends a sentence only
 * before a space, and not behind a short form or the number of a list item. */
#include "rag/chunk.h"

#include <strings.h>

/* 。！？｡．‼⁇⁈⁉, the Devanagari, Arabic, Armenian, Ethiopic, Khmer, Burmese and Tibetan marks. */
static bool is_sure_end(uint32_t cp)
{
    static const uint32_t marks[] = {
        0x3002, 0xff01, 0xff1f, 0xff61, 0xff0e, 0x203c, 0x2047, 0x2048, 0x2049, 0x0964,
        0x0965, 0x061f, 0x06d4, 0x0589, 0x1362, 0x1367, 0x17d4, 0x17d5, 0x104b, 0x0f0d,
    };

    for (size_t i = 0; i < SL_COUNT_OF(marks); i++)
        if (marks[i] == cp)
            return true;
    return false;
}

/* Quotes and brackets that may follow the mark and belong to the sentence. */
static bool is_closer(uint32_t cp)
{
    return cp == '"' || cp == '\'' || cp == ')' || cp == ']' || cp == 0x2019 || cp == 0x201d ||
           cp == 0x201c || cp == 0xbb || cp == 0xab || cp == 0x203a || cp == 0x300d ||
           cp == 0x300f || cp == 0xff09 || cp == 0x3011 || cp == 0x300b || cp == 0x3009;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_one_of(const char *const *forms, size_t count, const char *word, size_t len)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(forms[i]) == len && strncasecmp(forms[i], word, len) == 0)
            return true;
    return false;
}

/* "e.g.", "J.", "Dr.", "bzw.", "Sr.": the full stop at text[at] ends a short form. */
static bool is_short_form(const char *text, size_t begin, size_t at)
{
    /* Those that stand before a capital; before lower case a sentence never ends anyway. */
    static const char *const forms[] = {
        "dr",     "mr",   "mrs",  "ms",   "prof", "st",  "vs",  "no",   "nos", "fig",  "figs",
        "cf",     "etc",  "al",   "pp",   "vol",  "ed",  "eds", "rev",  "gen", "col",  "lt",
        "sgt",    "capt", "gov",  "sen",  "rep",  "hon", "inc", "ltd",  "co",  "corp", "dept",
        "approx", "ch",   "eq",   "ref",  "jan",  "feb", "apr", "jun",  "jul", "aug",  "sept",
        "oct",    "nov",  "dec",  "nr",   "abb",  "abs", "bzw", "ca",   "usw", "vgl",  "str",
        "tel",    "hr",   "fr",   "hrn",  "dipl", "ing", "kap", "tab",  "bd",  "mme",  "mlle",
        "sr",     "sra",  "dra",  "srta", "ud",   "uds", "av",  "pag",  "num", "sig",  "dott",
        "ecc",    "dhr",  "mevr", "bijv", "np",   "tzw", "tzn", "prof", "ul",  "exmo", "dn",
    };
    size_t start = at;

    while (start > begin && is_letter(text[start - 1]))
        start--;
    if (at - start == 1) /* an initial; also the last letter of "e.g." */
        return text[start] != 'I';
    return is_one_of(forms, SL_COUNT_OF(forms), text + start, at - start);
}

/* "3. Mai", "2. Open the lid": the number of a list item, or a German day. */
static bool is_ordinal(const char *text, size_t len, size_t begin, size_t at, size_t next)
{
    static const char *const months[] = {
        "Januar", "Februar", "M\xc3\xa4rz", "April",   "Mai",      "Juni",
        "Juli",   "August",  "September",   "Oktober", "November", "Dezember",
    };
    size_t start = at, word = next;

    while (start > begin && is_digit(text[start - 1]))
        start--;
    if (start == at || at - start > 3)
        return false;
    while (word < len && is_letter(text[word]))
        word++;
    if (is_one_of(months, SL_COUNT_OF(months), text + next, word - next))
        return true;
    while (start > begin && (text[start - 1] == ' ' || text[start - 1] == '\t'))
        start--;
    return start == begin || text[start - 1] == '\n';
}

static size_t skip_closers(const char *text, size_t len, size_t at)
{
    uint32_t cp;
    size_t n;

    while (at < len && (n = sl_utf8_decode(text + at, len - at, &cp)) > 0 && is_closer(cp))
        at += n;
    return at;
}

/* The end of the text in front of the line end at text[at] when an empty line follows, else 0.
 * There is text in front. */
static size_t blank_line(const char *text, size_t len, size_t at)
{
    size_t next = at + 1, end = at;

    while (next < len && (text[next] == ' ' || text[next] == '\t' || text[next] == '\r'))
        next++;
    if (next == len || text[next] != '\n')
        return 0;
    while (is_space(text[end - 1]))
        end--;
    return end;
}

static bool is_mark(uint32_t cp)
{
    return cp == '.' || cp == '!' || cp == '?' || cp == 0x2026;
}

size_t chunk_sentence_end(const char *text, size_t len, size_t begin)
{
    uint32_t cp = 0;
    bool has_text = false;

    for (size_t at = begin, n; at < len; at += n) {
        size_t stop, next;

        n = sl_utf8_decode(text + at, len - at, &cp);
        n = n ? n : 1;
        if (cp == '\n' && has_text && (stop = blank_line(text, len, at)) > 0)
            return stop;
        has_text = has_text || n > 1 || !is_space(text[at]);
        if (is_sure_end(cp))
            return skip_closers(text, len, at + n);
        if (!is_mark(cp))
            continue;
        stop = next = skip_closers(text, len, at + n);
        if (stop < len && !is_space(text[stop]))
            continue;
        while (next < len && is_space(text[next]))
            next++;
        if (next == len)
            return stop;
        /* What goes on in lower case goes on. */
        if ((text[next] >= 'a' && text[next] <= 'z') ||
            (cp == '.' &&
             (is_short_form(text, begin, at) || is_ordinal(text, len, begin, at, next))))
            continue;
        return stop;
    }
    return len;
}
