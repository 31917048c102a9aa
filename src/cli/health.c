/* health.c - sluice health: one question to a running server, for scripts and containers. */
#include <stdio.h>

#include "cli/cli.h"
#include "http/http.h"

#define ANSWER_BYTES_MAX (64 * SL_KIB)

/* One address of the server in which this machine can ask it. */
static sl_status first_url(const config *c, sl_buf *out, sl_err *err)
{
    for (unsigned i = 0; i < SL_MAX(c->listens_count, 1u); i++) {
        const char *listen = c->listens_count ? c->listens[i] : c->listen;

        if (strncmp(listen, "unix:", 5) == 0)
            continue;
        cli_server_url(listen, out);
        return sl_buf_ok(out, "address", err);
    }
    return sl_fail(err, SL_EINVAL, "the server listens on Unix sockets only; give --url");
}

static sl_status ask(const char *url, sl_err *err)
{
    http_client_options o = { .url = url, .connect_timeout_s = 5, .stall_timeout_s = 5 };
    sl_buf body;
    int http = 0;
    sl_status status;

    sl_buf_init(&body, ANSWER_BYTES_MAX);
    status = http_fetch(&o, &body, &http, err);
    sl_buf_deinit(&body);
    return status == SL_OK ? SL_OK : sl_err_prefix(err, status, "the server is not well");
}

int cmd_health(int argc, char **argv)
{
    cli_common common = { 0 };
    const char *url = NULL;
    bool ready = false, quiet = false;
    const cli_option options[] = {
        { "--url", 0, CLI_TEXT, &url, "URL", "the server (default: by `listen`)" },
        { "--ready", 0, CLI_FLAG, &ready, NULL, "ask /ready: whether it takes requests" },
        { "--quiet", 'q', CLI_FLAG, &quiet, NULL, "say nothing when all is well" },
        CLI_COMMON_OPTIONS(common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice health [--url URL] [--ready]",
        "Asks a running server's /health. Exit code 0: it answers; 1: it does not.", options, NULL
    };
    config *c = NULL;
    sl_buf where;
    sl_err err = { 0 };
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    if (argc > 1)
        return cli_usage("health takes no argument '%s'", argv[1]);
    sl_buf_init(&where, 8192);
    status = cli_config(&common, true, &c, &err);
    if (status == SL_OK && url)
        sl_buf_put(&where, url, strlen(url) - (url[0] && url[strlen(url) - 1] == '/'));
    else if (status == SL_OK)
        status = first_url(c, &where, &err);
    sl_buf_puts(&where, ready ? "/ready" : "/health");
    if (status == SL_OK)
        status = ask(sl_buf_str(&where), &err);
    if (status == SL_OK && !quiet)
        printf("%s: ok\n", sl_buf_str(&where));
    sl_buf_deinit(&where);
    config_destroy(c);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}
