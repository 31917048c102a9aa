/* generate.c - one round of continuous batching: plan, step, sample, deliver. */
#include "engine/engine_int.h"

#include <math.h>

/* Logprob of the token and the likeliest ones, from unchanged logits. */
static size_t read_top(const engine *e, const llm_request *req, const float *logits, float log_sum,
                       llm_token_prob *top)
{
    int32_t ids[SL_TOP_LOGPROBS_MAX];

    sampler_top(logits, e->w->params.vocab, req->top_logprobs, ids);
    for (int i = 0; i < req->top_logprobs; i++) {
        sl_span text = token_bytes(e->vocab, ids[i], true);

        top[i] =
            (llm_token_prob){ ids[i], logits[ids[i]] - log_sum, (const char *)text.ptr, text.len };
    }
    return (size_t)req->top_logprobs;
}

/* The prompt's tokens as the caller will see them, with the logprobs of rows when asked. Called
 * chunk by chunk: the rows from `row` on belong to tokens from `first` on. What was delivered
 * before a preemption is not delivered again. */
static void echo_chunk(engine *e, seq *s, int first, int count, int row)
{
    const llm_request *req = s->job->req;

    if (s->echoed == 0)
        emit_token(s, s->tokens[s->echoed++], NAN, NULL, 0, true);
    /* A token's logprob is in the row of the one before it; the token after the prompt is sampled.
     */
    for (int i = first; i < first + count && i + 1 < s->prompt_count; i++) {
        llm_token_prob top[SL_TOP_LOGPROBS_MAX];
        int32_t id = s->tokens[i + 1];
        float logprob = 0;
        size_t top_count = 0;

        if (i + 1 < s->echoed)
            continue;
        if (req->logprobs) {
            const float *logits = decoder_logits(e->dec, row + i - first);
            float log_sum = sampler_log_sum(logits, e->w->params.vocab);

            top_count = read_top(e, req, logits, log_sum, top);
            logprob = logits[id] - log_sum;
        }
        emit_token(s, id, logprob, top, top_count, true);
        s->echoed++;
    }
}

static bool is_stop_token(const engine *e, const llm_request *req, int32_t id)
{
    for (size_t i = 0; i < req->stop_id_count; i++)
        if (req->stop_ids[i] == id)
            return true;
    return !req->sampling.ignore_eos && token_is_eog(e->vocab, id);
}

/* Tokens that end generation are not for sampling yet. */
static void forbid_ends(const engine *e, const llm_request *req, float *logits)
{
    for (int i = 0; i < e->w->params.vocab; i++)
        if (token_is_eog(e->vocab, i))
            logits[i] = -INFINITY;
    for (size_t i = 0; i < req->stop_id_count; i++)
        if (req->stop_ids[i] >= 0 && req->stop_ids[i] < e->w->params.vocab)
            logits[req->stop_ids[i]] = -INFINITY;
}

/* Samples the next token of s from its row of logits and delivers it. */
static void sample(engine *e, seq *s, float *logits)
{
    const llm_request *req = s->job->req;
    const sampler_history h = { s->tokens, s->prompt_count, s->count };
    int output = s->count - s->prompt_count;
    int64_t max = req->max_tokens < 0 ? INT64_MAX : req->max_tokens;
    llm_token_prob top[SL_TOP_LOGPROBS_MAX];
    size_t top_count = 0;
    float raw = 0, log_sum = 0;
    int32_t id;

    if (max == 0) { /* only the prompt was wanted */
        s->done = true;
        emit_finish(s, LLM_FINISH_LENGTH, NULL);
        return;
    }
    if (req->logprobs) {
        log_sum = sampler_log_sum(logits, e->w->params.vocab);
        top_count = read_top(e, req, logits, log_sum, top);
        /* The sampler changes the logits; afterwards the chosen one is looked up among these. */
        memcpy(e->raw_logits, logits, (size_t)e->w->params.vocab * sizeof *logits);
    }
    if (output < req->sampling.min_tokens)
        forbid_ends(e, req, logits);
    id = sampler_pick(&e->sampler, logits, &req->sampling, &h, &s->rng);
    if (req->logprobs)
        raw = e->raw_logits[id] - log_sum;
    s->job->usage.output_tokens++;
    atomic_fetch_add_explicit(&e->output_tokens, 1, memory_order_relaxed);
    if (is_stop_token(e, req, id)) {
        s->done = true;
        emit_finish(s, LLM_FINISH_STOP, NULL);
        return;
    }
    if (emit_token(s, id, raw, top, top_count, false)) {
        s->done = true;
        return;
    }
    if (s->count < s->cap)
        s->tokens[s->count++] = id;
    s->sampled = true;
    if (output + 1 >= max || s->count >= s->cap) {
        s->done = true;
        emit_finish(s, LLM_FINISH_LENGTH, NULL);
    }
}

static void fill_views(engine *e)
{
    for (size_t i = 0; i < e->live_count; i++) {
        const seq *s = e->live[i];

        e->views[i] = (sched_seq){
            .len = s->kv.len,
            .pending = s->count - s->kv.len,
            .blocks = s->kv.block_count,
            .decoding = s->sampled && s->count - s->kv.len == 1,
            .all_rows = s->needs_echo && s->job->req->logprobs,
        };
    }
}

/* Applies the plan: preempts, reserves, and lists the runs. */
static int apply_plan(engine *e)
{
    int runs = 0;

    for (size_t i = 0; i < e->live_count; i++)
        if (e->views[i].preempt) {
            kv_seq_clear(e->pool, &e->live[i]->kv);
            atomic_fetch_add_explicit(&e->preemptions, 1, memory_order_relaxed);
        }
    for (size_t i = 0; i < e->live_count; i++) {
        seq *s = e->live[i];
        const sched_seq *v = &e->views[i];
        bool last = v->count == v->pending, ok;

        if (v->count == 0)
            continue;
        ok = kv_seq_reserve(e->pool, &s->kv, s->kv.len + v->count);
        SL_ASSERT(ok); /* the plan counted the blocks */
        if (!s->job->started)
            emit_start(s->job);
        e->runs[runs++] = (decoder_run){ &s->kv, s->tokens + s->kv.len, v->count,
                                         v->all_rows ? 0
                                         : last      ? v->count - 1
                                                     : v->count };
    }
    return runs;
}

/* Walks the step's rows in the order of its runs. */
static void deliver_rows(engine *e)
{
    int row = 0;

    for (size_t i = 0; i < e->live_count; i++) {
        seq *s = e->live[i];
        const sched_seq *v = &e->views[i];
        bool last = v->count == v->pending;
        int first = s->kv.len - v->count;

        if (v->count == 0)
            continue;
        if (first < s->prompt_count)
            atomic_fetch_add_explicit(&e->prompt_tokens, v->count, memory_order_relaxed);
        if (s->needs_echo) {
            echo_chunk(e, s, first, v->count, row);
            if (last)
                s->needs_echo = false;
        }
        row += v->all_rows ? v->count : last;
        if (last)
            sample(e, s, decoder_logits(e->dec, row - 1));
    }
}

void generate_round(engine *e)
{
    int planned, runs;

    fill_views(e);
    planned = sched_plan(e->views, (int)e->live_count, e->pool->free_count, &e->limits);
    runs = apply_plan(e);
    SL_ASSERT(planned > 0 || e->live_count == 0);
    if (runs > 0) {
        decoder_step(e->dec, e->pool, e->runs, runs);
        atomic_fetch_add_explicit(&e->steps, 1, memory_order_relaxed);
        deliver_rows(e);
    }
    atomic_store_explicit(&e->running, runs, memory_order_relaxed);
    atomic_store_explicit(&e->waiting, (int)e->live_count - runs, memory_order_relaxed);
    for (size_t i = e->live_count; i-- > 0;)
        if (e->live[i]->done)
            seq_end(e, i);
    atomic_store_explicit(&e->kv_used, e->pool->block_count - e->pool->free_count,
                          memory_order_relaxed);
}
