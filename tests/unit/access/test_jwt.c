/* test_jwt.c - tokens: every algorithm once right, and every way to cheat that we know of refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests_jwt.h"

/* ---- what is right ------------------------------------------------------------------------- */

static void test_algorithms(void **state)
{
    static const char *const all[] = { "RS256", "RS384", "RS512", "PS256", "PS384",
                                       "PS512", "ES256", "ES384", "EdDSA" };
    access_control *a = open_jwks(jwks, all, SL_COUNT_OF(all));
    const struct {
        const char *header;
        signer s;
    } good[] = {
        { "{\"alg\":\"RS256\",\"kid\":\"r1\"}", by(SIGN_PKCS1, "SHA256", rsa) },
        { "{\"alg\":\"RS384\",\"kid\":\"r1\"}", by(SIGN_PKCS1, "SHA384", rsa) },
        { "{\"alg\":\"RS512\",\"kid\":\"r1\",\"typ\":\"at+jwt\"}", by(SIGN_PKCS1, "SHA512", rsa) },
        { "{\"alg\":\"PS256\",\"kid\":\"r1\"}", by(SIGN_PSS, "SHA256", rsa) },
        { "{\"alg\":\"PS384\",\"kid\":\"r1\"}", by(SIGN_PSS, "SHA384", rsa) },
        { "{\"alg\":\"PS512\",\"kid\":\"r1\"}", by(SIGN_PSS, "SHA512", rsa) },
        { "{\"alg\":\"ES256\",\"kid\":\"e1\"}", by(SIGN_EC, "SHA256", ec) },
        { "{\"alg\":\"ES384\",\"kid\":\"e3\"}", by(SIGN_EC, "SHA384", ec384) },
        { "{\"alg\":\"ES384\"}", by(SIGN_EC, "SHA384", ec384) }, /* only one key fits */
        { "{\"alg\":\"EdDSA\",\"kid\":\"d1\",\"typ\":\"JWT\"}", by(SIGN_ED, NULL, ed) },
    };

    for (size_t i = 0; i < SL_COUNT_OF(good); i++)
        check_good(a, make(good[i].header, CLAIMS, &good[i].s));
    access_destroy(a);
}

static void test_hmac(void **state)
{
    static const char *const all[] = { "HS256", "HS384", "HS512" };
    static const char secret[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const access_issuer o = {
        .issuer = ISS, .audience = AUD, .secret = secret, .algorithms = all, .algorithm_count = 3
    };
    access_control *a = NULL;
    sl_err err;

    assert_int_equal(access_open(&(access_options){ .issuers = &o, .issuer_count = 1 }, &a, &err),
                     SL_OK);
    for (int i = 0; i < 3; i++) {
        static const char *const digests[] = { "SHA256", "SHA384", "SHA512" };
        char header[64];
        signer s = { SIGN_HMAC, digests[i], NULL, secret, sizeof secret - 1 };

        snprintf(header, sizeof header, "{\"alg\":\"%s\",\"typ\":\"JWT\"}", all[i]);
        check_good(a, make(header, CLAIMS, &s));
    }
    access_destroy(a);
}

/* ---- headers ------------------------------------------------------------------------------- */

static void test_none(void **state)
{
    static const char *const heads[] = { "{\"alg\":\"none\"}", "{\"alg\":\"None\"}",
                                         "{\"alg\":\"\"}",     "{\"alg\":null}",
                                         "{\"alg\":1}",        "{\"typ\":\"JWT\"}",
                                         "{\"alg\":\"hs256\"}" };
    access_control *a = open_secret(NULL);
    signer s = hs(), nothing = { .kind = SIGN_NOTHING };

    check_good(a, make("{\"alg\":\"HS256\"}", CLAIMS, &s));
    for (size_t i = 0; i < SL_COUNT_OF(heads); i++) {
        check_bad(a, make(heads[i], CLAIMS, &nothing), "algorithm");
        check_bad(a, make(heads[i], CLAIMS, &s), "algorithm");
    }
    access_destroy(a);
}

/* The public key's bytes as an HMAC secret: in every form somebody might have hashed. */
static void test_confusion(void **state)
{
    static const char *const rs[] = { "RS256" };
    access_control *a = open_jwks(jwks, rs, 1);
    signer s = { SIGN_HMAC, "SHA256", NULL, jwks, strlen(jwks) };
    signer good = by(SIGN_PKCS1, "SHA256", rsa);
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(rsa, &der);

    check_good(a, make("{\"alg\":\"RS256\",\"kid\":\"r1\"}", CLAIMS, &good));
    check_bad(a, make("{\"alg\":\"HS256\",\"kid\":\"r1\"}", CLAIMS, &s), "does not use HS256");
    s.secret = der;
    s.secret_len = (size_t)len;
    check_bad(a, make("{\"alg\":\"HS256\",\"kid\":\"r1\"}", CLAIMS, &s), "does not use HS256");
    /* An algorithm of the same key that is not configured. */
    good.kind = SIGN_PSS;
    check_bad(a, make("{\"alg\":\"PS256\",\"kid\":\"r1\"}", CLAIMS, &good), "does not use PS256");
    OPENSSL_free(der);
    access_destroy(a);
}

static void test_foreign_keys(void **state)
{
    static const char *const heads[] = {
        "{\"alg\":\"HS256\",\"jku\":\"https://evil.example/jwks\"}",
        "{\"alg\":\"HS256\",\"x5u\":\"https://evil.example/cert\"}",
        "{\"alg\":\"HS256\",\"jwk\":{\"kty\":\"oct\",\"k\":\"AAAA\"}}",
        "{\"alg\":\"HS256\",\"x5c\":[\"AAAA\"]}",
        "{\"alg\":\"HS256\",\"crit\":[\"exp\"],\"exp\":1}",
        "{\"alg\":\"HS256\",\"crit\":[]}",
        "{\"alg\":\"HS256\",\"b64\":false}",
        "{\"alg\":\"HS256\",\"zip\":\"DEF\"}",
    };
    access_control *a = open_secret(NULL);
    signer s = hs();

    for (size_t i = 0; i < SL_COUNT_OF(heads); i++)
        check_bad(a, make(heads[i], CLAIMS, &s), "header is refused");
    check_bad(a, make("{\"alg\":\"HS256\",\"typ\":\"JWE\"}", CLAIMS, &s), "type");
    access_destroy(a);
}

static void test_kid(void **state)
{
    static const char *const bad[] = {
        "../../../../dev/null",
        "/etc/passwd",
        "a\\\\b",
        "x' UNION SELECT 'k",
        "k;--",
        "a b",
        "%2e%2e",
        "",
        "k\\n",
        "k\\u0131",
        "a..b",
        "\\\"",
    };
    access_control *a = open_secret(NULL);
    signer s = hs();
    char header[600];

    for (size_t i = 0; i < SL_COUNT_OF(bad); i++) {
        snprintf(header, sizeof header, "{\"alg\":\"HS256\",\"kid\":\"%s\"}", bad[i]);
        check_bad(a, make(header, CLAIMS, &s), "key id");
    }
    check_bad(a, make("{\"alg\":\"HS256\",\"kid\":7}", CLAIMS, &s), "key id");
    check_good(a,
               make("{\"alg\":\"HS256\",\"kid\":\"yqG1/8bDDEK+fa0rZ0lrUyj3pYyDNdUSuHr1ck4aoc4=\"}",
                    CLAIMS, &s));
    snprintf(header, sizeof header, "{\"alg\":\"HS256\",\"kid\":\"%0300d\"}", 1);
    check_bad(a, make(header, CLAIMS, &s), "key id");
    access_destroy(a);
}

/* ---- secrets and curves -------------------------------------------------------------------- */

static void check_config(const access_issuer *o, const char *why)
{
    access_control *a = NULL;
    sl_err err = { 0 };

    assert_int_equal(access_open(&(access_options){ .issuers = o, .issuer_count = 1 }, &a, &err),
                     SL_EINVAL);
    if (!strstr(err.text, why))
        fail_msg("'%s' does not say '%s'", err.text, why);
}

static void test_configured_weakly(void **state)
{
    static const char *const hs512[] = { "HS512" }, *const rs[] = { "RS256" },
                             *const none[] = { "none" };
    const access_issuer base = { .issuer = ISS, .audience = AUD };
    access_issuer o = base;

    check_config(&o, "one of jwks_url");
    o.secret = "";
    check_config(&o, "secret");
    o.secret = "short";
    check_config(&o, "at least 32");
    o.secret = SECRET;
    o.algorithms = hs512, o.algorithm_count = 1;
    check_config(&o, "at least 64");
    o.algorithms = rs;
    check_config(&o, "key set");
    o.algorithms = none;
    check_config(&o, "none");
    o.algorithms = NULL, o.algorithm_count = 0;
    o.audience = "";
    check_config(&o, "audience");
    o = base, o.jwks_url = "http://issuer.example/jwks";
    check_config(&o, "https");
    o.jwks_url = "http://127.0.0.1@evil.example/";
    check_config(&o, "https");
    o.jwks_url = "http://localhost.evil.example/";
    check_config(&o, "https");
    o.jwks_url = "file:///etc/passwd";
    check_config(&o, "https");
    o = base, o.secret = SECRET, o.role = "root";
    check_config(&o, "role");
    o = base, o.secret = SECRET, o.issuer = "sluice";
    check_config(&o, "our own");
}

static void check_set(const char *text, bool good)
{
    keyset *k = NULL;
    sl_err err;
    sl_status status = keyset_parse(text, strlen(text), &k, &err);

    assert_int_equal(status, good ? SL_OK : SL_EFORMAT);
    keyset_unref(k);
}

static void test_key_sets(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"keys\":{}}",
        "{\"keys\":[]}",
        "{\"keys\":[1,null,\"a\"]}",
        "{\"keys\":[],\"keys\":[]}",
        "{\"keys\":[{\"kty\":\"oct\",\"k\":\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"}]}",
        "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", /* 24 bits */
        "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}]}",
        "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed448\",\"x\":"
        "\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"}]}",
        /* Not on the curve. */
        "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\","
        "\"x\":\"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\","
        "\"y\":\"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\"}]}",
    };
    sl_buf b;

    for (size_t i = 0; i < SL_COUNT_OF(bad); i++)
        check_set(bad[i], false);
    check_set(jwks, true);
    sl_buf_init(&b, 8192);
    sl_buf_puts(&b, "{\"keys\":[");
    put_rsa(&b, "r", ",\"use\":\"enc\"");
    sl_buf_puts(&b, "]}");
    check_set(b.ptr, false);
    sl_buf_clear(&b);
    sl_buf_puts(&b, "{\"keys\":[");
    put_rsa(&b, "r", ",\"key_ops\":[\"encrypt\"]");
    sl_buf_puts(&b, "]}");
    check_set(b.ptr, false);
    sl_buf_clear(&b);
    sl_buf_puts(&b, "{\"keys\":[");
    put_ec(&b, "e", "P-256", ec384, 48); /* a point of another curve */
    sl_buf_puts(&b, "]}");
    check_set(b.ptr, false);
    sl_buf_deinit(&b);
}

static void test_wrong_curve(void **state)
{
    static const char *const es[] = { "ES256", "ES384", "EdDSA", "RS256" };
    access_control *a = open_jwks(jwks, es, 4);
    signer s256 = by(SIGN_EC, "SHA256", ec), s384 = by(SIGN_EC, "SHA384", ec384);
    signer cross = by(SIGN_EC, "SHA256", ec384);

    check_bad(a, make("{\"alg\":\"ES256\",\"kid\":\"e3\"}", CLAIMS, &cross), "key is not known");
    check_bad(a, make("{\"alg\":\"ES384\",\"kid\":\"e1\"}", CLAIMS, &s384), "key is not known");
    check_bad(a, make("{\"alg\":\"ES256\",\"kid\":\"d1\"}", CLAIMS, &s256), "key is not known");
    check_bad(a, make("{\"alg\":\"EdDSA\",\"kid\":\"e1\"}", CLAIMS, &s256), "key is not known");
    check_bad(a, make("{\"alg\":\"RS256\",\"kid\":\"e1\"}", CLAIMS, &s256), "key is not known");
    check_bad(a, make("{\"alg\":\"ES256\",\"kid\":\"e9\"}", CLAIMS, &s256), "key is not known");
    access_destroy(a);
}

/* A key that says which algorithm it is for is used for no other. */
static void test_key_algorithm(void **state)
{
    static const char *const both[] = { "RS256", "PS256" };
    signer pss = by(SIGN_PSS, "SHA256", rsa), pkcs = by(SIGN_PKCS1, "SHA256", rsa);
    access_control *a;
    sl_buf b;

    sl_buf_init(&b, 8192);
    sl_buf_puts(&b, "{\"keys\":[");
    put_rsa(&b, "r", ",\"alg\":\"PS256\"");
    sl_buf_puts(&b, "]}");
    a = open_jwks(b.ptr, both, 2);
    check_good(a, make("{\"alg\":\"PS256\",\"kid\":\"r\"}", CLAIMS, &pss));
    check_bad(a, make("{\"alg\":\"RS256\",\"kid\":\"r\"}", CLAIMS, &pkcs), "key is not known");
    sl_buf_deinit(&b);
    access_destroy(a);
}

/* ---- claims -------------------------------------------------------------------------------- */

static void test_times(void **state)
{
    const access_issuer o = { .leeway_s = 10 };
    access_control *a = open_secret(&o);
    const struct {
        const char *times, *why;
    } cases[] = {
        { "\"exp\":2000000000", NULL }, /* now, within the leeway */
        { "\"exp\":1999999991", NULL },
        { "\"exp\":1999999990", "expired" },
        { "\"exp\":0", "expired" },
        { "\"exp\":2000000100,\"nbf\":2000000010", NULL },
        { "\"exp\":2000000100,\"nbf\":2000000011", "not valid yet" },
        { "\"exp\":2000000100,\"iat\":2000000010.0", NULL },
        { "\"exp\":2000000100,\"iat\":2000000011", "in the future" },
        { "\"nbf\":1", "no exp" },
        { "\"exp\":\"2000000100\"", "not a time" },
        { "\"exp\":null", "not a time" },
        { "\"exp\":-5", "not a time" },
        { "\"exp\":1e300", "not a time" },
        { "\"exp\":2000000100,\"nbf\":\"1\"", "not a time" },
        { "\"exp\":2000000100,\"iat\":[]", "not a time" },
    };
    signer s = hs();

    for (size_t i = 0; i < SL_COUNT_OF(cases); i++) {
        char claims[400], *token;

        snprintf(claims, sizeof claims,
                 "{\"iss\":\"" ISS "\",\"aud\":\"" AUD "\",\"sub\":\"a\",%s}", cases[i].times);
        token = make("{\"alg\":\"HS256\"}", claims, &s);
        if (cases[i].why)
            check_bad(a, token, cases[i].why);
        else
            check_good(a, token);
    }
    access_destroy(a);
}

static void test_claims(void **state)
{
    access_control *a = open_secret(NULL);
    const struct {
        const char *claims, *why;
    } cases[] = {
        { "\"iss\":\"" ISS "\",\"aud\":[\"x\",\"" AUD "\"],\"sub\":\"a\"", NULL },
        { "\"iss\":\"" ISS "\",\"aud\":\"other\",\"sub\":\"a\"", "audience" },
        { "\"iss\":\"" ISS "\",\"aud\":[\"other\"],\"sub\":\"a\"", "audience" },
        { "\"iss\":\"" ISS "\",\"aud\":[],\"sub\":\"a\"", "audience" },
        { "\"iss\":\"" ISS "\",\"aud\":[7,\"" AUD "\"],\"sub\":\"a\"", "audience" },
        { "\"iss\":\"" ISS "\",\"sub\":\"a\"", "audience" },
        { "\"iss\":\"" ISS "/\",\"aud\":\"" AUD "\",\"sub\":\"a\"", "issuer is not known" },
        { "\"iss\":[\"" ISS "\"],\"aud\":\"" AUD "\",\"sub\":\"a\"", "issuer is not known" },
        { "\"aud\":\"" AUD "\",\"sub\":\"a\"", "issuer is not known" },
        { "\"iss\":\"" ISS "\",\"aud\":\"" AUD "\"", "'sub'" },
        { "\"iss\":\"" ISS "\",\"aud\":\"" AUD "\",\"sub\":\"\"", "'sub'" },
        { "\"iss\":\"" ISS "\",\"aud\":\"" AUD "\",\"sub\":{}", "'sub'" },
        { "\"iss\":\"" ISS "\",\"aud\":\"x\",\"aud\":\"" AUD "\",\"sub\":\"a\"", "strict JSON" },
        { "\"iss\":\"" ISS "\",\"aud\":\"" AUD "\",\"sub\":\"a\",\"o\":{\"p\":1,\"p\":2}",
          "strict JSON" },
    };
    signer s = hs();

    for (size_t i = 0; i < SL_COUNT_OF(cases); i++) {
        char claims[400], *token;

        snprintf(claims, sizeof claims, "{\"exp\":2000000100,%s}", cases[i].claims);
        token = make("{\"alg\":\"HS256\"}", claims, &s);
        if (cases[i].why)
            check_bad(a, token, cases[i].why);
        else
            check_good(a, token);
    }
    check_bad(a, make("{\"alg\":\"HS256\",\"alg\":\"HS256\"}", CLAIMS, &s), "strict JSON");
    check_bad(a, make("{\"alg\":\"HS256\"}", "[1]", &s), "strict JSON");
    access_destroy(a);
}

/* ---- form ---------------------------------------------------------------------------------- */

static void test_signature_cut(void **state)
{
    static const char *const all[] = { "RS256", "ES256", "EdDSA" };
    access_control *a = open_jwks(jwks, all, 3);
    const struct {
        const char *header;
        signer s;
    } kinds[] = { { "{\"alg\":\"RS256\",\"kid\":\"r1\"}", by(SIGN_PKCS1, "SHA256", rsa) },
                  { "{\"alg\":\"ES256\",\"kid\":\"e1\"}", by(SIGN_EC, "SHA256", ec) },
                  { "{\"alg\":\"EdDSA\",\"kid\":\"d1\"}", by(SIGN_ED, NULL, ed) } };

    for (size_t k = 0; k < SL_COUNT_OF(kinds); k++) {
        char *token = make(kinds[k].header, CLAIMS, &kinds[k].s);
        size_t dot = (size_t)(strrchr(token, '.') - token), len = strlen(token);

        check_good(a, sl_strdup(token));
        check_bad(a, sl_strndup(token, dot + 1), "not signed");
        check_bad(a, sl_strndup(token, dot), "");
        for (size_t cut = dot + 2; cut < len; cut += 5)
            check_bad(a, sl_strndup(token, cut), "");
        for (size_t at = dot + 1; at < len; at += 7) { /* one character changed */
            char *copy = sl_strdup(token);

            copy[at] = copy[at] == 'A' ? 'B' : 'A';
            check_bad(a, copy, "");
        }
        sl_free(token);
    }
    access_destroy(a);
}

static void test_changed_claims(void **state)
{
    access_control *a = open_secret(NULL);
    signer s = hs();
    char *token = make("{\"alg\":\"HS256\"}", CLAIMS, &s), *tail = strrchr(token, '.');
    sl_buf b;

    sl_buf_init(&b, 8192);
    base64url_put(&b, "{\"alg\":\"HS256\"}", 15);
    sl_buf_putc(&b, '.');
    base64url_put(&b, CLAIMS " ", sizeof CLAIMS);
    sl_buf_puts(&b, tail);
    check_bad(a, sl_buf_steal(&b), "signature is wrong");
    s.secret_len--;
    check_bad(a, make("{\"alg\":\"HS256\"}", CLAIMS, &s), "signature is wrong");
    sl_free(token);
    access_destroy(a);
}

static void test_form(void **state)
{
    access_control *a = open_secret(NULL);
    signer s = hs();
    char *token = make("{\"alg\":\"HS256\"}", CLAIMS, &s), *big;
    size_t len = strlen(token);
    sl_buf b;

    sl_buf_init(&b, 1 << 20);
    sl_buf_printf(&b, "%s=", token); /* padding */
    check_bad(a, sl_buf_steal(&b), "malformed");
    sl_buf_init(&b, 1 << 20);
    sl_buf_printf(&b, "%s.AAAA", token);
    check_bad(a, sl_buf_steal(&b), "three parts");
    /* The last character of a digest carries two bits that must be zero. */
    big = sl_strdup(token);
    big[len - 1] = big[len - 1] == 'A' ? 'B' : (char)(big[len - 1] + 1);
    check_bad(a, big, "");
    check_bad(a, sl_strdup("eyJ..x"), "");
    check_bad(a, sl_strdup("ey.."), "");
    check_bad(a, sl_strdup("eyJhbGciOiJIUzI1NiJ9.e30.AAAA"), "issuer");
    big = sl_malloc(20001);
    memset(big, 'a', 20000);
    big[20000] = '\0';
    sl_buf_init(&b, 1 << 20);
    sl_buf_printf(&b,
                  "{\"exp\":2000000100,\"iss\":\"" ISS "\",\"aud\":\"" AUD
                  "\",\"sub\":\"a\",\"x\":\"%s\"}",
                  big);
    check_bad(a, make("{\"alg\":\"HS256\"}", b.ptr, &s), "too long");
    sl_buf_deinit(&b);
    sl_free(big);
    sl_free(token);
    access_destroy(a);
}

/* ---- what claims give ---------------------------------------------------------------------- */

static sl_status caller_of(access_control *a, const char *claims, llm_caller **ret, sl_err *err)
{
    signer s = hs();
    sl_buf b;
    char *token;

    sl_buf_init(&b, 8192);
    sl_buf_printf(&b,
                  "{\"exp\":2000000100,\"iss\":\"" ISS "\",\"aud\":\"" AUD "\",\"sub\":\"a\",%s}",
                  claims);
    token = make("{\"alg\":\"HS256\"}", b.ptr, &s);
    sl_buf_deinit(&b);
    return judge(a, token, ret, err);
}

static void test_mapping(void **state)
{
    static const access_role_map roles[] = { { "llm-admins", "admin" }, { "staff", "operator" } };
    const access_issuer o = { .claims = { .name = "email",
                                          .role = "realm_access.roles",
                                          .team = "https://x.example/team",
                                          .models = "models",
                                          .scopes = "scope",
                                          .tpm = "limits.tpm",
                                          .budget_usd = "usd" },
                              .roles = roles,
                              .role_count = 2 };
    access_control *a = open_secret(&o);
    llm_caller *c, *again;
    sl_err err;

    assert_int_equal(caller_of(a,
                               "\"email\":\"a@b.c\",\"realm_access\":{\"roles\":[\"x\",\"staff\","
                               "\"llm-admins\"]},\"https://x.example/team\":\"red\","
                               "\"models\":[\"m1\",\"m2*\"],\"scope\":\"generate keys.manage\","
                               "\"limits\":{\"tpm\":500},\"usd\":0.5",
                               &c, &err),
                     SL_OK);
    assert_string_equal(c->name, "a@b.c");
    assert_memory_equal(c->id, "jwt_", 4);
    assert_string_equal(c->role, "admin");
    assert_string_equal(c->team, "red");
    assert_int_equal(c->permissions, LLM_MAY_GENERATE | LLM_MAY_KEYS_MANAGE);
    assert_true(llm_caller_may_use(c, "m2x"));
    assert_false(llm_caller_may_use(c, "m3"));
    assert_int_equal(c->limits[LLM_SUBJECT_KEY].tpm, 500);
    assert_int_equal(c->limits[LLM_SUBJECT_KEY].budget_nusd, 500000000);
    /* The same subject is the same caller for limits, whatever else its token says. */
    assert_int_equal(
        caller_of(a, "\"realm_access\":{\"roles\":[\"staff\"]},\"models\":[]", &again, &err),
        SL_OK);
    assert_string_equal(c->id, again->id);
    assert_string_equal(again->role, "operator");
    assert_false(llm_caller_may_use(again, "m1")); /* an empty list allows none */
    llm_caller_unref(c);
    llm_caller_unref(again);
    /* A role is mapped: who has none here does not come in. */
    assert_int_equal(caller_of(a, "\"realm_access\":{\"roles\":[\"x\"]}", &c, &err), SL_EFORBIDDEN);
    assert_int_equal(caller_of(a, "\"x\":1", &c, &err), SL_EFORBIDDEN);
    assert_int_equal(caller_of(a, "\"realm_access\":{\"roles\":[\"admin\"]}", &c, &err),
                     SL_EFORBIDDEN);
    /* What limits must not be misread as "no limit". */
    assert_int_equal(
        caller_of(a, "\"realm_access\":{\"roles\":\"staff\"},\"limits\":{\"tpm\":\"5\"}", &c, &err),
        SL_EAUTH);
    assert_int_equal(
        caller_of(a, "\"realm_access\":{\"roles\":\"staff\"},\"limits\":{\"tpm\":0}", &c, &err),
        SL_EAUTH);
    assert_int_equal(caller_of(a, "\"realm_access\":{\"roles\":\"staff\"},\"models\":7", &c, &err),
                     SL_EAUTH);
    access_destroy(a);
}

/* Without a mapping no claim gives a role: a token cannot make itself an administrator. */
static void test_no_mapping(void **state)
{
    access_control *a = open_secret(NULL);
    llm_caller *c;
    sl_err err;

    assert_int_equal(caller_of(a, "\"role\":\"admin\",\"roles\":[\"admin\"]", &c, &err), SL_OK);
    assert_string_equal(c->role, "member");
    assert_int_equal(c->permissions & LLM_MAY_ADMIN, 0);
    llm_caller_unref(c);
    access_destroy(a);
}

static void write_file(const char *path, const char *text)
{
    sl_err err;

    assert_int_equal(sl_file_write_atomic(path, sl_span_str(text), &err), SL_OK);
}

/* A token names a key that is not there: "try again" while the set is read, then it is known. */
static void test_keys_are_fetched(void **state)
{
    static const char *const algorithms[] = { "RS256", "ES384" };
    char path[] = "/tmp/sluice-jwks-XXXXXX";
    access_issuer o = { .issuer = ISS,
                        .audience = AUD,
                        .jwks_file = path,
                        .algorithms = algorithms,
                        .algorithm_count = 2,
                        .refresh_floor_s = 3600 };
    signer s384 = by(SIGN_EC, "SHA384", ec384), pkcs = by(SIGN_PKCS1, "SHA256", rsa);
    access_control *a = NULL;
    llm_caller *c;
    sl_status status;
    sl_err err = { 0 };
    sl_buf b;

    close(mkstemp(path));
    sl_buf_init(&b, 8192);
    sl_buf_puts(&b, "{\"keys\":[");
    put_rsa(&b, "r1", "");
    sl_buf_puts(&b, "]}");
    write_file(path, b.ptr);
    assert_int_equal(access_open(&(access_options){ .issuers = &o, .issuer_count = 1 }, &a, &err),
                     SL_OK);
    check_good(a, make("{\"alg\":\"RS256\",\"kid\":\"r1\"}", CLAIMS, &pkcs));
    write_file(path, jwks);
    /* Not yet: the last try is too near. */
    check_bad(a, make("{\"alg\":\"ES384\",\"kid\":\"e3\"}", CLAIMS, &s384), "key is not known");
    pthread_mutex_lock(&a->issuers[0]->mutex);
    a->issuers[0]->tried_ms -= 3600 * 1000;
    pthread_mutex_unlock(&a->issuers[0]->mutex);
    while ((status = judge(a, make("{\"alg\":\"ES384\",\"kid\":\"e3\"}", CLAIMS, &s384), &c,
                           &err)) == SL_EBUSY)
        sched_yield();
    if (status != SL_OK)
        fail_msg("%s", err.text);
    llm_caller_unref(c);
    access_destroy(a);
    unlink(path);
    sl_buf_deinit(&b);
}

/* A token that was verified before is remembered, but not beyond its end. */
static void test_remembered(void **state)
{
    access_control *a = open_secret(NULL);
    access_request r = { .now_ms = NOW * 1000 };
    signer s = hs();
    char *token = make("{\"alg\":\"HS256\"}", CLAIMS, &s);
    llm_caller *c, *again;
    sl_err err;

    r.x_api_key = token;
    assert_int_equal(access_judge(a, &r, &c, &err), SL_OK);
    assert_int_equal(access_judge(a, &r, &again, &err), SL_OK);
    assert_ptr_equal(c, again);
    llm_caller_unref(again);
    r.now_ms = (NOW + 129) * 1000;
    assert_int_equal(access_judge(a, &r, &again, &err), SL_OK);
    llm_caller_unref(again);
    r.now_ms = (NOW + 130) * 1000;
    assert_int_equal(access_judge(a, &r, &again, &err), SL_EAUTH);
    access_destroy(a);
    assert_memory_equal(c->id, "jwt_", 4); /* who holds a caller keeps it */
    llm_caller_unref(c);
    sl_free(token);
}

static void test_base64url(void **state)
{
    unsigned char out[16];
    size_t len;
    sl_buf b;

    assert_true(base64url_decode("AQID", 4, out, &len));
    assert_int_equal(len, 3);
    assert_true(base64url_decode("AQI", 3, out, &len));
    assert_true(base64url_decode("AQ", 2, out, &len));
    assert_true(base64url_decode("", 0, out, &len));
    assert_false(base64url_decode("A", 1, out, &len));
    assert_false(base64url_decode("AR", 2, out, &len)); /* unused bits */
    assert_false(base64url_decode("AQJ", 3, out, &len));
    assert_false(base64url_decode("AQ==", 4, out, &len));
    assert_false(base64url_decode("A+/A", 4, out, &len));
    assert_false(base64url_decode("AQ D", 4, out, &len));
    assert_false(base64url_decode("AQ\0D", 4, out, &len));
    sl_buf_init(&b, 64);
    base64url_put(&b, "\xff\xfe\xfd\xfc", 4);
    assert_string_equal(b.ptr, "__79_A");
    sl_buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64url),
        cmocka_unit_test(test_remembered),
        cmocka_unit_test(test_keys_are_fetched),
        cmocka_unit_test(test_algorithms),
        cmocka_unit_test(test_hmac),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_confusion),
        cmocka_unit_test(test_foreign_keys),
        cmocka_unit_test(test_kid),
        cmocka_unit_test(test_configured_weakly),
        cmocka_unit_test(test_key_sets),
        cmocka_unit_test(test_wrong_curve),
        cmocka_unit_test(test_key_algorithm),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_signature_cut),
        cmocka_unit_test(test_changed_claims),
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_mapping),
        cmocka_unit_test(test_no_mapping),
    };

    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
