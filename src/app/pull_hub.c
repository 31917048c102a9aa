/* pull_hub.c - models from a Hugging Face hub: hf:OWNER/REPO[:FILE or QUANT].
 *
 * GET /api/models/OWNER/REPO?blobs=true lists the files with their sums, and
 * /OWNER/REPO/resolve/main/FILE serves them. HF_ENDPOINT names another hub, HF_TOKEN the caller. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/pull_int.h"
#include "base/mem.h"

#define ENDPOINT_DEFAULT "https://huggingface.co"

typedef struct hub {
    pull *p;
    char repo[300];   /* OWNER/REPO */
    const char *want; /* FILE or QUANT, or NULL */
    const char *endpoint, *token;
    const json_t *siblings;
} hub;

static const char *name_of(const json_t *sibling)
{
    const char *name = json_string_value(json_object_get(sibling, "rfilename"));

    return name ? name : "";
}

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), t = strlen(tail);

    return n >= t && strcasecmp(s + n - t, tail) == 0;
}

/* The first GGUF file whose name contains quant; shards count as their first. */
static const char *find_gguf(const hub *h, const char *quant)
{
    json_t *sibling;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)h->siblings, i, sibling)
    {
        const char *name = name_of(sibling);

        if (ends_with(name, ".gguf") && !strcasestr(name, "mmproj") && strcasestr(name, quant) &&
            (!strstr(name, "-of-") || strstr(name, "-00001-of-")))
            return name;
    }
    return NULL;
}

/* Which GGUF file the caller means; NULL: the repository has none that fits. */
static const char *choose_gguf(const hub *h)
{
    static const char *const order[] = { "Q4_K_M", "Q4_0", "Q8_0", "" };
    json_t *sibling;
    size_t i;

    if (h->want) {
        json_array_foreach((json_t *)(uintptr_t)h->siblings, i,
                           sibling) if (strcmp(name_of(sibling), h->want) ==
                                        0) return name_of(sibling);
        return find_gguf(h, h->want);
    }
    for (i = 0; i < SL_COUNT_OF(order); i++)
        if (find_gguf(h, order[i]))
            return find_gguf(h, order[i]);
    return NULL;
}

static bool is_shard_of(const char *name, const char *first)
{
    const char *at = strstr(first, "-00001-of-");
    size_t prefix = at ? (size_t)(at - first) : 0;

    return at && strncmp(name, first, prefix) == 0 && strlen(name) == strlen(first) &&
           strcmp(name + prefix + 6, first + prefix + 6) == 0;
}

/* Files of the safetensors layout that Sluice reads. */
static bool is_tree_file(const char *name)
{
    static const char *const names[] = { "config.json",           "tokenizer.json",
                                         "tokenizer_config.json", "generation_config.json",
                                         "1_Pooling/config.json", "model.safetensors.index.json" };

    for (size_t i = 0; i < SL_COUNT_OF(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return !strchr(name, '/') && ends_with(name, ".safetensors");
}

/* Downloads one file into the store. */
static sl_status fetch_file(hub *h, const json_t *sibling, model_store_file *ret)
{
    const char *name = name_of(sibling);
    const char *sum = json_string_value(json_object_get(json_object_get(sibling, "lfs"), "sha256"));
    char key[MODEL_SHA256_HEX];
    sl_buf url, path;
    sl_status status;

    sl_buf_init(&url, 8192);
    sl_buf_init(&path, 8192);
    sl_buf_printf(&url, "%s/%s/resolve/main/%s", h->endpoint, h->repo, name);
    status = sl_buf_ok(&url, "URL", h->p->err);
    if (status == SL_OK) {
        pull_key(sum ? sum : url.ptr, key);
        h->p->what = name;
        if (!sum) { /* small files change: never resume those */
            status = model_store_partial(h->p->s, key, &path, h->p->err);
            if (status == SL_OK)
                remove(path.ptr);
        }
    }
    ret->path = name;
    if (status == SL_OK && sum && model_store_has_blob(h->p->s, sum)) {
        snprintf(ret->sha256, sizeof ret->sha256, "%s", sum);
        ret->bytes = (uint64_t)json_integer_value(json_object_get(sibling, "size"));
    } else if (status == SL_OK) {
        status = pull_download(h->p, url.ptr, key, h->token, &path);
        if (status == SL_OK)
            status =
                model_store_add_blob(h->p->s, path.ptr, sum, ret->sha256, &ret->bytes, h->p->err);
    }
    sl_buf_deinit(&url);
    sl_buf_deinit(&path);
    return status;
}

static sl_status fetch_all(hub *h, const char *gguf, model_store_file *files, size_t *ret_count)
{
    json_t *sibling;
    size_t i, count = 0;
    sl_status status = SL_OK;

    json_array_foreach((json_t *)(uintptr_t)h->siblings, i, sibling)
    {
        const char *name = name_of(sibling);
        bool take = gguf ? strcmp(name, gguf) == 0 || is_shard_of(name, gguf) : is_tree_file(name);

        if (!take || status != SL_OK)
            continue;
        if (count == PULL_FILES_MAX)
            return sl_fail(h->p->err, SL_ELIMIT, "%s has more than %d files", h->repo,
                           PULL_FILES_MAX);
        status = fetch_file(h, sibling, &files[count]);
        count++;
    }
    /* The first shard leads: the store opens the first file it lists. */
    for (i = 1; i < count; i++)
        if (gguf && strcmp(files[i].path, gguf) == 0) {
            model_store_file first = files[i];

            files[i] = files[0];
            files[0] = first;
        }
    *ret_count = count;
    return status;
}

static sl_status split_spec(hub *h, const char *spec)
{
    const char *colon = strchr(spec, ':');
    size_t len = colon ? (size_t)(colon - spec) : strlen(spec);
    const char *slash = memchr(spec, '/', len);

    if (len >= sizeof h->repo || !slash || slash == spec || slash == spec + len - 1 ||
        memchr(slash + 1, '/', len - (size_t)(slash + 1 - spec)) || strstr(spec, ".."))
        return sl_fail(h->p->err, SL_EINVAL,
                       "'hf:%.200s' is not of the form hf:OWNER/REPO[:FILE or QUANT]", spec);
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)spec[i]) && !strchr("/._-", spec[i]))
            return sl_fail(h->p->err, SL_EINVAL, "'hf:%.200s': '%c' is not allowed", spec, spec[i]);
    snprintf(h->repo, sizeof h->repo, "%.*s", (int)len, spec);
    h->want = colon && colon[1] ? colon + 1 : NULL;
    return SL_OK;
}

static sl_status fetch_model(hub *h, const json_t *info, char ret_name[129])
{
    static model_store_file files[PULL_FILES_MAX];
    char source[700];
    const char *gguf;
    size_t count = 0;

    h->siblings = json_object_get(info, "siblings");
    gguf = choose_gguf(h);
    if (!gguf && h->want)
        return sl_fail(h->p->err, SL_ENOTFOUND, "%s has no file or quantization '%.200s'", h->repo,
                       h->want);
    SL_TRY(fetch_all(h, gguf, files, &count));
    if (count == 0)
        return sl_fail(h->p->err, SL_ENOTFOUND, "%s has neither GGUF nor safetensors files",
                       h->repo);
    if (h->p->o->name)
        snprintf(ret_name, 129, "%s", h->p->o->name);
    else
        pull_model_name(gguf ? gguf : h->repo, ret_name);
    snprintf(source, sizeof source, "hf:%s%s%s", h->repo, gguf ? ":" : "", gguf ? gguf : "");
    return model_store_put(h->p->s, ret_name, source, files, count, h->p->err);
}

sl_status pull_from_hub(pull *p, const char *spec, char ret_name[129])
{
    hub h = { .p = p, .endpoint = getenv("HF_ENDPOINT"), .token = getenv("HF_TOKEN") };
    json_t *info = NULL;
    sl_buf url;
    sl_status status;

    if (!h.endpoint || !h.endpoint[0])
        h.endpoint = ENDPOINT_DEFAULT;
    if (h.token && !h.token[0])
        h.token = NULL;
    SL_TRY(split_spec(&h, spec));
    sl_buf_init(&url, 8192);
    sl_buf_printf(&url, "%s/api/models/%s?blobs=true", h.endpoint, h.repo);
    status = sl_buf_ok(&url, "HF_ENDPOINT", p->err);
    if (status == SL_OK)
        status = pull_json(p, url.ptr, NULL, h.token, &info);
    if (status == SL_EAUTH || status == SL_ENOTFOUND)
        status =
            sl_err_prefix(p->err, status, "%s: no such repository, or HF_TOKEN is needed", h.repo);
    if (status == SL_OK)
        status = fetch_model(&h, info, ret_name);
    json_decref(info);
    sl_buf_deinit(&url);
    return status;
}
