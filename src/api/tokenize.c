/* tokenize.c - questions about tokens that several dialects ask. */
#include "api/api_int.h"

#define IDS_FIRST 4096 /* most prompts have fewer */

static const llm_backend *find_backend(const api *a, const http_exchange *x, const llm_request *req,
                                       sl_err *err)
{
    const llm_chain *chain = a->options.chain;
    const llm_backend *b = llm_chain_find(chain, req->model, req->task);

    if (!b) {
        sl_fail(err, SL_ENOTFOUND, "The model '%s' does not exist", req->model);
    } else if (!llm_caller_may_use(api_caller(x), llm_chain_name(chain, b))) {
        sl_fail(err, SL_EFORBIDDEN, "This key may not use the model '%s'",
                llm_chain_name(chain, b));
        b = NULL;
    } else if (!b->ops->tokenize_request) {
        sl_fail(err, SL_ENOTSUP, "This model does not tell its tokens");
        b = NULL;
    }
    return b;
}

sl_status tokens_of_request(const api *a, const http_exchange *x, const llm_request *req,
                            int32_t **ret_ids, size_t *ret_count, sl_err *err)
{
    const llm_backend *b = find_backend(a, x, req, err);
    size_t cap = ret_ids ? IDS_FIRST : 0, count = 0;
    int32_t *ids = NULL;

    if (!b)
        return err->status;
    for (;;) {
        sl_status status;

        if (cap > 0 && !(ids = sl_calloc(cap, sizeof *ids)))
            return sl_fail(err, SL_ENOMEM, "out of memory");
        status = b->ops->tokenize_request(b->ctx, req, 0, ids, cap, &count, err);
        if (status != SL_OK) {
            sl_free(ids);
            return status;
        }
        if (!ret_ids || count <= cap)
            break;
        sl_free(ids);
        cap = count;
    }
    if (ret_ids)
        *ret_ids = ids;
    *ret_count = count;
    return SL_OK;
}
