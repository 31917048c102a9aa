/* defaults.c - a model's own parameters, system prompt, template and messages. */
#include "app/defaults.h"

#include <stdio.h>
#include <stdlib.h>

#include "app/gotemplate.h"

struct model_defaults {
    atomic_int refs;
    json_t *manifest;
};

/* ---- parameters ---------------------------------------------------------------------------- */

typedef enum parameter_kind {
    PARAMETER_FLOAT,
    PARAMETER_INT,
    PARAMETER_STOPS,
    PARAMETER_NOTHING, /* means nothing here */
} parameter_kind;

typedef struct parameter {
    const char *name;
    parameter_kind kind;
    double min, max;
    uint32_t flag;
    size_t at; /* in llm_sampling: a float or an int32_t */
} parameter;

#define FLOAT(text, member, lo, hi, given)                                                         \
    {                                                                                              \
        text, PARAMETER_FLOAT, lo, hi, given, offsetof(llm_sampling, member)                       \
    }
#define OTHER(text, kind, lo, hi)                                                                  \
    {                                                                                              \
        text, kind, lo, hi, 0, 0                                                                   \
    }

static const parameter parameters[] = {
    FLOAT("temperature", temperature, 0, 100, LLM_GIVEN_TEMPERATURE),
    FLOAT("top_p", top_p, 0, 1, LLM_GIVEN_TOP_P),
    FLOAT("min_p", min_p, 0, 1, LLM_GIVEN_MIN_P),
    FLOAT("typical_p", typical_p, 0, 1, LLM_GIVEN_TYPICAL_P),
    FLOAT("repeat_penalty", repetition_penalty, 0.01, 10, LLM_GIVEN_REPETITION),
    FLOAT("presence_penalty", presence_penalty, -1e9, 1e9, LLM_GIVEN_PRESENCE),
    FLOAT("frequency_penalty", frequency_penalty, -1e9, 1e9, LLM_GIVEN_FREQUENCY),
    { "top_k", PARAMETER_INT, -1, INT32_MAX, LLM_GIVEN_TOP_K, offsetof(llm_sampling, top_k) },
    { "repeat_last_n", PARAMETER_INT, -1, INT32_MAX, LLM_GIVEN_LAST_N,
      offsetof(llm_sampling, penalty_last_n) },
    OTHER("seed", PARAMETER_INT, -9e15, 9e15),
    OTHER("num_predict", PARAMETER_INT, -2, INT32_MAX),
    OTHER("num_ctx", PARAMETER_INT, 1, INT32_MAX),
    OTHER("stop", PARAMETER_STOPS, 0, 0),
    OTHER("num_keep", PARAMETER_NOTHING, 0, 0),
    OTHER("num_batch", PARAMETER_NOTHING, 0, 0),
    OTHER("num_gpu", PARAMETER_NOTHING, 0, 0),
    OTHER("main_gpu", PARAMETER_NOTHING, 0, 0),
    OTHER("num_thread", PARAMETER_NOTHING, 0, 0),
    OTHER("use_mmap", PARAMETER_NOTHING, 0, 0),
    OTHER("draft_num_predict", PARAMETER_NOTHING, 0, 0),
};

static const parameter *find(const char *name)
{
    for (size_t i = 0; i < SL_COUNT_OF(parameters); i++)
        if (strcmp(parameters[i].name, name) == 0)
            return &parameters[i];
    return NULL;
}

bool model_parameter_is_list(const char *name)
{
    const parameter *p = find(name);

    return p && p->kind == PARAMETER_STOPS;
}

static sl_status check_stops(const json_t *v, sl_err *err)
{
    size_t count = json_is_string(v) ? 1 : json_array_size(v);

    if (!json_is_string(v) && !json_is_array(v))
        return sl_fail(err, SL_EINVAL, "parameter 'stop' must be a text or an array of texts");
    if (count > SL_STOPS_MAX)
        return sl_fail(err, SL_EINVAL, "parameter 'stop': at most %d texts", SL_STOPS_MAX);
    for (size_t i = 0; i < count; i++) {
        const json_t *s = json_is_string(v) ? v : json_array_get(v, i);

        if (json_string_length(s) == 0 || json_string_length(s) > SL_STOP_BYTES_MAX)
            return sl_fail(err, SL_EINVAL, "parameter 'stop': a text has 1 to %d bytes",
                           SL_STOP_BYTES_MAX);
    }
    return SL_OK;
}

sl_status model_parameter_check(const char *name, const json_t *value, sl_err *err)
{
    const parameter *p = find(name);
    double v = json_number_value(value);

    if (!p)
        return sl_fail(err, SL_ENOTFOUND, "unknown parameter '%.100s'", name);
    if (p->kind == PARAMETER_NOTHING)
        return SL_OK;
    if (p->kind == PARAMETER_STOPS)
        return check_stops(value, err);
    if (!json_is_number(value) ||
        (p->kind == PARAMETER_INT && v != (double)(int64_t)SL_MAX(SL_MIN(v, 9e15), -9e15)))
        return sl_fail(err, SL_EINVAL, "parameter '%s' must be %s", name,
                       p->kind == PARAMETER_INT ? "an integer" : "a number");
    if (v < p->min || v > p->max)
        return sl_fail(err, SL_EINVAL, "parameter '%s' must be from %g to %g", name, p->min,
                       p->max);
    return SL_OK;
}

sl_status model_parameter_parse(const char *name, const char *text, json_t **ret, sl_err *err)
{
    const parameter *p = find(name);
    json_t *v = NULL;
    char *end;
    double n;
    sl_status status;

    if (!p)
        return sl_fail(err, SL_ENOTFOUND, "unknown parameter '%.100s'", name);
    n = strtod(text, &end);
    if (p->kind == PARAMETER_STOPS || p->kind == PARAMETER_NOTHING)
        v = json_string(text);
    else if (end == text || *end)
        return sl_fail(err, SL_EINVAL, "parameter '%s': '%.60s' is not a number", name, text);
    else if (p->kind == PARAMETER_INT && n == (double)(int64_t)SL_MAX(SL_MIN(n, 9e15), -9e15))
        v = json_integer((json_int_t)n);
    else
        v = json_real(n);
    if (!v)
        return sl_fail(err, SL_EINVAL, "parameter '%s': the text is not UTF-8", name);
    status = model_parameter_check(name, v, err);
    if (status == SL_OK)
        *ret = v;
    else
        json_decref(v);
    return status;
}

/* ---- life ---------------------------------------------------------------------------------- */

model_defaults *model_defaults_create(const json_t *manifest)
{
    static const char *const keys[] = { "parameters", "system", "template", "messages" };
    model_defaults *d = NULL;

    for (size_t i = 0; i < SL_COUNT_OF(keys) && !d; i++)
        if (json_object_get(manifest, keys[i]))
            d = sl_calloc(1, sizeof *d);
    if (!d)
        return NULL;
    atomic_init(&d->refs, 1);
    d->manifest = json_deep_copy(manifest);
    return d;
}

model_defaults *model_defaults_ref(model_defaults *d)
{
    if (d)
        atomic_fetch_add(&d->refs, 1);
    return d;
}

void model_defaults_unref(model_defaults *d)
{
    if (!d || atomic_fetch_sub(&d->refs, 1) != 1)
        return;
    json_decref(d->manifest);
    sl_free(d);
}

/* ---- applying ------------------------------------------------------------------------------ */

static void apply_sampling(const parameter *p, const json_t *v, llm_request *req)
{
    char *now = (char *)&req->sampling + p->at;
    const char *dialect = (const char *)&req->dialect + p->at;

    /* A float and an int32_t have four bytes each. */
    if ((req->given & p->flag) || memcmp(now, dialect, 4) != 0)
        return;
    if (p->kind == PARAMETER_FLOAT)
        memcpy(now, &(float){ (float)json_number_value(v) }, 4);
    else
        memcpy(now, &(int32_t){ (int32_t)json_number_value(v) }, 4);
    if (p->flag == LLM_GIVEN_TOP_K)
        req->sampling.top_k = SL_MAX(req->sampling.top_k, 0);
}

static sl_status apply_stops(const json_t *v, llm_request *req, sl_err *err)
{
    size_t count = json_is_string(v) ? 1 : json_array_size(v);

    if (req->stop_count > 0 || (req->given & LLM_GIVEN_STOP))
        return SL_OK;
    req->stops = sl_arena_alloc(&req->arena, (count + 1) * sizeof *req->stops);
    for (size_t i = 0; req->stops && i < count; i++) {
        const json_t *s = json_is_string(v) ? v : json_array_get(v, i);

        req->stops[i] = sl_arena_strndup(&req->arena, json_string_value(s), json_string_length(s));
        if (!req->stops[i])
            req->stops = NULL;
    }
    if (!req->stops)
        return sl_fail(err, SL_ENOMEM, "request too large");
    req->stop_count = count;
    return SL_OK;
}

static sl_status apply_parameter(const char *name, const json_t *v, llm_request *req, sl_err *err)
{
    const parameter *p = find(name);
    int64_t n = (int64_t)json_number_value(v);

    if (!p || model_parameter_check(name, v, NULL) != SL_OK)
        return SL_OK; /* of a newer version's manifest */
    if (p->flag)
        apply_sampling(p, v, req);
    else if (p->kind == PARAMETER_STOPS)
        return apply_stops(v, req, err);
    else if (strcmp(name, "seed") == 0 && !req->sampling.has_seed &&
             !(req->given & LLM_GIVEN_SEED)) {
        req->sampling.has_seed = n != -1;
        req->sampling.seed = (uint64_t)n;
    } else if (strcmp(name, "num_predict") == 0 && req->max_tokens == -1 &&
               !(req->given & LLM_GIVEN_MAX_TOKENS)) {
        req->max_tokens = n > 0 ? n : -1;
    } else if (strcmp(name, "num_ctx") == 0 && req->context_max == 0) {
        req->context_max = (int32_t)n;
    }
    return SL_OK;
}

static bool begins_with_system(const json_t *messages)
{
    const char *role = json_string_value(json_object_get(json_array_get(messages, 0), "role"));

    return role && strcmp(role, "system") == 0;
}

/* The model's system prompt, unless the request has one; then its messages; then the request's. */
static sl_status apply_messages(const json_t *manifest, llm_request *req, sl_err *err)
{
    const char *system = json_string_value(json_object_get(manifest, "system"));
    const json_t *more = json_object_get(manifest, "messages");
    size_t at = begins_with_system(req->messages) ? 1 : 0;
    bool ok = true;

    if (at == 0 && system && system[0]) {
        ok = json_array_insert_new(req->messages, 0,
                                   json_pack("{s:s, s:s}", "role", "system", "content", system)) ==
             0;
        at = 1;
    }
    for (size_t i = 0; ok && req->context_id_count == 0 && i < json_array_size(more); i++)
        ok = json_array_insert_new(req->messages, at++, json_deep_copy(json_array_get(more, i))) ==
             0;
    return ok ? SL_OK : sl_fail(err, SL_ENOMEM, "request too large");
}

/* A Go template, of a Modelfile or of the request, becomes Jinja. */
static sl_status fix_template(llm_request *req, sl_err *err)
{
    const char *text = req->chat_template;
    sl_buf jinja;
    sl_status status;

    if (!text || !gotemplate_is(text))
        return SL_OK;
    sl_buf_init(&jinja, SL_TEMPLATE_BYTES_MAX);
    status = gotemplate_to_jinja(text, strlen(text), &jinja, err);
    if (status == SL_OK) {
        req->chat_template = sl_arena_strndup(&req->arena, sl_buf_str(&jinja), jinja.len);
        if (!req->chat_template)
            status = sl_fail(err, SL_ENOMEM, "request too large");
    }
    sl_buf_deinit(&jinja);
    return status;
}

sl_status model_defaults_apply(const model_defaults *d, llm_request *req, sl_err *err)
{
    const char *name, *template_text;
    json_t *v;

    if (req->task == LLM_EMBED)
        return SL_OK;
    if (!d)
        return fix_template(req, err);
    json_object_foreach(json_object_get(d->manifest, "parameters"), name, v)
        SL_TRY(apply_parameter(name, v, req, err));
    if (req->task != LLM_CHAT || !req->messages)
        return SL_OK;
    template_text = json_string_value(json_object_get(d->manifest, "template"));
    if (template_text && !req->chat_template) {
        req->chat_template = sl_arena_strndup(&req->arena, template_text, strlen(template_text));
        if (!req->chat_template)
            return sl_fail(err, SL_ENOMEM, "request too large");
    }
    SL_TRY(apply_messages(d->manifest, req, err));
    return fix_template(req, err);
}
