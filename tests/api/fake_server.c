/* fake_server.c - the real http and api rooms over a scripted model, for the Python tests.
 *
 * fake_server [KEY...]: listens on a free loopback port and prints it; SIGTERM drains. GET /debug
 * tells what the backend saw. */
#include <signal.h>
#include <stdio.h>

#include "access/access.h"
#include "api/api.h"
#include "app/kept.h"
#include "fake_backend.h"

static fake_backend backend;

static void debug(void *ctx, http_exchange *x)
{
    char text[128];
    int len = snprintf(text, sizeof text, "{\"running\":%d,\"cancelled\":%d,\"finished\":%d}",
                       atomic_load(&backend.running), atomic_load(&backend.cancelled),
                       atomic_load(&backend.finished));

    http_respond(x, 200, "application/json", text, (size_t)len);
}

static size_t stats(void *ctx, api_stats *ret, size_t max)
{
    ret[0] = (api_stats){ .model = "fake", .requests_running = atomic_load(&backend.running) };
    return 1;
}

int main(int argc, char **argv)
{
    static llm_chain chain;
    access_control *access = NULL;
    http_server *server = NULL;
    sl_err err = { 0 };
    kept *answers = NULL;
    api *a = NULL;
    sigset_t set;
    int sig = 0;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    fake_chain(&backend, &chain);
    if (access_create((const char *const *)argv + 1, (size_t)argc - 1, &access, &err) != SL_OK ||
        http_server_create(
            &(http_server_options){ .address = "127.0.0.1:0", .body_bytes_max = 1 << 20 }, &server,
            &err) != SL_OK ||
        kept_open(":memory:", &answers, &err) != SL_OK ||
        api_create(&(api_options){ .chain = &chain,
                                   .docs = { &fake_docs_ops, &backend },
                                   .responses = kept_responses(answers),
                                   .gate = access_enter,
                                   .gate_ctx = access,
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
    fake_wait_idle(&backend);
    http_server_destroy(server);
    api_destroy(a);
    kept_close(answers);
    access_destroy(access);
    return 0;
}
