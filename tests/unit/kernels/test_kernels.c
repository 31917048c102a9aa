/* test_kernels.c - every kernel of every level against the scalar reference, over tails, tiles,
 * worst-case values and unaligned starts, with canaries behind each output. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/kernels.h"
#include "kernels/kernels_int.h"

#define CANARY     12345.0f
#define COLS_MAX   1056
#define TOKENS_MAX 29

static uint64_t rng_state;

static uint32_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return (uint32_t)(rng_state >> 32);
}

static float rng_float(void)
{
    return (float)(int32_t)rng() * 0x1p-31f;
}

/* Type id, block, bytes, and where its half-precision scales stand. */
static const struct {
    const char *name;
    uint32_t id;
    size_t block, bytes;
    int halves[2];
} types[] = {
    { "F32", 0, 1, 4, { -1, -1 } },        { "F16", 1, 1, 2, { -1, -1 } },
    { "BF16", 30, 1, 2, { -1, -1 } },      { "Q4_0", 2, 32, 18, { 0, -1 } },
    { "Q4_1", 3, 32, 20, { 0, 2 } },       { "Q5_0", 6, 32, 22, { 0, -1 } },
    { "Q5_1", 7, 32, 24, { 0, 2 } },       { "Q8_0", 8, 32, 34, { 0, -1 } },
    { "Q2_K", 10, 256, 84, { 80, 82 } },   { "Q3_K", 11, 256, 110, { 108, -1 } },
    { "Q4_K", 12, 256, 144, { 0, 2 } },    { "Q5_K", 13, 256, 176, { 0, 2 } },
    { "Q6_K", 14, 256, 210, { 208, -1 } },
};
#define TYPE_COUNT (sizeof types / sizeof types[0])

/* A row of random file data; `worst` makes every quant and activation extreme. */
static void fill_rows(size_t type, uint8_t *rows, size_t bytes, int worst)
{
    for (size_t i = 0; i < bytes; i++)
        rows[i] = worst ? (uint8_t)(rng() & 1 ? 0xff : 0x80) : (uint8_t)rng();
    if (types[type].block == 1) {
        for (size_t i = 0; i < bytes / types[type].bytes; i++) {
            float f = rng_float();
            uint16_t h = types[type].id == 1 ? f32_f16(f) : (uint16_t)(f32_bits(f) >> 16);

            if (types[type].bytes == 4)
                memcpy(rows + i * 4, &f, 4);
            else
                memcpy(rows + i * 2, &h, 2);
        }
        return;
    }
    for (size_t i = 0; i < bytes / types[type].bytes; i++)
        for (int s = 0; s < 2; s++) {
            uint16_t h = f32_f16(rng_float() * 0.1f);

            if (types[type].halves[s] >= 0)
                memcpy(rows + i * types[type].bytes + types[type].halves[s], &h, 2);
        }
}

static kernels levels[4];
static int level_count;

/* Room for a panel's row of results, and some to see that nothing more is written. */
#define Y_STRIDE (KERNELS_ROWS + 3)

static void *scratch_for(size_t cols)
{
    return aligned_alloc(64, (kernels_scratch_bytes(cols) + 63) / 64 * 64);
}

/* Activations of one kind as the level's kernel wants them; exact: sums are not rounded to f16, so
 * that the packed form can be checked closely. */
static void *make_act(const kernels *k, kernels_fmt fmt, const float *x, size_t tokens, size_t cols,
                      size_t *ret_stride)
{
    size_t blocks = cols / 32;
    kernels_q8 *q;
    uint16_t *half;

    switch (k->act[fmt]) {
    case KERNELS_ACT_F32:
        *ret_stride = cols * sizeof *x;
        return memcpy(malloc(tokens * *ret_stride), x, tokens * *ret_stride);
    case KERNELS_ACT_BF16:
        *ret_stride = (cols + 1) / 2 * 4;
        half = calloc(tokens, *ret_stride);
        for (size_t t = 0; t < tokens; t++)
            k->f32_to_bf16(x + t * cols, cols, half + t * *ret_stride / 2);
        return half;
    default:
        *ret_stride = blocks * sizeof *q;
        q = malloc(tokens * *ret_stride);
        k->quantize_q8(x, tokens * blocks, q);
        for (size_t i = 0; i < tokens * blocks; i++)
            q[i].s = q[i].d * (float)-q[i].n;
        return q;
    }
}

/* Activation c of token t as the kernel sees it. */
static double act_at(const kernels *k, kernels_fmt fmt, const void *act, size_t stride, size_t t,
                     size_t c)
{
    const char *row = (const char *)act + t * stride;

    if (k->act[fmt] == KERNELS_ACT_F32)
        return (double)((const float *)(const void *)row)[c];
    if (k->act[fmt] == KERNELS_ACT_BF16)
        return (double)bits_f32((uint32_t)((const uint16_t *)(const void *)row)[c] << 16);
    const kernels_q8 *q = (const kernels_q8 *)(const void *)row + c / 32;

    return (double)q->d * q->q[c % 32];
}

/* One level against exact sums over the file's own numbers. */
static void check_level(const kernels *k, size_t type, const uint8_t *panel, const float *deq,
                        const float *x, size_t cols, size_t tokens, size_t rows)
{
    kernels_fmt fmt = (kernels_fmt)kernels_fmt_of(types[type].id);
    float got[TOKENS_MAX * Y_STRIDE];
    void *scratch = scratch_for(cols);
    size_t stride;
    void *act = make_act(k, fmt, x, tokens, cols, &stride);

    for (size_t i = 0; i < tokens * Y_STRIDE; i++)
        got[i] = CANARY;
    k->gemm[fmt](panel, cols, act, stride, tokens, got, Y_STRIDE, scratch);
    for (size_t t = 0; t < tokens; t++) {
        for (size_t r = 0; r < KERNELS_ROWS; r++) {
            double want = 0, mag = 0, bound;

            for (size_t c = 0; r < rows && c < cols; c++) {
                double w = (double)deq[r * cols + c], a = act_at(k, fmt, act, stride, t, c);

                want += w * a;
                mag += fabs(w * a) + fabs(w) * fabs((double)x[t * cols + c]);
            }
            /* Formats with a minimum sum two parts, each larger than their difference. */
            bound = (k == &levels[0] ? 2e-6 : 2e-5) * mag + 1e-4 * (k != &levels[0]) + 1e-6;
            if (fabs(want - (double)got[t * Y_STRIDE + r]) > bound)
                fail_msg("%s %s cols %zu tokens %zu token %zu row %zu: %g, exact %g", k->isa,
                         types[type].name, cols, tokens, t, r, (double)got[t * Y_STRIDE + r], want);
        }
        for (size_t r = KERNELS_ROWS; r < Y_STRIDE; r++)
            assert_true(got[t * Y_STRIDE + r] == CANARY);
    }
    /* Batch invariance: each token alone gives the same bits. */
    for (size_t t = 0; t < tokens; t++) {
        float alone[KERNELS_ROWS];

        k->gemm[fmt](panel, cols, (const char *)act + t * stride, stride, 1, alone, KERNELS_ROWS,
                     scratch);
        assert_memory_equal(alone, got + t * Y_STRIDE, sizeof alone);
    }
    free(act);
    free(scratch);
}

static void compare_gemm(size_t type, size_t cols, size_t tokens, size_t rows, int worst)
{
    size_t row_bytes = cols / types[type].block * types[type].bytes;
    kernels_fmt fmt = (kernels_fmt)kernels_fmt_of(types[type].id);
    size_t panel_bytes = kernels_panel_bytes(fmt, cols);
    uint8_t *data = malloc(row_bytes * KERNELS_ROWS + 1), *panel = malloc(panel_bytes + 1);
    float *x = malloc(tokens * cols * sizeof *x), *deq = malloc(KERNELS_ROWS * cols * sizeof *deq);

    fill_rows(type, data + 1, row_bytes * rows, worst);
    kernels_pack_panel(types[type].id, data + 1, row_bytes, rows, cols, panel + 1);
    for (size_t i = 0; i < tokens * cols; i++)
        x[i] = worst ? (rng() & 1 ? 100.0f : -100.0f) : rng_float();
    for (size_t r = 0; r < rows; r++)
        kernels_dequant(types[type].id, data + 1 + r * row_bytes, cols, deq + r * cols);
    for (int l = 0; l < level_count; l++)
        check_level(&levels[l], type, panel + 1, deq, x, cols, tokens, rows);
    free(data);
    free(panel);
    free(x);
    free(deq);
}

static void test_gemm(void **state)
{
    (void)state;
    for (size_t type = 0; type < TYPE_COUNT; type++)
        for (size_t n = 1; n <= 4; n++)
            for (size_t tokens = 1; tokens <= 14; tokens += 1 + (n > 2) * 2) {
                size_t unit = types[type].block == 1 ? 7 : types[type].block;

                compare_gemm(type, unit * n, tokens, n == 3 ? 5 : KERNELS_ROWS, 0);
                compare_gemm(type, unit * n, tokens, n == 3 ? 21 : KERNELS_ROWS, 1);
            }
}

/* Rows that are worked on in chunks: one and a bit, and two and a bit. */
static void test_gemm_in_chunks(void **state)
{
    static const size_t cols[] = { KERNELS_CHUNK_COLS + 256, 2 * KERNELS_CHUNK_COLS + 256 };
    static const size_t tokens[] = { 1, 5, 14, TOKENS_MAX };

    (void)state;
    for (size_t type = 0; type < TYPE_COUNT; type++)
        for (size_t c = 0; c < 2; c++)
            for (size_t t = 0; t < 4; t++) {
                compare_gemm(type, cols[c], tokens[t], t == 1 ? 21 : KERNELS_ROWS, 0);
                compare_gemm(type, cols[c], tokens[t], KERNELS_ROWS, 1);
            }
}

static void test_quantize(void **state)
{
    float x[32 * 5];
    kernels_q8 want[5], got[6];

    (void)state;
    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; i < 160; i++)
            x[i] = i < 32 ? 0 : rng_float() * powf(10.0f, (float)(round % 20 - 10));
        levels[0].quantize_q8(x, 5, want);
        for (int l = 1; l < level_count; l++) {
            memset(got, 0x55, sizeof got);
            levels[l].quantize_q8(x, 5, got);
            for (int b = 0; b < 5; b++) {
                assert_true(got[b].d == want[b].d);
                assert_memory_equal(got[b].q, want[b].q, 32);
                assert_true(got[b].s == want[b].s);
                assert_true(got[b].n == want[b].n && got[b].n0 == want[b].n0);
            }
            assert_int_equal(((unsigned char *)&got[5])[0], 0x55);
        }
    }
}

static void check_near(const float *want, const float *got, size_t n, double rel, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (fabs((double)want[i] - (double)got[i]) > rel * (fabs((double)want[i]) + 1))
            fail_msg("%s[%zu]: %g, reference %g", what, i, (double)got[i], (double)want[i]);
    assert_true(got[n] == CANARY);
}

static void test_elementwise(void **state)
{
    float x[101], w[101], b[101], want[102], got[102];

    (void)state;
    for (size_t n = 1; n <= 100; n++) {
        for (size_t i = 0; i < n; i++) {
            x[i] = rng_float() * (n % 3 ? 4 : 90);
            w[i] = rng_float();
            b[i] = rng_float();
        }
        for (int l = 1; l < level_count; l++) {
            const kernels *k = &levels[l];

            got[n] = want[n] = CANARY;
            levels[0].rmsnorm(want, x, w, n, 1e-5f);
            k->rmsnorm(got, x, w, n, 1e-5f);
            check_near(want, got, n, 2e-6, "rmsnorm");
            levels[0].layernorm(want, x, w, b, n, 1e-12f);
            k->layernorm(got, x, w, b, n, 1e-12f);
            check_near(want, got, n, n == 1 ? 1 : 1e-5, "layernorm");
            for (int up = 0; up < 2; up++) {
                memcpy(want, x, n * sizeof *x);
                memcpy(got, x, n * sizeof *x);
                levels[0].silu_mul(want, up ? w : NULL, n);
                k->silu_mul(got, up ? w : NULL, n);
                check_near(want, got, n, 2e-6, "silu");
                memcpy(want, x, n * sizeof *x);
                memcpy(got, x, n * sizeof *x);
                levels[0].gelu_tanh_mul(want, up ? w : NULL, n);
                k->gelu_tanh_mul(got, up ? w : NULL, n);
                check_near(want, got, n, 4e-6, "gelu");
                memcpy(want, x, n * sizeof *x);
                memcpy(got, x, n * sizeof *x);
                levels[0].gelu_erf_mul(want, up ? w : NULL, n);
                k->gelu_erf_mul(got, up ? w : NULL, n);
                check_near(want, got, n, 4e-6, "gelu_erf");
            }
        }
    }
}

static void test_f16(void **state)
{
    uint16_t want[40], got[40];
    float x[40];

    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        if ((h & 0x7fff) > 0x7c00)
            continue; /* NaN */
        assert_int_equal(kernels_f32_to_f16(kernels_f16_to_f32((uint16_t)h)), h);
    }
    for (int round = 0; round < 5000; round++) {
        for (size_t i = 0; i < 37; i++)
            x[i] = rng_float() * powf(2.0f, (float)(int)(rng() % 44) - 26);
        levels[0].f32_to_f16(x, 37, want);
        for (int l = 1; l < level_count; l++) {
            levels[l].f32_to_f16(x, 37, got);
            assert_memory_equal(want, got, 37 * sizeof *want);
        }
    }
}

/* ---- attention ------------------------------------------------------------------------------ */

enum { HD_MAX = 128, BLOCKS = 11, QUERIES = 9 };

typedef struct attn_case {
    kernels_attn a;
    kernels_attn_fn fn;
    uint8_t kv[BLOCKS][2 * HD_MAX * KERNELS_KV_TOKENS * 2];
    const void *blocks[BLOCKS];
    float q[QUERIES * HD_MAX], out[QUERIES * HD_MAX + 1], max[QUERIES], sum[QUERIES];
    float scratch[QUERIES * (64 + HD_MAX / 2)];
    int32_t pos[QUERIES], first[QUERIES];
} attn_case;

/* Random, and exact in BF16. */
static float rng_bf16(void)
{
    return (float)((int)(rng() % 255) - 127) / 128.0f;
}

/* Random keys, values and queries; what nobody may see is not a number. */
static void fill_attn(attn_case *c, const kernels *k, kernels_kv kv, size_t hd, int round)
{
    int32_t last = 0;

    assert_true(kernels_attn_scratch(QUERIES, hd) <= sizeof c->scratch / sizeof c->scratch[0]);
    c->fn = k->attn[kv];

    for (int i = 0; i < QUERIES; i++) {
        c->pos[i] = (int32_t)(rng() % (BLOCKS * 16));
        c->first[i] = round % 2 ? 0 : (int32_t)(rng() % ((uint32_t)c->pos[i] + 1));
        last = c->pos[i] > last ? c->pos[i] : last;
    }
    memset(c->kv, 0xff, sizeof c->kv);
    for (int32_t p = 0; p <= last; p++) {
        float key[HD_MAX], value[HD_MAX];

        for (size_t d = 0; d < hd; d++) {
            key[d] = rng_bf16() * 2;
            value[d] = rng_bf16() * 2;
        }
        k->kv_store[kv](c->kv[p / 16], hd, (size_t)p % 16, key, value);
    }
    for (size_t b = 0; b < BLOCKS; b++)
        c->blocks[b] = c->kv[b];
    for (size_t i = 0; i < QUERIES * hd; i++)
        c->q[i] = rng_bf16();
    c->a = (kernels_attn){ .q = c->q,
                           .out = c->out,
                           .max = c->max,
                           .sum = c->sum,
                           .pos = c->pos,
                           .first = c->first,
                           .query_count = QUERIES,
                           .head_dim = hd,
                           .blocks = c->blocks,
                           .block_count = BLOCKS,
                           .softcap = round % 3 ? 0 : 30.0f,
                           .scratch = c->scratch };
}

/* Runs blocks [from, to) for queries [i, i + n) of c. */
static void run_attn(const attn_case *c, int from, int to, int i, int n, float *out, float *max,
                     float *sum)
{
    kernels_attn a = c->a;

    a.q += (size_t)i * a.head_dim;
    a.pos += i;
    a.first += i;
    a.query_count = (size_t)n;
    a.blocks += from;
    a.block_first = from;
    a.block_count = to - from;
    a.out = out;
    a.max = max;
    a.sum = sum;
    c->fn(&a);
}

/* The whole against the reference; any number of queries, each alone, and each cut at a group's
 * edge gives its bits. tolerance: what rounded weights cost. */
static void check_attn(attn_case *c, const kernels *k, const float *want, const float *want_sum,
                       double tolerance)
{
    size_t hd = c->a.head_dim;
    float some[QUERIES * HD_MAX], some_max[QUERIES], some_sum[QUERIES];

    c->out[QUERIES * hd] = CANARY;
    run_attn(c, 0, BLOCKS, 0, QUERIES, c->out, c->max, c->sum);
    assert_true(c->out[QUERIES * hd] == CANARY);
    for (int n = 2; n < QUERIES; n++) {
        run_attn(c, 0, BLOCKS, 0, n, some, some_max, some_sum);
        assert_memory_equal(some, c->out, (size_t)n * hd * sizeof *some);
        assert_memory_equal(some_sum, c->sum, (size_t)n * sizeof *some_sum);
    }
    for (int i = 0; i < QUERIES; i++) {
        float alone[HD_MAX + 1], part[HD_MAX], max, sum, part_max, part_sum;
        int from = c->first[i] / 64 * 4, to = c->pos[i] / 16 + 1;

        for (size_t d = 0; d < hd; d++) {
            double a = (double)want[(size_t)i * hd + d] / (double)want_sum[i];
            double b = (double)c->out[(size_t)i * hd + d] / (double)c->sum[i];

            if (fabs(a - b) > tolerance)
                fail_msg("%s attention, head %zu, query %d: %g, reference %g", k->isa, hd, i, b, a);
        }
        run_attn(c, from, to, i, 1, alone, &max, &sum);
        assert_memory_equal(alone, c->out + (size_t)i * hd, hd * sizeof *alone);
        assert_true(max == c->max[i] && sum == c->sum[i]);
        if (to - from <= KERNELS_KV_GROUP)
            continue;
        /* In two parts: close to the whole; which part is computed with whom changes nothing. */
        run_attn(c, from, from + 4, i, 1, alone, &max, &sum);
        run_attn(c, from + 4, to, i, 1, part, &part_max, &part_sum);
        k->attn_merge(alone, &max, &sum, part, part_max, part_sum, hd);
        for (size_t d = 0; d < hd; d++)
            assert_true(fabsf(alone[d] / sum - c->out[(size_t)i * hd + d] / c->sum[i]) <=
                        (float)tolerance / 2);
    }
}

static void test_attn(void **state)
{
    static attn_case c;
    static float want[QUERIES * HD_MAX], want_max[QUERIES], want_sum[QUERIES];
    const size_t dims[] = { 16, 48, 64, 128, 96 };

    (void)state;
    for (int round = 0; round < 60; round++) {
        size_t hd = dims[round % 5];

        for (int l = 1; l < level_count; l++)
            for (int kv = 0; kv < KERNELS_KV_COUNT; kv++) {
                bool rounded = kv == KERNELS_KV_BF16 && levels[l].has_bf16_pairs;

                if (kv == KERNELS_KV_Q8_0 && hd % KERNELS_BLOCK != 0)
                    continue;
                fill_attn(&c, &levels[l], (kernels_kv)kv, hd, round / 2);
                c.fn = levels[0].attn[kv];
                run_attn(&c, 0, BLOCKS, 0, QUERIES, want, want_max, want_sum);
                c.fn = levels[l].attn[kv];
                check_attn(&c, &levels[l], want, want_sum, rounded ? 2.0 / 256 : 2e-5);
            }
    }
}

/* Keys and values come back as they were stored, to half precision, 1/127 of their block or 8
 * bits. */
static void test_kv_store(void **state)
{
    static attn_case c;

    (void)state;
    for (int l = 0; l < level_count; l++)
        for (int kv = 0; kv < KERNELS_KV_COUNT; kv++) {
            const float worst[] = { 0.0006f, 0.006f, 0.005f };
            float key[64], value[64], out[64], max, sum;

            memset(&c, 0, sizeof c);
            fill_attn(&c, &levels[l], (kernels_kv)kv, 64, 1);
            for (size_t d = 0; d < 64; d++) {
                key[d] = rng_float();
                value[d] = rng_float();
            }
            levels[l].kv_store[kv](c.kv[0], 64, 0, key, value);
            c.pos[0] = c.first[0] = 0; /* one key: its value is the result */
            run_attn(&c, 0, 1, 0, 1, out, &max, &sum);
            assert_true(fabsf(sum - 1.0f) < 1e-5f);
            for (size_t d = 0; d < 64; d++)
                assert_true(fabsf(out[d] - value[d]) <= worst[kv]);
        }
}

/* ---- logits --------------------------------------------------------------------------------- */

static void test_logits(void **state)
{
    static float x[5000];
    static int32_t want[5000], got[5000];

    (void)state;
    for (int round = 0; round < 300; round++) {
        size_t n = 1 + rng() % (round % 10 ? 200 : 5000);
        float floor = rng_float(), max;

        for (size_t i = 0; i < n; i++)
            x[i] = round % 4 ? rng_float() * 4 : (float)(rng() % 5);
        max = x[levels[0].argmax(x, n)];
        for (int l = 1; l < level_count; l++) {
            const kernels *k = &levels[l];
            double sum = levels[0].sum_exp(x, n, max, round % 2 ? floor : -INFINITY);
            size_t count = levels[0].above(x, n, floor, want);

            assert_int_equal(k->argmax(x, n), levels[0].argmax(x, n));
            assert_true(fabs(k->sum_exp(x, n, max, round % 2 ? floor : -INFINITY) - sum) <=
                        1e-5 * sum);
            assert_int_equal(k->above(x, n, floor, got), count);
            assert_memory_equal(got, want, count * sizeof *got);
        }
    }
}

/* ---- searching ------------------------------------------------------------------------------ */

static void test_scan(void **state)
{
    static uint8_t rows[9 * 1024 + 1];
    static int8_t q[1024 + 1];
    int32_t want[9], got[11];

    (void)state;
    for (size_t cols = 64; cols <= 1024; cols += 64)
        for (int round = 0; round < 12; round++) {
            size_t count = rng() % 10;

            for (size_t i = 0; i < sizeof rows;
                 i++) /* the ends of the range in every third round */
                rows[i] = (uint8_t)(round % 3 ? rng() : rng() % 2 * 255);
            for (size_t i = 0; i < sizeof q; i++)
                q[i] = (int8_t)(round % 3 ? rng() : 127 + rng() % 2);
            for (size_t i = 0; i < count; i++) {
                want[i] = 0;
                for (size_t c = 0; c < cols; c++)
                    want[i] += (rows[1 + i * cols + c] - 128) * q[1 + c];
            }
            for (int l = 0; l < level_count; l++) {
                memset(got, 0x5a, sizeof got);
                levels[l].scan_u8(rows + 1, cols, count, q + 1, got + 1);
                assert_memory_equal(got + 1, want, count * sizeof *want);
                assert_int_equal(got[0], 0x5a5a5a5a);
                assert_int_equal(got[count + 1], 0x5a5a5a5a);
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemm),     cmocka_unit_test(test_gemm_in_chunks),
        cmocka_unit_test(test_quantize), cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_f16),      cmocka_unit_test(test_attn),
        cmocka_unit_test(test_kv_store), cmocka_unit_test(test_logits),
        cmocka_unit_test(test_scan),
    };
    const char *seed = getenv("SLUICE_TEST_SEED");
    unsigned cpu = kernels_cpu();

    rng_state = seed ? strtoull(seed, NULL, 10) | 1 : 88172645463325252ULL;
    kernels_init(&levels[level_count++], 0);
#ifdef TEST_EMULATED_AVX512
    kernels_init_ref(&levels[level_count]);
    kernels_init_avx512(&levels[level_count++]);
    levels[1].quantize_q8 = levels[0].quantize_q8;
    (void)cpu;
#else
    if (cpu & KERNELS_CPU_AVX2)
        kernels_init(&levels[level_count++], KERNELS_CPU_AVX2);
    if (cpu & KERNELS_CPU_AVX512)
        kernels_init(&levels[level_count++], KERNELS_CPU_AVX2 | KERNELS_CPU_AVX512);
    if (cpu & KERNELS_CPU_BF16)
        kernels_init(&levels[level_count++], cpu);
#endif
    printf("# seed %llu, levels:", (unsigned long long)rng_state);
    for (int l = 0; l < level_count; l++)
        printf(" %s", levels[l].isa);
    printf("\n");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
