/* docs.c - what the routes of collections, documents and vector stores share. */
#include "api/docs.h"

#include <stdlib.h>

#define NO_DOCS_MESSAGE "This server runs without a document service"

bool docs_has(http_exchange *x, bool has)
{
    if (!has)
        http_respond_error(x, 501, "invalid_request_error", NULL, "not_implemented",
                           NO_DOCS_MESSAGE);
    return has;
}

void docs_run_later(api *a, http_exchange *x, api_task_fn fn)
{
    if (docs_has(x, a->options.docs.ops != NULL))
        api_run_later(a, x, fn);
}

void docs_run_slow(api *a, http_exchange *x, api_task_fn fn)
{
    if (docs_has(x, a->options.docs.ops != NULL) &&
        !(a->slow_pool && api_pool_push(a->slow_pool, fn, x)))
        api_run_later(a, x, fn);
}

/* ---- lists ---------------------------------------------------------------------------------- */

static sl_status read_page(const http_exchange *x, const char *status_name, llm_docs_page *ret,
                           openai_error *e)
{
    static const char *const known[] = { "in_progress", "completed", "failed", "cancelled" };
    const char *limit = http_query(x, "limit"), *order = http_query(x, "order");
    const char *status = status_name ? http_query(x, status_name) : NULL;
    bool is_known = !status;
    char *end = NULL;
    long n = limit ? strtol(limit, &end, 10) : DOCS_LIST_DEFAULT;

    if (limit && (end == limit || *end || n < 1 || n > DOCS_LIST_MAX))
        return openai_refuse(e, "limit", "invalid_value", "Invalid 'limit': expected 1 to %d",
                             DOCS_LIST_MAX);
    if (order && strcmp(order, "asc") != 0 && strcmp(order, "desc") != 0)
        return openai_refuse(e, "order", "invalid_value", "Invalid 'order': expected asc or desc");
    for (size_t i = 0; status && i < SL_COUNT_OF(known); i++)
        is_known = is_known || strcmp(status, known[i]) == 0;
    if (!is_known)
        return openai_refuse(e, status_name, "invalid_value",
                             "Invalid '%s': expected in_progress, completed, failed or cancelled",
                             status_name);
    *ret = (llm_docs_page){ .after = http_query(x, "after"),
                            .before = http_query(x, "before"),
                            .limit = (int)n,
                            .ascending = order && strcmp(order, "asc") == 0,
                            .status = status };
    return SL_OK;
}

bool docs_read_page(api *a, http_exchange *x, const char *status_name, llm_docs_page *ret)
{
    openai_error e = { 0 };

    if (read_page(x, status_name, ret, &e) == SL_OK)
        return true;
    api_respond_error(a, x, &e);
    return false;
}

json_t *docs_list_json(json_t *list, json_t *(*map)(const json_t *item))
{
    json_t *data = json_array(), *item, *ret;
    size_t i, count;

    json_array_foreach(json_object_get(list, "data"), i, item)
        json_array_append_new(data, map ? map(item) : json_incref(item));
    count = json_array_size(data);
    ret = json_pack("{s:s,s:O,s:O?,s:O?,s:b}", "object", "list", "data", data, "first_id",
                    json_object_get(json_array_get(data, 0), "id"), "last_id",
                    json_object_get(json_array_get(data, count ? count - 1 : 0), "id"), "has_more",
                    json_is_true(json_object_get(list, "has_more")));
    json_decref(data);
    json_decref(list);
    return ret;
}

void docs_run_collection(api *a, http_exchange *x, const char *collection,
                         json_t *(*map)(const json_t *item))
{
    const llm_docs *docs = &a->options.docs;
    json_t *c = NULL;
    sl_err err = { 0 };
    sl_status status;

    if (!docs_has(x, docs->ops->collection_get != NULL))
        return;
    status = docs->ops->collection_get(docs->ctx, api_caller(x), collection, &c, &err);
    jobs_respond(a, x, status, status == SL_OK ? map(c) : NULL, &err);
    json_decref(c);
}

void docs_run_collections(api *a, http_exchange *x, json_t *(*map)(const json_t *item))
{
    const llm_docs *docs = &a->options.docs;
    llm_docs_page page;
    json_t *list = NULL;
    sl_err err = { 0 };
    sl_status status;

    if (!docs_has(x, docs->ops->collection_list != NULL) || !docs_read_page(a, x, NULL, &page))
        return;
    status = docs->ops->collection_list(docs->ctx, api_caller(x), &page, &list, &err);
    jobs_respond(a, x, status, status == SL_OK ? docs_list_json(list, map) : NULL, &err);
}

/* ---- fields --------------------------------------------------------------------------------- */

static sl_status refuse_type(const field_rule *rule, const json_t *v, const char *wanted,
                             openai_error *err)
{
    return openai_refuse(err, rule->name, "invalid_type",
                         "Invalid type for '%s': expected %s, but got %s", rule->name, wanted,
                         json_kind(v));
}

sl_status docs_take_object(const json_t *v, const field_rule *rule, const field_target *to,
                           openai_error *err)
{
    if (!json_is_object(v))
        return refuse_type(rule, v, "an object", err);
    memcpy((char *)to->call + rule->at, &v, sizeof v);
    return SL_OK;
}

sl_status docs_take_texts(const json_t *v, const field_rule *rule, const field_target *to,
                          openai_error *err)
{
    json_t *item;
    size_t i;

    if (!json_is_array(v))
        return refuse_type(rule, v, "an array of strings", err);
    json_array_foreach(v, i, item) if (!json_is_string(item)) return refuse_type(
        rule, item, "an array of strings", err);
    memcpy((char *)to->call + rule->at, &v, sizeof v);
    return SL_OK;
}

static sl_status read_static(const json_t *v, docs_chunking *ret, openai_error *err)
{
    int64_t tokens = 0, overlap = -1;

    if (!json_is_object(v))
        return openai_refuse(err, "static", "missing_required_parameter",
                             "Missing required parameter: 'static' (an object)");
    SL_TRY(take_int(v, "max_chunk_size_tokens", 100, 4096, &tokens, err));
    SL_TRY(take_int(v, "chunk_overlap_tokens", 0, 4096, &overlap, err));
    if (tokens == 0 || overlap < 0)
        return openai_refuse(err, "static", "missing_required_parameter",
                             "Missing required parameter: 'max_chunk_size_tokens' and "
                             "'chunk_overlap_tokens'");
    if (overlap * 2 > tokens)
        return openai_refuse(err, "static.chunk_overlap_tokens", "invalid_value",
                             "Invalid 'chunk_overlap_tokens': at most half of "
                             "'max_chunk_size_tokens'");
    *ret = (docs_chunking){ (int32_t)tokens, (int32_t)overlap };
    return SL_OK;
}

sl_status docs_take_chunking(const json_t *v, const field_rule *rule, const field_target *to,
                             openai_error *err)
{
    const char *type = NULL;
    docs_chunking c = { 0 };

    if (!json_is_object(v))
        return refuse_type(rule, v, "an object", err);
    SL_TRY(body_nest(take_str(v, "type", &type, err), rule->name, err));
    if (!type || (strcmp(type, "auto") != 0 && strcmp(type, "static") != 0))
        return openai_refuse(err, rule->name, "invalid_value",
                             "Invalid '%s.type': expected auto or static", rule->name);
    if (strcmp(type, "static") == 0)
        SL_TRY(body_nest(read_static(field(v, "static"), &c, err), rule->name, err));
    memcpy((char *)to->call + rule->at, &c, sizeof c);
    return SL_OK;
}
