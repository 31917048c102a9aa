/* models.c - sluice pull, list, show and rm. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

/* ---- pull --------------------------------------------------------------------------------------
 */

typedef struct progress {
    bool terminal;
    int last_tenth;
    time_t last;
} progress;

static void on_progress(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    progress *p = ctx;
    double mb = (double)done / 1e6, total_mb = (double)total / 1e6;
    int tenth = total ? (int)(done * 10 / total) : 0, cells;

    if (!p->terminal) {
        if (total && tenth != p->last_tenth)
            fprintf(stderr, "%s: %.0f of %.0f MB\n", what, mb, total_mb);
        p->last_tenth = tenth;
        return;
    }
    if (total == 0) {
        fprintf(stderr, "\r%-24.24s %8.1f MB", what, mb);
        return;
    }
    cells = (int)(done * 30 / total);
    fprintf(stderr, "\r%-24.24s [", what);
    for (int i = 0; i < 30; i++)
        fputc(i < cells ? '#' : '.', stderr);
    fprintf(stderr, "] %6.1f / %.1f MB%s", mb, total_mb, done == total ? "\n" : "");
}

static int pull_one(model_store *s, const char *source, const pull_options *o, bool json)
{
    char name[129];
    sl_err err = { 0 };
    sl_buf path;

    if (pull_model(s, source, o, name, &err) != SL_OK) {
        if (((progress *)o->ctx)->terminal)
            fputc('\n', stderr); /* the bar's line is unfinished */
        return cli_fail(&err);
    }
    sl_buf_init(&path, 8192);
    if (model_store_resolve(s, name, &path, &err) != SL_OK) {
        sl_buf_deinit(&path);
        return cli_fail(&err);
    }
    if (json) {
        json_t *line = json_pack("{s:s, s:s}", "name", name, "path", path.ptr);

        json_dumpf(line, stdout, 0);
        putchar('\n');
        json_decref(line);
    } else {
        printf("%s is ready\n", name);
    }
    sl_buf_deinit(&path);
    return CLI_OK;
}

int cmd_pull(int argc, char **argv)
{
    cli_common common = { 0 };
    bool json = false, force = false;
    const char *name = NULL;
    progress p = { .terminal = isatty(STDERR_FILENO) };
    const cli_option options[] = {
        { "--name", 0, CLI_TEXT, &name, "NAME", "what to call it in the store" },
        { "--force", 0, CLI_FLAG, &force, NULL, "fetch again even if it is there" },
        { "--json", 0, CLI_FLAG, &json, NULL, "one JSON object per model" },
        CLI_COMMON_OPTIONS(common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice pull SOURCE... [options]",
        "Fetches models into the store: a known name (smollm2, minilm), hf:OWNER/REPO[:FILE or "
        "QUANT],\n"
        "a URL, or a local file or directory. An interrupted download resumes; every file is "
        "checked\n"
        "against its SHA-256 where the source gives one.",
        options,
        "Environment: PIP_INDEX_URL (registry of the known names), HF_ENDPOINT, HF_TOKEN.",
    };
    pull_options o = { .on_progress = on_progress, .ctx = &p, .cancelled = &cli_interrupted };
    model_store *s = NULL;
    config *c = NULL;
    sl_err err = { 0 };
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    if (argc < 2)
        return cli_usage("pull what? For example: sluice pull smollm2 minilm");
    if (name && argc > 2)
        return cli_usage("--name goes with a single model");
    cli_catch_interrupt();
    o.name = name;
    o.force = force;
    if (cli_config(&common, true, &c, &err) != SL_OK ||
        model_store_open(c->data, &s, &err) != SL_OK) {
        config_destroy(c);
        return cli_fail(&err);
    }
    for (int i = 1; i < argc; i++) {
        int one = pull_one(s, argv[i], &o, json);

        rc = one > rc ? one : rc;
    }
    model_store_close(s);
    config_destroy(c);
    return rc < 0 ? CLI_OK : rc;
}

/* ---- list --------------------------------------------------------------------------------------
 */

static uint64_t manifest_bytes(const json_t *m)
{
    uint64_t sum = 0;
    size_t i;
    json_t *f;

    json_array_foreach(json_object_get(m, "files"), i, f) sum +=
        (uint64_t)json_integer_value(json_object_get(f, "bytes"));
    return sum;
}

static void print_list(const json_t *list)
{
    size_t i;
    json_t *m;

    if (json_array_size(list) == 0) {
        printf("No models yet. Fetch the defaults with: sluice pull smollm2 minilm\n");
        return;
    }
    printf("%-32s %10s  %-16s %s\n", "NAME", "SIZE", "PULLED", "SOURCE");
    json_array_foreach((json_t *)(uintptr_t)list, i, m)
    {
        time_t at = (time_t)json_integer_value(json_object_get(m, "created"));
        char when[32];
        struct tm tm;

        localtime_r(&at, &tm);
        strftime(when, sizeof when, "%Y-%m-%d %H:%M", &tm);
        printf("%-32s %7.1f MB  %-16s %s\n", json_string_value(json_object_get(m, "name")),
               (double)manifest_bytes(m) / 1e6, when,
               json_string_value(json_object_get(m, "source")));
    }
}

int cmd_list(int argc, char **argv)
{
    cli_common common = { 0 };
    bool json = false;
    const cli_option options[] = {
        { "--json", 0, CLI_FLAG, &json, NULL, "a JSON array of manifests" },
        CLI_COMMON_OPTIONS(common),
        { 0 },
    };
    const cli_command cmd = { "sluice list [options]", "Lists the models in the store.", options,
                              NULL };
    model_store *s = NULL;
    config *c = NULL;
    json_t *list = NULL;
    sl_err err = { 0 };
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    status = cli_config(&common, true, &c, &err);
    if (status == SL_OK)
        status = model_store_open(c->data, &s, &err);
    if (status == SL_OK)
        status = model_store_list(s, &list, &err);
    if (status == SL_OK && json) {
        json_dumpf(list, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (status == SL_OK) {
        print_list(list);
    }
    json_decref(list);
    model_store_close(s);
    config_destroy(c);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}

/* ---- show --------------------------------------------------------------------------------------
 */

static json_t *describe(const model_file *m, const model_params *p, const char *path)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}",
                     "path", path, "architecture", p->arch_name, "name", p->name, "quantization",
                     model_file_quant(m), "parameters", (json_int_t)model_file_param_count(m),
                     "bytes", (json_int_t)model_file_bytes(m), "tensors",
                     (json_int_t)model_file_tensor_count(m), "context_length", p->context, "layers",
                     p->layers, "embedding_length", p->dim, "heads", p->heads, "kv_heads",
                     p->kv_heads, "head_dim", p->head_dim, "feed_forward_length", p->ff_dim,
                     "vocabulary", p->vocab);
}

static void print_tensors(const model_file *m)
{
    for (size_t i = 0; i < model_file_tensor_count(m); i++) {
        const tensor_info *t = model_file_tensor_at(m, i);

        printf("%-48.*s %-6s", (int)t->name.len, (const char *)t->name.ptr,
               tensor_type_name(t->type));
        for (uint32_t d = 0; d < t->dim_count; d++)
            printf("%s%llu", d ? " x " : " ", (unsigned long long)t->dims[d]);
        putchar('\n');
    }
}

static sl_status show(const char *path, bool json, bool tensors, sl_err *err)
{
    model_file *m = NULL;
    model_params p;
    json_t *info, *value;
    const char *key;
    sl_status status;

    SL_TRY(model_file_open(path, &m, err));
    status = model_file_params(m, &p, err);
    info = status == SL_OK ? describe(m, &p, path) : NULL;
    if (info && json) {
        json_dumpf(info, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (info) {
        json_object_foreach(info, key, value)
        {
            if (json_is_string(value))
                printf("%-22s %s\n", key, json_string_value(value));
            else
                printf("%-22s %lld\n", key, (long long)json_integer_value(value));
        }
    }
    if (tensors)
        print_tensors(m);
    json_decref(info);
    model_file_close(m);
    return status;
}

int cmd_show(int argc, char **argv)
{
    cli_common common = { 0 };
    bool json = false, tensors = false;
    const cli_option options[] = {
        { "--json", 0, CLI_FLAG, &json, NULL, "as a JSON object" },
        { "--tensors", 0, CLI_FLAG, &tensors, NULL, "every tensor with its type and shape" },
        CLI_COMMON_OPTIONS(common),
        { 0 },
    };
    const cli_command cmd = { "sluice show MODEL [options]",
                              "Shows what a model is: architecture, shape, quantization, size.",
                              options, NULL };
    config *c = NULL;
    sl_buf path;
    sl_err err = { 0 };
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    if (argc != 2)
        return cli_usage("show takes one model");
    sl_buf_init(&path, 8192);
    status = cli_config(&common, true, &c, &err);
    if (status == SL_OK)
        status = app_resolve_model(c, argv[1], &path, &err);
    if (status == SL_OK)
        status = show(path.ptr, json, tensors, &err);
    sl_buf_deinit(&path);
    config_destroy(c);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}

/* ---- rm ----------------------------------------------------------------------------------------
 */

int cmd_rm(int argc, char **argv)
{
    cli_common common = { 0 };
    const cli_option options[] = { CLI_COMMON_OPTIONS(common), { 0 } };
    const cli_command cmd = { "sluice rm MODEL... [options]",
                              "Removes models from the store, and the files no other model uses.",
                              options, NULL };
    model_store *s = NULL;
    config *c = NULL;
    sl_err err = { 0 };
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    if (argc < 2)
        return cli_usage("rm which model? 'sluice list' shows them");
    status = cli_config(&common, true, &c, &err);
    if (status == SL_OK)
        status = model_store_open(c->data, &s, &err);
    for (int i = 1; i < argc && status == SL_OK; i++) {
        status = model_store_remove(s, argv[i], &err);
        if (status == SL_OK)
            printf("%s is removed\n", argv[i]);
    }
    model_store_close(s);
    config_destroy(c);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}
