/* ollama_encode.c - events to Ollama's JSON: one object, or a line for each piece of text.
 *
 * A line that streams carries its piece; the last one, with `done`, what the answer took. An answer
 * that does not stream is the last line with all the text in it. */
#include "api/ollama.h"
#include "api/grounds.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

#include "base/os.h"

static void put_str(sl_buf *out, const char *text)
{
    sl_buf_put_json(out, text, strlen(text));
}

void ollama_time(int64_t wall_ns, char ret[OLLAMA_TIME_BYTES])
{
    time_t s = (time_t)(wall_ns / 1000000000);
    struct tm tm;
    size_t len;

    gmtime_r(&s, &tm);
    len = strftime(ret, OLLAMA_TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(ret + len, OLLAMA_TIME_BYTES - len, ".%09lldZ", (long long)(wall_ns % 1000000000));
}

/* ---- errors -------------------------------------------------------------------------------- */

static void translate(openai_error *e)
{
    char text[SL_ERR_TEXT_BYTES];

    if (e->http != 503)
        return;
    memcpy(text, e->message, sizeof text);
    snprintf(e->message, sizeof e->message, "server busy, please try again. %.440s", text);
}

void ollama_put_error(sl_buf *out, const openai_error *e)
{
    sl_buf_puts(out, "{\"error\":");
    put_str(out, e->message);
    sl_buf_putc(out, '}');
}

const api_dialect ollama_dialect = { "ollama", translate, ollama_put_error };

/* ---- life ---------------------------------------------------------------------------------- */

static void encode_op(encoder *e, const llm_event *ev, sl_buf *out)
{
    ollama_encode((ollama_encoder *)e, ev, sl_clock_wall_ns(), out);
}

static void destroy_op(encoder *e)
{
    ollama_encoder_deinit((ollama_encoder *)e);
    sl_free(e);
}

sl_status ollama_encoder_init(ollama_encoder *e, const ollama_call *call)
{
    static const encoder_ops ops = { .encode = encode_op,
                                     .destroy = destroy_op,
                                     .dialect = &ollama_dialect,
                                     .stream_type = "application/x-ndjson" };
    const llm_request *req = call->req;

    *e = (ollama_encoder){
        .base = { .ops = &ops, .choice_count = 1, .stream = call->stream && !req->load_only },
        .kind = call->kind,
        .logprobs = req->logprobs,
        .load_only = req->load_only,
        .unload = req->load_only && req->keep_alive_ns == 0,
        .dimensions = call->dimensions
    };
    snprintf(e->model, sizeof e->model, "%s", req->model);
    sl_buf_init(&e->text, OPENAI_ANSWER_MAX);
    sl_buf_init(&e->probs, OPENAI_ANSWER_MAX);
    sl_buf_init(&e->context, OPENAI_ANSWER_MAX);
    sl_buf_init(&e->rag, OPENAI_ANSWER_MAX);
    if (req->task != LLM_EMBED)
        return SL_OK;
    e->base.choice_count = (uint32_t)SL_MAX(req->prompt_count, (size_t)1);
    e->vectors = sl_calloc(e->base.choice_count, sizeof *e->vectors);
    if (!e->vectors)
        return SL_ENOMEM;
    for (uint32_t i = 0; i < e->base.choice_count; i++)
        sl_buf_init(&e->vectors[i], OPENAI_ANSWER_MAX);
    return SL_OK;
}

void ollama_encoder_deinit(ollama_encoder *e)
{
    for (uint32_t i = 0; e->vectors && i < e->base.choice_count; i++)
        sl_buf_deinit(&e->vectors[i]);
    sl_free(e->vectors);
    sl_buf_deinit(&e->text);
    sl_buf_deinit(&e->probs);
    sl_buf_deinit(&e->context);
    sl_buf_deinit(&e->rag);
}

encoder *ollama_encoder_create(const ollama_call *call)
{
    ollama_encoder *e = sl_malloc(sizeof *e);

    if (e && ollama_encoder_init(e, call) != SL_OK) {
        sl_free(e);
        return NULL;
    }
    return e ? &e->base : NULL;
}

/* ---- pieces -------------------------------------------------------------------------------- */

static void put_prob(sl_buf *out, const llm_token_prob *t)
{
    sl_buf_puts(out, "{\"token\":");
    sl_buf_put_json(out, t->text, t->text_len);
    sl_buf_printf(out, ",\"logprob\":%.7g,\"bytes\":[",
                  isfinite(t->logprob) ? (double)t->logprob : -9999.0);
    for (size_t i = 0; i < t->text_len; i++)
        sl_buf_printf(out, i ? ",%d" : "%d", (unsigned char)t->text[i]);
    sl_buf_putc(out, ']');
}

static void add_probs(ollama_encoder *e, const llm_event *ev)
{
    for (size_t i = 0; e->logprobs && i < ev->token_count; i++) {
        const llm_token *t = &ev->tokens[i];

        sl_buf_puts(&e->probs, e->probs.len ? "," : "");
        put_prob(&e->probs, &t->chosen);
        if (t->top_count > 0)
            sl_buf_puts(&e->probs, ",\"top_logprobs\":[");
        for (size_t k = 0; k < t->top_count; k++) {
            sl_buf_puts(&e->probs, k ? "," : "");
            put_prob(&e->probs, &t->top[k]);
            sl_buf_putc(&e->probs, '}');
        }
        sl_buf_puts(&e->probs, t->top_count > 0 ? "]}" : "}");
    }
}

static void add_ids(ollama_encoder *e, const int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sl_buf_printf(&e->context, "%s%d", e->context.len ? "," : "", ids[i]);
}

/* {"model":...,"created_at":...,"response":"text" and the logprobs gathered so far. */
static void put_head(ollama_encoder *e, const char *text, size_t len, int64_t wall_ns, sl_buf *out)
{
    char when[OLLAMA_TIME_BYTES];

    ollama_time(wall_ns, when);
    sl_buf_puts(out, "{\"model\":");
    put_str(out, e->model);
    sl_buf_printf(out, ",\"created_at\":\"%s\",", when);
    if (e->kind == OLLAMA_CHAT)
        sl_buf_puts(out, "\"message\":{\"role\":\"assistant\",\"content\":");
    else
        sl_buf_puts(out, "\"response\":");
    sl_buf_put_json(out, len ? text : "", len);
    sl_buf_puts(out, e->kind == OLLAMA_CHAT ? "}" : "");
    if (e->probs.len > 0) {
        sl_buf_puts(out, ",\"logprobs\":[");
        sl_buf_put(out, e->probs.ptr, e->probs.len);
        sl_buf_putc(out, ']');
        sl_buf_clear(&e->probs);
    }
}

static const char *reason_of(const ollama_encoder *e)
{
    if (e->load_only)
        return e->unload ? "unload" : "load";
    if (e->finish == LLM_FINISH_LENGTH)
        return "length";
    return e->finish == LLM_FINISH_CANCELLED ? "abort" : "stop";
}

static void put_last(ollama_encoder *e, const llm_usage *u, int64_t wall_ns, sl_buf *out)
{
    put_head(e, sl_buf_str(&e->text), e->text.len, wall_ns, out);
    sl_buf_printf(out, ",\"done\":true,\"done_reason\":\"%s\"", reason_of(e));
    if (!e->load_only) {
        if (e->kind == OLLAMA_GENERATE && e->context.len > 0) {
            sl_buf_puts(out, ",\"context\":[");
            sl_buf_put(out, e->context.ptr, e->context.len);
            sl_buf_putc(out, ']');
        }
        sl_buf_printf(
            out,
            ",\"total_duration\":%lld,\"load_duration\":%lld,\"prompt_eval_count\":%lld,"
            "\"prompt_eval_duration\":%lld,\"eval_count\":%lld,\"eval_duration\":%lld",
            (long long)(u->total_ns + u->load_ns), (long long)u->load_ns,
            (long long)u->prompt_tokens, (long long)SL_MAX(u->ttft_ns - u->queue_ns, (int64_t)0),
            (long long)u->output_tokens, (long long)SL_MAX(u->total_ns - u->ttft_ns, (int64_t)0));
    }
    sl_buf_put(out, sl_buf_str(&e->rag), e->rag.len);
    sl_buf_putc(out, '}');
}

/* The first `dimensions` values, of length 1 again. */
static void take_vector(ollama_encoder *e, const llm_event *ev)
{
    sl_buf *out = &e->vectors[ev->choice];
    size_t count = ev->vector_len;
    double norm = 0, scale = 1;

    if (e->dimensions > 0 && (size_t)e->dimensions < count) {
        count = (size_t)e->dimensions;
        for (size_t i = 0; i < count; i++)
            norm += (double)ev->vector[i] * ev->vector[i];
        scale = norm > 0 ? 1 / sqrt(norm) : 1;
    }
    for (size_t i = 0; i < count; i++) {
        double v = ev->vector[i] * scale;

        sl_buf_printf(out, "%s%.9g", i ? "," : "[", isfinite(v) ? v : 0.0);
    }
    sl_buf_puts(out, count ? "]" : "[]");
}

static void put_vectors(const ollama_encoder *e, const llm_usage *u, sl_buf *out)
{
    bool old = e->kind == OLLAMA_EMBEDDINGS;
    uint32_t count = e->load_only ? 0 : e->base.choice_count;

    if (old) {
        sl_buf_puts(out, "{\"embedding\":");
    } else {
        sl_buf_puts(out, "{\"model\":");
        put_str(out, e->model);
        sl_buf_puts(out, ",\"embeddings\":[");
    }
    for (uint32_t i = 0; i < count; i++) {
        sl_buf_puts(out, i ? "," : "");
        sl_buf_put(out, sl_buf_str(&e->vectors[i]), e->vectors[i].len);
    }
    if (old)
        sl_buf_puts(out, count ? "}" : "[]}");
    else
        sl_buf_printf(
            out, "],\"total_duration\":%lld,\"load_duration\":%lld,\"prompt_eval_count\":%lld}",
            (long long)(u->total_ns + u->load_ns), (long long)u->load_ns,
            (long long)u->prompt_tokens);
}

/* ---- events -------------------------------------------------------------------------------- */

static void on_delta(ollama_encoder *e, const llm_event *ev, int64_t wall_ns, sl_buf *out)
{
    add_probs(e, ev);
    for (size_t i = 0; e->kind == OLLAMA_GENERATE && i < ev->token_count; i++)
        add_ids(e, &ev->tokens[i].chosen.id, 1);
    if (!e->base.stream) {
        sl_buf_put(&e->text, ev->text, ev->text_len);
        return;
    }
    if (ev->text_len == 0 && e->probs.len == 0)
        return; /* the text is held back */
    put_head(e, ev->text, ev->text_len, wall_ns, out);
    sl_buf_puts(out, ",\"done\":false}\n");
}

static void check_buffers(ollama_encoder *e)
{
    bool failed = e->text.failed || e->probs.failed || e->context.failed || e->rag.failed;
    sl_err err = { 0 };

    for (uint32_t i = 0; e->vectors && !e->load_only && i < e->base.choice_count; i++)
        failed = failed || e->vectors[i].failed || e->vectors[i].len == 0;
    if (e->base.failed || !failed)
        return;
    sl_fail(&err, SL_EINTERNAL, "the answer could not be put together");
    openai_error_from(&err, LLM_CHAT, &e->base.error);
    e->base.failed = true;
}

static void on_done(ollama_encoder *e, const llm_usage *u, int64_t wall_ns, sl_buf *out)
{
    check_buffers(e);
    if (e->base.failed)
        ollama_put_error(out, &e->base.error);
    else if (e->vectors)
        put_vectors(e, u, out);
    else
        put_last(e, u, wall_ns, out);
    if (e->base.stream)
        sl_buf_putc(out, '\n');
}

void ollama_encode(ollama_encoder *e, const llm_event *ev, int64_t wall_ns, sl_buf *out)
{
    SL_ASSERT(ev->choice < e->base.choice_count);
    switch (ev->kind) {
    case LLM_EV_START:
        e->base.started = true;
        if (e->kind == OLLAMA_GENERATE)
            add_ids(e, ev->prompt_ids, ev->prompt_id_count);
        break;
    case LLM_EV_DELTA:
        on_delta(e, ev, wall_ns, out);
        break;
    case LLM_EV_FINISH:
        e->finish = ev->finish;
        grounds_put_field(&e->rag, ev->grounds);
        break;
    case LLM_EV_EMBEDDING:
        take_vector(e, ev);
        break;
    case LLM_EV_ERROR:
        e->base.failed = true;
        openai_error_from(&ev->error, e->vectors ? LLM_EMBED : LLM_CHAT, &e->base.error);
        break;
    case LLM_EV_DONE:
        on_done(e, &ev->usage, wall_ns, out);
        break;
    default:
        break;
    }
}
