/* llamacpp.h - the dialect of llama.cpp's server without HTTP: bodies to requests, events to bytes.
 * Internal to the room.
 *
 * docs/llamacpp.md says what is honoured and what is refused. */
#ifndef SL_API_LLAMACPP_H
#define SL_API_LLAMACPP_H

#include "api/openai.h"

/* Samplers that a request may leave out; their order is fixed. */
enum {
    LLAMACPP_PENALTIES = 1,
    LLAMACPP_TOP_K = 2,
    LLAMACPP_TYP_P = 4,
    LLAMACPP_TOP_P = 8,
    LLAMACPP_MIN_P = 16,
    LLAMACPP_TEMPERATURE = 32,
    LLAMACPP_SAMPLERS_ALL = 63,
};

/* How text inside a body becomes ids: as llm_backend_ops.tokenize of the model that the body names
 * ("": the default one). */
typedef struct llamacpp_tokenizer {
    sl_status (*fn)(void *ctx, const char *model, const char *text, size_t len, unsigned flags,
                    int32_t *ids, size_t cap, size_t *ret_count, sl_err *err);
    void *ctx;
} llamacpp_tokenizer;

/* A parsed /completion and how its answer is to be written. */
typedef struct llamacpp_call {
    llm_request *req; /* owned until handed on */
    llamacpp_tokenizer tokenizer;
    bool stream, return_tokens, timings_per_token, cache_prompt;
    int64_t id_slot, seed;
    unsigned samplers; /* LLAMACPP_* */
    sl_span *prompts;  /* [req->prompt_count] for the answer's "prompt": filled for texts, empty for
                          ids; in the request's arena */
} llamacpp_call;

/* What a body without any field but "prompt" asks for; without a request. */
llamacpp_call llamacpp_call_default(void);
llm_sampling llamacpp_sampling_default(void);

extern const body_schema llamacpp_completion_body;
/* Parses and checks a body. Same contract as openai_parse. */
SL_NODISCARD sl_status llamacpp_parse(const char *body, size_t len, llamacpp_tokenizer tokenizer,
                                      llamacpp_call *ret, openai_error *err);

/* Ids of "content": a string, or an array of strings and ids. */
typedef struct llamacpp_ids {
    int32_t *ids; /* release with sl_free */
    size_t count, cap;
} llamacpp_ids;

/* Appends the ids of a string or of an array of strings and ids to out. flags apply to the first
 * string, later ones get no LLM_ADD_SPECIAL. param names v in errors. */
SL_NODISCARD sl_status llamacpp_take_ids(const json_t *v, const char *param, const char *model,
                                         unsigned flags, llamacpp_tokenizer tokenizer,
                                         llamacpp_ids *out, openai_error *err);

/* {"error":{"code":400,"message":"...","type":"..."}} */
extern const api_dialect llamacpp_dialect;
void llamacpp_put_error(sl_buf *out, const openai_error *e);
/* The object that answers call "generation_settings" and /props "params". */
void llamacpp_put_settings(sl_buf *out, const llm_request *req, const llamacpp_call *call);

/* ---- encoder ------------------------------------------------------------------------------- */

typedef struct llamacpp_choice llamacpp_choice;

typedef struct llamacpp_encoder {
    encoder base;
    bool return_tokens, timings_per_token, probs;
    int64_t id_slot;
    char model[128];
    sl_buf settings;          /* "generation_settings" as JSON */
    const sl_span *prompts;   /* the call's */
    llamacpp_choice *choices; /* [choice_count] */
    int64_t start_ns;         /* when the request was admitted */
} llamacpp_encoder;

/* The request must live until LLM_EV_DONE was encoded. */
SL_NODISCARD sl_status llamacpp_encoder_init(llamacpp_encoder *e, const llamacpp_call *call,
                                             const char *model);
void llamacpp_encoder_deinit(llamacpp_encoder *e);
/* now_ns: monotonic, for the timings. */
void llamacpp_encode(llamacpp_encoder *e, const llm_event *ev, int64_t now_ns, sl_buf *out);
/* The same on the heap and with the clock, released through its ops; NULL when out of memory. */
encoder *llamacpp_encoder_create(const llamacpp_call *call, const char *model);

#endif
