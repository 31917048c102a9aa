/* spec.c - checks what an account is to be and lays it over a row. */
#include "access/spec.h"

#include <stdlib.h>

#define PASSWORD_CHARS_MIN 8

static sl_status refuse(sl_err *err, const char *field, const char *why)
{
    return sl_fail(err, SL_EINVAL, "Invalid '%s': %s", field, why);
}

/* ---- names --------------------------------------------------------------------------------- */

/* Printable UTF-8 for keys; for users and teams what is safe in URLs, logs and shells. */
static sl_status check_name(llm_account_kind kind, const char *field, const char *name, sl_err *err)
{
    size_t len = strlen(name);

    if (len == 0 || len > SL_ACCESS_NAME_BYTES_MAX || !sl_utf8_valid(name, len))
        return refuse(err, field, "a name has 1 to 128 bytes of UTF-8");
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        bool safe = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    strchr("._-@+", c);

        if (c < ' ' || c == 0x7f || (kind != LLM_ACCOUNT_KEY && !safe))
            return refuse(err, field,
                          kind == LLM_ACCOUNT_KEY
                              ? "a name has no control characters"
                              : "a name is made of letters, digits and . _ - @ +");
    }
    if (strncmp(name, "key_", 4) == 0 || strncmp(name, "user_", 5) == 0 ||
        strncmp(name, "team_", 5) == 0)
        return refuse(err, field, "a name must not look like an id");
    return SL_OK;
}

/* ---- lists --------------------------------------------------------------------------------- */

static bool is_scope(const char *text)
{
    return llm_permission_of(text) != 0;
}

static bool is_model(const char *text)
{
    size_t len = strlen(text);

    return len > 0 && len <= 256 && sl_utf8_valid(text, len);
}

static bool is_network(const char *text)
{
    access_network n;

    return network_parse(text, &n);
}

static sl_status lay_texts(const llm_texts *from, const char *field, bool (*is_good)(const char *),
                           const char *what, sl_arena *arena, const char **ret, sl_err *err)
{
    json_t *list;
    char *text;

    if (!from->is_set)
        return SL_OK;
    if (from->count > SL_ACCESS_LIST_MAX)
        return sl_fail(err, SL_EINVAL, "Invalid '%s': at most %d entries", field,
                       SL_ACCESS_LIST_MAX);
    list = json_array();
    for (size_t i = 0; i < from->count; i++) {
        if (!is_good(from->list[i])) {
            json_decref(list);
            return sl_fail(err, SL_EINVAL, "Invalid '%s': '%.100s' is not %s", field, from->list[i],
                           what);
        }
        json_array_append_new(list, json_string(from->list[i]));
    }
    text = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    *ret = text ? sl_arena_strndup(arena, text, strlen(text)) : NULL;
    free(text);
    return *ret ? SL_OK : sl_fail(err, SL_ENOMEM, "Out of memory");
}

static sl_status lay_metadata(const json_t *from, sl_arena *arena, const char **ret, sl_err *err)
{
    char *text;

    if (!from)
        return SL_OK;
    if (!json_is_object(from))
        return refuse(err, "metadata", "it must be an object");
    text = json_dumps(from, JSON_COMPACT | JSON_SORT_KEYS);
    if (text && strlen(text) > SL_ACCESS_METADATA_BYTES_MAX) {
        free(text);
        return refuse(err, "metadata", "it is longer than 4096 bytes");
    }
    *ret = text ? sl_arena_strndup(arena, text, strlen(text)) : NULL;
    free(text);
    return *ret ? SL_OK : sl_fail(err, SL_ENOMEM, "Out of memory");
}

static void lay_limits(const llm_limits *from, llm_limits *to)
{
    const int64_t *in = (const int64_t *)from;
    int64_t *out = (int64_t *)to;

    _Static_assert(sizeof *from == 8 * sizeof(int64_t), "all members are int64_t");
    for (size_t i = 0; i < sizeof *from / sizeof *in; i++)
        if (in[i] >= 0)
            out[i] = in[i];
}

/* ---- the whole ----------------------------------------------------------------------------- */

static sl_status refuse_foreign(llm_account_kind kind, const llm_account_spec *s, sl_err *err)
{
    const struct {
        const char *field;
        bool set, key, user, team;
    } table[] = {
        { "user", s->user != NULL, true, false, false },
        { "team", s->team != NULL, true, true, false },
        { "role", s->role != NULL, true, true, false },
        { "password", s->password != NULL, false, true, false },
        { "scopes", s->scopes.is_set, true, true, false },
        { "networks", s->networks.is_set, true, false, false },
        { "expires_at", s->expires_s >= 0, true, false, false },
        { "disabled", s->disabled >= 0, true, true, false },
    };

    for (size_t i = 0; i < SL_COUNT_OF(table); i++)
        if (table[i].set && !(kind == LLM_ACCOUNT_KEY    ? table[i].key
                              : kind == LLM_ACCOUNT_USER ? table[i].user
                                                         : table[i].team))
            return sl_fail(err, SL_EINVAL, "Invalid '%s': a %s has none", table[i].field,
                           account_kind_name(kind));
    return SL_OK;
}

static sl_status lay_rights(const llm_account_spec *s, sl_arena *arena, access_account *row,
                            sl_err *err)
{
    if (s->role && s->role[0] && !role_permissions(s->role))
        return refuse(err, "role", "use " ROLE_NAMES);
    row->role = s->role ? s->role : row->role;
    SL_TRY(lay_texts(&s->scopes, "scopes", is_scope, "a permission", arena, &row->scopes, err));
    if (row->kind != LLM_ACCOUNT_TEAM && !row->role[0] && strcmp(row->scopes, "[]") == 0)
        row->role = "member";
    if (row->kind != LLM_ACCOUNT_TEAM && account_permissions(row) == 0)
        return refuse(err, "scopes", "the role has none of them");
    return SL_OK;
}

sl_status spec_lay(const llm_account_spec *s, int64_t now_s, sl_arena *arena, access_account *row,
                   sl_err *err)
{
    SL_TRY(refuse_foreign(row->kind, s, err));
    if (s->name) {
        SL_TRY(check_name(row->kind, "name", s->name, err));
        if (row->name[0] && row->kind != LLM_ACCOUNT_KEY && strcmp(row->name, s->name) != 0)
            return refuse(err, "name", "users and teams keep their name");
        row->name = s->name;
    }
    if (!row->name[0])
        return sl_fail(err, SL_EINVAL, "Missing required parameter: 'name'");
    if (s->team && s->team[0])
        SL_TRY(check_name(LLM_ACCOUNT_TEAM, "team", s->team, err));
    row->team = s->team ? s->team : row->team;
    SL_TRY(lay_rights(s, arena, row, err));
    SL_TRY(lay_texts(&s->models, "models", is_model, "a model's name", arena, &row->models, err));
    SL_TRY(lay_texts(&s->networks, "networks", is_network,
                     "a network such as 10.0.0.0/8 or 2001:db8::/32 (with no bits behind the "
                     "prefix)",
                     arena, &row->networks, err));
    SL_TRY(lay_metadata(s->metadata, arena, &row->metadata, err));
    if (s->expires_s > 0 && s->expires_s <= now_s)
        return refuse(err, "expires_at", "it is in the past");
    row->expires_s = s->expires_s >= 0 ? s->expires_s : row->expires_s;
    row->disabled = s->disabled >= 0 ? s->disabled != 0 : row->disabled;
    lay_limits(&s->limits, &row->limits);
    return SL_OK;
}

sl_status spec_check_password(const char *password, sl_err *err)
{
    size_t len = strlen(password);

    if (len < PASSWORD_CHARS_MIN || len >= SL_PASSWORD_BYTES_MAX)
        return refuse(err, "password", "it must have 8 to 511 bytes");
    return SL_OK;
}
