/* watcher.c - one thread that looks after all connections.
 *
 * libmicrohttpd does not look at a suspended connection, and its timeout restarts with every byte.
 * The watcher fills both gaps: it has every socket in an epoll of its own that wakes it when a
 * client hangs up, so that a running request is cancelled at once, and a few times a second it
 * bounds the whole time a client may take to send a head or a body or to read what waits for it.
 *
 * A socket in the list is open: MHD reports the close before it closes, and that report takes the
 * same mutex. An event names its socket by number and may be older than the connection that has the
 * number now; therefore the kernel is asked again. */
#include "http/http_int.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX 64
#define FDS_MAX    (1 << 20) /* the kernel's own bound for a process, as a rule */

/* Enters a connection into the list and the epoll; the mutex is held. A failure costs only that its
 * client's leaving is noticed when its answer is written. */
static void enter(http_server *s, http_conn *c)
{
    struct epoll_event e = { .events = EPOLLRDHUP | EPOLLET, .data.fd = c->fd };
    size_t old_cap = s->by_fd_cap;

    c->next = s->conns;
    if (s->conns)
        s->conns->prev = c;
    s->conns = c;
    if (c->fd < 0 ||
        !sl_grow((void **)&s->by_fd, &s->by_fd_cap, (size_t)c->fd + 1, sizeof(*s->by_fd), FDS_MAX))
        return;
    if (s->by_fd_cap > old_cap)
        memset(s->by_fd + old_cap, 0, (s->by_fd_cap - old_cap) * sizeof(*s->by_fd));
    if (epoll_ctl(s->watch_fd, EPOLL_CTL_ADD, c->fd, &e) == 0)
        s->by_fd[c->fd] = c;
}

static void leave(http_server *s, http_conn *c)
{
    *(c->prev ? &c->prev->next : &s->conns) = c->next;
    if (c->next)
        c->next->prev = c->prev;
    if (c->fd >= 0 && (size_t)c->fd < s->by_fd_cap && s->by_fd[c->fd] == c) {
        epoll_ctl(s->watch_fd, EPOLL_CTL_DEL, c->fd, NULL);
        s->by_fd[c->fd] = NULL;
    }
}

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
        enter(s, conn);
        pthread_mutex_unlock(&s->mutex);
        return;
    }
    if (!conn)
        return;
    *socket_ctx = NULL;
    pthread_mutex_lock(&s->mutex);
    leave(s, conn);
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
        conn->told = false;
        x->is_alone = s->busy_count++ == 0;
        if (conn->hung_up) /* it sent its request and closed its end: for the next sweep */
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

/* Exchanges to be told without the lock, each with a reference. */
typedef struct leavers {
    http_exchange *list[EVENTS_MAX];
    size_t count;
} leavers;

/* False when there is no room: the next round finds it. */
static bool add_leaver(leavers *l, http_conn *c)
{
    if (!c->x || c->told)
        return true;
    if (l->count == EVENTS_MAX)
        return false;
    c->told = true;
    http_ref(c->x);
    l->list[l->count++] = c->x;
    return true;
}

/* A client that closed its end in the middle of its body. MHD may miss the end when it comes
 * together with bytes that it reads. */
static bool is_half_sent(const http_conn *c)
{
    int queued = 0;

    return c->hung_up && c->state == CONN_READING_BODY && c->fd >= 0 &&
           ioctl(c->fd, FIONREAD, &queued) == 0 && queued == 0;
}

/* Looks at every connection once; false when some are left over. */
static bool sweep(http_server *s, leavers *l)
{
    int64_t now_ns = sl_clock_mono_ns();
    bool whole = true;

    for (http_conn *c = s->conns; c; c = c->next) {
        bool cut = c->x ? exchange_tick(c->x, now_ns) : is_overdue(s, c, now_ns) || is_half_sent(c);

        if (cut || c->hung_up)
            whole = add_leaver(l, c) && whole;
        if (cut && c->fd >= 0)
            shutdown(c->fd, SHUT_RDWR);
    }
    return whole;
}

static void note_hangup(http_server *s, int fd, leavers *l)
{
    http_conn *c = (size_t)fd < s->by_fd_cap ? s->by_fd[fd] : NULL;

    if (!c || !is_hung_up(fd))
        return;
    c->hung_up = true;
    if (!add_leaver(l, c))
        server_wake(s);
}

/* Takes what the epoll said; true when somebody asked for a sweep. The mutex is held. */
static bool take_events(http_server *s, const struct epoll_event *events, int count, leavers *l)
{
    bool woken = false;
    uint64_t ticks;

    for (int i = 0; i < count; i++) {
        if (events[i].data.fd != s->wake_fd) {
            note_hangup(s, events[i].data.fd, l);
            continue;
        }
        woken = true;
        if (read(s->wake_fd, &ticks, sizeof ticks) < 0) {
            /* The wake-up was read already; look anyway. */
        }
    }
    return woken;
}

void *watcher_main(void *server)
{
    http_server *s = server;
    int64_t swept_ns = 0;
    bool whole = true, stop = false;

    while (!stop) {
        struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(s->watch_fd, events, EVENTS_MAX, whole ? SWEEP_PERIOD_MS : 0);
        int64_t now_ns = sl_clock_mono_ns();
        leavers l = { .count = 0 };

        pthread_mutex_lock(&s->mutex);
        if (take_events(s, events, count, &l) || !whole ||
            now_ns - swept_ns >= (int64_t)SWEEP_PERIOD_MS * 1000000) {
            whole = sweep(s, &l);
            swept_ns = now_ns;
        }
        stop = s->stop_watcher;
        pthread_mutex_unlock(&s->mutex);
        for (size_t i = 0; i < l.count; i++) {
            exchange_abandon(l.list[i]);
            http_unref(l.list[i]);
        }
        server_watch_tls(s, now_ns);
    }
    return NULL;
}
