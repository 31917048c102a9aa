/* route.c - the routes table: a linear walk over a few dozen patterns, which costs less than a
 * microsecond and keeps the order of registration as the order of precedence. */
#include "http/http_int.h"

#include <stdio.h>

static bool is_param(const char *seg, size_t len)
{
    return len >= 3 && seg[0] == '{' && seg[len - 1] == '}';
}

static bool is_rest(const char *seg, size_t len)
{
    return is_param(seg, len) && len >= 6 && memcmp(seg + len - 4, "...}", 4) == 0;
}

bool route_pattern_ok(const char *pattern)
{
    size_t params = 0;

    for (const char *p = pattern; *p; p++)
        params += *p == '{';
    return pattern[0] == '/' && params <= PARAMS_MAX;
}

static bool take_param(http_exchange *x, const char *name, size_t name_len, const char *value,
                       size_t value_len)
{
    http_pair *p = &x->params[x->param_count];

    SL_ASSERT(x->param_count < PARAMS_MAX);
    p->name = sl_arena_strndup(&x->arena, name, name_len);
    p->value = sl_arena_strndup(&x->arena, value, value_len);
    if (!p->name || !p->value)
        return false;
    x->param_count++;
    return true;
}

/* Walks pattern and path one segment at a time. */
static bool pattern_match(http_exchange *x, const char *pattern)
{
    const char *path = x->path;

    x->param_count = 0;
    while (*pattern == '/' && *path == '/') {
        size_t pat_len = strcspn(++pattern, "/");
        size_t seg_len = strcspn(++path, "/");

        if (is_rest(pattern, pat_len))
            return *path && take_param(x, pattern + 1, pat_len - 5, path, strlen(path));
        if (is_param(pattern, pat_len)) {
            if (seg_len == 0 || !take_param(x, pattern + 1, pat_len - 2, path, seg_len))
                return false;
        } else if (pat_len != seg_len || memcmp(pattern, path, seg_len) != 0) {
            return false;
        }
        pattern += pat_len;
        path += seg_len;
    }
    return *pattern == '\0' && *path == '\0';
}

static bool method_match(const char *route_method, const char *method)
{
    return strcmp(route_method, method) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(route_method, "GET") == 0);
}

const http_route_entry *route_match(http_exchange *x, const char **ret_allow)
{
    const http_server *s = x->server;
    char allow[128];
    size_t len = 0;

    *ret_allow = NULL;
    allow[0] = '\0';
    for (size_t i = 0; i < s->route_count; i++) {
        const http_route_entry *r = &s->routes[i];

        if (!pattern_match(x, r->pattern))
            continue;
        if (method_match(r->method, x->method))
            return r;
        if (len < sizeof allow - 24)
            len += (size_t)snprintf(allow + len, sizeof allow - len, "%s%s", len ? ", " : "",
                                    strcmp(r->method, "GET") == 0 ? "GET, HEAD" : r->method);
    }
    x->param_count = 0;
    if (len > 0)
        *ret_allow = sl_arena_strndup(&x->arena, allow, len);
    return NULL;
}
