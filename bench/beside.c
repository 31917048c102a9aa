/* beside.c - what embedding costs a running chat, as JSON.
 *
 * bench_beside CHAT_MODEL ENCODER [TOKENS] [ROUNDS]: in turn, a stream of TOKENS tokens alone,
 * beside texts of 256 tokens embedded at LLM_PRIORITY_BATCH, and beside the same at usual priority;
 * all in one process, as a server has it. Gaps are between the stream's tokens. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "engine/engine.h"

#define TEXT_TOKENS 256
#define TEXTS       32 /* in a request */
#define UNDER_WAY   2

typedef enum mode { ALONE, ASIDE, USUAL, MODE_COUNT } mode;

/* ---- embedding until told to stop ------------------------------------------------------------ */

typedef struct load {
    llm_backend b;
    int vocab;
    int32_t priority;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    int under_way;
    atomic_llong vectors;
    atomic_bool stop;
} load;

static void on_vector(void *ctx, llm_request *req, const llm_event *ev)
{
    load *l = ctx;

    if (ev->kind == LLM_EV_EMBEDDING)
        atomic_fetch_add(&l->vectors, 1);
    if (ev->kind != LLM_EV_DONE)
        return;
    llm_request_destroy(req);
    pthread_mutex_lock(&l->lock);
    l->under_way--;
    pthread_cond_signal(&l->cond);
    pthread_mutex_unlock(&l->lock);
}

static void submit_texts(load *l, unsigned *seed)
{
    llm_request *req = llm_request_create(LLM_EMBED, SL_MIB);
    sl_err err;

    SL_ASSERT(req);
    req->priority = l->priority;
    req->prompt_count = TEXTS;
    req->prompts = sl_arena_alloc(&req->arena, TEXTS * sizeof *req->prompts);
    SL_ASSERT(req->prompts);
    for (int i = 0; i < TEXTS; i++) {
        int32_t *ids = sl_arena_alloc(&req->arena, TEXT_TOKENS * sizeof *ids);

        SL_ASSERT(ids);
        for (int t = 0; t < TEXT_TOKENS; t++)
            ids[t] = (int32_t)((*seed = *seed * 1664525u + 1013904223u) >> 8) % l->vocab;
        req->prompts[i] = (llm_prompt){ .ids = ids, .id_count = TEXT_TOKENS };
    }
    SL_ASSERT(l->b.ops->submit(l->b.ctx, req, (llm_sink){ on_vector, l }, &err) == SL_OK);
}

static void *load_main(void *arg)
{
    load *l = arg;
    unsigned seed = 7;

    pthread_mutex_lock(&l->lock);
    while (!atomic_load(&l->stop) || l->under_way > 0) {
        if (atomic_load(&l->stop) || l->under_way == UNDER_WAY) {
            pthread_cond_wait(&l->cond, &l->lock);
            continue;
        }
        l->under_way++;
        pthread_mutex_unlock(&l->lock);
        submit_texts(l, &seed);
        pthread_mutex_lock(&l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- the stream ------------------------------------------------------------------------------ */

typedef struct stream {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    double *gaps_ms;
    int count;
    int64_t last_ns;
    bool done;
} stream;

static void on_token(void *ctx, llm_request *req, const llm_event *ev)
{
    stream *s = ctx;
    int64_t now_ns = sl_clock_mono_ns();

    if (ev->kind == LLM_EV_DELTA) {
        if (s->last_ns)
            s->gaps_ms[s->count++] = (double)(now_ns - s->last_ns) / 1e6;
        s->last_ns = now_ns;
    }
    if (ev->kind != LLM_EV_DONE)
        return;
    llm_request_destroy(req);
    pthread_mutex_lock(&s->lock);
    s->done = true;
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->lock);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void run_stream(llm_backend b, int tokens, stream *s)
{
    static const int32_t prompt[] = { 28, 339, 288, 597, 260, 347 };
    llm_request *req = llm_request_create(LLM_COMPLETE, SL_MIB);
    sl_err err;

    SL_ASSERT(req);
    req->prompts = sl_arena_alloc(&req->arena, sizeof *req->prompts);
    SL_ASSERT(req->prompts);
    req->prompts[0] = (llm_prompt){ .ids = prompt, .id_count = SL_COUNT_OF(prompt) };
    req->prompt_count = 1;
    req->max_tokens = tokens;
    req->sampling.temperature = 0;
    req->sampling.ignore_eos = true;
    req->every_token = true;
    SL_ASSERT(b.ops->submit(b.ctx, req, (llm_sink){ on_token, s }, &err) == SL_OK);
    pthread_mutex_lock(&s->lock);
    while (!s->done)
        pthread_cond_wait(&s->cond, &s->lock);
    pthread_mutex_unlock(&s->lock);
    qsort(s->gaps_ms, (size_t)s->count, sizeof *s->gaps_ms, by_size);
}

static void run_mode(llm_backend chat, llm_backend texts, int vocab, mode m, int tokens, bool first)
{
    static const char *const names[MODE_COUNT] = { "alone", "aside", "usual" };
    load l = { .b = texts,
               .vocab = vocab,
               .priority = m == ASIDE ? LLM_PRIORITY_BATCH : 0,
               .lock = PTHREAD_MUTEX_INITIALIZER,
               .cond = PTHREAD_COND_INITIALIZER };
    stream s = { .lock = PTHREAD_MUTEX_INITIALIZER,
                 .cond = PTHREAD_COND_INITIALIZER,
                 .gaps_ms = sl_calloc((size_t)tokens, sizeof(double)) };
    int64_t start_ns;
    long long before;
    pthread_t thread;
    double seconds;

    SL_ASSERT(s.gaps_ms);
    if (m != ALONE)
        SL_ASSERT(pthread_create(&thread, NULL, load_main, &l) == 0);
    while (m != ALONE && atomic_load(&l.vectors) == 0) /* it is under way */
        sched_yield();
    before = atomic_load(&l.vectors);
    start_ns = sl_clock_mono_ns();
    run_stream(chat, tokens, &s);
    seconds = (double)(sl_clock_mono_ns() - start_ns) / 1e9;
    printf("%s\n {\"mode\": \"%s\", \"p50_ms\": %.2f, \"p90_ms\": %.2f, \"p99_ms\": %.2f, "
           "\"texts_per_s\": %.1f}",
           first ? "" : ",", names[m], s.gaps_ms[s.count / 2], s.gaps_ms[s.count * 9 / 10],
           s.gaps_ms[s.count * 99 / 100], (double)(atomic_load(&l.vectors) - before) / seconds);
    fflush(stdout);
    if (m != ALONE) {
        pthread_mutex_lock(&l.lock);
        atomic_store(&l.stop, true);
        pthread_cond_signal(&l.cond);
        pthread_mutex_unlock(&l.lock);
        pthread_join(thread, NULL);
    }
    sl_free(s.gaps_ms);
}

int main(int argc, char **argv)
{
    int tokens = argc > 3 ? atoi(argv[3]) : 800, rounds = argc > 4 ? atoi(argv[4]) : 3;
    engine *chat = NULL, *texts = NULL;
    sl_err err = { 0 };

    if (argc < 3 || tokens < 2 || rounds < 1) {
        fputs("usage: bench_beside CHAT_MODEL ENCODER [TOKENS] [ROUNDS]\n", stderr);
        return 2;
    }
    if (engine_open(argv[1], &(engine_options){ 0 }, &chat, &err) != SL_OK ||
        engine_open(argv[2], &(engine_options){ 0 }, &texts, &err) != SL_OK) {
        fprintf(stderr, "bench_beside: %s\n", err.text);
        engine_close(chat);
        return 1;
    }
    printf("{\"tokens\": %d, \"rounds\": [", tokens);
    for (int i = 0; i < rounds; i++)
        for (int m = 0; m < MODE_COUNT; m++)
            run_mode(engine_backend(chat), engine_backend(texts), engine_params(texts)->vocab,
                     (mode)m, tokens, i == 0 && m == 0);
    puts("\n]}");
    engine_close(texts);
    engine_close(chat);
    return 0;
}
