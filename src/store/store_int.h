/* store_int.h - what the files of this room share. */
#ifndef SL_STORE_STORE_INT_H
#define SL_STORE_STORE_INT_H

#include <pthread.h>
#include <sqlite3.h>

#include "store/store.h"

struct store {
    char *path;
    pthread_mutex_t lock; /* guards db and everything made from it */
    sqlite3 *db;
};

struct store_stmt {
    store *s;
    sqlite3_stmt *raw;
    int bind_rc; /* the first bind that failed, or SQLITE_OK */
};

/* ---- words.c */
SL_NODISCARD sl_status store_add_tokenizer(store *s, const store_tokenizer *t, sl_err *err);

/* Records what SQLite said as one of our statuses. */
sl_status store_fail(store *s, int rc, sl_err *err);

#endif
