/* pull.c - downloads with resume and retries; URL and path sources; the choice of source. */
#include "app/pull.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "app/pull_int.h"
#include "base/mem.h"
#include "base/os.h"
#include "http/http.h"

#define JSON_INDEX_BYTES_MAX (64 * SL_MIB)

void pull_key(const char *text, char ret[MODEL_SHA256_HEX])
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (EVP_Digest(text, strlen(text), sum, &len, EVP_sha256(), NULL) != 1)
        len = 0;
    sl_hex(sum, len, ret);
}

void pull_model_name(const char *path, char ret[129])
{
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    size_t len = strcspn(base, "?#"), n = 0;

    if (len > 5 && strncasecmp(base + len - 5, ".gguf", 5) == 0)
        len -= 5;
    for (size_t i = 0; i < len && n < 128; i++) {
        char c = (char)tolower((unsigned char)base[i]);

        ret[n++] = isalnum((unsigned char)c) || strchr("._-", c) ? c : '-';
    }
    ret[n] = '\0';
    if (n == 0 || ret[0] == '.')
        snprintf(ret, 129, "model");
}

typedef struct sink {
    pull *p;
    FILE *f;
} sink;

static bool on_bytes(void *ctx, const void *bytes, size_t len)
{
    sink *s = ctx;

    return fwrite(bytes, 1, len, s->f) == len;
}

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    sink *s = ctx;

    if (s->p->o->on_progress)
        s->p->o->on_progress(s->p->o->ctx, s->p->what, done, total);
}

/* One try; appends to the partial file. */
static sl_status download_once(pull *p, const char *url, const char *bearer, const char *path,
                               int *ret_http)
{
    char auth[2200];
    const char *headers[] = { auth };
    struct stat st;
    sink s = { p, fopen(path, "abe") };
    http_client_options o = { .url = url,
                              .headers = headers,
                              .header_count = bearer ? 1 : 0,
                              .on_bytes = on_bytes,
                              .on_progress = on_progress,
                              .ctx = &s,
                              .cancelled = p->o->cancelled };
    sl_status status;

    if (!s.f)
        return sl_fail(p->err, SL_EIO, "cannot write %s: %s", path, strerror(errno));
    o.resume_from = fstat(fileno(s.f), &st) == 0 ? (uint64_t)st.st_size : 0;
    snprintf(auth, sizeof auth, "Authorization: Bearer %s", bearer ? bearer : "");
    status = http_download(&o, ret_http, p->err);
    if (fclose(s.f) != 0 && status == SL_OK)
        status = sl_fail(p->err, SL_EIO, "cannot write %s: %s", path, strerror(errno));
    return status;
}

/* Answers that another try cannot change. */
static bool is_final(sl_status status)
{
    return status == SL_OK || status == SL_EAUTH || status == SL_ENOTFOUND || status == SL_EINVAL ||
           status == SL_ELIMIT || status == SL_EIO || status == SL_ECANCELLED;
}

sl_status pull_download(pull *p, const char *url, const char *key, const char *bearer,
                        sl_buf *ret_path)
{
    sl_status status = model_store_partial(p->s, key, ret_path, p->err);

    if (status != SL_OK)
        return status;
    for (int attempt = 1; attempt <= PULL_TRIES; attempt++) {
        int http = 0;

        status = download_once(p, url, bearer, ret_path->ptr, &http);
        if (http == 416) { /* nothing is left to send: the file was whole already */
            status = SL_OK;
            break;
        }
        if (status == SL_ECONFLICT) { /* the server cannot resume */
            unlink(ret_path->ptr);
            continue;
        }
        if (is_final(status))
            break;
        nanosleep(&(struct timespec){ .tv_sec = attempt < PULL_TRIES ? attempt : 0 }, NULL);
    }
    return status == SL_OK ? SL_OK : sl_err_prefix(p->err, status, "cannot download %s", url);
}

sl_status pull_json(pull *p, const char *url, const char *accept, const char *bearer, json_t **ret)
{
    char lines[2][2200];
    const char *headers[2];
    http_client_options o = { .url = url, .headers = headers, .cancelled = p->o->cancelled };
    json_error_t jerr;
    sl_buf body;
    sl_status status = SL_EIO;
    int http = 0;

    if (accept) {
        snprintf(lines[o.header_count], sizeof lines[0], "Accept: %s", accept);
        headers[o.header_count] = lines[o.header_count];
        o.header_count++;
    }
    if (bearer) {
        snprintf(lines[o.header_count], sizeof lines[0], "Authorization: Bearer %s", bearer);
        headers[o.header_count] = lines[o.header_count];
        o.header_count++;
    }
    sl_buf_init(&body, JSON_INDEX_BYTES_MAX);
    for (int attempt = 1; attempt <= PULL_TRIES; attempt++) {
        sl_buf_clear(&body);
        status = http_fetch(&o, &body, &http, p->err);
        if (is_final(status))
            break;
        nanosleep(&(struct timespec){ .tv_sec = attempt < PULL_TRIES ? attempt : 0 }, NULL);
    }
    if (status == SL_OK) {
        *ret = json_loadb(sl_buf_str(&body), body.len, 0, &jerr);
        if (!*ret)
            status = sl_fail(p->err, SL_EFORMAT, "not JSON: line %d: %s", jerr.line, jerr.text);
    }
    sl_buf_deinit(&body);
    return status == SL_OK ? SL_OK : sl_err_prefix(p->err, status, "cannot read %s", url);
}

/* One downloaded or copied file becomes a model of its own. */
static sl_status put_single(pull *p, const char *file, const char *source, const char *base,
                            char ret_name[129])
{
    char model_path[200];
    model_store_file f = { .path = model_path };

    snprintf(model_path, sizeof model_path, "%.190s.gguf", base);
    SL_TRY(model_store_add_blob(p->s, file, NULL, f.sha256, &f.bytes, p->err));
    snprintf(ret_name, 129, "%s", p->o->name ? p->o->name : base);
    return model_store_put(p->s, ret_name, source, &f, 1, p->err);
}

/* Refuses what is no model before it gets a name. */
static sl_status check_model(pull *p, const char *path)
{
    model_file *m;

    SL_TRY(model_file_open(path, &m, p->err));
    model_file_close(m);
    return SL_OK;
}

sl_status pull_from_url(pull *p, const char *url, char ret_name[129])
{
    char key[MODEL_SHA256_HEX], base[129];
    sl_buf path;
    sl_status status;

    sl_buf_init(&path, 8192);
    pull_key(url, key);
    pull_model_name(url, base);
    p->what = base;
    status = pull_download(p, url, key, NULL, &path);
    if (status == SL_OK) {
        status = check_model(p, path.ptr);
        if (status != SL_OK)
            unlink(path.ptr);
    }
    if (status == SL_OK)
        status = put_single(p, path.ptr, url, base, ret_name);
    sl_buf_deinit(&path);
    return status;
}

/* Copies a local file to a partial of the store. */
static sl_status copy_in(pull *p, const char *from, const char *key, sl_buf *ret_path)
{
    sl_file_map map;
    sl_status status;

    SL_TRY(model_store_partial(p->s, key, ret_path, p->err));
    SL_TRY(sl_file_map_open(from, &map, p->err));
    status = sl_file_write_atomic(ret_path->ptr, map.bytes, p->err);
    sl_file_map_close(&map);
    return status;
}

/* A directory in the Hugging Face layout: the files that matter. */
static sl_status copy_tree(pull *p, const char *dir, const char *base, char ret_name[129])
{
    static const char *const names[] = { "config.json",           "tokenizer.json",
                                         "tokenizer_config.json", "generation_config.json",
                                         "1_Pooling/config.json", "model.safetensors.index.json",
                                         "model.safetensors" };
    static model_store_file files[PULL_FILES_MAX];
    size_t count = 0;
    sl_buf from, to;
    sl_status status = SL_OK;

    sl_buf_init(&from, 8192);
    sl_buf_init(&to, 8192);
    for (size_t i = 0; i < SL_COUNT_OF(names) && status == SL_OK; i++) {
        char key[MODEL_SHA256_HEX];

        sl_buf_clear(&from);
        sl_buf_printf(&from, "%s/%s", dir, names[i]);
        if (from.failed || !sl_file_exists(from.ptr))
            continue;
        pull_key(from.ptr, key);
        files[count].path = names[i];
        status = copy_in(p, from.ptr, key, &to);
        if (status == SL_OK)
            status = model_store_add_blob(p->s, to.ptr, NULL, files[count].sha256,
                                          &files[count].bytes, p->err);
        count++;
    }
    snprintf(ret_name, 129, "%s", p->o->name ? p->o->name : base);
    if (status == SL_OK)
        status = model_store_put(p->s, ret_name, dir, files, count, p->err);
    sl_buf_deinit(&from);
    sl_buf_deinit(&to);
    return status;
}

sl_status pull_from_path(pull *p, const char *path, char ret_name[129])
{
    char key[MODEL_SHA256_HEX], base[129];
    struct stat st;
    sl_buf to;
    sl_status status;

    SL_TRY(check_model(p, path));
    pull_model_name(path, base);
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return copy_tree(p, path, base, ret_name);
    if (strstr(path, "-00001-of-"))
        return sl_fail(p->err, SL_ENOTSUP,
                       "%s is sharded; run it from where it is: sluice serve --model %s", path,
                       path);
    sl_buf_init(&to, 8192);
    pull_key(path, key);
    status = copy_in(p, path, key, &to);
    if (status == SL_OK)
        status = put_single(p, to.ptr, path, base, ret_name);
    sl_buf_deinit(&to);
    return status;
}

sl_status pull_model(model_store *s, const char *source, const pull_options *o, char ret_name[129],
                     sl_err *err)
{
    pull p = { .s = s, .o = o, .err = err, .what = source };

    if (o->name && !model_store_name_ok(o->name))
        return sl_fail(err, SL_EINVAL, "'%.140s' is not a model name", o->name);
    if (strncmp(source, "hf:", 3) == 0)
        return pull_from_hub(&p, source + 3, ret_name);
    if (strncmp(source, "http://", 7) == 0 || strncmp(source, "https://", 8) == 0)
        return pull_from_url(&p, source, ret_name);
    if (pull_in_catalogue(source))
        return pull_from_catalogue(&p, source, ret_name);
    if (sl_file_exists(source))
        return pull_from_path(&p, source, ret_name);
    return sl_fail(
        err, SL_ENOTFOUND,
        "'%s' is neither a known name (smollm2, minilm), hf:OWNER/REPO, a URL, nor a file", source);
}
