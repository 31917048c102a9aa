/* rag.c - sluice rag: documents from the terminal, over the same store as the server's. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "cli/cli.h"

#define DOCUMENT_BYTES_MAX (64 * SL_MIB)
#define DEPTH_MAX          32

typedef struct rag_args {
    cli_common common;
    const char *collection, *model;
    int top_k, max_tokens;
    bool json, search;
} rag_args;

/* ---- add ---------------------------------------------------------------------------------------
 */

typedef struct adding {
    llm_docs docs;
    const rag_args *args;
    int added, failed;
    int64_t chunks;
} adding;

static bool is_document(const char *name)
{
    static const char *const tails[] = { ".md", ".markdown", ".txt", ".text" };
    size_t len = strlen(name);

    for (size_t i = 0; i < SL_COUNT_OF(tails); i++) {
        size_t t = strlen(tails[i]);

        if (len > t && strcasecmp(name + len - t, tails[i]) == 0)
            return true;
    }
    return false;
}

/* One file that fails is reported and the rest go on. */
static void add_file(adding *a, const char *path)
{
    sl_buf text;
    sl_err err = { 0 };
    int64_t chunks = 0;
    sl_status status;

    sl_buf_init(&text, DOCUMENT_BYTES_MAX);
    status = sl_file_read(path, DOCUMENT_BYTES_MAX, &text, &err);
    if (status == SL_OK)
        status = a->docs.ops->add(a->docs.ctx, a->args->collection, path,
                                  sl_span_of(sl_buf_str(&text), text.len), &chunks, &err);
    sl_buf_deinit(&text);
    if (status != SL_OK) {
        fprintf(stderr, "sluice: %s: %s\n", path, err.text);
        a->failed++;
        return;
    }
    printf("%s: %lld passages\n", path, (long long)chunks);
    a->added++;
    a->chunks += chunks;
}

static void add_path(adding *a, const char *path, int depth)
{
    struct stat st;
    struct dirent **entries = NULL;
    int count;

    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        add_file(a, path);
        return;
    }
    count = depth < DEPTH_MAX ? scandir(path, &entries, NULL, alphasort) : 0;
    for (int i = 0; i < count; i++) {
        sl_buf child;
        struct stat cst;

        sl_buf_init(&child, 8192);
        sl_buf_printf(&child, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && !child.failed && stat(child.ptr, &cst) == 0 &&
            (S_ISDIR(cst.st_mode) || is_document(child.ptr)))
            add_path(a, child.ptr, depth + 1);
        sl_buf_deinit(&child);
        free(entries[i]);
    }
    free(entries);
}

static int rag_add(llm_docs docs, const rag_args *args, int argc, char **argv)
{
    adding a = { .docs = docs, .args = args };

    for (int i = 0; i < argc; i++)
        add_path(&a, argv[i], 0);
    printf("%d documents, %lld passages%s\n", a.added, (long long)a.chunks,
           a.failed ? "; some failed, see above" : "");
    return a.failed || a.added == 0 ? CLI_FAILED : CLI_OK;
}

/* ---- ask ---------------------------------------------------------------------------------------
 */

typedef struct asking {
    const rag_args *args;
    sl_buf answer;
    json_t *passages, *citations;
    sl_err error;
    bool heading_printed;
} asking;

static json_t *passage_json(const llm_passage *p)
{
    return json_pack("{s:i, s:s, s:s, s:s, s:I, s:I, s:f, s:s}", "number", p->number, "document",
                     p->document, "title", p->title ? p->title : "", "heading",
                     p->heading ? p->heading : "", "start", (json_int_t)p->begin, "end",
                     (json_int_t)p->end, "score", p->score, "text", p->text);
}

static void on_passages(void *ctx, const llm_passage *p, size_t count)
{
    asking *a = ctx;

    for (size_t i = 0; i < count; i++) {
        json_array_append_new(a->passages, passage_json(&p[i]));
        if (a->args->search && !a->args->json)
            printf("[%d] %s, bytes %lld to %lld, score %.4f%s%s\n%s\n\n", p[i].number,
                   p[i].document, (long long)p[i].begin, (long long)p[i].end, p[i].score,
                   p[i].heading && p[i].heading[0] ? "\n    " : "",
                   p[i].heading ? p[i].heading : "", p[i].text);
    }
}

static void on_delta(void *ctx, const char *text, size_t len)
{
    asking *a = ctx;

    sl_buf_put(&a->answer, text, len);
    if (!a->args->json) {
        fwrite(text, 1, len, stdout);
        fflush(stdout);
    }
}

static void on_citation(void *ctx, const llm_passage *p)
{
    asking *a = ctx;

    json_array_append_new(a->citations, passage_json(p));
}

static void on_done(void *ctx, sl_status status, const sl_err *err, const llm_usage *usage)
{
    asking *a = ctx;

    (void)usage;
    if (status != SL_OK && err)
        a->error = *err;
}

static void print_citations(const asking *a)
{
    json_t *c;
    size_t i;

    printf("\n\n");
    json_array_foreach(a->citations, i, c)
        printf("[%lld] %s, bytes %lld to %lld%s%s\n",
               (long long)json_integer_value(json_object_get(c, "number")),
               json_string_value(json_object_get(c, "document")),
               (long long)json_integer_value(json_object_get(c, "start")),
               (long long)json_integer_value(json_object_get(c, "end")),
               json_string_value(json_object_get(c, "heading"))[0] ? ": " : "",
               json_string_value(json_object_get(c, "heading")));
}

static void print_json(asking *a)
{
    json_t *root = json_pack("{s:s, s:O, s:O}", "answer", sl_buf_str(&a->answer), "citations",
                             a->citations, "passages", a->passages);

    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
}

static int rag_ask(llm_docs docs, const rag_args *args, int argc, char **argv)
{
    asking a = { .args = args, .passages = json_array(), .citations = json_array() };
    llm_docs_sink sink = { on_passages, on_delta, on_citation, on_done, &a };
    llm_docs_query q = { .collection = args->collection,
                         .model = args->model,
                         .top_k = args->top_k,
                         .max_tokens = args->max_tokens,
                         .search_only = args->search,
                         .cancelled = &cli_interrupted };
    sl_buf question;
    sl_status status;
    int rc;

    sl_buf_init(&a.answer, SL_HTTP_BODY_BYTES_MAX);
    sl_buf_init(&question, SL_MIB);
    for (int i = 0; i < argc; i++)
        sl_buf_printf(&question, "%s%s", i ? " " : "", argv[i]);
    q.question = sl_buf_str(&question);
    status = docs.ops->query(docs.ctx, &q, &sink, &a.error);
    if (status == SL_OK && args->json)
        print_json(&a);
    else if (status == SL_OK && !args->search)
        print_citations(&a);
    rc = status != SL_OK || a.error.status != SL_OK ? cli_fail(&a.error) : CLI_OK;
    json_decref(a.passages);
    json_decref(a.citations);
    sl_buf_deinit(&a.answer);
    sl_buf_deinit(&question);
    return rc;
}

/* ---- status, rm --------------------------------------------------------------------------------
 */

static int rag_status(llm_docs docs, const rag_args *args)
{
    json_t *list = NULL, *d;
    sl_err err = { 0 };
    size_t i;

    if (docs.ops->list(docs.ctx, args->collection, &list, &err) != SL_OK)
        return cli_fail(&err);
    if (args->json) {
        json_dumpf(list, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        json_array_foreach(list, i, d) printf(
            "%-48s %8lld bytes %6lld passages\n", json_string_value(json_object_get(d, "name")),
            (long long)json_integer_value(json_object_get(d, "bytes")),
            (long long)json_integer_value(json_object_get(d, "chunks")));
        printf("%zu documents\n", json_array_size(list));
    }
    json_decref(list);
    return CLI_OK;
}

static int rag_rm(llm_docs docs, const rag_args *args, int argc, char **argv)
{
    sl_err err = { 0 };

    for (int i = 0; i < argc; i++)
        if (docs.ops->remove(docs.ctx, args->collection, argv[i], &err) != SL_OK)
            return cli_fail(&err);
        else
            printf("%s is removed\n", argv[i]);
    return CLI_OK;
}

static int dispatch(llm_docs docs, rag_args *args, int argc, char **argv)
{
    const char *what = argv[1];

    if (strcmp(what, "add") == 0)
        return rag_add(docs, args, argc - 2, argv + 2);
    if (strcmp(what, "ask") == 0)
        return rag_ask(docs, args, argc - 2, argv + 2);
    if (strcmp(what, "search") == 0) {
        args->search = true;
        return rag_ask(docs, args, argc - 2, argv + 2);
    }
    if (strcmp(what, "rm") == 0)
        return rag_rm(docs, args, argc - 2, argv + 2);
    return rag_status(docs, args);
}

int cmd_rag(int argc, char **argv)
{
    static const char *const actions[] = { "add", "ask", "search", "rm", "status" };
    rag_args args = { 0 };
    const cli_option options[] = {
        { "--collection", 0, CLI_TEXT, &args.collection, "C", "collection (default: default)" },
        { "--model", 'm', CLI_TEXT, &args.model, "MODEL", "chat model that answers" },
        { "--top-k", 'k', CLI_NUMBER, &args.top_k, "N", "passages to find" },
        { "--max-tokens", 'n', CLI_NUMBER, &args.max_tokens, "N", "longest answer" },
        { "--json", 0, CLI_FLAG, &args.json, NULL, "as JSON" },
        CLI_COMMON_OPTIONS(args.common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice rag (add FILES... | ask QUESTION | search QUERY | status | rm DOCUMENTS...) "
        "[options]",
        "Documents in, cited answers out. 'add' takes text and Markdown files, or folders of "
        "them;\n"
        "adding a document again replaces it.",
        options,
        "Example: sluice rag add docs/ && sluice rag ask \"How do I start the server?\"",
    };
    config *c = NULL;
    app *a = NULL;
    sl_err err = { 0 };
    sl_status status;
    bool known = false;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    for (size_t i = 0; argc > 1 && i < SL_COUNT_OF(actions); i++)
        known |= strcmp(argv[1], actions[i]) == 0;
    if (!known)
        return cli_usage("rag takes add, ask, search, status or rm; see: sluice rag --help");
    if (argc < 3 && strcmp(argv[1], "status") != 0)
        return cli_usage("rag %s what? See: sluice rag --help", argv[1]);
    cli_catch_interrupt();
    status = cli_config(&args.common, true, &c, &err);
    if (status == SL_OK)
        status = app_create(c, APP_CHAT | APP_EMBED | APP_DOCS, &a, &err);
    rc = status == SL_OK ? dispatch(app_docs(a), &args, argc, argv) : cli_fail(&err);
    app_destroy(a);
    config_destroy(c);
    return rc;
}
