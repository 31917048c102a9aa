/* defaults.h - what a model made from another adds to requests that leave it out. */
#ifndef SL_APP_DEFAULTS_H
#define SL_APP_DEFAULTS_H

#include "llm/llm.h"

typedef struct model_defaults model_defaults;

/* From a manifest: "parameters", "system", "template", "messages". NULL: it has none of them, or
 * memory is exhausted. Immutable, reference counted. */
model_defaults *model_defaults_create(const json_t *manifest);
model_defaults *model_defaults_ref(model_defaults *d); /* accepts and returns NULL */
void model_defaults_unref(model_defaults *d);          /* accepts NULL */

/* Fills a request, before it is counted. d may be NULL. */
SL_NODISCARD sl_status model_defaults_apply(const model_defaults *d, llm_request *req, sl_err *err);

/* Checks one parameter by name; SL_EINVAL names what is wrong, SL_ENOTFOUND: there is no such
 * parameter. */
SL_NODISCARD sl_status model_parameter_check(const char *name, const json_t *value, sl_err *err);
/* A parameter's value from text, as a Modelfile has it; the caller's. */
SL_NODISCARD sl_status model_parameter_parse(const char *name, const char *text, json_t **ret,
                                             sl_err *err);
/* True when a parameter may be given several times: "stop". */
bool model_parameter_is_list(const char *name);

#endif
