/* matmul.c - products panel by panel. */
#include "engine/matmul.h"

#include "base/mem.h"
#include "base/os.h"

#define CHUNK_BYTES (32 * SL_KIB) /* less is not worth a trip to the shared counter */

bool floats_alloc(float **p, size_t count, size_t width)
{
    *p = sl_calloc(count, width * sizeof **p);
    return *p != NULL;
}

bool activations_alloc(activations *x, size_t tokens, size_t cols, unsigned kinds, bool floats)
{
    x->stride = pad_to(cols, KERNELS_BLOCK);
    if (kinds & 1u << KERNELS_ACT_Q8) {
        x->q = sl_calloc(tokens, x->stride / KERNELS_BLOCK * sizeof *x->q);
        if (!x->q)
            return false;
    }
    if (kinds & 1u << KERNELS_ACT_BF16) {
        x->b = sl_calloc(tokens, x->stride * sizeof *x->b);
        if (!x->b)
            return false;
    }
    return !(floats || kinds & 1u << KERNELS_ACT_F32) || floats_alloc(&x->f, tokens, x->stride);
}

void activations_free(activations *x)
{
    sl_free(x->f);
    sl_free(x->q);
    sl_free(x->b);
    *x = (activations){ 0 };
}

void activations_convert(const kernels *k, const activations *x, int t, const float *f, int col,
                         int cols, unsigned kinds)
{
    size_t at = (size_t)t * x->stride + (size_t)col;

    if (kinds & 1u << KERNELS_ACT_Q8)
        k->quantize_q8(f, (size_t)cols / KERNELS_BLOCK, x->q + at / KERNELS_BLOCK);
    if (kinds & 1u << KERNELS_ACT_BF16)
        k->f32_to_bf16(f, (size_t)cols, x->b + at);
    if (kinds & 1u << KERNELS_ACT_F32 && f != x->f + at)
        memcpy(x->f + at, f, (size_t)cols * sizeof *f);
}

void matmul_panel(const matmul_ctx *m, const weight *w, int p, const activations *x, int begin,
                  int end, float *out, size_t out_stride)
{
    size_t row = (size_t)begin, stride;
    const void *in;

    switch (m->k->act[w->fmt]) {
    case KERNELS_ACT_F32:
        in = x->f + row * x->stride;
        stride = x->stride * sizeof *x->f;
        break;
    case KERNELS_ACT_BF16:
        in = x->b + row * x->stride;
        stride = x->stride * sizeof *x->b;
        break;
    default:
        in = x->q + row * (x->stride / KERNELS_BLOCK);
        stride = x->stride / KERNELS_BLOCK * sizeof *x->q;
    }
    m->k->gemm[w->fmt](w->data + (size_t)p * w->panel_bytes, (size_t)w->cols, in, stride,
                       (size_t)(end - begin), out, out_stride, m->scratch);
    if (!w->bias)
        return;
    for (int t = 0; t < end - begin; t++)
        for (int r = 0; r < KERNELS_ROWS; r++)
            out[(size_t)t * out_stride + (size_t)r] += w->bias[p * KERNELS_ROWS + r];
}

int matmul_token_block(const kernels *k, const weight *w, int tokens)
{
    static const size_t elem_bits[KERNELS_ACT_COUNT] = { 32, 16,
                                                         8 * sizeof(kernels_q8) / KERNELS_BLOCK };
    size_t row = kernels_chunk_cols((size_t)w->cols) * elem_bits[k->act[w->fmt]] / 8;
    int fit = (int)(sl_cache2_bytes() * 2 / 3 / row) / 12 * 12, blocks;

    fit = SL_MAX(fit, 24);
    blocks = (tokens + fit - 1) / fit;
    return (tokens + blocks - 1) / blocks; /* blocks of about the same size */
}

int matmul_chunk(const weight *w)
{
    return (int)SL_MAX(CHUNK_BYTES / w->panel_bytes, 1);
}

void matmul_share(const matmul_ctx *m, work *next, const matmul_job *jobs, int job_count,
                  const activations *x, int tokens)
{
    int panels = 0, per_block, blocks, begin, end;

    if (tokens == 0)
        return;
    per_block = matmul_token_block(m->k, jobs[0].w, tokens);
    blocks = (tokens + per_block - 1) / per_block;
    for (int j = 0; j < job_count; j++)
        panels += jobs[j].w->panels;
    while (work_take(next, panels * blocks, matmul_chunk(jobs[0].w), m->members, &begin, &end))
        for (int item = begin; item < end; item++) {
            int t = item / panels * per_block, p = item % panels, j = 0;

            while (p >= jobs[j].w->panels)
                p -= jobs[j++].w->panels;
            matmul_panel(m, jobs[j].w, p, x, t, SL_MIN(t + per_block, tokens),
                         jobs[j].out + (size_t)t * jobs[j].out_stride + (size_t)p * KERNELS_ROWS,
                         jobs[j].out_stride);
        }
}
