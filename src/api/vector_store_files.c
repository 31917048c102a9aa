/* vector_store_files.c - the files of OpenAI's vector stores, and batches of them: bytes of the
 * store of files handed to the document service. */
#include <stdio.h>
#include <unistd.h>

#include "api/docs.h"

#define FILES_MAX      2000 /* of a batch, OpenAI's */
#define FILE_BYTES_MAX (64 * SL_MIB)
#define POLL_MS        "250"

/* ---- objects -------------------------------------------------------------------------------- */

static json_t *chunking_json(const json_t *d)
{
    json_int_t tokens = json_integer_value(json_object_get(d, "chunk_tokens"));

    if (tokens <= 0)
        return json_pack("{s:s}", "type", "other");
    return json_pack("{s:s,s:{s:I,s:O}}", "type", "static", "static", "max_chunk_size_tokens",
                     tokens, "chunk_overlap_tokens", json_object_get(d, "overlap_tokens"));
}

static json_t *file_json(const json_t *d)
{
    return json_pack("{s:O,s:s,s:O,s:O,s:O,s:O,s:O?,s:o,s:O?}", "id", json_object_get(d, "id"),
                     "object", "vector_store.file", "usage_bytes", json_object_get(d, "bytes"),
                     "created_at", json_object_get(d, "created_at"), "vector_store_id",
                     json_object_get(d, "collection_id"), "status", json_object_get(d, "status"),
                     "last_error", json_object_get(d, "error"), "chunking_strategy",
                     chunking_json(d), "attributes", json_object_get(d, "attributes"));
}

static json_t *batch_json(const json_t *b)
{
    return json_pack("{s:O,s:s,s:O,s:O,s:O,s:O}", "id", json_object_get(b, "id"), "object",
                     "vector_store.files_batch", "created_at", json_object_get(b, "created_at"),
                     "vector_store_id", json_object_get(b, "collection_id"), "status",
                     json_object_get(b, "status"), "file_counts",
                     json_object_get(b, "file_counts"));
}

/* Answers with object, which is taken, as `map` has it; tells clients how soon to ask again. */
static void respond(api *a, http_exchange *x, sl_status status, json_t *object,
                    json_t *(*map)(const json_t *), sl_err *err)
{
    json_t *mapped = status == SL_OK ? map(object) : NULL;
    const char *state = json_string_value(json_object_get(object, "status"));

    if (state && strcmp(state, "in_progress") == 0)
        http_set_header(x, "openai-poll-after-ms", POLL_MS);
    json_decref(object);
    jobs_respond(a, x, status, mapped, err);
}

/* ---- files into the service ----------------------------------------------------------------- */

static sl_status read_fd(int fd, sl_buf *out, sl_err *err)
{
    char block[65536];
    ssize_t n;

    while ((n = read(fd, block, sizeof block)) > 0)
        sl_buf_put(out, block, (size_t)n);
    if (n < 0)
        return sl_fail(err, SL_EIO, "the bytes of a file cannot be read");
    return sl_buf_ok(out, "a file of a vector store", err);
}

/* What one item of the list says: its id, or an object. */
static sl_status read_item(const json_t *item, const docs_files *f, llm_document_spec *ret,
                           openai_error *e)
{
    static const field_rule rule = { .name = "chunking_strategy" };
    docs_chunking own = f->chunking;
    const json_t *chunking = field(item, "chunking_strategy"), *v;

    ret->file_id = json_is_string(item) ? json_string_value(item)
                                        : json_string_value(json_object_get(item, "file_id"));
    ret->attributes = f->attributes;
    if ((v = field(item, "attributes")))
        ret->attributes = v;
    if (!ret->file_id)
        return openai_refuse(e, "file_id", "missing_required_parameter",
                             "Missing required parameter: 'file_id'");
    if (chunking)
        SL_TRY(docs_take_chunking(chunking, &rule, &(field_target){ .call = &own }, e));
    ret->chunk_tokens = own.tokens;
    ret->overlap_tokens = own.overlap;
    return SL_OK;
}

static sl_status submit(api *a, http_exchange *x, llm_document_spec *spec, const char *batch,
                        json_t **ret, sl_err *err)
{
    const llm_docs *docs = &a->options.docs;
    const llm_jobs *jobs = &a->options.jobs;
    json_t *file = NULL;
    int fd = -1;
    sl_buf bytes;
    sl_status status =
        jobs->ops->file_open(jobs->ctx, api_caller(x), spec->file_id, &fd, &file, err);

    if (status != SL_OK)
        return status;
    sl_buf_init(&bytes, FILE_BYTES_MAX);
    status = read_fd(fd, &bytes, err);
    close(fd);
    spec->name = json_string_value(json_object_get(file, "filename"));
    spec->bytes = sl_span_of(sl_buf_str(&bytes), bytes.len);
    if (status == SL_OK)
        status = docs->ops->document_submit(docs->ctx, spec, batch, ret, err);
    sl_buf_deinit(&bytes);
    json_decref(file);
    return status;
}

static sl_status check_items(api *a, http_exchange *x, const docs_files *f, sl_err *err)
{
    const llm_jobs *jobs = &a->options.jobs;
    const json_t *item;
    size_t i;

    json_array_foreach(f->list, i, item)
    {
        llm_document_spec spec = { 0 };
        openai_error e = { 0 };
        json_t *file = NULL;

        if (read_item(item, f, &spec, &e) != SL_OK)
            return sl_fail(err, SL_EINVAL, "%s", e.message);
        SL_TRY(jobs->ops->file_get(jobs->ctx, api_caller(x), spec.file_id, &file, err));
        json_decref(file);
    }
    return SL_OK;
}

sl_status docs_submit_files(api *a, http_exchange *x, const char *collection, const docs_files *f,
                            json_t **ret_last, sl_err *err)
{
    const json_t *item;
    size_t i;

    if (!a->options.jobs.ops)
        return sl_fail(err, SL_ENOTSUP, "This server keeps no files to take documents from");
    if (!a->options.docs.ops->document_submit)
        return sl_fail(err, SL_ENOTSUP, "This server takes no documents from files");
    SL_TRY(check_items(a, x, f, err));
    json_array_foreach(f->list, i, item)
    {
        llm_document_spec spec = { .collection = collection, .caller = api_caller(x) };
        openai_error e = { 0 };

        if (read_item(item, f, &spec, &e) != SL_OK)
            return sl_fail(err, SL_EINVAL, "%s", e.message);
        json_decref(*ret_last);
        *ret_last = NULL;
        SL_TRY(submit(a, x, &spec, f->batch, ret_last, err));
    }
    return SL_OK;
}

/* ---- one file ------------------------------------------------------------------------------- */

typedef struct file_call {
    const char *file_id;
    const json_t *attributes;
    docs_chunking chunking;
} file_call;

#define FILE_CALL(member) IN_CALL(file_call, member)

static const field_rule attribute_rules[] = {
    { .name = "attributes",
      .kind = FIELD_OTHER,
      .take = docs_take_object,
      .json_schema = OBJECT_SCHEMA,
      FILE_CALL(attributes),
      .help = "at most 16 texts, numbers and booleans, for filters" },
};
static const body_schema attribute_body = { "UpdateVectorStoreFileRequest", attribute_rules,
                                            SL_COUNT_OF(attribute_rules) };

static const field_rule add_rules[] = {
    { .name = "file_id",
      .kind = FIELD_STR,
      .required = true,
      .max = 64,
      FILE_CALL(file_id),
      .help = "a stored file of any purpose" },
    { .name = "chunking_strategy",
      .kind = FIELD_OTHER,
      .take = docs_take_chunking,
      .json_schema = CHUNKING_SCHEMA,
      FILE_CALL(chunking) },
};
static const body_schema add_body = { "CreateVectorStoreFileRequest", add_rules,
                                      SL_COUNT_OF(add_rules), .base = &attribute_body };

static void run_add(api *a, http_exchange *x)
{
    file_call call = { 0 };
    docs_files files = { 0 };
    json_t *root = NULL, *list = NULL, *document = NULL;
    sl_err err = { 0 };
    sl_status status;
    sl_arena arena;

    if (!jobs_read_body(a, x, &add_body, &call, &arena, &root))
        return;
    list = json_pack("[s]", call.file_id);
    files = (docs_files){ .list = list, .attributes = call.attributes, .chunking = call.chunking };
    status = docs_submit_files(a, x, http_param(x, "id"), &files, &document, &err);
    respond(a, x, status, document, file_json, &err);
    json_decref(list);
    json_decref(root);
    sl_arena_deinit(&arena);
}

static void run_get(api *a, http_exchange *x)
{
    const llm_docs *docs = &a->options.docs;
    json_t *d = NULL;
    sl_err err = { 0 };
    sl_status status;

    if (!docs_has(x, docs->ops->document_get != NULL))
        return;
    status = docs->ops->document_get(docs->ctx, api_caller(x), http_param(x, "id"),
                                     http_param(x, "file_id"), &d, &err);
    respond(a, x, status, d, file_json, &err);
}

static void run_update(api *a, http_exchange *x)
{
    const llm_docs *docs = &a->options.docs;
    file_call call = { 0 };
    json_t *root = NULL, *d = NULL;
    sl_err err = { 0 };
    sl_status status;
    sl_arena arena;

    if (!docs_has(x, docs->ops->document_update != NULL) ||
        !jobs_read_body(a, x, &attribute_body, &call, &arena, &root))
        return;
    if (!call.attributes) /* null: none any more */
        json_object_set_new(root, "attributes", json_object());
    status = docs->ops->document_update(docs->ctx, api_caller(x), http_param(x, "id"),
                                        http_param(x, "file_id"),
                                        json_object_get(root, "attributes"), NULL, &d, &err);
    respond(a, x, status, d, file_json, &err);
    json_decref(root);
    sl_arena_deinit(&arena);
}

static void run_remove(api *a, http_exchange *x)
{
    const llm_docs *docs = &a->options.docs;
    const char *id = http_param(x, "file_id");
    sl_err err = { 0 };
    sl_status status;

    if (!docs_has(x, docs->ops->document_remove != NULL))
        return;
    status = docs->ops->document_remove(docs->ctx, api_caller(x), http_param(x, "id"), id, &err);
    jobs_respond(a, x, status,
                 status == SL_OK ? json_pack("{s:s,s:s,s:b}", "id", id, "object",
                                             "vector_store.file.deleted", "deleted", 1)
                                 : NULL,
                 &err);
}

static void run_content(api *a, http_exchange *x)
{
    const llm_docs *docs = &a->options.docs;
    json_t *page = NULL;
    sl_err err = { 0 };
    sl_buf text;
    sl_status status;

    if (!docs_has(x, docs->ops->document_text != NULL))
        return;
    sl_buf_init(&text, FILE_BYTES_MAX);
    status = docs->ops->document_text(docs->ctx, api_caller(x), http_param(x, "id"),
                                      http_param(x, "file_id"), &text, &err);
    if (status == SL_OK)
        page = json_pack("{s:s,s:[{s:s,s:s%}],s:b,s:n}", "object", "vector_store.file_content.page",
                         "data", "type", "text", "text", sl_buf_str(&text), text.len, "has_more", 0,
                         "next_page");
    sl_buf_deinit(&text);
    jobs_respond(a, x, status, page, &err);
}

static void list_files(api *a, http_exchange *x, const char *batch)
{
    const llm_docs *docs = &a->options.docs;
    llm_docs_page page;
    json_t *list = NULL;
    sl_err err = { 0 };
    sl_status status;

    if (!docs_has(x, docs->ops->document_list != NULL) || !docs_read_page(a, x, "filter", &page))
        return;
    page.batch = batch;
    status =
        docs->ops->document_list(docs->ctx, api_caller(x), http_param(x, "id"), &page, &list, &err);
    jobs_respond(a, x, status, status == SL_OK ? docs_list_json(list, file_json) : NULL, &err);
}

static void run_list(api *a, http_exchange *x)
{
    list_files(a, x, NULL);
}

/* ---- batches -------------------------------------------------------------------------------- */

typedef struct batch_call {
    const json_t *file_ids, *files, *attributes;
    docs_chunking chunking;
} batch_call;

#define BATCH(member) IN_CALL(batch_call, member)

static sl_status take_objects(const json_t *v, const field_rule *rule, const field_target *to,
                              openai_error *err)
{
    json_t *item;
    size_t i;

    if (!json_is_array(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "Invalid type for '%s': expected an array of objects, but got %s",
                             rule->name, json_kind(v));
    json_array_foreach(v, i, item) if (
        !json_is_object(item) || !json_is_string(json_object_get(item, "file_id")) ||
        (field(item, "attributes") &&
         !json_is_object(field(
             item, "attributes")))) return openai_refuse(err, rule->name, "invalid_value",
                                                         "Invalid '%s[%zu]': expected an object "
                                                         "with a 'file_id' and, if it has "
                                                         "any, an object of 'attributes'",
                                                         rule->name, i);
    memcpy((char *)to->call + rule->at, &v, sizeof v);
    return SL_OK;
}

static const field_rule batch_rules[] = {
    { .name = "file_ids",
      .kind = FIELD_OTHER,
      .take = docs_take_texts,
      .json_schema = TEXTS_SCHEMA,
      BATCH(file_ids),
      .help = "1 to 2000 stored files; or files" },
    { .name = "files",
      .kind = FIELD_OTHER,
      .take = take_objects,
      .json_schema = "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{"
                     "\"file_id\":{\"type\":\"string\"},\"attributes\":{\"type\":\"object\"},"
                     "\"chunking_strategy\":{\"type\":\"object\"}},\"required\":[\"file_id\"]}}",
      BATCH(files),
      .help = "the same, each with attributes and chunking_strategy of its own" },
    { .name = "attributes",
      .kind = FIELD_OTHER,
      .take = docs_take_object,
      .json_schema = OBJECT_SCHEMA,
      BATCH(attributes),
      .help = "of all files that say nothing else" },
    { .name = "chunking_strategy",
      .kind = FIELD_OTHER,
      .take = docs_take_chunking,
      .json_schema = CHUNKING_SCHEMA,
      BATCH(chunking) },
};
static const body_schema batch_body = { "CreateVectorStoreFileBatchRequest", batch_rules,
                                        SL_COUNT_OF(batch_rules) };

static sl_status create_batch(api *a, http_exchange *x, const batch_call *call, json_t **ret,
                              sl_err *err)
{
    const llm_docs *docs = &a->options.docs;
    const char *store = http_param(x, "id");
    docs_files files = { .list = call->files ? call->files : call->file_ids,
                         .attributes = call->attributes,
                         .chunking = call->chunking };
    size_t count = json_array_size(files.list);
    json_t *batch = NULL, *last = NULL;
    sl_status status;

    if ((call->files != NULL) == (call->file_ids != NULL))
        return sl_fail(err, SL_EINVAL, "Invalid 'file_ids': give either 'file_ids' or 'files'");
    if (count == 0 || count > FILES_MAX)
        return sl_fail(err, SL_EINVAL, "Invalid '%s': expected 1 to %d files, got %zu",
                       call->files ? "files" : "file_ids", FILES_MAX, count);
    if (!a->options.jobs.ops)
        return sl_fail(err, SL_ENOTSUP, "This server keeps no files to take documents from");
    SL_TRY(check_items(a, x, &files, err));
    SL_TRY(docs->ops->batch_create(docs->ctx, api_caller(x), store, &batch, err));
    files.batch = json_string_value(json_object_get(batch, "id"));
    status = docs_submit_files(a, x, store, &files, &last, err);
    if (status == SL_OK)
        status = docs->ops->batch_get(docs->ctx, api_caller(x), store, files.batch, ret, err);
    else
        (void)docs->ops->batch_cancel(docs->ctx, api_caller(x), store, files.batch, &last, NULL);
    json_decref(last);
    json_decref(batch);
    return status;
}

static void run_batch_create(api *a, http_exchange *x)
{
    batch_call call = { 0 };
    json_t *root = NULL, *batch = NULL;
    sl_err err = { 0 };
    sl_status status;
    sl_arena arena;

    if (!docs_has(x, a->options.docs.ops->batch_create != NULL) ||
        !jobs_read_body(a, x, &batch_body, &call, &arena, &root))
        return;
    status = create_batch(a, x, &call, &batch, &err);
    respond(a, x, status, batch, batch_json, &err);
    json_decref(root);
    sl_arena_deinit(&arena);
}

static void run_batch_get(api *a, http_exchange *x)
{
    const llm_docs *docs = &a->options.docs;
    json_t *batch = NULL;
    sl_err err = { 0 };
    sl_status status;

    if (!docs_has(x, docs->ops->batch_get != NULL))
        return;
    status = docs->ops->batch_get(docs->ctx, api_caller(x), http_param(x, "id"),
                                  http_param(x, "batch_id"), &batch, &err);
    respond(a, x, status, batch, batch_json, &err);
}

static void run_batch_cancel(api *a, http_exchange *x)
{
    const llm_docs *docs = &a->options.docs;
    json_t *batch = NULL;
    sl_err err = { 0 };
    sl_status status;

    if (!docs_has(x, docs->ops->batch_cancel != NULL))
        return;
    status = docs->ops->batch_cancel(docs->ctx, api_caller(x), http_param(x, "id"),
                                     http_param(x, "batch_id"), &batch, &err);
    respond(a, x, status, batch, batch_json, &err);
}

static void run_batch_files(api *a, http_exchange *x)
{
    list_files(a, x, http_param(x, "batch_id"));
}

/* ---- routes --------------------------------------------------------------------------------- */

static void on_add(api *a, http_exchange *x)
{
    docs_run_later(a, x, run_add);
}

static void on_list(api *a, http_exchange *x)
{
    docs_run_later(a, x, run_list);
}

static void on_get(api *a, http_exchange *x)
{
    docs_run_later(a, x, run_get);
}

static void on_update(api *a, http_exchange *x)
{
    docs_run_later(a, x, run_update);
}

static void on_remove(api *a, http_exchange *x)
{
    docs_run_later(a, x, run_remove);
}

static void on_content(api *a, http_exchange *x)
{
    docs_run_later(a, x, run_content);
}

static void on_batch_create(api *a, http_exchange *x)
{
    docs_run_slow(a, x, run_batch_create);
}

static void on_batch_get(api *a, http_exchange *x)
{
    docs_run_later(a, x, run_batch_get);
}

static void on_batch_cancel(api *a, http_exchange *x)
{
    docs_run_later(a, x, run_batch_cancel);
}

static void on_batch_files(api *a, http_exchange *x)
{
    docs_run_later(a, x, run_batch_files);
}

#define STORE_FILES   "/v1/vector_stores/{id}/files"
#define STORE_BATCHES "/v1/vector_stores/{id}/file_batches"

static const api_endpoint list[] = {
    { "POST", STORE_FILES, on_add, LLM_MAY_DOCS_WRITE, "Add a stored file to a vector store",
      &add_body },
    { "GET", STORE_FILES, on_list, LLM_MAY_DOCS_READ,
      "The files of a vector store; filter (a status), limit, order, after, before" },
    { "GET", STORE_FILES "/{file_id}", on_get, LLM_MAY_DOCS_READ, "How far a file is" },
    { "POST", STORE_FILES "/{file_id}", on_update, LLM_MAY_DOCS_WRITE,
      "Change the attributes of a file", &attribute_body },
    { "DELETE", STORE_FILES "/{file_id}", on_remove, LLM_MAY_DOCS_WRITE,
      "Take a file out of a vector store; the stored file stays" },
    { "GET", STORE_FILES "/{file_id}/content", on_content, LLM_MAY_DOCS_READ,
      "The text that was read from a file" },
    { "POST", STORE_BATCHES, on_batch_create, LLM_MAY_DOCS_WRITE,
      "Add up to 2000 stored files at once", &batch_body },
    { "GET", STORE_BATCHES "/{batch_id}", on_batch_get, LLM_MAY_DOCS_READ, "How far a batch is" },
    { "POST", STORE_BATCHES "/{batch_id}/cancel", on_batch_cancel, LLM_MAY_DOCS_WRITE,
      "Cancel what a batch has not done yet" },
    { "GET", STORE_BATCHES "/{batch_id}/files", on_batch_files, LLM_MAY_DOCS_READ,
      "The files of a batch; filter, limit, order, after, before" },
};
const api_endpoints vector_store_file_endpoints = { &openai_dialect, "Vector store files", list,
                                                    SL_COUNT_OF(list) };
