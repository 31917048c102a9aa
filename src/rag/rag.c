/* rag.c - the room's door: open, add, and the vtable. */
#include "rag/rag.h"

#include "rag/ingest.h"

#define CHUNK_TOKENS   180 /* a paragraph or two: small models are trained on 128 to 256 */
#define OVERLAP_TOKENS 30  /* about one sentence */
#define TOP_K          4
#define ANSWER_TOKENS  256

/* What failed, told as a status; the document's row tells it too. */
static sl_status failure_of(const json_t *d, sl_err *err)
{
    const json_t *e = json_object_get(d, "error");
    const char *code = json_string_value(json_object_get(e, "code"));
    sl_status status = SL_EINTERNAL;

    if (strcmp(json_string_value(json_object_get(d, "status")), "failed") != 0)
        return SL_OK;
    if (strcmp(code, "unsupported_file") == 0)
        status = SL_ENOTSUP;
    else if (strcmp(code, "invalid_file") == 0)
        status = SL_EFORMAT;
    return sl_fail(err, status, "%s", json_string_value(json_object_get(e, "message")));
}

static sl_status docs_add(void *ctx, const char *collection, const char *name, sl_span text,
                          int64_t *ret_chunks, sl_err *err)
{
    llm_document_spec spec = { .collection = collection, .name = name, .bytes = text };
    json_t *d = NULL;
    sl_status status;

    SL_TRY(document_add(ctx, &spec, &d, err));
    status = failure_of(d, err);
    if (status == SL_OK && ret_chunks)
        *ret_chunks = json_integer_value(json_object_get(d, "chunks"));
    json_decref(d);
    return status;
}

static sl_status docs_remove(void *ctx, const char *collection, const char *name, sl_err *err)
{
    return document_remove(ctx, NULL, collection, name, err);
}

static sl_status docs_list(void *ctx, const char *collection, json_t **ret, sl_err *err)
{
    collection = collection ? collection : "default";
    SL_TRY(rag_check_name("collection", collection, err));
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
        SL_TRY(rag_check_name("collection", q->collection, err));
    SL_TRY(check_question(q->question, err));
    SL_TRY(collection_use(ctx, q->collection, err));
    return answer_query(ctx, q, sink, err);
}

static sl_status docs_search(void *ctx, const llm_docs_search *s,
                             void (*fn)(void *fn_ctx, const llm_passage *passages, size_t count),
                             void *fn_ctx, sl_err *err)
{
    if (s->collection)
        SL_TRY(rag_check_name("collection", s->collection, err));
    SL_TRY(check_question(s->question, err));
    SL_TRY(collection_use(ctx, s->collection, err));
    return search_docs(ctx, s, fn, fn_ctx, err);
}

static sl_status docs_submit(void *ctx, const llm_docs_query *q, llm_request *req,
                             const llm_sink *sink, sl_err *err)
{
    if (q->collection)
        SL_TRY(rag_check_name("collection", q->collection, err));
    SL_TRY(collection_use(ctx, q->collection, err));
    return ground_submit(ctx, q, req, sink, err);
}

static const llm_docs_ops docs_ops = {
    .add = docs_add,
    .remove = docs_remove,
    .list = docs_list,
    .query = docs_query,
    .search = docs_search,
    .submit = docs_submit,
    .collection_create = collection_create,
    .collection_update = collection_update,
    .collection_get = collection_get,
    .collection_list = collection_list,
    .collection_remove = collection_remove,
    .document_submit = document_submit,
    .document_add = document_add,
    .document_get = document_get,
    .document_list = document_list,
    .document_text = document_text,
    .document_passages = document_passages,
    .document_update = document_update,
    .document_remove = document_remove,
    .batch_create = docs_batch_create,
    .batch_get = docs_batch_get,
    .batch_cancel = docs_batch_cancel,
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
    const char *rerank = o->rerank_model && o->rerank_model[0] ? o->rerank_model : NULL;
    bool ok = own(&o->db_path);

    o->embed_model = embed;
    o->chat_model = chat;
    o->rerank_model = rerank;
    ok = (!embed || own(&o->embed_model)) && ok;
    ok = (!rerank || own(&o->rerank_model)) && ok;
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
    if (status == SL_OK)
        status = ingest_open(r, err);
    if (status != SL_OK) {
        rag_close(r);
        return status;
    }
    *ret = r;
    return SL_OK;
}

sl_status rag_start_ingest(rag *r, int workers, sl_err *err)
{
    return ingest_start(r, workers, err);
}

void rag_close(rag *r)
{
    if (!r)
        return;
    ingest_close(r);
    for (size_t i = 0; i < RAG_SHELVES; i++)
        shelf_clear(&r->shelves[i]);
    store_close(r->finder);
    store_close(r->db);
    sl_free((void *)r->o.db_path);
    sl_free((void *)r->o.embed_model);
    sl_free((void *)r->o.chat_model);
    sl_free((void *)r->o.rerank_model);
    sl_free(r);
}
