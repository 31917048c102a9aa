/* fuzz_rag_words.c - text of any bytes into words, and any JSON as a filter. The first byte
 * chooses. */
#include "base/mem.h"
#include "rag/filter.h"
#include "rag/lexicon.h"
#include "rag/words.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool on_word(void *ctx, const char *token, size_t len, unsigned flags)
{
    size_t *count = ctx;

    SL_ASSERT(token && len > 0);
    SL_ASSERT(len <= WORDS_TOKEN_BYTES);
    SL_ASSERT(flags < 8);
    ++*count;
    return true;
}

static bool on_token(void *ctx, const char *token, size_t len)
{
    SL_ASSERT(len > 1 && len < WORDS_TOKEN_BYTES + 24);
    return true;
}

static void split(const char *language, const char *text, size_t len)
{
    words *w = words_create();
    void *state = lexicon_tokenizer.create();
    size_t count = 0;

    SL_ASSERT(w && state);
    SL_ASSERT(words_split(w, language, text, len, on_word, &count));
    SL_ASSERT(count <= 3 * len); /* a pair, one character alone, or parts and their whole */
    SL_ASSERT(words_count(w, language, text, len) <= count);
    SL_ASSERT(lexicon_tokenizer.split(state, text, len, on_token, NULL));
    lexicon_tokenizer.destroy(state);
    words_destroy(w);
}

static void match(const char *text, size_t len)
{
    json_t *json = json_loadb(text, len, JSON_DECODE_ANY, NULL);
    filter *f = NULL;
    attribute_list *l = NULL;

    if (!json)
        return;
    if (attribute_list_create(json, &l, NULL) == SL_OK && filter_compile(json, &f, NULL) == SL_OK)
        (void)filter_matches(f, l);
    filter_destroy(f);
    sl_free(l);
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const languages[] = { "english", "german", "none", "no such" };

    if (size == 0)
        return 0;
    if (data[0] & 1)
        match((const char *)data + 1, size - 1);
    else
        split(languages[data[0] / 2 % 4], (const char *)data + 1, size - 1);
    return 0;
}
