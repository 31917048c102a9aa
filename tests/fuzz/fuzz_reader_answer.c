/* fuzz_reader_answer.c - answers of a child that was taken over. What is accepted must survive
 * being sent again. */
#include "fuzz_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reader_document d = { 0 }, again = { 0 };
    sl_err err = { 0 };
    sl_buf b;
    size_t at = 0;

    if (reader_answer_decode(sl_span_of(data, size), SL_MIB, &d, &err) != SL_OK) {
        SL_ASSERT(err.text[0]);
        return 0;
    }
    for (size_t i = 0; i < d.count; i++) {
        SL_ASSERT(d.blocks[i].begin >= at && d.blocks[i].end <= d.len);
        SL_ASSERT(sl_utf8_valid(d.text + d.blocks[i].begin, d.blocks[i].end - d.blocks[i].begin));
        at = d.blocks[i].end;
    }
    sl_buf_init(&b, SIZE_MAX / 2);
    reader_answer_encode(&d, NULL, &b);
    SL_ASSERT(reader_answer_decode(sl_span_of(b.ptr, b.len), SL_MIB, &again, &err) == SL_OK);
    SL_ASSERT(again.len == d.len);
    SL_ASSERT(again.count == d.count);
    sl_buf_deinit(&b);
    reader_document_deinit(&again);
    reader_document_deinit(&d);
    return 0;
}
