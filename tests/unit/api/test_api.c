/* test_api.c - parsing and encoding without HTTP, and one storm over the whole api. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>

#include "api/api.h"
#include "api/openai.h"
#include "fake_backend.h"

/* ---- parsing ------------------------------------------------------------------------------- */

static openai_call parse(llm_task task, const char *body)
{
    openai_error err = { 0 };
    openai_call call = { 0 };

    if (openai_parse(task, body, strlen(body), &call, &err) != SL_OK)
        fail_msg("%s: %s", body, err.message);
    return call;
}

static void refuse(llm_task task, const char *body, const char *param)
{
    openai_error err = { 0 };
    openai_call call = { 0 };

    if (openai_parse(task, body, strlen(body), &call, &err) == SL_OK)
        fail_msg("accepted: %s", body);
    assert_string_equal(err.param, param);
    assert_null(call.req);
}

#define MSG "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]"

static void test_parse_chat(void **state)
{
    openai_call c =
        parse(LLM_CHAT, "{" MSG ",\"temperature\":0.25,\"max_tokens\":9,"
                        "\"max_completion_tokens\":4,\"stop\":[\"a\",\"b\"],\"seed\":-1,"
                        "\"logit_bias\":{\"7\":-100},\"top_k\":-1,\"n\":2,"
                        "\"skip_special_tokens\":false,\"stop_token_ids\":[3],"
                        "\"stream\":true,\"stream_options\":{\"include_usage\":true}}");

    assert_float_equal(c.req->sampling.temperature, 0.25, 0);
    assert_int_equal(c.req->max_tokens, 4);
    assert_int_equal(c.req->stop_count, 2);
    assert_string_equal(c.req->stops[1], "b");
    assert_true(c.req->sampling.has_seed);
    assert_int_equal(c.req->sampling.bias[0].token, 7);
    assert_int_equal(c.req->sampling.top_k, 0);
    assert_int_equal(c.req->n, 2);
    assert_true(c.req->show_special);
    assert_int_equal(c.req->stop_ids[0], 3);
    assert_true(c.stream && c.include_usage);
    llm_request_destroy(c.req);
    c = parse(LLM_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
                        "\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}]}");
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(c.req->messages, 0), "content")), "ab");
    assert_float_equal(c.req->sampling.temperature, 1, 0);
    assert_int_equal(c.req->max_tokens, -1);
    llm_request_destroy(c.req);
    refuse(LLM_CHAT, "{}", "messages");
    refuse(LLM_CHAT, "{" MSG ",\"n\":129}", "n");
    refuse(LLM_CHAT, "{" MSG ",\"functions\":[{}]}", "functions");
}

static void test_parse_prompts(void **state)
{
    openai_call c = parse(LLM_COMPLETE, "{\"prompt\":[[1,2],[3]],\"logprobs\":0}");

    assert_int_equal(c.req->prompt_count, 2);
    assert_int_equal(c.req->prompts[0].ids[1], 2);
    assert_true(c.req->logprobs);
    assert_int_equal(c.req->max_tokens, 16);
    llm_request_destroy(c.req);
    c = parse(LLM_EMBED, "{\"input\":[5,6],\"encoding_format\":\"base64\"}");
    assert_int_equal(c.req->prompt_count, 1);
    assert_int_equal(c.req->prompts[0].id_count, 2);
    assert_true(c.base64);
    llm_request_destroy(c.req);
    refuse(LLM_COMPLETE, "{\"prompt\":[]}", "prompt");
    refuse(LLM_COMPLETE, "{\"prompt\":[\"a\",5]}", "prompt[1]");
    refuse(LLM_COMPLETE, "{\"prompt\":[1,-1]}", "prompt");
    refuse(LLM_COMPLETE, "{\"prompt\":\"a\",\"best_of\":2,\"n\":3}", "best_of");
    refuse(LLM_COMPLETE, "{\"prompt\":\"a\",\"best_of\":2,\"stream\":true}", "best_of");
    refuse(LLM_COMPLETE, "{\"prompt\":\"a\",\"suffix\":\"b\"}", "suffix");
    refuse(LLM_EMBED, "{\"input\":\"\"}", "input");
    refuse(LLM_EMBED, "{\"input\":[\"a\",\"\"]}", "input[1]");
}

/* Every allocation may fail: a status, no leak, no crash. */
static void test_parse_out_of_memory(void **state)
{
    const char *body = "{" MSG ",\"stop\":[\"a\"],\"logit_bias\":{\"7\":1},\"stop_token_ids\":[1]}";
    openai_error err = { 0 };
    openai_call call = { 0 };
    sl_status status = SL_ENOMEM;

    for (unsigned long n = 1; status != SL_OK; n++) {
        assert_true(n < 1000);
        sl_mem_fail_at(n);
        status = openai_parse(LLM_CHAT, body, strlen(body), &call, &err);
        sl_mem_fail_at(0);
    }
    llm_request_destroy(call.req);
}

/* ---- encoding ------------------------------------------------------------------------------ */

static void test_encode_stream(void **state)
{
    openai_call c = parse(LLM_CHAT, "{" MSG ",\"stream\":true}");
    llm_event delta = { .kind = LLM_EV_DELTA, .text = "a\"\n", .text_len = 3 };
    llm_event finish = { .kind = LLM_EV_FINISH, .finish = LLM_FINISH_LENGTH };
    openai_encoder e;
    sl_buf b;

    sl_buf_init(&b, 1 << 20);
    assert_int_equal(openai_encoder_init(&e, &c, "m", 5), SL_OK);
    openai_encode(&e, &(llm_event){ .kind = LLM_EV_START }, &b);
    openai_encode(&e, &delta, &b);
    openai_encode(&e, &(llm_event){ .kind = LLM_EV_DELTA }, &b); /* held back: no chunk */
    openai_encode(&e, &finish, &b);
    openai_encode(&e, &(llm_event){ .kind = LLM_EV_DONE }, &b);
    assert_non_null(strstr(b.ptr, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}"));
    assert_non_null(strstr(b.ptr, "\"delta\":{\"content\":\"a\\\"\\n\"}"));
    assert_non_null(
        strstr(b.ptr, "\"delta\":{},\"logprobs\":null,\"finish_reason\":\"length\"}]}"));
    assert_string_equal(b.ptr + b.len - 14, "data: [DONE]\n\n");
    openai_encoder_deinit(&e);
    sl_buf_deinit(&b);
    llm_request_destroy(c.req);
}

static void test_encode_whole(void **state)
{
    openai_call c = parse(LLM_COMPLETE, "{\"prompt\":\"x\",\"logprobs\":1,\"echo\":true}");
    llm_token_prob top = { 2, -INFINITY, "b", 1 };
    llm_token t[2] = { { .chosen = { 1, NAN, "\xe2\x82\xac", 3 }, .is_prompt = true },
                       { .chosen = { 3, -1, "\xff", 1 }, .top = &top, .top_count = 1 } };
    llm_event delta = {
        .kind = LLM_EV_DELTA, .text = "y", .text_len = 1, .tokens = t, .token_count = 2
    };
    openai_encoder e;
    json_t *root;
    sl_buf b;

    sl_buf_init(&b, 1 << 20);
    assert_int_equal(openai_encoder_init(&e, &c, "m", 5), SL_OK);
    openai_encode(&e, &(llm_event){ .kind = LLM_EV_START }, &b);
    openai_encode(&e, &delta, &b);
    openai_encode(&e, &(llm_event){ .kind = LLM_EV_DONE }, &b);
    root = json_loadb(b.ptr, b.len, 0, NULL);
    assert_non_null(root);
    assert_non_null(strstr(b.ptr, "\"token_logprobs\":[null,-1]"));
    assert_non_null(strstr(b.ptr, "\"top_logprobs\":[null,{\"b\":-9999.0,\"bytes:\\\\xff\":-1}]"));
    assert_non_null(strstr(b.ptr, "\"text_offset\":[0,1]"));
    json_decref(root);
    openai_encoder_deinit(&e);
    sl_buf_deinit(&b);
    llm_request_destroy(c.req);
}

/* ---- the whole api under load ---------------------------------------------------------------- */

static http_server *server;

static void *storm(void *ctx)
{
    static const char *const scripts[] = { "hi", "error", "busy", "early", "context" };
    char url[2][128], body[256];
    sl_buf out;

    sl_buf_init(&out, 1 << 20);
    snprintf(url[0], sizeof url[0], "http://%s/v1/chat/completions", http_server_address(server));
    snprintf(url[1], sizeof url[1], "http://%s/completion", http_server_address(server));
    for (int i = 0; i < 50; i++) {
        sl_err err;
        http_client_options o = { .url = url[i / 25], .post = body };

        o.post_len = (size_t)snprintf(body, sizeof body,
                                      "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}],"
                                      "\"prompt\":\"%s\",\"stream\":%s}",
                                      scripts[i % 5], scripts[i % 5], i % 2 ? "true" : "false");
        sl_buf_clear(&out);
        if (http_fetch(&o, &out, NULL, &err) != SL_OK && i % 5 == 0)
            return (void *)1;
    }
    sl_buf_deinit(&out);
    return NULL;
}

static void test_storm(void **state)
{
    static llm_chain chain;
    static fake_backend backend;
    pthread_t threads[8];
    sl_err err = { 0 };
    api *a = NULL;

    fake_chain(&backend, &chain);
    assert_int_equal(
        http_server_create(&(http_server_options){ .address = "127.0.0.1:0" }, &server, &err),
        SL_OK);
    assert_int_equal(api_create(&(api_options){ .chain = &chain,
                                                .docs = { &fake_docs_ops, &backend },
                                                .no_access_log = true },
                                server, &a, &err),
                     SL_OK);
    assert_int_equal(http_server_start(server, &err), SL_OK);
    for (size_t i = 0; i < SL_COUNT_OF(threads); i++)
        pthread_create(&threads[i], NULL, storm, NULL);
    for (size_t i = 0; i < SL_COUNT_OF(threads); i++) {
        void *bad = NULL;

        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
    assert_true(fake_wait_idle(&backend));
    http_server_destroy(server);
    api_destroy(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_chat),
        cmocka_unit_test(test_parse_prompts),
        cmocka_unit_test(test_parse_out_of_memory),
        cmocka_unit_test(test_encode_stream),
        cmocka_unit_test(test_encode_whole),
        cmocka_unit_test(test_storm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
