/* test_kv.c - the block pool: names, sharing, eviction. */
#include "tests_engine.h"

#define SEQS      6
#define LEN_MAX   400
#define BLOCK     SL_KV_BLOCK_TOKENS
#define TOKEN_MAX 3 /* few, so that texts begin alike */

static const kv_shape shape = { .layers = 2, .kv_heads = 3, .head_dim = 16 };

static kv_pool *make_window_pool(kv_shape s, int blocks, int local_max)
{
    kv_pool *pool = NULL;
    sl_err err;

    assert_int_equal(
        kv_pool_create(s, kv_bytes(s, (size_t)blocks, local_max), local_max, &pool, &err), SL_OK);
    assert_int_equal(pool->full.count, blocks);
    return pool;
}

static kv_pool *make_pool(int blocks)
{
    return make_window_pool(shape, blocks, 0);
}

static void init(kv_seq *s, uint64_t root)
{
    sl_err err;

    assert_int_equal(kv_seq_init(s, LEN_MAX, root, &err), SL_OK);
}

/* As if tokens up to len had been computed. */
static void compute(kv_pool *pool, kv_seq *s, const int32_t *tokens, int len)
{
    assert_true(kv_seq_reserve(pool, s, len));
    s->len = len;
    kv_seq_publish(pool, s, tokens);
}

static int peek(const kv_pool *pool, uint64_t root, const int32_t *tokens, int count, int *ret_free)
{
    kv_seq s;
    int len;

    init(&s, root);
    len = kv_seq_peek(pool, &s, tokens, count, ret_free);
    sl_free(s.blocks);
    return len;
}

/* Tokens from `first` on, all different. */
static void fill(int32_t *tokens, int count, int32_t first)
{
    for (int i = 0; i < count; i++)
        tokens[i] = first + i;
}

static void test_match(void **state)
{
    kv_pool *pool = make_pool(20);
    uint64_t root = kv_pool_root(pool, "a");
    int32_t tokens[64];
    kv_seq a, b;
    int unheld;

    (void)state;
    fill(tokens, 64, 0);
    init(&a, root);
    init(&b, root);
    assert_int_equal(peek(pool, root, tokens, 64, &unheld), 0);
    compute(pool, &a, tokens, 40);
    assert_int_equal(a.named, 2); /* only full blocks have names */
    assert_int_equal(peek(pool, root, tokens, 64, &unheld), 32);
    assert_int_equal(unheld, 0);
    assert_int_equal(peek(pool, root, tokens, 33, &unheld), 32);
    assert_int_equal(peek(pool, root, tokens, 32, &unheld), 16); /* a token is left to compute */
    assert_int_equal(peek(pool, root, tokens, 16, &unheld), 0);
    tokens[16] = 99; /* the second block is another */
    assert_int_equal(peek(pool, root, tokens, 64, &unheld), 16);
    tokens[0] = 98; /* the second block may be right, but not behind this first one */
    tokens[16] = 16;
    assert_int_equal(peek(pool, root, tokens, 64, &unheld), 0);
    tokens[0] = 0;
    assert_int_equal(kv_seq_match(pool, &b, tokens, 64), 32);
    assert_true(b.blocks[0] == a.blocks[0] && b.blocks[1] == a.blocks[1]);
    assert_int_equal(kv_seq_own(pool, &a), 1);
    assert_int_equal(kv_seq_own(pool, &b), 0);
    assert_int_equal(pool->full.free_count, 17);
    kv_seq_clear(pool, &a);
    assert_int_equal(kv_seq_own(pool, &b), 2);
    compute(pool, &b, tokens, 48); /* goes on where a was */
    kv_seq_clear(pool, &b);
    assert_int_equal(pool->full.free_count, 20);
    assert_int_equal(peek(pool, root, tokens, 64, &unheld), 48);
    assert_int_equal(unheld, 3);
    kv_seq_deinit(pool, &a);
    kv_seq_deinit(pool, &b);
    kv_pool_destroy(pool);
}

static void test_tenants_do_not_share(void **state)
{
    kv_pool *pool = make_pool(8);
    uint64_t a = kv_pool_root(pool, "a"), b = kv_pool_root(pool, "b");
    int32_t tokens[64];
    kv_seq s, none;
    int unheld;

    (void)state;
    fill(tokens, 64, 0);
    assert_true(a != b && a && b);
    assert_true(kv_pool_root(pool, "a") == a);
    for (int i = 0; i < 5000; i++) { /* a stream of salts does not end the caching of others */
        char salt[16];

        snprintf(salt, sizeof salt, "salt%d", i);
        assert_true(kv_pool_root(pool, salt) > b);
        assert_true(kv_pool_root(pool, "a") == a);
    }
    assert_true(kv_pool_root(pool, "b") > b); /* was forgotten: shares nothing with before */
    init(&s, a);
    init(&none, 0);
    compute(pool, &none, tokens, 40); /* publishes nothing */
    assert_int_equal(none.named, 0);
    compute(pool, &s, tokens, 40);
    assert_int_equal(peek(pool, b, tokens, 64, &unheld), 0);
    assert_int_equal(peek(pool, 0, tokens, 64, &unheld), 0);
    assert_int_equal(peek(pool, a, tokens, 64, &unheld), 32);
    kv_seq_deinit(pool, &s);
    kv_seq_deinit(pool, &none);
    kv_pool_destroy(pool);
}

/* What is not published goes first; then who ended longest ago, his end before his beginning. */
static void test_eviction_order(void **state)
{
    kv_pool *pool = make_pool(7);
    uint64_t root = kv_pool_root(pool, "");
    int32_t a[64], b[64];
    kv_seq s, taker;
    int unheld;
    static const int left[][2] = { { 48, 32 }, { 48, 32 }, { 32, 32 }, { 16, 32 },
                                   { 0, 32 },  { 0, 16 },  { 0, 0 } };

    (void)state;
    fill(a, 64, 0);
    fill(b, 64, 100);
    init(&s, root);
    init(&taker, 0);
    compute(pool, &s, b, 33);
    kv_seq_clear(pool, &s);
    compute(pool, &s, a, 48);
    kv_seq_clear(pool, &s);
    /* b is used again: now it is the younger. */
    assert_int_equal(kv_seq_match(pool, &s, b, 64), 32);
    kv_seq_clear(pool, &s);
    for (int i = 0; i < 7; i++) {
        assert_true(kv_seq_reserve(pool, &taker, (i + 1) * BLOCK));
        assert_int_equal(peek(pool, root, a, 64, &unheld), left[i][0]);
        assert_int_equal(peek(pool, root, b, 64, &unheld), left[i][1]);
    }
    assert_false(kv_seq_reserve(pool, &taker, 8 * BLOCK));
    assert_int_equal(taker.block_count, 7);
    kv_seq_deinit(pool, &taker);
    kv_seq_deinit(pool, &s);
    kv_pool_destroy(pool);
}

/* Two compute the same at the same time: one block has the name, and what follows either is found.
 */
static void test_twins(void **state)
{
    kv_pool *pool = make_pool(12);
    uint64_t root = kv_pool_root(pool, "");
    int32_t tokens[80];
    kv_seq a, b;
    int unheld;

    (void)state;
    fill(tokens, 80, 0);
    init(&a, root);
    init(&b, root);
    assert_true(kv_seq_reserve(pool, &a, 33) && kv_seq_reserve(pool, &b, 65));
    a.len = 33;
    b.len = 65;
    kv_seq_publish(pool, &a, tokens);
    kv_seq_publish(pool, &b, tokens);
    assert_true(pool->full.blocks[b.blocks[0]].id == 0 && pool->full.blocks[b.blocks[1]].id == 0);
    assert_int_equal(b.named, 4);
    assert_int_equal(peek(pool, root, tokens, 80, &unheld), 64); /* a's two, then b's two */
    kv_seq_clear(pool, &b);
    assert_int_equal(peek(pool, root, tokens, 80, &unheld), 64);
    assert_int_equal(unheld, 2);
    kv_seq_deinit(pool, &a);
    kv_seq_deinit(pool, &b);
    assert_int_equal(pool->full.free_count, 12);
    kv_pool_destroy(pool);
}

/* Wrong guesses are forgotten, and the room is used for what was right. */
static void test_truncate(void **state)
{
    kv_pool *pool = make_pool(8);
    uint64_t root = kv_pool_root(pool, "");
    int32_t tokens[64];
    kv_seq s;
    int unheld;

    (void)state;
    fill(tokens, 64, 0);
    init(&s, root);
    compute(pool, &s, tokens, 30);
    assert_true(kv_seq_reserve(pool, &s, 36));
    s.len = 36; /* six guesses, two of them right */
    kv_seq_truncate(&s, 32);
    assert_int_equal(s.block_count, 3);
    kv_seq_publish(pool, &s, tokens);
    assert_int_equal(s.named, 2);
    tokens[32] = 77;
    assert_int_equal(kv_seq_missing(&s, 48), 0);
    compute(pool, &s, tokens, 48);
    assert_int_equal(peek(pool, root, tokens, 64, &unheld), 48);
    kv_seq_truncate(&s, 48);
    kv_seq_deinit(pool, &s);
    kv_pool_destroy(pool);
}

/* Local blocks come back as they leave the window, and a text is found again as far as the window
 * behind its end is there. */
static void test_window(void **state)
{
    const kv_shape s40 = { .layers = 4, .kv_heads = 1, .head_dim = 16, .window = 40, .pattern = 2 };
    int local_max = kv_local_max(s40, 1, BLOCK), unheld;
    kv_pool *pool = make_window_pool(s40, 40, local_max);
    uint64_t root = kv_pool_root(pool, "");
    int32_t tokens[LEN_MAX], other[LEN_MAX];
    kv_seq s;

    (void)state;
    fill(tokens, LEN_MAX, 0);
    fill(other, LEN_MAX, 1000);
    init(&s, root);
    for (int len = BLOCK; len <= 320; len += BLOCK)
        compute(pool, &s, tokens, len);
    assert_int_equal(s.block_count, 20);
    assert_int_equal(s.local_first, 16); /* 320 - 39 is in block 17, of the group from 16 on */
    assert_int_equal(pool->local.count, local_max);
    assert_int_equal(pool->local.free_count, local_max - 4);
    kv_seq_clear(pool, &s);
    assert_int_equal(pool->local.free_count, local_max);
    assert_int_equal(peek(pool, root, tokens, 336, &unheld), 320);
    assert_int_equal(unheld, 20);
    memcpy(other, tokens, 240 * sizeof *tokens); /* its window is still there */
    assert_int_equal(peek(pool, root, other, 336, &unheld), 240);
    assert_int_equal(unheld, 15);
    fill(other + 80, LEN_MAX - 80, 1000); /* here it was taken for what came later */
    assert_int_equal(peek(pool, root, other, 336, &unheld), 0);
    assert_int_equal(unheld, 0);
    assert_int_equal(kv_seq_match(pool, &s, tokens, 336), 320);
    assert_int_equal(s.local_first, 16);
    kv_seq_deinit(pool, &s);
    kv_pool_destroy(pool);
}

/* ---- at random ------------------------------------------------------------------------------- */

typedef struct text {
    kv_seq kv;
    int32_t tokens[LEN_MAX];
    int tenant;
} text;

static uint64_t mix(uint64_t h, int32_t token)
{
    h = (h ^ (uint64_t)token) * 0xff51afd7ed558ccdULL;
    return h ^ h >> 29;
}

/* In the first head's bytes: a hash of everything up to this position. */
static uint64_t *slot(kv_pool *pool, const kv_seq *s, int layer, int pos)
{
    uint64_t *data = kv_head_ptr(pool, s, layer, pos / BLOCK, 0);

    return data + pos % BLOCK;
}

/* Layer 0 has the window, if there is one; layer 1 sees everything. */
static void write_or_check(kv_pool *pool, text *t, int from, bool check)
{
    uint64_t h = (uint64_t)t->tenant;

    for (int p = 0; p < t->kv.len; p++) {
        h = mix(h, t->tokens[p]);
        if (p >= from && !check)
            *slot(pool, &t->kv, 0, p) = *slot(pool, &t->kv, 1, p) = h;
        assert_true(*slot(pool, &t->kv, 1, p) == h);
        if (p > t->kv.len - pool->shape.window)
            assert_true(*slot(pool, &t->kv, 0, p) == h);
    }
}

static void random_step(kv_pool *pool, text *t, const uint64_t *roots)
{
    int want = t->kv.len + 1 + (int)rng(60), missing, had = t->kv.block_count, unheld;
    int left = pool->full.free_count, from = t->kv.len;

    if (one_in(4)) {
        kv_seq_clear(pool, &t->kv);
    } else if (t->kv.block_count == 0 && one_in(2)) { /* begins a text, perhaps a known one */
        t->tenant = (int)rng(3);
        t->kv.root = t->kv.tail = roots[t->tenant];
        for (int i = 0; i < LEN_MAX; i++)
            t->tokens[i] = i % BLOCK ? 0 : (int32_t)rng(TOKEN_MAX);
        int hit = kv_seq_peek(pool, &t->kv, t->tokens, LEN_MAX, &unheld);

        assert_int_equal(kv_seq_match(pool, &t->kv, t->tokens, LEN_MAX), hit);
        assert_int_equal(pool->full.free_count, left - unheld);
        write_or_check(pool, t, 0, true);
    } else if (want <= LEN_MAX) {
        missing = kv_seq_missing(&t->kv, want);
        if (kv_seq_reserve(pool, &t->kv, want)) {
            assert_true(missing <= left);
            t->kv.len = want;
            write_or_check(pool, t, from, false);
            if (one_in(4)) { /* the last of them were wrong guesses */
                int right = want - (int)rng(8);

                kv_seq_truncate(&t->kv, SL_MAX(from, right));
            }
            kv_seq_publish(pool, &t->kv, t->tokens);
        } else {
            assert_true(missing > left && t->kv.block_count == had && t->kv.len == from);
        }
    }
}

/* A block counts who lists it; the pool's own check sees sums only. */
static void check_holders(const kv_pool *pool, const kv_seq *const *list)
{
    for (int32_t b = 0; b < pool->full.count; b++) {
        int holders = 0;

        for (int i = 0; i < SEQS; i++)
            for (int j = 0; j < list[i]->block_count; j++)
                holders += list[i]->blocks[j] == b;
        assert_int_equal(pool->full.blocks[b].holders, holders);
    }
}

static void test_random(void **state)
{
    static text texts[SEQS];
    const kv_seq *list[SEQS];
    long hits = 0;

    (void)state;
    for (int turn = 0; turn < 8; turn++) {
        const kv_shape s = { .layers = 2,
                             .kv_heads = 3,
                             .head_dim = 16,
                             .window = turn % 2 ? 1 + (int)rng(100) : 0,
                             .pattern = 2 };
        int blocks = 20 + turn / 2 * 40;
        kv_pool *pool = make_window_pool(s, blocks, kv_local_max(s, SEQS, 60));
        const uint64_t roots[] = { kv_pool_root(pool, "a"), kv_pool_root(pool, "b"), 0 };

        for (int i = 0; i < SEQS; i++) {
            init(&texts[i].kv, roots[0]);
            texts[i].tenant = 0;
            list[i] = &texts[i].kv;
        }
        for (int round = 0; round < 5000; round++) {
            text *t = &texts[rng(SEQS)];
            int len = t->kv.len;

            random_step(pool, t, roots);
            hits += len == 0 && t->kv.named > 0;
            kv_pool_check(pool, list, SEQS);
            check_holders(pool, list);
            write_or_check(pool, t, 0, true);
        }
        for (int i = 0; i < SEQS; i++)
            kv_seq_deinit(pool, &texts[i].kv);
        assert_int_equal(pool->full.free_count, blocks);
        assert_int_equal(pool->local.free_count, pool->local.count);
        kv_pool_destroy(pool);
    }
    assert_true(hits > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),          cmocka_unit_test(test_tenants_do_not_share),
        cmocka_unit_test(test_eviction_order), cmocka_unit_test(test_twins),
        cmocka_unit_test(test_truncate),       cmocka_unit_test(test_window),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
