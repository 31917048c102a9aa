/* made.c - sluice create and cp: models made from others. */
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "cli/cli.h"

#define MODELFILE_BYTES_MAX (4 * SL_MIB)

static void on_progress(void *ctx, const llm_progress *p)
{
    (void)ctx;
    fprintf(stderr, "%s\n", p->status);
}

/* FROM names a file: it becomes a model of the store first. Paths count from where the Modelfile
 * is.
 */
static sl_status take_file(model_store *s, const char *name, const char *modelfile_path,
                           const char **from, char ret_name[129], sl_err *err)
{
    char *copy = sl_strdup(modelfile_path);
    pull_options o = { .name = name };
    sl_buf path;
    sl_status status;

    if (!copy)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    sl_buf_init(&path, 8192);
    if ((*from)[0] != '/')
        sl_buf_printf(&path, "%s/", dirname(copy));
    sl_buf_puts(&path, *from);
    status = sl_buf_ok(&path, "path", err);
    if (status == SL_OK && !sl_file_exists(path.ptr))
        status = sl_fail(err, SL_ENOTFOUND, "FROM %s: no such file", path.ptr);
    if (status == SL_OK)
        status = pull_model(s, path.ptr, &o, ret_name, err);
    if (status == SL_OK)
        *from = ret_name;
    sl_buf_deinit(&path);
    sl_free(copy);
    return status;
}

/* A name of the store may look like a path, too. */
static bool is_path(const model_store *s, const char *from)
{
    size_t len = strlen(from);
    json_t *manifest = NULL;

    if (model_store_name_ok(from) && model_store_manifest(s, from, &manifest, NULL) == SL_OK) {
        json_decref(manifest);
        return false;
    }
    return strchr(from, '/') || from[0] == '.' || (len > 5 && strcmp(from + len - 5, ".gguf") == 0);
}

static sl_status create(const config *c, const char *name, const char *path, sl_err *err)
{
    const llm_progress_sink sink = { .fn = on_progress };
    char bare[129], got[129];
    model_store *s = NULL;
    modelfile f = { 0 };
    llm_recipe r;
    sl_buf text;
    sl_status status;

    SL_TRY(recipe_name(name, bare, err));
    sl_buf_init(&text, MODELFILE_BYTES_MAX);
    status = sl_file_read(path, MODELFILE_BYTES_MAX, &text, err);
    if (status == SL_OK)
        status = modelfile_parse(sl_buf_str(&text), text.len, &f, err);
    if (status == SL_OK)
        status = model_store_open(c->data, &s, err);
    if (status == SL_OK && is_path(s, f.from))
        status = take_file(s, bare, path, &f.from, got, err);
    r = (llm_recipe){ .name = bare,
                      .from = f.from,
                      .parameters = f.parameters,
                      .messages = f.messages,
                      .licenses = f.licenses,
                      .template_text = f.template_text,
                      .system = f.system };
    if (status == SL_OK)
        status = recipe_create(s, &r, &sink, err);
    model_store_close(s);
    modelfile_deinit(&f);
    sl_buf_deinit(&text);
    return status;
}

int cmd_create(int argc, char **argv)
{
    cli_common common = { 0 };
    const char *path = "Modelfile";
    const cli_option options[] = {
        { "--file", 'f', CLI_TEXT, &path, "FILE", "the Modelfile (default: Modelfile)" },
        CLI_COMMON_OPTIONS(common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice create NAME [-f Modelfile] [options]",
        "Makes a model from another: its files, with parameters, a system prompt, a template and\n"
        "messages of its own, which hold for requests that leave them out.",
        options,
        "Instructions: FROM, PARAMETER, SYSTEM, TEMPLATE (Jinja), MESSAGE, LICENSE. A server that "
        "runs\nsees the model within a second.",
    };
    config *c = NULL;
    sl_err err = { 0 };
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    if (argc != 2)
        return cli_usage("create takes the name of one model");
    status = cli_config(&common, true, &c, &err);
    if (status == SL_OK)
        status = create(c, argv[1], path, &err);
    if (status == SL_OK)
        printf("%s is ready\n", argv[1]);
    config_destroy(c);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}

int cmd_cp(int argc, char **argv)
{
    cli_common common = { 0 };
    const cli_option options[] = { CLI_COMMON_OPTIONS(common), { 0 } };
    const cli_command cmd = { "sluice cp MODEL NAME [options]",
                              "Gives a model of the store another name; its files are shared.",
                              options, NULL };
    model_store *s = NULL;
    config *c = NULL;
    sl_err err = { 0 };
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    if (argc != 3)
        return cli_usage("cp takes a model and a name");
    status = cli_config(&common, true, &c, &err);
    if (status == SL_OK)
        status = model_store_open(c->data, &s, &err);
    if (status == SL_OK)
        status = recipe_copy(s, argv[1], argv[2], &err);
    if (status == SL_OK)
        printf("%s is a copy of %s\n", argv[2], argv[1]);
    model_store_close(s);
    config_destroy(c);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}
