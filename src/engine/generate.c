/* generate.c - one round of continuous batching: plan, step, sample, deliver. */
#include "engine/engine_int.h"

#include <math.h>

#include "base/os.h"

/* Logprobs of the `count` likeliest tokens, from unchanged logits. */
static size_t read_top(const engine *e, int32_t count, const float *logits, float log_sum,
                       llm_token_prob *top)
{
    int32_t ids[SL_TOP_LOGPROBS_MAX];

    sampler_top(logits, e->w->params.vocab, count, ids);
    for (int i = 0; i < count; i++) {
        sl_span text = token_bytes(e->vocab, ids[i], true);

        top[i] = (llm_token_prob){ ids[i], logits[ids[i]] - log_sum, (const char *)text.ptr,
                                   text.len, token_is_control(e->vocab, ids[i]) };
    }
    return (size_t)count;
}

/* Tells of prompt token s->echoed in the ways that were asked. logits: of the token before it; NULL
 * for the first token and where no logprobs are wanted. */
static void echo_token(engine *e, seq *s, const float *logits)
{
    const llm_request *req = s->job->req;
    llm_token_prob top[SL_TOP_LOGPROBS_MAX];
    int32_t id = s->tokens[s->echoed++];
    float log_sum = logits ? sampler_log_sum(&e->k, logits, e->w->params.vocab) : 0;
    float logprob = s->echoed == 1 ? NAN : logits ? logits[id] - log_sum : 0;
    size_t count = 0;

    if (logits && (req->logprobs || s->tells_probs))
        count = read_top(e, SL_MAX(req->top_logprobs, req->prompt_top), logits, log_sum, top);
    if (s->tells_probs)
        emit_prompt_token(s, id, logprob, logits ? sampler_rank(&e->sampler, logits, id) : 0, top,
                          SL_MIN(count, (size_t)req->prompt_top));
    if (req->echo)
        emit_token(s, id, logprob, top, SL_MIN(count, (size_t)req->top_logprobs), true);
}

/* The prompt's tokens as the caller will see them, with the logprobs of rows when asked. Called
 * chunk by chunk: the rows from `row` on belong to tokens from `first` on. What was delivered
 * before a preemption is not delivered again. */
static void echo_chunk(engine *e, seq *s, int first, int count, int row)
{
    if (s->echoed == 0)
        echo_token(e, s, NULL);
    /* A token's logprob is in the row of the one before it; the token after the prompt is sampled.
     */
    for (int i = first; i < first + count && i + 1 < s->prompt_count; i++)
        if (i + 1 >= s->echoed)
            echo_token(e, s, seq_wants_rows(s) ? decoder_logits(e->dec, row + i - first) : NULL);
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

#define NO_TOKEN (-1)

static void seq_finish(seq *s, llm_finish finish, int32_t stop_token)
{
    s->done = true;
    emit_finish(s, finish, NULL, stop_token);
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
        seq_finish(s, LLM_FINISH_LENGTH, NO_TOKEN);
        return;
    }
    if (req->logprobs) {
        log_sum = sampler_log_sum(&e->k, logits, e->w->params.vocab);
        top_count = read_top(e, req->top_logprobs, logits, log_sum, top);
        /* The sampler changes the logits; afterwards the chosen one is looked up among these. */
        memcpy(e->raw_logits, logits, (size_t)e->w->params.vocab * sizeof *logits);
    }
    if (output < req->sampling.min_tokens)
        forbid_ends(e, req, logits);
    id = sampler_pick(&e->sampler, logits, &req->sampling, &h, &s->rng);
    if (id < 0) { /* nothing may be said */
        seq_finish(s, LLM_FINISH_STOP, NO_TOKEN);
        return;
    }
    if (req->logprobs)
        raw = e->raw_logits[id] - log_sum;
    s->job->usage.output_tokens++;
    atomic_fetch_add_explicit(&e->output_tokens, 1, memory_order_relaxed);
    if (is_stop_token(e, req, id)) {
        if (req->token_details)
            emit_end_token(s, id, raw, top, top_count);
        seq_finish(s, LLM_FINISH_STOP, id);
        return;
    }
    s->ending = output + 1 >= max || s->count + 1 >= s->cap;
    if (emit_token(s, id, raw, top, top_count, false)) {
        s->done = true;
        return;
    }
    if (s->count < s->cap)
        s->tokens[s->count++] = id;
    s->sampled = true;
    if (s->ending)
        seq_finish(s, LLM_FINISH_LENGTH, NO_TOKEN);
}

/* Rows of logits that a planned sequence gets. */
static int rows_of(const sched_seq *v)
{
    return v->all_rows || v->decoding ? v->count : v->count == v->pending;
}

/* Takes the cached beginning of a sequence; the plan was made for exactly that. */
static void take_hit(engine *e, seq *s, int hit)
{
    int len = kv_seq_match(e->pool, &s->kv, s->tokens, s->count);

    SL_ASSERT(len == hit);
}

/* Counts hits in tokens, once for a prompt: not for its other choices, nor after a preemption. */
static void count_query(engine *e, seq *s)
{
    s->cached = s->kv.len; /* before the first step: what is in the cache came from there */
    if (s->choice % s->job->req->n != 0)
        return;
    s->job->usage.cached_tokens += s->kv.len;
    atomic_fetch_add_explicit(&e->prefix_hits, s->kv.len, memory_order_relaxed);
    atomic_fetch_add_explicit(&e->prefix_queries, s->prompt_count, memory_order_relaxed);
}

/* Applies the plan: preempts, takes what the cache has, reserves, and lists the runs. */
static int apply_plan(engine *e)
{
    int runs = 0;

    for (size_t i = 0; i < e->live_count; i++)
        if (e->views[i].preempt) {
            kv_seq_clear(e->pool, &e->live[i]->kv);
            atomic_fetch_add_explicit(&e->preemptions, 1, memory_order_relaxed);
        }
    /* Before anything is reserved: what nobody holds may be taken for something else. */
    for (size_t i = 0; i < e->live_count; i++)
        if (e->views[i].count > 0 && e->views[i].hit > 0)
            take_hit(e, e->live[i], e->views[i].hit);
    for (size_t i = 0; i < e->live_count; i++) {
        seq *s = e->live[i];
        const sched_seq *v = &e->views[i];
        bool ok;

        if (v->count == 0)
            continue;
        ok = kv_seq_reserve(e->pool, &s->kv, s->kv.len + v->count);
        SL_ASSERT(ok); /* the plan counted the blocks */
        if (!s->begun)
            count_query(e, s);
        s->brief = v->brief;
        s->begun = true;
        if (!s->job->started)
            job_start(e, s->job);
        if (s->tells_ids)
            emit_prompt_ids(s);
        e->runs[runs++] =
            (decoder_run){ &s->kv, s->tokens + s->kv.len, v->count, v->count - rows_of(v) };
    }
    return runs;
}

/* Samples from the rows of a decode and its guesses for as long as the guesses are right. The
 * tokens are those that would come one by one: each is drawn from its own row. */
static void sample_run(engine *e, seq *s, int guessed, int row)
{
    int right = 0;

    for (int i = 0; !s->done; i++, right++) {
        int32_t next = i < guessed ? s->tokens[s->count] : -1;
        int at = s->count;

        sample(e, s, decoder_logits(e->dec, row + i));
        if (s->done || i == guessed || s->count != at + 1 || s->tokens[at] != next)
            break;
    }
    if (guessed > 0) {
        guess_result(s, guessed, right);
        atomic_fetch_add_explicit(&e->draft_tokens, guessed, memory_order_relaxed);
        atomic_fetch_add_explicit(&e->draft_accepted, right, memory_order_relaxed);
    }
    kv_seq_truncate(&s->kv, s->kv.len - (guessed - right));
}

/* What a request that generates nothing wants of the last token of its text. */
static void read_result(engine *e, seq *s, int row)
{
    const float *state;
    double norm = 0;

    s->done = true;
    if (s->job->req->task == LLM_RERANK) {
        emit_score(s, judge_logit(e, decoder_logits(e->dec, row)));
        return;
    }
    state = decoder_state(e->dec, row);
    for (int i = 0; i < e->w->params.dim; i++)
        norm += (double)state[i] * (double)state[i];
    norm = e->w->params.pool_normalize && norm > 0 ? sqrt(norm) : 1;
    for (int i = 0; i < e->w->params.dim; i++)
        s->vector[i] = (float)((double)state[i] / norm);
    emit_vector(s, (size_t)e->w->params.dim);
}

/* Walks the step's rows in the order of its runs. */
static void deliver_rows(engine *e)
{
    int row = 0;

    for (size_t i = 0; i < e->live_count; i++) {
        seq *s = e->live[i];
        const sched_seq *v = &e->views[i];
        bool last = v->decoding || s->kv.len == s->count;
        int first = s->kv.len - v->count, before = s->count;

        if (v->count == 0)
            continue;
        if (first < s->prompt_count)
            atomic_fetch_add_explicit(&e->prompt_tokens, v->count, memory_order_relaxed);
        if (s->needs_echo) {
            echo_chunk(e, s, first, v->count, row);
            if (last)
                s->needs_echo = false;
        }
        if (last && seq_has_result(s))
            read_result(e, s, row + rows_of(v) - 1);
        else if (v->decoding)
            sample_run(e, s, v->count - 1, row);
        else if (last)
            sample_run(e, s, 0, row + rows_of(v) - 1);
        row += rows_of(v);
        kv_seq_publish(e->pool, &s->kv, s->tokens);
        tenant_charge(e, s->tenant, v->decoding ? 0 : v->count, s->count - before);
    }
}

/* ---- how much of a prompt goes beside decodes -------------------------------------------------
 */

#define MIXED_RATIO    1.6 /* a step with tokens of a long prompt takes so many times one without */
#define MIXED_MIN      1   /* long prompts go on, whatever the clock says */
#define MIXED_MAX      512
#define MIXED_DEFAULT  24
#define BRIEF_DEFAULT  256
#define BRIEF_GAP_NS   50e6  /* a step with brief prompts may take so long: 20 tokens a second */
#define BRIEF_NS       500e6 /* a prompt that is computed in less is brief */
#define BACKGROUND_MIN 16    /* fewer prompt tokens take hardly less time than so many */
#define SHARE          0.2   /* of the newest step in a mean */
#define LEAST_KNOWN    0.01  /* of a decode step: a prompt token cannot seem to take less */

/* Learns from a step how long decodes take, and what each prompt token adds: next to nothing while
 * memory is the bound, more and more while a long prompt is computed. */
static void learn(engine *e, int decodes, int tokens, int64_t ns)
{
    double least = LEAST_KNOWN * e->decode_ns;

    if (tokens == decodes) {
        mean_add(&e->decode_ns, (double)ns, SHARE);
        knee_add_step(&e->knee, decodes, (double)ns);
    } else if (decodes == 0) {
        mean_add(&e->prefill_ns, (double)ns / tokens, SHARE);
    } else if (e->decode_ns > 0) {
        mean_add(&e->prefill_ns, SL_MAX(((double)ns - e->decode_ns) / (tokens - decodes), least),
                 SHARE);
    }
}

static int tokens_in(const engine *e, double ns)
{
    return (int)SL_MIN(SL_MAX(ns / e->prefill_ns, MIXED_MIN), MIXED_MAX);
}

static void mixed_limits(engine *e)
{
    sched_limits *l = &e->limits;

    l->mixed_prefill = l->mixed_brief = e->o.mixed_prefill > 0 ? e->o.mixed_prefill : MIXED_DEFAULT;
    e->brief_tokens = BRIEF_DEFAULT;
    if (e->prefill_ns == 0)
        return;
    e->brief_tokens = (int)SL_MIN(BRIEF_NS / e->prefill_ns, e->o.context_max);
    if (e->o.mixed_prefill > 0)
        return;
    if (e->decode_ns > 0)
        l->mixed_prefill = tokens_in(e, (MIXED_RATIO - 1) * e->decode_ns);
    l->mixed_brief = SL_MAX(tokens_in(e, BRIEF_GAP_NS - e->decode_ns), l->mixed_prefill);
}

/* Whoever comes while only background work is computed finds it ready to give up its step, and that
 * step short, so that little is computed twice. Under overload now and then a step is of one
 * decode, to measure what the knee must know. */
static int plan(engine *e, int decodes)
{
    sched_limits l = e->limits;

    l.seqs_max = SL_MIN(l.seqs_max, load_running_max(&e->load, sl_clock_mono_ns()));
    if (e->only_background)
        l.step_tokens = SL_MIN(l.step_tokens, decodes + SL_MAX(l.mixed_prefill, BACKGROUND_MIN));
    else if (knee_wants_single(&e->knee, decodes) && load_is_overloaded(&e->load))
        l.step_tokens = 1;
    return sched_plan(e->views, (int)e->live_count, e->pool->full.free_count, &l);
}

/* False: background work was given up for somebody who came; it is planned again. */
static bool compute(engine *e, int decodes, int planned, int runs)
{
    int64_t start = sl_clock_mono_ns();

    if (!e->only_background)
        decoder_step(e->dec, e->pool, e->runs, runs);
    else if (!decoder_try_step(e->dec, e->pool, e->runs, runs, &e->has_arrivals))
        return false;
    if (decodes > 0 || !e->only_background) /* a short prefill alone is no measure */
        learn(e, decodes, planned, sl_clock_mono_ns() - start);
    atomic_fetch_add_explicit(&e->steps, 1, memory_order_relaxed);
    e->step_ns = sl_clock_mono_ns() - start;
    return true;
}

void generate_round(engine *e)
{
    int planned, runs, decodes = 0;

    mixed_limits(e);
    fill_views(e);
    for (size_t i = 0; i < e->live_count; i++)
        decodes += e->views[i].decoding && !e->views[i].idle;
    planned = plan(e, decodes);
    runs = apply_plan(e);
    if (runs > 0 && compute(e, SL_MIN(decodes, planned), planned, runs))
        deliver_rows(e);
    atomic_store_explicit(&e->running, runs, memory_order_relaxed);
    atomic_store_explicit(&e->waiting, (int)e->live_count - runs, memory_order_relaxed);
    for (size_t i = e->live_count; i-- > 0;)
        if (e->live[i]->done)
            seq_end(e, i);
    if (e->live_count > 0 && !e->only_background)
        aside_lend(e->step_ns, &e->lend_steps);
    atomic_store_explicit(&e->kv_used, e->pool->full.count - e->pool->full.free_count,
                          memory_order_relaxed);
}
