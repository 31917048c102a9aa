/* llamacpp_encode.c - events to llama.cpp's JSON, whole or as a stream of SSE records.
 *
 * A stream has a record per token, sent when the token is sampled, and a last one per prompt with
 * "stop":true and the totals. No space follows a colon and what clients look for in the last record
 * (stop, counts, timings) stands before the long members, so that it is near the beginning of the
 * line. */
#include <math.h>
#include <stdio.h>

#include "api/llamacpp.h"
#include "base/os.h"

struct llamacpp_choice {
    sl_buf text;   /* collected answer */
    sl_buf tokens; /* collected ids */
    sl_buf probs;  /* collected items of completion_probabilities */
    sl_buf stop;   /* the stop string that matched */
    int64_t prompt_tokens, cached_tokens, output_tokens;
    int64_t first_ns, end_ns; /* first token; end of the choice */
    llm_finish finish;
    bool has_new_line;
};

static void put_str(sl_buf *out, const char *text)
{
    sl_buf_put_json(out, text, strlen(text));
}

static const char *bool_text(bool b)
{
    return b ? "true" : "false";
}

/* ---- errors and settings ------------------------------------------------------------------- */

static const char *error_type(const openai_error *e)
{
    if (e->code && strcmp(e->code, "context_length_exceeded") == 0)
        return "exceed_context_size_error";
    switch (e->http) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 501:
        return "not_supported_error";
    case 503:
        return "unavailable_error";
    default:
        return e->http >= 500 ? "server_error" : "invalid_request_error";
    }
}

void llamacpp_put_error(sl_buf *out, const openai_error *e)
{
    sl_buf_printf(out, "{\"error\":{\"code\":%d,\"message\":", e->http);
    put_str(out, e->message);
    sl_buf_printf(out, ",\"type\":\"%s\"", error_type(e));
    if (e->param[0]) {
        sl_buf_puts(out, ",\"param\":");
        put_str(out, e->param);
    }
    sl_buf_puts(out, "}}");
}

const api_dialect llamacpp_dialect = { "llamacpp", NULL, llamacpp_put_error };

static void put_samplers(sl_buf *out, unsigned samplers)
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {
        { LLAMACPP_PENALTIES, "penalties" }, { LLAMACPP_TOP_K, "top_k" },
        { LLAMACPP_TYP_P, "typ_p" },         { LLAMACPP_TOP_P, "top_p" },
        { LLAMACPP_MIN_P, "min_p" },         { LLAMACPP_TEMPERATURE, "temperature" },
    };
    bool first = true;

    sl_buf_puts(out, ",\"samplers\":[");
    for (size_t i = 0; i < SL_COUNT_OF(names); i++)
        if (samplers & names[i].bit) {
            sl_buf_printf(out, "%s\"%s\"", first ? "" : ",", names[i].name);
            first = false;
        }
    sl_buf_putc(out, ']');
}

static void put_stops(sl_buf *out, const llm_request *req)
{
    sl_buf_puts(out, ",\"stop\":[");
    for (size_t i = 0; i < req->stop_count; i++) {
        if (i > 0)
            sl_buf_putc(out, ',');
        put_str(out, req->stops[i]);
    }
    sl_buf_putc(out, ']');
}

static void put_bias(sl_buf *out, const llm_sampling *s)
{
    sl_buf_puts(out, ",\"logit_bias\":[");
    for (size_t i = 0; i < s->bias_count; i++) {
        sl_buf_printf(out, "%s{\"bias\":", i ? "," : "");
        if (isfinite(s->bias[i].bias))
            sl_buf_printf(out, "%.7g", (double)s->bias[i].bias);
        else
            sl_buf_puts(out, "null");
        sl_buf_printf(out, ",\"token\":%d}", s->bias[i].token);
    }
    sl_buf_putc(out, ']');
}

void llamacpp_put_settings(sl_buf *out, const llm_request *req, const llamacpp_call *call)
{
    const llm_sampling *s = &req->sampling;

    sl_buf_printf(out, "{\"seed\":%llu,\"temperature\":%.7g,\"dynatemp_range\":0.0",
                  s->has_seed ? (unsigned long long)s->seed : UINT32_MAX, (double)s->temperature);
    sl_buf_printf(out, ",\"top_k\":%d,\"top_p\":%.7g,\"min_p\":%.7g,\"typical_p\":%.7g", s->top_k,
                  (double)s->top_p, (double)s->min_p, (double)s->typical_p);
    sl_buf_printf(out, ",\"repeat_last_n\":%d,\"repeat_penalty\":%.7g", s->penalty_last_n,
                  (double)s->repetition_penalty);
    sl_buf_printf(out, ",\"presence_penalty\":%.7g,\"frequency_penalty\":%.7g",
                  (double)s->presence_penalty, (double)s->frequency_penalty);
    sl_buf_puts(out, ",\"top_n_sigma\":-1.0,\"xtc_probability\":0.0,\"dry_multiplier\":0.0"
                     ",\"mirostat\":0,\"grammar\":\"\",\"lora\":[],\"min_keep\":0,\"n_keep\":0");
    sl_buf_printf(out, ",\"max_tokens\":%lld,\"n_predict\":%lld,\"n_probs\":%d",
                  (long long)req->max_tokens, (long long)req->max_tokens, req->top_logprobs);
    sl_buf_printf(out, ",\"ignore_eos\":%s,\"stream\":%s,\"timings_per_token\":%s",
                  bool_text(s->ignore_eos), bool_text(call->stream),
                  bool_text(call->timings_per_token));
    sl_buf_printf(out, ",\"cache_prompt\":%s,\"speculative.n_max\":%d",
                  bool_text(!req->no_prefix_cache), SL_MAX(req->spec_tokens, 0));
    put_stops(out, req);
    put_bias(out, s);
    put_samplers(out, call->samplers);
    sl_buf_putc(out, '}');
}

/* ---- life ---------------------------------------------------------------------------------- */

static void encode_op(encoder *e, const llm_event *ev, sl_buf *out)
{
    llamacpp_encode((llamacpp_encoder *)e, ev, sl_clock_mono_ns(), out);
}

static void destroy_op(encoder *e)
{
    llamacpp_encoder_deinit((llamacpp_encoder *)e);
    sl_free(e);
}

sl_status llamacpp_encoder_init(llamacpp_encoder *e, const llamacpp_call *call, const char *model)
{
    static const encoder_ops ops = { .encode = encode_op,
                                     .destroy = destroy_op,
                                     .dialect = &llamacpp_dialect };
    const llm_request *req = call->req;

    *e = (llamacpp_encoder){
        .base = { .ops = &ops,
                  .stream = call->stream,
                  .choice_count = (uint32_t)req->prompt_count },
        .return_tokens = call->return_tokens,
        .timings_per_token = call->timings_per_token,
        .probs = req->logprobs,
        .id_slot = SL_MAX(call->id_slot, 0),
        .prompts = call->prompts,
    };
    snprintf(e->model, sizeof e->model, "%s", model);
    sl_buf_init(&e->settings, SL_MIB);
    e->choices = sl_calloc(e->base.choice_count, sizeof *e->choices);
    if (!e->choices)
        return SL_ENOMEM;
    for (uint32_t i = 0; i < e->base.choice_count; i++) {
        llamacpp_choice *c = &e->choices[i];

        sl_buf_init(&c->text, OPENAI_ANSWER_MAX);
        sl_buf_init(&c->tokens, OPENAI_ANSWER_MAX);
        sl_buf_init(&c->probs, OPENAI_ANSWER_MAX);
        sl_buf_init(&c->stop, SL_KIB);
    }
    llamacpp_put_settings(&e->settings, req, call);
    if (e->settings.failed) {
        llamacpp_encoder_deinit(e);
        return SL_ENOMEM;
    }
    return SL_OK;
}

void llamacpp_encoder_deinit(llamacpp_encoder *e)
{
    for (uint32_t i = 0; e->choices && i < e->base.choice_count; i++) {
        llamacpp_choice *c = &e->choices[i];

        sl_buf_deinit(&c->text);
        sl_buf_deinit(&c->tokens);
        sl_buf_deinit(&c->probs);
        sl_buf_deinit(&c->stop);
    }
    sl_free(e->choices);
    e->choices = NULL;
    sl_buf_deinit(&e->settings);
}

encoder *llamacpp_encoder_create(const llamacpp_call *call, const char *model)
{
    llamacpp_encoder *e = sl_malloc(sizeof *e);

    if (e && llamacpp_encoder_init(e, call, model) != SL_OK) {
        sl_free(e);
        return NULL;
    }
    return e ? &e->base : NULL;
}

/* ---- pieces -------------------------------------------------------------------------------- */

/* {"id":..,"token":"..","bytes":[..],"logprob":.. without an end. */
static void put_prob(sl_buf *out, const llm_token_prob *t)
{
    sl_buf_printf(out, "{\"id\":%d,\"token\":", t->id);
    sl_buf_put_json(out, t->text_len ? t->text : "", t->text_len);
    sl_buf_puts(out, ",\"bytes\":[");
    for (size_t i = 0; i < t->text_len; i++)
        sl_buf_printf(out, i ? ",%d" : "%d", (unsigned char)t->text[i]);
    sl_buf_printf(out, "],\"logprob\":%.7g",
                  t->logprob > -9999.0f ? (double)t->logprob : -9999.0); /* no infinity in JSON */
}

static void put_token_probs(sl_buf *out, const llm_token *t)
{
    put_prob(out, &t->chosen);
    sl_buf_puts(out, ",\"top_logprobs\":[");
    for (size_t i = 0; i < t->top_count; i++) {
        if (i > 0)
            sl_buf_putc(out, ',');
        put_prob(out, &t->top[i]);
        sl_buf_putc(out, '}');
    }
    sl_buf_puts(out, "]}");
}

/* "name_n", "name_ms", "name_per_token_ms", "name_per_second" without a comma before. */
static void put_rate(sl_buf *out, const char *name, int64_t count, int64_t ns)
{
    double ms = (double)SL_MAX(ns, 0) / 1e6;

    sl_buf_printf(out,
                  "\"%s_n\":%lld,\"%s_ms\":%.3f,\"%s_per_token_ms\":%.6g,\"%s_per_second\":%.6g",
                  name, (long long)count, name, ms, name, count > 0 ? ms / (double)count : 0.0,
                  name, ms > 0 ? (double)count * 1e3 / ms : 0.0);
}

static void put_timings(const llamacpp_encoder *e, const llamacpp_choice *c, int64_t now_ns,
                        sl_buf *out)
{
    int64_t first_ns = c->first_ns ? c->first_ns : now_ns;

    sl_buf_printf(out, "\"timings\":{\"cache_n\":%lld,", (long long)c->cached_tokens);
    put_rate(out, "prompt", c->prompt_tokens - c->cached_tokens, first_ns - e->start_ns);
    sl_buf_putc(out, ',');
    put_rate(out, "predicted", c->output_tokens, now_ns - first_ns);
    sl_buf_putc(out, '}');
}

static const char *stop_type(const llamacpp_choice *c)
{
    switch (c->finish) {
    case LLM_FINISH_STOP:
        return c->stop.len > 0 ? "word" : "eos";
    case LLM_FINISH_LENGTH:
        return "limit";
    default:
        return "none";
    }
}

/* The record that ends a choice; a whole answer is this record with content and tokens. */
static void put_final(const llamacpp_encoder *e, uint32_t i, sl_buf *out)
{
    const llamacpp_choice *c = &e->choices[i];
    int64_t in_cache = c->prompt_tokens + SL_MAX(c->output_tokens - 1, 0);

    sl_buf_printf(out, "{\"index\":%u,\"content\":", i);
    sl_buf_put_json(out, sl_buf_str(&c->text), c->text.len);
    sl_buf_puts(out, ",\"tokens\":[");
    sl_buf_put(out, sl_buf_str(&c->tokens), c->tokens.len);
    sl_buf_printf(out, "],\"id_slot\":%lld,\"stop\":true,\"stop_type\":\"%s\",\"stopping_word\":",
                  (long long)e->id_slot, stop_type(c));
    sl_buf_put_json(out, sl_buf_str(&c->stop), c->stop.len);
    sl_buf_printf(out,
                  ",\"tokens_predicted\":%lld,\"tokens_evaluated\":%lld,\"tokens_cached\":%lld,",
                  (long long)c->output_tokens, (long long)c->prompt_tokens, (long long)in_cache);
    put_timings(e, c, c->end_ns, out);
    sl_buf_puts(out, ",\"model\":");
    put_str(out, e->model);
    sl_buf_printf(out, ",\"truncated\":false,\"has_new_line\":%s,\"generation_settings\":",
                  bool_text(c->has_new_line));
    sl_buf_put(out, e->settings.ptr, e->settings.len);
    sl_buf_puts(out, ",\"prompt\":");
    sl_buf_put_json(out, e->prompts[i].ptr ? (const char *)e->prompts[i].ptr : "",
                    e->prompts[i].len);
    if (e->probs && !e->base.stream) {
        sl_buf_puts(out, ",\"completion_probabilities\":[");
        sl_buf_put(out, sl_buf_str(&c->probs), c->probs.len);
        sl_buf_putc(out, ']');
    }
    sl_buf_putc(out, '}');
}

/* ---- events -------------------------------------------------------------------------------- */

static void stream_record(const llamacpp_encoder *e, uint32_t i, const char *text, size_t len,
                          const llm_token *t, int64_t now_ns, sl_buf *out)
{
    const llamacpp_choice *c = &e->choices[i];

    sl_buf_printf(out, "data: {\"index\":%u,\"content\":", i);
    sl_buf_put_json(out, len ? text : "", len);
    sl_buf_puts(out, ",\"tokens\":[");
    if (t)
        sl_buf_printf(out, "%d", t->chosen.id);
    sl_buf_printf(out,
                  "],\"stop\":false,\"id_slot\":%lld,\"tokens_predicted\":%lld,"
                  "\"tokens_evaluated\":%lld",
                  (long long)e->id_slot, (long long)c->output_tokens, (long long)c->prompt_tokens);
    if (e->timings_per_token) {
        sl_buf_putc(out, ',');
        put_timings(e, c, now_ns, out);
    }
    if (e->probs && t) {
        sl_buf_puts(out, ",\"completion_probabilities\":[");
        put_token_probs(out, t);
        sl_buf_putc(out, ']');
    }
    sl_buf_puts(out, "}\n\n");
}

/* One record per token; the text goes with the last of them. */
static void stream_delta(llamacpp_encoder *e, const llm_event *ev, int64_t now_ns, sl_buf *out)
{
    llamacpp_choice *c = &e->choices[ev->choice];

    for (size_t k = 0; k < ev->token_count; k++) {
        bool last = k + 1 == ev->token_count;

        c->output_tokens++;
        stream_record(e, ev->choice, ev->text, last ? ev->text_len : 0, &ev->tokens[k], now_ns,
                      out);
    }
    if (ev->token_count == 0 && ev->text_len > 0)
        stream_record(e, ev->choice, ev->text, ev->text_len, NULL, now_ns, out);
}

static void collect_delta(llamacpp_encoder *e, const llm_event *ev)
{
    llamacpp_choice *c = &e->choices[ev->choice];

    c->output_tokens += (int64_t)ev->token_count;
    sl_buf_put(&c->text, ev->text, ev->text_len);
    for (size_t k = 0; k < ev->token_count; k++) {
        if (e->return_tokens)
            sl_buf_printf(&c->tokens, "%s%d", c->tokens.len ? "," : "", ev->tokens[k].chosen.id);
        if (e->probs) {
            sl_buf_puts(&c->probs, c->probs.len ? "," : "");
            put_token_probs(&c->probs, &ev->tokens[k]);
        }
    }
}

static void take_prompt_usage(llamacpp_choice *c, const llm_usage *u)
{
    if (u->prompt_tokens > 0) {
        c->prompt_tokens = u->prompt_tokens;
        c->cached_tokens = u->cached_tokens;
    }
}

static void on_delta(llamacpp_encoder *e, const llm_event *ev, int64_t now_ns, sl_buf *out)
{
    llamacpp_choice *c = &e->choices[ev->choice];

    take_prompt_usage(c, &ev->usage);
    if (c->first_ns == 0 && ev->token_count > 0)
        c->first_ns = now_ns;
    if (ev->text_len > 0 && memchr(ev->text, '\n', ev->text_len))
        c->has_new_line = true;
    if (e->base.stream)
        stream_delta(e, ev, now_ns, out);
    else
        collect_delta(e, ev);
}

static void on_finish(llamacpp_encoder *e, const llm_event *ev, int64_t now_ns, sl_buf *out)
{
    llamacpp_choice *c = &e->choices[ev->choice];

    take_prompt_usage(c, &ev->usage);
    c->finish = ev->finish;
    c->end_ns = now_ns;
    if (ev->stop)
        sl_buf_puts(&c->stop, ev->stop);
    else if (ev->finish == LLM_FINISH_STOP)
        c->output_tokens++; /* the token that ends generation is in no delta */
    if (c->first_ns == 0)
        c->first_ns = now_ns;
    if (e->base.stream) {
        sl_buf_puts(out, "data: ");
        put_final(e, ev->choice, out);
        sl_buf_puts(out, "\n\n");
    }
}

static void on_done(llamacpp_encoder *e, sl_buf *out)
{
    bool stream = e->base.stream && e->base.started, many = e->base.choice_count > 1;

    for (uint32_t i = 0; i < e->base.choice_count && !e->base.failed; i++) {
        const llamacpp_choice *c = &e->choices[i];

        if (c->text.failed || c->tokens.failed || c->probs.failed || c->stop.failed) {
            sl_err err = { 0 };

            (void)sl_fail(&err, SL_EINTERNAL, "the answer could not be put together");
            openai_error_from(&err, LLM_COMPLETE, &e->base.error);
            e->base.failed = true;
        }
    }
    if (e->base.failed) {
        sl_buf_puts(out, stream ? "data: " : "");
        llamacpp_put_error(out, &e->base.error);
        sl_buf_puts(out, stream ? "\n\n" : "");
        return;
    }
    for (uint32_t i = 0; i < e->base.choice_count && !stream; i++) {
        sl_buf_puts(out, !many ? "" : i == 0 ? "[" : ",");
        put_final(e, i, out);
    }
    if (!stream && many)
        sl_buf_putc(out, ']');
}

void llamacpp_encode(llamacpp_encoder *e, const llm_event *ev, int64_t now_ns, sl_buf *out)
{
    SL_ASSERT(ev->choice < e->base.choice_count);
    switch (ev->kind) {
    case LLM_EV_START:
        e->base.started = true;
        e->start_ns = now_ns;
        if (e->base.choice_count == 1) /* else each delta tells */
            take_prompt_usage(&e->choices[0], &ev->usage);
        break;
    case LLM_EV_DELTA:
        on_delta(e, ev, now_ns, out);
        break;
    case LLM_EV_FINISH:
        on_finish(e, ev, now_ns, out);
        break;
    case LLM_EV_ERROR:
        e->base.failed = true;
        openai_error_from(&ev->error, LLM_COMPLETE, &e->base.error);
        break;
    case LLM_EV_DONE:
        on_done(e, out);
        break;
    default:
        break;
    }
}
