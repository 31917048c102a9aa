/* sim.c - see sim.h. The linker turns the engine's calls of the decoder and of the clock to the
 * functions named __wrap_ here. */
#include "sim.h"

#include <math.h>

#include "tests_engine.h"

static sim *current; /* whose clock it is */

/* ---- the model ------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0xff51afd7ed558ccdULL;
    return h ^ h >> 29;
}

/* A text that mostly goes round in circles, so that guesses by lookup are often right. */
static void logits_of(uint64_t h, int32_t last, float *ret)
{
    int32_t next = h >> 40 & 7 ? (last * 5 + 3) % SIM_VOCAB : (int32_t)(h >> 50) % SIM_VOCAB;

    for (int i = 0; i < SIM_VOCAB; i++)
        ret[i] = (float)(mix(h, (uint64_t)i) >> 56) / 256.0f;
    ret[next] += 3;
}

/* Layer 0 has the window, if there is one; layer 1 sees everything. */
static uint64_t *slot(const kv_pool *p, const kv_seq *s, int layer, int pos)
{
    uint64_t *block = kv_head_ptr(p, s, layer, pos / SL_KV_BLOCK_TOKENS, 0);

    return block + pos % SL_KV_BLOCK_TOKENS;
}

/* What the plan must keep to, whatever it decides. */
static void check_plan(sim *s)
{
    const sched_limits *l = &s->e.limits;
    int decodes = 0, guesses = 0, brief = 0, prefill = 0;

    for (size_t i = 0; i < s->e.live_count; i++) {
        const sched_seq *v = &s->e.views[i];

        if (v->count > 0 && v->decoding) {
            decodes++;
            guesses += v->count - 1;
        } else {
            prefill += v->count;
            brief += v->brief ? v->count : 0;
        }
    }
    assert_true(decodes + guesses + prefill <= l->step_tokens);
    assert_true(guesses == 0 || decodes + guesses <= l->draft_tokens);
    assert_true(decodes == 0 || prefill - brief <= l->mixed_prefill);
    assert_true(decodes == 0 || brief <= l->mixed_brief);
    s->prefill_tokens += prefill;
    s->decode_tokens += decodes + guesses;
    s->now_ns += s->token_ns * (10 + decodes + guesses + prefill);
}

void __wrap_decoder_step(decoder *d, kv_pool *pool, decoder_run *runs, int run_count);
void __wrap_decoder_step(decoder *d, kv_pool *pool, decoder_run *runs, int run_count)
{
    sim *s = (sim *)(void *)d;
    int rows = 0;

    check_plan(s);
    assert_true(run_count <= s->e.limits.seqs_max);
    for (int r = 0; r < run_count; r++) {
        decoder_run *run = &runs[r];
        const int32_t *tokens = run->tokens - run->seq->len;
        uint64_t want = 1;

        assert_int_equal(kv_seq_missing(run->seq, run->seq->len + run->count), 0);
        for (int p = 0; p < run->seq->len; p++) {
            want = mix(want, (uint64_t)tokens[p]);
            assert_true(*slot(pool, run->seq, 1, p) == want);
            if (p > run->seq->len - pool->shape.window)
                assert_true(*slot(pool, run->seq, 0, p) == want);
        }
        for (int i = 0; i < run->count; i++) {
            int pos = run->seq->len + i;
            uint64_t h = mix(pos ? *slot(pool, run->seq, 1, pos - 1) : 1, (uint64_t)tokens[pos]);

            *slot(pool, run->seq, 0, pos) = *slot(pool, run->seq, 1, pos) = h;
            if (i >= run->logits_from) {
                assert_true(rows < s->e.limits.rows_max);
                logits_of(h, tokens[pos], s->logits[rows++]);
            }
        }
    }
    for (int r = 0; r < run_count; r++)
        runs[r].seq->len += runs[r].count;
}

/* Gives up when the arrival that the test announced falls into the step, or before it. */
bool __wrap_decoder_try_step(decoder *d, kv_pool *pool, decoder_run *runs, int run_count,
                             const atomic_bool *give_up);
bool __wrap_decoder_try_step(decoder *d, kv_pool *pool, decoder_run *runs, int run_count,
                             const atomic_bool *give_up)
{
    sim *s = (sim *)(void *)d;
    int64_t cost = 10;

    for (int r = 0; r < run_count; r++)
        cost += runs[r].count;
    if (s->arrival_ns > 0 && s->arrival_ns < s->now_ns + s->token_ns * cost) {
        s->now_ns = SL_MAX(s->arrival_ns, s->now_ns) + s->token_ns; /* the end of a layer */
        s->given_up++;
        return false;
    }
    __wrap_decoder_step(d, pool, runs, run_count);
    return true;
}

float *__wrap_decoder_logits(decoder *d, int i);
float *__wrap_decoder_logits(decoder *d, int i)
{
    return ((sim *)(void *)d)->logits[i];
}

int64_t __wrap_sl_clock_mono_ns(void);
int64_t __wrap_sl_clock_mono_ns(void)
{
    return current ? current->now_ns : 0;
}

/* ---- the engine around it -------------------------------------------------------------------- */

static token_vocab *vocabulary(void)
{
    static const char json[] =
        "{\"added_tokens\":[],\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{"
        "\"a\":0,\"b\":1,\"c\":2,\"d\":3,\"e\":4,\"f\":5,\"g\":6,\"h\":7,\"i\":8,\"j\":9,"
        "\"k\":10,\"l\":11,\"m\":12,\"n\":13,\"o\":14,\"p\":15}}}";
    static token_vocab *v;
    sl_err err;

    if (!v)
        assert_int_equal(token_vocab_from_json(sl_span_str(json), (sl_span){ 0 }, &v, &err), SL_OK);
    return v;
}

void sim_open(sim *s, const sim_options *o)
{
    const kv_shape shape = {
        .layers = 2, .kv_heads = 1, .head_dim = 16, .window = o->window, .pattern = 2
    };
    engine *e = &s->e;
    int local_max;
    sl_err err;

    memset(s, 0, sizeof *s);
    s->token_ns = o->token_ns > 0 ? o->token_ns : 100000;
    s->w.params.vocab = SIM_VOCAB;
    kernels_init(&e->k, kernels_cpu());
    load_init(&e->load);
    e->load.slots = o->seqs_max;
    e->load.queue_max = INT32_MAX;
    e->load.wait_ns = INT64_MAX;
    e->w = &s->w;
    e->dec = (decoder *)(void *)s;
    e->vocab = vocabulary();
    e->o = (engine_options){ .context_max = SL_MIN(o->blocks * SL_KV_BLOCK_TOKENS, SIM_TOKENS),
                             .mixed_prefill = o->mixed_prefill,
                             .spec_tokens = o->spec_tokens,
                             .deadline_ms = INT32_MAX };
    e->limits = (sched_limits){ .step_tokens = SL_MAX(o->step_tokens, o->seqs_max),
                                .draft_tokens = 24,
                                .seqs_max = o->seqs_max,
                                .rows_max = o->seqs_max,
                                .block_tokens = SL_KV_BLOCK_TOKENS };
    local_max = kv_local_max(shape, o->seqs_max, e->limits.step_tokens);
    assert_int_equal(kv_pool_create(shape, kv_bytes(shape, (size_t)o->blocks, local_max), local_max,
                                    &e->pool, &err),
                     SL_OK);
    assert_int_equal(e->pool->full.count, o->blocks);
    assert_int_equal(sampler_init(&e->sampler, &e->k, SIM_VOCAB, &err), SL_OK);
    e->raw_logits = sl_calloc(SIM_VOCAB, sizeof *e->raw_logits);
    e->live = sl_calloc(SIM_LIVE_MAX, sizeof(seq *));
    e->order = sl_calloc(SIM_LIVE_MAX, sizeof(seq *));
    e->views = sl_calloc(SIM_LIVE_MAX, sizeof *e->views);
    e->runs = sl_calloc(SIM_LIVE_MAX, sizeof *e->runs);
    e->waits = sl_calloc(SIM_LIVE_MAX, sizeof *e->waits);
    e->served = sl_calloc(SL_TENANTS_MAX, sizeof *e->served);
    current = s;
}

void sim_close(sim *s)
{
    engine *e = &s->e;

    assert_int_equal(e->live_count, 0);
    assert_int_equal(e->pool->full.free_count, e->pool->full.count);
    assert_int_equal(e->pool->local.free_count, e->pool->local.count);
    for (int i = 0; i < e->tenant_count; i++)
        assert_int_equal(e->tenants[i].live, 0);
    kv_pool_destroy(e->pool);
    sampler_deinit(&e->sampler);
    load_deinit(&e->load);
    void *owned[] = { e->raw_logits, e->live,  e->order,   e->views,
                      e->runs,       e->waits, e->tenants, e->served };

    for (size_t i = 0; i < SL_COUNT_OF(owned); i++)
        sl_free(owned[i]);
    current = NULL;
}

/* Its logprob, rank and alternatives are those of the row before it, computed alone. */
static void check_prompt_token(sim_request *r, const llm_token *t)
{
    uint64_t h = 1;
    float logits[SIM_VOCAB];
    int above = 0;

    assert_int_equal(t->chosen.id, r->ids[r->told]);
    if (r->told++ == 0) {
        assert_true(isnan(t->chosen.logprob));
        return;
    }
    for (int i = 0; i < r->told - 1; i++)
        h = mix(h, (uint64_t)r->ids[i]);
    logits_of(h, r->ids[r->told - 2], logits);
    for (int i = 0; i < SIM_VOCAB; i++)
        above += logits[i] >= logits[t->chosen.id];
    assert_int_equal(t->rank, above);
    assert_int_equal(t->top_count, r->req.prompt_top);
    assert_float_equal(t->chosen.logprob,
                       logits[t->chosen.id] - sampler_log_sum(&current->e.k, logits, SIM_VOCAB),
                       1e-5);
    for (size_t i = 0; i < t->top_count; i++)
        assert_true((t->top[i].id == t->chosen.id) <= ((int)i < above));
}

static void on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    sim_request *r = ctx;
    uint32_t c = ev->choice;

    assert_ptr_equal(req, &r->req);
    assert_int_equal(r->dones, 0); /* nothing comes after it */
    assert_true(c < SIM_CHOICES);
    switch (ev->kind) {
    case LLM_EV_START:
        r->starts++;
        r->began = current->steps;
        break;
    case LLM_EV_DELTA:
        assert_int_equal(r->finishes[c], 0);
        for (size_t i = 0; i < ev->token_count; i++) {
            if (ev->tokens[i].is_prompt)
                assert_int_equal(ev->tokens[i].chosen.id, r->ids[r->echoed[c]++]);
            else
                r->got[c][r->got_count[c]++] = ev->tokens[i].chosen.id;
        }
        break;
    case LLM_EV_PROMPT:
        assert_int_equal(c, 0); /* the first choice tells for all */
        assert_int_equal(r->got_count[c], 0);
        if (ev->ids) {
            assert_int_equal(ev->id_count, r->prompt.id_count);
            assert_memory_equal(ev->ids, r->ids, ev->id_count * sizeof *ev->ids);
            r->told_ids++;
            break;
        }
        check_prompt_token(r, &ev->tokens[0]);
        break;
    case LLM_EV_FINISH:
        r->finishes[c]++;
        break;
    case LLM_EV_DONE:
        r->dones++;
        r->usage = ev->usage;
        r->ended = current->steps;
        r->ended_ns = current->now_ns;
        break;
    case LLM_EV_ERROR:
        assert_int_equal(ev->error.status, SL_EBUSY);
        assert_int_equal(r->starts, 0);
        assert_true(r->req.quota.retry_after_ms >= 100);
        r->refused = true;
        break;
    default:
        fail_msg("event %d", ev->kind);
    }
}

void sim_request_init(sim_request *r, const char *user)
{
    memset(r, 0, sizeof *r);
    snprintf(r->user, sizeof r->user, "%s", user);
    r->req.task = LLM_COMPLETE;
    r->req.tenant = r->user;
    r->req.n = 1;
    r->req.sampling = llm_sampling_default();
    r->req.sampling.temperature = 0;
    r->req.sampling.has_seed = true;
    r->req.sampling.ignore_eos = true;
}

/* As engine.c's knock. */
static bool is_let_in(sim *s, sim_request *r)
{
    sl_err err;

    if (is_background(&r->req))
        return load_enter_idle(&s->e.load, &err) == SL_OK;
    return load_enter(&s->e.load, load_caller_of(&r->req), s->now_ns, &r->req.quota.retry_after_ms,
                      &err) == SL_OK;
}

/* As engine.c's admit. */
bool sim_submit(sim *s, sim_request *r)
{
    engine *e = &s->e;
    sl_err err;
    job *j;

    r->refused = !is_let_in(s, r);
    if (r->refused)
        return false;
    r->prompt.ids = r->ids;
    r->req.prompts = &r->prompt;
    r->req.prompt_count = 1;
    r->arrived = s->steps;
    r->arrived_ns = s->now_ns;
    assert_int_equal(job_create(e, &r->req, (llm_sink){ on_event, r }, &j, &err), SL_OK);
    for (int i = 0; i < j->seq_count; i++) {
        seq *q = &j->seqs[i];

        assert_true(e->live_count < SIM_LIVE_MAX);
        e->live[e->live_count++] = q;
        q->tenant = tenant_enter(e, r->user);
        q->kv.root = q->kv.tail = r->req.no_prefix_cache ? 0 : kv_pool_root(e->pool, r->user);
    }
    return true;
}

/* Whose turn comes first: background only when there is nothing else. */
static seq *first_of(const engine *e)
{
    for (size_t i = 0; i < e->live_count; i++)
        if (!seq_is_background(e->live[i]))
            return e->live[i];
    return e->live[0];
}

void sim_step(sim *s)
{
    engine *e = &s->e;

    for (size_t i = e->live_count; i-- > 0;)
        if (e->live[i]->job->req->cancelled) {
            emit_finish(e->live[i], LLM_FINISH_CANCELLED, NULL, -1);
            seq_end(e, i);
        }
    drop_overdue(e);
    if (e->live_count == 0)
        return;
    s->steps++;
    s->now_ns += 50000;
    seq *first_before = first_of(e);
    int count = first_before->count, len = first_before->kv.len;
    long tokens = s->prefill_tokens + s->decode_tokens;
    size_t live = e->live_count;

    generate_round(e);
    /* Progress of who came first, unless it ended or another took its place. */
    s->empty = tokens == s->prefill_tokens + s->decode_tokens ? s->empty + 1 : 0;
    assert_true(s->empty <= 2); /* somebody made room */
    if (e->live_count == live && first_of(e) == first_before && first_before->count == count &&
        first_before->kv.len <= len)
        s->stuck += s->empty == 0;
    else
        s->stuck = 0;
    s->stuck_worst = SL_MAX(s->stuck_worst, s->stuck);
}

void sim_check(const sim *s)
{
    const kv_seq *list[SIM_LIVE_MAX];

    for (size_t i = 0; i < s->e.live_count; i++)
        list[i] = &s->e.live[i]->kv;
    kv_pool_check(s->e.pool, list, (int)s->e.live_count);
}

void sim_check_answer(sim *s, const sim_request *r)
{
    int prompt = (int)r->prompt.id_count;

    assert_int_equal(r->dones, 1);
    assert_int_equal(r->starts, 1);
    for (uint32_t c = 0; c < r->req.n; c++) {
        uint64_t rand = sampler_seed(r->req.sampling.seed, c), h = 1;
        int32_t tokens[SIM_TOKENS + 1];
        int want = (int)SL_MIN(r->req.max_tokens, (int64_t)s->e.o.context_max - prompt);

        assert_int_equal(r->finishes[c], 1);
        assert_true(r->got_count[c] == want || (r->req.cancelled && r->got_count[c] < want));
        if (r->req.echo && !r->req.cancelled)
            assert_int_equal(r->echoed[c], prompt);
        if (r->req.prompt_probs && !r->req.cancelled)
            assert_int_equal(r->told, prompt);
        if (r->req.prompt_ids && !r->req.cancelled)
            assert_int_equal(r->told_ids, 1);
        memcpy(tokens, r->ids, (size_t)prompt * sizeof *tokens);
        for (int i = 0; i < prompt - 1; i++)
            h = mix(h, (uint64_t)tokens[i]);
        for (int i = 0; i < r->got_count[c]; i++) {
            const sampler_history history = { tokens, prompt, prompt + i };
            float logits[SIM_VOCAB];

            h = mix(h, (uint64_t)tokens[prompt + i - 1]);
            logits_of(h, tokens[prompt + i - 1], logits);
            tokens[prompt + i] =
                sampler_pick(&s->e.sampler, logits, &r->req.sampling, &history, &rand);
            assert_int_equal(r->got[c][i], tokens[prompt + i]);
        }
    }
}
