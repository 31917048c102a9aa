/* ps.c - sluice ps: what a running server has loaded. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "http/http.h"

#define ANSWER_BYTES_MAX (16 * SL_MIB)

void cli_server_url(const char *listen, sl_buf *out)
{
    bool tls = strncmp(listen, "https://", 8) == 0;
    const char *scheme = tls ? "https" : "http";
    const char *colon = strrchr(listen += tls ? 8 : 0, ':');
    size_t len = colon ? (size_t)(colon - listen) : 0;
    bool all =
        len == 0 || strncmp(listen, "0.0.0.0", len) == 0 || strncmp(listen, "[::]", len) == 0;

    if (all)
        sl_buf_printf(out, "%s://127.0.0.1%s", scheme, colon ? colon : "");
    else
        sl_buf_printf(out, "%s://%s", scheme, listen);
}

static sl_status ask(const char *url, const char *key, json_t **ret, sl_err *err)
{
    char auth[2200];
    const char *headers[] = { auth };
    http_client_options o = { .url = url, .headers = headers, .header_count = key ? 1 : 0 };
    json_t *root;
    sl_buf body;
    int http = 0;
    sl_status status;

    snprintf(auth, sizeof auth, "Authorization: Bearer %s", key ? key : "");
    sl_buf_init(&body, ANSWER_BYTES_MAX);
    status = http_fetch(&o, &body, &http, err);
    if (status == SL_OK) {
        root = json_loadb(sl_buf_str(&body), body.len, 0, NULL);
        *ret = json_incref(json_object_get(root, "models"));
        json_decref(root);
        if (!json_is_array(*ret))
            status = sl_fail(err, SL_EFORMAT, "the answer of %s is no list of models", url);
    }
    sl_buf_deinit(&body);
    return status == SL_OK ? SL_OK : sl_err_prefix(err, status, "cannot ask %s", url);
}

static const char *str_of(const json_t *m, const char *key)
{
    const char *text = json_string_value(json_object_get(m, key));

    return text ? text : "";
}

static void print_models(const json_t *list)
{
    size_t i;
    json_t *m;

    if (json_array_size(list) == 0) {
        printf("No model is loaded.\n");
        return;
    }
    printf("%-32s %-14s %11s  %7s  %s\n", "NAME", "ID", "MEMORY", "CONTEXT", "UNTIL (UTC)");
    json_array_foreach((json_t *)(uintptr_t)list, i, m)
    {
        const char *until = str_of(m, "expires_at");

        printf("%-32s %-14.12s %8.1f MB  %7lld  %.19s\n", str_of(m, "name"), str_of(m, "digest"),
               (double)json_integer_value(json_object_get(m, "size")) / 1e6,
               (long long)json_integer_value(json_object_get(m, "context_length")),
               until[0] == '2' && until[1] == '1' ? "forever" : until);
    }
}

int cmd_ps(int argc, char **argv)
{
    cli_common common = { 0 };
    const char *url = NULL, *key = getenv("SLUICE_API_KEY");
    bool json = false;
    const cli_option options[] = {
        { "--url", 0, CLI_TEXT, &url, "URL", "the server (default: http:// and `listen`)" },
        { "--api-key", 0, CLI_TEXT, &key, "KEY", "default: the environment's SLUICE_API_KEY" },
        { "--json", 0, CLI_FLAG, &json, NULL, "a JSON array" },
        CLI_COMMON_OPTIONS(common),
        { 0 },
    };
    const cli_command cmd = { "sluice ps [--url URL] [options]",
                              "Lists the models that a running server has loaded.", options, NULL };
    config *c = NULL;
    json_t *list = NULL;
    sl_err err = { 0 };
    sl_buf where;
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    sl_buf_init(&where, 8192);
    status = cli_config(&common, true, &c, &err);
    if (status == SL_OK && url)
        sl_buf_put(&where, url, strlen(url) - (url[0] && url[strlen(url) - 1] == '/'));
    else if (status == SL_OK)
        cli_server_url(c->listen, &where);
    sl_buf_puts(&where, "/api/ps");
    if (status == SL_OK)
        status = ask(sl_buf_str(&where), key && key[0] ? key : NULL, &list, &err);
    if (status == SL_OK && json) {
        json_dumpf(list, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (status == SL_OK) {
        print_models(list);
    }
    json_decref(list);
    sl_buf_deinit(&where);
    config_destroy(c);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}
