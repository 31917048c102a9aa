/* serving.c - see the header. */
#include "app/serving.h"

#include <stdlib.h>
#include <yaml.h>

#include "access/access.h"
#include "app/app.h"
#include "base/log.h"
#include "base/mem.h"

/* ---- listen addresses ---------------------------------------------------------------------- */

/* Looks at one event of the document; depth counts open mappings and lists, is_key whether the next
 * scalar of the root is a key. True: this was the list. */
static bool is_list_of(const yaml_event_t *e, const char *key, int *depth, bool *is_key,
                       bool *is_wanted)
{
    bool opens = e->type == YAML_MAPPING_START_EVENT || e->type == YAML_SEQUENCE_START_EVENT;
    bool closes = e->type == YAML_MAPPING_END_EVENT || e->type == YAML_SEQUENCE_END_EVENT;

    if (*depth == 1 && *is_wanted && e->type == YAML_SEQUENCE_START_EVENT)
        return true;
    if (*depth == 1 && e->type == YAML_SCALAR_EVENT) {
        *is_wanted = *is_key && strcmp((const char *)e->data.scalar.value, key) == 0;
        *is_key = !*is_key;
    }
    *depth += opens - closes;
    if (closes && *depth == 1)
        *is_key = true;
    if (opens && *depth == 2)
        *is_wanted = false;
    return false;
}

bool serving_is_list(sl_span yaml, const char *key)
{
    yaml_parser_t parser;
    yaml_event_t e;
    int depth = 0;
    bool is_key = true, is_wanted = false, found = false, more = true;

    if (!yaml_parser_initialize(&parser))
        return false;
    yaml_parser_set_input_string(&parser, yaml.ptr, yaml.len);
    while (more && !found && yaml_parser_parse(&parser, &e)) {
        found = is_list_of(&e, key, &depth, &is_key, &is_wanted);
        more = e.type != YAML_STREAM_END_EVENT;
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&parser);
    return found;
}

/* Cuts the text at commas and spaces. */
static sl_status split_listen(serving_plan *s, const char *text, sl_err *err)
{
    size_t count = 0;

    s->listen = sl_strdup(text);
    if (!s->listen)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    for (char *save = NULL, *p = strtok_r(s->listen, ", ", &save); p;
         p = strtok_r(NULL, ", ", &save)) {
        if (count == HTTP_LISTENERS_MAX)
            return sl_fail(err, SL_ELIMIT, "listen: more than %d addresses", HTTP_LISTENERS_MAX);
        s->addresses[count++] = p;
    }
    if (count == 0)
        return sl_fail(err, SL_EINVAL, "listen: no address");
    s->options.addresses = s->addresses;
    s->options.address_count = count;
    return SL_OK;
}

sl_status serving_check(const serving_plan *s, size_t key_count, sl_err *err)
{
    for (size_t i = 0; i < s->options.address_count; i++)
        SL_TRY(access_check_bind(s->addresses[i], key_count, err));
    return SL_OK;
}

/* ---- options ------------------------------------------------------------------------------- */

static sl_status take_size(const char *text, const char *key, size_t *ret, sl_err *err)
{
    uint64_t bytes = 0;

    if (text && config_bytes(text, &bytes, err) != SL_OK)
        return sl_err_prefix(err, SL_EINVAL, "server.%s", key);
    *ret = (size_t)bytes;
    return SL_OK;
}

static sl_status take_mode(const char *text, int *ret, sl_err *err)
{
    char *end = NULL;
    long mode = text ? strtol(text, &end, 8) : 0;

    if (text && (end == text || *end || mode <= 0 || mode > 0777))
        return sl_fail(err, SL_EINVAL, "server.unix_mode: '%.20s' is no mode; write \"0660\"",
                       text);
    *ret = (int)mode;
    return SL_OK;
}

static sl_status take_options(http_server_options *o, const config *c, sl_err *err)
{
    const config_server *s = &c->server;

    *o = (http_server_options){
        .tls_certificate = s->tls.certificate,
        .tls_key = s->tls.key,
        .trusted_proxies = (const char *const *)s->trusted_proxies,
        .trusted_proxy_count = s->trusted_proxies_count,
        .forwarded_header = s->forwarded_header,
        .io_threads = s->io_threads,
        .connections_max = s->connections,
        .request_timeout_s = s->request_timeout,
        .body_timeout_s = s->body_timeout,
        .write_timeout_s = s->write_timeout,
        .ping_s = s->ping,
        .cors_origin = s->cors_origin,
    };
    if (!s->tls.certificate != !s->tls.key)
        return sl_fail(err, SL_EINVAL, "server.tls: certificate and key are needed together");
    SL_TRY(take_mode(s->unix_mode, &o->unix_mode, err));
    SL_TRY(take_size(s->head_bytes, "head_bytes", &o->head_bytes_max, err));
    SL_TRY(take_size(s->body_bytes, "body_bytes", &o->body_bytes_max, err));
    SL_TRY(take_size(s->queue_bytes, "queue_bytes", &o->queue_bytes_max, err));
    if (s->head_bytes && (o->head_bytes_max < 4 * SL_KIB || o->head_bytes_max > 1 * SL_MIB))
        return sl_fail(err, SL_EINVAL, "server.head_bytes: 4KiB to 1MiB");
    return SL_OK;
}

sl_status serving_init(serving_plan *s, const config *c, sl_err *err)
{
    sl_status status;

    *s = (serving_plan){ .listen = NULL };
    status = take_options(&s->options, c, err);
    if (status == SL_OK)
        status = split_listen(s, c->listen, err);
    if (status != SL_OK)
        serving_deinit(s);
    return status;
}

void serving_deinit(serving_plan *s)
{
    sl_free(s->listen);
    s->listen = NULL;
}

sl_status app_check_server(const config *c, sl_err *err)
{
    serving_plan plan;

    SL_TRY(serving_init(&plan, c, err));
    serving_deinit(&plan);
    return SL_OK;
}

void serving_ready(const http_server *s, size_t models)
{
    sl_buf all;

    sl_buf_init(&all, HTTP_LISTENERS_MAX * (HTTP_ADDRESS_BYTES + 16));
    http_server_addresses(s, &all);
    SL_LOG(SL_LOG_INFO, "server.ready", SL_F_STR("address", http_server_address(s)),
           SL_F_STR("addresses", sl_buf_str(&all)), SL_F_NUM("models", models),
           SL_F_STR("version", SLUICE_VERSION));
    sl_buf_deinit(&all);
}
