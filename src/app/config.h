/* config.h - the one configuration file.
 *
 * YAML, checked against a schema: unknown keys and wrong types are refused with their line. Values
 * are overridden by the environment (SLUICE_ and the key's path in upper case, SLUICE_KV_MEMORY for
 * kv.memory), and those by flags. Within strings ${env:NAME} and ${file:PATH} stand for what they
 * name; secrets may also be written env:NAME or file:PATH. */
#ifndef SL_APP_CONFIG_H
#define SL_APP_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app/config_auth.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/status.h"

/* A server with OpenAI's /v1/embeddings as an embedding model. */
typedef struct config_upstream {
    char *url;   /* "https://api.example.com/v1"; NULL: the model is here */
    char *key;   /* secret; NULL: none */
    char *model; /* as the upstream calls it; NULL: the same */
    int dim;     /* numbers in a vector */
    int context; /* tokens; 0: 8,192 */
} config_upstream;

typedef struct config_model_rag {
    char *collection; /* chats with the model are answered over it; NULL: over none */
} config_model_rag;

typedef struct config_model {
    char *name; /* as callers say it; NULL: the store's or the file's name */
    char *path; /* store name, file or directory; NULL: the upstream's */
    config_upstream upstream;
    char *query_prefix, *passage_prefix; /* of texts to embed; NULL: as the model says */
    config_model_rag rag;
} config_model;

typedef struct config_kv {
    char *memory; /* "512MiB", "2GiB"; NULL: chosen by the model */
    char *type;   /* "f16" (NULL) or "q8_0" */
} config_kv;

typedef struct config_engine {
    int context;       /* tokens; 0: the model's, as far as kv.memory holds */
    int sequences;     /* computed at once; 0: 64 */
    int queue;         /* requests waiting or running; 0: 512 */
    int wait_ms;       /* expected wait beyond which requests get 503; 0: by measured time */
    int deadline_ms;   /* wait after which they get it; 0: a minute */
    int step_tokens;   /* 0: 512 */
    int mixed_prefill; /* prompt tokens in a step beside decodes; 0: by measured time */
    int speculation;   /* tokens guessed by prompt lookup; 0: none unless a request asks */
} config_engine;

typedef struct config_loading {
    char *memory;     /* of all loaded models together, "8GiB"; NULL: the machine's, less some */
    char *keep_alive; /* of models loaded on demand: "5m" (NULL), "1h30m", "0", "-1": for ever */
    bool only_configured; /* serve no model of the store but those of `models` */
    char *pull;           /* names with commas or spaces between; NULL: none */
} config_loading;

typedef struct config_rag {
    char *embedding_model, *chat_model, *rerank_model;
    int chunk_tokens, overlap_tokens, top_k, answer_tokens; /* 0: the defaults */
} config_rag;

/* Limits of one model, whoever asks; 0: none. Keys, users and teams have theirs in the store. */
typedef struct config_model_limits {
    char *model;
    int64_t rpm, rpd, tpm, tpd, concurrency, request_tokens;
    double budget; /* dollars */
    int64_t budget_days;
} config_model_limits;

typedef struct config_limits {
    int64_t output_default; /* 0: 1024; reserved where a request names no maximum under a limit */
    config_model_limits *models;
    unsigned models_count;
} config_limits;

typedef struct config_price {
    char *model;                        /* a trailing * matches any rest */
    double input, cached_input, output; /* dollars per million tokens */
    char *from, *until;                 /* "2026-01-31"; NULL: open */
} config_price;

typedef struct config_usage {
    int keep_days; /* 0: 90 */
} config_usage;

typedef struct config_tls {
    char *certificate, *key; /* PEM files; both or neither */
} config_tls;

/* Rooms of the log: what stands before the dot of an event's name. */
#define CONFIG_LOG_ROOMS(X)                                                                        \
    X(access)                                                                                      \
    X(api)                                                                                         \
    X(audit)                                                                                       \
    X(batch)                                                                                       \
    X(config)                                                                                      \
    X(engine)                                                                                      \
    X(files)                                                                                       \
    X(http)                                                                                        \
    X(limits)                                                                                      \
    X(log)                                                                                         \
    X(model)                                                                                       \
    X(models)                                                                                      \
    X(ollama)                                                                                      \
    X(process)                                                                                     \
    X(rag)                                                                                         \
    X(responses)                                                                                   \
    X(server)                                                                                      \
    X(store)                                                                                       \
    X(tls)                                                                                         \
    X(token)                                                                                       \
    X(usage)
#define CONFIG_LOG_ROOM(name) char *name;
typedef struct config_log_levels {
    CONFIG_LOG_ROOMS(CONFIG_LOG_ROOM)
} config_log_levels;

typedef struct config_log {
    char *format;             /* "auto" (NULL), "json", "text" */
    char *content;            /* "none" (NULL), "hash", "full" */
    char *file;               /* NULL: standard error */
    int repeats;              /* lines of an event and level per second; 0: 100 */
    config_log_levels levels; /* NULL: log_level */
} config_log;

typedef struct config_metrics {
    char **compat; /* servers whose metrics' names are exposed too: "vllm", "tgi", "llamacpp" */
    unsigned compat_count;
} config_metrics;

/* Stored files and batches. */
typedef struct config_jobs {
    char *file_max;  /* "512MiB" (NULL); of one file */
    int concurrency; /* 0: 8; lines of batches under way at once */
} config_jobs;

typedef struct config_server {
    int io_threads, connections, drain_seconds;             /* 0: 2, 10,000, 30; of each address */
    int request_timeout, body_timeout, write_timeout, ping; /* seconds; 0: 30, 300, 60, 15 */
    char *head_bytes, *body_bytes, *queue_bytes;            /* sizes; NULL: 16KiB, 64MiB, 8MiB */
    char *cors_origin;
    char *unix_mode; /* octal; NULL: "0660" */
    config_tls tls;
    char **trusted_proxies; /* networks, or "unix" */
    unsigned trusted_proxies_count;
    char *forwarded_header; /* NULL: x-forwarded-for */
} config_server;

typedef struct config {
    char *listen;   /* as read where it is one string; then taken over into: */
    char **listens; /* default 127.0.0.1:8080 */
    unsigned listens_count;
    char *data;  /* default $XDG_DATA_HOME/sluice */
    int threads; /* 0: all processors */
    char *log_level;
    config_model *models;
    unsigned models_count;
    char **api_keys;
    unsigned api_keys_count;
    config_kv kv;
    config_engine engine;
    config_loading loading;
    config_rag rag;
    config_server server;
    config_auth auth;
    config_limits limits;
    config_price *prices;
    unsigned prices_count;
    config_usage usage;
    config_metrics metrics;
    config_log log;
    config_jobs jobs;
} config;

/* path NULL: only defaults and the environment. SL_EINVAL names line and key. */
SL_NODISCARD sl_status config_load(const char *path, config **ret, sl_err *err);
void config_destroy(config *c); /* accepts NULL */

/* The values that are set, a line each as "kv.memory: ...", secrets as ***; defaults as comments.
 */
void config_show(config *c, sl_buf *out);
/* The JSON Schema of the file. */
void config_schema(sl_buf *out);
/* Tells the keys (list entries as [], perhaps more than once) whose values differ, and whether they
 * may change while serving. */
typedef void (*config_changed_fn)(void *ctx, const char *path, bool reloads);
SL_NODISCARD sl_status config_compare(config *a, config *b, config_changed_fn fn, void *ctx,
                                      sl_err *err);

SL_NODISCARD sl_status config_log_level(const char *text, sl_log_level *ret, sl_err *err);

/* Replaces a string of the configuration. */
SL_NODISCARD sl_status config_set(char **field, const char *value, sl_err *err);
SL_NODISCARD sl_status config_add_model(config *c, const char *path, sl_err *err);
/* Replaces the listen addresses. */
SL_NODISCARD sl_status config_set_listens(config *c, const char *const *texts, size_t count,
                                          sl_err *err);
/* Forgets the models, for flags that replace the file's list. */
void config_clear_models(config *c);
SL_NODISCARD sl_status config_add_key(config *c, const char *key, sl_err *err);

/* "64MiB", "2g", "1073741824" to bytes. */
SL_NODISCARD sl_status config_bytes(const char *text, uint64_t *ret, sl_err *err);
/* "90s", "15m", "12h", "30d" or seconds, to seconds. */
SL_NODISCARD sl_status config_duration(const char *text, int64_t *ret, sl_err *err);
/* The secret behind "env:NAME", "file:PATH" or the text itself; the caller's. */
SL_NODISCARD sl_status config_secret(const char *text, char **ret, sl_err *err);

#endif
