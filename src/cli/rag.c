/* rag.c - sluice rag: documents from the terminal, over the same store as the server's. */
#include "cli/rag.h"

#include <stdio.h>

/* ---- the command -------------------------------------------------------------------------------
 */

static const rag_action actions[] = {
    { "add", APP_EMBED | APP_DOCS | APP_INGEST, false, rag_add },
    { "ask", APP_CHAT | APP_EMBED | APP_DOCS, false, rag_ask },
    { "search", APP_EMBED | APP_DOCS, false, rag_search },
    { "eval", APP_EMBED | APP_DOCS | APP_SCRATCH, true, rag_eval },
    { "status", APP_DOCS, true, rag_status },
    { "show", APP_DOCS, false, rag_show },
    { "rm", APP_DOCS, false, rag_rm },
};

static const rag_action *find_action(const char *name)
{
    for (size_t i = 0; name && i < SL_COUNT_OF(actions); i++)
        if (strcmp(name, actions[i].name) == 0)
            return &actions[i];
    return NULL;
}

int cmd_rag(int argc, char **argv)
{
    const rag_action *action;
    rag_args args = { 0 };
    const cli_option options[] = {
        { "--collection", 0, CLI_TEXT, &args.collection, "C", "collection (default: default)" },
        { "--model", 'm', CLI_TEXT, &args.model, "MODEL", "chat model that answers" },
        { "--beir", 0, CLI_TEXT, &args.beir, "DIR",
          "eval: folder with corpus.jsonl, queries.jsonl and qrels/test.tsv" },
        { "--mode", 0, CLI_TEXT, &args.mode, "MODE",
          "eval: lexical, dense, fused, reranked or all (default)" },
        { "--top-k", 'k', CLI_NUMBER, &args.top_k, "N", "passages to find" },
        { "--max-tokens", 'n', CLI_NUMBER, &args.max_tokens, "N", "longest answer" },
        { "--json", 0, CLI_FLAG, &args.json, NULL, "as JSON" },
        { "--watch", 0, CLI_FLAG, &args.watch, NULL, "add: keep the folders in step until Ctrl-C" },
        { "--access", 0, CLI_LIST, &args.access, "LIST",
          "add: who may read it: user:NAME,team:NAME,role:NAME" },
        { "--attribute", 0, CLI_LIST, &args.attributes, "K=V", "add: for filters; again for more" },
        { "--name", 0, CLI_TEXT, &args.name, "NAME", "add: of what comes by standard input" },
        { "--trust", 0, CLI_TEXT, &args.trust, "LEVEL", "add: trusted or untrusted (default)" },
        { "--allow-private", 0, CLI_FLAG, &args.allow_private, NULL,
          "add: URLs of this machine and of private networks too" },
        CLI_COMMON_OPTIONS(args.common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice rag (add PATHS|-|URL... | ask QUESTION | search QUERY | status | show DOCUMENT | "
        "rm DOCUMENTS... | eval --beir DIR) [options]",
        "Documents in, cited answers out. 'add' takes files of all formats that 'sluice read'\n"
        "knows, folders of them, web addresses, and - for standard input; adding a document again\n"
        "replaces it.",
        options,
        "Example: sluice rag add docs/ && sluice rag ask \"How do I start the server?\"",
    };
    config *c = NULL;
    app *a = NULL;
    sl_err err = { 0 };
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    action = find_action(argc > 1 ? argv[1] : NULL);
    if (!action)
        return cli_usage(
            "rag takes add, ask, search, status, show, rm or eval; see: sluice rag --help");
    if (argc < 3 && !action->bare)
        return cli_usage("rag %s what? See: sluice rag --help", argv[1]);
    cli_catch_interrupt();
    status = cli_config(&args.common, true, &c, &err);
    if (status == SL_OK)
        status = app_create(c, action->needs, &a, &err);
    args.chain = status == SL_OK ? app_chain(a) : NULL;
    rc = status == SL_OK ? action->fn(app_docs(a), &args, argc - 2, argv + 2) : cli_fail(&err);
    app_destroy(a);
    config_destroy(c);
    return rc;
}
