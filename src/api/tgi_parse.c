/* tgi_parse.c - bodies of TGI's /generate, /generate_stream, / and /vertex to llm_request.
 *
 * What is known is checked as the original does; unknown fields are ignored. */
#include <math.h>
#include <stdio.h>

#include "api/fields.h"
#include "api/grounds.h"
#include "api/tgi.h"
#include "base/os.h"

#define TOKENS_MAX ((int64_t)1 << 31)

/* ---- parameters ---------------------------------------------------------------------------- */

static sl_status take_stop(const json_t *v, const field_rule *rule, const field_target *to,
                           openai_error *err)
{
    if (!json_is_array(v))
        return openai_refuse(err, rule->name, "invalid_type", "`stop` must be an array of strings");
    return take_stops(v, rule->name, false, to->req, err);
}

static sl_status take_seed(const json_t *v, const field_rule *rule, const field_target *to,
                           openai_error *err)
{
    int64_t seed = 0;

    SL_TRY(to_int(v, rule->name, 0, INT64_MAX, &seed, err));
    to->req->sampling.has_seed = true;
    to->req->sampling.seed = (uint64_t)seed;
    return SL_OK;
}

#define NUMBER(field_name, lo, hi, text)                                                           \
    {                                                                                              \
        .name = #field_name, .kind = FIELD_NUM, IN_CALL(tgi_call, field_name), .min = lo,          \
        .max = hi, .help = text                                                                    \
    }
#define FLAG(field_name, member, text)                                                             \
    {                                                                                              \
        .name = field_name, .kind = FIELD_BOOL, IN_CALL(tgi_call, member), .help = text            \
    }

static const field_rule parameter_rules[] = {
    { .name = "best_of",
      .kind = FIELD_INT,
      IN_CALL(tgi_call, best_of),
      .min = 1,
      .max = TGI_BEST_OF_MAX,
      .help = "sequences, of which the likeliest is given; needs sampling" },
    NUMBER(temperature, 0, 100, "above 0; other than 1 it switches sampling on"),
    NUMBER(repetition_penalty, 0, 100, "above 0; 1 is off"),
    { .name = "frequency_penalty",
      .kind = FIELD_NUM,
      IN_REQUEST(sampling.frequency_penalty),
      .min = -2,
      .max = 2 },
    { .name = "top_k",
      .kind = FIELD_INT,
      IN_CALL(tgi_call, top_k),
      .min = 1,
      .max = INT32_MAX,
      .help = "switches sampling on" },
    NUMBER(top_p, 0, 1, "between 0 and 1, both not included; switches sampling on"),
    NUMBER(typical_p, 0, 1, "between 0 and 1, both not included; switches sampling on"),
    FLAG("do_sample", do_sample, "false: greedy, unless another parameter means sampling"),
    { .name = "max_new_tokens",
      .kind = FIELD_INT,
      IN_CALL(tgi_call, max_new_tokens),
      .min = 1,
      .max = TOKENS_MAX,
      .help = "missing: up to the context's end" },
    FLAG("return_full_text", full_text, "put the inputs before the text"),
    { .name = "stop",
      .kind = FIELD_OTHER,
      .take = take_stop,
      .json_schema = "{\"type\":\"array\",\"maxItems\":16,\"items\":{\"type\":\"string\","
                     "\"minLength\":1}}",
      .help = "the text ends with the one that matched" },
    { .name = "truncate",
      .kind = FIELD_INT,
      IN_REQUEST(truncate_prompt_tokens),
      .min = 1,
      .max = TOKENS_MAX,
      .help = "keep so many last tokens of the inputs" },
    { .name = "watermark", .kind = FIELD_BOOL, .support = FIELD_REFUSED_TRUE },
    FLAG("details", details, NULL),
    FLAG("decoder_input_details", input_details, "logprobs of the inputs; not in a stream"),
    { .name = "seed",
      .kind = FIELD_OTHER,
      .take = take_seed,
      .json_schema = "{\"type\":\"integer\",\"minimum\":0}" },
    { .name = "top_n_tokens",
      .kind = FIELD_INT,
      IN_REQUEST(top_logprobs),
      .min = 0,
      .max = SL_TOP_LOGPROBS_MAX },
    { .name = "grammar", .kind = FIELD_OTHER, .support = FIELD_REFUSED },
    { .name = "adapter_id", .kind = FIELD_OTHER, .support = FIELD_REFUSED },
};
const body_schema tgi_parameters_body = { .name = "GenerateParameters",
                                          .rules = parameter_rules,
                                          .count = SL_COUNT_OF(parameter_rules) };

static sl_status take_parameters(const json_t *v, const field_rule *rule, const field_target *to,
                                 openai_error *err)
{
    tgi_call *call = to->call;

    if (!json_is_object(v))
        return openai_refuse(err, rule->name, "invalid_type", "`%s` must be an object, but is %s",
                             rule->name, json_kind(v));
    call->do_sample = false; /* the default when there are parameters */
    return body_nest(body_read(&tgi_parameters_body, v, to, err), rule->name, err);
}

/* ---- inputs -------------------------------------------------------------------------------- */

static size_t chars_of(const char *text, size_t len)
{
    size_t count = 0;

    for (size_t i = 0; i < len; i++)
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

/* Fills the next prompt, for which there is room. */
static sl_status add_input(const json_t *v, const char *name, tgi_call *call, openai_error *err)
{
    llm_request *req = call->req;
    size_t len = json_string_length(v);
    char *text;

    if (!v)
        return openai_refuse(err, name, "missing_required_parameter", "`%s` is missing", name);
    if (!json_is_string(v))
        return openai_refuse(err, name, "invalid_type", "`%s` must be a string, but is %s", name,
                             json_kind(v));
    if (len == 0)
        return openai_refuse(err, name, "invalid_value", "`%s` cannot be empty", name);
    text = sl_arena_strndup(&req->arena, json_string_value(v), len);
    if (!text)
        return refuse_size(err);
    req->prompts[req->prompt_count++] = (llm_prompt){ .text = text, .text_len = len };
    call->input_chars += chars_of(text, len);
    return SL_OK;
}

static sl_status take_inputs(const json_t *v, const field_rule *rule, const field_target *to,
                             openai_error *err)
{
    tgi_call *call = to->call;

    call->req->prompts = sl_arena_alloc(&call->req->arena, sizeof *call->req->prompts);
    if (!call->req->prompts)
        return refuse_size(err);
    return add_input(v, rule->name, call, err);
}

/* One instance: its inputs, and parameters that are those of the first. */
static sl_status take_instance(const json_t *v, const json_t *first, size_t idx,
                               const field_target *to, openai_error *err)
{
    char path[40];

    snprintf(path, sizeof path, "instances[%zu]", idx);
    if (!json_is_object(v))
        return openai_refuse(err, path, "invalid_type", "`%s` must be an object, but is %s", path,
                             json_kind(v));
    if (field(v, "messages"))
        return openai_refuse(err, path, "unsupported_parameter",
                             "`%s`: messages are not supported here; use /v1/chat/completions",
                             path);
    if (idx > 0 && field(v, "parameters") != field(first, "parameters") &&
        !json_equal(field(v, "parameters"), field(first, "parameters")))
        return openai_refuse(err, path, "unsupported_value",
                             "`%s`: this server takes instances with the same parameters only",
                             path);
    return body_nest(add_input(field(v, "inputs"), "inputs", to->call, err), path, err);
}

static sl_status take_instances(const json_t *v, const field_rule *rule, const field_target *to,
                                openai_error *err)
{
    static const field_rule parameters = { .name = "parameters" };
    const json_t *first = json_array_get(v, 0), *given = field(first, "parameters");
    llm_request *req = to->req;
    size_t count = json_array_size(v);

    if (!json_is_array(v) || count == 0 || count > SL_PROMPTS_MAX)
        return openai_refuse(err, rule->name, "invalid_value",
                             "`instances` must be an array of 1 to %d objects", SL_PROMPTS_MAX);
    req->prompts = sl_arena_alloc(&req->arena, count * sizeof *req->prompts);
    if (!req->prompts)
        return refuse_size(err);
    for (size_t i = 0; i < count; i++)
        SL_TRY(take_instance(json_array_get(v, i), first, i, to, err));
    return given ? take_parameters(given, &parameters, to, err) : SL_OK;
}

#define MODEL                                                                                      \
    {                                                                                              \
        .name = "model", .kind = FIELD_OTHER, .take = take_model_name,                             \
        .json_schema = "{\"type\":\"string\"}",                                                    \
        .help = "ours: which of several models; missing: the first that can do it"                 \
    }

static const field_rule generate_rules[] = {
    MODEL,
    { .name = "inputs",
      .kind = FIELD_OTHER,
      .required = true,
      .take = take_inputs,
      .json_schema = "{\"type\":\"string\",\"minLength\":1}" },
    { .name = "parameters",
      .kind = FIELD_OTHER,
      .take = take_parameters,
      .body = &tgi_parameters_body,
      .help = "missing: sampling with the neutral values" },
    { .name = "add_special_tokens",
      .kind = FIELD_BOOL,
      IN_CALL(tgi_call, add_special),
      .help = "default true" },
    GROUNDS_REFUSED,
};
const body_schema tgi_generate_body = { .name = "GenerateRequest",
                                        .rules = generate_rules,
                                        .count = SL_COUNT_OF(generate_rules) };

static const field_rule compat_rules[] = {
    FLAG("stream", stream, NULL),
};
const body_schema tgi_compat_body = { .name = "CompatGenerateRequest",
                                      .rules = compat_rules,
                                      .count = SL_COUNT_OF(compat_rules),
                                      .base = &tgi_generate_body };

static const field_rule vertex_rules[] = {
    MODEL,
    { .name = "instances",
      .kind = FIELD_OTHER,
      .required = true,
      .take = take_instances,
      .json_schema = "{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"object\","
                     "\"properties\":{\"inputs\":{\"type\":\"string\"},\"parameters\":{\"$ref\":"
                     "\"#/components/schemas/GenerateParameters\"}},\"required\":[\"inputs\"]}}",
      .help = "with the same parameters" },
};
const body_schema tgi_vertex_body = { .name = "VertexRequest",
                                      .rules = vertex_rules,
                                      .count = SL_COUNT_OF(vertex_rules) };

/* ---- all of it ----------------------------------------------------------------------------- */

static sl_status refuse_range(const char *name, const char *range, openai_error *err)
{
    return openai_refuse(err, name, "invalid_value", "`%s` must be %s", name, range);
}

/* The bounds that the original does not include; and what it wants of best_of. */
static sl_status check(const tgi_call *call, bool sampled, openai_error *err)
{
    if (call->temperature <= 0)
        return refuse_range("temperature", "strictly positive", err);
    if (call->repetition_penalty <= 0)
        return refuse_range("repetition_penalty", "strictly positive", err);
    if (call->top_p <= 0 || call->top_p >= 1)
        return refuse_range("top_p", "above 0.0 and below 1.0", err);
    if (call->typical_p <= 0 || call->typical_p >= 1)
        return refuse_range("typical_p", "above 0.0 and below 1.0", err);
    if (call->best_of > 1 && !sampled)
        return openai_refuse(err, "best_of", "invalid_value",
                             "`best_of` above 1 needs sampling: set `do_sample`");
    if (call->best_of > 1 && call->req->sampling.has_seed)
        return openai_refuse(err, "seed", "invalid_value",
                             "`seed` cannot be set when `best_of` is above 1");
    if (call->best_of > 1 && call->stream)
        return openai_refuse(err, "best_of", "invalid_value",
                             "`best_of` above 1 is not possible in a stream");
    if (call->input_details && call->stream)
        return openai_refuse(err, "decoder_input_details", "invalid_value",
                             "`decoder_input_details` is not possible in a stream");
    return SL_OK;
}

/* Sampling is on when it is asked for, or when something is set that means nothing without it. */
static bool is_sampled(const tgi_call *call)
{
    return call->do_sample || call->top_k > 0 || !isnan(call->top_p) || !isnan(call->typical_p) ||
           (!isnan(call->temperature) && call->temperature != 1);
}

static float given_or(double value, double other)
{
    return (float)(isnan(value) ? other : value);
}

/* From what the caller said to what the request is. */
static void settle(tgi_call *call, bool sampled)
{
    llm_request *req = call->req;
    llm_sampling *s = &req->sampling;

    s->temperature = sampled ? given_or(call->temperature, 1) : 0;
    s->top_p = given_or(call->top_p, 1);
    s->typical_p = given_or(call->typical_p, 1);
    s->repetition_penalty = given_or(call->repetition_penalty, 1);
    s->top_k = (int32_t)call->top_k;
    if (sampled && !s->has_seed) { /* drawn here: answers tell it */
        sl_random_bytes(&s->seed, sizeof s->seed);
        s->seed >>= 1; /* JSON readers know signed integers */
        s->has_seed = true;
    }
    req->max_tokens = call->max_new_tokens > 0 ? call->max_new_tokens : -1;
    req->no_special = !call->add_special;
    req->n = (uint32_t)call->best_of;
    req->include_stop = true; /* as the original: the text ends with it */
    call->details = call->form != TGI_VERTEX && (call->details || call->input_details);
    req->echo = call->details && call->input_details;
    req->token_details = req->every_token = call->details || call->stream;
    req->logprobs = req->token_details || req->n > 1;
    if (!req->logprobs)
        req->top_logprobs = 0;
}

static const body_schema *body_of(tgi_form form)
{
    switch (form) {
    case TGI_COMPAT:
        return &tgi_compat_body;
    case TGI_VERTEX:
        return &tgi_vertex_body;
    default:
        return &tgi_generate_body;
    }
}

static sl_status parse_root(const json_t *root, void *ctx, openai_error *err)
{
    tgi_call *call = ctx;
    const field_target to = { .req = call->req, .call = call };
    bool sampled;

    SL_TRY(body_read(body_of(call->form), root, &to, err));
    sampled = is_sampled(call);
    SL_TRY(check(call, sampled, err));
    if (call->req->prompt_count * (size_t)call->best_of > SL_PROMPTS_MAX)
        return openai_refuse(err, "best_of", "invalid_value",
                             "instances times `best_of` may be at most %d", SL_PROMPTS_MAX);
    settle(call, sampled);
    return SL_OK;
}

sl_status tgi_parse(tgi_form form, const char *body, size_t len, tgi_call *ret, openai_error *err)
{
    tgi_call call = { .form = form,
                      .stream = form == TGI_STREAM,
                      .do_sample = true, /* the default when there are no parameters */
                      .add_special = true,
                      .best_of = 1,
                      .temperature = NAN,
                      .top_p = NAN,
                      .typical_p = NAN,
                      .repetition_penalty = NAN };

    SL_TRY(parse_request(body, len, LLM_COMPLETE, parse_root, &call, &call.req, err));
    *ret = call;
    return SL_OK;
}
