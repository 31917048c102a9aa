/* openapi.c - sluice openapi: the document of all routes, without a server. */
#include <stdio.h>

#include "cli/cli.h"

int cmd_openapi(int argc, char **argv)
{
    const cli_option options[] = { { 0 } };
    const cli_command cmd = { "sluice openapi",
                              "Prints the OpenAPI 3.1 document that a server answers "
                              "at /openapi.json.",
                              options, NULL };
    sl_err err = { 0 };
    sl_status status;
    sl_buf b;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    if (argc > 1)
        return cli_usage("openapi takes no argument '%s'", argv[1]);
    sl_buf_init(&b, 16 * SL_MIB);
    app_write_openapi(&b);
    status = sl_buf_ok(&b, "document", &err);
    if (status == SL_OK)
        puts(sl_buf_str(&b));
    sl_buf_deinit(&b);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}
