/* test_models.c - the model manager over engines of the test's own: engine_* are replaced at link
 * time, so that loads can be held back, fail, and be counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "app/app.h"
#include "app/models_int.h"
#include "base/log.h"
#include "base/os.h"

#define MODEL_BYTES 100 /* what each takes, and the file says */
#define WAIT_S      20

/* ---- engines ------------------------------------------------------------------------------- */

typedef struct fake_job {
    llm_request *req;
    llm_sink sink;
    struct fake_job *next;
} fake_job;

/* What engine * points to here. */
typedef struct fake_engine {
    char name[128];
    pthread_t thread;
    bool stopped, joined, is_text;
    fake_job *jobs;
} fake_engine;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct {
    bool hold_open; /* engine_open waits */
    bool hold_jobs; /* requests do not end */
    char fail[128]; /* the model whose load fails */
    int opens, open_now, waiting_to_open, running;
    uint64_t budget;
} w;

static void change(void)
{
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void set(bool *flag, bool value)
{
    pthread_mutex_lock(&lock);
    *flag = value;
    change();
}

/* Waits until *count is want. */
static void wait_for(const int *count, int want)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    pthread_mutex_lock(&lock);
    while (*count != want)
        if (pthread_cond_timedwait(&changed, &lock, &until) != 0) {
            int have = *count;

            pthread_mutex_unlock(&lock);
            fail_msg("waited for %d, it is %d", want, have);
        }
    pthread_mutex_unlock(&lock);
}

static void finish_job(fake_job *j)
{
    llm_event done = { .kind = LLM_EV_DONE, .usage = { .output_tokens = 1 } };

    j->sink.fn(j->sink.ctx, j->req, &(llm_event){ .kind = LLM_EV_START });
    j->sink.fn(j->sink.ctx, j->req, &done);
    free(j);
}

static void *fake_main(void *arg)
{
    fake_engine *e = arg;

    pthread_mutex_lock(&lock);
    for (;;) {
        fake_job *j = e->jobs;

        if (j && (!w.hold_jobs || e->stopped)) {
            e->jobs = j->next;
            w.running--;
            change();
            finish_job(j);
            pthread_mutex_lock(&lock);
        } else if (e->stopped && !j) {
            break;
        } else {
            pthread_cond_wait(&changed, &lock);
        }
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static sl_status fake_submit(void *ctx, llm_request *req, llm_sink sink, sl_err *err)
{
    fake_engine *e = ctx;
    fake_job *j = calloc(1, sizeof *j), **last;

    SL_TRY(llm_admit(req, &(llm_demand){ 1, 1 }, err));
    *j = (fake_job){ req, sink, NULL };
    pthread_mutex_lock(&lock);
    SL_ASSERT(!e->stopped); /* nobody asks an engine that is being closed */
    for (last = &e->jobs; *last; last = &(*last)->next)
        continue;
    *last = j;
    w.running++;
    change();
    return SL_OK;
}

static sl_status fake_tokenize(void *ctx, const char *text, size_t len, unsigned flags,
                               int32_t *ids, size_t cap, size_t *ret_count, sl_err *err)
{
    *ret_count = len;
    return SL_OK;
}

sl_status __wrap_engine_open(const char *path, const engine_options *o, engine **ret, sl_err *err);
void __wrap_engine_stop(engine *e);
void __wrap_engine_close(engine *e);
llm_backend __wrap_engine_backend(engine *e);
uint64_t __wrap_engine_bytes(const engine *e);
void __wrap_engine_read_stats(const engine *e, engine_stats *ret);
sl_status __wrap_engine_describe(const char *path, const engine_options *o, llm_model_info *ret,
                                 uint64_t *ret_bytes, sl_err *err);

sl_status __wrap_engine_open(const char *path, const engine_options *o, engine **ret, sl_err *err)
{
    fake_engine *e = calloc(1, sizeof *e);
    bool fails;

    snprintf(e->name, sizeof e->name, "%s", o->name);
    e->is_text = o->text_only;
    *ret = (engine *)e;
    if (e->is_text)
        return SL_OK;
    pthread_mutex_lock(&lock);
    w.waiting_to_open++;
    pthread_cond_broadcast(&changed);
    while (w.hold_open)
        pthread_cond_wait(&changed, &lock);
    w.waiting_to_open--;
    w.opens++;
    fails = strcmp(w.fail, e->name) == 0;
    w.open_now += !fails;
    SL_ASSERT((uint64_t)w.open_now * MODEL_BYTES <= w.budget);
    change();
    if (fails) {
        free(e);
        return sl_fail(err, SL_EFORMAT, "it is broken");
    }
    SL_ASSERT(pthread_create(&e->thread, NULL, fake_main, e) == 0);
    return SL_OK;
}

void __wrap_engine_stop(engine *which)
{
    fake_engine *e = (fake_engine *)which;

    if (e->joined || e->is_text)
        return;
    set(&e->stopped, true);
    pthread_join(e->thread, NULL);
    e->joined = true;
}

void __wrap_engine_close(engine *which)
{
    fake_engine *e = (fake_engine *)which;

    if (!e)
        return;
    __wrap_engine_stop(which);
    pthread_mutex_lock(&lock);
    SL_ASSERT(!e->jobs);
    w.open_now -= !e->is_text;
    change();
    free(e);
}

llm_backend __wrap_engine_backend(engine *e)
{
    static const llm_backend_ops ops = { .submit = fake_submit, .tokenize = fake_tokenize };

    return (llm_backend){ &ops, e };
}

uint64_t __wrap_engine_bytes(const engine *e)
{
    return MODEL_BYTES;
}

void __wrap_engine_read_stats(const engine *e, engine_stats *ret)
{
    *ret = (engine_stats){ .preemptions = 1 };
}

sl_status __wrap_engine_describe(const char *path, const engine_options *o, llm_model_info *ret,
                                 uint64_t *ret_bytes, sl_err *err)
{
    *ret = (llm_model_info){ .can_generate = true, .context_tokens = 64 };
    *ret_bytes = MODEL_BYTES;
    return SL_OK;
}

/* ---- the house around them ------------------------------------------------------------------- */

typedef struct house {
    char dir[64];
    config c;
    llm_chain chain;
    models *m;
    atomic_int admitted, done, refused; /* of the stage */
} house;

static llm_verdict on_admit(void *ctx, llm_request *req, const llm_demand *demand, sl_err *err)
{
    atomic_fetch_add(&((house *)ctx)->admitted, 1);
    return LLM_PASS;
}

static void on_refused(void *ctx, llm_request *req, const sl_err *err)
{
    atomic_fetch_add(&((house *)ctx)->refused, 1);
}

static void on_done(void *ctx, const llm_request *req, const llm_usage *usage)
{
    atomic_fetch_add(&((house *)ctx)->done, 1);
}

static const llm_stage_ops stage = {
    .name = "count", .on_admit = on_admit, .on_refused = on_refused, .on_done = on_done
};

/* Every model of its own file, or they would share an engine. */
static void put_model(house *h, const char *name)
{
    model_store *s;
    model_store_file f = { .path = "m.gguf" };
    char path[128];
    FILE *out;

    snprintf(path, sizeof path, "%s/%s", h->dir, name);
    out = fopen(path, "w");
    fputs(name, out);
    fclose(out);
    assert_int_equal(model_store_open(h->dir, &s, NULL), SL_OK);
    assert_int_equal(model_store_add_blob(s, path, NULL, f.sha256, &f.bytes, NULL), SL_OK);
    assert_int_equal(model_store_put(s, name, "test", &f, 1, NULL), SL_OK);
    model_store_close(s);
}

/* memory: how many models fit. */
static house *build(int models_count, const char *memory, const char *keep_alive)
{
    house *h = calloc(1, sizeof *h);
    char name[8];
    sl_err err = { 0 };

    memset(&w, 0, sizeof w);
    snprintf(h->dir, sizeof h->dir, "/tmp/sluice-models-XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    h->c = (config){ .data = h->dir,
                     .loading = { .memory = (char *)(uintptr_t)memory,
                                  .keep_alive = (char *)(uintptr_t)keep_alive } };
    h->chain.stages[0] = (llm_stage){ &stage, h };
    h->chain.stage_count = 1;
    for (int i = 0; i < models_count; i++) {
        snprintf(name, sizeof name, "%c", 'a' + i);
        put_model(h, name);
    }
    w.budget = strtoul(memory, NULL, 10);
    if (models_create(&h->c, &h->chain, &h->m, &err) != SL_OK ||
        models_watch_store(h->m, &err) != SL_OK)
        fail_msg("%s", err.text);
    return h;
}

static void tear_down(house *h)
{
    char command[128];

    models_destroy(h->m);
    assert_int_equal(w.open_now, 0);
    assert_int_equal(h->admitted, h->done + h->refused);
    snprintf(command, sizeof command, "rm -r %s", h->dir);
    assert_int_equal(system(command), 0);
    free(h);
}

/* What became of requests. */
typedef struct tally {
    int done, failed;
    sl_status last;
    int64_t load_ns;
} tally;

static void on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    tally *t = ctx;

    pthread_mutex_lock(&lock);
    if (ev->kind == LLM_EV_ERROR) {
        t->failed++;
        t->last = ev->error.status;
    }
    if (ev->kind == LLM_EV_DONE) {
        t->done++;
        t->load_ns = ev->usage.load_ns;
    }
    change();
    if (ev->kind == LLM_EV_DONE)
        llm_request_destroy(req);
}

static llm_request *submit(house *h, const char *model, int64_t keep_alive_ns, bool load_only,
                           tally *t)
{
    llm_request *req = llm_request_create(LLM_CHAT, 1 << 16);
    sl_err err = { 0 };

    req->model = sl_arena_strndup(&req->arena, model, strlen(model));
    req->messages = json_loads("[{\"role\":\"user\",\"content\":\"x\"}]", 0, NULL);
    req->keep_alive_ns = keep_alive_ns;
    req->load_only = load_only;
    if (llm_chain_submit(&h->chain, req, (llm_sink){ on_event, t }, &err) != SL_OK)
        fail_msg("%s: %s", model, err.text);
    return req;
}

static void ask(house *h, const char *model, tally *t)
{
    submit(h, model, LLM_KEEP_DEFAULT, false, t);
}

/* Asks and waits for the end. */
static void use(house *h, const char *model, int64_t keep_alive_ns)
{
    tally t = { 0 };

    submit(h, model, keep_alive_ns, false, &t);
    wait_for(&t.done, 1);
    assert_int_equal(t.failed, 0);
}

/* The loaded models' names, sorted as they were added: "a c". */
static void check_loaded(house *h, const char *want)
{
    llm_models service = models_service(h->m);
    json_t *list = NULL, *m;
    char have[64] = "";
    size_t i;

    assert_int_equal(service.ops->loaded(service.ctx, &list, NULL), SL_OK);
    json_array_foreach(list, i, m)
    {
        strcat(have, i ? " " : "");
        strcat(have, json_string_value(json_object_get(m, "name")));
    }
    json_decref(list);
    assert_string_equal(have, want);
}

/* ---- tests --------------------------------------------------------------------------------- */

static void test_one_load(void **state)
{
    house *h = build(2, "1000", "1h");
    tally t = { 0 };

    set(&w.hold_open, true);
    for (int i = 0; i < 10; i++)
        ask(h, i % 2 ? "a" : "a:latest", &t);
    submit(h, "a", LLM_KEEP_DEFAULT, true, &t);
    wait_for(&w.waiting_to_open, 1);
    assert_int_equal(t.done, 0);
    check_loaded(h, "");
    set(&w.hold_open, false);
    wait_for(&t.done, 11);
    assert_int_equal(t.failed, 0);
    assert_true(t.load_ns > 0);
    assert_int_equal(w.opens, 1);
    check_loaded(h, "a");
    use(h, "a", LLM_KEEP_DEFAULT);
    assert_int_equal(w.opens, 1);
    tear_down(h);
}

static void test_least_recent_goes(void **state)
{
    house *h = build(3, "250", "1h");

    use(h, "a", LLM_KEEP_DEFAULT);
    use(h, "b", LLM_KEEP_DEFAULT);
    use(h, "a", LLM_KEEP_DEFAULT);
    check_loaded(h, "a b");
    use(h, "c", LLM_KEEP_DEFAULT);
    check_loaded(h, "a c");
    use(h, "b", -1);
    check_loaded(h, "b c");
    use(h, "c", LLM_KEEP_DEFAULT);
    use(h, "a", LLM_KEEP_DEFAULT); /* "for ever" does not keep another out */
    check_loaded(h, "a c");
    tear_down(h);
}

static void test_serving_is_not_interrupted(void **state)
{
    house *h = build(2, "150", "1h");
    tally first = { 0 }, other = { 0 }, late = { 0 };

    set(&w.hold_jobs, true);
    ask(h, "a", &first);
    wait_for(&w.running, 1);
    ask(h, "b", &other);
    /* b's load finds no room and lets a go once it is done: a's next request waits. */
    for (bool draining = false; !draining;) {
        pthread_mutex_lock(&h->m->lock);
        draining = models_find(h->m, "a")->state == MANAGED_DRAINING;
        pthread_mutex_unlock(&h->m->lock);
    }
    ask(h, "a", &late);
    assert_int_equal(w.opens, 1);
    assert_int_equal(first.done + other.done + late.done, 0);
    set(&w.hold_jobs, false);
    wait_for(&first.done, 1);
    wait_for(&other.done, 1);
    wait_for(&late.done, 1);
    assert_int_equal(first.failed + other.failed + late.failed, 0);
    assert_int_equal(w.opens, 3);
    tear_down(h);
}

static void test_configured_stays(void **state)
{
    house *h = build(2, "150", "1h");
    config_model a = { .path = (char *)(uintptr_t) "a", .name = (char *)(uintptr_t) "main" };
    tally t = { 0 };
    sl_err err = { 0 };

    /* As app_create does it, but after the store was read: under another name. */
    if (models_add(h->m, &a, true, APP_CHAT, &err) != SL_OK)
        fail_msg("%s", err.text);
    assert_int_equal(w.open_now, 0); /* the store's "a" has the same files and was first */
    models_destroy(h->m);
    memset(&h->chain.routes, 0, sizeof h->chain.routes);
    atomic_store(&h->chain.route_count, 0);
    assert_int_equal(models_create(&h->c, &h->chain, &h->m, NULL), SL_OK);
    assert_int_equal(models_add(h->m, &a, true, APP_CHAT, NULL), SL_OK);
    assert_int_equal(models_watch_store(h->m, NULL), SL_OK);
    check_loaded(h, "main");
    ask(h, "b", &t);
    wait_for(&t.done, 1);
    assert_int_equal(t.failed, 1);
    assert_int_equal(t.last, SL_ENOMEM);
    use(h, "a", LLM_KEEP_DEFAULT); /* the store's name leads to it */
    assert_int_equal(w.opens, 1);
    use(h, "main", 0); /* unless it is told to go */
    wait_for(&w.open_now, 0);
    use(h, "b", 0);
    wait_for(&w.open_now, 0);
    use(h, "main", LLM_KEEP_DEFAULT); /* it is back to stay */
    t = (tally){ 0 };
    ask(h, "b", &t);
    wait_for(&t.done, 1);
    assert_int_equal(t.failed, 1);
    tear_down(h);
}

static void test_clients_that_leave(void **state)
{
    house *h = build(1, "1000", "1h");
    tally gone = { 0 }, stays = { 0 };
    llm_request *req;

    set(&w.hold_open, true);
    req = submit(h, "a", LLM_KEEP_DEFAULT, false, &gone);
    ask(h, "a", &stays);
    wait_for(&w.waiting_to_open, 1);
    llm_cancel(req);
    wait_for(&gone.done, 1); /* while the load goes on */
    assert_int_equal(gone.last, SL_ECANCELLED);
    assert_int_equal(stays.done, 0);
    set(&w.hold_open, false);
    wait_for(&stays.done, 1);
    assert_int_equal(stays.failed, 0);
    assert_int_equal(h->admitted, 1);
    tear_down(h);
}

static void test_failed_load(void **state)
{
    house *h = build(2, "1000", "1h");
    tally t = { 0 };

    snprintf(w.fail, sizeof w.fail, "a");
    set(&w.hold_open, true);
    for (int i = 0; i < 3; i++)
        ask(h, "a", &t);
    wait_for(&w.waiting_to_open, 1);
    set(&w.hold_open, false);
    wait_for(&t.done, 3);
    assert_int_equal(t.failed, 3);
    assert_int_equal(t.last, SL_EFORMAT);
    assert_int_equal(h->admitted, 0);
    use(h, "b", LLM_KEEP_DEFAULT);
    pthread_mutex_lock(&lock);
    w.fail[0] = '\0';
    pthread_mutex_unlock(&lock);
    use(h, "a", LLM_KEEP_DEFAULT); /* the next one tries again */
    tear_down(h);
}

static void test_keep_alive(void **state)
{
    house *h = build(2, "1000", "20ms");
    tally t = { 0 };

    use(h, "a", LLM_KEEP_DEFAULT);
    wait_for(&w.open_now, 0); /* by itself */
    use(h, "a", -1);
    submit(h, "a", 0, true, &t); /* when it is told to */
    wait_for(&t.done, 1);
    check_loaded(h, "");
    wait_for(&w.open_now, 0);
    submit(h, "b", 0, true, &t); /* nothing is loaded only to go */
    wait_for(&t.done, 2);
    assert_int_equal(w.opens, 2);
    submit(h, "b", -1, true, &t);
    wait_for(&t.done, 3);
    check_loaded(h, "b");
    /* Told to go while it serves: it goes at the end. */
    set(&w.hold_jobs, true);
    ask(h, "b", &t);
    wait_for(&w.running, 1);
    submit(h, "b", 0, true, &t);
    wait_for(&t.done, 4);
    check_loaded(h, "b");
    set(&w.hold_jobs, false);
    wait_for(&t.done, 5);
    wait_for(&w.open_now, 0);
    assert_int_equal(t.failed, 0);
    tear_down(h);
}

static void test_store_changes(void **state)
{
    house *h = build(1, "1000", "1h");
    llm_models service = models_service(h->m);
    llm_recipe r = { .name = "made:latest", .from = "a", .system = "S" };
    const llm_progress_sink quiet = { 0 };
    sl_err err = { 0 };
    size_t count = 0;

    use(h, "a", LLM_KEEP_DEFAULT);
    if (service.ops->create(service.ctx, &r, &quiet, &err) != SL_OK)
        fail_msg("%s", err.text);
    use(h, "made", LLM_KEEP_DEFAULT);
    assert_int_equal(w.opens, 1); /* the same files: the same engine */
    check_loaded(h, "made");
    assert_int_equal(service.ops->remove(service.ctx, "made", &err), SL_OK);
    check_loaded(h, "a");
    assert_null(llm_chain_find(&h->chain, "made", LLM_CHAT));
    assert_int_equal(service.ops->copy(service.ctx, "a", "made", &err), SL_OK);
    assert_int_equal(service.ops->remove(service.ctx, "a", &err), SL_OK);
    wait_for(&w.open_now, 0);
    use(h, "made", LLM_KEEP_DEFAULT);
    assert_int_equal(w.opens, 2);
    assert_int_equal(service.ops->remove(service.ctx, "a", &err), SL_ENOTFOUND);
    /* A question about text loads nothing. */
    use(h, "made", 0);
    wait_for(&w.open_now, 0);
    assert_int_equal(
        managed_ops.tokenize(models_find(h->m, "made"), "xyz", 3, 0, NULL, 0, &count, NULL), SL_OK);
    assert_int_equal(count, 3);
    assert_int_equal(w.opens, 2);
    /* A model that another process adds is seen. */
    put_model(h, "new");
    for (int64_t end_ns = sl_clock_mono_ns() + WAIT_S * (int64_t)1000000000;
         !llm_chain_find(&h->chain, "new", LLM_CHAT);)
        assert_true(sl_clock_mono_ns() < end_ns);
    tear_down(h);
}

static void test_stop_while_waiting(void **state)
{
    house *h = build(2, "150", "1h");
    tally t = { 0 };

    set(&w.hold_jobs, true);
    ask(h, "a", &t);
    wait_for(&w.running, 1);
    ask(h, "b", &t);
    ask(h, "b", &t);
    models_stop(h->m);
    assert_int_equal(t.done, 3);
    assert_int_equal(t.failed, 2);
    assert_int_equal(t.last, SL_EBUSY);
    tear_down(h);
}

/* ---- a storm --------------------------------------------------------------------------------- */

#define STORM_THREADS  4
#define STORM_REQUESTS 60

typedef struct storm {
    house *h;
    unsigned seed;
    tally t;
} storm;

static void *storm_main(void *arg)
{
    storm *s = arg;

    for (int i = 0; i < STORM_REQUESTS; i++) {
        char name[2] = { (char)('a' + rand_r(&s->seed) % 4), '\0' };
        int64_t keep = rand_r(&s->seed) % 3 ? LLM_KEEP_DEFAULT : rand_r(&s->seed) % 2000000;
        llm_request *req = llm_request_create(LLM_CHAT, 1 << 16);

        req->model = sl_arena_strndup(&req->arena, name, 1);
        req->messages = json_array();
        req->keep_alive_ns = keep;
        req->load_only = rand_r(&s->seed) % 8 == 0;
        if (rand_r(&s->seed) % 8 == 0)
            llm_cancel(req);
        if (llm_chain_submit(&s->h->chain, req, (llm_sink){ on_event, &s->t }, NULL) != SL_OK)
            abort();
        if (i % 7 == 0)
            wait_for(&s->t.done, i + 1);
    }
    wait_for(&s->t.done, STORM_REQUESTS);
    return NULL;
}

static void test_storm(void **state)
{
    house *h = build(4, "250", "1ms");
    storm storms[STORM_THREADS];
    pthread_t threads[STORM_THREADS];

    for (unsigned i = 0; i < STORM_THREADS; i++) {
        storms[i] = (storm){ .h = h, .seed = i + 1 };
        assert_int_equal(pthread_create(&threads[i], NULL, storm_main, &storms[i]), 0);
    }
    for (int i = 0; i < STORM_THREADS; i++)
        pthread_join(threads[i], NULL);
    wait_for(&w.open_now, 0); /* the keep-alives end */
    tear_down(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_load),
        cmocka_unit_test(test_least_recent_goes),
        cmocka_unit_test(test_serving_is_not_interrupted),
        cmocka_unit_test(test_configured_stays),
        cmocka_unit_test(test_clients_that_leave),
        cmocka_unit_test(test_failed_load),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_store_changes),
        cmocka_unit_test(test_stop_while_waiting),
        cmocka_unit_test(test_storm),
    };

    sl_log_set_level(SL_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
