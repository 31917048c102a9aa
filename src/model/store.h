/* store.h - where models are kept: content-addressed files and manifests that name them.
 *
 *   models/blobs/sha256-<hex>      a file, read-only, named by what it holds
 *   models/manifests/<name>.json   {"name", "source", "created", "files":
 * [{"path","sha256","bytes"}]} models/trees/<name>/<path>     links to the blobs, for models that
 * are directories models/partial/<key>           downloads under way; a key is a hash or a URL's
 * hash
 *
 * Crash-safe: a blob is complete and synced before its name exists, a manifest is written last, so
 * whatever a manifest names is whole. One process writes at a time per name; readers need no lock.
 */
#ifndef SL_MODEL_STORE_H
#define SL_MODEL_STORE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define MODEL_SHA256_HEX 65 /* with the terminator */

typedef struct model_store model_store;

typedef struct model_store_file {
    const char *path; /* inside the model: "model.safetensors" */
    char sha256[MODEL_SHA256_HEX];
    uint64_t bytes;
} model_store_file;

/* data_dir is made if missing. */
SL_NODISCARD sl_status model_store_open(const char *data_dir, model_store **ret, sl_err *err);
void model_store_close(model_store *s); /* accepts NULL */

/* A path for a download under way; equal keys share it, so that it can be resumed. */
SL_NODISCARD sl_status model_store_partial(const model_store *s, const char *key, sl_buf *ret_path,
                                           sl_err *err);
bool model_store_has_blob(const model_store *s, const char *sha256);
/* Path of a blob, whether it exists or not. */
SL_NODISCARD sl_status model_store_blob(const model_store *s, const char *sha256, sl_buf *ret_path,
                                        sl_err *err);
/* Moves a finished file into the store. want: the sha256 it must have (hex), or NULL; a file that
 * differs is removed and SL_EFORMAT says both sums. ret_sha256 gets the sum. */
SL_NODISCARD sl_status model_store_add_blob(model_store *s, const char *file, const char *want,
                                            char ret_sha256[MODEL_SHA256_HEX], uint64_t *ret_bytes,
                                            sl_err *err);

/* Names a model after its blobs exist; replaces one of the same name. A single file whose path has
 * no directory part and ends in .gguf is opened as the blob itself, anything else as a tree. */
SL_NODISCARD sl_status model_store_put(model_store *s, const char *name, const char *source,
                                       const model_store_file *files, size_t count, sl_err *err);
/* The same with more keys in the manifest (an object, or NULL): what a model made from another adds
 * to it. */
SL_NODISCARD sl_status model_store_put_made(model_store *s, const char *name, const char *source,
                                            const model_store_file *files, size_t count,
                                            const json_t *more, sl_err *err);
/* The manifest of a model; the caller's. SL_ENOTFOUND when there is none. */
SL_NODISCARD sl_status model_store_manifest(const model_store *s, const char *name, json_t **ret,
                                            sl_err *err);
/* Changes whenever a manifest is written or removed. */
int64_t model_store_stamp(const model_store *s);
/* The path that model_file_open takes. SL_ENOTFOUND when there is no such model. */
SL_NODISCARD sl_status model_store_resolve(const model_store *s, const char *name, sl_buf *ret_path,
                                           sl_err *err);
/* The manifests as a JSON array, sorted by name; the caller's. */
SL_NODISCARD sl_status model_store_list(const model_store *s, json_t **ret, sl_err *err);
/* Forgets a model, and removes the blobs that no other manifest names. */
SL_NODISCARD sl_status model_store_remove(model_store *s, const char *name, sl_err *err);

/* Names are 1 to 128 of letters, digits, '.', '_', '-', ':', and '/' between parts that do not
 * begin with '.': "smollm2", "hf.co/owner/repo:Q4_0". */
#define MODEL_NAME_MAX 128
bool model_store_name_ok(const char *name);

/* SHA-256 of a file, as hex. */
SL_NODISCARD sl_status model_sha256_file(const char *path, char ret[MODEL_SHA256_HEX],
                                         uint64_t *ret_bytes, sl_err *err);

#endif
