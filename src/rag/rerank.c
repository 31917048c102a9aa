/* rerank.c - a cross-encoder reads the question with each of the best passages and orders them. */
#include <math.h>
#include <stdlib.h>

#include "rag/rag_int.h"

#define DEPTH       50 /* passages that it reads: more cost more than they find */
#define ARENA_BYTES (8 * SL_MIB)

bool rerank_is_there(const rag *r)
{
    return llm_chain_find(r->o.chain, r->o.rerank_model, LLM_RERANK) != NULL;
}

typedef struct scores {
    float items[DEPTH];
    size_t count, got;
    bool is_bad;
} scores;

static void on_score(void *ctx, llm_request *req, const llm_event *ev)
{
    scores *s = ctx;

    if (ev->kind != LLM_EV_SCORE)
        return;
    if (ev->choice >= s->count || !isfinite(ev->score)) {
        s->is_bad = true;
        return;
    }
    s->items[ev->choice] = ev->score;
    s->got++;
}

static bool put_prompt(llm_request *req, size_t i, const char *heading, const char *text)
{
    size_t n = strlen(heading), len = strlen(text);
    char *out = sl_arena_alloc(&req->arena, n + 1 + len + 1);

    if (!out)
        return false;
    memcpy(out, heading, n);
    if (n)
        out[n++] = '\n';
    memcpy(out + n, text, len);
    req->prompts[i].text = out;
    req->prompts[i].text_len = n + len;
    return true;
}

static sl_status make_request(const rag *r, const char *question, const rag_hits *hits,
                              size_t count, llm_request **ret, sl_err *err)
{
    llm_request *req = llm_request_create(LLM_RERANK, ARENA_BYTES);
    const char *model = r->o.rerank_model;
    bool ok = req != NULL;

    if (ok)
        ok = (req->prompts = sl_arena_alloc(&req->arena, (count + 1) * sizeof *req->prompts)) !=
             NULL;
    if (ok && model)
        ok = (req->model = sl_arena_strndup(&req->arena, model, strlen(model))) != NULL;
    if (ok)
        ok = put_prompt(req, 0, "", question);
    for (size_t i = 0; i < count && ok; i++)
        ok = put_prompt(req, i + 1, hits->items[i].heading, hits->items[i].text);
    if (!ok) {
        llm_request_destroy(req);
        return sl_fail(err, SL_ENOMEM, "the passages need too much memory");
    }
    req->prompt_count = count + 1;
    req->truncate = true;
    *ret = req;
    return SL_OK;
}

sl_status rerank_hits(const rag *r, const llm_docs_search *s, rag_hits *hits, sl_err *err)
{
    size_t count = SL_MIN(hits->count, (size_t)DEPTH);
    scores got = { .count = count };
    llm_request *req = NULL;
    double least = 1;

    if (count == 0)
        return SL_OK;
    SL_TRY(make_request(r, s->question, hits, count, &req, err));
    SL_TRY(rag_run(r, req, on_score, &got, s->cancelled, NULL, err));
    if (got.is_bad || got.got != count)
        return sl_fail(err, SL_EINTERNAL, "the reranker gave %zu usable scores of %zu", got.got,
                       count);
    for (size_t i = 0; i < count; i++) {
        hits->items[i].score = hits->items[i].rerank = got.items[i];
        least = SL_MIN(least, hits->items[i].score);
    }
    for (size_t i = count; i < hits->count; i++)
        hits->items[i].score *= SL_MAX(least, 0.0);
    qsort(hits->items, hits->count, sizeof *hits->items, rag_hit_by_score);
    return SL_OK;
}
