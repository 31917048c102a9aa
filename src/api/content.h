/* content.h - prompt and answer in a request's log line, as far as log.content allows. Internal to
 * the room. */
#ifndef SL_API_CONTENT_H
#define SL_API_CONTENT_H

#include "api/api.h"
#include "base/log.h"

#define CONTENT_FIELDS_MAX 4

typedef struct api_content api_content;

/* NULL: nothing is to be logged (or there is no memory for it); everything below accepts that. */
api_content *api_content_create(api_log_content how);
void api_content_destroy(api_content *c);
/* What the request asks: its messages as JSON, or its prompts. */
void api_content_ask(api_content *c, const llm_request *req);
void api_content_ask_text(api_content *c, const char *text);
/* More of the answer's first choice. */
void api_content_answer(api_content *c, const char *text, size_t len);
/* Fills fields[CONTENT_FIELDS_MAX], once; returns how many. Their strings are c's. */
int api_content_fields(api_content *c, sl_log_field *fields);

#endif
