/* metrics.c - what the api counts, and the line it logs per request. */
#include "api/api_int.h"
#include "base/log.h"

#include <stdio.h>

#define LABELS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static double stat_of(void *ctx, size_t offset)
{
    const api *a = ctx;
    api_stats stats = { 0 };

    a->options.stats(a->options.stats_ctx, &stats);
    return *(const double *)((const char *)&stats + offset);
}

#define STAT_FN(name)                                                                              \
    static double stat_##name(void *ctx)                                                           \
    {                                                                                              \
        return stat_of(ctx, offsetof(api_stats, name));                                            \
    }
STAT_FN(requests_running)
STAT_FN(requests_waiting)
STAT_FN(kv_usage_ratio)
STAT_FN(prefix_hit_tokens_total)
STAT_FN(prefix_query_tokens_total)
STAT_FN(preemptions_total)
STAT_FN(draft_tokens_total)
STAT_FN(draft_accepted_tokens_total)

static void stats_init(api *a)
{
    metric_registry *r = a->metrics;

    metric_gauge_fn(r, "sluice_num_requests_running", "Sequences being computed.",
                    stat_requests_running, a);
    metric_gauge_fn(r, "sluice_num_requests_waiting", "Requests waiting for a place.",
                    stat_requests_waiting, a);
    metric_gauge_fn(r, "sluice_kv_cache_usage_perc", "Used part of the KV cache, 0 to 1.",
                    stat_kv_usage_ratio, a);
    metric_counter_fn(r, "sluice_prefix_cache_hits_total", "Prompt tokens found in the cache.",
                      stat_prefix_hit_tokens_total, a);
    metric_counter_fn(r, "sluice_prefix_cache_queries_total", "Prompt tokens looked up.",
                      stat_prefix_query_tokens_total, a);
    metric_counter_fn(r, "sluice_num_preemptions_total", "Sequences put back into the queue.",
                      stat_preemptions_total, a);
    metric_counter_fn(r, "sluice_spec_decode_num_draft_tokens_total", "Tokens guessed.",
                      stat_draft_tokens_total, a);
    metric_counter_fn(r, "sluice_spec_decode_num_accepted_tokens_total", "Guesses that were right.",
                      stat_draft_accepted_tokens_total, a);
}

static metric_family *seconds(metric_registry *r, const char *name, const char *help,
                              const char *label)
{
    return metric_histogram(r, name, help, LABELS(label), metric_seconds_bounds,
                            metric_seconds_bound_count);
}

void api_metrics_init(api *a)
{
    metric_registry *r = a->metrics;
    api_metrics *m = &a->m;

    m->requests = metric_counter(r, "sluice_http_requests_total", "Requests answered.",
                                 LABELS("route", "status"));
    m->request_seconds = seconds(r, "sluice_http_request_duration_seconds",
                                 "From the request's head to the end of its answer.", "route");
    m->in_flight = metric_only(
        metric_gauge(r, "sluice_http_requests_in_flight", "Requests accepted and not over.", NULL));
    m->errors = metric_counter(r, "sluice_request_errors_total", "Model requests that failed.",
                               LABELS("model_name", "code"));
    m->finished = metric_counter(r, "sluice_request_success_total", "Choices that ended.",
                                 LABELS("model_name", "finished_reason"));
    m->prompt_tokens =
        metric_counter(r, "sluice_prompt_tokens_total", "Prompt tokens.", LABELS("model_name"));
    m->cached_tokens =
        metric_counter(r, "sluice_prompt_tokens_cached_total",
                       "Prompt tokens taken from the prefix cache.", LABELS("model_name"));
    m->output_tokens = metric_counter(r, "sluice_generation_tokens_total", "Tokens generated.",
                                      LABELS("model_name"));
    m->ttft = seconds(r, "sluice_time_to_first_token_seconds",
                      "From the request's head to its first token.", "model_name");
    m->inter_token = seconds(r, "sluice_inter_token_latency_seconds",
                             "Between two tokens of one choice.", "model_name");
    m->e2e = seconds(r, "sluice_e2e_request_latency_seconds",
                     "From the request's head to its last token.", "model_name");
    m->queue_wait = seconds(r, "sluice_request_queue_time_seconds",
                            "Waiting in the engine's queue.", "model_name");
    if (a->options.stats)
        stats_init(a);
}

static void log_request(const http_exchange *x, const api_note *note, int status, double total_ms)
{
    sl_log_level level = status >= 500 ? SL_LOG_WARN : SL_LOG_INFO;
    const llm_caller *caller = api_caller(x);
    sl_log_field f[16];
    int n = 0;

    f[n++] = SL_F_STR("request_id", http_request_id(x));
    f[n++] = SL_F_STR("remote", http_remote(x));
    f[n++] = SL_F_STR("method", http_method(x));
    f[n++] = SL_F_STR("path", http_path(x));
    f[n++] = SL_F_NUM("status", status);
    f[n++] = SL_F_NUM("total_ms", total_ms);
    if (http_gone(x))
        f[n++] = SL_F_STR("client", "gone");
    if (caller && caller->id[0])
        f[n++] = SL_F_STR("key", caller->id);
    if (note) {
        f[n++] = SL_F_STR("model", note->model);
        f[n++] = SL_F_NUM("prompt_tokens", note->prompt_tokens);
        f[n++] = SL_F_NUM("output_tokens", note->output_tokens);
        if (note->ttft_ms >= 0)
            f[n++] = SL_F_NUM("ttft_ms", note->ttft_ms);
        if (note->error_code)
            f[n++] = SL_F_STR("error", note->error_code);
    }
    sl_log_write(level, "http.request", f, n);
}

void api_request_done(void *api_ctx, http_exchange *x)
{
    api *a = api_ctx;
    const api_note *note = http_user(x);
    double total_s = (double)(sl_clock_mono_ns() - http_started_ns(x)) / 1e9;
    int status = http_gone(x) ? 499 : http_status(x);
    const char *route = http_route(x)[0] ? http_route(x) : "none";
    char code[8];

    snprintf(code, sizeof code, "%d", status);
    metric_add(metric_with2(a->m.requests, route, code), 1);
    metric_observe(metric_with1(a->m.request_seconds, route), total_s);
    if (http_route(x)[0])
        metric_add(a->m.in_flight, -1);
    if (note && note->error_code)
        metric_add(metric_with2(a->m.errors, note->model, note->error_code), 1);
    if (!a->options.no_access_log)
        log_request(x, note, status, total_s * 1e3);
}
