/* report.h - questions about usage and cost, as the API asks them of the ledger. Included by llm.h.
 */
#ifndef SL_LLM_REPORT_H
#define SL_LLM_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* What sums are grouped by, and what they can be narrowed to. */
typedef enum llm_usage_column {
    LLM_USAGE_KEY,
    LLM_USAGE_USER,
    LLM_USAGE_TEAM,
    LLM_USAGE_MODEL,
    LLM_USAGE_ROUTE,
    LLM_USAGE_OUTCOME, /* "stop", "length", "cancelled", "error" */
    LLM_USAGE_COLUMN_COUNT
} llm_usage_column;

#define LLM_USAGE_VALUES_MAX 16

typedef struct llm_usage_query {
    int64_t begin_ms, end_ms; /* [begin, end) since 1970 */
    int64_t bucket_ms;        /* sums per so much time; 0: over all of it */
    bool by[LLM_USAGE_COLUMN_COUNT];
    /* Only these values; count 0: all. Borrowed. */
    const char *only[LLM_USAGE_COLUMN_COUNT][LLM_USAGE_VALUES_MAX];
    size_t only_count[LLM_USAGE_COLUMN_COUNT];
    bool embeddings, generation; /* which kinds of requests; neither: both */
    size_t rows_max;             /* 0: 10,000 */
} llm_usage_query;

/* One sum. Strings live during the callback only; "" for columns not grouped by. */
typedef struct llm_usage_row {
    int64_t bucket_ms; /* when the bucket begins */
    const char *columns[LLM_USAGE_COLUMN_COUNT];
    int64_t requests, fresh, cached, output, reasoning, cost_nusd;
    int64_t queue_ms, prefill_ms, decode_ms; /* sums */
} llm_usage_row;

typedef struct llm_usage_ops {
    /* Rows in the order of time, then of the columns. Blocks. SL_ELIMIT: more than rows_max. */
    sl_status (*query)(void *ctx, const llm_usage_query *q,
                       void (*on_row)(void *row_ctx, const llm_usage_row *row), void *row_ctx,
                       sl_err *err);
} llm_usage_ops;

typedef struct llm_usage_source {
    const llm_usage_ops *ops; /* NULL: there is no ledger */
    void *ctx;
} llm_usage_source;

#endif
