/* usage.c - GET /v1/organization/usage/... and /v1/organization/costs, in OpenAI's shape: buckets
 * of time, each with a sum per group. Teams are OpenAI's projects. Who may see only its own usage
 * gets that of its key. */
#include "api/api_int.h"

#include <stdio.h>
#include <stdlib.h>

#define ANSWER_BYTES (16 * SL_MIB)
#define DAY_S        86400
#define BUCKETS_MAX  1440

typedef struct usage_call {
    llm_usage_query q;
    const char *width;
    int64_t page_s, end_s, next_s; /* the page is [page, next) of a question up to end */
    const char *object;            /* of a result */
    bool is_costs;
    sl_buf out;
    int64_t open_ms; /* begin of the bucket being written; -1: none yet */
    bool has_result;
} usage_call;

/* ---- the question -------------------------------------------------------------------------- */

static sl_status read_seconds(const http_exchange *x, const char *name, int64_t *ret,
                              openai_error *e)
{
    const char *text = http_query(x, name);
    char *end;
    long long v;

    if (!text)
        return SL_OK;
    v = strtoll(text, &end, 10);
    if (end == text || *end || v < 0 || v > INT32_MAX * 8LL)
        return openai_refuse(e, name, "invalid_value",
                             "Invalid '%s': expected a number from 0 on, got '%.40s'", name, text);
    *ret = v;
    return SL_OK;
}

/* Width of a bucket in seconds, and how many a page has by default. */
static sl_status read_width(const http_exchange *x, usage_call *c, int64_t *ret_width,
                            int64_t *ret_limit, openai_error *e)
{
    static const struct {
        const char *text;
        int64_t seconds, limit;
    } widths[] = { { "1d", DAY_S, 7 }, { "1h", 3600, 24 }, { "1m", 60, 60 } };
    const char *text = http_query(x, "bucket_width");

    for (size_t i = 0; i < SL_COUNT_OF(widths); i++) {
        if (text && strcmp(text, widths[i].text) != 0)
            continue;
        c->width = widths[i].text;
        *ret_width = widths[i].seconds;
        *ret_limit = widths[i].limit;
        return SL_OK;
    }
    return openai_refuse(e, "bucket_width", "invalid_value",
                         "Invalid 'bucket_width': expected 1m, 1h or 1d");
}

static sl_status read_times(const http_exchange *x, usage_call *c, openai_error *e)
{
    int64_t now_s = sl_clock_wall_ms() / 1000, start = -1, width = 0, limit = 0;

    c->end_s = now_s + 1;
    SL_TRY(read_width(x, c, &width, &limit, e));
    SL_TRY(read_seconds(x, "start_time", &start, e));
    if (start < 0)
        return openai_refuse(e, "start_time", "missing_required_parameter",
                             "Missing required parameter: 'start_time' (seconds since 1970)");
    SL_TRY(read_seconds(x, "end_time", &c->end_s, e));
    SL_TRY(read_seconds(x, "limit", &limit, e));
    c->page_s = start;
    SL_TRY(read_seconds(x, "page", &c->page_s, e));
    if (limit < 1 || limit > BUCKETS_MAX)
        return openai_refuse(e, "limit", "invalid_value", "Invalid 'limit': expected 1 to %d",
                             BUCKETS_MAX);
    if (c->end_s <= start)
        return openai_refuse(e, "end_time", "invalid_value",
                             "Invalid 'end_time': it must be after 'start_time'");
    c->page_s = SL_MAX(start, c->page_s) / width * width;
    c->next_s = SL_MIN(c->page_s + limit * width, c->end_s);
    c->q.bucket_ms = width * 1000;
    c->q.begin_ms = SL_MAX(start, c->page_s) * 1000;
    c->q.end_ms = c->next_s * 1000;
    return SL_OK;
}

static const struct {
    const char *group, *filter; /* names in group_by and as parameters */
    llm_usage_column column;
} names[] = {
    { "api_key_id", "api_key_ids", LLM_USAGE_KEY },  { "user_id", "user_ids", LLM_USAGE_USER },
    { "project_id", "project_ids", LLM_USAGE_TEAM }, { "model", "models", LLM_USAGE_MODEL },
    { "line_item", "line_items", LLM_USAGE_MODEL },
};

static sl_status read_groups(const http_exchange *x, usage_call *c, openai_error *e)
{
    const char *groups[8];
    size_t count = http_query_all(x, "group_by", groups, SL_COUNT_OF(groups));

    for (size_t g = 0; g < SL_MIN(count, SL_COUNT_OF(groups)); g++) {
        size_t i = 0;

        while (i < SL_COUNT_OF(names) && strcmp(names[i].group, groups[g]) != 0)
            i++;
        if (i == SL_COUNT_OF(names))
            return openai_refuse(e, "group_by", "invalid_value",
                                 "Invalid 'group_by': '%.40s'; expected api_key_id, user_id, "
                                 "project_id, model or line_item",
                                 groups[g]);
        c->q.by[names[i].column] = true;
    }
    for (size_t i = 0; i < SL_COUNT_OF(names); i++) {
        llm_usage_column col = names[i].column;
        size_t n = http_query_all(x, names[i].filter, c->q.only[col], LLM_USAGE_VALUES_MAX);

        if (n > LLM_USAGE_VALUES_MAX)
            return openai_refuse(e, names[i].filter, "array_above_max_length",
                                 "Invalid '%s': at most %d values", names[i].filter,
                                 LLM_USAGE_VALUES_MAX);
        if (n > 0)
            c->q.only_count[col] = n;
    }
    return SL_OK;
}

/* ---- the answer ---------------------------------------------------------------------------- */

static void open_bucket(usage_call *c, int64_t begin_ms)
{
    sl_buf_printf(&c->out,
                  "%s{\"object\":\"bucket\",\"start_time\":%lld,\"end_time\":%lld,"
                  "\"results\":[",
                  c->open_ms >= 0 ? "," : "", (long long)begin_ms / 1000,
                  (long long)SL_MIN((begin_ms + c->q.bucket_ms) / 1000, c->end_s));
    c->open_ms = begin_ms;
    c->has_result = false;
}

/* Closes the bucket in hand and opens the next ones up to the one that begins at begin_ms. */
static void move_to(usage_call *c, int64_t begin_ms)
{
    int64_t next = c->open_ms < 0 ? c->page_s * 1000 : c->open_ms + c->q.bucket_ms;

    for (; c->open_ms < begin_ms && next <= begin_ms; next += c->q.bucket_ms) {
        if (c->open_ms >= 0)
            sl_buf_puts(&c->out, "]}");
        open_bucket(c, next);
    }
}

static void put_column(usage_call *c, const char *name, llm_usage_column col,
                       const llm_usage_row *row)
{
    sl_buf_printf(&c->out, ",\"%s\":", name);
    if (c->q.by[col])
        sl_buf_put_json(&c->out, row->columns[col], strlen(row->columns[col]));
    else
        sl_buf_puts(&c->out, "null");
}

static void on_row(void *ctx, const llm_usage_row *row)
{
    usage_call *c = ctx;

    move_to(c, row->bucket_ms);
    sl_buf_printf(&c->out, "%s{\"object\":\"%s\"", c->has_result ? "," : "", c->object);
    c->has_result = true;
    if (c->is_costs) {
        sl_buf_printf(&c->out, ",\"amount\":{\"value\":%.9f,\"currency\":\"usd\"}",
                      (double)row->cost_nusd / 1e9);
        put_column(c, "line_item", LLM_USAGE_MODEL, row);
    } else {
        sl_buf_printf(&c->out, ",\"input_tokens\":%lld,\"num_model_requests\":%lld",
                      (long long)(row->fresh + row->cached), (long long)row->requests);
        if (c->q.generation)
            sl_buf_printf(&c->out,
                          ",\"output_tokens\":%lld,\"input_cached_tokens\":%lld,"
                          "\"input_audio_tokens\":0,\"output_audio_tokens\":0,\"batch\":null",
                          (long long)(row->output + row->reasoning), (long long)row->cached);
        put_column(c, "user_id", LLM_USAGE_USER, row);
        put_column(c, "model", LLM_USAGE_MODEL, row);
    }
    put_column(c, "project_id", LLM_USAGE_TEAM, row);
    put_column(c, "api_key_id", LLM_USAGE_KEY, row);
    sl_buf_putc(&c->out, '}');
}

static void answer(const api *a, http_exchange *x, usage_call *c)
{
    const llm_usage_source *u = &a->options.usage;
    sl_err err = { .status = SL_OK };
    sl_status status;

    sl_buf_puts(&c->out, "{\"object\":\"page\",\"data\":[");
    status = u->ops->query(u->ctx, &c->q, on_row, c, &err);
    move_to(c, (c->next_s * 1000 - 1) / c->q.bucket_ms * c->q.bucket_ms);
    sl_buf_puts(&c->out, "]}]");
    if (c->next_s < c->end_s)
        sl_buf_printf(&c->out, ",\"has_more\":true,\"next_page\":\"%lld\"}", (long long)c->next_s);
    else
        sl_buf_puts(&c->out, ",\"has_more\":false,\"next_page\":null}");
    if (status == SL_OK)
        status = sl_buf_ok(&c->out, "answer", &err);
    err.status = status;
    if (status == SL_OK)
        http_respond(x, 200, "application/json", sl_buf_str(&c->out), c->out.len);
    else
        api_respond_status(a, x, &err);
}

static void run(api *a, http_exchange *x, bool generation, bool embeddings, const char *object)
{
    const llm_caller *caller = api_caller(x);
    usage_call c = { .q = { .generation = generation, .embeddings = embeddings },
                     .object = object,
                     .is_costs = generation && embeddings,
                     .open_ms = -1 };
    openai_error e = { 0 };

    if (!a->options.usage.ops) {
        http_respond_error(x, 501, "invalid_request_error", NULL, "not_implemented",
                           "This server keeps no usage records");
        return;
    }
    if (read_times(x, &c, &e) != SL_OK || read_groups(x, &c, &e) != SL_OK) {
        api_respond_error(a, x, &e);
        return;
    }
    if (!llm_caller_may(caller, LLM_MAY_USAGE_ALL)) {
        c.q.only[LLM_USAGE_KEY][0] = caller->id;
        c.q.only_count[LLM_USAGE_KEY] = 1;
    }
    sl_buf_init(&c.out, ANSWER_BYTES);
    answer(a, x, &c);
    sl_buf_deinit(&c.out);
}

static void run_completions(api *a, http_exchange *x)
{
    run(a, x, true, false, "organization.usage.completions.result");
}

static void run_embeddings(api *a, http_exchange *x)
{
    run(a, x, false, true, "organization.usage.embeddings.result");
}

static void run_costs(api *a, http_exchange *x)
{
    run(a, x, true, true, "organization.costs.result");
}

static void on_completions(api *a, http_exchange *x)
{
    api_run_later(a, x, run_completions);
}

static void on_embeddings(api *a, http_exchange *x)
{
    api_run_later(a, x, run_embeddings);
}

static void on_costs(api *a, http_exchange *x)
{
    api_run_later(a, x, run_costs);
}

static const api_endpoint list[] = {
    { "GET", "/v1/organization/usage/completions", on_completions, LLM_MAY_USAGE_OWN,
      "Tokens generated and read, in buckets of time" },
    { "GET", "/v1/organization/usage/embeddings", on_embeddings, LLM_MAY_USAGE_OWN,
      "Tokens embedded, in buckets of time" },
    { "GET", "/v1/organization/costs", on_costs, LLM_MAY_USAGE_OWN, "What it cost" },
};
const api_endpoints usage_endpoints = { &openai_dialect, "Usage", list, SL_COUNT_OF(list) };
