/* encoder.c - BERT. The same phases and shares as decoder.c, with attention in both directions over
 * scratch KV blocks instead of a cache. */
#include "engine/encoder.h"

#include <math.h>
#include <stdatomic.h>

#include "base/mem.h"
#include "engine/attention.h"
#include "engine/matmul.h"

typedef struct attn_task {
    int text, head, begin, end; /* tokens of the batch */
} attn_task;

typedef struct member_scratch {
    attn_scratch attn;
    matmul_ctx mm;
    size_t mm_bytes;
    float *key, *value; /* [head_pad], zero behind the head */
} member_scratch;

/* The phases of a layer whose work is taken, not dealt. */
enum { WORK_QKV, WORK_ATTN, WORK_O, WORK_UP, WORK_DOWN, WORK_COUNT };

struct encoder {
    const weights *w;
    team *t;
    const kernels *k;
    int tokens_max, head_pad;

    activations x, att, ff;  /* [T, D]: x is both the residual stream and the input of products */
    float *tmp, *q, *kk, *v; /* [T, D] */
    float *up;               /* [T, F] where the FFN has a gate; or NULL */
    float *rope;             /* [context, head_dim / 2, 2] cosine and sine; or NULL */
    size_t stride;
    member_scratch *scratch;
    uint8_t *kv; /* [blocks, heads, head_bytes] of the current layer */
    size_t head_bytes;

    /* the batch */
    const encoder_text *texts;
    int text_count, tokens;
    int32_t *ids, *pos, *text_of;   /* [T] */
    int *first_token, *first_block; /* [T]: of each text */
    attn_task *tasks;
    int task_count;
    work (*work)[WORK_COUNT]; /* [layers] */
    int unit_from, unit_to;   /* what a run of the team computes */
};

static uint8_t *text_block(const encoder *e, int block, int head)
{
    return e->kv + ((size_t)block * (size_t)e->w->params.heads + (size_t)head) * e->head_bytes;
}

static void norm_row(encoder *e, int t, const float *scale, const float *shift, unsigned kinds)
{
    float *x = e->x.f + (size_t)t * e->x.stride;

    e->k->layernorm(x, x, scale, shift, (size_t)e->w->params.dim, e->w->params.norm_eps);
    activations_convert(e->k, &e->x, t, x, 0, e->w->params.dim, kinds);
}

static unsigned qkv_kinds(const encoder *e, const weights_layer *l)
{
    return act_bit(e->k, &l->q) | act_bit(e->k, &l->k) | act_bit(e->k, &l->v);
}

/* The second text of a pair has another type, where the model knows two. */
static size_t type_of(const encoder *e, int t)
{
    return e->w->params.type_vocab > 1 && e->pos[t] >= e->texts[e->text_of[t]].second;
}

static unsigned up_kinds(const encoder *e, const weights_layer *l)
{
    return act_bit(e->k, &l->up) | act_bit(e->k, &l->gate);
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
        if (w->position)
            e->k->add(x, w->position + (size_t)e->pos[t] * dim, dim);
        if (w->types)
            e->k->add(x, w->types + type_of(e, t) * dim, dim);
        norm_row(e, t, w->embed_norm, w->embed_norm_b, qkv_kinds(e, &w->layers[0]));
    }
}

static void rotate(float *head, const float *cs, int half)
{
    for (int i = 0; i < half; i++) {
        float a = head[i], b = head[i + half];

        head[i] = a * cs[2 * i] - b * cs[2 * i + 1];
        head[i + half] = a * cs[2 * i + 1] + b * cs[2 * i];
    }
}

/* Positions as rotations of queries and keys (Su et al. 2021), of the halves of a head. */
static void rope_token(encoder *e, int t)
{
    const model_params *p = &e->w->params;
    int half = p->head_dim / 2;
    const float *cs = e->rope + (size_t)e->pos[t] * (size_t)half * 2;

    for (int h = 0; h < p->heads; h++) {
        size_t at = (size_t)t * e->stride + (size_t)h * (size_t)p->head_dim;

        rotate(e->q + at, cs, half);
        rotate(e->kk + at, cs, half);
    }
}

static void kv_share(encoder *e, int me, int n)
{
    const model_params *p = &e->w->params;
    size_t w = (size_t)p->head_dim;
    member_scratch *s = &e->scratch[me];
    float scale = p->attn_scale;
    int begin, end;

    team_share(e->tokens, me, n, &begin, &end);
    for (int t = begin; t < end; t++) {
        int block = e->first_block[e->text_of[t]] + e->pos[t] / KERNELS_KV_TOKENS;
        size_t slot = (size_t)(e->pos[t] % KERNELS_KV_TOKENS);

        if (e->rope)
            rope_token(e, t);
        for (int h = 0; h < p->heads; h++) {
            size_t at = (size_t)t * e->stride + (size_t)h * w;

            memcpy(s->key, e->kk + at, w * sizeof *s->key);
            memcpy(s->value, e->v + at, w * sizeof *s->value);
            e->k->kv_store[KERNELS_KV_F16](text_block(e, block, h), (size_t)e->head_pad, slot,
                                           s->key, s->value);
        }
        for (int i = 0; i < p->dim; i++)
            e->q[(size_t)t * e->stride + (size_t)i] *= scale;
    }
}

typedef struct head_blocks {
    const encoder *e;
    int first, head;
} head_blocks;

static const void *block_of(const void *ctx, int32_t block)
{
    const head_blocks *h = ctx;

    return text_block(h->e, h->first + block, h->head);
}

static void attn_run(encoder *e, const attn_task *task, attn_scratch *s)
{
    size_t w = (size_t)e->w->params.head_dim, padded = (size_t)e->head_pad;
    int count = e->texts[task->text].count, n = task->end - task->begin;
    const head_blocks blocks = { e, e->first_block[task->text], task->head };

    for (int i = 0; i < n; i++) {
        memcpy(s->q + (size_t)i * padded,
               e->q + (size_t)(task->begin + i) * e->stride + (size_t)task->head * w,
               w * sizeof *s->q);
        memset(s->q + (size_t)i * padded + w, 0, (padded - w) * sizeof *s->q);
        s->pos[i] = count - 1;
        s->first[i] = 0;
    }
    attn_whole(&(attn_view){ .k = e->k,

                             .head_pad = padded,
                             .block_of = block_of,
                             .ctx = &blocks },
               s, n);
    for (int i = 0; i < n; i++)
        memcpy(e->att.f + (size_t)(task->begin + i) * e->att.stride + (size_t)task->head * w,
               s->out + (size_t)i * padded, w * sizeof(float));
}

static void attn_share(encoder *e, int layer, int me, int members)
{
    int begin, end;

    while (work_take(&e->work[layer][WORK_ATTN], e->task_count, 1, members, &begin, &end))
        for (int i = begin; i < end; i++)
            attn_run(e, &e->tasks[i], &e->scratch[me].attn);
}

static void convert_share(encoder *e, const activations *x, int cols, unsigned kinds, int me, int n)
{
    int begin, end;

    team_share(e->tokens, me, n, &begin, &end);
    for (int t = begin; t < end; t++)
        activations_convert(e->k, x, t, x->f + (size_t)t * x->stride, 0, cols, kinds);
}

/* x = norm(x + tmp). */
static void residual_share(encoder *e, const float *scale, const float *shift, unsigned kinds,
                           int me, int n)
{
    int begin, end;

    team_share(e->tokens, me, n, &begin, &end);
    for (int t = begin; t < end; t++) {
        e->k->add(e->x.f + (size_t)t * e->x.stride, e->tmp + (size_t)t * e->stride,
                  (size_t)e->w->params.dim);
        norm_row(e, t, scale, shift, kinds);
    }
}

static void act_share(encoder *e, unsigned kinds, int me, int n)
{
    int begin, end, ff = e->w->params.ff_dim;
    void (*const act)(float *, const float *, size_t) =
        e->w->params.act == MODEL_SILU        ? e->k->silu_mul
        : e->w->params.act == MODEL_GELU_TANH ? e->k->gelu_tanh_mul
                                              : e->k->gelu_erf_mul;

    team_share(e->tokens, me, n, &begin, &end);
    for (int t = begin; t < end; t++) {
        float *x = e->ff.f + (size_t)t * e->ff.stride;

        act(x, e->up ? e->up + (size_t)t * e->ff.stride : NULL, (size_t)ff);
        activations_convert(e->k, &e->ff, t, x, 0, ff, kinds);
    }
}

/* A layer is cut where all members meet, into parts of at most a third of it. */
enum { PART_QKV, PART_ATTN, PART_O, PART_UP, PART_DOWN, PART_COUNT };

static void attn_part(encoder *e, int i, int me, int n)
{
    kv_share(e, me, n);
    team_barrier(e->t);
    attn_share(e, i, me, n);
    team_barrier(e->t);
    convert_share(e, &e->att, e->w->params.dim, act_bit(e->k, &e->w->layers[i].o), me, n);
}

static void o_part(encoder *e, int i, int me, int n)
{
    const weights_layer *l = &e->w->layers[i];
    const matmul_job o = { &l->o, e->tmp, e->stride };

    matmul_share(&e->scratch[me].mm, &e->work[i][WORK_O], &o, 1, &e->att, e->tokens);
    team_barrier(e->t);
    residual_share(e, l->attn_norm, l->attn_norm_b, up_kinds(e, l), me, n);
}

static void down_part(encoder *e, int i, int me, int n)
{
    const weights_layer *l = &e->w->layers[i];
    bool last = i + 1 == e->w->params.layers;
    const matmul_job down = { &l->down, e->tmp, e->stride };

    act_share(e, act_bit(e->k, &l->down), me, n);
    team_barrier(e->t);
    matmul_share(&e->scratch[me].mm, &e->work[i][WORK_DOWN], &down, 1, &e->ff, e->tokens);
    team_barrier(e->t);
    residual_share(e, l->ffn_norm, l->ffn_norm_b, last ? 0 : qkv_kinds(e, &l[1]), me, n);
}

static void layer_part(encoder *e, int i, int part, int me, int n)
{
    const weights_layer *l = &e->w->layers[i];
    const matmul_ctx *mm = &e->scratch[me].mm;
    const matmul_job qkv[] = { { &l->q, e->q, e->stride },
                               { &l->k, e->kk, e->stride },
                               { &l->v, e->v, e->stride } };
    /* What goes through the activation comes first. */
    const matmul_job up[] = { { e->up ? &l->gate : &l->up, e->ff.f, e->ff.stride },
                              { &l->up, e->up, e->ff.stride } };

    switch (part) {
    case PART_QKV:
        matmul_share(mm, &e->work[i][WORK_QKV], qkv, 3, &e->x, e->tokens);
        break;
    case PART_ATTN:
        attn_part(e, i, me, n);
        break;
    case PART_O:
        o_part(e, i, me, n);
        break;
    case PART_UP:
        matmul_share(mm, &e->work[i][WORK_UP], up, e->up ? 2 : 1, &e->x, e->tokens);
        break;
    default:
        down_part(e, i, me, n);
    }
}

int encoder_width(const weights *w)
{
    return w->params.pool == MODEL_POOL_RANK ? 1 : w->params.dim;
}

/* One number of the first token's state. */
static void rank_text(encoder *e, int i)
{
    const weights *w = e->w;
    const float *x = e->x.f + (size_t)e->first_token[i] * e->x.stride;
    int dim = w->params.dim;
    double sum = w->rank_b ? (double)w->rank_b[0] : 0;

    for (int r = 0; r < dim; r++) {
        double h = (double)x[r];

        if (w->pooler)
            h = tanh((double)kernels_dot_f32(w->pooler + (size_t)r * (size_t)dim, x, (size_t)dim) +
                     (w->pooler_b ? (double)w->pooler_b[r] : 0));
        sum += h * (double)w->rank[r];
    }
    e->texts[i].out[0] = (float)sum;
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

static void pool_share(encoder *e, int me, int n)
{
    int begin, end;

    team_share(e->text_count, me, n, &begin, &end);
    for (int i = begin; i < end; i++)
        e->w->params.pool == MODEL_POOL_RANK ? rank_text(e, i) : pool_text(e, i);
}

/* Units: the embedding, the parts of the layers, the pooling. */
static int unit_count(const encoder *e)
{
    return e->w->params.layers * PART_COUNT + 2;
}

/* Units [unit_from, unit_to). */
static void run_member(void *ctx, int me, int n)
{
    encoder *e = ctx;

    for (int u = e->unit_from; u < e->unit_to; u++) {
        if (u > e->unit_from)
            team_barrier(e->t);
        if (u == 0)
            embed_share(e, me, n);
        else if (u + 1 == unit_count(e))
            pool_share(e, me, n);
        else
            layer_part(e, (u - 1) / PART_COUNT, (u - 1) % PART_COUNT, me, n);
    }
}

static void run_units(encoder *e, int from, int to)
{
    e->unit_from = from;
    e->unit_to = to;
    team_run(e->t, run_member, e);
}

static void take_batch(encoder *e, const encoder_text *texts, int text_count)
{
    int block = 0;

    e->texts = texts;
    e->text_count = text_count;
    e->tokens = e->task_count = 0;
    for (int i = 0; i < text_count; i++) {
        int first = e->tokens, count = texts[i].count;

        SL_ASSERT(count > 0 && count <= e->w->params.context);
        SL_ASSERT(first + count <= e->tokens_max);
        SL_ASSERT(texts[i].second >= 0 && texts[i].second <= count);
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
            for (int t = 0; t < count; t += ATTN_QUERIES)
                e->tasks[e->task_count++] =
                    (attn_task){ i, h, first + t, first + SL_MIN(t + ATTN_QUERIES, count) };
    }
    for (int i = 0; i < e->w->params.layers; i++)
        for (int j = 0; j < WORK_COUNT; j++)
            atomic_store_explicit(&e->work[i][j].next, 0, memory_order_relaxed);
}

void encoder_run(encoder *e, const encoder_text *texts, int text_count)
{
    take_batch(e, texts, text_count);
    if (text_count > 0)
        run_units(e, 0, unit_count(e));
}

void encoder_run_paced(encoder *e, const encoder_text *texts, int text_count,
                       void (*pace)(void *ctx), void *ctx)
{
    take_batch(e, texts, text_count);
    for (int u = 0; text_count > 0 && u < unit_count(e); u++) {
        pace(ctx);
        run_units(e, u, u + 1);
    }
}

static bool make_rope(encoder *e)
{
    const model_params *p = &e->w->params;
    int half = p->head_dim / 2;

    if (!floats_alloc(&e->rope, (size_t)p->context, (size_t)half * 2))
        return false;
    for (int pos = 0; pos < p->context; pos++)
        for (int i = 0; i < half; i++) {
            double angle =
                pos / (double)p->rope_scale * pow((double)p->rope_base, -2.0 * i / p->head_dim);
            float *cs = e->rope + ((size_t)pos * (size_t)half + (size_t)i) * 2;

            cs[0] = (float)cos(angle);
            cs[1] = (float)sin(angle);
        }
    return true;
}

static bool alloc_all(encoder *e)
{
    const model_params *p = &e->w->params;
    size_t tokens = (size_t)e->tokens_max, padded = (size_t)e->head_pad;
    int members = team_count(e->t);
    unsigned x = 0, att = 0, ff = 0;

    e->stride = pad_to((size_t)p->dim, KERNELS_ROWS);
    e->ids = sl_calloc(tokens, sizeof *e->ids);
    e->pos = sl_calloc(tokens, sizeof *e->pos);
    e->text_of = sl_calloc(tokens, sizeof *e->text_of);
    e->first_token = sl_calloc(tokens, sizeof *e->first_token);
    e->first_block = sl_calloc(tokens, sizeof *e->first_block);
    e->tasks = sl_calloc(tokens * (size_t)p->heads, sizeof *e->tasks);
    e->work = sl_calloc((size_t)p->layers, sizeof *e->work);
    e->scratch = sl_calloc((size_t)members, sizeof *e->scratch);
    e->head_bytes = kernels_kv_bytes(KERNELS_KV_F16, padded);
    /* A text of one token takes a whole block. */
    e->kv = sl_calloc(tokens * (size_t)p->heads, e->head_bytes);
    if (!e->ids || !e->pos || !e->text_of || !e->first_token || !e->first_block || !e->tasks ||
        !e->work || !e->scratch || !e->kv)
        return false;
    for (int i = 0; i < members; i++) {
        member_scratch *s = &e->scratch[i];

        s->mm_bytes = kernels_scratch_bytes(e->w->cols_max);
        s->mm = (matmul_ctx){ e->k, sl_aligned_alloc(s->mm_bytes), members };
        if (!s->mm.scratch || !attn_scratch_init(&s->attn, padded) ||
            !floats_alloc(&s->key, 1, padded) || !floats_alloc(&s->value, 1, padded))
            return false;
    }
    for (int i = 0; i < p->layers; i++) {
        const weights_layer *l = &e->w->layers[i];

        x |= qkv_kinds(e, l) | up_kinds(e, l);
        att |= act_bit(e->k, &l->o);
        ff |= act_bit(e->k, &l->down);
    }
    if (p->act == MODEL_SILU &&
        !floats_alloc(&e->up, tokens, pad_to((size_t)p->ff_dim, KERNELS_ROWS)))
        return false;
    if (p->rope != MODEL_ROPE_NONE && !make_rope(e))
        return false;
    return activations_alloc(&e->x, tokens, e->stride, x, true) &&
           activations_alloc(&e->att, tokens, e->stride, att, true) &&
           activations_alloc(&e->ff, tokens, pad_to((size_t)p->ff_dim, KERNELS_ROWS), ff, true) &&
           floats_alloc(&e->tmp, tokens, e->stride) && floats_alloc(&e->q, tokens, e->stride) &&
           floats_alloc(&e->kk, tokens, e->stride) && floats_alloc(&e->v, tokens, e->stride);
}

sl_status encoder_create(const weights *w, team *t, const kernels *k, int tokens_max, encoder **ret,
                         sl_err *err)
{
    encoder *e;

    if (!model_arch_encodes(w->params.arch))
        return sl_fail(err, SL_EINVAL, "this model generates text; it does not make embeddings");
    if (w->params.rope != MODEL_ROPE_NONE && w->params.rope_dim != w->params.head_dim)
        return sl_fail(err, SL_ENOTSUP, "model: rotations of %d of %d numbers of a head",
                       w->params.rope_dim, w->params.head_dim);
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
        attn_scratch_deinit(&e->scratch[i].attn);
        sl_aligned_free(e->scratch[i].mm.scratch, e->scratch[i].mm_bytes);
        sl_free(e->scratch[i].key);
        sl_free(e->scratch[i].value);
    }
    activations_free(&e->x);
    activations_free(&e->att);
    activations_free(&e->ff);
    void *owned[] = { e->scratch,     e->ids,   e->pos,  e->text_of, e->first_token,
                      e->first_block, e->tasks, e->kv,   e->tmp,     e->q,
                      e->kk,          e->v,     e->work, e->up,      e->rope };

    for (size_t i = 0; i < SL_COUNT_OF(owned); i++)
        sl_free(owned[i]);
    sl_free(e);
}
