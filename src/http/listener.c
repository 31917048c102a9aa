/* listener.c - one address the server listens on: TCP, TLS or a Unix socket, each with a daemon of
 * libmicrohttpd and its io threads. */
#include "http/http_int.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "http/tls.h"

#define BACKLOG 4096

/* ---- TCP ----------------------------------------------------------------------------------- */

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
                       "listen address \"%s\": expected HOST:PORT, as 127.0.0.1:8080 or "
                       "[::1]:8080, with https:// before it for TLS, or unix:/PATH",
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

static void note_address(http_listener *l)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    char host[64] = "", port[8] = "0";

    if (getsockname(l->fd, (struct sockaddr *)&addr, &len) == 0)
        getnameinfo((struct sockaddr *)&addr, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
    l->port = atoi(port);
    snprintf(l->address, sizeof l->address, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

static sl_status open_tcp(http_listener *l, const char *address, sl_err *err)
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
    for (const struct addrinfo *ai = list; ai && l->fd < 0; ai = ai->ai_next)
        l->fd = try_listen(ai);
    freeaddrinfo(list);
    if (l->fd < 0)
        return sl_fail(err, SL_EIO, "cannot listen on %s: %s", address, strerror(errno));
    note_address(l);
    return SL_OK;
}

/* ---- Unix sockets -------------------------------------------------------------------------- */

/* Removes what a server that crashed left at the path; anything else there is an error. */
static sl_status remove_stale(const struct sockaddr_un *addr, sl_err *err)
{
    struct stat st;
    int fd, saved = 0;

    if (lstat(addr->sun_path, &st) != 0)
        return SL_OK;
    if (!S_ISSOCK(st.st_mode))
        return sl_fail(err, SL_EIO, "cannot listen on unix:%s: there is a file that is no socket",
                       addr->sun_path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)addr, sizeof *addr) != 0)
        saved = errno;
    if (fd >= 0)
        close(fd);
    if (saved != ECONNREFUSED)
        return sl_fail(err, SL_EIO, "cannot listen on unix:%s: %s", addr->sun_path,
                       saved ? strerror(saved) : "another server listens there");
    unlink(addr->sun_path);
    return SL_OK;
}

/* Nobody can connect between bind and listen, so that the mode counts from the first client. */
static sl_status open_unix(http_listener *l, const char *path, int mode, sl_err *err)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    struct stat st;

    if (path[0] != '/' || strlen(path) >= sizeof addr.sun_path)
        return sl_fail(err, SL_EINVAL,
                       "listen address \"unix:%.120s\": the path begins with / and has at most "
                       "%zu bytes",
                       path, sizeof addr.sun_path - 1);
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    SL_TRY(remove_stale(&addr, err));
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0 || bind(l->fd, (struct sockaddr *)&addr, sizeof addr) != 0)
        return sl_fail(err, SL_EIO, "cannot listen on unix:%s: %s", path, strerror(errno));
    l->is_unix = true;
    snprintf(l->address, sizeof l->address, "unix:%s", path);
    if (chmod(path, (mode_t)mode) != 0 || lstat(path, &st) != 0 || listen(l->fd, BACKLOG) != 0)
        return sl_fail(err, SL_EIO, "cannot listen on unix:%s: %s", path, strerror(errno));
    l->inode = st.st_ino;
    return SL_OK;
}

/* Another server may have taken the path meanwhile: then it is not ours to remove. */
static void remove_socket(const http_listener *l)
{
    const char *path = l->address + sizeof "unix:" - 1;
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_ino == l->inode)
        unlink(path);
}

/* ---- both ---------------------------------------------------------------------------------- */

sl_status listener_open(http_listener *l, const char *address, const http_server_options *o,
                        sl_err *err)
{
    l->fd = l->stop_fd = -1;
    if (strncmp(address, "unix:", 5) == 0)
        return open_unix(l, address + 5, o->unix_mode, err);
    if (strncmp(address, "http://", 7) == 0)
        address += 7;
    if (strncmp(address, "https://", 8) != 0)
        return open_tcp(l, address, err);
    l->is_tls = true;
    if (!o->tls_certificate || !o->tls_key)
        return sl_fail(err, SL_EINVAL, "%s: TLS needs a certificate and a key", address);
    if (MHD_is_feature_supported(MHD_FEATURE_HTTPS_CERT_CALLBACK2) != MHD_YES)
        return sl_fail(err, SL_EINVAL, "%s: this libmicrohttpd has no TLS", address);
    return open_tcp(l, address + 8, err);
}

sl_status listener_start(http_listener *l, http_server *s, sl_err *err)
{
    const http_server_options *o = &s->options;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
                     MHD_USE_NO_LISTEN_SOCKET;
    struct MHD_OptionItem more[5];
    size_t n = 0;

    l->connections_max = (unsigned)SL_MAX(o->connections_max, o->io_threads);
    if (o->io_threads > 1)
        more[n++] = (struct MHD_OptionItem){ MHD_OPTION_THREAD_POOL_SIZE, o->io_threads, NULL };
    if (l->is_tls) {
        flags |= MHD_USE_TLS;
        more[n++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_CERT_CALLBACK2, 0,
                                             (void *)(uintptr_t)tls_retrieve };
        more[n++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_PRIORITIES, 0,
                                             (void *)(uintptr_t)TLS_PRIORITIES };
    }
    more[n] = (struct MHD_OptionItem){ MHD_OPTION_END, 0, NULL };
    l->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, server_on_request, s, MHD_OPTION_NOTIFY_COMPLETED,
        server_on_completed, s, MHD_OPTION_NOTIFY_CONNECTION, watcher_conn_event, s,
        MHD_OPTION_URI_LOG_CALLBACK, server_on_uri, s, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)o->write_timeout_s, MHD_OPTION_CONNECTION_LIMIT, l->connections_max,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, o->head_bytes_max, MHD_OPTION_ARRAY, more,
        MHD_OPTION_END);
    if (!l->daemon)
        return sl_fail(err, SL_EIO, "cannot start the HTTP server on %s", l->address);
    return acceptor_start(l, err);
}

void listener_quiesce(http_listener *l)
{
    acceptor_stop(l);
    listener_close(l);
}

void listener_stop(http_listener *l)
{
    listener_quiesce(l);
    if (l->daemon)
        MHD_stop_daemon(l->daemon);
    l->daemon = NULL;
}

void listener_close(http_listener *l)
{
    if (l->fd < 0)
        return;
    if (l->is_unix && l->inode)
        remove_socket(l);
    close(l->fd);
    l->fd = -1;
}
