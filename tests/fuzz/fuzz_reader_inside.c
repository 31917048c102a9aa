/* fuzz_reader_inside.c - what the server reads in its own process: types, encodings, text,
 * Markdown, tables, JSON. The first byte chooses the name. */
#include "fuzz_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = { "x.txt",  "x.md",    "x.csv", "x.tsv",
                                         "x.json", "x.jsonl", NULL,    "x.html" };
    reader_out out;
    sl_err err = { 0 };
    sl_span bytes;
    reader_type type;

    if (size < 1)
        return 0;
    bytes = sl_span_of(data + 1, size - 1);
    if (reader_detect(bytes, names[data[0] % 8], &type, &err) != SL_OK) {
        SL_ASSERT(err.text[0]);
        return 0;
    }
    if (!reader_is_inside(type, size))
        return 0;
    reader_out_init(&out, SL_MIB);
    finish(&out, reader_run(bytes, names[data[0] % 8], &out, &err), &err);
    return 0;
}
