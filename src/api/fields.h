/* fields.h - reading typed fields of a JSON object with errors that name them. Each take_* leaves
 * *ret as it is when the field is absent or null. */
#ifndef SL_API_FIELDS_H
#define SL_API_FIELDS_H

#include "api/openai.h"

/* The field, or NULL when absent or null. */
const json_t *field(const json_t *obj, const char *name);
bool is_string(const json_t *v, const char *text); /* exactly this one */
const char *json_kind(const json_t *v);            /* "a string", "an array", ... */

sl_status take_bool(const json_t *obj, const char *name, bool *ret, openai_error *err);
sl_status take_int(const json_t *obj, const char *name, int64_t min, int64_t max, int64_t *ret,
                   openai_error *err);
/* The same of a value that is there. */
sl_status to_int(const json_t *v, const char *name, int64_t min, int64_t max, int64_t *ret,
                 openai_error *err);
sl_status take_num(const json_t *obj, const char *name, double min, double max, float *ret,
                   openai_error *err);
sl_status take_str(const json_t *obj, const char *name, const char **ret, openai_error *err);

/* Refuses a body whose JSON is deeper, or has more values or longer strings, than limits.h says. */
SL_NODISCARD sl_status json_guard(const char *body, size_t len, openai_error *err);
/* The object that body is, the caller's; NULL: this reader is not sure of it, and jansson's must be
 * asked. What it gives is what jansson's would. */
json_t *json_read(const char *body, size_t len);
/* Parses a body that must be one JSON object within those limits; the caller releases *ret. */
SL_NODISCARD sl_status parse_object(const char *body, size_t len, json_t **ret, openai_error *err);

/* A body to a request of a dialect: makes *req_at, a member of call, and has parse_root fill call
 * from the object. On failure *req_at is NULL again, and *err says why. */
typedef sl_status (*parse_root_fn)(const json_t *root, void *call, openai_error *err);
SL_NODISCARD sl_status parse_request(const char *body, size_t len, llm_task task,
                                     parse_root_fn parse_root, void *call, llm_request **req_at,
                                     openai_error *err);

/* ---- parts of requests that dialects share ------------------------------------------------- */

/* Refuses a body that needs more memory than a request may take. Returns SL_ENOMEM. */
sl_status refuse_size(openai_error *err);
bool field_is_token(const json_t *v); /* an integer that may be a token id */

/* "model" to req->model. */
sl_status take_model(const json_t *root, llm_request *req, openai_error *err);
sl_status to_model(const json_t *v, llm_request *req, openai_error *err);
/* The same as a field_take_fn. */
sl_status take_model_name(const json_t *v, const field_rule *rule, const field_target *to,
                          openai_error *err);
/* Stop strings: a string or an array of strings. skip_empty: empty ones are ignored, not refused.
 */
sl_status take_stops(const json_t *v, const char *name, bool skip_empty, llm_request *req,
                     openai_error *err);
/* Fills the next prompt of req->prompts, which has room, from an array of token ids. */
sl_status add_prompt_ids(const json_t *list, const char *param, llm_request *req,
                         openai_error *err);

#endif
