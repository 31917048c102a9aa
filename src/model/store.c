/* store.c - the content-addressed model store. */
#include "model/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/os.h"

struct model_store {
    char *root; /* <data>/models */
};

static sl_status make_dir(const model_store *s, const char *name, sl_err *err)
{
    sl_buf path;
    sl_status status;

    sl_buf_init(&path, 8192);
    sl_buf_printf(&path, "%s/%s", s->root, name);
    status = sl_buf_ok(&path, "path", err);
    if (status == SL_OK)
        status = sl_mkdirs(path.ptr, err);
    sl_buf_deinit(&path);
    return status;
}

sl_status model_store_open(const char *data_dir, model_store **ret, sl_err *err)
{
    static const char *const dirs[] = { "blobs", "manifests", "trees", "partial" };
    model_store *s = sl_calloc(1, sizeof *s);
    sl_buf root;
    sl_status status;

    if (!s)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    sl_buf_init(&root, 8192);
    if (data_dir[0] != '/') { /* links must hold wherever the process runs */
        char *cwd = getcwd(NULL, 0);

        sl_buf_printf(&root, "%s/", cwd ? cwd : ".");
        free(cwd);
    }
    sl_buf_printf(&root, "%s/models", data_dir);
    s->root = sl_buf_steal(&root);
    status = s->root ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");
    for (size_t i = 0; i < SL_COUNT_OF(dirs) && status == SL_OK; i++)
        status = make_dir(s, dirs[i], err);
    if (status == SL_OK)
        *ret = s;
    else
        model_store_close(s);
    return status;
}

void model_store_close(model_store *s)
{
    if (!s)
        return;
    sl_free(s->root);
    sl_free(s);
}

static bool is_sha256(const char *hex)
{
    return strlen(hex) == 64 && strspn(hex, "0123456789abcdef") == 64;
}

bool model_store_name_ok(const char *name)
{
    static const char ok[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/";
    size_t len = strlen(name);

    if (len < 1 || len > MODEL_NAME_MAX || strspn(name, ok) != len || name[len - 1] == '/')
        return false;
    for (size_t i = 0; i < len; i++)
        if ((i == 0 || name[i - 1] == '/') && (name[i] == '.' || name[i] == '/'))
            return false;
    return true;
}

/* A name as a file's: '/' is written SLASH, which no name has. */
#define SLASH '+'

static void file_name(const char *name, char ret[MODEL_NAME_MAX + 1])
{
    snprintf(ret, MODEL_NAME_MAX + 1, "%s", name);
    for (char *p = ret; *p; p++)
        *p = *p == '/' ? SLASH : *p;
}

sl_status model_store_partial(const model_store *s, const char *key, sl_buf *ret_path, sl_err *err)
{
    sl_buf_clear(ret_path);
    sl_buf_printf(ret_path, "%s/partial/%s", s->root, key);
    return sl_buf_ok(ret_path, "path", err);
}

sl_status model_store_blob(const model_store *s, const char *sha256, sl_buf *ret_path, sl_err *err)
{
    if (!is_sha256(sha256))
        return sl_fail(err, SL_EINVAL, "'%.80s' is not a SHA-256 sum", sha256);
    sl_buf_clear(ret_path);
    sl_buf_printf(ret_path, "%s/blobs/sha256-%s", s->root, sha256);
    return sl_buf_ok(ret_path, "path", err);
}

bool model_store_has_blob(const model_store *s, const char *sha256)
{
    sl_buf path;
    bool has;

    sl_buf_init(&path, 8192);
    has = model_store_blob(s, sha256, &path, NULL) == SL_OK && sl_file_exists(path.ptr);
    sl_buf_deinit(&path);
    return has;
}

sl_status model_sha256_file(const char *path, char ret[MODEL_SHA256_HEX], uint64_t *ret_bytes,
                            sl_err *err)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    FILE *f = fopen(path, "rbe");
    static _Thread_local char chunk[1 << 16];
    size_t n;
    bool ok = md && f && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;

    *ret_bytes = 0;
    while (ok && (n = fread(chunk, 1, sizeof chunk, f)) > 0) {
        ok = EVP_DigestUpdate(md, chunk, n) == 1;
        *ret_bytes += n;
    }
    ok = ok && !ferror(f) && EVP_DigestFinal_ex(md, sum, &len) == 1;
    if (f)
        fclose(f);
    EVP_MD_CTX_free(md);
    if (!ok)
        return sl_fail(err, SL_EIO, "cannot read %s: %s", path, strerror(errno));
    sl_hex(sum, len, ret);
    return SL_OK;
}

/* Makes the bytes of a file durable and the file read-only. */
static sl_status seal_file(const char *path, sl_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0 && fchmod(fd, 0400) == 0;

    if (fd >= 0)
        close(fd);
    return ok ? SL_OK : sl_fail(err, SL_EIO, "cannot sync %s: %s", path, strerror(errno));
}

sl_status model_store_add_blob(model_store *s, const char *file, const char *want,
                               char ret_sha256[MODEL_SHA256_HEX], uint64_t *ret_bytes, sl_err *err)
{
    sl_buf path;
    sl_status status;

    SL_TRY(model_sha256_file(file, ret_sha256, ret_bytes, err));
    if (want && strcmp(want, ret_sha256) != 0) {
        unlink(file);
        return sl_fail(err, SL_EFORMAT,
                       "%s has SHA-256 %s, expected %s; it was removed, please try again", file,
                       ret_sha256, want);
    }
    sl_buf_init(&path, 8192);
    status = model_store_blob(s, ret_sha256, &path, err);
    if (status == SL_OK)
        status = seal_file(file, err);
    if (status == SL_OK && rename(file, path.ptr) != 0)
        status = sl_fail(err, SL_EIO, "cannot move %s to %s: %s", file, path.ptr, strerror(errno));
    if (status == SL_OK)
        status = sl_dir_sync(path.ptr, err);
    sl_buf_deinit(&path);
    return status;
}

static sl_status manifest_path(const model_store *s, const char *name, sl_buf *ret, sl_err *err)
{
    char file[MODEL_NAME_MAX + 1];

    if (!model_store_name_ok(name))
        return sl_fail(err, SL_EINVAL,
                       "'%.140s' is not a model name: use letters, digits, '.', '_', '-', ':' and "
                       "'/' between names",
                       name);
    file_name(name, file);
    sl_buf_clear(ret);
    sl_buf_printf(ret, "%s/manifests/%s.json", s->root, file);
    return sl_buf_ok(ret, "path", err);
}

static bool path_ok(const char *path)
{
    return path[0] && path[0] != '/' && !strstr(path, "..") && strlen(path) < 1024;
}

/* Links one file of a model's tree to its blob. */
static sl_status link_file(const model_store *s, const char *name, const char *path,
                           const char *sha256, sl_err *err)
{
    sl_buf link, blob;
    sl_status status;
    char *slash, tree[MODEL_NAME_MAX + 1];

    file_name(name, tree);
    sl_buf_init(&link, 8192);
    sl_buf_init(&blob, 8192);
    sl_buf_printf(&link, "%s/trees/%s/%s", s->root, tree, path);
    status = sl_buf_ok(&link, "path", err);
    if (status == SL_OK)
        status = model_store_blob(s, sha256, &blob, err);
    if (status == SL_OK) {
        slash = strrchr(link.ptr, '/');
        *slash = '\0';
        status = sl_mkdirs(link.ptr, err);
        *slash = '/';
    }
    if (status == SL_OK) {
        unlink(link.ptr);
        if (symlink(blob.ptr, link.ptr) != 0)
            status = sl_fail(err, SL_EIO, "cannot link %s: %s", link.ptr, strerror(errno));
    }
    sl_buf_deinit(&link);
    sl_buf_deinit(&blob);
    return status;
}

static bool is_plain_gguf(const char *path)
{
    size_t len = strlen(path);

    return !strchr(path, '/') && len > 5 && strcmp(path + len - 5, ".gguf") == 0;
}

static json_t *manifest_of(const char *name, const char *source, const model_store_file *files,
                           size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:I}", "path", files[i].path, "sha256",
                                        files[i].sha256, "bytes", (json_int_t)files[i].bytes));
    return json_pack("{s:s, s:s, s:I, s:o}", "name", name, "source", source, "created",
                     (json_int_t)time(NULL), "files", list);
}

sl_status model_store_put(model_store *s, const char *name, const char *source,
                          const model_store_file *files, size_t count, sl_err *err)
{
    return model_store_put_made(s, name, source, files, count, NULL, err);
}

sl_status model_store_put_made(model_store *s, const char *name, const char *source,
                               const model_store_file *files, size_t count, const json_t *more,
                               sl_err *err)
{
    json_t *manifest;
    char *text;
    sl_buf path;
    sl_status status;

    sl_buf_init(&path, 8192);
    status = manifest_path(s, name, &path, err);
    for (size_t i = 0; i < count && status == SL_OK; i++) {
        if (!path_ok(files[i].path))
            status =
                sl_fail(err, SL_EINVAL, "model file path '%.200s' is not allowed", files[i].path);
        else if (!model_store_has_blob(s, files[i].sha256))
            status = sl_fail(err, SL_ENOTFOUND, "blob sha256-%s is missing", files[i].sha256);
        else if (count > 1 || !is_plain_gguf(files[i].path))
            status = link_file(s, name, files[i].path, files[i].sha256, err);
    }
    if (status == SL_OK) {
        manifest = manifest_of(name, source, files, count);
        if (manifest && more && json_object_update_missing(manifest, (json_t *)(uintptr_t)more))
            status = SL_ENOMEM;
        text = manifest && status == SL_OK ? json_dumps(manifest, JSON_INDENT(2)) : NULL;
        status = text ? sl_file_write_atomic(path.ptr, sl_span_str(text), err)
                      : sl_fail(err, SL_ENOMEM, "out of memory");
        free(text);
        json_decref(manifest);
    }
    sl_buf_deinit(&path);
    return status;
}

static sl_status load_manifest(const model_store *s, const char *name, json_t **ret, sl_err *err)
{
    sl_buf path;
    json_error_t jerr;
    sl_status status;

    sl_buf_init(&path, 8192);
    status = manifest_path(s, name, &path, err);
    if (status == SL_OK && !sl_file_exists(path.ptr))
        status = sl_fail(
            err, SL_ENOTFOUND,
            "no model '%s' here; 'sluice list' shows what there is, 'sluice pull' fetches", name);
    if (status == SL_OK) {
        *ret = json_load_file(path.ptr, 0, &jerr);
        if (!*ret || !json_is_array(json_object_get(*ret, "files"))) {
            json_decref(*ret);
            *ret = NULL;
            status = sl_fail(err, SL_EFORMAT, "%s: line %d: %s; pull the model again", path.ptr,
                             jerr.line, jerr.text);
        }
    }
    sl_buf_deinit(&path);
    return status;
}

sl_status model_store_manifest(const model_store *s, const char *name, json_t **ret, sl_err *err)
{
    return load_manifest(s, name, ret, err);
}

int64_t model_store_stamp(const model_store *s)
{
    struct stat st = { 0 };
    sl_buf path;

    sl_buf_init(&path, 8192);
    sl_buf_printf(&path, "%s/manifests", s->root);
    if (stat(sl_buf_str(&path), &st) != 0)
        st.st_mtim.tv_sec = 0;
    sl_buf_deinit(&path);
    return (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
}

sl_status model_store_resolve(const model_store *s, const char *name, sl_buf *ret_path, sl_err *err)
{
    json_t *manifest = NULL, *files, *first;
    const char *sha256, *path;
    sl_status status;

    SL_TRY(load_manifest(s, name, &manifest, err));
    files = json_object_get(manifest, "files");
    first = json_array_get(files, 0);
    sha256 = json_string_value(json_object_get(first, "sha256"));
    path = json_string_value(json_object_get(first, "path"));
    if (!sha256 || !path) {
        status =
            sl_fail(err, SL_EFORMAT, "the manifest of '%s' names no file; pull it again", name);
    } else if (json_array_size(files) == 1 && is_plain_gguf(path)) {
        status = model_store_blob(s, sha256, ret_path, err);
    } else {
        char tree[MODEL_NAME_MAX + 1];

        file_name(name, tree);
        sl_buf_clear(ret_path);
        sl_buf_printf(ret_path, "%s/trees/%s", s->root, tree);
        /* Sharded GGUF: the first shard's name leads to the others. */
        if (strlen(path) > 5 && strcmp(path + strlen(path) - 5, ".gguf") == 0)
            sl_buf_printf(ret_path, "/%s", path);
        status = sl_buf_ok(ret_path, "path", err);
    }
    json_decref(manifest);
    return status;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names of all manifests, sorted. Released with free_names. */
static char **list_names(const model_store *s, size_t *ret_count)
{
    char **names = NULL;
    size_t cap = 0;
    sl_buf path;
    DIR *dir;
    struct dirent *entry;

    *ret_count = 0;
    sl_buf_init(&path, 8192);
    sl_buf_printf(&path, "%s/manifests", s->root);
    dir = opendir(sl_buf_str(&path));
    sl_buf_deinit(&path);
    while (dir && (entry = readdir(dir)) != NULL) {
        size_t len = strlen(entry->d_name);

        if (len <= 5 || strcmp(entry->d_name + len - 5, ".json") != 0 || entry->d_name[0] == '.')
            continue;
        if (!sl_grow((void **)&names, &cap, *ret_count + 1, sizeof *names, 100000))
            break;
        names[*ret_count] = sl_strndup(entry->d_name, len - 5);
        for (char *c = names[*ret_count]; c && *c; c++)
            *c = *c == SLASH ? '/' : *c;
        if (names[*ret_count])
            (*ret_count)++;
    }
    if (dir)
        closedir(dir);
    if (names)
        qsort(names, *ret_count, sizeof *names, by_name);
    return names;
}

static void free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sl_free(names[i]);
    sl_free(names);
}

sl_status model_store_list(const model_store *s, json_t **ret, sl_err *err)
{
    json_t *list = json_array();
    size_t count;
    char **names = list_names(s, &count);

    for (size_t i = 0; i < count && list; i++) {
        json_t *manifest = NULL;

        if (load_manifest(s, names[i], &manifest, NULL) == SL_OK)
            json_array_append_new(list, manifest);
    }
    free_names(names, count);
    if (!list)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    *ret = list;
    return SL_OK;
}

/* True when some manifest names the blob. */
static bool is_named(const json_t *manifests, const char *sha256)
{
    size_t i, j;
    json_t *m, *f;

    json_array_foreach(manifests, i, m) json_array_foreach(json_object_get(m, "files"), j, f)
    {
        const char *have = json_string_value(json_object_get(f, "sha256"));

        if (have && strcmp(have, sha256) == 0)
            return true;
    }
    return false;
}

static void remove_file(const model_store *s, const char *name, const json_t *file,
                        const json_t *left)
{
    const char *path = json_string_value(json_object_get(file, "path"));
    const char *sha256 = json_string_value(json_object_get(file, "sha256"));
    char tree[MODEL_NAME_MAX + 1];
    sl_buf p;

    file_name(name, tree);
    sl_buf_init(&p, 8192);
    if (path && path_ok(path)) {
        sl_buf_printf(&p, "%s/trees/%s/%s", s->root, tree, path);
        unlink(sl_buf_str(&p));
        for (char *slash; (slash = strrchr(p.ptr, '/')) && slash > p.ptr + strlen(s->root) + 7;) {
            *slash = '\0'; /* empty directories up to the tree's own */
            if (rmdir(p.ptr) != 0)
                break;
        }
    }
    if (sha256 && !is_named(left, sha256) && model_store_blob(s, sha256, &p, NULL) == SL_OK)
        unlink(p.ptr);
    sl_buf_deinit(&p);
}

sl_status model_store_remove(model_store *s, const char *name, sl_err *err)
{
    json_t *manifest = NULL, *left = NULL, *file;
    sl_buf path;
    size_t i;
    sl_status status;

    SL_TRY(load_manifest(s, name, &manifest, err));
    sl_buf_init(&path, 8192);
    status = manifest_path(s, name, &path, err);
    if (status == SL_OK && unlink(path.ptr) != 0)
        status = sl_fail(err, SL_EIO, "cannot remove %s: %s", path.ptr, strerror(errno));
    if (status == SL_OK)
        status = model_store_list(s, &left, err);
    if (status == SL_OK)
        json_array_foreach(json_object_get(manifest, "files"), i, file)
            remove_file(s, name, file, left);
    json_decref(left);
    json_decref(manifest);
    sl_buf_deinit(&path);
    return status;
}
