/* fields.c - typed fields of JSON objects. */
#include "api/fields.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define MODEL_NAME_BYTES_MAX 200

sl_status openai_refuse(openai_error *err, const char *param, const char *code, const char *fmt,
                        ...)
{
    va_list args;

    err->http = 400;
    err->type = "invalid_request_error";
    err->code = code;
    snprintf(err->param, sizeof err->param, "%s", param ? param : "");
    va_start(args, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    return SL_EINVAL;
}

const json_t *field(const json_t *obj, const char *name)
{
    const json_t *v = json_object_get(obj, name);

    return json_is_null(v) ? NULL : v;
}

bool is_string(const json_t *v, const char *text)
{
    return json_is_string(v) && strcmp(json_string_value(v), text) == 0;
}

const char *json_kind(const json_t *v)
{
    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a decimal";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    default:
        return "null";
    }
}

static sl_status wrong_type(const char *name, const char *wanted, const json_t *v,
                            openai_error *err)
{
    return openai_refuse(err, name, "invalid_type",
                         "Invalid type for '%s': expected %s, but got %s instead", name, wanted,
                         json_kind(v));
}

sl_status take_bool(const json_t *obj, const char *name, bool *ret, openai_error *err)
{
    const json_t *v = field(obj, name);

    if (v && !json_is_boolean(v))
        return wrong_type(name, "a boolean", v, err);
    if (v)
        *ret = json_is_true(v);
    return SL_OK;
}

sl_status take_int(const json_t *obj, const char *name, int64_t min, int64_t max, int64_t *ret,
                   openai_error *err)
{
    const json_t *v = field(obj, name);

    return v ? to_int(v, name, min, max, ret, err) : SL_OK;
}

sl_status to_int(const json_t *v, const char *name, int64_t min, int64_t max, int64_t *ret,
                 openai_error *err)
{
    int64_t n;

    if (json_is_real(v) && json_real_value(v) == rint(json_real_value(v)) &&
        fabs(json_real_value(v)) < 9e15)
        n = (int64_t)json_real_value(v); /* 5.0, as some clients write 5 */
    else if (json_is_integer(v))
        n = json_integer_value(v);
    else
        return wrong_type(name, "an integer", v, err);
    if (n < min)
        return openai_refuse(err, name, "integer_below_min_value",
                             "Invalid '%s': expected a value >= %lld, but got %lld instead", name,
                             (long long)min, (long long)n);
    if (n > max)
        return openai_refuse(err, name, "integer_above_max_value",
                             "Invalid '%s': expected a value <= %lld, but got %lld instead", name,
                             (long long)max, (long long)n);
    *ret = n;
    return SL_OK;
}

sl_status take_num(const json_t *obj, const char *name, double min, double max, float *ret,
                   openai_error *err)
{
    const json_t *v = field(obj, name);
    double n;

    if (!v)
        return SL_OK;
    if (!json_is_number(v))
        return wrong_type(name, "a number", v, err);
    n = json_number_value(v);
    if (n < min)
        return openai_refuse(err, name, "decimal_below_min_value",
                             "Invalid '%s': expected a value >= %g, but got %g instead", name, min,
                             n);
    if (n > max)
        return openai_refuse(err, name, "decimal_above_max_value",
                             "Invalid '%s': expected a value <= %g, but got %g instead", name, max,
                             n);
    *ret = (float)n;
    return SL_OK;
}

sl_status take_str(const json_t *obj, const char *name, const char **ret, openai_error *err)
{
    const json_t *v = field(obj, name);

    if (v && !json_is_string(v))
        return wrong_type(name, "a string", v, err);
    if (v)
        *ret = json_string_value(v);
    return SL_OK;
}

sl_status parse_object(const char *body, size_t len, json_t **ret, openai_error *err)
{
    json_error_t where;
    json_t *root;

    SL_TRY(json_guard(body, len, err));
    root = json_read(body, len);
    if (!root)
        root = json_loadb(body, len, 0, &where);
    if (!root)
        return openai_refuse(err, NULL, "invalid_json",
                             "The body is not valid JSON: %s (line %d, column %d, byte %d)",
                             where.text, where.line, where.column, where.position);
    if (!json_is_object(root)) {
        sl_status status =
            openai_refuse(err, NULL, "invalid_type", "The body must be a JSON object, but is %s",
                          json_kind(root));
        json_decref(root);
        return status;
    }
    *ret = root;
    return SL_OK;
}

sl_status parse_request(const char *body, size_t len, llm_task task, parse_root_fn parse_root,
                        void *call, llm_request **req_at, openai_error *err)
{
    json_t *root = NULL;
    sl_status status;

    SL_TRY(parse_object(body, len, &root, err));
    *req_at = llm_request_create(task, OPENAI_ARENA_MAX);
    status = *req_at ? parse_root(root, call, err) : refuse_size(err);
    json_decref(root);
    if (status == SL_OK)
        return SL_OK;
    llm_request_destroy(*req_at);
    *req_at = NULL;
    return status;
}

/* ---- parts of requests that dialects share ------------------------------------------------- */

sl_status refuse_size(openai_error *err)
{
    openai_refuse(err, NULL, "request_too_large", "The request is too large");
    err->http = 413;
    return SL_ENOMEM;
}

bool field_is_token(const json_t *v)
{
    return json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= INT32_MAX;
}

sl_status take_model(const json_t *root, llm_request *req, openai_error *err)
{
    const json_t *v = field(root, "model");

    return v ? to_model(v, req, err) : SL_OK;
}

sl_status to_model(const json_t *v, llm_request *req, openai_error *err)
{
    const char *model = json_string_value(v);

    if (!model)
        return wrong_type("model", "a string", v, err);
    if (strlen(model) > MODEL_NAME_BYTES_MAX)
        return openai_refuse(err, "model", "invalid_value",
                             "Invalid 'model': the name is too long");
    req->model = sl_arena_strndup(&req->arena, model, strlen(model));
    return req->model ? SL_OK : refuse_size(err);
}

sl_status take_model_name(const json_t *v, const field_rule *rule, const field_target *to,
                          openai_error *err)
{
    (void)rule;
    return to_model(v, to->req, err);
}

static sl_status add_stop(llm_request *req, const json_t *v, bool skip_empty, const char *param,
                          openai_error *err)
{
    size_t len = json_string_length(v);

    if (!json_is_string(v))
        return openai_refuse(err, param, "invalid_type",
                             "Invalid type for '%s': expected a string, but got %s", param,
                             json_kind(v));
    if (len == 0 && skip_empty)
        return SL_OK;
    if (len == 0 || len > SL_STOP_BYTES_MAX)
        return openai_refuse(err, param, "invalid_value",
                             "Invalid '%s': a stop string has 1 to %d bytes", param,
                             SL_STOP_BYTES_MAX);
    req->stops[req->stop_count] = sl_arena_strndup(&req->arena, json_string_value(v), len);
    return req->stops[req->stop_count++] ? SL_OK : refuse_size(err);
}

sl_status take_stops(const json_t *v, const char *name, bool skip_empty, llm_request *req,
                     openai_error *err)
{
    char param[64];

    req->stops = sl_arena_alloc(&req->arena, SL_STOPS_MAX * sizeof *req->stops);
    if (!req->stops)
        return refuse_size(err);
    if (json_is_string(v))
        return add_stop(req, v, skip_empty, name, err);
    if (!json_is_array(v))
        return openai_refuse(err, name, "invalid_type",
                             "Invalid type for '%s': expected a string or an array of strings, "
                             "but got %s",
                             name, json_kind(v));
    if (json_array_size(v) > SL_STOPS_MAX)
        return openai_refuse(err, name, "array_above_max_length",
                             "Invalid '%s': at most %d stop strings", name, SL_STOPS_MAX);
    for (size_t i = 0; i < json_array_size(v); i++) {
        snprintf(param, sizeof param, "%.40s[%zu]", name, i);
        SL_TRY(add_stop(req, json_array_get(v, i), skip_empty, param, err));
    }
    return SL_OK;
}

sl_status add_prompt_ids(const json_t *list, const char *param, llm_request *req, openai_error *err)
{
    llm_prompt *p = &req->prompts[req->prompt_count];
    size_t count = json_array_size(list);
    int32_t *ids = sl_arena_alloc(&req->arena, (count + 1) * sizeof *ids);

    if (!ids)
        return refuse_size(err);
    if (count == 0)
        return openai_refuse(err, param, "empty_array", "Invalid '%s': no tokens", param);
    for (size_t i = 0; i < count; i++) {
        if (!field_is_token(json_array_get(list, i)))
            return openai_refuse(err, param, "invalid_value",
                                 "Invalid '%s': element %zu is no token id", param, i);
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    *p = (llm_prompt){ .ids = ids, .id_count = count };
    req->prompt_count++;
    return SL_OK;
}
