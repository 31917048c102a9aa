/* fuzz_rag_answer.c - what models say, and texts in prompts: the first byte tells how many passages
 * there are and in what pieces the rest comes. */
#include "rag/answer_int.h"
#include "rag/lang.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put(void *ctx, const char *text, size_t len)
{
    sl_buf_put(ctx, text, len);
}

/* Whatever the pieces, the same comes out, and every marker that does names a passage. */
static void check_filter(const char *text, size_t len, int32_t passages, size_t step, sl_buf *out)
{
    cite_filter f;

    cite_filter_init(&f, passages, put, out);
    for (size_t at = 0; at < len; at += step)
        cite_filter_push(&f, text + at, SL_MIN(step, len - at));
    cite_filter_end(&f);
    SL_ASSERT(f.out_len == out->len);
    SL_ASSERT(f.removed >= 0);
    for (size_t i = 0; i < f.order_count; i++)
        SL_ASSERT(f.order[i] >= 1 && f.order[i] <= passages);
    for (size_t i = 0; i < f.mark_count; i++) {
        SL_ASSERT(f.marks[i].at < f.marks[i].end && f.marks[i].end <= out->len);
        SL_ASSERT(out->ptr[f.marks[i].at] == '[' && out->ptr[f.marks[i].end - 1] == ']');
        SL_ASSERT(i == 0 || f.marks[i].at >= f.marks[i - 1].end);
        (void)cite_statement(out->ptr, f.marks[i].at);
    }
    cite_filter_deinit(&f);
}

/* What is written into prompts holds nothing that it must not, also when it is written again. */
static void defuse(const char *text, size_t len)
{
    sl_buf once, twice;

    sl_buf_init(&once, 64 * SL_MIB);
    sl_buf_init(&twice, 64 * SL_MIB);
    prompt_put_data(&once, text, len);
    prompt_put_data(&twice, sl_buf_str(&once), once.len);
    SL_ASSERT(once.len <= 2 * len);
    SL_ASSERT(!strstr(sl_buf_str(&once), "<|im_start|>"));
    SL_ASSERT(!strstr(sl_buf_str(&once), "[INST]"));
    SL_ASSERT(!strstr(sl_buf_str(&once), "[1]"));
    SL_ASSERT(!strstr(sl_buf_str(&once), "\"\"\""));
    SL_ASSERT(!strstr(sl_buf_str(&once), "\nUser:"));
    SL_ASSERT(twice.len == once.len &&
              memcmp(sl_buf_str(&once), sl_buf_str(&twice), once.len) == 0);
    sl_buf_deinit(&once);
    sl_buf_deinit(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data + 1;
    sl_buf a, b;
    sl_span quote;
    double share;

    if (size < 2)
        return 0;
    size--;
    sl_buf_init(&a, 64 * SL_MIB);
    sl_buf_init(&b, 64 * SL_MIB);
    check_filter(text, size, data[0] % 8, 1, &a);
    check_filter(text, size, data[0] % 8, 1 + data[0] / 8, &b);
    SL_ASSERT(a.len == b.len && memcmp(sl_buf_str(&a), sl_buf_str(&b), a.len) == 0);
    defuse(text, size);
    quote = cite_quote(sl_span_of(text, size / 4), text + size / 4, size - size / 4, &share);
    SL_ASSERT(share >= 0 && share <= 1);
    SL_ASSERT(!quote.len || ((const char *)quote.ptr >= text + size / 4 &&
                             (const char *)quote.ptr + quote.len <= text + size));
    SL_ASSERT(lang_nothing(lang_of(text, size))[0]);
    sl_buf_deinit(&a);
    sl_buf_deinit(&b);
    return 0;
}
