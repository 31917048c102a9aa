/* api_int.h - what the files of this room share. */
#ifndef SL_API_API_INT_H
#define SL_API_API_INT_H

#include <pthread.h>

#include "api/api.h"
#include "api/content.h"
#include "api/endpoint.h"
#include "api/metrics.h"
#include "api/openai.h"
#include "base/os.h"

#define API_ROUTES_MAX 240

/* What the access log says about a request beyond HTTP. First member of every object that a
 * handler hangs on its exchange with http_set_user. */
typedef struct api_note {
    char model[128];
    int64_t prompt_tokens, output_tokens;
    double ttft_ms; /* < 0: no token came */
    const char *error_code;
    api_content *content; /* or NULL */
} api_note;

/* A bounded pool of threads for work that blocks. */
typedef struct api_pool api_pool;
typedef void (*api_task_fn)(api *a, http_exchange *x);

sl_status api_pool_create(api *a, int threads, int queue_max, api_pool **ret, sl_err *err);
/* Takes a reference to x for as long as the task waits and runs. False when the queue is full. */
bool api_pool_push(api_pool *p, api_task_fn fn, http_exchange *x);
/* Runs fn on the pool, or answers 503. */
void api_run_later(api *a, http_exchange *x, api_task_fn fn);
/* Runs what is queued, then ends the threads. Accepts NULL. */
void api_pool_destroy(api_pool *p);

typedef struct api_route {
    api *a;
    const api_dialect *dialect;
    const api_endpoint *endpoint;
} api_route;

struct api {
    api_options options;
    metric_registry *metrics;
    bool owns_metrics;
    api_metrics m;
    api_route routes[API_ROUTES_MAX];
    size_t route_count;
    atomic_bool ready;
    atomic_int load; /* model requests under way */
    int64_t started_s;
    api_pool *pool;                    /* document routes, and those about models that read files */
    api_pool *slow_pool;               /* what takes minutes: pulls, creations */
    api_pool *admin_pool, *login_pool; /* NULL without accounts */
    sl_buf openapi;                    /* the document, written once */
};

/* answer.c */
/* The name that answers, logs and metrics carry: what the caller said, or the default model's;
 * "unknown" when there is no such model, and then *ret_info is empty. */
const char *answer_model(const api *a, const llm_request *req, llm_model_info *ret_info);
/* The same where there is no api. */
const char *chain_model(const llm_chain *chain, const llm_request *req, llm_model_info *ret_info);
/* Submits the request and answers through enc, later. Takes req and enc (NULL: out of memory, which
 * is answered). */
void answer_begin(api *a, http_exchange *x, llm_request *req, encoder *enc, const char *model);

extern const api_endpoints openai_endpoints, responses_endpoints, anthropic_endpoints;
extern const api_endpoints llamacpp_endpoints, rag_endpoints, usage_endpoints, ollama_endpoints;
extern const api_endpoints tgi_endpoints, tokenize_endpoints, admin_endpoints;
extern const api_endpoints rerank_endpoints;
/* openai.c: answers a body of one of its three routes. */
void openai_handle(api *a, http_exchange *x, llm_task task);
extern const api_endpoints files_endpoints, batches_endpoints;
extern const api_endpoints document_endpoints, vector_store_endpoints, vector_store_file_endpoints;

/* openai.c: parses a body and checks it against its model, for every way in. *ret_model: what logs
 * and answers call it. On failure nothing is kept and *err is filled. */
sl_status openai_prepare(const llm_chain *chain, const llm_caller *caller, llm_task task,
                         sl_span body, openai_call *ret, const char **ret_model, openai_error *err);

/* models.c */
void models_list(api *a, http_exchange *x);
void models_get(api *a, http_exchange *x);
/* anthropic.c: the same for its clients. */
void anthropic_models_list(api *a, http_exchange *x);
void anthropic_models_get(api *a, http_exchange *x);
/* metrics.c */
/* Counts and logs a request that is over; called once per exchange. */
void api_request_done(void *api_ctx, http_exchange *x);

/* Who sent the request; NULL where keys are off. Lives as long as the exchange. */
llm_caller *api_caller(const http_exchange *x);
/* The trace that it belongs to, id "" when it does not say. */
const llm_trace *api_trace(const http_exchange *x);
/* Who and what a request is, for all lines of this thread until sl_log_pop. */
void api_push_context(const http_exchange *x, sl_log_scope *scope);
/* Answers with an error, with Retry-After on 503 and 429. */
void api_respond_error(const api *a, http_exchange *x, const openai_error *e);
/* The same in another dialect. */
void api_respond_error_as(const api *a, http_exchange *x, const openai_error *e,
                          const api_dialect *dialect);
/* The same for a failure status; not about models. */
void api_respond_status(const api *a, http_exchange *x, const sl_err *err);

#endif
