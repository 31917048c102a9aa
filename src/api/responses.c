/* responses.c - OpenAI's /v1/responses: answers that are kept, and conversations that go on from
 * them. What asks the keeper, or counts tokens, runs on the api's worker pool. */
#include "api/responses.h"

#include <stdio.h>
#include <stdlib.h>

#include "api/api_int.h"
#include "api/fields.h"
#include "api/tokenize.h"

#define LIST_DEFAULT 20 /* OpenAI's */
#define LIST_MAX     100

static const char *owner_of(const http_exchange *x)
{
    const llm_caller *c = api_caller(x);

    return c ? c->id : "";
}

static void respond_json(api *a, http_exchange *x, const json_t *root)
{
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

    if (text)
        http_respond(x, 200, "application/json", text, strlen(text));
    else
        api_respond_status(a, x, &(sl_err){ SL_ENOMEM, "Out of memory" });
    free(text); /* jansson's */
}

/* ---- what is kept -------------------------------------------------------------------------- */

/* The record of a response of this owner; the caller's. */
static sl_status load(const api_kept *k, const char *owner, const char *id, json_t **ret,
                      sl_err *err)
{
    json_t *root = NULL;
    sl_status status = SL_ENOTFOUND;
    sl_buf b;

    sl_buf_init(&b, SL_RESPONSE_BYTES_MAX);
    if (k->ops)
        status = k->ops->get(k->ctx, owner, id, &b, err);
    if (status == SL_OK && !(root = json_loadb(sl_buf_str(&b), b.len, 0, NULL)))
        status = sl_fail(err, SL_EINTERNAL, "the kept response is damaged");
    if (status == SL_ENOTFOUND)
        sl_fail(err, status, "Response with id '%.64s' not found.", id);
    if (status == SL_OK)
        *ret = root;
    sl_buf_deinit(&b);
    return status;
}

/* The record that the path names, or NULL: answered. */
static json_t *load_or_answer(api *a, http_exchange *x)
{
    json_t *record = NULL;
    sl_err err = { .status = SL_EINTERNAL };

    err.status = load(&a->options.responses, owner_of(x), http_param(x, "id"), &record, &err);
    if (err.status == SL_OK)
        return record;
    api_respond_status(a, x, &err);
    return NULL;
}

static void run_get(api *a, http_exchange *x)
{
    const char *stream = http_query(x, "stream");
    openai_error e = { 0 };
    json_t *record;

    if (stream && strcmp(stream, "true") == 0) {
        openai_refuse(&e, "stream", "unsupported_value",
                      "Only responses made in the background can be streamed again, and there are "
                      "none here");
        api_respond_error(a, x, &e);
        return;
    }
    record = load_or_answer(a, x);
    if (record)
        respond_json(a, x, json_object_get(record, "response"));
    json_decref(record);
}

static void run_delete(api *a, http_exchange *x)
{
    const api_kept *k = &a->options.responses;
    const char *id = http_param(x, "id");
    sl_err err = { .status = SL_ENOTFOUND };
    json_t *answer;

    if (k->ops)
        err.status = k->ops->remove(k->ctx, owner_of(x), id, &err);
    if (err.status == SL_ENOTFOUND)
        sl_fail(&err, SL_ENOTFOUND, "Response with id '%.64s' not found.", id);
    if (err.status != SL_OK) {
        api_respond_status(a, x, &err);
        return;
    }
    answer = json_pack("{s:s, s:s, s:b}", "id", id, "object", "response", "deleted", 1);
    respond_json(a, x, answer);
    json_decref(answer);
}

static void run_cancel(api *a, http_exchange *x)
{
    json_t *record = load_or_answer(a, x);
    openai_error e = { 0 };

    if (!record)
        return;
    openai_refuse(&e, NULL, NULL,
                  "Only responses made in the background can be cancelled, and there are none "
                  "here; close the connection of one that runs");
    api_respond_error(a, x, &e);
    json_decref(record);
}

/* ---- input items --------------------------------------------------------------------------- */

typedef struct page {
    size_t limit;
    bool newest_first;
    const char *after; /* NULL: from the beginning */
} page;

static sl_status read_page(const http_exchange *x, page *ret, openai_error *err)
{
    const char *limit = http_query(x, "limit"), *order = http_query(x, "order");
    char *end = NULL;
    long n = limit ? strtol(limit, &end, 10) : LIST_DEFAULT;

    if (limit && (!*limit || *end || n < 1 || n > LIST_MAX))
        return openai_refuse(err, "limit", "invalid_value", "Invalid 'limit': expected 1 to %d",
                             LIST_MAX);
    if (order && strcmp(order, "asc") != 0 && strcmp(order, "desc") != 0)
        return openai_refuse(err, "order", "invalid_value",
                             "Invalid 'order': expected \"asc\" or \"desc\"");
    *ret = (page){ (size_t)n, !order || strcmp(order, "desc") == 0, http_query(x, "after") };
    return SL_OK;
}

static const json_t *id_at(const json_t *items, size_t i)
{
    return json_object_get(json_array_get(items, i), "id");
}

/* One page of the items; the caller's, NULL when out of memory. */
static json_t *make_page(const json_t *items, const page *p)
{
    size_t count = json_array_size(items), from = 0;
    json_t *data = json_array(), *answer;

    for (size_t i = 0; p->after && i < count; i++) {
        const char *id = json_string_value(id_at(items, p->newest_first ? count - 1 - i : i));

        if (id && strcmp(id, p->after) == 0)
            from = i + 1;
    }
    for (size_t i = from; i < count && json_array_size(data) < p->limit; i++)
        json_array_append(data, json_array_get(items, p->newest_first ? count - 1 - i : i));
    answer = json_pack("{s:s, s:O?, s:O?, s:O?, s:b}", "object", "list", "data", data, "first_id",
                       id_at(data, 0), "last_id", id_at(data, json_array_size(data) - 1),
                       "has_more", from + json_array_size(data) < count);
    json_decref(data);
    return answer;
}

static void run_items(api *a, http_exchange *x)
{
    openai_error e = { 0 };
    json_t *record, *answer;
    page p = { 0 };

    if (read_page(x, &p, &e) != SL_OK) {
        api_respond_error(a, x, &e);
        return;
    }
    record = load_or_answer(a, x);
    if (!record)
        return;
    answer = make_page(json_object_get(record, "input"), &p);
    respond_json(a, x, answer);
    json_decref(answer);
    json_decref(record);
}

/* ---- creating ------------------------------------------------------------------------------ */

/* Puts the previous conversation in front. */
static sl_status take_previous(const api_kept *kept, const char *owner, responses_call *call,
                               openai_error *e)
{
    sl_err err = { 0 };
    json_t *record = NULL;
    sl_status status;

    if (!call->previous_id)
        return SL_OK;
    status = load(kept, owner, call->previous_id, &record, &err);
    if (status == SL_ENOTFOUND)
        return openai_refuse(e, "previous_response_id", "previous_response_not_found",
                             "Previous response with id '%.64s' not found.", call->previous_id);
    if (status != SL_OK) {
        openai_error_from(&err, LLM_CHAT, e);
        return status;
    }
    status = responses_continue(call, record, e);
    json_decref(record);
    return status;
}

sl_status responses_prepare(const llm_chain *chain, const api_kept *kept, const char *owner,
                            responses_call *call, const char **ret_model, openai_error *e)
{
    llm_model_info info;

    SL_TRY(take_previous(kept, owner, call, e));
    *ret_model = chain_model(chain, call->base.req, &info);
    return openai_settle(&call->base, owner, e);
}

static sl_status prepare(api *a, http_exchange *x, responses_call *call, const char **ret_model,
                         openai_error *e)
{
    return responses_prepare(a->options.chain, &a->options.responses, owner_of(x), call, ret_model,
                             e);
}

/* Parses the body, or answers. */
static bool parse_or_answer(api *a, http_exchange *x, responses_call *ret)
{
    sl_span body = http_body(x);
    openai_error e = { 0 };

    if (responses_parse((const char *)body.ptr, body.len, ret, &e) == SL_OK)
        return true;
    api_respond_error(a, x, &e);
    return false;
}

static void start(api *a, http_exchange *x, responses_call *call)
{
    openai_error e = { 0 };
    const char *model;
    llm_request *req;
    encoder *enc;

    if (prepare(a, x, call, &model, &e) != SL_OK) {
        api_respond_error(a, x, &e);
        return;
    }
    enc = responses_encoder_create(call, model, sl_clock_wall_ms() / 1000, a->options.responses,
                                   owner_of(x));
    req = call->base.req;
    call->base.req = NULL; /* the answer's from now on */
    answer_begin(a, x, req, enc, model);
}

static void run_create(api *a, http_exchange *x)
{
    responses_call call;

    if (!parse_or_answer(a, x, &call))
        return;
    start(a, x, &call);
    responses_call_deinit(&call);
}

/* Parsing is quick; only what blocks goes to the pool, and parses there once more. */
static void create(api *a, http_exchange *x)
{
    responses_call call;

    if (!parse_or_answer(a, x, &call))
        return;
    if (call.previous_id)
        api_run_later(a, x, run_create);
    else
        start(a, x, &call);
    responses_call_deinit(&call);
}

static void run_count(api *a, http_exchange *x)
{
    openai_error e = { 0 };
    sl_err err = { 0 };
    responses_call call;
    const char *model;
    size_t count = 0;
    json_t *answer;

    if (!parse_or_answer(a, x, &call))
        return;
    if (prepare(a, x, &call, &model, &e) != SL_OK) {
        api_respond_error(a, x, &e);
        responses_call_deinit(&call);
        return;
    }
    err.status = tokens_of_request(a, x, call.base.req, NULL, &count, &err);
    responses_call_deinit(&call);
    if (err.status != SL_OK) {
        openai_error_from(&err, LLM_CHAT, &e);
        api_respond_error(a, x, &e);
        return;
    }
    answer = json_pack("{s:s, s:I}", "object", "response.input_tokens", "input_tokens",
                       (json_int_t)count);
    respond_json(a, x, answer);
    json_decref(answer);
}

#define LATER(name)                                                                                \
    static void name(api *a, http_exchange *x)                                                     \
    {                                                                                              \
        api_run_later(a, x, run_##name);                                                           \
    }
LATER(get)
LATER(delete)
LATER(cancel)
LATER(items)
LATER(count)

static const api_endpoint list[] = {
    { "POST", "/v1/responses", create, LLM_MAY_GENERATE, "Answer, and keep the answer",
      &responses_body, .streams = true },
    { "POST", "/v1/responses/input_tokens", count, LLM_MAY_GENERATE,
      "How many tokens the input of a response has", &responses_body },
    { "GET", "/v1/responses/{id}", get, LLM_MAY_GENERATE, "A kept response of one's own" },
    { "DELETE", "/v1/responses/{id}", delete, LLM_MAY_GENERATE, "Forget a kept response" },
    { "POST", "/v1/responses/{id}/cancel", cancel, LLM_MAY_GENERATE,
      "Refused: there are no responses in the background" },
    { "GET", "/v1/responses/{id}/input_items", items, LLM_MAY_GENERATE,
      "What a kept response was asked" },
};
const api_endpoints responses_endpoints = { &openai_dialect, "OpenAI Responses", list,
                                            SL_COUNT_OF(list) };
