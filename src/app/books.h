/* books.h - what the configuration says about limits, prices and usage, made into the limiter and
 * the ledger. */
#ifndef SL_APP_BOOKS_H
#define SL_APP_BOOKS_H

#include "access/access.h"
#include "app/config.h"
#include "base/metric.h"
#include "observe/observe.h"

typedef struct books books;

/* Opens limits and ledger in the data directory. only_read: the ledger for reports, no limiter. */
SL_NODISCARD sl_status books_open(const config *c, bool only_read, books **ret, sl_err *err);
void books_close(books *b); /* accepts NULL; no request may be under way */
/* Prices and limits of another configuration from now on; on failure the old ones stay. */
SL_NODISCARD sl_status books_reload(books *b, const config *c, sl_err *err);
/* Appends their stages to the chain: the ledger's first. */
void books_add_stages(books *b, llm_chain *chain);
llm_usage_source books_usage(books *b);
/* Cost and refusals as metrics, before requests come. r outlives the books' last request. */
void books_add_metrics(books *b, metric_registry *r);

#endif
