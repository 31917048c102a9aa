/* watch.c - logs and metrics as configured. */
#include "app/watch.h"

#include "api/api.h"
#include "app/app.h"

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
    unsigned flags;

    return watch_compat(c, &flags, err);
}
