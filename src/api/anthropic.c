/* anthropic.c - the handlers of Anthropic's routes, and its view of the models. */
#include "api/anthropic.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "api/api_int.h"
#include "api/tokenize.h"

#define PAGE_DEFAULT 20
#define PAGE_MAX     1000

static void respond_error(const api *a, http_exchange *x, const openai_error *e)
{
    api_respond_error_as(a, x, e, &anthropic_dialect);
}

/* ---- messages ------------------------------------------------------------------------------ */

/* Versions are dates; a missing one is taken as the one that is spoken here, as other local servers
 * do. Answers kept their shapes since 2023, so newer dates are taken too. False: answered. */
static bool check_version(const api *a, http_exchange *x)
{
    static const char shape[] = "dddd-dd-dd";
    const char *version = http_header(x, "anthropic-version");
    openai_error e = { 0 };
    size_t i = 0;

    if (!version)
        return true;
    while (shape[i] &&
           (shape[i] == 'd' ? version[i] >= '0' && version[i] <= '9' : version[i] == shape[i]))
        i++;
    if (!shape[i] && !version[i])
        return true;
    openai_refuse(&e, NULL, "invalid_value",
                  "anthropic-version: \"%.40s\" is no version; \"2023-06-01\" is one", version);
    respond_error(a, x, &e);
    return false;
}

/* Parses the body; false: answered. */
static bool parse(const api *a, http_exchange *x, bool count_only, anthropic_call *ret)
{
    sl_span body = http_body(x);
    openai_error error = { 0 };

    if (!check_version(a, x))
        return false;
    if (anthropic_parse(count_only, (const char *)body.ptr, body.len, ret, &error) == SL_OK)
        return true;
    respond_error(a, x, &error);
    return false;
}

static void messages(api *a, http_exchange *x)
{
    llm_model_info info;
    anthropic_call call;
    const char *model;

    if (!parse(a, x, false, &call))
        return;
    model = answer_model(a, call.req, &info);
    answer_begin(a, x, call.req, anthropic_encoder_create(&call, model, http_request_id(x)), model);
}

static void count_tokens(api *a, http_exchange *x)
{
    openai_error error = { 0 };
    sl_err err = { 0 };
    anthropic_call call;
    size_t count = 0;
    char text[64];
    int len;

    if (!parse(a, x, true, &call))
        return;
    err.status = tokens_of_request(a, x, call.req, NULL, &count, &err);
    llm_request_destroy(call.req);
    if (err.status != SL_OK) {
        openai_error_from(&err, LLM_CHAT, &error);
        respond_error(a, x, &error);
        return;
    }
    len = snprintf(text, sizeof text, "{\"input_tokens\":%zu}", count);
    http_respond(x, 200, "application/json", text, (size_t)len);
}

/* ---- models -------------------------------------------------------------------------------- */

static void put_model(const llm_route *r, sl_buf *out)
{
    llm_model_info info = { 0 };
    char when[40] = "";
    time_t created;
    struct tm tm;

    r->backend.ops->info(r->backend.ctx, &info);
    created = (time_t)info.created_s;
    if (gmtime_r(&created, &tm))
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    sl_buf_puts(out, "{\"type\":\"model\",\"id\":");
    sl_buf_put_json(out, r->name, strlen(r->name));
    sl_buf_puts(out, ",\"display_name\":");
    sl_buf_put_json(out, info.name, strlen(info.name));
    sl_buf_printf(out,
                  ",\"created_at\":\"%s\",\"lifecycle\":\"active\",\"max_input_tokens\":%lld,"
                  "\"max_tokens\":%lld}",
                  when, (long long)info.context_tokens, (long long)info.context_tokens);
}

/* The place of a name among `count` routes, or -1. */
static int find_name(const llm_route *const *list, int count, const char *name)
{
    for (int i = 0; name && i < count; i++)
        if (strcmp(list[i]->name, name) == 0)
            return i;
    return -1;
}

static void put_end(const char *name, const llm_route *r, sl_buf *out)
{
    sl_buf_printf(out, ",\"%s\":", name);
    if (r)
        sl_buf_put_json(out, r->name, strlen(r->name));
    else
        sl_buf_puts(out, "null");
}

static void put_page(const llm_route *const *list, int from, int end, bool has_more, sl_buf *out)
{
    sl_buf_puts(out, "{\"data\":[");
    for (int i = from; i < end; i++) {
        if (i > from)
            sl_buf_putc(out, ',');
        put_model(list[i], out);
    }
    sl_buf_printf(out, "],\"has_more\":%s", has_more ? "true" : "false");
    put_end("first_id", from < end ? list[from] : NULL, out);
    put_end("last_id", from < end ? list[end - 1] : NULL, out);
    sl_buf_putc(out, '}');
}

/* The page's size; false: answered. */
static bool take_limit(const api *a, http_exchange *x, int *ret)
{
    const char *text = http_query(x, "limit");
    openai_error e = { 0 };
    char *end;
    long n;

    *ret = PAGE_DEFAULT;
    if (!text)
        return true;
    n = strtol(text, &end, 10);
    if (*text && !*end && n >= 1 && n <= PAGE_MAX) {
        *ret = (int)n;
        return true;
    }
    openai_refuse(&e, "limit", "invalid_value", "Input should be 1 to %d", PAGE_MAX);
    respond_error(a, x, &e);
    return false;
}

void anthropic_models_list(api *a, http_exchange *x)
{
    const llm_chain *chain = a->options.chain;
    const char *after = http_query(x, "after_id"), *before = http_query(x, "before_id");
    const llm_route *list[LLM_MODELS_MAX];
    int count = 0, limit, from, end;
    size_t route_count;
    sl_buf b;

    if (!take_limit(a, x, &limit))
        return;
    route_count = atomic_load(&chain->route_count);
    for (size_t i = 0; i < route_count; i++)
        if (!chain->routes[i].is_alias && !atomic_load(&chain->routes[i].hidden) &&
            llm_caller_may_use(api_caller(x), chain->routes[i].name))
            list[count++] = &chain->routes[i];
    from = after ? find_name(list, count, after) + 1 : 0;
    end = SL_MIN(from + limit, count);
    if (before) { /* the page that ends right before it */
        end = SL_MAX(find_name(list, count, before), 0);
        from = SL_MAX(end - limit, 0);
    }
    sl_buf_init(&b, SL_MIB);
    put_page(list, from, end, before ? from > 0 : end < count, &b);
    http_respond_buf(x, 200, "application/json", &b);
}

void anthropic_models_get(api *a, http_exchange *x)
{
    const char *name = http_param(x, "model");
    const llm_route *r = llm_chain_route(a->options.chain, name);
    openai_error e = { 0 };
    sl_buf b;

    if (r && !atomic_load(&r->hidden)) {
        sl_buf_init(&b, SL_MIB);
        put_model(r, &b);
        http_respond_buf(x, 200, "application/json", &b);
        return;
    }
    openai_refuse(&e, "model", "model_not_found", "The model '%.200s' does not exist", name);
    e.http = 404;
    respond_error(a, x, &e);
}

static const api_endpoint list[] = {
    { "POST", "/v1/messages", messages, LLM_MAY_GENERATE, "Answer a conversation, Anthropic's way",
      &anthropic_message_body, .streams = true },
    { "POST", "/v1/messages/count_tokens", count_tokens, LLM_MAY_GENERATE,
      "The tokens that a conversation's prompt has", &anthropic_count_body },
};
const api_endpoints anthropic_endpoints = { &anthropic_dialect, "Anthropic", list,
                                            SL_COUNT_OF(list) };
