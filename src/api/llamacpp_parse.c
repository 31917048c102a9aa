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

#define TOKENS_MAX ((int64_t)1 << 31)
#define NUMBER_MAX 1e9

/* ---- what is refused ----------------------------------------------------------------------- */

/* Which values of a field mean that it is not used. */
typedef enum neutral {
    NEUTRAL_EMPTY,    /* false, 0, "" and [] */
    NEUTRAL_NULL,     /* none but null: {} is a schema too */
    NEUTRAL_NEGATIVE, /* numbers below 0 */
    NEUTRAL_POSITIVE, /* numbers up to 0: larger ones switch it on */
    NEUTRAL_ONE,      /* numbers up to 1 */
} neutral;

static const struct {
    const char *name;
    neutral neutral;
} refused[] = {
    { "grammar", NEUTRAL_EMPTY },
    { "json_schema", NEUTRAL_NULL },
    { "mirostat", NEUTRAL_EMPTY },
    { "dry_multiplier", NEUTRAL_EMPTY },
    { "dynatemp_range", NEUTRAL_EMPTY },
    { "xtc_probability", NEUTRAL_POSITIVE },
    { "top_n_sigma", NEUTRAL_POSITIVE },
    { "adaptive_target", NEUTRAL_NEGATIVE },
    { "lora", NEUTRAL_EMPTY },
    { "image_data", NEUTRAL_EMPTY },
    { "multimodal_data", NEUTRAL_EMPTY },
    { "system_prompt", NEUTRAL_EMPTY },
    { "n_indent", NEUTRAL_POSITIVE },
    { "t_max_predict_ms", NEUTRAL_POSITIVE },
    { "min_keep", NEUTRAL_ONE },
    { "n_cmpl", NEUTRAL_ONE },
    { "return_progress", NEUTRAL_EMPTY },
    { "post_sampling_probs", NEUTRAL_EMPTY },
    { "response_fields", NEUTRAL_EMPTY },
};

static bool is_neutral(const json_t *v, neutral n)
{
    double x = json_number_value(v);

    if (n == NEUTRAL_NULL)
        return false;
    if (!json_is_number(v))
        return json_is_false(v) || (json_is_string(v) && json_string_length(v) == 0) ||
               (json_is_array(v) && json_array_size(v) == 0);
    switch (n) {
    case NEUTRAL_NEGATIVE:
        return x < 0;
    case NEUTRAL_POSITIVE:
        return x <= 0;
    case NEUTRAL_ONE:
        return x <= 1;
    default:
        return x == 0;
    }
}

static sl_status refuse_unsupported(const json_t *root, openai_error *err)
{
    for (size_t i = 0; i < SL_COUNT_OF(refused); i++) {
        const json_t *v = field(root, refused[i].name);

        if (v && !is_neutral(v, refused[i].neutral))
            return openai_refuse(err, refused[i].name, "unsupported_parameter",
                                 "'%s' is not supported by this server", refused[i].name);
    }
    return SL_OK;
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

static sl_status parse_prompts(const json_t *root, llamacpp_tokenizer t, llamacpp_call *call,
                               openai_error *err)
{
    const json_t *v = field(root, "prompt");
    llm_request *req = call->req;
    bool many = json_is_array(v) && !json_is_integer(json_array_get(v, 0)) && !is_mixed(v);
    size_t count = many ? json_array_size(v) : 1;
    char param[32];

    if (!v)
        return openai_refuse(err, "prompt", "missing_required_parameter", "'prompt' is missing");
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

static sl_status parse_logit_bias(const json_t *root, llm_request *req, llamacpp_tokenizer t,
                                  openai_error *err)
{
    json_t *v = (json_t *)field(root, "logit_bias"); /* jansson iterates non-const objects */
    const char *key;
    json_t *value;
    size_t i;

    if (!v)
        return SL_OK;
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
    return (llamacpp_call){ .id_slot = -1, .samplers = LLAMACPP_SAMPLERS_ALL };
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

static sl_status parse_samplers(const json_t *root, unsigned *ret, openai_error *err)
{
    const json_t *v = field(root, "samplers");
    unsigned bits = 0;
    size_t next = 0;

    if (!v)
        return SL_OK;
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
    *ret = bits;
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

static sl_status parse_sampling(const json_t *root, llamacpp_call *call, openai_error *err)
{
    llm_sampling *s = &call->req->sampling;
    int64_t top_k = s->top_k, last_n = s->penalty_last_n, seed = -1;

    SL_TRY(take_num(root, "temperature", -NUMBER_MAX, NUMBER_MAX, &s->temperature, err));
    SL_TRY(take_int(root, "top_k", INT32_MIN, INT32_MAX, &top_k, err));
    SL_TRY(take_num(root, "top_p", -NUMBER_MAX, NUMBER_MAX, &s->top_p, err));
    SL_TRY(take_num(root, "min_p", -NUMBER_MAX, NUMBER_MAX, &s->min_p, err));
    SL_TRY(take_num(root, "typical_p", -NUMBER_MAX, NUMBER_MAX, &s->typical_p, err));
    SL_TRY(take_num(root, "repeat_penalty", 0.01, 100, &s->repetition_penalty, err));
    SL_TRY(take_num(root, "presence_penalty", -100, 100, &s->presence_penalty, err));
    SL_TRY(take_num(root, "frequency_penalty", -100, 100, &s->frequency_penalty, err));
    SL_TRY(take_int(root, "repeat_last_n", -1, INT32_MAX, &last_n, err));
    SL_TRY(take_int(root, "seed", INT64_MIN, INT64_MAX, &seed, err));
    SL_TRY(take_bool(root, "ignore_eos", &s->ignore_eos, err));
    SL_TRY(parse_samplers(root, &call->samplers, err));
    s->temperature = SL_MAX(s->temperature, 0);
    s->top_k = (int32_t)SL_MAX(top_k, 0);
    s->top_p = clamp01(s->top_p);
    s->min_p = clamp01(s->min_p);
    s->typical_p = clamp01(s->typical_p);
    s->penalty_last_n = (int32_t)last_n;
    s->has_seed = (uint32_t)seed != UINT32_MAX; /* -1, as the 32 bits that llama.cpp keeps */
    s->seed = (uint32_t)seed;
    drop_samplers(s, call->samplers);
    return SL_OK;
}

/* ---- all of it ----------------------------------------------------------------------------- */

/* "speculative.n_max" as llama.cpp spells it, 0 for none, or our "spec_tokens", 0 for the default.
 */
static sl_status parse_speculation(const json_t *root, llm_request *req, openai_error *err)
{
    int64_t spec = 0;

    SL_TRY(take_int(root, "speculative.n_max", 0, INT32_MAX, &spec, err));
    if (field(root, "speculative.n_max"))
        spec = spec == 0 ? -1 : SL_MIN(spec, SL_SPEC_TOKENS_MAX);
    SL_TRY(take_int(root, "spec_tokens", -1, SL_SPEC_TOKENS_MAX, &spec, err));
    req->spec_tokens = (int32_t)spec;
    return SL_OK;
}

static sl_status parse_root(const json_t *root, llamacpp_tokenizer t, llamacpp_call *call,
                            openai_error *err)
{
    llm_request *req = call->req;
    int64_t max = -1, n_probs = 0;
    bool cache_prompt = true;

    SL_TRY(take_model(root, req, err));
    SL_TRY(refuse_unsupported(root, err));
    SL_TRY(parse_sampling(root, call, err));
    SL_TRY(take_int(root, "max_tokens", INT32_MIN, TOKENS_MAX, &max, err));
    SL_TRY(take_int(root, "n_predict", INT32_MIN, TOKENS_MAX, &max, err));
    SL_TRY(take_int(root, "n_probs", 0, SL_TOP_LOGPROBS_MAX, &n_probs, err));
    SL_TRY(take_int(root, "id_slot", INT32_MIN, INT32_MAX, &call->id_slot, err));
    SL_TRY(take_bool(root, "stream", &call->stream, err));
    SL_TRY(take_bool(root, "cache_prompt", &cache_prompt, err));
    SL_TRY(take_bool(root, "return_tokens", &call->return_tokens, err));
    SL_TRY(take_bool(root, "timings_per_token", &call->timings_per_token, err));
    SL_TRY(parse_speculation(root, req, err));
    if (field(root, "stop"))
        SL_TRY(take_stops(field(root, "stop"), "stop", true, req, err));
    req->max_tokens = SL_MAX(max, -1);
    req->logprobs = n_probs > 0;
    req->top_logprobs = (int32_t)n_probs;
    req->no_prefix_cache = !cache_prompt;
    req->every_token = call->stream;
    SL_TRY(parse_logit_bias(root, req, t, err));
    return parse_prompts(root, t, call, err);
}

sl_status llamacpp_parse(const char *body, size_t len, llamacpp_tokenizer tokenizer,
                         llamacpp_call *ret, openai_error *err)
{
    llamacpp_call call = llamacpp_call_default();
    json_t *root = NULL;
    sl_status status;

    SL_TRY(parse_object(body, len, &root, err));
    call.req = llm_request_create(LLM_COMPLETE, OPENAI_ARENA_MAX);
    if (call.req) {
        call.req->sampling = llamacpp_sampling_default();
        status = parse_root(root, tokenizer, &call, err);
    } else {
        status = refuse_size(err);
    }
    json_decref(root);
    if (status != SL_OK) {
        llm_request_destroy(call.req);
        return status;
    }
    *ret = call;
    return SL_OK;
}
