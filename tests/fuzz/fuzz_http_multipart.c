/* fuzz_http_multipart.c - multipart bodies. The first line is the content type. */
#include "http/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static sl_status take(void *ctx, const http_part *p, sl_err *err)
{
    sl_span *body = ctx;

    SL_ASSERT(p->body.ptr >= body->ptr);
    SL_ASSERT(p->body.ptr + p->body.len <= body->ptr + body->len);
    return SL_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *line = memchr(data, '\n', size);
    char type[256] = "";
    sl_span body;
    sl_err err;

    if (!line || (size_t)(line - data) >= sizeof type)
        return 0;
    memcpy(type, data, (size_t)(line - data));
    body = sl_span_of(line + 1, size - (size_t)(line - data) - 1);
    if (http_multipart(type, body, take, &body, &err) != SL_OK)
        SL_ASSERT(err.text[0]);
    return 0;
}
