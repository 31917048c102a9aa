/* test_llm.c - traces, and the context of the log while stages and sinks run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "llm/llm.h"

#define ID   "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN "00f067aa0ba902b7"

static void test_trace(void **state)
{
    static const char *const bad[] = { "",
                                       "00",
                                       "00-" ID "-" SPAN,
                                       "00-" ID "-" SPAN "-0",
                                       "00-" ID "-" SPAN "-01-more",
                                       "01-" ID "-" SPAN "-01x",
                                       "ff-" ID "-" SPAN "-01",
                                       "0x-" ID "-" SPAN "-01",
                                       "00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01",
                                       "00-00000000000000000000000000000000-" SPAN "-01",
                                       "00-" ID "-0000000000000000-01",
                                       "00_" ID "-" SPAN "-01" };
    llm_trace t;

    assert_true(llm_trace_parse("00-" ID "-" SPAN "-01", &t));
    assert_string_equal(t.id, ID);
    assert_string_equal(t.parent, SPAN);
    assert_true(t.is_sampled);
    assert_true(llm_trace_parse("cc-" ID "-" SPAN "-02-what-comes-later", &t));
    assert_false(t.is_sampled);
    assert_false(llm_trace_parse(NULL, &t));
    for (size_t i = 0; i < SL_COUNT_OF(bad); i++) {
        if (llm_trace_parse(bad[i], &t))
            fail_msg("accepted: %s", bad[i]);
        assert_string_equal(t.id, "");
    }
}

/* ---- context ------------------------------------------------------------------------------- */

static void info(void *ctx, llm_model_info *ret)
{
    *ret = (llm_model_info){ .name = "m", .can_generate = true };
}

static sl_status submit(void *ctx, llm_request *req, llm_sink sink, sl_err *err)
{
    SL_LOG(SL_LOG_INFO, "t.submit", SL_F_NUM("n", 1));
    SL_TRY(llm_admit(req, &(llm_demand){ 1, 1 }, err));
    sink.fn(sink.ctx, req, &(llm_event){ .kind = LLM_EV_START });
    sink.fn(sink.ctx, req, &(llm_event){ .kind = LLM_EV_DONE });
    return SL_OK;
}

static llm_verdict on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    SL_LOG(SL_LOG_INFO, "t.stage", SL_F_NUM("kind", ev->kind));
    return LLM_PASS;
}

static void sink(void *ctx, llm_request *req, const llm_event *ev)
{
    SL_LOG(SL_LOG_INFO, "t.sink", SL_F_NUM("kind", ev->kind));
    if (ev->kind == LLM_EV_DONE)
        llm_request_destroy(req); /* and with it what its context pointed to */
}

static void test_context(void **state)
{
    static const llm_backend_ops ops = { .submit = submit, .info = info };
    static const llm_stage_ops stage = { .name = "t", .on_event = on_event };
    static llm_chain chain = { .stages = { { &stage, NULL } },
                               .stage_count = 1,
                               .routes = { { .name = "m", .backend = { &ops, NULL } } },
                               .route_count = 1 };
    static llm_caller caller = { .refs = 2, .id = "key_1", .name = "ci", .user = "", .team = "" };
    static const char want[] = "\"request_id\":\"r1\",\"key\":\"key_1\",\"key_name\":\"ci\","
                               "\"model\":\"m\",\"trace_id\":\"" ID "\"}\n";
    llm_request *req = llm_request_create(LLM_COMPLETE, 1 << 20);
    char path[] = "/tmp/test_llm.XXXXXX";
    int lines = 0, fd = mkstemp(path);
    sl_err err;
    sl_buf b;

    assert_true(fd >= 0);
    close(fd);
    snprintf(req->id, sizeof req->id, "r1");
    req->caller = &caller;
    assert_true(llm_trace_parse("00-" ID "-" SPAN "-01", &req->trace));
    assert_int_equal(sl_log_start(&(sl_log_options){ .path = path }, &err), SL_OK);
    assert_int_equal(llm_chain_submit(&chain, req, (llm_sink){ sink, NULL }, &err), SL_OK);
    SL_LOG(SL_LOG_INFO, "t.after", SL_F_NUM("n", 1));
    sl_log_stop();
    sl_buf_init(&b, 1 << 20);
    assert_int_equal(sl_file_read(path, 1 << 20, &b, &err), SL_OK);
    for (const char *p = sl_buf_str(&b); (p = strstr(p, want)); p += sizeof want - 1)
        lines++;
    assert_int_equal(lines, 3); /* stage twice; the sink knows best when it ends the request */
    assert_non_null(strstr(sl_buf_str(&b), "\"event\":\"t.after\",\"n\":1}\n"));
    sl_buf_deinit(&b);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_trace),
                                        cmocka_unit_test(test_context) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
