/* file.h - an opened model: whatever files it is made of, seen as one set of named tensors.
 *
 * Opened from a .gguf file (the first of its shards names the others), from a directory in the
 * Hugging Face layout (config.json, tokenizer.json, *.safetensors, optionally an index), or from a
 * .safetensors file with those beside it. Read-only and shareable between threads once opened. */
#ifndef SL_MODEL_FILE_H
#define SL_MODEL_FILE_H

#include "model/gguf.h"
#include "model/params.h"

typedef struct model_file model_file;

SL_NODISCARD sl_status model_file_open(const char *path, model_file **ret, sl_err *err);
void model_file_close(model_file *m); /* accepts NULL */

/* The metadata of a GGUF model; NULL for the Hugging Face layout. */
const gguf_dir *model_file_gguf(const model_file *m);
/* tokenizer.json and tokenizer_config.json of the Hugging Face layout; {NULL, 0} when absent. */
sl_span model_file_tokenizer(const model_file *m);
sl_span model_file_tokenizer_config(const model_file *m);

/* What config_sentence_transformers.json puts before queries and before passages; NULL where it
 * says nothing. They live as long as m. */
void model_file_prompts(const model_file *m, const char **ret_query, const char **ret_passage);
/* Where the weights came from, as config.json says: "intfloat/e5-small-v2"; NULL: it does not. */
const char *model_file_origin(const model_file *m);

/* Fills the architecture table. */
SL_NODISCARD sl_status model_file_params(const model_file *m, model_params *ret, sl_err *err);

/* A tensor by name in any shard; NULL when absent. */
const tensor_info *model_file_tensor(const model_file *m, const char *name);
size_t model_file_tensor_count(const model_file *m);
const tensor_info *model_file_tensor_at(const model_file *m, size_t i);

/* The type that holds most of the weights, as text: "Q4_1". */
const char *model_file_quant(const model_file *m);
uint64_t model_file_bytes(const model_file *m);
uint64_t model_file_param_count(const model_file *m);

/* Tells the system that the mapped pages of a span are read here and there: it reads no others
 * ahead.
 */
void model_file_random_pages(sl_span span);
/* Tells the system that the mapped pages of a span will not be read again soon. */
void model_file_release_pages(sl_span span);

#endif
