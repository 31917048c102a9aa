/* fuzz_token_template.c - template text against a fixed conversation: whatever it holds, rendering
 * ends with a text within the bounds or with a status. */
#include "base/limits.h"
#include "token/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static json_t *conversation(void)
{
    return json_pack("{s:[{s:s,s:s},{s:s,s:o}],s:b,s:s,s:{s:i,s:f},s:[i,i,i]}", "messages", "role",
                     "system", "content", "Be k\xc3\xafnd.", "role", "user", "content",
                     json_pack("[{s:s,s:s}]", "type", "text", "text", "a <b>"),
                     "add_generation_prompt", 1, "bos_token", "<s>", "d", "a", 1, "b", 2.5, "l", 3,
                     1, 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    token_template *t = NULL;
    sl_err err = { 0 };
    json_t *vars;
    sl_buf out;

    if (token_template_parse((const char *)data, size, &t, &err) != SL_OK) {
        SL_ASSERT(err.text[0] != 0);
        return 0;
    }
    vars = conversation();
    sl_buf_init(&out, SL_TEMPLATE_OUTPUT_BYTES_MAX);
    if (token_template_render(t, vars, 1753900000, &out, &err) == SL_OK)
        SL_ASSERT(out.len <= SL_TEMPLATE_OUTPUT_BYTES_MAX);
    sl_buf_deinit(&out);
    json_decref(vars);
    token_template_destroy(t);
    return 0;
}
