/* ollama_parse.c - bodies of /api/generate, /api/chat, /api/embed and /api/embeddings to
 * llm_request.
 *
 * Unknown fields are ignored and unknown options told to the log, as Ollama does. What would change
 * the answer and does not exist here is refused by name. */
#include "api/ollama.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/fields.h"
#include "api/grounds.h"
#include "base/duration.h"

#define NUMBER_MAX 1e9

/* ---- durations ----------------------------------------------------------------------------- */

bool ollama_duration(const json_t *v, int64_t *ret_ns)
{
    if (json_is_string(v))
        return sl_duration_parse(json_string_value(v), ret_ns);
    if (!json_is_number(v) || !isfinite(json_number_value(v)))
        return false;
    *ret_ns = sl_duration_ns(json_number_value(v) * 1e9);
    return true;
}

/* ---- options ------------------------------------------------------------------------------- */

static sl_status take_top_k(const json_t *v, const field_rule *rule, const field_target *to,
                            openai_error *err)
{
    int64_t top_k = 0;

    SL_TRY(to_int(v, rule->name, INT32_MIN, INT32_MAX, &top_k, err));
    to->req->sampling.top_k = (int32_t)SL_MAX(top_k, 0);
    return SL_OK;
}

/* -1 draws one. */
static sl_status take_seed(const json_t *v, const field_rule *rule, const field_target *to,
                           openai_error *err)
{
    int64_t seed = 0;

    SL_TRY(to_int(v, rule->name, INT64_MIN, INT64_MAX, &seed, err));
    to->req->sampling.has_seed = seed != -1;
    to->req->sampling.seed = (uint64_t)seed;
    return SL_OK;
}

/* 0 and below: to the context's end. */
static sl_status take_num_predict(const json_t *v, const field_rule *rule, const field_target *to,
                                  openai_error *err)
{
    int64_t n = 0;

    SL_TRY(to_int(v, rule->name, INT32_MIN, INT32_MAX, &n, err));
    to->req->max_tokens = n > 0 ? n : -1;
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
#define INTEGER(field_name, fn, flag, text)                                                        \
    {                                                                                              \
        .name = field_name, .kind = FIELD_OTHER, .take = fn, .gives = flag,                        \
        .json_schema = "{\"type\":\"integer\"}", .help = text                                      \
    }
#define NO_EFFECT(field_name, text)                                                                \
    {                                                                                              \
        .name = field_name, .kind = FIELD_OTHER, .support = FIELD_NO_EFFECT, .help = text          \
    }

static const field_rule option_rules[] = {
    NUMBER("temperature", temperature, 0, 100, "default 0.8; 0 is greedy"),
    INTEGER("top_k", take_top_k, LLM_GIVEN_TOP_K, "default 40; 0: all"),
    NUMBER("top_p", top_p, 0, 1, "default 0.9"),
    NUMBER("min_p", min_p, 0, 1, "default 0"),
    NUMBER("typical_p", typical_p, 0, 1, "default 1"),
    NUMBER("repeat_penalty", repetition_penalty, 0.01, 10, "default 1: off"),
    NUMBER("presence_penalty", presence_penalty, -NUMBER_MAX, NUMBER_MAX, "default 0"),
    NUMBER("frequency_penalty", frequency_penalty, -NUMBER_MAX, NUMBER_MAX, "default 0"),
    { .name = "repeat_last_n",
      .kind = FIELD_INT,
      IN_REQUEST(sampling.penalty_last_n),
      .min = -1,
      .max = INT32_MAX,
      .help = "default 64; 0: penalties off, -1: the whole sequence" },
    INTEGER("seed", take_seed, LLM_GIVEN_SEED, "default -1: a random one"),
    INTEGER("num_predict", take_num_predict, LLM_GIVEN_MAX_TOKENS,
            "default -1: to the context's end"),
    { .name = "num_ctx",
      .kind = FIELD_INT,
      IN_REQUEST(context_max),
      .min = 1,
      .max = INT32_MAX,
      .help = "prompt and answer together; at most, and by default, what the server gives the "
              "model" },
    { .name = "stop",
      .kind = FIELD_OTHER,
      .take = take_stop,
      .gives = LLM_GIVEN_STOP,
      .json_schema = "{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":"
                     "{\"type\":\"string\"}}]}" },
    NO_EFFECT("num_keep", "a context is never shifted"),
    NO_EFFECT("num_batch", "the scheduler sizes its steps"),
    NO_EFFECT("num_gpu", NULL),
    NO_EFFECT("main_gpu", NULL),
    NO_EFFECT("use_mmap", NULL),
    NO_EFFECT("num_thread", "the configuration says how many"),
    NO_EFFECT("draft_num_predict", NULL),
};
const body_schema ollama_options_body = { .name = "OllamaOptions",
                                          .rules = option_rules,
                                          .count = SL_COUNT_OF(option_rules) };

static const field_rule *find_option(const char *name)
{
    for (size_t i = 0; i < SL_COUNT_OF(option_rules); i++)
        if (strcmp(option_rules[i].name, name) == 0)
            return &option_rules[i];
    return NULL;
}

static void note_unknown(const json_t *options, ollama_call *call)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)options, key, value)
    {
        if (find_option(key))
            continue;
        if (call->unknown_count++ == 0)
            snprintf(call->unknown, sizeof call->unknown, "%s", key);
    }
}

/* Ollama's words for an option of the wrong type. */
static void say_option_type(openai_error *err)
{
    const field_rule *r = find_option(err->param);
    const char *type = "array of strings";
    char name[OPENAI_PARAM_BYTES];

    if (!r || strcmp(err->code, "invalid_type") != 0)
        return;
    if (r->kind == FIELD_NUM)
        type = "float32";
    else if (r->take != take_stop)
        type = "integer";
    memcpy(name, err->param, sizeof name);
    openai_refuse(err, name, "invalid_type", "option \"%s\" must be of type %s", name, type);
}

static sl_status take_options(const json_t *v, const field_rule *rule, const field_target *to,
                              openai_error *err)
{
    sl_status status;

    if (!json_is_object(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "'options' must be an object, but is %s", json_kind(v));
    status = body_read(&ollama_options_body, v, to, err);
    if (status == SL_EINVAL)
        say_option_type(err);
    if (to->call)
        note_unknown(v, to->call);
    return body_nest(status, rule->name, err);
}

sl_status ollama_check_options(const json_t *options, openai_error *err)
{
    static const field_rule rule = { .name = "parameters" };
    llm_request *req = llm_request_create(LLM_CHAT, OPENAI_ARENA_MAX);
    sl_status status =
        req ? take_options(options, &rule, &(field_target){ .req = req }, err) : refuse_size(err);

    llm_request_destroy(req);
    return status;
}

static llm_sampling sampling_default(void)
{
    llm_sampling s = llm_sampling_default();

    s.temperature = 0.8f;
    s.top_k = 40;
    s.top_p = 0.9f;
    s.penalty_last_n = 64;
    return s;
}

/* ---- what the bodies share ----------------------------------------------------------------- */

static sl_status take_keep_alive(const json_t *v, const field_rule *rule, const field_target *to,
                                 openai_error *err)
{
    if (ollama_duration(v, &to->req->keep_alive_ns))
        return SL_OK;
    return openai_refuse(err, rule->name, "invalid_value",
                         "Invalid 'keep_alive': expected a duration as \"5m\", a number of "
                         "seconds, 0 to unload or a negative one to stay");
}

#define MODEL_RULE                                                                                 \
    {                                                                                              \
        .name = "model", .kind = FIELD_OTHER, .required = true, .take = take_model_name,           \
        .json_schema = "{\"type\":\"string\"}"                                                     \
    }
#define OPTIONS_RULE                                                                               \
    {                                                                                              \
        .name = "options", .kind = FIELD_OTHER, .take = take_options,                              \
        .body = &ollama_options_body, .help = "others are ignored and logged"                      \
    }
#define KEEP_ALIVE_RULE                                                                            \
    {                                                                                              \
        .name = "keep_alive", .kind = FIELD_OTHER, .take = take_keep_alive,                        \
        .json_schema = "{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"number\"}]}",                \
        .help = "how long the model stays loaded: \"5m\", seconds, 0: unload, negative: for ever"  \
    }

static const field_rule generation_rules[] = {
    MODEL_RULE,
    OPTIONS_RULE,
    KEEP_ALIVE_RULE,
    { .name = "stream", .kind = FIELD_BOOL, IN_CALL(ollama_call, stream), .help = "default true" },
    { .name = "format",
      .kind = FIELD_OTHER,
      .support = FIELD_REFUSED_TRUE,
      .help = "answers cannot be held to JSON or a schema yet" },
    { .name = "think",
      .kind = FIELD_OTHER,
      .support = FIELD_REFUSED_TRUE,
      .help = "thinking is not told apart from the answer yet" },
    { .name = "logprobs", .kind = FIELD_BOOL, IN_REQUEST(logprobs) },
    { .name = "top_logprobs",
      .kind = FIELD_INT,
      IN_REQUEST(top_logprobs),
      .min = 0,
      .max = SL_TOP_LOGPROBS_MAX,
      .help = "needs logprobs" },
    { .name = "truncate",
      .kind = FIELD_BOOL,
      IN_REQUEST(truncate),
      .help = "default true: what does not fit the context loses its oldest part" },
    NO_EFFECT("shift", "a context is never shifted: generation ends at its end"),
};
static const body_schema generation_body = { .name = "OllamaGenerationFields",
                                             .rules = generation_rules,
                                             .count = SL_COUNT_OF(generation_rules) };

/* ---- generate ------------------------------------------------------------------------------ */

static sl_status take_context(const json_t *v, const field_rule *rule, const field_target *to,
                              openai_error *err)
{
    llm_request *req = to->req;
    size_t count = json_array_size(v);
    int32_t *ids;

    if (!json_is_array(v) || count > SL_MODEL_CONTEXT_MAX)
        return openai_refuse(err, rule->name, "invalid_type",
                             "'context' must be an array of token ids, as an answer gave it");
    ids = sl_arena_alloc(&req->arena, (count + 1) * sizeof *ids);
    if (!ids)
        return refuse_size(err);
    for (size_t i = 0; i < count; i++) {
        if (!field_is_token(json_array_get(v, i)))
            return openai_refuse(err, rule->name, "invalid_value", "'context[%zu]' is no token id",
                                 i);
        ids[i] = (int32_t)json_integer_value(json_array_get(v, i));
    }
    req->context_ids = ids;
    req->context_id_count = count;
    return SL_OK;
}

static const field_rule generate_rules[] = {
    { .name = "prompt",
      .kind = FIELD_STR,
      IN_CALL(ollama_call, prompt),
      .help = "empty: the model is only loaded, or unloaded with keep_alive 0" },
    { .name = "system",
      .kind = FIELD_STR,
      IN_CALL(ollama_call, system),
      .help = "instead of the model's" },
    { .name = "template",
      .kind = FIELD_STR,
      IN_CALL(ollama_call, template_text),
      .max = 1024 * 1024,
      .help = "instead of the model's; Jinja, or Go as in Modelfiles" },
    { .name = "raw",
      .kind = FIELD_BOOL,
      IN_CALL(ollama_call, raw),
      .help = "the prompt as it is, without a template" },
    { .name = "context",
      .kind = FIELD_OTHER,
      .take = take_context,
      .json_schema = "{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"minimum\":0}}",
      .help = "of an earlier answer, which this one goes on from" },
    { .name = "suffix",
      .kind = FIELD_STR,
      .support = FIELD_REFUSED_TRUE,
      .help = "insertion needs a model made for it" },
    { .name = "images",
      .kind = FIELD_OTHER,
      .support = FIELD_REFUSED_TRUE,
      .help = "models here read text only" },
    GROUNDS_RULE,
};
const body_schema ollama_generate_body = { .name = "OllamaGenerateRequest",
                                           .rules = generate_rules,
                                           .count = SL_COUNT_OF(generate_rules),
                                           .base = &generation_body };

static sl_status check_raw(const ollama_call *call, openai_error *err)
{
    if (!call->raw || (!call->template_text && !call->system && !call->req->context_id_count))
        return SL_OK;
    return openai_refuse(err, "raw", "invalid_value",
                         "raw mode does not support template, system, or context");
}

/* The prompt as text, or as a conversation of one message. */
static sl_status finish_generate(ollama_call *call, openai_error *err)
{
    llm_request *req = call->req;
    json_t *system = NULL, *user;

    SL_TRY(check_raw(call, err));
    req->chat_template = call->template_text && call->template_text[0] ? call->template_text : NULL;
    req->load_only = !call->prompt || !call->prompt[0];
    if (call->raw) {
        req->task = LLM_COMPLETE;
        req->prompts = sl_arena_alloc(&req->arena, sizeof *req->prompts);
        if (!req->prompts)
            return refuse_size(err);
        req->prompts[0].text = call->prompt ? call->prompt : "";
        req->prompts[0].text_len = strlen(req->prompts[0].text);
        req->prompt_count = 1;
        return SL_OK;
    }
    if (call->system && call->system[0])
        system = json_pack("{s:s, s:s}", "role", "system", "content", call->system);
    user = json_pack("{s:s, s:s}", "role", "user", "content", call->prompt ? call->prompt : "");
    req->messages = json_array();
    if ((call->system && call->system[0] && json_array_append_new(req->messages, system) != 0) ||
        json_array_append_new(req->messages, user) != 0)
        return refuse_size(err);
    return SL_OK;
}

/* ---- chat ---------------------------------------------------------------------------------- */

static sl_status copy_text(const json_t *msg, const char *from, json_t *into, const char *to,
                           openai_error *err)
{
    json_t *v = (json_t *)(uintptr_t)field(msg, from);

    if (!v)
        return SL_OK;
    if (!json_is_string(v))
        return openai_refuse(err, from, "invalid_type", "'messages': '%s' must be a string", from);
    return json_object_set(into, to, v) == 0 ? SL_OK : refuse_size(err);
}

static bool has_role(const json_t *msg)
{
    static const char *const roles[] = { "system", "user", "assistant", "tool" };
    const char *role = json_string_value(json_object_get(msg, "role"));

    for (size_t i = 0; role && i < SL_COUNT_OF(roles); i++)
        if (strcmp(role, roles[i]) == 0)
            return true;
    return false;
}

static sl_status take_message(const json_t *msg, size_t idx, json_t *into, openai_error *err)
{
    json_t *calls = (json_t *)(uintptr_t)field(msg, "tool_calls");
    char path[32];

    snprintf(path, sizeof path, "messages[%zu]", idx);
    if (!json_is_object(msg))
        return openai_refuse(err, path, "invalid_type", "'%s' must be an object, but is %s", path,
                             json_kind(msg));
    if (!has_role(msg))
        return openai_refuse(err, path, "invalid_value",
                             "invalid role in '%s': expected system, user, assistant or tool",
                             path);
    if (json_array_size(json_object_get(msg, "images")) > 0)
        return openai_refuse(err, path, "unsupported_parameter",
                             "'%s.images' is not supported: models here read text only", path);
    if (calls && !json_is_array(calls))
        return openai_refuse(err, path, "invalid_type", "'%s.tool_calls' must be an array", path);
    if (json_object_set(into, "role", json_object_get(msg, "role")) != 0 ||
        json_object_set_new(into, "content", json_string("")) != 0 ||
        (json_array_size(calls) > 0 && json_object_set(into, "tool_calls", calls) != 0))
        return refuse_size(err);
    SL_TRY(copy_text(msg, "content", into, "content", err));
    SL_TRY(copy_text(msg, "thinking", into, "reasoning_content", err));
    SL_TRY(copy_text(msg, "tool_name", into, "name", err));
    return copy_text(msg, "tool_call_id", into, "tool_call_id", err);
}

static sl_status take_messages(const json_t *v, const field_rule *rule, const field_target *to,
                               openai_error *err)
{
    if (!json_is_array(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "'messages' must be an array, but is %s", json_kind(v));
    for (size_t i = 0; i < json_array_size(v); i++) {
        json_t *msg = json_object();

        if (!msg || json_array_append_new(to->req->messages, msg) != 0)
            return refuse_size(err);
        SL_TRY(take_message(json_array_get(v, i), i, msg, err));
    }
    return SL_OK;
}

static const field_rule chat_rules[] = {
    { .name = "messages",
      .kind = FIELD_OTHER,
      .take = take_messages,
      .json_schema = "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{"
                     "\"role\":{\"enum\":[\"system\",\"user\",\"assistant\",\"tool\"]},"
                     "\"content\":{\"type\":\"string\"}},\"required\":[\"role\"]}}",
      .help = "empty: the model is only loaded, or unloaded with keep_alive 0" },
    { .name = "tools",
      .kind = FIELD_OTHER,
      .support = FIELD_REFUSED_TRUE,
      .help = "tool calls are not parsed yet" },
    GROUNDS_RULE,
};
const body_schema ollama_chat_body = { .name = "OllamaChatRequest",
                                       .rules = chat_rules,
                                       .count = SL_COUNT_OF(chat_rules),
                                       .base = &generation_body };

/* ---- embeddings ---------------------------------------------------------------------------- */

static sl_status add_input(const json_t *v, llm_request *req, openai_error *err)
{
    llm_prompt *p = &req->prompts[req->prompt_count];
    size_t len = json_string_length(v);

    if (!json_is_string(v))
        return openai_refuse(err, "input", "invalid_type", "invalid input type");
    p->text = sl_arena_strndup(&req->arena, json_string_value(v), len);
    p->text_len = len;
    req->prompt_count++;
    return p->text ? SL_OK : refuse_size(err);
}

/* An empty text alone asks for nothing, as an empty array does. */
static sl_status take_input(const json_t *v, const field_rule *rule, const field_target *to,
                            openai_error *err)
{
    llm_request *req = to->req;
    size_t count = json_is_array(v) ? json_array_size(v) : 1;

    if (count > SL_PROMPTS_MAX)
        return openai_refuse(err, rule->name, "array_above_max_length",
                             "'%s' has %zu texts; at most %d are allowed", rule->name, count,
                             SL_PROMPTS_MAX);
    req->prompts = sl_arena_alloc(&req->arena, (count + 1) * sizeof *req->prompts);
    if (!req->prompts)
        return refuse_size(err);
    if (json_is_string(v))
        return json_string_length(v) ? add_input(v, req, err) : SL_OK;
    if (!json_is_array(v))
        return openai_refuse(err, rule->name, "invalid_type", "invalid input type");
    for (size_t i = 0; i < count; i++)
        SL_TRY(add_input(json_array_get(v, i), req, err));
    return SL_OK;
}

#define TRUNCATE_RULE                                                                              \
    {                                                                                              \
        .name = "truncate", .kind = FIELD_BOOL, IN_REQUEST(truncate),                              \
        .help = "default true: longer texts lose their end"                                        \
    }

static const field_rule embed_rules[] = {
    MODEL_RULE,
    { .name = "input",
      .kind = FIELD_OTHER,
      .take = take_input,
      .json_schema = "{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":"
                     "{\"type\":\"string\"}}]}" },
    TRUNCATE_RULE,
    { .name = "dimensions",
      .kind = FIELD_INT,
      IN_CALL(ollama_call, dimensions),
      .min = 0,
      .max = SL_MODEL_DIM_MAX,
      .help = "values kept of each vector; 0: all" },
    KEEP_ALIVE_RULE,
    OPTIONS_RULE,
};
const body_schema ollama_embed_body = { .name = "OllamaEmbedRequest",
                                        .rules = embed_rules,
                                        .count = SL_COUNT_OF(embed_rules) };

static const field_rule embeddings_rules[] = {
    MODEL_RULE,
    { .name = "prompt",
      .kind = FIELD_OTHER,
      .take = take_input,
      .json_schema = "{\"type\":\"string\"}" },
    KEEP_ALIVE_RULE,
    OPTIONS_RULE,
};
const body_schema ollama_embeddings_body = { .name = "OllamaEmbeddingsRequest",
                                             .rules = embeddings_rules,
                                             .count = SL_COUNT_OF(embeddings_rules) };

/* ---- all of them --------------------------------------------------------------------------- */

static sl_status parse_root(const json_t *root, void *ctx, openai_error *err)
{
    ollama_call *call = ctx;
    static const body_schema *const bodies[OLLAMA_KIND_COUNT] = {
        &ollama_generate_body, &ollama_chat_body, &ollama_embed_body, &ollama_embeddings_body
    };
    llm_request *req = call->req;

    req->sampling = req->dialect = sampling_default();
    req->truncate = true;
    call->stream = true;
    if (call->kind == OLLAMA_CHAT && !(req->messages = json_array()))
        return refuse_size(err);
    SL_TRY(body_read(bodies[call->kind], root, &(field_target){ .req = req, .call = call }, err));
    if (!req->logprobs)
        req->top_logprobs = 0;
    if (call->kind == OLLAMA_GENERATE)
        return finish_generate(call, err);
    req->load_only =
        call->kind == OLLAMA_CHAT ? json_array_size(req->messages) == 0 : req->prompt_count == 0;
    call->stream = call->stream && call->kind == OLLAMA_CHAT;
    return SL_OK;
}

sl_status ollama_parse(ollama_kind kind, const char *body, size_t len, ollama_call *ret,
                       openai_error *err)
{
    llm_task task = kind >= OLLAMA_EMBED ? LLM_EMBED : LLM_CHAT;
    ollama_call call = { .kind = kind };

    SL_TRY(parse_request(body, len, task, parse_root, &call, &call.req, err));
    *ret = call;
    return SL_OK;
}
