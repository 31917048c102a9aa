/* fuzz_http_forwarded.c - the headers of proxies, and networks. The first line is a network, the
 * second the peer, the rest a header's value. */
#include "base/buf.h"
#include "http/forwarded.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool take_line(const uint8_t **data, size_t *size, char *out, size_t bytes)
{
    const uint8_t *end = memchr(*data, '\n', *size);
    size_t len = end ? (size_t)(end - *data) : 0;

    if (!end || len >= bytes)
        return false;
    memcpy(out, *data, len);
    out[len] = '\0';
    *data += len + 1;
    *size -= len + 1;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char network[128], peer[PROXY_ADDRESS_BYTES], value[4096], client[PROXY_ADDRESS_BYTES];
    const proxy_list all = { .count = 1 }; /* a network of no bits */
    proxy_list list = { .count = 0 };
    sl_err err;

    if (!take_line(&data, &size, network, sizeof network) ||
        !take_line(&data, &size, peer, sizeof peer) || size >= sizeof value)
        return 0;
    memcpy(value, data, size);
    value[size] = '\0';
    if (proxy_list_add(&list, network, &err) != SL_OK)
        SL_ASSERT(err.text[0]);
    for (int kind = 0; kind < PROXY_HEADER_COUNT; kind++) {
        proxy_client(&list, (proxy_header)kind, peer, false, value, client);
        /* Who is not trusted is whom the socket says. */
        SL_ASSERT(proxy_list_has(&list, peer) || strcmp(client, peer) == 0);
        /* Whoever is found is an address: it is in the network of all. */
        SL_ASSERT(strcmp(client, peer) == 0 || proxy_list_has(&all, client));
    }
    return 0;
}
