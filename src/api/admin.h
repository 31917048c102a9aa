/* admin.h - the bodies of /admin and /auth. Internal to the room. */
#ifndef SL_API_ADMIN_H
#define SL_API_ADMIN_H

#include "api/encoder.h"
#include "api/schema.h"

/* What a body says. */
typedef struct admin_call {
    llm_account_spec spec;
    double budget_usd;  /* -1: unset */
    int64_t expires_in; /* seconds; -1: unset */
    int64_t overlap_seconds;
    const char *username, *refresh_token;
    bool all;
} admin_call;

extern const body_schema admin_key_create, admin_key_update, admin_key_rotate;
extern const body_schema admin_user_create, admin_user_update;
extern const body_schema admin_team_create, admin_team_update;
extern const body_schema auth_login_body, auth_refresh_body, auth_logout_body;

/* Reads a body that follows the schema. root is borrowed by ret, texts go to arena. */
sl_status admin_read(const body_schema *schema, const json_t *root, sl_arena *arena,
                     admin_call *ret, openai_error *err);

#endif
