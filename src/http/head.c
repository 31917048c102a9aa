/* head.c - the limits of a request's head, and whose address stands in it. A head that is no HTTP,
 * or does not fit the connection's memory, never gets here: libmicrohttpd answers it itself. */
#include "http/http_int.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>

int head_check(const http_exchange *x, struct MHD_Connection *conn)
{
    if (x->uri_too_long)
        return 414;
    if (MHD_get_connection_values(conn, MHD_HEADER_KIND, NULL, NULL) > SL_HTTP_HEADERS_MAX)
        return 431;
    if (MHD_get_connection_values(conn, MHD_GET_ARGUMENT_KIND, NULL, NULL) > SL_HTTP_QUERIES_MAX)
        return 400;
    return 0;
}

const char *head_reason(int status, char *text, size_t bytes)
{
    if (status == 431) {
        snprintf(text, bytes, "The request has more than %d header fields", SL_HTTP_HEADERS_MAX);
        return "too_many_headers";
    }
    if (status == 400) {
        snprintf(text, bytes, "The URL has more than %d query parameters", SL_HTTP_QUERIES_MAX);
        return "too_many_parameters";
    }
    snprintf(text, bytes, "The URL is longer than %zu bytes", SL_HTTP_URI_BYTES_MAX);
    return "uri_too_long";
}

/* The socket's other end as text; IPv4 that came by an IPv6 socket is written as IPv4. */
static bool peer_text(http_exchange *x, char *ret)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *addr = info ? info->client_addr : NULL;
    const struct in6_addr *v6;

    ret[0] = '\0';
    if (!addr)
        return false;
    if (addr->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)addr)->sin_addr, ret, PROXY_ADDRESS_BYTES);
    if (addr->sa_family == AF_INET6) {
        v6 = &((const struct sockaddr_in6 *)addr)->sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(v6))
            inet_ntop(AF_INET, v6->s6_addr + 12, ret, PROXY_ADDRESS_BYTES);
        else
            inet_ntop(AF_INET6, v6, ret, PROXY_ADDRESS_BYTES);
    }
    if (addr->sa_family == AF_UNIX)
        snprintf(ret, PROXY_ADDRESS_BYTES, "127.0.0.1");
    return addr->sa_family == AF_UNIX;
}

/* All lines of a header as one list, in their order; NULL: none, or out of memory. */
static const char *join_lines(http_exchange *x, const char *name)
{
    const char *all = NULL;

    for (const http_pair *p = x->headers; p; p = p->next) { /* the last line comes first */
        size_t len, more;
        char *joined;

        if (strcasecmp(p->name, name) != 0)
            continue;
        if (!all) {
            all = p->value;
            continue;
        }
        len = strlen(p->value);
        more = strlen(all);
        joined = sl_arena_alloc(&x->arena, len + more + 2);
        if (!joined)
            return NULL;
        memcpy(joined, p->value, len);
        joined[len] = ',';
        memcpy(joined + len + 1, all, more);
        all = joined;
    }
    return all;
}

const char *head_remote(http_exchange *x)
{
    static const char *const names[PROXY_HEADER_COUNT] = { "x-forwarded-for", "forwarded" };
    const http_server *s = x->server;
    char peer[PROXY_ADDRESS_BYTES], client[PROXY_ADDRESS_BYTES];
    bool is_unix = peer_text(x, peer);
    const char *use = peer;

    if (s->proxies.count > 0 || s->proxies.has_unix) {
        proxy_client(&s->proxies, s->proxy_header, peer, is_unix,
                     join_lines(x, names[s->proxy_header]), client);
        use = client;
    }
    return sl_arena_strndup(&x->arena, use, strlen(use));
}
