/* batch.c - sluice batch run: a file of requests on this machine, without a server. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"
#include "cli/batch.h"

#define BAR_CELLS    30
#define PLAIN_LINE_S 5 /* between two lines where there is no terminal */

typedef struct shown {
    bool terminal;
    int64_t start_ns, last_ns;
    size_t done_before; /* in earlier runs */
    bool began;
} shown;

static void put_rest(const shown *s, const jobs_progress *p, double seconds)
{
    size_t ended = p->done - s->done_before + p->failed, left = p->total - p->done - p->failed;

    if (p->failed)
        fprintf(stderr, ", %zu failed", p->failed);
    if (ended == 0 || seconds <= 0)
        return;
    fprintf(stderr, ", %.1f tokens/s", (double)p->output_tokens / seconds);
    if (left > 0)
        fprintf(stderr, ", %.0f s left", seconds / (double)ended * (double)left);
}

static void on_progress(void *ctx, const jobs_progress *p)
{
    shown *s = ctx;
    int64_t now = sl_clock_mono_ns();
    double seconds = (double)(now - s->start_ns) / 1e9;
    bool is_last = p->done + p->failed == p->total;
    int cells = p->total ? (int)((p->done + p->failed) * BAR_CELLS / p->total) : 0;

    if (!s->began) {
        s->began = true;
        s->done_before = p->done;
        if (p->done > 0)
            fprintf(stderr, "%zu of %zu requests have their answers already\n", p->done, p->total);
    } else if (!is_last &&
               now - s->last_ns < (s->terminal ? 100000000 : PLAIN_LINE_S * 1000000000LL)) {
        return;
    }
    s->last_ns = now;
    if (s->terminal) {
        fprintf(stderr, "\r[");
        for (int i = 0; i < BAR_CELLS; i++)
            fputc(i < cells ? '#' : '.', stderr);
        fprintf(stderr, "] ");
    }
    fprintf(stderr, "%zu of %zu", p->done + p->failed, p->total);
    put_rest(s, p, seconds);
    fprintf(stderr, s->terminal ? "\033[K%s" : "%s\n", s->terminal && is_last ? "\n" : "");
}

/* Which kind of model the file needs; what is wrong with it is found later. */
static unsigned needs_of(const char *path)
{
    FILE *f = fopen(path, "re");
    char *line = NULL;
    size_t cap = 0;
    unsigned needs = APP_CHAT;

    if (f && getline(&line, &cap, f) > 0) {
        json_t *root = json_loads(line, 0, NULL);
        const char *url = json_string_value(json_object_get(root, "url"));

        if (url && strcmp(url, "/v1/embeddings") == 0)
            needs = APP_EMBED;
        json_decref(root);
    }
    free(line);
    if (f)
        fclose(f);
    return needs;
}

static sl_status open_app(const batch_args *args, const char *input, config **ret_config,
                          app **ret_app, sl_err *err)
{
    SL_TRY(cli_config(&args->common, true, ret_config, err));
    if (args->model) {
        config_clear_models(*ret_config);
        SL_TRY(config_add_model(*ret_config, args->model, err));
    }
    return app_create(*ret_config, needs_of(input), ret_app, err);
}

static int batch_run(const batch_args *args, const char *input)
{
    shown s = { .terminal = isatty(STDERR_FILENO), .start_ns = sl_clock_mono_ns() };
    jobs_local o = { .input = input,
                     .output = args->output,
                     .concurrency = args->concurrency,
                     .cancelled = &cli_interrupted,
                     .on_progress = on_progress,
                     .ctx = &s };
    jobs_progress p = { 0 };
    config *c = NULL;
    app *a = NULL;
    sl_err err = { 0 };
    sl_buf errors;
    sl_status status;

    sl_buf_init(&errors, 8192);
    sl_buf_printf(&errors, args->errors ? "%s" : "%s.errors",
                  args->errors ? args->errors : args->output);
    o.errors = sl_buf_str(&errors);
    status = sl_buf_ok(&errors, "path", &err);
    if (status == SL_OK)
        status = open_app(args, input, &c, &a, &err);
    s.start_ns = sl_clock_mono_ns();
    if (status == SL_OK) {
        cli_catch_interrupt();
        status = app_run_batch(a, &o, &p, &err);
    }
    if (s.terminal && status != SL_OK && s.began)
        fputc('\n', stderr); /* the bar's line is unfinished */
    if (status == SL_OK && args->json)
        printf("{\"total\":%zu,\"completed\":%zu,\"failed\":%zu,\"input_tokens\":%lld,"
               "\"cached_tokens\":%lld,\"output_tokens\":%lld}\n",
               p.total, p.done, p.failed, (long long)p.prompt_tokens, (long long)p.cached_tokens,
               (long long)p.output_tokens);
    else if (status == SL_OK)
        printf("%zu answers in %s%s%s\n", p.done, args->output,
               p.failed ? "; what failed is in " : "", p.failed ? o.errors : "");
    app_destroy(a);
    config_destroy(c);
    sl_buf_deinit(&errors);
    if (status != SL_OK)
        return cli_fail(&err);
    return p.failed ? CLI_FAILED : CLI_OK;
}

int cmd_batch(int argc, char **argv)
{
    batch_args args = { 0 };
    const cli_option options[] = {
        { "--output", 'o', CLI_TEXT, &args.output, "FILE",
          "run: answers, a line each; continued when it is there" },
        { "--errors", 0, CLI_TEXT, &args.errors, "FILE",
          "run: requests that failed (default: the output's name and .errors)" },
        { "--model", 'm', CLI_TEXT, &args.model, "MODEL", "run: the model to load" },
        { "--concurrency", 'j', CLI_NUMBER, &args.concurrency, "N",
          "run: requests at once (default 8)" },
        { "--url", 0, CLI_TEXT, &args.url, "URL", "the server (default http://127.0.0.1:8080)" },
        { "--api-key", 0, CLI_TEXT, &args.key, "KEY", "its key (default: SLUICE_API_KEY)" },
        { "--json", 0, CLI_FLAG, &args.json, NULL, "as JSON" },
        CLI_COMMON_OPTIONS(args.common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice batch (run IN.jsonl -o OUT.jsonl | submit IN.jsonl | list | show ID | cancel ID) "
        "[options]",
        "Runs a file of requests, each line as OpenAI's batches have it:\n"
        "  "
        "{\"custom_id\":\"1\",\"method\":\"POST\",\"url\":\"/v1/chat/"
        "completions\",\"body\":{...}}\n"
        "run does it here with a model of its own; the others ask a server.",
        options,
        "A run that was interrupted or killed goes on when the same command is given again.",
    };
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    if (argc < 2)
        return cli_usage("batch what? For example: sluice batch run in.jsonl -o out.jsonl");
    if (strcmp(argv[1], "run") != 0)
        return batch_remote(&args, argc - 1, argv + 1);
    if (argc != 3 || !args.output)
        return cli_usage("run needs one input and an output: sluice batch run in.jsonl -o "
                         "out.jsonl");
    return batch_run(&args, argv[2]);
}
