/* test_find.c - what finds passages, over a database: BM25 against a naive one, access lists,
 * filters, near duplicates, shelves that keep up with changes, files of the first schema. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "fake.h"
#include "rag/rag_int.h"

static fake_place place;
static fake f;

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

static rag *must_open(void)
{
    return fake_open(&f, place.path, 0);
}

/* ---- documents for searching --------------------------------------------------------------- */

#define DOCUMENTS 300
#define PASSAGES  3
#define USERS     10

typedef struct passage {
    char text[256];
} passage;

typedef struct document {
    bool is_there, is_restricted;
    size_t count;
    passage passages[PASSAGES];
    bool users[USERS], teams[2];
    int year;
} document;

static document documents[DOCUMENTS];

static void random_document(document *d)
{
    *d = (document){ .is_there = true, .count = 1 + fake_random() % PASSAGES };
    for (size_t i = 0; i < d->count; i++) {
        size_t n = 1 + fake_random() % 30;

        for (size_t k = 0; k < n; k++) /* some words are everywhere, some are rare */
            snprintf(d->passages[i].text + strlen(d->passages[i].text), 8, "w%u ",
                     fake_random() % (1 + fake_random() % 60));
    }
    d->year = 2000 + (int)(fake_random() % 20);
    d->is_restricted = fake_random() % 4 != 0;
    for (int u = 0; u < USERS; u++)
        d->users[u] = fake_random() % 5 == 0;
    d->teams[0] = fake_random() % 3 == 0;
    d->teams[1] = fake_random() % 3 == 0;
}

static json_t *access_of(const document *d)
{
    json_t *list = json_array();
    char name[32];

    if (!d->is_restricted) {
        json_decref(list);
        return json_null();
    }
    for (int u = 0; u < USERS; u++) {
        snprintf(name, sizeof name, "user:u%d", u);
        if (d->users[u])
            json_array_append_new(list, json_string(name));
    }
    for (int t = 0; t < 2; t++) {
        snprintf(name, sizeof name, "team:t%d", t);
        if (d->teams[t])
            json_array_append_new(list, json_string(name));
    }
    return list;
}

static void store_document(rag *r, size_t i)
{
    const document *d = &documents[i];
    char name[32], text[PASSAGES * 256] = "", sections[1][CHUNK_HEADING_BYTES] = { "" };
    chunk items[PASSAGES];
    chunk_list chunks = { .items = items, .count = d->count, .sections = sections };
    float vectors[PASSAGES * FAKE_DIM];
    rag_model m;
    json_t *access = access_of(d), *attributes = json_pack("{s:i}", "year", d->year);
    index_document doc = { .collection = "c",
                           .name = name,
                           .title = name,
                           .settings = "x",
                           .model = &m,
                           .chunks = &chunks,
                           .vectors = vectors,
                           .access = access,
                           .attributes = attributes };
    sl_err err = { 0 };

    snprintf(name, sizeof name, "d%zu", i);
    for (size_t k = 0; k < d->count; k++) {
        size_t at = strlen(text);

        strcat(text, d->passages[k].text);
        items[k] = (chunk){ .begin = at, .end = strlen(text) };
        fake_random_vector(vectors + k * FAKE_DIM, FAKE_DIM);
    }
    doc.text = sl_span_str(text);
    assert_int_equal(rag_embed_model(r, &m, NULL), SL_OK);
    if (index_replace(r, &doc, &err) != SL_OK)
        fail_msg("%s", err.text);
    json_decref(access);
    json_decref(attributes);
}

static void find_all(rag *r, llm_docs_mode mode, const char *question, const json_t *filters,
                     llm_caller *caller, rag_hits *hits)
{
    llm_docs_search s = { .collection = "c",
                          .question = question,
                          .top_k = RAG_SEARCH_MAX,
                          .mode = mode,
                          .filters = filters,
                          .threshold = -1,
                          .all = true,
                          .caller = caller };
    sl_err err = { 0 };

    if (search_run(r, &s, hits, &err) != SL_OK)
        fail_msg("%s", err.text);
}

/* ---- a naive BM25 --------------------------------------------------------------------------- */

static size_t count_in(const char *text, const char *word, size_t *ret_length)
{
    char copy[256 * PASSAGES], *save = NULL;
    size_t count = 0;

    snprintf(copy, sizeof copy, "%s", text);
    *ret_length = 0;
    for (char *p = strtok_r(copy, " ", &save); p; p = strtok_r(NULL, " ", &save)) {
        count += strcmp(p, word) == 0;
        ++*ret_length;
    }
    return count;
}

static double bm25_part(double n, double with, double tf, double length, double mean)
{
    return log(1 + (n - with + 0.5) / (with + 0.5)) * tf /
           (tf + 1.5 * (1 - 0.75 + 0.75 * length / mean));
}

static bool may_read(const document *d, const llm_caller *c)
{
    if (!d->is_there)
        return false;
    return !d->is_restricted || !c || d->users[atoi(c->user + 1)] || d->teams[atoi(c->team + 1)];
}

/* The best score of document i for words w[count], over what the caller may read alone. */
static double naive_score(size_t i, const char *const *w, size_t count, const llm_caller *c)
{
    double best = 0, sums[PASSAGES] = { 0 }, whole = 0;

    for (size_t k = 0; k < count; k++) {
        double rows = 0, docs = 0, row_with = 0, doc_with = 0, total = 0, doc_tf = 0, doc_len = 0;
        size_t length;

        for (size_t d = 0; d < DOCUMENTS; d++) {
            size_t in = 0;

            if (!may_read(&documents[d], c))
                continue;
            docs++;
            for (size_t p = 0; p < documents[d].count; p++) {
                size_t n = count_in(documents[d].passages[p].text, w[k], &length);

                rows++;
                total += (double)length;
                row_with += n > 0;
                in += n;
                doc_len += d == i ? (double)length : 0;
            }
            doc_with += in > 0;
            doc_tf = d == i ? (double)in : doc_tf;
        }
        whole += bm25_part(docs, doc_with, doc_tf, doc_len, total / docs);
        for (size_t p = 0; p < documents[i].count; p++) {
            size_t n = count_in(documents[i].passages[p].text, w[k], &length);

            sums[p] += bm25_part(rows, row_with, (double)n, (double)length, total / rows);
        }
    }
    for (size_t p = 0; p < documents[i].count; p++)
        if (sums[p] > 0)
            best = SL_MAX(best, 0.5 * sums[p] + 0.5 * whole);
    return best;
}

static void check_against_naive(rag *r, llm_caller *c)
{
    char question[64], words_of[3][8];
    const char *const w[] = { words_of[0], words_of[1], words_of[2] };
    size_t count = 1 + fake_random() % 3, found = 0;
    unsigned first = fake_random() % 20;
    rag_hits hits;

    question[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        snprintf(words_of[i], sizeof words_of[i], "w%u", first + (unsigned)i * 17);
        strcat(strcat(question, words_of[i]), " ");
    }
    find_all(r, LLM_DOCS_LEXICAL, question, NULL, c, &hits);
    for (size_t i = 0; i < DOCUMENTS; i++) {
        double want = may_read(&documents[i], c) ? naive_score(i, w, count, c) : 0, got = 0;
        char name[32];

        snprintf(name, sizeof name, "d%zu", i);
        for (size_t k = 0; k < hits.count; k++)
            if (strcmp(hits.items[k].document, name) == 0)
                got = hits.items[k].lexical;
        found += want > 0;
        if (fabs(got - want) > 1e-4)
            fail_msg("%s for %s: %f instead of %f", name, question, got, want);
    }
    assert_int_equal(hits.count, found);
    for (size_t k = 1; k < hits.count; k++)
        assert_true(hits.items[k].score <= hits.items[k - 1].score);
    rag_hits_deinit(&hits);
}

static void fill(rag *r)
{
    for (size_t i = 0; i < DOCUMENTS; i++) {
        random_document(&documents[i]);
        store_document(r, i);
    }
}

/* Two tenants and ten users over many random lists: each sees what a naive search over his own
 * documents finds, with the scores that it has when there are no others. */
static void test_access(void **state)
{
    static const char *const users[] = {
        "u0", "u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8", "u9"
    };
    rag *r = must_open();
    size_t lists = 0;

    fill(r);
    check_against_naive(r, NULL);
    while (lists < 1000) {
        llm_caller c = { .user = users[fake_random() % USERS],
                         .team = fake_random() % 2 ? "t0" : "t1",
                         .role = "" };

        for (int i = 0; i < 50; i++, lists++) { /* new lists, some with new passages */
            size_t d = fake_random() % DOCUMENTS;
            json_t *access;
            document old = documents[d];
            int64_t collection, generation, id;

            random_document(&documents[d]);
            if (fake_random() % 3 == 0) {
                store_document(r, d);
                continue;
            }
            memcpy(documents[d].passages, old.passages, sizeof old.passages);
            documents[d].count = old.count;
            access = access_of(&documents[d]);
            store_lock(r->db);
            assert_int_equal(store_begin(r->db, NULL), SL_OK);
            assert_int_equal(index_collection(r, "c", NULL, &collection, &generation, NULL), SL_OK);
            {
                char name[32];

                snprintf(name, sizeof name, "d%zu", d);
                assert_int_equal(index_find(r, collection, name, &id, NULL), SL_OK);
            }
            assert_int_equal(index_update(r, id, NULL, access, NULL), SL_OK);
            assert_int_equal(store_commit(r->db, NULL), SL_OK);
            store_unlock(r->db);
            json_decref(access);
        }
        check_against_naive(r, &c);
    }
    rag_close(r);
}

static void test_filtered(void **state)
{
    rag *r = must_open();
    json_t *filters = json_loads("{\"type\":\"gte\",\"key\":\"year\",\"value\":2010}", 0, NULL);
    llm_caller c = { .user = "u3", .team = "t1", .role = "" };
    rag_hits hits;
    size_t want = 0;

    fill(r);
    for (int mode = LLM_DOCS_DENSE; mode <= LLM_DOCS_FUSED; mode++) {
        find_all(r, (llm_docs_mode)mode, "w0 w1", filters, &c, &hits);
        want = 0;
        for (size_t i = 0; i < DOCUMENTS; i++)
            want += may_read(&documents[i], &c) && documents[i].year >= 2010;
        assert_int_equal(hits.count, want);
        for (size_t i = 0; i < hits.count; i++) {
            const document *d = &documents[atoi(hits.items[i].document + 1)];

            assert_true(may_read(d, &c) && d->year >= 2010);
            assert_int_equal(json_integer_value(json_object_get(hits.items[i].attributes, "year")),
                             d->year);
        }
        rag_hits_deinit(&hits);
    }
    json_decref(filters);
    rag_close(r);
}

/* ---- keeping up ---------------------------------------------------------------------------- */

static void check_same(rag *old, rag *fresh)
{
    rag_hits a, b;

    find_all(old, LLM_DOCS_FUSED, "w0 w3 w7 w20", NULL, NULL, &a);
    find_all(fresh, LLM_DOCS_FUSED, "w0 w3 w7 w20", NULL, NULL, &b);
    assert_int_equal(a.count, b.count);
    for (size_t i = 0; i < a.count; i++) {
        assert_int_equal(a.items[i].id, b.items[i].id);
        assert_float_equal(a.items[i].score, b.items[i].score, 1e-6);
        assert_string_equal(a.items[i].text, b.items[i].text);
    }
    rag_hits_deinit(&a);
    rag_hits_deinit(&b);
}

/* A reader that stays open sees what another process writes, as one that has just come. */
static void test_keeps_up(void **state)
{
    rag *writer = must_open(), *reader = must_open();

    for (int round = 0; round < 40; round++) {
        rag *fresh;

        for (int i = 0; i < (round % 8 == 7 ? 200 : 5); i++) {
            size_t d = fake_random() % DOCUMENTS;
            char name[32];

            snprintf(name, sizeof name, "d%zu", d);
            if (documents[d].is_there && fake_random() % 3 == 0) {
                if (index_remove(writer, "c", name, NULL) == SL_OK)
                    documents[d].is_there = false;
                continue;
            }
            random_document(&documents[d]);
            store_document(writer, d);
        }
        fresh = must_open();
        check_same(reader, fresh);
        rag_close(fresh);
    }
    assert_true(reader->shelves[0].generation > 100);
    rag_close(reader);
    rag_close(writer);
}

/* Changes that are no longer listed make it read everything. */
static void test_far_behind(void **state)
{
    rag *writer = must_open(), *reader = must_open(), *fresh;

    fill(writer);
    check_same(reader, writer);
    random_document(&documents[0]);
    store_document(writer, 0);
    store_lock(writer->db);
    assert_int_equal(store_exec(writer->db, "DELETE FROM changes", NULL), SL_OK);
    store_unlock(writer->db);
    fresh = must_open();
    check_same(reader, fresh);
    rag_close(fresh);
    rag_close(reader);
    rag_close(writer);
}

/* Lists that the shelf keeps give the same as those of the database, for any caller, and do not
 * outlive a change. */
static void test_kept_lists(void **state)
{
    rag *r = must_open();
    llm_caller c = { .user = "u1", .team = "t0", .role = "" };
    char text[4 * 1200] = "", name[] = "many";
    chunk *items = sl_calloc(1200, sizeof *items);
    float *vectors = sl_calloc(1200, FAKE_DIM * sizeof *vectors);
    char sections[1][CHUNK_HEADING_BYTES] = { "" };
    chunk_list chunks = { .items = items, .count = 1200, .sections = sections };
    rag_model m;
    index_document doc = { .collection = "c",
                           .name = name,
                           .title = name,
                           .settings = "x",
                           .model = &m,
                           .chunks = &chunks,
                           .vectors = vectors };
    rag_hits first, second;

    for (size_t i = 0; i < 1200; i++) { /* a word in many passages */
        memcpy(text + 4 * i, i % 3 ? "w0 " : "w1 ", 4);
        text[4 * i + 3] = ' ';
        items[i] = (chunk){ .begin = 4 * i, .end = 4 * i + 3 };
        vectors[i * FAKE_DIM] = 1;
    }
    doc.text = sl_span_of(text, sizeof text);
    fill(r);
    assert_int_equal(rag_embed_model(r, &m, NULL), SL_OK);
    assert_int_equal(index_replace(r, &doc, NULL), SL_OK);
    find_all(r, LLM_DOCS_LEXICAL, "w0 w1", NULL, &c, &first);
    assert_true(r->shelves[0].list_rows >= SHELF_LIST_MIN);
    find_all(r, LLM_DOCS_LEXICAL, "w0 w1", NULL, &c, &second);
    assert_int_equal(first.count, second.count);
    for (size_t i = 0; i < first.count; i++) {
        assert_int_equal(first.items[i].id, second.items[i].id);
        assert_true(first.items[i].score == second.items[i].score);
    }
    rag_hits_deinit(&first);
    rag_hits_deinit(&second);
    assert_int_equal(index_remove(r, "c", name, NULL), SL_OK);
    check_against_naive(r, &c);
    check_against_naive(r, NULL);
    for (int i = 0; i < 300;
         i++) { /* more lists than there are places for, with and without room */
        char token[16];

        snprintf(token, sizeof token, "t%d", i % 200);
        if (!shelf_recall(&r->shelves[0], token))
            shelf_keep(&r->shelves[0], token, sl_calloc(1, 8), i % 50 ? 1 : SHELF_LIST_ROWS - 1);
        assert_true(r->shelves[0].list_rows <= SHELF_LIST_ROWS);
        assert_non_null(shelf_recall(&r->shelves[0], token));
    }
    sl_free(items);
    sl_free(vectors);
    rag_close(r);
}

/* ---- a file of the first schema ------------------------------------------------------------- */

static const char *const first_schema[] = {
    "CREATE TABLE collections ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,"
    "  model TEXT NOT NULL, dim INTEGER NOT NULL, generation INTEGER NOT NULL DEFAULT 0);"
    "CREATE TABLE documents ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  collection INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,"
    "  name TEXT NOT NULL, sha256 BLOB NOT NULL, settings TEXT NOT NULL, bytes INTEGER NOT NULL,"
    "  title TEXT NOT NULL, updated INTEGER NOT NULL, text TEXT NOT NULL,"
    "  UNIQUE (collection, name));"
    "CREATE TABLE chunks ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  document INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,"
    "  ordinal INTEGER NOT NULL, begin INTEGER NOT NULL, end INTEGER NOT NULL,"
    "  heading TEXT NOT NULL, text TEXT NOT NULL, embedding BLOB NOT NULL,"
    "  UNIQUE (document, ordinal));"
    "CREATE VIRTUAL TABLE chunk_words USING fts5(heading, text, content='chunks',"
    "  content_rowid='id', tokenize='porter unicode61 remove_diacritics 2');"
    "CREATE TRIGGER chunk_added AFTER INSERT ON chunks BEGIN"
    "  INSERT INTO chunk_words (rowid, heading, text) VALUES (new.id, new.heading, new.text); END;"
    "CREATE TRIGGER chunk_removed AFTER DELETE ON chunks BEGIN"
    "  INSERT INTO chunk_words (chunk_words, rowid, heading, text)"
    "  VALUES ('delete', old.id, old.heading, old.text); END;",
};

static void test_first_schema(void **state)
{
    store *s = NULL;
    rag *r;
    rag_hits hits;
    llm_docs d;
    json_t *list = NULL;

    assert_int_equal(store_open(place.path, first_schema, 1, &s, NULL), SL_OK);
    store_lock(s);
    assert_int_equal(
        store_exec(s,
                   "INSERT INTO collections (name, model, dim, generation) VALUES ('c', 'bag', 256,"
                   " 7);"
                   "INSERT INTO documents (collection, name, sha256, settings, bytes, title,"
                   " updated, text) VALUES (1, 'old.md', x'00', 'v1 180 30', 20, 'Old', 1234,"
                   " 'Zebras were grazing.');"
                   "INSERT INTO chunks (document, ordinal, begin, end, heading, text, embedding)"
                   " VALUES (1, 0, 0, 20, 'Animals', 'Zebras were grazing.', zeroblob(1024))",
                   NULL),
        SL_OK);
    store_unlock(s);
    store_close(s);
    r = must_open();
    d = rag_docs(r);
    find_all(r, LLM_DOCS_LEXICAL, "zebra grazes", NULL, NULL, &hits);
    assert_int_equal(hits.count, 1);
    assert_string_equal(hits.items[0].document, "old.md");
    assert_string_equal(hits.items[0].text, "Zebras were grazing.");
    assert_string_equal(hits.items[0].trust, "untrusted");
    assert_true(strncmp(hits.items[0].public_id, "doc_", 4) == 0);
    assert_int_equal(hits.items[0].parent_end, 20);
    rag_hits_deinit(&hits);
    find_all(r, LLM_DOCS_LEXICAL, "animals", NULL, NULL, &hits); /* the heading counts too */
    assert_int_equal(hits.count, 1);
    rag_hits_deinit(&hits);
    assert_int_equal(d.ops->list(d.ctx, "c", &list, NULL), SL_OK);
    assert_int_equal(json_array_size(list), 1);
    json_decref(list);
    assert_int_equal(d.ops->remove(d.ctx, "c", "old.md", NULL), SL_OK);
    store_lock(r->db);
    assert_int_equal(store_exec(r->db,
                                "INSERT INTO chunk_words (chunk_words) VALUES "
                                "('integrity-check')",
                                NULL),
                     SL_OK);
    store_unlock(r->db);
    rag_close(r);
}

/* ---- what is given --------------------------------------------------------------------------- */

/* Copies of a passage come once; the same form with other figures is another passage. */
static void test_near_duplicates(void **state)
{
    static const char *const texts[] = {
        "The zebra grazes on the wide savanna in large herds, 17 of them.",
        "The zebra grazes on the wide savanna in large herds, 17 of them!",
        "The zebra grazes on the wide savanna in large herds, 18 of them.",
    };
    rag *r = must_open();
    llm_docs d = rag_docs(r);
    llm_docs_search s = { .question = "zebra savanna herds", .top_k = 10, .threshold = -1 };
    rag_hits hits;

    for (size_t i = 0; i < SL_COUNT_OF(texts); i++) {
        char name[32];

        snprintf(name, sizeof name, "%zu.txt", i);
        assert_int_equal(d.ops->add(d.ctx, NULL, name, sl_span_str(texts[i]), NULL, NULL), SL_OK);
    }
    assert_int_equal(search_run(r, &s, &hits, NULL), SL_OK);
    assert_int_equal(hits.count, 2);
    rag_hits_deinit(&hits);
    s.threshold = 1.1;
    assert_int_equal(search_run(r, &s, &hits, NULL), SL_OK);
    assert_int_equal(hits.count, 0);
    rag_hits_deinit(&hits);
    s.mode = LLM_DOCS_RERANKED;
    assert_int_equal(search_run(r, &s, &hits, NULL), SL_ENOTSUP);
    rag_close(r);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_access),          CASE(test_filtered),   CASE(test_keeps_up),
        CASE(test_far_behind),      CASE(test_kept_lists), CASE(test_first_schema),
        CASE(test_near_duplicates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
