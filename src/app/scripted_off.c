/* scripted_off.c - builds without the test backend. */
#include "app/scripted.h"

sl_status scripted_open(const char *name, scripted **ret, sl_err *err)
{
    (void)ret;
    return sl_fail(err, SL_ENOTFOUND, "no model '%s'", name);
}

llm_backend scripted_backend(scripted *s)
{
    (void)s;
    return (llm_backend){ 0 };
}

void scripted_stop(scripted *s)
{
    (void)s;
}

void scripted_close(scripted *s)
{
    (void)s;
}
