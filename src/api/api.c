/* api.c - the routes, the key check in front of them, and the small ones: health, readiness,
 * metrics, version, hello. */
#include "api/api_int.h"

#include <stdio.h>

#define HELLO                                                                                      \
    "Sluice %s - a language model server with OpenAI's API\n\n"                                    \
    "  curl http://%s/v1/models\n"                                                                 \
    "  curl http://%s/v1/chat/completions -H 'Content-Type: application/json' \\\n"                \
    "       -d '{\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}]}'\n\n"                  \
    "Python:  OpenAI(base_url=\"http://%s/v1\", api_key=\"any\")\n\n"                              \
    "Routes:  /v1/chat/completions  /v1/completions  /v1/embeddings  /v1/models\n"                 \
    "         /completion  /tokenize  /detokenize  /apply-template  /props\n"                      \
    "         /v1/rag/documents  /v1/rag/query  /health  /ready  /metrics  /version\n"

/* ---- errors -------------------------------------------------------------------------------- */

void api_respond_error_as(const api *a, http_exchange *x, const openai_error *e, put_error_fn put)
{
    char text[24];
    sl_buf b;

    if (e->http == 503 || e->http == 429) {
        snprintf(text, sizeof text, "%d", a->options.retry_after_s);
        http_set_header(x, "Retry-After", text);
        snprintf(text, sizeof text, "%d", a->options.retry_after_s * 1000);
        http_set_header(x, "retry-after-ms", text);
    }
    sl_buf_init(&b, 64 * SL_KIB);
    put(&b, e);
    http_respond(x, e->http, "application/json", sl_buf_str(&b), b.len);
    sl_buf_deinit(&b);
}

void api_respond_error(const api *a, http_exchange *x, const openai_error *e)
{
    api_respond_error_as(a, x, e, openai_put_error);
}

void api_respond_status(const api *a, http_exchange *x, const sl_err *err)
{
    openai_error e;

    openai_error_from(err, LLM_CHAT, &e);
    if (err->status == SL_ENOTFOUND) {
        e.code = "not_found";
        e.param[0] = '\0';
    }
    api_respond_error(a, x, &e);
}

/* ---- small routes -------------------------------------------------------------------------- */

static void health(api *a, http_exchange *x)
{
    static const char ok[] = "{\"status\":\"ok\"}";

    http_respond(x, 200, "application/json", ok, sizeof ok - 1);
}

static void ready(api *a, http_exchange *x)
{
    static const char yes[] = "{\"status\":\"ready\"}";

    if (atomic_load(&a->ready)) {
        http_respond(x, 200, "application/json", yes, sizeof yes - 1);
        return;
    }
    http_set_header(x, "Retry-After", "1");
    http_respond_error(x, 503, "server_error", NULL, "not_ready", "The server is not ready");
}

static void metrics(api *a, http_exchange *x)
{
    sl_buf b;

    sl_buf_init(&b, 64 * SL_MIB);
    metric_render(a->metrics, &b);
    http_respond(x, 200, METRIC_CONTENT_TYPE, sl_buf_str(&b), b.len);
    sl_buf_deinit(&b);
}

static void version(api *a, http_exchange *x)
{
    sl_buf b;

    sl_buf_init(&b, 4 * SL_KIB);
    sl_buf_puts(&b, "{\"version\":");
    sl_buf_put_json(&b, a->options.version, strlen(a->options.version));
    sl_buf_puts(&b, "}");
    http_respond(x, 200, "application/json", sl_buf_str(&b), b.len);
    sl_buf_deinit(&b);
}

static void hello(api *a, http_exchange *x)
{
    const char *host = http_header(x, "host");
    sl_buf b;

    host = host && strlen(host) < 256 ? host : "localhost";
    sl_buf_init(&b, 8 * SL_KIB);
    sl_buf_printf(&b, HELLO, a->options.version, host, host, host);
    http_respond(x, 200, "text/plain; charset=utf-8", sl_buf_str(&b), b.len);
    sl_buf_deinit(&b);
}

/* ---- routing ------------------------------------------------------------------------------- */

void api_user_of(const api *a, const http_exchange *x, char ret_user[API_USER_BYTES])
{
    ret_user[0] = '\0';
    if (a->options.auth)
        a->options.auth(a->options.auth_ctx, http_header(x, "authorization"),
                        http_header(x, "x-api-key"), ret_user);
}

/* True when the caller may go on; otherwise answered with 401. */
static bool check_key(api *a, http_exchange *x)
{
    char user[API_USER_BYTES];
    int verdict;

    if (!a->options.auth)
        return true;
    verdict = a->options.auth(a->options.auth_ctx, http_header(x, "authorization"),
                              http_header(x, "x-api-key"), user);
    if (verdict == 0)
        return true;
    http_set_header(x, "WWW-Authenticate", "Bearer");
    if (verdict == 1)
        http_respond_error(x, 401, "invalid_request_error", NULL, NULL,
                           "You didn't provide an API key. Send it in an Authorization header: "
                           "Authorization: Bearer YOUR_KEY");
    else
        http_respond_error(x, 401, "invalid_request_error", NULL, "invalid_api_key",
                           "Incorrect API key provided");
    return false;
}

static void dispatch(void *ctx, http_exchange *x)
{
    const api_route *r = ctx;

    metric_add(r->a->m.in_flight, 1);
    if (r->open || check_key(r->a, x))
        r->fn(r->a, x);
}

static const struct {
    const char *method, *pattern;
    void (*fn)(api *a, http_exchange *x);
    bool open;
} route_table[] = {
    { "POST", "/v1/chat/completions", openai_chat, false },
    { "POST", "/v1/completions", openai_completions, false },
    { "POST", "/v1/embeddings", openai_embeddings, false },
    { "POST", "/completion", llamacpp_completion, false },
    { "POST", "/completions", llamacpp_completion, false },
    { "POST", "/tokenize", llamacpp_tokenize, false },
    { "POST", "/detokenize", llamacpp_detokenize, false },
    { "POST", "/apply-template", llamacpp_apply_template, false },
    { "GET", "/props", llamacpp_props, false },
    { "GET", "/slots", llamacpp_slots, false },
    { "GET", "/v1/models", models_list, false },
    { "GET", "/v1/models/{model...}", models_get, false },
    { "POST", "/v1/rag/documents", rag_add, false },
    { "GET", "/v1/rag/documents", rag_list, false },
    { "DELETE", "/v1/rag/documents/{name...}", rag_remove, false },
    { "POST", "/v1/rag/query", rag_query, false },
    { "GET", "/metrics", metrics, false },
    { "GET", "/version", version, false },
    { "GET", "/health", health, true },
    { "GET", "/ready", ready, true },
    { "GET", "/", hello, true },
};
_Static_assert(SL_COUNT_OF(route_table) <= API_ROUTES_MAX, "routes fit");

/* ---- life ---------------------------------------------------------------------------------- */

static sl_status add_routes(api *a, http_server *server, sl_err *err)
{
    for (size_t i = 0; i < SL_COUNT_OF(route_table); i++) {
        api_route *r = &a->routes[a->route_count++];

        *r = (api_route){ a, route_table[i].fn, route_table[i].open };
        SL_TRY(http_server_route(server, route_table[i].method, route_table[i].pattern, dispatch, r,
                                 err));
    }
    return SL_OK;
}

sl_status api_create(const api_options *options, http_server *server, api **ret_api, sl_err *err)
{
    api *a = sl_calloc(1, sizeof *a);
    sl_status status = SL_ENOMEM;

    if (!a)
        return sl_fail(err, SL_ENOMEM, "api");
    a->options = *options;
    atomic_init(&a->ready, false);
    if (!a->options.version)
        a->options.version = SLUICE_VERSION;
    if (a->options.retry_after_s <= 0)
        a->options.retry_after_s = 1;
    a->owns_metrics = !options->metrics;
    a->metrics = options->metrics ? options->metrics : metric_registry_create();
    if (!a->metrics) {
        sl_fail(err, SL_ENOMEM, "metrics");
        goto fail;
    }
    api_metrics_init(a);
    if (options->docs.ops &&
        (status = api_pool_create(a, options->docs_workers > 0 ? options->docs_workers : 4,
                                  options->docs_queue_max > 0 ? options->docs_queue_max : 32,
                                  &a->pool, err)) != SL_OK)
        goto fail;
    if ((status = add_routes(a, server, err)) != SL_OK)
        goto fail;
    http_server_on_done(server, api_request_done, a);
    *ret_api = a;
    return SL_OK;

fail:
    api_destroy(a);
    return status;
}

void api_set_ready(api *a, bool is_ready)
{
    atomic_store(&a->ready, is_ready);
}

void api_destroy(api *a)
{
    if (!a)
        return;
    api_pool_destroy(a->pool);
    if (a->owns_metrics)
        metric_registry_destroy(a->metrics);
    sl_free(a);
}
