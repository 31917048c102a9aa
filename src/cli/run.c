/* run.c - sluice run: a conversation in the terminal. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/os.h"
#include "base/thread.h"
#include "cli/cli.h"

#define TURN_POLL_NS (50 * 1000 * 1000) /* how soon Ctrl-C is noticed */

/* One answer on its way: the engine thread writes, the main thread waits. */
typedef struct turn {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
    sl_buf text;
    sl_err error;
    llm_usage usage;
} turn;

static void on_event(void *ctx, llm_request *req, const llm_event *ev)
{
    turn *t = ctx;

    (void)req;
    switch (ev->kind) {
    case LLM_EV_DELTA:
        fwrite(ev->text, 1, ev->text_len, stdout);
        fflush(stdout);
        sl_buf_put(&t->text, ev->text, ev->text_len);
        break;
    case LLM_EV_ERROR:
        t->error = ev->error;
        break;
    case LLM_EV_DONE:
        pthread_mutex_lock(&t->lock);
        t->usage = ev->usage;
        t->done = true;
        pthread_cond_signal(&t->changed);
        pthread_mutex_unlock(&t->lock);
        break;
    default:
        break;
    }
}

/* Waits for the end; Ctrl-C cancels the answer, not the program. */
static void wait_turn(turn *t, llm_request *req)
{
    pthread_mutex_lock(&t->lock);
    while (!t->done) {
        (void)sl_cond_wait_until(&t->changed, &t->lock, sl_clock_mono_ns() + TURN_POLL_NS);
        if (atomic_load(&cli_interrupted))
            llm_cancel(req);
    }
    pthread_mutex_unlock(&t->lock);
}

typedef struct chat {
    llm_chain *chain;
    json_t *messages;
    const char *temperature;
    int max_tokens, seed;
    bool verbose;
} chat;

static sl_status add_message(chat *c, const char *role, const char *text, sl_err *err)
{
    json_t *m = json_pack("{s:s, s:s}", "role", role, "content", text);

    if (!m || json_array_append_new(c->messages, m) != 0)
        return sl_fail(err, SL_EINVAL, "the text is not valid UTF-8");
    return SL_OK;
}

static void print_speed(const llm_usage *u)
{
    double seconds = (double)(u->total_ns - u->ttft_ns) / 1e9;

    fprintf(stderr, "[%lld prompt tokens, first token after %.0f ms, %lld tokens at %.1f tok/s]\n",
            (long long)u->prompt_tokens, (double)u->ttft_ns / 1e6, (long long)u->output_tokens,
            seconds > 0 ? (double)(u->output_tokens - 1) / seconds : 0);
}

/* Asks with all messages so far; the answer joins them. */
static sl_status answer(chat *c, sl_err *err)
{
    llm_request *req = llm_request_create(LLM_CHAT, SL_HTTP_BODY_BYTES_MAX);
    turn t = { .lock = PTHREAD_MUTEX_INITIALIZER };
    sl_status status;

    if (!req)
        return sl_fail(err, SL_ENOMEM, "out of memory");
    sl_cond_init(&t.changed);
    sl_buf_init(&t.text, SL_HTTP_BODY_BYTES_MAX);
    req->messages = json_incref(c->messages);
    req->max_tokens = c->max_tokens;
    if (c->temperature)
        req->sampling.temperature = (float)atof(c->temperature);
    req->sampling.has_seed = c->seed >= 0;
    req->sampling.seed = (uint64_t)c->seed;
    atomic_store(&cli_interrupted, false);
    status = llm_chain_submit(c->chain, req, (llm_sink){ on_event, &t }, err);
    if (status == SL_OK) {
        wait_turn(&t, req);
        putchar('\n');
        if (c->verbose)
            print_speed(&t.usage);
        status = t.error.status != SL_OK ? sl_fail(err, t.error.status, "%s", t.error.text)
                                         : add_message(c, "assistant", sl_buf_str(&t.text), err);
    }
    llm_request_destroy(req);
    sl_buf_deinit(&t.text);
    pthread_cond_destroy(&t.changed);
    atomic_store(&cli_interrupted, false);
    return status;
}

static void print_commands(void)
{
    printf("/clear forgets the conversation, /system TEXT sets the system prompt, /exit or Ctrl-D "
           "leaves.\nCtrl-C stops an answer.\n");
}

/* A line that begins with a slash. False: leave. */
static bool command(chat *c, const char *line, sl_err *err)
{
    if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0 || strcmp(line, "/bye") == 0)
        return false;
    if (strcmp(line, "/clear") == 0)
        json_array_clear(c->messages);
    else if (strncmp(line, "/system ", 8) == 0) {
        json_array_clear(c->messages);
        if (add_message(c, "system", line + 8, err) != SL_OK)
            fprintf(stderr, "sluice: %s\n", err->text);
    } else
        print_commands();
    return true;
}

static sl_status converse(chat *c, sl_err *err)
{
    bool terminal = isatty(STDIN_FILENO);
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;

    if (terminal)
        printf("Type a message; /help shows the commands.\n");
    for (;;) {
        if (terminal) {
            printf(">>> ");
            fflush(stdout);
        }
        errno = 0;
        len = getline(&line, &cap, stdin);
        if (len < 0 && errno == EINTR) { /* Ctrl-C at the prompt: a new prompt */
            clearerr(stdin);
            atomic_store(&cli_interrupted, false);
            putchar('\n');
            continue;
        }
        if (len < 0)
            break;
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] == '\0')
            continue;
        if (line[0] == '/') {
            if (!command(c, line, err))
                break;
            continue;
        }
        if (add_message(c, "user", line, err) != SL_OK || answer(c, err) != SL_OK) {
            fprintf(stderr, "sluice: %s\n", err->text);
            json_array_remove(c->messages, json_array_size(c->messages) - 1);
        }
    }
    if (terminal)
        putchar('\n');
    free(line);
    return SL_OK;
}

int cmd_run(int argc, char **argv)
{
    cli_common common = { 0 };
    const char *system = NULL;
    chat ch = { .max_tokens = -1, .seed = -1 };
    const cli_option options[] = {
        { "--system", 0, CLI_TEXT, &system, "TEXT", "system prompt" },
        { "--temperature", 0, CLI_TEXT, &ch.temperature, "T",
          "0 always takes the likeliest token (default 1)" },
        { "--max-tokens", 'n', CLI_NUMBER, &ch.max_tokens, "N", "longest answer" },
        { "--seed", 0, CLI_NUMBER, &ch.seed, "N", "the same answers again" },
        { "--verbose", 'v', CLI_FLAG, &ch.verbose, NULL, "speed after each answer" },
        CLI_COMMON_OPTIONS(common),
        { 0 },
    };
    const cli_command cmd = {
        "sluice run [MODEL] [PROMPT...] [options]",
        "Chats with a model in the terminal. With a PROMPT it answers once and ends;\n"
        "otherwise it reads lines, from a terminal or a pipe.",
        options, "Ctrl-C stops only the answer; /help inside shows the commands."
    };
    config *c = NULL;
    app *a = NULL;
    sl_buf prompt;
    sl_err err = { 0 };
    sl_status status;
    int rc = cli_parse(&cmd, argc, argv, &argc);

    if (rc >= 0)
        return rc;
    cli_catch_interrupt();
    sl_buf_init(&prompt, SL_MIB);
    for (int i = 2; i < argc; i++)
        sl_buf_printf(&prompt, "%s%s", i > 2 ? " " : "", argv[i]);
    status = cli_config(&common, true, &c, &err);
    if (status == SL_OK && (argc > 1 || c->models_count == 0)) {
        config_clear_models(c);
        status = config_add_model(c, argc > 1 ? argv[1] : "smollm2", &err);
    }
    if (status == SL_OK)
        status = app_create(c, APP_CHAT, &a, &err);
    ch.messages = json_array();
    if (status == SL_OK) {
        ch.chain = app_chain(a);
        if (system)
            status = add_message(&ch, "system", system, &err);
    }
    if (status == SL_OK && prompt.len > 0) {
        status = add_message(&ch, "user", prompt.ptr, &err);
        if (status == SL_OK)
            status = answer(&ch, &err);
    } else if (status == SL_OK) {
        status = converse(&ch, &err);
    }
    json_decref(ch.messages);
    sl_buf_deinit(&prompt);
    app_destroy(a);
    config_destroy(c);
    return status == SL_OK ? CLI_OK : cli_fail(&err);
}
