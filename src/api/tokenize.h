/* tokenize.h - questions about tokens that several dialects ask. Internal to the room. */
#ifndef SL_API_TOKENIZE_H
#define SL_API_TOKENIZE_H

#include "api/api_int.h"

extern const body_schema tokenize_body, detokenize_body;

/* The model that the caller of x may ask, encoders too when the task is LLM_COMPLETE. NULL:
 * err->status says why. */
const llm_backend *tokens_backend(const api *a, const http_exchange *x, const char *model,
                                  llm_task task, sl_err *err);

/* Ids of the request's first prompt as its model would compute them, for the caller of x; release
 * with sl_free. ret_ids may be NULL: only counted. err->status is set on failure. */
sl_status tokens_of_request(const api *a, const http_exchange *x, const llm_request *req,
                            int32_t **ret_ids, size_t *ret_count, sl_err *err);

/* Appends [{"id","text","start","stop"},...]: where in the text each token stands, in code points.
 * Tokens that stand nowhere in it, as BOS, are at 0 and empty. */
sl_status tokens_put_spans(const llm_backend *b, const int32_t *ids, size_t count, const char *text,
                           size_t len, sl_buf *out, sl_err *err);

#endif
