/* access.c - the static key list. Every comparison looks at all keys and at whole digests, so that
 * the time taken says nothing about how near a guess was. */
#include "access/access.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

typedef struct static_key {
    llm_caller caller;
    char id[ACCESS_NAME_BYTES];
    unsigned char digest[SHA256_DIGEST_LENGTH];
} static_key;

struct access_control {
    size_t count;
    static_key keys[];
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

/* Callers of static keys live as long as the access_control. */
static void caller_stays(llm_caller *c)
{
    (void)c;
}

static void key_init(static_key *k, const char *text)
{
    SHA256((const unsigned char *)text, strlen(text), k->digest);
    snprintf(k->id, sizeof k->id, "key_%02x%02x%02x%02x", k->digest[0], k->digest[1], k->digest[2],
             k->digest[3]);
    k->caller = (llm_caller){ .destroy = caller_stays,
                              .id = k->id,
                              .name = k->id,
                              .user = "",
                              .team = "",
                              .role = "admin",
                              .permissions = ~0u };
    atomic_init(&k->caller.refs, 1);
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
    a = sl_calloc(1, sizeof *a + key_count * sizeof a->keys[0]);
    if (!a)
        return sl_fail(err, SL_ENOMEM, "API keys");
    a->count = key_count;
    for (size_t i = 0; i < key_count; i++)
        key_init(&a->keys[i], keys[i]);
    *ret_access = a;
    return SL_OK;
}

void access_destroy(access_control *a)
{
    if (!a)
        return;
    OPENSSL_cleanse(a->keys, a->count * sizeof a->keys[0]);
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

/* The caller behind a key; NULL when there is none. Looks at every key, whichever fits. */
static llm_caller *find_caller(access_control *a, const char *key)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    llm_caller *found = NULL;

    SHA256((const unsigned char *)key, strlen(key), digest);
    for (size_t i = 0; i < a->count; i++)
        if (CRYPTO_memcmp(digest, a->keys[i].digest, sizeof digest) == 0)
            found = &a->keys[i].caller;
    return found;
}

sl_status access_check(access_control *a, const char *authorization, const char *x_api_key,
                       llm_caller **ret, sl_err *err)
{
    const char *key = key_of(authorization, x_api_key);
    llm_caller *c = NULL;

    *ret = NULL;
    if (!a || a->count == 0)
        return SL_OK;
    if (!key)
        return sl_fail(err, SL_EAUTH,
                       "You didn't provide an API key. Send it in an Authorization header: "
                       "Authorization: Bearer YOUR_KEY");
    c = find_caller(a, key);
    if (!c)
        return sl_fail(err, SL_EAUTH, "Incorrect API key provided");
    *ret = llm_caller_ref(c);
    return SL_OK;
}

sl_status access_enter(void *ctx, const http_exchange *x, llm_caller **ret, sl_err *err)
{
    return access_check(ctx, http_header(x, "authorization"), http_header(x, "x-api-key"), ret,
                        err);
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
