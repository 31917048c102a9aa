/* serve.c - sluice serve. */
#include <signal.h>

#include "base/log.h"
#include "cli/cli.h"

/* What the command line says beside the configuration. */
typedef struct serve_flags {
    cli_common common;
    cli_list models, keys, listens;
    const char *certificate, *key;
} serve_flags;

static sl_status add_flags(const serve_flags *f, config *c, sl_err *err)
{
    if (f->listens.count > 0)
        SL_TRY(config_set_listens(c, f->listens.items, (size_t)f->listens.count, err));
    if (f->certificate)
        SL_TRY(config_set(&c->server.tls.certificate, f->certificate, err));
    if (f->key)
        SL_TRY(config_set(&c->server.tls.key, f->key, err));
    if (f->models.count > 0)
        config_clear_models(c); /* flags replace the file's list */
    for (int i = 0; i < f->models.count; i++)
        SL_TRY(config_add_model(c, f->models.items[i], err));
    for (int i = 0; i < f->keys.count; i++)
        SL_TRY(config_add_key(c, f->keys.items[i], err));
    return SL_OK;
}

static sl_status remake_config(void *ctx, config **ret, sl_err *err)
{
    const serve_flags *f = ctx;
    config *c = NULL;
    sl_status status = cli_build_config(&f->common, &c, err);

    if (status == SL_OK)
        status = add_flags(f, c, err);
    if (status == SL_OK)
        *ret = c;
    else
        config_destroy(c);
    return status;
}

int cmd_serve(int argc, char **argv)
{
    serve_flags f = { 0 };
    const cli_option options[] = {
        { "--model", 'm', CLI_LIST, &f.models, "NAME|FILE",
          "model to serve; repeat for more (default: all defaults)" },
        { "--listen", 'l', CLI_LIST, &f.listens, "ADDR:PORT",
          "default 127.0.0.1:8080; port 0 picks one; repeat for more; https://ADDR:PORT, "
          "unix:/PATH" },
        { "--tls-certificate", 0, CLI_TEXT, &f.certificate, "FILE",
          "for https:// addresses (PEM)" },
        { "--tls-key", 0, CLI_TEXT, &f.key, "FILE", "its key (PEM)" },
        { "--api-key", 0, CLI_LIST, &f.keys, "KEY",
          "key callers must send; env:NAME or file:PATH" },
        CLI_COMMON_OPTIONS(f.common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice serve [--model NAME|FILE]... [--listen ADDR:PORT]... [--data DIR] [--config FILE] "
        "[--threads N]",
        "Serves models over HTTP: OpenAI's chat, completions, embeddings and models, documents "
        "with\n"
        "citations, /health, /ready and /metrics. Logs go to standard error: JSON lines, or "
        "text on a terminal.",
        options,
        "An address beyond this machine needs an API key: --api-key, SLUICE_API_KEY or api_keys in "
        "the\n"
        "configuration. SIGTERM stops accepting, lets running answers finish, then ends. SIGHUP "
        "reloads\nwhat can change while serving (sluice config schema: x-reloads) and the TLS "
        "certificate.\nSIGUSR1 opens log.file anew.",
    };
    sigset_t set;
    config *c = NULL;
    app *a = NULL;
    sl_err err = { 0 };
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    if (argc > 1)
        return cli_usage("serve takes no argument '%s'; models are given with --model", argv[1]);
    /* Every thread inherits this, so that app_serve alone receives them. */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    status = cli_config(&f.common, false, &c, &err);
    if (status == SL_OK)
        status = add_flags(&f, c, &err);
    if (status == SL_OK)
        status = app_check_listen(c, &err);
    if (status == SL_OK)
        status = app_start_log(c, &err);
    if (status == SL_OK)
        status = app_fetch_first(c, &err);
    if (status == SL_OK)
        status = app_create(c, APP_CHAT | APP_EMBED, &a, &err);
    if (status == SL_OK)
        status = app_serve(a, remake_config, &f, &err);
    app_destroy(a);
    sl_log_stop();
    config_destroy(c);
    /* Told to end before it served: it did what it was told. */
    return status == SL_OK || status == SL_ECANCELLED ? CLI_OK : cli_fail(&err);
}
