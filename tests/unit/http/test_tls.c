/* test_tls.c - handshakes and streams while the certificate is replaced, also by bad ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "http/http.h"

#define PAIRS 3 /* two good ones, and one that has expired */

static char dir[] = "/tmp/sluice-tls-XXXXXX";
static char certificate_path[100], key_path[100];
static gnutls_datum_t certificates[PAIRS], keys[PAIRS]; /* PEM */
static http_server *server;
static http_exchange *held;
static atomic_bool has_held, stop;

/* ---- certificates -------------------------------------------------------------------------- */

static void make_pair(int i, time_t expires)
{
    unsigned char serial[] = { 0x10, (unsigned char)(i + 1) };
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;

    gnutls_x509_privkey_init(&key);
    assert_int_equal(gnutls_x509_privkey_generate(
                         key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
                     0);
    gnutls_x509_crt_init(&crt);
    gnutls_x509_crt_set_version(crt, 3);
    gnutls_x509_crt_set_serial(crt, serial, sizeof serial);
    gnutls_x509_crt_set_dn(crt, "CN=localhost", NULL);
    gnutls_x509_crt_set_activation_time(crt, expires - 86400 * 30);
    gnutls_x509_crt_set_expiration_time(crt, expires);
    gnutls_x509_crt_set_key(crt, key);
    assert_int_equal(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0), 0);
    assert_int_equal(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &certificates[i]), 0);
    assert_int_equal(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &keys[i]), 0);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

static void put_file(const char *path, const void *bytes, size_t len)
{
    sl_err err;

    assert_int_equal(sl_file_write_atomic(path, sl_span_of(bytes, len), &err), SL_OK);
}

static void install(int certificate, int key)
{
    put_file(certificate_path, certificates[certificate].data, certificates[certificate].size);
    put_file(key_path, keys[key].data, keys[key].size);
}

/* ---- server and client --------------------------------------------------------------------- */

static void hello(void *ctx, http_exchange *x)
{
    http_respond(x, 200, "text/plain", "hello", 5);
}

static void stream(void *ctx, http_exchange *x)
{
    http_ref(x);
    http_stream_begin(x, 200, "text/event-stream");
    held = x;
    atomic_store(&has_held, true);
}

typedef struct client {
    int fd;
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
} client;

static bool client_open(client *c, const char *priorities)
{
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_port = htons((uint16_t)http_server_port(server)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int rc;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(c->fd, (struct sockaddr *)&addr, sizeof addr) != 0)
        return false;
    gnutls_certificate_allocate_credentials(&c->credentials);
    gnutls_init(&c->session, GNUTLS_CLIENT);
    gnutls_priority_set_direct(c->session, priorities, NULL);
    gnutls_credentials_set(c->session, GNUTLS_CRD_CERTIFICATE, c->credentials);
    gnutls_transport_set_int(c->session, c->fd);
    do {
        rc = gnutls_handshake(c->session);
    } while (rc < 0 && !gnutls_error_is_fatal(rc));
    return rc == 0;
}

static void client_close(client *c)
{
    gnutls_bye(c->session, GNUTLS_SHUT_WR);
    gnutls_deinit(c->session);
    gnutls_certificate_free_credentials(c->credentials);
    close(c->fd);
}

/* The last byte of the serial that the server showed. */
static int client_serial(const client *c)
{
    unsigned count = 0;
    const gnutls_datum_t *list = gnutls_certificate_get_peers(c->session, &count);
    unsigned char serial[20];
    size_t len = sizeof serial;
    gnutls_x509_crt_t crt;

    if (count != 1)
        return -1;
    gnutls_x509_crt_init(&crt);
    gnutls_x509_crt_import(crt, &list[0], GNUTLS_X509_FMT_DER);
    gnutls_x509_crt_get_serial(crt, serial, &len);
    gnutls_x509_crt_deinit(crt);
    return serial[len - 1];
}

static void client_send(client *c, const char *text)
{
    assert_int_equal(gnutls_record_send(c->session, text, strlen(text)), (ssize_t)strlen(text));
}

/* Reads until `until` was seen. */
static bool client_expect(client *c, const char *until)
{
    char buf[8192];
    size_t len = 0;

    for (;;) {
        ssize_t n = gnutls_record_recv(c->session, buf + len, sizeof buf - len - 1);

        if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
            continue;
        if (n <= 0)
            return false;
        len += (size_t)n;
        buf[len] = '\0';
        if (strstr(buf, until))
            return true;
    }
}

static bool ask_hello(int *ret_serial)
{
    client c;
    bool ok = client_open(&c, "NORMAL");

    if (ok) {
        *ret_serial = client_serial(&c);
        client_send(&c, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
        ok = client_expect(&c, "hello");
    }
    client_close(&c);
    return ok;
}

static int setup(void **state)
{
    http_server_options o = { .address = "https://127.0.0.1:0",
                              .tls_certificate = certificate_path,
                              .tls_key = key_path };
    sl_err err = { .text = "" };

    sl_log_set_level(SL_LOG_LEVEL_COUNT);
    snprintf(certificate_path, sizeof certificate_path, "%s/cert.pem", dir);
    snprintf(key_path, sizeof key_path, "%s/key.pem", dir);
    install(0, 0);
    if (http_server_create(&o, &server, &err) != SL_OK)
        fail_msg("%s", err.text);
    assert_int_equal(http_server_route(server, "GET", "/hello", hello, NULL, &err), SL_OK);
    assert_int_equal(http_server_route(server, "GET", "/stream", stream, NULL, &err), SL_OK);
    assert_int_equal(http_server_start(server, &err), SL_OK);
    atomic_store(&has_held, false);
    atomic_store(&stop, false);
    return 0;
}

static int teardown(void **state)
{
    http_server_destroy(server);
    return 0;
}

/* ---- tests --------------------------------------------------------------------------------- */

static void test_versions(void **state)
{
    client c;
    int serial = 0;

    assert_true(ask_hello(&serial));
    assert_int_equal(serial, 1);
    assert_true(client_open(&c, "NORMAL:-VERS-ALL:+VERS-TLS1.2"));
    client_close(&c);
    assert_false(client_open(&c, "NORMAL:-VERS-ALL:+VERS-TLS1.1"));
    client_close(&c);
}

static void expect_refused(void)
{
    sl_err err = { .status = SL_OK };
    int serial = 0;

    assert_int_not_equal(http_server_reload_tls(server, &err), SL_OK);
    assert_true(err.text[0]);
    assert_true(ask_hello(&serial));
    assert_int_equal(serial, 1);
}

static void test_bad_ones_stay_out(void **state)
{
    install(0, 1); /* the key of another */
    expect_refused();
    install(2, 2); /* expired */
    expect_refused();
    put_file(certificate_path, "nonsense", 8);
    expect_refused();
    unlink(key_path);
    expect_refused();
    install(1, 1);
}

static void test_stream_outlives(void **state)
{
    int64_t end_ns = sl_clock_mono_ns() + 10000000000;
    int serial = 0;
    client c;

    assert_true(client_open(&c, "NORMAL"));
    client_send(&c, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    while (!atomic_load(&has_held) && sl_clock_mono_ns() < end_ns)
        poll(NULL, 0, 1);
    assert_true(atomic_load(&has_held));
    assert_true(http_stream_write(held, "data: 1\n\n", 9));
    assert_true(client_expect(&c, "data: 1"));
    install(1, 1);
    assert_int_equal(http_server_reload_tls(server, NULL), SL_OK);
    assert_true(ask_hello(&serial));
    assert_int_equal(serial, 2);
    assert_true(http_stream_write(held, "data: 2\n\n", 9));
    assert_true(client_expect(&c, "data: 2"));
    http_stream_end(held);
    http_unref(held);
    client_close(&c);
}

/* The files are looked at without being told. */
static void test_files_watched(void **state)
{
    int64_t end_ns = sl_clock_mono_ns() + 30000000000;
    int serial = 0;

    install(1, 1);
    while (serial != 2 && sl_clock_mono_ns() < end_ns) {
        assert_true(ask_hello(&serial));
        poll(NULL, 0, 20);
    }
    assert_int_equal(serial, 2);
}

static void *ask_main(void *ctx)
{
    while (!atomic_load(&stop)) {
        int serial = 0;

        if (ask_hello(&serial) && (serial == 1 || serial == 2))
            atomic_fetch_add((atomic_int *)ctx, 1);
        else
            atomic_fetch_add((atomic_int *)ctx + 1, 1);
    }
    return NULL;
}

static void test_race(void **state)
{
    pthread_t threads[3];
    atomic_int counts[2] = { 0, 0 }; /* right, wrong */

    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, ask_main, counts);
    for (int i = 0; i < 60 || atomic_load(&counts[0]) < 20; i++) {
        install(i % 2, i % 3 == 2 ? 1 - i % 2 : i % 2);
        (void)http_server_reload_tls(server, NULL);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&counts[1]), 0);
}

static int make_all(void **state)
{
    make_pair(0, time(NULL) + 86400 * 20);
    make_pair(1, time(NULL) + 86400 * 20);
    make_pair(2, time(NULL) - 60);
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_all(void **state)
{
    for (int i = 0; i < PAIRS; i++) {
        gnutls_free(certificates[i].data);
        gnutls_free(keys[i].data);
    }
    unlink(certificate_path);
    unlink(key_path);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_versions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_ones_stay_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stream_outlives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files_watched, setup, teardown),
        cmocka_unit_test_setup_teardown(test_race, setup, teardown),
    };

    return cmocka_run_group_tests(tests, make_all, remove_all);
}
