/* models.c - the list of models: made from the configuration and from the store, kept up with the
 * store while the program runs. */
#include "app/models.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "app/app.h"
#include "app/models_int.h"
#include "app/pull_int.h"
#include "base/duration.h"
#include "base/log.h"
#include "base/os.h"
#include "base/thread.h"

#define KEEP_DEFAULT_NS   ((int64_t)300 * 1000000000)
#define QUEUE_MAX_DEFAULT 512
#define MARGIN_BYTES      (512 * SL_MIB) /* for everything that is no model */

/* ---- life ---------------------------------------------------------------------------------- */

static sl_status read_options(models *m, sl_err *err)
{
    const config_loading *l = &m->c->loading;
    uint64_t all = sl_memory_bytes();

    m->keep_default_ns = KEEP_DEFAULT_NS;
    m->queue_max = m->c->engine.queue > 0 ? m->c->engine.queue : QUEUE_MAX_DEFAULT;
    m->budget_bytes = SL_MAX(all / 10 * 9, all / 2 + MARGIN_BYTES) - MARGIN_BYTES;
    if (l->memory)
        SL_TRY(config_bytes(l->memory, &m->budget_bytes, err));
    if (l->keep_alive && !sl_duration_parse(l->keep_alive, &m->keep_default_ns))
        return sl_fail(err, SL_EINVAL,
                       "loading.keep_alive is '%.40s', not a duration; write 5m or 1h30m, 0, or -1 "
                       "for ever",
                       l->keep_alive);
    if (m->keep_default_ns < 0)
        m->keep_default_ns = KEEP_FOREVER;
    return SL_OK;
}

static void init_conds(models *m)
{
    pthread_mutex_init(&m->lock, NULL);
    pthread_mutex_init(&m->text_lock, NULL);
    pthread_mutex_init(&m->scan_lock, NULL);
    pthread_mutex_init(&m->work_lock, NULL);
    sl_cond_init(&m->to_loader);
    sl_cond_init(&m->to_keeper);
}

sl_status models_create(const config *c, llm_chain *chain, models **ret, sl_err *err)
{
    models *m = sl_calloc(1, sizeof *m);
    sl_status status;

    if (!m)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    m->c = c;
    m->chain = chain;
    init_conds(m);
    status = read_options(m, err);
    if (status == SL_OK)
        status = model_store_open(c->data, &m->store, err);
    if (status == SL_OK) {
        m->loader_runs = pthread_create(&m->loader, NULL, models_loader, m) == 0;
        m->keeper_runs = pthread_create(&m->keeper, NULL, models_keeper, m) == 0;
        if (!m->loader_runs || !m->keeper_runs)
            status = sl_fail(err, SL_EIO, "cannot start a thread");
    }
    if (status == SL_OK)
        *ret = m;
    else
        models_destroy(m);
    return status;
}

void models_stop(models *m)
{
    pthread_mutex_lock(&m->lock);
    m->stop = true;
    pthread_cond_broadcast(&m->to_loader);
    pthread_cond_broadcast(&m->to_keeper);
    pthread_mutex_unlock(&m->lock);
    if (m->loader_runs)
        pthread_join(m->loader, NULL);
    if (m->keeper_runs)
        pthread_join(m->keeper, NULL);
    m->loader_runs = m->keeper_runs = false;
    for (size_t i = 0; i < m->count; i++)
        if (m->list[i]->e)
            engine_stop(m->list[i]->e);
}

static void managed_destroy(managed *s)
{
    engine_close(s->e);
    engine_close(s->text);
    model_defaults_unref(s->defaults);
    json_decref(s->manifest);
    sl_free(s->path);
    sl_free(s);
}

void models_destroy(models *m)
{
    if (!m)
        return;
    models_stop(m);
    for (size_t i = 0; i < m->count; i++)
        managed_destroy(m->list[i]);
    for (size_t i = 0; i < m->retired_count; i++)
        engine_close(m->retired[i]);
    sl_free(m->retired);
    model_store_close(m->store);
    pthread_cond_destroy(&m->to_loader);
    pthread_cond_destroy(&m->to_keeper);
    pthread_mutex_destroy(&m->lock);
    pthread_mutex_destroy(&m->text_lock);
    pthread_mutex_destroy(&m->scan_lock);
    pthread_mutex_destroy(&m->work_lock);
    sl_free(m);
}

/* ---- adding -------------------------------------------------------------------------------- */

managed *models_find(models *m, const char *name)
{
    const llm_route *r = llm_chain_route(m->chain, name);

    return r && r->backend.ops == &managed_ops ? r->backend.ctx : NULL;
}

/* What the configuration says of a model; NULL: nothing. */
static const config_model *configured(const models *m, const char *name)
{
    for (unsigned i = 0; i < m->c->models_count; i++) {
        const config_model *c = &m->c->models[i];
        char own[129];

        if (!c->path)
            continue; /* it is elsewhere */
        if (c->name)
            snprintf(own, sizeof own, "%s", c->name);
        else
            pull_model_name(c->path, own);
        if (strcmp(c->name ? c->name : c->path, name) == 0 || strcmp(own, name) == 0)
            return c;
    }
    return NULL;
}

sl_status models_options(const models *m, const char *name, engine_options *ret, sl_err *err)
{
    const config *c = m->c;
    const config_model *own = configured(m, name);
    uint64_t kv_bytes = 0;

    if (c->kv.memory)
        SL_TRY(config_bytes(c->kv.memory, &kv_bytes, err));
    *ret = (engine_options){ .name = name,
                             .threads = c->threads,
                             .kv_bytes = (size_t)kv_bytes,
                             .context_max = c->engine.context,
                             .seqs_max = c->engine.sequences,
                             .queue_max = c->engine.queue,
                             .wait_ms = c->engine.wait_ms,
                             .deadline_ms = c->engine.deadline_ms,
                             .step_tokens = c->engine.step_tokens,
                             .mixed_prefill = c->engine.mixed_prefill,
                             .spec_tokens = c->engine.speculation,
                             .kv_type = c->kv.type,
                             .query_prefix = own ? own->query_prefix : NULL,
                             .passage_prefix = own ? own->passage_prefix : NULL };
    return SL_OK;
}

/* What is known of a model before it is loaded. */
typedef struct description {
    char *path;
    json_t *manifest;
    char digest[MODEL_SHA256_HEX];
    int64_t modified_ns;
    llm_model_info info;
    uint64_t need_bytes;
    model_defaults *defaults;
} description;

static void description_deinit(description *d)
{
    sl_free(d->path);
    json_decref(d->manifest);
    model_defaults_unref(d->defaults);
}

static void digest_of(const json_t *manifest, char ret[MODEL_SHA256_HEX])
{
    char *text = json_dumps(manifest, JSON_COMPACT | JSON_SORT_KEYS);

    pull_key(text ? text : "", ret);
    free(text);
}

/* Reads a model's head. manifest: of the store, or NULL; taken. */
static sl_status describe(const models *m, const char *name, const char *path, json_t *manifest,
                          description *ret, sl_err *err)
{
    engine_options o;
    sl_status status;

    *ret = (description){ .manifest = manifest, .path = sl_strdup(path) };
    status =
        ret->path ? models_options(m, name, &o, err) : sl_fail(err, SL_ENOMEM, "out of memory");
    if (status == SL_OK)
        status = engine_describe(path, &o, &ret->info, &ret->need_bytes, err);
    if (status != SL_OK) {
        description_deinit(ret);
        return status;
    }
    ret->info.created_s = time(NULL);
    if (manifest) {
        digest_of(manifest, ret->digest);
        ret->info.created_s = json_integer_value(json_object_get(manifest, "created"));
        ret->defaults = model_defaults_create(manifest);
    } else {
        pull_key(path, ret->digest);
    }
    ret->modified_ns = ret->info.created_s * 1000000000;
    return SL_OK;
}

static void retire_text(managed *s)
{
    models *m = s->m;

    if (s->text && sl_grow((void **)&m->retired, &m->retired_cap, m->retired_count + 1,
                           sizeof(engine *), 1 << 16))
        m->retired[m->retired_count++] = s->text;
    s->text = NULL;
}

/* Puts a description in; takes it. With m->lock. */
static void install(managed *s, description *d)
{
    bool files_changed = s->path && (strcmp(s->path, d->path) != 0 ||
                                     !json_equal(json_object_get(s->manifest, "files"),
                                                 json_object_get(d->manifest, "files")));

    model_defaults_unref(s->defaults);
    json_decref(s->manifest);
    sl_free(s->path);
    s->path = d->path;
    s->manifest = d->manifest;
    s->defaults = d->defaults;
    s->info = d->info;
    s->need_bytes = d->need_bytes;
    s->modified_ns = d->modified_ns;
    memcpy(s->digest, d->digest, sizeof s->digest);
    s->gone = false;
    if (!files_changed)
        return;
    retire_text(s);
    s->stale = s->state != MANAGED_COLD && s->state != MANAGED_QUEUED;
    if (s->stale && s->state == MANAGED_READY && s->users == 0)
        managed_leave(s);
}

/* A new model with its route; takes d. */
static sl_status add_managed(models *m, const char *name, description *d, bool configured,
                             managed **ret, sl_err *err)
{
    managed *s = sl_calloc(1, sizeof *s);
    sl_status status;

    if (!s) {
        description_deinit(d);
        return sl_fail(err, SL_ENOMEM, "out of memory");
    }
    s->m = m;
    s->configured = configured;
    s->keep_ns = s->keep_first = configured ? KEEP_FOREVER : m->keep_default_ns;
    snprintf(s->name, sizeof s->name, "%s", name);
    install(s, d);
    status = llm_chain_add(m->chain, name, (llm_backend){ &managed_ops, s }, err);
    if (status != SL_OK) {
        managed_destroy(s);
        return status;
    }
    pthread_mutex_lock(&m->lock);
    s->route = llm_chain_route(m->chain, name);
    m->list[m->count++] = s;
    pthread_mutex_unlock(&m->lock);
    *ret = s;
    return SL_OK;
}

/* Where a model of the configuration is, and its manifest when it is in the store. */
static sl_status locate(const models *m, const config_model *which, sl_buf *ret_path,
                        json_t **ret_manifest, char ret_name[129], sl_err *err)
{
    bool is_stored = model_store_name_ok(which->path) && !sl_file_exists(which->path);

    SL_TRY(app_resolve_model(m->c, which->path, ret_path, err));
    if (is_stored)
        SL_TRY(model_store_manifest(m->store, which->path, ret_manifest, err));
    /* "smollm2" stays "smollm2"; "dir/Model.gguf" is called "model". */
    if (which->name)
        snprintf(ret_name, 129, "%s", which->name);
    else if (is_stored)
        snprintf(ret_name, 129, "%s", which->path);
    else
        pull_model_name(which->path, ret_name);
    return SL_OK;
}

/* The store's name of a model that the configuration calls otherwise leads to the same. */
static sl_status add_alias(models *m, const config_model *which, managed *s, sl_err *err)
{
    llm_route *r;

    if (!s->manifest || strcmp(which->path, s->name) == 0 || llm_chain_route(m->chain, which->path))
        return SL_OK;
    SL_TRY(llm_chain_add(m->chain, which->path, s->route->backend, err));
    r = llm_chain_route(m->chain, which->path);
    r->is_alias = true;
    return SL_OK;
}

/* One that scores documents is of use only beside the two others. */
static bool is_needed(const llm_model_info *info, unsigned needs)
{
    unsigned all = APP_CHAT | APP_EMBED;

    if (info->can_rerank)
        return (needs & all) == all;
    return needs & (info->can_embed ? APP_EMBED : APP_CHAT);
}

sl_status models_add(models *m, const config_model *which, bool configured, unsigned needs,
                     sl_err *err)
{
    json_t *manifest = NULL;
    managed *s = NULL;
    description d;
    char name[129];
    sl_buf path;
    sl_status status;

    sl_buf_init(&path, 8192);
    status = locate(m, which, &path, &manifest, name, err);
    if (status == SL_OK)
        status = describe(m, name, path.ptr, manifest, &d, err);
    sl_buf_deinit(&path);
    if (status != SL_OK)
        return status;
    if (!is_needed(&d.info, needs)) {
        description_deinit(&d);
        return SL_OK;
    }
    SL_TRY(add_managed(m, name, &d, configured, &s, err));
    if (!configured)
        s->keep_ns = s->keep_first = KEEP_FOREVER;
    if (which->rag.collection) {
        if (strlen(which->rag.collection) >= sizeof s->route->collection)
            return sl_fail(err, SL_EINVAL, "models: the collection's name '%.64s...' is too long",
                           which->rag.collection);
        snprintf(s->route->collection, sizeof s->route->collection, "%s", which->rag.collection);
    }
    SL_TRY(add_alias(m, which, s, err));
    if (managed_owner(s) != s)
        return SL_OK; /* there is an engine of these files */
    if (!configured && m->used_bytes + s->need_bytes > m->budget_bytes)
        return SL_OK; /* when it is asked for, something else will make room */
    return managed_load_now(s, err);
}

/* ---- the store ----------------------------------------------------------------------------- */

static sl_status resolve(const models *m, const char *name, char **ret, sl_err *err)
{
    sl_buf path;
    sl_status status;

    sl_buf_init(&path, 8192);
    status = model_store_resolve(m->store, name, &path, err);
    if (status == SL_OK && !(*ret = sl_buf_steal(&path)))
        status = sl_fail(err, SL_ENOMEM, "out of memory");
    sl_buf_deinit(&path);
    return status;
}

static bool is_unchanged(managed *s, const json_t *manifest)
{
    char digest[MODEL_SHA256_HEX];
    bool same;

    digest_of(manifest, digest);
    pthread_mutex_lock(&s->m->lock);
    same = !s->gone && strcmp(s->digest, digest) == 0;
    pthread_mutex_unlock(&s->m->lock);
    return same;
}

/* Brings one model up to its manifest. */
static sl_status scan_one(models *m, json_t *manifest, sl_err *err)
{
    const char *name = json_string_value(json_object_get(manifest, "name"));
    managed *s = name && strlen(name) < 128 ? models_find(m, name) : NULL;
    char *path = NULL;
    description d;
    sl_status status;

    if (!name || strlen(name) >= 128)
        return sl_fail(err, SL_EFORMAT, "a manifest has no name");
    if (s ? is_unchanged(s, manifest) : llm_chain_route(m->chain, name) != NULL)
        return SL_OK;
    SL_TRY(resolve(m, name, &path, err));
    status = describe(m, name, path, json_incref(manifest), &d, err);
    sl_free(path);
    if (status != SL_OK)
        return status;
    if (!s) {
        SL_TRY(add_managed(m, name, &d, false, &s, err));
        s->from_store = true;
        return SL_OK;
    }
    pthread_mutex_lock(&m->lock);
    install(s, &d);
    if (s->route)
        atomic_store(&s->route->hidden, false);
    pthread_mutex_unlock(&m->lock);
    return SL_OK;
}

static bool is_listed(const json_t *list, const char *name)
{
    size_t i;
    json_t *manifest;

    json_array_foreach((json_t *)(uintptr_t)list, i, manifest)
    {
        const char *have = json_string_value(json_object_get(manifest, "name"));

        if (have && strcmp(have, name) == 0)
            return true;
    }
    return false;
}

/* Hides models whose manifest is no more; they are unloaded once they are done. */
static void drop_missing(models *m, const json_t *list)
{
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->count; i++) {
        managed *s = m->list[i];
        const char *stored = json_string_value(json_object_get(s->manifest, "name"));

        if (!stored || s->gone || is_listed(list, stored))
            continue;
        s->gone = true;
        atomic_store(&s->route->hidden, true);
        if (s->state == MANAGED_READY && s->users == 0)
            managed_leave(s);
    }
    pthread_mutex_unlock(&m->lock);
}

sl_status models_scan(models *m, sl_err *err)
{
    json_t *list = NULL, *manifest;
    int64_t stamp;
    size_t i;
    sl_status status;

    pthread_mutex_lock(&m->scan_lock);
    stamp = model_store_stamp(m->store);
    status = model_store_list(m->store, &list, err);
    json_array_foreach(list, i, manifest)
    {
        sl_err why = { 0 };

        if (scan_one(m, manifest, &why) != SL_OK)
            SL_LOG(SL_LOG_WARN, "model.unusable",
                   SL_F_STR("model", json_string_value(json_object_get(manifest, "name"))),
                   SL_F_STR("error", why.text));
    }
    if (status == SL_OK)
        drop_missing(m, list);
    json_decref(list);
    pthread_mutex_lock(&m->lock);
    m->stamp = stamp;
    pthread_mutex_unlock(&m->lock);
    pthread_mutex_unlock(&m->scan_lock);
    return status;
}

sl_status models_watch_store(models *m, sl_err *err)
{
    SL_TRY(models_scan(m, err));
    pthread_mutex_lock(&m->lock);
    m->watching = true;
    pthread_cond_signal(&m->to_keeper);
    pthread_mutex_unlock(&m->lock);
    return SL_OK;
}

/* ---- statistics ---------------------------------------------------------------------------- */

void models_add_stats(models_stats *to, const engine *e)
{
    engine_stats s;

    engine_read_stats(e, &s);
    to->running += s.running;
    to->waiting += s.waiting;
    to->kv_used += s.kv_blocks_used;
    to->kv_blocks += s.kv_blocks;
    to->steps += (double)s.steps;
    to->preemptions += (double)s.preemptions;
    to->prefix_hits += (double)s.prefix_hits;
    to->prefix_queries += (double)s.prefix_queries;
    to->draft_tokens += (double)s.draft_tokens;
    to->draft_accepted += (double)s.draft_accepted;
}

size_t models_read_stats(models *m, models_stats *ret, size_t max)
{
    size_t count = 0;

    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->count && count < max; i++) {
        const managed *s = m->list[i];
        models_stats *to = &ret[count];

        if (!s->e && s->waiting.count == 0 && s->past.steps == 0)
            continue;
        *to = s->past;
        snprintf(to->model, sizeof to->model, "%s", s->name);
        if (s->e)
            models_add_stats(to, s->e);
        to->waiting += s->waiting.count;
        count++;
    }
    pthread_mutex_unlock(&m->lock);
    return count;
}
