/* engine_int.h - what the files of the engine's running half share: jobs, sequences, the engine. */
#ifndef SL_ENGINE_ENGINE_INT_H
#define SL_ENGINE_ENGINE_INT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "engine/aside.h"
#include "engine/knee.h"
#include "engine/load.h"
#include "engine/mean.h"
#include "engine/engine.h"
#include "engine/templates.h"

/* A token of a choice whose text has not been delivered yet. */
typedef struct pending_token {
    llm_token token;
    llm_token_prob top[SL_TOP_LOGPROBS_MAX];
} pending_token;

typedef struct job job;

#define JUDGE_WORDS 4 /* spellings of yes, and of no */

/* One choice being generated, or one text being embedded. */
typedef struct seq {
    job *job;
    uint32_t choice;
    int32_t *tokens; /* [cap] prompt, then output */
    int prompt_count, count, cap;
    int cached; /* prompt tokens that the prefix cache had */
    kv_seq kv;
    uint64_t *block_hashes; /* [prompt_count / 16] of the prompt up to each block's end */
    int tenant;             /* index; set when the engine takes the job */
    bool begun;             /* has held blocks before */
    bool brief;             /* so was the prompt judged when it began */
    bool promoted;          /* waited long behind higher priorities: goes first */
    uint64_t rng;
    bool done;
    int draft_size, draft_pause, draft_wrong; /* guessing: see views.c */
    int echoed;                               /* prompt tokens delivered */
    bool needs_echo;  /* the prompt's text or logprobs are still to be delivered */
    bool tells_ids;   /* the prompt's ids are still to be delivered */
    bool tells_probs; /* the prompt's logprobs are wanted of this choice */
    bool ending;      /* the token being delivered is the last: it waits for emit_finish */
    bool sampled;     /* the last token is output and not in the cache */
    const token_vocab *vocab;
    token_decoder decoder;
    sl_buf text;            /* decoded, not delivered: may be the start of a stop string */
    pending_token *pending; /* tokens behind `text` */
    size_t pending_count, pending_cap;
    float *vector; /* embeddings: [dim]; scores of encoders: [1]; or NULL */
    int second;    /* of a pair: where its document begins; else count */
} seq;

/* One request in the engine. */
struct job {
    llm_request *req;
    llm_sink sink;
    seq *seqs;
    int seq_count, done_count;
    bool started;
    bool failed;
    int64_t submitted_ns, started_ns, first_ns;
    llm_usage usage;
    job *next;
};

/* Who asks, and how much was computed for him. */
typedef struct tenant {
    char name[64];
    double served;
    int live; /* his sequences */
} tenant;

struct engine {
    char name[128];
    engine_options o;
    model_file *file;
    token_vocab *vocab;
    token_template *chat;
    template_cache *templates;        /* of callers */
    char *prefix[LLM_EMBED_AS_COUNT]; /* of texts to embed; NULL: none */
    char *bos, *eos;                  /* spellings, for templates */
    team *team;
    kernels k;
    weights *w;
    decoder *dec; /* one of the two */
    encoder *enc;
    kv_pool *pool;
    kernels_kv kv_type;
    int local_max; /* blocks of layers with a window */
    sampler sampler;
    int32_t yes[JUDGE_WORDS], no[JUDGE_WORDS]; /* tokens; -1: none */
    float *raw_logits; /* [vocab] what the model said, before the sampler changed it */
    sched_limits limits;
    int64_t created_s;

    pthread_t thread;
    bool thread_started;
    pthread_mutex_t lock; /* guards the inbox */
    pthread_cond_t wake;
    job *inbox_first, *inbox_last;
    bool stop;
    load_meter load; /* jobs in the inbox or running */

    int64_t step_ns;         /* of the last step */
    int lend_steps;          /* steps since time was lent to engines aside */
    engine *owner;           /* of an engine aside: the one that it is beside */
    _Atomic(engine *) aside; /* encoders: where low priorities go; NULL until there were any */
    atomic_bool is_busy;     /* it has what is not background */
    atomic_bool stopping;    /* as stop, for aside_wait */

    /* owned by the engine thread */
    seq **live; /* [live_count], in order of arrival */
    size_t live_count, live_cap;
    sched_seq *views;
    decoder_run *runs;
    encoder_text *texts;
    seq **order; /* as live: scratch of order_live */
    sched_wait *waits;
    size_t views_cap;
    tenant *tenants;
    int tenant_count, tenant_cap;
    double served_last;           /* of the tenant whose last sequence ended last */
    double *served;               /* [SL_TENANTS_MAX] scratch */
    int64_t promoted_ns;          /* when somebody who waited long was let in last */
    double decode_ns, prefill_ns; /* a step of decodes; what a prompt token adds; 0: not known */
    knee knee;                    /* of requests at once, for the load meter */
    int brief_tokens;             /* a prompt of so many is brief */
    bool only_background;         /* of the live sequences, so that steps are short */
    atomic_bool has_arrivals;     /* the inbox has what is not background */

    /* statistics, written by the engine thread */
    atomic_int running, waiting, kv_used;
    atomic_llong preemptions, steps, prompt_tokens, output_tokens;
    atomic_llong prefix_hits, prefix_queries, draft_tokens, draft_accepted;
};

/* Whether logits of all its prompt's tokens are wanted, not only of the last. */
static inline bool seq_wants_rows(const seq *s)
{
    return s->needs_echo && ((s->job->req->echo && s->job->req->logprobs) || s->tells_probs);
}

/* Its result is read of its text's last token; nothing is generated. */
static inline bool seq_has_result(const seq *s)
{
    return s->job->req->task == LLM_EMBED || s->job->req->task == LLM_RERANK;
}

/* Work that rests while there is other. */
static inline bool is_background(const llm_request *req)
{
    return req->priority >= LLM_PRIORITY_IDLE;
}

/* Who asks. */
static inline const char *caller_id(const llm_request *req)
{
    return req->caller ? req->caller->id : "";
}

/* The same for the load meter. */
static inline unsigned load_caller_of(const llm_request *req)
{
    return load_caller(caller_id(req));
}

static inline bool seq_is_background(const seq *s)
{
    return is_background(s->job->req);
}

/* render.c */
SL_NODISCARD sl_status engine_load_template(engine *e, sl_err *err);

/* submit.c: from a request to a job. On failure nothing is kept. */
/* Appends the ids of a request's prompt, templated and truncated; the caller releases out. */
SL_NODISCARD sl_status job_prompt_ids(const engine *e, const llm_request *req, size_t prompt,
                                      token_ids *out, sl_err *err);
int64_t job_output_max(const job *j); /* tokens it may generate, over all choices */
SL_NODISCARD sl_status job_create(engine *e, llm_request *req, llm_sink sink, job **ret,
                                  sl_err *err);
void job_destroy(engine *e, job *j);

/* prefixes.c. name: what the model's file calls it, or "". */
SL_NODISCARD sl_status prefixes_init(engine *e, const engine_options *o, const char *path,
                                     const char *name, sl_err *err);
/* The ids of a prompt that is text, behind the prefix that the request asks for. */
SL_NODISCARD sl_status prefix_encode(const engine *e, const llm_request *req, const llm_prompt *p,
                                     unsigned flags, token_ids *out, sl_err *err);

/* pairs.c: the ids of the pair of a query and document number `at` (from 0) of a request that
 * scores, and where the second text begins. */
SL_NODISCARD sl_status pair_ids(const engine *e, const llm_request *req, size_t at, token_ids *out,
                                int *ret_second, sl_err *err);
/* judge.c: the same for a model that generates, which is asked whether the document answers the
 * query. */
SL_NODISCARD sl_status judge_ids(const engine *e, const llm_request *req, size_t at, token_ids *out,
                                 sl_err *err);
/* Finds the tokens that say yes and no; a model that has none judges nothing. */
void judge_init(engine *e);
/* The odds of yes against no, as a logarithm, from the logits [vocab] behind the question. */
float judge_logit(const engine *e, const float *logits);
/* The tokens of messages through the chat template, as of a chat request. */
SL_NODISCARD sl_status chat_ids(const engine *e, const llm_request *req, token_ids *out,
                                sl_err *err);

/* emit.c: from tokens to events. */
void emit_start(job *j);
void emit_error(job *j, sl_status status, const char *text);
/* Delivers LLM_EV_DONE; the request may be gone afterwards. */
void emit_done(job *j);
/* LLM_EV_EMBEDDING of s->vector [width]; LLM_EV_SCORE. */
void emit_vector(seq *s, size_t width);
void emit_score(seq *s, float logit);
/* Adds a token to the choice and delivers what is now certain. True when a stop string ended it. */
bool emit_token(seq *s, int32_t id, float logprob, const llm_token_prob *top, size_t top_count,
                bool is_prompt);
/* The token that ended generation: it goes out with emit_finish, without text. */
void emit_end_token(seq *s, int32_t id, float logprob, const llm_token_prob *top, size_t top_count);
/* LLM_EV_PROMPT: the prompt's ids; one of its tokens with its logprob and rank. */
void emit_prompt_ids(seq *s);
void emit_prompt_token(seq *s, int32_t id, float logprob, int32_t rank, const llm_token_prob *top,
                       size_t top_count);
/* Delivers the rest of the text and LLM_EV_FINISH. stop_token: the one that ended it, or -1. */
void emit_finish(seq *s, llm_finish finish, const char *stop, int32_t stop_token);

/* views.c: the scheduler's view of the live sequences; orders them. */
void order_live(engine *e); /* the live sequences in the order of their turns */
void fill_views(engine *e);
/* Tells the guesser how many of its guesses were right. */
void guess_result(seq *s, int guessed, int right);
/* The tenant of a name; one live sequence more, or less. */
int tenant_enter(engine *e, const char *name);
void tenant_leave(engine *e, int at);
void tenant_charge(engine *e, int at, int prompt_tokens, int output_tokens);

/* engine.c: the engine thread. */
void *engine_main(void *arg);

/* generate.c, embed.c: one round over the live sequences. */
void generate_round(engine *e);
void embed_round(engine *e);
/* The first of a job's sequences is computed from now on. */
void job_start(engine *e, job *j);
/* overdue.c: refuses the jobs that waited for their turn for longer than
 * engine_options.deadline_ms. */
void drop_overdue(engine *e);
/* Takes a sequence out of the live list; ends its job with the last one. */
void seq_end(engine *e, size_t live_idx);

#endif
