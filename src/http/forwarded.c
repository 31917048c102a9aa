/* forwarded.c - see the header. Both forms of the header become a list of hops, each a piece of
 * text; the walk from the right does the rest. */
#include "http/forwarded.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HOPS_MAX  32 /* kept, the rightmost; real chains have three */
#define HOP_BYTES 64 /* longer ones are no addresses */

static const uint8_t v4_head[12] = { [10] = 0xff, [11] = 0xff };

/* ---- addresses ----------------------------------------------------------------------------- */

static bool address_parse(const char *text, uint8_t ret[16], bool *ret_is_v4)
{
    *ret_is_v4 = inet_pton(AF_INET, text, ret + sizeof v4_head) == 1;
    if (*ret_is_v4) {
        memcpy(ret, v4_head, sizeof v4_head);
        return true;
    }
    return inet_pton(AF_INET6, text, ret) == 1;
}

static void address_print(const uint8_t bytes[16], char *ret)
{
    if (memcmp(bytes, v4_head, sizeof v4_head) == 0)
        inet_ntop(AF_INET, bytes + sizeof v4_head, ret, PROXY_ADDRESS_BYTES);
    else
        inet_ntop(AF_INET6, bytes, ret, PROXY_ADDRESS_BYTES);
}

static bool has_bits_after(const uint8_t bytes[16], int bits)
{
    for (int i = bits; i < 128; i++)
        if (bytes[i / 8] >> (7 - i % 8) & 1)
            return true;
    return false;
}

static bool has_prefix(const proxy_network *n, const uint8_t bytes[16])
{
    int whole = n->bits / 8, rest = n->bits % 8;

    if (memcmp(n->bytes, bytes, (size_t)whole) != 0)
        return false;
    return rest == 0 || ((n->bytes[whole] ^ bytes[whole]) >> (8 - rest)) == 0;
}

static bool is_trusted(const proxy_list *list, const uint8_t bytes[16])
{
    for (size_t i = 0; i < list->count; i++)
        if (has_prefix(&list->networks[i], bytes))
            return true;
    return false;
}

bool proxy_list_has(const proxy_list *list, const char *address)
{
    uint8_t bytes[16];
    bool is_v4;

    return address_parse(address, bytes, &is_v4) && is_trusted(list, bytes);
}

/* The number behind the slash; -1: none that fits. */
static int prefix_bits(const char *text, int max)
{
    size_t digits = strspn(text, "0123456789");
    int bits = digits >= 1 && digits <= 3 && !text[digits] ? atoi(text) : -1;

    return bits <= max ? bits : -1;
}

sl_status proxy_list_add(proxy_list *list, const char *text, sl_err *err)
{
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    proxy_network *n = &list->networks[list->count];
    char address[PROXY_ADDRESS_BYTES];
    bool is_v4 = false;

    if (strcmp(text, "unix") == 0) {
        list->has_unix = true;
        return SL_OK;
    }
    if (list->count == PROXY_NETWORKS_MAX)
        return sl_fail(err, SL_ELIMIT, "more than %d trusted proxies", PROXY_NETWORKS_MAX);
    if (len >= sizeof address)
        return sl_fail(err, SL_EINVAL, "trusted proxy \"%.80s\": no address", text);
    memcpy(address, text, len);
    address[len] = '\0';
    if (!address_parse(address, n->bytes, &is_v4))
        return sl_fail(err, SL_EINVAL,
                       "trusted proxy \"%.80s\": expected an address, a network as 10.0.0.0/8 or "
                       "fd00::/8, or unix",
                       text);
    n->bits = slash ? prefix_bits(slash + 1, is_v4 ? 32 : 128) : (is_v4 ? 32 : 128);
    if (n->bits < 0)
        return sl_fail(err, SL_EINVAL, "trusted proxy \"%.80s\": the prefix is 0 to %d", text,
                       is_v4 ? 32 : 128);
    n->bits += is_v4 ? 96 : 0;
    if (has_bits_after(n->bytes, n->bits))
        return sl_fail(err, SL_EINVAL,
                       "trusted proxy \"%.80s\": the address has bits outside of its prefix", text);
    list->count++;
    return SL_OK;
}

/* ---- hops ---------------------------------------------------------------------------------- */

/* The last HOPS_MAX hops of a header, in order; number i is at text[i % HOPS_MAX]. */
typedef struct hops {
    char text[HOPS_MAX][HOP_BYTES];
    size_t count;
} hops;

/* A hop that is too long is kept as an empty one, which ends the walk. */
static void hops_push(hops *h, const char *text, size_t len)
{
    char *to = h->text[h->count++ % HOPS_MAX];

    if (len >= HOP_BYTES)
        len = 0;
    memcpy(to, text, len);
    to[len] = '\0';
}

static void read_list(const char *value, hops *h)
{
    while (*value) {
        size_t len = strcspn(value, ",");
        const char *from = value + strspn(value, " \t");
        const char *end = value + len;

        value += len + (value[len] == ',');
        if (from > end)
            from = end;
        while (end > from && (end[-1] == ' ' || end[-1] == '\t'))
            end--;
        if (end > from) /* empty elements of a list mean nothing */
            hops_push(h, from, (size_t)(end - from));
    }
}

/* Takes `token` or `"quoted"` at *p into out[HOP_BYTES]; false when malformed or too long. */
static bool take_value(const char **p, char *out)
{
    size_t len = 0;
    bool quoted = **p == '"';

    *p += quoted;
    while (**p && (quoted ? **p != '"' : !strchr(",; \t", **p))) {
        if (quoted && **p == '\\' && !*++*p)
            return false;
        if (len + 1 >= HOP_BYTES)
            return false;
        out[len++] = *(*p)++;
    }
    out[len] = '\0';
    if (!quoted)
        return len > 0;
    return *(*p)++ == '"';
}

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t");
}

/* One element, `name=value;name=value`; pushes the value of for, or an empty hop. False when
 * malformed. */
static bool read_element(const char **p, hops *h)
{
    char value[HOP_BYTES], by_whom[HOP_BYTES] = "";

    for (;;) {
        size_t name_len;
        bool is_for;

        *p = skip_blanks(*p);
        name_len = strcspn(*p, "=,; \t");
        if (name_len == 0 || (*p)[name_len] != '=')
            return false;
        is_for = name_len == 3 && strncasecmp(*p, "for", 3) == 0;
        *p += name_len + 1;
        if (!take_value(p, value))
            return false;
        if (is_for)
            memcpy(by_whom, value, sizeof value);
        *p = skip_blanks(*p);
        if (**p != ';')
            break;
        ++*p;
    }
    hops_push(h, by_whom, strlen(by_whom));
    return **p == ',' || !**p;
}

static void read_forwarded(const char *value, hops *h)
{
    while (*(value = skip_blanks(value))) {
        if (*value == ',') {
            value++;
        } else if (!read_element(&value, h)) {
            h->count = 0; /* what stands behind the fault cannot be told: nothing counts */
            return;
        }
    }
}

/* "1.2.3.4", "1.2.3.4:80", "::1", "[::1]", "[::1]:80" to an address. */
static bool hop_address(const char *hop, uint8_t ret[16])
{
    char text[HOP_BYTES];
    const char *end = hop + strlen(hop), *port = NULL;
    bool is_v4;

    if (hop[0] == '[') {
        end = strchr(++hop, ']');
        if (!end)
            return false;
        port = end + 1;
    } else if (strchr(hop, '.') && strchr(hop, ':') && strchr(hop, ':') == strrchr(hop, ':')) {
        end = port = strchr(hop, ':');
    }
    if (port && *port && (*port != ':' || !port[1] || port[1 + strspn(port + 1, "0123456789")]))
        return false;
    memcpy(text, hop, (size_t)(end - hop));
    text[end - hop] = '\0';
    return address_parse(text, ret, &is_v4);
}

void proxy_client(const proxy_list *list, proxy_header kind, const char *peer, bool is_unix,
                  const char *value, char *ret)
{
    uint8_t bytes[16];
    hops h;

    h.count = 0;
    snprintf(ret, PROXY_ADDRESS_BYTES, "%s", peer);
    if (!value || !(is_unix ? list->has_unix : proxy_list_has(list, peer)))
        return;
    if (kind == PROXY_FORWARDED)
        read_forwarded(value, &h);
    else
        read_list(value, &h);
    for (size_t i = 0; i < HOPS_MAX && i < h.count; i++) {
        if (!hop_address(h.text[(h.count - 1 - i) % HOPS_MAX], bytes))
            return;
        address_print(bytes, ret);
        if (!is_trusted(list, bytes))
            return;
    }
}
