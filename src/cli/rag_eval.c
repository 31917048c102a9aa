/* rag_eval.c - sluice rag eval: how well and how fast this configuration finds what it should.
 *
 * The corpus goes into a document store of its own, which is gone afterwards, by the way every
 * document goes; the queries then ask it as a caller would. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "cli/rag.h"
#include "cli/rag_beir.h"

#define ADDERS 4 /* documents under way at once, so that batches of passages fill */

/* ---- the corpus in ------------------------------------------------------------------------- */

typedef struct adding {
    llm_docs docs;
    const beir *b;
    pthread_mutex_t lock;
    /* Under lock: */
    size_t next, added, empty;
    int64_t chunks;
    sl_err error;
} adding;

/* A document as Markdown: its title is a heading. */
static void put_document(const beir_item *d, sl_buf *out)
{
    sl_buf_clear(out);
    if (d->title) {
        sl_buf_puts(out, "# ");
        for (const char *p = d->title; *p; p++)
            sl_buf_put(out, *p == '\n' || *p == '\r' ? " " : p, 1);
        sl_buf_puts(out, "\n\n");
    }
    sl_buf_puts(out, d->text);
}

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '\0';
}

static void *add_main(void *ctx)
{
    adding *a = ctx;
    sl_buf text;

    sl_buf_init(&text, 64 * SL_MIB);
    pthread_mutex_lock(&a->lock);
    while (a->next < a->b->document_count && a->error.status == SL_OK &&
           !atomic_load(&cli_interrupted)) {
        size_t i = a->next++;
        int64_t chunks = 0;
        char name[32];
        sl_err err = { 0 };
        sl_status status = SL_OK;

        pthread_mutex_unlock(&a->lock);
        put_document(&a->b->documents[i], &text);
        snprintf(name, sizeof name, "%zu.md", i);
        if (!is_blank(sl_buf_str(&text)))
            status = a->docs.ops->add(a->docs.ctx, "eval", name,
                                      sl_span_of(sl_buf_str(&text), text.len), &chunks, &err);
        pthread_mutex_lock(&a->lock);
        a->added += status == SL_OK && chunks;
        a->empty += status == SL_OK && !chunks;
        a->chunks += chunks;
        if (status != SL_OK && a->error.status == SL_OK) {
            char text_of[sizeof err.text];

            memcpy(text_of, err.text, sizeof text_of);
            (void)sl_fail(&a->error, status, "document '%s': %s", a->b->documents[i].id, text_of);
        }
    }
    pthread_mutex_unlock(&a->lock);
    sl_buf_deinit(&text);
    return NULL;
}

static sl_status add_corpus(adding *a, sl_err *err)
{
    pthread_t threads[ADDERS];
    bool started[ADDERS] = { false };

    pthread_mutex_init(&a->lock, NULL);
    for (size_t i = 1; i < ADDERS; i++)
        started[i] = pthread_create(&threads[i], NULL, add_main, a) == 0;
    add_main(a);
    for (size_t i = 1; i < ADDERS; i++)
        if (started[i])
            pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&a->lock);
    if (a->error.status != SL_OK)
        return sl_fail(err, a->error.status, "%s", a->error.text);
    return atomic_load(&cli_interrupted) ? sl_fail(err, SL_ECANCELLED, "interrupted") : SL_OK;
}

static int64_t count_tokens(const llm_chain *chain, const beir *b)
{
    const llm_backend *m = llm_chain_find(chain, NULL, LLM_EMBED);
    int64_t sum = 0;

    for (size_t i = 0; m && m->ops->tokenize && i < b->document_count; i++) {
        size_t n = 0;

        if (m->ops->tokenize(m->ctx, b->documents[i].text, strlen(b->documents[i].text), 0, NULL, 0,
                             &n, NULL) == SL_OK)
            sum += (int64_t)n;
    }
    return sum;
}

/* ---- one mode ------------------------------------------------------------------------------ */

typedef struct scored {
    double score;
    bool is_relevant;
} scored;

typedef struct result {
    const beir *b;
    size_t query;
    beir_measures sums;
    double *ms; /* [query_count] */
    size_t asked;
    scored *scores; /* of the best relevant hit of each query, and of irrelevant ones */
    size_t score_count, score_cap;
    bool is_short;
} result;

static void note_score(result *r, double score, bool is_relevant)
{
    if (!sl_grow((void **)&r->scores, &r->score_cap, r->score_count + 1, sizeof *r->scores,
                 (size_t)1 << 28))
        r->is_short = true;
    else
        r->scores[r->score_count++] = (scored){ score, is_relevant };
}

static void on_hits(void *ctx, const llm_passage *hits, size_t count)
{
    result *r = ctx;
    size_t documents[BEIR_DEPTH];
    bool found = false;

    count = SL_MIN(count, (size_t)BEIR_DEPTH);
    for (size_t i = 0; i < count; i++) {
        bool is_relevant;

        documents[i] = (size_t)strtoull(hits[i].document, NULL, 10);
        is_relevant = beir_gain(r->b, r->query, documents[i]) > 0;
        if (is_relevant ? !found : i < 10)
            note_score(r, hits[i].score, is_relevant);
        found |= is_relevant;
    }
    beir_measure(r->b, r->query, documents, count, &r->sums);
}

static sl_status ask_all(llm_docs docs, llm_docs_mode mode, result *r, sl_err *err)
{
    for (size_t i = 0; i < r->b->query_count; i++) {
        size_t before = r->sums.count;
        int64_t start = sl_clock_mono_ns();
        llm_docs_search s = { .collection = "eval",
                              .question = r->b->queries[i].text,
                              .top_k = BEIR_DEPTH,
                              .mode = mode,
                              .threshold = -1,
                              .all = true,
                              .cancelled = &cli_interrupted };

        r->query = i;
        if (!beir_has(r->b, i))
            continue; /* of another part of the collection */
        SL_TRY(docs.ops->search(docs.ctx, &s, on_hits, r, err));
        r->ms[r->asked++] = (double)(sl_clock_mono_ns() - start) / 1e6;
        SL_ASSERT(r->sums.count == before + 1);
        if (atomic_load(&cli_interrupted))
            return sl_fail(err, SL_ECANCELLED, "interrupted");
    }
    beir_finish(&r->sums);
    return r->is_short ? sl_fail(err, SL_ENOMEM, "out of memory") : SL_OK;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static double percentile(const double *sorted, size_t count, double p)
{
    return count ? sorted[SL_MIN((size_t)(p * (double)count), count - 1)] : 0;
}

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;

    return (x->score > y->score) - (x->score < y->score);
}

/* The score that tells best between the best relevant hits and irrelevant ones: where the share of
 * the first at or above it less the share of the others is highest. */
static double best_threshold(result *r)
{
    double relevant = 0, others = 0, below = 0, below_others = 0, best = -1, ret = 0;

    if (r->score_count)
        qsort(r->scores, r->score_count, sizeof *r->scores, by_score);
    for (size_t i = 0; i < r->score_count; i++) {
        relevant += r->scores[i].is_relevant;
        others += !r->scores[i].is_relevant;
    }
    for (size_t i = 0; i < r->score_count && relevant > 0 && others > 0; i++) {
        double gain = below_others / others - below / relevant;

        if ((i == 0 || r->scores[i].score > r->scores[i - 1].score) && gain > best) {
            best = gain;
            ret = r->scores[i].score;
        }
        below += r->scores[i].is_relevant;
        below_others += !r->scores[i].is_relevant;
    }
    return ret;
}

static json_t *mode_json(result *r)
{
    const beir_measures *m = &r->sums;

    if (r->asked)
        qsort(r->ms, r->asked, sizeof *r->ms, by_value);
    return json_pack("{s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:{s:f,s:f,s:f}}", "ndcg@10", m->ndcg_10,
                     "recall@1", m->recall_1, "recall@5", m->recall_5, "recall@10", m->recall_10,
                     "recall@100", m->recall_100, "mrr@10", m->mrr_10, "threshold",
                     best_threshold(r), "latency_ms", "p50", percentile(r->ms, r->asked, 0.5),
                     "p95", percentile(r->ms, r->asked, 0.95), "p99",
                     percentile(r->ms, r->asked, 0.99));
}

/* ---- the command --------------------------------------------------------------------------- */

static const struct {
    const char *name;
    llm_docs_mode mode;
} modes[] = { { "lexical", LLM_DOCS_LEXICAL },
              { "dense", LLM_DOCS_DENSE },
              { "fused", LLM_DOCS_FUSED },
              { "reranked", LLM_DOCS_RERANKED } };

static sl_status run_mode(llm_docs docs, const beir *b, llm_docs_mode mode, json_t **ret,
                          sl_err *err)
{
    result r = { .b = b, .ms = sl_calloc(b->query_count + 1, sizeof *r.ms) };
    sl_status status =
        r.ms ? ask_all(docs, mode, &r, err) : sl_fail(err, SL_ENOMEM, "out of memory");

    if (status == SL_OK)
        *ret = mode_json(&r);
    sl_free(r.ms);
    sl_free(r.scores);
    return status;
}

/* With all modes, one that this configuration lacks is left out. */
static sl_status run_modes(llm_docs docs, const beir *b, const char *mode, json_t *out, sl_err *err)
{
    bool all = strcmp(mode, "all") == 0;

    for (size_t i = 0; i < SL_COUNT_OF(modes); i++) {
        json_t *one = NULL;
        sl_status status;

        if (!all && strcmp(mode, modes[i].name) != 0)
            continue;
        status = run_mode(docs, b, modes[i].mode, &one, err);
        if (status == SL_ENOTSUP && all)
            continue;
        if (status != SL_OK)
            return status;
        json_object_set_new(out, modes[i].name, one);
    }
    return SL_OK;
}

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static void print_report(const json_t *report)
{
    const json_t *in = json_object_get(report, "ingest");
    const char *name;
    json_t *m;

    printf("%lld documents, %lld passages in %.1f s: %.1f documents/s, %.0f tokens/s\n",
           (long long)number(report, "documents"), (long long)number(report, "chunks"),
           number(in, "seconds"), number(in, "documents_per_second"),
           number(in, "tokens_per_second"));
    printf("%lld queries\n\n%-9s %8s %8s %8s %9s %10s %7s %8s %8s %10s\n",
           (long long)number(report, "queries"), "mode", "nDCG@10", "recall@1", "recall@5",
           "recall@10", "recall@100", "MRR@10", "p50 ms", "p99 ms", "threshold");
    json_object_foreach(json_object_get(report, "modes"), name, m)
        printf("%-9s %8.4f %8.4f %8.4f %9.4f %10.4f %7.4f %8.2f %8.2f %10.4f\n", name,
               number(m, "ndcg@10"), number(m, "recall@1"), number(m, "recall@5"),
               number(m, "recall@10"), number(m, "recall@100"), number(m, "mrr@10"),
               number(json_object_get(m, "latency_ms"), "p50"),
               number(json_object_get(m, "latency_ms"), "p99"), number(m, "threshold"));
}

static sl_status evaluate(llm_docs docs, const rag_args *args, const beir *b, json_t **ret,
                          sl_err *err)
{
    adding a = { .docs = docs, .b = b };
    int64_t start = sl_clock_mono_ns();
    json_t *by_mode = json_object();
    double seconds;
    sl_status status = add_corpus(&a, err);

    seconds = (double)(sl_clock_mono_ns() - start) / 1e9;
    if (status == SL_OK)
        status = run_modes(docs, b, args->mode ? args->mode : "all", by_mode, err);
    if (status == SL_OK) {
        size_t queries = 0;

        for (size_t i = 0; i < b->query_count; i++)
            queries += beir_has(b, i);
        *ret = json_pack("{s:I,s:I,s:I,s:I,s:I,s:{s:f,s:f,s:f},s:O}", "documents",
                         (json_int_t)a.added, "empty", (json_int_t)a.empty, "chunks",
                         (json_int_t)a.chunks, "queries", (json_int_t)queries, "judged_but_missing",
                         (json_int_t)b->unknown_documents, "ingest", "seconds", seconds,
                         "documents_per_second", (double)a.added / seconds, "tokens_per_second",
                         (double)count_tokens(args->chain, b) / seconds, "modes", by_mode);
    }
    json_decref(by_mode);
    return status;
}

int rag_eval(llm_docs docs, const rag_args *args, int argc, char **argv)
{
    beir b;
    json_t *report = NULL;
    sl_err err = { 0 };
    sl_status status;
    bool known = !args->mode || strcmp(args->mode, "all") == 0;

    (void)argv;
    for (size_t i = 0; i < SL_COUNT_OF(modes) && !known; i++)
        known = strcmp(args->mode, modes[i].name) == 0;
    if (!known)
        return cli_usage("--mode is lexical, dense, fused, reranked or all");
    if (!args->beir || argc)
        return cli_usage("rag eval takes --beir DIR and nothing else");
    if (beir_read(args->beir, &b, &err) != SL_OK)
        return cli_fail(&err);
    status = evaluate(docs, args, &b, &report, &err);
    beir_deinit(&b);
    if (status != SL_OK)
        return cli_fail(&err);
    if (args->json) {
        json_dumpf(report, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        putchar('\n');
    } else {
        print_report(report);
    }
    json_decref(report);
    return CLI_OK;
}
