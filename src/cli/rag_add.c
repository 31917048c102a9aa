/* rag_add.c - sluice rag add: files, folders, addresses and standard input into the queue, and an
 * eye on them until they have ended. Who reads and embeds them is the process that holds the queue:
 * this one, or a server that runs on the same data. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"
#include "cli/rag.h"
#include "http/http.h"

#define DOCUMENT_BYTES_MAX (64 * SL_MIB)
#define DEPTH_MAX          32
#define UNDER_WAY_MAX      512 /* submitted and not ended: bounds the queue */
#define LOOK_NS            20000000
#define BAR_WIDTH          30

typedef struct item {
    char *path, *id;
} item;

struct rag_adding {
    llm_docs docs;
    const rag_args *args;
    json_t *attributes, *access; /* or NULL */
    item *items;                 /* [count], those that were told of: [0, told) */
    size_t count, cap, told;
    size_t added, failed, same;
    int64_t chunks;
    bool has_bar;
    json_t *documents; /* with --json */
};

/* ---- telling -------------------------------------------------------------------------------- */

static void draw_bar(const rag_adding *a)
{
    size_t done = a->told + a->failed, all = a->count + a->failed;
    int full = all ? (int)(done * BAR_WIDTH / all) : 0;

    if (!a->has_bar)
        return;
    fputs("\r[", stderr);
    for (int i = 0; i < BAR_WIDTH; i++)
        fputc(i < full ? '#' : ' ', stderr);
    fprintf(stderr, "] %zu of %zu documents, %lld passages", done, all, (long long)a->chunks);
    if (a->failed)
        fprintf(stderr, ", %zu failed", a->failed);
    fflush(stderr);
}

static void clear_bar(const rag_adding *a)
{
    if (a->has_bar)
        fprintf(stderr, "\r%*s\r", BAR_WIDTH + 60, "");
}

static void tell_failure(rag_adding *a, const char *path, const char *why)
{
    clear_bar(a);
    fprintf(stderr, "sluice: %s: %s\n", path, why);
    a->failed++;
    if (a->args->json)
        json_array_append_new(a->documents,
                              json_pack("{s:s,s:s,s:{s:s,s:s}}", "name", path, "status", "failed",
                                        "error", "code", "invalid_file", "message", why));
}

/* A document that has ended. */
static void tell(rag_adding *a, const char *path, const json_t *d, bool is_same)
{
    const char *status = json_string_value(json_object_get(d, "status"));
    int64_t chunks = json_integer_value(json_object_get(d, "chunks"));

    if (strcmp(status, "failed") == 0) {
        const json_t *e = json_object_get(d, "error");

        clear_bar(a);
        fprintf(stderr, "sluice: %s: %s\n", path, json_string_value(json_object_get(e, "message")));
        a->failed++;
    } else {
        a->added++;
        a->same += is_same;
        a->chunks += chunks;
        if (!a->args->json && !a->has_bar)
            printf("%s: %lld passages%s\n", path, (long long)chunks, is_same ? ", unchanged" : "");
    }
    if (a->args->json)
        json_array_append(a->documents, (json_t *)(uintptr_t)d);
    fflush(stdout);
}

size_t rag_look(rag_adding *a)
{
    while (a->told < a->count) {
        item *i = &a->items[a->told];
        json_t *d = NULL;
        sl_err err = { 0 };

        if (a->docs.ops->document_get(a->docs.ctx, NULL, a->args->collection, i->id, &d, &err) !=
            SL_OK) {
            tell_failure(a, i->path, err.text);
        } else if (strcmp(json_string_value(json_object_get(d, "status")), "in_progress") == 0) {
            json_decref(d);
            break;
        } else {
            tell(a, i->path, d, false);
        }
        json_decref(d);
        sl_free(i->path);
        sl_free(i->id);
        a->told++;
    }
    if (a->told == a->count)
        a->told = a->count = 0;
    draw_bar(a);
    return a->count - a->told;
}

/* Until fewer than `most` are under way. The queue may be another process's, which tells nobody. */
static void wait_for(rag_adding *a, size_t most)
{
    while (rag_look(a) > most && !atomic_load(&cli_interrupted))
        nanosleep(&(struct timespec){ 0, LOOK_NS }, NULL);
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static void note(rag_adding *a, const char *path, const json_t *d)
{
    item i = { sl_strdup(path), sl_strdup(json_string_value(json_object_get(d, "id"))) };

    if (i.path && i.id &&
        sl_grow((void **)&a->items, &a->cap, a->count + 1, sizeof *a->items, SIZE_MAX / 64)) {
        a->items[a->count++] = i;
        return;
    }
    sl_free(i.path);
    sl_free(i.id);
    tell_failure(a, path, "out of memory");
}

static void submit(rag_adding *a, const char *name, const char *source, sl_span bytes)
{
    const llm_document_spec spec = { .collection = a->args->collection,
                                     .name = name,
                                     .source = source,
                                     .bytes = bytes,
                                     .attributes = a->attributes,
                                     .access = a->access,
                                     .trust = a->args->trust };
    json_t *d = NULL;
    sl_err err = { 0 };

    if (a->docs.ops->document_submit(a->docs.ctx, &spec, NULL, &d, &err) != SL_OK) {
        tell_failure(a, name, err.text);
        return;
    }
    if (strcmp(json_string_value(json_object_get(d, "status")), "in_progress") != 0)
        tell(a, name, d, true);
    else
        note(a, name, d);
    json_decref(d);
    if (a->count - a->told >= UNDER_WAY_MAX)
        wait_for(a, UNDER_WAY_MAX / 2);
    else
        draw_bar(a);
}

static void add_file(rag_adding *a, const char *path)
{
    sl_buf bytes;
    sl_err err = { 0 };

    sl_buf_init(&bytes, DOCUMENT_BYTES_MAX + 1);
    if (sl_file_read(path, DOCUMENT_BYTES_MAX, &bytes, &err) == SL_OK)
        submit(a, path, path, sl_span_of(sl_buf_str(&bytes), bytes.len));
    else
        tell_failure(a, path, err.text);
    sl_buf_deinit(&bytes);
}

static void add_stdin(rag_adding *a)
{
    char block[65536];
    sl_buf bytes;
    size_t n;

    sl_buf_init(&bytes, DOCUMENT_BYTES_MAX);
    while ((n = fread(block, 1, sizeof block, stdin)) > 0)
        sl_buf_put(&bytes, block, n);
    if (ferror(stdin) || bytes.failed)
        tell_failure(a, "-", "standard input cannot be read, or has more than 64 MiB");
    else
        submit(a, a->args->name ? a->args->name : "stdin", NULL,
               sl_span_of(sl_buf_str(&bytes), bytes.len));
    sl_buf_deinit(&bytes);
}

static bool is_url(const char *text)
{
    return strncasecmp(text, "http://", 7) == 0 || strncasecmp(text, "https://", 8) == 0;
}

static void add_url(rag_adding *a, const char *url)
{
    http_client_options o = { .url = url,
                              .max_bytes = DOCUMENT_BYTES_MAX,
                              .public_only = !a->args->allow_private,
                              .cancelled = &cli_interrupted };
    sl_err err = { 0 };
    sl_buf bytes;
    sl_status status;

    sl_buf_init(&bytes, DOCUMENT_BYTES_MAX);
    status = http_fetch(&o, &bytes, NULL, &err);
    if (status == SL_OK)
        submit(a, url, url, sl_span_of(sl_buf_str(&bytes), bytes.len));
    else if (status == SL_EFORBIDDEN)
        tell_failure(a, url,
                     "leads to an address that is not public; if that is meant: "
                     "--allow-private");
    else
        tell_failure(a, url, err.text);
    sl_buf_deinit(&bytes);
}

/* ---- folders -------------------------------------------------------------------------------- */

bool rag_is_document(const char *path)
{
    static const char *const tails[] = { ".md",   ".markdown", ".txt",   ".text", ".rst",
                                         ".html", ".htm",      ".xhtml", ".pdf",  ".docx",
                                         ".pptx", ".xlsx",     ".epub",  ".csv",  ".tsv",
                                         ".json", ".jsonl",    ".eml",   ".log" };
    const char *name = strrchr(path, '/');
    size_t len = strlen(path);

    name = name ? name + 1 : path;
    for (size_t i = 0; i < SL_COUNT_OF(tails) && name[0] != '.'; i++) {
        size_t t = strlen(tails[i]);

        if (len > t && strcasecmp(path + len - t, tails[i]) == 0)
            return true;
    }
    return false;
}

void rag_add_path(rag_adding *a, const char *path, int depth)
{
    struct stat st;
    struct dirent **entries = NULL;
    int count;

    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        add_file(a, path);
        return;
    }
    count = depth < DEPTH_MAX ? scandir(path, &entries, NULL, alphasort) : 0;
    if (count < 0)
        tell_failure(a, path, strerror(errno));
    for (int i = 0; i < count; i++) {
        sl_buf child;
        struct stat cst;
        bool is_folder;

        sl_buf_init(&child, 8192);
        sl_buf_printf(&child, "%s/%s", path, entries[i]->d_name);
        /* A link to a folder may lead back. */
        is_folder = !child.failed && lstat(child.ptr, &cst) == 0 && S_ISDIR(cst.st_mode);
        if (entries[i]->d_name[0] != '.' && !child.failed && !atomic_load(&cli_interrupted) &&
            (is_folder || rag_is_document(child.ptr)))
            rag_add_path(a, child.ptr, depth + 1);
        sl_buf_deinit(&child);
        free(entries[i]);
    }
    free(entries);
}

/* ---- what is gone --------------------------------------------------------------------------- */

void rag_remove_path(rag_adding *a, const char *path)
{
    sl_err err = { 0 };
    sl_status status =
        a->docs.ops->document_remove(a->docs.ctx, NULL, a->args->collection, path, &err);

    if (status == SL_OK) {
        clear_bar(a);
        printf("%s is removed\n", path);
        fflush(stdout);
    } else if (status != SL_ENOTFOUND) {
        tell_failure(a, path, err.text);
    }
}

static bool is_gone(const char *name, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        size_t len = strlen(argv[i]);

        while (len > 1 && argv[i][len - 1] == '/')
            len--;
        if (strncmp(name, argv[i], len) == 0 && name[len] == '/')
            return access(name, F_OK) != 0 && errno == ENOENT;
    }
    return false;
}

/* Of the watched folders, the documents whose files went while nobody watched. */
static void remove_gone(rag_adding *a, int argc, char **argv)
{
    llm_docs_page page = { .limit = 1000 };
    json_t *list = NULL, *gone = json_array(), *d;
    bool more = true;
    char last[64];
    size_t i;

    while (more && a->docs.ops->document_list(a->docs.ctx, NULL, a->args->collection, &page, &list,
                                              NULL) == SL_OK) {
        json_array_foreach(json_object_get(list, "data"), i, d)
        {
            if (is_gone(json_string_value(json_object_get(d, "name")), argc, argv))
                json_array_append(gone, json_object_get(d, "name"));
            snprintf(last, sizeof last, "%s", json_string_value(json_object_get(d, "id")));
        }
        more = json_is_true(json_object_get(list, "has_more"));
        page.after = last;
        json_decref(list);
    }
    json_array_foreach(gone, i, d) rag_remove_path(a, json_string_value(d));
    json_decref(gone);
}

/* ---- the command ---------------------------------------------------------------------------- */

static json_t *value_of(const char *text)
{
    json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);

    if (json_is_number(v) || json_is_boolean(v))
        return v;
    json_decref(v);
    return json_string(text);
}

static int read_said(rag_adding *a)
{
    const rag_args *args = a->args;

    for (int i = 0; i < args->attributes.count; i++) {
        const char *text = args->attributes.items[i], *eq = strchr(text, '=');
        char key[128];

        if (!eq || eq == text || (size_t)(eq - text) >= sizeof key)
            return cli_usage("--attribute %s: expected KEY=VALUE", text);
        snprintf(key, sizeof key, "%.*s", (int)(eq - text), text);
        a->attributes = a->attributes ? a->attributes : json_object();
        json_object_set_new(a->attributes, key, value_of(eq + 1));
    }
    for (int i = 0; i < args->access.count; i++) {
        char *copy = sl_strdup(args->access.items[i]), *rest = copy, *one;

        a->access = a->access ? a->access : json_array();
        while (copy && (one = strsep(&rest, ",")))
            json_array_append_new(a->access, json_string(one));
        sl_free(copy);
    }
    return -1;
}

static void put_summary(rag_adding *a)
{
    size_t waiting = a->count - a->told;

    clear_bar(a);
    if (a->args->json) {
        json_t *root = json_pack("{s:O,s:I,s:I,s:I,s:I,s:I}", "documents", a->documents, "added",
                                 (json_int_t)a->added, "unchanged", (json_int_t)a->same, "failed",
                                 (json_int_t)a->failed, "waiting", (json_int_t)waiting, "passages",
                                 (json_int_t)a->chunks);

        json_dumpf(root, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(root);
        return;
    }
    printf("%zu documents, %lld passages", a->added, (long long)a->chunks);
    if (a->same)
        printf(", %zu unchanged", a->same);
    if (waiting)
        printf("; %zu wait in the queue: a server, or the next 'sluice rag add', takes them in",
               waiting);
    printf("%s\n", a->failed ? "; some failed, see above" : "");
}

static void deinit(rag_adding *a)
{
    for (size_t i = a->told; i < a->count; i++) {
        sl_free(a->items[i].path);
        sl_free(a->items[i].id);
    }
    sl_free(a->items);
    json_decref(a->attributes);
    json_decref(a->access);
    json_decref(a->documents);
}

int rag_add(llm_docs docs, const rag_args *args, int argc, char **argv)
{
    rag_adding a = { .docs = docs,
                     .args = args,
                     .documents = json_array(),
                     .has_bar = isatty(STDERR_FILENO) && !args->json };
    int rc = read_said(&a);

    for (int i = 0; rc < 0 && i < argc && !atomic_load(&cli_interrupted); i++) {
        if (strcmp(argv[i], "-") == 0)
            add_stdin(&a);
        else if (is_url(argv[i]))
            add_url(&a, argv[i]);
        else
            rag_add_path(&a, argv[i], 0);
    }
    if (rc < 0 && args->watch)
        remove_gone(&a, argc, argv);
    if (rc < 0) {
        wait_for(&a, 0);
        put_summary(&a);
        rc = a.failed || a.added == 0 ? CLI_FAILED : CLI_OK;
    }
    if (rc >= 0 && rc != CLI_USAGE && args->watch && !atomic_load(&cli_interrupted))
        rc = rag_watch(&a, argc, argv);
    deinit(&a);
    return rc;
}
