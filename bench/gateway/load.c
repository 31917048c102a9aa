/* load.c - asks a server on this machine over connections that stay, and times the answers.
 *
 * Requests: closed loop, N connections, each sends its next request when it has the last answer
 * whole; latency from the send to its last byte. Streams: N connections, one streamed answer each,
 * begun evenly over a second; the words must come in order and none may be missing, and each has a
 * time it is due, counted from the stream's first word.
 *
 * One thread and one epoll. Invariant: a connection waits for one answer, or for its time to begin,
 * or is over (fd < 0). */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/os.h"

#define CONNS_MAX   16000
#define SAMPLES_MAX (4 << 20)
#define BODY_MAX    (1 * SL_MIB)

typedef struct settings {
    int port, connections, requests, warm, output, seconds;
    bool streams;
    double rate; /* words per second of a stream */
    const char *model, *key;
} settings;

typedef enum part { PART_HEAD, PART_LENGTH, PART_SIZE, PART_DATA, PART_DATA_END } part;

typedef struct conn {
    int fd;
    bool waiting;
    int64_t begin_ns, sent_ns, first_ns;
    int words;
    part at;
    size_t left; /* of the body, or of a chunk */
    bool is_chunked, is_over;
    sl_buf line; /* of the head, of a chunk's size, or of an event */
    sl_buf head_line;
} conn;

typedef struct samples {
    double *v;
    size_t count;
} samples;

typedef struct load {
    settings set;
    int epoll, open, sent, answered, errors, missed;
    conn *conns;
    sl_buf request;
    samples latency; /* us; of streams: how late each word was */
    int64_t counted_ns, end_ns;
    char error[200];
} load;

/* ---- numbers ------------------------------------------------------------------------------- */

static void samples_add(samples *s, double v)
{
    if (s->count < SAMPLES_MAX)
        s->v[s->count++] = v;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double percentile(const samples *s, double p)
{
    size_t rank = (size_t)ceil(p * (double)s->count);

    return s->count ? s->v[rank > 0 ? rank - 1 : 0] : 0;
}

/* ---- connections --------------------------------------------------------------------------- */

static void fail(load *l, conn *c, const char *text)
{
    l->errors++;
    if (!l->error[0])
        snprintf(l->error, sizeof l->error, "%s", text);
    if (c->fd >= 0) {
        close(c->fd);
        l->open--;
    }
    c->fd = -1;
    c->waiting = false;
}

static void build_request(load *l)
{
    const settings *o = &l->set;
    sl_buf body;

    sl_buf_init(&body, BODY_MAX);
    sl_buf_puts(&body, "{\"model\":");
    sl_buf_put_json(&body, o->model, strlen(o->model));
    sl_buf_printf(&body,
                  ",\"messages\":[{\"role\":\"user\",\"content\":\"Tell me about the sea, the wind "
                  "and the stars above them.\"}],\"max_tokens\":%d,\"stream\":%s}",
                  o->output, o->streams ? "true" : "false");
    sl_buf_init(&l->request, BODY_MAX);
    sl_buf_printf(&l->request,
                  "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: "
                  "application/json\r\nAuthorization: Bearer %s\r\nContent-Length: %zu\r\n\r\n",
                  o->port, o->key, body.len);
    sl_buf_put(&l->request, body.ptr, body.len);
    sl_buf_deinit(&body);
}

static bool connect_to(load *l, conn *c)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)l->set.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
    int one = 1;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof a) != 0)
        return false;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    l->open++;
    return epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &e) == 0;
}

/* Sends one request; they are far smaller than a socket's buffer. */
static void send_request(load *l, conn *c)
{
    c->at = PART_HEAD;
    c->left = 0;
    c->words = 0;
    c->first_ns = 0;
    c->is_chunked = c->is_over = false;
    c->waiting = true;
    l->sent++;
    if (l->sent == l->set.warm + 1)
        l->counted_ns = sl_clock_mono_ns();
    c->sent_ns = sl_clock_mono_ns();
    if (send(c->fd, l->request.ptr, l->request.len, MSG_NOSIGNAL) != (ssize_t)l->request.len)
        fail(l, c, "send");
}

static int total(const load *l)
{
    return l->set.warm + l->set.requests;
}

static void on_answer(load *l, conn *c, int64_t now)
{
    c->waiting = false;
    l->answered++;
    l->end_ns = now;
    if (l->set.streams) {
        if (c->words != l->set.output) {
            l->missed += l->set.output - c->words;
            fail(l, c, "words are missing");
        }
        return;
    }
    if (l->answered > l->set.warm)
        samples_add(&l->latency, (double)(now - c->sent_ns) / 1e3);
    if (l->sent < total(l))
        send_request(l, c);
}

/* ---- answers ------------------------------------------------------------------------------- */

static void on_event(load *l, conn *c, const char *json, int64_t now)
{
    const char *p = strstr(json, "\"content\":\"w");
    int64_t due;

    if (strncmp(json, "[DONE]", 6) == 0)
        c->is_over = true;
    if (!p)
        return;
    if (atoi(p + 12) != c->words) {
        fail(l, c, json);
        return;
    }
    if (c->words == 0)
        c->first_ns = now;
    due = c->first_ns + (int64_t)(c->words * 1e9 / l->set.rate);
    if (c->words++ > 0)
        samples_add(&l->latency, (double)(now - due) / 1e3);
}

static void on_body(load *l, conn *c, const char *bytes, size_t len, int64_t now)
{
    if (!l->set.streams)
        return;
    while (len > 0 && c->fd >= 0) {
        const char *end = memchr(bytes, '\n', len);
        size_t piece = end ? (size_t)(end - bytes) : len;

        sl_buf_put(&c->line, bytes, piece);
        if (!end)
            return;
        if (c->line.len > 6 && strncmp(c->line.ptr, "data: ", 6) == 0)
            on_event(l, c, c->line.ptr + 6, now);
        sl_buf_clear(&c->line);
        bytes += piece + 1;
        len -= piece + 1;
    }
}

/* A line of HTTP around the body. True: the answer is over. */
static bool on_head_line(load *l, conn *c)
{
    const char *text = sl_buf_str(&c->head_line);
    bool over = false;

    if (c->at == PART_SIZE) {
        c->left = strtoul(text, NULL, 16);
        c->at = PART_DATA;
        over = c->left == 0;
    } else if (c->at == PART_DATA_END) {
        c->at = PART_SIZE;
    } else if (strncmp(text, "HTTP/1.1 ", 9) == 0 && strncmp(text + 9, "200", 3) != 0) {
        fail(l, c, text);
    } else if (strncasecmp(text, "content-length:", 15) == 0) {
        c->left = strtoul(text + 15, NULL, 10);
    } else if (strncasecmp(text, "transfer-encoding:", 18) == 0) {
        c->is_chunked = true;
    } else if (!text[0]) {
        c->at = c->is_chunked ? PART_SIZE : PART_LENGTH;
        over = !c->is_chunked && c->left == 0;
    }
    sl_buf_clear(&c->head_line);
    return over;
}

/* Returns how many bytes it took; *ret_over: the answer is over. */
static size_t take(load *l, conn *c, const char *bytes, size_t len, int64_t now, bool *ret_over)
{
    size_t piece = SL_MIN(len, c->left);
    const char *end;

    if (c->at == PART_LENGTH || c->at == PART_DATA) {
        on_body(l, c, bytes, piece, now);
        c->left -= piece;
        *ret_over = c->at == PART_LENGTH && c->left == 0;
        if (c->at == PART_DATA && c->left == 0)
            c->at = PART_DATA_END;
        return piece;
    }
    end = memchr(bytes, '\n', len);
    piece = end ? (size_t)(end - bytes) + 1 : len;
    sl_buf_put(&c->head_line, bytes, piece);
    if (!end)
        return piece;
    while (c->head_line.len > 0 && strchr("\r\n", c->head_line.ptr[c->head_line.len - 1]))
        c->head_line.ptr[--c->head_line.len] = '\0';
    *ret_over = on_head_line(l, c);
    return piece;
}

static void on_readable(load *l, conn *c)
{
    static char bytes[65536];
    ssize_t n = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    int64_t now = sl_clock_mono_ns();

    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            fail(l, c, n == 0 ? "the server closed the connection" : strerror(errno));
        return;
    }
    for (size_t at = 0; at < (size_t)n && c->fd >= 0;) {
        bool over = false;

        at += take(l, c, bytes + at, (size_t)n - at, now, &over);
        if (over && c->fd >= 0) {
            on_answer(l, c, now);
            return; /* one request at a time: nothing follows */
        }
    }
}

/* ---- the run ------------------------------------------------------------------------------- */

/* Begins the streams whose time has come; returns how long until the next, in ms. */
static int begin_due(load *l, int64_t now)
{
    for (int i = 0; i < l->set.connections; i++) {
        conn *c = &l->conns[i];

        if (c->fd < 0 || c->waiting || c->sent_ns)
            continue;
        if (c->begin_ns > now)
            return (int)((c->begin_ns - now) / 1000000) + 1;
        send_request(l, c);
    }
    return 100;
}

static bool is_done(const load *l)
{
    int all = l->set.streams ? l->set.connections : total(l);

    return l->answered + l->errors >= all || l->open == 0;
}

static void run(load *l)
{
    int64_t begin = sl_clock_mono_ns(), deadline = begin + (int64_t)l->set.seconds * 1000000000;

    for (int i = 0; i < l->set.connections; i++) {
        conn *c = &l->conns[i];

        if (!connect_to(l, c))
            fail(l, c, strerror(errno));
    }
    begin = sl_clock_mono_ns();
    for (int i = 0; i < l->set.connections; i++)
        l->conns[i].begin_ns =
            l->set.streams ? begin + (int64_t)(1e9 * i / l->set.connections) : begin;
    while (!is_done(l) && sl_clock_mono_ns() < deadline) {
        struct epoll_event events[128];
        int wait_ms = begin_due(l, sl_clock_mono_ns());
        int n = epoll_wait(l->epoll, events, 128, wait_ms);

        for (int i = 0; i < n; i++) {
            conn *c = events[i].data.ptr;

            if (c->fd >= 0)
                on_readable(l, c);
        }
    }
}

static int report(load *l)
{
    int all = l->set.streams ? l->set.connections : total(l);
    double wall = l->end_ns > l->counted_ns ? (double)(l->end_ns - l->counted_ns) / 1e9 : 0;
    samples *s = &l->latency;

    qsort(s->v, s->count, sizeof *s->v, compare);
    printf(
        "{\"connections\": %d, \"answered\": %d, \"errors\": %d, \"unfinished\": %d, "
        "\"missed\": %d, \"wall_s\": %.3f, \"samples\": %zu, \"p50_us\": %.1f, \"p90_us\": %.1f, "
        "\"p99_us\": %.1f, \"max_us\": %.1f",
        l->set.connections, l->answered, l->errors, SL_MAX(all - l->answered - l->errors, 0),
        l->missed, wall, s->count, percentile(s, 0.5), percentile(s, 0.9), percentile(s, 0.99),
        percentile(s, 1));
    if (l->error[0]) {
        sl_buf text;

        sl_buf_init(&text, 4096);
        sl_buf_put_json(&text, l->error, strlen(l->error));
        printf(", \"error\": %s", sl_buf_str(&text));
        sl_buf_deinit(&text);
    }
    puts("}");
    return l->errors || l->missed || l->answered < all;
}

/* ---- the command line ---------------------------------------------------------------------- */

static int usage(void)
{
    fputs(
        "Usage: bench_gateway --port N [--connections N] [--requests N] [--warm N] [--output N]\n"
        "                     [--model NAME] [--key KEY] [--seconds N] [--streams RATE]\n"
        "Asks 127.0.0.1:PORT/v1/chat/completions and prints JSON. --streams: one stream for each\n"
        "connection, of --output words at RATE words a second.\n",
        stderr);
    return 2;
}

static bool parse(int argc, char **argv, settings *o)
{
    static const struct option names[] = {
        { "port", 1, NULL, 'p' },     { "connections", 1, NULL, 'c' },
        { "requests", 1, NULL, 'r' }, { "warm", 1, NULL, 'w' },
        { "output", 1, NULL, 'o' },   { "seconds", 1, NULL, 's' },
        { "streams", 1, NULL, 't' },  { "model", 1, NULL, 'm' },
        { "key", 1, NULL, 'k' },      { 0 },
    };
    int c;

    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        int *number = c == 'p'   ? &o->port
                      : c == 'c' ? &o->connections
                      : c == 'r' ? &o->requests
                      : c == 'w' ? &o->warm
                      : c == 'o' ? &o->output
                                 : &o->seconds;

        if (c == '?')
            return false;
        if (c == 'm')
            o->model = optarg;
        else if (c == 'k')
            o->key = optarg;
        else if (c == 't')
            o->rate = atof(optarg);
        else
            *number = atoi(optarg);
    }
    o->streams = o->rate > 0;
    return optind == argc && o->port > 0 && o->connections > 0 && o->connections <= CONNS_MAX &&
           o->output > 0 && o->seconds > 0;
}

int main(int argc, char **argv)
{
    load l = { .set = { .connections = 1,
                        .requests = 1000,
                        .output = 16,
                        .seconds = 60,
                        .model = "script:0",
                        .key = "none" } };
    int rc;

    if (!parse(argc, argv, &l.set))
        return usage();
    sl_open_files_raise();
    build_request(&l);
    l.epoll = epoll_create1(EPOLL_CLOEXEC);
    l.conns = sl_calloc((size_t)l.set.connections, sizeof *l.conns);
    l.latency.v = sl_calloc(SAMPLES_MAX, sizeof *l.latency.v);
    if (!l.conns || !l.latency.v || l.epoll < 0) {
        fputs("bench_gateway: out of memory\n", stderr);
        return 1;
    }
    for (int i = 0; i < l.set.connections; i++) {
        l.conns[i].fd = -1;
        sl_buf_init(&l.conns[i].line, BODY_MAX);
        sl_buf_init(&l.conns[i].head_line, 8192);
    }
    run(&l);
    rc = report(&l);
    for (int i = 0; i < l.set.connections; i++) {
        sl_buf_deinit(&l.conns[i].line);
        sl_buf_deinit(&l.conns[i].head_line);
    }
    sl_buf_deinit(&l.request);
    sl_free(l.conns);
    sl_free(l.latency.v);
    return rc;
}
