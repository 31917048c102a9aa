/* tgi.h - the dialect of Hugging Face's Text Generation Inference without HTTP: bodies to requests,
 * events to bytes. Internal to the room.
 *
 * docs/tgi.md says what is honoured and what is refused. */
#ifndef SL_API_TGI_H
#define SL_API_TGI_H

#include "api/openai.h"

#define TGI_BEST_OF_MAX 8 /* sequences computed to keep one of them */

/* The routes' bodies and answers. */
typedef enum tgi_form {
    TGI_GENERATE, /* one object */
    TGI_STREAM,   /* SSE */
    TGI_COMPAT,   /* "stream" says which; whole answers are an array of one object */
    TGI_VERTEX,   /* "instances"; the answer has "predictions", texts only */
} tgi_form;

/* A parsed body and how its answer is to be written. Numbers that were not given are NAN. */
typedef struct tgi_call {
    llm_request *req; /* owned until handed on */
    tgi_form form;
    bool stream;
    bool do_sample, add_special;
    bool details, input_details, full_text;
    double temperature, top_p, typical_p, repetition_penalty;
    int64_t top_k, max_new_tokens; /* 0: not given */
    int64_t best_of;
    size_t input_chars; /* code points of all inputs */
} tgi_call;

/* Parses and checks a body. Same contract as openai_parse. */
SL_NODISCARD sl_status tgi_parse(tgi_form form, const char *body, size_t len, tgi_call *ret,
                                 openai_error *err);

extern const body_schema tgi_generate_body, tgi_compat_body, tgi_vertex_body, tgi_parameters_body;
/* {"error":"...","error_type":"..."} */
extern const api_dialect tgi_dialect;

/* ---- encoder ------------------------------------------------------------------------------- */

typedef struct tgi_choice tgi_choice;

typedef struct tgi_encoder {
    encoder base;
    tgi_form form;
    bool details, full_text, input_details;
    bool has_seed, has_tops;
    uint64_t seed;
    uint32_t n; /* choices per prompt */
    const llm_prompt *prompts;
    size_t input_chars;
    int64_t started_ns, ended_ns;
    int64_t streamed; /* records sent */
    sl_buf last;      /* the record of the last token, without its end, until LLM_EV_FINISH */
    tgi_choice *choices;
    llm_usage usage;
} tgi_encoder;

/* The request must live until LLM_EV_DONE was encoded. started_ns: monotonic, for x-total-time. */
SL_NODISCARD sl_status tgi_encoder_init(tgi_encoder *e, const tgi_call *call, int64_t started_ns);
void tgi_encoder_deinit(tgi_encoder *e);
/* now_ns: monotonic. */
void tgi_encode(tgi_encoder *e, const llm_event *ev, int64_t now_ns, sl_buf *out);
/* The same on the heap and with the clock, released through its ops; NULL when out of memory. */
encoder *tgi_encoder_create(const tgi_call *call, int64_t started_ns);

#endif
