/* backup.c - sluice backup and restore. */
#include <stdio.h>
#include <time.h>

#include "backup/backup.h"
#include "cli/cli.h"

static void print_report(const char *verb, const char *where, const backup_report *r, bool json)
{
    json_t *line;

    if (!json) {
        printf("%s %s: %llu files, %llu of them databases, %.1f MB, made %s\n", verb, where,
               (unsigned long long)r->members, (unsigned long long)r->databases,
               (double)r->bytes / 1e6, r->created);
        return;
    }
    line = json_pack("{s:s, s:I, s:I, s:I, s:s}", "path", where, "files", (json_int_t)r->members,
                     "databases", (json_int_t)r->databases, "bytes", (json_int_t)r->bytes,
                     "created", r->created);
    json_dumpf(line, stdout, 0);
    putchar('\n');
    json_decref(line);
}

/* A secret that is elsewhere is not in the backup, and no key works without it. */
static void warn_of_secret(const config *c)
{
    if (c->auth.secret)
        fprintf(stderr, "sluice: auth.secret is not in the data directory; keep it with the "
                        "backup, without it no key works\n");
}

static sl_status back_up(const cli_common *common, const char *to, bool models, bool json,
                         sl_err *err)
{
    backup_options o = {
        .to = to, .config = common->config, .with_models = models, .cancelled = &cli_interrupted
    };
    backup_report report;
    config *c = NULL;
    sl_status status = cli_config(common, true, &c, err);

    if (status == SL_OK) {
        o.data = c->data;
        status = backup_write(&o, &report, err);
    }
    if (status == SL_OK && strcmp(to, "-") != 0) {
        print_report("backed up to", to, &report, json);
        warn_of_secret(c);
    }
    config_destroy(c);
    return status;
}

int cmd_backup(int argc, char **argv)
{
    cli_common common = { 0 };
    const char *to = NULL;
    bool models = false, json = false;
    const cli_option options[] = {
        { "--to", 0, CLI_TEXT, &to, "PLACE",
          "FILE.tar.zst, a directory, or - for standard output" },
        { "--models", 0, CLI_FLAG, &models, NULL, "models too; they can be pulled again" },
        { "--json", 0, CLI_FLAG, &json, NULL, "what was done, as JSON" },
        CLI_COMMON_OPTIONS(common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice backup [--to FILE.tar.zst|DIR|-] [--models] [options]",
        "Copies the data directory: keys, users, usage, documents, files, answers; with --config, "
        "that file\ntoo. A server may be running; all that it acknowledged before is in the "
        "backup.",
        options,
        "Without --to: sluice-backup-DATE-TIME.tar.zst here. The backup holds secrets and is "
        "readable by its\nowner only. Get it back with: sluice restore FILE",
    };
    char name[64];
    time_t now = time(NULL);
    struct tm tm;
    sl_err err = { 0 };
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    if (argc > 1)
        return cli_usage("backup takes no argument '%s'; the place is given with --to", argv[1]);
    gmtime_r(&now, &tm);
    strftime(name, sizeof name, "sluice-backup-%Y%m%d-%H%M%S.tar.zst", &tm);
    cli_catch_interrupt();
    return back_up(&common, to ? to : name, models, json, &err) == SL_OK ? CLI_OK : cli_fail(&err);
}

static sl_status restore(const cli_common *common, restore_options *o, const char *max, bool json,
                         sl_err *err)
{
    backup_report report;
    config *c = NULL;
    sl_status status = cli_config(common, true, &c, err);

    if (status == SL_OK && max)
        status = config_bytes(max, &o->bytes_max, err);
    if (status == SL_OK) {
        o->data = c->data;
        status = backup_restore(o, &report, err);
    }
    if (status == SL_OK) {
        print_report("restored", c->data, &report, json);
        if (o->keep_old && report.had_bytes)
            fprintf(stderr, "sluice: what was there is %s.old now\n", c->data);
        warn_of_secret(c);
    }
    config_destroy(c);
    return status;
}

int cmd_restore(int argc, char **argv)
{
    cli_common common = { 0 };
    restore_options o = { .cancelled = &cli_interrupted };
    const char *max = NULL;
    bool json = false;
    const cli_option options[] = {
        { "--force", 'f', CLI_FLAG, &o.force, NULL, "replace a data directory that is not empty" },
        { "--keep-old", 0, CLI_FLAG, &o.keep_old, NULL, "leave what was there as DIR.old" },
        { "--max-bytes", 0, CLI_TEXT, &max, "SIZE",
          "refuse a backup that unpacks to more (default: free space)" },
        { "--json", 0, CLI_FLAG, &json, NULL, "what was done, as JSON" },
        CLI_COMMON_OPTIONS(common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice restore FILE|DIR|- [--force] [options]",
        "Puts a backup in the place of the data directory. It is unpacked beside it and checked, "
        "every name,\nsum and database; then the two change places in one step. On any failure the "
        "data directory stays\nas it was. Servers that use it must be stopped.",
        options,
        "Models that are there stay, unless the backup has its own. A configuration in the backup "
        "becomes\nrestored-config.yaml in the data directory.",
    };
    sl_err err = { 0 };
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    if (argc != 2)
        return cli_usage("restore takes one backup: a file, a directory, or -");
    o.from = argv[1];
    cli_catch_interrupt();
    return restore(&common, &o, max, json, &err) == SL_OK ? CLI_OK : cli_fail(&err);
}
