/* encoder.c - BERT. The same phases and shares as decoder.c, with attention in both directions over
 * scratch KV blocks instead of a cache. */
#include "engine/encoder.h"

#include <math.h>
#include <stdatomic.h>

#include "base/mem.h"
#include "engine/matmul.h"

#define TILE_QUERIES 32

typedef struct attn_task {
    int text, head, begin, end; /* tokens of the batch */
} attn_task;

typedef struct member_scratch {
    float *q, *out, *scores;
    uint16_t *half;
    const uint16_t **blocks;
} member_scratch;

struct encoder {
    const weights *w;
    team *t;
    const kernels *k;
    int tokens_max, head_pad;

    activations x, att, ff;  /* [T, D]: x is both the residual stream and the input of products */
    float *tmp, *q, *kk, *v; /* [T, D] */
    size_t stride;
    member_scratch *scratch;
    uint16_t *kv; /* [blocks, heads, 2 * head_pad * 16] of the current layer */

    /* the batch */
    const encoder_text *texts;
    int text_count, tokens;
    int32_t *ids, *pos, *text_of;   /* [T] */
    int *first_token, *first_block; /* [T]: of each text */
    attn_task *tasks;
    int task_count;
    atomic_int *next_task; /* [layers] */
};

static uint16_t *kv_block(const encoder *e, int block, int head)
{
    size_t elems = 2 * (size_t)e->head_pad * KERNELS_KV_TOKENS;

    return e->kv + ((size_t)block * (size_t)e->w->params.heads + (size_t)head) * elems;
}

static void norm_row(encoder *e, int t, const float *scale, const float *shift, bool q8)
{
    float *x = e->x.f + (size_t)t * e->x.stride;

    e->k->layernorm(x, x, scale, shift, (size_t)e->w->params.dim, e->w->params.norm_eps);
    if (q8)
        activations_quantize(e->k, &e->x, t, e->w->params.dim);
}

static void embed_share(encoder *e, int me, int n)
{
    const weights *w = e->w;
    size_t dim = (size_t)w->params.dim, row_bytes = w->embed->data.len / (size_t)w->params.vocab;
    int begin, end;

    team_share(e->tokens, me, n, &begin, &end);
    for (int t = begin; t < end; t++) {
        float *x = e->x.f + (size_t)t * e->x.stride;

        kernels_dequant(w->embed->type, w->embed->data.ptr + (size_t)e->ids[t] * row_bytes, dim, x);
        for (size_t i = 0; i < dim; i++)
            x[i] += w->position[(size_t)e->pos[t] * dim + i] + w->type0[i];
        norm_row(e, t, w->embed_norm, w->embed_norm_b, weight_wants_q8(&w->layers[0].q));
    }
}

static void kv_share(encoder *e, int me, int n)
{
    const model_params *p = &e->w->params;
    size_t w = (size_t)p->head_dim;
    uint16_t *half = e->scratch[me].half;
    float scale = p->attn_scale;
    int begin, end;

    team_share(e->tokens, me, n, &begin, &end);
    for (int t = begin; t < end; t++) {
        int block = e->first_block[e->text_of[t]] + e->pos[t] / KERNELS_KV_TOKENS;
        size_t slot = (size_t)(e->pos[t] % KERNELS_KV_TOKENS);

        for (int h = 0; h < p->heads; h++) {
            uint16_t *keys = kv_block(e, block, h);
            uint16_t *values = keys + (size_t)e->head_pad * KERNELS_KV_TOKENS;

            e->k->f32_to_f16(e->kk + (size_t)t * e->stride + (size_t)h * w, w, half);
            for (size_t i = 0; i < w; i++)
                keys[i * KERNELS_KV_TOKENS + slot] = half[i];
            e->k->f32_to_f16(e->v + (size_t)t * e->stride + (size_t)h * w, w,
                             values + slot * (size_t)e->head_pad);
        }
        for (int i = 0; i < p->dim; i++)
            e->q[(size_t)t * e->stride + (size_t)i] *= scale;
    }
}

static void attn_run(encoder *e, const attn_task *task, member_scratch *s)
{
    size_t w = (size_t)e->w->params.head_dim, padded = (size_t)e->head_pad;
    int count = e->texts[task->text].count, n = task->end - task->begin;
    int blocks = (count + KERNELS_KV_TOKENS - 1) / KERNELS_KV_TOKENS;
    int32_t pos[TILE_QUERIES], first[TILE_QUERIES];

    for (int i = 0; i < n; i++) {
        memcpy(s->q + (size_t)i * padded,
               e->q + (size_t)(task->begin + i) * e->stride + (size_t)task->head * w,
               w * sizeof *s->q);
        memset(s->q + (size_t)i * padded + w, 0, (padded - w) * sizeof *s->q);
        pos[i] = count - 1;
        first[i] = 0;
    }
    for (int b = 0; b < blocks; b++)
        s->blocks[b] = kv_block(e, e->first_block[task->text] + b, task->head);
    e->k->attn(&(kernels_attn){ .q = s->q,
                                .out = s->out,
                                .pos = pos,
                                .first = first,
                                .query_count = (size_t)n,
                                .head_dim = padded,
                                .blocks = s->blocks,
                                .block_count = blocks,
                                .scratch = s->scores });
    for (int i = 0; i < n; i++)
        memcpy(e->att.f + (size_t)(task->begin + i) * e->att.stride + (size_t)task->head * w,
               s->out + (size_t)i * padded, w * sizeof(float));
}

static void attn_share(encoder *e, int layer, int me)
{
    for (;;) {
        int i = atomic_fetch_add_explicit(&e->next_task[layer], 1, memory_order_relaxed);

        if (i >= e->task_count)
            return;
        attn_run(e, &e->tasks[i], &e->scratch[me]);
    }
}

static void quantize_share(encoder *e, const activations *x, int cols, int me, int n)
{
    int begin, end;

    team_share(e->tokens, me, n, &begin, &end);
    for (int t = begin; t < end; t++)
        activations_quantize(e->k, x, t, cols);
}

/* x = norm(x + tmp). */
static void residual_share(encoder *e, const float *scale, const float *shift, bool q8, int me,
                           int n)
{
    int begin, end;

    team_share(e->tokens, me, n, &begin, &end);
    for (int t = begin; t < end; t++) {
        for (int i = 0; i < e->w->params.dim; i++)
            e->x.f[(size_t)t * e->x.stride + (size_t)i] +=
                e->tmp[(size_t)t * e->stride + (size_t)i];
        norm_row(e, t, scale, shift, q8);
    }
}

static void act_share(encoder *e, bool q8, int me, int n)
{
    int begin, end, ff = e->w->params.ff_dim;

    team_share(e->tokens, me, n, &begin, &end);
    for (int t = begin; t < end; t++) {
        e->k->gelu_erf_mul(e->ff.f + (size_t)t * e->ff.stride, NULL, (size_t)ff);
        if (q8)
            activations_quantize(e->k, &e->ff, t, ff);
    }
}

static void layer(encoder *e, int i, int me, int n)
{
    const weights_layer *l = &e->w->layers[i];
    bool last = i + 1 == e->w->params.layers;
    const matmul_job qkv[] = { { &l->q, e->q, e->stride },
                               { &l->k, e->kk, e->stride },
                               { &l->v, e->v, e->stride } };
    const matmul_job o = { &l->o, e->tmp, e->stride }, up = { &l->up, e->ff.f, e->ff.stride };
    const matmul_job down = { &l->down, e->tmp, e->stride };

    matmul_share(e->k, qkv, 3, &e->x, e->tokens, me, n);
    team_barrier(e->t);
    kv_share(e, me, n);
    team_barrier(e->t);
    attn_share(e, i, me);
    team_barrier(e->t);
    if (weight_wants_q8(&l->o)) {
        quantize_share(e, &e->att, e->w->params.dim, me, n);
        team_barrier(e->t);
    }
    matmul_share(e->k, &o, 1, &e->att, e->tokens, me, n);
    team_barrier(e->t);
    residual_share(e, l->attn_norm, l->attn_norm_b, weight_wants_q8(&l->up), me, n);
    team_barrier(e->t);
    matmul_share(e->k, &up, 1, &e->x, e->tokens, me, n);
    team_barrier(e->t);
    act_share(e, weight_wants_q8(&l->down), me, n);
    team_barrier(e->t);
    matmul_share(e->k, &down, 1, &e->ff, e->tokens, me, n);
    team_barrier(e->t);
    residual_share(e, l->ffn_norm, l->ffn_norm_b, !last && weight_wants_q8(&l[1].q), me, n);
    team_barrier(e->t);
}

/* One vector from a text's final states. */
static void pool_text(encoder *e, int i)
{
    const model_params *p = &e->w->params;
    const encoder_text *text = &e->texts[i];
    int from = 0, to = text->count;
    double norm = 0;

    if (p->pool == MODEL_POOL_CLS)
        to = 1;
    else if (p->pool == MODEL_POOL_LAST)
        from = to - 1;
    for (int c = 0; c < p->dim; c++) {
        double sum = 0;

        for (int t = from; t < to; t++)
            sum += (double)e->x.f[(size_t)(e->first_token[i] + t) * e->x.stride + (size_t)c];
        text->out[c] = (float)(sum / (to - from));
        norm += (double)text->out[c] * (double)text->out[c];
    }
    if (!p->pool_normalize || norm == 0)
        return;
    for (int c = 0; c < p->dim; c++)
        text->out[c] = (float)((double)text->out[c] / sqrt(norm));
}

static void run_member(void *ctx, int me, int n)
{
    encoder *e = ctx;
    int begin, end;

    embed_share(e, me, n);
    team_barrier(e->t);
    for (int i = 0; i < e->w->params.layers; i++)
        layer(e, i, me, n);
    team_share(e->text_count, me, n, &begin, &end);
    for (int i = begin; i < end; i++)
        pool_text(e, i);
}

void encoder_run(encoder *e, const encoder_text *texts, int text_count)
{
    int block = 0;

    e->texts = texts;
    e->text_count = text_count;
    e->tokens = e->task_count = 0;
    for (int i = 0; i < text_count; i++) {
        int first = e->tokens, count = texts[i].count;

        SL_ASSERT(count > 0 && count <= e->w->params.context);
        SL_ASSERT(first + count <= e->tokens_max);
        e->first_token[i] = first;
        e->first_block[i] = block;
        block += (count + KERNELS_KV_TOKENS - 1) / KERNELS_KV_TOKENS;
        for (int t = 0; t < count; t++) {
            SL_ASSERT(texts[i].ids[t] >= 0 && texts[i].ids[t] < e->w->params.vocab);
            e->ids[e->tokens] = texts[i].ids[t];
            e->pos[e->tokens] = t;
            e->text_of[e->tokens++] = i;
        }
        for (int h = 0; h < e->w->params.heads; h++)
            for (int t = 0; t < count; t += TILE_QUERIES)
                e->tasks[e->task_count++] =
                    (attn_task){ i, h, first + t, first + SL_MIN(t + TILE_QUERIES, count) };
    }
    if (text_count == 0)
        return;
    for (int i = 0; i < e->w->params.layers; i++)
        atomic_store_explicit(&e->next_task[i], 0, memory_order_relaxed);
    team_run(e->t, run_member, e);
}

static bool alloc_all(encoder *e)
{
    const model_params *p = &e->w->params;
    size_t tokens = (size_t)e->tokens_max, padded = (size_t)e->head_pad;
    int members = team_count(e->t);

    e->stride = pad_to((size_t)p->dim, KERNELS_ROWS);
    e->ids = sl_calloc(tokens, sizeof *e->ids);
    e->pos = sl_calloc(tokens, sizeof *e->pos);
    e->text_of = sl_calloc(tokens, sizeof *e->text_of);
    e->first_token = sl_calloc(tokens, sizeof *e->first_token);
    e->first_block = sl_calloc(tokens, sizeof *e->first_block);
    e->tasks = sl_calloc(tokens * (size_t)p->heads, sizeof *e->tasks);
    e->next_task = sl_calloc((size_t)p->layers, sizeof *e->next_task);
    e->scratch = sl_calloc((size_t)members, sizeof *e->scratch);
    /* A text of one token takes a whole block. */
    e->kv = sl_calloc(tokens * (size_t)p->heads, 2 * padded * KERNELS_KV_TOKENS * sizeof *e->kv);
    if (!e->ids || !e->pos || !e->text_of || !e->first_token || !e->first_block || !e->tasks ||
        !e->next_task || !e->scratch || !e->kv)
        return false;
    for (int i = 0; i < members; i++) {
        member_scratch *s = &e->scratch[i];

        s->half = sl_calloc(padded, sizeof *s->half);
        s->blocks = sl_calloc((size_t)p->context / KERNELS_KV_TOKENS + 2, sizeof *s->blocks);
        if (!s->half || !s->blocks || !floats_alloc(&s->q, TILE_QUERIES, padded) ||
            !floats_alloc(&s->out, TILE_QUERIES, padded) ||
            !floats_alloc(&s->scores, TILE_QUERIES, 18))
            return false;
    }
    return activations_alloc(&e->x, tokens, e->stride) &&
           activations_alloc(&e->att, tokens, e->stride) &&
           activations_alloc(&e->ff, tokens, pad_to((size_t)p->ff_dim, KERNELS_ROWS)) &&
           floats_alloc(&e->tmp, tokens, e->stride) && floats_alloc(&e->q, tokens, e->stride) &&
           floats_alloc(&e->kk, tokens, e->stride) && floats_alloc(&e->v, tokens, e->stride);
}

sl_status encoder_create(const weights *w, team *t, const kernels *k, int tokens_max, encoder **ret,
                         sl_err *err)
{
    encoder *e;

    if (w->params.arch != MODEL_BERT)
        return sl_fail(err, SL_EINVAL, "this model generates text; it does not make embeddings");
    e = sl_calloc(1, sizeof *e);
    if (!e)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    e->w = w;
    e->t = t;
    e->k = k;
    e->tokens_max = SL_MAX(tokens_max, w->params.context);
    e->head_pad = (int)pad_to((size_t)w->params.head_dim, 16);
    if (!alloc_all(e)) {
        encoder_destroy(e);
        return sl_fail(err, SL_ENOMEM, "out of memory for a batch of %d tokens", tokens_max);
    }
    *ret = e;
    return SL_OK;
}

void encoder_destroy(encoder *e)
{
    if (!e)
        return;
    for (int i = 0; e->scratch && i < team_count(e->t); i++) {
        sl_free(e->scratch[i].q);
        sl_free(e->scratch[i].out);
        sl_free(e->scratch[i].scores);
        sl_free(e->scratch[i].half);
        sl_free(e->scratch[i].blocks);
    }
    void *owned[] = { e->scratch, e->ids,  e->pos, e->text_of, e->first_token, e->first_block,
                      e->tasks,   e->kv,   e->x.f, e->x.q,     e->att.f,       e->att.q,
                      e->ff.f,    e->ff.q, e->tmp, e->q,       e->kk,          e->v };

    for (size_t i = 0; i < SL_COUNT_OF(owned); i++)
        sl_free(owned[i]);
    sl_free(e->next_task);
    sl_free(e);
}
