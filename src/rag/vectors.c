/* vectors.c - vectors in memory as bytes, and the scan over them.
 *
 * A row is dim bytes around 128 with one factor; the query is bytes too, so that a row costs one
 * instruction per 64 dimensions and a quarter of the memory traffic of floats. What is lost is
 * about a thousandth of a cosine, and the caller scores the best again with floats. Rows lie in
 * slabs that never move. A block of 64 rows without an allowed one is not touched. */
#include "rag/vectors.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/mem.h"
#include "kernels/kernels.h"

#define SLAB_ROWS    4096
#define SLABS_MAX    (1 << 16) /* 268 million rows */
#define THREADS_MAX  4
#define THREAD_BYTES (24 * (size_t)SL_MIB) /* of a scan that pays for one more thread */

typedef struct slab {
    uint8_t *bytes;           /* [SLAB_ROWS, stride] */
    float factors[SLAB_ROWS]; /* score = factor * dot of bytes */
} slab;

typedef struct memory {
    size_t dim, stride; /* bytes of a row: dim rounded up to 64 */
    slab **slabs;
    size_t slab_count, slab_cap, count;
    kernels k;
    size_t threads;
} memory;

static void memory_destroy(void *ctx)
{
    memory *m = ctx;

    for (size_t i = 0; i < m->slab_count; i++) {
        sl_aligned_free(m->slabs[i]->bytes, SLAB_ROWS * m->stride);
        sl_free(m->slabs[i]);
    }
    sl_free(m->slabs);
    sl_free(m);
}

static sl_status add_slab(memory *m, sl_err *err)
{
    slab *s;

    if (!sl_grow((void **)&m->slabs, &m->slab_cap, m->slab_count + 1, sizeof *m->slabs, SLABS_MAX))
        return sl_fail(err, SL_ENOMEM, "%zu vectors need too much memory", m->count);
    s = sl_calloc(1, sizeof *s);
    if (s)
        s->bytes = sl_aligned_alloc(SLAB_ROWS * m->stride);
    if (!s || !s->bytes) {
        sl_free(s);
        return sl_fail(err, SL_ENOMEM, "%zu vectors need too much memory", m->count);
    }
    m->slabs[m->slab_count++] = s;
    return SL_OK;
}

/* v / factor, rounded, into out[dim]; returns the factor. */
static float quantize(const float *v, size_t dim, int8_t *out)
{
    float max = 0, factor;

    for (size_t i = 0; i < dim; i++)
        max = fmaxf(max, fabsf(v[i]));
    factor = max / 127.0f;
    for (size_t i = 0; i < dim; i++)
        out[i] = (int8_t)(factor > 0 ? lrintf(v[i] / factor) : 0);
    return factor;
}

static sl_status memory_put(void *ctx, size_t row, const float *v, sl_err *err)
{
    memory *m = ctx;
    uint8_t *bytes;

    SL_ASSERT(row <= m->count);
    while (row / SLAB_ROWS >= m->slab_count)
        SL_TRY(add_slab(m, err));
    m->count += row == m->count;
    bytes = m->slabs[row / SLAB_ROWS]->bytes + row % SLAB_ROWS * m->stride;
    m->slabs[row / SLAB_ROWS]->factors[row % SLAB_ROWS] = quantize(v, m->dim, (int8_t *)bytes);
    for (size_t i = 0; i < m->dim; i++)
        bytes[i] ^= 0x80;
    memset(bytes + m->dim, 0x80, m->stride - m->dim);
    return SL_OK;
}

static sl_status memory_move(void *ctx, size_t from, size_t to, sl_err *err)
{
    memory *m = ctx;
    slab *a = m->slabs[from / SLAB_ROWS], *b = m->slabs[to / SLAB_ROWS];

    (void)err;
    SL_ASSERT(to <= from && from < m->count);
    memmove(b->bytes + to % SLAB_ROWS * m->stride, a->bytes + from % SLAB_ROWS * m->stride,
            m->stride);
    b->factors[to % SLAB_ROWS] = a->factors[from % SLAB_ROWS];
    return SL_OK;
}

static void memory_truncate(void *ctx, size_t count)
{
    memory *m = ctx;

    m->count = SL_MIN(m->count, count);
}

/* ---- the scan ------------------------------------------------------------------------------ */

typedef struct scan {
    const memory *m;
    const int8_t *q;
    float factor;
    const uint64_t *allowed;
    size_t first, end; /* blocks of 64 rows */
    size_t k, count;
    vector_hit *heap; /* [k], the worst on top */
    double sum;
    size_t seen;
    pthread_t thread;
} scan;

/* Of two hits the one further down: a lower score, then the later row. */
static bool is_worse(const vector_hit *a, const vector_hit *b)
{
    return a->score < b->score || (a->score == b->score && a->row > b->row);
}

static void sift_down(scan *s, size_t at)
{
    vector_hit moving = s->heap[at];

    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= s->count)
            break;
        if (child + 1 < s->count && is_worse(&s->heap[child + 1], &s->heap[child]))
            child++;
        if (!is_worse(&s->heap[child], &moving))
            break;
        s->heap[at] = s->heap[child];
        at = child;
    }
    s->heap[at] = moving;
}

static void offer(scan *s, vector_hit hit)
{
    size_t at;

    if (s->count == s->k) {
        if (!is_worse(&s->heap[0], &hit))
            return;
        s->heap[0] = hit;
        sift_down(s, 0);
        return;
    }
    for (at = s->count++; at > 0 && is_worse(&hit, &s->heap[(at - 1) / 2]); at = (at - 1) / 2)
        s->heap[at] = s->heap[(at - 1) / 2];
    s->heap[at] = hit;
}

static void *scan_main(void *ctx)
{
    scan *s = ctx;
    const memory *m = s->m;
    int32_t dots[64];

    for (size_t block = s->first; block < s->end; block++) {
        size_t row = block * 64, n = SL_MIN((size_t)64, m->count - row);
        const slab *b = m->slabs[row / SLAB_ROWS];
        uint64_t bits = s->allowed[block];

        if (n < 64)
            bits &= ((uint64_t)1 << n) - 1;
        if (!bits)
            continue;
        m->k.scan_u8(b->bytes + row % SLAB_ROWS * m->stride, m->stride, n, s->q, dots);
        for (; bits; bits &= bits - 1) {
            size_t i = (size_t)__builtin_ctzll(bits);
            float score = (float)dots[i] * b->factors[row % SLAB_ROWS + i] * s->factor;

            s->sum += score;
            s->seen++;
            if (s->k && (s->count < s->k || score >= s->heap[0].score))
                offer(s, (vector_hit){ row + i, score });
        }
    }
    return NULL;
}

static int by_score(const void *a, const void *b)
{
    return is_worse(a, b) ? 1 : is_worse(b, a) ? -1 : 0;
}

/* Runs the scans, the first here, the others on threads of their own where they can be had. */
static void run_scans(scan *scans, size_t count)
{
    bool started[THREADS_MAX] = { false };

    for (size_t i = 1; i < count; i++)
        started[i] = pthread_create(&scans[i].thread, NULL, scan_main, &scans[i]) == 0;
    scan_main(&scans[0]);
    for (size_t i = 1; i < count; i++) {
        if (started[i])
            pthread_join(scans[i].thread, NULL);
        else
            scan_main(&scans[i]);
    }
}

static sl_status memory_search(void *ctx, const float *q, const uint64_t *allowed, size_t k,
                               vector_hit *out, size_t *ret_count, double *ret_mean, sl_err *err)
{
    memory *m = ctx;
    size_t blocks = (m->count + 63) / 64, seen = 0, total = 0;
    size_t threads = SL_MIN(m->threads, 1 + m->count * m->stride / THREAD_BYTES);
    int8_t *query = sl_calloc(1, m->stride);
    vector_hit *heaps = sl_calloc(threads * k + 1, sizeof *heaps);
    scan scans[THREADS_MAX];
    double sum = 0;
    float factor;

    if (!query || !heaps) {
        sl_free(query);
        sl_free(heaps);
        return sl_fail(err, SL_ENOMEM, "out of memory");
    }
    factor = quantize(q, m->dim, query);
    for (size_t i = 0; i < threads; i++)
        scans[i] = (scan){ .m = m,
                           .q = query,
                           .factor = factor,
                           .allowed = allowed,
                           .first = blocks * i / threads,
                           .end = blocks * (i + 1) / threads,
                           .k = k,
                           .heap = heaps + i * k };
    run_scans(scans, threads);
    for (size_t i = 0; i < threads; i++) {
        memmove(heaps + total, scans[i].heap, scans[i].count * sizeof *heaps);
        total += scans[i].count;
        sum += scans[i].sum;
        seen += scans[i].seen;
    }
    qsort(heaps, total, sizeof *heaps, by_score);
    *ret_count = SL_MIN(total, k);
    memcpy(out, heaps, *ret_count * sizeof *out);
    *ret_mean = seen ? sum / (double)seen : 0;
    sl_free(query);
    sl_free(heaps);
    return SL_OK;
}

static sl_status memory_score(void *ctx, const float *q, const size_t *rows, size_t count,
                              float *out, sl_err *err)
{
    memory *m = ctx;
    int8_t *query = sl_calloc(1, m->stride);
    float factor;

    if (!query)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    factor = quantize(q, m->dim, query);
    for (size_t i = 0; i < count; i++) {
        const slab *b = m->slabs[rows[i] / SLAB_ROWS];
        int32_t dot;

        m->k.scan_u8(b->bytes + rows[i] % SLAB_ROWS * m->stride, m->stride, 1, query, &dot);
        out[i] = (float)dot * b->factors[rows[i] % SLAB_ROWS] * factor;
    }
    sl_free(query);
    return SL_OK;
}

/* ---- lifetime ------------------------------------------------------------------------------ */

static const vectors_ops memory_ops = {
    .name = "memory",
    .destroy = memory_destroy,
    .put = memory_put,
    .move = memory_move,
    .truncate = memory_truncate,
    .search = memory_search,
    .score = memory_score,
};

sl_status vectors_memory(size_t dim, vector_set *ret, sl_err *err)
{
    memory *m = sl_calloc(1, sizeof *m);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    if (!m)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    m->dim = dim;
    m->stride = (dim + 63) / 64 * 64;
    m->threads = cpus < 1 ? 1 : SL_MIN((size_t)cpus, (size_t)THREADS_MAX);
    kernels_init(&m->k, kernels_cpu());
    *ret = (vector_set){ &memory_ops, m };
    return SL_OK;
}

void vectors_destroy(vector_set *v)
{
    if (v->ops)
        v->ops->destroy(v->ctx);
    *v = (vector_set){ 0 };
}
