/* test_access.c - keys and addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "access/access.h"
#include "base/attr.h"

static llm_caller *check(access_control *a, const char *authorization, const char *x_api_key)
{
    llm_caller *c = NULL;
    sl_err err;
    sl_status status = access_check(a, authorization, x_api_key, &c, &err);

    assert_int_equal(status, c ? SL_OK : SL_EAUTH);
    return c;
}

static void test_keys(void **state)
{
    static const char *const keys[] = { "alpha", "beta" };
    access_control *a = NULL;
    llm_caller *alpha, *beta;
    sl_err err;

    assert_int_equal(access_create(keys, 2, &a, &err), SL_OK);
    assert_int_equal(access_key_count(a), 2);
    assert_null(check(a, NULL, NULL));
    assert_null(check(a, "Bearer ", NULL));
    assert_null(check(a, "Basic alpha", NULL));
    assert_null(check(a, "Bearer alph", NULL));
    assert_null(check(a, "Bearer alphaa", NULL));
    alpha = check(a, "Bearer alpha", NULL);
    assert_non_null(alpha);
    assert_int_equal(strlen(alpha->id), 12);
    beta = check(a, "bearer  beta", NULL);
    assert_non_null(beta);
    assert_ptr_not_equal(alpha, beta);
    assert_ptr_equal(check(a, NULL, "beta"), beta);
    assert_null(check(a, "Bearer wrong", "beta"));
    access_destroy(a);
    assert_int_equal(access_check(NULL, NULL, NULL, &alpha, &err), SL_OK);
    assert_null(alpha);
}

static void test_bad_keys(void **state)
{
    static const char *const bad[] = { "", "a b", "tab\t", "\xc3\xa4" };
    access_control *a = NULL;
    sl_err err;

    for (size_t i = 0; i < SL_COUNT_OF(bad); i++)
        assert_int_equal(access_create(&bad[i], 1, &a, &err), SL_EINVAL);
    assert_null(a);
}

static void test_bind(void **state)
{
    static const char *const loop[] = { "127.0.0.1:80", "127.1.2.3:0", "[::1]:80", "localhost:1",
                                        "::1" };
    static const char *const wide[] = {
        "0.0.0.0:80",           ":80", "[::]:80", "10.0.0.1:80", "127.0.0.1.evil.com:80",
        "localhost.evil.com:1", ""
    };
    sl_err err;

    for (size_t i = 0; i < SL_COUNT_OF(loop); i++)
        assert_int_equal(access_check_bind(loop[i], 0, &err), SL_OK);
    for (size_t i = 0; i < SL_COUNT_OF(wide); i++) {
        assert_int_equal(access_check_bind(wide[i], 0, &err), SL_EINVAL);
        assert_non_null(strstr(err.text, "SLUICE_API_KEY"));
        assert_int_equal(access_check_bind(wide[i], 1, &err), SL_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_bad_keys),
        cmocka_unit_test(test_bind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
