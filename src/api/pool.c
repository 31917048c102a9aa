/* pool.c - a few threads and a bounded queue, for routes that block: those of documents, which
 * search and then wait for the answer, and those that ask databases. An io thread must not. */
#include "api/api_int.h"

#define THREADS_MAX 64

typedef struct pool_task {
    api_task_fn fn;
    http_exchange *x; /* a reference */
} pool_task;

struct api_pool {
    api *a;
    pthread_mutex_t mutex; /* all fields below */
    pthread_cond_t wake;
    pool_task *ring; /* [cap] */
    size_t cap, head, count;
    bool stop;
    pthread_t threads[THREADS_MAX];
    int thread_count;
};

static void *worker(void *ctx)
{
    api_pool *p = ctx;

    for (;;) {
        sl_log_scope scope;
        pool_task task;

        pthread_mutex_lock(&p->mutex);
        while (p->count == 0 && !p->stop)
            pthread_cond_wait(&p->wake, &p->mutex);
        if (p->count == 0) {
            pthread_mutex_unlock(&p->mutex);
            return NULL;
        }
        task = p->ring[p->head];
        p->head = (p->head + 1) % p->cap;
        p->count--;
        pthread_mutex_unlock(&p->mutex);
        api_push_context(task.x, &scope);
        task.fn(p->a, task.x);
        sl_log_pop(&scope);
        http_unref(task.x);
    }
}

sl_status api_pool_create(api *a, int threads, int queue_max, api_pool **ret, sl_err *err)
{
    api_pool *p = sl_calloc(1, sizeof *p);

    if (!p)
        return sl_fail(err, SL_ENOMEM, "worker pool");
    p->a = a;
    p->cap = (size_t)queue_max;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->ring = sl_calloc(p->cap, sizeof *p->ring);
    while (p->ring && p->thread_count < SL_MIN(threads, THREADS_MAX) &&
           pthread_create(&p->threads[p->thread_count], NULL, worker, p) == 0)
        p->thread_count++;
    if (p->thread_count == 0) {
        api_pool_destroy(p);
        return sl_fail(err, SL_ENOMEM, "worker pool");
    }
    *ret = p;
    return SL_OK;
}

bool api_pool_push(api_pool *p, api_task_fn fn, http_exchange *x)
{
    bool ok;

    pthread_mutex_lock(&p->mutex);
    ok = p->count < p->cap && !p->stop;
    if (ok) {
        http_ref(x);
        p->ring[(p->head + p->count++) % p->cap] = (pool_task){ fn, x };
        pthread_cond_signal(&p->wake);
    }
    pthread_mutex_unlock(&p->mutex);
    return ok;
}

void api_run_later(api *a, http_exchange *x, api_task_fn fn)
{
    openai_error e;
    sl_err err = { 0 };

    if (api_pool_push(a->pool, fn, x))
        return;
    sl_fail(&err, SL_EBUSY, "Too many requests of this kind; try again");
    openai_error_from(&err, LLM_CHAT, &e);
    api_respond_error(a, x, &e);
}

void api_pool_destroy(api_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->mutex);
    p->stop = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
    for (int i = 0; i < p->thread_count; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->mutex);
    sl_free(p->ring);
    sl_free(p);
}
