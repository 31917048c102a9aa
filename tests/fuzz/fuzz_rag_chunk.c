/* fuzz_rag_chunk.c - documents of any bytes. The first byte chooses the sizes; the rest is the
 * document. */
#include "rag/chunk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static sl_status count(void *ctx, const char *text, size_t len, size_t *ret, sl_err *err)
{
    SL_ASSERT(len > 0);
    *ret = (len + 3) / 4;
    return SL_OK;
}

static void check(sl_span text, const chunk_options *o, const chunk_list *l)
{
    size_t begin = 0, end = 0;

    SL_ASSERT(l->count > 0);
    for (size_t i = 0; i < l->count; i++) {
        const chunk *c = &l->items[i];

        SL_ASSERT(c->begin < c->end);
        SL_ASSERT(c->end <= text.len);
        SL_ASSERT(i == 0 || c->begin > begin);
        SL_ASSERT(c->end > end);
        SL_ASSERT(sl_utf8_valid((const char *)text.ptr + c->begin, c->end - c->begin));
        SL_ASSERT(c->section < l->section_count);
        SL_ASSERT(c->end - c->begin <= 4 || (c->end - c->begin + 3) / 4 <= o->tokens_max);
        begin = c->begin;
        end = c->end;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    chunk_options o = { .count = count };
    chunk_list l;
    sl_span text;
    sl_err err;

    if (size < 1)
        return 0;
    o.is_plain = data[0] & 1;
    o.target_tokens = 1 + (data[0] >> 1 & 15);
    o.overlap_tokens = o.target_tokens / (1 + (data[0] >> 5 & 3));
    o.tokens_max = 2 * o.target_tokens + (data[0] >> 7) * 20;
    text = sl_span_of(data + 1, size - 1);
    if (chunk_text(text, &o, &l, &err) == SL_OK)
        check(text, &o, &l);
    else
        SL_ASSERT(err.text[0]);
    chunk_list_deinit(&l);
    return 0;
}
