/* responses.h - OpenAI's Responses dialect without HTTP: bodies to requests, events to bytes.
 * Internal to the room.
 *
 * What is kept of an answer is one JSON object, its record:
 *   "response"  the answer's body
 *   "input"     the items that were sent, as input_items lists them
 *   "context"   the conversation that was answered, as messages, without instructions */
#ifndef SL_API_RESPONSES_H
#define SL_API_RESPONSES_H

#include "api/api.h"
#include "api/openai.h"

#define RESPONSES_ID_BYTES  48
#define RESPONSES_ID_RANDOM 16 /* bytes in it */

typedef struct responses_call {
    openai_call base; /* first: the tables of sampling fields point into it. Owns base.req */
    bool store;
    bool truncate;                          /* "truncation": "auto" */
    const char *instructions, *previous_id; /* NULL: none; in the request's arena */
    json_t *input;                          /* items, each with an id; owned */
    json_t *context;                        /* messages up to and with the input; owned */
    json_t *metadata;                       /* NULL: none; owned */
    const char *tool_choice;                /* static */
    const char *verbosity;                  /* NULL: not said; static */
} responses_call;

extern const body_schema responses_body;

/* Parses and checks a body. Statuses as openai_parse. Release with responses_call_deinit. */
SL_NODISCARD sl_status responses_parse(const char *body, size_t len, responses_call *ret,
                                       openai_error *err);
void responses_call_deinit(responses_call *call);
/* Puts the conversation of a kept record in front of the call's input. SL_EFORMAT: it is none. */
SL_NODISCARD sl_status responses_continue(responses_call *call, const json_t *record,
                                          openai_error *err);
/* Puts the previous response in front, which may block, and settles what depends on the model, for
 * every way in. *ret_model: as openai_prepare. */
SL_NODISCARD sl_status responses_prepare(const llm_chain *chain, const api_kept *kept,
                                         const char *owner, responses_call *call,
                                         const char **ret_model, openai_error *e);
/* kept: where the answer is kept for owner, if the call says so; ops NULL: nowhere. NULL when out
 * of memory. The call stays the caller's. */
encoder *responses_encoder_create(const responses_call *call, const char *model, int64_t created_s,
                                  api_kept kept, const char *owner);

#endif
