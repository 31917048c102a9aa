/* quota.c - what limits leave a caller, in OpenAI's headers and errors. */
#include <stdio.h>

#include "api/openai.h"

/* "1h2m3s", "6.5s", "120ms", as OpenAI and Go write durations. */
static void put_duration(char *out, size_t bytes, int64_t ms)
{
    long long hours = (long long)(ms / 3600000), minutes = (long long)(ms / 60000 % 60);
    double seconds = (double)(ms % 60000) / 1e3;

    if (ms < 1000)
        snprintf(out, bytes, "%lldms", (long long)ms);
    else if (ms < 60000)
        snprintf(out, bytes, "%.4gs", seconds);
    else if (hours == 0)
        snprintf(out, bytes, "%lldm%.4gs", minutes, seconds);
    else
        snprintf(out, bytes, "%lldh%lldm%.4gs", hours, minutes, seconds);
}

/* names: of the limit, of what remains, of its reset. */
static void put_part(const llm_quota_part *p, const char *const names[3], encoder_header_fn set,
                     void *ctx)
{
    char value[32];

    if (!p->limit)
        return;
    snprintf(value, sizeof value, "%lld", (long long)p->limit);
    set(ctx, names[0], value);
    snprintf(value, sizeof value, "%lld", (long long)p->remaining);
    set(ctx, names[1], value);
    put_duration(value, sizeof value, p->reset_ms);
    set(ctx, names[2], value);
}

void openai_put_quota(const llm_quota *q, encoder_header_fn set, void *ctx)
{
    static const char *const requests[] = { "x-ratelimit-limit-requests",
                                            "x-ratelimit-remaining-requests",
                                            "x-ratelimit-reset-requests" };
    static const char *const tokens[] = { "x-ratelimit-limit-tokens",
                                          "x-ratelimit-remaining-tokens",
                                          "x-ratelimit-reset-tokens" };

    put_part(&q->requests, requests, set, ctx);
    put_part(&q->tokens, tokens, set, ctx);
}

void openai_error_quota(openai_error *e, sl_status status, const llm_quota *q)
{
    e->retry_after_ms = q->retry_after_ms;
    if (status == SL_ERATE && q->what && strcmp(q->what, "budget") == 0) {
        e->type = "insufficient_quota";
        e->code = "insufficient_quota";
    } else if (status == SL_ERATE && q->what && strcmp(q->what, "tokens") == 0) {
        e->type = "tokens";
    } else if (status == SL_ELIMIT && q->what) {
        e->http = 429; /* as OpenAI answers what no waiting helps */
        e->type = "tokens";
        e->code = "rate_limit_exceeded";
    }
}
