/* vector_stores.c - OpenAI's /v1/vector_stores: a store is a collection, and its search is the
 * collection's. */
#include <stdio.h>
#include <stdlib.h>

#include "api/docs.h"

#define DAY_S          86400
#define DAYS_MAX       365
#define RESULTS_MAX    50
#define QUERIES_MAX    32
#define FILES_AT_FIRST 2000 /* as a batch may have */

/* ---- objects -------------------------------------------------------------------------------- */

static const char *status_of(const json_t *c)
{
    int64_t expires = json_integer_value(json_object_get(c, "expires_at"));
    const json_t *counts = json_object_get(c, "file_counts");

    if (expires > 0 && expires <= sl_clock_wall_ms() / 1000)
        return "expired";
    return json_integer_value(json_object_get(counts, "in_progress")) > 0 ? "in_progress"
                                                                          : "completed";
}

static json_t *store_json(const json_t *c)
{
    int64_t keep = json_integer_value(json_object_get(c, "expires_after_s"));
    json_t *ret = json_pack(
        "{s:O,s:s,s:O,s:O,s:O?,s:O,s:O,s:s,s:O?,s:O,s:O?}", "id", json_object_get(c, "id"),
        "object", "vector_store", "created_at", json_object_get(c, "created_at"), "name",
        json_object_get(c, "name"), "description", json_object_get(c, "description"), "usage_bytes",
        json_object_get(c, "bytes"), "file_counts", json_object_get(c, "file_counts"), "status",
        status_of(c), "expires_at", json_object_get(c, "expires_at"), "last_active_at",
        json_object_get(c, "last_active_at"), "metadata", json_object_get(c, "metadata"));

    if (keep > 0)
        json_object_set_new(ret, "expires_after",
                            json_pack("{s:s,s:I}", "anchor", "last_active_at", "days",
                                      (json_int_t)((keep + DAY_S - 1) / DAY_S)));
    return ret;
}

/* Answers with the collection, which is taken, as a store. */
static void respond_store(api *a, http_exchange *x, sl_status status, json_t *collection,
                          sl_err *err)
{
    json_t *object = status == SL_OK ? store_json(collection) : NULL;

    json_decref(collection);
    jobs_respond(a, x, status, object, err);
}

/* ---- create and change ---------------------------------------------------------------------- */

typedef struct store_call {
    const char *name, *description;
    const json_t *file_ids, *metadata;
    int64_t expires_after_s;
    docs_chunking chunking;
} store_call;

#define STORE(member) IN_CALL(store_call, member)

static sl_status take_days(const json_t *v, const field_rule *rule, const field_target *to,
                           openai_error *err)
{
    const char *anchor = NULL;
    int64_t days = 0, seconds;

    if (!json_is_object(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "Invalid type for '%s': expected an object, but got %s", rule->name,
                             json_kind(v));
    SL_TRY(body_nest(take_str(v, "anchor", &anchor, err), rule->name, err));
    SL_TRY(body_nest(take_int(v, "days", 1, DAYS_MAX, &days, err), rule->name, err));
    if (!anchor || strcmp(anchor, "last_active_at") != 0 || days == 0)
        return openai_refuse(err, rule->name, "invalid_value",
                             "Invalid '%s': expected anchor 'last_active_at' and days", rule->name);
    seconds = days * DAY_S;
    memcpy((char *)to->call + rule->at, &seconds, sizeof seconds);
    return SL_OK;
}

#define DAYS_SCHEMA                                                                                \
    "{\"type\":\"object\",\"properties\":{\"anchor\":{\"const\":\"last_active_at\"},\"days\":"     \
    "{\"type\":\"integer\",\"minimum\":1,\"maximum\":365}},\"required\":[\"anchor\",\"days\"]}"

static const field_rule update_rules[] = {
    { .name = "name", .kind = FIELD_STR, .max = 256, STORE(name) },
    { .name = "expires_after",
      .kind = FIELD_OTHER,
      .take = take_days,
      .json_schema = DAYS_SCHEMA,
      STORE(expires_after_s),
      .help = "when it goes, counted from its last use; null: never" },
    { .name = "metadata",
      .kind = FIELD_OTHER,
      .take = docs_take_object,
      .json_schema = OBJECT_SCHEMA,
      STORE(metadata),
      .help = "at most 16 texts by name" },
};
static const body_schema update_body = { "UpdateVectorStoreRequest", update_rules,
                                         SL_COUNT_OF(update_rules) };

static const field_rule create_rules[] = {
    { .name = "description", .kind = FIELD_STR, .max = 2048, STORE(description) },
    { .name = "file_ids",
      .kind = FIELD_OTHER,
      .take = docs_take_texts,
      .json_schema = TEXTS_SCHEMA,
      STORE(file_ids),
      .help = "stored files to begin with" },
    { .name = "chunking_strategy",
      .kind = FIELD_OTHER,
      .take = docs_take_chunking,
      .json_schema = CHUNKING_SCHEMA,
      STORE(chunking),
      .help = "how documents are cut; auto: as the server is configured" },
};
static const body_schema create_body = { "CreateVectorStoreRequest", create_rules,
                                         SL_COUNT_OF(create_rules), .base = &update_body };

static sl_status create_store(api *a, http_exchange *x, const store_call *call, json_t **ret,
                              sl_err *err)
{
    const llm_docs *docs = &a->options.docs;
    llm_collection_spec spec = { .name = call->name,
                                 .description = call->description,
                                 .metadata = call->metadata,
                                 .expires_after_s = call->expires_after_s };
    docs_files files = { .list = call->file_ids };
    json_t *settings = NULL, *last = NULL;
    const char *id;
    sl_status status;

    if (json_array_size(call->file_ids) > FILES_AT_FIRST)
        return sl_fail(err, SL_EINVAL, "Invalid 'file_ids': at most %d", FILES_AT_FIRST);
    if (call->chunking.tokens)
        settings = json_pack("{s:i,s:i}", "chunk_tokens", call->chunking.tokens, "overlap_tokens",
                             call->chunking.overlap);
    spec.settings = settings;
    status = docs->ops->collection_create(docs->ctx, api_caller(x), &spec, ret, err);
    json_decref(settings);
    if (status != SL_OK || json_array_size(call->file_ids) == 0)
        return status;
    id = json_string_value(json_object_get(*ret, "id"));
    status = docs_submit_files(a, x, id, &files, &last, err);
    json_decref(last);
    if (status == SL_OK) { /* with the files counted */
        json_t *now = NULL;

        status = docs->ops->collection_get(docs->ctx, api_caller(x), id, &now, err);
        json_decref(*ret);
        *ret = now;
    } else {
        (void)docs->ops->collection_remove(docs->ctx, api_caller(x), id, NULL);
        json_decref(*ret);
        *ret = NULL;
    }
    return status;
}

static void run_create(api *a, http_exchange *x)
{
    store_call call = { 0 };
    json_t *root = NULL, *store = NULL;
    sl_err err = { 0 };
    sl_status status;
    sl_arena arena;

    if (!docs_has(x, a->options.docs.ops->collection_create != NULL) ||
        !jobs_read_body(a, x, &create_body, &call, &arena, &root))
        return;
    status = create_store(a, x, &call, &store, &err);
    respond_store(a, x, status, store, &err);
    json_decref(root);
    sl_arena_deinit(&arena);
}

static void run_update(api *a, http_exchange *x)
{
    const llm_docs *docs = &a->options.docs;
    store_call call = { .expires_after_s = -1 };
    llm_collection_spec spec = { 0 };
    json_t *root = NULL, *store = NULL;
    sl_err err = { 0 };
    sl_status status;
    sl_arena arena;

    if (!docs_has(x, docs->ops->collection_update != NULL) ||
        !jobs_read_body(a, x, &update_body, &call, &arena, &root))
        return;
    if (json_is_null(json_object_get(root, "expires_after")))
        call.expires_after_s = 0;
    spec = (llm_collection_spec){ .name = call.name,
                                  .metadata = call.metadata,
                                  .expires_after_s = call.expires_after_s };
    status = docs->ops->collection_update(docs->ctx, api_caller(x), http_param(x, "id"), &spec,
                                          &store, &err);
    respond_store(a, x, status, store, &err);
    json_decref(root);
    sl_arena_deinit(&arena);
}

static void run_get(api *a, http_exchange *x)
{
    docs_run_collection(a, x, http_param(x, "id"), store_json);
}

static void run_list(api *a, http_exchange *x)
{
    docs_run_collections(a, x, store_json);
}

static void run_delete(api *a, http_exchange *x)
{
    const llm_docs *docs = &a->options.docs;
    json_t *store = NULL;
    sl_err err = { 0 };
    sl_status status;

    if (!docs_has(x, docs->ops->collection_remove != NULL))
        return;
    status = docs->ops->collection_get(docs->ctx, api_caller(x), http_param(x, "id"), &store, &err);
    if (status == SL_OK)
        status = docs->ops->collection_remove(docs->ctx, api_caller(x), http_param(x, "id"), &err);
    jobs_respond(a, x, status,
                 status == SL_OK ? json_pack("{s:O,s:s,s:b}", "id", json_object_get(store, "id"),
                                             "object", "vector_store.deleted", "deleted", 1)
                                 : NULL,
                 &err);
    json_decref(store);
}

/* ---- search --------------------------------------------------------------------------------- */

typedef struct search_call {
    const json_t *query, *filters;
    int32_t max_results;
    double threshold;
    bool plain; /* no reranker */
} search_call;

#define SEARCH(member) IN_CALL(search_call, member)

static sl_status take_query(const json_t *v, const field_rule *rule, const field_target *to,
                            openai_error *err)
{
    json_t *item;
    size_t i;

    if (!json_is_string(v) && !json_is_array(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "Invalid type for '%s': expected a string or an array of strings, but "
                             "got %s",
                             rule->name, json_kind(v));
    if (json_is_array(v) && (json_array_size(v) == 0 || json_array_size(v) > QUERIES_MAX))
        return openai_refuse(err, rule->name, "invalid_value",
                             "Invalid '%s': expected 1 to %d strings", rule->name, QUERIES_MAX);
    json_array_foreach(v, i, item) if (!json_is_string(item)) return openai_refuse(
        err, rule->name, "invalid_type", "Invalid type for '%s[%zu]': expected a string",
        rule->name, i);
    memcpy((char *)to->call + rule->at, &v, sizeof v);
    return SL_OK;
}

static sl_status take_ranking(const json_t *v, const field_rule *rule, const field_target *to,
                              openai_error *err)
{
    search_call *call = to->call;
    const char *ranker = NULL;
    float threshold = -1;

    if (!json_is_object(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "Invalid type for '%s': expected an object, but got %s", rule->name,
                             json_kind(v));
    SL_TRY(body_nest(take_str(v, "ranker", &ranker, err), rule->name, err));
    SL_TRY(body_nest(take_num(v, "score_threshold", 0, 1, &threshold, err), rule->name, err));
    if (ranker && strcmp(ranker, "none") != 0 && strcmp(ranker, "auto") != 0 &&
        strcmp(ranker, "default-2024-11-15") != 0)
        return openai_refuse(err, "ranking_options.ranker", "invalid_value",
                             "Invalid 'ranking_options.ranker': expected none, auto or "
                             "default-2024-11-15");
    call->plain = ranker && strcmp(ranker, "none") == 0;
    call->threshold = (double)threshold;
    return SL_OK;
}

static const field_rule search_rules[] = {
    { .name = "query",
      .kind = FIELD_OTHER,
      .required = true,
      .take = take_query,
      .json_schema = "{\"oneOf\":[{\"type\":\"string\"}," TEXTS_SCHEMA "]}",
      SEARCH(query),
      .help = "a question, or several whose results are put together" },
    { .name = "max_num_results",
      .kind = FIELD_INT,
      .min = 1,
      .max = RESULTS_MAX,
      SEARCH(max_results),
      .help = "default 10" },
    { .name = "filters",
      .kind = FIELD_OTHER,
      .take = docs_take_object,
      .json_schema = OBJECT_SCHEMA,
      SEARCH(filters),
      .help = "comparisons of attributes (eq, ne, gt, gte, lt, lte, in, nin), joined by and, or" },
    { .name = "ranking_options",
      .kind = FIELD_OTHER,
      .take = take_ranking,
      .json_schema = "{\"type\":\"object\",\"properties\":{\"ranker\":{\"enum\":[\"none\","
                     "\"auto\",\"default-2024-11-15\"]},\"score_threshold\":{\"type\":\"number\","
                     "\"minimum\":0,\"maximum\":1}}}",
      SEARCH(threshold),
      .help = "the least score; ranker none: without the reranker" },
    { .name = "rewrite_query",
      .kind = FIELD_BOOL,
      .support = FIELD_NO_EFFECT,
      .help = "a question that stands alone is searched as it is" },
};
static const body_schema search_body = { "VectorStoreSearchRequest", search_rules,
                                         SL_COUNT_OF(search_rules) };

static json_t *attributes_or_empty(const json_t *attributes)
{
    return attributes ? json_incref((json_t *)(uintptr_t)attributes) : json_object();
}

/* Found passages to data, each once. */
static void take_passages(void *ctx, const llm_passage *p, size_t count)
{
    json_t *data = ctx, *old;

    for (size_t i = 0; i < count; i++) {
        bool is_known = false;
        size_t k;
        json_t *item;

        json_array_foreach(data, k, old) is_known |=
            json_integer_value(json_object_get(old, "begin")) == p[i].begin &&
            strcmp(json_string_value(json_object_get(old, "file_id")), p[i].document_id) == 0;
        if (is_known)
            continue;
        item = json_pack("{s:s,s:s,s:f,s:o,s:[{s:s,s:s}],s:I}", "file_id", p[i].document_id,
                         "filename", p[i].document, "score", p[i].score, "attributes",
                         attributes_or_empty(p[i].attributes), "content", "type", "text", "text",
                         p[i].text, "begin", (json_int_t)p[i].begin);
        json_array_append_new(data, item);
    }
}

static int by_score(const void *a, const void *b)
{
    double x = json_real_value(json_object_get(*(json_t *const *)a, "score"));
    double y = json_real_value(json_object_get(*(json_t *const *)b, "score"));

    return (x < y) - (x > y);
}

/* The best of what several queries found; takes data. */
static json_t *best_of(json_t *data, size_t max)
{
    size_t count = json_array_size(data);
    json_t **items = sl_calloc(count + 1, sizeof(json_t *));
    json_t *ret = items ? json_array() : NULL;

    for (size_t i = 0; i < count && items; i++) {
        items[i] = json_array_get(data, i);
        json_object_del(items[i], "begin");
    }
    if (items && count > 1)
        qsort(items, count, sizeof *items, by_score);
    for (size_t i = 0; i < SL_MIN(count, max) && items; i++)
        json_array_append(ret, items[i]);
    sl_free(items);
    json_decref(data);
    return ret;
}

static sl_status search(api *a, http_exchange *x, const search_call *call, json_t **ret,
                        sl_err *err)
{
    const llm_docs *docs = &a->options.docs;
    llm_docs_search s = { .collection = http_param(x, "id"),
                          .top_k = call->max_results,
                          .mode = call->plain ? LLM_DOCS_FUSED : LLM_DOCS_BEST,
                          .filters = call->filters,
                          .threshold = call->threshold,
                          .caller = api_caller(x) };
    bool many = json_is_array(call->query);
    size_t count = many ? json_array_size(call->query) : 1;
    json_t *data = json_array(), *queries = json_array();
    sl_status status = SL_OK;

    for (size_t i = 0; i < count && status == SL_OK; i++) {
        s.question = json_string_value(many ? json_array_get(call->query, i) : call->query);
        json_array_append_new(queries, json_string(s.question));
        status = docs->ops->search(docs->ctx, &s, take_passages, data, err);
    }
    data = best_of(data, (size_t)call->max_results);
    if (status == SL_OK &&
        !(*ret = json_pack("{s:s,s:O,s:O,s:b,s:n}", "object", "vector_store.search_results.page",
                           "search_query", queries, "data", data, "has_more", 0, "next_page")))
        status = sl_fail(err, SL_ENOMEM, "out of memory for the results");
    json_decref(queries);
    json_decref(data);
    return status;
}

static void run_search(api *a, http_exchange *x)
{
    search_call call = { .max_results = 10, .threshold = -1 };
    json_t *root = NULL, *page = NULL;
    sl_err err = { 0 };
    sl_status status;
    sl_arena arena;

    if (!docs_has(x, a->options.docs.ops->search != NULL) ||
        !jobs_read_body(a, x, &search_body, &call, &arena, &root))
        return;
    status = search(a, x, &call, &page, &err);
    jobs_respond(a, x, status, page, &err);
    json_decref(root);
    sl_arena_deinit(&arena);
}

/* ---- routes --------------------------------------------------------------------------------- */

static void on_create(api *a, http_exchange *x)
{
    docs_run_slow(a, x, run_create); /* with up to 2,000 files */
}

static void on_update(api *a, http_exchange *x)
{
    docs_run_later(a, x, run_update);
}

static void on_get(api *a, http_exchange *x)
{
    docs_run_later(a, x, run_get);
}

static void on_list(api *a, http_exchange *x)
{
    docs_run_later(a, x, run_list);
}

static void on_delete(api *a, http_exchange *x)
{
    docs_run_later(a, x, run_delete);
}

static void on_search(api *a, http_exchange *x)
{
    docs_run_later(a, x, run_search);
}

static const api_endpoint list[] = {
    { "POST", "/v1/vector_stores", on_create, LLM_MAY_DOCS_WRITE,
      "Make a vector store: a collection of documents", &create_body },
    { "GET", "/v1/vector_stores", on_list, LLM_MAY_DOCS_READ,
      "The vector stores there are; limit, order, after, before" },
    { "GET", "/v1/vector_stores/{id}", on_get, LLM_MAY_DOCS_READ, "What a vector store is" },
    { "POST", "/v1/vector_stores/{id}", on_update, LLM_MAY_DOCS_WRITE, "Change a vector store",
      &update_body },
    { "DELETE", "/v1/vector_stores/{id}", on_delete, LLM_MAY_DOCS_WRITE,
      "Remove a vector store with its documents" },
    { "POST", "/v1/vector_stores/{id}/search", on_search, LLM_MAY_DOCS_READ,
      "The passages that are about a question", &search_body },
};
const api_endpoints vector_store_endpoints = { &openai_dialect, "Vector stores", list,
                                               SL_COUNT_OF(list) };
