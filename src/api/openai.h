/* openai.h - the OpenAI dialect without HTTP: bodies to requests, events to bytes. Internal to the
 * room. */
#ifndef SL_API_OPENAI_H
#define SL_API_OPENAI_H

#include "api/encoder.h"
#include "api/schema.h"

#define OPENAI_ARENA_MAX     (96 * SL_MIB) /* a body of the largest size, parsed */
#define OPENAI_ANSWER_MAX    (256 * SL_MIB)
#define OPENAI_CHOICES_TOTAL 4096 /* prompts x n */

/* A parsed request and how its answer is to be written. */
typedef struct openai_call {
    llm_request *req; /* owned until handed on */
    bool stream, include_usage, continuous_usage;
    bool no_tools;                                  /* "tool_choice": "none" */
    bool skip_special, add_special, add_generation; /* as the caller said, default true */
    bool echo;               /* chat: the answer begins with the last message */
    bool logprobs;           /* are told; req->logprobs may be on for other reasons */
    bool token_ids;          /* "return_token_ids" */
    bool tokens_as_ids;      /* "return_tokens_as_token_ids" */
    const char *cache_salt;  /* NULL: none; in the request's arena */
    const json_t *documents; /* for the template; borrowed from the body */
    int64_t best_of;         /* completions; 0: as n */
    uint32_t n;              /* choices told per prompt, the best of req->n */
    bool base64;             /* embeddings */
    int64_t dimensions;      /* embeddings; 0: all */
} openai_call;

/* Parses and checks a body. On success ret->req is the caller's; on failure ret is untouched, *err
 * is filled and the status is SL_EINVAL (or SL_ENOMEM). */
SL_NODISCARD sl_status openai_parse(llm_task task, const char *body, size_t len, openai_call *ret,
                                    openai_error *err);

extern const body_schema openai_chat_body, openai_completion_body, openai_embedding_body;

/* An array of messages to req->messages. */
sl_status openai_take_messages(const json_t *list, llm_request *req, openai_error *err);
/* A text, texts, token ids or lists of them to req->prompts; name is for errors. */
sl_status openai_take_prompts(const json_t *v, const char *name, llm_request *req,
                              openai_error *err);

/* Completes what depends on the caller: whose prefixes the request shares. */
sl_status openai_settle(openai_call *call, const char *caller_id, openai_error *err);

/* Fills an openai_error. param may be NULL. Returns SL_EINVAL. */
sl_status openai_refuse(openai_error *err, const char *param, const char *code, const char *fmt,
                        ...) SL_PRINTF(4, 5);
/* How a failure of the chain looks in this dialect. */
void openai_error_from(const sl_err *from, llm_task task, openai_error *ret);
/* What the error says more when limits were the reason. */
void openai_error_quota(openai_error *e, sl_status status, const llm_quota *q);
/* x-ratelimit-*, for limits there are. */
void openai_put_quota(const llm_quota *q, encoder_header_fn set, void *ctx);
extern const api_dialect openai_dialect;
/* {"error":{...}} */
void openai_put_error(sl_buf *out, const openai_error *e);

/* ---- encoder ------------------------------------------------------------------------------- */

typedef struct openai_choice openai_choice;

typedef struct openai_encoder {
    encoder base;
    llm_task task;
    bool include_usage, continuous_usage, base64, logprobs, token_ids, tokens_as_ids, prompt_probs;
    bool roles_told;        /* in a stream of a chat */
    uint32_t n, per_prompt; /* choices told of a prompt, and generated */
    int64_t dimensions;
    char role[16]; /* chat */
    sl_buf echo;   /* chat: what the answer begins with */
    char id[64], model[128];
    int64_t created_s;
    openai_choice *choices; /* [choice_count] */
    llm_usage usage;
} openai_encoder;

SL_NODISCARD sl_status openai_encoder_init(openai_encoder *e, const openai_call *call,
                                           const char *model, int64_t created_s);
void openai_encoder_deinit(openai_encoder *e);
void openai_encode(openai_encoder *e, const llm_event *ev, sl_buf *out);
/* The same on the heap, released through its ops; NULL when out of memory. */
encoder *openai_encoder_create(const openai_call *call, const char *model, int64_t created_s);

#endif
