/* words.c - splits text into the tokens of the full-text index. See the header.
 *
 * Folded characters go into one of two machines. Letters and digits collect in a compound: parts
 * joined by hyphens, dots and underscores. The parts become tokens, and so does the whole where the
 * parts alone say too little. Characters of scripts without spaces go through a window of two. */
#include "rag/words.h"

#include <libstemmer.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "rag/words_int.h"

#define COMPOUND_BYTES 256
#define PARTS_MAX      16
#define CLUSTER_BYTES  24  /* a letter with its vowel signs */
#define HUMP           'A' /* the glue in "humpBack": nothing is written there */

typedef struct part {
    size_t begin, len; /* in words.text */
    size_t letters;    /* characters */
    char glue;         /* what stands in front of it; 0 for the first */
    bool has_digit, has_letter;
    words_script script;
} part;

struct words {
    struct sb_stemmer *stemmers[WORDS_SCRIPT_COUNT];
    char language[16]; /* of stemmers[WORDS_LATIN] */
    words_fn fn;
    void *ctx;
    bool ok, is_english;
    /* The open compound. */
    char text[COMPOUND_BYTES];
    size_t len;
    part parts[PARTS_MAX];
    size_t count;
    char glue;        /* seen behind the last part; a letter must follow */
    bool was_lower;   /* the last character was a small letter */
    bool after_quote; /* the compound follows an apostrophe */
    /* The open run of a script without spaces. */
    words_kind run;
    size_t run_len;                                /* in characters */
    char last[CLUSTER_BYTES], here[CLUSTER_BYTES]; /* the window */
    size_t last_len, here_len;
    bool last_is_han, here_is_han;
};

/* Lucene's list for English, the one that other searches compare with. In order. */
static const char *const stop_words[] = {
    "a",   "an",    "and",  "are",   "as",    "at",   "be",   "but", "by",  "for",  "if",
    "in",  "into",  "is",   "it",    "no",    "not",  "of",   "on",  "or",  "such", "that",
    "the", "their", "then", "there", "these", "they", "this", "to",  "was", "will", "with",
};

words *words_create(void)
{
    return sl_calloc(1, sizeof(words));
}

void words_destroy(words *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < WORDS_SCRIPT_COUNT; i++)
        if (w->stemmers[i])
            sb_stemmer_delete(w->stemmers[i]);
    sl_free(w);
}

bool words_has_language(const char *language)
{
    const char **list = sb_stemmer_list();

    if (strcmp(language, "none") == 0)
        return true;
    for (size_t i = 0; list[i]; i++)
        if (strcmp(list[i], language) == 0)
            return true;
    return false;
}

/* ---- tokens -------------------------------------------------------------------------------- */

static int by_text(const void *key, const void *item)
{
    return strcmp(key, *(const char *const *)item);
}

static bool is_stop(const words *w, const char *text, size_t len)
{
    char word[8] = "";

    if (!w->is_english || len >= sizeof word)
        return false;
    memcpy(word, text, len);
    return bsearch(word, stop_words, SL_COUNT_OF(stop_words), sizeof *stop_words, by_text) != NULL;
}

static void emit(words *w, const char *text, size_t len, unsigned flags)
{
    if (len > WORDS_TOKEN_BYTES)
        len = sl_utf8_complete(text, WORDS_TOKEN_BYTES);
    if (w->ok && len)
        w->ok = w->fn(w->ctx, text, len, flags);
}

static struct sb_stemmer *stemmer_of(words *w, words_script script)
{
    static const char *const names[WORDS_SCRIPT_COUNT] = {
        [WORDS_GREEK] = "greek",
        [WORDS_CYRILLIC] = "russian",
        [WORDS_ARABIC] = "arabic",
        [WORDS_DEVANAGARI] = "hindi",
    };
    const char *name = script == WORDS_LATIN ? w->language : names[script];

    if (!w->stemmers[script] && name && strcmp(name, "none") != 0)
        w->stemmers[script] = sb_stemmer_new(name, NULL);
    return w->stemmers[script];
}

static void emit_word(words *w, const part *p, unsigned flags)
{
    const char *text = w->text + p->begin;
    struct sb_stemmer *st;
    const sb_symbol *stem;

    if (is_stop(w, text, p->len))
        flags |= WORDS_STOP;
    st = p->has_digit || (flags & WORDS_STOP) ? NULL : stemmer_of(w, p->script);
    stem = st ? sb_stemmer_stem(st, (const sb_symbol *)text, (int)p->len) : NULL;
    if (stem)
        emit(w, (const char *)stem, (size_t)sb_stemmer_length(st), flags);
    else
        emit(w, text, p->len, flags);
}

/* ---- compounds ----------------------------------------------------------------------------- */

static bool is_number(const part *p)
{
    return p->has_digit && !p->has_letter;
}

/* The text of parts [first, end), joined by their glue or by nothing. */
static void emit_joined(words *w, size_t first, size_t end, bool with_glue, unsigned flags)
{
    char text[COMPOUND_BYTES];
    size_t len = 0;

    for (size_t i = first; i < end && len + w->parts[i].len + 1 < sizeof text; i++) {
        char glue = w->parts[i].glue;

        if (i > first && with_glue && glue != HUMP && glue != ',')
            text[len++] = glue;
        memcpy(text + len, w->text + w->parts[i].begin, w->parts[i].len);
        len += w->parts[i].len;
    }
    emit(w, text, len, flags);
}

/* The end of the number that begins at part i: "3.14", "12:30", "192.168.0.1", "1,000". */
static size_t number_end(const words *w, size_t i)
{
    size_t end = i + 1;

    while (is_number(&w->parts[end - 1]) && end < w->count && is_number(&w->parts[end]) &&
           strchr(".:,", w->parts[end].glue))
        end++;
    return end;
}

/* "U.S.A": single letters and dots. */
static bool is_acronym(const words *w)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->parts[i].letters != 1 || !w->parts[i].has_letter || (i && w->parts[i].glue != '.'))
            return false;
    return w->count > 1;
}

/* The whole is a word of its own when it is a name ("snake_case", "example.org", "humpBack"), or
 * when a part alone says little ("x-15", "e-mail"). */
static void emit_whole(words *w)
{
    bool has_hyphen = false, has_short = false;

    for (size_t i = 0; i < w->count; i++) {
        has_hyphen |= w->parts[i].glue == '-';
        has_short |= w->parts[i].letters <= 2 || w->parts[i].has_digit;
    }
    if (!has_hyphen)
        emit_joined(w, 0, w->count, true, WORDS_EXTRA);
    else if (has_short && w->count <= 3)
        emit_joined(w, 0, w->count, false, WORDS_EXTRA);
}

static void close_compound(words *w, bool before_quote)
{
    bool is_rest = w->after_quote || before_quote; /* "it's", "l'eau" */
    bool is_one = false;

    w->after_quote = before_quote;
    w->glue = 0;
    w->was_lower = false;
    if (w->count == 0)
        return;
    if (is_acronym(w)) {
        emit_joined(w, 0, w->count, false, 0);
        w->count = w->len = 0;
        return;
    }
    for (size_t i = 0, end; i < w->count; i = end) {
        end = number_end(w, i);
        is_one = i == 0 && end == w->count;
        if (end > i + 1)
            emit_joined(w, i, end, true, 0);
        else
            emit_word(w, &w->parts[i],
                      is_rest && w->count == 1 && w->parts[i].letters <= 2 ? WORDS_STOP : 0);
    }
    if (!is_one)
        emit_whole(w);
    w->count = w->len = 0;
}

/* Opens a part when there is none, or behind glue. */
static part *open_part(words *w, char glue)
{
    if (w->count == PARTS_MAX)
        close_compound(w, false);
    w->parts[w->count] = (part){ .begin = w->len, .glue = w->count ? glue : 0 };
    w->glue = 0;
    return &w->parts[w->count++];
}

static void put_letter(words *w, uint32_t cp, words_kind k, bool is_upper)
{
    part *p = w->count ? &w->parts[w->count - 1] : NULL;
    char bytes[4];
    size_t n = sl_utf8_encode(cp, bytes);

    if (w->len + n > sizeof w->text) {
        close_compound(w, false);
        p = NULL;
    }
    if (!p || w->glue)
        p = open_part(w, w->glue);
    else if (is_upper && w->was_lower && p->letters >= 2)
        p = open_part(w, HUMP);
    if (p->letters == 0)
        p->script = words_script_of(cp);
    else if (p->script != words_script_of(cp) && k == WORDS_LETTER)
        p->script = WORDS_OTHER;
    memcpy(w->text + w->len, bytes, n);
    w->len += n;
    p->len += n;
    p->letters += k != WORDS_MARK;
    p->has_digit |= k == WORDS_DIGIT;
    p->has_letter |= k != WORDS_DIGIT;
    w->was_lower = cp < 0x80 && k == WORDS_LETTER && !is_upper;
}

/* ---- scripts without spaces ---------------------------------------------------------------- */

/* The character in `here` is complete: it makes a pair with the one in front. */
static void close_cluster(words *w)
{
    char pair[2 * CLUSTER_BYTES];

    if (w->here_len == 0)
        return;
    if (w->last_len) {
        if (w->last_is_han)
            emit(w, w->last, w->last_len, WORDS_PART);
        memcpy(pair, w->last, w->last_len);
        memcpy(pair + w->last_len, w->here, w->here_len);
        emit(w, pair, w->last_len + w->here_len, 0);
    }
    w->run_len++;
    memcpy(w->last, w->here, w->here_len);
    w->last_len = w->here_len;
    w->last_is_han = w->here_is_han;
    w->here_len = 0;
}

static void close_run(words *w)
{
    close_cluster(w);
    if (w->run_len == 1)
        emit(w, w->last, w->last_len, 0);
    else if (w->run_len && w->last_is_han)
        emit(w, w->last, w->last_len, WORDS_PART);
    w->run = WORDS_SPACE;
    w->run_len = w->last_len = 0;
}

/* Han and kana share a run. */
static words_kind run_of(words_kind k)
{
    return k == WORDS_KANA ? WORDS_HAN : k;
}

static void put_mark(words *w, uint32_t cp)
{
    char bytes[4];
    uint32_t base = 0;
    size_t n = sl_utf8_encode(cp, bytes);

    if (cp == 0x3099 ||
        cp == 0x309a) { /* kana of half width: "ha" and its sign are one character */
        (void)sl_utf8_decode(w->here, w->here_len, &base);
        n = sl_utf8_encode(base + cp - 0x3098, bytes);
        w->here_len = 0;
    }
    if (w->here_len + n > sizeof w->here)
        return; /* nobody writes that many marks */
    memcpy(w->here + w->here_len, bytes, n);
    w->here_len += n;
}

static void put_cluster(words *w, uint32_t cp, words_kind k)
{
    char bytes[4];
    size_t n = sl_utf8_encode(cp, bytes);

    if (k == WORDS_MARK) {
        put_mark(w, cp);
        return;
    }
    if (w->run != run_of(k))
        close_run(w);
    close_cluster(w);
    w->run = run_of(k);
    w->here_is_han = k == WORDS_HAN;
    memcpy(w->here, bytes, n);
    w->here_len = n;
}

/* ---- the text ------------------------------------------------------------------------------ */

static bool is_digit_at(const char *text, size_t len, size_t at)
{
    return at < len && text[at] >= '0' && text[at] <= '9';
}

/* Whether the character in front of text[at], which stands behind a part, may join it to what
 * follows. */
static bool is_glue(const words *w, uint32_t cp, const char *text, size_t len, size_t at)
{
    const part *p = w->count ? &w->parts[w->count - 1] : NULL;

    if (!p || w->glue)
        return false;
    if (cp == '-' || cp == '_' || cp == '.')
        return true;
    if (cp == ':')
        return is_number(p) && is_digit_at(text, len, at);
    /* Thousands: three digits and no more. */
    return cp == ',' && is_number(p) && is_digit_at(text, len, at) &&
           is_digit_at(text, len, at + 1) && is_digit_at(text, len, at + 2) &&
           !is_digit_at(text, len, at + 3);
}

/* "c++", "c#", "f#": signs behind a single letter. Returns how many bytes they take. */
static size_t take_signs(words *w, const char *text, size_t len, size_t at)
{
    part *p = w->count == 1 ? &w->parts[0] : NULL;
    size_t n = 0, behind;
    uint32_t cp;

    if (!p || p->letters != 1 || !p->has_letter || w->glue)
        return 0;
    while (n < 2 && at + n < len && text[at + n] == (text[at] == '#' ? '#' : '+'))
        n++;
    n = text[at] == '#' ? SL_MIN(n, (size_t)1) : n == 2 ? 2 : 0;
    behind = n && at + n < len ? sl_utf8_decode(text + at + n, len - at - n, &cp) : 0;
    if (n == 0 || (behind && words_kind_of(cp) != WORDS_SPACE))
        return 0;
    memcpy(w->text + w->len, text + at, n);
    w->len += n;
    p->len += n;
    p->has_digit = true; /* no stemming */
    return n;
}

static void put_folded(words *w, uint32_t cp, bool is_upper)
{
    words_kind k = words_kind_of(cp);

    if (k == WORDS_MARK ? w->here_len > 0 : k >= WORDS_HAN) {
        if (k != WORDS_MARK)
            close_compound(w, false);
        put_cluster(w, cp, k);
    } else if (k == WORDS_LETTER || k == WORDS_DIGIT || (k == WORDS_MARK && w->count && !w->glue)) {
        close_run(w);
        put_letter(w, cp, k, is_upper);
    } else if (k == WORDS_SPACE) {
        close_run(w);
        close_compound(w, false);
    }
}

/* One character that is no letter; returns how many bytes more were taken. */
static size_t put_sign(words *w, uint32_t cp, const char *text, size_t len, size_t at)
{
    size_t n = cp == '+' || cp == '#' ? take_signs(w, text, len, at - 1) : 0;

    close_run(w);
    if (n)
        return n - 1;
    if (cp == 0xad) /* a soft hyphen is not seen */
        return 0;
    cp = cp == 0x2010 || cp == 0x2011 ? '-' : cp; /* hyphens */
    if (is_glue(w, cp, text, len, at))
        w->glue = (char)cp;
    else
        close_compound(w, w->count && (cp == '\'' || cp == 0x2019) && at < len &&
                              (unsigned char)text[at] > ' ');
    return 0;
}

bool words_split(words *w, const char *language, const char *text, size_t len, words_fn fn,
                 void *ctx)
{
    uint32_t cp, folded[WORDS_FOLDED_MAX];

    if (strncmp(w->language, language, sizeof w->language) != 0) {
        if (w->stemmers[WORDS_LATIN])
            sb_stemmer_delete(w->stemmers[WORDS_LATIN]);
        w->stemmers[WORDS_LATIN] = NULL;
        memset(w->language, 0, sizeof w->language);
        memcpy(w->language, language, SL_MIN(strlen(language), sizeof w->language - 1));
    }
    w->is_english = strcmp(language, "english") == 0;
    w->fn = fn;
    w->ctx = ctx;
    w->ok = true;
    for (size_t at = 0, n; at < len && w->ok; at += n) {
        size_t count;

        n = sl_utf8_decode(text + at, len - at, &cp);
        if (n == 0) {
            n = 1;
            put_folded(w, ' ', false);
        } else if (words_kind_of(cp) == WORDS_SPACE) {
            n += put_sign(w, cp, text, len, at + n);
        } else {
            count = words_fold(cp, folded);
            for (size_t i = 0; i < count; i++)
                put_folded(w, folded[i], cp < 0x80 && folded[i] != cp);
        }
    }
    close_run(w);
    close_compound(w, false);
    w->after_quote = false;
    return w->ok;
}

static bool count_one(void *ctx, const char *token, size_t len, unsigned flags)
{
    *(size_t *)ctx += flags == 0;
    return true;
}

size_t words_count(words *w, const char *language, const char *text, size_t len)
{
    size_t count = 0;

    (void)words_split(w, language, text, len, count_one, &count);
    return count;
}
