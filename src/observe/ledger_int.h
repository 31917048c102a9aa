/* ledger_int.h - what ledger.c, journal.c and report.c share. */
#ifndef SL_OBSERVE_LEDGER_INT_H
#define SL_OBSERVE_LEDGER_INT_H

#include <pthread.h>

#include "observe/ledger.h"
#include "store/store.h"

/* ---- journal.c ----------------------------------------------------------------------------- */

/* Two files in turn: while one is appended to, the other's records reach the database. */
typedef struct journal {
    int fds[2];
    char *map[2];
    size_t mapped[2]; /* bytes; 0: not mapped */
    int active;
    size_t bytes[2]; /* of lines */
    char path[2][4096];
} journal;

/* Whom journal_open tells what it finds. */
typedef struct journal_reader {
    void (*on_record)(void *ctx, const ledger_record *r);
    bool (*on_end)(void *ctx); /* after a pair: true when its records may be forgotten */
    void *ctx;
} journal_reader;

/* Takes the first pair of journals in dir that no living process has, after telling the records of
 * all such pairs. */
SL_NODISCARD sl_status journal_open(journal *j, const char *dir, const journal_reader *reader,
                                    sl_err *err);
void journal_close(journal *j);
/* Appends one record. False: it could not be written. */
bool journal_append(journal *j, const ledger_record *r);
/* Forgets a file whose records are all in the database and that nobody appends to; its `bytes` are
 * the caller's to reset. */
void journal_clear(journal *j, int which);

/* ---- ledger.c ------------------------------------------------------------------------------ */

typedef struct entry {
    struct entry *next;
    int journal;     /* which file it is in */
    ledger_record r; /* its strings lie behind it */
} entry;

struct ledger {
    ledger_options o;
    pthread_mutex_t lock;
    pthread_cond_t wake, settled;
    pthread_t writer;
    bool has_writer, stop;
    int64_t wrote_ns; /* when the last transaction ended */
    int hurry;        /* threads that wait until all is written */
    bool is_failing;  /* the last batch was not written */
    journal journal;
    entry *first, *last;    /* waiting for the writer */
    int64_t waiting[2];     /* by journal file, the writer's batch included */
    int64_t added, written; /* how many */
    atomic_llong unwritten;
    bool overflow[2]; /* the file has records that nobody waits with */
    store *db;        /* used under its own lock */
};

/* report.c */
extern const llm_usage_ops ledger_usage_ops;

#endif
