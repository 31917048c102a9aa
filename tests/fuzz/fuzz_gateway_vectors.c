/* fuzz_gateway_vectors.c - what an upstream answers: two vectors of three numbers, or an error. */
#include "gateway/gateway.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    float out[6] = { NAN, NAN, NAN, NAN, NAN, NAN };
    int64_t tokens = 0;
    sl_err err = { 0 };

    if (upstream_read_vectors(sl_span_of(data, size), 2, 3, out, &tokens, &err) != SL_OK) {
        SL_ASSERT(err.text[0]);
        return 0;
    }
    SL_ASSERT(tokens >= 0);
    for (int i = 0; i < 6; i++)
        SL_ASSERT(isfinite(out[i]));
    return 0;
}
