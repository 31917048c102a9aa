/* openai_encode.c - events to OpenAI's JSON, whole or as a stream of SSE records.
 *
 * One path: every event goes through openai_encode. A streaming encoder writes a chunk per event; a
 * collecting one appends the same pieces to its choices and writes the body at the end. Nothing
 * here builds a JSON tree: a chunk costs one pass over its bytes. */
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>

#include "api/grounds.h"
#include "api/openai_int.h"
#include "base/os.h"

#define FINGERPRINT "fp_sluice_" SLUICE_VERSION

static const char *finish_text(llm_finish f)
{
    switch (f) {
    case LLM_FINISH_STOP:
        return "\"stop\"";
    case LLM_FINISH_LENGTH:
        return "\"length\"";
    case LLM_FINISH_CANCELLED:
        return "\"abort\"";
    default:
        return "null";
    }
}

static void put_str(sl_buf *out, const char *text)
{
    sl_buf_put_json(out, text, strlen(text));
}

static void encode_op(encoder *e, const llm_event *ev, sl_buf *out)
{
    openai_encode((openai_encoder *)e, ev, out);
}

static void destroy_op(encoder *e)
{
    openai_encoder_deinit((openai_encoder *)e);
    sl_free(e);
}

#define CHOICE_BUFS 11

static void choice_bufs(openai_choice *c, sl_buf *ret[CHOICE_BUFS])
{
    sl_buf *const all[CHOICE_BUFS] = { &c->text,        &c->tokens,       &c->probs,
                                       &c->tops,        &c->offsets,      &c->ids,
                                       &c->prompt_ids,  &c->prompt_probs, &c->stop_reason,
                                       &c->annotations, &c->rag };

    memcpy(ret, all, sizeof all);
}

/* Whose turn the answer is, as in vLLM: the assistant's, or, where no new turn begins, that of the
 * last message, which is then repeated when echo asks for it. */
static void take_turn(openai_encoder *e, const openai_call *call)
{
    const json_t *messages = call->req->messages;
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const json_t *content = json_object_get(last, "content");
    const char *role = json_string_value(json_object_get(last, "role"));
    const char *own = call->req->no_generation_prompt && role ? role : "assistant";

    snprintf(e->role, sizeof e->role, "%s", own);
    if (call->echo && role && strcmp(role, own) == 0)
        sl_buf_put(&e->echo, json_string_value(content), json_string_length(content));
}

sl_status openai_encoder_init(openai_encoder *e, const openai_call *call, const char *model,
                              int64_t created_s)
{
    const llm_request *req = call->req;
    size_t prompts = req->task == LLM_CHAT ? 1 : req->prompt_count;
    static const encoder_ops ops = { .encode = encode_op,
                                     .destroy = destroy_op,
                                     .dialect = &openai_dialect };

    *e = (openai_encoder){ .base = { .ops = &ops, .stream = call->stream },
                           .task = req->task,
                           .include_usage = call->include_usage,
                           .continuous_usage = call->include_usage && call->continuous_usage,
                           .base64 = call->base64,
                           .dimensions = call->dimensions,
                           .logprobs = call->logprobs,
                           .token_ids = call->token_ids,
                           .tokens_as_ids = call->tokens_as_ids,
                           .prompt_probs = req->prompt_probs,
                           .per_prompt = req->task == LLM_EMBED ? 1 : req->n,
                           .created_s = created_s };
    e->n = e->task == LLM_EMBED ? 1 : call->n;
    sl_random_id(e->id, sizeof e->id, req->task == LLM_CHAT ? "chatcmpl-" : "cmpl-", 14);
    snprintf(e->model, sizeof e->model, "%s", model);
    e->base.choice_count = (uint32_t)prompts * e->per_prompt;
    e->choices = sl_calloc(e->base.choice_count, sizeof *e->choices);
    sl_buf_init(&e->echo, OPENAI_ANSWER_MAX);
    if (!e->choices)
        return SL_ENOMEM;
    for (uint32_t i = 0; i < e->base.choice_count; i++) {
        sl_buf *b[CHOICE_BUFS];

        choice_bufs(&e->choices[i], b);
        for (int k = 0; k < CHOICE_BUFS; k++)
            sl_buf_init(b[k], OPENAI_ANSWER_MAX);
    }
    if (req->task == LLM_CHAT)
        take_turn(e, call);
    return SL_OK;
}

void openai_encoder_deinit(openai_encoder *e)
{
    for (uint32_t i = 0; e->choices && i < e->base.choice_count; i++) {
        sl_buf *b[CHOICE_BUFS];

        choice_bufs(&e->choices[i], b);
        for (int k = 0; k < CHOICE_BUFS; k++)
            sl_buf_deinit(b[k]);
    }
    sl_buf_deinit(&e->echo);
    sl_free(e->choices);
    e->choices = NULL;
}

encoder *openai_encoder_create(const openai_call *call, const char *model, int64_t created_s)
{
    openai_encoder *e = sl_malloc(sizeof *e);

    if (e && openai_encoder_init(e, call, model, created_s) != SL_OK) {
        sl_free(e);
        return NULL;
    }
    return e ? &e->base : NULL;
}

/* ---- errors -------------------------------------------------------------------------------- */

void openai_error_from(const sl_err *from, llm_task task, openai_error *ret)
{
    *ret = (openai_error){ .http = sl_status_http(from->status), .type = "invalid_request_error" };
    snprintf(ret->message, sizeof ret->message, "%s",
             from->text[0] ? from->text : sl_status_text(from->status));
    switch (from->status) {
    case SL_ENOTFOUND:
        ret->code = "model_not_found";
        snprintf(ret->param, sizeof ret->param, "model");
        break;
    case SL_ECONTEXT:
        ret->code = "context_length_exceeded";
        snprintf(ret->param, sizeof ret->param, "%s",
                 task == LLM_CHAT     ? "messages"
                 : task == LLM_EMBED  ? "input"
                 : task == LLM_RERANK ? "documents"
                                      : "prompt");
        break;
    case SL_EBUSY:
    case SL_ENOMEM:
        ret->http = 503;
        ret->type = "server_error";
        ret->code = "engine_overloaded";
        break;
    case SL_ERATE:
        ret->type = "requests";
        ret->code = "rate_limit_exceeded";
        break;
    case SL_EINVAL:
    case SL_EFORMAT:
        ret->http = 400;
        ret->code = "invalid_value";
        break;
    case SL_ENOTSUP:
        ret->code = "unsupported_value";
        break;
    default:
        if (ret->http >= 500 || ret->http < 400) {
            ret->http = ret->http < 400 ? 500 : ret->http;
            ret->type = "server_error";
        }
    }
}

void openai_put_error(sl_buf *out, const openai_error *e)
{
    sl_buf_puts(out, "{\"error\":{\"message\":");
    put_str(out, e->message);
    sl_buf_puts(out, ",\"type\":");
    put_str(out, e->type);
    sl_buf_puts(out, ",\"param\":");
    if (e->param[0])
        put_str(out, e->param);
    else
        sl_buf_puts(out, "null");
    sl_buf_puts(out, ",\"code\":");
    if (e->code)
        put_str(out, e->code);
    else
        sl_buf_puts(out, "null");
    sl_buf_puts(out, "}}");
}

const api_dialect openai_dialect = { "openai", NULL, openai_put_error };

/* ---- logprobs ------------------------------------------------------------------------------ */

static void add_tokens(openai_encoder *e, openai_choice *c, const llm_event *ev)
{
    openai_add_probs(e, c, ev);
    for (size_t i = 0; i < ev->token_count; i++) {
        const llm_token *t = &ev->tokens[i];

        if (t->is_prompt)
            continue;
        c->token_count++;
        c->logprob_sum += t->chosen.logprob;
        if (e->token_ids)
            sl_buf_printf(&c->ids, c->ids.len ? ",%d" : "%d", t->chosen.id);
    }
}

/* What ended the choice, where a caller's own stop did. */
static void take_finish(const openai_encoder *e, openai_choice *c, const llm_event *ev)
{
    c->finish = ev->finish;
    if (ev->by_token && e->token_ids)
        sl_buf_printf(&c->ids, c->ids.len ? ",%d" : "%d", ev->stop_token);
    if (ev->stop)
        put_str(&c->stop_reason, ev->stop);
    if (ev->grounds) {
        grounds_put_annotations(&c->annotations, ev->grounds, false);
        grounds_put_field(&c->rag, ev->grounds);
    }
}

/* Writes the gathered logprobs as a value and empties them. */
static void put_logprobs(const openai_encoder *e, openai_choice *c, sl_buf *out)
{
    if (!e->logprobs || (e->base.stream && c->tokens.len == 0)) {
        sl_buf_puts(out, "null");
        return;
    }
    if (e->task == LLM_CHAT) {
        sl_buf_puts(out, "{\"content\":[");
        sl_buf_put(out, sl_buf_str(&c->tokens), c->tokens.len);
        sl_buf_puts(out, "],\"refusal\":null}");
    } else {
        sl_buf_puts(out, "{\"tokens\":[");
        sl_buf_put(out, sl_buf_str(&c->tokens), c->tokens.len);
        sl_buf_puts(out, "],\"token_logprobs\":[");
        sl_buf_put(out, sl_buf_str(&c->probs), c->probs.len);
        sl_buf_puts(out, "],\"top_logprobs\":[");
        sl_buf_put(out, sl_buf_str(&c->tops), c->tops.len);
        sl_buf_puts(out, "],\"text_offset\":[");
        sl_buf_put(out, sl_buf_str(&c->offsets), c->offsets.len);
        sl_buf_puts(out, "]}");
    }
    sl_buf_clear(&c->tokens);
    sl_buf_clear(&c->probs);
    sl_buf_clear(&c->tops);
    sl_buf_clear(&c->offsets);
}

/* ---- pieces -------------------------------------------------------------------------------- */

static void put_usage(sl_buf *out, const llm_usage *u)
{
    sl_buf_printf(out,
                  "{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld,"
                  "\"prompt_tokens_details\":{\"cached_tokens\":%lld,\"audio_tokens\":0},"
                  "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,"
                  "\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}",
                  (long long)u->prompt_tokens, (long long)u->output_tokens,
                  (long long)(u->prompt_tokens + u->output_tokens), (long long)u->cached_tokens);
}

/* {"id":...,"model":"m","system_fingerprint":"..." without an end. */
static void put_head(const openai_encoder *e, const char *object, sl_buf *out)
{
    sl_buf_printf(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", e->id,
                  object, (long long)e->created_s);
    put_str(out, e->model);
    sl_buf_puts(out, ",\"system_fingerprint\":\"" FINGERPRINT "\"");
}

/* What vLLM's fields add to a choice: ids since the last time, and what ended it. */
static void put_extras(const openai_encoder *e, openai_choice *c, sl_buf *out)
{
    if (c->stop_reason.len > 0)
        sl_buf_printf(out, ",\"stop_reason\":%s", c->stop_reason.ptr);
    if (!e->token_ids)
        return;
    sl_buf_puts(out, ",\"token_ids\":[");
    sl_buf_put(out, sl_buf_str(&c->ids), c->ids.len);
    sl_buf_putc(out, ']');
    sl_buf_clear(&c->ids);
}

/* ,"prompt_token_ids":[..] and ,"prompt_logprobs":[..] of the prompt of a choice, where asked. */
static void put_prompt(const openai_encoder *e, uint32_t choice, sl_buf *out)
{
    const openai_choice *first = &e->choices[choice / e->per_prompt * e->per_prompt];

    if (e->token_ids) {
        sl_buf_puts(out, ",\"prompt_token_ids\":[");
        sl_buf_put(out, sl_buf_str(&first->prompt_ids), first->prompt_ids.len);
        sl_buf_putc(out, ']');
    }
    if (e->prompt_probs) {
        sl_buf_puts(out, ",\"prompt_logprobs\":[");
        sl_buf_put(out, sl_buf_str(&first->prompt_probs), first->prompt_probs.len);
        sl_buf_putc(out, ']');
    }
}

/* The end of a message: its citations. */
static void put_documents(const openai_choice *c, const char *before, sl_buf *out)
{
    sl_buf_printf(out, "%s\"annotations\":%s", before,
                  c->annotations.len ? c->annotations.ptr : "[]");
    sl_buf_put(out, sl_buf_str(&c->rag), c->rag.len);
    sl_buf_putc(out, '}');
}

/* ---- streaming ----------------------------------------------------------------------------- */

static void chunk_open(const openai_encoder *e, uint32_t choice, sl_buf *out)
{
    sl_buf_puts(out, "data: ");
    put_head(e, e->task == LLM_CHAT ? "chat.completion.chunk" : "text_completion", out);
    sl_buf_printf(out, ",\"choices\":[{\"index\":%u,", choice);
}

/* tells_prompt: the prompt's ids come along, in the place where vLLM has them. */
static void chunk_close(const openai_encoder *e, uint32_t choice, bool tells_prompt, sl_buf *out)
{
    tells_prompt = tells_prompt && e->token_ids;
    if (tells_prompt && e->task != LLM_CHAT)
        put_prompt(e, choice, out);
    sl_buf_puts(out, "}]");
    if (tells_prompt && e->task == LLM_CHAT)
        put_prompt(e, choice, out);
    if (e->continuous_usage) {
        sl_buf_puts(out, ",\"usage\":");
        put_usage(out, &(llm_usage){ .prompt_tokens = e->usage.prompt_tokens,
                                     .cached_tokens = e->usage.cached_tokens,
                                     .output_tokens = e->choices[choice].token_count });
    } else if (e->include_usage) {
        sl_buf_puts(out, ",\"usage\":null");
    }
    sl_buf_puts(out, "}\n\n");
}

/* The first chunks of a chat: roles, and what is echoed. */
static void stream_roles(openai_encoder *e, sl_buf *out)
{
    if (e->task != LLM_CHAT || e->roles_told)
        return;
    e->roles_told = true;
    for (uint32_t i = 0; i < e->base.choice_count; i++) {
        chunk_open(e, i, out);
        sl_buf_printf(out,
                      "\"delta\":{\"role\":\"%s\",\"content\":\"\"},\"logprobs\":null,"
                      "\"finish_reason\":null",
                      e->role);
        chunk_close(e, i, true, out);
    }
    for (uint32_t i = 0; e->echo.len > 0 && i < e->base.choice_count; i++) {
        chunk_open(e, i, out);
        sl_buf_puts(out, "\"delta\":{\"content\":");
        sl_buf_put_json(out, e->echo.ptr, e->echo.len);
        sl_buf_puts(out, "},\"logprobs\":null,\"finish_reason\":null");
        chunk_close(e, i, false, out);
    }
}

/* True the first time for a choice of a completion. */
static bool tell_prompt(openai_encoder *e, openai_choice *c)
{
    bool first = e->task != LLM_CHAT && !c->prompt_told;

    c->prompt_told = true;
    return first;
}

static void stream_delta(openai_encoder *e, const llm_event *ev, sl_buf *out)
{
    openai_choice *c = &e->choices[ev->choice];

    stream_roles(e, out);
    add_tokens(e, c, ev);
    if (ev->text_len == 0 && c->tokens.len == 0 && c->ids.len == 0)
        return; /* nothing a client could use: the text is held back */
    chunk_open(e, ev->choice, out);
    sl_buf_puts(out, e->task == LLM_CHAT ? "\"delta\":{\"content\":" : "\"text\":");
    sl_buf_put_json(out, ev->text_len ? ev->text : "", ev->text_len);
    sl_buf_puts(out, e->task == LLM_CHAT ? "},\"logprobs\":" : ",\"logprobs\":");
    put_logprobs(e, c, out);
    sl_buf_puts(out, ",\"finish_reason\":null");
    put_extras(e, c, out);
    chunk_close(e, ev->choice, tell_prompt(e, c), out);
}

static void stream_finish(openai_encoder *e, const llm_event *ev, sl_buf *out)
{
    openai_choice *c = &e->choices[ev->choice];

    stream_roles(e, out);
    chunk_open(e, ev->choice, out);
    if (c->rag.len > 0)
        put_documents(c, "\"delta\":{", out);
    else
        sl_buf_puts(out, e->task == LLM_CHAT ? "\"delta\":{}" : "\"text\":\"\"");
    sl_buf_printf(out, ",\"logprobs\":null,\"finish_reason\":%s", finish_text(ev->finish));
    put_extras(e, c, out);
    chunk_close(e, ev->choice, tell_prompt(e, c), out);
}

static void stream_done(openai_encoder *e, sl_buf *out)
{
    if (e->base.failed) {
        sl_buf_puts(out, "data: ");
        openai_put_error(out, &e->base.error);
        sl_buf_puts(out, "\n\n");
    } else if (e->include_usage) {
        sl_buf_puts(out, "data: ");
        put_head(e, e->task == LLM_CHAT ? "chat.completion.chunk" : "text_completion", out);
        sl_buf_puts(out, ",\"choices\":[],\"usage\":");
        put_usage(out, &e->usage);
        sl_buf_puts(out, "}\n\n");
    }
    sl_buf_puts(out, "data: [DONE]\n\n");
}

/* ---- collecting ---------------------------------------------------------------------------- */

/* Choice i, told as number `index`. */
static void put_choice(openai_encoder *e, uint32_t i, uint32_t index, sl_buf *out)
{
    openai_choice *c = &e->choices[i];

    sl_buf_printf(out, index ? ",{\"index\":%u," : "{\"index\":%u,", index);
    if (e->task == LLM_CHAT)
        sl_buf_printf(out, "\"message\":{\"role\":\"%s\",\"content\":", e->role);
    else
        sl_buf_puts(out, "\"text\":");
    sl_buf_put_json(out, sl_buf_str(&c->text), c->text.len);
    if (e->task == LLM_CHAT)
        put_documents(c, ",\"refusal\":null,", out);
    sl_buf_puts(out, ",\"logprobs\":");
    put_logprobs(e, c, out);
    sl_buf_printf(out, ",\"finish_reason\":%s", finish_text(c->finish));
    put_extras(e, c, out);
    if (e->task != LLM_CHAT)
        put_prompt(e, i, out);
    sl_buf_putc(out, '}');
}

static double mean_logprob(const openai_choice *c)
{
    return c->token_count > 0 ? c->logprob_sum / (double)c->token_count : -INFINITY;
}

/* Of a prompt's choices from `from` on the likeliest one that was not told yet. */
static uint32_t best_choice(openai_encoder *e, uint32_t from)
{
    uint32_t best = UINT32_MAX;

    for (uint32_t i = from; i < from + e->per_prompt; i++)
        if (!e->choices[i].told &&
            (best == UINT32_MAX || mean_logprob(&e->choices[i]) > mean_logprob(&e->choices[best])))
            best = i;
    SL_ASSERT(best != UINT32_MAX);
    e->choices[best].told = true;
    return best;
}

static void put_answer(openai_encoder *e, sl_buf *out)
{
    uint32_t index = 0;

    put_head(e, e->task == LLM_CHAT ? "chat.completion" : "text_completion", out);
    sl_buf_puts(out, ",\"choices\":[");
    for (uint32_t from = 0; from < e->base.choice_count; from += e->per_prompt)
        for (uint32_t i = 0; i < e->n; i++)
            put_choice(e, e->n < e->per_prompt ? best_choice(e, from) : from + i, index++, out);
    sl_buf_puts(out, "],\"usage\":");
    put_usage(out, &e->usage);
    if (e->task == LLM_CHAT)
        put_prompt(e, 0, out);
    sl_buf_putc(out, '}');
}

static void put_embeddings(openai_encoder *e, sl_buf *out)
{
    sl_buf_puts(out, "{\"object\":\"list\",\"data\":[");
    for (uint32_t i = 0; i < e->base.choice_count; i++) {
        openai_choice *c = &e->choices[i];

        sl_buf_printf(out, "%s{\"object\":\"embedding\",\"index\":%u,\"embedding\":", i ? "," : "",
                      i);
        sl_buf_put(out, sl_buf_str(&c->text), c->text.len);
        sl_buf_putc(out, '}');
    }
    sl_buf_puts(out, "],\"model\":");
    put_str(out, e->model);
    sl_buf_printf(out, ",\"usage\":{\"prompt_tokens\":%lld,\"total_tokens\":%lld}}",
                  (long long)e->usage.prompt_tokens, (long long)e->usage.prompt_tokens);
}

/* Little-endian float32 in base64, as the official clients ask for. */
static void put_base64(sl_buf *out, const float *v, size_t count)
{
    size_t raw_bytes = count * 4, text_bytes = (raw_bytes + 2) / 3 * 4;
    unsigned char *raw = sl_malloc(raw_bytes + text_bytes + 1);

    if (!raw) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;

        memcpy(&bits, &v[i], 4);
        for (int k = 0; k < 4; k++)
            raw[i * 4 + (size_t)k] = (unsigned char)(bits >> (8 * k));
    }
    EVP_EncodeBlock(raw + raw_bytes, raw, (int)raw_bytes);
    sl_buf_putc(out, '"');
    sl_buf_put(out, raw + raw_bytes, text_bytes);
    sl_buf_putc(out, '"');
    sl_free(raw);
}

/* Keeps the first `dimensions` values and makes the length 1 again. */
static void take_vector(openai_encoder *e, const llm_event *ev)
{
    sl_buf *out = &e->choices[ev->choice].text;
    size_t count = ev->vector_len;
    double norm = 0, scale = 1;
    float *v;

    if (e->dimensions > 0 && (size_t)e->dimensions < count) {
        count = (size_t)e->dimensions;
        for (size_t i = 0; i < count; i++)
            norm += (double)ev->vector[i] * ev->vector[i];
        scale = norm > 0 ? 1 / sqrt(norm) : 1;
    }
    v = sl_malloc(count * sizeof *v);
    if (!v) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < count; i++)
        v[i] = (float)(ev->vector[i] * scale);
    sl_buf_clear(out);
    if (e->base64) {
        put_base64(out, v, count);
    } else {
        for (size_t i = 0; i < count; i++)
            sl_buf_printf(out, "%s%.9g", i ? "," : "[", isfinite(v[i]) ? (double)v[i] : 0.0);
        sl_buf_putc(out, ']');
    }
    sl_free(v);
}

static void collect_echo(openai_encoder *e)
{
    for (uint32_t i = 0; i < e->base.choice_count; i++)
        sl_buf_put(&e->choices[i].text, sl_buf_str(&e->echo), e->echo.len);
}

static void collect_delta(openai_encoder *e, const llm_event *ev)
{
    openai_choice *c = &e->choices[ev->choice];

    sl_buf_put(&c->text, ev->text, ev->text_len);
    add_tokens(e, c, ev);
}

static void collect_done(openai_encoder *e, sl_buf *out)
{
    for (uint32_t i = 0; i < e->base.choice_count && !e->base.failed; i++) {
        const openai_choice *c = &e->choices[i];

        if (c->text.failed || c->rag.failed || c->annotations.failed || c->tokens.failed ||
            c->tops.failed || c->prompt_probs.failed || c->ids.failed || c->prompt_ids.failed ||
            (e->task == LLM_EMBED && c->text.len == 0)) {
            sl_err err = { 0 };

            sl_fail(&err, SL_EINTERNAL, "the answer could not be put together");
            openai_error_from(&err, e->task, &e->base.error);
            e->base.failed = true;
        }
    }
    if (e->base.failed)
        openai_put_error(out, &e->base.error);
    else if (e->task == LLM_EMBED)
        put_embeddings(e, out);
    else
        put_answer(e, out);
}

void openai_encode(openai_encoder *e, const llm_event *ev, sl_buf *out)
{
    bool has_choice = ev->kind == LLM_EV_PROMPT || ev->kind == LLM_EV_DELTA ||
                      ev->kind == LLM_EV_FINISH || ev->kind == LLM_EV_EMBEDDING;

    SL_ASSERT(!has_choice || ev->choice < e->base.choice_count);
    switch (ev->kind) {
    case LLM_EV_START:
        e->base.started = true;
        e->usage = ev->usage;
        if (!e->base.stream)
            collect_echo(e);
        else if (!e->token_ids) /* else they wait for the prompt's ids */
            stream_roles(e, out);
        break;
    case LLM_EV_PROMPT:
        openai_add_prompt(&e->choices[ev->choice], ev);
        break;
    case LLM_EV_DELTA:
        if (e->base.stream)
            stream_delta(e, ev, out);
        else
            collect_delta(e, ev);
        break;
    case LLM_EV_FINISH:
        take_finish(e, &e->choices[ev->choice], ev);
        if (e->base.stream)
            stream_finish(e, ev, out);
        break;
    case LLM_EV_EMBEDDING:
        take_vector(e, ev);
        break;
    case LLM_EV_ERROR:
        e->base.failed = true;
        openai_error_from(&ev->error, e->task, &e->base.error);
        break;
    case LLM_EV_DONE:
        e->usage = ev->usage;
        if (e->base.stream && e->base.started)
            stream_done(e, out);
        else
            collect_done(e, out);
        break;
    default:
        break;
    }
}
