/* reader.c - the room's door: what reads which bytes, and where. */
#include "reader/reader_int.h"

#include <stdlib.h>

#define TIME_MS      60000
#define MEMORY_BYTES SL_GIB
#define TEXT_BYTES   (64 * SL_MIB)

void reader_document_deinit(reader_document *d)
{
    if (!d)
        return;
    sl_free(d->text);
    sl_free(d->blocks);
    *d = (reader_document){ 0 };
}

const char *reader_kind_name(int kind)
{
    static const char *const names[READER_KIND_COUNT] = {
        [READER_PARAGRAPH] = "paragraph", [READER_HEADING] = "heading",
        [READER_LIST_ITEM] = "list_item", [READER_TABLE_ROW] = "table_row",
        [READER_CODE] = "code",
    };

    return kind >= 0 && kind < READER_KIND_COUNT ? names[kind] : "";
}

bool reader_is_inside(reader_type type, size_t len)
{
    switch (type) {
    case READER_TEXT:
    case READER_CSV:
    case READER_TSV:
        return true;
    case READER_MARKDOWN:
    case READER_JSON:
    case READER_JSONL:
        return len <= READER_INSIDE_BYTES;
    default:
        return false;
    }
}

static sl_status run_type(reader_type type, sl_span bytes, reader_out *out, sl_err *err)
{
    switch (type) {
    case READER_MARKDOWN:
        return reader_markdown(bytes, out, err);
    case READER_CSV:
    case READER_TSV:
        return reader_csv(bytes, type == READER_TSV ? '\t' : 0, out, err);
    case READER_JSON:
    case READER_JSONL:
        return reader_json(bytes, type == READER_JSONL, out, err);
    case READER_HTML:
        return reader_html(bytes, NULL, true, out, err);
    case READER_MAIL:
        return reader_mail(bytes, out, err);
    case READER_PDF:
        return reader_pdf(bytes, out, err);
    case READER_ZIP:
        return reader_zip(bytes, out, err);
    default:
        return reader_text(bytes, out, err);
    }
}

/* True when only the first characters say that this is JSON: "[1] A footnote" does too. */
static bool may_be_text(reader_type type, const char *name)
{
    return (type == READER_JSON || type == READER_JSONL) && !reader_name_is(name, "json") &&
           !reader_name_is(name, "jsonl") && !reader_name_is(name, "ndjson");
}

sl_status reader_run(sl_span bytes, const char *name, reader_out *out, sl_err *err)
{
    size_t count = out->count;
    reader_type type;
    sl_status status;

    SL_TRY(reader_detect(bytes, name, &type, err));
    if (out->depth == 0)
        out->type = type;
    status = run_type(type, bytes, out, err);
    if (status == SL_EFORMAT && out->count == count && may_be_text(type, name)) {
        out->type = out->depth == 0 ? READER_TEXT : out->type;
        status = reader_text(bytes, out, err);
    }
    reader_end(out);
    return status;
}

/* In this process: the formats that no library of others reads, or a short piece of it. */
static sl_status run_inside(sl_span bytes, const char *name, size_t text_bytes,
                            reader_document *ret, sl_err *err)
{
    reader_out out;
    sl_status status;

    reader_out_init(&out, text_bytes);
    status = reader_run(bytes, name, &out, err);
    if (status == SL_OK)
        status = reader_out_check(&out, err);
    if (status == SL_OK)
        reader_out_move(&out, ret);
    reader_out_deinit(&out);
    return status;
}

sl_status reader_read(const reader_options *o, sl_span bytes, const char *name,
                      reader_document *ret, sl_err *err)
{
    reader_options all = o ? *o : (reader_options){ 0 };
    reader_type type;

    *ret = (reader_document){ 0 };
    all.program = all.program ? all.program : "/proc/self/exe";
    all.time_ms = all.time_ms ? all.time_ms : TIME_MS;
    all.memory_bytes = all.memory_bytes ? all.memory_bytes : MEMORY_BYTES;
    all.text_bytes = all.text_bytes ? all.text_bytes : TEXT_BYTES;
    if (bytes.len == 0)
        return sl_fail(err, SL_EINVAL, "the document is empty");
    SL_TRY(reader_detect(bytes, name, &type, err));
    if (reader_is_inside(type, bytes.len))
        return run_inside(bytes, name, all.text_bytes, ret, err);
    return reader_child_run(&all, bytes, name, ret, err);
}
