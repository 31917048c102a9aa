/* config.c - sluice config check, show and schema. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static sl_status check(const config *c, sl_err *err)
{
    uint64_t bytes;

    if (c->kv.memory)
        SL_TRY(config_bytes(c->kv.memory, &bytes, err));
    SL_TRY(app_check_auth(c, err));
    SL_TRY(app_check_books(c, err));
    SL_TRY(app_check_server(c, err));
    SL_TRY(app_check_watch(c, err));
    printf("the configuration is right: listen %s, data %s, %u models\n", c->listen, c->data,
           c->models_count);
    return SL_OK;
}

static sl_status print(const sl_buf *b, sl_err *err)
{
    SL_TRY(sl_buf_ok(b, "configuration", err));
    fputs(sl_buf_str(b), stdout);
    return SL_OK;
}

int cmd_config(int argc, char **argv)
{
    cli_common common = { 0 };
    const cli_option options[] = { CLI_COMMON_OPTIONS(common), { 0 } };
    const cli_command cmd = {
        "sluice config check|show|schema [FILE]",
        "check: unknown keys, wrong types, sizes, dates, secrets. show: what applies, with the\n"
        "environment and defaults, secrets hidden. schema: the file's JSON Schema.",
        options, NULL
    };
    config *c = NULL;
    sl_err err = { 0 };
    sl_status status = SL_OK;
    sl_buf b;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    if (argc < 2 || argc > 3 ||
        (strcmp(argv[1], "check") != 0 && strcmp(argv[1], "show") != 0 &&
         strcmp(argv[1], "schema") != 0))
        return cli_usage("usage: sluice config check|show|schema [FILE]");
    if (argc == 3)
        common.config = argv[2];
    sl_buf_init(&b, 16 * SL_MIB);
    if (strcmp(argv[1], "schema") == 0) {
        config_schema(&b);
        sl_buf_putc(&b, '\n');
        status = print(&b, &err);
    } else {
        status = cli_config(&common, true, &c, &err);
    }
    if (status == SL_OK && strcmp(argv[1], "check") == 0)
        status = check(c, &err);
    if (status == SL_OK && strcmp(argv[1], "show") == 0) {
        config_show(c, &b);
        status = print(&b, &err);
    }
    sl_buf_deinit(&b);
    config_destroy(c);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}
