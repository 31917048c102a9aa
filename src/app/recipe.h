/* recipe.h - models made from others: Modelfiles, and what they become in the store.
 *
 * A made model is a manifest that names its base's files and adds "base", "parameters", "system",
 * "template", "messages" and "license"; what it does not say it has from its base. */
#ifndef SL_APP_RECIPE_H
#define SL_APP_RECIPE_H

#include "llm/llm.h"
#include "model/model.h"

/* A Modelfile, read. Zero-initialised; release with modelfile_deinit. */
typedef struct modelfile {
    sl_arena arena;
    const char *from, *template_text, *system; /* in the arena; NULL: absent */
    json_t *parameters, *messages, *licenses;  /* owned; NULL: none */
} modelfile;

/* SL_EINVAL names the line. On failure nothing is to be released. */
SL_NODISCARD sl_status modelfile_parse(const char *text, size_t len, modelfile *ret, sl_err *err);
void modelfile_deinit(modelfile *f);

/* Writes the model's manifest. r->from is a model of the store, r->files name blobs of it. */
SL_NODISCARD sl_status recipe_create(model_store *s, const llm_recipe *r,
                                     const llm_progress_sink *sink, sl_err *err);
/* A model under another name. */
SL_NODISCARD sl_status recipe_copy(model_store *s, const char *from, const char *to, sl_err *err);
/* "NAME" of "NAME:latest"; SL_EINVAL: it cannot be a name of the store. */
SL_NODISCARD sl_status recipe_name(const char *name, char ret[129], sl_err *err);

/* The Modelfile that would make the model again, and its parameters as lines. */
void recipe_put_modelfile(const json_t *manifest, const char *template_text, sl_buf *out);
void recipe_put_parameters(const json_t *manifest, const char *prefix, sl_buf *out);

#endif
