/* file.c - opens models made of one or many files. */
#include "model/file.h"

#include <dirent.h>
#include <jansson.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/os.h"
#include "model/safetensors.h"

typedef struct shard {
    sl_file_map map;
    gguf_dir gguf; /* one of the two is filled */
    safetensors_dir safe;
} shard;

struct model_file {
    shard *shards;
    size_t shard_count;
    bool is_gguf;
    const tensor_info **tensors; /* all shards, sorted by name */
    size_t tensor_count;
    json_t *config, *pooling, *modules; /* Hugging Face layout */
    json_t *sentence;                   /* config_sentence_transformers.json */
    sl_buf tokenizer, tokenizer_config;
    uint64_t bytes;
};

static int name_cmp(sl_span a, sl_span b)
{
    int r = memcmp(a.ptr, b.ptr, SL_MIN(a.len, b.len));

    return r ? r : (a.len > b.len) - (a.len < b.len);
}

static int by_name(const void *a, const void *b)
{
    return name_cmp((*(const tensor_info *const *)a)->name, (*(const tensor_info *const *)b)->name);
}

/* Collects the tensors of all shards into one sorted list. */
static sl_status index_tensors(model_file *m, sl_err *err)
{
    size_t count = 0;

    for (size_t i = 0; i < m->shard_count; i++) {
        count += m->shards[i].gguf.tensor_count + m->shards[i].safe.tensor_count;
        m->bytes += m->shards[i].map.bytes.len;
    }
    m->tensors = sl_calloc(count, sizeof(const tensor_info *));
    if (!m->tensors)
        return sl_fail(err, SL_ENOMEM, "out of memory for %zu tensors", count);
    for (size_t i = 0; i < m->shard_count; i++) {
        const shard *s = &m->shards[i];

        for (size_t j = 0; j < s->gguf.tensor_count; j++)
            m->tensors[m->tensor_count++] = &s->gguf.tensors[j];
        for (size_t j = 0; j < s->safe.tensor_count; j++)
            m->tensors[m->tensor_count++] = &s->safe.tensors[j];
    }
    qsort(m->tensors, m->tensor_count, sizeof(const tensor_info *), by_name);
    for (size_t i = 1; i < m->tensor_count; i++)
        if (by_name(&m->tensors[i - 1], &m->tensors[i]) == 0)
            return sl_fail(err, SL_EFORMAT, "tensor '%.*s' is in two shards",
                           (int)m->tensors[i]->name.len, (const char *)m->tensors[i]->name.ptr);
    return SL_OK;
}

static sl_status open_shard(shard *s, const char *path, bool is_gguf, sl_err *err)
{
    sl_status status;

    SL_TRY(sl_file_map_open(path, &s->map, err));
    status = is_gguf ? gguf_parse(s->map.bytes, &s->gguf, err)
                     : safetensors_parse(s->map.bytes, &s->safe, err);
    return status == SL_OK ? SL_OK : sl_err_prefix(err, status, "%s", path);
}

static sl_status alloc_shards(model_file *m, size_t count, sl_err *err)
{
    m->shards = sl_calloc(count, sizeof *m->shards);
    if (!m->shards)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    m->shard_count = count;
    return SL_OK;
}

/* Path of shard number `no` (from 1) of `count`, from the path of the first: the name ends in
 * -00001-of-0000N.gguf. */
static sl_status shard_path(const char *first, int64_t no, int64_t count, sl_buf *out, sl_err *err)
{
    static const char tail[] = "-00001-of-00000.gguf";
    size_t len = strlen(first);
    char want[32];

    snprintf(want, sizeof want, "-00001-of-%05d.gguf", (int)count);
    if (len < sizeof tail || strcmp(first + len - (sizeof tail - 1), want) != 0)
        return sl_fail(err, SL_EINVAL,
                       "%s is one of %lld shards; open the first, whose name ends in %s", first,
                       (long long)count, want);
    sl_buf_clear(out);
    sl_buf_put(out, first, len - (sizeof tail - 1));
    sl_buf_printf(out, "-%05d-of-%05d.gguf", (int)no, (int)count);
    return sl_buf_ok(out, "path", err);
}

static sl_status open_gguf(model_file *m, const char *path, sl_err *err)
{
    shard first = { 0 };
    sl_buf name;
    int64_t count;
    sl_status status = open_shard(&first, path, true, err);

    m->is_gguf = true;
    sl_buf_init(&name, 8192);
    count = status == SL_OK ? gguf_get_int(&first.gguf, "split.count", 1) : 1;
    if (count < 1)
        count = 1;
    if (status == SL_OK && count > SL_GGUF_SHARDS_MAX)
        status = sl_fail(err, SL_ELIMIT, "%s: split.count is %lld, at most %d", path,
                         (long long)count, SL_GGUF_SHARDS_MAX);
    if (status == SL_OK)
        status = alloc_shards(m, (size_t)count, err);
    if (status != SL_OK) {
        gguf_deinit(&first.gguf);
        sl_file_map_close(&first.map);
        goto done;
    }
    m->shards[0] = first;
    for (int64_t i = 1; i < count && status == SL_OK; i++) {
        status = shard_path(path, i + 1, count, &name, err);
        if (status == SL_OK)
            status = open_shard(&m->shards[i], sl_buf_str(&name), true, err);
    }
done:
    sl_buf_deinit(&name);
    return status;
}

/* Reads dir/name as JSON; *ret stays NULL when the file is absent and optional. */
static sl_status load_json(const char *dir, const char *name, bool optional, json_t **ret,
                           sl_err *err)
{
    sl_buf path, text;
    json_error_t jerr;
    sl_status status;

    sl_buf_init(&path, 8192);
    sl_buf_init(&text, SL_JSON_BYTES_MAX);
    sl_buf_printf(&path, "%s/%s", dir, name);
    status = sl_buf_ok(&path, "path", err);
    if (status == SL_OK && (!optional || sl_file_exists(path.ptr)))
        status = sl_file_read(path.ptr, SL_JSON_BYTES_MAX, &text, err);
    if (status == SL_OK && text.len) {
        *ret = json_loadb(text.ptr, text.len, 0, &jerr);
        if (!*ret)
            status = sl_fail(err, SL_EFORMAT, "%s: line %d: %s", path.ptr, jerr.line, jerr.text);
    }
    sl_buf_deinit(&path);
    sl_buf_deinit(&text);
    return status;
}

static sl_status load_text(const char *dir, const char *name, sl_buf *out, sl_err *err)
{
    sl_buf path;
    sl_status status;

    sl_buf_init(&path, 8192);
    sl_buf_printf(&path, "%s/%s", dir, name);
    status = sl_buf_ok(&path, "path", err);
    if (status == SL_OK && sl_file_exists(path.ptr))
        status = sl_file_read(path.ptr, SL_JSON_BYTES_MAX, out, err);
    sl_buf_deinit(&path);
    return status;
}

/* Adds dir/name to the list of weight files unless it is there. */
static sl_status add_name(json_t *names, const char *name, sl_err *err)
{
    if (strchr(name, '/') || name[0] == '.' || json_object_size(names) >= SL_GGUF_SHARDS_MAX)
        return sl_fail(err, SL_EFORMAT, "model.safetensors.index.json names the file '%.100s'",
                       name);
    if (json_object_set_new(names, name, json_true()) != 0)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    return SL_OK;
}

/* The weight files of a directory: those its index names, or the single file. */
static sl_status list_weights(const char *dir, const char *single, json_t *names, sl_err *err)
{
    json_t *index = NULL, *map, *value;
    const char *tensor;
    sl_status status;

    if (single)
        return add_name(names, single, err);
    SL_TRY(load_json(dir, "model.safetensors.index.json", true, &index, err));
    if (!index)
        return add_name(names, "model.safetensors", err);
    map = json_object_get(index, "weight_map");
    status = json_is_object(map) && json_object_size(map)
                 ? SL_OK
                 : sl_fail(err, SL_EFORMAT, "model.safetensors.index.json: weight_map is missing");
    if (status == SL_OK) {
        json_object_foreach(map, tensor, value)
        {
            if (status == SL_OK)
                status =
                    json_is_string(value)
                        ? add_name(names, json_string_value(value), err)
                        : sl_fail(err, SL_EFORMAT,
                                  "model.safetensors.index.json: tensor '%.100s' names no file",
                                  tensor);
        }
    }
    json_decref(index);
    return status;
}

static sl_status open_weights(model_file *m, const char *dir, json_t *names, sl_err *err)
{
    const char *name;
    json_t *unused;
    size_t i = 0;
    sl_status status = alloc_shards(m, json_object_size(names), err);

    json_object_foreach(names, name, unused)
    {
        sl_buf path;

        (void)unused;
        if (status != SL_OK)
            break;
        sl_buf_init(&path, 8192);
        sl_buf_printf(&path, "%s/%s", dir, name);
        status = sl_buf_ok(&path, "path", err);
        if (status == SL_OK)
            status = open_shard(&m->shards[i++], path.ptr, false, err);
        sl_buf_deinit(&path);
    }
    return status;
}

static sl_status open_hf(model_file *m, const char *dir, const char *single, sl_err *err)
{
    json_t *names = json_object();
    sl_status status = names ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");

    if (status == SL_OK)
        status = load_json(dir, "config.json", false, &m->config, err);
    if (status == SL_OK)
        status = load_json(dir, "1_Pooling/config.json", true, &m->pooling, err);
    if (status == SL_OK)
        status = load_json(dir, "modules.json", true, &m->modules, err);
    if (status == SL_OK)
        status = load_json(dir, "config_sentence_transformers.json", true, &m->sentence, err);
    if (status == SL_OK)
        status = load_text(dir, "tokenizer.json", &m->tokenizer, err);
    if (status == SL_OK)
        status = load_text(dir, "tokenizer_config.json", &m->tokenizer_config, err);
    if (status == SL_OK)
        status = list_weights(dir, single, names, err);
    if (status == SL_OK)
        status = open_weights(m, dir, names, err);
    json_decref(names);
    return status;
}

static bool begins_with_gguf(const char *path)
{
    char magic[4] = { 0 };
    FILE *f = fopen(path, "rbe");
    bool is =
        f && fread(magic, 1, sizeof magic, f) == sizeof magic && memcmp(magic, "GGUF", 4) == 0;

    if (f)
        fclose(f);
    return is;
}

static sl_status open_any(model_file *m, const char *path, sl_err *err)
{
    size_t len = strlen(path);
    struct stat st;
    char *copy;
    sl_status status;

    if (stat(path, &st) != 0)
        return sl_fail(err, SL_ENOTFOUND, "cannot open %s: no such file or directory", path);
    if (S_ISDIR(st.st_mode))
        return open_hf(m, path, NULL, err);
    if (begins_with_gguf(path) || len < 12 || strcmp(path + len - 12, ".safetensors") != 0)
        return open_gguf(m, path, err);
    copy = sl_strdup(path);
    if (!copy)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    if (strrchr(copy, '/')) {
        char *slash = strrchr(copy, '/');

        *slash = '\0';
        status = open_hf(m, slash == copy ? "/" : copy, slash + 1, err);
    } else {
        status = open_hf(m, ".", copy, err);
    }
    sl_free(copy);
    return status;
}

sl_status model_file_open(const char *path, model_file **ret, sl_err *err)
{
    model_file *m = sl_calloc(1, sizeof *m);
    sl_status status;

    if (!m)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    sl_buf_init(&m->tokenizer, SL_JSON_BYTES_MAX);
    sl_buf_init(&m->tokenizer_config, SL_JSON_BYTES_MAX);
    status = open_any(m, path, err);
    if (status == SL_OK)
        status = index_tensors(m, err);
    if (status == SL_OK)
        *ret = m;
    else
        model_file_close(m);
    return status;
}

void model_file_close(model_file *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->shard_count; i++) {
        gguf_deinit(&m->shards[i].gguf);
        safetensors_deinit(&m->shards[i].safe);
        sl_file_map_close(&m->shards[i].map);
    }
    sl_free(m->shards);
    sl_free(m->tensors);
    json_decref(m->config);
    json_decref(m->pooling);
    json_decref(m->modules);
    json_decref(m->sentence);
    sl_buf_deinit(&m->tokenizer);
    sl_buf_deinit(&m->tokenizer_config);
    sl_free(m);
}

const gguf_dir *model_file_gguf(const model_file *m)
{
    return m->is_gguf ? &m->shards[0].gguf : NULL;
}

sl_span model_file_tokenizer(const model_file *m)
{
    return sl_span_of(m->tokenizer.ptr, m->tokenizer.len);
}

sl_span model_file_tokenizer_config(const model_file *m)
{
    return sl_span_of(m->tokenizer_config.ptr, m->tokenizer_config.len);
}

/* The first text there is under one of the names. */
static const char *first_text(const json_t *obj, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_object_get(obj, names[i]));

        if (text)
            return text;
    }
    return NULL;
}

void model_file_prompts(const model_file *m, const char **ret_query, const char **ret_passage)
{
    static const char *const query[] = { "query", "search_query", "web_search_query", "s2p_query" };
    static const char *const passage[] = { "passage", "document", "search_document", "corpus" };
    const json_t *prompts = json_object_get(m->sentence, "prompts");

    *ret_query = first_text(prompts, query, SL_COUNT_OF(query));
    *ret_passage = first_text(prompts, passage, SL_COUNT_OF(passage));
}

const char *model_file_origin(const model_file *m)
{
    return json_string_value(json_object_get(m->config, "_name_or_path"));
}

sl_status model_file_params(const model_file *m, model_params *ret, sl_err *err)
{
    return m->is_gguf ? model_params_from_gguf(&m->shards[0].gguf, ret, err)
                      : model_params_from_hf(m->config, m->pooling, m->modules, ret, err);
}

const tensor_info *model_file_tensor(const model_file *m, const char *name)
{
    sl_span want = sl_span_str(name);
    size_t lo = 0, hi = m->tensor_count;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int r = name_cmp(m->tensors[mid]->name, want);

        if (r == 0)
            return m->tensors[mid];
        if (r < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

size_t model_file_tensor_count(const model_file *m)
{
    return m->tensor_count;
}

const tensor_info *model_file_tensor_at(const model_file *m, size_t i)
{
    SL_ASSERT(i < m->tensor_count);
    return m->tensors[i];
}

const char *model_file_quant(const model_file *m)
{
    uint64_t elems[TENSOR_TYPE_ID_MAX] = { 0 };
    uint32_t best = TENSOR_F32;

    for (size_t i = 0; i < m->tensor_count; i++)
        elems[m->tensors[i]->type] += tensor_elems(m->tensors[i]);
    for (uint32_t t = 0; t < TENSOR_TYPE_ID_MAX; t++)
        if (elems[t] > elems[best])
            best = t;
    return tensor_type_name(best);
}

uint64_t model_file_bytes(const model_file *m)
{
    return m->bytes;
}

uint64_t model_file_param_count(const model_file *m)
{
    uint64_t n = 0;

    for (size_t i = 0; i < m->tensor_count; i++)
        n += tensor_elems(m->tensors[i]);
    return n;
}

/* madvise on the pages that lie wholly in a span. */
static void advise(sl_span span, int advice)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)span.ptr + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)span.ptr + span.len) / page * page;

    if (end > begin)
        (void)madvise((void *)begin, end - begin, advice);
}

void model_file_random_pages(sl_span span)
{
    advise(span, MADV_RANDOM);
}

void model_file_release_pages(sl_span span)
{
    advise(span, MADV_DONTNEED);
}
