/* tensor.h - what a tensor in a file is: a name, a type, a shape and bytes. */
#ifndef SL_MODEL_TENSOR_H
#define SL_MODEL_TENSOR_H

#include <stdint.h>

#include "base/buf.h"
#include "base/limits.h"

/* name, GGUF id, block (elements), bytes per block. Ids are those of the GGUF specification. */
#define TENSOR_TYPE_MAP(X)                                                                         \
    X(F32, 0, 1, 4)                                                                                \
    X(F16, 1, 1, 2)                                                                                \
    X(Q4_0, 2, 32, 18)                                                                             \
    X(Q4_1, 3, 32, 20)                                                                             \
    X(Q5_0, 6, 32, 22)                                                                             \
    X(Q5_1, 7, 32, 24)                                                                             \
    X(Q8_0, 8, 32, 34)                                                                             \
    X(Q2_K, 10, 256, 84)                                                                           \
    X(Q3_K, 11, 256, 110)                                                                          \
    X(Q4_K, 12, 256, 144)                                                                          \
    X(Q5_K, 13, 256, 176)                                                                          \
    X(Q6_K, 14, 256, 210)                                                                          \
    X(I8, 24, 1, 1)                                                                                \
    X(I16, 25, 1, 2)                                                                               \
    X(I32, 26, 1, 4)                                                                               \
    X(I64, 27, 1, 8)                                                                               \
    X(F64, 28, 1, 8)                                                                               \
    X(BF16, 30, 1, 2)

typedef enum tensor_type {
#define TENSOR_TYPE_ENUM(name, id, block, bytes) TENSOR_##name = (id),
    TENSOR_TYPE_MAP(TENSOR_TYPE_ENUM)
#undef TENSOR_TYPE_ENUM
        TENSOR_TYPE_ID_MAX = 64
} tensor_type;

/* Elements and bytes of one block; 0 for an id that is not in the map. */
uint32_t tensor_block_elems(uint32_t type);
uint32_t tensor_block_bytes(uint32_t type);
/* "Q4_1", or NULL for an id that is not in the map. */
const char *tensor_type_name(uint32_t type);

typedef struct tensor_info {
    sl_span name;  /* in the image, not NUL-terminated */
    uint32_t type; /* a tensor_type */
    uint32_t dim_count;
    uint64_t
        dims[SL_TENSOR_DIMS_MAX]; /* dims[0] is contiguous: the row length; unused dims are 1 */
    sl_span data;                 /* all elements, rows of dims[0] */
} tensor_info;

/* Product of all dims. The readers guarantee that it does not overflow. */
uint64_t tensor_elems(const tensor_info *t);

#endif
