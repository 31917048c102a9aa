/* admin_parse.c - the bodies of /admin and /auth as tables. They are closed: a misspelt limit is an
 * error, not a key without one. */
#include "api/admin.h"

#include "api/fields.h"
#include "base/os.h"

#define TEXTS_MAX    256
#define OVERLAP_S    86400
#define TEXTS_SCHEMA "{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"maxItems\":64}"

static sl_status take_texts(const json_t *v, const field_rule *rule, const field_target *to,
                            openai_error *err)
{
    llm_texts *out = (llm_texts *)((char *)to->call + rule->at);
    size_t count = json_array_size(v), i;
    const char **list;
    json_t *one;

    if (!json_is_array(v) || count > TEXTS_MAX)
        return openai_refuse(err, rule->name, "invalid_type",
                             "Invalid '%s': expected an array of at most %d strings", rule->name,
                             TEXTS_MAX);
    list = sl_arena_alloc(to->arena, (count + 1) * sizeof *list);
    if (!list)
        return refuse_size(err);
    json_array_foreach(v, i, one)
    {
        if (!json_is_string(one))
            return openai_refuse(err, rule->name, "invalid_type",
                                 "Invalid '%s': expected strings, got %s", rule->name,
                                 json_kind(one));
        list[i] = json_string_value(one);
    }
    *out = (llm_texts){ list, count, true };
    return SL_OK;
}

static sl_status take_disabled(const json_t *v, const field_rule *rule, const field_target *to,
                               openai_error *err)
{
    if (!json_is_boolean(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "Invalid type for '%s': expected a boolean, got %s", rule->name,
                             json_kind(v));
    ((admin_call *)to->call)->spec.disabled = json_is_true(v);
    return SL_OK;
}

static sl_status take_metadata(const json_t *v, const field_rule *rule, const field_target *to,
                               openai_error *err)
{
    if (!json_is_object(v))
        return openai_refuse(err, rule->name, "invalid_type",
                             "Invalid type for '%s': expected an object, got %s", rule->name,
                             json_kind(v));
    ((admin_call *)to->call)->spec.metadata = v;
    return SL_OK;
}

/* ---- rules --------------------------------------------------------------------------------- */

#define SPEC(member) IN_CALL(admin_call, spec.member)
#define LIMIT(field, text)                                                                         \
    {                                                                                              \
#field, FIELD_INT, .min = 0, .max = 9e18, .help = text, SPEC(limits.field)                 \
    }
#define TEXT(field, bytes, text)                                                                   \
    {                                                                                              \
#field, FIELD_STR, .max = bytes, .help = text, SPEC(field)                                 \
    }
#define TEXTS(field, text)                                                                         \
    {                                                                                              \
#field, FIELD_OTHER, .take = take_texts, .json_schema = TEXTS_SCHEMA, .help = text,        \
                             SPEC(field)                                                           \
    }

/* What keys, users and teams have in common. */
static const field_rule common_rules[] = {
    TEXTS(models, "names that may be used, a trailing * matches any rest; empty: all"),
    LIMIT(rpm, "requests per minute; 0: no limit"),
    LIMIT(rpd, "requests per day"),
    LIMIT(tpm, "tokens per minute, prompt and output together"),
    LIMIT(tpd, "tokens per day"),
    LIMIT(concurrency, "requests at once"),
    LIMIT(request_tokens, "tokens of one request"),
    { "budget_usd", FIELD_NUM, .min = 0, .max = 9e9, .help = "money in dollars; 0: no limit",
      IN_CALL(admin_call, budget_usd) },
    LIMIT(budget_days, "window of the budget; 0: for ever"),
    { "metadata", FIELD_OTHER, .take = take_metadata, .json_schema = "{\"type\":\"object\"}",
      .help = "anything, at most 4096 bytes" },
};
static const body_schema common = { .rules = common_rules, .count = SL_COUNT_OF(common_rules) };

static const field_rule member_rules[] = {
    TEXT(team, 128, "made when there is none of that name"),
    TEXT(role, 16, "admin, operator, member or viewer"),
    TEXTS(scopes, "permissions; of the role's if there is one. See docs/access.md"),
    { "disabled", FIELD_OTHER, .take = take_disabled, .json_schema = "{\"type\":\"boolean\"}" },
};
static const body_schema member = { .rules = member_rules,
                                    .count = SL_COUNT_OF(member_rules),
                                    .base = &common };

static const field_rule key_rules[] = {
    TEXT(user, 128, "whose key it is; it never may more than that user"),
    TEXTS(networks, "addresses it may be used from: 10.0.0.0/8, 2001:db8::/32; empty: all"),
    { "expires_in", FIELD_INT, .min = 0, .max = 3.2e9, .help = "seconds from now; 0: never",
      IN_CALL(admin_call, expires_in) },
    { "expires_at", FIELD_INT, .min = 0, .max = 1e11, .help = "seconds since 1970; 0: never",
      SPEC(expires_s) },
};
static const body_schema key_fields = { .rules = key_rules,
                                        .count = SL_COUNT_OF(key_rules),
                                        .base = &member };

static const field_rule named_rules[] = {
    { "name", FIELD_STR, .required = true, .max = 128, SPEC(name) },
};
static const field_rule rename_rules[] = { TEXT(name, 128, NULL) };
static const field_rule new_user_rules[] = {
    { "name", FIELD_STR, .required = true, .max = 128, SPEC(name) },
    { "password", FIELD_STR, .required = true, .max = 511, .help = "8 bytes or more",
      SPEC(password) },
};
static const field_rule user_rules[] = {
    { "password", FIELD_STR, .max = 511, .help = "a new one; ends the user's sessions",
      SPEC(password) },
};
static const field_rule rotate_rules[] = {
    { "overlap_seconds", FIELD_INT, .min = 0, .max = 7776000,
      .help = "how long the old key works on; default a day",
      IN_CALL(admin_call, overlap_seconds) },
};
static const field_rule login_rules[] = {
    { "username", FIELD_STR, .required = true, .max = 128, IN_CALL(admin_call, username) },
    { "password", FIELD_STR, .required = true, .max = 511, SPEC(password) },
};
static const field_rule refresh_rules[] = {
    { "refresh_token", FIELD_STR, .required = true, .max = 128,
      IN_CALL(admin_call, refresh_token) },
};
static const field_rule logout_rules[] = {
    { "refresh_token", FIELD_STR, .required = true, .max = 128,
      IN_CALL(admin_call, refresh_token) },
    { "all", FIELD_BOOL, .help = "every session of the user", IN_CALL(admin_call, all) },
};

#define CLOSED(symbol, title, list, below)                                                         \
    const body_schema symbol = {                                                                   \
        .name = title, .rules = list, .count = SL_COUNT_OF(list), .base = below, .is_closed = true \
    }

CLOSED(admin_key_create, "KeyCreateRequest", named_rules, &key_fields);
CLOSED(admin_key_update, "KeyUpdateRequest", rename_rules, &key_fields);
CLOSED(admin_key_rotate, "KeyRotateRequest", rotate_rules, NULL);
CLOSED(admin_user_create, "UserCreateRequest", new_user_rules, &member);
CLOSED(admin_user_update, "UserUpdateRequest", user_rules, &member);
CLOSED(admin_team_create, "TeamCreateRequest", named_rules, &common);
const body_schema admin_team_update = { .name = "TeamUpdateRequest",
                                        .rules = common_rules,
                                        .count = SL_COUNT_OF(common_rules),
                                        .is_closed = true };
CLOSED(auth_login_body, "LoginRequest", login_rules, NULL);
CLOSED(auth_refresh_body, "RefreshRequest", refresh_rules, NULL);
CLOSED(auth_logout_body, "LogoutRequest", logout_rules, NULL);

sl_status admin_read(const body_schema *schema, const json_t *root, sl_arena *arena,
                     admin_call *ret, openai_error *err)
{
    const field_target to = { .call = ret, .arena = arena };

    *ret = (admin_call){ .spec = LLM_ACCOUNT_SPEC_NONE,
                         .budget_usd = -1,
                         .expires_in = -1,
                         .overlap_seconds = OVERLAP_S };
    SL_TRY(body_read(schema, root, &to, err));
    if (ret->budget_usd >= 0)
        ret->spec.limits.budget_nusd = (int64_t)(ret->budget_usd * 1e9 + 0.5);
    if (ret->expires_in >= 0)
        ret->spec.expires_s = ret->expires_in ? sl_clock_wall_ms() / 1000 + ret->expires_in : 0;
    return SL_OK;
}
