/* server.c - the server around libmicrohttpd: its life, the way of a request from bytes to its
 * handler, and the drain. */
#include "http/http_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"

#define ABANDON_WAIT_MS   5000 /* for io threads to see that their clients were dropped */
#define FILES_RESERVED    128  /* open files that are no connections */
#define CONNECTIONS_MAX   10000
#define TLS_LOOK_NS       2000000000
#define ERROR_TYPE_CALLER "invalid_request_error"

/* ---- TLS ----------------------------------------------------------------------------------- */

static sl_status load_tls(http_server *s, bool must_last, sl_err *err)
{
    tls_info info;
    double days;
    sl_status status;

    s->tls_loaded = tls_stamp_of(s->tls_certificate, s->tls_key);
    status = tls_load(s->tls_certificate, s->tls_key, must_last, &info, err);
    if (status != SL_OK)
        return status;
    days = (double)(info.expires_s - sl_clock_wall_ms() / 1000) / 86400;
    SL_LOG(days < 7 ? SL_LOG_WARN : SL_LOG_INFO, "tls.loaded",
           SL_F_STR("certificate", s->tls_certificate), SL_F_STR("serial", info.serial),
           SL_F_NUM("expires_in_days", days));
    return SL_OK;
}

static sl_status reload_tls(http_server *s, sl_err *err)
{
    sl_err why = { 0 };
    sl_status status = load_tls(s, true, &why);

    if (status != SL_OK)
        SL_LOG(SL_LOG_ERROR, "tls.refused", SL_F_STR("error", why.text),
               SL_F_STR("kept", "the certificate before it"));
    if (err)
        *err = why;
    return status;
}

sl_status http_server_reload_tls(http_server *s, sl_err *err)
{
    return s->tls_certificate && s->tls_key ? reload_tls(s, err) : SL_OK;
}

void server_watch_tls(http_server *s, int64_t now_ns)
{
    tls_stamp now;

    if (!s->tls_certificate || !s->tls_key || now_ns - s->tls_looked_ns < TLS_LOOK_NS)
        return;
    s->tls_looked_ns = now_ns;
    now = tls_stamp_of(s->tls_certificate, s->tls_key);
    /* Twice the same: whoever replaces the two files is through. */
    if (tls_stamp_eq(&now, &s->tls_seen) && !tls_stamp_eq(&now, &s->tls_loaded))
        (void)reload_tls(s, NULL);
    s->tls_seen = now;
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
    for (size_t i = 0; i < s->listener_count; i++)
        listener_close(&s->listeners[i]);
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    if (s->watch_fd >= 0)
        close(s->watch_fd);
    pthread_cond_destroy(&s->idle);
    pthread_mutex_destroy(&s->mutex);
    sl_free(s->cors_origin);
    sl_free(s->tls_certificate);
    sl_free(s->tls_key);
    sl_free(s->by_fd);
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
    int files = sl_open_files_raise();

    if (o->io_threads <= 0)
        o->io_threads = 2;
    if (o->connections_max <= 0)
        o->connections_max = CONNECTIONS_MAX;
    o->connections_max = SL_MIN(o->connections_max, SL_MAX(files - FILES_RESERVED, 64));
    if (o->request_timeout_s <= 0)
        o->request_timeout_s = 30;
    if (o->body_timeout_s <= 0)
        o->body_timeout_s = 300;
    if (o->write_timeout_s <= 0)
        o->write_timeout_s = 60;
    if (o->ping_s == 0)
        o->ping_s = 15;
    if (o->unix_mode == 0)
        o->unix_mode = 0660;
    if (o->head_bytes_max == 0)
        o->head_bytes_max = SL_HTTP_HEAD_BYTES_MAX;
    if (o->body_bytes_max == 0)
        o->body_bytes_max = SL_HTTP_BODY_BYTES_MAX;
    if (o->body_bytes_total_max == 0)
        o->body_bytes_total_max = SL_HTTP_BODY_BYTES_TOTAL_MAX;
    if (o->queue_bytes_max == 0)
        o->queue_bytes_max = 8 * SL_MIB;
    if (o->queue_bytes_total_max == 0)
        o->queue_bytes_total_max = SL_HTTP_QUEUE_BYTES_TOTAL_MAX;
}

/* Copies the strings that outlive the options. */
static sl_status options_keep(http_server *s, sl_err *err)
{
    http_server_options *o = &s->options;
    struct {
        const char **from;
        char **to;
    } texts[] = {
        { &o->cors_origin, &s->cors_origin },
        { &o->tls_certificate, &s->tls_certificate },
        { &o->tls_key, &s->tls_key },
    };

    for (size_t i = 0; i < SL_COUNT_OF(texts); i++) {
        if (!*texts[i].from)
            continue;
        *texts[i].to = sl_strdup(*texts[i].from);
        if (!*texts[i].to)
            return sl_fail(err, SL_ENOMEM, "HTTP server");
        *texts[i].from = *texts[i].to;
    }
    return SL_OK;
}

static sl_status read_proxies(http_server *s, sl_err *err)
{
    const http_server_options *o = &s->options;
    const char *name = o->forwarded_header ? o->forwarded_header : "x-forwarded-for";

    for (size_t i = 0; i < o->trusted_proxy_count; i++)
        SL_TRY(proxy_list_add(&s->proxies, o->trusted_proxies[i], err));
    if (strcasecmp(name, "x-forwarded-for") != 0 && strcasecmp(name, "forwarded") != 0)
        return sl_fail(err, SL_EINVAL,
                       "forwarded header \"%.60s\": use x-forwarded-for or forwarded", name);
    s->proxy_header = strcasecmp(name, "forwarded") == 0 ? PROXY_FORWARDED : PROXY_X_FORWARDED_FOR;
    return SL_OK;
}

static sl_status open_listeners(http_server *s, sl_err *err)
{
    const http_server_options *o = &s->options;
    const char *const *list = o->address_count ? o->addresses : &o->address;
    size_t count = o->address_count ? o->address_count : 1;

    if (count > HTTP_LISTENERS_MAX)
        return sl_fail(err, SL_ELIMIT, "more than %d listen addresses", HTTP_LISTENERS_MAX);
    for (size_t i = 0; i < count; i++) {
        s->listener_count++;
        SL_TRY(listener_open(&s->listeners[i], list[i], o, err));
    }
    return SL_OK;
}

static sl_status open_watch(http_server *s, sl_err *err)
{
    struct epoll_event e = { .events = EPOLLIN };

    s->wake_fd = e.data.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->watch_fd = epoll_create1(EPOLL_CLOEXEC);
    if (s->wake_fd < 0 || s->watch_fd < 0 ||
        epoll_ctl(s->watch_fd, EPOLL_CTL_ADD, s->wake_fd, &e) != 0)
        return sl_fail(err, SL_EIO, "epoll: %s", strerror(errno));
    return SL_OK;
}

sl_status http_server_create(const http_server_options *options, http_server **ret_server,
                             sl_err *err)
{
    http_server *s = sl_calloc(1, sizeof *s);
    sl_status status;

    if (!s)
        return sl_fail(err, SL_ENOMEM, "HTTP server");
    atomic_init(&s->refs, 1);
    atomic_init(&s->draining, false);
    s->wake_fd = s->watch_fd = -1;
    s->options = *options;
    options_fill(&s->options);
    pthread_mutex_init(&s->mutex, NULL);
    sl_cond_init(&s->idle);
    if ((status = open_watch(s, err)) != SL_OK)
        goto fail;
    if ((status = options_keep(s, err)) != SL_OK)
        goto fail;
    if ((status = read_proxies(s, err)) != SL_OK)
        goto fail;
    if (s->tls_certificate && s->tls_key && (status = load_tls(s, false, err)) != SL_OK)
        goto fail;
    if ((status = open_listeners(s, err)) != SL_OK)
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

    SL_ASSERT(!s->started);
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
    SL_ASSERT(!s->started);
    r->begin = begin_fn;
    r->write = write_fn;
}

void http_server_on_done(http_server *s, void (*fn)(void *ctx, http_exchange *x), void *ctx)
{
    SL_ASSERT(!s->started);
    s->options.on_done = fn;
    s->options.on_done_ctx = ctx;
}

void http_server_on_refusal(http_server *s,
                            bool (*fn)(void *ctx, http_exchange *x, const http_refusal *why),
                            void *ctx)
{
    SL_ASSERT(!s->started);
    s->on_refusal = fn;
    s->on_refusal_ctx = ctx;
}

const char *http_server_address(const http_server *s)
{
    for (size_t i = 0; i < s->listener_count; i++)
        if (!s->listeners[i].is_unix)
            return s->listeners[i].address;
    return s->listeners[0].address;
}

int http_server_port(const http_server *s)
{
    for (size_t i = 0; i < s->listener_count; i++)
        if (!s->listeners[i].is_unix)
            return s->listeners[i].port;
    return 0;
}

void http_server_addresses(const http_server *s, sl_buf *out)
{
    for (size_t i = 0; i < s->listener_count; i++) {
        const http_listener *l = &s->listeners[i];

        sl_buf_printf(out, "%s%s%s", i ? " " : "",
                      l->is_unix ? "" : (l->is_tls ? "https://" : "http://"), l->address);
    }
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

static void refuse_head(http_exchange *x)
{
    char text[128];
    const char *code = head_reason(x->head_status, text, sizeof text);

    refuse(x, x->head_status, ERROR_TYPE_CALLER, code, text);
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
    } else if (x->head_status) {
        refuse_head(x);
    } else if (x->overloaded) {
        http_set_header(x, "Retry-After", "1");
        refuse(x, 503, "server_error", "overloaded",
               "The server holds as many request bodies as it may; try again");
    } else if (x->too_large) {
        char text[128];

        snprintf(text, sizeof text, "The request body is larger than %zu bytes",
                 x->server->options.body_bytes_max);
        refuse(x, 413, ERROR_TYPE_CALLER, "request_too_large", text);
    } else if (route) {
        x->route = route;
        route->fn(route->ctx, x);
    } else if (strcmp(x->method, "OPTIONS") == 0) {
        cors_preflight(x, allow);
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

/* Marks a request whose URL is too long, where its exchange will be. */
static char uri_too_long;

void *server_on_uri(void *cls, const char *uri, struct MHD_Connection *conn)
{
    (void)cls;
    (void)conn;
    return strnlen(uri, SL_HTTP_URI_BYTES_MAX + 1) > SL_HTTP_URI_BYTES_MAX ? &uri_too_long : NULL;
}

/* The first call for a request: only its head was read. */
static enum MHD_Result begin(http_server *s, struct MHD_Connection *conn, const char *method,
                             const char *url, void **con_cls)
{
    bool is_too_long = *con_cls == &uri_too_long;
    http_exchange *x;
    const char *length, *expect;
    unsigned long long bytes;

    *con_cls = NULL;
    x = exchange_create(s, conn, is_too_long, method, url);
    if (!x)
        return MHD_NO;
    *con_cls = x;
    watcher_mark(x, CONN_READING_BODY);
    if (x->head_status) {
        server_dispatch(x);
        return exchange_proceed(x);
    }
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

/* Counts len more bytes of bodies; false when that is too many for all together. */
static bool count_body(http_exchange *x, size_t len)
{
    http_server *s = x->server;

    x->body_counted += len;
    return atomic_fetch_add(&s->body_bytes, len) + len <= s->options.body_bytes_total_max;
}

static enum MHD_Result take_body(http_exchange *x, const char *data, size_t len)
{
    if (x->route) {
        watcher_mark(x, CONN_READING_BODY); /* its time counts from the last piece */
        x->route->write(x->route->ctx, x, data, len);
        return MHD_YES;
    }
    if (!x->too_large) {
        x->overloaded = !count_body(x, len);
        if (!x->overloaded)
            sl_buf_put(&x->body, data, len);
        x->too_large = x->body.failed || x->overloaded;
    }
    if (x->too_large) {
        sl_buf_deinit(&x->body);
        exchange_uncount(x);
        x->body_excess += len;
    }
    return x->body_excess <= x->server->options.body_bytes_max + BODY_EXCESS_MAX ? MHD_YES : MHD_NO;
}

enum MHD_Result server_on_request(void *cls, struct MHD_Connection *conn, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_len, void **con_cls)
{
    http_exchange *x = *con_cls;

    if (!x || *con_cls == &uri_too_long)
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

void server_on_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
                         enum MHD_RequestTerminationCode code)
{
    http_exchange *x = *con_cls;

    *con_cls = NULL;
    if (!x || (void *)x == &uri_too_long) /* it ended within its head */
        return;
    watcher_mark(x, CONN_IDLE);
    exchange_closed(x, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

/* ---- start and drain ----------------------------------------------------------------------- */

sl_status http_server_start(http_server *s, sl_err *err)
{
    SL_ASSERT(!s->started);
    if (pthread_create(&s->watcher, NULL, watcher_main, s) != 0)
        return sl_fail(err, SL_EIO, "cannot start a thread");
    s->watcher_runs = true;
    s->started = true;
    for (size_t i = 0; i < s->listener_count; i++)
        SL_TRY(listener_start(&s->listeners[i], s, err));
    return SL_OK;
}

/* Waits up to ms until no answer is under way; the mutex is held. */
static void wait_idle(http_server *s, int64_t ms)
{
    int64_t end_ns = sl_clock_mono_ns() + ms * 1000000;

    while (s->busy_count > 0 && sl_cond_wait_until(&s->idle, &s->mutex, end_ns)) {
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

    if (s->started && !atomic_load(&s->draining)) {
        pthread_mutex_lock(&s->mutex);
        atomic_store(&s->draining, true);
        pthread_mutex_unlock(&s->mutex);
        for (size_t i = 0; i < s->listener_count; i++)
            listener_quiesce(&s->listeners[i]);
        pthread_mutex_lock(&s->mutex);
        wait_idle(s, deadline_ms);
        pthread_mutex_unlock(&s->mutex);
        dropped = abandon_all(s);
        pthread_mutex_lock(&s->mutex);
        wait_idle(s, ABANDON_WAIT_MS);
        pthread_mutex_unlock(&s->mutex);
        for (size_t i = 0; i < s->listener_count; i++)
            listener_stop(&s->listeners[i]);
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
