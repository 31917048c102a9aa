/* test_encoder.c - a tiny encoder in an engine: vectors and scores do not depend on their batch;
 * low priorities are computed aside and give way. */
#include "tests_engine.h"

#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/os.h"
#include "engine/engine_int.h"

#define DIM     32
#define FF      64
#define LAYERS  2
#define CONTEXT 128
#define VOCAB   40

/* ---- a model on the disk --------------------------------------------------------------------- */

typedef struct writer {
    sl_buf head, data;
} writer;

static void put(writer *w, const char *name, int rows, int cols, float base, float spread)
{
    size_t from = w->data.len;
    int count = rows * SL_MAX(cols, 1);

    for (int i = 0; i < count; i++) {
        float v = base + spread * ((float)rng(2001) / 1000 - 1);

        sl_buf_put(&w->data, &v, sizeof v);
    }
    sl_buf_printf(&w->head, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%d", w->head.len > 1 ? "," : "",
                  name, rows);
    if (cols > 0)
        sl_buf_printf(&w->head, ",%d", cols);
    sl_buf_printf(&w->head, "],\"data_offsets\":[%zu,%zu]}", from, w->data.len);
}

static void put_linear(writer *w, const char *name, int rows, int cols)
{
    char full[200];

    snprintf(full, sizeof full, "%s.weight", name);
    put(w, full, rows, cols, 0, 0.4f);
    snprintf(full, sizeof full, "%s.bias", name);
    put(w, full, rows, 0, 0, 0.2f);
}

static void put_norm(writer *w, const char *name)
{
    char full[200];

    snprintf(full, sizeof full, "%s.weight", name);
    put(w, full, DIM, 0, 1, 0.3f);
    snprintf(full, sizeof full, "%s.bias", name);
    put(w, full, DIM, 0, 0, 0.2f);
}

static void put_file(const char *dir, const char *name, const void *bytes, size_t len)
{
    char path[300];
    sl_err err;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(sl_file_write_atomic(path, sl_span_of(bytes, len), &err), SL_OK);
}

static void put_weights(const char *dir, bool ranks)
{
    static const char *const parts[][2] = { { "attention.self.query", "" },
                                            { "attention.self.key", "" },
                                            { "attention.self.value", "" },
                                            { "attention.output.dense", "n" } };
    char name[128];
    uint64_t len;
    writer w;
    sl_buf file;

    sl_buf_init(&w.head, SL_MIB);
    sl_buf_init(&w.data, 64 * SL_MIB);
    sl_buf_init(&file, 64 * SL_MIB);
    sl_buf_putc(&w.head, '{');
    put(&w, "embeddings.word_embeddings.weight", VOCAB, DIM, 0, 1);
    put(&w, "embeddings.position_embeddings.weight", CONTEXT, DIM, 0, 0.5f);
    put(&w, "embeddings.token_type_embeddings.weight", 2, DIM, 0, 0.5f);
    put_norm(&w, "embeddings.LayerNorm");
    for (int i = 0; i < LAYERS; i++) {
        for (size_t p = 0; p < SL_COUNT_OF(parts); p++) {
            snprintf(name, sizeof name, "encoder.layer.%d.%s", i, parts[p][0]);
            put_linear(&w, name, DIM, DIM);
        }
        snprintf(name, sizeof name, "encoder.layer.%d.attention.output.LayerNorm", i);
        put_norm(&w, name);
        snprintf(name, sizeof name, "encoder.layer.%d.intermediate.dense", i);
        put_linear(&w, name, FF, DIM);
        snprintf(name, sizeof name, "encoder.layer.%d.output.dense", i);
        put_linear(&w, name, DIM, FF);
        snprintf(name, sizeof name, "encoder.layer.%d.output.LayerNorm", i);
        put_norm(&w, name);
    }
    if (ranks) {
        put_linear(&w, "pooler.dense", DIM, DIM);
        put_linear(&w, "classifier", 1, DIM);
    }
    sl_buf_putc(&w.head, '}');
    len = w.head.len;
    sl_buf_put(&file, &len, sizeof len);
    sl_buf_put(&file, w.head.ptr, w.head.len);
    sl_buf_put(&file, w.data.ptr, w.data.len);
    assert_false(file.failed);
    put_file(dir, "model.safetensors", file.ptr, file.len);
    sl_buf_deinit(&w.head);
    sl_buf_deinit(&w.data);
    sl_buf_deinit(&file);
}

static void put_config(const char *dir, bool ranks)
{
    sl_buf b;

    sl_buf_init(&b, SL_MIB);
    sl_buf_printf(&b,
                  "{\"model_type\":\"bert\",\"hidden_size\":%d,\"num_attention_heads\":2,"
                  "\"num_hidden_layers\":%d,\"intermediate_size\":%d,"
                  "\"max_position_embeddings\":%d,\"vocab_size\":%d,\"architectures\":[\"%s\"]}",
                  DIM, LAYERS, FF, CONTEXT, VOCAB,
                  ranks ? "BertForSequenceClassification" : "BertModel");
    put_file(dir, "config.json", b.ptr, b.len);
    sl_buf_clear(&b);
    sl_buf_puts(&b, "{\"added_tokens\":[{\"id\":1,\"content\":\"[CLS]\",\"special\":true},"
                    "{\"id\":2,\"content\":\"[SEP]\",\"special\":true}],"
                    "\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":true},"
                    "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
                    "\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",2],"
                    "\"cls\":[\"[CLS]\",1]},"
                    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
                    "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,"
                    "\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2");
    for (int i = 3; i < VOCAB; i++)
        sl_buf_printf(&b, ",\"w%d\":%d", i, i);
    sl_buf_puts(&b, "}}}");
    put_file(dir, "tokenizer.json", b.ptr, b.len);
    sl_buf_deinit(&b);
}

static engine *open_tiny(bool ranks)
{
    static const char *const files[] = { "config.json", "tokenizer.json", "model.safetensors" };
    char dir[] = "/tmp/sluice-encoder-XXXXXX", path[300];
    engine *e = NULL;
    sl_err err = { 0 };

    assert_non_null(mkdtemp(dir));
    put_weights(dir, ranks);
    put_config(dir, ranks);
    if (engine_open(dir, &(engine_options){ .name = "tiny", .threads = 2 }, &e, &err) != SL_OK)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < SL_COUNT_OF(files); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
    return e;
}

/* ---- requests -------------------------------------------------------------------------------- */

#define TEXTS 12

typedef struct answer {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    float vectors[TEXTS][DIM], scores[TEXTS], logits[TEXTS];
    uint32_t order[TEXTS];
    int got, done;
    sl_status error;
    int64_t prompt_tokens;
} answer;

static void on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    answer *a = ctx;

    pthread_mutex_lock(&a->lock);
    if (ev->kind == LLM_EV_EMBEDDING) {
        assert_int_equal(ev->vector_len, DIM);
        memcpy(a->vectors[ev->choice], ev->vector, sizeof a->vectors[0]);
        a->order[a->got++] = ev->choice;
    } else if (ev->kind == LLM_EV_SCORE) {
        a->scores[ev->choice] = ev->score;
        a->logits[ev->choice] = ev->logit;
        a->order[a->got++] = ev->choice;
    } else if (ev->kind == LLM_EV_ERROR) {
        a->error = ev->error.status;
    } else if (ev->kind == LLM_EV_DONE) {
        a->prompt_tokens = ev->usage.prompt_tokens;
        a->done++;
        llm_request_destroy(req);
        pthread_cond_signal(&a->cond);
    }
    pthread_mutex_unlock(&a->lock);
}

static answer *answer_new(void)
{
    answer *a = calloc(1, sizeof *a);

    assert_non_null(a);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->cond, NULL);
    return a;
}

/* Words of the vocabulary, the same for the same number. */
static const char *text_of(llm_request *req, int number)
{
    char text[CONTEXT * 4] = "";
    int words = 3 + number * 7 % 90;

    for (int i = 0; i < words; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "w%d ",
                 3 + (number * 31 + i * i) % (VOCAB - 3));
    return sl_arena_strndup(&req->arena, text, strlen(text));
}

static llm_request *request(llm_task task, int32_t priority, const int *numbers, int count)
{
    llm_request *req = llm_request_create(task, SL_MIB);
    size_t at = task == LLM_RERANK;

    assert_non_null(req);
    req->priority = priority;
    req->prompt_count = at + (size_t)count;
    req->prompts = sl_arena_alloc(&req->arena, req->prompt_count * sizeof *req->prompts);
    if (at)
        req->prompts[0] = (llm_prompt){ .text = "w4 w5", .text_len = 5 };
    for (int i = 0; i < count; i++) {
        const char *text = text_of(req, numbers[i]);

        req->prompts[at + (size_t)i] = (llm_prompt){ .text = text, .text_len = strlen(text) };
    }
    return req;
}

static void submit(engine *e, llm_request *req, answer *a)
{
    llm_backend b = engine_backend(e);
    sl_err err = { 0 };

    if (b.ops->submit(b.ctx, req, (llm_sink){ on_event, a }, &err) != SL_OK)
        fail_msg("%s", err.text);
}

static void wait_done(answer *a, int done)
{
    pthread_mutex_lock(&a->lock);
    while (a->done < done)
        pthread_cond_wait(&a->cond, &a->lock);
    pthread_mutex_unlock(&a->lock);
}

static const int numbers[TEXTS] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_batches(void **state)
{
    engine *e = open_tiny(false);
    answer *all = answer_new();

    (void)state;
    submit(e, request(LLM_EMBED, 0, numbers, TEXTS), all);
    wait_done(all, 1);
    assert_int_equal(all->got, TEXTS);
    for (int i = 0; i < TEXTS; i++) {
        answer *one = answer_new();

        submit(e, request(LLM_EMBED, 0, &numbers[i], 1), one);
        wait_done(one, 1);
        assert_memory_equal(one->vectors[0], all->vectors[i], sizeof one->vectors[0]);
        free(one);
    }
    free(all);
    engine_close(e);
}

static void test_scores(void **state)
{
    engine *e = open_tiny(true);
    answer *all = answer_new();
    llm_model_info info;
    sl_err err = { 0 };

    (void)state;
    engine_backend(e).ops->info(e, &info);
    assert_true(info.can_rerank && !info.can_embed && !info.can_generate);
    submit(e, request(LLM_RERANK, 0, numbers, TEXTS), all);
    wait_done(all, 1);
    assert_int_equal(all->got, TEXTS);
    for (int i = 0; i < TEXTS; i++) {
        answer *one = answer_new();

        assert_true(fabs(1 / (1 + exp(-(double)all->logits[i])) - (double)all->scores[i]) < 1e-6);
        submit(e, request(LLM_RERANK, LLM_PRIORITY_BATCH, &numbers[i], 1), one);
        wait_done(one, 1);
        assert_true(one->logits[0] == all->logits[i]); /* aside too */
        free(one);
    }
    llm_request *wrong = request(LLM_EMBED, 0, numbers, 1);

    assert_int_equal(engine_backend(e).ops->submit(e, wrong, (llm_sink){ on_event, all }, &err),
                     SL_EINVAL);
    wrong->task = LLM_RERANK; /* one prompt: no document */
    assert_int_equal(engine_backend(e).ops->submit(e, wrong, (llm_sink){ on_event, all }, &err),
                     SL_EINVAL);
    llm_request_destroy(wrong);
    free(all);
    engine_close(e);
}

static long long steps_of(const engine *e)
{
    engine_stats s;

    engine_read_stats(e, &s);
    return s.steps;
}

/* While somebody waits for other work, steps aside hold few tokens; else they hold many. */
static void test_steps_aside(void **state)
{
    static const int long_ones[4] = { 12, 25, 12, 25 }; /* 87 and 88 words */
    engine *e = open_tiny(false);
    answer *a = answer_new();
    float first[DIM];

    (void)state;
    submit(e, request(LLM_EMBED, LLM_PRIORITY_BATCH, long_ones, 4), a);
    wait_done(a, 1);
    assert_int_equal(steps_of(e), 1);
    memcpy(first, a->vectors[0], sizeof first);
    aside_others_begin(false);
    assert_true(aside_others());
    submit(e, request(LLM_EMBED, LLM_PRIORITY_BATCH, long_ones, 4), a);
    wait_done(a, 2); /* they go on, a text at a time */
    aside_others_end(false);
    assert_false(aside_others());
    assert_int_equal(steps_of(e), 5);
    assert_memory_equal(first, a->vectors[0], sizeof first);
    free(a);
    engine_close(e);
}

/* Requests that ended, or results. */
static int seen(answer *a, bool ended)
{
    int n;

    pthread_mutex_lock(&a->lock);
    n = ended ? a->done : a->got;
    pthread_mutex_unlock(&a->lock);
    return n;
}

static void wait_for_waiting(void)
{
    while (!aside_waits())
        sched_yield();
}

/* While an engine generates, nothing is computed aside but in the turns that it lends. */
static void test_turns(void **state)
{
    static const int one[1] = { 12 };
    engine *e = open_tiny(false);
    answer *a = answer_new();
    float first[DIM];
    int steps = 0;

    (void)state;
    submit(e, request(LLM_EMBED, 0, one, 1), a);
    wait_done(a, 1);
    memcpy(first, a->vectors[0], sizeof first);
    aside_others_begin(true);
    submit(e, request(LLM_EMBED, LLM_PRIORITY_BATCH, one, 1), a);
    wait_for_waiting();
    for (int i = 1; i < ASIDE_RARE; i++)
        assert_false(aside_lend(1, &steps)); /* no unit is so short */
    assert_true(aside_waits());
    assert_int_equal(seen(a, false), 1);
    while (seen(a, true) < 2) /* so many turns as it takes */
        if (aside_waits()) {
            steps = ASIDE_RARE - 1;
            aside_lend(1, &steps);
        } else {
            sched_yield();
        }
    assert_memory_equal(first, a->vectors[0], sizeof first);
    /* Between long steps each one lends, now that it is known how long a unit takes. */
    submit(e, request(LLM_EMBED, LLM_PRIORITY_BATCH, one, 1), a);
    wait_for_waiting();
    steps = 0;
    assert_true(aside_lend(1000000000000LL, &steps));
    assert_int_equal(steps, 0);
    wait_done(a, 3);
    assert_false(aside_lend(1000000000000LL, &steps)); /* nobody waits */
    aside_others_end(true);
    free(a);
    engine_close(e);
}

/* Whoever waits for a turn goes on when nobody generates any longer, and ends when it is to stop.
 */
static void test_turns_end(void **state)
{
    engine *e = open_tiny(false);
    answer *a = answer_new();

    (void)state;
    aside_others_begin(true);
    submit(e, request(LLM_EMBED, LLM_PRIORITY_BATCH, numbers, TEXTS), a);
    wait_for_waiting();
    aside_others_end(true);
    wait_done(a, 1);
    assert_int_equal(a->got, TEXTS);
    aside_others_begin(true);
    submit(e, request(LLM_EMBED, LLM_PRIORITY_BATCH, numbers, 3), a);
    wait_for_waiting();
    engine_stop(e);
    assert_int_equal(a->done, 2);
    aside_others_end(true);
    engine_close(e);
    free(a);
}

/* A text of usual priority is answered while its model's background rests. */
static void test_background_rests(void **state)
{
    engine *e = open_tiny(false);
    answer *back = answer_new(), *front = answer_new();

    (void)state;
    atomic_store(&e->is_busy, true); /* as if it had work that takes long */
    aside_others_begin(false);
    submit(e, request(LLM_EMBED, LLM_PRIORITY_IDLE, numbers, TEXTS), back);
    submit(e, request(LLM_EMBED, LLM_PRIORITY_BATCH, numbers, 3), front);
    wait_done(front, 1);
    pthread_mutex_lock(&back->lock);
    assert_int_equal(back->got, 0);
    pthread_mutex_unlock(&back->lock);
    atomic_store(&e->is_busy, false);
    aside_others_end(false);
    wait_done(back, 1);
    assert_int_equal(back->got, TEXTS);
    free(back);
    free(front);
    engine_close(e);
}

/* Closing ends what is under way aside, computed or not. */
static void test_close_aside(void **state)
{
    engine *e = open_tiny(false);
    answer *a = answer_new();

    (void)state;
    aside_others_begin(false);
    for (int i = 0; i < 5; i++)
        submit(e, request(LLM_EMBED, LLM_PRIORITY_IDLE, numbers, 1), a);
    engine_stop(e);
    assert_int_equal(a->done, 5);
    aside_others_end(false);
    engine_close(e);
    free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches),     cmocka_unit_test(test_scores),
        cmocka_unit_test(test_steps_aside), cmocka_unit_test(test_turns),
        cmocka_unit_test(test_turns_end),   cmocka_unit_test(test_background_rests),
        cmocka_unit_test(test_close_aside),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
