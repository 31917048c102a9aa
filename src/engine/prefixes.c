/* prefixes.c - what stands before texts to be embedded, so that a query finds its passages: as the
 * configuration says, else as the model's files say, else what is known of its family. */
#include <ctype.h>
#include <stdio.h>

#include "engine/engine_int.h"

#define WEB_SEARCH                                                                                 \
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
#define REPRESENT "Represent this sentence for searching relevant passages: "

/* By two parts of a name in lower case with dashes; the first row that fits. From the models' own
 * cards. */
static const struct family {
    const char *part, *other;
    const char *query, *passage;
} families[] = {
    { "-e5-", "instruct", WEB_SEARCH " ", "" },
    { "-e5-", "", "query: ", "passage: " },
    { "-bge-m3", "", "", "" },
    { "-bge-", "-zh", "为这个句子生成表示以用于检索相关文章：", "" },
    { "-bge-", "-en", REPRESENT, "" },
    { "-arctic-embed-", "-v2", "query: ", "" },
    { "-arctic-embed-", "", REPRESENT, "" },
    { "-mxbai-embed-", "", REPRESENT, "" },
    { "-nomic-embed-text-", "", "search_query: ", "search_document: " },
    { "-qwen3-embedding-", "", WEB_SEARCH, "" },
};

/* "intfloat/E5 Small v2" becomes "-intfloat-e5-small-v2-". */
static void plain_name(const char *name, char *ret, size_t bytes)
{
    size_t n = 0;

    ret[n++] = '-';
    for (; *name && n + 2 < bytes; name++)
        ret[n++] = isalnum((unsigned char)*name) || *name == '.' ? (char)tolower(*name) : '-';
    ret[n++] = '-';
    ret[n] = '\0';
}

static const struct family *find_family(const char *name)
{
    char plain[256];

    plain_name(name, plain, sizeof plain);
    for (size_t i = 0; i < SL_COUNT_OF(families); i++)
        if (strstr(plain, families[i].part) && strstr(plain, families[i].other))
            return &families[i];
    return NULL;
}

static sl_status keep(engine *e, llm_embed_as as, const char *text, sl_err *err)
{
    if (!text || !text[0])
        return SL_OK;
    e->prefix[as] = sl_strdup(text);
    return e->prefix[as] ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");
}

sl_status prefixes_init(engine *e, const engine_options *o, const char *path, const char *name,
                        sl_err *err)
{
    const char *names[] = { o->name, name, model_file_origin(e->file), path };
    const char *query = NULL, *passage = NULL;
    const struct family *f = NULL;

    model_file_prompts(e->file, &query, &passage);
    for (size_t i = 0; i < SL_COUNT_OF(names) && !f && !query && !passage; i++)
        f = names[i] ? find_family(names[i]) : NULL;
    if (f) {
        query = f->query;
        passage = f->passage;
    }
    SL_TRY(keep(e, LLM_EMBED_QUERY, o->query_prefix ? o->query_prefix : query, err));
    return keep(e, LLM_EMBED_PASSAGE, o->passage_prefix ? o->passage_prefix : passage, err);
}

sl_status prefix_encode(const engine *e, const llm_request *req, const llm_prompt *p,
                        unsigned flags, token_ids *out, sl_err *err)
{
    const char *prefix = req->task == LLM_EMBED ? e->prefix[req->embed_as] : NULL;
    sl_status status;
    sl_buf text;

    if (!prefix)
        return token_encode(e->vocab, p->text, p->text_len, flags, out, err);
    sl_buf_init(&text, SL_TEMPLATE_OUTPUT_BYTES_MAX);
    sl_buf_puts(&text, prefix);
    sl_buf_put(&text, p->text, p->text_len);
    status = sl_buf_ok(&text, "text to embed", err);
    if (status == SL_OK)
        status = token_encode(e->vocab, sl_buf_str(&text), text.len, flags, out, err);
    sl_buf_deinit(&text);
    return status;
}
