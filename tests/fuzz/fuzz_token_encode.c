/* fuzz_token_encode.c - a GGUF image as vocabulary; its own bytes as text. */
#include <stdlib.h>

#include "token/token.h"

#define TEXT_BYTES_MAX 4096

static void decode(const token_vocab *v, const token_ids *ids)
{
    token_decoder d;
    sl_buf out;

    sl_buf_init(&out, SIZE_MAX / 2);
    token_decoder_init(&d, v, true, true);
    for (size_t i = 0; i < ids->count; i++)
        token_decoder_push(&d, ids->ids[i], &out);
    token_decoder_finish(&d, &out);
    if (!sl_utf8_valid(sl_buf_str(&out), out.len))
        abort();
    sl_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t len = size < TEXT_BYTES_MAX ? size : TEXT_BYTES_MAX;
    const char *text = (const char *)data + (size - len); /* the end: the strings stand there */
    token_vocab *v = NULL;
    gguf_dir dir;
    sl_err err;

    if (gguf_parse(sl_span_of(data, size), &dir, &err) != SL_OK)
        return 0;
    if (token_vocab_from_gguf(&dir, &v, &err) == SL_OK) {
        for (unsigned flags = 0; flags < 4; flags += 3) {
            token_ids ids = { 0 };

            if (token_encode(v, text, len, flags, &ids, &err) == SL_OK)
                decode(v, &ids);
            token_ids_deinit(&ids);
        }
    }
    token_vocab_destroy(v);
    gguf_deinit(&dir);
    return 0;
}
