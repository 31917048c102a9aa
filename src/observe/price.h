/* price.h - what tokens cost, by model and date. */
#ifndef SL_OBSERVE_PRICE_H
#define SL_OBSERVE_PRICE_H

#include "llm/llm.h"

/* Dollars per million tokens, valid for [from, until) in days since 1970. */
typedef struct price {
    const char *model; /* a trailing * matches any rest */
    double input, cached_input, output;
    int64_t from_day, until_day; /* 0: open */
} price;

typedef struct price_table {
    const price *rows; /* the first that fits counts */
    size_t count;
} price_table;

/* Cost in billionths of a dollar; 0 for models without a price. Reasoning costs as output. */
int64_t price_cost_nusd(const price_table *t, const char *model, const llm_tokens *tokens,
                        int64_t now_ms);
/* "2026-01-31" to days since 1970. SL_EINVAL: no such date. */
SL_NODISCARD sl_status price_day(const char *text, int64_t *ret, sl_err *err);

#endif
