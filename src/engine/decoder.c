/* decoder.c - the forward pass of decoder-only transformers.
 *
 * decoder_step() lists what is to be done and lets the team run step_member(): every member walks
 * the same phases, takes its share of each, and meets the others at a barrier. Reading step_member
 * and layer() beside a paper's figure should be enough to follow the model.
 *
 * Shapes: T tokens in the step, D = dim, H heads of width W (padded to P, a multiple of 16). */
#include "engine/decoder.h"

#include <math.h>
#include <stdatomic.h>

#include "base/mem.h"
#include "engine/matmul.h"

#define TILE_QUERIES 32 /* queries that share one walk over the KV blocks */

/* Tokens [begin, end) of one run, one KV head: the unit of attention work. */
typedef struct attn_task {
    int run, kv_head, begin, end;
} attn_task;

/* What one member needs while it computes. */
typedef struct member_scratch {
    float *q, *out;          /* [TILE_QUERIES, P] */
    float *scores;           /* [TILE_QUERIES * 18] */
    float *up;               /* [MATMUL_TOKENS, 16] */
    uint16_t *half;          /* [P] */
    const uint16_t **blocks; /* [context / 16 + 1] */
} member_scratch;

struct decoder {
    const weights *w;
    team *t;
    const kernels *k;
    decoder_options o;
    int head_pad; /* P */
    int group;    /* query heads per KV head */
    size_t q_stride, kv_stride;

    activations x_norm, att, ff; /* [T, D], [T, H * W], [T, ff]: inputs of matrix products */
    float *x;                    /* [T, D] residual stream */
    float *tmp;                  /* [T, D] what a sublayer adds to it */
    float *q, *kk, *v;           /* [T, H * W], [T, kv heads * W] */
    float *logits;               /* [logit rows, vocab padded] */
    size_t x_stride, logit_stride;
    float *rope[2];          /* [T, rope_dim / 2, 2] cosine and sine: global, local layers */
    float *freq[2];          /* [rope_dim / 2] */
    member_scratch *scratch; /* [members] */

    /* the step */
    kv_pool *pool;
    const decoder_run *runs;
    int tokens, rows;
    int32_t *ids, *pos, *run_of, *row_of; /* [T]; row_of: [logit rows] token of each row */
    attn_task *tasks;                     /* [T * kv heads] */
    int task_count;
    atomic_int *next_task; /* [layers] */
};

kv_shape decoder_kv_shape(const model_params *p)
{
    return (kv_shape){ p->layers, p->kv_heads, (int)pad_to((size_t)p->head_dim, 16) };
}

/* ---- RoPE (Su et al. 2021) ------------------------------------------------------------------- */

/* Llama 3.1's stretching of low frequencies, as Hugging Face configs describe it. */
static double llama3_freq(const model_params *p, double freq)
{
    double wavelen = 2 * M_PI / freq, context = p->rope_l3_context;
    double low = context / (double)p->rope_l3_low, high = context / (double)p->rope_l3_high, smooth;

    if (p->rope_l3_factor == 0 || wavelen < high)
        return freq;
    if (wavelen > low)
        return freq / (double)p->rope_l3_factor;
    smooth = (context / wavelen - (double)p->rope_l3_low) /
             ((double)p->rope_l3_high - (double)p->rope_l3_low);
    return (1 - smooth) * freq / (double)p->rope_l3_factor + smooth * freq;
}

static void init_freqs(decoder *d)
{
    const model_params *p = &d->w->params;

    for (int i = 0; i < p->rope_dim / 2; i++) {
        double e = -2.0 * i / p->rope_dim;
        double global = llama3_freq(p, pow((double)p->rope_base, e)) / (double)p->rope_scale;

        if (d->w->rope_freqs)
            global /= (double)d->w->rope_freqs[i];
        d->freq[0][i] = (float)global;
        d->freq[1][i] = (float)pow((double)p->rope_base_local, e);
    }
}

static void rope_rotate(const model_params *p, float *head, const float *cs)
{
    int half = p->rope_dim / 2;

    for (int i = 0; i < half; i++) {
        int a = p->rope == MODEL_ROPE_NORM ? 2 * i : i;
        int b = p->rope == MODEL_ROPE_NORM ? 2 * i + 1 : i + half;
        float x = head[a], y = head[b], c = cs[2 * i], s = cs[2 * i + 1];

        head[a] = x * c - y * s;
        head[b] = x * s + y * c;
    }
}

/* ---- phases: each member does its share ------------------------------------------------------ */

static void embed_share(decoder *d, int member, int count)
{
    const model_params *p = &d->w->params;
    size_t row_bytes = d->w->embed->data.len / (size_t)p->vocab;
    int begin, end, half = p->rope_dim / 2;

    team_share(d->tokens, member, count, &begin, &end);
    for (int t = begin; t < end; t++) {
        float *x = d->x + (size_t)t * d->x_stride;

        kernels_dequant(d->w->embed->type, d->w->embed->data.ptr + (size_t)d->ids[t] * row_bytes,
                        (size_t)p->dim, x);
        if (p->embed_scale != 1.0f)
            for (int i = 0; i < p->dim; i++)
                x[i] *= p->embed_scale;
        for (int kind = 0; kind < (p->window ? 2 : 1); kind++)
            for (int i = 0; i < half; i++) {
                double angle = (double)d->pos[t] * (double)d->freq[kind][i];
                float *cs = d->rope[kind] + ((size_t)t * (size_t)half + (size_t)i) * 2;

                cs[0] = (float)cos(angle);
                cs[1] = (float)sin(angle);
            }
    }
}

/* x += [norm of] what the last sublayer left in tmp; then x_norm = norm of x for the next one. */
static void residual_share(decoder *d, bool add, const float *post_norm, const float *norm, bool q8,
                           int member, int count)
{
    const model_params *p = &d->w->params;
    int begin, end;

    team_share(d->tokens, member, count, &begin, &end);
    for (int t = begin; t < end; t++) {
        float *x = d->x + (size_t)t * d->x_stride, *tmp = d->tmp + (size_t)t * d->x_stride;

        if (add) {
            if (post_norm)
                d->k->rmsnorm(tmp, tmp, post_norm, (size_t)p->dim, p->norm_eps);
            for (int i = 0; i < p->dim; i++)
                x[i] += tmp[i];
        }
        if (!norm)
            continue;
        d->k->rmsnorm(d->x_norm.f + (size_t)t * d->x_norm.stride, x, norm, (size_t)p->dim,
                      p->norm_eps);
        if (q8)
            activations_quantize(d->k, &d->x_norm, t, p->dim);
    }
}

/* Writes one head's key and value of token t into the cache. */
static void kv_store(decoder *d, int layer, int t, int kv_head, member_scratch *s)
{
    size_t w = (size_t)d->w->params.head_dim;
    const decoder_run *run = &d->runs[d->run_of[t]];
    int32_t block = run->seq->blocks[d->pos[t] / SL_KV_BLOCK_TOKENS];
    size_t slot = (size_t)(d->pos[t] % SL_KV_BLOCK_TOKENS);
    uint16_t *keys = kv_head_ptr(d->pool, layer, block, kv_head);
    uint16_t *values = keys + (size_t)d->head_pad * SL_KV_BLOCK_TOKENS;

    d->k->f32_to_f16(d->kk + (size_t)t * d->kv_stride + (size_t)kv_head * w, w, s->half);
    for (size_t i = 0; i < w; i++)
        keys[i * SL_KV_BLOCK_TOKENS + slot] = s->half[i];
    d->k->f32_to_f16(d->v + (size_t)t * d->kv_stride + (size_t)kv_head * w, w,
                     values + slot * (size_t)d->head_pad);
}

/* Per-head norms, RoPE and the scale of the scores; then keys and values go into the cache. */
static void rope_share(decoder *d, int layer, int member, int count)
{
    const model_params *p = &d->w->params;
    const weights_layer *l = &d->w->layers[layer];
    int heads = p->heads + p->kv_heads, begin, end, half = p->rope_dim / 2;
    size_t w = (size_t)p->head_dim;

    team_share(d->tokens * heads, member, count, &begin, &end);
    for (int item = begin; item < end; item++) {
        int t = item / heads, h = item % heads;
        bool is_q = h < p->heads;
        float *head = is_q ? d->q + (size_t)t * d->q_stride + (size_t)h * w
                           : d->kk + (size_t)t * d->kv_stride + (size_t)(h - p->heads) * w;
        const float *norm = is_q ? l->q_norm : l->k_norm;

        if (norm)
            d->k->rmsnorm(head, head, norm, w, p->norm_eps);
        rope_rotate(p, head,
                    d->rope[model_layer_is_local(p, layer)] + (size_t)t * (size_t)half * 2);
        if (is_q)
            for (size_t i = 0; i < w; i++)
                head[i] *= p->attn_scale;
        else
            kv_store(d, layer, t, h - p->heads, &d->scratch[member]);
    }
}

/* Attention of one task: its tokens' queries of every head that shares the KV head. */
static void attn_run(decoder *d, int layer, const attn_task *task, member_scratch *s)
{
    const model_params *p = &d->w->params;
    const decoder_run *run = &d->runs[task->run];
    size_t w = (size_t)p->head_dim, padded = (size_t)d->head_pad;
    int32_t pos[TILE_QUERIES], first[TILE_QUERIES];
    int n = 0, block_first, block_last;
    bool local = model_layer_is_local(p, layer);

    for (int t = task->begin; t < task->end; t++)
        for (int g = 0; g < d->group; g++, n++) {
            float *q = s->q + (size_t)n * padded;

            memcpy(q, d->q + (size_t)t * d->q_stride + (size_t)(task->kv_head * d->group + g) * w,
                   w * sizeof *q);
            memset(q + w, 0, (padded - w) * sizeof *q);
            pos[n] = d->pos[t];
            first[n] = local ? SL_MAX(0, d->pos[t] - p->window + 1) : 0;
        }
    block_first = first[0] / SL_KV_BLOCK_TOKENS;
    block_last = pos[n - 1] / SL_KV_BLOCK_TOKENS;
    for (int b = block_first; b <= block_last; b++)
        s->blocks[b - block_first] =
            kv_head_ptr(d->pool, layer, run->seq->blocks[b], task->kv_head);
    d->k->attn(&(kernels_attn){ .q = s->q,
                                .out = s->out,
                                .pos = pos,
                                .first = first,
                                .query_count = (size_t)n,
                                .head_dim = padded,
                                .blocks = s->blocks,
                                .block_first = block_first,
                                .block_count = block_last - block_first + 1,
                                .softcap = p->attn_softcap,
                                .scratch = s->scores });
    n = 0;
    for (int t = task->begin; t < task->end; t++)
        for (int g = 0; g < d->group; g++, n++)
            memcpy(d->att.f + (size_t)t * d->att.stride +
                       (size_t)(task->kv_head * d->group + g) * w,
                   s->out + (size_t)n * padded, w * sizeof(float));
}

/* Tasks differ in length, so members take the next one when they are free: the counter is the only
 * thing they share, and no value depends on who computes. */
static void attn_share(decoder *d, int layer, int member)
{
    for (;;) {
        int i = atomic_fetch_add_explicit(&d->next_task[layer], 1, memory_order_relaxed);

        if (i >= d->task_count)
            return;
        attn_run(d, layer, &d->tasks[i], &d->scratch[member]);
    }
}

static void quantize_share(decoder *d, const activations *x, int cols, int member, int count)
{
    int begin, end;

    team_share(d->tokens, member, count, &begin, &end);
    for (int t = begin; t < end; t++)
        activations_quantize(d->k, x, t, cols);
}

/* ff = act(gate x) * (up x), panel by panel. */
static void gate_up_share(decoder *d, const weights_layer *l, int member, int count)
{
    void (*act)(float *, const float *, size_t) =
        d->w->params.act == MODEL_SILU ? d->k->silu_mul : d->k->gelu_tanh_mul;
    float *up = d->scratch[member].up;
    int begin, end;

    team_share(l->gate.panels, member, count, &begin, &end);
    for (int t = 0; t < d->tokens; t += MATMUL_TOKENS) {
        int t_end = SL_MIN(t + MATMUL_TOKENS, d->tokens);

        for (int p = begin; p < end; p++) {
            float *out = d->ff.f + (size_t)t * d->ff.stride + (size_t)p * KERNELS_ROWS;

            matmul_panel(d->k, &l->gate, p, &d->x_norm, t, t_end, out, d->ff.stride);
            matmul_panel(d->k, &l->up, p, &d->x_norm, t, t_end, up, KERNELS_ROWS);
            for (int i = 0; i < t_end - t; i++)
                act(out + (size_t)i * d->ff.stride, up + i * KERNELS_ROWS, KERNELS_ROWS);
        }
    }
}

/* One transformer block. On entry x_norm holds the normed input of attention; on return tmp holds
 * what the FFN adds. */
static void layer(decoder *d, int i, int me, int n)
{
    const model_params *p = &d->w->params;
    const weights_layer *l = &d->w->layers[i];
    const matmul_job qkv[] = { { &l->q, d->q, d->q_stride },
                               { &l->k, d->kk, d->kv_stride },
                               { &l->v, d->v, d->kv_stride } };
    const matmul_job o = { &l->o, d->tmp, d->x_stride }, down = { &l->down, d->tmp, d->x_stride };

    matmul_share(d->k, qkv, 3, &d->x_norm, d->tokens, me, n);
    team_barrier(d->t);
    rope_share(d, i, me, n);
    team_barrier(d->t);
    attn_share(d, i, me);
    team_barrier(d->t);
    if (weight_wants_q8(&l->o)) {
        quantize_share(d, &d->att, p->heads * p->head_dim, me, n);
        team_barrier(d->t);
    }
    matmul_share(d->k, &o, 1, &d->att, d->tokens, me, n);
    team_barrier(d->t);
    residual_share(d, true, l->post_attn_norm, l->ffn_norm,
                   weight_wants_q8(&l->gate) || weight_wants_q8(&l->up), me, n);
    team_barrier(d->t);
    gate_up_share(d, l, me, n);
    team_barrier(d->t);
    if (weight_wants_q8(&l->down)) {
        quantize_share(d, &d->ff, p->ff_dim, me, n);
        team_barrier(d->t);
    }
    matmul_share(d->k, &down, 1, &d->ff, d->tokens, me, n);
    team_barrier(d->t);
}

/* Norm of the rows that want logits, gathered to the front of x_norm. */
static void out_norm_share(decoder *d, int member, int count)
{
    const model_params *p = &d->w->params;
    int begin, end;

    team_share(d->rows, member, count, &begin, &end);
    for (int r = begin; r < end; r++) {
        d->k->rmsnorm(d->x_norm.f + (size_t)r * d->x_norm.stride,
                      d->x + (size_t)d->row_of[r] * d->x_stride, d->w->out_norm, (size_t)p->dim,
                      p->norm_eps);
        if (weight_wants_q8(&d->w->head))
            activations_quantize(d->k, &d->x_norm, r, p->dim);
    }
}

static void softcap_share(decoder *d, int member, int count)
{
    float cap = d->w->params.logit_softcap;
    int begin, end;

    team_share(d->w->params.vocab, member, count, &begin, &end);
    for (int r = 0; r < d->rows; r++)
        for (int i = begin; i < end; i++) {
            float *x = d->logits + (size_t)r * d->logit_stride + i;

            *x = cap * tanhf(*x / cap);
        }
}

static void step_member(void *ctx, int me, int n)
{
    decoder *d = ctx;
    const weights *w = d->w;
    int layers = w->params.layers;
    const matmul_job head = { &w->head, d->logits, d->logit_stride };

    embed_share(d, me, n);
    for (int i = 0; i < layers; i++) {
        const weights_layer *l = &w->layers[i];
        bool q8 = weight_wants_q8(&l->q) || weight_wants_q8(&l->k) || weight_wants_q8(&l->v);

        residual_share(d, i > 0, i > 0 ? w->layers[i - 1].post_ffn_norm : NULL, l->attn_norm, q8,
                       me, n);
        team_barrier(d->t);
        layer(d, i, me, n);
    }
    if (d->rows == 0)
        return; /* the last residual matters to nobody */
    residual_share(d, true, w->layers[layers - 1].post_ffn_norm, NULL, false, me, n);
    team_barrier(d->t);
    out_norm_share(d, me, n);
    team_barrier(d->t);
    matmul_share(d->k, &head, 1, &d->x_norm, d->rows, me, n);
    if (w->params.logit_softcap > 0) {
        team_barrier(d->t);
        softcap_share(d, me, n);
    }
}

/* ---- the step -------------------------------------------------------------------------------- */

/* Cuts each run into tiles of tokens whose queries fill TILE_QUERIES. */
static void list_tasks(decoder *d, int run, int first_token, int count)
{
    int per_tile = SL_MAX(1, TILE_QUERIES / d->group);

    for (int h = 0; h < d->w->params.kv_heads; h++)
        for (int t = 0; t < count; t += per_tile)
            d->tasks[d->task_count++] =
                (attn_task){ run, h, first_token + t, first_token + SL_MIN(t + per_tile, count) };
}

void decoder_step(decoder *d, kv_pool *pool, decoder_run *runs, int run_count)
{
    d->pool = pool;
    d->runs = runs;
    d->tokens = d->rows = d->task_count = 0;
    for (int r = 0; r < run_count; r++) {
        const decoder_run *run = &runs[r];
        int first = d->tokens;

        SL_ASSERT(first + run->count <= d->o.tokens_max);
        SL_ASSERT(kv_seq_missing(run->seq, run->seq->len + run->count) == 0);
        for (int i = 0; i < run->count; i++) {
            int t = d->tokens++;

            SL_ASSERT(run->tokens[i] >= 0 && run->tokens[i] < d->w->params.vocab);
            d->ids[t] = run->tokens[i];
            d->pos[t] = run->seq->len + i;
            d->run_of[t] = r;
            if (i >= run->logits_from) {
                SL_ASSERT(d->rows < d->o.logit_rows_max);
                d->row_of[d->rows++] = t;
            }
        }
        list_tasks(d, r, first, run->count);
    }
    if (d->tokens == 0)
        return;
    for (int i = 0; i < d->w->params.layers; i++)
        atomic_store_explicit(&d->next_task[i], 0, memory_order_relaxed);
    team_run(d->t, step_member, d);
    for (int r = 0; r < run_count; r++)
        runs[r].seq->len += runs[r].count;
}

float *decoder_logits(decoder *d, int i)
{
    SL_ASSERT(i >= 0 && i < d->rows);
    return d->logits + (size_t)i * d->logit_stride;
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool alloc_scratch(decoder *d, member_scratch *s)
{
    size_t p = (size_t)d->head_pad;

    s->half = sl_calloc(p, sizeof *s->half);
    s->blocks = sl_calloc((size_t)d->o.context_max / SL_KV_BLOCK_TOKENS + 2, sizeof *s->blocks);
    return s->half && s->blocks && floats_alloc(&s->q, TILE_QUERIES, p) &&
           floats_alloc(&s->out, TILE_QUERIES, p) && floats_alloc(&s->scores, TILE_QUERIES, 18) &&
           floats_alloc(&s->up, MATMUL_TOKENS, KERNELS_ROWS);
}

static bool alloc_all(decoder *d)
{
    const model_params *p = &d->w->params;
    size_t tokens = (size_t)d->o.tokens_max, half = (size_t)p->rope_dim / 2 + 1;
    int members = team_count(d->t);

    d->x_stride = pad_to((size_t)p->dim, KERNELS_ROWS);
    d->q_stride = pad_to((size_t)(p->heads * p->head_dim), KERNELS_ROWS);
    d->kv_stride = pad_to((size_t)(p->kv_heads * p->head_dim), KERNELS_ROWS);
    d->logit_stride = pad_to((size_t)p->vocab, KERNELS_ROWS);
    d->ids = sl_calloc(tokens, sizeof *d->ids);
    d->pos = sl_calloc(tokens, sizeof *d->pos);
    d->run_of = sl_calloc(tokens, sizeof *d->run_of);
    d->row_of = sl_calloc((size_t)d->o.logit_rows_max, sizeof *d->row_of);
    d->tasks = sl_calloc(tokens * (size_t)p->kv_heads, sizeof *d->tasks);
    d->next_task = sl_calloc((size_t)p->layers, sizeof *d->next_task);
    d->scratch = sl_calloc((size_t)members, sizeof *d->scratch);
    if (!d->ids || !d->pos || !d->run_of || !d->row_of || !d->tasks || !d->next_task || !d->scratch)
        return false;
    for (int i = 0; i < members; i++)
        if (!alloc_scratch(d, &d->scratch[i]))
            return false;
    for (int i = 0; i < 2; i++)
        if (!floats_alloc(&d->rope[i], tokens, half * 2) || !floats_alloc(&d->freq[i], 1, half))
            return false;
    return activations_alloc(&d->x_norm, tokens, (size_t)p->dim) &&
           activations_alloc(&d->att, tokens, (size_t)(p->heads * p->head_dim)) &&
           activations_alloc(&d->ff, tokens, (size_t)p->ff_dim) &&
           floats_alloc(&d->x, tokens, d->x_stride) && floats_alloc(&d->tmp, tokens, d->x_stride) &&
           floats_alloc(&d->q, tokens, d->q_stride) && floats_alloc(&d->kk, tokens, d->kv_stride) &&
           floats_alloc(&d->v, tokens, d->kv_stride) &&
           floats_alloc(&d->logits, (size_t)d->o.logit_rows_max, d->logit_stride);
}

sl_status decoder_create(const weights *w, team *t, const kernels *k, const decoder_options *o,
                         decoder **ret, sl_err *err)
{
    const model_params *p = &w->params;
    decoder *d;

    if (p->arch == MODEL_BERT)
        return sl_fail(err, SL_EINVAL, "this model makes embeddings; it does not generate text");
    if (p->heads / p->kv_heads > TILE_QUERIES)
        return sl_fail(err, SL_ENOTSUP, "model: more than %d query heads per KV head",
                       TILE_QUERIES);
    d = sl_calloc(1, sizeof *d);
    if (!d)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    d->w = w;
    d->t = t;
    d->k = k;
    d->o = *o;
    d->head_pad = decoder_kv_shape(p).head_dim;
    d->group = p->heads / p->kv_heads;
    if (!alloc_all(d)) {
        decoder_destroy(d);
        return sl_fail(err, SL_ENOMEM, "out of memory for a step of %d tokens", o->tokens_max);
    }
    init_freqs(d);
    *ret = d;
    return SL_OK;
}

void decoder_destroy(decoder *d)
{
    if (!d)
        return;
    for (int i = 0; d->scratch && i < team_count(d->t); i++) {
        member_scratch *s = &d->scratch[i];

        sl_free(s->q);
        sl_free(s->out);
        sl_free(s->scores);
        sl_free(s->up);
        sl_free(s->half);
        sl_free(s->blocks);
    }
    void *owned[] = { d->scratch, d->ids,     d->pos,     d->run_of,  d->row_of,   d->tasks,
                      d->x,       d->tmp,     d->q,       d->kk,      d->v,        d->logits,
                      d->rope[0], d->rope[1], d->freq[0], d->freq[1], d->x_norm.f, d->x_norm.q,
                      d->att.f,   d->att.q,   d->ff.f,    d->ff.q };

    for (size_t i = 0; i < SL_COUNT_OF(owned); i++)
        sl_free(owned[i]);
    sl_free(d->next_task);
    sl_free(d);
}
