/* config_tree.c - see the header. */
#include "app/config_tree.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/os.h"

#define PATH_BYTES   256
#define STRING_BYTES (64 * SL_KIB)
#define FILE_BYTES   8192

/* ---- walking ------------------------------------------------------------------------------- */

typedef struct walk {
    config_leaf_fn fn;
    void *ctx;
    sl_err *err;
} walk;

static sl_status walk_value(const walk *w, const cyaml_schema_value_t *type, void *at,
                            const char *path, const char *schema_path, bool in_list);

static sl_status walk_mapping(const walk *w, const cyaml_schema_field_t *f, char *base,
                              const char *path, const char *schema_path, bool in_list);

static size_t read_count(const cyaml_schema_field_t *f, const char *base)
{
    uint64_t n = 0;

    memcpy(&n, base + f->count_offset, SL_MIN(f->count_size, sizeof n));
    return (size_t)n;
}

static sl_status walk_sequence(const walk *w, const cyaml_schema_field_t *f, char *base,
                               const char *path, const char *schema_path)
{
    const cyaml_schema_value_t *entry = f->value.sequence.entry;
    char *items = *(char **)(base + f->data_offset);
    size_t count = read_count(f, base);
    bool is_ptr = entry->flags & CYAML_FLAG_POINTER;
    char inner[PATH_BYTES], schema_inner[PATH_BYTES];

    snprintf(schema_inner, sizeof schema_inner, "%.200s[]", schema_path);
    for (size_t i = 0; items && i < count; i++) {
        char *at = items + i * (is_ptr ? sizeof(char *) : entry->data_size);

        snprintf(inner, sizeof inner, "%.200s[%zu]", path, i);
        SL_TRY(walk_value(w, entry, at, inner, schema_inner, true));
    }
    return SL_OK;
}

/* `at` holds the value, or the pointer to it where the schema says pointer. */
static sl_status walk_value(const walk *w, const cyaml_schema_value_t *type, void *at,
                            const char *path, const char *schema_path, bool in_list)
{
    const config_leaf leaf = { path, schema_path, type, at, in_list };

    if (type->type != CYAML_MAPPING)
        return w->fn(w->ctx, &leaf, w->err);
    if (type->flags & CYAML_FLAG_POINTER)
        at = *(void **)at;
    return at ? walk_mapping(w, type->mapping.fields, at, path, schema_path, in_list) : SL_OK;
}

static sl_status walk_mapping(const walk *w, const cyaml_schema_field_t *f, char *base,
                              const char *path, const char *schema_path, bool in_list)
{
    char inner[PATH_BYTES], schema_inner[PATH_BYTES];

    for (; f->key; f++) {
        snprintf(inner, sizeof inner, "%.180s%s%.60s", path, *path ? "." : "", f->key);
        snprintf(schema_inner, sizeof schema_inner, "%.180s%s%.60s", schema_path,
                 *schema_path ? "." : "", f->key);
        if (f->value.type == CYAML_SEQUENCE)
            SL_TRY(walk_sequence(w, f, base, inner, schema_inner));
        else
            SL_TRY(walk_value(w, &f->value, base + f->data_offset, inner, schema_inner, in_list));
    }
    return SL_OK;
}

sl_status config_walk(config *c, config_leaf_fn fn, void *ctx, sl_err *err)
{
    const walk w = { fn, ctx, err };

    return walk_mapping(&w, config_root_fields, (char *)c, "", "", false);
}

int64_t config_leaf_int(const config_leaf *leaf)
{
    switch (leaf->type->data_size) {
    case 1:
        return *(int8_t *)leaf->at;
    case 2:
        return *(int16_t *)leaf->at;
    case 4:
        return *(int32_t *)leaf->at;
    default:
        return *(int64_t *)leaf->at;
    }
}

/* ---- the environment ----------------------------------------------------------------------- */

static sl_status set_int(const config_leaf *leaf, const char *name, const char *text, sl_err *err)
{
    int64_t max = leaf->type->data_size == 8 ? INT64_MAX : INT32_MAX;
    char *end;
    long long v = strtoll(text, &end, 10);

    if (*end || v < 0 || v > max)
        return sl_fail(err, SL_EINVAL, "%s is '%.80s', not a number from 0 on", name, text);
    if (leaf->type->data_size == 8)
        memcpy(leaf->at, &(int64_t){ v }, 8);
    else
        memcpy(leaf->at, &(int32_t){ (int32_t)v }, 4);
    return SL_OK;
}

static sl_status set_float(const config_leaf *leaf, const char *name, const char *text, sl_err *err)
{
    char *end;
    double v = strtod(text, &end);

    if (end == text || *end)
        return sl_fail(err, SL_EINVAL, "%s is '%.80s', not a number", name, text);
    if (leaf->type->data_size == sizeof(double))
        memcpy(leaf->at, &v, sizeof v);
    else
        memcpy(leaf->at, &(float){ (float)v }, sizeof(float));
    return SL_OK;
}

static sl_status set_bool(const config_leaf *leaf, const char *name, const char *text, sl_err *err)
{
    bool yes = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;

    if (!yes && strcmp(text, "false") != 0 && strcmp(text, "0") != 0)
        return sl_fail(err, SL_EINVAL, "%s is '%.80s'; write true or false", name, text);
    *(bool *)leaf->at = yes;
    return SL_OK;
}

static sl_status from_env(void *ctx, const config_leaf *leaf, sl_err *err)
{
    char name[PATH_BYTES + 8] = "SLUICE_";
    const char *text;
    size_t len = strlen(name);

    (void)ctx;
    if (leaf->in_list)
        return SL_OK;
    for (const char *p = leaf->path; *p; p++)
        name[len++] = (char)(*p == '.' ? '_' : toupper((unsigned char)*p));
    name[len] = '\0';
    text = getenv(name);
    if (!text || !text[0])
        return SL_OK;
    switch (leaf->type->type) {
    case CYAML_INT:
    case CYAML_UINT:
        return set_int(leaf, name, text, err);
    case CYAML_FLOAT:
        return set_float(leaf, name, text, err);
    case CYAML_BOOL:
        return set_bool(leaf, name, text, err);
    case CYAML_STRING:
        return config_set(leaf->at, text, err);
    default:
        return SL_OK;
    }
}

sl_status config_apply_env(config *c, sl_err *err)
{
    return config_walk(c, from_env, NULL, err);
}

/* ---- ${...} -------------------------------------------------------------------------------- */

/* Appends what ${what} stands for. */
static sl_status expand_one(const char *what, const char *path, sl_buf *out, sl_err *err)
{
    const char *value;
    sl_status status;
    sl_buf file;

    if (strncmp(what, "env:", 4) == 0) {
        value = getenv(what + 4);
        if (!value)
            return sl_fail(err, SL_EINVAL, "%s: the environment variable %.100s is not set", path,
                           what + 4);
        sl_buf_puts(out, value);
        return SL_OK;
    }
    if (strncmp(what, "file:", 5) != 0)
        return sl_fail(err, SL_EINVAL,
                       "%s: '${%.60s}' is not known; write ${env:NAME} or "
                       "${file:PATH}",
                       path, what);
    sl_buf_init(&file, FILE_BYTES);
    status = sl_file_read(what + 5, FILE_BYTES, &file, err);
    if (status == SL_OK) {
        while (file.len > 0 && isspace((unsigned char)file.ptr[file.len - 1]))
            file.len--;
        sl_buf_put(out, file.ptr, file.len);
    } else {
        status = sl_err_prefix(err, SL_EINVAL, "%s", path);
    }
    sl_buf_deinit(&file);
    return status;
}

static sl_status expand_text(const char *text, const char *path, sl_buf *out, sl_err *err)
{
    const char *open, *close;
    char what[512];

    while ((open = strstr(text, "${"))) {
        close = strchr(open, '}');
        if (!close || (size_t)(close - open) > sizeof what)
            return sl_fail(err, SL_EINVAL, "%s: '${' without its '}'", path);
        snprintf(what, sizeof what, "%.*s", (int)(close - open - 2), open + 2);
        sl_buf_put(out, text, (size_t)(open - text));
        SL_TRY(expand_one(what, path, out, err));
        text = close + 1;
    }
    sl_buf_puts(out, text);
    return sl_buf_ok(out, path, err);
}

static sl_status expand_leaf(void *ctx, const config_leaf *leaf, sl_err *err)
{
    char **text = leaf->at;
    sl_status status;
    sl_buf b;

    (void)ctx;
    if (leaf->type->type != CYAML_STRING || !*text || !strstr(*text, "${"))
        return SL_OK;
    sl_buf_init(&b, STRING_BYTES);
    status = expand_text(*text, leaf->path, &b, err);
    if (status == SL_OK)
        status = config_set(text, sl_buf_str(&b), err);
    sl_buf_deinit(&b);
    return status;
}

sl_status config_expand(config *c, sl_err *err)
{
    return config_walk(c, expand_leaf, NULL, err);
}

/* ---- names that are nearly right ----------------------------------------------------------- */

/* Levenshtein's distance between short words. */
static size_t distance(const char *a, const char *b)
{
    size_t row[64], la = strlen(a), lb = strlen(b);

    if (la >= SL_COUNT_OF(row) || lb >= SL_COUNT_OF(row))
        return SIZE_MAX;
    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t before = row[0];

        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t change = before + (a[i - 1] != b[j - 1]);

            before = row[j];
            row[j] = SL_MIN(SL_MIN(row[j] + 1, row[j - 1] + 1), change);
        }
    }
    return row[lb];
}

/* The fields of the mapping at a path of keys joined by dots; list entries need no mark. */
static const cyaml_schema_field_t *mapping_at(const char *path)
{
    const cyaml_schema_field_t *fields = config_root_fields;

    while (*path && fields) {
        size_t len = strcspn(path, ".");
        const cyaml_schema_field_t *f = fields;
        const cyaml_schema_value_t *v;

        while (f->key && (strlen(f->key) != len || strncmp(f->key, path, len) != 0))
            f++;
        if (!f->key)
            return NULL;
        v = f->value.type == CYAML_SEQUENCE ? f->value.sequence.entry : &f->value;
        fields = v->type == CYAML_MAPPING ? v->mapping.fields : NULL;
        path += len + (path[len] == '.');
    }
    return fields;
}

const char *config_nearest(const char *path, const char *name)
{
    const char *best = NULL;
    size_t least = 1 + strlen(name) / 2; /* more is another word */

    for (const cyaml_schema_field_t *f = mapping_at(path); f && f->key; f++) {
        size_t d = distance(name, f->key);

        if (d < least) {
            least = d;
            best = f->key;
        }
    }
    return best;
}
