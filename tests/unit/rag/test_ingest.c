/* test_ingest.c - what comes in: the queue, its resumption, skipping, replacing, failing, expiring,
 * cutting anew and access lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/os.h"
#include "fake.h"
#include "rag/ingest.h"

static const char zebra[] =
    "# Animals\n\n## Zebra\n\nThe zebra grazes savanna grassland in herds of "
    "hundreds.\n\n## Walrus\n\nThe walrus hunts clams below arctic ice.\n";
static const char engine[] = "# Engines\n\nThe diesel engine ignites fuel through compression.\n\n"
                             "Petrol engines need spark plugs instead.\n";

static fake_place place;
static fake f;
static int64_t now_s;

static int64_t test_clock(void)
{
    return now_s;
}

static int set_up(void **state)
{
    if (!fake_place_make(&place, "/tmp", "rag.db"))
        return -1;
    fake_init(&f);
    return 0;
}

static int tear_down(void **state)
{
    fake_deinit(&f);
    return fake_place_remove(&place);
}

static rag *must_open(int workers)
{
    return fake_open(&f, place.path, workers);
}

static _Thread_local sl_err failed;

#define MUST(call)                                                                                 \
    do {                                                                                           \
        if ((call) != SL_OK)                                                                       \
            fail_msg("%s: %s", #call, failed.text);                                                \
    } while (0)

/* Takes a document; the result is borrowed up to the next call. */
static json_t *submit_spec(rag *r, const llm_document_spec *s, const char *batch)
{
    static json_t *last;

    json_decref(last);
    last = NULL;
    if (s)
        MUST(document_submit(r, s, batch, &last, &failed));
    return last;
}

static json_t *submit(rag *r, const char *name, const char *text)
{
    return submit_spec(r, &(llm_document_spec){ .name = name, .bytes = sl_span_str(text) }, NULL);
}

static int64_t number(rag *r, const char *sql)
{
    store_stmt *st = NULL;
    int64_t n = -1;

    store_lock(r->db);
    MUST(rag_db_first(r, NULL, &st, &failed, sql, ""));
    if (st)
        n = store_int(st, 0);
    store_finish(st);
    store_unlock(r->db);
    return n;
}

/* Until the queue is empty. */
static void settle(rag *r)
{
    int64_t id;

    while ((id = number(r, "SELECT min(id) FROM queue HAVING count(*) > 0")) >= 0)
        MUST(ingest_wait(r, id, &failed));
}

static json_t *get_as(rag *r, const llm_caller *who, const char *name)
{
    static json_t *last;

    json_decref(last);
    last = NULL;
    if (name && document_get(r, who, NULL, name, &last, NULL) != SL_OK)
        last = NULL;
    return last;
}

static const char *status_of(rag *r, const char *name)
{
    const json_t *d = get_as(r, NULL, name);

    return d ? json_string_value(json_object_get(d, "status")) : "none";
}

static int64_t int_of(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

typedef struct found {
    size_t count;
    char text[512], document[64];
} found;

static void on_found(void *ctx, const llm_passage *p, size_t count)
{
    found *h = ctx;

    h->count = count;
    if (count > 0) {
        snprintf(h->text, sizeof h->text, "%s", p[0].text);
        snprintf(h->document, sizeof h->document, "%s", p[0].document);
    }
}

static found search(rag *r, const char *question)
{
    llm_docs d = rag_docs(r);
    found h = { 0 };

    MUST(d.ops->search(d.ctx, &(llm_docs_search){ .question = question, .threshold = -1 }, on_found,
                       &h, &failed));
    return h;
}

static bool finds(rag *r, const char *question, const char *text)
{
    return strstr(search(r, question).text, text) != NULL;
}

/* What must be true at any moment of any database. */
static void check_whole(rag *r)
{
    assert_int_equal(number(r, "SELECT count(*) FROM chunks c WHERE NOT EXISTS (SELECT 1 FROM"
                               " documents WHERE id = c.document)"),
                     0);
    assert_int_equal(number(r, "SELECT count(*) FROM documents d WHERE chunks != (SELECT count(*)"
                               " FROM chunks WHERE document = d.id)"),
                     0);
    assert_int_equal(number(r, "SELECT count(*) FROM chunks c JOIN documents d ON d.id = c.document"
                               " WHERE CAST(substr(CAST(d.text AS BLOB), c.begin + 1, c.end -"
                               " c.begin) AS TEXT) != c.text"),
                     0);
    assert_int_equal(number(r, "SELECT count(*) FROM documents d WHERE status = 'in_progress' AND"
                               " NOT EXISTS (SELECT 1 FROM queue WHERE document = d.id)"),
                     0);
    assert_int_equal(number(r, "SELECT count(*) FROM queue q JOIN documents d ON d.id = q.document"
                               " WHERE status != 'in_progress'"),
                     0);
    assert_int_equal(
        store_exec(r->db, "INSERT INTO chunk_words (chunk_words) VALUES ('integrity-check')", NULL),
        SL_OK);
}

static void done(rag *r)
{
    check_whole(r);
    rag_close(r);
    (void)submit_spec(NULL, NULL, NULL);
    (void)get_as(NULL, NULL, NULL);
}

/* ---- the queue ------------------------------------------------------------------------------ */

static void test_background(void **state)
{
    rag *r = must_open(0);
    json_t *d = submit(r, "a.md", zebra);

    assert_string_equal(json_string_value(json_object_get(d, "status")), "in_progress");
    assert_int_equal(strncmp(json_string_value(json_object_get(d, "id")), "doc_", 4), 0);
    assert_int_equal(int_of(d, "bytes"), sizeof zebra - 1);
    assert_int_equal(search(r, "zebra savanna").count, 0);
    rag_close(r); /* what was taken is kept */
    r = must_open(0);
    assert_string_equal(status_of(r, "a.md"), "in_progress");
    settle(r);
    assert_string_equal(status_of(r, "a.md"), "completed");
    assert_int_equal(int_of(get_as(r, NULL, "a.md"), "chunks"), 2);
    assert_true(finds(r, "zebra savanna", "zebra grazes"));
    done(r);
}

static void test_threads_work(void **state)
{
    rag *r = must_open(0);
    char name[32], text[64];

    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "%d.txt", i);
        snprintf(text, sizeof text, "word%d grazes here", i);
        (void)submit(r, name, text);
    }
    rag_close(r);
    r = must_open(3); /* begins with what is there */
    for (int i = 40; i < 80; i++) {
        snprintf(name, sizeof name, "%d.txt", i);
        snprintf(text, sizeof text, "word%d grazes here", i);
        (void)submit(r, name, text);
    }
    settle(r);
    assert_int_equal(number(r, "SELECT count(*) FROM documents WHERE status = 'completed'"), 80);
    assert_true(finds(r, "word77", "word77"));
    done(r);
}

/* Many small documents are not as many requests. */
static void test_batches_are_shared(void **state)
{
    rag *r = must_open(0);
    char name[32], text[64];
    int before = atomic_load(&f.thread_count);

    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "%d.txt", i);
        snprintf(text, sizeof text, "word%d grazes here", i);
        (void)submit(r, name, text);
    }
    settle(r);
    assert_int_equal(atomic_load(&f.embedded), 500);
    assert_true(atomic_load(&f.thread_count) - before <= 12);
    done(r);
}

/* A second process on the same file: one of them works, both see the end. */
static void test_two_processes(void **state)
{
    rag *a = must_open(2), *b = must_open(2);
    char name[32];
    json_t *last = NULL;

    for (int i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "%d.txt", i);
        (void)submit(i % 2 ? a : b, name, zebra);
    }
    settle(a);
    settle(b);
    assert_int_equal(number(b, "SELECT count(*) FROM documents WHERE status = 'completed'"), 30);
    assert_int_equal(atomic_load(&f.embedded), 30); /* nothing twice */
    rag_close(a);                                   /* the other takes over */
    MUST(document_add(b, &(llm_document_spec){ .name = "last.md", .bytes = sl_span_str(engine) },
                      &last, &failed));
    assert_string_equal(status_of(b, "last.md"), "completed");
    json_decref(last);
    done(b);
}

static void test_skip(void **state)
{
    json_t *attributes = json_pack("{s:i}", "n", 1);
    llm_document_spec s = { .name = "a.md", .bytes = sl_span_str(zebra), .attributes = attributes };
    rag *r = must_open(0);
    json_t *d;
    int before;

    (void)submit(r, "a.md", zebra);
    settle(r);
    before = atomic_load(&f.embedded);
    d = submit_spec(r, &s, NULL);
    assert_string_equal(json_string_value(json_object_get(d, "status")), "completed");
    assert_int_equal(int_of(json_object_get(d, "attributes"), "n"), 1);
    assert_int_equal(number(r, "SELECT count(*) FROM queue"), 0);
    assert_int_equal(atomic_load(&f.embedded), before);
    s.chunk_tokens = 5; /* cut otherwise it is work */
    d = submit_spec(r, &s, NULL);
    assert_string_equal(json_string_value(json_object_get(d, "status")), "in_progress");
    settle(r);
    assert_true(int_of(get_as(r, NULL, "a.md"), "chunks") > 2);
    json_decref(attributes);
    done(r);
}

static void test_replace(void **state)
{
    rag *r = must_open(0);
    char id[64];

    (void)submit(r, "a.md", zebra);
    settle(r);
    snprintf(id, sizeof id, "%s",
             json_string_value(json_object_get(get_as(r, NULL, "a.md"), "id")));
    (void)submit(r, "a.md", "overtaken");
    (void)submit(r, "a.md", engine);
    assert_string_equal(status_of(r, "a.md"), "in_progress");
    assert_true(finds(r, "zebra savanna", "zebra grazes")); /* the old version answers */
    assert_int_equal(number(r, "SELECT count(*) FROM queue"), 1);
    settle(r);
    assert_string_equal(status_of(r, "a.md"), "completed");
    assert_string_equal(json_string_value(json_object_get(get_as(r, NULL, "a.md"), "id")), id);
    assert_true(finds(r, "diesel engine", "diesel"));
    assert_false(finds(r, "zebra savanna", "zebra"));
    done(r);
}

static void test_failure(void **state)
{
    rag *r = must_open(0);
    const json_t *d;

    (void)submit(r, "a.md", zebra);
    settle(r);
    f.breaks_on = "poison";
    (void)submit(r, "a.md", "a text of poison");
    (void)submit(r, "empty.txt", " \n ");
    (void)submit(r, "good.md", engine);
    settle(r);
    d = get_as(r, NULL, "a.md");
    assert_string_equal(json_string_value(json_object_get(d, "status")), "failed");
    assert_string_equal(json_string_value(json_object_get(json_object_get(d, "error"), "code")),
                        "server_error");
    assert_non_null(strstr(
        json_string_value(json_object_get(json_object_get(d, "error"), "message")), "broke"));
    assert_int_equal(int_of(d, "chunks"), 2);
    assert_true(finds(r, "zebra savanna", "zebra grazes")); /* the old version still answers */
    d = get_as(r, NULL, "empty.txt");
    assert_string_equal(json_string_value(json_object_get(json_object_get(d, "error"), "code")),
                        "invalid_file");
    assert_string_equal(status_of(r, "good.md"), "completed");
    f.breaks_on = NULL;
    (void)submit(r, "a.md", "a text of poison"); /* the same again is tried again */
    settle(r);
    assert_string_equal(status_of(r, "a.md"), "completed");
    done(r);
}

static void test_remove_and_cancel(void **state)
{
    rag *r = must_open(0);
    json_t *batch = NULL, *again = NULL;
    const char *id;

    (void)submit(r, "a.md", zebra);
    MUST(document_remove(r, NULL, NULL, "a.md", &failed));
    assert_int_equal(number(r, "SELECT count(*) FROM queue"), 0);
    MUST(docs_batch_create(r, NULL, "default", &batch, &failed));
    id = json_string_value(json_object_get(batch, "id"));
    (void)submit_spec(r, &(llm_document_spec){ .name = "b.md", .bytes = sl_span_str(zebra) }, id);
    settle(r);
    (void)submit_spec(r, &(llm_document_spec){ .name = "c.md", .bytes = sl_span_str(zebra) }, id);
    MUST(docs_batch_get(r, NULL, NULL, id, &again, &failed));
    assert_string_equal(json_string_value(json_object_get(again, "status")), "in_progress");
    json_decref(again);
    MUST(docs_batch_cancel(r, NULL, NULL, id, &again, &failed));
    assert_string_equal(json_string_value(json_object_get(again, "status")), "cancelled");
    assert_int_equal(int_of(json_object_get(again, "file_counts"), "completed"), 1);
    assert_int_equal(int_of(json_object_get(again, "file_counts"), "cancelled"), 1);
    assert_string_equal(status_of(r, "c.md"), "cancelled");
    settle(r);
    assert_string_equal(status_of(r, "c.md"), "cancelled");
    assert_int_equal(
        document_submit(r, &(llm_document_spec){ .name = "d.md", .bytes = sl_span_str(zebra) }, id,
                        &(json_t *){ NULL }, NULL),
        SL_ECONFLICT);
    (void)submit(r, "e.md", engine);
    MUST(collection_remove(r, NULL, "default", &failed));
    assert_int_equal(number(r, "SELECT count(*) FROM queue"), 0);
    assert_int_equal(number(r, "SELECT count(*) FROM chunks"), 0);
    json_decref(again);
    json_decref(batch);
    done(r);
}

/* Removed while it is between the queue and its collection: it does not come back. */
static void remove_meanwhile(void *ctx, int step)
{
    rag *r = ctx;

    if (step != 14)
        return;
    r->on_write = NULL;
    MUST(document_remove(r, NULL, NULL, "a.md", &failed));
}

static void test_removed_under_way(void **state)
{
    rag *r = must_open(0);

    (void)submit(r, "a.md", zebra);
    (void)submit(r, "b.md", engine);
    r->on_write = remove_meanwhile;
    r->on_write_ctx = r;
    settle(r);
    assert_string_equal(status_of(r, "a.md"), "none");
    assert_string_equal(status_of(r, "b.md"), "completed");
    assert_false(finds(r, "zebra savanna", "zebra"));
    done(r);
}

/* ---- collections ---------------------------------------------------------------------------- */

static void test_collections(void **state)
{
    json_t *settings = json_pack("{s:i,s:f}", "chunk_tokens", 40, "threshold", 0.5);
    json_t *metadata = json_pack("{s:s}", "owner", "ann"), *c = NULL, *wrong;
    llm_collection_spec spec = {
        .name = "zoo", .description = "animals", .settings = settings, .metadata = metadata
    };
    rag *r = must_open(0);
    sl_err err = { 0 };

    MUST(collection_create(r, NULL, &spec, &c, &failed));
    assert_string_equal(json_string_value(json_object_get(c, "name")), "zoo");
    assert_string_equal(json_string_value(json_object_get(json_object_get(c, "metadata"), "owner")),
                        "ann");
    assert_int_equal(int_of(json_object_get(c, "settings"), "chunk_tokens"), 40);
    assert_true(json_is_null(json_object_get(c, "expires_at")));
    json_decref(c);
    MUST(collection_update(r, NULL, "zoo",
                           &(llm_collection_spec){ .name = "park", .expires_after_s = 100 }, &c,
                           &failed));
    assert_string_equal(json_string_value(json_object_get(c, "description")), "animals");
    assert_int_equal(int_of(c, "expires_at"), int_of(c, "last_active_at") + 100);
    json_decref(c);
    assert_int_equal(collection_get(r, NULL, "zoo", &c, &err), SL_ENOTFOUND);
    wrong = json_pack("{s:i}", "chunk_token", 1);
    spec = (llm_collection_spec){ .settings = wrong };
    assert_int_equal(collection_create(r, NULL, &spec, &c, &err), SL_EINVAL);
    assert_non_null(strstr(err.text, "chunk_token"));
    json_decref(wrong);
    wrong = json_pack("{s:i}", "a", 1);
    spec = (llm_collection_spec){ .metadata = wrong };
    assert_int_equal(collection_create(r, NULL, &spec, &c, &err), SL_EINVAL);
    spec = (llm_collection_spec){ .name = "vs_mine" };
    assert_int_equal(collection_create(r, NULL, &spec, &c, &err), SL_EINVAL);
    json_decref(wrong);
    json_decref(settings);
    json_decref(metadata);
    done(r);
}

static void test_expiry(void **state)
{
    rag *r = must_open(0);
    json_t *c = NULL;
    llm_docs d = rag_docs(r);
    sl_err err = { 0 };
    found h = { 0 };

    r->clock_s = test_clock;
    now_s = sl_clock_wall_ms() / 1000;
    (void)submit(r, "a.md", zebra);
    settle(r);
    MUST(collection_update(r, NULL, "default", &(llm_collection_spec){ .expires_after_s = 1000 },
                           &c, &failed));
    json_decref(c);
    now_s += 999;
    assert_true(finds(r, "zebra savanna", "zebra")); /* a use: counted anew */
    now_s += 999;
    collections_expire(r);
    assert_true(finds(r, "zebra savanna", "zebra"));
    now_s += 1000;
    assert_int_equal(
        d.ops->search(d.ctx, &(llm_docs_search){ .question = "zebra" }, on_found, &h, &err),
        SL_ENOTFOUND);
    assert_int_equal(number(r, "SELECT count(*) FROM documents"), 1);
    collections_expire(r);
    assert_int_equal(number(r, "SELECT count(*) FROM documents"), 0);
    assert_int_equal(number(r, "SELECT count(*) FROM chunks"), 0);
    assert_int_equal(
        document_submit(r, &(llm_document_spec){ .name = "d.md", .bytes = sl_span_str(zebra) },
                        NULL, &(json_t *){ NULL }, &err),
        SL_ECONFLICT);
    MUST(collection_get(r, NULL, "default", &c, &failed)); /* it tells that it has expired */
    assert_true(int_of(c, "expires_at") <= now_s);
    json_decref(c);
    done(r);
}

/* Other cuts: all documents anew from their text, the old passages answer until then. */
static void test_cut_again(void **state)
{
    json_t *settings = json_pack("{s:i,s:i}", "chunk_tokens", 5, "overlap_tokens", 0), *c = NULL;
    json_t *ranking = json_pack("{s:f}", "threshold", 0.1);
    llm_document_spec own = {
        .name = "own.md", .bytes = sl_span_str(engine), .chunk_tokens = 100, .overlap_tokens = 10
    };
    rag *r = must_open(0);
    int64_t before, own_before;

    (void)submit(r, "a.md", zebra);
    (void)submit(r, "t.csv", "name,legs\nzebra,4\nwalrus,0\n");
    (void)submit_spec(r, &own, NULL);
    settle(r);
    before = int_of(get_as(r, NULL, "a.md"), "chunks");
    own_before = int_of(get_as(r, NULL, "own.md"), "chunks");
    MUST(collection_update(r, NULL, "default",
                           &(llm_collection_spec){ .settings = ranking, .expires_after_s = -1 }, &c,
                           &failed));
    json_decref(c);
    assert_int_equal(number(r, "SELECT count(*) FROM queue"), 0); /* no cutting in that */
    MUST(collection_update(r, NULL, "default",
                           &(llm_collection_spec){ .settings = settings, .expires_after_s = -1 },
                           &c, &failed));
    assert_int_equal(int_of(json_object_get(c, "file_counts"), "in_progress"), 2);
    json_decref(c);
    assert_true(finds(r, "zebra savanna", "zebra grazes"));
    assert_int_equal(int_of(get_as(r, NULL, "a.md"), "chunks"), before);
    settle(r);
    assert_true(int_of(get_as(r, NULL, "a.md"), "chunks") > before);
    assert_int_equal(int_of(get_as(r, NULL, "own.md"), "chunks"), own_before);
    assert_int_equal(int_of(get_as(r, NULL, "a.md"), "bytes"), sizeof zebra - 1);
    assert_string_equal(json_string_value(json_object_get(get_as(r, NULL, "t.csv"), "type")),
                        "text/csv");
    assert_string_equal(status_of(r, "a.md"), "completed");
    json_decref(settings);
    json_decref(ranking);
    done(r);
}

/* ---- who may see what ----------------------------------------------------------------------- */

static llm_caller caller_of(const char *user, const char *team)
{
    return (llm_caller){ .id = user,
                         .name = user,
                         .user = user,
                         .team = team,
                         .role = "member",
                         .permissions = LLM_MAY_DOCS_READ | LLM_MAY_DOCS_WRITE };
}

static void test_access(void **state)
{
    llm_caller ann = caller_of("ann", "red"), bob = caller_of("bob", "blue");
    json_t *red = json_pack("[s]", "team:red"), *everybody = json_null(), *d = NULL, *c = NULL;
    llm_document_spec s = {
        .name = "a.md", .bytes = sl_span_str(zebra), .access = red, .caller = &ann
    };
    llm_docs_page page = { .limit = 10 };
    rag *r = must_open(0);
    sl_err err = { 0 };
    char anns[64];

    snprintf(anns, sizeof anns, "%s",
             json_string_value(json_object_get(submit_spec(r, &s, NULL), "id")));
    s.caller = &bob;
    s.access = NULL;
    s.bytes = sl_span_str(engine);
    assert_string_not_equal(json_string_value(json_object_get(submit_spec(r, &s, NULL), "id")),
                            anns); /* nobody replaces what he cannot see */
    settle(r);
    assert_int_equal(number(r, "SELECT count(*) FROM documents"), 2);
    assert_string_equal(json_string_value(json_object_get(get_as(r, &bob, "a.md"), "title")),
                        "Engines");
    assert_null(get_as(r, &bob, anns));
    assert_non_null(get_as(r, &ann, anns));
    MUST(document_list(r, &bob, NULL, &page, &d, &failed));
    assert_int_equal(json_array_size(json_object_get(d, "data")), 1);
    json_decref(d);
    MUST(collection_get(r, &bob, NULL, &c, &failed));
    assert_int_equal(int_of(c, "documents"), 1);
    assert_int_equal(int_of(c, "bytes"), sizeof engine - 1);
    json_decref(c);
    assert_int_equal(document_remove(r, &bob, NULL, anns, &err), SL_ENOTFOUND);
    assert_int_equal(document_update(r, &bob, NULL, anns, NULL, everybody, &d, &err), SL_ENOTFOUND);
    assert_int_equal(collection_remove(r, &bob, NULL, &err), SL_EFORBIDDEN);
    page.after = anns; /* nor does a list begin there */
    assert_int_equal(document_list(r, &bob, NULL, &page, &d, &err), SL_EINVAL);
    MUST(document_update(r, &ann, NULL, anns, NULL, everybody, &d, &failed));
    assert_true(json_is_null(json_object_get(d, "access")));
    json_decref(d);
    assert_non_null(get_as(r, &bob, anns));
    json_decref(red);
    json_decref(everybody);
    done(r);
}

/* A list that changes while the document waits is the one it has in the end. */
static void test_access_in_the_queue(void **state)
{
    llm_caller bob = caller_of("bob", "blue");
    json_t *red = json_pack("[s]", "team:red"), *blue = json_pack("[s]", "team:blue"), *d = NULL;
    json_t *wrong = json_pack("[s]", "blue");
    llm_document_spec s = { .name = "a.md", .bytes = sl_span_str(zebra), .access = red };
    rag *r = must_open(0);

    (void)submit_spec(r, &s, NULL);
    assert_null(get_as(r, &bob, "a.md"));
    MUST(document_update(r, NULL, NULL, "a.md", NULL, blue, &d, &failed));
    json_decref(d);
    settle(r);
    assert_non_null(get_as(r, &bob, "a.md"));
    s.access = wrong;
    assert_int_equal(document_submit(r, &s, NULL, &d, NULL), SL_EINVAL);
    json_decref(red);
    json_decref(blue);
    json_decref(wrong);
    done(r);
}

static void test_pages(void **state)
{
    rag *r = must_open(0);
    llm_docs_page page = { .limit = 2, .ascending = true };
    char ids[5][64], name[32];
    json_t *list = NULL;

    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "%d.txt", i);
        snprintf(ids[i], sizeof ids[i], "%s",
                 json_string_value(json_object_get(submit(r, name, zebra), "id")));
    }
#define PAGE_IS(first, size, more)                                                                 \
    do {                                                                                           \
        MUST(document_list(r, NULL, NULL, &page, &list, &failed));                                 \
        assert_int_equal(json_array_size(json_object_get(list, "data")), size);                    \
        assert_string_equal(json_string_value(json_object_get(                                     \
                                json_array_get(json_object_get(list, "data"), 0), "id")),          \
                            ids[first]);                                                           \
        assert_int_equal(json_is_true(json_object_get(list, "has_more")), more);                   \
        json_decref(list);                                                                         \
    } while (0)
    PAGE_IS(0, 2, true);
    page.after = ids[2];
    PAGE_IS(3, 2, false);
    page.after = NULL;
    page.before = ids[3];
    PAGE_IS(1, 2, true);
    page.ascending = false;
    page.before = ids[1];
    PAGE_IS(3, 2, true);
    page.before = NULL;
    PAGE_IS(4, 2, true);
    page.status = "completed";
    MUST(document_list(r, NULL, NULL, &page, &list, &failed));
    assert_int_equal(json_array_size(json_object_get(list, "data")), 0);
    json_decref(list);
    settle(r);
    done(r);
}

/* ---- threads -------------------------------------------------------------------------------- */

typedef struct worker {
    rag *r;
    int number;
    int bad;
} worker;

static void *write_main(void *ctx)
{
    worker *w = ctx;

    for (int i = 0; i < 15; i++) {
        llm_document_spec s = { .bytes = sl_span_str(i % 2 ? zebra : engine) };
        char name[32];
        json_t *d = NULL;

        snprintf(name, sizeof name, "w%d-%d.md", w->number, i % 3);
        s.name = name;
        w->bad += (i % 4 == 3 ? document_add(w->r, &s, &d, NULL)
                              : document_submit(w->r, &s, NULL, &d, NULL)) != SL_OK;
        json_decref(d);
        if (i % 5 == 4)
            w->bad += document_remove(w->r, NULL, NULL, name, NULL) != SL_OK;
    }
    return NULL;
}

static void run_writers(rag *r)
{
    pthread_t threads[4];
    worker workers[4];

    for (int i = 0; i < 4; i++) {
        workers[i] = (worker){ r, i, 0 };
        assert_int_equal(pthread_create(&threads[i], NULL, write_main, &workers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].bad, 0);
    }
    settle(r);
    assert_int_equal(number(r, "SELECT count(*) FROM documents WHERE status != 'completed'"), 0);
}

static void test_threads(void **state)
{
    rag *r = must_open(2);

    run_writers(r);
    done(r);
    r = must_open(0); /* those that wait share the work */
    run_writers(r);
    done(r);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_background),
        CASE(test_threads_work),
        CASE(test_batches_are_shared),
        CASE(test_two_processes),
        CASE(test_skip),
        CASE(test_replace),
        CASE(test_failure),
        CASE(test_remove_and_cancel),
        CASE(test_removed_under_way),
        CASE(test_collections),
        CASE(test_expiry),
        CASE(test_cut_again),
        CASE(test_access),
        CASE(test_access_in_the_queue),
        CASE(test_pages),
        CASE(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
