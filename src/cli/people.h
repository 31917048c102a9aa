/* people.h - what the commands about keys, users, teams and the audit log share. */
#ifndef SL_CLI_PEOPLE_H
#define SL_CLI_PEOPLE_H

#include "cli/cli.h"

/* The options that keys, users and teams have in common, as they were typed. */
typedef struct people_args {
    cli_common common;
    bool json;
    const char *role, *team, *scopes, *models;
    const char *rpm, *rpd, *tpm, *tpd, *concurrency, *request_tokens, *budget, *budget_days;
    const char *user, *networks, *expires, *metadata, *overlap; /* keys only */
} people_args;

#define PEOPLE_LIMIT_OPTIONS(a)                                                                    \
    { "--models",                                                                                  \
      0,                                                                                           \
      CLI_TEXT,                                                                                    \
      &(a).models,                                                                                 \
      "M,..",                                                                                      \
      "models that may be used; 'x*' any that begin"                                               \
      " with x" },                                                                                 \
        { "--rpm", 0, CLI_TEXT, &(a).rpm, "N", "requests per minute (0: no limit)" },              \
        { "--rpd", 0, CLI_TEXT, &(a).rpd, "N", "requests per day" },                               \
        { "--tpm", 0, CLI_TEXT, &(a).tpm, "N", "tokens per minute, prompt and output" },           \
        { "--tpd", 0, CLI_TEXT, &(a).tpd, "N", "tokens per day" },                                 \
        { "--concurrency", 0, CLI_TEXT, &(a).concurrency, "N", "requests at once" },               \
        { "--request-tokens", 0, CLI_TEXT, &(a).request_tokens, "N", "tokens of one request" },    \
        { "--budget", 0, CLI_TEXT, &(a).budget, "USD", "money that may be spent" },                \
    {                                                                                              \
        "--budget-days", 0, CLI_TEXT, &(a).budget_days, "N", "window of the budget (0: for ever)"  \
    }
#define PEOPLE_RIGHT_OPTIONS(a)                                                                    \
    { "--role", 0, CLI_TEXT, &(a).role, "ROLE", "admin, operator, member or viewer" },             \
        { "--scopes", 0, CLI_TEXT, &(a).scopes, "S,..", "permissions, such as generate,embed" },   \
    {                                                                                              \
        "--team", 0, CLI_TEXT, &(a).team, "T", "team whose limits count too"                       \
    }

/* A specification under construction; everything it points to. */
typedef struct people_spec {
    llm_account_spec spec;
    sl_arena arena;
    json_t *metadata;
} people_spec;

/* Fills a specification from what was typed. SL_EINVAL names the option. */
SL_NODISCARD sl_status people_spec_make(const people_args *a, const char *name, people_spec *ret,
                                        sl_err *err);
void people_spec_free(people_spec *s);

/* The configuration and the accounts; released by people_close, also after a failure. */
typedef struct people {
    config *c;
    llm_accounts acc;
    llm_actor who;
    char actor[64];
} people;

SL_NODISCARD sl_status people_open(const cli_common *common, people *ret, sl_err *err);
void people_close(people *p);

/* Prints an answer and releases it: JSON, or a line per field. */
void people_print(json_t *object, bool json);
/* A list of accounts as JSON or as a table. Releases it. */
void people_print_list(json_t *list, bool json);

/* list, show and rm (or revoke), the same for all kinds: argv[2] names the account. */
int people_list(const people_args *a, llm_account_kind kind);
int people_show(const people_args *a, llm_account_kind kind, const char *name);
int people_remove(const people_args *a, llm_account_kind kind, const char *name);
/* create (or add) and set. password NULL: none. The text of a new key goes to standard output. */
int people_create(const people_args *a, llm_account_kind kind, const char *name,
                  const char *password);
int people_set(const people_args *a, llm_account_kind kind, const char *name, const char *password);

/* A command of the form "team add NAME"; "list" takes no name. */
typedef struct people_command {
    const char *name; /* "team" */
    llm_account_kind kind;
    const char *const *actions; /* [action_count] */
    size_t action_count;
    const char *in_words; /* the same: "add, list or rm" */
    int (*act)(const people_args *a, const char *action, const char *name);
} people_command;

/* Does what argv says, after its options were parsed. Returns the exit code. */
int people_run(const people_command *cmd, const people_args *a, int argc, char **argv);

#endif
