/* upstream.c - embeddings by another server.
 *
 * A few threads take requests, the most urgent first, and ask the upstream for some texts at a
 * time. What it refuses for a while (429, 5xx) or cannot be reached is tried again, a bounded
 * number of times; anything else is an error at once. */
#include "gateway/gateway.h"

#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/os.h"
#include "base/thread.h"
#include "http/http.h"

#define THREADS          4
#define QUEUE_MAX        256
#define TEXTS_MAX        128 /* in one question */
#define ATTEMPTS         4
#define RETRY_MS_DEFAULT 500
#define CONTEXT_DEFAULT  8192
#define BODY_BYTES_MAX   (64 * SL_MIB) /* 128 vectors of 16,384 numbers as text */
#define TEXT_BYTES_MAX   (96 * SL_MIB)

typedef struct call {
    llm_request *req;
    llm_sink sink;
    llm_usage usage;
    int64_t submitted_ns;
    struct call *next;
} call;

struct upstream {
    upstream_options o;
    char *url, *header, *model; /* owned; header: the key's, or NULL */
    char *prefix[LLM_EMBED_AS_COUNT];
    char name[128];
    pthread_t threads[THREADS];
    int thread_count;

    pthread_mutex_t lock; /* guards the following */
    pthread_cond_t wake;
    call *first; /* by priority, then as they came */
    int waiting;
    llm_request *running[THREADS]; /* until DONE is told; NULL: none */
    bool stop;
};

/* ---- what is asked, and answered --------------------------------------------------------------
 */

static sl_status bad_answer(const char *why, sl_err *err)
{
    return sl_fail(err, SL_EUPSTREAM, "the upstream's answer is no list of embeddings: %s", why);
}

static sl_status read_vector(const json_t *item, size_t count, size_t dim, float *out, bool *seen,
                             sl_err *err)
{
    const json_t *index = json_object_get(item, "index");
    const json_t *v = json_object_get(item, "embedding");
    json_int_t at = json_integer_value(index);

    if (!json_is_integer(index) || at < 0 || (uint64_t)at >= count || seen[at])
        return bad_answer("an index is missing, too large or told twice", err);
    if (json_array_size(v) != dim)
        return sl_fail(err, SL_EUPSTREAM,
                       "the upstream's vectors have %zu numbers, the configuration says %zu; "
                       "correct models[].upstream.dim",
                       json_array_size(v), dim);
    for (size_t i = 0; i < dim; i++) {
        const json_t *x = json_array_get(v, i);
        float f = (float)json_number_value(x);

        if (!json_is_number(x) || !isfinite(f))
            return bad_answer("a number is none", err);
        out[(size_t)at * dim + i] = f;
    }
    seen[at] = true;
    return SL_OK;
}

sl_status upstream_read_vectors(sl_span body, size_t count, size_t dim, float *out,
                                int64_t *ret_tokens, sl_err *err)
{
    json_t *root = json_loadb((const char *)body.ptr, body.len, JSON_REJECT_DUPLICATES, NULL);
    const json_t *data = json_object_get(root, "data"), *tokens;
    bool *seen = sl_calloc(count, sizeof *seen);
    sl_status status = SL_OK;

    if (!seen)
        status = sl_fail(err, SL_ENOMEM, "out of memory");
    else if (!root)
        status = bad_answer("it is no JSON", err);
    else if (json_array_size(data) != count)
        status = bad_answer("it has another number of vectors than texts were sent", err);
    for (size_t i = 0; i < count && status == SL_OK; i++)
        status = read_vector(json_array_get(data, i), count, dim, out, seen, err);
    tokens = json_object_get(json_object_get(root, "usage"), "prompt_tokens");
    if (status == SL_OK)
        *ret_tokens = json_is_integer(tokens) ? SL_MAX(json_integer_value(tokens), 0) : 0;
    sl_free(seen);
    json_decref(root);
    return status;
}

static void put_prompt(const upstream *u, const llm_request *req, const llm_prompt *p, sl_buf *out)
{
    const char *prefix = u->prefix[req->embed_as];
    sl_buf text;

    if (!p->text) {
        sl_buf_putc(out, '[');
        for (size_t i = 0; i < p->id_count; i++)
            sl_buf_printf(out, i ? ",%d" : "%d", p->ids[i]);
        sl_buf_putc(out, ']');
        return;
    }
    if (!prefix) {
        sl_buf_put_json(out, p->text, p->text_len);
        return;
    }
    sl_buf_init(&text, TEXT_BYTES_MAX);
    sl_buf_puts(&text, prefix);
    sl_buf_put(&text, p->text, p->text_len);
    sl_buf_put_json(out, sl_buf_str(&text), text.len);
    out->failed |= text.failed;
    sl_buf_deinit(&text);
}

static sl_status put_question(const upstream *u, const llm_request *req, size_t from, size_t count,
                              sl_buf *out, sl_err *err)
{
    sl_buf_puts(out, "{\"model\":");
    sl_buf_put_json(out, u->model, strlen(u->model));
    sl_buf_puts(out, ",\"encoding_format\":\"float\",\"input\":[");
    for (size_t i = from; i < from + count; i++) {
        if (i > from)
            sl_buf_putc(out, ',');
        put_prompt(u, req, &req->prompts[i], out);
    }
    sl_buf_puts(out, "]}");
    return sl_buf_ok(out, "question to the upstream", err);
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* Whether the same question may be answered later. */
static bool is_passing(sl_status status, int code)
{
    return code == 429 || code >= 500 ||
           (code == 0 && (status == SL_EUPSTREAM || status == SL_ETIMEOUT));
}

/* Waits before another attempt. False: the request was cancelled meanwhile. */
static bool wait_to_retry(upstream *u, const llm_request *req, int attempt)
{
    int64_t pause_ms = (u->o.retry_ms > 0 ? u->o.retry_ms : RETRY_MS_DEFAULT) << attempt;
    int64_t until_ns = sl_clock_mono_ns() + pause_ms * 1000000;
    bool in_time = true;

    pthread_mutex_lock(&u->lock);
    while (in_time && !u->stop && !atomic_load(&req->cancelled))
        in_time = sl_cond_wait_until(&u->wake, &u->lock, until_ns);
    pthread_mutex_unlock(&u->lock);
    return !in_time && !atomic_load(&req->cancelled);
}

/* Failures that are this server's or the upstream's must not look like the caller's. */
static sl_status explain(const upstream *u, sl_status status, int code, const sl_err *why,
                         sl_err *err)
{
    if (status == SL_ECANCELLED || status == SL_ENOMEM)
        return sl_fail(err, status, "%s", why->text);
    if (code == 401 || code == 403)
        return sl_fail(err, SL_EUPSTREAM,
                       "The upstream of '%s' refuses its key (HTTP %d); set models[].upstream.key",
                       u->name, code);
    if (code == 429)
        return sl_fail(err, SL_EBUSY, "The upstream of '%s' is limiting us; try again later",
                       u->name);
    return sl_fail(err, SL_EUPSTREAM, "The upstream of '%s' failed: %.300s", u->name, why->text);
}

static sl_status ask(upstream *u, const llm_request *req, sl_span question, sl_buf *answer,
                     sl_err *err)
{
    const char *headers[] = { "Content-Type: application/json", u->header };
    const http_client_options o = { .url = u->url,
                                    .headers = headers,
                                    .header_count = u->header ? 2 : 1,
                                    .post = question.ptr,
                                    .post_len = question.len,
                                    .max_bytes = BODY_BYTES_MAX,
                                    .no_redirects = true,
                                    .cancelled = &req->cancelled };
    sl_err why = { 0 };
    sl_status status;
    int code = 0;

    for (int attempt = 0;; attempt++) {
        sl_buf_clear(answer);
        status = http_fetch(&o, answer, &code, &why);
        if (status == SL_OK)
            return SL_OK;
        if (attempt + 1 == ATTEMPTS || !is_passing(status, code) || !wait_to_retry(u, req, attempt))
            return explain(u, status, code, &why, err);
    }
}

static void tell(const call *c, const llm_event *ev)
{
    c->sink.fn(c->sink.ctx, c->req, ev);
}

/* Prompts [from, from + count). */
static sl_status embed_some(upstream *u, call *c, size_t from, size_t count, sl_err *err)
{
    size_t dim = (size_t)u->o.dim;
    float *vectors = sl_calloc(count, dim * sizeof *vectors);
    sl_buf question, answer;
    int64_t tokens = 0;
    sl_status status;

    sl_buf_init(&question, TEXT_BYTES_MAX);
    sl_buf_init(&answer, BODY_BYTES_MAX);
    status = vectors ? put_question(u, c->req, from, count, &question, err)
                     : sl_fail(err, SL_ENOMEM, "out of memory");
    if (status == SL_OK)
        status = ask(u, c->req, sl_span_of(question.ptr, question.len), &answer, err);
    if (status == SL_OK)
        status = upstream_read_vectors(sl_span_of(answer.ptr, answer.len), count, dim, vectors,
                                       &tokens, err);
    c->usage.prompt_tokens += tokens;
    for (size_t i = 0; i < count && status == SL_OK; i++)
        tell(c, &(llm_event){ .kind = LLM_EV_EMBEDDING,
                              .choice = (uint32_t)(from + i),
                              .vector = vectors + i * dim,
                              .vector_len = dim });
    sl_buf_deinit(&question);
    sl_buf_deinit(&answer);
    sl_free(vectors);
    return status;
}

/* A token is four bytes of text, or so. */
static int64_t estimate(const llm_request *req)
{
    int64_t tokens = 0;

    for (size_t i = 0; i < req->prompt_count; i++)
        tokens += req->prompts[i].text ? (int64_t)req->prompts[i].text_len / 4 + 1
                                       : (int64_t)req->prompts[i].id_count;
    return tokens;
}

static void run(upstream *u, int slot, call *c)
{
    int64_t start_ns = sl_clock_mono_ns();
    size_t count = c->req->prompt_count;
    sl_status status = SL_OK;
    llm_event ev = { .kind = LLM_EV_START };

    c->usage.queue_ns = start_ns - c->submitted_ns;
    ev.usage = c->usage;
    ev.usage.prompt_tokens = estimate(c->req);
    tell(c, &ev);
    ev = (llm_event){ .kind = LLM_EV_ERROR };
    for (size_t at = 0; at < count && status == SL_OK; at += TEXTS_MAX)
        status = embed_some(u, c, at, SL_MIN(count - at, (size_t)TEXTS_MAX), &ev.error);
    if (status != SL_OK && !atomic_load(&c->req->cancelled)) {
        ev.error.status = status;
        tell(c, &ev);
    }
    if (c->usage.prompt_tokens == 0 && status == SL_OK)
        c->usage.prompt_tokens = estimate(c->req); /* it did not say */
    c->usage.total_ns = c->usage.ttft_ns = sl_clock_mono_ns() - c->submitted_ns;
    pthread_mutex_lock(&u->lock);
    u->running[slot] = NULL; /* whoever hears DONE may destroy it */
    pthread_mutex_unlock(&u->lock);
    ev = (llm_event){ .kind = LLM_EV_DONE, .usage = c->usage };
    tell(c, &ev);
}

/* ---- threads --------------------------------------------------------------------------------- */

/* The next call, which is then running in the slot; NULL: it is to stop. */
static call *take(upstream *u, int slot)
{
    call *c;

    pthread_mutex_lock(&u->lock);
    while (!u->first && !u->stop)
        pthread_cond_wait(&u->wake, &u->lock);
    c = u->first;
    if (c) {
        u->first = c->next;
        u->waiting--;
        if (u->stop)
            llm_cancel(c->req);
        u->running[slot] = c->req;
    }
    pthread_mutex_unlock(&u->lock);
    return c;
}

typedef struct seat {
    upstream *u;
    int slot;
} seat;

static void *thread_main(void *arg)
{
    seat s = *(seat *)arg;
    call *c;

    sl_free(arg);
    while ((c = take(s.u, s.slot)) != NULL) {
        call mine = *c;

        sl_free(c);
        run(s.u, s.slot, &mine);
    }
    return NULL;
}

static sl_status upstream_submit(void *ctx, llm_request *req, llm_sink sink, sl_err *err)
{
    upstream *u = ctx;
    call *c, **at;

    if (req->task != LLM_EMBED)
        return sl_fail(err, SL_EINVAL, "The model '%s' only makes embeddings", u->name);
    SL_TRY(llm_admit(req, &(llm_demand){ estimate(req), 0 }, err));
    c = sl_calloc(1, sizeof *c);
    if (!c)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    *c = (call){ .req = req, .sink = sink, .submitted_ns = sl_clock_mono_ns() };
    pthread_mutex_lock(&u->lock);
    if (u->stop || u->waiting == QUEUE_MAX) {
        pthread_mutex_unlock(&u->lock);
        sl_free(c);
        return sl_fail(err, SL_EBUSY, "the queue of '%s' is full (%d requests)", u->name,
                       QUEUE_MAX);
    }
    for (at = &u->first; *at && (*at)->req->priority <= req->priority;)
        at = &(*at)->next;
    c->next = *at;
    *at = c;
    u->waiting++;
    pthread_cond_broadcast(&u->wake); /* one that waits to try again must not take the signal */
    pthread_mutex_unlock(&u->lock);
    return SL_OK;
}

static void upstream_info(void *ctx, llm_model_info *ret)
{
    const upstream *u = ctx;

    *ret = (llm_model_info){ .can_embed = true,
                             .context_tokens = u->o.context > 0 ? u->o.context : CONTEXT_DEFAULT,
                             .embedding_dim = u->o.dim };
    snprintf(ret->name, sizeof ret->name, "%s", u->name);
    snprintf(ret->arch, sizeof ret->arch, "upstream");
}

llm_backend upstream_backend(upstream *u)
{
    static const llm_backend_ops ops = { .submit = upstream_submit, .info = upstream_info };

    return (llm_backend){ &ops, u };
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool copy_texts(upstream *u, const upstream_options *o)
{
    size_t len = strlen(o->url);
    sl_buf b;

    while (len > 0 && o->url[len - 1] == '/')
        len--;
    sl_buf_init(&b, SL_MIB);
    sl_buf_put(&b, o->url, len);
    sl_buf_puts(&b, "/embeddings");
    u->url = sl_buf_steal(&b);
    if (o->key) {
        sl_buf_puts(&b, "Authorization: Bearer ");
        sl_buf_puts(&b, o->key);
        u->header = sl_buf_steal(&b);
    }
    sl_buf_deinit(&b);
    u->model = sl_strdup(o->model ? o->model : o->name);
    if (o->query_prefix && o->query_prefix[0])
        u->prefix[LLM_EMBED_QUERY] = sl_strdup(o->query_prefix);
    if (o->passage_prefix && o->passage_prefix[0])
        u->prefix[LLM_EMBED_PASSAGE] = sl_strdup(o->passage_prefix);
    return u->url && u->model && (!o->key || u->header);
}

static sl_status start_thread(upstream *u, sl_err *err)
{
    seat *s = sl_malloc(sizeof *s);

    if (!s)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    *s = (seat){ u, u->thread_count };
    if (pthread_create(&u->threads[u->thread_count], NULL, thread_main, s) != 0) {
        sl_free(s);
        return sl_fail(err, SL_EIO, "cannot start a thread");
    }
    u->thread_count++;
    return SL_OK;
}

sl_status upstream_open(const upstream_options *o, upstream **ret, sl_err *err)
{
    upstream *u;
    sl_status status = SL_OK;

    if (strncmp(o->url, "http://", 7) != 0 && strncmp(o->url, "https://", 8) != 0)
        return sl_fail(err, SL_EINVAL, "upstream of '%s': '%.100s' is no http or https URL",
                       o->name, o->url);
    if (o->dim < 1 || o->dim > 16384)
        return sl_fail(err, SL_EINVAL,
                       "upstream of '%s': dim is %d; say how many numbers its vectors have, 1 to "
                       "16384",
                       o->name, o->dim);
    u = sl_calloc(1, sizeof *u);
    if (!u)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    u->o = *o;
    snprintf(u->name, sizeof u->name, "%s", o->name);
    pthread_mutex_init(&u->lock, NULL);
    sl_cond_init(&u->wake);
    if (!copy_texts(u, o))
        status = sl_fail(err, SL_ENOMEM, "out of memory");
    for (int i = 0; i < THREADS && status == SL_OK; i++)
        status = start_thread(u, err);
    if (status == SL_OK)
        *ret = u;
    else
        upstream_close(u);
    return status;
}

void upstream_stop(upstream *u)
{
    pthread_mutex_lock(&u->lock);
    u->stop = true;
    for (int i = 0; i < THREADS; i++)
        if (u->running[i])
            llm_cancel(u->running[i]);
    pthread_cond_broadcast(&u->wake);
    pthread_mutex_unlock(&u->lock);
    for (int i = 0; i < u->thread_count; i++)
        pthread_join(u->threads[i], NULL);
    u->thread_count = 0;
}

void upstream_close(upstream *u)
{
    if (!u)
        return;
    upstream_stop(u);
    pthread_cond_destroy(&u->wake);
    pthread_mutex_destroy(&u->lock);
    sl_free(u->url);
    sl_free(u->header);
    sl_free(u->model);
    for (int i = 0; i < LLM_EMBED_AS_COUNT; i++)
        sl_free(u->prefix[i]);
    sl_free(u);
}
