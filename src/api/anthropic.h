/* anthropic.h - the dialect of Anthropic's Messages without HTTP: bodies to requests, events to
 * bytes. Internal to the room.
 *
 * docs/anthropic.md says what is honoured and what is refused. */
#ifndef SL_API_ANTHROPIC_H
#define SL_API_ANTHROPIC_H

#include "api/openai.h"

#define ANTHROPIC_CACHE_MARKS_MAX 4 /* cache_control in one request */

/* A parsed body and how its answer is to be written. */
typedef struct anthropic_call {
    llm_request *req; /* owned until handed on */
    bool stream;
    int cache_marks; /* cache_control seen */
} anthropic_call;

/* Parses and checks a body of /v1/messages or, with count_only, of /v1/messages/count_tokens. Same
 * contract as openai_parse; *err speaks OpenAI's terms, with params like "messages.0.content". */
SL_NODISCARD sl_status anthropic_parse(bool count_only, const char *body, size_t len,
                                       anthropic_call *ret, openai_error *err);

extern const body_schema anthropic_message_body, anthropic_count_body;
/* {"type":"error","error":{...},"request_id":...}; 503 becomes 529. */
extern const api_dialect anthropic_dialect;

/* ---- encoder ------------------------------------------------------------------------------- */

typedef struct anthropic_encoder {
    encoder base;
    char id[64], model[128], request_id[64];
    int64_t max_tokens;
    bool has_block;        /* the block of text was begun */
    sl_buf text;           /* collected answer */
    sl_buf stop;           /* the stop sequence that matched */
    sl_buf citations, rag; /* chats over documents: JSON items; ,"rag":{...} */
    llm_finish finish;
    llm_usage usage;
} anthropic_encoder;

void anthropic_encoder_init(anthropic_encoder *e, const anthropic_call *call, const char *model,
                            const char *request_id);
void anthropic_encoder_deinit(anthropic_encoder *e);
void anthropic_encode(anthropic_encoder *e, const llm_event *ev, sl_buf *out);
/* The same on the heap, released through its ops; NULL when out of memory. */
encoder *anthropic_encoder_create(const anthropic_call *call, const char *model,
                                  const char *request_id);

#endif
