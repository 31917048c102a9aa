/* rag_ask.c - sluice rag ask: an answer from the documents, with what supports it. */
#include <math.h>
#include <stdio.h>

#include "cli/rag.h"

typedef struct asking {
    const rag_args *args;
    sl_buf answer;
    json_t *passages, *citations, *left_out, *trace;
    sl_err error;
} asking;

static const char *text_or_empty(const char *text)
{
    return text ? text : "";
}

static json_t *number_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *passage_json(const llm_passage *p)
{
    json_t *o = json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:I, s:I, s:s, s:f, s:{s:o, s:o, s:o}}", "number",
        p->number, "document", p->document, "document_id", text_or_empty(p->document_id), "title",
        text_or_empty(p->title), "heading", text_or_empty(p->heading), "source",
        text_or_empty(p->source), "trust", text_or_empty(p->trust), "page",
        p->page > 0 ? json_integer(p->page) : json_null(), "start", (json_int_t)p->begin, "end",
        (json_int_t)p->end, "text", p->text, "score", p->score, "scores", "lexical",
        number_or_null(p->lexical), "dense", number_or_null(p->dense), "rerank",
        number_or_null(p->rerank));

    if (o && p->attributes)
        json_object_set(o, "attributes", (json_t *)(uintptr_t)p->attributes);
    if (o && p->quote) {
        json_object_set_new(o, "quote", json_string(p->quote));
        json_object_set_new(o, "quote_start", json_integer(p->quote_begin));
        json_object_set_new(o, "quote_end", json_integer(p->quote_end));
    }
    return o;
}

static void add_all(json_t *list, const llm_passage *p, size_t count)
{
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, passage_json(&p[i]));
}

static void on_passages(void *ctx, const llm_passage *p, size_t count)
{
    add_all(((asking *)ctx)->passages, p, count);
}

static void on_left_out(void *ctx, const llm_passage *p, size_t count)
{
    add_all(((asking *)ctx)->left_out, p, count);
}

static void on_delta(void *ctx, const char *text, size_t len)
{
    asking *a = ctx;

    sl_buf_put(&a->answer, text, len);
    if (!a->args->json) {
        fwrite(text, 1, len, stdout);
        fflush(stdout);
    }
}

/* "[1] docs/report.pdf, page 3, bytes 120 to 340: Costs > Staff", and the sentence quoted. */
static void print_citation(const llm_passage *p)
{
    printf("[%d] %s", (int)p->number, p->document);
    if (p->page > 0)
        printf(", page %lld", (long long)p->page);
    printf(", bytes %lld to %lld", (long long)p->begin, (long long)p->end);
    if (p->heading && p->heading[0])
        printf(": %s", p->heading);
    putchar('\n');
    if (!p->quote)
        return;
    printf("    \"");
    for (const char *c = p->quote; *c; c++)
        putchar(*c == '\n' ? ' ' : *c);
    printf("\"\n");
}

static void on_citation(void *ctx, const llm_passage *p)
{
    asking *a = ctx;

    if (!a->args->json)
        printf(json_array_size(a->citations) == 0 ? "\n\n" : "");
    json_array_append_new(a->citations, passage_json(p));
    if (!a->args->json)
        print_citation(p);
}

static double to_ms(int64_t ns)
{
    return (double)ns / 1e6;
}

static void on_report(void *ctx, const llm_docs_report *r)
{
    asking *a = ctx;

    a->trace = json_pack(
        "{s:s, s:b, s:s, s:b, s:I, s:{s:f, s:f, s:f, s:f, s:f}}", "question", r->question,
        "rewritten", r->is_rewritten, "language", r->language, "nothing_found", r->found_nothing,
        "removed_markers", (json_int_t)r->removed_markers, "timings_ms", "rewrite",
        to_ms(r->rewrite_ns), "embed", to_ms(r->embed_ns), "search", to_ms(r->search_ns),
        "first_token", to_ms(r->first_token_ns), "total", to_ms(r->total_ns));
}

static void on_done(void *ctx, sl_status status, const sl_err *err, const llm_usage *usage)
{
    asking *a = ctx;

    (void)usage;
    if (status != SL_OK && err)
        a->error = *err;
    if (!a->args->json && json_array_size(a->citations) == 0)
        putchar('\n');
}

static void print_json(asking *a)
{
    json_t *root = json_pack("{s:s, s:O, s:O, s:O, s:O?}", "answer", sl_buf_str(&a->answer),
                             "citations", a->citations, "passages", a->passages, "left_out",
                             a->left_out, "trace", a->trace);

    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
}

int rag_ask(llm_docs docs, const rag_args *args, int argc, char **argv)
{
    asking a = {
        .args = args, .passages = json_array(), .citations = json_array(), .left_out = json_array()
    };
    llm_docs_sink sink = { .on_passages = on_passages,
                           .on_delta = on_delta,
                           .on_citation = on_citation,
                           .on_done = on_done,
                           .ctx = &a,
                           .on_left_out = on_left_out,
                           .on_report = on_report };
    llm_docs_query q = { .collection = args->collection,
                         .model = args->model,
                         .top_k = args->top_k,
                         .max_tokens = args->max_tokens,
                         .cancelled = &cli_interrupted };
    sl_buf question;
    sl_status status;
    int rc;

    sl_buf_init(&a.answer, SL_HTTP_BODY_BYTES_MAX);
    sl_buf_init(&question, SL_MIB);
    for (int i = 0; i < argc; i++)
        sl_buf_printf(&question, "%s%s", i ? " " : "", argv[i]);
    q.question = sl_buf_str(&question);
    status = docs.ops->query(docs.ctx, &q, &sink, &a.error);
    if (status == SL_OK && args->json)
        print_json(&a);
    rc = status != SL_OK || a.error.status != SL_OK ? cli_fail(&a.error) : CLI_OK;
    json_decref(a.passages);
    json_decref(a.citations);
    json_decref(a.left_out);
    json_decref(a.trace);
    sl_buf_deinit(&a.answer);
    sl_buf_deinit(&question);
    return rc;
}
