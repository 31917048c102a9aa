/* json.c - JSON and JSON Lines: what the values say, each under the names that lead to it.
 *
 * An array of flat objects with the same names is a table. Everything else is a paragraph per
 * object: "name: value" lines, names of nested objects joined by dots. A field named text, content,
 * body or the like is written as it stands, since that is what a record is about. */
#include <jansson.h>
#include <stdio.h>
#include <strings.h>

#include "reader/reader_int.h"

#define PATH_BYTES 256
#define DEPTH_MAX  64

typedef struct json_writer {
    reader_out *out;
    char path[PATH_BYTES];
} json_writer;

static void put_scalar(reader_out *out, const json_t *v)
{
    char number[64];

    if (json_is_string(v)) {
        reader_put(out, json_string_value(v), json_string_length(v));
        return;
    }
    if (json_is_integer(v))
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        snprintf(number, sizeof number, "%.15g", json_real_value(v));
    else
        snprintf(number, sizeof number, "%s", json_is_true(v) ? "true" : "false");
    reader_puts(out, number);
}

/* ---- tables --------------------------------------------------------------------------------- */

static bool is_scalar(const json_t *v)
{
    return !json_is_object(v) && !json_is_array(v);
}

/* At least two objects of at least two scalars, all with the names of the first. */
static bool is_table(const json_t *array)
{
    const json_t *first = json_array_get(array, 0);
    size_t i;
    json_t *row, *v;
    const char *key;

    if (json_array_size(array) < 2 || json_object_size(first) < 2)
        return false;
    json_array_foreach(array, i, row)
    {
        if (json_object_size(row) != json_object_size(first))
            return false;
        json_object_foreach(row, key, v) if (!is_scalar(v) || !json_object_get(first, key) ||
                                             json_string_length(v) > 200) return false;
    }
    return true;
}

static void cell_put(reader_row *row, const json_t *v)
{
    reader_out one;

    reader_out_init(&one, READER_CELL_BYTES * 2);
    if (!json_is_null(v))
        put_scalar(&one, v);
    reader_cell_put(row, sl_buf_str(&one.text), one.text.len);
    reader_cell_end(row, 1);
    reader_out_deinit(&one);
}

static void put_table(reader_out *out, json_t *array)
{
    json_t *first = json_array_get(array, 0), *v, *object;
    const char *key;
    reader_row row;
    size_t i;

    reader_row_init(&row);
    reader_table(out);
    json_object_foreach(first, key, v)
    {
        reader_cell_put(&row, key, strlen(key));
        reader_cell_end(&row, 1);
    }
    reader_row_put(out, &row, true, true);
    json_array_foreach(array, i, object)
    {
        json_object_foreach(first, key, v) cell_put(&row, json_object_get(object, key));
        reader_row_put(out, &row, false, true);
    }
    reader_row_deinit(&row);
    reader_table(out);
}

/* ---- values --------------------------------------------------------------------------------- */

static bool is_prose(const char *key)
{
    static const char *const names[] = { "text",     "content",     "body",
                                         "abstract", "description", "passage",
                                         "article",  "summary",     "page_content" };

    for (size_t i = 0; i < SL_COUNT_OF(names); i++)
        if (strcasecmp(key, names[i]) == 0)
            return true;
    return false;
}

static void put_value(json_writer *w, json_t *v, size_t path, int depth);

/* A name: "author.name: value" on a line of the open paragraph. */
static void put_member(json_writer *w, const char *key, json_t *v, size_t path, int depth)
{
    size_t len = path;
    int n = snprintf(w->path + path, sizeof w->path - path, path ? ".%s" : "%s", key);

    len = SL_MIN(path + (size_t)SL_MAX(n, 0), sizeof w->path - 1);
    if (!is_scalar(v)) {
        put_value(w, v, len, depth + 1);
    } else if (json_is_string(v) && is_prose(key) && json_string_length(v) > 60) {
        reader_end(w->out);
        put_scalar(w->out, v);
        reader_end(w->out);
    } else if (!json_is_null(v) && !(json_is_string(v) && json_string_length(v) == 0)) {
        reader_put_break(w->out);
        reader_put(w->out, w->path, len);
        reader_puts(w->out, ": ");
        put_scalar(w->out, v);
    }
    w->path[path] = '\0';
}

static void put_array(json_writer *w, json_t *array, size_t path, int depth)
{
    json_t *v;
    size_t i;
    bool is_flat = true;

    json_array_foreach(array, i, v) is_flat = is_flat && is_scalar(v);
    if (is_flat && json_array_size(array) > 0) {
        reader_put_break(w->out);
        reader_put(w->out, w->path, path);
        if (path)
            reader_puts(w->out, ": ");
        json_array_foreach(array, i, v)
        {
            if (i)
                reader_puts(w->out, ", ");
            if (!json_is_null(v))
                put_scalar(w->out, v);
        }
        return;
    }
    if (is_table(array)) {
        put_table(w->out, array);
        return;
    }
    json_array_foreach(array, i, v)
    {
        reader_end(w->out);
        put_value(w, v, path, depth + 1);
    }
    reader_end(w->out);
}

static void put_value(json_writer *w, json_t *v, size_t path, int depth)
{
    const char *key;
    json_t *member;

    if (depth > DEPTH_MAX)
        return;
    if (json_is_array(v)) {
        put_array(w, v, path, depth);
    } else if (json_is_object(v)) {
        json_object_foreach(v, key, member) put_member(w, key, member, path, depth);
    } else if (!json_is_null(v)) {
        reader_put_break(w->out);
        put_scalar(w->out, v);
    }
}

/* The title of a record: its field of that name. */
static void take_title(reader_out *out, const json_t *v)
{
    const json_t *title = json_object_get(v, "title");

    if (json_is_string(title))
        reader_title(out, json_string_value(title), json_string_length(title));
}

static sl_status put_document(const char *text, size_t len, reader_out *out, sl_err *err)
{
    json_writer w = { .out = out };
    json_error_t why;
    json_t *v = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);

    if (!v)
        return sl_fail(err, SL_EFORMAT, "the JSON is wrong at line %d, column %d: %s", why.line,
                       why.column, why.text);
    take_title(out, v);
    put_value(&w, v, 0, 0);
    reader_end(out);
    json_decref(v);
    return SL_OK;
}

static sl_status put_lines(const char *text, size_t len, reader_out *out, sl_err *err)
{
    size_t number = 0;

    for (size_t at = 0; at < len && !out->text.failed && !out->failed;) {
        json_writer w = { .out = out };
        const char *nl = memchr(text + at, '\n', len - at);
        size_t end = nl ? (size_t)(nl - text) : len;
        json_error_t why;
        json_t *v;

        number++;
        if (at + strspn(text + at, " \t\r\n") < end) {
            v = json_loadb(text + at, end - at, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
            if (!v)
                return sl_fail(err, SL_EFORMAT, "line %zu is no JSON: %s", number, why.text);
            put_value(&w, v, 0, 0);
            reader_end(out);
            json_decref(v);
        }
        at = end + (nl != NULL);
    }
    return SL_OK;
}

sl_status reader_json(sl_span bytes, bool is_lines, reader_out *out, sl_err *err)
{
    sl_buf text;
    sl_status status;

    sl_buf_init(&text, READER_PART_BYTES);
    status = reader_decode(bytes, NULL, &text, err);
    if (status == SL_OK)
        status = is_lines ? put_lines(sl_buf_str(&text), text.len, out, err)
                          : put_document(sl_buf_str(&text), text.len, out, err);
    sl_buf_deinit(&text);
    return status;
}
