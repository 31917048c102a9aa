/* acceptor.c - the thread that accepts an address's connections and deals them out to its io
 * threads.
 *
 * libmicrohttpd's threads can accept for themselves, each what it sees first: of a burst one of
 * them may take nearly all, and the others idle while it works. MHD_add_connection deals by the
 * number of the socket, which goes up by one, so that each gets its share. */
#include "http/http_int.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAUSE_MS 20 /* until there may be room again: connections, descriptors, memory */

/* Waits for a client, or where there is no room for a moment; false: it is time to stop. */
static bool wait_client(const http_listener *l, bool is_full)
{
    struct pollfd fds[2] = { { .fd = l->stop_fd, .events = POLLIN },
                             { .fd = l->fd, .events = POLLIN } };

    (void)poll(fds, is_full ? 1 : 2, is_full ? PAUSE_MS : -1);
    return fds[0].revents == 0;
}

static bool has_room(const http_listener *l)
{
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);

    return !info || info->num_connections < l->connections_max;
}

/* Accepts whoever waits; false: there is no room for more at the moment. */
static bool accept_all(http_listener *l)
{
    for (;;) {
        struct sockaddr_storage addr;
        socklen_t len = sizeof addr;
        int fd;

        if (!has_room(l))
            return false;
        fd = accept4(l->fd, (struct sockaddr *)&addr, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            (void)MHD_add_connection(l->daemon, fd, (struct sockaddr *)&addr, len); /* takes it */
        else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            return false;
        else if (errno != ECONNABORTED && errno != EINTR)
            return true; /* nobody is there; or of this client only */
    }
}

static void *acceptor_main(void *arg)
{
    http_listener *l = arg;
    bool is_full = false;

    while (wait_client(l, is_full))
        is_full = !accept_all(l);
    return NULL;
}

sl_status acceptor_start(http_listener *l, sl_err *err)
{
    l->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->stop_fd < 0)
        return sl_fail(err, SL_EIO, "cannot start the HTTP server on %s: no descriptor is free",
                       l->address);
    if (pthread_create(&l->acceptor, NULL, acceptor_main, l) != 0)
        return sl_fail(err, SL_EIO, "cannot start a thread");
    l->accepts = true;
    return SL_OK;
}

void acceptor_stop(http_listener *l)
{
    if (l->accepts) {
        (void)eventfd_write(l->stop_fd, 1);
        pthread_join(l->acceptor, NULL);
    }
    l->accepts = false;
    if (l->stop_fd >= 0)
        close(l->stop_fd);
    l->stop_fd = -1;
}
