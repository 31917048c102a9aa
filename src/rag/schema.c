/* schema.c - the tables of the documents, and how older files become newer ones.
 *
 * Whatever changes a document raises its collection's generation and leaves a line in `changes`, by
 * triggers, so that no writer can forget it: a process that keeps vectors in memory reads one row
 * to see that they are old, and those lines to see which. Passages go into the full-text index by
 * triggers too. */
#include "rag/ingest.h"

/* Lines of `changes` that are kept; who is further behind reads the collection anew. */
#define CHANGES_KEPT "10000"

#define NOTE_CHANGE(row)                                                                           \
    " BEGIN UPDATE collections SET generation = generation + 1 WHERE id = " row ".collection;"     \
    " DELETE FROM changes WHERE collection = " row ".collection AND generation <="                 \
    "  (SELECT generation FROM collections WHERE id = " row ".collection) - " CHANGES_KEPT ";"     \
    " INSERT INTO changes (collection, generation, document)"                                      \
    "  SELECT id, generation, " row ".id FROM collections WHERE id = " row ".collection; END;"

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
static const char v2[] = "ALTER TABLE collections ADD COLUMN public_id TEXT;" /* "vs_..." */
                         "ALTER TABLE collections ADD COLUMN description TEXT NOT NULL DEFAULT '';"
                         "ALTER TABLE collections ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';"
                         "ALTER TABLE collections ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';"
                         "ALTER TABLE collections ADD COLUMN created INTEGER NOT NULL DEFAULT 0;" /* Unix seconds */
                         "ALTER TABLE collections ADD COLUMN last_active INTEGER NOT NULL DEFAULT "
                         "0;"
                         "ALTER TABLE collections ADD COLUMN expires_after INTEGER NOT NULL "
                         "DEFAULT 0;" /* s; 0: never */
                         "UPDATE collections SET public_id = 'vs_' || lower(hex(randomblob(12))),"
                         "  created = unixepoch(), last_active = unixepoch();"
                         "CREATE UNIQUE INDEX collections_public ON collections (public_id);"

                         "ALTER TABLE documents ADD COLUMN public_id TEXT;" /* "file-..." or
                                                                               "doc_..." */
                         "ALTER TABLE documents ADD COLUMN type TEXT NOT NULL DEFAULT 'text/plain';"
                         "ALTER TABLE documents ADD COLUMN pages INTEGER NOT NULL DEFAULT 0;"
                         "ALTER TABLE documents ADD COLUMN source TEXT NOT NULL DEFAULT '';"
                         "ALTER TABLE documents ADD COLUMN trust TEXT NOT NULL DEFAULT 'untrusted';"
                         "ALTER TABLE documents ADD COLUMN attributes TEXT NOT NULL DEFAULT '{}';"
                         "ALTER TABLE documents ADD COLUMN restricted INTEGER NOT NULL DEFAULT 0;" /* has a list */
                         "ALTER TABLE documents ADD COLUMN created INTEGER NOT NULL DEFAULT 0;"
                         "UPDATE documents SET public_id = 'doc_' || lower(hex(randomblob(12))), "
                         "created = updated;"
                         "CREATE UNIQUE INDEX documents_public ON documents (collection, "
                         "public_id);"

                         "CREATE TABLE grants (" /* "user:NAME", "team:NAME", "role:NAME" may read
                                                    it */
                         "  document INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,"
                         "  principal TEXT NOT NULL, PRIMARY KEY (document, principal)) WITHOUT "
                         "ROWID;"

                         "ALTER TABLE chunks ADD COLUMN collection INTEGER NOT NULL DEFAULT 0;"
                         "ALTER TABLE chunks ADD COLUMN page INTEGER NOT NULL DEFAULT 0;"
                         "ALTER TABLE chunks ADD COLUMN parent_begin INTEGER NOT NULL DEFAULT 0;"
                         "ALTER TABLE chunks ADD COLUMN parent_end INTEGER NOT NULL DEFAULT 0;"
                         "UPDATE chunks SET parent_begin = begin, parent_end = end,"
                         "  collection = (SELECT collection FROM documents WHERE id = "
                         "chunks.document);"
                         "CREATE INDEX chunks_collection ON chunks (collection, id);"

                         "CREATE TABLE changes ("
                         "  collection INTEGER NOT NULL REFERENCES collections(id) ON DELETE "
                         "CASCADE,"
                         "  generation INTEGER NOT NULL, document INTEGER NOT NULL,"
                         "  PRIMARY KEY (collection, generation)) WITHOUT ROWID;"
                         "CREATE TRIGGER document_added AFTER INSERT ON documents" NOTE_CHANGE(
                             "ne"
                             "w") "CREATE TRIGGER document_changed AFTER UPDATE ON "
                                  "documents" NOTE_CHANGE("new") "CREATE TRIGGER document_removed "
                                                                 "AFTER DELETE ON "
                                                                 "documents" NOTE_CHANGE(
                                                                     "old") "CREATE TRIGGER "
                                                                            "grant_added "
                                                                            "AFTER INSERT ON "
                                                                            "grants" NOTE_GRANT(
                                                                                "new") "CREA"
                                                                                       "TE "
                                                                                       "TRIG"
                                                                                       "GER "
                                                                                       "gran"
                                                                                       "t_"
                                                                                       "remo"
                                                                                       "ved "
                                                                                       "AFTE"
                                                                                       "R "
                                                                                       "DELE"
                                                                                       "TE "
                                                                                       "ON "
                                                                                       "gran"
                                                                                       "t"
                                                                                       "s" NOTE_GRANT(
                                                                                           "old");

static const char *const migrations[] = { v1, v2, schema_queue };

sl_status index_open(rag *r, sl_err *err)
{
    return store_open(r->o.db_path, migrations, SL_COUNT_OF(migrations), &r->db, err);
}
