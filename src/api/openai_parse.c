/* openai_parse.c - bodies of /v1/chat/completions, /v1/completions and /v1/embeddings to
 * llm_request.
 *
 * Strict about what is known: a wrong type or range is refused and named, and so is a feature that
 * would change the answer but does not exist here. Lenient about the rest: unknown fields are
 * ignored, null means absent. */
#include "api/fields.h"
#include "api/grounds.h"
#include "api/openai_rules.h"
#include "api/schema.h"

/* ---- chat ---------------------------------------------------------------------------------- */

static sl_status take_chat_messages(const json_t *v, const field_rule *rule, const field_target *to,
                                    openai_error *err)
{
    (void)rule;
    return openai_take_messages(v, to->req, err);
}

/* Before "tools" is looked at. */
static sl_status take_tool_choice(const json_t *v, const field_rule *rule, const field_target *to,
                                  openai_error *err)
{
    openai_call *call = to->call;

    (void)rule;
    (void)err;
    call->no_tools = is_string(v, "none");
    return SL_OK;
}

static sl_status take_tools(const json_t *v, const field_rule *rule, const field_target *to,
                            openai_error *err)
{
    const openai_call *call = to->call;

    if (!json_is_array(v))
        return openai_refuse(err, rule->name, "invalid_type", "'%s' must be an array", rule->name);
    if (json_array_size(v) > 0 && !call->no_tools)
        return openai_refuse(err, rule->name, "unsupported_parameter",
                             "Unsupported parameter: '%s'. This server does not parse tool calls "
                             "yet; leave '%s' out or set 'tool_choice' to \"none\"",
                             rule->name, rule->name);
    return SL_OK;
}

static sl_status take_format(const json_t *v, const field_rule *rule, const field_target *to,
                             openai_error *err)
{
    const char *type = json_string_value(json_object_get(v, "type"));

    (void)to;
    if (!type)
        return openai_refuse(err, rule->name, "invalid_type",
                             "Invalid 'response_format': expected an object with a 'type'");
    if (strcmp(type, "text") != 0)
        return openai_refuse(err, rule->name, "unsupported_parameter",
                             "Unsupported parameter: 'response_format' of type '%.40s' is not "
                             "supported yet; only \"text\" is",
                             type);
    return SL_OK;
}

static sl_status take_modalities(const json_t *v, const field_rule *rule, const field_target *to,
                                 openai_error *err)
{
    (void)to;
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!is_string(json_array_get(v, i), "text"))
            return openai_refuse(err, rule->name, "unsupported_value",
                                 "Unsupported value in 'modalities': this server writes text only");
    return SL_OK;
}

static sl_status take_vars(const json_t *v, const field_rule *rule, const field_target *to,
                           openai_error *err)
{
    if (!json_is_object(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "'chat_template_kwargs' must be an object");
    to->req->template_vars = json_incref((json_t *)(uintptr_t)v);
    return SL_OK;
}

static sl_status take_documents(const json_t *v, const field_rule *rule, const field_target *to,
                                openai_error *err)
{
    openai_call *call = to->call;

    if (!json_is_array(v))
        return openai_refuse(err, rule->name, "invalid_type", "'documents' must be an array");
    call->documents = v;
    return SL_OK;
}

#define TOKENS(field_name, text)                                                                   \
    {                                                                                              \
        .name = field_name, .kind = FIELD_INT, IN_REQUEST(max_tokens), .min = 1,                   \
        .max = OPENAI_TOKENS_MAX, .help = text                                                     \
    }

static const field_rule chat_rules[] = {
    { .name = "messages",
      .kind = FIELD_OTHER,
      .required = true,
      .take = take_chat_messages,
      .json_schema = "{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"object\","
                     "\"properties\":{\"role\":{\"enum\":[\"system\",\"developer\",\"user\","
                     "\"assistant\",\"tool\",\"function\"]},\"content\":{\"oneOf\":["
                     "{\"type\":\"string\"},{\"type\":\"array\"},{\"type\":\"null\"}]}},"
                     "\"required\":[\"role\"]}}" },
    { .name = "tool_choice",
      .kind = FIELD_OTHER,
      .take = take_tool_choice,
      .help = "\"none\" is the only choice yet" },
    { .name = "function_call",
      .kind = FIELD_OTHER,
      .take = take_tool_choice,
      .help = "the old name of tool_choice" },
    { .name = "tools",
      .kind = FIELD_OTHER,
      .take = take_tools,
      .json_schema = "{\"type\":\"array\"}",
      .help = "refused unless tool_choice is \"none\"" },
    { .name = "functions",
      .kind = FIELD_OTHER,
      .take = take_tools,
      .json_schema = "{\"type\":\"array\"}",
      .help = "the old name of tools" },
    { .name = "response_format",
      .kind = FIELD_OTHER,
      .take = take_format,
      .json_schema = "{\"type\":\"object\",\"properties\":{\"type\":{\"const\":\"text\"}}}",
      .help = "of type text only" },
    { .name = "modalities", .kind = FIELD_OTHER, .take = take_modalities, .help = "text only" },
    TOKENS("max_tokens", NULL),
    TOKENS("max_completion_tokens", "the new name of max_tokens; wins over it"),
    { .name = "logprobs", .kind = FIELD_BOOL, IN_CALL(openai_call, logprobs) },
    { .name = "top_logprobs",
      .kind = FIELD_INT,
      IN_REQUEST(top_logprobs),
      .min = 0,
      .max = SL_TOP_LOGPROBS_MAX,
      .help = "needs logprobs" },
    { .name = "echo",
      .kind = FIELD_BOOL,
      IN_CALL(openai_call, echo),
      .help = "the answer begins with the last message, when that is of the same role" },
    { .name = "add_generation_prompt", .kind = FIELD_BOOL, IN_CALL(openai_call, add_generation) },
    { .name = "continue_final_message",
      .kind = FIELD_BOOL,
      IN_REQUEST(continue_final),
      .help = "the last message, an assistant's, goes on; excludes add_generation_prompt" },
    { .name = "chat_template",
      .kind = FIELD_STR,
      IN_REQUEST(chat_template),
      .max = SL_TEMPLATE_STRANGE_BYTES_MAX,
      .help = "a Jinja template in place of the model's" },
    { .name = "chat_template_kwargs",
      .kind = FIELD_OTHER,
      .take = take_vars,
      .json_schema = "{\"type\":\"object\"}",
      .help = "variables of the chat template" },
    { .name = "documents",
      .kind = FIELD_OTHER,
      .take = take_documents,
      .json_schema = "{\"type\":\"array\"}",
      .help = "a variable of the chat template" },
    NO_EFFECT("parallel_tool_calls", NULL),
    NO_EFFECT("reasoning_effort", NULL),
    NO_EFFECT("verbosity", NULL),
    NO_EFFECT("prediction", NULL),
    REFUSED("audio", "this server writes text only"),
    REFUSED("web_search_options", NULL),
    GROUNDS_RULE,
};
const body_schema openai_chat_body = { .name = "ChatCompletionRequest",
                                       .rules = chat_rules,
                                       .count = SL_COUNT_OF(chat_rules),
                                       .base = &openai_generation_body };

/* The variables of the template with the documents among them. */
static sl_status add_documents(const openai_call *call, openai_error *err)
{
    llm_request *req = call->req;
    json_t *vars = req->template_vars ? json_copy(req->template_vars) : json_object();

    if (!vars || json_object_set(vars, "documents", (json_t *)(uintptr_t)call->documents) != 0) {
        json_decref(vars);
        return refuse_size(err);
    }
    json_decref(req->template_vars);
    req->template_vars = vars;
    return SL_OK;
}

static sl_status check_chat(const json_t *root, openai_call *call, openai_error *err)
{
    llm_request *req = call->req;
    const json_t *last = json_array_get(req->messages, json_array_size(req->messages) - 1);

    if (req->top_logprobs > 0 && !call->logprobs)
        return openai_refuse(err, "top_logprobs", "invalid_value",
                             "'top_logprobs' is only allowed when 'logprobs' is true");
    if (req->continue_final && json_is_true(field(root, "add_generation_prompt")))
        return openai_refuse(err, "continue_final_message", "invalid_value",
                             "'continue_final_message' and 'add_generation_prompt' exclude each "
                             "other");
    if (req->continue_final && !is_string(json_object_get(last, "role"), "assistant"))
        return openai_refuse(err, "continue_final_message", "invalid_value",
                             "'continue_final_message' needs a last message of the assistant");
    if (req->continue_final)
        req->no_generation_prompt = true;
    return call->documents ? add_documents(call, err) : SL_OK;
}

/* ---- completions and embeddings ------------------------------------------------------------ */

static sl_status take_prompt(const json_t *v, const field_rule *rule, const field_target *to,
                             openai_error *err)
{
    return openai_take_prompts(v, rule->name, to->req, err);
}

static sl_status take_completion_logprobs(const json_t *v, const field_rule *rule,
                                          const field_target *to, openai_error *err)
{
    int64_t top = 0;

    SL_TRY(to_int(v, rule->name, 0, SL_TOP_LOGPROBS_MAX, &top, err));
    ((openai_call *)to->call)->logprobs = true;
    to->req->top_logprobs = (int32_t)top;
    return SL_OK;
}

#define TEXTS_SCHEMA                                                                               \
    "{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"minItems\":1,\"items\":{"             \
    "\"oneOf\":[{\"type\":\"string\"},{\"type\":\"integer\"},{\"type\":\"array\","                 \
    "\"items\":{\"type\":\"integer\"}}]}}]}"

static const field_rule completion_rules[] = {
    { .name = "prompt",
      .kind = FIELD_OTHER,
      .required = true,
      .take = take_prompt,
      .json_schema = TEXTS_SCHEMA,
      .help = "text, texts, token ids, or lists of them" },
    { .name = "echo", .kind = FIELD_BOOL, IN_REQUEST(echo) },
    { .name = "max_tokens",
      .kind = FIELD_INT,
      IN_REQUEST(max_tokens),
      .min = 0,
      .max = OPENAI_TOKENS_MAX,
      .help = "default 16; 0 with echo only" },
    { .name = "logprobs",
      .kind = FIELD_OTHER,
      .take = take_completion_logprobs,
      .json_schema = "{\"type\":\"integer\",\"minimum\":0,\"maximum\":20}" },
    { .name = "best_of",
      .kind = FIELD_INT,
      IN_CALL(openai_call, best_of),
      .min = 1,
      .max = SL_CHOICES_MAX,
      .help = "the n likeliest of so many are told; not for streams" },
    { .name = "suffix",
      .kind = FIELD_STR,
      .support = FIELD_REFUSED_TRUE,
      .help = "insertion needs a model made for it" },
    { .name = "response_format",
      .kind = FIELD_OTHER,
      .take = take_format,
      .help = "of type text only" },
    REFUSED("prompt_embeds", NULL),
    GROUNDS_REFUSED,
};
const body_schema openai_completion_body = { .name = "CompletionRequest",
                                             .rules = completion_rules,
                                             .count = SL_COUNT_OF(completion_rules),
                                             .base = &openai_generation_body };

static sl_status check_completion(openai_call *call, openai_error *err)
{
    llm_request *req = call->req;

    if (req->max_tokens == 0 && !req->echo)
        return openai_refuse(err, "max_tokens", "integer_below_min_value",
                             "Invalid 'max_tokens': expected a value >= 1, but got 0 instead");
    if (call->best_of != 0 && call->best_of < (int64_t)call->n)
        return openai_refuse(err, "best_of", "invalid_value",
                             "Invalid 'best_of': it must be at least 'n' (%u)", call->n);
    if (call->best_of > (int64_t)call->n && call->stream)
        return openai_refuse(err, "best_of", "invalid_value",
                             "'best_of' above 'n' cannot be streamed: the best is known at the "
                             "end");
    if (call->best_of > (int64_t)call->n) {
        req->n = (uint32_t)call->best_of;
        req->logprobs = true; /* they tell which is best */
    }
    if (req->prompt_count * req->n > OPENAI_CHOICES_TOTAL)
        return openai_refuse(err, "n", "invalid_value",
                             "Invalid 'n': prompts x n may be at most %d", OPENAI_CHOICES_TOTAL);
    return SL_OK;
}

static sl_status take_encoding(const json_t *v, const field_rule *rule, const field_target *to,
                               openai_error *err)
{
    openai_call *call = to->call;

    call->base64 = is_string(v, "base64");
    if (!call->base64 && !is_string(v, "float"))
        return openai_refuse(err, rule->name, "invalid_value",
                             "Invalid 'encoding_format': expected \"float\" or \"base64\"");
    return SL_OK;
}

/* By the names that Cohere's, Voyage's and NVIDIA's clients use. */
static sl_status take_input_type(const json_t *v, const field_rule *rule, const field_target *to,
                                 openai_error *err)
{
    static const struct {
        const char *name;
        llm_embed_as as;
    } kinds[] = { { "query", LLM_EMBED_QUERY },
                  { "search_query", LLM_EMBED_QUERY },
                  { "passage", LLM_EMBED_PASSAGE },
                  { "search_document", LLM_EMBED_PASSAGE },
                  { "document", LLM_EMBED_PASSAGE } };

    for (size_t i = 0; i < SL_COUNT_OF(kinds); i++)
        if (is_string(v, kinds[i].name)) {
            to->req->embed_as = kinds[i].as;
            return SL_OK;
        }
    return openai_refuse(err, rule->name, "invalid_value",
                         "Invalid 'input_type': expected \"query\" or \"passage\"");
}

static const field_rule embedding_rules[] = {
    { .name = "model",
      .kind = FIELD_OTHER,
      .take = take_model_name,
      .json_schema = "{\"type\":\"string\"}" },
    { .name = "input",
      .kind = FIELD_OTHER,
      .required = true,
      .take = take_prompt,
      .json_schema = TEXTS_SCHEMA,
      .help = "text, texts, token ids, or lists of them" },
    { .name = "encoding_format",
      .kind = FIELD_OTHER,
      .take = take_encoding,
      .json_schema = "{\"enum\":[\"float\",\"base64\"]}" },
    { .name = "dimensions",
      .kind = FIELD_INT,
      IN_CALL(openai_call, dimensions),
      .min = 1,
      .max = SL_MODEL_DIM_MAX,
      .help = "cuts the vectors and makes their length 1 again" },
    { .name = "input_type",
      .kind = FIELD_OTHER,
      .take = take_input_type,
      .json_schema = "{\"enum\":[\"query\",\"search_query\",\"passage\",\"document\","
                     "\"search_document\"]}",
      .help = "what the texts are, for models that put another prefix before queries than before "
              "passages; default: no prefix" },
    NO_EFFECT("user", NULL),
    NO_EFFECT("priority", "texts are embedded as they come"),
    { .name = "truncate_prompt_tokens",
      .kind = FIELD_INT,
      IN_REQUEST(truncate_prompt_tokens),
      .min = -1,
      .max = OPENAI_TOKENS_MAX,
      .help = "keep the last n tokens of each text; -1: as many as the model reads" },
};
const body_schema openai_embedding_body = { .name = "EmbeddingRequest",
                                            .rules = embedding_rules,
                                            .count = SL_COUNT_OF(embedding_rules) };

/* ---- all of them --------------------------------------------------------------------------- */

static sl_status check_both(const openai_call *call, openai_error *err)
{
    const llm_request *req = call->req;

    if (req->prompt_probs && call->stream)
        return openai_refuse(err, "prompt_logprobs", "invalid_value",
                             "'prompt_logprobs' cannot be streamed");
    if (req->max_tokens >= 0 && req->sampling.min_tokens > req->max_tokens)
        return openai_refuse(err, "min_tokens", "invalid_value",
                             "Invalid 'min_tokens': it must not be above 'max_tokens' (%lld)",
                             (long long)req->max_tokens);
    if (call->cache_salt && !call->cache_salt[0])
        return openai_refuse(err, "cache_salt", "invalid_value",
                             "Invalid 'cache_salt': expected a string that is not empty");
    return SL_OK;
}

static sl_status parse_root(const json_t *root, void *ctx, openai_error *err)
{
    openai_call *call = ctx;
    llm_request *req = call->req;
    const field_target to = { .req = req, .call = call };

    call->skip_special = call->add_special = call->add_generation = true;
    if (req->task == LLM_EMBED)
        return body_read(&openai_embedding_body, root, &to, err);
    if (req->task == LLM_COMPLETE)
        req->max_tokens = 16; /* OpenAI's default here */
    SL_TRY(body_read(req->task == LLM_CHAT ? &openai_chat_body : &openai_completion_body, root, &to,
                     err));
    call->n = req->n;
    req->logprobs = call->logprobs;
    req->prompt_ids = call->token_ids;
    req->show_special = !call->skip_special;
    req->no_special = !call->add_special;
    req->no_generation_prompt = !call->add_generation;
    SL_TRY(check_both(call, err));
    SL_TRY(req->task == LLM_CHAT ? check_chat(root, call, err) : check_completion(call, err));
    call->documents = NULL; /* goes with the body */
    return SL_OK;
}

sl_status openai_parse(llm_task task, const char *body, size_t len, openai_call *ret,
                       openai_error *err)
{
    openai_call call = { .req = NULL };

    SL_TRY(parse_request(body, len, task, parse_root, &call, &call.req, err));
    *ret = call;
    return SL_OK;
}

sl_status openai_settle(openai_call *call, const char *caller_id, openai_error *err)
{
    llm_request *req = call->req;
    size_t id_len = strlen(caller_id), len;
    char *tenant;

    if (!call->cache_salt)
        return SL_OK;
    len = strlen(call->cache_salt);
    tenant = sl_arena_alloc(&req->arena, id_len + len + 2);
    if (!tenant)
        return refuse_size(err);
    memcpy(tenant, caller_id, id_len);
    tenant[id_len] = '\x1f'; /* stands in no id: no salt makes another caller of this one */
    memcpy(tenant + id_len + 1, call->cache_salt, len);
    req->tenant = tenant;
    return SL_OK;
}
