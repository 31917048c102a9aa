/* cors.c - what browsers are told about pages of other origins.
 *
 * With "*" any page may call, without cookies. With a list of origins only those may, also with
 * credentials, and the answer depends on who asks. */
#include "http/http_int.h"

#include <stdio.h>

#define HEADERS_BYTES_MAX 1024

/* Those that clients of all dialects send, for browsers that do not name them. */
#define ALLOWED_HEADERS                                                                            \
    "Authorization, Content-Type, Accept, x-api-key, x-request-id, traceparent, openai-beta, "     \
    "openai-organization, openai-project, anthropic-version, anthropic-beta, "                     \
    "anthropic-dangerous-direct-browser-access"
#define EXPOSED_HEADERS                                                                            \
    "x-request-id, request-id, retry-after, retry-after-ms, x-should-retry, "                      \
    "x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "     \
    "x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, "           \
    "anthropic-ratelimit-requests-limit, anthropic-ratelimit-requests-remaining, "                 \
    "anthropic-ratelimit-requests-reset, anthropic-ratelimit-tokens-limit, "                       \
    "anthropic-ratelimit-tokens-remaining, anthropic-ratelimit-tokens-reset"

/* True when origin is one of the list, "https://a, https://b". */
static bool is_listed(const char *list, const char *origin)
{
    size_t want = strlen(origin);

    while (*list) {
        size_t len;

        list += strspn(list, ", ");
        len = strcspn(list, ", ");
        if (len > 0 && len == want && memcmp(list, origin, len) == 0)
            return true;
        list += len;
    }
    return false;
}

void cors_add(const http_exchange *x, struct MHD_Response *r)
{
    const char *list = x->server->cors_origin;
    const char *origin = http_header(x, "origin");

    if (!list)
        return;
    if (strcmp(list, "*") == 0) {
        MHD_add_response_header(r, "Access-Control-Allow-Origin", "*");
    } else {
        MHD_add_response_header(r, "Vary", "Origin");
        if (!origin || !is_listed(list, origin))
            return;
        MHD_add_response_header(r, "Access-Control-Allow-Origin", origin);
        MHD_add_response_header(r, "Access-Control-Allow-Credentials", "true");
    }
    MHD_add_response_header(r, "Access-Control-Expose-Headers", EXPOSED_HEADERS);
}

/* A list of header names and nothing else. */
static bool is_sane_list(const char *text)
{
    for (size_t i = 0; text[i]; i++)
        if (i >= HEADERS_BYTES_MAX ||
            !strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_., ", text[i]))
            return false;
    return true;
}

void cors_preflight(http_exchange *x, const char *allow)
{
    const char *asked = http_header(x, "access-control-request-headers");

    http_set_header(x, "Allow", allow ? allow : "GET, HEAD, POST, DELETE");
    if (x->server->cors_origin) {
        http_set_header(x, "Access-Control-Allow-Methods",
                        allow ? allow : "GET, HEAD, POST, DELETE");
        http_set_header(x, "Access-Control-Allow-Headers",
                        asked && is_sane_list(asked) ? asked : ALLOWED_HEADERS);
        http_set_header(x, "Access-Control-Max-Age", "600");
    }
    http_respond(x, 204, "text/plain", "", 0);
}
