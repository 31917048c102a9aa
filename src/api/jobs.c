/* jobs.c - what the routes of files, uploads and batches share: pages, bodies, answers. */
#include "api/jobs.h"

#include <stdio.h>
#include <stdlib.h>

#define ARENA_BYTES_MAX (1 * SL_MIB)
#define SECONDS_MIN     3600
#define SECONDS_MAX     2592000

bool jobs_available(api *a, http_exchange *x)
{
    if (a->options.jobs.ops)
        return true;
    http_respond_error(x, 501, "invalid_request_error", NULL, "not_implemented",
                       "This server keeps no files and runs no batches");
    return false;
}

/* The room below says "Invalid 'name': why"; OpenAI's errors also carry the name by itself. */
static void read_param(openai_error *e)
{
    const char *name = strncmp(e->message, "Invalid '", 9) == 0 ? e->message + 9 : "";
    size_t len = strcspn(name, "'");

    snprintf(e->param, sizeof e->param, "%.*s", (int)SL_MIN(len, sizeof e->param - 1), name);
}

static void respond_failure(api *a, http_exchange *x, const sl_err *err)
{
    openai_error e;

    openai_error_from(err, LLM_CHAT, &e);
    e.param[0] = '\0';
    if (err->status == SL_EINVAL)
        read_param(&e);
    if (err->status == SL_ENOTFOUND)
        e.code = "not_found";
    if (err->status == SL_ELIMIT)
        e.code = "request_too_large";
    if (err->status == SL_ECONFLICT) {
        e.code = "conflict";
        http_set_header(x, "x-should-retry", "false"); /* clients retry 409, in vain */
    }
    api_respond_error(a, x, &e);
}

void jobs_respond(api *a, http_exchange *x, sl_status status, json_t *object, sl_err *err)
{
    char *text = status == SL_OK ? json_dumps(object, JSON_COMPACT) : NULL;

    if (status == SL_OK && !text)
        status = sl_fail(err, SL_ENOMEM, "out of memory for the answer");
    err->status = status;
    if (text)
        http_respond(x, 200, "application/json", text, strlen(text));
    else
        respond_failure(a, x, err);
    free(text);
    json_decref(object);
}

static sl_status read_page(const http_exchange *x, int limit_default, int limit_max, llm_page *ret,
                           openai_error *e)
{
    const char *limit = http_query(x, "limit"), *order = http_query(x, "order");
    const char *scope = http_query(x, "scope");
    char *end = NULL;
    long n = limit ? strtol(limit, &end, 10) : limit_default;

    if (limit && (end == limit || *end || n < 1 || n > limit_max))
        return openai_refuse(e, "limit", "invalid_value", "Invalid 'limit': expected 1 to %d",
                             limit_max);
    if (order && strcmp(order, "asc") != 0 && strcmp(order, "desc") != 0)
        return openai_refuse(e, "order", "invalid_value", "Invalid 'order': expected asc or desc");
    if (scope && strcmp(scope, "all") != 0)
        return openai_refuse(e, "scope", "invalid_value", "Invalid 'scope': expected all");
    *ret = (llm_page){ .after = http_query(x, "after"),
                       .limit = (int)n,
                       .ascending = order && strcmp(order, "asc") == 0,
                       .purpose = http_query(x, "purpose"),
                       .everybody = scope != NULL };
    return SL_OK;
}

bool jobs_read_page(api *a, http_exchange *x, int limit_default, int limit_max, llm_page *ret)
{
    openai_error e = { 0 };

    if (read_page(x, limit_default, limit_max, ret, &e) == SL_OK)
        return true;
    api_respond_error(a, x, &e);
    return false;
}

bool jobs_read_body(api *a, http_exchange *x, const body_schema *s, void *call, sl_arena *arena,
                    json_t **ret_root)
{
    const field_target to = { .call = call, .arena = arena };
    sl_span body = http_body(x);
    openai_error e = { 0 };
    json_t *root = NULL;
    sl_status status;

    sl_arena_init(arena, ARENA_BYTES_MAX);
    status = parse_object((const char *)body.ptr, body.len, &root, &e);
    if (status == SL_OK)
        status = body_read(s, root, &to, &e);
    if (status == SL_OK) {
        *ret_root = root;
        return true;
    }
    json_decref(root);
    sl_arena_deinit(arena);
    api_respond_error(a, x, &e);
    return false;
}

sl_status jobs_check_seconds(const char *param, int64_t seconds, openai_error *err)
{
    if (seconds >= SECONDS_MIN && seconds <= SECONDS_MAX)
        return SL_OK;
    return openai_refuse(err, param, "invalid_value", "Invalid '%s': expected %d to %d seconds",
                         param, SECONDS_MIN, SECONDS_MAX);
}

sl_status jobs_take_expires(const json_t *v, const field_rule *rule, const field_target *to,
                            openai_error *err)
{
    const char *anchor = NULL;
    int64_t seconds = 0;

    if (!json_is_object(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "Invalid type for '%s': expected an object, but got %s", rule->name,
                             json_kind(v));
    SL_TRY(body_nest(take_str(v, "anchor", &anchor, err), rule->name, err));
    SL_TRY(body_nest(take_int(v, "seconds", SECONDS_MIN, SECONDS_MAX, &seconds, err), rule->name,
                     err));
    if (!anchor || strcmp(anchor, "created_at") != 0 || seconds == 0)
        return openai_refuse(err, rule->name, "invalid_value",
                             "Invalid '%s': expected anchor 'created_at' and seconds", rule->name);
    memcpy((char *)to->call + rule->at, &seconds, sizeof seconds);
    return SL_OK;
}

sl_status jobs_take_json(const json_t *v, const field_rule *rule, const field_target *to,
                         openai_error *err)
{
    memcpy((char *)to->call + rule->at, &v, sizeof v);
    return SL_OK;
}
