/* input.c - checking and ordering a batch's lines.
 *
 * Order: what the prefix cache can share is the beginning of prompts. Each line gets a hash of the
 * first 64, 256, ... bytes of its prompt; lines sorted by these hashes stand in groups that share
 * the longest beginnings, and the cache sees each group once. */
#include "jobs/input.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/limits.h"

#define ARENA_BYTES_MAX (256 * SL_MIB)

static const size_t prefix_bytes[INPUT_PREFIXES] = { 64, 256, 1024, 4096, 16384 };

/* ---- what is wrong -------------------------------------------------------------------------- */

static void add_error(input *in, int64_t line, const char *code, const char *param, const char *fmt,
                      ...) SL_PRINTF(5, 6);

static void add_error(input *in, int64_t line, const char *code, const char *param, const char *fmt,
                      ...)
{
    char text[400];
    va_list args;

    if (json_array_size(in->errors) >= SL_BATCH_ERRORS_MAX)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    text[sl_utf8_complete(text, strlen(text))] = '\0';
    json_array_append_new(in->errors,
                          json_pack("{s:s,s:s,s:s?,s:o}", "code", code, "message", text, "param",
                                    param, "line", line > 0 ? json_integer(line) : json_null()));
}

/* ---- custom ids ----------------------------------------------------------------------------- */

/* The place of an id in the table: its line's, or a free one. */
static uint32_t *place_of(const input *in, const char *id)
{
    size_t at = sl_hash(SL_HASH_START, id, strlen(id)) & (in->table_size - 1);

    while (in->table[at] && strcmp(in->lines[in->table[at] - 1].custom_id, id) != 0)
        at = (at + 1) & (in->table_size - 1);
    return &in->table[at];
}

static bool table_grow(input *in)
{
    uint32_t *old = in->table;

    if (in->table_size > in->count * 2)
        return true;
    in->table_size = in->table_size ? in->table_size * 2 : 1024;
    in->table = sl_calloc(in->table_size, sizeof *in->table);
    if (!in->table) {
        in->table = old;
        return false;
    }
    sl_free(old);
    for (size_t i = 0; i < in->count; i++)
        *place_of(in, in->lines[i].custom_id) = (uint32_t)i + 1;
    return true;
}

input_line *input_find(input *in, const char *custom_id)
{
    uint32_t found = in->table ? *place_of(in, custom_id) : 0;

    return found ? &in->lines[found - 1] : NULL;
}

/* ---- prompts -------------------------------------------------------------------------------- */

typedef struct prefix_hash {
    uint64_t h;
    size_t len;
    uint64_t *out; /* [INPUT_PREFIXES] */
    int next;
} prefix_hash;

static void hash_put(prefix_hash *p, const void *bytes, size_t len)
{
    const uint8_t *from = bytes;

    while (len > 0 && p->next < INPUT_PREFIXES) {
        size_t n = SL_MIN(len, prefix_bytes[p->next] - p->len);

        p->h = sl_hash(p->h, from, n);
        p->len += n;
        from += n;
        len -= n;
        if (p->len == prefix_bytes[p->next])
            p->out[p->next++] = p->h;
    }
}

static void hash_text(prefix_hash *p, const json_t *v)
{
    if (json_is_string(v))
        hash_put(p, json_string_value(v), json_string_length(v));
}

/* A message's content: a text, or parts with texts. */
static void hash_content(prefix_hash *p, const json_t *content)
{
    hash_text(p, content);
    for (size_t i = 0; json_is_array(content) && i < json_array_size(content); i++)
        hash_text(p, json_object_get(json_array_get(content, i), "text"));
}

static void hash_messages(prefix_hash *p, const json_t *messages)
{
    for (size_t i = 0; i < json_array_size(messages) && p->next < INPUT_PREFIXES; i++) {
        const json_t *m = json_array_get(messages, i);

        hash_text(p, json_object_get(m, "role"));
        hash_put(p, "", 1);
        hash_content(p, json_object_get(m, "content"));
        hash_put(p, "", 1);
    }
}

/* A completion's prompt: a text, or texts or token ids, of which the first count. */
static void hash_prompt(prefix_hash *p, const json_t *prompt)
{
    const json_t *first = json_array_get(prompt, 0);

    hash_text(p, prompt);
    if (json_is_string(first))
        hash_text(p, first);
    if (json_is_array(first))
        prompt = first;
    for (size_t i = 0; json_is_integer(json_array_get(prompt, i)) && p->next < INPUT_PREFIXES; i++)
        hash_put(p, &(json_int_t){ json_integer_value(json_array_get(prompt, i)) },
                 sizeof(json_int_t));
}

static void hash_line(const json_t *body, input_line *line)
{
    prefix_hash p = { .h = SL_HASH_START, .out = line->prefix };

    hash_text(&p, json_object_get(body, "instructions"));
    hash_messages(&p, json_object_get(body, "messages"));
    hash_prompt(&p, json_object_get(body, "prompt"));
    hash_text(&p, json_object_get(body, "input"));
    hash_messages(&p, json_object_get(body, "input"));
    while (p.next < INPUT_PREFIXES)
        p.out[p.next++] = p.h;
}

static int compare_lines(const void *a, const void *b)
{
    const input_line *x = a, *y = b;

    for (int i = 0; i < INPUT_PREFIXES; i++)
        if (x->prefix[i] != y->prefix[i])
            return x->prefix[i] < y->prefix[i] ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

void input_order(input *in)
{
    if (in->count > 1)
        qsort(in->lines, in->count, sizeof *in->lines, compare_lines);
}

/* ---- one line ------------------------------------------------------------------------------- */

static bool check_url(input *in, const json_t *root, int64_t number)
{
    const char *url = json_string_value(json_object_get(root, "url"));
    const char *method = json_string_value(json_object_get(root, "method"));

    if (method ? strcmp(method, "POST") != 0 : json_object_get(root, "method") != NULL) {
        add_error(in, number, "invalid_method", "method", "The method must be POST.");
        return false;
    }
    if (url && !in->url[0] && strlen(url) < sizeof in->url)
        snprintf(in->url, sizeof in->url, "%s", url);
    if (!url || strcmp(url, in->url) != 0) {
        add_error(in, number, url ? "invalid_url" : "missing_required_parameter", "url",
                  url ? "The url must be the same as the batch's endpoint, %s."
                      : "The url is missing; it must be the batch's endpoint, %s.",
                  in->url);
        return false;
    }
    return true;
}

static bool check_model(input *in, const json_t *body, int64_t number)
{
    const json_t *v = json_object_get(body, "model");
    const char *model = json_string_value(v);

    if (v && !json_is_null(v) && (!model || strlen(model) >= sizeof in->model)) {
        add_error(in, number, "invalid_value", "body.model", "The model must be a short text.");
        return false;
    }
    model = model ? model : "";
    if (in->count == 0)
        snprintf(in->model, sizeof in->model, "%s", model);
    if (strcmp(model, in->model) == 0)
        return true;
    add_error(in, number, "mismatched_model", "body.model",
              "All lines of a file must name the same model: this one names '%.100s', the first "
              "one '%.100s'.",
              model, in->model);
    return false;
}

/* Counts what an embeddings body asks for. */
static void count_inputs(input *in, const json_t *body)
{
    const json_t *v = json_object_get(body, "input");
    bool is_many = json_is_array(v) && !json_is_integer(json_array_get(v, 0));

    if (strcmp(in->url, "/v1/embeddings") == 0)
        in->input_count += is_many ? json_array_size(v) : 1;
}

static const char *check_custom_id(input *in, const json_t *root, int64_t number)
{
    const char *id = json_string_value(json_object_get(root, "custom_id"));
    const input_line *same;

    if (!id || !id[0] || strlen(id) > INPUT_CUSTOM_ID_BYTES) {
        add_error(in, number, id ? "invalid_value" : "missing_required_parameter", "custom_id",
                  "Each line needs a custom_id: a text of 1 to %d bytes.", INPUT_CUSTOM_ID_BYTES);
        return NULL;
    }
    same = input_find(in, id);
    if (same)
        add_error(in, number, "duplicate_custom_id", "custom_id",
                  "The custom_id '%.100s' is that of line %u too.", id, same->number);
    return same ? NULL : id;
}

/* Checks a line and appends it. False: out of memory. */
static bool take_object(input *in, const json_t *root, const input_line *where)
{
    const json_t *body = json_object_get(root, "body");
    const char *id = check_custom_id(in, root, where->number);
    bool ok = check_url(in, root, where->number);
    input_line *line;

    if (!json_is_object(body))
        add_error(in, where->number, "missing_required_parameter", "body",
                  "Each line needs a body: a JSON object.");
    else
        ok = check_model(in, body, where->number) && ok;
    if (!id || !ok || !json_is_object(body))
        return true;
    if (!sl_grow((void **)&in->lines, &in->cap, in->count + 1, sizeof *in->lines,
                 SL_BATCH_LINES_MAX + 1) ||
        !table_grow(in))
        return false;
    line = &in->lines[in->count];
    *line = *where;
    line->custom_id = sl_arena_strndup(&in->arena, id, strlen(id));
    if (!line->custom_id)
        return false;
    *place_of(in, id) = (uint32_t)++in->count;
    hash_line(body, line);
    count_inputs(in, body);
    return true;
}

static bool take_line(input *in, sl_span text, const input_line *where)
{
    json_error_t error;
    json_t *root = json_loadb((const char *)text.ptr + where->at, where->len, 0, &error);
    bool ok = true;

    if (!root)
        add_error(in, where->number, "invalid_json_line", NULL,
                  "This line is not valid JSON: %.200s (byte %d).", error.text, error.position);
    else if (!json_is_object(root))
        add_error(in, where->number, "invalid_json_line", NULL, "This line is no JSON object.");
    else
        ok = take_object(in, root, where);
    json_decref(root);
    return ok;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static bool is_blank(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r')
            return false;
    return true;
}

static sl_status scan_lines(sl_span text, input *in, sl_err *err)
{
    size_t at = text.len >= 3 && memcmp(text.ptr, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    input_line where = { .number = 1 };

    for (; at < text.len; where.number++) {
        const uint8_t *end = memchr(text.ptr + at, '\n', text.len - at);
        size_t len = end ? (size_t)(end - text.ptr) - at : text.len - at;

        where.at = at;
        where.len = (uint32_t)len;
        at += len + 1;
        if (is_blank(text.ptr + where.at, len))
            continue;
        if (len > SL_HTTP_BODY_BYTES_MAX) {
            add_error(in, where.number, "line_too_long", NULL,
                      "This line is longer than %zu bytes.", SL_HTTP_BODY_BYTES_MAX);
            continue;
        }
        if (!take_line(in, text, &where))
            return sl_fail(err, SL_ENOMEM, "out of memory for the batch's lines");
        if (in->count > SL_BATCH_LINES_MAX || in->input_count > SL_BATCH_LINES_MAX) {
            add_error(in, 0, "too_many_requests", NULL,
                      "The file has more than %d requests, or inputs to embed.",
                      SL_BATCH_LINES_MAX);
            return SL_OK;
        }
    }
    return SL_OK;
}

sl_status input_scan(sl_span text, const char *url, input *ret, sl_err *err)
{
    *ret = (input){ .errors = json_array() };
    sl_arena_init(&ret->arena, ARENA_BYTES_MAX);
    snprintf(ret->url, sizeof ret->url, "%s", url ? url : "");
    if (!ret->errors)
        return sl_fail(err, SL_ENOMEM, "out of memory for the batch's lines");
    if (text.len > SL_BATCH_BYTES_MAX) {
        add_error(ret, 0, "file_too_large", NULL, "The file is larger than %zu bytes.",
                  SL_BATCH_BYTES_MAX);
        return SL_OK;
    }
    SL_TRY(scan_lines(text, ret, err));
    if (ret->count == 0 && json_array_size(ret->errors) == 0)
        add_error(ret, 0, "empty_file", NULL, "The file has no requests.");
    return SL_OK;
}

void input_deinit(input *in)
{
    sl_free(in->lines);
    sl_free(in->table);
    json_decref(in->errors);
    sl_arena_deinit(&in->arena);
    *in = (input){ 0 };
}

static int append_text(const char *bytes, size_t len, void *ctx)
{
    sl_buf_put(ctx, bytes, len);
    return 0;
}

sl_status input_body(sl_span text, const input_line *line, sl_buf *ret, sl_err *err)
{
    json_t *root = json_loadb((const char *)text.ptr + line->at, line->len, 0, NULL);
    const json_t *body = json_object_get(root, "body");

    sl_buf_clear(ret);
    if (body)
        json_dump_callback(body, append_text, ret, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(root);
    if (!body)
        return sl_fail(err, SL_EFORMAT, "line %u has no body", line->number);
    return sl_buf_ok(ret, "body", err);
}
