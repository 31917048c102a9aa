/* server.c - the server around libmicrohttpd: sockets, threads, the way of a request from bytes to
 * its handler, and the drain. */
#include "http/http_int.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG           512
#define ABANDON_WAIT_MS   5000 /* for io threads to see that their clients were dropped */
#define ERROR_TYPE_CALLER "invalid_request_error"

/* ---- address ------------------------------------------------------------------------------- */

/* Cuts "host:port" into its parts; "[::1]:80" loses its brackets, ":80" gives an empty host. */
static sl_status address_split(const char *address, char *host, size_t host_bytes,
                               const char **ret_port, sl_err *err)
{
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : 0;
    const char *from = address;
    char *end;
    long port;

    if (!colon || (address[0] != '[' && memchr(address, ':', len)))
        return sl_fail(err, SL_EINVAL,
                       "listen address \"%s\": expected HOST:PORT, as 127.0.0.1:8080 or [::1]:8080",
                       address);
    if (len >= 2 && from[0] == '[' && from[len - 1] == ']') {
        from++;
        len -= 2;
    }
    port = strtol(colon + 1, &end, 10);
    if (colon[1] == '\0' || *end || port < 0 || port > 65535)
        return sl_fail(err, SL_EINVAL, "listen address \"%s\": the port is 0 to 65535", address);
    if (len >= host_bytes)
        return sl_fail(err, SL_EINVAL, "listen address \"%s\": the host is too long", address);
    memcpy(host, from, len);
    host[len] = '\0';
    *ret_port = colon + 1;
    return SL_OK;
}

static int try_listen(const struct addrinfo *ai)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1, off = 0;

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int saved = errno;

        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

static void note_address(http_server *s)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    char host[64] = "", port[8] = "0";

    if (getsockname(s->listen_fd, (struct sockaddr *)&addr, &len) == 0)
        getnameinfo((struct sockaddr *)&addr, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
    s->port = atoi(port);
    snprintf(s->address, sizeof s->address, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

static sl_status server_listen(http_server *s, const char *address, sl_err *err)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
    struct addrinfo *list = NULL;
    const char *port = NULL;
    char host[64];
    int rc;

    SL_TRY(address_split(address, host, sizeof host, &port, err));
    rc = getaddrinfo(host[0] ? host : NULL, port, &hints, &list);
    if (rc != 0)
        return sl_fail(err, SL_EINVAL, "listen address \"%s\": %s", address, gai_strerror(rc));
    errno = EADDRNOTAVAIL;
    for (const struct addrinfo *ai = list; ai && s->listen_fd < 0; ai = ai->ai_next)
        s->listen_fd = try_listen(ai);
    freeaddrinfo(list);
    if (s->listen_fd < 0)
        return sl_fail(err, SL_EIO, "cannot listen on %s: %s", address, strerror(errno));
    note_address(s);
    return SL_OK;
}

/* ---- life ---------------------------------------------------------------------------------- */

void server_ref(http_server *s)
{
    atomic_fetch_add(&s->refs, 1);
}

void server_unref(http_server *s)
{
    if (atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    for (size_t i = 0; i < s->route_count; i++) {
        sl_free((void *)(uintptr_t)s->routes[i].method);
        sl_free((void *)(uintptr_t)s->routes[i].pattern);
    }
    if (s->listen_fd >= 0)
        close(s->listen_fd);
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    pthread_cond_destroy(&s->idle);
    pthread_mutex_destroy(&s->mutex);
    sl_free(s->cors_origin);
    sl_free(s);
}

void server_wake(http_server *s)
{
    uint64_t one = 1;

    if (write(s->wake_fd, &one, sizeof one) < 0) {
        /* The counter is full: the watcher is awake already. */
    }
}

static void options_fill(http_server_options *o)
{
    if (o->io_threads <= 0)
        o->io_threads = 2;
    if (o->connections_max <= 0)
        o->connections_max = 1024;
    if (o->request_timeout_s <= 0)
        o->request_timeout_s = 30;
    if (o->body_timeout_s <= 0)
        o->body_timeout_s = 300;
    if (o->write_timeout_s <= 0)
        o->write_timeout_s = 60;
    if (o->ping_s == 0)
        o->ping_s = 15;
    if (o->body_bytes_max == 0)
        o->body_bytes_max = SL_HTTP_BODY_BYTES_MAX;
    if (o->queue_bytes_max == 0)
        o->queue_bytes_max = 8 * SL_MIB;
}

sl_status http_server_create(const http_server_options *options, http_server **ret_server,
                             sl_err *err)
{
    http_server *s = sl_calloc(1, sizeof *s);
    pthread_condattr_t attr;
    sl_status status;

    if (!s)
        return sl_fail(err, SL_ENOMEM, "HTTP server");
    atomic_init(&s->refs, 1);
    atomic_init(&s->draining, false);
    s->options = *options;
    options_fill(&s->options);
    s->listen_fd = -1;
    pthread_mutex_init(&s->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->idle, &attr);
    pthread_condattr_destroy(&attr);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->wake_fd < 0) {
        status = sl_fail(err, SL_EIO, "eventfd: %s", strerror(errno));
        goto fail;
    }
    if (options->cors_origin && !(s->cors_origin = sl_strdup(options->cors_origin))) {
        status = sl_fail(err, SL_ENOMEM, "HTTP server");
        goto fail;
    }
    if ((status = server_listen(s, options->address, err)) != SL_OK)
        goto fail;
    *ret_server = s;
    return SL_OK;

fail:
    server_unref(s);
    return status;
}

sl_status http_server_route(http_server *s, const char *method, const char *pattern,
                            http_handler_fn fn, void *ctx, sl_err *err)
{
    http_route_entry *r = &s->routes[s->route_count];

    SL_ASSERT(!s->daemon);
    if (s->route_count >= ROUTES_MAX)
        return sl_fail(err, SL_ELIMIT, "more than %d routes", ROUTES_MAX);
    if (!route_pattern_ok(pattern))
        return sl_fail(err, SL_EINVAL, "route pattern \"%s\"", pattern);
    *r = (http_route_entry){ .method = sl_strdup(method), .pattern = sl_strdup(pattern) };
    r->fn = fn;
    r->ctx = ctx;
    s->route_count++;
    if (!r->method || !r->pattern)
        return sl_fail(err, SL_ENOMEM, "route %s", pattern);
    return SL_OK;
}

void http_server_upload(http_server *s, bool (*begin_fn)(void *ctx, http_exchange *x),
                        void (*write_fn)(void *ctx, http_exchange *x, const void *bytes,
                                         size_t len))
{
    http_route_entry *r = &s->routes[s->route_count - 1];

    SL_ASSERT(s->route_count > 0);
    SL_ASSERT(!s->daemon);
    r->begin = begin_fn;
    r->write = write_fn;
}

void http_server_on_done(http_server *s, void (*fn)(void *ctx, http_exchange *x), void *ctx)
{
    SL_ASSERT(!s->daemon);
    s->options.on_done = fn;
    s->options.on_done_ctx = ctx;
}

void http_server_on_refusal(http_server *s,
                            bool (*fn)(void *ctx, http_exchange *x, const http_refusal *why),
                            void *ctx)
{
    SL_ASSERT(!s->daemon);
    s->on_refusal = fn;
    s->on_refusal_ctx = ctx;
}

const char *http_server_address(const http_server *s)
{
    return s->address;
}

int http_server_port(const http_server *s)
{
    return s->port;
}

/* ---- a request's way to its handler -------------------------------------------------------- */

/* Answers in the owner's shape, or else in OpenAI's. */
static void refuse(http_exchange *x, int status, const char *type, const char *code,
                   const char *message)
{
    const http_server *s = x->server;
    const http_refusal why = { status, type, code, message };

    if (!s->on_refusal || !s->on_refusal(s->on_refusal_ctx, x, &why))
        http_respond_error(x, status, type, NULL, code, message);
}

static void respond_no_route(http_exchange *x, const char *allow)
{
    char text[256];

    if (allow) {
        http_set_header(x, "Allow", allow);
        snprintf(text, sizeof text, "%s is not allowed on this path; allowed: %s", x->method,
                 allow);
        refuse(x, 405, ERROR_TYPE_CALLER, "method_not_allowed", text);
        return;
    }
    snprintf(text, sizeof text, "Unknown request URL: %.16s %.160s", x->method, x->path);
    refuse(x, 404, ERROR_TYPE_CALLER, "unknown_url", text);
}

static void respond_options(http_exchange *x, const char *allow)
{
    http_set_header(x, "Allow", allow ? allow : "GET, HEAD, POST, DELETE");
    if (x->server->cors_origin) {
        http_set_header(x, "Access-Control-Allow-Methods", "GET, HEAD, POST, DELETE, OPTIONS");
        http_set_header(x, "Access-Control-Allow-Headers", "*, Authorization");
        http_set_header(x, "Access-Control-Max-Age", "600");
    }
    http_respond(x, 204, "text/plain", "", 0);
}

void server_dispatch(http_exchange *x)
{
    const http_route_entry *route;
    const char *allow = NULL;

    watcher_mark(x, CONN_BUSY);
    x->dispatched = true;
    route = route_match(x, &allow);
    if (atomic_load(&x->server->draining)) {
        http_set_header(x, "Retry-After", "1");
        refuse(x, 503, "server_error", "shutting_down", "The server is shutting down");
    } else if (x->too_large) {
        char text[128];

        snprintf(text, sizeof text, "The request body is larger than %zu bytes",
                 x->server->options.body_bytes_max);
        refuse(x, 413, ERROR_TYPE_CALLER, "request_too_large", text);
    } else if (route) {
        x->route = route;
        route->fn(route->ctx, x);
    } else if (strcmp(x->method, "OPTIONS") == 0) {
        respond_options(x, allow);
    } else {
        respond_no_route(x, allow);
    }
}

/* The route of an upload, asked before its body is read; NULL: an ordinary request. */
static const http_route_entry *find_upload(http_exchange *x)
{
    const char *allow;
    const http_route_entry *route = route_match(x, &allow);

    return route && route->begin && !atomic_load(&x->server->draining) ? route : NULL;
}

/* The first call for a request: only its head was read. */
static enum MHD_Result begin(http_server *s, struct MHD_Connection *conn, const char *method,
                             const char *url, void **con_cls)
{
    http_exchange *x = exchange_create(s, conn, method, url);
    const char *length, *expect;
    unsigned long long bytes;

    if (!x)
        return MHD_NO;
    *con_cls = x;
    watcher_mark(x, CONN_READING_BODY);
    x->route = find_upload(x);
    if (x->route) {
        if (x->route->begin(x->route->ctx, x))
            return MHD_YES;
        watcher_mark(x, CONN_BUSY);
        x->dispatched = true;
        return exchange_proceed(x);
    }
    length = http_header(x, "content-length");
    expect = http_header(x, "expect");
    bytes = length ? strtoull(length, NULL, 10) : 0;
    if (bytes <= s->options.body_bytes_max)
        return MHD_YES;
    x->too_large = true;
    if (!expect && bytes <= s->options.body_bytes_max + BODY_EXCESS_MAX)
        return MHD_YES; /* reading the rest lets the client see the answer */
    server_dispatch(x);
    return exchange_proceed(x);
}

static enum MHD_Result take_body(http_exchange *x, const char *data, size_t len)
{
    if (x->route) {
        watcher_mark(x, CONN_READING_BODY); /* its time counts from the last piece */
        x->route->write(x->route->ctx, x, data, len);
        return MHD_YES;
    }
    if (!x->too_large) {
        sl_buf_put(&x->body, data, len);
        x->too_large = x->body.failed;
    }
    if (x->too_large) {
        sl_buf_clear(&x->body);
        x->body_excess += len;
    }
    return x->body_excess <= x->server->options.body_bytes_max + BODY_EXCESS_MAX ? MHD_YES : MHD_NO;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_len, void **con_cls)
{
    http_exchange *x = *con_cls;

    if (!x)
        return begin(cls, conn, method, url, con_cls);
    if (*data_len > 0) {
        size_t len = *data_len;

        *data_len = 0;
        return take_body(x, data, len);
    }
    if (!x->dispatched)
        server_dispatch(x);
    return exchange_proceed(x);
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
                         enum MHD_RequestTerminationCode code)
{
    http_exchange *x = *con_cls;

    if (!x)
        return;
    *con_cls = NULL;
    watcher_mark(x, CONN_IDLE);
    exchange_closed(x, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

/* ---- start and drain ----------------------------------------------------------------------- */

sl_status http_server_start(http_server *s, sl_err *err)
{
    const http_server_options *o = &s->options;
    struct MHD_OptionItem pool[] = {
        { o->io_threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, o->io_threads, NULL },
        { MHD_OPTION_END, 0, NULL },
    };

    SL_ASSERT(!s->daemon);
    if (pthread_create(&s->watcher, NULL, watcher_main, s) != 0)
        return sl_fail(err, SL_EIO, "cannot start a thread");
    s->watcher_runs = true;
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC, 0, NULL, NULL,
        on_request, s, MHD_OPTION_LISTEN_SOCKET, s->listen_fd, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, s, MHD_OPTION_NOTIFY_CONNECTION, watcher_conn_event, s,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)o->write_timeout_s, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)SL_MAX(o->connections_max, o->io_threads), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        CONN_MEMORY_BYTES, MHD_OPTION_ARRAY, pool, MHD_OPTION_END);
    if (!s->daemon)
        return sl_fail(err, SL_EIO, "cannot start the HTTP server on %s", s->address);
    s->listen_fd = -1; /* the daemon's now */
    return SL_OK;
}

/* Waits up to ms until no answer is under way; the mutex is held. */
static void wait_idle(http_server *s, int64_t ms)
{
    int64_t end_ns = sl_clock_mono_ns() + ms * 1000000;
    struct timespec ts = { end_ns / 1000000000, end_ns % 1000000000 };

    while (s->busy_count > 0 && pthread_cond_timedwait(&s->idle, &s->mutex, &ts) == 0) {
    }
}

/* Drops every answer under way; returns how many there were. */
static int abandon_all(http_server *s)
{
    http_exchange **list = NULL;
    size_t cap = 0, count = 0;

    pthread_mutex_lock(&s->mutex);
    if (s->busy_count > 0 &&
        sl_grow((void **)&list, &cap, (size_t)s->busy_count, sizeof(*list), SIZE_MAX / 16)) {
        for (http_conn *c = s->conns; c; c = c->next) {
            if (!c->x)
                continue;
            http_ref(c->x);
            list[count++] = c->x;
            shutdown(c->fd, SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&s->mutex);
    for (size_t i = 0; i < count; i++) {
        exchange_abandon(list[i]);
        http_unref(list[i]);
    }
    sl_free(list);
    return (int)count;
}

int http_server_drain(http_server *s, int64_t deadline_ms)
{
    int dropped = 0;

    if (s->daemon) {
        MHD_socket fd;

        pthread_mutex_lock(&s->mutex);
        atomic_store(&s->draining, true);
        pthread_mutex_unlock(&s->mutex);
        fd = MHD_quiesce_daemon(s->daemon);
        if (fd != MHD_INVALID_SOCKET)
            close(fd);
        pthread_mutex_lock(&s->mutex);
        wait_idle(s, deadline_ms);
        pthread_mutex_unlock(&s->mutex);
        dropped = abandon_all(s);
        pthread_mutex_lock(&s->mutex);
        wait_idle(s, ABANDON_WAIT_MS);
        pthread_mutex_unlock(&s->mutex);
        MHD_stop_daemon(s->daemon);
        s->daemon = NULL;
    }
    if (s->watcher_runs) {
        pthread_mutex_lock(&s->mutex);
        s->stop_watcher = true;
        pthread_mutex_unlock(&s->mutex);
        server_wake(s);
        pthread_join(s->watcher, NULL);
        s->watcher_runs = false;
    }
    return dropped;
}

void http_server_destroy(http_server *s)
{
    if (!s)
        return;
    http_server_drain(s, 0);
    server_unref(s);
}
