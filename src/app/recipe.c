/* recipe.c - from a recipe to a manifest, and back to a Modelfile. */
#include "app/recipe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/defaults.h"
#include "app/gotemplate.h"
#include "token/token.h"

#define FILES_MAX 1100

sl_status recipe_name(const char *name, char ret[129], sl_err *err)
{
    size_t len = strlen(name);

    if (len > 7 && strcmp(name + len - 7, ":latest") == 0)
        len -= 7;
    if (len > 128)
        return sl_fail(err, SL_EINVAL, "the model's name is too long");
    memcpy(ret, name, len);
    ret[len] = '\0';
    if (!model_store_name_ok(ret))
        return sl_fail(err, SL_EINVAL,
                       "'%.128s' is not a model name: use letters, digits, '.', '_', '-', ':' and "
                       "'/' between names",
                       ret);
    return SL_OK;
}

static void tell(const llm_progress_sink *sink, const char *status)
{
    if (sink && sink->fn)
        sink->fn(sink->ctx, &(llm_progress){ .status = status });
}

/* ---- files --------------------------------------------------------------------------------- */

typedef struct file_list {
    model_store_file *files; /* paths point into the JSON they came from */
    size_t count;
} file_list;

static sl_status add_file(file_list *l, const char *path, const char *sha256, uint64_t bytes,
                          sl_err *err)
{
    if (!path || !sha256 || strlen(sha256) != 64)
        return sl_fail(err, SL_EFORMAT, "a file of the model has no name or no sum");
    if (l->count == FILES_MAX)
        return sl_fail(err, SL_ELIMIT, "more than %d files", FILES_MAX);
    l->files[l->count] = (model_store_file){ .path = path, .bytes = bytes };
    memcpy(l->files[l->count].sha256, sha256, 65);
    l->count++;
    return SL_OK;
}

static sl_status files_of_base(const json_t *manifest, file_list *ret, sl_err *err)
{
    size_t i;
    json_t *f;

    json_array_foreach(json_object_get(manifest, "files"), i, f)
        SL_TRY(add_file(ret, json_string_value(json_object_get(f, "path")),
                        json_string_value(json_object_get(f, "sha256")),
                        (uint64_t)json_integer_value(json_object_get(f, "bytes")), err));
    return SL_OK;
}

/* Opens a single blob to see that it is a model; of several files the store's tree is looked at
 * once it is there. */
static sl_status check_blob(const model_store *s, const model_store_file *file, sl_err *err)
{
    model_file *m = NULL;
    model_params p;
    sl_buf path;
    sl_status status;

    sl_buf_init(&path, 8192);
    status = model_store_blob(s, file->sha256, &path, err);
    if (status == SL_OK)
        status = model_file_open(path.ptr, &m, err);
    if (status == SL_OK)
        status = model_file_params(m, &p, err);
    model_file_close(m);
    sl_buf_deinit(&path);
    return status;
}

static sl_status files_of_blobs(const model_store *s, const json_t *files, file_list *ret,
                                sl_err *err)
{
    const char *name;
    json_t *digest;

    json_object_foreach((json_t *)(uintptr_t)files, name, digest)
    {
        const char *text = json_string_value(digest);
        sl_buf path;
        uint64_t bytes = 0;
        char sum[MODEL_SHA256_HEX];
        sl_status status;

        if (!text || strncmp(text, "sha256:", 7) != 0 || !model_store_has_blob(s, text + 7))
            return sl_fail(err, SL_EINVAL, "file '%.100s': its blob is not here; upload it first",
                           name);
        sl_buf_init(&path, 8192);
        status = model_store_blob(s, text + 7, &path, err);
        if (status == SL_OK)
            status = model_sha256_file(path.ptr, sum, &bytes, err);
        sl_buf_deinit(&path);
        if (status == SL_OK)
            status = add_file(ret, name, text + 7, bytes, err);
        if (status != SL_OK)
            return status;
    }
    return ret->count == 1 ? check_blob(s, &ret->files[0], err) : SL_OK;
}

/* ---- what the manifest adds ------------------------------------------------------------------ */

static sl_status check_template(const char *text, sl_err *err)
{
    token_template *t = NULL;
    sl_buf jinja;
    sl_status status = SL_OK;

    sl_buf_init(&jinja, SL_TEMPLATE_BYTES_MAX);
    if (gotemplate_is(text))
        status = gotemplate_to_jinja(text, strlen(text), &jinja, err);
    else
        sl_buf_puts(&jinja, text);
    if (status == SL_OK)
        status = token_template_parse(sl_buf_str(&jinja), jinja.len, &t, err);
    token_template_destroy(t);
    sl_buf_deinit(&jinja);
    return status == SL_OK ? SL_OK : sl_err_prefix(err, SL_EINVAL, "TEMPLATE");
}

static sl_status check_recipe(const llm_recipe *r, sl_err *err)
{
    const char *name;
    json_t *v;

    if (r->template_text && r->template_text[0])
        SL_TRY(check_template(r->template_text, err));
    json_object_foreach(r->parameters, name, v)
    {
        sl_status status = model_parameter_check(name, v, err);

        if (status != SL_OK && status != SL_ENOTFOUND)
            return status;
    }
    return SL_OK;
}

static void set_text(json_t *more, const char *key, const char *text)
{
    if (text)
        json_object_set_new(more, key, json_string(text));
}

static void set_json(json_t *more, const char *key, json_t *v)
{
    if (v)
        json_object_set(more, key, v);
}

/* The base's additions, then the recipe's over them. NULL: out of memory. */
static json_t *additions(const json_t *base, const llm_recipe *r)
{
    static const char *const keys[] = { "parameters", "system", "template", "messages", "license" };
    json_t *more = json_object(), *parameters = json_object();
    const char *from = json_string_value(json_object_get(base, "name"));

    for (size_t i = 0; i < SL_COUNT_OF(keys); i++)
        set_json(more, keys[i], json_object_get(base, keys[i]));
    set_text(more, "base", from);
    set_text(more, "system", r->system);
    set_text(more, "template", r->template_text);
    set_json(more, "messages", r->messages);
    set_json(more, "license", r->licenses);
    if (json_object_get(more, "parameters"))
        json_object_update(parameters, json_object_get(more, "parameters"));
    if (r->parameters)
        json_object_update(parameters, r->parameters);
    if (json_object_size(parameters) > 0)
        json_object_set(more, "parameters", parameters);
    json_decref(parameters);
    return more;
}

static sl_status write_manifest(model_store *s, const char *name, const json_t *base,
                                const llm_recipe *r, file_list *l, const llm_progress_sink *sink,
                                sl_err *err)
{
    const char *source = json_string_value(json_object_get(base, "source"));
    json_t *more;
    char line[100];
    sl_status status;

    if (base)
        SL_TRY(files_of_base(base, l, err));
    else
        SL_TRY(files_of_blobs(s, r->files, l, err));
    for (size_t i = 0; i < l->count; i++) {
        snprintf(line, sizeof line, "using existing layer sha256:%s", l->files[i].sha256);
        tell(sink, line);
    }
    tell(sink, "writing manifest");
    more = additions(base, r);
    status =
        model_store_put_made(s, name, source ? source : "upload", l->files, l->count, more, err);
    json_decref(more);
    return status;
}

sl_status recipe_create(model_store *s, const llm_recipe *r, const llm_progress_sink *sink,
                        sl_err *err)
{
    file_list l = { .files = sl_calloc(FILES_MAX, sizeof *l.files) };
    json_t *base = NULL;
    char name[129], from[129];
    sl_status status = l.files ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");

    if (status == SL_OK)
        status = recipe_name(r->name, name, err);
    if (status == SL_OK)
        status = check_recipe(r, err);
    if (status == SL_OK && r->from) {
        tell(sink, "reading model metadata");
        status = recipe_name(r->from, from, err);
        if (status == SL_OK)
            status = model_store_manifest(s, from, &base, err);
    }
    if (status == SL_OK)
        status = write_manifest(s, name, base, r, &l, sink, err);
    json_decref(base);
    sl_free(l.files);
    return status;
}

sl_status recipe_copy(model_store *s, const char *from, const char *to, sl_err *err)
{
    file_list l = { .files = sl_calloc(FILES_MAX, sizeof *l.files) };
    json_t *base = NULL;
    char name[129], source[129];
    sl_status status = l.files ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");

    if (status == SL_OK)
        status = recipe_name(to, name, err);
    if (status == SL_OK)
        status = recipe_name(from, source, err);
    if (status == SL_OK)
        status = model_store_manifest(s, source, &base, err);
    if (status == SL_OK)
        status = files_of_base(base, &l, err);
    if (status == SL_OK) {
        const char *text = json_string_value(json_object_get(base, "source"));

        status = model_store_put_made(s, name, text ? text : "", l.files, l.count, base, err);
    }
    json_decref(base);
    sl_free(l.files);
    return status;
}

/* ---- back to text -------------------------------------------------------------------------- */

static void put_value(const json_t *v, sl_buf *out)
{
    if (json_is_string(v))
        sl_buf_put_json(out, json_string_value(v), json_string_length(v));
    else if (json_is_integer(v))
        sl_buf_printf(out, "%lld", (long long)json_integer_value(v));
    else if (json_is_number(v))
        sl_buf_printf(out, "%.9g", json_number_value(v));
    else
        sl_buf_puts(out, json_is_true(v) ? "true" : "false");
}

/* A text between quotes that it cannot end. */
static void put_text(const char *instruction, const char *text, sl_buf *out)
{
    if (!text)
        return;
    if (strchr(text, '\n') || strchr(text, '"'))
        sl_buf_printf(out, "%s \"\"\"%s\"\"\"\n", instruction, text);
    else
        sl_buf_printf(out, "%s \"%s\"\n", instruction, text);
}

/* As a line for people, or with a prefix as an instruction. */
static void put_parameter(const char *prefix, const char *name, const json_t *v, sl_buf *out)
{
    char instruction[100];

    snprintf(instruction, sizeof instruction, "%s%.60s", prefix, name);
    if (*prefix && json_is_string(v)) {
        put_text(instruction, json_string_value(v), out);
        return;
    }
    sl_buf_printf(out, *prefix ? "%s " : "%-30s ", instruction);
    put_value(v, out);
    sl_buf_putc(out, '\n');
}

void recipe_put_parameters(const json_t *manifest, const char *prefix, sl_buf *out)
{
    const char *name;
    json_t *v, *item;
    size_t i;

    json_object_foreach(json_object_get(manifest, "parameters"), name, v)
    {
        if (!json_is_array(v))
            put_parameter(prefix, name, v, out);
        json_array_foreach(v, i, item) put_parameter(prefix, name, item, out);
    }
}

void recipe_put_modelfile(const json_t *manifest, const char *template_text, sl_buf *out)
{
    const char *base = json_string_value(json_object_get(manifest, "base"));
    const char *name = json_string_value(json_object_get(manifest, "name"));
    size_t i;
    json_t *v;

    sl_buf_puts(out, "# Modelfile generated by \"sluice show\"\n");
    sl_buf_printf(out, "FROM %s\n", base ? base : name ? name : "");
    put_text("TEMPLATE", template_text, out);
    put_text("SYSTEM", json_string_value(json_object_get(manifest, "system")), out);
    recipe_put_parameters(manifest, "PARAMETER ", out);
    json_array_foreach(json_object_get(manifest, "messages"), i, v)
    {
        char instruction[64];
        const char *role = json_string_value(json_object_get(v, "role"));

        snprintf(instruction, sizeof instruction, "MESSAGE %.40s", role ? role : "user");
        put_text(instruction, json_string_value(json_object_get(v, "content")), out);
    }
    json_array_foreach(json_object_get(manifest, "license"), i, v)
        put_text("LICENSE", json_string_value(v), out);
}
