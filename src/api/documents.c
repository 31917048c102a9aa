/* documents.c - /v1/rag/documents and /v1/rag/collections: what there is, and how it gets in.
 *
 * A document comes as a JSON body with its text, as a raw body of any format, or as a file of a
 * form. It is taken in the background where the caller says wait=false. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "api/docs.h"

#define FIELD_BYTES_MAX 8192
#define TEXT_BYTES_MAX  (64 * SL_MIB)

/* ---- what is said about documents ----------------------------------------------------------- */

/* From the query, a form's fields or a JSON body. */
typedef struct said {
    const char *collection, *name, *source, *trust;
    const json_t *attributes, *access;
    bool wait;
    docs_chunking chunking;
} said;

typedef struct adding {
    api *a;
    http_exchange *x;
    said said;
    sl_arena arena;
    json_t *owned; /* array of values that `said` borrows */
    json_t *documents;
    sl_err first_failure;
    bool any_good;
    openai_error error; /* http 0: none */
} adding;

static const char *keep_text(adding *w, sl_span text)
{
    return text.len <= FIELD_BYTES_MAX
               ? sl_arena_strndup(&w->arena, (const char *)text.ptr, text.len)
               : NULL;
}

static sl_status keep_json(adding *w, const char *name, sl_span text, const json_t **ret,
                           sl_err *err)
{
    json_t *v = json_loadb((const char *)text.ptr, text.len, 0, NULL);

    if (!v)
        return sl_fail(err, SL_EINVAL, "Invalid '%s': expected JSON", name);
    json_array_append_new(w->owned, v);
    *ret = v;
    return SL_OK;
}

/* One field of a form or a query. Unknown ones are ignored. */
static sl_status take_field(adding *w, const char *name, sl_span value, sl_err *err)
{
    const struct {
        const char *name;
        const char **at;
    } texts[] = { { "collection", &w->said.collection },
                  { "name", &w->said.name },
                  { "source", &w->said.source },
                  { "trust", &w->said.trust } };

    for (size_t i = 0; i < SL_COUNT_OF(texts); i++)
        if (strcmp(name, texts[i].name) == 0 && !(*texts[i].at = keep_text(w, value)))
            return sl_fail(err, SL_EINVAL, "Invalid '%s': at most %d bytes", name, FIELD_BYTES_MAX);
    if (strcmp(name, "attributes") == 0)
        return keep_json(w, name, value, &w->said.attributes, err);
    if (strcmp(name, "access") == 0)
        return keep_json(w, name, value, &w->said.access, err);
    if (strcmp(name, "wait") == 0)
        w->said.wait =
            !(sl_span_eq(value, sl_span_str("false")) || sl_span_eq(value, sl_span_str("0")));
    return SL_OK;
}

static sl_status take_query(adding *w, sl_err *err)
{
    static const char *const names[] = { "collection", "name",       "source", "trust",
                                         "wait",       "attributes", "access" };

    for (size_t i = 0; i < SL_COUNT_OF(names); i++) {
        const char *v = http_query(w->x, names[i]);

        if (v)
            SL_TRY(take_field(w, names[i], sl_span_str(v), err));
    }
    return SL_OK;
}

/* ---- adding --------------------------------------------------------------------------------- */

static sl_status status_of_code(const char *code)
{
    if (code && strcmp(code, "server_error") == 0)
        return SL_EINTERNAL;
    return SL_EFORMAT; /* 422: the request is fine, the document is not */
}

static void note_end(adding *w, const json_t *d)
{
    const json_t *error = json_object_get(d, "error");
    const char *code = json_string_value(json_object_get(error, "code"));

    if (!json_is_object(error))
        w->any_good = true;
    else if (w->first_failure.status == SL_OK)
        w->first_failure.status =
            sl_fail(&w->first_failure, status_of_code(code), "document \"%.200s\": %s",
                    json_string_value(json_object_get(d, "name")),
                    json_string_value(json_object_get(error, "message")));
}

static json_t *document_json(const json_t *d)
{
    json_t *copy = json_copy((json_t *)(uintptr_t)d);

    json_object_set_new(copy, "object", json_string("rag.document"));
    /* The name of an earlier version of this object. */
    json_object_set(copy, "updated", json_object_get(d, "updated_at"));
    return copy;
}

static sl_status add(adding *w, const char *name, sl_span bytes, sl_err *err)
{
    const llm_docs *docs = &w->a->options.docs;
    const llm_document_spec spec = { .collection = w->said.collection,
                                     .name = name,
                                     .source = w->said.source,
                                     .bytes = bytes,
                                     .attributes = w->said.attributes,
                                     .access = w->said.access,
                                     .trust = w->said.trust,
                                     .chunk_tokens = w->said.chunking.tokens,
                                     .overlap_tokens = w->said.chunking.overlap,
                                     .caller = api_caller(w->x) };
    json_t *d = NULL;

    SL_TRY(w->said.wait ? docs->ops->document_add(docs->ctx, &spec, &d, err)
                        : docs->ops->document_submit(docs->ctx, &spec, NULL, &d, err));
    note_end(w, d);
    json_array_append_new(w->documents, document_json(d));
    json_decref(d);
    return SL_OK;
}

static sl_status take_part(void *ctx, const http_part *part, sl_err *err)
{
    return part->filename[0] ? SL_OK : take_field(ctx, part->name, part->body, err);
}

static sl_status add_part(void *ctx, const http_part *part, sl_err *err)
{
    return part->filename[0] ? add(ctx, part->filename, part->body, err) : SL_OK;
}

typedef struct text_call {
    said said;
    const char *other_name;
    const json_t *text, *content;
} text_call;

#define TEXT(member) IN_CALL(text_call, member)

static sl_status take_text(const json_t *v, const field_rule *rule, const field_target *to,
                           openai_error *err)
{
    if (!json_is_string(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "Invalid type for '%s': expected a string, but got %s", rule->name,
                             json_kind(v));
    memcpy((char *)to->call + rule->at, &v, sizeof v);
    return SL_OK;
}

static const field_rule text_rules[] = {
    { .name = "name",
      .kind = FIELD_STR,
      .max = 512,
      TEXT(said.name),
      .help = "required; the document of this name is replaced" },
    { .name = "document", .kind = FIELD_STR, .max = 512, TEXT(other_name), .help = "the same" },
    { .name = "text",
      .kind = FIELD_OTHER,
      .take = take_text,
      .json_schema = "{\"type\":\"string\"}",
      TEXT(text),
      .help = "required, here or as content" },
    { .name = "content",
      .kind = FIELD_OTHER,
      .take = take_text,
      .json_schema = "{\"type\":\"string\"}",
      TEXT(content) },
    { .name = "collection", .kind = FIELD_STR, TEXT(said.collection), .help = "\"default\"" },
    { .name = "source",
      .kind = FIELD_STR,
      .max = 4096,
      TEXT(said.source),
      .help = "path or address to show to people" },
    { .name = "trust", .kind = FIELD_STR, TEXT(said.trust), .help = "trusted or untrusted" },
    { .name = "attributes",
      .kind = FIELD_OTHER,
      .take = docs_take_object,
      .json_schema = OBJECT_SCHEMA,
      TEXT(said.attributes),
      .help = "at most 16 texts, numbers and booleans, for filters" },
    { .name = "access",
      .kind = FIELD_OTHER,
      .take = docs_take_texts,
      .json_schema = TEXTS_SCHEMA,
      TEXT(said.access),
      .help = "who may read it: user:NAME, team:NAME, role:NAME; without: everybody" },
    { .name = "chunking_strategy",
      .kind = FIELD_OTHER,
      .take = docs_take_chunking,
      .json_schema = CHUNKING_SCHEMA,
      TEXT(said.chunking) },
    { .name = "wait",
      .kind = FIELD_BOOL,
      TEXT(said.wait),
      .help = "false: answer before it is read; default true" },
};
static const body_schema text_body = { "AddDocumentRequest", text_rules, SL_COUNT_OF(text_rules) };

static sl_status parse_text(const json_t *root, const field_target *to, text_call *call,
                            openai_error *e)
{
    SL_TRY(body_read(&text_body, root, to, e));
    call->said.name = call->said.name ? call->said.name : call->other_name;
    call->text = call->text ? call->text : call->content;
    if (!call->said.name)
        return openai_refuse(e, "name", "missing_required_parameter",
                             "Missing required parameter: 'name'");
    if (!call->text)
        return openai_refuse(e, "text", "missing_required_parameter",
                             "Missing required parameter: 'text' (a string)");
    return SL_OK;
}

static sl_status add_json(adding *w, sl_span body, sl_err *err)
{
    text_call call = { .said = w->said };
    const field_target to = { .call = &call, .arena = &w->arena };
    json_t *root = NULL;
    sl_status status = parse_object((const char *)body.ptr, body.len, &root, &w->error);

    if (status == SL_OK)
        status = parse_text(root, &to, &call, &w->error);
    if (status == SL_OK) {
        w->said = call.said;
        status = add(w, call.said.name,
                     sl_span_of(json_string_value(call.text), json_string_length(call.text)), err);
    }
    json_decref(root);
    return status;
}

static bool type_is(const char *type, const char *wanted)
{
    return strncasecmp(type, wanted, strlen(wanted)) == 0;
}

static sl_status add_body(adding *w, bool *ret_is_list, sl_err *err)
{
    const char *type = http_header(w->x, "content-type");
    sl_span body = http_body(w->x);

    type = type ? type : "";
    SL_TRY(take_query(w, err));
    if (type_is(type, "multipart/form-data")) {
        *ret_is_list = true;
        SL_TRY(http_multipart(type, body, take_part, w, err));
        SL_TRY(http_multipart(type, body, add_part, w, err));
        return json_array_size(w->documents) > 0
                   ? SL_OK
                   : sl_fail(err, SL_EINVAL, "the form holds no file: send parts named 'file'");
    }
    if (w->said.name && !type_is(type, "application/json"))
        return add(w, w->said.name, body, err);
    if (type_is(type, "application/json") || !type[0] ||
        type_is(type, "application/x-www-form-urlencoded"))
        return add_json(w, body, err);
    return sl_fail(err, SL_EINVAL, "a body of a document needs its name in the query: ?name=...");
}

static void run_add(api *a, http_exchange *x)
{
    adding w = {
        .a = a, .x = x, .said = { .wait = true }, .owned = json_array(), .documents = json_array()
    };
    bool is_list = false;
    json_t *answer = NULL;
    sl_err err = { 0 };
    sl_status status;

    sl_arena_init(&w.arena, SL_MIB);
    status = add_body(&w, &is_list, &err);
    if (status == SL_OK && !w.any_good) {
        err = w.first_failure;
        status = err.status;
    }
    if (status == SL_OK)
        answer = is_list ? json_pack("{s:s,s:O}", "object", "list", "data", w.documents)
                         : json_incref(json_array_get(w.documents, 0));
    if (w.error.http)
        api_respond_error(a, x, &w.error);
    else
        jobs_respond(a, x, status, answer, &err);
    json_decref(w.owned);
    json_decref(w.documents);
    sl_arena_deinit(&w.arena);
}

/* ---- documents ------------------------------------------------------------------------------ */

static void run_list(api *a, http_exchange *x)
{
    const llm_docs *docs = &a->options.docs;
    llm_docs_page page;
    json_t *list = NULL;
    sl_err err = { 0 };
    sl_status status;

    if (!docs_has(x, docs->ops->document_list != NULL) || !docs_read_page(a, x, "status", &page))
        return;
    page.batch = http_query(x, "batch");
    status = docs->ops->document_list(docs->ctx, api_caller(x), http_query(x, "collection"), &page,
                                      &list, &err);
    if (status == SL_ENOTFOUND && !http_query(x, "collection")) { /* nothing came yet */
        status = SL_OK;
        list = json_pack("{s:[],s:b}", "data", "has_more", 0);
    }
    jobs_respond(a, x, status, status == SL_OK ? docs_list_json(list, document_json) : NULL, &err);
}

static void respond_text(api *a, http_exchange *x, const char *name)
{
    const llm_docs *docs = &a->options.docs;
    sl_err err = { 0 };
    sl_buf text;
    sl_status status;

    sl_buf_init(&text, TEXT_BYTES_MAX);
    status = docs->ops->document_text(docs->ctx, api_caller(x), http_query(x, "collection"), name,
                                      &text, &err);
    if (status == SL_OK) {
        http_set_header(x, "X-Content-Type-Options", "nosniff");
        http_respond(x, 200, "text/plain; charset=utf-8", sl_buf_str(&text), text.len);
    } else {
        jobs_respond(a, x, status, NULL, &err);
    }
    sl_buf_deinit(&text);
}

static void respond_passages(api *a, http_exchange *x, const char *name)
{
    const llm_docs *docs = &a->options.docs;
    json_t *list = NULL;
    sl_err err = { 0 };
    sl_status status;

    if (!docs_has(x, docs->ops->document_passages != NULL))
        return;
    status = docs->ops->document_passages(docs->ctx, api_caller(x), http_query(x, "collection"),
                                          name, &list, &err);
    jobs_respond(a, x, status,
                 status == SL_OK ? json_pack("{s:s,s:o}", "object", "list", "data", list) : NULL,
                 &err);
}

/* Answers for what is behind the name, where there is something; false: nothing is. */
static bool respond_part(api *a, http_exchange *x, const char *name)
{
    static const struct {
        const char *tail;
        void (*respond)(api *a, http_exchange *x, const char *name);
    } parts[] = { { "/text", respond_text }, { "/passages", respond_passages } };
    size_t len = strlen(name);

    for (size_t i = 0; i < SL_COUNT_OF(parts); i++) {
        size_t tail = strlen(parts[i].tail);
        char *bare;

        if (len <= tail || strcmp(name + len - tail, parts[i].tail) != 0)
            continue;
        bare = sl_strndup(name, len - tail);
        if (bare)
            parts[i].respond(a, x, bare);
        sl_free(bare);
        return bare != NULL;
    }
    return false;
}

/* Names may have slashes: the last segment decides, unless a document is named so. */
static void run_get(api *a, http_exchange *x)
{
    const llm_docs *docs = &a->options.docs;
    const char *name = http_param(x, "name");
    json_t *d = NULL;
    sl_err err = { 0 };
    sl_status status;

    if (!docs_has(x, docs->ops->document_get && docs->ops->document_text))
        return;
    status = docs->ops->document_get(docs->ctx, api_caller(x), http_query(x, "collection"), name,
                                     &d, &err);
    if (status == SL_ENOTFOUND && respond_part(a, x, name))
        return;
    jobs_respond(a, x, status, status == SL_OK ? document_json(d) : NULL, &err);
    json_decref(d);
}

typedef struct change_call {
    const json_t *attributes, *access;
} change_call;

static const field_rule change_rules[] = {
    { .name = "attributes",
      .kind = FIELD_OTHER,
      .take = docs_take_object,
      .json_schema = OBJECT_SCHEMA,
      IN_CALL(change_call, attributes) },
    { .name = "access",
      .kind = FIELD_OTHER,
      .take = docs_take_texts,
      .json_schema = TEXTS_SCHEMA,
      IN_CALL(change_call, access),
      .help = "who may read it; null: everybody" },
};
static const body_schema change_body = { "UpdateDocumentRequest", change_rules,
                                         SL_COUNT_OF(change_rules) };

static void run_change(api *a, http_exchange *x)
{
    const llm_docs *docs = &a->options.docs;
    change_call call = { 0 };
    json_t *root = NULL, *d = NULL;
    sl_err err = { 0 };
    sl_status status;
    sl_arena arena;

    if (!docs_has(x, docs->ops->document_update != NULL) ||
        !jobs_read_body(a, x, &change_body, &call, &arena, &root))
        return;
    if (json_is_null(json_object_get(root, "access")))
        call.access = json_object_get(root, "access");
    status =
        docs->ops->document_update(docs->ctx, api_caller(x), http_query(x, "collection"),
                                   http_param(x, "name"), call.attributes, call.access, &d, &err);
    jobs_respond(a, x, status, status == SL_OK ? document_json(d) : NULL, &err);
    json_decref(d);
    json_decref(root);
    sl_arena_deinit(&arena);
}

static void run_remove(api *a, http_exchange *x)
{
    const llm_docs *docs = &a->options.docs;
    const char *name = http_param(x, "name");
    sl_err err = { 0 };
    sl_status status;

    if (!docs_has(x, docs->ops->document_remove != NULL))
        return;
    status = docs->ops->document_remove(docs->ctx, api_caller(x), http_query(x, "collection"), name,
                                        &err);
    jobs_respond(a, x, status,
                 status == SL_OK ? json_pack("{s:s,s:s,s:b}", "object", "rag.document", "name",
                                             name, "deleted", 1)
                                 : NULL,
                 &err);
}

/* ---- collections ---------------------------------------------------------------------------- */

typedef struct collection_call {
    const char *name, *description;
    const json_t *metadata, *settings;
    int64_t expires_after_s;
} collection_call;

#define COLLECTION(member) IN_CALL(collection_call, member)

static const field_rule collection_rules[] = {
    { .name = "name", .kind = FIELD_STR, .max = 512, COLLECTION(name) },
    { .name = "description", .kind = FIELD_STR, .max = 8192, COLLECTION(description) },
    { .name = "metadata",
      .kind = FIELD_OTHER,
      .take = docs_take_object,
      .json_schema = OBJECT_SCHEMA,
      COLLECTION(metadata),
      .help = "at most 16 texts by name" },
    { .name = "settings",
      .kind = FIELD_OTHER,
      .take = docs_take_object,
      .json_schema = "{\"type\":\"object\",\"properties\":{\"chunk_tokens\":{\"type\":[\"integer\","
                     "\"null\"]},\"overlap_tokens\":{\"type\":[\"integer\",\"null\"]},"
                     "\"weight_lexical\":{\"type\":[\"number\",\"null\"]},\"weight_dense\":{"
                     "\"type\":[\"number\",\"null\"]},\"threshold\":{\"type\":[\"number\","
                     "\"null\"]},\"mmr\":{\"type\":[\"number\",\"null\"]},\"language\":{\"type\":"
                     "[\"string\",\"null\"]}}}",
      COLLECTION(settings),
      .help = "what differs from the server's; null: as the server's again" },
    { .name = "expires_after_s",
      .kind = FIELD_INT,
      .min = 0,
      .max = 316224000,
      COLLECTION(expires_after_s),
      .help = "seconds after its last use; 0: never" },
};
static const body_schema collection_body = { "CollectionRequest", collection_rules,
                                             SL_COUNT_OF(collection_rules) };

static json_t *collection_json(const json_t *c)
{
    json_t *copy = json_copy((json_t *)(uintptr_t)c);

    json_object_set_new(copy, "object", json_string("rag.collection"));
    return copy;
}

/* name NULL: a new one. */
static void write_collection(api *a, http_exchange *x, const char *name)
{
    const llm_docs *docs = &a->options.docs;
    collection_call call = { .expires_after_s = name ? -1 : 0 };
    json_t *root = NULL, *c = NULL;
    sl_err err = { 0 };
    llm_collection_spec spec;
    sl_status status = SL_OK;
    sl_arena arena;

    if (!docs_has(x, docs->ops->collection_create && docs->ops->collection_update) ||
        !jobs_read_body(a, x, &collection_body, &call, &arena, &root))
        return;
    spec = (llm_collection_spec){ .name = call.name,
                                  .description = call.description,
                                  .metadata = call.metadata,
                                  .expires_after_s = call.expires_after_s,
                                  .settings = call.settings };
    if (!name && call.name &&
        docs->ops->collection_get(docs->ctx, api_caller(x), call.name, &c, NULL) == SL_OK) {
        json_decref(c);
        status = sl_fail(&err, SL_ECONFLICT, "there is a collection '%.200s' already", call.name);
    } else if (name) {
        status = docs->ops->collection_update(docs->ctx, api_caller(x), name, &spec, &c, &err);
    } else {
        status = docs->ops->collection_create(docs->ctx, api_caller(x), &spec, &c, &err);
    }
    jobs_respond(a, x, status, status == SL_OK ? collection_json(c) : NULL, &err);
    if (status == SL_OK)
        json_decref(c);
    json_decref(root);
    sl_arena_deinit(&arena);
}

static void run_collection_create(api *a, http_exchange *x)
{
    write_collection(a, x, NULL);
}

static void run_collection_change(api *a, http_exchange *x)
{
    write_collection(a, x, http_param(x, "name"));
}

static void run_collections(api *a, http_exchange *x)
{
    docs_run_collections(a, x, collection_json);
}

static void run_collection_get(api *a, http_exchange *x)
{
    docs_run_collection(a, x, http_param(x, "name"), collection_json);
}

static void run_collection_remove(api *a, http_exchange *x)
{
    const llm_docs *docs = &a->options.docs;
    const char *name = http_param(x, "name");
    sl_err err = { 0 };
    sl_status status;

    if (!docs_has(x, docs->ops->collection_remove != NULL))
        return;
    status = docs->ops->collection_remove(docs->ctx, api_caller(x), name, &err);
    jobs_respond(a, x, status,
                 status == SL_OK ? json_pack("{s:s,s:s,s:b}", "object", "rag.collection", "name",
                                             name, "deleted", 1)
                                 : NULL,
                 &err);
}

/* ---- routes --------------------------------------------------------------------------------- */

static void on_add(api *a, http_exchange *x)
{
    const llm_docs_ops *ops = a->options.docs.ops;

    if (docs_has(x, ops && ops->document_add && ops->document_submit))
        docs_run_slow(a, x, run_add); /* it waits until the documents are in */
}

#define LATER(name, fn)                                                                            \
    static void name(api *a, http_exchange *x)                                                     \
    {                                                                                              \
        docs_run_later(a, x, fn);                                                                  \
    }

LATER(on_list, run_list)
LATER(on_get, run_get)
LATER(on_change, run_change)
LATER(on_remove, run_remove)
LATER(on_collection_create, run_collection_create)
LATER(on_collections, run_collections)
LATER(on_collection_get, run_collection_get)
LATER(on_collection_change, run_collection_change)
LATER(on_collection_remove, run_collection_remove)

#define DOCUMENTS   "/v1/rag/documents"
#define COLLECTIONS "/v1/rag/collections"

static const api_endpoint list[] = {
    { "POST", DOCUMENTS, on_add, LLM_MAY_DOCS_WRITE,
      "Add or replace documents: JSON with a text, files of a form, or a raw body with ?name=",
      &text_body },
    { "GET", DOCUMENTS, on_list, LLM_MAY_DOCS_READ,
      "The documents of a collection; collection, status, batch, limit, order, after, before" },
    { "GET", DOCUMENTS "/{name...}", on_get, LLM_MAY_DOCS_READ,
      "A document by its name or id; /text behind it: the text that passages are spans of;"
      " /passages: those" },
    { "PATCH", DOCUMENTS "/{name...}", on_change, LLM_MAY_DOCS_WRITE,
      "Change attributes or access list of a document", &change_body },
    { "DELETE", DOCUMENTS "/{name...}", on_remove, LLM_MAY_DOCS_WRITE, "Remove a document" },
    { "POST", COLLECTIONS, on_collection_create, LLM_MAY_DOCS_WRITE, "Make a collection",
      &collection_body },
    { "GET", COLLECTIONS, on_collections, LLM_MAY_DOCS_READ,
      "The collections there are; limit, order, after, before" },
    { "GET", COLLECTIONS "/{name}", on_collection_get, LLM_MAY_DOCS_READ, "What a collection is" },
    { "PATCH", COLLECTIONS "/{name}", on_collection_change, LLM_MAY_DOCS_WRITE,
      "Change a collection; documents are cut anew where its settings ask for it",
      &collection_body },
    { "DELETE", COLLECTIONS "/{name}", on_collection_remove, LLM_MAY_DOCS_WRITE,
      "Remove a collection with its documents" },
};
const api_endpoints document_endpoints = { &openai_dialect, "Documents", list, SL_COUNT_OF(list) };
