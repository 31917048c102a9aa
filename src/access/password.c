/* password.c - passwords through libxcrypt's yescrypt. A check costs tens of milliseconds and 16
 * MiB on purpose; it never runs on an io thread. */
#include "access/access_int.h"

#include <crypt.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#include "base/mem.h"

#define METHOD "$y$"

/* A hash of no password anybody has: what a missing user is checked against. */
static const char nobody[] =
    "$y$j9T$WgC7H4yYWDM2UNPzyeHkX0$5.p7ZX0UgOU/ig0wPEc2/XahhgBRUfRuHgTvdKlpv8/";

static char *hash_with(const char *password, const char *setting)
{
    void *data = NULL;
    int size = 0;
    char *out = crypt_ra(password, setting, &data, &size), *copy = NULL;

    if (out && out[0] != '*')
        copy = sl_strdup(out);
    if (data)
        OPENSSL_cleanse(data, (size_t)size);
    free(data);
    return copy;
}

sl_status password_hash(const char *password, char **ret, sl_err *err)
{
    char *setting = crypt_gensalt_ra(METHOD, 0, NULL, 0), *hash;

    if (!setting)
        return sl_fail(err, SL_EINTERNAL, "libcrypt has no yescrypt");
    hash = hash_with(password, setting);
    free(setting);
    if (!hash)
        return sl_fail(err, SL_ENOMEM, "cannot hash the password");
    *ret = hash;
    return SL_OK;
}

bool password_is(const char *password, const char *hash)
{
    bool there = hash && hash[0];
    const char *want = there ? hash : nobody;
    char *got = hash_with(password, want);
    bool same = got && strlen(got) == strlen(want) && CRYPTO_memcmp(got, want, strlen(want)) == 0;

    sl_free(got);
    return same && there;
}
