/* models_int.h - what the files of the model manager share. */
#ifndef SL_APP_MODELS_INT_H
#define SL_APP_MODELS_INT_H

#include <pthread.h>

#include "app/defaults.h"
#include "app/models.h"
#include "engine/engine.h"

#define KEEP_FOREVER INT64_MAX

/* The life of a model's engine. Requests go to it in READY only; else they wait. */
typedef enum managed_state {
    MANAGED_COLD,    /* no engine */
    MANAGED_QUEUED,  /* to be loaded */
    MANAGED_LOADING, /* the loader is at it */
    MANAGED_READY,
    MANAGED_DRAINING, /* ready, but goes as soon as its users are done: another needs the room */
    MANAGED_LEAVING,  /* to be closed; no users */
} managed_state;

/* A request that waits for its engine. In the request's arena. */
typedef struct waiter {
    llm_request *req;
    llm_sink sink;
    int64_t since_ns;
    struct waiter *next;
} waiter;

typedef struct waiter_list {
    waiter *first, *last;
    int count;
} waiter_list;

typedef struct managed managed;

struct managed {
    models *m;
    char name[128];
    bool configured; /* named by the configuration: stays while it is told nothing else */
    bool from_store;

    /* Under m->lock: */
    bool gone;  /* removed from the store */
    bool stale; /* its files changed: the engine is of the old ones */
    char *path;
    json_t *manifest; /* of the store, or NULL */
    char digest[MODEL_SHA256_HEX];
    int64_t modified_ns;
    llm_model_info info;
    uint64_t need_bytes;
    model_defaults *defaults; /* a reference */
    managed_state state;
    engine *e;    /* from READY to LEAVING */
    engine *text; /* vocabulary and template only, for a model that is not loaded */
    int users;    /* requests and calls in e */
    waiter_list waiting;
    uint64_t used_bytes;
    int64_t keep_ns;    /* how long it stays after its last use: as the last request said, or */
    int64_t keep_first; /* this, which it is again once it was unloaded */
    int64_t expires_ns; /* READY without users: monotonic */
    int64_t used_ns;    /* last use */
    llm_route *route;
    models_stats past; /* of its closed engines */
    managed *shown;    /* by whose name its engine was asked for last */
};

struct models {
    const config *c;
    llm_chain *chain;
    model_store *store;
    uint64_t budget_bytes;
    int64_t keep_default_ns;
    int queue_max;

    pthread_mutex_t lock;
    pthread_cond_t to_loader, to_keeper;
    managed *list[LLM_MODELS_MAX]; /* [count], appended only */
    size_t count;
    managed *load_queue[LLM_MODELS_MAX]; /* [load_count], first come, first loaded */
    size_t load_count;
    uint64_t used_bytes; /* of engines that are there or being loaded */
    waiter_list quick;   /* load_only requests that can be answered */
    engine **retired;    /* text engines of files that are no more: somebody may still ask them */
    size_t retired_count, retired_cap;
    bool stop, watching;
    int64_t stamp; /* of the store when it was last read */

    pthread_mutex_t text_lock; /* one text engine is opened at a time; before m->lock */
    pthread_mutex_t scan_lock; /* one reader of the store; before m->lock */
    pthread_mutex_t work_lock; /* one pull or creation */
    pthread_t loader, keeper;
    bool loader_runs, keeper_runs;
};

/* models.c */
/* What the configuration says; name is borrowed. */
SL_NODISCARD sl_status models_options(const models *m, const char *name, engine_options *ret,
                                      sl_err *err);
/* Adds what an engine did. */
void models_add_stats(models_stats *to, const engine *e);
/* Reads the store; new models join, changed ones change, others go. */
SL_NODISCARD sl_status models_scan(models *m, sl_err *err);
/* By name, tag or none; also one that is gone. NULL. Without m->lock. */
managed *models_find(models *m, const char *name);

/* models_backend.c */
extern const llm_backend_ops managed_ops;
/* Models of the same files share an engine: that of the first of them. With m->lock. */
managed *managed_owner(managed *s);
void waiters_push(waiter_list *l, waiter *w);
waiter *waiters_pop(waiter_list *l);
/* Hands a waiting request to the engine; s has one user more for it, which is given back on
 * failure. Without m->lock. */
void managed_forward(managed *s, engine *e, waiter *w);
/* One user less; starts the keep-alive with the last. Without m->lock. */
void managed_release(managed *s);
/* Fails a waiting request. Without m->lock. */
void waiter_fail(waiter *w, const sl_err *why);

/* models_load.c; all with m->lock. */
void managed_want(managed *s);  /* queues the load of a cold model */
void managed_leave(managed *s); /* READY or DRAINING without users: to be closed */
void managed_idle(managed *s);  /* the last user went */
void *models_loader(void *models);
void *models_keeper(void *models);
/* Opens the engine now, on this thread, whatever the budget says. Without m->lock. */
SL_NODISCARD sl_status managed_load_now(managed *s, sl_err *err);

#endif
