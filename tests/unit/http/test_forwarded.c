/* test_forwarded.c - whose address counts behind proxies, and who cannot lie about it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "base/attr.h"
#include "http/forwarded.h"

static proxy_list trusted(const char *const *texts)
{
    proxy_list list = { .count = 0 };
    sl_err err;

    for (; *texts; texts++)
        assert_int_equal(proxy_list_add(&list, *texts, &err), SL_OK);
    return list;
}

static void test_networks(void **state)
{
    static const char *const bad[] = {
        "",          "10.0.0.0/33", "10.0.0.1/8",
        "10.0.0.0/", "10.0.0.0/8x", "10.0.0.0/-1",
        "::1/129",   "fd00::1/8",   "localhost",
        "10.0.0",    "010.0.0.1",   "1234567890123456789012345678901234567890123456789"
    };
    const proxy_list list =
        trusted((const char *const[]){ "10.0.0.0/8", "192.168.1.128/25", "fd00::/8", "::1", NULL });
    proxy_list other = { .count = 0 };
    sl_err err;

    for (size_t i = 0; i < SL_COUNT_OF(bad); i++)
        if (proxy_list_add(&other, bad[i], &err) != SL_EINVAL)
            fail_msg("\"%s\" was taken", bad[i]);
    assert_int_equal(other.count, 0);
    assert_true(proxy_list_has(&list, "10.255.0.1"));
    assert_true(proxy_list_has(&list, "::ffff:10.1.2.3"));
    assert_false(proxy_list_has(&list, "11.0.0.1"));
    assert_true(proxy_list_has(&list, "192.168.1.129"));
    assert_false(proxy_list_has(&list, "192.168.1.127"));
    assert_true(proxy_list_has(&list, "fdff::1"));
    assert_false(proxy_list_has(&list, "fc00::1"));
    assert_true(proxy_list_has(&list, "::1"));
    assert_false(proxy_list_has(&list, "::2"));
    assert_false(proxy_list_has(&list, ""));
    for (int i = 0; i < PROXY_NETWORKS_MAX; i++)
        assert_int_equal(proxy_list_add(&other, "10.0.0.0/8", &err), SL_OK);
    assert_int_equal(proxy_list_add(&other, "10.0.0.0/8", &err), SL_ELIMIT);
}

static const struct {
    proxy_header kind;
    const char *peer, *value, *client;
} cases[] = {
    /* Nobody may speak for himself. */
    { PROXY_X_FORWARDED_FOR, "9.9.9.9", "1.2.3.4", "9.9.9.9" },
    { PROXY_FORWARDED, "9.9.9.9", "for=1.2.3.4", "9.9.9.9" },
    { PROXY_X_FORWARDED_FOR, "10.0.0.1", NULL, "10.0.0.1" },
    { PROXY_X_FORWARDED_FOR, "10.0.0.1", "", "10.0.0.1" },
    /* The rightmost that is no proxy, whatever a client wrote to the left of it. */
    { PROXY_X_FORWARDED_FOR, "10.0.0.1", "1.2.3.4", "1.2.3.4" },
    { PROXY_X_FORWARDED_FOR, "10.0.0.1", "6.6.6.6, 1.2.3.4", "1.2.3.4" },
    { PROXY_X_FORWARDED_FOR, "10.0.0.1", "6.6.6.6,1.2.3.4 , 10.0.0.2", "1.2.3.4" },
    { PROXY_X_FORWARDED_FOR, "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3" },
    { PROXY_X_FORWARDED_FOR, "10.0.0.1", " , 1.2.3.4,, ", "1.2.3.4" },
    { PROXY_X_FORWARDED_FOR, "10.0.0.1", "1.2.3.4:5678", "1.2.3.4" },
    { PROXY_X_FORWARDED_FOR, "10.0.0.1", "2001:db8::7", "2001:db8::7" },
    { PROXY_X_FORWARDED_FOR, "10.0.0.1", "[2001:db8::7]:80", "2001:db8::7" },
    { PROXY_X_FORWARDED_FOR, "10.0.0.1", "::ffff:1.2.3.4", "1.2.3.4" },
    { PROXY_X_FORWARDED_FOR, "::1", "1.2.3.4", "1.2.3.4" },
    /* What is no address ends the walk at the last proxy that is one. */
    { PROXY_X_FORWARDED_FOR, "10.0.0.1", "1.2.3.4, unknown", "10.0.0.1" },
    { PROXY_X_FORWARDED_FOR, "10.0.0.1", "1.2.3.4, x, 10.0.0.2", "10.0.0.2" },
    { PROXY_X_FORWARDED_FOR, "10.0.0.1", "[::1", "10.0.0.1" },
    { PROXY_X_FORWARDED_FOR, "10.0.0.1", "[::1]x", "10.0.0.1" },
    { PROXY_X_FORWARDED_FOR, "10.0.0.1", "1.2.3.4:", "10.0.0.1" },
    { PROXY_X_FORWARDED_FOR, "10.0.0.1", "1.2.3.4, 1.2.3.4.5", "10.0.0.1" },
    { PROXY_X_FORWARDED_FOR, "10.0.0.1",
      "1.2.3.4, "
      "1111111111111111111111111111111111111111111111111111111111111111111111111111111",
      "10.0.0.1" },
    /* RFC 7239. */
    { PROXY_FORWARDED, "10.0.0.1", "for=1.2.3.4", "1.2.3.4" },
    { PROXY_FORWARDED, "10.0.0.1", "For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17" },
    { PROXY_FORWARDED, "10.0.0.1", "for=6.6.6.6;proto=http, for=1.2.3.4;by=\"a,b;c\"", "1.2.3.4" },
    { PROXY_FORWARDED, "10.0.0.1", "for=1.2.3.4, for=10.0.0.9", "1.2.3.4" },
    { PROXY_FORWARDED, "10.0.0.1", "proto=https;for=\"1.2.3.\\4\"", "1.2.3.4" },
    { PROXY_FORWARDED, "10.0.0.1", "for=1.2.3.4, for=_hidden", "10.0.0.1" },
    { PROXY_FORWARDED, "10.0.0.1", "for=1.2.3.4, proto=http", "10.0.0.1" },
    { PROXY_FORWARDED, "10.0.0.1", "for=1.2.3.4, for=\"6.6.6.6", "10.0.0.1" },
    { PROXY_FORWARDED, "10.0.0.1", "for=1.2.3.4 6.6.6.6", "10.0.0.1" },
    { PROXY_FORWARDED, "10.0.0.1", "1.2.3.4", "10.0.0.1" },
    { PROXY_FORWARDED, "10.0.0.1", "for=", "10.0.0.1" },
};

static void test_clients(void **state)
{
    const proxy_list list = trusted((const char *const[]){ "10.0.0.0/8", "::1", NULL });
    char client[PROXY_ADDRESS_BYTES];

    for (size_t i = 0; i < SL_COUNT_OF(cases); i++) {
        proxy_client(&list, cases[i].kind, cases[i].peer, false, cases[i].value, client);
        if (strcmp(client, cases[i].client) != 0)
            fail_msg("case %zu, %s: %s instead of %s", i, cases[i].value, client, cases[i].client);
    }
}

/* A Unix socket is trusted only by name, not because it counts as 127.0.0.1. */
static void test_unix(void **state)
{
    const proxy_list by_name = trusted((const char *const[]){ "unix", NULL });
    const proxy_list by_address = trusted((const char *const[]){ "127.0.0.1", NULL });
    char client[PROXY_ADDRESS_BYTES];

    proxy_client(&by_name, PROXY_X_FORWARDED_FOR, "127.0.0.1", true, "1.2.3.4", client);
    assert_string_equal(client, "1.2.3.4");
    proxy_client(&by_address, PROXY_X_FORWARDED_FOR, "127.0.0.1", true, "1.2.3.4", client);
    assert_string_equal(client, "127.0.0.1");
    proxy_client(&by_name, PROXY_X_FORWARDED_FOR, "127.0.0.1", false, "1.2.3.4", client);
    assert_string_equal(client, "127.0.0.1");
}

/* A chain longer than what is kept: the right end counts. */
static void test_long_chain(void **state)
{
    const proxy_list list = trusted((const char *const[]){ "10.0.0.0/8", NULL });
    char value[4096] = "6.6.6.6", client[PROXY_ADDRESS_BYTES];

    for (int i = 0; i < 100; i++)
        strcat(value, ",10.0.0.2");
    strcat(value, ",1.2.3.4,10.0.0.3");
    proxy_client(&list, PROXY_X_FORWARDED_FOR, "10.0.0.1", false, value, client);
    assert_string_equal(client, "1.2.3.4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_clients),
        cmocka_unit_test(test_unix),
        cmocka_unit_test(test_long_chain),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
