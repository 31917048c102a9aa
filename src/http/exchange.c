/* exchange.c - one request and its answer, shared by an io thread, a producer and the watcher.
 *
 * Invariants, all under exchange.mutex:
 * 1. suspended is true exactly while MHD holds the connection suspended on our behalf; whoever
 *    clears it resumes the connection.
 * 2. conn is NULL once MHD reported the end of the request; nobody touches MHD after that.
 * 3. on_close is called at most once, never after complete, and with no lock held.
 * 4. Bytes out[out_pos..len) are unsent; a fixed answer is never changed once complete. */
#include "http/http_int.h"

#include <ctype.h>
#include <sched.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

/* ---- life ---------------------------------------------------------------------------------- */

static enum MHD_Result copy_pair(void *cls, enum MHD_ValueKind kind, const char *key,
                                 const char *value)
{
    http_exchange *x = cls;
    http_pair *p = sl_arena_alloc(&x->arena, sizeof *p);
    http_pair **list = kind == MHD_HEADER_KIND ? &x->headers : &x->queries;

    if (!p)
        return MHD_NO;
    p->name = sl_arena_strndup(&x->arena, key, strlen(key));
    p->value = sl_arena_strndup(&x->arena, value ? value : "", value ? strlen(value) : 0);
    if (!p->name || !p->value)
        return MHD_NO;
    p->next = *list;
    *list = p;
    return MHD_YES;
}

static bool is_sane_id(const char *id)
{
    size_t len = id ? strlen(id) : 0;

    if (len == 0 || len >= HTTP_REQUEST_ID_BYTES)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)id[i]) && !strchr("-_.:", id[i]))
            return false;
    return true;
}

static void set_request_id(http_exchange *x)
{
    const char *given = http_header(x, "x-request-id");
    if (is_sane_id(given)) {
        snprintf(x->request_id, sizeof x->request_id, "%s", given);
        return;
    }
    sl_random_id(x->request_id, sizeof x->request_id, "req_", 12);
}

/* Keeps the server's sum of what streams hold unsent; bytes is what this one holds now. */
static void queue_count(http_exchange *x, size_t bytes)
{
    if (bytes != x->queue_counted)
        atomic_fetch_add(&x->server->queue_bytes, bytes - x->queue_counted); /* wraps to less */
    x->queue_counted = bytes;
}

/* Copies the head unless it breaks a limit, which head_status tells. */
static bool copy_head(http_exchange *x, struct MHD_Connection *conn)
{
    x->head_status = head_check(x, conn);
    if (x->head_status == 0 &&
        (MHD_get_connection_values(conn, MHD_HEADER_KIND, copy_pair, x) < 0 ||
         MHD_get_connection_values(conn, MHD_GET_ARGUMENT_KIND, copy_pair, x) < 0))
        return false;
    x->remote = head_remote(x);
    return x->remote;
}

http_exchange *exchange_create(http_server *s, struct MHD_Connection *conn, bool uri_too_long,
                               const char *method, const char *path)
{
    http_exchange *x = sl_calloc(1, sizeof *x);

    if (!x)
        return NULL;
    atomic_init(&x->refs, 1);
    atomic_init(&x->gone, false);
    pthread_mutex_init(&x->mutex, NULL);
    server_ref(s);
    x->server = s;
    x->started_ns = sl_clock_mono_ns();
    x->conn = conn;
    x->uri_too_long = uri_too_long;
    x->file = -1;
    sl_arena_init(&x->arena, ARENA_BYTES_MAX);
    sl_arena_init(&x->extra_arena, ARENA_BYTES_MAX);
    sl_buf_init(&x->body, s->options.body_bytes_max);
    sl_buf_init(&x->out, SIZE_MAX / 2);
    x->method = sl_arena_strndup(&x->arena, method, strlen(method));
    x->path = sl_arena_strndup(&x->arena, path, strlen(path));
    if (!x->method || !x->path || !copy_head(x, conn)) {
        http_unref(x);
        return NULL;
    }
    set_request_id(x);
    return x;
}

void exchange_uncount(http_exchange *x)
{
    atomic_fetch_sub(&x->server->body_bytes, x->body_counted);
    x->body_counted = 0;
}

void http_ref(http_exchange *x)
{
    atomic_fetch_add(&x->refs, 1);
}

void http_unref(http_exchange *x)
{
    http_server *s = x->server;

    if (atomic_fetch_sub(&x->refs, 1) != 1)
        return;
    if (s->options.on_done && x->dispatched)
        s->options.on_done(s->options.on_done_ctx, x);
    if (x->user_destroy)
        x->user_destroy(x->user);
    if (x->context_destroy)
        x->context_destroy(x->context);
    exchange_uncount(x);
    queue_count(x, 0);
    if (x->file >= 0)
        close(x->file);
    sl_buf_deinit(&x->body);
    sl_buf_deinit(&x->out);
    sl_arena_deinit(&x->arena);
    sl_arena_deinit(&x->extra_arena);
    pthread_mutex_destroy(&x->mutex);
    sl_free(x);
    server_unref(s);
}

/* ---- the request --------------------------------------------------------------------------- */

static const char *pair_find(const http_pair *list, const char *name)
{
    for (; list; list = list->next)
        if (strcasecmp(list->name, name) == 0)
            return list->value;
    return NULL;
}

const char *http_method(const http_exchange *x)
{
    return x->method;
}

const char *http_path(const http_exchange *x)
{
    return x->path;
}

const char *http_param(const http_exchange *x, const char *name)
{
    for (size_t i = 0; i < x->param_count; i++)
        if (strcmp(x->params[i].name, name) == 0)
            return x->params[i].value;
    return NULL;
}

const char *http_query(const http_exchange *x, const char *name)
{
    return pair_find(x->queries, name);
}

size_t http_query_all(const http_exchange *x, const char *name, const char **ret, size_t max)
{
    size_t len = strlen(name), count = 0;

    for (const http_pair *p = x->queries; p; p = p->next)
        if (strncmp(p->name, name, len) == 0 &&
            (!p->name[len] || strcmp(p->name + len, "[]") == 0)) {
            if (count < max)
                ret[count] = p->value ? p->value : "";
            count++;
        }
    return count;
}

const char *http_header(const http_exchange *x, const char *name)
{
    return pair_find(x->headers, name);
}

sl_span http_body(const http_exchange *x)
{
    return sl_span_of(sl_buf_str(&x->body), x->body.len);
}

const char *http_remote(const http_exchange *x)
{
    return x->remote;
}

const char *http_request_id(const http_exchange *x)
{
    return x->request_id;
}

const char *http_route(const http_exchange *x)
{
    return x->route ? x->route->pattern : "";
}

int http_status(const http_exchange *x)
{
    http_exchange *m = (http_exchange *)x; /* the mutex is the only thing changed */
    int status;

    pthread_mutex_lock(&m->mutex);
    status = m->status;
    pthread_mutex_unlock(&m->mutex);
    return status;
}

int64_t http_started_ns(const http_exchange *x)
{
    return x->started_ns;
}

bool http_gone(const http_exchange *x)
{
    return atomic_load(&x->gone);
}

void http_set_user(http_exchange *x, void *user, void (*destroy)(void *user))
{
    x->user = user;
    x->user_destroy = destroy;
}

void *http_user(const http_exchange *x)
{
    return x->user;
}

void http_set_context(http_exchange *x, void *context, void (*destroy)(void *context))
{
    x->context = context;
    x->context_destroy = destroy;
}

void *http_context(const http_exchange *x)
{
    return x->context;
}

/* ---- the client goes away ------------------------------------------------------------------ */

/* Lets go of the mutex and then resumes the connection if it sleeps: in this order, since the
 * thread that wakes takes the mutex first of all. Nobody else resumes it meanwhile, as `suspended`
 * is false already, and MHD leaves a suspended connection alone. */
static void unlock_and_wake(http_exchange *x)
{
    struct MHD_Connection *sleeper = x->suspended ? x->conn : NULL;

    SL_ASSERT(sleeper || !x->suspended);
    x->suspended = false;
    pthread_mutex_unlock(&x->mutex);
    if (sleeper)
        MHD_resume_connection(sleeper);
}

/* Takes the owner's callback if it is due; the mutex is held. The caller calls it unlocked. */
static void (*take_on_close(http_exchange *x, void **ret_ctx))(void *ctx)
{
    void (*fn)(void *ctx) = x->on_close;

    if (!fn || x->complete || x->close_told || !atomic_load(&x->gone))
        return NULL;
    x->close_told = true;
    *ret_ctx = x->on_close_ctx;
    return fn;
}

void http_on_close(http_exchange *x, void (*fn)(void *ctx), void *ctx)
{
    void *due_ctx = NULL;
    void (*due)(void *ctx);

    pthread_mutex_lock(&x->mutex);
    x->on_close = fn;
    x->on_close_ctx = ctx;
    due = take_on_close(x, &due_ctx);
    pthread_mutex_unlock(&x->mutex);
    if (due)
        due(due_ctx);
}

void exchange_abandon(http_exchange *x)
{
    void *ctx = NULL;
    void (*fn)(void *ctx);

    pthread_mutex_lock(&x->mutex);
    if (!x->complete) /* a client may leave as soon as it has read the end */
        atomic_store(&x->gone, true);
    fn = take_on_close(x, &ctx);
    unlock_and_wake(x);
    if (fn)
        fn(ctx);
}

void exchange_closed(http_exchange *x, bool whole)
{
    pthread_mutex_lock(&x->mutex);
    x->suspended = false;
    x->conn = NULL;
    pthread_mutex_unlock(&x->mutex);
    if (!whole)
        exchange_abandon(x);
    http_unref(x);
}

/* ---- the answer ---------------------------------------------------------------------------- */

void http_set_header(http_exchange *x, const char *name, const char *value)
{
    http_pair *p;

    pthread_mutex_lock(&x->mutex);
    p = sl_arena_alloc(&x->extra_arena, sizeof *p);
    if (p) {
        p->name = sl_arena_strndup(&x->extra_arena, name, strlen(name));
        p->value = sl_arena_strndup(&x->extra_arena, value, strlen(value));
        if (p->name && p->value) {
            p->next = x->extra;
            x->extra = p;
        }
    }
    pthread_mutex_unlock(&x->mutex);
}

/* The mutex is held. */
static void begin_answer(http_exchange *x, answer_kind kind, int status, const char *content_type)
{
    SL_ASSERT(x->kind == ANSWER_NONE);
    x->kind = kind;
    x->status = status;
    x->content_type = sl_arena_strndup(&x->extra_arena, content_type, strlen(content_type));
}

void http_respond(http_exchange *x, int status, const char *content_type, const void *body,
                  size_t len)
{
    pthread_mutex_lock(&x->mutex);
    begin_answer(x, ANSWER_FIXED, status, content_type);
    sl_buf_put(&x->out, body, len);
    x->complete = true;
    unlock_and_wake(x);
}

void http_respond_buf(http_exchange *x, int status, const char *content_type, sl_buf *body)
{
    pthread_mutex_lock(&x->mutex);
    begin_answer(x, ANSWER_FIXED, status, content_type);
    x->out = *body;
    x->complete = true;
    unlock_and_wake(x);
    *body = (sl_buf){ .max = body->max };
}

void http_respond_file(http_exchange *x, int status, const char *content_type, int fd,
                       uint64_t bytes)
{
    pthread_mutex_lock(&x->mutex);
    begin_answer(x, ANSWER_FILE, status, content_type);
    x->file = fd;
    x->file_bytes = bytes;
    x->complete = true;
    unlock_and_wake(x);
}

void http_respond_error(http_exchange *x, int status, const char *type, const char *param,
                        const char *code, const char *message)
{
    sl_buf b;

    sl_buf_init(&b, 64 * SL_KIB);
    sl_buf_puts(&b, "{\"error\":{\"message\":");
    sl_buf_put_json(&b, message, strlen(message));
    sl_buf_puts(&b, ",\"type\":");
    sl_buf_put_json(&b, type, strlen(type));
    sl_buf_puts(&b, ",\"param\":");
    if (param)
        sl_buf_put_json(&b, param, strlen(param));
    else
        sl_buf_puts(&b, "null");
    sl_buf_puts(&b, ",\"code\":");
    if (code)
        sl_buf_put_json(&b, code, strlen(code));
    else
        sl_buf_puts(&b, "null");
    sl_buf_puts(&b, "}}");
    http_respond_buf(x, status, "application/json", &b);
}

void http_stream_begin(http_exchange *x, int status, const char *content_type)
{
    pthread_mutex_lock(&x->mutex);
    begin_answer(x, ANSWER_STREAM, status, content_type);
    x->is_sse = strncmp(content_type, "text/event-stream", 17) == 0;
    x->last_write_ns = sl_clock_mono_ns();
    unlock_and_wake(x);
}

/* True when a stream with so many unsent bytes has to go: it holds too many, or all together do
 * and this one more than its share. */
static bool is_over(const http_exchange *x, size_t unsent)
{
    http_server *s = x->server;

    return unsent > s->options.queue_bytes_max ||
           (unsent > SL_HTTP_QUEUE_SHARE_BYTES &&
            atomic_load(&s->queue_bytes) > s->options.queue_bytes_total_max);
}

/* Appends to the unsent bytes, after moving them to the front where that is cheap. */
static bool queue_put(http_exchange *x, const void *bytes, size_t len)
{
    size_t unsent = x->out.len - x->out_pos;

    if (is_over(x, unsent + len))
        return false;
    if (x->out_pos > 0 && x->out_pos >= unsent) {
        memmove(x->out.ptr, x->out.ptr + x->out_pos, unsent);
        x->out.len = unsent;
        x->out_pos = 0;
    }
    sl_buf_put(&x->out, bytes, len);
    queue_count(x, x->out.cap);
    return !x->out.failed;
}

bool http_stream_write(http_exchange *x, const void *bytes, size_t len)
{
    bool ok;

    pthread_mutex_lock(&x->mutex);
    SL_ASSERT(x->kind == ANSWER_STREAM);
    SL_ASSERT(!x->complete);
    ok = !atomic_load(&x->gone) && x->conn;
    if (ok && !queue_put(x, bytes, len)) {
        atomic_store(&x->gone, true); /* reads too slowly: the watcher cuts the connection */
        x->close_told = true;         /* the writer learns it here */
        ok = false;
        server_wake(x->server);
    }
    if (ok) {
        x->last_write_ns = sl_clock_mono_ns();
        if (!x->stalled_since_ns)
            x->stalled_since_ns = x->last_write_ns;
    }
    unlock_and_wake(x);
    return ok;
}

void http_stream_end(http_exchange *x)
{
    pthread_mutex_lock(&x->mutex);
    SL_ASSERT(x->kind == ANSWER_STREAM);
    x->complete = true;
    unlock_and_wake(x);
}

bool exchange_tick(http_exchange *x, int64_t now_ns)
{
    const http_server_options *o = &x->server->options;
    bool stuck, is_silent;

    pthread_mutex_lock(&x->mutex);
    is_silent = x->kind == ANSWER_STREAM && x->is_sse && !x->complete && x->conn && o->ping_s > 0 &&
                now_ns - x->last_write_ns > (int64_t)o->ping_s * 1000000000;
    if (is_silent && queue_put(x, ": ping\n\n", 8))
        x->last_write_ns = now_ns;
    stuck = x->stalled_since_ns &&
            now_ns - x->stalled_since_ns > (int64_t)o->write_timeout_s * 1000000000;
    stuck = stuck || atomic_load(&x->gone);
    if (is_silent)
        unlock_and_wake(x);
    else
        pthread_mutex_unlock(&x->mutex);
    return stuck;
}

/* ---- MHD's side ---------------------------------------------------------------------------- */

/* Gives MHD the next bytes of a stream, or puts the connection to sleep. */
static ssize_t stream_read(void *cls, uint64_t pos, char *buf, size_t max)
{
    http_exchange *x = cls;
    ssize_t ret = 0;
    size_t unsent;

    pthread_mutex_lock(&x->mutex);
    unsent = x->out.len - x->out_pos;
    if (atomic_load(&x->gone)) {
        ret = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (unsent > 0) {
        size_t len = SL_MIN(unsent, max);

        memcpy(buf, x->out.ptr + x->out_pos, len);
        x->out_pos += len;
        x->stalled_since_ns = len == unsent ? 0 : sl_clock_mono_ns();
        if (len == unsent && x->out.cap > STREAM_BLOCK) { /* a long queue is over */
            sl_buf_deinit(&x->out);
            x->out_pos = 0;
            queue_count(x, 0);
        }
        ret = (ssize_t)len;
    } else if (x->complete) {
        ret = MHD_CONTENT_READER_END_OF_STREAM;
    } else if (!x->suspended) {
        x->suspended = true;
        MHD_suspend_connection(x->conn);
    }
    pthread_mutex_unlock(&x->mutex);
    return ret;
}

static void stream_free(void *cls)
{
    http_unref(cls);
}

static void add_headers(const http_exchange *x, struct MHD_Response *r)
{
    MHD_add_response_header(r, "Content-Type", x->content_type ? x->content_type : "text/plain");
    MHD_add_response_header(r, "x-request-id", x->request_id);
    if (x->is_sse) {
        MHD_add_response_header(r, "Cache-Control", "no-cache");
        MHD_add_response_header(r, "X-Accel-Buffering", "no");
    }
    cors_add(x, r);
    for (const http_pair *p = x->extra; p; p = p->next)
        MHD_add_response_header(r, p->name, p->value);
}

/* Queues the answer that is ready. Without the mutex: MHD takes the response's own lock here and
 * holds that lock when it calls stream_read. Nobody changes an answer's head once it is ready. */
static enum MHD_Result queue_answer(http_exchange *x)
{
    struct MHD_Response *r;
    enum MHD_Result ret;

    if (x->kind == ANSWER_STREAM) {
        http_ref(x); /* the response's; given back by stream_free */
        r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, stream_read, x,
                                              stream_free);
        if (!r)
            http_unref(x);
    } else if (x->kind == ANSWER_FILE) {
        r = MHD_create_response_from_fd64(x->file_bytes, x->file);
        if (r)
            x->file = -1; /* the response closes it */
    } else {
        /* Not copied: x lives until MHD says that the request is over. */
        r = MHD_create_response_from_buffer(x->out.len, (void *)(uintptr_t)sl_buf_str(&x->out),
                                            MHD_RESPMEM_PERSISTENT);
    }
    if (!r)
        return MHD_NO;
    add_headers(x, r);
    if (atomic_load(&x->server->draining))
        MHD_add_response_header(r, "Connection", "close");
    ret = MHD_queue_response(x->conn, (unsigned)x->status, r);
    MHD_destroy_response(r);
    return ret;
}

/* Whether MHD shall ask again, after its other connections, before this one is suspended:
 * suspending, waking and resuming cost as much as many an answer takes. The mutex is held. */
static bool lingers(http_exchange *x)
{
    int64_t now_ns = sl_clock_mono_ns();
    bool is_first = x->linger_until_ns == 0;

    if (is_first)
        x->linger_until_ns = now_ns + (x->is_alone ? LINGER_NS : 0);
    return is_first || now_ns < x->linger_until_ns;
}

enum MHD_Result exchange_proceed(http_exchange *x)
{
    enum MHD_Result ret = MHD_YES;
    bool is_ready, waits = false;

    pthread_mutex_lock(&x->mutex);
    is_ready = x->kind != ANSWER_NONE && !x->queued;
    if (atomic_load(&x->gone) && !x->queued) {
        ret = MHD_NO;
        is_ready = false;
    } else if (is_ready) {
        x->queued = true;
    } else if (!x->queued && !x->suspended && !(waits = lingers(x))) {
        x->suspended = true;
        MHD_suspend_connection(x->conn);
    }
    pthread_mutex_unlock(&x->mutex);
    if (waits && x->is_alone)
        sched_yield(); /* to who answers it, if that thread got this processor */
    return is_ready ? queue_answer(x) : ret;
}
