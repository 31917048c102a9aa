/* access.h - who may call: a fixed list of API keys, in its first form.
 *
 * Keys are kept as SHA-256 digests only and compared in constant time. An access_control is
 * read-only once made; any thread may ask. */
#ifndef SL_ACCESS_ACCESS_H
#define SL_ACCESS_ACCESS_H

#include <stdbool.h>
#include <stddef.h>

#include "access/limit.h"
#include "base/status.h"
#include "http/http.h"
#include "llm/llm.h"

#define ACCESS_KEYS_MAX      1024
#define ACCESS_KEY_BYTES_MAX 512
#define ACCESS_NAME_BYTES    16

typedef struct access_control access_control;

/* keys: [key_count] key texts, copied as digests; 0 keys lets everybody in. Empty keys, keys longer
 * than ACCESS_KEY_BYTES_MAX or with bytes outside printable ASCII are SL_EINVAL. */
SL_NODISCARD sl_status access_create(const char *const *keys, size_t key_count,
                                     access_control **ret_access, sl_err *err);
void access_destroy(access_control *a);
size_t access_key_count(const access_control *a); /* a may be NULL: 0 */

/* Judges a request by its headers, each NULL when absent: `Authorization: Bearer <key>` first, then
 * `x-api-key`. *ret is a reference to the caller, NULL when there are no keys (a may be NULL).
 * SL_EAUTH: no key, or a wrong one. */
SL_NODISCARD sl_status access_check(access_control *a, const char *authorization,
                                    const char *x_api_key, llm_caller **ret, sl_err *err);
/* The same as an api_gate_fn: ctx is the access_control. */
sl_status access_enter(void *ctx, const http_exchange *x, llm_caller **ret, sl_err *err);

/* True when only this machine can reach the address ("127.0.0.1:8080", "[::1]:0", "localhost"). */
bool access_is_loopback(const char *address);

/* Refuses to serve others without a key: SL_EINVAL with what to do when address is not loopback
 * and key_count is 0. */
SL_NODISCARD sl_status access_check_bind(const char *address, size_t key_count, sl_err *err);

#endif
