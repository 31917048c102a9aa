#include "reader/package.h"
sl_status reader_pptx(package *p, reader_out *out, sl_err *err)
{
    return sl_fail(err, SL_ENOTSUP, "not yet");
}
sl_status reader_xlsx(package *p, reader_out *out, sl_err *err)
{
    return sl_fail(err, SL_ENOTSUP, "not yet");
}
sl_status reader_epub(package *p, reader_out *out, sl_err *err)
{
    return sl_fail(err, SL_ENOTSUP, "not yet");
}
sl_status reader_mail(sl_span b, reader_out *out, sl_err *err)
{
    return sl_fail(err, SL_ENOTSUP, "not yet");
}
