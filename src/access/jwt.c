/* jwt.c - JSON Web Tokens taken apart, strictly: what is unusual is refused, not interpreted.
 *
 * 1. Three parts of strict base64url, all non-empty; JSON objects without a member named twice.
 * 2. The header may not bring or point to a key (jwk, jku, x5u, x5c), nor ask for extensions (crit,
 *    b64, zip, enc); the algorithm is one of a table that has no "none".
 * 3. kid only ever is compared with the kids of configured key sets; it must look like a plain name
 *    all the same. */
#include "access/access_int.h"

#include "base/mem.h"

#define HEADER_BYTES_MAX 2048
#define KID_BYTES_MAX    256
#define KID_DIGEST_MIN   43 /* SHA-256 */

static const jwt_algorithm algorithms[] = {
    { "HS256", JWT_HMAC, 32, NULL },    { "HS384", JWT_HMAC, 48, NULL },
    { "HS512", JWT_HMAC, 64, NULL },    { "RS256", JWT_RSA, 0, NULL },
    { "RS384", JWT_RSA, 0, NULL },      { "RS512", JWT_RSA, 0, NULL },
    { "PS256", JWT_PSS, 0, NULL },      { "PS384", JWT_PSS, 0, NULL },
    { "PS512", JWT_PSS, 0, NULL },      { "ES256", JWT_EC, 64, "P-256" },
    { "ES384", JWT_EC, 96, "P-384" },   { "ES512", JWT_EC, 132, "P-521" },
    { "EdDSA", JWT_ED, 64, "Ed25519" },
};

const jwt_algorithm *jwt_algorithm_of(const char *name)
{
    for (size_t i = 0; name && i < SL_COUNT_OF(algorithms); i++)
        if (strcmp(algorithms[i].name, name) == 0)
            return &algorithms[i];
    return NULL;
}

static sl_status refuse(sl_err *err, const char *why)
{
    return sl_fail(err, SL_EAUTH, "The token is not valid: %s", why);
}

/* ---- parts --------------------------------------------------------------------------------- */

/* A part as JSON; NULL when it is not an object in strict form. */
static json_t *parse_part(const char *text, size_t len)
{
    unsigned char *bytes = sl_malloc(len + 1);
    json_t *v = NULL;
    size_t n;

    if (bytes && base64url_decode(text, len, bytes, &n))
        v = json_loadb((const char *)bytes, n, JSON_REJECT_DUPLICATES, NULL);
    sl_free(bytes);
    if (v && !json_is_object(v)) {
        json_decref(v);
        v = NULL;
    }
    return v;
}

/* A digest in base64, which may hold slashes: some issuers name their keys so. */
static bool is_digest(const char *kid, size_t len)
{
    return len >= KID_DIGEST_MIN && len <= KID_BYTES_MAX &&
           strspn(kid, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") == len;
}

static bool is_plain_kid(const char *kid)
{
    size_t len = strlen(kid);

    if (is_digest(kid, len))
        return true;
    if (len == 0 || len > KID_BYTES_MAX || strstr(kid, ".."))
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = kid[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              strchr("._-:=+@~", c)))
            return false;
    }
    return true;
}

static sl_status check_typ(const json_t *header, sl_err *err)
{
    const json_t *typ = json_object_get(header, "typ");
    const char *text = json_string_value(typ);

    if (typ && (!text || (strcasecmp(text, "JWT") != 0 && strcasecmp(text, "at+jwt") != 0 &&
                          strcasecmp(text, "application/at+jwt") != 0)))
        return refuse(err, "its type is not JWT");
    return SL_OK;
}

static sl_status check_header(jwt_token *t, sl_err *err)
{
    static const char *const refused[] = { "jku", "jwk", "x5u", "x5c", "crit",
                                           "b64", "zip", "enc", "epk" };
    const json_t *kid = json_object_get(t->header, "kid");
    const char *alg = json_string_value(json_object_get(t->header, "alg"));

    for (size_t i = 0; i < SL_COUNT_OF(refused); i++)
        if (json_object_get(t->header, refused[i]))
            return sl_fail(err, SL_EAUTH, "The token is not valid: '%s' in its header is refused",
                           refused[i]);
    SL_TRY(check_typ(t->header, err));
    t->algorithm = jwt_algorithm_of(alg);
    if (!t->algorithm)
        return refuse(err, "its algorithm is not accepted");
    if (kid && (!json_is_string(kid) || !is_plain_kid(json_string_value(kid))))
        return refuse(err, "its key id is not a plain name");
    t->kid = json_string_value(kid);
    return SL_OK;
}

static sl_status take_parts(const char *text, size_t len, jwt_token *t, sl_err *err)
{
    const char *dot1 = memchr(text, '.', len), *dot2, *end = text + len;
    size_t head = dot1 ? (size_t)(dot1 - text) : 0, rest;

    dot2 = dot1 ? memchr(dot1 + 1, '.', (size_t)(end - dot1 - 1)) : NULL;
    if (!dot2 || memchr(dot2 + 1, '.', (size_t)(end - dot2 - 1)))
        return refuse(err, "it does not have three parts");
    if (head > HEADER_BYTES_MAX)
        return refuse(err, "its header is too long");
    t->header = parse_part(text, head);
    if (!t->header)
        return refuse(err, "its header is not a strict JSON object");
    SL_TRY(check_header(t, err));
    t->claims = parse_part(dot1 + 1, (size_t)(dot2 - dot1 - 1));
    if (!t->claims)
        return refuse(err, "its claims are not a strict JSON object");
    rest = (size_t)(end - dot2 - 1);
    if (rest == 0)
        return refuse(err, "it is not signed");
    if (rest > sizeof t->signature ||
        !base64url_decode(dot2 + 1, rest, t->signature, &t->signature_len))
        return refuse(err, "its signature is malformed");
    t->signed_len = (size_t)(dot2 - text);
    return SL_OK;
}

sl_status jwt_parse(const char *text, size_t len, jwt_token *ret, sl_err *err)
{
    jwt_token t = { 0 };
    sl_status status;

    if (len > SL_JWT_BYTES_MAX)
        return refuse(err, "it is too long");
    status = take_parts(text, len, &t, err);
    if (status == SL_OK)
        *ret = t;
    else
        jwt_deinit(&t);
    return status;
}

void jwt_deinit(jwt_token *t)
{
    json_decref(t->header);
    json_decref(t->claims);
    *t = (jwt_token){ 0 };
}

/* ---- claims -------------------------------------------------------------------------------- */

/* A time claim. False when it is there and is no time. */
static bool take_time(const json_t *claims, const char *name, bool *ret_there, double *ret)
{
    const json_t *v = json_object_get(claims, name);

    *ret_there = v != NULL;
    if (!v)
        return true;
    *ret = json_number_value(v);
    return json_is_number(v) && *ret >= 0 && *ret < 1e11;
}

static bool has_audience(const json_t *claims, const char *audience)
{
    const json_t *aud = json_object_get(claims, "aud"), *v;
    bool found = false;
    size_t i;

    if (json_is_string(aud))
        return strcmp(json_string_value(aud), audience) == 0;
    json_array_foreach(aud, i, v)
    {
        if (!json_is_string(v))
            return false;
        found = found || strcmp(json_string_value(v), audience) == 0;
    }
    return found;
}

sl_status jwt_check_claims(const jwt_token *t, const char *audience, int64_t now_s, int leeway_s,
                           sl_err *err)
{
    double exp = 0, nbf = 0, iat = 0, now = (double)now_s;
    bool has_exp, has_nbf, has_iat;

    if (!take_time(t->claims, "exp", &has_exp, &exp) ||
        !take_time(t->claims, "nbf", &has_nbf, &nbf) ||
        !take_time(t->claims, "iat", &has_iat, &iat))
        return refuse(err, "exp, nbf or iat is not a time");
    if (!has_exp)
        return refuse(err, "it has no exp");
    if (now >= exp + leeway_s)
        return sl_fail(err, SL_EAUTH, "The token has expired");
    if (has_nbf && now + leeway_s < nbf)
        return refuse(err, "it is not valid yet");
    if (has_iat && now + leeway_s < iat)
        return refuse(err, "it was issued in the future");
    if (!has_audience(t->claims, audience))
        return refuse(err, "it is for another audience");
    return SL_OK;
}
