/* limit.h - limits that hold: requests and tokens per minute and day, requests at once, tokens of
 * one request, money; for each key, user, team and model.
 *
 * Reserve before, settle after. On admission a request's prompt and all the output it may make are
 * counted against every limit it falls under, or none of them when one refuses; at its end the part
 * that was not used is given back. Windows are fixed ones of UTC.
 *
 * What was charged survives kill -9: the store (limit_store.h) never says less than what is
 * charged, since the limiter takes ahead of use, and at most the refunds of a second more. */
#ifndef SL_ACCESS_LIMIT_H
#define SL_ACCESS_LIMIT_H

#include "access/limit_store.h"
#include "llm/llm.h"

#define LIMIT_OUTPUT_DEFAULT 1024

typedef struct limiter limiter;

/* Limits of a model, whoever asks. */
typedef struct limit_model {
    const char *model;
    llm_limits limits;
} limit_model;

typedef struct limit_options {
    const char *path;  /* of the database; NULL: nothing survives the process */
    limit_store store; /* instead of the one at path; the limiter's from now on, and closed by it */
    const limit_model *models;
    size_t model_count;
    /* Output reserved for a request that names no maximum while a limit on tokens or money applies;
     * it then is the request's maximum. 0: LIMIT_OUTPUT_DEFAULT */
    int64_t output_default;
    /* What tokens of a model cost now, in billionths of a dollar. NULL: nothing. */
    int64_t (*cost_nusd)(void *ctx, const char *model, const llm_tokens *tokens);
    void *cost_ctx;
    int64_t (*now_ms)(void); /* wall clock; NULL: the system's */
    /* Told of every refusal: "requests", "tokens", "concurrency", "budget", "request_tokens". */
    void (*on_refusal)(void *ctx, const char *what, const char *model);
    void *refusal_ctx;
} limit_options;

/* Everything the options point to is copied or must outlive the limiter. */
SL_NODISCARD sl_status limit_open(const limit_options *options, limiter **ret, sl_err *err);
void limit_close(limiter *l); /* accepts NULL; no request may be under way */

/* Other limits of models and another default from now on. models as in the options. */
void limit_set_models(limiter *l, const limit_model *models, size_t model_count,
                      int64_t output_default);

/* The limiter as a stage of the chain; ctx is the limiter. Sets req->quota. Refuses with SL_ERATE,
 * or with SL_ELIMIT what no waiting can help. */
extern const llm_stage_ops limit_stage;

/* ---- the two calls behind the stage, for other work that is charged ---------------------------
 */

typedef struct limit_hold limit_hold;

typedef struct limit_claim {
    const llm_caller *caller; /* NULL: only the model's limits apply */
    const char *model;
    int64_t tokens;    /* prompt and allowed output */
    int64_t cost_nusd; /* of those */
} limit_claim;

/* Room for a hold; the caller provides it. */
size_t limit_hold_bytes(void);
/* SL_OK: hold must be settled once. *ret_quota is filled either way. */
SL_NODISCARD sl_status limit_reserve(limiter *l, const limit_claim *claim, limit_hold *hold,
                                     llm_quota *ret_quota, sl_err *err);
/* What was really used; was_run false also gives the request itself back. */
void limit_settle(limiter *l, limit_hold *hold, int64_t tokens, int64_t cost_nusd, bool was_run);

/* What a subject ("key:key_1a2b", "team:red", "model:m") has used of a window. For tests and
 * `sluice key show`. */
typedef struct limit_usage {
    int64_t requests_minute, requests_day, tokens_minute, tokens_day, cost_nusd, running;
} limit_usage;
void limit_read_usage(limiter *l, const char *subject, limit_usage *ret);

#endif
