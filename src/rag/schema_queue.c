/* schema_queue.c - the tables of what comes in.
 *
 * Documents are taken before they are read. A label is the name to show where the name itself was
 * taken: names are unique within a collection. The bytes of a line of the queue are NULL where the
 * stored text is to be cut anew. */
#include "rag/ingest.h"

/* clang-format off */
const char schema_queue[] =
    "ALTER TABLE collections ADD COLUMN label TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE documents ADD COLUMN label TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE documents ADD COLUMN status TEXT NOT NULL DEFAULT 'completed';"
    "ALTER TABLE documents ADD COLUMN error_status INTEGER NOT NULL DEFAULT 0;" /* sl_status */
    "ALTER TABLE documents ADD COLUMN error TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE documents ADD COLUMN batch TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE documents ADD COLUMN chunk_tokens INTEGER NOT NULL DEFAULT 0;" /* 0: as all */
    "ALTER TABLE documents ADD COLUMN overlap_tokens INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE documents ADD COLUMN chunks INTEGER NOT NULL DEFAULT 0;"
    "UPDATE documents SET chunks = (SELECT count(*) FROM chunks WHERE document = documents.id);"
    "CREATE INDEX documents_state ON documents (collection, status, restricted, chunks, bytes);"
    "CREATE INDEX documents_batch ON documents (batch) WHERE batch != '';"
    "CREATE TABLE blocks ("
    "  document INTEGER PRIMARY KEY REFERENCES documents(id) ON DELETE CASCADE,"
    "  blocks BLOB NOT NULL);"
    "CREATE TABLE queue ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  document INTEGER NOT NULL UNIQUE REFERENCES documents(id) ON DELETE CASCADE,"
    "  urgent INTEGER NOT NULL, sha256 BLOB NOT NULL, spec TEXT NOT NULL, bytes BLOB);"
    "CREATE INDEX queue_order ON queue (urgent DESC, id);"
    "CREATE TABLE batches ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT, public_id TEXT NOT NULL UNIQUE,"
    "  collection INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,"
    "  created INTEGER NOT NULL, cancelled INTEGER NOT NULL DEFAULT 0);";
