/* schema.c - the tables of the documents, and how older files become newer ones.
 *
 * Whatever changes a document raises its collection's generation and leaves a line in `changes`, by
 * triggers, so that no writer can forget it: a process that keeps vectors in memory reads one row
 * to see that they are old, and those lines to see which. Passages go into the full-text index by
 * triggers too. */
#include "rag/ingest.h"
#include "rag/lexicon.h"
#include "rag/rag_int.h"

/* Lines of `changes` that are kept; who is further behind reads the collection anew. */
#define CHANGES_KEPT "10000"

#define NOTE_CHANGE(row)                                                                           \
    " BEGIN UPDATE collections SET generation = generation + 1 WHERE id = " row ".collection;"     \
    " DELETE FROM changes WHERE collection = " row ".collection AND generation <="                 \
    "  (SELECT generation FROM collections WHERE id = " row ".collection) - " CHANGES_KEPT ";"     \
    " INSERT INTO changes (collection, generation, document)"                                      \
    "  SELECT id, generation, " row ".id FROM collections WHERE id = " row ".collection; END;"

/* What the tokenizer gets of a passage: a head that says whose words they are and how to stem them
 * (lexicon.c), then its words. */
#define INDEXED_TEXT(row)                                                                          \
    "char(1) || " row ".collection || ' ' || " row ".language || char(2) || " row                  \
    ".heading || char(10) || " row ".header || char(10) || " row ".text"

/* Touching the document notes the change. */
#define NOTE_GRANT(row)                                                                            \
    " BEGIN UPDATE documents SET updated = updated WHERE id = " row ".document; END;"

static const char v1[] =
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
    "  id INTEGER PRIMARY KEY AUTOINCREMENT," /* ids are never used twice */
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
    "  VALUES ('delete', old.id, old.heading, old.text); END;";

/* Collections and documents get identities of their own, origin, attributes and access lists. A
 * collection of dim 0 has no passages yet and takes the model that comes first. */
/* Macros between texts are something else to clang-format: */
/* clang-format off */
static const char v2[] =
    "ALTER TABLE collections ADD COLUMN public_id TEXT;" /* "vs_..." */
    "ALTER TABLE collections ADD COLUMN description TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE collections ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';"
    "ALTER TABLE collections ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';"
    "ALTER TABLE collections ADD COLUMN created INTEGER NOT NULL DEFAULT 0;" /* Unix seconds */
    "ALTER TABLE collections ADD COLUMN last_active INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE collections ADD COLUMN expires_after INTEGER NOT NULL DEFAULT 0;" /* s; 0: never */
    "UPDATE collections SET public_id = 'vs_' || lower(hex(randomblob(12))),"
    "  created = unixepoch(), last_active = unixepoch();"
    "CREATE UNIQUE INDEX collections_public ON collections (public_id);"

    "ALTER TABLE documents ADD COLUMN public_id TEXT;" /* "file-..." or "doc_..." */
    "ALTER TABLE documents ADD COLUMN type TEXT NOT NULL DEFAULT 'text/plain';"
    "ALTER TABLE documents ADD COLUMN pages INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE documents ADD COLUMN source TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE documents ADD COLUMN trust TEXT NOT NULL DEFAULT 'untrusted';"
    "ALTER TABLE documents ADD COLUMN attributes TEXT NOT NULL DEFAULT '{}';"
    "ALTER TABLE documents ADD COLUMN restricted INTEGER NOT NULL DEFAULT 0;" /* has a list */
    "ALTER TABLE documents ADD COLUMN created INTEGER NOT NULL DEFAULT 0;"
    "UPDATE documents SET public_id = 'doc_' || lower(hex(randomblob(12))), created = updated;"
    "CREATE UNIQUE INDEX documents_public ON documents (collection, public_id);"

    "CREATE TABLE grants (" /* "user:NAME", "team:NAME", "role:NAME" may read it */
    "  document INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,"
    "  principal TEXT NOT NULL, PRIMARY KEY (document, principal)) WITHOUT ROWID;"

    "DROP TRIGGER chunk_added; DROP TRIGGER chunk_removed; DROP TABLE chunk_words;"
    "ALTER TABLE chunks ADD COLUMN collection INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE chunks ADD COLUMN language TEXT NOT NULL DEFAULT 'english';" /* stemmer's name */
    "ALTER TABLE chunks ADD COLUMN length INTEGER NOT NULL DEFAULT 0;"        /* in words */
    "ALTER TABLE chunks ADD COLUMN header TEXT NOT NULL DEFAULT '';" /* its table's header row */
    "ALTER TABLE chunks ADD COLUMN page INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE chunks ADD COLUMN parent_begin INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE chunks ADD COLUMN parent_end INTEGER NOT NULL DEFAULT 0;"
    "UPDATE chunks SET parent_begin = begin, parent_end = end,"
    "  collection = (SELECT collection FROM documents WHERE id = chunks.document);"
    "CREATE INDEX chunks_collection ON chunks (collection, id);"
    "CREATE VIEW chunk_texts AS SELECT id, " INDEXED_TEXT("chunks") " AS text FROM chunks;"
    "CREATE VIRTUAL TABLE chunk_words USING fts5(text, content='chunk_texts',"
    "  content_rowid='id', columnsize=0, tokenize='" LEXICON_TOKENIZER "');"
    "CREATE TRIGGER chunk_added AFTER INSERT ON chunks BEGIN"
    "  INSERT INTO chunk_words (rowid, text) VALUES (new.id, " INDEXED_TEXT("new") "); END;"
    "CREATE TRIGGER chunk_removed AFTER DELETE ON chunks BEGIN"
    "  INSERT INTO chunk_words (chunk_words, rowid, text)"
    "  VALUES ('delete', old.id, " INDEXED_TEXT("old") "); END;"
    "INSERT INTO chunk_words (chunk_words) VALUES ('rebuild');"

    "CREATE TABLE changes ("
    "  collection INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,"
    "  generation INTEGER NOT NULL, document INTEGER NOT NULL,"
    "  PRIMARY KEY (collection, generation)) WITHOUT ROWID;"
    "CREATE TRIGGER document_added AFTER INSERT ON documents" NOTE_CHANGE("new")
    "CREATE TRIGGER document_changed AFTER UPDATE ON documents" NOTE_CHANGE("new")
    "CREATE TRIGGER document_removed AFTER DELETE ON documents" NOTE_CHANGE("old")
    "CREATE TRIGGER grant_added AFTER INSERT ON grants" NOTE_GRANT("new")
    "CREATE TRIGGER grant_removed AFTER DELETE ON grants" NOTE_GRANT("old");
/* clang-format on */

static const char *const migrations[] = { v1, v2, schema_queue };

/* Passages of older files do not know their length yet. */
static sl_status fill_lengths(store *db, words *w, int64_t *ret_count, sl_err *err)
{
    store_stmt *get = NULL, *set = NULL;
    bool row = false;
    sl_status status = store_prepare(
        db, "SELECT id, language, heading, text FROM chunks WHERE length = 0", &get, err);

    *ret_count = 0;
    if (status == SL_OK)
        status = store_prepare(db, "UPDATE chunks SET length = ?2 WHERE id = ?1", &set, err);
    while (status == SL_OK && (status = store_step(get, &row, err)) == SL_OK && row) {
        const char *text = store_text(get, 3);

        store_bind_int(set, 1, store_int(get, 0));
        store_bind_int(
            set, 2, lexicon_length(w, store_text(get, 1), store_text(get, 2), text, strlen(text)));
        status = store_run(set, err);
        ++*ret_count;
    }
    store_finish(get);
    store_finish(set);
    return status;
}

static sl_status finish_migration(store *db, sl_err *err)
{
    words *w = words_create();
    int64_t count = 0;
    sl_status status = w ? SL_OK : sl_fail(err, SL_ENOMEM, "out of memory");

    store_lock(db);
    if (status == SL_OK)
        status = store_begin(db, err);
    if (status == SL_OK)
        status = fill_lengths(db, w, &count, err);
    if (status == SL_OK)
        status = store_commit(db, err);
    else
        store_rollback(db);
    store_unlock(db);
    words_destroy(w);
    return status;
}

sl_status index_open(rag *r, sl_err *err)
{
    SL_TRY(store_open_words(r->o.db_path, migrations, SL_COUNT_OF(migrations), &lexicon_tokenizer,
                            &r->db, err));
    SL_TRY(finish_migration(r->db, err));
    if (strcmp(r->o.db_path, ":memory:") == 0)
        return SL_OK; /* a second connection would see another file */
    return store_open_words(r->o.db_path, migrations, SL_COUNT_OF(migrations), &lexicon_tokenizer,
                            &r->finder, err);
}
