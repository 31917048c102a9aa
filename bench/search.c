/* search.c - how long a search takes beside asking the model: vectors and words of synthetic
 * passages.
 *
 *   bench_search COUNT [DIM] [ROUNDS]
 *
 * Vectors are random. Passages have 100 words by Zipf's law over 200,000 words, queries 6 of them;
 * each document has 4 passages. The full-text index is built in a file under TMPDIR, which is
 * removed. One line of CSV. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/os.h"
#include "rag/lexicon.h"
#include "rag/vectors.h"
#include "store/store.h"

#define WORDS      200000
#define PER_TEXT   100
#define PER_QUERY  6
#define BATCH_ROWS 20000

static uint64_t state = 88172645463325252ULL;

static double uniform(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (double)(state >> 11) / 9007199254740992.0;
}

/* A word's number by Zipf's law: the inverse of the harmonic sum, about. */
static int zipf(void)
{
    return (int)exp(uniform() * log(WORDS));
}

static void random_vector(float *v, size_t dim)
{
    double sum = 0;

    for (size_t i = 0; i < dim; i++) {
        v[i] = (float)(uniform() + uniform() + uniform() - 1.5);
        sum += (double)v[i] * v[i];
    }
    for (size_t i = 0; i < dim; i++)
        v[i] = (float)(v[i] / sqrt(sum));
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static void must(sl_status status, const sl_err *err)
{
    if (status == SL_OK)
        return;
    fprintf(stderr, "bench_search: %s\n", err->text);
    exit(1);
}

static const char *const schema[] = {
    "CREATE VIRTUAL TABLE chunk_words USING fts5(text, content='', columnsize=0, tokenize='sluice')"
};

static store *make_words(const char *path, size_t count)
{
    store *s = NULL;
    store_stmt *st = NULL;
    sl_buf text;
    sl_err err = { 0 };

    sl_buf_init(&text, 65536);
    must(store_open_words(path, schema, 1, &lexicon_tokenizer, &s, &err), &err);
    store_lock(s);
    must(store_prepare(s, "INSERT INTO chunk_words (rowid, text) VALUES (?1, ?2)", &st, &err),
         &err);
    for (size_t i = 0; i < count; i++) {
        if (i % BATCH_ROWS == 0)
            must(store_begin(s, &err), &err);
        sl_buf_clear(&text);
        sl_buf_puts(&text, "\1"
                           "1 english\2");
        for (int k = 0; k < PER_TEXT; k++)
            sl_buf_printf(&text, "w%d ", zipf());
        store_bind_int(st, 1, (int64_t)i + 1);
        store_bind_text(st, 2, text.ptr, text.len);
        must(store_run(st, &err), &err);
        if (i % BATCH_ROWS == BATCH_ROWS - 1 || i == count - 1)
            must(store_commit(s, &err), &err);
    }
    store_finish(st);
    store_unlock(s);
    sl_buf_deinit(&text);
    return s;
}

/* A shelf as the collection would be, without a database behind it. */
static void make_shelf(shelf *s, size_t count, size_t dim)
{
    float *v = sl_calloc(dim, sizeof *v);
    sl_err err = { 0 };

    *s =
        (shelf){ .collection = 1, .dim = dim, .row_count = count, .document_count = count / 4 + 1 };
    s->documents = sl_calloc(s->document_count, sizeof *s->documents);
    s->ids = sl_calloc(count, sizeof *s->ids);
    s->owners = sl_calloc(count, sizeof *s->owners);
    s->lengths = sl_calloc(count, sizeof *s->lengths);
    if (!v || !s->documents || !s->ids || !s->owners || !s->lengths)
        must(sl_fail(&err, SL_ENOMEM, "out of memory"), &err);
    must(vectors_memory(dim, &s->v, &err), &err);
    for (size_t i = 0; i < count; i++) {
        shelf_document *d = &s->documents[i / 4];

        random_vector(v, dim);
        must(s->v.ops->put(s->v.ctx, i, v, &err), &err);
        s->ids[i] = (int64_t)i + 1;
        s->owners[i] = (uint32_t)(i / 4);
        s->lengths[i] = PER_TEXT;
        d->first = d->count ? d->first : i;
        d->count++;
        d->length += PER_TEXT;
    }
    sl_free(v);
}

/* Of all threads: what a search costs on a machine that others use too. */
static double cpu_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double ms_since(int64_t start)
{
    return (double)(sl_clock_mono_ns() - start) / 1e6;
}

static void one_query(store *db, shelf *s, const float *q, double *ret_view, double *ret_dense,
                      double *ret_words)
{
    shelf_view view;
    vector_hit hits[100];
    lexicon_query words_of;
    lexicon_scores scores;
    char text[128] = "";
    size_t count = 0;
    double mean;
    int64_t start = sl_clock_mono_ns();
    sl_err err = { 0 };

    must(shelf_look(s, NULL, NULL, &view, &err), &err);
    *ret_view = ms_since(start);
    start = sl_clock_mono_ns();
    must(s->v.ops->search(s->v.ctx, q, view.allowed, 100, hits, &count, &mean, &err), &err);
    *ret_dense = ms_since(start);
    for (int i = 0; i < PER_QUERY; i++) /* no one asks for the commonest: those are stop words */
        snprintf(text + strlen(text), 16, "w%d ", 30 + zipf());
    start = sl_clock_mono_ns();
    store_lock(db);
    must(lexicon_parse(1, "english", text, &words_of, &err), &err);
    must(lexicon_score(db, s, &view, &words_of, &scores, &err), &err);
    store_unlock(db);
    *ret_words = ms_since(start);
    lexicon_query_deinit(&words_of);
    lexicon_scores_deinit(&scores);
    shelf_view_deinit(&view);
}

static void report(const char *name, double *ms, size_t n)
{
    qsort(ms, n, sizeof *ms, by_value);
    printf(",%s_min_ms=%.2f,%s_p50_ms=%.2f,%s_p95_ms=%.2f", name, ms[0], name, ms[n / 2], name,
           ms[n * 95 / 100]);
}

int main(int argc, char **argv)
{
    size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
    size_t dim = argc > 2 ? strtoul(argv[2], NULL, 10) : 384;
    size_t rounds = argc > 3 ? strtoul(argv[3], NULL, 10) : 100;
    const char *tmp = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    double *ms[4];
    char dir[256], path[300], command[300];
    float *q = sl_calloc(dim, sizeof *q);
    double cpu_ms;
    shelf s;
    store *db;

    snprintf(dir, sizeof dir, "%s/sluice-bench-XXXXXX", tmp);
    if (!q || count == 0 || rounds == 0 || !mkdtemp(dir))
        return 2;
    snprintf(path, sizeof path, "%s/words.db", dir);
    for (int i = 0; i < 4; i++)
        if (!(ms[i] = sl_calloc(rounds, sizeof **ms)))
            return 2;
    db = make_words(path, count);
    make_shelf(&s, count, dim);
    cpu_ms = cpu_now_ms();
    for (size_t i = 0; i < rounds; i++) {
        random_vector(q, dim);
        one_query(db, &s, q, &ms[0][i], &ms[1][i], &ms[2][i]);
        ms[3][i] = ms[0][i] + ms[1][i] + ms[2][i];
    }
    cpu_ms = cpu_now_ms() - cpu_ms;
    printf("passages=%zu,dim=%zu,rounds=%zu", count, dim, rounds);
    report("look", ms[0], rounds);
    report("vectors", ms[1], rounds);
    report("words", ms[2], rounds);
    report("all", ms[3], rounds);
    printf(",cpu_ms=%.2f", cpu_ms / (double)rounds);
    printf("\n");
    shelf_clear(&s);
    store_close(db);
    for (int i = 0; i < 4; i++)
        sl_free(ms[i]);
    sl_free(q);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) != 0;
}
