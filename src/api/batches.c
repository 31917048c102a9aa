/* batches.c - /v1/uploads and /v1/batches: bodies to what the store of jobs takes. */
#include "api/jobs.h"

#define LIST_DEFAULT 20
#define LIST_MAX     100

/* ---- uploads -------------------------------------------------------------------------------- */

static const field_rule upload_rules[] = {
    { .name = "filename",
      .kind = FIELD_STR,
      .required = true,
      .max = 512,
      IN_CALL(llm_file_spec, filename) },
    { .name = "purpose",
      .kind = FIELD_STR,
      .required = true,
      .max = 64,
      IN_CALL(llm_file_spec, purpose),
      .help = "assistants, batch, fine-tune, vision, user_data or evals" },
    { .name = "bytes",
      .kind = FIELD_INT,
      .required = true,
      .min = 1,
      .max = 8589934592.0,
      IN_CALL(llm_file_spec, bytes),
      .help = "what the parts sum up to" },
    { .name = "mime_type", .kind = FIELD_STR, .max = 256, IN_CALL(llm_file_spec, mime_type) },
    { .name = "expires_after",
      .kind = FIELD_OTHER,
      .take = jobs_take_expires,
      .json_schema = EXPIRES_SCHEMA,
      IN_CALL(llm_file_spec, expires_after_s) },
};
static const body_schema upload_body = { "CreateUploadRequest", upload_rules,
                                         SL_COUNT_OF(upload_rules) };

typedef struct complete_call {
    const json_t *part_ids;
    const char *md5;
} complete_call;

static const field_rule complete_rules[] = {
    { .name = "part_ids",
      .kind = FIELD_OTHER,
      .required = true,
      .take = jobs_take_json,
      .json_schema = "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}",
      IN_CALL(complete_call, part_ids),
      .help = "in the order of the file" },
    { .name = "md5",
      .kind = FIELD_STR,
      .max = 64,
      IN_CALL(complete_call, md5),
      .help = "of the whole file, hexadecimal; checked when given" },
};
static const body_schema complete_body = { "CompleteUploadRequest", complete_rules,
                                           SL_COUNT_OF(complete_rules) };

static void run_upload(api *a, http_exchange *x)
{
    const llm_jobs *jobs = &a->options.jobs;
    llm_file_spec spec = { 0 };
    json_t *root = NULL, *upload = NULL;
    sl_err err = { 0 };
    sl_status status;
    sl_arena arena;

    if (!jobs_read_body(a, x, &upload_body, &spec, &arena, &root))
        return;
    status = jobs->ops->upload_create(jobs->ctx, api_caller(x), &spec, &upload, &err);
    jobs_respond(a, x, status, upload, &err);
    json_decref(root);
    sl_arena_deinit(&arena);
}

static void upload_create(api *a, http_exchange *x)
{
    if (jobs_available(a, x))
        api_run_later(a, x, run_upload);
}

static void run_complete(api *a, http_exchange *x)
{
    const llm_jobs *jobs = &a->options.jobs;
    complete_call call = { 0 };
    json_t *root = NULL, *upload = NULL;
    sl_err err = { 0 };
    sl_status status;
    sl_arena arena;

    if (!jobs_read_body(a, x, &complete_body, &call, &arena, &root))
        return;
    status = jobs->ops->upload_complete(jobs->ctx, api_caller(x), http_param(x, "id"),
                                        call.part_ids, call.md5, &upload, &err);
    jobs_respond(a, x, status, upload, &err);
    json_decref(root);
    sl_arena_deinit(&arena);
}

/* Copies up to gigabytes: not where the quick ones wait, if that can be helped. */
static void upload_complete(api *a, http_exchange *x)
{
    if (jobs_available(a, x) && !(a->slow_pool && api_pool_push(a->slow_pool, run_complete, x)))
        api_run_later(a, x, run_complete);
}

static void run_upload_cancel(api *a, http_exchange *x)
{
    const llm_jobs *jobs = &a->options.jobs;
    json_t *upload = NULL;
    sl_err err = { 0 };
    sl_status status =
        jobs->ops->upload_cancel(jobs->ctx, api_caller(x), http_param(x, "id"), &upload, &err);

    jobs_respond(a, x, status, upload, &err);
}

static void upload_cancel(api *a, http_exchange *x)
{
    if (jobs_available(a, x))
        api_run_later(a, x, run_upload_cancel);
}

/* ---- batches -------------------------------------------------------------------------------- */

static const field_rule batch_rules[] = {
    { .name = "input_file_id",
      .kind = FIELD_STR,
      .required = true,
      .max = 64,
      IN_CALL(llm_batch_spec, input_file_id),
      .help = "a file of purpose batch" },
    { .name = "endpoint",
      .kind = FIELD_STR,
      .required = true,
      .max = 64,
      IN_CALL(llm_batch_spec, endpoint),
      .help = "/v1/chat/completions, /v1/completions, /v1/embeddings or /v1/responses" },
    { .name = "completion_window",
      .kind = FIELD_STR,
      .required = true,
      .max = 16,
      IN_CALL(llm_batch_spec, completion_window),
      .help = "24h" },
    { .name = "metadata",
      .kind = FIELD_OTHER,
      .take = jobs_take_json,
      .json_schema = "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\","
                     "\"maxLength\":512},\"maxProperties\":16}",
      IN_CALL(llm_batch_spec, metadata) },
    { .name = "output_expires_after",
      .kind = FIELD_OTHER,
      .take = jobs_take_expires,
      .json_schema = EXPIRES_SCHEMA,
      IN_CALL(llm_batch_spec, output_expires_after_s) },
};
static const body_schema batch_body = { "CreateBatchRequest", batch_rules,
                                        SL_COUNT_OF(batch_rules) };

static void run_batch(api *a, http_exchange *x)
{
    const llm_jobs *jobs = &a->options.jobs;
    llm_batch_spec spec = { 0 };
    json_t *root = NULL, *batch = NULL;
    sl_err err = { 0 };
    sl_status status;
    sl_arena arena;

    if (!jobs_read_body(a, x, &batch_body, &spec, &arena, &root))
        return;
    status = jobs->ops->batch_create(jobs->ctx, api_caller(x), &spec, &batch, &err);
    jobs_respond(a, x, status, batch, &err);
    json_decref(root);
    sl_arena_deinit(&arena);
}

static void batch_create(api *a, http_exchange *x)
{
    if (jobs_available(a, x))
        api_run_later(a, x, run_batch);
}

static void run_batch_list(api *a, http_exchange *x)
{
    const llm_jobs *jobs = &a->options.jobs;
    llm_page page;
    json_t *list = NULL;
    sl_err err = { 0 };
    sl_status status;

    if (!jobs_read_page(a, x, LIST_DEFAULT, LIST_MAX, &page))
        return;
    page.purpose = NULL;
    status = jobs->ops->batch_list(jobs->ctx, api_caller(x), &page, &list, &err);
    jobs_respond(a, x, status, list, &err);
}

static void batch_list(api *a, http_exchange *x)
{
    if (jobs_available(a, x))
        api_run_later(a, x, run_batch_list);
}

static void run_batch_get(api *a, http_exchange *x)
{
    const llm_jobs *jobs = &a->options.jobs;
    json_t *batch = NULL;
    sl_err err = { 0 };
    sl_status status =
        jobs->ops->batch_get(jobs->ctx, api_caller(x), http_param(x, "id"), &batch, &err);

    jobs_respond(a, x, status, batch, &err);
}

static void batch_get(api *a, http_exchange *x)
{
    if (jobs_available(a, x))
        api_run_later(a, x, run_batch_get);
}

static void run_batch_cancel(api *a, http_exchange *x)
{
    const llm_jobs *jobs = &a->options.jobs;
    json_t *batch = NULL;
    sl_err err = { 0 };
    sl_status status =
        jobs->ops->batch_cancel(jobs->ctx, api_caller(x), http_param(x, "id"), &batch, &err);

    jobs_respond(a, x, status, batch, &err);
}

static void batch_cancel(api *a, http_exchange *x)
{
    if (jobs_available(a, x))
        api_run_later(a, x, run_batch_cancel);
}

static const api_endpoint list[] = {
    { "POST", "/v1/uploads", upload_create, LLM_MAY_FILES, "Begin a file that comes in parts",
      &upload_body },
    { "POST", "/v1/uploads/{id}/parts", files_end_part, LLM_MAY_FILES,
      "Add a part of at most 64 MiB: multipart/form-data with data", .begin = files_begin_part,
      .write = files_write },
    { "POST", "/v1/uploads/{id}/complete", upload_complete, LLM_MAY_FILES, "Make the parts a file",
      &complete_body },
    { "POST", "/v1/uploads/{id}/cancel", upload_cancel, LLM_MAY_FILES, "Drop the parts" },
    { "POST", "/v1/batches", batch_create, LLM_MAY_FILES,
      "Run a file of requests between those of others", &batch_body },
    { "GET", "/v1/batches", batch_list, LLM_MAY_FILES,
      "The caller's batches; limit, after, and scope=all for admins" },
    { "GET", "/v1/batches/{id}", batch_get, LLM_MAY_FILES, "How far a batch is" },
    { "POST", "/v1/batches/{id}/cancel", batch_cancel, LLM_MAY_FILES,
      "End a batch; what is done is delivered" },
};
const api_endpoints batches_endpoints = { &openai_dialect, "Uploads and batches", list,
                                          SL_COUNT_OF(list) };
