/* llamacpp_parse.c - bodies of llama.cpp's /completion to llm_request.
 *
 * As strict as the OpenAI parser about what is known: what would change the answer and does not
 * exist here is refused by name, unless it is set to its neutral value, as clients that send every
 * field do. Unknown fields are ignored. */
#include "api/llamacpp.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/fields.h"
#include "api/grounds.h"

#define TOKENS_MAX ((int64_t)1 << 31)
#define NUMBER_MAX 1e9

/* ---- fields whose off values pass ---------------------------------------------------------- */

static bool is_off(const json_t *v)
{
    return json_is_false(v) || (json_is_string(v) && json_string_length(v) == 0) ||
           (json_is_array(v) && json_array_size(v) == 0);
}

/* Numbers up to rule->max (or below 0 where max is -1) leave the feature off; clients that send
 * every field send those. */
static sl_status take_off(const json_t *v, const field_rule *rule, const field_target *to,
                          openai_error *err)
{
    double x = json_number_value(v);

    if (json_is_number(v) ? (rule->max < 0 ? x < 0 : x <= rule->max) : is_off(v))
        return SL_OK;
    return openai_refuse(err, rule->name, "unsupported_parameter",
                         "'%s' is not supported by this server", rule->name);
}

/* ---- text to ids --------------------------------------------------------------------------- */

static sl_status tokenize(const char *text, size_t len, const char *param, const char *model,
                          unsigned flags, llamacpp_tokenizer t, llamacpp_ids *out,
                          openai_error *err)
{
    sl_err why = { 0 };
    size_t count = len + 8; /* a token is a byte at least, but for special ones */

    for (int tries = 0; tries < 2; tries++) {
        size_t room = count;
        sl_status status;

        if (!sl_grow((void **)&out->ids, &out->cap, out->count + room, sizeof *out->ids,
                     SL_HTTP_BODY_BYTES_MAX))
            return refuse_size(err);
        status = t.fn(t.ctx, model, text, len, flags, out->ids + out->count, room, &count, &why);
        if (status != SL_OK) {
            why.status = status;
            openai_error_from(&why, LLM_COMPLETE, err);
            return SL_EINVAL;
        }
        if (count <= room) {
            out->count += count;
            return SL_OK;
        }
    }
    return openai_refuse(err, param, "invalid_value", "'%s' cannot be tokenized", param);
}

sl_status llamacpp_take_ids(const json_t *v, const char *param, const char *model, unsigned flags,
                            llamacpp_tokenizer t, llamacpp_ids *out, openai_error *err)
{
    if (json_is_string(v))
        return tokenize(json_string_value(v), json_string_length(v), param, model, flags, t, out,
                        err);
    if (!json_is_array(v))
        return openai_refuse(err, param, "invalid_type",
                             "'%s' must be a string or an array of strings and token ids, but is "
                             "%s",
                             param, json_kind(v));
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *item = json_array_get(v, i);

        if (json_is_string(item)) {
            SL_TRY(tokenize(json_string_value(item), json_string_length(item), param, model,
                            i > 0 ? flags & ~(unsigned)LLM_ADD_SPECIAL : flags, t, out, err));
            continue;
        }
        if (!field_is_token(item))
            return openai_refuse(err, param, "invalid_value",
                                 "'%s': element %zu is neither a string nor a token id", param, i);
        if (!sl_grow((void **)&out->ids, &out->cap, out->count + 1, sizeof *out->ids,
                     SL_HTTP_BODY_BYTES_MAX))
            return refuse_size(err);
        out->ids[out->count++] = (int32_t)json_integer_value(item);
    }
    return SL_OK;
}

/* ---- prompts ------------------------------------------------------------------------------- */

static bool has_string(const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_is_string(json_array_get(list, i)))
            return true;
    return false;
}

/* Strings beside ids, and nothing else: one prompt made of both. */
static bool is_mixed(const json_t *list)
{
    bool text = false, id = false;

    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);

        text = text || json_is_string(item);
        id = id || json_is_integer(item);
        if (!json_is_string(item) && !json_is_integer(item))
            return false;
    }
    return text && id;
}

static sl_status add_mixed(const json_t *list, const char *param, llamacpp_tokenizer t,
                           llm_request *req, openai_error *err)
{
    llamacpp_ids ids = { 0 };
    sl_status status = llamacpp_take_ids(list, param, req->model,
                                         LLM_ADD_SPECIAL | LLM_PARSE_SPECIAL, t, &ids, err);
    int32_t *own = NULL;

    if (status == SL_OK && !(own = sl_arena_alloc(&req->arena, (ids.count + 1) * sizeof *own)))
        status = refuse_size(err);
    if (status == SL_OK && ids.count == 0)
        status = openai_refuse(err, param, "empty_array", "'%s' has no tokens", param);
    if (status == SL_OK) {
        memcpy(own, ids.ids, ids.count * sizeof *own);
        req->prompts[req->prompt_count++] = (llm_prompt){ .ids = own, .id_count = ids.count };
    }
    sl_free(ids.ids);
    return status;
}

static sl_status add_prompt(const json_t *v, const char *param, llamacpp_tokenizer t,
                            llamacpp_call *call, openai_error *err)
{
    llm_request *req = call->req;
    size_t len = json_string_length(v);
    char *text;

    if (json_is_array(v))
        return has_string(v) ? add_mixed(v, param, t, req, err)
                             : add_prompt_ids(v, param, req, err);
    if (!json_is_string(v))
        return openai_refuse(err, param, "invalid_type",
                             "'%s' must be a string or an array of strings and token ids, but is "
                             "%s",
                             param, json_kind(v));
    if (!(text = sl_arena_strndup(&req->arena, json_string_value(v), len)))
        return refuse_size(err);
    call->prompts[req->prompt_count] = sl_span_of(text, len);
    req->prompts[req->prompt_count++] = (llm_prompt){ .text = text, .text_len = len };
    return SL_OK;
}

static sl_status take_prompt(const json_t *v, const field_rule *rule, const field_target *to,
                             openai_error *err)
{
    llamacpp_call *call = to->call;
    llamacpp_tokenizer t = call->tokenizer;
    llm_request *req = call->req;
    bool many = json_is_array(v) && !json_is_integer(json_array_get(v, 0)) && !is_mixed(v);
    size_t count = many ? json_array_size(v) : 1;
    char param[32];

    if (json_is_array(v) && json_array_size(v) == 0)
        return openai_refuse(err, "prompt", "empty_array", "'prompt' is empty");
    if (count > SL_PROMPTS_MAX)
        return openai_refuse(err, "prompt", "array_above_max_length",
                             "'prompt' has %zu items, at most %d are allowed", count,
                             SL_PROMPTS_MAX);
    req->prompts = sl_arena_alloc(&req->arena, count * sizeof *req->prompts);
    call->prompts = sl_arena_alloc(&req->arena, count * sizeof *call->prompts);
    if (!req->prompts || !call->prompts)
        return refuse_size(err);
    if (!many)
        return add_prompt(v, "prompt", t, call, err);
    for (size_t i = 0; i < count; i++) {
        snprintf(param, sizeof param, "prompt[%zu]", i);
        SL_TRY(add_prompt(json_array_get(v, i), param, t, call, err));
    }
    return SL_OK;
}

/* ---- logit bias ---------------------------------------------------------------------------- */

/* A number; false forbids the token. */
static bool bias_value(const json_t *v, float *ret)
{
    if (json_is_false(v))
        *ret = -INFINITY;
    else if (json_is_number(v) && fabs(json_number_value(v)) <= NUMBER_MAX)
        *ret = (float)json_number_value(v);
    else
        return false;
    return true;
}

static sl_status add_bias(llm_sampling *s, int32_t token, float bias, openai_error *err)
{
    if (s->bias_count >= SL_LOGIT_BIAS_MAX)
        return openai_refuse(err, "logit_bias", "invalid_value",
                             "'logit_bias' has more than %d tokens", SL_LOGIT_BIAS_MAX);
    s->bias[s->bias_count++] = (llm_logit_bias){ token, bias };
    return SL_OK;
}

/* Every token of the text gets the bias, as in llama.cpp. */
static sl_status add_text_bias(llm_request *req, const char *text, size_t len, float bias,
                               llamacpp_tokenizer t, openai_error *err)
{
    llamacpp_ids ids = { 0 };
    sl_status status = tokenize(text, len, "logit_bias", req->model, 0, t, &ids, err);

    for (size_t i = 0; status == SL_OK && i < ids.count; i++)
        status = add_bias(&req->sampling, ids.ids[i], bias, err);
    sl_free(ids.ids);
    return status;
}

static sl_status bias_pair(llm_request *req, const json_t *pair, size_t idx, llamacpp_tokenizer t,
                           openai_error *err)
{
    const json_t *key = json_array_get(pair, 0);
    float bias;

    if (json_array_size(pair) != 2 || !bias_value(json_array_get(pair, 1), &bias) ||
        !(field_is_token(key) || json_is_string(key)))
        return openai_refuse(err, "logit_bias", "invalid_value",
                             "'logit_bias[%zu]' must be [token id or text, bias or false]", idx);
    if (json_is_string(key))
        return add_text_bias(req, json_string_value(key), json_string_length(key), bias, t, err);
    return add_bias(&req->sampling, (int32_t)json_integer_value(key), bias, err);
}

static sl_status take_logit_bias(const json_t *bias_map, const field_rule *rule,
                                 const field_target *to, openai_error *err)
{
    llamacpp_tokenizer t = ((llamacpp_call *)to->call)->tokenizer;
    json_t *v = (json_t *)(uintptr_t)bias_map; /* jansson iterates non-const objects */
    llm_request *req = to->req;
    const char *key;
    json_t *value;
    size_t i;

    if (!json_is_array(v) && !json_is_object(v))
        return openai_refuse(err, "logit_bias", "invalid_type",
                             "'logit_bias' must be an array of pairs or an object, but is %s",
                             json_kind(v));
    req->sampling.bias = sl_arena_alloc(&req->arena, SL_LOGIT_BIAS_MAX * sizeof(llm_logit_bias));
    if (!req->sampling.bias)
        return refuse_size(err);
    json_array_foreach(v, i, value) SL_TRY(bias_pair(req, value, i, t, err));
    json_object_foreach(v, key, value)
    {
        char *end;
        long long id = strtoll(key, &end, 10);
        bool is_id = *key >= '0' && *key <= '9' && !*end && id <= INT32_MAX;
        float bias;

        if (!bias_value(value, &bias))
            return openai_refuse(err, "logit_bias", "invalid_value",
                                 "'logit_bias[\"%.40s\"]' must be a number or false", key);
        SL_TRY(is_id ? add_bias(&req->sampling, (int32_t)id, bias, err)
                     : add_text_bias(req, key, strlen(key), bias, t, err));
    }
    return SL_OK;
}

/* ---- sampling ------------------------------------------------------------------------------ */

llm_sampling llamacpp_sampling_default(void)
{
    llm_sampling s = llm_sampling_default();

    s.temperature = 0.8f;
    s.top_k = 40;
    s.top_p = 0.95f;
    s.min_p = 0.05f;
    s.penalty_last_n = 64;
    return s;
}

llamacpp_call llamacpp_call_default(void)
{
    return (llamacpp_call){
        .id_slot = -1, .seed = -1, .cache_prompt = true, .samplers = LLAMACPP_SAMPLERS_ALL
    };
}

/* llama.cpp's default order. Those without a bit are refused when their own fields switch them on,
 * so that they may stand in the list. */
static const struct {
    const char *name, *other_name;
    unsigned bit;
} known_samplers[] = {
    { "penalties", NULL, LLAMACPP_PENALTIES },
    { "dry", NULL, 0 },
    { "top_n_sigma", NULL, 0 },
    { "top_k", NULL, LLAMACPP_TOP_K },
    { "typ_p", "typical_p", LLAMACPP_TYP_P },
    { "top_p", NULL, LLAMACPP_TOP_P },
    { "min_p", NULL, LLAMACPP_MIN_P },
    { "xtc", NULL, 0 },
    { "temperature", NULL, LLAMACPP_TEMPERATURE },
};

static size_t find_sampler(const char *name)
{
    size_t i = 0;

    while (i < SL_COUNT_OF(known_samplers) && strcmp(name, known_samplers[i].name) != 0 &&
           !(known_samplers[i].other_name && strcmp(name, known_samplers[i].other_name) == 0))
        i++;
    return i;
}

static sl_status take_samplers(const json_t *v, const field_rule *rule, const field_target *to,
                               openai_error *err)
{
    unsigned bits = 0;
    size_t next = 0;

    if (!json_is_array(v))
        return openai_refuse(err, "samplers", "invalid_type",
                             "'samplers' must be an array of names, but is %s", json_kind(v));
    for (size_t i = 0; i < json_array_size(v); i++) {
        const char *name = json_string_value(json_array_get(v, i));
        size_t at = name ? find_sampler(name) : SL_COUNT_OF(known_samplers);

        if (at == SL_COUNT_OF(known_samplers))
            return openai_refuse(err, "samplers", "unsupported_value",
                                 "'samplers[%zu]': there is no sampler '%.40s'", i,
                                 name ? name : "");
        if (at < next)
            return openai_refuse(err, "samplers", "unsupported_value",
                                 "'samplers': the order is fixed here: penalties, top_k, typ_p, "
                                 "top_p, min_p, temperature; any of them may be left out");
        bits |= known_samplers[at].bit;
        next = at + 1;
    }
    ((llamacpp_call *)to->call)->samplers = bits;
    return SL_OK;
}

/* Makes samplers that were left out neutral. */
static void drop_samplers(llm_sampling *s, unsigned samplers)
{
    if (!(samplers & LLAMACPP_PENALTIES)) {
        s->repetition_penalty = 1;
        s->presence_penalty = s->frequency_penalty = 0;
    }
    if (!(samplers & LLAMACPP_TOP_K))
        s->top_k = 0;
    if (!(samplers & LLAMACPP_TYP_P))
        s->typical_p = 1;
    if (!(samplers & LLAMACPP_TOP_P))
        s->top_p = 1;
    if (!(samplers & LLAMACPP_MIN_P))
        s->min_p = 0;
    if (!(samplers & LLAMACPP_TEMPERATURE))
        s->temperature = 1;
}

static float clamp01(float p)
{
    return p < 0 ? 0 : p > 1 ? 1 : p;
}

/* What the fields mean once all are read. */
static void settle_sampling(llamacpp_call *call)
{
    llm_sampling *s = &call->req->sampling;

    s->temperature = SL_MAX(s->temperature, 0);
    s->top_k = SL_MAX(s->top_k, 0);
    s->top_p = clamp01(s->top_p);
    s->min_p = clamp01(s->min_p);
    s->typical_p = clamp01(s->typical_p);
    s->has_seed = (uint32_t)call->seed != UINT32_MAX; /* -1, as the 32 bits that llama.cpp keeps */
    s->seed = (uint32_t)call->seed;
    drop_samplers(s, call->samplers);
}

/* ---- all of it ----------------------------------------------------------------------------- */

/* "speculative.n_max" as llama.cpp spells it, 0 for none; our "spec_tokens" has 0 for the default.
 */
static sl_status take_n_max(const json_t *v, const field_rule *rule, const field_target *to,
                            openai_error *err)
{
    int64_t spec = 0;

    SL_TRY(to_int(v, rule->name, 0, INT32_MAX, &spec, err));
    to->req->spec_tokens = spec == 0 ? -1 : (int32_t)SL_MIN(spec, SL_SPEC_TOKENS_MAX);
    return SL_OK;
}

static sl_status take_stop(const json_t *v, const field_rule *rule, const field_target *to,
                           openai_error *err)
{
    return take_stops(v, rule->name, true, to->req, err);
}

#define NUMBER(field_name, member, lo, hi, text)                                                   \
    {                                                                                              \
        .name = field_name, .kind = FIELD_NUM, IN_REQUEST(sampling.member), .min = lo, .max = hi,  \
        .help = text                                                                               \
    }
#define OFF(field_name, limit, text)                                                               \
    {                                                                                              \
        .name = field_name, .kind = FIELD_OTHER, .take = take_off, .max = limit, .help = text      \
    }
#define BOUND NUMBER_MAX

static const field_rule completion_rules[] = {
    { .name = "model",
      .kind = FIELD_OTHER,
      .take = take_model_name,
      .json_schema = "{\"type\":\"string\"}",
      .help = "among several; default: the first" },
    NUMBER("temperature", temperature, -BOUND, BOUND, "default 0.8; 0 or less is greedy"),
    { .name = "top_k",
      .kind = FIELD_INT,
      IN_REQUEST(sampling.top_k),
      .min = INT32_MIN,
      .max = INT32_MAX,
      .help = "default 40; 0 or less: all" },
    NUMBER("top_p", top_p, -BOUND, BOUND, "default 0.95"),
    NUMBER("min_p", min_p, -BOUND, BOUND, "default 0.05"),
    NUMBER("typical_p", typical_p, -BOUND, BOUND, "default 1"),
    NUMBER("repeat_penalty", repetition_penalty, 0.01, 100, "default 1"),
    NUMBER("presence_penalty", presence_penalty, -100, 100, NULL),
    NUMBER("frequency_penalty", frequency_penalty, -100, 100, NULL),
    { .name = "repeat_last_n",
      .kind = FIELD_INT,
      IN_REQUEST(sampling.penalty_last_n),
      .min = -1,
      .max = INT32_MAX,
      .help = "default 64; -1: all" },
    { .name = "seed",
      .kind = FIELD_INT,
      IN_CALL(llamacpp_call, seed),
      .min = INT64_MIN,
      .max = 9.3e18,
      .help = "-1: random" },
    { .name = "ignore_eos", .kind = FIELD_BOOL, IN_REQUEST(sampling.ignore_eos) },
    { .name = "samplers",
      .kind = FIELD_OTHER,
      .take = take_samplers,
      .json_schema = "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}",
      .help = "which apply; their order is fixed" },
    { .name = "max_tokens",
      .kind = FIELD_INT,
      IN_REQUEST(max_tokens),
      .min = INT32_MIN,
      .max = TOKENS_MAX,
      .help = "another name of n_predict, which wins" },
    { .name = "n_predict",
      .kind = FIELD_INT,
      IN_REQUEST(max_tokens),
      .min = INT32_MIN,
      .max = TOKENS_MAX,
      .help = "default -1: to the context's end" },
    { .name = "n_probs",
      .kind = FIELD_INT,
      IN_REQUEST(top_logprobs),
      .min = 0,
      .max = SL_TOP_LOGPROBS_MAX },
    { .name = "id_slot",
      .kind = FIELD_INT,
      IN_CALL(llamacpp_call, id_slot),
      .min = INT32_MIN,
      .max = INT32_MAX,
      .help = "repeated in the answer; there are no slots" },
    { .name = "stream", .kind = FIELD_BOOL, IN_CALL(llamacpp_call, stream) },
    { .name = "cache_prompt",
      .kind = FIELD_BOOL,
      IN_CALL(llamacpp_call, cache_prompt),
      .help = "default true" },
    { .name = "return_tokens", .kind = FIELD_BOOL, IN_CALL(llamacpp_call, return_tokens) },
    { .name = "timings_per_token", .kind = FIELD_BOOL, IN_CALL(llamacpp_call, timings_per_token) },
    { .name = "speculative.n_max",
      .kind = FIELD_OTHER,
      .take = take_n_max,
      .json_schema = "{\"type\":\"integer\",\"minimum\":0}",
      .help = "prompt lookup; 0: none" },
    { .name = "spec_tokens",
      .kind = FIELD_INT,
      IN_REQUEST(spec_tokens),
      .min = -1,
      .max = SL_SPEC_TOKENS_MAX,
      .help = "the same; 0: the server's default, -1: none" },
    { .name = "stop",
      .kind = FIELD_OTHER,
      .take = take_stop,
      .json_schema = "{\"type\":[\"string\",\"array\"],\"items\":{\"type\":\"string\"}}" },
    { .name = "grammar", .kind = FIELD_STR, .support = FIELD_REFUSED_TRUE },
    { .name = "json_schema", .kind = FIELD_OTHER, .support = FIELD_REFUSED },
    { .name = "mirostat", .kind = FIELD_INT, .support = FIELD_REFUSED_TRUE },
    { .name = "dry_multiplier", .kind = FIELD_NUM, .support = FIELD_REFUSED_TRUE },
    { .name = "dynatemp_range", .kind = FIELD_NUM, .support = FIELD_REFUSED_TRUE },
    { .name = "lora", .kind = FIELD_OTHER, .support = FIELD_REFUSED_TRUE },
    { .name = "image_data", .kind = FIELD_OTHER, .support = FIELD_REFUSED_TRUE },
    { .name = "multimodal_data", .kind = FIELD_OTHER, .support = FIELD_REFUSED_TRUE },
    { .name = "system_prompt", .kind = FIELD_OTHER, .support = FIELD_REFUSED_TRUE },
    { .name = "return_progress", .kind = FIELD_BOOL, .support = FIELD_REFUSED_TRUE },
    { .name = "post_sampling_probs", .kind = FIELD_BOOL, .support = FIELD_REFUSED_TRUE },
    { .name = "response_fields", .kind = FIELD_OTHER, .support = FIELD_REFUSED_TRUE },
    OFF("xtc_probability", 0, "refused above 0"),
    OFF("top_n_sigma", 0, "refused above 0"),
    OFF("adaptive_target", -1, "refused from 0 on"),
    OFF("n_indent", 0, "refused above 0"),
    OFF("t_max_predict_ms", 0, "refused above 0"),
    OFF("min_keep", 1, "refused above 1"),
    OFF("n_cmpl", 1, "refused above 1"),
    { .name = "logit_bias",
      .kind = FIELD_OTHER,
      .take = take_logit_bias,
      .json_schema = "{\"type\":[\"array\",\"object\"]}",
      .help = "pairs of token or text and bias; false forbids" },
    { .name = "prompt",
      .kind = FIELD_OTHER,
      .required = true,
      .take = take_prompt,
      .json_schema = "{\"type\":[\"string\",\"array\"]}",
      .help = "text, token ids, both mixed, or a list of those" },
    GROUNDS_REFUSED,
};
const body_schema llamacpp_completion_body = { .name = "LlamaCppCompletionRequest",
                                               .rules = completion_rules,
                                               .count = SL_COUNT_OF(completion_rules) };

static sl_status parse_root(const json_t *root, void *ctx, openai_error *err)
{
    llamacpp_call *call = ctx;
    llm_request *req = call->req;

    req->sampling = req->dialect = llamacpp_sampling_default();
    SL_TRY(body_read(&llamacpp_completion_body, root, &(field_target){ .req = req, .call = call },
                     err));
    settle_sampling(call);
    req->max_tokens = SL_MAX(req->max_tokens, -1);
    req->logprobs = req->top_logprobs > 0;
    req->no_prefix_cache = !call->cache_prompt;
    req->every_token = call->stream;
    return SL_OK;
}

sl_status llamacpp_parse(const char *body, size_t len, llamacpp_tokenizer tokenizer,
                         llamacpp_call *ret, openai_error *err)
{
    llamacpp_call call = llamacpp_call_default();

    call.tokenizer = tokenizer;
    SL_TRY(parse_request(body, len, LLM_COMPLETE, parse_root, &call, &call.req, err));
    *ret = call;
    return SL_OK;
}
