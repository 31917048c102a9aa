/* store.h - a narrow door to SQLite: the only room that includes sqlite3.h.
 *
 * A store is one connection to one file, in WAL mode with synchronous = FULL, so that what was
 * committed survives a power cut. Every function but store_open, store_close and store_lock is
 * called between store_lock and store_unlock of the calling thread: one thread at a time, and all
 * steps of a transaction belong together. Other processes may use the same file. */
#ifndef SL_STORE_STORE_H
#define SL_STORE_STORE_H

#include <stdarg.h>

#include "base/buf.h"

typedef struct store store;
typedef struct store_stmt store_stmt;

/* Opens path, making the file and its directory (":memory:" makes neither). migrations[i] is SQL
 * that takes the schema from version i to i + 1 (PRAGMA user_version), each in one transaction.
 *
 * SL_ECONFLICT: the file is of a later program. SL_EFORMAT: it is no database or is damaged. */
SL_NODISCARD sl_status store_open(const char *path, const char *const *migrations,
                                  int migration_count, store **ret, sl_err *err);

/* What splits text into words for full-text tables made with tokenize='NAME'. */
typedef bool (*store_token_fn)(void *ctx, const char *token, size_t len);
typedef struct store_tokenizer {
    const char *name;
    void *(*create)(void); /* one thread's state; NULL: out of memory */
    void (*destroy)(void *state);
    /* Calls fn for each word; false when it stopped because fn said false or memory was short. */
    bool (*split)(void *state, const char *text, size_t len, store_token_fn fn, void *ctx);
} store_tokenizer;

/* As store_open; t is known before the first migration. It is borrowed for the store's life. */
SL_NODISCARD sl_status store_open_words(const char *path, const char *const *migrations,
                                        int migration_count, const store_tokenizer *t, store **ret,
                                        sl_err *err);
/* All statements must be closed and the lock free. Accepts NULL. */
void store_close(store *s);

void store_lock(store *s);
void store_unlock(store *s);

/* Runs SQL that gives no rows. */
SL_NODISCARD sl_status store_exec(store *s, const char *sql, sl_err *err);

/* BEGIN IMMEDIATE: takes the write lock at once, so that a commit cannot fail for a later one. */
SL_NODISCARD sl_status store_begin(store *s, sl_err *err);
/* A read transaction: all reads up to store_commit or store_rollback see one state. */
SL_NODISCARD sl_status store_begin_read(store *s, sl_err *err);
/* On failure the transaction was rolled back. */
SL_NODISCARD sl_status store_commit(store *s, sl_err *err);
/* Does nothing outside a transaction. */
void store_rollback(store *s);

/* ---- statements ---------------------------------------------------------------------------- */

/* Compiles one statement; it belongs to the caller until store_finish. */
SL_NODISCARD sl_status store_prepare(store *s, const char *sql, store_stmt **ret, sl_err *err);
void store_finish(store_stmt *st); /* accepts NULL */

/* Parameters count from 1. The bytes are borrowed up to the next store_reset or store_finish. A
 * failed bind is reported by the next step. A NULL text binds NULL. */
void store_bind_int(store_stmt *st, int i, int64_t value);
void store_bind_text(store_stmt *st, int i, const char *text, size_t len);
void store_bind_str(store_stmt *st, int i, const char *text);
void store_bind_blob(store_stmt *st, int i, const void *bytes, size_t len);

/* *ret_row: whether there is a row now; false at the end. */
SL_NODISCARD sl_status store_step(store_stmt *st, bool *ret_row, sl_err *err);
/* Steps a statement that gives no row and makes it ready for new parameters. */
SL_NODISCARD sl_status store_run(store_stmt *st, sl_err *err);
void store_reset(store_stmt *st);

/* Columns of the present row count from 0; texts and blobs live up to the next step. */
int64_t store_int(store_stmt *st, int col);
double store_double(store_stmt *st, int col);
const char *store_text(store_stmt *st, int col); /* "" for NULL */
sl_span store_bytes(store_stmt *st, int col);

/* ---- full text ----------------------------------------------------------------------------- */

#define STORE_POSTING_WORDS_MAX 200 /* SQLite's depth of an expression is 256 */

/* word: which of the words; count: how often the row has it. False: enough. */
typedef bool (*store_posting_fn)(void *ctx, size_t word, int64_t rowid, int count);

/* Calls fn for every row of the FTS5 table that has one of the words: word by word, rows in
 * ascending order. words are tokens as the tokenizer makes them, at most STORE_POSTING_WORDS_MAX,
 * none empty; table is our own text. */
SL_NODISCARD sl_status store_postings(store *s, const char *table, const sl_span *words,
                                      size_t count, store_posting_fn fn, void *ctx, sl_err *err);

/* ---- in one call: types has a letter per parameter: s const char * (NULL too), i int64_t, b
 * sl_span */

void store_bind_all(store_stmt *st, const char *types, va_list args);
SL_NODISCARD sl_status store_prepare_with(store *s, store_stmt **ret, sl_err *err, const char *sql,
                                          const char *types, ...);
/* A statement that gives no rows. */
SL_NODISCARD sl_status store_run_with(store *s, sl_err *err, const char *sql, const char *types,
                                      ...);
/* The first row: *ret is st, or NULL when there is none or it failed; st is finished then. */
SL_NODISCARD sl_status store_first(store_stmt *st, store_stmt **ret, sl_err *err);
SL_NODISCARD sl_status store_first_with(store *s, store_stmt **ret, sl_err *err, const char *sql,
                                        const char *types, ...);

int64_t store_last_id(store *s);
int64_t store_changes(store *s); /* rows changed by the last statement */

/* ---- files as a whole, without a store ------------------------------------------------------ */

/* Copies the database at path to a new file, as one state of it, while others read and write. All
 * that was committed before the call is in the copy. What a failure leaves at `to` is the caller's.
 */
SL_NODISCARD sl_status store_copy(const char *path, const char *to, sl_err *err);
/* SL_EFORMAT when the file is no database, or its pages or indexes contradict each other. */
SL_NODISCARD sl_status store_check(const char *path, sl_err *err);

#endif
