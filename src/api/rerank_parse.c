/* rerank_parse.c - bodies of the routes that score documents to llm_request.
 *
 * A query and documents stay what they are; only /score may pair each text with one of its own. */
#include <stdio.h>

#include "api/fields.h"
#include "api/openai_rules.h"
#include "api/rerank.h"

#define CALL(member) IN_CALL(rerank_call, member)

static sl_status take_first(const json_t *v, const field_rule *rule, const field_target *to,
                            openai_error *err)
{
    (void)rule;
    (void)err;
    ((rerank_call *)to->call)->first = v;
    return SL_OK;
}

static sl_status take_second(const json_t *v, const field_rule *rule, const field_target *to,
                             openai_error *err)
{
    (void)rule;
    (void)err;
    ((rerank_call *)to->call)->second = v;
    return SL_OK;
}

/* vLLM's switch is the other way round. */
static sl_status take_activation(const json_t *v, const field_rule *rule, const field_target *to,
                                 openai_error *err)
{
    if (!json_is_boolean(v))
        return openai_refuse(err, rule->name, "invalid_type", "'%s' must be a boolean", rule->name);
    ((rerank_call *)to->call)->raw = json_is_false(v);
    return SL_OK;
}

/* vLLM's: -1 is what the model reads. */
static sl_status take_truncate(const json_t *v, const field_rule *rule, const field_target *to,
                               openai_error *err)
{
    int64_t tokens = -1;

    SL_TRY(to_int(v, rule->name, -1, INT32_MAX, &tokens, err));
    if (tokens == 0)
        return openai_refuse(err, rule->name, "invalid_value",
                             "Invalid '%s': expected -1 or a number above 0", rule->name);
    to->req->truncate = true;
    to->req->context_max = tokens > 0 ? (int32_t)tokens : 0;
    return SL_OK;
}

#define DOCUMENT_SCHEMA                                                                            \
    "{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"object\",\"properties\":{\"text\":{\"type\":"   \
    "\"string\"}},\"required\":[\"text\"]}]}"
#define TEXTS_SCHEMA                                                                               \
    "{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":{\"type\":\"string\"}}]}"

#define MODEL_RULE                                                                                 \
    {                                                                                              \
        .name = "model", .kind = FIELD_OTHER, .take = take_model_name,                             \
        .json_schema = "{\"type\":\"string\"}",                                                    \
        .help = "a cross-encoder, the first there is by default; or a model that generates, to "   \
                "judge by its yes and no"                                                          \
    }
#define COMMON_RULES                                                                               \
    { .name = "raw_scores",                                                                        \
      .kind = FIELD_BOOL,                                                                          \
      CALL(raw),                                                                                   \
      .help = "the model's numbers, instead of their sigmoid from 0 to 1" },                       \
        { .name = "use_activation",                                                                \
          .kind = FIELD_OTHER,                                                                     \
          .take = take_activation,                                                                 \
          .json_schema = "{\"type\":\"boolean\"}",                                                 \
          .help = "false: as raw_scores" },                                                        \
        { .name = "truncate",                                                                      \
          .kind = FIELD_BOOL,                                                                      \
          IN_REQUEST(truncate),                                                                    \
          .help = "cut a document that is too long for the model instead of refusing it" },        \
        { .name = "truncate_prompt_tokens",                                                        \
          .kind = FIELD_OTHER,                                                                     \
          .take = take_truncate,                                                                   \
          .json_schema = "{\"type\":\"integer\",\"minimum\":-1}",                                  \
          .help = "cut documents so that a pair has so many tokens; -1: as many as the model "     \
                  "reads" },                                                                       \
        NO_EFFECT("user", NULL), NO_EFFECT("priority", "pairs are scored as they come")

static const field_rule list_rules[] = {
    MODEL_RULE,
    { .name = "query",
      .kind = FIELD_OTHER,
      .take = take_first,
      .required = true,
      .json_schema = "{\"type\":\"string\"}" },
    { .name = "documents",
      .kind = FIELD_OTHER,
      .take = take_second,
      .json_schema = "{\"type\":\"array\",\"minItems\":1,\"items\":" DOCUMENT_SCHEMA "}",
      .help = "required" },
    { .name = "top_n",
      .kind = FIELD_INT,
      CALL(top_n),
      .min = 1,
      .max = INT32_MAX,
      .help = "only the best so many are told" },
    { .name = "return_documents", .kind = FIELD_BOOL, CALL(texts), .help = "default true" },
    COMMON_RULES,
};
const body_schema rerank_body = { .name = "RerankRequest",
                                  .rules = list_rules,
                                  .count = SL_COUNT_OF(list_rules) };

static sl_status take_direction(const json_t *v, const field_rule *rule, const field_target *to,
                                openai_error *err)
{
    const char *text = json_string_value(v);

    (void)to;
    if (!text || (strcmp(text, "right") != 0 && strcmp(text, "Right") != 0))
        return openai_refuse(
            err, rule->name, "unsupported_value",
            "Unsupported value of '%s': documents are cut at their end (\"right\")", rule->name);
    return SL_OK;
}

static const field_rule tei_rules[] = {
    { .name = "texts",
      .kind = FIELD_OTHER,
      .take = take_second,
      .json_schema = "{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"string\"}}",
      .help = "instead of documents: the answer is then that of Text Embeddings Inference" },
    { .name = "return_text", .kind = FIELD_BOOL, CALL(texts) },
    { .name = "truncation_direction",
      .kind = FIELD_OTHER,
      .take = take_direction,
      .json_schema = "{\"enum\":[\"right\",\"Right\"]}" },
};
const body_schema rerank_tei_body = { .name = "RerankTextsRequest",
                                      .rules = tei_rules,
                                      .count = SL_COUNT_OF(tei_rules),
                                      .base = &rerank_body };

static const field_rule score_rules[] = {
    MODEL_RULE,
    { .name = "text_1",
      .kind = FIELD_OTHER,
      .take = take_first,
      .required = true,
      .json_schema = TEXTS_SCHEMA,
      .help = "a text for all of text_2, or as many as there are there" },
    { .name = "text_2",
      .kind = FIELD_OTHER,
      .take = take_second,
      .required = true,
      .json_schema = TEXTS_SCHEMA },
    COMMON_RULES,
};
const body_schema rerank_score_body = { .name = "ScoreRequest",
                                        .rules = score_rules,
                                        .count = SL_COUNT_OF(score_rules) };

rerank_form rerank_form_of(const char *body, size_t len)
{
    openai_error err;
    json_t *root = NULL;
    bool tei = false;

    if (parse_object(body, len, &root, &err) == SL_OK)
        tei = field(root, "texts") && !field(root, "documents");
    json_decref(root);
    return tei ? RERANK_TEI : RERANK_LIST;
}

/* ---- texts --------------------------------------------------------------------------------- */

/* A text, or an object that has one, to the prompt `at`. */
static sl_status put_text(const json_t *v, const char *param, llm_prompt *at, llm_request *req,
                          openai_error *err)
{
    const json_t *text = json_is_object(v) ? field(v, "text") : v;
    char *copy;

    if (!json_is_string(text))
        return openai_refuse(err, param, "invalid_type",
                             "Invalid type for '%s': expected a string%s, but got %s", param,
                             json_is_object(v) ? " as its 'text'" : "", json_kind(text ? text : v));
    copy = sl_arena_strndup(&req->arena, json_string_value(text), json_string_length(text));
    if (!copy)
        return refuse_size(err);
    *at = (llm_prompt){ .text = copy, .text_len = json_string_length(text) };
    return SL_OK;
}

/* Number i of texts, or the one text. */
static sl_status put_item(const json_t *v, const char *name, size_t i, llm_prompt *at,
                          llm_request *req, openai_error *err)
{
    char param[48];

    if (!json_is_array(v))
        return put_text(v, name, at, req, err);
    snprintf(param, sizeof param, "%s[%zu]", name, i);
    return put_text(json_array_get(v, i), param, at, req, err);
}

static sl_status check_count(size_t count, const char *name, openai_error *err)
{
    if (count == 0)
        return openai_refuse(err, name, "empty_array", "Invalid '%s': it is empty", name);
    if (count > SL_PROMPTS_MAX)
        return openai_refuse(err, name, "array_above_max_length",
                             "Invalid '%s': %zu items, at most %d are allowed", name, count,
                             SL_PROMPTS_MAX);
    return SL_OK;
}

static size_t count_of(const json_t *v)
{
    return json_is_array(v) ? json_array_size(v) : 1;
}

/* One query and documents; or, where there are several queries, as many pairs. */
static sl_status take_texts(rerank_call *call, const char *one, const char *many, openai_error *err)
{
    size_t queries = count_of(call->first), count = count_of(call->second), stride;
    llm_request *req = call->req;

    SL_TRY(check_count(queries, one, err));
    SL_TRY(check_count(count, many, err));
    if (queries > 1 && queries != count)
        return openai_refuse(
            err, many, "invalid_value",
            "Invalid '%s': %zu texts for the %zu of '%s'; expected as many, or one "
            "'%s'",
            many, count, queries, one, one);
    req->paired = queries > 1;
    stride = req->paired ? 2 : 1;
    req->prompts = sl_arena_alloc(&req->arena, 2 * count * sizeof *req->prompts);
    if (!req->prompts)
        return refuse_size(err);
    for (size_t i = 0; i < queries; i++)
        SL_TRY(put_item(call->first, one, i, &req->prompts[i * stride], req, err));
    for (size_t i = 0; i < count; i++)
        SL_TRY(put_item(call->second, many, i, &req->prompts[i * stride + 1], req, err));
    req->prompt_count = req->paired ? 2 * count : 1 + count;
    return SL_OK;
}

static sl_status parse_root(const json_t *root, void *ctx, openai_error *err)
{
    static const body_schema *const bodies[] = { &rerank_body, &rerank_tei_body,
                                                 &rerank_score_body };
    static const char *const names[][2] = { { "query", "documents" },
                                            { "query", "texts" },
                                            { "text_1", "text_2" } };
    rerank_call *call = ctx;
    const char *const *name = names[call->form];

    call->texts = call->form == RERANK_LIST;
    SL_TRY(body_read(bodies[call->form], root, &(field_target){ .req = call->req, .call = call },
                     err));
    if (!call->second)
        return openai_refuse(err, name[1], "missing_required_parameter",
                             "Missing required parameter: '%s'", name[1]);
    if (call->form != RERANK_SCORE && !json_is_string(call->first))
        return openai_refuse(err, name[0], "invalid_type",
                             "Invalid type for '%s': expected a string, but got %s", name[0],
                             json_kind(call->first));
    if (call->form != RERANK_SCORE && !json_is_array(call->second))
        return openai_refuse(err, name[1], "invalid_type",
                             "Invalid type for '%s': expected an array, but got %s", name[1],
                             json_kind(call->second));
    SL_TRY(take_texts(call, name[0], name[1], err));
    call->first = call->second = NULL; /* go with the body */
    return SL_OK;
}

sl_status rerank_parse(rerank_form form, const char *body, size_t len, rerank_call *ret,
                       openai_error *err)
{
    rerank_call call = { .form = form };

    SL_TRY(parse_request(body, len, LLM_RERANK, parse_root, &call, &call.req, err));
    *ret = call;
    return SL_OK;
}
