/* rag_manage.c - sluice rag status, show and rm: what there is. No model is loaded. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/rag.h"

#define PAGE 1000

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? text : "";
}

static long long int_of(const json_t *o, const char *key)
{
    return (long long)json_integer_value(json_object_get(o, key));
}

static int print_json(json_t *root)
{
    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
    return CLI_OK;
}

/* ---- status --------------------------------------------------------------------------------- */

typedef sl_status (*page_fn)(llm_docs docs, const char *collection, const llm_docs_page *page,
                             json_t **ret, sl_err *err);

static sl_status page_collections(llm_docs docs, const char *collection, const llm_docs_page *page,
                                  json_t **ret, sl_err *err)
{
    return docs.ops->collection_list(docs.ctx, NULL, page, ret, err);
}

static sl_status page_documents(llm_docs docs, const char *collection, const llm_docs_page *page,
                                json_t **ret, sl_err *err)
{
    return docs.ops->document_list(docs.ctx, NULL, collection, page, ret, err);
}

/* Appends all pages to ret; each item gets "collection" where that is not NULL. */
static sl_status read_all(llm_docs docs, page_fn fn, const char *id, const char *name, json_t *ret,
                          sl_err *err)
{
    llm_docs_page page = { .limit = PAGE, .ascending = true };
    bool more = true;
    char last[64];

    while (more) {
        json_t *list = NULL, *item;
        size_t i;

        SL_TRY(fn(docs, id, &page, &list, err));
        json_array_foreach(json_object_get(list, "data"), i, item)
        {
            snprintf(last, sizeof last, "%s", text_of(item, "id"));
            if (name)
                json_object_set_new(item, "collection", json_string(name));
            json_array_append(ret, item);
        }
        more = json_is_true(json_object_get(list, "has_more"));
        page.after = last;
        json_decref(list);
    }
    return SL_OK;
}

static sl_status read_status(llm_docs docs, const char *only, json_t *collections,
                             json_t *documents, sl_err *err)
{
    json_t *c = NULL;
    size_t i;

    if (only) {
        SL_TRY(docs.ops->collection_get(docs.ctx, NULL, only, &c, err));
        json_array_append_new(collections, c);
    } else {
        SL_TRY(read_all(docs, page_collections, NULL, NULL, collections, err));
    }
    json_array_foreach(collections, i, c) SL_TRY(
        read_all(docs, page_documents, text_of(c, "id"), text_of(c, "name"), documents, err));
    return SL_OK;
}

static void count_jobs(const json_t *documents, long long *ret_waiting, long long *ret_failed)
{
    json_t *d;
    size_t i;

    *ret_waiting = *ret_failed = 0;
    json_array_foreach(documents, i, d)
    {
        *ret_waiting += strcmp(text_of(d, "status"), "in_progress") == 0;
        *ret_failed += strcmp(text_of(d, "status"), "failed") == 0;
    }
}

static void print_document(const json_t *d)
{
    const char *status = text_of(d, "status");

    printf("  %-46s %10lld bytes %6lld passages%s%s\n", text_of(d, "name"), int_of(d, "bytes"),
           int_of(d, "chunks"), strcmp(status, "completed") == 0 ? "" : "  ",
           strcmp(status, "completed") == 0 ? "" : status);
    if (strcmp(status, "failed") == 0)
        printf("      %s\n", text_of(json_object_get(d, "error"), "message"));
}

static void print_status(const json_t *collections, const json_t *documents)
{
    long long waiting, failed;
    json_t *c, *d;
    size_t i, k;

    count_jobs(documents, &waiting, &failed);
    json_array_foreach(collections, i, c)
    {
        printf("%s (%s): %lld documents, %lld passages%s%s\n", text_of(c, "name"), text_of(c, "id"),
               int_of(c, "documents"), int_of(c, "chunks"),
               json_is_string(json_object_get(c, "model")) ? ", embedded by " : "",
               text_of(c, "model"));
        json_array_foreach(documents, k, d) if (strcmp(text_of(d, "collection_id"),
                                                       text_of(c, "id")) == 0) print_document(d);
    }
    printf("%zu documents, %lld in progress, %lld failed\n", json_array_size(documents), waiting,
           failed);
}

int rag_status(llm_docs docs, const rag_args *args, int argc, char **argv)
{
    json_t *collections = json_array(), *documents = json_array();
    long long waiting, failed;
    sl_err err = { 0 };
    int rc = CLI_OK;

    if (read_status(docs, args->collection, collections, documents, &err) != SL_OK) {
        rc = cli_fail(&err);
    } else if (args->json) {
        count_jobs(documents, &waiting, &failed);
        rc = print_json(json_pack("{s:O,s:O,s:{s:I,s:I}}", "collections", collections, "documents",
                                  documents, "jobs", "in_progress", (json_int_t)waiting, "failed",
                                  (json_int_t)failed));
    } else {
        print_status(collections, documents);
    }
    json_decref(collections);
    json_decref(documents);
    return rc;
}

/* ---- show ----------------------------------------------------------------------------------- */

static void print_value(const char *name, const json_t *v)
{
    char *text;

    if (!v || json_is_null(v))
        return;
    text = json_is_string(v) ? NULL : json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    printf("%-14s %s\n", name, text ? text : json_string_value(v));
    free(text);
}

static void print_passages(const json_t *passages)
{
    json_t *p;
    size_t i;

    json_array_foreach(passages, i, p)
    {
        printf("\n[%lld] bytes %lld to %lld", int_of(p, "number"), int_of(p, "begin"),
               int_of(p, "end"));
        if (int_of(p, "page") > 0)
            printf(", page %lld", int_of(p, "page"));
        if (text_of(p, "heading")[0])
            printf("\n    %s", text_of(p, "heading"));
        printf("\n%s\n", text_of(p, "text"));
    }
}

static int show_one(llm_docs docs, const rag_args *args, const char *name)
{
    json_t *d = NULL, *passages = NULL, *v;
    sl_err err = { 0 };
    const char *key;

    if (docs.ops->document_get(docs.ctx, NULL, args->collection, name, &d, &err) != SL_OK)
        return cli_fail(&err);
    if (docs.ops->document_passages(docs.ctx, NULL, args->collection, name, &passages, &err) !=
        SL_OK) {
        json_decref(d);
        return cli_fail(&err);
    }
    if (args->json) {
        json_object_set_new(d, "passages", passages);
        return print_json(d);
    }
    json_object_foreach(d, key, v) print_value(key, v);
    print_passages(passages);
    json_decref(passages);
    json_decref(d);
    return CLI_OK;
}

int rag_show(llm_docs docs, const rag_args *args, int argc, char **argv)
{
    int rc = CLI_OK;

    for (int i = 0; i < argc && rc == CLI_OK; i++)
        rc = show_one(docs, args, argv[i]);
    return rc;
}

/* ---- rm ------------------------------------------------------------------------------------- */

int rag_rm(llm_docs docs, const rag_args *args, int argc, char **argv)
{
    sl_err err = { 0 };

    for (int i = 0; i < argc; i++)
        if (docs.ops->document_remove(docs.ctx, NULL, args->collection, argv[i], &err) != SL_OK)
            return cli_fail(&err);
        else
            printf("%s is removed\n", argv[i]);
    return CLI_OK;
}
