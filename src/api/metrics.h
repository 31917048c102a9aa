/* metrics.h - what the api counts. Internal to the room. */
#ifndef SL_API_METRICS_H
#define SL_API_METRICS_H

#include <pthread.h>

#include "api/api.h"

#define API_TOKEN_BOUNDS 19
#define API_GAUGES_MAX   32

/* How a model request ended. */
typedef enum api_outcome {
    API_OUTCOME_OK,
    API_OUTCOME_CANCELLED, /* the client left, or the server stopped */
    API_OUTCOME_FAILED,    /* after it was accepted */
    API_OUTCOME_REFUSED,   /* by a limit, a full queue, a prompt too long */
    API_OUTCOME_COUNT
} api_outcome;

/* The series of one model and route, looked up once per request. */
typedef struct api_meter api_meter;

/* A number of the engines, told at each scrape. */
typedef struct api_gauge {
    api *a;
    double (*value)(const api_stats *s);
    size_t label_count; /* 0: the sum over all models; 1: by model_name; 2: and engine="0" */
} api_gauge;

typedef struct api_metrics {
    metric_family *requests, *request_seconds; /* HTTP */
    metric_series *in_flight;
    metric_family *model_requests, *errors, *finished, *tokens;
    metric_family *ttft, *inter_token, *token_mean; /* seconds, as those below */
    metric_family *queue, *prefill, *decode, *inference, *e2e;
    metric_family *prompt_tokens, *output_tokens, *max_tokens, *choices;
    metric_family *removed_markers, *nothing_found; /* answers over documents */
    pthread_mutex_t mutex;                          /* the list; rank: leaf */
    api_meter *meters;
    size_t meter_count;
    api_gauge gauges[API_GAUGES_MAX];
    size_t gauge_count;
    pthread_mutex_t scrape; /* the stats, read once per scrape; above the registry's */
    api_stats stats[LLM_MODELS_MAX];
    size_t stats_count;
} api_metrics;

void api_metrics_init(api *a);
void api_metrics_deinit(api *a);
/* GET /metrics. */
void api_metrics_get(api *a, http_exchange *x);

/* NULL: out of memory; everything below accepts it. */
const api_meter *api_meter_of(api *a, const char *model, const char *route);
void api_meter_begin(const api_meter *m, const llm_request *req);
void api_meter_first_token(const api_meter *m, double seconds);
void api_meter_inter_token(const api_meter *m, double seconds);
/* Counts a request that is over; usage is NULL when it was refused. choices: of all prompts. */
void api_meter_done(const api_meter *m, api_outcome outcome, const llm_usage *usage,
                    uint32_t choices, double e2e_seconds);

/* A line of a batch that is over: how it went and its tokens. Not its times, which would hide those
 * of requests that somebody waits for. usage as above; a NULL: nobody counts. */
void api_count_line(api *a, const char *model, const char *route, api_outcome outcome,
                    const llm_usage *usage);
/* A choice that ended. */
void api_count_finish(api *a, const char *model, llm_finish finish);
/* Counts an answer over documents. */
void api_count_grounds(api *a, const char *model, const llm_docs_report *report);

/* A number of the engines as a family. */
void api_add_gauge(api *a, metric_kind kind, const char *name, const char *help,
                   double (*value)(const api_stats *s), size_t label_count);

double api_stat_requests_running(const api_stats *s);
double api_stat_requests_waiting(const api_stats *s);
double api_stat_kv_usage(const api_stats *s); /* 0 to 1 */
double api_stat_prefix_hit_tokens_total(const api_stats *s);
double api_stat_prefix_query_tokens_total(const api_stats *s);
double api_stat_preemptions_total(const api_stats *s);
double api_stat_steps_total(const api_stats *s);
double api_stat_draft_tokens_total(const api_stats *s);
double api_stat_draft_accepted_tokens_total(const api_stats *s);

/* compat.c: the same numbers under the names of other servers, as api_options.compat says. refine
 * comes before the families' first series. */
void compat_refine(api *a);
void compat_init(api *a);

#endif
