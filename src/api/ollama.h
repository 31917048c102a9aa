/* ollama.h - Ollama's dialect without HTTP: bodies to requests, events to bytes. Internal to the
 * room.
 *
 * docs/ollama.md says what is honoured and what is refused. */
#ifndef SL_API_OLLAMA_H
#define SL_API_OLLAMA_H

#include "api/openai.h"
#include "api/schema.h"

typedef enum ollama_kind {
    OLLAMA_GENERATE,
    OLLAMA_CHAT,
    OLLAMA_EMBED,
    OLLAMA_EMBEDDINGS, /* the old way: one text */
    OLLAMA_KIND_COUNT
} ollama_kind;

/* A parsed body and how its answer is to be written. */
typedef struct ollama_call {
    llm_request *req; /* owned until handed on */
    ollama_kind kind;
    bool stream, raw;
    const char *prompt, *system, *template_text; /* of generate, in the request's arena */
    int64_t dimensions;                          /* embeddings; 0: all */
    size_t unknown_count;                        /* options that nobody knows */
    char unknown[64];                            /* the first of them */
} ollama_call;

/* Same contract as openai_parse. */
SL_NODISCARD sl_status ollama_parse(ollama_kind kind, const char *body, size_t len,
                                    ollama_call *ret, openai_error *err);
/* "5m", "1h30m", -1, 300, 2.5 to nanoseconds; negative: for ever. False: it is none. */
bool ollama_duration(const json_t *v, int64_t *ret_ns);
/* Checks an object of options as /api/create takes it, without a request. */
sl_status ollama_check_options(const json_t *options, openai_error *err);

extern const body_schema ollama_generate_body, ollama_chat_body, ollama_embed_body,
    ollama_embeddings_body, ollama_options_body;

/* {"error":"text"} */
extern const api_dialect ollama_dialect;
void ollama_put_error(sl_buf *out, const openai_error *e);
/* "2026-11-26T06:30:04.123456789Z" */
#define OLLAMA_TIME_BYTES 40
void ollama_time(int64_t wall_ns, char ret[OLLAMA_TIME_BYTES]);

/* ---- encoder ------------------------------------------------------------------------------- */

typedef struct ollama_encoder {
    encoder base;
    ollama_kind kind;
    bool logprobs, load_only, unload;
    char model[208];
    int64_t dimensions;
    sl_buf text;  /* the answer, when it is not streamed */
    sl_buf probs; /* its logprobs as JSON items */
    sl_buf *vectors;
    sl_buf rag;     /* chats over documents: ,"rag":{...} */
    sl_buf context; /* generate: ids as JSON items */
    llm_finish finish;
} ollama_encoder;

SL_NODISCARD sl_status ollama_encoder_init(ollama_encoder *e, const ollama_call *call);
void ollama_encoder_deinit(ollama_encoder *e);
/* wall_ns: since 1970, for created_at. */
void ollama_encode(ollama_encoder *e, const llm_event *ev, int64_t wall_ns, sl_buf *out);
/* The same on the heap and with the clock, released through its ops; NULL when out of memory. */
encoder *ollama_encoder_create(const ollama_call *call);

#endif
