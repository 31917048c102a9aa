/* team.c - sluice team: limits that several keys and users share. */
#include "cli/people.h"

static int dispatch(const people_args *a, const char *action, const char *name)
{
    if (strcmp(action, "add") == 0)
        return people_create(a, LLM_ACCOUNT_TEAM, name, NULL);
    if (strcmp(action, "set") == 0)
        return people_set(a, LLM_ACCOUNT_TEAM, name, NULL);
    if (strcmp(action, "show") == 0)
        return people_show(a, LLM_ACCOUNT_TEAM, name);
    return people_remove(a, LLM_ACCOUNT_TEAM, name);
}

int cmd_team(int argc, char **argv)
{
    static const char *const actions[] = { "add", "set", "show", "rm", "list" };
    static const people_command what = {
        "team",  LLM_ACCOUNT_TEAM, actions, SL_COUNT_OF(actions), "add, list, show, set or rm",
        dispatch
    };
    people_args a = { 0 };
    const cli_option options[] = {
        PEOPLE_LIMIT_OPTIONS(a),
        { "--json", 0, CLI_FLAG, &a.json, NULL, "as JSON" },
        CLI_COMMON_OPTIONS(a.common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice team (add NAME | list | show NAME | set NAME | rm NAME) [options]",
        "Teams: limits and models that keys and users share. A team that a new key or user names "
        "comes\nto be by itself, without limits.",
        options,
        "Example: sluice team set research --tpd 2000000 --budget 50 --budget-days 30",
    };
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    return people_run(&what, &a, argc, argv);
}
