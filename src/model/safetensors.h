/* safetensors.h - reads safetensors files (Hugging Face's format: u64 header length, JSON header,
 * raw little-endian tensors).
 *
 * As with GGUF, the directory points into the mapped file and every offset is checked once. Shapes
 * are turned round to this house's order: dims[0] is the contiguous one. */
#ifndef SL_MODEL_SAFETENSORS_H
#define SL_MODEL_SAFETENSORS_H

#include "base/buf.h"
#include "model/tensor.h"

typedef struct safetensors_dir {
    tensor_info *tensors; /* names are owned copies, data points into the image */
    size_t tensor_count;
} safetensors_dir;

/* Reads the header of a safetensors image.
 *
 * image: whole file; borrowed, must outlive *ret_dir. ret_dir: written only on SL_OK.
 *
 * SL_EFORMAT on any inconsistency (bad JSON, shape and span that differ, a span outside the file,
 * overlapping spans, a name twice), SL_ENOTSUP for types other than F64, F32, F16, BF16 and the
 * plain integers, SL_ELIMIT past a bound. */
SL_NODISCARD sl_status safetensors_parse(sl_span image, safetensors_dir *ret_dir, sl_err *err);
void safetensors_deinit(safetensors_dir *dir);

#endif
