/* engine.c - a model's life: opening, the engine thread, closing; and the backend others see. */
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "engine/engine_int.h"

#define SEQS_MAX_DEFAULT    64
#define QUEUE_MAX_DEFAULT   512
#define DEADLINE_MS_DEFAULT 60000
#define STEP_TOKENS_DEFAULT 512
#define DRAFT_STEP_TOKENS   24 /* with more tokens a step takes longer by each guess */
#define CONTEXT_DEFAULT     8192
#define KV_BYTES_DEFAULT    ((size_t)1 << 30)

static atomic_uint cpu_mask;
static atomic_bool cpu_set;

void engine_set_cpu(unsigned mask)
{
    atomic_store(&cpu_mask, mask & kernels_cpu());
    atomic_store(&cpu_set, true);
}

unsigned engine_cpu(void)
{
    return atomic_load(&cpu_set) ? atomic_load(&cpu_mask) : kernels_cpu();
}

/* Attention need not be more exact than the products that feed it. */
static bool is_rounded(const weights *w, const kernels *k)
{
    for (int i = 0; i < w->params.layers; i++)
        if (k->act[w->layers[i].q.fmt] == KERNELS_ACT_F32)
            return false;
    return true;
}

sl_status engine_kv_type(const char *name, const weights *w, const kernels *k, kernels_kv *ret,
                         sl_err *err)
{
    static const char *const names[] = { "f16", "q8_0", "bf16" };

    if (!name || strcmp(name, "auto") == 0) {
        *ret = k->has_bf16_pairs && is_rounded(w, k) ? KERNELS_KV_BF16 : KERNELS_KV_F16;
        return SL_OK;
    }
    for (int i = 0; i < KERNELS_KV_COUNT; i++) {
        if (strcmp(name, names[i]) != 0)
            continue;
        if (i == KERNELS_KV_Q8_0 && w->params.head_dim % 32 != 0)
            return sl_fail(err, SL_ENOTSUP,
                           "kv.type q8_0 needs heads of a multiple of 32, not of %d; use f16",
                           w->params.head_dim);
        if (i == KERNELS_KV_BF16 && !k->has_bf16_pairs)
            return sl_fail(err, SL_ENOTSUP,
                           "kv.type bf16 needs a processor with AVX512-BF16; use auto or f16");
        *ret = (kernels_kv)i;
        return SL_OK;
    }
    return sl_fail(err, SL_EINVAL, "kv.type is '%.40s'; use auto, f16, bf16 or q8_0", name);
}

/* ---- the engine thread ----------------------------------------------------------------------- */

void job_start(engine *e, job *j)
{
    emit_start(j);
    if (!is_background(j->req))
        load_begin(&e->load, j->started_ns);
}

/* Whoever hears DONE may come again: his place is free before. */
static void leave(engine *e, const job *j)
{
    int64_t now_ns = sl_clock_mono_ns();

    if (is_background(j->req)) {
        load_leave_idle(&e->load);
        return;
    }
    load_end(&e->load, load_caller_of(j->req), now_ns, now_ns - j->started_ns);
    if (e->dec && j->usage.prompt_tokens > 0) {
        knee_add_request(&e->knee, (double)(j->usage.prompt_tokens - j->usage.cached_tokens),
                         (double)j->usage.output_tokens, e->prefill_ns);
        load_knee(&e->load, knee_requests(&e->knee));
    }
}

void seq_end(engine *e, size_t live_idx)
{
    seq *s = e->live[live_idx];
    job *j = s->job;

    if (e->pool) {
        kv_seq_clear(e->pool, &s->kv);
        tenant_leave(e, s->tenant);
    }
    memmove(e->live + live_idx, e->live + live_idx + 1,
            (e->live_count - live_idx - 1) * sizeof(seq *));
    e->live_count--;
    if (++j->done_count < j->seq_count)
        return;
    if (!j->started) { /* its client left before its turn */
        j->usage.prompt_tokens = 0;
        job_start(e, j);
    }
    leave(e, j);
    emit_done(j);
    job_destroy(e, j);
}

/* Makes room for count live sequences in every list. */
static bool grow_lists(engine *e, size_t count)
{
    size_t caps[6] = { e->live_cap,  e->views_cap, e->views_cap,
                       e->views_cap, e->views_cap, e->views_cap };
    bool ok = sl_grow((void **)&e->live, &caps[0], count, sizeof(seq *), SIZE_MAX / 64) &&
              sl_grow((void **)&e->views, &caps[1], count, sizeof *e->views, SIZE_MAX / 64) &&
              sl_grow((void **)&e->runs, &caps[2], count, sizeof *e->runs, SIZE_MAX / 64) &&
              sl_grow((void **)&e->texts, &caps[3], count, sizeof *e->texts, SIZE_MAX / 64) &&
              sl_grow((void **)&e->order, &caps[4], count, sizeof *e->order, SIZE_MAX / 64) &&
              sl_grow((void **)&e->waits, &caps[5], count, sizeof *e->waits, SIZE_MAX / 64);

    e->live_cap = caps[0];
    if (ok)
        e->views_cap = caps[1];
    return ok;
}

/* The door of the load meter, and the way back out of it for who is not let on. */
static sl_status knock(engine *e, llm_request *req, sl_err *err)
{
    if (is_background(req))
        return load_enter_idle(&e->load, err);
    return load_enter(&e->load, load_caller_of(req), sl_clock_mono_ns(), &req->quota.retry_after_ms,
                      err);
}

static void turn_away(engine *e, const llm_request *req)
{
    if (is_background(req))
        load_leave_idle(&e->load);
    else
        load_leave(&e->load, load_caller_of(req));
}

static void admit(engine *e, job *j)
{
    if (!grow_lists(e, e->live_count + (size_t)j->seq_count)) {
        emit_error(j, SL_ENOMEM, "out of memory");
        turn_away(e, j->req);
        emit_done(j);
        job_destroy(e, j);
        return;
    }
    for (int i = 0; i < j->seq_count; i++) {
        seq *s = &j->seqs[i];
        const llm_request *req = j->req;

        e->live[e->live_count++] = s;
        if (!e->pool)
            continue;
        s->tenant = tenant_enter(e, caller_id(req));
        s->kv.root = s->kv.tail = req->no_prefix_cache ? 0 : kv_pool_root(e->pool, llm_tenant(req));
    }
}

static void drop_cancelled(engine *e)
{
    for (size_t i = e->live_count; i-- > 0;) {
        seq *s = e->live[i];

        if (atomic_load_explicit(&s->job->req->cancelled, memory_order_relaxed)) {
            if (!seq_has_result(s))
                emit_finish(s, LLM_FINISH_CANCELLED, NULL, -1);
            seq_end(e, i);
        }
    }
}

/* Waits for work. False when the engine is to stop; running requests are cancelled then. */
static bool take_inbox(engine *e)
{
    job *first;
    bool stop;

    pthread_mutex_lock(&e->lock);
    while (!e->inbox_first && e->live_count == 0 && !e->stop)
        pthread_cond_wait(&e->wake, &e->lock);
    first = e->inbox_first;
    e->inbox_first = e->inbox_last = NULL;
    atomic_store_explicit(&e->has_arrivals, false, memory_order_relaxed);
    stop = e->stop;
    pthread_mutex_unlock(&e->lock);
    while (first) {
        job *next = first->next;

        admit(e, first);
        first = next;
    }
    if (stop)
        for (size_t i = 0; i < e->live_count; i++)
            llm_cancel(e->live[i]->job->req);
    return !stop;
}

/* Tells engines aside whether somebody waits for this one's work. */
static void tell_busy(engine *e)
{
    bool busy = false;

    for (size_t i = 0; i < e->live_count && !busy; i++)
        busy = !seq_is_background(e->live[i]);
    if (e->owner || busy == atomic_load_explicit(&e->is_busy, memory_order_relaxed))
        return;
    atomic_store(&e->is_busy, busy);
    if (busy)
        aside_others_begin(e->dec != NULL);
    else
        aside_others_end(e->dec != NULL);
}

/* Of an engine that could not start: nothing is computed. */
static void fail_live(engine *e, const sl_err *why)
{
    for (size_t i = e->live_count; i-- > 0;) {
        emit_error(e->live[i]->job, why->status, why->text);
        seq_end(e, i);
    }
}

void *engine_main(void *arg)
{
    engine *e = arg;
    sl_err err = { 0 };
    sl_status status = e->owner ? aside_start(e, &err) : SL_OK;
    bool go = true;

    err.status = status;
    while (go) {
        go = take_inbox(e);
        drop_cancelled(e);
        drop_overdue(e);
        tell_busy(e);
        if (status != SL_OK)
            fail_live(e, &err);
        else if (e->live_count > 0)
            e->enc ? embed_round(e) : generate_round(e);
        if (e->live_count == 0) {
            tell_busy(e);
            atomic_store(&e->running, 0);
            atomic_store(&e->waiting, 0);
            atomic_store(&e->kv_used, 0);
        }
    }
    SL_ASSERT(e->live_count == 0);
    return NULL;
}

/* ---- the backend ----------------------------------------------------------------------------- */

static sl_status backend_submit(void *ctx, llm_request *req, llm_sink sink, sl_err *err)
{
    engine *e = ctx, *to = e;
    job *j;
    sl_status status;

    SL_ASSERT(!e->o.text_only);
    if (e->enc && req->priority >= LLM_PRIORITY_BATCH)
        SL_TRY(aside_of(e, &to, err));
    status = knock(to, req, err);
    if (status != SL_OK)
        return sl_err_prefix(err, status, "Model '%s' is overloaded", e->name);
    status = job_create(e, req, sink, &j, err);
    if (status == SL_OK) {
        status = llm_admit(req, &(llm_demand){ j->usage.prompt_tokens, job_output_max(j) }, err);
        if (status != SL_OK)
            job_destroy(e, j);
    }
    if (status != SL_OK) {
        turn_away(to, req);
        return status;
    }
    pthread_mutex_lock(&to->lock);
    if (to->stop) {
        pthread_mutex_unlock(&to->lock);
        job_destroy(e, j);
        turn_away(to, req);
        return sl_fail(err, SL_EBUSY, "The model '%s' is being unloaded", e->name);
    }
    if (to->inbox_last)
        to->inbox_last->next = j;
    else
        to->inbox_first = j;
    to->inbox_last = j;
    if (!is_background(req))
        atomic_store_explicit(&to->has_arrivals, true, memory_order_relaxed);
    pthread_cond_signal(&to->wake);
    pthread_mutex_unlock(&to->lock);
    return SL_OK;
}

static void fill_info(const model_file *m, const model_params *p, const engine_options *o,
                      llm_model_info *ret)
{
    bool ranks = p->pool == MODEL_POOL_RANK, embeds = p->pool != MODEL_POOL_NONE && !ranks;

    *ret = (llm_model_info){ .can_generate = p->pool == MODEL_POOL_NONE,
                             .can_embed = embeds,
                             .can_rerank = ranks,
                             .can_judge = p->pool == MODEL_POOL_NONE,
                             .context_tokens = o->context_max,
                             .embedding_dim = embeds ? p->dim : 0,
                             .param_count = model_file_param_count(m),
                             .file_bytes = model_file_bytes(m),
                             .seqs_max = o->seqs_max };
    snprintf(ret->name, sizeof ret->name, "%s", o->name);
    snprintf(ret->arch, sizeof ret->arch, "%s", p->arch_name);
    snprintf(ret->quant, sizeof ret->quant, "%s", model_file_quant(m));
}

static void backend_info(void *ctx, llm_model_info *ret)
{
    const engine *e = ctx;

    fill_info(e->file, &e->w->params, &e->o, ret);
    ret->created_s = e->created_s;
}

static sl_status backend_tokenize(void *ctx, const char *text, size_t len, unsigned flags,
                                  int32_t *ids, size_t cap, size_t *ret_count, sl_err *err)
{
    const engine *e = ctx;
    token_ids out = { 0 };
    unsigned how = (flags & LLM_ADD_SPECIAL ? TOKEN_ADD_SPECIAL : 0) |
                   (flags & LLM_PARSE_SPECIAL ? TOKEN_PARSE_SPECIAL : 0);
    sl_status status = token_encode(e->vocab, text, len, how, &out, err);

    if (status == SL_OK) {
        if (cap > 0)
            memcpy(ids, out.ids, SL_MIN(cap, out.count) * sizeof *ids);
        *ret_count = out.count;
    }
    token_ids_deinit(&out);
    return status;
}

static sl_status backend_render(void *ctx, const llm_request *req, sl_buf *out, sl_err *err)
{
    return engine_render(ctx, req, out, err);
}

static sl_status backend_detokenize(void *ctx, const int32_t *ids, size_t count, sl_buf *out,
                                    sl_err *err)
{
    const engine *e = ctx;

    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= token_count(e->vocab))
            return sl_fail(err, SL_EINVAL, "token id %d is outside the vocabulary of %zu", ids[i],
                           token_count(e->vocab));
        sl_span bytes = token_bytes(e->vocab, ids[i], true);

        sl_buf_put(out, bytes.ptr, bytes.len);
    }
    return sl_buf_ok(out, "text of tokens", err);
}

static sl_status backend_tokenize_request(void *ctx, const llm_request *req, size_t prompt,
                                          int32_t *ids, size_t cap, size_t *ret_count, sl_err *err)
{
    token_ids out = { 0 };
    sl_status status = job_prompt_ids(ctx, req, prompt, &out, err);

    if (status == SL_OK) {
        if (cap > 0)
            memcpy(ids, out.ids, SL_MIN(cap, out.count) * sizeof *ids);
        *ret_count = out.count;
    }
    token_ids_deinit(&out);
    return status;
}

static sl_status backend_chat_template(void *ctx, sl_buf *out, sl_err *err)
{
    const engine *e = ctx;

    return engine_chat_template(e->file, out, err);
}

llm_backend engine_backend(engine *e)
{
    static const llm_backend_ops ops = {
        .submit = backend_submit,
        .info = backend_info,
        .tokenize = backend_tokenize,
        .render = backend_render,
        .detokenize = backend_detokenize,
        .tokenize_request = backend_tokenize_request,
        .chat_template = backend_chat_template,
    };

    return (llm_backend){ &ops, e };
}

/* ---- life ------------------------------------------------------------------------------------ */

/* Fills what the caller left open. name: where the name may stay. */
static void set_defaults(engine_options *o, const model_params *p, kernels_kv kv_type,
                         const char *path, char name[128], int *ret_local_max)
{
    const char *slash = strrchr(path, '/');
    size_t context;
    kv_shape shape;

    snprintf(name, 128, "%s", o->name ? o->name : slash ? slash + 1 : path);
    o->name = name;
    o->threads = o->threads > 0 ? o->threads : sl_cpu_count();
    o->seqs_max = o->seqs_max > 0 ? o->seqs_max : SEQS_MAX_DEFAULT;
    o->queue_max = o->queue_max > 0 ? o->queue_max : QUEUE_MAX_DEFAULT;
    o->deadline_ms = o->deadline_ms > 0 ? o->deadline_ms : SL_MAX(DEADLINE_MS_DEFAULT, o->wait_ms);
    o->step_tokens = SL_MAX(o->step_tokens > 0 ? o->step_tokens : STEP_TOKENS_DEFAULT, o->seqs_max);
    if (model_arch_encodes(p->arch)) {
        o->context_max = p->context;
        o->kv_bytes = 0;
        return;
    }
    shape = decoder_kv_shape(p, kv_type);
    *ret_local_max = kv_local_max(shape, o->seqs_max, o->step_tokens);
    context = (size_t)SL_MIN(p->context, o->context_max > 0 ? o->context_max : CONTEXT_DEFAULT);
    if (o->kv_bytes == 0) {
        size_t blocks = (context + SL_KV_BLOCK_TOKENS - 1) / SL_KV_BLOCK_TOKENS;

        o->kv_bytes = SL_MAX(SL_MIN(kv_bytes(shape, blocks * 4, *ret_local_max), KV_BYTES_DEFAULT),
                             kv_bytes(shape, blocks, *ret_local_max));
    }
    context =
        SL_MIN(context, kv_blocks_in(shape, o->kv_bytes, *ret_local_max) * SL_KV_BLOCK_TOKENS);
    o->context_max = (int)context;
}

/* The KV type a model will have, as far as its file's head tells. */
static kernels_kv guess_kv_type(const char *name)
{
    return name && strcmp(name, "q8_0") == 0 ? KERNELS_KV_Q8_0 : KERNELS_KV_F16;
}

sl_status engine_describe(const char *path, const engine_options *o, llm_model_info *ret,
                          uint64_t *ret_bytes, sl_err *err)
{
    engine_options filled = *o;
    model_file *m = NULL;
    model_params p;
    char name[128];
    int local_max = 0;
    sl_status status;

    SL_TRY(model_file_open(path, &m, err));
    status = model_file_params(m, &p, err);
    if (status == SL_OK) {
        set_defaults(&filled, &p, guess_kv_type(o->kv_type), path, name, &local_max);
        fill_info(m, &p, &filled, ret);
        *ret_bytes = model_file_bytes(m) + filled.kv_bytes;
    }
    model_file_close(m);
    return status == SL_OK ? SL_OK : sl_err_prefix(err, status, "%s", path);
}

uint64_t engine_bytes(const engine *e)
{
    return e->w->bytes + e->o.kv_bytes;
}

static sl_status start_decoder(engine *e, sl_err *err)
{
    const decoder_options o = { e->o.step_tokens, e->o.seqs_max, e->o.context_max };

    SL_TRY(decoder_create(e->w, e->team, &e->k, &o, &e->dec, err));
    SL_TRY(kv_pool_create(decoder_kv_shape(&e->w->params, e->kv_type), e->o.kv_bytes, e->local_max,
                          &e->pool, err));
    SL_TRY(sampler_init(&e->sampler, &e->k, e->w->params.vocab, err));
    e->raw_logits = sl_calloc((size_t)e->w->params.vocab, sizeof *e->raw_logits);
    if (!e->raw_logits)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    e->served = sl_calloc(SL_TENANTS_MAX, sizeof *e->served);
    if (!e->served)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    e->limits = (sched_limits){ .step_tokens = e->o.step_tokens,
                                .draft_tokens = DRAFT_STEP_TOKENS,
                                .seqs_max = e->o.seqs_max,
                                .rows_max = e->o.seqs_max,
                                .block_tokens = SL_KV_BLOCK_TOKENS };
    return SL_OK;
}

static void set_load(engine *e)
{
    e->load.slots = e->o.seqs_max;
    e->load.queue_max = e->o.queue_max;
    e->load.wait_ns = (int64_t)e->o.wait_ms * 1000000;
    /* Batches of texts come many at once and are short: only their number is bounded. */
    if (model_arch_encodes(e->w->params.arch) && e->load.wait_ns == 0)
        e->load.wait_ns = INT64_MAX;
}

/* Of a model that is only asked about text: what bounds its prompts. */
static sl_status open_text(engine *e, const char *path, const engine_options *o, sl_err *err)
{
    model_params p;

    SL_TRY(model_file_params(e->file, &p, err));
    SL_TRY(prefixes_init(e, o, path, p.name, err));
    e->o = *o;
    set_defaults(&e->o, &p, guess_kv_type(o->kv_type), path, e->name, &e->local_max);
    return model_arch_encodes(p.arch) ? SL_OK : engine_load_template(e, err);
}

static sl_status open_all(engine *e, const char *path, const engine_options *o, sl_err *err)
{
    SL_TRY(model_file_open(path, &e->file, err));
    SL_TRY(engine_load_vocab(e->file, &e->vocab, err));
    if (o->text_only)
        return open_text(e, path, o, err);
    SL_TRY(team_create(o->threads > 0 ? o->threads : sl_cpu_count(), &e->team, err));
    kernels_init(&e->k, engine_cpu());
    SL_TRY(weights_load(e->file, e->team, &e->w, err));
    SL_TRY(prefixes_init(e, o, path, e->w->params.name, err));
    if (token_count(e->vocab) > (size_t)e->w->params.vocab)
        return sl_fail(err, SL_EFORMAT, "the vocabulary has %zu tokens, the model %d rows for them",
                       token_count(e->vocab), e->w->params.vocab);
    if (!model_arch_encodes(e->w->params.arch))
        SL_TRY(engine_kv_type(o->kv_type, e->w, &e->k, &e->kv_type, err));
    e->o = *o;
    set_defaults(&e->o, &e->w->params, e->kv_type, path, e->name, &e->local_max);
    set_load(e);
    if (model_arch_encodes(e->w->params.arch)) {
        e->limits.step_tokens = e->o.step_tokens;
        return encoder_create(e->w, e->team, &e->k, e->o.step_tokens, &e->enc, err);
    }
    SL_TRY(start_decoder(e, err));
    judge_init(e);
    return engine_load_template(e, err);
}

sl_status engine_open(const char *path, const engine_options *o, engine **ret, sl_err *err)
{
    engine *e = sl_calloc(1, sizeof *e);
    sl_status status;

    if (!e)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->wake, NULL);
    load_init(&e->load);
    e->created_s = time(NULL);
    status = open_all(e, path, o, err);
    if (status == SL_OK && o->text_only) {
        *ret = e;
        return SL_OK;
    }
    if (status == SL_OK && pthread_create(&e->thread, NULL, engine_main, e) != 0)
        status = sl_fail(err, SL_EIO, "cannot start the engine thread");
    if (status != SL_OK) {
        engine_close(e);
        return sl_err_prefix(err, status, "cannot load %s", path);
    }
    e->thread_started = true;
    *ret = e;
    return SL_OK;
}

void engine_stop(engine *e)
{
    if (!e->thread_started)
        return;
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
    if (atomic_load(&e->aside))
        engine_stop(atomic_load(&e->aside));
    atomic_store(&e->stopping, true);
    aside_wake();
    pthread_join(e->thread, NULL);
    e->thread_started = false;
}

void engine_close(engine *e)
{
    if (!e)
        return;
    engine_stop(e);
    aside_close(atomic_load(&e->aside));
    decoder_destroy(e->dec);
    encoder_destroy(e->enc);
    kv_pool_destroy(e->pool);
    sampler_deinit(&e->sampler);
    weights_destroy(e->w);
    team_destroy(e->team);
    token_template_destroy(e->chat);
    template_cache_destroy(e->templates);
    token_vocab_destroy(e->vocab);
    model_file_close(e->file);
    pthread_cond_destroy(&e->wake);
    load_deinit(&e->load);
    pthread_mutex_destroy(&e->lock);
    sl_free(e->raw_logits);
    for (int i = 0; i < LLM_EMBED_AS_COUNT; i++)
        sl_free(e->prefix[i]);
    sl_free(e->bos);
    sl_free(e->eos);
    sl_free(e->live);
    sl_free(e->views);
    sl_free(e->runs);
    sl_free(e->texts);
    sl_free(e->order);
    sl_free(e->waits);
    sl_free(e->tenants);
    sl_free(e->served);
    sl_free(e);
}

const token_vocab *engine_vocab(const engine *e)
{
    return e->vocab;
}

const model_params *engine_params(const engine *e)
{
    return &e->w->params;
}

/* Encoders have none of the others. */
static void add_aside(const engine *aside, engine_stats *to)
{
    if (!aside)
        return;
    to->running += atomic_load_explicit(&aside->running, memory_order_relaxed);
    to->waiting += atomic_load_explicit(&aside->waiting, memory_order_relaxed);
    to->steps += atomic_load_explicit(&aside->steps, memory_order_relaxed);
    to->prompt_tokens += atomic_load_explicit(&aside->prompt_tokens, memory_order_relaxed);
}

void engine_read_stats(const engine *e, engine_stats *ret)
{
    *ret = (engine_stats){
        .running = atomic_load_explicit(&e->running, memory_order_relaxed),
        .waiting = atomic_load_explicit(&e->waiting, memory_order_relaxed),
        .kv_blocks_used = atomic_load_explicit(&e->kv_used, memory_order_relaxed),
        .kv_blocks = e->pool ? e->pool->full.count : 0,
        .preemptions = atomic_load_explicit(&e->preemptions, memory_order_relaxed),
        .steps = atomic_load_explicit(&e->steps, memory_order_relaxed),
        .prompt_tokens = atomic_load_explicit(&e->prompt_tokens, memory_order_relaxed),
        .output_tokens = atomic_load_explicit(&e->output_tokens, memory_order_relaxed),
        .prefix_hits = atomic_load_explicit(&e->prefix_hits, memory_order_relaxed),
        .prefix_queries = atomic_load_explicit(&e->prefix_queries, memory_order_relaxed),
        .draft_tokens = atomic_load_explicit(&e->draft_tokens, memory_order_relaxed),
        .draft_accepted = atomic_load_explicit(&e->draft_accepted, memory_order_relaxed),
    };
    add_aside(atomic_load(&e->aside), ret);
}
