/* wire.c - composes the program. Everything that knows two rooms at once is here. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <unistd.h>

#include "access/access.h"
#include "api/api.h"
#include "app/app.h"
#include "app/books.h"
#include "app/identity.h"
#include "app/kept.h"
#include "app/models.h"
#include "app/scripted.h"
#include "app/serving.h"
#include "app/watch.h"
#include "base/hold.h"
#include "base/log.h"
#include "base/os.h"
#include "gateway/gateway.h"
#include "http/http.h"
#include "jobs/jobs.h"
#include "rag/rag.h"

#define DRAIN_SECONDS_DEFAULT 30
#define UPSTREAMS_MAX         16

struct app {
    const config *c;
    config *reloaded; /* c, when a reload made it */
    app_config_fn remake;
    void *remake_ctx;
    scripted *script; /* at most one; NULL outside of measurements */
    upstream *upstreams[UPSTREAMS_MAX];
    int upstream_count;
    llm_chain chain;
    models *models;
    rag *rag;
    books *books;    /* while serving */
    kept *kept;      /* the same */
    jobs *jobs;      /* the same */
    api_lines lines; /* of batches */
    metric_registry *metrics;
    int hold;         /* on the data directory, -1: none */
    char scratch[64]; /* the folder of a store that is gone afterwards, or "" */
};

sl_status app_resolve_model(const config *c, const char *name, sl_buf *ret_path, sl_err *err)
{
    model_store *s = NULL;
    sl_status status;

    sl_buf_clear(ret_path);
    if (sl_file_exists(name)) {
        sl_buf_puts(ret_path, name);
        return sl_buf_ok(ret_path, "path", err);
    }
    if (strchr(name, '/') && !model_store_name_ok(name))
        return sl_fail(err, SL_ENOTFOUND, "%s: no such file or directory", name);
    SL_TRY(model_store_open(c->data, &s, err));
    status = model_store_resolve(s, name, ret_path, err);
    model_store_close(s);
    if (status == SL_ENOTFOUND && strchr(name, '/'))
        return sl_fail(err, status, "%s: no such file or directory, nor a model of that name in %s",
                       name, c->data);
    if (status == SL_ENOTFOUND)
        return sl_fail(err, status, "no model '%s' in %s; fetch it with: sluice pull %s", name,
                       c->data, name);
    return status;
}

sl_status app_open_model(const config *c, const char *name, model_file **ret, sl_err *err)
{
    sl_buf path;
    sl_status status;

    if (!name)
        return sl_fail(err, SL_EINVAL, "which model? Give -m MODEL");
    sl_buf_init(&path, 8192);
    status = app_resolve_model(c, name, &path, err);
    if (status == SL_OK)
        status = model_file_open(path.ptr, ret, err);
    sl_buf_deinit(&path);
    return status;
}

static sl_status add_upstream(app *a, const config_model *m, sl_err *err)
{
    const config_upstream *c = &m->upstream;
    upstream_options o = { .name = m->name,
                           .url = c->url,
                           .model = c->model,
                           .dim = c->dim,
                           .context = c->context,
                           .query_prefix = m->query_prefix,
                           .passage_prefix = m->passage_prefix };
    char *key = NULL;
    sl_status status = SL_OK;

    if (!m->name || !m->name[0])
        return sl_fail(err, SL_EINVAL, "models[].upstream %s: the model needs a name", c->url);
    if (a->upstream_count == UPSTREAMS_MAX)
        return sl_fail(err, SL_ELIMIT, "more than %d upstreams", UPSTREAMS_MAX);
    if (c->key)
        status = config_secret(c->key, &key, err);
    o.key = key;
    if (status == SL_OK)
        status = upstream_open(&o, &a->upstreams[a->upstream_count], err);
    sl_free(key);
    if (status != SL_OK)
        return status;
    a->upstream_count++;
    return llm_chain_add(&a->chain, m->name, upstream_backend(a->upstreams[a->upstream_count - 1]),
                         err);
}

static sl_status add_model(app *a, const config_model *m, unsigned needs, sl_err *err)
{
    if (m->upstream.url && m->path)
        return sl_fail(err, SL_EINVAL, "models: '%s' has a path and an upstream; one of them",
                       m->path);
    if (m->upstream.url)
        return needs & APP_EMBED ? add_upstream(a, m, err) : SL_OK;
    if (strncmp(m->path, SCRIPTED_PREFIX, sizeof SCRIPTED_PREFIX - 1) != 0)
        return models_add(a->models, m, true, needs, err);
    if (a->script)
        return sl_fail(err, SL_ELIMIT, "more than one scripted model");
    SL_TRY(scripted_open(m->path, &a->script, err));
    return llm_chain_add(&a->chain, m->name ? m->name : m->path, scripted_backend(a->script), err);
}

/* Without configured models: what the store has of the catalogue, in its order. */
static sl_status load_store(app *a, unsigned needs, sl_err *err)
{
    model_store *s = NULL;
    json_t *list = NULL, *item;
    size_t i;
    sl_status status;

    SL_TRY(model_store_open(a->c->data, &s, err));
    status = model_store_list(s, &list, err);
    for (size_t k = 0; status == SL_OK && pull_catalogue_name(k); k++) {
        const char *name = pull_catalogue_name(k);
        config_model m = { .path = (char *)(uintptr_t)name };

        json_array_foreach(
            list, i, item) if (status == SL_OK &&
                               strcmp(json_string_value(json_object_get(item, "name")), name) == 0)
            status = models_add(a->models, &m, false, needs, err);
    }
    json_decref(list);
    model_store_close(s);
    return status;
}

/* A server may begin without a model: POST /api/pull or `sluice pull` brings one while it runs. */
static sl_status check_needs(const app *a, unsigned needs, bool may_be_empty, sl_err *err)
{
    bool chat = llm_chain_find(&a->chain, NULL, LLM_CHAT) != NULL;
    bool embed = llm_chain_find(&a->chain, NULL, LLM_EMBED) != NULL;

    if (!(needs & (APP_CHAT | APP_EMBED)))
        return SL_OK;
    if (atomic_load(&a->chain.route_count) == 0 && !may_be_empty)
        return sl_fail(err, SL_ENOTFOUND,
                       "no model to load; fetch the defaults with: sluice pull smollm2 minilm");
    if (!chat && !embed && may_be_empty)
        SL_LOG(SL_LOG_WARN, "model.none", SL_F_STR("data", a->c->data),
               SL_F_STR("hint", "bring one with POST /api/pull or: sluice pull smollm2 minilm"));
    if ((needs & APP_DOCS) && (((needs & APP_CHAT) && !chat) || ((needs & APP_EMBED) && !embed)))
        return sl_fail(
            err, SL_ENOTFOUND,
            "documents need a chat model and an embedding model; fetch them with: sluice "
            "pull smollm2 minilm");
    return SL_OK;
}

static sl_status make_scratch(app *a, sl_err *err)
{
    snprintf(a->scratch, sizeof a->scratch, "/tmp/sluice-XXXXXX");
    if (mkdtemp(a->scratch))
        return SL_OK;
    a->scratch[0] = '\0';
    return sl_fail(err, SL_EIO, "no folder can be made under /tmp: %m");
}

/* Takes the store's files away; what else is there stays. */
static void drop_scratch(app *a)
{
    static const char *const tails[] = { "", "-wal", "-shm" };
    char path[128];

    if (!a->scratch[0])
        return;
    for (size_t i = 0; i < SL_COUNT_OF(tails); i++) {
        snprintf(path, sizeof path, "%s/sluice.db%s", a->scratch, tails[i]);
        (void)unlink(path);
    }
    (void)rmdir(a->scratch);
}

static int ingest_workers(void)
{
    return SL_MIN(sl_cpu_count(), 4);
}

static sl_status open_docs(app *a, bool works, sl_err *err)
{
    rag_options o = { .ingest_workers = works ? ingest_workers() : 0,
                      .chain = &a->chain,
                      .embed_model = a->c->rag.embedding_model,
                      .chat_model = a->c->rag.chat_model,
                      .rerank_model = a->c->rag.rerank_model,
                      .chunk_tokens = a->c->rag.chunk_tokens,
                      .overlap_tokens = a->c->rag.overlap_tokens,
                      .top_k = a->c->rag.top_k,
                      .answer_tokens = a->c->rag.answer_tokens };
    sl_buf path;
    sl_status status;

    sl_buf_init(&path, 8192);
    sl_buf_printf(&path, "%s/sluice.db", a->scratch[0] ? a->scratch : a->c->data);
    status = sl_buf_ok(&path, "path", err);
    o.db_path = path.ptr;
    if (status == SL_OK)
        status = rag_open(&o, &a->rag, err);
    sl_buf_deinit(&path);
    return status;
}

sl_status app_create(const config *c, unsigned needs, app **ret, sl_err *err)
{
    app *a = sl_calloc(1, sizeof *a);
    bool serving = needs == (APP_CHAT | APP_EMBED);
    bool watches = serving && !c->loading.only_configured;
    sl_status status = SL_OK;

    if (!a)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    a->c = c;
    a->hold = -1;
    if (serving || (needs & APP_DOCS)) /* what only reads is not told to wait for a restore */
        status = sl_dir_hold(c->data, false, &a->hold, err);
    if (status == SL_OK)
        status = models_create(c, &a->chain, &a->models, err);
    for (unsigned i = 0; i < c->models_count && status == SL_OK; i++)
        status = add_model(a, &c->models[i], needs, err);
    if (status == SL_OK && atomic_load(&a->chain.route_count) == 0)
        status = load_store(a, needs, err);
    if (status == SL_OK && watches)
        status = models_watch_store(a->models, err);
    if (status == SL_OK)
        status = check_needs(a, needs, watches, err);
    if (status == SL_OK && (needs & APP_SCRATCH))
        status = make_scratch(a, err);
    if (status == SL_OK && (serving || (needs & APP_DOCS)))
        status = open_docs(a, needs & APP_INGEST, err); /* its models may come later */
    if (status == SL_OK)
        *ret = a;
    else
        app_destroy(a);
    return status;
}

void app_destroy(app *a)
{
    if (!a)
        return;
    rag_close(a->rag);
    drop_scratch(a);
    models_destroy(a->models);
    scripted_close(a->script);
    for (int i = 0; i < a->upstream_count; i++)
        upstream_close(a->upstreams[i]);
    jobs_close(a->jobs);
    books_close(a->books);
    kept_close(a->kept);
    config_destroy(a->reloaded);
    metric_registry_destroy(a->metrics);
    if (a->hold >= 0)
        close(a->hold);
    sl_free(a);
}

llm_chain *app_chain(app *a)
{
    return &a->chain;
}

sl_status app_run_batch(app *a, jobs_local *o, jobs_progress *ret, sl_err *err)
{
    a->lines.chain = &a->chain;
    o->runner = api_line_runner(&a->lines);
    return jobs_run_local(o, ret, err);
}

llm_docs app_docs(app *a)
{
    return a->rag ? rag_docs(a->rag) : (llm_docs){ 0 };
}

/* ---- serving --------------------------------------------------------------------------------- */

static size_t read_stats(void *ctx, api_stats *ret, size_t max)
{
    const app *a = ctx;
    models_stats list[LLM_MODELS_MAX];
    size_t count = models_read_stats(a->models, list, SL_MIN(max, (size_t)LLM_MODELS_MAX));

    for (size_t i = 0; i < count; i++) {
        const models_stats *s = &list[i];

        ret[i] = (api_stats){ .requests_running = s->running,
                              .requests_waiting = s->waiting,
                              .kv_blocks_used = s->kv_used,
                              .kv_blocks = s->kv_blocks,
                              .prefix_hit_tokens_total = s->prefix_hits,
                              .prefix_query_tokens_total = s->prefix_queries,
                              .preemptions_total = s->preemptions,
                              .steps_total = s->steps,
                              .draft_tokens_total = s->draft_tokens,
                              .draft_accepted_tokens_total = s->draft_accepted };
        snprintf(ret[i].model, sizeof ret[i].model, "%.127s", s->model);
    }
    return count;
}

/* ---- reload -------------------------------------------------------------------------------- */

typedef struct changes {
    sl_buf fixed; /* keys that cannot change while serving */
    int count;
} changes;

static void on_change(void *ctx, const char *path, bool reloads)
{
    changes *ch = ctx;

    ch->count++;
    if (!reloads && !(ch->fixed.len > 0 && strstr(sl_buf_str(&ch->fixed), path)))
        sl_buf_printf(&ch->fixed, "%s%s", ch->fixed.len ? ", " : "", path);
}

static sl_status apply_reload(app *a, config *next, changes *ch, sl_err *err)
{
    SL_TRY(config_compare((config *)(uintptr_t)a->c, next, on_change, ch, err));
    if (ch->fixed.len > 0)
        return sl_fail(err, SL_ENOTSUP,
                       "%.300s cannot change while serving: restart for that; "
                       "nothing was changed",
                       sl_buf_str(&ch->fixed));
    SL_TRY(app_check_watch(next, err));
    SL_TRY(books_reload(a->books, next, err));
    SL_TRY(watch_set_levels(next, err)); /* was checked */
    config_destroy(a->reloaded);
    a->c = a->reloaded = next;
    return SL_OK;
}

/* All or nothing. */
static void reload(app *a)
{
    changes ch = { .count = 0 };
    config *next = NULL;
    sl_err err = { .status = SL_OK };
    sl_status status = a->remake(a->remake_ctx, &next, &err);

    sl_buf_init(&ch.fixed, 4096);
    if (status == SL_OK)
        status = apply_reload(a, next, &ch, &err);
    if (status == SL_OK) {
        SL_LOG(SL_LOG_INFO, "config.reloaded", SL_F_NUM("changed", ch.count));
    } else {
        SL_LOG(SL_LOG_ERROR, "config.not_reloaded", SL_F_STR("error", err.text));
        config_destroy(next);
    }
    sl_buf_deinit(&ch.fixed);
}

/* Waits for a signal that ends the program; cmd_serve blocked them before any thread started. */
static void wait_for_end(app *a, http_server *server)
{
    sigset_t set;
    int sig = SIGHUP;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    while (sig == SIGHUP || sig == SIGUSR1) {
        if (sigwait(&set, &sig) != 0)
            continue;
        if (sig == SIGHUP) {
            (void)http_server_reload_tls(server, NULL); /* logs */
            reload(a);
        }
        if (sig == SIGUSR1)
            sl_log_reopen();
    }
    SL_LOG(SL_LOG_INFO, "server.draining",
           SL_F_STR("signal", sig == SIGTERM ? "SIGTERM" : "SIGINT"));
}

static sl_status serve(app *a, access_control *access, http_server *server, sl_err *err)
{
    api *front = NULL;
    api_options o = { .chain = &a->chain,
                      .docs = app_docs(a),
                      .models = models_service(a->models),
                      .gate = access_enter,
                      .gate_ctx = access,
                      .accounts = access_accounts(access),
                      .version = SLUICE_VERSION,
                      .usage = books_usage(a->books),
                      .responses = kept_responses(a->kept),
                      .metrics = a->metrics,
                      .jobs = jobs_service(a->jobs),
                      .stats = read_stats,
                      .stats_ctx = a };
    int drain = a->c->server.drain_seconds > 0 ? a->c->server.drain_seconds : DRAIN_SECONDS_DEFAULT;
    int dropped;

    sl_status status = watch_compat(a->c, &o.compat, err);

    if (status == SL_OK)
        status = watch_content(a->c, &o.log_content, err);
    if (status == SL_OK)
        status = api_create(&o, server, &front, err);
    a->lines.front = front;
    if (status == SL_OK)
        status = jobs_start(a->jobs, err);
    if (status == SL_OK)
        status = http_server_start(server, err);
    if (status == SL_OK) {
        api_set_ready(front, true);
        serving_ready(server, atomic_load(&a->chain.route_count));
        wait_for_end(a, server);
        api_set_ready(front, false);
        dropped = http_server_drain(server, (int64_t)drain * 1000);
        SL_LOG(SL_LOG_INFO, "server.stopped", SL_F_NUM("dropped", dropped));
    }
    jobs_stop(a->jobs);
    /* Requests of dropped clients still deliver into the api: end them first. */
    models_stop(a->models);
    if (a->script)
        scripted_stop(a->script);
    for (int i = 0; i < a->upstream_count; i++)
        upstream_stop(a->upstreams[i]);
    http_server_destroy(server);
    api_destroy(front);
    return status;
}

static sl_status open_kept(app *a, sl_err *err)
{
    sl_buf path;
    sl_status status;

    sl_buf_init(&path, 8192);
    sl_buf_printf(&path, "%s/responses.db", a->c->data);
    status = sl_buf_ok(&path, "path", err);
    if (status == SL_OK)
        status = kept_open(path.ptr, &a->kept, err);
    sl_buf_deinit(&path);
    return status;
}

/* Files and batches; batches give way to what else goes through the chain. */
static sl_status open_jobs(app *a, access_control *access, sl_err *err)
{
    jobs_options o = { .dir = a->c->data,
                       .runner = api_line_runner(&a->lines),
                       .accounts = access_accounts(access),
                       .concurrency = a->c->jobs.concurrency };
    uint64_t bytes = 0;

    a->lines = (api_lines){ &a->chain, kept_responses(a->kept), NULL };
    if (a->c->jobs.file_max)
        SL_TRY(config_bytes(a->c->jobs.file_max, &bytes, err));
    o.file_bytes_max = (int64_t)bytes;
    SL_TRY(jobs_open(&o, &a->jobs, err));
    SL_ASSERT(a->chain.stage_count < LLM_STAGES_MAX);
    a->chain.stages[a->chain.stage_count++] = (llm_stage){ &jobs_stage, a->jobs };
    return SL_OK;
}

sl_status app_serve(app *a, app_config_fn remake, void *remake_ctx, sl_err *err)
{
    const config *c = a->c;
    access_control *access = NULL;
    http_server *server = NULL;
    serving_plan sv;
    sl_status status;

    SL_TRY(serving_init(&sv, c, err));
    a->remake = remake;
    a->remake_ctx = remake_ctx;
    status = books_open(c, false, &a->books, err);
    if (status == SL_OK && !(a->metrics = metric_registry_create()))
        status = sl_fail(err, SL_ENOMEM, "metrics");
    if (status == SL_OK) {
        books_add_metrics(a->books, a->metrics);
        books_add_stages(a->books, &a->chain);
        status = open_kept(a, err);
    }
    if (status == SL_OK)
        status = identity_open(c, false, &access, err);
    if (status == SL_OK)
        status = open_jobs(a, access, err);
    if (status == SL_OK && a->rag) /* not before the chain has all its stages */
        status = rag_start_ingest(a->rag, ingest_workers(), err);
    if (status == SL_OK)
        status = serving_check(&sv, access_is_closed(access), err);
    if (status == SL_OK)
        status = http_server_create(&sv.options, &server, err);
    if (status == SL_OK)
        status = serve(a, access, server, err);
    serving_deinit(&sv);
    access_destroy(access);
    return status;
}

void app_write_openapi(sl_buf *out)
{
    api_write_openapi(SLUICE_VERSION, out);
}
