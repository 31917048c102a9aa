/* tgi_encode.c - events to TGI's JSON, whole or as a stream of SSE records.
 *
 * A stream has a record per token; the last token's also holds the whole text, so that it waits for
 * LLM_EV_FINISH, which follows it at once. */
#include <math.h>
#include <stdio.h>

#include "api/tgi.h"
#include "base/os.h"

struct tgi_choice {
    sl_buf text;    /* what was generated */
    sl_buf prefill; /* the prompt's tokens */
    sl_buf tokens, tops;
    double logprob; /* sum over the tokens */
    int64_t count;  /* tokens, with the one that ended generation */
    int64_t prompt_tokens;
    int32_t last_id;
    llm_finish finish;
    bool has_stop;
};

static void put_str(sl_buf *out, const char *text)
{
    sl_buf_put_json(out, text, strlen(text));
}

/* ---- errors -------------------------------------------------------------------------------- */

/* Status and type of the original for a failure in OpenAI's terms. */
static void translate(openai_error *e)
{
    bool is_overload = e->code && strcmp(e->code, "engine_overloaded") == 0;
    char said[SL_ERR_TEXT_BYTES];

    if (is_overload || e->http == 429) {
        e->http = 429;
        e->type = "overloaded";
    } else if (e->http == 401 || e->http == 403) {
        e->type = e->http == 401 ? "authentication" : "permission";
    } else if (e->http >= 500) {
        e->type = e->http == 501 ? "validation" : "generation";
        e->http = e->http == 501 ? 422 : 424;
    } else {
        e->type = "validation";
        if (e->http == 400)
            e->http = 422;
        memcpy(said, e->message, sizeof said);
        snprintf(e->message, sizeof e->message, "Input validation error: %.480s", said);
    }
}

static void put_error(sl_buf *out, const openai_error *e)
{
    sl_buf_puts(out, "{\"error\":");
    put_str(out, e->message);
    sl_buf_puts(out, ",\"error_type\":");
    put_str(out, e->type);
    sl_buf_putc(out, '}');
}

const api_dialect tgi_dialect = { .name = "tgi", .translate = translate, .put_error = put_error };

/* ---- life ---------------------------------------------------------------------------------- */

static void encode_op(encoder *e, const llm_event *ev, sl_buf *out)
{
    tgi_encode((tgi_encoder *)e, ev, sl_clock_mono_ns(), out);
}

static void destroy_op(encoder *e)
{
    tgi_encoder_deinit((tgi_encoder *)e);
    sl_free(e);
}

static void headers_op(const encoder *base, encoder_header_fn set, void *ctx);

sl_status tgi_encoder_init(tgi_encoder *e, const tgi_call *call, int64_t started_ns)
{
    static const encoder_ops ops = {
        .encode = encode_op, .destroy = destroy_op, .dialect = &tgi_dialect, .headers = headers_op
    };
    const llm_request *req = call->req;

    *e = (tgi_encoder){
        .base = { .ops = &ops,
                  .stream = call->stream,
                  .choice_count = (uint32_t)req->prompt_count * req->n },
        .form = call->form,
        .details = call->details,
        .full_text = call->full_text,
        .input_details = call->input_details,
        .has_seed = req->sampling.temperature > 0,
        .has_tops = req->top_logprobs > 0,
        .seed = req->sampling.seed,
        .n = req->n,
        .prompts = req->prompts,
        .input_chars = call->input_chars,
        .started_ns = started_ns,
    };
    sl_buf_init(&e->last, OPENAI_ANSWER_MAX);
    e->choices = sl_calloc(e->base.choice_count, sizeof *e->choices);
    if (!e->choices)
        return SL_ENOMEM;
    for (uint32_t i = 0; i < e->base.choice_count; i++) {
        tgi_choice *c = &e->choices[i];

        sl_buf_init(&c->text, OPENAI_ANSWER_MAX);
        sl_buf_init(&c->prefill, OPENAI_ANSWER_MAX);
        sl_buf_init(&c->tokens, OPENAI_ANSWER_MAX);
        sl_buf_init(&c->tops, OPENAI_ANSWER_MAX);
    }
    return SL_OK;
}

void tgi_encoder_deinit(tgi_encoder *e)
{
    for (uint32_t i = 0; e->choices && i < e->base.choice_count; i++) {
        tgi_choice *c = &e->choices[i];

        sl_buf_deinit(&c->text);
        sl_buf_deinit(&c->prefill);
        sl_buf_deinit(&c->tokens);
        sl_buf_deinit(&c->tops);
    }
    sl_free(e->choices);
    e->choices = NULL;
    sl_buf_deinit(&e->last);
}

encoder *tgi_encoder_create(const tgi_call *call, int64_t started_ns)
{
    tgi_encoder *e = sl_malloc(sizeof *e);

    if (e && tgi_encoder_init(e, call, started_ns) != SL_OK) {
        sl_free(e);
        return NULL;
    }
    return e ? &e->base : NULL;
}

/* ---- pieces -------------------------------------------------------------------------------- */

static const char *finish_text(const tgi_choice *c)
{
    if (c->finish == LLM_FINISH_STOP)
        return c->has_stop ? "stop_sequence" : "eos_token";
    return "length";
}

/* {"id":..,"text":"..","logprob":.. without an end. */
static void put_token(sl_buf *out, const llm_token_prob *t, const char *text, size_t len)
{
    sl_buf_printf(out, "{\"id\":%d,\"text\":", t->id);
    sl_buf_put_json(out, len ? text : "", len);
    if (isnan(t->logprob))
        sl_buf_puts(out, ",\"logprob\":null");
    else
        sl_buf_printf(out, ",\"logprob\":%.7g",
                      t->logprob > -9999.0f ? (double)t->logprob : -9999.0);
}

static void put_special(sl_buf *out, bool is_special)
{
    sl_buf_puts(out, is_special ? ",\"special\":true}" : ",\"special\":false}");
}

/* [token,...] */
static void put_tops(sl_buf *out, const llm_token *t)
{
    sl_buf_putc(out, '[');
    for (size_t i = 0; i < t->top_count; i++) {
        if (i > 0)
            sl_buf_putc(out, ',');
        put_token(out, &t->top[i], t->top[i].text, t->top[i].text_len);
        put_special(out, t->top[i].is_special);
    }
    sl_buf_putc(out, ']');
}

static void put_seed(const tgi_encoder *e, sl_buf *out)
{
    if (e->has_seed)
        sl_buf_printf(out, ",\"seed\":%llu", (unsigned long long)e->seed);
    else
        sl_buf_puts(out, ",\"seed\":null");
}

/* "finish_reason", "generated_tokens" and "seed". */
static void put_end(const tgi_encoder *e, const tgi_choice *c, sl_buf *out)
{
    sl_buf_printf(out, "\"finish_reason\":\"%s\",\"generated_tokens\":%lld", finish_text(c),
                  (long long)c->count);
    put_seed(e, out);
}

/* The choice's text as a JSON string, behind its inputs when these were asked for. */
static void put_text(const tgi_encoder *e, uint32_t i, sl_buf *out)
{
    const tgi_choice *c = &e->choices[i];
    const llm_prompt *p = &e->prompts[i / e->n];
    sl_buf whole;

    if (!e->full_text) {
        sl_buf_put_json(out, sl_buf_str(&c->text), c->text.len);
        return;
    }
    sl_buf_init(&whole, 2 * OPENAI_ANSWER_MAX);
    sl_buf_put(&whole, p->text, p->text_len);
    sl_buf_put(&whole, sl_buf_str(&c->text), c->text.len);
    sl_buf_put_json(out, sl_buf_str(&whole), whole.len);
    out->failed = out->failed || whole.failed;
    sl_buf_deinit(&whole);
}

/* ---- headers ------------------------------------------------------------------------------- */

/* The choice of a prompt whose tokens are likeliest on average. */
static uint32_t best_of(const tgi_encoder *e, uint32_t prompt)
{
    uint32_t best = prompt * e->n;

    for (uint32_t i = best + 1; i < (prompt + 1) * e->n; i++) {
        const tgi_choice *a = &e->choices[i], *b = &e->choices[best];

        if (a->logprob / (double)SL_MAX(a->count, 1) > b->logprob / (double)SL_MAX(b->count, 1))
            best = i;
    }
    return best;
}

static void set_count(encoder_header_fn set, void *ctx, const char *name, int64_t value)
{
    char text[24];

    snprintf(text, sizeof text, "%lld", (long long)value);
    set(ctx, name, text);
}

static void headers_op(const encoder *base, encoder_header_fn set, void *ctx)
{
    const tgi_encoder *e = (const tgi_encoder *)base;
    const tgi_choice *c = &e->choices[best_of(e, 0)];
    int64_t total_ns = e->ended_ns - e->started_ns;
    int64_t inference_ns = SL_MAX(e->usage.total_ns - e->usage.queue_ns, 0);
    char seconds[32];

    set(ctx, "x-compute-type", "cpu");
    set_count(set, ctx, "x-compute-characters", (int64_t)e->input_chars);
    if (e->base.stream)
        return; /* X-Accel-Buffering: no is on every stream here */
    snprintf(seconds, sizeof seconds, "%.6f", (double)total_ns / 1e9);
    set(ctx, "x-compute-time", seconds);
    set_count(set, ctx, "x-total-time", total_ns / 1000000);
    set_count(set, ctx, "x-validation-time", SL_MAX(total_ns - e->usage.total_ns, 0) / 1000000);
    set_count(set, ctx, "x-queue-time", e->usage.queue_ns / 1000000);
    set_count(set, ctx, "x-inference-time", inference_ns / 1000000);
    set_count(set, ctx, "x-time-per-token", inference_ns / SL_MAX(c->count, 1) / 1000000);
    set_count(set, ctx, "x-prompt-tokens", e->usage.prompt_tokens);
    set_count(set, ctx, "x-generated-tokens", c->count);
}

/* ---- streaming ----------------------------------------------------------------------------- */

/* A record up to its generated_text. */
static void record_open(tgi_encoder *e, const llm_token *t, bool is_special, const char *text,
                        size_t len, sl_buf *out)
{
    sl_buf_printf(out, "data: {\"index\":%lld,\"token\":", (long long)++e->streamed);
    put_token(out, &t->chosen, text, len);
    put_special(out, is_special);
    if (e->has_tops) {
        sl_buf_puts(out, ",\"top_tokens\":");
        put_tops(out, t);
    }
}

static void record_close(sl_buf *out)
{
    sl_buf_puts(out, ",\"generated_text\":null,\"details\":null}\n\n");
}

static void stream_token(tgi_encoder *e, const llm_token *t, const char *text, size_t len,
                         sl_buf *out)
{
    sl_buf *to = t->is_last ? &e->last : out;

    record_open(e, t, t->chosen.is_special, text, len, to);
    if (!t->is_last)
        record_close(to);
}

/* The last record; its token is one without text when the backend did not tell which is the last.
 */
static void stream_finish(tgi_encoder *e, uint32_t i, sl_buf *out)
{
    const tgi_choice *c = &e->choices[i];
    const llm_token none = { .chosen = { .id = c->last_id } };

    if (e->last.len > 0)
        sl_buf_put(out, sl_buf_str(&e->last), e->last.len);
    else
        record_open(e, &none, true, "", 0, out);
    out->failed = out->failed || e->last.failed;
    sl_buf_puts(out, ",\"generated_text\":");
    put_text(e, i, out);
    sl_buf_puts(out, ",\"details\":{");
    put_end(e, c, out);
    sl_buf_printf(out, ",\"input_length\":%lld}}\n\n", (long long)c->prompt_tokens);
}

/* ---- collecting ---------------------------------------------------------------------------- */

/* Members of a sequence's details. */
static void put_sequence(const tgi_encoder *e, uint32_t i, sl_buf *out)
{
    const tgi_choice *c = &e->choices[i];

    put_end(e, c, out);
    sl_buf_puts(out, ",\"prefill\":[");
    sl_buf_put(out, sl_buf_str(&c->prefill), c->prefill.len);
    sl_buf_puts(out, "],\"tokens\":[");
    sl_buf_put(out, sl_buf_str(&c->tokens), c->tokens.len);
    sl_buf_putc(out, ']');
    if (e->has_tops) {
        sl_buf_puts(out, ",\"top_tokens\":[");
        sl_buf_put(out, sl_buf_str(&c->tops), c->tops.len);
        sl_buf_putc(out, ']');
    }
}

static void put_others(const tgi_encoder *e, uint32_t best, sl_buf *out)
{
    bool first = true;

    sl_buf_puts(out, ",\"best_of_sequences\":[");
    for (uint32_t i = 0; i < e->n; i++) {
        if (i == best)
            continue;
        sl_buf_puts(out, first ? "{\"generated_text\":" : ",{\"generated_text\":");
        first = false;
        put_text(e, i, out);
        sl_buf_putc(out, ',');
        put_sequence(e, i, out);
        sl_buf_putc(out, '}');
    }
    sl_buf_putc(out, ']');
}

static void put_answer(const tgi_encoder *e, sl_buf *out)
{
    uint32_t best = best_of(e, 0);

    sl_buf_puts(out, e->form == TGI_COMPAT ? "[{\"generated_text\":" : "{\"generated_text\":");
    put_text(e, best, out);
    if (e->details) {
        sl_buf_puts(out, ",\"details\":{");
        put_sequence(e, best, out);
        if (e->n > 1)
            put_others(e, best, out);
        sl_buf_putc(out, '}');
    }
    sl_buf_puts(out, e->form == TGI_COMPAT ? "}]" : "}");
}

static void put_predictions(const tgi_encoder *e, sl_buf *out)
{
    sl_buf_puts(out, "{\"predictions\":[");
    for (uint32_t i = 0; i < e->base.choice_count / e->n; i++) {
        if (i > 0)
            sl_buf_putc(out, ',');
        put_text(e, best_of(e, i), out);
    }
    sl_buf_puts(out, "]}");
}

static void put_comma(sl_buf *b)
{
    if (b->len > 0)
        sl_buf_putc(b, ',');
}

static void collect_token(const tgi_encoder *e, tgi_choice *c, const llm_token *t, const char *text,
                          size_t len)
{
    if (!e->details)
        return;
    put_comma(&c->tokens);
    put_token(&c->tokens, &t->chosen, text, len);
    put_special(&c->tokens, t->chosen.is_special);
    if (e->has_tops) {
        put_comma(&c->tops);
        put_tops(&c->tops, t);
    }
}

/* ---- events -------------------------------------------------------------------------------- */

static void take_prompt_token(tgi_choice *c, const llm_token_prob *t)
{
    put_comma(&c->prefill);
    put_token(&c->prefill, t, t->text, t->text_len);
    sl_buf_putc(&c->prefill, '}');
}

/* The token that the event's text goes with: the last one that stands for text; or none. */
static size_t text_token(const llm_event *ev)
{
    size_t at = ev->token_count;

    for (size_t i = 0; i < ev->token_count; i++)
        if (!ev->tokens[i].is_prompt && !ev->tokens[i].chosen.is_special)
            at = i;
    return at;
}

/* Text that was held back until the end and has no token of its own any more: clients that put the
 * tokens' texts together must see it. */
static void stream_rest(tgi_encoder *e, const llm_event *ev, sl_buf *out)
{
    const llm_token again = { .chosen = { .id = e->choices[ev->choice].last_id } };

    record_open(e, &again, false, ev->text, ev->text_len, out);
    record_close(out);
}

static void on_delta(tgi_encoder *e, const llm_event *ev, sl_buf *out)
{
    tgi_choice *c = &e->choices[ev->choice];
    size_t with_text = text_token(ev);

    if (ev->usage.prompt_tokens > 0)
        c->prompt_tokens = ev->usage.prompt_tokens;
    sl_buf_put(&c->text, ev->text, ev->text_len);
    if (e->base.stream && with_text == ev->token_count && ev->text_len > 0)
        stream_rest(e, ev, out);
    for (size_t i = 0; i < ev->token_count; i++) {
        const llm_token *t = &ev->tokens[i];
        const char *text = t->chosen.is_special ? t->chosen.text : i == with_text ? ev->text : "";
        size_t len = t->chosen.is_special ? t->chosen.text_len : i == with_text ? ev->text_len : 0;

        if (t->is_prompt) {
            if (e->input_details)
                take_prompt_token(c, &t->chosen);
            continue;
        }
        c->count++;
        c->logprob += t->chosen.logprob;
        c->last_id = t->chosen.id;
        if (e->base.stream)
            stream_token(e, t, text, len, out);
        else
            collect_token(e, c, t, text, len);
    }
}

static void fail(tgi_encoder *e, const sl_err *err)
{
    if (e->base.failed)
        return;
    e->base.failed = true;
    openai_error_from(err, LLM_COMPLETE, &e->base.error);
}

static void on_finish(tgi_encoder *e, const llm_event *ev, sl_buf *out)
{
    tgi_choice *c = &e->choices[ev->choice];
    bool has_details = e->details || e->base.stream;
    sl_err err = { 0 };

    c->finish = ev->finish;
    c->has_stop = ev->stop != NULL;
    if (ev->finish == LLM_FINISH_CANCELLED) {
        err.status = sl_fail(&err, SL_EINTERNAL, "Incomplete generation");
        fail(e, &err);
        return;
    }
    if (ev->finish == LLM_FINISH_STOP && !ev->stop && !has_details)
        c->count++; /* the token that ended generation is in no delta then */
    if (e->base.stream)
        stream_finish(e, ev->choice, out);
}

static void put_failure(tgi_encoder *e, sl_buf *out)
{
    openai_error said = e->base.error;

    translate(&said);
    sl_buf_puts(out, "data: ");
    put_error(out, &said);
    sl_buf_puts(out, "\n\n");
}

static void on_done(tgi_encoder *e, sl_buf *out)
{
    bool streamed = e->base.stream && e->base.started;
    sl_err err = { 0 };

    for (uint32_t i = 0; i < e->base.choice_count; i++) {
        const tgi_choice *c = &e->choices[i];

        if (c->text.failed || c->prefill.failed || c->tokens.failed || c->tops.failed) {
            err.status = sl_fail(&err, SL_EINTERNAL, "The answer could not be put together");
            fail(e, &err);
        }
    }
    if (e->base.failed && streamed)
        put_failure(e, out);
    else if (!e->base.failed && !streamed && e->form == TGI_VERTEX)
        put_predictions(e, out);
    else if (!e->base.failed && !streamed)
        put_answer(e, out);
}

void tgi_encode(tgi_encoder *e, const llm_event *ev, int64_t now_ns, sl_buf *out)
{
    SL_ASSERT(ev->choice < e->base.choice_count);
    switch (ev->kind) {
    case LLM_EV_START:
        e->base.started = true;
        e->usage = ev->usage;
        for (uint32_t i = 0; i < e->base.choice_count; i++) /* until a delta tells */
            e->choices[i].prompt_tokens = ev->usage.prompt_tokens;
        break;
    case LLM_EV_DELTA:
        on_delta(e, ev, out);
        break;
    case LLM_EV_FINISH:
        on_finish(e, ev, out);
        break;
    case LLM_EV_ERROR:
        fail(e, &ev->error);
        break;
    case LLM_EV_DONE:
        e->usage = ev->usage;
        e->ended_ns = now_ns;
        on_done(e, out);
        break;
    default:
        break;
    }
}
