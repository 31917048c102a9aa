/* lexicon.c - BM25 (Robertson et al. 1994; idf as Lucene has it) over the lists of the full-text
 * index.
 *
 * A passage is judged by its own words and, in equal parts, by those of its whole document: a
 * document that is about the question lends to each of its passages. The lists come word by word;
 * rows that the caller may not see are skipped before anything is counted. */
#include "rag/lexicon.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/mem.h"

#define K1             1.5  /* how fast more of a word stops to matter */
#define B              0.75 /* how much the length matters */
#define DOCUMENT_SHARE 0.5  /* of the score that is the document's */
#define EXTRA_WEIGHT   0.5  /* of another form of words that count already */
#define TOKEN_BYTES    (WORDS_TOKEN_BYTES + 24)
#define POSTINGS_MAX   ((size_t)1 << 28)

/* ---- the tokenizer ------------------------------------------------------------------------- */

typedef struct prefixed {
    char token[TOKEN_BYTES];
    size_t prefix;
    store_token_fn fn;
    void *ctx;
} prefixed;

static bool put_prefixed(void *ctx, const char *token, size_t len, unsigned flags)
{
    prefixed *p = ctx;

    (void)flags;
    SL_ASSERT(len <= WORDS_TOKEN_BYTES);
    memcpy(p->token + p->prefix, token, len);
    return p->fn(p->ctx, p->token, p->prefix + len);
}

static bool split(void *state, const char *text, size_t len, store_token_fn fn, void *ctx)
{
    prefixed p = { .fn = fn, .ctx = ctx };
    long long collection = 0;
    char language[16] = "none";
    const char *end = memchr(text, 2, SL_MIN(len, (size_t)64));
    size_t at = end ? (size_t)(end - text) + 1 : 0;

    if (end && sscanf(text, "\1%lld %15[a-z]", &collection, language) < 1)
        at = 0;
    p.prefix = (size_t)snprintf(p.token, 24, "%lld:", collection);
    return words_split(state, language, text + at, len - at, put_prefixed, &p);
}

static void *create(void)
{
    return words_create();
}

static void destroy(void *state)
{
    words_destroy(state);
}

const store_tokenizer lexicon_tokenizer = { LEXICON_TOKENIZER, create, destroy, split };

int64_t lexicon_length(words *w, const char *language, const char *heading, const char *text,
                       size_t len)
{
    size_t count =
        words_count(w, language, heading, strlen(heading)) + words_count(w, language, text, len);

    return (int64_t)SL_MAX(count, (size_t)1);
}

/* ---- the question -------------------------------------------------------------------------- */

/* What questions say and texts need not. In order. */
static const char *const question_words[] = {
    "about", "any",    "been", "being", "can",   "could", "did",   "do",  "does", "from", "had",
    "has",   "have",   "he",   "her",   "his",   "how",   "i",     "its", "me",   "my",   "our",
    "she",   "should", "so",   "some",  "than",  "them",  "us",    "we",  "were", "what", "when",
    "where", "which",  "who",  "whom",  "whose", "why",   "would", "you", "your",
};

static int by_text(const void *key, const void *item)
{
    return strcmp(key, *(const char *const *)item);
}

typedef struct parsing {
    lexicon_query *q;
    int64_t collection;
    bool with_stops, is_short;
} parsing;

static bool add_token(void *ctx, const char *token, size_t len, unsigned flags)
{
    parsing *p = ctx;
    lexicon_query *q = p->q;
    char text[TOKEN_BYTES];
    int prefix = snprintf(text, 24, "%lld:", (long long)p->collection);
    size_t i = 0;

    memcpy(text + prefix, token, len);
    text[(size_t)prefix + len] = '\0';
    if (flags & WORDS_PART)
        return true;
    if (!p->with_stops &&
        ((flags & WORDS_STOP) || bsearch(text + prefix, question_words, SL_COUNT_OF(question_words),
                                         sizeof *question_words, by_text)))
        return true;
    while (i < q->count && strcmp(q->tokens[i], text) != 0)
        i++;
    if (i == LEXICON_WORDS_MAX)
        return true;
    if (i == q->count) {
        q->tokens[i] = sl_strdup(text);
        p->is_short = !q->tokens[i];
        if (p->is_short)
            return false;
        q->count++;
    }
    q->weights[i] += flags & WORDS_EXTRA ? EXTRA_WEIGHT : 1;
    return true;
}

sl_status lexicon_parse(int64_t collection, const char *language, const char *question,
                        lexicon_query *ret, sl_err *err)
{
    words *w = words_create();
    parsing p = { .q = ret, .collection = collection };
    size_t len = strlen(question);

    *ret = (lexicon_query){ 0 };
    if (w)
        (void)words_split(w, language, question, len, add_token, &p);
    if (w && ret->count == 0) {
        p.with_stops = true;
        (void)words_split(w, language, question, len, add_token, &p);
    }
    words_destroy(w);
    if (w && !p.is_short)
        return SL_OK;
    lexicon_query_deinit(ret);
    return sl_fail(err, SL_ENOMEM, "out of memory");
}

void lexicon_query_deinit(lexicon_query *q)
{
    for (size_t i = 0; i < q->count; i++)
        sl_free(q->tokens[i]);
    *q = (lexicon_query){ 0 };
}

/* ---- scores -------------------------------------------------------------------------------- */

/* The rows of one word. */
typedef struct word_list {
    shelf_posting *items; /* [count], owned unless it is the shelf's */
    size_t count, cap;
    bool is_kept;
} word_list;

/* What is read of the database: the lists that the shelf does not have. */
typedef struct reading {
    const shelf *s;
    word_list *lists[LEXICON_WORDS_MAX]; /* by number of the word in the query to the store */
    size_t word, at;
    bool is_short;
} reading;

typedef struct scoring {
    const shelf *s;
    const shelf_view *v;
    lexicon_scores *out;
    float *documents;     /* [document_count] */
    shelf_posting *items; /* of the present word, those in the view */
    size_t count, cap;
    bool is_short;
} scoring;

static double idf(double all, double with)
{
    return log1p((all - with + 0.5) / (with + 0.5));
}

static double saturation(double count, double length, double mean)
{
    return count / (count + K1 * (1 - B + B * length / mean));
}

/* Adds the present word's part to the documents; its rows lie together by document. */
static void add_documents(scoring *g, double weight)
{
    const shelf *s = g->s;
    double mean = (double)g->v->words / (double)g->v->documents;
    size_t with = 0;

    for (size_t i = 0; i < g->count; i++)
        with += i == 0 || s->owners[g->items[i].row] != s->owners[g->items[i - 1].row];
    weight *= idf((double)g->v->documents, (double)with);
    for (size_t i = 0, end; i < g->count; i = end) {
        uint32_t owner = s->owners[g->items[i].row];
        double count = 0;

        for (end = i; end < g->count && s->owners[g->items[end].row] == owner; end++)
            count += g->items[end].count;
        g->documents[owner] +=
            (float)(weight * saturation(count, s->documents[owner].length, mean));
    }
    g->out->bound += DOCUMENT_SHARE * weight;
}

static void add_rows(scoring *g, double weight)
{
    double mean = (double)g->v->words / (double)g->v->rows;
    lexicon_scores *out = g->out;

    weight *= idf((double)g->v->rows, (double)g->count);
    for (size_t i = 0; i < g->count && !g->is_short; i++) {
        shelf_posting p = g->items[i];

        if (out->scores[p.row] == 0) {
            g->is_short = !sl_grow((void **)&out->rows, &out->cap, out->count + 1,
                                   sizeof *out->rows, POSTINGS_MAX);
            if (g->is_short)
                return;
            out->rows[out->count++] = p.row;
        }
        out->scores[p.row] += (float)(weight * saturation(p.count, g->s->lengths[p.row], mean));
    }
    out->bound += (1 - DOCUMENT_SHARE) * weight;
}

/* Scores one word's rows, those that the view shows. */
static void score_word(scoring *g, const word_list *l, double weight)
{
    g->count = 0;
    if (!sl_grow((void **)&g->items, &g->cap, l->count + 1, sizeof *g->items, POSTINGS_MAX)) {
        g->is_short = true;
        return;
    }
    for (size_t i = 0; i < l->count; i++)
        if (vectors_allowed(g->v->allowed, l->items[i].row))
            g->items[g->count++] = l->items[i];
    if (g->v->rows == 0)
        return;
    add_rows(g, weight);
    add_documents(g, weight);
}

static bool on_posting(void *ctx, size_t word, int64_t rowid, int count)
{
    reading *r = ctx;
    word_list *l = r->lists[word];
    size_t row;

    r->at = word == r->word ? r->at : 0;
    r->word = word;
    row = shelf_find(r->s, rowid, r->at);
    if (row == r->s->row_count)
        return true; /* of no document that is there: not in one transaction */
    r->at = row + 1;
    if (!sl_grow((void **)&l->items, &l->cap, l->count + 1, sizeof *l->items, POSTINGS_MAX))
        r->is_short = true;
    else
        l->items[l->count++] = (shelf_posting){ (uint32_t)row, (uint32_t)count };
    return !r->is_short;
}

/* The lists of all words: from the shelf, else from the database. */
static sl_status read_lists(store *db, shelf *s, const lexicon_query *q, word_list *lists,
                            sl_err *err)
{
    reading r = { .s = s };
    sl_span tokens[LEXICON_WORDS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < q->count; i++) {
        const shelf_list *kept = shelf_recall(s, q->tokens[i]);

        if (kept) {
            lists[i] = (word_list){ kept->items, kept->count, 0, true };
            continue;
        }
        r.lists[count] = &lists[i];
        tokens[count++] = sl_span_str(q->tokens[i]);
    }
    SL_TRY(store_postings(db, "chunk_words", tokens, count, on_posting, &r, err));
    return r.is_short ? sl_fail(err, SL_ENOMEM, "the lists of words need too much memory") : SL_OK;
}

/* Long lists stay on the shelf. */
static void put_lists(shelf *s, const lexicon_query *q, word_list *lists, bool ok)
{
    for (size_t i = 0; i < q->count; i++) {
        if (lists[i].is_kept)
            continue;
        if (ok && lists[i].count >= SHELF_LIST_MIN)
            shelf_keep(s, q->tokens[i], lists[i].items, lists[i].count);
        else
            sl_free(lists[i].items);
    }
}

static void join_documents(scoring *g)
{
    lexicon_scores *out = g->out;

    for (size_t i = 0; i < out->count; i++) {
        uint32_t row = out->rows[i];

        out->scores[row] = (float)((1 - DOCUMENT_SHARE) * out->scores[row] +
                                   DOCUMENT_SHARE * g->documents[g->s->owners[row]]);
        out->best = SL_MAX(out->best, (double)out->scores[row]);
    }
}

sl_status lexicon_score(store *db, shelf *s, const shelf_view *v, const lexicon_query *q,
                        lexicon_scores *ret, sl_err *err)
{
    scoring g = { .s = s, .v = v, .out = ret };
    word_list lists[LEXICON_WORDS_MAX] = { 0 };
    sl_status status = SL_OK;

    *ret = (lexicon_scores){ .scores = sl_calloc(s->row_count + 1, sizeof *ret->scores) };
    g.documents = sl_calloc(s->document_count + 1, sizeof *g.documents);
    g.is_short = !ret->scores || !g.documents;
    if (!g.is_short)
        status = read_lists(db, s, q, lists, err);
    for (size_t i = 0; i < q->count && status == SL_OK && !g.is_short; i++)
        score_word(&g, &lists[i], q->weights[i]);
    put_lists(s, q, lists, status == SL_OK);
    if (status == SL_OK && g.is_short)
        status = sl_fail(err, SL_ENOMEM, "the lists of words need too much memory");
    if (status == SL_OK)
        join_documents(&g);
    else
        lexicon_scores_deinit(ret);
    sl_free(g.documents);
    sl_free(g.items);
    return status;
}

void lexicon_scores_deinit(lexicon_scores *s)
{
    sl_free(s->scores);
    sl_free(s->rows);
    *s = (lexicon_scores){ 0 };
}
