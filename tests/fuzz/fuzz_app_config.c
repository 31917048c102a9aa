/* fuzz_app_config.c - configuration files. An accepted one can be shown and equals itself. */
#include "app/config_tree.h"
#include "base/attr.h"
#include "base/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_change(void *ctx, const char *path, bool reloads)
{
    SL_ASSERT(!"a configuration differs from itself");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    config *c = NULL;
    sl_err err = { 0 };
    sl_buf b;

    if (config_parse("input", sl_span_of(data, size), &c, &err) != SL_OK) {
        SL_ASSERT(err.text[0]);
        SL_ASSERT(!c);
        return 0;
    }
    if (!c)
        return 0;
    sl_buf_init(&b, 16 * SL_MIB);
    config_show(c, &b);
    SL_ASSERT(config_compare(c, c, on_change, NULL, &err) == SL_OK);
    sl_buf_deinit(&b);
    config_destroy(c);
    return 0;
}
