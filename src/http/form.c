/* form.c - multipart/form-data read piece by piece, for bodies that are not kept. */
#include "http/http_int.h"

#include <strings.h>

struct http_form {
    struct MHD_PostProcessor *processor;
    http_form_fn fn;
    void *ctx;
};

static enum MHD_Result on_piece(void *cls, enum MHD_ValueKind kind, const char *key,
                                const char *filename, const char *content_type,
                                const char *encoding, const char *data, uint64_t at, size_t len)
{
    const http_form *f = cls;
    const http_form_piece p = { .name = key ? key : "",
                                .filename = filename ? filename : "",
                                .content_type = content_type ? content_type : "",
                                .at = at,
                                .bytes = sl_span_of(data, len) };

    return f->fn(f->ctx, &p) ? MHD_YES : MHD_NO;
}

http_form *http_form_create(http_exchange *x, http_form_fn fn, void *ctx)
{
    const char *type = http_header(x, "content-type");
    http_form *f;

    SL_ASSERT(x->conn);
    if (!type || strncasecmp(type, "multipart/form-data", 19) != 0)
        return NULL;
    f = sl_calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->fn = fn;
    f->ctx = ctx;
    f->processor = MHD_create_post_processor(x->conn, FORM_MEMORY_BYTES, on_piece, f);
    if (!f->processor) {
        sl_free(f);
        return NULL;
    }
    return f;
}

bool http_form_write(http_form *f, const void *bytes, size_t len)
{
    return MHD_post_process(f->processor, bytes, len) == MHD_YES;
}

bool http_form_end(http_form *f)
{
    bool ok;

    if (!f)
        return false;
    ok = MHD_destroy_post_processor(f->processor) == MHD_YES;
    sl_free(f);
    return ok;
}
