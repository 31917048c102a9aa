/* pairs.c - pairs of a query and a document as a cross-encoder reads them: [CLS] query [SEP]
 * document [SEP], with a second [SEP] in the middle in models of RoBERTa's kind. */
#include "engine/engine_int.h"

static sl_status encode_one(const engine *e, const llm_prompt *p, token_ids *out, sl_err *err)
{
    if (!p->text)
        return sl_fail(err, SL_EINVAL, "queries and documents to score must be texts");
    /* Control tokens spelled in a text are text: they must not end the query. */
    return token_encode(e->vocab, p->text, p->text_len, TOKEN_ADD_SPECIAL, out, err);
}

/* The document's end is cut off where the pair is too long and may be cut. */
static sl_status fit(const engine *e, const llm_request *req, size_t second, token_ids *out,
                     sl_err *err)
{
    size_t max = (size_t)e->w->params.context;

    if (req->context_max > 0)
        max = SL_MIN(max, (size_t)req->context_max);
    if (!req->truncate || out->count <= max)
        return SL_OK;
    if (second + 2 > max)
        return sl_fail(err, SL_ECONTEXT,
                       "The query alone has %zu tokens; with a document this model reads %zu",
                       second, max);
    out->ids[max - 1] = out->ids[out->count - 1];
    out->count = max;
    return SL_OK;
}

sl_status pair_ids(const engine *e, const llm_request *req, size_t at, token_ids *out,
                   int *ret_second, sl_err *err)
{
    token_ids document = { 0 };
    size_t skip = e->w->params.pair_sep_twice ? 0 : 1; /* its [CLS]; or [CLS] becomes [SEP] */
    const llm_prompt *query = &req->prompts[req->paired ? 2 * at : 0];
    const llm_prompt *text = &req->prompts[req->paired ? 2 * at + 1 : at + 1];
    sl_status status = encode_one(e, query, out, err);

    if (status == SL_OK)
        status = encode_one(e, text, &document, err);
    if (status == SL_OK && (out->count < 2 || document.count < 2))
        status = sl_fail(err, SL_ENOTSUP, "the vocabulary of '%s' does not enclose texts", e->name);
    if (status == SL_OK && skip == 0)
        document.ids[0] = out->ids[out->count - 1];
    *ret_second = (int)out->count;
    if (status == SL_OK && !sl_grow((void **)&out->ids, &out->cap, out->count + document.count,
                                    sizeof *out->ids, SL_MODEL_CONTEXT_MAX))
        status = sl_fail(err, SL_ENOMEM, "out of memory");
    if (status == SL_OK) {
        memcpy(out->ids + out->count, document.ids + skip,
               (document.count - skip) * sizeof *out->ids);
        out->count += document.count - skip;
        status = fit(e, req, (size_t)*ret_second, out, err);
    }
    token_ids_deinit(&document);
    return status;
}
