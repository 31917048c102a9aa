/* anthropic_encode.c - events to Anthropic's JSON, whole or as its named SSE events.
 *
 * The block of text begins with the first text: an answer without any has no block. What the
 * original calls input_tokens leaves out those that the cache had. */
#include <stdio.h>
#include <time.h>

#include "api/anthropic.h"
#include "api/grounds.h"
#include "base/os.h"

static void put_str(sl_buf *out, const char *text)
{
    sl_buf_put_json(out, text, strlen(text));
}

/* ---- errors -------------------------------------------------------------------------------- */

static const char *error_type(int http)
{
    switch (http) {
    case 401:
        return "authentication_error";
    case 402:
        return "billing_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 413:
        return "request_too_large";
    case 429:
        return "rate_limit_error";
    case 504:
        return "timeout_error";
    case 529:
        return "overloaded_error";
    default:
        return http >= 500 ? "api_error" : "invalid_request_error";
    }
}

static void translate(openai_error *e)
{
    char said[SL_ERR_TEXT_BYTES];
    const char *code = e->code ? e->code : "";

    memcpy(said, e->message, sizeof said);
    if (strcmp(code, "context_length_exceeded") == 0)
        snprintf(e->message, sizeof e->message, "prompt is too long: %.400s", said);
    else if (strcmp(code, "missing_required_parameter") == 0)
        snprintf(e->message, sizeof e->message, "%s: Field required", e->param);
    else if (strcmp(code, "unknown_parameter") == 0)
        snprintf(e->message, sizeof e->message, "%s: Extra inputs are not permitted", e->param);
    else if (e->param[0])
        snprintf(e->message, sizeof e->message, "%s: %.300s", e->param, said);
    if (e->http == 503)
        e->http = 529;
    e->type = error_type(e->http);
}

static void put_error(sl_buf *out, const openai_error *e)
{
    sl_buf_puts(out, "{\"type\":\"error\",\"error\":{\"type\":");
    put_str(out, e->type);
    sl_buf_puts(out, ",\"message\":");
    put_str(out, e->message);
    sl_buf_puts(out, "}");
    if (e->request_id) {
        sl_buf_puts(out, ",\"request_id\":");
        put_str(out, e->request_id);
    }
    sl_buf_putc(out, '}');
}

/* What the limits leave, with the time of day when they begin anew. */
static void put_part(const llm_quota_part *p, const char *what, encoder_header_fn set, void *ctx)
{
    time_t reset = (time_t)((sl_clock_wall_ms() + p->reset_ms + 999) / 1000);
    char name[64], value[40] = "";
    struct tm tm;

    if (!p->limit)
        return;
    snprintf(name, sizeof name, "anthropic-ratelimit-%s-limit", what);
    snprintf(value, sizeof value, "%lld", (long long)p->limit);
    set(ctx, name, value);
    snprintf(name, sizeof name, "anthropic-ratelimit-%s-remaining", what);
    snprintf(value, sizeof value, "%lld", (long long)p->remaining);
    set(ctx, name, value);
    snprintf(name, sizeof name, "anthropic-ratelimit-%s-reset", what);
    if (gmtime_r(&reset, &tm) && strftime(value, sizeof value, "%Y-%m-%dT%H:%M:%SZ", &tm) > 0)
        set(ctx, name, value);
}

static void put_quota(const llm_quota *q, encoder_header_fn set, void *ctx)
{
    put_part(&q->requests, "requests", set, ctx);
    put_part(&q->tokens, "tokens", set, ctx);
}

const api_dialect anthropic_dialect = { .name = "anthropic",
                                        .translate = translate,
                                        .put_error = put_error,
                                        .put_quota = put_quota,
                                        .id_header = "request-id" };

/* ---- life ---------------------------------------------------------------------------------- */

static void encode_op(encoder *e, const llm_event *ev, sl_buf *out)
{
    anthropic_encode((anthropic_encoder *)e, ev, out);
}

static void destroy_op(encoder *e)
{
    anthropic_encoder_deinit((anthropic_encoder *)e);
    sl_free(e);
}

void anthropic_encoder_init(anthropic_encoder *e, const anthropic_call *call, const char *model,
                            const char *request_id)
{
    static const encoder_ops ops = { .encode = encode_op,
                                     .destroy = destroy_op,
                                     .dialect = &anthropic_dialect };

    *e = (anthropic_encoder){ .base = { .ops = &ops, .stream = call->stream, .choice_count = 1 },
                              .max_tokens = call->req->max_tokens };
    sl_random_id(e->id, sizeof e->id, "msg_", 12);
    snprintf(e->model, sizeof e->model, "%s", model);
    snprintf(e->request_id, sizeof e->request_id, "%s", request_id);
    sl_buf_init(&e->text, OPENAI_ANSWER_MAX);
    sl_buf_init(&e->stop, SL_KIB);
    sl_buf_init(&e->citations, OPENAI_ANSWER_MAX);
    sl_buf_init(&e->rag, OPENAI_ANSWER_MAX);
}

void anthropic_encoder_deinit(anthropic_encoder *e)
{
    sl_buf_deinit(&e->text);
    sl_buf_deinit(&e->stop);
    sl_buf_deinit(&e->citations);
    sl_buf_deinit(&e->rag);
}

encoder *anthropic_encoder_create(const anthropic_call *call, const char *model,
                                  const char *request_id)
{
    anthropic_encoder *e = sl_malloc(sizeof *e);

    if (!e)
        return NULL;
    anthropic_encoder_init(e, call, model, request_id);
    return &e->base;
}

/* ---- pieces -------------------------------------------------------------------------------- */

/* The two members that say why the answer ended. */
static void put_stop(const anthropic_encoder *e, sl_buf *out)
{
    const char *reason = "end_turn";

    if (e->finish == LLM_FINISH_LENGTH)
        reason =
            e->usage.output_tokens < e->max_tokens ? "model_context_window_exceeded" : "max_tokens";
    else if (e->stop.len > 0)
        reason = "stop_sequence";
    sl_buf_printf(out, "\"stop_reason\":\"%s\",\"stop_sequence\":", reason);
    if (e->stop.len > 0)
        sl_buf_put_json(out, sl_buf_str(&e->stop), e->stop.len);
    else
        sl_buf_puts(out, "null");
}

static void put_usage(const anthropic_encoder *e, sl_buf *out)
{
    const llm_usage *u = &e->usage;

    sl_buf_printf(out,
                  "\"usage\":{\"input_tokens\":%lld,\"output_tokens\":%lld,"
                  "\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":%lld",
                  (long long)(u->prompt_tokens - u->cached_tokens), (long long)u->output_tokens,
                  (long long)u->cached_tokens);
}

#define CACHE_CREATION                                                                             \
    ",\"cache_creation\":{\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":0},"       \
    "\"service_tier\":\"standard\"}"

/* {"id":...,"model":"m","content": without an end. */
static void put_head(const anthropic_encoder *e, sl_buf *out)
{
    sl_buf_printf(out,
                  "{\"id\":\"%s\",\"type\":\"message\",\"role\":\"assistant\",\"model\":", e->id);
    put_str(out, e->model);
    sl_buf_puts(out, ",\"content\":");
}

/* ---- streaming ----------------------------------------------------------------------------- */

static void stream_start(const anthropic_encoder *e, sl_buf *out)
{
    sl_buf_puts(out, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
    put_head(e, out);
    sl_buf_puts(out, "[],\"stop_reason\":null,\"stop_sequence\":null,");
    put_usage(e, out);
    sl_buf_puts(out, CACHE_CREATION "}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n");
}

static void stream_text(anthropic_encoder *e, const llm_event *ev, sl_buf *out)
{
    if (ev->text_len == 0)
        return;
    if (!e->has_block)
        sl_buf_puts(out, "event: content_block_start\ndata: {\"type\":\"content_block_start\","
                         "\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n");
    e->has_block = true;
    sl_buf_puts(out, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\","
                     "\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":");
    sl_buf_put_json(out, ev->text, ev->text_len);
    sl_buf_puts(out, "}}\n\n");
}

static void stream_finish(const anthropic_encoder *e, sl_buf *out)
{
    if (e->has_block)
        sl_buf_puts(out, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\","
                         "\"index\":0}\n\n");
}

static void stream_done(const anthropic_encoder *e, sl_buf *out)
{
    if (e->base.failed) {
        openai_error said = e->base.error;

        said.request_id = e->request_id;
        translate(&said);
        sl_buf_puts(out, "event: error\ndata: ");
        put_error(out, &said);
        sl_buf_puts(out, "\n\n");
        return;
    }
    sl_buf_puts(out, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{");
    put_stop(e, out);
    sl_buf_puts(out, "},");
    put_usage(e, out);
    sl_buf_putc(out, '}');
    sl_buf_put(out, sl_buf_str(&e->rag), e->rag.len);
    sl_buf_puts(out, "}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
}

/* ---- collecting ---------------------------------------------------------------------------- */

static void put_message(const anthropic_encoder *e, sl_buf *out)
{
    put_head(e, out);
    sl_buf_putc(out, '[');
    if (e->text.len > 0) {
        sl_buf_puts(out, "{\"type\":\"text\",\"text\":");
        sl_buf_put_json(out, sl_buf_str(&e->text), e->text.len);
        sl_buf_puts(out, ",\"citations\":");
        if (e->citations.len > 0)
            sl_buf_printf(out, "[%s]}", e->citations.ptr);
        else
            sl_buf_puts(out, "null}");
    }
    sl_buf_puts(out, "],");
    put_stop(e, out);
    sl_buf_putc(out, ',');
    put_usage(e, out);
    sl_buf_puts(out, CACHE_CREATION);
    sl_buf_put(out, sl_buf_str(&e->rag), e->rag.len);
    sl_buf_putc(out, '}');
}

/* ---- events -------------------------------------------------------------------------------- */

static void fail(anthropic_encoder *e, const sl_err *err)
{
    if (e->base.failed)
        return;
    e->base.failed = true;
    openai_error_from(err, LLM_CHAT, &e->base.error);
}

/* What the answer cites, as Anthropic's citations of search results. */
static void take_grounds(anthropic_encoder *e, const llm_grounds *g, sl_buf *out)
{
    for (size_t i = 0; i < g->citation_count; i++) {
        const llm_passage *p = &g->citations[i];
        sl_buf *c = &e->citations;
        size_t from = c->len;

        sl_buf_puts(c, from ? "," : "");
        from = c->len;
        sl_buf_puts(c, "{\"type\":\"search_result_location\",\"cited_text\":");
        put_str(c, p->quote ? p->quote : "");
        sl_buf_puts(c, ",\"source\":");
        put_str(c, p->source && p->source[0] ? p->source : p->document);
        sl_buf_puts(c, ",\"title\":");
        put_str(c, p->title ? p->title : "");
        sl_buf_printf(c,
                      ",\"search_result_index\":%d,\"start_block_index\":0,"
                      "\"end_block_index\":1}",
                      (int)p->number - 1);
        if (e->base.stream && e->has_block && !c->failed)
            sl_buf_printf(out,
                          "event: content_block_delta\ndata: {\"type\":\"content_block_delta\","
                          "\"index\":0,\"delta\":{\"type\":\"citations_delta\",\"citation\":%s}}"
                          "\n\n",
                          c->ptr + from);
    }
    grounds_put_field(&e->rag, g);
}

static void on_finish(anthropic_encoder *e, const llm_event *ev, sl_buf *out)
{
    sl_err err = { 0 };

    e->finish = ev->finish;
    if (ev->stop)
        sl_buf_puts(&e->stop, ev->stop);
    if (ev->finish == LLM_FINISH_CANCELLED) { /* the original has no word for half an answer */
        err.status = sl_fail(&err, SL_EBUSY, "The server stopped before the answer was complete");
        fail(e, &err);
    }
    if (ev->grounds)
        take_grounds(e, ev->grounds, out);
    if (e->base.stream)
        stream_finish(e, out);
}

static void on_done(anthropic_encoder *e, sl_buf *out)
{
    sl_err err = { 0 };

    if (e->text.failed || e->stop.failed || e->citations.failed || e->rag.failed) {
        err.status = sl_fail(&err, SL_EINTERNAL, "The answer could not be put together");
        fail(e, &err);
    }
    if (e->base.stream && e->base.started)
        stream_done(e, out);
    else if (!e->base.failed)
        put_message(e, out);
}

void anthropic_encode(anthropic_encoder *e, const llm_event *ev, sl_buf *out)
{
    SL_ASSERT(ev->choice == 0);
    switch (ev->kind) {
    case LLM_EV_START:
        e->base.started = true;
        e->usage = ev->usage;
        if (e->base.stream)
            stream_start(e, out);
        break;
    case LLM_EV_DELTA:
        if (e->base.stream)
            stream_text(e, ev, out);
        else
            sl_buf_put(&e->text, ev->text, ev->text_len);
        break;
    case LLM_EV_FINISH:
        on_finish(e, ev, out);
        break;
    case LLM_EV_ERROR:
        fail(e, &ev->error);
        break;
    case LLM_EV_DONE:
        e->usage = ev->usage;
        on_done(e, out);
        break;
    default:
        break;
    }
}
