/* user.c - sluice user: people who log in with a password. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "cli/people.h"

#define PASSWORD_MAX 512

/* One line without its end; empty when there is none. */
static void read_line(char *out, size_t size)
{
    if (!fgets(out, (int)size, stdin))
        out[0] = '\0';
    out[strcspn(out, "\r\n")] = '\0';
}

static void prompt(const char *text, char *out, size_t size)
{
    struct termios old, quiet;
    bool hidden = tcgetattr(STDIN_FILENO, &old) == 0;

    fputs(text, stderr);
    quiet = old;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    if (hidden)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    read_line(out, size);
    if (hidden)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
    fputc('\n', stderr);
}

/* From the terminal, asked twice; else the first line of standard input. */
static sl_status read_password(char *out, size_t size, sl_err *err)
{
    char again[PASSWORD_MAX + 2] = "";

    if (!isatty(STDIN_FILENO)) {
        read_line(out, size);
    } else {
        prompt("Password: ", out, size);
        prompt("Once more: ", again, sizeof again);
        if (strcmp(out, again) != 0)
            return sl_fail(err, SL_EINVAL, "the two passwords differ");
    }
    return out[0] ? SL_OK : sl_fail(err, SL_EINVAL, "no password was given on standard input");
}

static int with_password(const people_args *a, const char *name, bool is_new)
{
    char password[PASSWORD_MAX + 2] = "";
    sl_err err = { 0 };
    int rc;

    if (read_password(password, sizeof password, &err) != SL_OK)
        return cli_fail(&err);
    rc = is_new ? people_create(a, LLM_ACCOUNT_USER, name, password)
                : people_set(a, LLM_ACCOUNT_USER, name, password);
    explicit_bzero(password, sizeof password);
    return rc;
}

static int dispatch(const people_args *a, const char *action, const char *name)
{
    if (strcmp(action, "add") == 0)
        return with_password(a, name, true);
    if (strcmp(action, "passwd") == 0)
        return with_password(a, name, false);
    if (strcmp(action, "set") == 0)
        return people_set(a, LLM_ACCOUNT_USER, name, NULL);
    if (strcmp(action, "show") == 0)
        return people_show(a, LLM_ACCOUNT_USER, name);
    return people_remove(a, LLM_ACCOUNT_USER, name);
}

int cmd_user(int argc, char **argv)
{
    static const char *const actions[] = { "add", "passwd", "set", "show", "rm", "list" };
    static const people_command what = { "user",
                                         LLM_ACCOUNT_USER,
                                         actions,
                                         SL_COUNT_OF(actions),
                                         "add, passwd, list, show, set or rm",
                                         dispatch };
    people_args a = { 0 };
    const cli_option options[] = {
        PEOPLE_RIGHT_OPTIONS(a),
        PEOPLE_LIMIT_OPTIONS(a),
        { "--json", 0, CLI_FLAG, &a.json, NULL, "as JSON" },
        CLI_COMMON_OPTIONS(a.common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice user (add NAME | passwd NAME | list | show NAME | set NAME | rm NAME) [options]",
        "People who log in with a password (POST /auth/login). The password is asked for on the "
        "terminal,\n"
        "or read as the first line of standard input. A new password ends the user's sessions;\n"
        "removing a user also revokes its keys.",
        options,
        "Example: sluice user add ada --role operator --team research",
    };
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    return people_run(&what, &a, argc, argv);
}
