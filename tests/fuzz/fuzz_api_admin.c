/* fuzz_api_admin.c - the bodies of /admin and /auth. The first byte chooses the schema. */
#include "api/admin.h"
#include "api/fields.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const body_schema *const schemas[] = { &admin_key_create,  &admin_key_update,
                                           &admin_key_rotate,  &admin_user_create,
                                           &admin_user_update, &admin_team_create,
                                           &admin_team_update, &auth_login_body,
                                           &auth_refresh_body, &auth_logout_body };
    openai_error err = { 0 };
    json_t *root = NULL;
    admin_call call;
    sl_arena arena;
    sl_status status;

    if (size == 0)
        return 0;
    sl_arena_init(&arena, 256 * SL_KIB);
    status = parse_object((const char *)data + 1, size - 1, &root, &err);
    if (status == SL_OK)
        status = admin_read(schemas[data[0] % SL_COUNT_OF(schemas)], root, &arena, &call, &err);
    if (status != SL_OK)
        SL_ASSERT(err.message[0]);
    else
        SL_ASSERT(call.spec.limits.rpm >= -1 && call.overlap_seconds >= 0);
    json_decref(root);
    sl_arena_deinit(&arena);
    return 0;
}
