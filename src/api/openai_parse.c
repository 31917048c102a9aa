/* openai_parse.c - bodies of /v1/chat/completions, /v1/completions and /v1/embeddings to
 * llm_request.
 *
 * Strict about what is known: a wrong type or range is refused and named, and so is a feature that
 * would change the answer but does not exist here. Lenient about the rest: unknown fields are
 * ignored, null means absent. */
#include <stdio.h>
#include <stdlib.h>

#include "api/fields.h"
#include "api/schema.h"

#define TOKENS_MAX ((int64_t)1 << 31)

/* ---- sampling ------------------------------------------------------------------------------ */

static sl_status take_logit_bias(const json_t *v, const field_rule *rule, const field_target *to,
                                 openai_error *err)
{
    json_t *map = (json_t *)(uintptr_t)v; /* jansson iterates non-const objects */
    llm_request *req = to->req;
    llm_sampling *s = &req->sampling;
    const char *key;
    json_t *value;

    if (!json_is_object(map))
        return openai_refuse(err, rule->name, "invalid_type",
                             "Invalid type for 'logit_bias': expected an object, but got %s",
                             json_kind(map));
    if (json_object_size(map) > SL_LOGIT_BIAS_MAX)
        return openai_refuse(err, rule->name, "invalid_value",
                             "Invalid 'logit_bias': at most %d entries", SL_LOGIT_BIAS_MAX);
    s->bias = sl_arena_alloc(&req->arena, (json_object_size(map) + 1) * sizeof *s->bias);
    if (!s->bias)
        return refuse_size(err);
    json_object_foreach(map, key, value)
    {
        char *end;
        long long id = strtoll(key, &end, 10);
        double bias = json_number_value(value);

        if (!*key || *end || id < 0 || id > INT32_MAX)
            return openai_refuse(err, rule->name, "invalid_value",
                                 "Invalid key in 'logit_bias': '%.40s' is no token id", key);
        if (!json_is_number(value) || bias < -100 || bias > 100)
            return openai_refuse(err, rule->name, "invalid_value",
                                 "Invalid 'logit_bias[\"%.40s\"]': expected -100 to 100", key);
        s->bias[s->bias_count++] = (llm_logit_bias){ (int32_t)id, (float)bias };
    }
    return SL_OK;
}

static sl_status take_stop_ids(const json_t *v, const field_rule *rule, const field_target *to,
                               openai_error *err)
{
    llm_request *req = to->req;
    size_t count = json_array_size(v);

    if (!json_is_array(v) || count > SL_LOGIT_BIAS_MAX)
        return openai_refuse(err, rule->name, "invalid_value",
                             "Invalid 'stop_token_ids': expected an array of at most %d token ids",
                             SL_LOGIT_BIAS_MAX);
    req->stop_ids = sl_arena_alloc(&req->arena, (count + 1) * sizeof *req->stop_ids);
    if (!req->stop_ids)
        return refuse_size(err);
    for (size_t i = 0; i < count; i++) {
        if (!field_is_token(json_array_get(v, i)))
            return openai_refuse(err, rule->name, "invalid_value",
                                 "Invalid 'stop_token_ids[%zu]': expected a token id", i);
        req->stop_ids[req->stop_id_count++] = (int32_t)json_integer_value(json_array_get(v, i));
    }
    return SL_OK;
}

static sl_status take_stop(const json_t *v, const field_rule *rule, const field_target *to,
                           openai_error *err)
{
    return take_stops(v, rule->name, false, to->req, err);
}

static sl_status take_seed(const json_t *v, const field_rule *rule, const field_target *to,
                           openai_error *err)
{
    int64_t seed = 0;

    SL_TRY(to_int(v, rule->name, INT64_MIN, INT64_MAX, &seed, err));
    to->req->sampling.has_seed = true;
    to->req->sampling.seed = (uint64_t)seed;
    return SL_OK;
}

/* vLLM writes -1 for all. */
static sl_status take_top_k(const json_t *v, const field_rule *rule, const field_target *to,
                            openai_error *err)
{
    int64_t top_k = 0;

    SL_TRY(to_int(v, rule->name, -1, INT32_MAX, &top_k, err));
    to->req->sampling.top_k = (int32_t)SL_MAX(top_k, 0);
    return SL_OK;
}

static sl_status take_stream_options(const json_t *v, const field_rule *rule,
                                     const field_target *to, openai_error *err)
{
    openai_call *call = to->call;

    if (!json_is_object(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "Invalid type for 'stream_options': expected an object, but got %s",
                             json_kind(v));
    if (!call->stream)
        return openai_refuse(err, rule->name, "invalid_value",
                             "The 'stream_options' parameter is only allowed when 'stream' is "
                             "enabled");
    return take_bool(v, "include_usage", &call->include_usage, err);
}

static sl_status take_model_name(const json_t *v, const field_rule *rule, const field_target *to,
                                 openai_error *err)
{
    (void)rule;
    return to_model(v, to->req, err);
}

#define NUMBER(field_name, member, lo, hi, text)                                                   \
    {                                                                                              \
        .name = field_name, .kind = FIELD_NUM, IN_REQUEST(sampling.member), .min = lo, .max = hi,  \
        .help = text                                                                               \
    }
#define REFUSED(field_name)                                                                        \
    {                                                                                              \
        .name = field_name, .kind = FIELD_OTHER, .support = FIELD_REFUSED                          \
    }
#define REFUSED_TRUE(field_name)                                                                   \
    {                                                                                              \
        .name = field_name, .kind = FIELD_BOOL, .support = FIELD_REFUSED_TRUE                      \
    }
#define NO_EFFECT(field_name, text)                                                                \
    {                                                                                              \
        .name = field_name, .kind = FIELD_OTHER, .support = FIELD_NO_EFFECT, .help = text          \
    }

/* What chat and completions share: OpenAI's fields and vLLM's. */
static const field_rule generation_rules[] = {
    { .name = "model",
      .kind = FIELD_OTHER,
      .take = take_model_name,
      .json_schema = "{\"type\":\"string\"}",
      .help = "missing: the first model that can do it" },
    NUMBER("temperature", temperature, 0, 2, "0 is greedy"),
    NUMBER("top_p", top_p, 0, 1, NULL),
    NUMBER("min_p", min_p, 0, 1, NULL),
    NUMBER("typical_p", typical_p, 0, 1, NULL),
    NUMBER("presence_penalty", presence_penalty, -2, 2, NULL),
    NUMBER("frequency_penalty", frequency_penalty, -2, 2, NULL),
    NUMBER("repetition_penalty", repetition_penalty, 0.01, 10, "1 is off"),
    { .name = "top_k",
      .kind = FIELD_OTHER,
      .take = take_top_k,
      .gives = LLM_GIVEN_TOP_K,
      .json_schema = "{\"type\":\"integer\",\"minimum\":-1}",
      .help = "0 or -1: all" },
    { .name = "min_tokens",
      .kind = FIELD_INT,
      IN_REQUEST(sampling.min_tokens),
      .min = 0,
      .max = INT32_MAX },
    { .name = "seed",
      .kind = FIELD_OTHER,
      .take = take_seed,
      .gives = LLM_GIVEN_SEED,
      .json_schema = "{\"type\":\"integer\"}" },
    { .name = "n", .kind = FIELD_INT, IN_REQUEST(n), .min = 1, .max = SL_CHOICES_MAX },
    { .name = "spec_tokens",
      .kind = FIELD_INT,
      IN_REQUEST(spec_tokens),
      .min = -1,
      .max = SL_SPEC_TOKENS_MAX,
      .help = "tokens guessed by prompt lookup; 0: the server's default, -1: none" },
    { .name = "ignore_eos", .kind = FIELD_BOOL, IN_REQUEST(sampling.ignore_eos) },
    { .name = "include_stop_str_in_output", .kind = FIELD_BOOL, IN_REQUEST(include_stop) },
    { .name = "skip_special_tokens", .kind = FIELD_BOOL, IN_CALL(openai_call, skip_special) },
    { .name = "add_special_tokens", .kind = FIELD_BOOL, IN_CALL(openai_call, add_special) },
    { .name = "logit_bias",
      .kind = FIELD_OTHER,
      .take = take_logit_bias,
      .json_schema = "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"number\","
                     "\"minimum\":-100,\"maximum\":100}}" },
    { .name = "stop",
      .kind = FIELD_OTHER,
      .take = take_stop,
      .gives = LLM_GIVEN_STOP,
      .json_schema = "{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":"
                     "{\"type\":\"string\"}}]}" },
    { .name = "stop_token_ids",
      .kind = FIELD_OTHER,
      .take = take_stop_ids,
      .json_schema = "{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"minimum\":0}}" },
    { .name = "stream", .kind = FIELD_BOOL, IN_CALL(openai_call, stream) },
    { .name = "stream_options",
      .kind = FIELD_OTHER,
      .take = take_stream_options,
      .json_schema = "{\"type\":\"object\",\"properties\":{\"include_usage\":"
                     "{\"type\":\"boolean\"}}}" },
    NO_EFFECT("user", "a name for one's own logs"),
    NO_EFFECT("metadata", NULL),
    NO_EFFECT("store", NULL),
    NO_EFFECT("service_tier", NULL),
    NO_EFFECT("safety_identifier", NULL),
    NO_EFFECT("prompt_cache_key", "prefixes are shared without it"),
    REFUSED("structured_outputs"),
    REFUSED("guided_json"),
    REFUSED("guided_regex"),
    REFUSED("guided_choice"),
    REFUSED("guided_grammar"),
    REFUSED("grammar"),
    REFUSED("json_schema"),
    REFUSED("logits_processors"),
    REFUSED("length_penalty"),
    REFUSED("prompt_logprobs"),
    REFUSED("bad_words"),
    REFUSED("allowed_token_ids"),
    REFUSED_TRUE("use_beam_search"),
    REFUSED_TRUE("return_token_ids"),
    REFUSED_TRUE("return_tokens_as_token_ids"),
};
static const body_schema generation_body = { .name = "GenerationFields",
                                             .rules = generation_rules,
                                             .count = SL_COUNT_OF(generation_rules) };

/* ---- chat ---------------------------------------------------------------------------------- */

/* Joins the text parts of an array into out. */
static sl_status join_parts(const json_t *parts, const char *path, sl_buf *out, openai_error *err)
{
    char param[OPENAI_PARAM_BYTES];

    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *text = json_object_get(part, "text");

        snprintf(param, sizeof param, "%.64s[%zu]", path, i);
        if (!json_is_object(part) || !type)
            return openai_refuse(err, param, "invalid_type",
                                 "Invalid '%s': expected an object with a 'type'", param);
        if (strcmp(type, "refusal") == 0)
            text = json_object_get(part, "refusal");
        else if (strcmp(type, "text") != 0 && strcmp(type, "input_text") != 0)
            return openai_refuse(err, param, "unsupported_value",
                                 "Content parts of type '%.40s' are not supported: this model "
                                 "reads text only",
                                 type);
        if (!json_is_string(text))
            return openai_refuse(err, param, "invalid_type",
                                 "Invalid '%s': its text must be a string", param);
        sl_buf_put(out, json_string_value(text), json_string_length(text));
    }
    return out->failed ? refuse_size(err) : SL_OK;
}

static sl_status parse_content(const json_t *msg, const char *path, bool may_be_null, json_t *into,
                               openai_error *err)
{
    const json_t *content = field(msg, "content");
    char param[OPENAI_PARAM_BYTES];
    sl_status status;
    sl_buf text;

    snprintf(param, sizeof param, "%s.content", path);
    if (!content && may_be_null)
        return json_object_set_new(into, "content", json_null()) == 0 ? SL_OK : refuse_size(err);
    if (!content)
        return openai_refuse(err, param, "missing_required_parameter",
                             "Missing required parameter: '%s'", param);
    if (json_is_string(content))
        return json_object_set(into, "content", (json_t *)content) == 0 ? SL_OK : refuse_size(err);
    if (!json_is_array(content))
        return openai_refuse(err, param, "invalid_type",
                             "Invalid type for '%s': expected a string or an array of parts, but "
                             "got %s",
                             param, json_kind(content));
    sl_buf_init(&text, SL_HTTP_BODY_BYTES_MAX);
    status = join_parts(content, param, &text, err);
    if (status == SL_OK &&
        json_object_set_new(into, "content", json_stringn(sl_buf_str(&text), text.len)) != 0)
        status = refuse_size(err);
    sl_buf_deinit(&text);
    return status;
}

static sl_status copy_string(const json_t *msg, const char *path, const char *name, json_t *into,
                             openai_error *err)
{
    json_t *v = (json_t *)field(msg, name);
    char param[OPENAI_PARAM_BYTES];

    if (!v)
        return SL_OK;
    snprintf(param, sizeof param, "%s.%s", path, name);
    if (!json_is_string(v))
        return openai_refuse(err, param, "invalid_type",
                             "Invalid type for '%s': expected a string, but got %s", param,
                             json_kind(v));
    return json_object_set(into, name, v) == 0 ? SL_OK : refuse_size(err);
}

static sl_status parse_message(const json_t *msg, size_t idx, json_t *into, openai_error *err)
{
    static const char *const roles[] = { "system", "user",      "assistant",
                                         "tool",   "developer", "function" };
    const char *role = json_string_value(json_object_get(msg, "role"));
    json_t *calls = (json_t *)field(msg, "tool_calls");
    char path[32], param[OPENAI_PARAM_BYTES];
    size_t known = 0;

    snprintf(path, sizeof path, "messages[%zu]", idx);
    snprintf(param, sizeof param, "%s.role", path);
    if (!json_is_object(msg))
        return openai_refuse(err, path, "invalid_type",
                             "Invalid type for '%s': expected an object, but got %s", path,
                             json_kind(msg));
    if (!field(msg, "role"))
        return openai_refuse(err, param, "missing_required_parameter",
                             "Missing required parameter: '%s'", param);
    while (known < SL_COUNT_OF(roles) && (!role || strcmp(role, roles[known]) != 0))
        known++;
    if (known == SL_COUNT_OF(roles))
        return openai_refuse(err, param, "invalid_value",
                             "Invalid value: '%.40s'. Supported values are: 'system', 'user', "
                             "'assistant', 'tool', 'developer' and 'function'",
                             role ? role : json_kind(json_object_get(msg, "role")));
    /* Templates know `system` only; OpenAI renamed it for newer models. */
    if (json_object_set_new(into, "role",
                            json_string(strcmp(role, "developer") == 0 ? "system" : role)) != 0)
        return refuse_size(err);
    if (calls && (!json_is_array(calls) || strcmp(role, "assistant") != 0))
        return openai_refuse(err, path, "invalid_value",
                             "'%s.tool_calls' must be an array in an assistant message", path);
    if (calls && json_object_set(into, "tool_calls", calls) != 0)
        return refuse_size(err);
    SL_TRY(copy_string(msg, path, "name", into, err));
    SL_TRY(copy_string(msg, path, "tool_call_id", into, err));
    SL_TRY(copy_string(msg, path, "reasoning_content", into, err));
    return parse_content(msg, path, calls != NULL || field(msg, "refusal"), into, err);
}

sl_status openai_take_messages(const json_t *list, llm_request *req, openai_error *err)
{
    if (!json_is_array(list))
        return openai_refuse(err, "messages", "invalid_type",
                             "Invalid type for 'messages': expected an array of objects, but got "
                             "%s",
                             json_kind(list));
    if (json_array_size(list) == 0)
        return openai_refuse(err, "messages", "empty_array",
                             "Invalid 'messages': empty array. Expected at least one message");
    req->messages = json_array();
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *msg = json_object();

        if (!msg || json_array_append_new(req->messages, msg) != 0)
            return refuse_size(err);
        SL_TRY(parse_message(json_array_get(list, i), i, msg, err));
    }
    return SL_OK;
}

static sl_status take_chat_messages(const json_t *v, const field_rule *rule, const field_target *to,
                                    openai_error *err)
{
    (void)rule;
    return openai_take_messages(v, to->req, err);
}

static bool is_string(const json_t *v, const char *text)
{
    return json_is_string(v) && strcmp(json_string_value(v), text) == 0;
}

/* Before "tools" is looked at. */
static sl_status take_tool_choice(const json_t *v, const field_rule *rule, const field_target *to,
                                  openai_error *err)
{
    openai_call *call = to->call;

    (void)rule;
    (void)err;
    call->no_tools = is_string(v, "none");
    return SL_OK;
}

static sl_status take_tools(const json_t *v, const field_rule *rule, const field_target *to,
                            openai_error *err)
{
    const openai_call *call = to->call;

    if (!json_is_array(v))
        return openai_refuse(err, rule->name, "invalid_type", "'%s' must be an array", rule->name);
    if (json_array_size(v) > 0 && !call->no_tools)
        return openai_refuse(err, rule->name, "unsupported_parameter",
                             "Unsupported parameter: '%s'. This server does not parse tool calls "
                             "yet; leave '%s' out or set 'tool_choice' to \"none\"",
                             rule->name, rule->name);
    return SL_OK;
}

static sl_status take_format(const json_t *v, const field_rule *rule, const field_target *to,
                             openai_error *err)
{
    const char *type = json_string_value(json_object_get(v, "type"));

    (void)to;
    if (!type)
        return openai_refuse(err, rule->name, "invalid_type",
                             "Invalid 'response_format': expected an object with a 'type'");
    if (strcmp(type, "text") != 0)
        return openai_refuse(err, rule->name, "unsupported_parameter",
                             "Unsupported parameter: 'response_format' of type '%.40s' is not "
                             "supported yet; only \"text\" is",
                             type);
    return SL_OK;
}

static sl_status take_modalities(const json_t *v, const field_rule *rule, const field_target *to,
                                 openai_error *err)
{
    (void)to;
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!is_string(json_array_get(v, i), "text"))
            return openai_refuse(err, rule->name, "unsupported_value",
                                 "Unsupported value in 'modalities': this server writes text only");
    return SL_OK;
}

static sl_status take_vars(const json_t *v, const field_rule *rule, const field_target *to,
                           openai_error *err)
{
    if (!json_is_object(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "'chat_template_kwargs' must be an object");
    to->req->template_vars = json_incref((json_t *)(uintptr_t)v);
    return SL_OK;
}

static sl_status take_echo_in_chat(const json_t *v, const field_rule *rule, const field_target *to,
                                   openai_error *err)
{
    (void)to;
    if (!json_is_true(v))
        return SL_OK;
    return openai_refuse(err, rule->name, "unsupported_parameter",
                         "Unsupported parameter: 'echo' exists for /v1/completions only");
}

#define TOKENS(field_name, text)                                                                   \
    {                                                                                              \
        .name = field_name, .kind = FIELD_INT, IN_REQUEST(max_tokens), .min = 1,                   \
        .max = TOKENS_MAX, .help = text                                                            \
    }

static const field_rule chat_rules[] = {
    { .name = "messages",
      .kind = FIELD_OTHER,
      .required = true,
      .take = take_chat_messages,
      .json_schema = "{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"object\","
                     "\"properties\":{\"role\":{\"enum\":[\"system\",\"developer\",\"user\","
                     "\"assistant\",\"tool\",\"function\"]},\"content\":{\"oneOf\":["
                     "{\"type\":\"string\"},{\"type\":\"array\"},{\"type\":\"null\"}]}},"
                     "\"required\":[\"role\"]}}" },
    { .name = "tool_choice",
      .kind = FIELD_OTHER,
      .take = take_tool_choice,
      .help = "\"none\" is the only choice yet" },
    { .name = "function_call",
      .kind = FIELD_OTHER,
      .take = take_tool_choice,
      .help = "the old name of tool_choice" },
    { .name = "tools",
      .kind = FIELD_OTHER,
      .take = take_tools,
      .json_schema = "{\"type\":\"array\"}",
      .help = "refused unless tool_choice is \"none\"" },
    { .name = "functions",
      .kind = FIELD_OTHER,
      .take = take_tools,
      .json_schema = "{\"type\":\"array\"}",
      .help = "the old name of tools" },
    { .name = "response_format",
      .kind = FIELD_OTHER,
      .take = take_format,
      .json_schema = "{\"type\":\"object\",\"properties\":{\"type\":{\"const\":\"text\"}}}",
      .help = "of type text only" },
    { .name = "modalities", .kind = FIELD_OTHER, .take = take_modalities, .help = "text only" },
    TOKENS("max_tokens", NULL),
    TOKENS("max_completion_tokens", "the new name of max_tokens; wins over it"),
    { .name = "logprobs", .kind = FIELD_BOOL, IN_REQUEST(logprobs) },
    { .name = "top_logprobs",
      .kind = FIELD_INT,
      IN_REQUEST(top_logprobs),
      .min = 0,
      .max = SL_TOP_LOGPROBS_MAX,
      .help = "needs logprobs" },
    { .name = "echo", .kind = FIELD_OTHER, .take = take_echo_in_chat, .help = "false only" },
    { .name = "add_generation_prompt", .kind = FIELD_BOOL, IN_CALL(openai_call, add_generation) },
    { .name = "chat_template_kwargs",
      .kind = FIELD_OTHER,
      .take = take_vars,
      .json_schema = "{\"type\":\"object\"}",
      .help = "variables of the chat template" },
    NO_EFFECT("parallel_tool_calls", NULL),
    NO_EFFECT("reasoning_effort", NULL),
    NO_EFFECT("verbosity", NULL),
    NO_EFFECT("prediction", NULL),
    REFUSED("audio"),
    REFUSED("web_search_options"),
    REFUSED("chat_template"),
    REFUSED("documents"),
    REFUSED_TRUE("continue_final_message"),
};
const body_schema openai_chat_body = { .name = "ChatCompletionRequest",
                                       .rules = chat_rules,
                                       .count = SL_COUNT_OF(chat_rules),
                                       .base = &generation_body };

static sl_status check_chat(const llm_request *req, openai_error *err)
{
    if (req->top_logprobs > 0 && !req->logprobs)
        return openai_refuse(err, "top_logprobs", "invalid_value",
                             "'top_logprobs' is only allowed when 'logprobs' is true");
    return SL_OK;
}

/* ---- prompts: string, [string], [int], [[int]] ----------------------------------------------- */

static sl_status add_text(const json_t *v, const char *param, llm_request *req, openai_error *err)
{
    llm_prompt *p = &req->prompts[req->prompt_count];
    size_t len = json_string_length(v);
    char *text = sl_arena_strndup(&req->arena, json_string_value(v), len);

    if (!text)
        return refuse_size(err);
    if (len == 0 && req->task == LLM_EMBED)
        return openai_refuse(err, param, "invalid_value",
                             "Invalid '%s': input cannot be an empty string", param);
    *p = (llm_prompt){ .text = text, .text_len = len };
    req->prompt_count++;
    return SL_OK;
}

sl_status openai_take_prompts(const json_t *v, const char *name, llm_request *req,
                              openai_error *err)
{
    size_t count = json_is_array(v) ? json_array_size(v) : 1;
    char param[32];

    if (count == 0)
        return openai_refuse(err, name, "empty_array", "Invalid '%s': it is empty", name);
    if (json_is_array(v) && json_is_integer(json_array_get(v, 0)))
        count = 1;
    if (count > SL_PROMPTS_MAX)
        return openai_refuse(err, name, "array_above_max_length",
                             "Invalid '%s': %zu items, at most %d are allowed", name, count,
                             SL_PROMPTS_MAX);
    req->prompts = sl_arena_alloc(&req->arena, count * sizeof *req->prompts);
    if (!req->prompts)
        return refuse_size(err);
    if (json_is_string(v))
        return add_text(v, name, req, err);
    if (!json_is_array(v))
        return openai_refuse(err, name, "invalid_type",
                             "Invalid type for '%s': expected a string or an array, but got %s",
                             name, json_kind(v));
    if (json_is_integer(json_array_get(v, 0)))
        return add_prompt_ids(v, name, req, err);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(v, i);

        snprintf(param, sizeof param, "%s[%zu]", name, i);
        if (json_is_string(item))
            SL_TRY(add_text(item, param, req, err));
        else if (json_is_array(item))
            SL_TRY(add_prompt_ids(item, param, req, err));
        else
            return openai_refuse(err, param, "invalid_type",
                                 "Invalid type for '%s': expected a string or an array of token "
                                 "ids, but got %s",
                                 param, json_kind(item));
    }
    return SL_OK;
}

static sl_status take_prompt(const json_t *v, const field_rule *rule, const field_target *to,
                             openai_error *err)
{
    return openai_take_prompts(v, rule->name, to->req, err);
}

static sl_status take_completion_logprobs(const json_t *v, const field_rule *rule,
                                          const field_target *to, openai_error *err)
{
    int64_t top = 0;

    SL_TRY(to_int(v, rule->name, 0, SL_TOP_LOGPROBS_MAX, &top, err));
    to->req->logprobs = true;
    to->req->top_logprobs = (int32_t)top;
    return SL_OK;
}

#define TEXTS_SCHEMA                                                                               \
    "{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"minItems\":1,\"items\":{"             \
    "\"oneOf\":[{\"type\":\"string\"},{\"type\":\"integer\"},{\"type\":\"array\","                 \
    "\"items\":{\"type\":\"integer\"}}]}}]}"

static const field_rule completion_rules[] = {
    { .name = "prompt",
      .kind = FIELD_OTHER,
      .required = true,
      .take = take_prompt,
      .json_schema = TEXTS_SCHEMA,
      .help = "text, texts, token ids, or lists of them" },
    { .name = "echo", .kind = FIELD_BOOL, IN_REQUEST(echo) },
    { .name = "max_tokens",
      .kind = FIELD_INT,
      IN_REQUEST(max_tokens),
      .min = 0,
      .max = TOKENS_MAX,
      .help = "default 16; 0 with echo only" },
    { .name = "logprobs",
      .kind = FIELD_OTHER,
      .take = take_completion_logprobs,
      .json_schema = "{\"type\":\"integer\",\"minimum\":0,\"maximum\":20}" },
    { .name = "best_of",
      .kind = FIELD_INT,
      IN_CALL(openai_call, best_of),
      .min = 1,
      .max = SL_CHOICES_MAX,
      .help = "must equal n" },
    { .name = "suffix",
      .kind = FIELD_STR,
      .support = FIELD_REFUSED_TRUE,
      .help = "insertion needs a model made for it" },
    { .name = "response_format",
      .kind = FIELD_OTHER,
      .take = take_format,
      .help = "of type text only" },
};
const body_schema openai_completion_body = { .name = "CompletionRequest",
                                             .rules = completion_rules,
                                             .count = SL_COUNT_OF(completion_rules),
                                             .base = &generation_body };

static sl_status check_completion(const openai_call *call, openai_error *err)
{
    const llm_request *req = call->req;

    if (req->max_tokens == 0 && !req->echo)
        return openai_refuse(err, "max_tokens", "integer_below_min_value",
                             "Invalid 'max_tokens': expected a value >= 1, but got 0 instead");
    if (call->best_of != 0 && call->best_of != (int64_t)req->n)
        return openai_refuse(err, "best_of", "unsupported_value",
                             "Unsupported value: 'best_of' must equal 'n' (%u)", req->n);
    if (req->prompt_count * req->n > OPENAI_CHOICES_TOTAL)
        return openai_refuse(err, "n", "invalid_value",
                             "Invalid 'n': prompts x n may be at most %d", OPENAI_CHOICES_TOTAL);
    return SL_OK;
}

static sl_status take_encoding(const json_t *v, const field_rule *rule, const field_target *to,
                               openai_error *err)
{
    openai_call *call = to->call;

    call->base64 = is_string(v, "base64");
    if (!call->base64 && !is_string(v, "float"))
        return openai_refuse(err, rule->name, "invalid_value",
                             "Invalid 'encoding_format': expected \"float\" or \"base64\"");
    return SL_OK;
}

static const field_rule embedding_rules[] = {
    { .name = "model",
      .kind = FIELD_OTHER,
      .take = take_model_name,
      .json_schema = "{\"type\":\"string\"}" },
    { .name = "input",
      .kind = FIELD_OTHER,
      .required = true,
      .take = take_prompt,
      .json_schema = TEXTS_SCHEMA,
      .help = "text, texts, token ids, or lists of them" },
    { .name = "encoding_format",
      .kind = FIELD_OTHER,
      .take = take_encoding,
      .json_schema = "{\"enum\":[\"float\",\"base64\"]}" },
    { .name = "dimensions",
      .kind = FIELD_INT,
      IN_CALL(openai_call, dimensions),
      .min = 1,
      .max = SL_MODEL_DIM_MAX },
    NO_EFFECT("user", NULL),
};
const body_schema openai_embedding_body = { .name = "EmbeddingRequest",
                                            .rules = embedding_rules,
                                            .count = SL_COUNT_OF(embedding_rules) };

/* ---- all of them --------------------------------------------------------------------------- */

static sl_status parse_root(const json_t *root, openai_call *call, openai_error *err)
{
    llm_request *req = call->req;
    const field_target to = { .req = req, .call = call };

    call->skip_special = call->add_special = call->add_generation = true;
    if (req->task == LLM_EMBED)
        return body_read(&openai_embedding_body, root, &to, err);
    if (req->task == LLM_COMPLETE)
        req->max_tokens = 16; /* OpenAI's default here */
    SL_TRY(body_read(req->task == LLM_CHAT ? &openai_chat_body : &openai_completion_body, root, &to,
                     err));
    req->show_special = !call->skip_special;
    req->no_special = !call->add_special;
    req->no_generation_prompt = !call->add_generation;
    return req->task == LLM_CHAT ? check_chat(req, err) : check_completion(call, err);
}

sl_status openai_parse(llm_task task, const char *body, size_t len, openai_call *ret,
                       openai_error *err)
{
    openai_call call = { .req = NULL };
    json_t *root = NULL;
    sl_status status;

    SL_TRY(parse_object(body, len, &root, err));
    call.req = llm_request_create(task, OPENAI_ARENA_MAX);
    status = call.req ? parse_root(root, &call, err) : refuse_size(err);
    json_decref(root);
    if (status != SL_OK) {
        llm_request_destroy(call.req);
        return status;
    }
    *ret = call;
    return SL_OK;
}
