/* people.c - what the commands about keys, users and teams share: options to a specification, and
 * answers to the terminal. */
#include "cli/people.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"

#define ARENA_MAX (256 * SL_KIB)

/* ---- options ------------------------------------------------------------------------------- */

static sl_status take_list(const char *option, const char *text, sl_arena *arena, llm_texts *ret,
                           sl_err *err)
{
    size_t count = 0, max = 1;
    const char **list;

    if (!text)
        return SL_OK;
    for (const char *at = text; *at; at++)
        max += *at == ',';
    list = sl_arena_alloc(arena, max * sizeof *list);
    if (!list)
        return sl_fail(err, SL_ELIMIT, "%s: the list is too long", option);
    for (const char *at = text; *at;) {
        size_t len = strcspn(at, ",");

        if (len > 0) {
            list[count] = sl_arena_strndup(arena, at, len);
            if (!list[count++])
                return sl_fail(err, SL_ELIMIT, "%s: the list is too long", option);
        }
        at += len + (at[len] == ',');
    }
    *ret = (llm_texts){ list, count, true };
    return SL_OK;
}

static sl_status take_number(const char *option, const char *text, int64_t *ret, sl_err *err)
{
    char *end;
    long long v;

    if (!text)
        return SL_OK;
    errno = 0;
    v = strtoll(text, &end, 10);
    if (end == text || *end || errno || v < 0)
        return sl_fail(err, SL_EINVAL, "%s: '%.40s' is not a number from 0 on", option, text);
    *ret = v;
    return SL_OK;
}

static sl_status take_money(const char *text, int64_t *ret, sl_err *err)
{
    char *end;
    double v;

    if (!text)
        return SL_OK;
    v = strtod(text, &end);
    if (end == text || *end || !(v >= 0) || v > 9e9)
        return sl_fail(err, SL_EINVAL, "--budget: '%.40s' is not an amount in dollars", text);
    *ret = (int64_t)(v * 1e9 + 0.5);
    return SL_OK;
}

static sl_status take_expiry(const char *text, int64_t *ret, sl_err *err)
{
    int64_t seconds = 0;

    if (!text)
        return SL_OK;
    if (strcmp(text, "never") == 0) {
        *ret = 0;
        return SL_OK;
    }
    if (config_duration(text, &seconds, err) != SL_OK)
        return sl_err_prefix(err, SL_EINVAL, "--expires");
    *ret = seconds ? sl_clock_wall_ms() / 1000 + seconds : 0;
    return SL_OK;
}

static sl_status take_metadata(const char *text, json_t **ret, sl_err *err)
{
    if (!text)
        return SL_OK;
    *ret = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(*ret))
        return sl_fail(err, SL_EINVAL, "--metadata: not a JSON object");
    return SL_OK;
}

static sl_status fill(const people_args *a, people_spec *s, sl_err *err)
{
    llm_account_spec *spec = &s->spec;
    llm_limits *l = &spec->limits;

    spec->role = a->role;
    spec->team = a->team;
    spec->user = a->user;
    SL_TRY(take_list("--scopes", a->scopes, &s->arena, &spec->scopes, err));
    SL_TRY(take_list("--models", a->models, &s->arena, &spec->models, err));
    SL_TRY(take_list("--networks", a->networks, &s->arena, &spec->networks, err));
    SL_TRY(take_number("--rpm", a->rpm, &l->rpm, err));
    SL_TRY(take_number("--rpd", a->rpd, &l->rpd, err));
    SL_TRY(take_number("--tpm", a->tpm, &l->tpm, err));
    SL_TRY(take_number("--tpd", a->tpd, &l->tpd, err));
    SL_TRY(take_number("--concurrency", a->concurrency, &l->concurrency, err));
    SL_TRY(take_number("--request-tokens", a->request_tokens, &l->request_tokens, err));
    SL_TRY(take_number("--budget-days", a->budget_days, &l->budget_days, err));
    SL_TRY(take_money(a->budget, &l->budget_nusd, err));
    SL_TRY(take_expiry(a->expires, &spec->expires_s, err));
    SL_TRY(take_metadata(a->metadata, &s->metadata, err));
    spec->metadata = s->metadata;
    return SL_OK;
}

sl_status people_spec_make(const people_args *a, const char *name, people_spec *ret, sl_err *err)
{
    sl_status status;

    *ret = (people_spec){ .spec = LLM_ACCOUNT_SPEC_NONE };
    sl_arena_init(&ret->arena, ARENA_MAX);
    ret->spec.name = name;
    status = fill(a, ret, err);
    if (status != SL_OK)
        people_spec_free(ret);
    return status;
}

void people_spec_free(people_spec *s)
{
    json_decref(s->metadata);
    sl_arena_deinit(&s->arena);
}

/* ---- accounts ------------------------------------------------------------------------------ */

sl_status people_open(const cli_common *common, people *ret, sl_err *err)
{
    const struct passwd *pw = getpwuid(geteuid());

    *ret = (people){ 0 };
    snprintf(ret->actor, sizeof ret->actor, "cli:%.50s", pw ? pw->pw_name : "unknown");
    ret->who = (llm_actor){ .name = ret->actor, .address = "" };
    SL_TRY(cli_config(common, true, &ret->c, err));
    return app_open_accounts(ret->c, &ret->acc, err);
}

void people_close(people *p)
{
    app_close_accounts(&p->acc);
    config_destroy(p->c);
}

/* ---- answers ------------------------------------------------------------------------------- */

static void put_time(const char *name, const json_t *v, char *out, size_t size)
{
    time_t t = (time_t)json_number_value(v);
    struct tm tm;
    size_t len = strlen(name);
    bool is_time =
        json_is_number(v) && ((len > 3 && strcmp(name + len - 3, "_at") == 0) ||
                              strcmp(name, "old_key_until") == 0 || strcmp(name, "at") == 0);

    if (is_time && gmtime_r(&t, &tm))
        strftime(out, size, "%Y-%m-%d %H:%M:%S UTC", &tm);
}

/* A value for people: texts without quotes, lists with commas, times as dates. */
static void print_value(const char *name, const json_t *v)
{
    char when[40] = "";
    const json_t *one;
    size_t i;

    put_time(name, v, when, sizeof when);
    if (when[0]) {
        printf("%s", when);
    } else if (json_is_string(v)) {
        printf("%s", json_string_value(v));
    } else if (json_is_null(v)) {
        printf("-");
    } else if (json_is_array(v)) {
        json_array_foreach(v, i, one) printf("%s%s", i ? ", " : "", json_string_value(one));
        printf("%s", json_array_size(v) ? "" : "-");
    } else {
        char *text = json_dumps(v, JSON_ENCODE_ANY);

        printf("%s", text ? text : "");
        free(text);
    }
}

void people_print(json_t *object, bool json)
{
    const char *name;
    json_t *v;

    if (json) {
        json_dumpf(object, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        json_object_foreach(object, name, v)
        {
            printf("%-15s ", name);
            print_value(name, v);
            putchar('\n');
        }
    }
    json_decref(object);
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text ? text : "-";
}

void people_print_list(json_t *list, bool json)
{
    json_t *v;
    size_t i;

    if (json) {
        json_dumpf(list, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(list);
        return;
    }
    if (json_array_size(list) > 0)
        printf("%-24s %-21s %-9s %-9s %-16s %-17s %s\n", "NAME", "ID", "STATUS", "ROLE", "TEAM",
               "PREFIX", "LAST USED");
    json_array_foreach(list, i, v)
    {
        char when[40] = "-";

        put_time("last_used_at", json_object_get(v, "last_used_at"), when, sizeof when);
        printf("%-24s %-21s %-9s %-9s %-16s %-17s %s\n", text_of(v, "name"), text_of(v, "id"),
               text_of(v, "status"), text_of(v, "role"), text_of(v, "team"), text_of(v, "prefix"),
               when);
    }
    json_decref(list);
}

/* ---- actions ------------------------------------------------------------------------------- */

int people_list(const people_args *a, llm_account_kind kind)
{
    json_t *list = NULL;
    sl_err err = { 0 };
    people p;
    sl_status status = people_open(&a->common, &p, &err);

    if (status == SL_OK)
        status = p.acc.ops->list(p.acc.ctx, kind, &list, &err);
    if (status == SL_OK)
        people_print_list(list, a->json);
    people_close(&p);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}

int people_show(const people_args *a, llm_account_kind kind, const char *name)
{
    json_t *out = NULL;
    sl_err err = { 0 };
    people p;
    sl_status status = people_open(&a->common, &p, &err);

    if (status == SL_OK)
        status = p.acc.ops->get(p.acc.ctx, kind, name, &out, &err);
    if (status == SL_OK)
        people_print(out, a->json);
    people_close(&p);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}

int people_remove(const people_args *a, llm_account_kind kind, const char *name)
{
    json_t *out = NULL;
    sl_err err = { 0 };
    people p;
    sl_status status = people_open(&a->common, &p, &err);

    if (status == SL_OK)
        status = p.acc.ops->remove(p.acc.ctx, kind, name, &p.who, &out, &err);
    if (status == SL_OK && a->json)
        people_print(json_incref(out), true);
    else if (status == SL_OK)
        printf("%s is %s\n", text_of(out, "name"), text_of(out, "status"));
    json_decref(out);
    people_close(&p);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}

int people_create(const people_args *a, llm_account_kind kind, const char *name,
                  const char *password)
{
    json_t *out = NULL;
    sl_err err = { 0 };
    people_spec s;
    people p;
    sl_status status = people_spec_make(a, name, &s, &err);

    if (status != SL_OK)
        return cli_fail(&err);
    s.spec.password = password;
    status = people_open(&a->common, &p, &err);
    if (status == SL_OK)
        status = p.acc.ops->create(p.acc.ctx, kind, &s.spec, &p.who, &out, &err);
    if (status == SL_OK && a->json) {
        people_print(json_incref(out), true);
    } else if (status == SL_OK && kind == LLM_ACCOUNT_KEY) {
        printf("%s\n", text_of(out, "key"));
        fprintf(stderr, "This is the key of '%s'. Keep it: it is not shown again.\n", name);
    } else if (status == SL_OK) {
        printf("%s is added\n", name);
    }
    json_decref(out);
    people_close(&p);
    people_spec_free(&s);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}

int people_set(const people_args *a, llm_account_kind kind, const char *name, const char *password)
{
    json_t *out = NULL;
    sl_err err = { 0 };
    people_spec s;
    people p;
    sl_status status = people_spec_make(a, NULL, &s, &err);

    if (status != SL_OK)
        return cli_fail(&err);
    s.spec.password = password;
    status = people_open(&a->common, &p, &err);
    if (status == SL_OK)
        status = p.acc.ops->update(p.acc.ctx, kind, name, &s.spec, &p.who, &out, &err);
    if (status == SL_OK && a->json)
        people_print(json_incref(out), true);
    else if (status == SL_OK)
        printf("%s is changed\n", text_of(out, "name"));
    json_decref(out);
    people_close(&p);
    people_spec_free(&s);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}

int people_run(const people_command *cmd, const people_args *a, int argc, char **argv)
{
    const char *action = argc > 1 ? argv[1] : "";
    bool known = false;

    for (size_t i = 0; i < cmd->action_count; i++)
        known |= strcmp(action, cmd->actions[i]) == 0;
    if (!known)
        return cli_usage("%s takes %s; see: sluice %s --help", cmd->name, cmd->in_words, cmd->name);
    if (strcmp(action, "list") == 0)
        return argc == 2 ? people_list(a, cmd->kind)
                         : cli_usage("%s list takes no name", cmd->name);
    if (argc != 3)
        return cli_usage("%s %s takes one name", cmd->name, action);
    return cmd->act(a, action, argv[2]);
}
