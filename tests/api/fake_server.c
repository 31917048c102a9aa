/* fake_server.c - the real http and api rooms over a scripted model, for the Python tests.
 *
 * fake_server [KEY...]: listens on a free loopback port and prints it; SIGTERM drains. GET /debug
 * tells what the backend saw. Keys that begin with "member-" are no admin's; "member-USER-TEAM" is
 * one of a user of a team. Files and batches are kept in the directory that FAKE_DATA names;
 * without it there are none. With FAKE_DOCS documents are real ones, kept there too. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "access/access.h"
#include "api/api.h"
#include "app/kept.h"
#include "fake_backend.h"
#include "jobs/jobs.h"
#include "rag/rag.h"

#define MEMBERS_MAX 8
#define NAME_BYTES  64

static fake_backend backend;

static void debug(void *ctx, http_exchange *x)
{
    char text[128];
    int len =
        snprintf(text, sizeof text, "{\"running\":%d,\"cancelled\":%d,\"finished\":%d,\"busy\":%d}",
                 atomic_load(&backend.running), atomic_load(&backend.cancelled),
                 atomic_load(&backend.finished), atomic_load(&backend.busy));

    http_respond(x, 200, "application/json", text, (size_t)len);
}

static size_t stats(void *ctx, api_stats *ret, size_t max)
{
    ret[0] = (api_stats){ .model = "fake", .requests_running = atomic_load(&backend.running) };
    return 1;
}

static struct {
    access_control *access;
    llm_caller members[MEMBERS_MAX];
    char users[MEMBERS_MAX][NAME_BYTES];
    int count;
} gate_state;

static void add_member(const char *key)
{
    llm_caller *c = NULL, *m = &gate_state.members[gate_state.count++];
    char header[128], *team;
    sl_err err;

    SL_ASSERT(gate_state.count <= MEMBERS_MAX);
    snprintf(header, sizeof header, "Bearer %s", key);
    SL_ASSERT(access_check(gate_state.access, header, NULL, &c, &err) == SL_OK);
    *m = *c;
    m->role = "member";
    m->permissions &= ~(uint32_t)LLM_MAY_ADMIN;
    snprintf(gate_state.users[gate_state.count - 1], NAME_BYTES, "%s", key + strlen("member-"));
    if ((team = strchr(gate_state.users[gate_state.count - 1], '-'))) {
        *team = '\0';
        m->user = gate_state.users[gate_state.count - 1];
        m->team = team + 1;
    }
}

static sl_status open_gate(char **keys, int count, sl_err *err)
{
    SL_TRY(access_create((const char *const *)keys, (size_t)count, &gate_state.access, err));
    for (int i = 0; i < count; i++)
        if (strncmp(keys[i], "member-", 7) == 0)
            add_member(keys[i]);
    return SL_OK;
}

static sl_status gate(void *ctx, const http_exchange *x, llm_caller **ret, sl_err *err)
{
    sl_status status = access_enter(gate_state.access, x, ret, err);

    for (int i = 0; status == SL_OK && *ret && i < gate_state.count; i++)
        if (strcmp(gate_state.members[i].id, (*ret)->id) == 0)
            *ret = llm_caller_ref(&gate_state.members[i]);
    return status;
}

/* Files and batches, where FAKE_DATA says so. */
static sl_status open_jobs(llm_chain *chain, kept *answers, jobs **ret, sl_err *err)
{
    static api_lines lines;
    const char *max = getenv("FAKE_FILE_BYTES_MAX");
    jobs_options o = { .dir = getenv("FAKE_DATA"),
                       .runner = api_line_runner(&lines),
                       .file_bytes_max = max ? atoll(max) : 0 };

    lines = (api_lines){ chain, kept_responses(answers), NULL };
    if (!o.dir)
        return SL_OK;
    SL_TRY(jobs_open(&o, ret, err));
    chain->stages[chain->stage_count++] = (llm_stage){ &jobs_stage, *ret };
    return jobs_start(*ret, err);
}

static sl_status open_docs(llm_chain *chain, rag **ret, sl_err *err)
{
    static char path[4096];
    const char *dir = getenv("FAKE_DATA");

    if (!dir || !getenv("FAKE_DOCS"))
        return SL_OK;
    snprintf(path, sizeof path, "%s/rag.db", dir);
    return rag_open(&(rag_options){ .db_path = path,
                                    .chain = chain,
                                    .ingest_workers = 2,
                                    .reader = { .program = getenv("SLUICE_BIN") } },
                    ret, err);
}

int main(int argc, char **argv)
{
    static llm_chain chain;
    http_server *server = NULL;
    sl_err err = { 0 };
    kept *answers = NULL;
    jobs *j = NULL;
    rag *documents = NULL;
    api *a = NULL;
    sigset_t set;
    int sig = 0;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    fake_chain(&backend, &chain);
    if (open_gate(argv + 1, argc - 1, &err) != SL_OK ||
        http_server_create(
            &(http_server_options){ .address = "127.0.0.1:0", .body_bytes_max = 1 << 20 }, &server,
            &err) != SL_OK ||
        kept_open(":memory:", &answers, &err) != SL_OK ||
        open_jobs(&chain, answers, &j, &err) != SL_OK ||
        open_docs(&chain, &documents, &err) != SL_OK ||
        api_create(&(api_options){ .chain = &chain,
                                   .docs = documents ? rag_docs(documents)
                                                     : (llm_docs){ &fake_docs_ops, &backend },
                                   .responses = kept_responses(answers),
                                   .gate = gate,
                                   .jobs = j ? jobs_service(j) : (llm_jobs){ 0 },
                                   .stats = stats },
                   server, &a, &err) != SL_OK ||
        http_server_route(server, "GET", "/debug", debug, NULL, &err) != SL_OK ||
        http_server_start(server, &err) != SL_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    api_set_ready(a, true);
    printf("%d\n", http_server_port(server));
    fflush(stdout);
    sigwait(&set, &sig);
    api_set_ready(a, false);
    http_server_drain(server, 2000);
    jobs_stop(j);
    fake_wait_idle(&backend);
    http_server_destroy(server);
    api_destroy(a);
    kept_close(answers);
    rag_close(documents);
    jobs_close(j);
    access_destroy(gate_state.access);
    return 0;
}
