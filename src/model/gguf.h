/* gguf.h - reads GGUF files (version 2 and 3, little-endian).
 *
 * The directory points into the mapped file; nothing of the file is copied. Parsing checks every
 * length, count, type and offset once, so that the accessors below need no further checks: after
 * gguf_parse succeeded, no accessor reads outside the image. A directory is read-only once parsed
 * and may be shared between threads. */
#ifndef SL_MODEL_GGUF_H
#define SL_MODEL_GGUF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/limits.h"
#include "model/tensor.h"

typedef enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_COUNT
} gguf_type;

/* One metadata entry. All spans point into the image. */
typedef struct gguf_kv {
    sl_span key;
    gguf_type type;
    gguf_type elem_type; /* of an array; never GGUF_ARRAY (nested arrays are refused) */
    uint64_t count;      /* elements of an array; 1 otherwise */
    sl_span value;       /* the bytes of the value: the text of a string, the packed elements of
                            an array (strings as u64 length + text), or the scalar */
} gguf_kv;

typedef struct gguf_dir {
    uint32_t version;
    uint64_t data_offset; /* where tensor data begins in the image */
    gguf_kv *kvs;
    size_t kv_count;
    tensor_info *tensors; /* in file order; data spans point into the image */
    size_t tensor_count;
    uint32_t *kv_order;     /* indices sorted by key, for lookup; private */
    uint32_t *tensor_order; /* indices sorted by name, for lookup; private */
} gguf_dir;

/* Reads the directory of a GGUF image.
 *
 * image:   whole file; borrowed, must outlive *ret_dir
 * ret_dir: written only on SL_OK; release with gguf_deinit
 * err:     names the field and the byte offset
 *
 * SL_EFORMAT on any inconsistency, SL_ELIMIT past a bound of base/limits.h, SL_ENOTSUP for
 * version 1, big-endian files and nested arrays. Reads nothing outside image, whatever it holds. */
SL_NODISCARD sl_status gguf_parse(sl_span image, gguf_dir *ret_dir, sl_err *err);
void gguf_deinit(gguf_dir *dir);

/* Lookups; NULL when absent. */
const gguf_kv *gguf_find(const gguf_dir *dir, const char *key);
const tensor_info *gguf_tensor(const gguf_dir *dir, const char *name);

/* Typed reads that return fallback when the key is absent or of an unfitting type. The integer
 * and float forms convert between widths; an integer outside int64 is treated as unfitting. */
int64_t gguf_get_int(const gguf_dir *dir, const char *key, int64_t fallback);
double gguf_get_float(const gguf_dir *dir, const char *key, double fallback);
bool gguf_get_bool(const gguf_dir *dir, const char *key, bool fallback);
/* The text of a string value, pointing into the image (not NUL-terminated); {NULL, 0} if absent. */
sl_span gguf_get_str(const gguf_dir *dir, const char *key);

/* Element i of a numeric or bool array (i < kv->count), converted. */
int64_t gguf_array_int(const gguf_kv *kv, uint64_t i);
double gguf_array_float(const gguf_kv *kv, uint64_t i);
/* Walks a string array: *cursor starts at 0 and is advanced; call it kv->count times at most. */
sl_span gguf_array_next_str(const gguf_kv *kv, size_t *cursor);

#endif
