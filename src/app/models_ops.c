/* models_ops.c - the manager's answers to the API: lists, descriptions, and changes of the store.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "app/models_int.h"
#include "app/pull.h"
#include "app/recipe.h"
#include "base/os.h"

#define SHORT_ARRAY 16 /* elements of model_info that are shown without asking */

/* ---- lists --------------------------------------------------------------------------------- */

/* What every answer says of a model. With m->lock. */
static json_t *entry_of(const managed *s)
{
    const char *base = json_string_value(json_object_get(s->manifest, "base"));
    const llm_model_info *i = &s->info;
    bool is_gguf = strcmp(s->path + SL_MAX(strlen(s->path), (size_t)5) - 5, ".gguf") == 0 ||
                   strstr(s->path, "/blobs/");

    return json_pack("{s:s, s:s, s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:s, s:s, s:b, s:b, s:b}",
                     "name", s->name, "digest", s->digest, "bytes", (json_int_t)i->file_bytes,
                     "modified_ns", (json_int_t)s->modified_ns, "arch", i->arch, "quant", i->quant,
                     "parameters", (json_int_t)i->param_count, "context_length",
                     (json_int_t)i->context_tokens, "embedding_length",
                     (json_int_t)i->embedding_dim, "parent", base ? base : "", "format",
                     is_gguf ? "gguf" : "safetensors", "can_generate", (int)i->can_generate,
                     "can_embed", (int)i->can_embed, "can_rerank", (int)i->can_rerank);
}

static sl_status ops_list(void *ctx, json_t **ret, sl_err *err)
{
    models *m = ctx;
    json_t *list = json_array();

    if (!list)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->count; i++)
        if (!m->list[i]->gone)
            json_array_append_new(list, entry_of(m->list[i]));
    pthread_mutex_unlock(&m->lock);
    *ret = list;
    return SL_OK;
}

static bool is_loaded(const managed *s)
{
    return s->state == MANAGED_READY || s->state == MANAGED_DRAINING;
}

/* Wall-clock end of the keep-alive; a model in use has all of it before it. 0: never. */
static int64_t expiry_of(const managed *s)
{
    int64_t left = s->users > 0 ? s->keep_ns : s->expires_ns;

    if (left == KEEP_FOREVER)
        return 0;
    return sl_clock_wall_ns() + (s->users > 0 ? left : SL_MAX(left - sl_clock_mono_ns(), 0));
}

static sl_status ops_loaded(void *ctx, json_t **ret, sl_err *err)
{
    models *m = ctx;
    json_t *list = json_array(), *e;

    if (!list)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->count; i++) {
        const managed *s = m->list[i];

        if (!is_loaded(s))
            continue;
        e = entry_of(s->shown && !s->shown->gone ? s->shown : s);
        json_object_set_new(e, "memory_bytes", json_integer((json_int_t)s->used_bytes));
        json_object_set_new(e, "expires_ns", json_integer((json_int_t)expiry_of(s)));
        json_array_append_new(list, e);
    }
    pthread_mutex_unlock(&m->lock);
    *ret = list;
    return SL_OK;
}

/* ---- one model ------------------------------------------------------------------------------- */

static json_t *scalar_of(const gguf_dir *dir, const gguf_kv *kv, const char *key)
{
    switch (kv->type) {
    case GGUF_STRING:
        return json_stringn((const char *)kv->value.ptr, kv->value.len);
    case GGUF_BOOL:
        return json_boolean(gguf_get_bool(dir, key, false));
    case GGUF_F32:
    case GGUF_F64:
        return json_real(gguf_get_float(dir, key, 0));
    default:
        return json_integer((json_int_t)gguf_get_int(dir, key, 0));
    }
}

static json_t *array_of(const gguf_kv *kv)
{
    json_t *list = json_array();
    size_t cursor = 0;

    for (uint64_t i = 0; i < kv->count; i++) {
        if (kv->elem_type == GGUF_STRING) {
            sl_span s = gguf_array_next_str(kv, &cursor);
            json_t *text = json_stringn((const char *)s.ptr, s.len);

            json_array_append_new(list, text ? text : json_null()); /* bytes that are no text */
        } else if (kv->elem_type == GGUF_F32 || kv->elem_type == GGUF_F64) {
            json_array_append_new(list, json_real(gguf_array_float(kv, i)));
        } else {
            json_array_append_new(list, json_integer((json_int_t)gguf_array_int(kv, i)));
        }
    }
    return list;
}

/* The metadata of a GGUF file. The template is told by itself. */
static json_t *info_of_gguf(const gguf_dir *dir, bool verbose)
{
    json_t *info = json_object(), *v;
    char key[256];

    for (size_t i = 0; i < dir->kv_count; i++) {
        const gguf_kv *kv = &dir->kvs[i];

        if (kv->key.len >= sizeof key)
            continue;
        memcpy(key, kv->key.ptr, kv->key.len);
        key[kv->key.len] = '\0';
        if (strcmp(key, "tokenizer.chat_template") == 0)
            continue;
        if (kv->type != GGUF_ARRAY)
            v = scalar_of(dir, kv, key);
        else
            v = verbose || kv->count <= SHORT_ARRAY ? array_of(kv) : json_null();
        json_object_set_new(info, key, v ? v : json_null());
    }
    return info;
}

/* The same of a Hugging Face model, in GGUF's words. */
static json_t *info_of_params(const model_file *m, const model_params *p)
{
    json_t *info = json_object();
    const struct {
        const char *key;
        int64_t value;
    } rows[] = { { "block_count", p->layers },         { "context_length", p->context },
                 { "embedding_length", p->dim },       { "feed_forward_length", p->ff_dim },
                 { "attention.head_count", p->heads }, { "attention.head_count_kv", p->kv_heads } };
    char key[100];

    json_object_set_new(info, "general.architecture", json_string(p->arch_name));
    for (size_t i = 0; i < SL_COUNT_OF(rows); i++) {
        snprintf(key, sizeof key, "%s.%s", p->arch_name, rows[i].key);
        json_object_set_new(info, key, json_integer((json_int_t)rows[i].value));
    }
    (void)m;
    return info;
}

static json_t *tensors_of(const model_file *m)
{
    json_t *list = json_array();

    for (size_t i = 0; i < model_file_tensor_count(m); i++) {
        const tensor_info *t = model_file_tensor_at(m, i);
        json_t *shape = json_array();

        for (uint32_t d = 0; d < t->dim_count; d++)
            json_array_append_new(shape, json_integer((json_int_t)t->dims[d]));
        json_array_append_new(list, json_pack("{s:s%, s:s, s:o}", "name", (const char *)t->name.ptr,
                                              t->name.len, "type", tensor_type_name(t->type),
                                              "shape", shape));
    }
    return list;
}

/* What the files tell, added to out. */
static sl_status show_file(const char *path, bool verbose, json_t *out, sl_err *err)
{
    model_file *m = NULL;
    model_params p;
    const gguf_dir *dir;
    json_t *info;
    sl_status status;

    SL_TRY(model_file_open(path, &m, err));
    status = model_file_params(m, &p, err);
    if (status == SL_OK) {
        dir = model_file_gguf(m);
        info = dir ? info_of_gguf(dir, verbose) : info_of_params(m, &p);
        json_object_set_new(info, "general.parameter_count",
                            json_integer((json_int_t)model_file_param_count(m)));
        json_object_set_new(out, "model_info", info);
        json_object_set_new(out, "embedding_length", json_integer(p.dim));
        json_object_set_new(out, "context_length", json_integer(p.context));
        if (verbose)
            json_object_set_new(out, "tensors", tensors_of(m));
    }
    model_file_close(m);
    return status;
}

static void set_buf(json_t *out, const char *key, const sl_buf *b)
{
    if (b->len > 0 && !b->failed)
        json_object_set_new(out, key, json_stringn(b->ptr, b->len));
}

/* What the manifest tells, added to out. template_text is filled before. */
static void show_manifest(const json_t *manifest, const sl_buf *template_text, json_t *out)
{
    const json_t *licenses = json_object_get(manifest, "license");
    json_t *license, *system = json_object_get(manifest, "system");
    sl_buf text;
    size_t i;

    sl_buf_init(&text, 16 * SL_MIB);
    json_array_foreach((json_t *)(uintptr_t)licenses, i, license)
        sl_buf_printf(&text, "%s%s", i ? "\n" : "", json_string_value(license));
    set_buf(out, "license", &text);
    sl_buf_clear(&text);
    recipe_put_parameters(manifest, "", &text);
    set_buf(out, "parameters_text", &text);
    sl_buf_clear(&text);
    recipe_put_modelfile(manifest, sl_buf_str(template_text), &text);
    set_buf(out, "modelfile", &text);
    sl_buf_deinit(&text);
    set_buf(out, "template", template_text);
    if (system)
        json_object_set(out, "system", system);
    if (json_object_get(manifest, "messages"))
        json_object_set_new(out, "messages", json_deep_copy(json_object_get(manifest, "messages")));
}

static sl_status ops_show(void *ctx, const char *name, bool verbose, json_t **ret, sl_err *err)
{
    models *m = ctx;
    managed *s = models_find(m, name);
    json_t *out, *manifest;
    sl_buf template_text;
    char *path;
    bool gone;
    sl_status status;

    if (!s)
        return sl_fail(err, SL_ENOTFOUND, "no model '%s'", name);
    pthread_mutex_lock(&m->lock);
    gone = s->gone;
    out = entry_of(s);
    path = sl_strdup(s->path);
    manifest = json_deep_copy(s->manifest);
    pthread_mutex_unlock(&m->lock);
    sl_buf_init(&template_text, SL_TEMPLATE_BYTES_MAX);
    if (gone)
        status = sl_fail(err, SL_ENOTFOUND, "no model '%s'", name);
    else
        status =
            path ? show_file(path, verbose, out, err) : sl_fail(err, SL_ENOMEM, "out of memory");
    if (status == SL_OK && json_is_true(json_object_get(out, "can_generate")))
        status = managed_ops.chat_template(s, &template_text, err);
    if (status == SL_OK) {
        show_manifest(manifest, &template_text, out);
        *ret = out;
    } else {
        json_decref(out);
    }
    sl_buf_deinit(&template_text);
    json_decref(manifest);
    sl_free(path);
    return status;
}

/* ---- changes ------------------------------------------------------------------------------- */

typedef struct pulling {
    const llm_progress_sink *sink;
    char status[160];
} pulling;

static void on_pull_progress(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    pulling *p = ctx;

    snprintf(p->status, sizeof p->status, "pulling %.140s", what);
    p->sink->fn(p->sink->ctx, &(llm_progress){ p->status, NULL, done, total });
}

static void tell(const llm_progress_sink *sink, const char *status)
{
    if (sink->fn)
        sink->fn(sink->ctx, &(llm_progress){ .status = status });
}

/* What a model of a hub is called that was asked for by this name: as Ollama's clients go on
 * calling it, "hf.co/owner/repo:Q4_0". NULL: by its file. */
static const char *name_of(const char *name, char ret[129])
{
    const char *bare = strncmp(name, "https://", 8) == 0 ? name + 8 : name;

    if (strncmp(bare, "hf.co/", 6) != 0 && strncmp(bare, "huggingface.co/", 15) != 0)
        return NULL;
    return recipe_name(bare, ret, NULL) == SL_OK ? ret : NULL;
}

/* What a caller may fetch: names of the catalogue and repositories of a hub. */
static sl_status source_of(const char *name, char *ret, size_t bytes, sl_err *err)
{
    static const char *const hubs[] = { "hf.co/", "huggingface.co/", "https://hf.co/",
                                        "https://huggingface.co/", "hf:" };
    char bare[129];

    for (size_t i = 0; i < SL_COUNT_OF(hubs); i++) {
        size_t len = strlen(hubs[i]);

        if (strncmp(name, hubs[i], len) != 0)
            continue;
        if (snprintf(ret, bytes, "hf:%s", name + len) >= (int)bytes)
            return sl_fail(err, SL_EINVAL, "the model's name is too long");
        if (strlen(ret) > 7 && strcmp(ret + strlen(ret) - 7, ":latest") == 0)
            ret[strlen(ret) - 7] = '\0';
        return SL_OK;
    }
    if (recipe_name(name, bare, err) != SL_OK || !pull_in_catalogue(bare))
        return sl_fail(
            err, SL_ENOTFOUND,
            "pull model manifest: '%.100s' is neither a known name (smollm2, minilm) nor "
            "hf.co/OWNER/REPO[:QUANT]",
            name);
    snprintf(ret, bytes, "%s", bare);
    return SL_OK;
}

/* One pull at a time; a client that leaves does not wait for its turn. */
static sl_status take_turn(models *m, const llm_progress_sink *sink, sl_err *err)
{
    for (;;) {
        struct timespec until;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 1;
        if (pthread_mutex_timedlock(&m->work_lock, &until) == 0)
            return SL_OK;
        if (sink->cancelled && atomic_load(sink->cancelled))
            return sl_fail(err, SL_ECANCELLED, "cancelled by the caller");
    }
}

static sl_status ops_pull(void *ctx, const char *name, const llm_progress_sink *sink, sl_err *err)
{
    models *m = ctx;
    pulling p = { .sink = sink };
    char source[600], got[129], called[129];
    pull_options o = { .name = name_of(name, called),
                       .on_progress = sink->fn ? on_pull_progress : NULL,
                       .ctx = &p,
                       .cancelled = sink->cancelled };
    sl_status status;

    SL_TRY(source_of(name, source, sizeof source, err));
    SL_TRY(take_turn(m, sink, err));
    tell(sink, "pulling manifest");
    status = pull_model(m->store, source, &o, got, err);
    pthread_mutex_unlock(&m->work_lock);
    return status == SL_OK ? models_scan(m, err) : status;
}

static sl_status ops_copy(void *ctx, const char *from, const char *to, sl_err *err)
{
    models *m = ctx;

    SL_TRY(recipe_copy(m->store, from, to, err));
    return models_scan(m, err);
}

static sl_status ops_remove(void *ctx, const char *name, sl_err *err)
{
    models *m = ctx;
    char bare[129];

    SL_TRY(recipe_name(name, bare, err));
    SL_TRY(model_store_remove(m->store, bare, err));
    return models_scan(m, err);
}

static sl_status ops_create(void *ctx, const llm_recipe *r, const llm_progress_sink *sink,
                            sl_err *err)
{
    models *m = ctx;
    char name[129];
    managed *s;
    sl_status status;

    SL_TRY(recipe_name(r->name, name, err));
    SL_TRY(take_turn(m, sink, err));
    status = recipe_create(m->store, r, sink, err);
    pthread_mutex_unlock(&m->work_lock);
    if (status == SL_OK)
        status = models_scan(m, err);
    if (status != SL_OK)
        return status;
    s = models_find(m, name);
    if (s)
        return SL_OK;
    SL_TRY(model_store_remove(m->store, name, err));
    return sl_fail(err, SL_EINVAL, "the files are no model that can be run; see the server's log");
}

/* ---- blobs --------------------------------------------------------------------------------- */

static bool ops_has_blob(void *ctx, const char *sha256)
{
    const models *m = ctx;

    return model_store_has_blob(m->store, sha256);
}

static sl_status ops_blob_draft(void *ctx, char *ret, size_t bytes, sl_err *err)
{
    const models *m = ctx;
    char key[40];
    sl_buf path;
    sl_status status;

    sl_random_id(key, sizeof key, "upload-", 12);
    sl_buf_init(&path, bytes - 1);
    status = model_store_partial(m->store, key, &path, err);
    if (status == SL_OK)
        snprintf(ret, bytes, "%s", path.ptr);
    sl_buf_deinit(&path);
    return status;
}

static sl_status ops_put_blob(void *ctx, const char *sha256, const char *file, sl_err *err)
{
    models *m = ctx;
    char sum[MODEL_SHA256_HEX];
    uint64_t bytes;
    sl_status status = model_store_add_blob(m->store, file, sha256, sum, &bytes, err);

    if (status == SL_EFORMAT)
        return sl_fail(err, status, "digest mismatch, expected \"sha256:%s\", got \"sha256:%s\"",
                       sha256, sum);
    if (status != SL_OK)
        unlink(file);
    return status;
}

llm_models models_service(models *m)
{
    static const llm_models_ops ops = {
        .list = ops_list,
        .loaded = ops_loaded,
        .show = ops_show,
        .pull = ops_pull,
        .copy = ops_copy,
        .remove = ops_remove,
        .create = ops_create,
        .has_blob = ops_has_blob,
        .put_blob = ops_put_blob,
        .blob_draft = ops_blob_draft,
    };

    return (llm_models){ &ops, m };
}
