/* index.c - all that the gate knows, in memory: keys by digest, users by id, teams by name.
 *
 * An index is built whole from one read transaction and never changed after it was put in place;
 * requests that came before keep the one they saw. Only the times of last use are shared between
 * indexes, and they are atomic. */
#include "access/access_int.h"

#include <openssl/crypto.h>
#include <stdlib.h>

#include "base/mem.h"

#define ROW_BYTES_MAX (64 * SL_KIB)
#define SESSION_SLACK 120 /* s; clocks and leeway of our own tokens */

/* ---- last uses ----------------------------------------------------------------------------- */

static access_use *use_create(int64_t used_s)
{
    access_use *u = sl_calloc(1, sizeof *u);

    if (!u)
        return NULL;
    atomic_init(&u->refs, 1);
    atomic_init(&u->used_s, used_s);
    u->written_s = used_s;
    return u;
}

static void use_unref(access_use *u)
{
    if (u && atomic_fetch_sub(&u->refs, 1) == 1)
        sl_free(u);
}

static access_use *use_ref(access_use *u)
{
    atomic_fetch_add(&u->refs, 1);
    return u;
}

/* Keys are sorted by id. */
static index_key *find_key_id(access_index *ix, const char *id)
{
    size_t lo = 0, hi = ix ? ix->key_count : 0;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int order = strcmp(id, ix->keys[mid].caller->id);

        if (order == 0)
            return &ix->keys[mid];
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

/* ---- life ---------------------------------------------------------------------------------- */

void index_unref(access_index *ix)
{
    if (!ix || atomic_fetch_sub(&ix->refs, 1) != 1)
        return;
    for (size_t i = 0; i < ix->key_count; i++) {
        llm_caller_unref(ix->keys[i].caller);
        sl_free(ix->keys[i].networks);
        use_unref(ix->keys[i].use);
    }
    for (size_t i = 0; i < ix->user_count; i++) {
        llm_caller_unref(ix->users[i].caller);
        json_decref(ix->users[i].models);
    }
    for (size_t i = 0; i < ix->team_count; i++) {
        sl_free(ix->teams[i].name);
        json_decref(ix->teams[i].models);
    }
    sl_free(ix->keys);
    sl_free(ix->users);
    sl_free(ix->teams);
    sl_free(ix->slots);
    sl_free(ix);
}

access_index *index_ref(access_control *a)
{
    access_index *ix;

    pthread_mutex_lock(&a->index_lock);
    ix = a->index;
    if (ix)
        atomic_fetch_add(&ix->refs, 1);
    pthread_mutex_unlock(&a->index_lock);
    return ix;
}

/* ---- looking up ---------------------------------------------------------------------------- */

static size_t slot_of(const access_index *ix, const unsigned char *digest)
{
    uint64_t v;

    memcpy(&v, digest, sizeof v);
    return (size_t)v & ix->slot_mask;
}

/* The table's order says nothing about a key's text: digests are keyed. The last comparison is in
 * constant time all the same. */
index_key *index_find_key(access_index *ix, const unsigned char digest[ACCESS_DIGEST_BYTES],
                          bool *ret_old)
{
    if (!ix || !ix->slots)
        return NULL;
    for (size_t at = slot_of(ix, digest); ix->slots[at]; at = (at + 1) & ix->slot_mask) {
        uint32_t slot = ix->slots[at] - 1;
        index_key *k = &ix->keys[slot / 2];
        const unsigned char *have = slot % 2 ? k->old_digest : k->digest;

        if (CRYPTO_memcmp(have, digest, ACCESS_DIGEST_BYTES) == 0) {
            *ret_old = slot % 2;
            return k;
        }
    }
    return NULL;
}

index_user *index_find_user(access_index *ix, const char *id)
{
    size_t lo = 0, hi = ix ? ix->user_count : 0;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int order = strcmp(id, ix->users[mid].caller->id);

        if (order == 0)
            return &ix->users[mid];
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

const index_team *index_find_team(const access_index *ix, const char *name)
{
    size_t lo = 0, hi = ix ? ix->team_count : 0;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int order = strcmp(name, ix->teams[mid].name);

        if (order == 0)
            return &ix->teams[mid];
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

static int compare_ids(const void *a, const void *b)
{
    return strcmp(a, b);
}

bool session_is_ended(access_control *a, const char *id)
{
    bool found;

    pthread_mutex_lock(&a->index_lock);
    found = a->ended_count > 0 &&
            bsearch(id, a->ended, a->ended_count, sizeof a->ended[0], compare_ids);
    pthread_mutex_unlock(&a->index_lock);
    return found;
}

/* ---- building ------------------------------------------------------------------------------ */

/* An array of texts. *ret NULL for an empty one. False when it is anything else. */
static bool load_texts(const char *json, json_t **ret)
{
    json_t *list = json_loads(json, 0, NULL), *v;
    bool ok = json_is_array(list);
    size_t i;

    json_array_foreach(list, i, v) ok = ok && json_is_string(v);
    *ret = NULL;
    if (ok && json_array_size(list) > 0)
        *ret = json_incref(list);
    json_decref(list);
    return ok;
}

static bool load_networks(const char *json, index_key *k)
{
    json_t *list, *v;
    size_t i;
    bool ok = load_texts(json, &list);

    if (ok && list) {
        k->networks = sl_calloc(json_array_size(list), sizeof *k->networks);
        ok = k->networks != NULL;
    }
    if (ok)
        json_array_foreach(list, i, v) ok =
            ok && network_parse(json_string_value(v), &k->networks[k->network_count++]);
    json_decref(list);
    return ok;
}

static bool add_team(access_index *ix, const access_account *r)
{
    index_team t = { .limits = r->limits };

    if (!load_texts(r->models, &t.models))
        return true;
    t.name = sl_strdup(r->name);
    if (!t.name || !sl_grow((void **)&ix->teams, &ix->team_cap, ix->team_count + 1,
                            sizeof *ix->teams, SL_ACCESS_ACCOUNTS_MAX)) {
        sl_free(t.name);
        json_decref(t.models);
        return false;
    }
    ix->teams[ix->team_count++] = t;
    return true;
}

static bool add_user(access_index *ix, const access_account *r)
{
    const index_team *team = index_find_team(ix, r->team);
    index_user u = { 0 };
    caller_parts p = { .id = r->id,
                       .name = r->name,
                       .user = r->name,
                       .team = r->team,
                       .role = r->role,
                       .permissions = account_permissions(r),
                       .limits[LLM_SUBJECT_USER] = r->limits };

    if (r->disabled || !load_texts(r->models, &u.models))
        return true; /* unknown to the gate: refused */
    if (team)
        p.limits[LLM_SUBJECT_TEAM] = team->limits;
    p.models = u.models ? u.models : team ? team->models : NULL;
    u.caller = caller_create(&p);
    if (!u.caller || !sl_grow((void **)&ix->users, &ix->user_cap, ix->user_count + 1,
                              sizeof *ix->users, SL_ACCESS_ACCOUNTS_MAX)) {
        llm_caller_unref(u.caller);
        json_decref(u.models);
        return false;
    }
    ix->users[ix->user_count++] = u;
    return true;
}

static llm_caller *key_caller(access_index *ix, const access_account *r, const index_user *owner,
                              json_t *models)
{
    const char *team_name = r->team[0] ? r->team : owner ? owner->caller->team : "";
    const index_team *team = index_find_team(ix, team_name);
    caller_parts p = { .id = r->id,
                       .name = r->name,
                       .user = r->owner_name,
                       .team = team_name,
                       .role = r->role,
                       .permissions = account_permissions(r),
                       .models = models,
                       .limits[LLM_SUBJECT_KEY] = r->limits };

    if (owner) {
        p.permissions &= owner->caller->permissions;
        p.limits[LLM_SUBJECT_USER] = owner->caller->limits[LLM_SUBJECT_USER];
        p.models = p.models ? p.models : owner->models;
    }
    if (team) {
        p.limits[LLM_SUBJECT_TEAM] = team->limits;
        p.models = p.models ? p.models : team->models;
    }
    return caller_create(&p);
}

static bool add_key(access_index *ix, access_index *old, const access_account *r)
{
    const index_user *owner = r->owner[0] ? index_find_user(ix, r->owner) : NULL;
    index_key *before = find_key_id(old, r->id);
    index_key k = { .expires_s = r->expires_s, .old_until_s = r->old_until_s };
    json_t *models;

    if (r->disabled || (r->owner[0] && !owner) || r->digest.len != ACCESS_DIGEST_BYTES)
        return true;
    if (!load_networks(r->networks, &k) || !load_texts(r->models, &models)) {
        sl_free(k.networks);
        return true;
    }
    memcpy(k.digest, r->digest.ptr, ACCESS_DIGEST_BYTES);
    k.has_old = r->old_digest.len == ACCESS_DIGEST_BYTES;
    if (k.has_old)
        memcpy(k.old_digest, r->old_digest.ptr, ACCESS_DIGEST_BYTES);
    k.caller = key_caller(ix, r, owner, models);
    k.use = before ? use_ref(before->use) : use_create(r->used_s);
    json_decref(models);
    if (!k.caller || !k.use ||
        !sl_grow((void **)&ix->keys, &ix->key_cap, ix->key_count + 1, sizeof *ix->keys,
                 SL_ACCESS_ACCOUNTS_MAX)) {
        llm_caller_unref(k.caller);
        use_unref(k.use);
        sl_free(k.networks);
        return false;
    }
    ix->keys[ix->key_count++] = k;
    return true;
}

static bool add_row(access_index *ix, access_index *old, store_stmt *st)
{
    sl_arena arena;
    access_account r;
    bool ok;

    sl_arena_init(&arena, ROW_BYTES_MAX);
    ok = account_read(st, &arena, &r);
    if (ok && r.kind == LLM_ACCOUNT_TEAM)
        ok = add_team(ix, &r);
    else if (ok && r.kind == LLM_ACCOUNT_USER)
        ok = add_user(ix, &r);
    else if (ok)
        ok = add_key(ix, old, &r);
    sl_arena_deinit(&arena);
    return ok;
}

static sl_status read_rows(access_control *a, access_index *ix, access_index *old, sl_err *err)
{
    store_stmt *st;
    bool row = true;
    sl_status status;

    /* Teams before users before keys, each in the order it is searched in. */
    SL_TRY(store_prepare(a->db,
                         ACCOUNT_SELECT "WHERE ended = 0 ORDER BY kind DESC,"
                                        " CASE kind WHEN 2 THEN name ELSE id END",
                         &st, err));
    while ((status = store_step(st, &row, err)) == SL_OK && row) {
        if (!add_row(ix, old, st)) {
            status = sl_fail(err, SL_ENOMEM, "access index: out of memory");
            break;
        }
    }
    store_finish(st);
    return status;
}

static void put_slot(access_index *ix, const unsigned char *digest, uint32_t value)
{
    size_t at = slot_of(ix, digest);

    while (ix->slots[at])
        at = (at + 1) & ix->slot_mask;
    ix->slots[at] = value + 1;
}

static sl_status fill_slots(access_index *ix, sl_err *err)
{
    size_t size = 16;

    while (size < ix->key_count * 4)
        size *= 2;
    ix->slots = sl_calloc(size, sizeof *ix->slots);
    if (!ix->slots)
        return sl_fail(err, SL_ENOMEM, "access index: out of memory");
    ix->slot_mask = size - 1;
    for (size_t i = 0; i < ix->key_count; i++) {
        put_slot(ix, ix->keys[i].digest, (uint32_t)(2 * i));
        if (ix->keys[i].has_old)
            put_slot(ix, ix->keys[i].old_digest, (uint32_t)(2 * i + 1));
    }
    return SL_OK;
}

typedef struct ended_list {
    char (*ids)[ACCESS_ID_BYTES];
    size_t count, cap;
} ended_list;

static sl_status read_ended(access_control *a, ended_list *ret, sl_err *err)
{
    int64_t since = access_now_s() - a->access_ttl_s - SESSION_SLACK;
    store_stmt *st;
    bool row = true;
    sl_status status;

    SL_TRY(store_prepare(a->db, "SELECT id FROM sessions WHERE ended > ? ORDER BY id", &st, err));
    store_bind_int(st, 1, since > 0 ? since : 0);
    while ((status = store_step(st, &row, err)) == SL_OK && row) {
        if (!sl_grow((void **)&ret->ids, &ret->cap, ret->count + 1, sizeof ret->ids[0],
                     SIZE_MAX / ACCESS_ID_BYTES)) {
            status = sl_fail(err, SL_ENOMEM, "ended sessions: out of memory");
            break;
        }
        memset(ret->ids[ret->count], 0, ACCESS_ID_BYTES);
        strncpy(ret->ids[ret->count++], store_text(st, 0), ACCESS_ID_BYTES - 1);
    }
    store_finish(st);
    return status;
}

static void put_in_place(access_control *a, access_index *ix, ended_list *ended)
{
    access_index *old;
    void *old_ended;

    pthread_mutex_lock(&a->index_lock);
    old = a->index;
    old_ended = a->ended;
    a->index = ix;
    a->ended = ended->ids;
    a->ended_count = ended->count;
    pthread_mutex_unlock(&a->index_lock);
    index_unref(old);
    sl_free(old_ended);
}

sl_status index_reload(access_control *a, sl_err *err)
{
    access_index *ix = sl_calloc(1, sizeof *ix), *old = index_ref(a);
    ended_list ended = { 0 };
    int64_t closed = 0;
    sl_status status =
        ix ? store_begin_read(a->db, err) : sl_fail(err, SL_ENOMEM, "access index: out of memory");

    if (ix)
        atomic_init(&ix->refs, 1);
    if (status == SL_OK)
        status = db_int(a->db, err, "SELECT value FROM meta WHERE name = ?", "closed", &closed);
    if (status == SL_OK)
        status = db_int(a->db, err, "SELECT value FROM meta WHERE name = ?", "generation",
                        &ix->generation);
    if (status == SL_OK)
        status = read_rows(a, ix, old, err);
    if (status == SL_OK)
        status = read_ended(a, &ended, err);
    store_rollback(a->db);
    if (status == SL_OK)
        status = fill_slots(ix, err);
    if (status == SL_OK) {
        ix->closed = closed != 0 || a->static_count > 0 || a->issuer_configured > 0;
        put_in_place(a, ix, &ended);
    } else {
        index_unref(ix);
        sl_free(ended.ids);
    }
    index_unref(old);
    return status;
}

/* ---- last uses to the database ------------------------------------------------------------- */

sl_status index_write_uses(access_control *a, sl_err *err)
{
    access_index *ix = index_ref(a);
    sl_status status = SL_OK;
    bool begun = false;

    for (size_t i = 0; ix && i < ix->key_count && status == SL_OK; i++) {
        access_use *u = ix->keys[i].use;
        int64_t used = atomic_load_explicit(&u->used_s, memory_order_relaxed);

        if (used <= u->written_s)
            continue;
        if (!begun)
            status = store_begin(a->db, err);
        begun = begun || status == SL_OK;
        if (status == SL_OK)
            status = db_run(a->db, err, "UPDATE accounts SET used = MAX(used, ?) WHERE id = ?",
                            "is", used, ix->keys[i].caller->id);
        if (status == SL_OK)
            u->written_s = used;
    }
    if (begun && status == SL_OK)
        status = store_commit(a->db, err);
    else
        store_rollback(a->db);
    index_unref(ix);
    return status;
}
