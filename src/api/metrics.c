/* metrics.c - what the api counts, and the line it logs per request. docs/metrics.md lists it all;
 * a test holds the two against each other. */
#include "api/api_int.h"
#include "base/log.h"
#include "base/process.h"

#include <stdio.h>

#define LABELS(...)      ((const char *const[]){ __VA_ARGS__, NULL })
#define OTHER_LABEL_TEXT "other"

/* Tokens of a request: 1, 2, 5, 10 up to a million, as vLLM has them. */
static const double token_bounds[API_TOKEN_BOUNDS] = { 1,   2,   5,   1e1, 2e1, 5e1, 1e2,
                                                       2e2, 5e2, 1e3, 2e3, 5e3, 1e4, 2e4,
                                                       5e4, 1e5, 2e5, 5e5, 1e6 };
static const double choice_bounds[] = { 1, 2, 5, 10, 20 };

/* ---- the engines --------------------------------------------------------------------------- */

static void add_stats(api_stats *sum, const api_stats *s)
{
    sum->requests_running += s->requests_running;
    sum->requests_waiting += s->requests_waiting;
    sum->kv_blocks_used += s->kv_blocks_used;
    sum->kv_blocks += s->kv_blocks;
    sum->prefix_hit_tokens_total += s->prefix_hit_tokens_total;
    sum->prefix_query_tokens_total += s->prefix_query_tokens_total;
    sum->preemptions_total += s->preemptions_total;
    sum->steps_total += s->steps_total;
    sum->draft_tokens_total += s->draft_tokens_total;
    sum->draft_accepted_tokens_total += s->draft_accepted_tokens_total;
}

static void collect_gauge(void *ctx, metric_out *out)
{
    const api_gauge *g = ctx;
    const api_metrics *m = &g->a->m;
    api_stats sum = { .model = "" };

    for (size_t i = 0; i < m->stats_count; i++) {
        if (g->label_count > 0)
            metric_put(out, (const char *const[]){ m->stats[i].model, "0" },
                       g->value(&m->stats[i]));
        else
            add_stats(&sum, &m->stats[i]);
    }
    if (g->label_count == 0)
        metric_put(out, NULL, g->value(&sum));
}

void api_add_gauge(api *a, metric_kind kind, const char *name, const char *help,
                   double (*value)(const api_stats *s), size_t label_count)
{
    static const char *const labels[] = { "model_name", "engine", NULL };
    api_gauge *g = &a->m.gauges[a->m.gauge_count];
    const char *some[3] = { NULL };

    SL_ASSERT(a->m.gauge_count < API_GAUGES_MAX && label_count <= 2);
    a->m.gauge_count++;
    *g = (api_gauge){ a, value, label_count };
    memcpy(some, labels, label_count * sizeof *labels);
    metric_collected(a->metrics, kind, name, help, some, collect_gauge, g);
}

#define STAT(field)                                                                                \
    double api_stat_##field(const api_stats *s)                                                    \
    {                                                                                              \
        return s->field;                                                                           \
    }
STAT(requests_running)
STAT(requests_waiting)
STAT(prefix_hit_tokens_total)
STAT(prefix_query_tokens_total)
STAT(preemptions_total)
STAT(steps_total)
STAT(draft_tokens_total)
STAT(draft_accepted_tokens_total)

static double stat_kv_blocks(const api_stats *s)
{
    return s->kv_blocks;
}

double api_stat_kv_usage(const api_stats *s)
{
    return s->kv_blocks > 0 ? s->kv_blocks_used / s->kv_blocks : 0;
}

static void engines_init(api *a)
{
    static const struct {
        metric_kind kind;
        const char *name, *help;
        double (*value)(const api_stats *s);
    } table[] = {
        { METRIC_GAUGE, "sluice_num_requests_running", "Sequences being computed.",
          api_stat_requests_running },
        { METRIC_GAUGE, "sluice_num_requests_waiting",
          "Sequences waiting for a place: the depth of the model's queue.",
          api_stat_requests_waiting },
        { METRIC_GAUGE, "sluice_kv_cache_usage_perc", "Used part of the KV cache, 0 to 1.",
          api_stat_kv_usage },
        { METRIC_GAUGE, "sluice_kv_cache_blocks", "Blocks of the KV cache.", stat_kv_blocks },
        { METRIC_COUNTER, "sluice_prefix_cache_hits_total",
          "Prompt tokens found in the prefix cache.", api_stat_prefix_hit_tokens_total },
        { METRIC_COUNTER, "sluice_prefix_cache_queries_total",
          "Prompt tokens looked up in the prefix cache.", api_stat_prefix_query_tokens_total },
        { METRIC_COUNTER, "sluice_num_preemptions_total",
          "Sequences put back into the queue because blocks ran out.", api_stat_preemptions_total },
        { METRIC_COUNTER, "sluice_engine_steps_total", "Steps computed.", api_stat_steps_total },
        { METRIC_COUNTER, "sluice_spec_decode_num_draft_tokens_total", "Tokens guessed.",
          api_stat_draft_tokens_total },
        { METRIC_COUNTER, "sluice_spec_decode_num_accepted_tokens_total",
          "Guesses that were right.", api_stat_draft_accepted_tokens_total },
    };

    for (size_t i = 0; a->options.stats && i < SL_COUNT_OF(table); i++)
        api_add_gauge(a, table[i].kind, table[i].name, table[i].help, table[i].value, 1);
}

/* ---- families ------------------------------------------------------------------------------ */

static void http_init(api *a)
{
    metric_registry *r = a->metrics;
    api_metrics *m = &a->m;

    m->requests = metric_counter(r, "sluice_http_requests_total", "HTTP requests answered.",
                                 LABELS("route", "method", "status"));
    m->request_seconds = metric_histogram(r, "sluice_http_request_duration_seconds",
                                          "From the request's head to the end of its answer.",
                                          LABELS("route", "method"), metric_seconds_bounds,
                                          metric_seconds_bound_count);
    m->in_flight = metric_only(
        metric_gauge(r, "sluice_http_requests_in_flight", "Requests accepted and not over.", NULL));
}

static metric_family *seconds(api *a, const char *name, const char *help)
{
    return metric_histogram(a->metrics, name, help, LABELS("model_name", "route"),
                            metric_seconds_bounds, metric_seconds_bound_count);
}

static metric_family *counts(api *a, const char *name, const char *help, const double *bounds,
                             size_t count)
{
    return metric_histogram(a->metrics, name, help, LABELS("model_name", "route"), bounds, count);
}

static void models_init(api *a)
{
    metric_registry *r = a->metrics;
    api_metrics *m = &a->m;

    m->model_requests = metric_counter(r, "sluice_model_requests_total",
                                       "Model requests that are over, by outcome.",
                                       LABELS("model_name", "route", "outcome"));
    m->errors = metric_counter(r, "sluice_request_errors_total",
                               "Model requests that failed or were refused, by code.",
                               LABELS("model_name", "code"));
    m->removed_markers =
        metric_counter(r, "sluice_rag_removed_markers_total",
                       "Citation markers that pointed to no passage.", LABELS("model_name"));
    m->nothing_found =
        metric_counter(r, "sluice_rag_nothing_found_total",
                       "Questions to documents that no passage was about.", LABELS("model_name"));
    m->finished = metric_counter(r, "sluice_request_success_total", "Choices that ended.",
                                 LABELS("model_name", "finished_reason"));
    m->tokens = metric_counter(r, "sluice_tokens_total",
                               "Tokens: fresh and cached ones of prompts, and output.",
                               LABELS("model_name", "route", "bucket"));
    m->ttft = seconds(a, "sluice_time_to_first_token_seconds",
                      "From the request's head to its first token.");
    m->inter_token =
        seconds(a, "sluice_inter_token_latency_seconds", "Between two tokens of one choice.");
    m->token_mean = seconds(a, "sluice_request_time_per_output_token_seconds",
                            "A request's mean time per token after the first.");
    m->queue = seconds(a, "sluice_request_queue_time_seconds", "Waiting in the engine's queue.");
    m->prefill = seconds(a, "sluice_request_prefill_time_seconds",
                         "From the end of waiting to the first token.");
    m->decode =
        seconds(a, "sluice_request_decode_time_seconds", "From the first token to the last.");
    m->inference = seconds(a, "sluice_request_inference_time_seconds",
                           "From the end of waiting to the last token.");
    m->e2e = seconds(a, "sluice_e2e_request_latency_seconds",
                     "From the request's head to its last token.");
    m->prompt_tokens = counts(a, "sluice_request_prompt_tokens", "Prompt tokens of a request.",
                              token_bounds, API_TOKEN_BOUNDS);
    m->output_tokens = counts(a, "sluice_request_generation_tokens",
                              "Tokens generated for a request.", token_bounds, API_TOKEN_BOUNDS);
    m->max_tokens =
        counts(a, "sluice_request_params_max_tokens", "The maximum of output a request names.",
               token_bounds, API_TOKEN_BOUNDS);
    m->choices = counts(a, "sluice_request_params_n", "Choices asked for per prompt.",
                        choice_bounds, SL_COUNT_OF(choice_bounds));
}

static void collect_lines(void *ctx, metric_out *out)
{
    static const char *const names[SL_LOG_LEVEL_COUNT] = { "debug", "info", "warn", "error" };
    sl_log_counts counts;

    sl_log_read_counts(&counts);
    for (int i = 0; i < SL_LOG_LEVEL_COUNT; i++)
        metric_put(out, &names[i], (double)counts.lines[i]);
}

static double log_dropped(void *ctx)
{
    sl_log_counts counts;

    sl_log_read_counts(&counts);
    return (double)counts.dropped;
}

static double log_suppressed(void *ctx)
{
    sl_log_counts counts;

    sl_log_read_counts(&counts);
    return (double)counts.suppressed;
}

static void process_init(api *a)
{
    metric_set(metric_with2(metric_gauge(a->metrics, "sluice_build_info",
                                         "Always 1; the labels say what was built.",
                                         LABELS("version", "compiler")),
                            a->options.version, SL_COMPILER),
               1);
    metric_collected(a->metrics, METRIC_COUNTER, "sluice_log_lines_total",
                     "Lines of the log that were accepted.", LABELS("level"), collect_lines, NULL);
    metric_counter_fn(a->metrics, "sluice_log_dropped_total",
                      "Lines lost because the queue was full or writing failed.", log_dropped,
                      NULL);
    metric_counter_fn(a->metrics, "sluice_log_suppressed_total",
                      "Lines not written because there were too many of their kind in a second.",
                      log_suppressed, NULL);
    sl_process_metrics(a->metrics);
}

void api_metrics_init(api *a)
{
    pthread_mutex_init(&a->m.mutex, NULL);
    pthread_mutex_init(&a->m.scrape, NULL);
    http_init(a);
    models_init(a);
    compat_refine(a);
    engines_init(a);
    process_init(a);
    compat_init(a);
}

/* ---- one model and route ------------------------------------------------------------------- */

struct api_meter {
    api_meter *next;
    char model[128], route[128];
    metric_series *outcomes[API_OUTCOME_COUNT];
    metric_series *fresh, *cached, *output;
    metric_series *ttft, *inter_token, *token_mean;
    metric_series *queue, *prefill, *decode, *inference, *e2e;
    metric_series *prompt_tokens, *output_tokens, *max_tokens, *choices;
};

static metric_series *with3(metric_family *f, const char *a, const char *b, const char *c)
{
    return metric_with(f, (const char *const[METRIC_LABELS_MAX]){ a, b, c });
}

static api_meter *meter_create(const api_metrics *m, const char *model, const char *route)
{
    static const char *const outcomes[] = { "ok", "cancelled", "failed", "refused" };
    api_meter *t = sl_calloc(1, sizeof *t);

    if (!t)
        return NULL;
    snprintf(t->model, sizeof t->model, "%s", model);
    snprintf(t->route, sizeof t->route, "%s", route);
    for (size_t i = 0; i < API_OUTCOME_COUNT; i++)
        t->outcomes[i] = with3(m->model_requests, model, route, outcomes[i]);
    t->fresh = with3(m->tokens, model, route, "fresh");
    t->cached = with3(m->tokens, model, route, "cached");
    t->output = with3(m->tokens, model, route, "output");
    t->ttft = metric_with2(m->ttft, model, route);
    t->inter_token = metric_with2(m->inter_token, model, route);
    t->token_mean = metric_with2(m->token_mean, model, route);
    t->queue = metric_with2(m->queue, model, route);
    t->prefill = metric_with2(m->prefill, model, route);
    t->decode = metric_with2(m->decode, model, route);
    t->inference = metric_with2(m->inference, model, route);
    t->e2e = metric_with2(m->e2e, model, route);
    t->prompt_tokens = metric_with2(m->prompt_tokens, model, route);
    t->output_tokens = metric_with2(m->output_tokens, model, route);
    t->max_tokens = metric_with2(m->max_tokens, model, route);
    t->choices = metric_with2(m->choices, model, route);
    return t;
}

void api_count_grounds(api *a, const char *model, const llm_docs_report *report)
{
    if (report->removed_markers > 0)
        metric_add(metric_with1(a->m.removed_markers, model), (double)report->removed_markers);
    if (report->found_nothing)
        metric_add(metric_with1(a->m.nothing_found, model), 1);
}

const api_meter *api_meter_of(api *a, const char *model, const char *route)
{
    api_metrics *m = &a->m;
    api_meter *t;

    pthread_mutex_lock(&m->mutex);
    for (t = m->meters; t; t = t->next)
        if (strcmp(t->model, model) == 0 && strcmp(t->route, route) == 0)
            break;
    if (!t && m->meter_count >= METRIC_SERIES_MAX) {
        for (t = m->meters; t && strcmp(t->model, OTHER_LABEL_TEXT) != 0; t = t->next)
            continue;
        model = route = OTHER_LABEL_TEXT;
    }
    if (!t && (t = meter_create(m, model, route))) {
        t->next = m->meters;
        m->meters = t;
        m->meter_count++;
    }
    pthread_mutex_unlock(&m->mutex);
    return t;
}

void api_metrics_deinit(api *a)
{
    while (a->m.meters) {
        api_meter *next = a->m.meters->next;

        sl_free(a->m.meters);
        a->m.meters = next;
    }
    pthread_mutex_destroy(&a->m.mutex);
    pthread_mutex_destroy(&a->m.scrape);
}

void api_meter_begin(const api_meter *m, const llm_request *req)
{
    if (!m)
        return;
    metric_observe(m->choices, req->n);
    if (req->max_tokens >= 0)
        metric_observe(m->max_tokens, (double)req->max_tokens);
}

void api_meter_first_token(const api_meter *m, double s)
{
    if (m)
        metric_observe(m->ttft, s);
}

void api_meter_inter_token(const api_meter *m, double s)
{
    if (m)
        metric_observe(m->inter_token, s);
}

static void count_times(const api_meter *m, const llm_usage *u, uint32_t choices)
{
    double per_choice = (double)u->output_tokens / SL_MAX(choices, 1u);

    if (u->total_ns <= 0) /* failed before it ran */
        return;
    metric_observe(m->queue, (double)u->queue_ns / 1e9);
    metric_observe(m->inference, (double)(u->total_ns - u->queue_ns) / 1e9);
    if (u->ttft_ns <= 0)
        return;
    metric_observe(m->prefill, (double)(u->ttft_ns - u->queue_ns) / 1e9);
    if (u->output_tokens == 0)
        return;
    metric_observe(m->decode, (double)(u->total_ns - u->ttft_ns) / 1e9);
    metric_observe(m->output_tokens, (double)u->output_tokens);
    if (per_choice > 1)
        metric_observe(m->token_mean, (double)(u->total_ns - u->ttft_ns) / 1e9 / (per_choice - 1));
}

static void count_tokens(const api_meter *m, const llm_usage *u)
{
    metric_add(m->fresh, (double)(u->prompt_tokens - u->cached_tokens));
    metric_add(m->cached, (double)u->cached_tokens);
    metric_add(m->output, (double)u->output_tokens);
}

void api_count_line(api *a, const char *model, const char *route, api_outcome outcome,
                    const llm_usage *usage)
{
    const api_meter *m = a ? api_meter_of(a, model, route) : NULL;

    if (!m)
        return;
    metric_add(m->outcomes[outcome], 1);
    if (usage)
        count_tokens(m, usage);
}

void api_count_finish(api *a, const char *model, llm_finish finish)
{
    static const char *const reasons[LLM_FINISH_COUNT] = { "none", "stop", "length", "abort" };

    if (a)
        metric_add(metric_with2(a->m.finished, model, reasons[finish]), 1);
}

void api_meter_done(const api_meter *m, api_outcome outcome, const llm_usage *u, uint32_t choices,
                    double e2e_seconds)
{
    if (!m)
        return;
    metric_add(m->outcomes[outcome], 1);
    if (!u)
        return;
    count_tokens(m, u);
    metric_observe(m->prompt_tokens, (double)u->prompt_tokens);
    metric_observe(m->e2e, e2e_seconds);
    count_times(m, u, choices);
}

static void log_request(const http_exchange *x, const api_note *note, int status, double total_ms)
{
    sl_log_level level = status >= 500 ? SL_LOG_WARN : SL_LOG_INFO;
    sl_log_field f[12 + CONTENT_FIELDS_MAX];
    sl_log_scope scope;
    int n = 0;

    f[n++] = SL_F_STR("request_id", http_request_id(x));
    f[n++] = SL_F_STR("remote", http_remote(x));
    f[n++] = SL_F_STR("method", http_method(x));
    f[n++] = SL_F_STR("path", http_path(x));
    f[n++] = SL_F_NUM("status", status);
    f[n++] = SL_F_NUM("total_ms", total_ms);
    if (http_gone(x))
        f[n++] = SL_F_STR("client", "gone");
    if (note) {
        f[n++] = SL_F_STR("model", note->model);
        f[n++] = SL_F_NUM("prompt_tokens", note->prompt_tokens);
        f[n++] = SL_F_NUM("output_tokens", note->output_tokens);
        if (note->ttft_ms >= 0)
            f[n++] = SL_F_NUM("ttft_ms", note->ttft_ms);
        if (note->error_code)
            f[n++] = SL_F_STR("error", note->error_code);
        n += api_content_fields(note->content, f + n);
    }
    api_push_context(x, &scope);
    if (status < 400)
        sl_log_write_each(level, "http.request", f, n);
    else
        sl_log_write(level, "http.request", f, n); /* a storm of refusals is bounded */
    sl_log_pop(&scope);
}

/* Methods are as clients write them; labels must not be. */
static const char *method_label(const char *method)
{
    static const char *const known[] = {
        "GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"
    };

    for (size_t i = 0; i < SL_COUNT_OF(known); i++)
        if (strcmp(known[i], method) == 0)
            return known[i];
    return OTHER_LABEL_TEXT;
}

void api_request_done(void *api_ctx, http_exchange *x)
{
    api *a = api_ctx;
    const api_note *note = http_user(x);
    double total_s = (double)(sl_clock_mono_ns() - http_started_ns(x)) / 1e9;
    int status = http_gone(x) ? 499 : http_status(x);
    const char *route = http_route(x)[0] ? http_route(x) : "none";
    const char *method = method_label(http_method(x));
    char code[8];

    snprintf(code, sizeof code, "%d", status);
    metric_add(with3(a->m.requests, route, method, code), 1);
    metric_observe(metric_with2(a->m.request_seconds, route, method), total_s);
    if (http_route(x)[0])
        metric_add(a->m.in_flight, -1);
    if (note && note->error_code)
        metric_add(metric_with2(a->m.errors, note->model, note->error_code), 1);
    if (!a->options.no_access_log)
        log_request(x, note, status, total_s * 1e3);
}

/* ---- GET /metrics -------------------------------------------------------------------------- */

void api_metrics_get(api *a, http_exchange *x)
{
    const char *accept = http_header(x, "accept");
    bool open = accept && strstr(accept, "application/openmetrics-text");
    sl_buf b;

    sl_buf_init(&b, 64 * SL_MIB);
    pthread_mutex_lock(&a->m.scrape);
    if (a->options.stats)
        a->m.stats_count = a->options.stats(a->options.stats_ctx, a->m.stats, LLM_MODELS_MAX);
    metric_render(a->metrics, open ? METRIC_OPENMETRICS : METRIC_TEXT, &b);
    pthread_mutex_unlock(&a->m.scrape);
    http_respond_buf(x, 200, open ? METRIC_OPENMETRICS_TYPE : METRIC_CONTENT_TYPE, &b);
}
