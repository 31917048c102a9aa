/* fuzz_token_json.c - a tokenizer.json as vocabulary; its own bytes as text. */
#include <stdlib.h>

#include "token/token.h"

#define TEXT_BYTES_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t len = size < TEXT_BYTES_MAX ? size : TEXT_BYTES_MAX;
    token_vocab *v = NULL;
    token_ids ids = { 0 };
    token_decoder d;
    sl_buf out;
    sl_err err;

    if (token_vocab_from_json(sl_span_of(data, size), (sl_span){ 0 }, &v, &err) != SL_OK)
        return 0;
    if (token_encode(v, (const char *)data + (size - len), len, 3, &ids, &err) == SL_OK) {
        sl_buf_init(&out, SIZE_MAX / 2);
        token_decoder_init(&d, v, true, true);
        for (size_t i = 0; i < ids.count; i++)
            token_decoder_push(&d, ids.ids[i], &out);
        token_decoder_finish(&d, &out);
        if (!sl_utf8_valid(sl_buf_str(&out), out.len))
            abort();
        sl_buf_deinit(&out);
    }
    token_ids_deinit(&ids);
    token_vocab_destroy(v);
    return 0;
}
