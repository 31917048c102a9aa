/* gguf.c - the GGUF reader.
 *
 * One cursor walks the image; every read goes through take(), which knows how many bytes are left.
 * What a hostile file can do is therefore limited to being refused with the field and the offset
 * where it stopped making sense. Format: ggml's docs/gguf.md. */
#include "model/gguf.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

#define GGUF_ALIGNMENT_DEFAULT 32
#define GGUF_ALIGNMENT_MAX     (1 << 20)
#define KV_BYTES_MIN           13 /* key length, type, one byte */
#define TENSOR_BYTES_MIN       32 /* name length, dims, one dim, type, offset */

typedef struct cursor {
    sl_span image;
    size_t pos;
    const char *field; /* what is being read, for messages */
    sl_err *err;
} cursor;

static sl_status bad(cursor *c, const char *what)
{
    return sl_fail(c->err, SL_EFORMAT, "GGUF: %s at byte %zu: %s", c->field, c->pos, what);
}

/* Advances over len bytes; NULL when they are not there. */
static const uint8_t *take(cursor *c, uint64_t len)
{
    const uint8_t *p = c->image.ptr + c->pos;

    if (len > c->image.len - c->pos)
        return NULL;
    c->pos += (size_t)len;
    return p;
}

static sl_status take_u32(cursor *c, uint32_t *ret)
{
    const uint8_t *p = take(c, sizeof *ret);

    if (!p)
        return bad(c, "the file ends here");
    memcpy(ret, p, sizeof *ret);
    return SL_OK;
}

static sl_status take_u64(cursor *c, uint64_t *ret)
{
    const uint8_t *p = take(c, sizeof *ret);

    if (!p)
        return bad(c, "the file ends here");
    memcpy(ret, p, sizeof *ret);
    return SL_OK;
}

static sl_status take_str(cursor *c, uint64_t len_max, sl_span *ret)
{
    uint64_t len = 0;
    const uint8_t *p;

    SL_TRY(take_u64(c, &len));
    if (len > len_max)
        return bad(c, "string too long");
    p = take(c, len);
    if (!p)
        return bad(c, "string runs past the end of the file");
    *ret = sl_span_of(p, (size_t)len);
    return SL_OK;
}

/* Bytes of a scalar of this type; 0 for strings and arrays. */
static size_t scalar_bytes(gguf_type type)
{
    static const uint8_t bytes[GGUF_TYPE_COUNT] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,
        [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
        [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
    };

    return bytes[type];
}

static sl_status read_array(cursor *c, gguf_kv *kv)
{
    uint32_t elem = 0;
    size_t start;

    SL_TRY(take_u32(c, &elem));
    if (elem >= GGUF_TYPE_COUNT)
        return bad(c, "unknown array element type");
    if (elem == GGUF_ARRAY)
        return sl_fail(c->err, SL_ENOTSUP, "GGUF: %s at byte %zu: arrays of arrays", c->field,
                       c->pos);
    SL_TRY(take_u64(c, &kv->count));
    if (kv->count > SL_GGUF_ARRAY_MAX)
        return sl_fail(c->err, SL_ELIMIT, "GGUF: %s at byte %zu: %" PRIu64 " elements, at most %d",
                       c->field, c->pos, kv->count, SL_GGUF_ARRAY_MAX);
    kv->elem_type = (gguf_type)elem;
    start = c->pos;
    if (elem == GGUF_STRING) {
        sl_span text;

        for (uint64_t i = 0; i < kv->count; i++)
            SL_TRY(take_str(c, UINT64_MAX, &text));
    } else if (!take(c, kv->count * scalar_bytes(kv->elem_type))) {
        return bad(c, "array runs past the end of the file");
    }
    kv->value = sl_span_of(c->image.ptr + start, c->pos - start);
    return SL_OK;
}

static sl_status read_kv(cursor *c, gguf_kv *kv)
{
    uint32_t type = 0;
    const uint8_t *p;

    c->field = "metadata key";
    SL_TRY(take_str(c, SL_GGUF_KEY_BYTES_MAX, &kv->key));
    if (kv->key.len == 0 || memchr(kv->key.ptr, 0, kv->key.len))
        return bad(c, "empty key, or a key with a zero byte");
    c->field = "metadata value";
    SL_TRY(take_u32(c, &type));
    if (type >= GGUF_TYPE_COUNT)
        return bad(c, "unknown value type");
    kv->type = (gguf_type)type;
    kv->elem_type = (gguf_type)type;
    kv->count = 1;
    if (kv->type == GGUF_ARRAY)
        return read_array(c, kv);
    if (kv->type == GGUF_STRING)
        return take_str(c, UINT64_MAX, &kv->value);
    p = take(c, scalar_bytes(kv->type));
    if (!p)
        return bad(c, "the file ends here");
    kv->value = sl_span_of(p, scalar_bytes(kv->type));
    return SL_OK;
}

/* Checks type and shape and computes the size in bytes. */
static sl_status check_shape(cursor *c, const tensor_info *t, uint64_t *ret_bytes)
{
    uint64_t block = tensor_block_elems(t->type), elems = 1;

    if (block == 0)
        return sl_fail(
            c->err, SL_ENOTSUP,
            "GGUF: tensor '%.*s' has type %u, which Sluice does not read; requantize the "
            "model to Q4_K_M, Q8_0 or another common type",
            (int)t->name.len, (const char *)t->name.ptr, t->type);
    for (uint32_t i = 0; i < SL_TENSOR_DIMS_MAX; i++) {
        if (t->dims[i] == 0 || __builtin_mul_overflow(elems, t->dims[i], &elems) ||
            elems > INT64_MAX / 8)
            return bad(c, "impossible tensor shape");
    }
    if (t->dims[0] % block != 0)
        return bad(c, "row length is not a multiple of the type's block");
    if (__builtin_mul_overflow(elems / block, (uint64_t)tensor_block_bytes(t->type), ret_bytes))
        return bad(c, "impossible tensor size");
    return SL_OK;
}

/* Reads one tensor entry; data.ptr stays NULL and data.len holds the size until place_tensors. */
static sl_status read_tensor(cursor *c, tensor_info *t, uint64_t *ret_offset)
{
    uint64_t bytes = 0;

    c->field = "tensor name";
    SL_TRY(take_str(c, SL_TENSOR_NAME_MAX, &t->name));
    if (t->name.len == 0 || memchr(t->name.ptr, 0, t->name.len))
        return bad(c, "empty name, or a name with a zero byte");
    c->field = "tensor shape";
    SL_TRY(take_u32(c, &t->dim_count));
    if (t->dim_count == 0 || t->dim_count > SL_TENSOR_DIMS_MAX)
        return bad(c, "a tensor has 1 to 4 dimensions");
    for (uint32_t i = 0; i < SL_TENSOR_DIMS_MAX; i++)
        t->dims[i] = 1;
    for (uint32_t i = 0; i < t->dim_count; i++)
        SL_TRY(take_u64(c, &t->dims[i]));
    c->field = "tensor type";
    SL_TRY(take_u32(c, &t->type));
    SL_TRY(check_shape(c, t, &bytes));
    if (bytes > SIZE_MAX)
        return bad(c, "impossible tensor size");
    t->data.len = (size_t)bytes;
    c->field = "tensor offset";
    return take_u64(c, ret_offset);
}

/* Turns offsets into spans of the image. */
static sl_status place_tensors(cursor *c, gguf_dir *dir, const uint64_t *offsets, uint64_t align)
{
    uint64_t base = (c->pos + align - 1) / align * align;

    dir->data_offset = base;
    c->field = "tensor data";
    for (size_t i = 0; i < dir->tensor_count; i++) {
        tensor_info *t = &dir->tensors[i];
        uint64_t begin, end;

        if (offsets[i] % align != 0 || __builtin_add_overflow(base, offsets[i], &begin) ||
            __builtin_add_overflow(begin, (uint64_t)t->data.len, &end) || end > c->image.len)
            return sl_fail(
                c->err, SL_EFORMAT,
                "GGUF: data of tensor '%.*s' (offset %" PRIu64
                ", %zu bytes) lies outside the file of %zu bytes; is the download complete?",
                (int)t->name.len, (const char *)t->name.ptr, offsets[i], t->data.len, c->image.len);
        t->data.ptr = c->image.ptr + begin;
    }
    return SL_OK;
}

static int span_cmp(sl_span a, sl_span b)
{
    int r = memcmp(a.ptr, b.ptr, SL_MIN(a.len, b.len));

    return r ? r : (a.len > b.len) - (a.len < b.len);
}

static int kv_order_cmp(const void *a, const void *b, void *ctx)
{
    const gguf_kv *kvs = ctx;

    return span_cmp(kvs[*(const uint32_t *)a].key, kvs[*(const uint32_t *)b].key);
}

static int tensor_order_cmp(const void *a, const void *b, void *ctx)
{
    const tensor_info *ts = ctx;

    return span_cmp(ts[*(const uint32_t *)a].name, ts[*(const uint32_t *)b].name);
}

/* Sorts both directories by name; equal neighbours are duplicates. */
static sl_status build_order(cursor *c, gguf_dir *dir)
{
    for (uint32_t i = 0; i < dir->kv_count; i++)
        dir->kv_order[i] = i;
    for (uint32_t i = 0; i < dir->tensor_count; i++)
        dir->tensor_order[i] = i;
    qsort_r(dir->kv_order, dir->kv_count, sizeof *dir->kv_order, kv_order_cmp, dir->kvs);
    qsort_r(dir->tensor_order, dir->tensor_count, sizeof *dir->tensor_order, tensor_order_cmp,
            dir->tensors);
    for (size_t i = 1; i < dir->kv_count; i++) {
        sl_span key = dir->kvs[dir->kv_order[i]].key;

        if (sl_span_eq(key, dir->kvs[dir->kv_order[i - 1]].key))
            return sl_fail(c->err, SL_EFORMAT, "GGUF: metadata key '%.*s' appears twice",
                           (int)SL_MIN(key.len, 200), (const char *)key.ptr);
    }
    for (size_t i = 1; i < dir->tensor_count; i++) {
        sl_span name = dir->tensors[dir->tensor_order[i]].name;

        if (sl_span_eq(name, dir->tensors[dir->tensor_order[i - 1]].name))
            return sl_fail(c->err, SL_EFORMAT, "GGUF: tensor '%.*s' appears twice", (int)name.len,
                           (const char *)name.ptr);
    }
    return SL_OK;
}

static sl_status read_header(cursor *c, gguf_dir *dir)
{
    const uint8_t *magic;
    uint64_t tensors = 0, kvs = 0;

    c->field = "magic";
    magic = take(c, 4);
    if (!magic || memcmp(magic, "GGUF", 4) != 0)
        return sl_fail(c->err, SL_EFORMAT, "not a GGUF file: it does not begin with \"GGUF\"");
    c->field = "version";
    SL_TRY(take_u32(c, &dir->version));
    if (dir->version == 0x02000000 || dir->version == 0x03000000)
        return sl_fail(c->err, SL_ENOTSUP, "GGUF: big-endian files are not supported");
    if (dir->version != 2 && dir->version != 3)
        return sl_fail(c->err, SL_ENOTSUP, "GGUF: version %u; versions 2 and 3 are supported",
                       dir->version);
    c->field = "tensor count";
    SL_TRY(take_u64(c, &tensors));
    c->field = "metadata count";
    SL_TRY(take_u64(c, &kvs));
    if (tensors > SL_GGUF_TENSORS_MAX || tensors > c->image.len / TENSOR_BYTES_MIN)
        return bad(c, "more tensors than the file can hold");
    if (kvs > SL_GGUF_KEYS_MAX || kvs > c->image.len / KV_BYTES_MIN)
        return bad(c, "more metadata keys than the file can hold");
    dir->tensor_count = (size_t)tensors;
    dir->kv_count = (size_t)kvs;
    return SL_OK;
}

sl_status gguf_parse(sl_span image, gguf_dir *ret_dir, sl_err *err)
{
    cursor c = { .image = image, .err = err };
    gguf_dir dir = { 0 };
    uint64_t *offsets = NULL;
    uint64_t align;
    sl_status status;

    if ((status = read_header(&c, &dir)) != SL_OK)
        return status;
    dir.kvs = sl_calloc(dir.kv_count, sizeof *dir.kvs);
    dir.tensors = sl_calloc(dir.tensor_count, sizeof *dir.tensors);
    dir.kv_order = sl_calloc(dir.kv_count, sizeof *dir.kv_order);
    dir.tensor_order = sl_calloc(dir.tensor_count, sizeof *dir.tensor_order);
    offsets = sl_calloc(dir.tensor_count, sizeof *offsets);
    if (!dir.kvs || !dir.tensors || !dir.kv_order || !dir.tensor_order || !offsets) {
        status = sl_fail(err, SL_ENOMEM, "GGUF: out of memory for the directory");
        goto fail;
    }
    for (size_t i = 0; i < dir.kv_count; i++)
        if ((status = read_kv(&c, &dir.kvs[i])) != SL_OK)
            goto fail;
    for (size_t i = 0; i < dir.tensor_count; i++)
        if ((status = read_tensor(&c, &dir.tensors[i], &offsets[i])) != SL_OK)
            goto fail;
    if ((status = build_order(&c, &dir)) != SL_OK)
        goto fail;
    align = (uint64_t)gguf_get_int(&dir, "general.alignment", GGUF_ALIGNMENT_DEFAULT);
    if (align == 0 || align > GGUF_ALIGNMENT_MAX || (align & (align - 1)) != 0) {
        status = sl_fail(err, SL_EFORMAT,
                         "GGUF: general.alignment is %" PRIu64 ", not a power of two up to %d",
                         align, GGUF_ALIGNMENT_MAX);
        goto fail;
    }
    if ((status = place_tensors(&c, &dir, offsets, align)) != SL_OK)
        goto fail;
    sl_free(offsets);
    *ret_dir = dir;
    return SL_OK;

fail:
    sl_free(offsets);
    gguf_deinit(&dir);
    return status;
}

void gguf_deinit(gguf_dir *dir)
{
    sl_free(dir->kvs);
    sl_free(dir->tensors);
    sl_free(dir->kv_order);
    sl_free(dir->tensor_order);
    *dir = (gguf_dir){ 0 };
}

const gguf_kv *gguf_find(const gguf_dir *dir, const char *key)
{
    sl_span want = sl_span_str(key);
    size_t lo = 0, hi = dir->kv_count;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const gguf_kv *kv = &dir->kvs[dir->kv_order[mid]];
        int r = span_cmp(kv->key, want);

        if (r == 0)
            return kv;
        if (r < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

const tensor_info *gguf_tensor(const gguf_dir *dir, const char *name)
{
    sl_span want = sl_span_str(name);
    size_t lo = 0, hi = dir->tensor_count;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const tensor_info *t = &dir->tensors[dir->tensor_order[mid]];
        int r = span_cmp(t->name, want);

        if (r == 0)
            return t;
        if (r < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

/* The number at p, as an integer or a float, whatever its type. False for strings. */
static bool read_number(gguf_type type, const uint8_t *p, int64_t *ret_int, double *ret_float)
{
    int64_t i = 0;
    double f = 0;

#define READ(enumerator, ctype)                                                                    \
    case enumerator: {                                                                             \
        ctype v;                                                                                   \
        memcpy(&v, p, sizeof v);                                                                   \
        i = (int64_t)v;                                                                            \
        f = (double)v;                                                                             \
        break;                                                                                     \
    }
    switch (type) {
        READ(GGUF_U8, uint8_t)
        READ(GGUF_I8, int8_t)
        READ(GGUF_BOOL, uint8_t)
        READ(GGUF_U16, uint16_t)
        READ(GGUF_I16, int16_t)
        READ(GGUF_U32, uint32_t)
        READ(GGUF_I32, int32_t)
        READ(GGUF_U64, uint64_t)
        READ(GGUF_I64, int64_t)
    case GGUF_F32: {
        float v;

        memcpy(&v, p, sizeof v);
        f = (double)v;
        break;
    }
    case GGUF_F64:
        memcpy(&f, p, sizeof f);
        break;
    default:
        return false;
    }
#undef READ
    if (type == GGUF_F32 || type == GGUF_F64)
        i = f > -9e18 && f < 9e18 ? (int64_t)f : 0; /* false for NaN too */
    if (ret_int)
        *ret_int = i;
    if (ret_float)
        *ret_float = f;
    return true;
}

int64_t gguf_get_int(const gguf_dir *dir, const char *key, int64_t fallback)
{
    const gguf_kv *kv = gguf_find(dir, key);
    int64_t v;

    if (!kv || kv->type == GGUF_ARRAY || kv->type == GGUF_F32 || kv->type == GGUF_F64 ||
        !read_number(kv->type, kv->value.ptr, &v, NULL) || (kv->type == GGUF_U64 && v < 0))
        return fallback;
    return v;
}

double gguf_get_float(const gguf_dir *dir, const char *key, double fallback)
{
    const gguf_kv *kv = gguf_find(dir, key);
    double v;

    if (!kv || kv->type == GGUF_ARRAY || !read_number(kv->type, kv->value.ptr, NULL, &v))
        return fallback;
    return v;
}

bool gguf_get_bool(const gguf_dir *dir, const char *key, bool fallback)
{
    const gguf_kv *kv = gguf_find(dir, key);

    return kv && kv->type == GGUF_BOOL ? kv->value.ptr[0] != 0 : fallback;
}

sl_span gguf_get_str(const gguf_dir *dir, const char *key)
{
    const gguf_kv *kv = gguf_find(dir, key);

    return kv && kv->type == GGUF_STRING ? kv->value : sl_span_of(NULL, 0);
}

int64_t gguf_array_int(const gguf_kv *kv, uint64_t i)
{
    int64_t v = 0;

    SL_ASSERT(i < kv->count);
    (void)read_number(kv->elem_type, kv->value.ptr + i * scalar_bytes(kv->elem_type), &v, NULL);
    return v;
}

double gguf_array_float(const gguf_kv *kv, uint64_t i)
{
    double v = 0;

    SL_ASSERT(i < kv->count);
    (void)read_number(kv->elem_type, kv->value.ptr + i * scalar_bytes(kv->elem_type), NULL, &v);
    return v;
}

sl_span gguf_array_next_str(const gguf_kv *kv, size_t *cursor_pos)
{
    uint64_t len = 0;
    sl_span text;

    SL_ASSERT(kv->elem_type == GGUF_STRING);
    SL_ASSERT(*cursor_pos + sizeof len <= kv->value.len);
    memcpy(&len, kv->value.ptr + *cursor_pos, sizeof len);
    text = sl_span_of(kv->value.ptr + *cursor_pos + sizeof len, (size_t)len);
    *cursor_pos += sizeof len + (size_t)len;
    return text;
}
