/* engine.h - a loaded model that answers requests: the room's door.
 *
 * One engine thread per model owns its scheduler, KV pool and sequences; any thread may submit.
 * Decoders generate by continuous batching; encoders batch texts into embeddings. */
#ifndef SL_ENGINE_ENGINE_H
#define SL_ENGINE_ENGINE_H

#include "engine/decoder.h"
#include "engine/encoder.h"
#include "engine/sampler.h"
#include "engine/schedule.h"
#include "engine/team.h"
#include "engine/weights.h"
#include "llm/llm.h"
#include "token/token.h"

typedef struct engine engine;

/* Zero means the default everywhere. */
typedef struct engine_options {
    const char *name;  /* what callers say; default: the file's name */
    int threads;       /* compute threads; default: all processors */
    size_t kv_bytes;   /* KV pool; default: 4 full contexts of up to 8,192, at most 1 GiB */
    int context_max;   /* tokens in a sequence; default: the model's, as far as the pool holds it */
    int seqs_max;      /* sequences computed at once; default 64 */
    int queue_max;     /* requests waiting or running; default 512 */
    int wait_ms;       /* expected wait beyond which requests are refused; default: half the time
                          that one takes, at least half a second */
    int deadline_ms;   /* a request that waited so long for its turn is refused; default: a minute,
                          or wait_ms where that is longer */
    int step_tokens;   /* default 512 */
    int mixed_prefill; /* prompt tokens in a step beside decodes; default: by measured time */
    int spec_tokens;   /* guesses by prompt lookup when a request does not say; default none */
    const char *kv_type; /* see engine_kv_type */
    /* Before queries and passages to be embedded; NULL: as the model's files or its name say. */
    const char *query_prefix, *passage_prefix;
    bool text_only; /* no weights: tokenizes, renders and describes; submits nothing */
} engine_options;

/* Opens a model file or directory and starts its thread. */
SL_NODISCARD sl_status engine_open(const char *path, const engine_options *o, engine **ret,
                                   sl_err *err);
/* What engine_backend(...).info would say of it, and the memory it would take once loaded, from the
 * file's head alone. */
SL_NODISCARD sl_status engine_describe(const char *path, const engine_options *o,
                                       llm_model_info *ret, uint64_t *ret_bytes, sl_err *err);
/* Memory of the loaded model: weights and KV pool. */
uint64_t engine_bytes(const engine *e);
/* Cancels what runs, refuses what comes, waits for the thread. Harmless when repeated. */
void engine_stop(engine *e);
/* Stops and frees everything. Accepts NULL. */
void engine_close(engine *e);

/* The backend; valid until engine_close. */
llm_backend engine_backend(engine *e);
const token_vocab *engine_vocab(const engine *e);
const model_params *engine_params(const engine *e);

/* For metrics; any thread. */
typedef struct engine_stats {
    int running, waiting;                                       /* sequences */
    int kv_blocks_used, kv_blocks;                              /* 0 for encoders */
    long long preemptions, steps, prompt_tokens, output_tokens; /* tokens computed */
    long long prefix_hits, prefix_queries;  /* prompt tokens found in the cache, and looked up */
    long long draft_tokens, draft_accepted; /* guesses, and those that were right */
} engine_stats;

void engine_read_stats(const engine *e, engine_stats *ret);

/* "f16", "bf16" (where the processor multiplies it), "q8_0"; "auto" or NULL: bf16 where that is so
 * and the model's products are rounded anyway, else f16. SL_EINVAL and SL_ENOTSUP say what to use.
 */
SL_NODISCARD sl_status engine_kv_type(const char *name, const weights *w, const kernels *k,
                                      kernels_kv *ret, sl_err *err);

/* The CPU mask engines use: kernels_cpu() unless the process narrowed it (SLUICE_CPU). */
void engine_set_cpu(unsigned mask);
unsigned engine_cpu(void);

/* Renders a chat request's messages with the model's template. */
SL_NODISCARD sl_status engine_render(const engine *e, const llm_request *req, sl_buf *out,
                                     sl_err *err);

/* The chat template of an opened model, of either layout; ChatML when it has none. */
SL_NODISCARD sl_status engine_chat_template(const model_file *m, sl_buf *out, sl_err *err);

/* Builds a vocabulary from an opened model of either layout. */
SL_NODISCARD sl_status engine_load_vocab(const model_file *m, token_vocab **ret, sl_err *err);

#endif
