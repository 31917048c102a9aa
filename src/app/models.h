/* models.h - the models of the program: which there are, which are loaded, who makes room.
 *
 * Every model has a stable backend in the chain, from when it is first seen until the end. Its
 * engine is opened when a request needs it and closed when it was not used for its keep-alive, when
 * it is told to, or when another model needs the memory; requests that come meanwhile wait in the
 * backend. See README.md for the states. */
#ifndef SL_APP_MODELS_H
#define SL_APP_MODELS_H

#include "app/config.h"
#include "llm/llm.h"
#include "model/model.h"

typedef struct models models;

/* What the engines of a model did, those that are closed included. */
typedef struct models_stats {
    char model[128];
    double running, waiting, kv_used, kv_blocks;
    double steps, preemptions, prefix_hits, prefix_queries, draft_tokens, draft_accepted;
} models_stats;

/* Both are borrowed and must outlive *ret. */
SL_NODISCARD sl_status models_create(const config *c, llm_chain *chain, models **ret, sl_err *err);
/* Fails what waits, stops all engines; every request has got its end then. Harmless when repeated.
 */
void models_stop(models *m);
void models_destroy(models *m); /* stops; accepts NULL */

/* Adds a model that stays loaded, and loads it. needs: APP_*; a model of no use for them is left
 * out. */
SL_NODISCARD sl_status models_add(models *m, const config_model *which, bool configured,
                                  unsigned needs, sl_err *err);
/* Adds what the store has, now and whenever it changes, to be loaded when asked for. */
SL_NODISCARD sl_status models_watch_store(models *m, sl_err *err);

llm_models models_service(models *m);
/* Fills ret[max] for the models that are loaded, were, or are waited for; how many. */
size_t models_read_stats(models *m, models_stats *ret, size_t max);

#endif
