/* network.c - networks that a key may be used from, IPv4 and IPv6 in one form. */
#include "access/access_int.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

static const unsigned char v4_head[12] = { [10] = 0xff, [11] = 0xff };

/* An address as 16 bytes; *ret_is_v4: it was written as IPv4. */
static bool parse_address(const char *text, unsigned char ret[16], bool *ret_is_v4)
{
    *ret_is_v4 = inet_pton(AF_INET, text, ret + sizeof v4_head) == 1;
    if (*ret_is_v4) {
        memcpy(ret, v4_head, sizeof v4_head);
        return true;
    }
    return inet_pton(AF_INET6, text, ret) == 1;
}

static bool is_rest_zero(const unsigned char bytes[16], int bits)
{
    for (int i = bits; i < 128; i++)
        if (bytes[i / 8] >> (7 - i % 8) & 1)
            return false;
    return true;
}

bool network_parse(const char *text, access_network *ret)
{
    char address[64];
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    access_network n = { .bits = 128 };
    bool is_v4;

    if (len >= sizeof address)
        return false;
    memcpy(address, text, len);
    address[len] = '\0';
    if (!parse_address(address, n.bytes, &is_v4))
        return false;
    if (slash) {
        size_t digits = strspn(slash + 1, "0123456789");

        if (digits == 0 || digits > 3 || slash[1 + digits])
            return false;
        n.bits = atoi(slash + 1);
        if (n.bits > (is_v4 ? 32 : 128))
            return false;
        n.bits += is_v4 ? 96 : 0;
    }
    if (!is_rest_zero(n.bytes, n.bits))
        return false;
    *ret = n;
    return true;
}

bool network_has(const access_network *n, size_t count, const char *address)
{
    unsigned char bytes[16];
    bool is_v4;

    if (!address || !parse_address(address, bytes, &is_v4))
        return false;
    for (size_t i = 0; i < count; i++) {
        int whole = n[i].bits / 8, rest = n[i].bits % 8;

        if (memcmp(bytes, n[i].bytes, (size_t)whole) == 0 &&
            (rest == 0 || (bytes[whole] ^ n[i].bytes[whole]) >> (8 - rest) == 0))
            return true;
    }
    return false;
}
