/* serve.c - a bounded load generator for completion servers on this machine, over SSE.
 *
 * One thread and one epoll, so that the generator takes as little as it can of the processors that
 * it judges. Closed loop: N connections, each sends its next request when the last one ended. Open
 * loop: arrivals at random times (Poisson, seeded), and latency counts from the arrival, so that a
 * server that falls behind cannot hide it. Each request is a connection of its own and a prompt of
 * token ids: a prefix that all share, then ids of its own. Every run ends by its count or its time.
 *
 * Invariants: (1) a slot is idle (fd < 0) or owns one connection; (2) requests sent = finished + in
 * flight; (3) no array grows after the start: samples are bounded by requests x output. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/os.h"

#define SLOTS_MAX    1024
#define REQUESTS_MAX 100000
#define SAMPLES_MAX  (4 << 20)
#define TOKENS_MAX   131072
#define LINE_MAX     (4 << 20) /* the peer's last event echoes the prompt */
#define SECONDS_MAX  600
#define LONG_OUTPUT  8

typedef struct settings {
    const char *model; /* for /v1/completions; NULL: the native /completion */
    int port, connections, requests, warm;
    int shared, unique, output; /* tokens */
    int vocab_min, vocab_max;   /* ids are drawn from [min, max) */
    int seed, prefix_seed, seconds, cache, burst;
    int long_prompt; /* tokens of a prompt that arrives while the others run; 0: none */
    int long_after;  /* tokens each of the others has given before it arrives */
    double rate;     /* arrivals per second; 0: closed loop */
} settings;

/* Milliseconds, or whatever else is counted. */
typedef struct samples {
    double *v;
    size_t count, cap;
} samples;

typedef enum part { PART_HEAD, PART_SIZE, PART_DATA, PART_DATA_END, PART_PLAIN, PART_END } part;

typedef struct slot {
    int fd;
    bool is_long, counted, stopped, failed;
    int64_t sent, last; /* ns; last: when its newest token came, 0 before the first */
    int tokens, told;   /* events with text; what the server says it generated */
    sl_buf out;         /* the request */
    size_t out_at;
    sl_buf frame; /* a line of HTTP: of the head, or a chunk's size */
    sl_buf line;  /* a line of the body; an event may span chunks */
    part at;
    bool chunked;
    size_t chunk_left;
} slot;

typedef struct load {
    settings set;
    int epoll;
    slot *slots;
    int slot_count, busy, sent, finished, errors;
    int64_t start, end, next_arrival, long_sent, long_first;
    uint64_t arrival_rng;
    long long out_tokens, prompt_processed, prompt_cached;
    samples ttft, total, itl, itl_before, itl_during, long_ttft;
    char error[256]; /* the first one */
} load;

/* ---- numbers ----------------------------------------------------------------------------------
 */

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static bool samples_init(samples *s, size_t cap)
{
    *s = (samples){ sl_calloc(cap + 1, sizeof *s->v), 0, cap };
    return s->v;
}

static void samples_add(samples *s, int64_t ns)
{
    if (s->count < s->cap)
        s->v[s->count++] = (double)ns / 1e6;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Nearest rank: the smallest sample that at least the part p of all does not exceed. */
static double percentile(const samples *s, double p)
{
    size_t rank = (size_t)ceil(p * (double)s->count);

    return s->count ? s->v[rank > 0 ? rank - 1 : 0] : 0;
}

static void print_samples(const char *name, samples *s)
{
    qsort(s->v, s->count, sizeof *s->v, compare_double);
    printf(
        "  \"%s\": {\"count\": %zu, \"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"max\": %.3f},\n",
        name, s->count, percentile(s, 0.5), percentile(s, 0.9), percentile(s, 0.99),
        percentile(s, 1));
}

/* ---- requests ---------------------------------------------------------------------------------
 */

static void put_ids(sl_buf *b, const settings *o, uint64_t seed, int count)
{
    uint64_t rng = seed, span = (uint64_t)(o->vocab_max - o->vocab_min);

    for (int i = 0; i < count; i++)
        sl_buf_printf(b, "%s%d", b->ptr[b->len - 1] == '[' ? "" : ",",
                      o->vocab_min + (int)(next_random(&rng) % span));
}

/* index: the request's number; it alone decides what is unique in the prompt. */
static bool build_request(slot *s, const settings *o, int index)
{
    sl_buf body;
    uint64_t own = ((uint64_t)o->seed << 32) + (uint64_t)index + 1;
    int output = s->is_long ? LONG_OUTPUT : o->output;
    bool ok;

    sl_buf_init(&body, (size_t)TOKENS_MAX * 16);
    sl_buf_puts(&body, "{\"prompt\":[");
    if (!s->is_long)
        put_ids(&body, o, (uint64_t)o->prefix_seed ^ 0x5851F42D4C957F2Du, o->shared);
    put_ids(&body, o, own * 0xD1342543DE82EF95u, s->is_long ? o->long_prompt : o->unique);
    sl_buf_puts(&body, "],\"stream\":true,\"ignore_eos\":true,\"temperature\":0,");
    if (o->model) {
        sl_buf_puts(&body, "\"model\":");
        sl_buf_put_json(&body, o->model, strlen(o->model));
        sl_buf_printf(&body, ",\"max_tokens\":%d,\"stream_options\":{\"include_usage\":true}}",
                      output);
    } else {
        sl_buf_printf(&body, "\"n_predict\":%d,\"cache_prompt\":%s}", output,
                      o->cache ? "true" : "false");
    }
    sl_buf_clear(&s->out);
    sl_buf_printf(&s->out,
                  "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                  "Connection: close\r\nContent-Length: %zu\r\n\r\n",
                  o->model ? "/v1/completions" : "/completion", o->port, body.len);
    sl_buf_put(&s->out, body.ptr, body.len);
    ok = !body.failed && !s->out.failed;
    sl_buf_deinit(&body);
    return ok;
}

static void fail(load *l, slot *s, const char *text)
{
    s->failed = true;
    if (!l->error[0])
        snprintf(l->error, sizeof l->error, "%s", text);
}

static bool connect_slot(load *l, slot *s)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)l->set.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct epoll_event e = { .events = EPOLLIN | EPOLLOUT, .data.ptr = s };
    int one = 1;

    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        return false;
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(s->fd, (struct sockaddr *)&a, sizeof a) && errno != EINPROGRESS)
        return false;
    return epoll_ctl(l->epoll, EPOLL_CTL_ADD, s->fd, &e) == 0;
}

static void finish_slot(load *l, slot *s);

/* arrival: when the caller wanted the answer; what follows is latency. */
static void start_slot(load *l, slot *s, int64_t arrival, bool is_long)
{
    s->is_long = is_long;
    s->counted = l->sent >= l->set.warm;
    s->stopped = s->failed = s->chunked = false;
    s->last = 0;
    s->tokens = s->told = 0;
    s->out_at = s->chunk_left = 0;
    s->at = PART_HEAD;
    sl_buf_clear(&s->frame);
    sl_buf_clear(&s->line);
    s->sent = arrival;
    if (l->sent == l->set.warm)
        l->start = arrival;
    l->busy++;
    l->sent++;
    if (!build_request(s, &l->set, l->sent))
        fail(l, s, "out of memory");
    else if (!connect_slot(l, s))
        fail(l, s, strerror(errno));
    if (s->failed)
        finish_slot(l, s);
}

static void count_answer(load *l, const slot *s, int64_t now)
{
    if (s->is_long || !s->counted)
        return;
    l->out_tokens += s->told ? s->told : s->tokens;
    samples_add(&l->total, now - s->sent);
    l->end = now;
}

static void finish_slot(load *l, slot *s)
{
    if (!s->failed && !s->stopped)
        fail(l, s, "the connection ended before the answer did");
    if (s->failed)
        l->errors++;
    else
        count_answer(l, s, sl_clock_mono_ns());
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    l->busy--;
    l->finished++;
}

/* ---- answers ----------------------------------------------------------------------------------
 */

/* Where the value of "key" starts in an event, or NULL. Inside of a string the quotes of a key are
 * escaped, so that text cannot be taken for one. */
static const char *value_of(const char *json, const char *key)
{
    char pattern[40];
    const char *p;

    snprintf(pattern, sizeof pattern, "\"%s\":", key);
    p = strstr(json, pattern);
    if (!p)
        return NULL;
    p += strlen(pattern);
    return p + strspn(p, " ");
}

static int number_of(const char *json, const char *key)
{
    const char *p = value_of(json, key);

    return p ? atoi(p) : 0;
}

static bool has_text(const char *json, const char *key)
{
    const char *p = value_of(json, key);

    return p && p[0] == '"' && p[1] != '"';
}

static bool is_true(const char *json, const char *key)
{
    const char *p = value_of(json, key);

    return p && strncmp(p, "true", 4) == 0;
}

static void on_token(load *l, slot *s, int64_t now)
{
    s->tokens++;
    if (s->last == 0) {
        if (s->is_long)
            l->long_first = now;
        if (s->is_long)
            samples_add(&l->long_ttft, now - s->sent);
        else if (s->counted)
            samples_add(&l->ttft, now - s->sent);
    } else if (s->counted && !s->is_long) {
        samples_add(&l->itl, now - s->last);
        if (!l->long_sent)
            samples_add(&l->itl_before, now - s->last);
        else if (!l->long_first || s->last < l->long_first)
            samples_add(&l->itl_during, now - s->last);
    }
    s->last = now;
}

static void on_usage(load *l, slot *s, const char *json)
{
    int cached, processed;

    if (l->set.model) {
        s->told = number_of(json, "completion_tokens");
        cached = number_of(json, "cached_tokens");
        processed = number_of(json, "prompt_tokens") - cached;
    } else {
        s->told = number_of(json, "predicted_n");
        cached = number_of(json, "cache_n");
        processed = number_of(json, "prompt_n");
    }
    if (!s->counted)
        return;
    l->prompt_cached += cached;
    l->prompt_processed += processed;
}

static void on_event(load *l, slot *s, const char *json, int64_t now)
{
    const char *error = value_of(json, "error");

    if (error && strncmp(error, "null", 4) != 0) {
        fail(l, s, json);
    } else if (l->set.model) {
        if (has_text(json, "text"))
            on_token(l, s, now);
        if (value_of(json, "completion_tokens"))
            on_usage(l, s, json);
        s->stopped = s->stopped || strncmp(json, "[DONE]", 6) == 0;
    } else if (is_true(json, "stop")) {
        if (has_text(json, "content"))
            on_token(l, s, now);
        on_usage(l, s, json);
        s->stopped = true;
    } else {
        on_token(l, s, now);
    }
}

/* A line of HTTP around the body. */
static void on_frame(load *l, slot *s)
{
    const char *text = sl_buf_str(&s->frame);

    if (s->at == PART_SIZE) {
        s->chunk_left = strtoul(text, NULL, 16);
        s->at = s->chunk_left ? PART_DATA : PART_END;
    } else if (s->at == PART_DATA_END) {
        s->at = PART_SIZE;
    } else if (strncmp(text, "HTTP/", 5) == 0 && !strstr(text, " 200")) {
        fail(l, s, text);
    } else if (strncasecmp(text, "transfer-encoding:", 18) == 0 && strstr(text, "chunked")) {
        s->chunked = true;
    } else if (s->frame.len == 0) {
        s->at = s->chunked ? PART_SIZE : PART_PLAIN;
    }
    sl_buf_clear(&s->frame);
}

static void on_body(load *l, slot *s, const char *bytes, size_t len, int64_t now)
{
    while (len > 0 && !s->failed) {
        const char *end = memchr(bytes, '\n', len);
        size_t piece = end ? (size_t)(end - bytes) : len;

        sl_buf_put(&s->line, bytes, piece);
        if (s->line.failed)
            fail(l, s, "an event is too long");
        if (!end)
            return;
        if (s->line.len >= 5 && strncmp(s->line.ptr, "data:", 5) == 0)
            on_event(l, s, s->line.ptr + 5 + strspn(s->line.ptr + 5, " "), now);
        sl_buf_clear(&s->line);
        bytes += piece + 1;
        len -= piece + 1;
    }
}

static void on_bytes(load *l, slot *s, const char *bytes, size_t len, int64_t now)
{
    while (len > 0 && !s->failed && s->at != PART_END) {
        size_t piece = len;

        if (s->at == PART_PLAIN) {
            on_body(l, s, bytes, piece, now);
        } else if (s->at == PART_DATA) {
            piece = SL_MIN(len, s->chunk_left);
            on_body(l, s, bytes, piece, now);
            s->chunk_left -= piece;
            if (s->chunk_left == 0)
                s->at = PART_DATA_END;
        } else {
            const char *end = memchr(bytes, '\n', len);

            piece = end ? (size_t)(end - bytes) + 1 : len;
            sl_buf_put(&s->frame, bytes, piece);
            while (s->frame.len > 0 && strchr("\r\n", s->frame.ptr[s->frame.len - 1]))
                s->frame.ptr[--s->frame.len] = '\0';
            if (s->frame.failed)
                fail(l, s, "a header is too long");
            else if (end)
                on_frame(l, s);
        }
        bytes += piece;
        len -= piece;
    }
}

static void write_slot(load *l, slot *s)
{
    struct epoll_event e = { .events = EPOLLIN, .data.ptr = s };
    ssize_t n = send(s->fd, s->out.ptr + s->out_at, s->out.len - s->out_at, MSG_NOSIGNAL);

    if (n > 0)
        s->out_at += (size_t)n;
    else if (n < 0 && errno != EAGAIN && errno != EINTR)
        fail(l, s, strerror(errno));
    if (s->out_at == s->out.len)
        epoll_ctl(l->epoll, EPOLL_CTL_MOD, s->fd, &e);
}

static void read_slot(load *l, slot *s)
{
    static char bytes[65536];
    ssize_t n = recv(s->fd, bytes, sizeof bytes, 0);

    if (n > 0)
        on_bytes(l, s, bytes, (size_t)n, sl_clock_mono_ns());
    else if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    else if (!s->stopped)
        fail(l, s, n < 0 ? strerror(errno) : "the connection ended before the answer did");
    if (s->failed || n <= 0 || s->at == PART_END)
        finish_slot(l, s);
}

/* ---- the run ----------------------------------------------------------------------------------
 */

static slot *idle_slot(load *l)
{
    for (int i = 0; i < l->slot_count; i++)
        if (l->slots[i].fd < 0)
            return &l->slots[i];
    return NULL;
}

/* Every stream runs and has given its share before the long prompt comes. */
static bool long_is_due(const load *l)
{
    if (!l->set.long_prompt || l->long_sent || l->sent < l->set.warm + l->set.requests)
        return false;
    for (int i = 0; i < l->slot_count; i++)
        if (l->slots[i].fd >= 0 && l->slots[i].tokens < l->set.long_after)
            return false;
    return true;
}

/* Sends what is due at `now`. Requests for warming go one by one. */
static void send_due(load *l, int64_t now)
{
    const settings *o = &l->set;
    int last = o->warm + o->requests;
    slot *s;

    while (l->sent < last && (s = idle_slot(l))) {
        if (l->sent <= o->warm && l->finished < l->sent && o->warm > 0)
            return;
        if (l->sent < o->warm) {
            start_slot(l, s, now, false);
        } else if (o->rate <= 0) {
            if (l->busy >= o->connections)
                return;
            start_slot(l, s, sl_clock_mono_ns(), false);
        } else {
            double u = (double)(next_random(&l->arrival_rng) >> 11) / 9007199254740992.0;

            if (!l->next_arrival)
                l->next_arrival = now;
            if (l->next_arrival > now)
                return;
            start_slot(l, s, l->next_arrival, false);
            l->next_arrival += (int64_t)(-log(1 - u) / o->rate * 1e9);
        }
    }
    if (long_is_due(l) && (s = idle_slot(l))) {
        l->long_sent = sl_clock_mono_ns();
        start_slot(l, s, l->long_sent, true);
    }
}

static struct timespec wait_time(const load *l, int64_t now, int64_t deadline)
{
    int64_t until = SL_MIN(deadline, now + 1000000000);

    if (l->next_arrival && l->sent < l->set.warm + l->set.requests)
        until = SL_MIN(until, l->next_arrival);
    until = SL_MAX(until - now, 0);
    return (struct timespec){ until / 1000000000, until % 1000000000 };
}

/* False when time ran out first. */
static bool run(load *l)
{
    int64_t begin = sl_clock_mono_ns(), now = begin;
    int64_t deadline = begin + (int64_t)l->set.seconds * 1000000000;
    int all = l->set.warm + l->set.requests + (l->set.long_prompt > 0);

    while (l->finished < all && now < deadline) {
        struct epoll_event events[64];
        struct timespec wait;
        int n;

        send_due(l, now);
        wait = wait_time(l, sl_clock_mono_ns(), deadline);
        n = epoll_pwait2(l->epoll, events, 64, &wait, NULL);
        for (int i = 0; i < n; i++) {
            slot *s = events[i].data.ptr;

            if (s->out_at < s->out.len)
                write_slot(l, s);
            if (s->failed)
                finish_slot(l, s);
            else if (events[i].events & ~(unsigned)EPOLLOUT)
                read_slot(l, s);
        }
        now = sl_clock_mono_ns();
    }
    return l->finished == all;
}

static void print_report(load *l, bool complete)
{
    const settings *o = &l->set;
    double wall = l->end > l->start ? (double)(l->end - l->start) / 1e9 : 0;

    printf("{\n  \"route\": \"%s\", \"connections\": %d, \"requests\": %d, \"rate\": %g,\n",
           o->model ? "/v1/completions" : "/completion", o->connections, o->requests, o->rate);
    printf(
        "  \"shared\": %d, \"unique\": %d, \"output\": %d, \"cache_prompt\": %s, \"seed\": %d,\n",
        o->shared, o->unique, o->output, o->cache ? "true" : "false", o->seed);
    print_samples("ttft_ms", &l->ttft);
    print_samples("itl_ms", &l->itl);
    print_samples("total_ms", &l->total);
    if (o->long_prompt) {
        print_samples("long_ttft_ms", &l->long_ttft);
        print_samples("itl_before_long_ms", &l->itl_before);
        print_samples("itl_during_long_ms", &l->itl_during);
    }
    printf("  \"wall_s\": %.3f, \"output_tokens\": %lld, \"tokens_per_s\": %.3f,\n", wall,
           l->out_tokens, wall > 0 ? (double)l->out_tokens / wall : 0);
    printf("  \"prompt_n\": %lld, \"prompt_cached\": %lld,\n", l->prompt_processed,
           l->prompt_cached);
    printf("  \"errors\": %d, \"unfinished\": %d, \"complete\": %s", l->errors, l->busy,
           complete ? "true" : "false");
    if (l->error[0]) {
        sl_buf text;

        sl_buf_init(&text, 4096);
        sl_buf_put_json(&text, l->error, strlen(l->error));
        printf(",\n  \"first_error\": %s", sl_buf_str(&text));
        sl_buf_deinit(&text);
    }
    puts("\n}");
}

/* ---- the command line -------------------------------------------------------------------------
 */

typedef struct option_spec {
    const char *name;
    int *value;
    int min, max;
    const char *help;
} option_spec;

enum { SPEC_COUNT = 18 };

static void specs_init(option_spec specs[SPEC_COUNT], settings *o)
{
    const option_spec all[SPEC_COUNT] = {
        { "port", &o->port, 1, 65535, "of the server on 127.0.0.1" },
        { "connections", &o->connections, 1, SLOTS_MAX, "at a time, closed loop (1)" },
        { "requests", &o->requests, 1, REQUESTS_MAX, "in all (1)" },
        { "warm", &o->warm, 0, REQUESTS_MAX, "requests before, one by one, not counted (0)" },
        { "shared", &o->shared, 0, TOKENS_MAX, "prompt tokens that are the same in all (0)" },
        { "unique", &o->unique, 0, TOKENS_MAX, "prompt tokens of each request's own (128)" },
        { "output", &o->output, 1, TOKENS_MAX, "tokens to generate (128)" },
        { "cache", &o->cache, 0, 1, "1: the server may reuse prompts (0)" },
        { "burst", &o->burst, 0, 1, "1: all requests at once" },
        { "seed", &o->seed, 0, 1 << 30, "of unique ids and arrivals (1)" },
        { "prefix-seed", &o->prefix_seed, 0, 1 << 30, "of the shared ids (1)" },
        { "vocab-min", &o->vocab_min, 0, 1 << 24, "smallest token id (1000)" },
        { "vocab-max", &o->vocab_max, 1, 1 << 24, "one more than the largest (32000)" },
        { "seconds", &o->seconds, 1, SECONDS_MAX, "the run's limit (60)" },
        { "long-prompt", &o->long_prompt, 0, TOKENS_MAX, "tokens of one that comes later (0)" },
        { "long-after", &o->long_after, 1, TOKENS_MAX, "tokens each stream gives before it (16)" },
    };

    memcpy(specs, all, sizeof all);
}

static int usage(const option_spec *specs)
{
    fputs("Usage: bench_serve --port N [--OPTION N...]\n"
          "Loads a completion server on this machine and prints JSON.\n\n",
          stderr);
    for (const option_spec *s = specs; s->name; s++)
        fprintf(stderr, "  --%-12s %s\n", s->name, s->help);
    fputs("  --rate         requests per second at random times: the open loop\n"
          "  --model        its name: /v1/completions instead of /completion\n",
          stderr);
    return 2;
}

static bool parse(int argc, char **argv, settings *o, const option_spec *specs)
{
    struct option names[SPEC_COUNT + 1] = { 0 };
    int count = 0, chosen = 0;

    for (; specs[count].name; count++)
        names[count] = (struct option){ specs[count].name, required_argument, NULL, 1 };
    names[count] = (struct option){ "rate", required_argument, NULL, 2 };
    names[count + 1] = (struct option){ "model", required_argument, NULL, 3 };
    for (int c; (c = getopt_long(argc, argv, "", names, &chosen)) != -1;) {
        char *end = "";
        long n = 0;

        if (c == 1)
            n = strtol(optarg, &end, 10);
        else if (c == 2)
            o->rate = strtod(optarg, &end);
        else if (c == 3)
            o->model = optarg;
        else
            return false;
        if (*end || (c == 1 && (n < specs[chosen].min || n > specs[chosen].max)))
            return false;
        if (c == 1)
            *specs[chosen].value = (int)n;
    }
    if (o->burst)
        o->connections = o->requests;
    return optind == argc && o->port && o->rate >= 0 && o->connections <= SLOTS_MAX &&
           o->shared + o->unique > 0 && o->vocab_min < o->vocab_max &&
           (int64_t)o->requests * o->output <= SAMPLES_MAX;
}

static bool load_init(load *l)
{
    const settings *o = &l->set;
    size_t requests = (size_t)o->requests, tokens = requests * (size_t)o->output;

    l->slot_count = o->rate > 0 ? SLOTS_MAX : o->connections + 1; /* one for the long prompt */
    l->slots = sl_calloc((size_t)l->slot_count, sizeof *l->slots);
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->arrival_rng = (uint64_t)o->seed;
    if (!l->slots || l->epoll < 0)
        return false;
    for (int i = 0; i < l->slot_count; i++) {
        l->slots[i].fd = -1;
        sl_buf_init(&l->slots[i].out, (size_t)TOKENS_MAX * 16);
        sl_buf_init(&l->slots[i].frame, 65536);
        sl_buf_init(&l->slots[i].line, LINE_MAX);
    }
    return samples_init(&l->ttft, requests) && samples_init(&l->total, requests) &&
           samples_init(&l->itl, tokens) && samples_init(&l->itl_before, tokens) &&
           samples_init(&l->itl_during, tokens) && samples_init(&l->long_ttft, 1);
}

static void load_deinit(load *l)
{
    samples *all[] = {
        &l->ttft, &l->total, &l->itl, &l->itl_before, &l->itl_during, &l->long_ttft
    };

    for (size_t i = 0; i < SL_COUNT_OF(all); i++)
        sl_free(all[i]->v);
    for (int i = 0; l->slots && i < l->slot_count; i++) {
        if (l->slots[i].fd >= 0)
            close(l->slots[i].fd);
        sl_buf_deinit(&l->slots[i].out);
        sl_buf_deinit(&l->slots[i].frame);
        sl_buf_deinit(&l->slots[i].line);
    }
    sl_free(l->slots);
    if (l->epoll >= 0)
        close(l->epoll);
}

int main(int argc, char **argv)
{
    load l = { .set = { .connections = 1,
                        .requests = 1,
                        .unique = 128,
                        .output = 128,
                        .seed = 1,
                        .prefix_seed = 1,
                        .vocab_min = 1000,
                        .vocab_max = 32000,
                        .seconds = 60,
                        .long_after = 16 } };
    option_spec specs[SPEC_COUNT] = { 0 };
    bool complete = false;

    specs_init(specs, &l.set);
    if (!parse(argc, argv, &l.set, specs))
        return usage(specs);
    if (load_init(&l)) {
        complete = run(&l);
        print_report(&l, complete);
    } else {
        fputs("bench_serve: out of memory\n", stderr);
    }
    load_deinit(&l);
    return complete && l.errors == 0 ? 0 : 1;
}
