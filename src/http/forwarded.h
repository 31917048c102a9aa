/* forwarded.h - whose address a request has when proxies stand between.
 *
 * A proxy says in a header for whom it asks; anybody else may say so too. Therefore only what
 * trusted networks say counts: the header is read from the right, where the nearest proxy wrote,
 * and the first address that is not a trusted one is the client. */
#ifndef SL_HTTP_FORWARDED_H
#define SL_HTTP_FORWARDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define PROXY_NETWORKS_MAX  64
#define PROXY_ADDRESS_BYTES 46 /* INET6_ADDRSTRLEN */

/* IPv4 as ::ffff:a.b.c.d with 96 more bits, so that both kinds are one. */
typedef struct proxy_network {
    uint8_t bytes[16];
    int bits;
} proxy_network;

typedef struct proxy_list {
    proxy_network networks[PROXY_NETWORKS_MAX];
    size_t count;
    bool has_unix; /* whoever connects by a Unix socket is trusted */
} proxy_list;

typedef enum proxy_header {
    PROXY_X_FORWARDED_FOR, /* a, b, c */
    PROXY_FORWARDED,       /* for=a;proto=https, for="[b]:1" (RFC 7239) */
    PROXY_HEADER_COUNT
} proxy_header;

/* Adds "10.0.0.0/8", "::1", "fd00::/8" or "unix". SL_EINVAL names what is wrong with it. */
SL_NODISCARD sl_status proxy_list_add(proxy_list *list, const char *text, sl_err *err);
/* address: "10.0.0.7", "2001:db8::1". False for anything else. */
bool proxy_list_has(const proxy_list *list, const char *address);

/* The client's address into ret[PROXY_ADDRESS_BYTES]: peer's own unless the peer is trusted. A hop
 * that is no address, or a malformed header, ends the walk: then the last trusted hop counts.
 *
 * peer:  the socket's other end; is_unix: it came by a Unix socket, peer is then "127.0.0.1"
 * value: of the header, several lines joined by commas; NULL: none */
void proxy_client(const proxy_list *list, proxy_header kind, const char *peer, bool is_unix,
                  const char *value, char *ret);

#endif
