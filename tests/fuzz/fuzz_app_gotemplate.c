/* fuzz_app_gotemplate.c - Go templates. What is translated is a template that Jinja's parser takes,
 * or refuses in its own words; neither may crash. */
#include "app/gotemplate.h"
#include "base/limits.h"
#include "token/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    token_template *t = NULL;
    sl_err err = { 0 };
    sl_buf jinja;

    sl_buf_init(&jinja, SL_TEMPLATE_BYTES_MAX);
    if (gotemplate_to_jinja((const char *)data, size, &jinja, &err) != SL_OK)
        SL_ASSERT(err.text[0]);
    else if (token_template_parse(sl_buf_str(&jinja), jinja.len, &t, &err) != SL_OK)
        SL_ASSERT(err.text[0]);
    token_template_destroy(t);
    sl_buf_deinit(&jinja);
    return 0;
}
