/* fuzz_access_jwt.c - tokens and key sets. The first byte chooses: 'T' a token as it came, 'K' a
 * key set, 'N' a network, 'C' header and claims in two lines, which are signed rightly, so that
 * what follows the signature is reached too. */
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "access/access_int.h"

#define SECRET "0123456789abcdef0123456789abcdef"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static access_control *gate(void)
{
    static access_control *a;
    static const access_role_map roles[] = { { "staff", "operator" }, { "x", "admin" } };
    static const access_issuer o = { .issuer = "i",
                                     .audience = "a",
                                     .secret = SECRET,
                                     .role = "viewer",
                                     .claims = { .name = "name",
                                                 .role = "r.s",
                                                 .team = "team",
                                                 .scopes = "scope",
                                                 .models = "models",
                                                 .rpm = "l.rpm",
                                                 .budget_usd = "usd" },
                                     .roles = roles,
                                     .role_count = 2 };
    sl_err err;

    if (!a)
        SL_ASSERT(access_open(&(access_options){ .issuers = &o, .issuer_count = 1 }, &a, &err) ==
                  SL_OK);
    return a;
}

/* True when the gate let it in. */
static bool knock(const char *token)
{
    const access_request r = { .x_api_key = token, .now_ms = 2000000000000 };
    llm_caller *c = NULL;
    sl_err err = { 0 };
    sl_status status = access_judge(gate(), &r, &c, &err);

    SL_ASSERT((status == SL_OK) == (c != NULL));
    SL_ASSERT(status == SL_OK || err.text[0]);
    llm_caller_unref(c);
    return status == SL_OK;
}

static void try_token(const uint8_t *data, size_t size)
{
    char *text = sl_strndup((const char *)data, size);

    SL_ASSERT(text);
    SL_ASSERT(!knock(text)); /* nobody guesses a signature */
    sl_free(text);
}

static void try_claims(const uint8_t *data, size_t size)
{
    const uint8_t *line = memchr(data, '\n', size);
    size_t head = line ? (size_t)(line - data) : size;
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    sl_buf b;

    sl_buf_init(&b, SL_MIB);
    base64url_put(&b, data, head);
    sl_buf_putc(&b, '.');
    if (line)
        base64url_put(&b, line + 1, size - head - 1);
    HMAC(EVP_sha256(), SECRET, sizeof SECRET - 1, (unsigned char *)b.ptr, b.len, mac, &len);
    sl_buf_putc(&b, '.');
    base64url_put(&b, mac, len);
    if (!b.failed)
        knock(b.ptr);
    sl_buf_deinit(&b);
}

static void try_keys(const uint8_t *data, size_t size)
{
    static const char token[] = "eyJhbGciOiJFUzI1NiJ9.e30."
                                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
                                "AAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    keyset *k = NULL;
    jwt_token t;
    bool known;
    sl_err err = { 0 };

    if (keyset_parse((const char *)data, size, &k, &err) != SL_OK) {
        SL_ASSERT(err.text[0]);
        return;
    }
    if (jwt_parse(token, sizeof token - 1, &t, &err) == SL_OK) {
        SL_ASSERT(!keyset_verify(k, &t, token, &known));
        jwt_deinit(&t);
    }
    keyset_unref(k);
}

static void try_network(const uint8_t *data, size_t size)
{
    char *text = sl_strndup((const char *)data, size);
    access_network n;

    SL_ASSERT(text);
    if (network_parse(text, &n)) {
        SL_ASSERT(n.bits >= 0 && n.bits <= 128);
        text[strcspn(text, "/")] = '\0';
        SL_ASSERT(network_has(&n, 1, text));
    }
    sl_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 64 * SL_KIB)
        return 0;
    if (data[0] == 'T')
        try_token(data + 1, size - 1);
    else if (data[0] == 'K')
        try_keys(data + 1, size - 1);
    else if (data[0] == 'N')
        try_network(data + 1, size - 1);
    else
        try_claims(data + 1, size - 1);
    return 0;
}
