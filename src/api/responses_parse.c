/* responses_parse.c - bodies of /v1/responses to llm_request: input items become messages of a
 * chat. */
#include "api/responses.h"

#include <stdio.h>

#include "api/fields.h"
#include "api/grounds.h"
#include "api/openai_rules.h"
#include "base/os.h"

#define ITEMS_MAX          4096
#define METADATA_MAX       16 /* OpenAI's bounds */
#define METADATA_KEY_MAX   64
#define METADATA_VALUE_MAX 512

/* ---- input items --------------------------------------------------------------------------- */

static sl_status refuse_part(const char *type, const char *param, openai_error *err)
{
    return openai_refuse(err, param, "unsupported_value",
                         "'%s': parts of type '%.40s' are not supported: this server reads text "
                         "only",
                         param, type);
}

/* One part to the listed parts, its text to `text`. */
static sl_status add_part(const json_t *part, const char *role, const char *param, json_t *parts,
                          sl_buf *text, openai_error *err)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    bool refusal = type && strcmp(type, "refusal") == 0;
    const json_t *v = json_object_get(part, refusal ? "refusal" : "text");
    const char *own = strcmp(role, "assistant") == 0 ? "output_text" : "input_text";
    json_t *listed;

    if (!json_is_object(part) || !type)
        return openai_refuse(err, param, "invalid_type",
                             "Invalid '%s': expected an object with a 'type'", param);
    if (!refusal && strcmp(type, "input_text") != 0 && strcmp(type, "output_text") != 0 &&
        strcmp(type, "text") != 0)
        return refuse_part(type, param, err);
    if (!json_is_string(v))
        return openai_refuse(err, param, "invalid_type", "Invalid '%s': its text must be a string",
                             param);
    sl_buf_put(text, json_string_value(v), json_string_length(v));
    if (text->failed)
        return refuse_size(err);
    listed = json_pack("{s:s, s:O}", "type", own, "text", v);
    if (listed && strcmp(own, "output_text") == 0)
        json_object_set_new(listed, "annotations", json_array());
    return json_array_append_new(parts, listed) == 0 ? SL_OK : refuse_size(err);
}

static sl_status add_content(const json_t *content, const char *role, const char *path,
                             json_t *parts, sl_buf *text, openai_error *err)
{
    char param[OPENAI_PARAM_BYTES];

    if (json_is_string(content)) {
        json_t *part = json_pack("{s:s, s:O}", "type", "text", "text", content);
        sl_status status = part ? add_part(part, role, path, parts, text, err) : refuse_size(err);

        json_decref(part);
        return status;
    }
    if (!json_is_array(content))
        return openai_refuse(err, path, "invalid_type",
                             "Invalid type for '%s': expected a string or an array of parts, but "
                             "got %s",
                             path, json_kind(content));
    for (size_t i = 0; i < json_array_size(content); i++) {
        snprintf(param, sizeof param, "%.64s[%zu]", path, i);
        SL_TRY(add_part(json_array_get(content, i), role, param, parts, text, err));
    }
    return SL_OK;
}

/* A message of any role to the listed items and to the conversation. */
static sl_status add_message(responses_call *call, const char *role, const json_t *content,
                             const char *path, openai_error *err)
{
    bool system = strcmp(role, "developer") == 0 || strcmp(role, "system") == 0;
    json_t *parts = json_array();
    char id[RESPONSES_ID_BYTES];
    sl_status status;
    sl_buf text;

    sl_random_id(id, sizeof id, "msg_", RESPONSES_ID_RANDOM);
    sl_buf_init(&text, SL_HTTP_BODY_BYTES_MAX);
    status = parts ? add_content(content, role, path, parts, &text, err) : refuse_size(err);
    /* Templates know `system` only. */
    if (status == SL_OK &&
        (json_array_append_new(call->context,
                               json_pack("{s:s, s:s%}", "role", system ? "system" : role, "content",
                                         sl_buf_str(&text), text.len)) != 0 ||
         json_array_append_new(call->input, json_pack("{s:s, s:s, s:s, s:s, s:O}", "id", id, "type",
                                                      "message", "status", "completed", "role",
                                                      role, "content", parts)) != 0))
        status = refuse_size(err);
    json_decref(parts);
    sl_buf_deinit(&text);
    return status;
}

static sl_status add_item(responses_call *call, const json_t *item, size_t idx, openai_error *err)
{
    static const char *const roles[] = { "user", "assistant", "system", "developer" };
    const char *type = json_string_value(json_object_get(item, "type"));
    const char *role = json_string_value(json_object_get(item, "role"));
    char path[48];
    size_t known = 0;

    snprintf(path, sizeof path, "input[%zu]", idx);
    if (!json_is_object(item))
        return openai_refuse(err, path, "invalid_type",
                             "Invalid type for '%s': expected an object, but got %s", path,
                             json_kind(item));
    if (type && strcmp(type, "message") != 0)
        return openai_refuse(err, path, "unsupported_value",
                             "'%s': items of type '%.40s' are not supported; only messages are",
                             path, type);
    while (known < SL_COUNT_OF(roles) && (!role || strcmp(role, roles[known]) != 0))
        known++;
    if (known == SL_COUNT_OF(roles)) {
        snprintf(path, sizeof path, "input[%zu].role", idx);
        return openai_refuse(err, path, "invalid_value",
                             "Invalid '%s': expected 'user', 'assistant', 'system' or "
                             "'developer'",
                             path);
    }
    snprintf(path, sizeof path, "input[%zu].content", idx);
    if (!field(item, "content"))
        return openai_refuse(err, path, "missing_required_parameter",
                             "Missing required parameter: '%s'", path);
    return add_message(call, roles[known], field(item, "content"), path, err);
}

static sl_status take_input(const json_t *v, const field_rule *rule, const field_target *to,
                            openai_error *err)
{
    responses_call *call = to->call;

    if (json_is_string(v))
        return add_message(call, "user", v, rule->name, err);
    if (!json_is_array(v) || json_array_size(v) == 0)
        return openai_refuse(err, rule->name, "invalid_type",
                             "Invalid 'input': expected a string or an array of items");
    if (json_array_size(v) > ITEMS_MAX)
        return openai_refuse(err, rule->name, "array_above_max_length",
                             "Invalid 'input': at most %d items", ITEMS_MAX);
    for (size_t i = 0; i < json_array_size(v); i++)
        SL_TRY(add_item(call, json_array_get(v, i), i, err));
    return SL_OK;
}

/* ---- settings ------------------------------------------------------------------------------ */

static sl_status take_metadata(const json_t *v, const field_rule *rule, const field_target *to,
                               openai_error *err)
{
    json_t *map = (json_t *)(uintptr_t)v; /* jansson iterates non-const objects */
    responses_call *call = to->call;
    const char *key;
    json_t *value;

    if (!json_is_object(v) || json_object_size(v) > METADATA_MAX)
        return openai_refuse(err, rule->name, "invalid_value",
                             "Invalid 'metadata': expected an object of at most %d strings",
                             METADATA_MAX);
    json_object_foreach(map, key, value)
    {
        if (strlen(key) > METADATA_KEY_MAX || !json_is_string(value) ||
            json_string_length(value) > METADATA_VALUE_MAX)
            return openai_refuse(err, rule->name, "invalid_value",
                                 "Invalid 'metadata': keys have up to %d bytes, values are strings "
                                 "of up to %d",
                                 METADATA_KEY_MAX, METADATA_VALUE_MAX);
    }
    call->metadata = json_incref(map);
    return SL_OK;
}

/* Index of v among names[count], or -1. */
static int find_name(const json_t *v, const char *const *names, size_t count)
{
    const char *text = json_string_value(v);

    for (size_t i = 0; text && i < count; i++)
        if (strcmp(text, names[i]) == 0)
            return (int)i;
    return -1;
}

static sl_status take_include(const json_t *v, const field_rule *rule, const field_target *to,
                              openai_error *err)
{
    /* All but the first are about what never occurs here. */
    static const char *const known[] = { "message.output_text.logprobs",
                                         "reasoning.encrypted_content",
                                         "file_search_call.results",
                                         "web_search_call.results",
                                         "web_search_call.action.sources",
                                         "message.input_image.image_url",
                                         "computer_call_output.output.image_url",
                                         "code_interpreter_call.outputs" };
    responses_call *call = to->call;

    if (!json_is_array(v))
        return openai_refuse(err, rule->name, "invalid_type", "'include' must be an array");
    for (size_t i = 0; i < json_array_size(v); i++) {
        int at = find_name(json_array_get(v, i), known, SL_COUNT_OF(known));

        if (at < 0)
            return openai_refuse(err, rule->name, "invalid_value",
                                 "Invalid 'include[%zu]': nothing of that name can be included", i);
        call->base.logprobs = call->base.logprobs || at == 0;
    }
    return SL_OK;
}

static sl_status take_truncation(const json_t *v, const field_rule *rule, const field_target *to,
                                 openai_error *err)
{
    static const char *const known[] = { "disabled", "auto" };
    int at = find_name(v, known, SL_COUNT_OF(known));

    if (at < 0)
        return openai_refuse(err, rule->name, "invalid_value",
                             "Invalid 'truncation': expected \"auto\" or \"disabled\"");
    to->req->truncate = at == 1;
    return SL_OK;
}

static sl_status take_text(const json_t *v, const field_rule *rule, const field_target *to,
                           openai_error *err)
{
    static const char *const levels[] = { "low", "medium", "high" };
    const json_t *format = field(v, "format"), *verbosity = field(v, "verbosity");
    const char *type = json_string_value(json_object_get(format, "type"));
    int level = find_name(verbosity, levels, SL_COUNT_OF(levels));

    if (!json_is_object(v) || (format && !type))
        return openai_refuse(err, rule->name, "invalid_type",
                             "Invalid 'text': expected an object, its 'format' with a 'type'");
    if (format && strcmp(type, "text") != 0)
        return openai_refuse(err, "text.format", "unsupported_parameter",
                             "Unsupported parameter: 'text.format' of type '%.40s' is not "
                             "supported yet; only \"text\" is",
                             type);
    if (verbosity && level < 0)
        return openai_refuse(err, "text.verbosity", "invalid_value",
                             "Invalid 'text.verbosity': expected \"low\", \"medium\" or \"high\"");
    ((responses_call *)to->call)->verbosity = level < 0 ? NULL : levels[level];
    return SL_OK;
}

static sl_status take_tool_choice(const json_t *v, const field_rule *rule, const field_target *to,
                                  openai_error *err)
{
    static const char *const known[] = { "auto", "none" };
    int at = find_name(v, known, SL_COUNT_OF(known));

    if (at < 0)
        return openai_refuse(err, rule->name, "unsupported_value",
                             "Unsupported value in 'tool_choice': there are no tools yet");
    ((responses_call *)to->call)->tool_choice = known[at];
    return SL_OK;
}

static const field_rule rules[] = {
    { .name = "input",
      .kind = FIELD_OTHER,
      .required = true,
      .take = take_input,
      .json_schema = "{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"minItems\":1,"
                     "\"items\":{\"type\":\"object\"}}]}",
      .help = "a text, or messages of texts" },
    { .name = "instructions",
      .kind = FIELD_STR,
      IN_CALL(responses_call, instructions),
      .help = "a system message in front; not handed on to later responses" },
    { .name = "previous_response_id",
      .kind = FIELD_STR,
      IN_CALL(responses_call, previous_id),
      .max = RESPONSES_ID_BYTES,
      .help = "goes on with the conversation of that response, which was stored" },
    { .name = "store",
      .kind = FIELD_BOOL,
      IN_CALL(responses_call, store),
      .help = "default true; the answer says whether it was" },
    { .name = "max_output_tokens",
      .kind = FIELD_INT,
      IN_REQUEST(max_tokens),
      .min = 1,
      .max = OPENAI_TOKENS_MAX },
    { .name = "stream", .kind = FIELD_BOOL, IN_CALL(openai_call, stream) },
    { .name = "metadata",
      .kind = FIELD_OTHER,
      .take = take_metadata,
      .json_schema = "{\"type\":\"object\",\"maxProperties\":16,\"additionalProperties\":"
                     "{\"type\":\"string\",\"maxLength\":512}}" },
    { .name = "include",
      .kind = FIELD_OTHER,
      .take = take_include,
      .json_schema = "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}",
      .help = "\"message.output_text.logprobs\"; the others are about what never occurs here" },
    { .name = "top_logprobs",
      .kind = FIELD_INT,
      IN_REQUEST(top_logprobs),
      .min = 0,
      .max = SL_TOP_LOGPROBS_MAX,
      .help = "with the logprobs that include asks for" },
    { .name = "truncation",
      .kind = FIELD_OTHER,
      .take = take_truncation,
      .json_schema = "{\"enum\":[\"auto\",\"disabled\"]}",
      .help = "auto: what does not fit the context is left out, the oldest messages first" },
    { .name = "text",
      .kind = FIELD_OTHER,
      .take = take_text,
      .json_schema = "{\"type\":\"object\",\"properties\":{\"format\":{\"type\":\"object\","
                     "\"properties\":{\"type\":{\"const\":\"text\"}}},\"verbosity\":{\"enum\":"
                     "[\"low\",\"medium\",\"high\"]}}}",
      .help = "format of type text only; verbosity has no effect" },
    { .name = "tool_choice",
      .kind = FIELD_OTHER,
      .take = take_tool_choice,
      .json_schema = "{\"enum\":[\"auto\",\"none\"]}" },
    NO_EFFECT("stream_options", "chunks carry no obfuscation"),
    NO_EFFECT("parallel_tool_calls", NULL),
    NO_EFFECT("max_tool_calls", NULL),
    NO_EFFECT("reasoning", NULL),
    REFUSED_TRUE("tools", "tool calls are not there yet"),
    REFUSED_TRUE("background", "answer while the connection is open, or stream"),
    REFUSED("conversation", "use previous_response_id"),
    REFUSED("prompt", "there are no stored prompts"),
    REFUSED("context_management", NULL),
    GROUNDS_RULE,
};
const body_schema responses_body = { .name = "ResponseRequest",
                                     .rules = rules,
                                     .count = SL_COUNT_OF(rules),
                                     .base = &openai_sampling_body };

/* ---- all of it ----------------------------------------------------------------------------- */

/* The request's messages: instructions, and the conversation. */
static sl_status set_messages(responses_call *call, openai_error *err)
{
    llm_request *req = call->base.req;

    json_decref(req->messages);
    req->messages = json_array();
    if (!req->messages ||
        (call->instructions &&
         json_array_append_new(req->messages, json_pack("{s:s, s:s}", "role", "system", "content",
                                                        call->instructions)) != 0) ||
        json_array_extend(req->messages, call->context) != 0)
        return refuse_size(err);
    return SL_OK;
}

static sl_status parse_root(const json_t *root, void *ctx, openai_error *err)
{
    responses_call *call = ctx;
    llm_request *req = call->base.req;
    const field_target to = { .req = req, .call = call };

    call->store = call->base.skip_special = call->base.add_special = true;
    call->tool_choice = "auto";
    call->base.n = 1;
    call->input = json_array();
    call->context = json_array();
    if (!call->input || !call->context)
        return refuse_size(err);
    SL_TRY(body_read(&responses_body, root, &to, err));
    if (req->top_logprobs > 0 && !call->base.logprobs)
        return openai_refuse(err, "top_logprobs", "invalid_value",
                             "'top_logprobs' needs \"message.output_text.logprobs\" in 'include'");
    if (call->base.cache_salt && !call->base.cache_salt[0])
        return openai_refuse(err, "cache_salt", "invalid_value",
                             "Invalid 'cache_salt': expected a string that is not empty");
    req->logprobs = call->base.logprobs;
    req->show_special = !call->base.skip_special;
    return set_messages(call, err);
}

sl_status responses_parse(const char *body, size_t len, responses_call *ret, openai_error *err)
{
    responses_call call = { .store = true };
    sl_status status = parse_request(body, len, LLM_CHAT, parse_root, &call, &call.base.req, err);

    if (status == SL_OK)
        *ret = call;
    else
        responses_call_deinit(&call);
    return status;
}

void responses_call_deinit(responses_call *call)
{
    llm_request_destroy(call->base.req);
    json_decref(call->input);
    json_decref(call->context);
    json_decref(call->metadata);
    *call = (responses_call){ 0 };
}

/* ---- the conversation ---------------------------------------------------------------------- */

/* The text of a kept response's one message, or NULL. */
static const json_t *output_text(const json_t *record)
{
    const json_t *output = json_object_get(json_object_get(record, "response"), "output");
    const json_t *content = json_object_get(json_array_get(output, 0), "content");
    const json_t *text = json_object_get(json_array_get(content, 0), "text");

    return json_is_string(text) ? text : NULL;
}

sl_status responses_continue(responses_call *call, const json_t *record, openai_error *err)
{
    const json_t *before = json_object_get(record, "context"), *text = output_text(record);
    json_t *whole;

    if (!json_is_array(before) || !text)
        return openai_refuse(err, "previous_response_id", "invalid_value",
                             "The previous response cannot be continued");
    whole = json_copy((json_t *)(uintptr_t)before);
    if (!whole ||
        json_array_append_new(whole,
                              json_pack("{s:s, s:O}", "role", "assistant", "content", text)) != 0 ||
        json_array_extend(whole, call->context) != 0) {
        json_decref(whole);
        return refuse_size(err);
    }
    json_decref(call->context);
    call->context = whole;
    return set_messages(call, err);
}
