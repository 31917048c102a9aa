/* app.h - the composed program: models loaded, chain wired, documents open, server running. */
#ifndef SL_APP_APP_H
#define SL_APP_APP_H

#include "app/config.h"
#include "app/pull.h"
#include "app/recipe.h"
#include "jobs/jobs.h"
#include "llm/llm.h"
#include "model/model.h"

typedef struct app app;

enum {
    APP_CHAT = 1,     /* needs a model that generates */
    APP_EMBED = 2,    /* needs a model that embeds */
    APP_DOCS = 4,     /* opens the document store; its models are needed as the other flags say */
    APP_INGEST = 8,   /* beside APP_DOCS: with threads that take documents in */
    APP_SCRATCH = 16, /* beside APP_DOCS: an empty store that is gone afterwards */
};

/* Loads the configured models (default: what is in the store) and wires the chain. needs: what must
 * be there, so that a command loads nothing else. c is borrowed and must outlive the app. */
SL_NODISCARD sl_status app_create(const config *c, unsigned needs, app **ret, sl_err *err);
void app_destroy(app *a); /* accepts NULL */

llm_chain *app_chain(app *a);
/* ops NULL when APP_DOCS was not asked for, or a model for it is missing. */
llm_docs app_docs(app *a);

/* Issuers and secrets of the configuration, checked without network or database. */
SL_NODISCARD sl_status app_check_auth(const config *c, sl_err *err);

/* The accounts of the data directory, for a command; also beside a running server. */
SL_NODISCARD sl_status app_open_accounts(const config *c, llm_accounts *ret, sl_err *err);
void app_close_accounts(llm_accounts *accounts); /* accepts an empty one */

/* Checks what the configuration says about the server, as far as words tell. */
SL_NODISCARD sl_status app_check_server(const config *c, sl_err *err);
/* The same; and refuses an address beyond this machine while everybody may call, before anything
 * is loaded. */
SL_NODISCARD sl_status app_check_listen(const config *c, sl_err *err);

/* Makes the configuration anew, from the same file, environment and flags. */
typedef sl_status (*app_config_fn)(void *ctx, config **ret, sl_err *err);

/* Fetches what loading.pull names and the store lacks; what cannot be fetched is logged. Ends
 * early, with SL_ECANCELLED, when SIGTERM or SIGINT is pending. */
SL_NODISCARD sl_status app_fetch_first(const config *c, sl_err *err);
/* Serves until SIGTERM or SIGINT, then drains. Logs "server.ready" with the bound address. SIGHUP
 * reloads what can change while serving, all or nothing. */
SL_NODISCARD sl_status app_serve(app *a, app_config_fn remake, void *remake_ctx, sl_err *err);
/* Whether the prices and limits are right. */
SL_NODISCARD sl_status app_check_books(const config *c, sl_err *err);
/* Whether logs and metrics are said in words that there are. */
SL_NODISCARD sl_status app_check_watch(const config *c, sl_err *err);
/* Starts the log of a server; sl_log_stop ends it. */
SL_NODISCARD sl_status app_start_log(const config *c, sl_err *err);

/* A path for model_file_open from what a user typed: an existing path, or a name in the store. */
SL_NODISCARD sl_status app_resolve_model(const config *c, const char *name, sl_buf *ret_path,
                                         sl_err *err);

/* The same, opened. */
SL_NODISCARD sl_status app_open_model(const config *c, const char *name, model_file **ret,
                                      sl_err *err);

/* Sums of the data directory's ledger, also beside a running server; see llm_usage_ops. */
SL_NODISCARD sl_status app_usage(const config *c, const llm_usage_query *q,
                                 void (*on_row)(void *ctx, const llm_usage_row *row), void *ctx,
                                 sl_err *err);
/* jobs_run_local on the app's models; sets o->runner. */
SL_NODISCARD sl_status app_run_batch(app *a, jobs_local *o, jobs_progress *ret, sl_err *err);
/* The OpenAPI document that a server of this version answers with. */
void app_write_openapi(sl_buf *out);

#endif
