/* ollama_manage.c - bodies of the routes that manage models. */
#include <stdio.h>

#include "api/fields.h"
#include "api/ollama_int.h"

#define STR(field_name, member, text)                                                              \
    {                                                                                              \
        .name = field_name, .kind = FIELD_STR, IN_CALL(ollama_manage, member), .max = 1024 * 1024, \
        .help = text                                                                               \
    }
#define REFUSED(field_name, text)                                                                  \
    {                                                                                              \
        .name = field_name, .kind = FIELD_OTHER, .support = FIELD_REFUSED_TRUE, .help = text       \
    }
#define NO_EFFECT(field_name, text)                                                                \
    {                                                                                              \
        .name = field_name, .kind = FIELD_OTHER, .support = FIELD_NO_EFFECT, .help = text          \
    }
/* The old name first: the new one wins. */
#define MODEL_RULES STR("name", model, "the old name of model"), STR("model", model, NULL)
#define STREAM_RULE                                                                                \
    {                                                                                              \
        .name = "stream", .kind = FIELD_BOOL, IN_CALL(ollama_manage, stream),                      \
        .help = "default true"                                                                     \
    }
#define BODY(symbol, title, list)                                                                  \
    const body_schema symbol = { .name = title, .rules = list, .count = SL_COUNT_OF(list) }

static sl_status keep(const json_t *v, json_t **ret)
{
    json_decref(*ret);
    *ret = json_incref((json_t *)(uintptr_t)v);
    return SL_OK;
}

static sl_status take_files(const json_t *v, const field_rule *rule, const field_target *to,
                            openai_error *err)
{
    const char *name;
    json_t *digest;

    if (!json_is_object(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "'files' must be an object of names and digests");
    json_object_foreach((json_t *)(uintptr_t)v, name, digest)
    {
        const char *text = json_string_value(digest);

        if (!text || strncmp(text, "sha256:", 7) != 0)
            return openai_refuse(err, rule->name, "invalid_value",
                                 "'files': '%.100s' needs a digest as \"sha256:...\"", name);
    }
    return keep(v, &((ollama_manage *)to->call)->files);
}

static sl_status take_parameters(const json_t *v, const field_rule *rule, const field_target *to,
                                 openai_error *err)
{
    if (!json_is_object(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "'parameters' must be an object, but is %s", json_kind(v));
    SL_TRY(ollama_check_options(v, err));
    return keep(v, &((ollama_manage *)to->call)->parameters);
}

static sl_status take_messages(const json_t *v, const field_rule *rule, const field_target *to,
                               openai_error *err)
{
    size_t i;
    json_t *m;

    if (!json_is_array(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "'messages' must be an array, but is %s", json_kind(v));
    json_array_foreach((json_t *)(uintptr_t)v, i,
                       m) if (!json_is_string(json_object_get(m, "role")) ||
                              !json_is_string(json_object_get(
                                  m, "content"))) return openai_refuse(err, rule->name,
                                                                       "invalid_value",
                                                                       "'messages[%zu]' needs a "
                                                                       "role and a content",
                                                                       i);
    return keep(v, &((ollama_manage *)to->call)->messages);
}

static sl_status take_license(const json_t *v, const field_rule *rule, const field_target *to,
                              openai_error *err)
{
    ollama_manage *m = to->call;
    size_t i;
    json_t *text;

    if (json_is_string(v)) {
        json_decref(m->licenses);
        m->licenses = json_pack("[O]", v);
        return m->licenses ? SL_OK : refuse_size(err);
    }
    json_array_foreach((json_t *)(uintptr_t)v, i, text) if (!json_is_string(text)) v = NULL;
    if (!json_is_array(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "'license' must be a text or an array of texts");
    return keep(v, &m->licenses);
}

static const field_rule show_rules[] = {
    MODEL_RULES,
    { .name = "verbose",
      .kind = FIELD_BOOL,
      IN_CALL(ollama_manage, verbose),
      .help = "long arrays of model_info too" },
    NO_EFFECT("options", NULL),
};
BODY(ollama_show_body, "OllamaShowRequest", show_rules);

static const field_rule pull_rules[] = {
    MODEL_RULES,
    STREAM_RULE,
    NO_EFFECT("insecure", "certificates are always verified"),
    NO_EFFECT("username", NULL),
    NO_EFFECT("password", NULL),
};
BODY(ollama_pull_body, "OllamaPullRequest", pull_rules);

static const field_rule copy_rules[] = { STR("source", source, NULL),
                                         STR("destination", destination, NULL) };
BODY(ollama_copy_body, "OllamaCopyRequest", copy_rules);

static const field_rule delete_rules[] = { MODEL_RULES };
BODY(ollama_delete_body, "OllamaDeleteRequest", delete_rules);

static const field_rule create_rules[] = {
    MODEL_RULES,
    STREAM_RULE,
    STR("from", from, "a model of the store"),
    { .name = "files",
      .kind = FIELD_OTHER,
      .take = take_files,
      .json_schema = "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}}",
      .help = "names and digests of uploaded blobs: a GGUF file, or those of a safetensors model" },
    STR("template", template_text, "Jinja, or Go as in Modelfiles"),
    STR("system", system, "system prompt of conversations that have none"),
    { .name = "parameters",
      .kind = FIELD_OTHER,
      .take = take_parameters,
      .body = &ollama_options_body,
      .help = "for requests that leave them out" },
    { .name = "messages",
      .kind = FIELD_OTHER,
      .take = take_messages,
      .json_schema = "{\"type\":\"array\",\"items\":{\"type\":\"object\"}}",
      .help = "before those of every conversation" },
    { .name = "license",
      .kind = FIELD_OTHER,
      .take = take_license,
      .json_schema = "{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":"
                     "{\"type\":\"string\"}}]}" },
    REFUSED("adapters", "adapters are not supported yet"),
    REFUSED("draft_files", "draft models are not supported"),
    REFUSED("quantize", "models are not quantized here yet"),
    REFUSED("modelfile", "send its parts: from, parameters, template, system, messages, license"),
    REFUSED("path", "send its parts: from, parameters, template, system, messages, license"),
    REFUSED("renderer", "built-in renderers do not exist here: give a template"),
    REFUSED("parser", "built-in parsers do not exist here"),
    REFUSED("requires", "versions of Ollama mean nothing here"),
};
BODY(ollama_create_body, "OllamaCreateRequest", create_rules);

static sl_status need(const char *text, const char *name, openai_error *err)
{
    return text && text[0]
               ? SL_OK
               : openai_refuse(err, name, "missing_required_parameter", "%s is required", name);
}

sl_status ollama_parse_manage(const body_schema *s, const char *body, size_t len, sl_arena *arena,
                              ollama_manage *ret, openai_error *err)
{
    json_t *root = NULL;
    sl_status status;

    *ret = (ollama_manage){ .stream = true };
    SL_TRY(parse_object(body, len, &root, err));
    status = body_read(s, root, &(field_target){ .call = ret, .arena = arena }, err);
    json_decref(root);
    if (status != SL_OK)
        return status;
    if (s == &ollama_copy_body) {
        SL_TRY(need(ret->source, "source", err));
        return need(ret->destination, "destination", err);
    }
    SL_TRY(need(ret->model, "model", err));
    if (s == &ollama_create_body && !ret->from && json_object_size(ret->files) == 0)
        return openai_refuse(err, "from", "missing_required_parameter",
                             "neither 'from' or 'files' was specified");
    return SL_OK;
}

void ollama_manage_deinit(ollama_manage *m)
{
    json_decref(m->files);
    json_decref(m->parameters);
    json_decref(m->messages);
    json_decref(m->licenses);
}
