/* encoder.h - what the encoders of all dialects have in common; answer.c drives them through it.
 *
 * An encoder turns the events of one request into answer bytes. When streaming, each event appends
 * SSE records to `out`; when not, text gathers inside and the whole body is appended at
 * LLM_EV_DONE. */
#ifndef SL_API_ENCODER_H
#define SL_API_ENCODER_H

#include "base/buf.h"
#include "llm/llm.h"

#define OPENAI_PARAM_BYTES 128

/* Why a request is refused, in OpenAI's terms; other dialects say as much of it as they have words
 * for. Texts are static or in the struct. */
typedef struct openai_error {
    int http;
    const char *type, *code;        /* code may be NULL */
    char param[OPENAI_PARAM_BYTES]; /* "" : null */
    char message[SL_ERR_TEXT_BYTES];
    int64_t retry_after_ms; /* 0: the server's default, where waiting helps */
    const char *request_id; /* NULL: not told */
} openai_error;

/* Sets a header of the answer. */
typedef void (*encoder_header_fn)(void *ctx, const char *name, const char *value);

/* How a dialect speaks of failures. */
typedef struct api_dialect {
    const char *name; /* "openai", for docs and metrics */
    /* Turns OpenAI's terms (status, type, code) into the dialect's, before put_error; may be NULL.
     */
    void (*translate)(openai_error *e);
    /* Writes the body of an answer that is an error. */
    void (*put_error)(sl_buf *out, const openai_error *e);
    /* Headers about what the caller's limits leave; NULL: OpenAI's. */
    void (*put_quota)(const llm_quota *q, encoder_header_fn set, void *ctx);
    const char *id_header; /* answers carry the request's id under this name too; may be NULL */
} api_dialect;

typedef struct encoder encoder;

typedef struct encoder_ops {
    void (*encode)(encoder *e, const llm_event *ev, sl_buf *out);
    void (*destroy)(encoder *e);
    const api_dialect *dialect;
    const char *stream_type; /* NULL: text/event-stream */
    /* Headers of a good answer, called right before its first byte; may be NULL. */
    void (*headers)(const encoder *e, encoder_header_fn set, void *ctx);
} encoder_ops;

/* First member of every dialect's encoder. */
struct encoder {
    const encoder_ops *ops;
    uint32_t choice_count;
    bool stream;
    bool started; /* LLM_EV_START came: a streamed answer fails inside the stream from now on */
    bool failed;
    openai_error error; /* when failed */
};

#endif
