/* access.c - the static key list. Every comparison looks at all keys and at whole digests, so that
 * the time taken says nothing about how near a guess was. */
#include "access/access.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

struct access_control {
    size_t count;
    unsigned char digests[][SHA256_DIGEST_LENGTH];
};

static bool is_sane_key(const char *key)
{
    size_t len = strlen(key);

    if (len == 0 || len > ACCESS_KEY_BYTES_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (key[i] <= ' ' || key[i] > '~')
            return false;
    return true;
}

sl_status access_create(const char *const *keys, size_t key_count, access_control **ret_access,
                        sl_err *err)
{
    access_control *a;

    if (key_count > ACCESS_KEYS_MAX)
        return sl_fail(err, SL_ELIMIT, "%zu API keys, at most %d", key_count, ACCESS_KEYS_MAX);
    for (size_t i = 0; i < key_count; i++)
        if (!keys[i] || !is_sane_key(keys[i]))
            return sl_fail(err, SL_EINVAL,
                           "API key number %zu: a key is 1 to %d printable ASCII characters "
                           "without spaces",
                           i + 1, ACCESS_KEY_BYTES_MAX);
    a = sl_calloc(1, sizeof *a + key_count * sizeof a->digests[0]);
    if (!a)
        return sl_fail(err, SL_ENOMEM, "API keys");
    a->count = key_count;
    for (size_t i = 0; i < key_count; i++)
        SHA256((const unsigned char *)keys[i], strlen(keys[i]), a->digests[i]);
    *ret_access = a;
    return SL_OK;
}

void access_destroy(access_control *a)
{
    if (!a)
        return;
    OPENSSL_cleanse(a->digests, a->count * sizeof a->digests[0]);
    sl_free(a);
}

size_t access_key_count(const access_control *a)
{
    return a ? a->count : 0;
}

/* The key a request carries, or NULL. */
static const char *key_of(const char *authorization, const char *x_api_key)
{
    if (authorization && strncasecmp(authorization, "Bearer", 6) == 0 &&
        (authorization[6] == ' ' || authorization[6] == '\t' || !authorization[6])) {
        const char *key = authorization + 6;

        key += strspn(key, " \t");
        if (*key)
            return key;
    }
    return x_api_key && *x_api_key ? x_api_key : NULL;
}

access_verdict access_check(const access_control *a, const char *authorization,
                            const char *x_api_key, char ret_name[ACCESS_NAME_BYTES])
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    const char *key = key_of(authorization, x_api_key);
    unsigned found = 0;

    if (ret_name)
        ret_name[0] = '\0';
    if (!a || a->count == 0)
        return ACCESS_ALLOW;
    if (!key)
        return ACCESS_KEY_MISSING;
    SHA256((const unsigned char *)key, strlen(key), digest);
    for (size_t i = 0; i < a->count; i++)
        found |= CRYPTO_memcmp(digest, a->digests[i], sizeof digest) == 0;
    if (!found)
        return ACCESS_KEY_WRONG;
    if (ret_name)
        snprintf(ret_name, ACCESS_NAME_BYTES, "key_%02x%02x%02x%02x", digest[0], digest[1],
                 digest[2], digest[3]);
    return ACCESS_ALLOW;
}

int access_check_fn(void *ctx, const char *authorization, const char *x_api_key,
                    char ret_name[ACCESS_NAME_BYTES])
{
    return (int)access_check(ctx, authorization, x_api_key, ret_name);
}

static bool is_ipv4_loopback(const char *host, size_t len)
{
    unsigned a, b, c, d;
    char text[16];
    int end = 0;

    if (len >= sizeof text)
        return false;
    memcpy(text, host, len);
    text[len] = '\0';
    return sscanf(text, "%3u.%3u.%3u.%3u%n", &a, &b, &c, &d, &end) == 4 && (size_t)end == len &&
           a == 127 && b < 256 && c < 256 && d < 256;
}

bool access_is_loopback(const char *address)
{
    const char *end;
    size_t len;

    if (address[0] == '[') {
        end = strchr(address, ']');
        return end && end - address == 4 && memcmp(address, "[::1", 4) == 0;
    }
    if (strcmp(address, "::1") == 0)
        return true;
    end = strchr(address, ':');
    len = end ? (size_t)(end - address) : strlen(address);
    if (len == 9 && strncasecmp(address, "localhost", 9) == 0)
        return true;
    return is_ipv4_loopback(address, len);
}

sl_status access_check_bind(const char *address, size_t key_count, sl_err *err)
{
    if (key_count > 0 || access_is_loopback(address))
        return SL_OK;
    return sl_fail(err, SL_EINVAL,
                   "refusing to listen on %s without an API key: other machines could use this "
                   "server. Set a key with --api-key KEY or SLUICE_API_KEY=KEY, or listen on "
                   "127.0.0.1 only",
                   address);
}
