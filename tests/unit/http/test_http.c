/* test_http.c - the server with real sockets: routes, late answers, streams, clients that leave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/os.h"
#include "http/http.h"

static http_server *server;
static atomic_int closed, done;
static http_exchange *held; /* by the "late" route; under no lock: one request at a time */
static atomic_bool has_held;

static void echo(void *ctx, http_exchange *x)
{
    sl_buf b;

    sl_buf_init(&b, 1 << 20);
    sl_buf_printf(&b, "%s|%s|%s|", http_method(x),
                  http_param(x, "name") ? http_param(x, "name") : "",
                  http_query(x, "q") ? http_query(x, "q") : "");
    sl_buf_put(&b, http_body(x).ptr, http_body(x).len);
    http_respond(x, 200, "text/plain", sl_buf_str(&b), b.len);
    sl_buf_deinit(&b);
}

static void on_close(void *ctx)
{
    atomic_fetch_add(&closed, 1);
}

static void late(void *ctx, http_exchange *x)
{
    http_ref(x);
    http_on_close(x, on_close, x);
    held = x;
    atomic_store(&has_held, true);
}

static void stream(void *ctx, http_exchange *x)
{
    http_stream_begin(x, 200, "text/event-stream");
    late(ctx, x);
}

static void on_done(void *ctx, http_exchange *x)
{
    atomic_fetch_add(&done, 1);
}

static void wait_for(atomic_int *what, int value)
{
    int64_t end_ns = sl_clock_mono_ns() + 5000000000;

    while (atomic_load(what) < value && sl_clock_mono_ns() < end_ns)
        poll(NULL, 0, 1);
    assert_true(atomic_load(what) >= value);
}

static http_exchange *take_held(void)
{
    int64_t end_ns = sl_clock_mono_ns() + 5000000000;

    while (!atomic_load(&has_held) && sl_clock_mono_ns() < end_ns)
        poll(NULL, 0, 1);
    assert_true(atomic_load(&has_held));
    atomic_store(&has_held, false);
    return held;
}

static int connect_server(void)
{
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_port = htons((uint16_t)http_server_port(server)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

static int send_request(const char *text)
{
    int fd = connect_server();

    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    return fd;
}

/* Reads until `until` was seen (or, NULL, the end). */
static const char *read_reply(int fd, const char *until)
{
    static char buf[65536];
    size_t len = 0;

    for (;;) {
        ssize_t n = read(fd, buf + len, sizeof buf - len - 1);

        if (n <= 0)
            break;
        len += (size_t)n;
        buf[len] = '\0';
        if (until && strstr(buf, until))
            break;
    }
    buf[len] = '\0';
    return buf;
}

static int setup(void **state)
{
    sl_err err = { 0 };
    http_server_options o = { .address = "127.0.0.1:0",
                              .body_bytes_max = 1000,
                              .queue_bytes_max = 1 << 16,
                              .request_timeout_s = 1,
                              .cors_origin = "*",
                              .on_done = on_done };

    assert_int_equal(http_server_create(&o, &server, &err), SL_OK);
    assert_int_equal(http_server_route(server, "GET", "/echo/{name}", echo, NULL, &err), SL_OK);
    assert_int_equal(http_server_route(server, "POST", "/echo", echo, NULL, &err), SL_OK);
    assert_int_equal(http_server_route(server, "GET", "/rest/{name...}", echo, NULL, &err), SL_OK);
    assert_int_equal(http_server_route(server, "GET", "/late", late, NULL, &err), SL_OK);
    assert_int_equal(http_server_route(server, "GET", "/stream", stream, NULL, &err), SL_OK);
    assert_int_equal(http_server_start(server, &err), SL_OK);
    atomic_store(&closed, 0);
    atomic_store(&done, 0);
    return 0;
}

static int teardown(void **state)
{
    http_server_destroy(server);
    return 0;
}

static void check(const char *request, const char *first, const char *second)
{
    int fd = send_request(request);
    const char *reply = read_reply(fd, NULL);

    if (!strstr(reply, first) || (second && !strstr(reply, second)))
        fail_msg("\"%s\" gave \"%s\"", request, reply);
    close(fd);
}

#define END "Host: a\r\nConnection: close\r\n\r\n"

static void test_routes(void **state)
{
    check("GET /echo/b%20c?q=7 HTTP/1.1\r\n" END, "200 OK", "GET|b c|7|");
    check("GET /rest/a/b/c HTTP/1.1\r\n" END, "200 OK", "GET|a/b/c||");
    check("POST /echo HTTP/1.1\r\nContent-Length: 3\r\n" END "abc", "200 OK", "POST|||abc");
    check("GET /none HTTP/1.1\r\n" END, "404 Not Found", "\"code\":\"unknown_url\"");
    check("DELETE /echo HTTP/1.1\r\n" END, "405 Method", "Allow: POST");
    check("OPTIONS /echo HTTP/1.1\r\n" END, "204 No Content", "Allow: POST");
    check("OPTIONS /echo HTTP/1.1\r\nOrigin: http://b\r\n" END, "Access-Control-Allow-Origin: *",
          "Access-Control-Allow-Methods: POST");
    check("HEAD /echo/x HTTP/1.1\r\n" END, "200 OK", "Content-Length: 8");
    check("GET /echo/x HTTP/1.1\r\nx-request-id: my-1\r\n" END, "x-request-id: my-1", NULL);
    check("GET /echo/x HTTP/1.1\r\nx-request-id: a b\r\n" END, "x-request-id: req_", NULL);
    check("POST /echo HTTP/1.1\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n" END, "413",
          "request_too_large");
}

static void test_late_answer(void **state)
{
    int fd = send_request("GET /late HTTP/1.1\r\n" END);
    http_exchange *x = take_held();

    http_respond(x, 201, "text/plain", "later", 5);
    http_unref(x);
    assert_non_null(strstr(read_reply(fd, NULL), "later"));
    close(fd);
    wait_for(&done, 1);
    assert_int_equal(atomic_load(&closed), 0);
}

static void test_stream(void **state)
{
    int fd = send_request("GET /stream HTTP/1.1\r\n" END);
    http_exchange *x = take_held();

    assert_true(http_stream_write(x, "data: 1\n\n", 9));
    assert_non_null(strstr(read_reply(fd, "data: 1"), "text/event-stream"));
    assert_true(http_stream_write(x, "data: 2\n\n", 9));
    http_stream_end(x);
    http_unref(x);
    assert_non_null(strstr(read_reply(fd, NULL), "data: 2"));
    close(fd);
}

/* The client leaves while nothing flows: on_close within 100 ms (generous here: sanitizers). */
static void leave(const char *path, bool is_stream)
{
    char request[128];
    int64_t start_ns;
    int fd;
    http_exchange *x;

    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path);
    fd = send_request(request);
    x = take_held();
    atomic_store(&closed, 0);
    start_ns = sl_clock_mono_ns();
    close(fd);
    wait_for(&closed, 1);
    assert_true(sl_clock_mono_ns() - start_ns < 400000000);
    assert_true(http_gone(x));
    if (is_stream) {
        assert_false(http_stream_write(x, "x", 1));
        http_stream_end(x);
    } else {
        http_respond(x, 200, "text/plain", "", 0);
    }
    http_unref(x);
    assert_int_equal(atomic_load(&closed), 1);
}

static void test_client_leaves(void **state)
{
    for (int i = 0; i < 20; i++) {
        leave("/late", false);
        leave("/stream", true);
    }
    wait_for(&done, 40);
}

/* A client that never reads loses its stream instead of blocking the writer. */
static void test_slow_reader(void **state)
{
    static char block[16384];
    int fd = send_request("GET /stream HTTP/1.1\r\n" END);
    http_exchange *x = take_held();
    int writes = 0;

    memset(block, 'x', sizeof block);
    while (http_stream_write(x, block, sizeof block) && writes < 100000)
        writes++;
    assert_true(writes < 100000);
    http_stream_end(x);
    http_unref(x);
    wait_for(&done, 1);
    close(fd);
}

/* A head that never ends is cut off. */
static void test_slow_head(void **state)
{
    int fd = send_request("GET /echo/x HTTP/1.1\r\nHost:");
    struct pollfd p = { .fd = fd, .events = POLLIN };
    char c;

    assert_int_equal(poll(&p, 1, 5000), 1);
    while (read(fd, &c, 1) > 0) {
    }
    close(fd);
}

static void *drain_main(void *ctx)
{
    *(int *)ctx = http_server_drain(server, 3000);
    return NULL;
}

static void test_drain(void **state)
{
    int fd = send_request("GET /late HTTP/1.1\r\n" END);
    http_exchange *x = take_held();
    pthread_t thread;
    int dropped = -1;

    pthread_create(&thread, NULL, drain_main, &dropped);
    http_respond(x, 200, "text/plain", "finished", 8);
    http_unref(x);
    assert_non_null(strstr(read_reply(fd, NULL), "finished"));
    pthread_join(thread, NULL);
    assert_int_equal(dropped, 0);
    close(fd);
}

static void test_drain_drops(void **state)
{
    int fd = send_request("GET /late HTTP/1.1\r\n" END);
    http_exchange *x = take_held();

    assert_int_equal(http_server_drain(server, 10), 1);
    assert_int_equal(atomic_load(&closed), 1);
    http_respond(x, 200, "text/plain", "", 0);
    http_unref(x);
    close(fd);
}

static bool take_bytes(void *ctx, const void *bytes, size_t len)
{
    sl_buf_put(ctx, bytes, len);
    return true;
}

static void test_client(void **state)
{
    char url[128];
    int status = 0;
    sl_err err = { 0 };
    sl_buf b;
    http_client_options o = { .url = url, .ctx = &b, .on_bytes = take_bytes };

    sl_buf_init(&b, 1000);
    snprintf(url, sizeof url, "http://%s/echo/hello", http_server_address(server));
    assert_int_equal(http_download(&o, &status, &err), SL_OK);
    assert_string_equal(sl_buf_str(&b), "GET|hello||");
    sl_buf_clear(&b);
    assert_int_equal(http_fetch(&o, &b, &status, &err), SL_OK);
    assert_int_equal(status, 200);
    o.max_bytes = 3;
    assert_int_equal(http_download(&o, &status, &err), SL_ELIMIT);
    o.max_bytes = 0;
    o.resume_from = 2; /* this server does not know ranges */
    assert_int_equal(http_download(&o, &status, &err), SL_ECONFLICT);
    o.resume_from = 0;
    snprintf(url, sizeof url, "http://%s/none", http_server_address(server));
    assert_int_equal(http_download(&o, &status, &err), SL_ENOTFOUND);
    assert_int_equal(status, 404);
    sl_buf_deinit(&b);
}

static sl_status take_part(void *ctx, const http_part *p, sl_err *err)
{
    sl_buf_printf(ctx, "[%s|%s|%s|%.*s]", p->name, p->filename, p->content_type, (int)p->body.len,
                  (const char *)p->body.ptr);
    return SL_OK;
}

static void test_multipart(void **state)
{
    static const char body[] = "--B\r\nContent-Disposition: form-data; name=\"file\"; "
                               "filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\nhi\r\n"
                               "--B\r\nContent-Disposition: form-data; name=c\r\n\r\n\r\n--B--\r\n";
    const char *type = "multipart/form-data; boundary=B";
    sl_err err = { 0 };
    sl_buf b;

    sl_buf_init(&b, 1000);
    assert_int_equal(http_multipart(type, sl_span_str(body), take_part, &b, &err), SL_OK);
    assert_string_equal(sl_buf_str(&b), "[file|a.txt|text/plain|hi][c|||]");
    for (size_t len = 0; len < sizeof body - 5; len++)
        assert_int_equal(http_multipart(type, sl_span_of(body, len), take_part, &b, &err),
                         SL_EFORMAT);
    sl_buf_deinit(&b);
}

static void test_addresses(void **state)
{
    static const char *const bad[] = { "127.0.0.1",       "1:2:3",        "127.0.0.1:x",
                                       "127.0.0.1:70000", "256.0.0.1:80", "127.0.0.1:" };
    http_server *s = NULL;
    sl_err err;

    for (size_t i = 0; i < SL_COUNT_OF(bad); i++)
        assert_int_not_equal(
            http_server_create(&(http_server_options){ .address = bad[i] }, &s, &err), SL_OK);
    if (http_server_create(&(http_server_options){ .address = "[::1]:0" }, &s, &err) == SL_OK) {
        assert_memory_equal(http_server_address(s), "[::1]:", 6);
        http_server_destroy(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_routes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_late_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_head, setup, teardown),
        cmocka_unit_test_setup_teardown(test_drain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_drain_drops, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client, setup, teardown),
        cmocka_unit_test(test_multipart),
        cmocka_unit_test(test_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
