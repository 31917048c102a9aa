/* openai_sampling.c - the fields that say how tokens are chosen and what is told of them: OpenAI's
 * and vLLM's. All dialects with OpenAI's names build on these tables. */
#include <stdlib.h>

#include "api/fields.h"
#include "api/openai_rules.h"
#include "api/schema.h"

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

/* An array of at most `most` token ids, into the request's arena. */
static sl_status read_ids(const json_t *v, const char *name, size_t most, llm_request *req,
                          int32_t **ret, size_t *ret_count, openai_error *err)
{
    size_t count = json_array_size(v);
    int32_t *ids;

    if (!json_is_array(v) || count > most)
        return openai_refuse(err, name, "invalid_value",
                             "Invalid '%s': expected an array of at most %zu token ids", name,
                             most);
    ids = sl_arena_alloc(&req->arena, (count + 1) * sizeof *ids);
    if (!ids)
        return refuse_size(err);
    for (size_t i = 0; i < count; i++) {
        if (!field_is_token(json_array_get(v, i)))
            return openai_refuse(err, name, "invalid_value",
                                 "Invalid '%s[%zu]': expected a token id", name, i);
        ids[i] = (int32_t)json_integer_value(json_array_get(v, i));
    }
    *ret = ids;
    *ret_count = count;
    return SL_OK;
}

static sl_status take_stop_ids(const json_t *v, const field_rule *rule, const field_target *to,
                               openai_error *err)
{
    llm_request *req = to->req;

    return read_ids(v, rule->name, SL_LOGIT_BIAS_MAX, req, &req->stop_ids, &req->stop_id_count,
                    err);
}

static sl_status take_allowed(const json_t *v, const field_rule *rule, const field_target *to,
                              openai_error *err)
{
    llm_sampling *o = &to->req->sampling;
    int32_t *ids = NULL;

    SL_TRY(read_ids(v, rule->name, SL_MODEL_VOCAB_MAX, to->req, &ids, &o->allowed_count, err));
    o->allowed = ids;
    if (o->allowed_count == 0)
        return openai_refuse(err, rule->name, "empty_array",
                             "Invalid '%s': with no token allowed nothing can be said", rule->name);
    return SL_OK;
}

static sl_status take_bad_words(const json_t *v, const field_rule *rule, const field_target *to,
                                openai_error *err)
{
    llm_request *req = to->req;
    size_t count = json_array_size(v);

    if (!json_is_array(v) || count > SL_BAD_WORDS_MAX)
        return openai_refuse(err, rule->name, "invalid_value",
                             "Invalid '%s': expected an array of at most %d strings", rule->name,
                             SL_BAD_WORDS_MAX);
    req->bad_words = sl_arena_alloc(&req->arena, (count + 1) * sizeof *req->bad_words);
    if (!req->bad_words)
        return refuse_size(err);
    for (size_t i = 0; i < count; i++) {
        const char *word = json_string_value(json_array_get(v, i));

        if (!word || !*word || strlen(word) > SL_STOP_BYTES_MAX)
            return openai_refuse(err, rule->name, "invalid_value",
                                 "Invalid '%s[%zu]': expected a string of 1 to %d bytes",
                                 rule->name, i, SL_STOP_BYTES_MAX);
        word = sl_arena_strndup(&req->arena, word, strlen(word));
        if (!word)
            return refuse_size(err);
        req->bad_words[req->bad_word_count++] = word;
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
    SL_TRY(take_bool(v, "include_usage", &call->include_usage, err));
    return take_bool(v, "continuous_usage_stats", &call->continuous_usage, err);
}

/* vLLM: the alternatives per token; 0 is the token alone. */
static sl_status take_prompt_logprobs(const json_t *v, const field_rule *rule,
                                      const field_target *to, openai_error *err)
{
    int64_t top = 0;

    SL_TRY(to_int(v, rule->name, 0, SL_TOP_LOGPROBS_MAX, &top, err));
    to->req->prompt_probs = true;
    to->req->prompt_top = (int32_t)top;
    return SL_OK;
}

#define IDS_SCHEMA "{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"minimum\":0}}"
#define LATER      "structured output is not there yet"

static const field_rule sampling_rules[] = {
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
      .max = INT32_MAX,
      .help = "tokens before the text may end by itself" },
    { .name = "seed",
      .kind = FIELD_OTHER,
      .take = take_seed,
      .gives = LLM_GIVEN_SEED,
      .json_schema = "{\"type\":\"integer\"}",
      .help = "the same seed gives the same text, whatever else the server does" },
    { .name = "spec_tokens",
      .kind = FIELD_INT,
      IN_REQUEST(spec_tokens),
      .min = -1,
      .max = SL_SPEC_TOKENS_MAX,
      .help = "tokens guessed by prompt lookup; 0: the server's default, -1: none" },
    { .name = "ignore_eos", .kind = FIELD_BOOL, IN_REQUEST(sampling.ignore_eos) },
    { .name = "include_stop_str_in_output", .kind = FIELD_BOOL, IN_REQUEST(include_stop) },
    { .name = "skip_special_tokens", .kind = FIELD_BOOL, IN_CALL(openai_call, skip_special) },
    { .name = "logit_bias",
      .kind = FIELD_OTHER,
      .take = take_logit_bias,
      .json_schema = "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"number\","
                     "\"minimum\":-100,\"maximum\":100}}" },
    { .name = "allowed_token_ids",
      .kind = FIELD_OTHER,
      .take = take_allowed,
      .json_schema = IDS_SCHEMA,
      .help = "no other token is generated, and the text ends by itself only with one of them" },
    { .name = "bad_words",
      .kind = FIELD_OTHER,
      .take = take_bad_words,
      .json_schema = "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":1}}",
      .help = "are not completed, neither at a line's beginning nor behind a space" },
    { .name = "stop",
      .kind = FIELD_OTHER,
      .take = take_stop,
      .gives = LLM_GIVEN_STOP,
      .json_schema = "{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":"
                     "{\"type\":\"string\"}}]}" },
    { .name = "stop_token_ids",
      .kind = FIELD_OTHER,
      .take = take_stop_ids,
      .json_schema = IDS_SCHEMA },
    { .name = "truncate_prompt_tokens",
      .kind = FIELD_INT,
      IN_REQUEST(truncate_prompt_tokens),
      .min = -1,
      .max = OPENAI_TOKENS_MAX,
      .help = "keep the last n tokens of the prompt; -1: as many as leave room for the answer" },
    { .name = "priority",
      .kind = FIELD_INT,
      IN_REQUEST(priority),
      .min = INT32_MIN,
      .max = INT32_MAX,
      .help = "lower is served first; who waits for half a minute is let in once in a while" },
    { .name = "cache_salt",
      .kind = FIELD_STR,
      IN_CALL(openai_call, cache_salt),
      .max = 256,
      .help = "cached prefixes are shared within one salt only" },
    NO_EFFECT("user", "a name for one's own logs"),
    NO_EFFECT("service_tier", NULL),
    NO_EFFECT("safety_identifier", NULL),
    NO_EFFECT("prompt_cache_key", "prefixes are shared without it"),
    NO_EFFECT("prompt_cache_retention", NULL),
    NO_EFFECT("spaces_between_special_tokens", NULL),
    REFUSED("structured_outputs", LATER),
    REFUSED("guided_json", LATER),
    REFUSED("guided_regex", LATER),
    REFUSED("guided_choice", LATER),
    REFUSED("guided_grammar", LATER),
    REFUSED("grammar", LATER),
    REFUSED("json_schema", LATER),
    REFUSED("logits_processors", NULL),
    REFUSED("kv_transfer_params", NULL),
    REFUSED("length_penalty", "it belongs to beam search"),
    REFUSED("moderation", NULL),
    REFUSED_TRUE("use_beam_search", NULL),
};
const body_schema openai_sampling_body = { .name = "SamplingFields",
                                           .rules = sampling_rules,
                                           .count = SL_COUNT_OF(sampling_rules) };

/* What chat and completions share beyond that. */
static const field_rule generation_rules[] = {
    { .name = "n", .kind = FIELD_INT, IN_REQUEST(n), .min = 1, .max = SL_CHOICES_MAX },
    { .name = "add_special_tokens", .kind = FIELD_BOOL, IN_CALL(openai_call, add_special) },
    { .name = "stream", .kind = FIELD_BOOL, IN_CALL(openai_call, stream) },
    { .name = "stream_options",
      .kind = FIELD_OTHER,
      .take = take_stream_options,
      .json_schema = "{\"type\":\"object\",\"properties\":{\"include_usage\":"
                     "{\"type\":\"boolean\"},\"continuous_usage_stats\":{\"type\":\"boolean\"}}}",
      .help = "include_usage: a last chunk with the usage; continuous_usage_stats: and what was "
              "used so far in each" },
    { .name = "prompt_logprobs",
      .kind = FIELD_OTHER,
      .take = take_prompt_logprobs,
      .json_schema = "{\"type\":\"integer\",\"minimum\":0,\"maximum\":20}",
      .help = "logprob and rank of the prompt's tokens, beside so many likelier ones; not for "
              "streams" },
    { .name = "return_token_ids",
      .kind = FIELD_BOOL,
      IN_CALL(openai_call, token_ids),
      .help = "adds prompt_token_ids and token_ids" },
    { .name = "return_tokens_as_token_ids",
      .kind = FIELD_BOOL,
      IN_CALL(openai_call, tokens_as_ids),
      .help = "tokens among logprobs are written \"token_id:7\"" },
    NO_EFFECT("metadata", NULL),
    NO_EFFECT("store", NULL),
};
const body_schema openai_generation_body = { .name = "GenerationFields",
                                             .rules = generation_rules,
                                             .count = SL_COUNT_OF(generation_rules),
                                             .base = &openai_sampling_body };
