/* test_serving.c - where the server listens, what it refuses, whom it believes, what it bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/os.h"
#include "http/http_int.h"

#define STREAMS 8

static http_server *server;
static http_exchange *held[STREAMS]; /* by "stream" */
static atomic_int held_count, closed;
static char dir[] = "/tmp/sluice-http-XXXXXX";

static void who(void *ctx, http_exchange *x)
{
    http_respond(x, 200, "text/plain", http_remote(x), strlen(http_remote(x)));
}

static void on_close(void *ctx)
{
    atomic_fetch_add(&closed, 1);
}

static void stream(void *ctx, http_exchange *x)
{
    http_ref(x);
    http_on_close(x, on_close, NULL);
    http_stream_begin(x, 200, "text/event-stream");
    held[atomic_load(&held_count)] = x;
    atomic_fetch_add(&held_count, 1);
}

static void late(void *ctx, http_exchange *x)
{
    http_ref(x);
    http_on_close(x, on_close, NULL);
    held[atomic_load(&held_count)] = x;
    atomic_fetch_add(&held_count, 1);
}

static void start(const http_server_options *o)
{
    sl_err err = { .text = "" };

    atomic_store(&held_count, 0);
    atomic_store(&closed, 0);
    if (http_server_create(o, &server, &err) != SL_OK)
        fail_msg("%s", err.text);
    assert_int_equal(http_server_route(server, "GET", "/who", who, NULL, &err), SL_OK);
    assert_int_equal(http_server_route(server, "POST", "/who", who, NULL, &err), SL_OK);
    assert_int_equal(http_server_route(server, "GET", "/stream", stream, NULL, &err), SL_OK);
    assert_int_equal(http_server_route(server, "GET", "/late", late, NULL, &err), SL_OK);
    assert_int_equal(http_server_start(server, &err), SL_OK);
}

static int teardown(void **state)
{
    http_server_destroy(server);
    server = NULL;
    return 0;
}

static void wait_for(atomic_int *what, int value)
{
    int64_t end_ns = sl_clock_mono_ns() + 10000000000;

    while (atomic_load(what) < value && sl_clock_mono_ns() < end_ns)
        poll(NULL, 0, 1);
    assert_true(atomic_load(what) >= value);
}

static int dial(int port)
{
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

static int dial_unix(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(addr.sun_path, sizeof addr.sun_path, "%.100s", path);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0)
        return fd;
    close(fd);
    return -1;
}

/* Sends the request and reads to the end; closes fd. */
static const char *ask(int fd, const char *request)
{
    static char buf[65536];
    size_t len = 0, left = strlen(request);

    while (left > 0) {
        ssize_t n = send(fd, request, left, MSG_NOSIGNAL);

        if (n <= 0)
            break; /* the server had its say already */
        request += n;
        left -= (size_t)n;
    }
    for (ssize_t n; (n = read(fd, buf + len, sizeof buf - len - 1)) > 0;)
        len += (size_t)n;
    buf[len] = '\0';
    close(fd);
    return buf;
}

static void push(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void check(int fd, const char *request, const char *first, const char *second)
{
    const char *reply = ask(fd, request);

    if (!strstr(reply, first) || !strstr(reply, second))
        fail_msg("\"%.200s\" gave \"%s\", not \"%s\" and \"%s\"", request, reply, first, second);
}

#define END "Host: a\r\nConnection: close\r\n\r\n"

/* ---- listening ----------------------------------------------------------------------------- */

static void test_listeners(void **state)
{
    char first[128], second[128], path[100];
    const char *list[] = { first, "http://127.0.0.1:0", "127.0.0.1:0", second };
    struct stat st;
    sl_err err;
    sl_buf all;

    snprintf(path, sizeof path, "%s/one.sock", dir);
    snprintf(first, sizeof first, "unix:%s", path);
    snprintf(second, sizeof second, "unix:%s/two.sock", dir);
    start(&(http_server_options){ .addresses = list, .address_count = 4, .unix_mode = 0600 });
    assert_memory_equal(http_server_address(server), "127.0.0.1:", 10);
    check(dial(http_server_port(server)), "GET /who HTTP/1.1\r\n" END, "200 OK", "\r\n127.0.0.1");
    check(dial_unix(path), "GET /who HTTP/1.1\r\n" END, "200 OK", "\r\n127.0.0.1");
    check(dial_unix(second + 5), "GET /none HTTP/1.1\r\n" END, "404", "unknown_url");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    sl_buf_init(&all, 1000);
    http_server_addresses(server, &all);
    assert_non_null(strstr(sl_buf_str(&all), "http://127.0.0.1:"));
    assert_non_null(strstr(sl_buf_str(&all), second));
    sl_buf_deinit(&all);
    {
        http_server *other = NULL;

        /* Where somebody listens, nobody else does. */
        assert_int_equal(
            http_server_create(&(http_server_options){ .address = first }, &other, &err), SL_EIO);
        assert_non_null(strstr(err.text, "another server"));
    }
    check(dial_unix(path), "GET /who HTTP/1.1\r\n" END, "200 OK", "127.0.0.1");
    http_server_drain(server, 0);
    assert_int_not_equal(stat(path, &st), 0);
}

/* What a crashed server left is removed; a file that is no socket is not. */
static void test_stale_socket(void **state)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    http_server *other = NULL;
    char address[128], path[100];
    sl_err err;
    FILE *f;

    snprintf(path, sizeof path, "%s/stale.sock", dir);
    snprintf(address, sizeof address, "unix:%s", path);
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    close(fd);
    start(&(http_server_options){ .address = address });
    assert_string_equal(http_server_address(server), address);
    assert_int_equal(http_server_port(server), 0);
    check(dial_unix(path), "GET /who HTTP/1.1\r\n" END, "200 OK", "127.0.0.1");
    teardown(NULL);
    f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(http_server_create(&(http_server_options){ .address = address }, &other, &err),
                     SL_EIO);
    assert_true(sl_file_exists(path));
    unlink(path);
    assert_int_equal(
        http_server_create(&(http_server_options){ .address = "unix:x" }, &other, &err), SL_EINVAL);
    assert_int_equal(http_server_create(&(http_server_options){ .address = "https://127.0.0.1:0" },
                                        &other, &err),
                     SL_EINVAL);
}

/* ---- heads --------------------------------------------------------------------------------- */

static void put_many(sl_buf *b, const char *what, int count)
{
    for (int i = 0; i < count; i++)
        sl_buf_printf(b, what, i);
}

static void test_head_limits(void **state)
{
    sl_buf b;

    start(&(http_server_options){ .address = "127.0.0.1:0" });
    sl_buf_init(&b, 1 << 20);
    sl_buf_puts(&b, "GET /who?");
    put_many(&b, "%08d", SL_HTTP_URI_BYTES_MAX / 8);
    sl_buf_puts(&b, " HTTP/1.1\r\n" END);
    check(dial(http_server_port(server)), sl_buf_str(&b), "414", "\"code\":\"uri_too_long\"");
    sl_buf_clear(&b);
    sl_buf_puts(&b, "GET /who?");
    put_many(&b, "a=%d&", SL_HTTP_QUERIES_MAX + 1);
    sl_buf_puts(&b, " HTTP/1.1\r\n" END);
    check(dial(http_server_port(server)), sl_buf_str(&b), "400 Bad Request", "too_many_parameters");
    sl_buf_clear(&b);
    sl_buf_puts(&b, "GET /who HTTP/1.1\r\n");
    put_many(&b, "X-%d: y\r\n", SL_HTTP_HEADERS_MAX + 1);
    sl_buf_puts(&b, END);
    check(dial(http_server_port(server)), sl_buf_str(&b), " 431 ", "\"code\":\"too_many_headers\"");
    /* More than the connection's memory: the library's own answer. */
    sl_buf_clear(&b);
    sl_buf_puts(&b, "GET /who HTTP/1.1\r\nX: ");
    put_many(&b, "%08d", SL_HTTP_HEAD_BYTES_MAX / 8);
    sl_buf_puts(&b, "\r\n" END);
    check(dial(http_server_port(server)), sl_buf_str(&b), " 431 ", "");
    sl_buf_clear(&b);
    /* A head of half of it passes. */
    sl_buf_puts(&b, "GET /who HTTP/1.1\r\nX: ");
    put_many(&b, "%08d", SL_HTTP_HEAD_BYTES_MAX / 16);
    sl_buf_puts(&b, "\r\n" END);
    check(dial(http_server_port(server)), sl_buf_str(&b), "200 OK", "127.0.0.1");
    sl_buf_deinit(&b);
}

/* Sends a byte every few milliseconds, for ever, until the server cuts the connection. */
static void drip(const char *begin)
{
    int fd = dial(http_server_port(server));
    int64_t end_ns = sl_clock_mono_ns() + 10000000000;
    struct pollfd p = { .fd = fd, .events = POLLRDHUP };

    push(fd, begin);
    while (poll(&p, 1, 20) == 0 && sl_clock_mono_ns() < end_ns)
        if (send(fd, "x", 1, MSG_NOSIGNAL) != 1)
            break;
    assert_true(sl_clock_mono_ns() < end_ns);
    close(fd);
}

static void test_slow_senders(void **state)
{
    start(&(http_server_options){
        .address = "127.0.0.1:0", .request_timeout_s = 1, .body_timeout_s = 1 });
    drip("GET /who HTTP/1.1\r\nX-");
    drip("POST /who HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    drip("POST /who HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n");
}

/* ---- whom it believes ---------------------------------------------------------------------- */

static void test_remote(void **state)
{
    const char *proxies[] = { "127.0.0.0/8" };
    int port;

    start(&(http_server_options){
        .address = "127.0.0.1:0", .trusted_proxies = proxies, .trusted_proxy_count = 1 });
    port = http_server_port(server);
    check(dial(port), "GET /who HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6, 1.2.3.4\r\n" END, "200",
          "\r\n\r\n1.2.3.4");
    check(dial(port),
          "GET /who HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 1.2.3.4\r\n"
          "X-FORWARDED-FOR: 127.0.0.3\r\n" END,
          "200", "\r\n\r\n1.2.3.4");
    check(dial(port), "GET /who HTTP/1.1\r\nForwarded: for=6.6.6.6\r\n" END, "200",
          "\r\n\r\n127.0.0.1");
    teardown(NULL);
    start(&(http_server_options){ .address = "127.0.0.1:0" });
    check(dial(http_server_port(server)),
          "GET /who HTTP/1.1\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n" END, "200",
          "\r\n\r\n127.0.0.1");
    teardown(NULL);
    start(&(http_server_options){ .address = "[::]:0",
                                  .trusted_proxies = proxies,
                                  .trusted_proxy_count = 1,
                                  .forwarded_header = "Forwarded" });
    /* IPv4 by an IPv6 socket is IPv4. */
    check(dial(http_server_port(server)),
          "GET /who HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=1.2.3.4\r\n" END, "200",
          "\r\n\r\n1.2.3.4");
}

static void test_cors(void **state)
{
    const char *reply;
    int port;

    start(&(http_server_options){ .address = "127.0.0.1:0",
                                  .cors_origin = "https://a.example, http://localhost:3000" });
    port = http_server_port(server);
    check(dial(port),
          "OPTIONS /who HTTP/1.1\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: "
          "POST\r\nAccess-Control-Request-Headers: "
          "x-api-key,anthropic-version,x-stainless-os\r\n" END,
          "Access-Control-Allow-Headers: x-api-key,anthropic-version,x-stainless-os",
          "Access-Control-Allow-Credentials: true");
    check(dial(port), "GET /who HTTP/1.1\r\nOrigin: http://localhost:3000\r\n" END,
          "Access-Control-Allow-Origin: http://localhost:3000", "Vary: Origin");
    reply = ask(dial(port), "GET /who HTTP/1.1\r\nOrigin: https://evil.example\r\n" END);
    assert_null(strstr(reply, "Access-Control-Allow"));
    assert_non_null(strstr(reply, "Vary: Origin"));
    reply = ask(dial(port), "GET /who HTTP/1.1\r\nOrigin: https://a.example.evil\r\n" END);
    assert_null(strstr(reply, "Access-Control-Allow"));
    teardown(NULL);
    start(&(http_server_options){ .address = "127.0.0.1:0", .cors_origin = "*" });
    reply =
        ask(dial(http_server_port(server)), "OPTIONS /who HTTP/1.1\r\nOrigin: https://b\r\n" END);
    assert_non_null(strstr(reply, "Access-Control-Allow-Origin: *"));
    assert_null(strstr(reply, "Allow-Credentials"));
    assert_non_null(strstr(reply, "anthropic-version"));
}

/* ---- bounds -------------------------------------------------------------------------------- */

/* Clients that never read: each holds what one stream may hold at most, all together what all may,
 * and then they go. */
static void test_slow_readers(void **state)
{
    static char block[16384];
    int64_t end_ns = sl_clock_mono_ns() + 10000000000;
    int fds[STREAMS], dropped = 0;
    size_t most = 0;

    start(&(http_server_options){ .address = "127.0.0.1:0",
                                  .queue_bytes_max = 4 * SL_MIB,
                                  .queue_bytes_total_max = 8 * SL_MIB });
    for (int i = 0; i < STREAMS; i++) {
        fds[i] = dial(http_server_port(server));
        push(fds[i], "GET /stream HTTP/1.1\r\n" END);
        wait_for(&held_count, i + 1);
    }
    memset(block, 'x', sizeof block);
    for (int round = 0; round < 2000; round++)
        for (int i = 0; i < STREAMS; i++) {
            most = SL_MAX(most, atomic_load(&server->queue_bytes));
            if (held[i] && !http_stream_write(held[i], block, sizeof block)) {
                http_stream_end(held[i]);
                http_unref(held[i]);
                held[i] = NULL;
                dropped++;
            }
        }
    assert_int_equal(dropped, STREAMS); /* 32 MB each: nobody could keep that */
    assert_true(most <= 16 * SL_MIB);   /* what was full, and the buffer that grew last */
    while (atomic_load(&server->queue_bytes) > 0 && sl_clock_mono_ns() < end_ns)
        poll(NULL, 0, 1);
    assert_int_equal(atomic_load(&server->queue_bytes), 0);
    for (int i = 0; i < STREAMS; i++)
        close(fds[i]);
}

/* Bodies of all requests together. */
static void test_body_total(void **state)
{
    char head[128];
    char *body = sl_calloc(1, 60001);
    int64_t end_ns = sl_clock_mono_ns() + 10000000000;
    int port, first, second;
    const char *reply;

    start(&(http_server_options){
        .address = "127.0.0.1:0", .body_bytes_max = 100000, .body_bytes_total_max = 100000 });
    port = http_server_port(server);
    memset(body, 'x', 60000);
    snprintf(head, sizeof head,
             "POST /who HTTP/1.1\r\nContent-Length: 60001\r\nHost: a\r\nConnection: close\r\n\r\n");
    first = dial(port);
    push(first, head);
    assert_int_equal(send(first, body, 60000, MSG_NOSIGNAL), 60000); /* its last byte is missing */
    while (atomic_load(&server->body_bytes) < 60000 && sl_clock_mono_ns() < end_ns)
        poll(NULL, 0, 1);
    second = dial(port);
    push(second, head);
    push(second, "y");
    reply = ask(second, body);
    if (!strstr(reply, "\"code\":\"overloaded\""))
        fail_msg("%s", reply);
    assert_non_null(strstr(reply, "Retry-After"));
    assert_non_null(strstr(ask(first, "z"), "200 OK"));
    second = dial(port); /* there is room again */
    push(second, head);
    push(second, "y");
    assert_non_null(strstr(ask(second, body), "200 OK"));
    sl_free(body);
}

/* A client that sent its request and closed its end counts as gone, at once. */
static void test_half_closed(void **state)
{
    int fd;

    start(&(http_server_options){ .address = "127.0.0.1:0" });
    for (int i = 0; i < STREAMS; i++) {
        fd = dial(http_server_port(server));
        push(fd, "GET /late HTTP/1.1\r\n" END);
        if (i % 2)
            wait_for(&held_count, i + 1); /* it is running, or just being read */
        shutdown(fd, SHUT_WR);
        wait_for(&closed, i + 1);
        wait_for(&held_count, i + 1);
        assert_true(http_gone(held[i]));
        http_respond(held[i], 200, "text/plain", "", 0);
        http_unref(held[i]);
        close(fd);
    }
}

static int make_dir(void **state)
{
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_listeners, teardown),
        cmocka_unit_test_teardown(test_stale_socket, teardown),
        cmocka_unit_test_teardown(test_head_limits, teardown),
        cmocka_unit_test_teardown(test_slow_senders, teardown),
        cmocka_unit_test_teardown(test_remote, teardown),
        cmocka_unit_test_teardown(test_cors, teardown),
        cmocka_unit_test_teardown(test_slow_readers, teardown),
        cmocka_unit_test_teardown(test_body_total, teardown),
        cmocka_unit_test_teardown(test_half_closed, teardown),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
