/* rerank.c - scores gathered into an answer, and the handlers. */
#include "api/rerank.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/api_int.h"

typedef struct ranked {
    uint32_t index;
    float value;
    bool told;
} ranked;

typedef struct rerank_encoder {
    encoder base;
    rerank_call call;
    char id[64], model[128];
    int64_t created_s;
    ranked *items; /* [choice_count] */
    llm_usage usage;
} rerank_encoder;

/* ---- errors of Text Embeddings Inference ------------------------------------------------------
 */

static void tei_translate(openai_error *e)
{
    bool is_overload = e->code && strcmp(e->code, "engine_overloaded") == 0;
    bool is_long = e->code && strcmp(e->code, "context_length_exceeded") == 0;

    if (is_overload || e->http == 429) {
        e->http = 429;
        e->type = "Overloaded";
    } else if (e->http >= 500) {
        e->type = "Backend";
    } else {
        e->type = "Validation";
        if (e->http == 400)
            e->http = is_long ? 413 : 422;
    }
}

static void tei_put_error(sl_buf *out, const openai_error *e)
{
    sl_buf_puts(out, "{\"error\":");
    sl_buf_put_json(out, e->message, strlen(e->message));
    sl_buf_puts(out, ",\"error_type\":");
    sl_buf_put_json(out, e->type, strlen(e->type));
    sl_buf_putc(out, '}');
}

const api_dialect rerank_tei_dialect = { .name = "tei",
                                         .translate = tei_translate,
                                         .put_error = tei_put_error };

/* ---- answers ------------------------------------------------------------------------------- */

static int best_first(const void *a, const void *b)
{
    const ranked *x = a, *y = b;

    if (x->value != y->value)
        return x->value < y->value ? 1 : -1;
    return (x->index > y->index) - (x->index < y->index);
}

static void put_number(sl_buf *out, float v)
{
    sl_buf_printf(out, "%.9g", isfinite(v) ? (double)v : 0.0);
}

static void put_text(const rerank_encoder *e, uint32_t index, sl_buf *out)
{
    const llm_request *req = e->call.req;
    const llm_prompt *p = &req->prompts[req->paired ? 2 * index + 1 : 1 + index];

    sl_buf_put_json(out, p->text, p->text_len);
}

static void put_usage(const rerank_encoder *e, sl_buf *out)
{
    long long tokens = (long long)e->usage.prompt_tokens;

    sl_buf_printf(out, "\"usage\":{\"prompt_tokens\":%lld,\"total_tokens\":%lld}", tokens, tokens);
}

static void put_list(rerank_encoder *e, sl_buf *out)
{
    size_t count = e->base.choice_count;

    if (e->call.top_n > 0)
        count = SL_MIN(count, (size_t)e->call.top_n);
    sl_buf_printf(out, "{\"id\":\"%s\",\"object\":\"list\",\"model\":", e->id);
    sl_buf_put_json(out, e->model, strlen(e->model));
    sl_buf_putc(out, ',');
    put_usage(e, out);
    sl_buf_puts(out, ",\"results\":[");
    for (size_t i = 0; i < count; i++) {
        sl_buf_printf(out, "%s{\"index\":%u,", i ? "," : "", e->items[i].index);
        if (e->call.texts) {
            sl_buf_puts(out, "\"document\":{\"text\":");
            put_text(e, e->items[i].index, out);
            sl_buf_puts(out, "},");
        }
        sl_buf_puts(out, "\"relevance_score\":");
        put_number(out, e->items[i].value);
        sl_buf_putc(out, '}');
    }
    sl_buf_puts(out, "]}");
}

static void put_tei(rerank_encoder *e, sl_buf *out)
{
    sl_buf_putc(out, '[');
    for (uint32_t i = 0; i < e->base.choice_count; i++) {
        sl_buf_printf(out, "%s{\"index\":%u,\"score\":", i ? "," : "", e->items[i].index);
        put_number(out, e->items[i].value);
        if (e->call.texts) {
            sl_buf_puts(out, ",\"text\":");
            put_text(e, e->items[i].index, out);
        }
        sl_buf_putc(out, '}');
    }
    sl_buf_putc(out, ']');
}

static void put_scores(const rerank_encoder *e, sl_buf *out)
{
    sl_buf_printf(out, "{\"id\":\"%s\",\"object\":\"list\",\"created\":%lld,\"model\":", e->id,
                  (long long)e->created_s);
    sl_buf_put_json(out, e->model, strlen(e->model));
    sl_buf_puts(out, ",\"data\":[");
    for (uint32_t i = 0; i < e->base.choice_count; i++) {
        sl_buf_printf(out, "%s{\"index\":%u,\"object\":\"score\",\"score\":", i ? "," : "", i);
        put_number(out, e->items[i].value);
        sl_buf_putc(out, '}');
    }
    sl_buf_puts(out, "],");
    put_usage(e, out);
    sl_buf_putc(out, '}');
}

/* Every document must have its score. */
static void check_all(rerank_encoder *e)
{
    for (uint32_t i = 0; i < e->base.choice_count && !e->base.failed; i++)
        if (!e->items[i].told) {
            sl_err err = { 0 };

            (void)sl_fail(&err, SL_EINTERNAL, "document %u got no score", i);
            openai_error_from(&err, LLM_RERANK, &e->base.error);
            e->base.failed = true;
        }
}

static void put_answer(rerank_encoder *e, sl_buf *out)
{
    check_all(e);
    if (e->base.failed)
        return;
    if (e->call.form != RERANK_SCORE)
        qsort(e->items, e->base.choice_count, sizeof *e->items, best_first);
    if (e->call.form == RERANK_LIST)
        put_list(e, out);
    else if (e->call.form == RERANK_TEI)
        put_tei(e, out);
    else
        put_scores(e, out);
}

static void encode_op(encoder *base, const llm_event *ev, sl_buf *out)
{
    rerank_encoder *e = (rerank_encoder *)base;

    switch (ev->kind) {
    case LLM_EV_START:
        base->started = true;
        e->usage = ev->usage;
        break;
    case LLM_EV_SCORE:
        SL_ASSERT(ev->choice < base->choice_count);
        e->items[ev->choice] = (ranked){ ev->choice, e->call.raw ? ev->logit : ev->score, true };
        break;
    case LLM_EV_ERROR:
        base->failed = true;
        openai_error_from(&ev->error, LLM_RERANK, &base->error);
        break;
    case LLM_EV_DONE:
        e->usage = ev->usage;
        put_answer(e, out);
        break;
    default:
        break;
    }
}

static void destroy_op(encoder *base)
{
    sl_free(((rerank_encoder *)base)->items);
    sl_free(base);
}

encoder *rerank_encoder_create(const rerank_call *call, const char *model, int64_t created_s)
{
    static const encoder_ops plain = { .encode = encode_op,
                                       .destroy = destroy_op,
                                       .dialect = &openai_dialect };
    static const encoder_ops tei = { .encode = encode_op,
                                     .destroy = destroy_op,
                                     .dialect = &rerank_tei_dialect };
    const llm_request *req = call->req;
    size_t count = req->paired ? req->prompt_count / 2 : req->prompt_count - 1;
    rerank_encoder *e = sl_calloc(1, sizeof *e);

    if (!e)
        return NULL;
    e->base = (encoder){ .ops = call->form == RERANK_TEI ? &tei : &plain,
                         .choice_count = (uint32_t)count };
    e->call = *call;
    e->created_s = created_s;
    sl_random_id(e->id, sizeof e->id, call->form == RERANK_SCORE ? "score-" : "rerank-", 14);
    snprintf(e->model, sizeof e->model, "%s", model);
    e->items = sl_calloc(count, sizeof *e->items);
    if (e->items)
        return &e->base;
    sl_free(e);
    return NULL;
}

/* ---- handlers ------------------------------------------------------------------------------ */

static void handle(api *a, http_exchange *x, rerank_form form)
{
    sl_span body = http_body(x);
    openai_error error = { 0 };
    llm_model_info info;
    rerank_call call;
    const char *model;

    if (rerank_parse(form, (const char *)body.ptr, body.len, &call, &error) != SL_OK) {
        api_respond_error_as(a, x, &error,
                             form == RERANK_TEI ? &rerank_tei_dialect : &openai_dialect);
        return;
    }
    model = answer_model(a, call.req, &info);
    answer_begin(a, x, call.req, rerank_encoder_create(&call, model, sl_clock_wall_ms() / 1000),
                 model);
}

static void on_list(api *a, http_exchange *x)
{
    handle(a, x, RERANK_LIST);
}

/* Two servers' clients come here: the body says whose it is. */
static void on_rerank(api *a, http_exchange *x)
{
    sl_span body = http_body(x);

    handle(a, x, rerank_form_of((const char *)body.ptr, body.len));
}

static void on_score(api *a, http_exchange *x)
{
    handle(a, x, RERANK_SCORE);
}

static const api_endpoint list[] = {
    { "POST", "/v1/rerank", on_list, LLM_MAY_EMBED, "Order documents by how they answer a query",
      &rerank_body },
    { "POST", "/v2/rerank", on_list, LLM_MAY_EMBED, "The same under Cohere's newer path",
      &rerank_body },
    { "POST", "/rerank", on_rerank, LLM_MAY_EMBED,
      "The same; with texts instead of documents, as Text Embeddings Inference has it",
      &rerank_tei_body },
    { "POST", "/v1/score", on_score, LLM_MAY_EMBED, "Scores of pairs of texts",
      &rerank_score_body },
    { "POST", "/score", on_score, LLM_MAY_EMBED, "The same under vLLM's path", &rerank_score_body },
};
const api_endpoints rerank_endpoints = { &openai_dialect, "Rerank", list, SL_COUNT_OF(list) };
