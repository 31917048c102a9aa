/* jobs.h - what the routes of files, uploads and batches share. Internal to the room. */
#ifndef SL_API_JOBS_H
#define SL_API_JOBS_H

#include "api/api_int.h"
#include "api/fields.h"

/* True when there is a store of jobs; otherwise answered. */
bool jobs_available(api *a, http_exchange *x);
/* Answers with an object, which is taken, or with the failure. */
void jobs_respond(api *a, http_exchange *x, sl_status status, json_t *object, sl_err *err);
/* "after", "limit", "order", "purpose", and "scope=all" of a list. False: answered. */
bool jobs_read_page(api *a, http_exchange *x, int limit_default, int limit_max, llm_page *ret);
/* Reads a JSON body by its schema into call, strings into arena. False: answered; else *ret_root is
 * the caller's. */
bool jobs_read_body(api *a, http_exchange *x, const body_schema *s, void *call, sl_arena *arena,
                    json_t **ret_root);
/* {"anchor":"created_at","seconds":N} to an int64_t member. */
sl_status jobs_take_expires(const json_t *v, const field_rule *rule, const field_target *to,
                            openai_error *err);
/* Seconds, checked as OpenAI bounds them. */
sl_status jobs_check_seconds(const char *param, int64_t seconds, openai_error *err);
/* Keeps a borrowed value of the body in a const json_t * member. */
sl_status jobs_take_json(const json_t *v, const field_rule *rule, const field_target *to,
                         openai_error *err);

#define EXPIRES_SCHEMA                                                                             \
    "{\"type\":\"object\",\"properties\":{\"anchor\":{\"const\":\"created_at\"},\"seconds\":"      \
    "{\"type\":\"integer\",\"minimum\":3600,\"maximum\":2592000}},\"required\":[\"anchor\","       \
    "\"seconds\"]}"

/* files.c: the parts of an upload come as the files do. */
bool files_begin_part(api *a, http_exchange *x);
void files_write(api *a, http_exchange *x, const void *bytes, size_t len);
void files_end_part(api *a, http_exchange *x);

#endif
