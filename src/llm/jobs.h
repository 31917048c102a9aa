/* jobs.h - stored files and batch jobs, as the API and the commands see them, and how a job's lines
 * are run. Included by llm.h.
 *
 * Objects come and go as JSON in OpenAI's shape. Every question names who asks: a caller sees what
 * belongs to his team, else his user, else his key; an admin may see all. caller NULL is everybody,
 * where keys are off. */
#ifndef SL_LLM_JOBS_H
#define SL_LLM_JOBS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "llm/caller.h"

/* llm_request.priority of a batch job's requests: after everybody who waits for an answer. From
 * LLM_PRIORITY_IDLE on, a backend computes nothing of them while it has others. */
#define LLM_PRIORITY_BATCH 1000000
#define LLM_PRIORITY_IDLE  (LLM_PRIORITY_BATCH + 1)

/* ---- running one line ---------------------------------------------------------------------- */

/* A request as a batch file holds it. Borrowed up to run's return. */
typedef struct llm_line {
    const char *url; /* "/v1/chat/completions" */
    sl_span body;    /* JSON */
    llm_caller *caller;
    int32_t priority;
} llm_line;

/* Valid during the call only. */
typedef struct llm_line_answer {
    int status; /* HTTP's */
    const char *request_id;
    sl_span body;      /* JSON, an error's too */
    bool again;        /* no capacity now: nothing was computed, run it again later */
    int64_t again_ms;  /* not before; 0: nobody knows */
    bool is_cancelled; /* by cancel */
    int64_t prompt_tokens, cached_tokens, output_tokens;
} llm_line_answer;

typedef void (*llm_line_fn)(void *ctx, const llm_line_answer *answer);

/* Any thread. */
typedef struct llm_line_ops {
    /* SL_OK: the lines of a batch may go to url with this model. SL_EINVAL: no such url;
     * SL_ENOTFOUND: no such model; SL_EFORBIDDEN: not for this caller. model "": the default. */
    sl_status (*check)(void *ctx, const char *url, const char *model, const llm_caller *caller,
                       sl_err *err);
    /* Answers exactly once through fn, from within the call or from a thread of the backend. The
     * handle may be used from when run returned until release; NULL: out of memory, answered. */
    void *(*run)(void *ctx, const llm_line *line, llm_line_fn fn, void *fn_ctx);
    void (*cancel)(void *handle);  /* the answer comes soon, marked */
    void (*release)(void *handle); /* accepts NULL */
} llm_line_ops;

typedef struct llm_line_runner {
    const llm_line_ops *ops;
    void *ctx;
} llm_line_runner;

/* ---- files, uploads, batches ----------------------------------------------------------------- */

/* Bytes on their way to become a file or a part: on the disk, listed nowhere. */
typedef struct llm_draft llm_draft;

typedef struct llm_page {
    const char *after; /* an id; NULL: from the beginning */
    int limit;
    bool ascending;      /* by time; else the newest first */
    const char *purpose; /* files; NULL: all */
    bool everybody;      /* for admins: whoever owns it */
} llm_page;

typedef struct llm_file_spec {
    const char *filename, *purpose;
    int64_t expires_after_s; /* 0: never */
    const char *mime_type;   /* uploads */
    int64_t bytes;           /* uploads: what the parts must sum up to */
} llm_file_spec;

typedef struct llm_batch_spec {
    const char *input_file_id, *endpoint, *completion_window;
    const json_t *metadata;         /* an object of texts, or NULL */
    int64_t output_expires_after_s; /* 0: never */
} llm_batch_spec;

/* All block on the disk, draft_write briefly; any thread. *ret is the caller's. SL_ENOTFOUND: there
 * is no such thing, or it is somebody else's; SL_ECONFLICT: not in its state. */
typedef struct llm_jobs_ops {
    sl_status (*draft_open)(void *ctx, llm_draft **ret, sl_err *err);
    sl_status (*draft_write)(llm_draft *d, const void *bytes, size_t len, sl_err *err);
    void (*draft_drop)(llm_draft *d); /* accepts NULL; not after it was taken */

    /* file_create and upload_part take the draft, also when they fail. */
    sl_status (*file_create)(void *ctx, const llm_caller *who, const llm_file_spec *spec,
                             llm_draft *d, json_t **ret, sl_err *err);
    sl_status (*file_list)(void *ctx, const llm_caller *who, const llm_page *page, json_t **ret,
                           sl_err *err);
    sl_status (*file_get)(void *ctx, const llm_caller *who, const char *id, json_t **ret,
                          sl_err *err);
    /* *ret_fd is the caller's; *ret what file_get gives. */
    sl_status (*file_open)(void *ctx, const llm_caller *who, const char *id, int *ret_fd,
                           json_t **ret, sl_err *err);
    sl_status (*file_delete)(void *ctx, const llm_caller *who, const char *id, sl_err *err);

    sl_status (*upload_create)(void *ctx, const llm_caller *who, const llm_file_spec *spec,
                               json_t **ret, sl_err *err);
    sl_status (*upload_part)(void *ctx, const llm_caller *who, const char *id, llm_draft *d,
                             json_t **ret, sl_err *err);
    /* md5: hexadecimal, of the whole; NULL: not checked. */
    sl_status (*upload_complete)(void *ctx, const llm_caller *who, const char *id,
                                 const json_t *part_ids, const char *md5, json_t **ret,
                                 sl_err *err);
    sl_status (*upload_cancel)(void *ctx, const llm_caller *who, const char *id, json_t **ret,
                               sl_err *err);

    sl_status (*batch_create)(void *ctx, const llm_caller *who, const llm_batch_spec *spec,
                              json_t **ret, sl_err *err);
    sl_status (*batch_list)(void *ctx, const llm_caller *who, const llm_page *page, json_t **ret,
                            sl_err *err);
    sl_status (*batch_get)(void *ctx, const llm_caller *who, const char *id, json_t **ret,
                           sl_err *err);
    sl_status (*batch_cancel)(void *ctx, const llm_caller *who, const char *id, json_t **ret,
                              sl_err *err);
} llm_jobs_ops;

typedef struct llm_jobs {
    const llm_jobs_ops *ops; /* NULL: there are none */
    void *ctx;
    int64_t file_bytes_max; /* of one file */
} llm_jobs;

#endif
