/* test_anthropic.c - Anthropic's dialect without HTTP: parsing and encoding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>

#include "api/anthropic.h"

/* ---- parsing ------------------------------------------------------------------------------- */

#define REST "\"model\":\"m\",\"max_tokens\":5"
#define HI   "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static anthropic_call parse(const char *body)
{
    openai_error err = { 0 };
    anthropic_call call = { 0 };

    if (anthropic_parse(false, body, strlen(body), &call, &err) != SL_OK)
        fail_msg("%s: %s: %s", body, err.param, err.message);
    return call;
}

static void refuse(const char *body, const char *param, const char *message)
{
    openai_error err = { 0 };
    anthropic_call call = { 0 };

    if (anthropic_parse(false, body, strlen(body), &call, &err) == SL_OK)
        fail_msg("accepted: %s", body);
    assert_string_equal(err.param, param);
    assert_int_equal(err.http, 400);
    anthropic_dialect.translate(&err);
    assert_string_equal(err.type, "invalid_request_error");
    if (!strstr(err.message, message))
        fail_msg("%s: \"%s\" is not in \"%s\"", body, message, err.message);
    assert_null(call.req);
}

/* The body's messages as OpenAI's, as text. */
static void becomes(const char *fields, const char *messages, bool continues)
{
    char body[1024];
    anthropic_call c;
    json_t *want = json_loads(messages, 0, NULL);

    snprintf(body, sizeof body, "{" REST ",%s}", fields);
    c = parse(body);
    assert_non_null(want);
    if (!json_equal(c.req->messages, want))
        fail_msg("%s gives %s", fields, json_dumps(c.req->messages, 0));
    assert_int_equal(c.req->continue_final, continues);
    assert_int_equal(c.req->no_generation_prompt, continues);
    json_decref(want);
    llm_request_destroy(c.req);
}

static void test_defaults(void **state)
{
    anthropic_call c = parse("{" REST "," HI "}");

    assert_int_equal(c.req->task, LLM_CHAT);
    assert_string_equal(c.req->model, "m");
    assert_int_equal(c.req->max_tokens, 5);
    assert_float_equal(c.req->sampling.temperature, 1, 0);
    assert_false(c.stream || c.req->sampling.has_seed || c.req->continue_final);
    assert_int_equal(c.cache_marks, 0);
    llm_request_destroy(c.req);
}

static void test_fields(void **state)
{
    anthropic_call c = parse("{" REST "," HI ",\"temperature\":0,\"top_p\":0.5,\"top_k\":7,"
                             "\"stop_sequences\":[\"a\",\"b\"],\"stream\":true,\"seed\":3,"
                             "\"metadata\":{\"user_id\":\"u\"},\"service_tier\":\"auto\","
                             "\"thinking\":{\"type\":\"disabled\"},\"container\":\"x\","
                             "\"tools\":[],\"tool_choice\":{\"type\":\"none\"},\"system\":null}");

    assert_float_equal(c.req->sampling.temperature, 0, 0);
    assert_float_equal(c.req->sampling.top_p, 0.5, 1e-6);
    assert_int_equal(c.req->sampling.top_k, 7);
    assert_int_equal(c.req->stop_count, 2);
    assert_true(c.stream && c.req->sampling.has_seed && c.req->sampling.seed == 3);
    llm_request_destroy(c.req);
    refuse("{\"model\":\"m\"," HI "}", "max_tokens", "max_tokens: Field required");
    refuse("{\"max_tokens\":1," HI "}", "model", "model: Field required");
    refuse("{" REST "}", "messages", "messages: Field required");
    refuse("{" REST "," HI ",\"temperature\":1.1}", "temperature", "temperature: ");
    refuse("{" REST "," HI ",\"top_k\":-1}", "top_k", "top_k");
    refuse("{" REST "," HI ",\"stop_sequences\":\"a\"}", "stop_sequences", "array");
    refuse("{" REST "," HI ",\"n\":2}", "n", "n: Extra inputs are not permitted");
    refuse("{" REST "," HI ",\"metadata\":{\"x\":1}}", "metadata.x",
           "metadata.x: Extra inputs are not permitted");
    refuse("{" REST "," HI ",\"service_tier\":\"priority\"}", "service_tier", "auto");
    refuse("[]", "", "object");
}

static void test_refused(void **state)
{
    static const char *const on[][2] = {
        { "tools", "[{\"name\":\"f\",\"input_schema\":{}}]" },
        { "tool_choice", "{\"type\":\"auto\"}" },
        { "thinking", "{\"type\":\"enabled\",\"budget_tokens\":1024}" },
        { "thinking", "{\"type\":\"adaptive\"}" },
        { "output_config", "{\"effort\":\"low\"}" },
        { "output_format", "{\"type\":\"json_schema\"}" },
        { "mcp_servers", "[{}]" },
        { "context_management", "{\"edits\":[1]}" },
    };
    static const char *const blocks[] = { "image", "document", "search_result", "tool_use",
                                          "tool_result" };
    char body[256];

    for (size_t i = 0; i < SL_COUNT_OF(on); i++) {
        snprintf(body, sizeof body, "{" REST "," HI ",\"%s\":%s}", on[i][0], on[i][1]);
        refuse(body, on[i][0], on[i][0]);
    }
    for (size_t i = 0; i < SL_COUNT_OF(blocks); i++) {
        snprintf(body, sizeof body,
                 "{" REST ",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
                 "\"text\":\"a\"},{\"type\":\"%s\"}]}]}",
                 blocks[i]);
        refuse(body, "messages.0.content.1", blocks[i]);
    }
}

static void test_turns(void **state)
{
    becomes("\"system\":\"s\"," HI,
            "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"hi\"}]",
            false);
    becomes("\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],"
            "\"system\":[{\"type\":\"text\",\"text\":\"s\"},{\"type\":\"text\",\"text\":\"t\"}]",
            "[{\"role\":\"system\",\"content\":\"st\"},{\"role\":\"user\",\"content\":\"a\"}]",
            false);
    becomes("\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\",\"content\":"
            "[{\"type\":\"text\",\"text\":\"b\"},{\"type\":\"text\",\"text\":\"c\"}]},"
            "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"t\","
            "\"signature\":\"s\"},{\"type\":\"text\",\"text\":\"d\"}]},"
            "{\"role\":\"user\",\"content\":\"e\"}]",
            "[{\"role\":\"user\",\"content\":\"a\\n\\nbc\"},{\"role\":\"assistant\",\"content\":"
            "\"d\"},{\"role\":\"user\",\"content\":\"e\"}]",
            false);
    becomes(HI ",\"system\":\"\"", "[{\"role\":\"user\",\"content\":\"hi\"}]", false);
    becomes("\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"system\","
            "\"content\":\"b\"}]",
            "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"system\",\"content\":\"b\"}]",
            false);
    becomes("\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
            "\"content\":\"b\"}]",
            "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}]",
            true);
    becomes("\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
            "\"content\":\"\"}]",
            "[{\"role\":\"user\",\"content\":\"a\"}]", false);
}

static void bad_turns(const char *messages, const char *param, const char *message)
{
    char body[512];

    snprintf(body, sizeof body, "{" REST ",\"messages\":%s}", messages);
    refuse(body, param, message);
}

static void test_bad_turns(void **state)
{
    bad_turns("[]", "messages", "1 to");
    bad_turns("{}", "messages", "array");
    bad_turns("[1]", "messages.0", "object");
    bad_turns("[{\"content\":\"a\"}]", "messages.0.role", "Field required");
    bad_turns("[{\"role\":\"tool\",\"content\":\"a\"}]", "messages.0.role", "\"assistant\"");
    bad_turns("[{\"role\":\"user\"}]", "messages.0.content", "Field required");
    bad_turns("[{\"role\":\"user\",\"content\":\"\"}]", "messages.0.content", "empty");
    bad_turns("[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\",\"content\":[]}]",
              "messages.1.content", "empty");
    bad_turns("[{\"role\":\"assistant\",\"content\":\"\"},{\"role\":\"user\",\"content\":\"a\"}]",
              "messages.0.content", "empty");
    bad_turns("[{\"role\":\"user\",\"content\":\"a\",\"name\":\"x\"}]", "messages.0.name",
              "Extra inputs are not permitted");
    bad_turns("[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\",\"x\":1}]}]",
              "messages.0.content.0.x", "Extra inputs");
    bad_turns("[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"\"}]}]",
              "messages.0.content.0.text", "empty");
    bad_turns("[{\"role\":\"user\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"a\"}]}]",
              "messages.0.content.0", "thinking");
    bad_turns("[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b \"}]",
              "messages", "white space");
    bad_turns("[{\"role\":\"assistant\",\"content\":\"\"}]", "messages", "no text");
}

#define MARK         "\"cache_control\":{\"type\":\"ephemeral\"}"
#define MARKED(text) "{\"type\":\"text\",\"text\":\"" text "\"," MARK "}"

static void test_cache_control(void **state)
{
    anthropic_call c = parse("{" REST ",\"system\":[" MARKED("a") "," MARKED(
        "b") "],\"messages\":[{\"role\":\"user\",\"content\":[" MARKED("c") "]}]," MARK "}");

    assert_int_equal(c.cache_marks, 4);
    llm_request_destroy(c.req);
    refuse("{" REST ",\"system\":[" MARKED("a") "," MARKED("b") "," MARKED(
               "c") "],\"messages\":[{\"role\":\"user\",\"content\":[" MARKED("d") "]}]," MARK "}",
           "cache_control", "At most 4");
    refuse("{" REST "," HI ",\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"2h\"}}",
           "cache_control", "1h");
    refuse("{" REST "," HI ",\"cache_control\":{\"type\":\"forever\"}}", "cache_control",
           "ephemeral");
    refuse("{" REST "," HI ",\"cache_control\":{\"type\":\"ephemeral\",\"x\":1}}",
           "cache_control.x", "Extra inputs");
}

static void test_count(void **state)
{
    const char *good = "{\"model\":\"m\"," HI "}", *bad = "{" REST "," HI "}";
    anthropic_call call = { 0 };
    openai_error err = { 0 };

    assert_int_equal(anthropic_parse(true, good, strlen(good), &call, &err), SL_OK);
    llm_request_destroy(call.req);
    assert_int_equal(anthropic_parse(true, bad, strlen(bad), &call, &err), SL_EINVAL);
    assert_string_equal(err.param, "max_tokens");
}

/* Every allocation may fail: a status, no leak, no crash. */
static void test_out_of_memory(void **state)
{
    const char *body = "{" REST ",\"system\":[" MARKED(
        "a") "],\"stop_sequences\":[\"x\"],"
             "\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\","
             "\"content\":\"b\"},{\"role\":\"assistant\",\"content\":\"c\"}]}";
    openai_error err = { 0 };
    anthropic_call call = { 0 };
    sl_status status = SL_ENOMEM;

    for (unsigned long n = 1; status != SL_OK; n++) {
        assert_true(n < 1000);
        sl_mem_fail_at(n);
        status = anthropic_parse(false, body, strlen(body), &call, &err);
        sl_mem_fail_at(0);
    }
    llm_request_destroy(call.req);
}

/* ---- encoding ------------------------------------------------------------------------------ */

static const llm_usage usage = { .prompt_tokens = 10, .cached_tokens = 4, .output_tokens = 5 };

static void encode(bool stream, const llm_event *events, size_t count, sl_buf *out)
{
    anthropic_call c = parse(stream ? "{" REST "," HI ",\"stream\":true}" : "{" REST "," HI "}");
    anthropic_encoder e;

    anthropic_encoder_init(&e, &c, "m", "req_1");
    snprintf(e.id, sizeof e.id, "msg_1");
    for (size_t i = 0; i < count; i++)
        anthropic_encode(&e, &events[i], out);
    if (e.base.failed && !(stream && e.base.started)) {
        e.base.error.request_id = "req_1";
        anthropic_dialect.translate(&e.base.error);
        anthropic_dialect.put_error(out, &e.base.error);
    }
    anthropic_encoder_deinit(&e);
    llm_request_destroy(c.req);
}

static void gives(bool stream, const llm_event *events, size_t count, const char *want)
{
    sl_buf b;

    sl_buf_init(&b, SL_MIB);
    encode(stream, events, count, &b);
    assert_string_equal(sl_buf_str(&b), want);
    sl_buf_deinit(&b);
}

#define USAGE(out)                                                                                 \
    "\"usage\":{\"input_tokens\":6,\"output_tokens\":" out                                         \
    ",\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":4"
#define CREATION                                                                                   \
    ",\"cache_creation\":{\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":0},"       \
    "\"service_tier\":\"standard\"}"
#define HEAD "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\","
#define START                                                                                      \
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":" HEAD                    \
    "\"content\":[],\"stop_reason\":null,\"stop_sequence\":null," USAGE("0") CREATION              \
        "}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n"
#define DELTA(text)                                                                                \
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{"  \
    "\"type\":\"text_delta\",\"text\":\"" text "\"}}\n\n"

static void test_answers(void **state)
{
    const llm_event events[] = {
        { .kind = LLM_EV_START, .usage = { .prompt_tokens = 10, .cached_tokens = 4 } },
        { .kind = LLM_EV_DELTA, .text = "a\n", .text_len = 2 },
        { .kind = LLM_EV_DELTA, .text = "", .text_len = 0 },
        { .kind = LLM_EV_DELTA, .text = "b", .text_len = 1 },
        { .kind = LLM_EV_FINISH, .finish = LLM_FINISH_STOP, .stop = "S\"" },
        { .kind = LLM_EV_DONE, .usage = usage },
    };

    gives(false, events, SL_COUNT_OF(events),
          HEAD "\"content\":[{\"type\":\"text\",\"text\":\"a\\nb\",\"citations\":null}],"
               "\"stop_reason\":\"stop_sequence\",\"stop_sequence\":\"S\\\"\"," USAGE("5") CREATION
          "}");
    gives(true, events, SL_COUNT_OF(events),
          START
          "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,"
          "\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n" DELTA("a\\n") DELTA(
              "b") "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}"
                   "\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{"
                   "\"stop_reason\":\"stop_sequence\",\"stop_sequence\":\"S\\\"\"}," USAGE(
                       "5") "}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
}

static void has_reason(llm_finish finish, int64_t tokens, const char *reason)
{
    const llm_event events[] = {
        { .kind = LLM_EV_START },
        { .kind = LLM_EV_FINISH, .finish = finish },
        { .kind = LLM_EV_DONE, .usage = { .output_tokens = tokens } },
    };
    char want[64];
    sl_buf b;

    snprintf(want, sizeof want, "\"content\":[],\"stop_reason\":\"%s\"", reason);
    sl_buf_init(&b, SL_MIB);
    encode(false, events, SL_COUNT_OF(events), &b);
    if (!strstr(sl_buf_str(&b), want))
        fail_msg("no %s in %s", want, sl_buf_str(&b));
    sl_buf_deinit(&b);
}

static void test_reasons(void **state)
{
    has_reason(LLM_FINISH_STOP, 3, "end_turn");
    has_reason(LLM_FINISH_LENGTH, 5, "max_tokens");
    has_reason(LLM_FINISH_LENGTH, 4, "model_context_window_exceeded");
}

static void test_failed(void **state)
{
    llm_event events[] = {
        { .kind = LLM_EV_START, .usage = { .prompt_tokens = 10, .cached_tokens = 4 } },
        { .kind = LLM_EV_ERROR },
        { .kind = LLM_EV_DONE },
    };
    const llm_event cut[] = {
        { .kind = LLM_EV_START },
        { .kind = LLM_EV_FINISH, .finish = LLM_FINISH_CANCELLED },
        { .kind = LLM_EV_DONE },
    };

    (void)sl_fail(&events[1].error, SL_EINTERNAL, "the engine failed");
    gives(true, events, SL_COUNT_OF(events),
          START "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\","
                "\"message\":\"the engine failed\"},\"request_id\":\"req_1\"}\n\n");
    gives(false, events, SL_COUNT_OF(events),
          "{\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"the engine failed\"}"
          ",\"request_id\":\"req_1\"}");
    gives(false, cut, SL_COUNT_OF(cut),
          "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"The server "
          "stopped before the answer was complete\"},\"request_id\":\"req_1\"}");
}

static void test_error_types(void **state)
{
    static const struct {
        int http, becomes;
        const char *type;
    } map[] = {
        { 400, 400, "invalid_request_error" },
        { 401, 401, "authentication_error" },
        { 402, 402, "billing_error" },
        { 403, 403, "permission_error" },
        { 404, 404, "not_found_error" },
        { 405, 405, "invalid_request_error" },
        { 413, 413, "request_too_large" },
        { 429, 429, "rate_limit_error" },
        { 500, 500, "api_error" },
        { 503, 529, "overloaded_error" },
        { 504, 504, "timeout_error" },
    };

    for (size_t i = 0; i < SL_COUNT_OF(map); i++) {
        openai_error e = { .http = map[i].http, .type = "x" };

        anthropic_dialect.translate(&e);
        assert_int_equal(e.http, map[i].becomes);
        assert_string_equal(e.type, map[i].type);
    }
}

static void note_header(void *ctx, const char *name, const char *value)
{
    sl_buf_printf(ctx, "%s: %s\n", name, value);
}

static void test_quota(void **state)
{
    const llm_quota q = { .tokens = { .limit = 10, .remaining = 3, .reset_ms = 1000 } };
    int year, month, day, hour, minute, second;
    const char *reset;
    sl_buf b;

    sl_buf_init(&b, SL_KIB);
    anthropic_dialect.put_quota(&q, note_header, &b);
    assert_memory_equal(sl_buf_str(&b),
                        "anthropic-ratelimit-tokens-limit: 10\n"
                        "anthropic-ratelimit-tokens-remaining: 3\n",
                        77);
    reset = strstr(sl_buf_str(&b), "tokens-reset: ");
    assert_non_null(reset);
    assert_int_equal(sscanf(reset, "tokens-reset: %d-%d-%dT%d:%d:%dZ", &year, &month, &day, &hour,
                            &minute, &second),
                     6);
    assert_null(strstr(sl_buf_str(&b), "requests"));
    sl_buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),  cmocka_unit_test(test_fields),
        cmocka_unit_test(test_refused),   cmocka_unit_test(test_turns),
        cmocka_unit_test(test_bad_turns), cmocka_unit_test(test_cache_control),
        cmocka_unit_test(test_count),     cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_answers),   cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_failed),    cmocka_unit_test(test_error_types),
        cmocka_unit_test(test_quota),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
