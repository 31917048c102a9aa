/* fuzz_reader.h - what every document must be, whoever wrote it. */
#ifndef FUZZ_READER_H
#define FUZZ_READER_H

#include "reader/reader_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Checks the document and releases it; a failure must have said something. */
static inline void finish(reader_out *out, sl_status status, const sl_err *err)
{
    reader_document d = { 0 };
    sl_err why = { 0 };
    sl_buf b;

    if (status == SL_OK)
        status = reader_out_check(out, &why);
    else
        SL_ASSERT(err->text[0]);
    if (status == SL_OK) {
        reader_document again = { 0 };

        reader_out_move(out, &d);
        /* the parent's own checks are the strictest there are */
        sl_buf_init(&b, SIZE_MAX / 2);
        reader_answer_encode(&d, NULL, &b);
        if (reader_answer_decode(sl_span_of(b.ptr, b.len), SIZE_MAX / 4, &again, &why) != SL_OK)
            sl_assert_fail(why.text, __FILE__, __LINE__);
        reader_document_deinit(&again);
        sl_buf_deinit(&b);
    }
    reader_document_deinit(&d);
    reader_out_deinit(out);
}

#endif
