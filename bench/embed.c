/* embed.c - how fast an encoder makes vectors, next to what the processor can do, as JSON.
 *
 * bench_embed MODEL [TEXTS] [TOKENS] [BATCH] [ROUNDS] [STEP]: TEXTS texts of TOKENS tokens go
 * through the engine as requests of BATCH texts, two of them under way at a time. Operations are
 * those of the model's products and of attention, counted by its shape; nothing else counts as
 * work. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "engine/engine.h"

#define UNDER_WAY 2

typedef struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    int under_way, vectors, errors;
} waiter;

static void on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    waiter *w = ctx;

    pthread_mutex_lock(&w->lock);
    w->vectors += ev->kind == LLM_EV_EMBEDDING;
    w->errors += ev->kind == LLM_EV_ERROR;
    w->under_way -= ev->kind == LLM_EV_DONE;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
    if (ev->kind == LLM_EV_DONE)
        llm_request_destroy(req);
}

/* One request of `count` texts; ids are drawn, between the tokens that enclose a text. */
static llm_request *make_request(int count, int tokens, int vocab, uint64_t *seed)
{
    llm_request *req = llm_request_create(LLM_EMBED, SL_GIB);

    SL_ASSERT(req);
    req->prompts = sl_arena_alloc(&req->arena, (size_t)count * sizeof *req->prompts);
    SL_ASSERT(req->prompts);
    req->prompt_count = (size_t)count;
    for (int i = 0; i < count; i++) {
        int32_t *ids = sl_arena_alloc(&req->arena, (size_t)tokens * sizeof *ids);

        SL_ASSERT(ids);
        for (int t = 0; t < tokens; t++) {
            *seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
            ids[t] = (int32_t)((*seed >> 33) % (uint64_t)vocab);
        }
        req->prompts[i] = (llm_prompt){ .ids = ids, .id_count = (size_t)tokens };
    }
    return req;
}

static double round_seconds(llm_backend b, int texts, int tokens, int batch, int vocab)
{
    waiter w = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };
    uint64_t seed = 7;
    int64_t start = sl_clock_mono_ns();
    sl_err err = { 0 };

    for (int at = 0; at < texts; at += batch) {
        llm_request *req = make_request(SL_MIN(batch, texts - at), tokens, vocab, &seed);

        pthread_mutex_lock(&w.lock);
        while (w.under_way == UNDER_WAY)
            pthread_cond_wait(&w.cond, &w.lock);
        w.under_way++;
        pthread_mutex_unlock(&w.lock);
        if (b.ops->submit(b.ctx, req, (llm_sink){ on_event, &w }, &err) != SL_OK) {
            fprintf(stderr, "bench_embed: %s\n", err.text);
            exit(1);
        }
    }
    pthread_mutex_lock(&w.lock);
    while (w.under_way > 0)
        pthread_cond_wait(&w.cond, &w.lock);
    pthread_mutex_unlock(&w.lock);
    SL_ASSERT(w.vectors == texts && w.errors == 0);
    return (double)(sl_clock_mono_ns() - start) / 1e9;
}

static double operations(const model_params *p, double tokens)
{
    double d = p->dim, f = p->ff_dim, gates = p->act == MODEL_SILU ? 3 : 2;

    return p->layers * tokens * (2 * (4 * d * d + gates * d * f) + 4 * tokens * d);
}

int main(int argc, char **argv)
{
    int texts = argc > 2 ? atoi(argv[2]) : 500, tokens = argc > 3 ? atoi(argv[3]) : 256;
    int batch = argc > 4 ? atoi(argv[4]) : 32, rounds = argc > 5 ? atoi(argv[5]) : 3;
    int step = argc > 6 ? atoi(argv[6]) : 0;
    sl_err err = { 0 };
    engine *e = NULL;

    if (argc < 2 || texts < 1 || tokens < 1 || batch < 1 || rounds < 1) {
        fputs("usage: bench_embed MODEL [TEXTS] [TOKENS] [BATCH] [ROUNDS] [STEP]\n", stderr);
        return 2;
    }
    if (engine_open(argv[1], &(engine_options){ .queue_max = 16, .step_tokens = step }, &e, &err) !=
        SL_OK) {
        fprintf(stderr, "bench_embed: %s\n", err.text);
        return 1;
    }
    const model_params *p = engine_params(e);

    (void)round_seconds(engine_backend(e), SL_MIN(texts, batch), tokens, batch, p->vocab);
    printf("{\"texts\": %d, \"tokens\": %d, \"batch\": %d, \"gflop_per_text\": %.4f, \"rounds\": [",
           texts, tokens, batch, operations(p, tokens) / 1e9);
    for (int i = 0; i < rounds; i++) {
        double s = round_seconds(engine_backend(e), texts, tokens, batch, p->vocab);

        printf("%s{\"seconds\": %.3f, \"texts_per_s\": %.1f, \"tokens_per_s\": %.0f, "
               "\"gflops\": %.1f}",
               i ? ", " : "", s, texts / s, (double)texts * tokens / s,
               operations(p, tokens) * texts / s / 1e9);
        fflush(stdout);
    }
    puts("]}");
    engine_close(e);
    return 0;
}
