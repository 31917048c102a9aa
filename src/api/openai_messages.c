/* openai_messages.c - what a model is given: messages of a chat, and prompts. */
#include <stdio.h>

#include "api/fields.h"

/* ---- messages ------------------------------------------------------------------------------ */

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
