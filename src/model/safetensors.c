/* safetensors.c - the safetensors reader. jansson parses the header; what it says is then checked
 * against the file before anything is believed. */
#include "model/safetensors.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

#include "base/mem.h"

#define HEADER_LEN_BYTES 8

static int type_of(const char *dtype)
{
    static const struct {
        const char *name;
        tensor_type type;
    } types[] = {
        { "F64", TENSOR_F64 },   { "F32", TENSOR_F32 }, { "F16", TENSOR_F16 },
        { "BF16", TENSOR_BF16 }, { "I64", TENSOR_I64 }, { "I32", TENSOR_I32 },
        { "I16", TENSOR_I16 },   { "I8", TENSOR_I8 },   { "U8", TENSOR_I8 },
        { "BOOL", TENSOR_I8 },
    };

    for (size_t i = 0; i < SL_COUNT_OF(types); i++)
        if (strcmp(types[i].name, dtype) == 0)
            return (int)types[i].type;
    return -1;
}

/* Fills type and dims; *ret_bytes is the size they ask for. */
static sl_status read_shape(const char *name, const json_t *entry, tensor_info *t,
                            uint64_t *ret_bytes, sl_err *err)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    const json_t *shape = json_object_get(entry, "shape");
    int type = dtype ? type_of(dtype) : -1;
    uint64_t elems = 1;
    size_t rank;

    if (!dtype || !json_is_array(shape))
        return sl_fail(err, SL_EFORMAT, "safetensors: tensor '%s' lacks dtype or shape", name);
    if (type < 0)
        return sl_fail(err, SL_ENOTSUP,
                       "safetensors: tensor '%s' has dtype %.40s; F32, F16 and BF16 are read", name,
                       dtype);
    rank = json_array_size(shape);
    if (rank > SL_TENSOR_DIMS_MAX)
        return sl_fail(err, SL_ELIMIT, "safetensors: tensor '%s' has %zu dimensions, at most %d",
                       name, rank, SL_TENSOR_DIMS_MAX);
    t->type = (uint32_t)type;
    t->dim_count = rank ? (uint32_t)rank : 1;
    for (size_t i = 0; i < SL_TENSOR_DIMS_MAX; i++)
        t->dims[i] = 1;
    for (size_t i = 0; i < rank; i++) {
        const json_t *d = json_array_get(shape, i);

        if (!json_is_integer(d) || json_integer_value(d) <= 0 ||
            __builtin_mul_overflow(elems, (uint64_t)json_integer_value(d), &elems) ||
            elems > INT64_MAX / 8)
            return sl_fail(err, SL_EFORMAT, "safetensors: tensor '%s' has an impossible shape",
                           name);
        t->dims[rank - 1 - i] = (uint64_t)json_integer_value(d);
    }
    *ret_bytes = elems * tensor_block_bytes(t->type);
    return SL_OK;
}

static sl_status read_entry(const char *name, const json_t *entry, sl_span data, tensor_info *t,
                            sl_err *err)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    json_int_t begin, end;
    uint64_t bytes = 0;
    size_t name_len = strlen(name);
    char *copy;

    if (name_len == 0 || name_len > SL_TENSOR_NAME_MAX)
        return sl_fail(err, SL_EFORMAT, "safetensors: a tensor name has %zu bytes, not 1 to %d",
                       name_len, SL_TENSOR_NAME_MAX);
    SL_TRY(read_shape(name, entry, t, &bytes, err));
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !json_is_integer(json_array_get(offsets, 0)) ||
        !json_is_integer(json_array_get(offsets, 1)))
        return sl_fail(err, SL_EFORMAT, "safetensors: tensor '%s' lacks data_offsets", name);
    begin = json_integer_value(json_array_get(offsets, 0));
    end = json_integer_value(json_array_get(offsets, 1));
    if (begin < 0 || end < begin || (uint64_t)end > data.len)
        return sl_fail(err, SL_EFORMAT,
                       "safetensors: tensor '%s' lies at %lld to %lld of %zu data bytes; is the "
                       "download complete?",
                       name, (long long)begin, (long long)end, data.len);
    if ((uint64_t)(end - begin) != bytes)
        return sl_fail(err, SL_EFORMAT,
                       "safetensors: tensor '%s' needs %" PRIu64 " bytes, its span has %lld", name,
                       bytes, (long long)(end - begin));
    copy = sl_strdup(name);
    if (!copy)
        return sl_fail(err, SL_ENOMEM, "safetensors: out of memory");
    t->name = sl_span_of(copy, name_len);
    t->data = sl_span_of(data.ptr + begin, (size_t)(end - begin));
    return SL_OK;
}

static int by_place(const void *a, const void *b)
{
    const uint8_t *x = (*(const tensor_info *const *)a)->data.ptr;
    const uint8_t *y = (*(const tensor_info *const *)b)->data.ptr;

    return (x > y) - (x < y);
}

/* No two tensors may share bytes: the specification forbids it, hostile files try it. */
static sl_status check_overlap(const safetensors_dir *dir, sl_err *err)
{
    const tensor_info **order = sl_calloc(dir->tensor_count, sizeof(const tensor_info *));
    sl_status status = SL_OK;

    if (!order)
        return sl_fail(err, SL_ENOMEM, "safetensors: out of memory");
    for (size_t i = 0; i < dir->tensor_count; i++)
        order[i] = &dir->tensors[i];
    qsort(order, dir->tensor_count, sizeof(const tensor_info *), by_place);
    for (size_t i = 1; i < dir->tensor_count && status == SL_OK; i++)
        if (order[i - 1]->data.ptr + order[i - 1]->data.len > order[i]->data.ptr)
            status = sl_fail(err, SL_EFORMAT, "safetensors: tensors '%.*s' and '%.*s' overlap",
                             (int)order[i - 1]->name.len, (const char *)order[i - 1]->name.ptr,
                             (int)order[i]->name.len, (const char *)order[i]->name.ptr);
    sl_free(order);
    return status;
}

static sl_status read_entries(const json_t *root, sl_span data, safetensors_dir *dir, sl_err *err)
{
    const char *name;
    json_t *entry;

    dir->tensors = sl_calloc(json_object_size(root), sizeof *dir->tensors);
    if (!dir->tensors)
        return sl_fail(err, SL_ENOMEM, "safetensors: out of memory");
    json_object_foreach((json_t *)(uintptr_t)root, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        if (dir->tensor_count >= SL_GGUF_TENSORS_MAX)
            return sl_fail(err, SL_ELIMIT, "safetensors: more than %d tensors",
                           SL_GGUF_TENSORS_MAX);
        SL_TRY(read_entry(name, entry, data, &dir->tensors[dir->tensor_count], err));
        dir->tensor_count++;
    }
    return check_overlap(dir, err);
}

sl_status safetensors_parse(sl_span image, safetensors_dir *ret_dir, sl_err *err)
{
    safetensors_dir dir = { 0 };
    json_error_t jerr;
    json_t *root;
    uint64_t header_len = 0;
    sl_status status;

    if (image.len < HEADER_LEN_BYTES)
        return sl_fail(err, SL_EFORMAT, "safetensors: %zu bytes, the header length needs %d",
                       image.len, HEADER_LEN_BYTES);
    memcpy(&header_len, image.ptr, sizeof header_len);
    if (header_len > SL_SAFETENSORS_HEADER_BYTES_MAX)
        return sl_fail(err, SL_ELIMIT,
                       "safetensors: the header claims %" PRIu64 " bytes, at most %zu", header_len,
                       SL_SAFETENSORS_HEADER_BYTES_MAX);
    if (header_len > image.len - HEADER_LEN_BYTES)
        return sl_fail(err, SL_EFORMAT,
                       "safetensors: the header claims %" PRIu64
                       " bytes at byte 8, the file has %zu",
                       header_len, image.len);
    root = json_loadb((const char *)image.ptr + HEADER_LEN_BYTES, (size_t)header_len,
                      JSON_REJECT_DUPLICATES, &jerr);
    if (!root)
        return sl_fail(err, SL_EFORMAT, "safetensors: header at byte %d: %s",
                       HEADER_LEN_BYTES + jerr.position, jerr.text);
    if (!json_is_object(root))
        status = sl_fail(err, SL_EFORMAT, "safetensors: the header is not a JSON object");
    else
        status = read_entries(root,
                              sl_span_of(image.ptr + HEADER_LEN_BYTES + header_len,
                                         image.len - HEADER_LEN_BYTES - (size_t)header_len),
                              &dir, err);
    json_decref(root);
    if (status == SL_OK)
        *ret_dir = dir;
    else
        safetensors_deinit(&dir);
    return status;
}

void safetensors_deinit(safetensors_dir *dir)
{
    for (size_t i = 0; i < dir->tensor_count; i++)
        sl_free((void *)(uintptr_t)dir->tensors[i].name.ptr);
    sl_free(dir->tensors);
    *dir = (safetensors_dir){ 0 };
}
