/* fuse.c - the pure half of the search: the words of a question, and the fusion of two rankings. */
#include "rag/rag_int.h"

#include <stdlib.h>

#define RANK_OFFSET 60 /* the usual k of reciprocal rank fusion */
#define WORDS_MAX   64 /* more words find nothing better */

static bool is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (unsigned char)c >= 0x80;
}

/* Words of every text and of every question. */
static const char *const stop_words[] = {
    "a",    "about",  "am",    "an",    "and",   "any",    "are",   "as",    "at",    "be",
    "been", "but",    "by",    "can",   "could", "did",    "do",    "does",  "for",   "from",
    "had",  "has",    "have",  "he",    "her",   "his",    "how",   "i",     "if",    "in",
    "into", "is",     "it",    "its",   "may",   "me",     "my",    "of",    "on",    "or",
    "our",  "please", "s",     "shall", "she",   "should", "so",    "t",     "tell",  "than",
    "that", "the",    "their", "them",  "then",  "there",  "these", "they",  "this",  "those",
    "to",   "us",     "was",   "we",    "were",  "what",   "when",  "where", "which", "who",
    "whom", "whose",  "why",   "will",  "with",  "would",  "you",   "your",
};

typedef struct word {
    const char *ptr;
    size_t len;
    bool is_stop;
} word;

static bool is_stop_word(const char *ptr, size_t len)
{
    char low[8] = "";

    if (len >= sizeof low)
        return false;
    for (size_t i = 0; i < len; i++)
        low[i] = (char)(ptr[i] >= 'A' && ptr[i] <= 'Z' ? ptr[i] + 32 : ptr[i]);
    for (size_t i = 0; i < SL_COUNT_OF(stop_words); i++)
        if (strcmp(stop_words[i], low) == 0)
            return true;
    return false;
}

void search_match(const char *question, sl_buf *out)
{
    word words[WORDS_MAX];
    size_t count = 0, stops = 0;

    for (const char *p = question; *p && count < WORDS_MAX;) {
        const char *begin = p;

        while (*p && is_word_char(*p))
            p++;
        if (p > begin) {
            words[count] =
                (word){ begin, (size_t)(p - begin), is_stop_word(begin, (size_t)(p - begin)) };
            stops += words[count++].is_stop;
        }
        while (*p && !is_word_char(*p))
            p++;
    }
    for (size_t i = 0; i < count; i++) {
        if (words[i].is_stop && stops < count)
            continue;
        sl_buf_puts(out, out->len ? " OR \"" : "\"");
        sl_buf_put(out, words[i].ptr, words[i].len); /* holds no quote: it is no word character */
        sl_buf_puts(out, "\"");
    }
}

/* ---- fusion -------------------------------------------------------------------------------- */

static int by_score(const void *a, const void *b)
{
    const fusion_item *x = a, *y = b;

    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static size_t add_ranking(const fusion_item *items, size_t count, fusion_item *out, size_t at)
{
    for (size_t i = 0; i < count; i++) {
        size_t k = 0;

        while (k < at && out[k].id != items[i].id)
            k++;
        if (k == at) {
            out[at] = items[i];
            out[at++].score = 0;
        }
        out[k].score += 1.0 / (RANK_OFFSET + 1 + (double)i);
        out[k].is_lexical = out[k].is_lexical || items[i].is_lexical;
    }
    return at;
}

size_t search_fuse(const fusion_item *a, size_t a_count, const fusion_item *b, size_t b_count,
                   fusion_item *out)
{
    size_t count = add_ranking(a, a_count, out, 0);

    count = add_ranking(b, b_count, out, count);
    qsort(out, count, sizeof *out, by_score);
    return count;
}
