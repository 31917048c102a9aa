/* fuzz_model_safetensors.c - any bytes as a safetensors file. */
#include <stdint.h>

#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

volatile uint64_t fuzz_sum; /* so that what was read counts as used */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    safetensors_dir dir;
    sl_err err;
    uint64_t sum = 0;

    if (safetensors_parse(sl_span_of(data, size), &dir, &err) != SL_OK)
        return 0;
    for (size_t i = 0; i < dir.tensor_count; i++)
        if (dir.tensors[i].data.len)
            sum += dir.tensors[i].data.ptr[dir.tensors[i].data.len - 1];
    fuzz_sum = sum;
    safetensors_deinit(&dir);
    return 0;
}
