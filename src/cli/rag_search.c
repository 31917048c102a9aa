/* rag_search.c - sluice rag search: passages with what words, vectors and the reranker say. */
#include <math.h>
#include <stdio.h>

#include "cli/rag.h"

static json_t *score_json(double score)
{
    return isnan(score) ? json_null() : json_real(score);
}

static json_t *hit_json(const llm_passage *p)
{
    return json_pack("{s:i,s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:s,s:O,s:f,s:{s:o,s:o,s:o},s:s}",
                     "number", p->number, "document", p->document, "document_id", p->document_id,
                     "title", p->title, "source", p->source, "heading", p->heading, "page",
                     (json_int_t)p->page, "start", (json_int_t)p->begin, "end", (json_int_t)p->end,
                     "trust", p->trust, "attributes", p->attributes, "score", p->score, "scores",
                     "lexical", score_json(p->lexical), "dense", score_json(p->dense), "rerank",
                     score_json(p->rerank), "text", p->text);
}

static void print_score(const char *name, double score)
{
    if (isnan(score))
        printf("  %s -", name);
    else
        printf("  %s %.4f", name, score);
}

typedef struct searching {
    bool json;
    json_t *hits;
} searching;

static void on_hits(void *ctx, const llm_passage *hits, size_t count)
{
    searching *s = ctx;

    for (size_t i = 0; i < count; i++) {
        const llm_passage *p = &hits[i];

        if (s->json) {
            json_array_append_new(s->hits, hit_json(p));
            continue;
        }
        printf("[%d] %s, bytes %lld to %lld", p->number, p->document, (long long)p->begin,
               (long long)p->end);
        if (p->page > 0)
            printf(", page %lld", (long long)p->page);
        printf("\n    score %.4f", p->score);
        print_score("lexical", p->lexical);
        print_score("dense", p->dense);
        print_score("rerank", p->rerank);
        printf("\n%s%s%s%s\n\n", p->heading[0] ? "    " : "", p->heading, p->heading[0] ? "\n" : "",
               p->text);
    }
    if (count == 0 && !s->json)
        printf("nothing found\n");
}

int rag_search(llm_docs docs, const rag_args *args, int argc, char **argv)
{
    searching s = { .json = args->json, .hits = json_array() };
    llm_docs_search q = { .collection = args->collection,
                          .top_k = args->top_k ? args->top_k : 10,
                          .threshold = -1,
                          .cancelled = &cli_interrupted };
    sl_buf question;
    sl_err err = { 0 };
    sl_status status;

    sl_buf_init(&question, SL_MIB);
    for (int i = 0; i < argc; i++)
        sl_buf_printf(&question, "%s%s", i ? " " : "", argv[i]);
    q.question = sl_buf_str(&question);
    status = docs.ops->search(docs.ctx, &q, on_hits, &s, &err);
    if (status == SL_OK && args->json) {
        json_t *report = json_pack("{s:s,s:O}", "query", q.question, "hits", s.hits);

        json_dumpf(report, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        putchar('\n');
        json_decref(report);
    }
    json_decref(s.hits);
    sl_buf_deinit(&question);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}
