/* quota.c - what limits leave a caller, in OpenAI's headers and errors. */
#include "api/openai.h"

/* Every answer has these headers: no printf. Returns the end of the text. */
static char *put_number(char *out, int64_t v)
{
    char digits[24], *p = digits + sizeof digits;

    do
        *--p = (char)('0' + v % 10);
    while (v /= 10);
    memcpy(out, p, (size_t)(digits + sizeof digits - p));
    return out + (digits + sizeof digits - p);
}

/* Seconds with as many decimals as four digits leave room for, without zeros at the end. */
static char *put_seconds(char *out, int64_t ms)
{
    int64_t part = ms < 10000 ? ms % 1000 : (ms % 1000 + 5) / 10 * 10;

    ms = ms / 1000 * 1000 + part;
    part = ms % 1000;
    out = put_number(out, ms / 1000);
    if (part > 0)
        *out++ = '.';
    for (int unit = 100; part > 0; part %= unit, unit /= 10)
        *out++ = (char)('0' + part / unit);
    *out++ = 's';
    return out;
}

/* "1h2m3s", "6.5s", "120ms", as OpenAI and Go write durations. */
static char *put_duration(char *out, int64_t ms)
{
    int64_t hours = ms / 3600000, minutes = ms / 60000 % 60;

    if (ms < 1000) {
        out = put_number(out, ms);
        memcpy(out, "ms", 2);
        return out + 2;
    }
    if (hours > 0) {
        out = put_number(out, hours);
        *out++ = 'h';
    }
    if (ms >= 60000) {
        out = put_number(out, minutes);
        *out++ = 'm';
    }
    return put_seconds(out, ms % 60000);
}

/* names: of the limit, of what remains, of its reset. */
static void put_part(const llm_quota_part *p, const char *const names[3], encoder_header_fn set,
                     void *ctx)
{
    char value[64]; /* three numbers of at most 20 digits */

    if (!p->limit)
        return;
    *put_number(value, p->limit) = '\0';
    set(ctx, names[0], value);
    *put_number(value, p->remaining) = '\0';
    set(ctx, names[1], value);
    *put_duration(value, p->reset_ms) = '\0';
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
