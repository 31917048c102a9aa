/* grounds.c - answers over documents: the field `rag`, and passages as JSON. */
#include "api/grounds.h"

#include <math.h>
#include <stdlib.h>

#define TOP_K_MAX 64

/* ---- the field ------------------------------------------------------------------------------ */

bool grounds_mode(const char *name, llm_docs_mode *ret)
{
    static const char *const names[LLM_DOCS_MODE_COUNT] = { "best", "lexical", "dense", "fused",
                                                            "reranked" };

    for (int i = 0; i < LLM_DOCS_MODE_COUNT; i++)
        if (strcmp(names[i], name) == 0) {
            *ret = (llm_docs_mode)i;
            return true;
        }
    return false;
}

static sl_status read_ask(const json_t *v, llm_request *req, llm_docs_ask *ask, openai_error *err)
{
    json_t *filters = (json_t *)field(v, "filters");
    const char *collection = NULL, *mode = NULL;
    bool citations = true, rewrite = true;
    int64_t top_k = 0;

    SL_TRY(take_str(v, "collection", &collection, err));
    SL_TRY(take_str(v, "mode", &mode, err));
    SL_TRY(take_int(v, "top_k", 1, TOP_K_MAX, &top_k, err));
    SL_TRY(take_bool(v, "citations", &citations, err));
    SL_TRY(take_bool(v, "rewrite", &rewrite, err));
    if (!collection || !collection[0])
        return openai_refuse(err, "collection", "missing_required_parameter",
                             "Missing required parameter: 'rag.collection'");
    if (mode && !grounds_mode(mode, &ask->mode))
        return openai_refuse(
            err, "mode", "invalid_value",
            "Invalid 'rag.mode': expected best, lexical, dense, fused or reranked");
    if (filters && !json_is_object(filters))
        return openai_refuse(err, "filters", "invalid_type",
                             "Invalid type for 'rag.filters': expected an object, but got %s",
                             json_kind(filters));
    ask->top_k = (int32_t)top_k;
    ask->no_citations = !citations;
    ask->no_rewrite = !rewrite;
    ask->filters = json_incref(filters);
    ask->collection = sl_arena_strndup(&req->arena, collection, strlen(collection));
    return ask->collection ? SL_OK : refuse_size(err);
}

sl_status grounds_take(const json_t *v, const field_rule *rule, const field_target *to,
                       openai_error *err)
{
    llm_request *req = to->req;

    if (!json_is_object(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "Invalid type for '%s': expected an object, but got %s", rule->name,
                             json_kind(v));
    req->docs = sl_arena_alloc(&req->arena, sizeof *req->docs);
    if (!req->docs)
        return refuse_size(err);
    *req->docs = (llm_docs_ask){ .collection = "" };
    return body_nest(read_ask(v, req, req->docs, err), rule->name, err);
}

/* ---- passages -------------------------------------------------------------------------------- */

static void put_text(sl_buf *out, const char *key, const char *text)
{
    sl_buf_printf(out, "\"%s\":", key);
    sl_buf_put_json(out, text ? text : "", text ? strlen(text) : 0);
    sl_buf_putc(out, ',');
}

static void put_score(sl_buf *out, const char *key, double v)
{
    if (isfinite(v))
        sl_buf_printf(out, "\"%s\":%.6g", key, v);
    else
        sl_buf_printf(out, "\"%s\":null", key);
}

static void put_tree(sl_buf *out, const json_t *v)
{
    char *text = v ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

    sl_buf_puts(out, text ? text : "{}");
    free(text);
}

void grounds_put_passage(sl_buf *out, const llm_passage *p)
{
    sl_buf_printf(out, "{\"number\":%d,", (int)p->number);
    put_text(out, "document", p->document);
    put_text(out, "document_id", p->document_id);
    put_text(out, "title", p->title);
    put_text(out, "heading", p->heading);
    put_text(out, "source", p->source);
    put_text(out, "trust", p->trust ? p->trust : "untrusted");
    if (p->page > 0)
        sl_buf_printf(out, "\"page\":%lld,", (long long)p->page);
    else
        sl_buf_puts(out, "\"page\":null,");
    sl_buf_puts(out, "\"attributes\":");
    put_tree(out, p->attributes);
    sl_buf_printf(out, ",\"start\":%lld,\"end\":%lld,", (long long)p->begin, (long long)p->end);
    put_text(out, "text", p->text);
    if (p->quote) {
        put_text(out, "quote", p->quote);
        sl_buf_printf(out, "\"quote_start\":%lld,\"quote_end\":%lld,", (long long)p->quote_begin,
                      (long long)p->quote_end);
    }
    put_score(out, "score", p->score);
    sl_buf_puts(out, ",\"scores\":{");
    put_score(out, "lexical", p->lexical);
    sl_buf_putc(out, ',');
    put_score(out, "dense", p->dense);
    sl_buf_putc(out, ',');
    put_score(out, "rerank", p->rerank);
    sl_buf_puts(out, "}}");
}

void grounds_put_passages(sl_buf *out, const llm_passage *p, size_t count)
{
    sl_buf_putc(out, '[');
    for (size_t i = 0; i < count; i++) {
        sl_buf_puts(out, i ? "," : "");
        grounds_put_passage(out, &p[i]);
    }
    sl_buf_putc(out, ']');
}

static void put_ms(sl_buf *out, const char *key, int64_t ns)
{
    if (ns > 0)
        sl_buf_printf(out, "\"%s\":%.3f", key, (double)ns / 1e6);
    else
        sl_buf_printf(out, "\"%s\":null", key);
}

void grounds_put_trace(sl_buf *out, const llm_docs_report *r)
{
    sl_buf_putc(out, '{');
    put_text(out, "question", r->question);
    sl_buf_printf(out, "\"rewritten\":%s,", r->is_rewritten ? "true" : "false");
    put_text(out, "language", r->language);
    sl_buf_printf(out, "\"nothing_found\":%s,\"timings_ms\":{",
                  r->found_nothing ? "true" : "false");
    put_ms(out, "rewrite", r->rewrite_ns);
    sl_buf_putc(out, ',');
    put_ms(out, "embed", r->embed_ns);
    sl_buf_putc(out, ',');
    put_ms(out, "search", r->search_ns);
    sl_buf_putc(out, ',');
    put_ms(out, "first_token", r->first_token_ns);
    sl_buf_putc(out, ',');
    put_ms(out, "total", r->total_ns);
    sl_buf_puts(out, "}}");
}

void grounds_put(sl_buf *out, const llm_grounds *g)
{
    sl_buf_putc(out, '{');
    put_text(out, "collection", g->collection);
    sl_buf_puts(out, "\"citations\":");
    grounds_put_passages(out, g->citations, g->citation_count);
    sl_buf_puts(out, ",\"passages\":");
    grounds_put_passages(out, g->passages, g->passage_count);
    sl_buf_puts(out, ",\"left_out\":");
    grounds_put_passages(out, g->left_out, g->left_out_count);
    sl_buf_printf(out,
                  ",\"removed_markers\":%lld,\"trace\":", (long long)g->report->removed_markers);
    grounds_put_trace(out, g->report);
    sl_buf_putc(out, '}');
}

void grounds_put_field(sl_buf *out, const llm_grounds *g)
{
    if (!g)
        return;
    sl_buf_puts(out, ",\"rag\":");
    grounds_put(out, g);
}

/* ---- OpenAI's annotations -------------------------------------------------------------------- */

static const llm_passage *cited(const llm_grounds *g, int32_t number)
{
    for (size_t i = 0; i < g->citation_count; i++)
        if (g->citations[i].number == number)
            return &g->citations[i];
    return NULL;
}

void grounds_put_annotations(sl_buf *out, const llm_grounds *g, bool is_flat)
{
    const char *comma = "";

    sl_buf_putc(out, '[');
    for (size_t i = 0; i < g->mark_count; i++) {
        const llm_docs_mark *m = &g->marks[i];
        const llm_passage *p = cited(g, m->number);

        if (!p)
            continue;
        sl_buf_printf(out, "%s{\"type\":\"file_citation\",", comma);
        comma = ",";
        if (is_flat) {
            sl_buf_printf(out, "\"index\":%lld,", (long long)m->begin);
        } else {
            sl_buf_printf(out,
                          "\"text\":\"[%d]\",\"start_index\":%lld,\"end_index\":%lld,"
                          "\"file_citation\":{",
                          (int)m->number, (long long)m->begin, (long long)m->end);
            put_text(out, "quote", p->quote);
        }
        put_text(out, "file_id", p->document_id);
        sl_buf_puts(out, "\"filename\":");
        sl_buf_put_json(out, p->document, strlen(p->document));
        sl_buf_puts(out, is_flat ? "}" : "}}");
    }
    sl_buf_putc(out, ']');
}
