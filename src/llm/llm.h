/* llm.h - the waist of the house: one request type, one event type, one backend vtable, one stage
 * vtable. APIs translate to it, engine and gateway implement it, everything else is a stage.
 *
 * A request is built by one thread, then owned by the chain until its `done` event was delivered.
 * Events of one request are delivered in order, never two at once, on a thread of the backend;
 * a sink must not block for long and may call llm_cancel. */
#ifndef SL_LLM_LLM_H
#define SL_LLM_LLM_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "llm/accounts.h"
#include "llm/caller.h"
#include "llm/jobs.h"
#include "llm/report.h"
#include "llm/trace.h"

/* ---- request ---------------------------------------------------------------------------- */

typedef enum llm_task {
    LLM_CHAT,     /* messages, rendered by the model's chat template */
    LLM_COMPLETE, /* prompts as given */
    LLM_EMBED,    /* prompts to vectors */
    /* How well each document answers the query: prompts[0] is the query, prompts[1..] are the
     * documents, at least one; both as text. One LLM_EV_SCORE for each document, in any order, none
     * twice; a score depends on its own query and document alone. A pair that is longer than the
     * model's context is SL_ECONTEXT, or with `truncate` its document is cut at the end.
     * usage.prompt_tokens counts the tokens of all pairs. An empty `model` means the first
     * cross-encoder there is, never a model that generates; that judges only where it is named. */
    LLM_RERANK,
    LLM_TASK_COUNT
} llm_task;

/* What a text to be embedded is. Models that were trained with prefixes get the right one put
 * before the text; others take it as it is. */
typedef enum llm_embed_as {
    LLM_EMBED_PLAIN, /* as it is */
    LLM_EMBED_QUERY,
    LLM_EMBED_PASSAGE,
    LLM_EMBED_AS_COUNT
} llm_embed_as;

/* Text or token ids; owned by the request's arena. */
typedef struct llm_prompt {
    const char *text; /* NULL when ids are given */
    size_t text_len;
    const int32_t *ids;
    size_t id_count;
} llm_prompt;

typedef struct llm_logit_bias {
    int32_t token;
    float bias;
} llm_logit_bias;

/* A run of token ids, in the arena. */
typedef struct llm_token_run {
    const int32_t *ids;
    size_t count;
} llm_token_run;

/* Neutral values are those of llm_sampling_default(): penalties off, top_k 0 = all. */
typedef struct llm_sampling {
    float temperature; /* 0: greedy */
    int32_t top_k;     /* 0: all */
    float top_p, min_p, typical_p;
    float repetition_penalty, presence_penalty, frequency_penalty;
    int32_t penalty_last_n; /* tokens looked back at: -1 = whole sequence, prompt included for
                               repetition_penalty */
    uint64_t seed;
    bool has_seed; /* false: a random one is drawn */
    bool ignore_eos;
    int32_t min_tokens;
    llm_logit_bias *bias; /* in the arena */
    size_t bias_count;
    const int32_t *allowed; /* no other token is sampled; in the arena */
    size_t allowed_count;   /* 0: all are allowed */
    llm_token_run *banned;  /* what is generated never ends with one of them; made of bad_words by
                               the backend */
    size_t banned_count;
} llm_sampling;

/* Tokens of one request by what they cost; the four do not overlap. */
typedef struct llm_tokens {
    int64_t fresh, cached; /* of the prompt: computed, and taken from the prefix cache */
    int64_t output, reasoning;
} llm_tokens;

/* What a caller's limits leave it, for the headers of an answer; limit 0: there is none. */
typedef struct llm_quota_part {
    int64_t limit, remaining;
    int64_t reset_ms; /* until the window begins anew */
} llm_quota_part;

typedef struct llm_quota {
    llm_quota_part requests, tokens;
    int64_t retry_after_ms; /* of a refusal: when to try again; 0: nobody knows */
    const char *what; /* of a refusal: "requests", "tokens", "concurrency", "budget"; static */
} llm_quota;

typedef struct llm_request {
    sl_arena arena;    /* everything the request points to */
    char id[48];       /* request id, for logs and x-request-id */
    const char *model; /* as the caller named it; "": the first that can do the task */
    llm_task task;

    json_t *messages;      /* LLM_CHAT: array of OpenAI-shaped messages; owned */
    json_t *tools;         /* or NULL; owned */
    json_t *template_vars; /* extra template variables (object) or NULL; owned */
    bool no_generation_prompt;
    bool continue_final; /* LLM_CHAT: the model goes on with the last message's text: nothing is
                            rendered behind it */

    llm_prompt *prompts; /* LLM_COMPLETE, LLM_EMBED: at least one; LLM_RERANK: at least two */
    size_t prompt_count;
    llm_embed_as embed_as; /* LLM_EMBED: what all the prompts are */
    bool paired;           /* LLM_RERANK: prompts are query, document, query, document, ... */

    uint32_t n;         /* choices per prompt; choice index = prompt * n + i */
    int64_t max_tokens; /* per choice; -1: up to the context's end */
    llm_sampling sampling;
    const char **stops; /* stop strings, in the arena */
    size_t stop_count;
    int32_t *stop_ids; /* stop token ids, in the arena */
    size_t stop_id_count;
    const char **bad_words; /* words that are not written, in the arena */
    size_t bad_word_count;
    bool include_stop; /* keep the stop string in the text */
    bool echo;         /* LLM_COMPLETE: deliver the prompt's text (and logprobs) first */
    bool logprobs;
    int32_t top_logprobs; /* 0..SL_TOP_LOGPROBS_MAX */
    bool prompt_ids;      /* tell each prompt's tokens: LLM_EV_PROMPT with ids */
    bool prompt_probs;    /* tell the logprobs of each prompt's tokens: LLM_EV_PROMPT with tokens */
    int32_t prompt_top;   /* prompt_probs: alternatives, 0..SL_TOP_LOGPROBS_MAX */
    bool show_special;    /* render control tokens in the text */
    bool no_special;      /* do not add BOS and the like to text prompts */
    bool every_token;   /* a DELTA for each token as it is sampled, also while its text is held back
                           or empty */
    bool token_details; /* tokens tell what they are: control tokens are spelled, the token that
                           ended generation is delivered too, and the prompt's tokens (echo) come
                           without text */
    int64_t truncate_prompt_tokens; /* keep so many last tokens of each prompt; 0: all, -1: as many
                                       as leave room for the output */
    bool no_prefix_cache;           /* neither use nor feed the prefix cache */
    int32_t spec_tokens; /* drafted per step by prompt lookup: 0 = the server's default, -1 = none,
                            n = at most n */

    int64_t created_ns; /* monotonic */
    llm_caller *caller; /* who asks, referenced; NULL: everybody, where keys are off */
    const char *tenant; /* shares prefixes with nobody else; NULL: the caller's id. In the arena */
    int32_t priority;   /* lower goes first; 0: as usual */
    llm_trace trace;    /* that it belongs to */
    const char *route;  /* the route it came by, for the ledger; static, or "" */
    llm_quota quota;    /* set on admission or refusal */
    void *hold;         /* the limiter's, in the arena */
    void *record;       /* the ledger's, in the arena */
    struct llm_chain *chain; /* set by llm_chain_submit, for llm_admit */
    bool admitted;           /* set by llm_admit */
    atomic_bool cancelled;   /* set by llm_cancel from any thread; backends poll it each step */

    uint32_t given;             /* LLM_GIVEN_*: what the caller chose himself */
    llm_sampling dialect;       /* what the dialect assumes where the caller says nothing */
    const char *chat_template;  /* LLM_CHAT: used instead of the model's; Jinja, in the arena */
    const int32_t *context_ids; /* LLM_CHAT: tokens before the rendered messages, in the arena */
    size_t context_id_count;
    int32_t context_max;   /* prompt and output of a choice together; 0: the model's */
    bool truncate;         /* cut a prompt that does not fit instead of refusing it */
    int64_t keep_alive_ns; /* the model stays loaded so long afterwards; 0: it goes, < 0: it stays;
                              LLM_KEEP_DEFAULT */
    struct llm_docs_ask *docs; /* LLM_CHAT: answer over documents; in the arena, or NULL */
    bool load_only; /* START and DONE once the model is loaded (or, with keep_alive_ns 0, told
                       to go); nothing is computed */
} llm_request;

#define LLM_KEEP_DEFAULT INT64_MIN

/* Settings that a model's own defaults fill where the caller did not choose. A dialect whose
 * neutral values differ from llm_sampling_default() puts them into both `sampling` and `dialect`;
 * what differs from `dialect` counts as chosen, also without its flag. */
enum {
    LLM_GIVEN_TEMPERATURE = 1 << 0,
    LLM_GIVEN_TOP_K = 1 << 1,
    LLM_GIVEN_TOP_P = 1 << 2,
    LLM_GIVEN_MIN_P = 1 << 3,
    LLM_GIVEN_TYPICAL_P = 1 << 4,
    LLM_GIVEN_REPETITION = 1 << 5,
    LLM_GIVEN_PRESENCE = 1 << 6,
    LLM_GIVEN_FREQUENCY = 1 << 7,
    LLM_GIVEN_LAST_N = 1 << 8,
    LLM_GIVEN_SEED = 1 << 9,
    LLM_GIVEN_STOP = 1 << 10,
    LLM_GIVEN_MAX_TOKENS = 1 << 11,
    LLM_GIVEN_CONTEXT = 1 << 12,
};

/* A request with neutral settings and a fresh id ("req_" + 24 hex digits); NULL when out of
 * memory. Its arena may grow to arena_bytes_max. Release with llm_request_destroy, which
 * accepts NULL. */
llm_request *llm_request_create(llm_task task, size_t arena_bytes_max);
void llm_request_destroy(llm_request *req);
llm_sampling llm_sampling_default(void);
void llm_cancel(llm_request *req);
/* Whose prefixes the request may share: its tenant, or its caller's id, or "". */
const char *llm_tenant(const llm_request *req);
/* The flag of the member at an offset in llm_request, 0 when it has none: for parsers by table. */
uint32_t llm_given_at(size_t offset);

/* ---- events ------------------------------------------------------------------------------ */

typedef enum llm_finish {
    LLM_FINISH_NONE,
    LLM_FINISH_STOP,   /* end of generation, stop string or stop token */
    LLM_FINISH_LENGTH, /* max_tokens or the context's end */
    LLM_FINISH_CANCELLED,
    LLM_FINISH_COUNT
} llm_finish;

/* Logprob of one token and of the likeliest alternatives at its place (natural logarithm). */
typedef struct llm_token_prob {
    int32_t id;
    float logprob;
    const char *text; /* the token's bytes; may be half a code point */
    size_t text_len;
    bool is_special; /* a control token */
} llm_token_prob;

typedef struct llm_token {
    llm_token_prob chosen;
    const llm_token_prob *top; /* best first */
    size_t top_count;
    bool is_prompt; /* echo: no alternatives were sampled; logprob of the first is NAN */
    bool is_last;   /* LLM_EV_FINISH of its choice follows at once */
    int32_t rank; /* PROMPT: tokens at least as likely as the chosen one; 1: it is the likeliest */
} llm_token;

typedef struct llm_usage {
    int64_t prompt_tokens; /* over all prompts, each once */
    int64_t cached_tokens; /* of those, taken from the prefix cache */
    int64_t output_tokens;
    int64_t queue_ns, ttft_ns, total_ns; /* waiting, to the first token, to the end */
    int64_t load_ns; /* before all of those: until the model was loaded; 0: it was */
} llm_usage;

typedef enum llm_event_kind {
    LLM_EV_START,     /* admitted: usage.prompt_tokens is known */
    LLM_EV_PROMPT,    /* what was asked of a prompt's tokens; before the choice's first DELTA */
    LLM_EV_DELTA,     /* text (whole UTF-8 characters; may be empty) and the tokens behind it */
    LLM_EV_FINISH,    /* one choice ended */
    LLM_EV_EMBEDDING, /* one vector */
    LLM_EV_SCORE,     /* one document's score */
    LLM_EV_ERROR,     /* the request failed; LLM_EV_DONE follows */
    LLM_EV_DONE,      /* last event, exactly once */
    LLM_EV_COUNT
} llm_event_kind;

/* Everything an event points to is valid during the call only. */
typedef struct llm_event {
    llm_event_kind kind;
    uint32_t choice;
    const char *text; /* DELTA */
    size_t text_len;
    const llm_token *tokens; /* DELTA: the tokens this text came from; logprobs only if asked.
                                PROMPT: the next tokens of the prompt */
    size_t token_count;
    const int32_t *ids; /* PROMPT: all tokens of the prompt, in an event of their own */
    size_t id_count;
    llm_finish finish; /* FINISH */
    const char *stop;  /* FINISH: the stop string that matched, or NULL */
    bool by_token;     /* FINISH: stop_token ended the choice; it is in no DELTA */
    int32_t stop_token;
    const float *vector; /* EMBEDDING: [vector_len], choice = prompt index */
    size_t vector_len;
    float score;     /* SCORE: 0 to 1, higher is better; choice = index of the document, from 0 */
    float logit;     /* SCORE: the same before the sigmoid: any number */
    llm_usage usage; /* START, DONE: of the request. DELTA, FINISH: prompt_tokens and cached_tokens
                        of this choice; 0 when the backend does not tell */
    const int32_t *prompt_ids; /* START: [prompt_id_count] tokens of the first prompt, or NULL */
    size_t prompt_id_count;
    const struct llm_grounds *grounds; /* FINISH: documents behind the choice, or NULL */
    sl_err error;                      /* ERROR */
} llm_event;

typedef void (*llm_sink_fn)(void *ctx, llm_request *req, const llm_event *ev);

typedef struct llm_sink {
    llm_sink_fn fn;
    void *ctx;
} llm_sink;

/* ---- backends ------------------------------------------------------------------------------ */

typedef struct llm_model_info {
    char name[128];
    char arch[32];
    char quant[16]; /* "Q4_1", "F16", ... */
    bool can_generate, can_embed;
    bool can_rerank; /* a cross-encoder */
    bool
        can_judge; /* LLM_RERANK by a model that generates, where it is named: slower and coarser */
    int64_t context_tokens;
    int64_t embedding_dim; /* 0: cannot embed */
    int64_t created_s;     /* seconds since 1970 */
    uint64_t param_count, file_bytes;
    int32_t seqs_max; /* sequences computed at once; 0: not known */
} llm_model_info;

/* How text becomes tokens. */
enum {
    LLM_ADD_SPECIAL = 1,   /* BOS and the like, as the vocabulary says */
    LLM_PARSE_SPECIAL = 2, /* control tokens spelled in the text become their ids */
};

/* A model somewhere. All functions may be called from any thread. */
typedef struct llm_backend_ops {
    /* Takes the request, after it counted the prompt and llm_admit agreed: SL_OK means that the
     * sink will get events up to LLM_EV_DONE, after which the backend no longer touches req (the
     * sink, or whoever set it, destroys it). On failure no event was or will be sent and the caller
     * still owns req. SL_EBUSY: the queue is full. */
    sl_status (*submit)(void *ctx, llm_request *req, llm_sink sink, sl_err *err);
    void (*info)(void *ctx, llm_model_info *ret);
    /* Token ids of text into ids[cap]; *ret_count is the number there are, also past cap. flags:
     * LLM_ADD_SPECIAL, LLM_PARSE_SPECIAL. */
    sl_status (*tokenize)(void *ctx, const char *text, size_t len, unsigned flags, int32_t *ids,
                          size_t cap, size_t *ret_count, sl_err *err);
    /* Renders messages with the chat template, as LLM_CHAT would. out is the caller's. */
    sl_status (*render)(void *ctx, const llm_request *req, sl_buf *out, sl_err *err);
    /* Appends the bytes of the tokens, control tokens spelled out; they need not be UTF-8.
     * SL_EINVAL: an id outside the vocabulary. NULL: cannot. */
    sl_status (*detokenize)(void *ctx, const int32_t *ids, size_t count, sl_buf *out, sl_err *err);
    /* Token ids of the request's prompt number `prompt` as submit would compute them, messages
     * through the template; as tokenize. NULL: cannot. */
    sl_status (*tokenize_request)(void *ctx, const llm_request *req, size_t prompt, int32_t *ids,
                                  size_t cap, size_t *ret_count, sl_err *err);
    /* Appends the text of the chat template. NULL: there is none. */
    sl_status (*chat_template)(void *ctx, sl_buf *out, sl_err *err);
} llm_backend_ops;

typedef struct llm_backend {
    const llm_backend_ops *ops;
    void *ctx;
} llm_backend;

/* ---- stages and the chain ------------------------------------------------------------------ */

typedef enum llm_verdict {
    LLM_PASS,
    LLM_REFUSE, /* on_request: err says why; on_event: the event is dropped */
    LLM_VERDICT_COUNT
} llm_verdict;

/* What a request may cost, known before it is queued. */
typedef struct llm_demand {
    int64_t prompt_tokens; /* over all prompts, each once */
    int64_t output_max;    /* over all choices */
} llm_demand;

/* One link of the request chain. A stage never calls its neighbours itself. Any function may be
 * NULL. on_event and on_done run on the backend's thread. */
typedef struct llm_stage_ops {
    const char *name;
    llm_verdict (*on_request)(void *ctx, llm_request *req, sl_err *err);
    /* The backend has counted the prompt and is about to queue the request: the moment to reserve.
     * Whoever passed here gets on_done, or on_refused when a later stage or the backend said no.
     * A request that nobody admitted gets no on_done. */
    llm_verdict (*on_admit)(void *ctx, llm_request *req, const llm_demand *demand, sl_err *err);
    void (*on_refused)(void *ctx, llm_request *req, const sl_err *err);
    llm_verdict (*on_event)(void *ctx, llm_request *req, const llm_event *ev);
    void (*on_done)(void *ctx, const llm_request *req, const llm_usage *usage);
} llm_stage_ops;

typedef struct llm_stage {
    const llm_stage_ops *ops;
    void *ctx;
} llm_stage;

/* The chain: stages in order, then the backend that `route` picks by req->model. Stages are set
 * once, by app/wire.c. Routes may join while requests run, by llm_chain_add: a route never moves,
 * its name and backend never change, and it is whole before route_count counts it, so that readers
 * need no lock. A model that is gone leaves its route behind, hidden, for when its name comes back.
 */
#define LLM_STAGES_MAX 16
#define LLM_MODELS_MAX 512

typedef struct llm_route {
    char name[128]; /* what callers say in "model" */
    llm_backend backend;
    bool is_alias;        /* not listed */
    char collection[128]; /* chats with it are answered over these documents; "": over none. Set
                             before the server listens */
    atomic_bool hidden;   /* as if it were not there */
} llm_route;

typedef struct llm_chain {
    llm_stage stages[LLM_STAGES_MAX];
    size_t stage_count;
    llm_route routes[LLM_MODELS_MAX];
    atomic_size_t route_count;
} llm_chain;

/* Appends a route; one thread at a time. SL_ECONFLICT: the name is taken, also by a hidden route;
 * SL_ELIMIT. */
SL_NODISCARD sl_status llm_chain_add(llm_chain *chain, const char *name, llm_backend b,
                                     sl_err *err);
/* The route of a name or NULL, hidden ones too. "NAME:latest" and "NAME" are the same. */
llm_route *llm_chain_route(llm_chain *chain, const char *name);

/* Runs the request through the stages to its backend. Same contract as llm_backend_ops.submit;
 * SL_ENOTFOUND: no such model. An empty or NULL req->model picks the first route that can do the
 * task. */
SL_NODISCARD sl_status llm_chain_submit(llm_chain *chain, llm_request *req, llm_sink sink,
                                        sl_err *err);
/* For backends, within submit: asks all stages of the request's chain. On failure nothing is
 * reserved and submit returns the status. */
SL_NODISCARD sl_status llm_admit(llm_request *req, const llm_demand *demand, sl_err *err);
/* For backends that take a request before they can count it: it is refused after all. Tells the
 * stages that admitted it; then the sink gets LLM_EV_ERROR and LLM_EV_DONE. */
void llm_refuse(llm_request *req, llm_sink sink, const sl_err *why);
/* The backend behind a model name for a task; NULL when there is none. "NAME:latest" and "NAME" are
 * the same. */
const llm_backend *llm_chain_find(const llm_chain *chain, const char *model, llm_task task);
/* The first name of a backend of the chain, an alias's target rather than the alias; "" when it is
 * not of this chain. */
const char *llm_chain_name(const llm_chain *chain, const llm_backend *b);

/* ---- what there is, and its management ------------------------------------------------------- */
#include "llm/docs.h"
#include "llm/models.h"

#endif
