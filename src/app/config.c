/* config.c - reads the configuration with libcyaml, whose schema names every key there is. */
#include "app/config_schema.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/serving.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/os.h"

#define SECRET_BYTES_MAX 8192

static const cyaml_schema_field_t upstream_fields[] = {
    STR("url", config_upstream, url),
    STR("key", config_upstream, key),
    STR("model", config_upstream, model),
    CYAML_FIELD_INT("dim", OPT, config_upstream, dim),
    CYAML_FIELD_INT("context", OPT, config_upstream, context),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t model_rag_fields[] = {
    STR("collection", config_model_rag, collection),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t model_fields[] = {
    STR("name", config_model, name),
    STR("path", config_model, path),
    CYAML_FIELD_MAPPING("upstream", OPT, config_model, upstream, upstream_fields),
    STR("query_prefix", config_model, query_prefix),
    STR("passage_prefix", config_model, passage_prefix),
    CYAML_FIELD_MAPPING("rag", OPT, config_model, rag, model_rag_fields),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t model_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, config_model, model_fields),
};
static const cyaml_schema_value_t key_schema = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, CYAML_UNLIMITED),
};
static const cyaml_schema_field_t kv_fields[] = { STR("memory", config_kv, memory),
                                                  STR("type", config_kv, type), CYAML_FIELD_END };
static const cyaml_schema_field_t engine_fields[] = {
    CYAML_FIELD_INT("context", OPT, config_engine, context),
    CYAML_FIELD_INT("sequences", OPT, config_engine, sequences),
    CYAML_FIELD_INT("queue", OPT, config_engine, queue),
    CYAML_FIELD_INT("wait_ms", OPT, config_engine, wait_ms),
    CYAML_FIELD_INT("deadline_ms", OPT, config_engine, deadline_ms),
    CYAML_FIELD_INT("step_tokens", OPT, config_engine, step_tokens),
    CYAML_FIELD_INT("mixed_prefill", OPT, config_engine, mixed_prefill),
    CYAML_FIELD_INT("speculation", OPT, config_engine, speculation),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t loading_fields[] = {
    STR("memory", config_loading, memory),
    STR("keep_alive", config_loading, keep_alive),
    CYAML_FIELD_BOOL("only_configured", OPT, config_loading, only_configured),
    STR("pull", config_loading, pull),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t rag_fields[] = {
    STR("embedding_model", config_rag, embedding_model),
    STR("chat_model", config_rag, chat_model),
    STR("rerank_model", config_rag, rerank_model),
    CYAML_FIELD_INT("chunk_tokens", OPT, config_rag, chunk_tokens),
    CYAML_FIELD_INT("overlap_tokens", OPT, config_rag, overlap_tokens),
    CYAML_FIELD_INT("top_k", OPT, config_rag, top_k),
    CYAML_FIELD_INT("answer_tokens", OPT, config_rag, answer_tokens),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t tls_fields[] = {
    STR("certificate", config_tls, certificate),
    STR("key", config_tls, key),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t server_fields[] = {
    CYAML_FIELD_INT("io_threads", OPT, config_server, io_threads),
    CYAML_FIELD_INT("connections", OPT, config_server, connections),
    CYAML_FIELD_INT("drain_seconds", OPT, config_server, drain_seconds),
    CYAML_FIELD_INT("request_timeout", OPT, config_server, request_timeout),
    CYAML_FIELD_INT("body_timeout", OPT, config_server, body_timeout),
    CYAML_FIELD_INT("write_timeout", OPT, config_server, write_timeout),
    CYAML_FIELD_INT("ping", OPT, config_server, ping),
    STR("head_bytes", config_server, head_bytes),
    STR("body_bytes", config_server, body_bytes),
    STR("queue_bytes", config_server, queue_bytes),
    STR("cors_origin", config_server, cors_origin),
    STR("unix_mode", config_server, unix_mode),
    CYAML_FIELD_MAPPING("tls", OPT, config_server, tls, tls_fields),
    CYAML_FIELD_SEQUENCE("trusted_proxies", CYAML_FLAG_POINTER | OPT, config_server,
                         trusted_proxies, &key_schema, 0, 64),
    STR("forwarded_header", config_server, forwarded_header),
    CYAML_FIELD_END,
};
#define INT64(key, type, member) CYAML_FIELD_INT(key, OPT, type, member)
static const cyaml_schema_field_t model_limits_fields[] = {
    CYAML_FIELD_STRING_PTR("model", CYAML_FLAG_POINTER, config_model_limits, model, 1,
                           CYAML_UNLIMITED),
    INT64("rpm", config_model_limits, rpm),
    INT64("rpd", config_model_limits, rpd),
    INT64("tpm", config_model_limits, tpm),
    INT64("tpd", config_model_limits, tpd),
    INT64("concurrency", config_model_limits, concurrency),
    INT64("request_tokens", config_model_limits, request_tokens),
    CYAML_FIELD_FLOAT("budget", OPT, config_model_limits, budget),
    INT64("budget_days", config_model_limits, budget_days),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t model_limits_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, config_model_limits, model_limits_fields),
};
static const cyaml_schema_field_t limits_fields[] = {
    INT64("output_default", config_limits, output_default),
    CYAML_FIELD_SEQUENCE("models", CYAML_FLAG_POINTER | OPT, config_limits, models,
                         &model_limits_schema, 0, 64),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t price_fields[] = {
    CYAML_FIELD_STRING_PTR("model", CYAML_FLAG_POINTER, config_price, model, 1, CYAML_UNLIMITED),
    CYAML_FIELD_FLOAT("input", OPT, config_price, input),
    CYAML_FIELD_FLOAT("cached_input", OPT, config_price, cached_input),
    CYAML_FIELD_FLOAT("output", OPT, config_price, output),
    STR("from", config_price, from),
    STR("until", config_price, until),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t price_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, config_price, price_fields),
};
static const cyaml_schema_field_t usage_fields[] = {
    CYAML_FIELD_INT("keep_days", OPT, config_usage, keep_days),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t jobs_fields[] = {
    STR("file_max", config_jobs, file_max),
    CYAML_FIELD_INT("concurrency", OPT, config_jobs, concurrency),
    CYAML_FIELD_END,
};
#define LOG_ROOM(name) STR(#name, config_log_levels, name),
static const cyaml_schema_field_t log_levels_fields[] = { CONFIG_LOG_ROOMS(LOG_ROOM)
                                                              CYAML_FIELD_END };
static const cyaml_schema_field_t log_fields[] = {
    STR("format", config_log, format),
    STR("content", config_log, content),
    STR("file", config_log, file),
    CYAML_FIELD_INT("repeats", OPT, config_log, repeats),
    CYAML_FIELD_MAPPING("levels", OPT, config_log, levels, log_levels_fields),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t metrics_fields[] = {
    CYAML_FIELD_SEQUENCE("compat", CYAML_FLAG_POINTER | OPT, config_metrics, compat, &key_schema, 0,
                         8),
    CYAML_FIELD_END,
};
const cyaml_schema_field_t config_root_fields[] = {
    STR("listen", config, listen),
    STR("data", config, data),
    CYAML_FIELD_INT("threads", OPT, config, threads),
    STR("log_level", config, log_level),
    CYAML_FIELD_SEQUENCE("models", CYAML_FLAG_POINTER | OPT, config, models, &model_schema, 0, 64),
    CYAML_FIELD_SEQUENCE("api_keys", CYAML_FLAG_POINTER | OPT, config, api_keys, &key_schema, 0,
                         1024),
    CYAML_FIELD_MAPPING("kv", OPT, config, kv, kv_fields),
    CYAML_FIELD_MAPPING("engine", OPT, config, engine, engine_fields),
    CYAML_FIELD_MAPPING("loading", OPT, config, loading, loading_fields),
    CYAML_FIELD_MAPPING("rag", OPT, config, rag, rag_fields),
    CYAML_FIELD_MAPPING("server", OPT, config, server, server_fields),
    CYAML_FIELD_MAPPING("auth", OPT, config, auth, config_auth_fields),
    CYAML_FIELD_MAPPING("limits", OPT, config, limits, limits_fields),
    CYAML_FIELD_SEQUENCE("prices", CYAML_FLAG_POINTER | OPT, config, prices, &price_schema, 0,
                         1024),
    CYAML_FIELD_MAPPING("usage", OPT, config, usage, usage_fields),
    CYAML_FIELD_MAPPING("metrics", OPT, config, metrics, metrics_fields),
    CYAML_FIELD_MAPPING("log", OPT, config, log, log_fields),
    CYAML_FIELD_MAPPING("jobs", OPT, config, jobs, jobs_fields),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t root_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, config, config_root_fields),
};
/* `listen` may be a list too: then this stands in the place of the first field. */
static const cyaml_schema_field_t listen_list = CYAML_FIELD_SEQUENCE(
    "listen", CYAML_FLAG_POINTER, config, listens, &key_schema, 1, HTTP_LISTENERS_MAX);

/* What the library says of a failure: a sentence, then where, from the inside out. */
typedef struct complaint {
    char text[300];
    char path[256]; /* keys joined by dots */
    unsigned line, column;
} complaint;

/* "in mapping field 'kv' (line: 3, column: 3)": the first place counts, every key goes before. */
static void note_place(complaint *c, const char *text)
{
    const char *place = strstr(text, "(line: ");
    const char *key = strstr(text, "in mapping field '");
    char inner[256], name[100] = "";

    if (place && !c->line)
        (void)sscanf(place, "(line: %u, column: %u", &c->line, &c->column);
    if (!key || sscanf(key, "in mapping field '%99[^']", name) != 1)
        return;
    memcpy(inner, c->path, sizeof inner);
    snprintf(c->path, sizeof c->path, "%.90s%s%.150s", name, inner[0] ? "." : "", inner);
}

static void on_log(cyaml_log_t level, void *ctx, const char *fmt, va_list args)
{
    complaint *c = ctx;
    char text[400];
    const char *p = text;

    (void)level;
    vsnprintf(text, sizeof text, fmt, args);
    text[strcspn(text, "\n")] = '\0';
    if (strncmp(p, "Load: ", 6) == 0)
        p += 6;
    p += strspn(p, " ");
    if (strncmp(p, "in ", 3) == 0)
        note_place(c, p);
    else if (!c->text[0] && strcmp(p, "Backtrace:") != 0)
        snprintf(c->text, sizeof c->text, "%.299s", p);
}

static void *on_mem(void *ctx, void *ptr, size_t size)
{
    (void)ctx;
    if (size == 0) {
        sl_free(ptr);
        return NULL;
    }
    return sl_realloc(ptr, size);
}

static cyaml_config_t library(complaint *c)
{
    return (cyaml_config_t){ .log_fn = on_log,
                             .log_ctx = c,
                             .log_level = CYAML_LOG_ERROR,
                             .mem_fn = on_mem,
                             .flags = CYAML_CFG_NO_ALIAS };
}

/* "file:line:column: what is wrong, and what to do". */
static sl_status refuse(const char *file, complaint *c, sl_err *err)
{
    static const char unexpected[] = "Unexpected key: ";
    static const char missing[] = "Missing required mapping field: ";
    const char *dot, *nearest;
    char where[400];

    snprintf(where, sizeof where, "%.300s:%u:%u", file, c->line, c->column);
    if (strncmp(c->text, unexpected, sizeof unexpected - 1) == 0) {
        const char *name = c->text + sizeof unexpected - 1;

        nearest = config_nearest(c->path, name);
        dot = c->path[0] ? "." : "";
        return sl_fail(err, SL_EINVAL,
                       nearest ? "%s: unknown key '%s%s%s'; did you mean '%s%s%s'?"
                               : "%s: unknown key '%s%s%s'; `sluice config schema` lists all",
                       where, c->path, dot, name, c->path, dot, nearest ? nearest : "");
    }
    if (strncmp(c->text, missing, sizeof missing - 1) == 0)
        return sl_fail(err, SL_EINVAL, "%s: the entry lacks '%s'", where,
                       c->text + sizeof missing - 1);
    return sl_fail(err, SL_EINVAL, "%s: %s%s%s", where, c->path, c->path[0] ? ": " : "", c->text);
}

/* A list of addresses becomes the one text that the rest of the program knows. */
static sl_status take_listens(config *c, sl_err *err)
{
    sl_status status = SL_OK;

    if (c->listens)
        status = config_set_listens(c, (const char *const *)c->listens, c->listens_count, err);
    for (unsigned i = 0; i < c->listens_count; i++)
        sl_free(c->listens[i]);
    sl_free(c->listens);
    c->listens = NULL;
    c->listens_count = 0;
    return status;
}

/* A model is here or elsewhere. */
static sl_status check_models(const char *file, const config *c, sl_err *err)
{
    for (unsigned i = 0; i < c->models_count; i++) {
        const config_model *m = &c->models[i];

        if ((!m->path || !m->path[0]) && !m->upstream.url)
            return sl_fail(err, SL_EINVAL,
                           "%.300s: models[%u] ('%.100s') lacks 'path' or 'upstream.url'", file, i,
                           m->name ? m->name : "");
    }
    return SL_OK;
}

sl_status config_parse(const char *name, sl_span text, config **ret, sl_err *err)
{
    cyaml_schema_field_t fields[SL_COUNT_OF(config_root_fields)];
    const cyaml_schema_value_t schema = {
        CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, config, fields),
    };
    complaint said = { "" };
    cyaml_config_t lib = library(&said);
    sl_status status;

    memcpy(fields, config_root_fields, sizeof fields);
    if (serving_is_list(text, "listen"))
        fields[0] = listen_list;
    if (text.len > 0 &&
        cyaml_load_data(text.ptr, text.len, &lib, &schema, (cyaml_data_t **)ret, NULL) != CYAML_OK)
        return refuse(name, &said, err);
    if (!*ret)
        return SL_OK;
    status = check_models(name, *ret, err);
    if (status == SL_OK)
        status = take_listens(*ret, err);
    if (status != SL_OK) {
        config_destroy(*ret);
        *ret = NULL;
    }
    return status;
}

static sl_status load_file(const char *path, config **ret, sl_err *err)
{
    sl_status status;
    sl_buf file;

    sl_buf_init(&file, 1 * SL_MIB);
    status = sl_file_read(path, 1 * SL_MIB, &file, err);
    if (status == SL_OK)
        status = config_parse(path, sl_span_of(sl_buf_str(&file), file.len), ret, err);
    sl_buf_deinit(&file);
    return status;
}

sl_status config_set(char **field, const char *value, sl_err *err)
{
    char *copy = sl_strdup(value);

    if (!copy)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    sl_free(*field);
    *field = copy;
    return SL_OK;
}

sl_status config_set_listens(config *c, const char *const *texts, size_t count, sl_err *err)
{
    sl_buf all;
    sl_status status;

    sl_buf_init(&all, 16 * SL_KIB);
    for (size_t i = 0; i < count; i++)
        sl_buf_printf(&all, "%s%s", i ? ", " : "", texts[i]);
    status = sl_buf_ok(&all, "listen addresses", err);
    if (status == SL_OK)
        status = config_set(&c->listen, sl_buf_str(&all), err);
    sl_buf_deinit(&all);
    return status;
}

sl_status config_add_model(config *c, const char *path, sl_err *err)
{
    size_t cap = c->models_count;

    if (!sl_grow((void **)&c->models, &cap, c->models_count + 1u, sizeof *c->models, 64))
        return sl_fail(err, SL_ELIMIT, "more than 64 models");
    c->models[c->models_count] = (config_model){ 0 };
    SL_TRY(config_set(&c->models[c->models_count].path, path, err));
    c->models_count++;
    return SL_OK;
}

void config_clear_models(config *c)
{
    for (unsigned i = 0; i < c->models_count; i++) {
        sl_free(c->models[i].name);
        sl_free(c->models[i].path);
        sl_free(c->models[i].upstream.url);
        sl_free(c->models[i].upstream.key);
        sl_free(c->models[i].upstream.model);
        sl_free(c->models[i].query_prefix);
        sl_free(c->models[i].passage_prefix);
    }
    c->models_count = 0;
}

sl_status config_add_key(config *c, const char *key, sl_err *err)
{
    size_t cap = c->api_keys_count;

    if (!sl_grow((void **)&c->api_keys, &cap, c->api_keys_count + 1u, sizeof *c->api_keys, 1024))
        return sl_fail(err, SL_ELIMIT, "more than 1,024 API keys");
    c->api_keys[c->api_keys_count] = NULL;
    SL_TRY(config_set(&c->api_keys[c->api_keys_count], key, err));
    c->api_keys_count++;
    return SL_OK;
}

static sl_status apply_env(config *c, sl_err *err)
{
    const char *key = getenv("SLUICE_API_KEY");

    SL_TRY(config_apply_env(c, err));
    return key && key[0] ? config_add_key(c, key, err) : SL_OK;
}

static sl_status apply_defaults(config *c, sl_err *err)
{
    const char *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    char path[4096];

    if (!c->listen)
        SL_TRY(config_set(&c->listen, "127.0.0.1:8080", err));
    if (c->data)
        return SL_OK;
    if (xdg && xdg[0] == '/')
        snprintf(path, sizeof path, "%s/sluice", xdg);
    else if (home && home[0])
        snprintf(path, sizeof path, "%s/.local/share/sluice", home);
    else
        return sl_fail(err, SL_EINVAL, "neither HOME nor XDG_DATA_HOME is set; give --data DIR");
    return config_set(&c->data, path, err);
}

sl_status config_load(const char *path, config **ret, sl_err *err)
{
    config *c = NULL;
    sl_status status = path ? load_file(path, &c, err) : SL_OK;

    if (status == SL_OK && !c) {
        c = sl_calloc(1, sizeof *c);
        if (!c)
            status = sl_fail(err, SL_ENOMEM, "out of memory");
    }
    if (status == SL_OK)
        status = apply_env(c, err);
    if (status == SL_OK)
        status = config_expand(c, err);
    if (status == SL_OK)
        status = apply_defaults(c, err);
    if (status == SL_OK)
        *ret = c;
    else
        config_destroy(c);
    return status;
}

void config_destroy(config *c)
{
    complaint ignored = { "" };
    cyaml_config_t lib = library(&ignored);

    if (c)
        cyaml_free(&lib, &root_schema, c, 0);
}

sl_status config_log_level(const char *text, sl_log_level *ret, sl_err *err)
{
    static const char *const names[SL_LOG_LEVEL_COUNT] = { "debug", "info", "warn", "error" };

    for (int i = 0; i < SL_LOG_LEVEL_COUNT; i++)
        if (strcmp(text, names[i]) == 0) {
            *ret = (sl_log_level)i;
            return SL_OK;
        }
    return sl_fail(err, SL_EINVAL, "log_level is '%.40s'; use debug, info, warn or error", text);
}

sl_status config_bytes(const char *text, uint64_t *ret, sl_err *err)
{
    static const char units[] = "kmgt";
    char *end;
    double v = strtod(text, &end);
    const char *unit;

    while (*end == ' ')
        end++;
    unit = *end ? strchr(units, tolower((unsigned char)*end)) : NULL;
    if (unit) {
        v *= (double)(1ULL << (10 * (unit - units + 1)));
        end++;
        if (*end == 'i')
            end++;
    }
    if (*end == 'B' || *end == 'b')
        end++;
    if (end == text || *end || !(v >= 1) || v > 1e15)
        return sl_fail(err, SL_EINVAL, "'%.60s' is not a size; write 512MiB or 2GiB", text);
    *ret = (uint64_t)v;
    return SL_OK;
}

sl_status config_secret(const char *text, char **ret, sl_err *err)
{
    sl_buf file;
    sl_status status;

    if (strncmp(text, "env:", 4) == 0) {
        const char *value = getenv(text + 4);

        if (!value || !value[0])
            return sl_fail(err, SL_EINVAL, "the environment variable %.100s is not set", text + 4);
        text = value;
    } else if (strncmp(text, "file:", 5) == 0) {
        sl_buf_init(&file, SECRET_BYTES_MAX);
        status = sl_file_read(text + 5, SECRET_BYTES_MAX, &file, err);
        if (status == SL_OK) {
            while (file.len > 0 && isspace((unsigned char)file.ptr[file.len - 1]))
                file.ptr[--file.len] = '\0';
            *ret = sl_strdup(sl_buf_str(&file));
        }
        sl_buf_deinit(&file);
        return status == SL_OK && !*ret ? sl_fail(err, SL_ENOMEM, "out of memory") : status;
    }
    *ret = sl_strdup(text);
    return *ret ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");
}
