/* evidence.c - what there is to answer a question from: rewritten, found, packed, written. */
#include "rag/answer_int.h"
#include "rag/lang.h"

#include "base/os.h"

#define BLOCK_TOKENS   8          /* "[12] " and the lines around it */
#define SMALL_PARAMS   1000000000 /* models below read short prompts only */
#define SMALL_TOKENS   900
#define PARENT_BYTES   (256 * SL_KIB) /* a section that is longer is not read whole */
#define WINDOW_DEFAULT 4096           /* tokens of a model that does not say */

const char *evidence_question(const evidence *e, const llm_docs_query *q)
{
    return e->rewritten ? e->rewritten : q->question;
}

static bool may_rewrite(const llm_docs_query *q)
{
    return q->rewrite && json_array_size(q->messages) > 0 && rewrite_is_needed(q->question);
}

sl_status evidence_find(rag *r, const llm_docs_query *q, const llm_backend *b, evidence *ret,
                        sl_err *err)
{
    int64_t begin = sl_clock_mono_ns();
    sl_status status = SL_OK;

    *ret = (evidence){ .r = r };
    if (b && may_rewrite(q)) {
        status = rewrite_question(r, q, &ret->rewritten, err);
        ret->report.rewrite_ns = sl_clock_mono_ns() - begin;
        begin = sl_clock_mono_ns();
    }
    if (status == SL_OK)
        status = search_run(r,
                            &(llm_docs_search){ .collection = q->collection,
                                                .question = evidence_question(ret, q),
                                                .top_k = q->top_k,
                                                .mode = q->mode,
                                                .filters = q->filters,
                                                .threshold = q->threshold > 0 ? q->threshold : -1,
                                                .caller = q->caller,
                                                .cancelled = q->cancelled },
                            &ret->hits, err);
    ret->report.embed_ns = ret->hits.embed_ns;
    ret->report.search_ns = sl_clock_mono_ns() - begin - ret->hits.embed_ns;
    ret->report.question = evidence_question(ret, q);
    ret->report.is_rewritten = ret->rewritten != NULL;
    ret->report.found_nothing = ret->hits.count == 0;
    ret->report.language = lang_of(q->question, strlen(q->question));
    if (status != SL_OK)
        evidence_deinit(ret);
    return status;
}

void evidence_deinit(evidence *e)
{
    pack_deinit(&e->packed);
    rag_hits_deinit(&e->hits);
    sl_free(e->rewritten);
    *e = (evidence){ 0 };
}

/* ---- sections ------------------------------------------------------------------------------- */

/* The sections of the hits; NULL for one that is not there any more as it was found, or is the
 * passage itself. */
static sl_status load_parents(const evidence *e, char **out, sl_err *err)
{
    for (size_t i = 0; i < e->hits.count; i++) {
        const rag_hit *h = &e->hits.items[i];
        size_t front = (size_t)(h->begin - h->parent_begin), len = strlen(h->text);

        if (h->parent_begin > h->begin || h->parent_end < h->end ||
            h->parent_end - h->parent_begin > (int64_t)PARENT_BYTES ||
            h->parent_end - h->parent_begin == h->end - h->begin)
            continue;
        SL_TRY(index_text(e->r, h->document_id, h->parent_begin, h->parent_end, &out[i], err));
        if (out[i] && (strlen(out[i]) < front + len || memcmp(out[i] + front, h->text, len) != 0)) {
            sl_free(out[i]); /* the document was replaced meanwhile */
            out[i] = NULL;
        }
    }
    return SL_OK;
}

/* Tokens that passages may take: what the window leaves, but not more than a model of this size
 * makes something of. */
static size_t budget_of(const llm_model_info *info, size_t room, size_t empty)
{
    size_t left = room > empty ? room - empty : 1;

    if (info->param_count > 0 && info->param_count < SMALL_PARAMS)
        return SL_MIN(left, (size_t)SMALL_TOKENS);
    return left;
}

static sl_status count_tokens(void *ctx, const char *text, size_t len, size_t *ret, sl_err *err)
{
    return rag_count_tokens(ctx, text, len, ret, err);
}

static sl_status pack_hits(evidence *e, const llm_backend *b, size_t budget, sl_err *err)
{
    char *parents[RAG_TOP_K_MAX] = { 0 };
    pack_options o = { .budget = budget,
                       .block_tokens = BLOCK_TOKENS,
                       .parents = (const char *const *)parents,
                       .count = count_tokens,
                       .ctx = (void *)(uintptr_t)b };
    sl_status status = load_parents(e, parents, err);

    if (status == SL_OK)
        status = pack_build(&e->hits, &o, &e->packed, err);
    for (size_t i = 0; i < e->hits.count; i++)
        sl_free(parents[i]);
    return status;
}

sl_status evidence_write(evidence *e, const llm_docs_query *q, const llm_backend *b,
                         bool no_markers, llm_request *req, sl_err *err)
{
    prompt_parts parts = { .backend = b,
                           .before = q->messages,
                           .question = evidence_question(e, q),
                           .hits = &e->hits,
                           .no_markers = no_markers };
    llm_model_info info = { 0 };
    size_t room, output, empty = 0;

    b->ops->info(b->ctx, &info);
    room = info.context_tokens > 0 ? (size_t)info.context_tokens : WINDOW_DEFAULT;
    output = req->max_tokens > 0 ? (size_t)req->max_tokens : (size_t)e->r->o.answer_tokens;
    room -= SL_MIN(output, room / 2);
    SL_TRY(prompt_empty_tokens(&parts, req, &empty, err));
    SL_TRY(pack_hits(e, b, budget_of(&info, room, empty), err));
    return prompt_fit(&parts, room, &e->packed, req, err);
}

/* ---- passages ------------------------------------------------------------------------------- */

llm_passage evidence_passage(const evidence *e, int32_t n)
{
    const pack_block *b = &e->packed.items[n - 1];
    llm_passage p = search_passage(&e->hits.items[b->hit], n);

    p.text = b->text;
    p.begin = b->begin;
    p.end = b->end;
    return p;
}

size_t evidence_passages(const evidence *e, llm_passage *out)
{
    if (e->packed.count == 0) {
        for (size_t i = 0; i < e->hits.count; i++)
            out[i] = search_passage(&e->hits.items[i], (int32_t)i + 1);
        return e->hits.count;
    }
    for (size_t i = 0; i < e->packed.count; i++)
        out[i] = evidence_passage(e, (int32_t)i + 1);
    return e->packed.count;
}

size_t evidence_left_out(const evidence *e, llm_passage *out)
{
    for (size_t i = 0; i < e->packed.left_count; i++)
        out[i] = search_passage(&e->hits.items[e->packed.left_out[i]], 0);
    return e->packed.left_count;
}
