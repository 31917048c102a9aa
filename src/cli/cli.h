/* cli.h - the commands. Each lives in one file and gets its own arguments. */
#ifndef SL_CLI_CLI_H
#define SL_CLI_CLI_H

#include "app/app.h"

/* Exit codes, the same for every command. */
enum {
    CLI_OK = 0,
    CLI_FAILED = 1, /* what was asked for could not be done; standard error says why */
    CLI_USAGE = 2,  /* the command line or the configuration is wrong */
};

int cmd_serve(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_pull(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_rm(int argc, char **argv);
int cmd_create(int argc, char **argv);
int cmd_cp(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_rag(int argc, char **argv);
int cmd_read(int argc, char **argv);
int cmd_read_document(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_template(int argc, char **argv);
int cmd_embed(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_key(int argc, char **argv);
int cmd_user(int argc, char **argv);
int cmd_team(int argc, char **argv);
int cmd_audit(int argc, char **argv);
int cmd_config(int argc, char **argv);
int cmd_usage(int argc, char **argv);
int cmd_batch(int argc, char **argv);
int cmd_openapi(int argc, char **argv);
int cmd_backup(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_health(int argc, char **argv);

/* ---- options -----------------------------------------------------------------------------------
 */

/* One option of a command. value points to what it sets; repeated options of kind CLI_LIST append.
 */
typedef enum cli_kind { CLI_FLAG, CLI_TEXT, CLI_NUMBER, CLI_LIST } cli_kind;

#define CLI_LIST_MAX 64

typedef struct cli_list {
    const char *items[CLI_LIST_MAX];
    int count;
} cli_list;

typedef struct cli_option {
    const char *name; /* "--model" */
    char letter;      /* 'm' for -m, or 0 */
    cli_kind kind;
    void *value; /* bool, const char *, int or cli_list */
    const char *arg, *help;
} cli_option;

typedef struct cli_command {
    const char *usage;         /* "sluice pull NAME... [options]" */
    const char *text;          /* what it does */
    const cli_option *options; /* ended by a NULL name */
    const char *tail;          /* examples and notes, or NULL */
} cli_command;

/* Parses options; what is left stays in argv[1..*ret_argc). Prints help or the error itself and
 * then returns the exit code to leave with; -1: go on. */
int cli_parse(const cli_command *cmd, int argc, char **argv, int *ret_argc);

/* Prints "sluice: error text" and returns the exit code for the status. */
int cli_fail(const sl_err *err);
int cli_usage(const char *fmt, ...) SL_PRINTF(1, 2);

/* The configuration from --config, the environment and the flags most commands share. */
typedef struct cli_common {
    const char *config, *data, *log_level;
    int threads;
} cli_common;

#define CLI_COMMON_OPTIONS(c)                                                                      \
    { "--config", 0, CLI_TEXT, &(c).config, "FILE", "configuration (YAML)" },                      \
        { "--data", 0, CLI_TEXT, &(c).data, "DIR", "where models and documents are kept" },        \
        { "--threads",  't', CLI_NUMBER,                                                           \
          &(c).threads, "N", "compute threads (default: all processors)" },                        \
    {                                                                                              \
        "--log-level", 0, CLI_TEXT, &(c).log_level, "LEVEL", "debug, info, warn or error"          \
    }

/* quiet: logs are short text and start at warnings unless the user chose a level. */
SL_NODISCARD sl_status cli_build_config(const cli_common *common, config **ret, sl_err *err);
/* The same, and logs as it says. */
SL_NODISCARD sl_status cli_config(const cli_common *common, bool quiet, config **ret, sl_err *err);

/* The URL of a server by its `listen`; one that listens on all addresses is asked on this machine's
 * own. */
void cli_server_url(const char *listen, sl_buf *out);

/* Ctrl-C as a flag: set by the signal, cleared by the caller. Installed by cli_catch_interrupt. */
extern atomic_bool cli_interrupted;
void cli_catch_interrupt(void);

#endif
