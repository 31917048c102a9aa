/* fuzz_model_gguf.c - any bytes as a GGUF file: parsed, or refused; every accessor is then tried. */
#include <stdint.h>

#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

volatile uint64_t fuzz_sum; /* so that what was read counts as used */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gguf_dir dir;
    sl_err err;
    model_params params;
    uint64_t sum = 0;

    if (gguf_parse(sl_span_of(data, size), &dir, &err) != SL_OK)
        return 0;
    for (size_t i = 0; i < dir.kv_count; i++) {
        const gguf_kv *kv = &dir.kvs[i];
        size_t cursor = 0;

        for (uint64_t j = 0; kv->type == GGUF_ARRAY && j < kv->count; j++)
            if (kv->elem_type == GGUF_STRING)
                sum += gguf_array_next_str(kv, &cursor).len;
            else
                sum += (uint64_t)gguf_array_int(kv, j);
    }
    for (size_t i = 0; i < dir.tensor_count; i++)
        if (dir.tensors[i].data.len)
            sum += dir.tensors[i].data.ptr[dir.tensors[i].data.len - 1];
    (void)!model_params_from_gguf(&dir, &params, &err);
    fuzz_sum = sum;
    gguf_deinit(&dir);
    return 0;
}
