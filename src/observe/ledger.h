/* ledger.h - what every request used and cost: one record each, and sums of them.
 *
 * A record is first appended to a journal (a mapped file, which survives kill -9), before the
 * client sees the end of its answer, then written to SQLite by the ledger's own thread, many in one
 * transaction. Time and id of a record are the key, so that a journal read again doubles nothing.
 */
#ifndef SL_OBSERVE_LEDGER_H
#define SL_OBSERVE_LEDGER_H

#include "llm/llm.h"

typedef struct ledger ledger;

typedef struct ledger_record {
    const char *id; /* of the request; unique */
    int64_t end_ms; /* wall clock */
    const char *columns[LLM_USAGE_COLUMN_COUNT];
    bool is_embedding;
    llm_tokens tokens;
    int64_t queue_us, prefill_us, decode_us;
    int64_t cost_nusd;
} ledger_record;

typedef struct ledger_options {
    const char *dir; /* where usage.db and its journals are */
    /* Billionths of a dollar, at the prices of now. NULL: everything is free. */
    int64_t (*cost_nusd)(void *ctx, const char *model, const llm_tokens *tokens);
    void *cost_ctx;
    int keep_days;  /* 0: 90; older records become sums per day */
    bool only_read; /* for reports beside a running server */
    /* Told of each record of a request, on the backend's thread; may be NULL. */
    void (*on_record)(void *ctx, const ledger_record *r);
    void *record_ctx;
} ledger_options;

SL_NODISCARD sl_status ledger_open(const ledger_options *options, ledger **ret, sl_err *err);
void ledger_close(ledger *l); /* writes what is left; accepts NULL */

/* Journals a record and queues it for the database. Any thread; copies. */
void ledger_add(ledger *l, const ledger_record *r);
/* Waits until everything added so far is in the database, or that failed. For tests and reports. */
void ledger_settle(ledger *l);
/* Makes sums of old records; the ledger's thread does it by itself every hour. */
SL_NODISCARD sl_status ledger_roll_up(ledger *l, int64_t now_ms, sl_err *err);

/* Records of the journal that the database did not get, because it failed. */
int64_t ledger_unwritten(const ledger *l);

/* The ledger as a stage of the chain, and as what the API asks. */
extern const llm_stage_ops ledger_stage;
llm_usage_source ledger_source(ledger *l);

#endif
