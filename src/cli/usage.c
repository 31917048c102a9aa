/* usage.c - sluice usage: sums of the ledger, as a table, JSON or CSV. Reads the database beside a
 * running server. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/os.h"
#include "cli/cli.h"

#define HOUR_MS ((int64_t)3600000)
#define DAY_MS  (24 * HOUR_MS)

static const char *const names[LLM_USAGE_COLUMN_COUNT] = { "key",   "user",  "team",
                                                           "model", "route", "outcome" };

typedef enum format { FORMAT_TABLE, FORMAT_JSON, FORMAT_CSV } format;

typedef struct printer {
    const llm_usage_query *q;
    format format;
    int rows;
    llm_usage_row total;
} printer;

/* "7d", "12h", "30m" before now, or a date. */
static bool parse_time(const char *text, int64_t now_ms, int64_t *ret)
{
    struct tm tm = { 0 };
    char *end = strptime(text, "%Y-%m-%d", &tm);
    long long n;
    int64_t unit;

    if (end && !*end) {
        *ret = (int64_t)timegm(&tm) * 1000;
        return true;
    }
    n = strtoll(text, &end, 10);
    unit = strcmp(end, "d") == 0   ? DAY_MS
           : strcmp(end, "h") == 0 ? HOUR_MS
           : strcmp(end, "m") == 0 ? 60000
                                   : 0;
    if (end == text || unit == 0 || n < 0 || n > 36500)
        return false;
    *ret = now_ms - n * unit;
    return true;
}

/* "key,model" and also hour or day. False: a word that is none of them. */
static bool parse_by(const char *text, llm_usage_query *q)
{
    while (*text) {
        size_t len = strcspn(text, ","), c = 0;

        while (c < LLM_USAGE_COLUMN_COUNT &&
               (strlen(names[c]) != len || strncmp(names[c], text, len) != 0))
            c++;
        if (c < LLM_USAGE_COLUMN_COUNT)
            q->by[c] = true;
        else if (len == 3 && strncmp(text, "day", 3) == 0)
            q->bucket_ms = DAY_MS;
        else if (len == 4 && strncmp(text, "hour", 4) == 0)
            q->bucket_ms = HOUR_MS;
        else
            return false;
        text += len + (text[len] == ',');
    }
    return true;
}

static void print_time(char out[32], int64_t ms, int64_t width)
{
    time_t s = (time_t)(ms / 1000);
    struct tm tm;

    strftime(out, 32, width == DAY_MS ? "%Y-%m-%d" : "%Y-%m-%dT%H:00Z", gmtime_r(&s, &tm));
}

static void print_head(const printer *p)
{
    bool csv = p->format == FORMAT_CSV;

    if (p->q->bucket_ms)
        printf(csv ? "time," : "%-18s", "TIME");
    for (int c = 0; c < LLM_USAGE_COLUMN_COUNT; c++)
        if (p->q->by[c])
            printf(csv ? "%s," : "%-20s", names[c]);
    puts(csv ? "requests,fresh_tokens,cached_tokens,output_tokens,reasoning_tokens,cost_usd,"
               "queue_ms,prefill_ms,decode_ms"
             : "  REQUESTS       FRESH      CACHED      OUTPUT    COST USD");
}

/* A field that Excel and RFC 4180 readers take as text. */
static void print_csv_text(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        if (*text == '"')
            putchar('"');
        putchar(*text);
    }
    printf("\",");
}

static void print_json_row(const printer *p, const llm_usage_row *r, const char *when)
{
    sl_buf b;

    sl_buf_init(&b, 64 * SL_KIB);
    sl_buf_puts(&b, p->rows ? ",\n  {" : "\n  {");
    if (p->q->bucket_ms)
        sl_buf_printf(&b, "\"time\":\"%s\",", when);
    for (int c = 0; c < LLM_USAGE_COLUMN_COUNT; c++) {
        if (!p->q->by[c])
            continue;
        sl_buf_printf(&b, "\"%s\":", names[c]);
        sl_buf_put_json(&b, r->columns[c], strlen(r->columns[c]));
        sl_buf_putc(&b, ',');
    }
    printf(
        "%s\"requests\":%lld,\"fresh_tokens\":%lld,\"cached_tokens\":%lld,\"output_tokens\":%lld,"
        "\"reasoning_tokens\":%lld,\"cost_usd\":%.9f,\"queue_ms\":%lld,\"prefill_ms\":%lld,"
        "\"decode_ms\":%lld}",
        sl_buf_str(&b), (long long)r->requests, (long long)r->fresh, (long long)r->cached,
        (long long)r->output, (long long)r->reasoning, (double)r->cost_nusd / 1e9,
        (long long)r->queue_ms, (long long)r->prefill_ms, (long long)r->decode_ms);
    sl_buf_deinit(&b);
}

static void print_row(const printer *p, const llm_usage_row *r, const char *when)
{
    bool csv = p->format == FORMAT_CSV;

    if (p->q->bucket_ms)
        printf(csv ? "%s," : "%-18s", when);
    for (int c = 0; c < LLM_USAGE_COLUMN_COUNT; c++) {
        if (!p->q->by[c])
            continue;
        if (csv)
            print_csv_text(r->columns[c]);
        else
            printf("%-20.19s", r->columns[c][0] ? r->columns[c] : "-");
    }
    printf(csv ? "%lld,%lld,%lld,%lld," : "%10lld  %10lld  %10lld  %10lld  ",
           (long long)r->requests, (long long)r->fresh, (long long)r->cached,
           (long long)(csv ? r->output : r->output + r->reasoning));
    if (csv)
        printf("%lld,%.9f,%lld,%lld,%lld\n", (long long)r->reasoning, (double)r->cost_nusd / 1e9,
               (long long)r->queue_ms, (long long)r->prefill_ms, (long long)r->decode_ms);
    else
        printf("%10.6f\n", (double)r->cost_nusd / 1e9);
}

static void on_row(void *ctx, const llm_usage_row *row)
{
    printer *p = ctx;
    char when[32] = "";

    if (p->q->bucket_ms)
        print_time(when, row->bucket_ms, p->q->bucket_ms);
    if (p->format == FORMAT_JSON)
        print_json_row(p, row, when);
    else
        print_row(p, row, when);
    p->rows++;
}

static sl_status report(const config *c, const llm_usage_query *q, format f, sl_err *err)
{
    printer p = { .q = q, .format = f };
    sl_status status;

    if (f == FORMAT_JSON)
        printf("[");
    else
        print_head(&p);
    status = app_usage(c, q, on_row, &p, err);
    if (f == FORMAT_JSON)
        printf("%s]\n", p.rows ? "\n" : "");
    return status;
}

int cmd_usage(int argc, char **argv)
{
    cli_common common = { 0 };
    const char *by = "model", *since = "30d", *until = NULL;
    bool json = false, csv = false;
    const cli_option options[] = {
        { "--by", 0, CLI_TEXT, &by, "COLUMNS",
          "key, user, team, model, route, outcome, day, hour; comma-separated (default model)" },
        { "--since", 0, CLI_TEXT, &since, "TIME", "7d, 12h, 30m or a date (default 30d)" },
        { "--until", 0, CLI_TEXT, &until, "TIME", "the same (default now)" },
        { "--json", 0, CLI_FLAG, &json, NULL, "an array of objects" },
        { "--csv", 0, CLI_FLAG, &csv, NULL, "comma-separated values with a header" },
        CLI_COMMON_OPTIONS(common),
        { 0 },
    };
    const cli_command cmd = { "sluice usage [--by key,model] [--since 7d] [--json|--csv]",
                              "Sums up what requests used and cost, from the server's ledger.",
                              options, NULL };
    int64_t now = sl_clock_wall_ms();
    llm_usage_query q = { .end_ms = now + 1 };
    config *c = NULL;
    sl_err err = { 0 };
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    if (argc > 1)
        return cli_usage("usage takes no argument '%s'", argv[1]);
    if (!parse_by(by, &q))
        return cli_usage("--by '%s': expected key, user, team, model, route, outcome, day or hour, "
                         "separated by commas",
                         by);
    if (!parse_time(since, now, &q.begin_ms) || (until && !parse_time(until, now, &q.end_ms)))
        return cli_usage("a time is 7d, 12h, 30m or a date like 2026-01-31");
    status = cli_config(&common, true, &c, &err);
    if (status == SL_OK)
        status = report(c, &q, csv ? FORMAT_CSV : (json ? FORMAT_JSON : FORMAT_TABLE), &err);
    config_destroy(c);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}
