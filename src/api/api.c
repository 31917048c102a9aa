/* api.c - the routes, the key check in front of them, and the small ones: health, readiness,
 * metrics, version, hello. */
#include "api/api_int.h"
#include "api/openapi.h"
#include "base/log.h"

#include <stdio.h>

#include "api/anthropic.h"

#define SLOW_THREADS   4
#define SLOW_QUEUE_MAX 16

#define HELLO                                                                                      \
    "Sluice %s - a language model server with OpenAI's API\n\n"                                    \
    "  curl http://%s/v1/models\n"                                                                 \
    "  curl http://%s/v1/chat/completions -H 'Content-Type: application/json' \\\n"                \
    "       -d '{\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}]}'\n\n"                  \
    "Python:  OpenAI(base_url=\"http://%s/v1\", api_key=\"any\")\n\n"                              \
    "Every route, with a form to try it:  http://%s/docs\n\n"                                      \
    "Routes:  /v1/chat/completions  /v1/completions  /v1/embeddings  /v1/models\n"                 \
    "         /api/chat  /api/generate  /api/embed  /api/tags  /api/ps  /api/pull\n"               \
    "         /completion  /tokenize  /detokenize  /apply-template  /props\n"                      \
    "         /v1/rag/documents  /v1/rag/query  /health  /ready  /metrics  /version\n"

/* Changes are serial in the database anyway. A login costs a processor for tens of milliseconds: at
 * most so many at once, however many come. */
#define ADMIN_WORKERS   1
#define ADMIN_QUEUE_MAX 32
#define LOGIN_WORKERS   2
#define LOGIN_QUEUE_MAX 64

/* ---- errors -------------------------------------------------------------------------------- */

static void put_retry_after(http_exchange *x, int64_t ms)
{
    char text[24];

    snprintf(text, sizeof text, "%lld", (long long)(ms + 999) / 1000);
    http_set_header(x, "Retry-After", text);
    snprintf(text, sizeof text, "%lld", (long long)ms);
    http_set_header(x, "retry-after-ms", text);
}

void api_respond_error_as(const api *a, http_exchange *x, const openai_error *e,
                          const api_dialect *dialect)
{
    openai_error said = *e;
    sl_buf b;

    if (e->http == 503 || e->http == 429)
        put_retry_after(x, e->retry_after_ms ? e->retry_after_ms
                                             : (int64_t)a->options.retry_after_s * 1000);
    said.request_id = http_request_id(x);
    if (dialect->translate)
        dialect->translate(&said);
    sl_buf_init(&b, 64 * SL_KIB);
    dialect->put_error(&b, &said);
    http_respond_buf(x, said.http, "application/json", &b);
}

void api_respond_error(const api *a, http_exchange *x, const openai_error *e)
{
    api_respond_error_as(a, x, e, &openai_dialect);
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
    static const char empty[] = "{\"status\":\"ready\",\"message\":\"no model yet; bring one with "
                                "POST /api/pull or: sluice pull smollm2\"}";
    const llm_chain *chain = a->options.chain;
    bool has_model =
        llm_chain_find(chain, NULL, LLM_CHAT) || llm_chain_find(chain, NULL, LLM_EMBED);

    if (atomic_load(&a->ready)) {
        http_respond(x, 200, "application/json", has_model ? yes : empty,
                     has_model ? sizeof yes - 1 : sizeof empty - 1);
        return;
    }
    http_set_header(x, "Retry-After", "1");
    http_respond_error(x, 503, "server_error", NULL, "not_ready", "The server is not ready");
}

static void version(api *a, http_exchange *x)
{
    sl_buf b;

    sl_buf_init(&b, 4 * SL_KIB);
    sl_buf_puts(&b, "{\"version\":");
    sl_buf_put_json(&b, a->options.version, strlen(a->options.version));
    sl_buf_puts(&b, "}");
    http_respond_buf(x, 200, "application/json", &b);
}

extern const unsigned char docs_page[]; /* web/docs.html */
extern const size_t docs_page_len;

static void docs(api *a, http_exchange *x)
{
    http_respond(x, 200, "text/html; charset=utf-8", docs_page, docs_page_len);
}

static void openapi(api *a, http_exchange *x)
{
    http_respond(x, 200, "application/json", sl_buf_str(&a->openapi), a->openapi.len);
}

static void hello(api *a, http_exchange *x)
{
    const char *host = http_header(x, "host");
    sl_buf b;

    host = host && strlen(host) < 256 ? host : "localhost";
    sl_buf_init(&b, 8 * SL_KIB);
    sl_buf_printf(&b, HELLO, a->options.version, host, host, host, host);
    http_respond_buf(x, 200, "text/plain; charset=utf-8", &b);
}

/* ---- routing ------------------------------------------------------------------------------- */

/* What dispatch hangs on an exchange. */
typedef struct visit {
    llm_caller *caller;
    bool is_admitted;
    llm_trace trace;
    sl_log_field fields[LLM_CALLER_FIELDS + 2]; /* context of the log */
    int field_count;
} visit;

static void visit_destroy(void *context)
{
    visit *v = context;

    llm_caller_unref(v->caller);
    sl_free(v);
}

llm_caller *api_caller(const http_exchange *x)
{
    const visit *v = http_context(x);

    return v ? v->caller : NULL;
}

const llm_trace *api_trace(const http_exchange *x)
{
    static const llm_trace none;
    const visit *v = http_context(x);

    return v ? &v->trace : &none;
}

void api_push_context(const http_exchange *x, sl_log_scope *scope)
{
    const visit *v = http_context(x);

    sl_log_push(scope, v ? v->fields : NULL, v ? v->field_count : 0);
}

/* NULL: answered, there is no memory. */
static visit *visit_of(http_exchange *x)
{
    visit *v = http_context(x);

    if (v)
        return v; /* made when its head was read */
    v = sl_calloc(1, sizeof *v);
    if (!v) {
        http_respond_error(x, 503, "server_error", NULL, NULL, "Out of memory");
        return NULL;
    }
    v->fields[v->field_count++] = SL_F_STR("request_id", http_request_id(x));
    if (llm_trace_parse(http_header(x, "traceparent"), &v->trace))
        v->fields[v->field_count++] = SL_F_STR("trace_id", v->trace.id);
    http_set_context(x, v, visit_destroy);
    return v;
}

static void refuse_visit(const api *a, http_exchange *x, const sl_err *err,
                         const api_dialect *dialect)
{
    bool tried = http_header(x, "authorization") || http_header(x, "x-api-key");
    openai_error e = { .type = "invalid_request_error" };

    e.http = sl_status_http(err->status);
    if (err->status == SL_EAUTH) {
        http_set_header(x, "WWW-Authenticate", "Bearer");
        e.code = tried ? "invalid_api_key" : NULL;
    } else if (err->status == SL_EFORBIDDEN) {
        e.code = "insufficient_permissions";
    } else if (e.http >= 500) {
        e.type = "server_error";
    }
    snprintf(e.message, sizeof e.message, "%s", err->text);
    api_respond_error_as(a, x, &e, dialect);
}

/* Anthropic's clients are told in their own terms on paths that dialects share, too. */
static const api_dialect *dialect_of(const api_route *r, const http_exchange *x)
{
    return http_header(x, "anthropic-version") ? &anthropic_dialect : r->dialect;
}

/* Refusals that the server makes before a handler is called: no such path, body too large. */
static bool refuse_early(void *ctx, http_exchange *x, const http_refusal *why)
{
    static const char mine[] = "/v1/messages";
    openai_error e = { .http = why->status, .type = why->type, .code = why->code };

    if (!http_header(x, "anthropic-version") && strncmp(http_path(x), mine, sizeof mine - 1) != 0)
        return false;
    http_set_header(x, anthropic_dialect.id_header, http_request_id(x));
    snprintf(e.message, sizeof e.message, "%s", why->message);
    api_respond_error_as(ctx, x, &e, &anthropic_dialect);
    return true;
}

/* True when the caller may go on; otherwise answered with 401 or 403. */
static bool admit_caller(api *a, http_exchange *x, const api_route *r, visit *v)
{
    const api_endpoint *end = r->endpoint;
    sl_err err = { .status = SL_EAUTH };

    if (!a->options.gate || end->permission == 0 || v->is_admitted)
        return true;
    err.status = a->options.gate(a->options.gate_ctx, x, &v->caller, &err);
    v->field_count += llm_caller_fields(v->caller, v->fields + v->field_count);
    if (err.status == SL_OK && !llm_caller_may(v->caller, end->permission))
        err.status =
            sl_fail(&err, SL_EFORBIDDEN, "This key lacks the permission '%s', which %s %s needs",
                    llm_permission_name(__builtin_ctz(end->permission)), end->method, end->pattern);
    v->is_admitted = err.status == SL_OK;
    if (v->is_admitted)
        return true;
    refuse_visit(a, x, &err, dialect_of(r, x));
    return false;
}

static void dispatch(void *ctx, http_exchange *x)
{
    const api_route *r = ctx;
    const api_dialect *dialect = dialect_of(r, x);
    sl_log_scope scope;
    visit *v;

    metric_add(r->a->m.in_flight, 1);
    if (dialect->id_header)
        http_set_header(x, dialect->id_header, http_request_id(x));
    v = visit_of(x);
    if (!v)
        return;
    api_push_context(x, &scope);
    SL_LOG(SL_LOG_DEBUG, "http.accepted", SL_F_STR("method", http_method(x)),
           SL_F_STR("path", http_path(x)), SL_F_STR("remote", http_remote(x)),
           SL_F_NUM("body_bytes", http_body(x).len));
    if (admit_caller(r->a, x, r, v)) {
        scope.count = v->field_count; /* now the caller is known */
        r->endpoint->fn(r->a, x);
    }
    sl_log_pop(&scope);
}

/* Only the head of such a request was read: nobody uploads who may not. */
static bool upload_begin(void *ctx, http_exchange *x)
{
    const api_route *r = ctx;
    visit *v = visit_of(x);
    sl_log_scope scope;
    bool go_on;

    api_push_context(x, &scope);
    go_on = v && admit_caller(r->a, x, r, v) && r->endpoint->begin(r->a, x);
    sl_log_pop(&scope);
    if (go_on)
        return true;
    metric_add(r->a->m.in_flight, 1); /* api_request_done takes it back */
    return false;
}

static void upload_write(void *ctx, http_exchange *x, const void *bytes, size_t len)
{
    const api_route *r = ctx;

    r->endpoint->write(r->a, x, bytes, len);
}

static const api_endpoint server_list[] = {
    { "GET", "/metrics", api_metrics_get, LLM_MAY_METRICS, "Metrics in Prometheus' text format",
      .answer = METRIC_CONTENT_TYPE },
    { "GET", "/version", version, LLM_MAY_MODELS_READ, "The version of the server" },
    { "GET", "/health", health, 0, "200 while the process lives" },
    { "GET", "/ready", ready, 0, "200 when requests are served, 503 before and while draining" },
    { "GET", "/openapi.json", openapi, 0, "This document" },
    { "GET", "/docs", docs, 0, "This document for people, with a form to try each route",
      .answer = "text/html" },
    { "GET", "/", hello, 0, "What this is and what to try", .answer = "text/plain" },
};
static const api_endpoints server_endpoints = { &openai_dialect, "Server", server_list,
                                                SL_COUNT_OF(server_list) };

/* Earlier tables win where patterns overlap. */
static const api_endpoints *const tables[] = {
    &openai_endpoints,
    &responses_endpoints,
    &files_endpoints,
    &batches_endpoints,
    &anthropic_endpoints,
    &llamacpp_endpoints,
    &ollama_endpoints,
    &tgi_endpoints,
    &tokenize_endpoints,
    &rag_endpoints,
    &usage_endpoints,
    &admin_endpoints,
    &server_endpoints,
    &rerank_endpoints,
    &document_endpoints,
    &vector_store_endpoints,
    &vector_store_file_endpoints,
};

void api_write_openapi(const char *version_text, sl_buf *out)
{
    openapi_write(tables, SL_COUNT_OF(tables), version_text, out);
}

/* ---- life ---------------------------------------------------------------------------------- */

static sl_status add_routes(api *a, http_server *server, sl_err *err)
{
    for (size_t t = 0; t < SL_COUNT_OF(tables); t++) {
        for (size_t i = 0; i < tables[t]->count; i++) {
            const api_endpoint *end = &tables[t]->list[i];
            api_route *r = &a->routes[a->route_count++];

            SL_ASSERT(a->route_count <= API_ROUTES_MAX);
            *r = (api_route){ a, tables[t]->dialect, end };
            SL_TRY(http_server_route(server, end->method, end->pattern, dispatch, r, err));
            if (end->begin)
                http_server_upload(server, upload_begin, upload_write);
        }
    }
    return SL_OK;
}

static sl_status create_pools(api *a, sl_err *err)
{
    const api_options *o = &a->options;

    SL_TRY(api_pool_create(a, o->docs_workers > 0 ? o->docs_workers : 4,
                           o->docs_queue_max > 0 ? o->docs_queue_max : 32, &a->pool, err));
    if (!o->accounts.ops)
        return SL_OK;
    SL_TRY(api_pool_create(a, ADMIN_WORKERS, ADMIN_QUEUE_MAX, &a->admin_pool, err));
    return api_pool_create(a, LOGIN_WORKERS, LOGIN_QUEUE_MAX, &a->login_pool, err);
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
    sl_buf_init(&a->openapi, 4 * SL_MIB);
    api_write_openapi(a->options.version, &a->openapi);
    if ((status = sl_buf_ok(&a->openapi, "OpenAPI document", err)) != SL_OK)
        goto fail;
    if ((status = create_pools(a, err)) != SL_OK)
        goto fail;
    if (options->models.ops &&
        (status = api_pool_create(a, SLOW_THREADS, SLOW_QUEUE_MAX, &a->slow_pool, err)) != SL_OK)
        goto fail;
    if ((status = add_routes(a, server, err)) != SL_OK)
        goto fail;
    http_server_on_done(server, api_request_done, a);
    http_server_on_refusal(server, refuse_early, a);
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
    api_pool_destroy(a->admin_pool);
    api_pool_destroy(a->login_pool);
    sl_buf_deinit(&a->openapi);
    api_pool_destroy(a->slow_pool);
    if (a->metrics)
        api_metrics_deinit(a);
    if (a->owns_metrics)
        metric_registry_destroy(a->metrics);
    sl_free(a);
}
