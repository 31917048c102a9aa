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
#define TOKENS_MAX 11

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

static kernels levels[3];
static int level_count;

static void compare_gemm(size_t type, size_t cols, size_t tokens, size_t rows, int worst)
{
    size_t row_bytes = cols / types[type].block * types[type].bytes;
    kernels_fmt fmt = (kernels_fmt)kernels_fmt_of(types[type].id);
    size_t panel_bytes = kernels_panel_bytes(fmt, cols);
    uint8_t *data = malloc(row_bytes * 16 + 1), *panel = malloc(panel_bytes + 1);
    float *x = malloc(tokens * cols * sizeof *x), *deq = malloc(16 * cols * sizeof *deq);
    kernels_q8 *q = malloc(tokens * (cols / 32 + 1) * sizeof *q);
    float want[TOKENS_MAX * 19], got[TOKENS_MAX * 19];
    const void *act = fmt <= KERNELS_BF16 ? (void *)x : (void *)q;
    size_t stride = fmt <= KERNELS_BF16 ? cols * sizeof *x : cols / 32 * sizeof *q;

    fill_rows(type, data + 1, row_bytes * rows, worst);
    kernels_pack_panel(types[type].id, data + 1, row_bytes, rows, cols, panel + 1);
    for (size_t i = 0; i < tokens * cols; i++)
        x[i] = worst ? (rng() & 1 ? 100.0f : -100.0f) : rng_float();
    levels[0].quantize_q8(x, tokens * cols / 32, q);
    for (size_t i = 0; i < tokens * cols / 32; i++)
        q[i].s = q[i].h[0] + q[i].h[1]; /* exact, so that the packed form can be checked closely */
    levels[0].gemm[fmt](panel + 1, cols, act, stride, tokens, want, 19);

    /* The packed form must say what the file says. */
    for (size_t r = 0; r < rows; r++)
        kernels_dequant(types[type].id, data + 1 + r * row_bytes, cols, deq + r * cols);
    for (size_t t = 0; t < tokens; t++)
        for (size_t r = 0; r < 16; r++) {
            double sum = 0, mag = 0;

            for (size_t c = 0; r < rows && c < cols; c++) {
                double a = fmt <= KERNELS_BF16 ? (double)x[t * cols + c]
                                               : (double)q[(t * cols + c) / 32].d *
                                                     q[(t * cols + c) / 32].q[c % 32];

                sum += (double)deq[r * cols + c] * a;
                mag += fabs((double)deq[r * cols + c] * a);
            }
            assert_true(fabs(sum - (double)want[t * 19 + r]) <= 2e-6 * mag + 1e-6);
        }

    for (int l = 1; l < level_count; l++) {
        for (size_t i = 0; i < tokens * 19; i++)
            got[i] = CANARY;
        levels[l].gemm[fmt](panel + 1, cols, act, stride, tokens, got, 19);
        for (size_t t = 0; t < tokens; t++) {
            for (size_t r = 0; r < 16; r++) {
                double mag = 0;

                for (size_t c = 0; r < rows && c < cols; c++)
                    mag += fabs((double)deq[r * cols + c] * (double)x[t * cols + c]);
                /* Q-formats sum a scale and an offset part, each larger than their difference. */
                if (fabs((double)want[t * 19 + r] - (double)got[t * 19 + r]) >
                    1e-5 * mag * 4 + 1e-4)
                    fail_msg("%s %s cols %zu tokens %zu row %zu: %g, reference %g", levels[l].isa,
                             types[type].name, cols, tokens, r, (double)got[t * 19 + r],
                             (double)want[t * 19 + r]);
            }
            for (size_t r = 16; r < 19; r++)
                assert_true(got[t * 19 + r] == CANARY);
        }
        /* Batch invariance: each token alone gives the same bits. */
        for (size_t t = 0; t < tokens; t++) {
            float alone[16];

            levels[l].gemm[fmt](panel + 1, cols, (const char *)act + t * stride, stride, 1, alone,
                                16);
            assert_memory_equal(alone, got + t * 19, sizeof alone);
        }
    }
    free(data);
    free(panel);
    free(x);
    free(deq);
    free(q);
}

static void test_gemm(void **state)
{
    (void)state;
    for (size_t type = 0; type < TYPE_COUNT; type++)
        for (size_t n = 1; n <= 4; n++)
            for (size_t tokens = 1; tokens <= TOKENS_MAX; tokens += 1 + (n > 2) * 2) {
                size_t unit = types[type].block == 1 ? 7 : types[type].block;

                compare_gemm(type, unit * n, tokens, n == 3 ? 5 : 16, 0);
                compare_gemm(type, unit * n, tokens, 16, 1);
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
                assert_true(got[b].h[0] == want[b].h[0] && got[b].h[1] == want[b].h[1]);
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

/* Attention over a few blocks, causal and windowed, in tiles of any size. */
static void test_attn(void **state)
{
    enum { HD = 48, BLOCKS = 5, QUERIES = 7 };
    static uint16_t kv[BLOCKS][HD * 32];
    const uint16_t *blocks[BLOCKS];
    float q[QUERIES * HD], want[QUERIES * HD], got[QUERIES * HD + 1], alone[HD];
    float scratch[QUERIES * 18];
    int32_t pos[QUERIES], first[QUERIES];

    (void)state;
    for (int round = 0; round < 60; round++) {
        for (size_t b = 0; b < BLOCKS; b++) {
            blocks[b] = kv[b];
            for (size_t i = 0; i < HD * 32; i++)
                kv[b][i] = f32_f16(rng_float() * 2);
        }
        for (size_t i = 0; i < QUERIES * HD; i++)
            q[i] = rng_float();
        for (int i = 0; i < QUERIES; i++) {
            pos[i] = (int32_t)(rng() % (BLOCKS * 16));
            first[i] = round % 2 ? 0 : (int32_t)(rng() % ((uint32_t)pos[i] + 1));
        }
        kernels_attn a = { .q = q,
                           .out = want,
                           .pos = pos,
                           .first = first,
                           .query_count = QUERIES,
                           .head_dim = HD,
                           .blocks = blocks,
                           .block_count = BLOCKS,
                           .softcap = round % 3 ? 0 : 30.0f,
                           .scratch = scratch };
        levels[0].attn(&a);
        for (int l = 1; l < level_count; l++) {
            got[QUERIES * HD] = CANARY;
            a.out = got;
            levels[l].attn(&a);
            check_near(want, got, QUERIES * HD, 2e-5, "attention");
            for (int i = 0; i < QUERIES; i++) { /* alone, and only with the blocks it can see */
                kernels_attn one = a;

                one.q = q + i * HD;
                one.out = alone;
                one.pos = pos + i;
                one.first = first + i;
                one.query_count = 1;
                one.block_first = first[i] / 16;
                one.blocks = blocks + one.block_first;
                one.block_count = pos[i] / 16 - one.block_first + 1;
                levels[l].attn(&one);
                assert_memory_equal(alone, got + i * HD, sizeof alone);
            }
        }
        a.out = want;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemm),        cmocka_unit_test(test_quantize),
        cmocka_unit_test(test_elementwise), cmocka_unit_test(test_f16),
        cmocka_unit_test(test_attn),
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
        kernels_init(&levels[level_count++], cpu);
#endif
    printf("# seed %llu, levels:", (unsigned long long)rng_state);
    for (int l = 0; l < level_count; l++)
        printf(" %s", levels[l].isa);
    printf("\n");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
