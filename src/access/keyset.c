/* keyset.c - JSON Web Key Sets and signatures. cjose verifies HS, RS, PS and ES; OpenSSL Ed25519,
 * which cjose does not know. Which key may verify what is decided here, before either is asked:
 * family, curve, size and the key's own `alg`, `use` and `key_ops` must all fit, so that no library
 * ever sees a token whose algorithm and key disagree. */
#include "access/access_int.h"

#include <cjose/cjose.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "base/mem.h"

#define RSA_BYTES_MIN 256 /* 2,048 bits */
#define RSA_BYTES_MAX 1024
#define EXPONENT_MAX  8
#define CURVE_MAX     66

typedef enum key_type { KEY_OCT, KEY_RSA, KEY_EC, KEY_OKP } key_type;

typedef struct set_key {
    key_type type;
    char kid[257];    /* "" when it has none */
    char alg[8];      /* the only one it may be used with; "" when it does not say */
    char curve[8];    /* EC, OKP */
    size_t bytes;     /* of the modulus or the secret */
    cjose_jwk_t *jwk; /* all but OKP; read-only once made */
    EVP_PKEY *ed;
} set_key;

struct keyset {
    atomic_int refs;
    size_t count;
    set_key keys[SL_JWKS_KEYS_MAX];
};

/* ---- life ---------------------------------------------------------------------------------- */

static keyset *keyset_new(void)
{
    keyset *k = sl_calloc(1, sizeof *k);

    if (k)
        atomic_init(&k->refs, 1);
    return k;
}

keyset *keyset_ref(keyset *k)
{
    if (k)
        atomic_fetch_add(&k->refs, 1);
    return k;
}

void keyset_unref(keyset *k)
{
    if (!k || atomic_fetch_sub(&k->refs, 1) != 1)
        return;
    for (size_t i = 0; i < k->count; i++) {
        cjose_jwk_release(k->keys[i].jwk);
        EVP_PKEY_free(k->keys[i].ed);
    }
    sl_free(k);
}

sl_status keyset_of_secret(const void *bytes, size_t len, keyset **ret, sl_err *err)
{
    keyset *k = keyset_new();
    cjose_err why;

    if (!k)
        return sl_fail(err, SL_ENOMEM, "key set");
    k->keys[0] = (set_key){ .type = KEY_OCT, .bytes = len };
    k->keys[0].jwk = cjose_jwk_create_oct_spec(bytes, len, &why);
    k->count = 1;
    if (!k->keys[0].jwk) {
        keyset_unref(k);
        return sl_fail(err, SL_ENOMEM, "key set");
    }
    *ret = k;
    return SL_OK;
}

/* ---- parsing ------------------------------------------------------------------------------- */

/* Decodes a member of at most max bytes; 0 when absent or malformed. */
static size_t take_bytes(const json_t *jwk, const char *name, unsigned char *ret, size_t max)
{
    const json_t *v = json_object_get(jwk, name);
    size_t len = json_string_length(v), n = 0;

    if (len == 0 || len > max * 4 / 3 + 2 || !base64url_decode(json_string_value(v), len, ret, &n))
        return 0;
    return n <= max ? n : 0;
}

static bool take_text(const json_t *jwk, const char *name, char *ret, size_t size)
{
    const json_t *v = json_object_get(jwk, name);

    if (!v)
        return true;
    if (!json_is_string(v) || json_string_length(v) >= size)
        return false;
    memcpy(ret, json_string_value(v), json_string_length(v) + 1);
    return true;
}

static bool may_verify(const json_t *jwk)
{
    const json_t *use = json_object_get(jwk, "use"), *ops = json_object_get(jwk, "key_ops"), *v;
    bool verify = !ops;
    size_t i;

    json_array_foreach(ops, i, v) verify =
        verify || (json_is_string(v) && strcmp(json_string_value(v), "verify") == 0);
    return verify && (!use || (json_is_string(use) && strcmp(json_string_value(use), "sig") == 0));
}

/* A key of only the named public members. NULL when cjose does not take it. */
static cjose_jwk_t *import_public(const json_t *jwk, const char *const *names, size_t count)
{
    json_t *copy = json_object();
    cjose_jwk_t *key = NULL;
    cjose_err why;
    char *text;

    for (size_t i = 0; i < count; i++)
        json_object_set(copy, names[i], json_object_get(jwk, names[i]));
    text = json_dumps(copy, JSON_COMPACT);
    if (text)
        key = cjose_jwk_import(text, strlen(text), &why);
    free(text);
    json_decref(copy);
    return key;
}

static bool parse_rsa(const json_t *jwk, set_key *k)
{
    static const char *const names[] = { "kty", "n", "e" };
    unsigned char n[RSA_BYTES_MAX + 8], e[EXPONENT_MAX + 8];
    size_t e_len = take_bytes(jwk, "e", e, EXPONENT_MAX);

    k->bytes = take_bytes(jwk, "n", n, RSA_BYTES_MAX);
    if (k->bytes < RSA_BYTES_MIN || n[0] == 0 || e_len == 0 || !(e[e_len - 1] & 1) ||
        (e_len == 1 && e[0] < 3))
        return false;
    k->type = KEY_RSA;
    k->jwk = import_public(jwk, names, SL_COUNT_OF(names));
    return k->jwk != NULL;
}

static bool parse_ec(const json_t *jwk, set_key *k)
{
    static const char *const names[] = { "kty", "crv", "x", "y" };
    unsigned char bytes[CURVE_MAX + 8];
    size_t need = strcmp(k->curve, "P-256") == 0   ? 32
                  : strcmp(k->curve, "P-384") == 0 ? 48
                  : strcmp(k->curve, "P-521") == 0 ? 66
                                                   : 0;

    if (need == 0 || take_bytes(jwk, "x", bytes, CURVE_MAX) != need ||
        take_bytes(jwk, "y", bytes, CURVE_MAX) != need)
        return false;
    k->type = KEY_EC;
    k->jwk = import_public(jwk, names, SL_COUNT_OF(names)); /* refuses points off the curve */
    return k->jwk != NULL;
}

static bool parse_okp(const json_t *jwk, set_key *k)
{
    unsigned char x[32 + 8];

    if (strcmp(k->curve, "Ed25519") != 0 || take_bytes(jwk, "x", x, 32) != 32)
        return false;
    k->type = KEY_OKP;
    k->ed = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x, 32);
    return k->ed != NULL;
}

/* False: a key that cannot verify tokens here. Symmetric keys do not belong in a key set. */
static bool parse_key(const json_t *jwk, set_key *k)
{
    const char *kty = json_string_value(json_object_get(jwk, "kty"));

    if (!kty || !may_verify(jwk) || !take_text(jwk, "kid", k->kid, sizeof k->kid) ||
        !take_text(jwk, "alg", k->alg, sizeof k->alg) ||
        !take_text(jwk, "crv", k->curve, sizeof k->curve))
        return false;
    if (strcmp(kty, "RSA") == 0)
        return parse_rsa(jwk, k);
    if (strcmp(kty, "EC") == 0)
        return parse_ec(jwk, k);
    return strcmp(kty, "OKP") == 0 && parse_okp(jwk, k);
}

sl_status keyset_parse(const char *json, size_t len, keyset **ret, sl_err *err)
{
    json_t *root =
        len <= SL_JWKS_BYTES_MAX ? json_loadb(json, len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    json_t *list = json_object_get(root, "keys"), *jwk;
    keyset *k = json_is_array(list) ? keyset_new() : NULL;
    size_t i;

    if (!k) {
        json_decref(root);
        return sl_fail(err, SL_EFORMAT, "not a JSON Web Key Set");
    }
    json_array_foreach(list, i, jwk)
    {
        set_key one = { 0 };

        if (k->count < SL_JWKS_KEYS_MAX && parse_key(jwk, &one))
            k->keys[k->count++] = one;
    }
    json_decref(root);
    if (k->count == 0) {
        keyset_unref(k);
        return sl_fail(err, SL_EFORMAT, "the key set has no key that can verify tokens");
    }
    *ret = k;
    return SL_OK;
}

/* ---- verifying ----------------------------------------------------------------------------- */

static bool fits(const set_key *k, const jwt_token *t)
{
    const jwt_algorithm *alg = t->algorithm;
    bool is_oct = k->type == KEY_OCT;

    if (k->alg[0] && strcmp(k->alg, alg->name) != 0)
        return false;
    if (t->kid && !is_oct && strcmp(k->kid, t->kid) != 0)
        return false;
    switch (alg->family) {
    case JWT_HMAC:
        return is_oct && k->bytes >= alg->signature_bytes;
    case JWT_RSA:
    case JWT_PSS:
        return k->type == KEY_RSA;
    case JWT_EC:
        return k->type == KEY_EC && strcmp(k->curve, alg->curve) == 0;
    case JWT_ED:
        return k->type == KEY_OKP && strcmp(k->curve, alg->curve) == 0;
    default:
        return false;
    }
}

static bool verify_ed(const set_key *k, const jwt_token *t, const char *text)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md && EVP_DigestVerifyInit(md, NULL, NULL, NULL, k->ed) == 1 &&
              EVP_DigestVerify(md, t->signature, t->signature_len, (const unsigned char *)text,
                               t->signed_len) == 1;

    EVP_MD_CTX_free(md);
    return ok;
}

static bool verify_cjose(const set_key *k, const char *text, size_t len)
{
    cjose_err why;
    cjose_jws_t *jws = cjose_jws_import(text, len, &why);
    bool ok = jws && cjose_jws_verify(jws, k->jwk, &why);

    cjose_jws_release(jws);
    return ok;
}

bool keyset_verify(keyset *k, const jwt_token *t, const char *text, bool *ret_known)
{
    const set_key *key = NULL;
    size_t want;

    *ret_known = false;
    for (size_t i = 0; k && i < k->count; i++) {
        if (!fits(&k->keys[i], t))
            continue;
        if (key)
            return false; /* without a kid there must be one choice */
        key = &k->keys[i];
    }
    if (!key)
        return false;
    *ret_known = true;
    want = t->algorithm->signature_bytes ? t->algorithm->signature_bytes : key->bytes;
    if (t->signature_len != want)
        return false;
    if (key->type == KEY_OKP)
        return verify_ed(key, t, text);
    return verify_cjose(key, text, strlen(text));
}
