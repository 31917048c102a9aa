/* doctor.c - sluice doctor and config: is this machine fit, is this configuration right. */
#include <stdio.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/os.h"
#include "cli/cli.h"
#include "engine/engine.h"

typedef struct findings {
    json_t *list;
    bool json, bad;
} findings;

/* state: "ok", "warn" or "fail". */
static void report(findings *f, const char *check, const char *state, const char *fmt, ...)
    SL_PRINTF(4, 5);

static void report(findings *f, const char *check, const char *state, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    f->bad |= strcmp(state, "fail") == 0;
    if (f->json)
        json_array_append_new(
            f->list, json_pack("{s:s, s:s, s:s}", "check", check, "state", state, "text", text));
    else
        printf("%-4s  %-10s %s\n", state, check, text);
}

static void check_cpu(findings *f)
{
    kernels k;

    kernels_init(&k, engine_cpu());
    report(f, "cpu", engine_cpu() ? "ok" : "warn", "%d processors, kernels: %s%s", sl_cpu_count(),
           k.isa, engine_cpu() ? "" : " (no AVX2: everything works, slowly)");
}

static void check_memory(findings *f)
{
    struct sysinfo info;
    double gib = 0, free_gib = 0;

    if (sysinfo(&info) == 0) {
        gib = (double)info.totalram * info.mem_unit / (double)SL_GIB;
        free_gib = (double)(info.freeram + info.bufferram) * info.mem_unit / (double)SL_GIB;
    }
    report(f, "memory", gib >= 2 ? "ok" : "warn", "%.1f GiB, %.1f GiB free", gib, free_gib);
}

static void check_data(findings *f, const config *c)
{
    struct statvfs st;
    sl_err err = { 0 };

    if (sl_mkdirs(c->data, &err) != SL_OK || access(c->data, W_OK) != 0) {
        report(f, "data", "fail", "%s cannot be written; give --data DIR", c->data);
        return;
    }
    if (statvfs(c->data, &st) == 0) {
        double gib = (double)st.f_bavail * (double)st.f_frsize / (double)SL_GIB;

        report(f, "data", gib >= 1 ? "ok" : "warn", "%s, %.1f GiB free", c->data, gib);
    }
}

/* Every stored model can be opened. */
static void check_models(findings *f, const config *c)
{
    model_store *s = NULL;
    json_t *list = NULL, *m;
    sl_err err = { 0 };
    size_t i;

    if (model_store_open(c->data, &s, &err) != SL_OK || model_store_list(s, &list, &err) != SL_OK) {
        report(f, "models", "fail", "%s", err.text);
        model_store_close(s);
        return;
    }
    if (json_array_size(list) == 0)
        report(f, "models", "warn",
               "none yet; fetch the defaults with: sluice pull smollm2 minilm");
    json_array_foreach(list, i, m)
    {
        const char *name = json_string_value(json_object_get(m, "name"));
        model_file *file = NULL;
        model_params p;
        sl_buf path;

        sl_buf_init(&path, 8192);
        if (model_store_resolve(s, name, &path, &err) == SL_OK &&
            model_file_open(path.ptr, &file, &err) == SL_OK &&
            model_file_params(file, &p, &err) == SL_OK)
            report(f, "model", "ok", "%s: %s %s, %.0f MB", name, p.arch_name,
                   model_file_quant(file), (double)model_file_bytes(file) / 1e6);
        else
            report(f, "model", "fail", "%s: %s", name, err.text);
        model_file_close(file);
        sl_buf_deinit(&path);
    }
    json_decref(list);
    model_store_close(s);
}

int cmd_doctor(int argc, char **argv)
{
    cli_common common = { 0 };
    findings f = { 0 };
    const cli_option options[] = {
        { "--json", 0, CLI_FLAG, &f.json, NULL, "as a JSON array" },
        CLI_COMMON_OPTIONS(common),
        { 0 },
    };
    const cli_command cmd = { "sluice doctor [options]",
                              "Checks this machine: processor, memory, data directory, models.",
                              options, NULL };
    config *c = NULL;
    sl_err err = { 0 };
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    f.list = json_array();
    if (cli_config(&common, true, &c, &err) != SL_OK) {
        report(&f, "config", "fail", "%s", err.text);
    } else {
        check_cpu(&f);
        check_memory(&f);
        check_data(&f, c);
        check_models(&f, c);
    }
    if (f.json) {
        json_dumpf(f.list, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    json_decref(f.list);
    config_destroy(c);
    return f.bad ? CLI_FAILED : CLI_OK;
}
