/* config_keys.c - every key of the configuration in words. The schema of config.c has the types; a
 * test holds the two against each other. */
#include "app/config_tree.h"

#include <string.h>

#define KEY(path, shown_default, help)                                                             \
    {                                                                                              \
        path, help, shown_default, false, false                                                    \
    }
#define RELOADS(path, shown_default, help)                                                         \
    {                                                                                              \
        path, help, shown_default, false, true                                                     \
    }
#define SECRET(path, help)                                                                         \
    {                                                                                              \
        path, help, NULL, true, false                                                              \
    }

#define LOG_ROOM(name) RELOADS("log.levels." #name, NULL, "level of the events that begin so"),

static const config_key keys[] = {
    KEY("listen", "127.0.0.1:8080",
        "where to listen, one address or a list: HOST:PORT, https://HOST:PORT, unix:/PATH; beyond "
        "this machine, keys are required; port 0 picks one"),
    KEY("data", "$XDG_DATA_HOME/sluice", "models, documents, keys, files, usage"),
    KEY("threads", "0", "compute threads; 0: all processors"),
    RELOADS("log_level", "info", "debug, info, warn or error"),
    KEY("models[].name", NULL, "as callers say it; default: the store's or the file's name"),
    KEY("models[].path", NULL, "a name in the store, a file, or a directory"),
    KEY("models[].upstream.url", NULL,
        "instead of path: a server with OpenAI's embeddings, \"https://api.example.com/v1\""),
    SECRET("models[].upstream.key", "its key; env:NAME or file:PATH hide it"),
    KEY("models[].upstream.model", NULL, "as it calls the model; default: the name here"),
    KEY("models[].upstream.dim", NULL, "how many numbers its vectors have; needed"),
    KEY("models[].upstream.context", "8192", "tokens that it reads of a text"),
    KEY("models[].query_prefix", NULL,
        "what an embedding model gets before a query; default: as its files or its name say"),
    KEY("models[].passage_prefix", NULL, "the same before a passage"),
    KEY("models[].rag.collection", NULL, "chats by this name are answered over these documents"),
    SECRET("api_keys[]", "keys that may do everything; env:NAME or file:PATH hide them"),
    KEY("kv.memory", "1GiB", "KV cache of each chat model"),
    KEY("kv.type", "auto",
        "auto (bf16 where the processor multiplies it and the model's products are rounded, else "
        "f16), f16, bf16, or q8_0: half the memory"),
    KEY("engine.context", "8192", "tokens in a sequence; at most the model's"),
    KEY("engine.sequences", "64", "computed at once"),
    KEY("engine.queue", "512", "requests waiting or running; more get 503 and Retry-After"),
    KEY("engine.wait_ms", "0",
        "expected wait beyond which requests get 503 once all sequences are busy; 0: half the time "
        "that a request takes, at least 500"),
    KEY("engine.deadline_ms", "60000",
        "a request that waited so long for its turn gets 503; as a rule a minute, or "
        "engine.wait_ms "
        "where that is longer"),
    KEY("engine.step_tokens", "512", "tokens computed in one step"),
    KEY("engine.mixed_prefill", "0",
        "prompt tokens in a step beside running streams; 0: by measured time"),
    KEY("engine.speculation", "0",
        "tokens guessed by prompt lookup (1 to 15); 0: only when a request asks"),
    KEY("loading.memory", "nine tenths of the machine's, less 512 MiB",
        "of all loaded models together"),
    KEY("loading.keep_alive", "5m",
        "how long models stay that were loaded on demand; 0: not at all, -1: for ever"),
    KEY("loading.only_configured", "false", "serve no model of the store but those of `models`"),
    KEY("loading.pull", NULL,
        "models fetched at the start where the store lacks them, as smollm2,minilm; one that "
        "cannot "
        "be fetched is logged"),
    KEY("rag.embedding_model", "minilm", NULL),
    KEY("rag.chat_model", "smollm2", NULL),
    KEY("rag.rerank_model", "", "cross-encoder that orders what was found; none without it"),
    KEY("rag.chunk_tokens", "180", NULL),
    KEY("rag.overlap_tokens", "30", NULL),
    KEY("rag.top_k", "4", "passages shown to the model"),
    KEY("rag.answer_tokens", "256", NULL),
    KEY("server.io_threads", "2", NULL),
    KEY("server.connections", "10000",
        "at most, of each address; fewer where open files are scarce"),
    KEY("server.drain_seconds", "30", "how long SIGTERM waits for running answers"),
    KEY("server.request_timeout", "30", "seconds for a request's head, and idle between requests"),
    KEY("server.body_timeout", "300", "seconds for a request's body"),
    KEY("server.write_timeout", "60", "seconds until a client that reads nothing is dropped"),
    KEY("server.ping", "15", "seconds of silence after which a stream gets a comment line"),
    KEY("server.head_bytes", "16KiB", "of a request; each connection may keep so much memory"),
    KEY("server.body_bytes", "64MiB", "of a request; larger ones get 413"),
    KEY("server.queue_bytes", "8MiB", "unsent bytes of a stream before its client is dropped"),
    KEY("server.cors_origin", NULL,
        "\"*\", or origins with commas between, which may send credentials; default: no CORS "
        "headers"),
    KEY("server.unix_mode", "0660", "mode of Unix sockets, octal"),
    KEY("server.tls.certificate", NULL,
        "PEM file of certificate and chain for https:// addresses; read again when it changes"),
    KEY("server.tls.key", NULL, "PEM file of its key"),
    KEY("server.trusted_proxies[]", NULL,
        "networks of proxies whose word counts for the client's address, as 10.0.0.0/8; or unix"),
    KEY("server.forwarded_header", "x-forwarded-for",
        "the header those proxies write: x-forwarded-for or forwarded"),
    SECRET("auth.secret", "what keys are hashed with, 32 characters or more; default: the file "
                          "access.secret in the data directory, made if missing"),
    KEY("auth.session.access_ttl", "15m", "life of an access token from a login"),
    KEY("auth.session.refresh_ttl", "30d", "life of a session"),
    KEY("auth.lockout.failures", "5", "wrong passwords for one name before it has to wait"),
    KEY("auth.lockout.address_failures", "20", "the same from one address"),
    KEY("auth.lockout.base", "1s", "the first wait; each further failure doubles it"),
    KEY("auth.lockout.max", "15m", "the longest"),
    KEY("auth.jwt[].issuer", NULL, "whose tokens are believed: `iss`, to the letter"),
    KEY("auth.jwt[].audience", NULL, "must be in `aud`"),
    KEY("auth.jwt[].algorithms[]", "RS256",
        "HS, RS, PS, ES 256/384/512, EdDSA; HS needs a secret, all others a key set"),
    KEY("auth.jwt[].jwks_url", NULL, "where the key set is; https, or http to this machine"),
    KEY("auth.jwt[].jwks_file", NULL, "a file with the key set instead"),
    SECRET("auth.jwt[].secret", "for HS; as long as the digest or longer"),
    KEY("auth.jwt[].leeway", "30", "seconds that clocks may differ; -1: none"),
    KEY("auth.jwt[].refresh", "3600", "seconds after which the key set is read again"),
    KEY("auth.jwt[].refresh_floor", "30", "shortest time between two tries, in seconds"),
    KEY("auth.jwt[].role", NULL,
        "of tokens that give none; default: member, or none if a claim is named for roles"),
    KEY("auth.jwt[].claims.name", NULL, "which claim says it; a.b goes into objects"),
    KEY("auth.jwt[].claims.role", NULL, NULL),
    KEY("auth.jwt[].claims.team", NULL, NULL),
    KEY("auth.jwt[].claims.scopes", NULL, "narrow the role"),
    KEY("auth.jwt[].claims.models", NULL, NULL),
    KEY("auth.jwt[].claims.rpm", NULL, NULL),
    KEY("auth.jwt[].claims.rpd", NULL, NULL),
    KEY("auth.jwt[].claims.tpm", NULL, NULL),
    KEY("auth.jwt[].claims.tpd", NULL, NULL),
    KEY("auth.jwt[].claims.concurrency", NULL, NULL),
    KEY("auth.jwt[].claims.request_tokens", NULL, NULL),
    KEY("auth.jwt[].claims.budget_usd", NULL, NULL),
    KEY("auth.jwt[].roles[].value", NULL, "a value of the role claim"),
    KEY("auth.jwt[].roles[].role", NULL, "the role that it means here"),
    RELOADS("limits.output_default", "1024",
            "output reserved for a request that names no maximum while a limit on tokens or money "
            "applies; it then is its maximum"),
    RELOADS("limits.models[].model", NULL, "limits of a model, whoever asks"),
    RELOADS("limits.models[].rpm", "0", "requests per minute; 0: no limit"),
    RELOADS("limits.models[].rpd", "0", "requests per day"),
    RELOADS("limits.models[].tpm", "0", "tokens per minute, prompt and output"),
    RELOADS("limits.models[].tpd", "0", "tokens per day"),
    RELOADS("limits.models[].concurrency", "0", "requests at once"),
    RELOADS("limits.models[].request_tokens", "0", "prompt and allowed output of one request"),
    RELOADS("limits.models[].budget", "0", "dollars"),
    RELOADS("limits.models[].budget_days", "0", "window of the budget; 0: for ever"),
    RELOADS("prices[].model", NULL, "a trailing * matches any rest; the first that fits counts"),
    RELOADS("prices[].input", "0", "dollars per million prompt tokens"),
    RELOADS("prices[].cached_input", "0", "the same, of tokens from the prefix cache"),
    RELOADS("prices[].output", "0", "dollars per million generated tokens"),
    RELOADS("prices[].from", NULL, "first day of validity, 2026-01-31, UTC"),
    RELOADS("prices[].until", NULL, "first day on which it no longer is"),
    KEY("usage.keep_days", "90", "records older than that become sums per day"),
    KEY("jobs.file_max", "512MiB", "a stored file is at most so large"),
    KEY("jobs.concurrency", "8", "lines of batches under way while nobody else asks"),
    KEY("log.format", "auto", "auto (text on a terminal, else json), json or text"),
    KEY("log.content", "none",
        "prompts and answers in the line of a request: none, hash (SHA-256 and length) or full"),
    KEY("log.file", NULL, "appended to, opened anew on SIGUSR1; default: standard error"),
    KEY("log.repeats", "100", "lines of one event and level in a second; more are counted"),
    KEY("metrics.compat[]", NULL,
        "servers whose metrics' names /metrics has too: vllm, tgi, llamacpp"),
    CONFIG_LOG_ROOMS(LOG_ROOM)
};

int config_key_count(void)
{
    return (int)SL_COUNT_OF(keys);
}

const config_key *config_key_find(const char *path)
{
    for (size_t i = 0; i < SL_COUNT_OF(keys); i++)
        if (strcmp(keys[i].path, path) == 0)
            return &keys[i];
    return NULL;
}
