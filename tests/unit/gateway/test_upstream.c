/* test_upstream.c - answers of an upstream, and requests that its end meets. tests/api has the
 * rest. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/gateway.h"

#define ITEM(index, values) "{\"index\":" index ",\"embedding\":[" values "]}"

static void test_answers(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{\"data\":[]}",
        "{\"data\":[" ITEM("0", "1,2") "]}",
        "{\"data\":[" ITEM("0", "1,2") "," ITEM("0", "1,2") "]}",
        "{\"data\":[" ITEM("0", "1,2") "," ITEM("2", "1,2") "]}",
        "{\"data\":[" ITEM("0", "1,2") "," ITEM("-1", "1,2") "]}",
        "{\"data\":[" ITEM("0", "1,2") "," ITEM("1", "1") "]}",
        "{\"data\":[" ITEM("0", "1,2") "," ITEM("1", "1,\"2\"") "]}",
        "{\"data\":[" ITEM("0", "1,2") "," ITEM("1", "1,1e300") "]}",
        "{\"data\":[" ITEM("0", "1,2") ",{\"index\":1,\"embedding\":\"AAAA\"}]}",
    };
    static const char good[] =
        "{\"data\":[" ITEM("1", "3,4") "," ITEM("0", "1,2") "],"
                                                            "\"usage\":{\"prompt_tokens\":9}}";
    float out[4];
    int64_t tokens = -1;
    sl_err err;

    (void)state;
    for (size_t i = 0; i < SL_COUNT_OF(bad); i++)
        assert_int_equal(upstream_read_vectors(sl_span_str(bad[i]), 2, 2, out, &tokens, &err),
                         SL_EUPSTREAM);
    assert_int_equal(tokens, -1);
    assert_int_equal(upstream_read_vectors(sl_span_str(good), 2, 2, out, &tokens, &err), SL_OK);
    assert_int_equal(tokens, 9);
    for (int i = 0; i < 4; i++)
        assert_true(out[i] == (float)(i + 1));
}

typedef struct watch {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    int started, done;
} watch;

static void on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    watch *w = ctx;

    pthread_mutex_lock(&w->lock);
    w->started += ev->kind == LLM_EV_START;
    w->done += ev->kind == LLM_EV_DONE;
    pthread_cond_broadcast(&w->cond);
    pthread_mutex_unlock(&w->lock);
    if (ev->kind == LLM_EV_DONE)
        llm_request_destroy(req);
}

static llm_request *request(int32_t priority)
{
    llm_request *req = llm_request_create(LLM_EMBED, SL_MIB);

    assert_non_null(req);
    req->prompts = sl_arena_alloc(&req->arena, sizeof *req->prompts);
    req->prompts[0] = (llm_prompt){ .text = "a", .text_len = 1 };
    req->prompt_count = 1;
    req->priority = priority;
    return req;
}

/* Nobody listens there; the pauses between attempts are longer than the test may take. */
static void test_stop(void **state)
{
    const upstream_options o = {
        .name = "far", .url = "http://127.0.0.1:1/v1", .dim = 2, .retry_ms = 3600000
    };
    watch w = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };
    upstream *u = NULL;
    llm_request *late;
    llm_backend b;
    sl_err err;

    (void)state;
    assert_int_equal(upstream_open(&o, &u, &err), SL_OK);
    b = upstream_backend(u);
    for (int i = 0; i < 10; i++)
        assert_int_equal(b.ops->submit(b.ctx, request(i % 3), (llm_sink){ on_event, &w }, &err),
                         SL_OK);
    pthread_mutex_lock(&w.lock);
    while (w.started < 4)
        pthread_cond_wait(&w.cond, &w.lock);
    pthread_mutex_unlock(&w.lock);
    upstream_stop(u);
    assert_int_equal(w.done, 10);
    late = request(0);
    assert_int_equal(b.ops->submit(b.ctx, late, (llm_sink){ on_event, &w }, &err), SL_EBUSY);
    llm_request_destroy(late);
    upstream_close(u);
}

static void test_options(void **state)
{
    upstream_options o = { .name = "far", .url = "ftp://x", .dim = 2 };
    upstream *u = NULL;
    sl_err err;

    (void)state;
    assert_int_equal(upstream_open(&o, &u, &err), SL_EINVAL);
    o.url = "https://x";
    o.dim = 0;
    assert_int_equal(upstream_open(&o, &u, &err), SL_EINVAL);
    assert_null(u);
    upstream_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_answers), cmocka_unit_test(test_stop),
                                        cmocka_unit_test(test_options) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
