/* rag.h - what the files of `sluice rag` share. Internal to the room. */
#ifndef SL_CLI_RAG_H
#define SL_CLI_RAG_H

#include "cli/cli.h"

typedef struct rag_args {
    cli_common common;
    const char *collection, *model;
    int top_k, max_tokens;
    bool json;
    /* add */
    cli_list access, attributes; /* "user:a,team:b"; "key=value" */
    const char *name, *trust;
    bool watch, allow_private;
    /* eval */
    const char *beir, *mode;
    const llm_chain *chain; /* borrowed */
} rag_args;

/* One of `sluice rag`'s actions; argv[argc] is what was given to it. Returns the exit code. */
typedef struct rag_action {
    const char *name;
    unsigned needs; /* APP_* */
    bool bare;      /* may be given nothing */
    int (*fn)(llm_docs docs, const rag_args *args, int argc, char **argv);
} rag_action;

int rag_add(llm_docs docs, const rag_args *args, int argc, char **argv);
int rag_status(llm_docs docs, const rag_args *args, int argc, char **argv);
int rag_show(llm_docs docs, const rag_args *args, int argc, char **argv);
int rag_ask(llm_docs docs, const rag_args *args, int argc, char **argv);
int rag_search(llm_docs docs, const rag_args *args, int argc, char **argv);
int rag_eval(llm_docs docs, const rag_args *args, int argc, char **argv);
int rag_rm(llm_docs docs, const rag_args *args, int argc, char **argv);

/* rag_add.c: documents on their way, for rag_watch.c. */
typedef struct rag_adding rag_adding;
bool rag_is_document(const char *path); /* by its name, among those of a folder */
void rag_add_path(rag_adding *a, const char *path, int depth);
void rag_remove_path(rag_adding *a, const char *path);
/* Tells of those that have ended. Returns how many have not. */
size_t rag_look(rag_adding *a);
/* rag_watch.c: keeps folders in step until Ctrl-C. */
int rag_watch(rag_adding *a, int argc, char **argv);

#endif
