/* kept.h - keeps the answers of /v1/responses in a database of its own, each for its owner.
 *
 * A put is in memory at once and on disk soon after: a writer thread collects what is there into
 * one transaction, so that neither the engine nor an answer waits for a disk. Per owner the newest
 * SL_RESPONSES_MAX answers and SL_RESPONSES_BYTES_MAX bytes are kept, for SL_RESPONSE_DAYS. */
#ifndef SL_APP_KEPT_H
#define SL_APP_KEPT_H

#include "api/api.h"

typedef struct kept kept;

/* path ":memory:" keeps nothing beyond kept_close. */
SL_NODISCARD sl_status kept_open(const char *path, kept **ret, sl_err *err);
/* Writes what is still in memory. Accepts NULL. */
void kept_close(kept *k);
/* Valid until kept_close. */
api_kept kept_responses(kept *k);

#endif
