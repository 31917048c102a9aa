/* openai_probs.c - logprobs of tokens in OpenAI's two shapes, and of prompts in vLLM's. */
#include <math.h>

#include "api/openai_int.h"

static void put_logprob(sl_buf *out, float p)
{
    if (isnan(p))
        sl_buf_puts(out, "null");
    else if (p < -9999.0f)
        sl_buf_puts(out, "-9999.0"); /* OpenAI's way to write minus infinity */
    else
        sl_buf_printf(out, "%.7g", (double)p);
}

/* A token as a JSON string; bytes that are no text are spelled out, as OpenAI does. */
static void put_token(sl_buf *out, const llm_token_prob *t, bool as_id)
{
    if (as_id) {
        sl_buf_printf(out, "\"token_id:%d\"", t->id);
        return;
    }
    if (sl_utf8_valid(t->text, t->text_len)) {
        sl_buf_put_json(out, t->text, t->text_len);
        return;
    }
    sl_buf_puts(out, "\"bytes:");
    for (size_t i = 0; i < t->text_len; i++)
        sl_buf_printf(out, "\\\\x%02x", (unsigned char)t->text[i]);
    sl_buf_putc(out, '"');
}

/* Without its end. */
static void put_chat_prob(sl_buf *out, const llm_token_prob *t, bool as_id)
{
    sl_buf_puts(out, "{\"token\":");
    put_token(out, t, as_id);
    sl_buf_puts(out, ",\"logprob\":");
    put_logprob(out, t->logprob);
    sl_buf_puts(out, ",\"bytes\":[");
    for (size_t i = 0; i < t->text_len; i++)
        sl_buf_printf(out, i ? ",%d" : "%d", (unsigned char)t->text[i]);
    sl_buf_putc(out, ']');
}

void openai_put_prob(sl_buf *out, const llm_token *t, bool as_id)
{
    put_chat_prob(out, &t->chosen, as_id);
    sl_buf_puts(out, ",\"top_logprobs\":[");
    for (size_t i = 0; i < t->top_count; i++) {
        if (i > 0)
            sl_buf_putc(out, ',');
        put_chat_prob(out, &t->top[i], as_id);
        sl_buf_putc(out, '}');
    }
    sl_buf_puts(out, "]}");
}

static void put_map_entry(sl_buf *out, const llm_token_prob *t, bool as_id)
{
    put_token(out, t, as_id);
    sl_buf_putc(out, ':');
    put_logprob(out, t->logprob);
}

/* {"token": logprob} of the alternatives and of the chosen one. */
static void put_top_map(sl_buf *out, const llm_token *t, bool as_id)
{
    bool has_chosen = false;

    if (isnan(t->chosen.logprob)) {
        sl_buf_puts(out, "null");
        return;
    }
    sl_buf_putc(out, '{');
    for (size_t i = 0; i < t->top_count; i++) {
        has_chosen = has_chosen || t->top[i].id == t->chosen.id;
        if (i > 0)
            sl_buf_putc(out, ',');
        put_map_entry(out, &t->top[i], as_id);
    }
    if (!has_chosen) {
        if (t->top_count > 0)
            sl_buf_putc(out, ',');
        put_map_entry(out, &t->chosen, as_id);
    }
    sl_buf_putc(out, '}');
}

static void add_completion_token(openai_choice *c, const llm_token *t, bool as_id)
{
    openai_put_comma(&c->tokens);
    put_token(&c->tokens, &t->chosen, as_id);
    openai_put_comma(&c->probs);
    put_logprob(&c->probs, t->chosen.logprob);
    openai_put_comma(&c->tops);
    put_top_map(&c->tops, t, as_id);
    openai_put_comma(&c->offsets);
    sl_buf_printf(&c->offsets, "%lld", (long long)c->chars);
    for (size_t i = 0; i < t->chosen.text_len; i++)
        c->chars += ((unsigned char)t->chosen.text[i] & 0xc0) != 0x80;
}

void openai_add_probs(const openai_encoder *e, openai_choice *c, const llm_event *ev)
{
    for (size_t i = 0; e->logprobs && i < ev->token_count; i++) {
        if (e->task == LLM_CHAT) {
            openai_put_comma(&c->tokens);
            openai_put_prob(&c->tokens, &ev->tokens[i], e->tokens_as_ids);
        } else {
            add_completion_token(c, &ev->tokens[i], e->tokens_as_ids);
        }
    }
}

/* "id":{"logprob","rank","decoded_token"} */
static void put_ranked(sl_buf *out, const llm_token_prob *t, int32_t rank)
{
    sl_buf_printf(out, "\"%d\":{\"logprob\":", t->id);
    put_logprob(out, t->logprob);
    sl_buf_printf(out, ",\"rank\":%d,\"decoded_token\":", rank);
    sl_buf_put_json(out, t->text, t->text_len);
    sl_buf_putc(out, '}');
}

/* The token itself, then likelier ones. */
static void add_prompt_prob(sl_buf *out, const llm_token *t)
{
    openai_put_comma(out);
    if (isnan(t->chosen.logprob)) {
        sl_buf_puts(out, "null");
        return;
    }
    sl_buf_putc(out, '{');
    put_ranked(out, &t->chosen, t->rank);
    for (size_t i = 0; i < t->top_count; i++) {
        if (t->top[i].id == t->chosen.id)
            continue;
        sl_buf_putc(out, ',');
        put_ranked(out, &t->top[i], (int32_t)i + 1);
    }
    sl_buf_putc(out, '}');
}

void openai_add_prompt(openai_choice *c, const llm_event *ev)
{
    for (size_t i = 0; i < ev->id_count; i++)
        sl_buf_printf(&c->prompt_ids, i ? ",%d" : "%d", ev->ids[i]);
    for (size_t i = 0; i < ev->token_count; i++)
        add_prompt_prob(&c->prompt_probs, &ev->tokens[i]);
}
