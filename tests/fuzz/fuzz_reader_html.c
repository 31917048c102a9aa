/* fuzz_reader_html.c - pages of any bytes, with and without what is left out of pages. */
#include "fuzz_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int is_page = 0; is_page < 2; is_page++) {
        reader_out out;
        sl_err err = { 0 };

        reader_out_init(&out, SL_MIB);
        finish(&out, reader_html(sl_span_of(data, size), NULL, is_page, &out, &err), &err);
    }
    return 0;
}
