/* report.c - sums over the ledger, by one SQL statement: records and daily sums together. */
#include "observe/ledger_int.h"

#include <stdio.h>

#define ROWS_MAX 10000

static const char *const columns[LLM_USAGE_COLUMN_COUNT] = { "key",   "user",  "team",
                                                             "model", "route", "outcome" };

/* Both tables, narrowed. Values are parameters; names are our own. */
static void put_source(sl_buf *sql, const llm_usage_query *q, bool daily)
{
    sl_buf_printf(sql,
                  "SELECT at, key, user, team, model, route, outcome, %s AS requests, fresh, "
                  "cached, output, reasoning, queue, prefill, decode, cost FROM %s WHERE at >= "
                  "%lld AND at < %lld",
                  daily ? "requests" : "1", daily ? "usage_daily" : "usage", (long long)q->begin_ms,
                  (long long)q->end_ms);
    if (q->embeddings != q->generation)
        sl_buf_printf(sql, " AND embedding = %d", q->embeddings);
    for (int c = 0; c < LLM_USAGE_COLUMN_COUNT; c++) {
        if (q->only_count[c] == 0)
            continue;
        sl_buf_printf(sql, " AND %s IN (", columns[c]);
        for (size_t i = 0; i < q->only_count[c]; i++)
            sl_buf_printf(sql, "%s?%d", i ? "," : "", c * LLM_USAGE_VALUES_MAX + (int)i + 1);
        sl_buf_puts(sql, ")");
    }
}

static void put_query(sl_buf *sql, const llm_usage_query *q)
{
    if (q->bucket_ms > 0)
        sl_buf_printf(sql, "SELECT at / %lld * %lld", (long long)q->bucket_ms,
                      (long long)q->bucket_ms);
    else
        sl_buf_printf(sql, "SELECT %lld", (long long)q->begin_ms);
    for (int c = 0; c < LLM_USAGE_COLUMN_COUNT; c++)
        sl_buf_printf(sql, ", %s", q->by[c] ? columns[c] : "''");
    sl_buf_puts(sql,
                ", sum(requests), sum(fresh), sum(cached), sum(output), sum(reasoning), "
                "sum(cost), sum(queue) / 1000, sum(prefill) / 1000, sum(decode) / 1000 FROM (");
    put_source(sql, q, false);
    sl_buf_puts(sql, " UNION ALL ");
    put_source(sql, q, true);
    sl_buf_puts(sql, ") GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2, 3, 4, 5, 6, 7");
}

static void read_row(store_stmt *st, llm_usage_row *row)
{
    int64_t *const numbers[] = { &row->requests, &row->fresh,      &row->cached,
                                 &row->output,   &row->reasoning,  &row->cost_nusd,
                                 &row->queue_ms, &row->prefill_ms, &row->decode_ms };
    int at = 0;

    row->bucket_ms = store_int(st, at++);
    for (int c = 0; c < LLM_USAGE_COLUMN_COUNT; c++)
        row->columns[c] = store_text(st, at++);
    for (size_t i = 0; i < SL_COUNT_OF(numbers); i++)
        *numbers[i] = store_int(st, at++);
}

static sl_status run(store_stmt *st, const llm_usage_query *q,
                     void (*on_row)(void *row_ctx, const llm_usage_row *row), void *row_ctx,
                     sl_err *err)
{
    size_t rows = 0, max = q->rows_max ? q->rows_max : ROWS_MAX;
    bool has_row = false;
    sl_status status;

    for (int c = 0; c < LLM_USAGE_COLUMN_COUNT; c++)
        for (size_t i = 0; i < q->only_count[c]; i++)
            store_bind_str(st, c * LLM_USAGE_VALUES_MAX + (int)i + 1, q->only[c][i]);
    while ((status = store_step(st, &has_row, err)) == SL_OK && has_row) {
        llm_usage_row row;

        if (rows++ == max)
            return sl_fail(err, SL_ELIMIT,
                           "more than %zu sums; ask for a shorter time or fewer "
                           "columns",
                           max);
        read_row(st, &row);
        if (row.requests > 0)
            on_row(row_ctx, &row);
    }
    return status;
}

static sl_status query(void *ctx, const llm_usage_query *q,
                       void (*on_row)(void *row_ctx, const llm_usage_row *row), void *row_ctx,
                       sl_err *err)
{
    ledger *l = ctx;
    store_stmt *st = NULL;
    sl_status status;
    sl_buf sql;

    sl_buf_init(&sql, 64 * SL_KIB);
    put_query(&sql, q);
    status = sl_buf_ok(&sql, "query", err);
    if (l->has_writer)
        ledger_settle(l);
    store_lock(l->db);
    if (status == SL_OK)
        status = store_prepare(l->db, sql.ptr, &st, err);
    if (status == SL_OK)
        status = run(st, q, on_row, row_ctx, err);
    store_finish(st);
    store_unlock(l->db);
    sl_buf_deinit(&sql);
    return status;
}

const llm_usage_ops ledger_usage_ops = { query };
