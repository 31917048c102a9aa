/* tests_jwt.c - see the header. */
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

EVP_PKEY *rsa, *ec, *ec384, *ed;
char jwks[8192];

/* ---- making tokens ------------------------------------------------------------------------- */

static void put_signature(const signer *s, sl_buf *out)
{
    unsigned char sig[1024], raw[132] = { 0 };
    size_t len = sizeof sig,
           half = (size_t)EVP_PKEY_get_bits(s->key) / 8 + (EVP_PKEY_get_bits(s->key) % 8 != 0);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_PKEY_CTX *ctx = NULL;
    const EVP_MD *digest = s->kind == SIGN_ED ? NULL : EVP_get_digestbyname(s->digest);

    assert_int_equal(EVP_DigestSignInit(md, &ctx, digest, NULL, s->key), 1);
    if (s->kind == SIGN_PSS) {
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST), 1);
    }
    assert_int_equal(EVP_DigestSign(md, sig, &len, (const unsigned char *)out->ptr, out->len), 1);
    EVP_MD_CTX_free(md);
    if (s->kind == SIGN_EC) { /* DER to r and s side by side */
        const unsigned char *p = sig;
        ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &p, (long)len);

        assert_non_null(pair);
        BN_bn2binpad(ECDSA_SIG_get0_r(pair), raw, (int)half);
        BN_bn2binpad(ECDSA_SIG_get0_s(pair), raw + half, (int)half);
        ECDSA_SIG_free(pair);
        memcpy(sig, raw, len = 2 * half);
    }
    sl_buf_putc(out, '.');
    base64url_put(out, sig, len);
}

/* The caller frees with sl_free. */
char *make(const char *header, const char *claims, const signer *s)
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    sl_buf b;

    sl_buf_init(&b, 1 << 20);
    base64url_put(&b, header, strlen(header));
    sl_buf_putc(&b, '.');
    base64url_put(&b, claims, strlen(claims));
    if (s->kind == SIGN_NOTHING) {
        sl_buf_putc(&b, '.');
    } else if (s->kind == SIGN_HMAC) {
        HMAC(EVP_get_digestbyname(s->digest), s->secret, (int)s->secret_len, (unsigned char *)b.ptr,
             b.len, mac, &len);
        sl_buf_putc(&b, '.');
        base64url_put(&b, mac, len);
    } else {
        put_signature(s, &b);
    }
    return sl_buf_steal(&b);
}

signer hs(void)
{
    return (signer){ SIGN_HMAC, "SHA256", NULL, SECRET, sizeof SECRET - 1 };
}

signer by(sign_kind kind, const char *digest, EVP_PKEY *key)
{
    return (signer){ .kind = kind, .digest = digest, .key = key };
}

static void put_number(sl_buf *out, const char *name, EVP_PKEY *key, const char *param, int width)
{
    BIGNUM *n = NULL;
    unsigned char raw[600];

    assert_int_equal(EVP_PKEY_get_bn_param(key, param, &n), 1);
    if (width == 0)
        width = BN_num_bytes(n);
    assert_int_equal(BN_bn2binpad(n, raw, width), width);
    BN_free(n);
    sl_buf_printf(out, ",\"%s\":\"", name);
    base64url_put(out, raw, (size_t)width);
    sl_buf_putc(out, '"');
}

void put_rsa(sl_buf *out, const char *kid, const char *more)
{
    sl_buf_printf(out, "{\"kty\":\"RSA\",\"kid\":\"%s\"%s", kid, more);
    put_number(out, "n", rsa, OSSL_PKEY_PARAM_RSA_N, 0);
    put_number(out, "e", rsa, OSSL_PKEY_PARAM_RSA_E, 0);
    sl_buf_putc(out, '}');
}

void put_ec(sl_buf *out, const char *kid, const char *crv, EVP_PKEY *key, int width)
{
    sl_buf_printf(out, "{\"kty\":\"EC\",\"kid\":\"%s\",\"crv\":\"%s\"", kid, crv);
    put_number(out, "x", key, OSSL_PKEY_PARAM_EC_PUB_X, width);
    put_number(out, "y", key, OSSL_PKEY_PARAM_EC_PUB_Y, width);
    sl_buf_putc(out, '}');
}

int make_keys(void **state)
{
    unsigned char raw[32];
    size_t len = sizeof raw;
    sl_buf b;

    rsa = EVP_RSA_gen(2048);
    ec = EVP_EC_gen("P-256");
    ec384 = EVP_EC_gen("P-384");
    ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    assert_true(rsa && ec && ec384 && ed);
    sl_buf_init(&b, sizeof jwks);
    sl_buf_puts(&b, "{\"keys\":[");
    put_rsa(&b, "r1", "");
    sl_buf_putc(&b, ',');
    put_ec(&b, "e1", "P-256", ec, 32);
    sl_buf_putc(&b, ',');
    put_ec(&b, "e3", "P-384", ec384, 48);
    assert_int_equal(EVP_PKEY_get_raw_public_key(ed, raw, &len), 1);
    sl_buf_puts(&b, ",{\"kty\":\"OKP\",\"kid\":\"d1\",\"crv\":\"Ed25519\",\"x\":\"");
    base64url_put(&b, raw, len);
    sl_buf_puts(&b, "\"}]}");
    snprintf(jwks, sizeof jwks, "%s", sl_buf_str(&b));
    sl_buf_deinit(&b);
    return 0;
}

int free_keys(void **state)
{
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ec);
    EVP_PKEY_free(ec384);
    EVP_PKEY_free(ed);
    return 0;
}

/* ---- the gate ------------------------------------------------------------------------------ */

access_control *open_secret(const access_issuer *more)
{
    access_issuer o = more ? *more : (access_issuer){ 0 };
    access_control *a = NULL;
    sl_err err = { 0 };

    o.issuer = ISS;
    o.audience = AUD;
    o.secret = SECRET;
    if (access_open(&(access_options){ .issuers = &o, .issuer_count = 1 }, &a, &err) != SL_OK)
        fail_msg("%s", err.text);
    return a;
}

access_control *open_jwks(const char *text, const char *const *algorithms, size_t count)
{
    char path[] = "/tmp/sluice-jwks-XXXXXX";
    int fd = mkstemp(path);
    const access_issuer o = { .issuer = ISS,
                              .audience = AUD,
                              .jwks_file = path,
                              .algorithms = algorithms,
                              .algorithm_count = count,
                              .refresh_floor_s = 3600 };
    access_control *a = NULL;
    sl_err err = { 0 };

    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    if (access_open(&(access_options){ .issuers = &o, .issuer_count = 1 }, &a, &err) != SL_OK)
        fail_msg("%s", err.text);
    unlink(path);
    return a;
}

/* Frees token. */
sl_status judge(access_control *a, char *token, llm_caller **ret, sl_err *err)
{
    sl_buf b;
    access_request r = { .now_ms = NOW * 1000 };
    sl_status status;

    sl_buf_init(&b, 1 << 20);
    sl_buf_printf(&b, "Bearer %s", token);
    r.authorization = sl_buf_str(&b);
    *ret = NULL;
    status = access_judge(a, &r, ret, err);
    sl_buf_deinit(&b);
    sl_free(token);
    return status;
}

void check_good(access_control *a, char *token)
{
    llm_caller *c;
    sl_err err = { 0 };

    if (judge(a, token, &c, &err) != SL_OK)
        fail_msg("%s", err.text);
    assert_non_null(c);
    llm_caller_unref(c);
}

void check_bad(access_control *a, char *token, const char *why)
{
    llm_caller *c;
    sl_err err = { 0 };
    sl_status status = judge(a, token, &c, &err);

    if (status != SL_EAUTH || c || !strstr(err.text, why))
        fail_msg("expected '%s', got %d '%s'", why, status, err.text);
}
