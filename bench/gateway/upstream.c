/* upstream.c - answers every request with the same bytes: what nginx proxies to in the comparison,
 * and what both sides are measured against. One thread, one epoll, connections that stay. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNS_MAX  4096
#define HEAD_BYTES 16384

typedef struct conn {
    char in[HEAD_BYTES]; /* a request, as far as it came */
    size_t len;
} conn;

static char answer[4096];
static size_t answer_len;
static conn *conns[CONNS_MAX]; /* by socket */

/* Bytes of the first request in the buffer; 0: it is not whole. */
static size_t request_bytes(const conn *c)
{
    const char *end = memmem(c->in, c->len, "\r\n\r\n", 4), *length;
    size_t need;

    if (!end)
        return 0;
    length = strcasestr(c->in, "\r\ncontent-length:");
    need =
        (size_t)(end + 4 - c->in) + (length && length < end ? strtoul(length + 17, NULL, 10) : 0);
    return need <= c->len ? need : 0;
}

static void on_readable(int fd)
{
    conn *c = conns[fd];
    ssize_t n = recv(fd, c->in + c->len, sizeof c->in - 1 - c->len, MSG_DONTWAIT);
    size_t used;

    if (n <= 0 || c->len + (size_t)n >= sizeof c->in - 1) {
        close(fd);
        free(c);
        conns[fd] = NULL;
        return;
    }
    c->len += (size_t)n;
    c->in[c->len] = '\0';
    while ((used = request_bytes(c)) > 0) {
        if (send(fd, answer, answer_len, MSG_NOSIGNAL) < 0)
            perror("send");
        memmove(c->in, c->in + used, c->len - used + 1);
        c->len -= used;
    }
}

static void on_connect(int epoll, int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), one = 1;
    struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };

    if (fd < 0)
        return;
    if (fd >= CONNS_MAX || !(conns[fd] = calloc(1, sizeof(conn)))) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
}

/* upstream PORT BYTES: a JSON body of so many bytes. */
int main(int argc, char **argv)
{
    int port = argc > 1 ? atoi(argv[1]) : 0, bytes = argc > 2 ? atoi(argv[2]) : 0, one = 1;
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = { .events = EPOLLIN, .data.fd = listener };

    if (port <= 0 || bytes < 16 || bytes > 3500) {
        fputs("Usage: bench_upstream PORT BYTES (16 to 3500)\n", stderr);
        return 2;
    }
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&a, sizeof a) != 0 || listen(listener, 1024) != 0 ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e) != 0) {
        perror("listen");
        return 1;
    }
    answer_len = (size_t)snprintf(answer, sizeof answer,
                                  "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                  "Content-Length: %d\r\n\r\n{\"text\":\"%0*d\"}",
                                  bytes, bytes - 11, 0);
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        struct epoll_event events[64];
        int n = epoll_wait(epoll, events, 64, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener)
                on_connect(epoll, listener);
            else
                on_readable(events[i].data.fd);
        }
    }
}
