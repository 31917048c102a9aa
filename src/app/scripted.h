/* scripted.h - a model that computes nothing, to measure everything around models.
 *
 * Only in builds with -Dtest_backend=true (bench/gateway); others know no such model. A model named
 * "script:RATE" gives max_tokens numbered words (16 by default), RATE a second and request; RATE 0
 * gives all at once. */
#ifndef SL_APP_SCRIPTED_H
#define SL_APP_SCRIPTED_H

#include "llm/llm.h"

#define SCRIPTED_PREFIX "script:"

typedef struct scripted scripted;

/* SL_ENOTFOUND: name is no such model, or this build has none. */
SL_NODISCARD sl_status scripted_open(const char *name, scripted **ret, sl_err *err);
llm_backend scripted_backend(scripted *s);
/* Ends what runs; every request gets its last event. Further requests are refused. */
void scripted_stop(scripted *s);
void scripted_close(scripted *s); /* accepts NULL; after scripted_stop */

#endif
