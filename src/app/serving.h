/* serving.h - the server's options from the configuration: addresses, TLS, proxies, limits. */
#ifndef SL_APP_SERVING_H
#define SL_APP_SERVING_H

#include "app/config.h"
#include "base/buf.h"
#include "http/http.h"

/* True when the YAML document is a mapping whose value of key is a list. */
bool serving_is_list(sl_span yaml, const char *key);

typedef struct serving_plan {
    http_server_options options; /* point into what follows, and into the configuration */
    char *listen;
    const char *addresses[HTTP_LISTENERS_MAX];
} serving_plan;

/* SL_EINVAL names the key. Nothing to release on failure. */
SL_NODISCARD sl_status serving_init(serving_plan *s, const config *c, sl_err *err);
void serving_deinit(serving_plan *s);
/* Refuses addresses beyond this machine where there is no API key. */
SL_NODISCARD sl_status serving_check(const serving_plan *s, size_t key_count, sl_err *err);
/* Logs "server.ready" with the bound addresses. */
void serving_ready(const http_server *s, size_t models);

#endif
