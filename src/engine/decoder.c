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
#include "engine/attention.h"
#include "engine/matmul.h"

#define SPLIT_TOKENS   8  /* runs of so few tokens have their segments computed apart */
#define SPLIT_SEGMENTS 32 /* of one run: more are walked by one member */

/* Tokens [begin, end) of one run, one KV head: the unit of attention work. */
typedef struct attn_task {
    int run, kv_head, begin, end;
    bool has_rows; /* some of its tokens want logits */
    int segment;   /* the one to compute into parts, or -1: all of them */
    float *part;   /* [queries, P], then max and sum [queries] */
} attn_task;

/* `count` segments of the same queries, to be merged. */
typedef struct attn_join {
    const attn_task *first;
    int count;
} attn_join;

/* What one member needs while it computes. */
typedef struct member_scratch {
    attn_scratch attn;
    matmul_ctx mm;
    size_t mm_bytes;
    float *gate, *up;   /* [T, 32] */
    float *key, *value; /* [P], zero behind the head */
} member_scratch;

/* The phases of a layer whose work is taken, not dealt. */
enum { WORK_QKV, WORK_ATTN, WORK_O, WORK_GATE_UP, WORK_DOWN, WORK_COUNT };

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
    attn_task *tasks;
    attn_join *joins;
    int task_count, task_cap, join_count;
    float *parts; /* [part_cap] */
    size_t part_used, part_cap;
    const atomic_bool *give_up; /* or NULL; looked at by member 0 */
    bool given_up;              /* as all members saw it behind the layer's first barrier */
    work (*work)[WORK_COUNT];   /* [layers] */
    work head_work;
};

kv_shape decoder_kv_shape(const model_params *p, kernels_kv type)
{
    return (kv_shape){ p->layers,
                       p->kv_heads,
                       (int)pad_to((size_t)p->head_dim, 16),
                       type,
                       p->window_pattern > 0 ? p->window : 0,
                       p->window_pattern };
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
static void residual_share(decoder *d, int tokens, bool add, const float *post_norm,
                           const float *norm, unsigned kinds, int member, int count)
{
    const model_params *p = &d->w->params;
    int begin, end;

    team_share(tokens, member, count, &begin, &end);
    for (int t = begin; t < end; t++) {
        float *x = d->x + (size_t)t * d->x_stride, *tmp = d->tmp + (size_t)t * d->x_stride;
        float *out = d->x_norm.f + (size_t)t * d->x_norm.stride;

        if (add) {
            if (post_norm)
                d->k->rmsnorm(tmp, tmp, post_norm, (size_t)p->dim, p->norm_eps);
            d->k->add(x, tmp, (size_t)p->dim);
        }
        d->k->rmsnorm(out, x, norm, (size_t)p->dim, p->norm_eps);
        activations_convert(d->k, &d->x_norm, t, out, 0, p->dim, kinds);
    }
}

/* Writes one head's key and value of token t into the cache. */
static void kv_store(decoder *d, int layer, int t, int kv_head, member_scratch *s)
{
    size_t w = (size_t)d->w->params.head_dim;
    const decoder_run *run = &d->runs[d->run_of[t]];
    void *block = kv_head_ptr(d->pool, run->seq, layer, d->pos[t] / SL_KV_BLOCK_TOKENS, kv_head);
    size_t at = (size_t)t * d->kv_stride + (size_t)kv_head * w;

    memcpy(s->key, d->kk + at, w * sizeof *s->key);
    memcpy(s->value, d->v + at, w * sizeof *s->value);
    d->k->kv_store[d->pool->shape.type](block, (size_t)d->head_pad,
                                        (size_t)(d->pos[t] % SL_KV_BLOCK_TOKENS), s->key, s->value);
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

/* ---- attention ------------------------------------------------------------------------------- */

typedef struct head_blocks {
    const kv_pool *pool;
    const kv_seq *seq;
    int layer, kv_head;
} head_blocks;

static const void *block_of(const void *ctx, int32_t block)
{
    const head_blocks *h = ctx;

    return kv_head_ptr(h->pool, h->seq, h->layer, block, h->kv_head);
}

/* The task's queries: its tokens' heads that share the KV head. Returns how many. */
static int load_queries(const decoder *d, int layer, const attn_task *task, attn_scratch *s)
{
    const model_params *p = &d->w->params;
    size_t w = (size_t)p->head_dim, padded = (size_t)d->head_pad;
    bool local = model_layer_is_local(p, layer);
    int n = 0;

    for (int t = task->begin; t < task->end; t++)
        for (int g = 0; g < d->group; g++, n++) {
            float *q = s->q + (size_t)n * padded;

            memcpy(q, d->q + (size_t)t * d->q_stride + (size_t)(task->kv_head * d->group + g) * w,
                   w * sizeof *q);
            memset(q + w, 0, (padded - w) * sizeof *q);
            s->pos[n] = d->pos[t];
            s->first[n] = local ? SL_MAX(0, d->pos[t] - p->window + 1) : 0;
        }
    return n;
}

/* Results of the task's queries, [queries, P], to their places. */
static void store_outputs(decoder *d, const attn_task *task, const float *out)
{
    size_t w = (size_t)d->w->params.head_dim;

    for (int t = task->begin; t < task->end; t++)
        for (int g = 0; g < d->group; g++, out += d->head_pad)
            memcpy(d->att.f + (size_t)t * d->att.stride +
                       (size_t)(task->kv_head * d->group + g) * w,
                   out, w * sizeof *out);
}

static void attn_run(decoder *d, int layer, const attn_task *task, attn_scratch *s)
{
    const head_blocks blocks = { d->pool, d->runs[task->run].seq, layer, task->kv_head };
    const attn_view view = { .k = d->k,
                             .head_pad = (size_t)d->head_pad,
                             .softcap = d->w->params.attn_softcap,
                             .kv = d->pool->shape.type,
                             .block_of = block_of,
                             .ctx = &blocks };
    int n = load_queries(d, layer, task, s);

    if (task->segment < 0) {
        attn_whole(&view, s, n);
        store_outputs(d, task, s->out);
    } else {
        float *max = task->part + (size_t)n * view.head_pad;

        attn_segment(&view, s, n, task->segment, task->part, max, max + n);
    }
}

/* In the last layer only rows that want logits need attention. */
static void attn_share(decoder *d, int layer, int me, int members)
{
    bool last = layer + 1 == d->w->params.layers;
    int begin, end;

    while (work_take(&d->work[layer][WORK_ATTN], d->task_count, 1, members, &begin, &end))
        for (int i = begin; i < end; i++)
            if (!last || d->tasks[i].has_rows)
                attn_run(d, layer, &d->tasks[i], &d->scratch[me].attn);
}

/* Merges the segments that were computed apart, as attn_whole does. */
static void join_share(decoder *d, int me, int count)
{
    size_t pad = (size_t)d->head_pad;
    int begin, end;

    team_share(d->join_count, me, count, &begin, &end);
    for (int j = begin; j < end; j++) {
        const attn_task *task = d->joins[j].first; /* of few tokens, which all have rows */
        int n = (task->end - task->begin) * d->group;
        float *max = task->part + (size_t)n * pad, *sum = max + n;

        for (int s = 1; s < d->joins[j].count; s++)
            for (int i = 0; i < n; i++) {
                const float *part = task[s].part, *tail = part + (size_t)n * pad;

                d->k->attn_merge(task->part + (size_t)i * pad, &max[i], &sum[i],
                                 part + (size_t)i * pad, tail[i], tail[n + i], pad);
            }
        for (int i = 0; i < n; i++)
            d->k->scale(task->part + (size_t)i * pad, 1.0f / sum[i], pad);
        store_outputs(d, task, task->part);
    }
}

/* ---- the rest of a layer --------------------------------------------------------------------- */

/* After the last layer's attention only the rows that want logits go on: moves them to the front.
 */
static void keep_rows(decoder *d)
{
    size_t att = (size_t)(d->w->params.heads * d->w->params.head_dim) * sizeof(float);

    for (int r = 0; r < d->rows; r++) {
        size_t from = (size_t)d->row_of[r];

        if (from == (size_t)r)
            continue;
        memcpy(d->x + (size_t)r * d->x_stride, d->x + from * d->x_stride,
               d->x_stride * sizeof(float));
        memcpy(d->att.f + (size_t)r * d->att.stride, d->att.f + from * d->att.stride, att);
    }
}

static void att_convert_share(decoder *d, int tokens, unsigned kinds, int member, int count)
{
    int begin, end;

    team_share(tokens, member, count, &begin, &end);
    for (int t = begin; t < end; t++)
        activations_convert(d->k, &d->att, t, d->att.f + (size_t)t * d->att.stride, 0,
                            d->w->params.heads * d->w->params.head_dim, kinds);
}

/* ff = act(gate x) * (up x), panel by panel: a panel's 32 rows are a block of the down product's
 * activations, so that they are made here. */
static void gate_up_share(decoder *d, work *next, const weights_layer *l, int tokens, int me,
                          int members)
{
    void (*act)(float *, const float *, size_t) =
        d->w->params.act == MODEL_SILU ? d->k->silu_mul : d->k->gelu_tanh_mul;
    member_scratch *s = &d->scratch[me];
    int per_block = matmul_token_block(d->k, &l->gate, tokens), panels = l->gate.panels;
    int blocks = (tokens + per_block - 1) / per_block, begin, end;
    unsigned kinds = act_bit(d->k, &l->down);

    while (work_take(next, panels * blocks, matmul_chunk(&l->gate), members, &begin, &end))
        for (int item = begin; item < end; item++) {
            int t = item / panels * per_block, p = item % panels;
            int t_end = SL_MIN(t + per_block, tokens);
            int rows = SL_MIN(KERNELS_ROWS, d->w->params.ff_dim - p * KERNELS_ROWS);

            matmul_panel(&s->mm, &l->gate, p, &d->x_norm, t, t_end, s->gate, KERNELS_ROWS);
            matmul_panel(&s->mm, &l->up, p, &d->x_norm, t, t_end, s->up, KERNELS_ROWS);
            act(s->gate, s->up, (size_t)(t_end - t) * KERNELS_ROWS);
            for (int i = t; i < t_end; i++)
                activations_convert(d->k, &d->ff, i, s->gate + (size_t)(i - t) * KERNELS_ROWS,
                                    p * KERNELS_ROWS, rows, kinds);
        }
}

/* One transformer block. On entry x_norm holds the normed input of attention; on return tmp holds
 * what the FFN adds. The last one leaves only the rows that want logits. */
static void layer(decoder *d, int i, int me, int n)
{
    const weights_layer *l = &d->w->layers[i];
    const matmul_ctx *mm = &d->scratch[me].mm;
    const matmul_job qkv[] = { { &l->q, d->q, d->q_stride },
                               { &l->k, d->kk, d->kv_stride },
                               { &l->v, d->v, d->kv_stride } };
    const matmul_job o = { &l->o, d->tmp, d->x_stride }, down = { &l->down, d->tmp, d->x_stride };
    bool last = i + 1 == d->w->params.layers;
    int tokens = last ? d->rows : d->tokens;
    work *next = d->work[i];

    matmul_share(mm, &next[WORK_QKV], qkv, 3, &d->x_norm, d->tokens);
    team_barrier(d->t);
    rope_share(d, i, me, n);
    if (tokens == 0)
        return; /* keys and values were all that was wanted */
    team_barrier(d->t);
    attn_share(d, i, me, n);
    team_barrier(d->t);
    if (d->join_count > 0) {
        join_share(d, me, n);
        team_barrier(d->t);
    }
    if (tokens < d->tokens) {
        if (me == 0)
            keep_rows(d);
        team_barrier(d->t);
    }
    att_convert_share(d, tokens, act_bit(d->k, &l->o), me, n);
    team_barrier(d->t);
    matmul_share(mm, &next[WORK_O], &o, 1, &d->att, tokens);
    team_barrier(d->t);
    residual_share(d, tokens, true, l->post_attn_norm, l->ffn_norm,
                   act_bit(d->k, &l->gate) | act_bit(d->k, &l->up), me, n);
    team_barrier(d->t);
    gate_up_share(d, &next[WORK_GATE_UP], l, tokens, me, n);
    team_barrier(d->t);
    matmul_share(mm, &next[WORK_DOWN], &down, 1, &d->ff, tokens);
    team_barrier(d->t);
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
        unsigned kinds = act_bit(d->k, &l->q) | act_bit(d->k, &l->k) | act_bit(d->k, &l->v);

        residual_share(d, d->tokens, i > 0, i > 0 ? w->layers[i - 1].post_ffn_norm : NULL,
                       l->attn_norm, kinds, me, n);
        if (me == 0 && d->give_up)
            d->given_up = atomic_load_explicit(d->give_up, memory_order_relaxed);
        team_barrier(d->t);
        if (d->given_up)
            return;
        layer(d, i, me, n);
    }
    if (d->rows == 0)
        return;
    residual_share(d, d->rows, true, w->layers[layers - 1].post_ffn_norm, w->out_norm,
                   act_bit(d->k, &w->head), me, n);
    if (!w->head.data)
        return; /* the states are what is wanted */
    team_barrier(d->t);
    matmul_share(&d->scratch[me].mm, &d->head_work, &head, 1, &d->x_norm, d->rows);
    if (w->params.logit_softcap > 0) {
        team_barrier(d->t);
        softcap_share(d, me, n);
    }
}

/* ---- the step -------------------------------------------------------------------------------- */

/* Segments of tokens [begin, end) that are worth computing apart; 1: none. */
static int split_segments(const decoder *d, int run, int begin, int end)
{
    int from, to, queries = (end - begin) * d->group;

    /* In layers with a window the first segments are empty, and cheap. */
    attn_segments(0, d->pos[end - 1], &from, &to);
    if (d->runs[run].count > SPLIT_TOKENS || d->runs[run].logits_from > 0 ||
        to - from > SPLIT_SEGMENTS ||
        d->part_used + (size_t)((to - from) * queries) * ((size_t)d->head_pad + 2) > d->part_cap)
        return 1;
    return to - from;
}

/* Cuts a run into tiles of tokens whose queries fill ATTN_QUERIES, and those of long contexts into
 * segments. */
static void list_tasks(decoder *d, int run, int first_token, int count)
{
    int per_tile = SL_MAX(1, ATTN_QUERIES / d->group);

    for (int h = 0; h < d->w->params.kv_heads; h++)
        for (int t = first_token; t < first_token + count; t += per_tile) {
            int end = SL_MIN(t + per_tile, first_token + count);
            int segments = split_segments(d, run, t, end), queries = (end - t) * d->group;

            if (segments > 1)
                d->joins[d->join_count++] = (attn_join){ &d->tasks[d->task_count], segments };
            for (int s = 0; s < segments; s++) {
                SL_ASSERT(d->task_count < d->task_cap);
                d->tasks[d->task_count++] = (attn_task){
                    .run = run,
                    .kv_head = h,
                    .begin = t,
                    .end = end,
                    .has_rows = end - first_token > d->runs[run].logits_from,
                    .segment = segments > 1 ? s : -1,
                    .part = d->parts + d->part_used,
                };
                if (segments > 1)
                    d->part_used += (size_t)queries * ((size_t)d->head_pad + 2);
            }
        }
}

bool decoder_try_step(decoder *d, kv_pool *pool, decoder_run *runs, int run_count,
                      const atomic_bool *give_up)
{
    d->give_up = give_up;
    d->given_up = false;
    d->pool = pool;
    d->runs = runs;
    d->tokens = d->rows = d->task_count = d->join_count = 0;
    d->part_used = 0;
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
        return true;
    for (int i = 0; i < d->w->params.layers; i++)
        for (int j = 0; j < WORK_COUNT; j++)
            atomic_store_explicit(&d->work[i][j].next, 0, memory_order_relaxed);
    atomic_store_explicit(&d->head_work.next, 0, memory_order_relaxed);
    team_run(d->t, step_member, d);
    for (int r = 0; r < run_count && !d->given_up; r++)
        runs[r].seq->len += runs[r].count;
    return !d->given_up;
}

void decoder_step(decoder *d, kv_pool *pool, decoder_run *runs, int run_count)
{
    (void)decoder_try_step(d, pool, runs, run_count, NULL);
}

const float *decoder_state(const decoder *d, int i)
{
    SL_ASSERT(i >= 0 && i < d->rows);
    return d->x_norm.f + (size_t)i * d->x_norm.stride;
}

float *decoder_logits(decoder *d, int i)
{
    SL_ASSERT(i >= 0 && i < d->rows);
    return d->logits + (size_t)i * d->logit_stride;
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool alloc_scratch(decoder *d, member_scratch *s)
{
    size_t p = (size_t)d->head_pad, tokens = (size_t)d->o.tokens_max;

    s->mm_bytes = kernels_scratch_bytes(d->w->cols_max);
    s->mm = (matmul_ctx){ d->k, sl_aligned_alloc(s->mm_bytes), team_count(d->t) };
    return s->mm.scratch && attn_scratch_init(&s->attn, p) &&
           floats_alloc(&s->gate, tokens, KERNELS_ROWS) &&
           floats_alloc(&s->up, tokens, KERNELS_ROWS) && floats_alloc(&s->key, 1, p) &&
           floats_alloc(&s->value, 1, p);
}

static bool alloc_lists(decoder *d)
{
    const model_params *p = &d->w->params;
    size_t tokens = (size_t)d->o.tokens_max, rows = (size_t)d->o.logit_rows_max;
    size_t segments = (size_t)SL_MIN(d->o.context_max / ATTN_SEGMENT + 1, SPLIT_SEGMENTS);

    /* As many parts as the decoding sequences make when each has a long context. */
    d->part_cap = segments * rows * (size_t)p->heads * ((size_t)d->head_pad + 2);
    d->task_cap = (int)((tokens + segments * rows * SPLIT_TOKENS) * (size_t)p->kv_heads);
    d->ids = sl_calloc(tokens, sizeof *d->ids);
    d->pos = sl_calloc(tokens, sizeof *d->pos);
    d->run_of = sl_calloc(tokens, sizeof *d->run_of);
    d->row_of = sl_calloc(rows, sizeof *d->row_of);
    d->tasks = sl_calloc((size_t)d->task_cap, sizeof *d->tasks);
    d->joins = sl_calloc((size_t)d->task_cap, sizeof *d->joins);
    d->work = sl_calloc((size_t)p->layers, sizeof *d->work);
    return d->ids && d->pos && d->run_of && d->row_of && d->tasks && d->joins && d->work &&
           floats_alloc(&d->parts, d->part_cap, 1);
}

/* Kinds of activations that the layers' products take, over all layers. */
typedef struct act_kinds {
    unsigned x, att, ff;
} act_kinds;

static act_kinds kinds_of(const decoder *d)
{
    act_kinds a = { .x = act_bit(d->k, &d->w->head) };

    for (int i = 0; i < d->w->params.layers; i++) {
        const weights_layer *l = &d->w->layers[i];

        a.x |= act_bit(d->k, &l->q) | act_bit(d->k, &l->k) | act_bit(d->k, &l->v) |
               act_bit(d->k, &l->gate) | act_bit(d->k, &l->up);
        a.att |= act_bit(d->k, &l->o);
        a.ff |= act_bit(d->k, &l->down);
    }
    return a;
}

static bool alloc_all(decoder *d)
{
    const model_params *p = &d->w->params;
    size_t tokens = (size_t)d->o.tokens_max, half = (size_t)p->rope_dim / 2 + 1;
    int members = team_count(d->t);
    act_kinds kinds = kinds_of(d);

    d->x_stride = pad_to((size_t)p->dim, KERNELS_ROWS);
    d->q_stride = pad_to((size_t)(p->heads * p->head_dim), KERNELS_ROWS);
    d->kv_stride = pad_to((size_t)(p->kv_heads * p->head_dim), KERNELS_ROWS);
    d->logit_stride = pad_to((size_t)p->vocab, KERNELS_ROWS);
    d->scratch = sl_calloc((size_t)members, sizeof *d->scratch);
    if (!d->scratch || !alloc_lists(d))
        return false;
    for (int i = 0; i < members; i++)
        if (!alloc_scratch(d, &d->scratch[i]))
            return false;
    for (int i = 0; i < 2; i++)
        if (!floats_alloc(&d->rope[i], tokens, half * 2) || !floats_alloc(&d->freq[i], 1, half))
            return false;
    return activations_alloc(&d->x_norm, tokens, (size_t)p->dim, kinds.x, true) &&
           activations_alloc(&d->att, tokens, (size_t)(p->heads * p->head_dim), kinds.att, true) &&
           activations_alloc(&d->ff, tokens, (size_t)p->ff_dim, kinds.ff, false) &&
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

    if (model_arch_encodes(p->arch))
        return sl_fail(err, SL_EINVAL, "this model makes embeddings; it does not generate text");
    if (p->heads / p->kv_heads > ATTN_QUERIES)
        return sl_fail(err, SL_ENOTSUP, "model: more than %d query heads per KV head",
                       ATTN_QUERIES);
    d = sl_calloc(1, sizeof *d);
    if (!d)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    d->w = w;
    d->t = t;
    d->k = k;
    d->o = *o;
    d->head_pad = decoder_kv_shape(p, KERNELS_KV_F16).head_dim;
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

        attn_scratch_deinit(&s->attn);
        sl_aligned_free(s->mm.scratch, s->mm_bytes);
        sl_free(s->gate);
        sl_free(s->up);
        sl_free(s->key);
        sl_free(s->value);
    }
    activations_free(&d->x_norm);
    activations_free(&d->att);
    activations_free(&d->ff);
    void *owned[] = { d->scratch, d->ids,     d->pos,     d->run_of,  d->row_of, d->tasks, d->joins,
                      d->parts,   d->work,    d->x,       d->tmp,     d->q,      d->kk,    d->v,
                      d->logits,  d->rope[0], d->rope[1], d->freq[0], d->freq[1] };

    for (size_t i = 0; i < SL_COUNT_OF(owned); i++)
        sl_free(owned[i]);
    sl_free(d);
}
