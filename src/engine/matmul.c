/* matmul.c - shares panels among members. A panel is computed by one member for all tokens, so its
 * values do not depend on how many members there are. */
#include "engine/matmul.h"

#include "base/mem.h"

bool floats_alloc(float **p, size_t count, size_t width)
{
    *p = sl_calloc(count, width * sizeof **p);
    return *p != NULL;
}

bool activations_alloc(activations *x, size_t tokens, size_t cols)
{
    x->stride = pad_to(cols, KERNELS_BLOCK);
    x->q = sl_calloc(tokens, x->stride / KERNELS_BLOCK * sizeof *x->q);
    return x->q && floats_alloc(&x->f, tokens, x->stride);
}

void matmul_panel(const kernels *k, const weight *w, int p, const activations *x, int begin,
                  int end, float *out, size_t out_stride)
{
    size_t row = (size_t)begin;
    bool q8 = w->fmt > KERNELS_BF16;
    const void *in = q8 ? (const void *)(x->q + row * (x->stride / KERNELS_BLOCK))
                        : (const void *)(x->f + row * x->stride);
    size_t in_stride = q8 ? x->stride / KERNELS_BLOCK * sizeof *x->q : x->stride * sizeof *x->f;

    k->gemm[w->fmt](w->data + (size_t)p * w->panel_bytes, (size_t)w->cols, in, in_stride,
                    (size_t)(end - begin), out, out_stride);
    if (!w->bias)
        return;
    for (int t = 0; t < end - begin; t++)
        for (int r = 0; r < KERNELS_ROWS; r++)
            out[(size_t)t * out_stride + (size_t)r] += w->bias[p * KERNELS_ROWS + r];
}

void matmul_share(const kernels *k, const matmul_job *jobs, int job_count, const activations *x,
                  int tokens, int member, int count)
{
    int total = 0, begin, end;

    for (int j = 0; j < job_count; j++)
        total += jobs[j].w->panels;
    team_share(total, member, count, &begin, &end);
    for (int t = 0; t < tokens; t += MATMUL_TOKENS) {
        int t_end = SL_MIN(t + MATMUL_TOKENS, tokens), base = 0;

        for (int j = 0; j < job_count; j++) {
            const matmul_job *job = &jobs[j];
            int from = SL_MAX(begin - base, 0), to = SL_MIN(end - base, job->w->panels);

            for (int p = from; p < to; p++)
                matmul_panel(k, job->w, p, x, t, t_end,
                             job->out + (size_t)t * job->out_stride + (size_t)p * KERNELS_ROWS,
                             job->out_stride);
            base += job->w->panels;
        }
    }
}
