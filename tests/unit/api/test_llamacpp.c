/* test_llamacpp.c - llama.cpp's dialect without HTTP: parsing and encoding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>

#include "api/llamacpp.h"

/* ---- parsing ------------------------------------------------------------------------------- */

/* A token per byte, its value; BOS is 1. */
static sl_status tokenize(void *ctx, const char *model, const char *text, size_t len,
                          unsigned flags, int32_t *ids, size_t cap, size_t *ret_count, sl_err *err)
{
    size_t n = 0;

    if (strcmp(model, "none") == 0)
        return sl_fail(err, SL_ENOTFOUND, "no such model");
    if (flags & LLM_ADD_SPECIAL)
        ids[n++] = 1;
    for (size_t i = 0; i < len && n < cap; i++)
        ids[n++] = (unsigned char)text[i];
    *ret_count = n;
    return SL_OK;
}

static const llamacpp_tokenizer tokenizer = { tokenize, NULL };

static llamacpp_call parse(const char *body)
{
    openai_error err = { 0 };
    llamacpp_call call = { 0 };

    if (llamacpp_parse(body, strlen(body), tokenizer, &call, &err) != SL_OK)
        fail_msg("%s: %s", body, err.message);
    return call;
}

static void refuse(const char *body, const char *param)
{
    openai_error err = { 0 };
    llamacpp_call call = { 0 };

    if (llamacpp_parse(body, strlen(body), tokenizer, &call, &err) == SL_OK)
        fail_msg("accepted: %s", body);
    assert_string_equal(err.param, param);
    assert_int_equal(err.http, 400);
    assert_null(call.req);
}

static void test_defaults(void **state)
{
    llamacpp_call c = parse("{\"prompt\":\"x\"}");
    const llm_sampling *s = &c.req->sampling;

    assert_float_equal(s->temperature, 0.8, 1e-6);
    assert_int_equal(s->top_k, 40);
    assert_float_equal(s->top_p, 0.95, 1e-6);
    assert_float_equal(s->min_p, 0.05, 1e-6);
    assert_int_equal(s->penalty_last_n, 64);
    assert_false(s->has_seed);
    assert_int_equal(c.req->max_tokens, -1);
    assert_false(c.req->no_prefix_cache || c.req->every_token || c.stream);
    assert_int_equal(c.req->spec_tokens, 0);
    assert_memory_equal(c.prompts[0].ptr, "x", 1);
    llm_request_destroy(c.req);
}

static void test_fields(void **state)
{
    llamacpp_call c =
        parse("{\"prompt\":\"x\",\"n_predict\":7,\"max_tokens\":3,\"temperature\":-1,\"top_k\":0,"
              "\"seed\":5,\"stop\":[\"\",\"a\"],\"stream\":true,\"cache_prompt\":false,"
              "\"n_probs\":3,\"id_slot\":2,\"ignore_eos\":true,\"speculative.n_max\":0,"
              "\"repeat_penalty\":1.1,\"repeat_last_n\":-1,\"unknown\":[1]}");

    assert_int_equal(c.req->max_tokens, 7);
    assert_float_equal(c.req->sampling.temperature, 0, 0);
    assert_int_equal(c.req->sampling.top_k, 0);
    assert_true(c.req->sampling.has_seed);
    assert_int_equal(c.req->stop_count, 1);
    assert_true(c.stream && c.req->every_token && c.req->no_prefix_cache);
    assert_int_equal(c.req->top_logprobs, 3);
    assert_int_equal(c.id_slot, 2);
    assert_int_equal(c.req->spec_tokens, -1);
    assert_int_equal(c.req->sampling.penalty_last_n, -1);
    llm_request_destroy(c.req);
    c = parse("{\"prompt\":\"x\",\"spec_tokens\":4,\"seed\":4294967295}");
    assert_int_equal(c.req->spec_tokens, 4);
    assert_false(c.req->sampling.has_seed);
    llm_request_destroy(c.req);
    refuse("{\"prompt\":\"x\",\"n_predict\":\"a\"}", "n_predict");
    refuse("{\"prompt\":\"x\",\"repeat_last_n\":-2}", "repeat_last_n");
    refuse("{\"prompt\":\"x\",\"n_probs\":21}", "n_probs");
}

static void test_prompts(void **state)
{
    llamacpp_call c = parse("{\"prompt\":[5,\"ab\",6,\"c\"]}");

    assert_int_equal(c.req->prompt_count, 1);
    assert_int_equal(c.req->prompts[0].id_count, 5); /* no BOS: the text does not come first */
    assert_int_equal(c.req->prompts[0].ids[1], 'a');
    llm_request_destroy(c.req);
    c = parse("{\"prompt\":[\"ab\",6,\"c\"]}");
    assert_int_equal(c.req->prompts[0].id_count, 5);
    assert_int_equal(c.req->prompts[0].ids[0], 1);
    llm_request_destroy(c.req);
    c = parse("{\"prompt\":[\"a\",[1,2,3],[\"x\",4]]}");
    assert_int_equal(c.req->prompt_count, 3);
    assert_string_equal(c.req->prompts[0].text, "a");
    assert_int_equal(c.req->prompts[1].id_count, 3);
    assert_int_equal(c.req->prompts[2].id_count, 3);
    llm_request_destroy(c.req);
    refuse("{}", "prompt");
    refuse("{\"prompt\":[]}", "prompt");
    refuse("{\"prompt\":{\"prompt_string\":\"x\"}}", "prompt");
    refuse("{\"prompt\":[1,-1]}", "prompt");
    refuse("{\"prompt\":[\"a\",{}]}", "prompt[1]");
    refuse("{\"prompt\":[[]]}", "prompt[0]");
}

static void test_logit_bias(void **state)
{
    llamacpp_call c = parse("{\"prompt\":\"x\",\"logit_bias\":[[7,1.5],[\"ab\",false]]}");

    assert_int_equal(c.req->sampling.bias_count, 3);
    assert_int_equal(c.req->sampling.bias[0].token, 7);
    assert_int_equal(c.req->sampling.bias[2].token, 'b');
    assert_true(isinf(c.req->sampling.bias[2].bias));
    llm_request_destroy(c.req);
    c = parse("{\"prompt\":\"x\",\"logit_bias\":{\"7\":-1,\"a\":2}}");
    assert_int_equal(c.req->sampling.bias_count, 2);
    llm_request_destroy(c.req);
    refuse("{\"prompt\":\"x\",\"logit_bias\":[[7]]}", "logit_bias");
    refuse("{\"prompt\":\"x\",\"logit_bias\":[[7,true]]}", "logit_bias");
    refuse("{\"prompt\":\"x\",\"logit_bias\":4}", "logit_bias");
}

static void test_samplers(void **state)
{
    llamacpp_call c = parse("{\"prompt\":\"x\",\"repeat_penalty\":2,"
                            "\"samplers\":[\"top_k\",\"xtc\",\"temperature\"]}");

    assert_int_equal(c.samplers, LLAMACPP_TOP_K | LLAMACPP_TEMPERATURE);
    assert_int_equal(c.req->sampling.top_k, 40);
    assert_float_equal(c.req->sampling.top_p, 1, 0);
    assert_float_equal(c.req->sampling.min_p, 0, 0);
    assert_float_equal(c.req->sampling.repetition_penalty, 1, 0);
    llm_request_destroy(c.req);
    refuse("{\"prompt\":\"x\",\"samplers\":[\"temperature\",\"top_k\"]}", "samplers");
    refuse("{\"prompt\":\"x\",\"samplers\":[\"top_k\",\"top_k\"]}", "samplers");
    refuse("{\"prompt\":\"x\",\"samplers\":[\"magic\"]}", "samplers");
    refuse("{\"prompt\":\"x\",\"samplers\":\"kt\"}", "samplers");
}

static void test_refused(void **state)
{
    static const char *const on[][2] = {
        { "grammar", "\"root ::= x\"" },
        { "json_schema", "{}" },
        { "mirostat", "2" },
        { "dry_multiplier", "0.8" },
        { "xtc_probability", "0.1" },
        { "dynatemp_range", "0.5" },
        { "lora", "[{\"id\":0}]" },
        { "image_data", "[{}]" },
        { "top_n_sigma", "1" },
        { "response_fields", "[\"content\"]" },
        { "post_sampling_probs", "true" },
    };
    llamacpp_call c = parse("{\"prompt\":\"x\",\"grammar\":\"\",\"json_schema\":null,"
                            "\"mirostat\":0,\"dry_multiplier\":0.0,\"xtc_probability\":0,"
                            "\"dynatemp_range\":0,\"lora\":[],\"image_data\":[],"
                            "\"top_n_sigma\":-1,\"min_keep\":0,\"t_max_predict_ms\":-1,"
                            "\"post_sampling_probs\":false,\"adaptive_target\":-1.0}");

    llm_request_destroy(c.req);
    for (size_t i = 0; i < SL_COUNT_OF(on); i++) {
        char body[128];

        snprintf(body, sizeof body, "{\"prompt\":\"x\",\"%s\":%s}", on[i][0], on[i][1]);
        refuse(body, on[i][0]);
    }
}

static void test_no_model(void **state)
{
    const char *body = "{\"prompt\":[\"x\",1],\"model\":\"none\"}";
    openai_error err = { 0 };
    llamacpp_call call = { 0 };
    sl_buf b;

    assert_int_not_equal(llamacpp_parse(body, strlen(body), tokenizer, &call, &err), SL_OK);
    sl_buf_init(&b, SL_KIB);
    llamacpp_put_error(&b, &err);
    assert_string_equal(b.ptr, "{\"error\":{\"code\":404,\"message\":\"no such model\",\"type\":"
                               "\"not_found_error\",\"param\":\"model\"}}");
    sl_buf_deinit(&b);
}

/* Every allocation may fail: a status, no leak, no crash. */
static void test_out_of_memory(void **state)
{
    const char *body = "{\"prompt\":[\"a\",[1],[\"b\",2]],\"stop\":[\"a\"],"
                       "\"logit_bias\":[[\"ab\",1]]}";
    openai_error err = { 0 };
    llamacpp_call call = { 0 };
    sl_status status = SL_ENOMEM;

    for (unsigned long n = 1; status != SL_OK; n++) {
        assert_true(n < 1000);
        sl_mem_fail_at(n);
        status = llamacpp_parse(body, strlen(body), tokenizer, &call, &err);
        sl_mem_fail_at(0);
    }
    llm_request_destroy(call.req);
}

/* ---- encoding ------------------------------------------------------------------------------ */

#define MS 1000000

/* Two tokens for every prompt: "a" with its text held back, then a stop string or the limit. */
static void play(llamacpp_encoder *e, bool with_stop, sl_buf *out)
{
    llm_token_prob top = { 4, -INFINITY, "\xff", 1 };
    llm_token t[2] = { { .chosen = { 3, -0.5f, "a", 1 }, .top = &top, .top_count = 1 },
                       { .chosen = { 9, -1, "\n", 1 } } };
    llm_usage usage = { .prompt_tokens = 10, .cached_tokens = 4 };

    llamacpp_encode(e, &(llm_event){ .kind = LLM_EV_START }, 100 * MS, out);
    for (uint32_t i = 0; i < e->base.choice_count; i++) {
        llm_event delta = {
            .kind = LLM_EV_DELTA, .choice = i, .tokens = t, .token_count = 1, .usage = usage
        };
        llm_event finish = { .kind = LLM_EV_FINISH,
                             .choice = i,
                             .finish = with_stop ? LLM_FINISH_STOP : LLM_FINISH_LENGTH,
                             .stop = with_stop ? "S" : NULL,
                             .usage = usage };

        llamacpp_encode(e, &delta, 112 * MS, out);
        delta.tokens = &t[1];
        delta.text = "a\n";
        delta.text_len = 2;
        llamacpp_encode(e, &delta, 114 * MS, out);
        llamacpp_encode(e, &finish, 116 * MS, out);
    }
    llamacpp_encode(e, &(llm_event){ .kind = LLM_EV_DONE }, 116 * MS, out);
}

static void encode(const char *body, bool with_stop, sl_buf *out)
{
    llamacpp_call c = parse(body);
    llamacpp_encoder e;

    assert_int_equal(llamacpp_encoder_init(&e, &c, "m"), SL_OK);
    play(&e, with_stop, out);
    llamacpp_encoder_deinit(&e);
    llm_request_destroy(c.req);
}

static void has(const sl_buf *b, const char *text)
{
    if (!strstr(sl_buf_str(b), text))
        fail_msg("no %s in %s", text, sl_buf_str(b));
}

static void test_stream(void **state)
{
    sl_buf b;
    const char *second;

    sl_buf_init(&b, SL_MIB);
    encode("{\"prompt\":\"p\\\"\",\"stream\":true}", true, &b);
    has(&b, "data: {\"index\":0,\"content\":\"\",\"tokens\":[3],\"stop\":false,\"id_slot\":0,"
            "\"tokens_predicted\":1,\"tokens_evaluated\":10}\n\n");
    second = strstr(b.ptr, "\n\n") + 2;
    assert_memory_equal(second, "data: {\"index\":0,\"content\":\"a\\n\",\"tokens\":[9]", 45);
    has(&b, "data: {\"index\":0,\"content\":\"\",\"tokens\":[],\"id_slot\":0,\"stop\":true,"
            "\"stop_type\":\"word\",\"stopping_word\":\"S\",\"tokens_predicted\":2,"
            "\"tokens_evaluated\":10,\"tokens_cached\":11,\"timings\":{\"cache_n\":4,"
            "\"prompt_n\":6,\"prompt_ms\":12.000,\"prompt_per_token_ms\":2,"
            "\"prompt_per_second\":500,\"predicted_n\":2,\"predicted_ms\":4.000,"
            "\"predicted_per_token_ms\":2,\"predicted_per_second\":500}");
    has(&b, "\"has_new_line\":true");
    has(&b, "\"prompt\":\"p\\\"\"}\n\n");
    assert_null(strstr(b.ptr, "[DONE]"));
    sl_buf_deinit(&b);
}

static void test_whole(void **state)
{
    json_t *root, *item;
    sl_buf b;

    sl_buf_init(&b, SL_MIB);
    encode("{\"prompt\":\"p\",\"n_probs\":1,\"return_tokens\":true}", false, &b);
    root = json_loadb(b.ptr, b.len, 0, NULL);
    assert_non_null(root);
    assert_string_equal(json_string_value(json_object_get(root, "content")), "a\n");
    assert_string_equal(json_string_value(json_object_get(root, "stop_type")), "limit");
    has(&b, "\"tokens\":[3,9]");
    item = json_object_get(root, "completion_probabilities");
    assert_int_equal(json_array_size(item), 2);
    has(&b, "{\"id\":3,\"token\":\"a\",\"bytes\":[97],\"logprob\":-0.5,\"top_logprobs\":[{\"id\":4,"
            "\"token\":\"\xef\xbf\xbd\",\"bytes\":[255],\"logprob\":-9999}]}");
    json_decref(root);
    sl_buf_clear(&b);
    encode("{\"prompt\":[\"p\",\"q\"]}", false, &b);
    root = json_loadb(b.ptr, b.len, 0, NULL);
    assert_int_equal(json_array_size(root), 2);
    item = json_array_get(root, 1);
    assert_int_equal(json_integer_value(json_object_get(item, "index")), 1);
    assert_string_equal(json_string_value(json_object_get(item, "prompt")), "q");
    json_decref(root);
    sl_buf_deinit(&b);
}

static void test_failed(void **state)
{
    for (int stream = 0; stream < 2; stream++) {
        llamacpp_call c =
            parse(stream ? "{\"prompt\":\"p\",\"stream\":true}" : "{\"prompt\":\"p\"}");
        llm_event error = { .kind = LLM_EV_ERROR };
        llamacpp_encoder e;
        sl_buf b;

        sl_buf_init(&b, SL_MIB);
        assert_int_equal(llamacpp_encoder_init(&e, &c, "m"), SL_OK);
        (void)sl_fail(&error.error, SL_EINTERNAL, "broken");
        llamacpp_encode(&e, &(llm_event){ .kind = LLM_EV_START }, 1, &b);
        llamacpp_encode(&e, &error, 2, &b);
        llamacpp_encode(&e, &(llm_event){ .kind = LLM_EV_DONE }, 3, &b);
        assert_true(e.base.failed);
        assert_string_equal(b.ptr, stream ? "data: {\"error\":{\"code\":500,\"message\":\"broken\","
                                            "\"type\":\"server_error\"}}\n\n"
                                          : "{\"error\":{\"code\":500,\"message\":\"broken\","
                                            "\"type\":\"server_error\"}}");
        llamacpp_encoder_deinit(&e);
        sl_buf_deinit(&b);
        llm_request_destroy(c.req);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_fields),
        cmocka_unit_test(test_prompts),  cmocka_unit_test(test_logit_bias),
        cmocka_unit_test(test_samplers), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_model), cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_stream),   cmocka_unit_test(test_whole),
        cmocka_unit_test(test_failed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
