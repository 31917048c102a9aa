/* access.h - who may call: a fixed list of API keys, in its first form.
 *
 * Keys are kept as SHA-256 digests only and compared in constant time. An access_control is
 * read-only once made; any thread may ask. */
#ifndef SL_ACCESS_ACCESS_H
#define SL_ACCESS_ACCESS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

#define ACCESS_KEYS_MAX      1024
#define ACCESS_KEY_BYTES_MAX 512
#define ACCESS_NAME_BYTES    16

typedef struct access_control access_control;

typedef enum access_verdict {
    ACCESS_ALLOW,
    ACCESS_KEY_MISSING, /* keys are set and the caller sent none */
    ACCESS_KEY_WRONG,
    ACCESS_VERDICT_COUNT
} access_verdict;

/* keys: [key_count] key texts, copied as digests; 0 keys lets everybody in. Empty keys, keys longer
 * than ACCESS_KEY_BYTES_MAX or with bytes outside printable ASCII are SL_EINVAL. */
SL_NODISCARD sl_status access_create(const char *const *keys, size_t key_count,
                                     access_control **ret_access, sl_err *err);
void access_destroy(access_control *a);
size_t access_key_count(const access_control *a); /* a may be NULL: 0 */

/* Judges a request by its headers, each NULL when absent: `Authorization: Bearer <key>` first,
 * then `x-api-key`. ret_name, when not NULL, gets a short stable name of the key ("key_" and 8 hex
 * digits of its digest) for logs, or "" when no key was needed. */
access_verdict access_check(const access_control *a, const char *authorization,
                            const char *x_api_key, char ret_name[ACCESS_NAME_BYTES]);

/* The same as a callback for api_options.auth: ctx is the access_control, the result an
 * access_verdict. */
int access_check_fn(void *ctx, const char *authorization, const char *x_api_key,
                    char ret_name[ACCESS_NAME_BYTES]);

/* True when only this machine can reach the address ("127.0.0.1:8080", "[::1]:0", "localhost"). */
bool access_is_loopback(const char *address);

/* Refuses to serve others without a key: SL_EINVAL with what to do when address is not loopback
 * and key_count is 0. */
SL_NODISCARD sl_status access_check_bind(const char *address, size_t key_count, sl_err *err);

#endif
