/* batch.h - what the two files of sluice batch share. */
#ifndef SL_CLI_BATCH_H
#define SL_CLI_BATCH_H

#include "cli/cli.h"

typedef struct batch_args {
    cli_common common;
    const char *output, *errors, *model; /* run */
    int concurrency;
    const char *url, *key; /* the others */
    bool json;
} batch_args;

/* submit, list, show, cancel: asks a server. argv[0] is the action. */
int batch_remote(const batch_args *args, int argc, char **argv);

#endif
