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
} openai_error;

/* Writes the body of an answer that is an error. */
typedef void (*put_error_fn)(sl_buf *out, const openai_error *e);

typedef struct encoder encoder;

typedef struct encoder_ops {
    void (*encode)(encoder *e, const llm_event *ev, sl_buf *out);
    put_error_fn put_error;
    void (*destroy)(encoder *e);
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
