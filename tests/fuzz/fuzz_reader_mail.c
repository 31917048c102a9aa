/* fuzz_reader_mail.c - messages of any bytes, with what is attached to them. */
#include "fuzz_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reader_out out;
    sl_err err = { 0 };

    reader_out_init(&out, SL_MIB);
    finish(&out, reader_mail(sl_span_of(data, size), &out, &err), &err);
    return 0;
}
