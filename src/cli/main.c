/* main.c - picks the command. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "engine/engine.h"

static int cmd_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("sluice %s\n", SLUICE_VERSION);
    return CLI_OK;
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *text;
} commands[] = {
    { "serve", cmd_serve, "serve models over HTTP (OpenAI dialect, documents, metrics)" },
    { "run", cmd_run, "chat with a model in the terminal" },
    { "pull", cmd_pull, "fetch models into the store" },
    { "list", cmd_list, "list the models in the store" },
    { "show", cmd_show, "show what a model is" },
    { "rm", cmd_rm, "remove models from the store" },
    { "create", cmd_create, "make a model from another, by a Modelfile" },
    { "cp", cmd_cp, "give a model another name" },
    { "ps", cmd_ps, "list what a running server has loaded" },
    { "rag", cmd_rag, "add documents and ask about them" },
    { "read", cmd_read, "show the text of a document as the service sees it" },
    { "read-document", cmd_read_document, NULL }, /* what reader_read starts; not for people */
    { "batch", cmd_batch, "run a file of requests, here or on a server" },
    { "usage", cmd_usage, "what was used and what it cost" },
    { "key", cmd_key, "make, list, rotate and revoke API keys" },
    { "user", cmd_user, "people who log in with a password" },
    { "team", cmd_team, "limits that keys and users share" },
    { "audit", cmd_audit, "what administrators changed" },
    { "backup", cmd_backup, "copy the data directory while a server uses it" },
    { "restore", cmd_restore, "put a backup in its place" },
    { "health", cmd_health, "ask a running server whether it is well" },
    { "config", cmd_config, "check and show the configuration; its schema" },
    { "openapi", cmd_openapi, "print the OpenAPI document of all routes" },
    { "doctor", cmd_doctor, "check this machine and what is installed" },
    { "bench", cmd_bench, "measure prefill and decode speed" },
    { "perplexity", cmd_perplexity, "measure how well a model predicts a text" },
    { "tokenize", cmd_tokenize, "text to token ids and back" },
    { "template", cmd_template, "render a chat template" },
    { "embed", cmd_embed, "texts to vectors" },
    { "version", cmd_version, "print the version" },
};

static void print_help(FILE *f)
{
    fprintf(f,
            "sluice %s - language models from a laptop to production, in one program\n\n"
            "Usage: sluice COMMAND [arguments]\n\n",
            SLUICE_VERSION);
    for (size_t i = 0; i < SL_COUNT_OF(commands); i++)
        if (commands[i].text)
            fprintf(f, "  %-11s %s\n", commands[i].name, commands[i].text);
    fprintf(f, "\n'sluice COMMAND --help' tells more. Start with: sluice pull smollm2 minilm\n");
}

/* SLUICE_CPU=scalar|avx2|avx512|avx512bf16 narrows the kernels, for tests and for comparing. */
static int apply_cpu(void)
{
    const char *text = getenv("SLUICE_CPU");

    if (!text || !text[0])
        return CLI_OK;
    if (strcmp(text, "scalar") == 0)
        engine_set_cpu(0);
    else if (strcmp(text, "avx2") == 0)
        engine_set_cpu(KERNELS_CPU_AVX2);
    else if (strcmp(text, "avx512") == 0)
        engine_set_cpu(KERNELS_CPU_AVX2 | KERNELS_CPU_AVX512);
    else if (strcmp(text, "avx512bf16") == 0)
        engine_set_cpu(KERNELS_CPU_AVX2 | KERNELS_CPU_AVX512 | KERNELS_CPU_BF16);
    else
        return cli_usage("SLUICE_CPU is '%s'; use scalar, avx2, avx512 or avx512bf16", text);
    return CLI_OK;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    signal(SIGPIPE, SIG_IGN);
    if (apply_cpu() != CLI_OK)
        return CLI_USAGE;
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return CLI_OK;
    }
    if (strcmp(name, "--version") == 0)
        name = "version";
    for (size_t i = 0; i < SL_COUNT_OF(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    if (name[0])
        fprintf(stderr, "sluice: unknown command '%s'\n\n", name);
    print_help(stderr);
    return CLI_USAGE;
}
