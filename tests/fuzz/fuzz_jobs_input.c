/* fuzz_jobs_input.c - the input files of batches. */
#include "jobs/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sl_span text = sl_span_of(data, size);
    sl_buf body;
    input in;

    sl_buf_init(&body, 1 << 24);
    if (input_scan(text, size % 2 ? "/v1/chat/completions" : NULL, &in, NULL) == SL_OK) {
        for (size_t i = 0; i < in.count; i++)
            SL_ASSERT(input_find(&in, in.lines[i].custom_id) == &in.lines[i]);
        input_order(&in);
        for (size_t i = 0; i < in.count; i++) {
            SL_ASSERT(in.lines[i].at + in.lines[i].len <= size);
            SL_ASSERT(input_body(text, &in.lines[i], &body, NULL) == SL_OK);
        }
    }
    input_deinit(&in);
    sl_buf_deinit(&body);
    return 0;
}
