/* test_tgi.c - TGI's dialect without HTTP: parsing and encoding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>

#include "api/tgi.h"

/* ---- parsing ------------------------------------------------------------------------------- */

static tgi_call parse(tgi_form form, const char *body)
{
    openai_error err = { 0 };
    tgi_call call = { 0 };

    if (tgi_parse(form, body, strlen(body), &call, &err) != SL_OK)
        fail_msg("%s: %s", body, err.message);
    return call;
}

static void refuse(tgi_form form, const char *body, const char *param)
{
    openai_error err = { 0 };
    tgi_call call = { 0 };

    if (tgi_parse(form, body, strlen(body), &call, &err) == SL_OK)
        fail_msg("accepted: %s", body);
    assert_string_equal(err.param, param);
    assert_null(call.req);
    tgi_dialect.translate(&err);
    assert_int_equal(err.http, 422);
    assert_string_equal(err.type, "validation");
    assert_memory_equal(err.message, "Input validation error: ", 24);
}

/* The same with one parameter. */
static void refuse_parameter(tgi_form form, const char *name, const char *value)
{
    char body[256], param[64];

    snprintf(body, sizeof body, "{\"inputs\":\"x\",\"parameters\":{\"%s\":%s}}", name, value);
    snprintf(param, sizeof param, "parameters.%s", name);
    refuse(form, body, param);
}

static void test_defaults(void **state)
{
    tgi_call c = parse(TGI_GENERATE, "{\"inputs\":\"x\",\"unknown\":1}");

    assert_int_equal(c.req->task, LLM_COMPLETE);
    assert_float_equal(c.req->sampling.temperature, 1, 0); /* no parameters: sampled */
    assert_true(c.req->sampling.has_seed);
    assert_int_equal(c.req->max_tokens, -1);
    assert_true(c.req->include_stop);
    assert_false(c.req->logprobs || c.req->every_token || c.req->token_details || c.req->echo);
    llm_request_destroy(c.req);
    c = parse(TGI_GENERATE, "{\"inputs\":\"x\",\"parameters\":{\"unknown\":1}}");
    assert_float_equal(c.req->sampling.temperature, 0, 0); /* parameters: greedy */
    assert_false(c.req->sampling.has_seed);
    llm_request_destroy(c.req);
    c = parse(TGI_STREAM, "{\"inputs\":\"x\"}");
    assert_true(c.stream && c.req->logprobs && c.req->every_token && c.req->token_details);
    llm_request_destroy(c.req);
    c = parse(TGI_COMPAT, "{\"inputs\":\"x\",\"stream\":true}");
    assert_true(c.stream);
    llm_request_destroy(c.req);
}

static void has_temperature(const char *parameters, float want)
{
    char body[256];
    tgi_call c;

    snprintf(body, sizeof body, "{\"inputs\":\"x\",\"parameters\":{%s}}", parameters);
    c = parse(TGI_GENERATE, body);
    assert_float_equal(c.req->sampling.temperature, want, 1e-6);
    llm_request_destroy(c.req);
}

static void test_sampling(void **state)
{
    has_temperature("\"do_sample\":false", 0);
    has_temperature("\"do_sample\":true", 1);
    has_temperature("\"do_sample\":true,\"temperature\":0.5", 0.5);
    has_temperature("\"temperature\":0.5", 0.5);
    has_temperature("\"temperature\":1.0", 0);
    has_temperature("\"top_k\":5", 1);
    has_temperature("\"top_p\":0.9", 1);
    has_temperature("\"typical_p\":0.9", 1);
    has_temperature("\"repetition_penalty\":1.2,\"seed\":3", 0);
}

static void test_fields(void **state)
{
    tgi_call c = parse(TGI_GENERATE,
                       "{\"inputs\":\"h\xc3\xa9\",\"model\":\"m\",\"add_special_tokens\":false,"
                       "\"parameters\":{\"do_sample\":true,\"best_of\":2,\"max_new_tokens\":7,"
                       "\"stop\":[\"a\",\"b\"],\"truncate\":4,\"decoder_input_details\":true,"
                       "\"top_n_tokens\":3,\"frequency_penalty\":-1,\"repetition_penalty\":1.5,"
                       "\"return_full_text\":true,\"watermark\":false,\"grammar\":null,"
                       "\"adapter_id\":null}}");
    const llm_request *req = c.req;

    assert_string_equal(req->model, "m");
    assert_true(req->no_special && req->echo && req->logprobs && req->token_details);
    assert_true(c.full_text && c.details && c.input_details);
    assert_int_equal(req->n, 2);
    assert_int_equal(req->max_tokens, 7);
    assert_int_equal(req->stop_count, 2);
    assert_int_equal(req->truncate_prompt_tokens, 4);
    assert_int_equal(req->top_logprobs, 3);
    assert_float_equal(req->sampling.frequency_penalty, -1, 0);
    assert_float_equal(req->sampling.repetition_penalty, 1.5, 0);
    assert_int_equal(c.input_chars, 2);
    llm_request_destroy(c.req);
}

static void test_refused(void **state)
{
    static const char *const bad[][2] = {
        { "temperature", "0" },
        { "temperature", "-1" },
        { "top_p", "0" },
        { "top_p", "1.0" },
        { "typical_p", "1" },
        { "top_k", "0" },
        { "repetition_penalty", "0" },
        { "frequency_penalty", "2.5" },
        { "max_new_tokens", "0" },
        { "best_of", "0" },
        { "best_of", "9" },
        { "truncate", "0" },
        { "seed", "-1" },
        { "stop", "\"a\"" },
        { "top_n_tokens", "21" },
        { "watermark", "true" },
        { "grammar", "{\"type\":\"json\",\"value\":{}}" },
        { "adapter_id", "\"a\"" },
        { "do_sample", "1" },
    };

    for (size_t i = 0; i < SL_COUNT_OF(bad); i++) {
        char body[256], param[64];
        openai_error err = { 0 };
        tgi_call call;

        snprintf(body, sizeof body, "{\"inputs\":\"x\",\"parameters\":{\"%s\":%s}}", bad[i][0],
                 bad[i][1]);
        assert_int_equal(tgi_parse(TGI_GENERATE, body, strlen(body), &call, &err), SL_EINVAL);
        snprintf(param, sizeof param, "parameters.%s", bad[i][0]);
        if (strcmp(err.param, param) != 0 && strcmp(err.param, bad[i][0]) != 0)
            fail_msg("%s: %s", body, err.param);
    }
    refuse_parameter(TGI_GENERATE, "watermark", "true");
    refuse(TGI_GENERATE, "{}", "inputs");
    refuse(TGI_GENERATE, "{\"inputs\":\"\"}", "inputs");
    refuse(TGI_GENERATE, "{\"inputs\":[\"x\"]}", "inputs");
    refuse(TGI_GENERATE, "{\"inputs\":\"x\",\"parameters\":[]}", "parameters");
    refuse(TGI_GENERATE, "{\"inputs\":\"x\",\"parameters\":{\"best_of\":2}}", "best_of");
    refuse(TGI_GENERATE,
           "{\"inputs\":\"x\",\"parameters\":{\"best_of\":2,\"do_sample\":true,\"seed\":1}}",
           "seed");
    refuse(TGI_STREAM, "{\"inputs\":\"x\",\"parameters\":{\"best_of\":2,\"do_sample\":true}}",
           "best_of");
    refuse(TGI_STREAM, "{\"inputs\":\"x\",\"parameters\":{\"decoder_input_details\":true}}",
           "decoder_input_details");
}

static void test_vertex(void **state)
{
    tgi_call c = parse(TGI_VERTEX, "{\"instances\":[{\"inputs\":\"a\",\"parameters\":{\"seed\":1,"
                                   "\"do_sample\":true}},{\"inputs\":\"bc\",\"parameters\":{"
                                   "\"do_sample\":true,\"seed\":1}}]}");

    assert_int_equal(c.req->prompt_count, 2);
    assert_string_equal(c.req->prompts[1].text, "bc");
    assert_int_equal(c.req->sampling.seed, 1);
    assert_int_equal(c.input_chars, 3);
    llm_request_destroy(c.req);
    refuse(TGI_VERTEX, "{\"instances\":[]}", "instances");
    refuse(TGI_VERTEX, "{\"instances\":[{}]}", "instances[0].inputs");
    refuse(TGI_VERTEX, "{\"instances\":[{\"messages\":[]}]}", "instances[0]");
    refuse(TGI_VERTEX, "{\"instances\":[{\"inputs\":\"a\"},{\"inputs\":\"a\",\"parameters\":{}}]}",
           "instances[1]");
}

/* Every allocation may fail: a status, no leak, no crash. */
static void test_out_of_memory(void **state)
{
    const char *body = "{\"instances\":[{\"inputs\":\"a\",\"parameters\":{\"stop\":[\"x\"]}},"
                       "{\"inputs\":\"b\",\"parameters\":{\"stop\":[\"x\"]}}]}";
    openai_error err = { 0 };
    tgi_call call = { 0 };
    sl_status status = SL_ENOMEM;

    for (unsigned long n = 1; status != SL_OK; n++) {
        assert_true(n < 1000);
        sl_mem_fail_at(n);
        status = tgi_parse(TGI_VERTEX, body, strlen(body), &call, &err);
        sl_mem_fail_at(0);
    }
    llm_request_destroy(call.req);
}

/* ---- encoding ------------------------------------------------------------------------------ */

#define MS 1000000

/* The prompt's two tokens, "a", a token whose text is held back, and the end: "S" or a stop token.
 */
static void play(tgi_encoder *e, bool with_stop, sl_buf *out)
{
    llm_token_prob top = { 4, -INFINITY, "\xff", 1 };
    llm_token prompt[2] = { { .chosen = { 1, NAN, "<s>", 3, true }, .is_prompt = true },
                            { .chosen = { 2, -2, "p", 1 }, .is_prompt = true } };
    llm_token t[3] = {
        { .chosen = { 3, -0.5f, "a", 1 }, .top = &top, .top_count = 1 },
        { .chosen = { 5, -1, "S", 1 } },
        { .chosen = { 9, -0.25f, "</s>", 4, true }, .is_last = true },
    };
    llm_event delta = { .kind = LLM_EV_DELTA, .usage = { .prompt_tokens = 2 } };

    tgi_encode(e, &(llm_event){ .kind = LLM_EV_START }, 0, out);
    for (uint32_t i = 0; i < e->base.choice_count; i++) {
        delta.choice = i;
        delta.tokens = prompt;
        delta.token_count = 2;
        delta.text_len = 0;
        if (e->input_details)
            tgi_encode(e, &delta, 0, out);
        for (int k = 0; k < 3; k++) {
            llm_token one = t[k];

            if (with_stop && k == 2)
                continue;
            one.is_last = with_stop ? k == 1 : k == 2;
            one.chosen.logprob *= (float)(2 - (int)i); /* the second is likelier */
            delta.tokens = &one;
            delta.token_count = 1;
            delta.text = k == 0 ? "a" : "S";
            delta.text_len = k == 0 || (with_stop && k == 1) || (!with_stop && k == 1);
            tgi_encode(e, &delta, 0, out);
        }
        tgi_encode(e,
                   &(llm_event){ .kind = LLM_EV_FINISH,
                                 .choice = i,
                                 .finish = LLM_FINISH_STOP,
                                 .stop = with_stop ? "S" : NULL },
                   0, out);
    }
    tgi_encode(
        e,
        &(llm_event){ .kind = LLM_EV_DONE,
                      .usage = { .prompt_tokens = 2, .queue_ns = 2 * MS, .total_ns = 8 * MS } },
        10 * MS, out);
}

static void note_header(void *ctx, const char *name, const char *value)
{
    sl_buf_printf(ctx, "%s: %s\n", name, value);
}

static void gives(tgi_form form, const char *body, bool with_stop, const char *want,
                  const char *headers)
{
    tgi_call c = parse(form, body);
    tgi_encoder e;
    sl_buf b, h;

    sl_buf_init(&b, SL_MIB);
    sl_buf_init(&h, SL_MIB);
    assert_int_equal(tgi_encoder_init(&e, &c, 0), SL_OK);
    play(&e, with_stop, &b);
    assert_string_equal(sl_buf_str(&b), want);
    e.base.ops->headers(&e.base, note_header, &h);
    if (headers)
        assert_string_equal(sl_buf_str(&h), headers);
    tgi_encoder_deinit(&e);
    llm_request_destroy(c.req);
    sl_buf_deinit(&b);
    sl_buf_deinit(&h);
}

#define TOKEN(id, text, logprob, special)                                                          \
    "{\"id\":" id ",\"text\":\"" text "\",\"logprob\":" logprob ",\"special\":" special "}"

static void test_stream(void **state)
{
    gives(TGI_STREAM, "{\"inputs\":\"p\\\"\",\"parameters\":{\"return_full_text\":true}}", true,
          "data: {\"index\":1,\"token\":" TOKEN(
              "3", "a", "-1",
              "false") ",\"generated_text\":null,"
                       "\"details\":null}\n\n"
                       "data: {\"index\":2,\"token\":" TOKEN(
                           "5", "S", "-2",
                           "false") ",\"generated_text\":\"p\\\"aS\",\"details\":{\"finish_"
                                    "reason\":\"stop_sequence\","
                                    "\"generated_tokens\":2,\"seed\":null,\"input_length\":2}}\n\n",
          "x-compute-type: cpu\nx-compute-characters: 2\n");
    gives(TGI_STREAM,
          "{\"inputs\":\"p\",\"parameters\":{\"seed\":7,\"top_k\":1,"
          "\"top_n_tokens\":1}}",
          false,
          "data: {\"index\":1,\"token\":" TOKEN("3", "a", "-1", "false") ",\"top_tokens\":[" TOKEN(
              "4", "\xef\xbf\xbd", "-9999",
              "false") "],\"generated_text\":null,\"details\":null}\n\n"
                       "data: {\"index\":2,\"token\":" TOKEN(
                           "5", "S", "-2",
                           "false") ",\"top_tokens\":[],"
                                    "\"generated_text\":null,\"details\":null}\n\n"
                                    "data: {\"index\":3,\"token\":" TOKEN(
                                        "9", "</s>", "-0.5",
                                        "true") ",\"top_tokens\":[],"
                                                "\"generated_text\":\"aS\",\"details\":{\"finish_"
                                                "reason\":\"eos_token\","
                                                "\"generated_tokens\":3,\"seed\":7,\"input_"
                                                "length\":2}}\n\n",
          NULL);
}

static void test_whole(void **state)
{
    gives(TGI_GENERATE, "{\"inputs\":\"p\",\"parameters\":{\"details\":false}}", true,
          "{\"generated_text\":\"aS\"}",
          "x-compute-type: cpu\nx-compute-characters: 1\nx-compute-time: 0.010000\n"
          "x-total-time: 10\nx-validation-time: 2\nx-queue-time: 2\nx-inference-time: 6\n"
          "x-time-per-token: 3\nx-prompt-tokens: 2\nx-generated-tokens: 2\n");
    gives(TGI_COMPAT, "{\"inputs\":\"p\",\"parameters\":{\"decoder_input_details\":true}}", false,
          "[{\"generated_text\":\"aS\",\"details\":{\"finish_reason\":\"eos_token\","
          "\"generated_tokens\":3,\"seed\":null,\"prefill\":[{\"id\":1,\"text\":\"<s>\","
          "\"logprob\":null},{\"id\":2,\"text\":\"p\",\"logprob\":-2}],\"tokens\":[" TOKEN(
              "3", "a", "-1", "false") "," TOKEN("5", "S", "-2", "false") "," TOKEN("9", "</s>",
                                                                                    "-0.5",
                                                                                    "true") "]}}]",
          NULL);
}

static void test_best_of(void **state)
{
    tgi_call c = parse(TGI_GENERATE, "{\"inputs\":\"p\",\"parameters\":{\"best_of\":2,"
                                     "\"do_sample\":true,\"details\":true}}");
    json_t *root, *details, *others;
    tgi_encoder e;
    sl_buf b;

    sl_buf_init(&b, SL_MIB);
    assert_int_equal(tgi_encoder_init(&e, &c, 0), SL_OK);
    play(&e, true, &b);
    root = json_loadb(b.ptr, b.len, 0, NULL);
    assert_non_null(root);
    details = json_object_get(root, "details");
    assert_float_equal(json_number_value(json_object_get(
                           json_array_get(json_object_get(details, "tokens"), 0), "logprob")),
                       -0.5, 1e-6);
    others = json_object_get(details, "best_of_sequences");
    assert_int_equal(json_array_size(others), 1);
    assert_float_equal(
        json_number_value(json_object_get(
            json_array_get(json_object_get(json_array_get(others, 0), "tokens"), 0), "logprob")),
        -1, 1e-6);
    tgi_encoder_deinit(&e);
    llm_request_destroy(c.req);
    json_decref(root);
    sl_buf_deinit(&b);
}

static void test_predictions(void **state)
{
    gives(TGI_VERTEX, "{\"instances\":[{\"inputs\":\"p\"},{\"inputs\":\"q\"}]}", true,
          "{\"predictions\":[\"aS\",\"aS\"]}", NULL);
}

/* What is told in an error of each kind. */
static void becomes(sl_status status, int http, const char *body)
{
    tgi_call c = parse(TGI_STREAM, "{\"inputs\":\"p\"}");
    llm_event error = { .kind = LLM_EV_ERROR };
    char want[256];
    tgi_encoder e;
    openai_error said;
    sl_buf b;

    (void)sl_fail(&error.error, status, "x");
    sl_buf_init(&b, SL_MIB);
    assert_int_equal(tgi_encoder_init(&e, &c, 0), SL_OK);
    tgi_encode(&e, &(llm_event){ .kind = LLM_EV_START }, 0, &b);
    tgi_encode(&e, &error, 0, &b);
    tgi_encode(&e, &(llm_event){ .kind = LLM_EV_DONE }, 0, &b);
    snprintf(want, sizeof want, "data: %s\n\n", body);
    assert_string_equal(sl_buf_str(&b), want);
    said = e.base.error;
    tgi_dialect.translate(&said);
    assert_int_equal(said.http, http);
    tgi_encoder_deinit(&e);
    llm_request_destroy(c.req);
    sl_buf_deinit(&b);
}

static void test_errors(void **state)
{
    becomes(SL_ECONTEXT, 422,
            "{\"error\":\"Input validation error: x\",\"error_type\":\"validation\"}");
    becomes(SL_EINVAL, 422,
            "{\"error\":\"Input validation error: x\",\"error_type\":\"validation\"}");
    becomes(SL_EBUSY, 429, "{\"error\":\"x\",\"error_type\":\"overloaded\"}");
    becomes(SL_ERATE, 429, "{\"error\":\"x\",\"error_type\":\"overloaded\"}");
    becomes(SL_EINTERNAL, 424, "{\"error\":\"x\",\"error_type\":\"generation\"}");
    becomes(SL_ENOTFOUND, 404,
            "{\"error\":\"Input validation error: x\",\"error_type\":\"validation\"}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_fields),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_vertex),   cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_stream),   cmocka_unit_test(test_whole),
        cmocka_unit_test(test_best_of),  cmocka_unit_test(test_predictions),
        cmocka_unit_test(test_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
