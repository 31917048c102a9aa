/* fuzz_api_json.c - our reader of bodies against jansson: whatever it takes, jansson takes, and
 * makes the same of it. */
#include "api/fields.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *body = (const char *)data;
    openai_error err;
    json_t *mine, *theirs;

    if (json_guard(body, size, &err) != SL_OK)
        return 0;
    mine = json_read(body, size);
    theirs = mine ? json_loadb(body, size, 0, NULL) : NULL;
    if (mine) {
        SL_ASSERT(theirs);
        SL_ASSERT(json_equal(mine, theirs));
    }
    json_decref(mine);
    json_decref(theirs);
    return 0;
}
