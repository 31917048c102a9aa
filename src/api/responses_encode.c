/* responses_encode.c - events to a Response object, or to the stream of events that builds it.
 *
 * A stream has both `event:` and `data:` lines, numbers its events, and has no [DONE]. Its order:
 * created, in_progress, output_item.added, content_part.added, deltas, output_text.done,
 * content_part.done, output_item.done, completed (or incomplete, failed). */
#include <stdio.h>

#include "api/grounds.h"
#include "api/openai_int.h"
#include "api/responses.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/os.h"

typedef struct responses_encoder {
    encoder base;
    char id[RESPONSES_ID_BYTES], item_id[RESPONSES_ID_BYTES];
    char model[128];
    int64_t created_s;
    bool logprobs, tokens_as_ids, store;
    sl_buf settings;       /* the members that say how it was asked */
    sl_buf input, context; /* JSON, for the record */
    sl_buf owner;
    api_kept kept;
    sl_buf text, probs;      /* so far; logprob items as JSON */
    sl_buf annotations, rag; /* over documents: JSON items; ,"rag":{...} */
    int64_t sequence;        /* of the next event */
    llm_finish finish;
    llm_usage usage;
} responses_encoder;

typedef enum response_state {
    IN_PROGRESS,
    COMPLETED,
    INCOMPLETE,
    FAILED,
} response_state;

static const char *const state_names[] = { "in_progress", "completed", "incomplete", "failed" };

static void put_str(sl_buf *out, const char *text)
{
    sl_buf_put_json(out, text, strlen(text));
}

static void put_str_or_null(sl_buf *out, const char *text)
{
    if (text)
        put_str(out, text);
    else
        sl_buf_puts(out, "null");
}

static void put_buf(sl_buf *out, const sl_buf *b)
{
    sl_buf_put(out, sl_buf_str(b), b->len);
}

/* ---- the object ---------------------------------------------------------------------------- */

/* {"type":"output_text",...} with what was said so far. */
static void put_part(const responses_encoder *e, bool empty, sl_buf *out)
{
    sl_buf_puts(out, "{\"type\":\"output_text\",\"text\":");
    sl_buf_put_json(out, sl_buf_str(&e->text), empty ? 0 : e->text.len);
    sl_buf_puts(out, ",\"annotations\":");
    sl_buf_puts(out, !empty && e->annotations.len ? e->annotations.ptr : "[]");
    sl_buf_puts(out, ",\"logprobs\":[");
    if (!empty)
        put_buf(out, &e->probs);
    sl_buf_puts(out, "]}");
}

static void put_item(const responses_encoder *e, response_state state, sl_buf *out)
{
    sl_buf_printf(out,
                  "{\"type\":\"message\",\"id\":\"%s\",\"status\":\"%s\",\"role\":\"assistant\","
                  "\"content\":[",
                  e->item_id, state_names[state]);
    if (state != IN_PROGRESS)
        put_part(e, false, out);
    sl_buf_puts(out, "]}");
}

static void put_usage(sl_buf *out, const llm_usage *u)
{
    sl_buf_printf(out,
                  "{\"input_tokens\":%lld,\"input_tokens_details\":{\"cached_tokens\":%lld},"
                  "\"output_tokens\":%lld,\"output_tokens_details\":{\"reasoning_tokens\":0},"
                  "\"total_tokens\":%lld}",
                  (long long)u->prompt_tokens, (long long)u->cached_tokens,
                  (long long)u->output_tokens, (long long)(u->prompt_tokens + u->output_tokens));
}

static void put_error(const responses_encoder *e, sl_buf *out)
{
    sl_buf_puts(out, "{\"code\":\"server_error\",\"message\":");
    put_str(out, e->base.error.message);
    sl_buf_putc(out, '}');
}

static void put_response(const responses_encoder *e, response_state state, bool stored, sl_buf *out)
{
    sl_buf_printf(out, "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%lld,", e->id,
                  (long long)e->created_s);
    sl_buf_printf(out, "\"status\":\"%s\",\"completed_at\":", state_names[state]);
    if (state == COMPLETED)
        sl_buf_printf(out, "%lld", (long long)(sl_clock_wall_ms() / 1000));
    else
        sl_buf_puts(out, "null");
    sl_buf_puts(out, ",\"error\":");
    if (state == FAILED)
        put_error(e, out);
    else
        sl_buf_puts(out, "null");
    sl_buf_printf(out, ",\"incomplete_details\":%s,\"model\":",
                  state == INCOMPLETE ? "{\"reason\":\"max_output_tokens\"}" : "null");
    put_str(out, e->model);
    sl_buf_puts(out, ",\"output\":[");
    if (state == COMPLETED || state == INCOMPLETE)
        put_item(e, state, out);
    sl_buf_printf(out, "],\"store\":%s", stored ? "true" : "false");
    put_buf(out, &e->settings);
    sl_buf_puts(out, ",\"usage\":");
    if (state == COMPLETED || state == INCOMPLETE)
        put_usage(out, &e->usage);
    else
        sl_buf_puts(out, "null");
    if (state == COMPLETED || state == INCOMPLETE)
        put_buf(out, &e->rag);
    sl_buf_putc(out, '}');
}

/* Keeps the record; false when it was not. */
static bool keep(responses_encoder *e, response_state state)
{
    sl_err err = { 0 };
    sl_status status;
    sl_buf record;

    sl_buf_init(&record, SL_RESPONSE_BYTES_MAX);
    sl_buf_puts(&record, "{\"response\":");
    put_response(e, state, true, &record);
    sl_buf_puts(&record, ",\"input\":");
    put_buf(&record, &e->input);
    sl_buf_puts(&record, ",\"context\":");
    put_buf(&record, &e->context);
    sl_buf_putc(&record, '}');
    status = sl_buf_ok(&record, "response to keep", &err);
    if (status == SL_OK)
        status = e->kept.ops->put(e->kept.ctx, sl_buf_str(&e->owner), e->id,
                                  sl_span_of(record.ptr, record.len), &err);
    if (status != SL_OK)
        SL_LOG(SL_LOG_WARN, "response.not_kept", SL_F_STR("id", e->id),
               SL_F_STR("error", err.text));
    sl_buf_deinit(&record);
    return status == SL_OK;
}

/* ---- streaming ----------------------------------------------------------------------------- */

/* event: and the beginning of data:, without the object's end. */
static void event_open(responses_encoder *e, const char *type, sl_buf *out)
{
    sl_buf_printf(out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%lld", type, type,
                  (long long)e->sequence++);
}

static void event_close(sl_buf *out)
{
    sl_buf_puts(out, "}\n\n");
}

static void event_response(responses_encoder *e, const char *type, response_state state,
                           bool stored, sl_buf *out)
{
    event_open(e, type, out);
    sl_buf_puts(out, ",\"response\":");
    put_response(e, state, stored, out);
    event_close(out);
}

/* Which part of the answer an event is about. */
static void put_place(const responses_encoder *e, sl_buf *out)
{
    sl_buf_printf(out, ",\"item_id\":\"%s\",\"output_index\":0,\"content_index\":0", e->item_id);
}

static void stream_start(responses_encoder *e, sl_buf *out)
{
    event_response(e, "response.created", IN_PROGRESS, e->store, out);
    event_response(e, "response.in_progress", IN_PROGRESS, e->store, out);
    event_open(e, "response.output_item.added", out);
    sl_buf_puts(out, ",\"output_index\":0,\"item\":");
    put_item(e, IN_PROGRESS, out);
    event_close(out);
    event_open(e, "response.content_part.added", out);
    put_place(e, out);
    sl_buf_puts(out, ",\"part\":");
    put_part(e, true, out);
    event_close(out);
}

/* probs_from: where this event's logprobs begin in e->probs. */
static void stream_delta(responses_encoder *e, const llm_event *ev, size_t probs_from, sl_buf *out)
{
    if (ev->text_len == 0 && e->probs.len == probs_from)
        return; /* nothing a client could use: the text is held back */
    event_open(e, "response.output_text.delta", out);
    put_place(e, out);
    sl_buf_puts(out, ",\"delta\":");
    sl_buf_put_json(out, ev->text_len ? ev->text : "", ev->text_len);
    sl_buf_puts(out, ",\"logprobs\":[");
    probs_from += probs_from > 0 && e->probs.len > probs_from; /* the comma */
    sl_buf_put(out, sl_buf_str(&e->probs) + probs_from, e->probs.len - probs_from);
    sl_buf_putc(out, ']');
    event_close(out);
}

static void stream_done(responses_encoder *e, response_state state, bool stored, sl_buf *out)
{
    char type[32];

    if (state != FAILED) {
        event_open(e, "response.output_text.done", out);
        put_place(e, out);
        sl_buf_puts(out, ",\"text\":");
        sl_buf_put_json(out, sl_buf_str(&e->text), e->text.len);
        sl_buf_puts(out, ",\"logprobs\":[");
        put_buf(out, &e->probs);
        sl_buf_putc(out, ']');
        event_close(out);
        event_open(e, "response.content_part.done", out);
        put_place(e, out);
        sl_buf_puts(out, ",\"part\":");
        put_part(e, false, out);
        event_close(out);
        event_open(e, "response.output_item.done", out);
        sl_buf_puts(out, ",\"output_index\":0,\"item\":");
        put_item(e, state, out);
        event_close(out);
    }
    snprintf(type, sizeof type, "response.%s", state_names[state]);
    event_response(e, type, state, stored, out);
}

/* ---- events -------------------------------------------------------------------------------- */

static void add_delta(responses_encoder *e, const llm_event *ev)
{
    sl_buf_put(&e->text, ev->text, ev->text_len);
    for (size_t i = 0; e->logprobs && i < ev->token_count; i++) {
        openai_put_comma(&e->probs);
        openai_put_prob(&e->probs, &ev->tokens[i], e->tokens_as_ids);
    }
}

static void fail(responses_encoder *e, sl_status status, const char *text)
{
    sl_err err = { 0 };

    (void)sl_fail(&err, status, "%s", text);
    openai_error_from(&err, LLM_CHAT, &e->base.error);
    e->base.failed = true;
}

static void encode_done(responses_encoder *e, const llm_event *ev, sl_buf *out)
{
    response_state state = e->finish == LLM_FINISH_LENGTH ? INCOMPLETE : COMPLETED;
    bool stored = false;

    e->usage = ev->usage;
    if (!e->base.failed && e->finish == LLM_FINISH_CANCELLED)
        fail(e, SL_EBUSY, "The server ended the response early");
    if (!e->base.failed &&
        (e->text.failed || e->probs.failed || e->annotations.failed || e->rag.failed))
        fail(e, SL_EINTERNAL, "The answer could not be put together");
    if (e->base.failed)
        state = FAILED;
    else if (e->store)
        stored = keep(e, state);
    if (e->base.stream && e->base.started)
        stream_done(e, state, stored, out);
    else if (e->base.failed)
        openai_put_error(out, &e->base.error);
    else
        put_response(e, state, stored, out);
}

static void encode(encoder *base, const llm_event *ev, sl_buf *out)
{
    responses_encoder *e = (responses_encoder *)base;
    size_t probs_from = e->probs.len;

    switch (ev->kind) {
    case LLM_EV_START:
        base->started = true;
        e->usage = ev->usage;
        if (base->stream)
            stream_start(e, out);
        break;
    case LLM_EV_DELTA:
        add_delta(e, ev);
        if (base->stream)
            stream_delta(e, ev, probs_from, out);
        break;
    case LLM_EV_FINISH:
        e->finish = ev->finish;
        if (ev->grounds) {
            grounds_put_annotations(&e->annotations, ev->grounds, true);
            grounds_put_field(&e->rag, ev->grounds);
        }
        break;
    case LLM_EV_ERROR:
        base->failed = true;
        openai_error_from(&ev->error, LLM_CHAT, &base->error);
        break;
    case LLM_EV_DONE:
        encode_done(e, ev, out);
        break;
    default:
        break;
    }
}

/* ---- life ---------------------------------------------------------------------------------- */

static void destroy(encoder *base)
{
    responses_encoder *e = (responses_encoder *)base;

    sl_buf_deinit(&e->settings);
    sl_buf_deinit(&e->input);
    sl_buf_deinit(&e->context);
    sl_buf_deinit(&e->owner);
    sl_buf_deinit(&e->text);
    sl_buf_deinit(&e->probs);
    sl_buf_deinit(&e->annotations);
    sl_buf_deinit(&e->rag);
    sl_free(e);
}

static void put_json(sl_buf *out, const json_t *v)
{
    char *text = v ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

    if (text)
        sl_buf_puts(out, text);
    else
        out->failed = true;
    free(text); /* jansson's */
}

/* ,"name":value for all that was asked. */
static void put_settings(const responses_call *call, sl_buf *out)
{
    const llm_request *req = call->base.req;

    sl_buf_puts(out, ",\"background\":false,\"instructions\":");
    put_str_or_null(out, call->instructions);
    sl_buf_puts(out, ",\"max_output_tokens\":");
    if (req->max_tokens >= 0)
        sl_buf_printf(out, "%lld", (long long)req->max_tokens);
    else
        sl_buf_puts(out, "null");
    sl_buf_puts(out, ",\"max_tool_calls\":null,\"parallel_tool_calls\":true,"
                     "\"previous_response_id\":");
    put_str_or_null(out, call->previous_id);
    sl_buf_puts(out, ",\"reasoning\":{\"effort\":null,\"summary\":null},"
                     "\"service_tier\":\"default\"");
    sl_buf_printf(out, ",\"temperature\":%.7g,\"top_p\":%.7g,\"top_logprobs\":%d",
                  (double)req->sampling.temperature, (double)req->sampling.top_p,
                  req->top_logprobs);
    sl_buf_printf(out,
                  ",\"text\":{\"format\":{\"type\":\"text\"},\"verbosity\":\"%s\"},"
                  "\"tool_choice\":\"%s\",\"tools\":[],\"truncation\":\"%s\",\"metadata\":",
                  call->verbosity ? call->verbosity : "medium", call->tool_choice,
                  req->truncate ? "auto" : "disabled");
    if (call->metadata)
        put_json(out, call->metadata);
    else
        sl_buf_puts(out, "{}");
}

encoder *responses_encoder_create(const responses_call *call, const char *model, int64_t created_s,
                                  api_kept kept, const char *owner)
{
    static const encoder_ops ops = { .encode = encode,
                                     .destroy = destroy,
                                     .dialect = &openai_dialect };
    responses_encoder *e = sl_calloc(1, sizeof *e);

    if (!e)
        return NULL;
    e->base = (encoder){ .ops = &ops, .choice_count = 1, .stream = call->base.stream };
    e->created_s = created_s;
    e->logprobs = call->base.logprobs;
    e->store = call->store && kept.ops;
    e->kept = kept;
    sl_random_id(e->id, sizeof e->id, "resp_", RESPONSES_ID_RANDOM);
    sl_random_id(e->item_id, sizeof e->item_id, "msg_", RESPONSES_ID_RANDOM);
    snprintf(e->model, sizeof e->model, "%s", model);
    sl_buf *all[] = { &e->settings, &e->input, &e->context,     &e->owner,
                      &e->text,     &e->probs, &e->annotations, &e->rag };

    for (size_t i = 0; i < SL_COUNT_OF(all); i++)
        sl_buf_init(all[i], OPENAI_ANSWER_MAX);
    put_settings(call, &e->settings);
    if (e->store) {
        put_json(&e->input, call->input);
        put_json(&e->context, call->context);
        sl_buf_puts(&e->owner, owner);
    }
    if (e->settings.failed || e->input.failed || e->context.failed || e->owner.failed) {
        destroy(&e->base);
        return NULL;
    }
    return &e->base;
}
