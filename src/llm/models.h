/* models.h - the store of models and what is loaded of it, as the API and the commands see it.
 * Included by llm.h.
 *
 * Names may carry the tag ":latest", which means nothing. */
#ifndef SL_LLM_MODELS_H
#define SL_LLM_MODELS_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/status.h"

/* A step of long work. digest: "sha256:<hex>" of the file that moves, or NULL; totals in bytes, 0:
 * not known. */
typedef struct llm_progress {
    const char *status;
    const char *digest;
    uint64_t done_bytes, total_bytes;
} llm_progress;

typedef struct llm_progress_sink {
    void (*fn)(void *ctx, const llm_progress *p); /* or NULL */
    void *ctx;
    const atomic_bool *cancelled; /* or NULL; polled */
} llm_progress_sink;

/* A model made from another, with defaults of its own. */
typedef struct llm_recipe {
    const char *name;
    const char *from;                   /* a model of the store; NULL: from files */
    json_t *files;                      /* {"name": "sha256:<hex>"} of blobs, or NULL */
    json_t *parameters;                 /* {"temperature": 0.5, "stop": ["a"]}, or NULL */
    json_t *messages;                   /* [{"role","content"}], or NULL */
    json_t *licenses;                   /* array of texts, or NULL */
    const char *template_text, *system; /* or NULL */
} llm_recipe;

/* All may block on files, except where it says so; any thread. */
typedef struct llm_models_ops {
    /* Array of all models, loaded or not; must not block, the caller's:
     * {"name","digest","bytes","modified_ns","arch","quant","parameters","context_length",
     *  "embedding_length","parent","can_generate","can_embed","can_rerank"} */
    sl_status (*list)(void *ctx, json_t **ret, sl_err *err);
    /* Array of the loaded ones; must not block: what list has, and
     * {"memory_bytes","expires_ns" (wall clock, since 1970; 0: never),"context_length"}. */
    sl_status (*loaded)(void *ctx, json_t **ret, sl_err *err);
    /* What list has of one model, and {"license","parameters_text","template","system","messages",
     * "modelfile","model_info","tensors"}; long arrays of model_info are null unless verbose. */
    sl_status (*show)(void *ctx, const char *name, bool verbose, json_t **ret, sl_err *err);
    /* Fetches what `sluice pull` would; never a path of this machine. */
    sl_status (*pull)(void *ctx, const char *source, const llm_progress_sink *sink, sl_err *err);
    sl_status (*copy)(void *ctx, const char *from, const char *to, sl_err *err);
    /* Unloads it first; what it still answers is finished. */
    sl_status (*remove)(void *ctx, const char *name, sl_err *err);
    sl_status (*create)(void *ctx, const llm_recipe *r, const llm_progress_sink *sink, sl_err *err);
    bool (*has_blob)(void *ctx, const char *sha256);
    /* Takes the file, which is moved or removed. SL_EFORMAT: it has another sum. */
    sl_status (*put_blob)(void *ctx, const char *sha256, const char *file, sl_err *err);
    /* A path for a file to become a blob, on the same file system; ret gets it. */
    sl_status (*blob_draft)(void *ctx, char *ret, size_t bytes, sl_err *err);
} llm_models_ops;

typedef struct llm_models {
    const llm_models_ops *ops; /* NULL: there is no store */
    void *ctx;
} llm_models;

#endif
