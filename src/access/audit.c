/* audit.c - what administrators did. Records are chained: each holds SHA-256 of the one before it
 * and of its own fields. The head (last id and hash) is kept apart under an HMAC with the server's
 * secret, so that cutting off the end or writing the whole chain anew is noticed too. */
#include "access/access_int.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#define LIST_MAX 1000

typedef struct head {
    int64_t id;
    unsigned char hash[ACCESS_DIGEST_BYTES], mac[ACCESS_DIGEST_BYTES];
} head;

typedef struct record {
    int64_t id, at_ms;
    const char *actor, *address, *action, *target, *detail;
} record;

static void hash_field(EVP_MD_CTX *md, const char *text)
{
    uint64_t len = strlen(text);
    unsigned char raw[8];

    for (int i = 0; i < 8; i++)
        raw[i] = (unsigned char)(len >> (8 * i));
    EVP_DigestUpdate(md, raw, sizeof raw);
    EVP_DigestUpdate(md, text, len);
}

/* hash: the previous record's in, this one's out. */
static bool chain(const record *r, unsigned char hash[ACCESS_DIGEST_BYTES])
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    char id[24], at[24];

    if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(md);
        return false;
    }
    snprintf(id, sizeof id, "%lld", (long long)r->id);
    snprintf(at, sizeof at, "%lld", (long long)r->at_ms);
    EVP_DigestUpdate(md, hash, ACCESS_DIGEST_BYTES);
    hash_field(md, id);
    hash_field(md, at);
    hash_field(md, r->actor);
    hash_field(md, r->address);
    hash_field(md, r->action);
    hash_field(md, r->target);
    hash_field(md, r->detail);
    EVP_DigestFinal_ex(md, hash, NULL);
    EVP_MD_CTX_free(md);
    return true;
}

static void sign_head(const access_control *a, const head *h, unsigned char *ret_mac)
{
    unsigned char text[32 + ACCESS_DIGEST_BYTES];
    int len = snprintf((char *)text, 32, "%lld:", (long long)h->id);

    memcpy(text + len, h->hash, ACCESS_DIGEST_BYTES);
    secret_hmac(a->secret.audit, text, (size_t)len + ACCESS_DIGEST_BYTES, ret_mac);
}

/* All zero before the first record. */
static sl_status read_head(access_control *a, head *ret, sl_err *err)
{
    store_stmt *st;
    bool row = false;
    sl_status status;

    *ret = (head){ 0 };
    SL_TRY(store_prepare(a->db, "SELECT value FROM meta WHERE name = 'audit_head'", &st, err));
    status = store_step(st, &row, err);
    if (status == SL_OK && row) {
        sl_span bytes = store_bytes(st, 0);

        if (bytes.len == sizeof *ret)
            memcpy(ret, bytes.ptr, sizeof *ret);
        else
            status = sl_fail(err, SL_EFORMAT, "access.db: the audit log's head is damaged");
    }
    store_finish(st);
    return status;
}

sl_status audit_add(access_control *a, const llm_actor *who, const char *action, const char *target,
                    const json_t *detail, sl_err *err)
{
    char *text = detail ? json_dumps(detail, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    record r = { .at_ms = sl_clock_wall_ms(),
                 .actor = who->name ? who->name : "",
                 .address = who->address ? who->address : "",
                 .action = action,
                 .target = target,
                 .detail = text ? text : "{}" };
    head h;
    sl_status status = read_head(a, &h, err);

    r.id = ++h.id;
    if (status == SL_OK && ((detail && !text) || !chain(&r, h.hash)))
        status = sl_fail(err, SL_ENOMEM, "Out of memory");
    if (status == SL_OK)
        status = db_run(a->db, err, "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)", "iisssssb",
                        r.id, r.at_ms, r.actor, r.address, r.action, r.target, r.detail,
                        sl_span_of(h.hash, sizeof h.hash));
    if (status == SL_OK) {
        sign_head(a, &h, h.mac);
        status = db_run(a->db, err, "INSERT OR REPLACE INTO meta VALUES ('audit_head', ?)", "b",
                        sl_span_of(&h, sizeof h));
    }
    free(text);
    return status;
}

static record read_record(store_stmt *st)
{
    return (record){ .id = store_int(st, 0),
                     .at_ms = store_int(st, 1),
                     .actor = store_text(st, 2),
                     .address = store_text(st, 3),
                     .action = store_text(st, 4),
                     .target = store_text(st, 5),
                     .detail = store_text(st, 6) };
}

static json_t *record_json(const record *r, sl_span hash)
{
    char hex[2 * ACCESS_DIGEST_BYTES + 1] = "";

    if (hash.len == ACCESS_DIGEST_BYTES)
        sl_hex(hash.ptr, hash.len, hex);
    return json_pack("{s:s, s:I, s:f, s:s, s:s, s:s, s:s, s:o?, s:s}", "object", "audit.record",
                     "id", (json_int_t)r->id, "at", (double)r->at_ms / 1000, "actor", r->actor,
                     "address", r->address, "action", r->action, "target", r->target, "detail",
                     json_loads(r->detail, 0, NULL), "hash", hex);
}

sl_status audit_list(void *ctx, int64_t after, int64_t limit, json_t **ret, sl_err *err)
{
    access_control *a = ctx;
    json_t *list = json_array();
    store_stmt *st = NULL;
    bool row = list != NULL;
    sl_status status;

    store_lock(a->db);
    status = store_prepare(a->db, "SELECT * FROM audit WHERE id > ? ORDER BY id LIMIT ?", &st, err);
    if (status == SL_OK) {
        store_bind_int(st, 1, after);
        store_bind_int(st, 2, limit > 0 && limit < LIST_MAX ? limit : LIST_MAX);
    }
    while (status == SL_OK && row) {
        status = store_step(st, &row, err);
        if (status == SL_OK && row) {
            record r = read_record(st);

            if (json_array_append_new(list, record_json(&r, store_bytes(st, 7))) != 0)
                status = sl_fail(err, SL_ENOMEM, "Out of memory");
        }
    }
    store_finish(st);
    store_unlock(a->db);
    if (status != SL_OK)
        json_decref(list);
    else
        *ret = list;
    return status;
}

/* What is wrong with the chain, or NULL. *ret_count: records seen; *ret_bad: the id. */
static sl_status walk(access_control *a, store_stmt *st, const head *h, int64_t *ret_count,
                      int64_t *ret_bad, const char **ret_why, sl_err *err)
{
    unsigned char hash[ACCESS_DIGEST_BYTES] = { 0 }, mac[ACCESS_DIGEST_BYTES];
    int64_t last = 0;
    bool row = true;

    *ret_why = NULL;
    for (;;) {
        record r;
        sl_span stored;

        SL_TRY(store_step(st, &row, err));
        if (!row)
            break;
        r = read_record(st);
        stored = store_bytes(st, 7);
        *ret_bad = r.id;
        if (r.id != last + 1)
            *ret_why = "records are missing before this one";
        else if (!chain(&r, hash) || !sl_span_eq(stored, sl_span_of(hash, sizeof hash)))
            *ret_why = "the record does not fit its hash";
        if (*ret_why)
            return SL_OK;
        last = r.id;
        ++*ret_count;
    }
    *ret_bad = h->id;
    sign_head(a, h, mac);
    if (h->id != last || memcmp(h->hash, hash, sizeof hash) != 0)
        *ret_why = "the last records are missing";
    else if (last > 0 && CRYPTO_memcmp(mac, h->mac, sizeof mac) != 0)
        *ret_why = "the head was not written by this server";
    return SL_OK;
}

sl_status audit_verify(void *ctx, json_t **ret, sl_err *err)
{
    access_control *a = ctx;
    store_stmt *st = NULL;
    const char *why = NULL;
    int64_t count = 0, bad = 0;
    head h;
    sl_status status;

    store_lock(a->db);
    status = store_begin_read(a->db, err);
    if (status == SL_OK)
        status = read_head(a, &h, err);
    if (status == SL_OK)
        status = store_prepare(a->db, "SELECT * FROM audit ORDER BY id", &st, err);
    if (status == SL_OK)
        status = walk(a, st, &h, &count, &bad, &why, err);
    store_finish(st);
    store_rollback(a->db);
    store_unlock(a->db);
    if (status != SL_OK)
        return status;
    *ret = json_pack("{s:s, s:b, s:I}", "object", "audit.verification", "valid", !why, "records",
                     (json_int_t)count);
    if (*ret && why) {
        json_object_set_new(*ret, "broken_at", json_integer(bad));
        json_object_set_new(*ret, "reason", json_string(why));
    }
    return *ret ? SL_OK : sl_fail(err, SL_ENOMEM, "Out of memory");
}
