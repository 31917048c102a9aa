/* watcher.c - one thread that looks at all connections a few dozen times a second.
 *
 * libmicrohttpd does not look at a suspended connection, and its timeout restarts with every byte.
 * The watcher fills both gaps: it polls the sockets of running requests for a hang-up, so that a
 * request is cancelled within WATCH_PERIOD_MS of its client leaving, and it bounds the whole time
 * a client may take to send a head or a body or to read what waits for it.
 *
 * A socket in the list is open: MHD reports the close before it closes, and that report takes the
 * same mutex. */
#include "http/http_int.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

void watcher_conn_event(void *cls, struct MHD_Connection *c, void **socket_ctx,
                        enum MHD_ConnectionNotificationCode code)
{
    http_server *s = cls;
    http_conn *conn = *socket_ctx;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);

        conn = sl_calloc(1, sizeof *conn);
        *socket_ctx = conn;
        if (!conn)
            return;
        conn->fd = info ? info->connect_fd : -1;
        conn->since_ns = sl_clock_mono_ns();
        pthread_mutex_lock(&s->mutex);
        conn->next = s->conns;
        if (s->conns)
            s->conns->prev = conn;
        s->conns = conn;
        pthread_mutex_unlock(&s->mutex);
        return;
    }
    if (!conn)
        return;
    *socket_ctx = NULL;
    pthread_mutex_lock(&s->mutex);
    *(conn->prev ? &conn->prev->next : &s->conns) = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
    pthread_mutex_unlock(&s->mutex);
    SL_ASSERT(!conn->x);
    sl_free(conn);
}

void watcher_mark(http_exchange *x, int state)
{
    http_server *s = x->server;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    http_conn *conn = info ? info->socket_context : NULL;
    http_exchange *old = NULL;

    if (!conn)
        return;
    pthread_mutex_lock(&s->mutex);
    if (state == CONN_BUSY && !conn->x) {
        http_ref(x);
        conn->x = x;
        if (s->busy_count++ == 0)
            server_wake(s);
    }
    if (state == CONN_IDLE && conn->x) {
        old = conn->x;
        conn->x = NULL;
        if (--s->busy_count == 0)
            pthread_cond_broadcast(&s->idle);
    }
    conn->state = state;
    conn->since_ns = sl_clock_mono_ns();
    pthread_mutex_unlock(&s->mutex);
    if (old)
        http_unref(old);
}

static bool is_hung_up(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLRDHUP };

    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL));
}

static bool is_overdue(const http_server *s, const http_conn *c, int64_t now_ns)
{
    int64_t limit_s = c->state == CONN_IDLE           ? s->options.request_timeout_s
                      : c->state == CONN_READING_BODY ? s->options.body_timeout_s
                                                      : 0;

    return limit_s && now_ns - c->since_ns > limit_s * 1000000000;
}

/* Looks at every connection once. Up to max exchanges whose client left are handed out with a
 * reference, to be told without the lock; the next round finds the others. */
static size_t sweep(http_server *s, http_exchange **ret_gone, size_t max)
{
    int64_t now_ns = sl_clock_mono_ns();
    size_t count = 0;

    for (http_conn *c = s->conns; c; c = c->next) {
        bool cut = c->x ? exchange_tick(c->x, now_ns) : is_overdue(s, c, now_ns);

        if (c->x && count < max && (cut || is_hung_up(c->fd))) {
            http_ref(c->x);
            ret_gone[count++] = c->x;
        }
        if (cut && c->fd >= 0)
            shutdown(c->fd, SHUT_RDWR);
    }
    return count;
}

void *watcher_main(void *server)
{
    http_server *s = server;
    http_exchange *gone[64];
    struct pollfd p = { .fd = s->wake_fd, .events = POLLIN };

    for (;;) {
        bool stop, busy;
        uint64_t ticks;
        size_t count;

        pthread_mutex_lock(&s->mutex);
        count = sweep(s, gone, SL_COUNT_OF(gone));
        stop = s->stop_watcher;
        busy = s->busy_count > 0;
        pthread_mutex_unlock(&s->mutex);
        for (size_t i = 0; i < count; i++) {
            exchange_abandon(gone[i]);
            http_unref(gone[i]);
        }
        if (stop)
            return NULL;
        if (poll(&p, 1, busy ? WATCH_PERIOD_MS : 500) > 0 &&
            read(s->wake_fd, &ticks, sizeof ticks) < 0) {
            /* The wake-up was read already; look again anyway. */
        }
    }
}
