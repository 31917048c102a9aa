/* files.c - /v1/files, and the parts of uploads. A form is read piece by piece, its file straight
 * to the disk, so that a file of any size needs no memory; the last steps, which sync and ask the
 * database, are done on the pool. */
#include <stdio.h>
#include <stdlib.h>

#include "api/jobs.h"

#define LIMIT_MAX       10000
#define FIELD_BYTES_MAX 512
#define FORM_EXTRA      (64 * (int64_t)SL_KIB) /* of a body, beside the file */

/* A form on its way in. */
typedef struct incoming {
    api_note note; /* first: api_request_done reads it */
    api *a;
    http_form *form;
    const char *file_field; /* "file", or "data" of a part */
    llm_draft *draft;
    uint64_t file_bytes; /* so far */
    char filename[FIELD_BYTES_MAX + 1], purpose[FIELD_BYTES_MAX + 1];
    char anchor[FIELD_BYTES_MAX + 1], seconds[FIELD_BYTES_MAX + 1];
    sl_err error; /* the first */
} incoming;

static void incoming_destroy(void *user)
{
    incoming *in = user;

    (void)http_form_end(in->form);
    in->a->options.jobs.ops->draft_drop(in->draft);
    sl_free(in);
}

static bool take_text(char *out, const http_form_piece *p, sl_err *err)
{
    if (p->at + p->bytes.len > FIELD_BYTES_MAX) {
        sl_fail(err, SL_EINVAL, "Invalid '%.40s': at most %d bytes", p->name, FIELD_BYTES_MAX);
        return false;
    }
    memcpy(out + p->at, p->bytes.ptr, p->bytes.len);
    out[p->at + p->bytes.len] = '\0';
    return true;
}

static bool take_file(incoming *in, const http_form_piece *p)
{
    const llm_jobs *jobs = &in->a->options.jobs;

    if (p->at != in->file_bytes) {
        in->error.status =
            sl_fail(&in->error, SL_EINVAL, "Invalid '%s': one file at a time", in->file_field);
        return false;
    }
    if (!in->draft) {
        snprintf(in->filename, sizeof in->filename, "%s", p->filename);
        in->error.status = jobs->ops->draft_open(jobs->ctx, &in->draft, &in->error);
    }
    if (in->error.status == SL_OK)
        in->error.status =
            jobs->ops->draft_write(in->draft, p->bytes.ptr, p->bytes.len, &in->error);
    in->file_bytes += p->bytes.len;
    return in->error.status == SL_OK;
}

static bool on_piece(void *ctx, const http_form_piece *p)
{
    incoming *in = ctx;
    const struct {
        const char *name;
        char *out;
    } fields[] = { { "purpose", in->purpose },
                   { "expires_after[anchor]", in->anchor },
                   { "expires_after[seconds]", in->seconds } };

    if (strcmp(p->name, in->file_field) == 0)
        return take_file(in, p);
    for (size_t i = 0; i < SL_COUNT_OF(fields); i++)
        if (strcmp(p->name, fields[i].name) == 0)
            return take_text(fields[i].out, p, &in->error);
    return true;
}

static bool begin(api *a, http_exchange *x, const char *file_field)
{
    const char *length = http_header(x, "content-length");
    int64_t bytes_max = a->options.jobs.file_bytes_max;
    sl_err err = { 0 };
    incoming *in;

    if (!jobs_available(a, x))
        return false;
    if (length && strtoll(length, NULL, 10) > bytes_max + FORM_EXTRA) {
        sl_fail(&err, SL_ELIMIT, "The file is larger than %lld bytes", (long long)bytes_max);
        jobs_respond(a, x, SL_ELIMIT, NULL, &err);
        return false;
    }
    in = sl_calloc(1, sizeof *in);
    if (!in) {
        jobs_respond(a, x, sl_fail(&err, SL_ENOMEM, "out of memory"), NULL, &err);
        return false;
    }
    in->a = a;
    in->note.ttft_ms = -1;
    in->file_field = file_field;
    http_set_user(x, in, incoming_destroy);
    in->form = http_form_create(x, on_piece, in);
    if (in->form)
        return true;
    sl_fail(&err, SL_EINVAL, "The body must be multipart/form-data with a part '%s'", file_field);
    jobs_respond(a, x, SL_EINVAL, NULL, &err);
    return false;
}

static bool begin_file(api *a, http_exchange *x)
{
    return begin(a, x, "file");
}

bool files_begin_part(api *a, http_exchange *x)
{
    return begin(a, x, "data");
}

/* After the first error the rest is read and thrown away, so that the client sees the answer. */
void files_write(api *a, http_exchange *x, const void *bytes, size_t len)
{
    incoming *in = http_user(x);

    if (in->error.status == SL_OK && !http_form_write(in->form, bytes, len) &&
        in->error.status == SL_OK)
        sl_fail(&in->error, SL_EINVAL, "The body is no well-formed multipart/form-data");
    if (in->error.status == SL_OK)
        return;
    in->a->options.jobs.ops->draft_drop(in->draft);
    in->draft = NULL;
}

/* Takes the draft when all is well. */
static sl_status finish(incoming *in, llm_draft **ret, sl_err *err)
{
    bool whole = http_form_end(in->form);

    in->form = NULL;
    if (!whole) {
        in->a->options.jobs.ops->draft_drop(in->draft);
        in->draft = NULL;
    }
    if (in->error.status != SL_OK) {
        *err = in->error;
        return err->status;
    }
    if (!whole)
        return sl_fail(err, SL_EINVAL, "The body ends within a part");
    if (!in->draft)
        return sl_fail(err, SL_EINVAL, "Invalid '%s': the form has no such part", in->file_field);
    *ret = in->draft;
    in->draft = NULL;
    return SL_OK;
}

/* ---- files ---------------------------------------------------------------------------------- */

static sl_status read_expires(const incoming *in, int64_t *ret, sl_err *err)
{
    openai_error e = { 0 };
    char *end;

    if (!in->anchor[0] && !in->seconds[0])
        return SL_OK;
    if (strcmp(in->anchor, "created_at") != 0)
        return sl_fail(err, SL_EINVAL, "Invalid 'expires_after[anchor]': expected 'created_at'");
    *ret = strtoll(in->seconds, &end, 10);
    if (*end || jobs_check_seconds("expires_after[seconds]", *ret, &e) != SL_OK)
        return sl_fail(err, SL_EINVAL, "%s",
                       e.http ? e.message : "Invalid 'expires_after[seconds]': expected a number");
    return SL_OK;
}

static void run_create(api *a, http_exchange *x)
{
    const llm_jobs *jobs = &a->options.jobs;
    incoming *in = http_user(x);
    llm_file_spec spec = { .filename = in->filename, .purpose = in->purpose };
    llm_draft *d = NULL;
    json_t *file = NULL;
    sl_err err = { 0 };
    sl_status status = read_expires(in, &spec.expires_after_s, &err);

    if (status == SL_OK)
        status = finish(in, &d, &err);
    if (status == SL_OK)
        status = jobs->ops->file_create(jobs->ctx, api_caller(x), &spec, d, &file, &err);
    jobs_respond(a, x, status, file, &err);
}

static void create(api *a, http_exchange *x)
{
    api_run_later(a, x, run_create);
}

static void run_list(api *a, http_exchange *x)
{
    const llm_jobs *jobs = &a->options.jobs;
    llm_page page;
    json_t *list = NULL;
    sl_err err = { 0 };
    sl_status status;

    if (!jobs_read_page(a, x, LIMIT_MAX, LIMIT_MAX, &page))
        return;
    status = jobs->ops->file_list(jobs->ctx, api_caller(x), &page, &list, &err);
    jobs_respond(a, x, status, list, &err);
}

static void list_files(api *a, http_exchange *x)
{
    if (jobs_available(a, x))
        api_run_later(a, x, run_list);
}

static void run_get(api *a, http_exchange *x)
{
    const llm_jobs *jobs = &a->options.jobs;
    json_t *file = NULL;
    sl_err err = { 0 };
    sl_status status =
        jobs->ops->file_get(jobs->ctx, api_caller(x), http_param(x, "id"), &file, &err);

    jobs_respond(a, x, status, file, &err);
}

static void get(api *a, http_exchange *x)
{
    if (jobs_available(a, x))
        api_run_later(a, x, run_get);
}

static void name_download(http_exchange *x, const char *filename)
{
    char text[FIELD_BYTES_MAX + 64];
    size_t len = (size_t)snprintf(text, sizeof text, "attachment; filename=\"");

    for (; *filename && len < sizeof text - 2; filename++)
        text[len++] =
            *filename >= ' ' && *filename < 127 && !strchr("\"\\/", *filename) ? *filename : '_';
    text[len++] = '"';
    text[len] = '\0';
    http_set_header(x, "Content-Disposition", text);
    http_set_header(x, "X-Content-Type-Options", "nosniff");
}

static void run_content(api *a, http_exchange *x)
{
    const llm_jobs *jobs = &a->options.jobs;
    json_t *file = NULL;
    sl_err err = { 0 };
    int fd = -1;
    sl_status status =
        jobs->ops->file_open(jobs->ctx, api_caller(x), http_param(x, "id"), &fd, &file, &err);

    if (status != SL_OK) {
        jobs_respond(a, x, status, NULL, &err);
        return;
    }
    name_download(x, json_string_value(json_object_get(file, "filename")));
    http_respond_file(x, 200, "application/octet-stream", fd,
                      (uint64_t)json_integer_value(json_object_get(file, "bytes")));
    json_decref(file);
}

static void content(api *a, http_exchange *x)
{
    if (jobs_available(a, x))
        api_run_later(a, x, run_content);
}

static void run_delete(api *a, http_exchange *x)
{
    const llm_jobs *jobs = &a->options.jobs;
    const char *id = http_param(x, "id");
    sl_err err = { 0 };
    sl_status status = jobs->ops->file_delete(jobs->ctx, api_caller(x), id, &err);

    jobs_respond(a, x, status,
                 status == SL_OK
                     ? json_pack("{s:s,s:s,s:b}", "id", id, "object", "file", "deleted", 1)
                     : NULL,
                 &err);
}

static void delete (api *a, http_exchange *x)
{
    if (jobs_available(a, x))
        api_run_later(a, x, run_delete);
}

/* ---- parts ---------------------------------------------------------------------------------- */

static void run_part(api *a, http_exchange *x)
{
    const llm_jobs *jobs = &a->options.jobs;
    llm_draft *d = NULL;
    json_t *part = NULL;
    sl_err err = { 0 };
    sl_status status = finish(http_user(x), &d, &err);

    if (status == SL_OK)
        status =
            jobs->ops->upload_part(jobs->ctx, api_caller(x), http_param(x, "id"), d, &part, &err);
    jobs_respond(a, x, status, part, &err);
}

void files_end_part(api *a, http_exchange *x)
{
    api_run_later(a, x, run_part);
}

static const api_endpoint list[] = {
    { "POST", "/v1/files", create, LLM_MAY_FILES,
      "Store a file: multipart/form-data with file, purpose, expires_after[anchor] and "
      "expires_after[seconds]",
      .begin = begin_file, .write = files_write },
    { "GET", "/v1/files", list_files, LLM_MAY_FILES,
      "The caller's files; purpose, limit, order, after, and scope=all for admins" },
    { "GET", "/v1/files/{id}", get, LLM_MAY_FILES, "What a file is" },
    { "GET", "/v1/files/{id}/content", content, LLM_MAY_FILES, "The bytes of a file",
      .answer = "application/octet-stream" },
    { "DELETE", "/v1/files/{id}", delete, LLM_MAY_FILES, "Remove a file" },
};
const api_endpoints files_endpoints = { &openai_dialect, "Files", list, SL_COUNT_OF(list) };
