/* fake.c - see the header. One thread per request, joined at the end. */
#include "fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct job {
    fake *f;
    llm_request *req;
    llm_sink sink;
} job;

size_t fake_tokens(const char *text, size_t len)
{
    size_t count = 0;
    bool in_word = false;

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c >= 0xe0) {
            count++;
            in_word = false;
        } else if (c == ' ' || c == '\n' || c == '\r' || c == '\t') {
            in_word = false;
        } else if (c < 0x80 || c >= 0xc0) {
            count += !in_word;
            in_word = true;
        }
    }
    return count;
}

/* Adds one to the dimension of each lower-case word. */
static void bag(const char *text, size_t len, float *v)
{
    uint32_t hash = 2166136261u;
    size_t n = 0;
    double sum = 0;

    memset(v, 0, FAKE_DIM * sizeof *v);
    for (size_t i = 0; i <= len; i++) {
        int c = i < len ? (unsigned char)text[i] : ' ';

        c = c >= 'A' && c <= 'Z' ? c + 32 : c;
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c >= 0x80) {
            hash = (hash ^ (uint32_t)c) * 16777619u;
            n++;
            continue;
        }
        if (n > 3)
            v[hash % FAKE_DIM] += 1;
        hash = 2166136261u;
        n = 0;
    }
    for (int i = 0; i < FAKE_DIM; i++)
        sum += v[i] * v[i];
    for (int i = 0; i < FAKE_DIM && sum > 0; i++)
        v[i] = (float)(v[i] / sqrt(sum));
}

static void send(job *j, llm_event *ev)
{
    j->sink.fn(j->sink.ctx, j->req, ev);
}

static bool breaks(const job *j)
{
    for (size_t i = 0; j->f->breaks_on && i < j->req->prompt_count; i++)
        if (memmem(j->req->prompts[i].text, j->req->prompts[i].text_len, j->f->breaks_on,
                   strlen(j->f->breaks_on)))
            return true;
    return false;
}

static void embed(job *j)
{
    if (breaks(j)) {
        llm_event ev = { .kind = LLM_EV_ERROR };

        sl_fail(&ev.error, SL_EINTERNAL, "the embedder broke");
        send(j, &ev);
        return;
    }
    for (size_t i = 0; i < j->req->prompt_count; i++) {
        float v[FAKE_DIM];
        llm_event ev = { .kind = LLM_EV_EMBEDDING, .choice = (uint32_t)i };

        bag(j->req->prompts[i].text, j->req->prompts[i].text_len, v);
        ev.vector = v;
        ev.vector_len = FAKE_DIM;
        send(j, &ev);
        atomic_fetch_add(&j->f->embedded, 1);
    }
}

static void chat(job *j)
{
    for (size_t i = 0; j->f->says && j->f->says[i]; i++) {
        llm_event ev = { .kind = LLM_EV_DELTA, .text = j->f->says[i] };

        ev.text_len = strlen(ev.text);
        send(j, &ev);
        if (j->f->fails) {
            ev = (llm_event){ .kind = LLM_EV_ERROR };
            sl_fail(&ev.error, SL_EINTERNAL, "the model broke");
            send(j, &ev);
            return;
        }
    }
    while (j->f->hangs && !atomic_load(&j->req->cancelled))
        nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
    send(j, &(llm_event){ .kind = LLM_EV_FINISH, .finish = LLM_FINISH_STOP });
}

static void *job_main(void *ctx)
{
    job *j = ctx;
    llm_event done = { .kind = LLM_EV_DONE, .usage = { .prompt_tokens = 9, .output_tokens = 3 } };

    send(j, &(llm_event){ .kind = LLM_EV_START });
    if (j->req->task == LLM_EMBED)
        embed(j);
    else
        chat(j);
    send(j, &done);
    free(j);
    return NULL;
}

static sl_status submit(void *ctx, llm_request *req, llm_sink sink, sl_err *err)
{
    fake *f = ctx;
    job *j;
    int n;

    if (req->task == LLM_CHAT && f->refuses)
        return sl_fail(err, SL_EBUSY, "the queue is full");
    if (req->task == LLM_CHAT) {
        size_t i, at = 0;
        json_t *m;

        atomic_fetch_add(&f->asked, 1);
        pthread_mutex_lock(&f->lock);
        json_array_foreach(req->messages, i, m) at +=
            (size_t)snprintf(f->prompt + at, sizeof f->prompt - at, "%s\n",
                             json_string_value(json_object_get(m, "content")));
        pthread_mutex_unlock(&f->lock);
    }
    n = atomic_fetch_add(&f->thread_count, 1);
    SL_ASSERT(n < (int)SL_COUNT_OF(f->threads));
    j = malloc(sizeof *j);
    *j = (job){ f, req, sink };
    SL_ASSERT(pthread_create(&f->threads[n], NULL, job_main, j) == 0);
    return SL_OK;
}

static void embed_info(void *ctx, llm_model_info *ret)
{
    fake *f = ctx;

    *ret = (llm_model_info){ .can_embed = true, .context_tokens = 128, .embedding_dim = FAKE_DIM };
    snprintf(ret->name, sizeof ret->name, "%s", f->embed_name);
}

static void chat_info(void *ctx, llm_model_info *ret)
{
    fake *f = ctx;

    *ret = (llm_model_info){ .name = "parrot", .can_generate = true, .context_tokens = f->context };
}

static sl_status tokenize(void *ctx, const char *text, size_t len, unsigned flags, int32_t *ids,
                          size_t cap, size_t *ret_count, sl_err *err)
{
    *ret_count = fake_tokens(text, len);
    return SL_OK;
}

static sl_status render(void *ctx, const llm_request *req, sl_buf *out, sl_err *err)
{
    fake *f = ctx;
    size_t i;
    json_t *m;

    json_array_foreach(req->messages, i, m)
    {
        const char *role = json_string_value(json_object_get(m, "role"));

        if (f->no_system && strcmp(role, "system") == 0)
            return sl_fail(err, SL_EINVAL, "System role not supported");
        sl_buf_printf(out, "<|im_start|>%s\n%s<|im_end|>\n", role,
                      json_string_value(json_object_get(m, "content")));
    }
    return SL_OK;
}

static const llm_backend_ops embed_ops = { .submit = submit,
                                           .info = embed_info,
                                           .tokenize = tokenize };
static const llm_backend_ops chat_ops = {
    .submit = submit, .info = chat_info, .tokenize = tokenize, .render = render
};

void fake_init(fake *f)
{
    memset(f, 0, sizeof *f);
    f->embed_name = "bag";
    f->context = 2048;
    pthread_mutex_init(&f->lock, NULL);
    f->chain.routes[0] = (llm_route){ .name = "parrot", .backend = { &chat_ops, f } };
    f->chain.routes[1] = (llm_route){ .name = "bag", .backend = { &embed_ops, f } };
    f->chain.route_count = 2;
}

void fake_join(fake *f)
{
    for (int i = 0; i < atomic_load(&f->thread_count); i++)
        pthread_join(f->threads[i], NULL);
    atomic_store(&f->thread_count, 0);
}

void fake_deinit(fake *f)
{
    fake_join(f);
    pthread_mutex_destroy(&f->lock);
}

bool fake_place_make(fake_place *p, const char *root, const char *file)
{
    snprintf(p->dir, sizeof p->dir, "%s/sluice-rag-XXXXXX", root);
    if (!mkdtemp(p->dir))
        return false;
    snprintf(p->path, sizeof p->path, "%s/%s", p->dir, file);
    return true;
}

int fake_place_remove(const fake_place *p)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf '%s'", p->dir);
    return system(command);
}

rag *fake_open(fake *f, const char *path, int ingest_workers)
{
    rag_options o = { .db_path = path, .chain = &f->chain, .ingest_workers = ingest_workers };
    rag *r = NULL;
    sl_err err = { 0 };

    if (rag_open(&o, &r, &err) != SL_OK)
        fail_msg("%s", err.text);
    return r;
}

uint32_t fake_random(void)
{
    static uint64_t rng_state = 88172645463325252ULL;

    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return (uint32_t)(rng_state >> 16);
}

void fake_random_vector(float *v, size_t dim)
{
    double sum = 0;

    for (size_t i = 0; i < dim; i++) {
        v[i] = (float)((double)fake_random() / UINT32_MAX - 0.5);
        sum += (double)v[i] * v[i];
    }
    for (size_t i = 0; i < dim; i++)
        v[i] = (float)(v[i] / sqrt(sum));
}
