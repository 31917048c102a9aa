/* cli.c - options, help, errors and the configuration shared by the commands. */
#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

atomic_bool cli_interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    atomic_store(&cli_interrupted, true);
}

void cli_catch_interrupt(void)
{
    struct sigaction sa = { .sa_handler = on_interrupt }; /* no SA_RESTART: reads return */

    sigaction(SIGINT, &sa, NULL);
}

int cli_fail(const sl_err *err)
{
    fprintf(stderr, "sluice: %s\n", err->text);
    return err->status == SL_EINVAL ? CLI_USAGE : CLI_FAILED;
}

int cli_usage(const char *fmt, ...)
{
    va_list ap;

    fputs("sluice: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return CLI_USAGE;
}

static void print_help(const cli_command *cmd)
{
    printf("Usage: %s\n\n%s\n\nOptions:\n", cmd->usage, cmd->text);
    for (const cli_option *o = cmd->options; o->name; o++) {
        char left[64];
        int n = o->letter ? snprintf(left, sizeof left, "  -%c, %s", o->letter, o->name)
                          : snprintf(left, sizeof left, "      %s", o->name);

        if (o->arg)
            snprintf(left + n, sizeof left - (size_t)n, " %s", o->arg);
        printf("%-28s %s\n", left, o->help);
    }
    printf("%-28s %s\n", "  -h, --help", "this text");
    if (cmd->tail)
        printf("\n%s\n", cmd->tail);
    printf("\nExit codes: 0 done, 1 failed (standard error says why), 2 wrong usage or "
           "configuration.\n");
}

static const cli_option *find_option(const cli_command *cmd, const char *arg, size_t len)
{
    for (const cli_option *o = cmd->options; o->name; o++)
        if ((strlen(o->name) == len && strncmp(o->name, arg, len) == 0) ||
            (len == 2 && o->letter && arg[0] == '-' && arg[1] == o->letter))
            return o;
    return NULL;
}

static int set_option(const cli_option *o, const char *value)
{
    cli_list *list = o->value;
    char *end;
    long n;

    switch (o->kind) {
    case CLI_FLAG:
        *(bool *)o->value = true;
        return -1;
    case CLI_TEXT:
        *(const char **)o->value = value;
        return -1;
    case CLI_NUMBER:
        n = strtol(value, &end, 10);
        if (end == value || *end || n < -1 || n > INT32_MAX)
            return cli_usage("%s: '%s' is not a number", o->name, value);
        *(int *)o->value = (int)n;
        return -1;
    case CLI_LIST:
        if (list->count == CLI_LIST_MAX)
            return cli_usage("%s: given more than %d times", o->name, CLI_LIST_MAX);
        list->items[list->count++] = value;
        return -1;
    }
    return -1;
}

int cli_parse(const cli_command *cmd, int argc, char **argv, int *ret_argc)
{
    int kept = 1, rc;
    bool options = true;

    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *eq = strchr(arg, '=');
        size_t len = arg[0] == '-' && arg[1] == '-' && eq ? (size_t)(eq - arg) : strlen(arg);
        const cli_option *o;

        if (!options || arg[0] != '-' || arg[1] == '\0') {
            argv[kept++] = argv[i];
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            options = false;
            continue;
        }
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            print_help(cmd);
            return CLI_OK;
        }
        o = find_option(cmd, arg, len);
        if (!o)
            return cli_usage("unknown option '%s'; see: %.*s --help", arg,
                             (int)strcspn(cmd->usage, "[<NM-"), cmd->usage);
        if (o->kind == CLI_FLAG && arg[len] == '=')
            return cli_usage("%s takes no value", o->name);
        if (o->kind != CLI_FLAG && arg[len] != '=' && i + 1 == argc)
            return cli_usage("%s needs a value: %s", o->name, o->arg);
        rc = set_option(o, o->kind == CLI_FLAG ? NULL
                           : arg[len] == '='   ? arg + len + 1
                                               : argv[++i]);
        if (rc >= 0)
            return rc;
    }
    *ret_argc = kept;
    return -1;
}

sl_status cli_build_config(const cli_common *common, config **ret, sl_err *err)
{
    config *c = NULL;
    sl_status status = config_load(common->config, &c, err);

    if (status == SL_OK && common->data)
        status = config_set(&c->data, common->data, err);
    if (status == SL_OK && common->threads > 0)
        c->threads = common->threads;
    if (status == SL_OK && common->log_level)
        status = config_set(&c->log_level, common->log_level, err);
    if (status == SL_OK)
        *ret = c;
    else
        config_destroy(c);
    return status;
}

sl_status cli_config(const cli_common *common, bool quiet, config **ret, sl_err *err)
{
    config *c = NULL;
    sl_log_level level = quiet ? SL_LOG_WARN : SL_LOG_INFO;
    sl_status status = cli_build_config(common, &c, err);

    if (status == SL_OK && c->log_level)
        status = config_log_level(c->log_level, &level, err);
    if (status != SL_OK) {
        config_destroy(c);
        return status;
    }
    sl_log_set_format(quiet ? SL_LOG_PLAIN : SL_LOG_JSON);
    sl_log_set_level(level);
    *ret = c;
    return SL_OK;
}
