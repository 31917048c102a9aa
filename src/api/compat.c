/* compat.c - the same numbers under the names of other servers' metrics, so that boards and scaling
 * rules made for those work unchanged.
 *
 * Everything here is translated when it is written out: from our families through views, from the
 * engines through gauges. Only what we know is exposed; a metric of theirs that is missing here is
 * one whose truth we cannot tell (docs/metrics.md lists them). */
#include "api/api_int.h"

/* Indices of labels in our families. */
enum { MODEL, ROUTE, BUCKET_OR_OUTCOME };
enum { HTTP_ROUTE, HTTP_METHOD, HTTP_STATUS };
enum { ERROR_MODEL, ERROR_CODE };
enum { FINISHED_MODEL, FINISHED_REASON };

/* ---- bounds -------------------------------------------------------------------------------- */

static const double vllm_ttft[] = { 0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                    0.25,  0.5,   0.75, 1,    2.5,  5,    7.5,  10,
                                    20,    40,    80,   160,  640,  2560 };
static const double vllm_token[] = { 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
                                     0.75, 1,     2.5,  5,     7.5, 10,   20,  40,  80 };
static const double vllm_request[] = { 0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                       30,  40,  50,  60, 120, 240, 480, 960, 1920, 7680 };

#define TGI_BOUNDS 35
static double tgi_seconds[TGI_BOUNDS]; /* 0.0001 s times 1.5, 1.5^2, ... */
static pthread_once_t tgi_once = PTHREAD_ONCE_INIT;

static void make_tgi_seconds(void)
{
    double v = 0.0001;

    for (size_t i = 0; i < TGI_BOUNDS; i++)
        tgi_seconds[i] = v *= 1.5;
}

void compat_refine(api *a)
{
    const api_metrics *m = &a->m;
    metric_family *const request[] = { m->e2e, m->queue, m->inference, m->prefill, m->decode };
    metric_family *const tgi[] = { m->e2e, m->queue, m->inference, m->token_mean };

    if (a->options.compat & API_COMPAT_VLLM) {
        metric_refine(m->ttft, vllm_ttft, SL_COUNT_OF(vllm_ttft));
        metric_refine(m->inter_token, vllm_token, SL_COUNT_OF(vllm_token));
        metric_refine(m->token_mean, vllm_token, SL_COUNT_OF(vllm_token));
        for (size_t i = 0; i < SL_COUNT_OF(request); i++)
            metric_refine(request[i], vllm_request, SL_COUNT_OF(vllm_request));
    }
    if (a->options.compat & API_COMPAT_TGI) {
        pthread_once(&tgi_once, make_tgi_seconds);
        for (size_t i = 0; i < SL_COUNT_OF(tgi); i++)
            metric_refine(tgi[i], tgi_seconds, TGI_BOUNDS);
    }
}

/* ---- words --------------------------------------------------------------------------------- */

static const char *source_of(const char *bucket)
{
    if (strcmp(bucket, "fresh") == 0)
        return "local_compute";
    return strcmp(bucket, "cached") == 0 ? "local_cache_hit" : NULL;
}

static const char *status_class(const char *status)
{
    static const char *const classes[] = { "1xx", "2xx", "3xx", "4xx", "5xx" };

    return status[0] >= '1' && status[0] <= '5' ? classes[status[0] - '1'] : "5xx";
}

/* TGI's error types from our codes. */
static const char *tgi_error(const char *code)
{
    static const char *const busy[] = { "engine_overloaded", "rate_limit_exceeded",
                                        "insufficient_quota" };
    static const char *const ours[] = { "server_error", "internal_error" };

    for (size_t i = 0; i < SL_COUNT_OF(busy); i++)
        if (strcmp(code, busy[i]) == 0)
            return "overloaded";
    for (size_t i = 0; i < SL_COUNT_OF(ours); i++)
        if (strcmp(code, ours[i]) == 0)
            return "generation";
    return "validation";
}

/* ---- views --------------------------------------------------------------------------------- */

typedef struct compat_view {
    const char *name, *help;
    size_t of; /* of a metric_family * in api_metrics */
    metric_view_what what;
    const char *only; /* value of the label BUCKET_OR_OUTCOME, or NULL */
    const double *bounds;
    size_t bound_count;
    metric_view_label extra; /* beside model_name and engine; name NULL: none */
} compat_view;

#define OF(field)     offsetof(api_metrics, field)
#define BOUNDS(array) .bounds = array, .bound_count = SL_COUNT_OF(array)

static const compat_view vllm_views[] = {
    { "vllm:prompt_tokens_total", "Prompt tokens.", OF(prompt_tokens), METRIC_VIEW_SUM },
    { "vllm:generation_tokens_total", "Tokens generated.", OF(tokens), .only = "output" },
    { "vllm:prompt_tokens_cached_total", "Prompt tokens from the prefix cache.", OF(tokens),
      .only = "cached" },
    { "vllm:prompt_tokens_by_source_total", "Prompt tokens by where they came from.", OF(tokens),
      .extra = { "source", BUCKET_OR_OUTCOME, NULL, source_of } },
    { "vllm:request_success_total", "Choices that ended.", OF(finished),
      .extra = { "finished_reason", FINISHED_REASON } },
    { "vllm:time_to_first_token_seconds", "Time to the first token.", OF(ttft), BOUNDS(vllm_ttft) },
    { "vllm:inter_token_latency_seconds", "Between two tokens.", OF(inter_token),
      BOUNDS(vllm_token) },
    { "vllm:time_per_output_token_seconds", "Between two tokens (its older name).", OF(inter_token),
      BOUNDS(vllm_token) },
    { "vllm:request_time_per_output_token_seconds", "A request's mean time per token.",
      OF(token_mean), BOUNDS(vllm_token) },
    { "vllm:e2e_request_latency_seconds", "Whole requests.", OF(e2e), BOUNDS(vllm_request) },
    { "vllm:request_queue_time_seconds", "Waiting.", OF(queue), BOUNDS(vllm_request) },
    { "vllm:request_inference_time_seconds", "Running.", OF(inference), BOUNDS(vllm_request) },
    { "vllm:request_prefill_time_seconds", "Prefill.", OF(prefill), BOUNDS(vllm_request) },
    { "vllm:request_decode_time_seconds", "Decode.", OF(decode), BOUNDS(vllm_request) },
    { "vllm:request_prompt_tokens", "Prompt tokens of a request.", OF(prompt_tokens) },
    { "vllm:request_generation_tokens", "Tokens generated for a request.", OF(output_tokens) },
    { "vllm:request_params_max_tokens", "max_tokens of a request.", OF(max_tokens) },
    { "vllm:request_params_n", "n of a request.", OF(choices) },
};

static const compat_view tgi_views[] = {
    { "tgi_request_count", "Requests.", OF(model_requests) },
    { "tgi_request_success", "Requests that succeeded.", OF(model_requests), .only = "ok" },
    { "tgi_request_failure", "Requests that failed, by type.", OF(errors),
      .extra = { "err", ERROR_CODE, NULL, tgi_error } },
    { "tgi_request_duration", "Whole requests, seconds.", OF(e2e), BOUNDS(tgi_seconds) },
    { "tgi_request_queue_duration", "Waiting, seconds.", OF(queue), BOUNDS(tgi_seconds) },
    { "tgi_request_inference_duration", "Running, seconds.", OF(inference), BOUNDS(tgi_seconds) },
    { "tgi_request_mean_time_per_token_duration", "A request's mean time per token, seconds.",
      OF(token_mean), BOUNDS(tgi_seconds) },
    { "tgi_request_input_length", "Prompt tokens of a request.", OF(prompt_tokens) },
    { "tgi_request_generated_tokens", "Tokens generated for a request.", OF(output_tokens) },
    { "tgi_request_max_new_tokens", "The maximum of output a request names.", OF(max_tokens) },
};

static const compat_view llamacpp_views[] = {
    { "llamacpp:prompt_tokens_total", "Prompt tokens processed.", OF(tokens), .only = "fresh" },
    { "llamacpp:prompt_seconds_total", "Time spent on prompts.", OF(prefill), METRIC_VIEW_SUM },
    { "llamacpp:tokens_predicted_total", "Tokens generated.", OF(tokens), .only = "output" },
    { "llamacpp:tokens_predicted_seconds_total", "Time spent generating.", OF(decode),
      METRIC_VIEW_SUM },
};

/* is_labelled: with model_name and engine, as vLLM has them. */
static void add_views(api *a, const compat_view *list, size_t count, bool is_labelled)
{
    for (size_t i = 0; i < count; i++) {
        const compat_view *c = &list[i];
        metric_view v = { .name = c->name,
                          .help = c->help,
                          .of = *(metric_family **)((char *)&a->m + c->of),
                          .what = c->what,
                          .only = BUCKET_OR_OUTCOME,
                          .only_value = c->only,
                          .bounds = c->bounds,
                          .bound_count = c->bound_count };

        if (is_labelled) {
            v.labels[v.label_count++] = (metric_view_label){ "model_name", MODEL };
            v.labels[v.label_count++] = (metric_view_label){ "engine", -1, "0" };
        }
        if (c->extra.name)
            v.labels[v.label_count++] = c->extra;
        metric_add_view(a->metrics, &v);
    }
}

/* What vLLM's HTTP middleware counts. */
static void add_http_views(api *a)
{
    metric_view v = { .name = "http_requests_total",
                      .help = "HTTP requests, by class of status.",
                      .of = a->m.requests,
                      .labels = { { "handler", HTTP_ROUTE },
                                  { "method", HTTP_METHOD },
                                  { "status", HTTP_STATUS, NULL, status_class } },
                      .label_count = 3 };

    metric_add_view(a->metrics, &v);
    v.name = "http_request_duration_seconds";
    v.help = "HTTP requests from head to end.";
    v.of = a->m.request_seconds;
    v.label_count = 2;
    metric_add_view(a->metrics, &v);
}

/* ---- the engines --------------------------------------------------------------------------- */

typedef struct compat_gauge {
    metric_kind kind;
    const char *name, *help;
    double (*value)(const api_stats *s);
} compat_gauge;

static const compat_gauge vllm_gauges[] = {
    { METRIC_GAUGE, "vllm:num_requests_running", "Running.", api_stat_requests_running },
    { METRIC_GAUGE, "vllm:num_requests_waiting", "Waiting.", api_stat_requests_waiting },
    { METRIC_GAUGE, "vllm:kv_cache_usage_perc", "Used part of the KV cache, 0 to 1.",
      api_stat_kv_usage },
    { METRIC_GAUGE, "vllm:gpu_cache_usage_perc", "The same under its older name.",
      api_stat_kv_usage },
    { METRIC_COUNTER, "vllm:num_preemptions_total", "Preemptions.", api_stat_preemptions_total },
    { METRIC_COUNTER, "vllm:prefix_cache_queries_total", "Prompt tokens looked up.",
      api_stat_prefix_query_tokens_total },
    { METRIC_COUNTER, "vllm:prefix_cache_hits_total", "Prompt tokens found.",
      api_stat_prefix_hit_tokens_total },
    { METRIC_COUNTER, "vllm:spec_decode_num_draft_tokens_total", "Tokens guessed.",
      api_stat_draft_tokens_total },
    { METRIC_COUNTER, "vllm:spec_decode_num_accepted_tokens_total", "Guesses that were right.",
      api_stat_draft_accepted_tokens_total },
};
static const compat_gauge tgi_gauges[] = {
    { METRIC_GAUGE, "tgi_queue_size", "Waiting.", api_stat_requests_waiting },
    { METRIC_GAUGE, "tgi_batch_current_size", "Running.", api_stat_requests_running },
};
static const compat_gauge llamacpp_gauges[] = {
    { METRIC_GAUGE, "llamacpp:requests_processing", "Running.", api_stat_requests_running },
    { METRIC_GAUGE, "llamacpp:requests_deferred", "Waiting.", api_stat_requests_waiting },
    { METRIC_GAUGE, "llamacpp:kv_cache_usage_ratio", "Used part of the KV cache, 0 to 1.",
      api_stat_kv_usage },
    { METRIC_COUNTER, "llamacpp:n_decode_total", "Steps computed.", api_stat_steps_total },
    { METRIC_COUNTER, "llamacpp:spec_decode_num_draft_tokens_total", "Tokens guessed.",
      api_stat_draft_tokens_total },
    { METRIC_COUNTER, "llamacpp:spec_decode_num_accepted_tokens_total", "Guesses that were right.",
      api_stat_draft_accepted_tokens_total },
};

static void add_gauges(api *a, const compat_gauge *list, size_t count, size_t label_count)
{
    for (size_t i = 0; a->options.stats && i < count; i++)
        api_add_gauge(a, list[i].kind, list[i].name, list[i].help, list[i].value, label_count);
}

/* llama.cpp's mean speeds: of the whole life, where it means since the last scrape. */
static double prompt_speed(void *ctx)
{
    const api_metrics *m = &((const api *)ctx)->m;
    double s = metric_total(m->prefill, 0, NULL);

    return s > 0 ? metric_total(m->tokens, BUCKET_OR_OUTCOME, "fresh") / s : 0;
}

static double output_speed(void *ctx)
{
    const api_metrics *m = &((const api *)ctx)->m;
    double s = metric_total(m->decode, 0, NULL);

    return s > 0 ? metric_total(m->tokens, BUCKET_OR_OUTCOME, "output") / s : 0;
}

void compat_init(api *a)
{
    if (a->options.compat & API_COMPAT_VLLM) {
        add_gauges(a, vllm_gauges, SL_COUNT_OF(vllm_gauges), 2);
        add_views(a, vllm_views, SL_COUNT_OF(vllm_views), true);
        add_http_views(a);
    }
    if (a->options.compat & API_COMPAT_TGI) {
        add_gauges(a, tgi_gauges, SL_COUNT_OF(tgi_gauges), 0);
        add_views(a, tgi_views, SL_COUNT_OF(tgi_views), false);
    }
    if (a->options.compat & API_COMPAT_LLAMACPP) {
        add_gauges(a, llamacpp_gauges, SL_COUNT_OF(llamacpp_gauges), 0);
        add_views(a, llamacpp_views, SL_COUNT_OF(llamacpp_views), false);
        metric_gauge_fn(a->metrics, "llamacpp:prompt_tokens_seconds",
                        "Prompt tokens processed per second of prompts.", prompt_speed, a);
        metric_gauge_fn(a->metrics, "llamacpp:predicted_tokens_seconds",
                        "Tokens generated per second of generating.", output_speed, a);
    }
}
