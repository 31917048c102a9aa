/* ollama_models.c - Ollama's routes that list, show and manage models.
 *
 * What is in memory is answered at once. What reads files runs on the document workers; pulls and
 * creations, which take long, on a pool of their own. Such a call hangs on its exchange with its
 * parsed body; a client that leaves sets its flag, which the work polls. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/ollama_int.h"

#define LIST_BYTES_MAX (64 * SL_MIB)

/* ---- answers ------------------------------------------------------------------------------- */

static void respond_error(const api *a, http_exchange *x, const openai_error *e)
{
    api_respond_error_as(a, x, e, &ollama_dialect);
}

static void error_of(const sl_err *err, openai_error *ret)
{
    openai_error_from(err, LLM_CHAT, ret);
    if (err->status == SL_ELIMIT || err->status == SL_EFORMAT)
        ret->http = 400;
}

static void respond_status(const api *a, http_exchange *x, const sl_err *err)
{
    openai_error e;

    error_of(err, &e);
    respond_error(a, x, &e);
}

/* Takes root. */
static void respond_json(const api *a, http_exchange *x, json_t *root)
{
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    sl_err err = { 0 };

    if (text) {
        http_respond(x, 200, "application/json", text, strlen(text));
    } else {
        err.status = sl_fail(&err, SL_ENOMEM, "out of memory");
        respond_status(a, x, &err);
    }
    free(text);
    json_decref(root);
}

static bool has_store(const api *a, http_exchange *x)
{
    openai_error e = { .http = 501, .type = "invalid_request_error" };

    if (a->options.models.ops)
        return true;
    snprintf(e.message, sizeof e.message, "this server has no store of models");
    respond_error(a, x, &e);
    return false;
}

/* ---- what a model looks like ----------------------------------------------------------------- */

static int64_t int_of(const json_t *m, const char *key)
{
    return json_integer_value(json_object_get(m, key));
}

static const char *str_of(const json_t *m, const char *key)
{
    const char *text = json_string_value(json_object_get(m, key));

    return text ? text : "";
}

/* "134.52M", "3.2B" */
static void human_count(int64_t n, char ret[32])
{
    if (n >= 1000000000)
        snprintf(ret, 32, "%.1fB", (double)n / 1e9);
    else if (n >= 1000000)
        snprintf(ret, 32, "%.2fM", (double)n / 1e6);
    else
        snprintf(ret, 32, "%.0fK", (double)n / 1e3);
}

static json_t *details_of(const json_t *m)
{
    char size[32];

    human_count(int_of(m, "parameters"), size);
    return json_pack("{s:s, s:s, s:s, s:[s], s:s, s:s, s:I, s:I}", "parent_model",
                     str_of(m, "parent"), "format", str_of(m, "format"), "family",
                     str_of(m, "arch"), "families", str_of(m, "arch"), "parameter_size", size,
                     "quantization_level", str_of(m, "quant"), "context_length",
                     (json_int_t)int_of(m, "context_length"), "embedding_length",
                     (json_int_t)int_of(m, "embedding_length"));
}

static json_t *capabilities_of(const json_t *m)
{
    json_t *list = json_array();

    if (json_is_true(json_object_get(m, "can_generate")))
        json_array_append_new(list, json_string("completion"));
    if (json_is_true(json_object_get(m, "can_embed")))
        json_array_append_new(list, json_string("embedding"));
    return list;
}

/* Every model has a tag. */
static void tagged_name(const json_t *m, char ret[160])
{
    const char *name = str_of(m, "name");

    snprintf(ret, 160, strchr(name, ':') ? "%.128s" : "%.128s:latest", name);
}

static json_t *time_of(int64_t wall_ns)
{
    char text[OLLAMA_TIME_BYTES];

    ollama_time(wall_ns, text);
    return json_string(text);
}

/* What tags and ps have in common. */
static json_t *entry_of(const json_t *m)
{
    char name[160];

    tagged_name(m, name);
    return json_pack("{s:s, s:s, s:I, s:s, s:o}", "name", name, "model", name, "size",
                     (json_int_t)int_of(m, "bytes"), "digest", str_of(m, "digest"), "details",
                     details_of(m));
}

void ollama_tags(api *a, http_exchange *x)
{
    json_t *list = NULL, *models = json_array(), *m;
    sl_err err = { 0 };
    size_t i;

    if (!has_store(a, x)) {
        json_decref(models);
        return;
    }
    err.status = a->options.models.ops->list(a->options.models.ctx, &list, &err);
    json_array_foreach(list, i, m)
    {
        json_t *e = entry_of(m);

        json_object_set_new(e, "modified_at", time_of(int_of(m, "modified_ns")));
        json_object_set_new(e, "capabilities", capabilities_of(m));
        json_array_append_new(models, e);
    }
    json_decref(list);
    if (err.status == SL_OK)
        respond_json(a, x, json_pack("{s:O}", "models", models));
    else
        respond_status(a, x, &err);
    json_decref(models);
}

/* Go's zero time is what Ollama's clients take for "never": 100 years ahead reads the same to them
 * and to people. */
#define NEVER_NS ((int64_t)100 * 365 * 86400 * 1000000000)

void ollama_ps(api *a, http_exchange *x)
{
    json_t *list = NULL, *models = json_array(), *m;
    sl_err err = { 0 };
    size_t i;

    if (!has_store(a, x)) {
        json_decref(models);
        return;
    }
    err.status = a->options.models.ops->loaded(a->options.models.ctx, &list, &err);
    json_array_foreach(list, i, m)
    {
        json_t *e = entry_of(m);
        int64_t expires_ns = int_of(m, "expires_ns");

        json_object_set_new(e, "size", json_integer((json_int_t)int_of(m, "memory_bytes")));
        json_object_set_new(e, "size_vram", json_integer(0));
        json_object_set_new(e, "expires_at",
                            time_of(expires_ns ? expires_ns : sl_clock_wall_ns() + NEVER_NS));
        json_object_set_new(e, "context_length",
                            json_integer((json_int_t)int_of(m, "context_length")));
        json_array_append_new(models, e);
    }
    json_decref(list);
    if (err.status == SL_OK)
        respond_json(a, x, json_pack("{s:O}", "models", models));
    else
        respond_status(a, x, &err);
    json_decref(models);
}

/* ---- calls that take a while ----------------------------------------------------------------- */

typedef struct work {
    api_note note; /* first: api_request_done reads it */
    api *a;
    http_exchange *x;
    sl_arena arena;
    ollama_manage m;
    bool streaming;
    atomic_bool cancelled;
} work;

static void work_destroy(void *user)
{
    work *w = user;

    ollama_manage_deinit(&w->m);
    sl_arena_deinit(&w->arena);
    sl_free(w);
}

static void on_gone(void *ctx)
{
    atomic_store(&((work *)ctx)->cancelled, true);
}

/* Parses the body, hangs the call on its exchange and queues it. */
static void begin_work(api *a, http_exchange *x, const body_schema *s, api_pool *pool,
                       api_task_fn run)
{
    sl_span body = http_body(x);
    openai_error error = { .http = 503, .type = "server_error", .message = "out of memory" };
    work *w;

    if (!has_store(a, x))
        return;
    w = sl_calloc(1, sizeof *w);
    if (!w) {
        respond_error(a, x, &error);
        return;
    }
    *w = (work){ .note = { .ttft_ms = -1 }, .a = a, .x = x };
    sl_arena_init(&w->arena, OPENAI_ARENA_MAX);
    http_set_user(x, w, work_destroy);
    if (ollama_parse_manage(s, (const char *)body.ptr, body.len, &w->arena, &w->m, &error) !=
        SL_OK) {
        respond_error(a, x, &error);
        return;
    }
    snprintf(w->note.model, sizeof w->note.model, "%s", w->m.model ? w->m.model : w->m.source);
    if (!api_pool_push(pool, run, x)) {
        snprintf(error.message, sizeof error.message, "too many models are being worked on");
        respond_error(a, x, &error);
        return;
    }
    http_on_close(x, on_gone, w);
}

/* ---- show ---------------------------------------------------------------------------------- */

static void copy_key(const json_t *from, const char *key, json_t *to, const char *as)
{
    json_t *v = json_object_get(from, key);

    if (v && !json_is_null(v) && !(json_is_string(v) && json_string_length(v) == 0))
        json_object_set(to, as, v);
}

static void run_show(api *a, http_exchange *x)
{
    work *w = http_user(x);
    sl_err err = { 0 };
    json_t *m = NULL, *out;

    err.status =
        a->options.models.ops->show(a->options.models.ctx, w->m.model, w->m.verbose, &m, &err);
    if (err.status == SL_ENOTFOUND) {
        ollama_not_found(a, x, w->m.model);
        return;
    }
    if (err.status != SL_OK) {
        respond_status(a, x, &err);
        return;
    }
    out = json_object();
    copy_key(m, "license", out, "license");
    copy_key(m, "modelfile", out, "modelfile");
    copy_key(m, "parameters_text", out, "parameters");
    copy_key(m, "template", out, "template");
    copy_key(m, "system", out, "system");
    copy_key(m, "messages", out, "messages");
    copy_key(m, "model_info", out, "model_info");
    copy_key(m, "tensors", out, "tensors");
    json_object_set_new(out, "details", details_of(m));
    json_object_set_new(out, "capabilities", capabilities_of(m));
    json_object_set_new(out, "modified_at", time_of(int_of(m, "modified_ns")));
    json_decref(m);
    respond_json(a, x, out);
}

void ollama_show(api *a, http_exchange *x)
{
    begin_work(a, x, &ollama_show_body, a->pool, run_show);
}

/* ---- copy and delete ------------------------------------------------------------------------- */

static void respond_done(api *a, http_exchange *x, const char *model, const sl_err *err)
{
    if (err->status == SL_OK)
        http_respond(x, 200, "application/json", "", 0);
    else if (err->status == SL_ENOTFOUND)
        ollama_not_found(a, x, model);
    else
        respond_status(a, x, err);
}

static void run_copy(api *a, http_exchange *x)
{
    work *w = http_user(x);
    sl_err err = { 0 };

    err.status =
        a->options.models.ops->copy(a->options.models.ctx, w->m.source, w->m.destination, &err);
    respond_done(a, x, w->m.source, &err);
}

void ollama_copy(api *a, http_exchange *x)
{
    begin_work(a, x, &ollama_copy_body, a->pool, run_copy);
}

static void run_delete(api *a, http_exchange *x)
{
    work *w = http_user(x);
    sl_err err = { 0 };

    err.status = a->options.models.ops->remove(a->options.models.ctx, w->m.model, &err);
    respond_done(a, x, w->m.model, &err);
}

void ollama_delete(api *a, http_exchange *x)
{
    begin_work(a, x, &ollama_delete_body, a->pool, run_delete);
}

/* ---- pull and create ------------------------------------------------------------------------- */

static void write_line(work *w, json_t *line)
{
    char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
    size_t len = text ? strlen(text) : 0;

    json_decref(line);
    if (!text)
        return;
    if (!w->streaming) {
        w->streaming = true;
        http_stream_begin(w->x, 200, "application/x-ndjson");
    }
    text[len] = '\n'; /* in place of the terminator */
    if (!http_stream_write(w->x, text, len + 1))
        atomic_store(&w->cancelled, true);
    free(text);
}

static void on_progress(void *ctx, const llm_progress *p)
{
    work *w = ctx;
    json_t *line;

    if (!w->m.stream)
        return;
    line = json_pack("{s:s}", "status", p->status);
    if (p->digest)
        json_object_set_new(line, "digest", json_string(p->digest));
    if (p->total_bytes > 0) {
        json_object_set_new(line, "total", json_integer((json_int_t)p->total_bytes));
        json_object_set_new(line, "completed", json_integer((json_int_t)p->done_bytes));
    }
    write_line(w, line);
}

/* The end of a pull or a creation: in the stream once one began. */
static void finish_work(work *w, const sl_err *err)
{
    openai_error e;

    if (err->status == SL_OK && !w->m.stream) {
        respond_json(w->a, w->x, json_pack("{s:s}", "status", "success"));
    } else if (err->status == SL_OK) {
        write_line(w, json_pack("{s:s}", "status", "success"));
        http_stream_end(w->x);
    } else if (w->streaming) {
        error_of(err, &e);
        w->note.error_code = e.code ? e.code : e.type;
        write_line(w, json_pack("{s:s}", "error", e.message));
        http_stream_end(w->x);
    } else {
        respond_status(w->a, w->x, err);
    }
}

static void run_pull(api *a, http_exchange *x)
{
    work *w = http_user(x);
    const llm_progress_sink sink = { on_progress, w, &w->cancelled };
    sl_err err = { 0 };

    err.status = a->options.models.ops->pull(a->options.models.ctx, w->m.model, &sink, &err);
    finish_work(w, &err);
}

void ollama_pull(api *a, http_exchange *x)
{
    begin_work(a, x, &ollama_pull_body, a->slow_pool, run_pull);
}

static void run_create(api *a, http_exchange *x)
{
    work *w = http_user(x);
    const llm_progress_sink sink = { on_progress, w, &w->cancelled };
    const llm_recipe recipe = { .name = w->m.model,
                                .from = w->m.from,
                                .files = w->m.files,
                                .parameters = w->m.parameters,
                                .messages = w->m.messages,
                                .licenses = w->m.licenses,
                                .template_text = w->m.template_text,
                                .system = w->m.system };
    sl_err err = { 0 };

    err.status = a->options.models.ops->create(a->options.models.ctx, &recipe, &sink, &err);
    finish_work(w, &err);
}

void ollama_create(api *a, http_exchange *x)
{
    begin_work(a, x, &ollama_create_body, a->slow_pool, run_create);
}

/* ---- blobs --------------------------------------------------------------------------------- */

typedef struct upload {
    api_note note; /* first: api_request_done reads it */
    int fd;
    char sha256[65];
    char path[4096]; /* "": moved away */
    bool failed;
} upload;

static void upload_destroy(void *user)
{
    upload *u = user;

    if (u->fd >= 0)
        close(u->fd);
    if (u->path[0])
        unlink(u->path);
    sl_free(u);
}

/* "sha256:<hex>" or "sha256-<hex>" of the path; answers when it is none. */
static const char *digest_of(const api *a, http_exchange *x)
{
    const char *digest = http_param(x, "digest");
    openai_error e = { 0 };

    if (digest && strncmp(digest, "sha256", 6) == 0 && (digest[6] == ':' || digest[6] == '-') &&
        strlen(digest + 7) == 64 && strspn(digest + 7, "0123456789abcdef") == 64)
        return digest + 7;
    openai_refuse(&e, NULL, "invalid_value", "invalid digest format: expected sha256:<64 hex>");
    respond_error(a, x, &e);
    return NULL;
}

void ollama_blob_head(api *a, http_exchange *x)
{
    const char *sha256 = has_store(a, x) ? digest_of(a, x) : NULL;

    if (sha256)
        http_respond(x, a->options.models.ops->has_blob(a->options.models.ctx, sha256) ? 200 : 404,
                     "application/json", "", 0);
}

bool ollama_blob_begin(api *a, http_exchange *x)
{
    const llm_models *models = &a->options.models;
    const char *sha256 = has_store(a, x) ? digest_of(a, x) : NULL;
    upload *u = sha256 ? sl_calloc(1, sizeof *u) : NULL;
    sl_err err = { 0 };

    if (!sha256)
        return false;
    err.status = u ? SL_OK : sl_fail(&err, SL_ENOMEM, "out of memory");
    if (u) {
        u->note.ttft_ms = -1;
        u->fd = -1;
        snprintf(u->sha256, sizeof u->sha256, "%s", sha256);
        http_set_user(x, u, upload_destroy);
        err.status = models->ops->blob_draft(models->ctx, u->path, sizeof u->path, &err);
    }
    if (err.status == SL_OK) {
        u->fd = open(u->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (u->fd < 0)
            err.status = sl_fail(&err, SL_EIO, "cannot write the blob: %s", strerror(errno));
    }
    if (err.status == SL_OK)
        return true;
    respond_status(a, x, &err);
    return false;
}

void ollama_blob_write(api *a, http_exchange *x, const void *bytes, size_t len)
{
    upload *u = http_user(x);

    (void)a;
    u->failed = u->failed || !sl_write_all(u->fd, bytes, len);
}

static void run_blob(api *a, http_exchange *x)
{
    const llm_models *models = &a->options.models;
    upload *u = http_user(x);
    sl_err err = { 0 };

    close(u->fd);
    u->fd = -1;
    err.status = models->ops->put_blob(models->ctx, u->sha256, u->path, &err);
    u->path[0] = '\0';
    if (err.status == SL_OK)
        http_respond(x, 201, "application/json", "", 0);
    else
        respond_status(a, x, &err);
}

/* The sum is computed where it may take its time. */
void ollama_blob_put(api *a, http_exchange *x)
{
    upload *u = http_user(x);
    sl_err err = { 0 };

    if (u->failed)
        err.status = sl_fail(&err, SL_EIO, "the blob could not be written: is the disk full?");
    else if (!api_pool_push(a->slow_pool, run_blob, x))
        err.status = sl_fail(&err, SL_EBUSY, "too many models are being worked on");
    if (err.status != SL_OK)
        respond_status(a, x, &err);
}
