/* fuzz_rag_chunk.c - documents of any bytes. The first byte chooses the sizes; the rest is the
 * document: a text that is read as Markdown or plain, or, by the second byte, blocks of any kind
 * and place in front of their text. */
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
        SL_ASSERT(c->parent_begin <= c->begin && c->parent_end >= c->end);
        SL_ASSERT(c->parent_end <= text.len);
        SL_ASSERT(sl_utf8_valid((const char *)text.ptr + c->parent_begin,
                                c->parent_end - c->parent_begin));
        SL_ASSERT(c->header_begin <= c->header_end);
        SL_ASSERT(c->header_begin == c->header_end || c->header_begin < c->begin);
        begin = c->begin;
        end = c->end;
    }
}

#define BLOCKS_MAX  40
#define BLOCK_BYTES 4 /* of input: kind and level, gap, length, header */

/* A document out of size >= 1 bytes; mostly sound, so that what is behind the checks is reached. */
static void make_document(const uint8_t *data, size_t size, reader_block *blocks,
                          reader_document *ret)
{
    size_t count = SL_MIN((size - 1) / BLOCK_BYTES, (size_t)data[0] % BLOCKS_MAX), at = 0;

    data++;
    size--;
    *ret = (reader_document){ .text = (char *)data + count * BLOCK_BYTES,
                              .len = size - count * BLOCK_BYTES,
                              .blocks = blocks,
                              .count = count };
    for (size_t i = 0; i < count; i++, data += BLOCK_BYTES) {
        blocks[i] = (reader_block){ .begin = at + data[1] % 4,
                                    .kind = data[0] % (READER_KIND_COUNT + (data[0] == 255)),
                                    .level = data[0] / 32,
                                    .page = data[1] / 4,
                                    .header = data[3] };
        at = blocks[i].end = blocks[i].begin + data[2] % 40;
        if (data[3] < 128)
            blocks[i].header = (uint32_t)SL_MIN((size_t)data[3], i);
    }
}

static void run_blocks(const uint8_t *data, size_t size, const chunk_options *o)
{
    reader_block blocks[BLOCKS_MAX];
    reader_document d;
    chunk_list l;
    sl_err err;

    make_document(data, size, blocks, &d);
    if (chunk_document(&d, o, &l, &err) == SL_OK)
        check(sl_span_of(d.text, d.len), o, &l);
    else
        SL_ASSERT(err.text[0]);
    chunk_list_deinit(&l);
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
    o.parent_tokens = 3 * o.overlap_tokens;
    if (size > 2 && data[1] == 'B')
        run_blocks(data + 2, size - 2, &o);
    text = sl_span_of(data + 1, size - 1);
    if (chunk_text(text, &o, &l, &err) == SL_OK)
        check(text, &o, &l);
    else
        SL_ASSERT(err.text[0]);
    chunk_list_deinit(&l);
    return 0;
}
