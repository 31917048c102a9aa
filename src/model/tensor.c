/* tensor.c - facts about tensor types. */
#include "model/tensor.h"

uint32_t tensor_block_elems(uint32_t type)
{
    switch (type) {
#define BLOCK_ELEMS(name, id, block, bytes)                                                        \
    case id:                                                                                       \
        return block;
        TENSOR_TYPE_MAP(BLOCK_ELEMS)
#undef BLOCK_ELEMS
    default:
        return 0;
    }
}

uint32_t tensor_block_bytes(uint32_t type)
{
    switch (type) {
#define BLOCK_BYTES(name, id, block, bytes)                                                        \
    case id:                                                                                       \
        return bytes;
        TENSOR_TYPE_MAP(BLOCK_BYTES)
#undef BLOCK_BYTES
    default:
        return 0;
    }
}

const char *tensor_type_name(uint32_t type)
{
    switch (type) {
#define TYPE_NAME(name, id, block, bytes)                                                          \
    case id:                                                                                       \
        return #name;
        TENSOR_TYPE_MAP(TYPE_NAME)
#undef TYPE_NAME
    default:
        return NULL;
    }
}

uint64_t tensor_elems(const tensor_info *t)
{
    uint64_t n = 1;

    for (uint32_t i = 0; i < SL_TENSOR_DIMS_MAX; i++)
        n *= t->dims[i];
    return n;
}
