/* endpoint.h - the tables of routes. Dispatch, permissions and the OpenAPI document come from them.
 */
#ifndef SL_API_ENDPOINT_H
#define SL_API_ENDPOINT_H

#include "api/encoder.h"
#include "api/schema.h"
#include "http/http.h"

struct api;

typedef struct api_endpoint {
    const char *method, *pattern; /* as http_server_route takes them */
    void (*fn)(struct api *a, http_exchange *x);
    uint32_t permission;     /* LLM_MAY_*; 0: open to everybody, no key needed */
    const char *summary;     /* one line, for the documents */
    const body_schema *body; /* fields of the JSON body; NULL: no body, or none described */
    const char *answer;      /* content types of a good answer; NULL: "application/json" */
    bool streams;            /* may answer with a stream when asked */
    /* A body of any length, as it comes and not kept: begin may answer and return false. NULL: fn
     * finds the body whole. */
    bool (*begin)(struct api *a, http_exchange *x);
    void (*write)(struct api *a, http_exchange *x, const void *bytes, size_t len);
} api_endpoint;

/* One dialect's table. */
typedef struct api_endpoints {
    const api_dialect *dialect;
    const char *title; /* "OpenAI" */
    const api_endpoint *list;
    size_t count;
} api_endpoints;

#endif
