/* token.c - from a token to its caller. Tokens that were verified lately are remembered by their
 * digest, so that a signature costs its fifty microseconds once and not per request. */
#include "access/issuer.h"

#include <math.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

#define SUBJECT_BYTES_MAX 256

/* ---- tokens verified lately ---------------------------------------------------------------- */

typedef struct cached {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    llm_caller *caller; /* NULL: empty */
    issuer *from;       /* lives as long as the cache */
    int64_t keys_generation, index_generation;
    double expires_s; /* leeway included */
} cached;

struct token_cache {
    pthread_mutex_t mutex; /* entries */
    cached entries[SL_JWT_CACHED_MAX];
};

token_cache *token_cache_create(void)
{
    token_cache *c = sl_calloc(1, sizeof *c);

    if (c)
        pthread_mutex_init(&c->mutex, NULL);
    return c;
}

void token_cache_destroy(token_cache *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < SL_JWT_CACHED_MAX; i++)
        llm_caller_unref(c->entries[i].caller);
    pthread_mutex_destroy(&c->mutex);
    sl_free(c);
}

static cached *place_of(token_cache *c, const unsigned char *digest)
{
    uint32_t v;

    memcpy(&v, digest, sizeof v);
    return &c->entries[v % SL_JWT_CACHED_MAX];
}

/* A reference, or NULL. The generations must still be what they were. */
static llm_caller *recall(token_cache *c, const unsigned char *digest, int64_t index_generation,
                          int64_t now_s)
{
    cached *e = place_of(c, digest);
    llm_caller *found = NULL;
    issuer *from = NULL;
    int64_t generation = 0, now_generation = -1;

    pthread_mutex_lock(&c->mutex);
    if (e->caller && CRYPTO_memcmp(e->digest, digest, sizeof e->digest) == 0 &&
        e->index_generation == index_generation && (double)now_s < e->expires_s) {
        found = llm_caller_ref(e->caller);
        from = e->from;
        generation = e->keys_generation;
    }
    pthread_mutex_unlock(&c->mutex);
    if (found) {
        pthread_mutex_lock(&from->mutex);
        now_generation = from->generation;
        pthread_mutex_unlock(&from->mutex);
    }
    if (found && generation != now_generation) {
        llm_caller_unref(found);
        found = NULL;
    }
    return found;
}

static void remember(token_cache *c, const cached *one)
{
    cached *e = place_of(c, one->digest);
    llm_caller *old;

    pthread_mutex_lock(&c->mutex);
    old = e->caller;
    *e = *one;
    llm_caller_ref(e->caller);
    pthread_mutex_unlock(&c->mutex);
    llm_caller_unref(old);
}

/* ---- claims -------------------------------------------------------------------------------- */

/* A claim by its name, or by a path of names with dots. */
static json_t *find_claim(json_t *claims, const char *path)
{
    json_t *v = json_object_get(claims, path);
    char name[128];

    while (!v && path[0] && json_is_object(claims)) {
        size_t len = strcspn(path, ".");

        if (len >= sizeof name)
            return NULL;
        memcpy(name, path, len);
        name[len] = '\0';
        claims = json_object_get(claims, name);
        path += len;
        if (!path[0])
            return claims;
        path++;
        v = json_object_get(claims, path);
    }
    return v;
}

static sl_status refuse_claim(sl_err *err, const char *claim)
{
    return sl_fail(err, SL_EAUTH, "The token is not valid: its claim '%.60s' has a wrong form",
                   claim);
}

/* A text, texts in an array, or words in a text, as an array of texts. *ret NULL when absent. */
static sl_status take_words(json_t *claims, const char *claim, json_t **ret, sl_err *err)
{
    json_t *v = claim ? find_claim(claims, claim) : NULL, *list, *one;
    size_t i;
    bool ok = true;

    *ret = NULL;
    if (!v)
        return SL_OK;
    list = json_array();
    if (json_is_string(v)) {
        for (const char *at = json_string_value(v); *at;) {
            size_t len = strcspn(at, " ");

            if (len > 0)
                json_array_append_new(list, json_stringn(at, len));
            at += len + strspn(at + len, " ");
        }
    } else {
        ok = json_is_array(v);
        json_array_foreach(v, i, one)
        {
            ok = ok && json_is_string(one);
            json_array_append(list, one);
        }
    }
    if (!ok || json_array_size(list) > SL_ACCESS_LIST_MAX) {
        json_decref(list);
        return refuse_claim(err, claim);
    }
    *ret = list;
    return SL_OK;
}

/* Short text of a claim for names; NULL when absent. */
static sl_status take_name(json_t *claims, const char *claim, const char **ret, sl_err *err)
{
    const json_t *v = claim ? find_claim(claims, claim) : NULL;
    const char *text = json_string_value(v);

    if (!v)
        return SL_OK;
    if (!text || !text[0] || strlen(text) > SL_ACCESS_NAME_BYTES_MAX)
        return refuse_claim(err, claim);
    for (const char *at = text; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            return refuse_claim(err, claim);
    *ret = text;
    return SL_OK;
}

static sl_status take_limits(json_t *claims, const access_claims *names, llm_limits *ret,
                             sl_err *err)
{
    const struct {
        const char *claim;
        int64_t *to;
        double unit;
    } table[] = { { names->rpm, &ret->rpm, 1 },
                  { names->rpd, &ret->rpd, 1 },
                  { names->tpm, &ret->tpm, 1 },
                  { names->tpd, &ret->tpd, 1 },
                  { names->concurrency, &ret->concurrency, 1 },
                  { names->request_tokens, &ret->request_tokens, 1 },
                  { names->budget_usd, &ret->budget_nusd, 1e9 } };

    for (size_t i = 0; i < SL_COUNT_OF(table); i++) {
        const json_t *v = table[i].claim ? find_claim(claims, table[i].claim) : NULL;
        double n = json_number_value(v) * table[i].unit;

        if (!v)
            continue;
        if (!json_is_number(v) || !(n >= 1) || n > 9e18) /* 0 would mean: no limit */
            return refuse_claim(err, table[i].claim);
        *table[i].to = (int64_t)n;
    }
    return SL_OK;
}

static sl_status take_role(const issuer *i, json_t *claims, const char **ret, sl_err *err)
{
    json_t *words, *v;
    const char *best = NULL;
    size_t n;

    SL_TRY(take_words(claims, i->claims.role, &words, err));
    json_array_foreach(words, n, v)
    {
        const char *word = json_string_value(v);

        for (size_t r = 0; r < i->role_count; r++)
            if (strcmp(i->roles[r].value, word) == 0)
                best = role_higher(best, i->roles[r].role);
        if (i->role_count == 0 && role_permissions(word))
            best = role_higher(best, word);
    }
    if (best) { /* words goes; the text of a claim stays with claims, that of a map with the issuer
                 */
        static const char *const kept[] = { "viewer", "member", "operator", "admin" };

        for (n = 0; n < SL_COUNT_OF(kept); n++)
            if (strcmp(kept[n], best) == 0)
                best = kept[n];
    }
    json_decref(words);
    if (!best)
        best = i->role ? i->role : i->claims.role ? NULL : "member";
    if (!best)
        return sl_fail(err, SL_EFORBIDDEN, "The token gives no role on this server");
    *ret = best;
    return SL_OK;
}

/* ---- callers ------------------------------------------------------------------------------- */

static sl_status take_scopes(const issuer *i, json_t *claims, uint32_t *permissions, sl_err *err)
{
    json_t *words, *v;
    uint32_t some = 0;
    size_t n;

    SL_TRY(take_words(claims, i->claims.scopes, &words, err));
    json_array_foreach(words, n, v) some |= llm_permission_of(json_string_value(v));
    if (words)
        *permissions &= some;
    json_decref(words);
    return SL_OK;
}

/* Models of the claim. One that is there and empty allows none: a name that no model has. */
static sl_status take_models(const issuer *i, json_t *claims, json_t **ret, sl_err *err)
{
    SL_TRY(take_words(claims, i->claims.models, ret, err));
    if (*ret && json_array_size(*ret) == 0)
        json_array_append_new(*ret, json_string(""));
    return SL_OK;
}

static sl_status subject_id(const issuer *i, const char *sub, char ret[ACCESS_ID_BYTES],
                            sl_err *err)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    sl_buf b;

    if (!sub || !sub[0] || strlen(sub) > SUBJECT_BYTES_MAX)
        return refuse_claim(err, "sub");
    sl_buf_init(&b, 16 * SL_KIB);
    sl_buf_puts(&b, i->name);
    sl_buf_putc(&b, '\0');
    sl_buf_puts(&b, sub);
    SHA256((const unsigned char *)sl_buf_str(&b), b.len, digest);
    sl_buf_deinit(&b);
    memcpy(ret, "jwt_", 4);
    sl_hex(digest, 8, ret + 4);
    return SL_OK;
}

static sl_status foreign_caller(const issuer *i, const access_index *ix, json_t *claims,
                                llm_caller **ret, sl_err *err)
{
    char id[ACCESS_ID_BYTES];
    caller_parts p = { .id = id, .name = id, .user = id, .team = "", .role = "" };
    const index_team *team;
    json_t *models = NULL;
    sl_status status;

    SL_TRY(subject_id(i, json_string_value(json_object_get(claims, "sub")), id, err));
    SL_TRY(take_name(claims, i->claims.name, &p.name, err));
    SL_TRY(take_name(claims, i->claims.team, &p.team, err));
    SL_TRY(take_limits(claims, &i->claims, &p.limits[LLM_SUBJECT_KEY], err));
    SL_TRY(take_role(i, claims, &p.role, err));
    p.permissions = role_permissions(p.role);
    SL_TRY(take_scopes(i, claims, &p.permissions, err));
    team = index_find_team(ix, p.team);
    if (team)
        p.limits[LLM_SUBJECT_TEAM] = team->limits;
    status = take_models(i, claims, &models, err);
    if (status == SL_OK) {
        p.models = models ? models : team ? team->models : NULL;
        *ret = caller_create(&p);
        status = *ret ? SL_OK : sl_fail(err, SL_ENOMEM, "Out of memory");
    }
    json_decref(models);
    return status;
}

/* Our own tokens say who; what they may do is looked up. */
static sl_status own_caller(access_control *a, access_index *ix, json_t *claims, llm_caller **ret,
                            sl_err *err)
{
    const char *sub = json_string_value(json_object_get(claims, "sub"));
    const char *sid = json_string_value(json_object_get(claims, "sid"));
    index_user *u = sub ? index_find_user(ix, sub) : NULL;

    if (!u || !sid || session_is_ended(a, sid))
        return sl_fail(err, SL_EAUTH, "The session has ended; log in again");
    *ret = llm_caller_ref(u->caller);
    return SL_OK;
}

/* ---- judging ------------------------------------------------------------------------------- */

static issuer *find_issuer(const access_control *a, const jwt_token *t)
{
    const char *iss = json_string_value(json_object_get(t->claims, "iss"));

    for (size_t n = 0; iss && n < a->issuer_count; n++)
        if (strcmp(a->issuers[n]->name, iss) == 0)
            return a->issuers[n];
    return NULL;
}

static sl_status check_signature(access_control *a, issuer *i, const jwt_token *t, const char *text,
                                 int64_t *ret_generation, sl_err *err)
{
    bool allowed = false, known = false, good;
    keyset *k;

    for (size_t n = 0; n < i->algorithm_count; n++)
        allowed = allowed || i->algorithms[n] == t->algorithm;
    if (!allowed)
        return sl_fail(err, SL_EAUTH, "The token is not valid: its issuer does not use %s",
                       t->algorithm->name);
    k = issuer_keys(i, ret_generation);
    good = keyset_verify(k, t, text, &known);
    keyset_unref(k);
    if (good)
        return SL_OK;
    if (!known && issuer_want_keys(a, i))
        return sl_fail(err, SL_EBUSY, "The issuer's keys are being fetched; try again");
    return sl_fail(err, SL_EAUTH, "The token is not valid: %s",
                   known ? "its signature is wrong" : "its key is not known");
}

static sl_status judge(access_control *a, access_index *ix, const jwt_token *t, const char *text,
                       int64_t now_s, cached *ret, sl_err *err)
{
    issuer *i = find_issuer(a, t);

    if (!i)
        return sl_fail(err, SL_EAUTH, "The token is not valid: its issuer is not known here");
    SL_TRY(check_signature(a, i, t, text, &ret->keys_generation, err));
    SL_TRY(jwt_check_claims(t, i->audience, now_s, i->leeway_s, err));
    ret->from = i;
    ret->expires_s = json_number_value(json_object_get(t->claims, "exp")) + i->leeway_s;
    return i->is_self ? own_caller(a, ix, t->claims, &ret->caller, err)
                      : foreign_caller(i, ix, t->claims, &ret->caller, err);
}

sl_status issuer_judge(access_control *a, const char *text, int64_t now_s, llm_caller **ret,
                       sl_err *err)
{
    access_index *ix = index_ref(a);
    cached one = { .index_generation = ix ? ix->generation : 0 };
    size_t len = strlen(text);
    jwt_token t;
    sl_status status = SL_OK;

    if (len <= SL_JWT_BYTES_MAX)
        SHA256((const unsigned char *)text, len, one.digest);
    *ret =
        len <= SL_JWT_BYTES_MAX ? recall(a->cache, one.digest, one.index_generation, now_s) : NULL;
    if (!*ret) {
        status = jwt_parse(text, len, &t, err);
        if (status == SL_OK) {
            status = judge(a, ix, &t, text, now_s, &one, err);
            jwt_deinit(&t);
        }
        if (status == SL_OK) {
            *ret = one.caller;
            if (!one.from->is_self) /* sessions may end between two changes of the index */
                remember(a->cache, &one);
        }
    }
    index_unref(ix);
    return status;
}
