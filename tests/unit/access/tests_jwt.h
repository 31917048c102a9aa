/* tests_jwt.h - makes keys and tokens of every kind, and gates that judge them, for test_jwt.c.
 * Included behind cmocka. */
#ifndef TESTS_JWT_H
#define TESTS_JWT_H

#include <openssl/evp.h>

#include "access/issuer.h"

#define NOW    2000000000LL
#define ISS    "https://issuer.example"
#define AUD    "sluice-test"
#define SECRET "0123456789abcdef0123456789abcdef"
#define CLAIMS                                                                                     \
    "{\"iss\":\"" ISS "\",\"aud\":\"" AUD "\",\"sub\":\"ada\",\"exp\":2000000100,"                 \
    "\"iat\":1999999990}"

extern EVP_PKEY *rsa, *ec, *ec384, *ed;
extern char jwks[8192]; /* all of them */

typedef enum sign_kind {
    SIGN_HMAC,
    SIGN_PKCS1,
    SIGN_PSS,
    SIGN_EC,
    SIGN_ED,
    SIGN_NOTHING
} sign_kind;

typedef struct signer {
    sign_kind kind;
    const char *digest; /* "SHA256" */
    EVP_PKEY *key;
    const void *secret;
    size_t secret_len;
} signer;

/* A token of that header and those claims; the caller's, as judge, check_good and check_bad take
 * it. */
char *make(const char *header, const char *claims, const signer *s);
/* Signers: with SECRET, and with a key. */
signer hs(void);
signer by(sign_kind kind, const char *digest, EVP_PKEY *key);
/* Members of a key set, appended. */
void put_rsa(sl_buf *out, const char *kid, const char *more);
void put_ec(sl_buf *out, const char *kid, const char *crv, EVP_PKEY *key, int width);
/* Set-up and end of the whole group. */
int make_keys(void **state);
int free_keys(void **state);
/* A gate that believes ISS: by SECRET (more: other settings), or by a key set. */
access_control *open_secret(const access_issuer *more);
access_control *open_jwks(const char *text, const char *const *algorithms, size_t count);
/* Release the token. */
sl_status judge(access_control *a, char *token, llm_caller **ret, sl_err *err);
void check_good(access_control *a, char *token);
void check_bad(access_control *a, char *token, const char *why);

#endif
