/* anthropic_parse.c - bodies of /v1/messages and /v1/messages/count_tokens to llm_request.
 *
 * As strict as the original: what it does not know is refused, at any depth. Turns become OpenAI's
 * messages, which the chat templates read: the system prompt first, turns of one role joined. */
#include <stdio.h>

#include "api/anthropic.h"
#include "api/fields.h"
#include "api/grounds.h"

#define TOKENS_MAX  ((int64_t)1 << 31)
#define TURN_SPACE  "\n\n" /* between turns that are joined */
#define TURNS_MAX   100000 /* Anthropic's bound */
#define USER_ID_MAX 256    /* bytes; Anthropic's bound */

static sl_status wrong_type(const char *path, const char *wanted, const json_t *v,
                            openai_error *err)
{
    return openai_refuse(err, path, "invalid_type", "Input should be %s, but is %s", wanted,
                         json_kind(v));
}

static sl_status missing(const char *path, openai_error *err)
{
    return openai_refuse(err, path, "missing_required_parameter", "Field required");
}

/* Refuses members other than the known ones. */
static sl_status check_keys(const json_t *obj, const char *path, const char *const *known,
                            size_t count, openai_error *err)
{
    char param[OPENAI_PARAM_BYTES];
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)obj, key, value)
    {
        size_t i = 0;

        while (i < count && strcmp(key, known[i]) != 0)
            i++;
        if (i < count)
            continue;
        snprintf(param, sizeof param, "%.80s.%.40s", path, key);
        return openai_refuse(err, param, "unknown_parameter", "Extra inputs are not permitted");
    }
    return SL_OK;
}

/* ---- cache_control ------------------------------------------------------------------------- */

/* Counts a breakpoint. Prefixes are cached without being asked. */
static sl_status take_mark(const json_t *v, const char *path, anthropic_call *call,
                           openai_error *err)
{
    static const char *const known[] = { "type", "ttl" };
    const json_t *ttl = field(v, "ttl");

    if (!v)
        return SL_OK;
    if (!json_is_object(v))
        return wrong_type(path, "an object", v, err);
    SL_TRY(check_keys(v, path, known, SL_COUNT_OF(known), err));
    if (!is_string(json_object_get(v, "type"), "ephemeral"))
        return openai_refuse(err, path, "invalid_value", "'type' should be \"ephemeral\"");
    if (ttl && !is_string(ttl, "5m") && !is_string(ttl, "1h"))
        return openai_refuse(err, path, "invalid_value", "'ttl' should be \"5m\" or \"1h\"");
    if (++call->cache_marks > ANTHROPIC_CACHE_MARKS_MAX)
        return openai_refuse(err, path, "invalid_value",
                             "At most %d blocks may carry cache_control",
                             ANTHROPIC_CACHE_MARKS_MAX);
    return SL_OK;
}

static sl_status take_top_mark(const json_t *v, const field_rule *rule, const field_target *to,
                               openai_error *err)
{
    return take_mark(v, rule->name, to->call, err);
}

/* ---- blocks -------------------------------------------------------------------------------- */

/* What the model said to itself in an earlier turn: the original leaves it out, too. */
static bool is_thought(const char *type)
{
    return strcmp(type, "thinking") == 0 || strcmp(type, "redacted_thinking") == 0;
}

static sl_status refuse_block(const char *type, const char *path, openai_error *err)
{
    static const char *const known[] = { "image",    "document",    "search_result",
                                         "tool_use", "tool_result", "server_tool_use" };

    for (size_t i = 0; i < SL_COUNT_OF(known); i++)
        if (strcmp(type, known[i]) == 0)
            return openai_refuse(err, path, "unsupported_value",
                                 "Blocks of type '%s' are not supported by this server: it reads "
                                 "text only",
                                 type);
    return openai_refuse(err, path, "invalid_value", "There is no block of type '%.40s'", type);
}

/* Appends the text of one block. */
static sl_status add_block(const json_t *block, const char *path, bool may_think,
                           anthropic_call *call, sl_buf *out, openai_error *err)
{
    static const char *const known[] = { "type", "text", "cache_control", "citations" };
    const char *type = json_string_value(json_object_get(block, "type"));
    const json_t *text = field(block, "text");
    char param[OPENAI_PARAM_BYTES];

    if (!json_is_object(block))
        return wrong_type(path, "an object", block, err);
    snprintf(param, sizeof param, "%.100s.type", path);
    if (!type)
        return missing(param, err);
    if (may_think && is_thought(type))
        return SL_OK;
    if (strcmp(type, "text") != 0)
        return refuse_block(type, path, err);
    SL_TRY(check_keys(block, path, known, SL_COUNT_OF(known), err));
    snprintf(param, sizeof param, "%.100s.text", path);
    if (!text)
        return missing(param, err);
    if (!json_is_string(text))
        return wrong_type(param, "a string", text, err);
    if (json_string_length(text) == 0)
        return openai_refuse(err, param, "invalid_value", "Blocks of text must not be empty");
    snprintf(param, sizeof param, "%.100s.cache_control", path);
    SL_TRY(take_mark(field(block, "cache_control"), param, call, err));
    sl_buf_put(out, json_string_value(text), json_string_length(text));
    return SL_OK;
}

/* Appends a string, or the text of an array of blocks. */
static sl_status add_content(const json_t *v, const char *path, bool may_think,
                             anthropic_call *call, sl_buf *out, openai_error *err)
{
    char param[OPENAI_PARAM_BYTES];

    if (json_is_string(v)) {
        sl_buf_put(out, json_string_value(v), json_string_length(v));
        return SL_OK;
    }
    if (!json_is_array(v))
        return wrong_type(path, "a string or an array of blocks", v, err);
    for (size_t i = 0; i < json_array_size(v); i++) {
        snprintf(param, sizeof param, "%.100s.%zu", path, i);
        SL_TRY(add_block(json_array_get(v, i), param, may_think, call, out, err));
    }
    return out->failed ? refuse_size(err) : SL_OK;
}

/* ---- turns --------------------------------------------------------------------------------- */

static sl_status push_message(llm_request *req, const char *role, const sl_buf *text,
                              openai_error *err)
{
    json_t *msg = json_object();

    if (!req->messages)
        req->messages = json_array();
    if (text->failed || !msg || json_object_set_new(msg, "role", json_string(role)) != 0 ||
        json_object_set_new(msg, "content", json_stringn(sl_buf_str(text), text->len)) != 0) {
        json_decref(msg);
        return refuse_size(err);
    }
    return json_array_append_new(req->messages, msg) == 0 ? SL_OK : refuse_size(err);
}

/* Before the turns, so that it is the first message. */
static sl_status take_system(const json_t *v, const field_rule *rule, const field_target *to,
                             openai_error *err)
{
    sl_status status;
    sl_buf text;

    sl_buf_init(&text, SL_HTTP_BODY_BYTES_MAX);
    status = add_content(v, rule->name, false, to->call, &text, err);
    if (status == SL_OK && text.len > 0)
        status = push_message(to->req, "system", &text, err);
    sl_buf_deinit(&text);
    return status;
}

/* Checks all of a turn but its content; *ret_role is one of the three. */
static sl_status check_turn(const json_t *turn, const char *path, const char **ret_role,
                            openai_error *err)
{
    static const char *const known[] = { "role", "content" };
    const json_t *role = field(turn, "role");
    char param[OPENAI_PARAM_BYTES];

    if (!json_is_object(turn))
        return wrong_type(path, "an object", turn, err);
    SL_TRY(check_keys(turn, path, known, SL_COUNT_OF(known), err));
    snprintf(param, sizeof param, "%s.role", path);
    if (!role)
        return missing(param, err);
    if (!is_string(role, "user") && !is_string(role, "assistant") && !is_string(role, "system"))
        return openai_refuse(err, param, "invalid_value",
                             "Input should be \"user\", \"assistant\" or \"system\"");
    snprintf(param, sizeof param, "%s.content", path);
    if (!field(turn, "content"))
        return missing(param, err);
    *ret_role = json_string_value(role);
    return SL_OK;
}

/* The turns of one role from number *at on as one message; *at moves behind them. */
static sl_status take_turns_of_one(const json_t *list, size_t *at, anthropic_call *call,
                                   sl_buf *text, openai_error *err)
{
    const char *first = NULL, *role = "";
    size_t count = json_array_size(list);
    char path[40], param[OPENAI_PARAM_BYTES];

    sl_buf_clear(text);
    for (; *at < count; ++*at) {
        const json_t *turn = json_array_get(list, *at);
        size_t before;

        snprintf(path, sizeof path, "messages.%zu", *at);
        SL_TRY(check_turn(turn, path, &role, err));
        if (first && strcmp(first, role) != 0)
            break;
        if (first && text->len > 0)
            sl_buf_puts(text, TURN_SPACE);
        first = role;
        before = text->len;
        snprintf(param, sizeof param, "%s.content", path);
        SL_TRY(add_content(json_object_get(turn, "content"), param, strcmp(role, "assistant") == 0,
                           call, text, err));
        if (text->len == before && (strcmp(role, "assistant") != 0 || *at + 1 < count))
            return openai_refuse(err, param, "invalid_value",
                                 "Only the last turn of the assistant may be empty");
    }
    if (text->len == 0 && !text->failed)
        return SL_OK; /* an empty beginning of the answer is none */
    return push_message(call->req, first, text, err);
}

/* A last turn of the assistant is the beginning of the answer. */
static sl_status check_prefill(llm_request *req, openai_error *err)
{
    const json_t *last = json_array_get(req->messages, json_array_size(req->messages) - 1);
    const json_t *content = json_object_get(last, "content");
    size_t len = json_string_length(content);

    if (!is_string(json_object_get(last, "role"), "assistant"))
        return SL_OK;
    if (strchr(" \t\r\n", json_string_value(content)[len - 1]))
        return openai_refuse(err, "messages", "invalid_value",
                             "The last turn of the assistant must not end with white space: the "
                             "answer goes on right behind it");
    req->continue_final = req->no_generation_prompt = true;
    return SL_OK;
}

static sl_status take_turns(const json_t *v, const field_rule *rule, const field_target *to,
                            openai_error *err)
{
    sl_status status = SL_OK;
    size_t at = 0;
    sl_buf text;

    if (!json_is_array(v))
        return wrong_type(rule->name, "an array", v, err);
    if (json_array_size(v) == 0 || json_array_size(v) > TURNS_MAX)
        return openai_refuse(err, rule->name, "invalid_value", "There must be 1 to %d messages",
                             TURNS_MAX);
    sl_buf_init(&text, SL_HTTP_BODY_BYTES_MAX);
    while (status == SL_OK && at < json_array_size(v))
        status = take_turns_of_one(v, &at, to->call, &text, err);
    sl_buf_deinit(&text);
    SL_TRY(status);
    if (!to->req->messages)
        return openai_refuse(err, rule->name, "invalid_value", "There is no text in the messages");
    return check_prefill(to->req, err);
}

/* ---- other fields -------------------------------------------------------------------------- */

static sl_status take_stop_sequences(const json_t *v, const field_rule *rule,
                                     const field_target *to, openai_error *err)
{
    if (!json_is_array(v))
        return wrong_type(rule->name, "an array of strings", v, err);
    return take_stops(v, rule->name, false, to->req, err);
}

static sl_status take_metadata(const json_t *v, const field_rule *rule, const field_target *to,
                               openai_error *err)
{
    static const char *const known[] = { "user_id" };
    const json_t *user = field(v, "user_id");

    (void)to;
    if (!json_is_object(v))
        return wrong_type(rule->name, "an object", v, err);
    SL_TRY(check_keys(v, rule->name, known, SL_COUNT_OF(known), err));
    if (user && !json_is_string(user))
        return wrong_type("metadata.user_id", "a string", user, err);
    if (json_string_length(user) > USER_ID_MAX)
        return openai_refuse(err, "metadata.user_id", "invalid_value", "It has more than %d bytes",
                             USER_ID_MAX);
    return SL_OK;
}

static sl_status take_tier(const json_t *v, const field_rule *rule, const field_target *to,
                           openai_error *err)
{
    (void)to;
    if (is_string(v, "auto") || is_string(v, "standard_only"))
        return SL_OK;
    return openai_refuse(err, rule->name, "invalid_value",
                         "Input should be \"auto\" or \"standard_only\"");
}

static sl_status take_thinking(const json_t *v, const field_rule *rule, const field_target *to,
                               openai_error *err)
{
    const json_t *type = json_object_get(v, "type");

    (void)to;
    if (is_string(type, "disabled"))
        return SL_OK;
    if (!json_is_string(type))
        return openai_refuse(err, rule->name, "invalid_type",
                             "Input should be an object with a 'type'");
    return openai_refuse(err, rule->name, "unsupported_parameter",
                         "'thinking' of type '%.40s' is not supported by this server; "
                         "\"disabled\" is",
                         json_string_value(type));
}

static sl_status take_tool_choice(const json_t *v, const field_rule *rule, const field_target *to,
                                  openai_error *err)
{
    (void)to;
    if (is_string(json_object_get(v, "type"), "none"))
        return SL_OK;
    return openai_refuse(err, rule->name, "unsupported_parameter",
                         "'tool_choice' is not supported by this server but for {\"type\":"
                         "\"none\"}: it does not parse tool calls yet");
}

#define CACHE_CONTROL_SCHEMA                                                                       \
    "{\"type\":\"object\",\"properties\":{\"type\":{\"const\":\"ephemeral\"},\"ttl\":{\"enum\":"   \
    "[\"5m\",\"1h\"]}},\"required\":[\"type\"],\"additionalProperties\":false}"
#define CONTENT_SCHEMA                                                                             \
    "{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":{\"type\":\"object\","        \
    "\"properties\":{\"type\":{\"const\":\"text\"},\"text\":{\"type\":\"string\",\"minLength\":1"  \
    "},\"cache_control\":" CACHE_CONTROL_SCHEMA "},\"required\":[\"type\",\"text\"]}}]}"
#define REFUSED(field_name, level)                                                                 \
    {                                                                                              \
        .name = field_name, .kind = FIELD_OTHER, .support = level                                  \
    }
#define NO_EFFECT(field_name, text)                                                                \
    {                                                                                              \
        .name = field_name, .kind = FIELD_OTHER, .support = FIELD_NO_EFFECT, .help = text          \
    }

/* What makes the prompt; the order matters: the system prompt comes before the turns. */
static const field_rule prompt_rules[] = {
    { .name = "model",
      .kind = FIELD_OTHER,
      .required = true,
      .take = take_model_name,
      .json_schema = "{\"type\":\"string\"}" },
    { .name = "system",
      .kind = FIELD_OTHER,
      .take = take_system,
      .json_schema = CONTENT_SCHEMA,
      .help = "text, or blocks of text" },
    { .name = "messages",
      .kind = FIELD_OTHER,
      .required = true,
      .take = take_turns,
      .json_schema = "{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"object\","
                     "\"properties\":{\"role\":{\"enum\":[\"user\",\"assistant\",\"system\"]},"
                     "\"content\":" CONTENT_SCHEMA "},\"required\":[\"role\",\"content\"]}}",
      .help = "a last turn of the assistant is the beginning of the answer" },
    { .name = "cache_control",
      .kind = FIELD_OTHER,
      .take = take_top_mark,
      .json_schema = CACHE_CONTROL_SCHEMA,
      .help = "checked; prefixes are cached without it" },
    { .name = "thinking",
      .kind = FIELD_OTHER,
      .take = take_thinking,
      .json_schema = "{\"type\":\"object\",\"properties\":{\"type\":{\"const\":\"disabled\"}},"
                     "\"required\":[\"type\"]}",
      .help = "{\"type\":\"disabled\"} only" },
    { .name = "tool_choice",
      .kind = FIELD_OTHER,
      .take = take_tool_choice,
      .json_schema = "{\"type\":\"object\",\"properties\":{\"type\":{\"const\":\"none\"}},"
                     "\"required\":[\"type\"]}",
      .help = "{\"type\":\"none\"} only" },
    NO_EFFECT("speed", "of the hosted service"),
    NO_EFFECT("user_profile_id", "of the hosted service"),
    NO_EFFECT("workspace_id", "of the hosted service"),
    REFUSED("tools", FIELD_REFUSED_TRUE),
    REFUSED("mcp_servers", FIELD_REFUSED_TRUE),
    REFUSED("output_config", FIELD_REFUSED_TRUE),
    REFUSED("output_format", FIELD_REFUSED),
    REFUSED("context_management", FIELD_REFUSED_TRUE),
};
static const body_schema prompt_body = { .name = "MessagesPrompt",
                                         .rules = prompt_rules,
                                         .count = SL_COUNT_OF(prompt_rules) };

const body_schema anthropic_count_body = { .name = "MessagesCountTokensRequest",
                                           .base = &prompt_body,
                                           .is_closed = true };

static const field_rule message_rules[] = {
    { .name = "max_tokens",
      .kind = FIELD_INT,
      .required = true,
      IN_REQUEST(max_tokens),
      .min = 0,
      .max = TOKENS_MAX,
      .help = "0 computes the prompt only" },
    { .name = "temperature",
      .kind = FIELD_NUM,
      IN_REQUEST(sampling.temperature),
      .min = 0,
      .max = 1,
      .help = "0 is greedy; default 1" },
    { .name = "top_p", .kind = FIELD_NUM, IN_REQUEST(sampling.top_p), .min = 0, .max = 1 },
    { .name = "top_k",
      .kind = FIELD_INT,
      IN_REQUEST(sampling.top_k),
      .min = 0,
      .max = INT32_MAX,
      .help = "0: all" },
    { .name = "stop_sequences",
      .kind = FIELD_OTHER,
      .take = take_stop_sequences,
      .json_schema = "{\"type\":\"array\",\"maxItems\":16,\"items\":{\"type\":\"string\","
                     "\"minLength\":1}}" },
    { .name = "stream", .kind = FIELD_BOOL, IN_CALL(anthropic_call, stream) },
    { .name = "metadata",
      .kind = FIELD_OTHER,
      .take = take_metadata,
      .json_schema = "{\"type\":\"object\",\"properties\":{\"user_id\":{\"type\":[\"string\","
                     "\"null\"],\"maxLength\":256}},\"additionalProperties\":false}",
      .help = "checked; has no effect" },
    { .name = "service_tier",
      .kind = FIELD_OTHER,
      .take = take_tier,
      .json_schema = "{\"enum\":[\"auto\",\"standard_only\"]}",
      .help = "checked; has no effect" },
    { .name = "seed",
      .kind = FIELD_INT,
      IN_REQUEST(sampling.seed),
      .min = 0,
      .max = (double)INT64_MAX,
      .help = "ours, for answers that can be had again; not in the original" },
    NO_EFFECT("diagnostics", "of the hosted service"),
    NO_EFFECT("container", "of the hosted service"),
    NO_EFFECT("inference_geo", "of the hosted service"),
    GROUNDS_RULE,
};
const body_schema anthropic_message_body = { .name = "MessagesRequest",
                                             .rules = message_rules,
                                             .count = SL_COUNT_OF(message_rules),
                                             .base = &prompt_body,
                                             .is_closed = true };

static sl_status parse_as(const body_schema *schema, const json_t *root, anthropic_call *call,
                          openai_error *err)
{
    SL_TRY(body_read(schema, root, &(field_target){ .req = call->req, .call = call }, err));
    call->req->sampling.has_seed = field(root, "seed") != NULL;
    return SL_OK;
}

static sl_status parse_message(const json_t *root, void *call, openai_error *err)
{
    return parse_as(&anthropic_message_body, root, call, err);
}

static sl_status parse_count(const json_t *root, void *call, openai_error *err)
{
    return parse_as(&anthropic_count_body, root, call, err);
}

sl_status anthropic_parse(bool count_only, const char *body, size_t len, anthropic_call *ret,
                          openai_error *err)
{
    anthropic_call call = { .req = NULL };

    SL_TRY(parse_request(body, len, LLM_CHAT, count_only ? parse_count : parse_message, &call,
                         &call.req, err));
    *ret = call;
    return SL_OK;
}
