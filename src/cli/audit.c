/* audit.c - sluice audit: what administrators changed, and whether the record of it is whole. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cli/people.h"

#define PAGE 500

static void print_record(const json_t *r)
{
    time_t at = (time_t)json_number_value(json_object_get(r, "at"));
    char when[40] = "", *detail = json_dumps(json_object_get(r, "detail"), JSON_COMPACT);
    struct tm tm;

    if (gmtime_r(&at, &tm))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
    printf("%6lld  %s  %-20s %-15s %-14s %-21s %s\n",
           (long long)json_integer_value(json_object_get(r, "id")), when,
           json_string_value(json_object_get(r, "actor")),
           json_string_value(json_object_get(r, "address")),
           json_string_value(json_object_get(r, "action")),
           json_string_value(json_object_get(r, "target")), detail ? detail : "");
    free(detail);
}

/* All records, a page at a time; JSON one object a line. */
static sl_status list(people *p, bool json, sl_err *err)
{
    int64_t after = 0;
    json_t *page, *r;
    size_t count, i;

    do {
        SL_TRY(p->acc.ops->audit_list(p->acc.ctx, after, PAGE, &page, err));
        count = json_array_size(page);
        json_array_foreach(page, i, r)
        {
            after = json_integer_value(json_object_get(r, "id"));
            if (json) {
                json_dumpf(r, stdout, JSON_COMPACT);
                putchar('\n');
            } else {
                print_record(r);
            }
        }
        json_decref(page);
    } while (count == PAGE);
    return SL_OK;
}

static sl_status verify(people *p, bool json, bool *ret_valid, sl_err *err)
{
    json_t *out = NULL;

    SL_TRY(p->acc.ops->audit_verify(p->acc.ctx, &out, err));
    *ret_valid = json_is_true(json_object_get(out, "valid"));
    if (json)
        people_print(json_incref(out), true);
    else if (*ret_valid)
        printf("the audit log is whole: %lld records\n",
               (long long)json_integer_value(json_object_get(out, "records")));
    else
        fprintf(stderr, "sluice: the audit log is broken at record %lld: %s\n",
                (long long)json_integer_value(json_object_get(out, "broken_at")),
                json_string_value(json_object_get(out, "reason")));
    json_decref(out);
    return SL_OK;
}

int cmd_audit(int argc, char **argv)
{
    people_args a = { 0 };
    const cli_option options[] = {
        { "--json", 0, CLI_FLAG, &a.json, NULL, "as JSON; list: one object a line" },
        CLI_COMMON_OPTIONS(a.common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice audit (list | verify) [options]",
        "What administrators changed. Records are chained by SHA-256; 'verify' tells whether any "
        "was\nchanged, removed or cut off (exit code 1).",
        options,
        NULL,
    };
    bool valid = true, is_list;
    sl_err err = { 0 };
    people p;
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    is_list = argc == 2 && strcmp(argv[1], "list") == 0;
    if (!is_list && !(argc == 2 && strcmp(argv[1], "verify") == 0))
        return cli_usage("audit takes list or verify; see: sluice audit --help");
    status = people_open(&a.common, &p, &err);
    if (status == SL_OK)
        status = is_list ? list(&p, a.json, &err) : verify(&p, a.json, &valid, &err);
    people_close(&p);
    if (status != SL_OK)
        return cli_fail(&err);
    return valid ? CLI_OK : CLI_FAILED;
}
