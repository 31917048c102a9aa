/* emit.c - from tokens to events.
 *
 * Text is held back while it may still turn out to be the start of a stop string; the tokens behind
 * it wait with it, so that a delta always carries the tokens its text came from. A request that
 * wants every token gets them at once; then the text may come later than its tokens. */
#include "engine/engine_int.h"

#include <math.h>

#include "base/os.h"

static void deliver(job *j, llm_event *ev)
{
    if (!j->failed)
        j->sink.fn(j->sink.ctx, j->req, ev);
}

void emit_start(job *j)
{
    llm_event ev = { .kind = LLM_EV_START,
                     .usage = j->usage,
                     .prompt_ids = j->seqs[0].tokens,
                     .prompt_id_count = (size_t)j->seqs[0].prompt_count };

    j->started = true;
    j->started_ns = sl_clock_mono_ns();
    j->usage.queue_ns = ev.usage.queue_ns = j->started_ns - j->submitted_ns;
    deliver(j, &ev);
}

void emit_error(job *j, sl_status status, const char *text)
{
    llm_event ev = { .kind = LLM_EV_ERROR };

    (void)sl_fail(&ev.error, status, "%s", text);
    deliver(j, &ev);
    j->failed = true; /* nothing but DONE follows */
}

void emit_done(job *j)
{
    int64_t now = sl_clock_mono_ns();
    llm_event ev = { .kind = LLM_EV_DONE };

    j->usage.total_ns = now - j->submitted_ns;
    j->usage.ttft_ns = j->first_ns ? j->first_ns - j->submitted_ns : j->usage.total_ns;
    ev.usage = j->usage;
    j->failed = false;
    deliver(j, &ev);
}

void emit_vector(seq *s, size_t width)
{
    llm_event ev = {
        .kind = LLM_EV_EMBEDDING, .choice = s->choice, .vector = s->vector, .vector_len = width
    };

    deliver(s->job, &ev);
}

void emit_score(seq *s, float logit)
{
    llm_event ev = { .kind = LLM_EV_SCORE,
                     .choice = s->choice,
                     .score = (float)(1 / (1 + exp(-(double)logit))),
                     .logit = logit };

    deliver(s->job, &ev);
}

/* What an event about one choice tells of its prompt. */
static llm_usage prompt_usage(const seq *s)
{
    return (llm_usage){ .prompt_tokens = s->prompt_count, .cached_tokens = s->cached };
}

/* Bytes at the end of text that some stop string may begin with. */
static size_t undecided(const llm_request *req, const char *text, size_t len)
{
    size_t longest = 0;

    for (size_t i = 0; i < req->stop_count; i++) {
        size_t stop_len = strlen(req->stops[i]);

        for (size_t n = SL_MIN(stop_len - 1, len); n > longest; n--)
            if (memcmp(text + len - n, req->stops[i], n) == 0) {
                longest = n;
                break;
            }
    }
    return longest;
}

/* The stop string that ends first in text from byte `from` on; *ret_at is where it begins. */
static const char *find_stop(const llm_request *req, const char *text, size_t len, size_t *ret_at)
{
    const char *found = NULL;
    size_t best_end = SIZE_MAX;

    for (size_t i = 0; i < req->stop_count; i++) {
        size_t stop_len = strlen(req->stops[i]);
        const char *at = stop_len ? memmem(text, len, req->stops[i], stop_len) : NULL;

        if (at && (size_t)(at - text) + stop_len < best_end) {
            best_end = (size_t)(at - text) + stop_len;
            *ret_at = (size_t)(at - text);
            found = req->stops[i];
        }
    }
    return found;
}

/* Delivers the first len bytes of the held text with all pending tokens. */
static void deliver_text(seq *s, size_t len)
{
    llm_event ev = { .kind = LLM_EV_DELTA, .choice = s->choice, .usage = prompt_usage(s) };
    llm_token *tokens;

    if (len == 0 && s->pending_count == 0)
        return;
    tokens = sl_calloc(s->pending_count, sizeof *tokens);
    for (size_t i = 0; tokens && i < s->pending_count; i++) {
        tokens[i] = s->pending[i].token;
        tokens[i].top = s->pending[i].top;
    }
    ev.text = sl_buf_str(&s->text);
    ev.text_len = len;
    ev.tokens = tokens;
    ev.token_count = tokens ? s->pending_count : 0;
    deliver(s->job, &ev);
    sl_free(tokens);
    s->pending_count = 0;
    if (len > 0) {
        memmove(s->text.ptr, s->text.ptr + len, s->text.len - len);
        s->text.len -= len;
        s->text.ptr[s->text.len] = '\0';
    }
}

static void push_pending(seq *s, int32_t id, float logprob, const llm_token_prob *top,
                         size_t top_count, bool is_prompt)
{
    const llm_request *req = s->job->req;
    sl_span bytes = token_bytes(s->vocab, id, req->show_special || req->token_details);
    pending_token *p;

    if (!sl_grow((void **)&s->pending, &s->pending_cap, s->pending_count + 1, sizeof *s->pending,
                 SL_MODEL_CONTEXT_MAX))
        return; /* out of memory: the text still goes out */
    p = &s->pending[s->pending_count++];
    p->token = (llm_token){ .chosen = { id, logprob, (const char *)bytes.ptr, bytes.len,
                                        token_is_control(s->vocab, id) },
                            .top_count = top_count,
                            .is_prompt = is_prompt };
    for (size_t i = 0; i < top_count; i++)
        p->top[i] = top[i];
}

bool emit_token(seq *s, int32_t id, float logprob, const llm_token_prob *top, size_t top_count,
                bool is_prompt)
{
    const llm_request *req = s->job->req;
    const char *stop;
    size_t at = 0;

    if (s->job->first_ns == 0 && !is_prompt)
        s->job->first_ns = sl_clock_mono_ns();
    if (!is_prompt || !req->token_details)
        token_decoder_push(&s->decoder, id, &s->text);
    push_pending(s, id, logprob, top, top_count, is_prompt);
    if (is_prompt)
        return false; /* delivered with the first output, and never searched for stops */
    stop = find_stop(req, sl_buf_str(&s->text), s->text.len, &at);
    if (stop) {
        size_t keep = at + (req->include_stop ? strlen(stop) : 0);

        s->text.len = keep;
        if (s->text.ptr)
            s->text.ptr[keep] = '\0';
        emit_finish(s, LLM_FINISH_STOP, stop, -1);
        return true;
    }
    if (s->ending)
        return false;
    at = s->text.len - undecided(req, sl_buf_str(&s->text), s->text.len);
    if (at > 0 || req->every_token)
        deliver_text(s, at);
    return false;
}

void emit_end_token(seq *s, int32_t id, float logprob, const llm_token_prob *top, size_t top_count)
{
    push_pending(s, id, logprob, top, top_count, false);
}

void emit_prompt_ids(seq *s)
{
    llm_event ev = { .kind = LLM_EV_PROMPT,
                     .choice = s->choice,
                     .ids = s->tokens,
                     .id_count = (size_t)s->prompt_count };

    s->tells_ids = false;
    deliver(s->job, &ev);
}

void emit_prompt_token(seq *s, int32_t id, float logprob, int32_t rank, const llm_token_prob *top,
                       size_t top_count)
{
    sl_span bytes = token_bytes(s->vocab, id, true);
    llm_token token = { .chosen = { id, logprob, (const char *)bytes.ptr, bytes.len,
                                    token_is_control(s->vocab, id) },
                        .top = top,
                        .top_count = top_count,
                        .is_prompt = true,
                        .rank = rank };
    llm_event ev = {
        .kind = LLM_EV_PROMPT, .choice = s->choice, .tokens = &token, .token_count = 1
    };

    deliver(s->job, &ev);
}

void emit_finish(seq *s, llm_finish finish, const char *stop, int32_t stop_token)
{
    llm_event ev = { .kind = LLM_EV_FINISH,
                     .choice = s->choice,
                     .finish = finish,
                     .stop = stop,
                     .by_token = stop_token >= 0,
                     .stop_token = stop_token,
                     .usage = prompt_usage(s) };

    if (!stop)
        token_decoder_finish(&s->decoder, &s->text);
    if (s->pending_count > 0)
        s->pending[s->pending_count - 1].token.is_last = true;
    deliver_text(s, s->text.len);
    deliver(s->job, &ev);
}
