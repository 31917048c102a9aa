/* watch.c - logs and metrics as configured. */
#include "app/watch.h"

#include <string.h>

#include "app/app.h"
#include "base/log.h"

/* The index of text, NULL being the first, among words ended by NULL. */
static sl_status pick(const char *key, const char *text, const char *const *words, int *ret,
                      sl_err *err)
{
    int i = 0;

    while (text && words[i] && strcmp(words[i], text) != 0)
        i++;
    if (!words[i])
        return sl_fail(err, SL_EINVAL, "%s is '%.40s'; use %s, %s or %s", key, text, words[0],
                       words[1], words[2]);
    *ret = i;
    return SL_OK;
}

static sl_status pick_format(const config *c, sl_log_format *ret, sl_err *err)
{
    static const char *const words[] = { "auto", "json", "text", NULL };
    static const sl_log_format formats[] = { SL_LOG_AUTO, SL_LOG_JSON, SL_LOG_TEXT };
    int at = 0;

    SL_TRY(pick("log.format", c->log.format, words, &at, err));
    *ret = formats[at];
    return SL_OK;
}

sl_status watch_content(const config *c, api_log_content *ret, sl_err *err)
{
    static const char *const words[] = { "none", "hash", "full", NULL };
    static const api_log_content kinds[] = { API_LOG_NONE, API_LOG_HASH, API_LOG_FULL };
    int at = 0;

    SL_TRY(pick("log.content", c->log.content, words, &at, err));
    *ret = kinds[at];
    return SL_OK;
}

/* ---- levels -------------------------------------------------------------------------------- */

typedef struct room_level {
    const char *name, *level; /* level NULL: that of all */
} room_level;

#define ROOM_LEVEL(name) { #name, c->log.levels.name },
#define ROOM_LEVELS(c)                                                                             \
    {                                                                                              \
        CONFIG_LOG_ROOMS(ROOM_LEVEL)                                                               \
    }

static sl_status check_levels(const config *c, sl_err *err)
{
    const room_level rooms[] = ROOM_LEVELS(c);
    sl_log_level level;

    if (c->log_level)
        SL_TRY(config_log_level(c->log_level, &level, err));
    for (size_t i = 0; i < SL_COUNT_OF(rooms); i++)
        if (rooms[i].level && !sl_log_level_of(rooms[i].level, &level))
            return sl_fail(err, SL_EINVAL,
                           "log.levels.%s is '%.40s'; use debug, info, warn or error",
                           rooms[i].name, rooms[i].level);
    return SL_OK;
}

sl_status watch_set_levels(const config *c, sl_err *err)
{
    const room_level rooms[] = ROOM_LEVELS(c);
    sl_log_level level = SL_LOG_INFO;

    SL_TRY(check_levels(c, err));
    if (c->log_level)
        SL_TRY(config_log_level(c->log_level, &level, err));
    sl_log_set_level(level);
    sl_log_clear_rooms();
    for (size_t i = 0; i < SL_COUNT_OF(rooms); i++)
        if (rooms[i].level && sl_log_level_of(rooms[i].level, &level))
            SL_TRY(sl_log_set_room(rooms[i].name, level, err));
    return SL_OK;
}

/* ---- life ---------------------------------------------------------------------------------- */

sl_status app_start_log(const config *c, sl_err *err)
{
    sl_log_options o = { .path = c->log.file, .repeats_max = c->log.repeats };

    SL_TRY(pick_format(c, &o.format, err));
    SL_TRY(watch_set_levels(c, err));
    return sl_log_start(&o, err);
}

/* ---- metrics ------------------------------------------------------------------------------- */

sl_status watch_compat(const config *c, unsigned *ret, sl_err *err)
{
    static const struct {
        const char *name;
        unsigned flag;
    } known[] = {
        { "vllm", API_COMPAT_VLLM },
        { "tgi", API_COMPAT_TGI },
        { "llamacpp", API_COMPAT_LLAMACPP },
    };
    unsigned flags = 0;

    for (unsigned i = 0; i < c->metrics.compat_count; i++) {
        size_t k = 0;

        while (k < SL_COUNT_OF(known) && strcmp(known[k].name, c->metrics.compat[i]) != 0)
            k++;
        if (k == SL_COUNT_OF(known))
            return sl_fail(err, SL_EINVAL, "metrics.compat: '%.40s'; use vllm, tgi or llamacpp",
                           c->metrics.compat[i]);
        flags |= known[k].flag;
    }
    *ret = flags;
    return SL_OK;
}

sl_status app_check_watch(const config *c, sl_err *err)
{
    api_log_content content;
    sl_log_format format;
    unsigned flags;

    SL_TRY(pick_format(c, &format, err));
    SL_TRY(watch_content(c, &content, err));
    SL_TRY(check_levels(c, err));
    return watch_compat(c, &flags, err);
}
