/* gotemplate.h - the templates of Modelfiles, which are Go's text/template, as Jinja.
 *
 * Translated are both kinds that exist: those that range over .Messages, and the older ones, which
 * are rendered once for each exchange of .System, .Prompt and .Response. What has no counterpart
 * (define, template, block, printf, methods) is refused by its line. */
#ifndef SL_APP_GOTEMPLATE_H
#define SL_APP_GOTEMPLATE_H

#include "base/buf.h"

/* Whether a text is meant for Go rather than for Jinja: {{ .X }}, {{ if, {{ range, {{ end }}. */
bool gotemplate_is(const char *text);
/* Appends the Jinja template to out. SL_EINVAL names the line. */
SL_NODISCARD sl_status gotemplate_to_jinja(const char *text, size_t len, sl_buf *out, sl_err *err);

#endif
