/* openai_parse.c - bodies of /v1/chat/completions, /v1/completions and /v1/embeddings to
 * llm_request.
 *
 * Strict about what is known: a wrong type or range is refused and named, and so is a feature that
 * would change the answer but does not exist here. Lenient about the rest: unknown fields are
 * ignored, null means absent. */
#include <stdio.h>
#include <stdlib.h>

#include "api/fields.h"

#define TOKENS_MAX ((int64_t)1 << 31)

/* Fields that change what an answer must be and that nothing here can honour. */
static const char *const unsupported[] = {
    "audio",           "web_search_options", "structured_outputs", "guided_json",
    "guided_regex",    "guided_choice",      "guided_grammar",     "chat_template",
    "prompt_logprobs", "bad_words",          "documents",          "length_penalty",
    "grammar",         "json_schema",        "logits_processors",  "allowed_token_ids",
};
/* The same, refused only when true. */
static const char *const unsupported_true[] = { "use_beam_search", "continue_final_message",
                                                "return_token_ids", "return_tokens_as_token_ids" };

static sl_status refuse_unsupported(const json_t *root, openai_error *err)
{
    for (size_t i = 0; i < SL_COUNT_OF(unsupported); i++)
        if (field(root, unsupported[i]))
            return openai_refuse(err, unsupported[i], "unsupported_parameter",
                                 "Unsupported parameter: '%s' is not supported by this server",
                                 unsupported[i]);
    for (size_t i = 0; i < SL_COUNT_OF(unsupported_true); i++)
        if (json_is_true(field(root, unsupported_true[i])))
            return openai_refuse(err, unsupported_true[i], "unsupported_parameter",
                                 "Unsupported parameter: '%s' is not supported by this server",
                                 unsupported_true[i]);
    return SL_OK;
}

/* ---- sampling ------------------------------------------------------------------------------ */

static sl_status parse_logit_bias(const json_t *root, llm_request *req, openai_error *err)
{
    json_t *map = (json_t *)field(root, "logit_bias"); /* jansson iterates non-const objects */
    llm_sampling *s = &req->sampling;
    const char *key;
    json_t *value;

    if (!map)
        return SL_OK;
    if (!json_is_object(map))
        return openai_refuse(err, "logit_bias", "invalid_type",
                             "Invalid type for 'logit_bias': expected an object, but got %s",
                             json_kind(map));
    if (json_object_size(map) > SL_LOGIT_BIAS_MAX)
        return openai_refuse(err, "logit_bias", "invalid_value",
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
            return openai_refuse(err, "logit_bias", "invalid_value",
                                 "Invalid key in 'logit_bias': '%.40s' is no token id", key);
        if (!json_is_number(value) || bias < -100 || bias > 100)
            return openai_refuse(err, "logit_bias", "invalid_value",
                                 "Invalid 'logit_bias[\"%.40s\"]': expected -100 to 100", key);
        s->bias[s->bias_count++] = (llm_logit_bias){ (int32_t)id, (float)bias };
    }
    return SL_OK;
}

static sl_status parse_stop_ids(const json_t *root, llm_request *req, openai_error *err)
{
    const json_t *v = field(root, "stop_token_ids");
    size_t count = json_array_size(v);

    if (!v)
        return SL_OK;
    if (!json_is_array(v) || count > SL_LOGIT_BIAS_MAX)
        return openai_refuse(err, "stop_token_ids", "invalid_value",
                             "Invalid 'stop_token_ids': expected an array of at most %d token ids",
                             SL_LOGIT_BIAS_MAX);
    req->stop_ids = sl_arena_alloc(&req->arena, (count + 1) * sizeof *req->stop_ids);
    if (!req->stop_ids)
        return refuse_size(err);
    for (size_t i = 0; i < count; i++) {
        if (!field_is_token(json_array_get(v, i)))
            return openai_refuse(err, "stop_token_ids", "invalid_value",
                                 "Invalid 'stop_token_ids[%zu]': expected a token id", i);
        req->stop_ids[req->stop_id_count++] = (int32_t)json_integer_value(json_array_get(v, i));
    }
    return SL_OK;
}

static sl_status parse_sampling(const json_t *root, llm_request *req, openai_error *err)
{
    llm_sampling *s = &req->sampling;
    int64_t top_k = s->top_k, min_tokens = s->min_tokens, seed = 0, n = req->n, spec = 0;
    bool skip_special = true, special = !req->no_special;

    SL_TRY(take_num(root, "temperature", 0, 2, &s->temperature, err));
    SL_TRY(take_num(root, "top_p", 0, 1, &s->top_p, err));
    SL_TRY(take_num(root, "min_p", 0, 1, &s->min_p, err));
    SL_TRY(take_num(root, "typical_p", 0, 1, &s->typical_p, err));
    SL_TRY(take_num(root, "presence_penalty", -2, 2, &s->presence_penalty, err));
    SL_TRY(take_num(root, "frequency_penalty", -2, 2, &s->frequency_penalty, err));
    SL_TRY(take_num(root, "repetition_penalty", 0.01, 10, &s->repetition_penalty, err));
    SL_TRY(take_int(root, "top_k", -1, INT32_MAX, &top_k, err));
    SL_TRY(take_int(root, "min_tokens", 0, INT32_MAX, &min_tokens, err));
    SL_TRY(take_int(root, "seed", INT64_MIN, INT64_MAX, &seed, err));
    SL_TRY(take_int(root, "n", 1, SL_CHOICES_MAX, &n, err));
    SL_TRY(take_int(root, "spec_tokens", -1, SL_SPEC_TOKENS_MAX, &spec, err));
    SL_TRY(take_bool(root, "ignore_eos", &s->ignore_eos, err));
    SL_TRY(take_bool(root, "include_stop_str_in_output", &req->include_stop, err));
    SL_TRY(take_bool(root, "skip_special_tokens", &skip_special, err));
    SL_TRY(take_bool(root, "add_special_tokens", &special, err));
    s->top_k = (int32_t)SL_MAX(top_k, 0); /* vLLM writes -1 for all */
    s->min_tokens = (int32_t)min_tokens;
    s->has_seed = field(root, "seed") != NULL;
    s->seed = (uint64_t)seed;
    req->n = (uint32_t)n;
    req->spec_tokens = (int32_t)spec;
    req->show_special = !skip_special;
    req->no_special = !special;
    SL_TRY(parse_logit_bias(root, req, err));
    SL_TRY(take_stops(root, false, req, err));
    return parse_stop_ids(root, req, err);
}

static sl_status parse_stream(const json_t *root, openai_call *call, openai_error *err)
{
    const json_t *options = field(root, "stream_options");

    SL_TRY(take_bool(root, "stream", &call->stream, err));
    if (!options)
        return SL_OK;
    if (!json_is_object(options))
        return openai_refuse(err, "stream_options", "invalid_type",
                             "Invalid type for 'stream_options': expected an object, but got %s",
                             json_kind(options));
    if (!call->stream)
        return openai_refuse(err, "stream_options", "invalid_value",
                             "The 'stream_options' parameter is only allowed when 'stream' is "
                             "enabled");
    return take_bool(options, "include_usage", &call->include_usage, err);
}

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

static sl_status parse_messages(const json_t *root, llm_request *req, openai_error *err)
{
    const json_t *list = field(root, "messages");

    if (!list)
        return openai_refuse(err, "messages", "missing_required_parameter",
                             "Missing required parameter: 'messages'");
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

static sl_status refuse_tools(const json_t *root, openai_error *err)
{
    const json_t *tools = field(root, "tools"), *choice = field(root, "tool_choice");
    const char *call = json_string_value(field(root, "function_call"));

    if (tools && !json_is_array(tools))
        return openai_refuse(err, "tools", "invalid_type", "'tools' must be an array");
    if (json_array_size(tools) > 0 &&
        !(json_is_string(choice) && strcmp(json_string_value(choice), "none") == 0))
        return openai_refuse(err, "tools", "unsupported_parameter",
                             "Unsupported parameter: 'tools'. This server does not parse tool "
                             "calls yet; leave 'tools' out or set 'tool_choice' to \"none\"");
    if (json_array_size(field(root, "functions")) > 0 && (!call || strcmp(call, "none") != 0))
        return openai_refuse(err, "functions", "unsupported_parameter",
                             "Unsupported parameter: 'functions'. This server does not parse tool "
                             "calls yet");
    return SL_OK;
}

static sl_status refuse_formats(const json_t *root, openai_error *err)
{
    const json_t *format = field(root, "response_format"), *modes = field(root, "modalities");
    const char *type = json_string_value(json_object_get(format, "type"));

    if (format && !type)
        return openai_refuse(err, "response_format", "invalid_type",
                             "Invalid 'response_format': expected an object with a 'type'");
    if (format && strcmp(type, "text") != 0)
        return openai_refuse(err, "response_format", "unsupported_parameter",
                             "Unsupported parameter: 'response_format' of type '%.40s' is not "
                             "supported yet; only \"text\" is",
                             type);
    for (size_t i = 0; i < json_array_size(modes); i++) {
        const char *mode = json_string_value(json_array_get(modes, i));

        if (!mode || strcmp(mode, "text") != 0)
            return openai_refuse(err, "modalities", "unsupported_value",
                                 "Unsupported value in 'modalities': this server writes text only");
    }
    return SL_OK;
}

static sl_status parse_chat(const json_t *root, openai_call *call, openai_error *err)
{
    llm_request *req = call->req;
    const json_t *vars = field(root, "chat_template_kwargs");
    bool generation_prompt = true, echo = false;
    int64_t top = 0, max = -1;

    SL_TRY(refuse_tools(root, err));
    SL_TRY(refuse_formats(root, err));
    SL_TRY(parse_messages(root, req, err));
    SL_TRY(take_int(root, "max_tokens", 1, TOKENS_MAX, &max, err));
    SL_TRY(take_int(root, "max_completion_tokens", 1, TOKENS_MAX, &max, err));
    req->max_tokens = max;
    SL_TRY(take_bool(root, "logprobs", &req->logprobs, err));
    SL_TRY(take_int(root, "top_logprobs", 0, SL_TOP_LOGPROBS_MAX, &top, err));
    if (top > 0 && !req->logprobs)
        return openai_refuse(err, "top_logprobs", "invalid_value",
                             "'top_logprobs' is only allowed when 'logprobs' is true");
    req->top_logprobs = (int32_t)top;
    SL_TRY(take_bool(root, "echo", &echo, err));
    if (echo)
        return openai_refuse(err, "echo", "unsupported_parameter",
                             "Unsupported parameter: 'echo' exists for /v1/completions only");
    SL_TRY(take_bool(root, "add_generation_prompt", &generation_prompt, err));
    req->no_generation_prompt = !generation_prompt;
    if (vars && !json_is_object(vars))
        return openai_refuse(err, "chat_template_kwargs", "invalid_type",
                             "'chat_template_kwargs' must be an object");
    req->template_vars = json_incref((json_t *)vars);
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

static sl_status parse_prompts(const json_t *root, const char *name, llm_request *req,
                               openai_error *err)
{
    const json_t *v = field(root, name);
    size_t count = json_is_array(v) ? json_array_size(v) : 1;
    char param[32];

    if (!v)
        return openai_refuse(err, name, "missing_required_parameter",
                             "Missing required parameter: '%s'", name);
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

static sl_status parse_complete(const json_t *root, openai_call *call, openai_error *err)
{
    llm_request *req = call->req;
    int64_t best_of = 0, top = 0;
    const char *suffix = NULL;

    SL_TRY(parse_prompts(root, "prompt", req, err));
    SL_TRY(take_bool(root, "echo", &req->echo, err));
    req->max_tokens = 16; /* OpenAI's default here */
    SL_TRY(take_int(root, "max_tokens", req->echo ? 0 : 1, TOKENS_MAX, &req->max_tokens, err));
    SL_TRY(take_int(root, "logprobs", 0, SL_TOP_LOGPROBS_MAX, &top, err));
    req->logprobs = field(root, "logprobs") != NULL;
    req->top_logprobs = (int32_t)top;
    SL_TRY(take_int(root, "best_of", 1, SL_CHOICES_MAX, &best_of, err));
    if (best_of != 0 && best_of != (int64_t)req->n)
        return openai_refuse(err, "best_of", "unsupported_value",
                             "Unsupported value: 'best_of' must equal 'n' (%u)", req->n);
    SL_TRY(take_str(root, "suffix", &suffix, err));
    if (suffix && *suffix)
        return openai_refuse(err, "suffix", "unsupported_parameter",
                             "Unsupported parameter: 'suffix' (insertion) is not supported");
    if (req->prompt_count * req->n > OPENAI_CHOICES_TOTAL)
        return openai_refuse(err, "n", "invalid_value",
                             "Invalid 'n': prompts x n may be at most %d", OPENAI_CHOICES_TOTAL);
    return SL_OK;
}

static sl_status parse_embed(const json_t *root, openai_call *call, openai_error *err)
{
    const char *format = "float";

    SL_TRY(parse_prompts(root, "input", call->req, err));
    SL_TRY(take_str(root, "encoding_format", &format, err));
    if (strcmp(format, "float") != 0 && strcmp(format, "base64") != 0)
        return openai_refuse(err, "encoding_format", "invalid_value",
                             "Invalid 'encoding_format': expected \"float\" or \"base64\"");
    call->base64 = strcmp(format, "base64") == 0;
    return take_int(root, "dimensions", 1, SL_MODEL_DIM_MAX, &call->dimensions, err);
}

/* ---- all of them --------------------------------------------------------------------------- */

static sl_status parse_root(const json_t *root, openai_call *call, openai_error *err)
{
    llm_request *req = call->req;

    SL_TRY(take_model(root, req, err));
    if (req->task == LLM_EMBED)
        return parse_embed(root, call, err);
    SL_TRY(refuse_unsupported(root, err));
    SL_TRY(parse_sampling(root, req, err));
    SL_TRY(parse_stream(root, call, err));
    if (req->task == LLM_CHAT)
        return parse_chat(root, call, err);
    return parse_complete(root, call, err);
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
