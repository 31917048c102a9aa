/* config_show.c - the configuration in text: as it applies, its schema, and what two differ in. */
#include "app/config_tree.h"

#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"

/* ---- values -------------------------------------------------------------------------------- */

static bool is_set(const config_leaf *leaf)
{
    switch (leaf->type->type) {
    case CYAML_STRING:
        return *(char **)leaf->at != NULL;
    case CYAML_FLOAT:
        return leaf->type->data_size == sizeof(double) ? *(double *)leaf->at != 0
                                                       : *(float *)leaf->at != 0;
    case CYAML_BOOL:
        return *(bool *)leaf->at;
    default:
        return config_leaf_int(leaf) != 0;
    }
}

static void put_value(sl_buf *out, const config_leaf *leaf)
{
    const char *text;

    switch (leaf->type->type) {
    case CYAML_STRING:
        text = *(char **)leaf->at ? *(char **)leaf->at : "";
        sl_buf_put_json(out, text, strlen(text));
        break;
    case CYAML_FLOAT:
        sl_buf_printf(out, "%.15g",
                      leaf->type->data_size == sizeof(double) ? *(double *)leaf->at
                                                              : (double)*(float *)leaf->at);
        break;
    case CYAML_BOOL:
        sl_buf_puts(out, *(bool *)leaf->at ? "true" : "false");
        break;
    default:
        sl_buf_printf(out, "%lld", (long long)config_leaf_int(leaf));
    }
}

static sl_status show_leaf(void *ctx, const config_leaf *leaf, sl_err *err)
{
    const config_key *key = config_key_find(leaf->schema_path);
    sl_buf *out = ctx;

    (void)err;
    if (!is_set(leaf)) {
        if (key && key->shown_default && !leaf->in_list)
            sl_buf_printf(out, "# %s: %s\n", leaf->path, key->shown_default);
        return SL_OK;
    }
    sl_buf_printf(out, "%s: ", leaf->path);
    if (key && key->is_secret)
        sl_buf_puts(out, "\"***\"");
    else
        put_value(out, leaf);
    sl_buf_putc(out, '\n');
    return SL_OK;
}

void config_show(config *c, sl_buf *out)
{
    (void)config_walk(c, show_leaf, out, NULL);
}

/* ---- differences --------------------------------------------------------------------------- */

typedef struct line {
    char path[256]; /* with [] */
    char *value;    /* path and value */
} line;

typedef struct lines {
    line *items;
    size_t count, cap;
    bool failed;
} lines;

static sl_status note_leaf(void *ctx, const config_leaf *leaf, sl_err *err)
{
    lines *l = ctx;
    sl_buf b;

    (void)err;
    if (!sl_grow((void **)&l->items, &l->cap, l->count + 1, sizeof *l->items, 1 << 20)) {
        l->failed = true;
        return SL_OK;
    }
    sl_buf_init(&b, SL_MIB);
    sl_buf_printf(&b, "%s=", leaf->path);
    put_value(&b, leaf);
    l->items[l->count].value = sl_strdup(sl_buf_str(&b));
    snprintf(l->items[l->count].path, sizeof l->items[0].path, "%s", leaf->schema_path);
    l->failed = l->failed || !l->items[l->count].value;
    l->count++;
    sl_buf_deinit(&b);
    return SL_OK;
}

static void lines_deinit(lines *l)
{
    for (size_t i = 0; i < l->count; i++)
        sl_free(l->items[i].value);
    sl_free(l->items);
}

static bool has_line(const lines *l, const char *value)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->items[i].value, value) == 0)
            return true;
    return false;
}

/* Tells each key whose value is in `a` and not in `b`, once in a row. */
static void tell_missing(const lines *a, const lines *b, config_changed_fn fn, void *ctx)
{
    for (size_t i = 0; i < a->count; i++) {
        const config_key *key = config_key_find(a->items[i].path);

        if (!has_line(b, a->items[i].value))
            fn(ctx, a->items[i].path, key && key->reloads);
    }
}

sl_status config_compare(config *a, config *b, config_changed_fn fn, void *ctx, sl_err *err)
{
    lines la = { 0 }, lb = { 0 };
    bool failed;

    (void)config_walk(a, note_leaf, &la, NULL);
    (void)config_walk(b, note_leaf, &lb, NULL);
    failed = la.failed || lb.failed;
    if (!failed) {
        tell_missing(&la, &lb, fn, ctx);
        tell_missing(&lb, &la, fn, ctx);
    }
    lines_deinit(&la);
    lines_deinit(&lb);
    return failed ? sl_fail(err, SL_ENOMEM, "out of memory") : SL_OK;
}

/* ---- the schema ---------------------------------------------------------------------------- */

static void put_type(sl_buf *out, const cyaml_schema_value_t *v, const char *path);

static void put_mapping(sl_buf *out, const cyaml_schema_field_t *f, const char *path)
{
    char inner[256];
    bool first = true;

    sl_buf_puts(out, "\"type\":\"object\",\"additionalProperties\":false,\"properties\":{");
    for (; f->key; f++) {
        snprintf(inner, sizeof inner, "%.180s%s%.60s", path, *path ? "." : "", f->key);
        sl_buf_puts(out, first ? "" : ",");
        first = false;
        sl_buf_printf(out, "\"%s\":{", f->key);
        put_type(out, &f->value, inner);
        sl_buf_putc(out, '}');
    }
    sl_buf_putc(out, '}');
}

static void put_scalar(sl_buf *out, const cyaml_schema_value_t *v, const char *path)
{
    const config_key *key = config_key_find(path);
    const char *type = v->type == CYAML_STRING  ? "string"
                       : v->type == CYAML_FLOAT ? "number"
                       : v->type == CYAML_BOOL  ? "boolean"
                                                : "integer";

    if (strcmp(path, "listen") == 0)
        sl_buf_puts(out, "\"type\":[\"string\",\"array\"],\"items\":{\"type\":\"string\"}");
    else
        sl_buf_printf(out, "\"type\":\"%s\"", type);
    if (!key)
        return;
    if (key->help) {
        sl_buf_puts(out, ",\"description\":");
        sl_buf_put_json(out, key->help, strlen(key->help));
    }
    if (key->shown_default) {
        sl_buf_puts(out, ",\"default\":");
        if (v->type == CYAML_STRING)
            sl_buf_put_json(out, key->shown_default, strlen(key->shown_default));
        else
            sl_buf_puts(out, key->shown_default);
    }
    sl_buf_printf(out, ",\"x-reloads\":%s", key->reloads ? "true" : "false");
    if (key->is_secret)
        sl_buf_puts(out, ",\"writeOnly\":true");
}

static void put_type(sl_buf *out, const cyaml_schema_value_t *v, const char *path)
{
    char inner[256];

    if (v->type == CYAML_MAPPING) {
        put_mapping(out, v->mapping.fields, path);
    } else if (v->type == CYAML_SEQUENCE) {
        snprintf(inner, sizeof inner, "%.200s[]", path);
        sl_buf_puts(out, "\"type\":\"array\",\"items\":{");
        put_type(out, v->sequence.entry, inner);
        sl_buf_putc(out, '}');
    } else {
        put_scalar(out, v, path);
    }
}

void config_schema(sl_buf *out)
{
    sl_buf_puts(out, "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\","
                     "\"title\":\"Sluice configuration\",");
    put_mapping(out, config_root_fields, "");
    sl_buf_putc(out, '}');
}
