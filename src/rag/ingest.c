/* ingest.c - the work on the queue: documents are read, cut, embedded together, and stored.
 *
 *   queue --readers--> ready (text and passages) --one thread--> vectors --one commit-->
 * collections
 *
 * Of the processes that share a database one works on its queue: it holds a lock on a file beside
 * it, which ends with the process. Readers go on while passages are embedded, so that the passages
 * of many small documents share a batch, and a slow document holds nobody up but itself. A process
 * without threads does the same within ingest_wait, for whoever waits. */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "base/thread.h"
#include "rag/ingest.h"

#define SPECIAL_TOKENS 4    /* what the embedding model's tokenizer may add around a text */
#define PARENT_TIMES   3    /* passages that are read with one, itself among them */
#define GROUP_CHUNKS   2048 /* stored together: a tenth of a second under the database's lock */
#define GROUP_DOCS     256
#define READY_CHUNKS   8192 /* read ahead at most, */
#define READY_DOCS     1024
#define LOOK_NS        ((int64_t)1000000000) /* for what other processes took in */
#define POLL_NS        ((int64_t)100000000)  /* of one who waits for another process */
#define SWEEP_S        60
#define BUSY_NS_MIN    ((int64_t)50000000) /* after the model had no room, doubled each time, */
#define BUSY_NS_MAX    ((int64_t)2000000000)
#define BUSY_TRIES     20                    /* of one who waits; threads go on */
#define TROUBLE_NS     ((int64_t)1000000000) /* after the database failed */

struct ingest {
    rag *r;
    char lock_path[4200]; /* "": the database is nobody else's */
    atomic_bool stop;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under lock: */
    int lock_fd;     /* -1: another process works on the queue, or nobody */
    bool is_working; /* a thread that waits works on it itself */
    bool has_news;   /* look at the queue */
    int64_t look_ns; /* when to look again anyway */
    int64_t sweep_s;
    int64_t held[READY_DOCS + GROUP_DOCS + INGEST_READERS_MAX];
    size_t held_count;
    ingest_job *ready, **ready_end;
    size_t ready_docs, ready_chunks;
    unsigned troubles; /* how often the machine failed, and the last failure */
    sl_err trouble;

    pthread_t threads[INGEST_READERS_MAX + 1];
    int thread_count;
};

void ingest_step(rag *r, int step)
{
    if (r->on_write)
        r->on_write(r->on_write_ctx, step);
}

/* ---- one document --------------------------------------------------------------------------- */

static sl_status count_tokens(void *ctx, const char *text, size_t len, size_t *ret, sl_err *err)
{
    const rag_model *m = ctx;

    return rag_count_tokens(m->backend, text, len, ret, err);
}

static sl_status read_it(rag *r, ingest_job *j, sl_err *err)
{
    sl_status status;

    if (j->has_text)
        return SL_OK;
    status = reader_read(&r->o.reader, sl_span_of(j->bytes, j->len), j->shown, &j->text, err);
    j->has_text = status == SL_OK;
    sl_free(j->bytes);
    j->bytes = NULL;
    return status;
}

static sl_status cut_it(const rag_model *m, ingest_job *j, sl_err *err)
{
    size_t context = m->context_tokens;
    chunk_options o = {
        .target_tokens = SL_MAX(SL_MIN((size_t)j->cut.tokens, context / 2), (size_t)1),
        .overlap_tokens = (size_t)j->cut.overlap,
        .parent_tokens = PARENT_TIMES * (size_t)j->cut.tokens,
        .tokens_max = context > 2 * SPECIAL_TOKENS ? context - SPECIAL_TOKENS : context,
        .count = count_tokens,
        .ctx = (void *)(uintptr_t)m,
    };

    if (j->is_again && j->text.count == 0) /* of a program that kept no blocks */
        return chunk_text(sl_span_of(j->text.text, j->text.len), &o, &j->chunks, err);
    return chunk_document(&j->text, &o, &j->chunks, err);
}

/* What is wrong with the document becomes its failure. */
static void prepare(rag *r, ingest_job *j)
{
    sl_err err = { 0 };
    rag_model m;
    sl_status status = rag_embed_model(r, &m, &err);

    ingest_step(r, 13);
    if (status == SL_OK)
        status = read_it(r, j, &err);
    if (status == SL_OK)
        status = cut_it(&m, j, &err);
    if (status != SL_OK) {
        err.status = status;
        j->failure = err;
    }
}

/* ---- vectors -------------------------------------------------------------------------------- */

/* The passages of all jobs that have not failed, as they are embedded. */
typedef struct passages {
    rag_text *items;
    size_t count;
    sl_buf contexts; /* headings and header rows, each with its end */
} passages;

static size_t count_passages(const ingest_job *jobs)
{
    size_t count = 0;

    for (const ingest_job *j = jobs; j; j = j->next)
        count += j->failure.status == SL_OK ? j->chunks.count : 0;
    return count;
}

/* Contexts may move while they grow: headings are offsets until the end. */
static void list_passages(const ingest_job *j, passages *p)
{
    for (size_t i = 0; i < j->chunks.count; i++) {
        const chunk *c = &j->chunks.items[i];
        size_t at = p->contexts.len;

        chunk_put_context(&j->chunks, c, j->text.text, &p->contexts);
        if (p->contexts.len > at && p->contexts.ptr[p->contexts.len - 1] == '\n')
            p->contexts.len--; /* rag_embed puts a line end there */
        sl_buf_putc(&p->contexts, '\0');
        p->items[p->count++] =
            (rag_text){ (const char *)at, j->text.text + c->begin, c->end - c->begin };
    }
}

static sl_status make_passages(const ingest_job *jobs, passages *p, sl_err *err)
{
    sl_buf_init(&p->contexts, SL_GIB);
    p->items = sl_calloc(count_passages(jobs) + 1, sizeof *p->items);
    p->count = 0;
    if (!p->items)
        return sl_fail(err, SL_ENOMEM, "out of memory for passages");
    for (const ingest_job *j = jobs; j; j = j->next)
        if (j->failure.status == SL_OK)
            list_passages(j, p);
    SL_TRY(sl_buf_ok(&p->contexts, "passages", err));
    for (size_t i = 0; i < p->count; i++)
        p->items[i].heading = sl_buf_str(&p->contexts) + (size_t)p->items[i].heading;
    return SL_OK;
}

static sl_status hand_out(ingest_job *jobs, const float *vectors, size_t dim, sl_err *err)
{
    for (ingest_job *j = jobs; j; j = j->next) {
        size_t bytes = j->chunks.count * dim * sizeof(float);

        if (j->failure.status != SL_OK)
            continue;
        j->vectors = sl_malloc(bytes + 1);
        if (!j->vectors)
            return sl_fail(err, SL_ENOMEM, "out of memory for vectors");
        memcpy(j->vectors, vectors, bytes);
        vectors += j->chunks.count * dim;
    }
    return SL_OK;
}

static sl_status embed_once(struct ingest *g, const rag_model *m, ingest_job *jobs, sl_err *err)
{
    passages p = { 0 };
    float *vectors = NULL;
    sl_status status = make_passages(jobs, &p, err);

    if (status == SL_OK && !(vectors = sl_calloc(p.count + 1, m->dim * sizeof *vectors)))
        status = sl_fail(err, SL_ENOMEM, "out of memory for %zu vectors", p.count);
    if (status == SL_OK && p.count > 0)
        status = rag_embed_many(g->r, m, p.items, p.count, &g->stop, vectors, err);
    if (status == SL_OK)
        status = hand_out(jobs, vectors, m->dim, err);
    sl_free(vectors);
    sl_free(p.items);
    sl_buf_deinit(&p.contexts);
    return status;
}

static void pause_until(struct ingest *g, int64_t until_ns)
{
    pthread_mutex_lock(&g->lock);
    while (!atomic_load(&g->stop) && sl_cond_wait_until(&g->changed, &g->lock, until_ns))
        continue;
    pthread_mutex_unlock(&g->lock);
}

/* A model without room gets some time. */
static sl_status embed_patiently(struct ingest *g, const rag_model *m, ingest_job *jobs,
                                 sl_err *err)
{
    int64_t pause_ns = BUSY_NS_MIN;
    sl_status status = embed_once(g, m, jobs, err);

    for (int i = 0;
         status == SL_EBUSY && (g->thread_count > 0 || i < BUSY_TRIES) && !atomic_load(&g->stop);
         i++) {
        pause_until(g, sl_clock_mono_ns() + pause_ns);
        pause_ns = SL_MIN(2 * pause_ns, BUSY_NS_MAX);
        status = embed_once(g, m, jobs, err);
    }
    return status;
}

/* One document that cannot be embedded must not fail the others of its group. */
static sl_status embed_group(struct ingest *g, const rag_model *m, ingest_job *jobs, sl_err *err)
{
    sl_status status = embed_patiently(g, m, jobs, err);

    if (status == SL_OK || atomic_load(&g->stop) || status == SL_ECANCELLED)
        return status;
    for (ingest_job *j = jobs; j; j = j->next) {
        ingest_job *next = j->next;
        sl_err why = { 0 };

        if (j->failure.status != SL_OK || j->vectors)
            continue;
        j->next = NULL;
        status = embed_patiently(g, m, j, &why);
        j->next = next;
        if (status == SL_ECANCELLED || status == SL_EBUSY || atomic_load(&g->stop))
            return sl_fail(err, status == SL_OK ? SL_ECANCELLED : status, "%s",
                           status == SL_OK ? "stopped" : why.text); /* they stay in the queue */
        why.status = status;
        if (status != SL_OK)
            j->failure = why;
    }
    return SL_OK;
}

/* ---- a group -------------------------------------------------------------------------------- */

static void drop_all(ingest_job *jobs)
{
    while (jobs) {
        ingest_job *next = jobs->next;

        ingest_job_destroy(jobs);
        jobs = next;
    }
}

static void log_group(const ingest_job *jobs)
{
    for (const ingest_job *j = jobs; j; j = j->next)
        if (j->failure.status != SL_OK)
            SL_LOG(SL_LOG_INFO, "rag.document_failed", SL_F_STR("document", j->shown),
                   SL_F_STR("collection", j->collection), SL_F_STR("error", j->failure.text));
        else
            SL_LOG(SL_LOG_DEBUG, "rag.document_stored", SL_F_STR("document", j->shown),
                   SL_F_STR("collection", j->collection), SL_F_NUM("chunks", j->chunks.count));
}

/* From passages to the collections. SL_OK: each job has its end in the database. */
static sl_status finish_group(struct ingest *g, ingest_job *jobs, sl_err *err)
{
    rag_model m = { 0 };
    sl_status status = SL_OK;

    if (count_passages(jobs) > 0) {
        status = rag_embed_model(g->r, &m, err);
        if (status == SL_OK)
            status = embed_group(g, &m, jobs, err);
    }
    ingest_step(g->r, 14);
    if (status == SL_OK)
        status = queue_finish(g->r, &m, jobs, err);
    ingest_step(g->r, 17);
    if (status == SL_OK)
        log_group(jobs);
    return status;
}

/* The lock is held from here on. */

static void forget(struct ingest *g, const ingest_job *jobs)
{
    for (const ingest_job *j = jobs; j; j = j->next)
        for (size_t i = 0; i < g->held_count; i++)
            if (g->held[i] == j->id) {
                g->held[i] = g->held[--g->held_count];
                break;
            }
}

/* What the group came to, with the lock let go of meanwhile. */
static sl_status run_group(struct ingest *g, ingest_job *jobs)
{
    sl_err err = { 0 };
    sl_status status;

    pthread_mutex_unlock(&g->lock);
    status = finish_group(g, jobs, &err);
    pthread_mutex_lock(&g->lock);
    forget(g, jobs);
    if (status != SL_OK && status != SL_ECANCELLED) {
        g->troubles++;
        err.status = status;
        g->trouble = err;
        SL_LOG(SL_LOG_ERROR, "rag.not_stored", SL_F_STR("error", err.text));
        g->has_news = false; /* what stands in the way may be gone a little later */
        g->look_ns = sl_clock_mono_ns() + LOOK_NS;
    } else {
        g->has_news = true; /* who was held is free again */
    }
    drop_all(jobs);
    pthread_cond_broadcast(&g->changed);
    return status;
}

static bool may_lead(struct ingest *g)
{
    int fd;

    if (g->lock_fd >= 0 || !g->lock_path[0])
        return true;
    fd = open(g->lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return false;
    }
    g->lock_fd = fd;
    return true;
}

static void stop_leading(struct ingest *g)
{
    if (g->lock_fd >= 0)
        close(g->lock_fd);
    g->lock_fd = -1;
}

/* The next document, held from now on; NULL: there is none. */
static ingest_job *take(struct ingest *g)
{
    ingest_job *j = NULL;
    sl_err err = { 0 };

    if (g->held_count == SL_COUNT_OF(g->held))
        return NULL;
    if (queue_take(g->r, g->held, g->held_count, &j, &err) != SL_OK) {
        g->troubles++;
        g->trouble = err;
        SL_LOG(SL_LOG_ERROR, "rag.queue_not_read", SL_F_STR("error", err.text));
        return NULL;
    }
    if (j)
        g->held[g->held_count++] = j->id;
    return j;
}

/* One group, read by who waits for it. *ret_any: there was one. */
static sl_status work(struct ingest *g, bool *ret_any)
{
    ingest_job *first = NULL, **end = &first, *j;
    size_t docs = 0, chunks = 0;

    while (docs < GROUP_DOCS && chunks < GROUP_CHUNKS && !atomic_load(&g->stop) && (j = take(g))) {
        pthread_mutex_unlock(&g->lock);
        prepare(g->r, j);
        pthread_mutex_lock(&g->lock);
        *end = j;
        end = &j->next;
        docs++;
        chunks += j->chunks.count;
    }
    *ret_any = first != NULL;
    return first ? run_group(g, first) : SL_OK;
}

/* ---- threads -------------------------------------------------------------------------------- */

static void sweep(struct ingest *g)
{
    int64_t now_s = rag_now_s(g->r);

    if (now_s < g->sweep_s)
        return;
    g->sweep_s = now_s + SWEEP_S;
    pthread_mutex_unlock(&g->lock);
    collections_expire(g->r);
    pthread_mutex_lock(&g->lock);
}

static bool has_room(const struct ingest *g)
{
    return g->ready_docs < READY_DOCS && g->ready_chunks < READY_CHUNKS;
}

static void push_ready(struct ingest *g, ingest_job *j)
{
    *g->ready_end = j;
    g->ready_end = &j->next;
    g->ready_docs++;
    g->ready_chunks += j->chunks.count;
    pthread_cond_broadcast(&g->changed);
}

static void *reader_main(void *ctx)
{
    struct ingest *g = ctx;

    pthread_mutex_lock(&g->lock);
    while (!atomic_load(&g->stop)) {
        bool is_due = g->has_news || sl_clock_mono_ns() >= g->look_ns;
        ingest_job *j = is_due && has_room(g) && may_lead(g) ? take(g) : NULL;

        if (j) {
            pthread_mutex_unlock(&g->lock);
            prepare(g->r, j);
            pthread_mutex_lock(&g->lock);
            push_ready(g, j);
            continue;
        }
        if (is_due && has_room(g)) { /* the queue is empty, or not ours */
            g->has_news = false;
            g->look_ns = sl_clock_mono_ns() + LOOK_NS;
        }
        if (g->lock_fd >= 0 || !g->lock_path[0])
            sweep(g);
        (void)sl_cond_wait_until(&g->changed, &g->lock,
                                 has_room(g) && !g->has_news ? g->look_ns : INT64_MAX);
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

/* As much of what is ready as is stored together. */
static ingest_job *take_ready(struct ingest *g)
{
    ingest_job *first = g->ready, *last = first;
    size_t docs = 1, chunks = first->chunks.count;

    while (last->next && docs < GROUP_DOCS && chunks + last->next->chunks.count <= GROUP_CHUNKS) {
        last = last->next;
        docs++;
        chunks += last->chunks.count;
    }
    g->ready = last->next;
    last->next = NULL;
    if (!g->ready)
        g->ready_end = &g->ready;
    g->ready_docs -= docs;
    g->ready_chunks -= chunks;
    pthread_cond_broadcast(&g->changed); /* there is room again */
    return first;
}

static void *embedder_main(void *ctx)
{
    struct ingest *g = ctx;

    pthread_mutex_lock(&g->lock);
    while (!atomic_load(&g->stop)) {
        sl_status status;

        if (!g->ready) {
            pthread_cond_wait(&g->changed, &g->lock);
            continue;
        }
        status = run_group(g, take_ready(g));
        if (status != SL_OK) { /* the same again in a while */
            pthread_mutex_unlock(&g->lock);
            pause_until(g, sl_clock_mono_ns() + TROUBLE_NS);
            pthread_mutex_lock(&g->lock);
        }
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

/* ---- the door ------------------------------------------------------------------------------- */

void ingest_wake(rag *r)
{
    struct ingest *g = r->ingest;

    pthread_mutex_lock(&g->lock);
    g->has_news = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

/* Whether this process works on the queue by threads. */
static bool has_workers(const struct ingest *g)
{
    return g->thread_count > 0 || g->is_working;
}

static sl_status wait_locked(struct ingest *g, int64_t id, sl_err *err)
{
    unsigned troubles = g->troubles;
    bool is_there = true, any = true;

    for (;;) {
        SL_TRY(queue_has(g->r, id, &is_there, err));
        if (!is_there)
            return SL_OK;
        if (g->troubles != troubles)
            return sl_fail(err, g->trouble.status, "%s", g->trouble.text);
        if (atomic_load(&g->stop))
            return sl_fail(err, SL_ECANCELLED, "the document stays in the queue: stopping");
        any = false;
        if (!has_workers(g) && may_lead(g)) {
            g->is_working = true;
            (void)work(g, &any); /* its failure is a trouble */
            g->is_working = false;
            stop_leading(g);
            pthread_cond_broadcast(&g->changed);
        }
        if (!any)
            (void)sl_cond_wait_until(&g->changed, &g->lock, sl_clock_mono_ns() + POLL_NS);
    }
}

sl_status ingest_wait(rag *r, int64_t id, sl_err *err)
{
    struct ingest *g = r->ingest;
    sl_status status;

    pthread_mutex_lock(&g->lock);
    status = wait_locked(g, id, err);
    pthread_mutex_unlock(&g->lock);
    return status;
}

static sl_status start_threads(struct ingest *g, int readers, sl_err *err)
{
    readers = SL_MIN(readers, INGEST_READERS_MAX);
    for (int i = 0; i < readers + (readers > 0); i++) {
        if (pthread_create(&g->threads[i], NULL, i < readers ? reader_main : embedder_main, g) != 0)
            return sl_fail(err, SL_EIO, "cannot start a thread");
        g->thread_count++;
    }
    return SL_OK;
}

sl_status ingest_start(rag *r, int workers, sl_err *err)
{
    sl_status status;

    pthread_mutex_lock(&r->ingest->lock);
    SL_ASSERT(r->ingest->thread_count == 0);
    status = start_threads(r->ingest, workers, err);
    pthread_mutex_unlock(&r->ingest->lock);
    return status;
}

sl_status ingest_open(rag *r, sl_err *err)
{
    struct ingest *g = sl_calloc(1, sizeof *g);

    if (!g)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    r->ingest = g;
    g->r = r;
    g->lock_fd = -1;
    g->ready_end = &g->ready;
    g->has_news = true; /* what an earlier process left */
    pthread_mutex_init(&g->lock, NULL);
    sl_cond_init(&g->changed);
    if (strcmp(r->o.db_path, ":memory:") != 0 &&
        (size_t)snprintf(g->lock_path, sizeof g->lock_path, "%s-ingest", r->o.db_path) >=
            sizeof g->lock_path)
        return sl_fail(err, SL_EINVAL, "the path of the documents is too long");
    return start_threads(g, r->o.ingest_workers, err);
}

void ingest_close(rag *r)
{
    struct ingest *g = r->ingest;

    if (!g)
        return;
    pthread_mutex_lock(&g->lock);
    atomic_store(&g->stop, true);
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
    for (int i = 0; i < g->thread_count; i++)
        pthread_join(g->threads[i], NULL);
    drop_all(g->ready);
    stop_leading(g);
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
    sl_free(g);
    r->ingest = NULL;
}
