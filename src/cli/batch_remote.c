/* batch_remote.c - sluice batch submit, list, show and cancel: a server's batches from the shell.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "cli/batch.h"
#include "http/http.h"

#define URL_DEFAULT      "http://127.0.0.1:8080"
#define ANSWER_BYTES_MAX (16 * SL_MIB)
#define BOUNDARY         "sluice-batch-4b1d0c9a5f3e"

/* Asks and reads an object. post NULL: GET; "" posts nothing. The caller releases *ret. */
static sl_status ask(const batch_args *args, const char *path, const char *type, sl_span post,
                     json_t **ret, sl_err *err)
{
    const char *base = args->url ? args->url : URL_DEFAULT;
    const char *key = args->key ? args->key : getenv("SLUICE_API_KEY");
    char content[160], authorization[640];
    const char *headers[2];
    sl_buf url, answer;
    http_client_options o = { .headers = headers, .post = post.ptr, .post_len = post.len };
    sl_status status;

    sl_buf_init(&url, 4096);
    sl_buf_init(&answer, ANSWER_BYTES_MAX);
    sl_buf_printf(&url, "%.*s%s", (int)(strlen(base) - (base[strlen(base) - 1] == '/')), base,
                  path);
    o.url = sl_buf_str(&url);
    if (type) {
        snprintf(content, sizeof content, "Content-Type: %s", type);
        headers[o.header_count++] = content;
    }
    if (key && key[0]) {
        snprintf(authorization, sizeof authorization, "Authorization: Bearer %s", key);
        headers[o.header_count++] = authorization;
    }
    status = sl_buf_ok(&url, "URL", err);
    if (status == SL_OK)
        status = http_fetch(&o, &answer, NULL, err);
    if (status == SL_OK && !(*ret = json_loadb(sl_buf_str(&answer), answer.len, 0, NULL)))
        status = sl_fail(err, SL_EUPSTREAM, "%s: the answer is no JSON", o.url);
    sl_buf_deinit(&url);
    sl_buf_deinit(&answer);
    return status;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "-";
}

static long long number_of(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static void print_json(const json_t *v)
{
    json_dumpf(v, stdout, JSON_INDENT(2));
    putchar('\n');
}

static void print_batch(const json_t *b)
{
    const json_t *counts = json_object_get(b, "request_counts"), *e;
    json_t *errors = json_object_get(json_object_get(b, "errors"), "data");
    size_t i;

    printf("%-32s %-12s %lld of %lld, %lld failed\n", text_of(b, "id"), text_of(b, "status"),
           number_of(counts, "completed") + number_of(counts, "failed"), number_of(counts, "total"),
           number_of(counts, "failed"));
    json_array_foreach(errors, i, e)
        printf("  line %lld: %s\n", number_of(e, "line"), text_of(e, "message"));
}

static int print_one(const batch_args *args, const json_t *b)
{
    if (args->json) {
        print_json(b);
        return CLI_OK;
    }
    print_batch(b);
    printf("  input  %s\n  output %s\n  errors %s\n", text_of(b, "input_file_id"),
           text_of(b, "output_file_id"), text_of(b, "error_file_id"));
    return CLI_OK;
}

/* ---- submit --------------------------------------------------------------------------------- */

static sl_status upload(const batch_args *args, const char *path, sl_span text, json_t **ret,
                        sl_err *err)
{
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    sl_buf form;
    sl_status status;

    sl_buf_init(&form, text.len + 4096);
    sl_buf_puts(&form, "--" BOUNDARY "\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n"
                       "batch\r\n--" BOUNDARY "\r\nContent-Disposition: form-data; name=\"file\"; "
                       "filename=\"");
    for (const char *p = name; *p; p++)
        sl_buf_putc(&form, (char)(*p == '"' || *p == '\\' || (unsigned char)*p < ' ' ? '_' : *p));
    sl_buf_puts(&form, "\"\r\n\r\n");
    sl_buf_put(&form, text.ptr, text.len);
    sl_buf_puts(&form, "\r\n--" BOUNDARY "--\r\n");
    status = sl_buf_ok(&form, path, err);
    if (status == SL_OK)
        status = ask(args, "/v1/files", "multipart/form-data; boundary=" BOUNDARY,
                     sl_span_of(form.ptr, form.len), ret, err);
    sl_buf_deinit(&form);
    return status;
}

/* The first line says where all of them go. */
static json_t *order_of(const json_t *file, sl_span text)
{
    const uint8_t *end = memchr(text.ptr, '\n', text.len);
    json_t *line =
        json_loadb((const char *)text.ptr, end ? (size_t)(end - text.ptr) : text.len, 0, NULL);
    const char *url = json_string_value(json_object_get(line, "url"));
    json_t *order = json_pack("{s:s,s:s,s:s}", "input_file_id", text_of(file, "id"), "endpoint",
                              url ? url : "/v1/chat/completions", "completion_window", "24h");

    json_decref(line);
    return order;
}

static int submit(const batch_args *args, const char *path)
{
    json_t *file = NULL, *order = NULL, *batch = NULL;
    char *body = NULL;
    sl_file_map map = { 0 };
    sl_err err = { 0 };
    int rc;
    sl_status status = sl_file_map_open(path, &map, &err);

    if (status == SL_OK && map.bytes.len == 0)
        status = sl_fail(&err, SL_EFORMAT, "%s is empty", path);
    if (status == SL_OK)
        status = upload(args, path, map.bytes, &file, &err);
    if (status == SL_OK) {
        order = order_of(file, map.bytes);
        body = json_dumps(order, JSON_COMPACT);
        status = body
                     ? ask(args, "/v1/batches", "application/json", sl_span_str(body), &batch, &err)
                     : sl_fail(&err, SL_ENOMEM, "out of memory");
    }
    rc = status == SL_OK ? print_one(args, batch) : cli_fail(&err);
    free(body);
    json_decref(file);
    json_decref(order);
    json_decref(batch);
    sl_file_map_close(&map);
    return rc;
}

/* ---- the others ----------------------------------------------------------------------------- */

static int list(const batch_args *args)
{
    json_t *page = NULL, *b;
    sl_err err = { 0 };
    size_t i;

    if (ask(args, "/v1/batches?limit=100", NULL, sl_span_of(NULL, 0), &page, &err) != SL_OK)
        return cli_fail(&err);
    if (args->json)
        print_json(json_object_get(page, "data"));
    else
        json_array_foreach(json_object_get(page, "data"), i, b) print_batch(b);
    json_decref(page);
    return CLI_OK;
}

static int one(const batch_args *args, const char *id, bool cancels)
{
    char path[128];
    json_t *b = NULL;
    sl_err err = { 0 };
    int rc;

    if (strlen(id) > 64 || strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(id))
        return cli_usage("'%s' is no batch's id", id);
    snprintf(path, sizeof path, "/v1/batches/%s%s", id, cancels ? "/cancel" : "");
    if (ask(args, path, NULL, cancels ? sl_span_str("") : sl_span_of(NULL, 0), &b, &err) != SL_OK)
        return cli_fail(&err);
    rc = print_one(args, b);
    json_decref(b);
    return rc;
}

int batch_remote(const batch_args *args, int argc, char **argv)
{
    const char *what = argv[0];

    if (strcmp(what, "list") == 0 && argc == 1)
        return list(args);
    if (strcmp(what, "submit") == 0 && argc == 2)
        return submit(args, argv[1]);
    if ((strcmp(what, "show") == 0 || strcmp(what, "cancel") == 0) && argc == 2)
        return one(args, argv[1], what[0] == 'c');
    return cli_usage("expected batch run IN -o OUT, submit IN, list, show ID or cancel ID");
}
