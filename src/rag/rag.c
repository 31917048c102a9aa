/* rag.c - the room's door: open, add, and the vtable. */
#include "rag/rag.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <strings.h>

#include "rag/rag_int.h"

#define CHUNK_TOKENS   180 /* a paragraph or two: small models are trained on 128 to 256 */
#define OVERLAP_TOKENS 30  /* about one sentence */
#define PARENT_CHUNKS  3  /* what is read around a passage, in passages */
#define TOP_K          4
#define ANSWER_TOKENS  256
#define SPECIAL_TOKENS 4 /* what the embedding model's tokenizer may add around a text */

static sl_status count_tokens(void *ctx, const char *text, size_t len, size_t *ret, sl_err *err)
{
    const rag_model *m = ctx;

    return rag_count_tokens(m->backend, text, len, ret, err);
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t n = strlen(name), k = strlen(suffix);

    return n >= k && strcasecmp(name + n - k, suffix) == 0;
}

static bool is_plain(const char *name)
{
    return has_suffix(name, ".txt") || has_suffix(name, ".text") || has_suffix(name, ".log");
}

static sl_status check_name(const char *what, const char *name, sl_err *err)
{
    size_t len = name ? strlen(name) : 0;

    if (len == 0)
        return sl_fail(err, SL_EINVAL, "the %s has no name", what);
    if (len > RAG_NAME_BYTES_MAX)
        return sl_fail(err, SL_EINVAL, "the name of the %s has %zu bytes; %d are allowed", what,
                       len, RAG_NAME_BYTES_MAX);
    if (!sl_utf8_valid(name, len))
        return sl_fail(err, SL_EINVAL, "the name of the %s is not UTF-8", what);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return sl_fail(err, SL_EINVAL, "the name of the %s has a control character", what);
    return SL_OK;
}

static sl_status embed_chunks(const rag *r, const index_document *d, float *vectors, sl_err *err)
{
    const chunk_list *l = d->chunks;
    rag_text *texts = sl_calloc(l->count, sizeof *texts);
    sl_status status;

    if (!texts)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    for (size_t i = 0; i < l->count; i++)
        texts[i] = (rag_text){ l->sections[l->items[i].section],
                               (const char *)d->text.ptr + l->items[i].begin,
                               l->items[i].end - l->items[i].begin };
    status = rag_embed(r, d->model, texts, l->count, NULL, vectors, err);
    sl_free(texts);
    return status;
}

/* Cuts, embeds and stores a document that is not there yet. */
static sl_status add_new(rag *r, index_document *d, int64_t *ret_chunks, sl_err *err)
{
    size_t context = d->model->context_tokens;
    chunk_options o = {
        .is_plain = is_plain(d->name),
        .target_tokens = SL_MIN((size_t)r->o.chunk_tokens, context / 2),
        .overlap_tokens = (size_t)r->o.overlap_tokens,
        .parent_tokens = PARENT_CHUNKS * (size_t)r->o.chunk_tokens,
        .tokens_max = context > 2 * SPECIAL_TOKENS ? context - SPECIAL_TOKENS : context,
        .count = count_tokens,
        .ctx = (void *)d->model,
    };
    chunk_list chunks;
    float *vectors;
    sl_status status;

    o.target_tokens = SL_MAX(o.target_tokens, (size_t)1);
    SL_TRY(chunk_text(d->text, &o, &chunks, err));
    d->chunks = &chunks;
    d->title = chunks.title[0] ? chunks.title : d->name;
    vectors = sl_calloc(chunks.count, d->model->dim * sizeof *vectors);
    status = vectors ? embed_chunks(r, d, vectors, err)
                     : sl_fail(err, SL_ENOMEM, "out of memory for %zu vectors", chunks.count);
    d->vectors = vectors;
    if (status == SL_OK)
        status = index_replace(r, d, err);
    if (status == SL_OK)
        *ret_chunks = (int64_t)chunks.count;
    sl_free(vectors);
    chunk_list_deinit(&chunks);
    return status;
}

static sl_status docs_add(void *ctx, const char *collection, const char *name, sl_span text,
                          int64_t *ret_chunks, sl_err *err)
{
    rag *r = ctx;
    rag_model model;
    index_document d = { .collection = collection ? collection : "default",
                         .name = name,
                         .text = text,
                         .model = &model };
    int64_t chunks = -1;

    SL_TRY(check_name("collection", d.collection, err));
    SL_TRY(check_name("document", name, err));
    if (text.len > RAG_DOCUMENT_BYTES_MAX)
        return sl_fail(err, SL_ELIMIT, "the document has %zu bytes; %zu are allowed", text.len,
                       RAG_DOCUMENT_BYTES_MAX);
    SL_TRY(rag_embed_model(r, &model, err));
    if (EVP_Digest(text.ptr, text.len, d.sha256, NULL, EVP_sha256(), NULL) != 1)
        return sl_fail(err, SL_EINTERNAL, "SHA-256 failed");
    snprintf(d.settings, sizeof d.settings, "v1 %d %d", r->o.chunk_tokens, r->o.overlap_tokens);
    SL_TRY(index_same(r, &d, &chunks, err));
    if (chunks < 0)
        SL_TRY(add_new(r, &d, &chunks, err));
    if (ret_chunks)
        *ret_chunks = chunks;
    return SL_OK;
}

static sl_status docs_remove(void *ctx, const char *collection, const char *name, sl_err *err)
{
    collection = collection ? collection : "default";
    SL_TRY(check_name("collection", collection, err));
    SL_TRY(check_name("document", name, err));
    return index_remove(ctx, collection, name, err);
}

static sl_status docs_list(void *ctx, const char *collection, json_t **ret, sl_err *err)
{
    collection = collection ? collection : "default";
    SL_TRY(check_name("collection", collection, err));
    return index_list(ctx, collection, ret, err);
}

static sl_status check_question(const char *question, sl_err *err)
{
    size_t len = question ? strlen(question) : 0;

    if (len == 0)
        return sl_fail(err, SL_EINVAL, "the question is empty");
    if (len > RAG_QUESTION_BYTES_MAX)
        return sl_fail(err, SL_ELIMIT, "the question has %zu bytes; %zu are allowed", len,
                       RAG_QUESTION_BYTES_MAX);
    if (!sl_utf8_valid(question, len))
        return sl_fail(err, SL_EFORMAT, "the question is not UTF-8");
    return SL_OK;
}

static sl_status docs_query(void *ctx, const llm_docs_query *q, const llm_docs_sink *sink,
                            sl_err *err)
{
    if (q->collection)
        SL_TRY(check_name("collection", q->collection, err));
    SL_TRY(check_question(q->question, err));
    return answer_query(ctx, q, sink, err);
}

static sl_status docs_search(void *ctx, const llm_docs_search *s,
                             void (*fn)(void *fn_ctx, const llm_passage *passages, size_t count),
                             void *fn_ctx, sl_err *err)
{
    if (s->collection)
        SL_TRY(check_name("collection", s->collection, err));
    SL_TRY(check_question(s->question, err));
    return search_docs(ctx, s, fn, fn_ctx, err);
}

static sl_status docs_submit(void *ctx, const llm_docs_query *q, llm_request *req,
                             const llm_sink *sink, sl_err *err)
{
    if (q->collection)
        SL_TRY(check_name("collection", q->collection, err));
    return ground_submit(ctx, q, req, sink, err);
}

static const llm_docs_ops docs_ops = {
    .add = docs_add,
    .remove = docs_remove,
    .list = docs_list,
    .query = docs_query,
    .search = docs_search,
    .submit = docs_submit,
};

llm_docs rag_docs(rag *r)
{
    return (llm_docs){ &docs_ops, r };
}

/* ---- lifetime ------------------------------------------------------------------------------ */

/* *text becomes a copy, or stays NULL; false when out of memory. */
static bool own(const char **text)
{
    if (*text)
        *text = sl_strdup(*text);
    return *text != NULL;
}

static bool own_texts(rag_options *o)
{
    const char *embed = o->embed_model && o->embed_model[0] ? o->embed_model : NULL;
    const char *chat = o->chat_model && o->chat_model[0] ? o->chat_model : NULL;
    bool ok = own(&o->db_path);

    o->embed_model = embed;
    o->chat_model = chat;
    ok = (!embed || own(&o->embed_model)) && ok;
    return (!chat || own(&o->chat_model)) && ok;
}

sl_status rag_open(const rag_options *o, rag **ret, sl_err *err)
{
    rag *r;
    sl_status status;

    if (!o->db_path || !o->db_path[0] || !o->chain)
        return sl_fail(err, SL_EINVAL, "documents need a database path and a chain");
    if (o->chunk_tokens < 0 || o->overlap_tokens < 0 || o->top_k < 0 || o->top_k > RAG_TOP_K_MAX ||
        o->answer_tokens < 0)
        return sl_fail(err, SL_EINVAL, "a setting of the documents is out of range");
    r = sl_calloc(1, sizeof *r);
    if (!r)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    r->o = *o;
    r->o.chunk_tokens = o->chunk_tokens ? o->chunk_tokens : CHUNK_TOKENS;
    r->o.overlap_tokens = o->overlap_tokens ? o->overlap_tokens : OVERLAP_TOKENS;
    r->o.overlap_tokens = SL_MIN(r->o.overlap_tokens, r->o.chunk_tokens / 2);
    r->o.top_k = o->top_k ? o->top_k : TOP_K;
    r->o.answer_tokens = o->answer_tokens ? o->answer_tokens : ANSWER_TOKENS;
    status = own_texts(&r->o) ? index_open(r, err) : sl_fail(err, SL_ENOMEM, "out of memory");
    if (status != SL_OK) {
        rag_close(r);
        return status;
    }
    *ret = r;
    return SL_OK;
}

void rag_close(rag *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < RAG_CACHES; i++)
        rag_cache_clear(&r->caches[i]);
    store_close(r->db);
    sl_free((void *)r->o.db_path);
    sl_free((void *)r->o.embed_model);
    sl_free((void *)r->o.chat_model);
    sl_free(r);
}
