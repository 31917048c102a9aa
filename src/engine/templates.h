/* templates.h - chat templates that callers send with their requests, compiled once and kept.
 *
 * Any thread. The cache keeps SL_TEMPLATE_STRANGE_KEPT of them, those used last; one that is in use
 * outlives its place. */
#ifndef SL_ENGINE_TEMPLATES_H
#define SL_ENGINE_TEMPLATES_H

#include "token/token.h"

typedef struct kept_template kept_template;

typedef struct template_cache template_cache;

template_cache *template_cache_create(void); /* NULL: out of memory */
/* Nothing may be in use. Accepts NULL. */
void template_cache_destroy(template_cache *c);

/* The compiled template of text, until template_release. SL_EINVAL: line and column of what is
 * wrong; SL_ELIMIT: too long. */
SL_NODISCARD sl_status template_acquire(template_cache *c, const char *text, kept_template **ret,
                                        sl_err *err);
void template_release(template_cache *c, kept_template *t);
const token_template *template_of(const kept_template *t);

#endif
