/* pick.c - which of the found passages are given: those that are relevant, that say something new,
 * and, where the collection wants it, that differ from each other. */
#include <math.h>
#include <stdlib.h>

#include "base/hash.h"
#include "kernels/kernels.h"
#include "rag/rag_int.h"
#include "rag/words.h"

#define LIKE_COSINE 0.95 /* below it, two passages are not compared word by word */
#define LIKE_WORDS  0.9  /* share of words that near duplicates have in common */

/* The words of a text as numbers, each once, in order. */
typedef struct word_set {
    uint64_t *items;
    size_t count, cap;
    uint64_t numbers; /* over the words with digits: texts with other figures are other texts */
    bool is_short;
} word_set;

static bool add_word(void *ctx, const char *token, size_t len, unsigned flags)
{
    word_set *s = ctx;
    uint64_t hash = sl_hash(SL_HASH_START, token, len);
    bool has_digit = false;

    if (flags & (WORDS_EXTRA | WORDS_PART))
        return true;
    for (size_t i = 0; i < len; i++)
        has_digit |= token[i] >= '0' && token[i] <= '9';
    if (has_digit)
        s->numbers += hash;
    if (!sl_grow((void **)&s->items, &s->cap, s->count + 1, sizeof *s->items, SL_MIB)) {
        s->is_short = true;
        return false;
    }
    s->items[s->count++] = hash;
    return true;
}

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static word_set set_of(words *w, const char *language, const char *text)
{
    word_set s = { 0 };
    size_t to = 0;

    (void)words_split(w, language, text, strlen(text), add_word, &s);
    if (s.count)
        qsort(s.items, s.count, sizeof *s.items, by_number);
    for (size_t i = 0; i < s.count; i++)
        if (to == 0 || s.items[i] != s.items[to - 1])
            s.items[to++] = s.items[i];
    s.count = to;
    return s;
}

/* The share of words that both have, of those that either has. */
static double common_share(const word_set *a, const word_set *b)
{
    size_t i = 0, k = 0, both = 0;

    while (i < a->count && k < b->count) {
        both += a->items[i] == b->items[k];
        if (a->items[i] == b->items[k]) {
            i++;
            k++;
        } else if (a->items[i] < b->items[k]) {
            i++;
        } else {
            k++;
        }
    }
    return a->count + b->count > both ? (double)both / (double)(a->count + b->count - both) : 1;
}

static bool says_the_same(const rag_hit *a, const rag_hit *b, const char *language)
{
    words *w = words_create();
    word_set x = { 0 }, y = { 0 };
    bool same = false;

    if (w) {
        x = set_of(w, language, a->text);
        y = set_of(w, language, b->text);
        same = !x.is_short && !y.is_short && x.numbers == y.numbers &&
               common_share(&x, &y) >= LIKE_WORDS;
    }
    sl_free(x.items);
    sl_free(y.items);
    words_destroy(w);
    return same;
}

/* True when h says mostly what o says: the same text, half of either span, or nearly the same
 * words. */
static bool is_repeated(const rag_hit *o, const rag_hit *h, size_t dim, const char *language)
{
    int64_t shared = SL_MIN(o->end, h->end) - SL_MAX(o->begin, h->begin);
    int64_t shorter = SL_MIN(o->end - o->begin, h->end - h->begin);

    if (o->document_id == h->document_id && shared * 2 >= shorter)
        return true;
    return strcmp(o->text, h->text) == 0 ||
           (kernels_dot_f32(o->vector, h->vector, dim) >= (float)LIKE_COSINE &&
            says_the_same(o, h, language));
}

static bool is_relevant(const rag_hit *h, const pick_rules *rules)
{
    if (rules->threshold >= 0)
        return h->score >= rules->threshold;
    return h->score >= rules->score_min || h->dense >= rules->cosine_min;
}

/* The next hit by maximal marginal relevance (Carbonell and Goldstein 1998): its score, less its
 * likeness to what was taken, hits[0..taken). */
static size_t next_different(const rag_hits *hits, size_t taken, double mmr)
{
    double top = hits->items[0].score > 0 ? hits->items[0].score : 1, best = -INFINITY;
    size_t ret = taken;

    for (size_t i = taken; i < hits->count; i++) {
        const rag_hit *h = &hits->items[i];
        double like = 0, value;

        for (size_t k = 0; k < taken; k++)
            like =
                SL_MAX(like, (double)kernels_dot_f32(h->vector, hits->items[k].vector, hits->dim));
        value = (1 - mmr) * h->score / top - mmr * like;
        if (value > best) {
            best = value;
            ret = i;
        }
    }
    return ret;
}

static void drop(rag_hits *hits, size_t i)
{
    rag_hit_deinit(&hits->items[i]);
    memmove(&hits->items[i], &hits->items[i + 1], (hits->count - i - 1) * sizeof *hits->items);
    hits->count--;
}

void pick_hits(rag_hits *hits, size_t top_k, const pick_rules *rules)
{
    size_t taken = 0;

    while (taken < hits->count && taken < top_k) {
        size_t next = rules->mmr > 0 ? next_different(hits, taken, rules->mmr) : taken;
        rag_hit h = hits->items[next];
        bool is_new = is_relevant(&h, rules);

        for (size_t i = 0; i < taken && is_new; i++)
            is_new = !is_repeated(&hits->items[i], &h, hits->dim, rules->language);
        if (!is_new) {
            drop(hits, next);
            continue;
        }
        memmove(&hits->items[taken + 1], &hits->items[taken], (next - taken) * sizeof h);
        hits->items[taken++] = h;
    }
    while (hits->count > taken)
        drop(hits, hits->count - 1);
}
