/* fuzz_reader_office.c - archives of any bytes, and any bytes as one part of a sound archive. The
 * first byte chooses the format, the second the part. */
#include "fuzz_reader.h"

#include "../unit/reader/samples.h"

static void read_zip(sl_span bytes)
{
    reader_out out;
    sl_err err = { 0 };

    reader_out_init(&out, SL_MIB);
    finish(&out, reader_zip(bytes, &out, &err), &err);
}

static void read_part(const sample_part *parts, size_t count, size_t which, sl_span bytes)
{
    sample_part changed[8];
    sl_buf b;

    memcpy(changed, parts, count * sizeof *parts);
    changed[which % count] = (sample_part){ parts[which % count].name, bytes.ptr, bytes.len };
    make_zip(changed, count, &b);
    read_zip(sl_span_of(b.ptr, b.len));
    sl_buf_deinit(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sl_span rest;

    if (size < 2)
        return 0;
    rest = sl_span_of(data + 2, size - 2);
    switch (data[0] % 5) {
    case 0:
        read_part(docx_parts, SL_COUNT_OF(docx_parts), data[1], rest);
        break;
    case 1:
        read_part(pptx_parts, SL_COUNT_OF(pptx_parts), data[1], rest);
        break;
    case 2:
        read_part(xlsx_parts, SL_COUNT_OF(xlsx_parts), data[1], rest);
        break;
    case 3:
        read_part(epub_parts, SL_COUNT_OF(epub_parts), data[1], rest);
        break;
    default:
        read_zip(rest);
    }
    return 0;
}
