/* key.c - sluice key: API keys, also beside a running server, which follows within a second. */
#include <stdio.h>

#include "cli/people.h"

#define OVERLAP_DEFAULT "1d"

static int key_rotate(const people_args *a, const char *name)
{
    json_t *out = NULL;
    int64_t overlap = 0;
    sl_err err = { 0 };
    people p;
    sl_status status;

    if (config_duration(a->overlap ? a->overlap : OVERLAP_DEFAULT, &overlap, &err) != SL_OK)
        return cli_fail(&err);
    status = people_open(&a->common, &p, &err);
    if (status == SL_OK)
        status = p.acc.ops->rotate(p.acc.ctx, name, overlap, &p.who, &out, &err);
    if (status == SL_OK && a->json) {
        people_print(json_incref(out), true);
    } else if (status == SL_OK) {
        printf("%s\n", json_string_value(json_object_get(out, "key")));
        fprintf(stderr,
                "This is the new key of '%s'. Keep it: it is not shown again. The old one "
                "works for %s more.\n",
                name, a->overlap ? a->overlap : OVERLAP_DEFAULT);
    }
    json_decref(out);
    people_close(&p);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}

static int dispatch(const people_args *a, const char *action, const char *name)
{
    if (strcmp(action, "create") == 0)
        return people_create(a, LLM_ACCOUNT_KEY, name, NULL);
    if (strcmp(action, "set") == 0)
        return people_set(a, LLM_ACCOUNT_KEY, name, NULL);
    if (strcmp(action, "show") == 0)
        return people_show(a, LLM_ACCOUNT_KEY, name);
    if (strcmp(action, "revoke") == 0)
        return people_remove(a, LLM_ACCOUNT_KEY, name);
    return key_rotate(a, name);
}

int cmd_key(int argc, char **argv)
{
    static const char *const actions[] = { "create", "set", "show", "revoke", "rotate", "list" };
    static const people_command what = { "key",
                                         LLM_ACCOUNT_KEY,
                                         actions,
                                         SL_COUNT_OF(actions),
                                         "create, list, show, set, rotate or revoke",
                                         dispatch };
    people_args a = { 0 };
    const cli_option options[] = {
        PEOPLE_RIGHT_OPTIONS(a),
        { "--user", 0, CLI_TEXT, &a.user, "U", "whose key it is" },
        PEOPLE_LIMIT_OPTIONS(a),
        { "--expires", 0, CLI_TEXT, &a.expires, "30d", "when it ends: 12h, 30d, 52w or never" },
        { "--networks", 0, CLI_TEXT, &a.networks, "CIDR,..",
          "addresses it may be used from, such as 10.0.0.0/8,2001:db8::/32" },
        { "--metadata", 0, CLI_TEXT, &a.metadata, "JSON", "an object to keep beside it" },
        { "--overlap", 0, CLI_TEXT, &a.overlap, "1d", "how long a rotated key's old text works" },
        { "--json", 0, CLI_FLAG, &a.json, NULL, "as JSON" },
        CLI_COMMON_OPTIONS(a.common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice key (create NAME | list | show NAME | set NAME | rotate NAME | revoke NAME) "
        "[options]",
        "API keys. A key is shown once, when it is made, and kept only as a keyed hash. From the "
        "first\n"
        "key on, every caller needs one. A running server follows changes within a second.",
        options,
        "Without --role and --scopes a key has the role member. An empty list (--models \"\") or 0 "
        "takes\na restriction away. Example: sluice key create ci --scopes generate --rpm 60 "
        "--expires 30d",
    };
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    return people_run(&what, &a, argc, argv);
}
