/* serve.c - sluice serve. */
#include <signal.h>

#include "cli/cli.h"

int cmd_serve(int argc, char **argv)
{
    cli_common common = { 0 };
    cli_list models = { 0 }, keys = { 0 };
    const char *listen = NULL;
    const cli_option options[] = {
        { "--model", 'm', CLI_LIST, &models, "NAME|FILE",
          "model to serve; repeat for more (default: all defaults)" },
        { "--listen", 'l', CLI_TEXT, &listen, "ADDR:PORT",
          "default 127.0.0.1:8080; port 0 picks one" },
        { "--api-key", 0, CLI_LIST, &keys, "KEY", "key callers must send; env:NAME or file:PATH" },
        CLI_COMMON_OPTIONS(common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice serve [--model NAME|FILE]... [--listen ADDR:PORT] [--data DIR] [--config FILE] "
        "[--threads N]",
        "Serves models over HTTP: OpenAI's chat, completions, embeddings and models, documents "
        "with\n"
        "citations, /health, /ready and /metrics. Logs are JSON lines on standard error.",
        options,
        "An address beyond this machine needs an API key: --api-key, SLUICE_API_KEY or api_keys in "
        "the\n"
        "configuration. SIGTERM stops accepting, lets running answers finish, then ends.",
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
    sigprocmask(SIG_BLOCK, &set, NULL);
    status = cli_config(&common, false, &c, &err);
    if (status == SL_OK && listen)
        status = config_set(&c->listen, listen, &err);
    if (status == SL_OK && models.count > 0)
        config_clear_models(c); /* flags replace the file's list */
    for (int i = 0; i < models.count && status == SL_OK; i++)
        status = config_add_model(c, models.items[i], &err);
    for (int i = 0; i < keys.count && status == SL_OK; i++)
        status = config_add_key(c, keys.items[i], &err);
    if (status == SL_OK)
        status = app_check_listen(c, &err);
    if (status == SL_OK)
        status = app_create(c, APP_CHAT | APP_EMBED, &a, &err);
    if (status == SL_OK)
        status = app_serve(a, &err);
    app_destroy(a);
    config_destroy(c);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}
