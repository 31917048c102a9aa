/* fuzz_api.h - what the targets of the dialects check alike: their answers and refusals are JSON.
 */
#ifndef FUZZ_API_H
#define FUZZ_API_H

#include "api/encoder.h"

static inline void check_json(const sl_buf *b)
{
    json_t *root = json_loadb(b->ptr, b->len, 0, NULL);

    SL_ASSERT(!b->failed);
    SL_ASSERT(root);
    json_decref(root);
}

static inline void check_refusal_of(const api_dialect *dialect, openai_error *err)
{
    sl_buf b;

    SL_ASSERT(err->http >= 400);
    if (dialect->translate)
        dialect->translate(err);
    sl_buf_init(&b, 64 * SL_KIB);
    dialect->put_error(&b, err);
    check_json(&b);
    sl_buf_deinit(&b);
}

#endif
