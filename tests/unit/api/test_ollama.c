/* test_ollama.c - Ollama's dialect without HTTP: parsing and encoding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>

#include "api/ollama.h"
#include "api/ollama_int.h"
#include "base/duration.h"

/* ---- parsing ------------------------------------------------------------------------------- */

static ollama_call parse(ollama_kind kind, const char *body)
{
    openai_error err = { 0 };
    ollama_call call = { 0 };

    if (ollama_parse(kind, body, strlen(body), &call, &err) != SL_OK)
        fail_msg("%s: %s", body, err.message);
    return call;
}

static void refuse(ollama_kind kind, const char *body, const char *why)
{
    openai_error err = { 0 };
    ollama_call call = { 0 };

    if (ollama_parse(kind, body, strlen(body), &call, &err) == SL_OK)
        fail_msg("accepted: %s", body);
    if (!strstr(err.message, why))
        fail_msg("%s: '%s' does not say '%s'", body, err.message, why);
    assert_int_equal(err.http, 400);
    assert_null(call.req);
}

static void test_durations(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = { { "5m", 300000000000 },
                 { "1h30m", 5400000000000 },
                 { "1.5s", 1500000000 },
                 { "300ms", 300000000 },
                 { "-1m", -1 },
                 { "0", 0 },
                 { "0s", 0 },
                 { "+2s", 2000000000 },
                 { "99999999h", INT64_MAX },
                 { "7us", 7000 },
                 { "-0s", 0 } };
    static const char *const bad[] = { "", "5", "m", "5x", "5m ", "--5m", "1..2s", "soon", "5m3" };
    int64_t ns;

    for (size_t i = 0; i < SL_COUNT_OF(good); i++) {
        assert_true(sl_duration_parse(good[i].text, &ns));
        assert_int_equal(ns, good[i].ns);
    }
    for (size_t i = 0; i < SL_COUNT_OF(bad); i++)
        if (sl_duration_parse(bad[i], &ns))
            fail_msg("accepted: '%s'", bad[i]);
}

static void keep(const char *value, int64_t want)
{
    char body[200];
    ollama_call c;

    snprintf(body, sizeof body, "{\"model\":\"m\",\"prompt\":\"x\",\"keep_alive\":%s}", value);
    c = parse(OLLAMA_GENERATE, body);
    assert_int_equal(c.req->keep_alive_ns, want);
    llm_request_destroy(c.req);
}

static void test_keep_alive(void **state)
{
    keep("null", LLM_KEEP_DEFAULT);
    keep("0", 0);
    keep("\"0\"", 0);
    keep("-1", -1);
    keep("2.5", 2500000000);
    keep("\"10m\"", 600000000000);
    keep("1e300", INT64_MAX);
    refuse(OLLAMA_CHAT, "{\"model\":\"m\",\"keep_alive\":\"soon\"}", "keep_alive");
    refuse(OLLAMA_CHAT, "{\"model\":\"m\",\"keep_alive\":[]}", "keep_alive");
}

static void test_defaults(void **state)
{
    ollama_call c = parse(OLLAMA_GENERATE, "{\"model\":\"m\",\"prompt\":\"x\"}");
    const llm_sampling *s = &c.req->sampling;

    assert_true(c.stream);
    assert_float_equal(s->temperature, 0.8, 1e-6);
    assert_float_equal(s->top_p, 0.9, 1e-6);
    assert_int_equal(s->top_k, 40);
    assert_int_equal(s->penalty_last_n, 64);
    assert_float_equal(s->repetition_penalty, 1, 0);
    assert_false(s->has_seed);
    assert_int_equal(c.req->max_tokens, -1);
    assert_true(c.req->truncate);
    assert_false(c.req->load_only);
    assert_int_equal(c.req->given, 0);
    assert_memory_equal(s, &c.req->dialect, sizeof *s);
    llm_request_destroy(c.req);
}

static void test_options(void **state)
{
    ollama_call c =
        parse(OLLAMA_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
                           "\"x\"}],\"stream\":false,\"logprobs\":true,"
                           "\"top_logprobs\":3,\"truncate\":false,\"options\":{"
                           "\"temperature\":0.8,\"top_k\":-5,\"seed\":0,"
                           "\"num_predict\":-2,\"num_ctx\":99,\"stop\":[\"a\",\"\"],"
                           "\"repeat_last_n\":-1,\"min_p\":0.1,\"num_gpu\":\"all\","
                           "\"mirostat\":2,\"zeta\":1}}");
    const llm_request *r = c.req;

    assert_false(c.stream || r->truncate);
    assert_int_equal(r->sampling.top_k, 0);
    assert_true(r->sampling.has_seed && r->sampling.seed == 0);
    assert_int_equal(r->max_tokens, -1);
    assert_int_equal(r->context_max, 99);
    assert_int_equal(r->stop_count, 1);
    assert_int_equal(r->top_logprobs, 3);
    assert_int_equal(r->given, LLM_GIVEN_TEMPERATURE | LLM_GIVEN_TOP_K | LLM_GIVEN_SEED |
                                   LLM_GIVEN_MAX_TOKENS | LLM_GIVEN_CONTEXT | LLM_GIVEN_STOP |
                                   LLM_GIVEN_LAST_N | LLM_GIVEN_MIN_P);
    assert_int_equal(c.unknown_count, 2);
    assert_string_equal(c.unknown, "mirostat");
    llm_request_destroy(c.req);
    refuse(OLLAMA_CHAT, "{\"model\":\"m\",\"options\":{\"top_k\":\"x\"}}",
           "option \"top_k\" must be of type integer");
    refuse(OLLAMA_CHAT, "{\"model\":\"m\",\"options\":{\"top_p\":[]}}",
           "option \"top_p\" must be of type float32");
    refuse(OLLAMA_CHAT, "{\"model\":\"m\",\"options\":{\"stop\":1}}",
           "option \"stop\" must be of type array");
    refuse(OLLAMA_CHAT, "{\"model\":\"m\",\"options\":{\"top_p\":1.5}}", "top_p");
    refuse(OLLAMA_CHAT, "{\"model\":\"m\",\"options\":3}", "options");
}

static void test_generate(void **state)
{
    ollama_call c = parse(OLLAMA_GENERATE,
                          "{\"model\":\"m\",\"prompt\":\"p\",\"system\":\"s\",\"template\":\"t\","
                          "\"context\":[1,2,3]}");

    assert_int_equal(c.req->task, LLM_CHAT);
    assert_int_equal(json_array_size(c.req->messages), 2);
    assert_string_equal(c.req->chat_template, "t");
    assert_int_equal(c.req->context_id_count, 3);
    assert_int_equal(c.req->context_ids[2], 3);
    llm_request_destroy(c.req);
    c = parse(OLLAMA_GENERATE, "{\"model\":\"m\",\"prompt\":\"p\",\"raw\":true}");
    assert_int_equal(c.req->task, LLM_COMPLETE);
    assert_string_equal(c.req->prompts[0].text, "p");
    llm_request_destroy(c.req);
    c = parse(OLLAMA_GENERATE, "{\"model\":\"m\",\"keep_alive\":0}");
    assert_true(c.req->load_only);
    llm_request_destroy(c.req);
    refuse(OLLAMA_GENERATE, "{\"prompt\":\"p\"}", "model");
    refuse(OLLAMA_GENERATE, "{\"model\":\"m\",\"raw\":true,\"system\":\"s\"}", "raw mode");
    refuse(OLLAMA_GENERATE, "{\"model\":\"m\",\"context\":[\"a\"]}", "context[0]");
    refuse(OLLAMA_GENERATE, "{\"model\":\"m\",\"suffix\":\"s\"}", "suffix");
    refuse(OLLAMA_GENERATE, "{\"model\":\"m\",\"images\":[\"aGk=\"]}", "images");
    refuse(OLLAMA_GENERATE, "{\"model\":\"m\",\"format\":{\"type\":\"object\"}}", "format");
    refuse(OLLAMA_GENERATE, "{\"model\":\"m\",\"think\":\"low\"}", "think");
    refuse(OLLAMA_GENERATE, "[]", "object");
}

static void test_chat_and_embed(void **state)
{
    ollama_call c =
        parse(OLLAMA_CHAT, "{\"model\":\"m\",\"format\":\"\",\"tools\":[],\"think\":false,"
                           "\"messages\":[{\"role\":\"assistant\",\"thinking\":\"hm\","
                           "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{}}}]},"
                           "{\"role\":\"tool\",\"content\":\"r\",\"tool_name\":\"f\"}]}");
    const json_t *first = json_array_get(c.req->messages, 0);

    assert_string_equal(json_string_value(json_object_get(first, "content")), "");
    assert_string_equal(json_string_value(json_object_get(first, "reasoning_content")), "hm");
    assert_int_equal(json_array_size(json_object_get(first, "tool_calls")), 1);
    llm_request_destroy(c.req);
    refuse(OLLAMA_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"boss\"}]}", "role");
    refuse(OLLAMA_CHAT, "{\"model\":\"m\",\"messages\":{}}", "messages");
    refuse(OLLAMA_CHAT, "{\"model\":\"m\",\"messages\":[7]}", "messages[0]");
    refuse(OLLAMA_CHAT, "{\"model\":\"m\",\"tools\":[{}]}", "tools");
    c = parse(OLLAMA_EMBED, "{\"model\":\"m\",\"input\":[\"a\",\"\"],\"dimensions\":3}");
    assert_int_equal(c.req->prompt_count, 2);
    assert_false(c.stream || c.req->load_only);
    llm_request_destroy(c.req);
    c = parse(OLLAMA_EMBED, "{\"model\":\"m\",\"input\":\"\"}");
    assert_true(c.req->load_only);
    llm_request_destroy(c.req);
    refuse(OLLAMA_EMBED, "{\"model\":\"m\",\"input\":[1]}", "invalid input type");
    refuse(OLLAMA_EMBED, "{\"model\":\"m\",\"input\":{}}", "invalid input type");
}

/* Every allocation may fail: a status, no leak, no crash. */
static void test_out_of_memory(void **state)
{
    static const char body[] = "{\"model\":\"m\",\"prompt\":\"p\",\"system\":\"s\",\"context\":[1],"
                               "\"template\":\"t\",\"options\":{\"stop\":[\"a\"]}}";
    openai_error err = { 0 };
    ollama_call call = { 0 };
    ollama_encoder e;
    sl_status status = SL_ENOMEM;

    for (unsigned long n = 1; status != SL_OK; n++) {
        assert_true(n < 1000);
        sl_mem_fail_at(n);
        status = ollama_parse(OLLAMA_GENERATE, body, sizeof body - 1, &call, &err);
        sl_mem_fail_at(0);
    }
    assert_int_equal(ollama_encoder_init(&e, &call), SL_OK);
    ollama_encoder_deinit(&e);
    llm_request_destroy(call.req);
}

static void manage(const body_schema *s, const char *body, const char *why)
{
    openai_error err = { 0 };
    ollama_manage m;
    sl_arena arena;
    sl_status status;

    sl_arena_init(&arena, 1 << 20);
    status = ollama_parse_manage(s, body, strlen(body), &arena, &m, &err);
    if (why ? status == SL_OK || !strstr(err.message, why) : status != SL_OK)
        fail_msg("%s: %d '%s'", body, status, err.message);
    ollama_manage_deinit(&m);
    sl_arena_deinit(&arena);
}

static void test_manage(void **state)
{
    manage(&ollama_pull_body, "{\"model\":\"m\",\"insecure\":true}", NULL);
    manage(&ollama_pull_body, "{\"name\":\"m\"}", NULL);
    manage(&ollama_pull_body, "{}", "model is required");
    manage(&ollama_copy_body, "{\"source\":\"a\"}", "destination is required");
    manage(&ollama_create_body, "{\"model\":\"m\"}", "neither 'from'");
    manage(&ollama_create_body,
           "{\"model\":\"m\",\"from\":\"a\",\"license\":[\"x\"],\"messages\":[{\"role\":\"user\","
           "\"content\":\"c\"}],\"parameters\":{\"stop\":\"a\"}}",
           NULL);
    manage(&ollama_create_body, "{\"model\":\"m\",\"from\":\"a\",\"license\":[1]}", "license");
    manage(&ollama_create_body, "{\"model\":\"m\",\"from\":\"a\",\"messages\":[{}]}",
           "messages[0]");
    manage(&ollama_create_body, "{\"model\":\"m\",\"files\":{\"a\":\"b\"}}", "digest");
    manage(&ollama_create_body, "{\"model\":\"m\",\"from\":\"a\",\"parameters\":{\"seed\":\"x\"}}",
           "seed");
    manage(&ollama_create_body, "{\"model\":\"m\",\"from\":\"a\",\"adapters\":{\"a\":\"b\"}}",
           "adapters");
}

/* ---- encoding ------------------------------------------------------------------------------ */

#define WALL_NS 1764138600000000005

static void encode_all(const ollama_call *c, const llm_event *events, size_t count, sl_buf *out)
{
    ollama_encoder e;

    sl_buf_init(out, 1 << 20);
    assert_int_equal(ollama_encoder_init(&e, c), SL_OK);
    for (size_t i = 0; i < count; i++)
        ollama_encode(&e, &events[i], WALL_NS, out);
    ollama_encoder_deinit(&e);
}

static void test_encode(void **state)
{
    static const int32_t prompt[] = { 5, 6 };
    llm_token_prob top = { 3, -INFINITY, "\xff", 1 };
    llm_token token = { .chosen = { 2, -1, "a", 1 }, .top = &top, .top_count = 1 };
    const llm_event events[] = {
        { .kind = LLM_EV_START, .prompt_ids = prompt, .prompt_id_count = 2 },
        { .kind = LLM_EV_DELTA, .text = "a\"", .text_len = 2, .tokens = &token, .token_count = 1 },
        { .kind = LLM_EV_DELTA },
        { .kind = LLM_EV_FINISH, .finish = LLM_FINISH_LENGTH },
        { .kind = LLM_EV_DONE,
          .usage = { .prompt_tokens = 2,
                     .output_tokens = 1,
                     .queue_ns = 1,
                     .ttft_ns = 11,
                     .total_ns = 31,
                     .load_ns = 100 } },
    };
    const char *last = "\"done\":true,\"done_reason\":\"length\",\"context\":[5,6,2],"
                       "\"total_duration\":131,\"load_duration\":100,\"prompt_eval_count\":2,"
                       "\"prompt_eval_duration\":10,\"eval_count\":1,\"eval_duration\":20}";
    ollama_call c = parse(OLLAMA_GENERATE, "{\"model\":\"m\",\"prompt\":\"x\",\"logprobs\":true}");
    char want[1024];
    sl_buf b;

    encode_all(&c, events, SL_COUNT_OF(events), &b);
    snprintf(want, sizeof want,
             "{\"model\":\"m\",\"created_at\":\"2025-11-26T06:30:00.000000005Z\","
             "\"response\":\"a\\\"\",\"logprobs\":[{\"token\":\"a\",\"logprob\":-1,\"bytes\":[97],"
             "\"top_logprobs\":[{\"token\":\"\xef\xbf\xbd\",\"logprob\":-9999,\"bytes\":[255]}]}],"
             "\"done\":false}\n{\"model\":\"m\",\"created_at\":\"2025-11-26T06:30:00.000000005Z\","
             "\"response\":\"\",%s\n",
             last);
    assert_string_equal(b.ptr, want);
    sl_buf_deinit(&b);
    llm_request_destroy(c.req);

    c = parse(OLLAMA_GENERATE, "{\"model\":\"m\",\"prompt\":\"x\",\"stream\":false}");
    encode_all(&c, events, SL_COUNT_OF(events), &b);
    assert_non_null(strstr(b.ptr, "\"response\":\"a\\\"\",\"done\":true"));
    assert_non_null(strstr(b.ptr, last));
    sl_buf_deinit(&b);
    llm_request_destroy(c.req);
}

static void test_encode_others(void **state)
{
    const float v[] = { 3, 4, 12 };
    llm_event events[] = { { .kind = LLM_EV_START },
                           { .kind = LLM_EV_EMBEDDING, .vector = v, .vector_len = 3 },
                           { .kind = LLM_EV_DONE, .usage = { .prompt_tokens = 4 } } };
    ollama_call c = parse(OLLAMA_EMBED, "{\"model\":\"m\",\"input\":\"x\",\"dimensions\":2}");
    sl_buf b;

    encode_all(&c, events, 3, &b);
    assert_string_equal(b.ptr, "{\"model\":\"m\",\"embeddings\":[[0.6,0.8]],\"total_duration\":0,"
                               "\"load_duration\":0,\"prompt_eval_count\":4}");
    sl_buf_deinit(&b);
    llm_request_destroy(c.req);

    c = parse(OLLAMA_CHAT, "{\"model\":\"m\",\"messages\":[],\"keep_alive\":0}");
    encode_all(&c, (llm_event[]){ { .kind = LLM_EV_START }, { .kind = LLM_EV_DONE } }, 2, &b);
    assert_non_null(strstr(b.ptr, "\"message\":{\"role\":\"assistant\",\"content\":\"\"},"
                                  "\"done\":true,\"done_reason\":\"unload\"}"));
    sl_buf_deinit(&b);
    llm_request_destroy(c.req);

    c = parse(OLLAMA_CHAT,
              "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    events[1] = (llm_event){ .kind = LLM_EV_ERROR };
    assert_int_equal(sl_fail(&events[1].error, SL_EINTERNAL, "it broke"), SL_EINTERNAL);
    encode_all(&c, events, 3, &b);
    assert_string_equal(b.ptr, "{\"error\":\"it broke\"}\n");
    sl_buf_deinit(&b);
    llm_request_destroy(c.req);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations),     cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_defaults),      cmocka_unit_test(test_options),
        cmocka_unit_test(test_generate),      cmocka_unit_test(test_chat_and_embed),
        cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_manage),
        cmocka_unit_test(test_encode),        cmocka_unit_test(test_encode_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
