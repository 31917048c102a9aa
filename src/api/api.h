/* api.h - the HTTP dialects: requests to llm_request, llm_event to answers.
 *
 * api_create hangs its routes on a server that was created but not started. Everything the options
 * point to must outlive the api; the server is destroyed (or drained) before the api is. */
#ifndef SL_API_API_H
#define SL_API_API_H

#include "base/metric.h"
#include "http/http.h"
#include "llm/llm.h"

typedef struct api api;

/* What a model's engine tells /metrics about itself, asked at each scrape. */
typedef struct api_stats {
    char model[128];
    double requests_running, requests_waiting; /* sequences */
    double kv_blocks_used, kv_blocks;          /* 0 where there is no KV cache */
    double prefix_hit_tokens_total, prefix_query_tokens_total;
    double preemptions_total, steps_total;
    double draft_tokens_total, draft_accepted_tokens_total;
} api_stats;

/* Servers whose metrics' names are exposed too. */
enum { API_COMPAT_VLLM = 1, API_COMPAT_TGI = 2, API_COMPAT_LLAMACPP = 4 };

/* Judges who calls, by headers and address. Must not block. SL_OK: *ret is a reference, or NULL
 * where everybody may call. SL_EAUTH: no credential or a wrong one; SL_EFORBIDDEN: a good one that
 * may not call from there; SL_EBUSY: it cannot be judged yet. err's text is told to the caller.
 * access_enter is one. */
typedef sl_status (*api_gate_fn)(void *ctx, const http_exchange *x, llm_caller **ret, sl_err *err);

/* Where answers of /v1/responses are kept, each for its owner alone. Any thread. */
typedef struct api_kept_ops {
    /* Keeps bytes of owner under id. Must not block: they may be written later, but get sees them
     * at once. On failure nothing is kept. */
    sl_status (*put)(void *ctx, const char *owner, const char *id, sl_span bytes, sl_err *err);
    /* Appends what is kept to out; may block. SL_ENOTFOUND: nothing of this owner's. */
    sl_status (*get)(void *ctx, const char *owner, const char *id, sl_buf *out, sl_err *err);
    /* May block. SL_ENOTFOUND as above. */
    sl_status (*remove)(void *ctx, const char *owner, const char *id, sl_err *err);
} api_kept_ops;

typedef struct api_kept {
    const api_kept_ops *ops; /* NULL: nothing is kept */
    void *ctx;
} api_kept;

/* Whether and how texts of prompts and answers appear in a request's log line. */
typedef enum api_log_content {
    API_LOG_NONE,
    API_LOG_HASH, /* half of their SHA-256, and their lengths */
    API_LOG_FULL,
} api_log_content;

typedef struct api_options {
    llm_chain *chain;
    llm_docs docs;     /* ops NULL: the RAG routes answer 501 */
    llm_models models; /* ops NULL: the routes that manage models answer 501 */
    api_gate_fn gate;  /* NULL: everybody may do everything */
    void *gate_ctx;
    api_kept responses;
    llm_accounts accounts;    /* ops NULL: /admin and /auth answer 501 */
    llm_usage_source usage;   /* ops NULL: the usage routes answer 501 */
    llm_jobs jobs;            /* ops NULL: the routes of files and batches answer 501 */
    metric_registry *metrics; /* NULL: the api makes its own; not rendered after api_destroy */
    const char *version;      /* for /version and the hello page */
    /* Fills ret[max], one per loaded model, and returns how many. Any thread, must not block; NULL:
     * those gauges are missing. */
    size_t (*stats)(void *ctx, api_stats *ret, size_t max);
    void *stats_ctx;
    unsigned compat;    /* API_COMPAT_* */
    int docs_workers;   /* 0: 4; threads for document routes */
    int docs_queue_max; /* 0: 32; waiting document requests before 503 */
    int retry_after_s;  /* 0: 1; told to clients when a queue is full */
    bool no_access_log;
    api_log_content log_content;
} api_options;

SL_NODISCARD sl_status api_create(const api_options *options, http_server *server, api **ret_api,
                                  sl_err *err);
/* What the lines of batches need. */
typedef struct api_lines {
    llm_chain *chain;
    api_kept responses;
    api *front; /* whose metrics count them; NULL: nobody's. Set before the first line runs */
} api_lines;

/* Runs lines as their HTTP routes would run them. lines must outlive the runner. */
llm_line_runner api_line_runner(api_lines *lines);
/* The OpenAPI 3.1 document of all routes, as JSON. */
void api_write_openapi(const char *version_text, sl_buf *out);
/* /ready answers 200 while true, 503 otherwise. Starts false. */
void api_set_ready(api *a, bool ready);
/* Waits for document requests that still run. Accepts NULL. */
void api_destroy(api *a);

#endif
