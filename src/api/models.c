/* models.c - GET /v1/models and /v1/models/{model}. */
#include "api/api_int.h"

#include <stdio.h>

static void put_model(const llm_route *r, sl_buf *out)
{
    llm_model_info info = { 0 };

    r->backend.ops->info(r->backend.ctx, &info);
    sl_buf_puts(out, "{\"id\":");
    sl_buf_put_json(out, r->name, strlen(r->name));
    sl_buf_printf(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"sluice\",\"root\":",
                  (long long)info.created_s);
    sl_buf_put_json(out, info.name, strlen(info.name));
    sl_buf_printf(out, ",\"parent\":null,\"max_model_len\":%lld,\"capabilities\":[",
                  (long long)info.context_tokens);
    sl_buf_puts(out, info.can_generate ? "\"chat\",\"completion\"" : "");
    sl_buf_puts(out, info.can_generate && info.can_embed ? "," : "");
    sl_buf_puts(out, info.can_embed ? "\"embedding\"" : "");
    sl_buf_puts(out, info.can_rerank ? "\"rerank\"" : "");
    sl_buf_puts(out, "]}");
}

void models_list(api *a, http_exchange *x)
{
    const llm_chain *chain = a->options.chain;
    size_t count = atomic_load(&chain->route_count);
    bool first = true;
    sl_buf b;

    if (http_header(x, "anthropic-version")) {
        anthropic_models_list(a, x);
        return;
    }
    sl_buf_init(&b, SL_MIB);
    sl_buf_puts(&b, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < count; i++) {
        if (chain->routes[i].is_alias || atomic_load(&chain->routes[i].hidden) ||
            !llm_caller_may_use(api_caller(x), chain->routes[i].name))
            continue;
        if (!first)
            sl_buf_putc(&b, ',');
        first = false;
        put_model(&chain->routes[i], &b);
    }
    sl_buf_puts(&b, "]}");
    http_respond_buf(x, 200, "application/json", &b);
}

void models_get(api *a, http_exchange *x)
{
    const char *name = http_param(x, "model");
    const llm_route *r = llm_chain_route(a->options.chain, name);
    char text[320];
    sl_buf b;

    if (http_header(x, "anthropic-version")) {
        anthropic_models_get(a, x);
        return;
    }
    if (!r || atomic_load(&r->hidden) || !llm_caller_may_use(api_caller(x), r->name)) {
        snprintf(text, sizeof text, "The model '%.200s' does not exist", name);
        http_respond_error(x, 404, "invalid_request_error", "model", "model_not_found", text);
        return;
    }
    sl_buf_init(&b, SL_MIB);
    put_model(r, &b);
    http_respond_buf(x, 200, "application/json", &b);
}
